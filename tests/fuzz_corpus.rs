//! The fuzz targets without a fuzzer: every input of the committed corpora goes through its target, and
//! every input that once failed.

use std::any::Any;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

#[allow(unreachable_pub, reason = "the crate of the fuzzer's programs uses the same files")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use targets::{Run, TARGETS};

/// A corpus holds at least so many inputs: an empty directory would test nothing.
const INPUTS_MIN: usize = 8;

#[test]
fn every_input_of_the_corpora_passes() {
    let mut failed = Vec::new();
    for (name, run) in TARGETS {
        let inputs = files(&fuzz_directory().join("corpus").join(name));
        assert!(inputs.len() >= INPUTS_MIN, "{name} has only {} inputs", inputs.len());
        run(&[]);
        let failed_once = fuzz_directory().join("regressions").join(name);
        let failed_once = if failed_once.exists() { files(&failed_once) } else { Vec::new() };
        let all = inputs.iter().chain(&failed_once);
        failed.extend(all.filter_map(|input| failure(*run, input)));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let mut names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let stems = |directory: &str| -> Vec<String> {
        let paths = files(&fuzz_directory().join(directory));
        let stems = paths.iter().filter_map(|path| path.file_stem()?.to_str());
        stems.map(str::to_owned).collect()
    };
    assert_eq!(stems("corpus"), names);
    assert_eq!(stems("fuzz_targets"), names);
    let strangers: Vec<String> = stems("regressions");
    assert!(strangers.iter().all(|name| names.contains(&name.as_str())), "{strangers:?}");
}

fn fuzz_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// What a directory holds, by name.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("the directory can be read").path()).collect();
    files.sort();
    files
}

/// Runs an input; what the target complains of, when it does.
fn failure(run: Run, input: &Path) -> Option<String> {
    let bytes = fs::read(input).unwrap_or_else(|error| panic!("{}: {error}", input.display()));
    let fault = catch_unwind(AssertUnwindSafe(|| run(&bytes))).err()?;
    Some(format!("{}: {}", input.display(), words(&*fault)))
}

fn words(fault: &(dyn Any + Send)) -> &str {
    let text = fault.downcast_ref::<&str>().copied();
    text.or_else(|| fault.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic")
}
