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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::proto::flv;

    /// A session of Flash Media Server 5.0.3, and what erl-rtmpmsg makes of it: see
    /// `tests/vectors/make_aggregate.py`.
    const FMS: &[u8] = include_bytes!("../../../tests/vectors/aggregate.bin");
    const FMS_SPLIT: &str = include_str!("../../../tests/vectors/aggregate.txt");

    fn aggregate(timestamp_ms: u32, payload: &[u8]) -> Message {
        Message {
            chunk_stream_id: 3,
            message_stream_id: 1,
            type_id: message::AGGREGATE,
            timestamp_ms,
            payload: Bytes::copy_from_slice(payload),
        }
    }

    fn tags(tags: &[(u8, u32, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (kind, time_ms, body) in tags {
            flv::write_tag(*kind, *time_ms, body, &mut |part| out.extend_from_slice(part)).unwrap();
        }
        out
    }

    fn seen(messages: &[Message]) -> Vec<(u8, u32, &[u8])> {
        messages.iter().map(|it| (it.type_id, it.timestamp_ms, &it.payload[..])).collect()
    }

    #[test]
    fn what_flash_media_server_sent_is_split_as_erl_rtmpmsg_does() {
        let mut rest = FMS;
        let mut lines = String::new();
        while let Some((head, body)) = rest.split_first_chunk::<8>() {
            let number = |from: usize| u32::from_be_bytes(head[from..from + 4].try_into().unwrap());
            let (payload, behind) = body.split_at(number(4) as usize);
            rest = behind;
            for part in split(&aggregate(number(0), payload)).unwrap() {
                lines += &format!(
                    "{} {} {} {}\n",
                    part.type_id,
                    part.timestamp_ms,
                    part.message_stream_id,
                    part.payload.len()
                );
            }
        }
        assert_eq!(lines, FMS_SPLIT);
    }

    #[test]
    fn the_first_tag_has_the_time_of_the_aggregate() {
        let payload =
            tags(&[(8, 7_000, b"a"), (9, 7_040, b"bc"), (8, 6_990, b"d"), (18, 7_040, b"")]);
        let messages = split(&aggregate(500, &payload)).unwrap();
        assert_eq!(
            seen(&messages),
            [(8, 500, &b"a"[..]), (9, 540, b"bc"), (8, 490, b"d"), (18, 540, b"")]
        );
        // Both counters may wrap.
        let payload = tags(&[(8, u32::MAX - 9, b"a"), (9, 30, b"b")]);
        let messages = split(&aggregate(u32::MAX - 19, &payload)).unwrap();
        assert_eq!(seen(&messages), [(8, u32::MAX - 19, &b"a"[..]), (9, 20, b"b")]);
    }

    #[test]
    fn back_pointers_may_be_wrong_or_missing_at_the_end() {
        let mut payload = tags(&[(8, 0, b"a"), (9, 40, b"bc")]);
        let expected = [(8, 0, &b"a"[..]), (9, 40, b"bc")];
        payload[12..16].copy_from_slice(&[0xFF; 4]);
        for missing in 0..=4 {
            let payload = &payload[..payload.len() - missing];
            assert_eq!(seen(&split(&aggregate(0, payload)).unwrap()), expected, "{missing}");
        }
        payload.extend([0; 10]);
        assert_eq!(seen(&split(&aggregate(0, &payload)).unwrap()), expected);
    }

    #[test]
    fn other_tags_are_left_out_and_aggregates_do_not_nest() {
        let inner = tags(&[(8, 0, b"a")]);
        let payload = tags(&[(22, 100, &inner), (20, 100, b"command"), (9, 140, b"b")]);
        assert_eq!(seen(&split(&aggregate(5, &payload)).unwrap()), [(9, 45, &b"b"[..])]);
    }

    #[test]
    fn a_tag_beyond_the_end_and_too_many_tags_are_refused() {
        let mut payload = tags(&[(8, 0, b"a"), (9, 40, b"bcd")]);
        payload.truncate(payload.len() - 5);
        assert_eq!(split(&aggregate(0, &payload)), Err(AggregateError::Truncated));
        let payload = tags(&[(8, 0, b"")]).repeat(AGGREGATE_MESSAGES_MAX);
        assert_eq!(split(&aggregate(0, &payload)).unwrap().len(), AGGREGATE_MESSAGES_MAX);
        let payload = tags(&[(8, 0, b"")]).repeat(AGGREGATE_MESSAGES_MAX + 1);
        assert_eq!(split(&aggregate(0, &payload)), Err(AggregateError::TooMany));
        assert_eq!(split(&aggregate(0, &[])), Ok(Vec::new()));
    }

    #[test]
    fn a_part_does_not_keep_the_aggregate() {
        let large = vec![0; 100_000];
        let message = aggregate(0, &tags(&[(18, 0, b"small"), (9, 0, &large)]));
        let parts = split(&message).unwrap();
        let inside = message.payload.as_ptr_range();
        assert!(!inside.contains(&parts[0].payload.as_ptr()));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = split(&aggregate(0, &bytes));
        }
    }
}
