//! What a synthetic frame says about itself: number, intended send time, checksum.
//!
//! Bytes are sent as groups of seven bits with the top bit set, so that a stamp can stand in H.264
//! without emulation prevention. Times are those of the real-time clock, so that publisher and
//! viewers may be different processes, and machines if their clocks agree.

use crate::media::Track;

/// Length of a stamp on the wire.
pub(crate) const STAMP_BYTES: usize = (RAW_BYTES * 8).div_ceil(7);

const RAW_BYTES: usize = 32;
const MAGIC: u16 = 0x4C47;

/// A frame's own record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Number of the stream among its publisher's.
    pub(crate) stream: u32,
    /// Number of the message in its stream, both tracks counted.
    pub(crate) number: u32,
    /// Number of the message in its track.
    pub(crate) track_number: u32,
    /// When it was to be sent, nanoseconds of the real-time clock.
    pub(crate) due_real_ns: u64,
    /// The timestamp that it was published with.
    pub(crate) timestamp_ms: u32,
    /// CRC-32 of the payload around the stamp.
    pub(crate) crc: u32,
}

impl Stamp {
    /// The stamp as it is sent.
    pub(crate) fn encode(&self) -> [u8; STAMP_BYTES] {
        let mut raw = Vec::with_capacity(RAW_BYTES);
        raw.extend_from_slice(&MAGIC.to_be_bytes());
        raw.extend_from_slice(&self.stream.to_be_bytes());
        raw.extend_from_slice(&self.number.to_be_bytes());
        raw.extend_from_slice(&self.track_number.to_be_bytes());
        raw.extend_from_slice(&self.due_real_ns.to_be_bytes());
        raw.extend_from_slice(&self.timestamp_ms.to_be_bytes());
        raw.extend_from_slice(&self.crc.to_be_bytes());
        let check = crc32fast::hash(&raw) as u16;
        raw.extend_from_slice(&check.to_be_bytes());
        let mut coded = [0x80; STAMP_BYTES];
        for (bit, place) in (0..RAW_BYTES * 8).map(|bit| (bit, bit / 7)) {
            let value = (raw[bit / 8] >> (7 - bit % 8)) & 1;
            coded[place] |= value << (6 - bit % 7);
        }
        coded
    }

    /// The stamp at its place in a payload; `None` if there is none or it is damaged.
    pub(crate) fn find(track: Track, payload: &[u8]) -> Option<Self> {
        let at = track.stamp_offset();
        let coded = payload.get(at..at + STAMP_BYTES)?;
        let mut raw = [0; RAW_BYTES];
        for bit in 0..RAW_BYTES * 8 {
            let value = (coded[bit / 7] >> (6 - bit % 7)) & 1;
            raw[bit / 8] |= value << (7 - bit % 8);
        }
        let check = u16::from_be_bytes([raw[30], raw[31]]);
        if raw[..2] != MAGIC.to_be_bytes() || crc32fast::hash(&raw[..30]) as u16 != check {
            return None;
        }
        let word = |at: usize| u32::from_be_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        Some(Self {
            stream: word(2),
            number: word(6),
            track_number: word(10),
            due_real_ns: u64::from(word(14)) << 32 | u64::from(word(18)),
            timestamp_ms: word(22),
            crc: word(26),
        })
    }
}

/// The CRC of a payload without the stamp in it.
pub(crate) fn crc_around(track: Track, payload: &[u8]) -> u32 {
    let at = track.stamp_offset().min(payload.len());
    let end = (at + STAMP_BYTES).min(payload.len());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&payload[..at]);
    hasher.update(&payload[end..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            stream: 7,
            number: u32::MAX,
            track_number: 0,
            due_real_ns: 1_700_000_000_123_456_789,
            timestamp_ms: 40,
            crc: 0xDEAD_BEEF,
        }
    }

    #[test]
    fn a_stamp_is_found_again() {
        for track in [Track::Video, Track::Audio] {
            let mut payload = vec![0; track.stamp_offset()];
            payload.extend_from_slice(&stamp().encode());
            payload.push(9);
            assert_eq!(Stamp::find(track, &payload), Some(stamp()));
            assert!(stamp().encode().iter().all(|byte| *byte >= 0x80));
        }
    }

    #[test]
    fn one_changed_bit_is_seen() {
        let at = Track::Audio.stamp_offset();
        for bit in 0..STAMP_BYTES * 8 {
            if bit % 8 == 7 {
                continue; // Top bits carry nothing.
            }
            let mut payload = vec![0; at];
            payload.extend_from_slice(&stamp().encode());
            payload[at + bit / 8] ^= 1 << (bit % 8);
            let found = Stamp::find(Track::Audio, &payload);
            // The last byte has padding bits behind the record.
            assert!(found.is_none() || (bit / 8 == STAMP_BYTES - 1 && found == Some(stamp())));
        }
    }
}
