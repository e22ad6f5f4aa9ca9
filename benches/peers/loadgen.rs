//! Runs `loadgen run` against a server, and reads its report.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::pin::pin;
use super::run::Timing;
use super::server::{LOAD_CPU, Sends, Server};

/// Between the first frame and the look at the memory without viewers: the publishers' buffers have
/// their size by then.
const VIEWERS_AFTER: &str = "1500ms";
/// Between the last viewer's first frame and the window, so that groups of pictures sent to new viewers,
/// and whatever they hold up, are not in it.
const WARM_UP: &str = "7s";
/// What a run may take besides the window.
const OVERHEAD_MAX: Duration = Duration::from_secs(180);
/// Viewers that come per second: thousands of them, and a server that is to carry them, are there soon.
const RAMP: &str = "1000/s";

/// What to do.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) streams: usize,
    /// Per stream.
    pub(crate) viewers: usize,
    /// Of the pictures; sound comes to it.
    pub(crate) bitrate: usize,
    /// Whether viewers leave with their first frame, and others come.
    pub(crate) rejoin: bool,
}

/// How viewers receive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Rtmp,
    Flv,
    /// Half of them each.
    Mixed,
    /// Over RTMP at another server, to which the first one sends the streams on.
    Relayed,
}

/// What was measured.
pub(crate) struct Measured {
    /// loadgen's own report.
    pub(crate) report: Value,
    /// What the server counted in the window, if it counts.
    pub(crate) sends: Option<Sends>,
}

impl Load {
    pub(crate) fn all_viewers(&self) -> usize {
        self.streams * self.viewers
    }

    /// Runs it to its end.
    pub(crate) fn run(
        &self,
        via: Via,
        timing: Timing,
        server: &Server,
        target: Option<&Server>,
        is_pinned: bool,
    ) -> Measured {
        let report = scratch("loadgen.json");
        // That of an earlier run must not be taken for this one's.
        _ = std::fs::remove_file(&report);
        let (rtmp_viewers, flv_viewers) = match via {
            Via::Rtmp | Via::Relayed => (self.all_viewers(), 0),
            Via::Flv => (0, self.all_viewers()),
            Via::Mixed => (self.all_viewers().div_ceil(2), self.all_viewers() / 2),
        };
        let mut command = Command::new(program());
        // Without viewers there is nothing to run but publishers.
        command
            .arg(if self.viewers == 0 { "publish" } else { "run" })
            .arg(format!("rtmp://127.0.0.1:{}/live/peers", server.rtmp_port))
            .args(["--publishers", &self.streams.to_string()])
            .args(["--bitrate", &self.bitrate.to_string()])
            .args(["--warm-up", WARM_UP])
            .args(["--duration", &format!("{}s", timing.window_s)])
            .args(["--pid", &server.pid().to_string()])
            .arg("--json")
            .arg(&report)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if self.viewers > 0 {
            command
                .args(["--viewers-rtmp", &rtmp_viewers.to_string()])
                .args(["--viewers-flv", &flv_viewers.to_string()])
                .args(["--http", &format!("127.0.0.1:{}", server.http_port)])
                .args(["--viewers-after", VIEWERS_AFTER])
                .args(["--ramp", RAMP]);
        }
        if let Some(target) = target {
            command.args(["--rtmp-at", &format!("127.0.0.1:{}", target.rtmp_port)]);
        }
        if self.rejoin {
            command.arg("--rejoin");
        }
        if is_pinned {
            pin(&mut command, LOAD_CPU);
        }
        let mut child = Kill(command.spawn().expect("loadgen starts"));
        let lines = lines(&mut child.0);
        let deadline = Instant::now() + OVERHEAD_MAX + Duration::from_secs(timing.window_s);
        let (mut before, mut after, mut said) = (None, None, String::new());
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line == "measuring begins" => before = server.sends(),
                Ok(line) if line == "measuring ends" => after = server.sends(),
                Ok(line) => said = line,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("loadgen does not end; it said: {said}"),
            }
        }
        // 1 is a fault of the server, which the report names.
        let status = child.0.wait().expect("it is ours");
        assert!(matches!(status.code(), Some(0 | 1)), "loadgen ended with {status}: {said}");
        let text = std::fs::read_to_string(&report).expect("loadgen writes its report");
        Measured {
            report: serde_json::from_str(&text).expect("its report is JSON"),
            sends: before.zip(after).map(|(before, after)| after.since(before)),
        }
    }
}

impl Measured {
    /// A number of the report, by JSON pointer.
    pub(crate) fn number(&self, pointer: &str) -> f64 {
        let found = self.report.pointer(pointer).and_then(Value::as_f64);
        found.unwrap_or_else(|| panic!("no number at {pointer} in loadgen's report"))
    }

    /// Yes or no of the report, by JSON pointer.
    pub(crate) fn flag(&self, pointer: &str) -> bool {
        let found = self.report.pointer(pointer).and_then(Value::as_bool);
        found.unwrap_or_else(|| panic!("no flag at {pointer} in loadgen's report"))
    }

    /// A list of sentences in the report, by JSON pointer.
    pub(crate) fn sentences(&self, pointer: &str) -> impl Iterator<Item = &str> {
        let found = self.report.pointer(pointer).and_then(Value::as_array);
        let all = found.unwrap_or_else(|| panic!("no list at {pointer} in loadgen's report"));
        all.iter().filter_map(Value::as_str)
    }
}

/// A file beside what is built.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
    std::fs::create_dir_all(&directory).expect("a directory can be made");
    directory.join(name)
}

/// It belongs to another package than this benchmark, so cargo does not build it with it.
fn program() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_shardcast")).with_file_name("loadgen");
    assert!(
        path.exists(),
        "{} is not there: run cargo build --release --workspace first, or make bench-peers",
        path.display()
    );
    path
}

/// Its standard error by lines, to be waited for with a deadline.
fn lines(child: &mut Child) -> Receiver<String> {
    let pipe = BufReader::new(child.stderr.take().expect("it is piped"));
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in pipe.lines().map_while(Result::ok) {
            // Nobody may wait any more.
            _ = sender.send(line);
        }
    });
    receiver
}

/// A process that ends with this one's interest in it.
struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
