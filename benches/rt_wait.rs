//! CPU time of a shard's thread per wake-up, for the ways to await a readiness set on a glommio
//! executor, and for a blocking `epoll_wait` as the floor (it would stop the executor's other tasks).
//!
//! `cargo bench --bench rt_wait`. Columns: microseconds of CPU per wake, user and system together, by
//! the thread's own clock; the best of three runs. `-`: a run did not finish in four times the time that
//! its wakes take; glommio 0.9 loses wake-ups (see `rt::executor`), and a way that waits for several of
//! its events per wake meets that more often.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use glommio::io::BufferedFile;
use io_uring::{IoUring, opcode, types};
use shardcast::media::Moment;
use shardcast::rt::clock;
use shardcast::rt::event_fd::EventFd;
use shardcast::rt::executor::{before, spawn_pinned};
use shardcast::rt::poller::Poller;
use shardcast::rt::waiter::{Waiter, Wake};

const WAKES: u32 = 2_000;
const GAP: Duration = Duration::from_micros(300);
/// Wall-clock time after which a run is given up; undisturbed it takes under a second.
const RUN_TIME_MAX: Duration = Duration::from_secs(3);

#[derive(Clone, Copy)]
enum Way {
    /// What `rt::waiter` does: the runtime's own POLL_ADD.
    Waiter,
    /// POLL_ADD on a ring of our own, whose completions signal an eventfd that the runtime reads.
    Ring { deferred: bool },
    /// `Waiter`, with the deadline as a timerfd in the set.
    TimerFd,
    /// Blocks the thread.
    Epoll,
}

#[derive(Clone, Copy)]
enum Load {
    /// Another thread writes every 300 µs; no deadline.
    Ready,
    /// The same, each wait with a deadline far away.
    ReadyWithDeadline,
    /// Nothing but deadlines, every 300 µs.
    Timer,
    /// Paced turns: a timer of 300 µs, then whatever came meanwhile (the set is ready each time).
    Paced,
}

fn main() {
    let ways = [
        ("runtime's POLL_ADD (rt::waiter)", Way::Waiter),
        ("own ring + eventfd", Way::Ring { deferred: false }),
        ("own ring, DEFER_TASKRUN + eventfd", Way::Ring { deferred: true }),
        ("runtime's POLL_ADD + timerfd", Way::TimerFd),
        ("blocking epoll_wait (floor)", Way::Epoll),
    ];
    println!(
        "{:36}{:>9}{:>16}{:>9}{:>9}",
        "us of CPU per wake", "ready", "ready+deadline", "timer", "paced"
    );
    for (name, way) in ways {
        print!("{name:36}");
        for (load, width) in
            [(Load::Ready, 9), (Load::ReadyWithDeadline, 16), (Load::Timer, 9), (Load::Paced, 9)]
        {
            match best(way, load) {
                Some(cost) => print!("{cost:>width$.2}"),
                None => print!("{:>width$}", "-"),
            }
        }
        println!();
    }
}

/// Of three runs; `None` as soon as one of them does not finish.
fn best(way: Way, load: Load) -> Option<f64> {
    let runs: Option<Vec<f64>> = (0..3).map(|_| measure(way, load)).collect();
    runs?.into_iter().min_by(f64::total_cmp)
}

fn measure(way: Way, load: Load) -> Option<f64> {
    let event = Arc::new(EventFd::new().unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let writes = !matches!(load, Load::Timer);
    let writer = {
        let (event, stop) = (Arc::clone(&event), Arc::clone(&stop));
        std::thread::spawn(move || {
            while writes && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(GAP);
                event.write();
            }
        })
    };
    let (result, finished) = mpsc::channel();
    // An executor that has not finished is left behind; the process ends without it.
    let _thread = spawn_pinned("bench", Some(0), move || async move {
        let mut poller = Poller::new(64).unwrap();
        poller.add_doorbell(&*event).unwrap();
        let mut wait: Box<dyn AnyWaiter> = match way {
            Way::Waiter => Box::new(Waiter::new(&poller).unwrap()),
            Way::Ring { deferred } => Box::new(RingWaiter::new(&poller, deferred).unwrap()),
            Way::TimerFd => Box::new(TimerFdWaiter::new(&poller).unwrap()),
            Way::Epoll => Box::new(EpollWaiter(poller.as_fd().try_clone_to_owned().unwrap())),
        };
        let mut ready = Vec::new();
        let mut start = Duration::ZERO;
        // The first tenth warms up.
        for round in 0..WAKES + WAKES / 10 {
            if round == WAKES / 10 {
                start = clock::thread_cpu();
            }
            let now = clock::now();
            match load {
                Load::Ready => _ = wait.wait(None).await,
                Load::ReadyWithDeadline => _ = wait.wait(Some(now + Duration::from_secs(5))).await,
                Load::Timer => _ = wait.wait(Some(now + GAP)).await,
                Load::Paced => glommio::timer::sleep(GAP).await,
            }
            poller.poll_now(&mut ready).unwrap();
            if !ready.is_empty() {
                event.drain();
            }
        }
        let cost = (clock::thread_cpu() - start).as_secs_f64() * 1e6 / f64::from(WAKES);
        _ = result.send(cost);
    })
    .unwrap();
    let cost = finished.recv_timeout(RUN_TIME_MAX).ok();
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    cost
}

type Waiting<'a> = Pin<Box<dyn Future<Output = Wake> + 'a>>;

trait AnyWaiter {
    fn wait(&mut self, until: Option<Moment>) -> Waiting<'_>;
}

impl AnyWaiter for Waiter {
    fn wait(&mut self, until: Option<Moment>) -> Waiting<'_> {
        Box::pin(Self::wait(self, until))
    }
}

struct EpollWaiter(std::os::fd::OwnedFd);

impl AnyWaiter for EpollWaiter {
    fn wait(&mut self, until: Option<Moment>) -> Waiting<'_> {
        let until = until.unwrap_or(Moment::MAX).since(clock::now()).min(Duration::from_secs(5));
        let time = libc::timespec {
            tv_sec: until.as_secs() as libc::time_t,
            tv_nsec: until.subsec_nanos().into(),
        };
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd and a valid timespec.
        let ready = unsafe { libc::ppoll(&mut poll, 1, &time, std::ptr::null()) };
        Box::pin(async move { if ready == 1 { Wake::Ready } else { Wake::Deadline } })
    }
}

struct RingWaiter {
    ring: RefCell<IoUring>,
    fd: std::os::fd::OwnedFd,
    event: Rc<BufferedFile>,
    read: Option<Pin<Box<dyn Future<Output = ()>>>>,
    is_armed: bool,
    deferred: bool,
}

impl RingWaiter {
    fn new(poller: &Poller, deferred: bool) -> io::Result<Self> {
        let ring = if deferred {
            IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8)?
        } else {
            IoUring::builder().setup_single_issuer().build(8)?
        };
        // SAFETY: eventfd takes no pointers.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        ring.submitter().register_eventfd(event)?;
        // SAFETY: the descriptor was just created; the file becomes its owner.
        let event = Rc::new(unsafe { BufferedFile::from_raw_fd(event) });
        let fd = poller.as_fd().try_clone_to_owned()?;
        Ok(Self { ring: RefCell::new(ring), fd, event, read: None, is_armed: false, deferred })
    }

    async fn readable(&mut self) {
        loop {
            if !self.is_armed {
                let poll =
                    opcode::PollAdd::new(types::Fd(self.fd.as_raw_fd()), libc::POLLIN as u32);
                let mut ring = self.ring.borrow_mut();
                // SAFETY: the operation has no buffers.
                unsafe { ring.submission().push(&poll.build()).unwrap() };
                ring.submit().unwrap();
                self.is_armed = true;
            }
            let event = Rc::clone(&self.event);
            let read = self.read.get_or_insert_with(|| {
                Box::pin(async move {
                    event.read_at(0, 8).await.unwrap();
                })
            });
            read.as_mut().await;
            self.read = None;
            let mut ring = self.ring.borrow_mut();
            if self.deferred {
                ring.submit_and_wait(1).unwrap();
            }
            if ring.completion().count() > 0 {
                self.is_armed = false;
                return;
            }
        }
    }
}

impl AnyWaiter for RingWaiter {
    fn wait(&mut self, until: Option<Moment>) -> Waiting<'_> {
        Box::pin(race(until, self.readable()))
    }
}

async fn race(until: Option<Moment>, readable: impl Future<Output = ()>) -> Wake {
    match until {
        None => {
            readable.await;
            Wake::Ready
        }
        Some(until) => before(until, readable).await.map_or(Wake::Deadline, |()| Wake::Ready),
    }
}

struct TimerFdWaiter {
    inner: Waiter,
    timer: std::fs::File,
}

impl TimerFdWaiter {
    fn new(poller: &Poller) -> io::Result<Self> {
        // SAFETY: timerfd_create takes no pointers.
        let fd = unsafe {
            libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK)
        };
        // SAFETY: the descriptor was just created.
        let timer = unsafe { std::fs::File::from_raw_fd(fd) };
        poller.add(&timer, 1)?;
        Ok(Self { inner: Waiter::new(poller)?, timer })
    }
}

impl AnyWaiter for TimerFdWaiter {
    fn wait(&mut self, until: Option<Moment>) -> Waiting<'_> {
        if let Some(until) = until {
            let nanos = until.as_nanos();
            let spec = libc::itimerspec {
                it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: libc::timespec {
                    tv_sec: (nanos / 1_000_000_000) as libc::time_t,
                    tv_nsec: (nanos % 1_000_000_000) as libc::c_long,
                },
            };
            let fd: BorrowedFd<'_> = self.timer.as_fd();
            // SAFETY: a valid specification.
            let set = unsafe {
                libc::timerfd_settime(
                    fd.as_raw_fd(),
                    libc::TFD_TIMER_ABSTIME,
                    &spec,
                    std::ptr::null_mut(),
                )
            };
            assert_eq!(set, 0);
        }
        Box::pin(async move {
            self.inner.wait(None).await;
            // Setting the time makes it unreadable again, so it need not be read.
            Wake::Ready
        })
    }
}
