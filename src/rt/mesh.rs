//! Messages between nodes (the media shards and the control shard): one bounded lane for each ordered
//! pair, so that a lane has one writer and one reader, and one [`Doorbell`] per receiving node.
//!
//! A lane never blocks and never grows: a full lane gives the message back, and the sender decides
//! what that means. Send one message per turn and destination, not one per frame.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::doorbell::{Bell, Doorbell};

/// Builds full meshes.
#[derive(Debug)]
pub struct Mesh;

/// One node's end of a [`Mesh`]: a lane to and a lane from every other node.
#[derive(Debug)]
pub struct MeshEnd<T> {
    node: usize,
    doorbell: Doorbell,
    /// By node; none to itself.
    to: Vec<Option<(Sender<T>, Bell)>>,
    /// By node; none from itself.
    from: Vec<Option<Receiver<T>>>,
}

/// Where any thread puts messages for one node. Cheap to clone.
#[derive(Debug)]
pub struct InboxSender<T> {
    lane: Sender<T>,
    bell: Bell,
}

/// The node's side of an inbox.
#[derive(Debug)]
pub struct Inbox<T> {
    lane: Receiver<T>,
}

impl Mesh {
    /// A full mesh of `nodes` nodes whose lanes hold `lane_capacity` messages each. The ends are in
    /// the order of the nodes. Fails when the process is out of descriptors.
    #[expect(clippy::new_ret_no_self, reason = "a mesh is nothing but its ends")]
    pub fn new<T>(nodes: usize, lane_capacity: usize) -> io::Result<Vec<MeshEnd<T>>> {
        let mut ends = Vec::with_capacity(nodes);
        for node in 0..nodes {
            ends.push(MeshEnd {
                node,
                doorbell: Doorbell::new()?,
                to: Vec::with_capacity(nodes),
                from: Vec::with_capacity(nodes),
            });
        }
        for src in 0..nodes {
            for dst in 0..nodes {
                let (to, from) = if src == dst {
                    (None, None)
                } else {
                    let (sender, receiver) = bounded(lane_capacity.max(1));
                    (Some((sender, ends[dst].doorbell.bell())), Some(receiver))
                };
                ends[src].to.push(to);
                ends[dst].from.push(from);
            }
        }
        Ok(ends)
    }
}

impl<T> MeshEnd<T> {
    /// This end's node.
    pub fn node(&self) -> usize {
        self.node
    }

    /// Number of nodes in the mesh, this one included.
    pub fn nodes(&self) -> usize {
        self.to.len()
    }

    /// Puts a message into the lane to `dst` and wakes it if it sleeps. Gives the message back when
    /// the lane is full, when the node is gone, and when `dst` is this node or none.
    pub fn try_send(&self, dst: usize, message: T) -> Result<(), T> {
        let Some(Some((lane, bell))) = self.to.get(dst) else {
            return Err(message);
        };
        push(lane, bell, message)
    }

    /// The next message from `src`, in the order in which it was sent.
    pub fn try_recv(&self, src: usize) -> Option<T> {
        pop(self.from.get(src)?.as_ref()?)
    }

    /// True when some lane to this node holds a message.
    pub fn has_pending(&self) -> bool {
        self.from.iter().flatten().any(|lane| !lane.is_empty())
    }

    /// Says that this node is about to wait for its doorbell. False when a lane holds a message: the
    /// node is awake and has work.
    pub fn prepare_sleep(&self) -> bool {
        self.prepare_sleep_with(|| false)
    }

    /// [`prepare_sleep`](Self::prepare_sleep) for a node that also has inboxes on the same doorbell:
    /// `also_pending` must look into all of them.
    pub fn prepare_sleep_with(&self, also_pending: impl FnOnce() -> bool) -> bool {
        self.doorbell.prepare_sleep(|| self.has_pending() || also_pending())
    }

    /// Says that this node works again: senders need not ring.
    pub fn awake(&self) {
        self.doorbell.awake();
    }

    /// The descriptor to wait for, readable when somebody rang.
    pub fn doorbell_fd(&self) -> BorrowedFd<'_> {
        self.doorbell.as_fd()
    }

    /// Makes the doorbell's descriptor unreadable again. True when somebody had rung.
    pub fn drain_doorbell(&self) -> bool {
        self.doorbell.drain()
    }

    /// The doorbell, to hang inboxes on it.
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }
}

/// A bounded inbox that any thread can fill, on the doorbell of the node that empties it.
pub fn inbox<T>(doorbell: &Doorbell, capacity: usize) -> (InboxSender<T>, Inbox<T>) {
    let (sender, receiver) = bounded(capacity.max(1));
    (InboxSender { lane: sender, bell: doorbell.bell() }, Inbox { lane: receiver })
}

impl<T> InboxSender<T> {
    /// Puts a message into the inbox and wakes its node if it sleeps. Gives the message back when the
    /// inbox is full or its node is gone.
    pub fn try_send(&self, message: T) -> Result<(), T> {
        push(&self.lane, &self.bell, message)
    }
}

impl<T> Clone for InboxSender<T> {
    fn clone(&self) -> Self {
        Self { lane: self.lane.clone(), bell: self.bell.clone() }
    }
}

impl<T> Inbox<T> {
    /// The next message, in the order of arrival.
    pub fn try_recv(&self) -> Option<T> {
        pop(&self.lane)
    }

    /// True when the inbox holds a message.
    pub fn has_pending(&self) -> bool {
        !self.lane.is_empty()
    }
}

fn push<T>(lane: &Sender<T>, bell: &Bell, message: T) -> Result<(), T> {
    match lane.try_send(message) {
        Ok(()) => {
            bell.ring_if_asleep();
            Ok(())
        }
        Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => Err(message),
    }
}

fn pop<T>(lane: &Receiver<T>) -> Option<T> {
    lane.try_recv().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Blocks until the doorbell rings; panics when that takes 20 s, which no correct run needs.
    fn block_on(doorbell: BorrowedFd<'_>) {
        use std::os::fd::AsRawFd;
        let mut poll = libc::pollfd { fd: doorbell.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        let ready = unsafe { libc::poll(&mut poll, 1, 20_000) };
        assert_eq!(ready, 1, "the receiver slept over a message");
    }

    #[test]
    fn lanes_keep_the_order_and_the_sender() {
        let ends = Mesh::new::<u32>(3, 4).unwrap();
        ends[0].try_send(2, 1).unwrap();
        ends[0].try_send(2, 2).unwrap();
        ends[1].try_send(2, 3).unwrap();
        assert!(ends[2].has_pending());
        assert_eq!(ends[2].try_recv(0), Some(1));
        assert_eq!(ends[2].try_recv(1), Some(3));
        assert_eq!(ends[2].try_recv(0), Some(2));
        assert_eq!(ends[2].try_recv(0), None);
        assert!(!ends[2].has_pending());
    }

    #[test]
    fn a_full_lane_and_a_missing_node_give_the_message_back() {
        let ends = Mesh::new::<u32>(2, 1).unwrap();
        ends[0].try_send(1, 1).unwrap();
        assert_eq!(ends[0].try_send(1, 2), Err(2));
        assert_eq!(ends[0].try_send(0, 3), Err(3));
        assert_eq!(ends[0].try_send(9, 4), Err(4));
    }

    #[test]
    fn a_node_with_messages_in_lane_or_inbox_does_not_sleep() {
        let ends = Mesh::new::<u32>(2, 1).unwrap();
        let (sender, inbox) = inbox::<u8>(ends[1].doorbell(), 1);
        ends[0].try_send(1, 1).unwrap();
        assert!(!ends[1].prepare_sleep());
        ends[1].try_recv(0).unwrap();
        sender.try_send(7).unwrap();
        assert_eq!(sender.try_send(8), Err(8));
        assert!(!ends[1].prepare_sleep_with(|| inbox.has_pending()));
        assert_eq!(inbox.try_recv(), Some(7));
        assert!(ends[1].prepare_sleep_with(|| inbox.has_pending()));
        sender.clone().try_send(9).unwrap();
        assert!(ends[1].drain_doorbell());
    }

    /// Two senders ping a receiver that sleeps whenever it finds nothing, in lock step: every message
    /// is sent only after the last one was seen, so that nearly every one meets a receiver about to
    /// sleep and a lost wake-up ends the exchange (and the test) at once.
    #[test]
    fn no_wake_up_is_lost() {
        const ROUNDS: u64 = 100_000;
        static SEEN: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
        let mut ends = Mesh::new::<u64>(3, 2).unwrap();
        let receiver = ends.pop().unwrap();
        let (inbox_sender, inbox) = inbox::<u64>(receiver.doorbell(), 2);
        let lane_sender = ends.remove(0);
        thread::scope(|scope| {
            let one = scope.spawn(move || send_rounds(0, |n| lane_sender.try_send(2, n)));
            let two = scope.spawn(move || send_rounds(1, |n| inbox_sender.try_send(n)));
            let (mut lane_count, mut inbox_count) = (0, 0);
            while lane_count < ROUNDS || inbox_count < ROUNDS {
                let mut idle = true;
                if let Some(message) = receiver.try_recv(0) {
                    lane_count += 1;
                    assert_eq!(message, lane_count);
                    SEEN[0].store(message, Ordering::Release);
                    idle = false;
                }
                if let Some(message) = inbox.try_recv() {
                    inbox_count += 1;
                    assert_eq!(message, inbox_count);
                    SEEN[1].store(message, Ordering::Release);
                    idle = false;
                }
                if idle && receiver.prepare_sleep_with(|| inbox.has_pending()) {
                    block_on(receiver.doorbell_fd());
                    receiver.awake();
                    receiver.drain_doorbell();
                }
            }
            one.join().unwrap();
            two.join().unwrap();
        });

        fn send_rounds(sender: usize, try_send: impl Fn(u64) -> Result<(), u64>) {
            for round in 1..=ROUNDS {
                while SEEN[sender].load(Ordering::Acquire) < round - 1 {
                    thread::yield_now();
                }
                // Odd pauses, so that the send meets every point of the receiver's way to sleep.
                for _ in 0..(round * 37 % 101) {
                    std::hint::spin_loop();
                }
                try_send(round).expect("the lane is empty");
            }
        }
    }

    #[test]
    fn a_flood_arrives_whole_while_the_receiver_sleeps_and_wakes() {
        const MESSAGES: u64 = 200_000;
        let mut ends = Mesh::new::<u64>(2, 8).unwrap();
        let receiver = ends.pop().unwrap();
        let sender = ends.pop().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..MESSAGES {
                    while sender.try_send(1, n).is_err() {
                        thread::yield_now();
                    }
                    if n % 5_000 == 0 {
                        thread::sleep(Duration::from_micros(50));
                    }
                }
            });
            let mut next = 0;
            while next < MESSAGES {
                while let Some(message) = receiver.try_recv(0) {
                    assert_eq!(message, next);
                    next += 1;
                }
                if next < MESSAGES && receiver.prepare_sleep() {
                    block_on(receiver.doorbell_fd());
                    receiver.awake();
                    receiver.drain_doorbell();
                }
            }
        });
    }
}
