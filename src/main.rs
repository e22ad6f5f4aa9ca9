//! The shardcast command line.

use std::process::ExitCode;

use shardcast::cli::{Action, Cli};
use shardcast::server;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A kernel without the call works, with more memory.
    let _ = shardcast::rt::memory::refuse_huge_pages();
    match Cli::from_arguments().action() {
        Action::Exit(code) => code,
        Action::Run(settings, source) => server::run(*settings, source),
    }
}
