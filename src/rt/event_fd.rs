//! An owned eventfd: a counter that makes a descriptor readable while it is not zero.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::syscall::{check, check_len, uninterrupted};

/// A non-blocking, close-on-exec eventfd.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A new one with the count 0. Fails when the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the descriptor was just created and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Makes the descriptor readable. It stays so until [`drain`](Self::drain).
    pub fn write(&self) {
        let one = 1_u64.to_ne_bytes();
        // EAGAIN means that the count is at its maximum: the descriptor is readable already. No
        // other error is possible on a descriptor that we own.
        let _ = uninterrupted(|| {
            // SAFETY: `one` is eight readable bytes, the size an eventfd asks for.
            check_len(unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) })
        });
    }

    /// Sets the count back to 0 and returns what it was: 0 when nobody wrote.
    pub fn drain(&self) -> u64 {
        let mut count = [0_u8; 8];
        let read = uninterrupted(|| {
            // SAFETY: `count` is eight writable bytes, the size an eventfd asks for.
            check_len(unsafe {
                libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len())
            })
        });
        match read {
            Ok(_) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drain_returns_the_writes_since_the_last_one() {
        let event = EventFd::new().unwrap();
        assert_eq!(event.drain(), 0);
        event.write();
        event.write();
        assert_eq!(event.drain(), 2);
        assert_eq!(event.drain(), 0);
    }
}
