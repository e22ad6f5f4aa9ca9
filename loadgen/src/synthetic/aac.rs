//! A tiny AAC encoder: stereo silence, 48 kHz, any size. Source: ISO 14496-3, section 4.4.2.

use super::bits::BitWriter;

/// Samples per second.
pub(crate) const SAMPLE_RATE_HZ: u32 = 48_000;
/// Samples per frame.
pub(crate) const FRAME_SAMPLES: u32 = 1024;
/// Where the data stream element's bytes begin in a frame.
pub(crate) const USER_DATA_OFFSET: usize = 2;

const ID_CHANNEL_PAIR: u32 = 1;
const ID_DATA_STREAM: u32 = 4;
const ID_FILL: u32 = 6;
const ID_END: u32 = 7;
/// Payload bytes of one fill element: 15 in its first field and 255 − 1 in the second.
const FILL_BYTES_MAX: usize = 269;
/// The shortest fill element with the second field.
const FILL_BYTES_MIN: usize = 15;

/// The AudioSpecificConfig: AAC-LC, 48 kHz, stereo.
pub(crate) fn specific_configuration() -> Vec<u8> {
    let mut bits = BitWriter::new();
    bits.bits(2, 5); // audioObjectType: AAC LC
    bits.bits(3, 4); // samplingFrequencyIndex: 48 kHz
    bits.bits(2, 4); // channelConfiguration: stereo
    bits.bits(0, 3); // frames of 1024, no core coder, no extension
    bits.into_bytes()
}

/// One frame of silence: user data (fewer than 255 bytes), two silent channels, and fill elements
/// up to about `size_bytes`: at most two bytes more or 17 less, larger if the rest needs it.
pub(crate) fn frame(user_data: &[u8], size_bytes: usize) -> Vec<u8> {
    debug_assert!(user_data.len() < 255);
    let mut bits = BitWriter::new();
    bits.bits(ID_DATA_STREAM, 3);
    bits.bits(0, 4); // element_instance_tag
    bits.bits(1, 1); // data_byte_align_flag
    bits.bits(user_data.len() as u32, 8);
    bits.extend(user_data);

    bits.bits(ID_CHANNEL_PAIR, 3);
    bits.bits(0, 4); // element_instance_tag
    bits.bits(0, 1); // common_window
    for _ in 0..2 {
        bits.bits(0, 8); // global_gain
        bits.bits(0, 1); // ics_reserved_bit
        bits.bits(0, 2); // window_sequence: long
        bits.bits(0, 1); // window_shape: sine
        bits.bits(0, 6); // max_sfb: nothing is coded
        bits.bits(0, 1); // predictor_data_present
        bits.bits(0, 3); // pulse, TNS and gain control: none
    }
    // Each fill element has 15 bits besides its bytes; ID_END has three.
    while let Some(room) = size_bytes.checked_sub(bits.len() + 3)
        && room >= FILL_BYTES_MIN
    {
        let count = room.min(FILL_BYTES_MAX);
        bits.bits(ID_FILL, 3);
        bits.bits(15, 4);
        bits.bits((count - 14) as u32, 8);
        bits.bits(0, 4); // extension_type: fill
        bits.bits(0, 4);
        for _ in 1..count {
            bits.bits(0b1010_0101, 8);
        }
    }
    bits.bits(ID_END, 3);
    bits.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_close_to_what_is_asked_for() {
        for size in 80..3_000 {
            let length = frame(&[0x80; 37], size).len();
            assert!((size - 17..=size + 2).contains(&length), "{size} gave {length}");
        }
    }

    #[test]
    fn user_data_stands_where_it_is_looked_for() {
        let frame = frame(&[0xAB; 37], 200);
        assert_eq!(frame[USER_DATA_OFFSET..USER_DATA_OFFSET + 37], [0xAB; 37]);
    }
}
