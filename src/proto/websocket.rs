//! The server's end of a WebSocket (RFC 6455): the upgrade of a request, what a client sends, and the
//! header of what a server sends. No extension is agreed on.
//!
//! Framing, masks, fragments and control frames are `tungstenite`'s, driven without I/O: a piece of
//! input and a buffer for the answers stand for its stream.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use std::io::{self, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha1::{Digest, Sha1};
use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, FrameHeader};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

pub use tungstenite::protocol::Message;
pub use tungstenite::protocol::frame::coding::CloseCode;

use super::http::{self, Method, Request, Version};

/// What is appended to a client's key before it is hashed (section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a client's key (section 4.1).
const KEY_BYTES: usize = 16;
/// The longest header of a frame without a mask.
const HEADER_BYTES_MAX: usize = 10;
/// Control frames carry at most 125 bytes, a close frame's first two are the code (section 5.5).
const CLOSE_REASON_BYTES_MAX: usize = 123;
/// What a connection that says nothing holds; a longer message is given room when it comes.
const READ_BUFFER_BYTES: usize = 1024;

/// A request to upgrade that may be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    accept: String,
}

/// Why a request that is meant for a WebSocket cannot become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The hop-by-hop headers are missing.
    #[error(
        "a WebSocket needs HTTP/1.1 with the headers Upgrade: websocket and Connection: Upgrade; \
         a proxy in between has to pass them on"
    )]
    Headers,
    /// The key is missing or has the wrong form.
    #[error("Sec-WebSocket-Key is not {KEY_BYTES} bytes in base64")]
    Key,
    /// Another version of the protocol.
    #[error("only version 13 of WebSocket is spoken")]
    Version,
}

/// Why a WebSocket was ended: the client sent what it may not send. A close frame says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebSocketError {
    /// The frames break the rules.
    #[error("{0}")]
    Frames(ProtocolError),
    /// A frame, or the fragments of a message together, are longer than the cap.
    #[error("a message of more than {bytes_max} bytes")]
    TooLong {
        /// The cap.
        bytes_max: usize,
    },
    /// A text, or the reason of a close frame, is not UTF-8.
    #[error("a text that is not UTF-8")]
    Text,
}

impl Upgrade {
    /// What a request asks for: `None` when it is not meant for a WebSocket.
    pub fn of(request: &Request) -> Result<Option<Self>, UpgradeError> {
        let key = request.header("sec-websocket-key");
        let asks = request.version == Version::Http11
            && request.header_has("upgrade", "websocket")
            && request.header_has("connection", "upgrade");
        match (asks, key) {
            _ if request.method != Method::Get => return Ok(None),
            (false, None) => return Ok(None),
            (false, Some(_)) => return Err(UpgradeError::Headers),
            (true, _) => {}
        }
        if request.header("sec-websocket-version") != Some("13") {
            return Err(UpgradeError::Version);
        }
        let is_key = |key: &&str| STANDARD.decode(key).is_ok_and(|it| it.len() == KEY_BYTES);
        let key = key.filter(is_key).ok_or(UpgradeError::Key)?;
        let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
        Ok(Some(Self { accept: STANDARD.encode(hash) }))
    }

    /// Writes the head of the answer, behind which frames begin.
    pub fn write_answer(&self, out: &mut Vec<u8>) {
        self.write_answer_with(None, out);
    }

    /// The same, with the one that is agreed on of the protocols that the client offers.
    pub fn write_answer_with(&self, protocol: Option<&str>, out: &mut Vec<u8>) {
        let mut headers = vec![
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", self.accept.as_str()),
        ];
        headers.extend(protocol.map(|protocol| ("Sec-WebSocket-Protocol", protocol)));
        http::write_head(101, &headers, out);
    }
}

impl UpgradeError {
    /// The status code to answer with.
    pub fn status(self) -> u16 {
        match self {
            Self::Key => 400,
            Self::Headers | Self::Version => 426,
        }
    }

    /// Headers that belong to the answer.
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Key => &[],
            Self::Headers | Self::Version => &[
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Version", "13"),
            ],
        }
    }
}

impl WebSocketError {
    /// The code of the close frame.
    pub fn code(&self) -> CloseCode {
        match self {
            Self::Frames(_) => CloseCode::Protocol,
            Self::TooLong { .. } => CloseCode::Size,
            Self::Text => CloseCode::Invalid,
        }
    }
}

/// Writes the header of a whole binary message; its payload follows. The bytes are the same for every
/// client, because what a server sends has no mask.
pub fn write_binary_header(payload_len: usize, sink: &mut impl FnMut(&[u8])) {
    write_header(Data::Binary, payload_len, sink);
}

/// Writes a whole text message, the same for every client.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    write_header(Data::Text, text.len(), &mut |bytes| out.extend_from_slice(bytes));
    out.extend_from_slice(text.as_bytes());
}

fn write_header(kind: Data, payload_len: usize, sink: &mut impl FnMut(&[u8])) {
    let header = FrameHeader { opcode: OpCode::Data(kind), ..FrameHeader::default() };
    let mut bytes = [0; HEADER_BYTES_MAX];
    let mut unused = &mut bytes[..];
    let written = header.format(payload_len as u64, &mut unused);
    debug_assert!(written.is_ok(), "the longest header fits");
    let len = HEADER_BYTES_MAX - unused.len();
    sink(bytes.get(..len).unwrap_or_default());
}

/// The frames of one connection, after its upgrade.
#[derive(Debug)]
pub struct WebSocket {
    context: WebSocketContext,
}

impl WebSocket {
    /// A connection whose upgrade was just answered. Messages longer than `message_bytes_max` end it.
    pub fn new(message_bytes_max: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        Self { context: WebSocketContext::new(Role::Server, Some(config)) }
    }

    /// Takes the next message from the front of `input`; `None` when all of it is read. What the
    /// protocol owes in return goes into `out`: pongs, and the answer to a [`Message::Close`], behind
    /// which nothing may be read any more.
    ///
    /// # Errors
    /// The client broke the rules, or its message is too long; `out` says so to it.
    pub fn read(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Message>, WebSocketError> {
        let error = match self.context.read(&mut Pipe { input, out }) {
            Ok(message) => {
                if message.is_close() {
                    // Writes the answer, and says with an error that it was the last one.
                    let _ = self.context.flush(&mut Pipe { input, out });
                }
                return Ok(Some(message));
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(Error::Capacity(_)) => {
                let max = self.context.get_config().max_message_size;
                WebSocketError::TooLong { bytes_max: max.unwrap_or_default() }
            }
            Err(Error::Utf8(_)) => WebSocketError::Text,
            Err(Error::Protocol(error)) => WebSocketError::Frames(error),
            // The rest is about streams that break, which a piece of memory does not.
            Err(_) => WebSocketError::Frames(ProtocolError::ReceivedAfterClosing),
        };
        self.close(error.code(), &error.to_string(), out);
        Err(error)
    }

    /// Asks the client for a sign of life.
    pub fn ping(&mut self, out: &mut Vec<u8>) {
        let pipe = &mut Pipe { input: &mut &[][..], out };
        // Fails only when a close frame has been sent.
        let _ = self.context.write(pipe, Message::Ping(Bytes::new()));
    }

    /// Says why the connection ends, unless either side has already done so.
    pub fn close(&mut self, code: CloseCode, reason: &str, out: &mut Vec<u8>) {
        let longest = (0..=CLOSE_REASON_BYTES_MAX).rev().find_map(|len| reason.get(..len));
        let reason = if reason.len() > CLOSE_REASON_BYTES_MAX { longest } else { Some(reason) };
        let reason = reason.unwrap_or_default().to_owned().into();
        let pipe = &mut Pipe { input: &mut &[][..], out };
        // Fails only when there is nothing to be said any more.
        let _ = self.context.close(pipe, Some(CloseFrame { code, reason }));
    }
}

/// What `tungstenite` takes for its stream.
struct Pipe<'a, 'b> {
    input: &'a mut &'b [u8],
    out: &'a mut Vec<u8>,
}

impl Read for Pipe<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // The end of the piece is not the end of the stream.
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for Pipe<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1_000;

    fn upgrade(lines: &str) -> Result<Option<Upgrade>, UpgradeError> {
        let text = format!("GET /a.flv HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        Upgrade::of(&http::parse_request(text.as_bytes()).unwrap().unwrap())
    }

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const HEADERS: &str = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";

    #[test]
    fn the_handshake_of_the_rfc() {
        let found = upgrade(&[HEADERS, KEY, VERSION].concat()).unwrap().unwrap();
        let mut out = Vec::new();
        found.write_answer(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{text}");
        assert!(text.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(text.ends_with("\r\n\r\n"));
    }

    #[test]
    fn requests_that_are_none_or_not_right() {
        let table = [
            (String::new(), Ok(None)),
            ("Upgrade: h2c\r\nConnection: Upgrade\r\n".to_owned(), Ok(None)),
            // What a proxy leaves over that was not told of WebSockets.
            ([KEY, VERSION].concat(), Err(UpgradeError::Headers)),
            (["Upgrade: websocket\r\n", KEY, VERSION].concat(), Err(UpgradeError::Headers)),
            ([HEADERS, KEY].concat(), Err(UpgradeError::Version)),
            ([HEADERS, KEY, "Sec-WebSocket-Version: 8\r\n"].concat(), Err(UpgradeError::Version)),
            ([HEADERS, VERSION].concat(), Err(UpgradeError::Key)),
            ([HEADERS, VERSION, "Sec-WebSocket-Key: AAAA\r\n"].concat(), Err(UpgradeError::Key)),
            ([HEADERS, VERSION, "Sec-WebSocket-Key: ?\r\n"].concat(), Err(UpgradeError::Key)),
        ];
        for (lines, expected) in table {
            assert_eq!(upgrade(&lines), expected, "{lines}");
        }
        for (method, version) in [("HEAD", "1.1"), ("GET", "1.0")] {
            let text = format!("{method} / HTTP/{version}\r\nHost: h\r\n{HEADERS}\r\n");
            let request = http::parse_request(text.as_bytes()).unwrap().unwrap();
            assert_eq!(Upgrade::of(&request), Ok(None), "{method} {version}");
        }
    }

    fn header(payload_len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        write_binary_header(payload_len, &mut |bytes| out.extend_from_slice(bytes));
        out
    }

    #[test]
    fn headers_of_the_rfc() {
        assert_eq!(header(125), [0x82, 125]);
        assert_eq!(header(256), [0x82, 0x7E, 0x01, 0x00]);
        assert_eq!(header(65_535), [0x82, 0x7E, 0xFF, 0xFF]);
        assert_eq!(header(65_536), [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    /// What is read of some input, what is answered, and how it ends.
    fn read(pieces: &[&[u8]]) -> (Vec<Message>, Vec<u8>, Option<WebSocketError>) {
        let mut socket = WebSocket::new(MAX);
        let (mut messages, mut out) = (Vec::new(), Vec::new());
        for mut piece in pieces.iter().copied() {
            loop {
                match socket.read(&mut piece, &mut out) {
                    Ok(None) => break,
                    Ok(Some(message)) => {
                        messages.push(message);
                        if messages.last().is_some_and(Message::is_close) {
                            return (messages, out, None);
                        }
                    }
                    Err(error) => return (messages, out, Some(error)),
                }
            }
            assert!(piece.is_empty());
        }
        (messages, out, None)
    }

    #[test]
    fn frames_of_the_rfc() {
        // Section 5.7: a masked text, and a masked pong. Their key is the same.
        let hello = [0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58];
        assert_eq!(read(&[&hello]).0, [Message::text("Hello")]);
        let mut ping = hello;
        ping[0] = 0x89;
        let (messages, out, _) = read(&[&ping]);
        assert_eq!(messages, [Message::Ping("Hello".into())]);
        assert_eq!(out, [&[0x8A, 0x05][..], b"Hello"].concat());
        // The text in two fragments, a ping between them.
        let first = [0x01, 0x83, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D];
        let last = [0x80, 0x82, 0x37, 0xFA, 0x21, 0x3D, 0x37 ^ b'l', 0xFA ^ b'o'];
        let (messages, out, _) = read(&[&first, &ping, &last]);
        assert_eq!(messages, [Message::Ping("Hello".into()), Message::text("Hello")]);
        assert_eq!(out.len(), 7);
    }

    #[test]
    fn a_close_is_answered_once() {
        // Code 1001, masked with zeros.
        let (messages, out, error) = read(&[&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE9], &[0x89, 0x80]]);
        let Some(Message::Close(Some(frame))) = messages.last() else { panic!("{messages:?}") };
        assert_eq!((u16::from(frame.code), messages.len(), error), (1001, 1, None));
        assert_eq!(out, [0x88, 2, 0x03, 0xE9]);
        let mut socket = WebSocket::new(MAX);
        let mut out = Vec::new();
        assert!(socket.read(&mut &[0x88, 0x80, 0, 0, 0, 0][..], &mut out).is_ok());
        assert_eq!(out, [0x88, 0]);
        socket.close(CloseCode::Away, "late", &mut out);
        socket.ping(&mut out);
        assert_eq!(out, [0x88, 0], "the last word is said");
    }

    #[test]
    fn what_breaks_the_rules_is_told_why() {
        let long = [&[0x82, 0xFE, 0x03, 0xE9, 0, 0, 0, 0][..], &[0; 1_001]].concat();
        let fragments = [&[0x02, 0xFE, 0x03, 0xE8, 0, 0, 0, 0][..], &[0; 1_000], &[0x80, 0x81]];
        let table: [(&[u8], u16); 9] = [
            (&[0x82, 0x01, 0x00], 1002),
            (&[0xC2, 0x80, 0, 0, 0, 0], 1002),
            (&[0x83, 0x80, 0, 0, 0, 0], 1002),
            (&[0x80, 0x80, 0, 0, 0, 0], 1002),
            (&[0x09, 0x80, 0, 0, 0, 0], 1002),
            (&[0x88, 0x81, 0, 0, 0, 0, 3], 1002),
            (&[0x81, 0x81, 0, 0, 0, 0, 0xFF], 1007),
            (&long, 1009),
            (&[fragments.concat(), vec![0; 5]].concat(), 1009),
        ];
        for (input, code) in table {
            let (_, out, error) = read(&[input]);
            let shown = &input[..input.len().min(12)];
            let error = error.unwrap_or_else(|| panic!("{shown:?} was taken"));
            assert_eq!(u16::from(error.code()), code, "{shown:?}: {error}");
            assert_eq!(out[..1], [0x88], "{shown:?}");
            assert_eq!(out[2..4], code.to_be_bytes(), "{shown:?}");
            assert_eq!(&out[4..], error.to_string().as_bytes(), "{shown:?}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        for (reason, kept) in [("x".repeat(200), 123), ("é".repeat(100), 122)] {
            let mut out = Vec::new();
            WebSocket::new(MAX).close(CloseCode::Normal, &reason, &mut out);
            assert_eq!(out[..4], [0x88, kept + 2, 0x03, 0xE8]);
            assert_eq!(out[4..], reason.as_bytes()[..usize::from(kept)]);
        }
    }

    fn message() -> impl Strategy<Value = Message> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..125);
        prop_oneof![
            ".{0,40}".prop_map(Message::text),
            proptest::collection::vec(any::<u8>(), 0..MAX).prop_map(Message::binary),
            bytes().prop_map(|data| Message::Ping(data.into())),
            bytes().prop_map(|data| Message::Pong(data.into())),
        ]
    }

    fn split<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        for size in sizes.iter().cycle() {
            if bytes.is_empty() {
                break;
            }
            let (piece, rest) = bytes.split_at((*size).min(bytes.len()));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }

    proptest! {
        #[test]
        fn what_a_client_sends_is_read_under_any_split(
            messages in proptest::collection::vec(message(), 0..8),
            sizes in proptest::collection::vec(1_usize..300, 1..20),
        ) {
            let mut client = WebSocketContext::new(Role::Client, None);
            let mut sent = Vec::new();
            for message in &messages {
                let pipe = &mut Pipe { input: &mut &[][..], out: &mut sent };
                client.write(pipe, message.clone()).unwrap();
                client.flush(pipe).unwrap();
            }
            let (received, out, error) = read(&split(&sent, &sizes));
            prop_assert_eq!(error, None);
            let pings = messages.iter().filter(|it| it.is_ping());
            let pongs: usize = pings.map(|it| 2 + it.len()).sum();
            prop_assert_eq!(out.len(), pongs);
            prop_assert_eq!(received, messages);
        }

        #[test]
        fn any_bytes_are_read_or_refused_alike_under_any_split(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            sizes in proptest::collection::vec(1_usize..30, 1..10),
        ) {
            prop_assert_eq!(read(&split(&bytes, &sizes)), read(&[&bytes]));
        }
    }
}
