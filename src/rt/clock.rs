//! The monotonic clock, the CPU time of the calling thread, and the time on the wall here.

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

/// CPU time that the whole process has used, user and system.
pub fn process_cpu() -> Duration {
    Duration::from_nanos(nanos(libc::CLOCK_PROCESS_CPUTIME_ID))
}

/// A moment as the clocks of this place show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Year.
    pub year: i32,
    /// Month from 1.
    pub month: u32,
    /// Day of the month from 1.
    pub day: u32,
    /// Hour.
    pub hour: u32,
    /// Minute.
    pub minute: u32,
    /// Second, 60 in a leap second.
    pub second: u32,
    /// East of UTC.
    pub offset_minutes: i32,
}

/// Local time of a moment since 1970 UTC, by `TZ` or /etc/localtime. The first call may read a file, so
/// it is not for a media shard.
pub fn local_time(since_epoch: Duration) -> LocalTime {
    let seconds = libc::time_t::try_from(since_epoch.as_secs()).unwrap_or(libc::time_t::MAX);
    // SAFETY: all-zero bytes are a valid tm: integers, and a pointer that may be null.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call. It fails only for years that do not fit, and
    // leaves the zeros then.
    unsafe { libc::localtime_r(&seconds, &mut tm) };
    let number = |field: libc::c_int| u32::try_from(field).unwrap_or(0);
    LocalTime {
        year: tm.tm_year.saturating_add(1900),
        month: number(tm.tm_mon) + 1,
        day: number(tm.tm_mday),
        hour: number(tm.tm_hour),
        minute: number(tm.tm_min),
        second: number(tm.tm_sec),
        offset_minutes: i32::try_from(tm.tm_gmtoff / 60).unwrap_or(0),
    }
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
    fn local_time_is_that_of_the_offset_it_names() {
        let since_epoch = Duration::from_secs(1_795_263_265);
        let local = local_time(since_epoch);
        let minutes_utc = (12 * 60 + 14) + 21 * 24 * 60;
        let minutes = local.hour * 60 + local.minute + local.day * 24 * 60;
        assert_eq!((local.year, local.month, local.second), (2026, 11, 25));
        assert_eq!(minutes as i32 - minutes_utc, local.offset_minutes);
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
