//! Two thousand viewers a second come, are judged by a hook, and go: those who watch notice nothing.

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::hook_server::{HookServer, Reply};
use support::latency::p99_over;
use support::noise::{Noise, go_first};
use support::publisher::{Publisher, Script};
use support::server::Server;
use support::viewer::Viewer;
use support::wait::{SOON, eventually};

const JOINS_PER_S: u32 = 2_000;
const TIME: Duration = Duration::from_secs(20);
/// What the preset of the viewer holds messages back.
const HOLD: Duration = Duration::from_millis(40);
/// As many as are on their way at a time, when each takes some turns of its shard and a hook's answer.
const THREADS: u32 = 50;

const SCRIPT: Script = Script {
    frame_interval: Duration::from_millis(33),
    gop_frames: 30,
    keyframe_bytes: 15_000,
    inter_bytes: 2_760,
    audio: false,
};
/// What the others come for: a picture at once, and no bandwidth of loopback.
const SMALL: Script = Script { gop_frames: 1, keyframe_bytes: 600, inter_bytes: 600, ..SCRIPT };

/// Asks for a stream over HTTP-FLV from an address of its own, waits for the beginning of it, and goes.
fn join(from: SocketAddr, to: SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // One address has too few ports for all that are closing.
    socket.bind(&from.into()).expect("all of 127/8 is loopback");
    socket.connect(&to.into()).expect("the server listens");
    socket.set_read_timeout(Some(SOON)).expect("a time-out can be set");
    let mut stream = std::net::TcpStream::from(socket);
    stream.write_all(b"GET /live/small.flv HTTP/1.1\r\nHost: h\r\n\r\n").expect("it reads");
    let (mut said, mut buffer) = (Vec::new(), [0; 2048]);
    while !said.windows(7).any(|it| it == b"\r\n\r\nFLV") {
        let count = stream.read(&mut buffer).expect("the server answers");
        assert!(count > 0, "closed after {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&buffer[..count]);
    }
    assert!(said.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn two_thousand_joins_a_second_disturb_nobody() {
    go_first();
    let calls = std::sync::Arc::new(AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&calls);
    let hooks = HookServer::start(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Reply::zero()
    });
    let server = Server::start(&[
        ("hooks.dialect", "srs"),
        ("hooks.on_play", &hooks.url("/sessions")),
        ("hooks.on_stop", &hooks.url("/sessions")),
        ("log.level", "warn"),
    ]);
    let publisher = Publisher::start(server.rtmp(), "live/cam", SCRIPT);
    let small = Publisher::start(server.rtmp(), "live/small", SMALL);
    let mut viewer = Viewer::rtmp(server.rtmp(), "live/cam");
    let noise = Noise::listen();
    let (quiet, held_up_before) = p99_over(&mut viewer, &noise, Duration::from_secs(6));

    let (http, joins) = (server.http(), AtomicU64::new(0));
    let start = Instant::now();
    let (joining, held_up) = thread::scope(|scope| {
        for number in 0..THREADS {
            let joins = &joins;
            scope.spawn(move || {
                let from = SocketAddr::from(([127, 0, 1, number as u8], 0));
                let interval = Duration::from_secs(THREADS.into()) / JOINS_PER_S;
                let mut due = start + interval / THREADS * number;
                while due < start + TIME {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    join(from, http);
                    joins.fetch_add(1, Ordering::Relaxed);
                    due += interval;
                }
            });
        }
        p99_over(&mut viewer, &noise, TIME)
    });
    let (took, joins) = (start.elapsed(), joins.into_inner());
    println!(
        "{joins} joins in {took:?}; p99 before {quiet:?} (held up {held_up_before:?}), \
         then {joining:?} ({held_up:?})"
    );
    assert_eq!(joins, u64::from(JOINS_PER_S) * TIME.as_secs());
    assert!(took < TIME.mul_f64(1.1), "{joins} joins took {took:?}");
    // A server with nothing else to do sends a little before the hold of the preset is over.
    let usual = quiet.max(HOLD);
    let allowed = usual.mul_f64(1.2) + held_up.saturating_sub(held_up_before);
    assert!(
        joining < allowed,
        "p99 was {quiet:?} (held up {held_up_before:?}) and is {joining:?} ({held_up:?})"
    );
    // Each join was judged and has its end; the one viewer was judged too.
    eventually("all ends are told", SOON, || {
        let report = server.api().hooks();
        let is_told = report["events_waiting"] == 0 && report["sessions"].as_u64() <= Some(3);
        (is_told && calls.load(Ordering::Relaxed) == 2 * joins + 1).then_some(())
    });
    assert!(publisher.say_goodbye() > 0 && small.say_goodbye() > 0);
    server.stop();
}
