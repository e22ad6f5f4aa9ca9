//! Aggregate messages (type 22; RTMP specification, section 7.1.6): messages of one stream as FLV tags,
//! each followed by a back pointer. Flash Media Server sends them to catch up, and servers that are
//! fed by one pass them on.
//!
//! The tags' timestamps count from anywhere: the first tag has the time of the aggregate, the others
//! keep their distance to it. The message stream of a tag means nothing. The back pointer is not
//! needed and not looked at: writers differ in what it counts, and some leave out the last.

use bytes::Bytes;
use thiserror::Error;

use super::Message;
use super::message;
use crate::limits::AGGREGATE_MESSAGES_MAX;
use crate::proto::flv::TAG_HEADER_LEN;

const BACK_POINTER_LEN: usize = 4;

/// Why the payload of an aggregate is none.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AggregateError {
    /// A tag is longer than what is left.
    #[error("an aggregate message ends inside one of its messages")]
    Truncated,
    /// More than [`AGGREGATE_MESSAGES_MAX`] messages.
    #[error("an aggregate message holds more than {AGGREGATE_MESSAGES_MAX} messages")]
    TooMany,
}

/// The audio, video and data messages of an aggregate, in order; tags of other kinds are left out. The
/// payloads are copies, so that none of them keeps the whole aggregate in memory.
///
/// # Errors
/// See [`AggregateError`].
pub fn split(aggregate: &Message) -> Result<Vec<Message>, AggregateError> {
    let mut messages = Vec::new();
    let mut first_ms = None;
    let mut rest = &aggregate.payload[..];
    let mut count = 0;
    // What is shorter than a tag's header holds no message.
    while let Some((&[kind, s2, s1, s0, t2, t1, t0, extended, ..], body)) =
        rest.split_first_chunk::<TAG_HEADER_LEN>()
    {
        count += 1;
        if count > AGGREGATE_MESSAGES_MAX {
            return Err(AggregateError::TooMany);
        }
        let size = u32::from_be_bytes([0, s2, s1, s0]) as usize;
        let (payload, behind) = body.split_at_checked(size).ok_or(AggregateError::Truncated)?;
        rest = behind.get(BACK_POINTER_LEN..).unwrap_or_default();
        let time_ms = u32::from_be_bytes([extended, t2, t1, t0]);
        let since_first_ms = time_ms.wrapping_sub(*first_ms.get_or_insert(time_ms));
        if matches!(kind, message::AUDIO | message::VIDEO | message::DATA_AMF0 | message::DATA_AMF3)
        {
            messages.push(Message {
                chunk_stream_id: aggregate.chunk_stream_id,
                message_stream_id: aggregate.message_stream_id,
                type_id: kind,
                timestamp_ms: aggregate.timestamp_ms.wrapping_add(since_first_ms),
                payload: Bytes::copy_from_slice(payload),
            });
        }
    }
    Ok(messages)
}
