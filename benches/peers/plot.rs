//! CPU time and latency against the number of viewers, drawn by gnuplot.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::report::Report;

/// Two graphs beside each other, as SVG: one curve per variant, one point per report.
pub(crate) fn draw(reports: &[&Report]) -> String {
    let mut script = String::from(
        "set terminal svg size 1200,480 dynamic background rgb 'white' font 'sans-serif,13'\n\
         set multiplot layout 1,2\n\
         set logscale x 2\n\
         set xlabel 'viewers'\n\
         set grid\n",
    );
    graph(&mut script, reports, "cpu_s_per_gb", "CPU seconds per delivered GB", "set yrange [0:*]");
    let logarithmic = "set logscale y 10; set yrange [1:*]";
    graph(&mut script, reports, "video_p99_ms", "video p99, ms", logarithmic);
    let mut gnuplot = Command::new("gnuplot")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gnuplot draws the plot: apt-get install gnuplot-nox");
    let mut pipe = gnuplot.stdin.take().expect("it is piped");
    pipe.write_all(script.as_bytes()).expect("gnuplot takes the script");
    drop(pipe);
    let output = gnuplot.wait_with_output().expect("gnuplot ends");
    assert!(output.status.success(), "gnuplot ended with {}", output.status);
    String::from_utf8(output.stdout).expect("SVG is text")
}

fn graph(script: &mut String, reports: &[&Report], key: &str, title: &str, axis: &str) {
    let mut curves: BTreeMap<&str, Vec<(usize, f64)>> = BTreeMap::new();
    for report in reports {
        for (label, value) in report.medians(key) {
            curves.entry(label).or_default().push((report.all_viewers(), value));
        }
    }
    let plots: Vec<String> = curves
        .keys()
        .map(|label| format!("'-' with linespoints linewidth 2 title '{label}'"))
        .collect();
    // Writing to a string does not fail.
    _ = writeln!(
        script,
        "set title '{title}'\n{axis}\nset key outside below\nplot {}",
        plots.join(", ")
    );
    for points in curves.values() {
        for (viewers, value) in points {
            _ = writeln!(script, "{viewers} {value}");
        }
        script.push_str("e\n");
    }
}
