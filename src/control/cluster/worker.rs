//! The threads between this node and Redis: one that executes rounds of commands, and one that hears what
//! other nodes say. They know nothing of streams; what is to be done is decided on the control shard.
//!
//! What must hold: a round is executed as it stands, by the connection that it was made for, or not at all;
//! whoever waits for an answer gets it, or hears that Redis is away.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use redis::{Client, Connection, Pipeline, RedisError, RedisResult, Value, cmd};

use super::leases::{Answer, Claim, Owner};
use super::message::{
    PUSH_CHANNEL, STREAMS_CHANNEL, node_channel, owner_of, stream_key, stream_text,
};
use super::scripts::Scripts;
use crate::control::redis_link::{
    Attempts, connect, connect_to_listen, kind, number, subscribe, text,
};
use crate::proto::name::StreamName;
use crate::rt::mesh::InboxSender;

/// Streams of one call of a script: Redis does nothing else meanwhile.
const CLAIMS_AT_ONCE: usize = 200;
/// How often the listener hears something of its own node.
const WAKE_INTERVAL: Duration = Duration::from_secs(1);
/// What it hears then.
const WAKE: &str = "wake";
/// How soon a full queue is tried again.
const QUEUE_RETRY: Duration = Duration::from_millis(1);

/// How Redis is used.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Name of this run of the node, unlike any other.
    pub(super) node: String,
    /// Where other nodes fetch its streams.
    pub(super) address: String,
    /// How long a lease lasts.
    pub(super) lease: Duration,
    /// The secret of the cluster, should this be its first node.
    pub(super) secret: String,
}

/// Commands that go together, in this order.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// The connection that it was made for.
    pub(super) generation: u64,
    /// Leases to give up, by number.
    pub(super) releases: Vec<(StreamName, u64)>,
    /// Streams to take or to renew.
    pub(super) claims: Vec<Claim>,
    /// Streams whose owners are wanted.
    pub(super) lookups: Vec<StreamName>,
    /// What to say: channel and text.
    pub(super) says: Vec<(String, String)>,
}

/// What the worker is given.
#[derive(Debug)]
pub(super) enum Work {
    /// By the control shard.
    Round(Round),
    /// By the listener of this connection: it has ended.
    Lost(u64, String),
}

/// What the control shard hears.
#[derive(Debug)]
pub(super) enum StoreEvent {
    /// Redis answers.
    Up {
        /// Which connection.
        generation: u64,
        /// The secret of the cluster.
        secret: String,
    },
    /// It does not any more.
    Down {
        /// Which connection.
        generation: u64,
    },
    /// A round is done.
    Done {
        /// Which connection.
        generation: u64,
        /// Of each claim.
        answers: Vec<Answer>,
        /// Of each look-up.
        owners: Vec<Option<Owner>>,
        /// Of each thing said: how many have heard it.
        heard_by: Vec<u64>,
    },
    /// Another node says something: channel and text.
    Heard(String, String),
}

/// The thread's state.
pub(super) struct Worker {
    plan: Plan,
    client: Client,
    work: Receiver<Work>,
    to_work: Sender<Work>,
    events: InboxSender<StoreEvent>,
    link: Option<Link>,
    generation: u64,
    /// The same for listeners: one of an earlier connection may still hear, and has to be silent.
    heard_by: Arc<AtomicU64>,
    attempts: Attempts,
    next_wake: Instant,
    /// How Redis drops keys, as the log says.
    warned_of: Option<String>,
}

struct Link {
    commands: Connection,
    scripts: Scripts,
}

impl Worker {
    pub(super) fn new(
        plan: Plan,
        client: Client,
        work: Receiver<Work>,
        to_work: Sender<Work>,
        events: InboxSender<StoreEvent>,
    ) -> Self {
        Self {
            plan,
            client,
            work,
            to_work,
            events,
            link: None,
            generation: 0,
            heard_by: Arc::default(),
            attempts: Attempts::new(),
            next_wake: Instant::now(),
            warned_of: None,
        }
    }

    /// Works for as long as the process lives.
    pub(super) fn run(mut self) {
        loop {
            self.keep_up();
            let until = if self.link.is_some() { self.next_wake } else { self.attempts.next() };
            let wait = until.saturating_duration_since(Instant::now());
            match self.work.recv_timeout(wait) {
                Ok(Work::Round(round)) => self.round(&round),
                Ok(Work::Lost(generation, error)) if generation == self.generation => {
                    self.lost(&format!("the listener: {error}"));
                }
                // Of an earlier connection.
                Ok(Work::Lost(..)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn keep_up(&mut self) {
        if self.link.is_none() && self.attempts.next() <= Instant::now() {
            match self.connect() {
                Ok(secret) => {
                    self.attempts.succeeded();
                    tracing::info!(
                        node = self.plan.node,
                        "Redis answers: the node is in the cluster"
                    );
                    self.next_wake = Instant::now();
                    say(&self.events, StoreEvent::Up { generation: self.generation, secret });
                }
                Err(error) => {
                    self.link = None;
                    self.failed(&error.to_string());
                }
            }
        }
        if self.next_wake <= Instant::now()
            && let Some(link) = &mut self.link
        {
            self.next_wake = Instant::now() + WAKE_INTERVAL;
            let mut wake = cmd("PUBLISH");
            wake.arg(node_channel(&self.plan.node)).arg(WAKE);
            if let Err(error) = wake.exec(&mut link.commands) {
                self.lost(&error.to_string());
            }
        }
    }

    fn connect(&mut self) -> RedisResult<String> {
        self.generation += 1;
        self.heard_by.store(self.generation, Ordering::Relaxed);
        let mut commands = connect(&self.client)?;
        let scripts = Scripts::load(&mut commands)?;
        self.warn_of_eviction(&mut commands)?;
        let info: String = cmd("INFO").arg("server").query(&mut commands)?;
        let run = info.lines().find_map(|line| line.strip_prefix("run_id:"));
        let run = run.ok_or_else(|| broken("INFO server names no run_id"))?.trim();
        let ms = self.plan.lease.as_millis().to_string();
        let secret: String =
            scripts.hello.call(&[run, &self.plan.secret, &ms]).query(&mut commands)?;
        let ears = self.listen()?;
        // Where Redis forgets the secret, a node that knows it brings it back.
        self.plan.secret.clone_from(&secret);
        self.link = Some(Link { commands, scripts });
        let (generation, current) = (self.generation, Arc::clone(&self.heard_by));
        let (work, events) = (self.to_work.clone(), self.events.clone());
        thread::Builder::new()
            .name("cluster-listen".to_owned())
            .spawn(move || {
                let error = hear(ears, &events, || current.load(Ordering::Relaxed) == generation);
                let _ = work.send(Work::Lost(generation, error.to_string()));
            })
            .map_err(|error| broken(&error.to_string()))?;
        Ok(secret)
    }

    /// A Redis that drops keys when its memory is full may drop a lease that its owner counts on.
    fn warn_of_eviction(&mut self, commands: &mut Connection) -> RedisResult<()> {
        let info: String = cmd("INFO").arg("memory").query(commands)?;
        let policy = evicts(&info).map(str::to_owned);
        if let Some(policy) = policy.as_ref().filter(|_| policy != self.warned_of) {
            tracing::warn!(
                policy,
                "the Redis of cluster.redis drops keys when its memory is full, and leases are among them: two \
                 nodes may then own one stream; set maxmemory-policy to noeviction"
            );
        }
        self.warned_of = policy;
        Ok(())
    }

    /// Nothing that is said from now on is missed.
    fn listen(&self) -> RedisResult<Connection> {
        let mut ears = connect_to_listen(&self.client)?;
        let own = node_channel(&self.plan.node);
        let channels = [own, STREAMS_CHANNEL.to_owned(), PUSH_CHANNEL.to_owned()];
        subscribe(&mut ears, "SUBSCRIBE", &channels)?;
        let mut confirmed = 0;
        while confirmed < channels.len() {
            let value = ears.recv_response()?;
            match kind(&value) {
                Some("subscribe") => confirmed += 1,
                _ => {
                    if let Some((channel, text)) = heard(&value) {
                        say(&self.events, StoreEvent::Heard(channel, text));
                    }
                }
            }
        }
        Ok(ears)
    }

    fn round(&mut self, round: &Round) {
        // One of an earlier connection: who made it hears that that one is gone.
        if round.generation != self.generation {
            return;
        }
        let Some(link) = &mut self.link else { return };
        match execute(link, &self.plan, round) {
            Ok((answers, owners, heard_by)) => {
                let generation = self.generation;
                say(&self.events, StoreEvent::Done { generation, answers, owners, heard_by });
            }
            Err(error) => self.lost(&error.to_string()),
        }
    }

    fn lost(&mut self, error: &str) {
        if self.link.take().is_some() {
            self.failed(error);
            say(&self.events, StoreEvent::Down { generation: self.generation });
        }
    }

    fn failed(&mut self, error: &str) {
        if self.attempts.failed() {
            tracing::warn!(
                error,
                "the Redis of cluster.redis does not answer: streams go on, but nobody can tell which node \
                 has which; trying again until it does"
            );
        }
    }
}

type Answers = (Vec<Answer>, Vec<Option<Owner>>, Vec<u64>);

fn execute(link: &mut Link, plan: &Plan, round: &Round) -> RedisResult<Answers> {
    let mut commands = Pipeline::new();
    for releases in round.releases.chunks(CLAIMS_AT_ONCE) {
        let mut arguments = vec![plan.node.clone()];
        for (name, epoch) in releases {
            arguments.push(stream_text(name));
            arguments.push(epoch.to_string());
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        commands.add_command(link.scripts.release.call(&arguments)).ignore();
    }
    let ms = plan.lease.as_millis().to_string();
    for claims in round.claims.chunks(CLAIMS_AT_ONCE) {
        let mut arguments = vec![plan.node.clone(), plan.address.clone(), ms.clone()];
        for claim in claims {
            arguments.push(stream_text(&claim.name));
            arguments.push(claim.epoch.to_string());
            arguments.push(u8::from(claim.is_valid).to_string());
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        commands.add_command(link.scripts.claim.call(&arguments));
    }
    if !round.lookups.is_empty() {
        let keys: Vec<String> =
            round.lookups.iter().map(|name| stream_key(&stream_text(name))).collect();
        commands.cmd("MGET").arg(keys);
    }
    for (channel, text) in &round.says {
        commands.cmd("PUBLISH").arg(channel).arg(text);
    }
    let values: Vec<Value> = commands.query(&mut link.commands)?;
    read(round, values).ok_or_else(|| broken("Redis answers what cannot be understood"))
}

/// What the answers to a round mean.
fn read(round: &Round, values: Vec<Value>) -> Option<Answers> {
    let mut values = values.into_iter();
    let mut answers = Vec::with_capacity(round.claims.len());
    for _ in round.claims.chunks(CLAIMS_AT_ONCE) {
        let Value::Array(parts) = values.next()? else { return None };
        for part in &parts {
            answers.push(answer(part)?);
        }
    }
    let mut owners = Vec::new();
    if !round.lookups.is_empty() {
        let Value::Array(found) = values.next()? else { return None };
        owners.extend(found.iter().map(|value| owner_of(text(value)?)));
    }
    let heard_by: Vec<u64> =
        values.map(|value| number(&value)?.try_into().ok()).collect::<Option<_>>()?;
    let is_whole = answers.len() == round.claims.len()
        && owners.len() == round.lookups.len()
        && heard_by.len() == round.says.len();
    is_whole.then_some((answers, owners, heard_by))
}

fn answer(value: &Value) -> Option<Answer> {
    let Value::Array(parts) = value else { return None };
    let left = |at: usize| Some(Duration::from_millis(number(parts.get(at)?)?.max(0) as u64));
    match text(parts.first()?)? {
        "held" => Some(Answer::Held(number(parts.get(1)?)?.try_into().ok()?)),
        "other" => Some(Answer::Other(owner_of(text(parts.get(1)?)?)?, left(2)?)),
        "quarantine" => Some(Answer::Quarantine(left(1)?)),
        _ => None,
    }
}

/// Hears until the connection breaks.
fn hear(
    mut ears: Connection,
    events: &InboxSender<StoreEvent>,
    is_current: impl Fn() -> bool,
) -> RedisError {
    loop {
        match ears.recv_response() {
            Ok(_) if !is_current() => return broken("there is a newer connection"),
            Ok(value) => {
                if let Some((channel, text)) = heard(&value)
                    && text != WAKE
                {
                    say(events, StoreEvent::Heard(channel, text));
                }
            }
            Err(error) => return error,
        }
    }
}

fn heard(value: &Value) -> Option<(String, String)> {
    let Value::Array(parts) = value else { return None };
    let [_, channel, payload] = parts.as_slice() else { return None };
    let is_message = kind(value) == Some("message");
    is_message.then(|| Some((text(channel)?.to_owned(), text(payload)?.to_owned())))?
}

/// Waits for room: then Redis waits as well, and closes the connection of a node that is stuck.
fn say(events: &InboxSender<StoreEvent>, event: StoreEvent) {
    let mut event = event;
    while let Err(back) = events.try_send(event) {
        event = back;
        thread::sleep(QUEUE_RETRY);
    }
}

/// By which policy a Redis with this `INFO memory` drops keys, if it does.
fn evicts(info: &str) -> Option<&str> {
    let value = |key: &str| {
        let mut pairs = info.lines().filter_map(|line| line.split_once(':'));
        pairs.find(|(of, _)| *of == key).map(|(_, value)| value.trim())
    };
    let is_bounded = value("maxmemory").is_some_and(|bytes| bytes != "0");
    value("maxmemory_policy").filter(|policy| is_bounded && *policy != "noeviction")
}

fn broken(why: &str) -> RedisError {
    RedisError::from(io::Error::other(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_that_may_drop_leases_is_known_by_its_memory() {
        for (max, policy, expected) in [
            ("0", "allkeys-lru", None),
            ("1048576", "noeviction", None),
            ("1048576", "volatile-ttl", Some("volatile-ttl")),
        ] {
            let info = format!(
                "# Memory\r\nused_memory:9\r\nmaxmemory:{max}\r\nmaxmemory_human:1M\r\n\
                 maxmemory_policy:{policy}\r\n"
            );
            assert_eq!(evicts(&info), expected, "{max} {policy}");
        }
        assert_eq!(evicts("# Memory\r\n"), None, "one that says nothing");
    }
}
