//! The end of a shard: what is published ends at once, its viewers get what is left of it, and each
//! connection is told and closed as soon as nothing more comes for it.

use super::Shard;
use super::connections::LINGER;
use super::messages::ConnKey;
use super::viewers::ViewerStream;
use crate::media::Moment;
use crate::session::CloseReason;

/// How a shard ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draining {
    /// Nothing is waited for any longer.
    close_all_at: Moment,
    /// No connection may be left.
    pub(super) until: Moment,
    /// The control shard knows that none is left.
    pub(super) is_over: bool,
}

impl Shard {
    /// Takes no more connections, and ends those that are there, at the latest at `until`.
    pub(super) fn drain(&mut self, until: Moment, now: Moment) {
        let left = until.since(now);
        let close_all_at = now + left.saturating_sub(LINGER.min(left / 2));
        self.draining = Some(Draining { close_all_at, until, is_over: false });
        for slot in 0..self.conns.slots() {
            let Some(key) = self.conns.key_at(slot) else { continue };
            // What a publisher has sent before is its viewers'.
            self.read_publisher(key, now);
            if !self.awaits_end(key) {
                self.close(key, CloseReason::Draining, now);
            }
        }
    }

    /// Closes those who are still there when nothing is waited for any longer.
    pub(super) fn drain_late(&mut self, now: Moment) {
        if self.draining.is_none_or(|draining| draining.close_all_at > now) {
            return;
        }
        for slot in 0..self.conns.slots() {
            if let Some(key) = self.conns.key_at(slot) {
                self.close(key, CloseReason::Draining, now);
            }
        }
    }

    /// Why a connection that was told of the end of a stream is closed by a shard that ends, unless it
    /// plays another stream whose end it waits for.
    pub(super) fn drained(&self, key: ConnKey) -> Option<CloseReason> {
        self.draining?;
        let conn = self.conns.get(key)?;
        let is_waiting = conn.plays.len() > 1
            && conn.plays.iter().filter_map(|play| self.viewers.get(&play.stream)).any(|viewed| {
                let mut viewers = viewed.logs.iter().flat_map(|state| &state.viewers);
                will_end(viewed) && viewers.any(|it| it.connection == key && !it.ended)
            });
        (!is_waiting).then_some(CloseReason::Draining)
    }

    /// Whether a connection plays something whose end is still to be told. A publisher is not waited
    /// for, whatever else it does.
    fn awaits_end(&self, key: ConnKey) -> bool {
        self.conns.get(key).is_some_and(|conn| {
            // The rooms end by themselves, after signalling.shutdown.
            conn.in_rooms.is_some()
                || conn.publishes.is_empty()
                    && conn
                        .plays
                        .iter()
                        .filter_map(|play| self.viewers.get(&play.stream))
                        .any(will_end)
        })
    }

    /// How long a connection on its way out may stay.
    pub(super) fn linger_until(&self, now: Moment) -> Moment {
        let until = now + LINGER;
        self.draining.map_or(until, |draining| until.min(draining.until))
    }
}

/// Whether the viewers of a stream will be told of its end.
fn will_end(viewed: &ViewerStream) -> bool {
    viewed.owner().is_some() || viewed.ending.is_some()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::proto::rtmp::client::Role;
    use crate::shard::Notice;
    use crate::shard::testing::{Rig, run};

    const REALTIME: &str = "[apps.default]\nlatency = \"realtime\"\n";
    const SHUTDOWN: &str = "NetConnection.Connect.AppShutdown";
    const DRAIN: Duration = Duration::from_secs(10);

    /// What the control shard does.
    fn drain(rig: &mut Rig) {
        let mut out = Vec::new();
        rig.registry.drain(&mut out);
        let until = rig.now + DRAIN;
        for shard in 0..rig.shards.len() {
            rig.say(shard, Notice::Drain { until });
        }
        for (shard, notice) in out {
            rig.say(shard, notice);
        }
    }

    fn drained(rig: &Rig) -> usize {
        rig.heard.iter().filter(|notice| matches!(notice, Notice::Drained)).count()
    }

    #[test]
    fn viewers_get_what_was_published_then_the_end_and_are_told_why() {
        run(|| async {
            let mut rig = Rig::new(REALTIME, 2);
            let mut publisher = rig.client(0, Role::Publish, "s");
            let mut near = rig.client(0, Role::Play, "s");
            let mut far = rig.client(1, Role::Play, "s");
            let mut waiting = rig.client(1, Role::Play, "other");
            rig.run(20, &mut [&mut publisher, &mut near, &mut far, &mut waiting]).await;
            publisher.video_header(1);
            (1..=30).for_each(|number| publisher.video(number == 1, number, 20_000));
            // A part of the frames comes in; then the shards are told to end.
            rig.shards[0].turn_at(rig.now).await;
            drain(&mut rig);
            rig.run(100, &mut [&mut publisher, &mut near, &mut far, &mut waiting]).await;
            let taken = near.media().len();
            assert!(taken > 1, "{:?}", near.media());
            let expected: Vec<String> =
                std::iter::once("h1".to_owned()).chain((1..taken).map(|n| n.to_string())).collect();
            for viewer in [&near, &far] {
                assert_eq!(viewer.media(), expected);
                let codes = viewer.codes();
                let ends = ["NetStream.Play.UnpublishNotify", "EOF", SHUTDOWN];
                assert_eq!(codes[codes.len() - 3..], ends, "{codes:?}");
                assert!(viewer.is_closed);
            }
            for client in [&publisher, &waiting] {
                assert_eq!(client.codes().last().map(String::as_str), Some(SHUTDOWN));
                assert!(client.is_closed);
            }
            drop((publisher, near, far, waiting));
            rig.run(5, &mut []).await;
            assert_eq!(drained(&rig), 2);
        });
    }

    #[test]
    fn viewers_in_a_gap_are_told_the_end_at_once() {
        run(|| async {
            let mut rig = Rig::new(REALTIME, 2);
            let mut publisher = rig.client(0, Role::Publish, "s");
            let mut viewer = rig.client(1, Role::Play, "s");
            rig.run(20, &mut [&mut publisher, &mut viewer]).await;
            publisher.video(true, 1, 100);
            rig.run(20, &mut [&mut publisher, &mut viewer]).await;
            drop(publisher);
            rig.run(20, &mut [&mut viewer]).await;
            assert!(!viewer.has("EOF"));
            drain(&mut rig);
            rig.run(20, &mut [&mut viewer]).await;
            assert!(viewer.has("EOF") && viewer.has(SHUTDOWN) && viewer.is_closed);
        });
    }

    #[test]
    fn a_viewer_that_takes_nothing_does_not_hold_the_end_up() {
        run(|| async {
            let mut rig = Rig::new(REALTIME, 1);
            let mut publisher = rig.client(0, Role::Publish, "s");
            let mut stuck = rig.client(0, Role::Play, "s");
            rig.run(20, &mut [&mut publisher, &mut stuck]).await;
            stuck.is_stuck = true;
            publisher.video(true, 1, 3_000_000);
            rig.run(200, &mut [&mut publisher, &mut stuck]).await;
            drain(&mut rig);
            let began = rig.now;
            while drained(&rig) == 0 {
                rig.run(10, &mut [&mut publisher, &mut stuck]).await;
                assert!(rig.now.since(began) <= DRAIN, "the shard never ends");
            }
            let took = rig.now.since(began);
            println!("drained after {took:?}");
            assert!(took > DRAIN / 2, "the viewer had no time: {took:?}");
        });
    }
}
