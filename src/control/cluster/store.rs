//! The control shard's end of the bridge to Redis: one round of commands at a time.

use std::thread;

use crossbeam_channel::Sender;

use super::worker::{Plan, Round, StoreEvent, Work, Worker};
use crate::rt::doorbell::Doorbell;
use crate::rt::mesh::{Inbox, inbox};

/// There is one round at a time, and a listener may say that it has ended.
const WORK_MAX: usize = 16;
/// What waits for the control shard; at the cap Redis waits.
const EVENTS_MAX: usize = 4096;

/// The bridge.
#[derive(Debug)]
pub(super) struct Store {
    work: Sender<Work>,
    events: Inbox<StoreEvent>,
}

impl Store {
    /// Starts the thread, which connects by itself, again and again. Whoever sleeps at `doorbell` is woken
    /// by events.
    ///
    /// # Errors
    /// The URL cannot be read, or there are no threads.
    pub(super) fn start(url: &str, plan: Plan, doorbell: &Doorbell) -> Result<Self, String> {
        let client = redis::Client::open(url).map_err(|error| format!("cluster.redis: {error}"))?;
        let (work, inbound) = crossbeam_channel::bounded(WORK_MAX);
        let (outbound, events) = inbox(doorbell, EVENTS_MAX);
        let worker = Worker::new(plan, client, inbound, work.clone(), outbound);
        thread::Builder::new()
            .name("cluster-redis".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| format!("the thread for Redis: {error}"))?;
        Ok(Self { work, events })
    }

    /// Gives a round to the worker. False when it has too much to do: then Redis is as good as away.
    pub(super) fn send(&self, round: Round) -> bool {
        self.work.try_send(Work::Round(round)).is_ok()
    }

    /// The next event.
    pub(super) fn next_event(&self) -> Option<StoreEvent> {
        self.events.try_recv()
    }

    /// Whether there is one.
    pub(super) fn has_events(&self) -> bool {
        self.events.has_pending()
    }
}
