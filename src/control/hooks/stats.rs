//! What the API says of hooks: counts and latencies per event and URL.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::client::{CallError, Failure};
use super::event::Judgement;
use crate::config::{HookEvent, HookTarget};
use crate::shard::Histogram as Times;

/// Upper edges of the histogram that the API shows, in microseconds.
const EDGES_US: [u64; 13] = [
    500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    3_000_000, 10_000_000,
];
/// Two digits: a few kilobytes per hook.
const DIGITS: u8 = 2;

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct Stats {
    hooks: BTreeMap<(&'static str, String), HookStats>,
    /// End events that were given up, by reason.
    pub(super) given_up: BTreeMap<&'static str, u64>,
}

/// Counts for metrics.
#[derive(Debug, Default)]
pub(in crate::control) struct HookTotals {
    /// By event.
    pub(in crate::control) events: BTreeMap<&'static str, EventTotals>,
    /// End events that were given up, by reason.
    pub(in crate::control) given_up: BTreeMap<&'static str, u64>,
}

/// Of one event.
#[derive(Debug, Default)]
pub(in crate::control) struct EventTotals {
    /// Calls by how they ended.
    pub(in crate::control) results: BTreeMap<&'static str, u64>,
    /// Calls that were made again.
    pub(in crate::control) retried: u64,
    /// How long those took that were answered.
    pub(in crate::control) duration: Times,
}

#[derive(Debug)]
struct HookStats {
    calls: u64,
    accepted: u64,
    renamed: u64,
    relayed: u64,
    refused: u64,
    told: u64,
    retried: u64,
    failed: BTreeMap<&'static str, u64>,
    /// Of calls that were answered, in fixed buckets.
    duration: Times,
    /// Microseconds of calls that were answered.
    latency: Option<Histogram<u64>>,
}

impl Stats {
    /// A call has ended; `judgement` for those that gate.
    pub(super) fn count(
        &mut self,
        event: HookEvent,
        target: &HookTarget,
        took: Duration,
        result: Result<Option<&Judgement>, &CallError>,
    ) {
        let hook = self.hook(event, target);
        hook.calls += 1;
        match result {
            Ok(judgement) => {
                match judgement {
                    None => hook.told += 1,
                    Some(Judgement::Accept) => hook.accepted += 1,
                    Some(Judgement::Rename(_)) => hook.renamed += 1,
                    Some(Judgement::Relay(_)) => hook.relayed += 1,
                    Some(Judgement::Refuse(_)) => hook.refused += 1,
                    Some(Judgement::Fail(_)) => {
                        *hook.failed.entry(Failure::Answer.word()).or_default() += 1;
                    }
                }
                hook.duration.record(took, 1);
                if let Some(latency) = &mut hook.latency {
                    latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                }
            }
            Err(error) => *hook.failed.entry(error.failure.word()).or_default() += 1,
        }
    }

    /// An end event is sent again.
    pub(super) fn retried(&mut self, event: HookEvent, target: &HookTarget) {
        self.hook(event, target).retried += 1;
    }

    /// Sums over URLs, which may be many.
    pub(super) fn totals(&self) -> HookTotals {
        let mut totals = HookTotals { given_up: self.given_up.clone(), ..HookTotals::default() };
        for ((event, _), hook) in &self.hooks {
            let event = totals.events.entry(event).or_default();
            for (result, count) in [
                ("accepted", hook.accepted),
                ("renamed", hook.renamed),
                ("relayed", hook.relayed),
                ("refused", hook.refused),
                ("told", hook.told),
                ("failed", hook.failed.values().sum()),
            ] {
                *event.results.entry(result).or_default() += count;
            }
            event.retried += hook.retried;
            event.duration.add(&hook.duration);
        }
        totals
    }

    /// For the API.
    pub(super) fn to_json(&self) -> Value {
        self.hooks
            .iter()
            .map(|((event, url), hook)| {
                let quantile = |q: f64| hook.latency.as_ref().map(|it| it.value_at_quantile(q));
                // Of the calls that took at most so long, as histograms are scraped.
                let at_most = |edge: u64| hook.latency.as_ref().map(|it| it.count_between(0, edge));
                let edges = EDGES_US.iter();
                let histogram: Vec<_> =
                    edges.map(|&edge| json!({ "le_us": edge, "count": at_most(edge) })).collect();
                json!({
                    "event": event,
                    "url": url,
                    "calls": hook.calls,
                    "accepted": hook.accepted,
                    "renamed": hook.renamed,
                    "relayed": hook.relayed,
                    "refused": hook.refused,
                    "told": hook.told,
                    "retried": hook.retried,
                    "failed": hook.failed,
                    "latency_us": {
                        "p50": quantile(0.5),
                        "p90": quantile(0.9),
                        "p99": quantile(0.99),
                        "max": hook.latency.as_ref().map(Histogram::max),
                        "count": hook.latency.as_ref().map(Histogram::len),
                        "histogram": histogram,
                    },
                })
            })
            .collect()
    }

    fn hook(&mut self, event: HookEvent, target: &HookTarget) -> &mut HookStats {
        // The URL's query may hold a key.
        let url = target.url.text.split('?').next().unwrap_or_default().to_owned();
        self.hooks.entry((event.key(), url)).or_insert_with(|| HookStats {
            calls: 0,
            accepted: 0,
            renamed: 0,
            relayed: 0,
            refused: 0,
            told: 0,
            retried: 0,
            failed: BTreeMap::new(),
            duration: Times::default(),
            latency: Histogram::new_with_bounds(1, 120_000_000, DIGITS).ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::target;
    use super::*;

    #[test]
    fn calls_are_counted_by_outcome_and_answers_by_their_time() {
        let target = target("on_play = \"http://h/play?key=secret\"", HookEvent::Play);
        let mut stats = Stats::default();
        let mut count = |ms, judgement: &Judgement| {
            let took = Duration::from_millis(ms);
            stats.count(HookEvent::Play, &target, took, Ok(Some(judgement)));
        };
        count(1, &Judgement::Accept);
        count(4, &Judgement::Refuse(String::new()));
        count(40, &Judgement::Rename(String::new()));
        count(400, &Judgement::Fail(String::new()));
        let report = &stats.to_json()[0];
        assert_eq!(report["url"], "http://h/play", "without the key");
        for outcome in ["accepted", "refused", "renamed"] {
            assert_eq!(report[outcome], 1, "{outcome}");
        }
        assert_eq!((&report["calls"], &report["failed"]["answer"]), (&4.into(), &1.into()));
        let latency = &report["latency_us"];
        let histogram = latency["histogram"].as_array().unwrap();
        let counts: Vec<_> = histogram.iter().map(|it| it["count"].as_u64().unwrap()).collect();
        assert_eq!(counts, [0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4]);
        assert_eq!(latency["count"], 4);
    }
}
