//! Where `scripts/test-deps` puts what no package installs.

use std::env;
use std::path::{Path, PathBuf};

/// The user's cache directory of these tests.
pub(crate) fn downloads() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    cache.expect("HOME is set").join("shardcast-tests")
}
