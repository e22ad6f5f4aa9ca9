//! Viewers that stop reading cost the others nothing and the server no memory beyond its logs.
//!
//! 200 of 500 viewers stop for 20 s; most of them read on then, the rest is closed by the server.

mod support;

use std::fmt::Write as _;
use std::time::Duration;

use support::noise::{Noise, go_first};
use support::publisher::{Publisher, Script};
use support::server::Server;
use support::viewer::Viewer;
use support::wait::SOON;
use support::watcher::{Phase, Watcher, read, read_until_all_begin, watch};

const STREAM: &str = "live/cam";
const VIEWERS: usize = 500;
/// Every fifth viewer plays over HTTP-FLV.
const FLV_EVERY: usize = 5;
const STALLED: usize = 200;
/// Of the stalled ones, those that never read again until the server closes them.
const NEVER_BACK: usize = 50;
const STALL: Duration = Duration::from_secs(20);
/// How long latency and memory are watched before.
const BEFORE: Duration = Duration::from_secs(8);
/// Small, so that a viewer that stops reading is soon noticed by the server.
const RECEIVE_BUFFER: usize = 16 * 1024;
const MIB: u64 = 1024 * 1024;
/// What the sentence allows.
const GROWTH_MAX: u64 = 2 * MIB;
/// How much the latency of the others may change.
const LATENCY_CHANGE_MAX: f64 = 0.2;

/// 600 kbit/s with a keyframe every two seconds: ten seconds of it, in two logs, are 1.5 MB.
const SCRIPT: Script = Script {
    frame_interval: Duration::from_millis(40),
    gop_frames: 50,
    keyframe_bytes: 15_000,
    inter_bytes: 2_760,
    audio: false,
};

/// The highest readings of one phase.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    resident: u64,
    log_bytes: u64,
    /// What the kernel holds for TCP, both ends of each connection.
    tcp: u64,
}

#[test]
fn stalled_viewers_harm_nobody() {
    go_first();
    // One shard: its two logs hold what those who stop have not got, up to viewer.max_lag, so that the
    // growth is at most logs × max_lag × bitrate whatever the number of viewers.
    let server = Server::start(&[("log.level", "warn"), ("server.shards", "1")]);
    let publisher = Publisher::start(server.rtmp(), STREAM, SCRIPT);
    server.api().wait_for_frames(STREAM, 10, SOON);
    let mut watchers = Vec::new();
    for number in 0..VIEWERS {
        let viewer = if number % FLV_EVERY == 0 {
            Viewer::flv_with_buffer(server.http(), STREAM, Some(RECEIVE_BUFFER))
        } else {
            Viewer::rtmp_with_buffer(server.rtmp(), STREAM, Some(RECEIVE_BUFFER))
        };
        watchers.push(Watcher::new(viewer));
        read(&mut watchers, Duration::from_millis(2));
    }
    read_until_all_begin(&mut watchers, SOON);

    // Spread over wires and ages.
    let is_stalled = |number: usize| number % 10 < 4;
    // The first two seconds after the rush do not count.
    read(&mut watchers, Duration::from_secs(2));
    let noise = Noise::listen();
    let (before, memory_before) = measure(&server, &mut watchers, BEFORE, &noise, is_stalled);
    let gaps_before: u64 = watchers.iter().map(|watcher| watcher.gaps).sum();
    assert_eq!(gaps_before, 0, "nobody skips while all read");

    for (number, watcher) in watchers.iter_mut().enumerate() {
        watcher.is_stalled = is_stalled(number);
    }
    assert_eq!(watchers.iter().filter(|watcher| watcher.is_stalled).count(), STALLED);
    let stalled_since = publisher.frames();
    let (during, memory_during) = measure(&server, &mut watchers, STALL, &noise, is_stalled);

    let mut never_back = 0;
    for watcher in watchers.iter_mut().filter(|watcher| watcher.is_stalled) {
        never_back += 1;
        watcher.is_stalled = never_back <= NEVER_BACK;
    }
    // Whoever takes nothing for viewer.stall_timeout (20 s) is closed, looked at once a second.
    let resumed_at = publisher.frames();
    read(&mut watchers, Duration::from_secs(4));
    for watcher in &mut watchers {
        watcher.is_stalled = false;
    }
    read(&mut watchers, Duration::from_secs(1));
    let live_edge = publisher.frames();
    let snapshot = server.api().snapshot();

    let mut report = String::new();
    let growth = memory_during.resident.saturating_sub(memory_before.resident);
    let log_growth = memory_during.log_bytes.saturating_sub(memory_before.log_bytes);
    let _ = writeln!(
        report,
        "resident: {} KiB before, {} KiB while stalled (grew by {} KiB); of this logs: {} KiB before, \
         {} KiB while stalled (grew by {} KiB), {} logs",
        memory_before.resident / 1024,
        memory_during.resident / 1024,
        growth / 1024,
        memory_before.log_bytes / 1024,
        memory_during.log_bytes / 1024,
        log_growth / 1024,
        snapshot.logs(STREAM),
    );
    let tcp_growth = memory_during.tcp.saturating_sub(memory_before.tcp);
    let _ = writeln!(
        report,
        "the kernel, for TCP: {} KiB more, {} KiB for each that is stalled",
        tcp_growth / 1024,
        tcp_growth / 1024 / STALLED as u64,
    );
    let _ = writeln!(report, "latency before: {before}; while 200 are stalled: {during}");

    let (mut closed, mut resumed, mut gaps) = (0, 0, 0);
    for (number, watcher) in watchers.iter().enumerate() {
        gaps += watcher.gaps;
        let (last, _) = watcher.last.expect("everybody saw frames");
        if watcher.viewer.is_closed() {
            assert!(is_stalled(number), "a viewer that reads is kept");
            closed += 1;
        } else if is_stalled(number) {
            assert!(watcher.gaps > 0, "viewer {number} missed 20 s and was not moved forward");
            resumed += 1;
        } else {
            assert_eq!(watcher.gaps, 0, "viewer {number} reads and misses nothing");
        }
        let is_live = last.number + 50 >= live_edge;
        assert!(
            watcher.viewer.is_closed() || is_live,
            "viewer {number} is at {last:?} of {live_edge}"
        );
    }
    let (skips, stalled) = (snapshot.sum("skips"), snapshot.sum("stalled"));
    let _ = writeln!(
        report,
        "frames {stalled_since} to {resumed_at} while stalled; {resumed} resumed at a keyframe, {closed} \
         were closed; {gaps} gaps seen; counted: {skips} skips ({} waiting), {stalled} stalled, \
         {} closed as stalled, {} sends refused",
        snapshot.sum("skips_waiting"),
        snapshot.closed("stalled"),
        snapshot.sum("sends_refused"),
    );
    print!("{report}");

    assert_eq!(closed, NEVER_BACK, "the server closes those that take nothing for 20 s");
    assert_eq!(resumed, STALLED - NEVER_BACK);
    assert_eq!(stalled, closed as u64, "each close is counted");
    assert_eq!(snapshot.closed("stalled"), stalled, "each close is named");
    assert!(skips >= gaps.max(STALLED as u64), "each skip is counted");
    assert!(growth < GROWTH_MAX + log_growth, "memory grows by {growth} bytes");
    assert!(growth < GROWTH_MAX, "memory grows by {growth} bytes");
    for percent in [50, 99] {
        let was = before.percentile(percent);
        let is = during.percentile(percent);
        assert!(
            is <= was.mul_f64(1.0 + LATENCY_CHANGE_MAX) + during.held_up,
            "p{percent} of the others went from {was:?} to {is:?}"
        );
    }
    drop(watchers);
    publisher.say_goodbye();
    server.stop();
}

/// Of the whole machine: `TCP: inuse 5 orphan 0 tw 9 alloc 8 mem 3`, in pages.
fn tcp_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/net/sockstat").expect("Linux has it");
    let line = text.lines().find_map(|line| line.strip_prefix("TCP: ")).expect("a line of TCP");
    let pages = line.split(' ').skip_while(|word| *word != "mem").nth(1).expect("a number");
    pages.parse::<u64>().expect("a number") * 4096
}

/// Reads for as long as that and takes the server's measure meanwhile.
fn measure(
    server: &Server,
    watchers: &mut [Watcher],
    time: Duration,
    noise: &Noise,
    is_stalled: impl Fn(usize) -> bool,
) -> (Phase, Memory) {
    let mut memory = Memory::default();
    let phase = watch(
        watchers,
        time,
        noise,
        |number| !is_stalled(number),
        || {
            let snapshot = server.api().snapshot();
            memory.log_bytes = memory.log_bytes.max(snapshot.sum("log_bytes"));
            memory.resident = memory.resident.max(server.process().resident_bytes());
            memory.tcp = memory.tcp.max(tcp_bytes());
        },
    );
    (phase, memory)
}
