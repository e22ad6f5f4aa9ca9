//! What a shard says of itself: the read-out of the API.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::description::MediaInfo;
use super::flush::EgressCounters;
use super::histogram::Histogram;
use super::messages::ConnKey;
use super::outbox::MeshCounters;
use super::publication::PublicationCounters;
use super::push::PushDeliveries;
use super::viewers::ReceptionCounters;
use crate::media::{Moment, StreamId};
use crate::proto::name::StreamName;
use crate::session::{ClientId, ClientInfo};

/// One shard, at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ShardReport {
    /// Which order it answers.
    #[serde(skip)]
    pub round: u64,
    /// Whether clients were asked for.
    #[serde(skip)]
    pub has_clients: bool,
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
    /// Bytes by protocol.
    pub bytes_by_protocol: ProtocolBytes,
    /// Egress.
    #[serde(flatten)]
    pub egress: EgressCounters,
    /// How sends reach the kernel: `Send` or `Ring`.
    pub egress_backend: String,
    /// How long the passes of a turn took.
    pub flush_duration: Histogram,
    /// How old the first frame of a send was when the kernel took it.
    pub frame_age: Histogram,
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
    /// Messages of publishers.
    pub frames_in: u64,
    /// Timestamps of publishers that had to be repaired.
    pub timestamps_repaired: u64,
    /// Connections that came from other shards, to the shard of their stream.
    pub handovers: u64,
    /// Accounts drawn up for the API.
    pub surveys: u64,
    /// Turns that took part in that.
    pub survey_pieces: u64,
    /// Streams published or viewed here.
    pub streams: Vec<StreamReport>,
    /// Connections, when they were asked for.
    #[serde(skip)]
    pub clients: Vec<ClientReport>,
}

/// A stream on a shard.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StreamReport {
    /// Its name.
    pub name: String,
    /// The same in parts.
    #[serde(skip)]
    pub full_name: Option<StreamName>,
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
    /// The number of its publisher's connection, where it is published.
    pub publisher_id: Option<ClientId>,
    /// What the publisher said of itself.
    #[serde(skip)]
    pub publisher_info: Option<Arc<ClientInfo>>,
    /// For how long it has been published, in milliseconds.
    pub published_ms: u64,
    /// Timestamp of its newest frame, in milliseconds.
    pub last_ms: u64,
    /// How far the newest audio is ahead of the newest video, in milliseconds.
    pub audio_ahead_ms: i64,
    /// What its headers say.
    #[serde(serialize_with = "shared")]
    pub media: Option<Arc<MediaInfo>>,
    /// Bits of video per second, lately.
    pub video_bits_per_second: u64,
    /// Bits of audio per second, lately.
    pub audio_bits_per_second: u64,
    /// Frames of video per second, lately.
    pub frames_per_second: f64,
    /// Bytes sent to viewers of this shard.
    pub sent_bytes: u64,
    /// Bits of that per second, lately.
    pub sent_bits_per_second: u64,
    /// What came from the publisher.
    #[serde(flatten)]
    pub publication: PublicationCounters,
}

fn shared<S: Serializer>(media: &Option<Arc<MediaInfo>>, to: S) -> Result<S::Ok, S::Error> {
    media.as_deref().serialize(to)
}

/// A connection.
#[derive(Clone, Debug)]
pub struct ClientReport {
    /// Its number.
    pub id: ClientId,
    /// Its shard.
    pub shard: usize,
    /// Its place there.
    pub connection: ConnKey,
    /// The client's address.
    pub peer: SocketAddr,
    /// `rtmp`, `http` or `websocket`.
    pub protocol: &'static str,
    /// What it said of itself, once known.
    pub info: Option<Arc<ClientInfo>>,
    /// When it was accepted.
    pub since: Moment,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Bits read per second, lately.
    pub bits_per_second_in: u64,
    /// Bits sent per second, lately.
    pub bits_per_second_out: u64,
    /// How often it was too slow and moved forward.
    pub skips: u32,
    /// What it publishes and plays.
    pub streams: Vec<ClientStream>,
}

/// What a connection publishes or plays.
#[derive(Clone, Copy, Debug)]
pub struct ClientStream {
    /// The stream.
    pub stream: StreamId,
    /// On which of its message streams.
    pub message_stream_id: u32,
    /// It publishes it.
    pub is_publisher: bool,
    /// Since when.
    pub since: Moment,
}

/// Bytes of connections that are gone, too.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ProtocolBytes {
    /// Read over RTMP.
    pub rtmp_in: u64,
    /// Read over HTTP.
    pub http_in: u64,
    /// Read over WebSockets.
    pub websocket_in: u64,
    /// Commands and answers sent over RTMP; media is counted with the egress.
    pub rtmp_out: u64,
    /// Heads and short answers sent over HTTP.
    pub http_out: u64,
    /// The same over WebSockets.
    pub websocket_out: u64,
}

impl ShardReport {
    /// Bytes sent: media, commands and answers.
    pub fn sent_bytes(&self) -> u64 {
        let other = &self.bytes_by_protocol;
        self.egress.send_bytes + other.rtmp_out + other.http_out + other.websocket_out
    }
}

impl ProtocolBytes {
    /// Counts bytes that were read.
    pub fn read(&mut self, protocol: &str, bytes: u64) {
        *match protocol {
            "rtmp" => &mut self.rtmp_in,
            "websocket" => &mut self.websocket_in,
            _ => &mut self.http_in,
        } += bytes;
    }

    /// Counts bytes that were sent beside the egress.
    pub fn sent(&mut self, protocol: &str, bytes: u64) {
        *match protocol {
            "rtmp" => &mut self.rtmp_out,
            "websocket" => &mut self.websocket_out,
            _ => &mut self.http_out,
        } += bytes;
    }
}
