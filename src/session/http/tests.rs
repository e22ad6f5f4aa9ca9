use std::io::Cursor;
use std::time::Duration;

use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketContext};
use tungstenite::{Message, WebSocket};

use super::*;
use crate::config::Sources;
use crate::media::StreamId;
use crate::proto::push_message::PushId;
use crate::session::ask::Grant;
use crate::session::{Audience, Membership, PushGrant};

struct Server {
    session: HttpSession,
    out: Vec<u8>,
    events: Vec<Event>,
    now: Moment,
}

fn server(toml: &str) -> Server {
    let file = Some(("test.toml".to_owned(), toml.to_owned()));
    let sources = Sources { file, environment: Vec::new(), set: Vec::new() };
    let settings = Arc::new(Settings::load(&sources).unwrap());
    let peer = "192.0.2.1:1000".parse().unwrap();
    let session = HttpSession::new(settings, ClientId(7), peer, Moment::ZERO);
    Server { session, out: Vec::new(), events: Vec::new(), now: Moment::ZERO }
}

fn request(method: &str, lines: &str) -> String {
    format!("{method} /live/s.flv?key=1 HTTP/1.1\r\nHost: h\r\nReferer: http://p/\r\n{lines}\r\n")
}

const CLOSE_LINE: &str = "Connection: close\r\n";
const UPGRADE_LINES: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

impl Server {
    fn drive<T>(&mut self, call: impl FnOnce(&mut HttpSession, &mut Io<'_>) -> T) -> T {
        let mut io = Io { now: self.now, out: &mut self.out, events: &mut self.events };
        call(&mut self.session, &mut io)
    }

    fn input(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), CloseReason> {
        self.drive(|session, io| session.input(bytes.as_ref(), io))
    }

    fn ask(&mut self, method: &str, lines: &str) {
        assert_eq!(self.input(request(method, lines)), Ok(()));
        assert!(matches!(self.events.last(), Some(Event::Ask { .. })));
    }

    fn verdict(&mut self, verdict: &Verdict) -> Result<(), CloseReason> {
        let serial = self.session.serial;
        self.drive(|session, io| session.verdict(serial, verdict, io))
    }

    fn accept(&mut self) -> Result<(), CloseReason> {
        let grant = Grant::Play {
            stream: StreamId(1),
            name: StreamName::new("__defaultVhost__", "live", "_definst_", "s").unwrap(),
            owner: None,
            lease: None,
            connected: None,
            audience: Audience::default(),
            settings: self.session.settings.app("__defaultVhost__", "live", "_definst_"),
        };
        self.verdict(&Verdict::Accept(grant))
    }

    fn refuse(&mut self, reason: RefusalReason) -> Result<(), CloseReason> {
        self.verdict(&Verdict::Refuse(Refusal::new(reason, "why")))
    }

    fn wait(&mut self, seconds: u64) -> Result<(), CloseReason> {
        self.now = self.now + Duration::from_secs(seconds);
        self.drive(HttpSession::tick)
    }

    /// The heads that went out since the last call, each with its body.
    fn answers(&mut self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut self.out)).unwrap();
        let starts: Vec<usize> = text.match_indices("HTTP/1.1 ").map(|(at, _)| at).collect();
        let ends = starts.iter().skip(1).copied().chain([text.len()]);
        starts.iter().zip(ends).map(|(&start, end)| text[start..end].to_owned()).collect()
    }

    fn statuses(&mut self) -> Vec<String> {
        self.answers().iter().map(|answer| answer[9..12].to_owned()).collect()
    }

    /// The messages behind the head of an upgrade.
    fn messages(&mut self) -> Vec<Message> {
        let out = std::mem::take(&mut self.out);
        let from = match out.starts_with(b"HTTP/1.1 101 ") {
            true => out.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4,
            false => 0,
        };
        let sent = Cursor::new(out[from..].to_vec());
        let mut client = WebSocket::from_raw_socket(sent, Role::Client, None);
        std::iter::from_fn(|| client.read().ok()).collect()
    }

    fn upgraded(toml: &str) -> Self {
        let mut server = server(toml);
        server.ask("GET", UPGRADE_LINES);
        assert_eq!(server.accept(), Ok(()));
        assert!(server.out.starts_with(b"HTTP/1.1 101 "));
        server.out.clear();
        server
    }
}

/// What a client sends.
fn frames(messages: &[Message]) -> Vec<u8> {
    let mut client = WebSocketContext::new(Role::Client, None);
    let mut sent = Cursor::new(Vec::new());
    for message in messages {
        client.write(&mut sent, message.clone()).unwrap();
        client.flush(&mut sent).unwrap();
    }
    sent.into_inner()
}

/// Code and reason of a close frame.
fn close_of(message: &Message) -> (u16, String) {
    let Message::Close(Some(frame)) = message else { panic!("no close frame: {message:?}") };
    (frame.code.into(), frame.reason.to_string())
}

#[test]
fn a_viewer_is_asked_for_and_gets_its_head_with_the_first_frame() {
    let mut server = server("");
    server.ask("GET", "");
    let Some(Event::Ask { want: Want::Play { name, args, http, .. }, .. }) = server.events.pop()
    else {
        panic!("no question")
    };
    assert_eq!((name.stream(), args.as_str(), http), ("s", "key=1", true));
    assert_eq!(server.session.client().map(|it| it.page_url.as_str()), Some("http://p/"));
    assert_eq!(server.accept(), Ok(()));
    assert!(server.out.is_empty(), "the tracks are not known yet");
    server.drive(|session, io| session.media_begins(true, false, io));
    assert!(server.out.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(server.out.ends_with(&flv::header(false, true)));
    let head = String::from_utf8_lossy(&server.out).into_owned();
    assert!(head.contains("\r\nConnection: close\r\n"), "the body ends with the connection");
    let before = server.out.len();
    server.drive(|session, io| session.media_begins(true, true, io));
    server.drive(|session, io| session.farewell(&CloseReason::Done, io));
    assert_eq!(server.input(request("GET", "")), Ok(()), "a viewer that chatters is ignored");
    assert_eq!(server.out.len(), before, "a body has begun");
}

#[test]
fn head_is_answered_without_a_play_and_leaves_the_app() {
    for (lines, end) in [("", Ok(())), (CLOSE_LINE, Err(CloseReason::Done))] {
        let mut server = server("");
        server.ask("HEAD", lines);
        assert_eq!(server.session.message_stream_of(server.session.serial), None);
        assert_eq!(server.accept(), end);
        assert!(matches!(server.events.last(), Some(Event::LeaveApp)));
        assert!(server.out.ends_with(b"\r\n\r\n"));
        assert_eq!(server.statuses(), ["200"]);
    }
}

#[test]
fn refusals_have_their_status() {
    use RefusalReason::*;
    let table = [
        (Denied, "403", true),
        (NotPublished, "404", true),
        (UnknownApp, "404", true),
        (Limit, "503", false),
        (Unavailable, "503", false),
        (Draining, "503", false),
    ];
    let closed = Err(CloseReason::Refused("why".to_owned()));
    for (reason, status, goes_on) in table {
        for lines in ["", UPGRADE_LINES] {
            let mut server = server("");
            server.ask("GET", lines);
            let expected = if goes_on { Ok(()) } else { closed.clone() };
            assert_eq!(server.refuse(reason), expected, "{reason:?}");
            let answer = server.answers().concat();
            assert_eq!(&answer[9..12], status, "{reason:?}");
            assert_eq!(answer.contains("Retry-After"), status == "503");
        }
        let mut server = server("");
        server.ask("GET", CLOSE_LINE);
        assert_eq!(server.refuse(reason), closed, "{reason:?}");
    }
}

#[test]
fn who_waits_is_answered_when_the_wait_is_over() {
    for (reason, status) in [
        (CloseReason::NotPublished("not published".to_owned()), "404"),
        (CloseReason::Done, "404"),
        (CloseReason::Draining, "503"),
        (CloseReason::Limit("logs".to_owned()), "503"),
    ] {
        let mut server = server("");
        server.ask("GET", "");
        assert_eq!(server.accept(), Ok(()));
        server.drive(|session, io| session.farewell(&reason, io));
        let answer = server.answers().concat();
        assert_eq!(&answer[9..12], status);
        assert!(answer.contains("Connection: close"));
    }
}

#[test]
fn what_cannot_be_understood_is_answered_and_counted_apart() {
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000));
    for (request, status) in [("junk\r\n\r\n", "400"), (&long, "431")] {
        let mut server = server("");
        assert!(matches!(server.input(request), Err(CloseReason::Protocol(_))));
        let answer = server.answers().concat();
        assert_eq!(&answer[9..12], status);
        assert!(answer.contains("\r\nConnection: close\r\n"));
    }
}

#[test]
fn other_requests_are_answered() {
    let done = Err(CloseReason::Done);
    for (request, status, end) in [
        ("OPTIONS /live/s.flv HTTP/1.1\r\nHost: h\r\n\r\n", "204", Ok(())),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "204", done.clone()),
        ("POST /live/s.flv HTTP/1.1\r\nHost: h\r\n\r\n", "405", Ok(())),
        ("POST /live/s.flv HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", "405", Ok(())),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", "405", done.clone()),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: x\r\n\r\n", "405", done.clone()),
        ("GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n", "404", Ok(())),
        ("GET /nothing HTTP/1.0\r\n\r\n", "404", done.clone()),
        ("GET /nothing HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "404", Ok(())),
    ] {
        let mut server = server("");
        assert_eq!(server.input(request), end, "{request:.60}");
        let answer = server.answers().concat();
        assert_eq!(&answer[9..12], status, "{request:.60}");
        let connection = if end.is_ok() { "keep-alive" } else { "close" };
        assert!(answer.contains(&format!("\r\nConnection: {connection}\r\n")), "{answer}");
        // An answer that is not followed by the end of the connection says where it ends.
        assert_eq!(answer.contains("Content-Length: "), status != "204", "{answer}");
        let again = server.input("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(again, Ok(()));
        assert_eq!(server.statuses().len(), usize::from(end.is_ok()), "{request:.60}");
    }
}

#[test]
fn requests_that_come_early_are_answered_in_order() {
    let mut server = server("");
    let nothing = "GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n";
    let options = "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n";
    let head = request("HEAD", "");
    let get = request("GET", "");
    let all = [nothing, options, &get, options, &head, nothing, &get, options].concat();
    for piece in all.as_bytes().chunks(7) {
        assert_eq!(server.input(piece), Ok(()));
    }
    assert_eq!(server.statuses(), ["404", "204"]);
    assert_eq!(server.refuse(RefusalReason::NotPublished), Ok(()));
    assert_eq!(server.statuses(), ["404", "204"]);
    assert_eq!(server.accept(), Ok(()));
    assert_eq!(server.statuses(), ["200", "404"]);
    assert_eq!(server.refuse(RefusalReason::Denied), Ok(()));
    assert_eq!(server.statuses(), ["403", "204"]);
    let serials: Vec<u32> = server
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Ask { serial, .. } => Some(*serial),
            _ => None,
        })
        .collect();
    assert_eq!(serials, [1, 2, 3]);
    assert_eq!(server.session.unread.capacity(), 0, "an idle connection holds nothing");
}

#[test]
fn a_verdict_that_nobody_awaits_is_ignored() {
    let mut server = server("");
    server.ask("GET", "");
    assert_eq!(server.refuse(RefusalReason::NotPublished), Ok(()));
    server.ask("GET", "");
    server.out.clear();
    let stale = Verdict::Refuse(Refusal::new(RefusalReason::Denied, "stale"));
    let serial = server.session.serial - 1;
    assert_eq!(server.session.message_stream_of(serial), None);
    assert_eq!(server.drive(|session, io| session.verdict(serial, &stale, io)), Ok(()));
    assert_eq!(server.statuses(), [] as [&str; 0]);
    assert_eq!(server.session.message_stream_of(server.session.serial), Some(0));
}

#[test]
fn what_waits_behind_a_request_is_bounded() {
    let mut server = server("");
    server.ask("GET", "");
    let options = "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1_000);
    assert_eq!(server.input(&options), Ok(()));
    assert_eq!(server.session.unread.len(), limits::HTTP_HEAD_BYTES_MAX);
    let closed = Err(CloseReason::Refused("why".to_owned()));
    assert_eq!(server.refuse(RefusalReason::NotPublished), closed);
    assert_eq!(server.statuses(), ["404"]);
}

#[test]
fn who_asks_without_reading_is_closed() {
    let mut server = server("");
    let options = "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n".repeat(2_000);
    assert_eq!(server.input(&options), Err(CloseReason::OutputFull));
    assert!(server.out.len() < limits::OUTPUT_BYTES_MAX + 1_000);
}

#[test]
fn a_head_that_does_not_come_in_time_is_answered_when_it_has_begun() {
    let toml = "limits.handshake_timeout = \"10s\"\nlimits.idle_connection = \"60s\"";
    for (begun, status) in [("GET /li", &["408"][..]), ("", &[])] {
        let mut server = server(toml);
        assert_eq!(server.input(begun), Ok(()));
        assert_eq!(server.wait(10), Ok(()));
        assert_eq!(server.wait(1), Err(CloseReason::HandshakeTimeout));
        assert_eq!(server.statuses(), status);
    }
    // The time between two requests is the client's own, up to the idle limit.
    for (begun, reason) in [
        ("", CloseReason::Idle),
        ("GET /li", CloseReason::HandshakeTimeout),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /li", CloseReason::HandshakeTimeout),
    ] {
        let mut server = server(toml);
        assert_eq!(server.input("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), Ok(()));
        assert_eq!(server.wait(50), Ok(()));
        if !begun.is_empty() {
            assert_eq!(server.input(begun), Ok(()));
        }
        assert_eq!(server.wait(10), Ok(()));
        assert_eq!(server.wait(1), Err(reason), "{begun}");
    }
}

#[test]
fn chatter_does_not_put_off_a_verdict_that_does_not_come() {
    let mut server = server("");
    server.ask("GET", "");
    assert_eq!(server.wait(80), Ok(()));
    assert_eq!(server.input(request("GET", "")), Ok(()));
    let late = "authorisation is not available".to_owned();
    assert_eq!(server.wait(11), Err(CloseReason::Refused(late)));
    assert_eq!(server.statuses(), ["503"]);
}

#[test]
fn an_accepted_upgrade_is_answered_at_once_and_the_stream_begins_with_its_header() {
    let mut server = server("");
    server.ask("GET", UPGRADE_LINES);
    assert_eq!((server.session.protocol(), server.session.wire()), ("http", Wire::Flv));
    assert_eq!(server.accept(), Ok(()));
    assert_eq!((server.session.protocol(), server.session.wire()), ("websocket", Wire::WsFlv));
    assert!(
        server.out.ends_with(b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
    );
    for _ in 0..2 {
        server.drive(|session, io| session.media_begins(true, false, io));
    }
    assert_eq!(server.messages(), [Message::binary(flv::header(false, true).to_vec())]);
}

#[test]
fn frames_that_come_with_the_request_are_read() {
    let ping = frames(&[Message::Ping("early".into())]);
    let mut server = server("");
    let all = [request("GET", UPGRADE_LINES).as_bytes(), &ping].concat();
    assert_eq!(server.input(all), Ok(()));
    assert_eq!(server.accept(), Ok(()));
    assert_eq!(server.messages(), [Message::Pong("early".into())]);
    // More than may wait is lost, and a WebSocket with a hole is none.
    let mut server = self::server("");
    server.ask("GET", UPGRADE_LINES);
    assert_eq!(server.input(vec![0; limits::HTTP_HEAD_BYTES_MAX + 1]), Ok(()));
    assert_eq!(server.accept(), Err(CloseReason::Done));
    assert_eq!(server.statuses(), ["400"]);
}

#[test]
fn upgrades_are_refused_as_requests() {
    let no_version = UPGRADE_LINES.replace("Version: 13", "Version: 8");
    let no_key = UPGRADE_LINES.replace("Key: dGhl", "Key: ");
    let no_hop = UPGRADE_LINES.replace("Upgrade: websocket\r\n", "");
    for (lines, status) in [(no_version, "426"), (no_key, "400"), (no_hop, "426")] {
        let mut server = server("");
        assert_eq!(server.input(request("GET", &lines)), Ok(()));
        assert!(server.events.is_empty());
        let answer = server.answers().concat();
        assert_eq!(&answer[9..12], status);
        assert_eq!(answer.contains("Sec-WebSocket-Version: 13"), status == "426");
    }
}

#[test]
fn pages_of_other_origins_open_no_websocket() {
    let (a, b) = ("Origin: https://a\r\n", "Origin: https://b\r\n");
    let table = [
        ("", a, true),
        ("http.origins = [\"https://a\"]", a, true),
        ("http.origins = [\"https://a\"]", b, false),
        ("http.origins = [\"https://a\"]", "", true),
        ("http.cors = [\"https://a\"]", a, true),
        ("http.cors = [\"https://a\"]", b, false),
        ("http.cors = []", "", true),
        ("http.cors = [\"https://a\"]\nhttp.origins = [\"https://b\"]", b, false),
    ];
    for (toml, line, may) in table {
        let mut server = server(toml);
        assert_eq!(server.input(request("GET", &[UPGRADE_LINES, line].concat())), Ok(()));
        assert_eq!(server.events.len(), usize::from(may), "{toml} {line}");
        assert_eq!(server.statuses(), if may { &[][..] } else { &["403"] }, "{toml} {line}");
    }
}

#[test]
fn a_viewer_may_ping_chatter_and_leave() {
    let mut server = Server::upgraded("");
    let chatter = [Message::text("hello"), Message::Ping("1".into()), Message::binary(vec![0; 99])];
    assert_eq!(server.input(frames(&chatter)), Ok(()));
    assert_eq!(server.messages(), [Message::Pong("1".into())]);
    let leave = frames(&[Message::Close(Some(tungstenite::protocol::CloseFrame {
        code: CloseCode::Away,
        reason: "".into(),
    }))]);
    assert_eq!(server.input(&leave), Err(CloseReason::Goodbye(Some(1001))));
    server.drive(|session, io| session.farewell(&CloseReason::Goodbye(Some(1001)), io));
    let said = server.messages();
    assert_eq!((said.len(), close_of(&said[0]).0), (1, 1001), "answered once");
}

#[test]
fn a_viewer_that_breaks_the_rules_or_talks_too_long_is_told_so() {
    let long = frames(&[Message::binary(vec![0; 4_097])]);
    for (input, code) in [(&b"\x82\x01\x00"[..], 1002), (&long, 1009)] {
        let mut server = Server::upgraded("");
        let Err(CloseReason::Protocol(text)) = server.input(input) else { panic!("taken") };
        let reason = CloseReason::Protocol(text.clone());
        server.drive(|session, io| session.farewell(&reason, io));
        let said = server.messages();
        assert_eq!((said.len(), close_of(&said[0])), (1, (code, text)));
    }
}

#[test]
fn a_close_says_why() {
    let table = [
        (CloseReason::Done, 1000, "the stream has ended"),
        (CloseReason::Draining, 1001, "the server is shutting down"),
        (CloseReason::Limit("full".to_owned()), 1013, "full"),
        (CloseReason::NotPublished("nobody".to_owned()), 4404, "nobody"),
        (CloseReason::PingTimeout, 1008, "no answer to a ping within its ping_timeout"),
    ];
    for (reason, code, text) in table {
        let mut server = Server::upgraded("");
        server.drive(|session, io| session.farewell(&reason, io));
        assert_eq!(close_of(&server.messages()[0]), (code, text.to_owned()));
    }
}

#[test]
fn a_silent_viewer_is_pinged_and_given_up() {
    let toml = "http.ping = \"30s\"\nhttp.ping_timeout = \"10s\"";
    let mut server = Server::upgraded(toml);
    for _ in 0..3 {
        assert_eq!(server.wait(30), Ok(()));
        assert_eq!(server.messages(), []);
        assert_eq!(server.wait(1), Ok(()));
        assert_eq!(server.messages(), [Message::Ping("".into())]);
        assert_eq!(server.wait(9), Ok(()));
        assert_eq!(server.input(frames(&[Message::Pong("".into())])), Ok(()));
    }
    assert_eq!(server.wait(31), Ok(()));
    assert_eq!(server.wait(11), Err(CloseReason::PingTimeout));
}

#[test]
fn trusted_proxies_are_believed_and_nobody_else() {
    let table = [
        ("192.0.2.0/24", "X-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9"),
        ("192.0.2.0/24", "X-Forwarded-For: 1.1.1.1, 203.0.113.9, 192.0.2.8\r\n", "203.0.113.9"),
        (
            "192.0.2.0/24",
            "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: [2001:db8::1]:5\r\n",
            "2001:db8::1",
        ),
        ("192.0.2.0/24", "X-Forwarded-For: nonsense\r\n", "192.0.2.1"),
        ("192.0.2.0/24", "", "192.0.2.1"),
        ("198.51.100.0/24", "X-Forwarded-For: 203.0.113.9\r\n", "192.0.2.1"),
    ];
    for (trusted, header, expected) in table {
        let mut server = server(&format!("http.trusted_proxies = [\"{trusted}\"]"));
        let request = format!("GET /live/s.flv HTTP/1.1\r\nHost: h\r\n{header}\r\n");
        assert_eq!(server.input(&request), Ok(()));
        assert_eq!(server.session.peer().ip().to_string(), expected, "{header:?}");
    }
}

fn push_request(lines: &str) -> String {
    format!("GET /push?session=a--b&since=7-1 HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
}

fn push_grant(position: bool, gap: bool) -> Verdict {
    let settings = Settings::load(&Sources::default()).unwrap();
    Verdict::Accept(Grant::Push(PushGrant {
        membership: Arc::new(Membership { client: ClientId(7), targets: Vec::new() }),
        settings: Arc::clone(settings.push("__defaultVhost__")),
        position: position.then_some(PushId { epoch: 7, offset: 3 }),
        gap: gap.then(|| "7-1".to_owned()),
        missed: Vec::new(),
    }))
}

const EVENT_LINES: &str = "Accept: text/html, text/event-stream;q=0.9\r\n";

#[test]
fn push_requests_that_are_not_right() {
    let origin = |lines: &str| format!("Origin: http://other\r\n{lines}");
    let post = push_request(EVENT_LINES).replace("GET", "HEAD");
    for (request, status) in [
        (push_request(""), "426"),
        (push_request("Accept: */*\r\n"), "426"),
        (push_request("Upgrade: websocket\r\nConnection: Upgrade\r\n"), "426"),
        (push_request(&origin(EVENT_LINES)), "403"),
        (push_request(&origin(UPGRADE_LINES)), "403"),
        (post, "405"),
    ] {
        let mut server = server("http.origins = [\"http://own\"]");
        assert_eq!(server.input(&request), Ok(()), "{request}");
        assert_eq!(server.statuses(), [status], "{request}");
        assert!(server.events.is_empty());
    }
}

#[test]
fn who_asks_for_messages_is_asked_for_and_gets_its_place() {
    let own = "Origin: http://own\r\n";
    let cases = [
        (EVENT_LINES, PushWire::Sse, "7-1"),
        ("Accept: text/event-stream\r\nLast-Event-ID: 7-2\r\n", PushWire::Sse, "7-2"),
        (UPGRADE_LINES, PushWire::WebSocket, "7-1"),
    ];
    for (lines, wire, since) in cases {
        let mut server = server("http.origins = [\"http://own\"]");
        assert_eq!(server.input(push_request(&format!("{own}{lines}"))), Ok(()));
        let Some(Event::PushJoin { wire: asked, since: from, .. }) = server.events.pop() else {
            panic!("no question")
        };
        assert_eq!((asked, from.as_deref()), (wire, Some(since)));
        let client = server.session.client().expect("the request was read");
        assert_eq!(client.session.as_deref(), Some("a--b"));
        assert_eq!(server.session.push_wire(), None);
        assert_eq!(server.verdict(&push_grant(true, true)), Ok(()));
        assert_eq!(server.session.push_wire(), Some(wire));
        let text = String::from_utf8_lossy(&server.out).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let gap = r#"{"from":"7-1","gap":true}"#;
        if wire == PushWire::Sse {
            assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("Content-Length"));
            assert_eq!(body, format!("retry: 2000\n\ndata: {gap}\n\nid: 7-3\n\n"));
        } else {
            assert!(head.starts_with("HTTP/1.1 101 "));
            let hello = r#"{"hello":true,"id":"7-3"}"#;
            assert_eq!(body, format!("\u{fffd}\u{19}{gap}\u{fffd}\u{19}{hello}"));
        }
    }
}

#[test]
fn a_stream_of_events_gives_signs_of_life() {
    let mut server = server("http.ping = \"5s\"");
    assert_eq!(server.input(push_request(EVENT_LINES)), Ok(()));
    assert_eq!(server.verdict(&push_grant(false, false)), Ok(()));
    server.out.clear();
    for (after, expected) in [(4, ""), (6, ":\n\n"), (10, ""), (12, ":\n\n")] {
        server.now = Moment::ZERO + Duration::from_secs(after);
        assert_eq!(server.drive(HttpSession::tick), Ok(()));
        assert_eq!(std::mem::take(&mut server.out), expected.as_bytes(), "after {after} s");
    }
}

#[test]
fn refused_push_clients_learn_why_in_their_way() {
    for (lines, reason, start) in [
        (EVENT_LINES, RefusalReason::Denied, "HTTP/1.1 403 "),
        (EVENT_LINES, RefusalReason::Draining, "HTTP/1.1 503 "),
        (UPGRADE_LINES, RefusalReason::Denied, "HTTP/1.1 101 "),
        (UPGRADE_LINES, RefusalReason::Draining, "HTTP/1.1 101 "),
    ] {
        let mut server = server("");
        let lines = format!("{lines}{}", if lines == EVENT_LINES { CLOSE_LINE } else { "" });
        assert_eq!(server.input(push_request(&lines)), Ok(()));
        let verdict = Verdict::Refuse(Refusal::new(reason, "why not"));
        assert_eq!(server.verdict(&verdict), Err(CloseReason::Refused("why not".to_owned())));
        assert!(server.out.starts_with(start.as_bytes()), "{start}");
        if start.contains("101") {
            let code: u16 = if reason == RefusalReason::Denied { 4403 } else { 1001 };
            let close = [&[0x88, 9][..], &code.to_be_bytes(), b"why not"].concat();
            assert!(server.out.ends_with(&close), "{reason:?}");
        }
    }
}
