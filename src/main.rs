//! The shardcast command line.

use std::process::ExitCode;

use shardcast::cli::{Action, Cli};
use shardcast::config::Settings;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::from_arguments().action() {
        Action::Exit(code) => code,
        Action::Run(settings) => run(*settings),
    }
}

/// Runs the server until it is told to stop.
fn run(_settings: Settings) -> ExitCode {
    eprintln!("this build has no server yet");
    ExitCode::FAILURE
}
