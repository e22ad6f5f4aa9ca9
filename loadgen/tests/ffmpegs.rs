//! What `loadgen ffmpeg` says of a server that damages, and what is left of it when it ends.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::fake_server::{Damage, FakeServer};
use support::loadgen::{Loadgen, PROGRAM};
use support::media;
use support::server::Server;

/// How long a process may take to end on a loaded machine.
const END_TIME_MAX: Duration = Duration::from_secs(60);

fn run_against(damage: Damage) -> Loadgen {
    let server = FakeServer::start(damage);
    let file = media::file_with_b_frames(&format!("{damage:?}.flv"));
    let run = Loadgen::run(&[
        "ffmpeg",
        &format!("rtmp://{}/live/x", server.address()),
        "--publishers",
        "1",
        "--players",
        "1",
        "--viewers",
        "0",
        "--file",
        &file,
        "--warm-up",
        "1s",
        "--duration",
        "3s",
    ]);
    fs::remove_file(&file).expect("it was just read");
    run
}

#[test]
fn a_good_server_passes() {
    let run = run_against(Damage::None);
    assert_eq!(run.exit_code, 0, "{}", run.output);
    assert_eq!(run.number("/ffmpeg/players/0/missing"), 0.0);
    assert!(run.number("/ffmpeg/players/0/packets") > 3.0 * 73.0);
}

#[test]
fn a_dropped_frame_is_seen() {
    let run = run_against(Damage::Drop);
    assert_eq!(run.exit_code, 1, "{}", run.output);
    assert_eq!(run.number("/ffmpeg/players/0/flaws/lost"), 1.0, "{}", run.output);
    let faults = run.faults();
    assert!(faults.iter().any(|fault| fault.contains("1 packets lost")), "{faults:?}");
}

#[test]
fn a_changed_byte_is_seen() {
    let run = run_against(Damage::ChangeByte);
    assert_eq!(run.exit_code, 1, "{}", run.output);
    assert_eq!(run.number("/ffmpeg/players/0/flaws/unknown"), 1.0, "{}", run.output);
}

#[test]
fn a_player_that_ends_early_is_a_fault() {
    let run = run_against(Damage::Close);
    assert_eq!(run.exit_code, 1, "{}", run.output);
    let faults = run.faults();
    assert!(faults.iter().any(|fault| fault.contains("player of x-ffmpeg-0 ended by itself")));
}

#[test]
fn what_cannot_be_is_said_in_a_sentence() {
    let file = media::file_with_b_frames("sentences.flv");
    let said = |arguments: &[&str]| {
        let run = Loadgen::run(&[&["ffmpeg", "rtmp://127.0.0.1:1/live/x"], arguments].concat());
        assert_eq!(run.exit_code, 2, "{}", run.output);
        run.output
    };
    let output = said(&["--file", &file, "--ffmpeg", "/no/such/ffmpeg"]);
    assert!(output.contains("/no/such/ffmpeg cannot be started"), "{output}");
    let output = said(&["--file", "/no/such/file.flv"]);
    assert!(output.contains("ffmpeg cannot copy /no/such/file.flv"), "{output}");
    let output = said(&["--file", &file, "--publishers", "1"]);
    assert!(output.contains("ffmpeg publisher of x-ffmpeg-0 ended before its first"), "{output}");
    assert!(output.contains("Connection refused"), "{output}");
    fs::remove_file(&file).expect("it was just read");
}

/// A run of five publishers and five players beside a few viewers, which would take minutes.
struct Endless {
    loadgen: Child,
    ffmpegs: Vec<u32>,
    file: String,
    _server: Server,
}

impl Endless {
    fn start(name: &str) -> Self {
        let server = Server::start(&[]);
        let file = media::file_with_b_frames(name);
        let loadgen = Command::new(PROGRAM)
            .args(["ffmpeg", &format!("rtmp://{}/live/x", server.rtmp), "--http", &server.http])
            .args(["--publishers", "5", "--players", "5", "--viewers", "10", "--file", &file])
            .args(["--duration", "10m"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("loadgen starts");
        let mut endless = Self { loadgen, ffmpegs: Vec::new(), file, _server: server };
        let mut lines = BufReader::new(endless.loadgen.stderr.take().expect("it is piped"));
        let mut line = String::new();
        while !line.contains("10 ffmpegs run") {
            line.clear();
            let count = lines.read_line(&mut line).expect("loadgen writes text");
            assert!(count > 0, "loadgen ended before it was under way");
        }
        // The pipe must not fill.
        thread::spawn(move || lines.read_to_end(&mut Vec::new()));
        endless.ffmpegs = children(endless.loadgen.id());
        assert_eq!(endless.ffmpegs.len(), 10);
        endless
    }

    fn signal(&self, signal: &str) {
        let pid = self.loadgen.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    /// Waits for loadgen's end, and that of its children.
    fn ends(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + END_TIME_MAX;
        while self.loadgen.try_wait().expect("it is ours").is_none() {
            assert!(Instant::now() < deadline, "loadgen does not end");
            thread::sleep(Duration::from_millis(20));
        }
        while let Some(pid) = self.ffmpegs.iter().find(|pid| runs(**pid)) {
            assert!(Instant::now() < deadline, "ffmpeg {pid} is still there");
            thread::sleep(Duration::from_millis(20));
        }
        fs::remove_file(&self.file).expect("nobody needs it any more");
        let output = self.loadgen.wait_with_output().expect("it has ended");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

/// Whether it is there as more than a name that nobody has asked for yet.
fn runs(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.starts_with("Name:\tffmpeg") && !status.contains("State:\tZ")
}

#[test]
fn ctrl_c_ends_all_with_a_report() {
    let endless = Endless::start("interrupted.flv");
    endless.signal("-INT");
    let (code, report) = endless.ends();
    assert!(report.contains("ffmpeg players          3 RTMP, 2 HTTP-FLV"), "{report}");
    assert_eq!(code, Some(0), "{report}");
}

#[test]
fn ffmpegs_do_not_outlive_a_killed_loadgen() {
    let endless = Endless::start("killed.flv");
    endless.signal("-KILL");
    let (code, _) = endless.ends();
    assert_eq!(code, None);
}
