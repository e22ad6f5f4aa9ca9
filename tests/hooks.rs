//! Hooks through real sessions: who is asked, who is told, in which order, and what clients see.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use shardcast::proto::amf0::Value;
use support::ffmpeg::{Pace, Player, publish};
use support::hook_server::{HookServer, Nobody, Recorded, Reply};
use support::http;
use support::media::SHORT;
use support::process::Process;
use support::publisher::{Publisher, Script};
use support::rtmp_client::{RtmpClient, code_of, description_of};
use support::scratch::Scratch;
use support::server::Server;
use support::stamp::is_config;
use support::viewer::{Received, Viewer};
use support::wait::{SOON, eventually};

const LIMIT: Duration = Duration::from_secs(30);

const SMALL: Script = Script {
    frame_interval: Duration::from_millis(20),
    gop_frames: 10,
    keyframe_bytes: 900,
    inter_bytes: 300,
    audio: false,
};

/// Every event of the nginx dialect goes to one recorder.
fn nginx_hooks(hooks: &HookServer) -> Vec<(String, String)> {
    ["connect", "disconnect", "publish", "play", "publish_done", "play_done", "done"]
        .iter()
        .map(|call| (format!("hooks.on_{call}"), hooks.url(&format!("/on_{call}"))))
        .collect()
}

/// Every event of the SRS dialect goes to one recorder.
fn srs_hooks(hooks: &HookServer) -> Vec<(String, String)> {
    let mut keys = vec![("hooks.dialect".to_owned(), "srs".to_owned())];
    for (event, path) in [
        ("connect", "clients"),
        ("close", "clients"),
        ("publish", "streams"),
        ("unpublish", "streams"),
        ("play", "sessions"),
        ("stop", "sessions"),
    ] {
        keys.push((format!("hooks.on_{event}"), hooks.url(&format!("/api/v1/{path}"))));
    }
    keys
}

fn start(keys: &[(String, String)], more: &[(&str, &str)]) -> Server {
    let mut all: Vec<(&str, &str)> =
        keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    all.extend_from_slice(more);
    Server::start(&all)
}

/// A connection whose connect was accepted and that has a message stream.
fn client(server: &Server, app: &str) -> RtmpClient {
    let mut client = RtmpClient::open(server.rtmp());
    let tc_url = format!("rtmp://{}/{app}", server.rtmp());
    client.connect(app, &tc_url, &[("flashVer", "test/1")]);
    let answer = client.wait_for("_result").expect("connect is answered");
    assert_eq!(code_of(&answer), "NetConnection.Connect.Success");
    client.call(0, "createStream", &Value::Null, &[]);
    client.wait_for("_result").expect("createStream is answered");
    client
}

fn publish_command(client: &mut RtmpClient, name: &str) {
    client.call(1, "publish", &Value::Null, &[Value::from(name), Value::from("live")]);
}

fn play_command(client: &mut RtmpClient, name: &str) {
    client.call(1, "play", &Value::Null, &[Value::from(name), Value::from(-2000.0)]);
}

#[test]
fn a_publisher_and_a_player_are_asked_for_and_told_of_in_order() {
    let hooks = HookServer::start(|_| Reply::ok());
    let server = start(&nginx_hooks(&hooks), &[]);
    let mut publisher = publish(&SHORT.file(), &server.rtmp_url("live/cam?key=1"), Pace::Unpaced);
    publisher.expect_success(LIMIT);
    hooks.expect(&["connect", "publish", "publish_done", "done", "disconnect"]);
    let requests = hooks.take();
    let fields = |name: &str| -> Vec<_> {
        requests.iter().filter_map(|request| request.field(name)).collect()
    };
    assert_eq!(requests[1].field("name").as_deref(), Some("cam"));
    assert_eq!(requests[1].field("type").as_deref(), Some("live"));
    assert!(requests[1].body.ends_with("&type=live&key=1"), "{}", requests[1].body);
    let ids = fields("clientid");
    assert_eq!(ids.len(), 4);
    assert!(ids.iter().all(|id| *id == ids[0]), "one id for all: {ids:?}");
    assert!(
        requests.iter().all(|request| request.head.contains("HTTP/1.0\r\nHost: 127.0.0.1\r\n"))
    );

    let mut live = publish(&SHORT.file(), &server.rtmp_url("live/cam"), Pace::RealTime);
    server.api().wait_for_frames("live/cam", 10, SOON);
    hooks.take();
    let scratch = Scratch::new("hooks");
    let mut player = Player::start(&server.rtmp_url("live/cam"), scratch.file("play.md5"));
    live.expect_success(LIMIT);
    player.finish(LIMIT);
    hooks.wait_for("disconnect", 2);
    let played: Vec<String> = hooks
        .requests()
        .iter()
        .filter(|request| request.field("name").is_none() || request.call().contains("play"))
        .map(Recorded::call)
        .filter(|call| call.contains("play"))
        .collect();
    assert_eq!(played, ["play", "play_done"]);
    server.stop();
}

#[test]
fn refused_clients_are_told_why_and_end() {
    for (refused, url) in [("connect", "live/s"), ("publish", "live/s")] {
        let hooks = HookServer::start(move |request| {
            if request.call() == refused { Reply::status("403 no", "") } else { Reply::ok() }
        });
        let server = start(&nginx_hooks(&hooks), &[]);
        let mut publisher = publish(&SHORT.file(), &server.rtmp_url(url), Pace::RealTime);
        assert!(!publisher.wait(LIMIT).success());
        let said = publisher.stderr();
        assert!(said.contains("refused by the application"), "{refused}: {said}");
        hooks.wait_for("disconnect", 1);
        let expected: &[&str] = match refused {
            "connect" => &["connect", "disconnect"],
            _ => &["connect", "publish", "disconnect"],
        };
        assert_eq!(hooks.calls(), expected);
        server.stop();
    }
    let hooks = HookServer::start(|request| {
        if request.call() == "play" { Reply::status("403 no", "") } else { Reply::ok() }
    });
    let server = start(&nginx_hooks(&hooks), &[]);
    let scratch = Scratch::new("refused");
    let mut player = Player::start(&server.rtmp_url("live/s"), scratch.file("play.md5"));
    assert!(!player.process().wait(LIMIT).success());
    let said = player.process().stderr();
    assert!(said.contains("refused by the application"), "{said}");
    server.stop();
}

#[test]
fn a_silent_refusal_is_only_a_close() {
    let hooks = HookServer::start(|request| {
        if request.call() == "publish" { Reply::status("403 no", "") } else { Reply::ok() }
    });
    let server = start(&nginx_hooks(&hooks), &[("hooks.close_silently", "true")]);
    let mut publisher = client(&server, "live");
    publish_command(&mut publisher, "s");
    assert!(publisher.wait_for_close());
    assert_eq!(publisher.heard(), [] as [&str; 0]);
    server.stop();
}

#[test]
fn success_is_not_said_before_the_verdict() {
    let (release, is_released) = std::sync::mpsc::channel::<()>();
    let hooks = HookServer::start(move |request| {
        if request.call() != "disconnect" {
            let _ = is_released.recv_timeout(SOON);
        }
        Reply::ok()
    });
    let server = start(&nginx_hooks(&hooks), &[]);
    let mut publisher = RtmpClient::open(server.rtmp());
    publisher.connect("live", "rtmp://localhost/live", &[]);
    hooks.wait_for("connect", 1);
    assert_eq!(publisher.heard(), [] as [&str; 0]);
    release.send(()).unwrap();
    publisher.wait_for("_result").expect("connect is accepted");
    publisher.call(0, "createStream", &Value::Null, &[]);
    publisher.wait_for("_result").expect("a message stream");
    publish_command(&mut publisher, "s");
    hooks.wait_for("publish", 1);
    assert!(!publisher.heard().iter().any(|it| it.contains("Start")));
    assert!(!server.api().snapshot().is_published("live/s"));
    release.send(()).unwrap();
    assert_eq!(publisher.wait_for_status().as_deref(), Some("NetStream.Publish.Start"));
    drop(release);
    server.stop();
}

#[test]
fn a_redirect_renames_app_and_stream() {
    let hooks = HookServer::start(|request| match request.call().as_str() {
        "connect" => Reply::redirect("other"),
        "publish" => Reply::redirect("renamed"),
        _ => Reply::ok(),
    });
    let server = start(&nginx_hooks(&hooks), &[]);
    let mut publisher = client(&server, "live?a=1");
    publish_command(&mut publisher, "s?b=2");
    let status = publisher.wait_for("onStatus").expect("it is published");
    assert_eq!(code_of(&status), "NetStream.Publish.Start");
    assert!(server.api().snapshot().is_published("other/renamed"), "under its new names");
    drop(publisher);
    hooks.wait_for("disconnect", 1);
    let apps: Vec<_> = hooks.requests().iter().filter_map(|it| it.field("app")).collect();
    assert_eq!(apps, ["live", "other", "other", "other", "other"]);
    assert!(hooks.requests()[4].body.ends_with("&app=other&a=1"));
    server.stop();
}

#[test]
fn a_publisher_that_goes_while_it_is_judged_leaves_no_ghost_and_paired_events() {
    for accepts in [true, false] {
        let (release, is_released) = std::sync::mpsc::channel::<()>();
        let hooks = HookServer::start(move |request| {
            if request.call() != "publish" {
                return Reply::ok();
            }
            let _ = is_released.recv_timeout(SOON);
            if accepts { Reply::ok() } else { Reply::status("403 no", "") }
        });
        let server = start(&nginx_hooks(&hooks), &[]);
        let mut publisher = client(&server, "live");
        publish_command(&mut publisher, "s");
        hooks.wait_for("publish", 1);
        drop(publisher);
        eventually("the connection is gone", SOON, || {
            (server.api().snapshot().connections().iter().sum::<u64>() == 0).then_some(())
        });
        release.send(()).unwrap();
        match accepts {
            true => {
                hooks.expect(&["connect", "publish", "publish_done", "done", "disconnect"]);
            }
            false => hooks.expect(&["connect", "publish", "disconnect"]),
        }
        assert!(!server.api().snapshot().is_published("live/s"));
        drop(release);
        // The name is free.
        let mut next = client(&server, "live");
        publish_command(&mut next, "s");
        let code = next.wait_for_status();
        assert_eq!(code.as_deref() == Some("NetStream.Publish.Start"), accepts, "{code:?}");
        server.stop();
    }
}

/// An encoder that does not wait for the verdict, and is gone before it.
#[test]
fn what_a_publisher_sends_before_the_verdict_is_never_seen() {
    for accepts in [true, false] {
        let (release, is_released) = std::sync::mpsc::channel::<()>();
        let hooks = HookServer::start(move |request| {
            if request.call() != "publish" || request.body.ends_with("&next") {
                return Reply::ok();
            }
            let _ = is_released.recv_timeout(SOON);
            if accepts { Reply::ok() } else { Reply::status("403 no", "") }
        });
        let server = start(&nginx_hooks(&hooks), &[("apps.default.latency", "realtime")]);
        let mut rtmp = Viewer::rtmp(server.rtmp(), "live/s");
        eventually("the viewer waits", SOON, || {
            rtmp.next(Instant::now() + Duration::from_millis(20));
            (hooks.count("play") == 1).then_some(())
        });
        let mut publisher = client(&server, "live");
        publish_command(&mut publisher, "s");
        hooks.wait_for("publish", 1);
        // An H.264 configuration and a keyframe.
        let configuration = [0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1F, 0xFF, 0xE1, 0];
        let keyframe = [&[0x17, 1, 0, 0, 0][..], &[7; 1000]].concat();
        for payload in [&configuration[..], &keyframe, &keyframe] {
            publisher.send(1, 9, 0, payload);
        }
        drop(publisher);
        eventually("only the viewer is left", SOON, || {
            (server.api().snapshot().connections().iter().sum::<u64>() == 1).then_some(())
        });
        release.send(()).expect("the recorder waits");
        hooks.wait_for("disconnect", 1);
        assert_eq!(hooks.count("publish_done"), usize::from(accepts));
        // What comes now is all that the viewer gets of the name.
        let script = Script { keyframe_bytes: 900, ..SMALL };
        let next = Publisher::start(server.rtmp(), "live/s?next", script);
        let first = eventually("the viewer sees a stream", SOON, || {
            let received = rtmp.next(Instant::now() + SOON)?;
            let Received::Message { type_id: 9, payload, .. } = received else { return None };
            (!is_config(&payload)).then_some(payload)
        });
        assert_eq!(first.len(), 900, "a keyframe of the second publisher");
        assert!(next.say_goodbye() > 0);
        server.stop();
    }
}

#[test]
fn a_busy_name_is_refused_before_the_hook_is_asked() {
    let hooks = HookServer::start(|_| Reply::ok());
    let keys = nginx_hooks(&hooks);
    let server = start(&keys, &[("apps.default.publish.takeover", "reject")]);
    let mut first = client(&server, "live");
    publish_command(&mut first, "s");
    assert_eq!(first.wait_for_status().as_deref(), Some("NetStream.Publish.Start"));
    let mut second = client(&server, "live");
    publish_command(&mut second, "s");
    assert_eq!(second.wait_for_status().as_deref(), Some("NetStream.Publish.BadName"));
    hooks.wait_for("disconnect", 1);
    assert_eq!(hooks.count("publish"), 1);
    server.stop();
}

#[test]
fn a_take_over_is_judged_before_the_first_publisher_is_replaced() {
    let hooks =
        HookServer::start(|request| match (request.call().as_str(), request.field("name")) {
            ("publish", _) if request.body.ends_with("&no") => Reply::status("403 no", ""),
            _ => Reply::ok(),
        });
    for policy in ["replace", "replace_when_silent"] {
        let keys = nginx_hooks(&hooks);
        let more =
            [("apps.default.publish.takeover", policy), ("apps.default.publish.silent", "200ms")];
        let server = start(&keys, &more);
        hooks.take();
        let mut first = client(&server, "live");
        publish_command(&mut first, "s");
        assert_eq!(first.wait_for_status().as_deref(), Some("NetStream.Publish.Start"));
        let mut second = client(&server, "live");
        publish_command(&mut second, "s?no");
        assert_eq!(second.wait_for_status().as_deref(), Some("NetStream.Publish.Denied"));
        assert!(server.api().snapshot().is_published("live/s"), "the first one stays");
        let mut third = client(&server, "live");
        publish_command(&mut third, "s?yes");
        assert_eq!(third.wait_for_status().as_deref(), Some("NetStream.Publish.Start"));
        assert_eq!(first.wait_for_status().as_deref(), Some("NetStream.Publish.BadName"));
        hooks.wait_for("publish_done", 1);
        assert_eq!((hooks.count("publish"), hooks.count("publish_done")), (3, 1), "{policy}");
        server.stop();
    }
}

#[test]
fn updates_keep_or_end_a_session() {
    let hooks = HookServer::start(|_| Reply::ok());
    let mut keys = nginx_hooks(&hooks);
    keys.push(("hooks.on_update".to_owned(), hooks.url("/on_update")));
    let server = start(&keys, &[("hooks.notify_update_timeout", "100ms")]);
    let mut publisher = client(&server, "live");
    publish_command(&mut publisher, "s?k=v");
    assert_eq!(publisher.wait_for_status().as_deref(), Some("NetStream.Publish.Start"));
    hooks.wait_for("update_publish", 2);
    let update = hooks.requests().into_iter().find(|it| it.call() == "update_publish").unwrap();
    assert!(
        update.body.contains("&call=update_publish&time=0&timestamp=0&name=s&k=v"),
        "{}",
        update.body
    );
    hooks.answer_with(|request| {
        if request.call().starts_with("update") { Reply::status("404 no", "") } else { Reply::ok() }
    });
    assert_eq!(publisher.wait_for_status().as_deref(), Some("NetConnection.Connect.Closed"));
    hooks.wait_for("disconnect", 1);
    let calls = hooks.calls();
    assert_eq!(calls[calls.len() - 3..], ["publish_done", "done", "disconnect"]);
    server.stop();
}

#[test]
fn a_bare_connection_has_its_disconnect() {
    let hooks = HookServer::start(|_| Reply::ok());
    let server = start(&nginx_hooks(&hooks), &[]);
    drop(TcpStream::connect(server.rtmp()).unwrap());
    hooks.expect(&["disconnect"]);
    let request = hooks.take().remove(0);
    assert!(
        request.body.starts_with("app=&flashver=&swfurl=&tcurl=&pageurl=&addr=127.0.0.1&clientid=")
    );
    assert!(request.body.ends_with("&call=disconnect&app="), "{}", request.body);
    server.stop();
}

#[test]
fn hooks_hear_the_address_that_a_trusted_proxy_says() {
    let hooks = HookServer::start(|_| Reply::ok());
    let server = start(
        &nginx_hooks(&hooks),
        &[("rtmp.proxy_protocol_from", "127.0.0.1"), ("http.trusted_proxies", "127.0.0.1")],
    );
    let header = b"PROXY TCP4 203.0.113.7 192.0.2.1 5000 1935\r\n";
    let mut proxied = RtmpClient::open_behind(server.rtmp(), header);
    proxied.connect("live", "rtmp://localhost/live", &[]);
    proxied.wait_for("_result").expect("connect is accepted");
    drop(proxied);
    let request = b"GET /live/none.flv HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n";
    assert_eq!(http::send_raw(server.http(), request).status, 404);
    hooks.wait_for("disconnect", 2);
    for request in hooks.take() {
        assert_eq!(request.field("addr").as_deref(), Some("203.0.113.7"), "{}", request.call());
    }
    // Without the header a trusted proxy is not let in.
    let mut bare = TcpStream::connect(server.rtmp()).unwrap();
    bare.write_all(&[3; 1537]).unwrap();
    bare.set_read_timeout(Some(SOON)).unwrap();
    let answer = bare.read(&mut [0; 16]);
    assert!(!matches!(answer, Ok(1..)), "{answer:?}");
    server.stop();
}

#[test]
fn connections_of_an_address_are_those_of_the_client_behind_a_proxy() {
    let server = Server::start(&[
        ("rtmp.proxy_protocol_from", "127.0.0.1"),
        ("http.trusted_proxies", "127.0.0.1"),
        ("http.flv_missing", "wait"),
        ("limits.connections_per_address", "2"),
    ]);
    let connect = |address: &str| {
        let header = format!("PROXY TCP4 {address} 192.0.2.1 5000 1935\r\n");
        let mut client = RtmpClient::open_behind(server.rtmp(), header.as_bytes());
        client.connect("live", "rtmp://localhost/live", &[]);
        let answer = client.wait_until(SOON, |it| it.name == "_result" || it.name == "_error");
        (client, answer.expect("connect is answered"))
    };
    let watch = |address: &str| {
        let head = format!("GET /live/s.flv HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {address}\r\n");
        let mut stream = TcpStream::connect(server.http()).expect("the server listens");
        stream.write_all(format!("{head}\r\n").as_bytes()).expect("the server reads");
        stream
    };
    let first = connect("203.0.113.7");
    assert_eq!(code_of(&first.1), "NetConnection.Connect.Success");
    let second = watch("203.0.113.7");
    server.process().wait_for_stderr("play started", SOON);
    // Both ways count, each for the other, and only for this address.
    let (mut refused, answer) = connect("203.0.113.7");
    assert_eq!(answer.name, "_error");
    let text = description_of(&answer);
    assert!(text.contains("limits.connections_per_address"), "{text}");
    assert!(refused.wait_for_close());
    let mut answer = [0; 12];
    watch("203.0.113.7").read_exact(&mut answer).expect("it is answered at once");
    assert_eq!(&answer, b"HTTP/1.1 503");
    let others: Vec<_> = (8..12).map(|n| connect(&format!("203.0.113.{n}"))).collect();
    assert!(others.iter().all(|(_, answer)| answer.name == "_result"));
    drop(first);
    eventually("there is room again", SOON, || {
        (connect("203.0.113.7").1.name == "_result").then_some(())
    });
    drop(second);
    server.stop();
}

#[test]
fn vhosts_with_the_same_app_and_stream_have_hooks_of_their_own() {
    let [one, two, rest] = [(); 3].map(|()| HookServer::start(|_| Reply::ok()));
    let refusing = "refusing.example";
    two.answer_with(|request| {
        if request.call() == "on_publish" {
            return Reply::Keep("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1".to_owned());
        }
        Reply::zero()
    });
    let scratch = Scratch::new("vhosts");
    let file = scratch.file("shardcast.toml");
    let table = |hooks: &HookServer| {
        ["connect", "disconnect", "publish", "publish_done"]
            .map(|it| format!("on_{it} = \"{}\"\n", hooks.url(&format!("/on_{it}"))))
            .concat()
    };
    let text = format!(
        "[hooks]\n{}[vhosts.\"one.example\".hooks]\n{}\
         [vhosts.\"{refusing}\".apps.live.hooks]\ndialect = \"srs\"\non_publish = \"{}\"\n",
        table(&rest),
        table(&one),
        two.url("/streams"),
    );
    std::fs::write(&file, text).expect("it can be written");
    let mut command = support::server::command(&[("server.shards", "1")]);
    command.arg("--config").arg(&file);
    let server = Server::adopt(Process::spawn("shardcast", &mut command));
    let publish = |host: &str| {
        let mut publisher = RtmpClient::open(server.rtmp());
        publisher.connect("live", &format!("rtmp://{host}/live"), &[]);
        publisher.wait_for("_result").expect("connect is accepted");
        publisher.call(0, "createStream", &Value::Null, &[]);
        publisher.wait_for("_result").expect("createStream is answered");
        publish_command(&mut publisher, "s");
        let code = publisher.wait_for_status();
        (publisher, code)
    };
    let (first, code) = publish("one.example");
    assert_eq!(code.as_deref(), Some("NetStream.Publish.Start"));
    let (second, code) = publish(refusing);
    assert_eq!(code.as_deref(), Some("NetStream.Publish.Denied"));
    let (third, code) = publish("nobody.example");
    assert_eq!(code.as_deref(), Some("NetStream.Publish.Start"), "another stream of that name");
    drop((first, second, third));
    let all = ["connect", "publish", "publish_done", "disconnect"];
    one.expect(&all);
    assert_eq!(two.calls(), ["on_publish"]);
    assert_eq!(two.requests()[0].json()["vhost"], refusing);
    // The refusing vhost has no hooks for connections: those of the default vhost hold.
    rest.wait_for("disconnect", 2);
    for call in ["connect", "disconnect"] {
        assert_eq!(rest.count(call), 2, "{call}");
    }
    assert_eq!((rest.count("publish"), rest.count("publish_done")), (1, 1));
    server.stop();
}

/// Each play has its own end, also on one connection.
#[test]
fn each_play_of_a_connection_is_paired() {
    let hooks = HookServer::start(|_| Reply::ok());
    let server = start(&nginx_hooks(&hooks), &[]);
    let mut viewer = client(&server, "live");
    play_command(&mut viewer, "a");
    viewer.wait_for_status().expect("it plays");
    viewer.call(1, "closeStream", &Value::Null, &[]);
    play_command(&mut viewer, "b?x=1");
    hooks.wait_for("play", 2);
    drop(viewer);
    hooks.expect(&[
        "connect",
        "play",
        "play_done",
        "done",
        "play",
        "play_done",
        "done",
        "disconnect",
    ]);
    let named = hooks.take();
    let names: Vec<_> = named.iter().filter_map(|request| request.field("name")).collect();
    assert_eq!(names, ["a", "a", "a", "b", "b", "b"]);
    server.stop();
}

/// Every client is refused, and every refusal counted, but not every one is a line of the log.
#[test]
fn a_back_end_that_is_down_fills_no_log() {
    let nobody = Nobody::listens();
    let url = format!("http://{}/", nobody.address);
    let server = Server::start(&[("hooks.on_play", &url)]);
    let started = Instant::now();
    for _ in 0..200 {
        assert_eq!(http::get(server.http(), "/live/none.flv").status, 503);
    }
    let seconds = started.elapsed().as_secs() as usize;
    let hook = server.api().hooks()["hooks"][0].clone();
    assert_eq!(hook["calls"], 200);
    let failed = |kind: &str| hook["failed"][kind].as_u64().unwrap_or(0);
    assert_eq!(failed("connect") + failed("breaker"), 200, "{hook}");
    let lines = server.process().stderr().matches("a hook failed").count();
    assert!((1..=seconds + 1).contains(&lines), "{lines} lines in {seconds} s");
    server.stop();
}

#[test]
fn http_viewers_pass_the_same_gates() {
    let hooks = HookServer::start(|_| Reply::ok());
    let server = start(&nginx_hooks(&hooks), &[]);
    assert_eq!(http::get(server.http(), "/live/none.flv?k=v").status, 404);
    hooks.expect(&["connect", "play", "play_done", "done", "disconnect"]);
    let requests = hooks.take();
    assert!(requests[0].body.ends_with("&call=connect&k=v"), "{}", requests[0].body);
    assert!(
        requests[1].body.ends_with("&call=play&name=none&start=0&duration=0&reset=0&k=v"),
        "{}",
        requests[1].body
    );
    for refused in ["connect", "play"] {
        hooks.answer_with(move |request| {
            if request.call() == refused { Reply::status("403 no", "") } else { Reply::ok() }
        });
        assert_eq!(http::get(server.http(), "/live/none.flv").status, 403, "{refused}");
        hooks.answer_with(
            move |request| {
                if request.call() == refused { Reply::Drop } else { Reply::ok() }
            },
        );
        assert_eq!(http::get(server.http(), "/live/none.flv").status, 503, "{refused}");
    }
    server.stop();
}

#[test]
fn srs_is_asked_and_told_as_srs_does() {
    let hooks = HookServer::start(|_| Reply::zero());
    let server = start(&srs_hooks(&hooks), &[]);
    let mut viewer = client(&server, "live");
    assert_eq!(hooks.calls(), [] as [&str; 0], "connect alone asks nobody");
    play_command(&mut viewer, "a?x=1");
    viewer.wait_for_status().expect("it plays");
    viewer.call(1, "closeStream", &Value::Null, &[]);
    play_command(&mut viewer, "b");
    hooks.wait_for("on_play", 2);
    drop(viewer);
    hooks.expect(&[
        "on_connect",
        "on_play",
        "on_stop",
        "on_connect",
        "on_play",
        "on_stop",
        "on_close",
    ]);
    let requests = hooks.take();
    let play = requests[1].json();
    assert_eq!((&play["stream"], &play["param"]), (&"a".into(), &"?x=1".into()));
    assert!(play["client_id"].is_string());
    assert_eq!(play["vhost"], "__defaultVhost__");
    assert!(requests[6].json()["recv_bytes"].as_u64().unwrap() > 3_000);
    assert!(requests.iter().all(|it| it.json()["client_id"] == play["client_id"]));
    assert!(requests.iter().all(|it| it.connection == 0), "one connection is kept");
    server.stop();
}

#[test]
fn srs_of_2014_is_asked_at_connect() {
    let hooks = HookServer::start(|_| Reply::zero());
    let mut keys = srs_hooks(&hooks);
    keys.push(("hooks.srs_version".to_owned(), "1".to_owned()));
    let server = start(&keys, &[]);
    let mut publisher = client(&server, "live");
    assert_eq!(hooks.calls(), ["on_connect"]);
    publish_command(&mut publisher, "livestream");
    assert_eq!(publisher.wait_for_status().as_deref(), Some("NetStream.Publish.Start"));
    drop(publisher);
    hooks.expect(&["on_connect", "on_publish", "on_unpublish", "on_close"]);
    let id = hooks.requests()[0].json()["client_id"].as_u64().expect("a number");
    assert_eq!(
        hooks.requests()[1].body,
        format!(
            r#"{{"action":"on_publish","client_id":{id},"ip":"127.0.0.1","vhost":"__defaultVhost__","app":"live","stream":"livestream"}}"#
        )
    );
    server.stop();
}

#[test]
fn several_hooks_are_asked_in_order_until_one_refuses() {
    let hooks = HookServer::start(|request| {
        if request.head.starts_with("POST /second ") {
            return Reply::Keep("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1".to_owned());
        }
        Reply::zero()
    });
    let list = format!(
        "[\"{}\", {{ url = \"{}\", dialect = \"srs\" }}, \"{}\"]",
        hooks.url("/first"),
        hooks.url("/second"),
        hooks.url("/third")
    );
    let server = start(&[("hooks.on_publish".to_owned(), list)], &[]);
    let mut publisher = client(&server, "live");
    publish_command(&mut publisher, "s");
    let status = publisher.wait_for("onStatus").expect("it is answered");
    assert_eq!(code_of(&status), "NetStream.Publish.Denied");
    assert_eq!(description_of(&status), "refused by the application");
    let paths: Vec<_> =
        hooks.requests().iter().map(|it| it.head.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(paths, ["/first", "/second"]);
    server.stop();
}

#[test]
fn end_events_are_told_again_until_they_are_heard() {
    let mut refusals = 2;
    let hooks = HookServer::start(move |request| {
        if request.call() == "publish_done" && refusals > 0 {
            refusals -= 1;
            return Reply::status("503 later", "");
        }
        Reply::ok()
    });
    let mut keys = nginx_hooks(&hooks);
    keys.push(("hooks.event_headers".to_owned(), "true".to_owned()));
    keys.push(("hooks.secret".to_owned(), "s".to_owned()));
    let server = start(&keys, &[]);
    let mut publisher = client(&server, "live");
    publish_command(&mut publisher, "s");
    publisher.wait_for_status().expect("it is published");
    drop(publisher);
    hooks.wait_for("disconnect", 1);
    let calls = hooks.calls();
    assert_eq!(
        calls[2..],
        ["publish_done", "publish_done", "publish_done", "done", "disconnect"],
        "nothing overtakes it"
    );
    let told: Vec<Recorded> =
        hooks.take().into_iter().filter(|it| it.call() == "publish_done").collect();
    let header = |name: &str| -> Vec<_> { told.iter().filter_map(|it| it.header(name)).collect() };
    assert_eq!(header("X-Shardcast-Attempt"), ["1", "2", "3"]);
    let ids = header("X-Shardcast-Event");
    assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert!(header("X-Shardcast-Signature").iter().all(|it| it.starts_with("sha256=")));
    server.stop();
}

#[test]
fn an_event_that_may_have_been_processed_is_told_once() {
    let hooks =
        HookServer::start(
            |request| {
                if request.call() == "publish_done" { Reply::Drop } else { Reply::ok() }
            },
        );
    let server = start(&nginx_hooks(&hooks), &[]);
    let mut publisher = client(&server, "live");
    publish_command(&mut publisher, "s");
    publisher.wait_for_status().expect("it is published");
    drop(publisher);
    hooks.expect(&["connect", "publish", "publish_done", "done", "disconnect"]);
    server.process().wait_for_stderr("it may have been processed", SOON);
    server.stop();
}

#[test]
fn hooks_change_with_the_configuration_and_running_sessions_stay() {
    let hooks = HookServer::start(|request| {
        if request.call() == "publish" { Reply::status("403 no", "") } else { Reply::ok() }
    });
    let scratch = Scratch::new("reload");
    let file = scratch.file("shardcast.toml");
    std::fs::write(&file, "").unwrap();
    let mut command = support::server::command(&[("server.shards", "1")]);
    command.arg("--config").arg(&file);
    let server = Server::adopt(Process::spawn("shardcast", &mut command));
    let mut first = client(&server, "live");
    publish_command(&mut first, "a");
    assert_eq!(first.wait_for_status().as_deref(), Some("NetStream.Publish.Start"));

    let table =
        format!("[hooks]\non_publish = \"{0}\"\non_publish_done = \"{0}\"\n", hooks.url("/hook"));
    std::fs::write(&file, table).unwrap();
    server.process().signal(libc::SIGHUP);
    let mut number = 0;
    eventually("the hook is asked", SOON, || {
        number += 1;
        let mut next = client(&server, "live");
        publish_command(&mut next, &format!("b{number}"));
        let code = next.wait_for_status();
        (code.as_deref() == Some("NetStream.Publish.Denied")).then_some(())
    });
    assert!(server.api().snapshot().is_published("live/a"), "the first one goes on");
    server.stop();
}

#[test]
fn who_gives_up_while_it_contends_for_a_name_has_its_end() {
    let hooks = HookServer::start(|_| Reply::ok());
    let takeover = [
        ("apps.default.publish.takeover", "replace_when_silent"),
        ("apps.default.publish.silent", "2s"),
    ];
    let server = start(&nginx_hooks(&hooks), &takeover);
    let mut first = client(&server, "live");
    publish_command(&mut first, "cam");
    assert_eq!(first.wait_for_status().as_deref(), Some("NetStream.Publish.Start"));
    hooks.take();
    let mut second = client(&server, "live");
    publish_command(&mut second, "cam");
    drop(second);
    hooks.expect(&["connect", "disconnect"]);
    server.stop();
}

#[test]
fn a_server_that_ends_tells_of_what_was_being_asked() {
    let hooks = HookServer::start(|request| match (request.call().as_str(), Reply::ok()) {
        ("publish", Reply::Close(answer)) => Reply::Late(Duration::from_secs(1), answer),
        (_, reply) => reply,
    });
    let server = start(&nginx_hooks(&hooks), &[]);
    let mut publisher = client(&server, "live");
    publish_command(&mut publisher, "cam");
    hooks.wait_for("publish", 1);
    server.stop();
    hooks.expect(&["connect", "publish", "publish_done", "done", "disconnect"]);
}
