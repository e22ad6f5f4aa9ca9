//! The egress pass: every viewer that is behind gets one send from its cursor to the end of its log. The
//! viewers of all logs that are due together share the batches of sends, however few each has.
//!
//! Nothing here allocates, formats or looks up a name per frame or per viewer. A refused send costs
//! its viewer a pause that grows over turns; nobody else waits for it.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use super::conns::ConnTable;
use super::histogram::Histogram;
use super::messages::ConnKey;
use super::viewers::{LogState, Viewer};
use crate::config::AppSettings;
use crate::limits;
use crate::media::{Moment, SegmentPool, Skipped, Wire};
use crate::rt::clock;
use crate::rt::egress::{Egress, SendItem, recycle};
use crate::rt::executor::yield_if_needed;
use crate::session::CloseReason;

/// The longest pause after refused sends.
const BACK_OFF_MAX: Duration = Duration::from_millis(100);
/// The first pause after a refused send.
const BACK_OFF_MIN: Duration = Duration::from_millis(2);
/// Who takes at least this of a send empties its socket and is tried again soon: such sends are few per
/// byte, and a longer pause would hold the viewer to one socket buffer per pause.
const PROGRESS_BYTES: usize = 8 * 1024;

/// A send costs as much as so many bytes of it (4.0 µs, and 0.137 µs per kB over loopback).
const SEND_COST_BYTES: usize = 29 * 1024;

/// Counts of the egress of one shard.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct EgressCounters {
    /// Passes over a log.
    pub passes: u64,
    /// Sends handed to the kernel.
    pub sends: u64,
    /// Bytes that it took.
    pub send_bytes: u64,
    /// Of these, those of RTMP.
    pub rtmp_bytes: u64,
    /// Those of WebSockets; the rest is HTTP-FLV's.
    pub websocket_bytes: u64,
    /// Sends that it took only partly or not at all.
    pub sends_refused: u64,
    /// Viewers moved forward because they were too slow.
    pub skips: u64,
    /// Of these, those that had to wait for the next keyframe.
    pub skips_waiting: u64,
    /// Viewers closed because they took nothing.
    pub stalled: u64,
    /// Turns whose passes were put off because the shard had no CPU time left.
    pub flush_late: u64,
}

/// What a pass works with; kept between passes for its memory.
#[derive(Debug)]
pub struct Pass {
    egress: Egress,
    items: Vec<SendItem<'static>>,
    results: Vec<io::Result<usize>>,
    /// Viewers served by the current slice, in step with `items`.
    targets: Vec<Target>,
    /// Number of the current slice.
    slice: u64,
    worklist: Vec<Behind>,
    /// Memory for the list of what is due.
    pub(super) due: Vec<DueLog<'static>>,
    /// Counts.
    pub counters: EgressCounters,
    /// How old the first frame of each send was when the kernel took it.
    pub frame_age: Histogram,
    /// Connections that the pass found dead.
    pub dead: Vec<(ConnKey, CloseReason)>,
    /// Connections that were moved forward, for the log.
    pub skipped: Vec<(ConnKey, Skipped, u64)>,
    /// When the turn began by the clock on the wall, which tests do not set.
    pub wall: Moment,
    /// CPU time of this thread.
    pub(super) cpu: fn() -> Duration,
}

/// A log whose viewers a pass serves.
#[derive(Debug)]
pub struct DueLog<'a> {
    state: &'a mut LogState,
    settings: &'a AppSettings,
    scope: Scope,
    /// CPU time of its sends.
    cpu: Duration,
}

impl<'a> DueLog<'a> {
    /// With the settings of its stream.
    pub const fn new(state: &'a mut LogState, settings: &'a AppSettings, scope: Scope) -> Self {
        Self { state, settings, scope, cpu: Duration::ZERO }
    }

    /// How many viewers the log has.
    pub(super) fn viewers(&self) -> usize {
        self.state.viewers.len()
    }
}

/// A viewer that is behind, by the places of its log in the pass and of itself in the log.
#[derive(Clone, Copy, Debug)]
struct Behind {
    log: u32,
    viewer: u32,
}

#[derive(Clone, Copy, Debug)]
struct Target {
    behind: Behind,
    len: usize,
    source: Source,
}

impl Target {
    /// How much its send costs, in bytes.
    const fn weight(&self) -> usize {
        SEND_COST_BYTES + self.len
    }
}

/// Where viewers of one batch stand in a log, and how old the frame there is.
struct Place {
    log: u32,
    at: u64,
    age: Duration,
    viewers: u64,
}

impl Place {
    fn record_in(&self, ages: &mut Histogram) {
        if self.viewers > 0 {
            ages.record(self.age, self.viewers);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Log,
    Out,
}

/// Which viewers of a log a pass serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All: the log is due.
    All,
    /// Those whose socket was full, and those that just began.
    Waiting,
}

impl Pass {
    /// With its way to the kernel.
    pub fn new(egress: Egress) -> Self {
        Self {
            egress,
            items: Vec::new(),
            results: Vec::new(),
            targets: Vec::new(),
            slice: 0,
            worklist: Vec::new(),
            due: Vec::new(),
            counters: EgressCounters::default(),
            frame_age: Histogram::default(),
            dead: Vec::new(),
            skipped: Vec::new(),
            wall: Moment::ZERO,
            cpu: clock::thread_cpu,
        }
    }

    /// The way to the kernel.
    pub fn egress(&self) -> &Egress {
        &self.egress
    }

    /// Serves the viewers of logs and gives back memory that nobody needs any more.
    pub async fn run(
        &mut self,
        due: &mut [DueLog<'_>],
        conns: &mut ConnTable,
        pool: &mut SegmentPool,
        now: Moment,
    ) {
        self.worklist.clear();
        for (log, due) in due.iter_mut().enumerate() {
            self.counters.passes += 1;
            self.select(log as u32, due.state, due.settings, due.scope, now);
        }
        let mut before = (self.cpu)();
        while !self.worklist.is_empty() {
            let mut from = 0;
            while from < self.worklist.len() {
                from = self.send_slice(from, due, conns, now);
                self.settle(due, conns, now);
                let after = (self.cpu)();
                self.charge(due, after.saturating_sub(before));
                before = after;
                yield_if_needed().await;
            }
            self.keep_unfinished(due, conns, now);
        }
        for due in due {
            if due.scope == Scope::All {
                due.state.pass_length.lasted(due.cpu);
            }
            finish(due.state, pool);
        }
    }

    /// Shares what a slice has cost out among the logs in it.
    fn charge(&self, due: &mut [DueLog<'_>], cost: Duration) {
        let all: usize = self.targets.iter().map(Target::weight).sum();
        for of_log in self.targets.chunk_by(|a, b| a.behind.log == b.behind.log) {
            let own: usize = of_log.iter().map(Target::weight).sum();
            due[of_log[0].behind.log as usize].cpu += cost.mul_f64(own as f64 / all as f64);
        }
    }

    /// Puts those who are behind on the worklist and applies the drop policy.
    fn select(
        &mut self,
        log: u32,
        state: &mut LogState,
        settings: &AppSettings,
        scope: Scope,
        now: Moment,
    ) {
        let late = state.log.position_of(now - settings.viewer_max_lag);
        let lost = state.log.lost_limit(now - settings.log_reach);
        for (index, viewer) in state.viewers.iter_mut().enumerate() {
            viewer.pass_bytes = 0;
            viewer.may_go_on = false;
            let late = if viewer.max_lag == settings.viewer_max_lag {
                late
            } else {
                state.log.position_of(now - viewer.max_lag)
            };
            let limit = if viewer.late_from <= now { late.max(lost) } else { lost };
            if viewer.cursor.is_before(limit) {
                let lag_bytes = viewer.cursor.lag_bytes(&state.log);
                let skipped = viewer.cursor.skip(&state.log);
                self.counters.skips += 1;
                viewer.skips_untold += 1;
                match skipped {
                    Skipped::ToJoinPoint => viewer.late_from = now + viewer.max_lag,
                    Skipped::Waits => {
                        self.counters.skips_waiting += 1;
                        state.waiting += 1;
                        viewer.waiting_since = now;
                    }
                }
                if viewer.cursor.is_caught_up(&state.log) {
                    // Nothing is offered to it until the next join point, so it refuses nothing.
                    viewer.blocked_since = None;
                }
                if self.skipped.len() < self.skipped.capacity().max(64) {
                    self.skipped.push((viewer.connection, skipped, lag_bytes));
                }
            }
            if viewer.next_try > now || viewer.cursor.is_caught_up(&state.log) {
                continue;
            }
            let wanted = scope == Scope::All || viewer.next_try != Moment::ZERO || viewer.is_eager;
            viewer.is_eager = false;
            if wanted {
                self.worklist.push(Behind { log, viewer: index as u32 });
            }
        }
        state.has_eager = false;
        if scope == Scope::All {
            state.due = None;
        }
    }

    /// One batch of sends from the worklist; returns how far it came.
    fn send_slice(
        &mut self,
        from: usize,
        due: &[DueLog<'_>],
        conns: &ConnTable,
        now: Moment,
    ) -> usize {
        self.slice += 1;
        let mut items = recycle(std::mem::take(&mut self.items));
        self.targets.clear();
        let mut at = from;
        while at < self.worklist.len() && items.len() < limits::SENDS_PER_SLICE_MAX {
            let behind = self.worklist[at];
            let state = &*due[behind.log as usize].state;
            let viewer = &state.viewers[behind.viewer as usize];
            let Some(conn) = conns.get(viewer.connection) else {
                at += 1;
                continue;
            };
            if conn.slice.get() == self.slice {
                // It plays more than once: what it may be sent next depends on what it takes now.
                break;
            }
            at += 1;
            let is_blocked = conn.closing.is_some()
                || conn.out_next_try > now
                || conn.mid_message.is_some_and(|id| id != viewer.message_stream_id);
            if is_blocked {
                continue;
            }
            let (bytes, source) = if conn.out.is_empty() {
                (viewer.cursor.next(&state.log, limits::SEND_BYTES_PER_PASS_MAX), Source::Log)
            } else if viewer.cursor.at_boundary(&state.log) {
                ([&conn.out[..], &[]], Source::Out)
            } else {
                let max = limits::SEND_BYTES_PER_PASS_MAX;
                (viewer.cursor.next_within_message(&state.log, max), Source::Log)
            };
            let len = bytes[0].len() + bytes[1].len();
            if len > 0 {
                items.push(SendItem { fd: conn.as_fd(), bytes });
                self.targets.push(Target { behind, len, source });
                conn.slice.set(self.slice);
            }
        }
        self.counters.sends += items.len() as u64;
        self.egress.send_batch(&items, &mut self.results);
        self.items = recycle(items);
        at
    }

    /// Takes the kernel's answers in.
    fn settle(&mut self, due: &mut [DueLog<'_>], conns: &mut ConnTable, now: Moment) {
        let elapsed = clock::now().since(self.wall);
        // Most viewers of a log stand at one place: it is looked up, and its age is recorded, once.
        let mut place = Place { log: 0, at: u64::MAX, age: Duration::ZERO, viewers: 0 };
        for (target, result) in self.targets.iter().zip(self.results.drain(..)) {
            let Behind { log, viewer } = target.behind;
            let state = &mut *due[log as usize].state;
            let viewer = &mut state.viewers[viewer as usize];
            let Some(conn) = conns.get_mut(viewer.connection) else { continue };
            let sent = match result {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => {
                    self.dead.push((viewer.connection, CloseReason::PeerClosed));
                    continue;
                }
            };
            if sent > 0 {
                self.counters.send_bytes += sent as u64;
                state.sent_bytes += sent as u64;
                match state.log.wire() {
                    Wire::Rtmp { .. } | Wire::Relay { .. } => {
                        self.counters.rtmp_bytes += sent as u64
                    }
                    Wire::WsFlv => self.counters.websocket_bytes += sent as u64,
                    Wire::Flv => {}
                }
                conn.skips += std::mem::take(&mut viewer.skips_untold);
                viewer.pass_bytes += sent;
                viewer.blocked_since = None;
                match target.source {
                    Source::Out => conn.out_sent(sent),
                    Source::Log => {
                        conn.bytes_out += sent as u64;
                        if let Some(position) = viewer.cursor.needs() {
                            if place.at != position || place.log != log {
                                place.record_in(&mut self.frame_age);
                                let arrival = state.log.arrival_at(position).unwrap_or(now);
                                let age = now.since(arrival) + elapsed;
                                place = Place { log, at: position, age, viewers: 0 };
                            }
                            place.viewers += 1;
                        }
                        viewer.cursor.advance(sent);
                    }
                }
                let at_boundary = viewer.cursor.at_boundary(&state.log);
                conn.mid_message = (!at_boundary).then_some(viewer.message_stream_id);
            }
            if sent == target.len {
                viewer.refusals = 0;
                viewer.next_try = Moment::ZERO;
                viewer.may_go_on = viewer.pass_bytes < limits::SEND_BYTES_PER_PASS_MAX;
            } else {
                self.counters.sends_refused += 1;
                if sent >= PROGRESS_BYTES {
                    viewer.refusals = 0;
                }
                refused(viewer, now);
                conn.refused_until = viewer.next_try;
            }
        }
        place.record_in(&mut self.frame_age);
    }

    /// Leaves in the worklist those that took all that was offered and have more to come.
    fn keep_unfinished(&mut self, due: &mut [DueLog<'_>], conns: &ConnTable, now: Moment) {
        self.worklist.retain(|behind| {
            let state = &mut *due[behind.log as usize].state;
            let viewer = &mut state.viewers[behind.viewer as usize];
            if viewer.cursor.is_caught_up(&state.log) || viewer.next_try > now {
                return false;
            }
            if std::mem::take(&mut viewer.may_go_on) {
                return true;
            }
            // Served again in the next turn: its share of this pass is used up, or its connection
            // has something else to send first.
            let output = conns.get(viewer.connection).map_or(now, |conn| {
                if conn.out_refusals > 0 {
                    // Its socket takes nothing, whoever asks.
                    viewer.blocked_since.get_or_insert(now);
                }
                conn.out_next_try.max(conn.refused_until)
            });
            viewer.next_try = output.max(now + Duration::from_nanos(1));
            false
        });
    }
}

/// The pause after the `refusals`-th refusal in a row.
pub(super) fn back_off(refusals: u8) -> Duration {
    (BACK_OFF_MIN * (1 << refusals.min(6))).min(BACK_OFF_MAX)
}

fn refused(viewer: &mut Viewer, now: Moment) {
    viewer.next_try = now + back_off(viewer.refusals);
    viewer.refusals = viewer.refusals.saturating_add(1);
    viewer.blocked_since.get_or_insert(now);
}

/// Plans the next pass and gives back what no viewer needs.
fn finish(state: &mut LogState, pool: &mut SegmentPool) {
    let mut slowest = state.log.end();
    let mut retry_at: Option<Moment> = None;
    for viewer in &state.viewers {
        slowest = slowest.min(viewer.cursor.needs().unwrap_or(slowest));
        if viewer.next_try != Moment::ZERO && !viewer.cursor.is_caught_up(&state.log) {
            retry_at = Some(retry_at.map_or(viewer.next_try, |at| at.min(viewer.next_try)));
        }
    }
    state.retry_at = retry_at;
    state.log.evict(slowest, pool);
}
