//! Runs loadgen and reads its report.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::priority::go_first;

/// loadgen.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_loadgen");

static RUNS: AtomicU32 = AtomicU32::new(0);

/// A run that has ended.
#[derive(Debug)]
pub struct Loadgen {
    /// Its exit code.
    pub exit_code: i32,
    /// Both outputs.
    pub output: String,
    report: Value,
}

impl Loadgen {
    /// Runs it to its end; it ends by itself.
    pub fn run(arguments: &[&str]) -> Self {
        Self::run_as(Command::new(PROGRAM), arguments)
    }

    /// The same before everything else that the machine does.
    pub fn run_first(arguments: &[&str]) -> Self {
        Self::run_as(go_first(Path::new(PROGRAM)), arguments)
    }

    fn run_as(mut command: Command, arguments: &[&str]) -> Self {
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let json = super::scratch_file(&format!("report-{number}.json"));
        command.args(arguments).stdin(Stdio::null());
        if arguments[0] != "synthesize" {
            command.args(["--quiet", "--json", &json]);
        }
        let output = command.output().expect("loadgen starts");
        let report = std::fs::read_to_string(&json).unwrap_or_default();
        // There may be none.
        let _ = std::fs::remove_file(&json);
        Self {
            exit_code: output.status.code().expect("loadgen ends by itself"),
            output: format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
            report: serde_json::from_str(&report).unwrap_or_default(),
        }
    }

    /// A number of the report, by JSON pointer.
    pub fn number(&self, pointer: &str) -> f64 {
        self.value(pointer).as_f64().unwrap_or_else(|| panic!("{pointer} is no number"))
    }

    /// A text of the report, by JSON pointer.
    pub fn text(&self, pointer: &str) -> &str {
        self.value(pointer).as_str().unwrap_or_else(|| panic!("{pointer} is no text"))
    }

    /// Yes or no of the report, by JSON pointer.
    pub fn flag(&self, pointer: &str) -> bool {
        self.value(pointer).as_bool().unwrap_or_else(|| panic!("{pointer} is no flag"))
    }

    /// A list of the report, by JSON pointer.
    pub fn list(&self, pointer: &str) -> &[Value] {
        self.value(pointer).as_array().unwrap_or_else(|| panic!("{pointer} is no list"))
    }

    /// How long was measured, seconds.
    pub fn window_s(&self) -> f64 {
        self.number("/window_s")
    }

    /// What went wrong.
    pub fn faults(&self) -> Vec<String> {
        let faults = self.value("/verdict/faults").as_array().expect("faults are a list");
        faults.iter().map(|fault| fault.as_str().unwrap_or_default().to_owned()).collect()
    }

    fn value(&self, pointer: &str) -> &Value {
        self.report
            .pointer(pointer)
            .unwrap_or_else(|| panic!("no {pointer} in the report of\n{}", self.output))
    }
}
