//! What members of rooms send: a request or an error that can be told, names that are kept clean, and
//! nothing passed on under another's name.

use serde_json::Value;
use shardcast::proto::palava::{PeerId, Request, RoomError, RoomKey, Status, forwarded, parse};

/// A text frame.
pub fn run(data: &[u8]) {
    if data.is_empty() {
        RoomError::ALL.into_iter().for_each(told);
    }
    let text = String::from_utf8_lossy(data);
    if let Some(id) = PeerId::parse(&text) {
        assert_eq!(id.to_string(), text);
    }
    match parse(&text) {
        Ok(Request::JoinRoom { room_id, status: sent, .. }) => {
            assert!((1..=50).contains(&room_id.chars().count()));
            let key = RoomKey::of(&room_id);
            assert!(key.as_str().len() == 128 && key == RoomKey::of(&room_id));
            status(sent.as_ref());
        }
        Ok(Request::UpdateStatus { status: sent }) => status(sent.as_ref()),
        Ok(Request::SendToPeer { peer_id, data }) => {
            if let Some(id) = peer_id.as_deref().and_then(PeerId::parse) {
                assert_eq!(Some(id.to_string()), peer_id);
            }
            match forwarded(data, "me") {
                Ok(frame) => {
                    let frame: Value = serde_json::from_str(&frame).expect("JSON");
                    assert_eq!(frame["sender_id"], "me");
                    assert!(frame["event"].is_string());
                }
                Err(error) => told(error),
            }
        }
        Ok(Request::Info | Request::Ping | Request::LeaveRoom) => {}
        Err(error) => told(error),
    }
    let mut bits = [0; 16];
    bits.iter_mut().zip(data).for_each(|(bit, byte)| *bit = *byte);
    let id = PeerId::from_random(u128::from_be_bytes(bits));
    assert_eq!(PeerId::parse(&id.to_string()), Some(id));
}

/// A status is clean, and stays so.
fn status(sent: Option<&Value>) {
    match Status::clean(sent) {
        Ok(Some(status)) => {
            let said = serde_json::to_value(&status).expect("a status is JSON");
            assert_eq!(Status::clean(Some(&said)), Ok(Some(status.clone())));
            assert!(status.name.as_ref().is_none_or(|name| name.is_ascii() && name.len() <= 50));
            let mut merged = Status::default();
            assert!(merged.is_empty());
            merged.merge(&status);
            assert_eq!(merged, status);
        }
        Ok(None) => assert!(sent.is_none_or(Value::is_null)),
        Err(error) => told(error),
    }
}

fn told(error: RoomError) {
    assert!(RoomError::ALL.contains(&error));
    let frame: Value = serde_json::from_str(&error.frame()).expect("JSON");
    assert_eq!(frame["event"], "error");
}
