//! The rooms of this node: what connections say goes through the front to the store, and what comes of it
//! goes back to the shards of the connections.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::front::{Effect, Front, FrontCounters, RoomRules};
use super::memory::MemoryStore;
use super::shared::{Count, SharedEvent, SharedPlan, SharedStore};
use super::statistics::Statistics;
use super::store::{Now, StoreRequest};
use crate::config::SignallingSettings;
use crate::media::Moment;
use crate::rt::doorbell::Doorbell;
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
    store: Store,
    clients: HashMap<RoomConnection, Client>,
    effects: VecDeque<Effect<RoomConnection>>,
    outgoing: Vec<(Node, Notice)>,
    /// Messages that shards have dropped because they came too fast.
    dropped_by_shards: u64,
}

/// Where memberships are kept.
enum Store {
    Memory(Box<MemoryStore>),
    Shared {
        store: SharedStore,
        /// What this node has seen of it.
        statistics: Box<Statistics>,
        is_up: bool,
        end: End,
    },
}

/// How far the node has left the shared rooms.
#[derive(PartialEq, Eq)]
enum End {
    No,
    Asked,
    Done,
}

/// Events of the store taken in one turn.
const EVENTS_PER_TURN: usize = 1_000;

/// What the API says of a connection.
struct Client {
    id: ClientId,
    peer: SocketAddr,
    origin: String,
}

impl Rooms {
    /// No rooms yet. `doorbell` is the control shard's, for the answers of a shared store.
    ///
    /// # Errors
    /// A shared store cannot be used; the sentence says why.
    pub fn new(settings: &SignallingSettings, doorbell: &Doorbell) -> Result<Self, String> {
        let random = || {
            let mut bits = [0; 16];
            getrandom::fill(&mut bits).expect("Linux has random bytes once it has started");
            u128::from_ne_bytes(bits)
        };
        let store = match &settings.redis {
            None => Store::Memory(Box::default()),
            Some(url) => {
                let plan = SharedPlan {
                    url: url.clone(),
                    node: format!("{:032x}", random()),
                    lease: settings.lease,
                    resume: settings.resume,
                };
                let store = SharedStore::start(plan, doorbell)?;
                Store::Shared { store, statistics: Box::default(), is_up: false, end: End::No }
            }
        };
        Ok(Self {
            front: Front::new(rules(settings), Box::new(random)),
            store,
            clients: HashMap::new(),
            effects: VecDeque::new(),
            outgoing: Vec::new(),
            dropped_by_shards: 0,
        })
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
                let RoomClient { origin } = *client;
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

    /// Takes what the store says, and does what is due at this moment.
    pub fn tick(&mut self, moment: Moment) {
        for _ in 0..EVENTS_PER_TURN {
            let Store::Shared { store, .. } = &mut self.store else { break };
            let Some(event) = store.next_event() else { break };
            self.shared_event(event, moment);
        }
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

    /// Whether the store has something to say.
    pub fn has_events(&self) -> bool {
        matches!(&self.store, Store::Shared { store, .. } if store.has_pending())
    }

    /// Whether everybody has left and the store knows it; for when nobody comes any more.
    pub fn is_over(&mut self) -> bool {
        if self.front.connections() > 0 {
            return false;
        }
        let Store::Shared { store, end, .. } = &mut self.store else { return true };
        if *end == End::No {
            *end = End::Asked;
            store.end();
        }
        *end == End::Done
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

    /// Whether the store answers.
    pub fn is_store_up(&self) -> bool {
        match &self.store {
            Store::Memory(_) => true,
            Store::Shared { is_up, .. } => *is_up,
        }
    }

    /// Counts of rooms since the start.
    pub fn statistics(&self) -> &Statistics {
        match &self.store {
            Store::Memory(store) => store.statistics(),
            Store::Shared { statistics, .. } => statistics,
        }
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
        let store = match &self.store {
            Store::Memory(_) => "memory",
            Store::Shared { .. } => "redis",
        };
        json!({
            "store": store,
            "store_up": self.is_store_up(),
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
            }
        }
    }

    fn request(&mut self, connection: RoomConnection, request: StoreRequest, moment: Moment) {
        let now = now(moment);
        let store = match &mut self.store {
            Store::Memory(store) => store,
            Store::Shared { store, .. } => return store.request(connection, request, now),
        };
        let mut deliveries = Vec::new();
        let reply = store.request(request, now, &mut deliveries);
        let mut out = Vec::new();
        for delivery in deliveries {
            self.front.delivered(delivery, &mut out);
        }
        self.front.replied(connection, reply, now, &mut out);
        self.first(out);
    }

    fn shared_event(&mut self, event: SharedEvent, moment: Moment) {
        let Store::Shared { statistics, is_up, end, .. } = &mut self.store else { return };
        let now = now(moment);
        let mut out = Vec::new();
        match event {
            SharedEvent::Delivery(delivery) => self.front.delivered(delivery, &mut out),
            SharedEvent::Reply(connection, reply) => {
                self.front.replied(connection, reply, now, &mut out);
            }
            SharedEvent::Count(Count::Joined { is_first }) => statistics.joined(is_first),
            SharedEvent::Count(Count::Left { joined_unix_s }) => {
                statistics.left(joined_unix_s, now.unix_s);
            }
            SharedEvent::Count(Count::Closed { peak, since_unix_s }) => {
                let open_ms = now.unix_s.saturating_sub(since_unix_s) * 1_000;
                statistics.closed(peak, open_ms, now.unix_s);
            }
            SharedEvent::IsUp(up) => *is_up = up,
            SharedEvent::Ended => *end = End::Done,
        }
        self.carry_out(out, moment);
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
    })
}

/// The moment with the time on the wall.
fn now(moment: Moment) -> Now {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { moment, unix_s: since_1970.as_secs() }
}
