//! Memory that a crowd took is given back when the crowd has gone: as many viewers as the machine's limits
//! allow come and go, again and again.

mod support;

use std::time::{Duration, Instant};

use support::loadgen::Loadgen;
use support::server::Server;

/// How long the server may take to notice that everybody has gone, and to give memory back.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most that a valley may be above the first one.
const GROWTH_MAX: f64 = 1.1;

fn come_and_go(viewers: u32, rounds: usize) {
    let server = Server::start(&["server.shards=1"]);
    let url = format!("rtmp://{}/live/crowd", server.rtmp);
    let (pid, half) = (server.pid(), (viewers / 2).to_string());
    let mut valleys = Vec::new();
    for round in 0..rounds {
        let run = Loadgen::run(&[
            "run",
            &url,
            "--http",
            &server.http,
            "--viewers-rtmp",
            &half,
            "--viewers-flv",
            &half,
            "--ramp",
            "2000/s",
            "--bitrate",
            "168k",
            "--duration",
            "1s",
            "--allow-skips",
            "--pid",
            &pid,
        ]);
        assert_eq!(run.exit_code, 0, "{}", run.output);
        assert_eq!(run.number("/viewers/played"), f64::from(viewers));
        let peak = run.number("/server/rss_max_bytes");
        let allowed = valleys.first().map_or(f64::MAX, |first| first * GROWTH_MAX);
        let begin = Instant::now();
        let mut valley = server.resident_bytes();
        // The first valley is looked for as long as the others may take.
        while begin.elapsed() < PATIENCE && (valley > allowed || round == 0) {
            std::thread::sleep(Duration::from_millis(200));
            valley = valley.min(server.resident_bytes());
            if round == 0 && begin.elapsed() > PATIENCE / 4 {
                break;
            }
        }
        let mib = f64::from(1 << 20);
        println!("round {round}: {:.1} MiB at most, {:.1} after", peak / mib, valley / mib);
        assert!(valley <= allowed, "{valley} bytes after round {round}; valleys: {valleys:?}");
        valleys.push(valley);
    }
}

#[test]
fn a_thousand_viewers_leave_nothing_behind() {
    come_and_go(1_000, 4);
}

/// `make soak` runs it.
#[test]
#[ignore = "it takes three minutes"]
fn ten_thousand_viewers_leave_nothing_behind() {
    come_and_go(10_000, 10);
}
