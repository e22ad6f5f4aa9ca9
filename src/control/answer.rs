//! Answers of the API.

use crate::proto::http;

/// A complete answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    kind: &'static str,
    body: String,
    headers: Vec<(&'static str, String)>,
}

impl Answer {
    /// Text as it stands.
    pub(super) fn plain(status: u16, body: impl Into<String>) -> Self {
        Self { status, kind: "text/plain", body: body.into(), headers: Vec::new() }
    }

    /// A sentence; a line end is added.
    pub(super) fn text(status: u16, text: impl Into<String>) -> Self {
        let body = format!("{}\n", text.into());
        Self { status, kind: "text/plain; charset=utf-8", body, headers: Vec::new() }
    }

    /// JSON; a line end is added.
    pub(super) fn json(status: u16, value: &serde_json::Value) -> Self {
        let body = format!("{value}\n");
        Self { status, kind: "application/json", body, headers: Vec::new() }
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
