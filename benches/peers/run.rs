//! One scenario: runs, each with every variant once in random order.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::Scenario;
use super::load::{LoadPlan, LoadReport, Via};
use super::report;
use super::server::{LOAD_CPU, Server, Variant, pin};

/// Between the start of the publishers and the look at the memory without viewers.
const PUBLISH_SETTLE: Duration = Duration::from_millis(1500);
/// Between the last join and the window, so that groups of pictures sent to new viewers, and whatever
/// they hold up, are not in it.
const JOIN_SETTLE: Duration = Duration::from_secs(7);

/// How long to measure; windows are whole groups of pictures.
#[derive(Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) runs: usize,
    pub(crate) window_s: u64,
}

/// One variant in one run.
pub(crate) struct Outcome {
    pub(crate) cpu_s_per_gb: f64,
    /// Share of a CPU.
    pub(crate) cpu: f64,
    pub(crate) bytes_per_s: f64,
    pub(crate) rss_per_viewer: f64,
    pub(crate) latency_ms: [[f64; 2]; 2],
    pub(crate) load_cpu: f64,
    /// Sends per viewer and second, and bytes per send, by the server's own count.
    pub(crate) sends: Option<[f64; 2]>,
}

/// Measures and prints.
pub(crate) fn scenario(scenario: &Scenario, timing: Timing) {
    let mut outcomes: Vec<Vec<Outcome>> = scenario.variants.iter().map(|_| Vec::new()).collect();
    let mut seed = std::process::id() | 1;
    for run in 0..timing.runs {
        let mut order: Vec<usize> = (0..scenario.variants.len()).collect();
        for at in (1..order.len()).rev() {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            order.swap(at, (seed >> 16) as usize % (at + 1));
        }
        for index in order {
            let (variant, via) = &scenario.variants[index];
            eprintln!("run {} of {}: {}", run + 1, timing.runs, report::label(variant, *via));
            outcomes[index].push(measure(variant, *via, &scenario.load, timing));
        }
    }
    report::print(scenario, timing, &outcomes);
}

struct Load {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Load {
    fn start(plan: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command.arg("load").arg(plan).stdin(Stdio::piped()).stdout(Stdio::piped());
        pin(&mut command, LOAD_CPU);
        let mut child = command.spawn().expect("the load starts");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, input, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the load speaks");
        assert!(!line.is_empty(), "the load has failed");
        line
    }

    fn go_on(&mut self) {
        self.input.write_all(b"\n").expect("the load listens");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn measure(variant: &Variant, via: Via, plan: &LoadPlan, timing: Timing) -> Outcome {
    let server = Server::start(variant, plan);
    let mut load = Load::start(&plan.encode(via, server.rtmp_port, server.http_port));
    load.line();
    if via != Via::Raw {
        // The publishers' buffers have their size by then.
        std::thread::sleep(PUBLISH_SETTLE);
    }
    let rss_before = server.rss_bytes();
    load.go_on();
    load.line();
    std::thread::sleep(JOIN_SETTLE);
    let (cpu, sends) = (server.cpu_s(), server.sends());
    load.go_on();
    std::thread::sleep(Duration::from_secs(timing.window_s));
    let cpu = server.cpu_s() - cpu;
    load.go_on();
    let report: LoadReport = serde_json::from_str(&load.line()).expect("the load's report");
    let rss = server.rss_bytes();
    let viewers = (plan.streams * plan.viewers) as f64;
    let sends = server.sends().zip(sends).map(|(after, before)| {
        let count = (after.sends - before.sends) as f64;
        [count / viewers / report.window_s, (after.bytes - before.bytes) as f64 / count]
    });
    Outcome {
        cpu_s_per_gb: cpu / (report.bytes as f64 / 1e9),
        cpu: cpu / report.window_s,
        bytes_per_s: report.bytes as f64 / report.window_s,
        rss_per_viewer: rss.saturating_sub(rss_before) as f64 / viewers,
        latency_ms: report.latency_ms,
        load_cpu: report.load_cpu,
        sends,
    }
}
