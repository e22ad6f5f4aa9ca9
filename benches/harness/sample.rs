//! A stream to measure with: 2 Mbit/s H.264 at 30 frames a second with a keyframe every two seconds, and
//! AAC at 128 kbit/s. Made up by a generator with a fixed seed, so that every run sees the same bytes.

use bytes::Bytes;
use shardcast::media::{Frame, FrameKind, Moment, Track};

/// Length of a group of pictures.
pub(crate) const GOP_MS: u64 = 2_000;
const VIDEO_FRAMES: u64 = 60;
const AUDIO_FRAMES: u64 = 86;
const AUDIO_BYTES: usize = 372;
/// A keyframe has eight times this, the others vary around it.
const VIDEO_BYTES: usize = 6_985;

/// One group of pictures from time 0 on, in order of time.
pub(crate) fn gop() -> Vec<Frame> {
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    let video = (0..VIDEO_FRAMES).map(|n| {
        let kind = if n == 0 { FrameKind::Keyframe } else { FrameKind::Inter };
        (n * GOP_MS / VIDEO_FRAMES, Track::Video, kind)
    });
    let audio =
        (0..AUDIO_FRAMES).map(|n| (n * GOP_MS / AUDIO_FRAMES, Track::Audio, FrameKind::Audio));
    let mut order: Vec<_> = video.chain(audio).collect();
    order.sort_by_key(|&(dts_ms, track, _)| (dts_ms, track == Track::Audio));
    order
        .into_iter()
        .map(|(dts_ms, track, kind)| Frame {
            track,
            kind,
            slot: 0,
            dts_ms,
            arrival: Moment::from_nanos(dts_ms * 1_000_000),
            payload: payload(kind, &mut seed),
        })
        .collect()
}

/// Payload bytes of a group of pictures.
pub(crate) fn payload_bytes(gop: &[Frame]) -> usize {
    gop.iter().map(|frame| frame.payload.len()).sum()
}

fn payload(kind: FrameKind, seed: &mut u64) -> Bytes {
    let (first, len) = match kind {
        FrameKind::Keyframe => (0x17, 8 * VIDEO_BYTES),
        FrameKind::Inter => (0x27, VIDEO_BYTES / 2 + (next(seed) as usize % VIDEO_BYTES)),
        _ => (0xaf, AUDIO_BYTES),
    };
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&next(seed).to_le_bytes());
    }
    bytes.truncate(len);
    bytes[0] = first;
    bytes[1] = 1;
    bytes.into()
}

/// xorshift64
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}
