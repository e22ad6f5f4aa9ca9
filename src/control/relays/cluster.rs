//! Streams that other nodes of the cluster own: fetched like those of a rule, from where the cluster says.

use std::sync::Arc;

use super::relay::{Direction, Origin, Relay, State};
use super::{Outgoing, Plan, Relays};
use crate::config::RelayRule;
use crate::media::Moment;
use crate::proto::name::StreamName;
use crate::proto::rtmp::node_path::NodePath;
use crate::session::RelayId;

impl Relays {
    /// Fetches a stream from its owner, from now on and from nowhere else.
    pub(in crate::control) fn fetch_from(
        &mut self,
        name: &StreamName,
        rule: &Arc<RelayRule>,
        nodes: &NodePath,
        now: Moment,
        out: &mut Outgoing,
    ) {
        let present = self.relays.values_mut().find(|relay| relay.fetches(name));
        if let Some(relay) = present.filter(|relay| *relay.rule == **rule) {
            relay.linger_until = None;
            if let State::Retrying { .. } = relay.state {
                let id = relay.id;
                self.open(id, out);
            }
            return;
        }
        self.end_fetch(name, out);
        if !self.fetches(name) {
            let (direction, origin) = (Direction::Pull, Origin::Cluster);
            self.add(Plan { direction, origin, name, rule }, nodes, now, out);
        }
    }

    /// The owner of a stream cannot be looked up: the one that had it is asked again.
    pub(in crate::control) fn fetch_again(&mut self, name: &StreamName, out: &mut Outgoing) {
        let is_it =
            |relay: &&Relay| is_copy(relay, name) && matches!(relay.state, State::Retrying { .. });
        if let Some(id) = self.relays.values().find(is_it).map(|relay| relay.id) {
            self.open(id, out);
        }
    }

    /// Fetches a stream of the cluster no longer.
    pub(in crate::control) fn end_fetch(&mut self, name: &StreamName, out: &mut Outgoing) {
        self.end_where(|relay| is_copy(relay, name), out);
    }

    /// The same if it does not come just now: no node has it.
    pub(in crate::control) fn end_broken_fetch(&mut self, name: &StreamName, out: &mut Outgoing) {
        let is_broken =
            |relay: &Relay| is_copy(relay, name) && matches!(relay.state, State::Retrying { .. });
        self.end_where(is_broken, out);
    }

    /// A stream that was published here is a copy by now: it is sent on by the node that owns it.
    pub(in crate::control) fn end_pushes(&mut self, name: &StreamName, out: &mut Outgoing) {
        let is_it = |relay: &Relay| relay.is_push() && relay.name == *name;
        let gone: Vec<RelayId> =
            self.relays.values().filter(|it| is_it(it)).map(|it| it.id).collect();
        self.dismiss(&gone, out);
    }

    /// Whether a stream is fetched, by whatever rule.
    pub(in crate::control) fn fetches(&self, name: &StreamName) -> bool {
        self.relays.values().any(|relay| relay.fetches(name))
    }

    /// Streams whose copies have broken off, and are wanted still: whose are they now?
    pub(in crate::control) fn take_unsourced(&mut self) -> Vec<StreamName> {
        std::mem::take(&mut self.unsourced)
    }

    /// Streams that are fetched from other nodes: name, and from where.
    pub(in crate::control) fn copies(&self) -> impl Iterator<Item = (&StreamName, String)> {
        let copies = self.relays.values().filter(|relay| relay.origin == Origin::Cluster);
        copies.map(|relay| (&relay.name, relay.url()))
    }
}

fn is_copy(relay: &Relay, name: &StreamName) -> bool {
    relay.fetches(name) && relay.origin == Origin::Cluster
}
