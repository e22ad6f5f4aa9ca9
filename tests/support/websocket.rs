//! A WebSocket viewer: the messages as they come, held against the rules of WebSocket-FLV.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use shardcast::proto::flv::TagReader;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::{HeaderName, HeaderValue};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use super::http::connect;

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
        match tungstenite::client(request, connect(address)) {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            Err(error) => panic!("{target}: {error}"),
        }
    }

    /// Plays `stream` (`app/name`).
    pub(crate) fn open(address: SocketAddr, stream: &str) -> Self {
        Self::ask(address, &format!("/{stream}.flv"), &[])
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

    /// Reads the stream to its end. Each message after the first is one tag.
    pub(crate) fn play(mut self) -> Played {
        let mut file = self.next_binary();
        assert_eq!(file.len(), FLV_HEADER_BYTES, "the first message is the file header");
        loop {
            match self.next() {
                Message::Binary(data) => {
                    let mut reader = TagReader::new(TAG_BYTES_MAX);
                    reader.push(&file[..FLV_HEADER_BYTES]);
                    // The reader takes the size of the tag before with the tag that follows it.
                    let (tag, trailer) = data.split_at(data.len() - 4);
                    reader.push(tag);
                    assert!(matches!(reader.next_tag(), Ok(Some(_))), "a whole tag");
                    assert_eq!(reader.buffered(), 0, "one tag");
                    assert_eq!(trailer, (tag.len() as u32).to_be_bytes());
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

fn code_and_reason(frame: Option<CloseFrame>) -> (u16, String) {
    let frame = frame.expect("the close frame says why");
    (frame.code.into(), frame.reason.to_string())
}
