//! Rates of counts over the last while, for what people look at.

use std::time::Duration;

use crate::media::Moment;

/// Marks are this far apart: a rate is that of the last 15 to 30 seconds, or since the beginning.
const MARK_INTERVAL: Duration = Duration::from_secs(15);

/// Remembers counts of earlier.
#[derive(Clone, Copy, Debug)]
pub struct Meter<const N: usize> {
    older: Mark<N>,
    newer: Mark<N>,
}

#[derive(Clone, Copy, Debug)]
struct Mark<const N: usize> {
    at: Moment,
    counts: [u64; N],
}

impl<const N: usize> Meter<N> {
    /// Everything begins at zero now.
    pub fn new(now: Moment) -> Self {
        let mark = Mark { at: now, counts: [0; N] };
        Self { older: mark, newer: mark }
    }

    /// Remembers the counts when it is time for that; to be called about once a second.
    pub fn roll(&mut self, now: Moment, counts: [u64; N]) {
        if now.since(self.newer.at) >= MARK_INTERVAL {
            self.older = self.newer;
            self.newer = Mark { at: now, counts };
        }
    }

    /// How much each count has risen per second.
    pub fn per_second(&self, now: Moment, counts: [u64; N]) -> [f64; N] {
        let elapsed = now.since(self.older.at).as_secs_f64();
        let mut rates = [0.0; N];
        // What came in the first moments says nothing of a second.
        if elapsed >= 0.1 {
            for (rate, (new, old)) in rates.iter_mut().zip(counts.iter().zip(self.older.counts)) {
                *rate = new.saturating_sub(old) as f64 / elapsed;
            }
        }
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_while() {
        let at = |seconds| Moment::ZERO + Duration::from_secs(seconds);
        let mut meter = Meter::new(at(100));
        assert_eq!(meter.per_second(at(100), [1_000]), [0.0]);
        assert_eq!(meter.per_second(at(102), [1_000]), [500.0]);
        // A hundred per second from 100 to 160, then nothing.
        for second in 100..=200_u64 {
            meter.roll(at(second), [(second.min(160) - 100) * 100]);
        }
        assert_eq!(meter.per_second(at(200), [6_000]), [0.0]);
        let mut meter = Meter::new(at(0));
        for second in 0..=40_u64 {
            meter.roll(at(second), [second * second]);
        }
        // Marks at 15 and 30; measured from the older one.
        assert_eq!(meter.per_second(at(40), [1_600]), [f64::from(1_600 - 225) / 25.0]);
    }
}
