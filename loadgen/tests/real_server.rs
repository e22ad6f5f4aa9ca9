//! loadgen against the server of this repository: 200 viewers over both protocols lose nothing.

mod support;

use std::thread;

use support::loadgen::Loadgen;
use support::server::Server;

#[test]
fn two_hundred_viewers_lose_nothing() {
    let server = Server::start(&[]);
    let url = format!("rtmp://{}/live/load", server.rtmp);
    let pid = server.pid();
    let run = Loadgen::run(&[
        "run",
        &url,
        "--http",
        &server.http,
        "--publishers",
        "2",
        "--viewers-rtmp",
        "100",
        "--viewers-flv",
        "100",
        "--bitrate",
        "500k",
        "--duration",
        "3s",
        "--pid",
        &pid,
    ]);
    assert_eq!(run.exit_code, 0, "{}", run.output);
    assert_eq!(run.text("/verdict/loss"), "none");
    assert_eq!(run.number("/viewers/played"), 200.0);
    assert_eq!(run.number("/viewers/sampled"), 20.0);
    assert_eq!(run.number("/viewers/byte_check/equal"), 200.0);
    assert!(run.number("/server/cpu_s") > 0.0);
    assert!(run.number("/server/rss_bytes") > 1e6);
}

#[test]
fn a_storm_of_joins_is_counted_in_joins() {
    let server = Server::start(&[]);
    let url = format!("rtmp://{}/live/storm", server.rtmp);
    let pid = server.pid();
    let run = Loadgen::run(&[
        "run",
        &url,
        "--http",
        &server.http,
        "--viewers-rtmp",
        "10",
        "--viewers-flv",
        "10",
        "--rejoin",
        "--bitrate",
        "300k",
        "--duration",
        "2s",
        "--pid",
        &pid,
    ]);
    assert_eq!(run.exit_code, 0, "{}", run.output);
    let joins = run.number("/viewers/joins");
    assert!(joins > 100.0, "{joins} joins by 20 viewers in 2 s");
    assert!(run.number("/viewers/played") >= joins);
    assert_eq!(run.number("/viewers/first_frame/count"), joins);
    assert!(run.number("/server/cpu_ms_per_join") > 0.0);
}

#[test]
fn publisher_and_viewers_may_be_apart() {
    let server = Server::start(&[]);
    let url = format!("rtmp://{}/live/apart", server.rtmp);
    thread::scope(|scope| {
        let publisher = scope
            .spawn(|| Loadgen::run(&["publish", &url, "--bitrate", "300k", "--duration", "4s"]));
        // RTMP viewers wait for the publisher.
        let viewers = Loadgen::run(&[
            "play",
            &url,
            "--viewers-rtmp",
            "30",
            "--sample",
            "all",
            "--duration",
            "1500ms",
        ]);
        assert_eq!(viewers.exit_code, 0, "{}", viewers.output);
        assert_eq!(viewers.number("/viewers/played"), 30.0);
        assert_eq!(viewers.number("/viewers/sample/lost"), 0.0);
        assert!(viewers.number("/viewers/latency_video/count") > 30.0);
        let publisher = publisher.join().expect("it does not panic");
        assert_eq!(publisher.exit_code, 0, "{}", publisher.output);
        assert!(publisher.number("/publishers/frames") > 200.0);
    });
}

#[test]
fn a_file_in_a_loop_loses_nothing() {
    let server = Server::start(&[]);
    let file = support::scratch_file("loop.flv");
    Loadgen::run(&["synthesize", &file, "--duration", "1s", "--bitrate", "300k"]);
    let url = format!("rtmp://{}/live/file", server.rtmp);
    let run = Loadgen::run(&[
        "run",
        &url,
        "--http",
        &server.http,
        "--file",
        &file,
        "--viewers-rtmp",
        "10",
        "--viewers-flv",
        "10",
        "--duration",
        "3s",
    ]);
    std::fs::remove_file(&file).expect("it was just read");
    assert_eq!(run.exit_code, 0, "{}", run.output);
    assert_eq!(run.text("/verdict/loss"), "none");
    assert!(run.number("/viewers/latency_audio/count") > 1000.0);
}
