//! Which streams are sent on to other servers, or fetched from them: one relay per stream and target, for
//! as long as the stream lives; one per fetched stream, for as long as somebody views it.
//!
//! What must hold: a relay has one connection at most, and none that nobody wants; whatever becomes of it
//! costs neither the publisher nor other relays anything. Media goes from shard to socket like a
//! viewer's; here is only what happens now and then.
//!
//! | file    | subject                                             |
//! |---------|-----------------------------------------------------|
//! | `relay` | one relay: its state, and what it tells the others  |
//! | `dial`  | opening connections                                 |
//! | `cluster` | streams that other nodes of the cluster own       |

mod cluster;
mod dial;
mod relay;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use serde_json::{Value, json};

use self::dial::{DialPlace, Dialled, Dialler, Purpose, Trust};
pub(super) use self::relay::RELAY_STATES;
use self::relay::{Direction, Origin, Relay, State, Target};
use super::registry::{Outgoing, Registry, StreamEvent};
use super::settings::CurrentSettings;
use crate::config::{Place, RelayRule};
use crate::limits;
use crate::media::Moment;
use crate::proto::name::StreamName;
use crate::proto::rtmp::node_path::NodePath;
use crate::rt::doorbell::Doorbell;
use crate::session::{ClientId, Fetched, RelayEnd, RelayId, RelayNews, RelayWishes};
use crate::shard::{NewRelay, Node, Notice};

/// A fetched stream without viewers is kept for so long.
const LINGER: Duration = Duration::from_secs(5);
/// A connection that has carried its stream for so long was a success: the next attempt is made soon.
const STABLE: Duration = Duration::from_secs(10);

/// A relay has another state.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RelayChange {
    pub(super) relay: RelayId,
    /// Its number among connections, for hooks.
    pub(super) client: ClientId,
    /// `push` or `pull`.
    pub(super) direction: &'static str,
    pub(super) name: StreamName,
    /// The other end, for people.
    pub(super) url: String,
    /// The other server, while there is a connection.
    pub(super) peer: Option<SocketAddr>,
    /// The word for it.
    pub(super) state: &'static str,
    /// What the other server said last.
    pub(super) code: String,
    pub(super) description: String,
    /// Why it failed last.
    pub(super) error: String,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// How often its target was moved to a later keyframe.
    pub(super) drops: u64,
}

/// Counts of the relays of one direction since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RelayTotals {
    /// Connections that were tried.
    pub(super) attempts: u64,
    /// Of these, those that failed or broke.
    pub(super) failures: u64,
    /// Bytes to targets, or from sources.
    pub(super) bytes: u64,
    /// Moves to a later keyframe.
    pub(super) drops: u64,
}

/// All relays.
#[derive(Debug)]
pub(super) struct Relays {
    settings: CurrentSettings,
    dialler: Dialler,
    open: Arc<AtomicUsize>,
    relays: BTreeMap<RelayId, Relay>,
    /// What nobody has been told yet.
    changes: Vec<RelayChange>,
    /// Of pushes and of pulls that are gone.
    gone: [RelayTotals; 2],
    /// Published streams: the publisher's shard, and the nodes that they have passed.
    live: HashMap<StreamName, Live>,
    shards: usize,
    next: u64,
    is_draining: bool,
    /// Copies of streams whose owners have to be looked up again.
    unsourced: Vec<StreamName>,
    /// Streams that are to be sent on, for which there are too many relays.
    without_room: BTreeSet<StreamName>,
}

#[derive(Clone, Debug)]
struct Live {
    node: Node,
    nodes: NodePath,
    is_relayed: bool,
    /// It is published on another node of the cluster.
    is_copy: bool,
    wishes: Arc<RelayWishes>,
}

/// Why the API's wish for a relay is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotAdded {
    /// The stream that is to be sent is not published here.
    NotPublished,
    /// It is there, in a sentence.
    Conflict(String),
    /// No relay can be made, in a sentence.
    Unable(String),
}

/// What a relay is to be.
#[derive(Clone, Copy, Debug)]
struct Plan<'a> {
    direction: Direction,
    origin: Origin,
    name: &'a StreamName,
    rule: &'a Arc<RelayRule>,
}

impl Relays {
    /// None, for a server with so many shards.
    pub(super) fn new(
        settings: &CurrentSettings,
        doorbell: &Doorbell,
        open: &Arc<AtomicUsize>,
        shards: usize,
    ) -> Self {
        Self {
            settings: settings.clone(),
            dialler: Dialler::new(doorbell),
            open: Arc::clone(open),
            relays: BTreeMap::new(),
            changes: Vec::new(),
            gone: [RelayTotals::default(); 2],
            live: HashMap::new(),
            shards,
            next: 1,
            is_draining: false,
            unsourced: Vec::new(),
            without_room: BTreeSet::new(),
        }
    }

    /// Something has happened to a stream.
    pub(super) fn stream_event(&mut self, event: &StreamEvent, now: Moment, out: &mut Outgoing) {
        match event {
            StreamEvent::Up { name, node, publisher, wishes } => {
                let is_relayed = publisher.is_relay || !publisher.nodes.is_empty();
                let live = Live {
                    node: *node,
                    nodes: publisher.nodes.clone(),
                    is_relayed,
                    is_copy: publisher.fetched == Fetched::InCluster,
                    wishes: Arc::clone(wishes),
                };
                self.live.insert(name.clone(), live);
                // A publisher that has come back may have been given other targets.
                self.dismiss_unwanted(|relay| relay.is_push() && relay.name == *name, out);
                self.push_all(name, now, out);
                self.reopen_mirrors(name, out);
            }
            StreamEvent::Down { name } => {
                self.live.remove(name);
                self.without_room.remove(name);
                let ended = |relay: &Relay| relay.is_push() && relay.name == *name;
                self.end_where(ended, out);
            }
            StreamEvent::Wanted { name, nodes, source } => {
                self.fetch(name, nodes, source.as_ref(), now, out);
            }
            // The cluster's.
            StreamEvent::Freed { .. } => {}
            StreamEvent::Unviewed { name } => {
                for relay in self.relays.values_mut() {
                    if relay.fetches(name) && !relay.is_kept() {
                        relay.linger_until = Some(now + LINGER);
                    }
                }
            }
        }
    }

    /// Where a published stream is to be sent: what its hooks say, and what the configuration says if
    /// they did not speak in its place.
    fn targets_of(&self, name: &StreamName, live: &Live) -> Vec<(Origin, Arc<RelayRule>)> {
        // A copy is sent on by the node that owns the stream: once, not once per node with viewers.
        if live.is_copy {
            return Vec::new();
        }
        let app = self.settings.get().app(name.vhost(), name.app(), name.instance());
        let is_configured =
            |rule: &&Arc<RelayRule>| rule.fits(name) && (rule.relayed || !live.is_relayed);
        let configured =
            app.push.iter().filter(is_configured).filter(|_| live.wishes.forward.is_none());
        let of_hooks = live.wishes.forward.iter().flatten().chain(&live.wishes.redirect);
        let configured = configured.map(|rule| (Origin::Configuration, Arc::clone(rule)));
        configured.chain(of_hooks.map(|rule| (Origin::Hook, Arc::clone(rule)))).collect()
    }

    /// Begins what is wanted for a published stream and is not there yet.
    fn push_all(&mut self, name: &StreamName, now: Moment, out: &mut Outgoing) {
        let Some(live) = self.live.get(name).cloned() else { return };
        for (origin, rule) in self.targets_of(name, &live) {
            let is_there = |relay: &Relay| {
                relay.is_push() && relay.name == *name && *relay.rule == *rule && !relay.is_ending
            };
            if !self.relays.values().any(is_there) {
                let plan = Plan { direction: Direction::Push, origin, name, rule: &rule };
                self.add(plan, &live.nodes, now, out);
            }
        }
    }

    /// A stream goes on: so do its second names, whose viewers wait as those of the first do.
    fn reopen_mirrors(&mut self, name: &StreamName, out: &mut Outgoing) {
        let waits = |relay: &&Relay| {
            relay.is_mirror()
                && relay.name == *name
                && matches!(relay.state, State::Retrying { .. })
        };
        let found: Vec<RelayId> = self.relays.values().filter(waits).map(|it| it.id).collect();
        for id in found {
            self.open(id, out);
        }
    }

    /// Begins to fetch a stream from the source that a hook has named, or else if a rule says from where.
    fn fetch(
        &mut self,
        name: &StreamName,
        nodes: &NodePath,
        source: Option<&Arc<RelayRule>>,
        now: Moment,
        out: &mut Outgoing,
    ) {
        for relay in self.relays.values_mut() {
            if relay.fetches(name) {
                relay.linger_until = None;
                return;
            }
        }
        let app = self.settings.get().app(name.vhost(), name.app(), name.instance());
        let origin = if source.is_some() { Origin::Hook } else { Origin::Configuration };
        if let Some(rule) = source.or_else(|| app.pull.iter().find(|rule| rule.fits(name))) {
            self.add(Plan { direction: Direction::Pull, origin, name, rule }, nodes, now, out);
        }
    }

    /// Begins to fetch what is fetched whether anybody wants it or not.
    pub(super) fn fetch_static(&mut self, now: Moment, out: &mut Outgoing) {
        let settings = self.settings.get();
        for (name, rule) in settings.static_pulls() {
            if !self.relays.values().any(|relay| relay.fetches(&name)) {
                let (direction, origin) = (Direction::Pull, Origin::Configuration);
                let plan = Plan { direction, origin, name: &name, rule: &rule };
                self.add(plan, &NodePath::default(), now, out);
            }
        }
    }

    fn add(&mut self, plan: Plan<'_>, nodes: &NodePath, now: Moment, out: &mut Outgoing) {
        if self.is_draining {
            return;
        }
        if !self.has_room() && plan.direction == Direction::Push {
            self.without_room.insert(plan.name.clone());
        }
        if let Err(why) = self.try_add(plan, nodes, now, out) {
            tracing::warn!(stream = %plan.name, why, "a relay cannot be made");
        }
    }

    fn has_room(&self) -> bool {
        self.relays.len() < limits::RELAYS_MAX
    }

    /// Begins a relay, or says why that cannot be.
    fn try_add(
        &mut self,
        plan: Plan<'_>,
        nodes: &NodePath,
        now: Moment,
        out: &mut Outgoing,
    ) -> Result<RelayId, String> {
        let Plan { direction, origin, name, rule } = plan;
        if !self.has_room() {
            return Err(format!("there are {} relays already", limits::RELAYS_MAX));
        }
        let target = match &rule.place {
            Place::Server(address) => Target::Server(address.filled(name)),
            Place::App { app, instance } => self.local_target(name, app, instance, rule)?,
        };
        let id = RelayId(self.next);
        self.next += 1;
        let node = self.settings.get().node;
        let relay = Relay::new(id, plan, target, nodes.with(node), now);
        let by = origin.word();
        tracing::info!(relay = id.0, stream = %name, %direction, by, target = relay.url(), "relay begins");
        self.relays.insert(id, relay);
        self.open(id, out);
        Ok(id)
    }

    /// The second name of a stream on this server, unless that would go round in a circle.
    fn local_target(
        &self,
        name: &StreamName,
        app: &str,
        instance: &str,
        rule: &RelayRule,
    ) -> Result<Target, String> {
        let there = rule.name_there(name);
        let target = StreamName::new(name.vhost(), app, instance, &there)
            .map_err(|error| error.to_string())?;
        let mut from = Some(name.clone());
        while let Some(source) = from {
            if source == target {
                return Err(format!("{target} is where the stream comes from: a loop of relays"));
            }
            from = self.relays.values().find_map(|relay| {
                (relay.target == Target::Local(source.clone())).then(|| relay.name.clone())
            });
        }
        Ok(Target::Local(target))
    }

    /// Begins an attempt.
    fn open(&mut self, id: RelayId, out: &mut Outgoing) {
        let Some(relay) = self.relays.get_mut(&id) else { return };
        let attempt = relay.begin_attempt();
        let name = &relay.name;
        let app = self.settings.get().app(name.vhost(), name.app(), name.instance());
        relay.look_for_others(&app.pull.iter().filter(|rule| rule.fits(name)).collect::<Vec<_>>());
        self.changes.extend(relay.take_change());
        match &relay.target {
            Target::Server(address) => {
                let tls = address.is_tls.then(|| Trust { ca: relay.rule.ca.clone() });
                let place = DialPlace { host: address.host.clone(), port: address.port, tls };
                let purpose = if relay.is_push() { Purpose::Target } else { Purpose::Source };
                self.dialler.dial(id, attempt, purpose, place);
            }
            Target::Local(_) => self.hand_over(id, None, out),
        }
    }

    /// Gives a relay to its shard.
    fn hand_over(
        &mut self,
        id: RelayId,
        socket: Option<(OwnedFd, SocketAddr)>,
        out: &mut Outgoing,
    ) {
        let Some(relay) = self.relays.get_mut(&id) else { return };
        let owner = self.live.get(&relay.name).map(|live| live.node);
        // A fetched stream's shard is as good as another; they take turns.
        let node = owner.unwrap_or(id.0 as usize % self.shards);
        let settings = self.settings.get();
        let order = Arc::new(relay.order(settings.rtmp.chunk_size, settings.node));
        let peer = socket.as_ref().map(|(_, peer)| *peer);
        relay.state = State::Opening { node, peer, waits_since: None };
        let open = Arc::clone(&self.open);
        let new = NewRelay { id: ClientId::next(), socket, order, open };
        out.push((node, Notice::Relay(Box::new(new))));
    }

    /// Whether [`Relays::tick`] or [`Relays::take_changes`] has something to do at once.
    pub(super) fn has_results(&self) -> bool {
        let has_room_now = self.has_room() && !self.without_room.is_empty();
        self.dialler.has_results() || !self.changes.is_empty() || has_room_now
    }

    /// Relays that have another state than when this was asked last, in order.
    pub(super) fn take_changes(&mut self) -> Vec<RelayChange> {
        std::mem::take(&mut self.changes)
    }

    fn remove(&mut self, id: RelayId) {
        if let Some(relay) = self.relays.remove(&id) {
            relay.add_to(&mut self.gone);
            self.changes.push(relay.change("stopped"));
        }
    }

    /// When it has something to do anyway.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.relays.values().filter_map(Relay::next_deadline).min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, registry: &Registry, now: Moment, out: &mut Outgoing) {
        while let Some(dialled) = self.dialler.take() {
            self.dialled(dialled, now, out);
        }
        while self.has_room()
            && let Some(name) = self.without_room.pop_first()
        {
            self.push_all(&name, now, out);
        }
        let due = |relay: &&Relay| relay.next_deadline().is_some_and(|at| at <= now);
        let due: Vec<RelayId> = self.relays.values().filter(due).map(|relay| relay.id).collect();
        for id in due {
            let Some(relay) = self.relays.get_mut(&id) else { continue };
            if relay.linger_until.is_some_and(|until| until <= now) {
                relay.linger_until = None;
                if !registry.is_viewed(&relay.name) {
                    self.end_where(|relay| relay.id == id, out);
                    continue;
                }
            }
            let Some(relay) = self.relays.get_mut(&id) else { continue };
            if relay.is_due(now) && relay.origin == Origin::Cluster {
                relay.put_off(now);
                self.unsourced.push(relay.name.clone());
                continue;
            }
            // While somebody publishes it here no other source is looked for.
            if let Some(node) = relay.take_idle(now)
                && !self.live.contains_key(&relay.name)
            {
                out.push((node, Notice::LeaveIdleSource(id)));
            }
            if relay.is_due(now) && relay.is_mirror() && !registry.has_begun(&relay.name) {
                relay.put_off(now);
                continue;
            }
            if relay.is_due(now) {
                if relay.takes_turns() {
                    let name = &relay.name;
                    let app = self.settings.get().app(name.vhost(), name.app(), name.instance());
                    let rules: Vec<_> = app.pull.iter().filter(|rule| rule.fits(name)).collect();
                    relay.take_next(&rules);
                }
                self.open(id, out);
            }
        }
    }

    fn dialled(&mut self, dialled: Dialled, now: Moment, out: &mut Outgoing) {
        let Dialled { relay: id, attempt, result } = dialled;
        if self.relays.get(&id).is_none_or(|relay| relay.attempt != attempt) {
            return;
        }
        match result {
            Ok(found) => self.hand_over(id, Some(found), out),
            Err(why) => self.failed(id, RelayEnd::Failed, None, why, now),
        }
    }

    /// A shard says what has become of a connection.
    pub(super) fn news(
        &mut self,
        id: RelayId,
        news: RelayNews,
        registry: &Registry,
        now: Moment,
        out: &mut Outgoing,
    ) {
        let Some(relay) = self.relays.get_mut(&id) else { return };
        match news {
            RelayNews::Started => {
                if let State::Opening { node, peer, .. } = relay.state {
                    let lag = Duration::ZERO;
                    relay.state = State::Running { node, peer, since: now, lag, is_stalled: false };
                    tracing::info!(relay = id.0, stream = %relay.name, target = relay.url(), "relay runs");
                    self.changes.extend(relay.take_change());
                }
            }
            RelayNews::Waiting => {
                relay.waits(now);
                self.changes.extend(relay.take_change());
            }
            RelayNews::Status { code, description } => {
                tracing::debug!(relay = id.0, code, description, "the other server says");
                relay.status = Some((code, description));
            }
            RelayNews::Progress { bytes_in, bytes_out, skips, lag, is_stalled } => {
                relay.progress(bytes_in, bytes_out, skips);
                relay.keeps_up(lag, is_stalled);
                self.changes.extend(relay.take_change());
            }
            RelayNews::Closed { status, why, end } => {
                let is_wanted = if relay.is_push() {
                    self.live.contains_key(&relay.name)
                } else {
                    relay.is_kept() || registry.is_viewed(&relay.name)
                };
                if let State::Running { since, .. } = relay.state
                    && now.since(since) >= STABLE
                {
                    relay.failures = 0;
                }
                if end == RelayEnd::Over || relay.is_ending || !is_wanted {
                    tracing::info!(relay = id.0, stream = %relay.name, target = relay.url(), why, "relay ended");
                    self.remove(id);
                } else if status.as_ref().is_some_and(|(_, text)| relay.takes_login_step(text)) {
                    self.open(id, out);
                } else {
                    self.failed(id, end, status, why, now);
                }
            }
        }
    }

    /// A connection has ended, or could not be opened, and another one is wanted.
    fn failed(
        &mut self,
        id: RelayId,
        end: RelayEnd,
        status: Option<(String, String)>,
        why: String,
        now: Moment,
    ) {
        let Some(relay) = self.relays.get_mut(&id) else { return };
        let is_wanted = !relay.is_push() || self.live.contains_key(&relay.name);
        if !is_wanted || relay.is_ending {
            self.remove(id);
            return;
        }
        let again = match end {
            RelayEnd::SourceGone => relay.source_gone(now),
            RelayEnd::Idle => relay.source_idle(why, now),
            RelayEnd::Failed | RelayEnd::Over => relay.fail(status, why, now),
        };
        self.changes.extend(relay.take_change());
        let again_ms = again.as_millis() as u64;
        let (stream, target) = (&relay.name, relay.url());
        match end {
            // Nothing has failed: somebody waits for the next publisher.
            RelayEnd::SourceGone if relay.is_mirror() => tracing::info!(
                relay = id.0, %stream, target, "the publisher is gone; the relay waits for the next one"
            ),
            RelayEnd::SourceGone => tracing::info!(
                relay = id.0, %stream, target, again_ms,
                "the stream has ended there; it is asked for again"
            ),
            RelayEnd::Idle => tracing::info!(
                relay = id.0, %stream, target, again_ms,
                "the stream does not come from there; the next place is tried"
            ),
            RelayEnd::Failed | RelayEnd::Over => {
                let (code, description) = relay.status.clone().unwrap_or_default();
                tracing::warn!(
                    relay = id.0, %stream, target, code, description,
                    why = relay.last_error, again_ms,
                    "relay failed; it is tried again"
                );
            }
        }
    }

    /// Ends relays: those with a connection when their shard has said goodbye, the others at once.
    fn end_where(&mut self, is_it: impl Fn(&Relay) -> bool, out: &mut Outgoing) {
        let (dialler, changes, gone) = (&mut self.dialler, &mut self.changes, &mut self.gone);
        self.relays.retain(|_, relay| {
            if !is_it(relay) {
                return true;
            }
            relay.is_ending = true;
            relay.linger_until = None;
            match relay.state {
                // Its shard tells it of the stream's end, in order, when it has sent everything.
                State::Running { .. } if relay.is_push() => true,
                State::Opening { node, .. } | State::Running { node, .. } => {
                    out.push((node, Notice::EndRelay(relay.id)));
                    true
                }
                State::Dialling | State::Retrying { .. } => {
                    dialler.forget(relay.id);
                    relay.add_to(gone);
                    changes.push(relay.change("stopped"));
                    tracing::info!(relay = relay.id.0, stream = %relay.name, target = relay.url(), "relay ended");
                    false
                }
            }
        });
    }

    /// Whether somebody wants the relay of a live or viewed stream: a rule, or a hook.
    fn has_reason(&self, relay: &Relay) -> bool {
        let name = &relay.name;
        if relay.is_push() {
            // Of a stream that is not published now, nobody knows better.
            let Some(live) = self.live.get(name) else { return true };
            return self.targets_of(name, live).iter().any(|(_, rule)| **rule == *relay.rule);
        }
        let app = self.settings.get().app(name.vhost(), name.app(), name.instance());
        app.pull.iter().any(|rule| **rule == *relay.rule)
    }

    /// Ends those of these relays that nobody wants any more.
    fn dismiss_unwanted(&mut self, is_it: impl Fn(&Relay) -> bool, out: &mut Outgoing) {
        let is_free = |relay: &Relay| match relay.origin {
            Origin::Configuration => true,
            // What is published may have other hooks now; a player's redirect holds for its stream.
            Origin::Hook => relay.is_push(),
            Origin::Api | Origin::Cluster => false,
        };
        let is_gone = |relay: &&Relay| {
            is_it(relay) && !relay.is_ending && is_free(relay) && !self.has_reason(relay)
        };
        let gone: Vec<RelayId> =
            self.relays.values().filter(is_gone).map(|relay| relay.id).collect();
        self.dismiss(&gone, out);
    }

    /// Ends relays although their streams go on.
    fn dismiss(&mut self, gone: &[RelayId], out: &mut Outgoing) {
        for &id in gone {
            if let Some(relay) = self.relays.get(&id)
                && let State::Running { node, .. } = relay.state
                && relay.is_push()
            {
                out.push((node, Notice::EndRelay(id)));
            }
        }
        self.end_where(|relay| gone.contains(&relay.id), out);
    }

    /// New settings: what no rule wants any more ends, what a rule wants now begins.
    pub(super) fn reload(&mut self, now: Moment, out: &mut Outgoing) {
        self.dismiss_unwanted(|_| true, out);
        let live: Vec<StreamName> = self.live.keys().cloned().collect();
        for name in live {
            self.push_all(&name, now, out);
        }
        self.fetch_static(now, out);
        let settings = self.settings.get();
        for relay in self.relays.values_mut().filter(|relay| !relay.is_push()) {
            let name = &relay.name;
            let app = settings.app(name.vhost(), name.app(), name.instance());
            relay.look_for_others(&app.pull.iter().filter(|it| it.fits(name)).collect::<Vec<_>>());
        }
    }

    /// The server ends: nothing is begun or tried again.
    pub(super) fn drain(&mut self, out: &mut Outgoing) {
        self.is_draining = true;
        self.end_where(
            |relay| matches!(relay.state, State::Dialling | State::Retrying { .. }),
            out,
        );
    }

    /// Begins a relay that the API asks for.
    ///
    /// # Errors
    /// There is no such stream to send, or it is here already, or no relay can be made.
    pub(super) fn add_by_api(
        &mut self,
        is_push: bool,
        name: &StreamName,
        rule: RelayRule,
        now: Moment,
        out: &mut Outgoing,
    ) -> Result<RelayId, NotAdded> {
        if self.is_draining {
            return Err(NotAdded::Unable("the server is shutting down".to_owned()));
        }
        let live = self.live.get(name);
        let nodes = match (is_push, live) {
            (true, None) => return Err(NotAdded::NotPublished),
            (false, Some(_)) => {
                let text = format!("{name} is published here: it cannot be fetched");
                return Err(NotAdded::Conflict(text));
            }
            (true, Some(live)) => live.nodes.clone(),
            (false, None) => NodePath::default(),
        };
        let is_there = |relay: &&Relay| match is_push {
            true => {
                relay.is_push()
                    && relay.name == *name
                    && !relay.is_ending
                    && relay.rule.leads_where(&rule)
            }
            false => relay.fetches(name),
        };
        if let Some(relay) = self.relays.values().find(is_there) {
            let text = format!("relay {} does so already", relay.id.0);
            return Err(NotAdded::Conflict(text));
        }
        let direction = if is_push { Direction::Push } else { Direction::Pull };
        let plan = Plan { direction, origin: Origin::Api, name, rule: &Arc::new(rule) };
        self.try_add(plan, &nodes, now, out).map_err(NotAdded::Unable)
    }

    /// Ends a relay that the API wants no more; says whether there was one.
    pub(super) fn end_by_api(&mut self, id: RelayId, out: &mut Outgoing) -> bool {
        let Some(relay) = self.relays.get(&id).filter(|relay| !relay.is_ending) else {
            return false;
        };
        tracing::info!(relay = id.0, stream = %relay.name, target = relay.url(), "ended by the API");
        self.dismiss(&[id], out);
        true
    }

    /// Lets a relay that waits for its next attempt make it at once; says whether it waited. `None`: there
    /// is no such relay.
    pub(super) fn retry_by_api(&mut self, id: RelayId, now: Moment) -> Option<bool> {
        let relay = self.relays.get_mut(&id).filter(|relay| !relay.is_ending)?;
        Some(relay.hurry(now))
    }

    /// How many relays of a direction have a state: a pair of [`RELAY_STATES`].
    pub(super) fn count(&self, direction: &str, state: &str) -> usize {
        let is_it = |relay: &&Relay| relay.direction.word() == direction && relay.word() == state;
        self.relays.values().filter(is_it).count()
    }

    /// Counts since the start, by direction.
    pub(super) fn totals(&self) -> [(&'static str, RelayTotals); 2] {
        let mut totals = self.gone;
        for relay in self.relays.values() {
            relay.add_to(&mut totals);
        }
        let [pushes, pulls] = totals;
        [(Direction::Push.word(), pushes), (Direction::Pull.word(), pulls)]
    }

    /// For the API.
    pub(super) fn to_json(&self, now: Moment) -> Value {
        json!({ "relays": self.relays.values().map(|relay| relay.to_json(now)).collect::<Vec<_>>() })
    }

    /// One relay, for the API.
    pub(super) fn one_to_json(&self, id: RelayId, now: Moment) -> Option<Value> {
        self.relays.get(&id).map(|relay| relay.to_json(now))
    }
}
