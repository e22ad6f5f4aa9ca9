//! Message type ids, and the messages of the protocol itself: chunk size, acknowledgements,
//! bandwidth, user control (RTMP specification, sections 5.4, 6 and 7.1).

use bytes::Bytes;
use thiserror::Error;

/// Sets the sender's chunk size; see [`set_chunk_size`].
pub const SET_CHUNK_SIZE: u8 = 1;
/// Drops a half-sent message of a chunk stream; see [`abort`].
pub const ABORT: u8 = 2;
/// Tells how many bytes arrived; see [`acknowledgement`].
pub const ACKNOWLEDGEMENT: u8 = 3;
/// Events about streams, and pings; see [`UserControl`].
pub const USER_CONTROL: u8 = 4;
/// After how many bytes the peer is to acknowledge; see [`window_ack_size`].
pub const WINDOW_ACK_SIZE: u8 = 5;
/// How much the peer may send unacknowledged; see [`SetPeerBandwidth`].
pub const SET_PEER_BANDWIDTH: u8 = 6;
/// One audio message: an FLV audio tag body.
pub const AUDIO: u8 = 8;
/// One video message: an FLV video tag body.
pub const VIDEO: u8 = 9;
/// A data message in AMF3 clothing: one byte 0, then AMF0; see [`amf0_body`].
pub const DATA_AMF3: u8 = 15;
/// A shared object message, AMF3.
pub const SHARED_OBJECT_AMF3: u8 = 16;
/// A command in AMF3 clothing: one byte 0, then AMF0; see [`amf0_body`].
pub const COMMAND_AMF3: u8 = 17;
/// A data message (metadata), AMF0.
pub const DATA_AMF0: u8 = 18;
/// A shared object message, AMF0.
pub const SHARED_OBJECT_AMF0: u8 = 19;
/// A command, AMF0.
pub const COMMAND_AMF0: u8 = 20;
/// Several audio, video and data messages in one, as FLV tags.
pub const AGGREGATE: u8 = 22;

/// The chunk stream of protocol control messages (section 5.4); their message stream is 0.
pub const CONTROL_CHUNK_STREAM: u32 = 2;

/// Why the payload of a protocol message cannot be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum MessageError {
    /// The payload has fewer bytes than its type needs.
    #[error("an RTMP control message of type {type_id} has only {length} bytes")]
    TooShort {
        /// The message type.
        type_id: u8,
        /// Bytes of payload.
        length: usize,
    },
    /// A chunk size of 0.
    #[error("the peer sets an RTMP chunk size of 0")]
    ChunkSizeZero,
}

/// How a peer is to take a [`SetPeerBandwidth`] (section 5.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitType {
    /// 0: use this window.
    Hard,
    /// 1: use the smaller of this and the present window.
    Soft,
    /// 2: hard if the last one was hard, else to be ignored. Unknown types count as this one.
    Dynamic,
}

/// Limits how much the peer sends without an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetPeerBandwidth {
    /// The window in bytes.
    pub size: u32,
    /// How to take it.
    pub limit_type: LimitType,
}

/// A user control event (section 7.1.7), two bytes of event type and its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserControl {
    /// 0: the stream is usable.
    StreamBegin(u32),
    /// 1: the stream has ended.
    StreamEof(u32),
    /// 2: no data for the stream at present.
    StreamDry(u32),
    /// 3: the player's buffer.
    SetBufferLength {
        /// The message stream.
        stream_id: u32,
        /// Length of the buffer in milliseconds.
        ms: u32,
    },
    /// 4: the stream is a recording.
    StreamIsRecorded(u32),
    /// 6: to be answered by a ping response with the same time in milliseconds.
    PingRequest(u32),
    /// 7: the answer, with the time of the request.
    PingResponse(u32),
    /// Any other event: players and servers must ignore it.
    Unknown {
        /// The event type.
        event: u16,
        /// What follows it.
        data: Vec<u8>,
    },
}

impl UserControl {
    /// Reads the payload of a message of type [`USER_CONTROL`].
    ///
    /// # Errors
    /// [`MessageError::TooShort`].
    pub fn parse(payload: &[u8]) -> Result<Self, MessageError> {
        let short = MessageError::TooShort { type_id: USER_CONTROL, length: payload.len() };
        let (event, data) = payload.split_first_chunk::<2>().ok_or(short)?;
        let event = u16::from_be_bytes(*event);
        let first = || number(data, USER_CONTROL);
        Ok(match event {
            0 => Self::StreamBegin(first()?),
            1 => Self::StreamEof(first()?),
            2 => Self::StreamDry(first()?),
            3 => Self::SetBufferLength {
                stream_id: first()?,
                ms: number(data.get(4..).unwrap_or_default(), USER_CONTROL)?,
            },
            4 => Self::StreamIsRecorded(first()?),
            6 => Self::PingRequest(first()?),
            7 => Self::PingResponse(first()?),
            _ => Self::Unknown { event, data: data.to_vec() },
        })
    }

    /// The payload of a message of type [`USER_CONTROL`].
    pub fn encode(&self) -> Vec<u8> {
        let (event, data) = match self {
            Self::StreamBegin(stream_id) => (0, stream_id),
            Self::StreamEof(stream_id) => (1, stream_id),
            Self::StreamDry(stream_id) => (2, stream_id),
            Self::SetBufferLength { stream_id, ms } => {
                let mut payload = encode_event(3, &stream_id.to_be_bytes());
                payload.extend_from_slice(&ms.to_be_bytes());
                return payload;
            }
            Self::StreamIsRecorded(stream_id) => (4, stream_id),
            Self::PingRequest(time_ms) => (6, time_ms),
            Self::PingResponse(time_ms) => (7, time_ms),
            Self::Unknown { event, data } => return encode_event(*event, data),
        };
        encode_event(event, &data.to_be_bytes())
    }
}

impl SetPeerBandwidth {
    /// Reads the payload of a message of type [`SET_PEER_BANDWIDTH`]. Some peers leave out the
    /// limit type: that counts as dynamic.
    ///
    /// # Errors
    /// [`MessageError::TooShort`].
    pub fn parse(payload: &[u8]) -> Result<Self, MessageError> {
        Ok(Self {
            size: number(payload, SET_PEER_BANDWIDTH)?,
            limit_type: match payload.get(4) {
                Some(0) => LimitType::Hard,
                Some(1) => LimitType::Soft,
                _ => LimitType::Dynamic,
            },
        })
    }

    /// The payload of a message of type [`SET_PEER_BANDWIDTH`].
    pub fn encode(self) -> [u8; 5] {
        let [a, b, c, d] = self.size.to_be_bytes();
        let limit_type = match self.limit_type {
            LimitType::Hard => 0,
            LimitType::Soft => 1,
            LimitType::Dynamic => 2,
        };
        [a, b, c, d, limit_type]
    }
}

/// The payload of [`SET_CHUNK_SIZE`]: `bytes` from 1 to 0x7FFF_FFFF.
pub fn set_chunk_size(bytes: u32) -> [u8; 4] {
    (bytes & 0x7FFF_FFFF).to_be_bytes()
}

/// Reads the payload of [`SET_CHUNK_SIZE`]: at least 1. The reserved top bit is not refused:
/// every size above the longest message means the same.
///
/// # Errors
/// Too short, or zero.
pub fn parse_set_chunk_size(payload: &[u8]) -> Result<u32, MessageError> {
    match number(payload, SET_CHUNK_SIZE)? {
        0 => Err(MessageError::ChunkSizeZero),
        size => Ok(size),
    }
}

/// The payload of [`ABORT`].
pub fn abort(chunk_stream_id: u32) -> [u8; 4] {
    chunk_stream_id.to_be_bytes()
}

/// Reads the payload of [`ABORT`]: the chunk stream whose partial message is to be dropped.
///
/// # Errors
/// [`MessageError::TooShort`].
pub fn parse_abort(payload: &[u8]) -> Result<u32, MessageError> {
    number(payload, ABORT)
}

/// The payload of [`ACKNOWLEDGEMENT`]: bytes received so far, modulo 2³².
pub fn acknowledgement(bytes_received: u64) -> [u8; 4] {
    let [_, _, _, _, low @ ..] = bytes_received.to_be_bytes();
    low
}

/// Reads the payload of [`ACKNOWLEDGEMENT`]: bytes the peer has received, modulo 2³².
///
/// # Errors
/// [`MessageError::TooShort`].
pub fn parse_acknowledgement(payload: &[u8]) -> Result<u32, MessageError> {
    number(payload, ACKNOWLEDGEMENT)
}

/// The payload of [`WINDOW_ACK_SIZE`].
pub fn window_ack_size(bytes: u32) -> [u8; 4] {
    bytes.to_be_bytes()
}

/// Reads the payload of [`WINDOW_ACK_SIZE`]: the window in bytes.
///
/// # Errors
/// [`MessageError::TooShort`].
pub fn parse_window_ack_size(payload: &[u8]) -> Result<u32, MessageError> {
    number(payload, WINDOW_ACK_SIZE)
}

/// The AMF0 part of a command or data message. Peers that negotiated AMF3 send types
/// [`COMMAND_AMF3`] and [`DATA_AMF3`]: one byte 0 before AMF0 values, of which any may be in AMF3
/// (behind marker 0x11).
pub fn amf0_body(type_id: u8, payload: &Bytes) -> Bytes {
    let dressed = matches!(type_id, COMMAND_AMF3 | DATA_AMF3);
    if dressed && payload.first() == Some(&0) { payload.slice(1..) } else { payload.clone() }
}

fn number(payload: &[u8], type_id: u8) -> Result<u32, MessageError> {
    let bytes =
        payload.first_chunk().ok_or(MessageError::TooShort { type_id, length: payload.len() })?;
    Ok(u32::from_be_bytes(*bytes))
}

fn encode_event(event: u16, data: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(2 + 8);
    payload.extend_from_slice(&event.to_be_bytes());
    payload.extend_from_slice(data);
    payload
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn user_control_events_round_trip() {
        for (event, bytes) in [
            (UserControl::StreamBegin(1), &[0, 0, 0, 0, 0, 1][..]),
            (UserControl::StreamEof(1), &[0, 1, 0, 0, 0, 1]),
            (UserControl::StreamDry(2), &[0, 2, 0, 0, 0, 2]),
            (
                UserControl::SetBufferLength { stream_id: 1, ms: 3000 },
                &[0, 3, 0, 0, 0, 1, 0, 0, 0x0B, 0xB8],
            ),
            (UserControl::StreamIsRecorded(3), &[0, 4, 0, 0, 0, 3]),
            (UserControl::PingRequest(258), &[0, 6, 0, 0, 1, 2]),
            (UserControl::PingResponse(258), &[0, 7, 0, 0, 1, 2]),
            (UserControl::Unknown { event: 31, data: vec![9] }, &[0, 31, 9]),
        ] {
            assert_eq!(event.encode(), bytes);
            assert_eq!(UserControl::parse(bytes).unwrap(), event);
        }
    }

    #[test]
    fn short_payloads_are_errors() {
        assert!(UserControl::parse(&[0]).is_err());
        assert!(UserControl::parse(&[0, 6, 0, 0]).is_err());
        assert!(UserControl::parse(&[0, 3, 0, 0, 0, 1, 0]).is_err());
        assert_eq!(
            parse_set_chunk_size(&[1]),
            Err(MessageError::TooShort { type_id: SET_CHUNK_SIZE, length: 1 })
        );
        assert!(parse_abort(&[]).is_err());
        assert!(parse_acknowledgement(&[0, 0, 0]).is_err());
        assert!(parse_window_ack_size(&[0, 0, 0]).is_err());
        assert!(SetPeerBandwidth::parse(&[0, 0, 0]).is_err());
    }

    #[test]
    fn only_a_chunk_size_of_zero_is_an_error() {
        assert_eq!(parse_set_chunk_size(&set_chunk_size(4096)), Ok(4096));
        assert_eq!(parse_set_chunk_size(&[0xFF; 4]), Ok(u32::MAX));
        assert_eq!(parse_set_chunk_size(&[0; 4]), Err(MessageError::ChunkSizeZero));
    }

    #[test]
    fn control_payloads_round_trip() {
        assert_eq!(parse_abort(&abort(70)), Ok(70));
        let wrapped = acknowledgement((1 << 32) + 5);
        assert_eq!(parse_acknowledgement(&wrapped), Ok(5));
        assert_eq!(parse_window_ack_size(&window_ack_size(77)), Ok(77));
        for limit_type in [LimitType::Hard, LimitType::Soft, LimitType::Dynamic] {
            let bandwidth = SetPeerBandwidth { size: 5_000_000, limit_type };
            assert_eq!(SetPeerBandwidth::parse(&bandwidth.encode()), Ok(bandwidth));
        }
    }

    #[test]
    fn amf3_clothing_is_taken_off() {
        let dressed = Bytes::from_static(&[0, 5]);
        assert_eq!(amf0_body(COMMAND_AMF3, &dressed), [5][..]);
        assert_eq!(amf0_body(DATA_AMF3, &dressed), [5][..]);
        assert_eq!(amf0_body(COMMAND_AMF0, &dressed), dressed);
        let plain = Bytes::from_static(&[2, 0, 0]);
        assert_eq!(amf0_body(COMMAND_AMF3, &plain), plain);
    }
}
