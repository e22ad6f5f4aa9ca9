//! The shard's account of itself: counters at once, streams and clients a few per turn, so that no turn
//! is long however many there are. The control shard asks, and puts the accounts of all shards together.

use std::collections::BTreeMap;

use super::Shard;
use super::report::{ClientReport, ClientStream, ShardReport, StreamReport};
use super::viewers::ViewerStream;
use crate::limits;
use crate::media::{Moment, StreamId};

/// What the control shard wants to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SurveyOrder {
    /// Its number; the answer carries it.
    pub round: u64,
    /// Clients, too.
    pub with_clients: bool,
}

/// An account that is being drawn up.
#[derive(Debug)]
pub(super) struct Survey {
    order: SurveyOrder,
    /// Streams that are still to be looked at.
    streams: Vec<StreamId>,
    /// The next slot of the connection table to be looked at.
    slot: usize,
    found: Vec<StreamReport>,
    clients: Vec<ClientReport>,
}

impl Shard {
    /// Begins an account, or lets it follow the one at hand. Of several that wait the newest is drawn
    /// up, which answers the others.
    pub(super) fn survey(&mut self, order: SurveyOrder) {
        if self.survey.is_none() {
            self.survey = Some(self.begin_survey(order));
            return;
        }
        let waiting = self.next_survey.get_or_insert(order);
        waiting.round = waiting.round.max(order.round);
        waiting.with_clients |= order.with_clients;
    }

    fn begin_survey(&mut self, order: SurveyOrder) -> Survey {
        let mut streams: Vec<StreamId> = self.publications.keys().copied().collect();
        let viewed = self.viewers.keys().filter(|id| !self.publications.contains_key(id));
        streams.extend(viewed);
        Survey { order, streams, slot: 0, found: Vec::new(), clients: Vec::new() }
    }

    /// Goes on with an account: at most [`limits::SURVEY_ITEMS_PER_TURN_MAX`] streams and connections.
    pub(super) fn survey_on(&mut self, now: Moment) {
        let Some(mut survey) = self.survey.take() else { return };
        self.counters.survey_pieces += 1;
        let mut left = limits::SURVEY_ITEMS_PER_TURN_MAX;
        while left > 0
            && let Some(id) = survey.streams.pop()
        {
            left -= 1;
            survey.found.extend(self.report_stream(id, now));
        }
        let slots = if survey.order.with_clients { self.conns.slots() } else { 0 };
        while left > 0 && survey.slot < slots {
            left -= 1;
            survey.clients.extend(self.report_client(survey.slot, now));
            survey.slot += 1;
        }
        if !survey.streams.is_empty() || survey.slot < slots {
            self.survey = Some(survey);
            return;
        }
        self.counters.surveys += 1;
        let report = self.report(survey);
        self.outbox.notice(self.control, super::Notice::Report(Box::new(report)));
        self.survey = self.next_survey.take().map(|order| self.begin_survey(order));
    }

    fn report(&self, survey: Survey) -> ShardReport {
        let Survey { order, mut found, clients, .. } = survey;
        found.sort_unstable_by_key(|stream| stream.id);
        let egress = self.pass.counters;
        let mut publication = self.counters.ended;
        for other in self.publications.values() {
            publication.add(other.counters);
        }
        let mut reception = self.counters.reception;
        let (mut viewers, mut log_bytes) = (0, 0);
        for viewed in self.viewers.values() {
            reception.add(viewed.counters);
            viewers += viewed.viewer_count();
            log_bytes += viewed.held_bytes();
        }
        let drops = BTreeMap::from([
            ("mesh_full", self.outbox.counters.frames_dropped),
            ("viewer_lag", egress.skips),
            ("stalled", egress.stalled),
            ("before_keyframe", publication.frames_useless),
            ("malformed", publication.frames_malformed),
        ]);
        ShardReport {
            round: order.round,
            has_clients: order.with_clients,
            shard: self.index,
            connections: self.conns.len(),
            viewers,
            publishers: self.publications.len(),
            turns: self.counters.turns,
            cpu_us: (self.thread_cpu)().as_micros() as u64,
            reads: self.counters.reads,
            read_bytes: self.counters.read_bytes,
            bytes_by_protocol: self.counters.by_protocol,
            egress,
            egress_backend: format!("{:?}", self.pass.egress().backend()),
            flush_duration: self.counters.flush_duration,
            frame_age: self.pass.frame_age,
            mesh: self.outbox.counters,
            push: self.members.deliveries,
            drops,
            closed: self.counters.closed.clone(),
            reception,
            log_bytes,
            free_segment_bytes: self.pool.free_bytes(),
            frames_in: publication.frames_in,
            timestamps_repaired: publication.timestamps_repaired,
            handovers: self.counters.handovers,
            surveys: self.counters.surveys,
            survey_pieces: self.counters.survey_pieces,
            streams: found,
            clients,
        }
    }

    fn report_stream(&self, id: StreamId, now: Moment) -> Option<StreamReport> {
        let mut entry = match self.viewers.get(&id) {
            Some(viewed) => report_viewers(viewed, now),
            None => StreamReport::default(),
        };
        if let Some(publication) = self.publications.get(&id) {
            publication.report(&mut entry, now);
            let publisher = self.conns.get(publication.connection);
            entry.publisher_id = publisher.map(|conn| conn.id);
            entry.publisher_info = publisher.and_then(|conn| conn.session.client().cloned());
        }
        // What ended since the account was begun is left out.
        entry.full_name.as_ref()?;
        entry.id = id.0;
        Some(entry)
    }

    fn report_client(&self, slot: usize, now: Moment) -> Option<ClientReport> {
        let key = self.conns.key_at(slot)?;
        let conn = self.conns.get(key).filter(|conn| conn.closing.is_none())?;
        let plays = conn.plays.iter().map(|play| ClientStream {
            stream: play.stream,
            message_stream_id: play.message_stream_id,
            is_publisher: false,
            since: play.since,
        });
        let publishes = conn.publishes.iter().map(|publishing| ClientStream {
            stream: publishing.stream,
            message_stream_id: publishing.message_stream_id,
            is_publisher: true,
            since: self.publications.get(&publishing.stream).map_or(now, |it| it.begun),
        });
        let [rate_in, rate_out] = conn.meter.per_second(now, [conn.bytes_in, conn.bytes_out]);
        Some(ClientReport {
            id: conn.id,
            shard: self.index,
            connection: key,
            peer: conn.session.peer(),
            protocol: conn.session.protocol(),
            info: conn.session.client().cloned(),
            since: conn.since,
            bytes_in: conn.bytes_in,
            bytes_out: conn.bytes_out,
            bits_per_second_in: (rate_in * 8.0) as u64,
            bits_per_second_out: (rate_out * 8.0) as u64,
            skips: conn.skips,
            streams: publishes.chain(plays).collect(),
        })
    }
}

fn report_viewers(viewed: &ViewerStream, now: Moment) -> StreamReport {
    StreamReport {
        name: viewed.name.to_string(),
        full_name: Some(viewed.name.clone()),
        epoch: Shard::epoch_of(viewed).map(|epoch| epoch.0),
        viewers: viewed.viewer_count(),
        waiting: viewed.logs.iter().map(|state| state.waiting).sum(),
        paused: viewed.paused.len(),
        logs: viewed.logs.len(),
        log_bytes: viewed.held_bytes(),
        sent_bytes: viewed.sent_bytes(),
        sent_bits_per_second: (viewed.sent_per_second(now) * 8.0) as u64,
        last_ms: viewed.last_ms(),
        ..StreamReport::default()
    }
}

#[cfg(test)]
mod tests;
