//! The stream log: everything a shard sends of one stream in one wire form, written once.
//!
//! It is at once the GOP cache of new viewers (they begin at the newest join point), the send
//! queue of every viewer (each is a cursor, see [`super::Cursor`]) and the bound on memory: it holds
//! what lies behind the newest join point or the slowest cursor, and never more than a fixed number of
//! bytes; cursors behind [`Log::lost_limit`] have to move on, so a slow viewer cannot make it grow.
//!
//! Positions count bytes since the log began and are never reused. All segments but the last are
//! full, so a position finds its segment by division.
//!
//! Logs of one stream that hold other tracks or another wire form have other positions for the same
//! message: its number says which it is. Numbers rise from message to message; a log lacks those of
//! the tracks that it does not hold.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::segment::{SEGMENT_BYTES, Segment, SegmentPool};
use super::{Frame, Moment, Preamble, Track, Wire};

/// Bytes behind the log's end that it serves, whatever its reach in time.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Where a new viewer, or one that fell behind, begins.
#[derive(Debug)]
pub struct JoinPoint {
    /// Position of the first message.
    pub position: u64,
    /// Number of the first message.
    pub number: u64,
    /// Headers in force there.
    preamble: Arc<Preamble>,
    /// Position behind the last header in the log before this point.
    header_end: u64,
    timestamp_ms: u32,
    lead: OnceCell<Rc<[u8]>>,
}

/// One stream in one wire form on one shard.
#[derive(Debug)]
pub struct Log {
    wire: Wire,
    segments: VecDeque<Segment>,
    index: VecDeque<Message>,
    /// Position of the first byte of the first segment.
    base: u64,
    end: u64,
    /// All messages of its tracks from this number on are here.
    complete_from: u64,
    /// One more than the number of the last message.
    next_number: u64,
    join: Option<JoinPoint>,
    header_end: u64,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    start: u64,
    number: u64,
    arrival: Moment,
}

impl Log {
    /// An empty log that is given all messages of its tracks from `number` on.
    pub fn new(wire: Wire, number: u64) -> Self {
        Self {
            wire,
            segments: VecDeque::new(),
            index: VecDeque::new(),
            base: 0,
            end: 0,
            complete_from: number,
            next_number: number,
            join: None,
            header_end: 0,
        }
    }

    /// The wire form it is written in.
    pub fn wire(&self) -> Wire {
        self.wire
    }

    /// Position behind the last byte.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Where a viewer can begin now.
    pub fn join_point(&self) -> Option<&JoinPoint> {
        self.join.as_ref()
    }

    /// Appends a header that followers have to see before the next frame.
    pub fn append_header(&mut self, frame: &Frame, number: u64, pool: &mut SegmentPool) {
        self.append(frame, number, pool);
        self.header_end = self.end;
    }

    /// Appends a frame at which a viewer can begin; `preamble` are the headers in force. The viewer is
    /// sent the messages from number `first` on, which is this one's or a little less.
    pub fn append_joinable(
        &mut self,
        frame: &Frame,
        number: u64,
        first: u64,
        preamble: &Arc<Preamble>,
        pool: &mut SegmentPool,
    ) {
        // What is no longer held cannot be begun with.
        let found = self.position_of_number(first).filter(|start| *start >= self.base);
        let (position, first) = found.map_or((self.end, number), |position| (position, first));
        self.join = Some(JoinPoint {
            position,
            number: first,
            preamble: Arc::clone(preamble),
            header_end: self.header_end,
            timestamp_ms: frame.wire_timestamp_ms(),
            lead: OnceCell::new(),
        });
        self.append(frame, number, pool);
    }

    /// Appends a frame. Copies its payload once, whatever the number of viewers.
    pub fn append(&mut self, frame: &Frame, number: u64, pool: &mut SegmentPool) {
        debug_assert!(number >= self.next_number, "numbers rise");
        self.next_number = number + 1;
        // In order, also where publishers follow each other: moments are looked up in it.
        let arrival = self.index.back().map_or(frame.arrival, |it| it.arrival.max(frame.arrival));
        self.index.push_back(Message { start: self.end, number, arrival });
        let segments = &mut self.segments;
        let mut written = 0_u64;
        self.wire.write_frame(frame, &mut |mut bytes| {
            written += bytes.len() as u64;
            // What `make gate-selftest` builds: the gates on the hot path have to find it.
            #[cfg(gate_ballast)]
            std::hint::black_box(bytes.to_vec());
            while !bytes.is_empty() {
                if segments.back().is_none_or(Segment::is_full) {
                    segments.push_back(pool.take());
                }
                let Some(last) = segments.back_mut() else { return };
                let taken = last.append(bytes);
                bytes = &bytes[taken..];
            }
        });
        self.end += written;
        if self.join.as_ref().is_some_and(|join| join.position < self.bytes_limit()) {
            self.join = None;
        }
    }

    /// No viewer can begin here until the next join point (the group of pictures grew too large).
    pub fn forget_join_point(&mut self) {
        self.join = None;
    }

    /// The bytes from `position` on, at most `bytes_max`, as far as they lie in two segments. Both
    /// pieces are empty at the end; the second one is, unless the first one ends with its segment.
    pub fn bytes_at(&self, position: u64, bytes_max: usize) -> [&[u8]; 2] {
        debug_assert!(position >= self.base && position <= self.end);
        let offset = position.saturating_sub(self.base);
        let within = (offset % SEGMENT_BYTES as u64) as usize;
        let at = (offset / SEGMENT_BYTES as u64) as usize;
        let first = self.segments.get(at).and_then(|it| it.bytes().get(within..)).unwrap_or(&[]);
        if first.len() >= bytes_max {
            return [&first[..bytes_max], &[]];
        }
        let second = self.segments.get(at + 1).map_or(&[][..], Segment::bytes);
        [first, &second[..second.len().min(bytes_max - first.len())]]
    }

    /// Whether a message begins, or the log ends, at `position`.
    pub fn is_boundary(&self, position: u64) -> bool {
        position == self.end || self.message_end(position).1 == position
    }

    /// End and start of the message that `position` lies in (for the log's end: the end twice).
    pub fn message_end(&self, position: u64) -> (u64, u64) {
        let next = self.index.partition_point(|message| message.start <= position);
        let end = self.index.get(next).map_or(self.end, |message| message.start);
        let start = next.checked_sub(1).map_or(self.base, |at| self.index[at].start);
        if position == self.end { (self.end, self.end) } else { (end, start) }
    }

    /// Number of the message that `position` lies in; at the log's end, of the next one or less.
    pub fn number_at(&self, position: u64) -> u64 {
        if position >= self.end {
            return self.next_number;
        }
        let next = self.index.partition_point(|message| message.start <= position);
        next.checked_sub(1).map_or(self.next_number, |at| self.index[at].number)
    }

    /// Position of the first message with this number or a higher one; `None` when the log may lack
    /// some of them.
    pub fn position_of_number(&self, number: u64) -> Option<u64> {
        if number < self.complete_from {
            return None;
        }
        let first = self.index.partition_point(|message| message.number < number);
        Some(self.index.get(first).map_or(self.end, |message| message.start))
    }

    /// When the message at a position came to the publisher's shard, or one before it if that was later;
    /// `None` behind the last one.
    pub fn arrival_at(&self, position: u64) -> Option<Moment> {
        let next = self.index.partition_point(|message| message.start <= position);
        let is_held = position < self.end;
        next.checked_sub(1).filter(|_| is_held).map(|at| self.index[at].arrival)
    }

    /// Position of the first message that arrived after `oldest`: a cursor before it is late.
    pub fn position_of(&self, oldest: Moment) -> u64 {
        // Most often none is older.
        if let Some(first) = self.index.front().filter(|first| first.arrival >= oldest) {
            return first.start;
        }
        let first = self.index.partition_point(|message| message.arrival < oldest);
        self.index.get(first).map_or(self.end, |message| message.start)
    }

    /// A cursor before this position has to move on: it is behind what the log keeps, which is its
    /// reach in time (messages not older than `oldest`) and in bytes. What lies behind the newest
    /// join point is kept for new viewers in any case, so nobody there is lost for its age.
    pub fn lost_limit(&self, oldest: Moment) -> u64 {
        let join = self.join.as_ref().map_or(self.end, |join| join.position);
        self.position_of(oldest).min(join).max(self.bytes_limit())
    }

    /// Gives back the segments before `slowest` (the smallest cursor; the log's end without any) and
    /// before the join point.
    pub fn evict(&mut self, slowest: u64, pool: &mut SegmentPool) {
        let join = self.join.as_ref().map_or(self.end, |join| join.position);
        let keep = slowest.min(join);
        while self.base + SEGMENT_BYTES as u64 <= keep {
            let Some(segment) = self.segments.pop_front() else { break };
            pool.give_back(segment);
            self.base += SEGMENT_BYTES as u64;
        }
        while self.index.get(1).is_some_and(|next| next.start <= self.base) {
            self.forget_first();
        }
        // Of the message that the base lies in, the beginning is gone.
        if self.index.front().is_some_and(|first| first.start < self.base) {
            self.complete_from = self.complete_from.max(self.index[0].number + 1);
        }
    }

    fn forget_first(&mut self) {
        if let Some(first) = self.index.pop_front() {
            self.complete_from = first.number + 1;
        }
    }

    fn bytes_limit(&self) -> u64 {
        self.end.saturating_sub(LOG_BYTES_MAX)
    }

    /// Bytes held.
    pub fn held_bytes(&self) -> u64 {
        self.end - self.base
    }

    /// Ends the log and gives its segments back.
    pub fn release(self, pool: &mut SegmentPool) {
        for segment in self.segments {
            pool.give_back(segment);
        }
    }
}

impl JoinPoint {
    /// The headers in wire form, stamped with the time of the first frame; made once for all
    /// viewers that begin here; metadata with 0, see [`Frame::wire_timestamp_ms`].
    pub fn lead(&self, wire: Wire) -> &Rc<[u8]> {
        self.lead.get_or_init(|| {
            let mut bytes = Vec::new();
            let tracks = wire.tracks();
            for header in self.preamble.headers().iter().filter(|it| tracks.has(it.track)) {
                let at_ms = if header.track == Track::Data { 0 } else { self.timestamp_ms };
                wire.write(header.track, at_ms, &header.payload, &mut |part| {
                    bytes.extend_from_slice(part);
                });
            }
            bytes.into()
        })
    }

    /// Whether a viewer that followed the log up to `position` lacks headers in force here.
    pub fn has_headers_after(&self, position: u64) -> bool {
        self.header_end > position
    }
}
