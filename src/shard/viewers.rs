//! A stream on a shard that has viewers of it: its logs, one per wire form, and the viewers' places in
//! them. A shard without viewers of a stream holds nothing of it.

use std::sync::Arc;
use std::time::Duration;

use super::messages::{ConnKey, Subscription};
use crate::config::AppSettings;
use crate::media::{
    Applied, Cursor, Frame, Gop, Joinable, Log, Moment, Preamble, SegmentPool, StreamId, Track,
    Wire,
};
use crate::proto::name::StreamName;
use crate::session::Owner;

/// RTMP on message stream 1, FLV, and FLV over WebSocket.
const COMMON_WIRES: usize = 3;

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
    /// Since when it has had nothing to show.
    pub waiting_since: Moment,
    /// Not before this moment is it too slow: it has just been given the backlog of a join point.
    pub late_from: Moment,
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
    owner: Option<Owner>,
    subscription: Subscription,
    /// The headers and the first frame of what is followed are here.
    has_begun: bool,
    /// Its viewers have been told that it is published.
    pub is_up: bool,
    /// It has ended; viewers are told when they have everything, or at this moment.
    pub ending: Option<Moment>,
    /// Its logs.
    pub logs: Vec<LogState>,
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
    /// A viewer that has been sent nothing.
    pub fn new(connection: ConnKey, message_stream_id: u32, now: Moment) -> Self {
        Self {
            connection,
            message_stream_id,
            cursor: Cursor::waiting(),
            next_try: Moment::ZERO,
            refusals: 0,
            blocked_since: None,
            waiting_since: now,
            late_from: Moment::ZERO,
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
            subscription: Subscription::default(),
            has_begun: false,
            is_up: false,
            ending: None,
            logs: Vec::new(),
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

    /// Where its frames come from, when it is published.
    pub fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// Follows a publication, or none after the end of one. New viewers wait for its first frame:
    /// nobody is shown the last picture of the one before.
    pub fn follow(&mut self, owner: Option<Owner>, subscription: Subscription) {
        self.owner = owner;
        self.subscription = subscription;
        self.has_begun = false;
        self.gop = Gop::new(self.settings.gop_bytes);
        for state in &mut self.logs {
            state.log.forget_join_point();
        }
    }

    /// Whether frames of the subscription are wanted.
    pub fn follows(&self, subscription: Subscription) -> bool {
        self.owner.is_some() && self.subscription == subscription
    }

    /// Whether [`ViewerStream::begin`] has been called for what is followed. Frames before that have
    /// no headers and are of no use.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Puts a viewer into the log of its wire form. `is_published` is false while the stream has no
    /// publisher: then the viewer waits for the next one instead of being shown the last picture.
    pub fn attach(
        &mut self,
        mut viewer: Viewer,
        wire: Wire,
        is_published: bool,
        now: Moment,
        logs_max: usize,
        pool: &mut SegmentPool,
    ) -> Attached {
        let found = self.logs.iter().position(|state| state.log.wire() == wire);
        let index = match found {
            Some(index) => index,
            None if !self.has_room_for(wire, logs_max) => return Attached::NoLog,
            None => {
                let mut log = Log::new(wire);
                fill(&mut log, &self.gop, pool);
                self.logs.push(LogState::new(log));
                self.logs.len() - 1
            }
        };
        let state = &mut self.logs[index];
        // An end that the others are still to be told of is none to it.
        viewer.ended = !is_published;
        let joined = is_published && viewer.cursor.join(&state.log);
        if joined {
            viewer.late_from = now + self.settings.viewer_max_lag;
            viewer.is_eager = true;
            state.has_eager = true;
        } else {
            state.waiting += 1;
        }
        state.viewers.push(viewer);
        if joined { Attached::Joined } else { Attached::Waits }
    }

    /// Whether there may be one more log. The wires that nearly all viewers use always have room: a
    /// client that plays the stream on many message streams cannot shut the others out.
    fn has_room_for(&self, wire: Wire, logs_max: usize) -> bool {
        let is_common = |wire| {
            matches!(wire, Wire::Flv | Wire::WsFlv | Wire::Rtmp { message_stream_id: 1, .. })
        };
        let rare = self.logs.iter().filter(|state| !is_common(state.log.wire())).count();
        is_common(wire) || rare + COMMON_WIRES < logs_max
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
                self.logs.swap_remove(index).log.release(pool);
            }
            return Some(rest);
        }
        None
    }

    /// A publication (or what follows a gap of one) begins with these headers. Those who follow get
    /// them before the next frame: all of them when the publication is new, else what changed.
    pub fn begin(&mut self, preamble: &Arc<Preamble>, first: &Frame, pool: &mut SegmentPool) {
        let is_new = !std::mem::replace(&mut self.has_begun, true);
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
        now: Moment,
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
                    state.place_waiting(now + self.settings.viewer_max_lag, joined);
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

    fn place_waiting(&mut self, late_from: Moment, joined: &mut Vec<(ConnKey, u32)>) {
        if self.waiting == 0 {
            return;
        }
        for viewer in &mut self.viewers {
            if viewer.cursor.is_waiting() && viewer.cursor.join(&self.log) {
                joined.push((viewer.connection, viewer.message_stream_id));
                viewer.late_from = late_from;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_wires_leave_room_for_the_common_ones() {
        let settings = crate::config::Settings::load(&crate::config::Sources::default())
            .expect("the defaults are valid")
            .app("__defaultVhost__", "live", "_definst_");
        let name = StreamName::new("__defaultVhost__", "live", "", "cam").expect("a valid name");
        let mut stream = ViewerStream::new(StreamId(1), name, settings);
        let mut pool = SegmentPool::default();
        let mut attach = |slot: u32, wire: Wire| {
            let viewer = Viewer::new(ConnKey { slot, generation: 0 }, 1, Moment::ZERO);
            stream.attach(viewer, wire, true, Moment::ZERO, 6, &mut pool)
        };
        let rtmp = |message_stream_id| Wire::Rtmp { message_stream_id, chunk_size: 60_000 };
        for id in 2..=4 {
            assert_eq!(attach(id, rtmp(id)), Attached::Waits);
        }
        assert_eq!(attach(5, rtmp(5)), Attached::NoLog);
        assert_eq!(attach(6, rtmp(1)), Attached::Waits);
        assert_eq!(attach(7, Wire::Flv), Attached::Waits);
        assert_eq!(attach(8, Wire::WsFlv), Attached::Waits);
        assert_eq!(attach(9, rtmp(4)), Attached::Waits, "an existing log takes more viewers");
    }
}
