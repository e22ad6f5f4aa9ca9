//! Viewers of a stamped stream that check every message and measure when it came.

use std::fmt;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use super::noise::{Noise, keep_undisturbed};
use super::stamp::{Stamp, is_config, now_nanos};
use super::viewer::{Received, Viewer, wait_readable};

/// Latency is watched in parts of this length.
const PART: Duration = Duration::from_millis(500);

/// One viewer, and what it has seen.
pub(crate) struct Watcher {
    /// The player.
    pub(crate) viewer: Viewer,
    /// It does not read.
    pub(crate) is_stalled: bool,
    /// The newest frame and its time.
    pub(crate) last: Option<(Stamp, u32)>,
    /// How often frames were missing.
    pub(crate) gaps: u64,
}

/// The latencies of a phase without the parts that other programs disturbed.
pub(crate) struct Phase {
    /// Nanoseconds, sorted.
    latencies: Vec<u64>,
    /// The same for each part that counts.
    of_parts: Vec<Vec<u64>>,
    /// How long other programs held a thread up in the parts that count.
    pub(crate) held_up: Duration,
    parts: usize,
    parts_counted: usize,
}

/// A part of a phase.
struct Part {
    latencies: Vec<u64>,
    /// How long other programs held a thread up in it.
    held_up: Duration,
}

/// Reads for as long as that; `after_part` is called about twice a second. Latencies count of those
/// viewers (by their numbers) that `counts` names.
pub(crate) fn watch(
    watchers: &mut [Watcher],
    time: Duration,
    noise: &Noise,
    counts: impl Fn(usize) -> bool,
    mut after_part: impl FnMut(),
) -> Phase {
    let end = Instant::now() + time;
    let mut parts = Vec::new();
    noise.take_worst();
    while Instant::now() < end {
        let mut latencies = Vec::new();
        let left = end.saturating_duration_since(Instant::now());
        read_by(watchers, PART.min(left), |number, nanos| {
            if counts(number) {
                latencies.push(nanos);
            }
        });
        after_part();
        parts.push(Part { latencies, held_up: noise.take_worst() });
    }
    Phase::of(parts)
}

/// Reads for as long as that.
pub(crate) fn read(watchers: &mut [Watcher], time: Duration) {
    read_by(watchers, time, |_, _| {});
}

/// Reads until everybody has begun to see the stream.
pub(crate) fn read_until_all_begin(watchers: &mut [Watcher], limit: Duration) {
    let begin = Instant::now();
    while watchers.iter().any(|watcher| watcher.last.is_none()) {
        assert!(begin.elapsed() < limit, "all viewers begin");
        read(watchers, Duration::from_millis(100));
    }
}

/// Reads from everybody who is not stalled; `seen` gets the viewer and the latency of each frame.
fn read_by(watchers: &mut [Watcher], time: Duration, mut seen: impl FnMut(usize, u64)) {
    let end = Instant::now() + time;
    let (numbers, sockets): (Vec<usize>, Vec<RawFd>) = watchers
        .iter()
        .enumerate()
        .filter(|(_, watcher)| !watcher.is_stalled && !watcher.viewer.is_closed())
        .map(|(number, watcher)| (number, watcher.viewer.as_raw_fd()))
        .unzip();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        for index in wait_readable(&sockets, left) {
            let number = numbers[index];
            watchers[number].pump(|nanos| seen(number, nanos));
        }
    }
}

impl Watcher {
    /// A viewer that has seen nothing.
    pub(crate) fn new(viewer: Viewer) -> Self {
        Self { viewer, is_stalled: false, last: None, gaps: 0 }
    }

    /// Reads and checks: whole messages, in order, a hole only before a keyframe, time never goes back.
    fn pump(&mut self, mut seen: impl FnMut(u64)) {
        self.viewer.pump();
        let now = now_nanos();
        while let Some(received) = self.viewer.take() {
            let Received::Message { type_id: 9, timestamp_ms, payload } = received else {
                continue;
            };
            if is_config(&payload) {
                continue;
            }
            let stamp = Stamp::read(&payload);
            match self.last {
                None => assert!(stamp.is_keyframe, "begins with {stamp:?}"),
                Some((last, last_ms)) => {
                    assert!(
                        timestamp_ms > last_ms,
                        "time goes back from {last_ms} to {timestamp_ms}"
                    );
                    assert!(stamp.number > last.number, "{stamp:?} after {last:?}");
                    if stamp.number != last.number + 1 {
                        assert!(stamp.is_keyframe, "{last:?} is followed by {stamp:?}");
                        self.gaps += 1;
                    }
                    seen(now.saturating_sub(stamp.sent_nanos));
                }
            }
            self.last = Some((stamp, timestamp_ms));
        }
    }
}

impl Phase {
    /// Counts the undisturbed parts, and at least the calmer half.
    fn of(mut parts: Vec<Part>) -> Self {
        let all = parts.len();
        let held_up = keep_undisturbed(&mut parts, |part| part.held_up);
        let of_parts: Vec<Vec<u64>> =
            parts.into_iter().map(|part| sorted(part.latencies)).collect();
        let latencies = sorted(of_parts.concat());
        Self { latencies, held_up, parts: all, parts_counted: of_parts.len(), of_parts }
    }

    /// Nearest rank.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        nearest_rank(&self.latencies, percent)
    }

    /// The median of what the parts have for it: one part says nothing.
    pub(crate) fn median_of_parts(&self, percent: usize) -> Duration {
        let parts = self.of_parts.iter().filter(|part| !part.is_empty());
        let mut found: Vec<Duration> = parts.map(|part| nearest_rank(part, percent)).collect();
        found.sort_unstable();
        found[found.len() / 2]
    }
}

fn sorted(mut latencies: Vec<u64>) -> Vec<u64> {
    latencies.sort_unstable();
    latencies
}

fn nearest_rank(sorted: &[u64], percent: usize) -> Duration {
    Duration::from_nanos(sorted[(sorted.len() * percent).div_ceil(100) - 1])
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99] = [50, 90, 99].map(|percent| self.percentile(percent));
        write!(
            f,
            "p50 {p50:?}, p90 {p90:?}, p99 {p99:?} of {} frames in {} of {} parts (threads held up by at \
             most {:?})",
            self.latencies.len(),
            self.parts_counted,
            self.parts,
            self.held_up
        )
    }
}
