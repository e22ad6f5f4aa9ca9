//! How often a shard may do something that costs: so much at once, and no more than a rate over time.
//!
//! A spent budget delays what comes next, it never drops anything. One publisher at 30 frames a second
//! is far below any of the rates, so its frames are never held back for the sake of the pace; a hundred
//! publishers, or passes that would take more than three quarters of it, are.

use std::time::Duration;

use crate::media::Moment;

/// Turns that may follow each other at once before the pace holds.
const TURNS_AT_ONCE: u32 = 8;
/// CPU time of passes that may follow each other at once before they are spread.
const PASSES_AT_ONCE: Duration = Duration::from_millis(12);
/// The longest pause between two passes.
const PASS_PAUSE_MAX: Duration = Duration::from_secs(1);

/// When the next turn may begin: at once, or `turn_min` after the last one when many follow each other.
#[derive(Debug, Default)]
pub(super) struct TurnPace {
    /// Where the turns would stand if they had all been `turn_min` apart.
    even: Moment,
    /// When the last one began.
    began: Moment,
}

impl TurnPace {
    /// A turn begins.
    pub(super) fn began(&mut self, now: Moment, turn_min: Duration) {
        self.even = self.even.max(now) + turn_min;
        self.began = now;
    }

    /// When the next one may begin.
    pub(super) fn next(&self, turn_min: Duration) -> Moment {
        // A stream with a shorter pace does not pay for the turns of longer ones.
        (self.even - turn_min * TURNS_AT_ONCE).min(self.began + turn_min)
    }
}

/// When the next pass may begin: the CPU time of passes is at most three quarters of the time. One that
/// takes longer than [`PASS_PAUSE_MAX`] is followed by another nevertheless.
#[derive(Debug, Default)]
pub(super) struct PassBudget {
    /// When the passes so far are paid for: each puts it off by its price.
    paid_at: Moment,
}

/// The time that pays for a pass: its CPU time, and a third of it for all else.
fn price(cost: Duration) -> Duration {
    cost + cost / 3
}

impl PassBudget {
    /// A pass that began at `began` has cost this much CPU time.
    pub(super) fn spend(&mut self, began: Moment, cost: Duration) {
        let latest = began + price(PASSES_AT_ONCE) + PASS_PAUSE_MAX;
        self.paid_at = (self.paid_at.max(began) + price(cost)).min(latest);
    }

    /// When the next one may begin.
    pub(super) fn next(&self) -> Moment {
        self.paid_at - price(PASSES_AT_ONCE)
    }
}

/// How long the sends of a log take in a pass. The last viewer of a long one gets its message that much after the
/// hold, so a hold ends earlier: the whole delay stays within a hold and an eighth of it, for viewers on
/// the publisher's shard; on others it may be a little more, as the publisher's waits are not shortened for them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PassLength(Duration);

impl PassLength {
    /// A pass has taken so much CPU time. Rises at once and falls by and by.
    pub(super) fn lasted(&mut self, time: Duration) {
        self.0 = time.max(self.0 - self.0 / 8);
    }

    /// When the hold is over: half of it at least.
    pub(super) fn shorten(self, hold: Duration) -> Duration {
        hold - self.0.saturating_sub(hold / 8).min(hold / 2)
    }
}

/// When pictures come, so that sound need not be sent right before one: that would cost a send to every
/// viewer, and a picture that comes meanwhile would have to wait for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pictures {
    /// Of the newest one: its track, its time in the stream and its arrival.
    last: Option<(u8, u64, Moment)>,
    /// When the next one is to be expected.
    next: Option<Moment>,
}

impl Pictures {
    /// A picture has come.
    pub(super) fn came(&mut self, slot: u8, dts_ms: u64, arrival: Moment) {
        // Those of several tracks come close together, and tell nothing of the next.
        self.next =
            self.last.filter(|(before, ..)| *before == slot).and_then(|(_, before_ms, _)| {
                let interval = Duration::from_millis(dts_ms.saturating_sub(before_ms));
                (!interval.is_zero()).then(|| arrival + interval)
            });
        self.last = Some((slot, dts_ms, arrival));
    }

    /// Until when sound that is due then is held: until the next picture, when that is sent a fifth of the
    /// hold later at most, and takes the sound along. Where pictures are held as long as sound, they go together
    /// anyway.
    pub(super) fn wait_for(&self, due: Moment, hold: Duration, hold_picture: Duration) -> Moment {
        let sent = self.next.filter(|_| hold_picture < hold).map(|next| next + hold_picture);
        sent.filter(|sent| due < *sent && *sent <= due + hold / 5).map_or(due, |sent| sent + LATE)
    }
}

/// A picture may come that much later than expected.
const LATE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_goes_with_a_picture_that_comes_soon() {
        let start = Moment::ZERO + ms(1_000);
        let mut pictures = Pictures::default();
        let due = |at| start + ms(at);
        assert_eq!(pictures.wait_for(due(1), ms(20), ms(0)), due(1), "nothing is known yet");
        pictures.came(0, 0, due(0));
        assert_eq!(pictures.wait_for(due(30), ms(20), ms(0)), due(30));
        pictures.came(0, 33, due(33));
        // The next one comes after 66 ms.
        for (at, expected) in [(61, 61), (62, 67), (65, 67), (66, 66), (70, 70)] {
            assert_eq!(pictures.wait_for(due(at), ms(20), ms(0)), due(expected), "{at}");
        }
        assert_eq!(pictures.wait_for(due(66), ms(40), ms(10)), due(66), "it is sent 10 ms later");
        assert_eq!(pictures.wait_for(due(70), ms(40), ms(10)), due(77));
        assert_eq!(pictures.wait_for(due(105), ms(40), ms(40)), due(105));
        pictures.came(1, 33, due(34));
        assert_eq!(pictures.wait_for(due(65), ms(20), ms(0)), due(65), "of another track");
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn turns_now_and_then_begin_at_once() {
        let mut pace = TurnPace::default();
        let mut now = Moment::ZERO + ms(1_000);
        for gap in [0, 1, 13, 33, 20, 0, 27, 6, 33, 33, 1, 32] {
            now = now + ms(gap);
            assert!(pace.next(ms(2)) <= now);
            pace.began(now, ms(2));
        }
    }

    #[test]
    fn a_shorter_pace_holds_at_once() {
        let mut pace = TurnPace::default();
        let mut now = Moment::ZERO + ms(1_000);
        for _ in 0..100 {
            now = now.max(pace.next(ms(50)));
            pace.began(now, ms(50));
        }
        assert!(pace.next(ms(2)) <= now + ms(2));
    }

    #[test]
    fn turns_without_a_pause_settle_at_the_pace() {
        let mut pace = TurnPace::default();
        let start = Moment::ZERO + ms(1_000);
        let mut now = start;
        for _ in 0..500 {
            now = now.max(pace.next(ms(2)));
            pace.began(now, ms(2));
        }
        let took = now.since(start);
        assert!(took >= ms(2) * (499 - TURNS_AT_ONCE) && took <= ms(2) * 499, "{took:?}");
    }

    #[test]
    fn passes_take_three_quarters_of_the_time_when_there_is_enough_to_do() {
        let mut budget = PassBudget::default();
        let start = Moment::ZERO + ms(1_000);
        let (mut now, mut spent) = (start, Duration::ZERO);
        for _ in 0..1_000 {
            now = now.max(budget.next());
            budget.spend(now, ms(3));
            now = now + ms(3);
            spent += ms(3);
        }
        let share = spent.as_secs_f64() / now.since(start).as_secs_f64();
        assert!((0.74..0.77).contains(&share), "{share}");
    }

    #[test]
    fn passes_below_their_share_of_the_time_are_never_put_off() {
        let mut budget = PassBudget::default();
        let mut now = Moment::ZERO + ms(1_000);
        // Video and sound of one stream: two passes right after each other at times.
        for gap in [33, 1, 32, 20, 13, 2, 31, 33].repeat(20) {
            now = now + ms(gap);
            assert!(budget.next() <= now);
            budget.spend(now, ms(4));
        }
    }

    #[test]
    fn a_hold_ends_earlier_by_what_the_pass_takes_too_long() {
        let mut length = PassLength::default();
        assert_eq!(length.shorten(ms(40)), ms(40));
        length.lasted(ms(5));
        assert_eq!(length.shorten(ms(40)), ms(40));
        assert_eq!(length.shorten(ms(20)), Duration::from_micros(17_500));
        length.lasted(ms(12));
        assert_eq!(length.shorten(ms(40)), ms(33));
        assert_eq!(length.shorten(ms(0)), ms(0));
        length.lasted(ms(100));
        assert_eq!(length.shorten(ms(40)), ms(20), "half of it is left");
        assert_eq!(length.shorten(ms(340)), Duration::from_micros(282_500));
        for _ in 0..40 {
            length.lasted(ms(1));
        }
        assert_eq!(length.shorten(ms(40)), ms(40));
    }

    #[test]
    fn one_pass_never_pauses_the_shard_for_longer_than_the_cap() {
        let mut budget = PassBudget::default();
        let now = Moment::ZERO + ms(1_000);
        budget.spend(now, Duration::from_secs(60));
        assert_eq!(budget.next(), now + PASS_PAUSE_MAX);
        assert_eq!(PassBudget::default().next(), Moment::ZERO);
    }
}
