//! Viewers that choose tracks and pause cost the others nothing: one switches sound and pictures on and
//! off 1,000 times, 50 pause and go on at random. The others get every packet, what these get can be
//! decoded, and afterwards logs and memory are as before.

mod support;

use std::collections::HashMap;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use bytes::Bytes;
use shardcast::media::SEGMENT_BYTES;
use shardcast::proto::rtmp::message;

use support::ffmpeg::{Pace, Player, publish};
use support::media::{Media, SMALL_VIDEO, Video};
use support::noise::Noise;
use support::packets::Source;
use support::scratch::Scratch;
use support::server::Server;
use support::stamp::is_keyframe;
use support::viewer::{Received, Viewer, wait_readable};
use support::wait::SOON;

const STREAM: &str = "live/cam";
/// A keyframe twice a second: who wants pictures again gets them within that.
const MEDIA: Media =
    Media { seconds: 60, video: Some(Video { gop_frames: 15, ..SMALL_VIDEO }), audio: true };
const TOGGLES: usize = 1_000;
const PAUSERS: usize = 50;
/// Between two choices of the one viewer.
const TOGGLE_INTERVAL: Duration = Duration::from_millis(20);
/// RTMP and HTTP-FLV, each on two shards.
const LOGS: u64 = 4;
/// How soon there is one log per wire again.
const BACK_WITHIN: Duration = Duration::from_secs(1);
/// Each log begins and ends somewhere in a segment.
const LOG_BYTES_MORE_MAX: u64 = LOGS * SEGMENT_BYTES as u64;
/// The segments that are kept for the next log, and the allocator's own.
const RESIDENT_MORE_MAX: u64 = 4 * 1024 * 1024;

/// A viewer that chooses, and everything it was sent.
struct Chooser {
    viewer: Viewer,
    messages: Vec<(u8, u32, Bytes)>,
    paused: bool,
}

/// Numbers without a pattern, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

impl Chooser {
    fn new(viewer: Viewer) -> Self {
        Self { viewer, messages: Vec::new(), paused: false }
    }

    fn pump(&mut self) {
        self.viewer.pump();
        assert!(!self.viewer.is_closed(), "nobody is closed for choosing");
        while let Some(received) = self.viewer.take() {
            match received {
                Received::Message { type_id, timestamp_ms, payload } => {
                    self.messages.push((type_id, timestamp_ms, payload));
                }
                Received::Failed(code) => panic!("{code}"),
                _ => {}
            }
        }
    }
}

#[test]
fn viewers_that_choose_disturb_nobody_and_leave_nothing_behind() {
    let file = MEDIA.file();
    let source = Source::of_file(&file);
    let server = Server::start(&[("http.flv_missing", "wait"), ("log.level", "warn")]);
    let scratch = Scratch::new("toggling");
    let mut players: Vec<Player> = (0..4)
        .map(|number| {
            let list = scratch.file(&format!("{number}.md5"));
            let (rtmp, flv) = (server.rtmp_url(STREAM), server.flv_url(STREAM));
            let player = Player::start(if number < 2 { &rtmp } else { &flv }, list);
            server.api().wait_for_viewers(STREAM, number + 1, SOON);
            player
        })
        .collect();
    // The first of the list sees everything, the second switches, the others pause.
    let mut choosers: Vec<Chooser> =
        (0..2 + PAUSERS).map(|_| Chooser::new(Viewer::rtmp(server.rtmp(), STREAM))).collect();
    let deadline = Instant::now() + SOON;
    while server.api().snapshot().viewers(STREAM).iter().sum::<u64>() < 4 + 2 + PAUSERS as u64 {
        assert!(Instant::now() < deadline, "all viewers wait");
        pump(&mut choosers, Duration::from_millis(20));
    }
    let mut publisher = publish(&file, &server.rtmp_url(STREAM), Pace::RealTime);
    while choosers.iter().any(|chooser| chooser.messages.len() < 150) {
        assert!(Instant::now() < deadline + SOON, "all viewers begin");
        pump(&mut choosers, Duration::from_millis(20));
    }
    let before = server.api().snapshot();
    let resident_before = server.process().resident_bytes();

    let mut random = Random(1);
    let mut tracks = [true, true];
    let mut highest = 0;
    for toggle in 0..TOGGLES {
        let which = random.below(2);
        tracks[which] = !tracks[which];
        let name = ["receiveAudio", "receiveVideo"][which];
        choosers[1].viewer.flag(name, tracks[which]);
        for _ in 0..random.below(4) {
            let chooser = &mut choosers[2 + random.below(PAUSERS)];
            chooser.paused = !chooser.paused;
            chooser.viewer.flag("pause", chooser.paused);
        }
        let until = Instant::now() + TOGGLE_INTERVAL;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            pump(&mut choosers, left);
        }
        if toggle % 50 == 49 {
            highest = highest.max(server.api().snapshot().logs(STREAM));
        }
    }
    assert!(publisher.is_running(), "the choices are made while the stream runs");
    let during = server.api().snapshot();

    for chooser in &mut choosers[2..] {
        if std::mem::take(&mut chooser.paused) {
            chooser.viewer.flag("pause", false);
        }
    }
    for (name, is_on) in ["receiveAudio", "receiveVideo"].iter().zip(tracks) {
        if !is_on {
            choosers[1].viewer.flag(name, true);
        }
    }
    let noise = Noise::listen();
    let begin = Instant::now();
    let after = loop {
        pump(&mut choosers, Duration::from_millis(10));
        let snapshot = server.api().snapshot();
        if snapshot.logs(STREAM) == LOGS && snapshot.paused(STREAM) == 0 {
            break snapshot;
        }
        assert!(begin.elapsed() < SOON, "{} logs", snapshot.logs(STREAM));
    };
    let (back_after, held_up) = (begin.elapsed(), noise.take_worst());
    drop(noise);
    let resident_after = server.process().resident_bytes();
    println!(
        "{} reception changes, at most {highest} logs, {} fallbacks; back to {LOGS} logs after \
         {back_after:?} (threads held up for at most {held_up:?}); log bytes {} before, {} during, {} \
         after; free segment bytes {} before, {} after; resident {} KiB before, {} KiB \
         after",
        after.sum("reception_changes"),
        after.sum("log_fallbacks"),
        before.sum("log_bytes"),
        during.sum("log_bytes"),
        after.sum("log_bytes"),
        before.sum("free_segment_bytes"),
        after.sum("free_segment_bytes"),
        resident_before / 1024,
        resident_after / 1024,
    );
    assert!(highest > LOGS, "there were logs of fewer tracks");
    assert_eq!(after.sum("log_fallbacks"), 0);
    assert!(after.sum("reception_changes") > TOGGLES as u64 / 2);
    assert!(back_after < BACK_WITHIN + held_up, "{back_after:?}");
    assert!(after.sum("log_bytes") <= before.sum("log_bytes") + LOG_BYTES_MORE_MAX);
    assert!(resident_after <= resident_before + RESIDENT_MORE_MAX);

    let (skips, drops) = (after.sum("skips"), after.drops());
    let sent_all = Instant::now() + Duration::from_secs(60);
    while publisher.is_running() {
        assert!(Instant::now() < sent_all, "the publisher ends");
        pump(&mut choosers, Duration::from_millis(20));
    }
    publisher.expect_success(SOON);
    for player in &mut players {
        let received = player.finish(SOON);
        let joined = source.assert_played(player.process().name(), &received);
        assert_eq!((joined.video_skipped, joined.audio_skipped), (0, 0));
    }
    pump(&mut choosers, Duration::from_millis(100));
    let all = std::mem::take(&mut choosers[0].messages);
    for (number, chooser) in choosers[1..].iter().enumerate() {
        check(number, &all, &chooser.messages);
    }
    assert_eq!(skips, 0, "{drops:?}");
    server.stop();
}

/// Reads what is there for all, and waits for more for at most `limit`.
fn pump(choosers: &mut [Chooser], limit: Duration) {
    let sockets: Vec<RawFd> = choosers.iter().map(|chooser| chooser.viewer.as_raw_fd()).collect();
    for index in wait_readable(&sockets, limit) {
        choosers[index].pump();
    }
}

/// What a viewer was sent is part of the stream, in its order, nothing twice; pictures have what they
/// need, and time does not go back.
fn check(number: usize, all: &[(u8, u32, Bytes)], messages: &[(u8, u32, Bytes)]) {
    let is_media = |(kind, _, payload): &&(u8, u32, Bytes)| match *kind {
        // Neither a configuration nor the end of the sequence.
        message::VIDEO => payload.get(1) == Some(&1),
        message::AUDIO => payload.get(1) != Some(&0),
        _ => false,
    };
    let places: HashMap<(u8, u32), usize> = all
        .iter()
        .filter(is_media)
        .enumerate()
        .map(|(place, (kind, time_ms, _))| ((*kind, *time_ms), place))
        .collect();
    let stream: Vec<&(u8, u32, Bytes)> = all.iter().filter(is_media).collect();
    let pictures: Vec<usize> =
        (0..stream.len()).filter(|place| stream[*place].0 == message::VIDEO).collect();
    let mut last: Option<usize> = None;
    let mut last_picture: Option<usize> = None;
    for message in messages.iter().filter(is_media) {
        let (kind, time_ms, payload) = message;
        let place = *places.get(&(*kind, *time_ms)).expect("a message of the stream");
        assert_eq!(stream[place].2, *payload, "viewer {number}: bytes of {kind} at {time_ms}");
        assert!(last.is_none_or(|last| last < place), "viewer {number}: {kind} at {time_ms} twice");
        last = Some(place);
        if *kind == message::VIDEO {
            let index = pictures.binary_search(&place).expect("a picture");
            let follows = last_picture.is_some_and(|last| last + 1 == index);
            assert!(
                follows || is_keyframe(payload),
                "viewer {number}: the picture at {time_ms} cannot be decoded"
            );
            last_picture = Some(index);
        }
    }
    assert_eq!(last, Some(stream.len() - 1), "viewer {number}: sees the end");
}
