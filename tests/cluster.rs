//! Several nodes as one server: streams published on one and viewed on all, takeovers across nodes, nodes and
//! Redis that fail, push messages and rooms that reach everybody.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use shardcast::proto::rtmp::message;
use tungstenite::Message;

use support::audience::{Audience, Encoder};
use support::ffmpeg::{Pace, Player, publish};
use support::http;
use support::link::{far_address, near_address, received_bytes, spawn_linked};
use support::media::{Media, SMALL_VIDEO, Video};
use support::namespace::with_own_network;
use support::nodes::{Nodes, account, connect_as_node, link_word, pull, pull_with, standing};
use support::packets::Source;
use support::palava::Palava;
use support::publisher::{Feed, VIDEO_CONFIG};
use support::push::{SECRET, post, token, wait_for_members};
use support::redis::Redis;
use support::relays::{relays, wait_for_relays};
use support::rtmp_client::code_of;
use support::scratch::Scratch;
use support::server::Server;
use support::stamp::{Stamp, now_nanos};
use support::wait::{SOON, eventually};
use support::websocket::WebSocketViewer;

const STREAM: &str = "live/cam";
const PUBLISH_LIMIT: Duration = Duration::from_secs(40);
const END_LIMIT: Duration = Duration::from_secs(15);

fn ten_seconds() -> Media {
    Media { seconds: 10, video: Some(SMALL_VIDEO), audio: true }
}

fn viewers(server: &Server) -> u64 {
    server.api().snapshot().viewers(STREAM).iter().sum()
}

#[test]
fn a_stream_of_one_node_is_the_same_on_all() {
    let source = Source::of_file(&ten_seconds().file());
    let nodes = Nodes::start(3, &[]);
    let scratch = Scratch::new("cluster");
    // Who is there before the stream waits for it, on any node.
    let mut early: Vec<Player> = (0..3)
        .map(|number| {
            let url = nodes.server(number).rtmp_url(STREAM);
            Player::start(&url, scratch.file(&format!("early{number}.md5")))
        })
        .collect();
    for number in 0..3 {
        nodes.server(number).api().wait_for_viewers(STREAM, 1, SOON);
        let missing = http::get(nodes.server(number).http(), "/live/nothing.flv");
        assert_eq!(missing.status, 404, "no node has it");
    }
    let mut publisher =
        publish(&ten_seconds().file(), &nodes.server(0).rtmp_url(STREAM), Pace::RealTime);
    nodes.wait_for_lease(0, STREAM);
    // Who comes later finds it at once, over HTTP as well.
    let mut late: Vec<Player> = (0..3)
        .map(|number| {
            nodes.server(number).api().wait_for_frames(STREAM, 100, 3 * SOON);
            let url = nodes.server(number).flv_url(STREAM);
            Player::start(&url, scratch.file(&format!("late{number}.md5")))
        })
        .collect();
    eventually(
        "two viewers on each node; the first is viewed by the other nodes, too",
        SOON,
        || ([0, 1, 2].map(|number| viewers(nodes.server(number))) == [4, 2, 2]).then_some(()),
    );
    for number in [1, 2] {
        let copies = nodes.account(number)["copies"].clone();
        assert_eq!(copies.as_array().map(Vec::len), Some(1), "{copies}");
        assert_eq!(copies[0]["stream"], STREAM);
        let refused = pull(nodes.rtmp(number), &nodes.secret(), STREAM);
        assert_eq!(refused, Err("NetStream.Play.StreamNotFound".to_owned()), "a copy is no source");
    }
    only_nodes_that_fetch_it_get_it(&nodes);
    publisher.expect_success(PUBLISH_LIMIT);
    for (number, player) in early.iter_mut().enumerate() {
        let received = player.finish(END_LIMIT);
        let joined = source.assert_played(player.process().name(), &received);
        assert_eq!(joined.video_skipped, 0, "node {number}: a player that was there gets all");
    }
    for player in &mut late {
        let received = player.finish(END_LIMIT);
        source.assert_played(player.process().name(), &received);
    }
    for number in 0..3 {
        eventually("nothing is left of it", 2 * SOON, || {
            let account = nodes.account(number);
            let is_empty = |key: &str| account[key].as_array().is_some_and(Vec::is_empty);
            (is_empty("streams") && is_empty("copies")).then_some(())
        });
    }
    assert_eq!(nodes.redis.keys("shardcast:stream:*"), [] as [String; 0]);
    nodes.nodes.into_iter().for_each(|node| node.server.stop());
}

/// What a word lets somebody do who has overheard it: fetch this stream of its owner, for a minute.
fn only_nodes_that_fetch_it_get_it(nodes: &Nodes) {
    let (owner, secret) = (nodes.rtmp(0), nodes.secret());
    let rejected = Err("NetConnection.Connect.Rejected".to_owned());
    assert_eq!(pull(owner, "a guess", STREAM), rejected);
    assert!(pull(owner, &secret, STREAM).is_ok());
    for later_s in [-120, 120] {
        let word = link_word(&secret, STREAM, later_s);
        assert_eq!(pull_with(owner, &word, STREAM), rejected, "{later_s} s from now");
    }
    let of_other = link_word(&secret, "live/other", 0);
    let refused = pull_with(owner, &of_other, STREAM);
    assert_eq!(refused, Err("NetStream.Play.StreamNotFound".to_owned()));
    let mut client = connect_as_node(owner, "live", &of_other).expect("the word is right");
    let message_stream = client.create_stream();
    client.tell(message_stream, "publish", &["other".into(), "live".into()]);
    let status = client.wait_until(SOON, |it| it.name == "onStatus").expect("an answer");
    assert!(code_of(&status).starts_with("NetStream.Publish."), "{}", code_of(&status));
    assert_ne!(code_of(&status), "NetStream.Publish.Start");
}

#[test]
fn streams_of_one_name_in_two_vhosts_are_two_on_all_nodes() {
    let other_media =
        Media { seconds: 10, video: Some(Video { gop_frames: 30, ..SMALL_VIDEO }), audio: true };
    let nodes = Nodes::start(2, &[("vhosts.one_test.aliases", "['one.test']")]);
    let scratch = Scratch::new("cluster-vhosts");
    let streams = [(STREAM, ten_seconds()), ("live?vhost=one.test/cam", other_media)];
    let mut players: Vec<Player> = streams
        .iter()
        .enumerate()
        .map(|(number, (stream, _))| {
            let url = nodes.server(1).rtmp_url(stream);
            Player::start(&url, scratch.file(&format!("{number}.md5")))
        })
        .collect();
    eventually("both wait", SOON, || {
        let all: u64 = nodes.server(1).api().snapshot().connections().iter().sum();
        (all == 2).then_some(())
    });
    let mut publishers = streams.each_ref().map(|(stream, media)| {
        publish(&media.file(), &nodes.server(0).rtmp_url(stream), Pace::RealTime)
    });
    eventually("node 1 has a copy of each", SOON, || {
        let copies = nodes.account(1)["copies"].clone();
        (copies.as_array().map(Vec::len) == Some(2)).then_some(())
    });
    publishers.iter_mut().for_each(|publisher| publisher.expect_success(PUBLISH_LIMIT));
    for ((stream, media), player) in streams.iter().zip(&mut players) {
        let joined =
            Source::of_file(&media.file()).assert_played(stream, &player.finish(END_LIMIT));
        assert_eq!(joined.video_skipped, 0, "{stream}");
    }
    nodes.nodes.into_iter().for_each(|node| node.server.stop());
}

#[test]
fn a_stream_is_sent_on_by_its_owner_only() {
    let target = Server::start(&[]);
    let rule = format!("[{{ url = \"{}\" }}]", target.rtmp_url("live"));
    let nodes = Nodes::start(2, &[("apps.live.push", &rule)]);
    let scratch = Scratch::new("cluster-push");
    // The publisher goes from one node to the other.
    for (owner, other) in [(0, 1), (1, 0)] {
        let viewed = nodes.server(other).rtmp_url(STREAM);
        let mut player = Player::start(&viewed, scratch.file(&format!("{other}.md5")));
        nodes.server(other).api().wait_for_viewers(STREAM, 1, SOON);
        let url = nodes.server(owner).rtmp_url(STREAM);
        let mut publisher = publish(&ten_seconds().file(), &url, Pace::Endless);
        target.api().wait_for_frames(STREAM, 60, 2 * SOON);
        nodes.server(other).api().wait_for_frames(STREAM, 60, 2 * SOON);
        let pushes = |number: usize| {
            let all = relays(nodes.server(number));
            all.iter().filter(|relay| relay["direction"] == "push").count()
        };
        assert_eq!((pushes(owner), pushes(other)), (1, 0), "node {owner} has the publisher");
        publisher.signal(libc::SIGINT);
        publisher.wait(PUBLISH_LIMIT);
        target.api().wait_for_no_publisher(STREAM, SOON);
        wait_for_relays(nodes.server(owner), "the push ends", |all| {
            all.iter().all(|relay| relay["direction"] != "push")
        });
        player.finish(END_LIMIT);
    }
    nodes.nodes.into_iter().for_each(|node| node.server.stop());
    target.stop();
}

#[test]
fn a_push_rule_that_is_read_later_is_for_the_owner_only() {
    let target = Server::start(&[]);
    let scratch = Scratch::new("cluster-reload");
    let files = [0, 1].map(|number| {
        let file = scratch.file(&format!("node{number}.toml"));
        fs::write(&file, "").expect("it can be written");
        file
    });
    let nodes = Nodes::start_with(Redis::start(), &files.clone().map(Some), &[]);
    let mut player = Player::start(&nodes.server(1).rtmp_url(STREAM), scratch.file("player.md5"));
    nodes.server(1).api().wait_for_viewers(STREAM, 1, SOON);
    let url = nodes.server(0).rtmp_url(STREAM);
    let mut publisher = publish(&ten_seconds().file(), &url, Pace::Endless);
    (0..2).for_each(|number| _ = nodes.server(number).api().wait_for_frames(STREAM, 30, 2 * SOON));
    // First the node with the copy, so that it would be the one to push.
    for number in [1, 0] {
        let rule = format!("[apps.live]\npush = [{{ url = \"{}\" }}]\n", target.rtmp_url("live"));
        fs::write(&files[number], rule).expect("it can be written");
        let process = nodes.server(number).process();
        process.signal(libc::SIGHUP);
        process.wait_for_stderr("configuration read again", SOON);
    }
    target.api().wait_for_frames(STREAM, 60, 2 * SOON);
    let pushes = |number: usize| {
        let all = relays(nodes.server(number));
        all.iter().filter(|relay| relay["direction"] == "push").count()
    };
    assert_eq!((pushes(0), pushes(1)), (1, 0), "the owner has the publisher");
    publisher.signal(libc::SIGINT);
    publisher.wait(PUBLISH_LIMIT);
    player.finish(END_LIMIT);
    nodes.nodes.into_iter().for_each(|node| node.server.stop());
    target.stop();
}

#[test]
fn what_needs_somebodys_attention_is_told() {
    let redis = Redis::start();
    redis.cli(&["CONFIG", "SET", "maxmemory", "100mb"]);
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let nodes = Nodes::start_with(redis, &[None, None], &[]);
    nodes.server(0).process().wait_for_stderr("maxmemory-policy", SOON);
    let words = "redis_down,redis_up,unleased,leased,fenced";
    let api = nodes.server(0).api().address();
    let (feed, early) = http::get(api, &format!("/api/v1/events?event={words}")).into_parts();
    let publish = |number: usize| Feed::try_start(nodes.rtmp(number), STREAM, None);
    let first = publish(0).expect("it is free");
    nodes.wait_for_lease(0, STREAM);
    nodes.nodes[0].gate.shut();
    eventually("its lease has run out", SOON, || {
        (standing(&nodes.account(0), STREAM)?["state"] == "unleased").then_some(())
    });
    let _second = eventually("the name is free elsewhere", SOON, || publish(1).ok());
    nodes.nodes[0].gate.open();
    let why = first.end();
    assert!(why.starts_with("NetStream.Publish.BadName"), "{why}");
    let lines = BufReader::new(early.as_slice().chain(feed)).lines().map_while(Result::ok);
    let data = lines.filter_map(|line| line.strip_prefix("data: ").map(str::to_owned));
    let told: Vec<Value> =
        data.take(4).map(|data| serde_json::from_str(&data).expect("JSON")).collect();
    let words: Vec<&str> = told.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(words, ["redis_down", "unleased", "redis_up", "fenced"]);
    let fenced = &told[3];
    assert_eq!((&fenced["app"], &fenced["stream"]), (&"live".into(), &"cam".into()));
    assert_eq!(fenced["node"], nodes.account(1)["node"]);
    let counters = nodes.account(0)["counters"].clone();
    assert_eq!((&counters["lease_lost"], &counters["fenced"]), (&1.into(), &1.into()));
}

/// One application for each policy.
const POLICIES: [(&str, &str); 3] = [
    ("apps.reject.publish.takeover", "reject"),
    ("apps.replace.publish.takeover", "replace"),
    ("apps.silent.publish.takeover", "replace_when_silent"),
];

/// Sends frames until the server ends the connection; gives what it said.
fn sends_until_the_end(mut feed: Feed, mut number: u64) -> String {
    let deadline = Instant::now() + SOON;
    while send(&mut feed, number) {
        assert!(Instant::now() < deadline, "the publisher is not closed");
        number += 1;
        thread::sleep(Duration::from_millis(20));
    }
    feed.end()
}

fn send(feed: &mut Feed, number: u64) -> bool {
    let stamp = Stamp { number, sent_nanos: now_nanos(), is_keyframe: true };
    let time_ms = u32::try_from(number * 20).expect("a short run");
    feed.try_send(message::VIDEO, time_ms, &VIDEO_CONFIG)
        && feed.try_send(message::VIDEO, time_ms, &stamp.write(200))
}

fn is_busy(refused: Result<Feed, String>) -> bool {
    refused.is_err_and(|why| why.starts_with("NetStream.Publish.BadName"))
}

#[test]
fn a_second_publisher_elsewhere_is_judged_by_the_policy_of_the_owner() {
    let nodes = Nodes::start(2, &POLICIES);
    let publish = |number: usize, stream: &str| Feed::try_start(nodes.rtmp(number), stream, None);

    let mut first = publish(0, "reject/cam").expect("it is free");
    assert!(is_busy(publish(1, "reject/cam")));
    assert!(send(&mut first, 0), "the first one goes on");
    first.say_goodbye();
    eventually("the name is free on all nodes", SOON, || publish(1, "reject/cam").ok());

    let audience = Audience::start();
    let first = publish(0, "replace/cam").expect("it is free");
    let before = nodes.wait_for_lease(0, "replace/cam");
    (0..2).for_each(|number| audience.join(number, nodes.rtmp(number), "replace/cam"));
    let sending = thread::spawn(move || sends_until_the_end(first, 1));
    eventually("both players see the first publisher", SOON, || {
        (audience.have_seen(|_| 1) == 2).then_some(())
    });
    let mut second = publish(1, "replace/cam").expect("it takes over");
    let why = sending.join().expect("it ends");
    assert!(why.starts_with("NetStream.Publish.BadName replaced by 127.0.0.1:"), "{why}");
    assert!(nodes.wait_for_lease(1, "replace/cam") > before);
    assert!(standing(&nodes.account(0), "replace/cam").is_none());
    let mut number = 10_000;
    eventually("both players see the second one", SOON, || {
        number += 1;
        assert!(send(&mut second, number));
        (audience.have_seen(|_| 10_000) == 2).then_some(())
    });
    audience.assert_no_faults();

    let first = publish(0, "silent/cam").expect("it is free");
    let sending = thread::spawn(move || {
        let (mut first, until) = (first, Instant::now() + Duration::from_secs(4));
        for number in 0.. {
            if Instant::now() >= until {
                return first;
            }
            assert!(send(&mut first, number));
            thread::sleep(Duration::from_millis(50));
        }
        unreachable!("numbers do not end")
    });
    assert!(is_busy(publish(1, "silent/cam")), "the first one is alive");
    let first = sending.join().expect("it goes on");
    let asked = Instant::now();
    let second = publish(1, "silent/cam").expect("the first one is silent by now");
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    let why = first.end();
    assert!(why.starts_with("NetStream.Publish.BadName replaced by"), "{why}");
    second.say_goodbye();
}

#[test]
fn two_encoders_that_fight_by_way_of_two_nodes_are_stopped() {
    let nodes = Nodes::start(2, &POLICIES);
    let from = |last: u8| Some(IpAddr::from([127, 0, 0, last]));
    let publish =
        |number: usize, last: u8| Feed::try_start(nodes.rtmp(number), "replace/cam", from(last));
    let _first = publish(0, 5).expect("it is free");
    let _second = publish(1, 6).expect("it takes over");
    let _third = publish(0, 5).expect("once more");
    assert!(is_busy(publish(1, 6)), "that is a fight");
    assert!(standing(&nodes.account(0), "replace/cam").is_some());
}

#[test]
fn messages_and_rooms_reach_all_nodes() {
    let nodes = Nodes::start(3, &[("push.secret", SECRET)]);
    let api = |number: usize| nodes.server(number).api().address();
    let mut members: Vec<WebSocketViewer> = (0..3)
        .map(|number| {
            let target = format!("/push?session={}", token(number as i64, &[10]));
            let socket = WebSocketViewer::ask(nodes.server(number).http(), &target, &[]);
            wait_for_members(api(number), 10, 1, SOON);
            socket.unwrap_or_else(|status| panic!("status {status}"))
        })
        .collect();
    const MESSAGES: usize = 200;
    for number in 0..MESSAGES {
        let reached = post(api(0), "/channels/10/message", &format!("zero {number}"));
        assert_eq!(reached, 1, "those of the node that was asked are counted");
        post(api(1), "/channels/10/message", &format!("one {number}"));
    }
    assert_eq!(post(api(0), "/users/2/message", "to one user"), 0);
    for (number, member) in members.iter_mut().enumerate() {
        // Of either sender in order; the user's message comes after all others of the first one.
        let mut next = [0, 0];
        let expected = [MESSAGES + usize::from(number == 2), MESSAGES];
        while next != expected {
            let text = text_of(member);
            let sender = usize::from(text.starts_with("one"));
            let word = ["zero", "one"][sender];
            let wanted = match next[sender] {
                MESSAGES => "to one user".to_owned(),
                count => format!("{word} {count}"),
            };
            assert_eq!(text, wanted, "member {number}: each once and in order");
            next[sender] += 1;
        }
    }
    // Rooms are in the cluster's Redis without being told to.
    let mut first = Palava::open(nodes.server(0).http());
    let id = first.join("room", None)["own_id"].clone();
    let mut second = Palava::open(nodes.server(2).http());
    let joined = second.join("room", None);
    assert_eq!(joined["peers"][0]["peer_id"], id);
    let newcomer = first.expect("new_peer");
    second.tell(id.as_str().expect("text"), "hello");
    let heard = first.expect("message");
    assert_eq!((&heard["data"], &heard["sender_id"]), (&"hello".into(), &newcomer["peer_id"]));
}

/// A member of channel 10 on a node.
fn member(nodes: &Nodes, number: usize) -> WebSocketViewer {
    let server = nodes.server(number);
    let target = format!("/push?session={}", token(number as i64, &[10]));
    let socket = WebSocketViewer::ask(server.http(), &target, &[]);
    wait_for_members(server.api().address(), 10, 1, SOON);
    socket.unwrap_or_else(|status| panic!("status {status}"))
}

fn pushes(nodes: &Nodes, number: usize, way: &str) -> u64 {
    nodes.account(number)["counters"][format!("pushes_{way}")].as_u64().expect("a number")
}

/// Reads until the last message, and says how many there were; none comes twice, and all are in order.
fn read_until(member: &mut WebSocketViewer, last: &str) -> u64 {
    let (mut count, mut before) = (0, None);
    loop {
        let text = text_of(member);
        if text == last {
            return count;
        }
        let number: u64 = text.parse().expect("a number");
        assert!(before.is_none_or(|before| before < number), "{number} after {before:?}");
        (before, count) = (Some(number), count + 1);
    }
}

#[test]
fn messages_that_redis_did_not_confirm_reach_all_nodes_once_and_all_others_are_counted() {
    let mut nodes = Nodes::start(2, &[("push.secret", SECRET)]);
    let mut members = [0, 1].map(|number| member(&nodes, number));
    let api = nodes.server(0).api().address();
    let say = |text: &str| post(api, "/channels/10/message", text);
    say("1");
    // The other node may hear it before this one hears that Redis has said it.
    eventually("it is said", SOON, || (pushes(&nodes, 0, "said") == 1).then_some(()));
    eventually("it is heard", SOON, || (pushes(&nodes, 1, "heard") == 1).then_some(()));
    // The second message is on its way when the node is cut off; what is said then is not kept. What has
    // waited on the way comes as well when Redis is there again, before the node says it once more.
    nodes.nodes[0].gate.shut();
    (2..5).for_each(|number| _ = say(&number.to_string()));
    nodes.wait_for_redis(0, false);
    nodes.nodes[0].gate.open();
    nodes.wait_for_redis(0, true);
    say("5");
    eventually("all is said", SOON, || {
        (pushes(&nodes, 0, "said") + pushes(&nodes, 0, "lost") == 5).then_some(())
    });
    assert!(pushes(&nodes, 0, "said") >= 3, "the one before, the one under way, the one after");
    // Redis is stopped with a message, and dies before it has said it.
    let said = pushes(&nodes, 0, "said");
    nodes.redis.freeze();
    say("6");
    nodes.redis.kill();
    (0..2).for_each(|number| nodes.wait_for_redis(number, false));
    nodes.redis.start_again();
    (0..2).for_each(|number| nodes.wait_for_redis(number, true));
    eventually("it is said again", SOON, || (pushes(&nodes, 0, "said") > said).then_some(()));
    say("end");
    let [at_home, away] = members.each_mut().map(|member| read_until(member, "end"));
    assert_eq!(at_home, 6, "members of the node itself miss nothing");
    assert_eq!(away + pushes(&nodes, 0, "lost") + pushes(&nodes, 1, "lost"), 6);
    assert!(away >= 4, "{away} of 1, 2, 5 and 6");
}

/// The text of the next push message.
fn text_of(member: &mut WebSocketViewer) -> String {
    loop {
        if let Message::Text(text) = member.next() {
            let message: Value = serde_json::from_str(&text).expect("JSON");
            return message["message"].as_str().expect("text").to_owned();
        }
    }
}

/// A node on an address of its own.
fn node_at(address: &str, redis: u16) -> Server {
    Server::start(&[
        ("rtmp.listen", &format!("{address}:1935")),
        ("cluster.redis", &format!("redis://{}:{redis}", near_address(1))),
        ("cluster.advertise", &format!("rtmp://{address}")),
    ])
}

#[test]
fn each_link_between_nodes_carries_each_stream_once() {
    const STREAMS: usize = 10;
    const VIEWERS: usize = 5;
    const FRAME_BYTES: usize = 6_000;
    const WINDOW: Duration = Duration::from_secs(6);
    let name = |number: usize| format!("live/s{number}");
    with_own_network(|| {
        let redis = Redis::start_on("0.0.0.0");
        let port = redis.port();
        // Everybody watches, and the window begins; it ends; nobody needs the links any more.
        let steps = Barrier::new(3);
        let counted = thread::scope(|scope| {
            let others = [1, 2].map(|link| {
                let steps = &steps;
                spawn_linked(scope, link, move || {
                    let node = node_at(&far_address(link), port);
                    let audience = Audience::start();
                    for viewer in 0..STREAMS * VIEWERS {
                        audience.join(0, node.rtmp(), &name(viewer % STREAMS));
                    }
                    eventually("everybody sees every stream", 3 * SOON, || {
                        (audience.have_seen(|_| 1) == STREAMS * VIEWERS).then_some(())
                    });
                    let copies = account(&node)["copies"].as_array().map(Vec::len);
                    assert_eq!(copies, Some(STREAMS));
                    steps.wait();
                    let before = received_bytes();
                    steps.wait();
                    let bytes = received_bytes() - before;
                    audience.assert_no_faults();
                    steps.wait();
                    bytes
                })
            });
            let owner = node_at(&near_address(1), port);
            let encoders: Vec<Encoder> = (0..STREAMS)
                .map(|number| Encoder::start(owner.rtmp(), &name(number), 1, FRAME_BYTES))
                .collect();
            let sent = || -> u64 {
                let snapshot = owner.api().snapshot();
                (0..STREAMS).map(|number| snapshot.bytes_in(&name(number))).sum()
            };
            steps.wait();
            let before = sent();
            thread::sleep(WINDOW);
            let bytes = sent() - before;
            steps.wait();
            drop(encoders);
            steps.wait();
            let received = others.map(|it| it.join().expect("the node does its part"));
            (bytes, received)
        });
        let (sent, received) = counted;
        println!("{STREAMS} streams: {sent} bytes published, {received:?} over the links");
        for bytes in received {
            let ratio = bytes as f64 / sent as f64;
            assert!((0.95..=1.05).contains(&ratio), "{ratio:.3} of what was published");
        }
    });
}
