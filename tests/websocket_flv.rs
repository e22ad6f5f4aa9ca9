//! What a WebSocket viewer sees: the stream exactly, pings, closes with their reasons, and refusals.

mod support;

use std::fs;
use std::thread;
use std::time::Duration;

use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

use support::ffmpeg::{Pace, publish};
use support::http;
use support::media::{Media, SHORT};
use support::packets::{Packets, Source};
use support::publisher::{Publisher, Script};
use support::scratch::Scratch;
use support::server::Server;
use support::wait::SOON;
use support::websocket::WebSocketViewer;

const TARGET: &str = "/live/cam.flv";
const STREAM: &str = "live/cam";
const UPGRADE: [&str; 4] = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];
/// Small frames for tests that look at other things.
const SCRIPT: Script = Script {
    frame_interval: Duration::from_millis(40),
    gop_frames: 25,
    keyframe_bytes: 10_000,
    inter_bytes: 2_000,
    audio: true,
};

#[test]
fn every_packet_comes_exactly_and_the_end_is_said() {
    let cases = [
        ("av", SHORT, 5),
        ("audio", Media { video: None, ..SHORT }, 4),
        ("video", Media { audio: false, ..SHORT }, 1),
    ];
    let server = Server::start(&[]);
    let scratch = Scratch::new("websocket-flv");
    for (name, media, flags) in cases {
        let stream = format!("live/{name}");
        let mut publisher = publish(&media.file(), &server.rtmp_url(&stream), Pace::RealTime);
        let source = Source::of_file(&media.file());
        // The shards take connections in turn; the later viewers join inside a group of pictures.
        let viewers = [1, 100, 200, 200].map(|frames| {
            server.api().wait_for_frames(&stream, frames, 2 * SOON);
            WebSocketViewer::open(server.http(), &stream)
        });
        for (number, viewer) in viewers.into_iter().enumerate() {
            let played = viewer.play();
            let reason = "the stream has ended".to_owned();
            assert_eq!(played.closed, (1000, reason), "{name} {number}");
            assert_eq!(played.file[4], flags, "{name}: the header says which tracks there are");
            let file = scratch.file(&format!("{name}{number}.flv"));
            fs::write(&file, played.file).expect("a file can be written");
            source.assert_played(&format!("{name} {number}"), &Packets::of_file(&file));
        }
        publisher.expect_success(SOON);
    }
    server.stop();
}

#[test]
fn who_may_not_play_is_told_before_the_upgrade() {
    let server = Server::start(&[
        ("http.origins", "https://app.example"),
        ("apps.closed.access", "[{ deny = 'play', from = 'all' }]"),
    ]);
    let publisher = Publisher::start(server.rtmp(), STREAM, SCRIPT);
    let ask = |target: &str, headers: &[(&'static str, &'static str)]| {
        WebSocketViewer::ask(server.http(), target, headers).map(|_| ())
    };
    assert_eq!(ask("/live/nobody.flv", &[]), Err(404));
    assert_eq!(ask("/nothing", &[]), Err(404));
    assert_eq!(ask("/closed/cam.flv", &[]), Err(403));
    assert_eq!(ask(TARGET, &[("origin", "https://elsewhere.example")]), Err(403));
    assert_eq!(ask(TARGET, &[("origin", "https://app.example")]), Ok(()));
    assert_eq!(ask(TARGET, &[]), Ok(()), "a program that is no browser");
    let old = http::request(
        server.http(),
        "GET",
        TARGET,
        &[UPGRADE[0], UPGRADE[1], "Sec-WebSocket-Version: 8", UPGRADE[3]],
    );
    assert_eq!((old.status, old.header("Sec-WebSocket-Version")), (426, Some("13")));
    let mut proxied = http::request(server.http(), "GET", TARGET, &UPGRADE[2..]);
    assert_eq!(proxied.status, 426);
    let text = String::from_utf8(proxied.read_to_end()).expect("a sentence");
    assert!(text.contains("a proxy in between has to pass them on"), "{text}");
    server.api().wait_for_viewers(STREAM, 0, SOON);
    publisher.say_goodbye();
    server.stop();
}

#[test]
fn who_waits_is_upgraded_at_once_and_gets_the_stream_when_it_comes() {
    let server = Server::start(&[("http.flv_missing", "wait")]);
    let mut viewer = WebSocketViewer::open(server.http(), STREAM);
    viewer.send(Message::Ping("still there?".into()));
    assert_eq!(viewer.next(), Message::Pong("still there?".into()));
    server.api().wait_for_viewers(STREAM, 1, SOON);
    let publisher = Publisher::start(server.rtmp(), STREAM, SCRIPT);
    assert_eq!(viewer.next_binary()[..5], *b"FLV\x01\x05");
    publisher.say_goodbye();
    assert_eq!(viewer.next_close().0, 1000);
    server.stop();
}

#[test]
fn a_wait_without_a_publisher_ends_with_a_reason() {
    let overrides = [("http.flv_missing", "wait"), ("apps.default.play.wait_timeout", "1s")];
    let server = Server::start(&overrides);
    let mut viewer = WebSocketViewer::open(server.http(), STREAM);
    let (code, reason) = viewer.next_close();
    assert!(code == 4404 && reason.contains("play.wait_timeout"), "{code} {reason}");
    server.stop();
}

#[test]
fn pings_are_answered_between_the_frames_and_a_close_is_answered_with_one() {
    let server = Server::start(&[]);
    let publisher = Publisher::start(server.rtmp(), STREAM, SCRIPT);
    let mut viewer = WebSocketViewer::open(server.http(), STREAM);
    viewer.next_binary();
    for number in 0..20_u8 {
        viewer.send(Message::Text("chatter".into()));
        viewer.send(Message::Ping(vec![number; usize::from(number)].into()));
        loop {
            match viewer.next() {
                Message::Pong(data) => {
                    assert_eq!(data, vec![number; usize::from(number)]);
                    break;
                }
                Message::Binary(_) => {}
                other => panic!("not of a stream: {other:?}"),
            }
        }
    }
    viewer.send(Message::Close(Some(CloseFrame { code: 1001.into(), reason: "".into() })));
    assert_eq!(viewer.next_close(), (1001, String::new()));
    server.api().wait_for_viewers(STREAM, 0, SOON);
    let text = "the client closed the WebSocket with code 1001";
    server.process().wait_for_stderr(text, SOON);
    publisher.say_goodbye();
    server.stop();
}

#[test]
fn who_breaks_the_rules_is_closed_alone() {
    let server = Server::start(&[]);
    let publisher = Publisher::start(server.rtmp(), STREAM, SCRIPT);
    let mut other = WebSocketViewer::open(server.http(), STREAM);
    let long = [&[0x82, 0xFE, 0xFF, 0xFF, 0, 0, 0, 0][..], &[0; 0xFFFF]].concat();
    let cases: [(&[u8], u16); 4] = [
        (&[0x81, 0x02, b'h', b'i'], 1002),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 1002),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xFF], 1007),
        (&long, 1009),
    ];
    for (bytes, code) in cases {
        let mut viewer = WebSocketViewer::open(server.http(), STREAM);
        viewer.next_binary();
        viewer.send_raw(bytes);
        assert_eq!(viewer.next_close().0, code);
    }
    for _ in 0..10 {
        other.next_binary();
    }
    server.api().wait_for_viewers(STREAM, 1, SOON);
    publisher.say_goodbye();
    server.stop();
}

#[test]
fn a_flood_of_pings_that_nobody_reads_the_answers_of_ends_its_own_connection() {
    let server = Server::start(&[]);
    let publisher = Publisher::start(server.rtmp(), STREAM, SCRIPT);
    let mut other = WebSocketViewer::open(server.http(), STREAM);
    let mut viewer = WebSocketViewer::open(server.http(), STREAM);
    let pings = [&[0x89, 0xFD, 0, 0, 0, 0][..], &[0; 125]].concat().repeat(1_000);
    // Kernel buffers of both sides take the first megabytes of the answers.
    let refused = (0..1_000).any(|_| !viewer.send_raw(&pings));
    assert!(refused, "the server took 131 MB of pings");
    server.process().wait_for_stderr("the client does not read its answers", SOON);
    for _ in 0..10 {
        other.next_binary();
    }
    server.api().wait_for_viewers(STREAM, 1, SOON);
    publisher.say_goodbye();
    server.stop();
}

#[test]
fn a_viewer_that_is_gone_is_noticed_while_nothing_is_sent() {
    let overrides =
        [("http.flv_missing", "wait"), ("http.ping", "1s"), ("http.ping_timeout", "3s")];
    let server = Server::start(&overrides);
    let request = format!(
        "GET {TARGET} HTTP/1.1\r\nHost: {}\r\n{}\r\n\r\n",
        server.http(),
        UPGRADE.join("\r\n")
    );
    // It answers no ping, because it only reads bytes.
    let mut dead = http::send_raw(server.http(), request.as_bytes());
    assert_eq!(dead.status, 101);
    let mut alive = WebSocketViewer::open(server.http(), STREAM);
    server.api().wait_for_viewers(STREAM, 2, SOON);
    thread::scope(|scope| {
        // More pings than fit into the time of the one that does not answer.
        scope.spawn(|| (0..4).for_each(|_| assert_eq!(alive.next(), Message::Ping("".into()))));
        assert_eq!(dead.read_body(2), [0x89, 0], "a ping");
        let said = dead.read_to_end();
        assert_eq!(said[..4], [0x88, said.len() as u8 - 2, 0x03, 0xF0], "closed with 1008");
    });
    server.api().wait_for_viewers(STREAM, 1, SOON);
    server.stop();
}

#[test]
fn a_server_that_ends_says_so() {
    let server = Server::start(&[]);
    let _publisher = publish(&SHORT.file(), &server.rtmp_url(STREAM), Pace::Endless);
    server.api().wait_for_frames(STREAM, 30, SOON);
    let mut viewer = WebSocketViewer::open(server.http(), STREAM);
    viewer.next_binary();
    server.process().signal(libc::SIGTERM);
    assert_eq!(viewer.next_close(), (1001, "the server is shutting down".to_owned()));
    drop(viewer);
}
