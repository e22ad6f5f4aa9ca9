//! Judges the order of one viewer's frames: loss, skips, doubles, disorder, damage, timestamps.
//!
//! Every frame has a number in its track. A hole whose next picture is a keyframe is a *skip*, which
//! servers may do for slow viewers; any other hole is *loss*. A frame that comes into a hole later
//! was out of order, one that comes without a hole was doubled.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::media::Track;

/// Holes remembered, so that a late frame is told from a doubled one.
const HOLES_MAX: usize = 4096;

/// What was found, of one viewer or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Findings {
    /// Frames checked.
    pub(crate) frames: u64,
    /// Frames that never came.
    pub(crate) lost: u64,
    /// Times that a viewer went on at a later keyframe.
    pub(crate) skips: u64,
    /// Frames that were left out by those.
    pub(crate) skipped_frames: u64,
    /// Frames that came a second time.
    pub(crate) doubled: u64,
    /// Frames that came after a later one of their track.
    pub(crate) out_of_order: u64,
    /// Payloads with a wrong checksum.
    pub(crate) damaged: u64,
    /// Frames whose distance in time from the first is not the published one.
    pub(crate) wrong_timestamps: u64,
    /// Frames that nobody is known to have published.
    pub(crate) unknown: u64,
}

/// A frame that came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    /// Its track.
    pub(crate) track: Track,
    /// Decoding can begin here.
    pub(crate) is_key: bool,
    /// Number in its track.
    pub(crate) track_number: u64,
    /// Timestamp as received minus as published, modulo 2³².
    pub(crate) shift_ms: u32,
}

/// One viewer's judge.
#[derive(Debug, Default)]
pub(crate) struct OrderCheck {
    findings: Findings,
    tracks: [TrackOrder; 2],
    shift_ms: Option<u32>,
}

#[derive(Debug, Default)]
struct TrackOrder {
    /// The number that has to come.
    next: Option<u64>,
    holes: BTreeSet<u64>,
    /// The pictures have just skipped: this track may as well, once.
    may_skip: bool,
}

impl Findings {
    /// Adds another's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.lost += other.lost;
        self.skips += other.skips;
        self.skipped_frames += other.skipped_frames;
        self.doubled += other.doubled;
        self.out_of_order += other.out_of_order;
        self.damaged += other.damaged;
        self.wrong_timestamps += other.wrong_timestamps;
        self.unknown += other.unknown;
    }
}

impl OrderCheck {
    /// A frame came, whole.
    pub(crate) fn arrived(&mut self, frame: Arrived) {
        self.findings.frames += 1;
        let shift_ms = *self.shift_ms.get_or_insert(frame.shift_ms);
        if frame.shift_ms != shift_ms {
            self.findings.wrong_timestamps += 1;
            self.shift_ms = Some(frame.shift_ms);
        }
        let order = &mut self.tracks[frame.track.index()];
        let number = frame.track_number;
        let next = *order.next.get_or_insert(number);
        if number < next {
            if order.holes.remove(&number) {
                self.findings.lost -= 1;
                self.findings.out_of_order += 1;
            } else {
                self.findings.doubled += 1;
            }
            return;
        }
        let missing = number - next;
        order.next = Some(number + 1);
        let may_skip = std::mem::take(&mut order.may_skip);
        if missing == 0 {
            return;
        }
        let is_picture_skip = frame.track == Track::Video && frame.is_key;
        if is_picture_skip || may_skip {
            self.findings.skipped_frames += missing;
        } else {
            self.findings.lost += missing;
            order.holes.extend(next..number);
            while order.holes.len() > HOLES_MAX {
                order.holes.pop_first();
            }
        }
        if is_picture_skip {
            self.findings.skips += 1;
            self.tracks[Track::Audio.index()].may_skip = true;
        }
    }

    /// A frame came with a wrong checksum; it counts as arrived if its number is known.
    pub(crate) fn damaged(&mut self, frame: Option<Arrived>) {
        self.findings.damaged += 1;
        if let Some(frame) = frame {
            self.arrived(frame);
        }
    }

    /// A frame came that cannot be told.
    pub(crate) fn unknown(&mut self) {
        self.findings.frames += 1;
        self.findings.unknown += 1;
    }

    /// The number that a track expects.
    pub(crate) fn next_number(&self, track: Track) -> Option<u64> {
        self.tracks[track.index()].next
    }

    /// Nothing more comes; `last` is the number of a track's last published frame.
    pub(crate) fn ended(&mut self, track: Track, last: Option<u64>) {
        let order = &mut self.tracks[track.index()];
        if let (Some(next), Some(last)) = (order.next, last)
            && last >= next
        {
            self.findings.lost += last + 1 - next;
            order.next = Some(last + 1);
        }
    }

    /// What was found so far.
    pub(crate) fn findings(&self) -> Findings {
        self.findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(numbers: &[u64]) -> Findings {
        let mut check = OrderCheck::default();
        for number in numbers {
            check.arrived(Arrived {
                track: Track::Video,
                is_key: number % 10 == 0,
                track_number: *number,
                shift_ms: 0,
            });
        }
        check.findings()
    }

    #[test]
    fn order_from_any_start_is_clean() {
        let clean = Findings { frames: 4, ..Findings::default() };
        assert_eq!(feed(&[40, 41, 42, 43]), clean);
    }

    #[test]
    fn each_fault_has_its_name() {
        assert_eq!(feed(&[10, 11, 13, 14]).lost, 1);
        assert_eq!(feed(&[10, 11, 11, 12]).doubled, 1);
        let swapped = feed(&[10, 12, 11, 13]);
        assert_eq!((swapped.out_of_order, swapped.lost, swapped.doubled), (1, 0, 0));
        let skipped = feed(&[10, 11, 20, 21]);
        assert_eq!((skipped.skips, skipped.skipped_frames, skipped.lost), (1, 8, 0));
    }

    #[test]
    fn sound_may_skip_once_with_pictures() {
        let mut check = OrderCheck::default();
        let mut arrive = |track, number, is_key| {
            check.arrived(Arrived { track, is_key, track_number: number, shift_ms: 0 });
            check.findings()
        };
        arrive(Track::Video, 0, true);
        arrive(Track::Audio, 0, true);
        arrive(Track::Video, 10, true);
        let after_skip = arrive(Track::Audio, 15, true);
        assert_eq!((after_skip.skips, after_skip.lost), (1, 0));
        assert_eq!(after_skip.skipped_frames, 9 + 14);
        assert_eq!(arrive(Track::Audio, 17, true).lost, 1);
    }

    #[test]
    fn missing_ends_and_shifted_times_are_seen() {
        let mut check = OrderCheck::default();
        for (number, shift_ms) in [(0, 100), (1, 100), (2, 140), (3, 140)] {
            let frame =
                Arrived { track: Track::Audio, is_key: true, track_number: number, shift_ms };
            check.arrived(frame);
        }
        assert_eq!(check.findings().wrong_timestamps, 1);
        check.ended(Track::Audio, Some(3));
        assert_eq!(check.findings().lost, 0);
        check.ended(Track::Audio, Some(5));
        assert_eq!(check.findings().lost, 2);
    }
}
