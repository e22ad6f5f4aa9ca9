//! The least that a server can do: one thread that takes what a publisher sends, and sends it, in this
//! server's wire form and at the moments of a preset, to every viewer with a bare `send(2)` each.
//!
//! It speaks just enough RTMP for loadgen to publish and play: handshake, connect, createStream, publish,
//! play. That is done by a thread per connection, which then ends. It keeps no group of pictures, so
//! viewers begin with the next keyframe; it checks nothing, looks nothing up, reads nothing from viewers,
//! and cuts off whoever does not take all at once. One publisher, whose messages it has to read, is
//! some 73 messages a second against thousands of sends.
//!
//! It counts its sends, and tells them over HTTP under the names that the server's own counters have.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use shardcast::media::{Track, Tracks, Wire};
use shardcast::proto::amf0::Value;
use shardcast::proto::rtmp::chunk_reader::{ChunkReader, ReaderLimits};
use shardcast::proto::rtmp::chunk_writer::{MessageHeader, write_full};
use shardcast::proto::rtmp::command::{self, Command, ServerTraits};
use shardcast::proto::rtmp::handshake::ServerHandshake;
use shardcast::proto::rtmp::{message, status};

use super::server::Pace;

const CHUNK_SIZE: u32 = 60_000;
const WIRE: Wire =
    Wire::Rtmp { message_stream_id: 1, chunk_size: CHUNK_SIZE, tracks: Tracks::BOTH };
/// For each step of the dialogue.
const DIALOGUE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the sender sleeps at most: new viewers are noticed by then.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// Who connected.
enum Peer {
    Publisher(Publisher),
    Viewer(TcpStream),
}

struct Publisher {
    socket: TcpStream,
    reader: ChunkReader,
    /// What came behind the command to publish.
    unread: Vec<u8>,
}

/// What waits to be sent.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    due: Option<Instant>,
}

static SENDS: AtomicU64 = AtomicU64::new(0);
static SEND_BYTES: AtomicU64 = AtomicU64::new(0);

/// `PORT COUNTERS_PORT PACE`: serves until it is killed.
pub(crate) fn main(plan: &str) {
    let mut words = plan.splitn(3, ' ');
    let mut port = || words.next().and_then(|port| port.parse::<u16>().ok()).expect("a port");
    let [listener, counters] = [port(), port()]
        .map(|port| TcpListener::bind(("127.0.0.1", port)).expect("the port is free"));
    let pace = words.next().expect("a pace");
    let (sender, peers) = channel();
    std::thread::spawn(move || counters.incoming().flatten().for_each(tell_counters));
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let sender = sender.clone();
            // Who breaks off is none of ours: the driver looks whether anybody is there.
            std::thread::spawn(move || greet(socket, &sender));
        }
    });
    send(&peers, Pace::named(pace));
}

fn send(peers: &Receiver<Peer>, pace: Pace) {
    let mut viewers = Vec::new();
    let mut publisher: Option<Publisher> = None;
    let mut batch = Batch::default();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        // Without a publisher there is nothing else to wait for.
        let first = if publisher.is_none() { peers.recv().ok() } else { None };
        for peer in first.into_iter().chain(peers.try_iter()) {
            match peer {
                Peer::Viewer(socket) => viewers.push(socket),
                Peer::Publisher(mut new) => {
                    let unread = std::mem::take(&mut new.unread);
                    batch.take(&mut new.reader, &unread, pace);
                    publisher = Some(new);
                }
            }
        }
        let now = Instant::now();
        if batch.due.is_some_and(|due| due <= now) {
            SENDS.fetch_add(viewers.len() as u64, Ordering::Relaxed);
            let bytes = viewers.len() * batch.bytes.len();
            SEND_BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
            viewers.retain(|socket| takes_all(socket, &batch.bytes));
            batch.bytes.clear();
            batch.due = None;
        }
        let wait = batch.due.map_or(SLEEP_MAX, |due| due.saturating_duration_since(now));
        if let Some(from) = &mut publisher
            && is_readable(&from.socket, wait.min(SLEEP_MAX))
        {
            match from.socket.read(&mut buffer) {
                Ok(count) if count > 0 => batch.take(&mut from.reader, &buffer[..count], pace),
                _ => publisher = None,
            }
        }
    }
}

/// Answers whatever is asked.
fn tell_counters(mut socket: TcpStream) {
    let mut request = [0; 1024];
    let (sends, bytes) = (SENDS.load(Ordering::Relaxed), SEND_BYTES.load(Ordering::Relaxed));
    let answer = format!("HTTP/1.0 200 OK\r\n\r\n{{\"sends\": {sends}, \"send_bytes\": {bytes}}}");
    // Who does not listen misses nothing.
    _ = socket.read(&mut request).and_then(|_| socket.write_all(answer.as_bytes()));
}

impl Batch {
    fn take(&mut self, reader: &mut ChunkReader, mut bytes: &[u8], pace: Pace) {
        while !bytes.is_empty() {
            let read = reader.read(bytes).expect("loadgen speaks RTMP");
            bytes = &bytes[read.consumed..];
            let Some(message) = read.message else { break };
            let (track, hold) = match message.type_id {
                message::AUDIO => (Track::Audio, pace.audio_hold()),
                message::VIDEO => (Track::Video, pace.video_hold()),
                _ => continue,
            };
            let due = Instant::now() + hold;
            self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
            WIRE.write(track, message.timestamp_ms, &message.payload, &mut |piece| {
                self.bytes.extend_from_slice(piece);
            });
        }
    }
}

fn is_readable(socket: &TcpStream, wait: Duration) -> bool {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let wait = libc::timespec {
        tv_sec: wait.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(wait.subsec_nanos()),
    };
    // SAFETY: one descriptor, a time to wait and no signal mask, all valid for the call.
    unsafe { libc::ppoll(&mut poll, 1, &wait, std::ptr::null()) > 0 }
}

fn takes_all(socket: &TcpStream, bytes: &[u8]) -> bool {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the buffer is valid for its length.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    sent == bytes.len() as isize
}

/// The dialogue up to publish or play.
fn greet(mut socket: TcpStream, peers: &Sender<Peer>) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    socket.set_read_timeout(Some(DIALOGUE_TIME_MAX)).ok()?;
    let mut handshake = Some(ServerHandshake::new(1, 0));
    let mut reader = ChunkReader::new(ReaderLimits {
        message_bytes_max: shardcast::limits::RTMP_MESSAGE_BYTES_MAX,
        chunk_streams_max: shardcast::limits::RTMP_CHUNK_STREAMS_MAX,
        partial_bytes_max: shardcast::limits::RTMP_MESSAGE_BYTES_MAX,
    });
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = socket.read(&mut buffer).ok().filter(|count| *count > 0)?;
        let mut rest = &buffer[..count];
        if let Some(greeting) = &mut handshake {
            let mut out = Vec::new();
            let progress = greeting.input(rest, &mut out).ok()?;
            socket.write_all(&out).ok()?;
            rest = &rest[progress.consumed..];
            if !progress.done {
                continue;
            }
            handshake = None;
        }
        while !rest.is_empty() {
            let read = reader.read(rest).ok()?;
            rest = &rest[read.consumed..];
            let Some(message) = read.message else { break };
            if message.type_id != message::COMMAND_AMF0 {
                continue;
            }
            let call = Command::parse(&message.payload).ok()?;
            match call.name.as_str() {
                "connect" => {
                    tell(
                        &mut socket,
                        message::SET_CHUNK_SIZE,
                        &message::set_chunk_size(CHUNK_SIZE),
                    )?;
                    let traits = ServerTraits {
                        fms_version: "FMS/3,0,1,123",
                        capabilities: 31.0,
                        object_encoding: 0.0,
                    };
                    let result = command::connect_result(call.transaction, traits, vec![]);
                    tell(&mut socket, message::COMMAND_AMF0, &result)?;
                }
                "createStream" => {
                    let result = command::result(call.transaction, &Value::Null, Value::from(1.0));
                    tell(&mut socket, message::COMMAND_AMF0, &result)?;
                }
                "publish" => {
                    let started = command::on_status(status::PUBLISH_START, "", vec![]);
                    tell(&mut socket, message::COMMAND_AMF0, &started)?;
                    let publisher = Publisher { socket, reader, unread: rest.to_vec() };
                    return peers.send(Peer::Publisher(publisher)).ok();
                }
                "play" => {
                    let started = command::on_status(status::PLAY_START, "", vec![]);
                    tell(&mut socket, message::COMMAND_AMF0, &started)?;
                    return peers.send(Peer::Viewer(socket)).ok();
                }
                _ => {}
            }
        }
    }
}

/// Sends a message in one chunk.
fn tell(socket: &mut TcpStream, type_id: u8, payload: &[u8]) -> Option<()> {
    let is_command = type_id == message::COMMAND_AMF0;
    let header = MessageHeader {
        chunk_stream_id: if is_command { 3 } else { 2 },
        message_stream_id: 0,
        type_id,
        timestamp_ms: 0,
    };
    let mut bytes = Vec::new();
    write_full(&header, payload, CHUNK_SIZE as usize, &mut |piece| bytes.extend_from_slice(piece));
    socket.write_all(&bytes).ok()
}
