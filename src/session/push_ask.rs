//! What connections and the control shard say to each other about push messages.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::ask::ClientInfo;
use super::client_id::ClientId;
use crate::config::PushSettings;
use crate::limits;
use crate::proto::push_message::PushId;

/// A channel or user of a vhost that has members: a number, so that shards compare no names. Never used
/// again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PushTarget(pub u64);

/// In which form a connection gets messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PushWire {
    /// Commands.
    Rtmp,
    /// Server-sent events.
    Sse,
    /// Texts.
    WebSocket,
}

/// What a connection is a member of, for as long as it lives.
#[derive(Debug, PartialEq, Eq)]
pub struct Membership {
    /// The connection.
    pub client: ClientId,
    /// Its channels and its user.
    pub targets: Vec<PushTarget>,
}

/// What is kept of a token that a client sent, if it sent one: enough to refuse one that is too long.
pub(super) fn session_of(token: &str) -> Option<String> {
    let longest = limits::PUSH_TOKEN_BYTES_MAX + 1;
    let cut = (longest..token.len()).find_map(|len| token.get(..len)).unwrap_or(token);
    Some(cut.to_owned()).filter(|token| !token.is_empty())
}

/// A connection that wants nothing but push messages.
#[derive(Clone, Debug)]
pub struct PushAsk {
    /// The client's address.
    pub peer: SocketAddr,
    /// What the client said of itself, its session with it.
    pub client: Arc<ClientInfo>,
    /// How it wants its messages.
    pub wire: PushWire,
    /// The id of the last message that it has seen, as sent.
    pub since: Option<String>,
}

/// The answer to a [`PushAsk`].
#[derive(Clone, Debug)]
pub struct PushGrant {
    /// What it gets from now on.
    pub membership: Arc<Membership>,
    /// Settings of its vhost.
    pub settings: Arc<PushSettings>,
    /// Where it stands: what comes from now on is newer. Only where messages are kept.
    pub position: Option<PushId>,
    /// Set when it may have missed messages that are not in `missed`: the `since` that it sent.
    pub gap: Option<String>,
    /// What it has missed, oldest first, in the form that it gets.
    pub missed: Vec<Bytes>,
}

/// Why a message of a client is not passed on. The words are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendRefusal {
    /// Too much is on its way.
    Busy,
    /// The application has refused it.
    Refused,
    /// The application could not be asked.
    Unavailable,
    /// This is not how messages are sent.
    Malformed,
    /// The client's session does not name the channel.
    NotMember,
    /// `push.client_send = "off"`
    Off,
    /// Longer than `push.max_message`.
    TooLong,
}

impl SendRefusal {
    /// The word for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Malformed => "malformed",
            Self::NotMember => "not_member",
            Self::Off => "off",
            Self::Refused => "refused",
            Self::TooLong => "too_long",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for SendRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "too many messages are on their way; send again later",
            Self::Malformed => "send {\"channel\":CHANNEL,\"message\":TEXT}",
            Self::NotMember => "the session does not name this channel",
            Self::Off => "clients may not send here (push.client_send)",
            Self::Refused => "the application has refused the message",
            Self::Unavailable => "the application could not be asked; send again later",
            Self::TooLong => "the message is longer than push.max_message",
        })
    }
}
