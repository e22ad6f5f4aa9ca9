//! What media costs in system calls, counted by strace on the shard's thread: one send per due viewer, or
//! one submission per batch of them; and to sleep and to wake a few per turn, whatever the number of
//! publishers.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd, RawFd};
use std::process::Command;
use std::time::{Duration, Instant};

use support::api::Snapshot;
use support::process::Process;
use support::publisher::{Publisher, Script};
use support::server::Server;
use support::viewer::{Viewer, wait_readable, wait_until_watching};
use support::wait::SOON;

/// How long is counted. strace makes the server slower; the counts per turn stay.
const COUNTED: Duration = Duration::from_secs(3);
/// Sends of one submission to the ring (`rt::egress`).
const BATCH: u64 = 256;
/// A turn every 5 ms in `balanced`, the default; some may follow each other at once.
const TURNS_PER_S: f64 = 200.0;
const TURNS_AT_ONCE: f64 = 8.0;
/// strace begins a little earlier and ends a little later than the look at the server's own counts.
const EDGES: f64 = 1.1;

const SCRIPT: Script = Script {
    frame_interval: Duration::from_millis(40),
    gop_frames: 25,
    keyframe_bytes: 3_200,
    inter_bytes: 1_600,
    audio: true,
};

/// What happened while it was counted.
#[derive(Debug)]
struct Counted {
    calls: BTreeMap<String, u64>,
    /// Sends of each submission to the private ring, if they were looked at one by one.
    submissions: Vec<u64>,
    /// From before the first look at the server's own counts to after the second.
    elapsed: Duration,
    turns: u64,
    /// Turns that sent something.
    flushes: u64,
    passes: u64,
    sends: u64,
}

impl Counted {
    fn calls(&self, name: &str) -> u64 {
        self.calls.get(name).copied().unwrap_or(0)
    }
}

#[test]
fn a_pass_is_one_send_per_viewer_by_plain_sends() {
    let counted = watch("send", 1, 300);
    // What lies on both sides of the end of a segment goes with one call as well.
    let calls = counted.calls("sendto") + counted.calls("sendmsg");
    let sends = calls as f64 / counted.sends as f64;
    assert!((1.0..=EDGES).contains(&sends), "{sends} sends per due viewer: {counted:?}");
    assert!(counted.sends >= counted.passes * 250, "most viewers are due together: {counted:?}");
    assert_few_per_turn(&counted, 0);
}

#[test]
fn a_pass_is_one_submission_per_256_viewers_by_the_ring() {
    let counted = watch("ring", 1, 300);
    // What sessions say, such as acknowledgements, goes by plain sends.
    assert!(counted.calls("sendto") * 10 < counted.passes * 10 + 50, "{counted:?}");
    assert!(counted.submissions.contains(&BATCH), "a pass is more than one: {counted:?}");
    assert_few_submissions(&counted);
    assert_few_per_turn(&counted, counted.submissions.len() as u64);
}

#[test]
fn viewers_of_many_streams_share_the_submissions() {
    let counted = watch("ring", 60, 240);
    assert!(counted.passes > 4 * counted.turns, "many streams are due in a turn: {counted:?}");
    assert_few_submissions(&counted);
    assert_few_per_turn(&counted, counted.submissions.len() as u64);
}

#[test]
fn the_shard_wakes_by_turns_and_not_by_publishers() {
    let counted = watch("send", 60, 0);
    // 60 publishers send 4,080 messages a second; each is read, but does not wake the shard by itself.
    let allowed = TURNS_PER_S * counted.elapsed.as_secs_f64() + TURNS_AT_ONCE;
    assert!(counted.turns as f64 <= allowed, "{allowed} turns allowed: {counted:?}");
    assert_few_per_turn(&counted, 0);
}

/// Of a flush, one submission at most is not full: with so many viewers due, there are as many as there are
/// batches of 256 in them.
fn assert_few_submissions(counted: &Counted) {
    let sent: u64 = counted.submissions.iter().sum();
    let sends = sent as f64 / counted.sends as f64;
    assert!((1.0..=EDGES).contains(&sends), "{sends} of the sends were seen: {counted:?}");
    assert!(counted.submissions.iter().all(|sends| *sends <= BATCH), "{counted:?}");
    let not_full = counted.submissions.iter().filter(|sends| **sends < BATCH).count() as f64;
    let allowed = counted.flushes as f64 * EDGES + 2.0;
    assert!(not_full <= allowed, "{not_full} that are not full, {allowed} allowed: {counted:?}");
}

/// Besides `submissions`: to enter the runtime's ring, and to look at the readiness set.
fn assert_few_per_turn(counted: &Counted, submissions: u64) {
    let turns = (counted.turns as f64 * EDGES) as u64 + 10;
    let entered = counted.calls("io_uring_enter");
    let allowed = (submissions as f64 * EDGES) as u64 + 8 * turns;
    assert!(entered <= allowed, "{entered} entries, {allowed} allowed: {counted:?}");
    // Two sets, and what publishers sent during a long turn.
    assert!(counted.calls("epoll_wait") <= 3 * turns, "{counted:?}");
}

/// Counts the calls of a server's only shard; each stream has as many of the viewers.
fn watch(egress: &str, publishers: usize, viewers: usize) -> Counted {
    let server = Server::start(&[("server.shards", "1"), ("server.egress", egress)]);
    let streams: Vec<String> = (0..publishers).map(|number| format!("live/cam{number}")).collect();
    let publishing: Vec<Publisher> =
        streams.iter().map(|stream| Publisher::start(server.rtmp(), stream, SCRIPT)).collect();
    for stream in &streams {
        server.api().wait_for_frames(stream, 30, SOON);
    }
    let of_viewer = |number: usize| &streams[number % streams.len()];
    let mut viewers: Vec<Viewer> =
        (0..viewers).map(|number| Viewer::rtmp(server.rtmp(), of_viewer(number))).collect();
    let count = viewers.len() / streams.len();
    for stream in streams.iter().filter(|_| count > 0) {
        wait_until_watching(server.api(), stream, count as u64, &mut viewers);
    }
    let pid = server.process().id();
    // With the ring, each entry to one is of interest.
    let calls = if egress == "ring" { "-C" } else { "-c" };
    let thread = thread_named(pid, "shard-0").to_string();
    let mut strace = Process::spawn("strace", Command::new("strace").args([calls, "-p", &thread]));
    strace.wait_for_stderr("attached", SOON);
    let began = Instant::now();
    let before = server.api().snapshot();
    read(&mut viewers, COUNTED);
    let after = server.api().snapshot();
    let elapsed = began.elapsed();
    strace.signal(libc::SIGINT);
    strace.wait(SOON);
    let table = strace.stderr();
    drop((viewers, publishing));
    server.stop();
    let counted = Counted::of(&table, &before, &after, elapsed);
    println!("{counted:?}");
    counted
}

impl Counted {
    fn of(table: &str, before: &Snapshot, after: &Snapshot, elapsed: Duration) -> Self {
        let mut calls = BTreeMap::new();
        let mut entries: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for line in table.lines() {
            if let Some((ring, to_submit)) = entry(line) {
                entries.entry(ring).or_default().push(to_submit);
            }
            // % time, seconds, usecs/call, calls, errors if any, name
            let columns: Vec<&str> = line.split_whitespace().collect();
            if let [_, _, _, count, .., name] = columns[..]
                && let Ok(count) = count.parse()
                && name != "total"
            {
                calls.insert(name.to_owned(), count);
            }
        }
        assert!(calls.contains_key("io_uring_enter"), "strace counted nothing: {table}");
        let between = |key| after.sum(key) - before.sum(key);
        // The runtime's own rings are given a few entries at a time.
        let submissions = entries.into_values().max_by_key(|of_ring| of_ring.iter().max().copied());
        Self {
            calls,
            submissions: submissions.unwrap_or_default(),
            elapsed,
            turns: between("turns"),
            flushes: after.flushes() - before.flushes(),
            passes: between("passes"),
            sends: between("sends"),
        }
    }
}

/// The ring and the number of submitted operations of a line `io_uring_enter(9, 256, 256, …) = 256`.
fn entry(line: &str) -> Option<(&str, u64)> {
    let (ring, rest) = line.strip_prefix("io_uring_enter(")?.split_once(", ")?;
    Some((ring, rest.split(", ").next()?.parse().ok()?))
}

fn thread_named(pid: u32, name: &str) -> u32 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the server runs");
    let mut ids = threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_it = |id: &u32| {
        fs::read_to_string(format!("/proc/{pid}/task/{id}/comm")).is_ok_and(|it| it.trim() == name)
    };
    ids.find(is_it).unwrap_or_else(|| panic!("the server has no thread called {name}"))
}

/// Reads for as long as that.
fn read(viewers: &mut [Viewer], time: Duration) {
    let end = Instant::now() + time;
    let sockets: Vec<RawFd> = viewers.iter().map(AsRawFd::as_raw_fd).collect();
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|it| !it.is_zero()) {
        for index in wait_readable(&sockets, left) {
            viewers[index].pump();
            assert!(!viewers[index].is_closed(), "the server closed viewer {index}");
            while viewers[index].take().is_some() {}
        }
    }
}
