//! What the acceptor and the control shard need to know of the shards: how busy they are, and how many
//! connections are open.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::Sender;

/// A connection weighs as much as this many bytes of egress per second: an idle one costs memory and
/// a place in the readiness set.
const CONNECTION_WEIGHT: u64 = 16 * 1024;

/// A shard that is busier than another one by less than this takes viewers over from it.
const HANDOVER_SLACK: u64 = 8 * 1024 * 1024;

/// One shard's load; written by the shard and the acceptor, read by the acceptor and the control shard.
#[derive(Debug, Default)]
pub struct ShardLoad {
    connections: AtomicUsize,
    egress_bytes_per_s: AtomicU64,
}

impl ShardLoad {
    /// What the acceptor compares: the least goes first.
    pub fn weight(&self) -> u64 {
        let connections = self.connections.load(Ordering::Relaxed) as u64;
        self.egress_bytes_per_s.load(Ordering::Relaxed) + connections * CONNECTION_WEIGHT
    }

    /// Whether a shard with this load may take a connection over from `other`: it is hardly busier, or
    /// both have little to do.
    pub fn has_room_beside(&self, other: &Self) -> bool {
        let other = other.weight();
        self.weight() <= other + other / 4 + HANDOVER_SLACK
    }

    /// The shard's sending rate over the last second.
    pub fn set_egress(&self, bytes_per_s: u64) {
        self.egress_bytes_per_s.store(bytes_per_s, Ordering::Relaxed);
    }
}

/// A connection's place in the counts; given back on drop.
#[derive(Debug)]
pub struct Seat {
    load: Arc<ShardLoad>,
    open: Arc<AtomicUsize>,
    /// Set when connections are counted per address.
    freed: Option<(Sender<IpAddr>, IpAddr)>,
}

impl Seat {
    /// Counts a connection that goes to the shard of `load`.
    pub fn new(
        load: &Arc<ShardLoad>,
        open: &Arc<AtomicUsize>,
        freed: Option<(Sender<IpAddr>, IpAddr)>,
    ) -> Self {
        load.connections.fetch_add(1, Ordering::Relaxed);
        open.fetch_add(1, Ordering::Relaxed);
        Self { load: Arc::clone(load), open: Arc::clone(open), freed }
    }

    /// The connection goes to the shard of `load`.
    pub fn move_to(&mut self, load: &Arc<ShardLoad>) {
        load.connections.fetch_add(1, Ordering::Relaxed);
        self.load.connections.fetch_sub(1, Ordering::Relaxed);
        self.load = Arc::clone(load);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.load.connections.fetch_sub(1, Ordering::Relaxed);
        self.open.fetch_sub(1, Ordering::Relaxed);
        if let Some((freed, address)) = self.freed.take() {
            // The channel has room for as many as there are connections.
            let _ = freed.try_send(address);
        }
    }
}
