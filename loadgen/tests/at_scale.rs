//! Forty real publishers and forty real players beside 2,000 viewers: a minute here, ten by `make soak`.

mod support;

use std::time::Instant;

use support::loadgen::Loadgen;
use support::media;
use support::server::Server;

fn forty_and_forty(name: &str, duration: &str, p99_max: &str) {
    let server = Server::start_first(&[]);
    let file = media::file_with_b_frames(name);
    let url = format!("rtmp://{}/live/scale", server.rtmp);
    let pid = server.pid();
    let begin = Instant::now();
    let run = Loadgen::run_first(&[
        "ffmpeg",
        &url,
        "--http",
        &server.http,
        "--publishers",
        "40",
        "--players",
        "40",
        "--file",
        &file,
        "--viewers",
        "2000",
        "--duration",
        duration,
        "--p99-max",
        p99_max,
        "--pid",
        &pid,
    ]);
    std::fs::remove_file(&file).expect("it was just read");
    println!("{}after {:.0} s", run.output, begin.elapsed().as_secs_f64());
    assert_eq!(run.exit_code, 0, "{}", run.output);
    assert_eq!(run.number("/ffmpeg/error_lines"), 0.0, "{}", run.output);
    // 60 pictures and 86 frames of sound, a few more at the end of the file.
    assert!((146.0..=150.0).contains(&run.number("/ffmpeg/gop_packets")), "{}", run.output);
    let players = run.list("/ffmpeg/players");
    assert_eq!(players.len(), 40);
    for (index, player) in players.iter().enumerate() {
        assert_eq!(player["stream"], format!("scale-ffmpeg-{index}"));
        assert_eq!(player["protocol"], if index % 2 == 0 { "rtmp" } else { "http-flv" });
        assert_eq!(player["missing"], 0, "{player}");
        // 30 pictures and 43 frames of sound in each second.
        assert!(player["packets"].as_f64() > Some(run.window_s() * 73.0), "{player}");
    }
    assert_eq!(run.text("/verdict/loss"), "none");
    assert_eq!(run.number("/viewers/byte_check/equal"), 2_000.0);
    assert!(run.number("/viewers/latency_video/count") > 0.0);
    assert!(run.number("/server/rss_last_third_bytes") > 1e6);
}

/// The latency is that of a machine that may do other work, in a build with debug assertions.
#[test]
fn a_minute_with_ffmpegs_is_exact() {
    forty_and_forty("minute.flv", "60s", "250ms");
}

/// `make soak` runs it with release builds; the latency is that of the class `balanced`.
#[test]
#[ignore = "it takes eleven minutes"]
fn ten_minutes_with_ffmpegs_are_exact() {
    forty_and_forty("ten_minutes.flv", "600s", "60ms");
}
