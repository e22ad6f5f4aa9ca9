//! Connections that do not publish: reading from them may take a part of a turn, and the rest waits for
//! the next. A handshake costs as much as many frames, thousands of clients may come at the same moment, and a
//! viewer may talk without end; no publisher, and nobody who views, must notice.

use std::collections::VecDeque;

use super::Shard;
use super::messages::ConnKey;
use crate::media::Moment;

/// Taking connections may use this part of the shortest turn, as CPU time.
const ACCEPT_SHARE: u32 = 4;
/// Reading from newcomers and viewers may use this part of it.
const READ_SHARE: u32 = 2;

/// Newcomers and viewers that have something to read, first come, first served.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    ready: VecDeque<ConnKey>,
}

impl Newcomers {
    /// Whether some wait for the next turn.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }
}

impl Shard {
    /// Takes what the acceptor has handed over; what does not fit into this turn stays in the inbox.
    pub(super) fn take_connections(&mut self, now: Moment) -> bool {
        let mut any = false;
        let end = (self.thread_cpu)() + self.turn_min / ACCEPT_SHARE;
        while let Some(new) = self.inbox.try_recv() {
            any = true;
            self.accept(new, now);
            if (self.thread_cpu)() >= end {
                break;
            }
        }
        any
    }

    /// Reads at once from who publishes; anybody else waits for [`Shard::read_newcomers`].
    pub(super) fn read_or_list(&mut self, key: ConnKey, now: Moment) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if !conn.publishes.is_empty() {
            self.read(key, now);
        } else if !conn.is_read_listed {
            conn.is_read_listed = true;
            self.newcomers.ready.push_back(key);
        }
    }

    /// Reads from who was listed for as long as their part of the turn lasts; at least from one.
    pub(super) fn read_newcomers(&mut self, now: Moment) {
        if self.newcomers.is_empty() {
            return;
        }
        let end = (self.thread_cpu)() + self.turn_min / READ_SHARE;
        while let Some(key) = self.newcomers.ready.pop_front() {
            if let Some(conn) = self.conns.get_mut(key) {
                conn.is_read_listed = false;
                self.read(key, now);
            }
            if (self.thread_cpu)() >= end {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Write;
    use std::time::Duration;

    use crate::proto::rtmp::client::Role;
    use crate::shard::Protocol;
    use crate::shard::testing::{Rig, run};

    /// A clock on which every look takes half a millisecond.
    fn slow_cpu() -> Duration {
        thread_local! { static SPENT: Cell<Duration> = const { Cell::new(Duration::ZERO) } }
        SPENT.set(SPENT.get() + Duration::from_micros(500));
        SPENT.get()
    }

    #[test]
    fn a_crowd_is_read_by_and_by_and_whoever_publishes_first() {
        run(|| async {
            let mut rig = Rig::new("", 1);
            let mut publisher = rig.client(0, Role::Publish, "s");
            let mut viewer = rig.client(0, Role::Play, "s");
            rig.run(20, &mut [&mut publisher, &mut viewer]).await;
            publisher.video(true, 1, 100);
            rig.run(20, &mut [&mut publisher, &mut viewer]).await;
            rig.shards[0].thread_cpu = slow_cpu;
            let mut crowd: Vec<_> = (0..40).map(|_| rig.connect(0, Protocol::Rtmp)).collect();
            for socket in &mut crowd {
                socket.write_all(&[3; 1 + 1536]).unwrap();
            }
            let reads = rig.shards[0].counters.reads;
            publisher.video(false, 2, 100);
            rig.turn().await;
            assert_eq!(rig.shards[0].publications.values().next().unwrap().counters.frames_in, 2);
            // 5 ms / 2, and the publisher.
            let read = rig.shards[0].counters.reads - reads;
            assert!((2..=6).contains(&read), "{read} were read in one turn");
            assert_eq!(rig.shards[0].next_due(), Some(crate::media::Moment::ZERO));
            for _ in 0..40 {
                rig.turn().await;
            }
            assert!(rig.shards[0].newcomers.is_empty());
            assert!(rig.shards[0].counters.reads - reads >= 41, "everybody was read");
        });
    }
}
