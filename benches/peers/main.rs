//! This server beside nginx-rtmp, under the same load in the same run, and beside a bare program that
//! does nothing but send the same bytes: CPU time per delivered gigabyte, memory per viewer, latency.
//!
//! `make bench-peers`, or `cargo bench --bench peers -- [OPTIONS]` after `cargo build --release`:
//!
//! | option                | meaning                                                            |
//! |-----------------------|--------------------------------------------------------------------|
//! | `--quick`             | 3 runs of 6 s per variant; without it 9 runs of 20 s                |
//! | `--scenario TEXT`     | only scenarios whose title begins with TEXT (`a`, `b`)              |
//! | `--viewers N`         | viewers per stream, instead of the scenario's                       |
//! | `--server LABEL=PATH` | another build of the server to compare; may be repeated             |
//!
//! Each run starts every variant once, in random order, so that what else the machine does hits all
//! alike; ratios are taken within a run. The server has CPU 0 and the load CPU 1. CPU time is
//! `/proc/PID/task/*/schedstat`, memory the growth of VmRSS from before the viewers to after the window.

mod floor;
mod load;
mod report;
mod run;
#[path = "../harness/sample.rs"]
mod sample;
mod server;

use std::path::PathBuf;

use load::{LoadPlan, Via};
use run::Timing;
use server::{Build, Pace, Variant};

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mut timing = Timing { runs: 9, window_s: 20 };
    let mut only = String::new();
    let mut builds = Vec::new();
    let mut viewers = None;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("the option wants a value");
        match argument.as_str() {
            "load" => return load::main(&LoadPlan::decode(&value())),
            "floor" => return floor::main(&value()),
            "--quick" => timing = Timing { runs: 3, window_s: 6 },
            "--scenario" => only = value(),
            "--viewers" => viewers = Some(value().parse().expect("--viewers wants a number")),
            "--server" => {
                let text = value();
                let (label, path) = text.split_once('=').expect("--server LABEL=PATH");
                builds.push(Build { label: label.to_owned(), path: PathBuf::from(path) });
            }
            other => panic!("unknown option {other}"),
        }
    }
    if builds.is_empty() {
        // Beside this program: target/release/deps/peers-…
        let mut path = std::env::current_exe().expect("this program has a path");
        path.pop();
        path.pop();
        builds.push(Build { label: "shardcast".to_owned(), path: path.join("shardcast") });
    }
    for mut scenario in scenarios(&builds) {
        scenario.load.viewers = viewers.unwrap_or(scenario.load.viewers);
        if scenario.title.starts_with(&only) {
            run::scenario(&scenario, timing);
        }
    }
}

/// A load, and the servers that get it.
struct Scenario {
    title: &'static str,
    load: LoadPlan,
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
        many_viewers.push((Variant::Floor(pace), Via::Raw));
    }
    let mut many_publishers = vec![(Variant::Nginx, Via::Rtmp)];
    many_publishers.extend(ours("realtime", Via::Rtmp));
    many_publishers.extend(ours("balanced", Via::Rtmp));
    vec![
        Scenario {
            title: "a: 1 publisher of 2 Mbit/s",
            load: LoadPlan { streams: 1, viewers: 500, bitrate: sample::BITRATE },
            variants: many_viewers,
        },
        Scenario {
            title: "b: 100 publishers of 500 kbit/s",
            load: LoadPlan { streams: 100, viewers: 5, bitrate: 500_000 },
            variants: many_publishers,
        },
    ]
}
