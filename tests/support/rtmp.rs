//! A raw RTMP client: what goes out is exactly what the test wrote, and every message comes in.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use shardcast::proto::amf0::Value;
use shardcast::proto::rtmp::Message;
use shardcast::proto::rtmp::chunk_reader::{ChunkReader, ReaderLimits};
use shardcast::proto::rtmp::chunk_writer::{MessageHeader, write_full};
use shardcast::proto::rtmp::command::{self, Command};
use shardcast::proto::rtmp::handshake::{ClientHandshake, HandshakeMode};
use shardcast::proto::rtmp::message;

use super::wait::SOON;

/// Payload bytes per chunk of what is sent.
const CHUNK_SIZE: usize = 60_000;
/// Longest message that is taken.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How a client writes its commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Messages of type 20.
    Amf0,
    /// Messages of type 17, after a connect with object encoding 3.
    Amf3,
}

/// A connection whose connect command was accepted.
pub(crate) struct RtmpClient {
    stream: TcpStream,
    reader: ChunkReader,
    encoding: Encoding,
    transaction: f64,
    unread: Vec<u8>,
    /// Media that came while an answer was awaited.
    media: Vec<Message>,
    is_closed: bool,
}

impl RtmpClient {
    /// Connects to the application `live`.
    pub(crate) fn connect(address: SocketAddr, encoding: Encoding) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a time-out can be set");
        stream.set_write_timeout(Some(SOON)).expect("a time-out can be set");
        let mut client = Self {
            stream,
            reader: ChunkReader::new(ReaderLimits {
                message_bytes_max: MESSAGE_BYTES_MAX,
                chunk_streams_max: 64,
                partial_bytes_max: 2 * MESSAGE_BYTES_MAX,
            }),
            encoding: Encoding::Amf0,
            transaction: 0.0,
            unread: Vec::new(),
            media: Vec::new(),
            is_closed: false,
        };
        client.handshake();
        let chunk_size = u32::try_from(CHUNK_SIZE).expect("a small number");
        client.send_in_chunks(0, message::SET_CHUNK_SIZE, 0, &chunk_size.to_be_bytes(), 128);
        let object = Value::object([
            ("app", Value::from("live")),
            ("tcUrl", Value::from(format!("rtmp://{address}/live"))),
            ("objectEncoding", Value::from(if encoding == Encoding::Amf3 { 3.0 } else { 0.0 })),
        ]);
        client.transaction = 1.0;
        client.send(0, message::COMMAND_AMF0, 0, &command::encode("connect", 1.0, &object, &[]));
        let (answer, _) = client.answer();
        assert_eq!(answer.name, "_result", "{answer:?}");
        client.encoding = encoding;
        client
    }

    fn handshake(&mut self) {
        let mut handshake = ClientHandshake::new(HandshakeMode::Simple, 1, 0);
        let mut out = Vec::new();
        handshake.start(&mut out);
        self.write(&out);
        let deadline = Instant::now() + SOON;
        loop {
            assert!(Instant::now() < deadline, "the server answers the handshake");
            self.read();
            let mut out = Vec::new();
            let progress = handshake.input(&self.unread, &mut out).expect("a handshake");
            self.unread.drain(..progress.consumed);
            self.write(&out);
            if progress.done {
                return;
            }
        }
    }

    /// Calls a method that is answered, and gives the answer with its message type.
    pub(crate) fn call(&mut self, name: &str, args: &[Value]) -> (Command, u8) {
        self.transaction += 1.0;
        self.command(0, name, self.transaction, args);
        self.answer()
    }

    /// Calls a method of a message stream that is answered by statuses, if at all.
    pub(crate) fn tell(&mut self, stream: u32, name: &str, args: &[Value]) {
        self.command(stream, name, 0.0, args);
    }

    fn command(&mut self, stream: u32, name: &str, transaction: f64, args: &[Value]) {
        let body = command::encode(name, transaction, &Value::Null, args);
        match self.encoding {
            Encoding::Amf0 => self.send(stream, message::COMMAND_AMF0, 0, &body),
            Encoding::Amf3 => {
                self.send(stream, message::COMMAND_AMF3, 0, &[&[0], &body[..]].concat());
            }
        }
    }

    /// A new message stream.
    pub(crate) fn create_stream(&mut self) -> u32 {
        let (answer, _) = self.call("createStream", &[]);
        assert_eq!(answer.name, "_result", "{answer:?}");
        answer.f64_arg(0).expect("a number") as u32
    }

    /// Publishes on a message stream; returns when the server has accepted.
    pub(crate) fn publish(&mut self, stream: u32, name: &str, kind: &str) {
        self.tell(stream, "publish", &[name.into(), kind.into()]);
        self.await_status(stream, "NetStream.Publish.Start");
    }

    /// Plays on a message stream; returns when the server has accepted.
    pub(crate) fn play(&mut self, stream: u32, name: &str) {
        self.tell(stream, "play", &[name.into()]);
        self.await_status(stream, "NetStream.Play.Start");
    }

    /// Waits for a status; media that comes before is kept.
    pub(crate) fn await_status(&mut self, stream: u32, code: &str) {
        self.await_command(&format!("{code} on message stream {stream}"), |message, command| {
            let info = command.args.first().and_then(|info| info.property("code"));
            message.message_stream_id == stream
                && info.and_then(Value::as_str) == Some(code)
                && command.name == "onStatus"
        });
    }

    fn answer(&mut self) -> (Command, u8) {
        let transaction = self.transaction;
        self.await_command("an answer", |_, command| {
            matches!(command.name.as_str(), "_result" | "_error")
                && command.transaction == transaction
        })
    }

    fn await_command(
        &mut self,
        what: &str,
        is_it: impl Fn(&Message, &Command) -> bool,
    ) -> (Command, u8) {
        let deadline = Instant::now() + SOON;
        loop {
            let next = self.next(deadline);
            let message = next.unwrap_or_else(|| panic!("the server closed; awaited: {what}"));
            match message.type_id {
                message::COMMAND_AMF0 | message::COMMAND_AMF3 => {
                    let body = message::amf0_body(message.type_id, &message.payload);
                    let command = Command::parse(&body).expect("a command");
                    if is_it(&message, &command) {
                        return (command, message.type_id);
                    }
                }
                message::AUDIO | message::VIDEO | message::DATA_AMF0 => self.media.push(message),
                _ => {}
            }
        }
    }

    /// Media that came, up to now or to the end of the connection.
    pub(crate) fn take_media(&mut self) -> Vec<Message> {
        self.read();
        while let Some(message) = self.take_message() {
            if matches!(message.type_id, message::AUDIO | message::VIDEO | message::DATA_AMF0) {
                self.media.push(message);
            }
        }
        std::mem::take(&mut self.media)
    }

    /// Sends a message with a type 0 header.
    pub(crate) fn send(&mut self, stream: u32, type_id: u8, timestamp_ms: u32, payload: &[u8]) {
        self.send_in_chunks(stream, type_id, timestamp_ms, payload, CHUNK_SIZE);
    }

    fn send_in_chunks(
        &mut self,
        stream: u32,
        type_id: u8,
        timestamp_ms: u32,
        payload: &[u8],
        chunk_size: usize,
    ) {
        let chunk_stream_id = if type_id == message::SET_CHUNK_SIZE { 2 } else { 3 };
        let header =
            MessageHeader { chunk_stream_id, message_stream_id: stream, type_id, timestamp_ms };
        let mut out = Vec::new();
        write_full(&header, payload, chunk_size, &mut |bytes| out.extend_from_slice(bytes));
        self.write(&out);
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// The next message; `None` when the server has closed. Panics at the deadline.
    fn next(&mut self, deadline: Instant) -> Option<Message> {
        loop {
            if let Some(message) = self.take_message() {
                return Some(message);
            }
            if self.is_closed {
                return None;
            }
            assert!(Instant::now() < deadline, "what was awaited did not come in time");
            self.read();
        }
    }

    fn take_message(&mut self) -> Option<Message> {
        let read = self.reader.read(&self.unread).expect("the server speaks RTMP");
        self.unread.drain(..read.consumed);
        read.message
    }

    /// Reads what is there; waits a little when there is nothing.
    fn read(&mut self) {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.is_closed = true,
            Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.is_closed = true,
            Err(error) => panic!("the client cannot read: {error}"),
        }
    }
}
