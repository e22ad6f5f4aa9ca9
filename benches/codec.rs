//! The wire formats: bytes of a 2 Mbit/s stream in and out, and the AMF0 of a connection's start.
//!
//! `cargo bench --bench codec`. An operation of a stream's benchmark is one message; nanoseconds are CPU
//! time of the thread.

mod harness;

use std::hint::black_box;

use harness::{Round, Suite, sample};
use shardcast::limits;
use shardcast::media::{Frame, FrameKind, Track, Wire};
use shardcast::proto::codec;
use shardcast::proto::flv::{self, TagReader};
use shardcast::proto::rtmp::chunk_reader::{ChunkReader, ReaderLimits};
use shardcast::proto::rtmp::chunk_writer::{ChunkWriter, MessageHeader, write_full};
use shardcast::proto::rtmp::command::Command;
use shardcast::proto::{amf0, amf0::Value};

/// What a read brings at most: a frame of this stream rarely is larger.
const READ_BYTES: usize = 8 * 1024;

fn main() {
    let mut suite = Suite::from_arguments();
    let gop = sample::gop(sample::BITRATE);
    let messages = Round { operations: gop.len(), bytes: harness::payload_bytes(&gop) };
    for chunk_size in [128, 4096, 60_000] {
        let name = format!("chunk_reader/chunk_{chunk_size}");
        suite.bench(&name, messages, || chunk_reader(&gop, chunk_size));
    }
    suite.bench("chunk_writer/write_full_60000", messages, || write_messages(&gop, 60_000));
    suite.bench("chunk_writer/write_full_4096", messages, || write_messages(&gop, 4096));
    suite.bench("flv/write_tag", messages, || write_tags(&gop));
    suite.bench("flv/tag_reader", messages, || tag_reader(&gop));
    let headers = Round { bytes: 0, ..messages };
    suite.bench("codec/classify", headers, || classify(&gop));

    let one = |bytes: usize| Round { operations: 1, bytes };
    let command = connect();
    let encoded = command.encode();
    suite.bench("amf0/decode_connect", one(encoded.len()), || {
        let encoded = encoded.clone();
        move || drop(black_box(Command::parse(black_box(&encoded))))
    });
    suite.bench("amf0/encode_connect", one(encoded.len()), || {
        move || drop(black_box(command.encode()))
    });
    let values = metadata();
    let encoded = encode(&values);
    suite.bench("amf0/decode_metadata", one(encoded.len()), || {
        let encoded = encoded.clone();
        move || drop(black_box(amf0::decode_all(black_box(&encoded))))
    });
    suite.bench("amf0/encode_metadata", one(encoded.len()), || {
        move || drop(black_box(encode(black_box(&values))))
    });
}

fn encode(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        value.encode(&mut out);
    }
    out
}

fn header(frame: &Frame) -> MessageHeader {
    MessageHeader {
        chunk_stream_id: if frame.track == Track::Video { 6 } else { 4 },
        message_stream_id: 1,
        type_id: frame.track.type_id(),
        timestamp_ms: frame.wire_timestamp_ms(),
    }
}

/// A publisher's bytes, as they come, into messages.
fn chunk_reader(gop: &[Frame], chunk_size: usize) -> impl FnMut() + use<> {
    let mut writer = ChunkWriter::new();
    writer.set_chunk_size(chunk_size);
    let mut bytes = Vec::new();
    for frame in gop {
        writer.write(&header(frame), &frame.payload, &mut bytes);
    }
    let mut reader = ChunkReader::new(ReaderLimits {
        message_bytes_max: limits::RTMP_MESSAGE_BYTES_MAX,
        chunk_streams_max: limits::RTMP_CHUNK_STREAMS_MAX,
        partial_bytes_max: 2 * limits::RTMP_MESSAGE_BYTES_MAX,
    });
    reader.set_chunk_size(chunk_size);
    let expected = gop.len();
    move || {
        let mut found = 0;
        for mut piece in bytes.chunks(READ_BYTES) {
            while !piece.is_empty() {
                let read = reader.read(piece).expect("the writer's bytes are valid");
                piece = &piece[read.consumed..];
                if let Some(message) = read.message {
                    black_box(message);
                    found += 1;
                }
            }
        }
        assert_eq!(found, expected);
    }
}

/// Frames into the RTMP form of a log.
fn write_messages(gop: &[Frame], chunk_size: usize) -> impl FnMut() + use<> {
    let gop = gop.to_vec();
    let mut out = Vec::with_capacity(2 * harness::payload_bytes(&gop));
    move || {
        out.clear();
        for frame in &gop {
            write_full(&header(frame), &frame.payload, chunk_size, &mut |piece| {
                out.extend_from_slice(piece);
            });
        }
        black_box(&out);
    }
}

fn write_tags(gop: &[Frame]) -> impl FnMut() + use<> {
    let gop = gop.to_vec();
    let mut out = Vec::with_capacity(2 * harness::payload_bytes(&gop));
    move || {
        out.clear();
        for frame in &gop {
            Wire::Flv.write_frame(frame, &mut |piece| out.extend_from_slice(piece));
        }
        black_box(&out);
    }
}

fn tag_reader(gop: &[Frame]) -> impl FnMut() + use<> {
    let mut bytes = Vec::new();
    for frame in gop {
        Wire::Flv.write_frame(frame, &mut |piece| bytes.extend_from_slice(piece));
    }
    let mut reader = TagReader::new(flv::PAYLOAD_LEN_MAX);
    reader.push(&flv::header(true, true));
    let expected = gop.len();
    move || {
        let mut found = 0;
        for piece in bytes.chunks(READ_BYTES) {
            reader.push(piece);
            while let Some(tag) = reader.next_tag().expect("the writer's bytes are valid") {
                black_box(tag);
                found += 1;
            }
        }
        assert_eq!(found, expected);
    }
}

/// What kind of frame a message carries.
fn classify(gop: &[Frame]) -> impl FnMut() + use<> {
    let gop = gop.to_vec();
    move || {
        for frame in &gop {
            match frame.kind {
                FrameKind::Audio => _ = black_box(codec::audio(black_box(&frame.payload))),
                _ => _ = black_box(codec::video(black_box(&frame.payload))),
            }
        }
    }
}

/// What ffmpeg says when it connects.
fn connect() -> Command {
    let object = Value::object([
        ("app", "live".into()),
        ("type", "nonprivate".into()),
        ("flashVer", "FMLE/3.0 (compatible; Lavf62.3.100)".into()),
        ("tcUrl", "rtmp://video.example.com:1935/live".into()),
        ("fpad", false.into()),
        ("capabilities", 15.0.into()),
        ("audioCodecs", 4071.0.into()),
        ("videoCodecs", 252.0.into()),
        ("videoFunction", 1.0.into()),
    ]);
    Command { name: "connect".to_owned(), transaction: 1.0, object, args: Vec::new() }
}

/// Metadata as ffmpeg publishes it.
fn metadata() -> [Value; 2] {
    let properties = Value::ecma_array([
        ("duration", 0.0.into()),
        ("width", 1280.0.into()),
        ("height", 720.0.into()),
        ("videodatarate", 1953.125.into()),
        ("framerate", 30.0.into()),
        ("videocodecid", 7.0.into()),
        ("audiodatarate", 125.0.into()),
        ("audiosamplerate", 44_100.0.into()),
        ("audiosamplesize", 16.0.into()),
        ("stereo", true.into()),
        ("audiocodecid", 10.0.into()),
        ("encoder", "Lavf62.3.100".into()),
        ("filesize", 0.0.into()),
    ]);
    ["onMetaData".into(), properties]
}
