//! Chunks → messages (RTMP specification, section 5.3), for any split of the byte stream.
//!
//! * Bytes taken by [`ChunkReader::read`] are never asked for again: of an unfinished header the
//!   reader keeps at most 18 bytes itself.
//! * Memory follows bytes that have arrived, not lengths that are claimed: a message of up to
//!   64 KiB is allocated once, a larger one grows by doubling. All partial messages together
//!   stay below [`ReaderLimits::partial_bytes_max`].
//! * Set Chunk Size and Abort are obeyed here, and also returned.
//! * After an error the stream cannot be understood any more: close the connection.

use bytes::Bytes;
use thiserror::Error;

use super::message::{self, MessageError};
use crate::limits::RTMP_CHUNK_SIZE_MAX;

/// The chunk size of both sides until they say otherwise (section 5.4.1).
pub const CHUNK_SIZE_DEFAULT: usize = 128;

/// Three bytes of basic header, eleven of message header, four of extended timestamp.
const HEADER_BYTES_MAX: usize = 18;
/// In the timestamp field: the value is in the extended timestamp.
const EXTENDED: u32 = 0xFF_FFFF;
/// A message of at most this many bytes is allocated at once, when its first byte arrives.
const AT_ONCE_BYTES_MAX: usize = 64 * 1024;
/// A first timestamp up to this one can be the distance to the next message as well.
const FIRST_DELTA_MAX_MS: u32 = 1000;

/// One complete RTMP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The chunk stream it came on.
    pub chunk_stream_id: u32,
    /// The message stream (NetStream) it belongs to; 0 for the connection itself.
    pub message_stream_id: u32,
    /// See the constants of [`message`].
    pub type_id: u8,
    /// Milliseconds on the sender's clock, modulo 2³².
    pub timestamp_ms: u32,
    /// The body.
    pub payload: Bytes,
}

/// What a peer may make a reader keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderLimits {
    /// Longer messages are refused.
    pub message_bytes_max: usize,
    /// More chunk streams are refused.
    pub chunk_streams_max: usize,
    /// More memory for messages that are not complete is refused; at least `message_bytes_max`.
    pub partial_bytes_max: usize,
}

/// What a call took and found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Bytes taken from the input: all of it, unless there is a message.
    pub consumed: usize,
    /// The message that became complete.
    pub message: Option<Message>,
}

/// Why a chunk stream cannot be read on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ChunkError {
    /// A message is longer than allowed.
    #[error("an RTMP message of {length} bytes is longer than the allowed {max}")]
    MessageTooLarge {
        /// Claimed length.
        length: usize,
        /// [`ReaderLimits::message_bytes_max`].
        max: usize,
    },
    /// The peer opens too many chunk streams.
    #[error("the peer uses more than the allowed {0} RTMP chunk streams")]
    TooManyChunkStreams(usize),
    /// Messages that are not complete need too much memory.
    #[error("unfinished RTMP messages hold more than the allowed {0} bytes")]
    PartialTooLarge(usize),
    /// A chunk refers to a previous message of its chunk stream, but there is none.
    #[error("RTMP chunk stream {0} starts with a header that refers to a message before it")]
    NoPreviousMessage(u32),
    /// A new message starts inside another one of the same chunk stream.
    #[error("RTMP chunk stream {0} starts a message before the last one is complete")]
    MessageInsideMessage(u32),
    /// A Set Chunk Size or Abort message makes no sense.
    #[error(transparent)]
    Control(#[from] MessageError),
}

/// Reads one direction of one connection.
#[derive(Debug)]
pub struct ChunkReader {
    limits: ReaderLimits,
    chunk_size: usize,
    bytes_read: u64,
    /// Memory of the partial messages of all chunk streams.
    partial_bytes: usize,
    state: State,
    /// The present chunk's stream, an index into `streams`.
    current: usize,
    header: Few<HEADER_BYTES_MAX>,
    /// Bytes taken for an extended timestamp that turned out to be something else.
    held: Few<4>,
    /// Index into `streams` plus one, by chunk stream id, for the ids of one-byte headers.
    slots: [u8; 64],
    streams: Vec<ChunkStream>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Header,
    /// A type 3 chunk may repeat the extended timestamp: so many of its bytes were seen.
    Repeat {
        expected: [u8; 4],
        matched: usize,
    },
    Payload {
        missing: usize,
    },
}

/// What is remembered of a chunk stream.
#[derive(Debug)]
struct ChunkStream {
    id: u32,
    message_stream_id: u32,
    timestamp_ms: u32,
    delta_ms: u32,
    /// The last extended timestamp field, if the last header had one.
    extended: Option<u32>,
    length: usize,
    type_id: u8,
    in_message: bool,
    payload: Vec<u8>,
}

impl ChunkReader {
    /// A reader at the start of the chunk stream, just after the handshake.
    pub fn new(limits: ReaderLimits) -> Self {
        Self {
            limits,
            chunk_size: CHUNK_SIZE_DEFAULT,
            bytes_read: 0,
            partial_bytes: 0,
            state: State::Header,
            current: 0,
            header: Few::new(),
            held: Few::new(),
            slots: [0; 64],
            streams: Vec::new(),
        }
    }

    /// Bytes taken so far, for acknowledgements.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The chunk size of the peer.
    pub fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    /// Sets the peer's chunk size from the next chunk on, within 1 and [`RTMP_CHUNK_SIZE_MAX`].
    /// The reader does so itself when the peer's Set Chunk Size passes.
    pub fn set_chunk_size(&mut self, bytes: usize) {
        self.chunk_size = bytes.clamp(1, RTMP_CHUNK_SIZE_MAX as usize);
    }

    /// Changes what the peer may make the reader keep, from the next chunk on.
    pub fn set_limits(&mut self, limits: ReaderLimits) {
        self.limits = limits;
    }

    /// Takes bytes until a message is complete or the input ends. Call again with the rest.
    ///
    /// # Errors
    /// See [`ChunkError`].
    pub fn read(&mut self, input: &[u8]) -> Result<Read, ChunkError> {
        let mut rest = input;
        let message = loop {
            let held = self.held.take();
            if held.is_empty() {
                let (after, message) = self.advance(rest)?;
                rest = after;
                if message.is_some() || self.held.is_empty() {
                    break message;
                }
            } else {
                let (after, message) = self.advance(held.as_slice())?;
                // Bytes held again come before those not looked at yet.
                self.held.extend(after);
                if message.is_some() {
                    break message;
                }
            }
        };
        let consumed = input.len() - rest.len();
        self.bytes_read += consumed as u64;
        Ok(Read { consumed, message })
    }

    /// Works on `bytes` until a message is complete, the bytes end, or some are to be held.
    fn advance<'a>(&mut self, bytes: &'a [u8]) -> Result<(&'a [u8], Option<Message>), ChunkError> {
        let mut rest = bytes;
        loop {
            match self.state {
                State::Header => {
                    let missing = missing_header_bytes(self.header.as_slice());
                    if missing == 0 {
                        self.start_chunk()?;
                        self.header.clear();
                        continue;
                    }
                    if rest.is_empty() {
                        return Ok((rest, None));
                    }
                    let (taken, after) = rest.split_at(missing.min(rest.len()));
                    self.header.extend(taken);
                    rest = after;
                }
                State::Repeat { expected, matched } => {
                    let Some(wanted) = expected.get(matched) else {
                        self.start_payload();
                        continue;
                    };
                    let Some((byte, after)) = rest.split_first() else {
                        return Ok((rest, None));
                    };
                    if byte == wanted {
                        rest = after;
                        let matched = matched + 1;
                        self.state = State::Repeat { expected, matched };
                    } else {
                        // Not repeated: what matched so far is payload, or even the next header.
                        self.start_payload();
                        self.held.extend(expected.get(..matched).unwrap_or_default());
                        if matched > 0 {
                            return Ok((rest, None));
                        }
                    }
                }
                State::Payload { missing } => {
                    let (taken, after) = rest.split_at(missing.min(rest.len()));
                    self.append(taken)?;
                    rest = after;
                    let missing = missing - taken.len();
                    if missing > 0 {
                        self.state = State::Payload { missing };
                        return Ok((rest, None));
                    }
                    self.state = State::Header;
                    if let Some(message) = self.finish_message() {
                        self.obey(&message)?;
                        return Ok((rest, Some(message)));
                    }
                }
            }
        }
    }

    /// Acts on a complete chunk header.
    fn start_chunk(&mut self) -> Result<(), ChunkError> {
        let header = Header::parse(self.header.as_slice());
        self.current = self.find_or_open(&header)?;
        let Some(stream) = self.streams.get_mut(self.current) else {
            return Ok(());
        };
        if stream.in_message {
            stream.check_continuation(&header)?;
        } else {
            stream.start_message(&header);
            if stream.length > self.limits.message_bytes_max {
                return Err(ChunkError::MessageTooLarge {
                    length: stream.length,
                    max: self.limits.message_bytes_max,
                });
            }
        }
        match stream.extended {
            // The specification's text repeats the field in type 3 chunks, its older edition and
            // librtmp's first chunks do not: the bytes themselves have to tell.
            Some(field) if header.format == 3 => {
                self.state = State::Repeat { expected: field.to_be_bytes(), matched: 0 };
            }
            _ => self.start_payload(),
        }
        Ok(())
    }

    fn start_payload(&mut self) {
        let missing =
            self.streams.get(self.current).map_or(0, |stream| stream.length - stream.payload.len());
        self.state = State::Payload { missing: missing.min(self.chunk_size) };
    }

    fn find_or_open(&mut self, header: &Header) -> Result<usize, ChunkError> {
        let id = header.chunk_stream_id;
        let slot = self.slots.get(id as usize).copied().unwrap_or(0);
        if slot != 0 {
            return Ok(usize::from(slot) - 1);
        }
        if let Some(index) = self.streams.iter().position(|stream| stream.id == id) {
            return Ok(index);
        }
        // librtmp opens its control chunk stream with type 1: stream id and time are then 0.
        if header.format > 1 {
            return Err(ChunkError::NoPreviousMessage(id));
        }
        if self.streams.len() >= self.limits.chunk_streams_max {
            return Err(ChunkError::TooManyChunkStreams(self.limits.chunk_streams_max));
        }
        self.streams.push(ChunkStream::new(id));
        if let Some(slot) = self.slots.get_mut(id as usize) {
            *slot = u8::try_from(self.streams.len()).unwrap_or(0);
        }
        Ok(self.streams.len() - 1)
    }

    /// Adds bytes to the present message, with memory in steps.
    fn append(&mut self, bytes: &[u8]) -> Result<(), ChunkError> {
        let Some(stream) = self.streams.get_mut(self.current) else {
            return Ok(());
        };
        let payload = &mut stream.payload;
        let before = payload.capacity();
        let needed = payload.len() + bytes.len();
        if needed > before {
            let step = (2 * before).max(AT_ONCE_BYTES_MAX).min(stream.length);
            let capacity = step.max(needed);
            let partial_bytes = self.partial_bytes - before + capacity;
            if partial_bytes > self.limits.partial_bytes_max {
                return Err(ChunkError::PartialTooLarge(self.limits.partial_bytes_max));
            }
            payload.reserve_exact(capacity - payload.len());
            self.partial_bytes = self.partial_bytes - before + payload.capacity();
        }
        payload.extend_from_slice(bytes);
        Ok(())
    }

    fn finish_message(&mut self) -> Option<Message> {
        let stream = self.streams.get_mut(self.current)?;
        if stream.payload.len() < stream.length {
            return None;
        }
        stream.in_message = false;
        let payload = std::mem::take(&mut stream.payload);
        self.partial_bytes -= payload.capacity();
        Some(Message {
            chunk_stream_id: stream.id,
            message_stream_id: stream.message_stream_id,
            type_id: stream.type_id,
            timestamp_ms: stream.timestamp_ms,
            payload: Bytes::from(payload),
        })
    }

    /// Applies the messages that are meant for the chunk layer.
    fn obey(&mut self, message: &Message) -> Result<(), ChunkError> {
        match message.type_id {
            message::SET_CHUNK_SIZE => {
                let size = message::parse_set_chunk_size(&message.payload)?;
                self.set_chunk_size(size.min(RTMP_CHUNK_SIZE_MAX) as usize);
            }
            message::ABORT => {
                let id = message::parse_abort(&message.payload)?;
                if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) {
                    self.partial_bytes -= stream.payload.capacity();
                    stream.payload = Vec::new();
                    stream.in_message = false;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl ChunkStream {
    fn new(id: u32) -> Self {
        Self {
            id,
            message_stream_id: 0,
            timestamp_ms: 0,
            delta_ms: 0,
            extended: None,
            length: 0,
            type_id: 0,
            in_message: false,
            payload: Vec::new(),
        }
    }

    fn start_message(&mut self, header: &Header) {
        self.in_message = true;
        if let Some((length, type_id)) = header.length_and_type {
            self.length = length;
            self.type_id = type_id;
        }
        if let Some(field) = header.timestamp {
            self.extended = header.extended.then_some(field);
            self.delta_ms = field;
        }
        if let Some((message_stream_id, field)) = header.message_stream_id.zip(header.timestamp) {
            self.message_stream_id = message_stream_id;
            self.timestamp_ms = field;
            // What a type 3 chunk adds when it follows: the specification (5.3.1.2.4), librtmp,
            // ffmpeg and SRS say the type 0 timestamp itself, and ffmpeg writes so, when the
            // second message is as far from the first as the first from zero. But librtmp and
            // others write type 3 for "the same time again", nginx-rtmp reads it so, and adding
            // a clock that runs for hours would double it. As a distance between two messages
            // only a small timestamp makes sense.
            if field > FIRST_DELTA_MAX_MS {
                self.delta_ms = 0;
            }
        } else {
            self.timestamp_ms = self.timestamp_ms.wrapping_add(self.delta_ms);
        }
    }

    /// Continuations should be type 3. As ffmpeg, SRS and nginx-rtmp do, others are taken as
    /// such when they speak of the same length; their time changes nothing.
    fn check_continuation(&self, header: &Header) -> Result<(), ChunkError> {
        match header.length_and_type {
            Some((length, _)) if length != self.length => {
                Err(ChunkError::MessageInsideMessage(self.id))
            }
            _ => Ok(()),
        }
    }
}

/// The fields of a chunk header, as far as its type has them.
struct Header {
    format: u8,
    chunk_stream_id: u32,
    /// Absolute in type 0, else a delta; the extended one, if `extended`.
    timestamp: Option<u32>,
    extended: bool,
    length_and_type: Option<(usize, u8)>,
    message_stream_id: Option<u32>,
}

impl Header {
    /// Reads a header for which [`missing_header_bytes`] is 0.
    fn parse(bytes: &[u8]) -> Self {
        let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
        let (format, basic) = (at(0) >> 6, basic_header_bytes(at(0)));
        let chunk_stream_id = match basic {
            1 => u32::from(at(0) & 0x3F),
            2 => 64 + u32::from(at(1)),
            _ => 64 + u32::from(at(1)) + 256 * u32::from(at(2)),
        };
        let fields = |from: usize| [at(basic + from), at(basic + from + 1), at(basic + from + 2)];
        let timestamp = big_endian_24(fields(0));
        let extended = format < 3 && timestamp == EXTENDED;
        let end = basic + message_header_bytes(format);
        Self {
            format,
            chunk_stream_id,
            timestamp: (format < 3).then(|| {
                if extended {
                    u32::from_be_bytes([at(end), at(end + 1), at(end + 2), at(end + 3)])
                } else {
                    timestamp
                }
            }),
            extended,
            length_and_type: (format < 2)
                .then(|| (big_endian_24(fields(3)) as usize, at(basic + 6))),
            message_stream_id: (format == 0).then(|| {
                // The one little-endian field of the protocol.
                let [a, b, c] = fields(7);
                u32::from_le_bytes([a, b, c, at(basic + 10)])
            }),
        }
    }
}

/// At most `N` bytes; `N` below 256.
#[derive(Clone, Copy, Debug)]
struct Few<const N: usize> {
    bytes: [u8; N],
    length: u8,
}

impl<const N: usize> Few<N> {
    fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.length = 0;
    }

    fn take(&mut self) -> Self {
        let taken = *self;
        self.clear();
        taken
    }

    fn extend(&mut self, bytes: &[u8]) {
        let free = self.bytes.iter_mut().skip(usize::from(self.length));
        for (to, from) in free.zip(bytes) {
            *to = *from;
            self.length += 1;
        }
    }
}

/// How many bytes the header that starts with `bytes` lacks at least; 0 if it is complete.
fn missing_header_bytes(bytes: &[u8]) -> usize {
    let Some(&first) = bytes.first() else {
        return 1;
    };
    let basic = basic_header_bytes(first);
    let plain = basic + message_header_bytes(first >> 6);
    let mut length = plain;
    if bytes.len() >= plain
        && let Some([0xFF, 0xFF, 0xFF]) = bytes.get(basic..plain.min(basic + 3))
    {
        length += 4;
    }
    length.saturating_sub(bytes.len())
}

fn basic_header_bytes(first: u8) -> usize {
    match first & 0x3F {
        0 => 2,
        1 => 3,
        _ => 1,
    }
}

fn message_header_bytes(format: u8) -> usize {
    match format {
        0 => 11,
        1 => 7,
        2 => 3,
        _ => 0,
    }
}

fn big_endian_24([a, b, c]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::RTMP_CHUNK_STREAMS_MAX;

    const LIMITS: ReaderLimits = ReaderLimits {
        message_bytes_max: 1 << 20,
        chunk_streams_max: RTMP_CHUNK_STREAMS_MAX,
        partial_bytes_max: 2 << 20,
    };

    /// Reads in pieces whose lengths cycle through `cuts`.
    fn read_all(
        reader: &mut ChunkReader,
        bytes: &[u8],
        cuts: &[usize],
    ) -> Result<Vec<Message>, ChunkError> {
        let mut messages = Vec::new();
        let mut rest = bytes;
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (mut piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            rest = after;
            while !piece.is_empty() {
                let read = reader.read(piece)?;
                piece = &piece[read.consumed..];
                assert!(read.message.is_some() || piece.is_empty());
                messages.extend(read.message);
            }
        }
        // Held bytes may still hold a message.
        while let Some(message) = reader.read(&[])?.message {
            messages.push(message);
        }
        Ok(messages)
    }

    fn messages(bytes: &[u8]) -> Result<Vec<Message>, ChunkError> {
        let whole = read_all(&mut ChunkReader::new(LIMITS), bytes, &[usize::MAX]);
        let single = read_all(&mut ChunkReader::new(LIMITS), bytes, &[1]);
        assert_eq!(whole, single);
        whole
    }

    fn full(csid: u8, timestamp: u32, length: u32, type_id: u8) -> Vec<u8> {
        let field = timestamp.min(EXTENDED).to_be_bytes();
        let length = length.to_be_bytes();
        let mut bytes = vec![csid];
        bytes.extend_from_slice(&field[1..]);
        bytes.extend_from_slice(&length[1..]);
        bytes.extend_from_slice(&[type_id, 1, 0, 0, 0]);
        if timestamp >= EXTENDED {
            bytes.extend_from_slice(&timestamp.to_be_bytes());
        }
        bytes
    }

    fn timestamps(bytes: &[u8]) -> Vec<u32> {
        let messages = messages(bytes).unwrap();
        messages.iter().map(|message| message.timestamp_ms).collect()
    }

    #[test]
    fn the_second_example_of_the_specification() {
        // Section 5.3.2.2: 307 bytes of video in chunks of 128.
        let payload: Vec<u8> = (0..307_u32).map(|n| n as u8).collect();
        let mut bytes = full(4, 1000, 307, 9);
        bytes.extend_from_slice(&payload[..128]);
        bytes.push(0xC4);
        bytes.extend_from_slice(&payload[128..256]);
        bytes.push(0xC4);
        bytes.extend_from_slice(&payload[256..]);
        let found = messages(&bytes).unwrap();
        assert_eq!(
            found,
            [Message {
                chunk_stream_id: 4,
                message_stream_id: 1,
                type_id: 9,
                timestamp_ms: 1000,
                payload: payload.into(),
            }]
        );
    }

    #[test]
    fn deltas_repeat_in_type_3() {
        let mut bytes = full(4, 5000, 1, 8);
        bytes.push(b'a');
        bytes.extend_from_slice(&[0x84, 0, 0, 20, b'b', 0xC4, b'c', 0xC4, b'd']);
        bytes.extend_from_slice(&[0x44, 0, 0, 30, 0, 0, 2, 8, b'e', b'f', 0xC4, b'g', b'h']);
        assert_eq!(timestamps(&bytes), [5000, 5020, 5040, 5060, 5090, 5120]);
    }

    #[test]
    fn type_3_after_type_0_adds_only_small_timestamps() {
        let pair = |timestamp| {
            let mut bytes = full(4, timestamp, 1, 8);
            bytes.extend_from_slice(b"a\xC4b");
            timestamps(&bytes)
        };
        assert_eq!(pair(0), [0, 0]);
        assert_eq!(pair(23), [23, 46]);
        assert_eq!(pair(1000), [1000, 2000]);
        assert_eq!(pair(1001), [1001, 1001]);
    }

    #[test]
    fn a_fresh_chunk_stream_may_start_with_type_1_only() {
        let ping = [0x42, 0, 0, 7, 0, 0, 1, 4, 9];
        let found = messages(&ping).unwrap();
        assert_eq!(found[0].timestamp_ms, 7);
        assert_eq!(found[0].message_stream_id, 0);
        assert_eq!(messages(&[0x83, 0, 0, 1, 0]), Err(ChunkError::NoPreviousMessage(3)));
        assert_eq!(messages(&[0xC3]), Err(ChunkError::NoPreviousMessage(3)));
    }

    #[test]
    fn extended_timestamps_may_be_repeated_or_not() {
        let timestamp = 0x0102_0304;
        let payload = [7_u8; 200];
        for repeated in [true, false] {
            let mut bytes = full(4, timestamp, 200, 9);
            bytes.extend_from_slice(&payload[..128]);
            bytes.push(0xC4);
            if repeated {
                bytes.extend_from_slice(&timestamp.to_be_bytes());
            }
            bytes.extend_from_slice(&payload[128..]);
            let found = messages(&bytes).unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].timestamp_ms, timestamp);
            assert_eq!(found[0].payload, payload[..]);
        }
    }

    #[test]
    fn payload_that_looks_like_half_an_extended_timestamp() {
        // The last chunk is shorter than the field and followed by other messages, and the bytes
        // match the field for a while: 01 | 02 ... could be the repeated timestamp.
        let timestamp = 0x0102_C204;
        for tail in [&[1_u8][..], &[1, 2], &[1, 2, 0xC2], &[1, 2, 0xC2, 5], &[9]] {
            let mut first = vec![0xAA; 128];
            first.extend_from_slice(tail);
            let mut bytes = full(4, timestamp, first.len() as u32, 9);
            bytes.extend_from_slice(&first[..128]);
            bytes.push(0xC4);
            bytes.extend_from_slice(tail);
            bytes.extend_from_slice(&full(2, 9, 1, 8));
            bytes.push(b'x');
            // Two empty messages, one byte each, so that held bytes hold whole messages.
            bytes.extend_from_slice(&full(3, 9, 0, 8));
            bytes.extend_from_slice(&[0xC3, 0xC3]);
            let found = messages(&bytes).unwrap();
            assert_eq!(found.len(), 5, "{tail:?}");
            assert_eq!(found[0].payload, first);
            assert_eq!(found[1].payload, b"x"[..]);
            assert!(found[4].payload.is_empty());
        }
    }

    #[test]
    fn held_bytes_may_be_whole_headers() {
        // An empty message with extended timestamp 02 C2 C3 xx on stream 4; then type 3 chunks
        // whose bytes equal the start of the field.
        let mut bytes = full(2, 5, 0, 8);
        bytes.extend_from_slice(&full(3, 5, 0, 8));
        let timestamp = 0xC2C3_C205;
        bytes.extend_from_slice(&full(4, timestamp, 0, 9));
        bytes.extend_from_slice(&[0xC4, 0xC2, 0xC3, 0xC2, 0xC3]);
        let found = messages(&bytes).unwrap();
        let ids: Vec<u32> = found.iter().map(|message| message.chunk_stream_id).collect();
        assert_eq!(ids, [2, 3, 4, 4, 2, 3, 2, 3]);
    }

    #[test]
    fn chunk_size_changes_apply_and_are_returned() {
        let mut bytes = full(2, 0, 4, message::SET_CHUNK_SIZE);
        bytes.extend_from_slice(&300_u32.to_be_bytes());
        bytes.extend_from_slice(&full(4, 0, 300, 9));
        bytes.extend_from_slice(&[5; 300]);
        let found = messages(&bytes).unwrap();
        assert_eq!(found[0].type_id, message::SET_CHUNK_SIZE);
        assert_eq!(found[1].payload, [5; 300][..]);

        let with_size = |size: u32| {
            let mut reader = ChunkReader::new(LIMITS);
            let mut bytes = full(2, 0, 4, message::SET_CHUNK_SIZE);
            bytes.extend_from_slice(&size.to_be_bytes());
            reader.read(&bytes).map(|_| reader.chunk_size())
        };
        assert_eq!(with_size(1), Ok(1));
        assert_eq!(with_size(0x7FFF_FFFF), Ok(RTMP_CHUNK_SIZE_MAX as usize));
        assert_eq!(with_size(0), Err(ChunkError::Control(MessageError::ChunkSizeZero)));
    }

    #[test]
    fn abort_drops_the_partial_message() {
        let mut bytes = full(4, 0, 200, 9);
        bytes.extend_from_slice(&[1; 128]);
        bytes.extend_from_slice(&full(2, 0, 4, message::ABORT));
        bytes.extend_from_slice(&4_u32.to_be_bytes());
        bytes.extend_from_slice(&full(4, 7, 3, 9));
        bytes.extend_from_slice(b"new");
        let mut reader = ChunkReader::new(LIMITS);
        let found = read_all(&mut reader, &bytes, &[10]).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].payload, b"new"[..]);
        assert_eq!(reader.partial_bytes, 0);
    }

    #[test]
    fn continuations_with_full_headers_count_when_they_fit() {
        let mut bytes = full(4, 10, 200, 9);
        bytes.extend_from_slice(&[1; 128]);
        let mut other = bytes.clone();
        bytes.extend_from_slice(&full(4, 10, 200, 9));
        bytes.extend_from_slice(&[1; 72]);
        assert_eq!(messages(&bytes).unwrap()[0].payload, [1; 200][..]);
        other.extend_from_slice(&full(4, 10, 100, 9));
        assert_eq!(messages(&other), Err(ChunkError::MessageInsideMessage(4)));
    }

    #[test]
    fn memory_follows_bytes_not_claims() {
        let limits =
            ReaderLimits { message_bytes_max: 16 << 20, partial_bytes_max: 32 << 20, ..LIMITS };
        let mut reader = ChunkReader::new(limits);
        reader.set_chunk_size(16 << 20);
        let length = 10_000_000;
        reader.read(&full(4, 0, length, 9)).unwrap();
        assert_eq!(reader.partial_bytes, 0);
        reader.read(&[0]).unwrap();
        assert_eq!(reader.partial_bytes, AT_ONCE_BYTES_MAX);
        let mut sent = 1;
        let piece = [0; 10_000];
        loop {
            let rest = (length as usize - sent).min(piece.len());
            sent += rest;
            let read = reader.read(&piece[..rest]).unwrap();
            if let Some(message) = read.message {
                assert_eq!(message.payload.len(), length as usize);
                break;
            }
            assert!(reader.partial_bytes <= 2 * sent.max(AT_ONCE_BYTES_MAX));
        }
        assert_eq!(reader.partial_bytes, 0);
    }

    #[test]
    fn an_idle_reader_is_small() {
        let mut reader = ChunkReader::new(LIMITS);
        for csid in 2..10 {
            let mut bytes = full(csid, 0, 1, 8);
            bytes.push(0);
            assert!(reader.read(&bytes).unwrap().message.is_some());
        }
        let heap = reader.streams.capacity() * size_of::<ChunkStream>();
        assert!(size_of::<ChunkReader>() + heap < 1024);
        assert_eq!(reader.partial_bytes, 0);
    }

    #[test]
    fn limits_are_kept() {
        let too_long = full(4, 0, (1 << 20) + 1, 9);
        assert_eq!(
            messages(&too_long),
            Err(ChunkError::MessageTooLarge { length: (1 << 20) + 1, max: 1 << 20 })
        );

        let limits = ReaderLimits {
            message_bytes_max: 100_000,
            chunk_streams_max: 3,
            partial_bytes_max: 100_000,
        };
        let mut bytes = Vec::new();
        for csid in 3..=6 {
            bytes.extend_from_slice(&full(csid, 0, 1, 8));
            bytes.push(0);
        }
        assert_eq!(
            read_all(&mut ChunkReader::new(limits), &bytes, &[7]),
            Err(ChunkError::TooManyChunkStreams(3))
        );

        let mut bytes = full(3, 0, 60_000, 8);
        bytes.extend_from_slice(&[0; 128]);
        bytes.extend_from_slice(&full(4, 0, 60_000, 8));
        bytes.extend_from_slice(&[0; 128]);
        assert_eq!(
            read_all(&mut ChunkReader::new(limits), &bytes, &[100]),
            Err(ChunkError::PartialTooLarge(100_000))
        );
    }

    #[test]
    fn chunk_stream_ids_of_all_lengths() {
        let mut body = full(0, 0, 1, 8);
        body.remove(0);
        body.push(0);
        let bytes = [
            &[0x3F][..],
            &body,
            &[0x00, 0],
            &body,
            &[0x00, 255],
            &body,
            &[0x01, 0, 1],
            &body,
            &[0x01, 255, 255],
            &body,
            // The same stream as the third one, in its longer form, continued with type 3.
            &[0xC1, 255, 0, 0],
        ]
        .concat();
        let found = messages(&bytes).unwrap();
        let ids: Vec<u32> = found.iter().map(|message| message.chunk_stream_id).collect();
        assert_eq!(ids, [63, 64, 319, 320, 65_599, 319]);
    }

    #[test]
    fn bytes_are_counted() {
        let mut reader = ChunkReader::new(LIMITS);
        let mut bytes = full(4, 0, 1, 8);
        bytes.extend_from_slice(b"ab");
        assert_eq!(reader.read(&bytes).unwrap().consumed, 13);
        assert_eq!(reader.bytes_read(), 13);
        reader.read(b"\xC4").unwrap();
        assert_eq!(reader.bytes_read(), 14);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_splits_do_not_matter(
            start in prop_oneof![Just(Vec::new()), Just(full(4, 0x0101_0101, 40, 9))],
            noise in prop::collection::vec(
                prop_oneof![any::<u8>(), Just(0xC4), Just(4), Just(0xFF), Just(1)],
                0..400,
            ),
            cuts in prop::collection::vec(1_usize..50, 1..5),
        ) {
            let bytes = [start, noise].concat();
            let whole = read_all(&mut ChunkReader::new(LIMITS), &bytes, &[usize::MAX]);
            let split = read_all(&mut ChunkReader::new(LIMITS), &bytes, &cuts);
            prop_assert_eq!(whole, split);
        }
    }
}
