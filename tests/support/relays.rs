//! What the API says of relays, and servers whose rules change.

use std::fs;

use serde_json::Value;

use super::http;
use super::process::Process;
use super::scratch::Scratch;
use super::server::{Server, command};
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

/// A server with a file, which can be told to read it again.
pub(crate) fn start_with_file(scratch: &Scratch, overrides: &[(&str, &str)]) -> Server {
    fs::write(scratch.file("server.toml"), "").expect("it can be written");
    let mut command = command(overrides);
    command.arg("--config").arg(scratch.file("server.toml"));
    Server::adopt(Process::spawn("shardcast", &mut command))
}

/// Lets a server of [`start_with_file`] read this file.
pub(crate) fn reload_with(server: &Server, scratch: &Scratch, text: &str) {
    let so_far = || server.process().stderr().matches("configuration read again").count();
    let before = so_far();
    fs::write(scratch.file("server.toml"), text).expect("it can be written");
    server.process().signal(libc::SIGHUP);
    eventually("the file is read again", SOON, || (so_far() > before).then_some(()));
}
