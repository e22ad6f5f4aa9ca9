//! The frames that the server says of itself (contract signalling, 2.3); what peers send each other is in
//! [`proto::palava`](crate::proto::palava).

use serde_json::{Value, json};

use super::store::{Joined, ResumeToken};
use super::turn::TurnCredentials;
use crate::proto::palava::{PeerId, Status};

/// The protocol that palava's clients ask for.
const PROTOCOL_VERSION: &str = "1.0.0";

pub(super) fn info() -> String {
    json!({ "event": "info", "protocol_version": PROTOCOL_VERSION }).to_string()
}

pub(super) fn pong() -> String {
    json!({ "event": "pong" }).to_string()
}

/// To who joined. Clients that do not know `resume_token` and `turn_*` ignore them.
pub(super) fn joined_room(
    joined: &Joined,
    token: &ResumeToken,
    turn: Option<&TurnCredentials>,
) -> String {
    let peers: Vec<Value> = joined
        .others
        .iter()
        .map(|member| json!({ "peer_id": member.peer.to_string(), "status": member.status }))
        .collect();
    let mut frame = json!({
        "event": "joined_room",
        "own_id": joined.own.to_string(),
        "peers": peers,
        "resume_token": token.0,
    });
    if let Some(turn) = turn {
        frame["turn_user"] = json!(turn.user);
        frame["turn_password"] = json!(turn.password);
    }
    frame.to_string()
}

/// Fresh credentials for who stays longer than the last ones are good for.
pub(super) fn turn_credentials(turn: &TurnCredentials) -> String {
    json!({
        "event": "turn_credentials",
        "turn_user": turn.user,
        "turn_password": turn.password,
    })
    .to_string()
}

/// To the members. Without a status at the join there is no `status` key.
pub(super) fn new_peer(peer: PeerId, status: Option<&Status>) -> String {
    let mut frame = json!({ "event": "new_peer", "peer_id": peer.to_string() });
    if let Some(status) = status {
        frame["status"] = json!(status);
    }
    frame.to_string()
}

/// To the others.
pub(super) fn peer_left(peer: PeerId) -> String {
    json!({ "event": "peer_left", "sender_id": peer.to_string() }).to_string()
}

/// To all members, the one whose status it is included.
pub(super) fn peer_updated_status(peer: PeerId, status: &Status) -> String {
    json!({
        "event": "peer_updated_status",
        "status": status,
        "sender_id": peer.to_string(),
    })
    .to_string()
}

/// To everybody: so long the server goes on.
pub(super) fn shutdown(seconds: u64) -> String {
    json!({ "event": "shutdown", "seconds": seconds }).to_string()
}
