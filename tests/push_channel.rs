//! The push channel with real clients: rtmpdump shows messages, ffmpeg plays on undisturbed, browsers and
//! RTMP clients get the same; the API takes what it should and refuses the rest.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::Message;

use support::browser::{Browser, Page, Site};
use support::ffmpeg::{Ffmpeg, Pace, Player, publish};
use support::hook_server::{HookServer, Reply};
use support::http;
use support::media::SHORT;
use support::packets::Source;
use support::process::Process;
use support::push::{SECRET, look, post, post_raw, token, wait_for_members};
use support::scratch::Scratch;
use support::server::Server;
use support::tap::Tap;
use support::wait::{SOON, eventually};
use support::websocket::WebSocketViewer;

const STREAM: &str = "live/cam";
const CHANNEL: i64 = 10;
const TARGET: &str = "/channels/10/message";
/// Ten seconds of media and what a loaded machine adds.
const PLAY_LIMIT: Duration = Duration::from_secs(40);
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const JSON: &str = "Content-Type: application/json";

fn start(more: &[(&str, &str)]) -> (Server, SocketAddr) {
    let mut all = vec![("push.secret", SECRET)];
    all.extend_from_slice(more);
    let server = Server::start(&all);
    let api = server.api().address();
    (server, api)
}

/// rtmpdump waits for a stream, or plays it, and prints every command that it gets.
fn rtmpdump(server: &Server, token: &str) -> Process {
    let mut command = Command::new("rtmpdump");
    command.args(["-V", "--live", "--rtmp", &server.rtmp_url(STREAM)]);
    command.args(["-C", &format!("S:{token}"), "-C", "N:142", "-o", "/dev/null"]);
    Process::spawn("rtmpdump", &mut command)
}

/// Waits until rtmpdump has shown so many messages with this text.
fn wait_for_shown(process: &Process, text: &str, count: usize) {
    let line = format!("description, STRING:\t{text}>");
    eventually(&format!("rtmpdump shows {text:?} {count} times"), SOON, || {
        let shown = process.stderr();
        (shown.matches(&line).count() == count).then_some(())
    });
}

#[test]
fn rtmpdump_shows_messages_while_it_waits_and_while_it_plays() {
    let (server, api) = start(&[]);
    let client = rtmpdump(&server, &token(5, &[CHANNEL, 12]));
    wait_for_members(api, CHANNEL, 1, SOON);
    assert_eq!(post(api, TARGET, "hello"), 1);
    assert_eq!(post(api, "/users/5/message", "you"), 1);
    assert_eq!(post(api, "/channels/11/message", "others"), 0);
    wait_for_shown(&client, "hello", 1);
    wait_for_shown(&client, "you", 1);
    let shown = client.stderr();
    assert_eq!(shown.matches("code, STRING:\tNetConnection.Message>").count(), 2, "{shown}");
    let mut publisher = publish(&SHORT.file(), &server.rtmp_url(STREAM), Pace::RealTime);
    server.api().wait_for_viewers(STREAM, 1, SOON);
    server.api().wait_for_frames(STREAM, 60, SOON);
    assert_eq!(post(api, TARGET, "while it plays"), 1);
    wait_for_shown(&client, "while it plays", 1);
    assert!(!client.stderr().contains("others"));
    publisher.expect_success(PLAY_LIMIT);
    server.stop();
}

#[test]
fn ffmpeg_plays_and_publishes_exactly_while_a_thousand_messages_pass() {
    let (server, api) = start(&[]);
    let source = Source::of_file(&SHORT.file());
    let scratch = Scratch::new("push-ffmpeg");
    // The vector of contract push-channel 1.5.
    let payload = [
        &b"\x02\x00\x08onStatus\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05\x03\x00\x04code"[..],
        b"\x02\x00\x15NetConnection.Message\x00\x05level\x02\x00\x06status",
        b"\x00\x0bdescription\x02\x00\x05hello\x00\x00\x09",
    ]
    .concat();
    assert_eq!(payload.len(), 92);
    let conn = |user, channel| format!("S:{} N:142", token(user, &[channel]));
    let url = server.rtmp_url(STREAM);
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-re", "-copyts", "-i"]).arg(SHORT.file());
    command.args(["-map", "0", "-c", "copy", "-rtmp_conn", &conn(5, 20), "-f", "flv", &url]);
    let mut publisher = Process::spawn("ffmpeg publishes", &mut command);
    server.api().wait_for_frames(STREAM, 10, SOON);
    let tap = Tap::before(server.rtmp());
    let conn = conn(6, CHANNEL);
    let mut player = Player::start_with(
        Ffmpeg::System,
        &["-rtmp_conn", &conn],
        &format!("rtmp://{}/{STREAM}", tap.address()),
        scratch.file("packets.md5"),
    );
    wait_for_members(api, CHANNEL, 1, SOON);
    let batch = |channel: i64, messages: std::ops::Range<usize>| {
        let messages = messages.map(|_| json!({ "channel": channel, "message": "hello" }));
        let body = Value::Array(messages.collect()).to_string();
        let response = post_raw(api, "/push/messages", &[JSON], body.as_bytes());
        assert_eq!(response.status, 200);
        response.header("Push-Reached").map(str::to_owned)
    };
    // A publishing ffmpeg reads at most one message each time that it sends. What it has not read when it
    // closes makes the kernel reset the connection, and its last words are lost: so it gets few.
    assert_eq!(batch(20, 0..20).as_deref(), Some("20"));
    for number in 0..40 {
        assert_eq!(batch(CHANNEL, 0..25).as_deref(), Some("25"), "batch {number}");
    }
    eventually("the player was sent every message", SOON, || {
        (tap.count(&payload) == 1_000).then_some(())
    });
    let frames = server.api().snapshot().frames_in(STREAM);
    assert!(frames < 700, "{frames} frames of 731: the messages did not pass while it played");
    publisher.expect_success(PLAY_LIMIT);
    let received = player.finish(SOON);
    source.assert_played("ffmpeg", &received);
    server.stop();
}

#[test]
fn ffmpeg_says_that_a_wrong_session_is_rejected() {
    let (server, api) = start(&[("apps.open.push_required", "false"), ("push.required", "true")]);
    let good = token(5, &[CHANNEL]);
    let tampered = good.replace("eyJj", "eyJk");
    let expired = shardcast::proto::push_session::PushSession {
        user: 5.into(),
        channels: vec![CHANNEL.into()],
        expires_unix_s: Some(1_000_000),
    };
    let over_long = format!("{}{good}", "A".repeat(10_000));
    let unsigned = good.split("--").next().expect("there is a first part");
    for wrong in [&tampered, &expired.sign(SECRET), &over_long, unsigned, ""] {
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error"]);
        if !wrong.is_empty() {
            command.args(["-rtmp_conn", &format!("S:{wrong} N:142")]);
        }
        command.args(["-i", &server.rtmp_url(STREAM), "-f", "null", "-"]);
        let mut client = Process::spawn("ffmpeg", &mut command);
        assert!(!client.wait(SOON).success());
        let said = client.stderr();
        assert!(said.contains("Connection rejected."), "{:.30}: {said}", wrong);
    }
    let status = |target: &str| http::get(server.http(), target).status;
    assert_eq!(status("/live/cam.flv"), 403);
    assert_eq!(status(&format!("/live/cam.flv?session={tampered}")), 403);
    assert_eq!(status(&format!("/live/cam.flv?session={good}")), 404, "not published");
    assert_eq!(status("/open/cam.flv"), 404, "this app needs no session");
    assert_eq!(look(api, "/channels"), json!({ "channels": [] }));
    server.stop();
}

#[test]
fn two_pages_and_an_rtmp_client_get_the_same_messages() {
    let history = "{ messages = 100, age = \"1m\" }";
    let (server, api) = start(&[("push.client_send", "members"), ("push.history", history)]);
    let example = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/push").join(name);
        std::fs::read(path).expect("the example is there")
    };
    let site = Site::start(vec![
        ("/chat.html", "text/html", example("chat.html")),
        ("/shardcast-push.js", "text/javascript", example("shardcast-push.js")),
    ]);
    let mut browser = Browser::start();
    let mut open = |user: i64| {
        let token = token(user, &[CHANNEL, 12]).replace('+', "%2B");
        let push = format!("ws://{}/push", server.http());
        let mut page = browser.open(&format!(
            "{}/chat.html?push={push}&session={token}&channel={CHANNEL}",
            site.origin()
        ));
        page.wait_for("the page is connected", SOON, "document.body.dataset.state === 'open'");
        page
    };
    let mut pages = [open(1), open(2)];
    let dump = rtmpdump(&server, &token(3, &[CHANNEL]));
    wait_for_members(api, CHANNEL, 3, SOON);
    assert_eq!(post(api, TARGET, "from the server"), 3);
    pages[0].evaluate(
        "document.getElementById('text').value = 'from a page'; \
         document.getElementById('form').requestSubmit()",
    );
    wait_for_shown(&dump, "from the server", 1);
    wait_for_shown(&dump, "from a page", 1);
    wait_for_lines(&mut pages[0], &["from the server", "from a page"]);
    wait_for_lines(&mut pages[1], &["from the server", "from a page"]);
    let users = look(api, "/notify/list");
    let users: Vec<&Value> =
        users.as_array().expect("a list").iter().map(|it| &it["user_id"]).collect();
    assert_eq!(users, [&json!(1), &json!(2), &json!(3)]);
    // A line that breaks loses nothing.
    pages[1].evaluate("push.socket.close()");
    post(api, TARGET, "while it was away");
    wait_for_lines(&mut pages[1], &["from the server", "from a page", "while it was away"]);
    // A page whose session is refused does not come back again and again.
    let push = format!("ws://{}/push", server.http());
    let mut wrong = browser.open(&format!("{}/chat.html?push={push}&session=a--b", site.origin()));
    wrong.wait_for("it is refused", SOON, "document.body.dataset.state === 'refused'");
    server.stop();
}

fn wait_for_lines(page: &mut Page, expected: &[&str]) {
    let lines = "[...document.querySelectorAll('#chat .message')].map(it => it.textContent)";
    let expected = json!(expected).to_string();
    let script = format!("JSON.stringify({lines}) === JSON.stringify({expected})");
    page.wait_for(&expected, SOON, &script);
}

/// Lines of a stream of server-sent events.
struct Events {
    lines: BufReader<TcpStream>,
}

impl Events {
    fn open(server: &Server, query: &str, last_event_id: Option<&str>) -> Self {
        let mut stream = http::connect(server.http());
        let id = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let request = format!(
            "GET /push?{query} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n{id}\r\n",
            server.http()
        );
        stream.write_all(request.as_bytes()).expect("the request is sent");
        let mut events = Self { lines: BufReader::new(stream) };
        assert_eq!(events.line(), "HTTP/1.1 200 OK");
        while !events.line().is_empty() {}
        events
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the stream goes on");
        line.trim_end().to_owned()
    }

    /// The next line that begins with this field.
    fn next(&mut self, field: &str) -> String {
        loop {
            if let Some(value) = self.line().strip_prefix(&format!("{field}: ")) {
                return value.to_owned();
            }
        }
    }
}

#[test]
fn server_sent_events_go_on_where_they_broke_off() {
    let history = "{ messages = 3, age = \"1m\" }";
    let (server, api) = start(&[("push.history", history)]);
    let query = format!("session={}", token(5, &[CHANNEL]));
    let mut events = Events::open(&server, &query, None);
    let start = events.next("id");
    post(api, TARGET, "one");
    let id = events.next("id");
    let data: Value = serde_json::from_str(&events.next("data")).expect("JSON");
    assert_eq!(data, json!({ "channel": CHANNEL, "id": id, "message": "one" }));
    drop(events);
    eventually("it is gone", SOON, || {
        (look(api, "/channels/10")["connections"] == 0).then_some(())
    });
    assert_eq!(post(api, TARGET, "two"), 0);
    let object = json!({ "user_id": 5, "message": { "a": 1 } }).to_string();
    let mut answer = post_raw(api, "/notify", &[JSON], object.as_bytes());
    assert_eq!(answer.read_to_end(), b"notified\n");
    let mut back = Events::open(&server, &query, Some(&id));
    let message = |events: &mut Events| -> Value {
        let data: Value = serde_json::from_str(&events.next("data")).expect("JSON");
        data["message"].clone()
    };
    assert_eq!(message(&mut back), "two");
    assert_eq!(message(&mut back), json!({ "a": 1 }));
    for number in 0..3 {
        post(api, TARGET, &number.to_string());
    }
    // The same by ?since=, for those who cannot set a header; the first message is lost by now.
    let mut late = Events::open(&server, &format!("{query}&since={start}"), None);
    let gap: Value = serde_json::from_str(&late.next("data")).expect("JSON");
    assert_eq!(gap, json!({ "gap": true, "from": start }));
    assert_eq!(message(&mut late), json!({ "a": 1 }));
    assert_eq!(message(&mut late), "0");
    server.stop();
}

#[test]
fn the_api_takes_messages_in_every_form_and_refuses_the_rest_in_a_sentence() {
    let (server, api) = start(&[("push.max_message", "1000")]);
    let target = format!("/push?session={}", token(5, &[CHANNEL]));
    let mut socket = WebSocketViewer::ask(server.http(), &target, &[]).expect("it is let in");
    let mut next = || next_json(&mut socket)["message"].clone();
    let mut taken = |headers: &[&str], body: &[u8]| {
        let response = post_raw(api, TARGET, headers, body);
        assert_eq!((response.status, response.header("Push-Reached")), (200, Some("1")));
        next()
    };
    assert_eq!(taken(&[FORM], b"message=a+%26%C3%A4"), "a &\u{e4}");
    assert_eq!(taken(&[JSON], br#"{"message":"b"}"#), "b");
    assert_eq!(taken(&["Content-Type: text/plain", "Expect: 100-continue"], b"c"), "c");
    let batch = json!([
        { "channels": [10, 11], "message": "d" },
        { "user": 5, "message": "e" },
    ]);
    let mut response = post_raw(api, "/push/messages", &[JSON], batch.to_string().as_bytes());
    let answer: Value = serde_json::from_slice(&response.read_to_end()).expect("JSON");
    assert_eq!(answer, json!({ "messages": 3, "reached": 2 }));
    assert_eq!((next(), next()), (json!("d"), json!("e")));
    let large = format!("message={}", "x".repeat(1001));
    let huge = vec![b'x'; 1024 * 1024 + 1];
    let table: [(&str, &[&str], &[u8], u16); 10] = [
        ("/channels/a%2Fb/message", &[FORM], b"message=a", 404),
        ("/channels/a%01b/message", &[FORM], b"message=a", 400),
        (TARGET, &[FORM], b"text=a", 400),
        (TARGET, &[], b"message=a", 400),
        (TARGET, &[FORM], large.as_bytes(), 413),
        (TARGET, &[FORM], &huge, 413),
        ("/channels/10", &[FORM], b"message=a", 405),
        ("/channels/10/mess", &[FORM], b"message=a", 404),
        ("/notify", &[JSON], br#"{"user_id":5}"#, 400),
        ("/push/messages", &[JSON], b"[{}]", 400),
    ];
    for (target, headers, body, status) in table {
        let mut response = post_raw(api, target, headers, body);
        assert_eq!(response.status, status, "{target}");
        assert!(!response.read_to_end().is_empty(), "{target}: no sentence");
    }
    // A body whose end is not known is not taken for a request.
    for coding in ["chunked", "gzip", "identity"] {
        let mut response = http::send_raw(api, coded(coding).as_bytes());
        assert_eq!(response.status, 411, "{coding}");
        assert_eq!(response.header("Connection"), Some("close"), "{coding}");
        assert!(!response.read_to_end().is_empty(), "{coding}: no sentence");
        assert!(response.is_closed_by_server(), "{coding}: there is another answer");
    }
    assert_eq!(http::get(api, TARGET).status, 405);
    assert_eq!(http::get(api, "/users").status, 404);
    server.stop();
}

/// A post whose body looks like another request.
fn coded(coding: &str) -> String {
    format!(
        "POST {TARGET} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: {coding}\r\n\r\n\
         GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n"
    )
}

#[test]
fn a_message_to_many_is_kept_once() {
    let (server, api) = start(&[]);
    let text = "x".repeat(100_000);
    let batch = |receivers: usize| {
        let body = json!([{ "channels": vec![1; receivers], "message": text }]).to_string();
        post_raw(api, "/push/messages", &[JSON], body.as_bytes()).status
    };
    assert_eq!(batch(1), 200);
    let before = peak_bytes(server.process());
    assert_eq!(batch(10_000), 200);
    assert_eq!(batch(20_000), 413);
    // A copy for each would be a gigabyte and two.
    let more = peak_bytes(server.process()) - before;
    assert!(more < 100_000_000, "{more} bytes");
    server.stop();
}

/// The most memory that a process has had at a time.
fn peak_bytes(process: &Process) -> u64 {
    let file = format!("/proc/{}/status", process.id());
    let status = std::fs::read_to_string(file).expect("a running process has a status file");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
    let number = line.split_whitespace().next().expect("a number");
    number.parse::<u64>().expect("a number") * 1024
}

#[test]
fn the_token_of_the_api_covers_the_push_channel() {
    let (server, api) = start(&[("api.token", "key")]);
    let refused = post_raw(api, TARGET, &["Content-Type: text/plain"], b"a");
    assert_eq!((refused.status, refused.header("Push-Reached")), (401, None));
    for target in ["/channels", "/notify/list"] {
        assert_eq!(http::get(api, target).status, 401);
    }
    let mut refused = http::send_raw(api, coded("gzip").as_bytes());
    assert_eq!((refused.status, refused.header("Connection")), (401, Some("close")));
    refused.read_to_end();
    assert!(refused.is_closed_by_server(), "there is another answer");
    let headers = ["Content-Type: text/plain", "Authorization: Bearer key"];
    assert_eq!(post_raw(api, TARGET, &headers, b"a").status, 200);
    server.stop();
}

#[test]
fn vhosts_have_their_own_secrets_and_their_own_channels() {
    let (server, api) = start(&[("vhosts.\"v.test\".push.secret", "v")]);
    let own = shardcast::proto::push_session::PushSession {
        user: 5.into(),
        channels: vec![CHANNEL.into()],
        expires_unix_s: None,
    };
    let own = own.sign("v");
    let ask = |session: &str, vhost: &str| {
        let target = format!("/push?session={session}{vhost}");
        let mut socket = WebSocketViewer::ask(server.http(), &target, &[]).expect("an upgrade");
        match post(api, &format!("{TARGET}?{}", vhost.trim_start_matches('&')), "hi") {
            0 => Err(socket.next_close().0),
            _ => Ok(socket.next().to_string()),
        }
    };
    assert!(ask(&token(5, &[CHANNEL]), "").is_ok());
    assert!(ask(&own, "&vhost=v.test").is_ok());
    // The session of one vhost is none of the other.
    assert_eq!(ask(&own, ""), Err(4403));
    assert_eq!(ask(&token(5, &[CHANNEL]), "&vhost=v.test"), Err(4403));
    server.stop();
}

/// The next text of a WebSocket, as JSON.
fn next_json(socket: &mut WebSocketViewer) -> Value {
    loop {
        match socket.next() {
            Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("not a text: {other:?}"),
        }
    }
}

#[test]
fn users_and_channels_may_have_names() {
    let (server, api) = start(&[]);
    let name = |text: &str| text.parse().expect("a name");
    let session = shardcast::proto::push_session::PushSession {
        user: name("alice"),
        channels: vec![name("caf\u{e9} 1")],
        expires_unix_s: None,
    };
    let target = format!("/push?session={}", session.sign(SECRET).replace('+', "%2B"));
    let mut socket = WebSocketViewer::ask(server.http(), &target, &[]).expect("it is let in");
    let room = "/channels/caf%C3%A9%201";
    eventually("it is there", SOON, || (look(api, room)["connections"] == 1).then_some(()));
    assert_eq!(look(api, room)["channel"], "caf\u{e9} 1");
    assert_eq!(post(api, &format!("{room}/message"), "to the room"), 1);
    assert_eq!(post(api, "/users/alice/message", "to alice"), 1);
    let batch = json!([{ "users": ["alice", "bob"], "channel": "caf\u{e9} 1", "message": "all" }]);
    let response = post_raw(api, "/push/messages", &[JSON], batch.to_string().as_bytes());
    assert_eq!(response.header("Push-Reached"), Some("2"));
    let said = next_json(&mut socket);
    assert_eq!(
        (&said["channel"], &said["message"]),
        (&json!("caf\u{e9} 1"), &json!("to the room"))
    );
    let said = next_json(&mut socket);
    assert_eq!((&said["user"], &said["message"]), (&json!("alice"), &json!("to alice")));
    server.stop();
}

#[test]
fn a_hook_accepts_replaces_and_refuses_what_clients_say() {
    let hooks = HookServer::start(|asked| {
        let answer = |body: &str| {
            let length = body.len();
            Reply::Keep(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"))
        };
        match asked.json()["message"].as_str().unwrap_or_default() {
            "late" => {
                let zero = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0".to_owned();
                Reply::Late(Duration::from_millis(300), zero)
            }
            "rude" => answer(r#"{"code":0,"message":"***"}"#),
            "forbidden" => Reply::status("403 Forbidden", ""),
            "down" => Reply::status("500 Internal Server Error", ""),
            _ => answer(""),
        }
    });
    let url = hooks.url("/say");
    let (server, api) =
        start(&[("push.client_send", "hook"), ("hooks.on_message", &url), ("hooks.secret", "key")]);
    let open = |user| {
        let target = format!("/push?session={}", token(user, &[CHANNEL]));
        WebSocketViewer::ask(server.http(), &target, &[]).expect("it is let in")
    };
    let (mut speaker, mut listener) = (open(5), open(6));
    wait_for_members(api, CHANNEL, 2, SOON);
    for text in ["late", "fine", "rude", "forbidden", "down", "last"] {
        let said = json!({ "channel": CHANNEL, "message": text }).to_string();
        speaker.send(Message::text(said));
    }
    speaker.send(Message::text(json!({ "channel": 11, "message": "strange" }).to_string()));
    // In order, although the first one is judged late.
    for expected in ["late", "fine", "***", "last"] {
        assert_eq!(next_json(&mut listener)["message"], expected);
    }
    let heard: Vec<Value> = (0..7).map(|_| next_json(&mut speaker)).collect();
    let values =
        |key: &str| -> Vec<&str> { heard.iter().filter_map(|it| it.get(key)?.as_str()).collect() };
    assert_eq!(values("message"), ["late", "fine", "***", "last"]);
    assert_eq!(values("error"), ["not_member", "refused", "unavailable"]);
    let asked = hooks.requests();
    assert_eq!(asked.len(), 6, "nobody is asked about a channel that is not the client's");
    let said = asked[0].json();
    let expected = json!({
        "action": "on_message", "client_id": said["client_id"], "ip": "127.0.0.1",
        "vhost": "__defaultVhost__", "user_id": 5, "channel": CHANNEL, "message": "late",
    });
    assert_eq!(said, expected);
    assert!(asked[0].header("X-Shardcast-Signature").is_some());
    let counted = server.api().hooks()["hooks"][0].clone();
    assert_eq!((&counted["event"], &counted["calls"]), (&json!("on_message"), &json!(6)));
    server.stop();
}

#[test]
fn what_was_posted_before_the_shutdown_arrives_before_the_goodbye() {
    let (server, api) = start(&[]);
    let target = format!("/push?session={}", token(5, &[CHANNEL]));
    let mut sockets: Vec<WebSocketViewer> = (0..2)
        .map(|_| WebSocketViewer::ask(server.http(), &target, &[]).expect("it is let in"))
        .collect();
    let mut events = Events::open(&server, &format!("session={}", token(6, &[CHANNEL])), None);
    let dump = rtmpdump(&server, &token(7, &[CHANNEL]));
    wait_for_members(api, CHANNEL, 4, SOON);
    let batch: Vec<Value> = (0..500)
        .map(|number| json!({ "channel": CHANNEL, "message": number.to_string() }))
        .collect();
    let body = Value::Array(batch).to_string();
    let response = post_raw(api, "/push/messages", &[JSON], body.as_bytes());
    assert_eq!(response.header("Push-Reached"), Some("2000"));
    server.process().signal(libc::SIGTERM);
    for socket in &mut sockets {
        for number in 0..500 {
            assert_eq!(next_json(socket)["message"], number.to_string());
        }
        assert_eq!(socket.next_close().0, 1001);
    }
    for number in 0..500 {
        let data: Value = serde_json::from_str(&events.next("data")).expect("JSON");
        assert_eq!(data["message"], number.to_string());
    }
    wait_for_shown(&dump, "499", 1);
    let mut process = server.into_process();
    process.expect_success(SOON);
    let shown = dump.stderr();
    assert_eq!(shown.matches("code, STRING:\tNetConnection.Message>").count(), 500);
}

#[test]
fn without_a_secret_nobody_is_subscribed_and_nobody_is_refused() {
    let server = Server::start(&[]);
    let api = server.api().address();
    let client = rtmpdump(&server, &token(5, &[CHANNEL]));
    server.api().wait_for_viewers(STREAM, 1, SOON);
    assert_eq!(post(api, TARGET, "hello"), 0);
    let target = format!("/push?session={}", token(5, &[CHANNEL]));
    let mut refused = WebSocketViewer::ask(server.http(), &target, &[]).expect("an upgrade");
    let (code, reason) = refused.next_close();
    assert_eq!(code, 4403);
    assert!(reason.contains("push.secret"), "{reason}");
    drop(client);
    server.stop();
}

#[test]
fn the_demo_page_exists_only_when_it_is_switched_on() {
    let (server, _) = start(&[]);
    assert_eq!(http::get(server.http(), "/demo/chat.html").status, 404);
    server.stop();
    let (server, api) = start(&[("demo.enabled", "true"), ("push.client_send", "members")]);
    let mut browser = Browser::start();
    let mut page = browser.open(&format!("http://{}/demo/chat.html", server.http()));
    page.wait_for("the page is connected", SOON, "document.body.dataset.state === 'open'");
    wait_for_members(api, 10, 1, SOON);
    wait_for_members(api, 12, 1, SOON);
    page.evaluate("push.send(10, 'hello')");
    wait_for_lines(&mut page, &["hello"]);
    server.stop();
}

#[test]
fn the_signers_of_the_examples_sign_the_reference_session() {
    let reference = "eyJjaGFubmVscyI6WzEwLDEyXSwidXNlcl9pZCI6NX0=--";
    let production = "fddbb018f51cb867a2e6d10b9eea7bd5eaec2d9ee1b814856251776f08e8acdef49154b0317b43\
                      2ff6dfbd7c7e0e74d5db53287cc991e8cf46da8d6a27fc5ae8";
    let vectors = [
        (production, "53a54957765ca65ee52ce727fdf70b95e6972f45"),
        ("123", "05649bc2938d0773f1828c612f063381c85e4fe7"),
    ];
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/push");
    let signers =
        [("ruby", "sign.rb"), ("php", "sign.php"), ("python3", "sign.py"), ("node", "sign.js")];
    for (program, file) in signers {
        for (secret, mac) in vectors {
            let path: PathBuf = directory.join(file);
            let mut command = Command::new(program);
            command.arg(path).arg(secret);
            let signed = Process::run(program, &mut command, PLAY_LIMIT);
            assert_eq!(signed.trim_end(), format!("{reference}{mac}"), "{program}");
        }
    }
}
