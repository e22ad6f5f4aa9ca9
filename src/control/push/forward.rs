//! Messages on their way to members on other nodes of the cluster: each is said there once, in the order in
//! which this node took them.

use std::collections::VecDeque;

use crate::limits;
use crate::proto::push_message::{PushAddress, PushBody};

/// A message for members on other nodes.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::control) struct Forward {
    /// Its vhost.
    pub(in crate::control) vhost: String,
    /// For whom.
    pub(in crate::control) address: PushAddress,
    /// What.
    pub(in crate::control) body: PushBody,
}

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    waiting: VecDeque<(Forward, usize)>,
    bytes: usize,
}

impl Forwards {
    /// Whether the next message has to wait with who posts it.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= limits::CLUSTER_PUSHES_MAX
            || self.bytes >= limits::CLUSTER_PUSH_BYTES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn put(&mut self, forward: Forward) {
        let bytes = forward.body.len();
        self.bytes += bytes;
        self.waiting.push_back((forward, bytes));
    }

    /// The oldest ones: at least one, and about so many bytes.
    pub(super) fn take(&mut self, bytes_max: usize) -> Vec<Forward> {
        let mut taken = Vec::new();
        let mut sum = 0;
        while sum < bytes_max
            && let Some((forward, bytes)) = self.waiting.pop_front()
        {
            sum += bytes.max(1);
            self.bytes -= bytes;
            taken.push(forward);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(text: &str) -> Forward {
        let address = PushAddress::Channel(1.into());
        Forward { vhost: "v".to_owned(), address, body: PushBody::Text(text.to_owned()) }
    }

    #[test]
    fn messages_leave_in_order_and_a_full_queue_says_so() {
        let mut forwards = Forwards::default();
        let mut count = 0;
        while !forwards.is_full() {
            forwards.put(forward(&format!("{count}")));
            count += 1;
        }
        assert_eq!(count, limits::CLUSTER_PUSHES_MAX);
        let mut next = 0;
        while !forwards.is_empty() {
            for taken in forwards.take(100) {
                assert_eq!(taken, forward(&format!("{next}")));
                next += 1;
            }
            assert!(!forwards.is_full());
        }
        assert_eq!((next, forwards.bytes), (count, 0));
        let long = "x".repeat(limits::CLUSTER_PUSH_BYTES_MAX);
        forwards.put(forward(&long));
        assert!(forwards.is_full());
        assert_eq!(forwards.take(1).len(), 1, "one that is longer than a portion goes alone");
    }
}
