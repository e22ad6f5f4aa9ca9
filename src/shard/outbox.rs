//! What a shard has to say to the other nodes: collected during a turn, handed over at its end as at
//! most one envelope per destination.
//!
//! Always true: notices to a node arrive in the order in which they were said, and none is lost; media
//! that does not fit into the lane is dropped whole, the drop is reported to the caller (which resumes
//! at the next join point) and counted.

use std::collections::VecDeque;
use std::sync::Arc;

use super::messages::{Envelope, MediaBatch, Node, Notice, Subscription};
use crate::limits;
use crate::media::{Frame, Preamble, StreamId};
use crate::rt::mesh::MeshEnd;

/// Counts of the mesh, of one shard.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct MeshCounters {
    /// Envelopes sent: at most one per destination and turn.
    pub envelopes_sent: u64,
    /// Frames sent, counted per destination.
    pub frames_sent: u64,
    /// Payload bytes of those frames.
    pub bytes_sent: u64,
    /// Envelopes received.
    pub envelopes_received: u64,
    /// Frames received.
    pub frames_received: u64,
    /// Payload bytes of those frames.
    pub bytes_received: u64,
    /// Frames dropped because a lane was full.
    pub frames_dropped: u64,
    /// Notices that had to wait for room in a lane.
    pub notices_delayed: u64,
}

/// The outboxes of one node.
#[derive(Debug)]
pub struct Outbox {
    lanes: Vec<Lane>,
    /// Counted here and by the reader of the mesh.
    pub counters: MeshCounters,
}

#[derive(Debug, Default)]
struct Lane {
    notices: VecDeque<Notice>,
    media: Vec<MediaBatch>,
    frames: usize,
    bytes: usize,
}

/// Media of a stream that a node did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The node.
    pub node: Node,
    /// The stream.
    pub stream: StreamId,
}

impl Outbox {
    /// Empty boxes for every node.
    pub fn new(nodes: usize) -> Self {
        Self {
            lanes: (0..nodes).map(|_| Lane::default()).collect(),
            counters: MeshCounters::default(),
        }
    }

    /// Says something that must arrive.
    pub fn notice(&mut self, node: Node, notice: Notice) {
        self.lanes[node].notices.push_back(notice);
    }

    /// Passes a frame on. `start` begins a subscription (or ends a gap) with the headers in force.
    /// False when the turn's share of the lane is used up: the frame is dropped.
    pub fn frame(
        &mut self,
        node: Node,
        stream: StreamId,
        subscription: Subscription,
        start: Option<Arc<Preamble>>,
        frame: &Frame,
    ) -> bool {
        let lane = &mut self.lanes[node];
        // One frame goes however large it is; empty ones count for what they take.
        let size = lane.bytes + frame.payload.len() + lane.frames * size_of::<Frame>();
        if size > limits::MESH_ENVELOPE_BYTES_MAX && lane.frames > 0 {
            self.counters.frames_dropped += 1;
            return false;
        }
        lane.frames += 1;
        lane.bytes += frame.payload.len();
        // A connection's frames come one after the other, so the last batch is nearly always the one.
        match lane.media.last_mut() {
            Some(batch)
                if (batch.stream, batch.subscription) == (stream, subscription)
                    && start.is_none() =>
            {
                batch.frames.push(frame.clone());
            }
            _ => {
                let frames = vec![frame.clone()];
                lane.media.push(MediaBatch { stream, subscription, start, frames });
            }
        }
        true
    }

    /// Whether anything waits to be handed over.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.notices.is_empty() && lane.media.is_empty())
    }

    /// Hands everything over, as far as the lanes have room. `gaps` gets the streams whose frames were
    /// dropped.
    pub fn hand_over(&mut self, mesh: &MeshEnd<Box<Envelope>>, gaps: &mut Vec<Gap>) {
        for (node, lane) in self.lanes.iter_mut().enumerate() {
            if lane.notices.is_empty() && lane.media.is_empty() {
                continue;
            }
            let (frames, bytes) = (lane.frames as u64, lane.bytes as u64);
            (lane.frames, lane.bytes) = (0, 0);
            let count = lane.notices.len().min(limits::MESH_ENVELOPE_NOTICES_MAX);
            let media = std::mem::take(&mut lane.media);
            let envelope =
                Box::new(Envelope { notices: lane.notices.drain(..count).collect(), media });
            match mesh.try_send(node, envelope) {
                Ok(()) => {
                    self.counters.envelopes_sent += 1;
                    self.counters.frames_sent += frames;
                    self.counters.bytes_sent += bytes;
                }
                Err(envelope) => {
                    self.counters.frames_dropped += frames;
                    self.counters.notices_delayed += envelope.notices.len() as u64;
                    gaps.extend(
                        envelope.media.iter().map(|batch| Gap { node, stream: batch.stream }),
                    );
                    for notice in envelope.notices.into_iter().rev() {
                        lane.notices.push_front(notice);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::{FrameKind, Moment, Track};
    use crate::rt::mesh::Mesh;

    const STREAM: StreamId = StreamId(1);
    const FIRST: Subscription = Subscription(1);

    fn frame(len: usize) -> Frame {
        Frame {
            track: Track::Video,
            kind: FrameKind::Inter,
            slot: 0,
            dts_ms: 0,
            arrival: Moment::ZERO,
            payload: Bytes::from(vec![0; len]),
        }
    }

    fn notice(stream: u64) -> Notice {
        Notice::StreamDown { stream: StreamId(stream) }
    }

    fn streams(envelope: &Envelope) -> Vec<u64> {
        let ids = envelope.notices.iter().map(|notice| match notice {
            Notice::StreamDown { stream } => stream.0,
            other => panic!("unexpected: {other:?}"),
        });
        ids.collect()
    }

    #[test]
    fn one_envelope_per_turn_carries_everything_in_order() {
        let ends = Mesh::new(2, 8).unwrap();
        let mut outbox = Outbox::new(2);
        for number in 0..5 {
            outbox.notice(1, notice(number));
            assert!(outbox.frame(1, STREAM, FIRST, None, &frame(10)));
        }
        outbox.hand_over(&ends[0], &mut Vec::new());
        let envelope = ends[1].try_recv(0).unwrap();
        assert_eq!(streams(&envelope), [0, 1, 2, 3, 4]);
        assert_eq!(envelope.media.len(), 1);
        assert_eq!(envelope.media[0].frames.len(), 5);
        assert!(ends[1].try_recv(0).is_none() && outbox.is_empty());
    }

    #[test]
    fn a_start_and_another_subscription_begin_a_batch() {
        let ends = Mesh::new(2, 8).unwrap();
        let mut outbox = Outbox::new(2);
        let start = || Some(Arc::default());
        outbox.frame(1, STREAM, FIRST, start(), &frame(1));
        outbox.frame(1, STREAM, FIRST, None, &frame(2));
        outbox.frame(1, STREAM, FIRST, start(), &frame(3));
        outbox.frame(1, STREAM, Subscription(2), None, &frame(4));
        outbox.hand_over(&ends[0], &mut Vec::new());
        let envelope = ends[1].try_recv(0).unwrap();
        let sizes: Vec<(usize, bool)> =
            envelope.media.iter().map(|it| (it.frames.len(), it.start.is_some())).collect();
        assert_eq!(sizes, [(2, true), (1, true), (1, false)]);
    }

    #[test]
    fn a_full_lane_drops_media_and_says_so_but_keeps_every_notice_in_order() {
        let ends = Mesh::new(2, 1).unwrap();
        let (mut outbox, mut gaps) = (Outbox::new(2), Vec::new());
        for turn in 0..4 {
            outbox.notice(1, notice(turn));
            outbox.frame(1, STREAM, FIRST, None, &frame(10));
            outbox.hand_over(&ends[0], &mut gaps);
        }
        let gap = Gap { node: 1, stream: STREAM };
        assert_eq!(gaps, [gap, gap, gap]);
        assert_eq!(outbox.counters.frames_dropped, 3);
        assert_eq!(streams(&ends[1].try_recv(0).unwrap()), [0]);
        outbox.hand_over(&ends[0], &mut gaps);
        let late = ends[1].try_recv(0).unwrap();
        assert_eq!((streams(&late), late.media.len()), (vec![1, 2, 3], 0));
        assert!(outbox.is_empty());
    }

    #[test]
    fn an_envelope_is_bounded_in_bytes_and_notices() {
        let ends = Mesh::new(2, 8).unwrap();
        let mut outbox = Outbox::new(2);
        let half = frame(limits::MESH_ENVELOPE_BYTES_MAX / 2 + 1);
        assert!(outbox.frame(1, STREAM, FIRST, None, &half));
        assert!(!outbox.frame(1, STREAM, FIRST, None, &half));
        let count = limits::MESH_ENVELOPE_NOTICES_MAX as u64 + 1;
        (0..count).for_each(|number| outbox.notice(1, notice(number)));
        outbox.hand_over(&ends[0], &mut Vec::new());
        assert!(outbox.frame(1, STREAM, FIRST, None, &half), "a new turn has its own share");
        outbox.hand_over(&ends[0], &mut Vec::new());
        let first = streams(&ends[1].try_recv(0).unwrap());
        let second = streams(&ends[1].try_recv(0).unwrap());
        assert_eq!([first, second].concat(), (0..count).collect::<Vec<u64>>());
    }
}
