//! A whole RTMP connection from the server's side: any bytes, under any split, with verdicts that
//! come at once, late or never.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use shardcast::config::{Settings, Sources};
use shardcast::limits::MESSAGE_STREAMS_MAX;
use shardcast::media::{Epoch, Moment, StreamId};
use shardcast::proto::rtmp::Message;
use shardcast::proto::rtmp::chunk_reader::{ChunkReader, ReaderLimits};
use shardcast::proto::rtmp::chunk_writer::{MessageHeader, full_len};
use shardcast::proto::rtmp::handshake::PACKET_BYTES;
use shardcast::proto::rtmp::message;
use shardcast::session::{
    Audience, ClientId, CloseReason, Event, Grant, Io, Reception, Refusal, RefusalReason,
    RtmpSession, Verdict, Want,
};

use super::dice::Dice;

static SETTINGS: LazyLock<Arc<Settings>> = LazyLock::new(|| {
    Arc::new(Settings::load(&Sources::default()).expect("the default settings are valid"))
});

/// Everything that a client sends.
pub fn run(data: &[u8]) {
    same_under_any_split(data);
    any_order_of_events(data);
}

/// The default settings.
pub(crate) fn settings() -> Arc<Settings> {
    Arc::clone(&SETTINGS)
}

/// Byte by byte, and in pieces that end where a question was asked: with verdicts that come at
/// once, the client hears the same and the shard is told the same.
fn same_under_any_split(data: &[u8]) {
    let mut bytewise = Server::new();
    let mut asked_at = Vec::new();
    for (index, byte) in data.chunks(1).enumerate() {
        bytewise.input(byte);
        if bytewise.answer_all() {
            asked_at.push(index + 1);
        }
    }
    let mut pieces = Server::new();
    let mut dice = Dice::of(data);
    let mut from = 0;
    for end in asked_at.into_iter().chain([data.len()]) {
        for piece in dice.cut(&data[from..end]) {
            pieces.input(piece);
            pieces.answer_all();
        }
        from = end;
    }
    assert_eq!(pieces.closed, bytewise.closed);
    assert_eq!(pieces.told, bytewise.told);
    // Choices of a player are told once for all that came together: the last ones count.
    for id in 1..=MESSAGE_STREAMS_MAX as u32 {
        assert_eq!(pieces.session.reception(id), bytewise.session.reception(id));
    }
    // How often bytes are acknowledged depends on when they come.
    let (said, expected) =
        (pieces.said_but_acknowledgements(), bytewise.said_but_acknowledgements());
    assert_eq!(said, expected);
}

/// Verdicts of all kinds at any time, time-outs, and news of the streams that are played.
fn any_order_of_events(data: &[u8]) {
    let mut dice = Dice::of(data);
    dice.next();
    let mut server = Server::new();
    for piece in dice.cut(data) {
        server.input(piece);
        match dice.below(8) {
            0 => drop(server.answer_all()),
            1 => server.answer(true, &mut dice),
            2 | 3 => server.answer(false, &mut dice),
            4 => server.tick(Duration::from_millis(dice.next() % 10_000)),
            5 => server.stream_up(1 + dice.below(MESSAGE_STREAMS_MAX) as u32),
            6 => server.stream_down(1 + dice.below(MESSAGE_STREAMS_MAX) as u32),
            _ => {}
        }
    }
    server.tick(Duration::from_secs(3_600));
    let mut tick_again = 0;
    while server.closed.is_none() && tick_again < 3 {
        server.tick(Duration::from_secs(3_600));
        tick_again += 1;
    }
    let has_published = server.told.iter().any(|told| matches!(told, Told::Media { .. }));
    assert!(server.closed.is_some() || has_published, "a silent client is closed in the end");
}

/// What the shard is told.
#[derive(Debug, PartialEq)]
enum Told {
    Media { stream: u32, type_id: u8, timestamp_ms: u32, payload: Vec<u8> },
    Other(String),
}

/// What a message stream does, as the shard sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Publish,
    Play,
}

struct Server {
    session: RtmpSession,
    settings: Arc<Settings>,
    now: Moment,
    out: Vec<u8>,
    told: Vec<Told>,
    questions: Vec<(u32, Want)>,
    does: Vec<(u32, Does)>,
    /// What the shard knows of the choices of players.
    received: BTreeMap<u32, Reception>,
    closed: Option<CloseReason>,
    reader: ChunkReader,
    handshake_left: usize,
    said: Vec<Message>,
}

impl Server {
    fn new() -> Self {
        let settings = settings();
        let now = Moment::ZERO + Duration::from_secs(50);
        let peer = ([192, 0, 2, 1], 1_000).into();
        let limits = ReaderLimits {
            message_bytes_max: 1 << 24,
            chunk_streams_max: 64,
            partial_bytes_max: 1 << 25,
        };
        let mut reader = ChunkReader::new(limits);
        reader.set_chunk_size(settings.rtmp.chunk_size as usize);
        Self {
            session: RtmpSession::new(Arc::clone(&settings), ClientId(7), peer, 1, now),
            settings,
            now,
            out: Vec::new(),
            told: Vec::new(),
            questions: Vec::new(),
            does: Vec::new(),
            received: BTreeMap::new(),
            closed: None,
            reader,
            handshake_left: 1 + 2 * PACKET_BYTES,
            said: Vec::new(),
        }
    }

    fn drive(
        &mut self,
        call: impl FnOnce(&mut RtmpSession, &mut Io<'_>) -> Result<(), CloseReason>,
    ) {
        if self.closed.is_some() {
            return;
        }
        let mut events = Vec::new();
        let mut io = Io { now: self.now, out: &mut self.out, events: &mut events };
        let result = call(&mut self.session, &mut io);
        for event in events.drain(..) {
            self.event(event);
        }
        if let Err(reason) = result {
            let mut io = Io { now: self.now, out: &mut self.out, events: &mut events };
            self.session.farewell(&reason, &mut io);
            assert!(events.is_empty(), "the last words ask for nothing");
            assert!(!reason.word().is_empty() && !reason.to_string().is_empty());
            self.closed = Some(reason);
        }
        self.listen();
    }

    fn input(&mut self, bytes: &[u8]) {
        self.drive(|session, io| session.input(bytes, io));
        if self.closed.is_some() {
            return;
        }
        for (id, _) in self.does.iter().filter(|(_, does)| *does == Does::Play) {
            assert_eq!(self.received.get(id), Some(&self.session.reception(*id)), "stream {id}");
        }
    }

    fn tick(&mut self, wait: Duration) {
        self.now = self.now + wait;
        self.drive(|session, io| session.tick(io));
    }

    fn stream_up(&mut self, id: u32) {
        self.drive(|session, io| {
            session.stream_up(id, io);
            Ok(())
        });
    }

    fn stream_down(&mut self, id: u32) {
        self.drive(|session, io| {
            session.stream_down(id, io);
            Ok(())
        });
    }

    fn event(&mut self, event: Event) {
        if let Event::Media(media) = event {
            let stream = media.message_stream_id;
            assert!(self.does.contains(&(stream, Does::Publish)), "media before the verdict");
            self.told.push(Told::Media {
                stream,
                type_id: media.track.type_id(),
                timestamp_ms: media.timestamp_ms,
                payload: media.payload.to_vec(),
            });
            return;
        }
        if let Event::Receive { message_stream_id, reception } = event {
            self.received.insert(message_stream_id, reception);
            return;
        }
        self.told.push(Told::Other(format!("{event:?}")));
        if let Event::Ask { serial, want } = event {
            self.questions.push((serial, want));
        } else if let Event::EndPublish { message_stream_id } = event {
            self.ends(message_stream_id, Does::Publish);
        } else if let Event::EndPlay { message_stream_id } = event {
            self.ends(message_stream_id, Does::Play);
        }
    }

    fn ends(&mut self, id: u32, what: Does) {
        let at = self.does.iter().position(|does| *does == (id, what));
        self.does.swap_remove(at.expect("an end has a beginning"));
    }

    /// Accepts everything; says whether there was a question.
    fn answer_all(&mut self) -> bool {
        let any = !self.questions.is_empty();
        while !self.questions.is_empty() {
            let (serial, want) = self.questions.remove(0);
            self.accept(serial, &want);
        }
        any
    }

    /// Answers one question, not always the oldest.
    fn answer(&mut self, refuses: bool, dice: &mut Dice) {
        if self.questions.is_empty() {
            return;
        }
        let (serial, want) = self.questions.remove(dice.below(self.questions.len()));
        if !refuses {
            self.accept(serial, &want);
            return;
        }
        let reasons = [
            RefusalReason::Denied,
            RefusalReason::Limit,
            RefusalReason::UnknownApp,
            RefusalReason::NameTaken,
            RefusalReason::NotPublished,
            RefusalReason::Unavailable,
            RefusalReason::Draining,
        ];
        let reason = reasons[dice.below(reasons.len())];
        let verdict = Verdict::Refuse(Refusal::new(reason, "no"));
        let awaited = self.session.message_stream_of(serial).is_some() || want == Want::Connect;
        self.drive(|session, io| session.verdict(serial, &verdict, io));
        assert!(!awaited || self.closed.is_some(), "a refusal closes");
    }

    fn accept(&mut self, serial: u32, want: &Want) {
        let settings = self.settings.app("__defaultVhost__", "live", "_definst_");
        let (grant, does) = match want {
            Want::Connect => {
                (Grant::Connect { client: Arc::default(), settings, push: None }, None)
            }
            Want::Publish { name, .. } => {
                let (stream, epoch, name) = (StreamId(1), Epoch(1), name.clone());
                let grant = Grant::Publish { stream, epoch, name, resume: None, settings };
                (grant, Some(Does::Publish))
            }
            Want::Play { name, .. } => {
                let (owner, lease, connected) = (None, None, None);
                let (stream, name, audience) = (StreamId(1), name.clone(), Audience::default());
                let grant =
                    Grant::Play { stream, name, owner, lease, connected, audience, settings };
                (grant, Some(Does::Play))
            }
        };
        // Without a message stream that awaits it, the shard gives the grant back.
        if let Some((id, does)) = self.session.message_stream_of(serial).zip(does)
            && self.closed.is_none()
        {
            self.does.push((id, does));
            assert!(self.does.len() <= MESSAGE_STREAMS_MAX);
        }
        let verdict = Verdict::Accept(grant);
        let message_stream = self.session.message_stream_of(serial);
        self.drive(|session, io| session.verdict(serial, &verdict, io));
        // Who begins to serve a player asks what it wants.
        if let Some(id) = message_stream {
            self.received.insert(id, self.session.reception(id));
        }
    }

    /// Reads what the client is told: a handshake, then whole messages.
    fn listen(&mut self) {
        let out = std::mem::take(&mut self.out);
        let (handshake, mut rest) = out.split_at(self.handshake_left.min(out.len()));
        self.handshake_left -= handshake.len();
        while !rest.is_empty() {
            let read = self.reader.read(rest).expect("answers are well-formed");
            let message = read.message.expect("answers are whole messages");
            let header = MessageHeader {
                chunk_stream_id: message.chunk_stream_id,
                message_stream_id: message.message_stream_id,
                type_id: message.type_id,
                timestamp_ms: message.timestamp_ms,
            };
            let chunk_size = self.settings.rtmp.chunk_size as usize;
            assert_eq!(full_len(&header, message.payload.len(), chunk_size), read.consumed);
            rest = &rest[read.consumed..];
            self.said.push(message);
        }
    }

    fn said_but_acknowledgements(&self) -> Vec<&Message> {
        let is_other = |said: &&Message| said.type_id != message::ACKNOWLEDGEMENT;
        self.said.iter().filter(is_other).collect()
    }
}
