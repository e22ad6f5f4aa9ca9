//! A client of the rooms on its media shard: a WebSocket whose texts go to the control shard, where rooms
//! live, and whose answers come from there. Here is what protects the control shard: the length of a
//! message, and how many may come.

use std::sync::Arc;
use std::time::Duration;

use super::close::CloseReason;
use super::websocket::WebSocketSession;
use super::{Event, Io};
use crate::config::Settings;
use crate::limits;
use crate::media::Moment;
use crate::proto::palava::RoomError;
use crate::proto::websocket::{self, CloseCode, Message};

/// A client that is told that it sends too much is told again after this time.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// What the control shard is told of a client that has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomClient {
    /// Origin of the page; empty when the client is none.
    pub origin: String,
}

/// Who has come into its upgrade's answer.
#[derive(Debug)]
pub(super) struct SignalSession {
    socket: WebSocketSession,
    messages: Pace,
    bytes: Pace,
    /// When it was told that it sends too much.
    complained: Option<Moment>,
}

/// So much at once, and so much a second over time.
#[derive(Debug)]
struct Pace {
    paid_until: Moment,
}

impl Pace {
    /// Whether `amount` more may pass.
    fn takes(&mut self, amount: u32, per_s: u32, at_once: u32, now: Moment) -> bool {
        let cost = Duration::from_secs(amount.into()) / per_s;
        let start = self.paid_until.max(now);
        if start.since(now) + cost > Duration::from_secs(at_once.into()) / per_s {
            return false;
        }
        self.paid_until = start + cost;
        true
    }
}

impl SignalSession {
    /// A client whose upgrade was just answered.
    pub(super) fn new(settings: Arc<Settings>, now: Moment) -> Self {
        let bytes_max = limits::ROOM_MESSAGE_BYTES_MAX;
        Self {
            socket: WebSocketSession::new(settings, bytes_max, now),
            messages: Pace { paid_until: Moment::ZERO },
            bytes: Pace { paid_until: Moment::ZERO },
            complained: None,
        }
    }

    /// Bytes came from the client. Binary messages are ignored, as palava-machine does.
    pub(super) fn input(&mut self, bytes: &[u8], io: &mut Io<'_>) -> Result<(), CloseReason> {
        let mut heard = Vec::new();
        let result = self.socket.input(bytes, io, |message| {
            if let Message::Text(text) = message {
                heard.push(text);
            }
        });
        for text in heard {
            let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
            let is_taken = self.messages.takes(
                1,
                limits::ROOM_MESSAGES_PER_S,
                limits::ROOM_MESSAGES_AT_ONCE,
                io.now,
            ) && self.bytes.takes(
                len,
                limits::ROOM_BYTES_PER_S,
                limits::ROOM_BYTES_AT_ONCE,
                io.now,
            );
            if is_taken {
                io.events.push(Event::RoomText(text.as_str().to_owned()));
            } else {
                self.complain(io);
            }
        }
        result
    }

    /// Wants a sign of life of a client that is silent.
    pub(super) fn tick(&mut self, io: &mut Io<'_>) -> Result<(), CloseReason> {
        self.socket.tick(io)
    }

    /// The rooms say something to the client.
    pub(super) fn say(&self, text: &str, io: &mut Io<'_>) {
        websocket::write_text(text, io.out);
    }

    /// The last word.
    pub(super) fn farewell(&mut self, reason: &CloseReason, io: &mut Io<'_>) {
        match reason {
            CloseReason::Rooms(code, why) => {
                self.socket.close(CloseCode::Library(*code), why, io);
            }
            reason => self.socket.farewell(reason, io),
        }
    }

    /// One answer for all messages of a while, so that a flood in is none out.
    fn complain(&mut self, io: &mut Io<'_>) {
        io.events.push(Event::RoomTextDropped);
        let since = self.complained.map(|then| io.now.since(then));
        if since.is_none_or(|since| since >= COMPLAINT_INTERVAL) {
            self.complained = Some(io.now);
            self.say(&RoomError::TooManyMessages.frame(), io);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_allows_a_burst_and_then_the_rate() {
        let mut pace = Pace { paid_until: Moment::ZERO };
        let start = Moment::ZERO + Duration::from_secs(5);
        let passed =
            |pace: &mut Pace, now| (0..1_000).filter(|_| pace.takes(1, 50, 200, now)).count();
        assert_eq!(passed(&mut pace, start), 200);
        assert_eq!(passed(&mut pace, start + Duration::from_millis(100)), 5);
        assert_eq!(passed(&mut pace, start + Duration::from_secs(60)), 200);
        assert!(!pace.takes(201, 50, 200, start + Duration::from_secs(120)));
    }
}
