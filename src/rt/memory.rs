//! How the process uses memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::time::Duration;

// The allocator of the program, for what it offers beyond allocating.
use mimalloc as _;

use super::syscall::check;
use crate::media::Moment;

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

/// Makes a table smaller that a crowd has left. By itself it stays as large as it ever was, and may double
/// when as many come again: what was taken out leaves marks behind.
pub fn shrink_left<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    if table.capacity() >= TABLE_MIN && table.len() < table.capacity() / 8 {
        table.shrink_to(2 * table.len());
    }
}

/// How many there have been, of something whose memory is worth giving back when most of it has gone.
#[derive(Debug, Default)]
pub struct Crowd {
    /// The most since memory was given back last.
    peak: usize,
    /// When it is given back once more.
    again_at: Option<Moment>,
}

/// Fewer leave too little behind.
const CROWD_MIN: usize = 64;
/// Smaller tables stay as they are.
const TABLE_MIN: usize = 1_024;
/// How long other threads may take to free what this one has allocated.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Crowd {
    /// There are so many now; when fewer than half are left, the thread [gives back](give_back) what they had, and
    /// once more when other threads have had time to free their part.
    pub fn is_now(&mut self, count: usize, now: Moment) {
        self.peak = self.peak.max(count);
        let has_gone = self.peak >= CROWD_MIN && count < self.peak / 2;
        if has_gone {
            self.peak = count;
            self.again_at = Some(now + AGAIN_AFTER);
        } else if self.again_at.is_some_and(|at| at <= now) {
            self.again_at = None;
        } else {
            return;
        }
        give_back();
    }

    /// Whether it may have left something behind.
    pub fn is_large(&self) -> bool {
        self.peak >= CROWD_MIN || self.again_at.is_some()
    }

    /// When it wants to be asked again.
    pub fn next(&self) -> Option<Moment> {
        self.again_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_a_crowd_has_left_becomes_small() {
        let mut table: HashMap<u32, [u64; 8]> = (0..10_000).map(|key| (key, [0; 8])).collect();
        for key in 0..10_000 {
            table.remove(&key);
            shrink_left(&mut table);
            assert!(table.len() * 16 + 2 * TABLE_MIN > table.capacity(), "{}", table.len());
        }
        assert!(table.capacity() < TABLE_MIN);
    }

    #[test]
    fn a_crowd_is_large_until_what_it_left_is_given_back_twice() {
        let at = |ms| Moment::ZERO + Duration::from_millis(ms);
        let mut crowd = Crowd::default();
        crowd.is_now(CROWD_MIN - 1, at(0));
        assert!(!crowd.is_large());
        for count in [1_000, 500] {
            crowd.is_now(count, at(1));
            assert!(crowd.is_large() && crowd.next().is_none());
        }
        crowd.is_now(10, at(2));
        assert_eq!(crowd.next(), Some(at(1_002)));
        crowd.is_now(0, at(1_001));
        assert!(crowd.is_large());
        crowd.is_now(0, at(1_002));
        assert!(!crowd.is_large() && crowd.next().is_none());
    }
}
