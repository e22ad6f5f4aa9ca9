//! The frames since the newest point at which decoding can begin: what a new viewer is given first.
//!
//! Of several video tracks (multitrack) the one with the lowest number *leads*: viewers begin with its
//! keyframes. Keyframes of other tracks that come just before belong to the same group, for encoders
//! send the tracks of one moment in any order.
//!
//! Bounded in bytes, with what each frame takes besides its payload: a group of pictures that grows past
//! the cap is let go (viewers who come then wait for the next keyframe), also one of very many empty
//! messages. Payloads are shared, so this costs references, not copies.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Frame, FrameKind, Preamble};

/// Before its first keyframe, and without video, a stream keeps this much sound for new viewers.
const AUDIO_LEAD_MS: u64 = 1_000;
/// Sound that goes on this long without a video frame makes the stream one without video: new viewers
/// need not wait for pictures. A video track that is silent for so long while others go on leads no more.
const VIDEO_LOST_MS: u64 = 5_000;
/// Keyframes of different tracks this close together were made for the same moment.
const SAME_MOMENT_MS: u64 = 500;

/// What a frame is for the viewers that wait for one to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joinable {
    /// Viewers can begin here.
    Yes,
    /// Viewers that are already in follow; others cannot begin here.
    No,
    /// Cannot be decoded by anybody (before the first keyframe): not passed on.
    Useless,
}

/// The current group of pictures of a stream.
#[derive(Debug)]
pub struct Gop {
    /// With their numbers.
    frames: VecDeque<(u64, Frame)>,
    next_number: u64,
    /// The headers in force at the first frame.
    preamble: Arc<Preamble>,
    bytes: usize,
    bytes_max: usize,
    overflown: bool,
    pictures: Pictures,
    /// The leading video track, and the time of its newest frame.
    lead: Option<(u8, u64)>,
    /// Number of the frame with which viewers begin who join at the frame that was pushed last.
    begins_at: u64,
}

/// What is known of the stream's pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pictures {
    /// There was no keyframe yet.
    None,
    /// They are shown; the newest has this time.
    Shown(u64),
    /// They have stopped, and sound goes on. Who was there can go on when they do (a slide that
    /// stands still for long), who came since needs a keyframe.
    Paused,
}

impl Gop {
    /// An empty group that may grow to `bytes_max` bytes, counted like [`Gop::bytes`].
    pub fn new(bytes_max: usize) -> Self {
        Self {
            frames: VecDeque::new(),
            next_number: 0,
            preamble: Arc::default(),
            bytes: 0,
            bytes_max,
            overflown: false,
            pictures: Pictures::None,
            lead: None,
            begins_at: 0,
        }
    }

    /// Begins anew: nothing of what was is shown any more. The numbers go on.
    pub fn restart(&mut self) {
        *self = Self { next_number: self.next_number, ..Self::new(self.bytes_max) };
    }

    /// The frames, oldest first; the first of them is one to begin with. Headers that changed
    /// within the group stand between them.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter().map(|(_, frame)| frame)
    }

    /// The same with their numbers: each frame that was pushed has one, higher than those before.
    pub fn numbered(&self) -> impl Iterator<Item = (u64, &Frame)> {
        self.frames.iter().map(|(number, frame)| (*number, frame))
    }

    /// The number that the next frame will have.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Gives a number to a message that is not of the group, such as a header.
    pub fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// The headers in force at the first frame.
    pub fn preamble(&self) -> &Arc<Preamble> {
        &self.preamble
    }

    /// Whether the stream shows pictures now.
    pub fn has_video(&self) -> bool {
        matches!(self.pictures, Pictures::Shown(_))
    }

    /// When [`Gop::push`] has answered that viewers can begin: the number of the frame that they begin
    /// with, which is this one or, with several video tracks, one of the same moment before it.
    pub fn begins_at(&self) -> u64 {
        self.begins_at
    }

    /// Frames are missing: what is held goes to nobody any more.
    pub fn interrupt(&mut self) {
        self.clear();
        self.overflown = true;
    }

    /// Bytes held: payloads, and what their frames take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a viewer can begin with it now.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Takes the next frame of the stream and says whether viewers can begin with it.
    /// `preamble` are the headers in force, this frame's included.
    pub fn push(&mut self, frame: &Frame, preamble: &Arc<Preamble>) -> Joinable {
        let number = self.take_number();
        let joinable = self.judge(frame);
        self.begins_at = number;
        match (joinable, frame.kind) {
            (Joinable::Useless, _) => return joinable,
            (Joinable::Yes, FrameKind::Keyframe) => {
                self.begin_with(frame, preamble);
                self.pictures = Pictures::Shown(frame.dts_ms);
                self.overflown = false;
            }
            (Joinable::Yes, _) => {
                if self.has_video() || self.overflown {
                    self.clear();
                    self.overflown = false;
                }
                if self.pictures != Pictures::None {
                    self.pictures = Pictures::Paused;
                }
                if self.trim_lead(frame.dts_ms) {
                    self.preamble = Arc::clone(preamble);
                }
            }
            (Joinable::No, FrameKind::Inter | FrameKind::Keyframe) if self.has_video() => {
                self.pictures = Pictures::Shown(frame.dts_ms);
            }
            (Joinable::No, _) => {}
        }
        if self.overflown || (self.frames.is_empty() && joinable == Joinable::No) {
            return joinable;
        }
        self.bytes += weight(frame);
        if self.bytes > self.bytes_max {
            self.clear();
            self.overflown = true;
            return joinable;
        }
        if self.frames.is_empty() {
            self.preamble = Arc::clone(preamble);
        }
        self.frames.push_back((number, frame.clone()));
        joinable
    }

    fn judge(&mut self, frame: &Frame) -> Joinable {
        match frame.kind {
            FrameKind::Keyframe if self.leads(frame) => Joinable::Yes,
            FrameKind::Inter if self.pictures == Pictures::None => Joinable::Useless,
            FrameKind::Inter => {
                if let Some((_, at_ms)) = self.lead.as_mut().filter(|lead| lead.0 == frame.slot) {
                    *at_ms = frame.dts_ms;
                }
                Joinable::No
            }
            FrameKind::Audio => match self.pictures {
                Pictures::Shown(at_ms) if frame.dts_ms <= at_ms + VIDEO_LOST_MS => Joinable::No,
                _ => Joinable::Yes,
            },
            _ => Joinable::No,
        }
    }

    /// Whether the keyframe is one of the leading track, or makes its track the leading one.
    fn leads(&mut self, keyframe: &Frame) -> bool {
        let leads = self.lead.is_none_or(|(slot, at_ms)| {
            keyframe.slot <= slot || keyframe.dts_ms > at_ms + VIDEO_LOST_MS
        });
        if leads {
            self.lead = Some((keyframe.slot, keyframe.dts_ms));
        }
        leads
    }

    /// Makes room for a keyframe with which viewers can begin: keeps what belongs before it.
    fn begin_with(&mut self, keyframe: &Frame, preamble: &Arc<Preamble>) {
        // Sound right before the stream's first keyframe.
        let is_lead_in = |first: &Frame| keyframe.dts_ms <= first.dts_ms + AUDIO_LEAD_MS;
        if self.pictures == Pictures::None
            && self.frames.front().is_some_and(|(_, first)| is_lead_in(first))
        {
            return;
        }
        let is_near = |frame: &Frame| frame.dts_ms + SAME_MOMENT_MS >= keyframe.dts_ms;
        let mut first = None;
        let held = self.frames.iter().enumerate().rev();
        for (index, (_, frame)) in held.take_while(|(_, (_, frame))| is_near(frame)) {
            if frame.kind == FrameKind::Keyframe {
                if frame.slot == keyframe.slot {
                    break;
                }
                first = Some(index);
            }
        }
        let Some(first) = first else { return self.clear() };
        for (_, gone) in self.frames.drain(..first) {
            self.bytes -= weight(&gone);
        }
        if first > 0 {
            self.preamble = Arc::clone(preamble);
        }
        if let Some((number, _)) = self.frames.front() {
            self.begins_at = *number;
        }
    }

    /// Lets sound older than the lead go; says whether anything went.
    fn trim_lead(&mut self, now_ms: u64) -> bool {
        let before = self.frames.len();
        while let Some((_, first)) = self.frames.front() {
            let old = first.dts_ms + AUDIO_LEAD_MS < now_ms;
            if !old && first.kind == FrameKind::Audio {
                break;
            }
            self.bytes -= weight(first);
            self.frames.pop_front();
        }
        self.frames.len() != before
    }

    fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }
}

/// What holding a frame costs, in bytes. Messages without payload cost their publisher a byte each.
fn weight(frame: &Frame) -> usize {
    size_of::<(u64, Frame)>() + frame.payload.len()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::{Moment, Track};

    fn frame(kind: FrameKind, dts_ms: u64, len: usize) -> Frame {
        let track = if kind == FrameKind::Audio { Track::Audio } else { Track::Video };
        let payload = Bytes::from(vec![0; len]);
        Frame { track, kind, slot: 0, dts_ms, arrival: Moment::ZERO, payload }
    }

    fn none() -> Arc<Preamble> {
        Arc::default()
    }

    /// How many frames before the one that was pushed last viewers begin.
    fn begun_before(gop: &Gop) -> usize {
        (gop.next_number() - 1 - gop.begins_at()) as usize
    }

    fn times(gop: &Gop) -> Vec<u64> {
        gop.frames().map(|frame| frame.dts_ms).collect()
    }

    #[test]
    fn begins_anew_with_each_keyframe() {
        let mut gop = Gop::new(10_000);
        assert_eq!(gop.push(&frame(FrameKind::Keyframe, 0, 10), &none()), Joinable::Yes);
        assert_eq!(gop.push(&frame(FrameKind::Audio, 5, 10), &none()), Joinable::No);
        assert_eq!(gop.push(&frame(FrameKind::Inter, 40, 10), &none()), Joinable::No);
        assert_eq!(times(&gop), [0, 5, 40]);
        gop.push(&frame(FrameKind::Keyframe, 2_000, 10), &none());
        assert_eq!(times(&gop), [2_000]);
        assert_eq!(gop.bytes(), weight(&frame(FrameKind::Keyframe, 0, 10)));
    }

    #[test]
    fn frames_before_the_first_keyframe_are_useless_but_sound_is_not() {
        let mut gop = Gop::new(10_000);
        assert_eq!(gop.push(&frame(FrameKind::Inter, 0, 10), &none()), Joinable::Useless);
        assert_eq!(gop.push(&frame(FrameKind::Audio, 10, 10), &none()), Joinable::Yes);
        assert_eq!(gop.push(&frame(FrameKind::Keyframe, 20, 10), &none()), Joinable::Yes);
        assert_eq!(times(&gop), [10, 20], "the lead-in sound stays with the first keyframe");
        gop.push(&frame(FrameKind::Keyframe, 40, 10), &none());
        assert_eq!(times(&gop), [40]);
    }

    #[test]
    fn without_video_the_last_second_of_sound_is_kept() {
        let mut gop = Gop::new(100_000);
        for i in 0..500 {
            assert_eq!(gop.push(&frame(FrameKind::Audio, i * 20, 10), &none()), Joinable::Yes);
        }
        assert_eq!(times(&gop).first(), Some(&8_980));
        assert_eq!(times(&gop).last(), Some(&9_980));
    }

    #[test]
    fn a_stream_whose_video_vanished_can_be_joined_at_its_sound() {
        let mut gop = Gop::new(100_000);
        gop.push(&frame(FrameKind::Keyframe, 0, 10), &none());
        assert_eq!(gop.push(&frame(FrameKind::Audio, 5_000, 10), &none()), Joinable::No);
        assert_eq!(gop.push(&frame(FrameKind::Audio, 5_001, 10), &none()), Joinable::Yes);
        assert_eq!(times(&gop), [5_001]);
        // Those who were there before can go on with the pictures.
        assert_eq!(gop.push(&frame(FrameKind::Inter, 5_002, 10), &none()), Joinable::No);
        assert_eq!(gop.push(&frame(FrameKind::Audio, 5_003, 10), &none()), Joinable::Yes);
        assert!(!gop.has_video());
        assert_eq!(gop.push(&frame(FrameKind::Keyframe, 5_004, 10), &none()), Joinable::Yes);
        assert_eq!(times(&gop), [5_004]);
        assert!(gop.has_video());
    }

    fn of_track(slot: u8, kind: FrameKind, dts_ms: u64) -> Frame {
        Frame { slot, ..frame(kind, dts_ms, 10) }
    }

    #[test]
    fn viewers_begin_with_the_leading_track_and_what_was_made_for_the_same_moment() {
        use FrameKind::{Audio, Inter, Keyframe};
        // (track, kind, time, whether viewers can begin, and how many frames before)
        let table = [
            (1, Keyframe, 0, Joinable::Yes, 0),
            (1, Inter, 40, Joinable::No, 0),
            // A lower number: it leads from now on. Viewers begin with the other's keyframe.
            (0, Keyframe, 67, Joinable::Yes, 2),
            (1, Inter, 80, Joinable::No, 0),
            (0, Inter, 107, Joinable::No, 0),
            (1, Keyframe, 2_000, Joinable::No, 0),
            (0, Audio, 2_010, Joinable::No, 0),
            (0, Keyframe, 2_067, Joinable::Yes, 2),
            // Far from a keyframe of the leading track: not a place to begin.
            (1, Keyframe, 3_000, Joinable::No, 0),
            (0, Keyframe, 4_000, Joinable::Yes, 0),
            (1, Keyframe, 4_010, Joinable::No, 0),
            // Close together, but of one track.
            (0, Keyframe, 4_040, Joinable::Yes, 1),
            (0, Keyframe, 4_080, Joinable::Yes, 0),
        ];
        let mut gop = Gop::new(10_000);
        for (slot, kind, dts_ms, joinable, before) in table {
            let pushed = gop.push(&of_track(slot, kind, dts_ms), &none());
            assert_eq!((pushed, begun_before(&gop)), (joinable, before), "{slot} at {dts_ms}");
            let count = gop.frames().count();
            assert_eq!(
                gop.bytes(),
                weight(&of_track(slot, kind, dts_ms)) * count,
                "{slot} at {dts_ms}"
            );
            if joinable == Joinable::Yes {
                assert_eq!(count, before + 1, "{slot} at {dts_ms}");
            }
        }
    }

    #[test]
    fn a_leading_track_that_vanishes_leaves_the_lead_to_another() {
        let mut gop = Gop::new(10_000);
        gop.push(&of_track(0, FrameKind::Keyframe, 0), &none());
        gop.push(&of_track(0, FrameKind::Inter, 40), &none());
        let second = |at| of_track(1, FrameKind::Keyframe, at);
        assert_eq!(gop.push(&second(5_040), &none()), Joinable::No);
        assert_eq!(gop.push(&second(5_041), &none()), Joinable::Yes);
        assert_eq!(gop.push(&of_track(0, FrameKind::Keyframe, 6_000), &none()), Joinable::Yes);
    }

    #[test]
    fn an_interrupted_group_is_let_go_until_the_next_keyframe() {
        let mut gop = Gop::new(10_000);
        gop.push(&of_track(1, FrameKind::Keyframe, 0), &none());
        gop.interrupt();
        gop.push(&of_track(1, FrameKind::Inter, 10), &none());
        assert!(gop.is_empty());
        assert_eq!(gop.push(&of_track(0, FrameKind::Keyframe, 20), &none()), Joinable::Yes);
        assert_eq!(begun_before(&gop), 0);
    }

    #[test]
    fn a_group_over_the_cap_is_let_go_until_the_next_keyframe() {
        let mut gop = Gop::new(2 * weight(&frame(FrameKind::Inter, 0, 10)) + 5);
        gop.push(&frame(FrameKind::Keyframe, 0, 10), &none());
        gop.push(&frame(FrameKind::Inter, 40, 10), &none());
        assert_eq!(gop.push(&frame(FrameKind::Inter, 80, 10), &none()), Joinable::No);
        assert!(gop.is_empty());
        gop.push(&frame(FrameKind::Inter, 120, 1), &none());
        assert!(gop.is_empty());
        gop.push(&frame(FrameKind::Keyframe, 160, 10), &none());
        assert_eq!(times(&gop), [160]);
    }

    #[test]
    fn messages_without_payload_count_for_what_they_take() {
        let mut gop = Gop::new(1_000_000);
        gop.push(&frame(FrameKind::Keyframe, 0, 10), &none());
        let mut held_max = 0;
        for _ in 0..1_000_000 {
            gop.push(&frame(FrameKind::Other, 40, 0), &none());
            held_max = held_max.max(gop.frames().count() * size_of::<(u64, Frame)>());
            if gop.is_empty() {
                break;
            }
        }
        assert!(gop.is_empty() && held_max <= 1_000_000, "{held_max}");
    }
}
