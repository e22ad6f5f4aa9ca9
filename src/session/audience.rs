//! How many watch a stream, over all shards: looked at when another one comes, so that the viewers of a
//! small stream can be brought together on one shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The viewers of one stream. Copies count together.
#[derive(Clone, Debug, Default)]
pub struct Audience(Arc<AtomicUsize>);

/// A viewer that is counted, until this is dropped.
#[derive(Debug)]
pub struct AudiencePlace(Audience);

impl Audience {
    /// Viewers that play, and those on their way to another shard.
    pub fn len(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts one more.
    pub fn join(&self) -> AudiencePlace {
        self.0.fetch_add(1, Ordering::Relaxed);
        AudiencePlace(self.clone())
    }
}

impl Drop for AudiencePlace {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
