//! A plain thread's wait for listening sockets and a stop signal.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use super::event_fd::EventFd;
use super::syscall::check;

/// What ended a [`poll_listeners`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// The indices in `ready` have a connection (or an error) to fetch with `accept`.
    Ready,
    /// The stop signal was written. It is not drained, so that every thread sees it.
    Stop,
    /// The timeout passed, or a signal interrupted the wait.
    Nothing,
}

/// Blocks the calling thread until one of `listeners` has a connection, `stop` is written or `timeout`
/// passes (none: no limit), and replaces `ready` by the indices of those that have one.
pub fn poll_listeners(
    listeners: &[BorrowedFd<'_>],
    stop: &EventFd,
    timeout: Option<Duration>,
    ready: &mut Vec<usize>,
) -> io::Result<Polled> {
    ready.clear();
    let mut polled: Vec<libc::pollfd> = std::iter::once(stop.as_fd())
        .chain(listeners.iter().copied())
        .map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    let timeout_ms = timeout.map_or(-1, |timeout| {
        libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
    });
    // SAFETY: `polled` is an array of that many pollfds, all open while borrowed.
    let called =
        check(unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout_ms) });
    match called {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Polled::Nothing),
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    let mut answers = polled.iter().map(|fd| fd.revents != 0);
    if answers.next() == Some(true) {
        return Ok(Polled::Stop);
    }
    ready.extend(answers.enumerate().filter(|(_, answered)| *answered).map(|(index, _)| index));
    Ok(if ready.is_empty() { Polled::Nothing } else { Polled::Ready })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn names_the_listener_that_has_a_connection() {
        let stop = EventFd::new().unwrap();
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let two = TcpListener::bind("127.0.0.1:0").unwrap();
        let fds = [one.as_fd(), two.as_fd()];
        let mut ready = Vec::new();
        let none = poll_listeners(&fds, &stop, Some(Duration::ZERO), &mut ready).unwrap();
        assert_eq!(none, Polled::Nothing);
        let _client = TcpStream::connect(two.local_addr().unwrap()).unwrap();
        assert_eq!(poll_listeners(&fds, &stop, None, &mut ready).unwrap(), Polled::Ready);
        assert_eq!(ready, [1]);
        stop.write();
        assert_eq!(poll_listeners(&fds, &stop, None, &mut ready).unwrap(), Polled::Stop);
        assert_eq!(ready, [0_usize; 0]);
    }
}
