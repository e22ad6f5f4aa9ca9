//! This server beside nginx-rtmp, and xiu where it was built, under the same load in the same run, and beside a bare program that
//! does nothing but send the same bytes: CPU time per gigabyte and per message, latency by track, memory
//! per viewer and publisher, lost frames, joins. All of them are measured by `loadgen run`.
//!
//! `make bench-peers`, or `cargo bench --bench peers -- [OPTIONS]` after
//! `cargo build --release --workspace`:
//!
//! | option                | meaning                                                            |
//! |-----------------------|--------------------------------------------------------------------|
//! | `--quick`             | 3 runs of 6 s per variant; without it 9 runs of 20 s                |
//! | `--runs N`            | so many runs                                                       |
//! | `--window SECONDS`    | windows of so many seconds, even because a group of pictures is 2 s |
//! | `--scenario TEXT`     | only scenarios with this letter, or these: `a`, `bd`                |
//! | `--only TEXT,TEXT`    | only variants whose name begins with one of them, and the first one |
//! | `--viewers N,N`       | only scenarios with so many viewers per stream                      |
//! | `--server LABEL=PATH` | another build of the server to compare; may be repeated             |
//! | `--xiu PATH`          | xiu's program, to be compared too (`make peers-xiu` builds it)       |
//! | `--json FILE`         | write every run and every comparison to a file                      |
//! | `--plot FILE`         | draw CPU and latency against the number of viewers, as SVG          |
//!
//! Each run starts every variant once, in random order, so that what else the machine does hits all
//! alike. The server has CPU 0 and loadgen CPU 1, except where the server has two threads.

mod figures;
mod floor;
mod loadgen;
mod pin;
mod plot;
mod report;
mod run;
mod scenarios;
mod server;
mod statistics;

use std::path::{Path, PathBuf};

use run::Timing;
use server::Build;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mut timing = Timing { runs: 9, window_s: 20 };
    let mut letters = String::new();
    let mut viewers: Vec<usize> = Vec::new();
    let mut labels: Vec<String> = Vec::new();
    let mut builds = Vec::new();
    let (mut json, mut plot, mut xiu) = (None, None, None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("the option wants a value");
        match argument.as_str() {
            "floor" => return floor::main(&value()),
            "--quick" => timing = Timing { runs: 3, window_s: 6 },
            "--runs" => timing.runs = value().parse().expect("--runs wants a number"),
            "--window" => timing.window_s = value().parse().expect("--window wants seconds"),
            "--only" => labels = value().split(',').map(str::to_owned).collect(),
            "--scenario" => letters = value(),
            "--viewers" => {
                let number = |text: &str| text.parse().expect("--viewers wants numbers");
                viewers = value().split(',').map(number).collect();
            }
            "--json" => json = Some(PathBuf::from(value())),
            "--plot" => plot = Some(PathBuf::from(value())),
            "--server" => {
                let text = value();
                let (label, path) = text.split_once('=').expect("--server LABEL=PATH");
                builds.push(Build { label: label.to_owned(), path: PathBuf::from(path) });
            }
            "--xiu" => xiu = Some(PathBuf::from(value())),
            other => panic!("unknown option {other}"),
        }
    }
    if builds.is_empty() {
        let path = PathBuf::from(env!("CARGO_BIN_EXE_shardcast"));
        builds.push(Build { label: "shardcast".to_owned(), path });
    }
    let mut reports = Vec::new();
    for mut scenario in scenarios::all(&builds, xiu.as_deref()) {
        let is_wanted = (letters.is_empty() || letters.contains(scenario.id))
            && (viewers.is_empty() || viewers.contains(&scenario.load.viewers));
        if is_wanted {
            scenario.keep(&labels);
            let outcomes = run::scenario(&scenario, timing);
            let report = report::Report::new(&scenario, timing, outcomes);
            print!("{report}");
            reports.push(report);
            // After each scenario: a long run that is broken off has not been for nothing.
            if let Some(path) = &json {
                let text = serde_json::to_string_pretty(&reports).expect("a report is plain data");
                write(path, &(text + "\n"));
            }
        }
    }
    if let Some(path) = plot {
        let curve: Vec<_> = reports.iter().filter(|report| report.id() == "a").collect();
        write(&path, &plot::draw(&curve));
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text)
        .unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
}
