//! Members on two shards, in virtual time: what is posted reaches each of them once and in order.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use proptest::prelude::*;

use crate::limits;
use crate::proto::amf0::Value;
use crate::proto::push_message::{PushAddress, PushBody};
use crate::proto::push_name::PushName;
use crate::proto::push_session::PushSession;
use crate::proto::rtmp::chunk_reader::{ChunkReader, ReaderLimits};
use crate::proto::rtmp::chunk_writer::{MessageHeader, write_full};
use crate::proto::rtmp::client::Role;
use crate::proto::rtmp::command::{self, Command};
use crate::proto::rtmp::message;
use crate::session::PushWire;
use crate::shard::Protocol;
use crate::shard::testing::{Rig, run};

const SECRET: &str = "123";
const HANDSHAKE_BYTES: usize = 1 + 2 * 1536;

fn config(more: &str) -> String {
    format!("[push]\nsecret = \"{SECRET}\"\n{more}\n[apps.default]\nlatency = \"realtime\"\n")
}

fn token(user: i64, channels: &[i64]) -> String {
    let channels = channels.iter().map(|number| (*number).into()).collect();
    PushSession { user: user.into(), channels, expires_unix_s: None }.sign(SECRET)
}

/// A client of any form, and the texts that it has got.
struct Member {
    socket: UnixStream,
    wire: PushWire,
    user: i64,
    channels: Vec<i64>,
    input: Vec<u8>,
    chunks: ChunkReader,
    /// The answer to its request, or to connect, is there.
    is_in: bool,
    got: Vec<String>,
    is_closed: bool,
    /// Does not read.
    is_stuck: bool,
}

impl Member {
    fn join(rig: &mut Rig, shard: usize, wire: PushWire, user: i64, channels: &[i64]) -> Self {
        Self::come_back(rig, shard, wire, user, channels, "")
    }

    fn come_back(
        rig: &mut Rig,
        shard: usize,
        wire: PushWire,
        user: i64,
        channels: &[i64],
        since: &str,
    ) -> Self {
        let token = token(user, channels);
        let (protocol, hello) = match wire {
            PushWire::Rtmp => (Protocol::Rtmp, rtmp_hello(&token)),
            PushWire::Sse | PushWire::WebSocket => {
                let lines = match wire {
                    PushWire::Sse => "Accept: text/event-stream\r\n",
                    _ => {
                        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                    }
                };
                let target = format!("/push?session={token}&since={since}");
                let head = format!("GET {target} HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
                (Protocol::Http, head.into_bytes())
            }
        };
        let mut socket = rig.connect(shard, protocol);
        socket.write_all(&hello).unwrap();
        Self {
            socket,
            wire,
            user,
            channels: channels.to_vec(),
            input: Vec::new(),
            chunks: ChunkReader::new(ReaderLimits {
                message_bytes_max: 1 << 22,
                chunk_streams_max: 8,
                partial_bytes_max: 1 << 22,
            }),
            is_in: false,
            got: Vec::new(),
            is_closed: false,
            is_stuck: false,
        }
    }

    /// Reads what is there.
    fn pump(&mut self) {
        let mut buffer = vec![0; 1 << 16];
        while !self.is_stuck && !self.is_closed {
            match self.socket.read(&mut buffer) {
                Ok(0) => self.is_closed = true,
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.is_closed = true,
            }
        }
        match self.wire {
            PushWire::Rtmp => self.read_commands(),
            PushWire::Sse => self.read_events(),
            PushWire::WebSocket => self.read_frames(),
        }
    }

    /// True when the head of the HTTP answer has been taken off.
    fn has_head(&mut self) -> bool {
        if self.is_in {
            return true;
        }
        let Some(end) = self.input.windows(4).position(|it| it == b"\r\n\r\n") else {
            return false;
        };
        let head: Vec<u8> = self.input.drain(..end + 4).collect();
        let status = if self.wire == PushWire::Sse { "HTTP/1.1 200 " } else { "HTTP/1.1 101 " };
        assert!(head.starts_with(status.as_bytes()), "{}", String::from_utf8_lossy(&head));
        self.is_in = true;
        true
    }

    fn read_events(&mut self) {
        while self.has_head() {
            let Some(end) = self.input.windows(2).position(|it| it == b"\n\n") else { return };
            let event: Vec<u8> = self.input.drain(..end + 2).collect();
            let text = String::from_utf8(event).unwrap();
            if let Some(json) = text.lines().find_map(|line| line.strip_prefix("data: ")) {
                self.got.push(json.to_owned());
            }
        }
    }

    fn read_frames(&mut self) {
        while self.has_head() {
            let (header, len) = match self.input[..] {
                [_, 127, ..] if self.input.len() >= 10 => {
                    (10, u64::from_be_bytes(self.input[2..10].try_into().unwrap()) as usize)
                }
                [_, 126, a, b, ..] => (4, usize::from(u16::from_be_bytes([a, b]))),
                [_, len, ..] if len < 126 => (2, usize::from(len)),
                _ => return,
            };
            if self.input.len() < header + len {
                return;
            }
            let frame: Vec<u8> = self.input.drain(..header + len).collect();
            if frame[0] == 0x81 {
                self.got.push(String::from_utf8(frame[header..].to_vec()).unwrap());
            }
        }
    }

    fn read_commands(&mut self) {
        if !self.is_in {
            if self.input.len() <= HANDSHAKE_BYTES {
                return;
            }
            self.input.drain(..HANDSHAKE_BYTES);
            self.is_in = true;
        }
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        loop {
            let read = self.chunks.read(rest).expect("well-formed chunks");
            rest = &rest[read.consumed..];
            let Some(found) = read.message else { break };
            if found.type_id != message::COMMAND_AMF0 {
                continue;
            }
            let call = Command::parse(&found.payload).unwrap();
            let info = call.args.first();
            let property = |name| info.and_then(|it| it.property(name)).and_then(Value::as_str);
            if property("code") == Some("NetConnection.Message") {
                self.got.push(property("description").unwrap().to_owned());
            }
        }
        self.input = rest.to_vec();
    }

    /// The texts of messages, whatever the form; other JSON as it is.
    fn texts(&self) -> Vec<String> {
        let text = |got: &String| match (self.wire, serde_json::from_str(got)) {
            (PushWire::Rtmp, _) => got.clone(),
            (_, Ok(serde_json::Value::Object(it))) if it.contains_key("message") => {
                it["message"].as_str().unwrap().to_owned()
            }
            _ => got.clone(),
        };
        self.got.iter().map(text).collect()
    }
}

fn rtmp_hello(token: &str) -> Vec<u8> {
    let mut out = vec![3];
    out.resize(1 + 2 * 1536, 0);
    let object = Value::object([
        ("app", Value::from("live")),
        ("tcUrl", Value::from("rtmp://localhost/live")),
    ]);
    let args = [Value::from(token), Value::Number(142.0)];
    let payload = command::encode("connect", 1.0, &object, &args);
    out.extend(command_bytes(&payload));
    out
}

fn command_bytes(payload: &[u8]) -> Vec<u8> {
    let header = MessageHeader {
        chunk_stream_id: 3,
        message_stream_id: 0,
        type_id: message::COMMAND_AMF0,
        timestamp_ms: 0,
    };
    let mut out = Vec::new();
    write_full(&header, payload, 128, &mut |bytes| out.extend_from_slice(bytes));
    out
}

async fn turns(rig: &mut Rig, count: usize, members: &mut [&mut Member]) {
    for _ in 0..count {
        rig.run(1, &mut []).await;
        members.iter_mut().for_each(|member| member.pump());
    }
}

fn channel(number: i64) -> PushAddress {
    PushAddress::Channel(number.into())
}

fn user(number: i64) -> PushAddress {
    PushAddress::User(number.into())
}

fn post(rig: &mut Rig, address: &PushAddress, text: &str) -> usize {
    let body = PushBody::Text(text.to_owned());
    rig.router.post("__defaultVhost__", address, &body, rig.now).expect("there is room")
}

const WIRES: [PushWire; 3] = [PushWire::Rtmp, PushWire::WebSocket, PushWire::Sse];

#[test]
fn a_message_reaches_members_in_every_form_on_every_shard_and_nobody_else() {
    run(|| async {
        let mut rig = Rig::new(&config(""), 2);
        let mut members = Vec::new();
        for shard in [0, 1] {
            for wire in WIRES {
                members.push(Member::join(&mut rig, shard, wire, 5, &[10, 12]));
                members.push(Member::join(&mut rig, shard, wire, 6, &[10]));
            }
        }
        let mut all: Vec<&mut Member> = members.iter_mut().collect();
        turns(&mut rig, 10, &mut all).await;
        assert_eq!(post(&mut rig, &channel(10), "ten"), 12);
        assert_eq!(post(&mut rig, &channel(12), "twelve"), 6);
        assert_eq!(post(&mut rig, &user(6), "six"), 6);
        assert_eq!(post(&mut rig, &channel(11), "nobody"), 0);
        turns(&mut rig, 10, &mut all).await;
        for member in &all {
            let expected = if member.user == 5 { ["ten", "twelve"] } else { ["ten", "six"] };
            assert_eq!(member.texts(), expected, "{:?}", member.wire);
        }
        // One crossing per message and shard.
        assert_eq!(rig.router.counters().crossings, 6);
        let json = r#"{"channel":10,"id":"7-1","message":"ten"}"#;
        assert_eq!(all[2].got[0], json);
        drop(all);
        members.truncate(2);
        turns(&mut rig, 10, &mut []).await;
        assert_eq!(rig.router.counters().members, 2);
        assert_eq!(post(&mut rig, &channel(10), "rest"), 2);
        drop(members);
        turns(&mut rig, 10, &mut []).await;
        let counters = rig.router.counters();
        assert_eq!((counters.members, counters.targets, counters.in_flight_bytes), (0, 0, 0));
        assert!(rig.shards.iter().all(|shard| shard.members.targets.is_empty()));
    });
}

#[test]
fn a_refused_session_ends_the_connection_and_makes_nobody_a_member() {
    run(|| async {
        let mut rig = Rig::new(&config(""), 1);
        let mut viewer = rig.client(0, Role::Play, "s");
        let mut wrong = rig.connect(0, Protocol::Rtmp);
        wrong.write_all(&rtmp_hello("a--b")).unwrap();
        rig.run(10, &mut [&mut viewer]).await;
        rig.wait(2_000, &mut [&mut viewer]).await;
        rig.run(10, &mut [&mut viewer]).await;
        let mut answer = Vec::new();
        let _ = wrong.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        for part in ["_error", "NetConnection.Connect.Rejected", "Connection rejected."] {
            assert!(text.contains(part), "{part}");
        }
        assert!(viewer.has("NetStream.Play.Start"), "no session is needed");
        let counters = rig.router.counters();
        assert_eq!((counters.sessions_refused, counters.members), (1, 0));
    });
}

#[test]
fn a_message_goes_between_the_messages_of_a_stream_that_is_stuck() {
    run(|| async {
        let mut rig = Rig::new(&config(""), 1);
        let mut publisher = rig.client(0, Role::Publish, "s");
        let mut viewer = rig.client(0, Role::Play, "s");
        rig.run(20, &mut [&mut publisher, &mut viewer]).await;
        let key = rig.shards[0].conns.key_at(1).unwrap();
        // Made a member by hand, as the client of this rig sends no session.
        let membership = crate::session::Membership {
            client: crate::session::ClientId(1),
            targets: vec![crate::session::PushTarget(1)],
        };
        rig.shards[0].push_join(key, &std::sync::Arc::new(membership), PushWire::Rtmp);
        let in_flight = std::sync::Arc::default();
        let large = "x".repeat(100_000);
        let mut texts = Vec::new();
        for number in 0..30 {
            viewer.is_stuck = number % 3 != 0;
            publisher.video(number % 10 == 0, number, 200_000);
            let text = format!("{number} {}", if number % 5 == 0 { &large } else { "" });
            let rtmp = PushBody::Text(text.clone()).rtmp(60_000).into();
            let forms = crate::shard::PushForms { rtmp, ..Default::default() };
            let target = crate::session::PushTarget(1);
            let message = crate::shard::PushMessage::new(target, forms, &in_flight);
            rig.shards[0].push(&message, rig.now);
            texts.push(text);
            rig.run(20, &mut [&mut publisher, &mut viewer]).await;
        }
        viewer.is_stuck = false;
        rig.run(2_000, &mut [&mut viewer]).await;
        let expected: Vec<String> = (0..30).map(|number| number.to_string()).collect();
        assert_eq!(viewer.media(), expected);
        let codes = viewer.codes();
        let count = codes.iter().filter(|code| *code == "NetConnection.Message").count();
        assert_eq!(count, texts.len());
    });
}

#[test]
fn a_member_that_does_not_read_is_closed_at_its_cap_and_delays_nobody() {
    run(|| async {
        for wire in WIRES {
            let mut rig = Rig::new(&config(""), 1);
            let mut slow = Member::join(&mut rig, 0, wire, 1, &[1]);
            let mut quick = Member::join(&mut rig, 0, wire, 2, &[1]);
            turns(&mut rig, 10, &mut [&mut slow, &mut quick]).await;
            slow.is_stuck = true;
            let text = "x".repeat(50_000);
            for number in 1..=60 {
                post(&mut rig, &channel(1), &text);
                turns(&mut rig, 3, &mut [&mut slow, &mut quick]).await;
                assert_eq!(quick.got.len(), number, "{wire:?}");
                let waiting: usize = (0..rig.shards[0].conns.slots())
                    .filter_map(|slot| rig.shards[0].conns.key_at(slot))
                    .filter_map(|key| rig.shards[0].conns.get(key))
                    .map(|conn| conn.out.capacity())
                    .sum();
                assert!(waiting < 200_000, "{waiting} bytes of its own for a slow member");
            }
            rig.wait(2_000, &mut []).await;
            assert_eq!(rig.shards[0].members.deliveries.slow_closed, 1);
            assert_eq!(rig.router.counters().members, 1);
            slow.is_stuck = false;
            slow.pump();
            assert!(slow.is_closed && slow.got.len() < 60);
        }
    });
}

#[test]
fn who_comes_back_gets_what_it_missed_or_is_told_of_a_gap() {
    run(|| async {
        let mut rig = Rig::new(&config("history = { messages = 5, age = \"60s\" }"), 2);
        for wire in [PushWire::Sse, PushWire::WebSocket] {
            let mut first = Member::join(&mut rig, 0, wire, 1, &[1, 2]);
            turns(&mut rig, 10, &mut [&mut first]).await;
            post(&mut rig, &channel(1), "a");
            turns(&mut rig, 10, &mut [&mut first]).await;
            let seen: serde_json::Value = serde_json::from_str(first.got.last().unwrap()).unwrap();
            let since = seen["id"].as_str().unwrap().to_owned();
            drop(first);
            turns(&mut rig, 10, &mut []).await;
            for (number, text) in [(1, "b"), (2, "c"), (3, "no"), (1, "d")] {
                post(&mut rig, &channel(number), text);
            }
            post(&mut rig, &user(1), "e");
            let mut back = Member::come_back(&mut rig, 1, wire, 1, &[1, 2], &since);
            turns(&mut rig, 10, &mut [&mut back]).await;
            post(&mut rig, &channel(2), "f");
            turns(&mut rig, 10, &mut [&mut back]).await;
            assert_eq!(back.texts(), ["b", "c", "d", "e", "f"], "{wire:?}");
            for number in 0..6 {
                post(&mut rig, &channel(1), &number.to_string());
            }
            let gap = format!(r#"{{"from":"{since}","gap":true}}"#);
            let mut late = Member::come_back(&mut rig, 1, wire, 1, &[1], &since);
            turns(&mut rig, 10, &mut [&mut late]).await;
            assert_eq!(late.texts(), [gap.as_str(), "e", "1", "2", "3", "4", "5"]);
            for unknown in ["6-1", "7-999", "what"] {
                let mut other = Member::come_back(&mut rig, 0, wire, 9, &[99], unknown);
                turns(&mut rig, 10, &mut [&mut other]).await;
                let gap = format!(r#"{{"from":"{unknown}","gap":true}}"#);
                assert_eq!(other.texts()[0], gap);
            }
            rig.wait(61_000, &mut []).await;
        }
        let counters = rig.router.counters();
        assert_eq!((counters.recovered, counters.gaps), (2, 8));
    });
}

#[test]
fn clients_send_to_channels_of_their_session_only() {
    run(|| async {
        let mut rig = Rig::new(&config("client_send = \"members\"\nmax_message = \"10B\""), 2);
        let mut rtmp = Member::join(&mut rig, 0, PushWire::Rtmp, 1, &[1]);
        let mut socket = Member::join(&mut rig, 1, PushWire::WebSocket, 2, &[1]);
        turns(&mut rig, 10, &mut [&mut rtmp, &mut socket]).await;
        let say = |channel: f64, text: &str| {
            let args = [Value::Number(channel), Value::from(text)];
            command_bytes(&command::encode("sendMessage", 0.0, &Value::Null, &args))
        };
        for bytes in [say(1.0, "hello"), say(2.0, "stranger"), say(1.0, "much too long")] {
            rtmp.socket.write_all(&bytes).unwrap();
        }
        turns(&mut rig, 10, &mut [&mut rtmp, &mut socket]).await;
        for text in [
            r#"{"channel":1,"message":"hi"}"#,
            r#"{"channel":2,"message":"hi"}"#,
            r#"{"channel":1,"message":"much too long"}"#,
            r#"{"channel":1}"#,
            r#"{"ping":1}"#,
        ] {
            // The key of the mask is 0.
            let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
            frame.extend_from_slice(text.as_bytes());
            socket.socket.write_all(&frame).unwrap();
            turns(&mut rig, 10, &mut [&mut rtmp, &mut socket]).await;
        }
        assert_eq!(rtmp.texts(), ["hello", "hi"]);
        let found = socket.texts();
        assert_eq!(found[..2], ["hello", "hi"]);
        for (text, word) in found[2..5].iter().zip(["not_member", "too_long", "malformed"]) {
            assert!(text.contains(word), "{text}");
        }
        assert_eq!(found[5], r#"{"pong":true}"#);
        let counters = rig.router.counters();
        assert_eq!((counters.client_sends, counters.client_sends_refused), (2, 4));
    });
}

/// A member that takes part in random posts: what it must get at least begins where it was in.
struct Watched {
    member: Member,
    /// Messages posted before it was seen to be in; those that came in between it may have got.
    from_min: usize,
    from_max: Option<usize>,
}

impl Watched {
    fn new(member: Member, posted: usize) -> Self {
        Self { member, from_min: posted, from_max: None }
    }

    /// Holds what it got against what was posted to its channels, up to `until`.
    fn check(&self, posted: &[PushAddress], until: usize) {
        let is_mine = |address: &PushAddress| match address {
            PushAddress::Channel(PushName::Number(it)) => self.member.channels.contains(it),
            PushAddress::User(name) => *name == self.member.user.into(),
            PushAddress::Channel(PushName::Text(_)) => false,
        };
        let mine: Vec<usize> =
            (self.from_min..until).filter(|number| is_mine(&posted[*number])).collect();
        let got: Vec<usize> = self.member.texts().iter().map(|it| it.parse().unwrap()).collect();
        let first = mine.len().checked_sub(got.len());
        let first = first.unwrap_or_else(|| panic!("{} of {}", got.len(), mine.len()));
        assert_eq!(got, mine[first..], "lost, doubled or out of order");
        let must: Vec<usize> =
            mine.iter().copied().filter(|it| *it >= self.from_max.unwrap_or(until)).collect();
        assert!(got.len() >= must.len(), "lost at the beginning");
    }
}

/// Posts at random while clients come and go; returns how many messages were received.
async fn random_posts(seed: u64, posts: usize, members_max: usize) -> usize {
    let mut rig = Rig::new(&config(""), 2);
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut random = move |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % below
    };
    let mut posted: Vec<PushAddress> = Vec::new();
    let mut there: BTreeMap<usize, Watched> = BTreeMap::new();
    let mut received = 0;
    let mut next = 0;
    while posted.len() < posts {
        for _ in 0..random(3) {
            if there.len() < members_max {
                let channels: Vec<i64> = (0..6).filter(|_| random(2) == 0).collect();
                let (shard, wire) = (random(2), WIRES[random(3)]);
                let number = random(4) as i64;
                let member = Member::join(&mut rig, shard, wire, number, &channels);
                there.insert(next, Watched::new(member, posted.len()));
                next += 1;
            }
        }
        for _ in 0..random(60) {
            let address = match random(4) {
                0 => user(random(5) as i64),
                _ => channel(random(7) as i64),
            };
            let text = posted.len().to_string();
            post(&mut rig, &address, &text);
            posted.push(address);
        }
        for watched in there.values_mut() {
            if watched.from_max.is_none() && watched.member.is_in {
                watched.from_max = Some(posted.len());
            }
        }
        rig.turn().await;
        rig.now = rig.now + Duration::from_millis(1);
        there.values_mut().for_each(|watched| watched.member.pump());
        if random(4) == 0 && !there.is_empty() {
            // Leaves; what is on its way to it is read first.
            let at = *there.keys().nth(random(there.len())).unwrap();
            let mut watched = there.remove(&at).unwrap();
            for _ in 0..6 {
                rig.turn().await;
                watched.member.pump();
                there.values_mut().for_each(|watched| watched.member.pump());
            }
            watched.check(&posted, posted.len());
            received += watched.member.got.len();
        }
    }
    for _ in 0..20 {
        rig.turn().await;
        there.values_mut().for_each(|watched| watched.member.pump());
    }
    for watched in there.values() {
        watched.check(&posted, posted.len());
        received += watched.member.got.len();
    }
    assert_eq!(rig.router.counters().members, there.len());
    received
}

#[test]
fn of_100_000_random_posts_none_is_lost_doubled_or_out_of_order() {
    run(|| async {
        let received = random_posts(1, 100_000, 24).await;
        assert!(received > 200_000, "{received}");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn random_posts_under_any_seed(seed: u64) {
        run(move || async move {
            random_posts(seed, 400, 8).await;
        });
    }
}

#[test]
fn at_the_cap_of_what_is_on_its_way_a_post_is_not_taken() {
    run(|| async {
        let mut rig = Rig::new(&config(""), 1);
        let mut member = Member::join(&mut rig, 0, PushWire::Rtmp, 1, &[1]);
        turns(&mut rig, 10, &mut [&mut member]).await;
        let body = PushBody::Text("x".to_owned());
        let now = rig.now;
        let post = |rig: &mut Rig| rig.router.post("__defaultVhost__", &channel(1), &body, now);
        let taken = (0..100_000).take_while(|_| post(&mut rig).is_some()).count();
        assert_eq!(taken, limits::PUSH_IN_FLIGHT_MESSAGES_MAX);
        rig.control_turn();
        turns(&mut rig, 10, &mut [&mut member]).await;
        assert!(post(&mut rig).is_some(), "the shard has taken them");
    });
}
