//! A publisher's message on its way from the connection to the publication.

use bytes::Bytes;

use crate::media::Track;
use crate::proto::amf0;
use crate::proto::codec;
use crate::proto::flv::PAYLOAD_LEN_MAX;
use crate::proto::rtmp::command::{DataAction, DataMessage};
use crate::proto::rtmp::message;
use crate::proto::rtmp::node_path::NodePath;

/// A publisher's audio, video or data message.
#[derive(Debug)]
pub struct MediaMessage {
    /// The message stream it came on.
    pub message_stream_id: u32,
    /// Its kind.
    pub track: Track,
    /// It is `onMetaData`.
    pub is_metadata: bool,
    /// Its 32-bit timestamp.
    pub timestamp_ms: u32,
    /// Its body; of a data message what viewers get (without `@setDataFrame`).
    pub payload: Bytes,
}

impl MediaMessage {
    /// Reduces a data message to what viewers get, all in AMF0. False when there is nothing to pass on.
    pub(super) fn unwrap_data(&mut self, type_id: u8) -> bool {
        let mut body = message::amf0_body(type_id, &self.payload);
        if type_id == message::DATA_AMF3 {
            match amf0::without_amf3(&body) {
                Ok(Some(plain)) => body = plain.into(),
                Ok(None) => {}
                Err(_) => return false,
            }
        }
        // Bytes that are no UTF-8 become longer.
        if body.len() > PAYLOAD_LEN_MAX {
            return false;
        }
        match DataMessage::parse(&body) {
            Ok(data) if data.action != DataAction::Clear => {
                self.is_metadata = data.is_metadata();
                self.payload = data.payload;
                true
            }
            _ => false,
        }
    }

    /// Whether it says that the stream has passed this node before.
    pub(super) fn is_loop(&self, node: &str) -> bool {
        self.is_metadata && NodePath::of_metadata(&self.payload).ends_at(node)
    }

    /// Whether it is a header: metadata, a decoder configuration, or what stands beside one.
    pub(super) fn is_header(&self) -> bool {
        match self.track {
            Track::Data => self.is_metadata,
            Track::Video => codec::video(&self.payload).is_ok_and(|tag| tag.kind.is_header()),
            Track::Audio => codec::audio(&self.payload).is_ok_and(|tag| tag.kind.is_header()),
        }
    }
}
