//! Shared by the tests of loadgen. Each test file uses a part of it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

pub mod fake_server;
pub mod loadgen;
pub mod media;
pub mod priority;
pub mod server;

use std::path::Path;

/// A file of the tests' own in the build directory.
pub fn scratch_file(name: &str) -> String {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = directory.join(format!("{}-{name}", std::process::id()));
    file.to_str().expect("the build directory has a plain name").to_owned()
}
