//! A viewer goes to the shard of its stream: a stream with few viewers is then written, and sent, on one
//! shard alone. It happens once per play, between the question and its answer, when nothing of the
//! connection is bound to its shard yet.
//!
//! The control shard returns the question ([`Notice::AskNearer`]) before anybody has judged it. The
//! connection goes to the other shard with it, and is asked for again from there; a connection that cannot
//! go asks again where it is. An order to end a connection that has gone is sent after it; one to redirect
//! what it plays is not, as it has asked for something else. A connection that is on its way in the
//! moment in which the server begins to drain may be closed without a word.

use std::collections::VecDeque;

use super::Shard;
use super::conns::{Conn, Travelling};
use super::messages::{AskToken, ConnKey, Node, Notice};
use crate::limits;
use crate::media::Moment;
use crate::session::{Ask, AudiencePlace, ClientId, CloseReason};

/// A connection on its way to another shard, with what it has asked.
#[derive(Debug)]
pub struct Handover {
    conn: Travelling,
    ask: Box<Ask>,
    serial: u32,
    place: AudiencePlace,
}

/// The connections that have gone to other shards last. An order to end an older one is lost: there are
/// milliseconds between the API's look at the connections and its order, and seconds between the question
/// to an on_update hook and what follows from its answer.
#[derive(Debug, Default)]
pub(super) struct Departed(VecDeque<(ConnKey, ClientId, Node)>);

impl Departed {
    fn note(&mut self, key: ConnKey, client: ClientId, node: Node) {
        if self.0.len() == limits::DEPARTED_CONNECTIONS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((key, client, node));
    }

    fn client_of(&self, key: ConnKey) -> Option<ClientId> {
        self.0.iter().find(|(departed, ..)| *departed == key).map(|(_, client, _)| *client)
    }

    /// Where it has gone to last.
    fn node_of(&self, client: ClientId) -> Option<Node> {
        let found = self.0.iter().rev().find(|(_, departed, _)| *departed == client);
        found.map(|(.., node)| *node)
    }

    /// It has come (back) to this shard: nothing is sent after it until it goes again.
    fn came(&mut self, client: ClientId, here: Node) {
        for (_, departed, node) in &mut self.0 {
            if *departed == client {
                *node = here;
            }
        }
    }
}

impl Shard {
    /// Whether a connection that asks for a stream could play it on another shard as well.
    pub(super) fn may_go(&self, conn: &Conn, serial: u32) -> bool {
        // Control shard and this one: there is no other.
        self.control > 1
            && self.draining.is_none()
            && conn.is_unbound()
            && conn.session.awaits_only(serial)
    }

    /// The stream that a connection has asked for is on `node`.
    pub(super) fn go_nearer(
        &mut self,
        token: AskToken,
        node: Node,
        mut ask: Box<Ask>,
        place: AudiencePlace,
    ) {
        let AskToken { connection: key, serial, .. } = token;
        let Some(conn) = self.conns.get(key).filter(|conn| conn.closing.is_none()) else { return };
        // Still listed here with output, or bound since it has asked, or watched for ever: it stays.
        let goes =
            self.may_go(conn, serial) && !conn.has_output() && self.poller.remove(conn).is_ok();
        let conn = if goes { self.conns.remove(key) } else { None };
        let Some(conn) = conn else {
            ask.may_move = false;
            self.outbox.notice(self.control, Notice::Ask(token, ask));
            return;
        };
        tracing::debug!(
            shard = self.index, client = conn.id.0, peer = %conn.peer, to = node,
            "a viewer goes to the shard of its stream"
        );
        self.departed.note(key, conn.id, node);
        let handover = Handover { conn: conn.travel(), ask, serial, place };
        self.outbox.notice(node, Notice::Handover(Box::new(handover)));
    }

    /// Takes a connection that comes from another shard, and asks for its stream again.
    pub(super) fn take_over(&mut self, handover: Handover, now: Moment) {
        let Handover { conn, mut ask, serial, place } = handover;
        let mut conn = Conn::arrived(conn, &self.load, &self.releases);
        conn.place = Some(place);
        conn.open_asks = 1;
        self.counters.handovers += 1;
        self.departed.came(conn.id, self.index);
        let key = self.conns.insert(conn);
        let Some(conn) = self.conns.get(key) else { return };
        if let Err(error) = self.poller.add(conn, key.token()) {
            tracing::warn!(
                shard = self.index, peer = %conn.peer, %error,
                "a connection cannot be watched"
            );
            return self.close(key, CloseReason::Internal, now);
        }
        if self.draining.is_some() {
            return self.close(key, CloseReason::Draining, now);
        }
        ask.may_move = false;
        let token = AskToken { node: self.index, connection: key, serial };
        self.outbox.notice(self.control, Notice::Ask(token, ask));
    }

    /// Ends a connection, or sends the order after it.
    pub(super) fn dismiss(&mut self, key: ConnKey, why: String, now: Moment) {
        if self.conns.get(key).is_none()
            && let Some(client) = self.departed.client_of(key)
        {
            return self.dismiss_departed(client, why, now);
        }
        self.read_publisher(key, now);
        self.close(key, CloseReason::Dismissed(why), now);
    }

    /// The same of one that has been on another shard; it may have gone on.
    pub(super) fn dismiss_departed(&mut self, client: ClientId, why: String, now: Moment) {
        if let Some(key) = self.conns.find(client) {
            return self.dismiss(key, why, now);
        }
        if let Some(node) = self.departed.node_of(client).filter(|node| *node != self.index) {
            self.outbox.notice(node, Notice::DismissDeparted { client, why });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use super::*;
    use crate::proto::amf0::Value;
    use crate::proto::rtmp::client::Role;
    use crate::shard::Protocol;
    use crate::shard::testing::{Client, Rig, run};

    const REALTIME: &str = "[apps.default]\nlatency = \"realtime\"\n";

    fn rig() -> Rig {
        let mut rig = Rig::new(REALTIME, 2);
        rig.gathers = true;
        rig
    }

    /// Connections, viewers of all streams, and connections that came, of each shard.
    fn counts(rig: &Rig) -> Vec<(usize, usize, u64)> {
        let viewers = |shard: &Shard| shard.viewers.values().map(|it| it.viewer_count()).sum();
        let count = |shard: &Shard| (shard.conns.len(), viewers(shard), shard.counters.handovers);
        rig.shards.iter().map(count).collect()
    }

    fn viewer_key(shard: &Shard) -> ConnKey {
        let mut keys = (0..shard.conns.slots()).filter_map(|slot| shard.conns.key_at(slot));
        keys.find(|key| shard.conns.get(*key).unwrap().publishes.is_empty()).unwrap()
    }

    #[test]
    fn a_viewer_goes_to_the_shard_of_its_stream() {
        run(|| async {
            let mut rig = rig();
            let mut publisher = rig.client(0, Role::Publish, "s");
            rig.run(20, &mut [&mut publisher]).await;
            publisher.video_header(1);
            publisher.video(true, 1, 100);
            let mut far = rig.client(1, Role::Play, "s");
            rig.run(30, &mut [&mut publisher, &mut far]).await;
            publisher.video(false, 2, 100);
            rig.run(30, &mut [&mut publisher, &mut far]).await;
            assert_eq!(far.media(), ["h1", "1", "2"]);
            assert_eq!(counts(&rig), [(2, 1, 1), (0, 0, 0)]);
            assert_eq!(rig.shards[0].load.weight(), 16 * 1024, "its seat has come along");
            // What it says is read there, and its end is said once.
            far.close();
            drop(far);
            rig.run(20, &mut [&mut publisher]).await;
            assert_eq!(counts(&rig), [(1, 0, 1), (0, 0, 0)]);
            assert_eq!(rig.shards[0].load.weight(), 0);
            assert_eq!(rig.registry.connected().values().sum::<u64>(), 1);
        });
    }

    #[test]
    fn an_http_viewer_goes_as_well() {
        run(|| async {
            let mut rig = rig();
            let mut publisher = rig.client(0, Role::Publish, "s");
            rig.run(20, &mut [&mut publisher]).await;
            publisher.video(true, 1, 100);
            let mut socket = rig.connect(1, Protocol::Http);
            socket.write_all(b"GET /live/s.flv HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            rig.run(30, &mut [&mut publisher]).await;
            let mut answer = vec![0; 4096];
            let count = socket.read(&mut answer).unwrap();
            assert!(answer[..count].starts_with(b"HTTP/1.1 200 "));
            assert_eq!(counts(&rig), [(2, 1, 1), (0, 0, 0)]);
        });
    }

    #[test]
    fn viewers_of_a_large_stream_stay_where_they_are() {
        run(|| async {
            let mut rig = rig();
            let mut publisher = rig.client(0, Role::Publish, "s");
            rig.run(20, &mut [&mut publisher]).await;
            publisher.video(true, 1, 100);
            // At the same moment: those on their way count.
            let gathered = rig.shards[0].settings.server.gather_viewers;
            let count = gathered + 4;
            let mut viewers: Vec<Client> =
                (0..count).map(|_| rig.client(1, Role::Play, "s")).collect();
            let mut all: Vec<&mut Client> = viewers.iter_mut().collect();
            all.push(&mut publisher);
            rig.run(40, &mut all).await;
            assert_eq!(counts(&rig), [(gathered + 1, gathered, gathered as u64), (4, 4, 0)]);
            assert!(viewers.iter().all(|viewer| viewer.media() == ["1"]));
            // With a viewer here the stream is here, and the next one stays as well.
            viewers.truncate(gathered + 1);
            rig.run(20, &mut []).await;
            let late = rig.client(1, Role::Play, "s");
            viewers.push(late);
            let mut all: Vec<&mut Client> = viewers.iter_mut().collect();
            rig.run(20, &mut all).await;
            assert_eq!(rig.shards[0].counters.handovers, gathered as u64);
        });
    }

    #[test]
    fn a_connection_that_is_bound_to_its_shard_stays() {
        run(|| async {
            let mut rig = rig();
            let mut publisher = rig.client(0, Role::Publish, "s");
            let mut other = rig.client(1, Role::Publish, "t");
            rig.run(20, &mut [&mut publisher, &mut other]).await;
            publisher.video(true, 1, 100);
            other.call(0, "createStream", &[]);
            other.call(2, "play", &[Value::from("s")]);
            rig.run(30, &mut [&mut publisher, &mut other]).await;
            assert_eq!(other.media_of(2), ["1"]);
            assert_eq!(counts(&rig), [(1, 0, 0), (1, 1, 0)]);
        });
    }

    /// One that asks for something else before it could go is judged where it is, for both.
    #[test]
    fn a_connection_that_asks_on_is_not_moved() {
        run(|| async {
            let mut rig = rig();
            let mut publisher = rig.client(0, Role::Publish, "s");
            rig.run(20, &mut [&mut publisher]).await;
            publisher.video(true, 1, 100);
            let mut viewer = rig.client(1, Role::Play, "t");
            rig.run(20, &mut [&mut viewer]).await;
            viewer.call(1, "closeStream", &[]);
            viewer.call(0, "createStream", &[]);
            rig.run(20, &mut [&mut viewer]).await;
            viewer.call(1, "play", &[Value::from("s")]);
            rig.shards[1].turn_at(rig.now).await;
            viewer.call(2, "publish", &[Value::from("u")]);
            rig.shards[1].turn_at(rig.now).await;
            rig.run(30, &mut [&mut publisher, &mut viewer]).await;
            assert_eq!(viewer.media_of(1), ["1"]);
            assert!(viewer.has("NetStream.Publish.Start"));
            assert_eq!(counts(&rig), [(1, 0, 0), (1, 1, 0)]);
        });
    }

    /// Its hooks are told of the end of what it does not want any more.
    #[test]
    fn a_connection_that_has_asked_for_something_else_before_waits_for_that_answer() {
        run(|| async {
            let mut rig = rig();
            let mut publisher = rig.client(0, Role::Publish, "s");
            rig.run(20, &mut [&mut publisher]).await;
            publisher.video(true, 1, 100);
            let mut viewer = rig.client(1, Role::Play, "t");
            rig.run(20, &mut [&mut viewer]).await;
            viewer.call(1, "closeStream", &[]);
            rig.run(20, &mut [&mut publisher, &mut viewer]).await;
            rig.heard.clear();
            viewer.call(1, "play", &[Value::from("u")]);
            rig.shards[1].turn_at(rig.now).await;
            viewer.call(1, "closeStream", &[]);
            viewer.call(1, "play", &[Value::from("s")]);
            rig.shards[1].turn_at(rig.now).await;
            rig.run(30, &mut [&mut publisher, &mut viewer]).await;
            let ends = rig.heard.iter().filter(|it| matches!(it, Notice::StreamEnded { .. }));
            assert_eq!(ends.count(), 1, "{:?}", rig.heard);
            assert_eq!(viewer.media(), ["1"]);
            assert_eq!(counts(&rig), [(1, 0, 0), (1, 1, 0)]);
            // With that answer it is free.
            viewer.call(1, "closeStream", &[]);
            viewer.call(1, "play", &[Value::from("s")]);
            rig.run(30, &mut [&mut publisher, &mut viewer]).await;
            assert_eq!(counts(&rig), [(2, 1, 1), (0, 0, 0)]);
        });
    }

    #[test]
    fn whoever_has_gone_is_still_ended_and_may_come_back() {
        run(|| async {
            let mut rig = rig();
            let mut publishers =
                [("s", 0), ("t", 1)].map(|(name, shard)| rig.client(shard, Role::Publish, name));
            let [near, far] = &mut publishers;
            rig.run(20, &mut [near, far]).await;
            near.video(true, 1, 100);
            far.video(true, 2, 100);
            let mut viewer = rig.client(1, Role::Play, "nothing");
            rig.run(20, &mut [&mut viewer]).await;
            let first = viewer_key(&rig.shards[1]);
            for (name, handovers) in [("s", (1, 0)), ("t", (1, 1)), ("s", (2, 1))] {
                viewer.call(1, "closeStream", &[]);
                viewer.call(1, "play", &[Value::from(name)]);
                rig.run(20, &mut [&mut viewer]).await;
                let counts = counts(&rig);
                assert_eq!((counts[0].2, counts[1].2), handovers, "{name}");
            }
            assert_eq!(viewer.media(), ["1", "2", "1"]);
            let why = "the operator says so".to_owned();
            rig.say(1, Notice::Dismiss { connection: first, why });
            rig.run(20, &mut [&mut viewer]).await;
            assert!(viewer.is_closed);
            // Of somebody who is nowhere the order ends somewhere.
            let dead = Notice::Dismiss { connection: first, why: String::new() };
            rig.say(1, dead);
            for _ in 0..30 {
                rig.wait(100, &mut []).await;
            }
            assert_eq!(counts(&rig), [(1, 0, 2), (1, 0, 1)]);
            assert!(rig.shards.iter().all(|shard| shard.outbox.is_empty()));
        });
    }

    #[test]
    fn a_shard_that_ends_takes_nobody_over() {
        run(|| async {
            let mut rig = rig();
            let mut publisher = rig.client(0, Role::Publish, "s");
            rig.run(20, &mut [&mut publisher]).await;
            publisher.video(true, 1, 100);
            let mut viewer = rig.client(1, Role::Play, "s");
            // Until the shard has let it go.
            for _ in 0..40 {
                viewer.pump();
                rig.shards[1].turn_at(rig.now).await;
                rig.control_turn();
                if rig.shards[1].departed.0.len() == 1 {
                    break;
                }
            }
            assert_eq!(rig.shards[1].conns.len(), 0);
            rig.shards[0].drain(rig.now + Duration::from_secs(5), rig.now);
            for _ in 0..40 {
                rig.wait(100, &mut [&mut viewer]).await;
            }
            assert!(viewer.is_closed);
            assert_eq!(rig.shards[0].counters.handovers, 1);
            assert_eq!(rig.shards[0].conns.len(), 0);
        });
    }

    #[test]
    fn only_so_many_that_have_gone_are_known() {
        let mut departed = Departed::default();
        let key = |slot| ConnKey { slot, generation: 0 };
        let max = limits::DEPARTED_CONNECTIONS_MAX as u32;
        for slot in 0..=max {
            departed.note(key(slot), ClientId(u64::from(slot)), 1);
        }
        assert_eq!(departed.0.len(), max as usize);
        assert_eq!(departed.client_of(key(0)), None);
        let last = ClientId(u64::from(max));
        assert_eq!(departed.client_of(key(max)), Some(last));
        assert_eq!(departed.node_of(last), Some(1));
        departed.came(last, 0);
        assert_eq!(departed.node_of(last), Some(0));
    }
}
