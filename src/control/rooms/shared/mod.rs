//! Rooms in Redis, shared with other nodes and with palava-machine (contract signalling, 2.5).
//!
//! | file       | subject                                                              |
//! |------------|----------------------------------------------------------------------|
//! | `scripts`  | what happens in Redis, each step as a whole                          |
//! | `link`     | the two connections: one for commands, one for messages to members   |
//! | `worker`   | the thread between this node and Redis                               |
//!
//! What must hold: Redis executes a request as a whole or not at all; what members are sent comes by
//! their channels, once; a join is answered before what is sent to the newcomer; while Redis is away
//! requests fail at once, and leaves are made up for when it is back, as are memberships that it lost.

mod link;
mod scripts;
mod worker;

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};

use super::service::RoomConnection;
use super::store::{Delivery, Now, Reply, StoreRequest};
use crate::rt::doorbell::Doorbell;
use crate::rt::mesh::{Inbox, inbox};
use worker::{Work, Worker};

/// Requests and messages of members that wait for the worker; more wait with who has them.
const WORK_MAX: usize = 4096;
/// What waits for the control shard; at the cap the worker waits, and so does Redis.
const EVENTS_MAX: usize = 4096;

/// What comes back from Redis.
#[derive(Debug)]
pub(super) enum SharedEvent {
    /// A text for a member of this node.
    Delivery(Delivery),
    /// The answer to a request.
    Reply(RoomConnection, Reply),
    /// Something happened that is counted.
    Count(Count),
    /// Redis answers, or does not any more.
    IsUp(bool),
    /// The node has left the shared rooms.
    Ended,
}

/// What is counted of rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// A member came.
    Joined {
        /// The room had none.
        is_first: bool,
    },
    /// A member left.
    Left {
        /// When it came: seconds since 1970.
        joined_unix_s: u64,
    },
    /// A room lost its last member.
    Closed {
        /// Its most members.
        peak: u64,
        /// When it got its first: seconds since 1970.
        since_unix_s: u64,
    },
}

/// How Redis is used.
#[derive(Clone, Debug)]
pub(super) struct SharedPlan {
    /// Its URL.
    pub(super) url: String,
    /// Name of this run of the node, unlike any other.
    pub(super) node: String,
    /// After so much silence of a node its members leave.
    pub(super) lease: Duration,
    /// How long the id of a member of a lost node can be resumed.
    pub(super) resume: Duration,
}

/// The end of the bridge on the control shard.
#[derive(Debug)]
pub(super) struct SharedStore {
    work: Sender<Work>,
    /// Requests that found no room: at most one per connection.
    waiting: VecDeque<Work>,
    events: Inbox<SharedEvent>,
}

impl SharedStore {
    /// Starts the thread, which connects by itself, again and again.
    ///
    /// # Errors
    /// The URL cannot be read, or there are no threads.
    pub(super) fn start(plan: SharedPlan, doorbell: &Doorbell) -> Result<Self, String> {
        let client = redis::Client::open(plan.url.as_str())
            .map_err(|error| format!("signalling.store = {:?}: {error}", plan.url))?;
        let (work, inbound) = crossbeam_channel::bounded(WORK_MAX);
        let (outbound, events) = inbox(doorbell, EVENTS_MAX);
        let worker = Worker::new(plan, client, inbound, work.clone(), outbound);
        thread::Builder::new()
            .name("rooms-redis".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| format!("the thread for Redis: {error}"))?;
        Ok(Self { work, waiting: VecDeque::new(), events })
    }

    /// Asks for something; the answer comes as an event.
    pub(super) fn request(&mut self, connection: RoomConnection, request: StoreRequest, now: Now) {
        self.put(Work::Request { connection, request, unix_s: now.unix_s });
    }

    /// The last request: the node leaves.
    pub(super) fn end(&mut self) {
        self.put(Work::End);
    }

    /// The next event.
    pub(super) fn next_event(&mut self) -> Option<SharedEvent> {
        self.push_waiting();
        self.events.try_recv()
    }

    /// Whether there is something to take, or to try again.
    pub(super) fn has_pending(&self) -> bool {
        self.events.has_pending()
    }

    fn put(&mut self, work: Work) {
        self.waiting.push_back(work);
        self.push_waiting();
    }

    fn push_waiting(&mut self) {
        while let Some(work) = self.waiting.pop_front() {
            if let Err(TrySendError::Full(work) | TrySendError::Disconnected(work)) =
                self.work.try_send(work)
            {
                self.waiting.push_front(work);
                return;
            }
        }
    }
}
