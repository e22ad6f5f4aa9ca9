//! What a session asks the control shard before anything takes effect, and the answers.
//!
//! No acceptance, no side effect: until the verdict is there, no frame of the session is seen by
//! anybody and nothing of it is kept but headers.

use std::net::SocketAddr;
use std::sync::Arc;

use super::audience::Audience;
use super::client_id::ClientId;
use super::push_ask::{Membership, PushGrant};
use crate::config::{AppSettings, RelayRule};
use crate::media::{Epoch, Moment, Resume, StreamId};
use crate::proto::name::StreamName;
use crate::proto::rtmp::enhanced::AnnouncedCodecs;
use crate::proto::rtmp::node_path::NodePath;

/// Who the client is and what it said of itself; the same for all asks of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// The connection's number: `clientid` of hooks, logs and API.
    pub id: ClientId,
    /// Virtual host, resolved.
    pub vhost: String,
    /// Application without instance and query.
    pub app: String,
    /// Instance, `_definst_` when none was named.
    pub instance: String,
    /// Application as sent, with its instance, without query and `/_definst_`: `app` of hooks.
    pub app_text: String,
    /// Query of the application, raw, without `?`.
    pub connect_args: String,
    /// `tcUrl` as sent; for HTTP `http://HOST/APP`.
    pub tc_url: String,
    /// `flashVer`; for HTTP the User-Agent.
    pub flash_version: String,
    /// `swfUrl` as sent.
    pub swf_url: String,
    /// `pageUrl`; for HTTP the Referer.
    pub page_url: String,
    /// The token of a push session, as sent: the first argument of connect behind the command object
    /// when it is a string; for HTTP `session` of the query. One that is longer than
    /// [`limits::PUSH_TOKEN_BYTES_MAX`](crate::limits::PUSH_TOKEN_BYTES_MAX) is cut just above.
    pub session: Option<String>,
    /// Codecs by FourCC that it can take; `None` over HTTP, where nobody says so.
    pub codecs: Option<AnnouncedCodecs>,
    /// A connection of this server to another one: no rule and no limit for clients is for it.
    pub is_relay: bool,
    /// The nodes that what it publishes has passed.
    pub nodes: NodePath,
    /// The word by which a node of the cluster says that it is one, as sent; not verified.
    pub link: Option<String>,
    /// From where a relay of this server fetches what it publishes.
    pub fetched: Fetched,
}

/// Where a stream that is published here really comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fetched {
    /// From its publisher.
    #[default]
    No,
    /// A rule says from where it is fetched.
    ByRule,
    /// It is a copy, fetched from the node of the cluster that owns it.
    InCluster,
}

/// What is known of a connection when it is gone.
#[derive(Clone, Debug)]
pub struct Departure {
    /// Its number.
    pub id: ClientId,
    /// The client's address.
    pub peer: SocketAddr,
    /// When it was accepted.
    pub since: Moment,
    /// It spoke HTTP.
    pub is_http: bool,
    /// It was a connection to another server.
    pub is_relay: bool,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
}

/// A question to the control shard.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The client's address.
    pub peer: SocketAddr,
    /// When the connection was accepted.
    pub since: Moment,
    /// What the client said of itself.
    pub client: Arc<ClientInfo>,
    /// What it wants.
    pub what: Want,
    /// What hooks have said about relays of the stream.
    pub wishes: RelayWishes,
    /// The connection could go to another shard first, and ask from there.
    pub may_move: bool,
}

impl Ask {
    /// Whether hooks may say where the stream goes on to: it is published by a client, and has not come
    /// from another node.
    pub fn may_be_forwarded(&self) -> bool {
        let is_publish = matches!(self.what, Want::Publish { .. });
        is_publish && !self.client.is_relay && self.client.nodes.is_empty()
    }

    /// Whether the application is asked, and told, of this. Of a relay only what it publishes here is; not
    /// what it sends on, nor anything between nodes of a cluster, where the owner has asked.
    pub fn is_of_client(&self) -> bool {
        let publishes = matches!(self.what, Want::Publish { .. });
        !self.client.is_relay || (publishes && self.client.fetched != Fetched::InCluster)
    }
}

/// What hooks want to be relayed of a stream that a client publishes or plays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RelayWishes {
    /// Of a publish: its targets in place of the configured ones (SRS's on_forward).
    pub forward: Option<Vec<Arc<RelayRule>>>,
    /// Of a publish: further targets; of a play: where the stream is to be fetched from (nginx-rtmp's
    /// redirects).
    pub redirect: Vec<Arc<RelayRule>>,
}

/// What a client wants to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    /// To be a client of an application at all.
    Connect,
    /// To publish a stream.
    Publish {
        /// The stream's name.
        name: StreamName,
        /// The name as sent, without its query.
        sent: String,
        /// `live`, `record`, `append` or what else was sent; empty when nothing was.
        kind: String,
        /// Query of the stream name, raw, without `?`.
        args: String,
    },
    /// To view a stream.
    Play {
        /// The stream's name.
        name: StreamName,
        /// The name as sent, without its query.
        sent: String,
        /// What else the command said.
        range: PlayRange,
        /// Query of the stream name, raw, without `?`.
        args: String,
        /// Over HTTP, where connect and play are one request.
        http: bool,
    },
}

/// Which part of a stream a play command asks for; a live stream has one only, hooks are told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PlayRange {
    /// Where to begin, in milliseconds; negative values have a meaning of their own.
    pub start: f64,
    /// How much, in milliseconds; negative is all.
    pub duration: f64,
    /// Whether it replaces what is played.
    pub reset: bool,
}

/// The control shard's answer.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Go on.
    Accept(Grant),
    /// Say so to the client and close.
    Refuse(Refusal),
}

/// What was accepted.
#[derive(Clone, Debug)]
pub enum Grant {
    /// The connection.
    Connect {
        /// Who was counted as connected.
        client: Arc<ClientInfo>,
        /// Settings of its application.
        settings: Arc<AppSettings>,
        /// Which push messages it gets, when it has a session.
        push: Option<Arc<Membership>>,
    },
    /// The connection gets push messages, and nothing else.
    Push(PushGrant),
    /// The name is claimed for this connection.
    Publish {
        /// The stream's number.
        stream: StreamId,
        /// The number of this publication.
        epoch: Epoch,
        /// Under which name (a hook may have renamed it).
        name: StreamName,
        /// The clock of an earlier publisher, when viewers still wait.
        resume: Option<Resume>,
        /// Settings of the application.
        settings: Arc<AppSettings>,
    },
    /// The connection may view the stream.
    Play {
        /// The stream's number.
        stream: StreamId,
        /// Under which name.
        name: StreamName,
        /// Which node holds its publisher, when there is one.
        owner: Option<Owner>,
        /// The number of this node's ownership, for another node of the cluster.
        lease: Option<u64>,
        /// Who was counted as connected by the same verdict (HTTP).
        connected: Option<Arc<ClientInfo>>,
        /// Where its viewers are counted.
        audience: Audience,
        /// Settings of the application.
        settings: Arc<AppSettings>,
    },
}

/// Where a stream's frames come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The node (media shard) of the publisher's connection.
    pub node: usize,
    /// The publication.
    pub epoch: Epoch,
}

/// Why something was refused; each has one answer per protocol (contract hooks, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// An access rule, or the list of pages, does not let the client do that.
    Denied,
    /// The server is at a limit of connections or streams.
    Limit,
    /// No table names the application and `server.unknown_apps = "refuse"`.
    UnknownApp,
    /// Somebody else publishes the name.
    NameTaken,
    /// Nobody publishes the stream and `play.missing = "refuse"`.
    NotPublished,
    /// The verdict did not come in time.
    Unavailable,
    /// The server is shutting down.
    Draining,
}

impl RefusalReason {
    /// The word that logs use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Limit => "limit",
            Self::UnknownApp => "unknown_app",
            Self::NameTaken => "name_taken",
            Self::NotPublished => "not_published",
            Self::Unavailable => "unavailable",
            Self::Draining => "draining",
        }
    }
}

/// A refusal with the sentence that the client and the log get.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The case.
    pub reason: RefusalReason,
    /// An RTMP client is closed without a word (`hooks.close_silently`).
    pub is_silent: bool,
    /// One sentence.
    pub description: String,
}

impl Refusal {
    /// A refusal with its sentence.
    pub fn new(reason: RefusalReason, description: impl Into<String>) -> Self {
        Self { reason, is_silent: false, description: description.into() }
    }
}
