//! An HTTP connection on the media port: any bytes, under any split, with any verdict.

use std::sync::Arc;
use std::time::Duration;

use shardcast::limits::OUTPUT_BYTES_MAX;
use shardcast::media::{Moment, StreamId};
use shardcast::session::{
    Audience, ClientId, CloseReason, Event, Grant, HttpSession, Io, Refusal, RefusalReason,
    Verdict, Want,
};

use super::dice::Dice;
use super::rtmp_server::settings;

/// Everything that a client sends.
pub fn run(data: &[u8]) {
    same_under_any_split(data);
    any_order_of_events(data);
}

/// Byte by byte, and in pieces that end where a question was asked: the client hears the same.
fn same_under_any_split(data: &[u8]) {
    let dice = Dice::of(data);
    let mut bytewise = Server::new(dice.clone());
    let mut asked_at = Vec::new();
    for (index, byte) in data.chunks(1).enumerate() {
        bytewise.input(byte);
        if bytewise.answer_all() {
            asked_at.push(index + 1);
        }
    }
    let mut pieces = Server::new(dice.clone());
    let mut cuts = dice;
    let mut from = 0;
    for end in asked_at.into_iter().chain([data.len()]) {
        for piece in cuts.cut(&data[from..end]) {
            pieces.input(piece);
            pieces.answer_all();
        }
        from = end;
    }
    assert_eq!(pieces.closed, bytewise.closed);
    assert_eq!(pieces.asked, bytewise.asked);
    assert_eq!(pieces.out, bytewise.out);
}

/// Verdicts at any time, time-outs, and a client that the server closes.
fn any_order_of_events(data: &[u8]) {
    let mut dice = Dice::of(data);
    dice.next();
    let mut server = Server::new(dice.clone());
    for piece in dice.cut(data) {
        server.input(piece);
        match dice.below(8) {
            0 | 1 => drop(server.answer_all()),
            2 => server.wait(Duration::from_millis(dice.next() % 10_000)),
            3 => server.media_begins(dice.next()),
            4 if dice.below(4) == 0 => server.drive(|_, _| Err(CloseReason::Draining)),
            _ => {}
        }
    }
    server.wait(Duration::from_secs(3_600));
}

struct Server {
    session: HttpSession,
    now: Moment,
    out: Vec<u8>,
    /// The questions as text.
    asked: Vec<String>,
    questions: Vec<(u32, Want)>,
    closed: Option<CloseReason>,
    /// Decides about verdicts.
    dice: Dice,
}

impl Server {
    fn new(dice: Dice) -> Self {
        let now = Moment::ZERO + Duration::from_secs(50);
        Self {
            session: HttpSession::new(settings(), ClientId(7), ([192, 0, 2, 1], 1_000).into(), now),
            now,
            out: Vec::new(),
            asked: Vec::new(),
            questions: Vec::new(),
            closed: None,
            dice,
        }
    }

    fn input(&mut self, bytes: &[u8]) {
        self.drive(|session, io| session.input(bytes, io));
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.drive(HttpSession::tick);
    }

    fn media_begins(&mut self, tracks: u64) {
        self.drive(|session, io| {
            session.media_begins(tracks & 1 != 0, tracks & 2 != 0, io);
            Ok(())
        });
    }

    /// Answers all questions, also those that the answers lead to; says whether there was one.
    fn answer_all(&mut self) -> bool {
        let any = !self.questions.is_empty();
        while let Some((serial, want)) = self.questions.pop() {
            let fate = self.dice.next();
            let verdict = verdict(&want, fate);
            self.drive(|session, io| session.verdict(serial, &verdict, io));
            // What was accepted begins at once, later or never.
            if fate & 0x100 != 0 && self.session.message_stream_of(serial).is_none() {
                self.media_begins(fate >> 9);
            }
        }
        any
    }

    fn drive(
        &mut self,
        call: impl FnOnce(&mut HttpSession, &mut Io<'_>) -> Result<(), CloseReason>,
    ) {
        if self.closed.is_some() {
            return;
        }
        let before = self.out.len();
        let mut events = Vec::new();
        let mut io = Io { now: self.now, out: &mut self.out, events: &mut events };
        let result = call(&mut self.session, &mut io);
        if let Err(reason) = result {
            let mut io = Io { now: self.now, out: &mut self.out, events: &mut events };
            self.session.farewell(&reason, &mut io);
            assert!(!reason.to_string().is_empty());
            self.closed = Some(reason);
        }
        for event in events {
            let Event::Ask { serial, want } = event else { continue };
            assert!(matches!(want, Want::Play { http: true, .. }), "HTTP viewers only play");
            let client = self.session.client().map(Arc::clone);
            self.asked.push(format!("{serial} {want:?} {client:?}"));
            self.questions.push((serial, want));
        }
        assert!(self.questions.len() <= 1, "one question at a time");
        // The shard closes who is over the cap; one call may exceed it by one answer.
        assert!(self.out.len() - before <= 2 * OUTPUT_BYTES_MAX);
        assert!(self.out.is_empty() || self.out.starts_with(b"HTTP/1.1 "));
    }
}

fn verdict(want: &Want, fate: u64) -> Verdict {
    let reasons = [
        RefusalReason::Denied,
        RefusalReason::Limit,
        RefusalReason::UnknownApp,
        RefusalReason::NotPublished,
        RefusalReason::Draining,
    ];
    let reason = usize::try_from(fate % 16).ok().and_then(|index| reasons.get(index));
    match (reason, want) {
        (None, Want::Play { name, .. }) => Verdict::Accept(Grant::Play {
            stream: StreamId(1),
            name: name.clone(),
            owner: None,
            lease: None,
            connected: None,
            audience: Audience::default(),
            settings: settings().app("__defaultVhost__", "live", "_definst_"),
        }),
        (reason, _) => {
            let reason = reason.copied().unwrap_or(RefusalReason::Unavailable);
            Verdict::Refuse(Refusal::new(reason, "no"))
        }
    }
}
