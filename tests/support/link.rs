//! Networks that are linked with the one of the test: each a machine of its own, as far as packets can tell.

use std::process::Command;
use std::sync::mpsc;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use serde_json::Value;

use super::namespace::with_own_network;
use super::process::Process;
use super::wait::SOON;

/// The end of the link in the other network.
const FAR: &str = "link0";

/// The address of the test's network on the link with this number.
pub(crate) fn near_address(number: u8) -> String {
    format!("10.77.{number}.1")
}

/// The address of the other network.
pub(crate) fn far_address(number: u8) -> String {
    format!("10.77.{number}.2")
}

/// Runs `work` in a network with a link to the one of the calling thread, which is in
/// [`with_own_network`]. The link is there when this returns.
pub(crate) fn spawn_linked<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    number: u8,
    work: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    let (own_id, id) = mpsc::channel();
    let (linked, is_linked) = mpsc::channel();
    let thread = scope.spawn(move || {
        with_own_network(move || {
            // SAFETY: a plain call.
            own_id.send(unsafe { libc::gettid() }).expect("the test waits");
            is_linked.recv_timeout(SOON).expect("the link is made");
            let near = near_address(number);
            ip(&["address", "add", &format!("{}/24", far_address(number)), "dev", FAR]);
            ip(&["link", "set", FAR, "up"]);
            ip(&["route", "add", "default", "via", &near]);
            work()
        })
    });
    let id = id.recv_timeout(SOON).expect("the thread has a network").to_string();
    let near = format!("near{number}");
    ip(&["link", "add", &near, "type", "veth", "peer", "name", FAR, "netns", &id]);
    ip(&["address", "add", &format!("{}/24", near_address(number)), "dev", &near]);
    ip(&["link", "set", &near, "up"]);
    linked.send(()).expect("the thread waits");
    thread
}

/// Bytes that have come into the calling thread's network over its link.
pub(crate) fn received_bytes() -> u64 {
    let text = ip(&["-s", "-j", "link", "show", "dev", FAR]);
    let links: Value = serde_json::from_str(&text).expect("ip prints JSON");
    links[0]["stats64"]["rx"]["bytes"].as_u64().expect("a count")
}

fn ip(arguments: &[&str]) -> String {
    Process::run("ip", Command::new("ip").args(arguments), Duration::from_secs(10))
}
