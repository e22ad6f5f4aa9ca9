//! What viewers see when the publisher is lost, comes back, says goodbye, or stays away.

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use support::ffmpeg::{Pace, publish};
use support::media::{Media, SMALL_VIDEO, Video};
use support::process::Process;
use support::publisher::{Publisher, Script};
use support::server::Server;
use support::stamp::{Stamp, is_config, is_keyframe};
use support::viewer::{Received, Viewer};
use support::wait::{SOON, eventually};

const STREAM: &str = "live/cam";
const SHARDS: usize = 2;
/// A keyframe each second, so that a new publisher can be joined soon.
const MEDIA: Media =
    Media { seconds: 10, video: Some(Video { gop_frames: 30, ..SMALL_VIDEO }), audio: true };
/// Video messages watched after each change.
const FRAMES_WATCHED: usize = 20;
const UNPUBLISHED: &str = "NetStream.Play.UnpublishNotify";
/// "At once", on a loaded machine.
const AT_ONCE: Duration = Duration::from_secs(1);

const SCRIPT: Script = Script {
    frame_interval: Duration::from_millis(40),
    gop_frames: 25,
    keyframe_bytes: 10_000,
    inter_bytes: 2_000,
    audio: true,
};

/// A viewer on a known shard, and its clock.
struct Watcher {
    name: String,
    viewer: Viewer,
    /// Newest audio and video time, in milliseconds.
    last_ms: [Option<u32>; 2],
}

/// How a viewer's stream came to its end.
struct End {
    at: Instant,
    /// The body of the last video message.
    last_frame: Option<Bytes>,
    has_notify: bool,
    has_eof: bool,
}

#[test]
fn viewers_go_on_with_a_publisher_that_was_killed_and_came_back() {
    let server = start(&[]);
    let (mut publisher, _) = publish_on(&server, 0);
    let mut watchers = one_of_each(&server);
    for watcher in &mut watchers {
        watcher.see_begin("at first");
    }
    // To the other shard, there again, and back.
    for (round, shard) in [1, 1, 0].into_iter().enumerate() {
        publisher.signal(libc::SIGKILL);
        publisher.wait(SOON);
        server.api().wait_for_no_publisher(STREAM, SOON);
        let killed = Instant::now();
        let owner;
        (publisher, owner) = publish_on(&server, shard);
        assert_eq!(owner, shard);
        for watcher in &mut watchers {
            watcher.see_begin(&format!("after kill {round}"));
        }
        println!(
            "round {round}: on shard {owner}, all viewers follow {:?} after the kill",
            killed.elapsed()
        );
    }
    let snapshot = server.api().snapshot();
    assert_eq!(snapshot.viewers(STREAM), [2; SHARDS], "the same viewers are still there");
    assert_eq!(snapshot.registry("resumed"), 3);
    drop(publisher);
    drop(watchers);
    server.stop();
}

#[test]
fn a_goodbye_ends_the_stream_at_once_and_after_its_last_frame() {
    let server = start(&[]);
    let publisher = Publisher::start(server.rtmp(), STREAM, SCRIPT);
    server.api().wait_for_frames(STREAM, 10, SOON);
    let watchers = one_of_each(&server);
    server.api().wait_for_frames(STREAM, 60, SOON);
    let frames = publisher.say_goodbye();
    let said = Instant::now();
    for watcher in watchers {
        let name = watcher.name.clone();
        let end = watcher.see_end();
        let took = end.at.saturating_duration_since(said);
        println!("{name}: told {took:?} after the goodbye");
        assert!(took < AT_ONCE, "{name} waited {took:?} for the end");
        let last = Stamp::read(&end.last_frame.expect("it watched"));
        assert_eq!(last.number + 1, frames, "{name} gets the last frame first");
    }
    server.stop();
}

/// For encoders that stop and start again: their goodbye is treated as a loss.
#[test]
fn a_goodbye_can_be_resumed() {
    let server = start(&[("apps.default.publish.resume_after_goodbye", "true")]);
    let mut publisher = Publisher::start(server.rtmp(), STREAM, SCRIPT);
    server.api().wait_for_frames(STREAM, 10, SOON);
    let mut watchers = one_of_each(&server);
    for watcher in &mut watchers {
        watcher.see_begin("at first");
    }
    for round in 1..=2 {
        publisher.say_goodbye();
        server.api().wait_for_no_publisher(STREAM, SOON);
        publisher = Publisher::start(server.rtmp(), STREAM, SCRIPT);
        for watcher in &mut watchers {
            watcher.see_begin(&format!("after goodbye {round}"));
        }
    }
    let snapshot = server.api().snapshot();
    assert_eq!(snapshot.viewers(STREAM), [2; SHARDS], "the same viewers are still there");
    assert_eq!(snapshot.registry("resumed"), 2);
    drop(publisher);
    drop(watchers);
    server.stop();
}

#[test]
fn a_publisher_that_stays_away_ends_the_stream_when_the_gap_is_over() {
    const RESUME: Duration = Duration::from_secs(1);
    let server = start(&[("apps.default.publish.resume", "1s")]);
    let (mut publisher, _) = publish_on(&server, 0);
    let mut watchers = one_of_each(&server);
    for watcher in &mut watchers {
        watcher.see_begin("at first");
    }
    let killed = Instant::now();
    publisher.signal(libc::SIGKILL);
    publisher.wait(SOON);
    for watcher in watchers {
        let name = watcher.name.clone();
        let took = watcher.see_end().at - killed;
        println!("{name}: told {took:?} after the kill");
        assert!(took >= RESUME, "{name} is told after {took:?}, within the gap");
        assert!(took < RESUME + AT_ONCE, "{name} waited {took:?} for the end");
    }
    assert_eq!(server.api().snapshot().registry("gaps_expired"), 1);
    server.stop();
}

/// They are let in because it may come back.
#[test]
fn who_comes_while_the_publisher_is_away_is_told_that_it_stays_away() {
    let refuses = ("apps.default.play.missing", "refuse");
    let server = start(&[("apps.default.publish.resume", "3s"), refuses]);
    let (mut publisher, _) = publish_on(&server, 0);
    publisher.signal(libc::SIGKILL);
    publisher.wait(SOON);
    server.api().wait_for_no_publisher(STREAM, SOON);
    for watcher in one_of_each(&server) {
        let name = watcher.name.clone();
        assert!(watcher.see_end().last_frame.is_none(), "{name} has come too late for pictures");
    }
    assert_eq!(server.api().snapshot().registry("gaps_expired"), 1);
    server.stop();
}

/// A server whose viewers stay on the shards that they are put on.
fn start(overrides: &[(&str, &str)]) -> Server {
    Server::start(&[overrides, &[("server.gather_viewers", "0")]].concat())
}

/// An ffmpeg that publishes from that shard, once its frames come in.
fn publish_on(server: &Server, shard: usize) -> (Process, usize) {
    go_to_shard(server, shard);
    let publisher = publish(&MEDIA.file(), &server.rtmp_url(STREAM), Pace::Endless);
    let snapshot = server.api().wait_for_frames(STREAM, 30, SOON);
    (publisher, snapshot.owner_shard(STREAM).expect("it is published"))
}

/// Makes the next connection one of that shard.
fn go_to_shard(server: &Server, shard: usize) {
    if server.api().snapshot().next_shard() != shard {
        drop(std::net::TcpStream::connect(server.http()).expect("the server listens"));
        server.api().wait_until("the next connection goes to the shard", SOON, |snapshot| {
            snapshot.next_shard() == shard
        });
    }
}

/// A viewer of each kind on each shard.
fn one_of_each(server: &Server) -> Vec<Watcher> {
    let mut watchers = Vec::new();
    for shard in 0..SHARDS {
        for is_rtmp in [true, false] {
            go_to_shard(server, shard);
            let (kind, mut viewer) = if is_rtmp {
                ("RTMP", Viewer::rtmp(server.rtmp(), STREAM))
            } else {
                ("HTTP-FLV", Viewer::flv(server.http(), STREAM))
            };
            let name = format!("the {kind} viewer of shard {shard}");
            let count = watchers.len() as u64 + 1;
            eventually(&format!("{name} watches"), SOON, || {
                viewer.pump();
                let viewers = server.api().snapshot().viewers(STREAM);
                (viewers.iter().sum::<u64>() == count).then_some(())
            });
            watchers.push(Watcher { name, viewer, last_ms: [None; 2] });
        }
    }
    assert_eq!(server.api().snapshot().viewers(STREAM), [2; SHARDS]);
    watchers
}

impl Watcher {
    /// Watches until a stream has begun (again): metadata and both decoder configurations, then a
    /// keyframe, then more; time only goes forward, and nobody is told of an end.
    fn see_begin(&mut self, when: &str) {
        let deadline = Instant::now() + SOON;
        let mut headers = Vec::new();
        let mut frames = 0;
        while frames < FRAMES_WATCHED {
            let received = self.viewer.next(deadline);
            let Some(received) = received else { panic!("{} is closed {when}", self.name) };
            let (type_id, timestamp_ms, payload) = match received {
                Received::Message { type_id, timestamp_ms, payload } => {
                    (type_id, timestamp_ms, payload)
                }
                Received::Head(_) => continue,
                Received::Status(code) => {
                    assert_ne!(code, UNPUBLISHED, "{} is told of an end {when}", self.name);
                    continue;
                }
                other => panic!("{} gets {other:?} {when}", self.name),
            };
            let is_header = match type_id {
                8 => matches!(&payload[..], [0xAF, 0, ..]),
                9 => is_config(&payload),
                _ => true,
            };
            let has_headers = [8, 9, 18].iter().all(|kind| headers.contains(kind));
            if is_header {
                assert!(frames == 0, "{}: a header of kind {type_id} late {when}", self.name);
                headers.push(type_id);
                continue;
            }
            self.check_time(type_id, timestamp_ms, when);
            // What the publisher before had sent may still come.
            if type_id == 9 && has_headers {
                let is_first = frames == 0;
                assert!(!is_first || is_keyframe(&payload), "{} {when}", self.name);
                frames += 1;
            } else if type_id == 9 {
                assert!(headers.is_empty(), "{}: a frame among the headers {when}", self.name);
            }
        }
    }

    fn check_time(&mut self, type_id: u8, timestamp_ms: u32, when: &str) {
        let last = &mut self.last_ms[usize::from(type_id == 9)];
        if let Some(last_ms) = *last {
            assert!(
                timestamp_ms >= last_ms,
                "{}: time of kind {type_id} goes from {last_ms} to {timestamp_ms} {when}",
                self.name
            );
        }
        *last = Some(timestamp_ms);
    }

    /// Watches to the end: over RTMP both words of it, over HTTP the end of the body.
    fn see_end(mut self) -> End {
        let is_rtmp = self.name.contains("RTMP");
        let deadline = Instant::now() + SOON;
        let (mut last_frame, mut has_notify, mut has_eof) = (None, false, false);
        while !(has_notify && has_eof) {
            let Some(received) = self.viewer.next(deadline) else { break };
            match received {
                Received::Message { type_id: 9, payload, .. } => {
                    assert!(!has_notify && !has_eof, "{}: a frame after the end", self.name);
                    last_frame = Some(payload);
                }
                Received::Status(code) => has_notify |= code == UNPUBLISHED,
                Received::StreamEof => has_eof = true,
                _ => {}
            }
        }
        let end = End { at: Instant::now(), last_frame, has_notify, has_eof };
        assert_eq!(self.viewer.is_closed(), !is_rtmp, "{}: only HTTP ends with it", self.name);
        assert_eq!((end.has_notify, end.has_eof), (is_rtmp, is_rtmp), "{}", self.name);
        end
    }
}
