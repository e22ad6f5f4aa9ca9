//! Answers of the API.

use super::events::Listener;
use crate::proto::http;

/// A complete answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    kind: &'static str,
    body: String,
    headers: Vec<(&'static str, String)>,
    /// What follows in place of a body, until the connection ends.
    pub(super) feed: Option<Listener>,
}

impl Answer {
    /// Text as it stands.
    pub(super) fn plain(status: u16, body: impl Into<String>) -> Self {
        Self::of(status, "text/plain", body.into())
    }

    /// A sentence; a line end is added.
    pub(super) fn text(status: u16, text: impl Into<String>) -> Self {
        let body = format!("{}\n", text.into());
        Self::of(status, "text/plain; charset=utf-8", body)
    }

    /// JSON; a line end is added.
    pub(super) fn json(status: u16, value: &serde_json::Value) -> Self {
        let body = format!("{value}\n");
        Self::of(status, "application/json", body)
    }

    /// A feed of events without an end.
    pub(super) fn events(listener: Listener) -> Self {
        Self { feed: Some(listener), ..Self::of(200, "text/event-stream", String::new()) }
    }

    fn of(status: u16, kind: &'static str, body: String) -> Self {
        Self { status, kind, body, headers: Vec::new(), feed: None }
    }

    /// The same with one more header.
    pub(super) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// The same as another kind of text.
    pub(super) fn of_kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    /// What went wrong, in a sentence, as JSON.
    pub(super) fn error(status: u16, sentence: impl Into<String>) -> Self {
        Self::json(status, &serde_json::json!({ "error": sentence.into() }))
    }

    /// The bytes to send.
    pub(super) fn encode(&self, keep_alive: bool, is_head: bool) -> Vec<u8> {
        let length = self.body.len().to_string();
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let mut headers = vec![("Cache-Control", "no-store"), ("Connection", connection)];
        // 204 has no body, and so no length (RFC 9110, 8.6).
        if self.status != 204 {
            headers.push(("Content-Type", self.kind));
            headers.push(("Content-Length", length.as_str()));
        }
        if self.status == 401 {
            headers.push(("WWW-Authenticate", "Bearer"));
        }
        headers.extend(self.headers.iter().map(|(name, value)| (*name, value.as_str())));
        let mut out = Vec::with_capacity(256 + self.body.len());
        http::write_head(self.status, &headers, &mut out);
        if !is_head {
            out.extend_from_slice(self.body.as_bytes());
        }
        out
    }
}
