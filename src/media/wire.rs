//! The forms in which a stream log is written: the same bytes for every viewer of the log.
//!
//! Absolute timestamps and complete headers only, so that a viewer can begin at any message.

use super::{Frame, Track};
use crate::proto::flv;
use crate::proto::rtmp::chunk_writer::{self, MessageHeader};
use crate::proto::rtmp::node_path;
use crate::proto::websocket;

/// Which of a stream's tracks are sent. Data messages always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tracks {
    /// Sound.
    pub audio: bool,
    /// Pictures.
    pub video: bool,
}

/// A wire form of a stream. Viewers with equal wires share one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wire {
    /// RTMP chunks for one message stream id.
    Rtmp {
        /// The message stream id that the viewer's `createStream` returned.
        message_stream_id: u32,
        /// Payload bytes per chunk, as announced by Set Chunk Size.
        chunk_size: u32,
        /// What the viewer left of the stream with `receiveAudio` and `receiveVideo`.
        tracks: Tracks,
    },
    /// RTMP chunks as a publisher sends them: metadata says that it is kept for later viewers, and which
    /// nodes the stream has passed.
    Relay {
        /// The message stream id that the other server's `createStream` returned.
        message_stream_id: u32,
        /// Payload bytes per chunk, as announced by Set Chunk Size.
        chunk_size: u32,
        /// The name of this node.
        node: &'static str,
    },
    /// FLV tags, each followed by its PreviousTagSize.
    Flv,
    /// The same, each tag with its PreviousTagSize as one binary message of a WebSocket.
    WsFlv,
}

impl Tracks {
    /// Sound and pictures.
    pub const BOTH: Self = Self { audio: true, video: true };

    /// Whether messages of this kind are sent.
    pub const fn has(self, track: Track) -> bool {
        match track {
            Track::Audio => self.audio,
            Track::Video => self.video,
            Track::Data => true,
        }
    }

    /// What both have.
    pub const fn common(self, other: Self) -> Self {
        Self { audio: self.audio && other.audio, video: self.video && other.video }
    }

    /// What this has and `other` has not.
    pub const fn without(self, other: Self) -> Self {
        Self { audio: self.audio && !other.audio, video: self.video && !other.video }
    }
}

impl Wire {
    /// The tracks that are written.
    pub const fn tracks(self) -> Tracks {
        match self {
            Self::Rtmp { tracks, .. } => tracks,
            Self::Relay { .. } | Self::Flv | Self::WsFlv => Tracks::BOTH,
        }
    }

    /// The same form with other tracks; relays and FLV always have both.
    #[must_use]
    pub const fn with_tracks(self, tracks: Tracks) -> Self {
        match self {
            Self::Rtmp { message_stream_id, chunk_size, .. } => {
                Self::Rtmp { message_stream_id, chunk_size, tracks }
            }
            Self::Relay { .. } | Self::Flv | Self::WsFlv => self,
        }
    }

    /// Writes one message in this form.
    pub fn write(
        self,
        track: Track,
        timestamp_ms: u32,
        payload: &[u8],
        sink: &mut impl FnMut(&[u8]),
    ) {
        match self {
            Self::Rtmp { message_stream_id, chunk_size, .. } => {
                write_message(message_stream_id, chunk_size, track, timestamp_ms, payload, sink);
            }
            Self::Relay { message_stream_id, chunk_size, node } => {
                let metadata = (track == Track::Data)
                    .then(|| node_path::metadata_to_publish(payload, node))
                    .flatten();
                let payload = metadata.as_deref().unwrap_or(payload);
                write_message(message_stream_id, chunk_size, track, timestamp_ms, payload, sink);
            }
            Self::Flv => write_tag(track, timestamp_ms, payload, sink),
            Self::WsFlv => {
                websocket::write_binary_header(flv::tag_len(payload.len()), sink);
                write_tag(track, timestamp_ms, payload, sink);
            }
        }
    }

    /// Writes a frame in this form.
    pub fn write_frame(self, frame: &Frame, sink: &mut impl FnMut(&[u8])) {
        self.write(frame.track, frame.wire_timestamp_ms(), &frame.payload, sink);
    }
}

fn write_message(
    message_stream_id: u32,
    chunk_size: u32,
    track: Track,
    timestamp_ms: u32,
    payload: &[u8],
    sink: &mut impl FnMut(&[u8]),
) {
    let header = MessageHeader {
        chunk_stream_id: chunk_stream_id(track),
        message_stream_id,
        type_id: track.type_id(),
        timestamp_ms,
    };
    chunk_writer::write_full(&header, payload, chunk_size as usize, sink);
}

fn write_tag(track: Track, timestamp_ms: u32, payload: &[u8], sink: &mut impl FnMut(&[u8])) {
    let written = flv::write_tag(track.type_id(), timestamp_ms, payload, sink);
    debug_assert!(written.is_ok(), "a message of RTMP fits into a tag: both have 24 bits");
}

/// One chunk stream per track, away from 2 and 3, which carry control messages and commands:
/// those may stand between any two messages of a log.
const fn chunk_stream_id(track: Track) -> u32 {
    match track {
        Track::Audio => 4,
        Track::Data => 5,
        Track::Video => 6,
    }
}
