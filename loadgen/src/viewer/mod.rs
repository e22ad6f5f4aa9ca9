//! One viewer: connects, plays, and judges what it receives.
//!
//! Every viewer reads messages until its wire form is known, a dozen messages from its first
//! keyframe on. Then a viewer of the sample reads on; any other only counts bytes, which the kernel
//! throws away unread.

mod connection;
mod flv_body;
mod tally;
mod thread;
mod watch;

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;

pub(crate) use connection::Protocol;
use connection::{Acknowledgements, Connection};
pub(crate) use tally::{ByteTally, Tally};
pub(crate) use thread::{Counters, ViewerPlan, ViewerThread};

use crate::check::OrderCheck;
use crate::clock::{SECOND_NS, monotonic_ns};
use crate::media::{Kind, Track};
use crate::poll;
use crate::stream::{Identified, Identity, Media, Stream};
use crate::wire_form::WireForm;

/// Frames that are read from the first keyframe on, before bytes are only counted.
const FRAMES_TO_LEARN: u32 = 12;
/// So much sound without a keyframe makes a stream of another process one without pictures: twenty
/// seconds, longer than groups of pictures are. Servers send sound at once, but pictures from a
/// keyframe on.
const SOUND_ONLY_FRAMES: u32 = 1_000;
/// Silence longer than this is a stall.
const STALL_NS: u64 = SECOND_NS;
/// Bytes that the kernel may throw away per call.
const DISCARD_BYTES_MAX: usize = 1 << 30;
/// A ping of the server: user control message with twelve bytes of header and six of payload.
const PING_BYTES: u64 = 18;
/// No known server pings more often.
const PING_EVERY_NS: u64 = 10 * SECOND_NS;

/// Moments between which latencies count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Intended send time of the first frame that counts.
    pub(crate) start_ns: u64,
    /// And of the first that does not.
    pub(crate) end_ns: u64,
}

/// One viewer.
#[derive(Debug)]
struct Viewer {
    stream: Arc<Stream>,
    protocol: Protocol,
    is_sampled: bool,
    socket: TcpStream,
    is_connected: bool,
    /// None when it only counts.
    connection: Option<Connection>,
    acknowledgements: Option<Acknowledgements>,
    to_send: Vec<u8>,
    /// Everything received.
    bytes: u64,
    started_ns: u64,
    /// Its first frame: the first keyframe.
    first_frame_ns: Option<u64>,
    last_received_ns: u64,
    stalls: u64,
    longest_silence_ns: u64,
    check: OrderCheck,
    learning: Learning,
    account: Option<Account>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
struct Learning {
    sound_frames: u32,
    frames: u32,
    /// Number of the last frame, while all came in the order of publishing.
    last_number: Option<u64>,
    is_mixed: bool,
    unstamped: u64,
    end: u64,
}

/// From where bytes are held against what was published.
#[derive(Clone, Copy, Debug)]
struct Account {
    form: WireForm,
    /// Bytes received up to here are not counted.
    base_bytes: u64,
    /// The first frame that is counted.
    first_number: u64,
    since_ns: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The stream ended as streams do.
    Ended,
    Failed(String),
}

/// How a viewer's bytes compare with what was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bytes {
    /// Equal.
    Equal,
    /// Equal but for so many pings.
    EqualWithPings(u64),
    /// Less by so much.
    Short(u64),
    /// More by so much.
    Over(u64),
    /// Enough, but the wire form is not known.
    Enough,
    /// Nothing to compare.
    Unknown,
}

impl Viewer {
    fn new(
        stream: Arc<Stream>,
        protocol: Protocol,
        is_sampled: bool,
        socket: TcpStream,
        authority: &str,
        seed: u64,
        now_ns: u64,
    ) -> Self {
        let mut to_send = Vec::new();
        let connection = Connection::open(protocol, &stream, authority, seed, &mut to_send);
        Self {
            stream,
            protocol,
            is_sampled,
            socket,
            is_connected: false,
            connection: Some(connection),
            acknowledgements: None,
            to_send,
            bytes: 0,
            started_ns: now_ns,
            first_frame_ns: None,
            last_received_ns: now_ns,
            stalls: 0,
            longest_silence_ns: 0,
            check: OrderCheck::default(),
            learning: Learning::default(),
            account: None,
            state: State::Open,
        }
    }

    /// Sends what waits. True when something is left.
    fn send(&mut self) -> Result<bool, String> {
        while !self.to_send.is_empty() {
            match self.socket.write(&self.to_send) {
                Ok(count) => {
                    self.is_connected = true;
                    self.to_send.drain(..count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.is_connected => {
                    return Err(format!("the connection broke: {error}"));
                }
                Err(error) => return Err(format!("the connection failed: {error}")),
            }
        }
        // What was sent at first is large compared with what follows.
        self.to_send.shrink_to(64);
        Ok(false)
    }

    /// Receives once. `sink` gets the intended send time of frames to measure, and when they came: to the
    /// kernel, as in a crowd of viewers the last ones are read late, and real ones do not wait for each other.
    fn receive(
        &mut self,
        buffer: &mut [u8],
        now_ns: impl FnOnce() -> u64,
        sink: &mut impl FnMut(Track, u64, u64),
    ) -> Result<(), String> {
        let result = if self.connection.is_some() {
            poll::receive(self.socket.as_raw_fd(), buffer)
        } else {
            poll::discard(self.socket.as_raw_fd(), DISCARD_BYTES_MAX).map(|count| (count, None))
        };
        let (count, arrived) = match result {
            Ok((0, _)) => {
                self.state = State::Ended;
                return Ok(());
            }
            Ok(received) => received,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return Ok(());
            }
            Err(error) if self.is_connected => {
                return Err(format!("the connection broke: {error}"));
            }
            Err(error) => return Err(format!("the connection failed: {error}")),
        };
        let now_ns = now_ns();
        // Until the kernel begins to note arrivals, and when somebody sets its clock, this moment counts.
        let arrived_ns = arrived.map(monotonic_ns).filter(|at| *at <= now_ns);
        let arrived_ns = arrived_ns.filter(|at| now_ns - at < SECOND_NS).unwrap_or(now_ns);
        self.note_silence(now_ns);
        self.last_received_ns = now_ns;
        self.bytes += count as u64;
        let Some(mut connection) = self.connection.take() else {
            if let Some(acknowledgements) = &mut self.acknowledgements {
                acknowledgements.received(self.bytes, now_ns, &mut self.to_send);
            }
            return Ok(());
        };
        let mut to_send = std::mem::take(&mut self.to_send);
        let ended = connection.input(&buffer[..count], &mut to_send, &mut |media| {
            if let Some(frame) = self.media(&media, now_ns)
                && self.is_sampled
            {
                sink(frame.arrived.track, frame.due_ns, arrived_ns);
            }
        });
        self.to_send = to_send;
        if ended? {
            self.state = State::Ended;
        }
        if self.account.is_none() && self.learning.frames >= FRAMES_TO_LEARN {
            if self.learning.is_mixed {
                // Bytes cannot tell what is missing: read on, and try again.
                self.learning.frames = 0;
                self.learning.is_mixed = false;
            } else {
                self.open_account(connection.form(), now_ns);
                self.acknowledgements = connection.stop_watching();
                if !self.is_sampled {
                    return Ok(());
                }
            }
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// A message of audio or video came.
    fn media(&mut self, media: &Media<'_>, now_ns: u64) -> Option<Identified> {
        self.learning.end = media.end.unwrap_or(self.learning.end);
        let kind = media.track.kind(media.payload);
        if kind == Kind::Header {
            return None;
        }
        if self.first_frame_ns.is_none() {
            let is_sound = media.track == Track::Audio;
            self.learning.sound_frames += u32::from(is_sound);
            let begins_with_sound = || match self.stream.has_video {
                Some(has_video) => !has_video,
                None => self.learning.sound_frames >= SOUND_ONLY_FRAMES,
            };
            if kind != Kind::Key || is_sound && !begins_with_sound() {
                return None;
            }
            self.first_frame_ns = Some(now_ns);
        }
        let expected = self.check.next_number(media.track);
        let identity = self.stream.identify(media, kind, expected);
        self.learn(&identity);
        match identity {
            Identity::Frame(frame) => {
                self.check.arrived(frame.arrived);
                return Some(frame);
            }
            Identity::Damaged(frame) => self.check.damaged(frame),
            Identity::Unknown => self.check.unknown(),
            Identity::Unstamped => self.learning.unstamped += 1,
        }
        None
    }

    fn learn(&mut self, identity: &Identity) {
        let learning = &mut self.learning;
        learning.frames = learning.frames.saturating_add(1);
        match identity {
            Identity::Frame(frame) => {
                learning.is_mixed |=
                    learning.last_number.is_some_and(|last| frame.number != last + 1);
                learning.last_number = Some(frame.number);
            }
            Identity::Damaged(_) | Identity::Unknown => learning.is_mixed = true,
            Identity::Unstamped => {}
        }
    }

    fn open_account(&mut self, form: WireForm, now_ns: u64) {
        self.account = Some(Account {
            form,
            base_bytes: self.learning.end,
            first_number: self.learning.last_number.map_or(0, |number| number + 1),
            since_ns: now_ns,
        });
    }

    fn note_silence(&mut self, now_ns: u64) {
        if self.first_frame_ns.is_none() {
            return;
        }
        let silence_ns = now_ns.saturating_sub(self.last_received_ns);
        self.longest_silence_ns = self.longest_silence_ns.max(silence_ns);
        if silence_ns > STALL_NS {
            self.stalls += 1;
        }
    }

    /// Whether everything has come, the stream having ended. Without an exact form: whether
    /// nothing has come for a while.
    fn is_complete(&self, now_ns: u64) -> bool {
        match self.compare_bytes() {
            Bytes::Equal | Bytes::EqualWithPings(_) => true,
            Bytes::Short(_) => false,
            _ => now_ns.saturating_sub(self.last_received_ns) > SECOND_NS / 2,
        }
    }

    /// Compares; only when the stream has ended.
    fn compare_bytes(&self) -> Bytes {
        let Some(account) = self.account.filter(|_| self.stream.is_known()) else {
            return Bytes::Unknown;
        };
        let expected = self.stream.published.wire_bytes_from(account.form, account.first_number);
        let Some(short) = (account.base_bytes + expected).checked_sub(self.bytes) else {
            let over = self.bytes - account.base_bytes - expected;
            if !account.form.is_exact() {
                return Bytes::Enough;
            }
            let pings_max = (self.last_received_ns - account.since_ns) / PING_EVERY_NS + 1;
            let is_pings = self.protocol == Protocol::Rtmp
                && over.is_multiple_of(PING_BYTES)
                && over / PING_BYTES <= pings_max;
            return if is_pings {
                Bytes::EqualWithPings(over / PING_BYTES)
            } else {
                Bytes::Over(over)
            };
        };
        match short {
            0 if account.form.is_exact() => Bytes::Equal,
            0 => Bytes::Enough,
            short => Bytes::Short(short),
        }
    }
}
