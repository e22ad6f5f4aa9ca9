//! Aggregate messages: what is split can be put together again; nothing is longer than what came.

use bytes::Bytes;
use shardcast::limits::AGGREGATE_MESSAGES_MAX;
use shardcast::proto::flv;
use shardcast::proto::rtmp::aggregate;
use shardcast::proto::rtmp::{Message, message};

/// The payload of an aggregate message.
pub fn run(data: &[u8]) {
    let whole = whole(4_000_000_000, Bytes::copy_from_slice(data));
    let parts = match aggregate::split(&whole) {
        Ok(parts) => parts,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(parts.len() <= AGGREGATE_MESSAGES_MAX);
    let bytes: usize = parts.iter().map(|part| flv::tag_len(part.payload.len())).sum();
    // The last back pointer may be missing.
    assert!(bytes <= data.len() + 4);
    let Some(first) = parts.first() else { return };
    let mut again = Vec::new();
    for part in &parts {
        assert_eq!(part.message_stream_id, whole.message_stream_id);
        assert_ne!(part.type_id, message::AGGREGATE, "no aggregate in an aggregate");
        flv::write_tag(part.type_id, part.timestamp_ms, &part.payload, &mut |bytes| {
            again.extend_from_slice(bytes);
        })
        .expect("a tag fits into a tag");
    }
    let again = self::whole(first.timestamp_ms, again.into());
    assert_eq!(aggregate::split(&again), Ok(parts));
}

fn whole(timestamp_ms: u32, payload: Bytes) -> Message {
    Message {
        chunk_stream_id: 4,
        message_stream_id: 1,
        type_id: message::AGGREGATE,
        timestamp_ms,
        payload,
    }
}
