//! What viewers found, added up.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{Bytes, State, Viewer};
use crate::check::Findings;
use crate::clock::SECOND_NS;
use crate::histogram::latency_histogram;
use crate::media::Track;

/// Different failures that are kept apart; the rest is counted together.
const REASONS_MAX: usize = 16;

/// The sum over viewers.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Viewers started.
    pub(crate) started: u64,
    /// Viewers that received a keyframe.
    pub(crate) played: u64,
    /// Viewers that never did.
    pub(crate) without_media: u64,
    /// Joins up to the first frame, in the window, of viewers that leave with it.
    pub(crate) joins: u64,
    /// Viewers in the sample.
    pub(crate) sampled: u64,
    /// What the sample found.
    pub(crate) sample: Findings,
    /// What the others found before they only counted.
    pub(crate) others: Findings,
    /// Frames without a stamp, in streams of other processes.
    pub(crate) unstamped: u64,
    /// How byte counts compare.
    pub(crate) bytes: ByteTally,
    /// Silences over a second.
    pub(crate) stalls: u64,
    /// Viewers that had one.
    pub(crate) stalled_viewers: u64,
    /// The longest silence of all.
    pub(crate) longest_silence_ns: u64,
    /// Viewers whose stream ended before the run did.
    pub(crate) ended_early: u64,
    /// Why viewers failed, and how many.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Publish to receive, by track, nanoseconds.
    pub(crate) latency: [Histogram<u64>; 2],
    /// Connect to first keyframe, nanoseconds.
    pub(crate) first_frame: Histogram<u64>,
    /// How long ready sockets had to wait for our thread, at most, nanoseconds.
    pub(crate) turn: Histogram<u64>,
}

/// How received bytes compare with published ones, in viewers.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct ByteTally {
    /// Exactly what was published.
    pub(crate) equal: u64,
    /// Among those, viewers with pings in between.
    pub(crate) with_pings: u64,
    /// Less.
    pub(crate) short: u64,
    /// By so many bytes in all.
    pub(crate) short_bytes: u64,
    /// More.
    pub(crate) over: u64,
    /// By so many bytes in all.
    pub(crate) over_bytes: u64,
    /// At least the payload; the server's headers vary, so nothing more can be said.
    pub(crate) at_least: u64,
    /// Not compared: published by another process; or every message was read, because few came or
    /// they did not come in the order of publishing.
    pub(crate) not_compared: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            started: 0,
            played: 0,
            without_media: 0,
            joins: 0,
            sampled: 0,
            sample: Findings::default(),
            others: Findings::default(),
            unstamped: 0,
            bytes: ByteTally::default(),
            stalls: 0,
            stalled_viewers: 0,
            longest_silence_ns: 0,
            ended_early: 0,
            failures: BTreeMap::new(),
            latency: [latency_histogram(), latency_histogram()],
            first_frame: latency_histogram(),
            turn: latency_histogram(),
        }
    }

    /// A viewer could not even be started, or ended for this reason.
    pub(crate) fn failed(&mut self, reason: &str) {
        let reason = if self.failures.len() < REASONS_MAX || self.failures.contains_key(reason) {
            reason
        } else {
            "other reasons"
        };
        *self.failures.entry(reason.to_owned()).or_default() += 1;
    }

    /// Adds a viewer at the end of the run. `end_ns`: when the last frame was due.
    pub(super) fn add_viewer(&mut self, viewer: &mut Viewer, end_ns: u64) {
        self.started += 1;
        match &viewer.state {
            State::Open => {}
            State::Ended => self.ended_early += 1,
            State::Failed(reason) => self.failed(reason),
        }
        if let Some(first_ns) = viewer.first_frame_ns {
            self.played += 1;
            self.first_frame.saturating_record(first_ns.saturating_sub(viewer.started_ns));
            viewer.note_silence(end_ns.max(viewer.last_received_ns));
        } else {
            self.without_media += 1;
        }
        if viewer.connection.is_some() && viewer.stream.is_known() {
            for track in Track::ALL {
                viewer.check.ended(track, viewer.stream.published.last_track_number(track));
            }
        }
        self.unstamped += viewer.learning.unstamped;
        let findings = viewer.check.findings();
        if viewer.is_sampled {
            self.sampled += 1;
            self.sample.add(&findings);
        } else {
            self.others.add(&findings);
        }
        self.stalls += viewer.stalls;
        self.stalled_viewers += u64::from(viewer.stalls > 0);
        self.longest_silence_ns = self.longest_silence_ns.max(viewer.longest_silence_ns);
        self.bytes.add_viewer(viewer.compare_bytes());
    }

    /// Adds another thread's.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.started += other.started;
        self.played += other.played;
        self.without_media += other.without_media;
        self.joins += other.joins;
        self.sampled += other.sampled;
        self.sample.add(&other.sample);
        self.others.add(&other.others);
        self.unstamped += other.unstamped;
        self.bytes.merge(&other.bytes);
        self.stalls += other.stalls;
        self.stalled_viewers += other.stalled_viewers;
        self.longest_silence_ns = self.longest_silence_ns.max(other.longest_silence_ns);
        self.ended_early += other.ended_early;
        for (reason, count) in &other.failures {
            *self.failures.entry(reason.clone()).or_default() += count;
        }
        let pairs = [(&mut self.first_frame, &other.first_frame), (&mut self.turn, &other.turn)];
        for (sum, part) in self.latency.iter_mut().zip(&other.latency).chain(pairs) {
            // Both have the same bounds, so nothing is out of range.
            let _ = sum.add(part);
        }
    }

    /// Seconds of the longest silence.
    pub(crate) fn longest_silence_s(&self) -> f64 {
        self.longest_silence_ns as f64 / SECOND_NS as f64
    }
}

impl ByteTally {
    fn add_viewer(&mut self, bytes: Bytes) {
        match bytes {
            Bytes::Equal => self.equal += 1,
            Bytes::EqualWithPings(pings) => {
                self.equal += 1;
                self.with_pings += u64::from(pings > 0);
            }
            Bytes::Short(missing) => {
                self.short += 1;
                self.short_bytes += missing;
            }
            Bytes::Over(surplus) => {
                self.over += 1;
                self.over_bytes += surplus;
            }
            Bytes::Enough => self.at_least += 1,
            Bytes::Unknown => self.not_compared += 1,
        }
    }

    fn merge(&mut self, other: &Self) {
        self.equal += other.equal;
        self.with_pings += other.with_pings;
        self.short += other.short;
        self.short_bytes += other.short_bytes;
        self.over += other.over;
        self.over_bytes += other.over_bytes;
        self.at_least += other.at_least;
        self.not_compared += other.not_compared;
    }
}
