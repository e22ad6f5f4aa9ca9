//! What a process and its children use, from /proc: CPU in nanoseconds, resident memory.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use thiserror::Error;

/// Why a process cannot be observed.
#[derive(Debug, Error)]
pub(crate) enum UsageError {
    /// There is no such process, or it belongs to somebody else.
    #[error("process {pid} cannot be observed: {error}")]
    Process {
        /// Its id.
        pid: u32,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The kernel counts no nanoseconds.
    #[error("the CPU of process {0} cannot be read: this kernel has no /proc/PID/task/*/schedstat")]
    NoSchedstat(u32),
}

/// A process to look at, and its children with it: nginx works in those.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed {
    pid: u32,
    with_children: bool,
}

/// A look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// CPU time of each thread that exists now, user and system, nanoseconds by thread id.
    threads: HashMap<u32, u64>,
    /// Resident memory; what processes share counts in each of them.
    pub(crate) rss_bytes: u64,
}

impl Usage {
    /// CPU time since an earlier look, nanoseconds: of all threads, and of the busiest. What a
    /// thread used that has ended meanwhile is not in it.
    pub(crate) fn cpu_since(&self, before: &Self) -> (u64, u64) {
        let used = |(id, ns): (&u32, &u64)| {
            ns.saturating_sub(before.threads.get(id).copied().unwrap_or(0))
        };
        let busiest = self.threads.iter().map(used).max();
        (self.threads.iter().map(used).sum(), busiest.unwrap_or(0))
    }
}

impl Observed {
    /// A server. Checks that it can be read.
    pub(crate) fn new(pid: u32) -> Result<Self, UsageError> {
        let observed = Self { pid, with_children: true };
        observed.look()?;
        Ok(observed)
    }

    /// Ourselves.
    pub(crate) fn own() -> Self {
        Self { pid: std::process::id(), with_children: false }
    }

    /// Reads the present values.
    pub(crate) fn look(self) -> Result<Usage, UsageError> {
        let mut usage = Usage::default();
        let mut children = usage.add_process(self.pid)?;
        while let Some(pid) = children.pop().filter(|_| self.with_children) {
            // A child may end at any time.
            children.extend(usage.add_process(pid).unwrap_or_default());
        }
        Ok(usage)
    }
}

impl Usage {
    /// Adds a process. Gives its children.
    fn add_process(&mut self, pid: u32) -> Result<Vec<u32>, UsageError> {
        let process = |error| UsageError::Process { pid, error };
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let mut children = Vec::new();
        for task in fs::read_dir(directory.join("task")).map_err(process)? {
            let task = task.map_err(process)?;
            // A thread may end between the two reads.
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else {
                continue;
            };
            let cpu_ns = text
                .split_ascii_whitespace()
                .next()
                .and_then(|field| field.parse().ok())
                .ok_or(UsageError::NoSchedstat(pid))?;
            let id = task.file_name().to_str().and_then(|name| name.parse().ok());
            self.threads.insert(id.ok_or(UsageError::NoSchedstat(pid))?, cpu_ns);
            // Not every kernel tells.
            let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            children.extend(text.split_ascii_whitespace().flat_map(str::parse::<u32>));
        }
        let status = fs::read_to_string(directory.join("status")).map_err(process)?;
        let resident_kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_ascii_whitespace().next())
            .and_then(|field| field.parse::<u64>().ok());
        self.rss_bytes += resident_kib.unwrap_or(0) * 1024;
        Ok(children)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    fn work() {
        let since = Instant::now();
        let mut sum = 0_u64;
        while since.elapsed().as_millis() < 30 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        // The kernel brings a running thread's count up to date at ticks and switches.
        std::thread::yield_now();
    }

    #[test]
    fn work_shows_in_nanoseconds() {
        let own = Observed::own();
        let before = own.look().expect("we exist");
        work();
        let after = own.look().expect("we exist");
        let (all_ns, busiest_ns) = after.cpu_since(&before);
        assert!(busiest_ns > 0 && all_ns >= busiest_ns);
        assert!(after.rss_bytes > 100_000);
    }

    #[test]
    fn children_count_too() {
        let mut parent = Command::new("sh")
            .args(["-c", "sh -c 'while :; do :; done' & wait"])
            .spawn()
            .expect("there is a shell");
        let observed = Observed::new(parent.id()).expect("it runs");
        let before = observed.look().expect("it runs");
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut used_ns = 0;
        // The parent only waits.
        while used_ns < 30_000_000 && Instant::now() < deadline {
            used_ns = observed.look().expect("it runs").cpu_since(&before).0;
            std::thread::yield_now();
        }
        let children = Usage::default().add_process(parent.id()).expect("it runs");
        for child in children {
            let killed = Command::new("kill").arg(child.to_string()).status();
            assert!(killed.is_ok_and(|status| status.success()));
        }
        parent.wait().expect("it is ours");
        assert!(used_ns >= 30_000_000);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(matches!(Observed::new(u32::MAX), Err(UsageError::Process { .. })));
    }
}
