//! A network of its own for a thread and what it starts, so that two servers can have the same port, links
//! go down and names are answered as the test wants.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::thread;

/// Runs `work` on a thread with a network that has nothing but loopback. Threads and processes that it
/// starts are in the same network. Needs the right to make one (root in the usual container).
pub(crate) fn with_own_network<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: a plain flag; it concerns only the calling thread.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            let error = io::Error::last_os_error();
            assert_eq!(result, 0, "no network namespace (is this root?): {error}");
            raise_loopback();
            work()
        });
        match thread.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Lets the calling thread, and processes that it starts from now on, read another file in place of `path`.
/// To be called within [`with_own_network`], whose thread ends with it.
pub(crate) fn replace_file(path: &Path, by: &Path) {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).expect("a plain path");
    // SAFETY: a plain flag; it concerns only the calling thread.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    assert_eq!(result, 0, "no mount namespace: {}", io::Error::last_os_error());
    let mount = |source: &CString, target: &CString, flags: libc::c_ulong| {
        // SAFETY: both texts end with zero and live longer than the call.
        let result = unsafe {
            libc::mount(source.as_ptr(), target.as_ptr(), ptr::null(), flags, ptr::null())
        };
        assert_eq!(result, 0, "{target:?} cannot be mounted: {}", io::Error::last_os_error());
    };
    // What is mounted here stays here.
    mount(&text(Path::new("none")), &text(Path::new("/")), libc::MS_REC | libc::MS_PRIVATE);
    mount(&text(by), &text(path), libc::MS_BIND);
}

fn raise_loopback() {
    // SAFETY: plain flags; the descriptor is owned below.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    assert!(socket >= 0, "a socket: {}", io::Error::last_os_error());
    // SAFETY: the descriptor was just opened.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: all zeroes is a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a valid ifreq.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) };
    assert_eq!(result, 0, "loopback cannot be raised: {}", io::Error::last_os_error());
}
