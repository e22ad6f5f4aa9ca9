//! The registry of stream names: the one writer that decides who publishes a name and who may
//! view it. No I/O and no clock; messages in, messages out.
//!
//! What must hold:
//! - A name has at most one publisher. It is claimed by the verdict and freed by `PublishEnded`,
//!   which the owner's claim sends whatever becomes of the connection.
//! - `StreamUp` follows `PublishStarted`, so a subscription never reaches an owner that does not
//!   know the publication.
//! - A shard with viewers (or with an accepted play on its way) is told of each publication and of
//!   the end; a shard without viewers is told nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{AppSettings, FlvMissing, Missing, RuleAction, Settings, Takeover};
use crate::media::{Epoch, Moment, Resume, StreamId};
use crate::proto::name::StreamName;
use crate::session::{Ask, ClientInfo, Grant, Owner, Refusal, RefusalReason, Verdict, Want};
use crate::shard::{AskToken, Node, Notice};

/// An owner that does not answer a probe, or does not give the name back, within this time on top
/// of the wait that the policy allows, keeps the name; the second publisher is refused.
const OWNER_ANSWER_MAX: Duration = Duration::from_secs(1);
/// Two take-overs of a name within this time by two addresses are a fight.
const FIGHT_WINDOW: Duration = Duration::from_secs(10);
/// For so long further take-overs of the name are refused.
const FIGHT_PAUSE: Duration = Duration::from_secs(30);

/// Everything the control shard knows of streams.
#[derive(Debug)]
pub struct Registry {
    settings: Arc<Settings>,
    ids: HashMap<StreamName, StreamId>,
    streams: BTreeMap<StreamId, Stream>,
    /// Streams with something to do at a time.
    timed: HashSet<StreamId>,
    connections: HashMap<(String, String), u64>,
    next_stream: u64,
    next_epoch: u64,
    counters: RegistryCounters,
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
    /// Shards with viewers.
    pub viewer_shards: Vec<usize>,
    /// Waiting for the publisher to come back.
    pub in_gap: bool,
}

#[derive(Debug)]
struct Stream {
    name: StreamName,
    settings: Arc<AppSettings>,
    publisher: Option<Publisher>,
    /// Accepted plays per node, less those it has said good-bye for.
    viewers: BTreeMap<Node, u64>,
    resume: Option<Resume>,
    /// Viewers were told of a publication and not yet of its end.
    announced: bool,
    gap_until: Option<Moment>,
    contender: Option<Contender>,
    takeovers: Vec<(Moment, IpAddr)>,
    fight_until: Moment,
}

#[derive(Debug)]
struct Publisher {
    node: Node,
    epoch: Epoch,
    peer: SocketAddr,
    started: bool,
}

/// A second publisher that waits for the first to end or to prove alive.
#[derive(Debug)]
struct Contender {
    token: AskToken,
    peer: SocketAddr,
    phase: Phase,
    deadline: Moment,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// The owner was asked how long its publisher has been silent; `last` is the final question.
    Probing { last: bool },
    /// The rest of the silence passes.
    Waiting { until: Moment },
    /// The owner was told to close its publisher.
    Replacing,
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
            connections: HashMap::new(),
            next_stream: 1,
            next_epoch: 1,
            counters: RegistryCounters::default(),
        }
    }

    /// The counters.
    pub fn counters(&self) -> RegistryCounters {
        self.counters
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
                viewer_shards: stream.viewers.keys().copied().collect(),
                in_gap: stream.gap_until.is_some(),
            })
            .collect()
    }

    /// A question of a connection. The answer may come later (see [`Registry::tick`]).
    pub fn ask(&mut self, token: AskToken, ask: &Ask, now: Moment, out: &mut Outgoing) {
        let verdict = match &ask.what {
            Want::Connect => Some(self.connect(&ask.client)),
            Want::Publish { name, .. } => self.publish(token, ask.peer, name, now, out),
            Want::Play { name, http, .. } => Some(self.play(token, ask, name, *http)),
        };
        if let Some(verdict) = verdict {
            self.answer(token, verdict, out);
        }
    }

    /// A connection that had been accepted is gone.
    pub fn disconnected(&mut self, client: &ClientInfo) {
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
        stream.publisher = None;
        if resume.is_some() {
            stream.resume = resume;
        }
        let contender = stream.contender.take();
        let is_replaced =
            contender.as_ref().is_some_and(|contender| contender.phase == Phase::Replacing);
        let is_goodbye = goodbye && !stream.settings.resume_after_goodbye && !is_replaced;
        if let Some(contender) = contender {
            if is_replaced {
                stream.forget_old_takeovers(now);
                stream.takeovers.push((now, contender.peer.ip()));
                self.counters.takeovers += 1;
            }
            if is_goodbye {
                stream.tell_end(id, out);
            }
            let verdict = self.claim(id, contender.token, contender.peer);
            self.answer(contender.token, verdict, out);
            return;
        }
        let ends_now = !stream.announced || is_goodbye;
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
        if silent_for >= silent {
            contender.phase = Phase::Replacing;
            contender.deadline = now + OWNER_ANSWER_MAX;
            let by = contender.peer.to_string();
            out.push((publisher.node, Notice::Replace { stream: id, epoch, by }));
        } else if last {
            let refusal = taken(&stream.name, publisher);
            let token = contender.token;
            stream.contender = None;
            self.answer(token, Verdict::Refuse(refusal), out);
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
            let token = contender.token;
            stream.contender = None;
            self.answer(token, Verdict::Refuse(refusal), out);
        } else if let Phase::Waiting { until } = contender.phase
            && until <= now
        {
            contender.phase = Phase::Probing { last: true };
            let epoch = publisher.epoch;
            out.push((publisher.node, Notice::Probe { stream: id, epoch }));
        }
    }

    fn connect(&mut self, client: &Arc<ClientInfo>) -> Verdict {
        if !self.settings.serves_app(&client.vhost, &client.app, &client.instance) {
            return Verdict::Refuse(Refusal::new(
                RefusalReason::UnknownApp,
                format!("application {} is not served here", client.app),
            ));
        }
        let settings = self.settings.app(&client.vhost, &client.app, &client.instance);
        let key = (client.vhost.clone(), client.app.clone());
        let count = self.connections.get(&key).copied().unwrap_or_default();
        if settings.max_connections.is_some_and(|max| count >= max as u64) {
            return Verdict::Refuse(Refusal::new(
                RefusalReason::Limit,
                format!("application {} has reached max_connections", client.app),
            ));
        }
        self.connections.insert(key, count + 1);
        Verdict::Accept(Grant::Connect { client: Arc::clone(client), settings })
    }

    fn publish(
        &mut self,
        token: AskToken,
        peer: SocketAddr,
        name: &StreamName,
        now: Moment,
        out: &mut Outgoing,
    ) -> Option<Verdict> {
        let settings = self.settings.app(name.vhost(), name.app(), name.instance());
        if !settings.permits(RuleAction::Publish, peer.ip()) {
            return Some(Verdict::Refuse(denied(name, "may not be published", peer)));
        }
        let id = match self.stream(name, settings) {
            Ok(id) => id,
            Err(refusal) => return Some(Verdict::Refuse(refusal)),
        };
        let stream = self.streams.get_mut(&id)?;
        let Some(publisher) = &stream.publisher else {
            return Some(self.claim(id, token, peer));
        };
        let refusal = taken(name, publisher);
        // Only one at a time contends for a name; the others are refused at once.
        if stream.contender.is_some() || stream.settings.takeover == Takeover::Reject {
            return Some(Verdict::Refuse(refusal));
        }
        let (node, epoch) = (publisher.node, publisher.epoch);
        let (phase, notice, wait) = match stream.settings.takeover {
            Takeover::Replace => {
                if stream.is_fight(now) {
                    self.counters.fights += 1;
                    tracing::warn!(
                        stream = %name, %peer,
                        "two publishers fight for the name; take-overs are refused for 30 s"
                    );
                    return Some(Verdict::Refuse(refusal));
                }
                let by = peer.to_string();
                (Phase::Replacing, Notice::Replace { stream: id, epoch, by }, Duration::ZERO)
            }
            _ => (
                Phase::Probing { last: false },
                Notice::Probe { stream: id, epoch },
                stream.settings.publish_silent,
            ),
        };
        out.push((node, notice));
        stream.contender =
            Some(Contender { token, peer, phase, deadline: now + wait + OWNER_ANSWER_MAX });
        self.timed.insert(id);
        None
    }

    fn play(&mut self, token: AskToken, ask: &Ask, name: &StreamName, http: bool) -> Verdict {
        let client = &ask.client;
        if http && let Verdict::Refuse(refusal) = self.connect(client) {
            return Verdict::Refuse(refusal);
        }
        let verdict = self.play_connected(token, ask, name, http);
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
    ) -> Verdict {
        let settings = self.settings.app(name.vhost(), name.app(), name.instance());
        if !settings.permits(RuleAction::Play, ask.peer.ip()) {
            return Verdict::Refuse(denied(name, "may not be played", ask.peer));
        }
        if !settings.permits_referer(&ask.client.page_url) {
            let text = format!("{name} may not be played on this page");
            return Verdict::Refuse(Refusal::new(RefusalReason::Denied, text));
        }
        let id = match self.stream(name, Arc::clone(&settings)) {
            Ok(id) => id,
            Err(refusal) => return Verdict::Refuse(refusal),
        };
        let Some(stream) = self.streams.get_mut(&id) else {
            return Verdict::Refuse(Refusal::new(RefusalReason::Unavailable, "no such stream"));
        };
        let missing = stream.publisher.is_none() && stream.gap_until.is_none();
        let may_wait = if http {
            self.settings.http.flv_missing == FlvMissing::Wait
        } else {
            settings.missing == Missing::Wait
        };
        if missing && !may_wait {
            self.forget_if_unused(id);
            return Verdict::Refuse(Refusal::new(
                RefusalReason::NotPublished,
                format!("{name} is not published"),
            ));
        }
        *stream.viewers.entry(token.node).or_default() += 1;
        let owner = stream
            .publisher
            .as_ref()
            .filter(|publisher| publisher.started)
            .map(|publisher| Owner { node: publisher.node, epoch: publisher.epoch });
        let connected = http.then(|| Arc::clone(&ask.client));
        Verdict::Accept(Grant::Play { stream: id, name: name.clone(), owner, connected, settings })
    }

    /// Gives the free name to a publisher.
    fn claim(&mut self, id: StreamId, token: AskToken, peer: SocketAddr) -> Verdict {
        let epoch = Epoch(self.next_epoch);
        self.next_epoch += 1;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Verdict::Refuse(Refusal::new(RefusalReason::Unavailable, "no such stream"));
        };
        debug_assert!(stream.publisher.is_none());
        if stream.gap_until.take().is_some() {
            self.counters.resumed += 1;
        }
        stream.publisher = Some(Publisher { node: token.node, epoch, peer, started: false });
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
        self.streams.insert(
            id,
            Stream {
                name: name.clone(),
                settings,
                publisher: None,
                viewers: BTreeMap::new(),
                resume: None,
                announced: false,
                gap_until: None,
                contender: None,
                takeovers: Vec::new(),
                fight_until: Moment::ZERO,
            },
        );
        Ok(id)
    }

    /// The stream is over for those who watch; they may go on waiting for the next publisher.
    fn end(&mut self, id: StreamId, out: &mut Outgoing) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.tell_end(id, out);
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

    fn answer(&mut self, token: AskToken, verdict: Verdict, out: &mut Outgoing) {
        match verdict {
            Verdict::Accept(_) => self.counters.accepted += 1,
            Verdict::Refuse(_) => self.counters.refused += 1,
        }
        out.push((token.node, Notice::Verdict(token, Box::new(verdict))));
    }
}

impl Stream {
    /// The stream is over for those who watch.
    fn tell_end(&mut self, id: StreamId, out: &mut Outgoing) {
        self.gap_until = None;
        self.resume = None;
        if std::mem::take(&mut self.announced) {
            let notices = self.viewers.keys();
            out.extend(notices.map(|&node| (node, Notice::StreamDown { stream: id })));
        }
    }

    fn forget_old_takeovers(&mut self, now: Moment) {
        self.takeovers.retain(|(at, _)| now.since(*at) <= FIGHT_WINDOW);
    }

    fn next_deadline(&self) -> Option<Moment> {
        let contender = self.contender.as_ref().map(|contender| match contender.phase {
            Phase::Waiting { until } => until.min(contender.deadline),
            _ => contender.deadline,
        });
        [self.gap_until, contender].into_iter().flatten().min()
    }

    /// Whether the last two take-overs were a fight, or one is going on.
    fn is_fight(&mut self, now: Moment) -> bool {
        if now < self.fight_until {
            return true;
        }
        self.forget_old_takeovers(now);
        let addresses: HashSet<IpAddr> = self.takeovers.iter().map(|(_, by)| *by).collect();
        let fight = self.takeovers.len() >= 2 && addresses.len() >= 2;
        if fight {
            self.fight_until = now + FIGHT_PAUSE;
        }
        fight
    }
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Sources;
    use crate::shard::ConnKey;

    const A: &str = "192.0.2.1:1000";
    const B: &str = "192.0.2.2:2000";

    /// A registry, its clock, and what it has said.
    struct World {
        registry: Registry,
        now: Moment,
        said: Outgoing,
        serial: u32,
    }

    fn world(toml: &str) -> World {
        let file = Some(("test.toml".to_owned(), toml.to_owned()));
        let sources = Sources { file, environment: Vec::new(), set: Vec::new() };
        let settings = Arc::new(Settings::load(&sources).unwrap());
        let now = Moment::ZERO + Duration::from_secs(100);
        World { registry: Registry::new(settings), now, said: Vec::new(), serial: 0 }
    }

    fn app(lines: &str) -> World {
        world(&format!("[apps.default]\n{lines}\n"))
    }

    fn name(stream: &str) -> StreamName {
        StreamName::new("__defaultVhost__", "live", "_definst_", stream).unwrap()
    }

    impl World {
        fn ask_as(&mut self, node: Node, peer: &str, page_url: &str, what: Want) -> AskToken {
            self.serial += 1;
            let connection = ConnKey { slot: self.serial, generation: 0 };
            let token = AskToken { node, connection, serial: self.serial };
            let client = Arc::new(ClientInfo {
                vhost: "__defaultVhost__".to_owned(),
                app: "live".to_owned(),
                instance: "_definst_".to_owned(),
                page_url: page_url.to_owned(),
                ..ClientInfo::default()
            });
            let ask = Ask { peer: peer.parse().unwrap(), client, what };
            self.registry.ask(token, &ask, self.now, &mut self.said);
            token
        }

        fn publish(&mut self, node: Node, peer: &str, stream: &str) -> AskToken {
            let want =
                Want::Publish { name: name(stream), kind: "live".to_owned(), args: String::new() };
            self.ask_as(node, peer, "", want)
        }

        fn play(&mut self, node: Node, stream: &str, http: bool) -> AskToken {
            self.ask_as(node, A, "", Want::Play { name: name(stream), args: String::new(), http })
        }

        /// The answer to a question, taken out.
        fn answer(&mut self, token: AskToken) -> Option<Verdict> {
            let is_it = |(node, notice): &(Node, Notice)| {
                *node == token.node && matches!(notice, Notice::Verdict(of, _) if *of == token)
            };
            let at = self.said.iter().position(is_it)?;
            match self.said.remove(at).1 {
                Notice::Verdict(_, verdict) => Some(*verdict),
                _ => None,
            }
        }

        fn refusal(&mut self, token: AskToken) -> Option<RefusalReason> {
            match self.answer(token) {
                Some(Verdict::Refuse(refusal)) => Some(refusal.reason),
                Some(Verdict::Accept(_)) => panic!("accepted"),
                None => None,
            }
        }

        fn claim(&mut self, token: AskToken) -> (StreamId, Epoch, Option<Resume>) {
            match self.answer(token) {
                Some(Verdict::Accept(Grant::Publish { stream, epoch, resume, .. })) => {
                    (stream, epoch, resume)
                }
                other => panic!("no claim: {other:?}"),
            }
        }

        fn owner(&mut self, token: AskToken) -> Option<Owner> {
            match self.answer(token) {
                Some(Verdict::Accept(Grant::Play { owner, .. })) => owner,
                other => panic!("no play: {other:?}"),
            }
        }

        /// A publisher that has started.
        fn published(&mut self, node: Node, peer: &str) -> (StreamId, Epoch) {
            let token = self.publish(node, peer, "s");
            let (stream, epoch, _) = self.claim(token);
            self.registry.publish_started(stream, epoch, &mut self.said);
            (stream, epoch)
        }

        fn ended(&mut self, (stream, epoch): (StreamId, Epoch), goodbye: bool) {
            let resume = Some(Resume { last_ms: 77, at: self.now });
            let (registry, out) = (&mut self.registry, &mut self.said);
            registry.publish_ended(stream, epoch, goodbye, resume, self.now, out);
        }

        fn silence(&mut self, (stream, epoch): (StreamId, Epoch), ms: u64) {
            let silent = Duration::from_millis(ms);
            self.registry.silence(stream, epoch, silent, self.now, &mut self.said);
        }

        fn after(&mut self, ms: u64) {
            self.now = self.now + Duration::from_millis(ms);
            self.registry.tick(self.now, &mut self.said);
        }

        /// What was said beside verdicts, as words, taken out.
        fn words(&mut self) -> Vec<String> {
            let said = std::mem::take(&mut self.said).into_iter();
            let word = |(node, notice)| match notice {
                Notice::StreamUp { .. } => format!("up {node}"),
                Notice::StreamDown { .. } => format!("down {node}"),
                Notice::Probe { .. } => format!("probe {node}"),
                Notice::Replace { by, .. } => format!("replace {node} by {by}"),
                other => format!("{other:?}"),
            };
            said.map(word).collect()
        }
    }

    #[test]
    fn reject_refuses_the_second_publisher_at_once() {
        let mut world = app("publish.takeover = \"reject\"");
        world.published(0, A);
        let second = world.publish(1, B, "s");
        assert_eq!(world.refusal(second), Some(RefusalReason::NameTaken));
        assert_eq!(world.words(), [] as [&str; 0]);
    }

    #[test]
    fn replace_closes_the_first_and_says_by_whom() {
        let mut world = app("publish.takeover = \"replace\"");
        let first = world.published(0, A);
        let second = world.publish(1, B, "s");
        assert_eq!(world.words(), [format!("replace 0 by {B}")]);
        world.ended(first, false);
        let (stream, epoch, resume) = world.claim(second);
        assert!(stream == first.0 && epoch > first.1 && resume.is_some());
        assert_eq!(world.registry.counters().takeovers, 1);
    }

    #[test]
    fn replace_when_silent_waits_for_the_rest_of_the_silence() {
        // (silent at the first question, at the second, outcome)
        let table = [
            (5_000, None, "replaced at once"),
            (500, Some(2_000), "replaced after the rest"),
            (500, Some(100), "refused: it has sent something"),
        ];
        for (at_first, at_second, case) in table {
            let mut world =
                app("publish.takeover = \"replace_when_silent\"\npublish.silent = \"2s\"");
            let first = world.published(0, A);
            let second = world.publish(1, B, "s");
            assert_eq!(world.words(), ["probe 0"], "{case}");
            world.silence(first, at_first);
            if let Some(again) = at_second {
                world.after(1_499);
                assert_eq!(world.words(), [] as [&str; 0], "{case}");
                world.after(1);
                assert_eq!(world.words(), ["probe 0"], "{case}");
                world.silence(first, again);
            }
            if at_second == Some(100) {
                assert_eq!(world.refusal(second), Some(RefusalReason::NameTaken), "{case}");
            } else {
                assert_eq!(world.words(), [format!("replace 0 by {B}")], "{case}");
                world.ended(first, false);
                world.claim(second);
            }
            assert_eq!(world.registry.next_deadline().is_some(), false, "{case}");
        }
    }

    #[test]
    fn an_owner_that_does_not_answer_keeps_the_name() {
        for (takeover, wait_ms) in [("replace", 1_000), ("replace_when_silent", 3_000)] {
            let mut world = app(&format!("publish.takeover = \"{takeover}\""));
            world.published(0, A);
            let second = world.publish(1, B, "s");
            let third = world.publish(1, B, "s");
            assert_eq!(world.refusal(third), Some(RefusalReason::NameTaken), "one contends");
            world.after(wait_ms - 1);
            assert_eq!(world.refusal(second), None);
            world.after(1);
            assert_eq!(world.refusal(second), Some(RefusalReason::NameTaken));
        }
    }

    #[test]
    fn two_encoders_that_fight_are_parted_for_a_while() {
        let mut world = app("publish.takeover = \"replace\"");
        let mut holder = world.published(0, A);
        for peer in [B, A] {
            let token = world.publish(0, peer, "s");
            world.ended(holder, false);
            let (stream, epoch, _) = world.claim(token);
            holder = (stream, epoch);
            world.after(1_000);
        }
        let third = world.publish(0, B, "s");
        assert_eq!(world.refusal(third), Some(RefusalReason::NameTaken));
        world.after(29_999);
        let still = world.publish(0, B, "s");
        assert_eq!(world.refusal(still), Some(RefusalReason::NameTaken));
        world.after(1);
        let later = world.publish(0, B, "s");
        world.ended(holder, false);
        world.claim(later);
    }

    #[test]
    fn one_encoder_that_comes_back_often_does_not_fight_with_itself() {
        let mut world = app("publish.takeover = \"replace\"");
        let mut holder = world.published(0, A);
        for _ in 0..10 {
            let token = world.publish(0, A, "s");
            world.ended(holder, false);
            let (stream, epoch, _) = world.claim(token);
            holder = (stream, epoch);
        }
        assert_eq!(world.registry.counters().fights, 0);
    }

    #[test]
    fn a_lost_publisher_may_come_back_and_viewers_hear_nothing() {
        let mut world = app("publish.resume = \"15s\"");
        let first = world.published(0, A);
        let viewer = world.play(1, "s", false);
        assert!(world.owner(viewer).is_some());
        world.words();
        world.ended(first, false);
        world.after(14_999);
        assert_eq!(world.words(), [] as [&str; 0]);
        let in_gap = world.play(1, "s", false);
        assert_eq!(world.owner(in_gap), None, "nothing to see in the gap");
        let back = world.publish(1, B, "s");
        let (stream, epoch, resume) = world.claim(back);
        assert_eq!(resume.map(|resume| resume.last_ms), Some(77));
        world.after(60_000);
        world.registry.publish_started(stream, epoch, &mut world.said);
        assert_eq!(world.words(), ["up 1"]);
        assert_eq!(world.registry.counters().resumed, 1);
    }

    #[test]
    fn the_end_comes_once_after_the_gap_and_the_clock_begins_anew() {
        let mut world = app("publish.resume = \"15s\"");
        let first = world.published(0, A);
        let viewer = world.play(1, "s", false);
        world.owner(viewer);
        world.ended(first, false);
        world.after(15_000);
        world.after(15_000);
        assert_eq!(world.words(), ["down 1"]);
        let next = world.publish(0, A, "s");
        assert_eq!(world.claim(next).2, None);
    }

    #[test]
    fn a_goodbye_ends_at_once_unless_it_is_to_be_resumed() {
        for (toml, expected) in
            [("", vec!["down 1"]), ("publish.resume_after_goodbye = true", vec![])]
        {
            let mut world = app(toml);
            let first = world.published(0, A);
            let viewer = world.play(1, "s", false);
            world.owner(viewer);
            world.ended(first, true);
            assert_eq!(world.words(), expected, "{toml}");
        }
    }

    #[test]
    fn a_goodbye_ends_the_stream_though_another_publisher_waits_for_the_name() {
        let mut world = app("publish.takeover = \"replace_when_silent\"");
        let first = world.published(0, A);
        let viewer = world.play(1, "s", false);
        world.owner(viewer);
        let second = world.publish(0, B, "s");
        assert_eq!(world.words(), ["probe 0"]);
        world.silence(first, 100);
        world.ended(first, true);
        let (stream, epoch, resume) = world.claim(second);
        assert_eq!(resume, None);
        world.registry.publish_started(stream, epoch, &mut world.said);
        assert_eq!(world.words(), ["down 1", "up 1"]);
    }

    #[test]
    fn a_claim_that_is_given_back_unused_leaves_nothing() {
        let mut world = app("");
        let token = world.publish(0, A, "s");
        let (stream, epoch, resume) = world.claim(token);
        world.registry.publish_ended(stream, epoch, false, resume, world.now, &mut world.said);
        assert!(world.registry.entries().is_empty());
    }

    #[test]
    fn missing_streams_are_waited_for_or_refused() {
        // (settings, over HTTP, reason of the refusal)
        let missing = Some(RefusalReason::NotPublished);
        let table = [
            ("[apps.default]\nplay.missing = \"wait\"", false, None),
            ("[apps.default]\nplay.missing = \"refuse\"", false, missing),
            ("http.flv_missing = \"wait\"", true, None),
            ("http.flv_missing = \"404\"", true, missing),
        ];
        for (toml, http, reason) in table {
            let mut world = world(toml);
            let token = world.play(0, "s", http);
            match world.answer(token) {
                Some(Verdict::Accept(_)) => assert_eq!(reason, None, "{toml}"),
                Some(Verdict::Refuse(refusal)) => {
                    assert_eq!(Some(refusal.reason), reason, "{toml}")
                }
                None => panic!("no answer: {toml}"),
            }
            assert_eq!(world.registry.entries().len(), usize::from(reason.is_none()));
            assert_eq!(world.registry.connections.len(), usize::from(http && reason.is_none()));
        }
    }

    #[test]
    fn limits_of_streams_and_connections_hold() {
        let mut world = world("limits.streams = 1\n[apps.live]\nmax_connections = 2\n");
        world.published(0, A);
        let other = world.publish(0, A, "other");
        assert_eq!(world.refusal(other), Some(RefusalReason::Limit));
        let first = world.ask_as(0, A, "", Want::Connect);
        let Some(Verdict::Accept(Grant::Connect { client, .. })) = world.answer(first) else {
            panic!("refused")
        };
        let second = world.play(0, "s", true);
        assert!(world.owner(second).is_some());
        let third = world.ask_as(0, A, "", Want::Connect);
        assert_eq!(world.refusal(third), Some(RefusalReason::Limit));
        let fourth = world.play(0, "s", true);
        assert_eq!(world.refusal(fourth), Some(RefusalReason::Limit));
        world.registry.disconnected(&client);
        world.registry.disconnected(&client);
        assert!(world.registry.connections.is_empty());
    }

    #[test]
    fn access_rules_come_before_the_name() {
        let toml = "http.flv_missing = \"404\"\n[apps.live]\nreferer = [\"example.org\"]\naccess = [\
                    { allow = \"publish\", from = \"192.0.2.1\" }, { deny = \"publish\", from = \"all\" }, \
                    { deny = \"play\", from = \"192.0.2.2\" }]\n";
        let mut world = world(toml);
        let published = world.published(0, A);
        let stranger = world.publish(0, B, "s");
        assert_eq!(world.refusal(stranger), Some(RefusalReason::Denied), "not NameTaken");
        let play =
            |http, stream: &str| Want::Play { name: name(stream), args: String::new(), http };
        let page = "https://www.example.org/x.html";
        // (address, page, stream, refusal): who is refused does not learn what exists.
        let table = [
            (A, page, "s", None),
            (A, page, "none", Some(RefusalReason::NotPublished)),
            (B, page, "s", Some(RefusalReason::Denied)),
            (B, page, "none", Some(RefusalReason::Denied)),
            (A, "https://example.com/", "none", Some(RefusalReason::Denied)),
            (A, "", "s", Some(RefusalReason::Denied)),
        ];
        for (peer, page, stream, reason) in table {
            let token = world.ask_as(0, peer, page, play(true, stream));
            match world.answer(token) {
                Some(Verdict::Accept(_)) => assert_eq!(reason, None),
                Some(Verdict::Refuse(refusal)) => assert_eq!(Some(refusal.reason), reason),
                None => panic!("no answer"),
            }
        }
        world.ended(published, true);
        assert_eq!(world.registry.entries().len(), 1, "the viewer that was accepted waits");
    }

    #[test]
    fn unknown_apps_are_served_or_refused() {
        for (toml, reason) in [
            ("", None),
            ("server.unknown_apps = \"refuse\"", Some(RefusalReason::UnknownApp)),
            ("server.unknown_apps = \"refuse\"\n[apps.live]\n", None),
        ] {
            let mut world = world(toml);
            let token = world.ask_as(0, A, "", Want::Connect);
            match world.answer(token) {
                Some(Verdict::Accept(_)) => assert_eq!(reason, None, "{toml}"),
                Some(Verdict::Refuse(refusal)) => {
                    assert_eq!(Some(refusal.reason), reason, "{toml}")
                }
                None => panic!("no answer"),
            }
        }
    }

    #[test]
    fn a_play_on_its_way_counts_when_a_shard_says_that_nobody_is_left() {
        let mut world = app("");
        let (stream, _) = world.published(0, A);
        let (first, second) = (world.play(1, "s", false), world.play(1, "s", false));
        world.owner(first);
        // The shard has received one of the two grants.
        world.registry.left_stream(1, stream, 1);
        assert_eq!(world.registry.entries()[0].viewer_shards, [1]);
        world.owner(second);
        world.registry.left_stream(1, stream, 1);
        assert!(world.registry.entries()[0].viewer_shards.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Publish {
            node: Node,
            by_a: bool,
            stream: u8,
        },
        Play {
            node: Node,
            stream: u8,
            http: bool,
        },
        /// The owner of a claim reports that it has begun, in order.
        Start {
            which: usize,
        },
        End {
            which: usize,
            goodbye: bool,
        },
        Leave {
            which: usize,
        },
        Silence {
            which: usize,
            ms: u64,
        },
        Wait {
            ms: u64,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0_usize..3, any::<bool>(), 0_u8..3)
                .prop_map(|(node, by_a, stream)| Step::Publish { node, by_a, stream }),
            3 => (0_usize..3, 0_u8..3, any::<bool>())
                .prop_map(|(node, stream, http)| Step::Play { node, stream, http }),
            3 => any::<usize>().prop_map(|which| Step::Start { which }),
            2 => (any::<usize>(), any::<bool>())
                .prop_map(|(which, goodbye)| Step::End { which, goodbye }),
            2 => any::<usize>().prop_map(|which| Step::Leave { which }),
            2 => (any::<usize>(), 0_u64..4_000).prop_map(|(which, ms)| Step::Silence { which, ms }),
            2 => (0_u64..20_000).prop_map(|ms| Step::Wait { ms }),
        ]
    }

    /// What the shards hold: claims and counted plays.
    #[derive(Default)]
    struct Shards {
        claims: Vec<(StreamId, Epoch, Node, bool)>,
        plays: Vec<(Node, StreamId, Option<Arc<ClientInfo>>)>,
        asked: usize,
        up: HashSet<StreamId>,
        newest: HashMap<StreamId, Epoch>,
    }

    impl Shards {
        fn hear(&mut self, world: &mut World) {
            for (node, notice) in std::mem::take(&mut world.said) {
                match notice {
                    Notice::Verdict(_, verdict) => {
                        self.asked -= 1;
                        match *verdict {
                            Verdict::Accept(Grant::Publish { stream, epoch, .. }) => {
                                self.claims.push((stream, epoch, node, false));
                                let before = self.newest.insert(stream, epoch);
                                assert!(before.is_none_or(|before| before < epoch));
                            }
                            Verdict::Accept(Grant::Play { stream, connected, owner, .. }) => {
                                self.plays.push((node, stream, connected));
                                let started = self.claims.iter().any(|(id, epoch, at, started)| {
                                    owner == Some(Owner { node: *at, epoch: *epoch })
                                        && *id == stream
                                        && *started
                                });
                                assert!(owner.is_none() || started, "an owner that has not begun");
                            }
                            _ => {}
                        }
                    }
                    Notice::StreamUp { stream, owner } => {
                        assert!(self.plays.iter().any(|play| (play.0, play.1) == (node, stream)));
                        assert_eq!(self.newest[&stream], owner.epoch);
                        self.up.insert(stream);
                    }
                    Notice::StreamDown { stream } => {
                        assert!(self.plays.iter().any(|play| (play.0, play.1) == (node, stream)));
                    }
                    // A replaced publisher is closed; a probe is answered by a step.
                    Notice::Replace { stream, epoch, .. } => {
                        let found =
                            self.claims.iter().position(|it| (it.0, it.1) == (stream, epoch));
                        let claim = found.map(|at| self.claims.swap_remove(at));
                        assert!(claim.is_some_and(|claim| claim.2 == node), "not to the owner");
                        world.ended((stream, epoch), false);
                    }
                    Notice::Probe { .. } => {}
                    other => panic!("unexpected: {other:?}"),
                }
                let mut streams: Vec<_> = self.claims.iter().map(|claim| claim.0).collect();
                streams.sort_unstable();
                assert!(streams.windows(2).all(|two| two[0] != two[1]), "two publishers");
            }
            if !world.said.is_empty() {
                self.hear(world);
            }
        }
    }

    proptest! {
        #[test]
        fn one_publisher_per_name_and_nothing_left_at_the_end(
            steps in prop::collection::vec(step(), 1..80),
            takeover in 0_usize..3,
        ) {
            let takeover = ["reject", "replace", "replace_when_silent"][takeover];
            let mut world = world(&format!(
                "http.flv_missing = \"wait\"\n[apps.default]\npublish.takeover = \"{takeover}\"\n"
            ));
            let mut shards = Shards::default();
            for step in steps {
                match step {
                    Step::Publish { node, by_a, stream } => {
                        shards.asked += 1;
                        world.publish(node, if by_a { A } else { B }, &stream.to_string());
                    }
                    Step::Play { node, stream, http } => {
                        shards.asked += 1;
                        world.play(node, &stream.to_string(), http);
                    }
                    Step::Start { which } => {
                        let waiting = shards.claims.iter_mut().filter(|claim| !claim.3);
                        let mut waiting: Vec<_> = waiting.collect();
                        if !waiting.is_empty() {
                            let at = which % waiting.len();
                            waiting[at].3 = true;
                            let (stream, epoch, ..) = *waiting[at];
                            world.registry.publish_started(stream, epoch, &mut world.said);
                        }
                    }
                    Step::End { which, goodbye } => {
                        if !shards.claims.is_empty() {
                            let at = which % shards.claims.len();
                            let (stream, epoch, ..) = shards.claims.swap_remove(at);
                            world.ended((stream, epoch), goodbye);
                        }
                    }
                    Step::Leave { which } => {
                        if !shards.plays.is_empty() {
                            // The shard says so when its last viewer of the stream is gone.
                            let (node, stream, _) = shards.plays[which % shards.plays.len()].clone();
                            let (gone, kept) = std::mem::take(&mut shards.plays)
                                .into_iter()
                                .partition::<Vec<_>, _>(|it| (it.0, it.1) == (node, stream));
                            shards.plays = kept;
                            for client in gone.iter().filter_map(|play| play.2.as_ref()) {
                                world.registry.disconnected(client);
                            }
                            world.registry.left_stream(node, stream, gone.len() as u64);
                        }
                    }
                    Step::Silence { which, ms } => {
                        if !shards.claims.is_empty() {
                            let (stream, epoch, ..) = shards.claims[which % shards.claims.len()];
                            world.silence((stream, epoch), ms);
                        }
                    }
                    Step::Wait { ms } => world.after(ms),
                }
                shards.hear(&mut world);
                let owners = world.registry.entries();
                let owners = owners.iter().filter(|entry| entry.epoch.is_some()).count();
                prop_assert_eq!(owners, shards.claims.len());
            }
            world.after(5_000);
            shards.hear(&mut world);
            prop_assert_eq!(shards.asked, 0, "a question without an answer");
            for (stream, epoch, ..) in std::mem::take(&mut shards.claims) {
                world.ended((stream, epoch), false);
            }
            for (node, stream, client) in std::mem::take(&mut shards.plays) {
                if let Some(client) = client {
                    world.registry.disconnected(&client);
                }
                world.registry.left_stream(node, stream, 1);
            }
            world.after(60_000);
            prop_assert!(world.registry.entries().is_empty());
            prop_assert!(world.registry.ids.is_empty() && world.registry.timed.is_empty());
            prop_assert!(world.registry.connections.is_empty());
            prop_assert_eq!(world.registry.next_deadline(), None);
        }
    }
}
