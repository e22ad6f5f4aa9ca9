//! Why a connection ended: one word for counters, one sentence for the log.

use std::fmt;

/// The reason, in the order of who caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client closed, or its connection broke.
    PeerClosed,
    /// The client said that it closes its WebSocket, with this code.
    Goodbye(Option<u16>),
    /// The client sent something that is not the protocol.
    Protocol(String),
    /// The handshake and the connect command took longer than `limits.handshake_timeout`.
    HandshakeTimeout,
    /// Neither published nor viewed for `limits.idle_connection`.
    Idle,
    /// A ping was not answered within `rtmp.ping_timeout` or `http.ping_timeout`.
    PingTimeout,
    /// A publisher sent no media for `publish.idle_timeout`.
    PublisherIdle,
    /// A viewer accepted no byte for `viewer.stall_timeout`.
    Stalled,
    /// A publisher sent more than `max_bitrate`.
    Bitrate,
    /// The application ended it, by a hook or the API; the sentence says so.
    Dismissed(String),
    /// The control shard refused; the sentence is its own.
    Refused(String),
    /// A viewer has waited long enough for a publisher.
    NotPublished(String),
    /// A viewer is one too many of its kind.
    Limit(String),
    /// Another publisher took the name.
    Replaced(String),
    /// The rooms ended it with this code of a WebSocket.
    Rooms(u16, &'static str),
    /// The stream that a relay fetches, or makes a second name of, has ended where it comes from.
    SourceEnded,
    /// The answer is complete.
    Done,
    /// More output than the connection may queue.
    OutputFull,
    /// The server is shutting down.
    Draining,
    /// A bug of ours, kept to this connection.
    Internal,
}

impl CloseReason {
    /// The word that counters and structured logs use.
    pub fn word(&self) -> &'static str {
        match self {
            Self::PeerClosed | Self::Goodbye(_) => "peer_closed",
            Self::Protocol(_) => "protocol",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Idle => "idle",
            Self::PingTimeout => "ping_timeout",
            Self::PublisherIdle => "publisher_idle",
            Self::Stalled => "stalled",
            Self::Bitrate => "bitrate",
            Self::Dismissed(_) => "dismissed",
            Self::Refused(_) => "refused",
            Self::NotPublished(_) => "not_published",
            Self::Limit(_) => "limit",
            Self::Replaced(_) => "replaced",
            Self::Rooms(..) => "rooms",
            Self::SourceEnded => "source_ended",
            Self::Done => "done",
            Self::OutputFull => "output_full",
            Self::Draining => "draining",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerClosed => f.write_str("the client closed the connection"),
            Self::Goodbye(Some(code)) => {
                write!(f, "the client closed the WebSocket with code {code}")
            }
            Self::Goodbye(None) => f.write_str("the client closed the WebSocket"),
            Self::Protocol(what) => write!(f, "protocol error: {what}"),
            Self::HandshakeTimeout => {
                f.write_str("no complete connect within limits.handshake_timeout")
            }
            Self::Idle => f.write_str("neither published nor played within limits.idle_connection"),
            Self::PingTimeout => f.write_str("no answer to a ping within its ping_timeout"),
            Self::PublisherIdle => f.write_str("no media within publish.idle_timeout"),
            Self::Stalled => f.write_str("the viewer took no data for viewer.stall_timeout"),
            Self::Bitrate => f.write_str("the publisher exceeded max_bitrate"),
            Self::Dismissed(why)
            | Self::Refused(why)
            | Self::NotPublished(why)
            | Self::Limit(why)
            | Self::Replaced(why) => f.write_str(why),
            Self::Rooms(_, why) => f.write_str(why),
            Self::SourceEnded => f.write_str("the stream has ended where it comes from"),
            Self::Done => f.write_str("the answer is complete"),
            Self::OutputFull => f.write_str("the client does not read its answers"),
            Self::Draining => f.write_str("the server is shutting down"),
            Self::Internal => f.write_str("internal error; please report it with the log"),
        }
    }
}
