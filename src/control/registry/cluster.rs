//! What the registry leaves to the cluster: whether another node publishes a name, or has a stream that is
//! wanted here. In a server of its own nothing of it happens.

use std::net::{IpAddr, SocketAddr};

use super::stream::{Asker, Contender, Phase};
use super::{Gate, OWNER_ANSWER_MAX, Outgoing, Registry, taken};
use crate::media::{Moment, StreamId};
use crate::proto::name::StreamName;
use crate::session::{Ask, Fetched, Refusal, Verdict, Want};
use crate::shard::{AskToken, Notice};

/// What the cluster is asked, and told, next.
#[derive(Debug, Default)]
pub(super) struct Clustered {
    /// Questions about publishing that pass everything here.
    pub(super) unleased: Vec<(AskToken, Ask)>,
    /// Questions about streams that nobody publishes here.
    pub(super) unlooked: Vec<(AskToken, Ask)>,
    /// What became of publishers of other nodes that wanted a name of this one: given up, or a sentence.
    pub(super) contests: Vec<(u64, Result<(), String>)>,
}

impl Registry {
    /// Questions about publishing that only a lease of the name is wanting for. Each is answered after
    /// [`Registry::leased`] or [`Registry::refused`].
    pub fn take_unleased(&mut self) -> Vec<(AskToken, Ask)> {
        std::mem::take(&mut self.clustered.unleased)
    }

    /// Questions about streams that other nodes may have. Each is answered after
    /// [`Registry::looked_up`].
    pub fn take_unlooked(&mut self) -> Vec<(AskToken, Ask)> {
        std::mem::take(&mut self.clustered.unlooked)
    }

    /// Answers to [`Registry::contend`].
    pub fn take_contests(&mut self) -> Vec<(u64, Result<(), String>)> {
        std::mem::take(&mut self.clustered.contests)
    }

    /// The name is this node's: the publisher may have it.
    pub fn leased(&mut self, token: AskToken, ask: &Ask, now: Moment, out: &mut Outgoing) {
        self.consider(token, ask, Gate::Leased, now, out);
    }

    /// The other nodes were asked for the stream.
    pub fn looked_up(
        &mut self,
        token: AskToken,
        ask: &Ask,
        is_elsewhere: bool,
        now: Moment,
        out: &mut Outgoing,
    ) {
        self.consider(token, ask, Gate::LookedUp { is_elsewhere }, now, out);
    }

    /// A publisher of another node wants a name. The policy for take-overs decides as if it had come here;
    /// the answer is among [`Registry::take_contests`] under `contest`.
    pub fn contend(
        &mut self,
        contest: u64,
        name: &StreamName,
        peer: SocketAddr,
        now: Moment,
        out: &mut Outgoing,
    ) {
        let id = self.ids.get(name).copied().filter(|_| self.is_published(name));
        let word = match id {
            None => Ok(()),
            Some(id) => {
                let asker = Asker::Remote(contest, peer);
                match self.oppose(id, asker, Gate::None, now, out) {
                    // It contends, and is answered then.
                    Ok(()) => return,
                    Err(refusal) => Err(refusal.description),
                }
            }
        };
        self.clustered.contests.push((contest, word));
    }

    /// The name belongs to another node by now: its publisher here has to go.
    pub fn fence(&mut self, name: &StreamName, by: &str, out: &mut Outgoing) {
        let found = self.ids.get(name).and_then(|id| Some((*id, self.streams.get(id)?)));
        if let Some((id, stream)) = found
            && let Some(publisher) = stream.publisher.as_ref().filter(|it| !it.is_copy())
        {
            let (epoch, by) = (publisher.epoch, by.to_owned());
            out.push((publisher.node, Notice::Replace { stream: id, epoch, by }));
        }
    }

    /// A publisher of this node has taken the name from one of another node, which counts as if both had
    /// been here: two encoders that fight may do so by way of two nodes.
    pub fn has_taken_over(&mut self, name: &StreamName, by: IpAddr, now: Moment) {
        self.counters.takeovers += 1;
        if let Some(stream) = self.ids.get(name).and_then(|id| self.streams.get_mut(id)) {
            stream.taken_over(by, now);
        }
    }

    /// Whether a client of this node, or a relay that makes a second name of one's stream, publishes the
    /// name and has begun.
    pub fn has_publisher(&self, name: &StreamName) -> bool {
        let found = self.ids.get(name).and_then(|id| self.streams.get(id));
        let publisher = found.and_then(|stream| stream.publisher.as_ref());
        publisher.is_some_and(|it| it.started && it.client.fetched == Fetched::No)
    }

    /// Whether a client of this node has the name, or a relay that makes a second name of one's stream.
    pub fn is_clients(&self, name: &StreamName) -> bool {
        let found = self.ids.get(name).and_then(|id| self.streams.get(id));
        let publisher = found.and_then(|stream| stream.publisher.as_ref());
        publisher.is_some_and(|it| it.client.fetched == Fetched::No)
    }

    /// Streams with viewers that nobody publishes on this node: they have none, or a copy.
    pub fn viewed_from_elsewhere(&self) -> Vec<StreamName> {
        let is_it = |name: &&StreamName| self.is_viewed(name) && !self.is_published(name);
        self.ids.keys().filter(is_it).cloned().collect()
    }

    /// Whether the node has to own the name before this is answered.
    pub(super) fn needs_lease(&self, ask: &Ask) -> bool {
        self.settings.cluster.is_some() && ask.client.fetched == Fetched::No
    }

    /// Whether the other nodes have to be asked before this is answered: it would be refused otherwise.
    pub(super) fn needs_look_up(
        &self,
        ask: &Ask,
        name: &StreamName,
        http: bool,
        gate: Gate,
    ) -> bool {
        if self.settings.cluster.is_none()
            || ask.client.is_relay
            || matches!(gate, Gate::LookedUp { .. })
        {
            return false;
        }
        let settings = self.settings.app(name.vhost(), name.app(), name.instance());
        let found = self.ids.get(name).and_then(|id| self.streams.get(id));
        let is_missing =
            found.is_none_or(|stream| stream.publisher.is_none() && stream.gap_until.is_none());
        is_missing
            && settings.pull.is_empty()
            && ask.wishes.redirect.is_empty()
            && !self.settings.waits_for_publisher(&settings, http)
            && self.play_denied(ask, name, http).is_none()
    }

    /// A copy of the stream is published here, and makes room.
    pub(super) fn succeed(
        &mut self,
        id: StreamId,
        token: AskToken,
        ask: &Ask,
        now: Moment,
        out: &mut Outgoing,
    ) -> Option<Verdict> {
        let stream = self.streams.get_mut(&id)?;
        let publisher = stream.publisher.as_ref()?;
        if stream.contender.is_some() {
            let refusal: Refusal = taken(&stream.name, publisher);
            return Some(Verdict::Refuse(refusal));
        }
        let by = match &ask.what {
            Want::Publish { .. } if ask.client.is_relay => "a newer copy".to_owned(),
            _ => ask.peer.to_string(),
        };
        out.push((publisher.node, Notice::Replace { stream: id, epoch: publisher.epoch, by }));
        stream.contender = Some(Contender {
            asker: Asker::Local(token, Box::new(ask.clone())),
            is_judged: true,
            phase: Phase::Succeeding,
            deadline: now + OWNER_ANSWER_MAX,
            is_gone: false,
        });
        self.timed.insert(id);
        None
    }
}
