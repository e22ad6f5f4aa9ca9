//! The monotonic clock, and the CPU time of the calling thread.

use std::time::Duration;

use crate::media::Moment;

/// Now, by `CLOCK_MONOTONIC`: the same clock on every thread, and the one that timers use.
pub fn now() -> Moment {
    Moment::from_nanos(nanos(libc::CLOCK_MONOTONIC))
}

/// CPU time that the calling thread has used, user and system.
pub fn thread_cpu() -> Duration {
    Duration::from_nanos(nanos(libc::CLOCK_THREAD_CPUTIME_ID))
}

fn nanos(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to. Both clocks exist on every kernel this
    // program runs on, so the call cannot fail; if it did, `time` would still be initialised.
    unsafe { libc::clock_gettime(clock, &mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_the_one_of_std_and_never_goes_back() {
        let instant = std::time::Instant::now();
        let start = now();
        let mut last = start;
        while instant.elapsed() < Duration::from_millis(5) {
            let next = now();
            assert!(next >= last);
            last = next;
        }
        assert!(now().since(start) >= Duration::from_millis(4));
    }

    #[test]
    fn cpu_time_counts_work_and_not_sleep() {
        let start = thread_cpu();
        std::thread::sleep(Duration::from_millis(20));
        let slept = thread_cpu() - start;
        assert!(slept < Duration::from_millis(10), "sleeping cost {slept:?}");
        let mut sum = 0_u64;
        let busy_until = thread_cpu() + Duration::from_millis(3);
        while thread_cpu() < busy_until {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(sum > 0);
    }
}
