//! The connection table of a shard: it owns the sockets. A key carries a generation, so that an answer
//! for a connection that is gone never reaches another one in the same slot.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::claim::Releases;
use super::claim::{Admission, InRooms, Member};
use super::ingest::Reading;
use super::load::{Seat, ShardLoad};
use super::messages::ConnKey;
use super::meter::Meter;
use crate::limits;
use crate::logging::Asked;
use crate::media::{Moment, StreamId};
use crate::rt::socket;
use crate::session::{AudiencePlace, ClientId, ClientInfo, CloseReason, Departure, Session};

/// Something that a connection plays.
#[derive(Debug)]
pub struct Play {
    /// On which of its message streams (0 over HTTP).
    pub message_stream_id: u32,
    /// The stream.
    pub stream: StreamId,
    /// Serial of the question that was accepted.
    pub serial: u32,
    /// Since when.
    pub since: Moment,
    /// It counts as a viewer.
    pub _place: AudiencePlace,
}

/// An empty output buffer of this size is kept: pings and acknowledgements fit. That of the handshake is
/// given back, else it would be half of what a viewer costs.
const OUT_KEPT_BYTES: usize = 256;

/// Something that a connection publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publishing {
    /// On which of its message streams.
    pub message_stream_id: u32,
    /// The stream.
    pub stream: StreamId,
    /// Serial of the question that was accepted.
    pub serial: u32,
}

/// A connection on its way out: its last words are sent, then the sending side is shut, then the
/// peer's end is awaited, so that a reset does not overtake the words.
#[derive(Debug)]
pub struct Closing {
    /// Why.
    pub reason: CloseReason,
    /// Since when.
    pub since: Moment,
    /// Not longer than this.
    pub deadline: Moment,
    /// The sending side is shut.
    pub is_shut: bool,
}

/// What a connection takes with it to another shard.
#[derive(Debug)]
pub struct Travelling {
    socket: OwnedFd,
    id: ClientId,
    peer: SocketAddr,
    session: Session,
    asked: Asked,
    admitted: Option<Arc<ClientInfo>>,
    has_codec_line: bool,
    seat: Seat,
    since: Moment,
    meter: Meter<2>,
    skips: u32,
    bytes_in: u64,
    bytes_out: u64,
}

/// Shared messages go to a connection in pieces of this size, so that a large one is not copied whole
/// for everybody who cannot take it at once.
const SHARED_PIECE_BYTES: usize = 16 * 1024;

/// What waits behind `out`.
#[derive(Debug)]
struct Waiting {
    bytes: Bytes,
    /// The session wrote it: no other connection gets it.
    is_own: bool,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    socket: OwnedFd,
    /// Its number.
    pub id: ClientId,
    /// The client's address.
    pub peer: SocketAddr,
    /// It is a trusted proxy's: what has come of its header, which goes before all else.
    pub proxy_header: Option<Vec<u8>>,
    /// What its bytes mean.
    pub session: Session,
    /// Bytes of commands and answers that go before, or between, messages of a stream.
    pub out: Vec<u8>,
    /// Bytes at the front of the output that are the rest of a message of a stream: they do not count as
    /// output that the client lets pile up.
    pub rest_bytes: usize,
    /// What comes behind `out`: whole messages that other connections get as well. Whoever empties
    /// `out` calls [`Conn::out_sent`], which takes the next piece from here.
    shared: VecDeque<Waiting>,
    shared_bytes: usize,
    /// Those of them that the session wrote.
    own_bytes: usize,
    /// Not before this moment: the socket was full.
    pub out_next_try: Moment,
    /// Refusals in a row, for the back-off.
    pub out_refusals: u8,
    /// It is in the shard's list of connections with output.
    pub is_out_listed: bool,
    /// It is in the shard's list of newcomers that have something to read.
    pub is_read_listed: bool,
    /// How it is read when it publishes.
    pub(super) reading: Reading,
    /// What it plays.
    pub plays: Vec<Play>,
    /// What it publishes.
    pub publishes: Vec<Publishing>,
    /// What it has asked for, for the access log.
    pub asked: Asked,
    /// Its questions that are not answered yet, also those whose answer it does not wait for any more.
    pub open_asks: u32,
    /// Its questions about publishing that are not answered yet.
    pub publish_asks: Vec<u32>,
    /// The message stream whose message is half sent: nothing else may be sent before its rest.
    pub mid_message: Option<u32>,
    /// It has refused a part of a stream, which is tried again then.
    pub(super) refused_until: Moment,
    /// The last slice of a pass in which it had a send: it has one at most.
    pub(super) slice: Cell<u64>,
    /// It counts as connected at the control shard.
    pub admission: Option<Admission>,
    /// The rooms know it.
    pub in_rooms: Option<InRooms>,
    /// The log has a line about codecs that it gets without having announced them.
    pub has_codec_line: bool,
    /// It gets push messages.
    pub member: Option<Member>,
    /// It came from another shard for a play that is not answered yet, and counts as its viewer.
    pub place: Option<AudiencePlace>,
    seat: Seat,
    /// Set when it is on its way out.
    pub closing: Option<Closing>,
    /// When it was accepted.
    pub since: Moment,
    /// Its rates: bytes in, bytes out.
    pub meter: Meter<2>,
    /// How often it was too slow for a stream and moved forward.
    pub skips: u32,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
}

impl Conn {
    /// A connection that was just accepted.
    pub fn new(
        socket: OwnedFd,
        id: ClientId,
        peer: SocketAddr,
        session: Session,
        seat: Seat,
        now: Moment,
    ) -> Self {
        Self {
            socket,
            id,
            peer,
            proxy_header: None,
            session,
            out: Vec::new(),
            rest_bytes: 0,
            shared: VecDeque::new(),
            shared_bytes: 0,
            own_bytes: 0,
            out_next_try: Moment::ZERO,
            out_refusals: 0,
            is_out_listed: false,
            is_read_listed: false,
            reading: Reading::default(),
            plays: Vec::new(),
            publishes: Vec::new(),
            asked: Asked::default(),
            open_asks: 0,
            publish_asks: Vec::new(),
            mid_message: None,
            refused_until: Moment::ZERO,
            slice: Cell::new(0),
            admission: None,
            in_rooms: None,
            has_codec_line: false,
            member: None,
            place: None,
            seat,
            closing: None,
            since: now,
            meter: Meter::new(now),
            skips: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// Whether its shard knows, and will be told, nothing of it but what [`Conn::travel`] takes along and the
    /// answer to one question.
    pub fn is_unbound(&self) -> bool {
        let is_client = |client: &Arc<ClientInfo>| !client.is_relay && client.link.is_none();
        self.session.client().is_some_and(is_client)
            && self.closing.is_none()
            && self.plays.is_empty()
            && self.publishes.is_empty()
            && self.open_asks == 1
            && self.member.is_none()
            && self.in_rooms.is_none()
            && self.proxy_header.is_none()
    }

    /// Leaves its shard, where nobody watches it any more. It is unbound and has no output.
    pub fn travel(self) -> Travelling {
        Travelling {
            socket: self.socket,
            id: self.id,
            peer: self.peer,
            session: self.session,
            asked: self.asked,
            admitted: self.admission.and_then(Admission::carry),
            has_codec_line: self.has_codec_line,
            seat: self.seat,
            since: self.since,
            meter: self.meter,
            skips: self.skips,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
        }
    }

    /// Is on another shard from now on.
    pub fn arrived(from: Travelling, load: &Arc<ShardLoad>, releases: &Releases) -> Self {
        let Travelling { socket, id, peer, session, mut seat, since, .. } = from;
        seat.move_to(load);
        Self {
            asked: from.asked,
            admission: from.admitted.map(|client| Admission::new(client, releases)),
            has_codec_line: from.has_codec_line,
            meter: from.meter,
            skips: from.skips,
            bytes_in: from.bytes_in,
            bytes_out: from.bytes_out,
            ..Self::new(socket, id, peer, session, seat, since)
        }
    }

    /// The stream that a message stream publishes.
    pub fn published(&self, message_stream_id: u32) -> Option<StreamId> {
        self.publishes
            .iter()
            .find(|publishing| publishing.message_stream_id == message_stream_id)
            .map(|publishing| publishing.stream)
    }

    /// What the control shard is told when it is gone.
    pub fn departure(&self) -> Departure {
        Departure {
            id: self.id,
            peer: self.session.peer(),
            since: self.since,
            is_http: matches!(self.session, Session::Http(_)),
            is_relay: matches!(self.session, Session::Relay(_)),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
        }
    }

    /// What remains of a message that was begun goes before all other output.
    pub fn out_rest(&mut self, rest: Vec<u8>) {
        self.rest_bytes += rest.len();
        self.out.splice(0..0, rest);
    }

    /// Whether the client lets its answers pile up, wherever they wait. Shared messages have a cap of
    /// their own, see [`Conn::push_shared`]; what of one is in `out` counts here, too.
    pub fn has_too_much_out(&self) -> bool {
        let own_bytes = self.out.len().saturating_sub(self.rest_bytes) + self.own_bytes;
        own_bytes > limits::OUTPUT_BYTES_MAX
    }

    /// The first `count` bytes of the output are sent.
    pub fn out_sent(&mut self, count: usize) {
        self.bytes_out += count as u64;
        self.rest_bytes = self.rest_bytes.saturating_sub(count);
        self.out.drain(..count);
        if self.out.is_empty() && self.out.capacity() > OUT_KEPT_BYTES {
            self.out = Vec::new();
        }
        // A message that has begun is finished before anything else is sent.
        self.refill();
    }

    /// Moves a piece of what comes next into the empty `out`, so that it is sent at the next boundary.
    pub fn refill(&mut self) {
        if !self.out.is_empty() {
            return;
        }
        let Some(next) = self.shared.front_mut() else { return };
        let piece = next.bytes.split_to(next.bytes.len().min(SHARED_PIECE_BYTES));
        self.shared_bytes -= piece.len();
        if next.is_own {
            self.own_bytes -= piece.len();
        }
        self.out.extend_from_slice(&piece);
        if next.bytes.is_empty() {
            self.shared.pop_front();
        }
        if self.shared.is_empty() {
            self.shared = VecDeque::new();
        }
    }

    /// Queues a message that other connections get as well. False when more waits already than may.
    pub fn push_shared(&mut self, message: &Bytes) -> bool {
        let waiting = self.out.len() + self.shared_bytes;
        let is_full = waiting + message.len() > limits::PUSH_QUEUE_BYTES_MAX
            || self.shared.len() >= limits::PUSH_QUEUE_MESSAGES_MAX;
        if waiting > 0 && is_full {
            return false;
        }
        if self.shared.is_empty() && self.out.len() + message.len() <= SHARED_PIECE_BYTES {
            self.out.extend_from_slice(message);
        } else {
            self.shared_bytes += message.len();
            self.shared.push_back(Waiting { bytes: message.clone(), is_own: false });
        }
        true
    }

    /// [`push_shared`](Self::push_shared), once more when the socket takes what waits: a burst is longer than a
    /// turn, and only who does not read is slow.
    pub fn take_shared(&mut self, message: &Bytes, now: Moment) -> bool {
        if self.push_shared(message) {
            return true;
        }
        let may_send = self.mid_message.is_none() && self.out_next_try <= now;
        may_send && self.send_output().is_ok() && self.push_shared(message)
    }

    /// What was written to `out` behind its first `before` bytes goes behind the shared messages: it may
    /// not stand inside of one.
    pub fn keep_order(&mut self, before: usize) {
        if !self.shared.is_empty() && self.out.len() > before {
            let written = self.out.split_off(before);
            self.shared_bytes += written.len();
            self.own_bytes += written.len();
            // Many short answers are one piece: what each of them would cost has no cap of its own.
            match self.shared.back_mut().filter(|last| last.is_own) {
                Some(last) => {
                    let mut bytes = BytesMut::from(std::mem::take(&mut last.bytes));
                    bytes.extend_from_slice(&written);
                    last.bytes = bytes.freeze();
                }
                None => {
                    self.shared.push_back(Waiting { bytes: written.into(), is_own: true });
                }
            }
        }
    }

    /// Sends output as far as the socket takes it, within the share of a pass; says how many sends that
    /// took. The caller has looked whether the connection is inside a message.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send_output(&mut self) -> io::Result<usize> {
        let mut sends = 0;
        let mut budget = limits::SEND_BYTES_PER_PASS_MAX;
        self.refill();
        while !self.out.is_empty() && budget > 0 {
            sends += 1;
            let len = self.out.len();
            match socket::send_now(&*self, &self.out) {
                Ok(sent) => {
                    self.out_refusals = 0;
                    budget = if sent == len { budget.saturating_sub(sent) } else { 0 };
                    self.out_sent(sent);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sends)
    }

    /// Whether something waits to be sent.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty() || !self.shared.is_empty()
    }

    /// Forgets what waits to be sent.
    pub fn drop_output(&mut self) {
        self.out.clear();
        self.rest_bytes = 0;
        self.shared.clear();
        self.shared_bytes = 0;
        self.own_bytes = 0;
    }
}

impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// All connections of a shard.
#[derive(Debug, Default)]
pub struct ConnTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
    len: usize,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    conn: Option<Box<Conn>>,
}

impl ConnTable {
    /// Number of connections.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of slots, used or not: what [`ConnTable::key_at`] can be asked for.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The key of the connection in a slot.
    pub fn key_at(&self, slot: usize) -> Option<ConnKey> {
        let found = self.slots.get(slot)?;
        found.conn.as_ref()?;
        Some(ConnKey { slot: slot as u32, generation: found.generation })
    }

    /// The connection with this number; looks through all of them.
    pub fn find(&self, client: ClientId) -> Option<ConnKey> {
        (0..self.slots.len())
            .filter_map(|slot| self.key_at(slot))
            .find(|key| self.get(*key).is_some_and(|conn| conn.id == client))
    }

    /// Adds a connection.
    pub fn insert(&mut self, conn: Conn) -> ConnKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let found = &mut self.slots[slot as usize];
        found.conn = Some(Box::new(conn));
        self.len += 1;
        ConnKey { slot, generation: found.generation }
    }

    /// The connection of a key, when it is still there.
    pub fn get(&self, key: ConnKey) -> Option<&Conn> {
        let slot = self.slots.get(key.slot as usize)?;
        if slot.generation == key.generation { slot.conn.as_deref() } else { None }
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, key: ConnKey) -> Option<&mut Conn> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.generation == key.generation { slot.conn.as_deref_mut() } else { None }
    }

    /// Takes a connection out; dropping it closes the socket.
    pub fn remove(&mut self, key: ConnKey) -> Option<Box<Conn>> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let conn = slot.conn.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.slot);
        self.len -= 1;
        Some(conn)
    }
}

impl ConnKey {
    /// As the readiness set carries it.
    pub fn token(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// From the readiness set.
    pub fn from_token(token: u64) -> Self {
        Self { slot: token as u32, generation: (token >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use super::*;
    use crate::session::HttpSession;
    use crate::shard::testing::settings;

    fn conn() -> Conn {
        conn_of(UnixStream::pair().unwrap().0)
    }

    fn conn_of(socket: UnixStream) -> Conn {
        let peer = "192.0.2.1:1000".parse().unwrap();
        let id = ClientId::next();
        let session = HttpSession::new(settings(""), id, peer, Moment::ZERO);
        let session = Session::Http(Box::new(session));
        let seat = Seat::new(&Arc::default(), &Arc::default(), None);
        Conn::new(socket.into(), id, peer, session, seat, Moment::ZERO)
    }

    #[test]
    fn a_key_never_reaches_the_next_connection_of_its_slot() {
        let mut table = ConnTable::default();
        let first = table.insert(conn());
        let other = table.insert(conn());
        assert!(table.remove(first).is_some());
        let second = table.insert(conn());
        assert_eq!((first.slot, table.len(), table.slots()), (second.slot, 2, 2));
        assert!(table.get(first).is_none() && table.get_mut(first).is_none());
        assert!(table.remove(first).is_none());
        assert_eq!(table.key_at(second.slot as usize), Some(second));
        assert!(table.get(second).is_some() && table.get(other).is_some());
    }

    #[test]
    fn a_token_names_its_connection() {
        for key in [
            ConnKey { slot: 0, generation: 0 },
            ConnKey { slot: u32::MAX, generation: 7 },
            ConnKey { slot: 7, generation: u32::MAX },
        ] {
            assert_eq!(ConnKey::from_token(key.token()), key);
        }
    }

    #[test]
    fn what_a_session_says_never_stands_inside_a_shared_message() {
        let mut conn = conn();
        let large = Bytes::from(vec![1; SHARED_PIECE_BYTES + 100]);
        assert!(conn.push_shared(&large) && conn.push_shared(&Bytes::from_static(&[2; 10])));
        conn.refill();
        assert_eq!(conn.out.len(), SHARED_PIECE_BYTES);
        conn.out_sent(100);
        let before = conn.out.len();
        conn.out.extend([3; 5]);
        conn.keep_order(before);
        let mut sent = vec![1; 100];
        while conn.has_output() {
            sent.push(conn.out[0]);
            conn.out_sent(1);
        }
        let expected = [vec![1; SHARED_PIECE_BYTES + 100], vec![2; 10], vec![3; 5]].concat();
        assert_eq!(sent, expected);
        assert_eq!((conn.shared_bytes, conn.own_bytes, conn.shared.capacity()), (0, 0, 0));
    }

    #[test]
    fn answers_behind_shared_messages_count_as_answers_that_pile_up() {
        let mut conn = conn();
        assert!(conn.push_shared(&Bytes::from(vec![1; 3 * SHARED_PIECE_BYTES])));
        conn.refill();
        let mut answers = 0;
        while !conn.has_too_much_out() {
            let before = conn.out.len();
            conn.out.extend([3; 10]);
            conn.keep_order(before);
            answers += 1;
        }
        assert_eq!(answers, (limits::OUTPUT_BYTES_MAX - SHARED_PIECE_BYTES) / 10 + 1);
        assert_eq!(conn.shared.len(), 2, "answers in a row are one piece");
        conn.drop_output();
        assert!(!conn.has_too_much_out() && !conn.has_output());
    }

    #[test]
    fn a_burst_goes_on_while_the_socket_takes_it() {
        let (socket, peer) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut conn = conn_of(socket);
        let message = Bytes::from(vec![0; limits::PUSH_QUEUE_BYTES_MAX / 64]);
        while conn.push_shared(&message) {}
        assert!(conn.take_shared(&message, Moment::ZERO));
        assert!(conn.bytes_out > 0);
        // Nobody reads.
        let taken = (0..1_000).take_while(|_| conn.take_shared(&message, Moment::ZERO)).count();
        assert!(taken < 1_000);
        drop(peer);
        assert!(!conn.take_shared(&message, Moment::ZERO), "the connection is broken");
    }

    #[test]
    fn what_waits_for_one_connection_is_bounded_in_bytes_and_messages() {
        let mut conn = conn();
        let huge = Bytes::from(vec![0; 2 * limits::PUSH_QUEUE_BYTES_MAX]);
        assert!(conn.push_shared(&huge), "a message alone goes however large it is");
        assert!(!conn.push_shared(&Bytes::from_static(&[0])));
        conn.drop_output();
        let one = Bytes::from_static(&[0; 17]);
        let taken = (0..100_000).take_while(|_| conn.push_shared(&one)).count();
        let in_out = SHARED_PIECE_BYTES / one.len();
        assert_eq!(taken, in_out + limits::PUSH_QUEUE_MESSAGES_MAX);
    }

    #[test]
    fn output_goes_from_the_front_and_gives_its_memory_back() {
        let mut conn = conn();
        conn.out = vec![1; 10_000];
        conn.out.push(2);
        conn.out_sent(10_000);
        assert_eq!(conn.out, [2]);
        conn.out_sent(1);
        assert_eq!((conn.out.capacity(), conn.bytes_out), (0, 10_001));
    }

    #[test]
    fn the_rest_of_a_message_does_not_count_as_answers_that_pile_up() {
        let mut conn = conn();
        conn.out = vec![1; 10];
        conn.out_rest(vec![2; 2 * limits::OUTPUT_BYTES_MAX]);
        conn.out.extend([3; 1_000]);
        assert!(!conn.has_too_much_out());
        conn.out_sent(2 * limits::OUTPUT_BYTES_MAX - 1);
        assert_eq!(conn.out[..2], [2, 1]);
        conn.out.extend(vec![3; limits::OUTPUT_BYTES_MAX]);
        assert!(conn.has_too_much_out());
    }
}
