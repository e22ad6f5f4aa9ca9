//! What the API says of relays.

use serde_json::Value;

use super::http;
use super::server::Server;
use super::wait::{SOON, eventually};

/// `GET /api/v1/relays`
pub(crate) fn relays(server: &Server) -> Vec<Value> {
    let mut response = http::get(server.api().address(), "/api/v1/relays");
    assert_eq!(response.status, 200, "{}", response.status_line);
    let body: Value = serde_json::from_slice(&response.read_to_end()).expect("it is JSON");
    body["relays"].as_array().expect("relays is a list").clone()
}

/// Waits until the list of relays makes `condition` true.
pub(crate) fn wait_for_relays(server: &Server, what: &str, condition: impl Fn(&[Value]) -> bool) {
    eventually(what, 3 * SOON, || condition(&relays(server)).then_some(()));
}

/// Whether a relay is in this state.
pub(crate) fn is_state(relay: &Value, state: &str) -> bool {
    relay["state"] == state
}
