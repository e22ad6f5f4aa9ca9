//! Rooms against the running server: the cases of palava-machine's own test suite, one by one, for each
//! store; then what goes beyond them. With Redis the members are on two servers.

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::Message;

use support::gate::Gate;
use support::http;
use support::palava::{PATH, Palava, text};
use support::redis::Redis;
use support::server::Server;
use support::wait::{SOON, eventually};

/// Where the memberships of a test are kept.
enum World {
    Memory(Server),
    Redis(Redis, Box<[Server; 2]>),
}

impl World {
    fn memory(overrides: &[(&str, &str)]) -> Self {
        Self::Memory(Server::start(overrides))
    }

    /// Two servers on one Redis.
    fn redis(overrides: &[(&str, &str)]) -> Self {
        let redis = Redis::start();
        let url = redis.url();
        let mut all = vec![("signalling.store", url.as_str())];
        all.extend_from_slice(overrides);
        let servers = Box::new([Server::start(&all), Server::start(&all)]);
        for server in servers.iter() {
            wait_for_store(server, true);
        }
        Self::Redis(redis, servers)
    }

    fn address(&self, number: usize) -> SocketAddr {
        match self {
            Self::Memory(server) => server.http(),
            Self::Redis(_, servers) => servers[number].http(),
        }
    }

    /// A client on the first or the second server, where there are two.
    fn client(&self, number: usize) -> Palava {
        Palava::open(self.address(number))
    }

    fn members(&self) -> u64 {
        let members = |server| rooms(server)["members"].as_u64().expect("a count");
        match self {
            Self::Memory(server) => members(server),
            Self::Redis(_, servers) => servers.iter().map(members).sum(),
        }
    }

    /// One of the statistics, summed over all hours.
    fn histogram(&self, name: &str) -> BTreeMap<u64, u64> {
        match self {
            Self::Memory(server) => {
                let found = rooms(server);
                let mut sums = BTreeMap::new();
                for hour in found["hours"].as_object().expect("hours").values() {
                    for (key, count) in hour[name].as_object().expect("a histogram") {
                        *sums.entry(key.parse().expect("a number")).or_default() +=
                            count.as_u64().expect("a count");
                    }
                }
                sums
            }
            Self::Redis(redis, _) => redis.histogram(&format!("store:stats:{name}:*")),
        }
    }

    /// Waits until nobody is in a room, and nothing of rooms is left.
    fn wait_until_empty(&self) {
        eventually("nobody is in a room", SOON, || (self.members() == 0).then_some(()));
        if let Self::Redis(redis, _) = self {
            eventually("no key of a room or connection is left", SOON, || {
                let mut keys = redis.keys("store:room:*");
                keys.extend(redis.keys("store:connection:*"));
                keys.is_empty().then_some(())
            });
        }
    }
}

/// Runs a case for every store.
fn for_each_store(overrides: &[(&str, &str)], case: impl Fn(&World)) {
    case(&World::memory(overrides));
    case(&World::redis(overrides));
}

/// Waits until the server has, or has lost, its Redis.
fn wait_for_store(server: &Server, is_up: bool) {
    eventually("the server knows whether Redis is there", SOON, || {
        (rooms(server)["store_up"] == is_up).then_some(())
    });
}

fn rooms(server: &Server) -> Value {
    let mut response = http::get(server.api().address(), "/api/v1/rooms");
    assert_eq!(response.status, 200);
    serde_json::from_slice(&response.read_to_end()).expect("JSON")
}

fn is_uuid(id: &str) -> bool {
    let lengths: Vec<usize> = id.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12]
}

// The cases of palava-machine's suite.

#[test]
fn info_and_ping_are_answered_at_any_time() {
    for_each_store(&[], |world| {
        let mut client = world.client(0);
        let info = json!({ "event": "info", "protocol_version": "1.0.0" });
        assert_eq!(client.call(&json!({ "event": "info" })), info);
        assert_eq!(client.call(&json!({ "event": "ping" })), json!({ "event": "pong" }));
        client.join("r", None);
        assert_eq!(client.call(&json!({ "event": "info" })), info);
        assert_eq!(client.call(&json!({ "event": "ping" })), json!({ "event": "pong" }));
    });
}

#[test]
fn who_joins_learns_who_is_there_and_they_of_it() {
    for_each_store(&[], |world| {
        let (mut first, mut second, mut third) =
            (world.client(0), world.client(1), world.client(0));
        let joined = first.join("room", None);
        let first_id = text(&joined, "own_id").to_owned();
        assert!(is_uuid(&first_id), "{first_id}");
        assert_eq!(joined["peers"], json!([]));
        let joined = second.join("room", Some(json!({ "name": "bob" })));
        let second_id = text(&joined, "own_id").to_owned();
        assert_eq!(joined["peers"], json!([{ "peer_id": first_id, "status": {} }]));
        let status = json!({ "name": "bob" });
        let new_peer = json!({ "event": "new_peer", "peer_id": second_id, "status": status });
        assert_eq!(first.next(), new_peer);
        let joined = third.join("room", None);
        let third_id = text(&joined, "own_id");
        let mut peers = joined["peers"].as_array().expect("a list").clone();
        peers.sort_by_key(|peer| peer["status"].to_string());
        assert_eq!(
            peers,
            [
                json!({ "peer_id": second_id, "status": { "name": "bob" } }),
                json!({ "peer_id": first_id, "status": {} }),
            ]
        );
        // Without a status at the join there is no key of that name.
        let new_peer = json!({ "event": "new_peer", "peer_id": third_id });
        assert_eq!(first.next(), new_peer);
        assert_eq!(second.next(), new_peer);
    });
}

#[test]
fn a_second_room_is_refused_also_when_it_is_the_same() {
    for_each_store(&[], |world| {
        let mut client = world.client(0);
        client.join("a", None);
        for room in ["a", "b"] {
            let join = json!({ "event": "join_room", "room_id": room });
            assert_eq!(client.error(&join), "already joined another room");
        }
    });
}

#[test]
fn a_room_needs_a_name_of_at_most_50_characters() {
    for_each_store(&[], |world| {
        let mut client = world.client(0);
        assert_eq!(client.error(&json!({ "event": "join_room" })), "no room id given");
        let long = json!({ "event": "join_room", "room_id": "x".repeat(51) });
        assert_eq!(client.error(&long), "room id too long");
        client.join(&"ä".repeat(50), None);
    });
}

#[test]
fn who_leaves_is_told_of_to_the_others_and_nothing_is_left() {
    for_each_store(&[], |world| {
        let (mut first, mut second, mut third) =
            (world.client(0), world.client(1), world.client(0));
        let first_id = text(&first.join("room", None), "own_id").to_owned();
        second.join("room", None);
        let third_id = text(&third.join("room", None), "own_id").to_owned();
        first.expect("new_peer");
        first.expect("new_peer");
        second.expect("new_peer");
        first.send(&json!({ "event": "leave_room", "room_id": "whatever" }));
        for other in [&mut second, &mut third] {
            assert_eq!(other.next(), json!({ "event": "peer_left", "sender_id": first_id }));
        }
        // Not in a room: silence. The id stays when it joins again.
        first.send(&json!({ "event": "leave_room" }));
        first.expect_nothing();
        assert_eq!(text(&first.join("room", None), "own_id"), first_id);
        second.expect("new_peer");
        third.expect("new_peer");
        // A closed connection is a leave.
        third.close();
        for other in [&mut first, &mut second] {
            assert_eq!(other.next(), json!({ "event": "peer_left", "sender_id": third_id }));
        }
        first.close();
        second.close();
        world.wait_until_empty();
    });
}

#[test]
fn a_status_is_told_to_all_and_has_its_rules() {
    for_each_store(&[], |world| {
        let (mut first, mut second) = (world.client(0), world.client(1));
        let id = text(&first.join("room", None), "own_id").to_owned();
        second.join("room", None);
        first.expect("new_peer");
        let update = |status: Value| json!({ "event": "update_status", "status": status });
        let told = |status: Value| json!({ "event": "peer_updated_status", "status": status, "sender_id": id });
        for (status, shown) in [
            (json!({ "name": "Ada" }), json!({ "name": "Ada" })),
            (json!({ "name": "Zé" }), json!({ "name": "**" })),
            (json!({ "user_agent": "firefox" }), json!({ "user_agent": "firefox" })),
            (json!({ "user_agent": "safari", "x": 1 }), json!({ "user_agent": "safari" })),
        ] {
            first.send(&update(status));
            for client in [&mut first, &mut second] {
                assert_eq!(client.next(), told(shown.clone()));
            }
        }
        for (status, error) in [
            (json!({ "name": "" }), "blank name not allowed"),
            (json!({ "name": " \t" }), "blank name not allowed"),
            (json!({ "name": "x".repeat(51) }), "name too long"),
            (json!({ "user_agent": "opera" }), "unknown user agent"),
            (json!([]), "invalid status"),
            (json!(1), "invalid status"),
        ] {
            assert_eq!(first.error(&update(status)), error);
        }
        // Nothing to say is no error, and nothing is said.
        first.send(&update(json!({})));
        first.send(&json!({ "event": "update_status" }));
        first.expect_nothing();
        first.tell(&id, "mark");
        first.expect("message");
        second.expect_nothing();
        // Who comes later sees what holds now.
        let mut third = world.client(0);
        let joined = third.join("room", None);
        let peers = joined["peers"].as_array().expect("a list");
        let found = peers.iter().find(|peer| peer["peer_id"] == id.as_str()).expect("it is there");
        assert_eq!(found["status"], json!({ "name": "**", "user_agent": "safari" }));
    });
}

#[test]
fn closed_rooms_are_counted_by_their_peak() {
    for_each_store(&[], |world| {
        let visit = |members: usize| {
            let mut clients: Vec<_> = (0..members).map(|number| world.client(number)).collect();
            for client in &mut clients {
                client.join("room", None);
            }
            clients.into_iter().for_each(Palava::close);
            world.wait_until_empty();
        };
        visit(1);
        assert_eq!(world.histogram("room_peaks"), BTreeMap::from([(1, 1)]));
        assert_eq!(world.histogram("connection_time"), BTreeMap::from([(0, 1)]));
        visit(2);
        assert_eq!(world.histogram("room_peaks"), BTreeMap::from([(1, 1), (2, 1)]));
        visit(1);
        assert_eq!(world.histogram("room_peaks"), BTreeMap::from([(1, 2), (2, 1)]));
        assert_eq!(world.histogram("connection_time"), BTreeMap::from([(0, 4)]));
    });
}

#[test]
fn peers_send_each_other_what_they_may() {
    for_each_store(&[], |world| {
        let (mut first, mut second, mut third) =
            (world.client(0), world.client(1), world.client(0));
        let first_id = text(&first.join("room", None), "own_id").to_owned();
        let second_id = text(&second.join("room", None), "own_id").to_owned();
        let third_id = text(&third.join("elsewhere", None), "own_id").to_owned();
        first.expect("new_peer");
        let to = |peer: Value, data: Value| json!({ "event": "send_to_peer", "peer_id": peer, "data": data });
        let offer =
            json!({ "event": "offer", "sdp": { "type": "offer", "sdp": "v=0" }, "sender_id": "x" });
        first.send(&to(json!(second_id), offer));
        let sdp = json!({ "type": "offer", "sdp": "v=0" });
        let expected = json!({ "event": "offer", "sdp": sdp, "sender_id": first_id });
        assert_eq!(second.next(), expected);
        for event in ["answer", "ice_candidate", "message"] {
            second.send(&to(json!(first_id), json!({ "event": event })));
            assert_eq!(first.next(), json!({ "event": event, "sender_id": second_id }));
        }
        let ok = || json!({ "event": "offer" });
        for peer in [json!(third_id), json!("nobody"), json!(""), json!(null), json!(7), json!([])]
        {
            assert_eq!(first.error(&to(peer, ok())), "unknown peer");
        }
        for data in [json!(null), json!("raw"), json!([]), json!(1)] {
            assert_eq!(first.error(&to(json!(second_id), data)), "cannot send raw data");
        }
        for data in [json!({}), json!({ "event": "joined_room" }), json!({ "event": 1 })] {
            assert_eq!(first.error(&to(json!(second_id), data)), "event not allowed");
        }
        // Nothing of that has come.
        first.tell(&second_id, "mark");
        assert_eq!(second.expect("message")["data"], "mark");
        first.tell(&first_id, "to myself");
        assert_eq!(first.expect("message")["sender_id"], first_id.as_str());
        third.expect_nothing();
        let mut outside = world.client(0);
        assert_eq!(outside.error(&to(json!(first_id), ok())), "currently not in any room");
        let update = json!({ "event": "update_status", "status": { "name": "x" } });
        assert_eq!(outside.error(&update), "currently not in any room");
    });
}

#[test]
fn what_is_no_message_is_answered_and_the_connection_goes_on() {
    for_each_store(&[], |world| {
        let mut client = world.client(0);
        for (sent, error) in [
            ("", "invalid message"),
            ("hello", "invalid message"),
            ("[]", "invalid message: not a hash"),
            ("1", "invalid message: not a hash"),
            ("null", "invalid message: not a hash"),
            ("\"info\"", "invalid message: not a hash"),
            ("{}", "no event given"),
            ("{\"event\":null}", "no event given"),
            ("{\"event\":\"\"}", "unknown event"),
            ("{\"event\":[1]}", "unknown event"),
            ("{\"event\":\"announce_shutdown\"}", "unknown event"),
            ("{\"event\":\"join_room\",\"room_id\":[1]}", "no room id given"),
            ("{\"event\":\"join_room\",\"room_id\":1}", "no room id given"),
        ] {
            assert_eq!(client.error_of_text(sent), error, "{sent}");
        }
        client.send_frame(Message::binary(b"{\"event\":\"info\"}".to_vec()));
        client.expect_nothing();
    });
}

/// The list of the contract: of two mistakes in one message the first in the list is told.
#[test]
fn errors_have_an_order() {
    for_each_store(&[], |world| {
        let mut inside = world.client(0);
        inside.join("room", None);
        let mut outside = world.client(1);
        let bad_status = json!({ "name": " ", "user_agent": "opera" });
        let long = "x".repeat(51);
        let join = |room: Value, status: &Value| json!({ "event": "join_room", "room_id": room, "status": status });
        assert_eq!(inside.error(&join(json!(null), &bad_status)), "no room id given");
        assert_eq!(inside.error(&join(json!(long), &bad_status)), "room id too long");
        assert_eq!(inside.error(&join(json!("b"), &bad_status)), "already joined another room");
        assert_eq!(outside.error(&join(json!("b"), &bad_status)), "blank name not allowed");
        let long_name = json!({ "name": long, "user_agent": "opera" });
        assert_eq!(outside.error(&join(json!("b"), &long_name)), "name too long");
        // A bad status is told of before anybody else hears of the join.
        assert_eq!(outside.error(&join(json!("room"), &bad_status)), "blank name not allowed");
        inside.expect_nothing();
        let update = json!({ "event": "update_status", "status": bad_status });
        assert_eq!(outside.error(&update), "currently not in any room");
        assert_eq!(inside.error(&update), "blank name not allowed");
        let send = |data: Value| json!({ "event": "send_to_peer", "peer_id": 7, "data": data });
        assert_eq!(outside.error(&send(json!(1))), "cannot send raw data");
        assert_eq!(outside.error(&send(json!({}))), "currently not in any room");
        assert_eq!(inside.error(&send(json!({}))), "unknown peer");
    });
}

#[test]
fn the_end_is_announced_served_and_then_comes() {
    for (signal, seconds) in [(libc::SIGTERM, 1), (libc::SIGINT, 2)] {
        let shutdown = format!("{seconds}s");
        let server = Server::start(&[("signalling.shutdown", &shutdown)]);
        let address = server.http();
        let mut clients: Vec<_> = (0..4).map(|_| Palava::open(address)).collect();
        clients[0].join("room", None);
        clients[1].join("room", None);
        clients[0].expect("new_peer");
        let mut process = server.into_process();
        let began = Instant::now();
        process.signal(signal);
        for client in &mut clients {
            assert_eq!(client.next(), json!({ "event": "shutdown", "seconds": seconds }));
        }
        let heard = began.elapsed();
        assert!(heard < Duration::from_millis(500), "announced after {heard:?}");
        // Served until then.
        clients[2].join("room", None);
        clients[0].expect("new_peer");
        clients[1].expect("new_peer");
        for client in &mut clients {
            assert_eq!(client.next_close(), 4200);
        }
        let closed = began.elapsed();
        let limit = Duration::from_secs(seconds) + Duration::from_millis(700);
        assert!((Duration::from_secs(seconds)..limit).contains(&closed), "closed after {closed:?}");
        process.expect_success(SOON);
    }
}

// What goes beyond them.

#[test]
fn the_upgrade_has_its_rules() {
    let server = Server::start(&[
        ("signalling.listen", "127.0.0.1:0"),
        ("http.origins", "[\"https://meet.example\"]"),
    ]);
    let (http, palava) = (server.http(), server.address("rooms (palava):", "ws://"));
    let (mut client, answer) = Palava::ask(
        http,
        PATH,
        &[("origin", "https://meet.example"), ("sec-websocket-protocol", "chat, palava.1.0")],
    )
    .expect("it is let in");
    assert_eq!(answer.headers()["sec-websocket-protocol"], "palava.1.0");
    client.join("room", None);
    for path in ["/", "/any/path?x=1", PATH] {
        let (mut client, answer) = Palava::ask(palava, path, &[]).expect("it is let in");
        assert!(answer.headers().get("sec-websocket-protocol").is_none());
        client.expect_nothing();
    }
    let foreign = [("origin", "https://evil.example")];
    assert_eq!(Palava::ask(http, PATH, &foreign).err(), Some(403));
    assert_eq!(Palava::ask(palava, "/", &foreign).err(), Some(403));
    assert_eq!(http::get(http, PATH).status, 426);
    assert_eq!(Palava::ask(http, "/", &[]).err(), Some(404));
}

#[test]
fn a_room_has_room_for_so_many() {
    for_each_store(&[("signalling.max_members", "2")], |world| {
        let (mut first, mut second, mut third) =
            (world.client(0), world.client(1), world.client(0));
        first.join("room", None);
        second.join("room", None);
        first.expect("new_peer");
        let join = json!({ "event": "join_room", "room_id": "room" });
        assert_eq!(third.error(&join), "room is full");
        first.expect_nothing();
        second.send(&json!({ "event": "leave_room" }));
        first.expect("peer_left");
        third.join("room", None);
    });
}

#[test]
fn a_lost_client_comes_back_under_its_id() {
    for_each_store(&[], |world| {
        let (mut stays, mut lost) = (world.client(0), world.client(0));
        stays.join("room", None);
        let joined = lost.join("room", Some(json!({ "name": "Ada" })));
        stays.expect("new_peer");
        let (id, token) = (text(&joined, "own_id"), text(&joined, "resume_token"));
        let join =
            |token: &str| json!({ "event": "join_room", "room_id": "room", "resume_token": token });
        // The old connection has not been missed yet: it is closed, and the others see a new start.
        let mut again = world.client(1);
        let joined = again.call(&join(token));
        assert_eq!(text(&joined, "own_id"), id, "{joined}");
        assert_eq!(lost.next_close(), 4201);
        assert_eq!(stays.next(), json!({ "event": "peer_left", "sender_id": id }));
        assert_eq!(text(&stays.expect("new_peer"), "peer_id"), id);
        // What is sent to the id reaches the new connection.
        stays.tell(id, "hello");
        again.expect("message");
        let token = text(&joined, "resume_token").to_owned();
        again.close();
        stays.expect("peer_left");
        let mut later = world.client(1);
        assert_eq!(text(&later.call(&join(&token)), "own_id"), id);
        stays.expect("new_peer");
        // A token is good for one time, and for its room.
        let mut stranger = world.client(0);
        assert_ne!(text(&stranger.call(&join(&token)), "own_id"), id);
    });
}

#[test]
fn turn_credentials_come_with_the_join_and_again_before_they_expire() {
    for_each_store(&[("signalling.turn", "{ secret = \"s\", ttl = \"2s\" }")], |world| {
        let mut client = world.client(0);
        let joined = client.join("room", None);
        let user = text(&joined, "turn_user").to_owned();
        assert!(user.ends_with(text(&joined, "own_id")), "{user}");
        assert_eq!(text(&joined, "turn_password").len(), 28);
        let fresh = client.expect("turn_credentials");
        assert_ne!(text(&fresh, "turn_user"), user);
    });
}

#[test]
fn who_does_not_answer_pings_leaves() {
    for_each_store(&[("http.ping", "1s"), ("http.ping_timeout", "1s")], |world| {
        let (mut stays, mut half_open) = (world.client(0), world.client(1));
        stays.join("room", None);
        let id = text(&half_open.join("room", None), "own_id").to_owned();
        stays.expect("new_peer");
        // It reads nothing any more, so it answers no ping; the other one does by reading.
        let left = stays.expect("peer_left");
        assert_eq!(text(&left, "sender_id"), id);
    });
}

#[test]
fn floods_and_long_messages_end_at_their_limits() {
    let server = Server::start(&[]);
    let mut neighbour = Palava::open(server.http());
    neighbour.join("room", None);
    // Far more than the rate: a part is answered, the excess is complained of once.
    let mut flood = Palava::open(server.http());
    for _ in 0..2_000 {
        flood.send(&json!({ "event": "ping" }));
    }
    let (mut pongs, mut complaints) = (0, 0);
    while complaints == 0 || pongs < 100 {
        match flood.next()["event"].as_str() {
            Some("pong") => pongs += 1,
            _ => complaints += 1,
        }
    }
    assert!(complaints <= 2 && pongs <= 300, "{complaints} {pongs}");
    // One of 1 MiB closes the connection with "too big".
    let mut long = Palava::open(server.http());
    let mut frame = vec![0x81, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0];
    frame.resize(frame.len() + (1 << 20), b'x');
    // The server may have closed before the end.
    let _ = long.stream().write_all(&frame);
    assert_eq!(long.next_close(), 1009);
    // Who does not read is closed when too much waits for it.
    let mut slow = Palava::open_with_buffer(server.http(), 4096);
    let id = text(&slow.join("room", None), "own_id").to_owned();
    neighbour.expect("new_peer");
    let chunk = "x".repeat(30_000);
    let is_closed = || {
        let snapshot = server.api().snapshot();
        snapshot.closed("output_full") > 0
    };
    eventually("the slow reader is closed", Duration::from_secs(30), || {
        neighbour.tell(&id, &chunk);
        is_closed().then_some(())
    });
    while neighbour.next()["event"] != "peer_left" {}
}

/// 10,000 random documents, most of them nearly right.
#[test]
fn random_documents_end_no_connection() {
    for_each_store(&[], |world| {
        let mut neighbour = world.client(0);
        let neighbour_id = text(&neighbour.join("room", None), "own_id").to_owned();
        let mut dice = 0x9E37_79B9_7F4A_7C15_u64;
        let mut roll = |sides: usize| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice % sides as u64) as usize
        };
        let events =
            ["join_room", "leave_room", "update_status", "send_to_peer", "info", "ping", "x", ""];
        let keys = ["room_id", "status", "peer_id", "data", "resume_token", "event", "name"];
        let mut sent = 0;
        // A connection may say 200 at once.
        while sent < 10_000 {
            let mut client = world.client(1);
            for _ in 0..150 {
                sent += 1;
                let mut message = json!({ "event": events[roll(events.len())] });
                for _ in 0..roll(4) {
                    let value = match roll(9) {
                        0 => json!(null),
                        1 => json!(roll(1_000)),
                        2 => json!([1, [], {}]),
                        3 => json!({ "name": "Ada", "user_agent": "chrome" }),
                        4 => json!({ "event": "message", "x": [] }),
                        5 => json!(neighbour_id),
                        6 => json!("\u{0}\u{FFFF}ä"),
                        7 => json!(-1.5e300),
                        _ => json!("elsewhere"),
                    };
                    message[keys[roll(keys.len())]] = value;
                }
                let mut message = message.to_string();
                if roll(5) == 0 {
                    let cut = (0..=roll(message.len())).rev().find_map(|at| message.get(..at));
                    message = cut.unwrap_or_default().to_owned();
                }
                client.send_text(&message);
            }
            client.send_text("{\"event\":\"info\",\"last\":1}");
            while client.next()["event"] != "info" {}
            client.close();
        }
        neighbour.tell(&neighbour_id, "still here");
        while neighbour.next()["data"] != "still here" {}
    });
}

#[test]
fn the_api_tells_who_is_in_which_room() {
    let server = Server::start(&[]);
    let (mut first, mut second) = (Palava::open(server.http()), Palava::open(server.http()));
    first.join("secret name", Some(json!({ "name": "Ada" })));
    second.join("secret name", None);
    let found = rooms(&server);
    let counts = ["connections", "members", "created", "joined", "closed"];
    assert_eq!(counts.map(|key| found[key].as_u64().expect("a count")), [2, 2, 1, 2, 0]);
    let room = &found["rooms"][0];
    assert_eq!(text(room, "room").len(), 128, "a digest, not the name");
    assert!(!found.to_string().contains("secret name"));
    let members = room["members"].as_array().expect("a list");
    assert_eq!(members.len(), 2);
    assert!(members.iter().any(|member| member["status"]["name"] == "Ada"));
    assert!(members.iter().all(|member| member["address"] == "127.0.0.1"));
}

// With Redis.

fn id(joined: &Value) -> String {
    text(joined, "own_id").to_owned()
}

/// Every member tells every member something, and each gets exactly that.
fn all_reach_all(members: &mut [(Palava, String)]) {
    let ids: Vec<String> = members.iter().map(|(_, id)| id.clone()).collect();
    for (client, own) in &mut *members {
        for peer in &ids {
            client.tell(peer, own);
        }
    }
    for (client, _) in &mut *members {
        let mut senders: Vec<String> = ids
            .iter()
            .map(|_| {
                let message = client.expect("message");
                assert_eq!(message["data"], message["sender_id"]);
                text(&message, "sender_id").to_owned()
            })
            .collect();
        senders.sort_unstable();
        let mut expected = ids.clone();
        expected.sort_unstable();
        assert_eq!(senders, expected);
        client.expect_nothing();
    }
}

fn look_at(joined: &Value) -> Vec<String> {
    let peers = joined["peers"].as_array().expect("a list");
    let mut ids: Vec<String> = peers.iter().map(|peer| text(peer, "peer_id").to_owned()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn members_of_a_killed_node_leave_within_its_lease() {
    const LEASE: Duration = Duration::from_secs(6);
    let World::Redis(redis, servers) = World::redis(&[]) else { unreachable!() };
    let [first, second] = *servers;
    let mut stays = Palava::open(first.http());
    let stays_id = id(&stays.join("room", None));
    let mut lost = Palava::open(second.http());
    let joined = lost.join("room", Some(json!({ "name": "Ada" })));
    let (lost_id, token) = (id(&joined), text(&joined, "resume_token").to_owned());
    stays.expect("new_peer");
    let mut elsewhere = Palava::open(second.http());
    elsewhere.join("another room", None);
    // A member of palava-machine has no lease, and is nobody's to take away.
    let ruby = "0b41bd20-5d08-4a2c-9d4e-d7d0d2f3b0a1";
    let key = redis
        .keys("store:room:members:*")
        .into_iter()
        .find(|key| redis.cli(&["SISMEMBER", key, &stays_id]) == "1");
    let key = key.expect("the room is there");
    redis.cli(&["SADD", &key, ruby]);
    redis.cli(&["SET", &format!("store:connection:room:{ruby}"), key.rsplit(':').next().unwrap()]);
    let began = Instant::now();
    let mut process = second.into_process();
    process.signal(libc::SIGKILL);
    process.wait(SOON);
    let left = stays.expect("peer_left");
    println!("left after {:?}", began.elapsed());
    assert!(began.elapsed() < LEASE, "{:?}", began.elapsed());
    assert_eq!(text(&left, "sender_id"), lost_id);
    eventually("nothing of the lost members is left", SOON, || {
        (redis.keys("store:connection:joined:*").len() == 1).then_some(())
    });
    assert_eq!(redis.cli(&["SISMEMBER", &key, ruby]), "1");
    // What the lost one had is counted, and its id can be taken up elsewhere.
    assert_eq!(redis.histogram("store:stats:connection_time:*").values().sum::<u64>(), 2);
    let mut again = Palava::open(first.http());
    let join = json!({ "event": "join_room", "room_id": "room", "resume_token": token });
    let joined = again.call(&join);
    assert_eq!(id(&joined), lost_id);
    let mut expected = vec![ruby.to_owned(), stays_id];
    expected.sort_unstable();
    assert_eq!(look_at(&joined), expected);
}

/// Node and room → members of the node: 50 in this room, `LOST_MEMBERS` in all.
const LOST_NODE: &str = r"
local node, room = unpack(ARGV)
local now = redis.call('TIME')[1]
for number = 1, 5000 do
  local peer, token = string.format('00000000-0000-4000-8000-%012x', number), string.format('%032x', number)
  local of = string.rep('0', 120) .. string.format('%08x', number % 500)
  if number % 100 == 0 then of = room end
  redis.call('SADD', 'store:room:members:' .. of, peer)
  redis.call('SET', 'store:connection:joined:' .. peer, now)
  redis.call('SET', 'store:connection:room:' .. peer, of)
  redis.call('HSET', 'shardcast:rooms:members:' .. node, peer, of .. ' ' .. token)
  redis.call('SET', 'shardcast:rooms:resume:' .. token, peer .. ' ' .. of .. ' ' .. node)
end
redis.call('SADD', 'shardcast:rooms:nodes', node)
return redis.call('HLEN', 'shardcast:rooms:members:' .. node)
";
const LOST_MEMBERS: &str = "5000";

/// They are far more than one look into the hash of members finds.
#[test]
fn all_members_of_a_large_lost_node_leave_and_nobody_waits_for_that() {
    let World::Redis(redis, servers) = World::redis(&[]) else { unreachable!() };
    let mut stays = Palava::open(servers[0].http());
    stays.join("room", None);
    let keys = redis.keys("store:room:members:*");
    let room = keys[0].rsplit(':').next().expect("a digest");
    assert_eq!(redis.cli(&["EVAL", LOST_NODE, "0", "lost", room]), LOST_MEMBERS);
    let mut comes = Palava::open(servers[1].http());
    let began = Instant::now();
    eventually("the lost node is no more", SOON, || {
        comes.join("elsewhere", None);
        comes.send(&json!({ "event": "leave_room" }));
        (redis.cli(&["SISMEMBER", "shardcast:rooms:nodes", "lost"]) == "0").then_some(())
    });
    println!("gone after {:?}", began.elapsed());
    let mut left: Vec<String> =
        (0..50).map(|_| text(&stays.expect("peer_left"), "sender_id").to_owned()).collect();
    left.sort_unstable();
    let peer = |number: u32| format!("00000000-0000-4000-8000-{:012x}", 100 * number);
    assert_eq!(left, (1..=50).map(peer).collect::<Vec<_>>());
    stays.expect_nothing();
    eventually("nothing of the lost members is left", SOON, || {
        (redis.keys("store:connection:*").len() == 2).then_some(())
    });
    assert_eq!(redis.keys("store:room:members:*"), keys);
    assert_eq!(redis.keys("shardcast:rooms:members:lost"), [] as [String; 0]);
}

fn resume(joined: &Value) -> Value {
    let token = text(joined, "resume_token");
    json!({ "event": "join_room", "room_id": "room", "resume_token": token })
}

/// Whatever step of the join the end of the old connection falls into.
#[test]
fn an_id_goes_on_while_its_old_connection_closes() {
    let redis = Redis::start();
    let url = redis.url();
    let server = Server::start(&[("signalling.store", url.as_str())]);
    wait_for_store(&server, true);
    let (mut stays, mut old) = (Palava::open(server.http()), Palava::open(server.http()));
    stays.join("room", None);
    let mut joined = old.join("room", None);
    stays.expect("new_peer");
    let own = id(&joined);
    for round in 0..300 {
        let mut again = Palava::open(server.http());
        again.send(&resume(&joined));
        // Not to let something happen: each round closes at another moment.
        thread::sleep(Duration::from_micros(10 * round));
        drop(old);
        joined = again.expect("joined_room");
        assert_eq!(id(&joined), own);
        assert_eq!(text(&stays.expect("peer_left"), "sender_id"), own);
        assert_eq!(text(&stays.expect("new_peer"), "peer_id"), own);
        again.tell(&own, "heard");
        assert_eq!(again.expect("message")["data"], "heard", "round {round}");
        old = again;
    }
    old.close();
    assert_eq!(text(&stays.expect("peer_left"), "sender_id"), own);
    stays.expect_nothing();
    assert_eq!(redis.keys("store:connection:joined:*").len(), 1);
}

/// The leave is carried out while the join waits for its channel.
#[test]
fn a_resumed_id_keeps_its_channel_when_the_old_connection_leaves() {
    let redis = Redis::start();
    let gate = Gate::to(redis.port());
    let url = format!("redis://{}", gate.address());
    let server = Server::start(&[("signalling.store", url.as_str())]);
    wait_for_store(&server, true);
    let [mut stays, mut old, mut again] = [(); 3].map(|()| Palava::open(server.http()));
    stays.join("room", None);
    let joined = old.join("room", None);
    stays.expect("new_peer");
    let own = id(&joined);
    let messages = || rooms(&server)["messages"]["messages"].as_u64().expect("a count");
    let before = messages();
    gate.shut();
    again.send(&resume(&joined));
    eventually("the join is read", SOON, || (messages() > before).then_some(()));
    drop(old);
    eventually("the old connection is missed", SOON, || {
        (rooms(&server)["members"] == 1).then_some(())
    });
    gate.open();
    assert_eq!(id(&again.expect("joined_room")), own);
    assert_eq!(text(&stays.expect("peer_left"), "sender_id"), own);
    assert_eq!(text(&stays.expect("new_peer"), "peer_id"), own);
    stays.tell(&own, "hello");
    assert_eq!(again.expect("message")["data"], "hello");
    again.close();
    assert_eq!(text(&stays.expect("peer_left"), "sender_id"), own);
}

#[test]
fn rooms_outlive_their_redis() {
    let World::Redis(mut redis, servers) = World::redis(&[]) else { unreachable!() };
    let mut members: Vec<(Palava, String)> = Vec::new();
    for number in 0..4 {
        let mut client = Palava::open(servers[number % 2].http());
        let joined = client.join("room", Some(json!({ "name": format!("n{number}") })));
        for (other, _) in &mut members {
            other.expect("new_peer");
        }
        members.push((client, id(&joined)));
    }
    let (mut leaver, mut outside) =
        (Palava::open(servers[1].http()), Palava::open(servers[0].http()));
    let leaver_id = id(&leaver.join("room", None));
    members.iter_mut().for_each(|(other, _)| drop(other.expect("new_peer")));
    all_reach_all(&mut members);
    redis.stop();
    servers.iter().for_each(|server| wait_for_store(server, false));
    // Who wants something of the rooms is told, at once; the connections stay.
    let join = json!({ "event": "join_room", "room_id": "room" });
    assert_eq!(outside.error(&join), "rooms are not available");
    let send =
        json!({ "event": "send_to_peer", "peer_id": leaver_id, "data": { "event": "offer" } });
    assert_eq!(members[0].0.error(&send), "rooms are not available");
    members[0].0.expect_nothing();
    leaver.close();
    redis.start_again();
    servers.iter().for_each(|server| wait_for_store(server, true));
    // The leave of the time without Redis is made up for.
    for (other, _) in &mut members {
        assert_eq!(text(&other.expect("peer_left"), "sender_id"), leaver_id);
    }
    all_reach_all(&mut members);
    let joined = outside.join("room", None);
    let mut ids: Vec<String> = members.iter().map(|(_, id)| id.clone()).collect();
    ids.sort_unstable();
    assert_eq!(look_at(&joined), ids, "each of them once");
    let statuses = joined["peers"].as_array().expect("a list").iter();
    let names: Vec<&str> = statuses.map(|peer| text(&peer["status"], "name")).collect();
    assert!(names.iter().all(|name| name.starts_with('n')), "{names:?}");
    for (other, _) in &mut members {
        other.expect("new_peer");
    }
    drop(members);
    drop(outside);
    eventually("nobody is left", SOON, || {
        let is_empty = |server| rooms(server)["members"] == 0;
        (servers.iter().all(is_empty) && redis.keys("store:room:*").is_empty()).then_some(())
    });
}

#[test]
fn a_server_that_ends_leaves_nothing_in_redis() {
    let World::Redis(redis, servers) =
        World::redis(&[("signalling.shutdown", "0s"), ("signalling.resume", "0s")])
    else {
        unreachable!()
    };
    let [first, second] = *servers;
    let mut stays = Palava::open(first.http());
    stays.join("room", None);
    let mut told = Palava::open(second.http());
    told.join("room", None);
    stays.expect("new_peer");
    second.stop();
    assert_eq!(told.expect("shutdown")["seconds"], 0);
    stays.expect("peer_left");
    stays.expect_nothing();
    first.stop();
    let mut keys = redis.keys("*");
    keys.retain(|key| !key.starts_with("store:stats:") && key != "shardcast:rooms:epoch");
    assert_eq!(keys, [] as [String; 0]);
}
