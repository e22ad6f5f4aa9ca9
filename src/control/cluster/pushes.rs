//! Messages of the push channel between nodes: each reaches every node that hears, once and in order, also
//! when Redis breaks off while it says them. No I/O and no clock.
//!
//! A message has a number, of its node, one more than the one before it. Those of a round that Redis has not
//! confirmed are said again, with the same numbers; who has heard a number takes nothing up to it any more,
//! and sees from a higher one how many it has missed.

use std::collections::HashMap;
use std::time::Duration;

use crate::limits;
use crate::media::Moment;

/// So long after Redis is back messages are said again: the other nodes have to find it as well, and they try
/// once a second.
const AGAIN_AFTER: Duration = Duration::from_millis(1_500);

/// What this node says.
#[derive(Debug, Default)]
pub(super) struct Speaker {
    last_number: u64,
    /// In the round that Redis works at.
    in_round: Vec<String>,
    /// Of a round that it has not confirmed.
    unconfirmed: Vec<String>,
    /// Until then they are worth saying.
    kept_until: Moment,
    /// Until then nothing is said.
    pause: Option<Moment>,
}

impl Speaker {
    /// The number of one more message.
    pub(super) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// What the next round says: what was not confirmed, or else what there is `fresh`.
    pub(super) fn take_round(
        &mut self,
        now: Moment,
        fresh: impl FnOnce(&mut Self) -> Vec<String>,
    ) -> Vec<String> {
        if self.pause.is_some_and(|until| until > now) {
            return Vec::new();
        }
        self.pause = None;
        let unconfirmed = std::mem::take(&mut self.unconfirmed);
        self.in_round = if unconfirmed.is_empty() { fresh(self) } else { unconfirmed };
        self.in_round.clone()
    }

    /// Redis has said what was in the round: so many messages.
    pub(super) fn confirmed(&mut self) -> usize {
        std::mem::take(&mut self.in_round).len()
    }

    /// Redis is away. Of the round nobody knows who has heard it; it is kept for so long.
    pub(super) fn down(&mut self, now: Moment, keep: Duration) {
        if !self.in_round.is_empty() {
            self.unconfirmed = std::mem::take(&mut self.in_round);
            self.kept_until = now + keep;
        }
        self.pause = None;
    }

    /// Redis is back.
    pub(super) fn up(&mut self, now: Moment) {
        self.pause = self.has_unconfirmed().then(|| now + AGAIN_AFTER);
    }

    /// Redis is away; how many messages are not kept any longer.
    pub(super) fn give_up(&mut self, now: Moment) -> usize {
        if self.kept_until > now {
            return 0;
        }
        std::mem::take(&mut self.unconfirmed).len()
    }

    /// Whether messages have to wait for the other nodes.
    pub(super) fn pauses(&self) -> bool {
        self.pause.is_some()
    }

    /// Whether some are to be said again.
    pub(super) fn has_unconfirmed(&self) -> bool {
        !self.unconfirmed.is_empty()
    }

    /// When something becomes due.
    pub(super) fn next_deadline(&self, is_up: bool) -> Option<Moment> {
        if is_up { self.pause } else { self.has_unconfirmed().then_some(self.kept_until) }
    }
}

/// What other nodes have said: of each the highest number, and when that was heard, counted in messages.
#[derive(Debug, Default)]
pub(super) struct Ears {
    nodes: HashMap<String, (u64, u64)>,
    heard: u64,
}

impl Ears {
    /// A message is heard: how many before it were missed, or `None` when it was heard before.
    pub(super) fn hear(&mut self, from: &str, number: u64) -> Option<u64> {
        // A node of an earlier version does not count.
        if number == 0 {
            return Some(0);
        }
        self.heard += 1;
        if let Some((last, at)) = self.nodes.get_mut(from) {
            let missed = number.checked_sub(last.saturating_add(1))?;
            (*last, *at) = (number, self.heard);
            return Some(missed);
        }
        if self.nodes.len() >= limits::CLUSTER_SPEAKERS_MAX {
            let oldest = self.nodes.iter().min_by_key(|(_, (_, at))| *at);
            if let Some(node) = oldest.map(|(node, _)| node.clone()) {
                self.nodes.remove(&node);
            }
        }
        self.nodes.insert(from.to_owned(), (number, self.heard));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_secs(6);

    fn at(ms: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(ms)
    }

    /// A round of so many fresh messages, which are their numbers.
    fn round(speaker: &mut Speaker, now: Moment, count: usize) -> Vec<String> {
        speaker.take_round(now, |it| (0..count).map(|_| it.number().to_string()).collect())
    }

    #[test]
    fn what_was_not_confirmed_is_said_again_before_anything_else() {
        let mut speaker = Speaker::default();
        assert_eq!(round(&mut speaker, at(0), 2), ["1", "2"]);
        assert_eq!(speaker.confirmed(), 2);
        assert_eq!(round(&mut speaker, at(1), 2), ["3", "4"]);
        speaker.down(at(2), KEEP);
        assert_eq!((speaker.confirmed(), speaker.give_up(at(6_001))), (0, 0));
        assert_eq!(speaker.next_deadline(false), Some(at(6_002)));
        speaker.up(at(5_000));
        assert!(speaker.pauses());
        assert_eq!(
            round(&mut speaker, at(6_499), 1),
            [] as [&str; 0],
            "not before others are back"
        );
        assert_eq!(speaker.next_deadline(true), Some(at(6_500)));
        assert_eq!(round(&mut speaker, at(6_500), 1), ["3", "4"]);
        // It breaks off once more.
        speaker.down(at(6_501), KEEP);
        speaker.up(at(6_600));
        assert_eq!(round(&mut speaker, at(8_100), 1), ["3", "4"]);
        assert_eq!(speaker.confirmed(), 2);
        assert_eq!(round(&mut speaker, at(8_101), 1), ["5"]);
    }

    #[test]
    fn what_cannot_be_said_for_long_is_given_up() {
        let mut speaker = Speaker::default();
        round(&mut speaker, at(0), 3);
        speaker.down(at(10), KEEP);
        assert_eq!((speaker.give_up(at(6_009)), speaker.give_up(at(6_010))), (0, 3));
        assert_eq!(speaker.next_deadline(false), None);
        speaker.up(at(7_000));
        assert_eq!(round(&mut speaker, at(7_000), 1), ["4"], "nothing to wait for");
    }

    #[test]
    fn a_number_is_taken_once_and_gaps_are_seen() {
        let mut ears = Ears::default();
        assert_eq!(
            ears.hear("a", 7),
            Some(0),
            "what came before this node was there is not missing"
        );
        assert_eq!(
            (ears.hear("a", 8), ears.hear("a", 8), ears.hear("a", 7)),
            (Some(0), None, None)
        );
        assert_eq!((ears.hear("b", 1), ears.hear("a", 12)), (Some(0), Some(3)));
        assert_eq!((ears.hear("old", 0), ears.hear("old", 0)), (Some(0), Some(0)));
        for number in 0..limits::CLUSTER_SPEAKERS_MAX {
            ears.hear(&format!("node {number}"), 1);
        }
        assert_eq!(ears.nodes.len(), limits::CLUSTER_SPEAKERS_MAX);
        assert_eq!(ears.hear("a", 12), Some(0), "it was silent for the longest time");
    }
}
