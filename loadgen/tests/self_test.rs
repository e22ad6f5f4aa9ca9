//! loadgen against a server of the test's own that relays, and damages what it is told to.

mod support;

use std::process::Command;

use support::fake_server::{Damage, FakeServer};
use support::loadgen::Loadgen;

fn run_against(damage: Damage, further: &[&str]) -> Loadgen {
    let server = FakeServer::start(damage);
    let url = format!("rtmp://{}/live/self-test", server.address());
    let mut arguments = vec!["run", &url, "--viewers-rtmp", "4", "--duration", "2s"];
    arguments.extend(["--bitrate", "400k", "--settle", "1s"]);
    arguments.extend(further);
    Loadgen::run(&arguments)
}

fn has_fault(run: &Loadgen, what: &str) {
    assert_eq!(run.exit_code, 1, "{}", run.output);
    let faults = run.faults();
    assert!(faults.iter().any(|fault| fault.contains(what)), "no '{what}' in {faults:?}");
}

#[test]
fn a_good_server_passes() {
    let run = run_against(Damage::None, &[]);
    assert_eq!(run.exit_code, 0, "{}", run.output);
    assert_eq!(run.text("/verdict/loss"), "none");
    assert_eq!(run.number("/viewers/byte_check/equal"), 4.0);
    assert!(run.number("/viewers/sample/frames") > 200.0);
    assert!(run.number("/viewers/latency_video/count") > 50.0);
    assert!(run.number("/viewers/latency_audio/count") > 80.0);
}

#[test]
fn sound_before_the_first_keyframe_is_no_fault() {
    let run = run_against(Damage::SoundFirst, &["--gop", "4s"]);
    assert_eq!(run.exit_code, 0, "{}", run.output);
    assert_eq!(run.text("/verdict/loss"), "none");
    assert_eq!(run.number("/viewers/byte_check/equal"), 4.0);
    assert!(run.number("/viewers/first_frame/p50_ms") > 1_000.0);
}

#[test]
fn a_dropped_frame_is_loss() {
    let run = run_against(Damage::Drop, &[]);
    has_fault(&run, "frames were lost");
    assert_eq!(run.number("/viewers/sample/lost"), 4.0);
    assert_eq!(run.number("/viewers/byte_check/short"), 4.0);
    assert_eq!(run.text("/verdict/loss"), "seen");
}

#[test]
fn a_dropped_frame_is_seen_without_reading() {
    let run = run_against(Damage::Drop, &["--sample", "0"]);
    has_fault(&run, "viewers received too little");
    assert_eq!(run.number("/viewers/sampled"), 0.0);
    assert_eq!(run.number("/viewers/byte_check/short"), 4.0);
}

#[test]
fn a_doubled_frame_is_seen() {
    let run = run_against(Damage::Double, &[]);
    has_fault(&run, "frames came twice");
    assert_eq!(run.number("/viewers/sample/doubled"), 4.0);
    assert_eq!(run.number("/viewers/byte_check/over"), 4.0);
}

#[test]
fn a_doubled_frame_is_seen_without_reading() {
    let run = run_against(Damage::Double, &["--sample", "0"]);
    has_fault(&run, "viewers received too much");
}

#[test]
fn reordered_frames_are_seen() {
    let run = run_against(Damage::Reorder, &[]);
    has_fault(&run, "frames came out of order");
    assert_eq!(run.number("/viewers/sample/out_of_order"), 4.0);
    assert_eq!(run.number("/viewers/sample/lost"), 0.0);
}

#[test]
fn a_changed_byte_is_damage() {
    let run = run_against(Damage::ChangeByte, &[]);
    has_fault(&run, "frames were damaged");
    assert_eq!(run.number("/viewers/sample/damaged"), 4.0);
}

#[test]
fn a_changed_timestamp_is_seen() {
    has_fault(&run_against(Damage::ShiftTimestamp, &[]), "timestamps jumped");
}

#[test]
fn a_skip_to_a_keyframe_is_a_fault_unless_allowed() {
    let run = run_against(Damage::SkipToKeyframe, &["--gop", "500ms"]);
    has_fault(&run, "moved on to a later keyframe");
    assert_eq!(run.number("/viewers/sample/skips"), 4.0);
    assert_eq!(run.number("/viewers/sample/lost"), 0.0);
    let run = run_against(Damage::SkipToKeyframe, &["--gop", "500ms", "--allow-skips"]);
    assert_eq!(run.exit_code, 0, "{}", run.output);
    assert_eq!(run.text("/verdict/loss"), "seen");
}

#[test]
fn a_closed_connection_is_a_fault() {
    has_fault(&run_against(Damage::Close, &[]), "disconnected before the end");
}

#[test]
fn a_silent_second_is_a_stall() {
    let run = run_against(Damage::Pause, &["--duration", "4s"]);
    assert_eq!(run.exit_code, 0, "{}", run.output);
    assert_eq!(run.number("/viewers/stalled_viewers"), 4.0);
    assert!(run.number("/viewers/longest_silence_s") > 1.0);
    // The schedule goes on whatever the server does, so the pause shows in the latencies.
    assert!(run.number("/viewers/latency_video/max_ms") > 1_000.0);
}

#[test]
fn a_latency_over_its_limit_is_a_fault_unless_it_may_be_ours() {
    let run = run_against(Damage::Pause, &["--duration", "4s", "--p99-max", "500ms"]);
    let was_judged = !run.flag("/loadgen/was_bottleneck");
    assert_eq!(run.exit_code, i32::from(was_judged), "{}", run.output);
    assert!(run.output.contains("500.0 ms are allowed"), "{}", run.output);
    let run = run_against(Damage::Pause, &["--duration", "4s", "--p99-max", "1m"]);
    assert_eq!(run.exit_code, 0, "{}", run.output);
}

#[test]
fn a_file_is_checked_by_its_table() {
    let file = support::scratch_file("table.flv");
    Loadgen::run(&["synthesize", &file, "--duration", "1s", "--bitrate", "300k"]);
    let run = run_against(Damage::None, &["--file", &file]);
    assert_eq!(run.exit_code, 0, "{}", run.output);
    assert_eq!(run.text("/verdict/loss"), "none");
    let run = run_against(Damage::Drop, &["--file", &file]);
    has_fault(&run, "frames were lost");
    let run = run_against(Damage::ChangeByte, &["--file", &file]);
    has_fault(&run, "frames were damaged");
}

#[test]
fn viewers_and_measuring_begin_as_late_as_asked() {
    let options = ["--viewers-after", "1s", "--warm-up", "1500ms", "--audio-bitrate", "0"];
    let run = run_against(Damage::None, &options);
    assert_eq!(run.exit_code, 0, "{}", run.output);
    // 30 pictures in each second from the publisher's start to the end of the window of 2 seconds.
    assert!(run.number("/publishers/frames") >= 30.0 * 4.5 - 1.0);
    assert!(run.number("/viewers/latency_video/count") <= 4.0 * 30.0 * (run.window_s() + 0.1));
}

#[test]
fn other_programs_hear_when_measuring_begins_and_ends() {
    let server = FakeServer::start(Damage::None);
    let run = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["run", &format!("rtmp://{}/live/told", server.address())])
        .args(["--viewers-rtmp", "1", "--duration", "1s", "--bitrate", "100k"])
        .output()
        .expect("loadgen starts");
    let said = String::from_utf8_lossy(&run.stderr);
    let at = |wanted| said.lines().position(|line| line == wanted);
    let (begin, end) = (at("measuring begins"), at("measuring ends"));
    assert!(begin.is_some() && begin < end, "{said}");
}

#[test]
fn what_cannot_be_is_said_in_a_sentence() {
    let run = Loadgen::run(&["run", "rtmp://127.0.0.1:1/live/x", "--viewers-rtmp", "1"]);
    assert_eq!(run.exit_code, 2);
    assert!(run.output.contains("publishing x failed: Connection refused"), "{}", run.output);
    let run = Loadgen::run(&["run", "rtmp://127.0.0.1:1/live/x", "--viewers-rtmp", "4000000000"]);
    assert_eq!(run.exit_code, 2);
    assert!(run.output.contains("need more file descriptors than"), "{}", run.output);
    let run = Loadgen::run(&["run", "rtmp://127.0.0.1:1/live/x"]);
    assert!(run.output.contains("say how many viewers"), "{}", run.output);
}
