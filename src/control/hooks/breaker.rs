//! A circuit breaker: an endpoint that fails again and again is left alone for a while, then tried with
//! one call. No I/O and no clock.

use std::time::Duration;

use crate::media::Moment;

/// Failures in a row that open the breaker.
const FAILURES_MAX: u32 = 5;
/// The first pause; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// State of one endpoint.
#[derive(Debug)]
pub(super) struct Breaker {
    failures: u32,
    pause: Duration,
    open_until: Option<Moment>,
    is_probing: bool,
}

/// What a result has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// It was closed or being tried, and is open for so long.
    Opened(Duration),
    /// It was open, and calls go through again.
    Closed,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { failures: 0, pause: PAUSE_MIN, open_until: None, is_probing: false }
    }

    /// Whether a call may go through now. Whoever is let through must report the result.
    pub(super) fn admits(&mut self, now: Moment) -> bool {
        match self.open_until {
            None => true,
            Some(until) if now < until || self.is_probing => false,
            Some(_) => {
                self.is_probing = true;
                true
            }
        }
    }

    /// A call was answered, whatever the answer.
    pub(super) fn succeeded(&mut self) -> Change {
        let was_open = self.open_until.is_some();
        *self = Self::new();
        if was_open { Change::Closed } else { Change::None }
    }

    /// A call was not answered.
    pub(super) fn failed(&mut self, now: Moment) -> Change {
        self.failures = self.failures.saturating_add(1);
        let was_probe = std::mem::take(&mut self.is_probing);
        match self.open_until {
            // A call that was under way when it opened.
            Some(until) if now < until => Change::None,
            Some(_) if !was_probe => Change::None,
            None if self.failures < FAILURES_MAX => Change::None,
            before => {
                if before.is_some() {
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                }
                self.open_until = Some(now + self.pause);
                Change::Opened(self.pause)
            }
        }
    }

    /// A call never went out.
    pub(super) fn abandoned(&mut self) -> Change {
        self.is_probing = false;
        Change::None
    }

    /// Whether calls are held back.
    pub(super) fn is_open(&self) -> bool {
        self.open_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_one_success() {
        let mut breaker = Breaker::new();
        for _ in 0..FAILURES_MAX - 1 {
            assert_eq!(breaker.failed(at(0)), Change::None);
        }
        assert_eq!(breaker.succeeded(), Change::None);
        for _ in 0..FAILURES_MAX - 1 {
            assert_eq!(breaker.failed(at(0)), Change::None);
        }
        assert!(breaker.admits(at(0)));
        assert_eq!(breaker.failed(at(0)), Change::Opened(PAUSE_MIN));
        assert!(!breaker.admits(at(999)));
        assert!(breaker.admits(at(1000)), "one call tries");
        assert!(!breaker.admits(at(1000)), "only one");
        assert_eq!(breaker.succeeded(), Change::Closed);
        assert!(breaker.admits(at(1000)) && !breaker.is_open());
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let mut breaker = Breaker::new();
        let mut now = at(0);
        for _ in 0..FAILURES_MAX {
            breaker.failed(now);
        }
        let mut pauses = Vec::new();
        for _ in 0..6 {
            now = now + PAUSE_MAX;
            assert!(breaker.admits(now));
            let Change::Opened(pause) = breaker.failed(now) else { panic!("it stays open") };
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses, [2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn late_results_of_calls_from_before_change_nothing() {
        let mut breaker = Breaker::new();
        for _ in 0..FAILURES_MAX {
            breaker.failed(at(0));
        }
        assert_eq!(breaker.failed(at(500)), Change::None);
        assert_eq!(breaker.failed(at(1500)), Change::None, "nobody was let through to try");
        assert!(breaker.admits(at(1500)));
    }
}
