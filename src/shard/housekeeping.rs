//! Time-outs, pace and counts: looked at by and by, a part of the connections at a time, so that no
//! turn is long.

use std::time::Duration;

use super::Shard;
use super::messages::{ConnKey, Notice};
use crate::media::Moment;
use crate::session::CloseReason;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(100);
/// In so many looks every connection is seen once.
const LOOKS: usize = 10;
/// The pace of a shard without streams.
const TURN_MIN_DEFAULT: Duration = Duration::from_millis(5);

impl Shard {
    /// Does what is due.
    pub(super) fn housekeeping(&mut self, now: Moment) {
        if now < self.next_housekeeping {
            return;
        }
        self.next_housekeeping = now + INTERVAL;
        let slots = self.conns.slots();
        for _ in 0..slots.div_ceil(LOOKS) {
            if let Some(key) = self.conns.key_at(self.housekeeping_slot)
                && self.conns.get(key).is_some_and(|conn| conn.closing.is_none())
            {
                self.drive(key, now, |session, io| session.tick(io));
                if let Some(conn) = self.conns.get_mut(key) {
                    conn.meter.roll(now, [conn.bytes_in, conn.bytes_out]);
                }
                self.report_relay(key, now);
            }
            self.housekeeping_slot += 1;
            if self.housekeeping_slot >= slots {
                self.housekeeping_slot = 0;
                self.watch_viewers(now);
            }
        }
        self.turn_min = self
            .publications
            .values()
            .map(|publication| publication.settings.turn_min)
            .chain(self.viewers.values().map(|viewed| viewed.settings.turn_min))
            .min()
            .unwrap_or(TURN_MIN_DEFAULT);
        self.roll_meters(now);
        self.describe_publications(now);
        self.publish_load(now);
        self.drain_late(now);
        self.crowd.is_now(self.conns.len(), now);
        let dropped = std::mem::take(&mut self.counters.room_texts_dropped);
        if dropped > 0 {
            self.outbox.notice(self.control, Notice::RoomTextsDropped(dropped));
        }
    }

    fn roll_meters(&mut self, now: Moment) {
        for publication in self.publications.values_mut() {
            publication.roll_meter(now);
        }
        for viewed in self.viewers.values_mut() {
            viewed.roll_meter(now);
        }
    }

    /// One line per publication when it is known what it sends, and when that changes.
    fn describe_publications(&mut self, now: Moment) {
        for publication in self.publications.values_mut() {
            let Some(media) = publication.news(now) else { continue };
            let (video, audio) = (media.video_words(), media.audio_words());
            let Some(conn) = self.conns.get(publication.connection) else { continue };
            tracing::info!(
                shard = self.index, client = conn.id.0, peer = %conn.peer,
                stream = %publication.name, video, audio,
                "publishing"
            );
        }
    }

    /// Closes viewers that take nothing, and those whose wait for a publisher is over.
    fn watch_viewers(&mut self, now: Moment) {
        let mut closed: Vec<(ConnKey, CloseReason)> = Vec::new();
        for viewed in self.viewers.values() {
            let settings = &viewed.settings;
            // Who waits for the next keyframe of a stream that is published waits for that.
            let wait_max = settings.wait_timeout.filter(|_| viewed.owner().is_none());
            let paused = viewed.paused.iter().map(|paused| &paused.viewer);
            for viewer in viewed.logs.iter().flat_map(|state| &state.viewers).chain(paused) {
                let stalled = viewer
                    .blocked_since
                    .zip(settings.viewer_stall_timeout)
                    .is_some_and(|(since, max)| now.since(since) > max);
                let waited = viewer.ended
                    && wait_max.is_some_and(|max| now.since(viewer.waiting_since) > max);
                if stalled {
                    self.pass.counters.stalled += 1;
                    closed.push((viewer.connection, CloseReason::Stalled));
                } else if waited {
                    let text =
                        format!("{} was not published within play.wait_timeout", viewed.name);
                    closed.push((viewer.connection, CloseReason::NotPublished(text)));
                }
            }
        }
        for (key, reason) in closed {
            self.close(key, reason, now);
        }
    }

    fn publish_load(&mut self, now: Moment) {
        let (bytes, at) = self.counters.egress_mark;
        let elapsed = now.since(at);
        if elapsed < Duration::from_secs(1) {
            return;
        }
        let sent = self.pass.counters.send_bytes;
        let rate = (sent - bytes) as f64 / elapsed.as_secs_f64();
        self.load.set_egress(rate as u64);
        self.counters.egress_mark = (sent, now);
    }
}
