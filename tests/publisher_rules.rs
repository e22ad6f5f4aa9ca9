//! Who may publish a name that is taken, and what viewers of a missing stream get.

mod support;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use support::ffmpeg::{Pace, Player, publish};
use support::http;
use support::media::SHORT;
use support::packets::Source;
use support::process::Process;
use support::publisher::Feed;
use support::scratch::Scratch;
use support::server::Server;
use support::stamp::{Stamp, is_config};
use support::viewer::{Received, Viewer, wait_until_watching};
use support::wait::{SOON, eventually};

const STREAM: &str = "live/cam";
/// Message type of video.
const VIDEO: u8 = 9;
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

/// Two encoders that connect again by themselves would else replace each other for ever. One of them gets
/// the name; whoever watches stays, and sees each of the changes as a new start of the stream.
#[test]
fn two_encoders_that_fight_for_a_name_settle() {
    let server = Server::start(&[(TAKEOVER, "replace"), ("http.flv_missing", "wait")]);
    let mut viewers = [Viewer::rtmp(server.rtmp(), STREAM), Viewer::flv(server.http(), STREAM)];
    wait_until_watching(server.api(), STREAM, 2, &mut viewers);
    let first = Encoder::start(server.rtmp(), 1);
    eventually("the first one's frames arrive", SOON, || {
        viewers.iter_mut().for_each(Viewer::pump);
        viewers.iter().all(Viewer::has_media).then_some(())
    });
    let second = Encoder::start(server.rtmp(), 2);

    second.wait_for_refusals(5, &mut viewers);
    let settled = server.api().snapshot();
    assert_eq!(settled.registry("takeovers"), 2, "the second, then the first again");
    assert!(settled.registry("fights") >= 5);
    second.wait_for_refusals(5, &mut viewers);
    let later = server.api().snapshot();
    assert_eq!(later.epoch(STREAM), settled.epoch(STREAM), "the name does not change hands");
    assert_eq!(later.registry("takeovers"), 2);
    assert_keeps_sending(&server);
    assert_eq!(first.accepted.load(Ordering::Relaxed), 2);
    assert_eq!(second.accepted.load(Ordering::Relaxed), 1);
    let log = server.process().stderr();
    assert!(log.contains("two publishers fight for the name"), "{log}");
    assert!(log.contains("replaced by 127.0.0.2:"), "{log}");

    // The other way round the second one would get the name at last.
    drop(second);
    drop(first);
    for mut viewer in viewers {
        let mut seen = Vec::new();
        let mut last_ms = 0;
        let mut awaits_keyframe = true;
        viewer.pump();
        while let Some(received) = viewer.take() {
            let (timestamp_ms, payload) = match received {
                Received::Message { timestamp_ms, payload, .. } => (timestamp_ms, payload),
                Received::Head(_) => continue,
                Received::Status(code) => {
                    assert!(!code.contains("Unpublish"), "it is told of an end");
                    continue;
                }
                other => panic!("unexpected: {other:?}"),
            };
            if is_config(&payload) {
                seen.push(payload[5]);
                awaits_keyframe = true;
                continue;
            }
            assert!(Stamp::read(&payload).is_keyframe || !awaits_keyframe);
            awaits_keyframe = false;
            assert!(timestamp_ms >= last_ms, "time goes from {last_ms} to {timestamp_ms}");
            last_ms = timestamp_ms;
        }
        assert!(!viewer.is_closed(), "nobody has to connect again");
        assert_eq!(seen, [1, 2, 1], "the headers of the first, the second, the first");
    }
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

/// An encoder at an address of its own that connects again as soon as it is thrown out or refused.
struct Encoder {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Encoder {
    /// `number` is the last part of its address, and stands in its decoder configuration.
    fn start(server: SocketAddr, number: u8) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (accepted, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let shared = (Arc::clone(&stop), Arc::clone(&accepted), Arc::clone(&refused));
        let thread = thread::spawn(move || {
            let (stop, accepted, refused) = shared;
            let from = IpAddr::from([127, 0, 0, number]);
            while !stop.load(Ordering::Relaxed) {
                match Feed::try_start(server, STREAM, Some(from)) {
                    Ok(feed) => {
                        accepted.fetch_add(1, Ordering::Relaxed);
                        encode(feed, number, &stop);
                    }
                    Err(why) => {
                        assert!(why.contains("BadName"), "{why}");
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
                // As an encoder that is impatient.
                thread::sleep(Duration::from_millis(100));
            }
        });
        Self { stop, accepted, refused, thread: Some(thread) }
    }

    /// Waits until it was refused so many times more; the viewers read meanwhile.
    fn wait_for_refusals(&self, more: u64, viewers: &mut [Viewer]) {
        let wanted = self.refused.load(Ordering::Relaxed) + more;
        eventually(&format!("{more} further refusals"), SOON, || {
            viewers.iter_mut().for_each(Viewer::pump);
            (self.refused.load(Ordering::Relaxed) >= wanted).then_some(())
        });
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the encoder failed");
        }
    }
}

/// 25 frames a second, a keyframe every ten, until the server ends the connection.
fn encode(mut feed: Feed, number: u8, stop: &AtomicBool) {
    let mut is_published = feed.try_send(VIDEO, 0, &[0x17, 0, 0, 0, 0, number]);
    for frame in 0_u32.. {
        if !is_published || stop.load(Ordering::Relaxed) {
            return;
        }
        let is_keyframe = frame % 10 == 0;
        let stamp = Stamp { number: u64::from(frame), sent_nanos: 0, is_keyframe };
        is_published = feed.try_send(VIDEO, frame * 40, &stamp.write(500));
        thread::sleep(Duration::from_millis(40));
    }
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
