//! Clients that share no code with ffmpeg: rtmpdump (librtmp) and GStreamer's rtmp2 elements.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::ffmpeg::{Pace, Player, publish};
use support::media::SHORT;
use support::packets::{Packets, Source};
use support::process::Process;
use support::scratch::Scratch;
use support::server::Server;
use support::wait::SOON;

const STREAM: &str = "live/cam";
/// Ten seconds of media and what a loaded machine adds.
const PLAY_LIMIT: Duration = Duration::from_secs(30);
const END_LIMIT: Duration = Duration::from_secs(10);

#[test]
fn rtmpdump_writes_the_published_packets() {
    let file = SHORT.file();
    let source = Source::of_file(&file);
    let server = Server::start(&[]);
    let scratch = Scratch::new("rtmpdump");
    let written = scratch.file("written.flv");
    let mut publisher = publish(&file, &server.rtmp_url(STREAM), Pace::RealTime);
    server.api().wait_for_frames(STREAM, 100, SOON);
    let mut player = Process::spawn(
        "rtmpdump",
        Command::new("rtmpdump")
            .args(["--live", "--rtmp", &server.rtmp_url(STREAM), "--flv"])
            .arg(&written),
    );
    publisher.expect_success(PLAY_LIMIT);
    player.expect_success(END_LIMIT);
    source.assert_played("rtmpdump", &Packets::of_file(&written));
    server.stop();
}

#[test]
fn gstreamer_plays_what_ffmpeg_publishes() {
    let file = SHORT.file();
    let source = Source::of_file(&file);
    let server = Server::start(&[]);
    let scratch = Scratch::new("gstreamer-plays");
    let written = scratch.file("written.flv");
    let mut publisher = publish(&file, &server.rtmp_url(STREAM), Pace::RealTime);
    server.api().wait_for_frames(STREAM, 100, SOON);
    let location = format!("location={}", server.rtmp_url(STREAM));
    let mut player = gstreamer("rtmp2src", &["rtmp2src", &location, "!", &file_sink(&written)]);
    publisher.expect_success(PLAY_LIMIT);
    player.expect_success(END_LIMIT);
    source.assert_played("rtmp2src", &Packets::of_file(&written));
    server.stop();
}

#[test]
fn ffmpeg_plays_what_gstreamer_publishes() {
    let server = Server::start(&[("http.flv_missing", "wait")]);
    let scratch = Scratch::new("gstreamer-publishes");
    let sent = scratch.file("sent.flv");
    // flvmux moves timestamps on its own, so the source is what it made, not the file it read.
    let mut players = [
        Player::start(&server.rtmp_url(STREAM), scratch.file("rtmp.md5")),
        Player::start(&server.flv_url(STREAM), scratch.file("flv.md5")),
    ];
    server.api().wait_for_viewers(STREAM, 2, SOON);
    let mut publisher = gstreamer_publishes(&SHORT.file(), &server.rtmp_url(STREAM), &sent);
    publisher.expect_success(PLAY_LIMIT);
    let received = players.each_mut().map(|player| player.finish(END_LIMIT));
    let source = Source::of_file(&sent);
    assert_eq!(
        source.packets().video.packets.len(),
        Packets::of_file(&SHORT.file()).video.packets.len(),
        "GStreamer sent every frame"
    );
    for (player, received) in players.iter_mut().zip(&received) {
        let joined = source.assert_played(player.process().name(), received);
        assert_eq!(joined.video_skipped, 0, "players that waited miss nothing");
        assert_eq!(joined.audio_skipped, 0, "players that waited miss nothing");
    }
    server.stop();
}

#[test]
fn gstreamer_plays_what_gstreamer_publishes() {
    let server = Server::start(&[]);
    let scratch = Scratch::new("gstreamer-both");
    let sent = scratch.file("sent.flv");
    let written = scratch.file("written.flv");
    let location = format!("location={}", server.rtmp_url(STREAM));
    let mut player = gstreamer("rtmp2src", &["rtmp2src", &location, "!", &file_sink(&written)]);
    server.api().wait_for_viewers(STREAM, 1, SOON);
    let mut publisher = gstreamer_publishes(&SHORT.file(), &server.rtmp_url(STREAM), &sent);
    publisher.expect_success(PLAY_LIMIT);
    player.expect_success(END_LIMIT);
    Source::of_file(&sent).assert_played("rtmp2src", &Packets::of_file(&written));
    server.stop();
}

/// Publishes `file` in real time, and writes the FLV that goes out to `sent`.
fn gstreamer_publishes(file: &Path, url: &str, sent: &Path) -> Process {
    let source = format!("location={}", file.display());
    let target = format!("location={url}");
    let copy = file_sink(sent);
    let pipeline = format!(
        "filesrc {source} ! flvdemux name=demux \
         demux.video ! queue ! h264parse ! mux.video \
         demux.audio ! queue ! aacparse ! mux.audio \
         flvmux name=mux streamable=true ! tee name=both \
         both. ! queue ! rtmp2sink sync=true {target} \
         both. ! queue ! {copy}"
    );
    gstreamer("rtmp2sink", &pipeline.split_whitespace().collect::<Vec<_>>())
}

fn gstreamer(name: &str, pipeline: &[&str]) -> Process {
    let words = pipeline.iter().flat_map(|part| part.split_whitespace());
    Process::spawn(name, Command::new("gst-launch-1.0").arg("--quiet").args(words))
}

fn file_sink(path: &Path) -> String {
    format!("filesink sync=false location={}", path.display())
}
