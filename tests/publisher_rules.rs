//! Who may publish a name that is taken, and what viewers of a missing stream get.

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use support::ffmpeg::{Pace, Player, publish};
use support::http;
use support::media::SHORT;
use support::packets::Source;
use support::process::Process;
use support::scratch::Scratch;
use support::server::Server;
use support::wait::{SOON, eventually};

const STREAM: &str = "live/cam";
const TAKEOVER: &str = "apps.default.publish.takeover";
const PLAY_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn reject_refuses_the_second_publisher() {
    let server = Server::start(&[(TAKEOVER, "reject")]);
    let mut first = start_publisher(&server, Pace::Endless);
    let epoch = server.api().snapshot().epoch(STREAM);

    let mut second = publish(&media(), &server.rtmp_url(STREAM), Pace::Endless);
    assert_refused(&mut second);

    assert!(first.is_running(), "the first one goes on");
    let after = server.api().snapshot();
    assert_eq!(after.epoch(STREAM), epoch, "the stream is still the first one's");
    assert_keeps_sending(&server);
    wait_for_connections(&server, 1);
    server.stop();
}

#[test]
fn replace_ends_the_first_publisher() {
    let server = Server::start(&[(TAKEOVER, "replace")]);
    let mut first = start_publisher(&server, Pace::Endless);
    let epoch = server.api().snapshot().epoch(STREAM);

    let mut second = publish(&media(), &server.rtmp_url(STREAM), Pace::Endless);
    let status = first.wait(SOON);
    assert!(!status.success(), "the first one ends with an error");
    let said = first.stderr();
    assert!(said.contains("replaced by"), "it is told why: {said}");

    wait_for_epoch_after(&server, epoch);
    assert!(second.is_running(), "the second one publishes");
    assert_keeps_sending(&server);
    wait_for_connections(&server, 1);
    server.stop();
}

#[test]
fn replace_when_silent_refuses_while_the_first_sends() {
    let server = Server::start(&[(TAKEOVER, "replace_when_silent")]);
    let mut first = start_publisher(&server, Pace::Endless);
    let epoch = server.api().snapshot().epoch(STREAM);

    let mut second = publish(&media(), &server.rtmp_url(STREAM), Pace::Endless);
    assert_refused(&mut second);

    assert!(first.is_running(), "the first one goes on");
    assert_eq!(server.api().snapshot().epoch(STREAM), epoch);
    assert_keeps_sending(&server);
    server.stop();
}

#[test]
fn replace_when_silent_takes_over_from_a_frozen_publisher() {
    let server = Server::start(&[(TAKEOVER, "replace_when_silent")]);
    let mut first = start_publisher(&server, Pace::Endless);
    let epoch = server.api().snapshot().epoch(STREAM);

    first.signal(libc::SIGSTOP);
    let mut second = publish(&media(), &server.rtmp_url(STREAM), Pace::Endless);
    wait_for_epoch_after(&server, epoch);
    assert!(second.is_running(), "the second one publishes");
    assert_keeps_sending(&server);

    first.signal(libc::SIGCONT);
    let status = first.wait(SOON);
    assert!(!status.success(), "the first one finds its connection closed");
    assert!(second.is_running(), "and disturbs nobody");
    assert_keeps_sending(&server);
    server.stop();
}

#[test]
fn a_name_is_free_after_its_publisher_ended() {
    let server = Server::start(&[(TAKEOVER, "reject")]);
    for _ in 0..3 {
        let mut publisher = publish(&media(), &server.rtmp_url(STREAM), Pace::Unpaced);
        publisher.expect_success(PLAY_LIMIT);
        server.api().wait_for_no_publisher(STREAM, SOON);
    }
    server.stop();
}

#[test]
fn viewers_wait_for_the_publisher() {
    let server = Server::start(&[("http.flv_missing", "wait")]);
    let scratch = Scratch::new("waiting");
    let mut players = [
        Player::start(&server.rtmp_url(STREAM), scratch.file("rtmp0.md5")),
        Player::start(&server.flv_url(STREAM), scratch.file("flv0.md5")),
        Player::start(&server.rtmp_url(STREAM), scratch.file("rtmp1.md5")),
        Player::start(&server.flv_url(STREAM), scratch.file("flv1.md5")),
    ];
    server.api().wait_for_viewers(STREAM, 4, SOON);
    let mut publisher = publish(&media(), &server.rtmp_url(STREAM), Pace::RealTime);
    publisher.expect_success(PLAY_LIMIT);
    let source = Source::of_file(&media());
    for player in &mut players {
        let received = player.finish(SOON);
        let joined = source.assert_played(player.process().name(), &received);
        assert_eq!(joined.video_skipped, 0, "nothing is missed");
        assert_eq!(joined.audio_skipped, 0, "nothing is missed");
    }
    server.stop();
}

#[test]
fn a_missing_stream_can_be_refused() {
    let server = Server::start(&[("apps.default.play.missing", "refuse")]);
    let mut rtmpdump = Process::spawn(
        "rtmpdump",
        Command::new("rtmpdump")
            .args(["-V", "--live", "--rtmp", &server.rtmp_url(STREAM)])
            .args(["--flv", "/dev/null"]),
    );
    assert!(!rtmpdump.wait(SOON).success(), "rtmpdump ends with an error");
    let said = rtmpdump.stderr();
    assert!(said.contains("NetStream.Play.StreamNotFound"), "{said}");

    let scratch = Scratch::new("missing");
    let mut ffmpeg = Player::start(&server.rtmp_url(STREAM), scratch.file("rtmp.md5"));
    assert!(!ffmpeg.process().wait(SOON).success());
    assert_eq!(http::get(server.http(), "/live/cam.flv").status, 404);
    wait_for_connections(&server, 0);
    server.stop();
}

fn media() -> PathBuf {
    SHORT.file()
}

fn start_publisher(server: &Server, pace: Pace) -> Process {
    let publisher = publish(&media(), &server.rtmp_url(STREAM), pace);
    server.api().wait_for_frames(STREAM, 10, SOON);
    publisher
}

/// A refused ffmpeg prints the server's words and ends by itself.
fn assert_refused(publisher: &mut Process) {
    let status = publisher.wait(SOON);
    let said = publisher.stderr();
    assert!(!status.success(), "it ends with an error: {said}");
    assert!(said.contains("Server error: "), "it is told why: {said}");
    assert!(said.contains("cam"), "the reason names the stream: {said}");
}

fn assert_keeps_sending(server: &Server) {
    let before = server.api().snapshot().frames_in(STREAM);
    server.api().wait_for_frames(STREAM, before + 30, SOON);
}

fn wait_for_epoch_after(server: &Server, epoch: u64) {
    let limit = SOON;
    server.api().wait_until("the next publisher has the name", limit, |snapshot| {
        snapshot.is_published(STREAM) && snapshot.epoch(STREAM) > epoch
    });
}

/// Waits until the shards have `count` connections: what was refused or replaced is gone.
fn wait_for_connections(server: &Server, count: u64) {
    eventually(&format!("{count} connections are left"), SOON, || {
        let connections: u64 = server.api().snapshot().connections().iter().sum();
        (connections == count).then_some(())
    });
}
