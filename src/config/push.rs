//! `[push]`: the push channel.

use std::time::Duration;

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

/// The push channel of one vhost, as the running server reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct PushSettings {
    /// Keys of sessions; none means no sessions.
    pub secrets: Vec<String>,
    /// Whether RTMP clients and HTTP viewers need a session; an app may say otherwise.
    pub required: bool,
    /// Whether clients may send.
    pub client_send: ClientSend,
    /// Longest message after decoding, in bytes.
    pub message_bytes_max: usize,
    /// Messages kept per channel and user; 0 is none.
    pub history_messages: usize,
    /// How long they are kept; `None` is as long as there is room.
    pub history_age: Option<Duration>,
}

impl PushSettings {
    /// Of a table whose values were validated.
    pub(super) fn of(push: &Push) -> Self {
        Self {
            secrets: push.secret.clone(),
            required: push.required,
            client_send: push.client_send,
            message_bytes_max: usize::try_from(push.max_message.0).unwrap_or(usize::MAX),
            history_messages: push.history.messages,
            history_age: push.history.age.limit(),
        }
    }

    /// Whether messages are kept.
    pub fn has_history(&self) -> bool {
        self.history_messages > 0
    }
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
