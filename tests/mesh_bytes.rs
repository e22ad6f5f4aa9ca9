//! Frames cross from shard to shard once per shard that has viewers, never once per viewer.

mod support;

use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use support::api::Snapshot;
use support::publisher::{Publisher, Script};
use support::server::Server;
use support::viewer::{Received, Viewer, wait_readable};
use support::wait::SOON;

const STREAM: &str = "live/cam";
const SHARDS: usize = 2;
/// How long each number of viewers is watched.
const WATCHED: Duration = Duration::from_secs(4);
/// What may differ, in parts of one.
const TOLERANCE: f64 = 0.02;

/// About 640 kbit/s; all frames of one size, so that bytes and frames say the same.
const EVEN: Script = Script {
    frame_interval: Duration::from_millis(40),
    gop_frames: 25,
    keyframe_bytes: 3_200,
    inter_bytes: 3_200,
    audio: false,
};

/// What happened while a number of viewers watched.
#[derive(Debug)]
struct Interval {
    viewers_per_shard: usize,
    frames: u64,
    payload_bytes: u64,
    mesh_bytes: u64,
    mesh_frames: u64,
    envelopes: u64,
    messages_seen: u64,
    /// The part of the bytes to viewers that each shard has sent.
    shares: Vec<f64>,
}

#[test]
fn the_mesh_carries_a_frame_once_whatever_the_number_of_viewers() {
    // Else the first viewers would all be on the publisher's shard.
    let server = Server::start(&[("server.gather_viewers", "0")]);
    let publisher = Publisher::start(server.rtmp(), STREAM, EVEN);
    server.api().wait_for_frames(STREAM, 10, SOON);
    let owner = server.api().snapshot().owner_shard(STREAM).expect("the stream is published");

    let mut viewers: Vec<Viewer> = Vec::new();
    let mut intervals = Vec::new();
    for viewers_per_shard in [1, 10, 100, 500] {
        while viewers.len() < viewers_per_shard * SHARDS {
            viewers.push(Viewer::rtmp(server.rtmp(), STREAM));
            read(&mut viewers, Duration::from_millis(2));
        }
        let each = viewers_per_shard as u64;
        let deadline = Instant::now() + SOON;
        while server.api().snapshot().viewers(STREAM) != [each; SHARDS] {
            assert!(Instant::now() < deadline, "every shard has {each} viewers");
            read(&mut viewers, Duration::from_millis(50));
        }
        let before = server.api().snapshot();
        let messages_seen = read(&mut viewers, WATCHED);
        let after = server.api().snapshot();
        let interval = Interval::between(&before, &after, owner, viewers_per_shard, messages_seen);
        interval.print();
        intervals.push(interval);
    }

    for interval in &intervals {
        let per_shard = interval.mesh_bytes as f64 / interval.payload_bytes as f64;
        assert!(
            (per_shard - 1.0).abs() <= TOLERANCE,
            "{per_shard} times over the mesh: {interval:?}"
        );
        // The viewers really were there: all of them got about every frame.
        let expected = interval.frames * (interval.viewers_per_shard * SHARDS) as u64;
        assert!(interval.messages_seen * 10 >= expected * 9, "viewers got little: {interval:?}");
        let rate = interval.mesh_bytes as f64 / interval.frames as f64;
        let first = intervals[0].mesh_bytes as f64 / intervals[0].frames as f64;
        assert!((rate / first - 1.0).abs() <= TOLERANCE, "bytes per frame grow: {interval:?}");
        let envelopes = interval.envelopes as f64 / interval.frames as f64;
        let first = intervals[0].envelopes as f64 / intervals[0].frames as f64;
        assert!(envelopes <= first * (1.0 + TOLERANCE) + 0.02, "envelopes grow: {interval:?}");
        assert!(interval.shares.iter().all(|share| (0.4..0.6).contains(share)), "{interval:?}");
    }
    publisher.say_goodbye();
    server.api().wait_until("what was sent has arrived, once", SOON, |snapshot| {
        let received: u64 = (0..SHARDS).map(|shard| snapshot.mesh(shard, "bytes_received")).sum();
        received == snapshot.mesh(owner, "bytes_sent")
    });
    drop(viewers);
    server.stop();
}

impl Interval {
    fn between(
        before: &Snapshot,
        after: &Snapshot,
        owner: usize,
        viewers_per_shard: usize,
        messages_seen: u64,
    ) -> Self {
        let sent = |key| after.mesh(owner, key) - before.mesh(owner, key);
        let to_viewers = after.sum("send_bytes") - before.sum("send_bytes");
        let share = |shard| {
            let of_shard = |snapshot: &Snapshot| snapshot.shard(shard, "send_bytes");
            (of_shard(after) - of_shard(before)) as f64 / to_viewers as f64
        };
        Self {
            viewers_per_shard,
            frames: after.frames_in(STREAM) - before.frames_in(STREAM),
            payload_bytes: after.bytes_in(STREAM) - before.bytes_in(STREAM),
            mesh_bytes: sent("bytes_sent"),
            mesh_frames: sent("frames_sent"),
            envelopes: sent("envelopes_sent"),
            messages_seen,
            shares: (0..SHARDS).map(share).collect(),
        }
    }

    fn print(&self) {
        println!(
            "{} viewers per shard: {} frames in, {} over the mesh; {} bytes in, {} sent; \
             {} envelopes; viewers got {} messages, each shard's share {:.2?}",
            self.viewers_per_shard,
            self.frames,
            self.mesh_frames,
            self.payload_bytes,
            self.mesh_bytes,
            self.envelopes,
            self.messages_seen,
            self.shares
        );
    }
}

/// Reads for as long as that; gives the number of video messages.
fn read(viewers: &mut [Viewer], time: Duration) -> u64 {
    let end = Instant::now() + time;
    let sockets: Vec<RawFd> = viewers.iter().map(AsRawFd::as_raw_fd).collect();
    let mut count = 0;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return count;
        }
        for index in wait_readable(&sockets, left) {
            let viewer = &mut viewers[index];
            viewer.pump();
            assert!(!viewer.is_closed(), "the server closed viewer {index}");
            while let Some(received) = viewer.take() {
                count += u64::from(matches!(received, Received::Message { type_id: 9, .. }));
            }
        }
    }
}
