//! An HTTP connection on the media port: any bytes, under any split, with any verdict.

use std::sync::Arc;
use std::time::Duration;

use shardcast::limits::HTTP_HEAD_BYTES_MAX;
use shardcast::media::{Moment, StreamId};
use shardcast::session::{
    ClientId, CloseReason, Event, Grant, HttpSession, Io, Refusal, RefusalReason, Verdict, Want,
};

use super::dice::Dice;
use super::rtmp_server::settings;

/// Everything that a client sends.
pub fn run(data: &[u8]) {
    let mut dice = Dice::of(data);
    let fate = dice.next();
    let pieces = dice.cut(data);
    let whole = Server::serve(&[data], fate);
    let split = Server::serve(&pieces, fate);
    assert_eq!(
        (&split.out, &split.asked, &split.closed),
        (&whole.out, &whole.asked, &whole.closed)
    );
}

struct Server {
    session: HttpSession,
    now: Moment,
    out: Vec<u8>,
    /// The questions as text.
    asked: Vec<String>,
    questions: Vec<(u32, Want)>,
    closed: Option<CloseReason>,
}

impl Server {
    /// All bytes, then the verdict and what follows it, as `fate` has it.
    fn serve(pieces: &[&[u8]], fate: u64) -> Self {
        let now = Moment::ZERO + Duration::from_secs(50);
        let mut server = Self {
            session: HttpSession::new(settings(), ClientId(7), ([192, 0, 2, 1], 1_000).into(), now),
            now,
            out: Vec::new(),
            asked: Vec::new(),
            questions: Vec::new(),
            closed: None,
        };
        for piece in pieces {
            server.drive(|session, io| session.input(piece, io));
        }
        assert!(server.questions.len() <= 1, "one request, one question");
        server.follow(fate);
        server.drive(|session, io| session.input(b"more", io));
        server.now = server.now + Duration::from_secs(3_600);
        server.drive(HttpSession::tick);
        if !server.out.is_empty() {
            assert!(server.out.starts_with(b"HTTP/1.1 "));
            assert!(server.out.windows(4).any(|part| part == b"\r\n\r\n"));
        }
        // A client's words may be quoted, not repeated without end.
        assert!(server.out.len() <= 4 * HTTP_HEAD_BYTES_MAX);
        server
    }

    fn follow(&mut self, fate: u64) {
        let Some((serial, want)) = self.questions.pop() else { return };
        let Want::Play { name, http: true, .. } = want else { panic!("HTTP viewers only play") };
        let reasons = [
            RefusalReason::Denied,
            RefusalReason::Limit,
            RefusalReason::UnknownApp,
            RefusalReason::NotPublished,
            RefusalReason::Draining,
        ];
        let verdict = match usize::try_from(fate % 16).ok().and_then(|index| reasons.get(index)) {
            Some(reason) => Verdict::Refuse(Refusal::new(*reason, "no")),
            None => Verdict::Accept(Grant::Play {
                stream: StreamId(1),
                name,
                owner: None,
                connected: None,
                settings: settings().app("__defaultVhost__", "live", "_definst_"),
            }),
        };
        if fate & 0x30 != 0 {
            self.drive(|session, io| session.verdict(serial, &verdict, io));
        }
        if fate & 0x40 != 0 {
            self.drive(|session, io| {
                session.media_begins(fate & 0x80 != 0, fate & 0x100 != 0, io);
                Ok(())
            });
        }
        if fate & 0x200 != 0 {
            self.drive(|_, _| Err(CloseReason::Done));
        }
    }

    fn drive(
        &mut self,
        call: impl FnOnce(&mut HttpSession, &mut Io<'_>) -> Result<(), CloseReason>,
    ) {
        if self.closed.is_some() {
            return;
        }
        let mut events = Vec::new();
        let mut io = Io { now: self.now, out: &mut self.out, events: &mut events };
        let result = call(&mut self.session, &mut io);
        if let Err(reason) = result {
            let mut io = Io { now: self.now, out: &mut self.out, events: &mut events };
            self.session.farewell(&reason, &mut io);
            self.closed = Some(reason);
        }
        for event in events {
            let Event::Ask { serial, want } = event else { panic!("HTTP viewers only ask") };
            let client = self.session.client().map(Arc::clone);
            self.asked.push(format!("{serial} {want:?} {client:?}"));
            self.questions.push((serial, want));
        }
    }
}
