//! A message of the push channel in the three forms in which clients get it: an RTMP command, a
//! WebSocket text, a server-sent event. Source: contract push-channel 1.5; the JSON of the browser
//! forms is `{"channel":10,"id":"EPOCH-OFFSET","message":"…"}`, with `user` for a message to a user.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use std::fmt;
use std::str::FromStr;

use serde_json::{Value as Json, json};

use super::amf0::{self, Value};
use super::push_name::PushName;
use super::rtmp::chunk_writer::{MessageHeader, full_len, write_full};
use super::rtmp::message;
use super::websocket;

/// The chunk stream of commands (contract 1.5).
const CHUNK_STREAM: u32 = 3;

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PushAddress {
    /// Every connection whose session names the channel.
    Channel(PushName),
    /// Every connection of the user.
    User(PushName),
}

/// What is said.
#[derive(Clone, Debug, PartialEq)]
pub enum PushBody {
    /// Text; it is not looked into.
    Text(String),
    /// Any other JSON: RTMP clients get the AMF0 of it in place of the text.
    Json(Json),
}

/// The place of a message in the order of a server's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PushId {
    /// Milliseconds since 1970 at which the server started: offsets of another start mean nothing.
    pub epoch: u64,
    /// Counts all messages of the server, from 1 on.
    pub offset: u64,
}

impl PushBody {
    /// The body of a parsed JSON value.
    pub fn of_json(value: Json) -> Self {
        match value {
            Json::String(text) => Self::Text(text),
            other => Self::Json(other),
        }
    }

    /// Bytes of the message after decoding, as `push.max_message` counts them.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Json(value) => value.to_string().len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The RTMP form as complete chunks, which may stand between any two messages.
    pub fn rtmp(&self, chunk_size: usize) -> Vec<u8> {
        let payload = self.command();
        let header = MessageHeader {
            chunk_stream_id: CHUNK_STREAM,
            message_stream_id: 0,
            type_id: message::COMMAND_AMF0,
            timestamp_ms: 0,
        };
        let mut out = Vec::with_capacity(full_len(&header, payload.len(), chunk_size));
        write_full(&header, &payload, chunk_size, &mut |bytes| out.extend_from_slice(bytes));
        out
    }

    /// The payload of the command: `onStatus` with exactly three properties, in this order.
    fn command(&self) -> Vec<u8> {
        let description = match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Json(value) => amf0_of(value),
        };
        let mut out = Vec::with_capacity(128 + self.len());
        amf0::write_string(&mut out, "onStatus");
        amf0::write_number(&mut out, 0.0);
        amf0::write_null(&mut out);
        Value::object([
            ("code", Value::from("NetConnection.Message")),
            ("level", Value::from("status")),
            ("description", description),
        ])
        .encode(&mut out);
        out
    }

    /// The JSON of the browser forms.
    pub fn json(&self, address: &PushAddress, id: PushId) -> String {
        let message = match self {
            Self::Text(text) => Json::from(text.as_str()),
            Self::Json(value) => value.clone(),
        };
        let (kind, name) = address.parts();
        json!({ kind: name, "message": message, "id": id.to_string() }).to_string()
    }
}

impl PushAddress {
    fn parts(&self) -> (&'static str, &PushName) {
        match self {
            Self::Channel(name) => ("channel", name),
            Self::User(name) => ("user", name),
        }
    }
}

/// A WebSocket frame with a text.
pub fn websocket_frame(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 10);
    websocket::write_text(text, &mut out);
    out
}

/// A server-sent event; `id` is what a browser sends back as `Last-Event-ID`. JSON has no line breaks.
pub fn server_sent_event(id: Option<PushId>, json: &str) -> Vec<u8> {
    let mut text = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    if !json.is_empty() {
        text.push_str("data: ");
        text.push_str(json);
        text.push('\n');
    }
    text.push('\n');
    text.into_bytes()
}

fn amf0_of(value: &Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Boolean(*value),
        Json::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(values) => Value::StrictArray(values.iter().map(amf0_of).collect()),
        Json::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), amf0_of(value))).collect())
        }
    }
}

impl fmt::Display for PushAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = self.parts();
        write!(f, "{kind} {name}")
    }
}

impl fmt::Display for PushId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.offset)
    }
}

impl FromStr for PushId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, offset) = text.split_once('-').ok_or(())?;
        let number = |text: &str| text.parse().map_err(|_| ());
        Ok(Self { epoch: number(epoch)?, offset: number(offset)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::rtmp::command::Command;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    fn text(text: &str) -> PushBody {
        PushBody::Text(text.to_owned())
    }

    #[test]
    fn the_vector_of_the_contract() {
        let payload = hex("0200086f6e537461747573 000000000000000000 05 03 0004636f6465 \
             0200154e6574436f6e6e656374696f6e2e4d657373616765 00056c6576656c 020006737461747573 \
             000b6465736372697074696f6e 02000568656c6c6f 000009");
        assert_eq!(payload.len(), 92);
        assert_eq!(text("hello").command(), payload);
        let header = hex("03 000000 00005c 14 00000000");
        assert_eq!(text("hello").rtmp(60_000), [header, payload].concat());
    }

    #[test]
    fn a_long_text_is_a_long_string() {
        for (len, marker) in [(65_535, 0x02), (65_536, 0x0C)] {
            let payload = text(&"x".repeat(len)).command();
            let at = payload.windows(11).position(|part| part == b"description").unwrap() + 11;
            assert_eq!(payload[at], marker);
            let call = Command::parse(&payload).unwrap();
            let found = call.args[0].property("description").and_then(Value::as_str);
            assert_eq!(found.map(str::len), Some(len));
        }
    }

    #[test]
    fn an_object_comes_as_one() {
        let body = PushBody::of_json(json!({ "a": [1, true, null, "x"], "b": { "c": 2.5 } }));
        let call = Command::parse(&body.command()).unwrap();
        let list = vec![Value::Number(1.0), Value::Boolean(true), Value::Null, Value::from("x")];
        let inner = Value::object([("c", Value::Number(2.5))]);
        let expected = Value::object([("a", Value::StrictArray(list)), ("b", inner)]);
        assert_eq!(call.args[0].property("description"), Some(&expected));
        assert_eq!(PushBody::of_json(json!("x")), text("x"));
    }

    #[test]
    fn browsers_get_json() {
        let id = PushId { epoch: 7, offset: 3 };
        let json = text("a\n\"b\"").json(&PushAddress::Channel(10.into()), id);
        assert_eq!(json, r#"{"channel":10,"id":"7-3","message":"a\n\"b\""}"#);
        let event = String::from_utf8(server_sent_event(Some(id), &json)).unwrap();
        assert_eq!(event, format!("id: 7-3\ndata: {json}\n\n"));
        assert_eq!(server_sent_event(Some(id), ""), b"id: 7-3\n\n");
        assert_eq!(websocket_frame("hi"), [0x81, 2, b'h', b'i']);
        let body = PushBody::Json(json!({ "x": 1 }));
        let user = body.json(&PushAddress::User((-5).into()), id);
        assert_eq!(user, r#"{"id":"7-3","message":{"x":1},"user":-5}"#);
        let named = PushAddress::Channel("a \"b\"".parse().unwrap());
        assert!(text("").json(&named, id).starts_with(r#"{"channel":"a \"b\"","#));
    }

    #[test]
    fn ids_are_read_back() {
        let id = PushId { epoch: 1_700_000_000_000, offset: u64::MAX };
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "1", "1-", "-1", "a-b", "1-2-3", "1--2"] {
            assert!(wrong.parse::<PushId>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_text_arrives_as_it_was(message in "(?s).{0,200}", chunk_size in 128_usize..300) {
            use crate::proto::rtmp::chunk_reader::{ChunkReader, ReaderLimits};
            let limits = ReaderLimits {
                message_bytes_max: 1 << 20,
                chunk_streams_max: 8,
                partial_bytes_max: 1 << 20,
            };
            let mut reader = ChunkReader::new(limits);
            let size = message::set_chunk_size(chunk_size as u32);
            let header = MessageHeader {
                chunk_stream_id: 2,
                message_stream_id: 0,
                type_id: message::SET_CHUNK_SIZE,
                timestamp_ms: 0,
            };
            let mut wire = Vec::new();
            write_full(&header, &size, 128, &mut |bytes| wire.extend_from_slice(bytes));
            wire.extend(text(&message).rtmp(chunk_size));
            let mut rest = &wire[..];
            let mut found = None;
            while !rest.is_empty() {
                let read = reader.read(rest).unwrap();
                rest = &rest[read.consumed..];
                found = read.message.or(found);
            }
            let call = Command::parse(&found.unwrap().payload).unwrap();
            let description = call.args[0].property("description").and_then(Value::as_str);
            prop_assert_eq!(description, Some(message.as_str()));
        }
    }
}
