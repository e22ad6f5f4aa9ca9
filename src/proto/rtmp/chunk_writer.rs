//! Messages → chunks (RTMP specification, section 5.3).
//!
//! * [`write_full`] is stateless: type 0 first, so that the same bytes suit every viewer and any
//!   point to join. It allocates nothing, and [`full_len`] knows the exact size before.
//! * [`ChunkWriter`] remembers the last header per chunk stream and compresses, for one peer.
//! * Both repeat an extended timestamp in continuation chunks: ffmpeg, SRS, nginx-rtmp and
//!   [`chunk_reader`](super::chunk_reader) expect that.

use super::chunk_reader::CHUNK_SIZE_DEFAULT;

/// The longest payload: the length field has 24 bits.
pub const PAYLOAD_BYTES_MAX: usize = 0xFF_FFFF;

/// In the timestamp field: the value is in the extended timestamp.
const EXTENDED: u32 = 0xFF_FFFF;

/// What stands before the payload of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHeader {
    /// 2 to 65,599; each of them keeps its own order and may interleave with others.
    pub chunk_stream_id: u32,
    /// The message stream (NetStream); 0 for the connection itself.
    pub message_stream_id: u32,
    /// See the constants of [`message`](super::message).
    pub type_id: u8,
    /// Milliseconds, modulo 2³².
    pub timestamp_ms: u32,
}

/// Writes a message that refers to nothing before it: a type 0 chunk and type 3 continuations.
/// `sink` gets the pieces in order. Payloads end at [`PAYLOAD_BYTES_MAX`].
pub fn write_full(
    header: &MessageHeader,
    payload: &[u8],
    chunk_size: usize,
    sink: &mut impl FnMut(&[u8]),
) {
    let mut first = HeaderBytes::new();
    first.basic(0, header.chunk_stream_id);
    first.timestamp(header.timestamp_ms);
    first.length_and_type(payload.len(), header.type_id);
    first.push(&header.message_stream_id.to_le_bytes());
    first.extended(header.timestamp_ms);
    write_chunks(&first, header.chunk_stream_id, header.timestamp_ms, payload, chunk_size, sink);
}

/// The number of bytes that [`write_full`] writes.
pub fn full_len(header: &MessageHeader, payload_len: usize, chunk_size: usize) -> usize {
    let payload_len = payload_len.min(PAYLOAD_BYTES_MAX);
    let chunks = payload_len.div_ceil(chunk_size.max(1)).max(1);
    let basic = match header.chunk_stream_id {
        ..64 => 1,
        64..320 => 2,
        _ => 3,
    };
    let extended = if header.timestamp_ms >= EXTENDED { 4 } else { 0 };
    chunks * (basic + extended) + 11 + payload_len
}

/// Writes one direction of one connection, with the shortest headers that every known reader
/// takes the same way.
#[derive(Debug)]
pub struct ChunkWriter {
    chunk_size: usize,
    streams: Vec<LastHeader>,
}

#[derive(Debug)]
struct LastHeader {
    header: MessageHeader,
    payload_len: usize,
    /// None after a type 0 chunk.
    delta_ms: Option<u32>,
}

impl Default for ChunkWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkWriter {
    /// A writer at the start of the chunk stream, just after the handshake.
    pub fn new() -> Self {
        Self { chunk_size: CHUNK_SIZE_DEFAULT, streams: Vec::new() }
    }

    /// The chunk size in force.
    pub fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    /// Sets the chunk size (at least 1) from the next message on. The caller sends the Set Chunk
    /// Size message before.
    pub fn set_chunk_size(&mut self, bytes: usize) {
        self.chunk_size = bytes.max(1);
    }

    /// Appends a message. Payloads end at [`PAYLOAD_BYTES_MAX`].
    pub fn write(&mut self, header: &MessageHeader, payload: &[u8], out: &mut Vec<u8>) {
        let payload_len = payload.len().min(PAYLOAD_BYTES_MAX);
        let id = header.chunk_stream_id;
        let mut sink = |piece: &[u8]| out.extend_from_slice(piece);
        let last = self.streams.iter_mut().find(|last| last.header.chunk_stream_id == id);
        let Some(last) = last else {
            write_full(header, payload, self.chunk_size, &mut sink);
            self.streams.push(LastHeader { header: *header, payload_len, delta_ms: None });
            return;
        };
        let delta_ms = header.timestamp_ms.wrapping_sub(last.header.timestamp_ms);
        // A delta cannot go back, and readers disagree about extended ones.
        let restart =
            delta_ms >= EXTENDED || last.header.message_stream_id != header.message_stream_id;
        if restart {
            write_full(header, payload, self.chunk_size, &mut sink);
        } else {
            let same_kind =
                last.payload_len == payload_len && last.header.type_id == header.type_id;
            // Never type 3 right after type 0: readers disagree about the delta.
            let same_delta = last.delta_ms == Some(delta_ms);
            let mut first = HeaderBytes::new();
            match (same_kind, same_delta) {
                (true, true) => first.basic(3, id),
                (true, false) => {
                    first.basic(2, id);
                    first.timestamp(delta_ms);
                }
                (false, _) => {
                    first.basic(1, id);
                    first.timestamp(delta_ms);
                    first.length_and_type(payload_len, header.type_id);
                }
            }
            write_chunks(&first, id, delta_ms, payload, self.chunk_size, &mut sink);
        }
        last.header = *header;
        last.payload_len = payload_len;
        last.delta_ms = (!restart).then_some(delta_ms);
    }
}

/// The bytes of a chunk header, on the stack.
struct HeaderBytes {
    bytes: [u8; 18],
    length: usize,
}

impl HeaderBytes {
    fn new() -> Self {
        Self { bytes: [0; 18], length: 0 }
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) {
        let free = self.bytes.iter_mut().skip(self.length);
        for (to, from) in free.zip(bytes) {
            *to = *from;
        }
        self.length += bytes.len();
    }

    fn basic(&mut self, format: u8, chunk_stream_id: u32) {
        let format = format << 6;
        match chunk_stream_id {
            ..64 => self.push(&[format | chunk_stream_id as u8]),
            64..320 => self.push(&[format, (chunk_stream_id - 64) as u8]),
            _ => {
                let [low, high, ..] = (chunk_stream_id - 64).to_le_bytes();
                self.push(&[format | 1, low, high]);
            }
        }
    }

    fn timestamp(&mut self, field: u32) {
        let [_, low @ ..] = field.min(EXTENDED).to_be_bytes();
        self.push(&low);
    }

    fn length_and_type(&mut self, length: usize, type_id: u8) {
        let [.., a, b, c] = length.min(PAYLOAD_BYTES_MAX).to_be_bytes();
        self.push(&[a, b, c, type_id]);
    }

    fn extended(&mut self, field: u32) {
        if field >= EXTENDED {
            self.push(&field.to_be_bytes());
        }
    }
}

/// Writes a complete first header and the payload, with continuation headers where needed.
fn write_chunks(
    first: &HeaderBytes,
    chunk_stream_id: u32,
    timestamp_field: u32,
    payload: &[u8],
    chunk_size: usize,
    sink: &mut impl FnMut(&[u8]),
) {
    debug_assert!(payload.len() <= PAYLOAD_BYTES_MAX, "callers cap messages");
    let payload = payload.get(..PAYLOAD_BYTES_MAX).unwrap_or(payload);
    sink(first.as_slice());
    let mut continuation = HeaderBytes::new();
    continuation.basic(3, chunk_stream_id);
    continuation.extended(timestamp_field);
    for (index, piece) in payload.chunks(chunk_size.max(1)).enumerate() {
        if index > 0 {
            sink(continuation.as_slice());
        }
        sink(piece);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::rtmp::Message;
    use crate::proto::rtmp::chunk_reader::{ChunkReader, ReaderLimits};

    const AUDIO: MessageHeader =
        MessageHeader { chunk_stream_id: 4, message_stream_id: 1, type_id: 8, timestamp_ms: 1000 };

    fn at(timestamp_ms: u32) -> MessageHeader {
        MessageHeader { timestamp_ms, ..AUDIO }
    }

    fn read_all(reader: &mut ChunkReader, bytes: &[u8], cuts: &[usize]) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut rest = bytes;
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (mut piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            rest = after;
            while !piece.is_empty() {
                let read = reader.read(piece).unwrap();
                piece = &piece[read.consumed..];
                messages.extend(read.message);
            }
        }
        messages
    }

    fn reader() -> ChunkReader {
        ChunkReader::new(ReaderLimits {
            message_bytes_max: PAYLOAD_BYTES_MAX,
            chunk_streams_max: 64,
            partial_bytes_max: 1 << 26,
        })
    }

    fn expected(header: &MessageHeader, payload: &[u8]) -> Message {
        Message {
            chunk_stream_id: header.chunk_stream_id,
            message_stream_id: header.message_stream_id,
            type_id: header.type_id,
            timestamp_ms: header.timestamp_ms,
            payload: payload.to_vec().into(),
        }
    }

    #[test]
    fn the_first_example_of_the_specification() {
        // Section 5.3.2.1: four audio messages of 32 bytes, 20 ms apart.
        let mut writer = ChunkWriter::new();
        let mut lengths = Vec::new();
        let mut first_bytes = Vec::new();
        for timestamp_ms in [1000, 1020, 1040, 1060] {
            let mut out = Vec::new();
            writer.write(&at(timestamp_ms), &[0; 32], &mut out);
            lengths.push(out.len());
            first_bytes.push(out[0]);
        }
        assert_eq!(lengths, [44, 36, 33, 33]);
        assert_eq!(first_bytes, [0x04, 0x84, 0xC4, 0xC4]);
    }

    #[test]
    fn type_3_does_not_follow_type_0() {
        let mut writer = ChunkWriter::new();
        let mut out = Vec::new();
        for timestamp_ms in [23, 46] {
            out.clear();
            writer.write(&at(timestamp_ms), &[0], &mut out);
        }
        assert_eq!(out, [0x84, 0, 0, 23, 0]);
    }

    #[test]
    fn time_that_goes_back_or_leaps_gets_a_full_header() {
        let mut writer = ChunkWriter::new();
        for (timestamp_ms, format) in [
            (10, 0),
            (5, 0),
            (6, 2),
            (0x00FF_FFFF + 6, 0),
            (0x01FF_FFFD + 6, 2),
            (u32::MAX, 0),
            (4, 2),
        ] {
            let mut out = Vec::new();
            writer.write(&at(timestamp_ms), &[0], &mut out);
            assert_eq!(out[0] >> 6, format, "at {timestamp_ms}");
        }
    }

    #[test]
    fn exact_bytes_of_a_full_message_with_extended_timestamp() {
        let header = MessageHeader {
            chunk_stream_id: 70,
            message_stream_id: 0x0102_0304,
            type_id: 9,
            timestamp_ms: 0x0100_0000,
        };
        let mut out = Vec::new();
        write_full(&header, b"abc", 2, &mut |piece| out.extend_from_slice(piece));
        let bytes = [
            &[0x00, 6, 0xFF, 0xFF, 0xFF, 0, 0, 3, 9, 4, 3, 2, 1, 1, 0, 0, 0][..],
            b"ab",
            &[0xC0, 6, 1, 0, 0, 0],
            b"c",
        ]
        .concat();
        assert_eq!(out, bytes);
    }

    fn any_header() -> impl Strategy<Value = MessageHeader> {
        (
            prop_oneof![2_u32..8, 2_u32..65_600],
            0_u32..3,
            prop_oneof![Just(8_u8), Just(9), Just(18)],
            any_timestamp(),
        )
            .prop_map(|(chunk_stream_id, message_stream_id, type_id, timestamp_ms)| {
                MessageHeader { chunk_stream_id, message_stream_id, type_id, timestamp_ms }
            })
    }

    fn any_timestamp() -> impl Strategy<Value = u32> {
        prop_oneof![any::<u32>(), 0_u32..100, 0xFF_FFF0_u32..0x100_0010, u32::MAX - 20..=u32::MAX,]
    }

    proptest! {
        #[test]
        fn full_messages_round_trip(
            header in any_header(),
            payload in prop::collection::vec(any::<u8>(), 0..3000),
            chunk_size in prop_oneof![1_usize..300, 1_usize..5000],
            cuts in prop::collection::vec(1_usize..400, 1..5),
        ) {
            let mut out = Vec::new();
            write_full(&header, &payload, chunk_size, &mut |piece| out.extend_from_slice(piece));
            prop_assert_eq!(out.len(), full_len(&header, payload.len(), chunk_size));
            let mut reader = reader();
            reader.set_chunk_size(chunk_size);
            let found = read_all(&mut reader, &out, &cuts);
            prop_assert_eq!(found, [expected(&header, &payload)]);
        }

        #[test]
        fn compressed_messages_round_trip(
            chunk_size in prop_oneof![1_usize..300, Just(128)],
            steps in prop::collection::vec(
                (
                    2_u32..5,
                    1_u32..3,
                    8_u8..10,
                    prop_oneof![Just(20_u32), Just(0), any_timestamp()],
                    prop_oneof![Just(3_usize), Just(0), 0_usize..500],
                ),
                1..40,
            ),
            cuts in prop::collection::vec(1_usize..400, 1..5),
        ) {
            let mut writer = ChunkWriter::new();
            writer.set_chunk_size(chunk_size);
            let (mut out, mut sent) = (Vec::new(), Vec::new());
            let mut timestamp_ms = 0_u32;
            for (chunk_stream_id, message_stream_id, type_id, step_ms, length) in steps {
                timestamp_ms = timestamp_ms.wrapping_add(step_ms);
                let header =
                    MessageHeader { chunk_stream_id, message_stream_id, type_id, timestamp_ms };
                let payload = vec![sent.len() as u8; length];
                writer.write(&header, &payload, &mut out);
                sent.push(expected(&header, &payload));
            }
            let mut reader = reader();
            reader.set_chunk_size(chunk_size);
            prop_assert_eq!(read_all(&mut reader, &out, &cuts), sent);
        }

        #[test]
        fn interleaved_chunk_streams_round_trip(
            chunk_size in 1_usize..100,
            parts in prop::collection::vec(
                (any_timestamp(), prop::collection::vec(any::<u8>(), 0..400)),
                2..5,
            ),
            order in prop::collection::vec(any::<prop::sample::Index>(), 1..50),
            cuts in prop::collection::vec(1_usize..60, 1..5),
        ) {
            // Whole chunks of each message, dealt out in any order.
            let mut sent = Vec::new();
            let mut queues = Vec::new();
            for (index, (timestamp_ms, payload)) in parts.iter().enumerate() {
                let header = MessageHeader {
                    chunk_stream_id: 60 + 3 * index as u32,
                    timestamp_ms: *timestamp_ms,
                    ..AUDIO
                };
                let mut chunks: Vec<Vec<u8>> = Vec::new();
                let mut pieces = 0;
                write_full(&header, payload, chunk_size, &mut |piece| {
                    if pieces % 2 == 0 {
                        chunks.push(piece.to_vec());
                    } else {
                        chunks.last_mut().unwrap().extend_from_slice(piece);
                    }
                    pieces += 1;
                });
                sent.push(expected(&header, payload));
                chunks.reverse();
                queues.push(chunks);
            }
            let mut out = Vec::new();
            let mut order = order.iter().cycle();
            while !queues.is_empty() {
                let at = order.next().unwrap().index(queues.len());
                out.extend_from_slice(&queues[at].pop().unwrap());
                queues.retain(|queue| !queue.is_empty());
            }
            let mut reader = reader();
            reader.set_chunk_size(chunk_size);
            let mut found = read_all(&mut reader, &out, &cuts);
            found.sort_by_key(|message| message.chunk_stream_id);
            prop_assert_eq!(found, sent);
        }
    }
}
