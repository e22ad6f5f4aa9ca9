//! The example back ends, as an application developer would start them, with real clients.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::ffmpeg::{Pace, Player, publish};
use support::media::SHORT;
use support::process::Process;
use support::scratch::Scratch;
use support::server::Server;
use support::wait::SOON;

const LIMIT: Duration = Duration::from_secs(30);

fn back_end(program: &str, file: &str) -> (Process, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hook-server").join(file);
    let mut process = Process::spawn(file, Command::new(program).arg(path).arg("0"));
    let address = process.wait_for_line("its address", SOON, |line| {
        line.split_once("listen on ").map(|(_, address)| address.to_owned())
    });
    (process, address)
}

fn server(address: &str, version: &str) -> Server {
    let url = |path: &str| format!("http://{address}/api/v1/{path}");
    let (clients, streams, sessions) = (url("clients"), url("streams"), url("sessions"));
    Server::start(&[
        ("hooks.dialect", "srs"),
        ("hooks.srs_version", version),
        ("hooks.on_connect", &clients),
        ("hooks.on_close", &clients),
        ("hooks.on_publish", &streams),
        ("hooks.on_unpublish", &streams),
        ("hooks.on_play", &sessions),
        ("hooks.on_stop", &sessions),
    ])
}

/// What the documentation of 2014 shows for a publisher and a player.
fn a_publisher_and_a_player_are_printed(program: &str, file: &str, version: &str) {
    let (mut back_end, address) = back_end(program, file);
    let server = server(&address, version);
    let scratch = Scratch::new("back-end");
    let mut publisher = publish(&SHORT.file(), &server.rtmp_url("live/livestream"), Pace::RealTime);
    server.api().wait_for_frames("live/livestream", 10, SOON);
    let mut player = Player::start(&server.rtmp_url("live/livestream"), scratch.file("md5"));
    publisher.expect_success(LIMIT);
    player.finish(LIMIT);
    for line in [
        "srs on_connect: client id=",
        "srs on_publish: client id=",
        "srs on_play: client id=",
        "srs on_stop: client id=",
        "srs on_unpublish: client id=",
        "srs on_close: client id=",
    ] {
        let found = back_end.wait_for_line(line, SOON, |it| {
            it.contains(line).then(|| it.split("][trace] ").nth(1).unwrap_or_default().to_owned())
        });
        assert!(found.contains(", ip=127.0.0.1, vhost=__defaultVhost__, app=live"), "{found}");
    }
    if version == "1" {
        let posted = back_end.wait_for_line("the first event", SOON, |line| {
            line.split_once("post to clients, req=").map(|(_, json)| json.to_owned())
        });
        let id = posted.split(['{', ',', ':', '}']).nth(4).unwrap_or_default().to_owned();
        assert_eq!(
            posted,
            format!(
                r#"{{"action":"on_connect","client_id":{id},"ip":"127.0.0.1","vhost":"__defaultVhost__","app":"live","pageUrl":""}}"#
            )
        );
    }
    server.stop();
}

#[test]
fn python() {
    a_publisher_and_a_player_are_printed("python3", "server.py", "7");
}

#[test]
fn python_with_the_requests_of_2014() {
    a_publisher_and_a_player_are_printed("python3", "server.py", "1");
}

#[test]
fn node() {
    a_publisher_and_a_player_are_printed("node", "server.js", "7");
}
