//! Rooms in Chromium: the real palava-client, unchanged, and the page of the demo. What counts is what
//! the browser has decoded and received.

mod support;

use std::fs;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use support::browser::{Browser, Page, Site, cached_path};
use support::http;
use support::palava::PATH;
use support::redis::Redis;
use support::server::Server;
use support::wait::{SOON, eventually};

/// The version that `scripts/test-deps` fetches.
const PALAVA: &str = "palava-client-2.2.1.js";
/// A member made of it.
const MEMBER: &str = include_str!("support/palava_room.js");
/// Cameras and microphones of the browser's own, and addresses instead of names for them.
const WITH_CAMERA: [&str; 3] = [
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
];
/// What a browser may need on a loaded machine for what takes a second or two on an idle one.
const MEET_LIMIT: Duration = Duration::from_secs(60);
/// One meeting at a time: encoders and decoders have enough to do with two cores.
static ALONE: Mutex<()> = Mutex::new(());

fn site() -> Site {
    let client = fs::read(cached_path(PALAVA)).expect("palava-client can be read");
    let page = "<!DOCTYPE html><title>Room</title><body><script src=\"palava.js\"></script>\
                <script src=\"member.js\"></script></body>";
    Site::start(vec![
        ("/", "text/html", page.into()),
        ("/palava.js", "text/javascript", client),
        ("/member.js", "text/javascript", MEMBER.into()),
    ])
}

fn members(server: &Server) -> u64 {
    let mut response = http::get(server.api().address(), "/api/v1/rooms");
    let found: Value = serde_json::from_slice(&response.read_to_end()).expect("JSON");
    found["members"].as_u64().expect("a count")
}

/// Two tabs meet: video, data channel, message, status, leave. Each connects to its own address.
fn meet(addresses: [SocketAddr; 2]) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let site = site();
    let mut browser = Browser::start_with(&WITH_CAMERA);
    let mut tabs: Vec<Page> = Vec::new();
    for (address, name) in addresses.iter().zip(["Ada", "Bob"]) {
        let mut tab = browser.open(&site.origin());
        tab.evaluate(&format!("start('ws://{address}{PATH}', 'meeting', '{name}')"));
        tab.wait_for("it has joined", MEET_LIMIT, "count('room_joined')");
        tabs.push(tab);
    }
    for tab in &mut tabs {
        tab.wait_for("the other is seen", MEET_LIMIT, "count('peer_stream_ready')");
        tab.wait_for("pictures are decoded", MEET_LIMIT, "decoded > 30");
        tab.wait_for("a data channel is open", MEET_LIMIT, "window.channel");
    }
    let [ada, bob] = &mut tabs[..] else { unreachable!() };
    ada.evaluate("void channel.send('over the channel')");
    bob.wait_for("it came", SOON, "seen.channel.includes('over the channel')");
    bob.evaluate("void others()[0].sendMessage('over the server')");
    ada.wait_for("it came", SOON, "seen.messages.includes('over the server')");
    ada.evaluate("void session.getRoom().getLocalPeer().updateStatus({ name: 'Grace' })");
    bob.wait_for("the name is told", SOON, "others()[0].status.name === 'Grace'");
    println!("decoded: {} {}", ada.evaluate("decoded"), bob.evaluate("decoded"));
    ada.evaluate("void session.getRoom().leave()");
    bob.wait_for("the leave is told", SOON, "count('peer_left')");
    for tab in &mut tabs {
        assert_eq!(tab.evaluate("seen.errors.length"), 0, "{}", tab.evaluate("seen.errors"));
    }
}

#[test]
fn palava_clients_meet() {
    let server = Server::start(&[]);
    meet([server.http(), server.http()]);
    eventually("both have left", SOON, || (members(&server) <= 1).then_some(()));
    server.stop();
}

#[test]
fn palava_clients_of_two_nodes_meet() {
    let redis = Redis::start();
    let url = redis.url();
    let store = [("signalling.store", url.as_str())];
    let (first, second) = (Server::start(&store), Server::start(&store));
    meet([first.http(), second.http()]);
}

#[test]
fn the_demo_page_meets_itself_and_palava() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::start(&[("demo.enabled", "true")]);
    let address = server.http();
    let site = site();
    let mut browser = Browser::start_with(&WITH_CAMERA);
    let page = |name: &str| format!("http://{address}/demo/room.html?room=meeting&name={name}");
    let mut first = browser.open(&page("Ada"));
    first.wait_for("it has joined", MEET_LIMIT, "room && room.token");
    let mut second = browser.open(&page("Bob"));
    second.wait_for("it has joined", MEET_LIMIT, "room && room.token");
    let playing = |count: usize| {
        format!(
            "[...document.querySelectorAll('video')].filter((it) => \
             it.getVideoPlaybackQuality().totalVideoFrames > 10).length === {count}"
        )
    };
    for tab in [&mut first, &mut second] {
        tab.wait_for("both are seen", MEET_LIMIT, &playing(2));
    }
    let mut third = browser.open(&site.origin());
    third.evaluate(&format!("start('ws://{address}{PATH}', 'meeting', 'Palava')"));
    third.wait_for("pictures are decoded", MEET_LIMIT, "decoded > 30");
    for tab in [&mut first, &mut second] {
        tab.wait_for("all three are seen", MEET_LIMIT, &playing(3));
    }
    first.evaluate("void room.send('hello')");
    second.wait_for("it came", SOON, "document.body.innerText.includes('Ada: hello')");
    third.evaluate("void session.getRoom().leave()");
    first.wait_for("the leave is seen", SOON, &playing(2));
    // Without its server for a moment each comes back under its id.
    let id = second.evaluate("room.id");
    second.evaluate("void room.socket.close()");
    second.wait_for(
        "it is back",
        MEET_LIMIT,
        "room.socket.readyState === 1 && room.peers.size === 1",
    );
    assert_eq!(second.evaluate("room.id"), id);
    for tab in [&mut first, &mut second] {
        tab.wait_for("both are seen again", MEET_LIMIT, &playing(2));
    }
}
