//! What clients send, in the orders of real ones, and what they are answered.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::config::Sources;
use crate::media::{Epoch, StreamId, Tracks};
use crate::proto::rtmp::chunk_writer::{MessageHeader, write_full};
use crate::proto::rtmp::client::{ClientConfig, ClientEvent, ClientSession, Role};
use crate::proto::rtmp::command;
use crate::session::{Audience, Membership};

mod players;

/// A session, its clock, and what it has said.
struct Server {
    session: RtmpSession,
    now: Moment,
    out: Vec<u8>,
    events: Vec<Event>,
    closed: Option<CloseReason>,
    settings: Arc<Settings>,
    /// Questions are answered with this refusal, by the kind of question; others are accepted.
    refuse: Option<(&'static str, RefusalReason)>,
    /// Connections are members of the push channel.
    is_member: bool,
    /// Questions wait.
    is_slow: bool,
    reader: ChunkReader,
    /// Commands and user control messages to the client, as text.
    said: Vec<String>,
}

fn server(toml: &str) -> Server {
    let file = Some(("test.toml".to_owned(), toml.to_owned()));
    let sources = Sources { file, environment: Vec::new(), set: Vec::new() };
    let settings = Arc::new(Settings::load(&sources).unwrap());
    let now = Moment::ZERO + Duration::from_secs(50);
    let peer = "192.0.2.1:1000".parse().unwrap();
    Server {
        session: RtmpSession::new(Arc::clone(&settings), ClientId(7), peer, 1, now),
        now,
        out: Vec::new(),
        events: Vec::new(),
        closed: None,
        settings,
        refuse: None,
        is_member: false,
        is_slow: false,
        reader: ChunkReader::new(ReaderLimits {
            message_bytes_max: 1 << 20,
            chunk_streams_max: 64,
            partial_bytes_max: 1 << 21,
        }),
        said: Vec::new(),
    }
}

fn word(want: &Want) -> &'static str {
    match want {
        Want::Connect => "connect",
        Want::Publish { .. } => "publish",
        Want::Play { .. } => "play",
    }
}

impl Server {
    fn drive(
        &mut self,
        call: impl FnOnce(&mut RtmpSession, &mut Io<'_>) -> Result<(), CloseReason>,
    ) {
        if self.closed.is_some() {
            return;
        }
        let mut io = Io { now: self.now, out: &mut self.out, events: &mut self.events };
        if let Err(reason) = call(&mut self.session, &mut io) {
            let mut io = Io { now: self.now, out: &mut self.out, events: &mut self.events };
            self.session.farewell(&reason, &mut io);
            self.closed = Some(reason);
        }
    }

    fn input(&mut self, bytes: &[u8]) {
        self.drive(|session, io| session.input(bytes, io));
        if !self.is_slow {
            self.answer();
        }
    }

    /// Answers all questions in order, also those that the answers lead to.
    fn answer(&mut self) {
        while let Some(at) = self.events.iter().position(|it| matches!(it, Event::Ask { .. })) {
            let Event::Ask { serial, want } = self.events.remove(at) else { return };
            let verdict = self.verdict(&want);
            self.drive(|session, io| session.verdict(serial, &verdict, io));
        }
    }

    fn verdict(&self, want: &Want) -> Verdict {
        if let Some((kind, reason)) = self.refuse
            && kind == word(want)
        {
            return Verdict::Refuse(Refusal::new(reason, "the reason why"));
        }
        let settings = self.settings.app("__defaultVhost__", "live", "_definst_");
        Verdict::Accept(match want {
            Want::Connect => {
                let membership = Membership { client: ClientId(7), targets: Vec::new() };
                let push = self.is_member.then(|| Arc::new(membership));
                Grant::Connect { client: Arc::default(), settings, push }
            }
            Want::Publish { name, .. } => Grant::Publish {
                stream: StreamId(1),
                epoch: Epoch(1),
                name: name.clone(),
                resume: None,
                settings,
            },
            Want::Play { name, .. } => Grant::Play {
                stream: StreamId(1),
                name: name.clone(),
                owner: None,
                lease: None,
                connected: None,
                audience: Audience::default(),
                settings,
            },
        })
    }

    fn tick_after(&mut self, wait: Duration) {
        self.now = self.now + wait;
        self.drive(|session, io| session.tick(io));
    }

    /// What was said to the client since the last call; the handshake is skipped.
    fn said(&mut self) -> Vec<String> {
        let out = std::mem::take(&mut self.out);
        let mut rest = &out[..];
        if self.said.is_empty() {
            rest = rest.get(1 + 2 * 1536..).unwrap_or(&[]);
            self.said.push("handshake".to_owned());
        }
        let mut said = Vec::new();
        loop {
            let read = self.reader.read(rest).expect("well-formed chunks");
            rest = &rest[read.consumed..];
            match read.message {
                Some(message) => said.extend(text(&message)),
                None => return said,
            }
        }
    }

    fn handshake(&mut self) {
        let mut hello = vec![3];
        hello.resize(1 + 1536, 0);
        self.input(&hello);
        self.input(&[0; 1536]);
    }

    fn connect(&mut self) {
        self.handshake();
        self.input(&connect());
        self.said();
    }

    fn words(&mut self) -> Vec<String> {
        let events = std::mem::take(&mut self.events).into_iter();
        let words = events.map(|event| match event {
            Event::Ask { want, .. } => format!("ask {}", word(&want)),
            Event::Media(media) => {
                format!("media {} {}", media.message_stream_id, media.track.type_id())
            }
            Event::EndPublish { message_stream_id } => format!("end publish {message_stream_id}"),
            Event::EndPlay { message_stream_id } => format!("end play {message_stream_id}"),
            Event::LeaveApp => "leave app".to_owned(),
            Event::Receive { message_stream_id, reception } => {
                let Reception { tracks: Tracks { audio, video }, is_paused } = reception;
                format!("receive {message_stream_id}: {audio} {video} {is_paused}")
            }
            Event::Relay(news) => format!("relay {news:?}"),
            Event::Mirror => "mirror".to_owned(),
            Event::RoomOpened(_) | Event::RoomText(_) | Event::RoomTextDropped => {
                panic!("rooms are for WebSockets")
            }
            Event::NotRecorded { message_stream_id, kind } => {
                format!("not recorded {message_stream_id} {kind}")
            }
            Event::PushJoin { .. } => "push join".to_owned(),
            Event::PushSend { channel, body } => format!("push send {channel} {body:?}"),
        });
        words.collect()
    }
}

fn text(message: &Message) -> Option<String> {
    match message.type_id {
        message::COMMAND_AMF0 | message::COMMAND_AMF3 => {
            let body = message::amf0_body(message.type_id, &message.payload);
            let call = Command::parse(&body).unwrap();
            let values = std::iter::once(&call.object).chain(&call.args);
            let found = |key: &str| {
                let mut texts = values.clone().filter_map(|it| it.property(key)?.as_str());
                texts.next().map(str::to_owned)
            };
            let code = found("code").unwrap_or_default();
            let level = found("level").unwrap_or_default();
            let form = if message.type_id == message::COMMAND_AMF3 { "amf3 " } else { "" };
            Some(format!("{form}{} {level} {code}", call.name).trim().replace("  ", " "))
        }
        message::USER_CONTROL => {
            Some(format!("{:?}", UserControl::parse(&message.payload).unwrap()))
        }
        _ => None,
    }
}

fn message_bytes(stream: u32, type_id: u8, payload: &[u8], chunk_size: usize) -> Vec<u8> {
    let chunk_stream_id = if type_id == message::COMMAND_AMF0 { 3 } else { 4 + u32::from(type_id) };
    let header =
        MessageHeader { chunk_stream_id, message_stream_id: stream, type_id, timestamp_ms: 0 };
    let mut out = Vec::new();
    write_full(&header, payload, chunk_size, &mut |bytes| out.extend_from_slice(bytes));
    out
}

fn call(stream: u32, name: &str, transaction: f64, args: &[Value]) -> Vec<u8> {
    let payload = command::encode(name, transaction, &Value::Null, args);
    message_bytes(stream, message::COMMAND_AMF0, &payload, 128)
}

fn connect() -> Vec<u8> {
    connect_with(0.0)
}

fn connect_with(caps_ex: f64) -> Vec<u8> {
    let object = Value::object([
        ("app", Value::from("live")),
        ("tcUrl", Value::from("rtmp://localhost/live")),
        ("capsEx", Value::from(caps_ex)),
    ]);
    let payload = command::encode("connect", 1.0, &object, &[]);
    message_bytes(0, message::COMMAND_AMF0, &payload, 128)
}

fn publish(name: &str) -> Vec<u8> {
    call(1, "publish", 5.0, &[name.into(), "live".into()])
}

fn media(type_id: u8, payload: &[u8]) -> Vec<u8> {
    message_bytes(1, type_id, payload, 128)
}

const VIDEO_HEADER: &[u8] = &[0x17, 0, 0, 0, 0, 1];
const KEYFRAME: &[u8] = &[0x17, 1, 0, 0, 0, 9, 9];

fn client(role: Role) -> ClientSession {
    ClientSession::new(ClientConfig {
        app: "live".to_owned(),
        tc_url: "rtmp://localhost/live".to_owned(),
        stream: "s?key=1".to_owned(),
        role,
        flash_version: "test".to_owned(),
        digest: true,
        connect_properties: Vec::new(),
        connect_args: Vec::new(),
        chunk_size: 60_000,
        seed: 1,
    })
}

/// Lets client and server talk until both are silent.
fn talk(
    server: &mut Server,
    client: &mut ClientSession,
    mut to_server: Vec<u8>,
) -> Vec<ClientEvent> {
    let mut events = Vec::new();
    loop {
        server.input(&to_server);
        to_server.clear();
        let bytes = std::mem::take(&mut server.out);
        if bytes.is_empty() {
            return events;
        }
        let mut rest = &bytes[..];
        loop {
            let progress = client.input(rest, &mut to_server).unwrap();
            rest = &rest[progress.consumed..];
            match progress.event {
                Some(event) => events.push(event),
                None => break,
            }
        }
    }
}

#[test]
fn ffmpeg_publishes_and_says_goodbye() {
    let (mut server, mut client) = (server(""), client(Role::Publish));
    let mut hello = Vec::new();
    client.start(&mut hello);
    let events = talk(&mut server, &mut client, hello);
    assert!(events.contains(&ClientEvent::PublishStarted), "{events:?}");
    let mut out = Vec::new();
    client.publish_media(message::VIDEO, 0, KEYFRAME, &mut out);
    client.close(&mut out);
    let events = talk(&mut server, &mut client, out);
    assert_eq!(server.words(), ["media 1 9", "end publish 1"]);
    let is_success = |event: &ClientEvent| matches!(event, ClientEvent::Status { code, .. } if code == "NetStream.Unpublish.Success");
    assert_eq!(events.iter().filter(|event| is_success(event)).count(), 1, "{events:?}");
}

#[test]
fn ffmpeg_plays() {
    let (mut server, mut client) = (server(""), client(Role::Play));
    let mut hello = Vec::new();
    client.start(&mut hello);
    let events = talk(&mut server, &mut client, hello);
    assert!(events.contains(&ClientEvent::PlayStarted), "{events:?}");
    server.drive(|session, io| {
        session.stream_up(1, io);
        session.stream_down(1, io);
        Ok(())
    });
    let said = talk(&mut server, &mut client, Vec::new());
    assert!(said.contains(&ClientEvent::StreamEof));
}

#[test]
fn obs_sets_its_chunk_size_before_connect_and_publishes_on_several_streams() {
    let mut server = server("");
    server.handshake();
    let mut bytes = message_bytes(0, message::SET_CHUNK_SIZE, &4096_u32.to_be_bytes(), 128);
    bytes.extend(connect());
    for (stream, name) in [(1, "a"), (2, "b")] {
        let key = Value::from(name);
        bytes.extend(call(0, "releaseStream", 2.0, std::slice::from_ref(&key)));
        bytes.extend(call(0, "FCPublish", 3.0, std::slice::from_ref(&key)));
        bytes.extend(call(0, "createStream", 4.0, &[]));
        bytes.extend(call(stream, "publish", 5.0, &[key, "live".into()]));
    }
    server.input(&bytes);
    let said = server.said();
    let starts = said.iter().filter(|it| *it == "onStatus status NetStream.Publish.Start").count();
    assert_eq!(starts, 2, "{said:?}");
    let mut bytes = message_bytes(2, message::VIDEO, &[0x17; 3_000], 4096);
    bytes.extend(call(0, "FCUnpublish", 6.0, &["a".into()]));
    bytes.extend(call(0, "deleteStream", 7.0, &[1.0.into()]));
    server.input(&bytes);
    assert_eq!(server.words(), ["media 2 9", "end publish 1"]);
}

#[test]
fn librtmp_players_and_gstreamer_are_answered() {
    let mut server = server("");
    server.connect();
    let mut bytes = message_bytes(0, message::WINDOW_ACK_SIZE, &2_500_000_u32.to_be_bytes(), 128);
    bytes.extend(call(0, "createStream", 2.0, &[]));
    bytes.extend(call(0, "FCSubscribe", 3.0, &["s".into()]));
    bytes.extend(call(0, "getStreamLength", 4.0, &["s".into()]));
    bytes.extend(call(1, "play", 5.0, &["s".into(), (-1000.0).into()]));
    let buffer = UserControl::SetBufferLength { stream_id: 1, ms: 36_000 };
    bytes.extend(message_bytes(0, message::USER_CONTROL, &buffer.encode(), 128));
    bytes.extend(call(0, "somethingElse", 6.0, &[]));
    server.input(&bytes);
    let said = server.said();
    let expected = [
        "_result",
        "_result",
        "onFCSubscribe status NetStream.Play.Start",
        "_result",
        "StreamBegin(1)",
        "onStatus status NetStream.Play.Reset",
        "onStatus status NetStream.Play.Start",
        "_error error NetConnection.Call.Failed",
    ];
    let mut sorted = (said.clone(), expected.map(str::to_owned).to_vec());
    sorted.0.sort();
    sorted.1.sort();
    assert_eq!(sorted.0, sorted.1, "{said:?}");

    // GStreamer's sink names the stream where the others give its number.
    server.input(&call(0, "createStream", 7.0, &[]));
    server.input(&call(2, "publish", 0.0, &["p".into(), "live".into()]));
    server.input(&call(0, "deleteStream", 0.0, &["p".into()]));
    assert_eq!(server.words(), ["end publish 2"]);
}

#[test]
fn a_refusal_is_said_in_the_terms_that_clients_know_and_then_closes() {
    use RefusalReason::*;
    let table = [
        ("connect", Limit, "_error error NetConnection.Connect.Rejected"),
        ("connect", UnknownApp, "_error error NetConnection.Connect.InvalidApp"),
        ("connect", Unavailable, "_error error NetConnection.Connect.Rejected"),
        ("connect", Draining, "_error error NetConnection.Connect.AppShutdown"),
        ("publish", NameTaken, "onStatus error NetStream.Publish.BadName"),
        ("publish", Denied, "onStatus error NetStream.Publish.Denied"),
        ("publish", Limit, "onStatus error NetStream.Publish.Denied"),
        ("publish", Unavailable, "onStatus error NetStream.Publish.Denied"),
        ("play", NotPublished, "onStatus error NetStream.Play.StreamNotFound"),
        ("play", Denied, "onStatus error NetStream.Play.Failed"),
        ("play", Limit, "onStatus error NetStream.Play.Failed"),
        ("play", Unavailable, "onStatus error NetStream.Play.Failed"),
    ];
    for (kind, reason, expected) in table {
        let mut server = server("");
        server.refuse = Some((kind, reason));
        server.handshake();
        server.input(&connect());
        server.input(&call(0, "createStream", 2.0, &[]));
        server.input(&call(1, kind, 3.0, &["s".into()]));
        let said = server.said();
        // Connect is told before its error.
        let last = said.iter().rfind(|it| it.contains("error")).cloned();
        assert_eq!(last.as_deref(), Some(expected), "{kind} {reason:?}: {said:?}");
        assert_eq!(server.closed, Some(CloseReason::Refused("the reason why".to_owned())));
        assert!(!said.iter().any(|it| it.contains(".Start")), "{said:?}");
    }
}

#[test]
fn a_server_that_closes_says_why() {
    let table = [
        (true, CloseReason::Replaced("x".into()), "onStatus error NetStream.Publish.BadName"),
        (true, CloseReason::PublisherIdle, "onStatus status NetStream.Publish.Idle"),
        (true, CloseReason::Draining, "onStatus error NetConnection.Connect.AppShutdown"),
        (false, CloseReason::Stalled, "onStatus status NetConnection.Connect.Closed"),
        (
            false,
            CloseReason::NotPublished("x".into()),
            "onStatus error NetStream.Play.StreamNotFound",
        ),
        (false, CloseReason::Limit("x".into()), "onStatus error NetStream.Play.Failed"),
    ];
    for (is_publisher, reason, expected) in table {
        let mut server = server("");
        server.connect();
        server.input(&call(0, "createStream", 2.0, &[]));
        let kind = if is_publisher { "publish" } else { "play" };
        server.input(&call(1, kind, 3.0, &["s".into()]));
        server.said();
        server.drive(|_, _| Err(reason));
        assert_eq!(server.said(), [expected]);
    }
}

#[test]
fn a_server_that_drains_asks_those_to_connect_again_who_can() {
    let shutdown = "onStatus error NetConnection.Connect.AppShutdown";
    let again = "onStatus status NetConnection.Connect.ReconnectRequest";
    for (caps_ex, expected) in [(14.0, vec![shutdown]), (15.0, vec![again, shutdown])] {
        let mut server = server("");
        server.handshake();
        server.input(&connect_with(caps_ex));
        server.said();
        server.drive(|_, _| Err(CloseReason::Draining));
        assert_eq!(server.said(), expected);
    }
    // Who waits for the answer to connect gets that answer.
    let mut server = server("");
    server.is_slow = true;
    server.handshake();
    server.input(&connect());
    server.said();
    server.drive(|_, _| Err(CloseReason::Draining));
    let said = server.said();
    assert_eq!(
        said.last().map(String::as_str),
        Some("_error error NetConnection.Connect.AppShutdown")
    );
}

#[test]
fn commands_that_do_not_wait_for_the_answer_to_connect_are_kept_in_order() {
    let mut server = server("");
    server.is_slow = true;
    server.handshake();
    let mut bytes = connect();
    bytes.extend(call(0, "createStream", 4.0, &[]));
    bytes.extend(publish("s"));
    server.input(&bytes);
    assert_eq!(server.said(), [] as [&str; 0], "nothing is said before the verdict");
    server.answer();
    let said = server.said();
    assert_eq!(said.last().map(String::as_str), Some("onStatus status NetStream.Publish.Start"));
}

#[test]
fn what_waits_for_the_answer_to_connect_is_bounded() {
    for (count, len) in [(33, 10), (5, 60_000)] {
        let mut server = server("");
        server.is_slow = true;
        server.handshake();
        server.input(&connect());
        let long = Value::from("x".repeat(len).as_str());
        for _ in 0..count {
            assert_eq!(server.closed, None);
            server.input(&call(0, "FCPublish", 2.0, std::slice::from_ref(&long)));
        }
        assert!(matches!(server.closed, Some(CloseReason::Protocol(_))), "{count} of {len}");
    }
}

#[test]
fn of_what_comes_before_the_verdict_only_headers_are_kept() {
    let mut server = server("");
    server.connect();
    server.input(&call(0, "createStream", 4.0, &[]));
    server.is_slow = true;
    server.input(&publish("s"));
    let metadata = {
        let mut body = Vec::new();
        for value in [Value::from("@setDataFrame"), Value::from("onMetaData"), Value::Null] {
            value.encode(&mut body);
        }
        body
    };
    for (type_id, payload) in [
        (message::DATA_AMF0, &metadata[..]),
        (message::VIDEO, VIDEO_HEADER),
        (message::AUDIO, &[0xaf, 0, 0x12, 0x10]),
        (message::VIDEO, KEYFRAME),
        (message::AUDIO, &[0xaf, 1, 5]),
    ] {
        server.input(&media(type_id, payload));
    }
    assert_eq!(server.words_but_asks(), [] as [&str; 0]);
    server.answer();
    assert_eq!(server.words(), ["media 1 18", "media 1 9", "media 1 8"]);
}

impl Server {
    /// The events so far without the questions, which stay.
    fn words_but_asks(&mut self) -> Vec<String> {
        let (asks, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.events)
            .into_iter()
            .partition(|event| matches!(event, Event::Ask { .. }));
        self.events = others;
        let words = self.words();
        self.events = asks;
        words
    }
}

#[test]
fn early_headers_are_bounded() {
    let mut server = server("");
    server.connect();
    server.input(&call(0, "createStream", 4.0, &[]));
    server.is_slow = true;
    server.input(&publish("s"));
    for _ in 0..20_000 {
        server.input(&media(message::VIDEO, VIDEO_HEADER));
    }
    server.answer();
    assert!(server.words().len() < 6_000);
}

#[test]
fn an_answer_that_nobody_awaits_any_more_is_ignored() {
    for change in [
        call(0, "deleteStream", 6.0, &[1.0.into()]),
        call(1, "closeStream", 0.0, &[]),
        call(1, "publish", 0.0, &[Value::Boolean(false)]),
        call(0, "deleteStream", 6.0, &[1.0.into()])
            .into_iter()
            .chain(call(0, "createStream", 7.0, &[]))
            .collect(),
    ] {
        let mut server = server("");
        server.connect();
        server.input(&call(0, "createStream", 4.0, &[]));
        server.is_slow = true;
        server.input(&publish("s"));
        server.input(&change);
        let serial = server.session.next_serial - 1;
        assert_eq!(server.session.message_stream_of(serial), None);
        server.answer();
        assert_eq!(server.closed, None);
        assert!(!server.said().iter().any(|it| it.contains("Publish.Start")));
        server.input(&media(message::VIDEO, KEYFRAME));
        assert_eq!(server.words(), [] as [&str; 0]);
    }
}

#[test]
fn a_second_command_on_a_stream_ends_the_first() {
    let mut server = server("");
    server.connect();
    server.input(&call(0, "createStream", 4.0, &[]));
    server.input(&call(1, "play", 0.0, &["a".into()]));
    server.input(&call(1, "play", 0.0, &["b".into()]));
    server.input(&publish("c"));
    server.input(&call(1, "publish", 0.0, &[Value::Null]));
    server.input(&call(1, "publish", 0.0, &["null".into()]));
    assert_eq!(server.words(), ["end play 1", "end play 1", "end publish 1"]);
    assert_eq!(server.closed, None);
}

#[test]
fn what_is_no_rtmp_closes_the_connection() {
    let bad: [&[u8]; 5] = [
        &publish("s"),
        &connect(),
        &call(0, "publish", 0.0, &["s".into()]),
        &call(7, "play", 0.0, &["s".into()]),
        &message_bytes(0, message::COMMAND_AMF0, &[0xff, 0, 0], 128),
    ];
    for bytes in bad {
        let mut server = server("");
        server.connect();
        server.input(bytes);
        assert!(matches!(server.closed, Some(CloseReason::Protocol(_))), "{:?}", server.closed);
    }
}

#[test]
fn a_connection_has_eight_streams() {
    let mut server = server("");
    server.connect();
    for _ in 0..9 {
        server.input(&call(0, "createStream", 4.0, &[]));
    }
    let said = server.said();
    assert_eq!(said.iter().filter(|it| *it == "_result").count(), 8);
    assert_eq!(said.last().map(String::as_str), Some("_error error NetConnection.Call.Failed"));
    assert_eq!(server.closed, None);
}

#[test]
fn a_question_that_nobody_answers_is_refused_in_the_end() {
    let wait = limits::VERDICT_WAIT_MAX;
    // Those who do not answer pings in between would be closed for that.
    let toml = "[rtmp]\nping = \"0s\"\n";
    for (name, expected) in
        [("connect", "NetConnection.Connect.Rejected"), ("publish", "NetStream.Publish.Denied")]
    {
        let mut server = server(toml);
        server.handshake();
        if name == "publish" {
            server.input(&connect());
            server.input(&call(0, "createStream", 4.0, &[Value::Null]));
        }
        server.said();
        server.is_slow = true;
        server.input(&if name == "connect" { connect() } else { publish("cam") });
        server.tick_after(wait - Duration::from_secs(1));
        assert_eq!(server.closed, None, "{name}");
        server.tick_after(Duration::from_secs(2));
        let said = server.said().join(" ");
        assert!(said.contains(expected), "{name}: {said}");
        let refused = CloseReason::Refused("authorisation is not available".to_owned());
        assert_eq!(server.closed, Some(refused), "{name}");
    }
}

#[test]
fn time_outs_close_and_activity_keeps() {
    let toml = "limits.handshake_timeout = \"10s\"\nlimits.idle_connection = \"60s\"\n\
                rtmp.ping = \"20s\"\nrtmp.ping_timeout = \"5s\"\n\
                [apps.default]\npublish.idle_timeout = \"30s\"\n";
    let seconds = Duration::from_secs;
    let mut silent = server(toml);
    silent.tick_after(seconds(10));
    assert_eq!(silent.closed, None);
    silent.tick_after(seconds(1));
    assert_eq!(silent.closed, Some(CloseReason::HandshakeTimeout));

    let mut deaf = server(toml);
    deaf.connect();
    deaf.tick_after(seconds(21));
    assert!(deaf.said().iter().any(|it| it.starts_with("PingRequest")));
    deaf.tick_after(seconds(6));
    assert_eq!(deaf.closed, Some(CloseReason::PingTimeout));

    let mut idle = server(toml);
    idle.connect();
    for _ in 0..6 {
        assert_eq!(idle.closed, None);
        idle.tick_after(seconds(11));
        let pong = UserControl::PingResponse(1).encode();
        idle.input(&message_bytes(0, message::USER_CONTROL, &pong, 128));
    }
    assert_eq!(idle.closed, Some(CloseReason::Idle));

    let mut publisher = server(toml);
    publisher.connect();
    publisher.input(&call(0, "createStream", 4.0, &[]));
    publisher.input(&publish("s"));
    for _ in 0..10 {
        publisher.tick_after(seconds(15));
        publisher.input(&media(message::VIDEO, KEYFRAME));
        assert_eq!(publisher.closed, None);
    }
    let pong = UserControl::PingResponse(1).encode();
    publisher.tick_after(seconds(15));
    publisher.input(&message_bytes(0, message::USER_CONTROL, &pong, 128));
    publisher.tick_after(seconds(16));
    assert_eq!(publisher.closed, Some(CloseReason::PublisherIdle), "pings are no media");
}

#[test]
fn max_bitrate_allows_bursts_but_not_a_higher_rate() {
    // (bytes per message, messages per second, does it hold for a minute)
    for (bytes, per_second, holds) in [(12_000, 10, true), (13_500, 10, false)] {
        let mut server = server("[apps.default]\nmax_bitrate = \"1M\"\n");
        server.connect();
        server.input(&call(0, "createStream", 4.0, &[]));
        server.input(&publish("s"));
        let frame = media(message::VIDEO, &vec![0x27; bytes]);
        for _ in 0..60 * per_second {
            server.input(&frame);
            server.now = server.now + Duration::from_millis(1_000 / per_second);
        }
        assert_eq!(server.closed.is_none(), holds, "{bytes}");
    }
}

/// A whole session as bytes: publish on one stream, play on another; what waits for no answer, and
/// the rest.
fn session_bytes() -> [Vec<u8>; 2] {
    let mut bytes = vec![3];
    bytes.resize(1 + 2 * 1536, 0);
    bytes.extend(connect());
    bytes.extend(call(0, "createStream", 2.0, &[]));
    bytes.extend(call(0, "createStream", 3.0, &[]));
    bytes.extend(publish("s"));
    bytes.extend(call(2, "play", 0.0, &["t".into()]));
    let mut rest = media(message::VIDEO, VIDEO_HEADER);
    rest.extend(media(message::VIDEO, &[0x17; 400]));
    rest.extend(call(0, "FCUnpublish", 6.0, &["s".into()]));
    rest.extend(call(0, "deleteStream", 7.0, &[1.0.into()]));
    rest.extend(call(2, "closeStream", 0.0, &[]));
    [bytes, rest]
}

#[test]
fn a_goodbye_before_the_verdict_takes_the_question_back() {
    let mut server = server("");
    server.connect();
    server.input(&call(0, "createStream", 4.0, &[]));
    server.is_slow = true;
    server.input(&publish("s?key=1"));
    server.input(&call(0, "FCUnpublish", 6.0, &["s".into()]));
    assert_eq!(server.session.message_stream_of(server.session.next_serial - 1), None);
}

/// Feeds bytes in pieces, with answers before or after; checks that starts and ends are paired.
fn feed(bytes: &[u8], pieces: &[usize], is_slow: bool) {
    let mut server = server("");
    server.is_slow = is_slow;
    let mut rest = bytes;
    let mut pieces = pieces.iter().cycle();
    let mut turns = 0;
    while !rest.is_empty() && server.closed.is_none() {
        let count = pieces.next().copied().unwrap_or(1).clamp(1, rest.len());
        server.input(&rest[..count]);
        rest = &rest[count..];
        turns += 1;
        if turns % 7 == 0 {
            server.answer();
        }
        server.tick_after(Duration::from_millis(1));
    }
    server.answer();
    assert!(server.out.len() < 1 << 20);
    assert!(server.session.streams.len() <= limits::MESSAGE_STREAMS_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn junk_never_panics(
        junk in prop::collection::vec(any::<u8>(), 0..4_000),
        pieces in prop::collection::vec(1_usize..700, 1..10),
        with_handshake in any::<bool>(),
    ) {
        let mut bytes = Vec::new();
        if with_handshake {
            bytes.push(3);
            bytes.resize(1 + 2 * 1536, 0);
            bytes.extend(connect());
        }
        bytes.extend(junk);
        feed(&bytes, &pieces, false);
    }

    #[test]
    fn a_damaged_session_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        pieces in prop::collection::vec(1_usize..2_000, 1..10),
        is_slow in any::<bool>(),
    ) {
        let mut bytes = session_bytes().concat();
        for (at, byte) in changes {
            // The handshake's random part is not looked at.
            let at = 1 + 2 * 1536 + at.index(bytes.len() - 1 - 2 * 1536);
            bytes[at] = byte;
        }
        let cut = cut.index(bytes.len());
        if cut > 4_000 {
            bytes.truncate(cut);
        }
        feed(&bytes, &pieces, is_slow);
    }

    #[test]
    fn the_meaning_does_not_depend_on_how_the_bytes_were_split(
        pieces in prop::collection::vec(1_usize..500, 1..20),
    ) {
        let mut server = server("");
        let mut pieces = pieces.iter().cycle();
        for bytes in session_bytes() {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let count = pieces.next().copied().unwrap_or(1).clamp(1, rest.len());
                server.input(&rest[..count]);
                rest = &rest[count..];
            }
        }
        prop_assert_eq!(&server.closed, &None);
        prop_assert_eq!(server.words(), ["media 1 9", "media 1 9", "end publish 1", "end play 2"]);
    }
}

#[test]
fn junk_in_the_body_of_commands_is_no_bug() {
    for payload in [&b""[..], &[2], &[2, 0, 4, b'p'], &[2, 0, 4, b'p', b'l', b'a', b'y', 0]] {
        let mut server = server("");
        server.connect();
        server.input(&message_bytes(1, message::COMMAND_AMF0, payload, 128));
        server.input(&message_bytes(1, message::COMMAND_AMF3, payload, 128));
        let payload = Bytes::copy_from_slice(payload);
        let _ = Command::parse(&payload);
    }
}

fn connect_with_args(args: &[Value]) -> Vec<u8> {
    let object = Value::object([("app", Value::from("live"))]);
    let payload = command::encode("connect", 1.0, &object, args);
    message_bytes(0, message::COMMAND_AMF0, &payload, 128)
}

#[test]
fn the_first_argument_of_connect_is_a_session_when_it_is_a_string() {
    let long = "x".repeat(limits::PUSH_TOKEN_BYTES_MAX + 500);
    let cut = &long[..limits::PUSH_TOKEN_BYTES_MAX + 1];
    let table: [(Vec<Value>, Option<&str>); 6] = [
        (vec![], None),
        (vec![Value::from("a--b"), Value::Number(142.0)], Some("a--b")),
        (vec![Value::Number(142.0), Value::from("a--b")], None),
        (vec![Value::from("")], None),
        (vec![Value::Null], None),
        (vec![Value::from(long.as_str())], Some(cut)),
    ];
    for (args, expected) in table {
        let mut server = server("");
        server.is_slow = true;
        server.handshake();
        server.input(&connect_with_args(&args));
        let client = server.session.client().expect("connect was read");
        assert_eq!(client.session.as_deref(), expected, "{args:.60?}");
    }
}

#[test]
fn a_member_may_be_silent_for_as_long_as_it_answers_pings() {
    for is_member in [false, true] {
        let toml = "limits.idle_connection = \"20s\"\nrtmp.ping = \"60s\"";
        let mut server = server(toml);
        server.is_member = is_member;
        server.connect();
        server.tick_after(Duration::from_secs(21));
        assert_eq!(server.closed.is_none(), is_member);
        server.tick_after(Duration::from_secs(60));
        server.tick_after(Duration::from_secs(60));
        assert!(server.closed.is_some());
    }
}

#[test]
fn members_send_to_channels_so_many_at_a_time() {
    let send = |name: &str, args: &[Value]| call(0, name, 0.0, args);
    let hello = [Value::Number(10.0), Value::from("hello")];
    let mut server = server("");
    server.connect();
    server.input(&send("sendMessage", &hello));
    assert_eq!(server.words(), [] as [&str; 0], "no member");
    let mut server = self::server("");
    server.is_member = true;
    server.connect();
    for name in ["sendMessage", "send_message"] {
        server.input(&send(name, &hello));
        assert_eq!(server.words(), ["push send 10 Text(\"hello\")"]);
        server.session.push_sent();
    }
    for wrong in [vec![], vec![Value::Number(1.5), Value::from("x")], vec![Value::from("10")]] {
        server.input(&send("sendMessage", &wrong));
    }
    assert_eq!(server.words(), [] as [&str; 0]);
    for _ in 0..20 {
        server.input(&send("sendMessage", &hello));
    }
    assert_eq!(server.words().len(), limits::PUSH_CLIENT_SENDS_MAX as usize);
    server.session.push_sent();
    server.input(&send("sendMessage", &hello));
    assert_eq!(server.words().len(), 1);
    assert_eq!(server.said(), [] as [&str; 0], "clients await no answer");
}
