//! The thread between this node and Redis: requests go in batches, answers and messages come back in
//! order. It knows the members of this node, so that it can put them back when Redis has lost them.

use std::collections::{HashMap, VecDeque};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use redis::{Client, Cmd, Pipeline, RedisError, Value, cmd};

use super::link::{Heard, Link, Listen, WAKE, node_channel};
use super::{Count, SharedEvent, SharedPlan};
use crate::control::redis_link::{Attempts, number, text};
use crate::control::rooms::events;
use crate::control::rooms::service::RoomConnection;
use crate::control::rooms::store::{
    Delivery, Join, Joined, Member, Reply, ResumeToken, StoreRequest,
};
use crate::proto::palava::{PeerId, RoomError, RoomKey, Status};
use crate::rt::mesh::InboxSender;

/// Requests in one batch.
const BATCH_MAX: usize = 256;
/// Leaves of the time without Redis are told when other nodes have had time to put their members back.
const MAKE_UP_AFTER: Duration = Duration::from_secs(2);
/// How soon a full queue is tried again.
const QUEUE_RETRY: Duration = Duration::from_millis(1);
/// Where the nodes are listed.
const NODES: &str = "shardcast:rooms:nodes";
/// Tells whether Redis has lost what it had.
const EPOCH: &str = "shardcast:rooms:epoch";

/// What the worker is given.
pub(super) enum Work {
    /// By the control shard.
    Request { connection: RoomConnection, request: StoreRequest, unix_s: u64 },
    /// By the control shard: nobody is here any more.
    End,
    /// By the listener of this generation.
    Heard(u64, Heard),
    /// The listener of this generation has ended.
    Lost(u64, String),
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Request { .. } => "Request",
            Self::End => "End",
            Self::Heard(..) => "Heard",
            Self::Lost(..) => "Lost",
        })
    }
}

/// A member of this node.
#[derive(Clone)]
struct Own {
    connection: RoomConnection,
    room: RoomKey,
    token: ResumeToken,
    status: Status,
    joined_unix_s: u64,
}

/// A join on its way: first the old id is looked up, then its channel is listened to, then it is done.
struct Joining {
    connection: RoomConnection,
    join: Join,
    own: PeerId,
    unix_s: u64,
}

/// A leave that Redis may not know of.
struct Departed {
    peer: PeerId,
    room: RoomKey,
    token: ResumeToken,
    keep: Duration,
    /// The others know it, so they are told even if Redis does not.
    is_known: bool,
}

/// Another node, whose lease may have run out.
struct Suspect {
    node: String,
    /// How far its members have been looked at.
    cursor: i64,
}

/// What the answer to a command is for.
enum Awaited {
    Lookup(Joining),
    Join(Joining),
    Leave { connection: RoomConnection, departed: Departed, joined_unix_s: u64 },
    Update { connection: RoomConnection, peer: PeerId, status: Status },
    Send(RoomConnection),
    Probe(RoomConnection, RoomError),
    Nothing,
}

/// The thread's state.
pub(super) struct Worker {
    plan: SharedPlan,
    client: Client,
    work: Receiver<Work>,
    to_work: Sender<Work>,
    events: InboxSender<SharedEvent>,
    own: HashMap<PeerId, Own>,
    joining: HashMap<PeerId, Joining>,
    departed: Vec<Departed>,
    /// When they are told.
    make_up_at: Option<Instant>,
    batch: Vec<(Cmd, Awaited)>,
    listens: VecDeque<Listen>,
    link: Option<Link>,
    generation: u64,
    epoch: Option<String>,
    attempts: Attempts,
    next_renewal: Instant,
    suspects: VecDeque<Suspect>,
}

impl Worker {
    pub(super) fn new(
        plan: SharedPlan,
        client: Client,
        work: Receiver<Work>,
        to_work: Sender<Work>,
        events: InboxSender<SharedEvent>,
    ) -> Self {
        Self {
            plan,
            client,
            work,
            to_work,
            events,
            own: HashMap::new(),
            joining: HashMap::new(),
            departed: Vec::new(),
            make_up_at: None,
            batch: Vec::new(),
            listens: VecDeque::new(),
            link: None,
            generation: 0,
            epoch: None,
            attempts: Attempts::new(),
            next_renewal: Instant::now(),
            suspects: VecDeque::new(),
        }
    }

    /// Works until the node has left.
    pub(super) fn run(mut self) {
        loop {
            self.keep_up();
            let up = self.link.is_some();
            let mut until = if up { self.next_renewal } else { self.attempts.next() };
            until = self.make_up_at.map_or(until, |at| until.min(at));
            if !self.listens.is_empty() {
                until = until.min(Instant::now() + QUEUE_RETRY);
            }
            if up && !self.suspects.is_empty() {
                until = Instant::now();
            }
            let wait = until.saturating_duration_since(Instant::now());
            let mut next = match self.work.recv_timeout(wait) {
                Ok(work) => Some(work),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut has_ended = false;
            while let Some(work) = next {
                has_ended |= matches!(work, Work::End);
                self.take(work);
                next = if self.batch.len() < BATCH_MAX { self.work.try_recv().ok() } else { None };
            }
            // An answer may make further commands.
            while !self.batch.is_empty() {
                self.run_batch();
            }
            self.push_listens();
            if has_ended {
                self.leave_for_good();
                self.say(SharedEvent::Ended);
                return;
            }
        }
    }

    fn take(&mut self, work: Work) {
        match work {
            Work::Request { connection, request, unix_s } => {
                self.request(connection, request, unix_s);
            }
            Work::End => {}
            Work::Heard(generation, heard) if generation == self.generation => match heard {
                Heard::Text(peer, text) => {
                    self.say(SharedEvent::Delivery(Delivery::Text(peer, text)))
                }
                Heard::Subscribed(peer) => {
                    if let Some(joining) = self.joining.remove(&peer) {
                        self.join(joining);
                    }
                }
                Heard::Node(text) => self.node_text(&text),
            },
            Work::Lost(generation, error) if generation == self.generation => {
                self.lost(&format!("the listener: {error}"));
            }
            // Of an earlier link.
            Work::Heard(..) | Work::Lost(..) => {}
        }
    }

    fn request(&mut self, connection: RoomConnection, request: StoreRequest, unix_s: u64) {
        match request {
            StoreRequest::Join(join) => {
                let own = join.peer;
                let joining = Joining { connection, join, own, unix_s };
                if self.link.is_none() {
                    self.answer(connection, Reply::Joined(Err(RoomError::StoreUnavailable)));
                } else if let Some(ResumeToken(token)) = &joining.join.resume {
                    let mut get = cmd("GET");
                    get.arg(format!("shardcast:rooms:resume:{token}"));
                    self.batch.push((get, Awaited::Lookup(joining)));
                } else {
                    self.listen_and_join(joining);
                }
            }
            StoreRequest::Leave { peer, keep } => {
                let is_own = self.own.get(&peer).is_some_and(|own| own.connection == connection);
                // The id may go on with another connection, which has resumed it.
                let own = if is_own { self.own.remove(&peer) } else { None };
                let Some(own) = own else {
                    return self.answer(connection, Reply::Done(Ok(())));
                };
                let (room, token) = (own.room, own.token);
                let departed = Departed { peer, room, token, keep, is_known: true };
                let Some(link) = &self.link else {
                    self.departed.push(departed);
                    return self.answer(connection, Reply::Done(Ok(())));
                };
                let command = leave(link, &departed, &self.plan.node, unix_s, false);
                let joined_unix_s = own.joined_unix_s;
                self.batch.push((command, Awaited::Leave { connection, departed, joined_unix_s }));
            }
            StoreRequest::UpdateStatus { peer, status } => {
                self.with_member(connection, peer, |link, own| {
                    let frame = events::peer_updated_status(peer, &status);
                    let (name, agent) = texts(&status);
                    let peer_text = peer.to_string();
                    let arguments = [&peer_text, own.room.as_str(), &frame, name, agent];
                    let command = link.scripts.update.call(&arguments);
                    (command, Awaited::Update { connection, peer, status: status.clone() })
                });
            }
            StoreRequest::Send { from, to, text } => {
                self.with_member(connection, from, |link, own| {
                    (send(link, own, from, to, &text), Awaited::Send(connection))
                });
            }
            StoreRequest::Probe { from, to, error } => {
                self.with_member(connection, from, |link, own| {
                    (send(link, own, from, to, ""), Awaited::Probe(connection, error))
                });
            }
        }
    }

    /// Puts a command of a member into the batch.
    fn with_member(
        &mut self,
        connection: RoomConnection,
        peer: PeerId,
        make: impl FnOnce(&Link, &Own) -> (Cmd, Awaited),
    ) {
        match (&self.link, self.own.get(&peer)) {
            (None, _) => self.answer(connection, Reply::Done(Err(RoomError::StoreUnavailable))),
            (_, None) => self.answer(connection, Reply::Done(Err(RoomError::NotInRoom))),
            (Some(link), Some(own)) => {
                let command = make(link, own);
                self.batch.push(command);
            }
        }
    }

    /// What is sent to a newcomer has to be heard before it is one.
    fn listen_and_join(&mut self, joining: Joining) {
        // Who has lost its id to another connection may join again by it before it is closed.
        if self.joining.contains_key(&joining.own) {
            let refused = Reply::Joined(Err(RoomError::AlreadyJoined));
            return self.answer(joining.connection, refused);
        }
        self.listens.push_back(Listen::Subscribe(joining.own));
        self.joining.insert(joining.own, joining);
    }

    fn join(&mut self, joining: Joining) {
        let Some(link) = &self.link else {
            return self
                .answer(joining.connection, Reply::Joined(Err(RoomError::StoreUnavailable)));
        };
        let Joining { join, own, unix_s, .. } = &joining;
        let (name, agent) = join.status.as_ref().map_or(("", ""), texts);
        let resume = join.resume.as_ref().map_or("", |token| &token.0);
        let command = link.scripts.join.call(&[
            &own.to_string(),
            join.room.as_str(),
            &unix_s.to_string(),
            &join.max_members.to_string(),
            &events::new_peer(*own, join.status.as_ref()),
            &self.plan.node,
            &join.next_token.0,
            resume,
            name,
            agent,
        ]);
        self.batch.push((command, Awaited::Join(joining)));
    }

    /// Sends what is collected, and does what the answers mean.
    fn run_batch(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let mut commands = Pipeline::with_capacity(batch.len());
        let mut awaited = Vec::with_capacity(batch.len());
        for (command, what) in batch {
            commands.add_command(command);
            awaited.push(what);
        }
        let answers = match &mut self.link {
            Some(link) => link.run(&commands).map_err(|error| error.to_string()),
            None => Err("Redis is away".to_owned()),
        };
        match answers {
            Ok(answers) => {
                for (what, answer) in awaited.into_iter().zip(answers) {
                    self.answered(what, &answer);
                }
            }
            Err(error) => {
                awaited.into_iter().for_each(|what| self.failed(what));
                self.lost(&error);
            }
        }
    }

    fn answered(&mut self, what: Awaited, answer: &Value) {
        match what {
            Awaited::Lookup(mut joining) => {
                let mut parts = text(answer).unwrap_or_default().split(' ');
                let peer = parts.next().and_then(PeerId::parse);
                let is_of_room = parts.next() == Some(joining.join.room.as_str());
                match peer.filter(|peer| is_of_room && !self.joining.contains_key(peer)) {
                    Some(peer) => joining.own = peer,
                    None => joining.join.resume = None,
                }
                self.listen_and_join(joining);
            }
            Awaited::Join(joining) => self.join_answered(joining, answer),
            Awaited::Leave { connection, departed, joined_unix_s } => {
                if !self.own.contains_key(&departed.peer) {
                    self.listens.push_back(Listen::Unsubscribe(departed.peer));
                }
                let parts = numbers(answer);
                if let [1, closed, peak, since] = parts[..] {
                    self.say(SharedEvent::Count(Count::Left { joined_unix_s }));
                    self.count_closed(closed, peak, since);
                }
                self.answer(connection, Reply::Done(Ok(())));
            }
            Awaited::Update { connection, peer, status } => {
                let is_done = number(answer) == Some(1);
                if let Some(own) = self.own.get_mut(&peer).filter(|_| is_done) {
                    own.status.merge(&status);
                }
                let result = if is_done { Ok(()) } else { Err(RoomError::NotInRoom) };
                self.answer(connection, Reply::Done(result));
            }
            Awaited::Send(connection) => {
                self.answer(connection, Reply::Done(neighbour(answer)));
            }
            Awaited::Probe(connection, error) => {
                self.answer(connection, Reply::Done(neighbour(answer).and(Err(error))));
            }
            Awaited::Nothing => {}
        }
    }

    fn join_answered(&mut self, mut joining: Joining, answer: &Value) {
        let parts = match answer {
            Value::Array(parts) => parts.as_slice(),
            _ => &[],
        };
        let connection = joining.connection;
        let error = match parts.first().and_then(text) {
            Some("ok") => return self.joined(joining, parts),
            Some("stale") => {
                // Somebody else was quicker with the token.
                self.forget_channel(joining.own);
                joining.join.resume = None;
                joining.own = joining.join.peer;
                return self.listen_and_join(joining);
            }
            Some("full") => RoomError::RoomFull,
            Some("already") => RoomError::AlreadyJoined,
            _ => RoomError::StoreUnavailable,
        };
        self.forget_channel(joining.own);
        self.answer(connection, Reply::Joined(Err(error)));
    }

    fn joined(&mut self, joining: Joining, parts: &[Value]) {
        let Joining { connection, join, own, unix_s } = joining;
        let value = |index: usize| parts.get(index).and_then(number).unwrap_or_default();
        let others = parts.get(6..).unwrap_or_default().chunks_exact(3).filter_map(|part| {
            let given = |index: usize| {
                text(&part[index]).filter(|text| !text.is_empty()).map(str::to_owned)
            };
            let peer = PeerId::parse(text(&part[0])?)?;
            Some(Member { peer, status: Status { name: given(1), user_agent: given(2) } })
        });
        let others = others.collect();
        let before = parts.get(2).and_then(text).unwrap_or_default();
        if !before.is_empty() {
            let old = self.own.get(&own).map_or(unix_s, |own| own.joined_unix_s);
            self.say(SharedEvent::Count(Count::Left { joined_unix_s: old }));
            self.count_closed(value(3), value(4), value(5));
            if before == self.plan.node {
                self.say(SharedEvent::Delivery(Delivery::Superseded(own)));
            }
        }
        self.say(SharedEvent::Count(Count::Joined { is_first: value(1) == 1 }));
        let member = Own {
            connection,
            room: join.room,
            token: join.next_token,
            status: join.status.unwrap_or_default(),
            joined_unix_s: unix_s,
        };
        self.own.insert(own, member);
        self.answer(connection, Reply::Joined(Ok(Joined { own, others })));
    }

    /// A request that Redis may have carried out or not: its effects are taken back, or made up for, when
    /// Redis answers again.
    fn failed(&mut self, what: Awaited) {
        let unavailable = Err(RoomError::StoreUnavailable);
        match what {
            Awaited::Lookup(Joining { connection, .. }) => {
                self.answer(connection, Reply::Joined(Err(RoomError::StoreUnavailable)));
            }
            Awaited::Join(Joining { connection, join, own, .. }) => {
                let keep = Duration::ZERO;
                let (room, token) = (join.room, join.next_token);
                let is_known = false;
                self.departed.push(Departed { peer: own, room, token, keep, is_known });
                self.answer(connection, Reply::Joined(Err(RoomError::StoreUnavailable)));
            }
            Awaited::Leave { connection, departed, .. } => {
                self.departed.push(departed);
                self.answer(connection, Reply::Done(Ok(())));
            }
            Awaited::Update { connection, .. } => self.answer(connection, Reply::Done(unavailable)),
            Awaited::Send(connection) | Awaited::Probe(connection, _) => {
                self.answer(connection, Reply::Done(unavailable));
            }
            Awaited::Nothing => {}
        }
    }

    fn node_text(&mut self, text: &str) {
        let mut words = text.split(' ');
        let (Some("superseded"), Some(peer), Some(token)) =
            (words.next(), words.next().and_then(PeerId::parse), words.next())
        else {
            return;
        };
        if self.own.get(&peer).is_some_and(|own| &*own.token.0 == token) {
            self.own.remove(&peer);
            self.forget_channel(peer);
            self.say(SharedEvent::Delivery(Delivery::Superseded(peer)));
        }
    }

    fn forget_channel(&mut self, peer: PeerId) {
        if !self.own.contains_key(&peer) {
            self.listens.push_back(Listen::Unsubscribe(peer));
        }
    }

    /// The channel of who left stays if the id has been resumed since, or is about to be.
    fn keep_resumed_channels(&mut self) {
        self.listens.retain(|change| match change {
            Listen::Subscribe(_) => true,
            Listen::Unsubscribe(peer) => {
                !self.own.contains_key(peer) && !self.joining.contains_key(peer)
            }
        });
    }

    /// Hands changes to the listener, and wakes it.
    fn push_listens(&mut self) {
        self.keep_resumed_channels();
        let Some(link) = &self.link else { return };
        let mut has_pushed = false;
        while let Some(change) = self.listens.pop_front() {
            if let Err(TrySendError::Full(change) | TrySendError::Disconnected(change)) =
                link.listens.try_send(change)
            {
                self.listens.push_front(change);
                break;
            }
            has_pushed = true;
        }
        if has_pushed {
            let command = wake(&self.plan.node);
            self.batch.push((command, Awaited::Nothing));
            self.run_batch();
        }
    }

    /// Connects, renews the lease, does what could not be done without Redis, each when it is due, and a
    /// step of what is to be done for nodes that are gone.
    fn keep_up(&mut self) {
        let now = Instant::now();
        if self.link.is_none() && self.attempts.next() <= now {
            match self.connect() {
                Ok(()) => {
                    tracing::info!(members = self.own.len(), "Redis answers: rooms are shared");
                    self.attempts.succeeded();
                    self.make_up_at = Some(Instant::now() + MAKE_UP_AFTER);
                    self.say(SharedEvent::IsUp(true));
                }
                Err(error) => {
                    self.link = None;
                    self.is_away(&error.to_string());
                }
            }
        }
        if self.link.is_some()
            && self.next_renewal <= now
            && let Err(error) = self.renew()
        {
            self.lost(&error.to_string());
        }
        if self.link.is_some() && self.make_up_at.is_some_and(|at| at <= now) {
            self.make_up_at = None;
            if let Err(error) = self.make_up() {
                self.lost(&error.to_string());
            }
        }
        if self.link.is_some()
            && let Err(error) = self.reap()
        {
            self.lost(&error.to_string());
        }
    }

    fn connect(&mut self) -> Result<(), RedisError> {
        self.generation += 1;
        self.listens.clear();
        self.suspects.clear();
        let members: Vec<PeerId> = self.own.keys().copied().collect();
        let work = self.to_work.clone();
        let mut link = Link::open(&self.client, &self.plan.node, &members, self.generation, work)?;
        let mut epoch = Pipeline::new();
        // A value unlike any before: what is there was set since Redis lost the last one.
        let fresh = format!("{}-{}", self.plan.node, self.generation);
        epoch.cmd("SETNX").arg(EPOCH).arg(fresh).cmd("GET").arg(EPOCH);
        let answers = link.run(&epoch)?;
        let epoch = answers.get(1).and_then(text).unwrap_or_default().to_owned();
        // Had Redis kept everything, then others have been told who was taken for dead.
        let tell = self.epoch.as_ref() == Some(&epoch);
        self.epoch = Some(epoch);
        self.link = Some(link);
        self.renew_lease()?;
        self.restore(tell)?;
        self.next_renewal = Instant::now();
        Ok(())
    }

    /// Sets the lease; says whether it was still there.
    fn renew_lease(&mut self) -> Result<bool, RedisError> {
        let Some(link) = &mut self.link else { return Ok(true) };
        let node = &self.plan.node;
        let lease = format!("shardcast:rooms:lease:{node}");
        // The rest of the time is for the others, to see that it is over.
        let good_for = self.plan.lease * 2 / 3;
        let mut commands = Pipeline::new();
        commands.cmd("EXISTS").arg(&lease);
        commands.cmd("SET").arg(&lease).arg(1).arg("PX").arg(good_for.as_millis() as u64);
        commands.cmd("SADD").arg(NODES).arg(node);
        commands.add_command(wake(node));
        let answers = link.run(&commands)?;
        Ok(answers.first().and_then(number) == Some(1))
    }

    /// Renews the lease, and lists the nodes that may not have renewed theirs.
    fn renew(&mut self) -> Result<(), RedisError> {
        self.next_renewal = Instant::now() + self.plan.lease / 6;
        if !self.renew_lease()? {
            self.restore(true)?;
        }
        let Some(link) = &mut self.link else { return Ok(()) };
        let mut list = Pipeline::new();
        list.cmd("SMEMBERS").arg(NODES);
        let nodes: Vec<String> = match link.run(&list)?.first() {
            Some(Value::Array(nodes) | Value::Set(nodes)) => {
                nodes.iter().filter_map(text).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        for node in nodes {
            let is_listed = self.suspects.iter().any(|suspect| suspect.node == node);
            if node != self.plan.node && !is_listed {
                self.suspects.push_back(Suspect { node, cursor: 0 });
            }
        }
        Ok(())
    }

    /// Takes away some members of a node that has not renewed its lease. The rest is for the next turns:
    /// requests and the own lease do not wait for all of them.
    fn reap(&mut self) -> Result<(), RedisError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let Some(Suspect { node, cursor }) = self.suspects.pop_front() else { return Ok(()) };
        let mut commands = Pipeline::new();
        commands.add_command(link.scripts.reap.call(&[
            &node,
            &unix_s().to_string(),
            &self.plan.resume.as_millis().to_string(),
            &cursor.to_string(),
        ]));
        let parts = link.run(&commands)?.first().map(numbers).unwrap_or_default();
        let [left, cursor, found] = parts[..] else { return Ok(()) };
        if left == 0 {
            tracing::warn!(node, "a node that shared rooms is gone: its members left");
        } else if left > 0 && (cursor != 0 || found > 0) {
            self.suspects.push_back(Suspect { node, cursor });
        }
        // Otherwise it lives, or what is left has just come: the next renewal lists it again.
        Ok(())
    }

    /// Puts the members of this node back where they are missing.
    fn restore(&mut self, tell: bool) -> Result<(), RedisError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let members: Vec<(&PeerId, &Own)> = self.own.iter().collect();
        let mut restored = 0;
        for some in members.chunks(BATCH_MAX) {
            let mut commands = Pipeline::new();
            for (peer, own) in some {
                let (name, agent) = texts(&own.status);
                let status = Some(&own.status).filter(|status| !status.is_empty());
                let frame = if tell { events::new_peer(**peer, status) } else { String::new() };
                commands.add_command(link.scripts.restore.call(&[
                    &peer.to_string(),
                    own.room.as_str(),
                    &own.joined_unix_s.to_string(),
                    &self.plan.node,
                    &own.token.0,
                    name,
                    agent,
                    &frame,
                ]));
            }
            restored += link.run(&commands)?.iter().filter_map(number).sum::<i64>();
        }
        if restored > 0 {
            tracing::warn!(members = restored, "members were put back into the shared rooms");
        }
        Ok(())
    }

    /// Tells of the leaves of the time without Redis.
    fn make_up(&mut self) -> Result<(), RedisError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        for some in self.departed.chunks(BATCH_MAX) {
            let mut commands = Pipeline::new();
            for departed in some {
                commands.add_command(leave(link, departed, &self.plan.node, unix_s(), true));
            }
            link.run(&commands)?;
        }
        self.departed.clear();
        Ok(())
    }

    /// Redis does not answer any more.
    fn lost(&mut self, error: &str) {
        self.generation += 1;
        if self.link.take().is_none() {
            return;
        }
        self.is_away(error);
        let joining = std::mem::take(&mut self.joining);
        for Joining { connection, .. } in joining.into_values() {
            self.answer(connection, Reply::Joined(Err(RoomError::StoreUnavailable)));
        }
        self.say(SharedEvent::IsUp(false));
    }

    fn is_away(&mut self, error: &str) {
        if self.attempts.failed() {
            tracing::warn!(
                error,
                "the Redis of signalling.store does not answer: nobody can join a room or send to a \
                 peer; trying again until it does"
            );
        }
    }

    /// The members have left one by one; nothing of the node stays.
    fn leave_for_good(&mut self) {
        let node = &self.plan.node;
        let mut commands = Pipeline::new();
        commands.cmd("DEL").arg(format!("shardcast:rooms:lease:{node}"));
        commands.cmd("SREM").arg(NODES).arg(node);
        if let Some(link) = &mut self.link {
            // Without it the others see that the lease has run out.
            let _ = link.run(&commands);
        }
    }

    fn answer(&self, connection: RoomConnection, reply: Reply) {
        self.say(SharedEvent::Reply(connection, reply));
    }

    fn count_closed(&self, closed: i64, peak: i64, since: i64) {
        if closed == 1 {
            let peak = peak.unsigned_abs();
            let since_unix_s = since.unsigned_abs();
            self.say(SharedEvent::Count(Count::Closed { peak, since_unix_s }));
        }
    }

    /// Waits while the control shard has too much to do.
    fn say(&self, event: SharedEvent) {
        let mut event = event;
        while let Err(same) = self.events.try_send(event) {
            event = same;
            thread::sleep(QUEUE_RETRY);
        }
    }
}

fn leave(link: &Link, departed: &Departed, node: &str, unix_s: u64, was_away: bool) -> Cmd {
    link.scripts.leave.call(&[
        &departed.peer.to_string(),
        departed.room.as_str(),
        &unix_s.to_string(),
        &departed.keep.as_millis().to_string(),
        node,
        &departed.token.0,
        if was_away && departed.is_known { "1" } else { "0" },
    ])
}

fn send(link: &Link, own: &Own, from: PeerId, to: PeerId, text: &str) -> Cmd {
    link.scripts.send.call(&[&from.to_string(), own.room.as_str(), &to.to_string(), text])
}

fn wake(node: &str) -> Cmd {
    let mut command = cmd("PUBLISH");
    command.arg(node_channel(node)).arg(WAKE);
    command
}

/// Name and agent; empty is none.
fn texts(status: &Status) -> (&str, &str) {
    (status.name.as_deref().unwrap_or_default(), status.user_agent.as_deref().unwrap_or_default())
}

fn neighbour(answer: &Value) -> Result<(), RoomError> {
    match number(answer) {
        Some(1) => Ok(()),
        Some(0) => Err(RoomError::UnknownPeer),
        _ => Err(RoomError::NotInRoom),
    }
}

fn numbers(answer: &Value) -> Vec<i64> {
    match answer {
        Value::Array(parts) => parts.iter().filter_map(number).collect(),
        _ => Vec::new(),
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
#[path = "worker/tests.rs"]
mod tests;
