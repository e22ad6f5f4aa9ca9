//! The node's part in the cluster: what the registry, relays and the push channel want of it goes to Redis,
//! and what Redis and the other nodes say comes back to them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::leases::{Answer, Effect, Leases, Owner};
use super::lookups::Lookups;
use super::message::{
    self, NodeText, PUSH_CHANNEL, PushText, STREAMS_CHANNEL, node_channel, stream_of, stream_text,
};
use super::pulls::Pulls;
use super::pushes::{Ears, Speaker};
use super::store::Store;
use super::worker::{Plan, Round, StoreEvent};
use crate::config::{ClusterSettings, RelayRule};
use crate::control::events::{Events, Happening};
use crate::control::push::{Forward, Push, unix_s};
use crate::control::registry::{Outgoing, Registry, StreamEvent};
use crate::control::relays::Relays;
use crate::control::settings::CurrentSettings;
use crate::limits;
use crate::media::Moment;
use crate::proto::amf0::Value as Amf;
use crate::proto::name::StreamName;
use crate::proto::rtmp::cluster_link;
use crate::proto::rtmp::node_path::NodePath;
use crate::rt::doorbell::Doorbell;
use crate::session::{
    Ask, ClientInfo, Departure, Fetched, Grant, Refusal, RefusalReason, RelayOrder, Task, Verdict,
    Want,
};
use crate::shard::{AskToken, Notice};

/// Events of Redis taken in one turn.
const EVENTS_PER_TURN: usize = 1_000;
/// The owner's policy may wait for the silence of its publisher (`publish.silent`), and so much longer.
const CONTEST_EXTRA: Duration = Duration::from_secs(3);
/// How soon messages that found no room on the way to members are tried again.
const ROOM_RETRY: Duration = Duration::from_millis(5);

/// What the cluster works with.
pub(in crate::control) struct Parts<'a> {
    pub(in crate::control) registry: &'a mut Registry,
    pub(in crate::control) relays: &'a mut Relays,
    pub(in crate::control) push: &'a Push,
    pub(in crate::control) events: &'a Events,
}

impl Parts<'_> {
    /// Tells those who listen to the API, of a stream or of the node as a whole.
    fn tell(&self, event: &'static str, name: Option<&StreamName>, more: Value) {
        let app = name.map(StreamName::app_text);
        self.events.say(Happening {
            event,
            vhost: name.map_or("", StreamName::vhost),
            app: app.as_deref().unwrap_or_default(),
            stream: name.map_or("", StreamName::stream),
            more,
        });
    }
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(in crate::control) struct ClusterCounters {
    /// Times that Redis answered again, the first one included.
    pub(in crate::control) redis_up: u64,
    /// Times that it stopped answering.
    pub(in crate::control) redis_down: u64,
    /// Publishers that were let in with a lease.
    pub(in crate::control) leased: u64,
    /// Publishers that were let in without one, because Redis was away.
    pub(in crate::control) unleased: u64,
    /// Times that a stream had no lease: it was published without one, or the lease ran out.
    pub(in crate::control) lease_lost: u64,
    /// Publishers that were not let in because another node publishes the name.
    pub(in crate::control) refused: u64,
    /// Names that this node gave up for a publisher of another one.
    pub(in crate::control) yielded: u64,
    /// Publishers that were closed because another node owned the name by then.
    pub(in crate::control) fenced: u64,
    /// Streams that were looked for on other nodes.
    pub(in crate::control) lookups: u64,
    /// Those that were found.
    pub(in crate::control) found: u64,
    /// Those that nobody could look for, because Redis was away or too many were wanted.
    pub(in crate::control) lookups_failed: u64,
    /// Connections of other nodes that were let fetch a stream.
    pub(in crate::control) pulls: u64,
    /// Those that were not: the stream was not this node's.
    pub(in crate::control) pulls_refused: u64,
    /// Push messages said to other nodes, as Redis has confirmed.
    pub(in crate::control) pushes_said: u64,
    /// Push messages of other nodes.
    pub(in crate::control) pushes_heard: u64,
    /// Push messages of this node that no other one may have heard, and those of others that this one has
    /// missed or had no room for.
    pub(in crate::control) pushes_lost: u64,
}

/// The node in its cluster.
pub(in crate::control) struct Cluster {
    pub(super) node: &'static str,
    pub(super) plan: ClusterSettings,
    settings: CurrentSettings,
    store: Store,
    link: Option<Link>,
    /// What only nodes of this cluster know, as soon as Redis has told; it stays when Redis is away.
    secret: Option<String>,
    /// Since when Redis is away.
    pub(super) down_since: Option<Moment>,
    sent: Option<Sent>,
    pub(super) leases: Leases<AskToken>,
    /// Publishers that wait for a lease.
    asks: HashMap<AskToken, Ask>,
    lookups: Lookups<(AskToken, Ask)>,
    /// What is to be said to other nodes: channel, text, and the contest that it asks about.
    texts: Vec<(String, String, Option<u64>)>,
    /// Contests of other nodes: who asks, and under which number.
    contests: HashMap<u64, (String, u64)>,
    next_contest: u64,
    speaker: Speaker,
    ears: Ears,
    heard: VecDeque<PushText>,
    pub(super) pulls: Pulls,
    counters: ClusterCounters,
}

struct Link {
    generation: u64,
    secret: String,
}

/// The round that Redis works at.
struct Sent {
    at: Moment,
    claims: Vec<StreamName>,
    lookups: Vec<StreamName>,
    /// Of each text that was said to a node: the contest that it asked about. Those for all come after them.
    contests: Vec<Option<u64>>,
}

impl Cluster {
    /// The cluster that the settings name, if they do. Whoever sleeps at `doorbell` is woken by events.
    ///
    /// # Errors
    /// Redis cannot be used; the sentence says why.
    pub(in crate::control) fn new(
        settings: &CurrentSettings,
        doorbell: &Doorbell,
        now: Moment,
    ) -> Result<Option<Self>, String> {
        let (node, plan) = {
            let settings = settings.get();
            let Some(plan) = settings.cluster.clone() else { return Ok(None) };
            (settings.node, plan)
        };
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(|error| format!("no random bytes: {error}"))?;
        let of_store = Plan {
            node: node.to_owned(),
            address: plan.advertise.clone(),
            lease: plan.lease,
            secret: format!("{:032x}", u128::from_ne_bytes(secret)),
        };
        Ok(Some(Self {
            node,
            store: Store::start(&plan.redis, of_store, doorbell)?,
            leases: Leases::new(plan.lease),
            plan,
            settings: settings.clone(),
            link: None,
            secret: None,
            down_since: Some(now),
            sent: None,
            asks: HashMap::new(),
            lookups: Lookups::default(),
            texts: Vec::new(),
            contests: HashMap::new(),
            next_contest: 1,
            speaker: Speaker::default(),
            ears: Ears::default(),
            heard: VecDeque::new(),
            pulls: Pulls::default(),
            counters: ClusterCounters::default(),
        }))
    }

    /// The counters.
    pub(in crate::control) fn counters(&self) -> ClusterCounters {
        self.counters
    }

    /// Whether Redis answers.
    pub(in crate::control) fn is_up(&self) -> bool {
        self.link.is_some()
    }

    /// Whether there is something to take in.
    pub(in crate::control) fn has_events(&self) -> bool {
        self.store.has_events()
    }

    /// Whether more could be said to other nodes at once, or dropped.
    pub(in crate::control) fn takes_forwards(&self) -> bool {
        self.sent.is_none() && !self.speaker.pauses()
    }

    /// When [`Cluster::turn`] has something to do anyway.
    pub(in crate::control) fn next_deadline(&self, now: Moment) -> Option<Moment> {
        let room = (!self.heard.is_empty()).then(|| now + ROOM_RETRY);
        // While Redis works at a round the next one waits.
        let is_free = |at: &Moment| self.sent.is_none() || *at > now;
        let leases = self.leases.next_deadline().filter(is_free);
        let pushes = self.speaker.next_deadline(self.link.is_some()).filter(is_free);
        [room, leases, pushes].into_iter().flatten().min()
    }

    /// A question comes from another node: lifts the rules and limits for clients, and says under which
    /// number the stream that it wants is owned here. `None` for all other questions.
    pub(in crate::control) fn admit(
        &mut self,
        ask: &mut Ask,
        registry: &Registry,
        now: Moment,
    ) -> Result<Option<u64>, Refusal> {
        let client = &ask.client;
        match &ask.what {
            Want::Connect => {
                let Some(word) = &client.link else { return Ok(None) };
                let Some(link) = &self.link else {
                    let text = "this node cannot tell who is in its cluster: its Redis is away";
                    return Err(Refusal::new(RefusalReason::Unavailable, text));
                };
                let node = client.nodes.last().unwrap_or_default();
                let stream = cluster_link::stream_of(word, &link.secret, node, unix_s());
                let Some(name) = stream.and_then(stream_of) else {
                    let text = "the connection names a node that is not in the cluster of this one, or \
                                whose clock is more than a minute away";
                    return Err(Refusal::new(RefusalReason::Denied, text));
                };
                self.pulls.connected(client.id, name);
            }
            // Nodes only fetch from each other; whoever has overheard a word does not get in by it.
            Want::Publish { name, .. } if self.pulls.is_node(client.id) => {
                let text = format!("{name} may not be published by a node that fetches a stream");
                return Err(Refusal::new(RefusalReason::Denied, text));
            }
            Want::Play { name, .. } if self.pulls.is_node(client.id) => {
                let is_given =
                    registry.has_publisher(name) && self.pulls.may_fetch(client.id, name);
                let epoch = self.leases.epoch(name, now).filter(|_| is_given);
                let Some(epoch) = epoch else {
                    self.counters.pulls_refused += 1;
                    let text = format!("{name} is not owned by node {}", self.node);
                    return Err(Refusal::new(RefusalReason::NotPublished, text));
                };
                ask.client = as_relay(client);
                return Ok(Some(epoch));
            }
            _ => return Ok(None),
        }
        ask.client = as_relay(&ask.client);
        Ok(None)
    }

    /// What the registry has said to the question of another node, which gets to know the number.
    pub(in crate::control) fn admitted(
        &mut self,
        token: AskToken,
        ask: &Ask,
        epoch: u64,
        said: &mut Outgoing,
    ) {
        let Want::Play { name, .. } = &ask.what else { return };
        for (_, notice) in said {
            if let Notice::Verdict(of, verdict) = notice
                && *of == token
                && let Verdict::Accept(Grant::Play { lease, .. }) = &mut **verdict
            {
                *lease = Some(epoch);
                self.counters.pulls += 1;
                self.pulls.begun(ask.client.id, token, name);
            }
        }
    }

    /// Gives a connection to another node the word that shows whose it is. It is made when the connection
    /// stands, because it does not hold for long.
    pub(in crate::control) fn sign(&self, order: &mut Arc<RelayOrder>) {
        if order.fetched != Fetched::InCluster {
            return;
        }
        if let (Task::Remote(remote), Some(secret)) = (&mut Arc::make_mut(order).task, &self.secret)
        {
            for (key, value) in &mut remote.client.connect_properties {
                if key == cluster_link::LINK_PROPERTY {
                    let stream = value.as_str().unwrap_or_default();
                    let word = cluster_link::word(secret, self.node, stream, unix_s());
                    *value = Amf::from(word.as_str());
                }
            }
        }
    }

    /// A connection is gone. One of another node was no client.
    pub(in crate::control) fn gone(&mut self, gone: &mut Departure) {
        gone.is_relay |= self.pulls.gone(gone.id);
    }

    /// Nobody awaits the answer to this question about publishing any more. Whether other nodes were asked
    /// about it; then no verdict follows.
    pub(in crate::control) fn withdrawn(&mut self, token: AskToken, registry: &Registry) -> bool {
        let was_asked = self.asks.remove(&token).is_some();
        self.leases.withdrawn(token, |name| registry.is_clients(name));
        was_asked
    }

    /// A question was answered.
    pub(in crate::control) fn answered(&mut self, token: AskToken, registry: &Registry) {
        self.leases.settled(token, |name| registry.is_clients(name));
    }

    /// Something has happened to a stream; relays have heard it.
    pub(in crate::control) fn stream_event(
        &mut self,
        event: &StreamEvent,
        registry: &Registry,
        relays: &mut Relays,
        out: &mut Outgoing,
    ) {
        match event {
            StreamEvent::Up { name, publisher, .. } => match publisher.fetched {
                Fetched::InCluster => {
                    self.pulls.end(name, out);
                    relays.end_pushes(name, out);
                }
                Fetched::No => relays.end_fetch(name, out),
                Fetched::ByRule => {}
            },
            StreamEvent::Freed { name } => {
                self.leases.freed(name);
                if registry.is_viewed(name) {
                    self.want(name, NodePath::default(), relays, out);
                }
            }
            StreamEvent::Wanted { name, nodes, .. } if !relays.fetches(name) => {
                self.want(name, nodes.clone(), relays, out);
            }
            _ => {}
        }
    }

    /// A stream that nobody publishes here has viewers.
    fn want(
        &mut self,
        name: &StreamName,
        nodes: NodePath,
        relays: &mut Relays,
        out: &mut Outgoing,
    ) {
        if self.link.is_none() || self.lookups.want(name, nodes, None).is_err() {
            self.counters.lookups_failed += 1;
            tracing::debug!(stream = %name, "no other node can be asked for the stream");
            relays.fetch_again(name, out);
        }
    }

    /// Does what there is to do.
    pub(in crate::control) fn turn(
        &mut self,
        parts: &mut Parts<'_>,
        now: Moment,
        out: &mut Outgoing,
    ) {
        for _ in 0..EVENTS_PER_TURN {
            let Some(event) = self.store.next_event() else { break };
            self.event(event, parts, now, out);
        }
        self.take_questions(parts, now, out);
        self.leases.tick(now);
        self.carry_out(parts, now, out);
        for (contest, word) in parts.registry.take_contests() {
            self.answer_contest(contest, word);
        }
        while let Some(text) = self.heard.pop_front() {
            let PushText { vhost, address, body, .. } = &text;
            if parts.push.with(|router| router.post_here(vhost, address, body, now)).is_none() {
                self.heard.push_front(text);
                break;
            }
        }
        self.send_round(parts.push, now);
    }

    fn take_questions(&mut self, parts: &mut Parts<'_>, now: Moment, out: &mut Outgoing) {
        for (token, ask) in parts.registry.take_unleased() {
            let Want::Publish { name, .. } = &ask.what else { continue };
            let app = self.settings.get().app(name.vhost(), name.app(), name.instance());
            let patience = app.publish_silent + CONTEST_EXTRA;
            let (name, peer) = (name.clone(), ask.peer);
            self.asks.insert(token, ask);
            self.leases.want(&name, token, peer, patience, now);
        }
        for (token, ask) in parts.registry.take_unlooked() {
            let Want::Play { name, .. } = &ask.what else { continue };
            let (name, nodes) = (name.clone(), ask.client.nodes.clone());
            let question = Some((token, ask));
            let refused = match &self.link {
                None => question,
                Some(_) => self.lookups.want(&name, nodes, question).err().flatten(),
            };
            if let Some((token, ask)) = refused {
                self.counters.lookups_failed += 1;
                tracing::debug!(stream = %name, "no other node can be asked for the stream");
                parts.registry.looked_up(token, &ask, false, now, out);
            }
        }
        for name in parts.relays.take_unsourced() {
            self.want(&name, NodePath::default(), parts.relays, out);
        }
    }

    fn event(&mut self, event: StoreEvent, parts: &mut Parts<'_>, now: Moment, out: &mut Outgoing) {
        match event {
            StoreEvent::Up { generation, secret } => {
                let away_ms = self.down_since.map(|since| now.since(since).as_millis() as u64);
                parts.tell("redis_up", None, json!({ "node": self.node, "away_ms": away_ms }));
                self.secret = Some(secret.clone());
                self.link = Some(Link { generation, secret });
                self.down_since = None;
                self.sent = None;
                self.counters.redis_up += 1;
                self.leases.up(now);
                self.speaker.up(now);
                // What was said meanwhile is lost: each of these may be another node's by now.
                for name in parts.registry.viewed_from_elsewhere() {
                    self.want(&name, NodePath::default(), parts.relays, out);
                }
            }
            StoreEvent::Down { generation } => {
                if self.link.as_ref().is_some_and(|link| link.generation == generation) {
                    self.down(parts, now, out);
                }
            }
            StoreEvent::Done { generation, answers, owners, heard_by } => {
                let is_current =
                    self.link.as_ref().is_some_and(|link| link.generation == generation);
                if let Some(sent) = self.sent.take_if(|_| is_current) {
                    self.done(sent, answers, owners, &heard_by, parts, now, out);
                }
            }
            StoreEvent::Heard(channel, text) if channel == STREAMS_CHANNEL => {
                if let Some((owner, name)) = message::announcement(&text) {
                    self.announced(&name, &owner, parts, now, out);
                }
            }
            StoreEvent::Heard(channel, text) if channel == PUSH_CHANNEL => {
                if let Some(text) = PushText::parse(&text).filter(|it| it.from != self.node)
                    && let Some(missed) = self.ears.hear(&text.from, text.number)
                {
                    self.counters.pushes_heard += 1;
                    self.counters.pushes_lost += missed;
                    if self.heard.len() < limits::CLUSTER_HEARD_PUSHES_MAX {
                        self.heard.push_back(text);
                    } else {
                        self.counters.pushes_lost += 1;
                    }
                }
            }
            StoreEvent::Heard(_, text) => match NodeText::parse(&text) {
                Some(NodeText::Contest { id, from, stream, epoch, peer }) => {
                    let Some(name) = stream_of(&stream) else { return };
                    let contest = self.next_contest;
                    self.next_contest += 1;
                    self.contests.insert(contest, (from, id));
                    if !parts.registry.is_published(&name) {
                        self.leases.disowned(&name, epoch);
                    }
                    if parts.registry.is_published(&name) || !self.leases.is_awaited(&name) {
                        parts.registry.contend(contest, &name, peer, now, out);
                    } else {
                        let why = format!("{name} is about to be published on node {}", self.node);
                        self.answer_contest(contest, Err(why));
                    }
                }
                Some(NodeText::Answer { id, refusal }) => {
                    self.leases.contest_answered(id, refusal.map_or(Ok(()), Err));
                }
                None => tracing::debug!(text, "another node says what this one does not know"),
            },
        }
    }

    fn down(&mut self, parts: &mut Parts<'_>, now: Moment, out: &mut Outgoing) {
        self.link = None;
        self.down_since = Some(now);
        self.sent = None;
        self.counters.redis_down += 1;
        parts.tell("redis_down", None, json!({ "node": self.node }));
        self.texts.clear();
        self.leases.down();
        self.speaker.down(now, self.plan.lease);
        for (name, wanted) in self.lookups.take_all() {
            self.counters.lookups_failed += 1;
            for (token, ask) in wanted.questions {
                parts.registry.looked_up(token, &ask, false, now, out);
            }
            parts.relays.fetch_again(&name, out);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one answer")]
    fn done(
        &mut self,
        sent: Sent,
        answers: Vec<Answer>,
        owners: Vec<Option<Owner>>,
        heard_by: &[u64],
        parts: &mut Parts<'_>,
        now: Moment,
        out: &mut Outgoing,
    ) {
        self.counters.pushes_said += self.speaker.confirmed() as u64;
        for (name, answer) in sent.claims.iter().zip(answers) {
            self.leases.answered(name, answer, sent.at, now);
        }
        for (name, owner) in sent.lookups.iter().zip(owners) {
            self.looked_up(name, owner, parts, now, out);
        }
        for (contest, heard_by) in sent.contests.iter().zip(heard_by) {
            match contest {
                Some(id) if *heard_by == 0 => self.leases.contest_unheard(*id),
                _ => {}
            }
        }
    }

    fn looked_up(
        &mut self,
        name: &StreamName,
        owner: Option<Owner>,
        parts: &mut Parts<'_>,
        now: Moment,
        out: &mut Outgoing,
    ) {
        let Some(wanted) = self.lookups.answered(name) else { return };
        self.counters.lookups += 1;
        let owner = owner.filter(|owner| owner.node != self.node);
        for (token, ask) in wanted.questions {
            parts.registry.looked_up(token, &ask, owner.is_some(), now, out);
        }
        match owner {
            Some(owner) => {
                self.counters.found += 1;
                self.fetch(name, &owner, &wanted.nodes, parts, now, out);
            }
            // Whoever takes it next says so.
            None => parts.relays.end_broken_fetch(name, out),
        }
    }

    /// Another node has taken a stream.
    fn announced(
        &mut self,
        name: &StreamName,
        owner: &Owner,
        parts: &mut Parts<'_>,
        now: Moment,
        out: &mut Outgoing,
    ) {
        if owner.node != self.node {
            self.leases.announced(name, owner);
            self.fetch(name, owner, &NodePath::default(), parts, now, out);
        }
    }

    /// Fetches a stream from its owner, if somebody here wants it and nobody here publishes it.
    fn fetch(
        &mut self,
        name: &StreamName,
        owner: &Owner,
        nodes: &NodePath,
        parts: &mut Parts<'_>,
        now: Moment,
        out: &mut Outgoing,
    ) {
        // What a rule has fetched until now may still be ending.
        if self.link.is_none() || !parts.registry.is_viewed(name) || parts.registry.is_clients(name)
        {
            return;
        }
        match RelayRule::of_cluster(&owner.address, name, stream_text(name)) {
            Ok(rule) => parts.relays.fetch_from(name, &Arc::new(rule), nodes, now, out),
            Err(error) => tracing::warn!(
                stream = %name, node = owner.node, address = owner.address, %error,
                "another node says where its streams are, and the address cannot be read"
            ),
        }
    }

    fn carry_out(&mut self, parts: &mut Parts<'_>, now: Moment, out: &mut Outgoing) {
        loop {
            let effects = self.leases.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.effect(effect, parts, now, out);
            }
        }
    }

    fn effect(
        &mut self,
        effect: Effect<AskToken>,
        parts: &mut Parts<'_>,
        now: Moment,
        out: &mut Outgoing,
    ) {
        match effect {
            Effect::Grant { asker, is_takeover } => {
                let Some(ask) = self.asks.remove(&asker) else {
                    return self.answered(asker, parts.registry);
                };
                let Want::Publish { name, .. } = &ask.what else { return };
                match self.leases.epoch(name, now) {
                    Some(_) => self.counters.leased += 1,
                    None => self.counters.unleased += 1,
                }
                parts.registry.leased(asker, &ask, now, out);
                if is_takeover {
                    parts.registry.has_taken_over(name, ask.peer.ip(), now);
                }
            }
            Effect::Refuse { asker, why } => {
                if self.asks.remove(&asker).is_some() {
                    self.counters.refused += 1;
                    let refusal = Refusal::new(RefusalReason::NameTaken, why);
                    parts.registry.refused(asker, refusal, out);
                }
            }
            Effect::Contest { id, name, owner, peer } => {
                let (from, stream) = (self.node.to_owned(), stream_text(&name));
                let epoch = owner.epoch;
                let text = NodeText::Contest { id, from, stream, epoch, peer }.to_text();
                self.texts.push((node_channel(&owner.node), text, Some(id)));
            }
            Effect::Fenced { name, owner } => {
                self.counters.fenced += 1;
                tracing::warn!(
                    stream = %name, node = owner.node, epoch = owner.epoch,
                    "another node owns the stream by now: its publisher here is closed"
                );
                let more = json!({ "node": owner.node, "epoch": owner.epoch });
                parts.tell("fenced", Some(&name), more);
                let by = format!("a publisher on node {}", owner.node);
                parts.registry.fence(&name, &by, out);
                self.pulls.end(&name, out);
            }
            Effect::Unleased(name) => {
                self.counters.lease_lost += 1;
                tracing::info!(stream = %name, "published without a lease: other nodes cannot fetch it");
                parts.tell("unleased", Some(&name), json!({ "node": self.node }));
            }
            Effect::Leased(name) => {
                tracing::info!(stream = %name, "published with a lease again");
                let epoch = self.leases.epoch(&name, now);
                parts.tell("leased", Some(&name), json!({ "node": self.node, "epoch": epoch }));
            }
        }
    }

    fn answer_contest(&mut self, contest: u64, word: Result<(), String>) {
        let Some((node, id)) = self.contests.remove(&contest) else { return };
        self.counters.yielded += u64::from(word.is_ok());
        let text = NodeText::Answer { id, refusal: word.err() }.to_text();
        self.texts.push((node_channel(&node), text, None));
    }

    /// Asks Redis for what is due, if it has answered what it was asked last.
    fn send_round(&mut self, push: &Push, now: Moment) {
        let Some(generation) = self.link.as_ref().map(|link| link.generation) else {
            self.counters.pushes_lost += self.speaker.give_up(now) as u64;
            // Nobody keeps new messages for nodes that cannot be reached.
            loop {
                let lost = push.with(|router| router.take_forwards(usize::MAX)).len();
                self.counters.pushes_lost += lost as u64;
                if lost == 0 {
                    return;
                }
            }
        };
        if self.sent.is_some() {
            return;
        }
        let (releases, claims) = match self.leases.is_due(now) {
            true => self.leases.take_round(now),
            false => (Vec::new(), Vec::new()),
        };
        let lookups = self.lookups.take_round();
        let mut says = Vec::new();
        let mut contests = Vec::new();
        for (channel, text, contest) in self.texts.drain(..) {
            says.push((channel, text));
            contests.push(contest);
        }
        let pushes = self.speaker.take_round(now, |speaker| {
            let bytes_max = limits::CLUSTER_PUSH_BYTES_AT_ONCE;
            let forwards = push.with(|router| router.take_forwards(bytes_max)).into_iter();
            let texts = forwards.map(|Forward { vhost, address, body }| {
                let (from, number) = (self.node.to_owned(), speaker.number());
                PushText { from, number, vhost, address, body }.to_text()
            });
            texts.collect()
        });
        says.extend(pushes.into_iter().map(|text| (PUSH_CHANNEL.to_owned(), text)));
        if releases.is_empty() && claims.is_empty() && lookups.is_empty() && says.is_empty() {
            return;
        }
        let names = claims.iter().map(|claim| claim.name.clone()).collect();
        let sent = Sent { at: now, claims: names, lookups: lookups.clone(), contests };
        self.sent = Some(sent);
        if !self.store.send(Round { generation, releases, claims, lookups, says }) {
            // It ends with the next word of the worker, which Redis keeps waiting.
            tracing::error!("the thread for Redis takes nothing");
        }
    }

    /// Whether Redis knows that the node has left; for when nobody publishes any more.
    pub(in crate::control) fn is_over(&self) -> bool {
        let is_silent = self.sent.is_none() && !self.speaker.has_unconfirmed();
        self.link.is_none() || (is_silent && !self.leases.has_releases())
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("leases", &self.leases).finish_non_exhaustive()
    }
}

/// No rule and no limit for clients is for another node.
fn as_relay(client: &ClientInfo) -> Arc<ClientInfo> {
    Arc::new(ClientInfo { is_relay: true, ..client.clone() })
}

#[cfg(test)]
mod tests;
