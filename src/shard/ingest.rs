//! Reading from publishers: when, and how much at once.
//!
//! A read costs several times what its message does (the call, the kernel's acknowledgement, cold
//! caches), so it pays to let messages collect in their socket. A frame waits for its stream's hold
//! anyway: a publisher of which something has come is read when that hold is nearly over, what is read
//! counts as having come at the beginning of the wait, or of the shard's pause or long turn before it, and
//! is sent on in the same turn. Its viewers see no delay beyond the hold. Of a stream that nobody receives,
//! a little more may collect. A publisher that sends much is read sooner, so that its socket has room at
//! all times.
//!
//! While a publisher waits, its socket is not watched: what else comes wakes nobody.
//!
//! A wait in which nothing else comes has gained nothing. Worse, the publisher may send with Nagle's
//! algorithm, as many encoders do: then its next message does not leave it before this one is
//! acknowledged, which the kernel puts off until it is read. Such a publisher is read at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::time::Duration;

use super::Shard;
use super::conns::Conn;
use super::messages::ConnKey;
use super::publication::Publication;
use crate::config::Takeover;
use crate::limits;
use crate::media::{Moment, StreamId};
use crate::rt::poller::{Poller, Ready};
use crate::rt::socket;
use crate::session::CloseReason;

/// The token under which the shard's readiness set has this one; no connection has it.
pub(super) const PUBLISHERS: u64 = u64::MAX - 1;
/// Room for the answer of one look.
const EVENTS_MAX: usize = 1024;
/// Publishers wait no longer than this, however long the holds are.
const WAIT_MAX: Duration = Duration::from_millis(40);
/// What nobody receives may wait so long.
const UNRECEIVED_WAIT: Duration = Duration::from_millis(100);
/// At most so many bytes are expected to collect in a socket: a fraction of the kernel's smallest window.
const COLLECTED_BYTES: f64 = 16.0 * 1024.0;
/// A read that brought so much may have left something behind: a large frame is read on at once.
const LARGE_READ_BYTES: u64 = 32 * 1024;

/// A publisher with this score is read at once: what its waits have gained nothing, less what they have.
const IDLE_SCORE_MAX: u8 = 6;
/// So many times, at first, before it is tried again; each time twice as often, up to a limit.
const READS_AT_ONCE: u16 = 1000;
const READS_AT_ONCE_MAX: u16 = 32_000;

/// The sockets of a shard's publishers.
#[derive(Debug)]
pub(super) struct Ingest {
    poller: Poller,
    ready: Vec<Ready>,
    /// Who is read when. One that is read earlier, or has gone, leaves its place behind.
    waiting: BinaryHeap<Reverse<(Moment, ConnKey)>>,
}

/// What a connection is to the reading from publishers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// It is watched among the publishers.
    pub(super) is_publisher: bool,
    /// Watched for one event at a time.
    is_once: bool,
    /// Something came then, and has not been read.
    waits_since: Option<Moment>,
    /// What came last was left to wait.
    waits: bool,
    /// The last read was a large one.
    was_large: bool,
    /// What waits for a hold: the bytes that lay in the socket when the wait began, and its end.
    at_first: Option<(usize, Moment)>,
    gains: Gains,
    /// What is read now came then.
    pub(super) arrival: Option<Moment>,
}

/// Whether more comes while a publisher waits.
#[derive(Clone, Copy, Debug)]
struct Gains {
    idle_score: u8,
    /// So many more reads are not put off.
    at_once: u16,
    /// So many it will be the next time.
    at_once_next: u16,
}

impl Default for Gains {
    fn default() -> Self {
        Self { idle_score: 0, at_once: 0, at_once_next: READS_AT_ONCE }
    }
}

impl Gains {
    /// Whether it is worth trying to wait.
    fn may_wait(&mut self) -> bool {
        let is_tried = self.at_once == 0;
        self.at_once = self.at_once.saturating_sub(1);
        is_tried
    }

    /// A wait is over: something else came, or nothing did.
    fn waited(&mut self, has_gained: bool) {
        if has_gained {
            self.idle_score = self.idle_score.saturating_sub(1);
            return;
        }
        self.idle_score += 2;
        if self.idle_score >= IDLE_SCORE_MAX {
            // One more such wait is enough the next time.
            self.idle_score = IDLE_SCORE_MAX - 2;
            self.at_once = self.at_once_next;
            self.at_once_next = (self.at_once_next * 2).min(READS_AT_ONCE_MAX);
        }
    }
}

impl Ingest {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            poller: Poller::new(EVENTS_MAX)?,
            ready: Vec::with_capacity(EVENTS_MAX),
            waiting: BinaryHeap::new(),
        })
    }

    /// Readable when something has come of a publisher that does not wait.
    pub(super) const fn poller(&self) -> &Poller {
        &self.poller
    }

    /// When the first one that waits is to be read.
    pub(super) fn next_read(&self) -> Option<Moment> {
        self.waiting.peek().map(|Reverse((at, _))| *at)
    }
}

impl Shard {
    /// Notes whose bytes have come; reads from those that do not wait.
    pub(super) fn note_publishers(&mut self, now: Moment) {
        let paused_at = self.unseen_since.unwrap_or(now).max(now - self.turn_min);
        self.note_publishers_since(paused_at, now, now);
    }

    /// The same after a turn that took long: all that has come may be as old as its beginning, or as the
    /// longest hold. More than due it cannot be, and it must not look as if viewers were behind.
    pub(super) fn note_publishers_after(&mut self, turn_began: Moment, now: Moment) {
        let since = turn_began.max(now - limits::HOLD_MAX);
        self.note_publishers_since(since, since, now);
    }

    /// What has come may be as old as one moment if its stream holds it, and as the other if not.
    fn note_publishers_since(&mut self, if_held: Moment, if_not: Moment, now: Moment) {
        let mut ready = std::mem::take(&mut self.ingest.ready);
        if let Err(error) = self.ingest.poller.poll_now(&mut ready) {
            tracing::error!(shard = self.index, %error, "asking for ready publishers failed");
        }
        for event in &ready {
            let key = ConnKey::from_token(event.token);
            let Some(conn) = self.conns.get(key) else { continue };
            if conn.reading.waits_since.is_some() {
                if event.hangup {
                    self.read_publisher(key, now);
                }
                continue;
            }
            let (mut wait, is_held) = self.read_wait(key, now);
            let Some(conn) = self.conns.get_mut(key) else { continue };
            let since = if wait.is_zero() { if_not } else { if_held };
            conn.reading.waits_since = Some(since);
            if is_held && !wait.is_zero() {
                if conn.reading.gains.may_wait() {
                    // A wait that is hardly one, as most of it was in a long turn, says nothing.
                    let is_wait = (since + wait).since(now) >= wait / 2;
                    let bytes = is_wait.then(|| socket::unread_bytes(&*conn).ok()).flatten();
                    conn.reading.at_first = bytes.map(|bytes| (bytes, since + wait));
                } else {
                    wait = Duration::ZERO;
                }
            }
            conn.reading.waits = !wait.is_zero();
            if wait.is_zero() || event.hangup {
                self.read_publisher(key, now);
                continue;
            }
            self.ingest.waiting.push(Reverse((since + wait, key)));
            if !conn.reading.is_once && self.ingest.poller.pause(&*conn, key.token()).is_ok() {
                conn.reading.is_once = true;
            }
        }
        self.ingest.ready = ready;
    }

    /// Reads from publishers whose wait is over.
    pub(super) fn read_publishers(&mut self, now: Moment) {
        while let Some(&Reverse((at, key))) = self.ingest.waiting.peek()
            && at <= now
        {
            self.ingest.waiting.pop();
            self.read_publisher(key, now);
        }
    }

    /// What has come of a stream is read now: somebody wants to receive it, or to know how it is.
    pub(super) fn read_waiting(&mut self, stream: StreamId, now: Moment) {
        if let Some(publication) = self.publications.get(&stream) {
            self.read_publisher(publication.connection, now);
        }
    }

    /// Reads what waits of a publisher, if something does.
    pub(super) fn read_publisher(&mut self, key: ConnKey, now: Moment) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(since) = conn.reading.waits_since.take() else { return };
        conn.reading.arrival = Some(since);
        let at_first = conn.reading.at_first.take().filter(|(_, end)| *end <= now);
        let before = conn.bytes_in;
        let messages_before = at_first.map(|_| self.messages_of(key));
        self.read(key, now);
        let messages = messages_before.map(|before| self.messages_of(key).saturating_sub(before));
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.reading.arrival = None;
        if !conn.reading.is_publisher {
            return;
        }
        let bytes = conn.bytes_in - before;
        conn.reading.was_large = bytes >= LARGE_READ_BYTES;
        if let (Some((first, _)), Some(messages)) = (at_first, messages) {
            conn.reading.gains.waited(messages >= 2 && bytes > first as u64);
        }
        let is_once = conn.reading.waits;
        if !is_once && !conn.reading.is_once {
            return;
        }
        conn.reading.is_once = is_once;
        let poller = &self.ingest.poller;
        let token = key.token();
        let watched =
            if is_once { poller.watch_once(&*conn, token) } else { poller.resume(&*conn, token) };
        if let Err(error) = watched {
            // Nothing would tell of it any more.
            tracing::error!(shard = self.index, peer = %conn.peer, %error, "a publisher cannot be watched");
            self.close(key, CloseReason::Internal, now);
        }
    }

    /// Media messages that a connection has published with what it publishes now.
    fn messages_of(&self, key: ConnKey) -> u64 {
        let publishes = self.conns.get(key).map_or(&[][..], |conn| &conn.publishes);
        let publications = publishes.iter().filter_map(|it| self.publications.get(&it.stream));
        publications.map(|publication| publication.counters.frames_in).sum()
    }

    /// The shortest hold of a publication's streams: it may go on under other names.
    fn shortest_hold(&self, publication: &Publication) -> Duration {
        let hold = |it: &Publication| it.settings.hold_video.min(it.settings.hold_audio);
        let mirrors = publication.mirrors.iter().filter_map(|key| self.conns.get(*key));
        let mirrors = mirrors.flat_map(|conn| &conn.publishes);
        let mirrors = mirrors.filter_map(|it| self.publications.get(&it.stream));
        // One that goes on once more is rare, and does not wait.
        let mirrored =
            mirrors.map(|it| if it.mirrors.is_empty() { hold(it) } else { Duration::ZERO });
        mirrored.chain([hold(publication)]).min().unwrap_or_default()
    }

    /// How long what comes of a publisher now may wait, and whether somebody receives it.
    fn read_wait(&self, key: ConnKey, now: Moment) -> (Duration, bool) {
        let Some(conn) = self.conns.get(key).filter(|conn| !conn.reading.was_large) else {
            return (Duration::ZERO, false);
        };
        let mut is_received = false;
        let waits = conn.publishes.iter().filter_map(|publishing| {
            let publication = self.publications.get(&publishing.stream)?;
            let settings = &publication.settings;
            let viewed = self.viewers.get(&publishing.stream);
            if settings.takeover == Takeover::Reject {
                // Who comes back is refused as long as the end of who was there is not read.
                return Some(Duration::ZERO);
            }
            if viewed.is_none() && !publication.is_received() {
                let does_more = !conn.plays.is_empty() || conn.member.is_some();
                return Some(if does_more { Duration::ZERO } else { UNRECEIVED_WAIT });
            }
            is_received = true;
            let hold = self.shortest_hold(publication);
            // What viewers elsewhere have to expect is taken to be what those here have.
            let hold = viewed.map_or(hold, |viewed| viewed.shorten(hold)).min(WAIT_MAX);
            // What falls due before the next turn is sent in this one.
            Some(hold.saturating_sub(self.turn_min))
        });
        let wait = waits.min().unwrap_or_default();
        let [rate, _] = conn.meter.per_second(now, [conn.bytes_in, conn.bytes_out]);
        // Before the rate is known nobody waits.
        let room = if rate > 0.0 { COLLECTED_BYTES / rate } else { 0.0 };
        let wait = wait.min(Duration::from_secs_f64(room.min(1.0)));
        (if wait < self.turn_min { Duration::ZERO } else { wait }, is_received)
    }

    /// Watches a connection among the publishers, or among the others, as it is one or not.
    pub(super) fn watch_as_publisher(&mut self, key: ConnKey, is_publisher: bool) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.reading.is_publisher == is_publisher {
            return;
        }
        let (to, from) = if is_publisher {
            (&self.ingest.poller, &self.poller)
        } else {
            (&self.poller, &self.ingest.poller)
        };
        if let Err(error) = move_between(from, to, conn, key) {
            // It stays where it is, and is read there.
            tracing::warn!(shard = self.index, peer = %conn.peer, %error, "a connection cannot be watched");
            return;
        }
        conn.reading = Reading { is_publisher, ..Reading::default() };
    }
}

fn move_between(from: &Poller, to: &Poller, conn: &Conn, key: ConnKey) -> io::Result<()> {
    to.add(conn, key.token())?;
    from.remove(conn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::rtmp::client::Role;
    use crate::shard::testing::{Rig, run};

    const REALTIME: &str = "[apps.default]\nlatency = \"realtime\"\n";

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn arrivals(rig: &Rig) -> Vec<Moment> {
        let all = rig.shards[0].publications.values();
        all.filter_map(|it| it.gop().frames().next()).map(|frame| frame.arrival).collect()
    }

    #[test]
    fn what_comes_waits_for_its_hold_and_counts_from_its_beginning() {
        run(|| async {
            let mut rig = Rig::new("", 1);
            let mut publisher = rig.client(0, Role::Publish, "s");
            let mut viewer = rig.client(0, Role::Play, "s");
            // Until its rate is known it does not wait.
            rig.run(200, &mut [&mut publisher, &mut viewer]).await;
            let settings = rig.shards[0].publications.values().next().unwrap().settings.clone();
            let wait = settings.hold_video - rig.shards[0].turn_min;
            assert_eq!(wait, ms(35));
            publisher.video(true, 1, 100);
            publisher.pump();
            let came = rig.now;
            rig.turn().await;
            assert_eq!(
                rig.shards[0].next_due(),
                Some(rig.shards[0].next_housekeeping.min(came + wait))
            );
            let reads = rig.shards[0].counters.reads;
            // What else comes is read with it.
            for number in 2..5 {
                rig.run(10, &mut [&mut publisher, &mut viewer]).await;
                publisher.video(false, number, 100);
                publisher.pump();
                assert_eq!(rig.shards[0].counters.reads, reads);
            }
            rig.run(10, &mut [&mut publisher, &mut viewer]).await;
            assert_eq!(rig.shards[0].counters.reads, reads + 1);
            assert_eq!(viewer.media(), ["1", "2", "3", "4"]);
            assert!(rig.now.since(came) <= ms(41));
            // The next wait begins with what comes next.
            publisher.video(false, 5, 100);
            publisher.pump();
            rig.run(30, &mut [&mut publisher, &mut viewer]).await;
            assert_eq!(viewer.media().len(), 4);
            rig.run(10, &mut [&mut publisher, &mut viewer]).await;
            assert_eq!(viewer.media().len(), 5);
        });
    }

    #[test]
    fn what_came_in_a_pause_or_in_a_long_turn_counts_from_its_beginning() {
        run(|| async {
            for is_pause in [true, false] {
                let mut rig = Rig::new("", 1);
                let mut publisher = rig.client(0, Role::Publish, "s");
                let mut viewer = rig.client(0, Role::Play, "s");
                rig.run(200, &mut [&mut publisher, &mut viewer]).await;
                let wait = ms(35);
                publisher.video(true, 1, 100);
                publisher.pump();
                let began = rig.now;
                rig.now = began + if is_pause { ms(4) } else { ms(20) };
                if is_pause {
                    rig.shards[0].unseen_since = Some(began);
                    rig.turn().await;
                } else {
                    rig.shards[0].note_publishers_after(began, rig.now);
                }
                assert_eq!(rig.shards[0].ingest.next_read(), Some(began + wait));
                rig.now = began + wait;
                rig.run(2, &mut [&mut publisher, &mut viewer]).await;
                assert_eq!(viewer.media(), ["1"]);
                assert_eq!(arrivals(&rig), [began]);
            }
        });
    }

    #[test]
    fn what_came_in_a_pause_or_in_a_long_turn_is_not_taken_to_be_older_than_may_be() {
        run(|| async {
            for is_pause in [true, false] {
                let mut rig = Rig::new("", 1);
                let mut publisher = rig.client(0, Role::Publish, "s");
                let mut viewer = rig.client(0, Role::Play, "s");
                rig.run(200, &mut [&mut publisher, &mut viewer]).await;
                publisher.video(true, 1, 100);
                publisher.pump();
                let began = rig.now;
                rig.now = began + Duration::from_secs(20);
                let oldest = if is_pause {
                    rig.shards[0].unseen_since = Some(began);
                    ms(5)
                } else {
                    rig.shards[0].note_publishers_after(began, rig.now);
                    Duration::from_secs(1)
                };
                let oldest = rig.now - oldest;
                rig.run(50, &mut [&mut publisher, &mut viewer]).await;
                assert_eq!(viewer.media(), ["1"]);
                assert_eq!(arrivals(&rig), [oldest]);
                assert_eq!(rig.shards[0].pass.counters.skips, 0);
            }
        });
    }

    /// A shard that is full: what is left of each wait after a long turn would be taken for all of it.
    #[test]
    fn waits_that_passed_in_a_long_turn_are_not_judged() {
        run(|| async {
            let mut rig = Rig::new("", 1);
            let mut publisher = rig.client(0, Role::Publish, "s");
            let mut viewer = rig.client(0, Role::Play, "s");
            rig.run(200, &mut [&mut publisher, &mut viewer]).await;
            for number in 1..10 {
                publisher.video(number == 1, number, 100);
                publisher.pump();
                let began = rig.now;
                rig.now = began + ms(30);
                rig.shards[0].note_publishers_after(began, rig.now);
                rig.run(50, &mut [&mut publisher, &mut viewer]).await;
            }
            assert_eq!(viewer.media().len(), 9);
            let connection = rig.shards[0].publications.values().next().unwrap().connection;
            let gains = rig.shards[0].conns.get(connection).unwrap().reading.gains;
            assert_eq!((gains.idle_score, gains.at_once), (0, 0));
        });
    }

    #[test]
    fn what_nobody_receives_waits_longer_and_is_read_when_somebody_does() {
        run(|| async {
            let mut rig = Rig::new(REALTIME, 2);
            let mut publisher = rig.client(0, Role::Publish, "s");
            rig.run(200, &mut [&mut publisher]).await;
            publisher.video(true, 1, 100);
            rig.run(90, &mut [&mut publisher]).await;
            assert_eq!(arrivals(&rig), []);
            rig.run(20, &mut [&mut publisher]).await;
            let first = rig.now;
            assert_eq!(arrivals(&rig).len(), 1);
            publisher.video(false, 2, 100);
            // On this shard, and on another one.
            for shard in [0, 1] {
                publisher.video(false, 3, 100);
                rig.run(5, &mut [&mut publisher]).await;
                let mut viewer = rig.client(shard, Role::Play, "s");
                rig.run(10, &mut [&mut publisher, &mut viewer]).await;
                assert!(viewer.media().len() >= 3, "{:?}", viewer.media());
                drop(viewer);
                rig.run(5, &mut [&mut publisher]).await;
            }
            assert!(rig.now.since(first) < ms(100));
        });
    }

    #[test]
    fn a_publisher_that_sends_nothing_more_while_it_waits_is_read_at_once() {
        run(|| async {
            let mut rig = Rig::new("", 1);
            let mut publisher = rig.client(0, Role::Publish, "s");
            let mut viewer = rig.client(0, Role::Play, "s");
            rig.run(200, &mut [&mut publisher, &mut viewer]).await;
            // As Nagle's algorithm has it: the next message comes when this one is read.
            let mut number = 0;
            let mut cycle = async |rig: &mut Rig| {
                number += 1;
                publisher.video(number == 1, number, 100);
                let (reads, began) = (rig.shards[0].counters.reads, rig.now);
                while rig.shards[0].counters.reads == reads {
                    rig.run(1, &mut [&mut publisher, &mut viewer]).await;
                }
                rig.now.since(began)
            };
            for _ in 0..3 {
                let took = cycle(&mut rig).await;
                assert!(took >= ms(30), "{took:?}");
            }
            for _ in 0..READS_AT_ONCE {
                assert!(cycle(&mut rig).await <= ms(6));
            }
            // Tried again, once.
            assert!(cycle(&mut rig).await >= ms(30));
            assert!(cycle(&mut rig).await <= ms(6));
        });
    }

    #[test]
    fn who_is_seen_to_break_the_rules_while_its_own_play_begins_leaves_no_viewer_behind() {
        run(|| async {
            let mut rig = Rig::new(REALTIME, 1);
            let mut client = rig.client(0, Role::Publish, "s");
            rig.run(200, &mut [&mut client]).await;
            client.video(true, 1, 100);
            client.call(0, "createStream", &[]);
            rig.run(120, &mut [&mut client]).await;
            // The verdict on this is under way when the next bytes, which are none of RTMP, wait.
            client.call(2, "play", &["s".into()]);
            client.pump();
            while rig.shards[0]
                .conns
                .key_at(0)
                .and_then(|key| rig.shards[0].conns.get(key))
                .unwrap()
                .reading
                .waits_since
                .is_none()
            {
                rig.run(1, &mut [&mut client]).await;
            }
            rig.run(99, &mut [&mut client]).await;
            client.send(&[0xFF; 4096]);
            rig.run(200, &mut [&mut client]).await;
            assert!(client.is_closed);
            rig.wait(2_000, &mut [&mut client]).await;
            assert!(rig.shards[0].viewers.is_empty() && rig.shards[0].conns.is_empty());
        });
    }

    #[test]
    fn nobody_waits_where_a_second_publisher_is_refused() {
        run(|| async {
            let mut rig = Rig::new("[apps.default]\npublish.takeover = \"reject\"\n", 1);
            let mut publisher = rig.client(0, Role::Publish, "s");
            rig.run(200, &mut [&mut publisher]).await;
            publisher.video(true, 1, 100);
            rig.run(6, &mut [&mut publisher]).await;
            // Else who comes back at once would be refused.
            assert_eq!(arrivals(&rig).len(), 1);
        });
    }

    #[test]
    fn now_and_then_a_wait_may_gain_nothing() {
        let mut gains = Gains::default();
        for _ in 0..1_000 {
            assert!(gains.may_wait());
            gains.waited(false);
            gains.waited(true);
            gains.waited(true);
        }
        for _ in 0..20 {
            gains.waited(false);
        }
        assert!(!gains.may_wait());
        assert!(gains.at_once <= READS_AT_ONCE_MAX && gains.at_once_next == READS_AT_ONCE_MAX);
    }

    #[test]
    fn where_nothing_is_held_nobody_waits() {
        run(|| async {
            let mut rig = Rig::new(REALTIME, 1);
            let mut publisher = rig.client(0, Role::Publish, "s");
            let mut viewer = rig.client(0, Role::Play, "s");
            rig.run(200, &mut [&mut publisher, &mut viewer]).await;
            for number in 1..4 {
                publisher.video(number == 1, number, 100);
                rig.run(3, &mut [&mut publisher, &mut viewer]).await;
                assert_eq!(viewer.media().len(), number as usize);
            }
        });
    }

    #[test]
    fn a_frame_larger_than_the_socket_is_read_on_at_once() {
        run(|| async {
            let mut rig = Rig::new("", 1);
            let mut publisher = rig.client(0, Role::Publish, "s");
            let mut viewer = rig.client(0, Role::Play, "s");
            rig.run(200, &mut [&mut publisher, &mut viewer]).await;
            publisher.video(true, 1, 1_000_000);
            publisher.pump();
            rig.run(45, &mut [&mut publisher, &mut viewer]).await;
            // Several sockets full: one hold, and not one for each.
            assert_eq!(arrivals(&rig).len(), 1);
            rig.run(100, &mut [&mut publisher, &mut viewer]).await;
            assert_eq!(viewer.media(), ["1"]);
        });
    }

    #[test]
    fn a_publisher_that_hangs_up_or_gives_up_does_not_wait() {
        run(|| async {
            let mut rig = Rig::new("", 1);
            let mut publisher = rig.client(0, Role::Publish, "s");
            let mut other = rig.client(0, Role::Publish, "t");
            rig.run(200, &mut [&mut publisher, &mut other]).await;
            drop(publisher);
            rig.run(3, &mut [&mut other]).await;
            assert_eq!(rig.shards[0].publications.len(), 1);
            // Who publishes no longer is read with the others again.
            other.call(1, "closeStream", &[]);
            rig.run(110, &mut [&mut other]).await;
            assert_eq!(rig.shards[0].publications.len(), 0);
            let reads = rig.shards[0].counters.reads;
            other.call(0, "createStream", &[]);
            rig.run(3, &mut [&mut other]).await;
            assert!(rig.shards[0].counters.reads > reads);
        });
    }
}
