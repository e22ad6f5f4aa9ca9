//! The viewers of a small stream are on the shard of its publisher, wherever they were accepted; those of
//! a large one are on all shards. Hooks and the API see nothing of the way.

mod support;

use std::time::Duration;

use support::hook_server::{HookServer, Reply};
use support::http;
use support::publisher::{Publisher, Script};
use support::server::Server;
use support::viewer::{Viewer, wait_until_watching};
use support::wait::{SOON, eventually};

const STREAMS: [&str; 3] = ["live/a", "live/b", "live/c"];
const VIEWERS: usize = 4;
const SCRIPT: Script = Script {
    frame_interval: Duration::from_millis(40),
    gop_frames: 25,
    keyframe_bytes: 10_000,
    inter_bytes: 2_000,
    audio: true,
};

/// One over RTMP and one over HTTP-FLV in turns; round robin puts them on all shards.
fn viewer(server: &Server, stream: &str, number: usize) -> Viewer {
    if number.is_multiple_of(2) {
        Viewer::rtmp(server.rtmp(), stream)
    } else {
        Viewer::flv(server.http(), stream)
    }
}

#[test]
fn viewers_of_small_streams_are_where_their_streams_are() {
    let hooks = HookServer::start(|_| Reply::zero());
    let url = hooks.url("/hook");
    let server = Server::start(&[
        ("hooks.dialect", "srs"),
        ("hooks.on_play", &url),
        ("hooks.on_stop", &url),
        ("http.flv_missing", "wait"),
    ]);
    let publishers = STREAMS.map(|stream| Publisher::start(server.rtmp(), stream, SCRIPT));
    let mut owners = Vec::new();
    for stream in STREAMS {
        let snapshot = server.api().wait_for_frames(stream, 10, SOON);
        owners.push(snapshot.owner_shard(stream).expect("it is published"));
    }
    assert!(owners.contains(&0) && owners.contains(&1), "each shard has a stream: {owners:?}");
    let mut all = Vec::new();
    for (stream, owner) in STREAMS.into_iter().zip(owners) {
        let mut viewers = Vec::new();
        for number in 0..VIEWERS {
            // Another connection in between, so that both protocols come to both shards.
            if number == 2 {
                drop(http::connect(server.http()));
            }
            viewers.push(viewer(&server, stream, number));
            wait_until_watching(server.api(), stream, viewers.len() as u64, &mut viewers);
        }
        eventually("everybody is shown something", SOON, || {
            viewers.iter_mut().for_each(Viewer::pump);
            viewers.iter().all(Viewer::has_media).then_some(())
        });
        let mut expected = [0; 2];
        expected[owner] = VIEWERS as u64;
        assert_eq!(server.api().snapshot().viewers(stream), expected, "{stream}");
        all.extend(viewers);
    }
    let handovers = server.api().snapshot().sum("handovers");
    assert!((4..=8).contains(&handovers), "half of twelve came from the other shard: {handovers}");

    // One that has come from elsewhere is one like any other: it is cut off, and its end is told once.
    let answer = http::get(server.api().address(), "/api/v1/clients?count=100").read_to_end();
    let clients: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
    let clients = clients["clients"].as_array().expect("a list");
    let plays = clients.iter().filter(|client| client["publish"] == false);
    let ids: Vec<&str> = plays.filter_map(|client| client["id"].as_str()).collect();
    assert_eq!(ids.len(), STREAMS.len() * VIEWERS);
    for id in &ids {
        let target = format!("/api/v1/clients/{id}");
        let answer = http::request(server.api().address(), "DELETE", &target, &[]);
        assert_eq!(answer.status, 200);
    }
    eventually("everybody is cut off", SOON, || {
        all.iter_mut().for_each(Viewer::pump);
        all.iter().all(Viewer::is_closed).then_some(())
    });
    let calls = eventually("all ends are told", SOON, || {
        let mut calls: Vec<(String, String)> = hooks
            .requests()
            .iter()
            .map(|request| {
                (request.call(), request.json()["client_id"].as_str().expect("text").to_owned())
            })
            .collect();
        calls.sort();
        (calls.len() >= 2 * ids.len()).then_some(calls)
    });
    let mut expected: Vec<(String, String)> = ["on_play", "on_stop"]
        .into_iter()
        .flat_map(|call| ids.iter().map(move |id| (call.to_owned(), (*id).to_owned())))
        .collect();
    expected.sort();
    assert_eq!(calls, expected, "each play begins and ends once");
    for publisher in publishers {
        publisher.say_goodbye();
    }
    server.api().wait_until("nobody is left", SOON, |snapshot| {
        snapshot.connections().iter().sum::<u64>() == 0
    });
    server.stop();
}

#[test]
fn viewers_of_a_large_stream_are_on_all_shards() {
    let server = Server::start(&[("server.gather_viewers", "3")]);
    let publisher = Publisher::start(server.rtmp(), STREAMS[0], SCRIPT);
    let snapshot = server.api().wait_for_frames(STREAMS[0], 10, SOON);
    let owner = snapshot.owner_shard(STREAMS[0]).expect("it is published");
    let mut viewers = Vec::new();
    for number in 0..8 {
        viewers.push(viewer(&server, STREAMS[0], number));
        wait_until_watching(server.api(), STREAMS[0], viewers.len() as u64, &mut viewers);
        let counts = server.api().snapshot().viewers(STREAMS[0]);
        if number < 3 {
            assert_eq!(counts[1 - owner], 0, "{counts:?}");
        }
    }
    let counts = server.api().snapshot().viewers(STREAMS[0]);
    assert!(counts[1 - owner] >= 2, "later ones stay where they are: {counts:?}");
    eventually("everybody is shown something", SOON, || {
        viewers.iter_mut().for_each(Viewer::pump);
        viewers.iter().all(Viewer::has_media).then_some(())
    });
    publisher.say_goodbye();
    drop(viewers);
    server.stop();
}
