//! What publishers and viewers share about media: tracks and kinds of messages.

use shardcast::proto::codec::{self, PacketKind};
use shardcast::proto::rtmp::message;

use crate::synthetic::{aac, h264};

/// A track of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Track {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

/// What a message is for order and loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A frame at which decoding can begin (every frame of sound).
    Key,
    /// Any other frame.
    Inter,
    /// A decoder configuration or an end of sequence: not counted as a frame.
    Header,
}

impl Track {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Audio, Self::Video];

    /// From an RTMP message type or FLV tag type; they are the same.
    pub(crate) fn from_type_id(type_id: u8) -> Option<Self> {
        match type_id {
            message::AUDIO => Some(Self::Audio),
            message::VIDEO => Some(Self::Video),
            _ => None,
        }
    }

    /// The RTMP message type and FLV tag type.
    pub(crate) fn type_id(self) -> u8 {
        match self {
            Self::Audio => message::AUDIO,
            Self::Video => message::VIDEO,
        }
    }

    /// 0 or 1, for arrays.
    pub(crate) fn index(self) -> usize {
        usize::from(self == Self::Video)
    }

    /// Where a synthetic payload's stamp begins: after the FLV header of two or five bytes.
    pub(crate) fn stamp_offset(self) -> usize {
        match self {
            Self::Audio => 2 + aac::USER_DATA_OFFSET,
            Self::Video => 5 + h264::USER_DATA_OFFSET,
        }
    }

    /// What a payload of this track is.
    pub(crate) fn kind(self, payload: &[u8]) -> Kind {
        let packet = match self {
            Self::Audio => codec::audio(payload).map(|tag| tag.kind),
            Self::Video => codec::video(payload).map(|tag| tag.kind),
        };
        match (packet, self) {
            (Ok(PacketKind::Keyframe), _) | (Ok(PacketKind::Inter), Self::Audio) => Kind::Key,
            (Ok(PacketKind::Inter), Self::Video) => Kind::Inter,
            _ => Kind::Header,
        }
    }
}
