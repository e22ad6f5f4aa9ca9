//! End events on their way: in order per connection, sent again when they were not heard, bounded.
//!
//! One task per connection that has something to tell; it tells one event after the other. An event
//! that was surely not processed is tried again with growing pauses, and those behind it wait, so that
//! nobody hears of a connection's end before the end of its streams.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::Shared;
use super::client::{Failure, Purpose};
use super::complaints::Complaint;
use super::sessions::Due;
use crate::config::Retry;
use crate::limits;
use crate::rt::clock;
use crate::rt::executor::{before, spawn_local};
use crate::session::ClientId;

/// Pause before the second attempt; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Attempts in all: the last comes after about three minutes.
const ATTEMPTS_MAX: u32 = 10;

/// All that waits to be told.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    chains: RefCell<HashMap<ClientId, Rc<Chain>>>,
    waiting: Cell<usize>,
    /// Events that were tried once and wait for another attempt.
    pausing: Cell<usize>,
    /// No further attempts: the server ends.
    is_ending: Cell<bool>,
}

/// The events of one connection.
#[derive(Debug, Default)]
struct Chain {
    events: RefCell<VecDeque<Due>>,
    /// The first one is between two attempts.
    is_pausing: Cell<bool>,
    /// Wakes its task from the pause.
    sleeper: RefCell<Option<Waker>>,
    wakers: RefCell<Vec<Waker>>,
}

impl Deliveries {
    /// Events that wait or are under way.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// Events of one connection that wait or are under way.
    pub(super) fn waiting_for(&self, id: ClientId) -> usize {
        self.chains.borrow().get(&id).map_or(0, |chain| chain.events.borrow().len())
    }

    /// Whether nothing is left but what has been tried in vain.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.get() == 0
    }

    /// Gives up what waits for another attempt, and what will fail from now on.
    pub(super) fn end(&self) {
        self.is_ending.set(true);
        for chain in self.chains.borrow().values() {
            if let Some(sleeper) = chain.sleeper.take() {
                sleeper.wake();
            }
        }
    }

    /// Waits until another attempt is due, or the server ends. Thousands may wait: none is woken in between.
    async fn pause(&self, chain: &Chain, pause: Duration) {
        let ending = std::future::poll_fn(|context| {
            if self.is_ending.get() {
                return Poll::Ready(());
            }
            *chain.sleeper.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        });
        before(clock::now() + pause, ending).await;
        *chain.sleeper.borrow_mut() = None;
    }

    /// Waits until all earlier events of a connection have been told, or at least tried: a start event
    /// does not overtake the end event before it, and does not wait for a back end that is down.
    pub(super) async fn settled(&self, id: ClientId) {
        let chain = self.chains.borrow().get(&id).cloned();
        let Some(chain) = chain else { return };
        std::future::poll_fn(|context| {
            if chain.is_pausing.get() || chain.events.borrow().is_empty() {
                return Poll::Ready(());
            }
            chain.wakers.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Chain {
    fn wake(&self) {
        for waker in self.wakers.take() {
            waker.wake();
        }
    }
}

/// Puts events into the queues of their connections.
pub(super) fn tell(shared: &Rc<Shared>, due: Vec<Due>) {
    for event in due {
        let deliveries = &shared.deliveries;
        if deliveries.waiting.get() >= limits::HOOK_END_EVENTS_MAX {
            give_up(shared, &event, "queue_full", "too many events wait to be told");
            continue;
        }
        deliveries.waiting.set(deliveries.waiting.get() + 1);
        let id = event.0.caller.info.id;
        let mut is_new = false;
        let chain = Rc::clone(deliveries.chains.borrow_mut().entry(id).or_insert_with(|| {
            is_new = true;
            Rc::default()
        }));
        chain.events.borrow_mut().push_back(event);
        if is_new {
            spawn_local(run(Rc::clone(shared), id, chain));
        }
    }
}

async fn run(shared: Rc<Shared>, id: ClientId, chain: Rc<Chain>) {
    loop {
        let first = chain.events.borrow().front().cloned();
        let Some(event) = first else {
            shared.deliveries.chains.borrow_mut().remove(&id);
            return;
        };
        tell_one(&shared, &chain, &event).await;
        chain.events.borrow_mut().pop_front();
        chain.is_pausing.set(false);
        shared.deliveries.waiting.set(shared.deliveries.waiting.get() - 1);
        chain.wake();
        if shared.deliveries.is_quiet() {
            // The control shard may wait for that.
            shared.bell.ring_if_asleep();
        }
    }
}

async fn tell_one(shared: &Rc<Shared>, chain: &Chain, event: &Due) {
    let (occurrence, target) = event;
    let mut pause = PAUSE_MIN;
    for attempt in 1..=ATTEMPTS_MAX {
        let request = occurrence.request(target, &shared.identity, attempt);
        let started = clock::now();
        let result = shared.client.call(target, &request, Purpose::Tell).await;
        let took = clock::now().since(started);
        let why = match result {
            Ok(response) => {
                shared.stats.borrow_mut().count(occurrence.event, target, took, Ok(None));
                if !matches!(response.status, 502..=504) {
                    return;
                }
                format!("answered {}", response.status)
            }
            Err(error) => {
                shared.stats.borrow_mut().count(occurrence.event, target, took, Err(&error));
                if error.may_be_processed && target.retry == Retry::Unprocessed {
                    let what = format!("{error}; it may have been processed");
                    return give_up(shared, event, "unanswered", &what);
                }
                if error.failure == Failure::Tls {
                    // Waiting makes no certificate valid, but the operator may.
                    pause = PAUSE_MAX;
                }
                error.to_string()
            }
        };
        if attempt == ATTEMPTS_MAX {
            return give_up(shared, event, "attempts", &why);
        }
        tracing::debug!(
            event = occurrence.event.key(), url = target.url.text, client = %occurrence.caller.info.id,
            "{why}; it is tried again"
        );
        chain.is_pausing.set(true);
        chain.wake();
        shared.deliveries.pausing.set(shared.deliveries.pausing.get() + 1);
        shared.deliveries.pause(chain, pause).await;
        shared.deliveries.pausing.set(shared.deliveries.pausing.get() - 1);
        if shared.deliveries.is_ending.get() {
            return give_up(shared, event, "shutdown", &why);
        }
        pause = (pause * 2).min(PAUSE_MAX);
        shared.stats.borrow_mut().retried(occurrence.event, target);
    }
}

/// An event is not told.
pub(super) fn give_up(shared: &Shared, event: &Due, reason: &'static str, why: &str) {
    let (occurrence, target) = event;
    *shared.stats.borrow_mut().given_up.entry(reason).or_default() += 1;
    if let Some(left_out) = shared.complains(Complaint::GivenUp, occurrence.event, target) {
        tracing::warn!(
            event = occurrence.event.key(), url = target.url.text,
            client = %occurrence.caller.info.id, left_out, "an event was not told: {why}"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::rt::executor::spawn_pinned;

    #[test]
    fn a_pause_wakes_nobody_before_it_is_over() {
        let (polls, took) = spawn_pinned("test", None, || async {
            let (deliveries, chain) = (Deliveries::default(), Chain::default());
            let started = clock::now();
            let mut pause = pin!(deliveries.pause(&chain, Duration::from_millis(500)));
            let mut polls = 0;
            std::future::poll_fn(|context| {
                polls += 1;
                pause.as_mut().poll(context)
            })
            .await;
            (polls, clock::now().since(started))
        })
        .unwrap()
        .join()
        .unwrap();
        assert!(took >= Duration::from_millis(500), "{took:?}");
        assert!(polls <= 3, "woken {polls} times");
    }

    #[test]
    fn the_end_ends_pauses() {
        let took = spawn_pinned("test", None, || async {
            let (deliveries, chain) = (Rc::new(Deliveries::default()), Rc::new(Chain::default()));
            deliveries.chains.borrow_mut().insert(ClientId(1), Rc::clone(&chain));
            let ends = Rc::clone(&deliveries);
            spawn_local(async move { ends.end() });
            let started = clock::now();
            deliveries.pause(&chain, Duration::from_secs(20)).await;
            // From now on there are none.
            deliveries.pause(&chain, Duration::from_secs(20)).await;
            clock::now().since(started)
        })
        .unwrap()
        .join()
        .unwrap();
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}
