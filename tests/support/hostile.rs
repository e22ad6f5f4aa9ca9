//! Clients that mean no good: they open connections by the hundred, say nothing, too little, too slowly
//! or nonsense, and come back as soon as they are thrown out.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use shardcast::proto::amf0::Value;
use shardcast::proto::rtmp::chunk_writer::{MessageHeader, write_full};
use shardcast::proto::rtmp::command;
use shardcast::proto::rtmp::message::{COMMAND_AMF0, VIDEO};

use super::viewer::wait_readable;
use super::wait::SOON;

/// What each side sends before the first chunk.
const HANDSHAKE_BYTES: usize = 1 + 2 * 1536;
/// The largest message that a chunk header can claim.
const CLAIMED_BYTES: u32 = 0xFF_FFFF;
/// Between two bytes of a slow one.
const DRIP_INTERVAL: Duration = Duration::from_millis(400);
/// Nobody comes back sooner than this after the last time: a new connection is cheap to refuse, and
/// this is not a test of the kernel's accept queue.
const RETURN_AFTER: Duration = Duration::from_secs(2);

/// What a hostile client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Opens an RTMP connection and says nothing.
    Silent,
    /// Sends C0 and half of C1.
    HalfHandshake,
    /// Sends a handshake byte by byte.
    SlowHandshake,
    /// Shakes hands and says nothing more.
    NoConnect,
    /// Shakes hands and sends random bytes.
    RandomChunks,
    /// Shakes hands and begins a message that claims 16 MiB.
    ClaimBeforeConnect,
    /// Connects, begins a message that claims 16 MiB, sends a bit of it and waits.
    ClaimAfterConnect,
    /// Connects and never answers again.
    DeafAfterConnect,
    /// Sends an HTTP request byte by byte.
    SlowHttp,
    /// Sends random bytes to the HTTP port.
    RandomHttp,
}

/// All of them.
pub(crate) const KINDS: [Kind; 10] = [
    Kind::Silent,
    Kind::HalfHandshake,
    Kind::SlowHandshake,
    Kind::NoConnect,
    Kind::RandomChunks,
    Kind::ClaimBeforeConnect,
    Kind::ClaimAfterConnect,
    Kind::DeafAfterConnect,
    Kind::SlowHttp,
    Kind::RandomHttp,
];

impl Kind {
    /// Words of the API for the reasons for which the server may close it.
    pub(crate) fn reasons(self) -> &'static [&'static str] {
        match self {
            Self::Silent
            | Self::HalfHandshake
            | Self::SlowHandshake
            | Self::NoConnect
            | Self::SlowHttp => &["handshake_timeout"],
            // Some random bytes are the beginning of something.
            Self::RandomChunks | Self::RandomHttp => &["protocol", "handshake_timeout"],
            Self::ClaimBeforeConnect => &["protocol"],
            Self::ClaimAfterConnect | Self::DeafAfterConnect => &["ping_timeout"],
        }
    }

    fn words(self, random: &mut Random) -> Words {
        let claim = |sent| [claiming_header(), vec![7; sent]].concat();
        let request = b"GET /live/cam.flv HTTP/1.1\r\nHost: h\r\nX-Endless: ";
        let (at_once, when_accepted, slowly) = match self {
            Self::Silent => (Vec::new(), Vec::new(), Vec::new()),
            Self::HalfHandshake => (handshake()[..800].to_vec(), Vec::new(), Vec::new()),
            Self::SlowHandshake => (Vec::new(), Vec::new(), handshake()),
            Self::NoConnect => (handshake(), Vec::new(), Vec::new()),
            Self::RandomChunks => (random.bytes_after(handshake(), 500), Vec::new(), Vec::new()),
            Self::ClaimBeforeConnect => {
                ([handshake(), claim(1_000)].concat(), Vec::new(), Vec::new())
            }
            Self::ClaimAfterConnect => {
                ([handshake(), connect()].concat(), claim(70_000), Vec::new())
            }
            Self::DeafAfterConnect => ([handshake(), connect()].concat(), Vec::new(), Vec::new()),
            Self::SlowHttp => (Vec::new(), Vec::new(), request.repeat(20)),
            Self::RandomHttp => (random.bytes_after(Vec::new(), 300), Vec::new(), Vec::new()),
        };
        Words { at_once, when_accepted, slowly }
    }

    fn is_http(self) -> bool {
        matches!(self, Self::SlowHttp | Self::RandomHttp)
    }
}

/// Hostile clients at work, in a thread of their own.
pub(crate) struct Hostiles {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Count>>,
}

/// How many connections there have been.
#[derive(Debug, Default)]
pub(crate) struct Count {
    /// Of each kind.
    pub(crate) opened: BTreeMap<Kind, u64>,
    /// At a time, on average over the attack.
    pub(crate) at_a_time: usize,
}

impl Hostiles {
    /// Opens `count` connections, the same number of each kind, as fast as the server takes them.
    pub(crate) fn attack(rtmp: SocketAddr, http: SocketAddr, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let for_thread = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut crowd = Crowd { rtmp, http, random: Random(1), count: Count::default() };
            let mut clients: Vec<Client> =
                (0..count).map(|number| crowd.open(KINDS[number % KINDS.len()])).collect();
            let (mut open, mut turns) = (0, 0);
            while !for_thread.load(Ordering::Relaxed) {
                open += clients.iter().filter(|client| client.socket.is_some()).count();
                turns += 1;
                crowd.turn(&mut clients, true);
            }
            crowd.count.at_a_time = open / turns.max(1);
            let deadline = Instant::now() + 3 * SOON;
            while clients.iter().any(|client| client.socket.is_some()) {
                assert!(Instant::now() < deadline, "the server keeps {}", stubborn(&clients));
                crowd.turn(&mut clients, false);
            }
            crowd.count
        });
        Self { stop, thread: Some(thread) }
    }

    /// Nobody comes back any more.
    pub(crate) fn give_up(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the server has thrown everybody out, after [`Hostiles::give_up`].
    pub(crate) fn are_out(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for that.
    pub(crate) fn count(mut self) -> Count {
        let thread = self.thread.take().expect("it is taken here only");
        thread.join().expect("the hostile clients worked as written")
    }
}

impl Drop for Hostiles {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn stubborn(clients: &[Client]) -> String {
    let mut kinds: Vec<Kind> =
        clients.iter().filter(|it| it.socket.is_some()).map(|it| it.kind).collect();
    kinds.dedup();
    format!("{kinds:?}")
}

struct Crowd {
    rtmp: SocketAddr,
    http: SocketAddr,
    random: Random,
    count: Count,
}

struct Client {
    kind: Kind,
    /// None when it was thrown out.
    socket: Option<TcpStream>,
    since: Instant,
    words: Words,
    next_drip: Instant,
    heard_bytes: usize,
}

/// What a client still has to say.
struct Words {
    at_once: Vec<u8>,
    /// When connect was answered.
    when_accepted: Vec<u8>,
    /// Byte by byte.
    slowly: Vec<u8>,
}

impl Crowd {
    fn open(&mut self, kind: Kind) -> Client {
        let address = if kind.is_http() { self.http } else { self.rtmp };
        let socket = TcpStream::connect_timeout(&address, SOON).expect("the server listens");
        socket.set_nonblocking(true).expect("a socket can be non-blocking");
        *self.count.opened.entry(kind).or_default() += 1;
        let words = kind.words(&mut self.random);
        let since = Instant::now();
        let socket = Some(socket);
        let mut client = Client { kind, socket, since, words, next_drip: since, heard_bytes: 0 };
        client.speak();
        client
    }

    /// Everybody says what is due and hears whether it was thrown out.
    fn turn(&mut self, clients: &mut [Client], come_back: bool) {
        let (numbers, sockets): (Vec<usize>, Vec<_>) = clients
            .iter()
            .enumerate()
            .filter_map(|(number, it)| Some((number, it.socket.as_ref()?.as_raw_fd())))
            .unzip();
        for index in wait_readable(&sockets, Duration::from_millis(20)) {
            clients[numbers[index]].listen();
        }
        for client in clients {
            client.speak();
            if come_back && client.socket.is_none() && client.since.elapsed() > RETURN_AFTER {
                *client = self.open(client.kind);
            }
        }
    }
}

impl Client {
    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(socket) = &mut self.socket {
            match socket.read(&mut buffer) {
                Ok(0) => self.socket = None,
                Ok(count) => self.heard_bytes += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.socket = None,
            }
        }
    }

    fn speak(&mut self) {
        let Some(socket) = &mut self.socket else { return };
        let now = Instant::now();
        let words = &mut self.words;
        if self.next_drip <= now && !words.slowly.is_empty() {
            words.at_once.push(words.slowly.remove(0));
            self.next_drip = now + DRIP_INTERVAL;
        }
        if self.heard_bytes > HANDSHAKE_BYTES {
            words.at_once.append(&mut words.when_accepted);
        }
        // Who was thrown out finds out by listening.
        if let Ok(count) = socket.write(&words.at_once) {
            words.at_once.drain(..count);
        }
    }
}

fn handshake() -> Vec<u8> {
    let mut hello = vec![3];
    hello.resize(HANDSHAKE_BYTES, 0);
    hello
}

fn connect() -> Vec<u8> {
    let object = Value::object([
        ("app", Value::from("live")),
        ("tcUrl", Value::from("rtmp://localhost/live")),
    ]);
    let header = MessageHeader {
        chunk_stream_id: 3,
        message_stream_id: 0,
        type_id: COMMAND_AMF0,
        timestamp_ms: 0,
    };
    let mut out = Vec::new();
    let payload = command::encode("connect", 1.0, &object, &[]);
    write_full(&header, &payload, 128, &mut |bytes| out.extend_from_slice(bytes));
    out
}

/// Of a video message, after a chunk size of 16 MiB.
fn claiming_header() -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
    out.extend(CLAIMED_BYTES.to_be_bytes());
    out.extend([6, 0, 0, 0]);
    out.extend(&CLAIMED_BYTES.to_be_bytes()[1..]);
    out.extend([VIDEO, 1, 0, 0, 0]);
    out
}

/// The same bytes in every run.
struct Random(u64);

impl Random {
    fn bytes_after(&mut self, mut bytes: Vec<u8>, count: usize) -> Vec<u8> {
        let end = bytes.len() + count;
        while bytes.len() < end {
            // Xorshift.
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend(self.0.to_le_bytes());
        }
        bytes.truncate(end);
        bytes
    }
}
