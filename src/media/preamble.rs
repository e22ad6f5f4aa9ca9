//! The headers a viewer needs before its first frame: metadata and decoder configurations.
//!
//! Cameras repeat their headers with each keyframe; a repeat that changes nothing is recognised
//! and not sent again.

use bytes::Bytes;

use super::{Frame, FrameKind, Track};

/// Headers kept per stream; further ones (multitrack beyond this) are passed on but not kept.
const HEADERS_MAX: usize = 16;
/// Bytes of headers kept per stream; a header that does not fit is passed on but not kept.
const HEADER_BYTES_MAX: usize = 256 * 1024;

/// What [`Preamble::apply`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// New content, to be passed on to those who are already watching.
    Changed,
    /// The same bytes as before.
    Unchanged,
    /// Not kept, because a cap is reached.
    NotKept,
}

/// One header as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The kind of message.
    pub track: Track,
    /// Configuration or metadata.
    pub kind: FrameKind,
    /// Which of several (multitrack).
    pub slot: u8,
    /// Body of the message.
    pub payload: Bytes,
}

/// The headers in force, in the order metadata, video, audio.
#[derive(Clone, Debug, Default)]
pub struct Preamble {
    headers: Vec<Header>,
}

impl Preamble {
    /// The headers in the order in which they are sent.
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// Whether a configuration of the track is known.
    pub fn has(&self, track: Track) -> bool {
        self.headers.iter().any(|header| header.track == track)
    }

    /// Takes in a header frame (`Config` or `Metadata`; others are not kept).
    pub fn apply(&mut self, frame: &Frame) -> Applied {
        if !frame.kind.is_preamble() {
            return Applied::NotKept;
        }
        let found = self.headers.iter().position(|header| {
            (header.track, header.kind, header.slot) == (frame.track, frame.kind, frame.slot)
        });
        if found.is_some_and(|at| self.headers[at].payload == frame.payload) {
            return Applied::Unchanged;
        }
        let others: usize = self
            .headers
            .iter()
            .enumerate()
            .filter(|(at, _)| Some(*at) != found)
            .map(|(_, header)| header.payload.len())
            .sum();
        if others + frame.payload.len() > HEADER_BYTES_MAX
            || (found.is_none() && self.headers.len() == HEADERS_MAX)
        {
            return Applied::NotKept;
        }
        let header = Header {
            track: frame.track,
            kind: frame.kind,
            slot: frame.slot,
            payload: frame.payload.clone(),
        };
        match found {
            Some(at) => self.headers[at] = header,
            None => self.headers.push(header),
        }
        self.headers.sort_by_key(|header| (rank(header.track), header.slot));
        Applied::Changed
    }
}

fn rank(track: Track) -> u8 {
    match track {
        Track::Data => 0,
        Track::Video => 1,
        Track::Audio => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Moment;

    fn header(track: Track, kind: FrameKind, payload: &[u8]) -> Frame {
        Frame {
            track,
            kind,
            slot: 0,
            dts_ms: 0,
            arrival: Moment::ZERO,
            payload: Bytes::copy_from_slice(payload),
        }
    }

    #[test]
    fn a_repeated_header_is_unchanged() {
        let mut preamble = Preamble::default();
        let config = header(Track::Video, FrameKind::Config, b"sps");
        assert_eq!(preamble.apply(&config), Applied::Changed);
        assert_eq!(preamble.apply(&config), Applied::Unchanged);
        let changed = header(Track::Video, FrameKind::Config, b"other");
        assert_eq!(preamble.apply(&changed), Applied::Changed);
        assert_eq!(preamble.headers().len(), 1);
    }

    #[test]
    fn metadata_goes_first_then_video_then_audio() {
        let mut preamble = Preamble::default();
        preamble.apply(&header(Track::Audio, FrameKind::Config, b"a"));
        preamble.apply(&header(Track::Video, FrameKind::Config, b"v"));
        preamble.apply(&header(Track::Data, FrameKind::Metadata, b"m"));
        let order: Vec<_> = preamble.headers().iter().map(|header| header.track).collect();
        assert_eq!(order, [Track::Data, Track::Video, Track::Audio]);
    }

    #[test]
    fn headers_are_bounded_in_bytes() {
        let mut preamble = Preamble::default();
        let huge = vec![0; HEADER_BYTES_MAX + 1];
        assert_eq!(
            preamble.apply(&header(Track::Data, FrameKind::Metadata, &huge)),
            Applied::NotKept
        );
        assert!(preamble.headers().is_empty());
    }
}
