//! One loadgen process plays 5,000 times, and knows of every viewer whether it got everything.

mod support;

use support::loadgen::Loadgen;
use support::server::Server;

/// Small enough for two busy cores in a build with debug assertions: 56 kbit/s to each viewer, sent by
/// the server three times a second. Only bytes and order are judged, no times.
#[test]
fn five_thousand_viewers_of_one_process_lose_nothing() {
    let server = Server::start(&["apps.default.latency=throughput"]);
    let url = format!("rtmp://{}/live/many", server.rtmp);
    let run = Loadgen::run(&[
        "run",
        &url,
        "--http",
        &server.http,
        "--viewers-rtmp",
        "4000",
        "--viewers-flv",
        "1000",
        "--ramp",
        "1000/s",
        "--bitrate",
        "40k",
        "--fps",
        "10",
        "--audio-bitrate",
        "16k",
        "--duration",
        "5s",
        "--settle",
        "15s",
    ]);
    assert_eq!(run.exit_code, 0, "{}", run.output);
    assert_eq!(run.text("/verdict/loss"), "none");
    assert_eq!(run.number("/viewers/started"), 5_000.0);
    assert_eq!(run.number("/viewers/played"), 5_000.0);
    assert_eq!(run.number("/viewers/byte_check/equal"), 5_000.0);
    assert_eq!(run.number("/viewers/sampled"), 250.0);
    assert_eq!(run.number("/viewers/sample/lost"), 0.0);
    // Each of the sample read pictures and sound for the whole window.
    assert!(run.number("/viewers/sample/frames") > 250.0 * 5.0 * (10.0 + 40.0));
    assert!(run.number("/viewers/bytes") > 5_000.0 * 5.0 * 50_000.0 / 8.0);
}
