//! The headers a viewer needs before its first frame: metadata, decoder configurations, and what
//! stands beside them (colour, channel layout).
//!
//! Cameras repeat their headers with each keyframe; a repeat that changes nothing is recognised
//! and not sent again. A body for several tracks (multitrack) is one header: it goes when a later one
//! stands for all of its tracks.

use bytes::Bytes;

use super::{Frame, FrameKind, Track};
use crate::proto::codec;

/// Headers kept per stream; further ones (multitrack beyond this) are passed on but not kept.
const HEADERS_MAX: usize = 64;
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
    tracks: TrackSet,
}

/// The headers in force, in the order metadata, video, audio; of a track its configuration first.
#[derive(Clone, Debug, Default)]
pub struct Preamble {
    headers: Vec<Header>,
}

/// Numbers of tracks, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TrackSet([u64; 4]);

impl Preamble {
    /// The headers in the order in which they are sent.
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// Whether a header of the track is known.
    pub fn has(&self, track: Track) -> bool {
        self.headers.iter().any(|header| header.track == track)
    }

    /// The codecs that are given by FourCC, each once, with the kind of their track.
    pub fn fourccs(&self) -> Vec<(Track, [u8; 4])> {
        let mut found = Vec::new();
        for header in self.headers.iter().filter(|header| header.kind == FrameKind::Config) {
            let tracks = match header.track {
                Track::Video => codec::video_tracks(&header.payload),
                Track::Audio => codec::audio_tracks(&header.payload),
                Track::Data => continue,
            };
            for fourcc in tracks.filter_map(|track| track.fourcc) {
                if !found.contains(&(header.track, fourcc)) {
                    found.push((header.track, fourcc));
                }
            }
        }
        found
    }

    /// Takes in a header frame (`Config` or `Metadata`; others are not kept).
    pub fn apply(&mut self, frame: &Frame) -> Applied {
        if !frame.kind.is_preamble() {
            return Applied::NotKept;
        }
        let header = Header {
            track: frame.track,
            kind: frame.kind,
            slot: frame.slot,
            payload: frame.payload.clone(),
            tracks: TrackSet::of(frame),
        };
        if self.is_in_force(&header) {
            return Applied::Unchanged;
        }
        let kept = self.headers.iter().filter(|known| !header.replaces(known));
        let (count, bytes) =
            kept.fold((0, 0), |(count, bytes), known| (count + 1, bytes + known.payload.len()));
        if bytes + header.payload.len() > HEADER_BYTES_MAX || count == HEADERS_MAX {
            return Applied::NotKept;
        }
        self.headers.retain(|known| !header.replaces(known));
        // Among its kind it is the newest, so it goes behind those that it stands for only in part.
        let at = self.headers.partition_point(|known| known.rank() <= header.rank());
        self.headers.insert(at, header);
        Applied::Changed
    }

    /// Whether the same header is there and no later one stands for one of its tracks.
    fn is_in_force(&self, header: &Header) -> bool {
        let mut same_kind = self.headers.iter().filter(|known| known.is_kind_of(header));
        same_kind.any(|known| known.payload == header.payload)
            && same_kind.all(|later| !later.tracks.intersects(header.tracks))
    }
}

impl Header {
    fn is_kind_of(&self, other: &Self) -> bool {
        (self.track, self.kind) == (other.track, other.kind)
    }

    fn replaces(&self, known: &Self) -> bool {
        self.is_kind_of(known) && self.tracks.contains(known.tracks)
    }

    fn rank(&self) -> u8 {
        let track = match self.track {
            Track::Data => 0,
            Track::Video => 2,
            Track::Audio => 4,
        };
        track + u8::from(self.kind == FrameKind::Metadata)
    }
}

impl TrackSet {
    fn of(frame: &Frame) -> Self {
        let tracks = match frame.track {
            Track::Video => Some(codec::video_tracks(&frame.payload)),
            Track::Audio => Some(codec::audio_tracks(&frame.payload)),
            Track::Data => None,
        };
        // The first track is in it in any case.
        let mut set = Self([0; 4]);
        set.add(frame.slot);
        tracks.into_iter().flatten().for_each(|track| set.add(track.id));
        set
    }

    fn add(&mut self, id: u8) {
        self.0[usize::from(id / 64)] |= 1 << (id % 64);
    }

    fn contains(self, other: Self) -> bool {
        self.0.iter().zip(other.0).all(|(mine, its)| mine & its == its)
    }

    fn intersects(self, other: Self) -> bool {
        self.0.iter().zip(other.0).any(|(mine, its)| mine & its != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Moment;

    fn header(track: Track, kind: FrameKind, payload: &[u8]) -> Frame {
        let slot = match track {
            Track::Video => codec::video(payload).map_or(0, |tag| tag.track_id),
            _ => codec::audio(payload).map_or(0, |tag| tag.track_id),
        };
        Frame {
            track,
            kind,
            slot,
            dts_ms: 0,
            arrival: Moment::ZERO,
            payload: Bytes::copy_from_slice(payload),
        }
    }

    fn video(preamble: &mut Preamble, payload: &[u8]) -> Applied {
        preamble.apply(&header(Track::Video, FrameKind::Config, payload))
    }

    fn payloads(preamble: &Preamble) -> Vec<&[u8]> {
        preamble.headers().iter().map(|header| &header.payload[..]).collect()
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
        let (colour, layout) = (b"\x94hvc1\x02".as_slice(), b"\x94mp4a\x01\x06".as_slice());
        preamble.apply(&header(Track::Audio, FrameKind::Metadata, layout));
        preamble.apply(&header(Track::Audio, FrameKind::Config, &[0xaf, 0, 1]));
        preamble.apply(&header(Track::Video, FrameKind::Metadata, colour));
        preamble.apply(&header(Track::Video, FrameKind::Config, b"\x90hvc1\x01"));
        preamble.apply(&header(Track::Data, FrameKind::Metadata, b"m"));
        let expected: [&[u8]; 5] = [b"m", b"\x90hvc1\x01", colour, &[0xaf, 0, 1], layout];
        assert_eq!(payloads(&preamble), expected);
    }

    #[test]
    fn a_later_colour_replaces_the_one_before_and_not_the_configuration() {
        let mut preamble = Preamble::default();
        video(&mut preamble, b"\x90hvc1\x01");
        for colour in [b"\x94hvc1\x02a", b"\x94hvc1\x02b"] {
            let frame = header(Track::Video, FrameKind::Metadata, colour);
            assert_eq!(preamble.apply(&frame), Applied::Changed);
            assert_eq!(preamble.apply(&frame), Applied::Unchanged);
        }
        assert_eq!(payloads(&preamble), [b"\x90hvc1\x01".as_slice(), b"\x94hvc1\x02b"]);
    }

    #[test]
    fn a_header_for_many_tracks_goes_when_all_of_them_have_later_ones() {
        let mut preamble = Preamble::default();
        // Tracks 1 and 2 in one body, then track 2 alone, then both again.
        let both = b"\x96\x10hvc1\x01\x00\x00\x01a\x02\x00\x00\x01b".as_slice();
        let second = b"\x96\x00hvc1\x02c".as_slice();
        let plain = b"\x17\x00\x00\x00\x00d".as_slice();
        assert_eq!(video(&mut preamble, plain), Applied::Changed);
        assert_eq!(video(&mut preamble, both), Applied::Changed);
        assert_eq!(video(&mut preamble, both), Applied::Unchanged);
        assert_eq!(video(&mut preamble, second), Applied::Changed);
        assert_eq!(video(&mut preamble, plain), Applied::Unchanged);
        assert_eq!(payloads(&preamble), [plain, both, second], "track 1 is still in the first");
        assert_eq!(video(&mut preamble, both), Applied::Changed, "it says something else of 2");
        assert_eq!(payloads(&preamble), [plain, both]);
        let codecs = preamble.fourccs();
        assert_eq!(codecs, [(Track::Video, *b"hvc1")], "the legacy form has no FourCC");
    }

    #[test]
    fn headers_are_bounded_in_bytes_and_in_number() {
        let mut preamble = Preamble::default();
        let huge = vec![0; HEADER_BYTES_MAX + 1];
        assert_eq!(
            preamble.apply(&header(Track::Data, FrameKind::Metadata, &huge)),
            Applied::NotKept
        );
        assert!(preamble.headers().is_empty());
        for id in 0..=255_u8 {
            let body = [b"\x96\x00hvc1".as_slice(), &[id, 1]].concat();
            let kept = usize::from(id) < HEADERS_MAX;
            let expected = if kept { Applied::Changed } else { Applied::NotKept };
            assert_eq!(video(&mut preamble, &body), expected);
        }
        assert_eq!(video(&mut preamble, b"\x96\x00hvc1\x00\x09"), Applied::Changed, "a known one");
    }
}
