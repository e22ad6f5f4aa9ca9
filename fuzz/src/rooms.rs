//! Messages of the rooms: whatever a client says, in as many texts as it likes, is answered with JSON or
//! with nothing, ends no connection, and leaves the others where they are.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use shardcast::control::rooms::{Effect, Front, MemoryStore, Now, RoomRules};
use shardcast::media::Moment;

const NEIGHBOUR: u32 = 0;
const CLIENT: u32 = 1;

/// Each line is a text of one client, who shares the server with a member of the room "r".
pub fn run(data: &[u8]) {
    let rules = RoomRules {
        max_members: 3,
        resume: Duration::from_secs(30),
        turn: Some(("secret".to_owned(), Duration::from_secs(60))),
    };
    let mut bits = 0_u128;
    // Nothing that an input comes upon: who knows a token may take the id.
    let random = move || {
        bits += 1;
        bits.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    };
    let mut rooms = Rooms {
        front: Front::new(Arc::new(rules), Box::new(random)),
        store: MemoryStore::default(),
        now: Now { moment: Moment::ZERO + Duration::from_secs(1), unix_s: 1_700_000_000 },
    };
    rooms.front.opened(NEIGHBOUR);
    rooms.front.opened(CLIENT);
    rooms.say(NEIGHBOUR, r#"{"event":"join_room","room_id":"r"}"#);
    for line in String::from_utf8_lossy(data).lines() {
        rooms.say(CLIENT, line);
    }
    let mut out = Vec::new();
    rooms.front.closed(CLIENT, &mut out);
    rooms.carry_out(out);
    assert_eq!((rooms.front.connections(), rooms.store.members()), (1, 1));
}

struct Rooms {
    front: Front<u32>,
    store: MemoryStore,
    now: Now,
}

impl Rooms {
    fn say(&mut self, client: u32, text: &str) {
        let mut out = Vec::new();
        self.front.text(client, text.to_owned(), &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, effects: Vec<Effect<u32>>) {
        for effect in effects {
            match effect {
                Effect::Text(_, text) => {
                    let frame: Value = serde_json::from_str(&text).expect("JSON");
                    assert!(frame["event"].is_string());
                }
                Effect::Close(client, ..) => panic!("{client} was closed"),
                Effect::Store(client, request) => {
                    let mut deliveries = Vec::new();
                    let reply = self.store.request(request, self.now, &mut deliveries);
                    let mut out = Vec::new();
                    for delivery in deliveries {
                        self.front.delivered(delivery, &mut out);
                    }
                    self.front.replied(client, reply, self.now, &mut out);
                    self.carry_out(out);
                }
            }
        }
    }
}
