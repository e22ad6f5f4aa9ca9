//! Many encoders and many players that go on whatever happens to servers: an encoder that loses its server
//! goes to the next one, a player notes how long it had to wait.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use shardcast::proto::rtmp::message;

use super::publisher::{Feed, VIDEO_CONFIG};
use super::stamp::{Stamp, is_config, now_nanos};
use super::viewer::{Received, Viewer};

/// Between two frames; each is a keyframe, so that players need not wait for one.
pub(crate) const FRAME_INTERVAL: Duration = Duration::from_millis(250);
/// How often players are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Between two attempts of an encoder that is refused.
const RETRY: Duration = Duration::from_millis(100);

/// An encoder that sends small stamped frames, each with a higher number than the last.
pub(crate) struct Encoder {
    shared: Arc<EncoderState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct EncoderState {
    is_over: AtomicBool,
    accepted: AtomicU64,
    /// Where it goes when it has to; empty: nowhere.
    next: Mutex<Option<SocketAddr>>,
    why: Mutex<Option<String>>,
}

impl Encoder {
    /// Publishes at once; numbers begin with `first`.
    pub(crate) fn start(address: SocketAddr, stream: &str, first: u64, bytes: usize) -> Self {
        let shared = Arc::new(EncoderState::default());
        let (state, stream) = (Arc::clone(&shared), stream.to_owned());
        let thread = thread::spawn(move || encode(address, &stream, first, bytes, &state));
        Self { shared, thread: Some(thread) }
    }

    /// Where it goes when it loses its server.
    pub(crate) fn goes_to(&self, address: SocketAddr) {
        *lock(&self.shared.next) = Some(address);
    }

    /// How often a server has accepted it.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Why it has ended, if it has.
    pub(crate) fn end(&self) -> Option<String> {
        lock(&self.shared.why).clone()
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "an encoder failed");
        }
    }
}

fn encode(mut address: SocketAddr, stream: &str, first: u64, bytes: usize, state: &EncoderState) {
    let mut number = first;
    let begin = Instant::now();
    let is_over = || state.is_over.load(Ordering::Relaxed);
    while !is_over() {
        let mut feed = match Feed::try_start(address, stream, None) {
            Ok(feed) => feed,
            Err(why) => {
                *lock(&state.why) = Some(why);
                thread::sleep(RETRY);
                continue;
            }
        };
        *lock(&state.why) = None;
        state.accepted.fetch_add(1, Ordering::Relaxed);
        let now_ms = || u32::try_from(begin.elapsed().as_millis()).expect("the run is short");
        let mut goes_on = feed.try_send(message::VIDEO, now_ms(), &VIDEO_CONFIG);
        while goes_on && !is_over() {
            let stamp = Stamp { number, sent_nanos: now_nanos(), is_keyframe: true };
            goes_on = feed.try_send(message::VIDEO, now_ms(), &stamp.write(bytes));
            number += 1;
            thread::sleep(FRAME_INTERVAL);
        }
        if is_over() {
            return feed.say_goodbye();
        }
        *lock(&state.why) = Some(feed.end());
        match lock(&state.next).take() {
            Some(next) => address = next,
            None => return,
        }
    }
}

/// Players, many per server.
pub(crate) struct Audience {
    shared: Arc<Mutex<Seats>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seats {
    seats: Vec<Seat>,
    faults: Vec<String>,
}

struct Seat {
    server: usize,
    stream: String,
    viewer: Viewer,
    last: Option<u64>,
    last_at: Instant,
    longest_gap: Duration,
}

impl Audience {
    pub(crate) fn start() -> Self {
        let (shared, is_over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (seats, over): (Arc<Mutex<Seats>>, _) = (Arc::clone(&shared), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                {
                    let mut seats = lock(&seats);
                    let Seats { seats, faults } = &mut *seats;
                    seats.iter_mut().for_each(|seat| seat.look(faults));
                }
                thread::sleep(LOOK_INTERVAL);
            }
        });
        Self { shared, is_over, thread: Some(thread) }
    }

    /// A player of `stream` on a server, which `number` stands for.
    pub(crate) fn join(&self, number: usize, address: SocketAddr, stream: &str) {
        let seat = Seat {
            server: number,
            stream: stream.to_owned(),
            viewer: Viewer::rtmp(address, stream),
            last: None,
            last_at: Instant::now(),
            longest_gap: Duration::ZERO,
        };
        lock(&self.shared).seats.push(seat);
    }

    /// A server is about to end: its players go.
    pub(crate) fn leave(&self, server: usize) {
        lock(&self.shared).seats.retain(|seat| seat.server != server);
    }

    /// Players that have seen a frame with this number or a later one.
    pub(crate) fn have_seen(&self, wanted: impl Fn(&str) -> u64) -> usize {
        let seats = lock(&self.shared);
        seats.seats.iter().filter(|seat| seat.last >= Some(wanted(&seat.stream))).count()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        lock(&self.shared).seats.len()
    }

    /// The longest that a player has waited for a frame since the last call, or waits now; by stream.
    pub(crate) fn take_gaps(&self) -> BTreeMap<String, Duration> {
        let mut gaps = BTreeMap::new();
        for seat in &mut lock(&self.shared).seats {
            let gap = std::mem::take(&mut seat.longest_gap).max(seat.last_at.elapsed());
            let longest = gaps.entry(seat.stream.clone()).or_insert(Duration::ZERO);
            *longest = gap.max(*longest);
        }
        gaps
    }

    /// Nothing was damaged, doubled or out of order, and nobody was sent away.
    pub(crate) fn assert_no_faults(&self) {
        let faults = &lock(&self.shared).faults;
        assert!(faults.is_empty(), "{} faults: {:?}", faults.len(), &faults[..faults.len().min(5)]);
    }
}

impl Drop for Audience {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the audience failed");
        }
    }
}

impl Seat {
    fn look(&mut self, faults: &mut Vec<String>) {
        self.viewer.pump();
        let (server, stream) = (self.server, self.stream.as_str());
        while let Some(received) = self.viewer.take() {
            match received {
                Received::Message { type_id: message::VIDEO, payload, .. }
                    if !is_config(&payload) =>
                {
                    // Checks every byte.
                    let number = Stamp::read(&payload).number;
                    if self.last.is_some_and(|last| last >= number) {
                        faults
                            .push(format!("{stream} on {server}: {number} after {:?}", self.last));
                    }
                    self.longest_gap = self.longest_gap.max(self.last_at.elapsed());
                    (self.last, self.last_at) = (Some(number), Instant::now());
                }
                Received::Failed(code) => faults.push(format!("{stream} on {server}: {code}")),
                _ => {}
            }
        }
        if self.viewer.is_closed() {
            let fault = format!("{stream} on {server}: closed");
            if faults.last() != Some(&fault) {
                faults.push(fault);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
