//! Targets of one stream that fail in every way at once: the publisher, the viewers and the target that works
//! notice nothing, and each of the others is there again soon after its fault is over.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::http;
use support::name_server::answer_late;
use support::namespace::{replace_file, with_own_network};
use support::noise::{Noise, go_first};
use support::ports::Port;
use support::process::Process;
use support::publisher::{Publisher, Script};
use support::relays::relays;
use support::scratch::Scratch;
use support::server::{Server, command};
use support::viewer::Viewer;
use support::wait::{SOON, eventually};
use support::watcher::{Watcher, read, read_until_all_begin, watch};

const STREAM: &str = "live/cam";
/// How long latency is watched before the faults, and how long they last: longer than an unacknowledged
/// byte is waited for.
const BEFORE: Duration = Duration::from_secs(5);
const FAULTS: Duration = Duration::from_secs(13);
/// How much the latency of the others may change.
const LATENCY_CHANGE_MAX: f64 = 0.2;
/// The pause between attempts in this test, the dialling of an address, and a group of pictures.
const BACK_LIMIT: Duration = Duration::from_secs(1 + 3 + 2);
/// The far side of the link that goes down.
const FAR: &str = "10.99.0.2";

/// 600 kbit/s with a keyframe every second.
const SCRIPT: Script = Script {
    frame_interval: Duration::from_millis(40),
    gop_frames: 25,
    keyframe_bytes: 15_000,
    inter_bytes: 2_400,
    audio: false,
};

fn target(port: &Port, more: &[(&str, &str)]) -> Server {
    let listen = port.address();
    let mut all = vec![("rtmp.listen", listen.as_str()), ("server.shards", "1")];
    all.extend_from_slice(more);
    Server::start(&all)
}

fn ip(arguments: &str) {
    let mut command = Command::new("ip");
    Process::run("ip", command.args(arguments.split(' ')), SOON);
}

/// A server behind a link, in a network of its own.
struct Far {
    server: Server,
    id: u32,
}

impl Far {
    fn start() -> Self {
        let mut inner = command(&[("rtmp.listen", "0.0.0.0:1935"), ("server.shards", "1")]);
        let mut outer = Command::new("unshare");
        let script = "ip link set lo up && exec \"$@\"";
        outer.args(["--net", "sh", "-c", script, "sh"]);
        outer.arg(inner.get_program()).args(inner.get_args());
        inner = outer;
        let server = Server::adopt(Process::spawn("shardcast, far away", &mut inner));
        let id = server.process().id();
        ip(&format!("link add near type veth peer name far netns {id}"));
        ip("addr add 10.99.0.1/24 dev near");
        ip("link set near up");
        let far = Self { server, id };
        far.inside(&["ip", "addr", "add", &format!("{FAR}/24"), "dev", "far"]);
        far.link("up");
        far
    }

    fn inside(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.id)).arg("--net").args(arguments);
        Process::run("nsenter", &mut command, SOON)
    }

    /// Nothing arrives any more, and nobody says so.
    fn link(&self, state: &str) {
        self.inside(&["ip", "link", "set", "far", state]);
    }

    fn frames_in(&self) -> u64 {
        let url = format!("http://{}/api/v1/shards", self.server.api().address());
        let text = self.inside(&["curl", "--silent", "--fail", &url]);
        let answer: Value = serde_json::from_str(&text).expect("it is JSON");
        let shards = answer["shards"].as_array().expect("a list").iter();
        let streams = shards.flat_map(|shard| shard["streams"].as_array().expect("a list"));
        streams.filter_map(|stream| stream["frames_in"].as_u64()).sum()
    }
}

fn add_target(server: &Server, url: &str) {
    let body = json!({
        "direction": "push", "stream": { "app": "live", "name": "cam" }, "url": url, "retry": "1s",
    })
    .to_string();
    let request = format!(
        "POST /api/v1/relays HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(http::send_raw(server.api().address(), request.as_bytes()).status, 201, "{url}");
}

/// What the API says of the relay to a place.
fn relay_to(server: &Server, place: &str) -> Value {
    let found = relays(server)
        .into_iter()
        .find(|relay| relay["url"].as_str().is_some_and(|url| url.contains(place)));
    found.unwrap_or_else(|| panic!("a relay to {place}"))
}

#[test]
fn faulty_targets_disturb_nobody_and_come_back() {
    let scratch = Scratch::new("relay-faults");
    let resolver = scratch.file("resolv.conf");
    fs::write(&resolver, "nameserver 127.0.0.1\noptions timeout:8 attempts:1\n")
        .expect("it can be written");
    with_own_network(|| {
        go_first();
        replace_file(Path::new("/etc/resolv.conf"), &resolver);
        answer_late("slow", Duration::from_secs(5));
        run();
    });
}

fn run() {
    let [good, killed, stopped, late, refusing, slow] = std::array::from_fn(|_| Port::reserve());
    let url = |port: &Port| format!("rtmp://{}/live", port.address());
    let good_server = target(&good, &[]);
    let killed_server = target(&killed, &[]);
    let stopped_server = target(&stopped, &[]);
    let slow_server = target(&slow, &[]);
    let refusing_server = target(&refusing, &[("apps.live.publish.takeover", "reject")]);
    let holder = Publisher::start(refusing_server.rtmp(), STREAM, SCRIPT);
    let far = Far::start();
    let healthy = [url(&good), url(&killed), url(&stopped), format!("rtmp://{FAR}/live")]
        .map(|url| format!("{{ url = \"{url}\", retry = \"1s\" }}"));
    let apps =
        format!("{{ push = [{}], viewer = {{ socket_buffer = \"16KiB\" }} }}", healthy.join(", "));
    let server = Server::start(&[("apps.live", &apps), ("server.shards", "1")]);
    let publisher = Publisher::start(server.rtmp(), STREAM, SCRIPT);
    for target in [&good_server, &killed_server, &stopped_server] {
        target.api().wait_for_frames(STREAM, 25, 2 * SOON);
    }
    eventually("the far one has it", SOON, || (far.frames_in() > 25).then_some(()));
    let mut watchers = vec![
        Watcher::new(Viewer::rtmp(server.rtmp(), STREAM)),
        Watcher::new(Viewer::flv(server.http(), STREAM)),
        Watcher::new(Viewer::rtmp(good_server.rtmp(), STREAM)),
    ];
    read_until_all_begin(&mut watchers, SOON);
    let noise = Noise::listen();
    let before = watch(&mut watchers, BEFORE, &noise, |_| true, || {});

    killed_server.process().signal(libc::SIGKILL);
    drop(killed_server);
    stopped_server.process().signal(libc::SIGSTOP);
    far.link("down");
    let named = |name: &str, port: &Port| format!("rtmp://{name}.test:{}/live", port.number());
    for url in [url(&late), url(&refusing), named("slow", &slow), named("never", &slow)] {
        add_target(&server, &url);
    }
    let during = watch(&mut watchers, FAULTS, &noise, |_| true, || {});
    println!("latency before: {before}; with faulty targets: {during}");
    let state = |place: &str| relay_to(&server, place)["state"].as_str().unwrap_or("").to_owned();
    for (place, words) in [
        (good.address(), &["publishing"][..]),
        (killed.address(), &["connecting", "retrying"]),
        (late.address(), &["connecting", "retrying"]),
        (refusing.address(), &["connecting", "refused"]),
        (FAR.to_owned(), &["connecting", "retrying"]),
        ("slow.test".to_owned(), &["publishing"]),
        ("never.test".to_owned(), &["connecting", "retrying"]),
    ] {
        let state = state(&place);
        assert!(words.contains(&state.as_str()), "{place}: {state}");
    }
    assert!(slow_server.api().snapshot().is_published(STREAM), "its name was found after a while");
    let of_stopped = relay_to(&server, &stopped.address());
    assert!(of_stopped["drops"].as_u64() > Some(0), "{of_stopped}");
    assert_eq!(relay_to(&server, &refusing.address())["code"], "NetStream.Publish.BadName");

    // All faults end.
    let killed_server = target(&killed, &[]);
    let late_server = target(&late, &[]);
    stopped_server.process().signal(libc::SIGCONT);
    holder.say_goodbye();
    far.link("up");
    let mut far_frames = far.frames_in();
    let stopped_before = stopped_server.api().snapshot().frames_in(STREAM);
    let counts = [
        (&killed_server, 0),
        (&late_server, 0),
        (&stopped_server, stopped_before),
        (&refusing_server, refusing_server.api().snapshot().frames_in(STREAM)),
    ];
    for (target, count) in counts {
        // Whoever begins anew begins at a keyframe: nothing is thrown away before it.
        let snapshot = eventually("it has the stream again", BACK_LIMIT, || {
            read(&mut watchers, Duration::from_millis(100));
            let snapshot = target.api().snapshot();
            let is_ours = snapshot.is_published(STREAM);
            (is_ours && snapshot.frames_in(STREAM) != count).then_some(snapshot)
        });
        let early = snapshot.drops().into_iter().find(|(reason, _)| reason == "before_keyframe");
        assert!(early.as_ref().is_none_or(|(_, count)| *count == 0), "{early:?}");
    }
    // Over the old connection or a new one, which counts from 0.
    let mut far_news = 0;
    eventually("the far one has it again", BACK_LIMIT, || {
        read(&mut watchers, Duration::from_millis(100));
        let frames = far.frames_in();
        far_news += if frames >= far_frames { frames - far_frames } else { frames };
        far_frames = frames;
        (far_news > 25).then_some(())
    });
    for place in [good.address(), killed.address(), late.address(), stopped.address()] {
        assert_eq!(state(&place), "publishing", "{place}");
    }

    for watcher in &watchers {
        assert!(!watcher.viewer.is_closed());
        assert_eq!(watcher.gaps, 0, "nobody else misses anything");
    }
    for percent in [50, 99] {
        let (was, is) = (before.percentile(percent), during.percentile(percent));
        assert!(
            is <= was.mul_f64(1.0 + LATENCY_CHANGE_MAX) + during.held_up,
            "p{percent} of the others went from {was:?} to {is:?}"
        );
    }
    drop(watchers);
    publisher.say_goodbye();
    server.stop();
}
