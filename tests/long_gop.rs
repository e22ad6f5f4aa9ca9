//! Streams whose keyframes are further apart than a viewer may lag behind.

mod support;

use std::time::{Duration, Instant};

use support::publisher::{Publisher, Script};
use support::server::Server;
use support::stamp::{Stamp, is_config};
use support::viewer::{Received, Viewer};
use support::wait::SOON;

const STREAM: &str = "live/cam";

const TEN_SECOND_GOP: Script = Script {
    frame_interval: Duration::from_millis(40),
    gop_frames: 250,
    keyframe_bytes: 30_000,
    inter_bytes: 2_500,
    audio: false,
};

/// A viewer that has just come is not late, however old the keyframe is that it begins with.
#[test]
fn a_group_older_than_the_allowed_lag_can_be_joined() {
    let server = Server::start(&[("apps.default.viewer.max_lag", "1s")]);
    let publisher = Publisher::start(server.rtmp(), STREAM, TEN_SECOND_GOP);
    // Three seconds into the group.
    server.api().wait_for_frames(STREAM, 75, SOON);
    let viewers = [(|s: &Server| Viewer::rtmp(s.rtmp(), STREAM)) as fn(&Server) -> Viewer, |s| {
        Viewer::flv(s.http(), STREAM)
    }];
    for open in viewers {
        let begin = Instant::now();
        let mut viewer = open(&server);
        let mut next = 0;
        // From the keyframe to the live edge, without a hole.
        while next < 80 {
            let received = viewer.next(begin + SOON).expect("the server keeps the connection");
            let Received::Message { type_id: 9, payload, .. } = received else { continue };
            if !is_config(&payload) {
                assert_eq!(Stamp::read(&payload).number, next);
                next += 1;
            }
        }
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(2), "the viewer waited {took:?} to join");
    }
    publisher.say_goodbye();
    let snapshot = server.api().snapshot();
    assert_eq!(snapshot.sum("skips"), 0, "nobody was too slow");
    server.stop();
}
