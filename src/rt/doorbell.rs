//! A doorbell between threads: senders ring it only when its owner said that it is about to sleep,
//! so that a busy receiver costs its senders no system call.
//!
//! # Why no wake-up is lost
//!
//! Owner and sender each write one thing and then read the other's:
//!
//! ```text
//! owner (prepare_sleep)          sender (after it put a message into a lane)
//!   asleep = true                  message is in the lane
//!   fence(SeqCst)                  fence(SeqCst)
//!   look into the lanes            look at asleep
//! ```
//!
//! The two fences have one order. If the owner's comes first, the sender sees `asleep` and rings; if
//! the sender's comes first, the owner sees the message and does not sleep. Both may happen: then the
//! ring is one wake-up too many, which is harmless. With weaker orderings both sides could read the
//! old values (the store buffer of each core hides its own write), and the owner would sleep over a
//! message.
//!
//! The eventfd keeps its count until it is drained, so a ring between `prepare_sleep` and the moment
//! when the owner really waits is not lost either.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use super::event_fd::EventFd;

/// The receiving side. One thread owns it; it may be moved to that thread once.
#[derive(Debug)]
pub struct Doorbell {
    shared: Arc<Shared>,
}

/// A sender's handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bell {
    shared: Arc<Shared>,
}

/// On its own cache line: every sender reads it once per message.
#[derive(Debug)]
#[repr(align(128))]
struct Shared {
    asleep: AtomicBool,
    event: EventFd,
}

impl Doorbell {
    /// A new one, awake. Fails when the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        let shared = Shared { asleep: AtomicBool::new(false), event: EventFd::new()? };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A handle for senders.
    pub fn bell(&self) -> Bell {
        Bell { shared: Arc::clone(&self.shared) }
    }

    /// Says that the owner is about to wait for the descriptor. `pending` looks into everything that
    /// senders of this bell fill; when it finds something, the owner is awake again and the answer is
    /// false: do the work first.
    pub fn prepare_sleep(&self, pending: impl FnOnce() -> bool) -> bool {
        self.shared.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if pending() {
            self.awake();
            return false;
        }
        true
    }

    /// Says that the owner works again: senders need not ring. Messages that came before are found by
    /// looking into the lanes, which the owner does anyway.
    pub fn awake(&self) {
        self.shared.asleep.store(false, Ordering::Relaxed);
    }

    /// Makes the descriptor unreadable again. True when somebody had rung.
    pub fn drain(&self) -> bool {
        self.shared.event.drain() > 0
    }
}

impl AsFd for Doorbell {
    /// Readable when somebody rang since the last [`drain`](Doorbell::drain).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }
}

impl Bell {
    /// To be called after a message was put into a lane: rings if the owner sleeps.
    pub fn ring_if_asleep(&self) {
        fence(Ordering::SeqCst);
        // The exchange lets only the first of several senders pay for the system call.
        if self.shared.asleep.load(Ordering::Relaxed)
            && self.shared.asleep.swap(false, Ordering::Relaxed)
        {
            self.shared.event.write();
        }
    }

    /// Rings whatever the owner does, for notices that are in no lane (a stop flag).
    pub fn ring(&self) {
        self.shared.event.write();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn an_awake_owner_is_not_rung() {
        let doorbell = Doorbell::new().unwrap();
        let bell = doorbell.bell();
        bell.ring_if_asleep();
        assert!(!doorbell.drain());
    }

    #[test]
    fn a_sleeping_owner_is_rung_once() {
        let doorbell = Doorbell::new().unwrap();
        let bell = doorbell.bell();
        assert!(doorbell.prepare_sleep(|| false));
        bell.ring_if_asleep();
        bell.ring_if_asleep();
        assert_eq!(doorbell.shared.event.drain(), 1);
    }

    #[test]
    fn the_owner_does_not_sleep_over_pending_work() {
        let doorbell = Doorbell::new().unwrap();
        assert!(!doorbell.prepare_sleep(|| true));
        doorbell.bell().ring_if_asleep();
        assert!(!doorbell.drain(), "prepare_sleep must leave the owner awake");
    }

    /// Owner and sender meet at every round, with nothing but the fences of the doorbell between the
    /// message and the flag: without one of them a round in which neither saw the other comes soon.
    #[test]
    fn owner_and_sender_never_miss_each_other() {
        const ROUNDS: u64 = 300_000;
        let doorbell = Doorbell::new().unwrap();
        let bell = doorbell.bell();
        let message = AtomicBool::new(false);
        let (at_start, at_end) = (AtomicU64::new(0), AtomicU64::new(0));
        let meet = |place: &AtomicU64, round: u64| {
            place.fetch_add(1, Ordering::SeqCst);
            let mut spins = 0;
            while place.load(Ordering::SeqCst) < 2 * round {
                std::hint::spin_loop();
                spins += 1;
                if spins % 10_000 == 0 {
                    std::thread::yield_now();
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    meet(&at_start, round);
                    message.store(true, Ordering::Relaxed);
                    bell.ring_if_asleep();
                    meet(&at_end, round);
                }
            });
            let mut missed = 0;
            for round in 1..=ROUNDS {
                message.store(false, Ordering::Relaxed);
                meet(&at_start, round);
                let sleeps = doorbell.prepare_sleep(|| message.load(Ordering::Relaxed));
                meet(&at_end, round);
                let was_rung = doorbell.drain();
                missed += u32::from(sleeps && !was_rung);
                doorbell.awake();
            }
            assert_eq!(missed, 0, "slept over messages");
        });
    }
}
