//! Follows a track of a file that is played in a loop, packet by packet, and says what is missing.
//!
//! Nothing in a packet says which turn of the loop it belongs to, or, when payloads repeat, which place
//! of the file. So all places are kept that the packets so far leave possible: one after the first
//! picture as a rule, many while there is silence.

use serde::Serialize;

use super::table::{FileTable, TrackTable};
use crate::media::Track;

/// Timestamps are rounded on the way.
const TIME_TOLERANCE_MS: i64 = 2;
/// The longest distance from the end of the file to its start: one track may be shorter than the other.
const TURN_MS_MAX: i64 = 1_000;

/// What is wrong with the packets of one ffmpeg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Flaws {
    /// Packets of the file that were left out.
    pub(crate) lost: u64,
    /// Packets that came again, or after a later one.
    pub(crate) out_of_order: u64,
    /// Packets that are not in the file.
    pub(crate) unknown: u64,
    /// Packets in the right order, but not at the distance that they have in the file.
    pub(crate) wrong_timestamps: u64,
}

/// One ffmpeg's packets, both tracks.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    tracks: [TrackFollower; 2],
    flaws: Flaws,
}

#[derive(Debug, Default)]
struct TrackFollower {
    packets: u64,
    /// Where the last packet may stand.
    places: Vec<u32>,
    last_ms: u32,
}

impl Flaws {
    /// Whether there are none.
    pub(crate) fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl Follower {
    /// A packet came.
    pub(crate) fn packet(&mut self, file: &FileTable, track: Track, crc: u32, timestamp_ms: u32) {
        let table = &file.tracks[track.index()];
        self.tracks[track.index()].packet(table, crc, timestamp_ms, &mut self.flaws);
    }

    /// Packets so far, of both tracks.
    pub(crate) fn packets(&self) -> u64 {
        self.tracks.iter().map(|track| track.packets).sum()
    }

    /// What is wrong so far.
    pub(crate) fn flaws(&self) -> Flaws {
        self.flaws
    }

    /// How many packets it is behind another follower of the same loop: at least, where payloads
    /// repeat.
    pub(crate) fn behind(&self, ahead: &Self, file: &FileTable) -> u64 {
        let tracks = self.tracks.iter().zip(&ahead.tracks).zip(&file.tracks);
        tracks
            .map(|((track, ahead), table)| {
                let length = table.entries.len() as u64;
                let pairs = track
                    .places
                    .iter()
                    .flat_map(|from| ahead.places.iter().map(move |to| (*from, *to)));
                pairs.map(|(from, to)| steps(from, to, length)).min().unwrap_or(0)
            })
            .sum()
    }
}

impl TrackFollower {
    fn packet(&mut self, table: &TrackTable, crc: u32, timestamp_ms: u32, flaws: &mut Flaws) {
        self.packets += 1;
        let same = table.places(crc);
        if same.is_empty() {
            flaws.unknown += 1;
            return;
        }
        if self.places.is_empty() {
            self.places = same.to_vec();
            self.last_ms = timestamp_ms;
            return;
        }
        let passed_ms = i64::from(timestamp_ms.wrapping_sub(self.last_ms).cast_signed());
        let length = table.entries.len() as u64;
        let following: Vec<u32> = self
            .places
            .iter()
            .map(|place| ((u64::from(*place) + 1) % length) as u32)
            .filter(|next| table.entries[*next as usize].crc == crc)
            .collect();
        if following.is_empty() {
            let missing = self
                .places
                .iter()
                .flat_map(|from| same.iter().map(move |to| steps(*from, *to, length)))
                .min()
                .unwrap_or(0);
            // More than half of the file forward is rather a little backward.
            if missing == 0 || missing > length / 2 {
                flaws.out_of_order += 1;
                return;
            }
            flaws.lost += missing - 1;
            self.places = same.to_vec();
        } else {
            let in_time = |next: &u32| is_in_time(table, *next, passed_ms);
            let timely: Vec<u32> = following.iter().copied().filter(in_time).collect();
            if timely.is_empty() {
                flaws.wrong_timestamps += 1;
            }
            self.places = if timely.is_empty() { following } else { timely };
        }
        self.last_ms = timestamp_ms;
    }
}

/// How often one has to go on by one to come from a place of the loop to another.
fn steps(from: u32, to: u32, length: u64) -> u64 {
    (u64::from(to) + length - u64::from(from)) % length
}

/// Whether the packet at `place` comes at its distance from the one before. The distance from the end
/// of the file to its start is ffmpeg's choice.
fn is_in_time(table: &TrackTable, place: u32, passed_ms: i64) -> bool {
    let Some(before) = place.checked_sub(1) else {
        return (0..=TURN_MS_MAX).contains(&passed_ms);
    };
    let [before, here] =
        [before, place].map(|at| i64::from(table.entries[at as usize].timestamp_ms));
    (passed_ms - (here - before)).abs() <= TIME_TOLERANCE_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffmpeg::table::Entry;

    /// Ten pictures, each different, and twenty frames of sound, of which only one is.
    fn file() -> FileTable {
        let mut tracks = <[TrackTable; 2]>::default();
        for number in 0..20 {
            let crc = if number == 7 { 2_000 } else { 1_000 };
            tracks[Track::Audio.index()].push(Entry { crc, timestamp_ms: number * 20 });
        }
        for number in 0..10 {
            let entry = Entry { crc: number, timestamp_ms: number * 40 };
            tracks[Track::Video.index()].push(entry);
        }
        FileTable { tracks, gop_packets: 30 }
    }

    /// Follows pictures by their number since the start of the first turn.
    fn pictures(numbers: impl IntoIterator<Item = u32>) -> Follower {
        let mut follower = Follower::default();
        for number in numbers {
            follower.packet(&file(), Track::Video, number % 10, 5_000 + number * 40);
        }
        follower
    }

    fn sounds(numbers: impl IntoIterator<Item = u32>) -> Follower {
        let mut follower = Follower::default();
        for number in numbers {
            let crc = if number % 20 == 7 { 2_000 } else { 1_000 };
            follower.packet(&file(), Track::Audio, crc, number * 20);
        }
        follower
    }

    #[test]
    fn a_loop_from_any_place_is_clean() {
        for start in [0, 4, 9] {
            let follower = pictures(start..start + 35);
            assert!(follower.flaws().is_clean(), "{:?}", follower.flaws());
            assert_eq!(follower.packets(), 35);
            assert!(sounds(start..start + 90).flaws().is_clean());
        }
    }

    #[test]
    fn holes_are_counted_also_across_the_end_of_the_file() {
        assert_eq!(pictures([2, 3, 5, 6]).flaws(), Flaws { lost: 1, ..Flaws::default() });
        assert_eq!(pictures([7, 8, 11, 12]).flaws(), Flaws { lost: 2, ..Flaws::default() });
    }

    #[test]
    fn what_comes_again_or_too_late_is_no_hole() {
        let one = Flaws { out_of_order: 1, ..Flaws::default() };
        assert_eq!(pictures([2, 3, 3, 4]).flaws(), one);
        assert_eq!(pictures([2, 3, 5, 4, 6]).flaws(), Flaws { lost: 1, ..one });
    }

    #[test]
    fn foreign_packets_are_seen() {
        let mut follower = pictures([2, 3]);
        follower.packet(&file(), Track::Video, 77, 5_140);
        follower.packet(&file(), Track::Video, 4, 5_160);
        assert_eq!(follower.flaws(), Flaws { unknown: 1, ..Flaws::default() });
    }

    #[test]
    fn a_hole_in_silence_shows_when_it_ends() {
        // It could be the end of the file, until the one frame comes that is not silent.
        assert!(sounds([1, 2, 4, 5, 6]).flaws().is_clean());
        assert!(!sounds([1, 2, 4, 5, 6, 7]).flaws().is_clean());
        // A whole turn of the file is missing: the order alone is right.
        let mut follower = pictures([2, 3]);
        follower.packet(&file(), Track::Video, 4, 5_000 + 14 * 40);
        assert_eq!(follower.flaws(), Flaws { wrong_timestamps: 1, ..Flaws::default() });
    }

    #[test]
    fn who_is_behind_is_told_by_packets() {
        let file = file();
        assert_eq!(pictures(0..26).behind(&pictures(0..26), &file), 0);
        assert_eq!(pictures(12..26).behind(&pictures(0..29), &file), 3);
        assert_eq!(pictures(12..26).behind(&pictures(0..32), &file), 6);
        assert_eq!(sounds(0..30).behind(&sounds(0..33), &file), 3);
    }
}
