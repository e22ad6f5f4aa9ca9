//! The registry of stream names: the one writer that decides who publishes a name and who may
//! view it. No I/O and no clock; messages in, messages out.
//!
//! What must hold:
//! - A name has at most one publisher. It is claimed by the verdict and freed by `PublishEnded`,
//!   which the owner's claim sends whatever becomes of the connection.
//! - `StreamUp` follows `PublishStarted`, so a subscription never reaches an owner that does not
//!   know the publication.
//! - Where hooks are asked, a question is judged after the rules and the look for a busy name, and
//!   before anything is claimed: see [`Registry::take_unjudged`].
//! - A shard with viewers (or with an accepted play on its way) is told of each publication and of
//!   the end; a shard without viewers is told nothing.

mod addresses;
mod cluster;
mod stream;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use self::addresses::Addresses;
use self::cluster::Clustered;
use self::stream::{Asker, Contender, Phase, Publisher, Stream};
use crate::config::{AppSettings, Dialect, HookEvent, RelayRule, RuleAction, Settings, Takeover};
use crate::media::{Epoch, Moment, Resume, StreamId};
use crate::proto::name::StreamName;
use crate::proto::rtmp::node_path::NodePath;
use crate::session::{
    Ask, AudiencePlace, ClientId, ClientInfo, Fetched, Grant, Owner, Refusal, RefusalReason,
    RelayWishes, Verdict, Want,
};
use crate::shard::{AskToken, Node, Notice};

/// An owner that does not answer a probe, or does not give the name back, within this time on top
/// of the wait that the policy allows, keeps the name; the second publisher is refused.
const OWNER_ANSWER_MAX: Duration = Duration::from_secs(1);

/// Everything the control shard knows of streams.
#[derive(Debug)]
pub struct Registry {
    settings: Arc<Settings>,
    ids: HashMap<StreamName, StreamId>,
    streams: BTreeMap<StreamId, Stream>,
    /// Streams with something to do at a time.
    timed: HashSet<StreamId>,
    /// Questions that pass the rules and are to be judged by hooks.
    unjudged: Vec<(AskToken, Ask)>,
    connections: HashMap<(String, String), u64>,
    addresses: Addresses,
    next_stream: u64,
    next_epoch: u64,
    counters: RegistryCounters,
    /// What relays have to hear.
    events: Vec<StreamEvent>,
    /// What the cluster has to hear and to answer.
    clustered: Clustered,
    /// No publication is waited for any more.
    is_draining: bool,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct RegistryCounters {
    /// Questions answered with accept.
    pub accepted: u64,
    /// Questions refused.
    pub refused: u64,
    /// Publishers replaced by another.
    pub takeovers: u64,
    /// Take-overs refused because two encoders fight for the name.
    pub fights: u64,
    /// Publications that went on after a gap.
    pub resumed: u64,
    /// Gaps that ended without a publisher.
    pub gaps_expired: u64,
}

/// What becomes of streams, for those who relay them.
#[derive(Clone, Debug)]
pub enum StreamEvent {
    /// A publication has begun.
    Up {
        /// The stream.
        name: StreamName,
        /// Where.
        node: Node,
        /// By whom.
        publisher: Arc<ClientInfo>,
        /// Where hooks want it to be sent.
        wishes: Arc<RelayWishes>,
    },
    /// The stream has ended, and nobody is waited for.
    Down {
        /// The stream.
        name: StreamName,
    },
    /// A viewer waits for a stream that nobody publishes here.
    Wanted {
        /// The stream.
        name: StreamName,
        /// The nodes that ask for it through this one.
        nodes: NodePath,
        /// Where a hook wants it to be fetched from; `None` is where the configuration says.
        source: Option<Arc<RelayRule>>,
    },
    /// The last viewer has left.
    Unviewed {
        /// The stream.
        name: StreamName,
    },
    /// A publisher, not a relay that fetched the stream, is gone, and no other has followed.
    Freed {
        /// The stream.
        name: StreamName,
    },
}

/// One line of the API.
#[derive(Clone, Debug, serde::Serialize)]
pub struct StreamEntry {
    /// The name as people write it.
    pub name: String,
    /// The stream's number.
    pub id: u64,
    /// The publication, when there is one.
    pub epoch: Option<u64>,
    /// The shard of the publisher.
    pub owner_shard: Option<usize>,
    /// The publisher's address.
    pub publisher: Option<String>,
    /// The number of the publisher's connection.
    pub publisher_id: Option<ClientId>,
    /// Shards with viewers.
    pub viewer_shards: Vec<usize>,
    /// Waiting for the publisher to come back.
    pub in_gap: bool,
}

/// Where a question stands with the hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// They are to be asked.
    Ahead,
    /// None is asked.
    None,
    /// They have let the client pass.
    Passed,
    /// And the node owns the name.
    Leased,
    /// And the other nodes were asked for the stream.
    LookedUp {
        /// One of them has it.
        is_elsewhere: bool,
    },
}

/// Messages to nodes, in order.
pub type Outgoing = Vec<(Node, Notice)>;

impl Registry {
    /// An empty registry.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            ids: HashMap::new(),
            streams: BTreeMap::new(),
            timed: HashSet::new(),
            unjudged: Vec::new(),
            connections: HashMap::new(),
            addresses: Addresses::default(),
            next_stream: 1,
            next_epoch: 1,
            counters: RegistryCounters::default(),
            events: Vec::new(),
            clustered: Clustered::default(),
            is_draining: false,
        }
    }

    /// Judges by these settings from now on. What a running stream was begun with stays; the next
    /// publication of it takes the new ones. They may say where to fetch what is viewed already, or say so
    /// no more: viewers want it anew.
    pub fn reload(&mut self, settings: Arc<Settings>) {
        self.settings = settings;
        for stream in self.streams.values().filter(|stream| stream.is_for_others_to_publish()) {
            let (name, nodes) = (stream.name.clone(), NodePath::default());
            self.events.push(StreamEvent::Wanted { name, nodes, source: None });
        }
    }

    /// Nobody may publish or play any more: gaps end, and so does each publication that ends from now
    /// on; who waits for a name is refused.
    pub fn drain(&mut self, out: &mut Outgoing) {
        self.is_draining = true;
        for id in self.timed.iter().copied().collect::<Vec<_>>() {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let contender = stream.contender.take();
            if stream.gap_until.is_some() {
                self.end(id, out);
            }
            if let Some(Contender { asker, .. }) = contender {
                self.refuse(asker, shutting_down(), out);
            }
        }
        self.timed.clear();
    }

    /// What relays have to hear, in order.
    pub fn take_events(&mut self) -> Vec<StreamEvent> {
        std::mem::take(&mut self.events)
    }

    /// Whether a stream has viewers.
    pub fn is_viewed(&self, name: &StreamName) -> bool {
        let found = self.ids.get(name).and_then(|id| self.streams.get(id));
        found.is_some_and(|stream| !stream.viewers.is_empty())
    }

    /// The counters.
    pub fn counters(&self) -> RegistryCounters {
        self.counters
    }

    /// Connected clients of each vhost.
    pub fn connected(&self) -> BTreeMap<&str, u64> {
        let mut all = BTreeMap::new();
        for ((vhost, _), count) in &self.connections {
            *all.entry(vhost.as_str()).or_default() += count;
        }
        all
    }

    /// How many streams there are, and how many of them are published.
    pub fn stream_count(&self) -> (usize, usize) {
        let published = self.streams.values().filter(|stream| stream.publisher.is_some()).count();
        (self.streams.len(), published)
    }

    /// All streams, by age.
    pub fn entries(&self) -> Vec<StreamEntry> {
        self.streams
            .iter()
            .map(|(id, stream)| StreamEntry {
                name: stream.name.to_string(),
                id: id.0,
                epoch: stream.publisher.as_ref().map(|publisher| publisher.epoch.0),
                owner_shard: stream.publisher.as_ref().map(|publisher| publisher.node),
                publisher: stream.publisher.as_ref().map(|publisher| publisher.peer.to_string()),
                publisher_id: stream.publisher.as_ref().map(|publisher| publisher.client.id),
                viewer_shards: stream.viewers.keys().copied().collect(),
                in_gap: stream.gap_until.is_some(),
            })
            .collect()
    }

    /// The shard that a viewer had better ask from: that of the publisher, when the stream has few viewers
    /// and none on the asking shard, so that it need not be written there as well. With a place among
    /// the viewers for the way.
    pub fn nearer(&self, token: AskToken, ask: &Ask) -> Option<(Node, AudiencePlace)> {
        let Want::Play { name, .. } = &ask.what else { return None };
        if !ask.may_move || self.is_draining {
            return None;
        }
        let stream = self.streams.get(self.ids.get(name)?)?;
        let node = stream.publisher.as_ref().filter(|publisher| publisher.started)?.node;
        let is_first_here = node != token.node && !stream.viewers.contains_key(&token.node);
        let is_small = stream.audience.len() < self.settings.server.gather_viewers;
        (is_first_here && is_small).then(|| (node, stream.audience.join()))
    }

    /// A question of a connection. The answer may come later (see [`Registry::tick`] and
    /// [`Registry::take_unjudged`]).
    pub fn ask(&mut self, token: AskToken, ask: &Ask, now: Moment, out: &mut Outgoing) {
        let gate = if self.has_gate(ask) { Gate::Ahead } else { Gate::None };
        self.consider(token, ask, gate, now, out);
    }

    /// Questions that pass the rules, whose names are free or may be taken over, and that hooks have
    /// to judge. Each is answered after [`Registry::judged`] or [`Registry::refused`].
    pub fn take_unjudged(&mut self) -> Vec<(AskToken, Ask)> {
        std::mem::take(&mut self.unjudged)
    }

    /// The hooks let the client do what `ask` says, which is the question with the names that they
    /// gave.
    pub fn judged(&mut self, token: AskToken, ask: &Ask, now: Moment, out: &mut Outgoing) {
        self.consider(token, ask, Gate::Passed, now, out);
    }

    /// The hooks do not let the client do what it asked for.
    pub fn refused(&mut self, token: AskToken, refusal: Refusal, out: &mut Outgoing) {
        self.answer(token, Verdict::Refuse(refusal), out);
    }

    fn consider(
        &mut self,
        token: AskToken,
        ask: &Ask,
        gate: Gate,
        now: Moment,
        out: &mut Outgoing,
    ) {
        if self.is_draining {
            self.answer(token, Verdict::Refuse(shutting_down()), out);
            return;
        }
        let verdict = match &ask.what {
            Want::Connect if ask.client.nodes.ends_at(self.settings.node) => {
                let text = "the stream has passed this node before, or too many: a loop of relays";
                Some(Verdict::Refuse(Refusal::new(RefusalReason::Denied, text)))
            }
            Want::Connect if gate != Gate::Ahead => Some(self.connect(ask)),
            Want::Connect => {
                // Which app it is, the hooks may still change.
                let settings = self.app_of(&ask.client);
                self.has_room(ask, &settings).err().map(Verdict::Refuse)
            }
            Want::Publish { name, .. } => self.publish(token, ask, name, gate, now, out),
            Want::Play { name, http, .. } if gate == Gate::Ahead => {
                self.play_denied(ask, name, *http).map(Verdict::Refuse)
            }
            Want::Play { name, http, .. } if self.needs_look_up(ask, name, *http, gate) => {
                self.clustered.unlooked.push((token, ask.clone()));
                None
            }
            Want::Play { name, http, .. } => Some(self.play(token, ask, name, *http, gate)),
        };
        match verdict {
            Some(verdict) => self.answer(token, verdict, out),
            None if gate != Gate::Ahead || self.contends(token, ask) => {}
            None => self.unjudged.push((token, ask.clone())),
        }
    }

    /// Whether hooks are asked before the question is answered.
    fn has_gate(&self, ask: &Ask) -> bool {
        let client = &ask.client;
        if !ask.is_of_client() {
            return false;
        }
        let (app, event, is_first) = match &ask.what {
            Want::Connect => (self.app_of(client), HookEvent::Connect, true),
            Want::Publish { name, .. } => {
                let app = self.settings.app(name.vhost(), name.app(), name.instance());
                (app, HookEvent::Publish, false)
            }
            Want::Play { name, http, .. } => {
                let app = self.settings.app(name.vhost(), name.app(), name.instance());
                (app, HookEvent::Play, *http)
            }
        };
        let mut of_connect = app.hooks.targets(HookEvent::Connect);
        // SRS asks at connect (2014) or when it knows what the client wants.
        let by_app = match ask.what {
            Want::Connect => of_connect.any(|target| target.srs_version == 1),
            _ => {
                app.hooks.has(event)
                    || (app.hooks.has(HookEvent::Forward) && ask.may_be_forwarded())
                    || of_connect.any(|target| target.srs_version != 1)
            }
        };
        debug_assert!(
            app.hooks.targets(HookEvent::Connect).all(|target| target.dialect == Dialect::Srs)
        );
        by_app
            || (is_first && self.settings.connection_hooks(&client.vhost).has(HookEvent::Connect))
    }

    fn contends(&self, token: AskToken, ask: &Ask) -> bool {
        let Want::Publish { name, .. } = &ask.what else { return false };
        let stream = self.ids.get(name).and_then(|id| self.streams.get(id));
        let contender = stream.and_then(|stream| stream.contender.as_ref());
        contender.is_some_and(|contender| contender.asker.is(token))
    }

    /// Whoever asked this awaits no answer any more: it no longer contends for a name. Whether it did; then
    /// no verdict follows.
    pub fn withdrawn(&mut self, token: AskToken) -> bool {
        for id in &self.timed {
            let Some(stream) = self.streams.get_mut(id) else { continue };
            let Some(contender) = &mut stream.contender else { continue };
            if !contender.asker.is(token) {
                continue;
            }
            if matches!(contender.phase, Phase::Replacing | Phase::Succeeding) {
                contender.is_gone = true;
            } else {
                stream.contender = None;
            }
            return true;
        }
        false
    }

    /// A connection that had been accepted is gone.
    pub fn disconnected(&mut self, client: &ClientInfo) {
        self.addresses.remove(client.id);
        let key = (client.vhost.clone(), client.app.clone());
        if let Some(count) = self.connections.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.connections.remove(&key);
            }
        }
    }

    /// The owner has set the publication up: those who wait for it may subscribe.
    pub fn publish_started(&mut self, id: StreamId, epoch: Epoch, out: &mut Outgoing) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some(publisher) = &mut stream.publisher else { return };
        if publisher.epoch != epoch {
            return;
        }
        publisher.started = true;
        stream.announced = true;
        self.events.push(StreamEvent::Up {
            name: stream.name.clone(),
            node: publisher.node,
            publisher: Arc::clone(&publisher.client),
            wishes: Arc::clone(&publisher.wishes),
        });
        let owner = Owner { node: publisher.node, epoch };
        for &node in stream.viewers.keys() {
            out.push((node, Notice::StreamUp { stream: id, owner }));
        }
    }

    /// The publisher is gone and the name is free.
    pub fn publish_ended(
        &mut self,
        id: StreamId,
        epoch: Epoch,
        goodbye: bool,
        resume: Option<Resume>,
        now: Moment,
        out: &mut Outgoing,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.publisher.as_ref().is_none_or(|publisher| publisher.epoch != epoch) {
            return;
        }
        let was_fetched =
            stream.publisher.take().is_some_and(|it| it.client.fetched != Fetched::No);
        stream.was_fetched = was_fetched;
        if resume.is_some() {
            stream.resume = resume;
        }
        let mut contender = stream.contender.take();
        if let Some(Contender { asker: Asker::Local(token, ask), .. }) =
            contender.take_if(|contender| !contender.is_judged)
        {
            // The name is free without its doing; whether it gets it is for the hooks to say.
            self.unjudged.push((token, *ask));
        }
        let is_replaced =
            contender.as_ref().is_some_and(|contender| contender.phase == Phase::Replacing);
        let is_goodbye = goodbye && !stream.settings.resume_after_goodbye && !is_replaced;
        let mut is_followed = false;
        if let Some(contender) = contender {
            if is_replaced {
                stream.taken_over(contender.asker.peer().ip(), now);
                self.counters.takeovers += 1;
            }
            let is_succession = contender.phase == Phase::Succeeding;
            match contender.asker {
                Asker::Local(token, ask) if !contender.is_gone => {
                    if is_goodbye && stream.tell_end(id, out) {
                        self.events.push(StreamEvent::Down { name: stream.name.clone() });
                    }
                    if is_succession || !self.needs_lease(&ask) {
                        let verdict = self.claim(id, token, &ask);
                        self.answer(token, verdict, out);
                        return;
                    }
                    // The node owns the name, if it has not been told otherwise meanwhile.
                    self.clustered.unleased.push((token, *ask));
                    is_followed = true;
                }
                Asker::Local(..) => {}
                Asker::Remote(contest, _) => self.clustered.contests.push((contest, Ok(()))),
            }
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if !was_fetched && !is_followed {
            self.events.push(StreamEvent::Freed { name: stream.name.clone() });
        }
        let ends_now = !stream.announced || is_goodbye || self.is_draining;
        let gap = if ends_now { Duration::ZERO } else { stream.settings.publish_resume };
        if gap.is_zero() {
            self.end(id, out);
        } else {
            stream.gap_until = Some(now + gap);
            self.timed.insert(id);
        }
    }

    /// A shard has no viewer of the stream left.
    pub fn left_stream(&mut self, node: Node, id: StreamId, grants: u64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if let Some(count) = stream.viewers.get_mut(&node) {
            *count = count.saturating_sub(grants);
            if *count == 0 {
                stream.viewers.remove(&node);
            }
        }
        if stream.viewers.is_empty() {
            self.events.push(StreamEvent::Unviewed { name: stream.name.clone() });
        }
        self.forget_if_unused(id);
    }

    /// The owner's answer to a probe.
    pub fn silence(
        &mut self,
        id: StreamId,
        epoch: Epoch,
        silent_for: Duration,
        now: Moment,
        out: &mut Outgoing,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some(publisher) = &stream.publisher else { return };
        let Some(contender) = &mut stream.contender else { return };
        let Phase::Probing { last } = contender.phase else { return };
        if publisher.epoch != epoch {
            return;
        }
        let silent = stream.settings.publish_silent;
        if silent_for >= silent && !contender.is_judged {
            if let Some(Contender { asker: Asker::Local(token, ask), .. }) = stream.contender.take()
            {
                self.unjudged.push((token, *ask));
            }
        } else if silent_for >= silent {
            contender.phase = Phase::Replacing;
            contender.deadline = now + OWNER_ANSWER_MAX;
            let by = contender.asker.peer().to_string();
            out.push((publisher.node, Notice::Replace { stream: id, epoch, by }));
        } else if last {
            let refusal = taken(&stream.name, publisher);
            if let Some(contender) = stream.contender.take() {
                self.refuse(contender.asker, refusal, out);
            }
        } else {
            contender.phase = Phase::Waiting { until: now + (silent - silent_for) };
        }
    }

    /// The next moment at which [`Registry::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.timed.iter().filter_map(|id| self.streams.get(id)?.next_deadline()).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Moment, out: &mut Outgoing) {
        if self.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        let due: Vec<StreamId> = self.timed.iter().copied().collect();
        for id in due {
            self.tick_stream(id, now, out);
            if self.streams.get(&id).is_none_or(|stream| stream.next_deadline().is_none()) {
                self.timed.remove(&id);
            }
        }
    }

    fn tick_stream(&mut self, id: StreamId, now: Moment, out: &mut Outgoing) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.gap_until.is_some_and(|until| until <= now) {
            self.counters.gaps_expired += 1;
            self.end(id, out);
            return;
        }
        let (Some(contender), Some(publisher)) = (&mut stream.contender, &stream.publisher) else {
            return;
        };
        if contender.deadline <= now {
            let refusal = taken(&stream.name, publisher);
            if let Some(contender) = stream.contender.take_if(|contender| !contender.is_gone) {
                self.refuse(contender.asker, refusal, out);
            } else {
                stream.contender = None;
            }
        } else if let Phase::Waiting { until } = contender.phase
            && until <= now
        {
            contender.phase = Phase::Probing { last: true };
            let epoch = publisher.epoch;
            out.push((publisher.node, Notice::Probe { stream: id, epoch }));
        }
    }

    fn connect(&mut self, ask: &Ask) -> Verdict {
        let client = &ask.client;
        if !self.settings.serves_app(&client.vhost, &client.app, &client.instance) {
            return Verdict::Refuse(Refusal::new(
                RefusalReason::UnknownApp,
                format!("application {} is not served here", client.app),
            ));
        }
        let settings = self.app_of(client);
        if let Err(refusal) = self.has_room(ask, &settings) {
            return Verdict::Refuse(refusal);
        }
        if self.settings.limits.connections_per_address.is_some() {
            self.addresses.add(client.id, ask.peer);
        }
        *self.connections.entry((client.vhost.clone(), client.app.clone())).or_default() += 1;
        Verdict::Accept(Grant::Connect { client: Arc::clone(client), settings, push: None })
    }

    /// Whether the client's application takes one more connection, and one of its address.
    fn has_room(&self, ask: &Ask, settings: &AppSettings) -> Result<(), Refusal> {
        let limit = self.settings.limits.connections_per_address;
        if limit.is_some_and(|max| self.addresses.count(ask.peer) >= max) {
            let address = ask.peer.ip();
            let text = format!("{address} has reached limits.connections_per_address");
            return Err(Refusal::new(RefusalReason::Limit, text));
        }
        let client = &ask.client;
        let key = (client.vhost.clone(), client.app.clone());
        let count = self.connections.get(&key).copied().unwrap_or_default();
        if settings.max_connections.is_some_and(|max| count >= max as u64) {
            let text = format!("application {} has reached max_connections", client.app);
            return Err(Refusal::new(RefusalReason::Limit, text));
        }
        Ok(())
    }

    fn app_of(&self, client: &ClientInfo) -> Arc<AppSettings> {
        self.settings.app(&client.vhost, &client.app, &client.instance)
    }

    fn publish(
        &mut self,
        token: AskToken,
        ask: &Ask,
        name: &StreamName,
        gate: Gate,
        now: Moment,
        out: &mut Outgoing,
    ) -> Option<Verdict> {
        let peer = ask.peer;
        let settings = self.settings.app(name.vhost(), name.app(), name.instance());
        if !ask.client.is_relay && !settings.permits(RuleAction::Publish, peer.ip()) {
            return Some(Verdict::Refuse(denied(name, "may not be published", peer)));
        }
        if gate == Gate::Ahead && !self.is_published(name) {
            return None;
        }
        let id = match self.stream(name, settings) {
            Ok(id) => id,
            Err(refusal) => return Some(Verdict::Refuse(refusal)),
        };
        let needs_lease = gate != Gate::Leased && self.needs_lease(ask);
        let stream = self.streams.get_mut(&id)?;
        let is_copied = stream.publisher.as_ref().map(Publisher::is_copy);
        match is_copied {
            // The other nodes have a say in it.
            None | Some(true) if needs_lease => {
                self.clustered.unleased.push((token, ask.clone()));
                self.forget_if_unused(id);
                None
            }
            None => Some(self.claim(id, token, ask)),
            Some(true) => self.succeed(id, token, ask, now, out),
            Some(false) => {
                let asker = Asker::Local(token, Box::new(ask.clone()));
                let opposed = self.oppose(id, asker, gate, now, out);
                opposed.err().map(Verdict::Refuse)
            }
        }
    }

    /// The stream has a publisher, and somebody wants to publish it instead. Either it is refused at once,
    /// or it contends for the name, or hooks have to judge it first.
    fn oppose(
        &mut self,
        id: StreamId,
        asker: Asker,
        gate: Gate,
        now: Moment,
        out: &mut Outgoing,
    ) -> Result<(), Refusal> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let Some(publisher) = &stream.publisher else { return Ok(()) };
        let refusal = taken(&stream.name, publisher);
        let is_copy =
            matches!(&asker, Asker::Local(_, ask) if ask.client.fetched == Fetched::InCluster);
        // Only one at a time contends for a name; the others are refused at once.
        if stream.contender.is_some() || stream.settings.takeover == Takeover::Reject || is_copy {
            return Err(refusal);
        }
        let peer = asker.peer();
        let (node, epoch, holder) = (publisher.node, publisher.epoch, publisher.peer);
        let (phase, notice, wait) = match stream.settings.takeover {
            Takeover::Replace => {
                let is_known = now < stream.fight_until;
                if stream.is_fight(now) {
                    self.counters.fights += 1;
                    // Once: encoders that fight try again several times a second.
                    if !is_known {
                        tracing::warn!(
                            stream = %stream.name, %peer, publisher = %holder,
                            "two publishers fight for the name; take-overs are refused for 30 s"
                        );
                    }
                    return Err(refusal);
                }
                if gate == Gate::Ahead {
                    return Ok(());
                }
                let by = peer.to_string();
                (Phase::Replacing, Notice::Replace { stream: id, epoch, by }, Duration::ZERO)
            }
            // Who was judged has waited for the silence before; it must still last.
            _ => (
                Phase::Probing { last: gate == Gate::Passed },
                Notice::Probe { stream: id, epoch },
                stream.settings.publish_silent,
            ),
        };
        out.push((node, notice));
        stream.contender = Some(Contender {
            asker,
            is_judged: gate != Gate::Ahead,
            phase,
            deadline: now + wait + OWNER_ANSWER_MAX,
            is_gone: false,
        });
        self.timed.insert(id);
        Ok(())
    }

    fn play(
        &mut self,
        token: AskToken,
        ask: &Ask,
        name: &StreamName,
        http: bool,
        gate: Gate,
    ) -> Verdict {
        let client = &ask.client;
        if http && let Verdict::Refuse(refusal) = self.connect(ask) {
            return Verdict::Refuse(refusal);
        }
        let verdict = self.play_connected(token, ask, name, http, gate);
        // A refused HTTP viewer was never connected.
        if http && matches!(verdict, Verdict::Refuse(_)) {
            self.disconnected(client);
        }
        verdict
    }

    fn play_connected(
        &mut self,
        token: AskToken,
        ask: &Ask,
        name: &StreamName,
        http: bool,
        gate: Gate,
    ) -> Verdict {
        if let Some(refusal) = self.play_denied(ask, name, false) {
            return Verdict::Refuse(refusal);
        }
        let settings = self.settings.app(name.vhost(), name.app(), name.instance());
        let id = match self.stream(name, Arc::clone(&settings)) {
            Ok(id) => id,
            Err(refusal) => return Verdict::Refuse(refusal),
        };
        let is_relay = ask.client.is_relay;
        let source = ask.wishes.redirect.first();
        let has_source = source.is_some() || !settings.pull.is_empty();
        let is_fetched = !is_relay && (has_source || self.settings.cluster.is_some());
        let may_wait = !is_relay
            && (gate == Gate::LookedUp { is_elsewhere: true }
                || has_source
                || self.settings.waits_for_publisher(&settings, http));
        let Some(stream) = self.streams.get_mut(&id) else {
            return Verdict::Refuse(Refusal::new(RefusalReason::Unavailable, "no such stream"));
        };
        let missing = stream.publisher.is_none() && stream.gap_until.is_none();
        if missing && !may_wait {
            self.forget_if_unused(id);
            return Verdict::Refuse(Refusal::new(
                RefusalReason::NotPublished,
                format!("{name} is not published"),
            ));
        }
        if missing && is_fetched {
            let (nodes, source) = (ask.client.nodes.clone(), source.cloned());
            self.events.push(StreamEvent::Wanted { name: name.clone(), nodes, source });
        }
        *stream.viewers.entry(token.node).or_default() += 1;
        let owner = stream
            .publisher
            .as_ref()
            .filter(|publisher| publisher.started)
            .map(|publisher| Owner { node: publisher.node, epoch: publisher.epoch });
        let connected = http.then(|| Arc::clone(&ask.client));
        let name = name.clone();
        let (lease, audience) = (None, stream.audience.clone());
        Verdict::Accept(Grant::Play {
            stream: id,
            name,
            owner,
            lease,
            connected,
            audience,
            settings,
        })
    }

    /// What the rules have against a play; `counts` when the viewer takes a place of the app.
    fn play_denied(&self, ask: &Ask, name: &StreamName, counts: bool) -> Option<Refusal> {
        if ask.client.is_relay {
            return None;
        }
        let settings = self.settings.app(name.vhost(), name.app(), name.instance());
        if !settings.permits(RuleAction::Play, ask.peer.ip()) {
            return Some(denied(name, "may not be played", ask.peer));
        }
        if !settings.permits_referer(&ask.client.page_url) {
            let text = format!("{name} may not be played on this page");
            return Some(Refusal::new(RefusalReason::Denied, text));
        }
        if counts { self.has_room(ask, &settings).err() } else { None }
    }

    /// Whether somebody publishes the name, other than a copy of what another node publishes.
    pub fn is_published(&self, name: &StreamName) -> bool {
        let found = self.ids.get(name).and_then(|id| self.streams.get(id));
        let publisher = found.and_then(|stream| stream.publisher.as_ref());
        publisher.is_some_and(|publisher| !publisher.is_copy())
    }

    /// Whether somebody publishes the name, and has begun.
    pub fn has_begun(&self, name: &StreamName) -> bool {
        let found = self.ids.get(name).and_then(|id| self.streams.get(id));
        let publisher = found.and_then(|stream| stream.publisher.as_ref());
        publisher.is_some_and(|publisher| publisher.started)
    }

    /// Gives the free name to a publisher.
    fn claim(&mut self, id: StreamId, token: AskToken, ask: &Ask) -> Verdict {
        let epoch = Epoch(self.next_epoch);
        self.next_epoch += 1;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Verdict::Refuse(Refusal::new(RefusalReason::Unavailable, "no such stream"));
        };
        debug_assert!(stream.publisher.is_none());
        let name = &stream.name;
        stream.settings = self.settings.app(name.vhost(), name.app(), name.instance());
        if stream.gap_until.take().is_some() {
            self.counters.resumed += 1;
        }
        stream.publisher = Some(Publisher {
            node: token.node,
            epoch,
            client: Arc::clone(&ask.client),
            peer: ask.peer,
            wishes: Arc::new(ask.wishes.clone()),
            started: false,
        });
        Verdict::Accept(Grant::Publish {
            stream: id,
            epoch,
            name: stream.name.clone(),
            resume: stream.resume,
            settings: Arc::clone(&stream.settings),
        })
    }

    /// The stream's entry, made when missing.
    fn stream(
        &mut self,
        name: &StreamName,
        settings: Arc<AppSettings>,
    ) -> Result<StreamId, Refusal> {
        if let Some(&id) = self.ids.get(name) {
            return Ok(id);
        }
        let max = self.settings.limits.streams;
        if self.streams.len() >= max {
            return Err(Refusal::new(
                RefusalReason::Limit,
                format!("limits.streams = {max} is reached"),
            ));
        }
        let id = StreamId(self.next_stream);
        self.next_stream += 1;
        self.ids.insert(name.clone(), id);
        self.streams.insert(id, Stream::new(name.clone(), settings));
        Ok(id)
    }

    /// The stream is over for those who watch; they may go on waiting for the next publisher.
    fn end(&mut self, id: StreamId, out: &mut Outgoing) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.tell_end(id, out)
        {
            self.events.push(StreamEvent::Down { name: stream.name.clone() });
        }
        self.forget_if_unused(id);
    }

    fn forget_if_unused(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else { return };
        let used = stream.publisher.is_some()
            || stream.contender.is_some()
            || stream.gap_until.is_some()
            || !stream.viewers.is_empty();
        if !used {
            self.ids.remove(&stream.name);
            self.streams.remove(&id);
            self.timed.remove(&id);
        }
    }

    fn refuse(&mut self, asker: Asker, refusal: Refusal, out: &mut Outgoing) {
        match asker {
            Asker::Local(token, _) => self.answer(token, Verdict::Refuse(refusal), out),
            Asker::Remote(contest, _) => {
                self.clustered.contests.push((contest, Err(refusal.description)));
            }
        }
    }

    fn answer(&mut self, token: AskToken, verdict: Verdict, out: &mut Outgoing) {
        match verdict {
            Verdict::Accept(_) => self.counters.accepted += 1,
            Verdict::Refuse(_) => self.counters.refused += 1,
        }
        out.push((token.node, Notice::Verdict(token, Box::new(verdict))));
    }
}

fn shutting_down() -> Refusal {
    Refusal::new(RefusalReason::Draining, "the server is shutting down")
}

fn denied(name: &StreamName, what: &str, peer: SocketAddr) -> Refusal {
    Refusal::new(RefusalReason::Denied, format!("{name} {what} from {}", peer.ip()))
}

fn taken(name: &StreamName, publisher: &Publisher) -> Refusal {
    Refusal::new(
        RefusalReason::NameTaken,
        format!("{name} is already published by {}", publisher.peer),
    )
}

#[cfg(test)]
mod tests;
