//! How many bytes a server spends on a message, learnt from the first messages of a connection.
//!
//! Most servers write every message to every viewer with headers of one length (ours: RTMP type 0,
//! twelve bytes; FLV: eleven and four). Then the bytes that a viewer must receive are known from
//! what was published, without reading them.

/// Timestamps from here on are extended: four bytes more per chunk.
const EXTENDED: u32 = 0xFF_FFFF;

/// Bytes around payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WireForm {
    /// Chunks with a first header of this length, basic header included.
    Rtmp {
        /// Bytes of the first header, without extended timestamp.
        header_bytes: usize,
        /// Payload bytes per chunk.
        chunk_size: usize,
    },
    /// FLV tags without transfer coding.
    Flv,
    /// Headers of changing length, or a transfer coding: at least the payload and one byte per
    /// message.
    Unknown,
}

impl WireForm {
    /// Bytes of one message; a lower bound if the form is unknown.
    pub(crate) fn wire_bytes(self, payload_bytes: usize, timestamp_ms: u32) -> usize {
        match self {
            Self::Rtmp { header_bytes, chunk_size } => {
                let extended = if timestamp_ms >= EXTENDED { 4 } else { 0 };
                let further = payload_bytes.div_ceil(chunk_size.max(1)).saturating_sub(1);
                header_bytes + extended + payload_bytes + further * (1 + extended)
            }
            Self::Flv => shardcast::proto::flv::tag_len(payload_bytes),
            Self::Unknown => payload_bytes + 1,
        }
    }

    /// Whether byte counts must be equal.
    pub(crate) fn is_exact(self) -> bool {
        self != Self::Unknown
    }
}

#[cfg(test)]
mod tests {
    use shardcast::proto::rtmp::chunk_writer::{MessageHeader, full_len};

    use super::*;

    #[test]
    fn our_servers_form() {
        for payload_bytes in [0, 1, 127, 128, 129, 60_000, 60_001, 200_000] {
            for timestamp_ms in [0, EXTENDED - 1, EXTENDED] {
                for chunk_size in [128, 60_000] {
                    let header = MessageHeader {
                        chunk_stream_id: 6,
                        message_stream_id: 1,
                        type_id: 9,
                        timestamp_ms,
                    };
                    let form = WireForm::Rtmp { header_bytes: 12, chunk_size };
                    assert_eq!(
                        form.wire_bytes(payload_bytes, timestamp_ms),
                        full_len(&header, payload_bytes, chunk_size)
                    );
                }
            }
        }
    }
}
