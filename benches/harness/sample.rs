//! A stream to measure with: H.264 at 30 frames a second with a keyframe every two seconds, and AAC at
//! 128 kbit/s, so 73 messages a second. Made up by a generator with a fixed seed, so that every run sees the same bytes.

use bytes::Bytes;
use shardcast::media::{Frame, FrameKind, Moment, Track};

/// Bits per second of the usual stream, both tracks.
pub(crate) const BITRATE: usize = 2_000_000;
/// Length of a group of pictures.
pub(crate) const GOP_MS: u64 = 2_000;
const VIDEO_FRAMES: u64 = 60;
const AUDIO_FRAMES: u64 = 86;
const AUDIO_BYTES: usize = 372;
/// A keyframe has so many times the bytes of another frame.
const KEYFRAME_FACTOR: usize = 8;

/// One group of pictures from time 0 on, in order of time.
pub(crate) fn gop(bitrate: usize) -> Vec<Frame> {
    let gop_bytes = bitrate / 8 * GOP_MS as usize / 1000;
    let video_bytes = (gop_bytes - AUDIO_FRAMES as usize * AUDIO_BYTES)
        / (VIDEO_FRAMES as usize - 1 + KEYFRAME_FACTOR);
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
            payload: payload(kind, video_bytes, &mut seed),
        })
        .collect()
}

fn payload(kind: FrameKind, video_bytes: usize, seed: &mut u64) -> Bytes {
    let (first, len) = match kind {
        FrameKind::Keyframe => (0x17, KEYFRAME_FACTOR * video_bytes),
        FrameKind::Inter => (0x27, video_bytes / 2 + (next(seed) as usize % video_bytes)),
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
