//! The push channel as applications see it: posts, tokens, presence.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use shardcast::proto::push_session::PushSession;

use super::http::{Response, send_raw};
use super::wait::eventually;

/// The secret of the tests' servers.
pub(crate) const SECRET: &str = "123";

/// A token for a user and channels.
pub(crate) fn token(user: i64, channels: &[i64]) -> String {
    let channels = channels.iter().map(|number| (*number).into()).collect();
    PushSession { user: user.into(), channels, expires_unix_s: None }.sign(SECRET)
}

/// Sends a request with a body to the API; `headers` are whole lines.
pub(crate) fn post_raw(api: SocketAddr, target: &str, headers: &[&str], body: &[u8]) -> Response {
    let mut text = format!(
        "POST {target} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    send_raw(api, &[text.as_bytes(), body].concat())
}

/// Posts plain text to `target` and gives the number of connections that it was sent to.
pub(crate) fn post(api: SocketAddr, target: &str, text: &str) -> usize {
    let mut response = post_raw(api, target, &["Content-Type: text/plain"], text.as_bytes());
    assert_eq!(response.read_to_end(), b"200 OK\n", "{}", response.status_line);
    assert_eq!(response.header("Content-Type"), Some("text/plain"));
    let reached = response.header("Push-Reached").expect("it says whom it reached");
    reached.parse().expect("a number")
}

/// The JSON of a resource of the API.
pub(crate) fn look(api: SocketAddr, target: &str) -> Value {
    let mut response = super::http::get(api, target);
    assert_eq!(response.status, 200, "{target}");
    serde_json::from_slice(&response.read_to_end()).expect("JSON")
}

/// Waits until a channel has so many connections.
pub(crate) fn wait_for_members(api: SocketAddr, channel: i64, count: u64, limit: Duration) {
    eventually(&format!("channel {channel} has {count} members"), limit, || {
        let found = look(api, &format!("/channels/{channel}"));
        (found["connections"] == count).then_some(())
    });
}
