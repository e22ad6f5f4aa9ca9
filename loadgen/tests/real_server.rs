//! loadgen against the server of this repository: 200 viewers over both protocols lose nothing.
//!
//! `SHARDCAST` may name the server's program; else the one beside loadgen's is taken.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use support::loadgen::Loadgen;

/// A running server; dropped, it is killed.
struct Server {
    child: Child,
    rtmp: String,
    http: String,
    api: String,
}

impl Server {
    fn start() -> Self {
        let mut command = Command::new(program());
        for listener in ["rtmp.listen", "http.listen", "api.listen"] {
            command.arg("--set").arg(format!("{listener}=127.0.0.1:0"));
        }
        let mut child = command
            .args(["--set", "server.shards=2", "--set", "server.accept=round_robin"])
            .args(["--set", "push.secret=123"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
        let (mut rtmp, mut http, mut api) = (String::new(), String::new(), String::new());
        loop {
            let mut line = String::new();
            let count = lines.read_line(&mut line).expect("the server writes text");
            assert!(count > 0, "the server ended before it was ready");
            let address = |scheme| {
                line.split_once(scheme)
                    .and_then(|(_, rest)| rest.split('/').next())
                    .map(str::to_owned)
            };
            if line.starts_with("publish:") {
                rtmp = address("rtmp://").expect("the line has an address");
            } else if line.starts_with("play (HTTP-FLV):") {
                http = address("http://").expect("the line has an address");
            } else if line.starts_with("API:") {
                api = address("http://").expect("the line has an address");
            } else if line.trim() == "ready" {
                break;
            }
        }
        // The pipe must not fill.
        thread::spawn(move || lines.read_to_end(&mut Vec::new()));
        Self { child, rtmp, http, api }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then the test has failed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_loadgen")).with_file_name("shardcast");
    let program = std::env::var_os("SHARDCAST").map_or(beside, PathBuf::from);
    assert!(
        program.exists(),
        "{} is not there: run cargo build --workspace --bins first",
        program.display()
    );
    program
}

#[test]
fn two_hundred_viewers_lose_nothing() {
    let server = Server::start();
    let url = format!("rtmp://{}/live/load", server.rtmp);
    let pid = server.child.id().to_string();
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
fn publisher_and_viewers_may_be_apart() {
    let server = Server::start();
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
    let server = Server::start();
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

#[test]
fn every_member_gets_every_push_message_once_and_in_order() {
    let server = Server::start();
    let pid = server.child.id().to_string();
    let run = Loadgen::run(&[
        "push",
        "--secret",
        "123",
        "--api",
        &server.api,
        "--rtmp",
        &server.rtmp,
        "--http",
        &server.http,
        "--members-rtmp",
        "100",
        "--members-websocket",
        "100",
        "--messages",
        "10",
        "--pause",
        "10ms",
        "--pid",
        &pid,
    ]);
    assert_eq!(run.exit_code, 0, "{}", run.output);
    assert_eq!((run.number("/delivered"), run.number("/wrong")), (2_000.0, 0.0));
    assert_eq!(run.number("/delivery/count"), 2_000.0);
    assert!(run.number("/floor_us_per_send") > 0.1);
    assert!(run.number("/server/cpu_us_per_delivery") > 0.1);
}
