//! What the API's tasks want the shards to do; the control shard's loop says it to them.

use std::cell::RefCell;
use std::rc::Rc;

use crate::rt::doorbell::Bell;
use crate::shard::{Node, Notice};

/// Notices on their way to the control shard's loop, which lives on the same thread.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    waiting: Rc<RefCell<Vec<(Node, Notice)>>>,
    bell: Bell,
}

impl Orders {
    pub(super) fn new(bell: Bell) -> Self {
        Self { waiting: Rc::default(), bell }
    }

    /// Says something to a shard.
    pub(super) fn give(&self, node: Node, notice: Notice) {
        self.waiting.borrow_mut().push((node, notice));
        self.bell.ring_if_asleep();
    }

    /// Lets the loop look at what has changed.
    pub(super) fn wake(&self) {
        self.bell.ring_if_asleep();
    }

    /// What is to be said.
    pub(super) fn take(&self) -> Vec<(Node, Notice)> {
        self.waiting.take()
    }

    /// Whether something is to be said.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }
}
