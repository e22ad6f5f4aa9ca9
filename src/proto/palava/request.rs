//! What a client asks of its room: one JSON object per text frame (contract signalling, 2.2).
//!
//! Only the form is checked here. What also depends on the room (membership, its size, the peer) is checked
//! by who knows the room, in the order of the contract's list (2.4).

use serde_json::{Map, Value};
use sha2::{Digest, Sha512};

use super::error::RoomError;

/// Longest room name, in characters.
const ROOM_CHARS_MAX: usize = 50;
/// What peers may send each other.
const PEER_EVENTS: [&str; 4] = ["offer", "answer", "ice_candidate", "message"];

/// A room's name as it is kept, logged and shared: 128 hexadecimal digits of SHA-512, so that names, which
/// admit whoever knows them, stand nowhere in clear.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomKey(Box<str>);

impl RoomKey {
    /// Of a room's name.
    pub fn of(room_id: &str) -> Self {
        let digest = Sha512::digest(room_id.as_bytes());
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A message that has the right form.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Which protocol the server speaks.
    Info,
    /// Is the server there?
    Ping,
    /// Into a room.
    JoinRoom {
        /// Its name: 1 to 50 characters.
        room_id: String,
        /// As sent; checked after the membership.
        status: Option<Value>,
        /// The `resume_token` of an earlier `joined_room`, to be known by the same id again.
        resume_token: Option<String>,
    },
    /// Out of the room.
    LeaveRoom,
    /// Tell the members something new of the sender.
    UpdateStatus {
        /// As sent; checked after the membership.
        status: Option<Value>,
    },
    /// Pass something on to one member.
    SendToPeer {
        /// The member's id; `None` when it was no text, which no peer has.
        peer_id: Option<String>,
        /// What is passed on.
        data: Map<String, Value>,
    },
}

/// Reads a text frame.
pub fn parse(text: &str) -> Result<Request, RoomError> {
    let message: Value = serde_json::from_str(text).map_err(|_| RoomError::InvalidMessage)?;
    let Value::Object(mut message) = message else { return Err(RoomError::NotAnObject) };
    let event = match message.remove("event") {
        None | Some(Value::Null) => return Err(RoomError::NoEvent),
        Some(Value::String(event)) => event,
        Some(_) => return Err(RoomError::UnknownEvent),
    };
    match event.as_str() {
        "info" => Ok(Request::Info),
        "ping" => Ok(Request::Ping),
        "leave_room" => Ok(Request::LeaveRoom),
        "join_room" => {
            let room_id = match message.remove("room_id") {
                Some(Value::String(room_id)) if !room_id.is_empty() => room_id,
                _ => return Err(RoomError::NoRoomId),
            };
            if room_id.chars().count() > ROOM_CHARS_MAX {
                return Err(RoomError::RoomIdTooLong);
            }
            let resume_token = match message.remove("resume_token") {
                Some(Value::String(token)) => Some(token),
                _ => None,
            };
            Ok(Request::JoinRoom { room_id, status: message.remove("status"), resume_token })
        }
        "update_status" => Ok(Request::UpdateStatus { status: message.remove("status") }),
        "send_to_peer" => {
            let Some(Value::Object(data)) = message.remove("data") else {
                return Err(RoomError::RawData);
            };
            let peer_id = match message.remove("peer_id") {
                Some(Value::String(peer_id)) => Some(peer_id),
                _ => None,
            };
            Ok(Request::SendToPeer { peer_id, data })
        }
        _ => Err(RoomError::UnknownEvent),
    }
}

/// The frame that the addressed peer gets: what was sent, with the true `sender_id`. `event not allowed`
/// comes after all checks of membership and peer, so it is checked here and not in [`parse`].
pub fn forwarded(mut data: Map<String, Value>, sender_id: &str) -> Result<String, RoomError> {
    match data.get("event") {
        Some(Value::String(event)) if PEER_EVENTS.contains(&event.as_str()) => {}
        _ => return Err(RoomError::EventNotAllowed),
    }
    data.insert("sender_id".to_owned(), Value::String(sender_id.to_owned()));
    Ok(Value::Object(data).to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_of_form_come_in_the_contracts_order() {
        let cases = [
            ("", RoomError::InvalidMessage),
            ("hello", RoomError::InvalidMessage),
            ("{\"event\":", RoomError::InvalidMessage),
            ("[]", RoomError::NotAnObject),
            ("7", RoomError::NotAnObject),
            ("null", RoomError::NotAnObject),
            ("\"info\"", RoomError::NotAnObject),
            ("{}", RoomError::NoEvent),
            (r#"{"event":null}"#, RoomError::NoEvent),
            (r#"{"event":""}"#, RoomError::UnknownEvent),
            (r#"{"event":1}"#, RoomError::UnknownEvent),
            (r#"{"event":["join_room"]}"#, RoomError::UnknownEvent),
            (r#"{"event":"announce_shutdown"}"#, RoomError::UnknownEvent),
            (r#"{"event":"join_room"}"#, RoomError::NoRoomId),
            (r#"{"event":"join_room","room_id":""}"#, RoomError::NoRoomId),
            (r#"{"event":"join_room","room_id":7}"#, RoomError::NoRoomId),
            (r#"{"event":"join_room","room_id":["a"]}"#, RoomError::NoRoomId),
            (r#"{"event":"send_to_peer","peer_id":"x"}"#, RoomError::RawData),
            (r#"{"event":"send_to_peer","peer_id":"x","data":"raw"}"#, RoomError::RawData),
            (r#"{"event":"send_to_peer","peer_id":"x","data":[]}"#, RoomError::RawData),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_room_name_is_counted_in_characters() {
        let join =
            |name: String| parse(&json!({"event": "join_room", "room_id": name}).to_string());
        assert!(join("ö".repeat(50)).is_ok());
        assert_eq!(join("ö".repeat(51)), Err(RoomError::RoomIdTooLong));
    }

    #[test]
    fn what_is_passed_on_names_its_true_sender() {
        let text = r#"{"event":"send_to_peer","peer_id":"p","data":{"event":"offer","sdp":{"type":"offer","sdp":"v=0"},"sender_id":"somebody else"}}"#;
        let Ok(Request::SendToPeer { peer_id, data }) = parse(text) else { panic!("not accepted") };
        assert_eq!(peer_id.as_deref(), Some("p"));
        let frame: Value = serde_json::from_str(&forwarded(data, "me").unwrap()).unwrap();
        assert_eq!(
            frame,
            json!({"event": "offer", "sdp": {"type": "offer", "sdp": "v=0"}, "sender_id": "me"})
        );
        for event in [json!("joined_room"), json!(1), Value::Null] {
            let data = Map::from_iter([("event".to_owned(), event)]);
            assert_eq!(forwarded(data, "me"), Err(RoomError::EventNotAllowed));
        }
        assert_eq!(forwarded(Map::new(), "me"), Err(RoomError::EventNotAllowed));
    }

    #[test]
    fn a_room_is_known_by_the_digest_of_its_name() {
        // printf %s abc | sha512sum
        assert_eq!(
            RoomKey::of("abc").as_str(),
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_request_or_an_error(text in ".{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn unknown_keys_change_nothing(key in "[a-z]{1,8}", value in any::<i64>()) {
            prop_assume!(!["event", "room", "status"].contains(&key.as_str()));
            let mut message = json!({"event": "leave_room"});
            message[key] = json!(value);
            prop_assert_eq!(parse(&message.to_string()), Ok(Request::LeaveRoom));
        }
    }
}
