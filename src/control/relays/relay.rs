//! One relay: where it stands, and what it tells the other server.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Plan, RelayChange, RelayTotals};
use crate::config::{Place, RelayRule};
use crate::limits;
use crate::media::Moment;
use crate::proto::amf0;
use crate::proto::name::StreamName;
use crate::proto::rtmp::address::RtmpAddress;
use crate::proto::rtmp::client::{ClientConfig, Role};
use crate::proto::rtmp::cluster_link::LINK_PROPERTY;
use crate::proto::rtmp::enhanced;
use crate::proto::rtmp::login::{self, Demand};
use crate::proto::rtmp::node_path::{NODES_PROPERTY, NodePath};
use crate::session::{ClientId, Fetched, RelayId, RelayOrder, Remote, Task};
use crate::shard::Node;

/// The pause after the first failure; it doubles up to the rule's `retry`.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// As encoders call themselves: some servers look for it.
const FLASH_VERSION: &str =
    concat!("FMLE/3.0 (compatible; shardcast/", env!("CARGO_PKG_VERSION"), ")");

/// Directions and the states that they have, as the API calls them.
pub(in crate::control) const RELAY_STATES: [(&str, &str); 13] = [
    ("push", "connecting"),
    ("push", "publishing"),
    ("push", "stalled"),
    ("push", "waiting"),
    ("push", "retrying"),
    ("push", "refused"),
    ("push", "stopped"),
    ("pull", "connecting"),
    ("pull", "playing"),
    ("pull", "waiting"),
    ("pull", "retrying"),
    ("pull", "refused"),
    ("pull", "stopped"),
];

/// Which way a relay carries its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// To the other server.
    Push,
    /// From it.
    Pull,
}

/// Who wants a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A rule of the configuration.
    Configuration,
    /// A hook, for as long as the stream lives.
    Hook,
    /// A request to the API, for as long as the stream lives, or until another request.
    Api,
    /// The cluster: another node owns the stream.
    Cluster,
}

impl Origin {
    /// The word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Hook => "hook",
            Self::Api => "api",
            Self::Cluster => "cluster",
        }
    }
}

/// The other end of a relay.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Target {
    /// A stream of another server.
    Server(RtmpAddress),
    /// Another name on this one.
    Local(StreamName),
}

/// Where a relay stands.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// A connection is being opened, or waits for its turn.
    Dialling,
    /// The connection stands, and the two servers speak.
    Opening {
        /// The shard of the connection.
        node: Node,
        /// The other server.
        peer: Option<SocketAddr>,
        /// Since when it has agreed to send the stream, and sent nothing.
        waits_since: Option<Moment>,
    },
    /// The stream flows.
    Running {
        /// The shard of the connection.
        node: Node,
        /// The other server.
        peer: Option<SocketAddr>,
        /// Since when.
        since: Moment,
        /// How far the target is behind.
        lag: Duration,
        /// It takes nothing.
        is_stalled: bool,
    },
    /// It waits for the next attempt.
    Retrying {
        /// When that is.
        at: Moment,
        /// What it follows.
        after: After,
    },
}

/// What the next attempt follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// A failure.
    Failure,
    /// The other server has said no.
    Refusal,
    /// The end of the stream where it comes from: the same place is asked again.
    SourceGone,
    /// A source that has sent nothing.
    Idle,
}

/// One relay.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) id: RelayId,
    /// For hooks.
    client: ClientId,
    pub(super) direction: Direction,
    pub(super) origin: Origin,
    pub(super) name: StreamName,
    pub(super) rule: Arc<RelayRule>,
    /// Which of the rule's places is the target.
    place: usize,
    pub(super) target: Target,
    /// What it tells the other server: the nodes that the stream has passed, this one included.
    nodes: NodePath,
    /// Query of the application at the next connect: what a login has come to.
    login: String,
    /// How many steps of a login the other server has asked for without a pause.
    login_steps: u32,
    pub(super) state: State,
    /// Counts the connections that were tried.
    pub(super) attempt: u64,
    /// Failures in a row.
    pub(super) failures: u32,
    /// All of them.
    failed: u64,
    /// What the other server said last.
    pub(super) status: Option<(String, String)>,
    pub(super) last_error: String,
    pub(super) linger_until: Option<Moment>,
    /// There is another place to try when this one has nothing to send.
    has_others: bool,
    /// The state that was told last.
    told: &'static str,
    /// Nobody wants it any more; its connection is still there.
    pub(super) is_ending: bool,
    began: Moment,
    /// Bytes and skips of connections before the present one.
    before: (u64, u64, u64),
    /// Of the present one.
    now: (u64, u64, u64),
}

impl Relay {
    pub(super) fn new(
        id: RelayId,
        plan: Plan<'_>,
        target: Target,
        nodes: NodePath,
        now: Moment,
    ) -> Self {
        let Plan { direction, origin, name, rule } = plan;
        Self {
            id,
            client: ClientId::next(),
            direction,
            origin,
            name: name.clone(),
            rule: Arc::clone(rule),
            place: 0,
            target,
            nodes,
            login: String::new(),
            login_steps: 0,
            state: State::Dialling,
            attempt: 0,
            failures: 0,
            failed: 0,
            status: None,
            last_error: String::new(),
            linger_until: None,
            has_others: false,
            told: "",
            is_ending: false,
            began: now,
            before: (0, 0, 0),
            now: (0, 0, 0),
        }
    }

    pub(super) fn is_push(&self) -> bool {
        self.direction == Direction::Push
    }

    /// It makes a second name of a stream of this server.
    pub(super) fn is_mirror(&self) -> bool {
        matches!(self.target, Target::Local(_))
    }

    /// Whether there is another place than the present one, with these rules.
    pub(super) fn look_for_others(&mut self, rules: &[&Arc<RelayRule>]) {
        let takes_turns = !self.is_push() && self.origin == Origin::Configuration;
        self.has_others = self.rule.places() > 1
            || (takes_turns && rules.iter().any(|rule| ***rule != *self.rule));
    }

    /// A fetched stream that is kept without viewers.
    pub(super) fn is_kept(&self) -> bool {
        self.rule.is_static || self.origin == Origin::Api
    }

    /// Whether it fetches a stream, and goes on with it.
    pub(super) fn fetches(&self, name: &StreamName) -> bool {
        !self.is_push() && self.name == *name && !self.is_ending
    }

    /// The other end, for people.
    pub(super) fn url(&self) -> String {
        match &self.target {
            Target::Server(address) => {
                format!("{}/{}", address.tc_url(), self.stream_there(address))
            }
            Target::Local(name) => name.to_string(),
        }
    }

    fn stream_there(&self, address: &RtmpAddress) -> String {
        let named = self.rule.name.clone().or_else(|| address.stream.clone());
        let stream = named.unwrap_or_else(|| self.name.stream().to_owned());
        with_query(stream, self.rule.query.as_deref().unwrap_or_default())
    }

    /// After a failure the next place of several is tried: of its rule, and behind those of its last one,
    /// when a configured rule has it fetched, the next of `rules`.
    pub(super) fn take_next(&mut self, rules: &[&Arc<RelayRule>]) {
        self.place += 1;
        if self.place >= self.rule.places() {
            self.place = 0;
            if !self.is_push() && self.origin == Origin::Configuration {
                let present = rules.iter().position(|rule| ***rule == *self.rule);
                let next = present.map_or(0, |at| (at + 1) % rules.len());
                if let Some(rule) = rules.get(next) {
                    self.rule = Arc::clone(rule);
                }
            }
        }
        if let Place::Server(address) = self.rule.place_at(self.place) {
            self.target = Target::Server(address.filled(&self.name));
        }
    }

    /// A connection is opened; returns its number. What was said on an earlier one is over.
    pub(super) fn begin_attempt(&mut self) -> u64 {
        self.attempt += 1;
        self.status = None;
        self.state = State::Dialling;
        self.attempt
    }

    /// An attempt, or a connection, has failed; returns the pause before the next one.
    pub(super) fn fail(
        &mut self,
        status: Option<(String, String)>,
        why: String,
        now: Moment,
    ) -> Duration {
        self.failed += 1;
        self.last_error = why;
        let after = if status.is_some() { After::Refusal } else { After::Failure };
        if status.is_some() {
            self.status = status;
        }
        let pause = self.next_pause();
        self.pause(pause, after, now)
    }

    /// The stream has ended where it comes from, which is no failure; returns the pause before it is asked
    /// for again.
    pub(super) fn source_gone(&mut self, now: Moment) -> Duration {
        // Of a stream of this server the return is known at once. Another one may say the same whenever it
        // is asked.
        let pause = if self.is_mirror() { RETRY_FIRST } else { self.next_pause() };
        self.pause(pause, After::SourceGone, now)
    }

    /// The source sends nothing, and there is another one; returns the pause before that.
    pub(super) fn source_idle(&mut self, why: String, now: Moment) -> Duration {
        self.last_error = why;
        // The first one at once, but all of them may be idle for long.
        let pause = self.next_pause();
        self.pause(pause, After::Idle, now)
    }

    fn next_pause(&mut self) -> Duration {
        let pause = (RETRY_FIRST * (1 << self.failures.min(16))).min(self.rule.retry);
        self.failures += 1;
        pause
    }

    fn pause(&mut self, pause: Duration, after: After, now: Moment) -> Duration {
        // An answer to a challenge serves once.
        self.login.clear();
        self.login_steps = 0;
        self.before = self.totals();
        self.now = (0, 0, 0);
        self.state = State::Retrying { at: now + pause, after };
        pause
    }

    pub(super) fn progress(&mut self, bytes_in: u64, bytes_out: u64, skips: u64) {
        self.now = (bytes_in, bytes_out, skips);
    }

    /// How far its target is behind, and whether it takes nothing.
    pub(super) fn keeps_up(&mut self, now_lags: Duration, now_stalled: bool) {
        if let State::Running { lag, is_stalled, .. } = &mut self.state {
            (*lag, *is_stalled) = (now_lags, now_stalled);
        }
    }

    /// Waits for another attempt no longer; says whether it waited.
    pub(super) fn hurry(&mut self, now: Moment) -> bool {
        let State::Retrying { at, .. } = &mut self.state else { return false };
        *at = now;
        self.failures = 0;
        true
    }

    /// The word for where it stands.
    pub(super) fn word(&self) -> &'static str {
        match &self.state {
            _ if self.is_ending => "stopped",
            State::Opening { waits_since: Some(_), .. }
            | State::Retrying { after: After::SourceGone, .. } => "waiting",
            State::Dialling | State::Opening { .. } => "connecting",
            State::Running { is_stalled: true, .. } => "stalled",
            State::Running { .. } if self.is_push() => "publishing",
            State::Running { .. } => "playing",
            State::Retrying { after: After::Refusal, .. } => "refused",
            State::Retrying { .. } => "retrying",
        }
    }

    fn totals(&self) -> (u64, u64, u64) {
        let (a, b) = (self.before, self.now);
        (a.0 + b.0, a.1 + b.1, a.2 + b.2)
    }

    /// Adds its counts to those of its direction, pushes first.
    pub(super) fn add_to(&self, all: &mut [RelayTotals; 2]) {
        let (bytes_in, bytes_out, drops) = self.totals();
        let [pushes, pulls] = all;
        let (totals, bytes) = if self.is_push() { (pushes, bytes_out) } else { (pulls, bytes_in) };
        totals.attempts += self.attempt;
        totals.failures += self.failed;
        totals.bytes += bytes;
        totals.drops += drops;
    }

    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let next = match self.state {
            State::Retrying { at, .. } => Some(at),
            State::Opening { waits_since: Some(since), .. }
                if self.has_others && !self.is_ending =>
            {
                Some(since + limits::RELAY_SOURCE_WAIT_MAX)
            }
            _ => None,
        };
        [next, self.linger_until].into_iter().flatten().min()
    }

    /// The source has agreed to send the stream, and sends nothing.
    pub(super) fn waits(&mut self, now: Moment) {
        if let State::Opening { waits_since, .. } = &mut self.state {
            *waits_since = Some(now);
        }
    }

    /// Whether another source has to be tried now, because this one sends nothing: then its shard.
    pub(super) fn take_idle(&mut self, now: Moment) -> Option<Node> {
        let State::Opening { node, waits_since: Some(since), .. } = &mut self.state else {
            return None;
        };
        if !self.has_others || self.is_ending || now.since(*since) < limits::RELAY_SOURCE_WAIT_MAX {
            return None;
        }
        // If something comes just now it stays; else its shard closes it.
        *since = now;
        Some(*node)
    }

    /// Whether the next attempt goes to the next place.
    pub(super) fn takes_turns(&self) -> bool {
        !matches!(self.state, State::Retrying { after: After::SourceGone, .. })
    }

    /// What is due has to wait for somebody's word, at most until the next time.
    pub(super) fn put_off(&mut self, now: Moment) {
        if let State::Retrying { at, .. } = &mut self.state {
            *at = now + self.rule.retry;
        }
    }

    pub(super) fn is_due(&self, now: Moment) -> bool {
        matches!(self.state, State::Retrying { at, .. } if at <= now)
    }

    /// What the connection is for.
    pub(super) fn order(&self, chunk_size: u32, node: &'static str) -> RelayOrder {
        let task = match &self.target {
            Target::Server(address) => Task::Remote(Box::new(self.remote(address, chunk_size))),
            Target::Local(to) => Task::Mirror { to: to.clone() },
        };
        let fetched = match (self.direction, &self.rule.link) {
            (Direction::Push, _) => Fetched::No,
            (Direction::Pull, None) => Fetched::ByRule,
            (Direction::Pull, Some(_)) => Fetched::InCluster,
        };
        let (relay, name) = (self.id, self.name.clone());
        RelayOrder { relay, name, url: self.url(), task, node, fetched }
    }

    /// A connect was refused: whether that was a step of the login, after which the next one is due.
    pub(super) fn takes_login_step(&mut self, description: &str) -> bool {
        let Target::Server(address) = &self.target else { return false };
        let Some((user, password)) = &address.login else { return false };
        // One that asks again and again is let wait like one that fails.
        if self.login_steps >= limits::RELAY_LOGIN_STEPS_MAX {
            return false;
        }
        let mut nonce = [0; 4];
        let _ = getrandom::fill(&mut nonce);
        let nonce = u32::from_le_bytes(nonce);
        match login::answer(description, &self.login, &address.app, (user, password), nonce) {
            Demand::Answer(query) => {
                self.login = query;
                self.login_steps += 1;
                true
            }
            Demand::Wrong | Demand::None => false,
        }
    }

    fn remote(&self, address: &RtmpAddress, chunk_size: u32) -> Remote {
        let rule = &self.rule;
        let mut properties: Vec<(String, amf0::Value)> = Vec::new();
        let mut add = |key: &str, value: amf0::Value| properties.push((key.to_owned(), value));
        let texts =
            [("swfUrl", &rule.swf_url), ("pageUrl", &rule.page_url), (LINK_PROPERTY, &rule.link)];
        for (key, text) in texts {
            if let Some(text) = text {
                add(key, amf0::Value::from(text.as_str()));
            }
        }
        add(NODES_PROPERTY, amf0::Value::from(self.nodes.to_text().as_str()));
        properties.extend(enhanced::server_properties());
        Remote {
            client: ClientConfig {
                app: with_query(address.app.clone(), &self.login),
                tc_url: with_query(
                    rule.tc_url.clone().unwrap_or_else(|| address.tc_url()),
                    &self.login,
                ),
                stream: self.stream_there(address),
                role: if self.is_push() { Role::Publish } else { Role::Play },
                flash_version: rule
                    .flash_version
                    .clone()
                    .unwrap_or_else(|| FLASH_VERSION.to_owned()),
                digest: false,
                connect_properties: properties,
                connect_args: Vec::new(),
                chunk_size,
                seed: self.id.0 << 16 | self.attempt,
            },
            publish_type: rule.publish_type.clone(),
            buffer: rule.buffer,
        }
    }

    /// Its state, if it is another one than when this was asked last. Of the end, `change` tells.
    pub(super) fn take_change(&mut self) -> Option<RelayChange> {
        let word = self.word();
        if self.is_ending || word == self.told {
            return None;
        }
        self.told = word;
        Some(self.change(word))
    }

    /// What is told of it when it has this state.
    pub(super) fn change(&self, state: &'static str) -> RelayChange {
        let (bytes_in, bytes_out, drops) = self.totals();
        let (code, description) = self.status.clone().unwrap_or_default();
        let peer = match &self.state {
            State::Opening { peer, .. } | State::Running { peer, .. } => *peer,
            State::Dialling | State::Retrying { .. } => None,
        };
        RelayChange {
            relay: self.id,
            client: self.client,
            direction: self.direction.word(),
            name: self.name.clone(),
            url: self.url(),
            peer,
            state,
            code,
            description,
            error: self.last_error.clone(),
            bytes_in,
            bytes_out,
            drops,
        }
    }

    pub(super) fn to_json(&self, now: Moment) -> Value {
        let (peer, since, lag) = match &self.state {
            State::Dialling | State::Retrying { .. } => (None, None, Duration::ZERO),
            State::Opening { peer, .. } => (*peer, None, Duration::ZERO),
            State::Running { peer, since, lag, .. } => (*peer, Some(*since), *lag),
        };
        let (bytes_in, bytes_out, skips) = self.totals();
        let (code, description) = self.status.clone().unwrap_or_default();
        json!({
            "id": self.id.0,
            "direction": self.direction.word(),
            "origin": self.origin.word(),
            "stream": self.name.to_string(),
            "url": self.url(),
            "state": self.word(),
            "peer": peer.map(|peer| peer.to_string()),
            "running_ms": since.map(|since| now.since(since).as_millis() as u64),
            "age_ms": now.since(self.began).as_millis() as u64,
            "attempts": self.attempt,
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            "lag_ms": lag.as_millis() as u64,
            "drops": skips,
            "code": code,
            "description": description,
            "last_error": self.last_error,
        })
    }
}

fn with_query(mut text: String, query: &str) -> String {
    if !query.is_empty() {
        text.push(if text.contains('?') { '&' } else { '?' });
        text.push_str(query);
    }
    text
}

impl Direction {
    /// The word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn at(ms: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(100) + Duration::from_millis(ms)
    }

    /// The relay of `live/cam` by the first of these rules, and all of them.
    fn relay(direction: Direction, rules: &str) -> (Relay, Vec<Arc<RelayRule>>) {
        let key = if direction == Direction::Push { "push" } else { "pull" };
        let file = Some(("test.toml".to_owned(), format!("[apps.live]\n{key} = [{rules}]\n")));
        let sources = Sources { file, environment: Vec::new(), set: Vec::new() };
        let settings = crate::config::Settings::load(&sources).unwrap();
        let name = StreamName::new("__defaultVhost__", "live", "", "cam").unwrap();
        let app = settings.app(name.vhost(), name.app(), name.instance());
        let rules = if direction == Direction::Push { &app.push } else { &app.pull }.clone();
        let Place::Server(address) = &rules[0].place else { panic!("a server") };
        let target = Target::Server(address.filled(&name));
        let nodes = NodePath::default().with("here");
        let origin = Origin::Configuration;
        let plan = Plan { direction, origin, name: &name, rule: &rules[0] };
        (Relay::new(RelayId(1), plan, target, nodes, at(0)), rules)
    }

    #[test]
    fn attempts_come_ever_less_often_up_to_the_rules_pause() {
        let (mut relay, _) = relay(Direction::Push, "{ url = 'rtmp://h/a', retry = '900ms' }");
        let pauses: Vec<u128> =
            (0..5).map(|_| relay.fail(None, "no answer".to_owned(), at(0)).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 900, 900, 900]);
        assert!(!relay.is_due(at(899)) && relay.is_due(at(900)));
        relay.failures = 0;
        assert_eq!(relay.fail(None, String::new(), at(0)), Duration::from_millis(250));
    }

    #[test]
    fn what_earlier_connections_carried_is_counted_on() {
        let (mut relay, _) = relay(Direction::Push, "{ url = 'rtmp://h/a' }");
        relay.progress(1, 100, 2);
        relay.progress(2, 200, 3);
        relay.fail(
            Some(("NetStream.Publish.BadName".to_owned(), "taken".to_owned())),
            "x".to_owned(),
            at(0),
        );
        relay.progress(5, 50, 1);
        let json = relay.to_json(at(0));
        assert_eq!(
            (&json["bytes_in"], &json["bytes_out"], &json["drops"]),
            (&json!(7), &json!(250), &json!(4))
        );
        assert_eq!(
            (&json["state"], &json["code"]),
            (&json!("refused"), &json!("NetStream.Publish.BadName"))
        );
    }

    #[test]
    fn the_other_server_is_told_what_the_rule_says() {
        let rule = "{ url = 'rtmp://user:secret@h/a/b', name = 'other', query = 'key=1', \
                    type = 'record', pageurl = 'http://p/', flashver = 'F' }";
        let (mut relay, _) = relay(Direction::Push, rule);
        let told = |relay: &Relay| match relay.order(4_096, "here").task {
            Task::Remote(remote) => *remote,
            Task::Mirror { .. } => panic!("another server"),
        };
        let first = told(&relay);
        let client = &first.client;
        assert_eq!((client.app.as_str(), client.tc_url.as_str()), ("a/b", "rtmp://h/a/b"));
        assert_eq!(
            (client.stream.as_str(), first.publish_type.as_str()),
            ("other?key=1", "record")
        );
        assert_eq!((client.flash_version.as_str(), client.chunk_size), ("F", 4_096));
        let property = |name: &str| {
            let found = client.connect_properties.iter().find(|(key, _)| key == name);
            found.and_then(|(_, value)| value.as_str()).unwrap_or_default()
        };
        assert_eq!((property("pageUrl"), property(NODES_PROPERTY)), ("http://p/", "here"));
        assert!(!relay.url().contains("secret"));

        // A login goes into the query, and is forgotten with the connection that it was for.
        assert!(relay.takes_login_step("[ code=403 need auth; authmod=adobe ]"));
        assert_eq!(told(&relay).client.app, "a/b?authmod=adobe&user=user");
        assert_eq!(told(&relay).client.tc_url, "rtmp://h/a/b?authmod=adobe&user=user");
        assert!(!relay.takes_login_step("[ authmod=adobe ] : ?reason=authfailed"));
        relay.fail(None, String::new(), at(0));
        assert_eq!(told(&relay).client.app, "a/b");

        // A server that demands without end is let wait, and then asked anew.
        let demand = "[ authmod=adobe ] : ?reason=needauth&user=user&salt=s&challenge=c&opaque=o";
        for _ in 0..2 {
            for _ in 0..limits::RELAY_LOGIN_STEPS_MAX {
                assert!(relay.takes_login_step(demand));
            }
            assert!(!relay.takes_login_step(demand));
            relay.fail(None, String::new(), at(0));
        }
    }

    #[test]
    fn the_state_says_whether_a_target_takes_what_it_is_sent() {
        let (mut relay, _) = relay(Direction::Push, "{ url = 'rtmp://h/a' }");
        assert_eq!(relay.word(), "connecting");
        assert_eq!(relay.take_change().map(|it| it.state), Some("connecting"));
        assert_eq!(relay.take_change(), None, "once");
        assert!(!relay.hurry(at(0)), "it does not wait");
        let (since, lag) = (at(0), Duration::ZERO);
        relay.state = State::Running { node: 0, peer: None, since, lag, is_stalled: false };
        assert_eq!(relay.word(), "publishing");
        relay.keeps_up(Duration::from_millis(1_500), true);
        let json = relay.to_json(at(0));
        assert_eq!((&json["state"], &json["lag_ms"]), (&json!("stalled"), &json!(1_500)));
        relay.fail(None, "gone".to_owned(), at(0));
        assert_eq!(relay.word(), "retrying");
        let told = relay.take_change().unwrap();
        assert_eq!((told.state, told.error.as_str()), ("retrying", "gone"));
        assert!(!relay.is_due(at(0)) && relay.hurry(at(0)) && relay.is_due(at(0)));
        relay.is_ending = true;
        assert_eq!((relay.word(), relay.take_change()), ("stopped", None));
    }

    #[test]
    fn a_target_that_fails_gives_way_to_its_fallback() {
        let (mut relay, _) =
            relay(Direction::Push, "{ url = 'rtmp://one/a', fallback = ['rtmp://two/a/b'] }");
        let mut seen = vec![relay.url()];
        for _ in 0..2 {
            relay.take_next(&[]);
            seen.push(relay.url());
        }
        assert_eq!(seen, ["rtmp://one/a/cam", "rtmp://two/a/b/cam", "rtmp://one/a/cam"]);
    }

    #[test]
    fn sources_take_turns_when_they_fail() {
        let rules = "{ url = 'rtmp://one/{app}/{stream}' }, { url = 'rtmp://two/{app}/{stream}' }";
        let (mut relay, rules) = relay(Direction::Pull, rules);
        let rules: Vec<&Arc<RelayRule>> = rules.iter().collect();
        let mut seen = vec![relay.url()];
        for _ in 0..2 {
            relay.take_next(&rules);
            seen.push(relay.url());
        }
        assert_eq!(seen, ["rtmp://one/live/cam", "rtmp://two/live/cam", "rtmp://one/live/cam"]);
        // Rules that are gone leave it where it was.
        relay.take_next(&[]);
        assert_eq!(relay.url(), "rtmp://one/live/cam");
    }
}
