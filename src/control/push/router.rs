//! Who is a member of which channel, and which way a message takes: once to every shard with members.
//! No I/O and no clock; messages in, messages out.
//!
//! What must hold:
//! - A connection is a member from the verdict that lets it in on, and until its shard says that it is
//!   gone. What is posted in between, and nothing else, is sent to it once, in the order of the posts:
//!   the verdict and the messages take the same lane.
//! - What is on its way to the shards is bounded; at the cap a post is not taken.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::forward::{Forward, Forwards};
use super::history::{History, Kept};
use super::target::{Key, Target};
use crate::config::{ClientSend, Settings};
use crate::limits;
use crate::media::Moment;
use crate::proto::push_message::{
    PushAddress, PushBody, PushId, server_sent_event, websocket_frame,
};
use crate::proto::push_name::PushName;
use crate::proto::push_session::{PushSession, PushSessionError};
use crate::session::{
    Ask, ClientId, ClientInfo, Grant, Membership, PushAsk, PushGrant, PushTarget, PushWire,
    Refusal, RefusalReason, SendRefusal, Verdict, Want,
};
use crate::shard::{AskToken, ConnKey, InFlight, Node, Notice, PushForms, PushMessage};

/// What an RTMP client hears of a refused session (contract push-channel 1.3). The log says why.
const REJECTED: &str = "Connection rejected.";

/// Members, channels, users and messages.
#[derive(Debug)]
pub struct Router {
    settings: Arc<Settings>,
    epoch: u64,
    last_offset: u64,
    last_target: u64,
    /// Numbers of vhosts; only configured ones and the default have one.
    vhosts: HashMap<String, u32>,
    targets: HashMap<Key, Target>,
    members: BTreeMap<ClientId, Member>,
    /// Sessions of connections whose other questions are not answered yet.
    pending: HashMap<AskToken, (PushSession, SocketAddr, ClientId)>,
    /// Their questions.
    pending_of: HashMap<ClientId, AskToken>,
    /// Messages of clients that a hook is asked about.
    unjudged: HashMap<ClientId, Unjudged>,
    unjudged_bytes: usize,
    history: History,
    in_flight: Arc<InFlight>,
    outgoing: Vec<(Node, Notice)>,
    /// For members on other nodes, where there are any.
    forwards: Option<Forwards>,
    warned_of_no_secret: bool,
    counters: PushCounters,
}

/// Counts since the start; `members`, `channels` and `history_*` are of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PushCounters {
    /// Messages taken.
    pub posts: u64,
    /// Messages not taken because too much was on its way.
    pub posts_refused: u64,
    /// Connections that the taken ones were sent to, summed.
    pub reached: u64,
    /// Messages handed to shards: one per message and shard with members.
    pub crossings: u64,
    /// Connections that became members.
    pub joined: u64,
    /// Connections refused because of their session.
    pub sessions_refused: u64,
    /// Messages of clients that were passed on.
    pub client_sends: u64,
    /// Messages of clients that were not.
    pub client_sends_refused: u64,
    /// Connections that came back and could be sent all that they had missed.
    pub recovered: u64,
    /// Connections that came back and may have missed more.
    pub gaps: u64,
    /// Connections with a session whose connect is still judged.
    pub sessions_pending: usize,
    /// Connections that are members.
    pub members: usize,
    /// Channels and users with members.
    pub targets: usize,
    /// Messages kept.
    pub history_messages: usize,
    /// Their bytes.
    pub history_bytes: usize,
    /// Kept messages that had to go because of the cap in bytes.
    pub history_evicted: u64,
    /// Bytes on their way to the shards.
    pub in_flight_bytes: usize,
    /// Bytes of clients' messages that a hook is asked about.
    pub unjudged_bytes: usize,
}

/// A connection that gets messages.
#[derive(Debug)]
struct Member {
    keys: Vec<Key>,
    user: PushName,
    channels: Vec<PushName>,
    node: Node,
    wire: PushWire,
    peer: SocketAddr,
}

/// What a client has said and no hook has judged yet, oldest first; the first one is being judged. One at
/// a time, so that the messages of a client stay in order.
#[derive(Debug)]
struct Unjudged {
    from: Node,
    connection: ConnKey,
    vhost: String,
    user: PushName,
    peer: SocketAddr,
    messages: VecDeque<(PushName, PushBody, usize)>,
}

/// A question for the hook `on_message`.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageToJudge {
    /// Who says it.
    pub client: ClientId,
    /// The client's address.
    pub peer: SocketAddr,
    /// The vhost of both.
    pub vhost: String,
    /// The user of the client's session.
    pub user: PushName,
    /// The channel.
    pub channel: PushName,
    /// The message.
    pub body: PushBody,
}

/// One line of the presence resources.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Presence {
    pub(super) user_id: PushName,
    pub(super) channels: Vec<PushName>,
    pub(super) client: ClientId,
    pub(super) protocol: PushWire,
    pub(super) address: String,
}

impl Router {
    /// A router without members. `epoch` tells this start of the server from others.
    pub fn new(settings: Arc<Settings>, epoch: u64) -> Self {
        Self {
            epoch,
            last_offset: 0,
            last_target: 0,
            vhosts: HashMap::new(),
            targets: HashMap::new(),
            members: BTreeMap::new(),
            pending: HashMap::new(),
            pending_of: HashMap::new(),
            unjudged: HashMap::new(),
            unjudged_bytes: 0,
            history: History::default(),
            in_flight: Arc::default(),
            outgoing: Vec::new(),
            forwards: settings.cluster.is_some().then(Forwards::default),
            warned_of_no_secret: false,
            counters: PushCounters::default(),
            settings,
        }
    }

    /// Judges by these settings from now on; who is a member stays one.
    pub fn reload(&mut self, settings: Arc<Settings>) {
        self.settings = settings;
    }

    /// The counters.
    pub fn counters(&self) -> PushCounters {
        let (history_messages, history_bytes) = self.history.size();
        PushCounters {
            sessions_pending: self.pending.len(),
            members: self.members.len(),
            targets: self.targets.len(),
            history_messages,
            history_bytes,
            history_evicted: self.history.evicted,
            in_flight_bytes: self.in_flight.bytes(),
            unjudged_bytes: self.unjudged_bytes,
            ..self.counters
        }
    }

    /// Looks at a question before anybody else does: a session that is there, or has to be there, must
    /// be right.
    pub fn check(&mut self, token: AskToken, ask: &Ask, now_unix_s: i64) -> Option<Refusal> {
        let client = &ask.client;
        let is_http = match &ask.what {
            Want::Connect => false,
            Want::Play { http: true, .. } => true,
            _ => return None,
        };
        let app = self.settings.app(&client.vhost, &client.app, &client.instance);
        // What a viewer's URL calls `session` may be anything where no session is needed.
        if is_http && !app.session_required {
            return None;
        }
        let found = self.session_of(client, now_unix_s);
        let why = match found {
            Ok(Some(session)) => {
                if !is_http {
                    self.pending.insert(token, (session, ask.peer, client.id));
                    self.pending_of.insert(client.id, token);
                }
                return None;
            }
            Ok(None) if !app.session_required => return None,
            Ok(None) => "a session is required, and none was sent".to_owned(),
            Err(error) => error.to_string(),
        };
        self.counters.sessions_refused += 1;
        tracing::info!(peer = %ask.peer, client = %client.id, app = client.app, "rejected: {why}");
        let description = if is_http { why } else { REJECTED.to_owned() };
        Some(Refusal::new(RefusalReason::Denied, description))
    }

    /// Sees every verdict on its way: who is let in with a session becomes a member.
    pub fn attach(&mut self, token: AskToken, verdict: &mut Verdict) {
        let Some((session, peer, id)) = self.pending.remove(&token) else { return };
        self.pending_of.remove(&id);
        if let Verdict::Accept(Grant::Connect { client, push, .. }) = verdict {
            let client = Arc::clone(client);
            *push = Some(self.join(&session, &client, peer, token, PushWire::Rtmp));
        }
    }

    /// A connection wants nothing but messages.
    pub fn subscribe(
        &mut self,
        token: AskToken,
        ask: &PushAsk,
        now: Moment,
        now_unix_s: i64,
    ) -> Verdict {
        let client = &ask.client;
        let why = match self.session_of(client, now_unix_s) {
            Ok(Some(session)) => {
                return Verdict::Accept(Grant::Push(self.grant(&session, token, ask, now)));
            }
            Ok(None) if self.settings.push(&client.vhost).secrets.is_empty() => {
                "there are no sessions on this server: push.secret is not set".to_owned()
            }
            Ok(None) => "send a session: /push?session=TOKEN".to_owned(),
            Err(error) => error.to_string(),
        };
        self.counters.sessions_refused += 1;
        tracing::info!(peer = %ask.peer, client = %client.id, "rejected: {why}");
        Verdict::Refuse(Refusal::new(RefusalReason::Denied, why))
    }

    /// A connection is gone, whatever it was: no verdict is to come for it.
    pub fn gone(&mut self, client: ClientId) {
        if let Some(token) = self.pending_of.remove(&client) {
            self.pending.remove(&token);
        }
    }

    /// A member is gone. What it has said before is judged all the same.
    pub fn left(&mut self, client: ClientId) {
        let Some(member) = self.members.remove(&client) else { return };
        for key in &member.keys {
            if let Some(target) = self.targets.get_mut(key) {
                target.leave(client, member.node, member.wire);
                if target.is_empty() {
                    self.targets.remove(key);
                }
            }
        }
    }

    /// Sends a message to all members of a channel or user, and says how many connections those on this
    /// node have; `None` when too much is on its way, here or to the other nodes of a cluster.
    pub fn post(
        &mut self,
        vhost: &str,
        address: &PushAddress,
        body: &PushBody,
        now: Moment,
    ) -> Option<usize> {
        if self.forwards.as_ref().is_some_and(Forwards::is_full) {
            return None;
        }
        let reached = self.post_here(vhost, address, body, now)?;
        if let Some(forwards) = &mut self.forwards {
            let (vhost, address, body) = (vhost.to_owned(), address.clone(), body.clone());
            forwards.put(Forward { vhost, address, body });
        }
        Some(reached)
    }

    /// What is to be said to other nodes, oldest first: at least one, and about so many bytes.
    pub(in crate::control) fn take_forwards(&mut self, bytes_max: usize) -> Vec<Forward> {
        self.forwards.as_mut().map(|forwards| forwards.take(bytes_max)).unwrap_or_default()
    }

    /// Whether there is something to be said to other nodes.
    pub fn has_forwards(&self) -> bool {
        self.forwards.as_ref().is_some_and(|forwards| !forwards.is_empty())
    }

    /// Sends a message to the members on this node alone.
    pub fn post_here(
        &mut self,
        vhost: &str,
        address: &PushAddress,
        body: &PushBody,
        now: Moment,
    ) -> Option<usize> {
        if self.in_flight.is_full() {
            return None;
        }
        let key = Key { vhost: self.vhost(vhost), address: address.clone() };
        let settings = Arc::clone(self.settings.push(vhost));
        self.last_offset += 1;
        self.counters.posts += 1;
        let id = PushId { epoch: self.epoch, offset: self.last_offset };
        let target = self.targets.get(&key);
        let wires = target.map(Target::wires).unwrap_or_default();
        let (mut websocket, mut sse) = (Bytes::new(), Bytes::new());
        if wires.websocket + wires.sse > 0 || settings.has_history() {
            let json = body.json(&key.address, id);
            if wires.websocket > 0 || settings.has_history() {
                websocket = websocket_frame(&json).into();
            }
            if wires.sse > 0 || settings.has_history() {
                sse = server_sent_event(Some(id), &json).into();
            }
        }
        if settings.has_history() {
            let message = Kept { websocket: websocket.clone(), sse: sse.clone() };
            let (messages, age) = (settings.history_messages, settings.history_age);
            self.history.keep(id.offset, key.clone(), message, messages, age, now);
        } else {
            self.history.pass(id.offset, &key);
        }
        let Some(target) = target else { return Some(0) };
        let rtmp = match wires.rtmp {
            0 => Bytes::new(),
            _ => body.rtmp(self.settings.rtmp.chunk_size as usize).into(),
        };
        let forms = PushForms { rtmp, websocket, sse };
        let message = Arc::new(PushMessage::new(target.id, forms, &self.in_flight));
        for node in target.nodes() {
            self.outgoing.push((node, Notice::Push(Arc::clone(&message))));
            self.counters.crossings += 1;
        }
        let reached = target.members().len();
        self.counters.reached += reached as u64;
        Some(reached)
    }

    /// A message of a client to a channel: judged, and passed on or not; the client is told in turn. Given
    /// back is what the hook is to be asked.
    pub fn client_send(
        &mut self,
        from: Node,
        connection: ConnKey,
        client: ClientId,
        channel: PushName,
        body: PushBody,
        now: Moment,
    ) -> Option<MessageToJudge> {
        let judged = match self.may_send(client, &channel, &body) {
            Ok(vhost) if self.settings.push(&vhost).client_send == ClientSend::Hook => {
                return self.enqueue(from, connection, client, vhost, channel, body);
            }
            Ok(vhost) => self.pass_on(&vhost, channel, &body, now),
            Err(refusal) => Err(refusal),
        };
        self.tell_sender(from, connection, client, judged);
        None
    }

    /// The hook's word on the message that it was asked about: pass it on, with another body if it gave one,
    /// or not. Given back is what it is to be asked next.
    pub fn judged(
        &mut self,
        client: ClientId,
        verdict: Result<Option<PushBody>, SendRefusal>,
        now: Moment,
    ) -> Option<MessageToJudge> {
        let waiting = self.unjudged.get_mut(&client)?;
        let (channel, body, bytes) = waiting.messages.pop_front()?;
        let (from, connection, vhost) = (waiting.from, waiting.connection, waiting.vhost.clone());
        self.unjudged_bytes -= bytes;
        let judged = verdict.and_then(|other| {
            let body = other.unwrap_or(body);
            if body.len() > self.settings.push(&vhost).message_bytes_max {
                return Err(SendRefusal::TooLong);
            }
            self.pass_on(&vhost, channel, &body, now)
        });
        self.tell_sender(from, connection, client, judged);
        let next = self.to_judge(client);
        if next.is_none() {
            self.unjudged.remove(&client);
        }
        next
    }

    /// Whether a client may say this; if so, its vhost.
    fn may_send(
        &self,
        client: ClientId,
        channel: &PushName,
        body: &PushBody,
    ) -> Result<String, SendRefusal> {
        let member = self.members.get(&client).ok_or(SendRefusal::NotMember)?;
        let vhost = member.keys.first().and_then(|key| self.vhost_name(key.vhost));
        let vhost = vhost.unwrap_or_default().to_owned();
        let settings = self.settings.push(&vhost);
        if settings.client_send == ClientSend::Off {
            return Err(SendRefusal::Off);
        }
        if !member.channels.contains(channel) {
            return Err(SendRefusal::NotMember);
        }
        if body.len() > settings.message_bytes_max {
            return Err(SendRefusal::TooLong);
        }
        Ok(vhost)
    }

    fn pass_on(
        &mut self,
        vhost: &str,
        channel: PushName,
        body: &PushBody,
        now: Moment,
    ) -> Result<(), SendRefusal> {
        let posted = self.post(vhost, &PushAddress::Channel(channel), body, now);
        posted.map(drop).ok_or(SendRefusal::Busy)
    }

    fn enqueue(
        &mut self,
        from: Node,
        connection: ConnKey,
        client: ClientId,
        vhost: String,
        channel: PushName,
        body: PushBody,
    ) -> Option<MessageToJudge> {
        let bytes = body.len();
        let has_room = self.unjudged_bytes + bytes <= limits::PUSH_UNJUDGED_BYTES_MAX;
        let Some(member) = self.members.get(&client).filter(|_| has_room) else {
            self.tell_sender(from, connection, client, Err(SendRefusal::Busy));
            return None;
        };
        self.unjudged_bytes += bytes;
        let waiting = self.unjudged.entry(client).or_insert_with(|| Unjudged {
            from,
            connection,
            vhost,
            user: member.user.clone(),
            peer: member.peer,
            messages: VecDeque::new(),
        });
        waiting.messages.push_back((channel, body, bytes));
        let is_first = waiting.messages.len() == 1;
        if is_first { self.to_judge(client) } else { None }
    }

    fn to_judge(&self, client: ClientId) -> Option<MessageToJudge> {
        let waiting = self.unjudged.get(&client)?;
        let (channel, body, _) = waiting.messages.front()?;
        Some(MessageToJudge {
            client,
            peer: waiting.peer,
            vhost: waiting.vhost.clone(),
            user: waiting.user.clone(),
            channel: channel.clone(),
            body: body.clone(),
        })
    }

    fn tell_sender(
        &mut self,
        from: Node,
        connection: ConnKey,
        client: ClientId,
        judged: Result<(), SendRefusal>,
    ) {
        match judged {
            Ok(()) => self.counters.client_sends += 1,
            Err(why) => {
                self.counters.client_sends_refused += 1;
                tracing::debug!(%client, why = why.word(), "a client's message is dropped");
            }
        }
        self.outgoing.push((from, Notice::PushSent { connection, refusal: judged.err() }));
    }

    /// A post was given up.
    pub fn count_posts_refused(&mut self) {
        self.counters.posts_refused += 1;
    }

    /// What is to be said to the shards, in order.
    pub fn take_outgoing(&mut self) -> Vec<(Node, Notice)> {
        std::mem::take(&mut self.outgoing)
    }

    /// Whether there is something to be said.
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Longest message of a vhost, in bytes after decoding.
    pub(super) fn message_bytes_max(&self, vhost: &str) -> usize {
        self.settings.push(vhost).message_bytes_max
    }

    /// The vhost that a request means: `?vhost=`, or its Host.
    pub(super) fn vhost_of(&self, named: &str) -> String {
        self.settings.vhost_of(named).to_owned()
    }

    /// Connections on a channel, of a user, or (`None`) all of a vhost: how many there are, and `count`
    /// of them from the one numbered `start` on.
    pub(super) fn members_of(
        &self,
        vhost: &str,
        address: Option<&PushAddress>,
        start: usize,
        count: usize,
    ) -> (usize, Vec<ClientId>) {
        let Some(&vhost) = self.vhosts.get(vhost) else { return (0, Vec::new()) };
        match address {
            Some(address) => {
                let Some(target) = self.targets.get(&Key { vhost, address: address.clone() })
                else {
                    return (0, Vec::new());
                };
                let found = target.members().iter().skip(start).take(count);
                (target.members().len(), found.copied().collect())
            }
            None => {
                // All keys of a member are of its vhost.
                let of_vhost =
                    |member: &Member| member.keys.first().is_some_and(|key| key.vhost == vhost);
                let all = || self.members.iter().filter(|(_, member)| of_vhost(member));
                let found = all().skip(start).take(count).map(|(client, _)| *client);
                (all().count(), found.collect())
            }
        }
    }

    /// What there is to be said of a member, as long as it is one.
    pub(super) fn presence(&self, client: ClientId) -> Option<Presence> {
        let member = self.members.get(&client)?;
        Some(Presence {
            user_id: member.user.clone(),
            channels: member.channels.clone(),
            client,
            protocol: member.wire,
            address: member.peer.to_string(),
        })
    }

    /// Channels of a vhost that have members, with the number of their connections.
    pub(super) fn channels(&self, vhost: &str) -> BTreeMap<PushName, usize> {
        let Some(&vhost) = self.vhosts.get(vhost) else { return BTreeMap::new() };
        self.targets
            .iter()
            .filter_map(|(key, target)| match &key.address {
                PushAddress::Channel(name) if key.vhost == vhost => {
                    Some((name.clone(), target.members().len()))
                }
                _ => None,
            })
            .collect()
    }

    /// The session that a client sent: `None` when it sent none, or where there are none.
    fn session_of(
        &mut self,
        client: &ClientInfo,
        now_unix_s: i64,
    ) -> Result<Option<PushSession>, PushSessionError> {
        let Some(token) = &client.session else { return Ok(None) };
        let secrets = &self.settings.push(&client.vhost).secrets;
        if secrets.is_empty() {
            if !std::mem::replace(&mut self.warned_of_no_secret, true) {
                tracing::warn!(
                    client = %client.id,
                    "a client sent an argument that may be a session; it is ignored, because \
                     push.secret is not set (said once)"
                );
            }
            return Ok(None);
        }
        PushSession::verify(token, secrets, now_unix_s).map(Some)
    }

    fn join(
        &mut self,
        session: &PushSession,
        client: &ClientInfo,
        peer: SocketAddr,
        token: AskToken,
        wire: PushWire,
    ) -> Arc<Membership> {
        let vhost = self.vhost(&client.vhost);
        let addresses = session.channels.iter().cloned().map(PushAddress::Channel);
        let keys: Vec<Key> = std::iter::once(PushAddress::User(session.user.clone()))
            .chain(addresses)
            .map(|address| Key { vhost, address })
            .collect();
        let mut targets = Vec::with_capacity(keys.len());
        for key in &keys {
            let target = self.targets.entry(key.clone()).or_insert_with(|| {
                self.last_target += 1;
                Target::new(PushTarget(self.last_target))
            });
            target.join(client.id, token.node, wire);
            targets.push(target.id);
        }
        let member = Member {
            keys,
            user: session.user.clone(),
            channels: session.channels.clone(),
            node: token.node,
            wire,
            peer,
        };
        self.members.insert(client.id, member);
        self.counters.joined += 1;
        Arc::new(Membership { client: client.id, targets })
    }

    fn grant(
        &mut self,
        session: &PushSession,
        token: AskToken,
        ask: &PushAsk,
        now: Moment,
    ) -> PushGrant {
        let membership = self.join(session, &ask.client, ask.peer, token, ask.wire);
        let settings = Arc::clone(self.settings.push(&ask.client.vhost));
        let (missed, gap) = self.missed(ask, now);
        PushGrant {
            membership,
            position: settings
                .has_history()
                .then_some(PushId { epoch: self.epoch, offset: self.last_offset }),
            settings,
            gap,
            missed,
        }
    }

    /// What a client that comes back gets: as much of the newest as may wait for one client.
    fn missed(&mut self, ask: &PushAsk, now: Moment) -> (Vec<Bytes>, Option<String>) {
        let Some(since) = &ask.since else { return (Vec::new(), None) };
        let keys = self.members.get(&ask.client.id).map(|it| it.keys.clone()).unwrap_or_default();
        let known = since.parse::<PushId>().ok().filter(|id| id.epoch == self.epoch);
        let from = known.map_or(0, |id| id.offset);
        let (found, mut has_gap) = self.history.missed(&keys, from, now);
        has_gap |= known.is_none_or(|id| id.offset > self.last_offset);
        let mut bytes = 0;
        let forms = found.into_iter().map(|(_, kept)| match ask.wire {
            PushWire::Sse => kept.sse,
            PushWire::Rtmp | PushWire::WebSocket => kept.websocket,
        });
        let all: Vec<Bytes> = forms.collect();
        // Half of what may wait: new messages may come before these are gone.
        let fitting = all.iter().rev().take(limits::PUSH_QUEUE_MESSAGES_MAX / 2).take_while(|it| {
            bytes += it.len();
            bytes <= limits::PUSH_QUEUE_BYTES_MAX / 2
        });
        let skipped = all.len() - fitting.count();
        has_gap |= skipped > 0;
        if has_gap {
            self.counters.gaps += 1;
        } else {
            self.counters.recovered += 1;
        }
        (all.into_iter().skip(skipped).collect(), has_gap.then(|| since.clone()))
    }

    fn vhost(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.vhosts.get(name) {
            return number;
        }
        let number = u32::try_from(self.vhosts.len()).unwrap_or(u32::MAX);
        self.vhosts.insert(name.to_owned(), number);
        number
    }

    fn vhost_name(&self, number: u32) -> Option<&str> {
        self.vhosts.iter().find(|(_, it)| **it == number).map(|(name, _)| name.as_str())
    }
}
