//! The one clock of a stream: repairs the publisher's timestamps once, before anybody sees them.
//!
//! Always true of what comes out: per track it never goes back; a source without faults passes
//! unchanged; across a reconnect it goes on where it was. Of several tracks of a kind (multitrack)
//! each has its own clock: they need not be sent in the order of their times.
//!
//! A *jump* is a step of a track that is larger than [`JUMP_MS_MAX`] and that the time between
//! the two arrivals does not explain. A jump gives the stream a new offset; the other track, which
//! jumps a moment later, adopts the same offset, so audio and video stay together.

use super::{Moment, Track};

/// Steps up to this are believed, back (reordered interleaving) and forward.
const JUMP_MS_MAX: i64 = 3_000;
/// A reconnect continues the clock by the time that passed, up to this.
const GAP_MS_MAX: u64 = 60_000;
/// Tracks with a clock of their own; further ones share one.
const TRACKS_MAX: usize = 32;

/// What a stream's clock has to remember between two publishers of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Largest timestamp that went out, in milliseconds.
    pub last_ms: u64,
    /// When it did.
    pub at: Moment,
}

/// Maps a publisher's 32-bit millisecond timestamps to the stream's clock.
#[derive(Debug)]
pub struct Timeline {
    tracks: Vec<TrackClock>,
    /// The newest offset; tracks adopt it when they jump. `None` before the first media frame.
    offset: Option<i64>,
    /// Largest value that went out, and when.
    last: Option<Resume>,
    /// Nothing goes out before this: the end of an earlier publisher's clock.
    floor_ms: u64,
    /// Unwrapped source time of the newest media frame: what 32-bit values are unwrapped against.
    source_ms: i64,
    repaired: u64,
}

#[derive(Clone, Copy, Debug)]
struct TrackClock {
    track: Track,
    slot: u8,
    offset: i64,
    last_source_ms: i64,
    last_out_ms: u64,
    last_arrival: Moment,
}

impl Timeline {
    /// A clock for a new stream, or for one that goes on after a publisher's gap.
    pub fn new(resume: Option<Resume>) -> Self {
        Self {
            tracks: Vec::new(),
            offset: None,
            last: resume,
            floor_ms: resume.map_or(0, |last| last.last_ms),
            source_ms: 0,
            repaired: 0,
        }
    }

    /// The clock's state for the next publisher of the name; `None` when nothing went out.
    pub fn resume(&self) -> Option<Resume> {
        self.last
    }

    /// How many timestamps were changed since the start (jumps and steps back).
    pub fn repaired(&self) -> u64 {
        self.repaired
    }

    /// The stream's time of an audio or video frame; `slot` tells tracks of a kind apart.
    pub fn media(&mut self, track: Track, slot: u8, timestamp_ms: u32, now: Moment) -> u64 {
        let known = self.clock_of(track, slot);
        let before = known.map(|index| self.tracks[index]);
        let source_ms = self.unwrap(timestamp_ms);
        let offset = match self.offset {
            None => self.first_offset(source_ms, now),
            Some(newest) => self.offset_for(before, source_ms, newest, now),
        };
        // A track that goes on with an older offset does not take the newest one back.
        if self.offset.is_none() || before.is_none_or(|clock| clock.offset != offset) {
            self.offset = Some(offset);
        }
        self.source_ms = source_ms;
        let wanted = source_ms.saturating_add(offset).max(0) as u64;
        let out = wanted.max(before.map_or(self.floor_ms, |clock| clock.last_out_ms));
        if out != wanted {
            self.repaired += 1;
        }
        let clock = TrackClock {
            track,
            slot,
            offset,
            last_source_ms: source_ms,
            last_out_ms: out,
            last_arrival: now,
        };
        match known {
            Some(index) => self.tracks[index] = clock,
            None => self.tracks.push(clock),
        }
        let last_ms = self.last.map_or(out, |last| last.last_ms.max(out));
        self.last = Some(Resume { last_ms, at: now });
        out
    }

    /// The stream's time of a header or data message. Encoders stamp headers with 0 at any time,
    /// so these never move the clock: an unbelievable time becomes that of the newest frame.
    pub fn header(&self, timestamp_ms: u32) -> u64 {
        let last_ms = self.last.map_or(0, |last| last.last_ms);
        match (self.offset, self.last) {
            (Some(offset), _) => {
                let mapped = self.unwrap(timestamp_ms).saturating_add(offset).max(0) as u64;
                if mapped.abs_diff(last_ms) <= JUMP_MS_MAX as u64 { mapped } else { last_ms }
            }
            (None, Some(_)) => last_ms,
            (None, None) => u64::from(timestamp_ms),
        }
    }

    /// The first media frame: as the source says, or right after what an earlier publisher sent.
    fn first_offset(&self, source_ms: i64, now: Moment) -> i64 {
        match self.last {
            None => 0,
            Some(last) => {
                let gap_ms = (now.since(last.at).as_millis() as u64).clamp(1, GAP_MS_MAX);
                (last.last_ms + gap_ms) as i64 - source_ms
            }
        }
    }

    /// Which clock a track has; `None` when it gets a new one. At the cap it has the last.
    fn clock_of(&self, track: Track, slot: u8) -> Option<usize> {
        let found = self.tracks.iter().position(|it| (it.track, it.slot) == (track, slot));
        found.or_else(|| (self.tracks.len() == TRACKS_MAX).then_some(TRACKS_MAX - 1))
    }

    fn offset_for(
        &mut self,
        clock: Option<TrackClock>,
        source_ms: i64,
        newest: i64,
        now: Moment,
    ) -> i64 {
        if let Some(clock) = clock {
            let step_ms = source_ms - clock.last_source_ms;
            if believable(step_ms, now.since(clock.last_arrival).as_millis() as i64) {
                return clock.offset;
            }
        }
        let Some(last) = self.last else { return newest };
        let elapsed_ms = now.since(last.at).as_millis() as i64;
        let step_ms = source_ms + newest - last.last_ms as i64;
        if believable(step_ms, elapsed_ms) {
            return newest;
        }
        self.repaired += 1;
        last.last_ms as i64 + elapsed_ms.clamp(1, GAP_MS_MAX as i64) - source_ms
    }

    fn unwrap(&self, timestamp_ms: u32) -> i64 {
        if self.offset.is_none() {
            return i64::from(timestamp_ms);
        }
        let step = timestamp_ms.wrapping_sub(self.source_ms as u32) as i32;
        self.source_ms + i64::from(step)
    }
}

fn believable(step_ms: i64, elapsed_ms: i64) -> bool {
    (-JUMP_MS_MAX..=JUMP_MS_MAX.saturating_add(elapsed_ms)).contains(&step_ms)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn a_sound_source_passes_unchanged() {
        let mut timeline = Timeline::new(None);
        for i in 0..1_000_u32 {
            let ts = 5_000 + i * 40;
            assert_eq!(timeline.media(Track::Video, 0, ts, at(u64::from(i) * 40)), u64::from(ts));
            assert_eq!(
                timeline.media(Track::Audio, 0, ts - 13, at(u64::from(i) * 40)),
                u64::from(ts) - 13
            );
        }
        assert_eq!(timeline.repaired(), 0);
    }

    #[test]
    fn a_source_faster_than_real_time_passes_unchanged() {
        let mut timeline = Timeline::new(None);
        for i in 0..10_000_u32 {
            assert_eq!(timeline.media(Track::Video, 0, i * 40, at(0)), u64::from(i) * 40);
        }
    }

    #[test]
    fn the_clock_goes_on_over_the_32_bit_wrap() {
        let mut timeline = Timeline::new(None);
        let start = u32::MAX - 60_000;
        let mut expected = u64::from(start);
        for i in 0..3_000_u32 {
            let ts = start.wrapping_add(i * 40);
            assert_eq!(timeline.media(Track::Video, 0, ts, at(u64::from(i) * 40)), expected);
            expected += 40;
        }
        assert!(expected > u64::from(u32::MAX));
    }

    #[test]
    fn a_reconnect_continues_by_the_time_that_passed() {
        let mut first = Timeline::new(None);
        first.media(Track::Video, 0, 90_000, at(1_000));
        let mut second = Timeline::new(first.resume());
        assert_eq!(second.media(Track::Video, 0, 0, at(4_000)), 93_000);
        assert_eq!(second.media(Track::Audio, 0, 10, at(4_010)), 93_010);
        assert_eq!(second.media(Track::Video, 0, 40, at(4_040)), 93_040);
    }

    #[test]
    fn tracks_of_a_kind_need_not_be_in_the_order_of_their_times() {
        let mut timeline = Timeline::new(None);
        for i in 0..100_u32 {
            // The second track comes behind the first and is 67 ms earlier.
            for (slot, ts) in [(0, 1_000 + i * 33), (1, 933 + i * 33)] {
                assert_eq!(timeline.media(Track::Video, slot, ts, at(0)), u64::from(ts));
            }
        }
        assert_eq!(timeline.repaired(), 0);
    }

    #[test]
    fn a_quick_take_over_does_not_go_back() {
        let mut first = Timeline::new(None);
        first.media(Track::Video, 0, 90_000, at(1_000));
        let mut second = Timeline::new(first.resume());
        // Sound comes first and 23 ms ahead; the pictures cannot go before what was shown.
        assert_eq!(second.media(Track::Audio, 0, 23, at(1_001)), 90_001);
        assert_eq!(second.media(Track::Video, 0, 0, at(1_001)), 90_000);
        assert_eq!(second.media(Track::Video, 0, 40, at(1_041)), 90_018);
    }

    #[test]
    fn thirty_minutes_from_a_minute_before_the_wrap() {
        let start = u32::MAX - 59_999;
        for real_time in [true, false] {
            let mut timeline = Timeline::new(None);
            for step in 0..30 * 60 * 50_u32 {
                let ts = start.wrapping_add(step * 20);
                let expected = u64::from(start) + u64::from(step) * 20;
                let now = at(if real_time { u64::from(step) * 20 } else { 0 });
                let video = timeline.media(Track::Video, 0, ts, now);
                // Sound a little behind, so that the tracks wrap at different moments.
                let audio = timeline.media(Track::Audio, 0, ts.wrapping_sub(13), now);
                assert_eq!((video, audio), (expected, expected - 13));
                // Encoders stamp headers 0, before and behind the wrap.
                let header = timeline.header(0);
                assert!(header == expected || header == 1 << 32, "{header} at {expected}");
            }
            assert_eq!(timeline.repaired(), 0);
        }
    }

    #[test]
    fn a_jump_moves_both_tracks_by_the_same_amount() {
        for jumped in [7_200_000_u32, 0] {
            let mut timeline = Timeline::new(None);
            timeline.media(Track::Video, 0, 1_000_000, at(0));
            timeline.media(Track::Audio, 0, 1_000_010, at(0));
            let video = timeline.media(Track::Video, 0, jumped, at(40));
            let audio = timeline.media(Track::Audio, 0, jumped + 10, at(50));
            assert_eq!(video, 1_000_050);
            assert_eq!(audio, video + 10);
            assert_eq!(timeline.media(Track::Video, 0, jumped + 40, at(80)), video + 40);
            assert_eq!(timeline.media(Track::Audio, 0, jumped + 33, at(80)), audio + 23);
        }
    }

    #[test]
    fn a_pause_of_the_source_is_no_jump() {
        let mut timeline = Timeline::new(None);
        timeline.media(Track::Video, 0, 1_000, at(0));
        assert_eq!(timeline.media(Track::Video, 0, 31_000, at(30_000)), 31_000);
        assert_eq!(timeline.repaired(), 0);
    }

    #[test]
    fn a_late_track_on_the_same_clock_passes_unchanged() {
        let mut timeline = Timeline::new(None);
        for i in 0..50_u32 {
            timeline.media(Track::Audio, 0, i * 100, at(u64::from(i) * 100));
        }
        assert_eq!(timeline.media(Track::Video, 0, 5_000, at(5_000)), 5_000);
    }

    #[test]
    fn headers_stamped_zero_do_not_move_the_clock() {
        let mut timeline = Timeline::new(None);
        timeline.media(Track::Video, 0, 3_600_000, at(0));
        assert_eq!(timeline.header(0), 3_600_000);
        assert_eq!(timeline.header(3_600_020), 3_600_020);
        assert_eq!(timeline.media(Track::Video, 0, 3_600_040, at(40)), 3_600_040);
    }

    proptest! {
        #[test]
        fn no_track_ever_goes_back(
            steps in prop::collection::vec((0_u8..100, any::<u32>(), 0_u64..10_000), 1..200),
            resume in prop::option::of(0_u64..u64::from(u32::MAX)),
        ) {
            let resume = resume.map(|last_ms| Resume { last_ms, at: Moment::ZERO });
            let mut timeline = Timeline::new(resume);
            let mut last = [resume.map_or(0, |resume| resume.last_ms); 100];
            let mut now_ms = 0;
            for (number, timestamp_ms, wait_ms) in steps {
                now_ms += wait_ms;
                let (slot, is_video) = (number / 2, number % 2 == 0);
                let track = if is_video { Track::Video } else { Track::Audio };
                let out = timeline.media(track, slot, timestamp_ms, at(now_ms));
                prop_assert!(out >= last[usize::from(number)]);
                last[usize::from(number)] = out;
            }
        }
    }
}
