//! What a process uses, from /proc: CPU in nanoseconds, resident memory.

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

/// A process to look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed {
    pid: u32,
}

/// A look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// CPU time of all threads that exist now, user and system.
    pub(crate) cpu_ns: u64,
    /// The same by thread.
    threads: HashMap<String, u64>,
    /// Resident memory.
    pub(crate) rss_bytes: u64,
}

impl Usage {
    /// CPU time since an earlier look, nanoseconds: of all threads, and of the busiest.
    pub(crate) fn cpu_since(&self, before: &Self) -> (u64, u64) {
        let busiest = self
            .threads
            .iter()
            .map(|(id, ns)| ns.saturating_sub(before.threads.get(id).copied().unwrap_or(0)))
            .max();
        (self.cpu_ns.saturating_sub(before.cpu_ns), busiest.unwrap_or(0))
    }
}

impl Observed {
    /// Checks that it can be read.
    pub(crate) fn new(pid: u32) -> Result<Self, UsageError> {
        let observed = Self { pid };
        observed.look()?;
        Ok(observed)
    }

    /// Ourselves.
    pub(crate) fn own() -> Result<Self, UsageError> {
        Self::new(std::process::id())
    }

    /// Reads the present values.
    pub(crate) fn look(self) -> Result<Usage, UsageError> {
        let process = |error| UsageError::Process { pid: self.pid, error };
        let directory = PathBuf::from(format!("/proc/{}", self.pid));
        let mut usage = Usage::default();
        for task in fs::read_dir(directory.join("task")).map_err(process)? {
            // A thread may end between the two reads.
            let task = task.map_err(process)?;
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else {
                continue;
            };
            let cpu_ns = text
                .split_ascii_whitespace()
                .next()
                .and_then(|field| field.parse().ok())
                .ok_or(UsageError::NoSchedstat(self.pid))?;
            usage.cpu_ns += cpu_ns;
            usage.threads.insert(task.file_name().to_string_lossy().into_owned(), cpu_ns);
        }
        let status = fs::read_to_string(directory.join("status")).map_err(process)?;
        usage.rss_bytes = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_ascii_whitespace().next())
            .and_then(|field| field.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024;
        Ok(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_in_nanoseconds() {
        let own = Observed::own().expect("we exist");
        let before = own.look().expect("we exist");
        let since = std::time::Instant::now();
        let mut sum = 0_u64;
        while since.elapsed().as_millis() < 30 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        // The kernel brings a running thread's count up to date at ticks and switches.
        std::thread::yield_now();
        let after = own.look().expect("we exist");
        assert!(after.cpu_ns > before.cpu_ns);
        assert!(after.rss_bytes > 100_000);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(matches!(Observed::new(u32::MAX), Err(UsageError::Process { .. })));
    }
}
