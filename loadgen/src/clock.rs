//! The clocks: monotonic for everything that is measured here, real time for stamps.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

static ORIGIN: OnceLock<Origin> = OnceLock::new();

/// The same moment on both clocks. Read once, so that a correction of the real-time clock does not
/// change latencies within a run.
#[derive(Clone, Copy, Debug)]
struct Origin {
    instant: Instant,
    real_ns: u64,
}

fn origin() -> Origin {
    *ORIGIN.get_or_init(|| {
        // Whatever lies between the looks at the two clocks would be in every latency: the closest of some.
        let looks = (0..100).map(|_| {
            let before = Instant::now();
            let real = SystemTime::now().duration_since(UNIX_EPOCH);
            let took = before.elapsed();
            (
                took,
                Origin {
                    instant: before + took / 2,
                    real_ns: real.map_or(0, |since| since.as_nanos() as u64),
                },
            )
        });
        looks.min_by_key(|(took, _)| *took).expect("there was a look").1
    })
}

/// Nanoseconds since the first use, plus one second, so that earlier moments can be named.
pub(crate) fn now_ns() -> u64 {
    origin().instant.elapsed().as_nanos() as u64 + SECOND_NS
}

/// Monotonic to real time.
pub(crate) fn real_ns(monotonic_ns: u64) -> u64 {
    (origin().real_ns + monotonic_ns).saturating_sub(SECOND_NS)
}

/// Real to monotonic time; 0 for what was before the start.
pub(crate) fn monotonic_ns(real_ns: u64) -> u64 {
    (real_ns + SECOND_NS).saturating_sub(origin().real_ns)
}

/// A second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;
/// A millisecond.
pub(crate) const MILLISECOND_NS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_convert_both_ways() {
        let now = now_ns();
        assert!(now >= SECOND_NS);
        assert_eq!(monotonic_ns(real_ns(now)), now);
        assert_eq!(monotonic_ns(0), 0);
    }
}
