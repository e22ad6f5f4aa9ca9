//! How long this machine keeps runnable threads waiting: the part of a measured latency that other
//! programs cause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a metronome looks.
const BEAT: Duration = Duration::from_millis(2);

/// Two threads that want to run every 2 ms and note how late they were; about as many as there are
/// between a publisher and a viewer.
pub(crate) struct Noise {
    stop: Arc<AtomicBool>,
    worst_nanos: Arc<AtomicU64>,
    metronomes: Vec<JoinHandle<()>>,
}

impl Noise {
    /// Starts listening.
    pub(crate) fn listen() -> Self {
        let (stop, worst_nanos) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let metronomes = (0..2)
            .map(|_| {
                let (stop, worst) = (Arc::clone(&stop), Arc::clone(&worst_nanos));
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let due = Instant::now() + BEAT;
                        thread::sleep(BEAT);
                        let late = due.elapsed().as_nanos();
                        worst.fetch_max(u64::try_from(late).unwrap_or(u64::MAX), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Self { stop, worst_nanos, metronomes }
    }

    /// The longest time that a metronome was held up since the last call.
    pub(crate) fn take_worst(&self) -> Duration {
        Duration::from_nanos(self.worst_nanos.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for metronome in self.metronomes.drain(..) {
            let _ = metronome.join();
        }
    }
}
