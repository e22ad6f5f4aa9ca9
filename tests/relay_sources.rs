//! Streams that are fetched: from which of several sources, for whom, and beside what else.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::black_hole::BlackHole;
use support::ffmpeg::{Pace, Player, publish};
use support::media::SHORT;
use support::nginx::Nginx;
use support::packets::Source;
use support::ports::Port;
use support::process::Process;
use support::publisher::Feed;
use support::relays::{is_state, relays, wait_for_relays};
use support::scratch::Scratch;
use support::server::Server;
use support::wait::{SOON, eventually};

const STREAM: &str = "live/cam";
const LIMIT: Duration = Duration::from_secs(30);

fn pulling(urls: &[String]) -> Server {
    let rules: Vec<String> = urls.iter().map(|url| format!("{{ url = \"{url}\" }}")).collect();
    Server::start(&[("apps.live.pull", &format!("[{}]", rules.join(", ")))])
}

fn source(server: &Server) -> String {
    format!("rtmp://{}/{{app}}/{{stream}}", server.rtmp())
}

fn publish_endlessly(server: &Server) -> Process {
    let publisher = publish(&SHORT.file(), &server.rtmp_url(STREAM), Pace::Endless);
    server.api().wait_for_frames(STREAM, 10, SOON);
    publisher
}

fn kill(process: &mut Process) {
    process.signal(libc::SIGKILL);
    process.wait(SOON);
}

#[test]
fn sources_that_have_nothing_give_way_to_one_that_has() {
    let nginx = Nginx::start("idle-nginx", "application live { live on; }");
    let (idle, origin) = (Server::start(&[]), Server::start(&[]));
    let mut publisher = publish_endlessly(&origin);
    let several = pulling(&[nginx.url("{app}/{stream}"), source(&idle), source(&origin)]);
    let one = pulling(&[source(&idle)]);
    let scratch = Scratch::new("idle-sources");
    let mut players = [&several, &one].map(|edge| {
        let name = edge.rtmp().port().to_string();
        Player::start(&edge.rtmp_url(STREAM), scratch.file(&name))
    });
    for edge in [&several, &one] {
        // An idle source is no target that is being connected, and none that has failed.
        wait_for_relays(edge, "the first source has nothing", |relays| {
            relays.len() == 1 && is_state(&relays[0], "waiting")
        });
    }
    several.api().wait_for_frames(STREAM, 50, 3 * SOON);
    let relay = relays(&several).remove(0);
    assert!(is_state(&relay, "playing"), "{relay}");
    assert_eq!(relay["peer"], origin.rtmp().to_string(), "{relay}");
    assert_eq!(relay["attempts"], 3, "{relay}");
    // Who has no other source to try stays where it is.
    let relay = relays(&one).remove(0);
    assert!(is_state(&relay, "waiting") && relay["attempts"] == 1, "{relay}");
    let mut late = publish_endlessly(&idle);
    one.api().wait_for_frames(STREAM, 10, SOON);
    for edge in [&several, &one] {
        assert!(!edge.process().stderr().contains("relay failed"), "{}", edge.process().report());
    }
    players.iter_mut().map(Player::process).chain([&mut publisher, &mut late]).for_each(kill);
    [idle, origin, several, one].into_iter().for_each(Server::stop);
}

#[test]
fn a_source_that_is_killed_gives_way_to_the_next_one() {
    let origins = [Server::start(&[]), Server::start(&[])];
    let mut publishers = origins.each_ref().map(publish_endlessly);
    let edge = pulling(&origins.each_ref().map(source));
    let scratch = Scratch::new("killed-source");
    let mut player = Player::start(&edge.rtmp_url(STREAM), scratch.file("list"));
    edge.api().wait_for_frames(STREAM, 50, SOON);
    let [first, second] = origins;
    assert_eq!(relays(&edge)[0]["peer"], first.rtmp().to_string());
    first.process().signal(libc::SIGKILL);
    drop(first);
    wait_for_relays(&edge, "the second one gives it", |relays| {
        is_state(&relays[0], "playing") && relays[0]["peer"] == second.rtmp().to_string()
    });
    let before = player.so_far().map_or(0, |packets| packets.len());
    eventually("the player goes on", SOON, || {
        (player.so_far().map_or(0, |packets| packets.len()) > before + 50).then_some(())
    });
    assert!(player.process().is_running());
    kill(player.process());
    publishers.iter_mut().for_each(kill);
    [second, edge].into_iter().for_each(Server::stop);
}

#[test]
fn a_static_source_is_fetched_from_the_start_on_without_viewers() {
    let port = Port::reserve();
    let rule = format!(
        "[{{ url = \"rtmp://{}/live\", stream = \"cam\", static = true, retry = \"200ms\" }}]",
        port.address()
    );
    let edge = Server::start(&[("apps.live.pull", &rule)]);
    wait_for_relays(&edge, "it is tried", |relays| {
        relays.len() == 1 && relays[0]["attempts"].as_u64() > Some(1)
    });
    let origin = Server::start(&[("rtmp.listen", &port.address())]);
    wait_for_relays(&edge, "it waits", |relays| is_state(&relays[0], "waiting"));
    let sent = Source::of_file(&SHORT.file());
    let mut publisher = publish(&SHORT.file(), &origin.rtmp_url(STREAM), Pace::RealTime);
    edge.api().wait_for_frames(STREAM, 100, SOON);
    let scratch = Scratch::new("static-source");
    let mut player = Player::start(&edge.rtmp_url(STREAM), scratch.file("list"));
    publisher.expect_success(LIMIT);
    sent.assert_played("the player", &player.finish(LIMIT));
    // Longer than what is fetched for viewers outlives them.
    std::thread::sleep(Duration::from_secs(6));
    wait_for_relays(&edge, "it is asked for again", |relays| is_state(&relays[0], "waiting"));
    [origin, edge].into_iter().for_each(Server::stop);
}

#[test]
fn targets_that_do_not_answer_keep_nothing_else_waiting() {
    // Many more than are dialled at a time.
    const STREAMS: usize = 300;
    let nobody = BlackHole::open();
    let (target, origin) = (Server::start(&[]), Server::start(&[]));
    let mut at_origin = publish_endlessly(&origin);
    let push = |place: String| format!("[{{ url = \"rtmp://{place}/live\" }}]");
    let server = Server::start(&[
        ("apps.dead.push", &push(nobody.address().to_string())),
        ("apps.live.push", &push(target.rtmp().to_string())),
        ("apps.far.pull", &format!("[{{ url = \"rtmp://{}/live/{{stream}}\" }}]", origin.rtmp())),
    ]);
    let feeds: Vec<Feed> =
        (0..STREAMS).map(|at| Feed::start(server.rtmp(), &format!("dead/{at}"))).collect();
    wait_for_relays(&server, "all of them are to be sent on", |relays| relays.len() == STREAMS);
    let limit = Duration::from_secs(4);
    let mut publisher = publish_endlessly(&server);
    target.api().wait_for_publisher(STREAM, limit);
    let scratch = Scratch::new("black-hole");
    let mut player = Player::start(&server.rtmp_url("far/cam"), scratch.file("list"));
    server.api().wait_for_viewers("far/cam", 1, SOON);
    server.api().wait_for_publisher("far/cam", limit);
    drop(feeds);
    [&mut at_origin, &mut publisher, player.process()].into_iter().for_each(kill);
    wait_for_relays(&server, "nothing is left", <[Value]>::is_empty);
    [server, target, origin].into_iter().for_each(Server::stop);
}
