//! Players on every shard get every packet from their first keyframe on: same bytes, same
//! timestamps, whatever the moment they join, over RTMP and over HTTP-FLV.

mod support;

use std::time::Duration;

use support::ffmpeg::{Pace, Player, publish};
use support::media::{MINUTE, Media, SMALL_VIDEO, Video};
use support::packets::Source;
use support::scratch::Scratch;
use support::server::Server;
use support::wait::SOON;

const STREAM: &str = "live/cam";
/// What players may need beyond the publisher's last packet to come to their end.
const END_LIMIT: Duration = Duration::from_secs(10);
/// How far apart packets of two tracks that stand side by side in a file may be.
const INTERLEAVING_MS_MAX: i64 = 250;

/// When a pair of players (one RTMP, one HTTP-FLV) joins, as frames that came in before.
struct Joins([u64; 3]);

#[test]
fn video_with_b_frames_and_audio() {
    // 30 video and 43 audio frames a second: at the start, after 8 s, after 25 s.
    play_exactly("av", MINUTE, &Joins([1, 600, 1800]));
}

#[test]
fn audio_only() {
    let media = Media { video: None, ..MINUTE };
    play_exactly("audio", media, &Joins([1, 350, 1000]));
}

#[test]
fn video_only() {
    let media = Media { audio: false, ..MINUTE };
    play_exactly("video", media, &Joins([1, 250, 750]));
}

#[test]
fn ten_second_gop_at_eight_megabits() {
    let media = Media {
        seconds: 30,
        video: Some(Video { size: "1280x720", kilobits: 8000, gop_frames: 300 }),
        audio: true,
    };
    // The second pair joins 7 s into the first GOP, the third 4 s into the last. A GOP is larger
    // than `gop_bytes`, so that a player may have to wait for the next keyframe.
    play_exactly("long-gop", media, &Joins([1, 500, 1750]));
}

#[test]
fn a_player_that_comes_late_starts_at_the_running_group_of_pictures() {
    let media =
        Media { seconds: 14, video: Some(Video { gop_frames: 300, ..SMALL_VIDEO }), audio: true };
    let source = Source::of_file(&media.file());
    let server = Server::start(&[]);
    let scratch = Scratch::new("join-gop");
    let mut publisher = publish(&media.file(), &server.rtmp_url(STREAM), Pace::RealTime);
    // Six seconds into the first GOP of ten.
    server.api().wait_for_frames(STREAM, 440, 2 * SOON);
    let mut players = [
        Player::start(&server.rtmp_url(STREAM), scratch.file("rtmp.md5")),
        Player::start(&server.flv_url(STREAM), scratch.file("flv.md5")),
    ];
    publisher.expect_success(Duration::from_secs(30));
    for player in &mut players {
        let received = player.finish(END_LIMIT);
        let joined = source.assert_played(player.process().name(), &received);
        assert_eq!(joined.video_skipped, 0, "the GOP was kept for it");
        let audio_after_video_ms = joined.audio_after_video_ms.expect("both tracks are there");
        assert!(
            audio_after_video_ms.abs() <= INTERLEAVING_MS_MAX,
            "audio starts with the keyframe, not {audio_after_video_ms} ms after it"
        );
    }
    server.stop();
}

/// Some old players take small chunks only.
#[test]
fn small_chunks_carry_the_same_packets() {
    let media = Media { seconds: 10, video: Some(SMALL_VIDEO), audio: true };
    let source = Source::of_file(&media.file());
    for chunk_size in ["128", "4096"] {
        let server = Server::start(&[("rtmp.chunk_size", chunk_size)]);
        let scratch = Scratch::new(&format!("chunks-{chunk_size}"));
        // They wait for the publisher, so that they get its first packet.
        let mut players = [0, 1].map(|number| {
            let file = scratch.file(&format!("{number}.md5"));
            Player::start(&server.rtmp_url(STREAM), file)
        });
        server.api().wait_for_viewers(STREAM, 2, SOON);
        let mut publisher = publish(&media.file(), &server.rtmp_url(STREAM), Pace::RealTime);
        publisher.expect_success(Duration::from_secs(30));
        for player in &mut players {
            let received = player.finish(END_LIMIT);
            let joined = source.assert_played(player.process().name(), &received);
            assert_eq!(joined.video_skipped, 0, "chunks of {chunk_size} bytes");
        }
        server.stop();
    }
}

fn play_exactly(name: &str, media: Media, joins: &Joins) {
    let file = media.file();
    let source = Source::of_file(&file);
    let server = Server::start(&[("server.gather_viewers", "0")]);
    let scratch = Scratch::new(name);
    let mut publisher = publish(&file, &server.rtmp_url(STREAM), Pace::RealTime);
    server.api().wait_for_publisher(STREAM, SOON);

    let mut players = Vec::new();
    for (number, frames) in joins.0.into_iter().enumerate() {
        server.api().wait_for_frames(STREAM, frames, 6 * SOON);
        let rtmp = scratch.file(&format!("rtmp{number}.md5"));
        players.push(Player::start(&server.rtmp_url(STREAM), rtmp));
        let flv = scratch.file(&format!("flv{number}.md5"));
        players.push(Player::start(&server.flv_url(STREAM), flv));
    }
    let count = players.len() as u64;
    let snapshot = server.api().wait_for_viewers(STREAM, count, SOON);
    let per_shard = snapshot.viewers(STREAM);
    assert!(
        per_shard.len() == 2 && per_shard.iter().all(|&viewers| viewers > 0),
        "both shards have viewers: {per_shard:?}"
    );

    publisher.expect_success(Duration::from_secs(u64::from(media.seconds) + 30));
    for player in &mut players {
        let received = player.finish(END_LIMIT);
        source.assert_played(player.process().name(), &received);
    }
    let drops = server.api().snapshot().drops();
    assert!(drops.iter().all(|(_, count)| *count == 0), "nothing was dropped: {drops:?}");
    server.stop();
}
