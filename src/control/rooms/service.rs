//! The rooms of this node: what connections say goes through the front to the store, and what comes of it
//! goes back to the shards of the connections.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::front::{Effect, Front, FrontCounters, RoomRules};
use super::memory::MemoryStore;
use super::statistics::Statistics;
use super::store::{Now, StoreRequest};
use crate::config::SignallingSettings;
use crate::media::Moment;
use crate::session::{ClientId, RoomClient};
use crate::shard::{ConnKey, Node, Notice};

/// A connection on its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomConnection {
    /// The shard.
    pub node: Node,
    /// The connection there.
    pub key: ConnKey,
}

/// All rooms' connections of this node, and the store.
pub struct Rooms {
    front: Front<RoomConnection>,
    store: MemoryStore,
    clients: HashMap<RoomConnection, Client>,
    effects: VecDeque<Effect<RoomConnection>>,
    outgoing: Vec<(Node, Notice)>,
    /// Messages that shards have dropped because they came too fast.
    dropped_by_shards: u64,
}

/// What the API says of a connection.
struct Client {
    id: ClientId,
    peer: SocketAddr,
    origin: String,
}

impl Rooms {
    /// No rooms yet.
    pub fn new(settings: &SignallingSettings) -> Self {
        let random = || {
            let mut bits = [0; 16];
            getrandom::fill(&mut bits).expect("Linux has random bytes once it has started");
            u128::from_ne_bytes(bits)
        };
        Self {
            front: Front::new(rules(settings), Box::new(random)),
            store: MemoryStore::default(),
            clients: HashMap::new(),
            effects: VecDeque::new(),
            outgoing: Vec::new(),
            dropped_by_shards: 0,
        }
    }

    /// These settings hold from now on.
    pub fn reload(&mut self, settings: &SignallingSettings) {
        self.front.set_rules(rules(settings));
    }

    /// A shard says something about a connection of the rooms.
    pub fn notice(&mut self, node: Node, notice: Notice, moment: Moment) {
        let mut out = Vec::new();
        match notice {
            Notice::RoomOpened { connection: key, id, peer, client } => {
                let connection = RoomConnection { node, key };
                let RoomClient { origin, .. } = *client;
                self.clients.insert(connection, Client { id, peer, origin });
                self.front.opened(connection);
            }
            Notice::RoomText { connection: key, text } => {
                self.front.text(RoomConnection { node, key }, text, &mut out);
            }
            Notice::RoomGone(key) => {
                let connection = RoomConnection { node, key };
                self.clients.remove(&connection);
                self.front.closed(connection, &mut out);
            }
            Notice::RoomTextsDropped(count) => self.dropped_by_shards += count,
            _ => debug_assert!(false, "a notice that is not about rooms"),
        }
        self.carry_out(out, moment);
    }

    /// What is due at this moment.
    pub fn tick(&mut self, moment: Moment) {
        if self.front.next_deadline().is_some_and(|deadline| deadline <= moment) {
            let mut out = Vec::new();
            self.front.tick(now(moment), &mut out);
            self.carry_out(out, moment);
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.front.next_deadline()
    }

    /// Tells every client that the server ends in so many seconds.
    pub fn announce_end(&mut self, seconds: u64, moment: Moment) {
        let mut out = Vec::new();
        self.front.announce_end(seconds, &mut out);
        self.carry_out(out, moment);
    }

    /// Closes every connection.
    pub fn end(&mut self, moment: Moment) {
        let mut out = Vec::new();
        self.front.end(&mut out);
        self.carry_out(out, moment);
    }

    /// Whether nobody is here, and nobody's leaving is still to be told.
    pub fn is_empty(&self) -> bool {
        self.front.connections() == 0
    }

    /// What is to be said to the shards.
    pub fn take_outgoing(&mut self) -> Vec<(Node, Notice)> {
        std::mem::take(&mut self.outgoing)
    }

    /// Connections of the rooms, in one or not.
    pub fn connections(&self) -> usize {
        self.front.connections()
    }

    /// Counts of messages since the start.
    pub fn counters(&self) -> FrontCounters {
        let mut counters = self.front.counters();
        counters.messages += self.dropped_by_shards;
        counters.dropped += self.dropped_by_shards;
        counters
    }

    /// Counts of rooms since the start.
    pub fn statistics(&self) -> &Statistics {
        self.store.statistics()
    }

    /// For the API: the rooms with members of this node, their counts, and the statistics.
    pub fn to_json(&self) -> Value {
        let mut rooms: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for member in self.front.members() {
            let client = self.clients.get(&member.connection);
            rooms.entry(member.room.as_str()).or_default().push(json!({
                "peer_id": member.peer.to_string(),
                "status": member.status,
                "joined_s": member.joined_unix_s,
                "client_id": client.map(|client| client.id.0),
                "address": client.map(|client| client.peer.ip()),
                "origin": client.map(|client| client.origin.as_str()),
            }));
        }
        let members: usize = rooms.values().map(Vec::len).sum();
        let rooms: Vec<Value> = rooms
            .into_iter()
            .map(|(room, members)| json!({ "room": room, "members": members }))
            .collect();
        let statistics = self.statistics();
        json!({
            "store": "memory",
            "connections": self.connections(),
            "members": members,
            "rooms": rooms,
            "messages": self.counters(),
            "created": statistics.rooms_created,
            "closed": statistics.rooms_closed,
            "joined": statistics.joined,
            "left": statistics.left,
            "hours": statistics.hours,
        })
    }

    /// Does what the front wants done, and what comes of that.
    fn carry_out(&mut self, effects: Vec<Effect<RoomConnection>>, moment: Moment) {
        self.effects.extend(effects);
        while let Some(effect) = self.effects.pop_front() {
            match effect {
                Effect::Text(RoomConnection { node, key }, text) => {
                    self.outgoing.push((node, Notice::RoomSay { connection: key, text }));
                }
                Effect::Close(RoomConnection { node, key }, code, why) => {
                    self.outgoing.push((node, Notice::RoomClose { connection: key, code, why }));
                }
                Effect::Store(connection, request) => self.request(connection, request, moment),
                Effect::Gate(connection, _) => {
                    let mut out = Vec::new();
                    self.front.judged(connection, true, &mut out);
                    self.first(out);
                }
            }
        }
    }

    fn request(&mut self, connection: RoomConnection, request: StoreRequest, moment: Moment) {
        let now = now(moment);
        let mut deliveries = Vec::new();
        let reply = self.store.request(request, now, &mut deliveries);
        let mut out = Vec::new();
        for delivery in deliveries {
            self.front.delivered(delivery, &mut out);
        }
        self.front.replied(connection, reply, now, &mut out);
        self.first(out);
    }

    /// What comes of an effect goes before what was to follow it.
    fn first(&mut self, effects: Vec<Effect<RoomConnection>>) {
        for effect in effects.into_iter().rev() {
            self.effects.push_front(effect);
        }
    }
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rooms").field("front", &self.front).finish_non_exhaustive()
    }
}

fn rules(settings: &SignallingSettings) -> Arc<RoomRules> {
    Arc::new(RoomRules {
        max_members: settings.max_members,
        resume: settings.resume,
        turn: settings.turn.clone(),
        has_gate: false,
    })
}

/// The moment with the time on the wall.
fn now(moment: Moment) -> Now {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { moment, unix_s: since_1970.as_secs() }
}
