//! Resident memory per idle connection, per viewer, per publisher and per stream with a viewer.

mod support;

use std::time::Duration;

use shardcast::media::SEGMENT_BYTES;

use support::publisher::{Publisher, Script};
use support::rtmp_client::{Encoding, RtmpClient};
use support::server::Server;
use support::viewer::{Viewer, wait_until_watching};
use support::wait::SOON;

const KIB: u64 = 1024;
/// A publisher's group of pictures is what it sent since the last keyframe, which is no overhead.
const SCRIPT: Script = Script {
    frame_interval: Duration::from_millis(40),
    gop_frames: 25,
    keyframe_bytes: 3_200,
    inter_bytes: 1_600,
    audio: false,
};
const GOP_BYTES: u64 = 3_200 + 24 * 1_600;

/// Bytes that the process grew by, for each of `count`.
fn growth_each(server: &Server, count: u64, what: &str, grow: impl FnOnce()) -> u64 {
    let before = server.process().resident_bytes();
    grow();
    let each = server.process().resident_bytes().saturating_sub(before) / count;
    println!("{what}: {:.1} KiB each, of {count}", each as f64 / KIB as f64);
    each
}

#[test]
fn an_idle_connection_costs_eight_kibibytes() {
    let server = Server::start(&[("server.shards", "1")]);
    let connect = || RtmpClient::connected(server.rtmp(), Encoding::Amf0);
    // What the first ones bring about is there already.
    let mut idle: Vec<RtmpClient> = (0..200).map(|_| connect()).collect();
    let each = growth_each(&server, 2_000, "an idle connection", || {
        idle.extend((0..2_000).map(|_| connect()));
    });
    assert!(each <= 8 * KIB, "{each} bytes");
    drop(idle);
    server.stop();
}

#[test]
fn a_viewer_costs_eight_kibibytes() {
    let server = Server::start(&[("server.shards", "1")]);
    let stream = "live/cam";
    let publisher = Publisher::start(server.rtmp(), stream, SCRIPT);
    server.api().wait_for_frames(stream, 30, SOON);
    let mut viewers: Vec<Viewer> = (0..200).map(|_| Viewer::rtmp(server.rtmp(), stream)).collect();
    wait_until_watching(server.api(), stream, 200, &mut viewers);
    for (what, is_rtmp, most) in
        [("an RTMP viewer", true, 8 * KIB), ("an HTTP-FLV viewer", false, 8 * KIB)]
    {
        let each = growth_each(&server, 1_000, what, || {
            for _ in 0..1_000 {
                viewers.push(if is_rtmp {
                    Viewer::rtmp(server.rtmp(), stream)
                } else {
                    Viewer::flv(server.http(), stream)
                });
            }
            let count = viewers.len() as u64;
            wait_until_watching(server.api(), stream, count, &mut viewers);
        });
        assert!(each <= most, "{what}: {each} bytes");
    }
    drop((viewers, publisher));
    server.stop();
}

#[test]
fn a_publisher_costs_sixty_four_kibibytes_and_its_group_of_pictures() {
    let server = Server::start(&[("server.shards", "1")]);
    let start = |number: u64| {
        let stream = format!("live/cam{number}");
        (Publisher::start(server.rtmp(), &stream, SCRIPT), stream)
    };
    let mut publishers: Vec<(Publisher, String)> = (0..10).map(start).collect();
    let each = growth_each(&server, 100, "a publisher", || {
        publishers.extend((10..110).map(start));
        // Every one has had a whole group of pictures, and begun another.
        for (_, stream) in &publishers {
            server.api().wait_for_frames(stream, 30, SOON);
        }
    });
    assert!(each <= 64 * KIB + GOP_BYTES, "{each} bytes");
    drop(publishers);
    server.stop();
}

#[test]
fn a_stream_with_a_viewer_costs_its_group_of_pictures_once_more_in_segments() {
    let server = Server::start(&[("server.shards", "1")]);
    let start = |number: u64| {
        let stream = format!("live/cam{number}");
        let publisher = Publisher::start(server.rtmp(), &stream, SCRIPT);
        server.api().wait_for_frames(&stream, 1, SOON);
        let mut viewer = vec![Viewer::rtmp(server.rtmp(), &stream)];
        wait_until_watching(server.api(), &stream, 1, &mut viewer);
        (publisher, viewer, stream)
    };
    let mut streams: Vec<_> = (0..10).map(start).collect();
    let each = growth_each(&server, 60, "a stream with a viewer", || {
        for number in 10..70 {
            streams.push(start(number));
            streams.iter_mut().for_each(|(_, viewer, _)| viewer[0].pump());
        }
        while !streams.iter().all(|(_, _, stream)| server.api().snapshot().frames_in(stream) >= 60)
        {
            streams.iter_mut().for_each(|(_, viewer, _)| viewer[0].pump());
        }
    });
    // The log begins with the newest keyframe, or in the segment that it lies in.
    let log = GOP_BYTES.next_multiple_of(SEGMENT_BYTES as u64) + SEGMENT_BYTES as u64;
    assert!(each <= 64 * KIB + GOP_BYTES + 8 * KIB + log, "{each} bytes");
    drop(streams);
    server.stop();
}
