//! What the rooms of a node ask of where memberships are kept, and what they are told.
//!
//! The memory of the process answers at once, a shared store later; the node's side is the same for both.
//! A request names a connection of this node; a [`Delivery`] is for one, whoever caused it.

use std::time::Duration;

use crate::media::Moment;
use crate::proto::palava::{PeerId, RoomError, RoomKey, Status};

/// Now, in both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For durations.
    pub moment: Moment,
    /// For what people read: seconds since 1970.
    pub unix_s: u64,
}

/// A member as the others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub peer: PeerId,
    /// Empty when it never gave one.
    pub status: Status,
}

/// Lets its holder be known by the same id again after a lost connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResumeToken(pub Box<str>);

/// What a join needs.
#[derive(Clone, Debug)]
pub struct Join {
    /// The id that the connection has, and keeps unless it resumes another.
    pub peer: PeerId,
    /// The room.
    pub room: RoomKey,
    /// As the client gave it, cleaned.
    pub status: Option<Status>,
    /// Of an earlier join.
    pub resume: Option<ResumeToken>,
    /// What the client gets for the next time.
    pub next_token: ResumeToken,
    /// Most members; 0 is no limit.
    pub max_members: usize,
}

/// The answer to a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The id by which the others know it.
    pub own: PeerId,
    /// Who was there before.
    pub others: Vec<Member>,
}

/// A text for a connection of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// To be sent as it is.
    Text(PeerId, String),
    /// Its id was resumed by another connection: it is in no room any more.
    Superseded(PeerId),
}

/// What is asked of a store; each is answered by one [`Reply`] for the same peer, in order.
#[derive(Clone, Debug)]
pub enum StoreRequest {
    /// Into a room; the members are told before the answer comes.
    Join(Join),
    /// Out of the room; the others are told. `keep` is for how long the id may be resumed.
    Leave {
        /// Who.
        peer: PeerId,
        /// Zero when the client said that it leaves.
        keep: Duration,
    },
    /// All members, the sender included, are told.
    UpdateStatus {
        /// Whose.
        peer: PeerId,
        /// The keys that change.
        status: Status,
    },
    /// A text for one member of the sender's room.
    Send {
        /// Whose room it has to be.
        from: PeerId,
        /// Who gets it.
        to: PeerId,
        /// The frame.
        text: String,
    },
    /// Something that no member may be sent: answered with `error` when `to` is in the sender's room, and
    /// with what is wrong about `to` otherwise.
    Probe {
        /// Whose room it has to be.
        from: PeerId,
        /// Who would get it.
        to: PeerId,
        /// What is wrong with it.
        error: RoomError,
    },
}

/// A store's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`StoreRequest::Join`].
    Joined(Result<Joined, RoomError>),
    /// To the others.
    Done(Result<(), RoomError>),
}
