//! How the process uses memory.

use std::io;

// The allocator of the program, for what it offers beyond allocating.
use mimalloc as _;

use super::syscall::check;

unsafe extern "C" {
    /// Frees what is empty, and with `force` gives it back to the kernel (mimalloc's own header).
    fn mi_collect(force: bool);
}

/// Keeps the kernel from backing this process with huge pages. The allocator asks for them, and then a
/// shard's first small block costs 2 MiB: 500 viewers took 38 MiB with them and 16 MiB without. Call it
/// first in `main`.
pub fn refuse_huge_pages() -> io::Result<()> {
    // SAFETY: no pointers; the arguments that prctl wants to be zero are zero.
    check(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) }).map(drop)
}

/// Gives memory that is free back to the kernel: that of the calling thread, and what threads share. The
/// allocator does it only when something else is allocated or freed, which after a peak may be much later.
/// Takes up to some milliseconds.
pub fn give_back() {
    // SAFETY: it may be called at any time; a program with another allocator has nothing to give back.
    unsafe { mi_collect(true) };
}
