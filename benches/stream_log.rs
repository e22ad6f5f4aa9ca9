//! A frame's way through a shard without the kernel: timeline, group of pictures, log, and the pass over
//! a log's viewers as `shard::flush` does it, with every send taken whole.
//!
//! `cargo bench --bench stream_log`. An operation is one message, or, for a pass, one viewer served:
//! what a viewer costs apart from its send. Nanoseconds are CPU time of the thread.

mod harness;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use harness::{Round, Suite, sample};
use shardcast::config::{AppSettings, Settings, Sources};
use shardcast::media::{
    Frame, FrameKind, Gop, Log, Moment, Preamble, SegmentPool, StreamId, Timeline, Track, Tracks,
    Wire,
};
use shardcast::proto::codec;
use shardcast::proto::name::StreamName;
use shardcast::shard::{ConnKey, LogState, Viewer, ViewerStream};

const RTMP: Wire = Wire::Rtmp { message_stream_id: 1, chunk_size: 60_000, tracks: Tracks::BOTH };
const GOP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The hold of the preset `balanced`: a pass serves what came in this time.
const HOLD_MS: u64 = 40;

fn main() {
    let mut suite = Suite::from_arguments();
    let gop = sample::gop(sample::BITRATE);
    let messages = Round { operations: gop.len(), bytes: 0 };
    let copied = Round { bytes: harness::payload_bytes(&gop), ..messages };
    suite.bench("timeline/media", messages, || timeline(&gop));
    suite.bench("gop/push", messages, || push(&gop));
    suite.bench("publication/classify_time_push", messages, || publication(&gop));
    suite.bench("log/append_rtmp", copied, || append(&gop, RTMP));
    suite.bench("log/append_flv", copied, || append(&gop, Wire::Flv));
    for viewers in [1, 100, 500] {
        let passes = gop.chunk_by(|a, b| a.dts_ms / HOLD_MS == b.dts_ms / HOLD_MS).count();
        let served = Round { operations: passes * viewers, bytes: 0 };
        let name = format!("pass/{viewers}_viewers");
        suite.bench(&name, served, || passes_over(&gop, viewers));
    }
}

/// The clock of a stream that goes on for ever.
fn timeline(gop: &[Frame]) -> impl FnMut() + use<> {
    let gop = gop.to_vec();
    let mut timeline = Timeline::new(None);
    let mut base_ms = 0;
    move || {
        for frame in &gop {
            let now = arrival(frame, base_ms);
            let timestamp_ms = (frame.dts_ms + base_ms) as u32;
            black_box(timeline.media(frame.track, 0, timestamp_ms, now));
        }
        base_ms += sample::GOP_MS;
    }
}

fn push(gop: &[Frame]) -> impl FnMut() + use<> {
    let frames = gop.to_vec();
    let preamble = preamble();
    let mut gop = Gop::new(GOP_BYTES_MAX);
    let mut base_ms = 0;
    move || {
        for frame in &frames {
            black_box(gop.push(&later(frame, base_ms), &preamble));
        }
        base_ms += sample::GOP_MS;
    }
}

/// What the owner of a stream does with a message before it goes to the shards with viewers.
fn publication(gop: &[Frame]) -> impl FnMut() + use<> {
    let frames = gop.to_vec();
    let preamble = preamble();
    let mut timeline = Timeline::new(None);
    let mut gop = Gop::new(GOP_BYTES_MAX);
    let mut base_ms = 0;
    move || {
        for frame in &frames {
            let kind = if frame.kind == FrameKind::Audio {
                codec::audio(&frame.payload).map(|tag| tag.kind)
            } else {
                codec::video(&frame.payload).map(|tag| tag.kind)
            };
            black_box(kind.expect("the sample is well formed"));
            let arrival = arrival(frame, base_ms);
            let timestamp_ms = (frame.dts_ms + base_ms) as u32;
            let dts_ms = timeline.media(frame.track, 0, timestamp_ms, arrival);
            black_box(gop.push(&Frame { dts_ms, arrival, ..frame.clone() }, &preamble));
        }
        base_ms += sample::GOP_MS;
    }
}

/// Every frame into a log that keeps two groups of pictures.
fn append(gop: &[Frame], wire: Wire) -> impl FnMut() + use<> {
    let frames = gop.to_vec();
    let preamble = preamble();
    let mut pool = SegmentPool::default();
    let mut log = Log::new(wire, 0);
    let mut base_ms = 0;
    let mut number = 0;
    move || {
        for frame in &frames {
            let frame = later(frame, base_ms);
            if frame.kind == FrameKind::Keyframe {
                log.evict(log.end(), &mut pool);
                log.append_joinable(&frame, number, number, &preamble, &mut pool);
            } else {
                log.append(&frame, number, &mut pool);
            }
            number += 1;
        }
        base_ms += sample::GOP_MS;
    }
}

/// A stream with viewers: each frame into its log, and every 40 ms a pass over all viewers.
fn passes_over(gop: &[Frame], viewers: usize) -> impl FnMut() + use<> {
    let frames = gop.to_vec();
    let settings = settings();
    let name = StreamName::new("__defaultVhost__", "live", "", "cam").expect("a valid name");
    let mut stream = ViewerStream::new(StreamId(1), name, Arc::clone(&settings), 6, Moment::ZERO);
    let mut pool = SegmentPool::default();
    for viewer in 0..viewers {
        let connection = ConnKey { slot: viewer as u32, generation: 1 };
        let viewer = Viewer::new(connection, 1, Moment::ZERO);
        stream.attach(viewer, RTMP, true, Moment::ZERO, &mut pool);
    }
    let mut joined = Vec::new();
    for header in headers() {
        stream.push(&header, Moment::ZERO, &mut pool, &mut joined);
    }
    let mut worklist = Vec::new();
    let mut base_ms = 0;
    move || {
        let mut sent = 0;
        for batch in frames.chunk_by(|a, b| a.dts_ms / HOLD_MS == b.dts_ms / HOLD_MS) {
            for frame in batch {
                let frame = later(frame, base_ms);
                stream.push(&frame, frame.arrival, &mut pool, &mut joined);
            }
            joined.clear();
            let last = batch.last().map_or(Moment::ZERO, |frame| arrival(frame, base_ms));
            for state in &mut stream.logs {
                sent += pass(state, &settings, &mut pool, &mut worklist, last);
            }
        }
        assert!(sent >= viewers * harness::payload_bytes(&frames));
        base_ms += sample::GOP_MS;
    }
}

/// `shard::flush::Pass::run` with a kernel that takes everything, and without connections.
fn pass(
    state: &mut LogState,
    settings: &AppSettings,
    pool: &mut SegmentPool,
    worklist: &mut Vec<u32>,
    now: Moment,
) -> usize {
    let late = state.log.position_of(now - settings.viewer_max_lag);
    let limit = late.max(state.log.lost_limit(now - settings.log_reach));
    worklist.clear();
    for (index, viewer) in state.viewers.iter_mut().enumerate() {
        viewer.pass_bytes = 0;
        assert!(!viewer.cursor.is_before(limit), "every viewer keeps up");
        if viewer.next_try <= now && !viewer.cursor.is_caught_up(&state.log) {
            worklist.push(index as u32);
        }
    }
    let mut sent = 0;
    while !worklist.is_empty() {
        for &index in worklist.iter() {
            let viewer = &mut state.viewers[index as usize];
            let bytes = black_box(viewer.cursor.next(&state.log, usize::MAX)).len();
            viewer.pass_bytes += bytes;
            viewer.cursor.advance(bytes);
            black_box(viewer.cursor.at_boundary(&state.log));
            sent += bytes;
        }
        let (log, viewers) = (&state.log, &state.viewers);
        worklist.retain(|&index| !viewers[index as usize].cursor.is_caught_up(log));
    }
    let slowest = state.viewers.iter().filter_map(|viewer| viewer.cursor.needs()).min();
    state.log.evict(slowest.unwrap_or_else(|| state.log.end()), pool);
    sent
}

fn arrival(frame: &Frame, base_ms: u64) -> Moment {
    frame.arrival + Duration::from_millis(base_ms)
}

/// Decoder configurations, of plausible length.
fn headers() -> [Frame; 2] {
    [(Track::Video, 0x17, 46), (Track::Audio, 0xaf, 7)].map(|(track, first, len)| {
        let mut payload = vec![0; len];
        payload[0] = first;
        Frame {
            track,
            kind: FrameKind::Config,
            slot: 0,
            dts_ms: 0,
            arrival: Moment::ZERO,
            payload: payload.into(),
        }
    })
}

/// The same frame one or more groups of pictures later.
fn later(frame: &Frame, by_ms: u64) -> Frame {
    Frame {
        dts_ms: frame.dts_ms + by_ms,
        arrival: Moment::from_nanos(frame.arrival.as_nanos() + by_ms * 1_000_000),
        ..frame.clone()
    }
}

fn preamble() -> Arc<Preamble> {
    let mut preamble = Preamble::default();
    for header in headers() {
        preamble.apply(&header);
    }
    Arc::new(preamble)
}

fn settings() -> Arc<AppSettings> {
    let settings = Settings::load(&Sources::default()).expect("the defaults are valid");
    settings.app("__defaultVhost__", "live", "_definst_")
}
