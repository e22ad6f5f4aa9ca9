//! This server beside nginx-rtmp, under the same load in the same run, and beside a bare program that
//! does nothing but send the same bytes: CPU time per delivered gigabyte, latency by track, memory per
//! viewer, lost frames. All of them are measured by `loadgen run`.
//!
//! `make bench-peers`, or `cargo bench --bench peers -- [OPTIONS]` after
//! `cargo build --release --workspace`:
//!
//! | option                | meaning                                                            |
//! |-----------------------|--------------------------------------------------------------------|
//! | `--quick`             | 3 runs of 6 s per variant; without it 9 runs of 20 s                |
//! | `--scenario TEXT`     | only scenarios whose title begins with TEXT (`a`, `b`)              |
//! | `--viewers N`         | viewers per stream, instead of the scenario's                       |
//! | `--server LABEL=PATH` | another build of the server to compare; may be repeated             |
//! | `--json FILE`         | write every run and every comparison to a file                      |
//!
//! Each run starts every variant once, in random order, so that what else the machine does hits all
//! alike. The server has CPU 0 and loadgen CPU 1.

mod floor;
mod loadgen;
mod pin;
mod report;
mod run;
mod server;
mod statistics;

use std::path::PathBuf;

use loadgen::{Load, Via};
use run::Timing;
use server::{Build, Pace, Variant};

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mut timing = Timing { runs: 9, window_s: 20 };
    let mut only = String::new();
    let mut builds = Vec::new();
    let mut viewers = None;
    let mut json = None;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("the option wants a value");
        match argument.as_str() {
            "floor" => return floor::main(&value()),
            "--quick" => timing = Timing { runs: 3, window_s: 6 },
            "--scenario" => only = value(),
            "--viewers" => viewers = Some(value().parse().expect("--viewers wants a number")),
            "--json" => json = Some(PathBuf::from(value())),
            "--server" => {
                let text = value();
                let (label, path) = text.split_once('=').expect("--server LABEL=PATH");
                builds.push(Build { label: label.to_owned(), path: PathBuf::from(path) });
            }
            other => panic!("unknown option {other}"),
        }
    }
    if builds.is_empty() {
        let path = PathBuf::from(env!("CARGO_BIN_EXE_shardcast"));
        builds.push(Build { label: "shardcast".to_owned(), path });
    }
    let mut reports = Vec::new();
    for mut scenario in scenarios(&builds) {
        scenario.load.viewers = viewers.unwrap_or(scenario.load.viewers);
        if scenario.title.starts_with(&only) {
            let outcomes = run::scenario(&scenario, timing);
            let report = report::Report::new(&scenario, timing, outcomes);
            print!("{report}");
            reports.push(report);
        }
    }
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&reports).expect("a report is plain data");
        std::fs::write(&path, text + "\n")
            .unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
    }
}

/// A load, and the servers that get it.
struct Scenario {
    title: &'static str,
    load: Load,
    /// The first one is what the others are compared with.
    variants: Vec<(Variant, Via)>,
}

fn scenarios(builds: &[Build]) -> Vec<Scenario> {
    let ours = |latency: &'static str, via: Via| {
        builds.iter().map(move |build| (Variant::Shardcast { build: build.clone(), latency }, via))
    };
    let mut many_viewers = vec![(Variant::Nginx, Via::Rtmp)];
    many_viewers.extend(ours("balanced", Via::Rtmp));
    many_viewers.extend(ours("realtime", Via::Rtmp));
    many_viewers.extend(ours("balanced", Via::Flv));
    for pace in [Pace::Message, Pace::Realtime, Pace::Balanced] {
        many_viewers.push((Variant::Floor(pace), Via::Rtmp));
    }
    // No floor here: with so many publishers a server mostly reads, and the bare program reads no
    // better than others.
    let mut many_publishers = vec![(Variant::Nginx, Via::Rtmp)];
    many_publishers.extend(ours("realtime", Via::Rtmp));
    many_publishers.extend(ours("balanced", Via::Rtmp));
    vec![
        Scenario {
            title: "a: 1 publisher of 2 Mbit/s",
            load: Load { streams: 1, viewers: 500, bitrate: 2_000_000 },
            variants: many_viewers,
        },
        Scenario {
            title: "b: 100 publishers of 500 kbit/s",
            load: Load { streams: 100, viewers: 5, bitrate: 500_000 },
            variants: many_publishers,
        },
    ]
}
