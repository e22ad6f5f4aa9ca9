//! Which CPU a process of a comparison has.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Keeps a process and its threads on one CPU, and lets it end with this program.
pub(crate) fn pin(command: &mut Command, cpu: usize) {
    // SAFETY: between fork and exec only system calls on local variables.
    unsafe {
        command.pre_exec(move || {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut set);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            match libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}
