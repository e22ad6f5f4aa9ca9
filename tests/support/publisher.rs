//! A scripted publisher: stamped video and filler audio in real time, from a thread of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use shardcast::proto::amf0::Value;
use shardcast::proto::rtmp::client::{ClientEvent, ClientSession, Role};
use shardcast::proto::rtmp::message;

use socket2::{Domain, Socket, Type};

use super::stamp::{Stamp, now_nanos};
use super::viewer::client_config;
use super::wait::SOON;

/// AVC sequence header: a tag head and a plausible decoder configuration.
pub(crate) const VIDEO_CONFIG: [u8; 12] = [0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1F, 0xFF, 0xE1, 0];
/// AAC sequence header: a tag head and AudioSpecificConfig (LC, 44.1 kHz, mono).
const AUDIO_CONFIG: [u8; 4] = [0xAF, 0, 0x12, 0x08];
/// An AAC message lasts 1024 samples of 44.1 kHz.
const AUDIO_INTERVAL: Duration = Duration::from_nanos(1_024_000_000_000 / 44_100);
/// About 64 kbit/s.
const AUDIO_BYTES: usize = 186;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    /// Between two video messages.
    pub(crate) frame_interval: Duration,
    /// Video messages from one keyframe to the next.
    pub(crate) gop_frames: u64,
    /// Bytes of a keyframe.
    pub(crate) keyframe_bytes: usize,
    /// Bytes of the other video messages.
    pub(crate) inter_bytes: usize,
    /// Whether there is sound.
    pub(crate) audio: bool,
}

/// A publisher at work.
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    frames: AtomicU64,
}

impl Publisher {
    /// Connects and starts; returns when the server has accepted the stream (`app/name`).
    pub(crate) fn start(address: SocketAddr, stream: &str, script: Script) -> Self {
        let shared = Arc::new(Shared::default());
        let (accepted, is_accepted) = mpsc::channel();
        let (for_thread, stream) = (Arc::clone(&shared), stream.to_owned());
        let thread = thread::spawn(move || {
            let mut connection = Connection::open(address, &stream, None)
                .unwrap_or_else(|refusal| panic!("the publisher is refused: {refusal}"));
            accepted.send(()).expect("the test waits");
            connection.send_all(script, &for_thread);
        });
        is_accepted.recv_timeout(SOON).expect("the server accepts the publisher");
        Self { shared, thread: Some(thread) }
    }

    /// Video messages sent so far.
    pub(crate) fn frames(&self) -> u64 {
        self.shared.frames.load(Ordering::Relaxed)
    }

    /// Ends the stream with a goodbye and closes the connection; gives the number of video
    /// messages sent.
    pub(crate) fn say_goodbye(mut self) -> u64 {
        self.end();
        self.frames()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the publisher failed");
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.end();
    }
}

/// A publisher that sends what the test gives it, at once.
///
/// Dropped, its connection is lost to the server; see [`Feed::say_goodbye`].
pub(crate) struct Feed(Connection);

impl Feed {
    /// Connects; returns when the server has accepted the stream (`app/name`).
    pub(crate) fn start(address: SocketAddr, stream: &str) -> Self {
        Self::try_start(address, stream, None)
            .unwrap_or_else(|refusal| panic!("the publisher is refused: {refusal}"))
    }

    /// [`Feed::start`] from an address of this machine. An error is the code of the refusal, or
    /// `closed`.
    pub(crate) fn try_start(
        address: SocketAddr,
        stream: &str,
        from: Option<IpAddr>,
    ) -> Result<Self, String> {
        let connection = Connection::open(address, stream, from)?;
        connection.stream.set_nonblocking(true).expect("a socket can be non-blocking");
        Ok(Self(connection))
    }

    /// Sends one message.
    pub(crate) fn send(&mut self, type_id: u8, timestamp_ms: u32, payload: &[u8]) {
        self.0.send_at(type_id, timestamp_ms, payload);
    }

    /// Sends one message. False when the server has ended the connection, or says that it will.
    pub(crate) fn try_send(&mut self, type_id: u8, timestamp_ms: u32, payload: &[u8]) -> bool {
        let sent = self.0.try_send_at(type_id, timestamp_ms, payload);
        let is_sent = sent.is_ok();
        if let Err(why) = sent {
            self.0.failed.get_or_insert(why);
        }
        is_sent
    }

    /// How the server has ended the connection, or ends it within [`SOON`]: the code of its last word and a
    /// sentence, or `closed`.
    pub(crate) fn end(mut self) -> String {
        self.0.stream.set_nonblocking(false).expect("a socket can be blocking");
        if let Some(why) = self.0.failed.take() {
            return why;
        }
        loop {
            if let Err(why) = self.0.read() {
                return why;
            }
        }
    }

    /// Ends the stream with a goodbye and closes the connection.
    pub(crate) fn say_goodbye(mut self) {
        self.0.session.close(&mut self.0.out);
        self.0.flush().expect("the server reads");
        // A socket that is closed with something unread resets the connection: the goodbye is lost.
        let stream = &mut self.0.stream;
        stream.shutdown(Shutdown::Write).expect("a connection can be shut");
        stream.set_nonblocking(false).expect("a socket can be blocking");
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

struct Connection {
    stream: TcpStream,
    session: ClientSession,
    out: Vec<u8>,
    /// Why it has ended.
    failed: Option<String>,
}

impl Connection {
    fn open(address: SocketAddr, stream: &str, from: Option<IpAddr>) -> Result<Self, String> {
        let session = ClientSession::new(client_config(address, stream, Role::Publish));
        let mut out = Vec::new();
        session.start(&mut out);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("one");
        if let Some(from) = from {
            socket.bind(&SocketAddr::new(from, 0).into()).expect("an address of this machine");
        }
        socket.connect(&address.into()).expect("the server listens");
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        stream.set_read_timeout(Some(SOON)).expect("a read time-out can be set");
        stream.set_write_timeout(Some(SOON)).expect("a write time-out can be set");
        let mut connection = Self { stream, session, out, failed: None };
        connection.flush()?;
        while !connection.read()? {}
        Ok(connection)
    }

    fn send_all(&mut self, script: Script, shared: &Shared) {
        self.stream.set_nonblocking(true).expect("a socket can be non-blocking");
        self.send(message::DATA_AMF0, Duration::ZERO, &metadata());
        self.send(message::VIDEO, Duration::ZERO, &VIDEO_CONFIG);
        if script.audio {
            self.send(message::AUDIO, Duration::ZERO, &AUDIO_CONFIG);
        }
        let start = Instant::now();
        let (mut next_video, mut next_audio) = (Duration::ZERO, Duration::ZERO);
        let mut number = 0;
        while !shared.stop.load(Ordering::Relaxed) {
            let is_audio = script.audio && next_audio < next_video;
            let at = if is_audio { next_audio } else { next_video };
            // The pace of an encoder.
            thread::sleep((start + at).saturating_duration_since(Instant::now()));
            if is_audio {
                let mut sound = [0x21; AUDIO_BYTES];
                sound[..2].copy_from_slice(&[0xAF, 1]);
                self.send(message::AUDIO, at, &sound);
                next_audio += AUDIO_INTERVAL;
                continue;
            }
            let is_keyframe = number % script.gop_frames == 0;
            let bytes = if is_keyframe { script.keyframe_bytes } else { script.inter_bytes };
            let stamp = Stamp { number, sent_nanos: now_nanos(), is_keyframe };
            self.send(message::VIDEO, at, &stamp.write(bytes));
            number += 1;
            shared.frames.store(number, Ordering::Relaxed);
            next_video += script.frame_interval;
        }
        self.session.close(&mut self.out);
        self.flush().expect("the server reads");
    }

    fn send(&mut self, type_id: u8, at: Duration, payload: &[u8]) {
        let timestamp_ms = u32::try_from(at.as_millis()).expect("the run is short");
        self.send_at(type_id, timestamp_ms, payload);
    }

    fn send_at(&mut self, type_id: u8, timestamp_ms: u32, payload: &[u8]) {
        self.try_send_at(type_id, timestamp_ms, payload)
            .unwrap_or_else(|why| panic!("the publisher cannot send: {why}"));
    }

    fn try_send_at(
        &mut self,
        type_id: u8,
        timestamp_ms: u32,
        payload: &[u8],
    ) -> Result<(), String> {
        self.session.publish_media(type_id, timestamp_ms, payload, &mut self.out);
        self.flush()?;
        self.read().map(|_| ())
    }

    /// Writes everything, also on a non-blocking socket.
    fn flush(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + SOON;
        let mut sent = 0;
        while sent < self.out.len() {
            match self.stream.write(&self.out[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "the server does not read");
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        self.out.clear();
        Ok(())
    }

    /// Takes what the server sent; true once it has accepted the stream. An error is the code of a
    /// refusal, or says that the connection has ended.
    fn read(&mut self) -> Result<bool, String> {
        let mut buffer = [0; 4096];
        let count = match self.stream.read(&mut buffer) {
            Ok(0) => return Err("closed".to_owned()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.to_string()),
        };
        let mut is_accepted = false;
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let progress = self.session.input(rest, &mut self.out).expect("the server speaks RTMP");
            rest = &rest[progress.consumed..];
            is_accepted |= progress.event == Some(ClientEvent::PublishStarted);
            if let Some(ClientEvent::Failed { code, description }) = progress.event {
                return Err(format!("{code} {description}"));
            }
        }
        self.flush()?;
        Ok(is_accepted)
    }
}

fn metadata() -> Vec<u8> {
    let mut payload = Vec::new();
    Value::from("@setDataFrame").encode(&mut payload);
    Value::from("onMetaData").encode(&mut payload);
    Value::ecma_array([("videocodecid", Value::from(7.0))]).encode(&mut payload);
    payload
}
