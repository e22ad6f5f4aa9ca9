//! A frame's way through a shard: timeline, group of pictures, log, and the shard's pass over a log's
//! viewers; and its way to other shards.
//!
//! `cargo bench --bench stream_log`. An operation is one message; for a pass one viewer served, for the way to other
//! shards one message to one of them.
//! Nanoseconds are CPU time of the thread: with a pass the kernel's part of the sends, and of the viewers' reads, is in
//! them. Instructions are the program's own.

mod harness;

use std::hint::black_box;
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use harness::{Round, Suite, sample};
use shardcast::config::{Settings, Sources};
use shardcast::media::{
    Frame, FrameKind, Gop, Log, Moment, Preamble, SegmentPool, StreamId, Timeline, Track, Tracks,
    Wire,
};
use shardcast::proto::codec;
use shardcast::proto::name::StreamName;
use shardcast::rt::egress::{Egress, EgressChoice};
use shardcast::rt::executor::spawn_pinned;
use shardcast::rt::mesh::Mesh;
use shardcast::rt::socket;
use shardcast::session::{ClientId, RtmpSession, Session};
use shardcast::shard::{
    Conn, ConnKey, ConnTable, DueLog, Envelope, Outbox, Pass, Scope, Seat, ShardLoad, Subscription,
    Viewer, ViewerStream,
};

const RTMP: Wire = Wire::Rtmp { message_stream_id: 1, chunk_size: 60_000, tracks: Tracks::BOTH };
const GOP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The hold of the preset `balanced`: a pass serves what came in this time.
const HOLD_MS: u64 = 40;
/// Room for what a pass sends to one viewer.
const SOCKET_BYTES: usize = 1 << 20;

fn main() {
    // A pass belongs on an executor.
    let run = spawn_pinned("bench", None, || async { bench() });
    run.expect("an executor can be started").join().expect("the benchmarks end");
}

fn bench() {
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
    for shards in [1, 7, 63] {
        let sent = Round { operations: gop.len() * shards, bytes: 0 };
        suite.bench(&format!("mesh/to_{shards}_shards"), sent, || hand_over(&gop, shards));
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

/// A stream with viewers: each frame into its log, and every 40 ms the shard's own pass over all viewers.
fn passes_over(gop: &[Frame], viewers: usize) -> impl FnMut() + use<> {
    let frames = gop.to_vec();
    let settings = Arc::new(Settings::load(&Sources::default()).expect("the defaults are valid"));
    let app = settings.app("__defaultVhost__", "live", "_definst_");
    let name = StreamName::new("__defaultVhost__", "live", "", "cam").expect("a valid name");
    let mut stream = ViewerStream::new(StreamId(1), name, Arc::clone(&app), 6, Moment::ZERO);
    let mut pool = SegmentPool::default();
    let mut conns = ConnTable::default();
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let mut clients = Vec::new();
    for _ in 0..viewers {
        let (viewer, client) = connect(&mut conns, &settings, &listener);
        clients.push(client);
        let viewer = Viewer::new(viewer, 1, Duration::from_secs(10), Moment::ZERO);
        stream.attach(viewer, RTMP, true, Moment::ZERO, &mut pool);
    }
    let mut joined = Vec::new();
    for header in headers() {
        stream.push(&header, Moment::ZERO, &mut pool, &mut joined);
    }
    let mut pass = Pass::new(Egress::new(EgressChoice::Send));
    let mut base_ms = 0;
    move || {
        let before = pass.counters;
        for batch in frames.chunk_by(|a, b| a.dts_ms / HOLD_MS == b.dts_ms / HOLD_MS) {
            for frame in batch {
                let frame = later(frame, base_ms);
                stream.push(&frame, frame.arrival, &mut pool, &mut joined);
            }
            joined.clear();
            let last = batch.last().map_or(Moment::ZERO, |frame| arrival(frame, base_ms));
            for state in &mut stream.logs {
                let due = &mut [DueLog::new(state, &app, Scope::All)];
                at_once(pass.run(due, &mut conns, &mut pool, last));
            }
            for client in &clients {
                while matches!(socket::discard(client, SOCKET_BYTES), Ok(1..)) {}
            }
        }
        let sent = pass.counters.send_bytes - before.send_bytes;
        assert!(sent >= (viewers * harness::payload_bytes(&frames)) as u64);
        assert_eq!((pass.counters.sends_refused, pass.counters.skips), (0, 0));
        base_ms += sample::GOP_MS;
    }
}

/// A stream with viewers on other shards: every 40 ms what came in goes to each of them, in one envelope, and is taken
/// there. How many viewers they have is nothing that the owner of the stream knows.
fn hand_over(gop: &[Frame], shards: usize) -> impl FnMut() + use<> {
    let frames = gop.to_vec();
    let ends = Mesh::new::<Box<Envelope>>(shards + 1, 8).expect("there are descriptors");
    let mut outbox = Outbox::new(shards + 1);
    let mut gaps = Vec::new();
    move || {
        let mut arrived = 0;
        for batch in frames.chunk_by(|a, b| a.dts_ms / HOLD_MS == b.dts_ms / HOLD_MS) {
            for frame in batch {
                for node in 1..=shards {
                    assert!(outbox.frame(node, StreamId(1), Subscription(1), None, frame));
                }
            }
            outbox.hand_over(&ends[0], &mut gaps);
            for end in &ends[1..] {
                let envelope = end.try_recv(0).expect("the lane has room");
                arrived += envelope.media[0].frames.len();
            }
        }
        assert_eq!((arrived, gaps.len()), (frames.len() * shards, 0));
    }
}

/// A viewer's connection, and its client's end.
fn connect(
    conns: &mut ConnTable,
    settings: &Arc<Settings>,
    listener: &TcpListener,
) -> (ConnKey, TcpStream) {
    let address = listener.local_addr().expect("it is bound");
    let client = TcpStream::connect(address).expect("the listener listens");
    client.set_nonblocking(true).expect("a socket can be non-blocking");
    let (server, peer) = listener.accept().expect("the client has connected");
    server.set_nonblocking(true).expect("a socket can be non-blocking");
    server.set_nodelay(true).expect("TCP_NODELAY can be set");
    socket::set_send_buffer(&server, SOCKET_BYTES).expect("the send buffer can be set");
    let id = ClientId::next();
    let session = RtmpSession::new(Arc::clone(settings), id, peer, 1, Moment::ZERO);
    let session = Session::Rtmp(Box::new(session));
    let seat = Seat::new(&Arc::<ShardLoad>::default(), &Arc::<AtomicUsize>::default(), None);
    let conn = Conn::new(server.into(), id, peer, session, seat, Moment::ZERO);
    (conns.insert(conn), client)
}

/// A pass that leaves no time to others: alone on its executor, nobody asks for it.
fn at_once<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("a pass waited"),
    }
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
