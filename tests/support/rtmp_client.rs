//! An RTMP client that says exactly what a test wants it to say.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use shardcast::proto::amf0::Value;
use shardcast::proto::rtmp::chunk_reader::{ChunkReader, Message, ReaderLimits};
use shardcast::proto::rtmp::chunk_writer::{MessageHeader, write_full};
use shardcast::proto::rtmp::command::{self, Command};
use shardcast::proto::rtmp::handshake::{ClientHandshake, HandshakeMode};
use shardcast::proto::rtmp::message;

use super::wait::SOON;

/// A connection after its handshake.
pub(crate) struct RtmpClient {
    stream: TcpStream,
    reader: ChunkReader,
    pending: Vec<u8>,
    transaction: f64,
    /// Commands of the server that nobody has asked for yet.
    heard: Vec<Command>,
    is_closed: bool,
}

impl RtmpClient {
    /// Connects and shakes hands.
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::open_behind(address, &[])
    }

    /// The same behind a proxy that says something first.
    pub(crate) fn open_behind(address: SocketAddr, header: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a time-out can be set");
        let mut handshake = ClientHandshake::new(HandshakeMode::Simple, 1, 0);
        let mut out = header.to_vec();
        handshake.start(&mut out);
        let deadline = Instant::now() + SOON;
        let mut buffer = [0; 4096];
        let pending = loop {
            stream.write_all(&out).expect("the server reads");
            out.clear();
            assert!(Instant::now() < deadline, "the handshake takes too long");
            let count = match stream.read(&mut buffer) {
                Ok(0) => panic!("the server closed during the handshake"),
                Ok(count) => count,
                Err(error) if is_late(&error) => continue,
                Err(error) => panic!("the handshake failed: {error}"),
            };
            let progress = handshake.input(&buffer[..count], &mut out).expect("an RTMP server");
            if progress.done {
                stream.write_all(&out).expect("the server reads");
                break buffer[progress.consumed..count].to_vec();
            }
        };
        let reader = ChunkReader::new(ReaderLimits {
            message_bytes_max: 1 << 20,
            chunk_streams_max: 64,
            partial_bytes_max: 1 << 22,
        });
        Self { stream, reader, pending, transaction: 0.0, heard: Vec::new(), is_closed: false }
    }

    /// Sends a call on a message stream and gives its transaction.
    pub(crate) fn call(&mut self, stream: u32, name: &str, object: &Value, args: &[Value]) -> f64 {
        self.transaction += 1.0;
        let payload = command::encode(name, self.transaction, object, args);
        self.send(stream, message::COMMAND_AMF0, &payload);
        self.transaction
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, stream: u32, type_id: u8, payload: &[u8]) {
        let header = MessageHeader {
            chunk_stream_id: 3,
            message_stream_id: stream,
            type_id,
            timestamp_ms: 0,
        };
        let mut out = Vec::new();
        write_full(&header, payload, 128, &mut |bytes| out.extend_from_slice(bytes));
        // A server that has closed is found by who waits for its answer.
        let _ = self.stream.write_all(&out);
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
        let name = |command: &Command| match command.name.as_str() {
            "onStatus" => code_of(command),
            name => name.to_owned(),
        };
        self.heard.iter().map(name).collect()
    }

    fn read(&mut self) {
        let mut buffer = [0; 16_384];
        if self.pending.is_empty() {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_closed = true,
                Ok(count) => self.pending.extend_from_slice(&buffer[..count]),
                Err(error) if is_late(&error) => {}
                Err(_) => self.is_closed = true,
            }
        }
        let bytes = std::mem::take(&mut self.pending);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let read = self.reader.read(rest).expect("the server speaks RTMP");
            rest = &rest[read.consumed..];
            if let Some(Message { type_id: message::COMMAND_AMF0, payload, .. }) = read.message {
                self.heard.push(Command::parse(&payload).expect("a command"));
            }
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

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
