//! Times small operations by the CPU clock of their thread, or repeats one of them exactly so many times
//! for callgrind. Shared by the micro-benchmarks; no benchmark of its own.
//!
//! | arguments                     | what happens                                             |
//! |-------------------------------|----------------------------------------------------------|
//! | `[TEXT]`                      | a table of the benchmarks whose name contains TEXT        |
//! | `--list`                      | their names, one a line                                   |
//! | `--instructions NAME ROUNDS`  | that one, ROUNDS times, and prints its operations per round |
//!
//! A round is a whole number of operations: a round of a stream's benchmark is a group of pictures, so
//! that keyframes and small frames have their share in every one.

pub(crate) mod sample;

use std::hint::black_box;
use std::time::Duration;

use shardcast::media::Frame;
use shardcast::rt::clock;

// What the server runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs per benchmark; the median counts.
const RUNS: usize = 7;
/// CPU time of one run.
const RUN_TIME: Duration = Duration::from_millis(60);

/// The benchmarks of one program.
pub(crate) struct Suite {
    mode: Mode,
}

enum Mode {
    Table { filter: String },
    List,
    Exactly { name: String, rounds: u64, found: bool },
}

/// What a round does.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    /// Operations.
    pub operations: usize,
    /// Bytes that the operations work on; 0 if a rate in bytes says nothing.
    pub bytes: usize,
}

impl Suite {
    /// As the command line says.
    pub(crate) fn from_arguments() -> Self {
        let mut filter = String::new();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // cargo says this to every benchmark.
                "--bench" => {}
                "--list" => return Self { mode: Mode::List },
                "--instructions" => {
                    let name = arguments.next().expect("--instructions NAME ROUNDS");
                    let rounds = arguments.next().and_then(|rounds| rounds.parse().ok());
                    let rounds = rounds.expect("--instructions NAME ROUNDS: no number");
                    return Self { mode: Mode::Exactly { name, rounds, found: false } };
                }
                text => filter = text.to_owned(),
            }
        }
        println!("{:44}{:>12}{:>12}{:>9}", "", "ns per op", "MB/s", "spread");
        Self { mode: Mode::Table { filter } }
    }

    /// One benchmark. `make` prepares it and is not measured; what it returns runs one round.
    pub(crate) fn bench<R>(&mut self, name: &str, round: Round, make: impl FnOnce() -> R)
    where
        R: FnMut(),
    {
        match &mut self.mode {
            Mode::List => println!("{name}"),
            Mode::Exactly { name: wanted, rounds, found } => {
                if name == wanted {
                    *found = true;
                    let mut run = make();
                    for _ in 0..*rounds {
                        black_box(&mut run)();
                    }
                    println!("{}", round.operations);
                }
            }
            Mode::Table { filter } => {
                if name.contains(filter.as_str()) {
                    row(name, round, make());
                }
            }
        }
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        if let Mode::Exactly { name, found: false, .. } = &self.mode {
            eprintln!("no benchmark is called {name}");
            std::process::exit(1);
        }
    }
}

/// Payload bytes of a group of pictures.
pub(crate) fn payload_bytes(gop: &[Frame]) -> usize {
    gop.iter().map(|frame| frame.payload.len()).sum()
}

fn row(name: &str, round: Round, mut run: impl FnMut()) {
    // Warms up, and finds how many rounds take as long as a run should.
    let mut rounds = 1_u32;
    let mut cost = time(rounds, &mut run);
    while cost < RUN_TIME / 4 {
        rounds *= 2;
        cost = time(rounds, &mut run);
    }
    let rounds = (f64::from(rounds) * RUN_TIME.as_secs_f64() / cost.as_secs_f64()).max(1.0) as u32;
    let mut runs: Vec<f64> =
        (0..RUNS).map(|_| time(rounds, &mut run).as_secs_f64() / f64::from(rounds)).collect();
    runs.sort_by(f64::total_cmp);
    let (median, low, high) = (runs[RUNS / 2], runs[RUNS / 4], runs[RUNS - 1 - RUNS / 4]);
    let rate = match round.bytes {
        0 => String::new(),
        bytes => format!("{:.0}", bytes as f64 / median / 1e6),
    };
    println!(
        "{name:44}{:>12.1}{rate:>12}{:>8.1}%",
        median * 1e9 / round.operations as f64,
        (high - low) / median * 100.0
    );
}

fn time(rounds: u32, run: &mut impl FnMut()) -> Duration {
    let start = clock::thread_cpu();
    for _ in 0..rounds {
        black_box(&mut *run)();
    }
    clock::thread_cpu() - start
}
