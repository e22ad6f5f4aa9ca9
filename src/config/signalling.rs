//! `[signalling]`: WebRTC rooms.

use serde::Deserialize;

use super::value::{Address, Time};

/// `[signalling]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Signalling {
    /// Path of the WebSocket on `http.listen`.
    pub path: String,
    /// Addresses where any path is the WebSocket.
    pub listen: Vec<Address>,
    /// `auto`, `memory` or `redis://…`
    pub store: String,
    /// Most members of a room; 0 is no limit.
    pub max_members: usize,
    /// Notice before sockets close at the end.
    pub shutdown: Time,
    /// How long a lost member may come back.
    pub resume: Time,
    /// Credentials of a TURN server.
    pub turn: Turn,
}

/// `signalling.turn`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Turn {
    /// The secret shared with the TURN server; empty is none.
    pub secret: String,
    /// How long credentials last.
    pub ttl: Time,
}

impl Default for Signalling {
    fn default() -> Self {
        Self {
            path: "/signal".to_owned(),
            listen: Vec::new(),
            store: "auto".to_owned(),
            max_members: 0,
            shutdown: Time::from_secs(3),
            resume: Time::from_secs(30),
            turn: Turn::default(),
        }
    }
}

impl Default for Turn {
    fn default() -> Self {
        Self { secret: String::new(), ttl: Time::from_secs(3 * 3600) }
    }
}
