//! What nodes (the media shards and the control shard) say to each other: one envelope per
//! destination and turn.
//!
//! Notices are never dropped: those that do not fit into a lane wait on the sender's side, in order,
//! and go before any media. Media that does not fit is dropped up to the next join point, counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::config::Settings;
use crate::limits;
use crate::media::{Epoch, Frame, Moment, Preamble, Resume, StreamId};
use crate::proto::push_message::PushBody;
use crate::proto::push_name::PushName;
use crate::session::{
    Ask, AudiencePlace, ClientId, ClientInfo, Departure, Owner, PushAsk, PushTarget, RelayId,
    RelayNews, RoomClient, SendRefusal, Verdict,
};
use crate::shard::handover::Handover;
use crate::shard::relays::NewRelay;
use crate::shard::report::ShardReport;
use crate::shard::survey::SurveyOrder;

/// Number of a node: media shards from 0 on, the control shard last.
pub type Node = usize;

/// A connection of a shard; the generation tells it from an earlier one in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnKey {
    /// Slot in the shard's table.
    pub slot: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// Names a question, so that its answer finds the asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AskToken {
    /// The asking shard.
    pub node: Node,
    /// The asking connection.
    pub connection: ConnKey,
    /// Which of its questions.
    pub serial: u32,
}

/// A subscription of a shard; never used again by the same shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscription(pub u64);

/// One turn's message from one node to another.
#[derive(Debug, Default)]
pub struct Envelope {
    /// In the order in which they were said.
    pub notices: Vec<Notice>,
    /// Frames of the streams that the destination subscribes.
    pub media: Vec<MediaBatch>,
}

/// Frames of one subscription, in order.
#[derive(Debug)]
pub struct MediaBatch {
    /// The stream.
    pub stream: StreamId,
    /// Which subscription it answers: frames of an earlier one may still be on their way.
    pub subscription: Subscription,
    /// Set on the first batch after a subscription, and after a gap: the headers in force at its
    /// first frame, which is one that viewers can begin with.
    pub start: Option<Arc<Preamble>>,
    /// The frames.
    pub frames: Vec<Frame>,
}

/// A push message on its way to the shards with members: written once in each form that somebody
/// needs, and the same bytes for all.
#[derive(Debug)]
pub struct PushMessage {
    /// The channel or user.
    pub target: PushTarget,
    /// What its members are sent.
    pub forms: PushForms,
    in_flight: Arc<InFlight>,
}

/// A message in the forms in which members get it; empty where nobody does.
#[derive(Clone, Debug, Default)]
pub struct PushForms {
    /// Chunks of a command.
    pub rtmp: Bytes,
    /// A frame with a text.
    pub websocket: Bytes,
    /// A server-sent event.
    pub sse: Bytes,
}

/// Messages that some shard has not taken yet.
#[derive(Debug, Default)]
pub struct InFlight {
    bytes: AtomicUsize,
    messages: AtomicUsize,
}

impl InFlight {
    /// Bytes on their way.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the next message has to wait.
    pub fn is_full(&self) -> bool {
        self.bytes() >= limits::PUSH_IN_FLIGHT_BYTES_MAX
            || self.messages.load(Ordering::Relaxed) >= limits::PUSH_IN_FLIGHT_MESSAGES_MAX
    }
}

impl PushForms {
    fn bytes(&self) -> usize {
        self.rtmp.len() + self.websocket.len() + self.sse.len()
    }
}

impl PushMessage {
    /// A message that counts as on its way until the last shard has dropped it.
    pub fn new(target: PushTarget, forms: PushForms, in_flight: &Arc<InFlight>) -> Self {
        in_flight.bytes.fetch_add(forms.bytes(), Ordering::Relaxed);
        in_flight.messages.fetch_add(1, Ordering::Relaxed);
        Self { target, forms, in_flight: Arc::clone(in_flight) }
    }
}

impl Drop for PushMessage {
    fn drop(&mut self) {
        self.in_flight.bytes.fetch_sub(self.forms.bytes(), Ordering::Relaxed);
        self.in_flight.messages.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is never dropped.
#[derive(Debug)]
pub enum Notice {
    /// Shard to control: may this client do that?
    Ask(AskToken, Box<Ask>),
    /// Control to shard.
    Verdict(AskToken, Box<Verdict>),
    /// Control to shard: that stream is on another shard, and nobody here views it; whoever asks may go
    /// there and ask again. The question was not considered yet.
    AskNearer {
        /// The question.
        token: AskToken,
        /// The shard.
        node: Node,
        /// What was asked.
        ask: Box<Ask>,
        /// Counts as a viewer meanwhile.
        place: AudiencePlace,
    },
    /// Shard to shard: a connection.
    Handover(Box<Handover>),
    /// Shard to shard: end a connection that was handed over.
    DismissDeparted {
        /// Which.
        client: ClientId,
        /// For the client and the log.
        why: String,
    },
    /// Shard to control: nobody awaits the answer to this question about publishing any more.
    Withdrawn(AskToken),
    /// Shard to control: a connection that had been accepted is gone.
    Disconnected(Arc<ClientInfo>),
    /// Shard to control: a publish or play that was accepted has ended, and its connection goes on.
    StreamEnded {
        /// The connection.
        client: ClientId,
        /// Serial of the question that was accepted.
        serial: u32,
    },
    /// Shard to control: a connection is gone, with all that it published and played.
    Gone(Box<Departure>),
    /// Control to shard: how far is the stream that this question began?
    Measure(AskToken),
    /// Shard to control: the answer.
    Measured {
        /// The question that began it.
        token: AskToken,
        /// Its connection.
        client: ClientId,
        /// Last timestamp of its media, in milliseconds.
        timestamp_ms: u32,
    },
    /// Control to shard: end a connection.
    Dismiss {
        /// Which.
        connection: ConnKey,
        /// For the client and the log.
        why: String,
    },
    /// Control to shard: what this connection publishes or plays goes on under another name.
    Redirect {
        /// Which.
        connection: ConnKey,
        /// Its message stream.
        message_stream_id: u32,
        /// The stream's name as a client would say it.
        to: String,
    },
    /// Owner to control: the publication exists; subscriptions may come.
    PublishStarted {
        /// The stream.
        stream: StreamId,
        /// The publication.
        epoch: Epoch,
    },
    /// Owner to control: the name is free.
    PublishEnded {
        /// The stream.
        stream: StreamId,
        /// The publication.
        epoch: Epoch,
        /// The publisher said so (FCUnpublish, deleteStream, closeStream); else it was lost.
        goodbye: bool,
        /// The state of the clock.
        resume: Option<Resume>,
    },
    /// Control to every shard with viewers: the stream has a publisher.
    StreamUp {
        /// The stream.
        stream: StreamId,
        /// Where.
        owner: Owner,
    },
    /// Control to every shard with viewers: the stream has ended and nobody resumed it.
    StreamDown {
        /// The stream.
        stream: StreamId,
    },
    /// Shard to control: the last viewer is gone. `grants` is how many accepted plays the shard
    /// has received for the stream since it began or last left, so that one on its way counts.
    LeftStream {
        /// The stream.
        stream: StreamId,
        /// Accepted plays received.
        grants: u64,
    },
    /// Viewer's shard to owner: send frames from the current group of pictures on.
    Subscribe {
        /// The stream.
        stream: StreamId,
        /// The publication.
        epoch: Epoch,
        /// The number that the frames have to carry.
        subscription: Subscription,
    },
    /// Viewer's shard to owner: no more frames.
    Unsubscribe {
        /// The stream.
        stream: StreamId,
        /// The publication.
        epoch: Epoch,
    },
    /// Control to shard: a connection to another server.
    Relay(Box<NewRelay>),
    /// Control to shard: this relay is not wanted any more.
    EndRelay(RelayId),
    /// Control to shard: this relay has another source to try if this one has sent nothing yet.
    LeaveIdleSource(RelayId),
    /// Shard to control: what has become of a relay's connection.
    RelayNews(RelayId, Box<RelayNews>),
    /// Control to owner: for how long has the publisher been silent?
    Probe {
        /// The stream.
        stream: StreamId,
        /// The publication.
        epoch: Epoch,
    },
    /// Owner to control: the answer.
    Silence {
        /// The stream.
        stream: StreamId,
        /// The publication.
        epoch: Epoch,
        /// Since its last media message.
        silent_for: Duration,
    },
    /// Control to owner: another publisher takes the name; close this one.
    Replace {
        /// The stream.
        stream: StreamId,
        /// The publication.
        epoch: Epoch,
        /// Address of the new publisher, for the client and the log.
        by: String,
    },
    /// Shard to control: a connection belongs to the rooms from now on.
    RoomOpened {
        /// The connection.
        connection: ConnKey,
        /// Its number.
        id: ClientId,
        /// The client's address.
        peer: SocketAddr,
        /// What else is known of it.
        client: Box<RoomClient>,
    },
    /// Shard to control: a connection says something to the rooms.
    RoomText {
        /// The connection.
        connection: ConnKey,
        /// The text of a message.
        text: String,
    },
    /// Shard to control: messages of rooms' clients that came too fast and were dropped.
    RoomTextsDropped(u64),
    /// Shard to control: a connection of the rooms is gone.
    RoomGone(ConnKey),
    /// Control to shard: the rooms say something to a connection.
    RoomSay {
        /// The connection.
        connection: ConnKey,
        /// The text of a message.
        text: String,
    },
    /// Control to shard: the rooms end a connection.
    RoomClose {
        /// The connection.
        connection: ConnKey,
        /// Code of the close frame.
        code: u16,
        /// Why.
        why: &'static str,
    },
    /// Shard to control: may this connection have push messages?
    PushJoin(AskToken, Box<PushAsk>),
    /// Control to every shard with members: a message for them.
    Push(Arc<PushMessage>),
    /// Shard to control: a member is gone.
    PushLeft(ClientId),
    /// Shard to control: a member says something on a channel.
    PushSend {
        /// The connection.
        connection: ConnKey,
        /// Whose it is.
        client: ClientId,
        /// The channel.
        channel: PushName,
        /// The message.
        body: PushBody,
    },
    /// Control to shard: what became of that.
    PushSent {
        /// The connection.
        connection: ConnKey,
        /// Why it was not passed on.
        refusal: Option<SendRefusal>,
    },
    /// Control to shard: these settings hold for connections that come from now on.
    Settings(Arc<Settings>),
    /// Control to shard: say how things are.
    Survey(SurveyOrder),
    /// Shard to control: the answer.
    Report(Box<ShardReport>),
    /// Control to shard: tell the clients and close, at the latest at `until`.
    Drain {
        /// By then no connection may be left.
        until: Moment,
    },
    /// Shard to control: no connection is left.
    Drained,
}
