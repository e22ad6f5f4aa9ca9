//! What viewers want of a stream: which of its tracks, and whether anything at present. There is a log
//! for each choice of tracks that somebody has made, up to `limits.logs_per_stream`.
//!
//! A viewer that wants fewer tracks changes to the log that has only these, behind the message that it
//! is in the middle of. One that wants a further track stays where it is until that track can begin (a
//! keyframe, or the next sound), and changes there. Either way it misses nothing of the tracks that it
//! keeps, and is sent nothing twice. A viewer that pauses is in no log; it goes on at the newest
//! keyframe that it has not been sent, or at the next one.

use std::rc::Rc;

use super::messages::ConnKey;
use super::viewers::{LogState, Viewer, ViewerStream, begins};
use crate::media::{Frame, FrameKind, Log, Moment, SegmentPool, Track, Tracks, Wire};
use crate::session::Reception;

/// RTMP on message stream 1, FLV, and FLV over WebSocket.
const COMMON_WIRES: usize = 3;

/// A viewer that is sent nothing at present.
#[derive(Debug)]
pub struct Paused {
    /// The viewer; its cursor waits.
    pub viewer: Viewer,
    /// The form of the log that it was in.
    wire: Wire,
}

/// A log that a viewer is on its way to.
#[derive(Debug)]
pub struct Target {
    wire: Wire,
    start: Option<Start>,
}

/// Where a viewer enters its target.
#[derive(Debug)]
struct Start {
    /// The first message that it is sent there.
    number: u64,
    /// The headers in force there, of the tracks that it has not had.
    headers: Rc<[u8]>,
}

impl ViewerStream {
    /// A viewer changes what it wants. Returns what has to be sent of the message that it was in the
    /// middle of, when it pauses.
    pub fn receive(
        &mut self,
        connection: ConnKey,
        message_stream_id: u32,
        reception: Reception,
        now: Moment,
        pool: &mut SegmentPool,
    ) -> Vec<u8> {
        let is_it = |viewer: &Viewer| {
            viewer.connection == connection && viewer.message_stream_id == message_stream_id
        };
        let mut rest = Vec::new();
        if let Some(at) = self.paused.iter().position(|paused| is_it(&paused.viewer)) {
            self.counters.reception_changes += 1;
            if !reception.is_paused {
                let Paused { viewer, wire } = self.paused.swap_remove(at);
                self.place_again(viewer, wire.with_tracks(reception.tracks), now, pool);
            }
        } else if let Some((index, at)) =
            self.logs.iter().enumerate().find_map(|(index, state)| {
                state.viewers.iter().position(is_it).map(|at| (index, at))
            })
        {
            self.counters.reception_changes += 1;
            if reception.is_paused {
                rest = self.pause(index, at);
            } else {
                self.change(index, at, reception.tracks, now, pool);
            }
        }
        self.release_unused(pool);
        rest
    }

    /// Whether some viewer waits for the track that it lacks.
    pub fn is_changing(&self) -> bool {
        self.logs.iter().any(|state| state.changing > 0)
    }

    /// `frame` is about to be appended: viewers that wait for a track that can begin with it are to
    /// enter their target there. The target's log exists from this frame on.
    pub(super) fn start_changes(&mut self, frame: &Frame, number: u64, joinable: bool) {
        for index in 0..self.logs.len() {
            if self.logs[index].changing == 0 {
                continue;
            }
            let have = self.logs[index].log.wire().tracks();
            for at in 0..self.logs[index].viewers.len() {
                let viewer = &self.logs[index].viewers[at];
                let Some(target) = &viewer.target else { continue };
                let wanted = target.wire.tracks();
                let added = wanted.without(have);
                let can_begin = if added.video {
                    wanted.has(frame.track) && begins(wanted, frame, joinable)
                } else {
                    frame.kind == FrameKind::Audio
                };
                if !can_begin || viewer.cursor.is_waiting() || self.still_enters(viewer) {
                    continue;
                }
                let wire = target.wire;
                if self.find(wire).is_none() && !self.has_room_for(wire, None) {
                    self.counters.log_fallbacks += 1;
                    self.aim(index, at, wire.with_tracks(Tracks::BOTH));
                    continue;
                }
                let headers = self.headers(wire, added, frame.wire_timestamp_ms());
                if self.find(wire).is_none() {
                    self.logs.push(LogState::new(Log::new(wire, number)));
                }
                let state = &mut self.logs[index];
                let viewer = &mut state.viewers[at];
                viewer.cursor.leave_at_end(&state.log);
                viewer.target = Some(Target { wire, start: Some(Start { number, headers }) });
            }
        }
    }

    /// Moves the viewers that have been sent everything up to where they enter their target.
    pub fn finish_changes(&mut self, now: Moment, pool: &mut SegmentPool) {
        for index in 0..self.logs.len() {
            let mut at = 0;
            while self.logs[index].changing > 0 && at < self.logs[index].viewers.len() {
                if !self.finish_change(index, at, now, pool) {
                    at += 1;
                }
            }
        }
        self.release_unused(pool);
    }

    /// Whether some viewer is on its way to a log.
    pub(super) fn is_awaited(&self, wire: Wire) -> bool {
        self.logs.iter().filter(|state| state.changing > 0).any(|state| {
            state.viewers.iter().any(|viewer| {
                let target = viewer.target.as_ref();
                target.is_some_and(|target| target.wire == wire && target.start.is_some())
            })
        })
    }

    /// Gives back the logs that nobody is in or on the way to.
    pub(super) fn release_unused(&mut self, pool: &mut SegmentPool) {
        let mut index = 0;
        while index < self.logs.len() {
            let state = &self.logs[index];
            if state.viewers.is_empty() && !self.is_awaited(state.log.wire()) {
                let unused = self.logs.swap_remove(index);
                self.sent_before += unused.sent_bytes;
                unused.log.release(pool);
            } else {
                index += 1;
            }
        }
    }

    /// The wire form that a viewer gets: the one it wants, or, when the stream has too many logs, the
    /// same with both tracks. `None` when not even that can be had. `alone` is a log that is given back
    /// when its only viewer leaves it.
    pub(super) fn choose(&mut self, wire: Wire, alone: Option<usize>) -> Option<Wire> {
        let is_open = |wire| self.find(wire).is_some() || self.has_room_for(wire, alone);
        if is_open(wire) {
            return Some(wire);
        }
        let both = wire.with_tracks(Tracks::BOTH);
        let found = (both != wire && is_open(both)).then_some(both);
        self.counters.log_fallbacks += u64::from(found.is_some());
        found
    }

    /// Whether there may be one more log. The wires that nearly all viewers use always have room: a
    /// client that plays the stream on many message streams cannot shut the others out. A log of fewer
    /// tracks keeps room for the log of both that its viewers may fall back to.
    fn has_room_for(&self, wire: Wire, alone: Option<usize>) -> bool {
        let is_common = |wire: Wire| match wire {
            Wire::Rtmp { message_stream_id, tracks, .. } => {
                message_stream_id == 1 && tracks == Tracks::BOTH
            }
            Wire::Flv | Wire::WsFlv => true,
        };
        let mut rare = Vec::new();
        let kept = self.logs.iter().enumerate().filter(|(index, state)| {
            let is_given_back = Some(*index) == alone && state.viewers.len() == 1;
            !is_given_back
        });
        let kept = kept.map(|(_, state)| state.log.wire());
        let paused = self.paused.iter().map(|paused| paused.wire);
        for wire in kept.chain(paused).chain([wire]) {
            for needed in [wire, wire.with_tracks(Tracks::BOTH)] {
                if !is_common(needed) && !rare.contains(&needed) {
                    rare.push(needed);
                }
            }
        }
        is_common(wire) || rare.len() + COMMON_WIRES <= self.logs_max
    }

    /// Takes a viewer out of its log until it wants to go on.
    fn pause(&mut self, index: usize, at: usize) -> Vec<u8> {
        let state = &mut self.logs[index];
        let mut viewer = state.take(at);
        let rest = viewer.cursor.take_rest(&state.log);
        viewer.blocked_since = None;
        // Its choice of tracks comes with its wish to go on.
        let wire = state.log.wire().with_tracks(Tracks::BOTH);
        self.paused.push(Paused { viewer, wire });
        rest
    }

    fn change(
        &mut self,
        mut index: usize,
        mut at: usize,
        tracks: Tracks,
        now: Moment,
        pool: &mut SegmentPool,
    ) {
        self.stay(index, at);
        let have = self.logs[index].log.wire();
        if tracks == have.tracks() {
            return;
        }
        let Some(wanted) = self.choose(have.with_tracks(tracks), Some(index)) else { return };
        if wanted == have {
            return;
        }
        if self.logs[index].viewers[at].cursor.is_waiting() {
            let viewer = self.logs[index].take(at);
            self.place(viewer, wanted, self.owner().is_some(), now, pool);
            return;
        }
        let kept = have.with_tracks(have.tracks().common(wanted.tracks()));
        if kept != have && (self.find(kept).is_some() || self.has_room_for(kept, Some(index))) {
            (index, at) = self.change_to_fewer(index, at, kept, pool);
        }
        if self.logs[index].log.wire() != wanted {
            self.aim(index, at, wanted);
        }
    }

    /// Moves a viewer to the log of some of its tracks; returns its new place.
    fn change_to_fewer(
        &mut self,
        index: usize,
        at: usize,
        wire: Wire,
        pool: &mut SegmentPool,
    ) -> (usize, usize) {
        let state = &self.logs[index];
        let number = state.viewers[at].cursor.number(&state.log);
        let to = self.open(wire, number, pool);
        let mut viewer = self.logs[index].take(at);
        viewer.cursor.change_to_fewer(&self.logs[index].log, &self.logs[to].log);
        self.logs[to].add(viewer);
        (to, self.logs[to].viewers.len() - 1)
    }

    /// A viewer wants to change to a log that has a track more.
    fn aim(&mut self, index: usize, at: usize, wire: Wire) {
        let state = &mut self.logs[index];
        let target = Target { wire, start: None };
        if state.viewers[at].target.replace(target).is_none() {
            state.changing += 1;
        }
    }

    /// A viewer gives up its target.
    fn stay(&mut self, index: usize, at: usize) {
        let state = &mut self.logs[index];
        if state.viewers[at].target.take().is_some() {
            state.changing -= 1;
            state.follow_again(at);
        }
    }

    /// Whether a viewer knows where it enters its target, and the target still has that place.
    fn still_enters(&self, viewer: &Viewer) -> bool {
        let Some(Target { wire, start: Some(start) }) = &viewer.target else { return false };
        let log = self.find(*wire).map(|index| &self.logs[index].log);
        viewer.cursor.is_leaving()
            && log.is_some_and(|log| log.position_of_number(start.number).is_some())
    }

    /// Moves a viewer to its target if it is there. Says whether it has left its log.
    fn finish_change(
        &mut self,
        index: usize,
        at: usize,
        now: Moment,
        pool: &mut SegmentPool,
    ) -> bool {
        let viewer = &mut self.logs[index].viewers[at];
        let Some(target) = &mut viewer.target else { return false };
        let wire = target.wire;
        if viewer.cursor.is_waiting() {
            // It fell behind: it goes on where others begin.
            let viewer = self.logs[index].take(at);
            self.place_again(viewer, wire, now, pool);
            return true;
        }
        if !viewer.cursor.has_left() {
            return false;
        }
        let Some(Start { number, headers }) = target.start.take() else { return false };
        let place = self.find(wire).and_then(|to| {
            let position = self.logs[to].log.position_of_number(number)?;
            Some((to, position))
        });
        let Some((to, position)) = place else {
            // The target has let that message go: the viewer waits for the next one.
            self.logs[index].follow_again(at);
            return false;
        };
        let mut viewer = self.logs[index].take(at);
        viewer.cursor.enter(position, &headers);
        self.logs[to].add(viewer);
        true
    }

    /// Puts a viewer that waits into the log of its wish, or into that of both tracks: there is room
    /// for that one, since each viewer keeps it.
    fn place_again(&mut self, viewer: Viewer, wire: Wire, now: Moment, pool: &mut SegmentPool) {
        let wire = self.choose(wire, None).unwrap_or_else(|| wire.with_tracks(Tracks::BOTH));
        self.place(viewer, wire, self.owner().is_some(), now, pool);
    }

    /// The headers in force of some tracks, in wire form.
    fn headers(&self, wire: Wire, tracks: Tracks, timestamp_ms: u32) -> Rc<[u8]> {
        let mut bytes = Vec::new();
        let is_wanted = |track| track != Track::Data && tracks.has(track);
        for header in self.preamble.headers().iter().filter(|header| is_wanted(header.track)) {
            wire.write(header.track, timestamp_ms, &header.payload, &mut |part| {
                bytes.extend_from_slice(part);
            });
        }
        bytes.into()
    }
}

#[cfg(test)]
mod tests;
