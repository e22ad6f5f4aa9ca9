//! The forms in which a stream log is written: the same bytes for every viewer of the log.
//!
//! Absolute timestamps and complete headers only, so that a viewer can begin at any message.

use super::{Frame, Track};
use crate::proto::flv;
use crate::proto::rtmp::chunk_writer::{self, MessageHeader};
use crate::proto::websocket;

/// A wire form of a stream. Viewers with equal wires share one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wire {
    /// RTMP chunks for one message stream id.
    Rtmp {
        /// The message stream id that the viewer's `createStream` returned.
        message_stream_id: u32,
        /// Payload bytes per chunk, as announced by Set Chunk Size.
        chunk_size: u32,
    },
    /// FLV tags, each followed by its PreviousTagSize.
    Flv,
    /// The same, each tag with its PreviousTagSize as one binary message of a WebSocket.
    WsFlv,
}

impl Wire {
    /// Writes one message in this form.
    pub fn write(
        self,
        track: Track,
        timestamp_ms: u32,
        payload: &[u8],
        sink: &mut impl FnMut(&[u8]),
    ) {
        match self {
            Self::Rtmp { message_stream_id, chunk_size } => {
                let header = MessageHeader {
                    chunk_stream_id: chunk_stream_id(track),
                    message_stream_id,
                    type_id: track.type_id(),
                    timestamp_ms,
                };
                chunk_writer::write_full(&header, payload, chunk_size as usize, sink);
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
