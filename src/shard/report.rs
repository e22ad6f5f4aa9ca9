//! What a shard says of itself: the read-out of the API.

use std::collections::BTreeMap;

use serde::Serialize;

use super::flush::EgressCounters;
use super::outbox::MeshCounters;
use super::publication::PublicationCounters;
use super::push::PushDeliveries;
use super::viewers::ReceptionCounters;

/// One shard, at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ShardReport {
    /// Its number.
    pub shard: usize,
    /// Open connections.
    pub connections: usize,
    /// Viewers: plays of connections.
    pub viewers: usize,
    /// Publications.
    pub publishers: usize,
    /// Turns since the start.
    pub turns: u64,
    /// CPU time of the shard's thread since the start, in microseconds.
    pub cpu_us: u64,
    /// Reads from sockets that brought bytes.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Egress.
    #[serde(flatten)]
    pub egress: EgressCounters,
    /// How sends reach the kernel: `Send` or `Ring`.
    pub egress_backend: String,
    /// Traffic with the other nodes.
    pub mesh: MeshCounters,
    /// Push messages to members.
    pub push: PushDeliveries,
    /// Frames and viewers that lost something, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    /// Connections closed since the start, by reason.
    pub closed: BTreeMap<&'static str, u64>,
    /// What viewers wanted of their streams.
    #[serde(flatten)]
    pub reception: ReceptionCounters,
    /// Bytes of log segments in use.
    pub log_bytes: u64,
    /// Bytes of log segments that are kept for the next log.
    pub free_segment_bytes: u64,
    /// Streams published or viewed here.
    pub streams: Vec<StreamReport>,
}

/// A stream on a shard.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StreamReport {
    /// Its name.
    pub name: String,
    /// Its number, equal on all shards.
    pub id: u64,
    /// The publication that is followed.
    pub epoch: Option<u64>,
    /// It is published on this shard.
    pub publisher: bool,
    /// Viewers on this shard.
    pub viewers: usize,
    /// Of these, those that wait for something to begin with.
    pub waiting: usize,
    /// Of the viewers, those that have paused.
    pub paused: usize,
    /// Logs on this shard.
    pub logs: usize,
    /// Bytes in them.
    pub log_bytes: u64,
    /// Bytes of the group of pictures at the publisher.
    pub gop_bytes: usize,
    /// Timestamps of the publisher that had to be repaired.
    pub timestamps_repaired: u64,
    /// What came from the publisher.
    #[serde(flatten)]
    pub publication: PublicationCounters,
}
