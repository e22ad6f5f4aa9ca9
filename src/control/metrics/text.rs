//! The text format of Prometheus, version 0.0.4: families with help and type, then their samples.

use std::fmt::{Display, Write};

use crate::shard::{BOUNDS_US, Histogram};

/// The content type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of metrics while it is written.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

/// The samples of one family.
pub(super) struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

/// Names and values of labels.
pub(super) type Labels<'a> = &'a [(&'static str, &'a dyn Display)];

impl Page {
    /// Begins a counter; the name ends with `_total`.
    pub(super) fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.family(name, "counter", help)
    }

    /// Begins a gauge.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// Begins a histogram of seconds.
    pub(super) fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(name.ends_with("_seconds"), "{name}");
        self.family(name, "histogram", help)
    }

    /// Begins a histogram of something else; the name says of what.
    pub(super) fn distribution(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    /// The finished page.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { page: self, name }
    }

    fn labels(&mut self, labels: Labels<'_>, last: Option<(&str, &str)>) {
        let count = labels.len() + usize::from(last.is_some());
        if count == 0 {
            return;
        }
        self.text.push('{');
        for (at, (name, value)) in labels.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let value = escaped(&value.to_string());
            let _ = write!(self.text, "{comma}{name}=\"{value}\"");
        }
        if let Some((name, value)) = last {
            let comma = if labels.is_empty() { "" } else { "," };
            let _ = write!(self.text, "{comma}{name}=\"{value}\"");
        }
        self.text.push('}');
    }
}

impl Family<'_> {
    /// Adds a sample.
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Display) -> &mut Self {
        self.page.text.push_str(self.name);
        self.page.labels(labels, None);
        let _ = writeln!(self.page.text, " {value}");
        self
    }

    /// Adds a histogram: buckets that sum up, sum and count.
    pub(super) fn times(&mut self, labels: Labels<'_>, histogram: &Histogram) -> &mut Self {
        let mut sum = 0;
        for (at, count) in histogram.counts.iter().enumerate() {
            sum += count;
            let bound = BOUNDS_US.get(at);
            let bound =
                bound.map_or_else(|| "+Inf".to_owned(), |us| (*us as f64 / 1e6).to_string());
            let _ = write!(self.page.text, "{}_bucket", self.name);
            self.page.labels(labels, Some(("le", &bound)));
            let _ = writeln!(self.page.text, " {sum}");
        }
        let _ = write!(self.page.text, "{}_sum", self.name);
        self.page.labels(labels, None);
        let _ = writeln!(self.page.text, " {}", histogram.sum_us as f64 / 1e6);
        let _ = write!(self.page.text, "{}_count", self.name);
        self.page.labels(labels, None);
        let _ = writeln!(self.page.text, " {sum}");
        self
    }
}

impl Family<'_> {
    /// Adds a histogram without labels: upper bounds with what is under each and over the one before,
    /// what is above the last, and the sum of all values.
    pub(super) fn buckets(
        &mut self,
        buckets: impl Iterator<Item = (u64, u64)>,
        above: u64,
        sum_of_values: u64,
    ) {
        let (name, text) = (self.name, &mut self.page.text);
        let mut sum = 0;
        // Writing to a String does not fail.
        for (bound, count) in buckets {
            sum += count;
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {sum}");
        }
        sum += above;
        let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {sum}");
        let _ = writeln!(text, "{name}_sum {sum_of_values}\n{name}_count {sum}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_page_is_in_the_format() {
        let mut page = Page::default();
        let mut family = page.counter("a_total", "Of a.");
        family.sample(&[], 1).sample(&[("shard", &0), ("why", &"x\"\\\ny")], 2.5);
        let mut times = Histogram::default();
        times.record(Duration::from_micros(100), 2);
        times.record(Duration::from_secs(20), 1);
        page.histogram("b_seconds", "Of b.").times(&[("shard", &1)], &times);
        let text = page.into_text();
        let (first, second) = text.split_once("# HELP b").unwrap();
        assert_eq!(
            first,
            "# HELP a_total Of a.\n# TYPE a_total counter\na_total 1\n\
             a_total{shard=\"0\",why=\"x\\\"\\\\\\ny\"} 2.5\n"
        );
        assert!(second.contains("b_seconds_bucket{shard=\"1\",le=\"0.0001\"} 2\n"), "{second}");
        assert!(second.contains("b_seconds_bucket{shard=\"1\",le=\"10\"} 2\n"), "{second}");
        assert!(second.contains("b_seconds_bucket{shard=\"1\",le=\"+Inf\"} 3\n"), "{second}");
        assert!(
            second
                .ends_with("b_seconds_sum{shard=\"1\"} 20.0002\nb_seconds_count{shard=\"1\"} 3\n")
        );
    }
}
