//! One media message of a stream, parsed once on the publisher's shard.

use bytes::Bytes;

use super::Moment;

/// Which kind of message carries a frame. The numbers are the message type ids that RTMP
/// (specification 7.1) and FLV tags (specification E.4.1) share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Track {
    /// Audio message, type 8.
    Audio = 8,
    /// Video message, type 9.
    Video = 9,
    /// AMF0 data message, type 18: metadata, cue points, text.
    Data = 18,
}

impl Track {
    /// The message type id, the same in RTMP and FLV.
    pub const fn type_id(self) -> u8 {
        self as u8
    }
}

/// What a frame is to a viewer who wants to begin with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A decoder configuration (AVC, HEVC, AV1, AAC, Opus …): part of the preamble.
    Config,
    /// `onMetaData`, or what holds for a track until the next of its kind (colour of the video,
    /// channel layout of the audio): part of the preamble.
    Metadata,
    /// A video frame that decoding of its track can begin with.
    Keyframe,
    /// A video frame that needs earlier ones.
    Inter,
    /// An audio frame; each stands for itself.
    Audio,
    /// Everything else that is passed on in order: cue points, end of sequence, empty frames.
    Other,
}

impl FrameKind {
    /// Whether the frame belongs to the headers that every viewer needs first.
    pub const fn is_preamble(self) -> bool {
        matches!(self, Self::Config | Self::Metadata)
    }
}

/// One message: its payload is the body of an RTMP message, which is also that of an FLV tag.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The kind of message.
    pub track: Track,
    /// Its role for a viewer that joins.
    pub kind: FrameKind,
    /// Which track of its kind it is for (multitrack; of several the first); 0 without multitrack.
    pub slot: u8,
    /// Decoding time on the stream's timeline in milliseconds; the wire carries its low 32 bits.
    pub dts_ms: u64,
    /// When it came to the publisher's shard, or up to a turn earlier: it is read when the shard looks. After
    /// a stop of the whole machine it may have come earlier still.
    pub arrival: Moment,
    /// Body of the message.
    pub payload: Bytes,
}

impl Frame {
    /// The timestamp that goes on the wire: 32 bits, wrapping after 49.7 days. Metadata has 0, for it
    /// holds from now on and is not shown at a time: ffmpeg takes it for subtitles at any other.
    pub const fn wire_timestamp_ms(&self) -> u32 {
        match (self.track, self.kind) {
            (Track::Data, FrameKind::Metadata) => 0,
            _ => self.dts_ms as u32,
        }
    }
}
