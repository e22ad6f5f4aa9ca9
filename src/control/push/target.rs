//! One channel or user that has members.

use std::collections::{BTreeMap, BTreeSet};

use crate::proto::push_message::PushAddress;
use crate::session::{ClientId, PushTarget, PushWire};
use crate::shard::Node;

/// Names a channel or user.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    /// Number of the vhost.
    pub(super) vhost: u32,
    pub(super) address: PushAddress,
}

/// A channel or user.
#[derive(Debug)]
pub(super) struct Target {
    /// As the shards know it.
    pub(super) id: PushTarget,
    members: BTreeSet<ClientId>,
    /// Shards with members.
    nodes: BTreeMap<Node, Wires>,
}

/// Members by the form in which they get messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wires {
    pub(super) rtmp: usize,
    pub(super) sse: usize,
    pub(super) websocket: usize,
}

impl Wires {
    fn of(&mut self, wire: PushWire) -> &mut usize {
        match wire {
            PushWire::Rtmp => &mut self.rtmp,
            PushWire::Sse => &mut self.sse,
            PushWire::WebSocket => &mut self.websocket,
        }
    }

    fn total(self) -> usize {
        self.rtmp + self.sse + self.websocket
    }
}

impl Target {
    pub(super) fn new(id: PushTarget) -> Self {
        Self { id, members: BTreeSet::new(), nodes: BTreeMap::new() }
    }

    pub(super) fn join(&mut self, client: ClientId, node: Node, wire: PushWire) {
        if self.members.insert(client) {
            *self.nodes.entry(node).or_default().of(wire) += 1;
        }
    }

    pub(super) fn leave(&mut self, client: ClientId, node: Node, wire: PushWire) {
        if !self.members.remove(&client) {
            return;
        }
        if let Some(wires) = self.nodes.get_mut(&node) {
            *wires.of(wire) -= 1;
            if wires.total() == 0 {
                self.nodes.remove(&node);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Its connections.
    pub(super) fn members(&self) -> &BTreeSet<ClientId> {
        &self.members
    }

    /// Shards that hold some of them.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Node> {
        self.nodes.keys().copied()
    }

    /// All members by form.
    pub(super) fn wires(&self) -> Wires {
        self.nodes.values().fold(Wires::default(), |sum, wires| Wires {
            rtmp: sum.rtmp + wires.rtmp,
            sse: sum.sse + wires.sse,
            websocket: sum.websocket + wires.websocket,
        })
    }
}
