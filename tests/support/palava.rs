//! A client of the rooms: palava's messages over a WebSocket.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::{HeaderName, HeaderValue, Response};
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use super::http::connect;

/// Where rooms are by default.
pub(crate) const PATH: &str = "/signal";

/// An open connection.
pub(crate) struct Palava {
    socket: WebSocket<TcpStream>,
}

impl Palava {
    /// Connects to the rooms of the HTTP port.
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::ask(address, PATH, &[]).unwrap_or_else(|status| panic!("status {status}")).0
    }

    /// The same with a receive buffer of this size: soon full when it is not read.
    pub(crate) fn open_with_buffer(address: SocketAddr, bytes: usize) -> Self {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        // Before connect: afterwards the window that was offered stays.
        socket.set_recv_buffer_size(bytes).expect("the receive buffer can be set");
        socket.connect(&address.into()).expect("the server listens");
        let url = format!("ws://{address}{PATH}");
        let (socket, _) = tungstenite::client(url, socket.into()).expect("it is let in");
        Self { socket }
    }

    /// Asks for an upgrade; a refusal gives its status code.
    pub(crate) fn ask(
        address: SocketAddr,
        target: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(Self, Response<()>), u16> {
        let mut request =
            format!("ws://{address}{target}").into_client_request().expect("the URL is right");
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("a header");
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        match tungstenite::client(request, connect(address)) {
            Ok((socket, response)) => Ok((Self { socket }, response.map(|_| ()))),
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            Err(error) => panic!("no answer to an upgrade: {error}"),
        }
    }

    /// The connection below.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }

    /// Sends any frame.
    pub(crate) fn send_frame(&mut self, message: Message) {
        self.socket.send(message).expect("the server reads");
    }

    /// Sends a text, JSON or not.
    pub(crate) fn send_text(&mut self, text: &str) {
        self.send_frame(Message::text(text));
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string());
    }

    /// The next frame, whatever it is.
    pub(crate) fn next_frame(&mut self) -> Message {
        self.socket.read().unwrap_or_else(|error| panic!("nothing came: {error}"))
    }

    /// The next message.
    pub(crate) fn next(&mut self) -> Value {
        loop {
            match self.next_frame() {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("no message: {other:?}"),
            }
        }
    }

    /// The next message, which has to be of this event.
    pub(crate) fn expect(&mut self, event: &str) -> Value {
        let message = self.next();
        assert_eq!(message["event"], event, "{message}");
        message
    }

    /// Sends a message and gives the answer.
    pub(crate) fn call(&mut self, message: &Value) -> Value {
        self.send(message);
        self.next()
    }

    /// Sends a message and gives `message` of the error that it is answered with.
    pub(crate) fn error(&mut self, message: &Value) -> String {
        self.error_of_text(&message.to_string())
    }

    /// The same for any text.
    pub(crate) fn error_of_text(&mut self, text: &str) -> String {
        self.send_text(text);
        let answer = self.expect("error");
        assert!(answer["id"].is_string() && answer["description"].is_string(), "{answer}");
        answer["message"].as_str().expect("a text").to_owned()
    }

    /// Joins a room.
    pub(crate) fn join(&mut self, room: &str, status: Option<Value>) -> Value {
        let mut message = json!({ "event": "join_room", "room_id": room });
        if let Some(status) = status {
            message["status"] = status;
        }
        self.send(&message);
        self.expect("joined_room")
    }

    /// Sends a `message` event to a peer.
    pub(crate) fn tell(&mut self, peer: &str, text: &str) {
        let data = json!({ "event": "message", "data": text });
        self.send(&json!({ "event": "send_to_peer", "peer_id": peer, "data": data }));
    }

    /// Nothing was sent to this client that it has not read: the answer to a ping comes next.
    pub(crate) fn expect_nothing(&mut self) {
        self.send(&json!({ "event": "ping" }));
        self.expect("pong");
    }

    /// Closes the connection with a close frame and waits for the server's end.
    pub(crate) fn close(mut self) {
        self.socket.close(None).expect("the server reads");
        while self.socket.read().is_ok() {}
    }

    /// Code of the close frame that comes next, behind whatever else.
    pub(crate) fn next_close(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.next_frame() {
                return frame.expect("the close frame says why").code.into();
            }
        }
    }

    /// For how long nothing may come before that is a failure.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.stream().set_read_timeout(Some(patience)).expect("a time-out can be set");
    }
}

/// A text of a message as JSON.
pub(crate) fn text<'a>(message: &'a Value, key: &str) -> &'a str {
    message[key].as_str().unwrap_or_else(|| panic!("no text {key} in {message}"))
}
