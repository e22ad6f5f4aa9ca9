//! The node's side of the rooms: its connections, what each may do now, and what each is sent. No I/O and no
//! clock; which store keeps the memberships is not known here.
//!
//! What must hold: the messages of a connection are carried out one after the other, in order, also when an
//! answer takes its time; a connection that has gone leaves its room, whatever it was waiting for.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::events;
use super::store::{Delivery, Join, Joined, Now, Reply, ResumeToken, StoreRequest};
use super::turn::TurnCredentials;
use crate::limits;
use crate::media::Moment;
use crate::proto::palava::{PeerId, Request, RoomError, RoomKey, Status, forwarded, parse};

/// Close code when the server ends (contract signalling, 2.4).
pub const CLOSE_SHUTDOWN: u16 = 4200;
/// Close code of a connection whose id another connection has resumed.
pub const CLOSE_SUPERSEDED: u16 = 4201;

/// What an operator has set.
#[derive(Clone, Debug)]
pub struct RoomRules {
    /// Most members of a room; 0 is no limit.
    pub max_members: usize,
    /// How long the id of a lost connection can be resumed.
    pub resume: Duration,
    /// Secret and lifetime of TURN credentials.
    pub turn: Option<(String, Duration)>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Effect<C> {
    /// A text frame for a connection.
    Text(C, String),
    /// The end of a connection.
    Close(C, u16, &'static str),
    /// A request to the store; its answer goes to [`Front::replied`].
    Store(C, StoreRequest),
}

/// A connection of this node that is in a room.
#[derive(Clone, Copy, Debug)]
pub struct Present<'a, C> {
    /// The connection.
    pub connection: C,
    /// Its room.
    pub room: &'a RoomKey,
    /// The id by which the others know it.
    pub peer: PeerId,
    /// As the others see it.
    pub status: &'a Status,
    /// Since when: seconds since 1970.
    pub joined_unix_s: u64,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct FrontCounters {
    /// Text frames read.
    pub messages: u64,
    /// Errors sent.
    pub errors: u64,
    /// Messages dropped because too many waited for the store.
    pub dropped: u64,
    /// Ids resumed.
    pub resumed: u64,
}

/// All connections of a node that are in rooms or may go into one. `C` names a connection.
pub struct Front<C> {
    rules: Arc<RoomRules>,
    /// 128 random bits for each id and token.
    random: Box<dyn FnMut() -> u128>,
    clients: HashMap<C, Client>,
    by_peer: HashMap<PeerId, C>,
    /// When TURN credentials have to be renewed.
    renewals: BTreeSet<(Moment, C)>,
    counters: FrontCounters,
}

struct Client {
    peer: PeerId,
    room: Option<RoomKey>,
    /// As the others see it, while it is in a room.
    status: Status,
    joined_unix_s: u64,
    doing: Doing,
    /// Texts that wait until the store has answered.
    waiting: VecDeque<String>,
    has_gone: bool,
    turn_until_unix_s: u64,
    renewal: Option<Moment>,
}

enum Doing {
    Nothing,
    /// The store does it.
    Store(Pending),
}

/// What happens here when the store has done it.
enum Pending {
    Join { room: RoomKey, token: ResumeToken, status: Status },
    Update(Status),
    Other,
}

impl Pending {
    fn join(join: &Join) -> Self {
        Self::Join {
            room: join.room.clone(),
            token: join.next_token.clone(),
            status: join.status.clone().unwrap_or_default(),
        }
    }
}

impl<C: Copy + Ord + std::hash::Hash> Front<C> {
    /// With a source of random bits.
    pub fn new(rules: Arc<RoomRules>, random: Box<dyn FnMut() -> u128>) -> Self {
        Self {
            rules,
            random,
            clients: HashMap::new(),
            by_peer: HashMap::new(),
            renewals: BTreeSet::new(),
            counters: FrontCounters::default(),
        }
    }

    /// New rules for what comes from now on.
    pub fn set_rules(&mut self, rules: Arc<RoomRules>) {
        self.rules = rules;
    }

    /// Counts since the start.
    pub fn counters(&self) -> FrontCounters {
        self.counters
    }

    /// Connections.
    pub fn connections(&self) -> usize {
        self.clients.len()
    }

    /// Everybody of this node who is in a room.
    pub fn members(&self) -> impl Iterator<Item = Present<'_, C>> {
        self.clients.iter().filter_map(|(connection, client)| {
            Some(Present {
                connection: *connection,
                room: client.room.as_ref()?,
                peer: client.peer,
                status: &client.status,
                joined_unix_s: client.joined_unix_s,
            })
        })
    }

    /// A connection was opened.
    pub fn opened(&mut self, connection: C) {
        let peer = PeerId::from_random((self.random)());
        let client = Client {
            peer,
            room: None,
            status: Status::default(),
            joined_unix_s: 0,
            doing: Doing::Nothing,
            waiting: VecDeque::new(),
            has_gone: false,
            turn_until_unix_s: 0,
            renewal: None,
        };
        self.clients.insert(connection, client);
        self.by_peer.insert(peer, connection);
    }

    /// A connection sent a text frame.
    pub fn text(&mut self, connection: C, text: String, out: &mut Vec<Effect<C>>) {
        self.counters.messages += 1;
        let Some(client) = self.clients.get_mut(&connection) else { return };
        if client.waiting.len() >= limits::ROOM_MESSAGES_WAITING {
            self.counters.dropped += 1;
            self.counters.errors += 1;
            out.push(Effect::Text(connection, RoomError::TooManyMessages.frame()));
            return;
        }
        client.waiting.push_back(text);
        self.go_on(connection, out);
    }

    /// A connection has gone.
    pub fn closed(&mut self, connection: C, out: &mut Vec<Effect<C>>) {
        let Some(client) = self.clients.get_mut(&connection) else { return };
        client.has_gone = true;
        client.waiting.clear();
        if let Some(at) = client.renewal.take() {
            self.renewals.remove(&(at, connection));
        }
        self.go_on(connection, out);
    }

    /// The store answers what a connection has asked. Its deliveries come before its answer.
    pub fn replied(&mut self, connection: C, reply: Reply, now: Now, out: &mut Vec<Effect<C>>) {
        let Some(client) = self.clients.get_mut(&connection) else { return };
        let Doing::Store(pending) = std::mem::replace(&mut client.doing, Doing::Nothing) else {
            debug_assert!(false, "an answer to nothing");
            return;
        };
        let result = match (reply, pending) {
            (Reply::Joined(Ok(joined)), Pending::Join { room, token, status }) => {
                client.status = status;
                client.joined_unix_s = now.unix_s;
                self.joined(connection, joined, room, &token, now, out);
                Ok(())
            }
            (Reply::Done(Ok(())), Pending::Update(status)) => {
                client.status.merge(&status);
                Ok(())
            }
            (Reply::Joined(result), _) => result.map(|_| ()),
            (Reply::Done(result), _) => result,
        };
        if let Err(error) = result {
            self.say_error(connection, error, out);
        }
        self.go_on(connection, out);
    }

    /// Something for a connection of this node.
    pub fn delivered(&mut self, delivery: Delivery, out: &mut Vec<Effect<C>>) {
        match delivery {
            Delivery::Text(peer, text) => {
                let connection = self.by_peer.get(&peer).copied();
                let is_there = connection
                    .and_then(|connection| self.clients.get(&connection))
                    .is_some_and(|client| !client.has_gone);
                if let Some(connection) = connection.filter(|_| is_there) {
                    out.push(Effect::Text(connection, text));
                }
            }
            Delivery::Superseded(peer) => {
                let Some(connection) = self.by_peer.remove(&peer) else { return };
                if let Some(client) = self.clients.get_mut(&connection) {
                    client.room = None;
                    if !client.has_gone {
                        let why = "another connection goes on with this id";
                        out.push(Effect::Close(connection, CLOSE_SUPERSEDED, why));
                    }
                }
            }
        }
    }

    /// Tells everybody that the server ends in so many seconds. Everything goes on until [`end`](Self::end).
    pub fn announce_end(&self, seconds: u64, out: &mut Vec<Effect<C>>) {
        let text = events::shutdown(seconds);
        out.extend(self.present().map(|connection| Effect::Text(connection, text.clone())));
    }

    /// Closes all connections.
    pub fn end(&self, out: &mut Vec<Effect<C>>) {
        let why = "the server shuts down";
        out.extend(self.present().map(|connection| Effect::Close(connection, CLOSE_SHUTDOWN, why)));
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.renewals.first().map(|(at, _)| *at)
    }

    /// Renews the TURN credentials that are about to expire.
    pub fn tick(&mut self, now: Now, out: &mut Vec<Effect<C>>) {
        while let Some((at, connection)) = self.renewals.first().copied() {
            if at > now.moment {
                return;
            }
            self.renewals.pop_first();
            let Some(client) = self.clients.get_mut(&connection) else { continue };
            client.renewal = None;
            // It is time, also where the clock on the wall has gone slower.
            client.turn_until_unix_s = 0;
            if client.room.is_some()
                && let Some(turn) = self.turn_credentials(connection, now)
            {
                out.push(Effect::Text(connection, events::turn_credentials(&turn)));
            }
        }
    }

    fn present(&self) -> impl Iterator<Item = C> {
        self.clients
            .iter()
            .filter(|(_, client)| !client.has_gone)
            .map(|(connection, _)| *connection)
    }

    /// Carries out what waits, until something has to be waited for.
    fn go_on(&mut self, connection: C, out: &mut Vec<Effect<C>>) {
        loop {
            let Some(client) = self.clients.get_mut(&connection) else { return };
            if !matches!(client.doing, Doing::Nothing) {
                return;
            }
            if client.has_gone {
                let peer = client.peer;
                if client.room.take().is_some() {
                    let keep = self.rules.resume;
                    client.doing = Doing::Store(Pending::Other);
                    out.push(Effect::Store(connection, StoreRequest::Leave { peer, keep }));
                    return;
                }
                self.clients.remove(&connection);
                if self.by_peer.get(&peer) == Some(&connection) {
                    self.by_peer.remove(&peer);
                }
                return;
            }
            let Some(text) = client.waiting.pop_front() else { return };
            if let Err(error) = self.carry_out(connection, &text, out) {
                self.say_error(connection, error, out);
            }
        }
    }

    fn carry_out(
        &mut self,
        connection: C,
        text: &str,
        out: &mut Vec<Effect<C>>,
    ) -> Result<(), RoomError> {
        let request = parse(text)?;
        let Some(client) = self.clients.get_mut(&connection) else { return Ok(()) };
        let peer = client.peer;
        let mut pending = Pending::Other;
        let store = match request {
            Request::Info => {
                out.push(Effect::Text(connection, events::info()));
                return Ok(());
            }
            Request::Ping => {
                out.push(Effect::Text(connection, events::pong()));
                return Ok(());
            }
            Request::JoinRoom { room_id, status, resume_token } => {
                if client.room.is_some() {
                    return Err(RoomError::AlreadyJoined);
                }
                let status = Status::clean(status.as_ref())?;
                let token = format!("{:032x}", (self.random)());
                let join = Join {
                    peer,
                    room: RoomKey::of(&room_id),
                    status,
                    resume: resume_token.map(|token| ResumeToken(token.into())),
                    next_token: ResumeToken(token.into()),
                    max_members: self.rules.max_members,
                };
                client.doing = Doing::Store(Pending::join(&join));
                out.push(Effect::Store(connection, StoreRequest::Join(join)));
                return Ok(());
            }
            Request::LeaveRoom => {
                if client.room.take().is_none() {
                    return Ok(());
                }
                StoreRequest::Leave { peer, keep: Duration::ZERO }
            }
            Request::UpdateStatus { status } => {
                if client.room.is_none() {
                    return Err(RoomError::NotInRoom);
                }
                let Some(status) = Status::clean(status.as_ref())?.filter(|s| !s.is_empty()) else {
                    return Ok(());
                };
                pending = Pending::Update(status.clone());
                StoreRequest::UpdateStatus { peer, status }
            }
            Request::SendToPeer { peer_id, data } => {
                if client.room.is_none() {
                    return Err(RoomError::NotInRoom);
                }
                let to =
                    peer_id.as_deref().and_then(PeerId::parse).ok_or(RoomError::UnknownPeer)?;
                match forwarded(data, &peer.to_string()) {
                    Ok(text) => StoreRequest::Send { from: peer, to, text },
                    // Only a peer that is there makes "event not allowed" the first error.
                    Err(error) => StoreRequest::Probe { from: peer, to, error },
                }
            }
        };
        client.doing = Doing::Store(pending);
        out.push(Effect::Store(connection, store));
        Ok(())
    }

    fn joined(
        &mut self,
        connection: C,
        joined: Joined,
        room: RoomKey,
        token: &ResumeToken,
        now: Now,
        out: &mut Vec<Effect<C>>,
    ) {
        let Some(client) = self.clients.get_mut(&connection) else { return };
        client.room = Some(room);
        if client.peer != joined.own {
            self.counters.resumed += 1;
            self.by_peer.remove(&client.peer);
            client.peer = joined.own;
            self.by_peer.insert(joined.own, connection);
        }
        if client.has_gone {
            return;
        }
        let turn = self.turn_credentials(connection, now);
        out.push(Effect::Text(connection, events::joined_room(&joined, token, turn.as_ref())));
    }

    /// New credentials, when the last ones have run out or are about to.
    fn turn_credentials(&mut self, connection: C, now: Now) -> Option<TurnCredentials> {
        let (secret, ttl) = self.rules.turn.as_ref()?;
        let client = self.clients.get_mut(&connection)?;
        // Renewed in the last tenth of their time.
        let margin = *ttl / 10;
        if client.turn_until_unix_s > now.unix_s + margin.as_secs() {
            return None;
        }
        client.turn_until_unix_s = now.unix_s + ttl.as_secs();
        let renewal = now.moment + (*ttl - margin);
        if let Some(old) = client.renewal.replace(renewal) {
            self.renewals.remove(&(old, connection));
        }
        self.renewals.insert((renewal, connection));
        Some(TurnCredentials::issue(secret, &client.peer.to_string(), now.unix_s, *ttl))
    }

    fn say_error(&mut self, connection: C, error: RoomError, out: &mut Vec<Effect<C>>) {
        let has_gone = self.clients.get(&connection).is_none_or(|client| client.has_gone);
        if !has_gone {
            self.counters.errors += 1;
            out.push(Effect::Text(connection, error.frame()));
        }
    }
}

impl<C> std::fmt::Debug for Front<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("connections", &self.clients.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "front/tests.rs"]
mod tests;
