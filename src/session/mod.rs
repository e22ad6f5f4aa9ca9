//! One connection each: what its bytes mean and what it is answered. No I/O and no clock: bytes and
//! the time come in, bytes and [`Event`]s go out; the shard carries them.

mod ask;
mod audience;
mod client_id;
mod close;
mod demo;
mod http;
mod media_message;
mod push;
mod push_ask;
mod reception;
mod relay;
mod rtmp;
mod rtmp_replies;
mod signal;
mod websocket;

pub use ask::{
    Ask, ClientInfo, Departure, Fetched, Grant, Owner, PlayRange, Refusal, RefusalReason,
    RelayWishes, Verdict, Want,
};
pub use audience::{Audience, AudiencePlace};
pub use client_id::ClientId;
pub use close::CloseReason;
pub use http::HttpSession;
pub use media_message::MediaMessage;
pub use push_ask::{Membership, PushAsk, PushGrant, PushTarget, PushWire, SendRefusal};
pub use reception::Reception;
pub use relay::{
    RELAY_FLASH_VERSION, RelayEnd, RelayId, RelayNews, RelayOrder, RelaySession, Remote, Task,
};
pub use rtmp::RtmpSession;
pub use signal::RoomClient;

use std::net::SocketAddr;

use crate::media::Moment;
use crate::proto::push_message::PushBody;
use crate::proto::push_name::PushName;

/// What a session wants of its shard.
#[derive(Debug)]
pub enum Event {
    /// Ask the control shard; the answer goes to `verdict` with the same serial.
    Ask {
        /// Which of the session's questions.
        serial: u32,
        /// What it wants.
        want: Want,
    },
    /// A publisher's message.
    Media(MediaMessage),
    /// The connection belongs to the rooms from now on.
    RoomOpened(Box<RoomClient>),
    /// A text for the rooms.
    RoomText(String),
    /// A text for the rooms was one too many.
    RoomTextDropped,
    /// Ask the control shard for push messages; the answer goes to `verdict` with the same serial.
    PushJoin {
        /// Which of the session's questions.
        serial: u32,
        /// How it wants its messages.
        wire: PushWire,
        /// The id of the last message that it has seen, as sent.
        since: Option<String>,
    },
    /// A client's message to a channel.
    PushSend {
        /// The channel.
        channel: PushName,
        /// The message.
        body: PushBody,
    },
    /// The publisher ends its stream, with a goodbye.
    EndPublish {
        /// The message stream.
        message_stream_id: u32,
    },
    /// The viewer ends its play.
    EndPlay {
        /// The message stream.
        message_stream_id: u32,
    },
    /// The client is no longer connected to its application; the connection goes on.
    LeaveApp,
    /// The viewer wants other tracks, or to be sent nothing for a while.
    Receive {
        /// The message stream.
        message_stream_id: u32,
        /// What it wants from now on.
        reception: Reception,
    },
    /// A publisher that wants to be recorded has begun; there is no recording.
    NotRecorded {
        /// The message stream.
        message_stream_id: u32,
        /// The word of the publish command.
        kind: &'static str,
    },
    /// News of a relay connection for the control shard.
    Relay(RelayNews),
    /// What is now published is the same as another stream of this server.
    Mirror,
}

/// What a session reads and writes while it handles one input.
#[derive(Debug)]
pub struct Io<'a> {
    /// The time.
    pub now: Moment,
    /// Bytes to the client, sent between messages of the stream.
    pub out: &'a mut Vec<u8>,
    /// What the shard has to do.
    pub events: &'a mut Vec<Event>,
}

/// A connection's protocol.
#[derive(Debug)]
pub enum Session {
    /// RTMP.
    Rtmp(Box<RtmpSession>),
    /// HTTP.
    Http(Box<HttpSession>),
    /// To another server.
    Relay(Box<RelaySession>),
}

impl Session {
    /// Bytes came from the client. An error ends the connection; what is in `io.out` goes first.
    pub fn input(&mut self, bytes: &[u8], io: &mut Io<'_>) -> Result<(), CloseReason> {
        match self {
            Self::Rtmp(session) => session.input(bytes, io),
            Self::Http(session) => session.input(bytes, io),
            Self::Relay(session) => session.input(bytes, io),
        }
    }

    /// The answer to a question.
    pub fn verdict(
        &mut self,
        serial: u32,
        verdict: &Verdict,
        io: &mut Io<'_>,
    ) -> Result<(), CloseReason> {
        match self {
            Self::Rtmp(session) => session.verdict(serial, verdict, io),
            Self::Http(session) => session.verdict(serial, verdict, io),
            Self::Relay(session) => session.verdict(verdict, io),
        }
    }

    /// The rooms say something to the client.
    pub fn room_text(&mut self, text: &str, io: &mut Io<'_>) {
        if let Self::Http(session) = self {
            session.room_text(text, io);
        }
    }

    /// The form in which the connection gets push messages, when it gets nothing else.
    pub fn push_wire(&self) -> Option<PushWire> {
        match self {
            Self::Rtmp(_) | Self::Relay(_) => None,
            Self::Http(session) => session.push_wire(),
        }
    }

    /// What became of a message of this client to a channel.
    pub fn push_sent(&mut self, refusal: Option<SendRefusal>, io: &mut Io<'_>) {
        match self {
            Self::Rtmp(session) => session.push_sent(),
            Self::Http(session) => session.push_sent(refusal, io),
            Self::Relay(_) => {}
        }
    }

    /// On which message stream the question with this serial was asked; `None` when nobody awaits its
    /// answer any more.
    pub fn message_stream_of(&self, serial: u32) -> Option<u32> {
        match self {
            Self::Rtmp(session) => session.message_stream_of(serial),
            Self::Http(session) => session.message_stream_of(serial),
            Self::Relay(session) => session.message_stream_of(serial),
        }
    }

    /// Whether the answer to this question is all that the connection waits for.
    pub fn awaits_only(&self, serial: u32) -> bool {
        match self {
            Self::Rtmp(session) => session.awaits_only(serial),
            // One question at a time.
            Self::Http(session) => session.message_stream_of(serial).is_some(),
            Self::Relay(_) => false,
        }
    }

    /// What the play of a message stream wants of its stream.
    pub fn reception(&self, message_stream_id: u32) -> Reception {
        match self {
            Self::Rtmp(session) => session.reception(message_stream_id),
            Self::Http(_) | Self::Relay(_) => Reception::default(),
        }
    }

    /// The stream that a play of this connection waits for, or follows, has a publisher (again).
    pub fn stream_up(&mut self, message_stream_id: u32, io: &mut Io<'_>) {
        if let Self::Rtmp(session) = self {
            session.stream_up(message_stream_id, io);
        }
    }

    /// The stream of a play has ended. Says whether the connection ends with it.
    pub fn stream_down(&mut self, message_stream_id: u32, io: &mut Io<'_>) -> Option<CloseReason> {
        match self {
            Self::Rtmp(session) => {
                session.stream_down(message_stream_id, io);
                None
            }
            Self::Http(_) => Some(CloseReason::Done),
            Self::Relay(session) => Some(session.stream_down(io)),
        }
    }

    /// What a message stream publishes or plays goes on under another name, as if the client had asked
    /// for it. `headers` are those of a publisher. HTTP knows no such thing.
    pub fn redirect(
        &mut self,
        message_stream_id: u32,
        to: &str,
        headers: Vec<MediaMessage>,
        io: &mut Io<'_>,
    ) -> Result<(), CloseReason> {
        match self {
            Self::Rtmp(session) => session.redirect(message_stream_id, to, headers, io),
            Self::Http(_) | Self::Relay(_) => Ok(()),
        }
    }

    /// The first frame is about to be sent to a viewer; `has` tells the tracks of the stream.
    pub fn media_begins(&mut self, has_video: bool, has_audio: bool, io: &mut Io<'_>) {
        if let Self::Http(session) = self {
            session.media_begins(has_video, has_audio, io);
        }
    }

    /// Checks the time-outs; called about once a second.
    pub fn tick(&mut self, io: &mut Io<'_>) -> Result<(), CloseReason> {
        match self {
            Self::Rtmp(session) => session.tick(io),
            Self::Http(session) => session.tick(io),
            Self::Relay(session) => session.tick(io),
        }
    }

    /// The shard is about to close the connection: the client's last words.
    pub fn farewell(&mut self, reason: &CloseReason, io: &mut Io<'_>) {
        match self {
            Self::Rtmp(session) => session.farewell(reason, io),
            Self::Http(session) => session.farewell(reason, io),
            Self::Relay(session) => session.farewell(reason, io),
        }
    }

    /// What the client said of itself, once known.
    pub fn client(&self) -> Option<&std::sync::Arc<ClientInfo>> {
        match self {
            Self::Rtmp(session) => session.client(),
            Self::Http(session) => session.client(),
            Self::Relay(session) => Some(session.info()),
        }
    }

    /// The client's address: the connection's, or what a trusted proxy said.
    pub fn peer(&self) -> SocketAddr {
        match self {
            Self::Rtmp(session) => session.peer(),
            Self::Http(session) => session.peer(),
            Self::Relay(session) => session.peer(),
        }
    }

    /// A trusted proxy has said for whom it connects.
    pub fn set_peer(&mut self, peer: SocketAddr) {
        match self {
            Self::Rtmp(session) => session.set_peer(peer),
            Self::Http(session) => session.set_peer(peer),
            // No proxy stands before a connection of ours.
            Self::Relay(_) => {}
        }
    }

    /// The protocol's name in logs.
    pub fn protocol(&self) -> &'static str {
        match self {
            Self::Rtmp(_) => "rtmp",
            Self::Http(session) => session.protocol(),
            Self::Relay(_) => "relay",
        }
    }
}
