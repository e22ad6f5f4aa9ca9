//! Waiting on a condition with a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// How long a condition that needs only a few milliseconds of work may take on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Asks `condition` until it gives a value; panics with `what` when `limit` has passed.
pub(crate) fn eventually<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(POLL_INTERVAL);
    }
}
