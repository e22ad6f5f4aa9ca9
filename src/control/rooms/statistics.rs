//! What the rooms count: palava-machine's hourly histograms, and signaltower's totals for Prometheus
//! (contract signalling, 2.5 and 2.6).

use std::collections::BTreeMap;

/// Hours of histograms that are kept; the oldest goes first.
const HOURS_MAX: usize = 48;
/// Upper bounds of the durations: 1000 ms · 2^k.
const DURATION_BUCKETS: usize = 20;
/// Upper bounds of the peaks: 1 to 10.
const PEAK_BUCKETS: usize = 10;

/// One hour's histograms.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Hour {
    /// Most members that a room had → number of rooms closed.
    pub room_peaks: BTreeMap<u64, u64>,
    /// Whole minutes in a room → number of memberships ended.
    pub connection_time: BTreeMap<u64, u64>,
}

/// A histogram whose buckets are not cumulative; the last one has no upper bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets<const N: usize> {
    /// Per bucket.
    pub counts: [u64; N],
    /// Above the last bound.
    pub above: u64,
    /// Of all values.
    pub sum: u64,
}

impl<const N: usize> Default for Buckets<N> {
    fn default() -> Self {
        Self { counts: [0; N], above: 0, sum: 0 }
    }
}

impl<const N: usize> Buckets<N> {
    fn add(&mut self, value: u64, bound: impl Fn(usize) -> u64) {
        self.sum = self.sum.saturating_add(value);
        match (0..N).find(|&index| value <= bound(index)) {
            Some(index) => self.counts[index] += 1,
            None => self.above += 1,
        }
    }
}

/// Everything since the start of the process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// By the unix time of the full hour.
    pub hours: BTreeMap<u64, Hour>,
    /// Rooms that got a first member.
    pub rooms_created: u64,
    /// Rooms that lost the last one.
    pub rooms_closed: u64,
    /// Joins.
    pub joined: u64,
    /// Memberships ended.
    pub left: u64,
    /// How long rooms were there, in milliseconds.
    pub room_duration_ms: Buckets<DURATION_BUCKETS>,
    /// How many members they had at most.
    pub room_peak_members: Buckets<PEAK_BUCKETS>,
}

impl Statistics {
    /// Upper bound of a bucket of [`room_duration_ms`](Self::room_duration_ms).
    pub fn duration_bound_ms(index: usize) -> u64 {
        1_000 << index
    }

    /// Upper bound of a bucket of [`room_peak_members`](Self::room_peak_members).
    pub fn peak_bound(index: usize) -> u64 {
        index as u64 + 1
    }

    /// A membership began.
    pub(super) fn joined(&mut self, is_first_of_room: bool) {
        self.joined += 1;
        self.rooms_created += u64::from(is_first_of_room);
    }

    /// A membership ended at `unix_s`.
    pub(super) fn left(&mut self, joined_unix_s: u64, unix_s: u64) {
        self.left += 1;
        let minutes = unix_s.saturating_sub(joined_unix_s) / 60;
        *self.hour(unix_s).connection_time.entry(minutes).or_default() += 1;
    }

    /// A room lost its last member at `unix_s`.
    pub(super) fn closed(&mut self, peak: u64, duration_ms: u64, unix_s: u64) {
        self.rooms_closed += 1;
        *self.hour(unix_s).room_peaks.entry(peak).or_default() += 1;
        self.room_peak_members.add(peak, Self::peak_bound);
        self.room_duration_ms.add(duration_ms, Self::duration_bound_ms);
    }

    fn hour(&mut self, unix_s: u64) -> &mut Hour {
        let hour = unix_s - unix_s % 3_600;
        while self.hours.len() >= HOURS_MAX && !self.hours.contains_key(&hour) {
            self.hours.pop_first();
        }
        self.hours.entry(hour).or_default()
    }
}
