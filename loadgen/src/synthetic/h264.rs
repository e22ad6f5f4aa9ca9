//! A tiny H.264 encoder: grey pictures, constrained baseline, one slice each.
//!
//! A keyframe predicts every macroblock from nothing (which is mid-grey) without residual; all
//! other pictures skip every macroblock. The size that a bitrate asks for is filler data. Source:
//! ITU-T H.264, sections 7.3 and 7.4.

use super::bits::BitWriter;

/// Width of the pictures, in macroblocks of 16.
const WIDTH_MACROBLOCKS: u32 = 20;
/// Height of the pictures, in macroblocks.
const HEIGHT_MACROBLOCKS: u32 = 15;
/// Pictures until `frame_num` begins anew.
pub(crate) const FRAME_NUMBERS: u32 = 256;
/// Bits of `frame_num`.
const FRAME_NUMBER_BITS: u32 = 8;

const NAL_SLICE: u8 = 0x41;
const NAL_IDR: u8 = 0x65;
const NAL_SEI: u8 = 0x06;
const NAL_SPS: u8 = 0x67;
const NAL_PPS: u8 = 0x68;
const NAL_FILLER: u8 = 0x0C;

const SEI_USER_DATA_UNREGISTERED: u8 = 5;
/// Names our user data among that of others (a random UUID).
const UUID: [u8; 16] = [
    0x8d, 0x3f, 0xc9, 0x52, 0x6e, 0x11, 0x4b, 0xd0, 0xa7, 0x94, 0x2e, 0xf5, 0x71, 0xc8, 0x9b, 0x36,
];

/// Width in pixels.
pub(crate) const WIDTH: u32 = WIDTH_MACROBLOCKS * 16;
/// Height in pixels.
pub(crate) const HEIGHT: u32 = HEIGHT_MACROBLOCKS * 16;
/// Where the SEI's user data begins in an access unit, after NAL length, NAL type, payload type,
/// payload size and UUID.
pub(crate) const USER_DATA_OFFSET: usize = 4 + 1 + 1 + 1 + UUID.len();

/// The AVCDecoderConfigurationRecord (ISO 14496-15, 5.2.4.1).
pub(crate) fn decoder_configuration() -> Vec<u8> {
    let (sps, pps) = (sps(), pps());
    let mut record = vec![1, sps[1], sps[2], sps[3], 0xFF, 0xE1];
    for (index, set) in [sps, pps].iter().enumerate() {
        if index == 1 {
            record.push(1);
        }
        record.extend_from_slice(&(set.len() as u16).to_be_bytes());
        record.extend_from_slice(set);
    }
    record
}

/// One access unit with NAL lengths of four bytes: user data, picture, and filler up to
/// `size_bytes` (larger if the picture needs it). `idr` is Some for a keyframe, with its
/// `idr_pic_id`; `frame_number` is 0 then.
pub(crate) fn access_unit(
    idr: Option<u32>,
    frame_number: u32,
    user_data: &[u8],
    size_bytes: usize,
) -> Vec<u8> {
    let mut unit = Vec::with_capacity(size_bytes);
    push_nal(&user_data_sei(user_data), &mut unit);
    push_nal(&slice(idr, frame_number), &mut unit);
    // Four bytes of length, one of type and one of stop bit.
    if let Some(filler) = size_bytes.checked_sub(unit.len() + 6) {
        let mut nal = vec![0xFF; filler + 2];
        nal[0] = NAL_FILLER;
        nal[filler + 1] = 0x80;
        push_nal(&nal, &mut unit);
    }
    unit
}

fn push_nal(nal: &[u8], unit: &mut Vec<u8>) {
    unit.extend_from_slice(&(nal.len() as u32).to_be_bytes());
    unit.extend_from_slice(nal);
}

/// `data` must have no two zero bytes in a row, so that it is not escaped.
fn user_data_sei(data: &[u8]) -> Vec<u8> {
    let size = UUID.len() + data.len();
    debug_assert!(size < 255);
    let mut nal = vec![NAL_SEI, SEI_USER_DATA_UNREGISTERED, size as u8];
    nal.extend_from_slice(&UUID);
    nal.extend_from_slice(data);
    nal.push(0x80);
    nal
}

fn sps() -> Vec<u8> {
    let mut bits = BitWriter::new();
    bits.bits(66, 8); // profile_idc: baseline
    bits.bits(0b1100_0000, 8); // constraint_set0 and 1: constrained baseline
    bits.bits(31, 8); // level 3.1
    bits.exp_golomb(0); // seq_parameter_set_id
    bits.exp_golomb(FRAME_NUMBER_BITS - 4); // log2_max_frame_num_minus4
    bits.exp_golomb(2); // pic_order_cnt_type: output order is decoding order
    bits.exp_golomb(1); // max_num_ref_frames
    bits.bits(0, 1); // gaps_in_frame_num_value_allowed_flag
    bits.exp_golomb(WIDTH_MACROBLOCKS - 1);
    bits.exp_golomb(HEIGHT_MACROBLOCKS - 1);
    bits.bits(1, 1); // frame_mbs_only_flag
    bits.bits(1, 1); // direct_8x8_inference_flag
    bits.bits(0, 1); // frame_cropping_flag
    bits.bits(0, 1); // vui_parameters_present_flag
    bits.stop_bit();
    nal(NAL_SPS, &bits.into_bytes())
}

fn pps() -> Vec<u8> {
    let mut bits = BitWriter::new();
    bits.exp_golomb(0); // pic_parameter_set_id
    bits.exp_golomb(0); // seq_parameter_set_id
    bits.bits(0, 1); // entropy_coding_mode_flag: CAVLC
    bits.bits(0, 1); // bottom_field_pic_order_in_frame_present_flag
    bits.exp_golomb(0); // num_slice_groups_minus1
    bits.exp_golomb(0); // num_ref_idx_l0_default_active_minus1
    bits.exp_golomb(0); // num_ref_idx_l1_default_active_minus1
    bits.bits(0, 1); // weighted_pred_flag
    bits.bits(0, 2); // weighted_bipred_idc
    bits.exp_golomb(0); // pic_init_qp_minus26
    bits.exp_golomb(0); // pic_init_qs_minus26
    bits.exp_golomb(0); // chroma_qp_index_offset
    bits.bits(1, 1); // deblocking_filter_control_present_flag
    bits.bits(0, 1); // constrained_intra_pred_flag
    bits.bits(0, 1); // redundant_pic_cnt_present_flag
    bits.stop_bit();
    nal(NAL_PPS, &bits.into_bytes())
}

fn slice(idr: Option<u32>, frame_number: u32) -> Vec<u8> {
    let mut bits = BitWriter::new();
    bits.exp_golomb(0); // first_mb_in_slice
    bits.exp_golomb(if idr.is_some() { 7 } else { 5 }); // slice_type: I or P only
    bits.exp_golomb(0); // pic_parameter_set_id
    bits.bits(frame_number % FRAME_NUMBERS, FRAME_NUMBER_BITS);
    if let Some(idr_pic_id) = idr {
        bits.exp_golomb(idr_pic_id);
        bits.bits(0, 1); // no_output_of_prior_pics_flag
        bits.bits(0, 1); // long_term_reference_flag
    } else {
        bits.bits(0, 1); // num_ref_idx_active_override_flag
        bits.bits(0, 1); // ref_pic_list_modification_flag_l0
        bits.bits(0, 1); // adaptive_ref_pic_marking_mode_flag
    }
    bits.exp_golomb(0); // slice_qp_delta
    bits.exp_golomb(1); // disable_deblocking_filter_idc
    let macroblocks = WIDTH_MACROBLOCKS * HEIGHT_MACROBLOCKS;
    if idr.is_some() {
        for _ in 0..macroblocks {
            bits.exp_golomb(3); // mb_type I_16x16_2_0_0: DC prediction, no AC coefficients
            bits.exp_golomb(0); // intra_chroma_pred_mode: DC
            bits.exp_golomb(0); // mb_qp_delta
            bits.bits(1, 1); // coeff_token: no DC coefficients
        }
    } else {
        bits.exp_golomb(macroblocks); // mb_skip_run
    }
    bits.stop_bit();
    nal(if idr.is_some() { NAL_IDR } else { NAL_SLICE }, &bits.into_bytes())
}

/// A NAL unit with emulation prevention (section 7.4.1.1).
fn nal(header: u8, payload: &[u8]) -> Vec<u8> {
    let mut nal = vec![header];
    let mut zeros = 0;
    for &byte in payload {
        if zeros >= 2 && byte <= 3 {
            nal.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        nal.push(byte);
    }
    nal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_number_gives_the_size_asked_for() {
        for number in 0..FRAME_NUMBERS {
            assert_eq!(access_unit(None, number, &[0x80; 37], 4_000).len(), 4_000);
        }
        assert_eq!(access_unit(Some(1), 0, &[0x80; 37], 24_000).len(), 24_000);
    }

    #[test]
    fn user_data_stands_where_it_is_looked_for() {
        let unit = access_unit(Some(0), 0, &[0xAB; 37], 0);
        assert_eq!(unit[USER_DATA_OFFSET..USER_DATA_OFFSET + 37], [0xAB; 37]);
        assert_ne!(unit[USER_DATA_OFFSET - 1], 0xAB);
        assert_ne!(unit[USER_DATA_OFFSET + 37], 0xAB);
    }
}
