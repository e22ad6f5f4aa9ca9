//! One turn of a shard: read, hand over, send.

use std::time::Duration;

use super::{ConnKey, Scope, Shard};
use crate::limits;
use crate::media::Moment;
use crate::rt::clock;
use crate::rt::poller::DOORBELL;

/// A shard whose passes cost this much sends no more often than that.
const PASS_PAUSE_MAX: Duration = Duration::from_secs(1);

impl Shard {
    /// Does everything that can be done now. Says whether anything came in.
    pub async fn turn(&mut self) -> bool {
        let now = clock::now();
        self.counters.turns += 1;
        let mut has_work = self.take_connections(now);
        has_work |= self.take_envelopes(now);
        has_work |= self.read_sockets(now);
        self.housekeeping(now);
        self.collect_releases();
        // Before the sends of this shard: other shards' viewers need not wait for ours.
        self.hand_over();
        self.send_outputs(now);
        self.flush(now).await;
        self.bury_dead(now);
        has_work
    }

    /// When the next turn has something to do although nothing comes in.
    pub fn next_due(&self) -> Option<Moment> {
        let flush = self
            .viewers
            .values()
            .filter_map(super::ViewerStream::next_due)
            .min()
            .map(|at| at.max(self.pass_not_before));
        let now = (!self.outbox.is_empty() || !self.releases.is_empty()).then_some(Moment::ZERO);
        let outputs =
            self.out_list.iter().filter_map(|key| Some(self.conns.get(*key)?.out_next_try)).min();
        let housekeeping = (self.conns.len() > 0).then_some(self.next_housekeeping);
        [flush, now, outputs, housekeeping].into_iter().flatten().min()
    }

    /// The pace: the next turn begins no earlier than this after the last one.
    pub fn turn_min(&self) -> Duration {
        self.turn_min
    }

    fn take_connections(&mut self, now: Moment) -> bool {
        let mut any = false;
        while let Some(new) = self.inbox.try_recv() {
            any = true;
            self.accept(new, now);
        }
        any
    }

    fn take_envelopes(&mut self, now: Moment) -> bool {
        let mut any = false;
        for node in 0..self.mesh.nodes() {
            while let Some(envelope) = self.mesh.try_recv(node) {
                any = true;
                self.outbox.counters.envelopes_received += 1;
                for notice in envelope.notices {
                    self.notice(node, notice, now);
                }
                for batch in envelope.media {
                    self.media(batch, now);
                }
            }
        }
        any
    }

    fn read_sockets(&mut self, now: Moment) -> bool {
        let mut ready = std::mem::take(&mut self.ready);
        if let Err(error) = self.poller.poll_now(&mut ready) {
            tracing::error!(shard = self.index, %error, "asking for ready sockets failed");
        }
        let any = !ready.is_empty();
        for event in &ready {
            if event.token == DOORBELL {
                self.mesh.drain_doorbell();
            } else {
                self.read(ConnKey::from_token(event.token), now);
            }
        }
        self.ready = ready;
        any
    }

    fn collect_releases(&mut self) {
        for notice in self.releases.take() {
            self.outbox.notice(self.control, notice);
        }
    }

    fn hand_over(&mut self) {
        let mut gaps = std::mem::take(&mut self.gaps);
        self.outbox.hand_over(&self.mesh, &mut gaps);
        for gap in gaps.drain(..) {
            if let Some(publication) = self.publications.get_mut(&gap.stream) {
                publication.gap(gap.node);
            }
        }
        self.gaps = gaps;
    }

    /// Sends what is due on every log. When passes would take more than half of the time, they come
    /// less often and so carry more at once.
    async fn flush(&mut self, now: Moment) {
        // What falls due before the next turn can begin would be late by then.
        let horizon = now + self.turn_min;
        let is_due = |at: Option<Moment>| at.is_some_and(|at| at < horizon);
        if now < self.pass_not_before {
            if self.viewers.values().any(|stream| is_due(stream.next_due())) {
                self.pass.counters.flush_late += 1;
            }
            return;
        }
        let before = clock::thread_cpu();
        let mut any = false;
        for stream in self.viewers.values_mut() {
            for state in &mut stream.logs {
                let due = is_due(state.due);
                if !due && !state.has_eager && state.retry_at.is_none_or(|at| at > now) {
                    continue;
                }
                any = true;
                let scope = if due { Scope::All } else { Scope::Waiting };
                let settings = &stream.settings;
                self.pass.run(state, settings, &mut self.conns, &mut self.pool, scope, now).await;
            }
        }
        if any {
            let cost = clock::thread_cpu().saturating_sub(before);
            self.pass_cost = cost.max(self.pass_cost - self.pass_cost / 8);
            self.pass_not_before = now + (self.pass_cost * 2).min(PASS_PAUSE_MAX);
        }
        self.end_streams(now);
    }

    /// Ends what the pass found dead, and those that are on their way out.
    fn bury_dead(&mut self, now: Moment) {
        while let Some((key, reason)) = self.pass.dead.pop() {
            self.close(key, reason, now);
        }
        self.report_skips();
        self.finish_closing(now);
    }

    fn report_skips(&mut self) {
        for (key, skipped, lag_bytes) in self.pass.skipped.drain(..) {
            if let Some(conn) = self.conns.get(key) {
                tracing::debug!(
                    shard = self.index, peer = %conn.peer, ?skipped, lag_bytes,
                    "the viewer is too slow and skips to a keyframe"
                );
            }
        }
    }
}

const _: () = assert!(limits::SENDS_PER_SLICE_MAX <= 256);
