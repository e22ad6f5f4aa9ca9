//! The readiness set of a shard: one epoll set of all its sockets and its doorbell, level-triggered,
//! asked without blocking once per turn. Waiting for it is the [`waiter`](super::waiter)'s work.
//!
//! Level-triggered, because a turn may leave bytes in a socket (its share is bounded): the next turn
//! finds it again without a list of its own.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::syscall::{check, uninterrupted};

/// The token of the doorbell; no other descriptor may use it.
pub const DOORBELL: u64 = u64::MAX;

/// An epoll set.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    events: Box<[libc::epoll_event]>,
}

/// A descriptor that wants attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// As given to [`Poller::add`], or [`DOORBELL`].
    pub token: u64,
    /// A read will not block: bytes, the peer's end of stream, or an error to fetch.
    pub readable: bool,
    /// The peer has closed its side, or the connection is broken. Bytes may still be waiting.
    pub hangup: bool,
}

impl Poller {
    /// An empty set that reports at most `events_max` descriptors per call.
    pub fn new(events_max: usize) -> io::Result<Self> {
        // SAFETY: epoll_create1 takes no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor was just created and nobody else owns it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; events_max.max(1)];
        Ok(Self { epoll, events: events.into_boxed_slice() })
    }

    /// Adds the shard's doorbell under the token [`DOORBELL`].
    pub fn add_doorbell(&self, doorbell: impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, doorbell.as_fd(), libc::EPOLLIN, DOORBELL)
    }

    /// Watches a descriptor for bytes and for the peer's hang-up. Fails when it is in the set already,
    /// when `token` is [`DOORBELL`], and at the kernel's limit of watches.
    pub fn add(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        if token == DOORBELL {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the token of the doorbell is reserved",
            ));
        }
        self.control(libc::EPOLL_CTL_ADD, fd.as_fd(), libc::EPOLLIN | libc::EPOLLRDHUP, token)
    }

    /// Stops reporting bytes of a descriptor in the set; a broken connection is still reported.
    pub fn pause(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd.as_fd(), 0, token)
    }

    /// Reports bytes and hang-up of a paused descriptor again.
    pub fn resume(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd.as_fd(), libc::EPOLLIN | libc::EPOLLRDHUP, token)
    }

    /// Reports the next bytes or the hang-up of a descriptor in the set, and then nothing, until this or
    /// [`resume`](Self::resume) is called again.
    pub fn watch_once(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        let interest = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLONESHOT;
        self.control(libc::EPOLL_CTL_MOD, fd.as_fd(), interest, token)
    }

    /// Takes a descriptor out. A descriptor that is closed while nobody else holds a copy of it leaves
    /// the set by itself.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd.as_fd(), 0, 0)
    }

    /// Replaces `out` by the descriptors that are ready now, without blocking. When there are more
    /// than `events_max`, the next call begins with those that were left out. Allocates only until
    /// `out` has room for `events_max`.
    pub fn poll_now(&mut self, out: &mut Vec<Ready>) -> io::Result<()> {
        out.clear();
        let capacity = libc::c_int::try_from(self.events.len()).unwrap_or(libc::c_int::MAX);
        let events = &mut self.events;
        let count = uninterrupted(|| {
            // SAFETY: `events` is an array of at least `capacity` events to write to.
            check(unsafe {
                libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), capacity, 0)
            })
        })?;
        let count = usize::try_from(count).unwrap_or(0);
        out.extend(events.iter().take(count).map(|event| {
            let bits = event.events as libc::c_int;
            let broken = bits & (libc::EPOLLERR | libc::EPOLLHUP) != 0;
            Ready {
                token: event.u64,
                readable: broken || bits & (libc::EPOLLIN | libc::EPOLLRDHUP) != 0,
                hangup: broken || bits & libc::EPOLLRDHUP != 0,
            }
        }));
        Ok(())
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: BorrowedFd<'_>,
        interest: libc::c_int,
        token: u64,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest as u32, u64: token };
        // SAFETY: `event` is valid for the call; both descriptors are open while borrowed.
        check(unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd.as_raw_fd(), &mut event)
        })
        .map(drop)
    }
}

impl AsFd for Poller {
    /// Readable while some descriptor of the set is ready.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::rt::event_fd::EventFd;

    fn poll(poller: &mut Poller) -> Vec<Ready> {
        let mut out = Vec::new();
        poller.poll_now(&mut out).unwrap();
        out.sort_by_key(|ready| ready.token);
        out
    }

    #[test]
    fn reports_bytes_until_they_are_read() {
        let mut poller = Poller::new(8).unwrap();
        let (mut near, mut far) = UnixStream::pair().unwrap();
        poller.add(&near, 7).unwrap();
        assert_eq!(poll(&mut poller), []);
        far.write_all(b"ab").unwrap();
        let expected = [Ready { token: 7, readable: true, hangup: false }];
        assert_eq!(poll(&mut poller), expected);
        near.read_exact(&mut [0]).unwrap();
        assert_eq!(poll(&mut poller), expected);
        near.read_exact(&mut [0]).unwrap();
        assert_eq!(poll(&mut poller), []);
    }

    #[test]
    fn reports_a_hangup_and_forgets_what_was_removed() {
        let mut poller = Poller::new(8).unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        let (other, other_far) = UnixStream::pair().unwrap();
        poller.add(&near, 1).unwrap();
        poller.add(&other, 2).unwrap();
        drop(far);
        drop(other_far);
        poller.remove(&other).unwrap();
        assert_eq!(poll(&mut poller), [Ready { token: 1, readable: true, hangup: true }]);
    }

    #[test]
    fn a_paused_descriptor_is_silent_until_resumed() {
        let mut poller = Poller::new(8).unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        poller.add(&near, 1).unwrap();
        poller.pause(&near, 1).unwrap();
        far.write_all(b"a").unwrap();
        assert_eq!(poll(&mut poller), []);
        poller.resume(&near, 1).unwrap();
        assert_eq!(poll(&mut poller).len(), 1);
    }

    #[test]
    fn a_small_call_capacity_rotates_over_all() {
        let mut poller = Poller::new(2).unwrap();
        let pairs: Vec<_> = (0..5).map(|_| UnixStream::pair().unwrap()).collect();
        for (token, (near, far)) in (0..).zip(&pairs) {
            poller.add(near, token).unwrap();
            (&*far).write_all(b"a").unwrap();
        }
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let ready = poll(&mut poller);
            assert!(ready.len() <= 2);
            seen.extend(ready.iter().map(|ready| ready.token));
        }
        assert_eq!(seen.len(), 5);
    }

    #[test]
    fn the_doorbell_has_its_own_token() {
        let mut poller = Poller::new(8).unwrap();
        let event = EventFd::new().unwrap();
        assert!(poller.add(&event, DOORBELL).is_err());
        poller.add_doorbell(&event).unwrap();
        event.write();
        assert_eq!(poll(&mut poller)[0].token, DOORBELL);
    }
}
