//! The account of the cluster for the API.

use serde_json::{Value, json};

use super::Cluster;
use crate::control::relays::Relays;
use crate::media::Moment;

impl Cluster {
    /// `GET /api/v1/cluster`
    pub(in crate::control) fn to_json(&self, relays: &Relays, now: Moment) -> Value {
        let streams: Vec<Value> = (self.leases.owned(now))
            .map(|(name, standing)| {
                let is_leased = !standing.left.is_zero();
                json!({
                    "stream": name.to_string(),
                    "state": if is_leased { "leased" } else { "unleased" },
                    "epoch": standing.epoch,
                    "left_ms": standing.left.as_millis() as u64,
                })
            })
            .collect();
        let copies: Vec<Value> = (relays.copies())
            .map(|(name, url)| json!({ "stream": name.to_string(), "url": url }))
            .collect();
        json!({
            "node": self.node,
            "advertise": self.plan.advertise,
            "lease_ms": self.plan.lease.as_millis() as u64,
            "redis": if self.is_up() { "up" } else { "down" },
            "redis_down_ms": self.down_since.map(|since| now.since(since).as_millis() as u64),
            "streams": streams,
            "copies": copies,
            "pulled": self.pulls.len(),
            "counters": self.counters(),
        })
    }

    /// How many streams this node publishes with a lease, and without.
    pub(in crate::control) fn stream_counts(&self, now: Moment) -> (usize, usize) {
        let leased = self.leases.owned(now).filter(|(_, it)| !it.left.is_zero()).count();
        (leased, self.leases.owned(now).count() - leased)
    }
}
