//! The frames since the newest point at which decoding can begin: what a new viewer is given first.
//!
//! Bounded in bytes: a group of pictures that grows past the cap is let go (viewers who come then
//! wait for the next keyframe); payloads are shared, so this costs references, not copies.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Frame, FrameKind, Preamble};

/// Before its first keyframe, and without video, a stream keeps this much sound for new viewers.
const AUDIO_LEAD_MS: u64 = 1_000;
/// Sound that goes on this long without a video frame makes the stream one without video.
const VIDEO_LOST_MS: u64 = 5_000;

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
    video: Option<u64>,
}

impl Gop {
    /// An empty group that may grow to `bytes_max` bytes of payload.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            frames: VecDeque::new(),
            next_number: 0,
            preamble: Arc::default(),
            bytes: 0,
            bytes_max,
            overflown: false,
            video: None,
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
        self.video.is_some()
    }

    /// Payload bytes held.
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
        match (joinable, frame.kind) {
            (Joinable::Useless, _) => return joinable,
            (Joinable::Yes, FrameKind::Keyframe) => {
                if !self.is_lead(frame) {
                    self.clear();
                }
                self.video = Some(frame.dts_ms);
                self.overflown = false;
            }
            (Joinable::Yes, _) => {
                if self.video.take().is_some() || self.overflown {
                    self.clear();
                    self.overflown = false;
                }
                if self.trim_lead(frame.dts_ms) {
                    self.preamble = Arc::clone(preamble);
                }
            }
            (Joinable::No, FrameKind::Inter) => self.video = Some(frame.dts_ms),
            (Joinable::No, _) => {}
        }
        if self.overflown || (self.frames.is_empty() && joinable == Joinable::No) {
            return joinable;
        }
        self.bytes += frame.payload.len();
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

    fn judge(&self, frame: &Frame) -> Joinable {
        match frame.kind {
            FrameKind::Keyframe => Joinable::Yes,
            FrameKind::Inter if self.video.is_none() => Joinable::Useless,
            FrameKind::Audio => match self.video {
                None => Joinable::Yes,
                Some(at_ms) if frame.dts_ms > at_ms + VIDEO_LOST_MS => Joinable::Yes,
                Some(_) => Joinable::No,
            },
            _ => Joinable::No,
        }
    }

    /// Whether what is held is the sound right before the stream's first keyframe.
    fn is_lead(&self, keyframe: &Frame) -> bool {
        self.video.is_none()
            && self
                .frames
                .front()
                .is_some_and(|(_, first)| keyframe.dts_ms <= first.dts_ms + AUDIO_LEAD_MS)
    }

    /// Lets sound older than the lead go; says whether anything went.
    fn trim_lead(&mut self, now_ms: u64) -> bool {
        let before = self.frames.len();
        while let Some((_, first)) = self.frames.front() {
            let old = first.dts_ms + AUDIO_LEAD_MS < now_ms;
            if !old && first.kind == FrameKind::Audio {
                break;
            }
            self.bytes -= first.payload.len();
            self.frames.pop_front();
        }
        self.frames.len() != before
    }

    fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }
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

    fn times(gop: &Gop) -> Vec<u64> {
        gop.frames().map(|frame| frame.dts_ms).collect()
    }

    #[test]
    fn begins_anew_with_each_keyframe() {
        let mut gop = Gop::new(1_000);
        assert_eq!(gop.push(&frame(FrameKind::Keyframe, 0, 10), &none()), Joinable::Yes);
        assert_eq!(gop.push(&frame(FrameKind::Audio, 5, 10), &none()), Joinable::No);
        assert_eq!(gop.push(&frame(FrameKind::Inter, 40, 10), &none()), Joinable::No);
        assert_eq!(times(&gop), [0, 5, 40]);
        gop.push(&frame(FrameKind::Keyframe, 2_000, 10), &none());
        assert_eq!(times(&gop), [2_000]);
        assert_eq!(gop.bytes(), 10);
    }

    #[test]
    fn frames_before_the_first_keyframe_are_useless_but_sound_is_not() {
        let mut gop = Gop::new(1_000);
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
        assert_eq!(gop.push(&frame(FrameKind::Inter, 5_002, 10), &none()), Joinable::Useless);
    }

    #[test]
    fn a_group_over_the_cap_is_let_go_until_the_next_keyframe() {
        let mut gop = Gop::new(25);
        gop.push(&frame(FrameKind::Keyframe, 0, 10), &none());
        gop.push(&frame(FrameKind::Inter, 40, 10), &none());
        assert_eq!(gop.push(&frame(FrameKind::Inter, 80, 10), &none()), Joinable::No);
        assert!(gop.is_empty());
        gop.push(&frame(FrameKind::Inter, 120, 1), &none());
        assert!(gop.is_empty());
        gop.push(&frame(FrameKind::Keyframe, 160, 10), &none());
        assert_eq!(times(&gop), [160]);
    }
}
