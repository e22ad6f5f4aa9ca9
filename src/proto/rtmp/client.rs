//! The client's side of an RTMP session, for relays, the load generator and tests: bytes of the
//! server in; events and bytes for the server out.
//!
//! * The order of calls is ffmpeg's: connect, then releaseStream, FCPublish, createStream and
//!   publish; or createStream, play and the buffer length.
//! * Pings are answered and bytes acknowledged here.
//! * Deadlines are the caller's: no event within its patience means the server is silent.

use thiserror::Error;

use super::chunk_reader::{CHUNK_SIZE_DEFAULT, ChunkError, ChunkReader, Message, ReaderLimits};
use super::chunk_writer::{ChunkWriter, MessageHeader};
use super::command::{self, Command, CommandError};
use super::handshake::{ClientHandshake, DigestLayout, HandshakeError, HandshakeMode, ServerProof};
use super::message::{self, MessageError, SetPeerBandwidth, UserControl};
use super::status;
use crate::limits::{RTMP_CHUNK_STREAMS_MAX, RTMP_MESSAGE_BYTES_MAX};
use crate::proto::amf0::Value;

/// The buffer that a player announces, ffmpeg's default.
const BUFFER_MS: u32 = 3000;
/// "Live, else recorded", the default start of play; sent as ffmpeg does.
const PLAY_START_LIVE: f64 = -2000.0;

/// Chunk streams as ffmpeg uses them.
const COMMAND_CHUNK_STREAM: u32 = 3;
const AUDIO_CHUNK_STREAM: u32 = 4;
const VIDEO_CHUNK_STREAM: u32 = 6;
const STREAM_COMMAND_CHUNK_STREAM: u32 = 8;

/// Transactions: connect is the first call, the rest count on.
const CONNECT_TRANSACTION: f64 = 1.0;

/// What the session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Send a stream.
    Publish,
    /// Receive a stream.
    Play,
}

/// What to tell the server.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Application, with instance if any: `live` or `livestreams/anotherinstance`.
    pub app: String,
    /// The whole address without the stream: `rtmp://host/app`.
    pub tc_url: String,
    /// Name of the stream, with its query if any.
    pub stream: String,
    /// Publish or play.
    pub role: Role,
    /// Such as `FMLE/3.0 (compatible; shardcast)`.
    pub flash_version: String,
    /// Sign the handshake, as some servers want.
    pub digest: bool,
    /// Added to the object of connect: `swfUrl`, `pageUrl`, `fourCcList`.
    pub connect_properties: Vec<(String, Value)>,
    /// Follow the object of connect.
    pub connect_args: Vec<Value>,
    /// What we send is cut into chunks of this size; announced unless it is 128.
    pub chunk_size: u32,
    /// Fills the random parts of the handshake.
    pub seed: u64,
}

/// What a call took and found.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientProgress {
    /// Bytes taken from the input: all of it, unless there is an event.
    pub consumed: usize,
    /// What happened.
    pub event: Option<ClientEvent>,
}

/// What the server did.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// It accepted connect; the next calls are under way.
    Connected,
    /// It accepts our stream: send media.
    PublishStarted,
    /// It begins to send the stream. Media may come before this.
    PlayStarted,
    /// Any other status below level `error`, such as `NetStream.Play.UnpublishNotify`.
    Status {
        /// `status` or `warning`.
        level: String,
        /// The code.
        code: String,
        /// Text for people; may be empty.
        description: String,
    },
    /// A stream ended (user control Stream EOF).
    StreamEof,
    /// Audio, video, data or an aggregate.
    Message(Message),
    /// The server refused a call that we need, or sent a status of level `error`.
    Failed {
        /// The code; may be empty.
        code: String,
        /// Text for people; the code or the call's name if the server sent none.
        description: String,
    },
}

/// Why a session cannot go on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ClientError {
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The chunk stream cannot be read.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A protocol message cannot be read.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A command cannot be read.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// One session, from the first byte to the last.
#[derive(Debug)]
pub struct ClientSession {
    config: ClientConfig,
    handshake: Option<ClientHandshake>,
    proof: ServerProof,
    reader: ChunkReader,
    writer: ChunkWriter,
    next_transaction: f64,
    create_stream_transaction: f64,
    /// 0 until the server has created a stream.
    message_stream_id: u32,
    /// The server wants to hear after so many bytes; 0: never.
    window_bytes: u32,
    acknowledged_bytes: u64,
    bandwidth: Option<u32>,
    publish_type: String,
}

impl ClientSession {
    /// A session that has not sent anything.
    pub fn new(config: ClientConfig) -> Self {
        let mode = if config.digest {
            HandshakeMode::Digest(DigestLayout::DigestFirst)
        } else {
            HandshakeMode::Simple
        };
        Self {
            handshake: Some(ClientHandshake::new(mode, config.seed, 0)),
            proof: ServerProof::default(),
            config,
            reader: ChunkReader::new(ReaderLimits {
                message_bytes_max: RTMP_MESSAGE_BYTES_MAX,
                chunk_streams_max: RTMP_CHUNK_STREAMS_MAX,
                partial_bytes_max: 2 * RTMP_MESSAGE_BYTES_MAX,
            }),
            writer: ChunkWriter::new(),
            next_transaction: CONNECT_TRANSACTION + 1.0,
            create_stream_transaction: 0.0,
            message_stream_id: 0,
            window_bytes: 0,
            acknowledged_bytes: 0,
            bandwidth: None,
            publish_type: "live".to_owned(),
        }
    }

    /// The word of the publish command, instead of `live`: `record`, `append`.
    pub fn publish_as(&mut self, publish_type: &str) {
        publish_type.clone_into(&mut self.publish_type);
    }

    /// Appends the first bytes; to be called once, first.
    pub fn start(&self, out: &mut Vec<u8>) {
        if let Some(handshake) = &self.handshake {
            handshake.start(out);
        }
    }

    /// What the server has proved in a signed handshake.
    pub fn server_proof(&self) -> ServerProof {
        self.proof
    }

    /// The message stream that the server created; 0 before.
    pub fn message_stream_id(&self) -> u32 {
        self.message_stream_id
    }

    /// Takes bytes of the server until something happens or the input ends, and appends what is
    /// to be sent. Call again with the rest.
    ///
    /// # Errors
    /// See [`ClientError`]; the connection is to be closed.
    pub fn input(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<ClientProgress, ClientError> {
        let mut rest = bytes;
        if let Some(handshake) = &mut self.handshake {
            let progress = handshake.input(rest, out)?;
            rest = rest.get(progress.consumed..).unwrap_or_default();
            if progress.done {
                self.proof = handshake.server_proof();
                self.handshake = None;
                self.connect(out);
            }
        }
        let mut event = None;
        while event.is_none() && self.handshake.is_none() {
            let read = self.reader.read(rest)?;
            rest = rest.get(read.consumed..).unwrap_or_default();
            self.acknowledge(out);
            let Some(message) = read.message else {
                break;
            };
            event = self.handle(message, out)?;
        }
        Ok(ClientProgress { consumed: bytes.len() - rest.len(), event })
    }

    /// Appends one message of the stream: [`message::AUDIO`], [`message::VIDEO`] or
    /// [`message::DATA_AMF0`] (metadata with its `@setDataFrame`). Only after
    /// [`ClientEvent::PublishStarted`].
    pub fn publish_media(
        &mut self,
        type_id: u8,
        timestamp_ms: u32,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) {
        let header = MessageHeader {
            chunk_stream_id: match type_id {
                message::VIDEO => VIDEO_CHUNK_STREAM,
                _ => AUDIO_CHUNK_STREAM,
            },
            message_stream_id: self.message_stream_id,
            type_id,
            timestamp_ms,
        };
        self.writer.write(&header, payload, out);
    }

    /// Appends the goodbye; then close the connection.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if self.message_stream_id == 0 {
            return;
        }
        if self.config.role == Role::Publish {
            let name = Value::from(self.config.stream.as_str());
            self.call("FCUnpublish", vec![name], out);
        }
        let id = Value::from(f64::from(self.message_stream_id));
        self.call("deleteStream", vec![id], out);
        self.message_stream_id = 0;
    }

    fn connect(&mut self, out: &mut Vec<u8>) {
        let chunk_size = self.config.chunk_size.clamp(1, 0x7FFF_FFFF);
        if chunk_size as usize != CHUNK_SIZE_DEFAULT {
            let payload = message::set_chunk_size(chunk_size);
            self.send_control(message::SET_CHUNK_SIZE, &payload, out);
            self.writer.set_chunk_size(chunk_size as usize);
        }
        let config = &self.config;
        let mut properties = vec![("app".to_owned(), Value::from(config.app.as_str()))];
        let mut add = |name: &str, value: Value| properties.push((name.to_owned(), value));
        if config.role == Role::Publish {
            add("type", Value::from("nonprivate"));
        }
        add("flashVer", Value::from(config.flash_version.as_str()));
        add("tcUrl", Value::from(config.tc_url.as_str()));
        if config.role == Role::Play {
            // What ffmpeg claims to play: all that Flash knew.
            add("fpad", Value::from(false));
            add("capabilities", Value::from(15.0));
            add("audioCodecs", Value::from(4071.0));
            add("videoCodecs", Value::from(252.0));
            add("videoFunction", Value::from(1.0));
        }
        properties.extend(config.connect_properties.iter().cloned());
        let payload = command::encode(
            "connect",
            CONNECT_TRANSACTION,
            &Value::Object(properties),
            &config.connect_args,
        );
        self.send_command(COMMAND_CHUNK_STREAM, 0, &payload, out);
    }

    fn handle(
        &mut self,
        message: Message,
        out: &mut Vec<u8>,
    ) -> Result<Option<ClientEvent>, ClientError> {
        match message.type_id {
            message::AUDIO
            | message::VIDEO
            | message::DATA_AMF0
            | message::DATA_AMF3
            | message::AGGREGATE => return Ok(Some(ClientEvent::Message(message))),
            message::COMMAND_AMF0 | message::COMMAND_AMF3 => {
                let body = message::amf0_body(message.type_id, &message.payload);
                return Ok(self.handle_command(Command::parse(&body)?, out));
            }
            message::USER_CONTROL => match UserControl::parse(&message.payload)? {
                UserControl::PingRequest(time_ms) => {
                    let answer = UserControl::PingResponse(time_ms).encode();
                    self.send_control(message::USER_CONTROL, &answer, out);
                }
                UserControl::StreamEof(_) => return Ok(Some(ClientEvent::StreamEof)),
                _ => {}
            },
            message::WINDOW_ACK_SIZE => {
                self.window_bytes = message::parse_window_ack_size(&message.payload)?;
            }
            message::SET_PEER_BANDWIDTH => {
                let size = SetPeerBandwidth::parse(&message.payload)?.size;
                if self.bandwidth.replace(size) != Some(size) {
                    let answer = message::window_ack_size(size);
                    self.send_control(message::WINDOW_ACK_SIZE, &answer, out);
                }
            }
            _ => {}
        }
        Ok(None)
    }

    fn handle_command(&mut self, command: Command, out: &mut Vec<u8>) -> Option<ClientEvent> {
        match command.name.as_str() {
            "_result" if command.transaction == CONNECT_TRANSACTION => {
                self.open_stream(out);
                Some(ClientEvent::Connected)
            }
            "_result" if command.transaction == self.create_stream_transaction => {
                self.use_stream(&command, out)
            }
            "_error" if command.transaction == CONNECT_TRANSACTION => {
                Some(failure(&command, "connect"))
            }
            "_error" if command.transaction == self.create_stream_transaction => {
                Some(failure(&command, "createStream"))
            }
            "onStatus" => Some(status_event(&command)),
            // Erlyvideo and others say goodbye so.
            "close" => Some(ClientEvent::Status {
                level: status::CONNECT_CLOSED.level.as_str().to_owned(),
                code: status::CONNECT_CLOSED.code.to_owned(),
                description: String::new(),
            }),
            // Answers to releaseStream and FCPublish, whatever they say, and calls of the
            // server that no client needs to obey.
            _ => None,
        }
    }

    fn open_stream(&mut self, out: &mut Vec<u8>) {
        if self.config.role == Role::Publish {
            let name = Value::from(self.config.stream.as_str());
            self.call("releaseStream", vec![name.clone()], out);
            self.call("FCPublish", vec![name], out);
        }
        self.create_stream_transaction = self.call("createStream", Vec::new(), out);
    }

    fn use_stream(&mut self, created: &Command, out: &mut Vec<u8>) -> Option<ClientEvent> {
        let id = created.f64_arg(0).unwrap_or(0.0);
        if !(1.0..=f64::from(u32::MAX)).contains(&id) {
            return Some(ClientEvent::Failed {
                code: String::new(),
                description: "createStream was answered without a stream id".to_owned(),
            });
        }
        self.message_stream_id = id as u32;
        let name = Value::from(self.config.stream.as_str());
        let (method, args) = match self.config.role {
            Role::Publish => ("publish", vec![name, Value::from(self.publish_type.as_str())]),
            Role::Play => ("play", vec![name, Value::from(PLAY_START_LIVE)]),
        };
        let payload = Command::new(method, self.transaction(), args).encode();
        self.send_command(STREAM_COMMAND_CHUNK_STREAM, self.message_stream_id, &payload, out);
        if self.config.role == Role::Play {
            let length =
                UserControl::SetBufferLength { stream_id: self.message_stream_id, ms: BUFFER_MS };
            self.send_control(message::USER_CONTROL, &length.encode(), out);
        }
        None
    }

    /// Calls a method of the connection; returns the transaction.
    fn call(&mut self, name: &str, args: Vec<Value>, out: &mut Vec<u8>) -> f64 {
        let transaction = self.transaction();
        let payload = Command::new(name, transaction, args).encode();
        self.send_command(COMMAND_CHUNK_STREAM, 0, &payload, out);
        transaction
    }

    fn transaction(&mut self) -> f64 {
        let transaction = self.next_transaction;
        self.next_transaction += 1.0;
        transaction
    }

    /// Acknowledges early, after half of the window, as ffmpeg does.
    fn acknowledge(&mut self, out: &mut Vec<u8>) {
        let received = self.reader.bytes_read();
        let half = u64::from(self.window_bytes / 2);
        if half > 0 && received - self.acknowledged_bytes >= half {
            self.acknowledged_bytes = received;
            let payload = message::acknowledgement(received);
            self.send_control(message::ACKNOWLEDGEMENT, &payload, out);
        }
    }

    fn send_control(&mut self, type_id: u8, payload: &[u8], out: &mut Vec<u8>) {
        let header = MessageHeader {
            chunk_stream_id: message::CONTROL_CHUNK_STREAM,
            message_stream_id: 0,
            type_id,
            timestamp_ms: 0,
        };
        self.writer.write(&header, payload, out);
    }

    fn send_command(
        &mut self,
        chunk_stream_id: u32,
        message_stream_id: u32,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) {
        let header = MessageHeader {
            chunk_stream_id,
            message_stream_id,
            type_id: message::COMMAND_AMF0,
            timestamp_ms: 0,
        };
        self.writer.write(&header, payload, out);
    }
}

fn status_event(command: &Command) -> ClientEvent {
    let (level, code, description) = (
        info_text(command, "level"),
        info_text(command, "code"),
        info_text(command, "description"),
    );
    if level == status::Level::Error.as_str() {
        failure(command, "the server")
    } else if code == status::PUBLISH_START.code {
        ClientEvent::PublishStarted
    } else if code == status::PLAY_START.code {
        ClientEvent::PlayStarted
    } else {
        ClientEvent::Status { level, code, description }
    }
}

fn failure(command: &Command, what: &str) -> ClientEvent {
    let code = info_text(command, "code");
    let mut description = info_text(command, "description");
    if description.is_empty() {
        description =
            if code.is_empty() { format!("{what} reported an error") } else { code.clone() };
    }
    ClientEvent::Failed { code, description }
}

fn info_text(command: &Command, name: &str) -> String {
    command
        .args
        .first()
        .and_then(|info| info.property(name))
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::super::chunk_writer::write_full;
    use super::super::handshake::ServerHandshake;
    use super::*;

    fn config(role: Role) -> ClientConfig {
        ClientConfig {
            app: "live".to_owned(),
            tc_url: "rtmp://localhost/live".to_owned(),
            stream: "news".to_owned(),
            role,
            flash_version: "FMLE/3.0 (compatible; test)".to_owned(),
            digest: true,
            connect_properties: vec![("swfUrl".to_owned(), Value::from("http://x/"))],
            connect_args: vec![Value::from("argument")],
            chunk_size: 4096,
            seed: 3,
        }
    }

    /// A server that does what the test says.
    struct Server {
        handshake: ServerHandshake,
        done: bool,
        reader: ChunkReader,
        seen: Vec<Message>,
    }

    impl Server {
        fn new() -> Self {
            Self {
                handshake: ServerHandshake::new(9, 0),
                done: false,
                reader: ChunkReader::new(ReaderLimits {
                    message_bytes_max: 1 << 20,
                    chunk_streams_max: 16,
                    partial_bytes_max: 1 << 20,
                }),
                seen: Vec::new(),
            }
        }

        fn input(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
            if !self.done {
                let progress = self.handshake.input(bytes, out).unwrap();
                bytes = &bytes[progress.consumed..];
                self.done = progress.done;
            }
            while !bytes.is_empty() {
                let read = self.reader.read(bytes).unwrap();
                bytes = &bytes[read.consumed..];
                self.seen.extend(read.message);
            }
        }

        fn commands(&mut self) -> Vec<Command> {
            self.seen
                .drain(..)
                .filter(|message| message.type_id == message::COMMAND_AMF0)
                .map(|message| Command::parse(&message.payload).unwrap())
                .collect()
        }
    }

    fn from_server(type_id: u8, payload: &[u8]) -> Vec<u8> {
        let header =
            MessageHeader { chunk_stream_id: 3, message_stream_id: 0, type_id, timestamp_ms: 0 };
        let mut out = Vec::new();
        write_full(&header, payload, 128, &mut |piece| {
            out.extend_from_slice(piece);
        });
        out
    }

    fn answer(payload: &[u8]) -> Vec<u8> {
        from_server(message::COMMAND_AMF0, payload)
    }

    /// Feeds byte by byte, so that no state depends on whole messages.
    fn feed(client: &mut ClientSession, bytes: &[u8], out: &mut Vec<u8>) -> Vec<ClientEvent> {
        let mut events = Vec::new();
        for byte in bytes.chunks(1) {
            let progress = client.input(byte, out).unwrap();
            assert_eq!(progress.consumed, 1);
            events.extend(progress.event);
        }
        events
    }

    fn connected(role: Role) -> (ClientSession, Server) {
        let mut client = ClientSession::new(config(role));
        let mut server = Server::new();
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        client.start(&mut to_server);
        server.input(&to_server, &mut to_client);
        to_server.clear();
        assert_eq!(feed(&mut client, &to_client, &mut to_server), []);
        assert!(client.server_proof().s1_digest && client.server_proof().s2_signature);
        server.input(&to_server, &mut Vec::new());
        assert_eq!(server.reader.chunk_size(), 4096);
        let connect = server.commands().remove(0);
        assert_eq!(connect.name, "connect");
        let text = |name: &str| connect.object.property(name).and_then(Value::as_str);
        assert_eq!(text("app"), Some("live"));
        assert_eq!(text("tcUrl"), Some("rtmp://localhost/live"));
        assert_eq!(text("swfUrl"), Some("http://x/"));
        assert_eq!(connect.args, [Value::from("argument")]);
        (client, server)
    }

    fn exchange(client: &mut ClientSession, server: &mut Server, bytes: &[u8]) -> Vec<ClientEvent> {
        let mut out = Vec::new();
        let events = feed(client, bytes, &mut out);
        server.input(&out, &mut Vec::new());
        events
    }

    fn names(commands: &[Command]) -> Vec<(&str, f64)> {
        let pairs = commands.iter();
        pairs.map(|command| (command.name.as_str(), command.transaction)).collect()
    }

    #[test]
    fn publishing_in_the_order_of_ffmpeg() {
        let (mut client, mut server) = connected(Role::Publish);
        let accepted = answer(&command::result(1.0, &Value::Null, Value::Null));
        let events = exchange(&mut client, &mut server, &accepted);
        assert_eq!(events, [ClientEvent::Connected]);
        let commands = server.commands();
        assert_eq!(
            names(&commands),
            [("releaseStream", 2.0), ("FCPublish", 3.0), ("createStream", 4.0)]
        );
        assert_eq!(commands[1].str_arg(0), Some("news"));

        // A server that does not know releaseStream is no problem.
        let refused = answer(&command::error(2.0, &Value::Null, Value::Null));
        assert_eq!(exchange(&mut client, &mut server, &refused), []);
        let created = answer(&command::result(4.0, &Value::Null, Value::from(1.0)));
        assert_eq!(exchange(&mut client, &mut server, &created), []);
        assert_eq!(server.seen[0].message_stream_id, 1);
        assert_eq!(server.seen[0].chunk_stream_id, 8);
        let commands = server.commands();
        assert_eq!(names(&commands), [("publish", 5.0)]);
        assert_eq!(commands[0].str_arg(0), Some("news"));
        assert_eq!(commands[0].str_arg(1), Some("live"));

        let started = answer(&command::on_status(status::PUBLISH_START, "", vec![]));
        let events = exchange(&mut client, &mut server, &started);
        assert_eq!(events, [ClientEvent::PublishStarted]);

        let mut out = Vec::new();
        client.publish_media(message::VIDEO, 40, &[1; 9000], &mut out);
        client.publish_media(message::AUDIO, 46, &[2; 10], &mut out);
        server.input(&out, &mut Vec::new());
        let media: Vec<(u8, u32, usize)> = server
            .seen
            .drain(..)
            .map(|message| (message.type_id, message.timestamp_ms, message.payload.len()))
            .collect();
        assert_eq!(media, [(9, 40, 9000), (8, 46, 10)]);

        out.clear();
        client.close(&mut out);
        server.input(&out, &mut Vec::new());
        let commands = server.commands();
        assert_eq!(names(&commands), [("FCUnpublish", 6.0), ("deleteStream", 7.0)]);
        assert_eq!(commands[1].f64_arg(0), Some(1.0));
    }

    #[test]
    fn playing() {
        let (mut client, mut server) = connected(Role::Play);
        let mut bytes = answer(&command::result(1.0, &Value::Null, Value::Null));
        bytes.extend(answer(&command::result(2.0, &Value::Null, Value::from(7.0))));
        let events = exchange(&mut client, &mut server, &bytes);
        assert_eq!(events, [ClientEvent::Connected]);
        let control = server.seen.last().unwrap();
        assert_eq!(
            UserControl::parse(&control.payload),
            Ok(UserControl::SetBufferLength { stream_id: 7, ms: BUFFER_MS })
        );
        assert_eq!(names(&server.commands()), [("createStream", 2.0), ("play", 3.0)]);

        let mut bytes = answer(&command::on_status(status::PLAY_RESET, "", vec![]));
        bytes.extend(answer(&command::on_status(status::PLAY_START, "", vec![])));
        bytes.extend(from_server(message::VIDEO, b"frame"));
        let eof = UserControl::StreamEof(7).encode();
        bytes.extend(from_server(message::USER_CONTROL, &eof));
        let events = exchange(&mut client, &mut server, &bytes);
        assert!(matches!(&events[0], ClientEvent::Status { code, .. }
            if code == status::PLAY_RESET.code));
        assert_eq!(events[1], ClientEvent::PlayStarted);
        assert!(matches!(&events[2], ClientEvent::Message(message)
            if message.payload == b"frame"[..]));
        assert_eq!(events[3], ClientEvent::StreamEof);

        let mut out = Vec::new();
        client.close(&mut out);
        server.input(&out, &mut Vec::new());
        assert_eq!(names(&server.commands()), [("deleteStream", 4.0)]);
    }

    #[test]
    fn refusals_tell_why() {
        let (mut client, mut server) = connected(Role::Publish);
        let payload = command::connect_error(1.0, status::CONNECT_REJECTED, "No.", vec![]);
        let events = exchange(&mut client, &mut server, &answer(&payload));
        let failed = |code: &str, description: &str| ClientEvent::Failed {
            code: code.to_owned(),
            description: description.to_owned(),
        };
        assert_eq!(events, [failed("NetConnection.Connect.Rejected", "No.")]);

        let bad_name = command::on_status(status::PUBLISH_BAD_NAME, "", vec![]);
        let events = exchange(&mut client, &mut server, &answer(&bad_name));
        let code = "NetStream.Publish.BadName";
        assert_eq!(events, [failed(code, code)]);
    }

    #[test]
    fn streams_without_a_usable_id_are_failures() {
        for id in [Value::Null, Value::from(0.0), Value::from(-1.0), Value::from(f64::NAN)] {
            let (mut client, mut server) = connected(Role::Play);
            let mut bytes = answer(&command::result(1.0, &Value::Null, Value::Null));
            bytes.extend(answer(&command::result(2.0, &Value::Null, id)));
            let events = exchange(&mut client, &mut server, &bytes);
            assert!(matches!(events[1], ClientEvent::Failed { .. }));
        }
    }

    #[test]
    fn pings_windows_and_acknowledgements() {
        let (mut client, mut server) = connected(Role::Play);
        let mut bytes = from_server(message::USER_CONTROL, &UserControl::PingRequest(5).encode());
        bytes.extend(from_server(message::SET_PEER_BANDWIDTH, &[0, 0, 9, 0, 2]));
        bytes.extend(from_server(message::SET_PEER_BANDWIDTH, &[0, 0, 9, 0, 2]));
        exchange(&mut client, &mut server, &bytes);
        let seen: Vec<(u8, Vec<u8>)> = server
            .seen
            .drain(..)
            .map(|message| (message.type_id, message.payload.to_vec()))
            .collect();
        assert_eq!(
            seen,
            [
                (message::USER_CONTROL, vec![0, 7, 0, 0, 0, 5]),
                (message::WINDOW_ACK_SIZE, vec![0, 0, 9, 0]),
            ]
        );

        let window = message::window_ack_size(1000);
        let mut bytes = from_server(message::WINDOW_ACK_SIZE, &window);
        bytes.extend(from_server(message::AUDIO, &[0; 2000]));
        exchange(&mut client, &mut server, &bytes);
        let acknowledged: Vec<u32> = server
            .seen
            .iter()
            .filter(|message| message.type_id == message::ACKNOWLEDGEMENT)
            .map(|message| message::parse_acknowledgement(&message.payload).unwrap())
            .collect();
        assert_eq!(acknowledged.len(), 4);
        assert!(acknowledged.windows(2).all(|two| two[1] - two[0] == 500));
    }

    proptest! {
        #[test]
        fn a_hostile_server_never_panics_a_client(
            commands in prop::collection::vec(
                ("_result|_error|onStatus|close", 0_u8..5, any::<Option<f64>>()),
                0..6,
            ),
            kinds in prop::collection::vec((0_u8..24, prop::collection::vec(0_u8..9, 0..12)), 0..6),
            noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let (mut client, _) = connected(Role::Publish);
            let mut bytes = Vec::new();
            for (name, transaction, number) in commands {
                let info = number.map_or(Value::Null, Value::from);
                let command = Command::new(&name, f64::from(transaction), vec![info]);
                bytes.extend(answer(&command.encode()));
            }
            for (type_id, payload) in kinds {
                bytes.extend(from_server(type_id, &payload));
            }
            bytes.extend(noise);
            let mut rest = &bytes[..];
            while let Ok(progress) = client.input(rest, &mut Vec::new()) {
                rest = &rest[progress.consumed..];
                if progress.event.is_none() {
                    break;
                }
            }
        }
    }
}
