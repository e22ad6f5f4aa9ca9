//! A client of the push channel on the media port: a WebSocket, or a stream of server-sent events. What
//! it gets are messages as JSON (see `proto::push_message`); besides them
//!
//! - `{"hello":true,"id":"EPOCH-OFFSET"}` first on a WebSocket where messages are kept: where the client
//!   stands before its first message (an event without data says the same);
//! - `{"gap":true,"from":"ID"}`: after `ID` something may have been missed that is not kept;
//! - `{"error":WORD,"text":…}`: a message of the client was not passed on;
//! - `{"pong":true}` for a client's `{"ping":…}`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::ask::{Refusal, RefusalReason};
use super::close::CloseReason;
use super::push_ask::{PushGrant, PushWire, SendRefusal};
use super::websocket::WebSocketSession;
use super::{Event, Io};
use crate::config::{ClientSend, Settings};
use crate::limits;
use crate::media::Moment;
use crate::proto::http::{Method, Request};
use crate::proto::push_message::{PushBody, server_sent_event};
use crate::proto::push_name::PushName;
use crate::proto::websocket::{self, CloseCode, Message, Upgrade, WebSocket};

/// Close code for a session that is refused: coming back with the same one is of no use.
const SESSION_REFUSED: CloseCode = CloseCode::Library(4403);
/// What goes before a stream of events; the last one keeps nginx from collecting them.
pub(super) const EVENT_HEADERS: [(&str, &str); 3] = [
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-cache, no-store"),
    ("X-Accel-Buffering", "no"),
];
/// After a broken connection a browser waits so long.
const EVENT_RETRY: &[u8] = b"retry: 2000\n\n";
/// A client that may not send has pings to say, and little else.
const QUIET_MESSAGE_BYTES_MAX: usize = 4 * 1024;

type Wrong = (u16, String, &'static [(&'static str, &'static str)]);

/// How a client wants its messages.
#[derive(Debug)]
pub(super) enum Opening {
    Events,
    WebSocket(Upgrade),
}

/// A client that has been let in.
#[derive(Debug)]
pub(super) struct PushStream {
    settings: Arc<Settings>,
    form: Form,
    /// Its messages to channels that are not judged yet.
    sends: u32,
    /// When the last sign of life went to a client of events.
    last_sign: Moment,
}

#[derive(Debug)]
enum Form {
    Events,
    WebSocket(Box<WebSocketSession>),
}

impl Opening {
    /// What a request asks for.
    pub(super) fn of(request: &Request) -> Result<Self, Wrong> {
        if request.method != Method::Get {
            return Err((405, "use GET".to_owned(), &[("Allow", "GET, OPTIONS")]));
        }
        match Upgrade::of(request) {
            Ok(Some(upgrade)) => Ok(Self::WebSocket(upgrade)),
            Err(error) => Err((error.status(), error.to_string(), error.headers())),
            Ok(None) if accepts_events(request) => Ok(Self::Events),
            Ok(None) => {
                let text = "upgrade to a WebSocket, or accept text/event-stream";
                Err((426, text.to_owned(), &[("Upgrade", "websocket"), ("Connection", "Upgrade")]))
            }
        }
    }

    pub(super) fn wire(&self) -> PushWire {
        match self {
            Self::Events => PushWire::Sse,
            Self::WebSocket(_) => PushWire::WebSocket,
        }
    }
}

/// Ends a WebSocket whose session is refused; its upgrade was just answered.
pub(super) fn refuse(refusal: &Refusal, io: &mut Io<'_>) {
    let code = match refusal.reason {
        RefusalReason::Draining => CloseCode::Away,
        RefusalReason::Limit | RefusalReason::Unavailable => CloseCode::Again,
        _ => SESSION_REFUSED,
    };
    WebSocket::new(QUIET_MESSAGE_BYTES_MAX).close(code, &refusal.description, io.out);
}

impl PushStream {
    /// A client whose request was just answered.
    pub(super) fn begin(
        settings: Arc<Settings>,
        opening: &Opening,
        grant: &PushGrant,
        io: &mut Io<'_>,
    ) -> Self {
        let form = match opening {
            Opening::Events => {
                io.out.extend_from_slice(EVENT_RETRY);
                Form::Events
            }
            Opening::WebSocket(_) => {
                let bytes_max = match grant.settings.client_send {
                    ClientSend::Off => QUIET_MESSAGE_BYTES_MAX,
                    // JSON makes two bytes of one that is common in texts.
                    _ => 2 * grant.settings.message_bytes_max + QUIET_MESSAGE_BYTES_MAX,
                };
                let socket = WebSocketSession::new(Arc::clone(&settings), bytes_max, io.now);
                Form::WebSocket(Box::new(socket))
            }
        };
        let stream = Self { settings, form, sends: 0, last_sign: io.now };
        if let Some(from) = &grant.gap {
            stream.say(&json!({ "gap": true, "from": from }), io);
        }
        // What was missed brings its own ids, and has to come before this one.
        if let Some(id) = grant.position.filter(|_| grant.missed.is_empty()) {
            match stream.form {
                Form::Events => io.out.extend_from_slice(&server_sent_event(Some(id), "")),
                Form::WebSocket(_) => {
                    stream.say(&json!({ "hello": true, "id": id.to_string() }), io);
                }
            }
        }
        stream
    }

    pub(super) fn wire(&self) -> PushWire {
        match self.form {
            Form::Events => PushWire::Sse,
            Form::WebSocket(_) => PushWire::WebSocket,
        }
    }

    /// The protocol's name in logs.
    pub(super) fn protocol(&self) -> &'static str {
        match self.form {
            Form::Events => "push-sse",
            Form::WebSocket(_) => "push-websocket",
        }
    }

    /// Bytes came from the client.
    pub(super) fn input(&mut self, bytes: &[u8], io: &mut Io<'_>) -> Result<(), CloseReason> {
        let Form::WebSocket(socket) = &mut self.form else { return Ok(()) };
        let mut heard = Vec::new();
        let result = socket.input(bytes, io, |message| heard.push(message));
        for message in heard {
            let text = match &message {
                Message::Text(text) => text.as_str(),
                _ => "",
            };
            self.heard(text, io);
        }
        result
    }

    /// A message of the client to a channel was judged.
    pub(super) fn sent(&mut self, refusal: Option<SendRefusal>, io: &mut Io<'_>) {
        self.sends = self.sends.saturating_sub(1);
        if let Some(refusal) = refusal {
            self.complain(refusal, io);
        }
    }

    /// Gives signs of life, and wants some.
    pub(super) fn tick(&mut self, io: &mut Io<'_>) -> Result<(), CloseReason> {
        match &mut self.form {
            Form::WebSocket(socket) => socket.tick(io),
            Form::Events => {
                let ping = self.settings.http.ping;
                if ping.is_some_and(|ping| io.now.since(self.last_sign) > ping) {
                    self.last_sign = io.now;
                    io.out.extend_from_slice(b":\n\n");
                }
                Ok(())
            }
        }
    }

    /// The last word.
    pub(super) fn farewell(&mut self, reason: &CloseReason, io: &mut Io<'_>) {
        if let Form::WebSocket(socket) = &mut self.form {
            socket.farewell(reason, io);
        }
    }

    fn heard(&mut self, text: &str, io: &mut Io<'_>) {
        let Ok(Json::Object(mut said)) = serde_json::from_str(text) else {
            return self.complain(SendRefusal::Malformed, io);
        };
        if said.contains_key("ping") {
            return self.say(&json!({ "pong": true }), io);
        }
        let channel = said.get("channel").and_then(|it| PushName::deserialize(it).ok());
        let (Some(channel), Some(message)) = (channel, said.remove("message")) else {
            return self.complain(SendRefusal::Malformed, io);
        };
        if self.sends >= limits::PUSH_CLIENT_SENDS_MAX {
            return self.complain(SendRefusal::Busy, io);
        }
        self.sends += 1;
        io.events.push(Event::PushSend { channel, body: PushBody::of_json(message) });
    }

    fn complain(&self, refusal: SendRefusal, io: &mut Io<'_>) {
        self.say(&json!({ "error": refusal.word(), "text": refusal.to_string() }), io);
    }

    fn say(&self, value: &Json, io: &mut Io<'_>) {
        let text = value.to_string();
        match self.form {
            Form::Events => io.out.extend_from_slice(&server_sent_event(None, &text)),
            Form::WebSocket(_) => websocket::write_text(&text, io.out),
        }
    }
}

fn accepts_events(request: &Request) -> bool {
    let mut kinds = request.headers("accept").flat_map(|value| value.split(','));
    kinds.any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("text/event-stream")
    })
}
