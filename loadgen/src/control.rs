//! What the threads of a run are told: when to measure, when to settle, when to stop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::viewer::Window;

/// Shared by all threads of a run.
#[derive(Debug)]
pub(crate) struct Control {
    window_start_ns: AtomicU64,
    window_end_ns: AtomicU64,
    settling: AtomicBool,
    viewers_finished: AtomicBool,
    publishers_finished: AtomicBool,
}

impl Control {
    /// Nothing is measured yet.
    pub(crate) fn new() -> Self {
        Self {
            window_start_ns: AtomicU64::new(u64::MAX),
            window_end_ns: AtomicU64::new(u64::MAX),
            settling: AtomicBool::new(false),
            viewers_finished: AtomicBool::new(false),
            publishers_finished: AtomicBool::new(false),
        }
    }

    /// Frames count that are due from now on.
    pub(crate) fn open_window(&self, now_ns: u64) {
        self.window_start_ns.store(now_ns, Ordering::Relaxed);
    }

    /// Frames that are due from now on are neither counted nor published.
    pub(crate) fn close_window(&self, now_ns: u64) {
        self.window_end_ns.store(now_ns, Ordering::Relaxed);
    }

    /// The moments between which frames count.
    pub(crate) fn window(&self) -> Window {
        Window {
            start_ns: self.window_start_ns.load(Ordering::Relaxed),
            end_ns: self.window_end_ns.load(Ordering::Relaxed),
        }
    }

    /// Everything is published: viewers see whether they have it.
    pub(crate) fn settle(&self) {
        self.settling.store(true, Ordering::Release);
    }

    /// Whether everything is published.
    pub(crate) fn is_settling(&self) -> bool {
        self.settling.load(Ordering::Acquire)
    }

    /// Viewers are to stop, before publishers say goodbye: an end that they cause is no fault.
    pub(crate) fn finish_viewers(&self) {
        self.viewers_finished.store(true, Ordering::Release);
    }

    /// Whether viewers are to stop.
    pub(crate) fn are_viewers_finished(&self) -> bool {
        self.viewers_finished.load(Ordering::Acquire)
    }

    /// Publishers are to say goodbye.
    pub(crate) fn finish_publishers(&self) {
        self.publishers_finished.store(true, Ordering::Release);
    }

    /// Whether publishers are to say goodbye.
    pub(crate) fn are_publishers_finished(&self) -> bool {
        self.publishers_finished.load(Ordering::Acquire)
    }
}
