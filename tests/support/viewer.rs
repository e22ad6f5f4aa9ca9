//! Players without a decoder, many per thread: RTMP over the session that relays use, or HTTP-FLV.
//!
//! Nothing here blocks but [`Viewer::next`] and [`wait_readable`], and both have a deadline.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use bytes::Bytes;
use shardcast::proto::amf0::Value;
use shardcast::proto::flv::TagReader;
use shardcast::proto::rtmp::chunk_writer::{MessageHeader, write_full};
use shardcast::proto::rtmp::client::{ClientConfig, ClientEvent, ClientSession, Role};
use shardcast::proto::rtmp::{command, message};
use socket2::{Domain, Socket, Type};

use super::api::Api;
use super::wait::{SOON, eventually};

/// Longest message that a player takes.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// What a player was sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Received {
    /// Audio (8), video (9) or data (18).
    Message {
        /// The message type.
        type_id: u8,
        /// Its time.
        timestamp_ms: u32,
        /// Its body.
        payload: Bytes,
    },
    /// A status below level error, by its code.
    Status(String),
    /// User control Stream EOF.
    StreamEof,
    /// A status of level error, or a refused call, by its code.
    Failed(String),
    /// The head of the HTTP answer.
    Head(String),
}

/// A player.
pub(crate) struct Viewer {
    stream: TcpStream,
    wire: Wire,
    received: VecDeque<Received>,
    flights: usize,
    is_closed: bool,
    play_sent: Option<Instant>,
    bytes: u64,
}

enum Wire {
    Rtmp(Box<ClientSession>),
    Flv { head: Option<Vec<u8>>, tags: TagReader },
}

impl Viewer {
    /// Connects to `address` and asks for `stream` (`app/name`) over RTMP.
    pub(crate) fn rtmp(address: SocketAddr, stream: &str) -> Self {
        Self::rtmp_with_buffer(address, stream, None)
    }

    /// [`Viewer::rtmp`] with a receive buffer of that size (the kernel doubles it).
    pub(crate) fn rtmp_with_buffer(
        address: SocketAddr,
        stream: &str,
        receive_buffer: Option<usize>,
    ) -> Self {
        let session = ClientSession::new(client_config(address, stream, Role::Play));
        let mut out = Vec::new();
        session.start(&mut out);
        Self::open(address, Wire::Rtmp(Box::new(session)), &out, receive_buffer)
    }

    /// Connects to `address` and asks for `stream` (`app/name`) over HTTP-FLV.
    pub(crate) fn flv(address: SocketAddr, stream: &str) -> Self {
        Self::flv_with_buffer(address, stream, None)
    }

    /// [`Viewer::flv`] with a receive buffer of that size (the kernel doubles it).
    pub(crate) fn flv_with_buffer(
        address: SocketAddr,
        stream: &str,
        receive_buffer: Option<usize>,
    ) -> Self {
        let request = format!("GET /{stream}.flv HTTP/1.1\r\nHost: {address}\r\n\r\n");
        let wire = Wire::Flv { head: Some(Vec::new()), tags: TagReader::new(MESSAGE_BYTES_MAX) };
        let mut viewer = Self::open(address, wire, request.as_bytes(), receive_buffer);
        viewer.play_sent = Some(Instant::now());
        viewer
    }

    fn open(
        address: SocketAddr,
        wire: Wire,
        first_bytes: &[u8],
        receive_buffer: Option<usize>,
    ) -> Self {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        if let Some(bytes) = receive_buffer {
            // Before connect: afterwards the window that was offered stays.
            socket.set_recv_buffer_size(bytes).expect("the receive buffer can be set");
        }
        socket
            .connect(&address.into())
            .unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        let mut stream = TcpStream::from(socket);
        stream.write_all(first_bytes).expect("a new connection takes the first bytes");
        stream.set_nonblocking(true).expect("a socket can be non-blocking");
        Self {
            stream,
            wire,
            received: VecDeque::new(),
            flights: 0,
            is_closed: false,
            play_sent: None,
            bytes: 0,
        }
    }

    /// Sends a command with one boolean on message stream 1. Only over RTMP, and only when the stream
    /// has begun to come.
    pub(crate) fn flag(&mut self, name: &str, value: bool) {
        let header = MessageHeader {
            // Not a chunk stream of the session's, whose headers lean on earlier ones.
            chunk_stream_id: 9,
            message_stream_id: 1,
            type_id: message::COMMAND_AMF0,
            timestamp_ms: 0,
        };
        let payload = command::encode(name, 0.0, &Value::Null, &[Value::Boolean(value)]);
        let mut out = Vec::new();
        // Shorter than every chunk size.
        write_full(&header, &payload, 128, &mut |bytes| out.extend_from_slice(bytes));
        self.stream.write_all(&out).expect("the server reads");
    }

    /// How often the player has sent something after the first bytes: each time it had to wait for
    /// the server.
    pub(crate) fn flights(&self) -> usize {
        self.flights
    }

    /// When the play command, or the HTTP request, was sent.
    pub(crate) fn play_sent(&self) -> Option<Instant> {
        self.play_sent
    }

    /// Whether the server has ended the connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Bytes received, everything included.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a message of media was received and not taken yet.
    pub(crate) fn has_media(&self) -> bool {
        self.received.iter().any(|it| matches!(it, Received::Message { .. }))
    }

    /// What was received and not taken yet.
    pub(crate) fn take(&mut self) -> Option<Received> {
        self.received.pop_front()
    }

    /// Reads all that is there and answers what needs an answer.
    pub(crate) fn pump(&mut self) {
        let mut buffer = [0; READ_BYTES];
        while !self.is_closed {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_closed = true,
                Ok(count) => {
                    self.bytes += count as u64;
                    self.input(&buffer[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => self.is_closed = true,
                Err(error) => panic!("a player cannot read: {error}"),
            }
        }
    }

    /// The next thing received; `None` when the server has ended the connection. Panics at the
    /// deadline.
    pub(crate) fn next(&mut self, deadline: Instant) -> Option<Received> {
        loop {
            if let Some(received) = self.take() {
                return Some(received);
            }
            if self.is_closed {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "what was awaited did not come in time");
            wait_readable(&[self.as_raw_fd()], left);
            self.pump();
        }
    }

    fn input(&mut self, mut bytes: &[u8]) {
        match &mut self.wire {
            Wire::Rtmp(session) => {
                let had_stream = session.message_stream_id() != 0;
                let mut out = Vec::new();
                while !bytes.is_empty() {
                    let progress = session.input(bytes, &mut out).expect("the server speaks RTMP");
                    bytes = &bytes[progress.consumed..];
                    self.received.extend(progress.event.and_then(received));
                }
                if !out.is_empty() {
                    self.flights += 1;
                    // A server that has closed meanwhile is noticed by the next read.
                    let _ = self.stream.write_all(&out);
                }
                if !had_stream && session.message_stream_id() != 0 {
                    self.play_sent = Some(Instant::now());
                }
            }
            Wire::Flv { head, tags } => {
                if let Some(mut so_far) = head.take() {
                    so_far.extend_from_slice(bytes);
                    let Some(end) = so_far.windows(4).position(|part| part == b"\r\n\r\n") else {
                        *head = Some(so_far);
                        return;
                    };
                    let text = String::from_utf8_lossy(&so_far[..end]).into_owned();
                    let has_stream = text.starts_with("HTTP/1.1 200 ");
                    self.received.push_back(Received::Head(text));
                    if !has_stream {
                        // What follows is a sentence, after which nothing looks like a head.
                        *head = Some(Vec::new());
                        return;
                    }
                    tags.push(&so_far[end + 4..]);
                } else {
                    tags.push(bytes);
                }
                while let Some(tag) = tags.next_tag().expect("the server sends FLV") {
                    self.received.push_back(Received::Message {
                        type_id: tag.type_id,
                        timestamp_ms: tag.timestamp_ms,
                        payload: tag.payload,
                    });
                }
            }
        }
    }
}

impl AsRawFd for Viewer {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// Waits until `stream` has `count` viewers, with these among them, which take part meanwhile.
pub(crate) fn wait_until_watching(api: Api, stream: &str, count: u64, viewers: &mut [Viewer]) {
    eventually(&format!("{stream} has {count} viewers"), SOON, || {
        viewers.iter_mut().for_each(Viewer::pump);
        let watching: u64 = api.snapshot().viewers(stream).iter().sum();
        (watching == count).then_some(())
    });
}

/// What a client of this server says of itself.
pub(crate) fn client_config(address: SocketAddr, stream: &str, role: Role) -> ClientConfig {
    let (app, name) = stream.split_once('/').expect("app/name");
    ClientConfig {
        app: app.to_owned(),
        tc_url: format!("rtmp://{address}/{app}"),
        stream: name.to_owned(),
        role,
        flash_version: "LNX 9,0,124,2".to_owned(),
        digest: false,
        connect_properties: Vec::new(),
        connect_args: Vec::new(),
        chunk_size: 60_000,
        seed: 1,
    }
}

/// Waits until one of the sockets has something to read (or its end), not longer than `limit`.
/// Gives the indexes of those that have.
pub(crate) fn wait_readable(sockets: &[RawFd], limit: Duration) -> Vec<usize> {
    let mut polled: Vec<libc::pollfd> =
        sockets.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    let count = libc::nfds_t::try_from(polled.len()).expect("a list of sockets is short");
    // One more, so that a limit below a millisecond does not spin.
    let millis = libc::c_int::try_from(limit.as_millis() + 1).unwrap_or(libc::c_int::MAX);
    // SAFETY: the list has `count` entries and lives through the call.
    unsafe { libc::poll(polled.as_mut_ptr(), count, millis) };
    let ready = |(index, entry): (usize, &libc::pollfd)| (entry.revents != 0).then_some(index);
    polled.iter().enumerate().filter_map(ready).collect()
}

fn received(event: ClientEvent) -> Option<Received> {
    Some(match event {
        ClientEvent::Message(message) => Received::Message {
            type_id: message.type_id,
            timestamp_ms: message.timestamp_ms,
            payload: message.payload,
        },
        ClientEvent::Status { code, .. } => Received::Status(code),
        ClientEvent::StreamEof => Received::StreamEof,
        ClientEvent::Failed { code, .. } => Received::Failed(code),
        ClientEvent::Connected | ClientEvent::PublishStarted | ClientEvent::PlayStarted => {
            return None;
        }
    })
}
