//! What nodes (the media shards and the control shard) say to each other: one envelope per
//! destination and turn.
//!
//! Notices are never dropped: those that do not fit into a lane wait on the sender's side, in order,
//! and go before any media. Media that does not fit is dropped up to the next join point, counted.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Settings;
use crate::media::{Epoch, Frame, Moment, Preamble, Resume, StreamId};
use crate::session::{Ask, ClientId, ClientInfo, Departure, Owner, Verdict};
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

/// What is never dropped.
#[derive(Debug)]
pub enum Notice {
    /// Shard to control: may this client do that?
    Ask(AskToken, Box<Ask>),
    /// Control to shard.
    Verdict(AskToken, Box<Verdict>),
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
