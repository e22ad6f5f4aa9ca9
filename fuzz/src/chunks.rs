//! The chunk reader: the same messages under any split, and the same again after our writers.

use shardcast::limits::{RTMP_CHUNK_SIZE_MAX, RTMP_CHUNK_STREAMS_MAX};
use shardcast::proto::rtmp::Message;
use shardcast::proto::rtmp::chunk_reader::{ChunkError, ChunkReader, ReaderLimits};
use shardcast::proto::rtmp::chunk_writer::{ChunkWriter, MessageHeader, full_len, write_full};
use shardcast::proto::rtmp::message::{self, SetPeerBandwidth, UserControl};

use super::dice::Dice;

const LIMITS: ReaderLimits = ReaderLimits {
    message_bytes_max: 1 << 17,
    chunk_streams_max: RTMP_CHUNK_STREAMS_MAX,
    // Three messages that have begun are too many.
    partial_bytes_max: 1 << 17,
};

/// One direction of a connection, from the end of the handshake on.
pub fn run(data: &[u8]) {
    let mut dice = Dice::of(data);
    let (messages, error) = read(&mut reader(None), &[data]);
    let split = read(&mut reader(None), &dice.cut(data));
    assert_eq!(split, (messages.clone(), error));
    let bytewise: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(read(&mut reader(None), &bytewise), (messages.clone(), error));
    let payload_bytes: usize = messages.iter().map(|message| message.payload.len()).sum();
    assert!(payload_bytes <= data.len(), "messages hold more than came in");
    for message in &messages {
        control(message);
    }
    let chunk_size = 1 + dice.piece(5_000);
    compressed(&messages, chunk_size, &mut dice);
    complete(&messages, chunk_size);
}

fn reader(chunk_size: Option<usize>) -> ChunkReader {
    let mut reader = ChunkReader::new(LIMITS);
    if let Some(bytes) = chunk_size {
        reader.set_chunk_size(bytes);
    }
    reader
}

fn read(reader: &mut ChunkReader, pieces: &[&[u8]]) -> (Vec<Message>, Option<ChunkError>) {
    let mut messages = Vec::new();
    let mut taken = reader.bytes_read();
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match reader.read(rest) {
                Ok(read) => {
                    taken += read.consumed as u64;
                    assert_eq!(reader.bytes_read(), taken);
                    rest = &rest[read.consumed..];
                    match read.message {
                        Some(message) => messages.push(message),
                        None => break,
                    }
                }
                Err(error) => return (messages, Some(error)),
            }
        }
        assert!(rest.is_empty(), "bytes are left although no message is complete");
        assert!((1..=RTMP_CHUNK_SIZE_MAX as usize).contains(&reader.chunk_size()));
    }
    (messages, None)
}

/// Reads protocol messages; what can be written means the same again.
fn control(message: &Message) {
    let payload = &message.payload;
    match message.type_id {
        message::SET_CHUNK_SIZE => {
            // The top bit is reserved: it is read and not written.
            if let Ok(bytes @ ..=0x7FFF_FFFF) = message::parse_set_chunk_size(payload) {
                let again = message::set_chunk_size(bytes);
                assert_eq!(message::parse_set_chunk_size(&again), Ok(bytes));
            }
        }
        message::ABORT => {
            if let Ok(id) = message::parse_abort(payload) {
                assert_eq!(message::parse_abort(&message::abort(id)), Ok(id));
            }
        }
        message::ACKNOWLEDGEMENT => {
            if let Ok(bytes) = message::parse_acknowledgement(payload) {
                let again = message::acknowledgement(u64::from(bytes));
                assert_eq!(message::parse_acknowledgement(&again), Ok(bytes));
            }
        }
        message::WINDOW_ACK_SIZE => {
            if let Ok(bytes) = message::parse_window_ack_size(payload) {
                let again = message::window_ack_size(bytes);
                assert_eq!(message::parse_window_ack_size(&again), Ok(bytes));
            }
        }
        message::SET_PEER_BANDWIDTH => {
            if let Ok(bandwidth) = SetPeerBandwidth::parse(payload) {
                assert_eq!(SetPeerBandwidth::parse(&bandwidth.encode()), Ok(bandwidth));
            }
        }
        message::USER_CONTROL => {
            if let Ok(event) = UserControl::parse(payload) {
                assert_eq!(UserControl::parse(&event.encode()), Ok(event));
            }
        }
        _ => {}
    }
}

/// Through the writer that refers to messages before.
fn compressed(messages: &[Message], chunk_size: usize, dice: &mut Dice) {
    let mut writer = ChunkWriter::new();
    writer.set_chunk_size(chunk_size);
    let mut out = Vec::new();
    for message in messages {
        writer.write(&header(message), &message.payload, &mut out);
        // The reader obeys; the writer's owner has to.
        if message.type_id == message::SET_CHUNK_SIZE {
            let size = message::parse_set_chunk_size(&message.payload).expect("it was obeyed");
            writer.set_chunk_size(size.min(RTMP_CHUNK_SIZE_MAX) as usize);
        }
    }
    let (found, error) = read(&mut reader(Some(chunk_size)), &dice.cut(&out));
    assert_eq!((found.as_slice(), error), (messages, None));
}

/// Through the writer whose messages stand for themselves.
fn complete(messages: &[Message], chunk_size: usize) {
    for message in messages {
        let mut out = Vec::new();
        let header = header(message);
        write_full(&header, &message.payload, chunk_size, &mut |bytes| {
            out.extend_from_slice(bytes);
        });
        assert_eq!(out.len(), full_len(&header, message.payload.len(), chunk_size));
        let (found, error) = read(&mut reader(Some(chunk_size)), &[&out]);
        assert_eq!((found.as_slice(), error), (std::slice::from_ref(message), None));
    }
}

fn header(message: &Message) -> MessageHeader {
    MessageHeader {
        chunk_stream_id: message.chunk_stream_id,
        message_stream_id: message.message_stream_id,
        type_id: message.type_id,
        timestamp_ms: message.timestamp_ms,
    }
}
