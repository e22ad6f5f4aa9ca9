use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::control::rooms::MemoryStore;

/// A node whose store answers at once, or when it is told to.
struct Node {
    front: Front<u32>,
    store: MemoryStore,
    now: Now,
    inboxes: BTreeMap<u32, Vec<Value>>,
    closes: Vec<(u32, u16)>,
    held: Option<VecDeque<(u32, StoreRequest)>>,
}

fn rules() -> RoomRules {
    let resume = Duration::from_secs(30);
    RoomRules { max_members: 0, resume, turn: None }
}

impl Node {
    fn new(rules: RoomRules) -> Self {
        let mut bits = 0_u128;
        let random = move || {
            bits += 1;
            bits.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        };
        Self {
            front: Front::new(Arc::new(rules), Box::new(random)),
            store: MemoryStore::default(),
            now: Now { moment: Moment::ZERO + Duration::from_secs(9), unix_s: 1_700_000_000 },
            inboxes: BTreeMap::new(),
            closes: Vec::new(),
            held: None,
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now.moment = self.now.moment + Duration::from_secs(seconds);
        self.now.unix_s += seconds;
    }

    fn open(&mut self, connection: u32) {
        self.front.opened(connection);
        self.inboxes.entry(connection).or_default();
    }

    fn close(&mut self, connection: u32) {
        let mut out = Vec::new();
        self.front.closed(connection, &mut out);
        self.carry_out(out);
    }

    fn send(&mut self, connection: u32, message: Value) {
        let mut out = Vec::new();
        self.front.text(connection, message.to_string(), &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, effects: Vec<Effect<u32>>) {
        for effect in effects {
            match effect {
                Effect::Text(connection, text) => {
                    let frame = serde_json::from_str(&text).unwrap();
                    self.inboxes.get_mut(&connection).unwrap().push(frame);
                }
                Effect::Close(connection, code, _) => self.closes.push((connection, code)),
                Effect::Store(connection, request) => match &mut self.held {
                    Some(held) => held.push_back((connection, request)),
                    None => self.store(connection, request),
                },
            }
        }
    }

    fn store(&mut self, connection: u32, request: StoreRequest) {
        let mut deliveries = Vec::new();
        let reply = self.store.request(request, self.now, &mut deliveries);
        let mut out = Vec::new();
        for delivery in deliveries {
            self.front.delivered(delivery, &mut out);
        }
        self.front.replied(connection, reply, self.now, &mut out);
        self.carry_out(out);
    }

    /// What a connection was sent since the last look.
    fn read(&mut self, connection: u32) -> Vec<Value> {
        std::mem::take(self.inboxes.get_mut(&connection).unwrap())
    }

    fn read_one(&mut self, connection: u32) -> Value {
        let mut frames = self.read(connection);
        assert_eq!(frames.len(), 1, "{frames:?}");
        frames.remove(0)
    }

    /// The text of the error that a message is answered with.
    fn error_of(&mut self, connection: u32, message: Value) -> String {
        self.send(connection, message);
        let frame = self.read_one(connection);
        assert_eq!(frame["event"], "error", "{frame}");
        frame["message"].as_str().unwrap().to_owned()
    }

    fn join(&mut self, connection: u32, room: &str, status: Option<Value>) -> Value {
        self.open(connection);
        let mut message = json!({"event": "join_room", "room_id": room});
        if let Some(status) = status {
            message["status"] = status;
        }
        self.send(connection, message);
        let frame = self.read_one(connection);
        assert_eq!(frame["event"], "joined_room", "{frame}");
        frame
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

#[test]
fn info_and_ping_are_answered_at_any_time() {
    let mut node = Node::new(rules());
    node.open(1);
    for _ in 0..2 {
        node.send(1, json!({"event": "info"}));
        assert_eq!(node.read_one(1), json!({"event": "info", "protocol_version": "1.0.0"}));
        node.send(1, json!({"event": "ping"}));
        assert_eq!(node.read_one(1), json!({"event": "pong"}));
        node.send(1, json!({"event": "join_room", "room_id": "r"}));
        node.read(1);
    }
}

#[test]
fn who_joins_is_told_of_the_others_and_they_of_it() {
    let mut node = Node::new(rules());
    let first = node.join(1, "r", Some(json!({"name": "Ada"})));
    assert_eq!(first["peers"], json!([]));
    assert!(PeerId::parse(first["own_id"].as_str().unwrap()).is_some());
    let second = node.join(2, "r", None);
    assert_eq!(second["peers"], json!([{"peer_id": first["own_id"], "status": {"name": "Ada"}}]));
    assert_eq!(node.read_one(1), json!({"event": "new_peer", "peer_id": second["own_id"]}));
    let third = node.join(3, "r", Some(json!({"user_agent": "chrome", "other": 1})));
    assert_eq!(third["peers"].as_array().unwrap().len(), 2);
    let told = json!({"event": "new_peer", "peer_id": third["own_id"], "status": {"user_agent": "chrome"}});
    assert_eq!(node.read_one(1), told);
    assert_eq!(node.read_one(2), told);
    assert_eq!(
        node.error_of(1, json!({"event": "join_room", "room_id": "s"})),
        "already joined another room"
    );
}

#[test]
fn a_join_that_is_refused_changes_nothing() {
    let mut node = Node::new(rules());
    node.join(1, "r", None);
    node.open(2);
    let join = |room: Value, status: Value| json!({"event": "join_room", "room_id": room, "status": status});
    assert_eq!(node.error_of(2, json!({"event": "join_room"})), "no room id given");
    assert_eq!(node.error_of(2, join(json!("x".repeat(51)), json!({}))), "room id too long");
    assert_eq!(node.error_of(2, join(json!("r"), json!({"name": " "}))), "blank name not allowed");
    assert_eq!(
        node.error_of(2, join(json!("r"), json!({"name": "x".repeat(51)}))),
        "name too long"
    );
    assert_eq!(
        node.error_of(2, join(json!("r"), json!({"user_agent": "x"}))),
        "unknown user agent"
    );
    assert!(node.read(1).is_empty());
    let joined = node.join(2, "r", Some(json!({})));
    assert_eq!(
        joined["peers"].as_array().unwrap().len(),
        1,
        "an empty status joins and is answered"
    );
}

#[test]
fn leaving_is_told_once_and_leaves_nothing_behind() {
    let mut node = Node::new(rules());
    let id = node.join(1, "r", None)["own_id"].clone();
    node.join(2, "r", None);
    node.read(1);
    node.send(1, json!({"event": "leave_room", "more": true}));
    assert_eq!(node.read_one(2), json!({"event": "peer_left", "sender_id": id}));
    node.send(1, json!({"event": "leave_room"}));
    assert!(node.read(1).is_empty(), "silent outside of a room");
    node.close(1);
    node.close(2);
    assert_eq!((node.store.members(), node.store.rooms().count()), (0, 0));
    assert_eq!(node.front.connections(), 0);
}

#[test]
fn a_connection_keeps_its_id_over_leaving_and_joining() {
    let mut node = Node::new(rules());
    let id = node.join(1, "r", None)["own_id"].clone();
    node.send(1, json!({"event": "leave_room"}));
    node.send(1, json!({"event": "join_room", "room_id": "s"}));
    assert_eq!(node.read_one(1)["own_id"], id);
}

#[test]
fn a_status_reaches_everybody_and_what_is_no_status_nobody() {
    let mut node = Node::new(rules());
    let id = node.join(1, "r", None)["own_id"].clone();
    node.join(2, "r", None);
    node.read(1);
    let update = |status: Value| json!({"event": "update_status", "status": status});
    node.send(1, update(json!({"name": "Zé", "user_agent": "firefox"})));
    let told = json!({"event": "peer_updated_status", "sender_id": id, "status": {"name": "**", "user_agent": "firefox"}});
    assert_eq!(node.read_one(1), told);
    assert_eq!(node.read_one(2), told);
    node.send(1, update(json!({})));
    node.send(1, json!({"event": "update_status"}));
    assert!(node.read(1).is_empty() && node.read(2).is_empty());
    assert_eq!(node.error_of(1, update(json!({"name": ""}))), "blank name not allowed");
    assert_eq!(node.error_of(1, update(json!({"name": "  "}))), "blank name not allowed");
    assert_eq!(node.error_of(1, update(json!({"name": "x".repeat(51)}))), "name too long");
    assert_eq!(node.error_of(1, update(json!({"user_agent": "opera"}))), "unknown user agent");
    node.open(3);
    assert_eq!(node.error_of(3, update(json!({"name": "  "}))), "currently not in any room");
}

#[test]
fn what_is_sent_to_a_peer_is_checked_in_the_contracts_order() {
    let mut node = Node::new(rules());
    let id = node.join(1, "r", None)["own_id"].clone();
    let other = node.join(2, "r", None)["own_id"].clone();
    let stranger = node.join(3, "s", None)["own_id"].clone();
    node.read(1);
    let send =
        |to: &Value, data: Value| json!({"event": "send_to_peer", "peer_id": to, "data": data});
    let offer = json!({"event": "offer", "sdp": {"type": "offer", "sdp": "v=0"}});
    node.send(1, send(&other, offer.clone()));
    let mut expected = offer.clone();
    expected["sender_id"] = id.clone();
    assert_eq!(node.read_one(2), expected);
    for (to, data, error) in [
        (&other, json!("text"), "cannot send raw data"),
        (&other, Value::Null, "cannot send raw data"),
        (&other, json!([1]), "cannot send raw data"),
        (&stranger, offer.clone(), "unknown peer"),
        (&stranger, json!({"event": "x"}), "unknown peer"),
        (&json!("nobody"), offer.clone(), "unknown peer"),
        (&Value::Null, offer.clone(), "unknown peer"),
        (&json!(7), json!({"event": "x"}), "unknown peer"),
        (&other, json!({"event": "joined_room"}), "event not allowed"),
        (&other, json!({}), "event not allowed"),
    ] {
        assert_eq!(node.error_of(1, send(to, data)), error);
    }
    assert!(node.read(2).is_empty() && node.read(3).is_empty());
    node.open(4);
    assert_eq!(node.error_of(4, send(&other, json!("text"))), "cannot send raw data");
    assert_eq!(node.error_of(4, send(&other, offer)), "currently not in any room");
}

#[test]
fn messages_wait_for_their_turn_while_the_store_is_slow() {
    let mut node = Node::new(rules());
    node.open(1);
    node.held = Some(VecDeque::new());
    node.send(1, json!({"event": "join_room", "room_id": "r"}));
    node.send(1, json!({"event": "update_status", "status": {"name": "a"}}));
    node.send(1, json!({"event": "leave_room"}));
    node.send(1, json!({"event": "ping"}));
    assert!(node.read(1).is_empty());
    while let Some((connection, request)) = node.held.as_mut().unwrap().pop_front() {
        node.store(connection, request);
    }
    let events: Vec<_> = node.read(1).iter().map(|frame| text(&frame["event"])).collect();
    assert_eq!(events, ["joined_room", "peer_updated_status", "pong"]);
}

#[test]
fn who_goes_while_the_store_is_slow_is_in_no_room_afterwards() {
    let mut node = Node::new(rules());
    node.open(1);
    node.held = Some(VecDeque::new());
    node.send(1, json!({"event": "join_room", "room_id": "r"}));
    node.close(1);
    assert_eq!(node.front.connections(), 1);
    while let Some((connection, request)) = node.held.as_mut().unwrap().pop_front() {
        node.store(connection, request);
    }
    assert_eq!((node.store.members(), node.front.connections()), (0, 0));
    assert!(node.read(1).is_empty());
}

#[test]
fn a_lost_connection_is_resumed_by_its_token_and_an_old_one_makes_room() {
    let mut node = Node::new(rules());
    node.join(9, "r", None);
    let first = node.join(1, "r", None);
    node.read(9);
    let resume = |frame: &Value| json!({"event": "join_room", "room_id": "r", "resume_token": frame["resume_token"]});
    node.close(1);
    assert_eq!(node.read_one(9)["event"], "peer_left");
    node.open(2);
    node.send(2, resume(&first));
    let second = node.read_one(2);
    assert_eq!(second["own_id"], first["own_id"]);
    node.read(9);
    // The server has not yet noticed that the second connection is dead.
    node.open(3);
    node.send(3, resume(&second));
    assert_eq!(node.read_one(3)["own_id"], first["own_id"]);
    assert_eq!(node.closes, [(2, CLOSE_SUPERSEDED)]);
    let told: Vec<_> = node.read(9).iter().map(|frame| text(&frame["event"])).collect();
    assert_eq!(told, ["peer_left", "new_peer"]);
    node.close(2);
    assert!(node.read(9).is_empty(), "the old connection's end is nobody's leave");
    assert_eq!(node.store.members(), 2);
    assert_eq!(node.front.counters().resumed, 2);
}

#[test]
fn turn_credentials_are_renewed_before_they_run_out() {
    let ttl = Duration::from_secs(1_000);
    let mut node = Node::new(RoomRules { turn: Some(("secret".to_owned(), ttl)), ..rules() });
    let joined = node.join(1, "r", None);
    let user = format!("{}:{}", node.now.unix_s + 1_000, text(&joined["own_id"]));
    assert_eq!(text(&joined["turn_user"]), user);
    let renewal = node.front.next_deadline().unwrap();
    assert_eq!(renewal, node.now.moment + ttl * 9 / 10);
    node.pass(900);
    // The clock on the wall may have gone slower.
    node.now.unix_s -= 1;
    let mut out = Vec::new();
    node.front.tick(node.now, &mut out);
    node.carry_out(out);
    let renewed = node.read_one(1);
    assert_eq!(renewed["event"], "turn_credentials");
    assert!(text(&renewed["turn_user"]) > user);
    node.close(1);
    assert_eq!(node.front.next_deadline(), None);
}

#[test]
fn the_end_is_announced_served_and_then_carried_out() {
    let mut node = Node::new(rules());
    node.join(1, "r", None);
    node.open(2);
    let mut out = Vec::new();
    node.front.announce_end(3, &mut out);
    node.carry_out(out);
    for connection in [1, 2] {
        assert_eq!(node.read_one(connection), json!({"event": "shutdown", "seconds": 3}));
    }
    node.send(2, json!({"event": "join_room", "room_id": "r"}));
    assert_eq!(node.read_one(2)["event"], "joined_room");
    let mut out = Vec::new();
    node.front.end(&mut out);
    node.carry_out(out);
    node.closes.sort_unstable();
    assert_eq!(node.closes, [(1, CLOSE_SHUTDOWN), (2, CLOSE_SHUTDOWN)]);
    node.close(1);
    node.close(2);
    assert_eq!(node.store.members(), 0);
}

proptest! {
    /// No JSON document ends a connection or goes unanswered without a reason, and what was there stays.
    #[test]
    fn any_message_is_survived(texts in prop::collection::vec(
        prop_oneof![
            ".{0,80}",
            r#"\{"event":"(join_room|leave_room|update_status|send_to_peer|info|ping|x)"(,"(room_id|status|peer_id|data)":(null|1|\[\]|"a"|\{"name":"b"\}|\{"event":"offer"\})){0,3}\}"#,
        ],
        1..60,
    )) {
        let mut node = Node::new(rules());
        node.join(1, "a", None);
        node.open(2);
        for text in texts {
            let mut out = Vec::new();
            node.front.text(2, text, &mut out);
            node.carry_out(out);
        }
        prop_assert!(node.closes.is_empty());
        node.send(1, json!({"event": "ping"}));
        prop_assert_eq!(node.read(1).pop().unwrap(), json!({"event": "pong"}));
        node.close(2);
        prop_assert_eq!(node.store.members(), 1);
    }
}
