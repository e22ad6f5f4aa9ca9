//! The number of a connection: one per process and connection, the same in logs, in the API and in
//! what hooks are told.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Numbers connections from 1 in the order in which they were taken; never used twice by a process.
/// It is `clientid` of the nginx dialect and, as text, `client_id` of the SRS dialect (contract hooks
/// 1.3 and 2.3), and is written in decimal everywhere. 0 is nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct ClientId(pub u64);

impl ClientId {
    /// The number of a new connection.
    pub fn next() -> Self {
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
