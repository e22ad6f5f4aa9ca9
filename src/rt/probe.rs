//! What this machine allows, asked before any executor exists: without this, glommio would end the
//! process on an old kernel and panic where io_uring is forbidden.

use std::io;

use io_uring::IoUring;

use super::syscall::check as check_call;

/// The oldest kernel that glommio 0.9 runs on.
const KERNEL_MIN: (u32, u32) = (5, 8);
/// glommio refuses to start under this limit of locked memory.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
/// The fewest descriptors with which starting makes sense at all.
const DESCRIPTORS_MIN: u64 = 256;

/// What the program is about to use.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Descriptors it must be able to open; at least 256 are asked for anyway.
    pub descriptors_min: u64,
}

impl Default for Needs {
    fn default() -> Self {
        Self { descriptors_min: DESCRIPTORS_MIN }
    }
}

/// What the machine allows.
#[derive(Clone, Debug)]
pub struct Report {
    /// The kernel's release, such as `6.12.5`.
    pub kernel: String,
    /// Descriptors the process may open now, after the soft limit was raised to the hard one.
    pub descriptors_max: u64,
    /// Sends can go in batches over a private ring.
    pub private_ring: bool,
    /// CPUs the process may run on, by number, ascending.
    pub usable_cpus: Vec<usize>,
    /// Plain sentences for the log: what works less well than it could, and why.
    pub notes: Vec<String>,
}

/// Why the program cannot run here, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel is too old.
    #[error(
        "Linux {found} is too old: shardcast needs 5.8 or newer, better 6.1; boot a newer kernel"
    )]
    KernelTooOld {
        /// The kernel's release.
        found: String,
    },
    /// The kernel has no io_uring (ENOSYS).
    #[error(
        "this kernel has no io_uring: use one that is built with CONFIG_IO_URING; in a sandbox that \
         emulates the kernel (gVisor), leave the sandbox"
    )]
    Missing,
    /// io_uring is forbidden by the administrator (EPERM).
    #[error(
        "io_uring is forbidden by kernel.io_uring_disabled={setting}: set it to 0 with \
         `sysctl -w kernel.io_uring_disabled=0`"
    )]
    Disabled {
        /// The value of the setting.
        setting: u8,
    },
    /// io_uring is forbidden, but not by the kernel's setting (EPERM, EACCES).
    #[error(
        "io_uring is forbidden, most likely by a container's seccomp profile: start Docker or Podman \
         with a profile that allows io_uring_setup, io_uring_enter and io_uring_register (or with \
         `--security-opt seccomp=unconfined`)"
    )]
    Forbidden,
    /// RLIMIT_MEMLOCK is too low.
    #[error(
        "only {limit_kib} KiB of memory may be locked, io_uring needs at least 512: raise it with \
         `ulimit -l 8192` or `LimitMEMLOCK=8M` in the systemd unit"
    )]
    LockedMemory {
        /// The limit in KiB.
        limit_kib: u64,
    },
    /// RLIMIT_NOFILE is too low.
    #[error(
        "only {limit} files may be open, at least {needed} are needed: raise it with \
         `ulimit -n 65536` or `LimitNOFILE=65536` in the systemd unit"
    )]
    Descriptors {
        /// The hard limit.
        limit: u64,
        /// What was asked for.
        needed: u64,
    },
    /// A ring cannot be created for another reason.
    #[error("io_uring cannot be used: {0}")]
    Ring(io::Error),
    /// The kernel does not answer a question about the process.
    #[error("the process's limits cannot be read: {0}")]
    Limits(io::Error),
}

/// Asks for everything in `needs`, and raises the limits of descriptors and locked memory as far as the
/// hard limits allow. Call it once, before any other thread.
pub fn check(needs: Needs) -> Result<Report, ProbeError> {
    let mut notes = Vec::new();
    let kernel = kernel_release();
    let version = parse_release(&kernel);
    if version.is_some_and(|version| version < KERNEL_MIN) {
        return Err(ProbeError::KernelTooOld { found: kernel });
    }
    let descriptors_max = raise_to_hard(libc::RLIMIT_NOFILE).map_err(ProbeError::Limits)?;
    let needed = needs.descriptors_min.max(DESCRIPTORS_MIN);
    if descriptors_max < needed {
        return Err(ProbeError::Descriptors { limit: descriptors_max, needed });
    }
    let memlock = raise_to_hard(libc::RLIMIT_MEMLOCK).map_err(ProbeError::Limits)?;
    if memlock < MEMLOCK_BYTES_MIN {
        return Err(ProbeError::LockedMemory { limit_kib: memlock / 1024 });
    }
    IoUring::new(8).map_err(|error| ring_error(error, io_uring_disabled()))?;
    let private_ring = match private_ring(8) {
        Ok(_) => true,
        Err(_) if version.is_some_and(|version| version < (6, 1)) => {
            notes.push(format!(
                "Linux {kernel} is older than 6.1: viewers are served with plain sends"
            ));
            false
        }
        Err(error) => {
            notes.push(format!("no private ring ({error}): viewers are served with plain sends"));
            false
        }
    };
    if descriptors_max < 4096 {
        notes.push(format!(
            "only {descriptors_max} files may be open, so fewer clients than that can connect: \
             raise the hard limit (`LimitNOFILE=`)"
        ));
    }
    Ok(Report { kernel, descriptors_max, private_ring, usable_cpus: usable_cpus(), notes })
}

/// A ring for one thread whose completions arrive only when that thread enters it (Linux 6.1).
pub(super) fn private_ring(entries: u32) -> io::Result<IoUring> {
    IoUring::builder().setup_single_issuer().setup_defer_taskrun().setup_submit_all().build(entries)
}

/// CPUs the calling thread may run on (its affinity mask), ascending; CPU 0 when the kernel does not
/// say. CPUs numbered 1,024 and above are not seen.
pub fn usable_cpus() -> Vec<usize> {
    // SAFETY: an all-zero cpu_set_t is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is writable for the size given.
    let known = check_call(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) });
    if known.is_err() {
        return vec![0];
    }
    (0..libc::CPU_SETSIZE as usize)
        // SAFETY: the index is below CPU_SETSIZE.
        .filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) })
        .collect()
}

fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "(unknown)".to_owned(), |release| release.trim().to_owned())
}

/// Major and minor number of a release such as `6.1.0-28-amd64`.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn io_uring_disabled() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

fn ring_error(error: io::Error, disabled: Option<u8>) -> ProbeError {
    match (error.raw_os_error(), disabled) {
        // Docker's profile answers ENOSYS where the C library expects it, so say both.
        (Some(libc::ENOSYS), _) => ProbeError::Missing,
        (Some(libc::EPERM | libc::EACCES), Some(setting @ 1..)) => ProbeError::Disabled { setting },
        (Some(libc::EPERM | libc::EACCES), _) => ProbeError::Forbidden,
        (Some(libc::ENOMEM), _) => match limit(libc::RLIMIT_MEMLOCK) {
            Ok(memlock) => ProbeError::LockedMemory { limit_kib: memlock.rlim_cur / 1024 },
            Err(_) => ProbeError::Ring(error),
        },
        _ => ProbeError::Ring(error),
    }
}

fn limit(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable.
    check_call(unsafe { libc::getrlimit(resource, &mut limit) })?;
    Ok(limit)
}

/// Raises a soft limit to the hard one and returns what holds then.
fn raise_to_hard(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
    let mut wanted = limit(resource)?;
    let soft = wanted.rlim_cur;
    wanted.rlim_cur = wanted.rlim_max;
    // SAFETY: `wanted` is a valid limit.
    match check_call(unsafe { libc::setrlimit(resource, &wanted) }) {
        Ok(_) => Ok(wanted.rlim_max),
        Err(_) => Ok(soft),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(parse_release("6.1.0-28-amd64"), Some((6, 1)));
        assert_eq!(parse_release("5.15"), Some((5, 15)));
        assert_eq!(parse_release("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(parse_release("unknown"), None);
    }

    #[test]
    fn each_refusal_names_its_remedy() {
        let os = io::Error::from_raw_os_error;
        let say = |error, disabled| ring_error(error, disabled).to_string();
        assert!(say(os(libc::EPERM), Some(2)).contains("kernel.io_uring_disabled=2"));
        assert!(say(os(libc::EPERM), Some(0)).contains("seccomp"));
        assert!(say(os(libc::EPERM), None).contains("seccomp"));
        assert!(say(os(libc::ENOSYS), None).contains("no io_uring"));
        assert!(say(os(libc::ENOMEM), None).contains("ulimit -l"));
        let error = check(Needs { descriptors_min: u64::MAX }).unwrap_err();
        assert!(error.to_string().contains("LimitNOFILE"), "{error}");
    }

    /// Runs the test `name` of this binary in a process of its own, as nobody, with limits on locked
    /// memory and descriptors, and returns what it printed.
    fn as_nobody(name: &str, memlock: u64, descriptors: u64) -> String {
        // A copy where everybody may look: the checkout may lie in somebody's home.
        static COPIES: AtomicU32 = AtomicU32::new(0);
        let number = COPIES.fetch_add(1, Ordering::Relaxed);
        let copy =
            std::env::temp_dir().join(format!("shardcast-probe-{}-{number}", std::process::id()));
        let program = std::env::current_exe().unwrap();
        // A link is never open for writing, so no child of another test keeps it from being run.
        std::fs::hard_link(&program, &copy)
            .or_else(|_| std::fs::copy(&program, &copy).map(drop))
            .unwrap();
        let mut command = Command::new(&copy);
        command.args(["--exact", name, "--nocapture"]).env("SHARDCAST_PROBE_CHILD", "1");
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                for (resource, max) in
                    [(libc::RLIMIT_MEMLOCK, memlock), (libc::RLIMIT_NOFILE, descriptors)]
                {
                    let limit = libc::rlimit { rlim_cur: max, rlim_max: max };
                    check_call(libc::setrlimit(resource, &limit))?;
                }
                // An unprivileged user stays who he is.
                if libc::geteuid() == 0 {
                    check_call(libc::setgroups(0, std::ptr::null()))?;
                    check_call(libc::setgid(65_534))?;
                    check_call(libc::setuid(65_534))?;
                }
                Ok(())
            });
        }
        let output = command.output();
        std::fs::remove_file(&copy).unwrap();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// The body of the processes that [`as_nobody`] starts; does nothing when run by itself.
    #[test]
    fn child() {
        if std::env::var_os("SHARDCAST_PROBE_CHILD").is_none() {
            return;
        }
        match check(Needs::default()) {
            Ok(report) => {
                println!("descriptors={} ring={}", report.descriptors_max, report.private_ring);
                let executor = crate::rt::executor::spawn_pinned(
                    "child",
                    report.usable_cpus.first().copied(),
                    || async {
                        crate::rt::executor::sleep(std::time::Duration::from_millis(1)).await
                    },
                );
                executor.unwrap().join().unwrap();
                println!("executor ran");
            }
            Err(error) => println!("refused: {error}"),
        }
    }

    #[test]
    fn an_unprivileged_user_with_usual_limits_is_served() {
        let said = as_nobody("rt::probe::tests::child", 8 * 1024 * 1024, 1024);
        assert!(said.contains("descriptors=1024"), "{said}");
        assert!(said.contains("executor ran"), "{said}");
    }

    #[test]
    fn too_little_locked_memory_is_refused() {
        let said = as_nobody("rt::probe::tests::child", 64 * 1024, 1024);
        assert!(said.contains("refused: only 64 KiB of memory"), "{said}");
    }

    #[test]
    fn too_few_descriptors_are_refused() {
        let said = as_nobody("rt::probe::tests::child", 8 * 1024 * 1024, 200);
        assert!(said.contains("refused: only 200 files"), "{said}");
    }
}
