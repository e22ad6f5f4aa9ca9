//! What goes wrong in a room, and how the client is told: `{"event":"error","id","message","description"}`.
//!
//! `message` is palava-machine's text, word for word (contract signalling, 2.4); `id` is stable and meant for
//! programs; `description` is what the real client shows, a sentence that says what to do.

use serde_json::json;

/// An answer to a message that cannot be carried out. The connection stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoomError {
    /// The text is not JSON.
    InvalidMessage,
    /// The JSON is not an object.
    NotAnObject,
    /// No `event`, or `null`.
    NoEvent,
    /// An `event` that nobody knows, or one that is no string.
    UnknownEvent,
    /// `join_room` without a room, or with one that is no string.
    NoRoomId,
    /// A room name of more than 50 characters.
    RoomIdTooLong,
    /// `join_room` while in a room, also for the same one.
    AlreadyJoined,
    /// The room has `signalling.max_members` members.
    RoomFull,
    /// A status that is no object, or whose values are no strings.
    InvalidStatus,
    /// A name that is empty or only white space.
    BlankName,
    /// A name of more than 50 characters.
    NameTooLong,
    /// A user agent that is not one of the known ones.
    UnknownUserAgent,
    /// An action that needs a room.
    NotInRoom,
    /// `send_to_peer` without an object as `data`.
    RawData,
    /// A peer that is not in the sender's room.
    UnknownPeer,
    /// `data.event` is not one of those that peers may send each other.
    EventNotAllowed,
    /// More messages than the rate allows.
    TooManyMessages,
    /// The shared store of the rooms does not answer.
    StoreUnavailable,
}

impl RoomError {
    /// Every error: for documentation and tests.
    pub const ALL: [Self; 18] = [
        Self::InvalidMessage,
        Self::NotAnObject,
        Self::NoEvent,
        Self::UnknownEvent,
        Self::NoRoomId,
        Self::RoomIdTooLong,
        Self::AlreadyJoined,
        Self::RoomFull,
        Self::InvalidStatus,
        Self::BlankName,
        Self::NameTooLong,
        Self::UnknownUserAgent,
        Self::NotInRoom,
        Self::RawData,
        Self::UnknownPeer,
        Self::EventNotAllowed,
        Self::TooManyMessages,
        Self::StoreUnavailable,
    ];

    /// `(id, message, description)`
    fn texts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::InvalidMessage => {
                ("invalid_message", "invalid message", "The message is not JSON.")
            }
            Self::NotAnObject => (
                "not_an_object",
                "invalid message: not a hash",
                "A message has to be one JSON object.",
            ),
            Self::NoEvent => ("no_event", "no event given", "The message has no event."),
            Self::UnknownEvent => {
                ("unknown_event", "unknown event", "The server does not know this event.")
            }
            Self::NoRoomId => {
                ("no_room_id", "no room id given", "join_room needs a room_id: a text.")
            }
            Self::RoomIdTooLong => {
                ("room_id_too_long", "room id too long", "A room_id has at most 50 characters.")
            }
            Self::AlreadyJoined => (
                "already_joined",
                "already joined another room",
                "Leave the room you are in before you join one.",
            ),
            Self::RoomFull => {
                ("room_full", "room is full", "The room has as many members as it may have.")
            }
            Self::InvalidStatus => (
                "invalid_status",
                "invalid status",
                "A status is an object with the texts name and user_agent.",
            ),
            Self::BlankName => {
                ("blank_name", "blank name not allowed", "A name needs at least one letter.")
            }
            Self::NameTooLong => {
                ("name_too_long", "name too long", "A name has at most 50 characters.")
            }
            Self::UnknownUserAgent => (
                "unknown_user_agent",
                "unknown user agent",
                "A user_agent is firefox, chrome, safari or unknown.",
            ),
            Self::NotInRoom => ("not_in_room", "currently not in any room", "Join a room first."),
            Self::RawData => {
                ("raw_data", "cannot send raw data", "data has to be an object with an event.")
            }
            Self::UnknownPeer => {
                ("unknown_peer", "unknown peer", "No member of your room has this peer_id.")
            }
            Self::EventNotAllowed => (
                "event_not_allowed",
                "event not allowed",
                "Peers may send each other offer, answer, ice_candidate and message.",
            ),
            Self::TooManyMessages => (
                "too_many_messages",
                "too many messages",
                "Send less often: the message was dropped.",
            ),
            Self::StoreUnavailable => (
                "store_unavailable",
                "rooms are not available",
                "The store of the rooms does not answer; try again in a few seconds.",
            ),
        }
    }

    /// For programs; never changes.
    pub fn id(self) -> &'static str {
        self.texts().0
    }

    /// palava-machine's text.
    pub fn message(self) -> &'static str {
        self.texts().1
    }

    /// The frame for the client.
    pub fn frame(self) -> String {
        let (id, message, description) = self.texts();
        json!({ "event": "error", "id": id, "message": message, "description": description })
            .to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_error_has_an_id_of_its_own_and_reaches_old_and_new_clients() {
        let ids: HashSet<_> = RoomError::ALL.iter().map(|error| error.id()).collect();
        assert_eq!(ids.len(), RoomError::ALL.len());
        for error in RoomError::ALL {
            let frame: serde_json::Value = serde_json::from_str(&error.frame()).unwrap();
            assert_eq!(frame["event"], "error");
            assert_eq!(frame["id"], error.id());
            assert_eq!(frame["message"], error.message());
            assert!(frame["description"].as_str().unwrap().ends_with('.'));
        }
    }
}
