//! Durations in histograms with high dynamic range.

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest duration that is told apart: a minute.
const LONGEST_NS: u64 = 60_000_000_000;

/// What people and programs read of a histogram, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// Values recorded.
    pub(crate) count: u64,
    /// Median.
    pub(crate) p50_ms: f64,
    /// 90 % are no larger.
    pub(crate) p90_ms: f64,
    /// 99 % are no larger.
    pub(crate) p99_ms: f64,
    /// 99.9 % are no larger.
    pub(crate) p999_ms: f64,
    /// The largest.
    pub(crate) max_ms: f64,
}

/// An empty histogram: 1 µs to a minute, three digits.
#[expect(clippy::expect_used, reason = "the bounds are constants that the library accepts")]
pub(crate) fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, LONGEST_NS, 3).expect("bounds are in order")
}

impl Summary {
    /// Of durations in nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| milliseconds(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: milliseconds(histogram.max()),
        }
    }
}

/// Three digits behind the point are a microsecond.
fn milliseconds(ns: u64) -> f64 {
    (ns as f64 / 1e3).round() / 1e3
}
