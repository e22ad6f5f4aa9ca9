//! Relays that an application asks for while the server runs: redirects of hooks, SRS's forward back end,
//! publishers that are passed on to one of several origins, requests to the API; and who hears of them.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use shardcast::limits::EVENT_LISTENERS_MAX;
use support::ffmpeg::{Pace, Player, publish};
use support::hook_server::{HookServer, Recorded, Reply};
use support::http;
use support::media::{Media, SHORT, SMALL_VIDEO};
use support::packets::Source;
use support::ports::Port;
use support::process::Process;
use support::relays::{is_state, relays, reload_with, start_with_file, wait_for_relays};
use support::scratch::Scratch;
use support::server::Server;
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

/// Another configuration, which says nothing of relays.
fn reload(server: &Server, scratch: &Scratch) {
    reload_with(server, scratch, "[apps.other]\nmax_connections = 7\n");
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

/// nginx-rtmp, which asks a hook about publishers.
fn nginx(scratch: &Scratch, port: &Port, hook: &str) -> Process {
    let directory = scratch.path().display();
    let configuration = format!(
        "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
         daemon off; master_process off; pid {directory}/pid; error_log {directory}/error.log info;\n\
         events {{}}\nrtmp {{ server {{ listen {};\n\
         application live {{ live on; on_publish {hook}; }}\n\
         application renaming {{ live on; notify_relay_redirect on; on_publish {hook}; }} }} }}\n",
        port.address()
    );
    fs::write(scratch.file("nginx.conf"), configuration).expect("it can be written");
    let mut command = std::process::Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(scratch.path()).arg("-c").arg(scratch.file("nginx.conf"));
    let process = Process::spawn("nginx-rtmp", &mut command);
    eventually("nginx listens", SOON, || TcpStream::connect(port.address()).ok());
    process
}

#[test]
fn redirects_lead_where_those_of_nginx_rtmp_lead() {
    let target = Server::start(&[]);
    let place = target.rtmp();
    let hooks = HookServer::start(move |request: &Recorded| {
        let path = match request.field("name").as_deref() {
            Some("app") => "one",
            Some("stream") => "two/other",
            _ => "three/as/other?k=v",
        };
        Reply::redirect(&format!("rtmp://{place}/{path}"))
    });
    let (hook, port, scratch) = (hooks.url("/"), Port::reserve(), Scratch::new("nginx-redirects"));
    // Names at the target, as far as somebody publishes them.
    let published = || -> Vec<String> {
        let mut response = http::get(target.api().address(), "/api/v1/streams?count=100");
        let body: Value = serde_json::from_slice(&response.read_to_end()).expect("JSON");
        let live = body["streams"].as_array().expect("a list").iter();
        let live = live.filter(|stream| stream["publish"]["active"] == true);
        let mut names: Vec<String> =
            live.map(|stream| stream["url"].as_str().unwrap_or_default().to_owned()).collect();
        names.sort();
        names
    };
    let of = |base: &str| {
        let streams = ["live/app", "live/stream", "live/path", "renaming/app"];
        let mut publishers = streams
            .map(|stream| publish(&SHORT.file(), &format!("{base}/{stream}"), Pace::Endless));
        let found = eventually("four streams at the target", 2 * SOON, || {
            let found = published();
            (found.len() == streams.len()).then_some(found)
        });
        for publisher in &mut publishers {
            publisher.signal(libc::SIGINT);
            publisher.wait(LIMIT);
        }
        eventually("nothing is left", 2 * SOON, || published().is_empty().then_some(()));
        found
    };
    let theirs = nginx(&scratch, &port, &hook);
    let of_nginx = of(&format!("rtmp://{}", port.address()));
    drop(theirs);
    let server = Server::start(&[
        ("hooks.on_publish", &hook),
        ("apps.renaming.hooks.notify_relay_redirect", "true"),
    ]);
    let ours = of(&format!("rtmp://{}", server.rtmp()));
    assert_eq!(ours, of_nginx);
    println!("{ours:?}");
    [server, target].into_iter().for_each(Server::stop);
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

/// A request with a JSON body; gives the status and the answer, which may be empty.
fn request(server: &Server, method: &str, target: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let text = format!(
        "{method} {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut response = http::send_raw(server.api().address(), text.as_bytes());
    let body = response.read_to_end();
    (response.status, serde_json::from_slice(&body).unwrap_or_default())
}

#[test]
fn the_api_adds_targets_to_a_live_stream_and_ends_them() {
    let target = Server::start(&[]);
    let dead = Port::reserve();
    let scratch = Scratch::new("added-by-api");
    let server = start_with_file(&scratch, &[]);
    let stream = json!({ "app": "live", "name": "cam" });
    let push = |url: &str| json!({ "direction": "push", "stream": stream, "url": url });
    let good = format!("rtmp://{}/other/instance/x", target.rtmp());
    assert_eq!(request(&server, "POST", "/api/v1/relays", &push(&good)).0, 404, "not published");
    let mut publisher = publish(&SHORT.file(), &server.rtmp_url(STREAM), Pace::Endless);
    server.api().wait_for_frames(STREAM, 10, SOON);

    let (status, relay) = request(&server, "POST", "/api/v1/relays", &push(&good));
    assert_eq!(status, 201, "{relay}");
    assert_eq!((&relay["origin"], &relay["url"]), (&json!("api"), &json!(good)));
    target.api().wait_for_frames("other/instance/x", 30, SOON);
    let (status, answer) = request(&server, "POST", "/api/v1/relays", &push(&good));
    assert_eq!(status, 409, "{answer}");
    // A server that is not there is tried again, at once when wanted.
    let mut late = push(&format!("rtmp://{}/live", dead.address()));
    late["retry"] = json!("60s");
    let (_, second) = request(&server, "POST", "/api/v1/relays", &late);
    let second = format!("/api/v1/relays/{}", second["id"]);
    let attempts = || request(&server, "GET", &second, &Value::Null).1["attempts"].as_u64();
    eventually("it waits for long", 3 * SOON, || {
        let (_, relay) = request(&server, "GET", &second, &Value::Null);
        (is_state(&relay, "retrying") && relay["attempts"].as_u64() > Some(3)).then_some(())
    });
    let before = attempts();
    let (status, answer) = request(&server, "POST", &format!("{second}/retry"), &Value::Null);
    assert_eq!(status, 200, "{answer}");
    eventually("it was tried", SOON, || (attempts() > before).then_some(()));

    // They are no rules of the configuration, which cannot take them away.
    reload(&server, &scratch);
    assert_eq!(relays(&server).len(), 2);
    let first = format!("/api/v1/relays/{}", relay["id"]);
    let (status, _) = request(&server, "POST", &format!("{first}/retry"), &Value::Null);
    assert_eq!(status, 409, "it does not wait");
    assert_eq!(request(&server, "DELETE", &first, &Value::Null).0, 204);
    target.api().wait_for_no_publisher("other/instance/x", SOON);
    eventually("it is gone", SOON, || {
        (request(&server, "GET", &first, &Value::Null).0 == 404).then_some(())
    });
    assert_eq!(request(&server, "DELETE", &first, &Value::Null).0, 404);
    assert!(publisher.is_running(), "and the publisher goes on");

    // What is fetched stays without a viewer, until it is ended.
    let from = format!("rtmp://{}/live/_definst_/cam", server.rtmp());
    let fetch =
        json!({ "direction": "pull", "stream": { "app": "here", "name": "c" }, "url": from });
    let (status, pulled) = request(&target, "POST", "/api/v1/relays", &fetch);
    assert_eq!(status, 201, "{pulled}");
    target.api().wait_for_frames("here/c", 30, SOON);
    let (status, _) = request(&target, "POST", "/api/v1/relays", &fetch);
    assert_eq!(status, 409, "it is here");
    let pulled = format!("/api/v1/relays/{}", pulled["id"]);
    assert_eq!(request(&target, "DELETE", &pulled, &Value::Null).0, 204);
    target.api().wait_for_no_publisher("here/c", SOON);

    publisher.signal(libc::SIGINT);
    publisher.wait(LIMIT);
    wait_for_relays(&server, "targets end with the stream", <[Value]>::is_empty);
    [server, target].into_iter().for_each(Server::stop);
}

/// The feed of events, read by a thread.
struct Feed {
    events: Arc<Mutex<Vec<Value>>>,
    socket: TcpStream,
}

impl Feed {
    fn listen(server: &Server, query: &str) -> Self {
        Self::listen_with(server, query, "")
    }

    /// The same with more header lines.
    fn listen_with(server: &Server, query: &str, headers: &str) -> Self {
        let head = format!("GET /api/v1/events{query} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
        let response = http::send_raw(server.api().address(), head.as_bytes());
        assert_eq!(
            (response.status, response.header("Content-Type")),
            (200, Some("text/event-stream"))
        );
        let (stream, early) = response.into_parts();
        stream.set_read_timeout(None).expect("it can be set");
        let socket = stream.try_clone().expect("there are descriptors");
        let feed = Self { events: Arc::default(), socket };
        let events = Arc::clone(&feed.events);
        std::thread::spawn(move || {
            let lines = BufReader::new(early.as_slice().chain(stream)).lines();
            for line in lines.map_while(Result::ok) {
                if let Some(data) = line.strip_prefix("data: ") {
                    let event = serde_json::from_str(data).expect("it is JSON");
                    events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                }
            }
        });
        feed
    }

    fn all(&self) -> Vec<Value> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ids(&self) -> Vec<u64> {
        self.all().iter().filter_map(|it| it["id"].as_u64()).collect()
    }

    fn hang_up(&self) {
        self.socket.shutdown(Shutdown::Both).expect("it is open");
    }

    fn words(&self) -> Vec<String> {
        let word = |event: &Value| event["event"].as_str().unwrap_or_default().to_owned();
        self.all().iter().map(word).collect()
    }
}

#[test]
fn what_becomes_of_a_relay_is_told_to_hooks_and_listeners() {
    let port = Port::reserve();
    for dialect in ["nginx", "srs"] {
        let hooks = HookServer::start(|_| Reply::zero());
        let server = Server::start(&[
            ("hooks.dialect", dialect),
            ("hooks.on_relay", &hooks.url("/relay")),
            (
                "apps.live.push",
                &format!("[{{ url = \"rtmp://{}/there\", retry = \"200ms\" }}]", port.address()),
            ),
        ]);
        let feed = Feed::listen(&server, "?event=relay&app=live");
        let mut publisher = publish(&SHORT.file(), &server.rtmp_url(STREAM), Pace::Endless);
        let states = || -> Vec<String> {
            let state = |it: &Value| it["state"].as_str().unwrap_or_default().to_owned();
            feed.all().iter().map(state).collect()
        };
        eventually("it is tried again", SOON, || {
            states().contains(&"retrying".to_owned()).then_some(())
        });
        let target = Server::start(&[("rtmp.listen", &port.address())]);
        target.api().wait_for_frames("there/cam", 10, SOON);
        // Somebody else has the name now, and keeps it.
        target.process().signal(libc::SIGKILL);
        drop(target);
        let other = Server::start(&[
            ("rtmp.listen", &port.address()),
            ("apps.there.publish.takeover", "reject"),
            ("apps.there.access", "[{ deny = \"publish\", from = \"all\" }]"),
        ]);
        eventually("the target says no", 2 * SOON, || {
            states().contains(&"refused".to_owned()).then_some(())
        });
        publisher.signal(libc::SIGINT);
        publisher.wait(LIMIT);
        eventually("it stops", SOON, || {
            (states().last().map(String::as_str) == Some("stopped")).then_some(())
        });
        let heard = states();
        let at = |word: &str| heard.iter().position(|it| it == word).expect(word);
        assert!(
            at("connecting") < at("retrying") && at("retrying") < at("publishing"),
            "{heard:?}"
        );
        assert!(at("publishing") < at("refused") && at("refused") < at("stopped"), "{heard:?}");
        let refused = feed.all().into_iter().find(|it| it["state"] == "refused").expect("it was");
        assert_eq!(refused["code"], "NetStream.Publish.Denied", "{refused}");
        assert_eq!(refused["url"], format!("rtmp://{}/there/cam", port.address()));
        // Hooks hear the same, in order.
        let told = eventually("hooks are told all", SOON, || {
            let told: Vec<String> = hooks
                .requests()
                .iter()
                .filter_map(|it| match dialect {
                    "nginx" => it.field("state"),
                    _ => it.json()["state"].as_str().map(str::to_owned),
                })
                .collect();
            (told.len() >= heard.len()).then_some(told)
        });
        assert_eq!(told, heard);
        let first = &hooks.requests()[0];
        match dialect {
            "nginx" => assert!(
                first.body.starts_with("app=live&flashver=ngx-local-relay&swfurl=&tcurl=rtmp://")
                    && first.body.contains(
                        "&call=relay&name=cam&relay=1&direction=push&state=connecting&target="
                    ),
                "{}",
                first.body
            ),
            _ => assert_eq!(first.json()["action"], "on_relay", "{}", first.body),
        }
        [server, other].into_iter().for_each(Server::stop);
    }
}

#[test]
fn one_listener_too_many_is_told_so_until_another_goes() {
    let server = Server::start(&[]);
    let ask = || http::get(server.api().address(), "/api/v1/events");
    let mut listeners: Vec<_> = (0..EVENT_LISTENERS_MAX).map(|_| ask()).collect();
    assert!(listeners.iter().all(|it| it.status == 200));
    let mut refused = ask();
    let text = String::from_utf8(refused.read_to_end()).expect("text");
    assert!(refused.status == 503 && text.contains("docs/events.md"), "{text}");
    drop(listeners.pop());
    eventually("there is room again", SOON, || (ask().status == 200).then_some(()));
    server.stop();
}

#[test]
fn listeners_hear_of_clients_and_streams() {
    let hooks = HookServer::start(|request| match request.field("name").as_deref() {
        Some("no") => Reply::status("403 no", ""),
        _ => Reply::ok(),
    });
    let server =
        Server::start(&[("hooks.on_publish", &hooks.url("/")), ("http.flv_missing", "wait")]);
    let (all, plays) = (Feed::listen(&server, ""), Feed::listen(&server, "?event=play,play_done"));
    let mut refused = publish(&SHORT.file(), &server.rtmp_url("live/no?key=secret"), Pace::Unpaced);
    refused.wait(LIMIT);
    let scratch = Scratch::new("events");
    let mut player = Player::start(&server.flv_url(STREAM), scratch.file("list"));
    server.api().wait_for_viewers(STREAM, 1, SOON);
    let mut publisher = publish(&SHORT.file(), &server.rtmp_url(STREAM), Pace::RealTime);
    publisher.expect_success(LIMIT);
    player.finish(LIMIT);
    eventually("all is told", SOON, || {
        let words = all.words();
        (words.iter().filter(|word| *word == "disconnect").count() == 3).then_some(())
    });
    let of =
        |word: &str| all.all().into_iter().filter(|it| it["event"] == word).collect::<Vec<_>>();
    assert_eq!((of("connect").len(), of("publish").len(), of("play").len()), (2, 1, 1));
    assert_eq!((of("publish_done").len(), of("play_done").len()), (1, 1));
    let refused = &of("refused")[0];
    assert_eq!(
        (&refused["what"], &refused["reason"], &refused["stream"]),
        (&json!("publish"), &json!("denied"), &json!("no"))
    );
    assert!(all.all().iter().all(|it| !it.to_string().contains("secret")), "no keys");
    assert_eq!(of("publish")[0]["client"], of("publish_done")[0]["client"]);
    assert!(of("disconnect").iter().any(|it| it["bytes_in"].as_u64() > Some(10_000)));
    assert_eq!(plays.words(), ["play", "play_done"]);
    let ids = all.ids();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");

    let mut wrong = http::get(server.api().address(), "/api/v1/events?event=publish,nothing");
    let text = String::from_utf8(wrong.read_to_end()).expect("text");
    assert!(wrong.status == 400 && text.contains("no event"), "{text}");
    server.stop();
}

#[test]
fn a_listener_that_comes_back_is_sent_what_it_has_missed() {
    let server = Server::start(&[]);
    let publish_once = |stream: &str| {
        let mut publisher = publish(&SHORT.file(), &server.rtmp_url(stream), Pace::Unpaced);
        publisher.expect_success(LIMIT);
    };
    let first = Feed::listen(&server, "");
    publish_once("live/first");
    let of_one = ["connect", "publish", "publish_done", "disconnect"];
    eventually("all is told", SOON, || (first.words() == of_one).then_some(()));
    first.hang_up();
    publish_once("live/second");
    let ids = first.ids();
    let last = ids.last().expect("there are some");
    let back = format!("Last-Event-ID: {last}\r\n");
    let second = Feed::listen_with(&server, "", &back);
    eventually("what it has missed is told", SOON, || (second.words() == of_one).then_some(()));
    let numbers: Vec<u64> = (1..=4).map(|number| last + number).collect();
    assert_eq!(second.ids(), numbers, "no gap, before or within");
    let some = Feed::listen_with(&server, "?event=publish", &back);
    eventually("what it wants of it", SOON, || (some.words() == ["publish"]).then_some(()));
    assert_eq!(some.all()[0]["stream"], "second");
    // It has heard another server, of which this one knows nothing.
    let stranger = Feed::listen_with(&server, "?event=connect", "Last-Event-ID: 12\r\n");
    eventually("all of this one", SOON, || (stranger.all().len() == 3).then_some(()));
    assert_eq!(stranger.words(), ["lost", "connect", "connect"]);
    assert_eq!(stranger.all()[0], json!({ "event": "lost", "count": null }));
    server.stop();
}
