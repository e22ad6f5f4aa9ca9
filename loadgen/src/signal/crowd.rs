//! All members on one thread: each knows what it has to be told, and by whom.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::frames::{self, Got, Reader};
use crate::clock::{SECOND_NS, now_ns};
use crate::histogram::latency_histogram;
use crate::poll::{Poll, Ready};
use crate::socket;

/// Connections that are being opened at the same time: fewer than a listener's backlog.
const OPENING_MAX: usize = 200;
/// Longest wait of one call.
const WAIT_NS: u64 = 50_000_000;

/// How many of what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) connections: usize,
    pub(super) rooms: usize,
    pub(super) message_bytes: usize,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) join: Histogram<u64>,
    pub(super) new_peer: Histogram<u64>,
    pub(super) message: Histogram<u64>,
    pub(super) peer_left: Histogram<u64>,
    pub(super) delivered: u64,
    pub(super) wrong: u64,
    pub(super) missing: u64,
    pub(super) closed: u64,
}

/// The members.
#[derive(Debug)]
pub(super) struct Crowd {
    shape: Shape,
    poll: Poll,
    members: Vec<Member>,
    /// Member by the id that the server gave it.
    ids: HashMap<String, usize>,
    ready: Vec<Ready>,
    buffer: Vec<u8>,
    /// Answers and messages that are on their way.
    awaited: usize,
    upgraded: usize,
    found: Found,
}

#[derive(Debug)]
struct Member {
    stream: TcpStream,
    reader: Reader,
    /// To be sent when there is room.
    out: Vec<u8>,
    id: Option<String>,
    /// When it asked for what it does now.
    asked_ns: u64,
    /// Of each member of its room, by place: the number of its next message.
    next: Vec<u32>,
    is_closed: bool,
}

impl Crowd {
    pub(super) fn new(shape: Shape) -> io::Result<Self> {
        Ok(Self {
            shape,
            poll: Poll::new()?,
            members: Vec::new(),
            ids: HashMap::new(),
            ready: Vec::new(),
            buffer: vec![0; 64 * 1024],
            awaited: 0,
            upgraded: 0,
            found: Found {
                join: latency_histogram(),
                new_peer: latency_histogram(),
                message: latency_histogram(),
                peer_left: latency_histogram(),
                delivered: 0,
                wrong: 0,
                missing: 0,
                closed: 0,
            },
        })
    }

    pub(super) fn found(&self) -> &Found {
        &self.found
    }

    /// Opens all connections and waits for the answers to their upgrades.
    pub(super) fn connect(
        &mut self,
        address: SocketAddr,
        path: &str,
        deadline_ns: u64,
    ) -> io::Result<()> {
        let hello = frames::hello(&address.to_string(), path);
        while self.upgraded < self.shape.connections {
            while self.members.len() < self.shape.connections
                && self.members.len() - self.upgraded < OPENING_MAX
            {
                let stream = socket::connect(address, None)?;
                self.poll.add(stream.as_raw_fd(), self.members.len() as u64, true)?;
                self.members.push(Member {
                    stream,
                    reader: Reader::default(),
                    out: hello.clone(),
                    id: None,
                    asked_ns: 0,
                    next: Vec::new(),
                    is_closed: false,
                });
            }
            if now_ns() > deadline_ns || self.found.closed > 0 {
                return Err(ErrorKind::TimedOut.into());
            }
            self.turn(WAIT_NS)?;
        }
        Ok(())
    }

    /// Everybody joins, the members of a room far from each other.
    pub(super) fn join(&mut self, per_second: u32, patience_ns: u64) -> io::Result<()> {
        let order: Vec<usize> = (0..self.shape.connections).collect();
        let mut present = vec![0; self.shape.rooms];
        self.paced(&order, per_second, patience_ns, |crowd, member| {
            let room = member % crowd.shape.rooms;
            crowd.awaited += 1 + present[room];
            present[room] += 1;
            let places = crowd.shape.connections.div_ceil(crowd.shape.rooms);
            crowd.members[member].next = vec![0; places];
            let status = json!({ "name": format!("member {member}"), "user_agent": "chrome" });
            crowd.say(
                member,
                &json!({ "event": "join_room", "room_id": format!("room {room}"), "status": status }),
            )
        })
    }

    /// Each member tells each other one of its room so many messages. Says how many that were.
    pub(super) fn talk(
        &mut self,
        rounds: u32,
        per_second: u32,
        patience_ns: u64,
    ) -> io::Result<u64> {
        let Shape { connections, rooms, message_bytes } = self.shape;
        let mut pairs = Vec::new();
        for _ in 0..rounds {
            for distance in 1..connections.div_ceil(rooms) {
                for from in 0..connections {
                    let places = (connections - from % rooms).div_ceil(rooms);
                    if places > distance {
                        let to = from % rooms + (from / rooms + distance) % places * rooms;
                        pairs.push((from, to));
                    }
                }
            }
        }
        let mut said: HashMap<(usize, usize), u32> = HashMap::new();
        let filler = "x".repeat(message_bytes);
        self.paced(&pairs, per_second, patience_ns, |crowd, (from, to)| {
            let Some(peer) = crowd.members[to].id.clone() else { return Ok(()) };
            let number = said.entry((from, to)).or_default();
            let data = json!({
                "event": "message", "number": *number, "at": now_ns(), "to": to, "data": filler,
            });
            *number += 1;
            crowd.awaited += 1;
            crowd.say(from, &json!({ "event": "send_to_peer", "peer_id": peer, "data": data }))
        })?;
        Ok(pairs.len() as u64)
    }

    /// Everybody leaves; those who are still there are told.
    pub(super) fn leave(&mut self, per_second: u32, patience_ns: u64) -> io::Result<()> {
        let order: Vec<usize> = (0..self.shape.connections).collect();
        let rooms = self.shape.rooms;
        let mut present = vec![0_usize; rooms];
        for member in &order {
            present[member % rooms] += 1;
        }
        self.paced(&order, per_second, patience_ns, |crowd, member| {
            present[member % rooms] -= 1;
            crowd.awaited += present[member % rooms];
            crowd.say(member, &json!({ "event": "leave_room" }))
        })
    }

    /// Reads for a while.
    pub(super) fn idle(&mut self, pause: Duration) -> io::Result<()> {
        let until_ns = now_ns() + pause.as_nanos() as u64;
        while now_ns() < until_ns {
            self.turn(until_ns.saturating_sub(now_ns()).min(WAIT_NS))?;
        }
        Ok(())
    }

    /// Does something for each, so many a second, and waits for what has to come of it.
    fn paced<T: Copy>(
        &mut self,
        all: &[T],
        per_second: u32,
        patience_ns: u64,
        mut act: impl FnMut(&mut Self, T) -> io::Result<()>,
    ) -> io::Result<()> {
        let begun_ns = now_ns();
        let due_ns = |index: usize| begun_ns + index as u64 * SECOND_NS / u64::from(per_second);
        let mut index = 0;
        while index < all.len() {
            let now = now_ns();
            if due_ns(index) <= now {
                act(self, all[index])?;
                index += 1;
            }
            let wait_ns = due_ns(index).saturating_sub(now_ns());
            // What has come is read at once, so that its moment is right.
            self.turn(wait_ns.min(WAIT_NS))?;
        }
        let deadline_ns = now_ns() + patience_ns;
        while self.awaited > 0 && now_ns() < deadline_ns {
            self.turn(WAIT_NS)?;
        }
        self.found.missing += self.awaited as u64;
        self.awaited = 0;
        Ok(())
    }

    fn say(&mut self, member: usize, message: &Value) -> io::Result<()> {
        let it = &mut self.members[member];
        it.asked_ns = now_ns();
        it.out.extend_from_slice(&frames::text(&message.to_string()));
        self.send(member)
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        let member = &mut self.members[index];
        if member.is_closed {
            return Ok(());
        }
        match member.stream.write(&member.out) {
            Ok(count) => drop(member.out.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // It shows when it is read.
            Err(_) => member.out.clear(),
        }
        let wants_room = !member.out.is_empty();
        self.poll.change(member.stream.as_raw_fd(), index as u64, wants_room)
    }

    fn turn(&mut self, wait_ns: u64) -> io::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poll.wait(wait_ns, &mut ready)?;
        for event in ready.drain(..) {
            let index = event.token as usize;
            if event.writable {
                if let Some(error) = self.members[index].stream.take_error()? {
                    return Err(error);
                }
                self.send(index)?;
            }
            if event.readable {
                self.read(index)?;
            }
        }
        self.ready = ready;
        Ok(())
    }

    fn read(&mut self, index: usize) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let member = &mut self.members[index];
        let count = match member.stream.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.buffer = buffer;
                return Ok(());
            }
            Err(_) => 0,
        };
        if count == 0 && !member.is_closed {
            member.is_closed = true;
            self.found.closed += 1;
            self.poll.remove(member.stream.as_raw_fd())?;
        }
        let mut texts = Vec::new();
        let (found, upgraded) = (&mut self.found, &mut self.upgraded);
        let mut pongs = Vec::new();
        member.reader.input(&buffer[..count], |got| match got {
            Got::Upgraded => *upgraded += 1,
            Got::Text(text) => texts.push(serde_json::from_slice::<Value>(text).ok()),
            Got::Ping(answer) => pongs.extend_from_slice(&answer),
            Got::Other => found.wrong += 1,
        });
        self.buffer = buffer;
        if !pongs.is_empty() {
            self.members[index].out.extend_from_slice(&pongs);
            self.send(index)?;
        }
        for text in texts {
            if text.is_none_or(|text| self.told(index, &text).is_none()) {
                self.found.wrong += 1;
            }
        }
        Ok(())
    }

    /// A member was told something; `None` when that is not what it has to be told.
    fn told(&mut self, index: usize, message: &Value) -> Option<()> {
        let now = now_ns();
        let rooms = self.shape.rooms;
        let other = |key: &str| {
            let id = message[key].as_str()?;
            let other = *self.ids.get(id)?;
            (other % rooms == index % rooms && other != index).then_some(other)
        };
        match message["event"].as_str()? {
            "joined_room" => {
                let member = self.members.get_mut(index)?;
                if member.id.is_some() {
                    return None;
                }
                let id = message["own_id"].as_str()?.to_owned();
                self.found.join.saturating_record(now - member.asked_ns);
                member.id = Some(id.clone());
                // Others may have heard of it first.
                if self.ids.insert(id, index).is_some_and(|known| known != index) {
                    return None;
                }
            }
            "new_peer" => {
                let name = message["status"]["name"].as_str()?;
                let newcomer: usize = name.strip_prefix("member ")?.parse().ok()?;
                if newcomer % rooms != index % rooms || newcomer == index {
                    return None;
                }
                self.ids.insert(message["peer_id"].as_str()?.to_owned(), newcomer);
                let asked = self.members.get(newcomer)?.asked_ns;
                self.found.new_peer.saturating_record(now - asked);
            }
            "message" => {
                let from = other("sender_id")?;
                let next = self.members.get_mut(index)?.next.get_mut(from / rooms)?;
                if message["to"] != index || message["number"] != *next {
                    return None;
                }
                *next += 1;
                self.found.message.saturating_record(now.saturating_sub(message["at"].as_u64()?));
                self.found.delivered += 1;
            }
            "peer_left" => {
                let left = other("sender_id")?;
                let asked = self.members.get(left)?.asked_ns;
                self.found.peer_left.saturating_record(now - asked);
            }
            _ => return None,
        }
        self.awaited = self.awaited.checked_sub(1)?;
        Some(())
    }
}
