//! Rooms in the memory of the process: the store of a single node. No I/O and no clock.
//!
//! What must hold: a peer is in at most one room, and a room has at least one member; a text reaches a
//! member exactly once; the members hear of a newcomer before the newcomer hears of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::events;
use super::statistics::Statistics;
use super::store::{Delivery, Join, Joined, Member, Now, Reply, ResumeToken, StoreRequest};
use crate::media::Moment;
use crate::proto::palava::{PeerId, RoomError, RoomKey, Status};

/// Ids of lost connections that are kept; above it the oldest can no longer be resumed.
const KEPT_MAX: usize = 10_000;

/// All rooms of the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    rooms: HashMap<RoomKey, Room>,
    members: HashMap<PeerId, Membership>,
    /// Tokens of members and of lost connections.
    tokens: HashMap<ResumeToken, (PeerId, RoomKey)>,
    /// Lost connections, in the order in which they were lost.
    kept: VecDeque<(Moment, ResumeToken)>,
    statistics: Statistics,
}

#[derive(Debug)]
struct Room {
    members: BTreeMap<PeerId, ()>,
    peak: usize,
    since: Moment,
}

#[derive(Debug)]
struct Membership {
    room: RoomKey,
    status: Status,
    joined_unix_s: u64,
    token: ResumeToken,
}

impl MemoryStore {
    /// Carries a request out. What members are to be sent is put into `out`.
    pub fn request(&mut self, request: StoreRequest, now: Now, out: &mut Vec<Delivery>) -> Reply {
        match request {
            StoreRequest::Join(join) => Reply::Joined(self.join(join, now, out)),
            StoreRequest::Leave { peer, keep } => {
                self.leave(peer, keep, now, out);
                Reply::Done(Ok(()))
            }
            StoreRequest::UpdateStatus { peer, status } => {
                Reply::Done(self.update_status(peer, &status, out))
            }
            StoreRequest::Send { from, to, text } => {
                Reply::Done(self.neighbour(from, to).map(|()| out.push(Delivery::Text(to, text))))
            }
            StoreRequest::Probe { from, to, error } => {
                Reply::Done(self.neighbour(from, to).and(Err(error)))
            }
        }
    }

    /// Rooms that have members.
    pub fn rooms(&self) -> impl Iterator<Item = (&RoomKey, usize)> {
        self.rooms.iter().map(|(key, room)| (key, room.members.len()))
    }

    /// Members of all rooms.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Counts since the start.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    fn join(&mut self, join: Join, now: Now, out: &mut Vec<Delivery>) -> Result<Joined, RoomError> {
        self.forget_kept(now.moment);
        if self.members.contains_key(&join.peer) {
            return Err(RoomError::AlreadyJoined);
        }
        let resumed = join.resume.as_ref().and_then(|token| self.tokens.get(token));
        let own = match resumed {
            Some((peer, room)) if *room == join.room => *peer,
            _ => join.peer,
        };
        let is_there = self.members.contains_key(&own);
        let size = self.rooms.get(&join.room).map_or(0, |room| room.members.len());
        if join.max_members > 0 && size - usize::from(is_there) >= join.max_members {
            return Err(RoomError::RoomFull);
        }
        if is_there {
            // The old connection has not been missed yet.
            self.leave(own, Duration::ZERO, now, out);
            out.push(Delivery::Superseded(own));
        } else if let Some(token) = join.resume.as_ref().filter(|_| own != join.peer) {
            self.tokens.remove(token);
        }
        self.statistics.joined(!self.rooms.contains_key(&join.room));
        let room = self.rooms.entry(join.room.clone()).or_insert_with(|| Room {
            members: BTreeMap::new(),
            peak: 0,
            since: now.moment,
        });
        let others: Vec<Member> = room
            .members
            .keys()
            .map(|&peer| Member { peer, status: self.members[&peer].status.clone() })
            .collect();
        let text = events::new_peer(own, join.status.as_ref());
        out.extend(others.iter().map(|other| Delivery::Text(other.peer, text.clone())));
        room.members.insert(own, ());
        room.peak = room.peak.max(room.members.len());
        self.tokens.insert(join.next_token.clone(), (own, join.room.clone()));
        let membership = Membership {
            room: join.room,
            status: join.status.unwrap_or_default(),
            joined_unix_s: now.unix_s,
            token: join.next_token,
        };
        self.members.insert(own, membership);
        Ok(Joined { own, others })
    }

    fn leave(&mut self, peer: PeerId, keep: Duration, now: Now, out: &mut Vec<Delivery>) {
        self.forget_kept(now.moment);
        let Some(membership) = self.members.remove(&peer) else { return };
        self.statistics.left(membership.joined_unix_s, now.unix_s);
        if keep.is_zero() {
            self.tokens.remove(&membership.token);
        } else {
            self.kept.push_back((now.moment + keep, membership.token));
        }
        let Some(room) = self.rooms.get_mut(&membership.room) else { return };
        room.members.remove(&peer);
        if room.members.is_empty() {
            let duration_ms = now.moment.since(room.since).as_millis() as u64;
            self.statistics.closed(room.peak as u64, duration_ms, now.unix_s);
            self.rooms.remove(&membership.room);
            return;
        }
        let text = events::peer_left(peer);
        out.extend(room.members.keys().map(|&other| Delivery::Text(other, text.clone())));
    }

    fn update_status(
        &mut self,
        peer: PeerId,
        status: &Status,
        out: &mut Vec<Delivery>,
    ) -> Result<(), RoomError> {
        let membership = self.members.get_mut(&peer).ok_or(RoomError::NotInRoom)?;
        membership.status.merge(status);
        let text = events::peer_updated_status(peer, status);
        if let Some(room) = self.rooms.get(&membership.room) {
            out.extend(room.members.keys().map(|&member| Delivery::Text(member, text.clone())));
        }
        Ok(())
    }

    fn neighbour(&self, from: PeerId, to: PeerId) -> Result<(), RoomError> {
        let sender = self.members.get(&from).ok_or(RoomError::NotInRoom)?;
        let other = self.members.get(&to).ok_or(RoomError::UnknownPeer)?;
        if other.room == sender.room { Ok(()) } else { Err(RoomError::UnknownPeer) }
    }

    fn forget_kept(&mut self, now: Moment) {
        while let Some((until, token)) = self.kept.front() {
            if *until > now && self.kept.len() <= KEPT_MAX {
                break;
            }
            // A token that was used has been replaced: then there is nothing under it any more.
            self.tokens.remove(token);
            self.kept.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "memory/tests.rs"]
mod tests;
