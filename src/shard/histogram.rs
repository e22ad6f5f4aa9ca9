//! Lengths of time in fixed buckets: recording one is a search in a small array.

use std::time::Duration;

/// Upper bounds of the buckets, in microseconds; one more bucket holds what is longer.
pub const BOUNDS_US: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000,
];

/// How many lengths of time fell into each bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Histogram {
    /// Per bucket of [`BOUNDS_US`], not summed up; the last is of what is longer than all bounds.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// All together, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// Counts `count` times of this length.
    pub fn record(&mut self, length: Duration, count: u64) {
        let us = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.counts[bucket] += count;
        self.sum_us = self.sum_us.saturating_add(us.saturating_mul(count));
    }

    /// Counts what another one has counted.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut histogram = Histogram::default();
        for (us, count) in [(0, 1), (100, 1), (101, 1), (10_000_000, 2), (10_000_001, 1)] {
            histogram.record(Duration::from_micros(us), count);
        }
        assert_eq!((histogram.counts[0], histogram.counts[1]), (2, 1));
        assert_eq!((histogram.counts[14], histogram.counts[15]), (2, 1));
        assert_eq!(histogram.sum_us, 201 + 20_000_000 + 10_000_001);
        let mut both = histogram;
        both.add(&histogram);
        assert_eq!(both.counts[14], 4);
        assert_eq!(both.sum_us, 2 * histogram.sum_us);
    }
}
