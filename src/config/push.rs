//! `[push]`: the push channel.

use serde::Deserialize;

use super::value::{ByteSize, Time};

/// `[push]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Push {
    /// Keys of session tokens: the first signs, all verify; none means no sessions.
    pub secret: Vec<String>,
    /// Whether a connection needs a session.
    pub required: bool,
    /// Whether clients may send.
    pub client_send: ClientSend,
    /// Longest message after decoding.
    pub max_message: ByteSize,
    /// What is kept for clients that come back.
    pub history: History,
}

/// `push.client_send`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ClientSend {
    /// As the hook on_message answers.
    Hook,
    /// To channels that the client is a member of.
    Members,
    /// Not at all.
    Off,
}

/// `push.history`
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Messages per channel; 0 is none.
    pub messages: usize,
    /// Age; 0 is any.
    pub age: Time,
}

impl Default for Push {
    fn default() -> Self {
        Self {
            secret: Vec::new(),
            required: false,
            client_send: ClientSend::Off,
            max_message: ByteSize(256 << 10),
            history: History::default(),
        }
    }
}
