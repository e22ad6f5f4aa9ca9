//! What is kept for clients that come back, of all channels and users: bounded in number and age as the
//! vhost says, and in bytes by [`limits::PUSH_HISTORY_BYTES_MAX`]. Where something was lost, that is
//! remembered: a client is never told less than it may have missed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::target::Key;
use crate::limits;
use crate::media::Moment;

/// A message that is kept, in the forms of clients that can come back.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) websocket: Bytes,
    pub(super) sse: Bytes,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    at: Moment,
    age_max: Option<Duration>,
    message: Kept,
}

/// The part of the history that is one channel's or user's.
#[derive(Debug, Default)]
struct Track {
    offsets: VecDeque<u64>,
    /// The newest message that is no longer kept.
    lost: u64,
}

/// Messages by their offset.
#[derive(Debug, Default)]
pub(super) struct History {
    entries: BTreeMap<u64, Entry>,
    /// Those of them that grow old.
    aging: BTreeSet<u64>,
    tracks: HashMap<Key, Track>,
    bytes: usize,
    /// The newest message of channels and users of which nothing is kept any more.
    forgotten: u64,
    /// Messages that went before their age, because of the cap in bytes.
    pub(super) evicted: u64,
}

impl Entry {
    fn is_old(&self, now: Moment) -> bool {
        self.age_max.is_some_and(|max| now.since(self.at) > max)
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        self.websocket.len() + self.sse.len()
    }
}

impl History {
    /// Keeps the newest message, `messages_max` of its channel or user at most.
    pub(super) fn keep(
        &mut self,
        offset: u64,
        key: Key,
        message: Kept,
        messages_max: usize,
        age_max: Option<Duration>,
        now: Moment,
    ) {
        self.bytes += message.bytes();
        self.entries.insert(offset, Entry { key: key.clone(), at: now, age_max, message });
        if age_max.is_some() {
            self.aging.insert(offset);
        }
        let track = self.tracks.entry(key).or_default();
        track.offsets.push_back(offset);
        let surplus = track.offsets.len().saturating_sub(messages_max);
        let old: Vec<u64> = track.offsets.iter().take(surplus).copied().collect();
        for offset in old {
            self.drop_entry(offset);
        }
        while self.bytes > limits::PUSH_HISTORY_BYTES_MAX
            && let Some((&oldest, _)) = self.entries.first_key_value()
        {
            self.evicted += 1;
            self.drop_entry(oldest);
        }
        self.expire(now);
    }

    /// A message was sent and is not kept.
    pub(super) fn pass(&mut self, offset: u64, key: &Key) {
        match self.tracks.get_mut(key) {
            Some(track) => track.lost = offset,
            None => self.forgotten = offset,
        }
    }

    /// What a member of `keys` has missed that has seen everything up to `since`, oldest first, and
    /// whether more may be lost.
    pub(super) fn missed(
        &mut self,
        keys: &[Key],
        since: u64,
        now: Moment,
    ) -> (Vec<(u64, Kept)>, bool) {
        self.expire(now);
        let mut found = Vec::new();
        let mut has_gap = false;
        for key in keys {
            let Some(track) = self.tracks.get(key) else {
                has_gap |= self.forgotten > since;
                continue;
            };
            has_gap |= track.lost > since;
            for offset in track.offsets.iter().filter(|offset| **offset > since) {
                match self.entries.get(offset) {
                    Some(entry) if !entry.is_old(now) => {
                        found.push((*offset, entry.message.clone()));
                    }
                    _ => has_gap = true,
                }
            }
        }
        found.sort_unstable_by_key(|(offset, _)| *offset);
        (found, has_gap)
    }

    /// Messages and bytes that are kept.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }

    /// Drops what is too old. With ages that differ between vhosts an old message may stay behind a
    /// younger one that is kept longer; it is not given out then.
    fn expire(&mut self, now: Moment) {
        let is_old = |offset: &u64| self.entries.get(offset).is_none_or(|it| it.is_old(now));
        let old: Vec<u64> = self.aging.iter().copied().take_while(is_old).collect();
        for offset in old {
            self.drop_entry(offset);
        }
    }

    fn drop_entry(&mut self, offset: u64) {
        self.aging.remove(&offset);
        let Some(entry) = self.entries.remove(&offset) else { return };
        self.bytes -= entry.message.bytes();
        let Some(track) = self.tracks.get_mut(&entry.key) else { return };
        // Not always its first: messages of before a reload may be kept for longer.
        if let Ok(at) = track.offsets.binary_search(&offset) {
            track.offsets.remove(at);
        }
        // Newer ones may be lost already.
        track.lost = track.lost.max(offset);
        if track.offsets.is_empty() {
            self.forgotten = self.forgotten.max(track.lost);
            self.tracks.remove(&entry.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::push_message::PushAddress;

    fn key(channel: i64) -> Key {
        Key { vhost: 0, address: PushAddress::Channel(channel.into()) }
    }

    fn kept(len: usize) -> Kept {
        Kept { websocket: Bytes::from(vec![0; len]), sse: Bytes::new() }
    }

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    fn missed(history: &mut History, channels: &[i64], since: u64) -> (Vec<u64>, bool) {
        let keys: Vec<Key> = channels.iter().copied().map(key).collect();
        let (found, has_gap) = history.missed(&keys, since, at(100));
        (found.into_iter().map(|(offset, _)| offset).collect(), has_gap)
    }

    #[test]
    fn what_was_missed_comes_in_order_over_all_channels() {
        let mut history = History::default();
        for (offset, channel) in [(1, 1), (2, 2), (3, 1), (4, 3), (5, 2)] {
            history.keep(offset, key(channel), kept(1), 10, None, at(0));
        }
        assert_eq!(missed(&mut history, &[1, 2], 0), (vec![1, 2, 3, 5], false));
        assert_eq!(missed(&mut history, &[1, 2], 2), (vec![3, 5], false));
        assert_eq!(missed(&mut history, &[1, 2], 5), (vec![], false));
        assert_eq!(missed(&mut history, &[7], 0), (vec![], false), "nothing was ever said there");
    }

    #[test]
    fn what_fell_out_is_a_gap_for_those_who_missed_it() {
        let mut history = History::default();
        for offset in 1..=5 {
            history.keep(offset, key(1), kept(1), 3, None, at(0));
        }
        assert_eq!(missed(&mut history, &[1], 0), (vec![3, 4, 5], true));
        assert_eq!(missed(&mut history, &[1], 1), (vec![3, 4, 5], true));
        assert_eq!(missed(&mut history, &[1], 2), (vec![3, 4, 5], false));
        assert_eq!(missed(&mut history, &[2], 0), (vec![], false));
    }

    #[test]
    fn what_is_too_old_is_a_gap() {
        let mut history = History::default();
        let age = Some(Duration::from_secs(10));
        history.keep(1, key(1), kept(1), 9, age, at(80));
        history.keep(2, key(1), kept(1), 9, age, at(95));
        assert_eq!(missed(&mut history, &[1], 0), (vec![2], true));
        assert_eq!(missed(&mut history, &[1], 1), (vec![2], false));
        let (found, has_gap) = history.missed(&[key(1)], 1, at(200));
        assert!(found.is_empty() && has_gap);
        assert_eq!(history.size(), (0, 0));
        assert!(history.tracks.is_empty(), "a channel of which nothing is kept is forgotten");
        assert!(!history.missed(&[key(1)], 2, at(200)).1);
    }

    #[test]
    fn what_is_not_kept_is_a_gap() {
        let mut history = History::default();
        history.pass(1, &key(1));
        assert_eq!(missed(&mut history, &[1], 0), (vec![], true));
        assert_eq!(missed(&mut history, &[1], 1), (vec![], false));
    }

    #[test]
    fn what_is_too_old_goes_from_behind_what_is_kept_for_longer() {
        let mut history = History::default();
        history.keep(1, key(1), kept(1), 9, None, at(0));
        // A reload has given the vhost an age.
        let age = Some(Duration::from_secs(10));
        history.keep(2, key(1), kept(1), 9, age, at(80));
        history.keep(3, key(1), kept(1), 9, age, at(95));
        assert_eq!(missed(&mut history, &[1], 0), (vec![1, 3], true));
        assert_eq!(missed(&mut history, &[1], 2), (vec![3], false));
        assert_eq!(history.size(), (2, 2));
        // The older one goes later, because there are too many.
        history.keep(4, key(1), kept(1), 2, age, at(100));
        assert_eq!(missed(&mut history, &[1], 1), (vec![3, 4], true));
        assert_eq!(missed(&mut history, &[1], 2), (vec![3, 4], false));
    }

    #[test]
    fn what_was_not_kept_stays_a_gap_when_older_messages_go() {
        let mut history = History::default();
        history.keep(1, key(1), kept(1), 9, Some(Duration::from_secs(10)), at(0));
        // A reload has switched the history off.
        history.pass(2, &key(1));
        assert_eq!(missed(&mut history, &[1], 1), (vec![], true));
        assert_eq!(history.size(), (0, 0));
        assert_eq!(missed(&mut history, &[1], 1), (vec![], true), "of what is forgotten, too");
        assert_eq!(missed(&mut history, &[1], 2), (vec![], false));
    }

    #[test]
    fn the_cap_in_bytes_holds() {
        let mut history = History::default();
        let large = limits::PUSH_HISTORY_BYTES_MAX / 4;
        for offset in 1..=6 {
            history.keep(offset, key(offset as i64 % 2), kept(large), 100, None, at(0));
        }
        assert_eq!(history.size(), (4, 4 * large));
        assert_eq!(history.evicted, 2);
        assert_eq!(missed(&mut history, &[0, 1], 1), (vec![3, 4, 5, 6], true));
    }
}
