//! A thread of viewers: one epoll set, thousands of sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Protocol, State, Tally, Viewer, Window};
use crate::clock::{MILLISECOND_NS, now_ns};
use crate::control::Control;
use crate::poll::{Poll, Ready};
use crate::socket;
use crate::stream::Stream;

/// Bytes taken from a socket at a time, when they are read.
const BUFFER_BYTES: usize = 256 * 1024;
/// The longest wait for events.
const WAIT_NS: u64 = 20 * MILLISECOND_NS;

/// A viewer to be started.
#[derive(Clone, Debug)]
pub(crate) struct ViewerPlan {
    /// When.
    pub(crate) start_ns: u64,
    /// What it plays.
    pub(crate) stream: Arc<Stream>,
    /// How.
    pub(crate) protocol: Protocol,
    /// Whether it reads every message.
    pub(crate) is_sampled: bool,
    /// Whether it leaves with its first frame, and another one comes in its place.
    pub(crate) rejoins: bool,
    /// The server.
    pub(crate) address: SocketAddr,
    /// The server's name for headers and URLs.
    pub(crate) authority: Arc<str>,
    /// The source address, if it is not the system's choice.
    pub(crate) from: Option<IpAddr>,
}

/// What a thread tells while it runs.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Viewers begun.
    pub(crate) started: AtomicU64,
    /// Viewers with a keyframe.
    pub(crate) playing: AtomicU64,
    /// Viewers that failed or were ended.
    pub(crate) gone: AtomicU64,
    /// Bytes received.
    pub(crate) bytes: AtomicU64,
    /// While settling: viewers that have everything.
    pub(crate) complete: AtomicU64,
}

/// The thread's state.
#[derive(Debug)]
pub(crate) struct ViewerThread {
    /// In the order of their start.
    plans: std::vec::IntoIter<ViewerPlan>,
    next: Option<ViewerPlan>,
    viewers: Vec<Viewer>,
    /// In step with `viewers`: who comes when it leaves.
    successors: Vec<Option<ViewerPlan>>,
    control: Arc<Control>,
    counters: Arc<Counters>,
    poll: Poll,
    tally: Tally,
    seed: u64,
}

impl ViewerThread {
    /// A thread for these viewers.
    pub(crate) fn new(
        plans: Vec<ViewerPlan>,
        control: Arc<Control>,
        counters: Arc<Counters>,
        seed: u64,
    ) -> io::Result<Self> {
        let viewers = Vec::with_capacity(plans.len());
        let mut plans = plans.into_iter();
        Ok(Self {
            next: plans.next(),
            plans,
            viewers,
            successors: Vec::new(),
            control,
            counters,
            poll: Poll::new()?,
            tally: Tally::new(),
            seed,
        })
    }

    /// Runs until the control says that the run is over.
    pub(crate) fn run(mut self) -> io::Result<Tally> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut ready = Vec::new();
        let mut next_settle_ns = 0;
        while !self.control.are_viewers_finished() {
            let now = now_ns();
            let wait = self
                .next
                .as_ref()
                .map_or(WAIT_NS, |plan| plan.start_ns.saturating_sub(now).min(WAIT_NS));
            self.poll.wait(wait, &mut ready)?;
            let woken_ns = now_ns();
            let window = self.control.window();
            for event in ready.drain(..) {
                self.handle(event, &mut buffer, window);
            }
            self.start_due();
            let now = now_ns();
            if window.start_ns <= woken_ns && woken_ns < window.end_ns {
                self.tally.turn.saturating_record(now - woken_ns);
            }
            if self.control.is_settling() && now >= next_settle_ns {
                let complete = self
                    .viewers
                    .iter()
                    .filter(|viewer| viewer.state != State::Open || viewer.is_complete(now));
                self.counters.complete.store(complete.count() as u64, Ordering::Relaxed);
                next_settle_ns = now_ns() + WAIT_NS;
            }
        }
        let end_ns = self.control.window().end_ns.min(now_ns());
        for (viewer, successor) in self.viewers.iter_mut().zip(&self.successors) {
            // Who was about to join when the run ended is nobody's fault.
            if successor.is_none() || viewer.state != State::Open {
                self.tally.add_viewer(viewer, end_ns);
            }
        }
        Ok(self.tally)
    }

    fn start_due(&mut self) {
        while let Some(plan) = self.next.take_if(|plan| plan.start_ns <= now_ns()) {
            self.next = self.plans.next();
            self.start(&plan);
        }
    }

    fn start(&mut self, plan: &ViewerPlan) {
        if self.control.is_settling() {
            return;
        }
        self.counters.started.fetch_add(1, Ordering::Relaxed);
        if let Some(viewer) = self.connect(plan, self.viewers.len() as u64) {
            self.viewers.push(viewer);
            self.successors.push(plan.rejoins.then(|| plan.clone()));
        }
    }

    fn connect(&mut self, plan: &ViewerPlan, token: u64) -> Option<Viewer> {
        let socket = match socket::connect(plan.address, plan.from) {
            Ok(socket) => socket,
            Err(error) => {
                self.tally.failed(&format!("the connection failed: {error}"));
                self.tally.started += 1;
                self.tally.without_media += 1;
                self.counters.gone.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        };
        if plan.is_sampled {
            // Without it, latencies are longer by how late they are read.
            let _ = crate::poll::note_arrivals(socket.as_raw_fd());
        }
        let added = self.poll.add(socket.as_raw_fd(), token, true);
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut viewer = Viewer::new(
            Arc::clone(&plan.stream),
            plan.protocol,
            plan.is_sampled,
            socket,
            &plan.authority,
            self.seed,
            now_ns(),
        );
        if let Err(error) = added {
            viewer.state = State::Failed(format!("epoll refused a socket: {error}"));
        }
        Some(viewer)
    }

    /// A viewer has its first frame: it leaves, and its successor comes.
    fn leave(&mut self, token: u64, window: Window) {
        let Some(viewer) = self.viewers.get_mut(token as usize) else { return };
        let joined_ns = viewer.first_frame_ns.unwrap_or_default();
        self.tally.started += 1;
        self.tally.played += 1;
        if window.start_ns <= joined_ns && joined_ns < window.end_ns {
            self.tally.joins += 1;
            self.tally.first_frame.saturating_record(joined_ns.saturating_sub(viewer.started_ns));
        }
        let _ = self.poll.remove(viewer.socket.as_raw_fd());
        let Some(plan) = self.successors.get(token as usize).cloned().flatten() else { return };
        if !self.control.is_settling()
            && let Some(next) = self.connect(&plan, token)
        {
            self.viewers[token as usize] = next;
        } else if let Some(viewer) = self.viewers.get_mut(token as usize) {
            // Level-triggered or not, nothing is read from it any more.
            let _ = viewer.socket.shutdown(std::net::Shutdown::Both);
        }
    }

    fn handle(&mut self, event: Ready, buffer: &mut [u8], window: Window) {
        let Some(viewer) = self.viewers.get_mut(event.token as usize) else { return };
        if viewer.state != State::Open {
            return;
        }
        let had_frame = viewer.first_frame_ns.is_some();
        let bytes_before = viewer.bytes;
        let latency = &mut self.tally.latency;
        let mut result = Ok(());
        if event.readable {
            result = viewer.receive(buffer, now_ns, &mut |track, due_ns, received_ns| {
                if window.start_ns <= due_ns && due_ns < window.end_ns {
                    let latency_ns = received_ns.saturating_sub(due_ns);
                    latency[track.index()].saturating_record(latency_ns);
                }
            });
        }
        if result.is_ok() && (event.writable || !viewer.to_send.is_empty()) {
            result = viewer.send().and_then(|is_left| {
                if is_left == event.writable {
                    return Ok(());
                }
                self.poll
                    .change(viewer.socket.as_raw_fd(), event.token, is_left)
                    .map_err(|error| format!("epoll refused a socket: {error}"))
            });
        }
        if let Err(reason) = result {
            viewer.state = State::Failed(reason);
        }
        if viewer.state != State::Open {
            // Level-triggered, a dead socket would be reported for ever.
            let _ = viewer.socket.shutdown(std::net::Shutdown::Both);
            let _ = self.poll.remove(viewer.socket.as_raw_fd());
            self.counters.gone.fetch_add(1, Ordering::Relaxed);
        }
        self.counters.bytes.fetch_add(viewer.bytes - bytes_before, Ordering::Relaxed);
        if !had_frame && viewer.first_frame_ns.is_some() {
            self.counters.playing.fetch_add(1, Ordering::Relaxed);
            if viewer.state == State::Open
                && self.successors.get(event.token as usize).is_some_and(Option::is_some)
            {
                self.leave(event.token, window);
            }
        }
    }
}
