//! The codecs and forms of Enhanced RTMP, published by ffmpeg 9: players over RTMP and over HTTP-FLV
//! get every packet as it was sent, from the start or from a later keyframe on.

mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::ffmpeg::{Ffmpeg, Pace, Player, publish_with};
use support::media::cached;
use support::packets::Source;
use support::publisher::Feed;
use support::scratch::Scratch;
use support::server::Server;
use support::viewer::{Received, Viewer, wait_until_watching};
use support::wait::SOON;

const STREAM: &str = "live/cam";
/// What players may need beyond the publisher's last packet to come to their end.
const END_LIMIT: Duration = Duration::from_secs(15);
/// Length of the media, seconds: three groups of pictures.
const SECONDS: &str = "6";

const PICTURES: [&str; 4] = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30"];
const SOUND: [&str; 4] =
    ["-f", "lavfi", "-i", "aevalsrc=0.4*sin(2*PI*(300+200*sin(t/3))*t):s=48000"];
const H264: [&str; 6] = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2"];
const AAC: [&str; 4] = ["-c:a", "aac", "-b:a", "64k"];
const OPUS: [&str; 4] = ["-c:a", "libopus", "-b:a", "64k"];
/// A keyframe every two seconds.
const GOP: [&str; 6] = ["-g", "60", "-pix_fmt", "yuv420p", "-t", SECONDS];

/// An H.265 track with B-frames.
const HEVC: [&str; 6] = [
    "-c:v",
    "libx265",
    "-preset",
    "ultrafast",
    "-x265-params",
    "log-level=error:keyint=60:min-keyint=60:scenecut=0:bframes=2",
];

#[test]
fn hevc_with_aac() {
    let log = play_exactly("hevc-aac", &[&PICTURES, &SOUND, &HEVC, &AAC, &GOP]);
    // The two players over RTMP announce nothing; over HTTP there is nothing to announce.
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("did not announce")).collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for line in lines {
        assert!(line.contains("codecs=\"hvc1\""), "{line}");
        assert!(line.contains("live/cam"), "{line}");
    }
}

#[test]
fn av1_with_opus() {
    let av1 = ["-c:v", "libsvtav1", "-preset", "12"];
    let log = play_exactly("av1-opus", &[&PICTURES, &SOUND, &av1, &OPUS, &GOP]);
    assert!(log.contains("codecs=\"av01, Opus\""), "{log}");
}

#[test]
fn vp9_with_aac() {
    let vp9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "300k"];
    play_exactly("vp9-aac", &[&PICTURES, &SOUND, &vp9, &AAC, &GOP]);
}

#[test]
fn h264_with_opus() {
    let log = play_exactly("h264-opus", &[&PICTURES, &SOUND, &H264, &OPUS, &GOP]);
    assert!(log.contains("codecs=\"Opus\""), "{log}");
}

#[test]
fn h264_with_flac() {
    play_exactly("h264-flac", &[&PICTURES, &SOUND, &H264, &["-c:a", "flac"], &GOP]);
}

#[test]
fn h264_with_ac3() {
    play_exactly("h264-ac3", &[&PICTURES, &SOUND, &H264, &["-c:a", "ac3"], &GOP]);
}

#[test]
fn h264_with_enhanced_ac3() {
    play_exactly("h264-eac3", &[&PICTURES, &SOUND, &H264, &["-c:a", "eac3"], &GOP]);
}

/// Beside the configuration there is a channel layout, which the late players need too.
#[test]
fn five_point_one_channels() {
    let surround = ["-c:a", "aac", "-ac", "6", "-b:a", "256k"];
    let log = play_exactly("h264-aac51", &[&PICTURES, &SOUND, &H264, &surround, &GOP]);
    assert!(!log.contains("did not announce"), "AAC and H.264 are no news to anybody: {log}");
}

/// Frames come as the picture changes: many, few, and none for six seconds, without a keyframe
/// afterwards. Whoever was there before has to be able to go on.
#[test]
fn a_variable_frame_rate_with_a_long_pause() {
    let changes = [
        "-vf",
        "select='lt(t,1)+between(t,1,2)*not(mod(n,7))+gt(t,8)*not(mod(n,3))'",
        "-fps_mode",
        "vfr",
        "-x264-params",
        "keyint=infinite:scenecut=0",
    ];
    let recipe: [&[&str]; 6] =
        [&PICTURES, &SOUND, &H264, &AAC, &changes, &["-pix_fmt", "yuv420p", "-t", "10"]];
    let file = made("h264-vfr", &recipe);
    let source = Source::of_file_with(Ffmpeg::Nine, &file);
    let gaps = source.packets().video.packets.windows(2).map(|two| two[1].dts - two[0].dts);
    assert!(gaps.max() > Some(5_500), "the file has its pause");
    let (server, mut players, _scratch) = begin_playing("h264-vfr");
    let mut publisher = publish_with(Ffmpeg::Nine, &file, &server.rtmp_url(STREAM), Pace::RealTime);
    publisher.expect_success(Duration::from_secs(40));
    for player in &mut players {
        let received = player.finish(END_LIMIT);
        let joined = source.assert_played(player.process().name(), &received);
        assert_eq!(joined.video_skipped, 0, "{}", player.process().name());
    }
    server.stop();
}

/// ffmpeg sends the first track of a kind as it always did, and further ones each in bodies of their
/// own. The keyframes of its H.265 track come before those of the H.264 track, for they are shown
/// at the same moment and B-frames lie between: a late player must get both.
#[test]
fn two_video_and_two_audio_tracks() {
    let second_picture = ["-f", "lavfi", "-i", "testsrc=size=160x90:rate=30"];
    let second_sound = ["-f", "lavfi", "-i", "sine=frequency=800:sample_rate=48000"];
    let tracks = [
        "-map", "0", "-map", "1", "-map", "2", "-map", "3", "-c:v:0", "libx264", "-c:v:1",
        "libx265",
    ];
    let codecs = ["-preset", "ultrafast", "-c:a:0", "aac", "-c:a:1", "libopus", HEVC[4], HEVC[5]];
    let log = play_exactly(
        "multitrack",
        &[&PICTURES, &second_picture, &SOUND, &second_sound, &tracks, &codecs, &GOP],
    );
    assert!(log.contains("codecs=\"hvc1, Opus\""), "{log}");
}

/// Bodies that ffmpeg does not write: many tracks in one message, modifiers (ModEx) before the packet
/// type, VP8 and VVC. They come from another implementation, which the file names; the server passes
/// them on as they are and keeps the right ones for those who come later.
#[test]
fn bodies_of_another_implementation() {
    let server = Server::start(&[("http.flv_missing", "wait")]);
    let vectors = vectors();
    let body = |kind: u8, name: &str| {
        let found = vectors.iter().find(|it| (it.0, it.1.as_str()) == (kind, name));
        found.unwrap_or_else(|| panic!("{name} is in the file")).2.clone()
    };
    let mut feed = Feed::start(server.rtmp(), STREAM);
    let mut early = both_viewers(&server);
    wait_until_watching(server.api(), STREAM, 2, &mut early);

    // The first viewers begin with this keyframe; what follows reaches them as it comes: headers too,
    // for none of them repeats what is in force.
    let mut at_ms = 1_000;
    let mut sent = vec![(9, at_ms, body(9, "keyframe-avc1"))];
    for (kind, _, payload) in &vectors {
        at_ms += 20;
        sent.push((*kind, at_ms, payload.clone()));
    }
    for (kind, at_ms, payload) in &sent {
        feed.send(*kind, *at_ms, payload);
    }
    for viewer in &mut early {
        let received = messages(viewer, sent.len());
        assert_eq!(received.len(), sent.len());
        for (received, sent) in received.iter().zip(&sent) {
            assert_eq!(received, sent);
        }
    }

    // A late viewer begins with the newest group and needs, of each track, the newest headers.
    let keyframe = body(9, "many-codecs-keyframe");
    feed.send(9, at_ms + 5_000, &keyframe);
    server.api().wait_for_frames(STREAM, sent.len() as u64 + 1, SOON);
    let late = both_viewers(&server);
    // Tracks 0, 1 and 200 by the last body for all of them, track 3 by its own; the sound likewise.
    let expected = [
        (9, body(9, "one-track-config")),
        (9, body(9, "many-codecs-config")),
        (9, body(9, "colour")),
        (8, body(8, "one-track-config")),
        (8, body(8, "many-codecs-config")),
        (8, body(8, "channel-layout")),
        (9, keyframe),
    ];
    for mut viewer in late {
        let received = messages(&mut viewer, expected.len());
        let received: Vec<_> = received.into_iter().map(|it| (it.0, it.2)).collect();
        assert_eq!(received, expected);
    }
    feed.say_goodbye();
    server.stop();
}

/// Publishes the file in real time; two players are there from the start and two come later. Gives the
/// server's log.
fn play_exactly(name: &str, recipe: &[&[&str]]) -> String {
    let file = made(name, recipe);
    let source = Source::of_file_with(Ffmpeg::Nine, &file);
    let (server, mut early, scratch) = begin_playing(name);
    let mut publisher = publish_with(Ffmpeg::Nine, &file, &server.rtmp_url(STREAM), Pace::RealTime);
    // In the second group of pictures.
    server.api().wait_for_frames(STREAM, source.packets().count() * 45 / 100, 3 * SOON);
    let mut late = players(&server, &scratch, "late");
    let snapshot = server.api().wait_for_viewers(STREAM, 4, SOON);
    assert_eq!(snapshot.viewers(STREAM).len(), 2, "there are two shards");
    publisher.expect_success(Duration::from_secs(40));
    let finish = |player: &mut Player| {
        let received = player.finish(END_LIMIT);
        source.assert_played(player.process().name(), &received)
    };
    for joined in early.each_mut().map(finish) {
        assert_eq!((joined.video_skipped, joined.audio_skipped), (0, 0), "they were there first");
    }
    for joined in late.each_mut().map(finish) {
        assert!(joined.video_skipped > 0, "they came later");
    }
    let drops = server.api().snapshot().drops();
    assert!(drops.iter().all(|(_, count)| *count == 0), "nothing was dropped: {drops:?}");
    let log = server.process().stderr();
    server.stop();
    log
}

/// A server with two players that wait for the publisher.
fn begin_playing(name: &str) -> (Server, [Player; 2], Scratch) {
    let server = Server::start(&[("http.flv_missing", "wait")]);
    let scratch = Scratch::new(name);
    let players = players(&server, &scratch, "early");
    server.api().wait_for_viewers(STREAM, 2, SOON);
    (server, players, scratch)
}

fn players(server: &Server, scratch: &Scratch, name: &str) -> [Player; 2] {
    [(server.rtmp_url(STREAM), "rtmp"), (server.flv_url(STREAM), "flv")].map(|(url, wire)| {
        Player::start_with(Ffmpeg::Nine, &[], &url, scratch.file(&format!("{name}-{wire}.md5")))
    })
}

/// The file that ffmpeg 9 makes with these arguments.
fn made(name: &str, recipe: &[&[&str]]) -> PathBuf {
    let encoded = cached(&format!("enhanced-6s-{name}"), || {
        let mut command = Ffmpeg::Nine.command();
        // What the AV1 encoder says of itself does not interest.
        command.env("SVT_LOG", "-2").args(recipe.concat());
        command
    });
    // A copy: where ffmpeg copies from FLV, as to publish, it writes a VP9 configuration without the
    // colours that it read; copies of the copy are the same.
    cached(&format!("enhanced-6s-{name}-copy"), || {
        let mut command = Ffmpeg::Nine.command();
        command.args(["-copyts", "-i"]).arg(encoded).args(["-map", "0", "-c", "copy"]);
        command
    })
}

fn both_viewers(server: &Server) -> [Viewer; 2] {
    [Viewer::rtmp(server.rtmp(), STREAM), Viewer::flv(server.http(), STREAM)]
}

/// The next messages of media: kind, time and body.
fn messages(viewer: &mut Viewer, count: usize) -> Vec<(u8, u32, Bytes)> {
    let deadline = Instant::now() + SOON;
    let mut messages = Vec::new();
    while messages.len() < count {
        match viewer.next(deadline).expect("the stream goes on") {
            Received::Message { type_id, timestamp_ms, payload } => {
                messages.push((type_id, timestamp_ms, payload));
            }
            Received::Head(_) | Received::Status(_) => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
    messages
}

/// Kind of message, name and body of each line of the file.
fn vectors() -> Vec<(u8, String, Bytes)> {
    let lines = include_str!("fixtures/enhanced_rtmp_bodies.txt").lines();
    lines
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let [kind, name, hex] = fields[..] else { panic!("three fields: {line}") };
            let bytes = hex.as_bytes().chunks(2).map(|digits| {
                let digits = std::str::from_utf8(digits).expect("hexadecimal digits");
                u8::from_str_radix(digits, 16).expect("hexadecimal digits")
            });
            let kind = if kind == "video" { 9 } else { 8 };
            (kind, name.to_owned(), bytes.collect())
        })
        .collect()
}
