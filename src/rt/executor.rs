//! Executors: one thread each with a glommio executor on it, pinned or not; tasks, sleeping, and
//! blocking work on threads of its own.
//!
//! How glommio 0.9 is set up, and why:
//! - no spinning, the default task queue only (a panic in another queue aborts the process);
//! - 64 KiB of registered memory: media never passes through glommio's buffers, and three rings times
//!   the default of 10 MiB does not fit the usual memlock limit;
//! - no stall detector: it takes SIGUSR1, which operators send to have the logs opened anew;
//! - the threads for blocking work are not pinned, so that they do not steal the executor's core;
//! - no preemption timer. It is armed before the ready tasks are run; when it has fired already at that
//!   point (the thread was off its CPU for so long), glommio runs none of them and parks, although they
//!   are ready: a lost wake-up, within seconds on a busy machine with 1 ms, and for ever when it strikes
//!   the task that would arm the next timer. Tasks here go to sleep by themselves: a media shard after
//!   each turn, the control shard after a slice of work.

use std::any::Any;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};

use super::clock;
use crate::media::Moment;

/// Longer than any executor runs between two waits: the timer is armed anew at each of them.
const PREEMPT_TIMER: Duration = Duration::from_secs(24 * 3600);
const IO_MEMORY_BYTES: usize = 64 * 1024;
/// Operations in flight per ring; more wait in a queue. A media shard has a handful, the control shard
/// one or two per connection.
const RING_DEPTH: usize = 256;

/// A thread that runs an executor. Dropping it leaves the thread running.
#[derive(Debug)]
pub struct ExecutorThread<T> {
    /// None only when the executor could not be made, and then nobody holds this.
    thread: thread::JoinHandle<Option<T>>,
}

/// A panic that was caught at a boundary, with its message.
#[derive(Debug, thiserror::Error)]
#[error("a panic: {message}")]
pub struct Panicked {
    /// The panic's message, if it was a text.
    pub message: String,
}

/// Runs the future that `make` makes on a new thread called `name` (the kernel shows 15 bytes of it),
/// pinned to `cpu` if given. One more thread is kept for blocking work. Returns when the executor is
/// ready, or with the reason why it cannot be.
pub fn spawn_pinned<M, F>(
    name: &str,
    cpu: Option<usize>,
    make: M,
) -> io::Result<ExecutorThread<F::Output>>
where
    M: FnOnce() -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Send + 'static,
{
    spawn_with_pool(name, cpu, 1, make)
}

/// [`spawn_pinned`] with `blocking_threads` threads for [`spawn_blocking`].
pub fn spawn_with_pool<M, F>(
    name: &str,
    cpu: Option<usize>,
    blocking_threads: usize,
    make: M,
) -> io::Result<ExecutorThread<F::Output>>
where
    M: FnOnce() -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Send + 'static,
{
    let (ready, is_ready) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let executor = match executor(cpu, blocking_threads) {
            Ok(executor) => executor,
            Err(error) => {
                let _ = ready.send(Err(error));
                // The spawner gets the error and never joins.
                return None;
            }
        };
        let _ = ready.send(Ok(()));
        Some(executor.run(async move { make().await }))
    })?;
    match is_ready.recv() {
        Ok(Ok(())) => Ok(ExecutorThread { thread }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other("the executor's thread panicked while starting")),
    }
}

fn executor(cpu: Option<usize>, blocking_threads: usize) -> io::Result<LocalExecutor> {
    LocalExecutorBuilder::new(cpu.map_or(Placement::Unbound, Placement::Fixed))
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(blocking_threads.max(1)))
        .make()
        .map_err(io::Error::from)
}

impl<T> ExecutorThread<T> {
    /// Blocks until the executor's future is done. A panic of the executor or of one of its tasks is
    /// an error.
    pub fn join(self) -> Result<T, Panicked> {
        match self.thread.join() {
            Ok(Some(output)) => Ok(output),
            Ok(None) => Err(Panicked { message: "the executor never started".to_owned() }),
            Err(payload) => Err(Panicked::new(payload.as_ref())),
        }
    }

    /// True when [`join`](Self::join) would not block.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

impl Panicked {
    fn new(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied());
        Self { message: text.unwrap_or("without a message").to_owned() }
    }
}

/// Starts a task on the executor of the calling thread and lets it run to its end. Costs a few hundred
/// nanoseconds: one per connection, never one per frame.
pub fn spawn_local(future: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(future).detach();
}

/// Suspends the task for at least `duration`.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// Suspends the task until `deadline`; not at all when it has passed. Later than a hundred years is
/// never.
pub async fn sleep_until(deadline: Moment) {
    let left = deadline.since(clock::now());
    if left >= FOREVER {
        std::future::pending::<()>().await;
    } else if !left.is_zero() {
        sleep(left).await;
    }
}

/// Blocks the executor's thread until `deadline`: for an executor with one task only, and for no
/// longer than a turn. It costs one call; a timer of the runtime has its rings told of it and asked: with 500
/// pauses a second that was an eighth of a shard's CPU time.
pub fn pause_until(deadline: Moment) {
    let left = deadline.since(clock::now());
    if !left.is_zero() {
        thread::sleep(left);
    }
}

/// The runtime adds durations to an `Instant`, which overflows with `Moment::MAX`.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Lets other tasks run if a timer or another urgent event waits.
pub async fn yield_if_needed() {
    glommio::yield_if_needed().await;
}

/// `future`'s output, or none when `deadline` came first; then the future is dropped.
pub async fn before<T>(deadline: Moment, future: impl Future<Output = T>) -> Option<T> {
    futures_lite::future::or(async { Some(future.await) }, async {
        sleep_until(deadline).await;
        None
    })
    .await
}

/// Runs `work` on one of the executor's threads for blocking work. A panic in it costs only this call;
/// the bare runtime would lose the thread and never answer.
pub async fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    glommio::executor()
        .spawn_blocking(move || {
            catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Panicked::new(payload.as_ref()))
        })
        .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::rt::event_fd::EventFd;
    use crate::rt::waiter::Waiter;

    fn run<F>(make: impl FnOnce() -> F + Send + 'static) -> F::Output
    where
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        spawn_pinned("test", None, make).unwrap().join().unwrap()
    }

    fn first_usable_cpu() -> usize {
        crate::rt::probe::usable_cpus()[0]
    }

    #[test]
    fn a_pinned_executor_runs_on_its_cpu_under_its_name() {
        let cpu = first_usable_cpu();
        let (cpus, name) = spawn_pinned("shard-7", Some(cpu), || async {
            (crate::rt::probe::usable_cpus(), thread::current().name().map(str::to_owned))
        })
        .unwrap()
        .join()
        .unwrap();
        assert_eq!(cpus, [cpu]);
        assert_eq!(name.as_deref(), Some("shard-7"));
    }

    #[test]
    fn a_cpu_that_does_not_exist_is_an_error_and_not_a_panic() {
        assert!(spawn_pinned("test", Some(100_000), || async {}).is_err());
    }

    #[test]
    fn a_panic_of_the_future_or_of_a_task_is_reported_by_join() {
        let thread = spawn_pinned("test", None, || async { panic!("on purpose") }).unwrap();
        let error: Result<(), _> = thread.join();
        assert!(error.is_err());
        let thread = spawn_pinned("test", None, || async {
            spawn_local(async { panic!("on purpose, too") });
            sleep(Duration::from_secs(20)).await;
        })
        .unwrap();
        let error = thread.join().unwrap_err();
        assert!(error.to_string().contains("on purpose, too"), "{error}");
    }

    #[test]
    fn sleeping_takes_its_time_and_lets_others_run() {
        let (slept, others) = run(|| async {
            let others = Rc::new(Cell::new(0));
            let count = Rc::clone(&others);
            spawn_local(async move {
                loop {
                    sleep(Duration::from_millis(1)).await;
                    count.set(count.get() + 1);
                }
            });
            let start = clock::now();
            sleep_until(start + Duration::from_millis(30)).await;
            sleep_until(start).await;
            (clock::now().since(start), others.get())
        });
        assert!(slept >= Duration::from_millis(30));
        assert!(others > 2, "{others}");
    }

    #[test]
    fn a_deadline_ends_a_wait_and_never_is_never() {
        let (late, early) = run(|| async {
            let soon = clock::now() + Duration::from_millis(2);
            let late = before(soon, sleep_until(Moment::MAX)).await;
            (late, before(Moment::MAX, async { 7 }).await)
        });
        assert_eq!((late, early), (None, Some(7)));
    }

    /// On a CPU that others keep busy a thread is often off it for long. Any wake-up lost meanwhile,
    /// by an event or by a timer, ends the exchange and so the test.
    #[test]
    fn no_wake_up_is_lost_on_a_busy_cpu() {
        const ROUNDS: usize = 6_000;
        let cpu = first_usable_cpu();
        let is_over = Arc::new(AtomicBool::new(false));
        let hog = {
            let is_over = Arc::clone(&is_over);
            spawn_pinned("hog", Some(cpu), || async move {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
            .unwrap()
        };
        let event = Arc::new(EventFd::new().unwrap());
        let writer = Arc::clone(&event);
        let (woken, is_woken) = mpsc::channel();
        let executor = spawn_pinned("test", Some(cpu), || async move {
            let mut waiter = Waiter::new(&*event).unwrap();
            for round in 0..ROUNDS {
                waiter.wait((round % 2 == 0).then_some(Moment::MAX)).await;
                event.drain();
                if round % 3 == 0 {
                    sleep(Duration::from_micros((round % 50) as u64)).await;
                }
                woken.send(()).unwrap();
            }
        });
        for _ in 0..ROUNDS {
            writer.write();
            is_woken.recv_timeout(Duration::from_secs(20)).expect("slept over a ready task");
        }
        executor.unwrap().join().unwrap();
        is_over.store(true, Ordering::Relaxed);
        hog.join().unwrap();
    }

    #[test]
    fn blocking_work_answers_also_after_panics() {
        let answers = run(|| async {
            let mut answers = Vec::new();
            for n in 0..6 {
                let answer = spawn_blocking(move || {
                    assert!(n % 2 == 0, "odd {n}");
                    n
                });
                answers.push(answer.await.map_err(|panic| panic.message));
            }
            answers
        });
        assert_eq!(answers[4], Ok(4));
        assert_eq!(answers[5], Err("odd 5".to_owned()));
    }
}
