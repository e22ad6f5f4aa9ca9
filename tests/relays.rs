//! One upload on many servers: streams that are sent on, and streams that are fetched, with servers of this
//! kind and of others.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::ffmpeg::{Pace, Player, publish};
use support::hook_server::{HookServer, Reply};
use support::media::{Media, SMALL_VIDEO};
use support::nginx::Nginx;
use support::packets::{Source, Track};
use support::ports::Port;
use support::process::Process;
use support::relays::{is_state, relays, reload_with, start_with_file, wait_for_relays};
use support::scratch::Scratch;
use support::server::Server;
use support::wait::{SOON, eventually};

const STREAM: &str = "livestreams/localnews";
const END_LIMIT: Duration = Duration::from_secs(15);
const PUBLISH_LIMIT: Duration = Duration::from_secs(40);

fn ten_seconds() -> Media {
    Media { seconds: 10, video: Some(SMALL_VIDEO), audio: true }
}

fn pushing_to(targets: &[String]) -> Server {
    let rules: Vec<String> = targets.iter().map(|url| format!("{{ url = \"{url}\" }}")).collect();
    Server::start(&[("apps.livestreams.push", &format!("[{}]", rules.join(", ")))])
}

fn pulling_from(url: &str) -> Server {
    Server::start(&[("apps.livestreams.pull", &format!("[{{ url = \"{url}\" }}]"))])
}

fn app_url(server: &Server, app: &str) -> String {
    format!("rtmp://{}/{app}", server.rtmp())
}

#[test]
fn one_upload_is_the_same_on_every_server() {
    let source = Source::of_file(&ten_seconds().file());
    let (second, third) = (Server::start(&[]), Server::start(&[]));
    let first = pushing_to(&[app_url(&second, "livestreams"), app_url(&third, "livestreams")]);
    let scratch = Scratch::new("multipoint");
    let players = [(&first, "1"), (&second, "2"), (&third, "3")].map(|(server, name)| {
        let rtmp = Player::start(&server.rtmp_url(STREAM), scratch.file(&format!("{name}.md5")));
        let flv = scratch.file(&format!("{name}-later.md5"));
        server.api().wait_for_viewers(STREAM, 1, SOON);
        (server, rtmp, flv)
    });
    let mut publisher = publish(&ten_seconds().file(), &first.rtmp_url(STREAM), Pace::RealTime);
    // Players that come later begin at the running group of pictures, with headers.
    let players = players.map(|(server, rtmp, flv)| {
        server.api().wait_for_frames(STREAM, 200, 3 * SOON);
        (rtmp, Player::start(&server.flv_url(STREAM), flv))
    });
    wait_for_relays(&first, "both relays publish", |relays| {
        relays.len() == 2 && relays.iter().all(|relay| is_state(relay, "publishing"))
    });
    publisher.expect_success(PUBLISH_LIMIT);
    for (mut early, mut late) in players {
        let received = early.finish(END_LIMIT);
        let joined = source.assert_played(early.process().name(), &received);
        assert_eq!(joined.video_skipped, 0, "a player that was there gets all");
        let received = late.finish(END_LIMIT);
        source.assert_played(late.process().name(), &received);
    }
    wait_for_relays(&first, "the relays are gone", <[Value]>::is_empty);
    for server in [&second, &third] {
        server.api().wait_for_no_publisher(STREAM, SOON);
    }
    [first, second, third].into_iter().for_each(Server::stop);
}

#[test]
fn a_stream_is_published_again_under_another_name_with_events_of_its_own() {
    let source = Source::of_file(&ten_seconds().file());
    let hooks = HookServer::start(|_| Reply::ok());
    let server = Server::start(&[
        ("apps.livestreams.push", "[{ app = \"livestreams/anotherinstance\" }]"),
        ("hooks.on_publish", &hooks.url("/on_publish")),
        ("hooks.on_publish_done", &hooks.url("/on_publish_done")),
    ]);
    let again = "livestreams/anotherinstance/localnews";
    let scratch = Scratch::new("again");
    let mut early = [
        Player::start(&server.rtmp_url(again), scratch.file("rtmp.md5")),
        Player::start(&server.rtmp_url(STREAM), scratch.file("first.md5")),
    ];
    server.api().wait_for_viewers(again, 1, SOON);
    server.api().wait_for_viewers(STREAM, 1, SOON);
    let mut publisher = publish(&ten_seconds().file(), &server.rtmp_url(STREAM), Pace::RealTime);
    server.api().wait_for_frames(again, 250, 3 * SOON);
    let mut late = Player::start(&server.flv_url(again), scratch.file("flv.md5"));
    publisher.expect_success(PUBLISH_LIMIT);
    for player in &mut early {
        let received = player.finish(END_LIMIT);
        let joined = source.assert_played(player.process().name(), &received);
        assert_eq!(joined.video_skipped, 0);
    }
    source.assert_played("flv", &late.finish(END_LIMIT));
    hooks.wait_for("publish_done", 2);
    let apps = |call: &str| {
        let requests = hooks.requests().into_iter().filter(|request| request.call() == call);
        let mut apps: Vec<_> = requests.filter_map(|request| request.field("app")).collect();
        apps.sort();
        apps
    };
    for call in ["publish", "publish_done"] {
        assert_eq!(apps(call), ["livestreams", "livestreams/anotherinstance"]);
    }
    wait_for_relays(&server, "the relay is gone", <[Value]>::is_empty);
    server.stop();
}

#[test]
fn viewers_of_both_names_go_on_when_the_publisher_comes_back() {
    let source = Source::of_file(&ten_seconds().file());
    let server = Server::start(&[("apps.livestreams.push", "[{ app = \"livestreams/again\" }]")]);
    let again = "livestreams/again/localnews";
    let scratch = Scratch::new("mirror-resumes");
    let names = [STREAM, again];
    let mut players =
        [0, 1].map(|at| Player::start(&server.rtmp_url(names[at]), scratch.file(&at.to_string())));
    for name in names {
        server.api().wait_for_viewers(name, 1, SOON);
    }
    let send = || publish(&ten_seconds().file(), &server.rtmp_url(STREAM), Pace::RealTime);
    let mut publisher = send();
    server.api().wait_for_frames(again, 150, 2 * SOON);
    publisher.signal(libc::SIGKILL);
    publisher.wait(SOON);
    server.api().wait_for_no_publisher(again, SOON);
    wait_for_relays(&server, "the relay waits", |relays| {
        relays.len() == 1 && is_state(&relays[0], "waiting")
    });
    // Long enough for a relay that is tried again now and then to be tried seldom.
    std::thread::sleep(Duration::from_secs(4));
    let mut publisher = send();
    server.api().wait_for_publisher(STREAM, SOON);
    server.api().wait_for_publisher(again, Duration::from_secs(2));
    publisher.expect_success(PUBLISH_LIMIT);
    let digests = |track: &Track| -> Vec<String> {
        track.packets.iter().map(|packet| packet.md5.clone()).collect()
    };
    for player in &mut players {
        let received = player.finish(END_LIMIT);
        let whole = source.packets();
        for (sent, got) in [(&whole.video, &received.video), (&whole.audio, &received.audio)] {
            let (sent, got) = (digests(sent), digests(got));
            let before = got.len().checked_sub(sent.len()).expect("the second time is complete");
            assert!(before > 50 && got[..before] == sent[..before], "the first time");
            assert_eq!(got[before..], sent, "the second time");
        }
        let times = received.video.packets.windows(2).map(|pair| pair[1].dts - pair[0].dts);
        assert!(times.min() >= Some(0), "time goes on");
    }
    assert!(!server.process().stderr().contains("relay failed"));
    wait_for_relays(&server, "the relay is gone", <[Value]>::is_empty);
    server.stop();
}

#[test]
fn a_target_that_is_down_is_joined_when_it_comes_up() {
    let source = Source::of_file(&ten_seconds().file());
    let port = Port::reserve();
    let first = pushing_to(&[format!("rtmp://{}/livestreams", port.address())]);
    let mut publisher = publish(&ten_seconds().file(), &first.rtmp_url(STREAM), Pace::RealTime);
    wait_for_relays(&first, "an attempt failed", |relays| {
        relays.len() == 1
            && relays[0]["attempts"].as_u64() > Some(1)
            && relays[0]["last_error"].as_str().is_some_and(|text| text.contains("refused"))
    });
    let second = Server::start(&[("rtmp.listen", &port.address())]);
    let scratch = Scratch::new("late-target");
    let mut player = Player::start(&second.rtmp_url(STREAM), scratch.file("late.md5"));
    second.api().wait_for_publisher(STREAM, SOON);
    publisher.expect_success(PUBLISH_LIMIT);
    let received = player.finish(END_LIMIT);
    source.assert_played(player.process().name(), &received);
    [first, second].into_iter().for_each(Server::stop);
}

#[test]
fn a_target_that_is_killed_costs_nobody_else_anything() {
    let source = Source::of_file(&ten_seconds().file());
    let port = Port::reserve();
    let second = Server::start(&[("rtmp.listen", &port.address())]);
    let third = Server::start(&[]);
    let first = pushing_to(&[app_url(&second, "livestreams"), app_url(&third, "livestreams")]);
    let scratch = Scratch::new("killed-target");
    let mut player = Player::start(&third.rtmp_url(STREAM), scratch.file("third.md5"));
    third.api().wait_for_viewers(STREAM, 1, SOON);
    let mut publisher = publish(&ten_seconds().file(), &first.rtmp_url(STREAM), Pace::RealTime);
    second.api().wait_for_frames(STREAM, 100, 2 * SOON);
    second.process().signal(libc::SIGKILL);
    drop(second);
    wait_for_relays(&first, "one relay tries again", |relays| {
        relays.iter().any(|relay| is_state(relay, "retrying"))
    });
    let again = Server::start(&[("rtmp.listen", &port.address())]);
    again.api().wait_for_frames(STREAM, 50, SOON);
    publisher.expect_success(PUBLISH_LIMIT);
    let received = player.finish(END_LIMIT);
    let joined = source.assert_played(player.process().name(), &received);
    assert_eq!(joined.video_skipped, 0);
    [first, third, again].into_iter().for_each(Server::stop);
}

#[test]
fn a_target_that_takes_nothing_is_skipped_and_others_are_not() {
    let media = Media { seconds: 20, ..ten_seconds() };
    let source = Source::of_file(&media.file());
    let (second, third) = (Server::start(&[]), Server::start(&[]));
    let first = Server::start(&[(
        "apps.livestreams",
        &format!(
            "{{ push = [{{ url = \"{}\", buffer = \"500ms\" }}, {{ url = \"{}\" }}], \
             viewer = {{ socket_buffer = \"16KiB\" }} }}",
            app_url(&second, "livestreams"),
            app_url(&third, "livestreams")
        ),
    )]);
    let scratch = Scratch::new("stalled-target");
    let mut player = Player::start(&third.rtmp_url(STREAM), scratch.file("third.md5"));
    third.api().wait_for_viewers(STREAM, 1, SOON);
    let mut publisher = publish(&media.file(), &first.rtmp_url(STREAM), Pace::RealTime);
    second.api().wait_for_frames(STREAM, 50, 2 * SOON);
    second.process().signal(libc::SIGSTOP);
    let to_second = app_url(&second, "livestreams");
    let second_of = |relays: &[Value]| {
        let found =
            relays.iter().find(|relay| relay["url"].as_str().unwrap().starts_with(&to_second));
        found.cloned().expect("the relay is there")
    };
    wait_for_relays(&first, "the stopped target is skipped", |relays| {
        second_of(relays)["drops"].as_u64() > Some(0)
    });
    second.process().signal(libc::SIGCONT);
    let before = second.api().snapshot().frames_in(STREAM);
    second.api().wait_for_frames(STREAM, before + 100, 2 * SOON);
    publisher.expect_success(PUBLISH_LIMIT);
    let received = player.finish(END_LIMIT);
    let joined = source.assert_played(player.process().name(), &received);
    assert_eq!(joined.video_skipped, 0);
    [first, second, third].into_iter().for_each(Server::stop);
}

#[test]
fn a_loop_of_relays_is_refused() {
    let port = Port::reserve();
    let second = pushing_to(&[format!("rtmp://{}/livestreams", port.address())]);
    let first = Server::start(&[
        ("rtmp.listen", &port.address()),
        ("apps.livestreams.push", &format!("[{{ url = \"{}\" }}]", app_url(&second, "other"))),
    ]);
    // What came from a relay is not sent on, unless the rule says so.
    let mut publisher = publish(&ten_seconds().file(), &first.rtmp_url(STREAM), Pace::RealTime);
    second.api().wait_for_publisher("other/localnews", SOON);
    assert!(relays(&second).is_empty());
    publisher.signal(libc::SIGKILL);
    publisher.wait(SOON);
    [first, second].into_iter().for_each(Server::stop);

    let (one, two) = (Port::reserve(), Port::reserve());
    let ring = |own: &Port, next: &Port| {
        Server::start(&[
            ("rtmp.listen", &own.address()),
            (
                "apps.livestreams.push",
                &format!("[{{ url = \"rtmp://{}/livestreams\", relayed = true }}]", next.address()),
            ),
        ])
    };
    let (first, second) = (ring(&one, &two), ring(&two, &one));
    let mut publisher = publish(&ten_seconds().file(), &first.rtmp_url(STREAM), Pace::RealTime);
    second.api().wait_for_publisher(STREAM, SOON);
    wait_for_relays(&second, "the way back is refused", |relays| {
        relays.len() == 1
            && relays[0]["last_error"].as_str().is_some_and(|text| text.contains("loop"))
    });
    assert!(publisher.is_running());
    assert_eq!(relays(&first).iter().filter(|relay| is_state(relay, "publishing")).count(), 1);
    publisher.expect_success(PUBLISH_LIMIT);
    [first, second].into_iter().for_each(Server::stop);
}

#[test]
fn a_stream_is_fetched_once_while_somebody_views_it() {
    let source = Source::of_file(&ten_seconds().file());
    let origin = Server::start(&[]);
    let edge = pulling_from(&format!("rtmp://{}/{{app}}/{{stream}}", origin.rtmp()));
    let scratch = Scratch::new("pull");
    let mut players = [
        Player::start(&edge.rtmp_url(STREAM), scratch.file("rtmp.md5")),
        Player::start(&edge.flv_url(STREAM), scratch.file("flv.md5")),
    ];
    edge.api().wait_for_viewers(STREAM, 2, SOON);
    origin.api().wait_for_viewers(STREAM, 1, SOON);
    let mut publisher = publish(&ten_seconds().file(), &origin.rtmp_url(STREAM), Pace::RealTime);
    edge.api().wait_for_publisher(STREAM, SOON);
    assert_eq!(origin.api().snapshot().viewers(STREAM).iter().sum::<u64>(), 1);
    publisher.expect_success(PUBLISH_LIMIT);
    for player in &mut players {
        let received = player.finish(END_LIMIT);
        let joined = source.assert_played(player.process().name(), &received);
        assert_eq!(joined.video_skipped, 0);
    }
    // After the last viewer, and a while.
    wait_for_relays(&edge, "nothing is fetched any more", <[Value]>::is_empty);
    origin.api().wait_for_viewers(STREAM, 0, SOON);
    [origin, edge].into_iter().for_each(Server::stop);
}

#[test]
fn nginx_rtmp_takes_a_stream_and_gives_one() {
    let source = Source::of_file(&ten_seconds().file());
    let nginx = Nginx::start("relay-nginx", "application livestreams { live on; }");
    let first = pushing_to(&[nginx.url("livestreams")]);
    let edge = pulling_from(&nginx.url("{app}/{stream}"));
    let scratch = Scratch::new("relay-nginx-players");
    let mut from_nginx = Player::start(&nginx.url(STREAM), scratch.file("nginx.md5"));
    let mut from_edge = Player::start(&edge.rtmp_url(STREAM), scratch.file("edge.md5"));
    edge.api().wait_for_viewers(STREAM, 1, SOON);
    wait_for_relays(&edge, "the edge is connected", |relays| relays.len() == 1);
    let mut publisher = publish(&ten_seconds().file(), &first.rtmp_url(STREAM), Pace::RealTime);
    wait_for_relays(&first, "nginx takes the stream", |relays| {
        relays.iter().any(|relay| is_state(relay, "publishing"))
    });
    edge.api().wait_for_publisher(STREAM, SOON);
    publisher.expect_success(PUBLISH_LIMIT);
    // nginx-rtmp does not end its players with the stream, and rewrites timestamps to its own clock.
    eventually("players have everything", END_LIMIT, || {
        let wanted = source.packets().len();
        let so_far = |player: &Player| player.so_far().map_or(0, |packets| packets.len());
        (so_far(&from_nginx) + 5 >= wanted && so_far(&from_edge) + 5 >= wanted).then_some(())
    });
    for player in [&mut from_nginx, &mut from_edge] {
        player.process().signal(libc::SIGKILL);
        player.process().wait(SOON);
    }
    drop(nginx);
    [first, edge].into_iter().for_each(Server::stop);
}

#[test]
fn ffmpeg_listens_and_gets_the_stream() {
    let port = Port::reserve();
    let scratch = Scratch::new("relay-ffmpeg");
    let file = scratch.file("got.flv");
    let mut command = support::ffmpeg::Ffmpeg::System.command();
    let url = format!("rtmp://{}/livestreams/localnews", port.address());
    command.args(["-f", "flv", "-listen", "1", "-i", &url, "-c", "copy", "-y"]).arg(&file);
    let mut listener = Process::spawn("ffmpeg listens", &mut command);
    let first = pushing_to(&[format!("rtmp://{}/livestreams", port.address())]);
    let mut publisher = publish(&ten_seconds().file(), &first.rtmp_url(STREAM), Pace::RealTime);
    publisher.expect_success(PUBLISH_LIMIT);
    // It ends with an error about input and output at FCUnpublish, which is its way.
    listener.wait(END_LIMIT);
    let sent = Source::of_file(&ten_seconds().file()).packets().len();
    let got = Source::of_file(&file).packets().len();
    assert!(got + 3 >= sent, "{got} of {sent} packets");
    first.stop();
}

#[test]
fn rules_that_change_fetch_for_viewers_who_wait() {
    let origins = [Server::start(&[]), Server::start(&[])];
    let mut publishers = origins
        .each_ref()
        .map(|origin| publish(&ten_seconds().file(), &origin.rtmp_url(STREAM), Pace::Endless));
    for origin in &origins {
        origin.api().wait_for_frames(STREAM, 10, SOON);
    }
    let scratch = Scratch::new("changing-rules");
    let edge = start_with_file(&scratch, &[]);
    let mut player = Player::start(&edge.rtmp_url(STREAM), scratch.file("list"));
    edge.api().wait_for_viewers(STREAM, 1, SOON);
    let received = || player.so_far().map_or(0, |packets| packets.len());
    // A rule comes for who waits already, another one in its place, none for a while, and the first again.
    let from = |origin: &Server| {
        let url = format!("rtmp://{}/{{app}}/{{stream}}", origin.rtmp());
        format!("[apps.livestreams]\npull = [{{ url = \"{url}\" }}]\n")
    };
    let [first, second] = origins.each_ref().map(from);
    for text in [first.as_str(), &second, "", &first] {
        reload_with(&edge, &scratch, text);
        if text.is_empty() {
            wait_for_relays(&edge, "nothing is fetched", <[Value]>::is_empty);
            continue;
        }
        wait_for_relays(&edge, "it is fetched by the rule", |relays| {
            relays.len() == 1
                && is_state(&relays[0], "playing")
                && text.contains(relays[0]["peer"].as_str().unwrap_or("nowhere"))
        });
        let before = received();
        eventually("the player goes on", SOON, || (received() > before + 50).then_some(()));
    }
    player.process().signal(libc::SIGKILL);
    player.process().wait(SOON);
    for publisher in &mut publishers {
        publisher.signal(libc::SIGKILL);
        publisher.wait(SOON);
    }
    origins.into_iter().chain([edge]).for_each(Server::stop);
}
