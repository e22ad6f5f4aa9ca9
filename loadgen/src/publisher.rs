//! Publishers: frames leave on an absolute schedule, whatever the server does.
//!
//! The schedule is open-loop: a frame's intended send time depends on the start and its number
//! alone. A frame that cannot be written waits in the publisher's queue, and the viewers' latency
//! counts from the intended time, so a slow server cannot make itself look fast by slowing us.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use shardcast::proto::amf0::Value;
use shardcast::proto::rtmp::client::{ClientConfig, ClientEvent, ClientSession, Role};
use shardcast::proto::rtmp::message;

use crate::clock::{MILLISECOND_NS, SECOND_NS, now_ns, real_ns};
use crate::control::Control;
use crate::histogram::latency_histogram;
use crate::poll::{Poll, Ready};
use crate::published::Record;
use crate::socket;
use crate::source::{Headers, Material, Source};
use crate::stream::Stream;

/// How long the server may take for each answer before publishing begins.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Chunks of what we send: frames in few pieces.
const CHUNK_SIZE: u32 = 60_000;
/// The longest wait for events.
const WAIT_NS: u64 = 20 * MILLISECOND_NS;
/// A server that leaves so many bytes unread has lost its publisher.
const QUEUE_BYTES_MAX: usize = 256 << 20;
/// How long queued frames may take to leave when the run ends.
const FLUSH_NS: u64 = 5 * SECOND_NS;

/// An accepted publisher that has not begun.
#[derive(Debug)]
pub(crate) struct Publisher {
    stream: Arc<Stream>,
    socket: TcpStream,
    session: ClientSession,
    source: Source,
    queue: Vec<u8>,
    sent: usize,
    waits_for_room: bool,
    start_ns: u64,
    frames: u64,
    failure: Option<String>,
}

/// What publishers tell while they run.
#[derive(Debug, Default)]
pub(crate) struct PublisherCounters {
    /// Frames sent.
    pub(crate) frames: AtomicU64,
    /// Bytes written.
    pub(crate) bytes: AtomicU64,
    /// Publishers that failed.
    pub(crate) failed: AtomicU64,
    /// Everything due has left.
    pub(crate) flushed: AtomicBool,
}

/// What publishers found.
#[derive(Debug)]
pub(crate) struct PublisherTally {
    /// From the intended send time to the moment before the write, in the window.
    pub(crate) lateness: Histogram<u64>,
    /// The most bytes that waited in one publisher for the server to read.
    pub(crate) queue_bytes_max: u64,
    /// Why publishers failed.
    pub(crate) failures: Vec<String>,
    /// Frames sent.
    pub(crate) frames: u64,
}

/// The thread of all publishers.
#[derive(Debug)]
pub(crate) struct PublisherThread {
    publishers: Vec<Publisher>,
    control: Arc<Control>,
    counters: Arc<PublisherCounters>,
    poll: Poll,
    tally: PublisherTally,
}

impl Publisher {
    /// Connects, is accepted, and sends the headers.
    ///
    /// # Errors
    /// A sentence: the server cannot be reached, refuses, or is silent.
    pub(crate) fn open(
        stream: Arc<Stream>,
        material: &Material,
        address: SocketAddr,
        authority: &str,
        from: Option<IpAddr>,
    ) -> Result<Self, String> {
        let name = stream.name.clone();
        let fail = |what: &dyn std::fmt::Display| format!("publishing {name} failed: {what}");
        let socket = socket::connect(address, from).map_err(|error| fail(&error))?;
        socket.set_nonblocking(false).map_err(|error| fail(&error))?;
        socket.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(|error| fail(&error))?;
        let session = ClientSession::new(ClientConfig {
            app: stream.app.clone(),
            tc_url: format!("rtmp://{authority}/{}", stream.app),
            stream: stream.name.clone(),
            role: Role::Publish,
            flash_version: "FMLE/3.0 (compatible; loadgen)".to_owned(),
            digest: false,
            connect_properties: Vec::new(),
            connect_args: Vec::new(),
            chunk_size: CHUNK_SIZE,
            seed: u64::from(stream.index) + 1,
        });
        let mut publisher = Self {
            source: Source::new(material.clone(), stream.index),
            stream,
            socket,
            session,
            queue: Vec::new(),
            sent: 0,
            waits_for_room: false,
            start_ns: 0,
            frames: 0,
            failure: None,
        };
        publisher.wait_until_accepted().map_err(|what| fail(&what))?;
        publisher.queue_headers(material);
        publisher.socket.write_all(&publisher.queue).map_err(|error| fail(&error))?;
        publisher.queue.clear();
        publisher.socket.set_nonblocking(true).map_err(|error| fail(&error))?;
        Ok(publisher)
    }

    fn wait_until_accepted(&mut self) -> Result<(), String> {
        let mut out = Vec::new();
        let mut buffer = [0; 4096];
        self.session.start(&mut out);
        loop {
            self.socket.write_all(&out).map_err(|error| error.to_string())?;
            out.clear();
            let count = match self.socket.read(&mut buffer) {
                Ok(0) => return Err("the server closed the connection".to_owned()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(format!(
                        "the server was silent for {} seconds",
                        ANSWER_TIMEOUT.as_secs()
                    ));
                }
                Err(error) => return Err(error.to_string()),
            };
            let mut accepted = false;
            let mut rest = &buffer[..count];
            loop {
                let progress =
                    self.session.input(rest, &mut out).map_err(|error| error.to_string())?;
                rest = &rest[progress.consumed..];
                match progress.event {
                    None => break,
                    Some(ClientEvent::PublishStarted) => accepted = true,
                    Some(ClientEvent::Failed { code, description }) => {
                        return Err(format!("the server refused: {description} ({code})"));
                    }
                    Some(_) => {}
                }
            }
            if accepted {
                self.queue.append(&mut out);
                return Ok(());
            }
        }
    }

    fn queue_headers(&mut self, material: &Material) {
        let Headers { metadata, configurations } = material.headers();
        if let Some(body) = metadata {
            let mut payload = Vec::new();
            Value::from("@setDataFrame").encode(&mut payload);
            payload.extend(body);
            self.session.publish_media(message::DATA_AMF0, 0, &payload, &mut self.queue);
        }
        for (track, payload) in configurations {
            self.session.publish_media(track.type_id(), 0, &payload, &mut self.queue);
        }
    }

    fn next_due_ns(&self) -> u64 {
        self.start_ns + self.source.next_due_ns()
    }

    /// Queues the frame that is due.
    fn queue_frame(&mut self, payload: &mut Vec<u8>) {
        let due_ns = self.next_due_ns();
        let frame = self.source.take(real_ns(due_ns), payload);
        self.stream.published.enter(
            frame.track,
            payload.len(),
            Record {
                number: self.frames,
                track_number: frame.track_number,
                timestamp_ms: frame.timestamp_ms,
                crc: frame.crc,
                due_ns,
            },
        );
        self.frames += 1;
        let type_id = frame.track.type_id();
        self.session.publish_media(type_id, frame.timestamp_ms, payload, &mut self.queue);
    }

    /// Bytes that the socket did not take.
    fn waiting_bytes(&self) -> usize {
        self.queue.len() - self.sent
    }

    /// Writes what waits, as far as there is room.
    fn write(&mut self) -> Result<u64, String> {
        let mut total = 0;
        while self.sent < self.queue.len() {
            match self.socket.write(&self.queue[self.sent..]) {
                Ok(count) => {
                    self.sent += count;
                    total += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("the connection broke: {error}")),
            }
        }
        if self.sent == self.queue.len() {
            self.queue.clear();
            self.sent = 0;
        } else if self.sent > self.queue.len() / 2 {
            self.queue.drain(..self.sent);
            self.sent = 0;
        }
        if self.waiting_bytes() > QUEUE_BYTES_MAX {
            return Err(format!(
                "the server leaves more than {} MiB unread",
                QUEUE_BYTES_MAX >> 20
            ));
        }
        Ok(total)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), String> {
        let count = match self.socket.read(buffer) {
            Ok(0) => return Err("the server closed the connection".to_owned()),
            Ok(count) => count,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(format!("the connection broke: {error}")),
        };
        let mut rest = &buffer[..count];
        loop {
            let progress =
                self.session.input(rest, &mut self.queue).map_err(|error| error.to_string())?;
            rest = &rest[progress.consumed..];
            match progress.event {
                None => return Ok(()),
                Some(ClientEvent::Failed { code, description }) => {
                    return Err(format!("the server ended it: {description} ({code})"));
                }
                Some(_) => {}
            }
        }
    }
}

impl PublisherThread {
    /// A thread for accepted publishers, which begin at `start_ns`, spread over one frame.
    pub(crate) fn new(
        mut publishers: Vec<Publisher>,
        material: &Material,
        start_ns: u64,
        control: Arc<Control>,
        counters: Arc<PublisherCounters>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let count = publishers.len() as u64;
        for (index, publisher) in publishers.iter_mut().enumerate() {
            let offset_ns = material.frame_interval_ns() * index as u64 / count;
            publisher.start_ns = start_ns + offset_ns;
            poll.add(publisher.socket.as_raw_fd(), index as u64, false)?;
        }
        let tally = PublisherTally {
            lateness: latency_histogram(),
            queue_bytes_max: 0,
            failures: Vec::new(),
            frames: 0,
        };
        Ok(Self { publishers, control, counters, poll, tally })
    }

    /// Publishes until the window closes, flushes, waits until the run is over, says goodbye.
    pub(crate) fn run(mut self) -> io::Result<PublisherTally> {
        let mut due: BinaryHeap<Reverse<(u64, usize)>> = self
            .publishers
            .iter()
            .enumerate()
            .map(|(index, publisher)| Reverse((publisher.next_due_ns(), index)))
            .collect();
        let mut ready = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut payload = Vec::new();
        while !self.control.are_publishers_finished() {
            let window = self.control.window();
            while let Some(Reverse((due_ns, index))) = due.peek().copied()
                && due_ns < window.end_ns
            {
                let now = now_ns();
                if due_ns > now {
                    break;
                }
                due.pop();
                let publisher = &mut self.publishers[index];
                if publisher.failure.is_some() {
                    continue;
                }
                publisher.queue_frame(&mut payload);
                if due_ns >= window.start_ns {
                    self.tally.lateness.saturating_record(now - due_ns);
                }
                due.push(Reverse((publisher.next_due_ns(), index)));
                self.counters.frames.fetch_add(1, Ordering::Relaxed);
                self.write(index);
            }
            if due.peek().is_none_or(|Reverse((due_ns, _))| *due_ns >= window.end_ns) {
                self.flushed_by(window.end_ns.saturating_add(FLUSH_NS));
            }
            let wait = due.peek().map_or(WAIT_NS, |Reverse((due_ns, _))| {
                due_ns.saturating_sub(now_ns()).min(WAIT_NS)
            });
            // Past the end of the window nothing is due.
            let wait = if now_ns() >= window.end_ns { WAIT_NS } else { wait };
            self.poll.wait(wait, &mut ready)?;
            for event in ready.drain(..) {
                self.handle(event, &mut buffer);
            }
        }
        self.say_goodbye();
        Ok(self.tally)
    }

    fn flushed_by(&self, deadline_ns: u64) {
        let is_flushed = self
            .publishers
            .iter()
            .all(|publisher| publisher.failure.is_some() || publisher.waiting_bytes() == 0);
        if is_flushed || now_ns() > deadline_ns {
            self.counters.flushed.store(true, Ordering::Release);
        }
    }

    fn handle(&mut self, event: Ready, buffer: &mut [u8]) {
        let index = event.token as usize;
        let publisher = &mut self.publishers[index];
        if publisher.failure.is_some() {
            return;
        }
        if event.readable
            && let Err(reason) = publisher.read(buffer)
        {
            self.fail(index, reason);
        } else {
            self.write(index);
        }
    }

    fn write(&mut self, index: usize) {
        let publisher = &mut self.publishers[index];
        match publisher.write() {
            Ok(bytes) => {
                self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
                let waiting = publisher.waiting_bytes();
                self.tally.queue_bytes_max = self.tally.queue_bytes_max.max(waiting as u64);
                let waits = waiting > 0;
                if waits != publisher.waits_for_room {
                    publisher.waits_for_room = waits;
                    let fd = publisher.socket.as_raw_fd();
                    if let Err(error) = self.poll.change(fd, index as u64, waits) {
                        self.fail(index, format!("epoll refused a socket: {error}"));
                    }
                }
            }
            Err(reason) => self.fail(index, reason),
        }
    }

    fn fail(&mut self, index: usize, reason: String) {
        let publisher = &mut self.publishers[index];
        // The socket would be reported for ever.
        let _ = self.poll.remove(publisher.socket.as_raw_fd());
        self.tally.failures.push(format!("publisher {}: {reason}", publisher.stream.name));
        publisher.failure = Some(reason);
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn say_goodbye(&mut self) {
        for publisher in &mut self.publishers {
            self.tally.frames += publisher.frames;
            if publisher.failure.is_none() {
                let mut out = Vec::new();
                publisher.session.close(&mut out);
                // The run is judged already; a server that is gone by now misses nothing.
                let _ = publisher.socket.write_all(&out);
            }
        }
    }
}
