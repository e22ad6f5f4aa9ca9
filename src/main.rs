//! The shardcast command line.

use std::process::ExitCode;

use shardcast::cli::{Action, Cli};
use shardcast::server;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::from_arguments().action() {
        Action::Exit(code) => code,
        Action::Run(settings) => server::run(*settings),
    }
}
