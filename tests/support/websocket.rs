//! A WebSocket viewer: the messages as they come, held against the rules of WebSocket-FLV.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use shardcast::proto::flv::{self, Tag, TagReader};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Request;
use tungstenite::http::{HeaderName, HeaderValue};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use super::http::connect;
use socket2::{Domain, Socket, Type};

/// FLV's file header with the size of the tag before the first.
const FLV_HEADER_BYTES: usize = 13;
/// Longer messages than any test has.
const TAG_BYTES_MAX: usize = 1 << 24;

/// An open WebSocket.
pub(crate) struct WebSocketViewer {
    socket: WebSocket<TcpStream>,
}

/// A stream from its header to the close frame.
pub(crate) struct Played {
    /// The FLV file that the messages are.
    pub(crate) file: Vec<u8>,
    /// Code and reason of the close frame.
    pub(crate) closed: (u16, String),
}

impl WebSocketViewer {
    /// Asks for an upgrade of `target`; a refusal gives its status code.
    pub(crate) fn ask(
        address: SocketAddr,
        target: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Self, u16> {
        let url = format!("ws://{address}{target}");
        let mut request = url.into_client_request().expect("the URL is right");
        for (name, value) in headers {
            let name = HeaderName::from_static(name);
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        Self::upgrade(request, connect(address))
    }

    fn upgrade(request: Request, stream: TcpStream) -> Result<Self, u16> {
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            Err(error) => panic!("no answer to an upgrade: {error}"),
        }
    }

    /// Plays `stream` (`app/name`).
    pub(crate) fn open(address: SocketAddr, stream: &str) -> Self {
        Self::ask(address, &format!("/{stream}.flv"), &[])
            .unwrap_or_else(|status| panic!("{stream}: status {status}"))
    }

    /// The same, with a receive buffer of this size: soon full when it is not read.
    pub(crate) fn open_with_buffer(address: SocketAddr, stream: &str, bytes: usize) -> Self {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        // Before connect: afterwards the window that was offered stays.
        socket.set_recv_buffer_size(bytes).expect("the receive buffer can be set");
        socket.connect(&address.into()).expect("the server listens");
        let request = format!("ws://{address}/{stream}.flv").into_client_request();
        Self::upgrade(request.expect("the URL is right"), socket.into())
            .unwrap_or_else(|status| panic!("{stream}: status {status}"))
    }

    /// The next message; control frames count.
    pub(crate) fn next(&mut self) -> Message {
        self.socket.read().unwrap_or_else(|error| panic!("no message: {error}"))
    }

    /// The next binary message.
    pub(crate) fn next_binary(&mut self) -> Vec<u8> {
        loop {
            match self.next() {
                Message::Binary(data) => return data.into(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not of a stream: {other:?}"),
            }
        }
    }

    /// The next close frame, behind whatever media comes before it: code and reason.
    pub(crate) fn next_close(&mut self) -> (u16, String) {
        loop {
            match self.next() {
                Message::Close(frame) => return code_and_reason(frame),
                Message::Text(text) => panic!("not of a stream: {text}"),
                _ => {}
            }
        }
    }

    /// The next tag.
    pub(crate) fn next_tag(&mut self) -> Tag {
        only_tag(&self.next_binary())
    }

    /// Reads the stream to its end. Each message after the first is one tag.
    pub(crate) fn play(mut self) -> Played {
        let mut file = self.next_binary();
        assert_eq!(file.len(), FLV_HEADER_BYTES, "the first message is the file header");
        loop {
            match self.next() {
                Message::Binary(data) => {
                    only_tag(&data);
                    file.extend_from_slice(&data);
                }
                Message::Close(frame) => return Played { file, closed: code_and_reason(frame) },
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not of a stream: {other:?}"),
            }
        }
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, message: Message) {
        self.socket.send(message).expect("the server reads");
    }

    /// Sends bytes as they stand; says whether the server still takes them.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> bool {
        self.socket.get_mut().write_all(bytes).is_ok()
    }
}

/// A message is one tag with its size behind it.
fn only_tag(message: &[u8]) -> Tag {
    let (tag, trailer) = message.split_at(message.len() - 4);
    assert_eq!(trailer, (tag.len() as u32).to_be_bytes());
    let mut reader = TagReader::new(TAG_BYTES_MAX);
    // The reader takes the size of a tag with the tag that follows it.
    reader.push(&flv::header(true, true));
    reader.push(tag);
    let read = reader.next_tag().expect("a tag").expect("a whole tag");
    assert_eq!(reader.buffered(), 0, "one tag");
    read
}

fn code_and_reason(frame: Option<CloseFrame>) -> (u16, String) {
    let frame = frame.expect("the close frame says why");
    (frame.code.into(), frame.reason.to_string())
}
