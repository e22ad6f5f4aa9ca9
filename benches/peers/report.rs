//! A scenario's outcome: tables for people, everything as JSON for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::figures::Figure;
use super::loadgen::Measured;
use super::run::{Outcome, Timing};
use super::scenarios::Scenario;
use super::server::Sends;
use super::statistics::{Quartiles, Verdict};

/// One scenario.
#[derive(Serialize)]
pub(crate) struct Report {
    id: &'static str,
    title: String,
    streams: usize,
    viewers_per_stream: usize,
    bits_per_second: usize,
    window_s: u64,
    kernel: String,
    cpu_model: String,
    #[serde(skip)]
    figures: &'static [Figure],
    variants: Vec<Row>,
}

/// One variant over all runs.
#[derive(Serialize)]
struct Row {
    label: String,
    /// By the keys of the scenario's figures.
    figures: BTreeMap<&'static str, Quartiles>,
    /// With the first variant, within each run; none for itself.
    compared: BTreeMap<&'static str, Comparison>,
    lost: Lost,
    loadgen_cores: Quartiles,
    /// How late loadgen sent its frames, 99th percentile.
    loadgen_late_p99_ms: Quartiles,
    /// Runs in which loadgen may have been the bottleneck.
    loadgen_bottleneck_runs: usize,
    /// What loadgen found wrong, and in how many runs.
    faults: BTreeMap<String, usize>,
    runs: Vec<Run>,
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
struct Comparison {
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

impl Report {
    /// Of the outcomes of each variant.
    pub(crate) fn new(scenario: &Scenario, timing: Timing, outcomes: Vec<Vec<Outcome>>) -> Self {
        let figures = scenario.kind.figures();
        let values = |figure: &Figure, runs: &[Outcome]| -> Option<Vec<f64>> {
            runs.iter().map(|run| (figure.value)(&run.measured, &scenario.load)).collect()
        };
        let mut variants = Vec::new();
        for (index, (variant, via)) in scenario.variants.iter().enumerate() {
            let runs = &outcomes[index];
            let mut row = Row::new(super::scenarios::label(variant, *via), runs);
            for figure in figures {
                let Some(own) = values(figure, runs) else { continue };
                let quartiles = Quartiles::of(own.iter().copied());
                row.figures.insert(figure.key, quartiles);
                let first =
                    values(figure, &outcomes[0]).filter(|_| figure.is_compared && index > 0);
                if let Some(first) = first {
                    let ratios = own.iter().zip(&first).map(|(own, first)| own / first);
                    let verdict = quartiles.compare(&Quartiles::of(first.iter().copied()));
                    let ratio = Quartiles::of(ratios);
                    row.compared.insert(figure.key, Comparison { ratio, verdict });
                }
            }
            variants.push(row);
        }
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
            id: scenario.id,
            title: scenario.title(),
            streams: scenario.load.streams,
            viewers_per_stream: scenario.load.viewers,
            bits_per_second: scenario.load.bitrate,
            window_s: timing.window_s,
            kernel: line("/proc/sys/kernel/osrelease", ""),
            cpu_model: line("/proc/cpuinfo", "model name"),
            figures,
            variants,
        }
    }

    /// Its letter, with which the plot finds what belongs together.
    pub(crate) const fn id(&self) -> &'static str {
        self.id
    }

    /// Viewers in all.
    pub(crate) const fn all_viewers(&self) -> usize {
        self.streams * self.viewers_per_stream
    }

    /// The median of a figure for each variant that has it, by label.
    pub(crate) fn medians(&self, key: &str) -> impl Iterator<Item = (&str, f64)> {
        self.variants.iter().filter_map(move |row| {
            row.figures.get(key).map(|value| (row.label.as_str(), value.median))
        })
    }
}

impl Row {
    fn new(label: String, runs: &[Outcome]) -> Self {
        let of = |value: &dyn Fn(&Measured) -> f64| {
            Quartiles::of(runs.iter().map(|run| value(&run.measured)))
        };
        let mut faults = BTreeMap::new();
        for run in runs {
            for fault in run.measured.sentences("/verdict/faults") {
                *faults.entry(fault.to_owned()).or_default() += 1;
            }
        }
        Self {
            label,
            figures: BTreeMap::new(),
            compared: BTreeMap::new(),
            lost: Lost::of(runs),
            loadgen_cores: of(&|run| run.number("/loadgen/cores")),
            loadgen_late_p99_ms: of(&|run| run.number("/publishers/lateness/p99_ms")),
            loadgen_bottleneck_runs: runs
                .iter()
                .filter(|run| run.measured.flag("/loadgen/was_bottleneck"))
                .count(),
            faults,
            runs: Vec::new(),
        }
    }
}

impl Lost {
    fn of(runs: &[Outcome]) -> Self {
        let total = |pointer: &str| -> u64 {
            let found = runs.iter().filter_map(|run| run.measured.report.pointer(pointer));
            found.filter_map(Value::as_u64).sum()
        };
        let is_none = runs.iter().all(|run| {
            run.measured.report.pointer("/verdict/loss").and_then(Value::as_str) == Some("none")
        });
        let frames =
            ["sample/lost", "sample/skipped_frames", "others/lost", "others/skipped_frames"];
        Self {
            is_none,
            frames: frames.into_iter().map(|key| total(&format!("/viewers/{key}"))).sum(),
            short_viewers: total("/viewers/byte_check/short"),
        }
    }
}

/// Markdown.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.variants[0].runs.len();
        writeln!(
            f,
            "\n### {}\n\n{runs} runs of {} s; medians, in brackets the quartiles. Memory is what the \
             server grew by, the streams' buffers included.\n",
            self.title, self.window_s
        )?;
        write!(f, "| |")?;
        self.figures.iter().try_for_each(|figure| write!(f, " {} |", figure.title))?;
        writeln!(f, " lost |\n|---|{}---|", "---|".repeat(self.figures.len()))?;
        for row in &self.variants {
            write!(f, "| {} |", row.label)?;
            for figure in self.figures {
                match row.figures.get(figure.key) {
                    None => write!(f, " |")?,
                    Some(value) if figure.is_compared => {
                        write!(f, " {} |", value.text(figure.digits))?;
                    }
                    Some(value) => write!(f, " {:.*} |", figure.digits, value.median)?,
                }
            }
            writeln!(f, " {} |", row.lost)?;
        }
        self.comparisons(f)?;
        writeln!(
            f,
            "\nloadgen itself.\n\n\
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

impl Report {
    fn comparisons(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compared: Vec<&Figure> = self.figures.iter().filter(|it| it.is_compared).collect();
        writeln!(
            f,
            "\nRatio to {} of the same run; it differs when the medians of the values are further \
             apart than the quartiles of either.\n",
            self.variants[0].label
        )?;
        write!(f, "| |")?;
        compared.iter().try_for_each(|figure| write!(f, " {} | |", figure.title))?;
        writeln!(f, "\n|---|{}", "---|---|".repeat(compared.len()))?;
        for row in self.variants.iter().filter(|row| !row.compared.is_empty()) {
            write!(f, "| {} |", row.label)?;
            for figure in &compared {
                match row.compared.get(figure.key) {
                    None => write!(f, " | |")?,
                    Some(it) => write!(f, " {} | {} |", it.ratio.text(2), it.verdict)?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Row {
    fn loadgen(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| {} | {:.0} % | {} | in {} of {} runs |",
            self.label,
            self.loadgen_cores.median * 100.0,
            self.loadgen_late_p99_ms.text(2),
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
