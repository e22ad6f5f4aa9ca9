//! Reading from publishers: how many of them in one turn.
//!
//! A read costs several times what its message does (the call, the kernel's acknowledgement), so with many
//! publishers it pays to let messages collect in their sockets. A frame may wait for its stream's hold
//! anyway: a publisher that is read once per hold, and whose frames are then counted as having come right
//! after the read before, costs its viewers no delay at all. A turn therefore reads from a share of the
//! publishers that are ready, and the kernel's list of them goes round. With few publishers the share is
//! everybody.

use std::io;
use std::time::Duration;

use super::Shard;
use super::conns::Conn;
use super::messages::ConnKey;
use crate::media::Moment;
use crate::rt::poller::{Poller, Ready};

/// The token under which the shard's readiness set has this one; no connection has it.
pub(super) const PUBLISHERS: u64 = u64::MAX - 1;
/// So many are read in every turn, if they are ready.
const SHARE_MIN: usize = 64;
/// Publishers wait no longer than this, however long the holds are: their sockets have to take what comes.
const WAIT_MAX: Duration = Duration::from_millis(40);
/// Room for the answer of one look.
const EVENTS_MAX: usize = 1024;

/// The sockets of a shard's publishers.
#[derive(Debug)]
pub(super) struct Ingest {
    poller: Poller,
    ready: Vec<Ready>,
    /// How long a frame may lie in its socket: the shortest hold of the shard's publications.
    wait_max: Duration,
    /// The last look left somebody out.
    was_short: bool,
}

impl Ingest {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            poller: Poller::new(EVENTS_MAX)?,
            ready: Vec::with_capacity(EVENTS_MAX),
            wait_max: Duration::ZERO,
            was_short: false,
        })
    }

    /// Readable when some publisher is.
    pub(super) const fn poller(&self) -> &Poller {
        &self.poller
    }

    /// The shortest hold of the shard's publications is this now.
    pub(super) fn hold_is(&mut self, hold: Duration) {
        self.wait_max = hold.min(WAIT_MAX);
    }
}

/// How many of so many publishers are read in a turn, so that each has its turn within `wait_max`.
fn share(publishers: usize, turn_min: Duration, wait_max: Duration) -> usize {
    if wait_max <= turn_min {
        return EVENTS_MAX;
    }
    let turns = wait_max.as_nanos() / turn_min.as_nanos().max(1);
    publishers.div_ceil(turns.max(1) as usize).clamp(SHARE_MIN, EVENTS_MAX)
}

impl Shard {
    /// Reads from publishers that are ready, within the turn's share.
    pub(super) fn read_publishers(&mut self, now: Moment) {
        let mut ready = std::mem::take(&mut self.ingest.ready);
        let share = share(self.publications.len(), self.turn_min, self.ingest.wait_max);
        if let Err(error) = self.ingest.poller.poll_some(&mut ready, share) {
            tracing::error!(shard = self.index, %error, "asking for ready publishers failed");
        }
        let is_short = ready.len() == share;
        let may_have_waited = is_short || self.ingest.was_short;
        self.ingest.was_short = is_short;
        let earliest = now - self.ingest.wait_max;
        for event in &ready {
            let key = ConnKey::from_token(event.token);
            if let Some(conn) = self.conns.get_mut(key) {
                conn.arrived_after = may_have_waited.then(|| conn.last_read.max(earliest));
                conn.last_read = now;
                self.read(key, now);
            }
        }
        self.ingest.ready = ready;
    }

    /// Watches a connection among the publishers, or among the others, as it is one or not.
    pub(super) fn watch_as_publisher(&mut self, key: ConnKey, is_publisher: bool, now: Moment) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.is_read_as_publisher == is_publisher {
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
        conn.is_read_as_publisher = is_publisher;
        conn.last_read = now;
        conn.arrived_after = None;
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
    use crate::shard::testing::{Client, Rig, run};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn everybody_has_a_turn_within_the_wait() {
        // balanced: eight turns of 5 ms in a hold of 40 ms.
        assert_eq!(share(10, ms(5), ms(40)), SHARE_MIN);
        assert_eq!(share(512, ms(5), ms(40)), 64);
        assert_eq!(share(1_000, ms(5), ms(40)), 125);
        assert_eq!(share(1_001, ms(5), ms(40)), 126);
        for publishers in 1..2_000 {
            assert!(share(publishers, ms(5), ms(40)) * 8 >= publishers);
        }
    }

    #[test]
    fn nobody_waits_where_nothing_is_held() {
        assert_eq!(share(1_000, ms(2), ms(0)), EVENTS_MAX);
        assert_eq!(share(1_000, ms(50), ms(40)), EVENTS_MAX);
    }

    #[test]
    fn who_waits_in_a_crowd_of_publishers_is_read_next_and_counts_as_having_come_before() {
        run(|| async {
            let mut rig = Rig::new("", 1);
            let connect = |number| rig.client(0, Role::Publish, &format!("s{number}"));
            let mut publishers: Vec<Client> = (0..80).map(connect).collect();
            rig.run(40, &mut publishers.iter_mut().collect::<Vec<_>>()).await;
            rig.wait(200, &mut publishers.iter_mut().collect::<Vec<_>>()).await;
            assert_eq!(rig.shards[0].publications.len(), 80);
            for publisher in &mut publishers {
                publisher.video(true, 1, 100);
                publisher.pump();
            }
            let begin = rig.now;
            let frames = |rig: &Rig| -> Vec<Moment> {
                let all = rig.shards[0].publications.values();
                all.filter_map(|it| it.gop().frames().next()).map(|frame| frame.arrival).collect()
            };
            rig.turn().await;
            assert_eq!(frames(&rig).len(), SHARE_MIN);
            rig.turn().await;
            let arrivals = frames(&rig);
            assert_eq!(arrivals.len(), 80);
            // Their hold is over when it would be if they had been read at once.
            assert!(arrivals.iter().all(|arrival| *arrival <= begin), "{begin:?} {arrivals:?}");
            assert!(arrivals.iter().all(|arrival| begin.since(*arrival) <= ms(40)));

            // Who publishes no longer is read with the others again.
            publishers[0].call(1, "closeStream", &[]);
            rig.run(3, &mut publishers.iter_mut().collect::<Vec<_>>()).await;
            assert_eq!(rig.shards[0].publications.len(), 79);
            publishers[0].call(0, "createStream", &[]);
            let reads = rig.shards[0].counters.reads;
            rig.run(3, &mut publishers.iter_mut().collect::<Vec<_>>()).await;
            assert!(rig.shards[0].counters.reads > reads);
        });
    }
}
