//! AMF0 commands (message type 20) and data messages (type 18): RTMP specification, section 7,
//! and what Flash Media Server and its clients made of it.
//!
//! Builders return the payload of one message. Statuses go out on the message stream that they
//! are about, answers on the message stream of their call.

use bytes::Bytes;
use thiserror::Error;

use super::status::{self, Status};
use crate::proto::amf0::{self, Amf0Error, Value};

/// Why a payload is no command or data message.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CommandError {
    /// The values cannot be read.
    #[error(transparent)]
    Amf(#[from] Amf0Error),
    /// The first value is not the name.
    #[error("an RTMP command or data message does not start with its name")]
    NoName,
}

/// A command: a call, an answer to one, or a status.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The method, or `_result`, `_error`, `onStatus`.
    pub name: String,
    /// Ties an answer to its call; 0 if none is awaited.
    pub transaction: f64,
    /// The command object; Null for most commands.
    pub object: Value,
    /// What follows.
    pub args: Vec<Value>,
}

impl Command {
    /// A command without a command object.
    pub fn new(name: &str, transaction: f64, args: Vec<Value>) -> Self {
        Self { name: name.to_owned(), transaction, object: Value::Null, args }
    }

    /// Reads an AMF0 command; for type 17 see [`message::amf0_body`](super::message::amf0_body).
    /// A transaction that is missing or no number is 0, a missing object Null.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn parse(payload: &[u8]) -> Result<Self, CommandError> {
        let mut values = amf0::decode_all(payload)?.into_iter();
        let Some(Value::String(name)) = values.next() else {
            return Err(CommandError::NoName);
        };
        let transaction = values.next().and_then(|value| value.as_f64());
        Ok(Self {
            name,
            transaction: transaction.unwrap_or(0.0),
            object: values.next().unwrap_or(Value::Null),
            args: values.collect(),
        })
    }

    /// The payload of a message of type 20.
    pub fn encode(&self) -> Vec<u8> {
        encode(&self.name, self.transaction, &self.object, &self.args)
    }

    /// The argument at `index`, if it is a string.
    pub fn str_arg(&self, index: usize) -> Option<&str> {
        self.args.get(index)?.as_str()
    }

    /// The argument at `index`, if it is a number.
    pub fn f64_arg(&self, index: usize) -> Option<f64> {
        self.args.get(index)?.as_f64()
    }
}

/// What the server says of itself in the answer to connect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerTraits<'a> {
    /// As `FMS/3,0,1,123`; some clients look at its form.
    pub fms_version: &'a str,
    /// Flash's capability bits; 31 is what Flash Media Server sends.
    pub capabilities: f64,
    /// 0: AMF0. What the client asked for, as far as the server goes along.
    pub object_encoding: f64,
}

/// The payload of any command.
pub fn encode(name: &str, transaction: f64, object: &Value, args: &[Value]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    amf0::write_string(&mut out, name);
    amf0::write_number(&mut out, transaction);
    object.encode(&mut out);
    for arg in args {
        arg.encode(&mut out);
    }
    out
}

/// `_result`: the call `transaction` succeeded.
pub fn result(transaction: f64, object: &Value, info: Value) -> Vec<u8> {
    encode("_result", transaction, object, &[info])
}

/// `_error`: the call `transaction` failed.
pub fn error(transaction: f64, object: &Value, info: Value) -> Vec<u8> {
    encode("_error", transaction, object, &[info])
}

/// The answer to an accepted connect. `extra` goes into both of its objects: of what a server can do,
/// Enhanced RTMP says only that it stands in "an Object", and clients look into either.
pub fn connect_result(
    transaction: f64,
    server: ServerTraits<'_>,
    extra: Vec<(String, Value)>,
) -> Vec<u8> {
    let mut properties = vec![
        ("fmsVer".to_owned(), Value::from(server.fms_version)),
        ("capabilities".to_owned(), Value::from(server.capabilities)),
        ("mode".to_owned(), Value::from(1.0)),
    ];
    properties.extend_from_slice(&extra);
    let mut all = vec![("objectEncoding".to_owned(), Value::from(server.object_encoding))];
    all.extend(extra);
    let info = status_info(status::CONNECT_SUCCESS, "Connection succeeded.", all);
    result(transaction, &Value::Object(properties), info)
}

/// The answer to a refused connect. `extra` may hold `application` or `ex` (redirects).
pub fn connect_error(
    transaction: f64,
    status: Status,
    description: &str,
    extra: Vec<(String, Value)>,
) -> Vec<u8> {
    let info = status_info(status, description, extra);
    error(transaction, &Value::Null, info)
}

/// `onStatus`. `extra` may hold `details` (the stream's name) or `clientid`.
pub fn on_status(status: Status, description: &str, extra: Vec<(String, Value)>) -> Vec<u8> {
    let info = status_info(status, description, extra);
    encode("onStatus", 0.0, &Value::Null, &[info])
}

/// `onBWDone`: no bandwidth check follows. ffmpeg answers with `_checkbw`.
pub fn on_bw_done() -> Vec<u8> {
    encode("onBWDone", 0.0, &Value::Null, &[])
}

/// `onFCPublish`, awaited by Flash Media Live Encoder after FCPublish.
pub fn on_fc_publish(description: &str) -> Vec<u8> {
    on_fc("onFCPublish", status::PUBLISH_START, description)
}

/// `onFCUnpublish`, the end of what FCPublish began.
pub fn on_fc_unpublish(description: &str) -> Vec<u8> {
    on_fc("onFCUnpublish", status::UNPUBLISH_SUCCESS, description)
}

/// `onFCSubscribe`, awaited by players of content delivery networks after FCSubscribe.
pub fn on_fc_subscribe(description: &str) -> Vec<u8> {
    on_fc("onFCSubscribe", status::PLAY_START, description)
}

/// The data message `onStatus` with only a code, as sent before the first media.
pub fn data_status(status: Status) -> Vec<u8> {
    let mut out = Vec::new();
    amf0::write_string(&mut out, "onStatus");
    Value::object([("code", Value::from(status.code))]).encode(&mut out);
    out
}

/// The data message `onPlayStatus`, about the change from one stream to another. `name` is the new one.
pub fn on_play_status(status: Status, description: &str, name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    amf0::write_string(&mut out, "onPlayStatus");
    let details = vec![("details".to_owned(), Value::from(name))];
    status_info(status, description, details).encode(&mut out);
    out
}

/// The data message that lets a player see samples or not; Flash Media Server sends it with
/// two times false before media.
pub fn rtmp_sample_access(audio: bool, video: bool) -> Vec<u8> {
    let mut out = Vec::new();
    amf0::write_string(&mut out, "|RtmpSampleAccess");
    amf0::write_boolean(&mut out, audio);
    amf0::write_boolean(&mut out, video);
    out
}

/// Whether a data message, as viewers get it, is what servers say to a player beside the stream, also when
/// nobody publishes it.
pub fn is_said_to_players(payload: &[u8]) -> bool {
    let name = amf0::decode_one(payload).map(|(name, _)| name);
    name.is_ok_and(|name| matches!(name.as_str(), Some("|RtmpSampleAccess" | "onStatus")))
}

/// What a publisher wants with a data message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataAction {
    /// `@setDataFrame`: send to the viewers, now and to each that joins later.
    Keep,
    /// `@clearDataFrame`: forget what was kept under this name.
    Clear,
    /// Send to the viewers now.
    Send,
}

/// A data message of a publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataMessage {
    /// What to do.
    pub action: DataAction,
    /// The handler it is for, such as `onMetaData`; empty if `@clearDataFrame` names none.
    pub name: String,
    /// What viewers get, from the handler's name on: a slice of the publisher's payload. Empty
    /// for [`DataAction::Clear`].
    pub payload: Bytes,
}

impl DataMessage {
    /// Reads a data message; for type 15 see [`message::amf0_body`](super::message::amf0_body).
    /// Only names are read: the values may be anything.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn parse(payload: &Bytes) -> Result<Self, CommandError> {
        let (name, used) = leading_name(payload)?;
        let rest = payload.slice(used.min(payload.len())..);
        Ok(match name.as_str() {
            "@setDataFrame" => {
                Self { action: DataAction::Keep, name: leading_name(&rest)?.0, payload: rest }
            }
            "@clearDataFrame" => Self {
                action: DataAction::Clear,
                name: leading_name(&rest).map(|(name, _)| name).unwrap_or_default(),
                payload: Bytes::new(),
            },
            _ => Self { action: DataAction::Send, name, payload: payload.clone() },
        })
    }

    /// Metadata, which viewers who join later need. Some encoders send it without
    /// `@setDataFrame`.
    pub fn is_metadata(&self) -> bool {
        self.action != DataAction::Clear && self.name == "onMetaData"
    }

    /// The values after the handler's name.
    ///
    /// # Errors
    /// [`CommandError::Amf`].
    pub fn values(&self) -> Result<Vec<Value>, CommandError> {
        let mut values = amf0::decode_all(&self.payload)?;
        if !values.is_empty() {
            values.remove(0);
        }
        Ok(values)
    }
}

fn leading_name(payload: &[u8]) -> Result<(String, usize), CommandError> {
    match amf0::decode_one(payload)? {
        (Value::String(name), used) => Ok((name, used)),
        _ => Err(CommandError::NoName),
    }
}

fn status_info(status: Status, description: &str, extra: Vec<(String, Value)>) -> Value {
    let Value::Object(mut properties) = Value::object([
        ("level", Value::from(status.level.as_str())),
        ("code", Value::from(status.code)),
        ("description", Value::from(description)),
    ]) else {
        return Value::Null;
    };
    properties.extend(extra);
    Value::Object(properties)
}

fn on_fc(name: &str, status: Status, description: &str) -> Vec<u8> {
    let info = status_info(status, description, Vec::new());
    encode(name, 0.0, &Value::Null, &[info])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn property<'a>(value: &'a Value, name: &str) -> &'a str {
        value.property(name).and_then(Value::as_str).unwrap()
    }

    #[test]
    fn words_to_players_are_told_from_data_of_the_stream() {
        assert!(is_said_to_players(&rtmp_sample_access(true, true)));
        assert!(is_said_to_players(&data_status(status::DATA_START)));
        for name in ["onMetaData", "onTextData", ""] {
            let mut payload = Vec::new();
            amf0::write_string(&mut payload, name);
            assert!(!is_said_to_players(&payload), "{name}");
        }
        assert!(!is_said_to_players(&[]));
    }

    #[test]
    fn commands_round_trip() {
        let publish =
            Command::new("publish", 5.0, vec![Value::from("localnews"), Value::from("live")]);
        let parsed = Command::parse(&publish.encode()).unwrap();
        assert_eq!(parsed, publish);
        assert_eq!(parsed.str_arg(0), Some("localnews"));
        assert_eq!(parsed.str_arg(2), None);
        assert_eq!(parsed.f64_arg(0), None);
    }

    #[test]
    fn commands_without_transaction_and_object_are_taken() {
        let mut payload = Vec::new();
        amf0::write_string(&mut payload, "ping");
        assert_eq!(Command::parse(&payload).unwrap(), Command::new("ping", 0.0, vec![]));
    }

    #[test]
    fn payloads_without_a_name_are_errors() {
        assert_eq!(Command::parse(&[]), Err(CommandError::NoName));
        assert_eq!(Command::parse(&[5]), Err(CommandError::NoName));
        assert_eq!(Command::parse(&[2, 0]), Err(CommandError::Amf(Amf0Error::Truncated)));
    }

    #[test]
    fn the_answer_to_connect() {
        let server =
            ServerTraits { fms_version: "FMS/3,0,1,123", capabilities: 31.0, object_encoding: 3.0 };
        let extra = vec![("clientid".to_owned(), Value::from("7"))];
        let answer = Command::parse(&connect_result(1.0, server, extra)).unwrap();
        assert_eq!(answer.name, "_result");
        assert_eq!(answer.transaction, 1.0);
        assert_eq!(property(&answer.object, "fmsVer"), "FMS/3,0,1,123");
        let info = &answer.args[0];
        assert_eq!(property(info, "code"), "NetConnection.Connect.Success");
        assert_eq!(property(info, "level"), "status");
        assert_eq!(info.property("objectEncoding"), Some(&Value::from(3.0)));
        assert_eq!(property(info, "clientid"), "7");
        assert_eq!(property(&answer.object, "clientid"), "7");
    }

    #[test]
    fn a_refused_connect() {
        let payload = connect_error(1.0, status::CONNECT_REJECTED, "Go away.", vec![]);
        let answer = Command::parse(&payload).unwrap();
        assert_eq!(answer.name, "_error");
        assert_eq!(property(&answer.args[0], "level"), "error");
        assert_eq!(property(&answer.args[0], "description"), "Go away.");
    }

    #[test]
    fn statuses() {
        let details = vec![("details".to_owned(), Value::from("news"))];
        let payload = on_status(status::PLAY_START, "Started playing news.", details);
        let command = Command::parse(&payload).unwrap();
        assert_eq!(command.name, "onStatus");
        assert_eq!(command.transaction, 0.0);
        assert_eq!(command.object, Value::Null);
        assert_eq!(property(&command.args[0], "code"), "NetStream.Play.Start");
        assert_eq!(property(&command.args[0], "details"), "news");
        for (payload, name, code) in [
            (on_fc_publish(""), "onFCPublish", "NetStream.Publish.Start"),
            (on_fc_unpublish(""), "onFCUnpublish", "NetStream.Unpublish.Success"),
            (on_fc_subscribe(""), "onFCSubscribe", "NetStream.Play.Start"),
        ] {
            let command = Command::parse(&payload).unwrap();
            assert_eq!(command.name, name);
            assert_eq!(property(&command.args[0], "code"), code);
        }
        assert_eq!(Command::parse(&on_bw_done()).unwrap().name, "onBWDone");
    }

    fn data(names: &[&str]) -> Bytes {
        let mut payload = Vec::new();
        for name in names {
            amf0::write_string(&mut payload, name);
        }
        Value::ecma_array([("width", Value::from(640.0))]).encode(&mut payload);
        payload.into()
    }

    #[test]
    fn set_data_frame_is_stripped_without_a_copy() {
        let payload = data(&["@setDataFrame", "onMetaData"]);
        let message = DataMessage::parse(&payload).unwrap();
        assert_eq!(message.action, DataAction::Keep);
        assert!(message.is_metadata());
        assert_eq!(message.payload, data(&["onMetaData"]));
        assert_eq!(message.payload.as_ptr(), payload[16..].as_ptr());
        let values = message.values().unwrap();
        assert_eq!(values[0].property("width"), Some(&Value::from(640.0)));
    }

    #[test]
    fn other_data_messages_pass_unchanged() {
        let payload = data(&["onCuePoint"]);
        let message = DataMessage::parse(&payload).unwrap();
        assert_eq!(message.action, DataAction::Send);
        assert!(!message.is_metadata());
        assert_eq!(message.payload, payload);
        assert!(DataMessage::parse(&data(&["onMetaData"])).unwrap().is_metadata());
    }

    #[test]
    fn clear_data_frame_names_what_to_forget() {
        let message = DataMessage::parse(&data(&["@clearDataFrame", "onMetaData"])).unwrap();
        assert_eq!(message.action, DataAction::Clear);
        assert_eq!(message.name, "onMetaData");
        assert!(!message.is_metadata());
        let bare = DataMessage::parse(&data(&["@clearDataFrame"])).unwrap();
        assert_eq!(bare.name, "");
    }

    #[test]
    fn data_messages_need_a_name() {
        assert!(DataMessage::parse(&Bytes::new()).is_err());
        assert!(DataMessage::parse(&Bytes::from_static(&[5])).is_err());
        let only_set = {
            let mut payload = Vec::new();
            amf0::write_string(&mut payload, "@setDataFrame");
            Bytes::from(payload)
        };
        assert!(DataMessage::parse(&only_set).is_err());
    }
}
