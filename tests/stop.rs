//! How a server ends that is told to.

mod support;

use std::time::{Duration, Instant};

use support::publisher::{Publisher, Script};
use support::server::Server;
use support::viewer::Viewer;
use support::wait::SOON;

const STREAM: &str = "live/cam";
/// Far less than `server.drain` (10 s), more than the second that a client has to close its end.
const STOP_MAX: Duration = Duration::from_secs(3);

const SCRIPT: Script = Script {
    frame_interval: Duration::from_millis(40),
    gop_frames: 25,
    keyframe_bytes: 10_000,
    inter_bytes: 2_000,
    audio: true,
};

/// The drain is over when the last client has gone, whoever closed first.
#[test]
fn a_server_without_clients_does_not_wait_for_any() {
    for leave in [true, false] {
        let server = Server::start(&[]);
        let publisher = Publisher::start(server.rtmp(), STREAM, SCRIPT);
        server.api().wait_for_frames(STREAM, 10, SOON);
        let viewers = [Viewer::rtmp(server.rtmp(), STREAM), Viewer::flv(server.http(), STREAM)];
        publisher.say_goodbye();
        // Those that leave do so just before the signal, those that stay are closed by the server.
        let staying = (!leave).then_some(viewers);
        let told = Instant::now();
        server.stop();
        let took = told.elapsed();
        println!("ended after {took:?}");
        assert!(took < STOP_MAX, "the server took {took:?} to end");
        drop(staying);
    }
}
