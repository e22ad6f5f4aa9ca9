//! An HTTP connection on the media port: `GET` and `HEAD` of `/APP/STREAM.flv`.
//!
//! One request per connection; a stream's body ends with the connection. Who may not view learns
//! nothing: the verdict comes before the answer whether the stream exists.

use std::net::SocketAddr;
use std::sync::Arc;

use super::ask::{ClientInfo, Refusal, RefusalReason, Verdict, Want};
use super::client_id::ClientId;
use super::close::CloseReason;
use super::push_ask::session_of;
use super::{Event, Io};
use crate::config::Settings;
use crate::limits;
use crate::media::Moment;
use crate::proto::flv;
use crate::proto::http::{self, Method, Request};
use crate::proto::name::{self, StreamName};

/// Serial of the only question that the connection asks.
const SERIAL: u32 = 0;
const NO_CACHE: (&str, &str) = ("Cache-Control", "no-cache, no-store");
const CLOSE: (&str, &str) = ("Connection", "close");

/// One HTTP connection.
#[derive(Debug)]
pub struct HttpSession {
    settings: Arc<Settings>,
    id: ClientId,
    peer: SocketAddr,
    head: Vec<u8>,
    state: State,
    since: Moment,
    client: Option<Arc<ClientInfo>>,
    /// Value of Access-Control-Allow-Origin.
    allow_origin: Option<String>,
    /// The answer has no body.
    is_head: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    Asked {
        head_only: bool,
    },
    /// Accepted; the head goes out with the first frame, when the tracks are known.
    Waiting,
    Streaming,
    Answered,
}

impl HttpSession {
    /// A connection that was just accepted.
    pub fn new(settings: Arc<Settings>, id: ClientId, peer: SocketAddr, now: Moment) -> Self {
        Self {
            settings,
            id,
            peer,
            head: Vec::new(),
            state: State::Reading,
            since: now,
            client: None,
            allow_origin: None,
            is_head: false,
        }
    }

    /// What the client said of itself.
    pub fn client(&self) -> Option<&Arc<ClientInfo>> {
        self.client.as_ref()
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The message stream of the question, 0, while its answer is awaited and wanted.
    pub fn message_stream_of(&self, serial: u32) -> Option<u32> {
        let awaits = matches!(self.state, State::Asked { head_only: false } | State::Waiting);
        (serial == SERIAL && awaits).then_some(0)
    }

    /// Bytes came from the client.
    pub fn input(&mut self, bytes: &[u8], io: &mut Io<'_>) -> Result<(), CloseReason> {
        if self.state != State::Reading {
            // Nothing is expected behind the request; a viewer that chatters is read and ignored.
            return Ok(());
        }
        let room = limits::HTTP_HEAD_BYTES_MAX.saturating_sub(self.head.len());
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        match http::parse_request(&self.head) {
            Ok(None) => Ok(()),
            Ok(Some(request)) => {
                self.head = Vec::new();
                self.request(&request, io)
            }
            Err(error) => self.answer(error.status(), &error.to_string(), &[], io),
        }
    }

    /// The control shard has answered.
    pub fn verdict(
        &mut self,
        serial: u32,
        verdict: &Verdict,
        io: &mut Io<'_>,
    ) -> Result<(), CloseReason> {
        let State::Asked { head_only } = self.state else { return Ok(()) };
        debug_assert_eq!(serial, SERIAL);
        match verdict {
            Verdict::Accept(_) if head_only => {
                self.stream_head(io);
                self.state = State::Answered;
                Err(CloseReason::Done)
            }
            Verdict::Accept(_) => {
                self.state = State::Waiting;
                Ok(())
            }
            Verdict::Refuse(refusal) => {
                let (status, headers): (u16, &[(&str, &str)]) = match refusal.reason {
                    RefusalReason::NotPublished | RefusalReason::UnknownApp => (404, &[]),
                    RefusalReason::Denied | RefusalReason::NameTaken => (403, &[]),
                    RefusalReason::Limit | RefusalReason::Unavailable | RefusalReason::Draining => {
                        (503, &[("Retry-After", "2")])
                    }
                };
                let _ = self.answer(status, &refusal.description, headers, io);
                Err(CloseReason::Refused(refusal.description.clone()))
            }
        }
    }

    /// The first frame is about to be sent.
    pub fn media_begins(&mut self, has_video: bool, has_audio: bool, io: &mut Io<'_>) {
        if self.state == State::Waiting {
            self.stream_head(io);
            io.out.extend_from_slice(&flv::header(has_audio, has_video));
            self.state = State::Streaming;
        }
    }

    /// Checks the time-outs.
    pub fn tick(&mut self, io: &mut Io<'_>) -> Result<(), CloseReason> {
        if self.state == State::Reading
            && io.now.since(self.since) > self.settings.limits.handshake_timeout
        {
            if !self.head.is_empty() {
                let _ = self.answer(408, "the request head did not come in time", &[], io);
            }
            return Err(CloseReason::HandshakeTimeout);
        }
        // The question follows the head at once, which has its own deadline.
        let is_late = io.now.since(self.since) > limits::VERDICT_WAIT_MAX;
        if is_late && matches!(self.state, State::Asked { .. }) {
            let refusal =
                Refusal::new(RefusalReason::Unavailable, "authorisation is not available");
            return self.verdict(SERIAL, &Verdict::Refuse(refusal), io);
        }
        Ok(())
    }

    /// The shard is about to close: who has had no answer yet gets one.
    pub fn farewell(&mut self, reason: &CloseReason, io: &mut Io<'_>) {
        if !matches!(self.state, State::Asked { .. } | State::Waiting) {
            return;
        }
        let (status, headers): (u16, &[_]) = match reason {
            CloseReason::NotPublished(_) | CloseReason::Done => (404, &[]),
            _ => (503, &[("Retry-After", "2")]),
        };
        let text = match reason {
            CloseReason::Done => "the stream has ended".to_owned(),
            reason => reason.to_string(),
        };
        let _ = self.answer(status, &text, headers, io);
    }

    fn request(&mut self, request: &Request, io: &mut Io<'_>) -> Result<(), CloseReason> {
        self.allow_origin = self.allowed_origin(request.header("origin"));
        self.is_head = request.method == Method::Head;
        let head_only = match request.method {
            Method::Get => false,
            Method::Head => true,
            Method::Options => {
                let headers = [
                    ("Allow", "GET, HEAD, OPTIONS"),
                    ("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS"),
                    ("Access-Control-Allow-Headers", "*"),
                    ("Access-Control-Max-Age", "86400"),
                ];
                return self.answer(204, "", &headers, io);
            }
            _ => {
                let headers = [("Allow", "GET, HEAD, OPTIONS")];
                return self.answer(405, "use GET or HEAD", &headers, io);
            }
        };
        let host = request.header("host").unwrap_or_default();
        let named = request.query().value("vhost");
        let vhost = name::resolve_vhost(named.as_deref().unwrap_or(host), |host| {
            self.settings.vhost_named(host).map(str::to_owned)
        });
        let stream = match StreamName::from_http_path(&vhost, &request.path) {
            Ok(stream) => stream,
            Err(error) => return self.answer(404, &error.to_string(), &[], io),
        };
        let header = |name| request.header(name).unwrap_or_default().to_owned();
        self.client = Some(Arc::new(ClientInfo {
            id: self.id,
            vhost,
            app: stream.app().to_owned(),
            instance: stream.instance().to_owned(),
            connect_args: request.query.clone(),
            tc_url: format!("http://{host}/{}", stream.app()),
            flash_version: header("user-agent"),
            swf_url: String::new(),
            page_url: header("referer"),
            session: session_of(&request.query().value("session").unwrap_or_default()),
        }));
        self.state = State::Asked { head_only };
        let want = Want::Play { name: stream, args: request.query.clone(), http: true };
        io.events.push(Event::Ask { serial: SERIAL, want });
        Ok(())
    }

    fn stream_head(&self, io: &mut Io<'_>) {
        self.head(200, &[("Content-Type", "video/x-flv"), NO_CACHE], io);
    }

    /// A complete short answer; the connection is closed after it.
    fn answer(
        &mut self,
        status: u16,
        text: &str,
        headers: &[(&str, &str)],
        io: &mut Io<'_>,
    ) -> Result<(), CloseReason> {
        self.state = State::Answered;
        let body = if text.is_empty() { String::new() } else { format!("{text}\n") };
        let length = body.len().to_string();
        let mut all = vec![("Content-Length", length.as_str()), NO_CACHE];
        if !body.is_empty() {
            all.push(("Content-Type", "text/plain; charset=utf-8"));
        }
        all.extend_from_slice(headers);
        self.head(status, &all, io);
        if !self.is_head {
            io.out.extend_from_slice(body.as_bytes());
        }
        Err(CloseReason::Done)
    }

    fn head(&self, status: u16, headers: &[(&str, &str)], io: &mut Io<'_>) {
        let mut all = headers.to_vec();
        all.push(CLOSE);
        if let Some(origin) = &self.allow_origin {
            all.push(("Access-Control-Allow-Origin", origin));
            if origin != "*" {
                all.push(("Vary", "Origin"));
            }
        }
        http::write_head(status, &all, io.out);
    }

    fn allowed_origin(&self, origin: Option<&str>) -> Option<String> {
        let allowed = &self.settings.http.cors;
        if allowed.iter().any(|entry| entry == "*") {
            return Some("*".to_owned());
        }
        let origin = origin?;
        allowed.iter().any(|entry| entry == origin).then(|| origin.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use crate::media::StreamId;
    use crate::session::ask::{Grant, Refusal};

    struct Server {
        session: HttpSession,
        out: Vec<u8>,
        events: Vec<Event>,
        now: Moment,
    }

    fn server(toml: &str) -> Server {
        let file = Some(("test.toml".to_owned(), toml.to_owned()));
        let sources = Sources { file, environment: Vec::new(), set: Vec::new() };
        let settings = Arc::new(Settings::load(&sources).unwrap());
        let peer = "192.0.2.1:1000".parse().unwrap();
        let session = HttpSession::new(settings, ClientId(7), peer, Moment::ZERO);
        Server { session, out: Vec::new(), events: Vec::new(), now: Moment::ZERO }
    }

    impl Server {
        fn drive<T>(&mut self, call: impl FnOnce(&mut HttpSession, &mut Io<'_>) -> T) -> T {
            let mut io = Io { now: self.now, out: &mut self.out, events: &mut self.events };
            call(&mut self.session, &mut io)
        }

        fn input(&mut self, text: &str) -> Result<(), CloseReason> {
            self.drive(|session, io| session.input(text.as_bytes(), io))
        }

        fn ask(&mut self, method: &str) {
            let text = format!(
                "{method} /live/s.flv?key=1 HTTP/1.1\r\nHost: h\r\nReferer: http://p/\r\n\r\n"
            );
            assert_eq!(self.input(&text), Ok(()));
        }

        fn accept(&mut self) -> Result<(), CloseReason> {
            let grant = Grant::Play {
                stream: StreamId(1),
                name: StreamName::new("__defaultVhost__", "live", "_definst_", "s").unwrap(),
                owner: None,
                connected: None,
                settings: self.session.settings.app("__defaultVhost__", "live", "_definst_"),
            };
            self.drive(|session, io| session.verdict(SERIAL, &Verdict::Accept(grant), io))
        }

        fn status(&self) -> Option<&str> {
            std::str::from_utf8(self.out.get(9..12)?).ok()
        }
    }

    #[test]
    fn a_viewer_is_asked_for_and_gets_its_head_with_the_first_frame() {
        let mut server = server("");
        server.ask("GET");
        let Some(Event::Ask { want: Want::Play { name, args, http }, .. }) = server.events.pop()
        else {
            panic!("no question")
        };
        assert_eq!((name.stream(), args.as_str(), http), ("s", "key=1", true));
        let client = server.session.client().expect("the request was read");
        assert_eq!((client.id, client.page_url.as_str()), (ClientId(7), "http://p/"));
        assert_eq!(server.accept(), Ok(()));
        assert!(server.out.is_empty(), "the tracks are not known yet");
        server.drive(|session, io| session.media_begins(true, false, io));
        assert_eq!(server.status(), Some("200"));
        assert!(server.out.ends_with(&flv::header(false, true)));
        let before = server.out.len();
        server.drive(|session, io| session.media_begins(true, true, io));
        server.drive(|session, io| session.farewell(&CloseReason::Done, io));
        assert_eq!(server.out.len(), before, "a body has begun");
    }

    #[test]
    fn head_is_answered_without_a_play() {
        let mut server = server("");
        server.ask("HEAD");
        assert_eq!(server.session.message_stream_of(SERIAL), None);
        assert_eq!(server.accept(), Err(CloseReason::Done));
        assert_eq!(server.status(), Some("200"));
        assert!(server.out.ends_with(b"\r\n\r\n"));
    }

    #[test]
    fn refusals_have_their_status() {
        use RefusalReason::*;
        let table = [
            (Denied, "403"),
            (NotPublished, "404"),
            (UnknownApp, "404"),
            (Limit, "503"),
            (Unavailable, "503"),
            (Draining, "503"),
        ];
        for (reason, status) in table {
            let mut server = server("");
            server.ask("GET");
            let verdict = Verdict::Refuse(Refusal::new(reason, "why"));
            let closed = server.drive(|session, io| session.verdict(SERIAL, &verdict, io));
            assert_eq!(closed, Err(CloseReason::Refused("why".to_owned())));
            assert_eq!(server.status(), Some(status), "{reason:?}");
            let text = String::from_utf8(server.out.clone()).unwrap();
            assert_eq!(text.contains("Retry-After"), status == "503");
        }
    }

    #[test]
    fn who_waits_is_answered_when_the_wait_is_over() {
        for (reason, status) in [
            (CloseReason::NotPublished("not published".to_owned()), "404"),
            (CloseReason::Done, "404"),
            (CloseReason::Draining, "503"),
            (CloseReason::Limit("logs".to_owned()), "503"),
        ] {
            let mut server = server("");
            server.ask("GET");
            assert_eq!(server.accept(), Ok(()));
            server.drive(|session, io| session.farewell(&reason, io));
            assert_eq!(server.status(), Some(status));
        }
    }

    #[test]
    fn other_requests_are_answered_and_closed() {
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000));
        for (request, status) in [
            ("OPTIONS /live/s.flv HTTP/1.1\r\nHost: h\r\n\r\n", "204"),
            ("POST /live/s.flv HTTP/1.1\r\nHost: h\r\n\r\n", "405"),
            ("GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n", "404"),
            ("junk\r\n\r\n", "400"),
            (&long, "431"),
        ] {
            let mut server = server("");
            assert_eq!(server.input(request), Err(CloseReason::Done), "{request:.20}");
            assert_eq!(server.status(), Some(status), "{request:.20}");
            assert_eq!(server.input("GET / HTTP/1.1\r\n\r\n"), Ok(()), "one request only");
        }
    }

    #[test]
    fn a_head_that_does_not_come_in_time_is_answered_when_it_has_begun() {
        for (begun, status) in [("GET /li", Some("408")), ("", None)] {
            let mut server = server("limits.handshake_timeout = \"10s\"");
            assert_eq!(server.input(begun), Ok(()));
            server.now = Moment::ZERO + std::time::Duration::from_secs(11);
            let closed = server.drive(HttpSession::tick);
            assert_eq!(closed, Err(CloseReason::HandshakeTimeout));
            assert_eq!(server.status(), status);
        }
    }
}
