//! A viewer: plays a name over RTMP or HTTP-FLV, fast or slowly, leaves and comes back.

use super::book::{Book, Seen, Sight};
use super::dice::Dice;
use super::link::Link;
use crate::media::Moment;
use crate::proto::flv::TagReader;
use crate::proto::rtmp::client::{ClientEvent, ClientSession, Role};
use crate::shard::Protocol;
use crate::shard::testing::{Rig, client_config};

const TAG_BYTES_MAX: usize = 1 << 24;

/// One viewer of one name; it may connect many times.
#[derive(Debug)]
pub(super) struct Viewer {
    name: usize,
    stream: String,
    is_http: bool,
    connection: Option<Connection>,
    connect_at: Moment,
    has_retired: bool,
    dice: Dice,
    /// What was seen on earlier connections.
    pub(super) seen: Seen,
}

#[derive(Debug)]
struct Connection {
    link: Link,
    player: Player,
    sight: Sight,
    /// It has been slow, or stood still.
    has_suffered: bool,
    has_ended: bool,
}

#[derive(Debug)]
enum Player {
    Rtmp(Box<ClientSession>),
    Http { head: Option<Vec<u8>>, tags: TagReader },
}

impl Viewer {
    pub(super) fn new(name: usize, stream: &str, connect_at: Moment, mut dice: Dice) -> Self {
        Self {
            name,
            stream: stream.to_owned(),
            is_http: dice.happens(4_000),
            connection: None,
            connect_at,
            has_retired: false,
            dice,
            seen: Seen::default(),
        }
    }

    pub(super) fn suffer(&mut self, now: Moment) {
        let back_at = now + self.dice.ms(0..=2_000);
        let Some(connection) = &mut self.connection else { return };
        match self.dice.within(0..=9) {
            0..=4 => {
                connection.link.stall(now, self.dice.ms(50..=6_000));
                connection.has_suffered = true;
            }
            5 | 6 => {
                connection.link.set_rate(Some(self.dice.within(2_000..=400_000) as u64));
                connection.has_suffered = true;
            }
            7 => connection.link.set_rate(None),
            _ => {
                self.leave();
                self.connect_at = back_at;
            }
        }
    }

    pub(super) fn heal(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.link.heal();
        }
    }

    /// Stays to the end, but not longer.
    pub(super) fn will_not_return(&mut self) {
        self.has_retired = true;
    }

    /// Leaves for good.
    pub(super) fn retire(&mut self) {
        self.has_retired = true;
        self.leave();
    }

    fn leave(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        self.seen.add(connection.sight.seen());
    }

    /// What it has seen, when it has never been slow on the connection that it has.
    pub(super) fn undisturbed(&self) -> Option<&Sight> {
        let connection = self.connection.as_ref().filter(|it| !it.has_suffered)?;
        Some(&connection.sight)
    }

    /// What it has seen on the connection that it has.
    pub(super) fn sight(&self) -> Option<&Sight> {
        self.connection.as_ref().map(|connection| &connection.sight)
    }

    pub(super) fn name(&self) -> usize {
        self.name
    }

    /// Whether it was told that the stream ended (over HTTP: the connection was closed).
    pub(super) fn has_ended(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| connection.has_ended)
    }

    pub(super) fn turn(&mut self, rig: &mut Rig, book: &mut Book) {
        let now = rig.now;
        let Some(connection) = &mut self.connection else {
            if now >= self.connect_at && !self.has_retired {
                self.connect(rig);
            }
            return;
        };
        connection.turn(now, book);
        if !connection.link.is_open() {
            self.leave();
            self.connect_at = now + self.dice.ms(100..=1_000);
        }
    }

    fn connect(&mut self, rig: &mut Rig) {
        let shard = self.dice.within(0..=rig.shards.len() - 1);
        let mut out = Vec::new();
        let (protocol, player) = if self.is_http {
            out.extend(
                format!("GET /live/{}.flv HTTP/1.1\r\nHost: h\r\n\r\n", self.stream).bytes(),
            );
            let tags = TagReader::new(TAG_BYTES_MAX);
            (Protocol::Http, Player::Http { head: Some(Vec::new()), tags })
        } else {
            let session = ClientSession::new(client_config(Role::Play, &self.stream));
            session.start(&mut out);
            (Protocol::Rtmp, Player::Rtmp(Box::new(session)))
        };
        let mut link = Link::new(rig.connect(shard, protocol), rig.now, self.dice.split());
        link.say(&out);
        self.connection = Some(Connection {
            link,
            player,
            sight: Sight::new(self.name),
            has_suffered: false,
            has_ended: false,
        });
    }
}

impl Connection {
    fn turn(&mut self, now: Moment, book: &mut Book) {
        let Self { link, player, sight, has_ended, .. } = self;
        let mut out = Vec::new();
        link.carry(now, |bytes| match player {
            Player::Rtmp(session) => rtmp(session, bytes, &mut out, sight, book, has_ended),
            Player::Http { head, tags } => http(head, tags, bytes, sight, book),
        });
        link.say(&out);
    }
}

fn rtmp(
    session: &mut ClientSession,
    mut bytes: &[u8],
    out: &mut Vec<u8>,
    sight: &mut Sight,
    book: &mut Book,
    has_ended: &mut bool,
) {
    while !bytes.is_empty() {
        let progress = session.input(bytes, out).expect("the server speaks RTMP");
        bytes = &bytes[progress.consumed..];
        match progress.event {
            Some(ClientEvent::Message(message)) => {
                sight.see(book, message.type_id, message.timestamp_ms, &message.payload);
            }
            Some(ClientEvent::StreamEof) => {
                *has_ended = true;
                sight.end();
            }
            Some(ClientEvent::Status { code, .. }) if code == "NetStream.Play.PublishNotify" => {
                *has_ended = false;
            }
            _ => {}
        }
    }
}

fn http(
    head: &mut Option<Vec<u8>>,
    tags: &mut TagReader,
    bytes: &[u8],
    sight: &mut Sight,
    book: &mut Book,
) {
    let body = match head.take() {
        None => bytes.to_vec(),
        Some(mut so_far) => {
            so_far.extend(bytes);
            let Some(end) = so_far.windows(4).position(|part| part == b"\r\n\r\n") else {
                *head = Some(so_far);
                return;
            };
            if !so_far.starts_with(b"HTTP/1.1 200 ") {
                // A refusal; the connection is closed behind it.
                *head = Some(so_far);
                return;
            }
            so_far.split_off(end + 4)
        }
    };
    tags.push(&body);
    while let Some(tag) = tags.next_tag().expect("the server writes FLV") {
        sight.see(book, tag.type_id, tag.timestamp_ms, &tag.payload);
    }
}
