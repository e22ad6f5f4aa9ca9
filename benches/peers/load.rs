//! The load: a process of its own that publishes streams by the clock and receives them. Every byte is
//! counted; a sample of the viewers reads every message and the time in it.
//!
//! It speaks with the driver by lines: it says `published`, `playing` and at the end its report; after
//! each of the first two, and at the end of the window, it waits for a line.

use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use shardcast::media::{Frame, Moment, Track};
use shardcast::proto::flv::{PAYLOAD_LEN_MAX, TagReader};
use shardcast::proto::rtmp::client::{ClientConfig, ClientEvent, ClientSession, Role};
use shardcast::rt::clock;

use super::sample;

/// Viewers that read what they get.
const SAMPLE: usize = 20;
/// Marks a payload with a time in it.
const MAGIC: [u8; 8] = *b"peersnow";

/// What to do.
#[derive(Clone, Copy)]
pub(crate) struct LoadPlan {
    pub(crate) streams: usize,
    /// Per stream.
    pub(crate) viewers: usize,
    pub(crate) bitrate: usize,
}

/// How viewers receive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Rtmp,
    Flv,
    /// Connects and drains; nothing is published.
    Raw,
}

/// What was received between the two lines of the driver.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct LoadReport {
    pub(crate) bytes: u64,
    pub(crate) window_s: f64,
    /// Median and 99th percentile in ms of (audio, video), by the time at which a frame was to be sent.
    pub(crate) latency_ms: [[f64; 2]; 2],
    /// CPU time of the load as a share of a CPU: near 1 it was the bottleneck.
    pub(crate) load_cpu: f64,
}

impl LoadPlan {
    /// As an argument for the process; the ports are those of RTMP and HTTP.
    pub(crate) fn encode(&self, via: Via, rtmp_port: u16, http_port: u16) -> String {
        let via = match via {
            Via::Rtmp => "rtmp",
            Via::Flv => "flv",
            Via::Raw => "raw",
        };
        format!("{via} {rtmp_port} {http_port} {} {} {}", self.streams, self.viewers, self.bitrate)
    }

    /// From that argument.
    pub(crate) fn decode(text: &str) -> Task {
        let mut words = text.split(' ');
        let via = match words.next() {
            Some("rtmp") => Via::Rtmp,
            Some("flv") => Via::Flv,
            _ => Via::Raw,
        };
        let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
        let (rtmp_port, http_port) = (number() as u16, number() as u16);
        let plan = Self { streams: number(), viewers: number(), bitrate: number() };
        Task { plan, via, rtmp_port, http_port }
    }
}

/// A plan and where to carry it out.
pub(crate) struct Task {
    plan: LoadPlan,
    via: Via,
    rtmp_port: u16,
    http_port: u16,
}

#[derive(Default)]
struct Shared {
    bytes: AtomicU64,
    playing: AtomicUsize,
    measuring: AtomicBool,
    /// Audio, video; microseconds.
    latency_us: Mutex<Option<[Histogram<u64>; 2]>>,
}

/// The process.
pub(crate) fn main(task: &Task) {
    // A thread that fails ends the process.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::exit(1);
    }));
    if task.via != Via::Raw {
        publish(task);
    }
    say("published");
    let shared = Arc::new(Shared::default());
    let histogram = || Histogram::new_with_bounds(1, 10_000_000, 3).expect("valid bounds");
    *shared.latency_us.lock().unwrap() = Some([histogram(), histogram()]);
    let count = task.plan.streams * task.plan.viewers;
    let step = (count / SAMPLE).max(1);
    let (sampled, bulk): (Vec<_>, Vec<_>) =
        (0..count).map(|n| (n, n % step == step - 1)).partition(|&(_, sampled)| sampled);
    for part in [bulk, sampled] {
        let viewers: Vec<Viewer> = part
            .into_iter()
            .map(|(n, sampled)| Viewer::connect(task, n % task.plan.streams, sampled))
            .collect();
        let shared = Arc::clone(&shared);
        std::thread::spawn(move || receive(viewers, &shared));
    }
    while shared.playing.load(Ordering::Relaxed) < count {
        std::thread::sleep(Duration::from_millis(20));
    }
    say("playing");
    let (bytes, begin, cpu) = (shared.bytes.load(Ordering::Relaxed), clock::now(), process_cpu_s());
    shared.measuring.store(true, Ordering::Relaxed);
    wait();
    let bytes = shared.bytes.load(Ordering::Relaxed) - bytes;
    let window_s = clock::now().since(begin).as_secs_f64();
    let histograms = shared.latency_us.lock().unwrap().take().expect("taken once");
    let report = LoadReport {
        bytes,
        window_s,
        latency_ms: histograms
            .map(|all| [0.5, 0.99].map(|at| all.value_at_quantile(at) as f64 / 1000.0)),
        load_cpu: (process_cpu_s() - cpu) / window_s,
    };
    println!("{}", serde_json::to_string(&report).expect("a plain struct"));
    std::process::exit(0);
}

fn say(word: &str) {
    println!("{word}");
    wait();
}

fn wait() {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).expect("the driver is there");
    assert!(!line.is_empty(), "the driver is gone");
}

fn process_cpu_s() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn session(port: u16, stream: usize, role: Role) -> ClientSession {
    ClientSession::new(ClientConfig {
        app: "live".to_owned(),
        tc_url: format!("rtmp://127.0.0.1:{port}/live"),
        stream: format!("s{stream}"),
        role,
        flash_version: "FMLE/3.0 (compatible; peers)".to_owned(),
        digest: false,
        connect_properties: Vec::new(),
        connect_args: Vec::new(),
        chunk_size: 60_000,
        seed: stream as u64,
    })
}

/// Connects all publishers and leaves a thread behind that feeds them.
fn publish(task: &Task) {
    let mut publishers: Vec<(TcpStream, ClientSession)> =
        (0..task.plan.streams).map(|stream| connect_publisher(task.rtmp_port, stream)).collect();
    let gop = sample::gop(task.plan.bitrate);
    let streams = task.plan.streams as u64;
    std::thread::spawn(move || {
        let start = clock::now();
        let mut out = Vec::new();
        let mut payload = Vec::new();
        for n in 0.. {
            for frame in &gop {
                let dts_ms = n * sample::GOP_MS + frame.dts_ms;
                for (stream, (socket, session)) in publishers.iter_mut().enumerate() {
                    // Encoders are not in step: spread over the time between two pictures.
                    let offset_us = stream as u64 * 33_000 / streams;
                    let due = start + Duration::from_micros(dts_ms * 1000 + offset_us);
                    let early = due.since(clock::now());
                    if early > Duration::from_micros(50) {
                        std::thread::sleep(early);
                    }
                    stamp(frame, due, &mut payload);
                    out.clear();
                    session.publish_media(frame.track.type_id(), dts_ms as u32, &payload, &mut out);
                    socket.write_all(&out).expect("the server takes what is published");
                }
            }
        }
    });
}

fn connect_publisher(port: u16, stream: usize) -> (TcpStream, ClientSession) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
    socket.set_nodelay(true).expect("a TCP socket");
    let mut session = session(port, stream, Role::Publish);
    let mut out = Vec::new();
    session.start(&mut out);
    let mut buffer = [0; 4096];
    loop {
        socket.write_all(&out).expect("the server reads");
        out.clear();
        let count = socket.read(&mut buffer).expect("the server answers");
        assert!(count > 0, "the server closed a publisher");
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let progress = session.input(rest, &mut out).expect("the server speaks RTMP");
            rest = &rest[progress.consumed..];
            match progress.event {
                Some(ClientEvent::PublishStarted) => {
                    for (type_id, body) in [(9, &[0x17, 0, 0, 0, 0][..]), (8, &[0xaf, 0])] {
                        let mut header = body.to_vec();
                        header.extend_from_slice(configuration(type_id));
                        session.publish_media(type_id, 0, &header, &mut out);
                    }
                    socket.write_all(&out).expect("the server reads");
                    return (socket, session);
                }
                Some(ClientEvent::Failed { code, description }) => {
                    panic!("publishing is refused: {code} {description}")
                }
                _ => {}
            }
        }
    }
}

/// H.264 high profile level 3.1 with a parameter set each; AAC LC, 44.1 kHz, stereo.
fn configuration(type_id: u8) -> &'static [u8] {
    match type_id {
        9 => {
            b"\x01\x64\x00\x1f\xff\xe1\x00\x0a\x67\x64\x00\x1f\xac\xd9\x40\x50\x05\xbb\x01\x00\x04\x68\xeb\xe3\xcb"
        }
        _ => b"\x12\x10",
    }
}

fn stamp_offset(track: Track) -> usize {
    if track == Track::Video { 5 } else { 2 }
}

/// The frame's payload with the time at which it is to be sent.
fn stamp(frame: &Frame, due: Moment, payload: &mut Vec<u8>) {
    payload.clear();
    payload.extend_from_slice(&frame.payload);
    let at = stamp_offset(frame.track);
    payload[2..at].fill(0);
    payload[at..at + 8].copy_from_slice(&MAGIC);
    payload[at + 8..at + 16].copy_from_slice(&due.as_nanos().to_le_bytes());
}

struct Viewer {
    socket: TcpStream,
    sampled: bool,
    plays: bool,
    stage: Stage,
}

enum Stage {
    Rtmp(Box<ClientSession>),
    HttpHead(Vec<u8>),
    Flv(TagReader),
    Drain,
}

impl Viewer {
    fn connect(task: &Task, stream: usize, sampled: bool) -> Self {
        let port = if task.via == Via::Flv { task.http_port } else { task.rtmp_port };
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
        socket.set_nodelay(true).expect("a TCP socket");
        let mut hello = Vec::new();
        let stage = match task.via {
            Via::Rtmp => {
                let session = session(port, stream, Role::Play);
                session.start(&mut hello);
                Stage::Rtmp(Box::new(session))
            }
            Via::Flv => {
                hello = format!("GET /live/s{stream}.flv HTTP/1.0\r\nHost: localhost\r\n\r\n")
                    .into_bytes();
                Stage::HttpHead(Vec::new())
            }
            Via::Raw => Stage::Drain,
        };
        socket.write_all(&hello).expect("the server reads");
        socket.set_nonblocking(true).expect("a TCP socket");
        Self { socket, sampled, plays: false, stage }
    }

    /// Takes what is there.
    fn read(&mut self, buffer: &mut [u8], shared: &Shared) {
        if matches!(self.stage, Stage::Drain) {
            // SAFETY: with MSG_TRUNC a TCP socket drops the bytes and touches no buffer.
            let count = unsafe {
                let length = 1 << 20;
                libc::recv(
                    self.socket.as_raw_fd(),
                    std::ptr::null_mut(),
                    length,
                    libc::MSG_TRUNC | libc::MSG_DONTWAIT,
                )
            };
            assert!(count != 0, "the server closed a viewer");
            if count > 0 {
                shared.bytes.fetch_add(count as u64, Ordering::Relaxed);
                self.plays(shared);
            }
            return;
        }
        let count = match self.socket.read(buffer) {
            Ok(0) => panic!("the server closed a viewer"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("the server left a viewer: {error}"),
        };
        shared.bytes.fetch_add(count as u64, Ordering::Relaxed);
        self.parse(&buffer[..count], shared);
    }

    fn parse(&mut self, bytes: &[u8], shared: &Shared) {
        match &mut self.stage {
            Stage::Drain => {}
            Stage::HttpHead(head) => {
                head.extend_from_slice(bytes);
                let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") else { return };
                assert!(head.starts_with(b"HTTP/1.1 200"), "HTTP-FLV is refused");
                let body = head.split_off(at + 4);
                self.stage = Stage::Flv(TagReader::new(PAYLOAD_LEN_MAX));
                self.parse(&body, shared);
            }
            Stage::Flv(reader) => {
                reader.push(bytes);
                let mut any = false;
                while let Some(tag) = reader.next_tag().expect("the server speaks FLV") {
                    any = true;
                    if self.sampled {
                        latency(tag.type_id, &tag.payload, shared);
                    }
                }
                if any {
                    self.plays(shared);
                }
            }
            Stage::Rtmp(session) => {
                let mut out = Vec::new();
                let mut any = false;
                let mut rest = bytes;
                while !rest.is_empty() {
                    let progress = session.input(rest, &mut out).expect("the server speaks RTMP");
                    rest = &rest[progress.consumed..];
                    match progress.event {
                        Some(ClientEvent::Message(message)) => {
                            any |= message.type_id != Track::Data.type_id();
                            if self.sampled {
                                latency(message.type_id, &message.payload, shared);
                            }
                        }
                        Some(ClientEvent::Failed { code, description }) => {
                            panic!("playing is refused: {code} {description}")
                        }
                        _ => {}
                    }
                }
                self.socket.write_all(&out).expect("a few bytes fit");
                if any {
                    self.plays(shared);
                }
            }
        }
    }

    fn plays(&mut self, shared: &Shared) {
        if !self.plays {
            self.plays = true;
            shared.playing.fetch_add(1, Ordering::Relaxed);
            if !self.sampled {
                self.stage = Stage::Drain;
            }
        }
    }
}

fn latency(type_id: u8, payload: &Bytes, shared: &Shared) {
    if !shared.measuring.load(Ordering::Relaxed) {
        return;
    }
    let track = match type_id {
        8 => Track::Audio,
        9 => Track::Video,
        _ => return,
    };
    let at = stamp_offset(track);
    let Some((magic, due)) = payload.get(at..at + 16).and_then(|stamp| stamp.split_at_checked(8))
    else {
        return;
    };
    if magic == MAGIC {
        let due = Moment::from_nanos(u64::from_le_bytes(due.try_into().expect("eight bytes")));
        let micros = clock::now().since(due).as_micros() as u64;
        if let Some(all) = &mut *shared.latency_us.lock().unwrap() {
            all[usize::from(track == Track::Video)].saturating_record(micros);
        }
    }
}

/// One thread's viewers.
fn receive(mut viewers: Vec<Viewer>, shared: &Shared) {
    // SAFETY: takes no pointers.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    assert!(epoll >= 0, "epoll");
    for (index, viewer) in viewers.iter().enumerate() {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: index as u64 };
        // SAFETY: both descriptors are open; the event is read during the call.
        let added = unsafe {
            libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, viewer.socket.as_raw_fd(), &mut event)
        };
        assert_eq!(added, 0);
    }
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
    let mut buffer = vec![0; 256 * 1024];
    loop {
        // SAFETY: the events are valid to write to, and as many as said.
        let count = unsafe {
            libc::epoll_wait(epoll, events.as_mut_ptr(), events.len() as libc::c_int, -1)
        };
        for event in events.iter().take(count.max(0) as usize) {
            viewers[event.u64 as usize].read(&mut buffer, shared);
        }
    }
}
