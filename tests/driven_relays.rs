//! Relays that an application asks for while the server runs: redirects of hooks, SRS's forward back end,
//! publishers that are passed on to one of several origins, requests to the API; and who hears of them.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use support::ffmpeg::{Pace, Player, publish};
use support::hook_server::{HookServer, Recorded, Reply};
use support::http;
use support::media::{Media, SHORT, SMALL_VIDEO};
use support::packets::Source;
use support::ports::Port;
use support::process::Process;
use support::relays::{is_state, relays, wait_for_relays};
use support::scratch::Scratch;
use support::server::{Server, command};
use support::wait::{SOON, eventually};

const LIMIT: Duration = Duration::from_secs(30);
const STREAM: &str = "live/cam";

fn five_seconds() -> Media {
    Media { seconds: 5, video: Some(SMALL_VIDEO), audio: true }
}

/// A back end of nginx's dialect that sends one kind of question to `location`, except those of relays.
fn redirecting(call: &'static str, location: String) -> HookServer {
    HookServer::start(move |request: &Recorded| {
        let is_relay = request.field("flashver").as_deref() == Some("ngx-local-relay");
        if request.call() == call && !is_relay { Reply::redirect(&location) } else { Reply::ok() }
    })
}

/// A server with a file, which can be told to read it again.
fn start_with_file(scratch: &Scratch, overrides: &[(&str, &str)]) -> Server {
    fs::write(scratch.file("server.toml"), "").expect("it can be written");
    let mut command = command(overrides);
    command.arg("--config").arg(scratch.file("server.toml"));
    Server::adopt(Process::spawn("shardcast", &mut command))
}

/// Another configuration, which says nothing of relays.
fn reload(server: &Server, scratch: &Scratch) {
    let text = "[apps.other]\nmax_connections = 7\n";
    fs::write(scratch.file("server.toml"), text).expect("it can be written");
    server.process().signal(libc::SIGHUP);
    server.process().wait_for_stderr("configuration read again", SOON);
}

#[test]
fn a_redirect_of_a_publisher_sends_its_stream_on_as_well() {
    let source = Source::of_file(&five_seconds().file());
    // The target comes up later, under a name.
    let port = Port::reserve();
    let location = format!("rtmp://localhost:{}/there/other", port.number());
    let hooks = redirecting("publish", location.clone());
    let scratch = Scratch::new("redirected-publish");
    let server = start_with_file(&scratch, &[("hooks.on_publish", &hooks.url("/"))]);
    let mut publisher = publish(&five_seconds().file(), &server.rtmp_url(STREAM), Pace::RealTime);
    wait_for_relays(&server, "an attempt failed", |relays| {
        relays.len() == 1 && relays[0]["attempts"].as_u64() > Some(1)
    });
    assert!(server.api().snapshot().is_published(STREAM), "here it is published as asked");
    let target = Server::start(&[("rtmp.listen", &port.address())]);
    let mut player = Player::start(&target.rtmp_url("there/other"), scratch.file("list"));
    target.api().wait_for_publisher("there/other", SOON);
    wait_for_relays(&server, "the relay publishes", |relays| is_state(&relays[0], "publishing"));
    // The configuration knows nothing of it, and cannot end it.
    reload(&server, &scratch);
    publisher.expect_success(LIMIT);
    source.assert_played("the target's player", &player.finish(LIMIT));
    wait_for_relays(&server, "the relay is gone", <[Value]>::is_empty);
    [server, target].into_iter().for_each(Server::stop);
}

#[test]
fn a_redirect_of_a_player_fetches_the_stream_for_all_of_its_players() {
    let source = Source::of_file(&five_seconds().file());
    let origin = Server::start(&[]);
    let location = format!("rtmp://localhost:{}/origin/cam", origin.rtmp().port());
    let hooks = redirecting("play", location.clone());
    let start = |renames: &str| {
        Server::start(&[
            ("hooks.on_play", &hooks.url("/")),
            ("hooks.notify_relay_redirect", renames),
            ("http.flv_missing", "404"),
        ])
    };
    let (plain, renaming) = (start("false"), start("true"));
    let scratch = Scratch::new("redirected-play");
    let play = |url: String, name: &str| Player::start(&url, scratch.file(name));
    let mut players = [
        play(plain.rtmp_url("live/a"), "plain"),
        play(plain.flv_url("live/a"), "plain-flv"),
        play(renaming.rtmp_url("live/b"), "renamed-b"),
        play(renaming.flv_url("live/c"), "renamed-c"),
    ];
    // By openssl: each address has a name of its own, which all players of it share.
    let digest = openssl_md5(&location);
    plain.api().wait_for_viewers("live/a", 2, SOON);
    renaming.api().wait_for_viewers(&format!("live/{digest}"), 2, SOON);
    origin.api().wait_for_viewers("origin/cam", 2, SOON);
    assert_eq!((relays(&plain).len(), relays(&renaming).len()), (1, 1));
    let mut publisher =
        publish(&five_seconds().file(), &origin.rtmp_url("origin/cam"), Pace::RealTime);
    publisher.expect_success(LIMIT);
    for player in &mut players {
        let received = player.finish(LIMIT);
        let joined = source.assert_played(player.process().name(), &received);
        assert_eq!(joined.video_skipped, 0, "a player that was there gets all");
    }
    for server in [&plain, &renaming] {
        wait_for_relays(server, "nothing is fetched any more", <[Value]>::is_empty);
    }
    [origin, plain, renaming].into_iter().for_each(Server::stop);
}

/// MD5 in hexadecimal digits.
fn openssl_md5(text: &str) -> String {
    let script = format!("printf %s '{text}' | openssl md5 -r");
    let mut command = std::process::Command::new("sh");
    let out = Process::run("openssl", command.args(["-c", &script]), SOON);
    out.split(' ').next().expect("a digest").to_owned()
}

/// A back end of `on_forward` whose answer follows from the stream's name.
fn forwarding(answer: impl Fn(&str) -> String + Send + 'static) -> HookServer {
    HookServer::start(move |request: &Recorded| {
        let json = request.json();
        let body = answer(json["stream"].as_str().unwrap_or_default());
        Reply::Close(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    })
}

#[test]
fn the_forward_back_end_says_where_each_stream_goes() {
    let (one, two) = (Server::start(&[]), Server::start(&[]));
    let (to_one, to_two) = (one.rtmp_url("all/{stream}"), one.rtmp_url("other/instance/x"));
    let hooks = forwarding(move |stream| match stream {
        "both" => {
            let urls = [to_one.replace("{stream}", stream), String::new(), to_two.clone()];
            serde_json::json!({ "code": 0, "data": { "urls": urls } }).to_string()
        }
        "none" => r#"{"code":0,"data":{"urls":[]}}"#.to_owned(),
        "bad" => r#"{"code":0,"data":{"urls":["http://localhost/a/b"]}}"#.to_owned(),
        _ => r#"{"code":1}"#.to_owned(),
    });
    let server = Server::start(&[
        ("hooks.on_forward", &hooks.url("/forward")),
        ("apps.live.push", &format!("[{{ url = \"rtmp://{}/configured\" }}]", two.rtmp())),
    ]);
    for refused in ["bad", "refused"] {
        let url = server.rtmp_url(&format!("live/{refused}"));
        let mut publisher = publish(&SHORT.file(), &url, Pace::Unpaced);
        assert!(!publisher.wait(LIMIT).success(), "{refused}");
    }
    let mut none = publish(&SHORT.file(), &server.rtmp_url("live/none"), Pace::Endless);
    server.api().wait_for_frames("live/none", 10, SOON);
    assert!(relays(&server).is_empty());
    let mut both = publish(&SHORT.file(), &server.rtmp_url("live/both?k=v"), Pace::Endless);
    one.api().wait_for_frames("all/both", 10, SOON);
    one.api().wait_for_frames("other/instance/x", 10, SOON);
    assert_eq!(relays(&server).len(), 2);
    assert!(!two.api().snapshot().is_published("configured/both"));
    let asked = hooks.requests().pop().expect("it was asked");
    assert_eq!(asked.head.lines().next(), Some("POST /forward HTTP/1.0"));
    assert!(asked.body.starts_with(r#"{"action":"on_forward","server_id":"#), "{}", asked.body);
    assert_eq!(asked.json()["param"], "?k=v");
    for publisher in [&mut none, &mut both] {
        publisher.signal(libc::SIGINT);
        publisher.wait(LIMIT);
    }
    wait_for_relays(&server, "the relays are gone", <[Value]>::is_empty);
    [server, one, two].into_iter().for_each(Server::stop);
}

#[test]
fn an_edge_passes_its_publisher_on_to_the_origin_that_lives() {
    let source = Source::of_file(&five_seconds().file());
    let (first, second) = (Port::reserve(), Port::reserve());
    let url = |port: &Port| format!("rtmp://{}/live", port.address());
    let edge = Server::start(&[(
        "apps.live",
        &format!(
            "{{ push = [{{ url = \"{}\", fallback = [\"{}\"] }}], \
             pull = [{{ url = \"{0}/{{stream}}\", fallback = [\"{1}/{{stream}}\"] }}] }}",
            url(&first),
            url(&second)
        ),
    )]);
    let origin = Server::start(&[("rtmp.listen", &second.address())]);
    let scratch = Scratch::new("edge");
    let mut at_origin = Player::start(&origin.rtmp_url(STREAM), scratch.file("origin"));
    origin.api().wait_for_viewers(STREAM, 1, SOON);
    let mut publisher = publish(&five_seconds().file(), &edge.rtmp_url(STREAM), Pace::RealTime);
    origin.api().wait_for_publisher(STREAM, SOON);
    let mut at_edge = Player::start(&edge.rtmp_url(STREAM), scratch.file("edge"));
    publisher.expect_success(LIMIT);
    source.assert_played("at the origin", &at_origin.finish(LIMIT));
    source.assert_played("at the edge", &at_edge.finish(LIMIT));
    // What is published at the origin, the edge fetches there.
    let mut fetched = Player::start(&edge.rtmp_url("live/far"), scratch.file("far"));
    origin.api().wait_for_viewers("live/far", 1, SOON);
    let mut publisher =
        publish(&five_seconds().file(), &origin.rtmp_url("live/far"), Pace::RealTime);
    publisher.expect_success(LIMIT);
    source.assert_played("through the edge", &fetched.finish(LIMIT));
    [edge, origin].into_iter().for_each(Server::stop);
}
