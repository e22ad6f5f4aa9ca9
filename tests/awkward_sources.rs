//! Sources that do what encoders should not do but do: clocks near their end, headers with every
//! keyframe, tracks that come late or vanish, another codec after a reconnect. Viewers get exactly what
//! was sent, in order, with the right headers and a clock that only goes forward.

mod support;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use shardcast::proto::amf0::Value;
use support::ffmpeg::{Ffmpeg, Player};
use support::media::{Media, Video, cached, tags};
use support::packets::{Packet, Source, Track};
use support::publisher::Feed;
use support::scratch::Scratch;
use support::server::Server;
use support::viewer::{Received, Viewer, wait_until_watching};
use support::wait::{SOON, eventually};

const STREAM: &str = "live/cam";
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const DATA: u8 = 18;
/// Frames at the start of a publication that lie within the first group of pictures.
const FIRST_FRAMES: usize = 10;
/// Viewers wait for the publisher, and fast sources are no reason to skip.
const PATIENT: [(&str, &str); 3] = [
    ("http.flv_missing", "wait"),
    ("apps.default.log_reach", "120s"),
    ("apps.default.viewer.max_lag", "60s"),
];
const UNPUBLISHED: &str = "NetStream.Play.UnpublishNotify";
const PUBLISHED: &str = "NetStream.Play.PublishNotify";

/// Ten seconds of H.264 with B-frames and AAC, a keyframe each second.
const MEDIA: Media = Media {
    seconds: 10,
    video: Some(Video { size: "160x90", kilobits: 60, gop_frames: 30 }),
    audio: true,
};

/// A message of media as it is sent and received.
#[derive(Clone, PartialEq)]
struct Message {
    kind: u8,
    at_ms: u32,
    body: Bytes,
}

/// A file's headers and frames.
struct Parts {
    metadata: Bytes,
    video_headers: Vec<Bytes>,
    audio_headers: Vec<Bytes>,
    frames: Vec<Message>,
}

/// Thirty minutes that begin a minute before the clock's end; metadata and configurations come again
/// with each keyframe.
#[test]
fn thirty_minutes_through_the_end_of_the_clock() {
    const MINUTES: u32 = 30;
    const ROUND_MS: u32 = 10_000;
    let start = 0_u32.wrapping_sub(60_000);
    let file = few_packets();
    let parts = Parts::of_tags(&file);
    // The last frames would overlap with the first of the next round.
    let round: Vec<_> = parts.frames.iter().filter(|it| it.at_ms < ROUND_MS - 10).collect();
    let rounds = MINUTES * 60_000 / ROUND_MS;
    let server = Server::start(&PATIENT);
    let scratch = Scratch::new("wrap");
    let mut players = [(server.rtmp_url(STREAM), "rtmp"), (server.flv_url(STREAM), "flv")]
        .map(|(url, wire)| Player::start(&url, scratch.file(&format!("{wire}.md5"))));
    let mut early = viewers(&server, 4);
    let expected_early = sent_by(&parts, &round, start, 0..rounds);

    let mut feed = Feed::start(server.rtmp(), STREAM);
    let mut sent = parts.all_headers(0);
    sent.extend(round[..FIRST_FRAMES].iter().map(|frame| frame.later(start)));
    send_first(&mut feed, &parts, &sent, &mut early);
    let early = early.map(|viewer| follow(viewer, expected_early.clone()));
    let mut send = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            for (index, frame) in round.iter().enumerate() {
                if number == 0 && index < FIRST_FRAMES {
                    continue;
                }
                let at_ms = start.wrapping_add(number * ROUND_MS + frame.at_ms);
                if is_keyframe(frame) {
                    // Some encoders stamp headers 0, others with the time of what follows.
                    let header_ms = if number % 2 == 0 { 0 } else { at_ms };
                    feed.send(DATA, header_ms, &parts.set_data_frame());
                    parts.video_headers.iter().for_each(|it| feed.send(VIDEO, header_ms, it));
                    parts.audio_headers.iter().for_each(|it| feed.send(AUDIO, header_ms, it));
                }
                feed.send(frame.kind, at_ms, &frame.body);
            }
        }
    };
    // Somebody comes when the clock has wrapped.
    let half = rounds / 2;
    send(0..half);
    let sent = u64::from(half) * (round.len() as u64 + 3 * 10);
    server.api().wait_for_frames(STREAM, sent, 3 * SOON);
    let late = viewers(&server, 6);
    let first = round.iter().rposition(|frame| is_keyframe(frame)).expect("there are keyframes");
    let mut expected_late = sent_by(&parts, &round[first..], start, half - 1..half);
    expected_late.extend(sent_by(&parts, &round, start, half..rounds).into_iter().skip(3));
    let late = late.map(|viewer| follow(viewer, expected_late.clone()));
    send(half..rounds);
    // Whoever is far behind is cut off five seconds after the end. ffmpeg holds a few packets back.
    let enough = rounds as usize * round.len() - 100;
    for player in &players {
        eventually("ffmpeg has read nearly everything", 6 * SOON, || {
            (player.lines_so_far() >= enough).then_some(())
        });
    }
    feed.say_goodbye();

    for (name, viewer) in early.into_iter().chain(late) {
        viewer.join().unwrap_or_else(|_| panic!("{name}"));
    }
    let source = Source::of_file(&file);
    for player in &mut players {
        let received = player.finish(3 * SOON);
        let packets = source.packets();
        let who = player.process().name().to_owned();
        assert_rounds(&who, &received.video, &packets.video, start, ROUND_MS, rounds);
        assert_rounds(&who, &received.audio, &packets.audio, start, ROUND_MS, rounds);
    }
    let snapshot = server.api().snapshot();
    assert!(snapshot.drops().iter().all(|(_, count)| *count == 0), "{:?}", snapshot.drops());
    let log = server.process().stderr();
    assert!(log.contains("timestamps_repaired=0"), "no time was wrong: {log}");
    server.stop();
}

/// The microphone is plugged in after five seconds, or the camera is.
#[test]
fn a_track_that_appears_five_seconds_late() {
    for (late_kind, name) in [(AUDIO, "sound"), (VIDEO, "picture")] {
        let parts = Parts::of_tags(&MEDIA.file());
        let server = Server::start(&PATIENT);
        let mut early = viewers(&server, 2);
        let mut feed = Feed::start(server.rtmp(), STREAM);
        let appears = |frame: &Message| frame.kind != late_kind || frame.at_ms >= 5_000;
        let begun = |frame: &Message| late_kind != VIDEO || is_keyframe(frame);
        let mut sent = Vec::new();
        let mut has_appeared = false;
        sent.push(Message { kind: DATA, at_ms: 0, body: parts.metadata.clone() });
        sent.extend(parts.headers(if late_kind == AUDIO { VIDEO } else { AUDIO }, 0));
        for frame in parts.frames.iter().filter(|frame| appears(frame)) {
            if frame.kind == late_kind && !has_appeared {
                if !begun(frame) {
                    continue;
                }
                has_appeared = true;
                sent.extend(parts.headers(late_kind, frame.at_ms));
            }
            sent.push(frame.clone());
        }
        send_all(&mut feed, &parts, &sent, &mut early);
        // A viewer that comes now finds both tracks as if nothing had been.
        server.api().wait_for_frames(STREAM, sent.len() as u64, SOON);
        let late = viewers(&server, 4);
        feed.say_goodbye();

        // Headers are stamped with what they go before; metadata always with 0.
        let mut expected = sent;
        let first_ms = expected.iter().find(|it| it.is_frame()).expect("a frame").at_ms;
        for message in expected.iter_mut().skip(1).take_while(|message| !message.is_frame()) {
            message.at_ms = first_ms;
        }
        for mut viewer in early {
            assert_same(&format!("late {name}: early viewer"), &expected, &all_of(&mut viewer));
        }
        let last = expected.iter().rposition(is_keyframe).expect("a keyframe");
        let at_ms = expected[last].at_ms;
        let mut expected_late = parts.all_headers(at_ms);
        expected_late.extend_from_slice(&expected[last..]);
        for mut viewer in late {
            assert_same(&format!("late {name}: late viewer"), &expected_late, &all_of(&mut viewer));
        }
        server.stop();
    }
}

/// The camera's cable is pulled after three seconds, and it is back after nine: the encoder goes on
/// where it was, without a keyframe. Who was there sees everything; who comes while there is only
/// sound hears it at once.
#[test]
fn a_track_that_vanishes_and_comes_back() {
    let parts = Parts::of_tags(&MEDIA.file());
    let server = Server::start(&PATIENT);
    let mut early = viewers(&server, 2);
    let mut feed = Feed::start(server.rtmp(), STREAM);
    let mut sent = parts.all_headers(0);
    let is_there = |frame: &&Message| {
        let is_shown = frame.at_ms < 3_000 || (frame.at_ms >= 9_040 && !is_keyframe(frame));
        frame.kind == AUDIO || is_shown
    };
    sent.extend(parts.frames.iter().filter(is_there).cloned());
    let comes_at = sent.iter().position(|it| it.at_ms >= 8_700 && it.is_frame()).expect("sound");
    let (before, after) = sent.split_at(comes_at);
    send_all(&mut feed, &parts, before, &mut early);
    server.api().wait_for_frames(STREAM, before.len() as u64, SOON);
    let late = viewers(&server, 4);
    after.iter().for_each(|it| feed.send(it.kind, it.at_ms, &it.wire_body(&parts)));
    feed.say_goodbye();

    let first_ms = sent.iter().find(|it| it.is_frame()).expect("a frame").at_ms;
    let mut expected = parts.all_headers(first_ms);
    expected.extend(sent.iter().filter(|it| it.is_frame()).cloned());
    for mut viewer in early {
        assert_same("an early viewer", &expected, &all_of(&mut viewer));
    }
    for mut viewer in late {
        let received = all_of(&mut viewer);
        let frames: Vec<_> = received.iter().filter(|it| it.is_frame()).cloned().collect();
        let first = frames.first().expect("it gets something");
        assert_eq!(first.kind, AUDIO, "there is nothing else to begin with");
        let lead_ms = before.last().expect("frames").at_ms - first.at_ms;
        assert!(lead_ms <= 1_000, "it hears what is said now, not {lead_ms} ms ago");
        let from = sent.iter().position(|it| it == first).expect("it was sent");
        assert_same("a late viewer", &sent[from..], &frames);
        assert_eq!(received.len() - frames.len(), 3, "metadata and both configurations");
    }
    server.stop();
}

/// An encoder that is lost and comes back with another codec: viewers stay, get the new headers and
/// then the new frames, and never frames of both in one group.
#[test]
fn a_codec_change_after_a_loss_and_after_a_goodbye() {
    let avc = Parts::of_tags(&MEDIA.file());
    let hevc = Parts::of_tags(&hevc_opus());
    assert!(hevc.video_headers.len() >= 2 && hevc.audio_headers.len() >= 2, "colour and layout");
    let legacy = hevc.in_legacy_form();
    let server = Server::start(&PATIENT);
    let mut watching = viewers(&server, 2);
    let mut clocks = [0_u32; 2];
    // (what is published, whether the publisher before was lost)
    let rounds = [(&avc, false), (&hevc, true), (&legacy, true), (&avc, true), (&hevc, false)];
    for (round, (parts, resumes)) in rounds.into_iter().enumerate() {
        let mut feed = Feed::start(server.rtmp(), STREAM);
        let mut sent = parts.all_headers(0);
        sent.extend_from_slice(&parts.frames);
        send_all(&mut feed, parts, &sent, &mut watching);
        server.api().wait_for_frames(STREAM, sent.len() as u64, SOON);
        // Only what is published now, to somebody who comes now.
        let mut late = viewers(&server, 4);
        for (viewer, clock) in watching.iter_mut().zip(&mut clocks) {
            let what = format!("round {round}");
            let received = take(viewer, sent.len());
            let bodies = |messages: &[Message]| -> Vec<(u8, Bytes)> {
                messages.iter().map(|it| (it.kind, it.body.clone())).collect()
            };
            assert_eq!(received.len(), sent.len(), "{what}");
            if bodies(&received) != bodies(&sent) {
                assert_same(&what, &without_times(&sent), &without_times(&received));
            }
            // One offset for all frames, so that sound and picture stay together.
            let frames = || received.iter().zip(&sent).filter(|(it, _)| it.is_frame());
            let offset = frames().next().map(|(it, sent)| it.at_ms - sent.at_ms);
            for (received, sent) in frames() {
                assert_eq!(Some(received.at_ms - sent.at_ms), offset, "{what}");
            }
            let first = received.iter().find(|it| it.is_frame()).expect("frames").at_ms;
            if resumes {
                assert!(first > *clock, "{what}: the clock goes from {clock} to {first}");
            }
            *clock = received.iter().map(|it| it.at_ms).max().expect("frames");
        }
        for viewer in &mut late {
            let headers = parts.all_headers(0);
            let received = take(viewer, headers.len() + 1);
            for (received, header) in received.iter().zip(&headers) {
                assert_eq!((received.kind, &received.body), (header.kind, &header.body));
            }
            assert!(is_keyframe(&received[headers.len()]), "round {round}: then a keyframe");
        }
        drop(late);
        if round == 3 {
            feed.say_goodbye();
            // RTMP viewers are told and stay; the body of an HTTP answer ends.
            assert_eq!(statuses(&mut watching[0]), [UNPUBLISHED]);
            assert!(watching[1].next(Instant::now() + SOON).is_none(), "the body ends");
            watching[1] = Viewer::flv(server.http(), STREAM);
            wait_until_watching(server.api(), STREAM, 2, &mut watching);
            clocks = [0; 2];
        } else {
            drop(feed);
            server.api().wait_for_no_publisher(STREAM, SOON);
        }
    }
    assert_eq!(server.api().snapshot().registry("resumed"), 3);
    server.stop();
}

impl Parts {
    fn of_tags(path: &std::path::Path) -> Self {
        let mut parts = Self {
            metadata: Bytes::new(),
            video_headers: Vec::new(),
            audio_headers: Vec::new(),
            frames: Vec::new(),
        };
        for tag in tags(path) {
            let message = Message { kind: tag.type_id, at_ms: tag.timestamp_ms, body: tag.payload };
            match message.kind {
                DATA => parts.metadata = message.body,
                VIDEO if !message.is_frame() => parts.video_headers.push(message.body),
                AUDIO if !message.is_frame() => parts.audio_headers.push(message.body),
                _ => parts.frames.push(message),
            }
        }
        // The end of a sequence, which ffmpeg writes last, is for files.
        let is_end = |body: &Bytes| matches!(body[..], [0x17, 2, ..] | [0x92, ..]);
        parts.video_headers.retain(|body| !is_end(body));
        // The order in which they are kept: configuration, then what stands beside it.
        parts.video_headers.sort_by_key(|body| body[0] & 0x0f == 4);
        parts.audio_headers.sort_by_key(|body| body[0] == 0x94);
        parts
    }

    /// H.265 as cameras send it that know nothing of FourCC: codec id 12, and otherwise as H.264.
    fn in_legacy_form(&self) -> Self {
        let rewrite = |body: &Bytes| -> Bytes {
            let frame_type = body[0] & 0x70;
            let (head, data) = match body[0] & 0x0f {
                0 => ([frame_type | 12, 0, 0, 0, 0], &body[5..]),
                1 => ([frame_type | 12, 1, body[5], body[6], body[7]], &body[8..]),
                _ => ([frame_type | 12, 1, 0, 0, 0], &body[5..]),
            };
            [&head, data].concat().into()
        };
        let as_legacy = |frame: &Message| match frame.kind {
            VIDEO => Message { body: rewrite(&frame.body), ..frame.clone() },
            _ => frame.clone(),
        };
        Self {
            metadata: self.metadata.clone(),
            // There is no colour in this form.
            video_headers: self.video_headers[..1].iter().map(rewrite).collect(),
            audio_headers: self.audio_headers.clone(),
            frames: self.frames.iter().map(as_legacy).collect(),
        }
    }

    fn headers(&self, kind: u8, at_ms: u32) -> Vec<Message> {
        let bodies = if kind == VIDEO { &self.video_headers } else { &self.audio_headers };
        bodies.iter().map(|body| Message { kind, at_ms, body: body.clone() }).collect()
    }

    /// What a viewer gets before its first frame. Players take metadata at another time than 0 for
    /// something to be shown.
    fn all_headers(&self, at_ms: u32) -> Vec<Message> {
        let mut headers = vec![Message { kind: DATA, at_ms: 0, body: self.metadata.clone() }];
        headers.extend(self.headers(VIDEO, at_ms));
        headers.extend(self.headers(AUDIO, at_ms));
        headers
    }

    /// Metadata as an encoder sends it.
    fn set_data_frame(&self) -> Bytes {
        let mut body = Vec::new();
        Value::from("@setDataFrame").encode(&mut body);
        body.extend_from_slice(&self.metadata);
        body.into()
    }
}

impl Message {
    /// A frame of audio or video, not a header.
    fn is_frame(&self) -> bool {
        match self.kind {
            VIDEO if self.body[0] & 0x80 != 0 => matches!(self.body[0] & 0x0f, 1 | 3),
            VIDEO => self.body[1] == 1,
            AUDIO if self.body[0] >> 4 == 9 => self.body[0] & 0x0f == 1,
            AUDIO => self.body[1] == 1,
            _ => false,
        }
    }

    /// The same after that time.
    fn later(&self, ms: u32) -> Self {
        Self { at_ms: self.at_ms.wrapping_add(ms), ..self.clone() }
    }

    fn wire_body(&self, parts: &Parts) -> Bytes {
        if self.kind == DATA { parts.set_data_frame() } else { self.body.clone() }
    }
}

impl Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head = &self.body[..self.body.len().min(6)];
        write!(f, "{} at {} ms: {} bytes {head:02x?}", self.kind, self.at_ms, self.body.len())
    }
}

fn is_keyframe(message: &Message) -> bool {
    message.kind == VIDEO && message.is_frame() && (message.body[0] >> 4) & 7 == 1
}

fn without_times(messages: &[Message]) -> Vec<Message> {
    messages.iter().map(|it| Message { at_ms: 0, ..it.clone() }).collect()
}

/// A viewer over RTMP and one over HTTP-FLV; with them the stream has `count` viewers.
fn viewers(server: &Server, count: u64) -> [Viewer; 2] {
    let mut viewers = [Viewer::rtmp(server.rtmp(), STREAM), Viewer::flv(server.http(), STREAM)];
    wait_until_watching(server.api(), STREAM, count, &mut viewers);
    viewers
}

/// Sends messages, the first of a publication, and waits until the viewers follow it. A viewer that
/// waits begins with the group of pictures that is there when its shard has heard of the publication, so
/// a source that is faster than that would leave it behind.
fn send_first(feed: &mut Feed, parts: &Parts, messages: &[Message], viewers: &mut [Viewer]) {
    messages.iter().for_each(|it| feed.send(it.kind, it.at_ms, &it.wire_body(parts)));
    eventually("the viewers follow", SOON, || {
        viewers.iter_mut().for_each(Viewer::pump);
        viewers.iter().all(Viewer::has_media).then_some(())
    });
}

/// Sends all messages of a publication, as fast as the server takes them once the viewers follow.
fn send_all(feed: &mut Feed, parts: &Parts, messages: &[Message], viewers: &mut [Viewer]) {
    let headers = messages.iter().take_while(|it| !it.is_frame()).count();
    let (first, rest) = messages.split_at(headers + FIRST_FRAMES);
    send_first(feed, parts, first, viewers);
    rest.iter().for_each(|it| feed.send(it.kind, it.at_ms, &it.wire_body(parts)));
}

/// What viewers get of these rounds: headers once, before the first frame.
fn sent_by(
    parts: &Parts,
    round: &[&Message],
    start: u32,
    numbers: std::ops::Range<u32>,
) -> VecDeque<Message> {
    let at_ms = |number: u32, frame: &Message| start.wrapping_add(number * 10_000 + frame.at_ms);
    let mut expected: VecDeque<_> = parts.all_headers(at_ms(numbers.start, round[0])).into();
    for number in numbers {
        let timed = |frame: &&Message| Message { at_ms: at_ms(number, frame), ..(*frame).clone() };
        expected.extend(round.iter().map(timed));
    }
    expected
}

/// A thread that reads a viewer to the end of its stream, with what it has to get.
fn follow(mut viewer: Viewer, mut expected: VecDeque<Message>) -> (String, thread::JoinHandle<()>) {
    let count = expected.len();
    let name = format!("a viewer of {count} messages");
    let thread = thread::spawn(move || {
        let mut last_ms: Option<u32> = None;
        while let Some(wanted) = expected.pop_front() {
            let at = count - expected.len();
            let received = take(&mut viewer, 1).pop().expect("one message");
            assert!(received == wanted, "message {at}: {received:?} instead of {wanted:?}");
            // 32 bits wrap; forward is less than half of them.
            if let Some(last_ms) = last_ms.filter(|_| received.is_frame()) {
                let step = received.at_ms.wrapping_sub(last_ms) as i32;
                assert!(step >= 0, "message {at}: time goes from {last_ms} to {received:?}");
            }
            last_ms = Some(received.at_ms).filter(|_| received.is_frame()).or(last_ms);
        }
        assert_eq!(all_of(&mut viewer), [], "nothing more");
    });
    (name, thread)
}

/// The next messages of media.
fn take(viewer: &mut Viewer, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    while messages.len() < count {
        match viewer.next(Instant::now() + 3 * SOON) {
            Some(Received::Message { type_id, timestamp_ms, payload }) => {
                messages.push(Message { kind: type_id, at_ms: timestamp_ms, body: payload });
            }
            Some(Received::Head(_)) => {}
            Some(Received::Status(code)) => {
                assert!(code != UNPUBLISHED, "the stream ends after {} messages", messages.len());
            }
            other => panic!("{other:?} after {} messages", messages.len()),
        }
    }
    messages
}

/// Everything up to the end of the stream.
fn all_of(viewer: &mut Viewer) -> Vec<Message> {
    let mut messages = Vec::new();
    loop {
        match viewer.next(Instant::now() + SOON) {
            Some(Received::Message { type_id, timestamp_ms, payload }) => {
                messages.push(Message { kind: type_id, at_ms: timestamp_ms, body: payload });
            }
            Some(Received::Head(_)) => {}
            Some(Received::Status(code)) if code != UNPUBLISHED => {}
            None | Some(Received::Status(_)) => return messages,
            other => panic!("{other:?} after {} messages", messages.len()),
        }
    }
}

/// The statuses up to the end of the stream.
fn statuses(viewer: &mut Viewer) -> Vec<String> {
    let mut codes = Vec::new();
    loop {
        match viewer.next(Instant::now() + SOON).expect("the connection stays") {
            Received::Status(code) => codes.push(code),
            Received::StreamEof => {
                codes.retain(|code| code != PUBLISHED);
                return codes;
            }
            other => panic!("{other:?} after the goodbye"),
        }
    }
}

fn assert_same(what: &str, expected: &[Message], received: &[Message]) {
    let at = expected.iter().zip(received).take_while(|(left, right)| left == right).count();
    assert!(
        expected == received,
        "{what}: {} messages expected, {} received, the first difference is at {at}:\n{:?}\n{:?}",
        expected.len(),
        received.len(),
        expected.get(at.saturating_sub(1)..(at + 3).min(expected.len())),
        received.get(at.saturating_sub(1)..(at + 3).min(received.len())),
    );
}

/// What ffmpeg received of rounds of the source: every packet, with times that go on over the wrap.
fn assert_rounds(
    who: &str,
    received: &Track,
    source: &Track,
    start: u32,
    round_ms: u32,
    rounds: u32,
) {
    let round: Vec<&Packet> =
        source.packets.iter().filter(|packet| packet.dts < i64::from(round_ms) - 10).collect();
    assert_eq!(received.configuration, source.configuration, "{who}");
    // ffmpeg decides where to count from: it may put the wrap at 0.
    let first_ms = received.packets.first().expect("packets").dts - round[0].dts;
    assert_eq!(first_ms as u32, start, "{who}: {first_ms}");
    let expected = (0..rounds).flat_map(|number| {
        let base = first_ms + i64::from(number) * i64::from(round_ms);
        round.iter().map(move |packet| (base + packet.dts, base + packet.pts, &packet.md5))
    });
    let count = rounds as usize * round.len();
    assert_eq!(received.packets.len(), count, "{who}");
    for (at, (packet, wanted)) in received.packets.iter().zip(expected).enumerate() {
        let packet = (packet.dts, packet.pts, &packet.md5);
        assert!(packet == wanted, "{who}: packet {at} is {packet:?} instead of {wanted:?}");
    }
}

/// Ten seconds of H.264 with B-frames and AAC in few packets: ten pictures and eight pieces of sound a
/// second, a keyframe each second.
fn few_packets() -> std::path::PathBuf {
    cached("awkward-few-packets", || {
        let mut command = Ffmpeg::System.command();
        command
            .args(["-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10"])
            .args(["-f", "lavfi", "-i", "sine=frequency=500:sample_rate=8000"])
            .args(["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "10"])
            .args(["-sc_threshold", "0", "-pix_fmt", "yuv420p", "-c:a", "aac", "-t", "10"]);
        command
    })
}

/// Four seconds of H.265 with its colour and Opus with its channel layout, made by ffmpeg 9.
fn hevc_opus() -> std::path::PathBuf {
    cached("awkward-hevc-opus", || {
        let mut command = Ffmpeg::Nine.command();
        command
            .args(["-f", "lavfi", "-i", "testsrc2=size=160x90:rate=30"])
            .args(["-f", "lavfi", "-i", "sine=frequency=500:sample_rate=48000"])
            .args(["-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p"])
            .args(["-x265-params", "log-level=error:keyint=30:min-keyint=30:scenecut=0"])
            .args(["-c:a", "libopus", "-t", "4"]);
        command
    })
}
