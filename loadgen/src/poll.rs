//! The system calls that the standard library does not have: epoll, receive without copying or with the
//! moment of arrival, limits, signals.
//! All `unsafe` of this crate is here.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Events taken per call.
const EVENTS_MAX: usize = 1024;

/// What happened to a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    /// The token given at [`Poll::add`].
    pub(crate) token: u64,
    /// It can be read, or it has failed or ended, which a read will tell.
    pub(crate) readable: bool,
    /// It can be written.
    pub(crate) writable: bool,
}

/// A level-triggered epoll set.
#[derive(Debug)]
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poll {
    /// An empty set.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just created and has no other owner.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX] })
    }

    /// Watches a socket for reading, and for writing if `writable`. It leaves the set when closed.
    pub(crate) fn add(&self, fd: RawFd, token: u64, writable: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, writable)
    }

    /// Changes whether writing is watched.
    pub(crate) fn change(&self, fd: RawFd, token: u64, writable: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, writable)
    }

    /// Stops watching a socket.
    pub(crate) fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, false)
    }

    /// Waits for at most `timeout_ns` and appends what is ready to `ready`.
    pub(crate) fn wait(&mut self, timeout_ns: u64, ready: &mut Vec<Ready>) -> io::Result<()> {
        let timeout = libc::timespec {
            tv_sec: (timeout_ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (timeout_ns % 1_000_000_000) as libc::c_long,
        };
        let count = self.wait_exactly(&timeout)?;
        ready.extend(self.events.iter().take(count).map(|event| {
            let bits = event.events;
            let failed = bits & (libc::EPOLLERR | libc::EPOLLHUP) as u32 != 0;
            Ready {
                token: event.u64,
                readable: failed || bits & libc::EPOLLIN as u32 != 0,
                writable: failed || bits & libc::EPOLLOUT as u32 != 0,
            }
        }));
        Ok(())
    }

    fn wait_exactly(&mut self, timeout: &libc::timespec) -> io::Result<usize> {
        // SAFETY: `events` has room for the number that is passed; `timeout` outlives the call; no
        // signal mask is given.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as libc::c_int,
                std::ptr::from_ref(timeout),
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        match usize::try_from(count) {
            Ok(count) => Ok(count),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                error => Err(error),
            },
        }
    }

    fn control(&self, operation: i32, fd: RawFd, token: u64, writable: bool) -> io::Result<()> {
        let write = if writable { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | write) as u32, u64: token };
        // SAFETY: `event` is valid for the call, which copies it.
        let result =
            unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Takes up to `bytes_max` bytes that a TCP socket has received, without copying them: the kernel
/// only counts. 0 is the end of the connection.
pub(crate) fn discard(fd: RawFd, bytes_max: usize) -> io::Result<usize> {
    // SAFETY: with MSG_TRUNC, TCP writes nothing to the buffer, so it may be null (tcp(7)).
    let count = unsafe {
        libc::recv(fd, std::ptr::null_mut(), bytes_max, libc::MSG_TRUNC | libc::MSG_DONTWAIT)
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Lets the kernel note when what a socket receives has come.
pub(crate) fn note_arrivals(fd: RawFd) -> io::Result<()> {
    turn_on(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS)
}

/// Receives, and says when the last of it came, in nanoseconds of real time, if the socket notes that
/// ([`note_arrivals`]). 0 bytes are the end of the connection.
pub(crate) fn receive(fd: RawFd, buffer: &mut [u8]) -> io::Result<(usize, Option<u64>)> {
    // One message with a `timespec` fits; `u64` for its alignment.
    let mut notes = [0_u64; 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros is a header without address, parts and notes.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = notes.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&notes);
    // SAFETY: the header names one part, which is `buffer`, and room for notes; all outlive the call.
    let count = unsafe { libc::recvmsg(fd, &raw mut header, libc::MSG_DONTWAIT) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    let mut arrived = None;
    // SAFETY: the kernel has filled the header in; what follows reads notes within their room.
    let mut note = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !note.is_null() {
        // SAFETY: `note` is not null, so it points to a note within the room.
        let kind = unsafe { ((*note).cmsg_level, (*note).cmsg_type) };
        if kind == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
            // SAFETY: a note of this kind holds a `timespec`, wherever it is aligned.
            let at: libc::timespec =
                unsafe { std::ptr::read_unaligned(libc::CMSG_DATA(note).cast()) };
            arrived = Some(at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64);
        }
        // SAFETY: as above.
        note = unsafe { libc::CMSG_NXTHDR(&raw const header, note) };
    }
    Ok((count, arrived))
}

/// Lets a socket that is bound to an address find its port at connect, so that one port can serve
/// connections to several destinations.
pub(crate) fn bind_address_no_port(fd: RawFd) -> io::Result<()> {
    turn_on(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT)
}

fn turn_on(fd: RawFd, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is a `c_int` of the length that is passed, valid for the call.
    let result = unsafe { libc::setsockopt(fd, level, option, (&raw const on).cast(), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The limit of open descriptors, (now, at most).
pub(crate) fn descriptor_limit() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Raises the limit of open descriptors to the most that is allowed.
pub(crate) fn raise_descriptor_limit() -> io::Result<()> {
    let (_, most) = descriptor_limit()?;
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: `limit` is valid for the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets a process that will be started be killed when the thread that starts it ends, however that
/// ends.
pub(crate) fn end_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: between fork and exec only system calls, which take plain numbers, and a comparison.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                return Err(io::Error::last_os_error());
            }
            // It may have ended before the call.
            if libc::getppid().cast_unsigned() != parent {
                return Err(io::ErrorKind::Interrupted.into());
            }
            Ok(())
        });
    }
}

/// Asks a child of ours to end, as Ctrl-C would, if it has not ended yet.
pub(crate) fn interrupt(child: &mut Child) {
    // Once it has been waited for, its id may be another process's.
    if let Ok(None) = child.try_wait() {
        // SAFETY: plain numbers.
        unsafe { libc::kill(child.id().cast_signed(), libc::SIGINT) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn bytes_are_received_with_the_moment_at_which_they_came() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let mut sender =
            TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
        let (receiver, _) = listener.accept().expect("somebody connects");
        note_arrivals(receiver.as_raw_fd()).expect("the kernel notes arrivals");
        let real_ns = || {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            since.expect("it is later than 1970").as_nanos() as u64
        };
        let mut arrived = None;
        // The first bytes after the option is set may go unnoted: the kernel begins a little later.
        while arrived.is_none() {
            let before = real_ns();
            sender.write_all(&[7; 100]).expect("there is room");
            std::thread::sleep(std::time::Duration::from_millis(30));
            let mut buffer = [0; 1000];
            let (count, at) = receive(receiver.as_raw_fd(), &mut buffer).expect("bytes are there");
            assert_eq!(buffer[..count], [7; 100]);
            arrived = at.map(|at| (before, at, real_ns()));
        }
        let (before, at, after) = arrived.expect("it was noted");
        assert!(before <= at && at + 20_000_000 < after, "{before} {at} {after}");
    }

    #[test]
    fn discarded_bytes_are_counted_and_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let mut sender =
            TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
        let (receiver, _) = listener.accept().expect("somebody connects");
        let mut poll = Poll::new().expect("epoll works");
        poll.add(receiver.as_raw_fd(), 5, false).expect("a socket can be watched");
        sender.write_all(&[1; 1000]).expect("there is room");
        drop(sender);
        let mut total = 0;
        loop {
            let mut ready = Vec::new();
            poll.wait(10_000_000_000, &mut ready).expect("epoll works");
            assert_eq!(ready[0].token, 5);
            match discard(receiver.as_raw_fd(), 300).expect("bytes are there") {
                0 => break,
                count => total += count,
            }
        }
        assert_eq!(total, 1000);
    }
}
