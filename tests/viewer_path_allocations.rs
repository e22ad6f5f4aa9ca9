//! A counting allocator over the real code: what a frame costs in allocations once a stream runs.
//!
//! Only what happens inside [`counted`] counts, and only on the thread that runs it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use shardcast::config::{Settings, Sources};
use shardcast::media::{
    Epoch, Frame, FrameKind, Moment, Preamble, SEGMENT_BYTES, SegmentPool, StreamId, Track, Tracks,
    Wire,
};
use shardcast::proto::name::StreamName;
use shardcast::proto::rtmp::chunk_reader::{ChunkReader, ReaderLimits};
use shardcast::proto::rtmp::chunk_writer::{MessageHeader, write_full};
use shardcast::rt::egress::{Backend, Egress, EgressChoice};
use shardcast::rt::executor::spawn_pinned;
use shardcast::rt::mesh::Mesh;
use shardcast::rt::probe;
use shardcast::rt::socket;
use shardcast::session::{ClientId, HttpSession, MediaMessage, RtmpSession, Session};
use shardcast::shard::{
    Attached, Claim, Conn, ConnKey, ConnTable, DueLog, Envelope, LogState, Outbox, Pass,
    Publication, Releases, Scope, Seat, ShardLoad, Subscription, Viewer, ViewerStream,
};

/// Frames before the count begins: several groups of pictures, more than a log's reach.
const WARM_UP: u64 = 600;
/// Frames that are counted.
const COUNTED: u64 = 1_000;
/// Between two frames, in the stream's (virtual) time.
const FRAME_INTERVAL: Duration = Duration::from_millis(40);
const GOP_FRAMES: u64 = 50;
/// The chunk size of RTMP in both directions.
const CHUNK_SIZE: u32 = 60_000;

static KEYFRAME: [u8; 25_000] = frame_bytes(0x17);
static INTER: [u8; 3_000] = frame_bytes(0x27);
static VIDEO_CONFIG: [u8; 12] = [0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1F, 0xFF, 0xE1, 0];

struct Counting;

thread_local! {
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed on as it is; the counters are plain cells without destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn count() {
    if IS_COUNTED.get() {
        COUNT.set(COUNT.get() + 1);
    }
}

/// Runs a future and counts its allocations; tasks that run while it waits do not count.
async fn counted<F: Future>(future: F) -> (F::Output, u64) {
    let mut future = pin!(future);
    let before = COUNT.get();
    let output = poll_fn(|context| {
        IS_COUNTED.set(true);
        let poll = future.as_mut().poll(context);
        IS_COUNTED.set(false);
        poll
    })
    .await;
    (output, COUNT.get() - before)
}

/// [`counted`] for plain code.
fn counted_now<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = COUNT.get();
    IS_COUNTED.set(true);
    let output = work();
    IS_COUNTED.set(false);
    (output, COUNT.get() - before)
}

/// What a run of the viewer path found.
#[derive(Debug)]
struct Found {
    backend: Backend,
    allocations: u64,
    sends: u64,
    sends_refused: u64,
    skips: u64,
    /// Segments that the logs took from the pool beyond those they had before the count.
    segments_added: u64,
    /// Bytes that each viewer received while it was counted, the fewest.
    fewest_bytes: u64,
}

#[test]
fn the_allocator_counts() {
    let (boxed, count) = counted_now(|| Box::new([0_u8; 100]));
    assert_eq!((boxed.len(), count), (100, 1));
    let ((), none) = counted_now(|| drop(boxed));
    assert_eq!(none, 0);
}

#[test]
fn a_frame_costs_no_allocation_whatever_the_number_of_viewers() {
    let frames_bytes = COUNTED / GOP_FRAMES * (KEYFRAME.len() + 49 * INTER.len()) as u64;
    for choice in [EgressChoice::Send, EgressChoice::Ring] {
        for viewers in [[1, 0, 0], [0, 1, 0], [0, 0, 1], [34, 33, 33]] {
            let found = on_executor(move || view(choice, viewers, 0));
            println!("viewers over RTMP, HTTP-FLV and WebSocket-FLV {viewers:?}: {found:?}");
            assert_eq!(found.allocations, 0, "{found:?}");
            assert_eq!(found.backend, expected(choice));
            // The viewers were really served, each with every frame, and nobody was refused.
            assert!(found.fewest_bytes > frames_bytes, "{found:?} of {frames_bytes}");
            assert_eq!((found.sends_refused, found.skips), (0, 0), "{found:?}");
            assert!(found.sends >= COUNTED * viewers.iter().sum::<usize>() as u64, "{found:?}");
        }
    }
}

#[test]
fn refused_sends_cost_no_allocation_but_the_logs_growth() {
    for choice in [EgressChoice::Send, EgressChoice::Ring] {
        let found = on_executor(move || view(choice, [34, 33, 33], 20));
        println!("20 of 100 viewers do not read: {found:?}");
        // Those who wait hold the log: it grows up to its reach, and each log's index doubles once.
        assert!(found.allocations <= found.segments_added + 3, "{found:?}");
        assert!(found.sends_refused > 100, "{found:?}");
        assert_eq!(found.skips, 0, "they are not late enough to be moved: {found:?}");
    }
}

#[test]
fn a_publishers_frame_costs_its_payload_and_a_turn_its_envelope() {
    for (subscribers, frames_per_turn) in [(0, 1), (1, 1), (1, 4), (3, 1)] {
        let publish = publish(subscribers, frames_per_turn);
        println!("{subscribers} subscribed shards, {frames_per_turn} frames per turn: {publish:?}");
        let turns = COUNTED / frames_per_turn;
        // Reading: the payload. Accepting: the reference count that its first clone makes.
        assert_eq!(publish.read, COUNTED, "{publish:?}");
        assert!(publish.accepted <= COUNTED + publish.listed, "{publish:?}");
        // Per turn and destination: the envelope, its list of batches, the batch's list of frames,
        // which grows when a second frame comes.
        let per_turn = if frames_per_turn == 1 { 3 } else { 4 };
        let per_destination = publish.listed + publish.handed_over;
        assert!(per_destination <= per_turn * turns * subscribers as u64, "{publish:?}");
        assert_eq!(publish.taken, 0, "the other shards only free");
    }
}

/// What a choice comes to on this machine.
fn expected(choice: EgressChoice) -> Backend {
    let report = probe::check(probe::Needs::default()).expect("the machine can run the server");
    if choice == EgressChoice::Ring && report.private_ring { Backend::Ring } else { Backend::Send }
}

fn on_executor<F>(make: impl FnOnce() -> F + Send + 'static) -> F::Output
where
    F: Future + 'static,
    F::Output: Send + 'static,
{
    spawn_pinned("counted", None, make)
        .expect("an executor can be started")
        .join()
        .expect("the run ends well")
}

/// Serves a stream over loopback to so many viewers over RTMP, HTTP-FLV and WebSocket-FLV. `silent` of
/// them stop reading when the count begins, which then ends before they are late.
async fn view(choice: EgressChoice, viewers: [usize; 3], silent: usize) -> Found {
    let settings = settings();
    let app = settings.app("", "live", "");
    let mut pool = SegmentPool::default();
    let mut conns = ConnTable::default();
    let mut joined = Vec::new();
    let mut stream = ViewerStream::new(StreamId(1), name(), Arc::clone(&app), 6, Moment::ZERO);
    let mut preamble = Preamble::default();
    preamble.apply(&frame(FrameKind::Config, 0));
    stream.begin(&Arc::new(preamble), &frame(FrameKind::Keyframe, 0), &mut pool);
    stream.push(&frame(FrameKind::Keyframe, 0), at(0), &mut pool, &mut joined);

    let mut clients = Vec::new();
    let rtmp = |tracks| Wire::Rtmp { message_stream_id: 1, chunk_size: CHUNK_SIZE, tracks };
    // Some have switched the sound off.
    let no_sound = Tracks { audio: false, video: true };
    let wires = (0..viewers[0])
        .map(|number| rtmp(if number % 10 == 9 { no_sound } else { Tracks::BOTH }))
        .chain(std::iter::repeat_n(Wire::Flv, viewers[1]))
        .chain(std::iter::repeat_n(Wire::WsFlv, viewers[2]));
    for wire in wires {
        let is_rtmp = matches!(wire, Wire::Rtmp { .. });
        let (key, client) = connect(&mut conns, &settings, is_rtmp);
        let viewer = Viewer::new(key, u32::from(is_rtmp), Duration::from_secs(10), at(0));
        let attached = stream.attach(viewer, wire, true, at(0), &mut pool);
        assert_eq!(attached, Attached::Joined);
        clients.push(client);
    }

    let mut pass = Pass::new(Egress::new(choice));
    let mut received = vec![0_u64; clients.len()];
    let mut allocations = 0;
    let (mut before, mut segments_before) = (pass.counters, 0_u64);
    // Silent viewers may lag for ten seconds.
    let last = WARM_UP + if silent == 0 { COUNTED } else { 200 };
    for number in 1..=last {
        let is_counted = number > WARM_UP;
        if number == WARM_UP + 1 {
            received.fill(0);
            before = pass.counters;
            segments_before = segments(&stream);
        }
        let kind =
            if number.is_multiple_of(GOP_FRAMES) { FrameKind::Keyframe } else { FrameKind::Inter };
        let next = frame(kind, number);
        let ((), found) = counted(async {
            stream.push(&next, at(number), &mut pool, &mut joined);
            assert!(stream.next_due().is_some());
            for state in &mut stream.logs {
                let due = &mut [DueLog::new(state, &app, Scope::All)];
                pass.run(due, &mut conns, &mut pool, at(number)).await;
            }
        })
        .await;
        allocations += if is_counted { found } else { 0 };
        let is_silent =
            |client: usize| is_counted && client.is_multiple_of(5) && client / 5 < silent;
        for (index, client) in clients.iter_mut().enumerate() {
            if !is_silent(index) {
                received[index] += read_all(client);
            }
        }
    }
    assert!(pass.dead.is_empty(), "nobody is lost");
    Found {
        backend: pass.egress().backend(),
        allocations,
        sends: pass.counters.sends - before.sends,
        sends_refused: pass.counters.sends_refused - before.sends_refused,
        skips: pass.counters.skips,
        segments_added: segments(&stream).saturating_sub(segments_before),
        fewest_bytes: received.into_iter().min().expect("there are viewers"),
    }
}

/// Segments that the logs hold.
fn segments(stream: &ViewerStream) -> u64 {
    let held = |state: &LogState| state.log.held_bytes().div_ceil(SEGMENT_BYTES as u64);
    stream.logs.iter().map(held).sum()
}

/// Allocations on the publisher's shard.
#[derive(Debug, Default)]
struct Published {
    /// While messages were read from chunks.
    read: u64,
    /// While they became frames that were put into the boxes.
    accepted: u64,
    /// Of these, those of the boxes.
    listed: u64,
    /// While the boxes were handed over.
    handed_over: u64,
    /// While other shards took them out.
    taken: u64,
}

/// Publishes from chunks to the mesh.
fn publish(subscribers: usize, frames_per_turn: u64) -> Published {
    let settings = settings();
    let mut ends = Mesh::new::<Box<Envelope>>(subscribers + 1, 256).expect("a mesh");
    let others = ends.split_off(1);
    let mut outbox = Outbox::new(subscribers + 1);
    let claim = Claim::new(StreamId(1), Epoch(1), None, &Releases::default());
    let app = settings.app("", "live", "");
    let connection = ConnKey { slot: 0, generation: 0 };
    let mut publication = Publication::new(connection, 1, name(), app, claim, at(0));
    let mut reader = ChunkReader::new(ReaderLimits {
        message_bytes_max: 1 << 24,
        chunk_streams_max: 64,
        partial_bytes_max: 1 << 25,
    });
    let mut chunks = Vec::new();
    let header = |type_id, timestamp_ms, id| MessageHeader {
        chunk_stream_id: if type_id == 1 { 2 } else { 6 },
        message_stream_id: id,
        type_id,
        timestamp_ms,
    };
    let mut write = |header: &MessageHeader, payload: &[u8]| {
        chunks.clear();
        write_full(header, payload, 128, &mut |part| chunks.extend_from_slice(part));
        std::mem::take(&mut chunks)
    };
    let size = write(&header(1, 0, 0), &CHUNK_SIZE.to_be_bytes());
    assert!(reader.read(&size).expect("the chunk size is read").message.is_some());
    for other in 1..=subscribers {
        publication.subscribe(other, Subscription(other as u64), &mut outbox);
    }

    let mut found = Published::default();
    let mut gaps = Vec::new();
    let mut input = Vec::new();
    for number in 0..WARM_UP + COUNTED {
        let is_counted = number >= WARM_UP;
        let payload: &[u8] = match number {
            0 => &VIDEO_CONFIG,
            _ if number % GOP_FRAMES == 1 => &KEYFRAME,
            _ => &INTER,
        };
        let timestamp_ms = (number * 40) as u32;
        input.clear();
        write_full(&header(9, timestamp_ms, 1), payload, CHUNK_SIZE as usize, &mut |part| {
            input.extend_from_slice(part);
        });
        let (read, read_count) = counted_now(|| reader.read(&input));
        let message = read.expect("the chunks are right").message.expect("a whole message");
        let message = MediaMessage {
            message_stream_id: 1,
            track: Track::Video,
            is_metadata: false,
            timestamp_ms,
            payload: message.payload,
        };
        let (frame, accept_count) =
            counted_now(|| publication.accept(message, at(number), at(number), &mut outbox));
        assert!(frame.is_some());
        let ends_turn = number % frames_per_turn == frames_per_turn - 1;
        let mut hand_over_count = 0;
        if ends_turn {
            ((), hand_over_count) = counted_now(|| outbox.hand_over(&ends[0], &mut gaps));
            for other in &others {
                let (envelope, count) = counted_now(|| other.try_recv(0));
                let frames: usize =
                    envelope.iter().flat_map(|e| &e.media).map(|batch| batch.frames.len()).sum();
                assert!(frames as u64 == frames_per_turn || number < GOP_FRAMES, "{frames}");
                found.taken += if is_counted { count } else { 0 };
            }
        }
        if is_counted {
            found.read += read_count;
            // The first clone of a payload makes its reference count; what is more is the boxes'.
            found.accepted += accept_count;
            found.listed += accept_count.saturating_sub(1);
            found.handed_over += hand_over_count;
        }
    }
    assert!(gaps.is_empty());
    found
}

fn settings() -> Arc<Settings> {
    Arc::new(Settings::load(&Sources::default()).expect("the defaults are valid"))
}

fn name() -> StreamName {
    StreamName::new("__defaultVhost__", "live", "", "cam").expect("a valid name")
}

fn at(frame: u64) -> Moment {
    // Not at zero: what is older than the log's reach must have a time.
    Moment::ZERO + Duration::from_secs(3_600) + FRAME_INTERVAL * frame as u32
}

fn frame(kind: FrameKind, number: u64) -> Frame {
    let payload = match kind {
        FrameKind::Config => Bytes::from_static(&VIDEO_CONFIG),
        FrameKind::Keyframe => Bytes::from_static(&KEYFRAME),
        _ => Bytes::from_static(&INTER),
    };
    let dts_ms = number * FRAME_INTERVAL.as_millis() as u64;
    Frame { track: Track::Video, kind, slot: 0, dts_ms, arrival: at(number), payload }
}

/// A connection of the table, and its client's end.
fn connect(conns: &mut ConnTable, settings: &Arc<Settings>, is_rtmp: bool) -> (ConnKey, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address: SocketAddr = listener.local_addr().expect("it is bound");
    let client = TcpStream::connect(address).expect("the listener listens");
    client.set_nonblocking(true).expect("a socket can be non-blocking");
    let (server, peer) = listener.accept().expect("the client has connected");
    server.set_nonblocking(true).expect("a socket can be non-blocking");
    server.set_nodelay(true).expect("TCP_NODELAY can be set");
    socket::set_send_buffer(&server, 64 * 1024).expect("the send buffer can be set");
    let settings = Arc::clone(settings);
    let id = ClientId::next();
    let session = if is_rtmp {
        Session::Rtmp(Box::new(RtmpSession::new(settings, id, peer, 1, at(0))))
    } else {
        Session::Http(Box::new(HttpSession::new(settings, id, peer, at(0))))
    };
    let seat = Seat::new(&Arc::<ShardLoad>::default(), &Arc::<AtomicUsize>::default(), None);
    (conns.insert(Conn::new(server.into(), id, peer, session, seat, at(0))), client)
}

/// Reads what is there and gives its length.
fn read_all(client: &mut TcpStream) -> u64 {
    let mut buffer = [0; 64 * 1024];
    let mut total = 0;
    loop {
        match client.read(&mut buffer) {
            Ok(0) => panic!("a viewer was closed"),
            Ok(count) => total += count as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return total,
            Err(error) => panic!("a viewer cannot read: {error}"),
        }
    }
}

const fn frame_bytes<const N: usize>(first: u8) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[0] = first;
    bytes[1] = 1;
    bytes
}
