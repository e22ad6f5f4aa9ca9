//! A stream on a shard that has viewers of it: its logs, one per wire form, and the viewers' places in
//! them. A shard without viewers of a stream holds nothing of it. How viewers change from log to log
//! is in `reception`.

use std::sync::Arc;
use std::time::Duration;

use super::messages::{ConnKey, Subscription};
use super::meter::Meter;
use super::pace::{PassLength, Pictures};
use super::reception::{Paused, Target};
use crate::config::AppSettings;
use crate::media::{
    Applied, Cursor, Frame, FrameKind, Gop, Joinable, Log, Moment, Preamble, SegmentPool, StreamId,
    Track, Tracks, Wire,
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
    /// Since when it has had nothing to show.
    pub waiting_since: Moment,
    /// When it is further behind, it skips.
    pub max_lag: Duration,
    /// Not before this moment is it too slow: it has just been given the backlog of a join point.
    pub late_from: Moment,
    /// Bytes sent in the current pass.
    pub pass_bytes: usize,
    /// Took all that the last send of the pass offered.
    pub may_go_on: bool,
    /// Has just begun: it does not wait for the flush.
    pub is_eager: bool,
    /// How often it was moved forward since its connection took note.
    pub skips_untold: u32,
    /// Has been told that the stream ended.
    pub ended: bool,
    /// The log that it changes to as soon as the track that it lacks can begin.
    pub target: Option<Target>,
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
    /// How long its sends take in a pass.
    pub(super) pass_length: PassLength,
    /// When the first refused viewer is tried again.
    pub retry_at: Option<Moment>,
    /// Some viewer has just begun.
    pub has_eager: bool,
    /// How many viewers wait for a join point.
    pub waiting: usize,
    /// How many viewers have a target.
    pub changing: usize,
    /// Bytes that the kernel has taken of it.
    pub sent_bytes: u64,
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
    /// The end is told no earlier: a moment after the last frames.
    pub end_not_before: Moment,
    /// Its logs.
    pub logs: Vec<LogState>,
    /// Viewers that are sent nothing at present.
    pub paused: Vec<Paused>,
    /// Counts.
    pub counters: ReceptionCounters,
    pub(super) logs_max: usize,
    pub(super) preamble: Arc<Preamble>,
    /// The codecs that the headers name by FourCC.
    fourccs: Vec<(Track, [u8; 4])>,
    /// They have changed, and nobody has taken note of that.
    has_new_fourccs: bool,
    pub(super) gop: Gop,
    /// Timestamp of the newest frame.
    last_ms: u64,
    /// When the next picture is to be expected.
    pictures: Pictures,
    /// Bytes sent of logs that are given back.
    pub(super) sent_before: u64,
    /// The rate of bytes sent.
    meter: Meter<1>,
}

/// Counts of what viewers wanted of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ReceptionCounters {
    /// How often viewers have paused, gone on, or chosen other tracks.
    pub reception_changes: u64,
    /// How often viewers got both tracks because there was no log left for their choice.
    pub log_fallbacks: u64,
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
    pub fn new(
        connection: ConnKey,
        message_stream_id: u32,
        max_lag: Duration,
        now: Moment,
    ) -> Self {
        Self {
            connection,
            message_stream_id,
            cursor: Cursor::waiting(),
            next_try: Moment::ZERO,
            refusals: 0,
            blocked_since: None,
            waiting_since: now,
            max_lag,
            late_from: Moment::ZERO,
            pass_bytes: 0,
            may_go_on: false,
            is_eager: false,
            skips_untold: 0,
            ended: false,
            target: None,
        }
    }
}

impl ReceptionCounters {
    /// Counts what others have counted.
    pub fn add(&mut self, other: Self) {
        self.reception_changes += other.reception_changes;
        self.log_fallbacks += other.log_fallbacks;
    }
}

impl ViewerStream {
    /// A stream that gets its first viewer, and may have `logs_max` logs here.
    pub fn new(
        id: StreamId,
        name: StreamName,
        settings: Arc<AppSettings>,
        logs_max: usize,
        now: Moment,
    ) -> Self {
        Self {
            id,
            name,
            grants: 0,
            owner: None,
            subscription: Subscription::default(),
            has_begun: false,
            is_up: false,
            ending: None,
            end_not_before: Moment::ZERO,
            logs: Vec::new(),
            paused: Vec::new(),
            counters: ReceptionCounters::default(),
            logs_max,
            preamble: Arc::default(),
            fourccs: Vec::new(),
            has_new_fourccs: false,
            last_ms: 0,
            pictures: Pictures::default(),
            sent_before: 0,
            meter: Meter::new(now),
            gop: Gop::new(settings.gop_bytes),
            settings,
        }
    }

    /// Number of viewers, paused ones too.
    pub fn viewer_count(&self) -> usize {
        self.logs.iter().map(|state| state.viewers.len()).sum::<usize>() + self.paused.len()
    }

    /// The viewer of a connection that has one of this stream at most, and its log.
    pub fn viewer(&self, connection: ConnKey) -> Option<(&Viewer, &Log)> {
        self.logs.iter().find_map(|state| {
            let viewer = state.viewers.iter().find(|viewer| viewer.connection == connection)?;
            Some((viewer, &state.log))
        })
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

    /// The codecs that it names by FourCC (Enhanced RTMP), with the kind of their track.
    pub fn fourccs(&self) -> &[(Track, [u8; 4])] {
        &self.fourccs
    }

    /// Whether they have changed, and nobody has taken note of that.
    pub fn has_new_fourccs(&self) -> bool {
        self.has_new_fourccs
    }

    /// Takes note.
    pub fn take_new_fourccs(&mut self) {
        self.has_new_fourccs = false;
    }

    fn note_fourccs(&mut self) {
        let fourccs = self.preamble.fourccs();
        if fourccs != self.fourccs {
            self.fourccs = fourccs;
            self.has_new_fourccs = true;
        }
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
        self.gop.restart();
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
        pool: &mut SegmentPool,
    ) -> Attached {
        let Some(wire) = self.choose(wire, None) else { return Attached::NoLog };
        // An end that the others are still to be told of is none to it.
        viewer.ended = !is_published;
        if self.place(viewer, wire, is_published, now, pool) {
            Attached::Joined
        } else {
            Attached::Waits
        }
    }

    /// Puts a viewer that waits into a log. Says whether it has something to be sent.
    pub(super) fn place(
        &mut self,
        mut viewer: Viewer,
        wire: Wire,
        is_published: bool,
        now: Moment,
        pool: &mut SegmentPool,
    ) -> bool {
        debug_assert!(viewer.cursor.is_waiting() && viewer.target.is_none());
        let index = self.open(wire, viewer.cursor.resumes_at(), pool);
        let state = &mut self.logs[index];
        let joined = is_published && viewer.cursor.join(&state.log);
        if joined {
            viewer.late_from = now + viewer.max_lag;
        }
        state.add(viewer);
        joined
    }

    /// The log of a wire form; a new one has the frames from `number` on that are still at hand.
    pub(super) fn open(&mut self, wire: Wire, number: u64, pool: &mut SegmentPool) -> usize {
        if let Some(index) = self.find(wire) {
            return index;
        }
        let first = self.gop.numbered().next().map(|(first, _)| first);
        let first = first.unwrap_or_else(|| self.gop.next_number());
        let mut log = Log::new(wire, number.max(first));
        let tracks = wire.tracks();
        let mut preamble = Arc::clone(self.gop.preamble());
        for (at, frame) in self.gop.numbered() {
            if frame.kind.is_preamble() {
                Arc::make_mut(&mut preamble).apply(frame);
            }
            if at >= number && tracks.has(frame.track) {
                let joinable = (at == first).then_some(at);
                append(&mut log, frame, at, joinable, &preamble, pool);
            }
        }
        self.logs.push(LogState::new(log));
        self.logs.len() - 1
    }

    /// The log of a wire form.
    pub(super) fn find(&self, wire: Wire) -> Option<usize> {
        self.logs.iter().position(|state| state.log.wire() == wire)
    }

    /// Takes a viewer out. Returns what has to be sent of the message that it was in the middle of.
    pub fn detach(
        &mut self,
        connection: ConnKey,
        message_stream_id: u32,
        pool: &mut SegmentPool,
    ) -> Option<Vec<u8>> {
        let is_it = |viewer: &Viewer| {
            viewer.connection == connection && viewer.message_stream_id == message_stream_id
        };
        if let Some(at) = self.paused.iter().position(|paused| is_it(&paused.viewer)) {
            self.paused.swap_remove(at);
            return Some(Vec::new());
        }
        for state in &mut self.logs {
            let Some(at) = state.viewers.iter().position(is_it) else { continue };
            let mut viewer = state.take(at);
            let rest = viewer.cursor.take_rest(&state.log);
            self.release_unused(pool);
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
            let number = self.gop.take_number();
            for index in 0..self.logs.len() {
                let state = &self.logs[index];
                let wire = state.log.wire();
                // Nobody follows an empty log; its viewers get the headers when they join.
                let is_followed = state.viewers.len() > state.waiting || self.is_awaited(wire);
                if is_followed && wire.tracks().has(header.track) {
                    self.logs[index].log.append_header(&frame, number, pool);
                }
            }
        }
        self.preamble = Arc::clone(preamble);
        self.note_fourccs();
        // What was missed is missing in the group, too.
        self.gop.interrupt();
    }

    /// Timestamp of the newest frame, in milliseconds.
    pub fn last_ms(&self) -> u64 {
        self.last_ms
    }

    /// Appends a frame to every log. `joined` gets the viewers that begin with it.
    pub fn push(
        &mut self,
        frame: &Frame,
        now: Moment,
        pool: &mut SegmentPool,
        joined: &mut Vec<(ConnKey, u32)>,
    ) {
        if frame.kind.is_preamble() {
            match Arc::make_mut(&mut self.preamble).apply(frame) {
                Applied::Unchanged => return,
                Applied::Changed if frame.kind == FrameKind::Config => self.note_fourccs(),
                Applied::Changed | Applied::NotKept => {}
            }
        }
        let joinable = self.gop.push(frame, &self.preamble);
        if joinable == Joinable::Useless {
            return;
        }
        self.last_ms = frame.dts_ms;
        let number = self.gop.next_number() - 1;
        let joinable = joinable == Joinable::Yes;
        let is_changing = self.is_changing();
        if is_changing {
            self.start_changes(frame, number, joinable);
        }
        let has_video = self.gop.has_video();
        if matches!(frame.kind, FrameKind::Keyframe | FrameKind::Inter) {
            self.pictures.came(frame.slot, frame.dts_ms, frame.arrival);
        }
        for state in &mut self.logs {
            let tracks = state.log.wire().tracks();
            if !tracks.has(frame.track) {
                continue;
            }
            let first = joinable.then(|| self.gop.begins_at());
            if append(&mut state.log, frame, number, first, &self.preamble, pool) {
                state.place_waiting(now + self.settings.viewer_max_lag, joined);
            }
            if tracks.video && self.gop.is_empty() {
                state.log.forget_join_point();
            }
            let is_company = has_video && tracks.video;
            let hold = hold(&self.settings, frame, is_company);
            let mut due = frame.arrival + state.pass_length.shorten(hold);
            if is_company && frame.track == Track::Audio {
                let hold_picture = state.pass_length.shorten(self.settings.hold_video);
                due = self.pictures.wait_for(due, hold, hold_picture);
            }
            state.due = Some(state.due.map_or(due, |earlier| earlier.min(due)));
        }
        if is_changing {
            self.finish_changes(now, pool);
        }
    }

    /// How long what comes now may wait in its log that is sent first, when its holds are these at least.
    pub(super) fn shorten(&self, hold: Duration) -> Duration {
        self.logs.iter().map(|state| state.pass_length.shorten(hold)).min().unwrap_or(hold)
    }

    /// The earliest moment at which some log has something to do.
    pub fn next_due(&self) -> Option<Moment> {
        let logs = self.logs.iter().flat_map(LogState::next_due).min();
        let ending = self.ending.map(|at| at.min(self.end_not_before));
        [logs, ending].into_iter().flatten().min()
    }

    /// Bytes of it that the kernel has taken since it has viewers here.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_before + self.logs.iter().map(|state| state.sent_bytes).sum::<u64>()
    }

    /// Remembers how much was sent by now.
    pub(super) fn roll_meter(&mut self, now: Moment) {
        let sent = self.sent_bytes();
        self.meter.roll(now, [sent]);
    }

    /// Bytes sent per second of the last while.
    pub(super) fn sent_per_second(&self, now: Moment) -> f64 {
        let [rate] = self.meter.per_second(now, [self.sent_bytes()]);
        rate
    }

    /// Bytes held by its logs.
    pub fn held_bytes(&self) -> u64 {
        self.logs.iter().map(|state| state.log.held_bytes()).sum()
    }
}

impl LogState {
    pub(super) fn new(log: Log) -> Self {
        Self {
            log,
            viewers: Vec::new(),
            due: None,
            pass_length: PassLength::default(),
            retry_at: None,
            has_eager: false,
            waiting: 0,
            changing: 0,
            sent_bytes: 0,
        }
    }

    /// Adds a viewer, which is served at once when it is behind.
    pub(super) fn add(&mut self, mut viewer: Viewer) {
        self.waiting += usize::from(viewer.cursor.is_waiting());
        if !viewer.cursor.is_caught_up(&self.log) {
            viewer.is_eager = true;
            self.has_eager = true;
        }
        self.viewers.push(viewer);
    }

    /// A viewer that was to leave follows the log again.
    pub(super) fn follow_again(&mut self, at: usize) {
        let viewer = &mut self.viewers[at];
        viewer.cursor.stay();
        if !viewer.cursor.is_caught_up(&self.log) {
            viewer.is_eager = true;
            self.has_eager = true;
        }
    }

    /// Takes a viewer out, with its place but without its target.
    pub(super) fn take(&mut self, at: usize) -> Viewer {
        let mut viewer = self.viewers.swap_remove(at);
        if viewer.cursor.is_waiting() {
            self.waiting -= 1;
        }
        if viewer.target.take().is_some() {
            self.changing -= 1;
        }
        viewer
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
                // Who has been sent more than this one begins with goes on waiting.
                self.waiting -= 1;
            }
        }
    }
}

/// Appends a frame; `joinable` is the number of the frame that viewers of all tracks begin with who join
/// at this one. Returns whether those of this log can join at it.
fn append(
    log: &mut Log,
    frame: &Frame,
    number: u64,
    joinable: Option<u64>,
    preamble: &Arc<Preamble>,
    pool: &mut SegmentPool,
) -> bool {
    let begins = begins(log.wire().tracks(), frame, joinable.is_some());
    if begins {
        log.append_joinable(frame, number, joinable.unwrap_or(number), preamble, pool);
    } else if frame.kind.is_preamble() {
        log.append_header(frame, number, pool);
    } else {
        log.append(frame, number, pool);
    }
    begins
}

/// Whether viewers of these tracks can begin with a frame, given whether viewers of both can.
pub(super) fn begins(tracks: Tracks, frame: &Frame, joinable: bool) -> bool {
    match (tracks.audio, tracks.video) {
        (true, true) => joinable,
        (false, true) => joinable && frame.kind == FrameKind::Keyframe,
        (true, false) => frame.kind == FrameKind::Audio,
        (false, false) => !frame.kind.is_preamble(),
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
    use crate::config::{Settings, Sources};

    const RTMP: Wire =
        Wire::Rtmp { message_stream_id: 1, chunk_size: 60_000, tracks: Tracks::BOTH };

    fn keyframe(slot: u8, dts_ms: u64) -> Frame {
        Frame {
            track: Track::Video,
            kind: FrameKind::Keyframe,
            slot,
            dts_ms,
            arrival: Moment::ZERO,
            payload: vec![0; 10].into(),
        }
    }

    #[test]
    fn who_cannot_begin_at_a_group_that_it_has_seen_half_of_begins_at_the_next() {
        let settings = Settings::load(&Sources::default()).unwrap();
        let app = settings.app("__defaultVhost__", "live", "_definst_");
        let name = StreamName::new("__defaultVhost__", "live", "", "cam").unwrap();
        let mut stream = ViewerStream::new(StreamId(1), name, app, 6, Moment::ZERO);
        let (mut pool, mut joined) = (SegmentPool::default(), Vec::new());
        let viewer = Viewer::new(ConnKey::from_token(7), 1, Duration::from_secs(10), Moment::ZERO);
        stream.attach(viewer, RTMP, true, Moment::ZERO, &mut pool);
        let mut push = |stream: &mut ViewerStream, frame| {
            stream.push(&frame, Moment::ZERO, &mut pool, &mut joined);
        };
        push(&mut stream, keyframe(0, 0));
        // Of the second track, right before the one that leads: viewers begin with it.
        push(&mut stream, keyframe(1, 2_000));
        let state = &mut stream.logs[0];
        let cursor = &mut state.viewers[0].cursor;
        while !cursor.is_caught_up(&state.log) {
            let len: usize = cursor.next(&state.log, usize::MAX).iter().map(|it| it.len()).sum();
            cursor.advance(len);
        }
        cursor.wait(&state.log);
        state.waiting += 1;
        push(&mut stream, keyframe(0, 2_010));
        let state = &stream.logs[0];
        assert_eq!((state.waiting, state.viewers[0].cursor.is_waiting()), (1, true));
        push(&mut stream, keyframe(0, 4_000));
        let state = &stream.logs[0];
        assert_eq!((state.waiting, state.viewers[0].cursor.is_waiting()), (0, false));
    }
}
