//! The table of a scenario: medians over the runs, quartiles of what is compared.

use super::Scenario;
use super::load::Via;
use super::run::{Outcome, Timing};
use super::server::Variant;

/// A variant's name in the table.
pub(crate) fn label(variant: &Variant, via: Via) -> String {
    match via {
        Via::Flv => format!("{variant}, HTTP-FLV"),
        Via::Rtmp | Via::Raw => variant.to_string(),
    }
}

/// Prints it as Markdown. Ratios are to the first variant, taken within each run.
pub(crate) fn print(scenario: &Scenario, timing: Timing, outcomes: &[Vec<Outcome>]) {
    println!("\n### {}, {} viewers each\n", scenario.title, scenario.load.viewers);
    println!(
        "{} runs of {} s; medians, in brackets the quartiles; latency is p50 / p99 from the moment a \
         frame was to be sent.\n",
        timing.runs, timing.window_s
    );
    println!(
        "| | CPU s per GB | ratio | CPU | MB/s | RSS per viewer, KiB | video ms | audio ms | sends per \
         viewer and s | bytes per send | load's CPU |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for ((variant, via), runs) in scenario.variants.iter().zip(outcomes) {
        let of = |value: &dyn Fn(&Outcome) -> f64| Quartiles::of(runs.iter().map(value));
        let ratios = runs
            .iter()
            .zip(&outcomes[0])
            .map(|(ours, first)| ours.cpu_s_per_gb / first.cpu_s_per_gb);
        let latency = |track: usize| match via {
            Via::Raw => String::new(),
            _ => format!(
                "{:.1} / {:.1}",
                of(&|run| run.latency_ms[track][0]).median,
                of(&|run| run.latency_ms[track][1]).median
            ),
        };
        let sends = |at: usize| match runs.iter().all(|run| run.sends.is_some()) {
            true => format!("{:.1}", of(&|run| run.sends.map_or(0.0, |sends| sends[at])).median),
            false => String::new(),
        };
        println!(
            "| {} | {} | {} | {:.1} % | {:.1} | {:.1} | {} | {} | {} | {} | {:.0} % |",
            label(variant, *via),
            of(&|run| run.cpu_s_per_gb).text(3),
            Quartiles::of(ratios).text(2),
            of(&|run| run.cpu).median * 100.0,
            of(&|run| run.bytes_per_s).median / 1e6,
            of(&|run| run.rss_per_viewer).median / 1024.0,
            latency(1),
            latency(0),
            sends(0),
            sends(1),
            of(&|run| run.load_cpu).median * 100.0,
        );
    }
}

struct Quartiles {
    low: f64,
    median: f64,
    high: f64,
}

impl Quartiles {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        // Rather too wide than too narrow: of three values the outer ones.
        let quarter = (values.len() - 1) / 4;
        let [low, median, high] =
            [quarter, values.len() / 2, values.len() - 1 - quarter].map(|at| values[at]);
        Self { low, median, high }
    }

    fn text(&self, digits: usize) -> String {
        format!("{:.digits$} [{:.digits$}, {:.digits$}]", self.median, self.low, self.high)
    }
}
