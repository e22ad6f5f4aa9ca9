//! A viewer's place in a stream log, and the drop policy for the viewer that is too slow.
//!
//! Always true: what a viewer is sent is a sequence of whole messages; it begins with headers and
//! a join point; it skips only forward, only to a join point, and with the headers it missed.
//! What a cursor holds beside its place is at most the rest of one message and one set of headers.

use std::rc::Rc;

use super::Log;

/// A place in a log.
#[derive(Debug)]
pub struct Cursor {
    /// The next byte to send after the parts; without meaning while waiting.
    position: u64,
    waiting: bool,
    /// While waiting: the number of the first message that the viewer has not been sent. It is
    /// never given a lower one.
    number: u64,
    /// It goes no further than this boundary: there it changes to another log.
    leave_at: Option<u64>,
    /// What remains of a message that was begun before the place changed: goes first.
    rest: Option<Part>,
    /// The headers that belong before `position`.
    headers: Option<Part>,
}

/// Bytes that are not sent from the log.
#[derive(Debug)]
struct Part {
    bytes: Rc<[u8]>,
    sent: usize,
}

/// What became of a viewer that had fallen behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// It goes on at the newest join point.
    ToJoinPoint,
    /// It waits for the next join point.
    Waits,
}

impl Cursor {
    /// A viewer that waits for a join point.
    pub fn waiting() -> Self {
        Self { position: 0, waiting: true, number: 0, leave_at: None, rest: None, headers: None }
    }

    /// Whether it waits for a join point.
    pub fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Number of the message that it sends next, or is in the middle of.
    pub fn number(&self, log: &Log) -> u64 {
        if self.waiting { self.number } else { log.number_at(self.position) }
    }

    /// Of a viewer that waits: number of the first message that it has not been sent.
    pub fn resumes_at(&self) -> u64 {
        debug_assert!(self.waiting);
        self.number
    }

    /// Begins at the log's newest join point, headers first. False when there is none, or none that
    /// lies ahead of what the viewer has been sent: it waits then.
    pub fn join(&mut self, log: &Log) -> bool {
        self.wait(log);
        let Some(join) = log.join_point().filter(|join| join.number >= self.number) else {
            return false;
        };
        self.headers = Part::unless_empty(join.lead(log.wire()));
        self.position = join.position;
        self.waiting = false;
        true
    }

    /// The bytes to send next, at most `bytes_max`, in two pieces; both are empty when there is nothing.
    pub fn next<'a>(&'a self, log: &'a Log, bytes_max: usize) -> [&'a [u8]; 2] {
        match self.part() {
            Some(part) => [&part.unsent()[..part.unsent().len().min(bytes_max)], &[]],
            None if self.waiting => [&[], &[]],
            None => {
                let left = self.leave_at.map_or(u64::MAX, |at| at - self.position);
                let left = usize::try_from(left).unwrap_or(usize::MAX);
                log.bytes_at(self.position, bytes_max.min(left))
            }
        }
    }

    /// The same, but not beyond the message that was begun: for making room for a command.
    pub fn next_within_message<'a>(&'a self, log: &'a Log, bytes_max: usize) -> [&'a [u8]; 2] {
        if self.at_boundary(log) {
            return [&[], &[]];
        }
        if self.part().is_some() {
            return self.next(log, bytes_max);
        }
        let (end, _) = log.message_end(self.position);
        let left = usize::try_from(end - self.position).unwrap_or(usize::MAX);
        self.next(log, bytes_max.min(left))
    }

    /// Bytes were accepted by the socket.
    pub fn advance(&mut self, bytes: usize) {
        let part = if self.rest.is_some() { &mut self.rest } else { &mut self.headers };
        match part {
            Some(sending) => {
                sending.sent += bytes;
                debug_assert!(sending.sent <= sending.bytes.len());
                if sending.sent >= sending.bytes.len() {
                    *part = None;
                }
            }
            None => self.position += bytes as u64,
        }
        debug_assert!(self.leave_at.is_none_or(|at| self.position <= at));
    }

    /// Whether a command may be sent now: no message is half sent.
    pub fn at_boundary(&self, log: &Log) -> bool {
        match (&self.rest, &self.headers) {
            (Some(_), _) => false,
            (None, Some(headers)) => headers.sent == 0,
            (None, None) => self.waiting || log.is_boundary(self.position),
        }
    }

    /// What has to be sent of the message that was begun, when the viewer leaves the log now.
    pub fn take_rest(&mut self, log: &Log) -> Vec<u8> {
        self.wait(log);
        self.rest.take().map_or_else(Vec::new, |rest| rest.unsent().to_vec())
    }

    /// Whether everything up to the log's end, or to where it leaves the log, is sent.
    pub fn is_caught_up(&self, log: &Log) -> bool {
        let is_at_end = self.position == log.end() || self.leave_at == Some(self.position);
        self.part().is_none() && (self.waiting || is_at_end)
    }

    /// Whether it stands before `limit` (see [`Log::position_of`]).
    pub fn is_before(&self, limit: u64) -> bool {
        !self.waiting && self.position < limit
    }

    /// The position that the log has to keep for it; `None` when none.
    pub fn needs(&self) -> Option<u64> {
        (!self.waiting).then_some(self.position)
    }

    /// Bytes not yet sent.
    pub fn lag_bytes(&self, log: &Log) -> u64 {
        let parts = [&self.rest, &self.headers].into_iter().flatten();
        let parts: usize = parts.map(|part| part.unsent().len()).sum();
        parts as u64 + if self.waiting { 0 } else { log.end() - self.position }
    }

    /// Gives up what lies between, but for the rest of the message that was begun: goes on at the
    /// newest join point when that lies ahead, or waits for the next.
    pub fn skip(&mut self, log: &Log) -> Skipped {
        debug_assert!(!self.waiting);
        let left_at = self.position;
        let lacked_headers = self.headers.is_some();
        self.wait(log);
        match log.join_point() {
            Some(join) if join.position > left_at => {
                if lacked_headers || join.has_headers_after(left_at) {
                    self.join(log);
                } else {
                    self.position = join.position;
                    self.waiting = false;
                }
                Skipped::ToJoinPoint
            }
            _ => Skipped::Waits,
        }
    }

    /// Finishes the message that was begun, then waits for the next join point.
    pub fn wait(&mut self, log: &Log) {
        self.cut(log);
        self.waiting = true;
        self.leave_at = None;
    }

    /// Goes on in a log of the same stream and wire form that has not all of the tracks of this one:
    /// behind the message that was begun, without a gap when the other log reaches back so far.
    pub fn change_to_fewer(&mut self, from: &Log, to: &Log) {
        let had_headers = self.headers.as_ref().is_none_or(|headers| headers.sent > 0);
        let was_waiting = self.waiting;
        self.wait(from);
        match to.position_of_number(self.number) {
            Some(position) if had_headers && !was_waiting => {
                self.position = position;
                self.waiting = false;
            }
            _ => {
                self.join(to);
            }
        }
    }

    /// Goes no further than the log's present end, where it is to change to another log.
    pub fn leave_at_end(&mut self, log: &Log) {
        debug_assert!(!self.waiting);
        self.leave_at = Some(log.end());
    }

    /// Follows its log again.
    pub fn stay(&mut self) {
        self.leave_at = None;
    }

    /// Whether it is to leave its log at some place.
    pub fn is_leaving(&self) -> bool {
        self.leave_at.is_some()
    }

    /// Whether it has been sent everything up to there.
    pub fn has_left(&self) -> bool {
        self.part().is_none() && self.leave_at == Some(self.position)
    }

    /// Having left its log, goes on at this position of another one, after the headers that it lacks
    /// there.
    pub fn enter(&mut self, position: u64, headers: &Rc<[u8]>) {
        debug_assert!(self.has_left());
        self.leave_at = None;
        self.position = position;
        self.headers = Part::unless_empty(headers);
    }

    /// Leaves the place: what remains of the message that was begun is copied aside, so that the
    /// log need not hold it.
    fn cut(&mut self, log: &Log) {
        if self.waiting {
            return;
        }
        self.number = log.number_at(self.position);
        if let Some(headers) = self.headers.take() {
            if headers.sent > 0 {
                debug_assert!(self.rest.is_none(), "the rest goes before the headers");
                self.rest = Some(headers);
            }
            return;
        }
        if self.rest.is_some() {
            return;
        }
        let (end, start) = log.message_end(self.position);
        if start == self.position {
            return;
        }
        self.number += 1;
        let mut bytes = Vec::with_capacity((end - self.position) as usize);
        while self.position < end {
            let parts = log.bytes_at(self.position, (end - self.position) as usize);
            debug_assert!(!parts[0].is_empty(), "the log holds what its cursors need");
            if parts[0].is_empty() {
                break;
            }
            for part in parts {
                bytes.extend_from_slice(part);
                self.position += part.len() as u64;
            }
        }
        self.rest = Some(Part::new(bytes.into()));
    }

    /// What goes before the log's bytes.
    fn part(&self) -> Option<&Part> {
        self.rest.as_ref().or(self.headers.as_ref())
    }
}

impl Part {
    fn new(bytes: Rc<[u8]>) -> Self {
        Self { bytes, sent: 0 }
    }

    fn unless_empty(bytes: &Rc<[u8]>) -> Option<Self> {
        (!bytes.is_empty()).then(|| Self::new(Rc::clone(bytes)))
    }

    fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;
    use tungstenite::WebSocket;
    use tungstenite::protocol::Role;

    use super::*;
    use crate::media::{
        Frame, FrameKind, Moment, Preamble, SEGMENT_BYTES, SegmentPool, Track, Tracks, Wire,
    };
    use crate::proto::flv::TagReader;
    use crate::proto::rtmp::chunk_reader::{ChunkReader, ReaderLimits};

    const RTMP: Wire =
        Wire::Rtmp { message_stream_id: 1, chunk_size: 60_000, tracks: Tracks::BOTH };

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    fn frame(kind: FrameKind, serial: u32, len: usize, ms: u64) -> Frame {
        let mut payload = vec![serial as u8; len.max(5)];
        payload[0] = kind as u8;
        payload[1..5].copy_from_slice(&serial.to_be_bytes());
        let track = if kind == FrameKind::Metadata { Track::Data } else { Track::Video };
        Frame { track, kind, slot: 0, dts_ms: ms, arrival: at(ms), payload: Bytes::from(payload) }
    }

    fn kind_of(byte: u8) -> FrameKind {
        let kinds = [FrameKind::Config, FrameKind::Metadata, FrameKind::Keyframe, FrameKind::Inter];
        *kinds.iter().find(|kind| **kind as u8 == byte).unwrap()
    }

    fn serial_of(payload: &[u8]) -> u32 {
        u32::from_be_bytes(payload[1..5].try_into().unwrap())
    }

    /// The payloads of the whole messages in what a viewer was sent.
    fn read(wire: Wire, bytes: &[u8]) -> Vec<Bytes> {
        match wire {
            Wire::Flv => {
                let mut reader = TagReader::new(1 << 24);
                reader.push(&crate::proto::flv::header(true, true));
                reader.push(bytes);
                std::iter::from_fn(|| reader.next_tag().unwrap()).map(|tag| tag.payload).collect()
            }
            Wire::WsFlv => {
                let mut socket = WebSocket::from_raw_socket(
                    std::io::Cursor::new(bytes.to_vec()),
                    Role::Client,
                    None,
                );
                let mut payloads = Vec::new();
                while let Ok(message) = socket.read() {
                    let tags = read(Wire::Flv, &message.into_data());
                    assert_eq!(tags.len(), 1, "one message per tag");
                    payloads.extend(tags);
                }
                payloads
            }
            Wire::Rtmp { chunk_size, .. } | Wire::Relay { chunk_size, .. } => {
                let mut reader = ChunkReader::new(ReaderLimits {
                    message_bytes_max: 1 << 24,
                    chunk_streams_max: 64,
                    partial_bytes_max: 1 << 25,
                });
                reader.set_chunk_size(chunk_size as usize);
                let (mut rest, mut messages) = (bytes, Vec::new());
                loop {
                    let read = reader.read(rest).unwrap();
                    rest = &rest[read.consumed..];
                    match read.message {
                        Some(message) => messages.push(message.payload),
                        None => break messages,
                    }
                }
            }
        }
    }

    /// The number of the next message of a log that gets all of its stream.
    fn next(log: &Log) -> u64 {
        log.number_at(log.end())
    }

    fn send_all(cursor: &mut Cursor, log: &Log, max: usize) -> Vec<u8> {
        let mut sent = Vec::new();
        loop {
            let part = cursor.next(log, max).concat();
            if part.is_empty() {
                return sent;
            }
            cursor.advance(part.len());
            sent.extend(part);
        }
    }

    fn config(serial: u32) -> Arc<Preamble> {
        let mut preamble = Preamble::default();
        preamble.apply(&frame(FrameKind::Config, serial, 40, 0));
        Arc::new(preamble)
    }

    #[test]
    fn a_skip_finishes_the_message_and_names_the_headers_that_changed() {
        for wire in [RTMP, Wire::Flv, Wire::WsFlv] {
            let (mut log, mut pool) = (Log::new(wire, 0), SegmentPool::default());
            log.append_joinable(
                &frame(FrameKind::Keyframe, 1, 500_000, 0),
                next(&log),
                next(&log),
                &config(90),
                &mut pool,
            );
            let mut cursor = Cursor::waiting();
            assert!(cursor.join(&log));
            let mut sent = cursor.next(&log, 1_000).concat();
            cursor.advance(sent.len());
            let more = cursor.next(&log, 100_000).concat();
            cursor.advance(more.len());
            sent.extend(more);
            assert!(!cursor.at_boundary(&log));
            log.append(&frame(FrameKind::Inter, 2, 50, 40), next(&log), &mut pool);
            log.append_header(&frame(FrameKind::Config, 91, 40, 80), next(&log), &mut pool);
            log.append_joinable(
                &frame(FrameKind::Keyframe, 3, 50, 80),
                next(&log),
                next(&log),
                &config(91),
                &mut pool,
            );
            assert_eq!(cursor.skip(&log), Skipped::ToJoinPoint);
            log.evict(cursor.needs().unwrap(), &mut pool);
            sent.extend(send_all(&mut cursor, &log, usize::MAX));
            let serials: Vec<u32> = read(wire, &sent).iter().map(|it| serial_of(it)).collect();
            assert_eq!(serials, [90, 1, 91, 3]);
        }
    }

    #[test]
    fn a_viewer_that_leaves_in_the_middle_of_a_message_gets_only_its_rest() {
        let (mut log, mut pool) = (Log::new(Wire::Flv, 0), SegmentPool::default());
        log.append_joinable(
            &frame(FrameKind::Keyframe, 1, 500, 0),
            next(&log),
            next(&log),
            &Arc::default(),
            &mut pool,
        );
        let mut cursor = Cursor::waiting();
        cursor.join(&log);
        cursor.advance(100);
        log.append_header(&frame(FrameKind::Config, 91, 40, 80), next(&log), &mut pool);
        log.append_joinable(
            &frame(FrameKind::Keyframe, 2, 500, 80),
            next(&log),
            next(&log),
            &config(91),
            &mut pool,
        );
        assert_eq!(cursor.take_rest(&log).len(), 11 + 500 + 4 - 100);
    }

    #[test]
    fn what_a_stuck_viewer_holds_does_not_grow_with_changing_headers() {
        let (mut log, mut pool) = (Log::new(Wire::Flv, 0), SegmentPool::default());
        log.append_joinable(
            &frame(FrameKind::Keyframe, 0, 500, 0),
            next(&log),
            next(&log),
            &config(1),
            &mut pool,
        );
        let mut cursor = Cursor::waiting();
        cursor.join(&log);
        cursor.advance(10);
        for serial in 2..100 {
            log.append_header(&frame(FrameKind::Config, serial, 40, 0), next(&log), &mut pool);
            log.append_joinable(
                &frame(FrameKind::Keyframe, 0, 500, 0),
                next(&log),
                next(&log),
                &config(serial),
                &mut pool,
            );
            assert_eq!(cursor.skip(&log), Skipped::ToJoinPoint);
        }
        let parts = cursor.lag_bytes(&log) - (log.end() - cursor.needs().unwrap());
        assert!(parts <= 2 * (11 + 40 + 4), "{parts}");
    }

    #[test]
    fn the_join_point_stays_for_new_viewers_however_long_the_group_is() {
        let (mut log, mut pool) = (Log::new(Wire::Flv, 0), SegmentPool::default());
        log.append_joinable(
            &frame(FrameKind::Keyframe, 1, 10, 0),
            next(&log),
            next(&log),
            &Arc::default(),
            &mut pool,
        );
        for serial in 2..2_000 {
            log.append(
                &frame(FrameKind::Inter, serial, 1_000, u64::from(serial) * 40),
                next(&log),
                &mut pool,
            );
            assert_eq!(
                log.lost_limit(at(u64::from(serial) * 40) - std::time::Duration::from_secs(9)),
                0
            );
            log.evict(log.end(), &mut pool);
        }
        assert!(Cursor::waiting().join(&log));
    }

    #[test]
    fn a_log_is_bounded_in_bytes_and_says_who_is_lost() {
        let (mut log, mut pool) = (Log::new(Wire::Flv, 0), SegmentPool::default());
        log.append_joinable(
            &frame(FrameKind::Keyframe, 1, 10, 0),
            next(&log),
            next(&log),
            &Arc::default(),
            &mut pool,
        );
        let mut cursor = Cursor::waiting();
        cursor.join(&log);
        for serial in 2..90 {
            log.append(&frame(FrameKind::Inter, serial, 1 << 20, 0), next(&log), &mut pool);
            if cursor.is_before(log.lost_limit(Moment::ZERO)) {
                assert_eq!(cursor.skip(&log), Skipped::Waits);
            }
            log.evict(cursor.needs().unwrap_or_else(|| log.end()), &mut pool);
            assert!(log.held_bytes() <= (64 << 20) + (1 << 20) + SEGMENT_BYTES as u64);
        }
        assert!(cursor.is_waiting() && log.join_point().is_none());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append { kind: u8, len: usize, wait_ms: u64 },
        Send { viewer: usize, max: usize, times: usize },
        Join { viewer: usize },
        Skip { viewer: usize },
        Leave { viewer: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        let len = prop_oneof![4 => 0_usize..300, 2 => 0_usize..70_000, 1 => 0_usize..300_000];
        let max = prop_oneof![1_usize..20, 1_usize..5_000, 1_usize..400_000];
        prop_oneof![
            6 => (0_u8..12, len, 0_u64..400)
                .prop_map(|(kind, len, wait_ms)| Step::Append { kind, len, wait_ms }),
            8 => (0_usize..4, max, 1_usize..4)
                .prop_map(|(viewer, max, times)| Step::Send { viewer, max, times }),
            2 => (0_usize..4).prop_map(|viewer| Step::Join { viewer }),
            1 => (0_usize..4).prop_map(|viewer| Step::Skip { viewer }),
            1 => (0_usize..4).prop_map(|viewer| Step::Leave { viewer }),
        ]
    }

    /// A viewer, what it was sent, and at which of its frames it skipped.
    struct Viewer {
        cursor: Cursor,
        sent: Vec<u8>,
    }

    fn new_viewer() -> Viewer {
        Viewer { cursor: Cursor::waiting(), sent: Vec::new() }
    }

    /// Everything that was appended: serial, kind, serials of the headers in force after it.
    #[derive(Default)]
    struct Model {
        frames: Vec<(u32, FrameKind)>,
        force: std::collections::HashMap<u32, Vec<u32>>,
    }

    impl Model {
        fn place(&self, serial: u32) -> usize {
            self.frames.iter().position(|(known, _)| *known == serial).unwrap()
        }

        /// What a viewer received keeps the promise in the header of this module.
        fn check(&self, wire: Wire, sent: &[u8]) {
            let mut held: [Option<u32>; 2] = [None, None];
            let mut last: Option<usize> = None;
            for payload in read(wire, sent) {
                let (kind, serial) = (kind_of(payload[0]), serial_of(&payload));
                let place = self.place(serial);
                assert_eq!(self.frames[place].1, kind);
                if kind.is_preamble() {
                    held[usize::from(kind == FrameKind::Config)] = Some(serial);
                    continue;
                }
                let between =
                    &self.frames[last.map_or(0, |last| last + 1)..place.max(last.unwrap_or(0))];
                assert!(last.is_none_or(|last| last < place), "out of order or twice");
                let is_next = last.is_some() && between.iter().all(|(_, kind)| kind.is_preamble());
                assert!(is_next || kind == FrameKind::Keyframe, "a gap that ends at no join point");
                let held: Vec<u32> = held.into_iter().flatten().collect();
                assert_eq!(&held, &self.force[&serial], "not the headers in force");
                last = Some(place);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]
        #[test]
        fn every_viewer_gets_whole_messages_in_order_and_skips_only_to_join_points(
            steps in prop::collection::vec(step(), 1..120),
            wire in prop::sample::select(&[RTMP, Wire::Flv, Wire::WsFlv][..]),
        ) {
            const REACH_MS: u64 = 4_000;
            let (mut log, mut pool) = (Log::new(wire, 0), SegmentPool::default());
            let mut preamble = Arc::new(Preamble::default());
            let mut model = Model::default();
            let mut viewers: Vec<Viewer> = (0..4).map(|_| new_viewer()).collect();
            let (mut serial, mut now_ms) = (0_u32, 0_u64);
            for step in steps {
                match step {
                    Step::Append { kind, len, wait_ms } => {
                        serial += 1;
                        now_ms += wait_ms;
                        let kind = match kind {
                            0 => FrameKind::Config,
                            1 => FrameKind::Metadata,
                            2..5 => FrameKind::Keyframe,
                            _ => FrameKind::Inter,
                        };
                        let frame = frame(kind, serial, len.min(if kind.is_preamble() { 9_000 } else { len }), now_ms);
                        model.frames.push((serial, kind));
                        match kind {
                            FrameKind::Keyframe => {
                                log.append_joinable(&frame, next(&log), next(&log), &preamble, &mut pool);
                                for viewer in &mut viewers {
                                    if viewer.cursor.is_waiting() {
                                        viewer.cursor.join(&log);
                                    }
                                }
                            }
                            FrameKind::Inter => log.append(&frame, next(&log), &mut pool),
                            _ => {
                                Arc::make_mut(&mut preamble).apply(&frame);
                                log.append_header(&frame, next(&log), &mut pool);
                            }
                        }
                        let mut force: Vec<u32> =
                            preamble.headers().iter().map(|it| serial_of(&it.payload)).collect();
                        // Metadata stands first in the preamble, as in the model.
                        force.truncate(2);
                        model.force.insert(serial, force);
                    }
                    Step::Send { viewer, max, times } => {
                        let viewer = &mut viewers[viewer];
                        for _ in 0..times {
                            let within = viewer.cursor.next_within_message(&log, max).concat().len();
                            prop_assert_eq!(within == 0, viewer.cursor.at_boundary(&log));
                            let part = viewer.cursor.next(&log, max).concat();
                            prop_assert_eq!(part.is_empty(), viewer.cursor.is_caught_up(&log));
                            viewer.cursor.advance(part.len());
                            viewer.sent.extend(part);
                        }
                    }
                    Step::Join { viewer } => {
                        let viewer = &mut viewers[viewer];
                        if viewer.sent.is_empty() && viewer.cursor.is_waiting() {
                            viewer.cursor.join(&log);
                        }
                    }
                    Step::Skip { viewer } => {
                        let viewer = &mut viewers[viewer];
                        if !viewer.cursor.is_waiting() {
                            viewer.cursor.skip(&log);
                        }
                    }
                    Step::Leave { viewer } => {
                        let viewer = std::mem::replace(&mut viewers[viewer], new_viewer());
                        let Viewer { mut cursor, mut sent } = viewer;
                        sent.extend(cursor.take_rest(&log));
                        model.check(wire, &sent);
                        prop_assert!(cursor.is_caught_up(&log));
                    }
                }
                let limit = log.lost_limit(at(now_ms) - std::time::Duration::from_millis(REACH_MS));
                for viewer in &mut viewers {
                    if viewer.cursor.is_before(limit) {
                        viewer.cursor.skip(&log);
                    }
                }
                let slowest = viewers.iter().filter_map(|it| it.cursor.needs()).min();
                let slowest = slowest.unwrap_or_else(|| log.end());
                log.evict(slowest, &mut pool);
                let join = log.join_point().map_or_else(|| log.end(), |join| join.position);
                let kept = log.end() - slowest.min(join);
                prop_assert!(log.held_bytes() < kept + SEGMENT_BYTES as u64);
            }
            for Viewer { mut cursor, mut sent } in viewers {
                sent.extend(send_all(&mut cursor, &log, 1 << 16));
                model.check(wire, &sent);
            }
        }
    }
}
