//! A raw RTMP client: what goes out is exactly what the test wrote, and every command and frame that
//! comes in is kept until the test asks.

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

/// Payload bytes per chunk of what is sent: at the beginning, and once the server knows.
const CHUNK_SIZE_FIRST: usize = 128;
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

/// A connection after its handshake.
pub(crate) struct RtmpClient {
    stream: TcpStream,
    reader: ChunkReader,
    unread: Vec<u8>,
    encoding: Encoding,
    chunk_size: usize,
    transaction: f64,
    /// Commands of the server that nobody has asked for yet.
    heard: Vec<Heard>,
    /// Audio, video and data that nobody has asked for yet.
    media: Vec<Message>,
    is_closed: bool,
}

/// A command of the server, and how it came.
pub(crate) struct Heard {
    pub(crate) command: Command,
    pub(crate) type_id: u8,
    pub(crate) message_stream_id: u32,
}

impl RtmpClient {
    /// Connects and shakes hands.
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::open_behind(address, &[])
    }

    /// The same behind a proxy that says something first.
    pub(crate) fn open_behind(address: SocketAddr, header: &[u8]) -> Self {
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
            unread: Vec::new(),
            encoding: Encoding::Amf0,
            chunk_size: CHUNK_SIZE_FIRST,
            transaction: 0.0,
            heard: Vec::new(),
            media: Vec::new(),
            is_closed: false,
        };
        client.shake_hands(header);
        client
    }

    fn shake_hands(&mut self, header: &[u8]) {
        let mut handshake = ClientHandshake::new(HandshakeMode::Simple, 1, 0);
        let mut out = header.to_vec();
        handshake.start(&mut out);
        let deadline = Instant::now() + SOON;
        loop {
            self.stream.write_all(&out).expect("the server reads");
            out.clear();
            self.read_bytes();
            assert!(!self.is_closed, "the server closed during the handshake");
            assert!(Instant::now() < deadline, "the handshake takes too long");
            let progress = handshake.input(&self.unread, &mut out).expect("an RTMP server");
            self.unread.drain(..progress.consumed);
            if progress.done {
                return self.stream.write_all(&out).expect("the server reads");
            }
        }
    }

    /// Connects to the application `live`; the server has accepted.
    pub(crate) fn connected(address: SocketAddr, encoding: Encoding) -> Self {
        let mut client = Self::open(address);
        let chunk_size = u32::try_from(CHUNK_SIZE).expect("a small number");
        client.send(0, message::SET_CHUNK_SIZE, 0, &chunk_size.to_be_bytes());
        client.chunk_size = CHUNK_SIZE;
        let object = Value::object([
            ("app", Value::from("live")),
            ("tcUrl", Value::from(format!("rtmp://{address}/live"))),
            ("objectEncoding", Value::from(if encoding == Encoding::Amf3 { 3.0 } else { 0.0 })),
        ]);
        client.call(0, "connect", &object, &[]);
        client.wait_for("_result").expect("connect is accepted");
        client.encoding = encoding;
        client
    }

    /// Sends connect with these properties of its object.
    pub(crate) fn connect(&mut self, app: &str, tc_url: &str, more: &[(&str, &str)]) {
        let mut object = vec![("app".to_owned(), Value::from(app))];
        object.push(("tcUrl".to_owned(), Value::from(tc_url)));
        for (key, value) in more {
            object.push(((*key).to_owned(), Value::from(*value)));
        }
        self.call(0, "connect", &Value::Object(object), &[]);
    }

    /// Sends a call on a message stream and gives its transaction.
    pub(crate) fn call(&mut self, stream: u32, name: &str, object: &Value, args: &[Value]) -> f64 {
        self.transaction += 1.0;
        self.send_command(stream, &command::encode(name, self.transaction, object, args));
        self.transaction
    }

    /// Calls a method that is answered, and gives the answer.
    pub(crate) fn ask(&mut self, name: &str, args: &[Value]) -> Heard {
        let transaction = self.call(0, name, &Value::Null, args);
        let is_answer = |heard: &Heard| {
            matches!(heard.command.name.as_str(), "_result" | "_error")
                && heard.command.transaction == transaction
        };
        self.next_heard(SOON, is_answer).unwrap_or_else(|| panic!("{name} is not answered"))
    }

    /// Calls a method that is answered by statuses, if at all.
    pub(crate) fn tell(&mut self, stream: u32, name: &str, args: &[Value]) {
        self.send_command(stream, &command::encode(name, 0.0, &Value::Null, args));
    }

    /// A new message stream.
    pub(crate) fn create_stream(&mut self) -> u32 {
        let answer = self.ask("createStream", &[]).command;
        assert_eq!(answer.name, "_result", "{answer:?}");
        answer.f64_arg(0).expect("a number") as u32
    }

    /// Publishes on a message stream; the server has accepted.
    pub(crate) fn publish(&mut self, stream: u32, name: &str, kind: &str) {
        self.tell(stream, "publish", &[name.into(), kind.into()]);
        self.await_status(stream, "NetStream.Publish.Start");
    }

    /// Plays on a message stream; the server has accepted.
    pub(crate) fn play(&mut self, stream: u32, name: &str) {
        self.tell(stream, "play", &[name.into()]);
        self.await_status(stream, "NetStream.Play.Start");
    }

    fn await_status(&mut self, stream: u32, code: &str) {
        let is_it = |heard: &Heard| {
            heard.message_stream_id == stream
                && heard.command.name == "onStatus"
                && code_of(&heard.command) == code
        };
        let found = self.next_heard(SOON, is_it);
        assert!(found.is_some(), "no {code} on message stream {stream}");
    }

    fn send_command(&mut self, stream: u32, body: &[u8]) {
        match self.encoding {
            Encoding::Amf0 => self.send(stream, message::COMMAND_AMF0, 0, body),
            Encoding::Amf3 => {
                self.send(stream, message::COMMAND_AMF3, 0, &[&[0], body].concat());
            }
        }
    }

    /// Sends a message with a type 0 header.
    pub(crate) fn send(&mut self, stream: u32, type_id: u8, timestamp_ms: u32, payload: &[u8]) {
        let chunk_stream_id = if type_id == message::SET_CHUNK_SIZE { 2 } else { 3 };
        let header =
            MessageHeader { chunk_stream_id, message_stream_id: stream, type_id, timestamp_ms };
        let mut out = Vec::new();
        write_full(&header, payload, self.chunk_size, &mut |bytes| out.extend_from_slice(bytes));
        // A server that has closed is found by who waits for its answer.
        let _ = self.stream.write_all(&out);
    }

    /// The next command with this name; none when the server closes, or says nothing for `SOON`.
    pub(crate) fn wait_for(&mut self, name: &str) -> Option<Command> {
        self.wait_until(SOON, |command| command.name == name)
    }

    /// The next status; its code.
    pub(crate) fn wait_for_status(&mut self) -> Option<String> {
        self.wait_for("onStatus").map(|command| code_of(&command))
    }

    /// The next command that fits, and what came before it is forgotten.
    pub(crate) fn wait_until(
        &mut self,
        limit: Duration,
        fits: impl Fn(&Command) -> bool,
    ) -> Option<Command> {
        self.next_heard(limit, |heard| fits(&heard.command)).map(|heard| heard.command)
    }

    fn next_heard(&mut self, limit: Duration, fits: impl Fn(&Heard) -> bool) -> Option<Heard> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(at) = self.heard.iter().position(&fits) {
                return self.heard.drain(..=at).next_back();
            }
            if self.is_closed || Instant::now() >= deadline {
                return None;
            }
            self.read();
        }
    }

    /// Waits for the server to close; says whether it did.
    pub(crate) fn wait_for_close(&mut self) -> bool {
        let deadline = Instant::now() + SOON;
        while !self.is_closed && Instant::now() < deadline {
            self.read();
        }
        self.is_closed
    }

    /// Names of the commands, and codes of the statuses, that are there now.
    pub(crate) fn heard(&mut self) -> Vec<String> {
        self.read();
        let name = |heard: &Heard| match heard.command.name.as_str() {
            "onStatus" => code_of(&heard.command),
            name => name.to_owned(),
        };
        self.heard.iter().map(name).collect()
    }

    /// Media that came, up to now or to the end of the connection.
    pub(crate) fn take_media(&mut self) -> Vec<Message> {
        self.read();
        std::mem::take(&mut self.media)
    }

    /// Takes in what is there; waits a little when there is nothing.
    fn read(&mut self) {
        if self.unread.is_empty() {
            self.read_bytes();
        }
        let mut at = 0;
        while at < self.unread.len() {
            let read = self.reader.read(&self.unread[at..]).expect("the server speaks RTMP");
            at += read.consumed;
            let Some(message) = read.message else { continue };
            match message.type_id {
                message::COMMAND_AMF0 | message::COMMAND_AMF3 => {
                    let body = message::amf0_body(message.type_id, &message.payload);
                    self.heard.push(Heard {
                        command: Command::parse(&body).expect("a command"),
                        type_id: message.type_id,
                        message_stream_id: message.message_stream_id,
                    });
                }
                message::AUDIO | message::VIDEO | message::DATA_AMF0 => self.media.push(message),
                _ => {}
            }
        }
        self.unread.clear();
    }

    fn read_bytes(&mut self) {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.is_closed = true,
            Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(_) => self.is_closed = true,
        }
    }
}

/// The code in a status, or in the answer to connect.
pub(crate) fn code_of(command: &Command) -> String {
    let info = command.args.first();
    let code = info.and_then(|info| info.property("code")).and_then(Value::as_str);
    code.unwrap_or_default().to_owned()
}

/// The description in a status, or in the answer to connect.
pub(crate) fn description_of(command: &Command) -> String {
    let info = command.args.first();
    let text = info.and_then(|info| info.property("description")).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}
