//! The synthetic stream is a real one: ffprobe and ffmpeg take every packet of it.

mod support;

use std::process::Command;

use support::loadgen::Loadgen;

/// Standard output of an ffmpeg tool that says nothing on standard error.
fn silent(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("ffmpeg is installed");
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{program} {arguments:?}");
    String::from_utf8(output.stdout).expect("ffmpeg writes text")
}

fn check(name: &str, options: &[&str], video_packets: usize, audio_packets: usize) {
    let file = support::scratch_file(name);
    let mut arguments = vec!["synthesize", file.as_str(), "--duration", "12s"];
    arguments.extend(options);
    let run = Loadgen::run(&arguments);
    assert_eq!(run.exit_code, 0, "{}", run.output);

    let packets = silent("ffprobe", &["-v", "warning", "-show_packets", "-of", "csv", &file]);
    let count = |kind| packets.lines().filter(|line| line.contains(kind)).count();
    assert_eq!((count(",video,"), count(",audio,")), (video_packets, audio_packets));

    silent("ffmpeg", &["-v", "warning", "-xerror", "-i", &file, "-f", "null", "-"]);
    let entries = "stream=codec_type,nb_read_frames";
    let frames = silent(
        "ffprobe",
        &["-v", "warning", "-count_frames", "-show_entries", entries, "-of", "csv=p=0", &file],
    );
    assert!(frames.contains(&format!("video,{video_packets}")), "{frames}");
    if audio_packets > 0 {
        assert!(frames.contains(&format!("audio,{audio_packets}")), "{frames}");
    }
    std::fs::remove_file(&file).expect("it was just read");
}

#[test]
fn the_default_stream_decodes() {
    check("default.flv", &[], 360, 563);
}

#[test]
fn groups_longer_than_frame_numbers_decode() {
    check("long.flv", &["--gop", "11s", "--fps", "50", "--bitrate", "300k"], 600, 563);
}

#[test]
fn keyframes_alone_decode() {
    check("keys.flv", &["--gop", "40ms", "--fps", "25", "--audio-bitrate", "0"], 300, 0);
}

#[test]
fn the_bitrate_is_the_one_asked_for() {
    let file = support::scratch_file("rate.flv");
    for (video, audio, expected) in [("2M", "128k", 2_128_000.0), ("500k", "64k", 564_000.0)] {
        let options = ["--bitrate", video, "--audio-bitrate", audio, "--duration", "20s"];
        let mut arguments = vec!["synthesize", file.as_str()];
        arguments.extend(options);
        Loadgen::run(&arguments);
        let bytes = std::fs::metadata(&file).expect("it was written").len();
        let ratio = bytes as f64 * 8.0 / 20.0 / expected;
        assert!((0.97..1.04).contains(&ratio), "{video} + {audio}: {ratio}");
    }
    std::fs::remove_file(&file).expect("it was just read");
}
