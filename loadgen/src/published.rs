//! What was published of each stream, for those who judge what was received.
//!
//! A frame is entered before it is sent, so a viewer never receives what is not here. Sizes are
//! kept for the whole run (eight bytes a frame); moments and checksums only for the last minutes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::media::Track;
use crate::wire_form::WireForm;

/// Records kept per track: minutes, and more than any server's memory of a stream.
const RECENT_FRAMES: usize = 32_768;

/// One stream's table.
#[derive(Debug, Default)]
pub(crate) struct Published {
    inner: Mutex<Inner>,
}

/// A frame as it was published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// Number in the stream.
    pub(crate) number: u64,
    /// Number in the track.
    pub(crate) track_number: u64,
    /// Timestamp.
    pub(crate) timestamp_ms: u32,
    /// CRC-32 of the payload (around the stamp if there is one).
    pub(crate) crc: u32,
    /// Intended send time, monotonic.
    pub(crate) due_ns: u64,
}

#[derive(Debug, Default)]
struct Inner {
    sizes: Vec<(u32, u32)>,
    recent: [VecDeque<Record>; 2],
    last_track_numbers: [Option<u64>; 2],
    /// Sums per wire form, made when the stream has ended.
    sums: HashMap<WireForm, Arc<Vec<u64>>>,
}

impl Published {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a frame; its number is the count of frames so far.
    pub(crate) fn enter(&self, track: Track, payload_bytes: usize, record: Record) {
        let mut inner = self.inner();
        debug_assert_eq!(record.number, inner.sizes.len() as u64);
        inner.sizes.push((payload_bytes as u32, record.timestamp_ms));
        inner.last_track_numbers[track.index()] = Some(record.track_number);
        let recent = &mut inner.recent[track.index()];
        if recent.len() == RECENT_FRAMES {
            recent.pop_front();
        }
        recent.push_back(record);
    }

    /// Payload bytes of all frames.
    pub(crate) fn payload_bytes(&self) -> u64 {
        self.inner().sizes.iter().map(|(bytes, _)| u64::from(*bytes)).sum()
    }

    /// Number, in its track, of the last frame of a track.
    pub(crate) fn last_track_number(&self, track: Track) -> Option<u64> {
        self.inner().last_track_numbers[track.index()]
    }

    /// The frame with this number in its track, if it is recent.
    pub(crate) fn record(&self, track: Track, track_number: u64) -> Option<Record> {
        let inner = self.inner();
        let recent = &inner.recent[track.index()];
        let first = recent.front()?.track_number;
        recent.get(usize::try_from(track_number.checked_sub(first)?).ok()?).copied()
    }

    /// The newest frames with this timestamp: first the one with this checksum, else any.
    pub(crate) fn by_timestamp(&self, track: Track, timestamp_ms: u32, crc: u32) -> Option<Record> {
        let inner = self.inner();
        let recent = &inner.recent[track.index()];
        let from = recent.partition_point(|record| record.timestamp_ms < timestamp_ms);
        let same = || recent.range(from..).take_while(|record| record.timestamp_ms == timestamp_ms);
        same().find(|record| record.crc == crc).or_else(|| same().next()).copied()
    }

    /// Wire bytes of all frames from `first` on. Only when the stream has ended.
    pub(crate) fn wire_bytes_from(&self, form: WireForm, first: u64) -> u64 {
        let sums = {
            let mut inner = self.inner();
            let Inner { sizes, sums, .. } = &mut *inner;
            let sums = sums.entry(form).or_insert_with(|| {
                let mut total = 0;
                let mut all = vec![0];
                all.extend(sizes.iter().map(|(bytes, timestamp_ms)| {
                    total += form.wire_bytes(*bytes as usize, *timestamp_ms) as u64;
                    total
                }));
                Arc::new(all)
            });
            Arc::clone(sums)
        };
        let last = sums.last().copied().unwrap_or(0);
        last - sums.get(first as usize).copied().unwrap_or(last)
    }
}
