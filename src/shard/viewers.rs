//! A stream on a shard that has viewers of it: its logs, one per wire form, and the viewers' places in
//! them. A shard without viewers of a stream holds nothing of it.

use std::sync::Arc;
use std::time::Duration;

use super::messages::ConnKey;
use crate::config::AppSettings;
use crate::media::{
    Applied, Cursor, Epoch, Frame, Gop, Joinable, Log, Moment, Preamble, SegmentPool, StreamId,
    Track, Wire,
};
use crate::proto::name::StreamName;
use crate::session::Owner;

/// One viewer of one log. A connection has one per stream that it plays.
#[derive(Debug)]
pub struct Viewer {
    /// Its connection.
    pub connection: ConnKey,
    /// Its message stream (0 over HTTP).
    pub message_stream_id: u32,
    /// Its place.
    pub cursor: Cursor,
    /// Not before this moment: its socket was full.
    pub next_try: Moment,
    /// Refusals in a row, for the back-off.
    pub refusals: u8,
    /// Since when its socket has taken nothing.
    pub blocked_since: Option<Moment>,
    /// Since when it waits for something to begin with.
    pub waiting_since: Moment,
    /// Bytes sent in the current pass.
    pub pass_bytes: usize,
    /// Took all that the last send of the pass offered.
    pub may_go_on: bool,
    /// Has just begun: it does not wait for the flush.
    pub is_eager: bool,
    /// Has been told that the stream ended.
    pub ended: bool,
}

/// A log with its viewers and its next flush.
#[derive(Debug)]
pub struct LogState {
    /// The log.
    pub log: Log,
    /// In no order; a viewer's index changes when another leaves.
    pub viewers: Vec<Viewer>,
    /// When what was appended since the last flush has to go.
    pub due: Option<Moment>,
    /// When the first refused viewer is tried again.
    pub retry_at: Option<Moment>,
    /// Some viewer has just begun.
    pub has_eager: bool,
    /// How many viewers wait for a join point.
    pub waiting: usize,
}

/// One stream on this shard.
#[derive(Debug)]
pub struct ViewerStream {
    /// The stream.
    pub id: StreamId,
    /// Its name.
    pub name: StreamName,
    /// Settings of its application.
    pub settings: Arc<AppSettings>,
    /// Accepted plays received from the control shard since the stream began here.
    pub grants: u64,
    /// Where its frames come from, when it is published.
    pub owner: Option<Owner>,
    /// Its viewers have been told that it is published.
    pub is_up: bool,
    /// It has ended; viewers are told when they have everything, or at this moment.
    pub ending: Option<Moment>,
    /// Its logs.
    pub logs: Vec<LogState>,
    epoch: Option<Epoch>,
    preamble: Arc<Preamble>,
    gop: Gop,
}

/// Where a viewer was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// It has something to be sent.
    Joined,
    /// It waits for a join point.
    Waits,
    /// The stream has as many logs as it may have.
    NoLog,
}

impl Viewer {
    fn new(connection: ConnKey, message_stream_id: u32, now: Moment) -> Self {
        Self {
            connection,
            message_stream_id,
            cursor: Cursor::waiting(),
            next_try: Moment::ZERO,
            refusals: 0,
            blocked_since: None,
            waiting_since: now,
            pass_bytes: 0,
            may_go_on: false,
            is_eager: false,
            ended: false,
        }
    }
}

impl ViewerStream {
    /// A stream that gets its first viewer.
    pub fn new(id: StreamId, name: StreamName, settings: Arc<AppSettings>) -> Self {
        Self {
            id,
            name,
            grants: 0,
            owner: None,
            is_up: false,
            ending: None,
            logs: Vec::new(),
            epoch: None,
            preamble: Arc::default(),
            gop: Gop::new(settings.gop_bytes),
            settings,
        }
    }

    /// Number of viewers.
    pub fn viewer_count(&self) -> usize {
        self.logs.iter().map(|state| state.viewers.len()).sum()
    }

    /// Whether the stream has (video, audio) tracks, as far as is known.
    pub fn tracks(&self) -> (bool, bool) {
        let (mut video, mut audio) =
            (self.preamble.has(Track::Video), self.preamble.has(Track::Audio));
        for frame in self.gop.frames() {
            video |= frame.track == Track::Video;
            audio |= frame.track == Track::Audio;
        }
        (video, audio)
    }

    /// Whether frames of the publication are wanted.
    pub fn follows(&self, epoch: Epoch) -> bool {
        self.owner.is_some_and(|owner| owner.epoch == epoch)
    }

    /// Puts a viewer into the log of its wire form. `may_join` is false while the stream has no
    /// publisher: then the viewer waits for the next one instead of being shown the last picture.
    pub fn attach(
        &mut self,
        connection: ConnKey,
        message_stream_id: u32,
        wire: Wire,
        may_join: bool,
        now: Moment,
        logs_max: usize,
        pool: &mut SegmentPool,
    ) -> Attached {
        let found = self.logs.iter().position(|state| state.log.wire() == wire);
        let index = match found {
            Some(index) => index,
            None if self.logs.len() >= logs_max => return Attached::NoLog,
            None => {
                let mut log = Log::new(wire);
                fill(&mut log, &self.gop, pool);
                self.logs.push(LogState::new(log));
                self.logs.len() - 1
            }
        };
        let state = &mut self.logs[index];
        let mut viewer = Viewer::new(connection, message_stream_id, now);
        let joined = may_join && viewer.cursor.join(&state.log);
        if joined {
            viewer.is_eager = true;
            state.has_eager = true;
        } else {
            state.waiting += 1;
        }
        state.viewers.push(viewer);
        if joined { Attached::Joined } else { Attached::Waits }
    }

    /// Takes a viewer out. Returns what has to be sent of the message that it was in the middle of.
    pub fn detach(
        &mut self,
        connection: ConnKey,
        message_stream_id: u32,
        pool: &mut SegmentPool,
    ) -> Option<Vec<u8>> {
        for index in 0..self.logs.len() {
            let state = &mut self.logs[index];
            let found = state.viewers.iter().position(|viewer| {
                viewer.connection == connection && viewer.message_stream_id == message_stream_id
            });
            let Some(at) = found else { continue };
            let mut viewer = state.viewers.swap_remove(at);
            if viewer.cursor.is_waiting() {
                state.waiting -= 1;
            }
            let rest = viewer.cursor.take_rest(&state.log);
            if state.viewers.is_empty() {
                state.log.clear(pool);
                self.logs.swap_remove(index);
            }
            return Some(rest);
        }
        None
    }

    /// The viewer of a connection.
    pub fn find(
        &mut self,
        connection: ConnKey,
        message_stream_id: u32,
    ) -> Option<(&Log, &mut Viewer)> {
        self.logs.iter_mut().find_map(|state| {
            let viewer = state.viewers.iter_mut().find(|viewer| {
                viewer.connection == connection && viewer.message_stream_id == message_stream_id
            })?;
            Some((&state.log, viewer))
        })
    }

    /// A publication (or what follows a gap of one) begins with these headers. Those who follow get
    /// them before the next frame: all of them when the publication is new, else what changed.
    pub fn begin(
        &mut self,
        epoch: Epoch,
        preamble: &Arc<Preamble>,
        first: &Frame,
        pool: &mut SegmentPool,
    ) {
        let is_new = self.epoch != Some(epoch);
        if is_new {
            self.epoch = Some(epoch);
            self.gop = Gop::new(self.settings.gop_bytes);
        }
        for header in preamble.headers() {
            let known = self.preamble.headers().contains(header);
            if known && !is_new {
                continue;
            }
            let frame = Frame {
                track: header.track,
                kind: header.kind,
                slot: header.slot,
                dts_ms: first.dts_ms,
                arrival: first.arrival,
                payload: header.payload.clone(),
            };
            for state in &mut self.logs {
                // Nobody follows an empty log; its viewers get the headers when they join.
                if state.viewers.len() > state.waiting {
                    state.log.append_header(&frame, pool);
                }
            }
        }
        self.preamble = Arc::clone(preamble);
    }

    /// Appends a frame to every log. `joined` gets the viewers that begin with it.
    pub fn push(
        &mut self,
        frame: &Frame,
        pool: &mut SegmentPool,
        joined: &mut Vec<(ConnKey, u32)>,
    ) {
        if frame.kind.is_preamble()
            && Arc::make_mut(&mut self.preamble).apply(frame) == Applied::Unchanged
        {
            return;
        }
        let joinable = self.gop.push(frame, &self.preamble);
        if joinable == Joinable::Useless {
            return;
        }
        let due = frame.arrival + hold(&self.settings, frame, self.gop.has_video());
        for state in &mut self.logs {
            match joinable {
                Joinable::Yes => {
                    state.log.append_joinable(frame, &self.preamble, pool);
                    state.place_waiting(joined);
                }
                _ if frame.kind.is_preamble() => state.log.append_header(frame, pool),
                _ => state.log.append(frame, pool),
            }
            if self.gop.is_empty() {
                state.log.forget_join_point();
            }
            state.due = Some(state.due.map_or(due, |earlier| earlier.min(due)));
        }
    }

    /// The earliest moment at which some log has something to do.
    pub fn next_due(&self) -> Option<Moment> {
        let logs = self.logs.iter().flat_map(LogState::next_due).min();
        [logs, self.ending].into_iter().flatten().min()
    }

    /// Bytes held by its logs.
    pub fn held_bytes(&self) -> u64 {
        self.logs.iter().map(|state| state.log.held_bytes()).sum()
    }
}

impl LogState {
    fn new(log: Log) -> Self {
        Self { log, viewers: Vec::new(), due: None, retry_at: None, has_eager: false, waiting: 0 }
    }

    /// When it has to be looked at.
    pub fn next_due(&self) -> Option<Moment> {
        let eager = self.has_eager.then_some(Moment::ZERO);
        [self.due, self.retry_at, eager].into_iter().flatten().min()
    }

    fn place_waiting(&mut self, joined: &mut Vec<(ConnKey, u32)>) {
        if self.waiting == 0 {
            return;
        }
        for viewer in &mut self.viewers {
            if viewer.cursor.is_waiting() && viewer.cursor.join(&self.log) {
                joined.push((viewer.connection, viewer.message_stream_id));
                viewer.ended = false;
            }
        }
        self.waiting = 0;
    }
}

fn fill(log: &mut Log, gop: &Gop, pool: &mut SegmentPool) {
    for (index, frame) in gop.frames().enumerate() {
        if index == 0 {
            log.append_joinable(frame, gop.preamble(), pool);
        } else if frame.kind.is_preamble() {
            log.append_header(frame, pool);
        } else {
            log.append(frame, pool);
        }
    }
}

/// For how long a frame may wait for company. Sound without pictures has the hold of pictures: a longer
/// one saves sends only when there is something else to wait for.
fn hold(settings: &AppSettings, frame: &Frame, has_video: bool) -> Duration {
    if frame.track == Track::Audio && has_video { settings.hold_audio } else { settings.hold_video }
}
