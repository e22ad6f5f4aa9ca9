//! What every WebSocket on the media port has in common, whatever it carries: reading, signs of life, and
//! the last word.

use std::sync::Arc;

use super::Io;
use super::close::CloseReason;
use crate::config::Settings;
use crate::media::Moment;
use crate::proto::websocket::{CloseCode, Message, WebSocket};

/// The private close code for what is 404 in HTTP.
const NOT_FOUND: CloseCode = CloseCode::Library(4404);

/// One upgraded connection.
#[derive(Debug)]
pub(super) struct WebSocketSession {
    settings: Arc<Settings>,
    frames: WebSocket,
    last_input: Moment,
    ping_sent: Option<Moment>,
}

impl WebSocketSession {
    /// A connection whose upgrade was just answered, and whose client may send messages of at most
    /// `message_bytes_max`.
    pub(super) fn new(settings: Arc<Settings>, message_bytes_max: usize, now: Moment) -> Self {
        Self {
            settings,
            frames: WebSocket::new(message_bytes_max),
            last_input: now,
            ping_sent: None,
        }
    }

    /// Bytes came from the client; `heard` gets its texts and binary messages. Pings are answered. A
    /// close, or what breaks the rules, is answered and ends the connection.
    pub(super) fn input(
        &mut self,
        mut bytes: &[u8],
        io: &mut Io<'_>,
        mut heard: impl FnMut(Message),
    ) -> Result<(), CloseReason> {
        self.last_input = io.now;
        self.ping_sent = None;
        loop {
            match self.frames.read(&mut bytes, io.out) {
                Ok(None) => return Ok(()),
                Ok(Some(Message::Close(frame))) => {
                    return Err(CloseReason::Goodbye(frame.map(|frame| frame.code.into())));
                }
                Ok(Some(message @ (Message::Text(_) | Message::Binary(_)))) => heard(message),
                Ok(Some(_)) => {}
                Err(error) => return Err(CloseReason::Protocol(error.to_string())),
            }
        }
    }

    /// Pings a client that is silent, and gives up one that stays so.
    pub(super) fn tick(&mut self, io: &mut Io<'_>) -> Result<(), CloseReason> {
        let http = &self.settings.http;
        match self.ping_sent {
            Some(sent) if io.now.since(sent) > http.ping_timeout => Err(CloseReason::PingTimeout),
            None if http.ping.is_some_and(|ping| io.now.since(self.last_input) > ping) => {
                self.ping_sent = Some(io.now);
                self.frames.ping(io.out);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A close frame of the caller's, unless the last word is already said.
    pub(super) fn close(&mut self, code: CloseCode, reason: &str, io: &mut Io<'_>) {
        self.frames.close(code, reason, io.out);
    }

    /// The close frame for a reason of the server's, unless the last word is already said.
    pub(super) fn farewell(&mut self, reason: &CloseReason, io: &mut Io<'_>) {
        let code = match reason {
            CloseReason::Done => CloseCode::Normal,
            CloseReason::Draining => CloseCode::Away,
            CloseReason::Limit(_) => CloseCode::Again,
            CloseReason::NotPublished(_) => NOT_FOUND,
            _ => CloseCode::Policy,
        };
        match reason {
            CloseReason::Done => self.frames.close(code, "the stream has ended", io.out),
            reason => self.frames.close(code, &reason.to_string(), io.out),
        }
    }
}
