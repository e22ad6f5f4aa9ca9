//! How long a viewer that joins a running stream waits for its first keyframe.
//!
//! What other programs do to the machine meanwhile is measured beside and allowed for.

mod support;

use std::time::{Duration, Instant};

use support::noise::{Noise, go_first, keep_undisturbed};
use support::publisher::{Publisher, Script};
use support::server::Server;
use support::stamp::{Stamp, is_config};
use support::viewer::{Received, Viewer};
use support::wait::SOON;

const STREAM: &str = "live/cam";
const JOINS: u32 = 100;
const SHARDS: u32 = 2;
/// Joins are spread over this: two groups of pictures.
const SPREAD: Duration = Duration::from_secs(20);
/// The preset's hold of video (`balanced`, the default).
const HOLD: Duration = Duration::from_millis(40);
/// What a join may take on top of the hold.
const JOIN_MAX: Duration = Duration::from_millis(50);
/// A connection that lets Nagle's algorithm meet a delayed acknowledgement waits this long.
const NAGLE_PAUSE: Duration = Duration::from_millis(40);

/// About 560 kbit/s with a keyframe every ten seconds.
const TEN_SECOND_GOP: Script = Script {
    frame_interval: Duration::from_millis(40),
    gop_frames: 250,
    keyframe_bytes: 30_000,
    inter_bytes: 2_500,
    audio: true,
};

/// How one join went.
#[derive(Clone, Copy, Debug)]
struct Join {
    /// From the first packet of the connection to the last byte of the first keyframe.
    from_connect: Duration,
    /// The same from the play command, or from the HTTP request.
    from_play: Duration,
    /// How long other programs held a thread up meanwhile.
    held_up: Duration,
    /// How often the player had to wait for the server.
    flights: usize,
}

#[test]
fn a_hundred_joins_within_a_ten_second_gop() {
    go_first();
    let server = Server::start(&[]);
    let publisher = Publisher::start(server.rtmp(), STREAM, TEN_SECOND_GOP);
    server.api().wait_for_frames(STREAM, 10, SOON);
    let mut seed = 20_260_101;
    let mut moments: Vec<Duration> =
        (0..JOINS).map(|_| SPREAD.mul_f64(unit_random(&mut seed))).collect();
    moments.sort();

    let noise = Noise::listen();
    let start = Instant::now();
    let (mut rtmp, mut flv) = (Vec::new(), Vec::new());
    let mut residents: Vec<Viewer> = Vec::new();
    for (number, moment) in (0..).zip(moments) {
        // The moments of the joins are what is tested; nothing else is waited for here.
        std::thread::sleep((start + moment).saturating_duration_since(Instant::now()));
        // The first half comes to shards without viewers of the stream, the second half to such with.
        if number == JOINS / 2 {
            residents.extend((0..SHARDS).map(|_| Viewer::rtmp(server.rtmp(), STREAM)));
            residents.extend((0..SHARDS).map(|_| Viewer::flv(server.http(), STREAM)));
        }
        for resident in &mut residents {
            resident.pump();
        }
        // Connections are taken in turn, so that each wire is joined on each shard.
        if (number / SHARDS).is_multiple_of(2) {
            rtmp.push(join(&noise, || Viewer::rtmp(server.rtmp(), STREAM)));
        } else {
            flv.push(join(&noise, || Viewer::flv(server.http(), STREAM)));
        }
    }
    drop(residents);
    publisher.say_goodbye();

    for (wire, joins) in [("RTMP", &rtmp), ("HTTP-FLV", &flv)] {
        print_distribution(&format!("{wire}, from connect"), joins.iter().map(|j| j.from_connect));
        print_distribution(&format!("{wire}, from play"), joins.iter().map(|j| j.from_play));
    }
    let most_flights = rtmp.iter().map(|join| join.flights).max();
    println!("RTMP: at most {most_flights:?} flights after the handshake");
    assert!(rtmp.iter().all(|join| join.flights <= 3), "connect, createStream, play: {rtmp:?}");

    let mut counted: Vec<Join> = rtmp.iter().chain(&flv).copied().collect();
    let held_up = keep_undisturbed(&mut counted, |join| join.held_up);
    print_distribution("undisturbed, from connect", counted.iter().map(|j| j.from_connect));
    println!("in these, threads were held up by at most {held_up:?}");
    let times: Vec<Duration> = counted.iter().map(|join| join.from_connect).collect();
    let p99 = percentile(&times, 99);
    assert!(p99 <= JOIN_MAX + HOLD + held_up, "p99 of the joins is {p99:?}");
    for joins in [&rtmp, &flv] {
        let times: Vec<Duration> = joins.iter().map(|join| join.from_connect).collect();
        let p50 = percentile(&times, 50);
        assert!(p50 < NAGLE_PAUSE, "joins pause: {p50:?}");
    }
    server.stop();
}

/// Joins and waits for the first keyframe; the headers must have come before it.
fn join(noise: &Noise, open: impl FnOnce() -> Viewer) -> Join {
    noise.take_worst();
    let start = Instant::now();
    let mut viewer = open();
    let mut has_config = [false; 2];
    loop {
        let received = viewer.next(start + SOON).expect("the server keeps the connection");
        let Received::Message { type_id, payload, .. } = received else { continue };
        match (type_id, &payload[..]) {
            (8, [0xAF, 0, ..]) => has_config[0] = true,
            (9, payload) if is_config(payload) => has_config[1] = true,
            (9, payload) => {
                let stamp = Stamp::read(payload);
                assert!(stamp.is_keyframe, "begins with frame {}", stamp.number);
                assert_eq!(has_config, [true; 2], "the headers come first");
                let now = Instant::now();
                // The handshake's last part and connect go out together.
                let flights = viewer.flights();
                let play = viewer.play_sent().expect("play was sent");
                let held_up = noise.take_worst();
                return Join { from_connect: now - start, from_play: now - play, held_up, flights };
            }
            _ => {}
        }
    }
}

fn print_distribution(what: &str, times: impl Iterator<Item = Duration>) {
    let times: Vec<Duration> = times.collect();
    let [p50, p90, p99, max] = [50, 90, 99, 100].map(|percent| percentile(&times, percent));
    println!("{what}: {} joins, p50 {p50:?}, p90 {p90:?}, p99 {p99:?}, max {max:?}", times.len());
}

/// Nearest rank.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[(sorted.len() * percent).div_ceil(100) - 1]
}

/// From 0 to below 1, the same in every run.
fn unit_random(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 11) as f64 / (1_u64 << 53) as f64
}
