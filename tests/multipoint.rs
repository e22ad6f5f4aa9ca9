//! The scenario of the manual that multipoint publishing is named after, in one run; streams to and from
//! nginx-rtmp that it asks for itself; and streams that would be sent round in a circle on one server.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::ffmpeg::{Pace, Player, publish};
use support::hook_server::{HookServer, Reply};
use support::media::{Media, SHORT, SMALL_VIDEO};
use support::nginx::Nginx;
use support::packets::{Packets, Source, Track};
use support::ports::Port;
use support::relays::{relays, wait_for_relays};
use support::scratch::Scratch;
use support::server::Server;
use support::wait::{SOON, eventually};

const STREAM: &str = "livestreams/localnews";
const AGAIN: &str = "livestreams/anotherinstance/localnews";
const LIMIT: Duration = Duration::from_secs(40);

/// A server that tells a recorder of its own what is published.
struct Told {
    server: Server,
    hooks: HookServer,
}

impl Told {
    fn start(push: &str) -> Self {
        let hooks = HookServer::start(|_| Reply::ok());
        let server = Server::start(&[
            ("apps.livestreams.push", push),
            ("hooks.on_publish", &hooks.url("/on_publish")),
            ("hooks.on_publish_done", &hooks.url("/on_publish_done")),
        ]);
        Self { server, hooks }
    }

    /// Where something was published, or ended, as the recorder has heard, in alphabetical order.
    fn heard(&self, call: &str) -> Vec<String> {
        let requests = self.hooks.requests().into_iter().filter(|it| it.call() == call);
        let name = |field| move |it: &support::hook_server::Recorded| it.field(field);
        let mut names: Vec<String> = requests
            .filter_map(|it| Some(format!("{}/{}", name("app")(&it)?, name("name")(&it)?)))
            .collect();
        names.sort();
        names
    }
}

#[test]
fn one_publisher_is_seen_on_three_servers_under_five_names() {
    let media = Media { seconds: 10, video: Some(SMALL_VIDEO), audio: true };
    let source = Source::of_file(&media.file());
    // Server 3 has the document's script as well: what it is sent it publishes again.
    let second = Told::start("[]");
    let third = Told::start("[{ app = \"livestreams/anotherinstance\", relayed = true }]");
    let to = |told: &Told| format!("{{ url = \"rtmp://{}/livestreams\" }}", told.server.rtmp());
    let first = Told::start(&format!(
        "[{{ app = \"livestreams/anotherinstance\" }}, {}, {}]",
        to(&second),
        to(&third)
    ));
    let scratch = Scratch::new("five-names");
    let places =
        [(&first, STREAM), (&first, AGAIN), (&second, STREAM), (&third, STREAM), (&third, AGAIN)];
    let mut players: Vec<Player> = (places.iter().enumerate())
        .map(|(at, (told, name))| {
            let player = Player::start(&told.server.rtmp_url(name), scratch.file(&at.to_string()));
            told.server.api().wait_for_viewers(name, 1, SOON);
            player
        })
        .collect();
    let mut publisher = publish(&media.file(), &first.server.rtmp_url(STREAM), Pace::RealTime);
    for (told, name) in places {
        told.server.api().wait_for_publisher(name, SOON);
    }
    publisher.expect_success(LIMIT);
    for player in &mut players {
        let received = player.finish(LIMIT);
        let joined = source.assert_played(player.process().name(), &received);
        assert_eq!(joined.video_skipped, 0, "a player that was there gets all");
    }
    for (told, names) in
        [(&first, &[AGAIN, STREAM][..]), (&second, &[STREAM]), (&third, &[AGAIN, STREAM])]
    {
        for call in ["publish", "publish_done"] {
            told.hooks.wait_for(call, names.len());
            assert_eq!(told.heard(call), names, "{call}");
        }
        wait_for_relays(&told.server, "nothing is left", <[Value]>::is_empty);
    }
    [first, second, third].into_iter().for_each(|told| told.server.stop());
}

fn digests(track: &Track) -> Vec<&str> {
    track.packets.iter().map(|packet| packet.md5.as_str()).collect()
}

/// Checks that what was received are packets of the source that follow each other, bit by bit, from one of
/// the first two groups of pictures on to about the end: nginx-rtmp has a clock of its own, begins at the
/// next keyframe, and does not always send the last packets.
fn assert_payloads(who: &str, source: &Source, received: &Packets) {
    let (whole, missing) = (source.packets(), 90);
    for (sent, got) in [(&whole.video, &received.video), (&whole.audio, &received.audio)] {
        let (sent, got) = (digests(sent), digests(got));
        let at = sent.iter().position(|digest| Some(digest) == got.first());
        let at = at.unwrap_or_else(|| panic!("{who}: the first packet is not of the source"));
        assert!(sent[at..].starts_with(&got), "{who}: a packet is not the source's");
        assert!(got.len() + missing >= sent.len(), "{who}: {} of {}", got.len(), sent.len());
    }
}

#[test]
fn nginx_rtmp_pushes_a_stream_here() {
    let source = Source::of_file(&SHORT.file());
    let server = Server::start(&[]);
    let push = format!("application from {{ live on; push rtmp://{}/live; }}", server.rtmp());
    let nginx = Nginx::start("nginx-pushes", &push);
    let scratch = Scratch::new("nginx-pushes-player");
    let mut player = Player::start(&server.rtmp_url("live/cam"), scratch.file("list"));
    server.api().wait_for_viewers("live/cam", 1, SOON);
    let mut publisher = publish(&SHORT.file(), &nginx.url("from/cam"), Pace::RealTime);
    server.api().wait_for_publisher("live/cam", SOON);
    publisher.expect_success(LIMIT);
    // It closes the connection without a goodbye; ours waits for it to come back.
    server.api().wait_for_no_publisher("live/cam", SOON);
    let received = player.finish(LIMIT);
    assert_payloads("the player", &source, &received);
    drop(nginx);
    server.stop();
}

#[test]
fn nginx_rtmp_pulls_a_stream_from_here() {
    let source = Source::of_file(&SHORT.file());
    let server = Server::start(&[]);
    let pull = format!("application to {{ live on; pull rtmp://{}/live; }}", server.rtmp());
    let nginx = Nginx::start("nginx-pulls", &pull);
    let scratch = Scratch::new("nginx-pulls-player");
    let mut player = Player::start(&nginx.url("to/cam"), scratch.file("list"));
    server.api().wait_for_viewers("live/cam", 1, SOON);
    let mut publisher = publish(&SHORT.file(), &server.rtmp_url("live/cam"), Pace::RealTime);
    publisher.expect_success(LIMIT);
    let wanted = source.packets().len();
    let received = eventually("the player has nearly everything", SOON, || {
        player.so_far().filter(|packets| packets.len() + 5 >= wanted)
    });
    assert_payloads("the player", &source, &received);
    player.process().signal(libc::SIGKILL);
    player.process().wait(SOON);
    drop(nginx);
    server.stop();
}

#[test]
fn a_server_does_not_send_a_stream_round_to_itself() {
    let port = Port::reserve();
    let own =
        |app: &str| format!("{{ url = \"rtmp://{}/{app}\", relayed = true }}", port.address());
    let server = Server::start(&[
        ("rtmp.listen", &port.address()),
        // By its own address, to the same name and to another one.
        ("apps.live.push", &format!("[{}, {}]", own("live"), own("other"))),
        // By application: to the same name, and to one that comes back.
        ("apps.here.push", "[{ app = \"here\" }]"),
        ("apps.one.push", "[{ app = \"two\" }]"),
        ("apps.two.push", "[{ app = \"one\", relayed = true }]"),
    ]);
    let streams = ["live/cam", "here/cam", "one/cam"];
    let mut publishers =
        streams.map(|stream| publish(&SHORT.file(), &server.rtmp_url(stream), Pace::Endless));
    for stream in streams.into_iter().chain(["two/cam"]) {
        server.api().wait_for_frames(stream, 30, SOON);
    }
    wait_for_relays(&server, "its own address is refused, and the way back not taken", |relays| {
        let is_loop = |relay: &&Value| {
            relay["last_error"].as_str().is_some_and(|text| text.contains("a loop of relays"))
        };
        relays.len() == 3 && relays.iter().filter(is_loop).count() == 2
    });
    assert!(!server.api().snapshot().is_published("other/cam"));
    assert!(server.process().stderr().contains("where the stream comes from: a loop of relays"));
    assert_eq!(relays(&server).iter().filter(|it| it["state"] == "publishing").count(), 1);
    for publisher in &mut publishers {
        assert!(publisher.is_running());
        publisher.signal(libc::SIGINT);
        publisher.wait(SOON);
    }
    wait_for_relays(&server, "nothing is left", <[Value]>::is_empty);
    server.stop();
}
