//! How long pictures take through the server while something else happens to it.

use std::time::{Duration, Instant};

use super::noise::{Noise, keep_undisturbed};
use super::stamp::{Stamp, is_config, now_nanos};
use super::viewer::{Received, Viewer};
use super::wait::SOON;

/// What is watched at a time.
const PART: Duration = Duration::from_millis(500);

/// Latencies of a time, and how long other programs held a thread up in it.
type Part = (Vec<u64>, Duration);

/// How long pictures take from the publisher to a viewer at the 99th percentile, and how long other
/// programs held a thread up meanwhile. Parts that others disturbed do not count.
pub(crate) fn p99_over(viewer: &mut Viewer, noise: &Noise, time: Duration) -> (Duration, Duration) {
    let end = Instant::now() + time;
    let mut parts: Vec<Part> = Vec::new();
    while Instant::now() < end {
        noise.take_worst();
        let (start, part_end) = (now_nanos(), Instant::now() + PART);
        let mut latencies = Vec::new();
        while Instant::now() < part_end {
            let Some(received) = viewer.next(part_end + SOON) else { break };
            if let Received::Message { type_id: 9, payload, .. } = received
                && !is_config(&payload)
            {
                // What was sent before has waited for nobody but the test.
                let sent = Stamp::read(&payload).sent_nanos;
                if sent >= start {
                    latencies.push(now_nanos().saturating_sub(sent));
                }
            }
        }
        parts.push((latencies, noise.take_worst()));
    }
    let held_up = keep_undisturbed(&mut parts, |(_, held_up)| *held_up);
    let mut latencies: Vec<u64> = parts.into_iter().flat_map(|(latencies, _)| latencies).collect();
    latencies.sort_unstable();
    assert!(latencies.len() > 60, "only {} pictures", latencies.len());
    (Duration::from_nanos(latencies[latencies.len() * 99 / 100]), held_up)
}
