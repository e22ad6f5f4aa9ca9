//! Hooks while very many clients ask, and the back end does not answer.

mod support;

use std::time::Duration;

use shardcast::proto::amf0::Value;
use support::hook_server::{HookServer, Reply};
use support::latency::p99_over;
use support::noise::{Noise, go_first};
use support::publisher::{Publisher, Script};
use support::rtmp_client::{RtmpClient, description_of};
use support::server::Server;
use support::viewer::Viewer;
use support::wait::{SOON, eventually};

const LIMIT: Duration = Duration::from_secs(30);

/// 30 pictures a second.
const SCRIPT: Script = Script {
    frame_interval: Duration::from_millis(33),
    gop_frames: 30,
    keyframe_bytes: 15_000,
    inter_bytes: 2_760,
    audio: false,
};

/// A connection to the app `gated` with a message stream.
fn client(server: &Server) -> RtmpClient {
    let mut client = RtmpClient::open(server.rtmp());
    client.connect("gated", &format!("rtmp://{}/gated", server.rtmp()), &[]);
    client.wait_for("_result").expect("connect is accepted");
    client.call(0, "createStream", &Value::Null, &[]);
    client.wait_for("_result").expect("createStream is answered");
    client
}

fn publish_command(client: &mut RtmpClient, name: &str) {
    client.call(1, "publish", &Value::Null, &[Value::from(name), Value::from("live")]);
}

/// 1,000 clients ask while the back end hangs: those who watch notice nothing, and when it is over no
/// name is busy.
#[test]
fn a_thousand_connects_at_a_back_end_that_hangs_disturb_nobody() {
    go_first();
    let hooks =
        HookServer::start(
            |request| {
                if request.call() == "publish" { Reply::Hang } else { Reply::ok() }
            },
        );
    let server = Server::start(&[
        ("apps.gated.hooks.on_publish", &hooks.url("/on_publish")),
        ("hooks.timeout", "20s"),
        ("apps.default.latency", "realtime"),
    ]);
    let publisher = Publisher::start(server.rtmp(), "live/cam", SCRIPT);
    let mut viewer = Viewer::rtmp(server.rtmp(), "live/cam");
    let noise = Noise::listen();
    let (quiet, held_up_before) = p99_over(&mut viewer, &noise, Duration::from_secs(6));

    let server_ref = &server;
    let clients: Vec<RtmpClient> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                scope.spawn(move || -> Vec<RtmpClient> {
                    let ask = |number| {
                        let mut client = client(server_ref);
                        publish_command(&mut client, &format!("s{thread}-{number}"));
                        client
                    };
                    (0..125).map(ask).collect()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("they connect")).collect()
    });
    hooks.wait_for("publish", 100);
    eventually("all wait for their verdict", SOON, || {
        (server.api().hooks()["verdicts_awaited"] == 1_000).then_some(())
    });
    let (hanging, held_up) = p99_over(&mut viewer, &noise, Duration::from_secs(6));
    // 99 % of the frames of six seconds are all but two: what the machine itself held up a thread that did
    // nothing meanwhile may be one of them.
    let allowed = quiet.mul_f64(1.2) + held_up;
    println!("p99 before {quiet:?} (held up {held_up_before:?}), then {hanging:?} ({held_up:?})");
    assert!(
        hanging < allowed + Duration::from_millis(2),
        "p99 was {quiet:?} (held up {held_up_before:?}) and is {hanging:?} ({held_up:?})"
    );

    let mut refused = 0;
    for mut client in clients {
        let status = client
            .wait_until(2 * LIMIT, |command| command.name == "onStatus")
            .expect("it is answered");
        assert_eq!(description_of(&status), "authorisation is not available");
        refused += 1;
    }
    assert_eq!(refused, 1_000);
    eventually("nothing is left", SOON, || {
        let report = server.api().hooks();
        let is_clean = report["verdicts_awaited"] == 0 && report["sessions"].as_u64() <= Some(2);
        is_clean.then_some(())
    });
    assert!(!server.api().snapshot().is_published("gated/s0-0"));
    assert!(publisher.say_goodbye() > 0);
    server.stop();
}
