//! The server's own account of itself: `GET /api/v1/shards`. Its key names stand here only.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::http;
use super::wait::eventually;

/// A client of the server's API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Api {
    address: SocketAddr,
}

/// One answer of the API.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    shards: Vec<Value>,
    control: Value,
    acceptor: Value,
    log: Value,
}

impl Api {
    /// A client for the API listener at `address`.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Where the API listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks for the state of all shards.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut response = http::get(self.address, "/api/v1/shards");
        assert_eq!(response.status, 200, "{}", response.status_line);
        let body = response.read_to_end();
        let body: Value = serde_json::from_slice(&body).expect("the API answers JSON");
        let shards = body["shards"].as_array().expect("shards is a list").clone();
        Snapshot {
            shards,
            control: body["control"].clone(),
            acceptor: body["acceptor"].clone(),
            log: body["log"].clone(),
        }
    }

    /// Asks how hooks were called: `GET /api/v1/hooks`.
    pub(crate) fn hooks(&self) -> Value {
        let mut response = http::get(self.address, "/api/v1/hooks");
        assert_eq!(response.status, 200, "{}", response.status_line);
        serde_json::from_slice(&response.read_to_end()).expect("the API answers JSON")
    }

    /// Waits until a snapshot makes `condition` true, and gives that snapshot.
    pub(crate) fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&Snapshot) -> bool,
    ) -> Snapshot {
        eventually(what, limit, || {
            let snapshot = self.snapshot();
            condition(&snapshot).then_some(snapshot)
        })
    }

    /// Waits until somebody publishes `stream` (`app/name`).
    pub(crate) fn wait_for_publisher(&self, stream: &str, limit: Duration) -> Snapshot {
        self.wait_until(&format!("{stream} is published"), limit, |snapshot| {
            snapshot.is_published(stream)
        })
    }

    /// Waits until nobody publishes `stream`.
    pub(crate) fn wait_for_no_publisher(&self, stream: &str, limit: Duration) -> Snapshot {
        self.wait_until(&format!("{stream} is no longer published"), limit, |snapshot| {
            !snapshot.is_published(stream)
        })
    }

    /// Waits until at least `count` frames of `stream` have come in.
    pub(crate) fn wait_for_frames(&self, stream: &str, count: u64, limit: Duration) -> Snapshot {
        self.wait_until(&format!("{count} frames of {stream} came in"), limit, |snapshot| {
            snapshot.frames_in(stream) >= count
        })
    }

    /// Waits until `stream` has exactly `count` viewers on all shards together.
    pub(crate) fn wait_for_viewers(&self, stream: &str, count: u64, limit: Duration) -> Snapshot {
        self.wait_until(&format!("{stream} has {count} viewers"), limit, |snapshot| {
            snapshot.viewers(stream).iter().sum::<u64>() == count
        })
    }
}

impl Snapshot {
    /// Viewers of `stream` on each shard.
    pub(crate) fn viewers(&self, stream: &str) -> Vec<u64> {
        self.shards
            .iter()
            .map(|shard| {
                streams(shard)
                    .filter(|entry| entry["name"] == stream)
                    .map(|entry| number(entry, "viewers"))
                    .sum()
            })
            .collect()
    }

    /// Whether a connection on some shard publishes `stream`.
    pub(crate) fn is_published(&self, stream: &str) -> bool {
        self.entries(stream).any(|entry| entry["publisher"] == Value::Bool(true))
    }

    /// Which publication of `stream` is followed: the highest epoch on any shard, 0 for none.
    pub(crate) fn epoch(&self, stream: &str) -> u64 {
        self.entries(stream).filter_map(|entry| entry["epoch"].as_u64()).max().unwrap_or(0)
    }

    /// Frames of `stream` read from its publisher.
    pub(crate) fn frames_in(&self, stream: &str) -> u64 {
        self.entries(stream)
            .filter(|entry| entry["publisher"] == Value::Bool(true))
            .map(|entry| number(entry, "frames_in"))
            .sum()
    }

    /// Payload bytes of `stream` read from its publisher.
    pub(crate) fn bytes_in(&self, stream: &str) -> u64 {
        self.entries(stream)
            .filter(|entry| entry["publisher"] == Value::Bool(true))
            .map(|entry| number(entry, "bytes_in"))
            .sum()
    }

    /// The shard of the publisher of `stream`.
    pub(crate) fn owner_shard(&self, stream: &str) -> Option<usize> {
        let streams = self.control["streams"].as_array().expect("streams is a list");
        let entry = streams.iter().find(|entry| entry["name"] == stream)?;
        Some(usize::try_from(entry["owner_shard"].as_u64()?).expect("a shard number is small"))
    }

    /// The number of the connection that publishes `stream`.
    pub(crate) fn publisher_id(&self, stream: &str) -> u64 {
        let streams = self.control["streams"].as_array().expect("streams is a list");
        let entry = streams.iter().find(|entry| entry["name"] == stream);
        number(entry.unwrap_or_else(|| panic!("{stream} is not published")), "publisher_id")
    }

    /// The counter `key` of the logs.
    pub(crate) fn log(&self, key: &str) -> u64 {
        number(&self.log, key)
    }

    /// The shard that the next RTMP or HTTP connection goes to, when they are taken in turn.
    pub(crate) fn next_shard(&self) -> usize {
        let accepted = usize::try_from(number(&self.acceptor, "accepted")).expect("few");
        accepted % self.shards.len()
    }

    /// The counter `key` of one shard's traffic with the others.
    pub(crate) fn mesh(&self, shard: usize, key: &str) -> u64 {
        number(&self.shards[shard]["mesh"], key)
    }

    /// The counter `key` of one shard.
    pub(crate) fn shard(&self, shard: usize, key: &str) -> u64 {
        number(&self.shards[shard], key)
    }

    /// The counter `key` of the shards, all together.
    pub(crate) fn sum(&self, key: &str) -> u64 {
        self.shards.iter().map(|shard| number(shard, key)).sum()
    }

    /// Turns of the shards that sent something of a stream.
    pub(crate) fn flushes(&self) -> u64 {
        let durations = self.shards.iter().map(|shard| &shard["flush_duration"]["counts"]);
        let counts = durations.flat_map(|it| it.as_array().expect("counts is a list"));
        counts.filter_map(Value::as_u64).sum()
    }

    /// Connections that the shards have closed for `reason`, all together.
    pub(crate) fn closed(&self, reason: &str) -> u64 {
        self.shards.iter().filter_map(|shard| shard["closed"][reason].as_u64()).sum()
    }

    /// Connections that the shards have closed, for whatever reason.
    pub(crate) fn all_closed(&self) -> u64 {
        let reasons = self.shards.iter().filter_map(|shard| shard["closed"].as_object());
        reasons.flat_map(|it| it.values()).filter_map(Value::as_u64).sum()
    }

    /// The counter `key` of the registry of stream names.
    pub(crate) fn registry(&self, key: &str) -> u64 {
        number(&self.control["registry"], key)
    }

    /// Logs of `stream`, on all shards together.
    pub(crate) fn logs(&self, stream: &str) -> u64 {
        self.entries(stream).map(|entry| number(entry, "logs")).sum()
    }

    /// Viewers of `stream` that have paused.
    pub(crate) fn paused(&self, stream: &str) -> u64 {
        self.entries(stream).map(|entry| number(entry, "paused")).sum()
    }

    /// Connections on each shard.
    pub(crate) fn connections(&self) -> Vec<u64> {
        self.shards.iter().map(|shard| number(shard, "connections")).collect()
    }

    /// Everything that was dropped, by reason, on all shards together.
    pub(crate) fn drops(&self) -> Vec<(String, u64)> {
        let mut sums: Vec<(String, u64)> = Vec::new();
        for shard in &self.shards {
            let reasons = shard["drops"].as_object().expect("drops is an object");
            for (reason, count) in reasons {
                let count = count.as_u64().expect("a drop counter is a whole number");
                match sums.iter_mut().find(|(known, _)| known == reason) {
                    Some((_, sum)) => *sum += count,
                    None => sums.push((reason.clone(), count)),
                }
            }
        }
        sums
    }

    fn entries<'a>(&'a self, stream: &'a str) -> impl Iterator<Item = &'a Value> {
        self.shards.iter().flat_map(streams).filter(move |entry| entry["name"] == stream)
    }
}

fn streams(shard: &Value) -> impl Iterator<Item = &Value> {
    shard["streams"].as_array().expect("streams is a list").iter()
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} is a whole number in {value}"))
}
