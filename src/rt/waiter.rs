//! A task's wait for a descriptor that the runtime knows nothing of (a shard's readiness set, a
//! doorbell) or for a deadline.
//!
//! glommio 0.9 has no public call that awaits the readiness of a foreign descriptor. What it has: a
//! `TcpStream` made of a raw descriptor puts one `POLL_ADD` of it on the executor's ring at once, and
//! does not touch the descriptor before that poll is answered. So one poll is one such stream, made of
//! a copy of the descriptor (the stream closes what it was made of). When the poll is answered, the
//! stream tries `recv`, which on anything but a socket fails with ENOTSOCK: that error is the signal.
//!
//! The poll is armed once and left pending over waits that end by their deadline, so a wait in paced
//! turns costs a timer only. It is level-triggered: armed on a descriptor that is readable already, it
//! is answered at once, so that nothing is lost between two waits.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::time::Duration;

use futures_lite::AsyncRead;
use glommio::net::TcpStream;

use super::clock;
use super::executor::{before, sleep, yield_if_needed};
use super::syscall::{check, uninterrupted};
use crate::media::Moment;

/// What ended a [`Waiter::wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The descriptor is readable.
    Ready,
    /// The deadline passed first.
    Deadline,
}

/// Waits for one descriptor, which must not be a socket. Belongs to the executor of the thread on which
/// [`wait`](Self::wait) is called first.
#[derive(Debug)]
pub struct Waiter {
    fd: OwnedFd,
    pending: Option<PendingPoll>,
}

#[derive(Debug)]
struct PendingPoll {
    stream: TcpStream,
    /// Armed by an earlier wait: what it reports may have been dealt with since.
    is_old: bool,
}

/// How often a process that is out of descriptors looks at the descriptor instead of polling it.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

impl Waiter {
    /// For the readiness of `fd`: a [`Poller`](super::poller::Poller), a
    /// [`Doorbell`](super::doorbell::Doorbell). Keeps a copy of the descriptor.
    pub fn new(fd: impl AsFd) -> io::Result<Self> {
        Ok(Self { fd: fd.as_fd().try_clone_to_owned()?, pending: None })
    }

    /// Suspends the task until the descriptor is readable or `until` passes (none: no deadline). When
    /// both hold, it is `Ready`. Dropping the future loses nothing.
    pub async fn wait(&mut self, until: Option<Moment>) -> Wake {
        let Some(until) = until else {
            self.readable().await;
            return Wake::Ready;
        };
        if until <= clock::now() {
            yield_if_needed().await;
            return if self.is_readable() { Wake::Ready } else { Wake::Deadline };
        }
        match before(until, self.readable()).await {
            Some(()) => Wake::Ready,
            None => Wake::Deadline,
        }
    }

    async fn readable(&mut self) {
        if let Some(poll) = &mut self.pending {
            poll.is_old = true;
        }
        loop {
            if self.pending.is_none() {
                self.pending = PendingPoll::arm(&self.fd).ok();
            }
            let was_told = match &mut self.pending {
                Some(poll) => {
                    poll.answered().await;
                    !poll.is_old
                }
                None => {
                    sleep(LOOK_INTERVAL).await;
                    false
                }
            };
            self.pending = None;
            if was_told || self.is_readable() {
                return;
            }
        }
    }

    fn is_readable(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd, whose descriptor is open.
        let ready = uninterrupted(|| check(unsafe { libc::poll(&mut poll, 1, 0) }));
        // An error (out of memory) must not make the caller wait: it looks for itself.
        !matches!(ready, Ok(0))
    }
}

impl PendingPoll {
    /// Fails when the process is out of descriptors.
    fn arm(fd: &OwnedFd) -> io::Result<Self> {
        let copy = fd.try_clone()?.into_raw_fd();
        // SAFETY: the stream becomes the only owner of the copy. That it is no socket is fine: the
        // stream only polls it and calls `recv` on it, which fails without any effect.
        let stream = unsafe { TcpStream::from_raw_fd(copy) };
        Ok(Self { stream, is_old: false })
    }

    async fn answered(&mut self) {
        let answer = poll_fn(|context| {
            // Pending while the poll is in the ring; afterwards the error of `recv`.
            Pin::new(&mut self.stream).poll_read(context, &mut [0])
        })
        .await;
        debug_assert_eq!(
            answer.map_err(|error| error.raw_os_error()).err(),
            Some(Some(libc::ENOTSOCK)),
            "a waiter is for descriptors that are not sockets"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;
    use crate::rt::event_fd::EventFd;
    use crate::rt::executor::{spawn_local, spawn_pinned};
    use crate::rt::poller::{Poller, Ready};

    fn run<F>(make: impl FnOnce() -> F + Send + 'static) -> F::Output
    where
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        spawn_pinned("test", None, make).unwrap().join().unwrap()
    }

    fn in_ms(ms: u64) -> Option<Moment> {
        Some(clock::now() + Duration::from_millis(ms))
    }

    #[test]
    fn a_deadline_ends_a_wait_and_the_next_one_still_hears() {
        run(|| async {
            let event = EventFd::new().unwrap();
            let mut waiter = Waiter::new(&event).unwrap();
            for _ in 0..3 {
                let start = clock::now();
                assert_eq!(waiter.wait(in_ms(5)).await, Wake::Deadline);
                assert!(clock::now().since(start) >= Duration::from_millis(5));
            }
            assert_eq!(waiter.wait(Some(clock::now())).await, Wake::Deadline);
            event.write();
            assert_eq!(waiter.wait(Some(clock::now())).await, Wake::Ready);
            assert_eq!(waiter.wait(None).await, Wake::Ready);
            assert_eq!(waiter.wait(None).await, Wake::Ready, "level-triggered");
            event.drain();
            assert_eq!(waiter.wait(in_ms(5)).await, Wake::Deadline);
        });
    }

    #[test]
    fn an_old_poll_that_reports_what_was_dealt_with_does_not_end_a_wait() {
        run(|| async {
            let event = EventFd::new().unwrap();
            let mut waiter = Waiter::new(&event).unwrap();
            assert_eq!(waiter.wait(in_ms(2)).await, Wake::Deadline);
            event.write();
            // The ring sees the write while the task sleeps.
            sleep(Duration::from_millis(2)).await;
            event.drain();
            assert_eq!(waiter.wait(in_ms(5)).await, Wake::Deadline);
        });
    }

    #[test]
    fn other_tasks_run_while_one_waits() {
        run(|| async {
            let event = std::rc::Rc::new(EventFd::new().unwrap());
            let mut waiter = Waiter::new(&*event).unwrap();
            spawn_local(async move {
                sleep(Duration::from_millis(3)).await;
                event.write();
            });
            assert_eq!(waiter.wait(None).await, Wake::Ready);
        });
    }

    /// A thread writes to sockets and an eventfd of one set at odd times, each only after the last
    /// write was seen, so that a lost wake-up stops everything and the deadline reports it.
    #[test]
    fn no_event_is_slept_over() {
        const WRITES: u64 = 100_000;
        static SEEN: AtomicU64 = AtomicU64::new(0);
        let doorbell = std::sync::Arc::new(EventFd::new().unwrap());
        let (mut far, near) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let ring = std::sync::Arc::clone(&doorbell);
        let writer = thread::spawn(move || {
            for round in 1..=WRITES {
                while SEEN.load(Ordering::Acquire) < round - 1 {
                    thread::yield_now();
                }
                for _ in 0..(round * 37 % 1_009) {
                    std::hint::spin_loop();
                }
                if round % 2 == 0 {
                    far.write_all(b"x").unwrap();
                } else {
                    ring.write();
                }
            }
        });
        let (wakes, spurious) = run(move || async move {
            let mut near = near;
            let mut poller = Poller::new(8).unwrap();
            poller.add_doorbell(&*doorbell).unwrap();
            poller.add(&near, 1).unwrap();
            let mut waiter = Waiter::new(&poller).unwrap();
            let mut ready: Vec<Ready> = Vec::new();
            let (mut wakes, mut spurious, mut seen) = (0_u64, 0_u64, 0);
            while seen < WRITES {
                // Every third wait has a deadline that often comes first; all must hear the next.
                let until = if wakes % 3 == 0 {
                    Duration::from_micros(20)
                } else {
                    Duration::from_secs(20)
                };
                let wake = waiter.wait(Some(clock::now() + until)).await;
                assert!(
                    wake == Wake::Ready || until < Duration::from_secs(1),
                    "slept over a write, {seen} seen"
                );
                wakes += 1;
                poller.poll_now(&mut ready).unwrap();
                if wake == Wake::Ready && ready.is_empty() {
                    spurious += 1;
                }
                for event in &ready {
                    let count = if event.token == 1 {
                        near.read(&mut [0; 8]).unwrap() as u64
                    } else {
                        doorbell.drain()
                    };
                    assert_eq!(count, 1);
                    seen += 1;
                    SEEN.store(seen, Ordering::Release);
                }
            }
            (wakes, spurious)
        });
        writer.join().unwrap();
        assert_eq!(spurious, 0);
        assert!(wakes < 20 * WRITES, "{wakes} wakes: a busy loop");
    }

    #[test]
    fn dropping_leaves_no_descriptor_behind() {
        fn descriptors_of(target: &OwnedFd) -> usize {
            let inode = |path: std::path::PathBuf| std::fs::read_link(path).ok();
            let wanted = inode(format!("/proc/self/fd/{}", target.as_raw_fd()).into());
            let all = std::fs::read_dir("/proc/self/fd").unwrap();
            all.filter(|entry| inode(entry.as_ref().unwrap().path()) == wanted).count()
        }
        // A pipe has a name of its own in /proc, so that tests running beside this one do not count.
        let mut ends = [0; 2];
        // SAFETY: two descriptors to write to, which are owned from then on.
        let (reader, mut writer) = unsafe {
            check(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC)).unwrap();
            (OwnedFd::from_raw_fd(ends[0]), std::fs::File::from_raw_fd(ends[1]))
        };
        let copy = reader.try_clone().unwrap();
        run(move || async move {
            let mut waiter = Waiter::new(&copy).unwrap();
            for _ in 0..100 {
                assert_eq!(waiter.wait(in_ms(0)).await, Wake::Deadline);
                writer.write_all(b"x").unwrap();
                assert_eq!(waiter.wait(None).await, Wake::Ready);
                std::fs::File::from(copy.try_clone().unwrap()).read_exact(&mut [0]).unwrap();
                assert_eq!(waiter.wait(in_ms(1)).await, Wake::Deadline);
            }
            // Dropped with a poll pending, and the executor ends right after.
        });
        assert_eq!(descriptors_of(&reader), 1);
    }
}
