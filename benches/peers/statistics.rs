//! Medians, quartiles, and when two of them differ.

use std::fmt;

use serde::Serialize;

/// The middle of several values, and the range of the middle half.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Quartiles {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

/// Whether two sets of values differ by more than they scatter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Differs,
    WithinNoise,
}

impl Quartiles {
    /// Of at least one value.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        // Rather too wide than too narrow: of three values the outer ones.
        let [low, high] = [last / 4, last - last / 4].map(|at| values[at]);
        // Of an even number of values there are two in the middle.
        let median = f64::midpoint(values[last / 2], values[values.len() / 2]);
        Self { low, median, high }
    }

    /// They differ when their medians are further apart than the quartiles of either.
    pub(crate) fn compare(&self, other: &Self) -> Verdict {
        let apart = (self.median - other.median).abs();
        if apart > self.range() && apart > other.range() {
            Verdict::Differs
        } else {
            Verdict::WithinNoise
        }
    }

    /// The median, and the others in brackets.
    pub(crate) fn text(&self, digits: usize) -> String {
        let Self { low, median, high } = self;
        format!("{median:.digits$} [{low:.digits$}, {high:.digits$}]")
    }

    fn range(&self) -> f64 {
        self.high - self.low
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Differs => "differs",
            Self::WithinNoise => "within noise",
        })
    }
}
