//! One turn of a shard: read, hand over, send.

use std::time::Duration;

use super::ingest::PUBLISHERS;
use super::run::EVENTS_MAX;
use super::{ConnKey, DueLog, Envelope, Node, Notice, Scope, Shard};
use crate::limits;
use crate::media::Moment;
use crate::rt::clock;
use crate::rt::egress::recycle;
use crate::rt::poller::DOORBELL;

/// Between the last frames of a stream and the news of its end: GStreamer's rtmp2src loses a frame that it
/// has not handed on when it reads of the end.
const END_PAUSE: Duration = Duration::from_millis(10);

/// Between two lines about viewers that are too slow.
const SKIP_LOG_INTERVAL: Duration = Duration::from_secs(1);

impl Shard {
    /// Does everything that can be done now. Says whether anything came in.
    pub async fn turn(&mut self) -> bool {
        self.turn_at(clock::now()).await
    }

    pub(super) async fn turn_at(&mut self, now: Moment) -> bool {
        self.counters.turns += 1;
        self.pass.wall = clock::now();
        self.turn_pace.began(now, self.turn_min);
        let mut has_work = self.take_connections(now);
        has_work |= self.take_envelopes(now);
        has_work |= self.read_sockets(now);
        self.unseen_since = None;
        self.housekeeping(now);
        self.survey_on(now);
        self.collect_releases();
        // Before the sends of this shard: other shards' viewers need not wait for ours.
        self.hand_over();
        self.send_outputs(now);
        self.flush(now).await;
        self.bury_dead(now);
        if let Some(draining) = &mut self.draining
            && self.conns.is_empty()
            && !draining.is_over
        {
            draining.is_over = true;
            self.outbox.notice(self.control, Notice::Drained);
        }
        has_work
    }

    /// When the next turn has something to do although nothing comes in.
    pub fn next_due(&self) -> Option<Moment> {
        let flush = self
            .viewers
            .values()
            .filter_map(super::ViewerStream::next_due)
            .min()
            .map(|at| at.max(self.pass_budget.next()));
        let has_more = !self.outbox.is_empty()
            || !self.releases.is_empty()
            || !self.newcomers.is_empty()
            || self.survey.is_some();
        let now = has_more.then_some(Moment::ZERO);
        // What waits for the end of a message goes with the viewer, which has its own next try.
        let outputs = self
            .out_list
            .iter()
            .filter_map(|key| self.conns.get(*key))
            .filter(|conn| conn.mid_message.is_none())
            .map(|conn| conn.out_next_try)
            .min();
        // The last connection of a draining shard may go at any time; then it has to say so.
        let is_ending = self.draining.is_some_and(|draining| !draining.is_over);
        let has_rounds = !self.conns.is_empty() || is_ending || self.crowd.is_large();
        let housekeeping = has_rounds.then_some(self.next_housekeeping);
        let reads = self.ingest.next_read();
        [flush, now, outputs, housekeeping, reads].into_iter().flatten().min()
    }

    /// The pace: the next turn begins no earlier than this.
    pub fn next_turn(&self) -> Moment {
        // The pace collects work; what is left over is there already.
        if self.has_outputs_left {
            return Moment::ZERO;
        }
        self.turn_pace.next(self.turn_min)
    }

    fn take_envelopes(&mut self, now: Moment) -> bool {
        let mut any = false;
        // The control shard's are taken first and read last: what it says of a stream (the end) is
        // said after the owner has sent the frames, and must not come before them.
        let said: Vec<_> = std::iter::from_fn(|| self.mesh.try_recv(self.control)).collect();
        // What it says meanwhile waits for the next turn: it must not come before what it has said.
        let control = self.control;
        for node in (0..self.mesh.nodes()).filter(|node| *node != control) {
            while let Some(envelope) = self.mesh.try_recv(node) {
                any = true;
                self.envelope(node, *envelope, now);
            }
        }
        for envelope in said {
            any = true;
            self.envelope(self.control, *envelope, now);
        }
        any
    }

    fn envelope(&mut self, from: Node, envelope: Envelope, now: Moment) {
        self.outbox.counters.envelopes_received += 1;
        for notice in envelope.notices {
            self.notice(from, notice, now);
        }
        for batch in envelope.media {
            self.media(batch, now);
        }
    }

    fn read_sockets(&mut self, now: Moment) -> bool {
        let mut ready = std::mem::take(&mut self.ready);
        if let Err(error) = self.poller.poll_now(&mut ready) {
            tracing::error!(shard = self.index, %error, "asking for ready sockets failed");
        }
        let any = !ready.is_empty() || !self.newcomers.is_empty();
        // Media first: what the others say may wait for it. When very many are ready, publishers may not be among
        // those that are named.
        if ready.len() >= EVENTS_MAX || ready.iter().any(|event| event.token == PUBLISHERS) {
            self.note_publishers(now);
        }
        for event in &ready {
            match event.token {
                DOORBELL => _ = self.mesh.drain_doorbell(),
                PUBLISHERS => {}
                token => self.read_or_list(ConnKey::from_token(token), now),
            }
        }
        self.ready = ready;
        self.read_publishers(now);
        self.read_newcomers(now);
        any
    }

    /// What was given up, said in order before what is asked next.
    pub(super) fn collect_releases(&mut self) {
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

    /// Sends what is due on every log. When passes would take more than three quarters of the time, they come
    /// less often and so carry more at once.
    async fn flush(&mut self, now: Moment) {
        // What falls due before the next turn can begin would be late by then.
        let horizon = now + self.turn_min;
        let is_due = |at: Option<Moment>| at.is_some_and(|at| at < horizon);
        if now < self.pass_budget.next() {
            if self.viewers.values().any(|stream| is_due(stream.next_due())) {
                self.pass.counters.flush_late += 1;
            }
            return;
        }
        let before = (self.thread_cpu)();
        let began = clock::now();
        let mut due = recycle(std::mem::take(&mut self.pass.due));
        let mut is_changing = false;
        for stream in self.viewers.values_mut() {
            is_changing |= stream.is_changing();
            for state in &mut stream.logs {
                let is_hold_over = is_due(state.due);
                if !is_hold_over && !state.has_eager && state.retry_at.is_none_or(|at| at > now) {
                    continue;
                }
                let scope = if is_hold_over { Scope::All } else { Scope::Waiting };
                if scope == Scope::All {
                    stream.end_not_before = now + END_PAUSE;
                } else if stream.ending.is_some() {
                    // Who was slow may have everything now.
                    stream.end_not_before = stream.end_not_before.min(now + END_PAUSE);
                }
                due.push(DueLog::new(state, &stream.settings, scope));
            }
        }
        let any = !due.is_empty();
        if any {
            // Small streams need not wait for a large one, which hardly notices them.
            due.sort_unstable_by_key(DueLog::viewers);
            self.pass.run(&mut due, &mut self.conns, &mut self.pool, now).await;
        }
        self.pass.due = recycle(due);
        if is_changing {
            for stream in self.viewers.values_mut().filter(|stream| stream.is_changing()) {
                stream.finish_changes(now, &mut self.pool);
            }
        }
        if any {
            let cost = (self.thread_cpu)().saturating_sub(before);
            self.pass_budget.spend(now, cost);
            self.counters.flush_duration.record(clock::now().since(began), 1);
        }
        self.end_streams(now);
    }

    /// Ends what the pass found dead, and those that are on their way out.
    fn bury_dead(&mut self, now: Moment) {
        while let Some((key, reason)) = self.pass.dead.pop() {
            self.close(key, reason, now);
        }
        self.report_skips(now);
        self.finish_closing(now);
    }

    /// One line a second at most: which viewer, and how many there have been since the last line.
    fn report_skips(&mut self, now: Moment) {
        let Some((key, skipped, lag_bytes)) = self.pass.skipped.pop() else { return };
        self.pass.skipped.clear();
        let (logged, at) = self.counters.skips_logged;
        if now.since(at) < SKIP_LOG_INTERVAL {
            return;
        }
        let skips = self.pass.counters.skips;
        self.counters.skips_logged = (skips, now);
        if let Some(conn) = self.conns.get(key) {
            tracing::warn!(
                shard = self.index, client = conn.id.0, peer = %conn.peer, ?skipped, lag_bytes,
                skips = skips - logged,
                "a viewer is too slow and skips to a keyframe"
            );
        }
    }
}

const _: () = assert!(limits::SENDS_PER_SLICE_MAX <= 256);

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use proptest::prelude::*;

    use crate::proto::amf0::Value;
    use crate::proto::rtmp::chunk_writer::{MessageHeader, write_full};
    use crate::proto::rtmp::client::Role;
    use crate::proto::rtmp::command;
    use crate::proto::rtmp::message::{self, UserControl};
    use crate::shard::testing::{Client, Rig, run};
    use crate::shard::{Notice, Protocol};

    const REALTIME: &str = "[apps.default]\nlatency = \"realtime\"\n";

    fn message_bytes(stream: u32, type_id: u8, payload: &[u8]) -> Vec<u8> {
        let header = MessageHeader {
            chunk_stream_id: 3,
            message_stream_id: stream,
            type_id,
            timestamp_ms: 0,
        };
        let mut out = Vec::new();
        write_full(&header, payload, 60_000, &mut |bytes| out.extend_from_slice(bytes));
        out
    }

    fn call(stream: u32, name: &str, args: &[Value]) -> Vec<u8> {
        let payload = command::encode(name, 0.0, &Value::Null, args);
        message_bytes(stream, message::COMMAND_AMF0, &payload)
    }

    #[test]
    fn a_viewer_on_the_shard_of_the_publisher_and_one_elsewhere_see_the_same() {
        run(|| async {
            let mut rig = Rig::new(REALTIME, 2);
            let mut publisher = rig.client(0, Role::Publish, "s");
            let mut near = rig.client(0, Role::Play, "s");
            let mut far = rig.client(1, Role::Play, "s");
            rig.run(20, &mut [&mut publisher, &mut near, &mut far]).await;
            publisher.video_header(1);
            for number in 1..100 {
                publisher.video(number % 25 == 1, number, 1_000);
                rig.run(2, &mut [&mut publisher, &mut near, &mut far]).await;
            }
            rig.run(20, &mut [&mut near, &mut far]).await;
            let expected: Vec<String> =
                std::iter::once("h1".to_owned()).chain((1..100).map(|n| n.to_string())).collect();
            assert_eq!(near.media(), expected);
            assert_eq!(far.media(), expected);
        });
    }

    #[test]
    fn viewers_that_wait_get_headers_that_came_long_before_the_first_keyframe() {
        run(|| async {
            let mut rig = Rig::new(REALTIME, 2);
            let mut near = rig.client(0, Role::Play, "s");
            let mut far = rig.client(1, Role::Play, "s");
            rig.run(20, &mut [&mut near, &mut far]).await;
            let mut publisher = rig.client(0, Role::Publish, "s");
            rig.begin_with_header(0, &mut publisher, 1).await;
            rig.run(20, &mut [&mut publisher, &mut near, &mut far]).await;
            publisher.video(true, 1, 100);
            rig.run(20, &mut [&mut publisher, &mut near, &mut far]).await;
            assert_eq!(near.media(), ["h1", "1"]);
            assert_eq!(far.media(), ["h1", "1"]);
        });
    }

    #[test]
    fn a_publisher_that_comes_back_elsewhere_goes_on_with_its_new_headers() {
        run(|| async {
            let mut rig = Rig::new(REALTIME, 2);
            let mut first = rig.client(0, Role::Publish, "s");
            let mut near = rig.client(0, Role::Play, "s");
            let mut far = rig.client(1, Role::Play, "s");
            rig.run(20, &mut [&mut first, &mut near, &mut far]).await;
            first.video_header(1);
            first.video(true, 1, 100);
            rig.run(20, &mut [&mut first, &mut near, &mut far]).await;
            drop(first);
            rig.run(20, &mut [&mut near, &mut far]).await;
            let mut second = rig.client(1, Role::Publish, "s");
            rig.begin_with_header(1, &mut second, 2).await;
            rig.run(20, &mut [&mut second, &mut near, &mut far]).await;
            let mut late = rig.client(1, Role::Play, "s");
            rig.run(20, &mut [&mut second, &mut near, &mut far, &mut late]).await;
            assert_eq!(late.media(), [] as [&str; 0], "nobody sees the last picture of before");
            second.video(true, 2, 100);
            rig.run(20, &mut [&mut second, &mut near, &mut far, &mut late]).await;
            assert_eq!(near.media(), ["h1", "1", "h2", "2"]);
            assert_eq!(far.media(), ["h1", "1", "h2", "2"]);
            assert_eq!(late.media(), ["h2", "2"]);
            assert!(!near.has("EOF") && !far.has("NetStream.Play.UnpublishNotify"));
        });
    }

    #[test]
    fn a_viewer_can_join_at_a_keyframe_older_than_the_lag_that_is_allowed() {
        run(|| async {
            let toml = "[apps.default]\nlatency = \"realtime\"\nviewer.max_lag = \"1s\"\n";
            let mut rig = Rig::new(toml, 2);
            let mut publisher = rig.client(0, Role::Publish, "s");
            rig.run(20, &mut [&mut publisher]).await;
            publisher.video(true, 1, 100);
            publisher.video(false, 2, 100);
            rig.run(10, &mut [&mut publisher]).await;
            rig.wait(3_000, &mut [&mut publisher]).await;
            for shard in [0, 1] {
                let mut viewer = rig.client(shard, Role::Play, "s");
                rig.run(20, &mut [&mut publisher, &mut viewer]).await;
                assert_eq!(viewer.media(), ["1", "2"]);
            }
        });
    }

    #[test]
    fn a_command_for_a_viewer_inside_a_message_holds_up_neither() {
        run(|| async {
            let mut rig = Rig::new(REALTIME, 1);
            let mut publisher = rig.client(0, Role::Publish, "s");
            let mut viewer = rig.client(0, Role::Play, "s");
            rig.run(20, &mut [&mut publisher, &mut viewer]).await;
            viewer.is_stuck = true;
            publisher.video(true, 1, 3_000_000);
            rig.run(200, &mut [&mut publisher, &mut viewer]).await;
            let ping = UserControl::PingRequest(7).encode();
            viewer.send(&message_bytes(0, message::USER_CONTROL, &ping));
            rig.run(200, &mut [&mut publisher, &mut viewer]).await;
            // Both the viewer and its command wait for the socket, not for the next moment.
            let due = rig.shards[0].next_due().unwrap();
            assert!(due > rig.now, "a busy loop");
            viewer.is_stuck = false;
            rig.run(400, &mut [&mut viewer]).await;
            assert_eq!(viewer.media(), ["1"]);
        });
    }

    #[test]
    fn a_stuck_viewer_with_output_is_tried_ever_less_often() {
        run(|| async {
            let mut rig = Rig::new("[apps.default.viewer]\nsocket_buffer = \"16KiB\"\n", 1);
            let mut viewer = rig.client(0, Role::Play, "s");
            rig.run(20, &mut [&mut viewer]).await;
            viewer.is_stuck = true;
            let ping =
                message_bytes(0, message::USER_CONTROL, &UserControl::PingRequest(7).encode());
            for _ in 0..40 {
                viewer.send(&ping.repeat(200));
                rig.run(10, &mut [&mut viewer]).await;
            }
            let mut tries = 0;
            for _ in 0..400 {
                let due = rig.shards[0].out_list.iter().any(|key| {
                    rig.shards[0].conns.get(*key).is_some_and(|conn| conn.out_next_try <= rig.now)
                });
                tries += u32::from(due);
                rig.run(1, &mut [&mut viewer]).await;
            }
            assert!((1..=10).contains(&tries), "{tries} tries in 400 ms");
        });
    }

    #[test]
    fn a_name_that_is_given_up_is_free_for_the_next_command() {
        run(|| async {
            let toml = "[apps.default]\npublish.takeover = \"reject\"\n";
            let mut rig = Rig::new(toml, 1);
            let mut publisher = rig.client(0, Role::Publish, "s");
            rig.run(20, &mut [&mut publisher]).await;
            let mut again = call(1, "closeStream", &[]);
            again.extend(call(1, "publish", &["s".into(), "live".into()]));
            publisher.send(&again);
            rig.run(20, &mut [&mut publisher]).await;
            let starts = publisher.codes();
            let starts = starts.iter().filter(|code| *code == "NetStream.Publish.Start").count();
            assert_eq!((starts, publisher.is_closed), (2, false), "{:?}", publisher.codes());
        });
    }

    #[test]
    fn a_silent_publisher_keeps_its_name_when_who_waits_for_it_goes() {
        run(|| async {
            // How the second publisher goes: its connection ends, or it says that it gives up.
            for gives_up in [false, true] {
                let mut rig = Rig::new(REALTIME, 2);
                let mut first = rig.client(0, Role::Publish, "s");
                rig.run(20, &mut [&mut first]).await;
                first.video(true, 1, 100);
                rig.run(20, &mut [&mut first]).await;
                let mut second = rig.client(1, Role::Publish, "s");
                rig.run(500, &mut [&mut first, &mut second]).await;
                if gives_up {
                    second.send(&call(1, "closeStream", &[]));
                } else {
                    second.socket.shutdown(std::net::Shutdown::Both).unwrap();
                }
                rig.run(20, &mut [&mut first, &mut second]).await;
                for _ in 0..100 {
                    rig.wait(50, &mut [&mut first]).await;
                }
                first.video(false, 2, 100);
                // Nobody receives it: it may lie in its socket for a while.
                rig.run(120, &mut [&mut first]).await;
                let counters = rig.registry.counters();
                assert_eq!((counters.takeovers, first.is_closed), (0, false), "{gives_up}");
                let publication = rig.shards[0].publications.values().next().unwrap();
                assert_eq!(publication.counters.frames_in, 2, "{gives_up}");
                assert_eq!(rig.shards[1].conns.len(), usize::from(gives_up));
            }
        });
    }

    #[test]
    fn the_end_comes_after_the_last_frame_and_only_after_a_goodbye() {
        run(|| async {
            let mut rig = Rig::new(REALTIME, 2);
            let mut publisher = rig.client(0, Role::Publish, "s");
            let mut near = rig.client(0, Role::Play, "s");
            let mut far = rig.client(1, Role::Play, "s");
            rig.run(20, &mut [&mut publisher, &mut near, &mut far]).await;
            for number in 1..20 {
                publisher.video(number == 1, number, 100);
            }
            publisher.close();
            rig.run(30, &mut [&mut publisher, &mut near, &mut far]).await;
            let expected: Vec<String> = (1..20).map(|number| number.to_string()).collect();
            for viewer in [&near, &far] {
                assert_eq!(viewer.media(), expected);
                assert!(viewer.has("NetStream.Play.UnpublishNotify") && viewer.has("EOF"));
            }
        });
    }

    #[test]
    fn an_end_that_a_stuck_viewer_delays_is_told_to_those_it_concerns() {
        run(|| async {
            let toml = "[apps.default]\nlatency = \"realtime\"\nviewer.max_lag = \"1s\"\n\
                        publish.takeover = \"reject\"\n";
            let mut rig = Rig::new(toml, 1);
            let mut publisher = rig.client(0, Role::Publish, "s");
            let mut stuck = rig.client(0, Role::Play, "s");
            rig.run(20, &mut [&mut publisher, &mut stuck]).await;
            stuck.is_stuck = true;
            publisher.video(true, 1, 3_000_000);
            rig.run(20, &mut [&mut publisher, &mut stuck]).await;
            rig.wait(3_000, &mut [&mut publisher, &mut stuck]).await;
            publisher.video(false, 2, 100);
            rig.run(20, &mut [&mut publisher, &mut stuck]).await;
            publisher.close();
            rig.run(20, &mut [&mut publisher, &mut stuck]).await;
            let mut late = rig.client(0, Role::Play, "s");
            rig.run(20, &mut [&mut stuck, &mut late]).await;
            rig.wait(6_000, &mut [&mut stuck, &mut late]).await;
            rig.run(20, &mut [&mut stuck, &mut late]).await;
            assert!(!late.has("EOF"), "who comes after the end is told of none");
            let mut next = rig.client(0, Role::Publish, "s");
            rig.begin_with_header(0, &mut next, 9).await;
            next.video(true, 3, 100);
            stuck.is_stuck = false;
            rig.run(400, &mut [&mut next, &mut stuck, &mut late]).await;
            assert_eq!(late.media(), ["h9", "3"]);
            assert_eq!(stuck.media(), ["1", "h9", "3"]);
            assert!(stuck.has("EOF") && stuck.has("NetStream.Play.PublishNotify"));
        });
    }

    #[test]
    fn a_slow_viewer_is_told_of_the_end_as_soon_as_it_has_everything() {
        run(|| async {
            let mut rig = Rig::new(REALTIME, 1);
            let mut publisher = rig.client(0, Role::Publish, "s");
            let mut viewer = rig.client(0, Role::Play, "s");
            let mut slow = rig.client(0, Role::Play, "s");
            rig.run(20, &mut [&mut publisher, &mut viewer, &mut slow]).await;
            slow.is_stuck = true;
            publisher.video(true, 1, 3_000_000);
            publisher.close();
            rig.run(100, &mut [&mut publisher, &mut viewer, &mut slow]).await;
            assert!(viewer.has("EOF") && !slow.has("EOF"));
            slow.is_stuck = false;
            rig.run(400, &mut [&mut slow]).await;
            assert_eq!(slow.media(), ["1"]);
            assert!(slow.has("EOF"), "it has had everything for a while");
        });
    }

    #[test]
    fn frames_of_an_earlier_subscription_are_not_taken_for_those_of_the_next() {
        run(|| async {
            let mut rig = Rig::new(REALTIME, 2);
            let mut publisher = rig.client(0, Role::Publish, "s");
            rig.run(20, &mut [&mut publisher]).await;
            publisher.video_header(1);
            publisher.video(true, 1, 100);
            publisher.video(false, 2, 100);
            rig.run(20, &mut [&mut publisher]).await;
            let mut first = rig.client(1, Role::Play, "s");
            let mut second = rig.client(1, Role::Play, "other");
            rig.run(20, &mut [&mut second]).await;
            // Both subscriptions are made before the owner answers the first.
            for _ in 0..20 {
                first.pump();
                rig.shards[1].turn_at(rig.now).await;
                rig.control_turn();
            }
            drop(first);
            second.send(&call(1, "play", &["s".into()]));
            for _ in 0..20 {
                rig.shards[1].turn_at(rig.now).await;
                rig.control_turn();
            }
            rig.run(40, &mut [&mut publisher, &mut second]).await;
            assert_eq!(second.media(), ["h1", "1", "2"]);
        });
    }

    #[test]
    fn a_shard_is_drained_with_its_last_connection() {
        run(|| async {
            let mut rig = Rig::new(REALTIME, 1);
            let mut viewer = rig.client(0, Role::Play, "s");
            rig.run(150, &mut [&mut viewer]).await;
            let until = rig.now + Duration::from_secs(10);
            rig.say(0, Notice::Drain { until });
            rig.turn().await;
            viewer.pump();
            assert!(viewer.has("NetConnection.Connect.AppShutdown"), "{:?}", viewer.codes());
            drop(viewer);
            rig.turn().await;
            rig.turn().await;
            assert!(rig.heard.iter().any(|notice| matches!(notice, Notice::Drained)));
        });
    }

    #[test]
    fn an_http_viewer_that_waits_in_vain_is_answered() {
        run(|| async {
            let toml = "http.flv_missing = \"wait\"\n[apps.default]\nplay.wait_timeout = \"2s\"\n";
            let mut rig = Rig::new(toml, 1);
            let mut socket = rig.connect(0, Protocol::Http);
            use std::io::Write;
            socket.write_all(b"GET /live/s.flv HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            rig.run(20, &mut []).await;
            for _ in 0..50 {
                rig.wait(100, &mut []).await;
            }
            let mut answer = vec![0; 4096];
            let count = socket.read(&mut answer).unwrap();
            assert!(answer[..count].starts_with(b"HTTP/1.1 404 "));
        });
    }

    #[test]
    fn an_idle_shard_with_viewers_sleeps() {
        run(|| async {
            let mut rig = Rig::new(REALTIME, 2);
            let mut publisher = rig.client(0, Role::Publish, "s");
            let mut near = rig.client(0, Role::Play, "s");
            let mut far = rig.client(1, Role::Play, "s");
            rig.run(20, &mut [&mut publisher, &mut near, &mut far]).await;
            publisher.video(true, 1, 100_000);
            rig.run(200, &mut [&mut publisher, &mut near, &mut far]).await;
            for shard in &rig.shards {
                assert_eq!(shard.next_due(), Some(shard.next_housekeeping));
            }
        });
    }

    #[derive(Clone, Debug)]
    enum Step {
        Connect { slot: usize, shard: usize, role: bool, name: usize },
        Leave { slot: usize, goodbye: bool },
        Stick { slot: usize },
        Publish { slot: usize, is_key: bool, len: usize },
        Header { slot: usize, version: u8 },
        Call { slot: usize, which: usize, name: usize },
        Run { turns: usize },
        Wait { ms: u64 },
    }

    const SLOTS: usize = 6;
    const NAMES: [&str; 2] = ["a", "b"];

    fn step() -> impl Strategy<Value = Step> {
        let slot = 0..SLOTS;
        let len = prop_oneof![4 => 20_usize..2_000, 1 => 20_usize..700_000];
        prop_oneof![
            3 => (slot.clone(), 0_usize..2, any::<bool>(), 0_usize..2)
                .prop_map(|(slot, shard, role, name)| Step::Connect { slot, shard, role, name }),
            1 => (slot.clone(), any::<bool>())
                .prop_map(|(slot, goodbye)| Step::Leave { slot, goodbye }),
            2 => slot.clone().prop_map(|slot| Step::Stick { slot }),
            8 => (slot.clone(), any::<bool>(), len)
                .prop_map(|(slot, is_key, len)| Step::Publish { slot, is_key, len }),
            1 => (slot.clone(), 0_u8..4).prop_map(|(slot, version)| Step::Header { slot, version }),
            2 => (slot, 0_usize..12, 0_usize..2)
                .prop_map(|(slot, which, name)| Step::Call { slot, which, name }),
            6 => (1_usize..12).prop_map(|turns| Step::Run { turns }),
            1 => (0_u64..4_000).prop_map(|ms| Step::Wait { ms }),
        ]
    }

    /// Whatever clients do: the invariants of `check` hold in every turn, viewers get well-formed RTMP
    /// (the client session says so), and nothing is left of anybody at the end.
    async fn play_out(steps: Vec<Step>, gathers: bool) {
        let toml = "[apps.default]\nlatency = \"realtime\"\nviewer.max_lag = \"1s\"\n\
                    log_reach = \"2s\"\npublish.resume = \"1s\"\ngop_bytes = \"1MiB\"\n";
        let mut rig = Rig::new(toml, 2);
        rig.gathers = gathers;
        let mut clients: Vec<Option<Client>> = (0..SLOTS).map(|_| None).collect();
        let mut number = 0;
        for step in steps {
            match step {
                Step::Connect { slot, shard, role, name } => {
                    let role = if role { Role::Publish } else { Role::Play };
                    clients[slot] = Some(rig.client(shard, role, NAMES[name]));
                }
                Step::Leave { slot, goodbye } => {
                    if let Some(mut client) = clients[slot].take()
                        && goodbye
                    {
                        client.close();
                    }
                }
                Step::Stick { slot } => {
                    if let Some(client) = &mut clients[slot] {
                        client.is_stuck = !client.is_stuck;
                    }
                }
                Step::Publish { slot, is_key, len } => {
                    number += 1;
                    if let Some(client) = &mut clients[slot] {
                        client.video(is_key, number, len);
                    }
                }
                Step::Header { slot, version } => {
                    if let Some(client) = &mut clients[slot] {
                        client.video_header(version);
                    }
                }
                Step::Call { slot, which, name } => {
                    let name = Value::from(NAMES[name]);
                    let ping = UserControl::PingRequest(1).encode();
                    let bytes = match which {
                        0 => call(1, "play", &[name]),
                        1 => call(1, "closeStream", &[]),
                        2 => call(1, "publish", &[name]),
                        3 => call(0, "createStream", &[]),
                        4 => call(2, "play", &[name]),
                        5 => call(2, "publish", &[name]),
                        6 => call(0, "deleteStream", &[2.0.into()]),
                        7 | 8 => call(1, "pause", &[Value::Boolean(which == 7)]),
                        9 | 10 => call(1, "receiveVideo", &[Value::Boolean(which == 9)]),
                        _ => message_bytes(0, message::USER_CONTROL, &ping),
                    };
                    if let Some(client) = &mut clients[slot] {
                        client.send(&bytes);
                    }
                }
                Step::Run { turns } => {
                    let mut all: Vec<&mut Client> = clients.iter_mut().flatten().collect();
                    rig.run(turns, &mut all).await;
                }
                Step::Wait { ms } => {
                    let mut all: Vec<&mut Client> = clients.iter_mut().flatten().collect();
                    rig.wait(ms, &mut all).await;
                }
            }
        }
        // Those who read again are given everything that is to be had.
        {
            let mut all: Vec<&mut Client> = clients.iter_mut().flatten().collect();
            for client in &mut all {
                client.is_stuck = false;
            }
            rig.run(300, &mut all).await;
            for shard in &rig.shards {
                for state in shard.viewers.values().flat_map(|viewed| &viewed.logs) {
                    for viewer in &state.viewers {
                        assert!(viewer.cursor.is_caught_up(&state.log), "never served: {viewer:?}");
                    }
                }
            }
        }
        for client in clients.iter().flatten() {
            let mut last = 0;
            for label in client.media() {
                if let Ok(number) = label.parse::<u32>() {
                    assert!(
                        number > last || last == 0 || is_replay(client),
                        "{:?}",
                        client.media()
                    );
                    last = number;
                }
            }
        }
        clients.clear();
        for _ in 0..40 {
            rig.wait(100, &mut []).await;
        }
        assert_eq!(rig.registry.entries().len(), 0, "{:?}", rig.registry.entries());
        for shard in &rig.shards {
            assert_eq!(shard.conns.len(), 0);
            assert!(shard.viewers.is_empty() && shard.publications.is_empty());
            assert!(shard.outbox.is_empty() && shard.releases.is_empty());
        }
    }

    /// It played more than once: a group of pictures may be shown again.
    fn is_replay(client: &Client) -> bool {
        client.codes().iter().filter(|code| *code == "NetStream.Play.Start").count() > 1
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn nothing_that_clients_do_breaks_a_shard(
            steps in prop::collection::vec(step(), 1..90),
            gathers: bool,
        ) {
            run(move || play_out(steps, gathers));
        }
    }
}
