//! What other programs do to a latency that is measured: this process and its children go before them
//! where that is allowed, and how long runnable threads wait nevertheless is watched beside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a metronome looks.
const BEAT: Duration = Duration::from_millis(2);
/// A time in which a thread was held up for longer says nothing about the server.
const DISTURBED: Duration = Duration::from_millis(10);

/// Threads that want to run every 2 ms and note how late they were.
pub(crate) struct Noise {
    stop: Arc<AtomicBool>,
    begin: Instant,
    metronomes: Vec<(Arc<Metronome>, JoinHandle<()>)>,
}

#[derive(Default)]
struct Metronome {
    worst_nanos: AtomicU64,
    /// When it wants to run next, since the begin.
    due_nanos: AtomicU64,
}

/// Lets this thread, and all threads and processes that it starts from now on, go before others. Not
/// allowed to ordinary users; then they are measured among the others.
pub(crate) fn go_first() {
    // SAFETY: setpriority takes plain numbers; 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -19) };
}

impl Noise {
    /// Starts one metronome per core of a small machine.
    pub(crate) fn listen() -> Self {
        let (stop, begin) = (Arc::<AtomicBool>::default(), Instant::now());
        let metronomes = (0..2)
            .map(|_| {
                let (stop, metronome) = (Arc::clone(&stop), Arc::<Metronome>::default());
                let shared = Arc::clone(&metronome);
                let thread = thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let due = begin.elapsed() + BEAT;
                        shared.due_nanos.store(nanos(due), Ordering::Relaxed);
                        thread::sleep(BEAT);
                        let late = begin.elapsed().saturating_sub(due);
                        shared.worst_nanos.fetch_max(nanos(late), Ordering::Relaxed);
                    }
                });
                (metronome, thread)
            })
            .collect();
        Self { stop, begin, metronomes }
    }

    /// The longest time that a metronome was held up since the last call; one that is late now counts.
    pub(crate) fn take_worst(&self) -> Duration {
        let now = nanos(self.begin.elapsed());
        let worst = self.metronomes.iter().map(|(metronome, _)| {
            let late = now.saturating_sub(metronome.due_nanos.load(Ordering::Relaxed));
            metronome.worst_nanos.swap(0, Ordering::Relaxed).max(late)
        });
        Duration::from_nanos(worst.max().unwrap_or(0))
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for (_, thread) in self.metronomes.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Sorts what was measured by how long threads were held up meanwhile, and keeps what was undisturbed,
/// but at least the calmer half. Gives also the longest hold-up of what is kept.
pub(crate) fn keep_undisturbed<T>(
    measured: &mut Vec<T>,
    held_up: impl Fn(&T) -> Duration,
) -> Duration {
    measured.sort_by_key(&held_up);
    let undisturbed = measured.partition_point(|one| held_up(one) <= DISTURBED);
    measured.truncate(undisturbed.max(measured.len().div_ceil(2)));
    measured.last().map_or(Duration::ZERO, held_up)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
