//! A scenario's outcome: tables for people, everything as JSON for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::Scenario;
use super::loadgen::Via;
use super::run::{Outcome, Timing};
use super::server::{Sends, Variant};
use super::statistics::{Quartiles, Verdict};

/// One scenario.
#[derive(Serialize)]
pub(crate) struct Report {
    title: &'static str,
    streams: usize,
    viewers_per_stream: usize,
    bits_per_second: usize,
    window_s: u64,
    kernel: String,
    cpu_model: String,
    variants: Vec<Row>,
}

/// One variant over all runs.
#[derive(Serialize)]
struct Row {
    label: String,
    cpu_s_per_gb: Quartiles,
    /// CPU seconds per second.
    cores: Quartiles,
    bytes_per_s: Quartiles,
    rss_per_viewer_bytes: Quartiles,
    latency_video: Latency,
    latency_audio: Latency,
    lost: Lost,
    /// By the server's own count.
    sends_per_viewer_s: Option<Quartiles>,
    bytes_per_send: Option<Quartiles>,
    loadgen_cores: Quartiles,
    /// How late loadgen sent its frames, 99th percentile.
    loadgen_late_p99_ms: Quartiles,
    /// Runs in which loadgen may have been the bottleneck.
    loadgen_bottleneck_runs: usize,
    /// With the first variant; none for itself.
    compared: Option<Compared>,
    /// What loadgen found wrong, and in how many runs.
    faults: BTreeMap<String, usize>,
    runs: Vec<Run>,
}

#[derive(Serialize)]
struct Latency {
    p50_ms: Quartiles,
    p99_ms: Quartiles,
}

/// Over all runs.
#[derive(Serialize)]
struct Lost {
    /// Every run's loss was 0 by both checks of loadgen.
    is_none: bool,
    /// Frames missing in the samples, skipped ones included.
    frames: u64,
    /// Viewers that received too few bytes.
    short_viewers: u64,
}

#[derive(Serialize)]
struct Compared {
    cpu: Comparison,
    video_p99: Comparison,
    audio_p99: Comparison,
    rss: Comparison,
}

#[derive(Serialize)]
struct Comparison {
    /// Within each run.
    ratio: Quartiles,
    verdict: Verdict,
}

#[derive(Serialize)]
struct Run {
    /// In the order of its run, from 0.
    place: usize,
    /// By the server's own count, in the window.
    sends: Option<Sends>,
    /// As loadgen wrote it.
    loadgen: Value,
}

/// A variant's name in the tables.
pub(crate) fn label(variant: &Variant, via: Via) -> String {
    match via {
        Via::Flv => format!("{variant}, HTTP-FLV"),
        Via::Rtmp => variant.to_string(),
    }
}

const CPU: &str = "/server/cpu_s_per_gb";
const VIDEO_P99: &str = "/viewers/latency_video/p99_ms";
const AUDIO_P99: &str = "/viewers/latency_audio/p99_ms";
const RSS: &str = "/server/rss_per_viewer_bytes";

impl Report {
    /// Of the outcomes of each variant.
    pub(crate) fn new(scenario: &Scenario, timing: Timing, outcomes: Vec<Vec<Outcome>>) -> Self {
        let mut variants: Vec<Row> = scenario
            .variants
            .iter()
            .zip(&outcomes)
            .enumerate()
            .map(|(index, ((variant, via), runs))| {
                let mut row = Row::new(label(variant, *via), scenario.load.all_viewers(), runs);
                row.compared = (index > 0).then(|| Compared::new(runs, &outcomes[0]));
                row
            })
            .collect();
        for (row, outcomes) in variants.iter_mut().zip(outcomes) {
            row.runs = outcomes
                .into_iter()
                .map(|Outcome { place, measured }| Run {
                    place,
                    sends: measured.sends,
                    loadgen: measured.report,
                })
                .collect();
        }
        let line = |file: &str, key: &str| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let found = text.lines().find(|line| line.starts_with(key)).map(str::to_owned);
            found.unwrap_or_default()
        };
        Self {
            title: scenario.title,
            streams: scenario.load.streams,
            viewers_per_stream: scenario.load.viewers,
            bits_per_second: scenario.load.bitrate,
            window_s: timing.window_s,
            kernel: line("/proc/sys/kernel/osrelease", ""),
            cpu_model: line("/proc/cpuinfo", "model name"),
            variants,
        }
    }
}

impl Row {
    fn new(label: String, viewers: usize, runs: &[Outcome]) -> Self {
        let of = |pointer: &str| number(runs, pointer);
        let total = |pointer: &str| -> u64 {
            runs.iter().map(|run| run.measured.number(pointer) as u64).sum()
        };
        let latency = |track: &str| Latency {
            p50_ms: of(&format!("/viewers/latency_{track}/p50_ms")),
            p99_ms: of(&format!("/viewers/latency_{track}/p99_ms")),
        };
        let counts = |value: &dyn Fn(f64, f64, f64) -> f64| {
            let values: Option<Vec<f64>> = runs
                .iter()
                .map(|run| {
                    let sends = run.measured.sends.filter(|sends| sends.sends > 0)?;
                    let window_s = run.measured.number("/window_s");
                    Some(value(sends.sends as f64, sends.bytes as f64, window_s))
                })
                .collect();
            values.map(|values| Quartiles::of(values.into_iter()))
        };
        let mut faults = BTreeMap::new();
        for run in runs {
            for fault in run.measured.sentences("/verdict/faults") {
                *faults.entry(fault.to_owned()).or_default() += 1;
            }
        }
        let is_none = runs.iter().all(|run| {
            run.measured.report.pointer("/verdict/loss").and_then(Value::as_str) == Some("none")
        });
        Self {
            label,
            cpu_s_per_gb: of(CPU),
            cores: of("/server/cores"),
            bytes_per_s: Quartiles::of(
                runs.iter().map(|run| run.measured.number("/viewers/bits_per_second") / 8.0),
            ),
            rss_per_viewer_bytes: of(RSS),
            latency_video: latency("video"),
            latency_audio: latency("audio"),
            lost: Lost {
                is_none,
                frames: [
                    "/viewers/sample/lost",
                    "/viewers/sample/skipped_frames",
                    "/viewers/others/lost",
                    "/viewers/others/skipped_frames",
                ]
                .into_iter()
                .map(total)
                .sum(),
                short_viewers: total("/viewers/byte_check/short"),
            },
            sends_per_viewer_s: counts(&|sends, _, window_s| sends / viewers as f64 / window_s),
            bytes_per_send: counts(&|sends, bytes, _| bytes / sends),
            loadgen_cores: of("/loadgen/cores"),
            loadgen_late_p99_ms: of("/publishers/lateness/p99_ms"),
            loadgen_bottleneck_runs: runs
                .iter()
                .filter(|run| run.measured.flag("/loadgen/was_bottleneck"))
                .count(),
            compared: None,
            faults,
            runs: Vec::new(),
        }
    }
}

impl Compared {
    fn new(runs: &[Outcome], first: &[Outcome]) -> Self {
        let compare =
            |pointer: &str| Comparison {
                ratio: Quartiles::of(runs.iter().zip(first).map(|(run, first)| {
                    run.measured.number(pointer) / first.measured.number(pointer)
                })),
                verdict: number(runs, pointer).compare(&number(first, pointer)),
            };
        Self {
            cpu: compare(CPU),
            video_p99: compare(VIDEO_P99),
            audio_p99: compare(AUDIO_P99),
            rss: compare(RSS),
        }
    }
}

fn number(runs: &[Outcome], pointer: &str) -> Quartiles {
    Quartiles::of(runs.iter().map(|run| run.measured.number(pointer)))
}

/// Markdown.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.variants[0].runs.len();
        writeln!(
            f,
            "\n### {}, {} viewers each\n\n{runs} runs of {} s; medians, in brackets the quartiles. Memory \
             is what the server grew by with the viewers, the streams' buffers included.\n",
            self.title, self.viewers_per_stream, self.window_s
        )?;
        writeln!(
            f,
            "| | CPU s per GB | CPU | MB/s | KiB per viewer | video p50 ms | video p99 ms | \
             audio p50 ms | audio p99 ms | lost | sends per viewer and s | bytes per send |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|---|---|")?;
        for row in &self.variants {
            row.measured(f)?;
        }
        let first = &self.variants[0].label;
        writeln!(
            f,
            "\nRatio to {first} of the same run; it differs when the medians of the values are further \
             apart than the quartiles of either.\n\n\
             | | CPU s per GB | | video p99 | | audio p99 | | memory per viewer | |\n\
             |---|---|---|---|---|---|---|---|---|"
        )?;
        for row in &self.variants {
            row.compared(f)?;
        }
        writeln!(
            f,
            "\nloadgen itself, on the other CPU.\n\n\
             | | CPU | frames left late by, p99 ms | may have been the bottleneck |\n|---|---|---|---|"
        )?;
        for row in &self.variants {
            row.loadgen(f)?;
        }
        writeln!(f)?;
        for row in &self.variants {
            for (fault, count) in &row.faults {
                writeln!(f, "- {}: {fault} (in {count} of {runs} runs)", row.label)?;
            }
        }
        Ok(())
    }
}

impl Row {
    fn measured(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let optional = |value: &Option<Quartiles>, digits: usize| {
            value.as_ref().map_or(String::new(), |value| format!("{:.digits$}", value.median))
        };
        writeln!(
            f,
            "| {} | {} | {:.1} % | {:.1} | {} | {:.1} | {} | {:.1} | {} | {} | {} | {} |",
            self.label,
            self.cpu_s_per_gb.text(3, 1.0),
            self.cores.median * 100.0,
            self.bytes_per_s.median / 1e6,
            self.rss_per_viewer_bytes.text(1, 1.0 / 1024.0),
            self.latency_video.p50_ms.median,
            self.latency_video.p99_ms.text(1, 1.0),
            self.latency_audio.p50_ms.median,
            self.latency_audio.p99_ms.text(1, 1.0),
            self.lost,
            optional(&self.sends_per_viewer_s, 1),
            optional(&self.bytes_per_send, 0),
        )
    }

    fn compared(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(compared) = &self.compared else { return Ok(()) };
        write!(f, "| {} |", self.label)?;
        for one in [&compared.cpu, &compared.video_p99, &compared.audio_p99, &compared.rss] {
            write!(f, " {} | {} |", one.ratio.text(2, 1.0), one.verdict)?;
        }
        writeln!(f)
    }

    fn loadgen(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| {} | {:.0} % | {} | in {} of {} runs |",
            self.label,
            self.loadgen_cores.median * 100.0,
            self.loadgen_late_p99_ms.text(2, 1.0),
            self.loadgen_bottleneck_runs,
            self.runs.len()
        )
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { is_none: true, .. } => write!(f, "0"),
            Self { frames: 0, short_viewers: 0, .. } => write!(f, "not known"),
            Self { frames, short_viewers, .. } => {
                write!(f, "{frames} frames, {short_viewers} viewers short")
            }
        }
    }
}
