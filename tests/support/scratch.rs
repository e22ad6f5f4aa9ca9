//! A directory of one test's own, removed when the test passes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A new directory below cargo's directory for test files; it stays after a failure, to be looked at.
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes the directory; `name` is for the reader of a failure report.
    pub(crate) fn new(name: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{name}-{}-{number}", process::id()));
        fs::create_dir_all(&path).expect("the scratch directory can be made");
        Self { path }
    }

    /// The path of `file` in this directory.
    pub(crate) fn file(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !thread::panicking() {
            // A directory that cannot be removed disturbs no later test: names are unique.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
