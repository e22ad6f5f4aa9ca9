//! An HTTP connection on the media port: `GET` and `HEAD` of `/APP/STREAM.flv`, the upgrade of the
//! same URL to a WebSocket, `GET /push` for messages, and the upgrade of `signalling.path` to the rooms.
//!
//! Requests are answered one after the other; those that come early wait. Behind a short answer the
//! connection goes on, a stream's body ends with it. Who may not view learns nothing: the verdict
//! comes before the answer whether the stream exists.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::ask::{ClientInfo, Grant, PlayRange, Refusal, RefusalReason, Verdict, Want};
use super::client_id::ClientId;
use super::close::CloseReason;
use super::demo::{self, Demo};
use super::push::{self, Opening, PushStream};
use super::push_ask::{PushWire, SendRefusal, session_of};
use super::signal::{RoomClient, SignalSession};
use super::websocket::WebSocketSession;
use super::{Event, Io};
use crate::config::Settings;
use crate::limits;
use crate::media::{Moment, Wire};
use crate::proto::flv;
use crate::proto::http::{self, Method, Request};
use crate::proto::name::{self, StreamName};
use crate::proto::palava;
use crate::proto::websocket::{self, Upgrade};

const NO_CACHE: (&str, &str) = ("Cache-Control", "no-cache, no-store");
const RETRY: (&str, &str) = ("Retry-After", "2");
const PUSH_PATH: &str = "/push";
const METHODS: &str = "GET, HEAD, OPTIONS";

/// One HTTP connection.
#[derive(Debug)]
pub struct HttpSession {
    settings: Arc<Settings>,
    id: ClientId,
    /// Whose requests they are: the caller, or who it says it speaks for.
    peer: SocketAddr,
    caller: SocketAddr,
    /// The beginning of a request's head, or what waits behind a request that is being answered.
    unread: Vec<u8>,
    /// More came behind a request than may wait; it is lost.
    has_lost_input: bool,
    state: State,
    /// What a deadline counts from: when the connection was accepted, the last answer was given, or
    /// the head at hand began.
    since: Moment,
    /// Nothing has been asked yet.
    is_new: bool,
    /// Every path is that of the rooms.
    is_for_rooms: bool,
    serial: u32,
    client: Option<Arc<ClientInfo>>,
    reply: Reply,
}

#[derive(Debug)]
enum State {
    /// A request is awaited.
    Reading,
    /// The control shard is asked whether the client may have this.
    Asked(Wanted),
    /// Accepted; the head goes out with the first frame, when the tracks are known.
    Waiting,
    /// The body is being sent.
    Streaming,
    Upgraded {
        socket: Box<WebSocketSession>,
        has_begun: bool,
    },
    /// In the rooms.
    Signal(Box<SignalSession>),
    /// Messages are being sent.
    Push(Box<PushStream>),
    /// The last answer is given.
    Ended,
}

#[derive(Debug)]
enum Wanted {
    Head,
    Body,
    WebSocket(Upgrade),
    Push(Opening),
}

/// How the request at hand is answered.
#[derive(Debug, Default)]
struct Reply {
    /// Value of Access-Control-Allow-Origin.
    allow_origin: Option<String>,
    /// The answer has no body.
    is_head: bool,
    /// Another request may follow.
    keep_alive: bool,
}

impl HttpSession {
    /// A connection that was just accepted.
    pub fn new(settings: Arc<Settings>, id: ClientId, peer: SocketAddr, now: Moment) -> Self {
        Self {
            settings,
            id,
            peer,
            caller: peer,
            unread: Vec::new(),
            has_lost_input: false,
            state: State::Reading,
            since: now,
            is_new: true,
            is_for_rooms: false,
            serial: 0,
            client: None,
            reply: Reply::default(),
        }
    }

    /// A connection of `signalling.listen`.
    pub fn new_for_rooms(
        settings: Arc<Settings>,
        id: ClientId,
        peer: SocketAddr,
        now: Moment,
    ) -> Self {
        Self { is_for_rooms: true, ..Self::new(settings, id, peer, now) }
    }

    /// What the client said of itself.
    pub fn client(&self) -> Option<&Arc<ClientInfo>> {
        self.client.as_ref()
    }

    /// The client's address: the connection's, or what a trusted proxy said.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The protocol's name in logs.
    pub fn protocol(&self) -> &'static str {
        match &self.state {
            State::Upgraded { .. } => "websocket",
            State::Signal(_) => "signalling",
            State::Push(stream) => stream.protocol(),
            _ => "http",
        }
    }

    /// A trusted proxy has said for whom it connects.
    pub fn set_peer(&mut self, peer: SocketAddr) {
        self.peer = peer;
        self.caller = peer;
    }

    /// The form in which the stream is sent.
    pub fn wire(&self) -> Wire {
        if matches!(self.state, State::Upgraded { .. }) { Wire::WsFlv } else { Wire::Flv }
    }

    /// The rooms say something to the client.
    pub fn room_text(&mut self, text: &str, io: &mut Io<'_>) {
        if let State::Signal(session) = &mut self.state {
            session.say(text, io);
        }
    }

    /// The form in which push messages are sent.
    pub fn push_wire(&self) -> Option<PushWire> {
        match &self.state {
            State::Push(stream) => Some(stream.wire()),
            _ => None,
        }
    }

    /// A message of the client to a channel was judged.
    pub fn push_sent(&mut self, refusal: Option<SendRefusal>, io: &mut Io<'_>) {
        if let State::Push(stream) = &mut self.state {
            stream.sent(refusal, io);
        }
    }

    /// The message stream of the question, 0, while its answer is awaited and wanted.
    pub fn message_stream_of(&self, serial: u32) -> Option<u32> {
        let awaits = matches!(self.state, State::Asked(Wanted::Body | Wanted::WebSocket(_)));
        (serial == self.serial && awaits).then_some(0)
    }

    /// Bytes came from the client.
    pub fn input(&mut self, mut bytes: &[u8], io: &mut Io<'_>) -> Result<(), CloseReason> {
        loop {
            match &mut self.state {
                State::Reading if self.unread.is_empty() && !self.is_new => self.since = io.now,
                State::Reading | State::Asked(_) => {}
                // A viewer has nothing to say that is of interest.
                State::Upgraded { socket, .. } => return socket.input(bytes, io, drop),
                State::Signal(session) => return session.input(bytes, io),
                State::Push(stream) => return stream.input(bytes, io),
                // Nothing is expected behind the request; a viewer that chatters is read and ignored.
                State::Waiting | State::Streaming | State::Ended => return Ok(()),
            }
            let room = limits::HTTP_HEAD_BYTES_MAX.saturating_sub(self.unread.len());
            let (taken, rest) = bytes.split_at(bytes.len().min(room));
            self.unread.extend_from_slice(taken);
            bytes = rest;
            self.answer_requests(io)?;
            if bytes.is_empty() {
                return Ok(());
            }
            if matches!(self.state, State::Asked(_)) {
                self.has_lost_input = true;
                self.reply.keep_alive = false;
                return Ok(());
            }
        }
    }

    /// The control shard has answered.
    pub fn verdict(
        &mut self,
        serial: u32,
        verdict: &Verdict,
        io: &mut Io<'_>,
    ) -> Result<(), CloseReason> {
        if serial != self.serial {
            return Ok(());
        }
        let State::Asked(wanted) = &self.state else { return Ok(()) };
        match (verdict, wanted) {
            (Verdict::Accept(_), Wanted::Head) => {
                io.events.push(Event::LeaveApp);
                self.stream_head(self.reply.keep_alive, io);
                self.answered(io)?;
                self.answer_requests(io)
            }
            (Verdict::Accept(_), Wanted::Body) => {
                self.unread = Vec::new();
                self.state = State::Waiting;
                Ok(())
            }
            (Verdict::Accept(_), Wanted::WebSocket(_)) if self.has_lost_input => {
                self.answer(400, "frames came before the answer to the upgrade", &[], io)
            }
            (Verdict::Accept(_), Wanted::WebSocket(upgrade)) => {
                upgrade.write_answer(io.out);
                let settings = Arc::clone(&self.settings);
                let bytes_max = limits::WEBSOCKET_VIEWER_MESSAGE_BYTES_MAX;
                let socket = Box::new(WebSocketSession::new(settings, bytes_max, io.now));
                self.state = State::Upgraded { socket, has_begun: false };
                let early = std::mem::take(&mut self.unread);
                self.input(&early, io)
            }
            (Verdict::Accept(Grant::Push(_)), Wanted::Push(_)) if self.has_lost_input => {
                self.answer(400, "frames came before the answer to the upgrade", &[], io)
            }
            (Verdict::Accept(Grant::Push(grant)), Wanted::Push(opening)) => {
                match opening {
                    Opening::WebSocket(upgrade) => upgrade.write_answer(io.out),
                    Opening::Events => self.head(200, false, &push::EVENT_HEADERS, io),
                }
                let stream = PushStream::begin(Arc::clone(&self.settings), opening, grant, io);
                self.state = State::Push(Box::new(stream));
                let early = std::mem::take(&mut self.unread);
                self.input(&early, io)
            }
            (Verdict::Accept(_), Wanted::Push(_)) => {
                debug_assert!(false, "a grant for another question");
                Err(CloseReason::Internal)
            }
            // A page learns nothing of an upgrade that fails, but it does of a close code.
            (Verdict::Refuse(refusal), Wanted::Push(Opening::WebSocket(upgrade))) => {
                upgrade.write_answer(io.out);
                push::refuse(refusal, io);
                self.state = State::Ended;
                Err(CloseReason::Refused(refusal.description.clone()))
            }
            (Verdict::Refuse(refusal), _) => self.refuse(refusal, io),
        }
    }

    /// The first frame is about to be sent.
    pub fn media_begins(&mut self, has_video: bool, has_audio: bool, io: &mut Io<'_>) {
        let header = flv::header(has_audio, has_video);
        match &mut self.state {
            State::Waiting => {
                self.stream_head(false, io);
                io.out.extend_from_slice(&header);
                self.state = State::Streaming;
            }
            State::Upgraded { has_begun: has_begun @ false, .. } => {
                *has_begun = true;
                let out = &mut *io.out;
                websocket::write_binary_header(header.len(), &mut |part| {
                    out.extend_from_slice(part);
                });
                out.extend_from_slice(&header);
            }
            _ => {}
        }
    }

    /// Checks the time-outs.
    pub fn tick(&mut self, io: &mut Io<'_>) -> Result<(), CloseReason> {
        let waited = io.now.since(self.since);
        match &mut self.state {
            State::Reading if self.is_new || !self.unread.is_empty() => {
                if waited <= self.settings.limits.handshake_timeout {
                    return Ok(());
                }
                if !self.unread.is_empty() {
                    self.reply = Reply::default();
                    let _ = self.answer(408, "the request head did not come in time", &[], io);
                }
                Err(CloseReason::HandshakeTimeout)
            }
            State::Reading => {
                let idle = self.settings.limits.idle_connection;
                if idle.is_some_and(|max| waited > max) { Err(CloseReason::Idle) } else { Ok(()) }
            }
            // The question follows the head at once, which has its own deadline.
            State::Asked(_) if waited > self.settings.verdict_wait => {
                let text = "authorisation is not available";
                self.refuse(&Refusal::new(RefusalReason::Unavailable, text), io)
            }
            State::Upgraded { socket, .. } => socket.tick(io),
            State::Signal(session) => session.tick(io),
            State::Push(stream) => stream.tick(io),
            State::Asked(_) | State::Waiting | State::Streaming | State::Ended => Ok(()),
        }
    }

    /// The shard is about to close: who has had no answer yet gets one.
    pub fn farewell(&mut self, reason: &CloseReason, io: &mut Io<'_>) {
        match &mut self.state {
            State::Asked(_) | State::Waiting => {}
            State::Upgraded { socket, .. } => return socket.farewell(reason, io),
            State::Signal(session) => return session.farewell(reason, io),
            State::Push(stream) => return stream.farewell(reason, io),
            State::Reading | State::Streaming | State::Ended => return,
        }
        let (status, headers): (u16, &[_]) = match reason {
            CloseReason::NotPublished(_) | CloseReason::Done => (404, &[]),
            _ => (503, &[RETRY]),
        };
        let text = match reason {
            CloseReason::Done => "the stream has ended".to_owned(),
            reason => reason.to_string(),
        };
        self.reply.keep_alive = false;
        let _ = self.answer(status, &text, headers, io);
    }

    /// Answers the requests that are there, up to one whose answer has to be awaited.
    fn answer_requests(&mut self, io: &mut Io<'_>) -> Result<(), CloseReason> {
        while matches!(self.state, State::Reading) && !self.unread.is_empty() {
            match http::parse_request(&self.unread) {
                Ok(None) => break,
                Ok(Some(request)) => {
                    self.unread.drain(..request.head_len.min(self.unread.len()));
                    self.request(&request, io)?;
                }
                // Where the next request begins is not known.
                Err(error) => {
                    self.reply = Reply::default();
                    let text = error.to_string();
                    let _ = self.answer(error.status(), &text, &[], io);
                    return Err(CloseReason::Protocol(text));
                }
            }
            // A client that asks without end and reads nothing.
            if io.out.len() > limits::OUTPUT_BYTES_MAX {
                return Err(CloseReason::OutputFull);
            }
        }
        if self.unread.is_empty() {
            self.unread = Vec::new();
        }
        Ok(())
    }

    fn request(&mut self, request: &Request, io: &mut Io<'_>) -> Result<(), CloseReason> {
        self.is_new = false;
        let origin = request.header("origin");
        self.reply = Reply {
            allow_origin: self.allowed_origin(origin),
            is_head: request.method == Method::Head,
            // A body would be taken for the next request.
            keep_alive: request.keep_alive() && !has_body(request),
        };
        match request.method {
            Method::Get | Method::Head => {}
            Method::Options => {
                let headers = [
                    ("Allow", METHODS),
                    ("Access-Control-Allow-Methods", METHODS),
                    ("Access-Control-Allow-Headers", "*"),
                    ("Access-Control-Max-Age", "86400"),
                ];
                return self.answer(204, "", &headers, io);
            }
            _ => return self.answer(405, "use GET or HEAD", &[("Allow", METHODS)], io),
        }
        self.believe_proxies(request);
        let host = request.header("host").unwrap_or_default();
        let named = request.query().value("vhost");
        let vhost = name::resolve_vhost(named.as_deref().unwrap_or(host), |host| {
            self.settings.vhost_named(host).map(str::to_owned)
        });
        if self.is_for_rooms || request.path == self.settings.signalling.path {
            return self.signal_request(request, vhost, io);
        }
        if self.settings.config.demo.enabled
            && let Some(page) = demo::page(request, self.settings.push(&vhost))
        {
            return self.demo(page, io);
        }
        if request.path == PUSH_PATH {
            return self.push_request(request, vhost, io);
        }
        let stream = match StreamName::from_http_path(&vhost, &request.path) {
            Ok(stream) => stream,
            Err(error) => return self.answer(404, &error.to_string(), &[], io),
        };
        let wanted = match Upgrade::of(request) {
            Ok(Some(_)) if !self.may_upgrade(origin) => {
                let text = "http.origins or http.cors does not name the origin of this page";
                return self.answer(403, text, &[], io);
            }
            Ok(Some(upgrade)) => Wanted::WebSocket(upgrade),
            Ok(None) if self.reply.is_head => Wanted::Head,
            Ok(None) => Wanted::Body,
            Err(error) => {
                return self.answer(error.status(), &error.to_string(), error.headers(), io);
            }
        };
        let header = |name| request.header(name).unwrap_or_default().to_owned();
        self.client = Some(Arc::new(ClientInfo {
            id: self.id,
            vhost,
            app: stream.app().to_owned(),
            instance: stream.instance().to_owned(),
            app_text: stream.app_text(),
            connect_args: request.query.clone(),
            tc_url: format!("http://{host}/{}", stream.app()),
            flash_version: header("user-agent"),
            swf_url: String::new(),
            page_url: header("referer"),
            codecs: None,
            session: session_of(&request.query().value("session").unwrap_or_default()),
        }));
        self.state = State::Asked(wanted);
        self.since = io.now;
        self.serial = self.serial.wrapping_add(1);
        let sent = stream.stream().to_owned();
        let (range, args) = (PlayRange::default(), request.query.clone());
        let want = Want::Play { name: stream, sent, range, args, http: true };
        io.events.push(Event::Ask { serial: self.serial, want });
        Ok(())
    }

    /// Takes the client's address from X-Forwarded-For: each proxy adds the one it was called from, so
    /// the last one that is no trusted proxy is the client.
    fn believe_proxies(&mut self, request: &Request) {
        let trusted = &self.settings.http.trusted_proxies;
        let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(address));
        self.peer = self.caller;
        if !is_trusted(self.caller.ip()) {
            return;
        }
        let said: Vec<&str> =
            request.headers("x-forwarded-for").flat_map(|value| value.split(',')).collect();
        let mut client = None;
        for text in said.iter().rev() {
            let text = text.trim();
            // Some write the port, IPv6 then in brackets.
            let address = text.parse().ok().or_else(|| name::strip_port(text).parse().ok());
            let Some(address) = address else { break };
            client = Some(address);
            if !is_trusted(address) {
                break;
            }
        }
        if let Some(address) = client {
            self.peer = SocketAddr::new(IpAddr::to_canonical(&address), 0);
        }
    }

    fn demo(&mut self, page: Demo, io: &mut Io<'_>) -> Result<(), CloseReason> {
        match page {
            Demo::Missing(text) => self.answer(404, text, &[], io),
            Demo::Redirect(location) => {
                self.answer(302, "the page with a session", &[("Location", &location)], io)
            }
            Demo::File(kind, text) => {
                let length = text.len().to_string();
                let headers =
                    [("Content-Type", kind), ("Content-Length", length.as_str()), NO_CACHE];
                self.head(200, self.reply.keep_alive, &headers, io);
                if !self.reply.is_head {
                    io.out.extend_from_slice(text.as_bytes());
                }
                self.answered(io)
            }
        }
    }

    /// A client that wants push messages.
    fn push_request(
        &mut self,
        request: &Request,
        vhost: String,
        io: &mut Io<'_>,
    ) -> Result<(), CloseReason> {
        let opening = match Opening::of(request) {
            Ok(opening) => opening,
            Err((status, text, headers)) => return self.answer(status, &text, headers, io),
        };
        if !self.is_own_origin(request.header("origin")) {
            let text = "http.origins does not name the origin of this page";
            return self.answer(403, text, &[], io);
        }
        let query = |key| request.query().value(key).unwrap_or_default();
        let header = |name| request.header(name).unwrap_or_default().to_owned();
        self.client = Some(Arc::new(ClientInfo {
            id: self.id,
            vhost,
            flash_version: header("user-agent"),
            page_url: header("referer"),
            session: session_of(&query("session")),
            ..ClientInfo::default()
        }));
        self.since = io.now;
        self.serial = self.serial.wrapping_add(1);
        let wire = opening.wire();
        // What a browser sends of its own accord knows better than the URL it began with.
        let since = request.header("last-event-id").map_or_else(|| query("since"), Into::into);
        let since = Some(since.into_owned()).filter(|since| !since.is_empty());
        self.state = State::Asked(Wanted::Push(opening));
        io.events.push(Event::PushJoin { serial: self.serial, wire, since });
        Ok(())
    }

    /// A client of the rooms.
    fn signal_request(
        &mut self,
        request: &Request,
        vhost: String,
        io: &mut Io<'_>,
    ) -> Result<(), CloseReason> {
        let origin = request.header("origin");
        if !self.is_own_origin(origin) {
            let text = "http.origins does not name the origin of this page";
            return self.answer(403, text, &[], io);
        }
        let upgrade = match Upgrade::of(request) {
            Ok(Some(upgrade)) => upgrade,
            Ok(None) => {
                let headers = [("Upgrade", "websocket"), ("Connection", "Upgrade")];
                return self.answer(426, "rooms are reached by a WebSocket", &headers, io);
            }
            Err(error) => {
                return self.answer(error.status(), &error.to_string(), error.headers(), io);
            }
        };
        let header = |name| request.header(name).unwrap_or_default().to_owned();
        self.client = Some(Arc::new(ClientInfo {
            id: self.id,
            vhost,
            flash_version: header("user-agent"),
            page_url: header("referer"),
            ..ClientInfo::default()
        }));
        let offered = request.header_has("sec-websocket-protocol", palava::SUBPROTOCOL);
        upgrade.write_answer_with(offered.then_some(palava::SUBPROTOCOL), io.out);
        let session = SignalSession::new(Arc::clone(&self.settings), io.now);
        self.state = State::Signal(Box::new(session));
        let origin = origin.unwrap_or_default().to_owned();
        io.events.push(Event::RoomOpened(Box::new(RoomClient { origin })));
        let early = std::mem::take(&mut self.unread);
        self.input(&early, io)
    }

    /// Whether a page of this origin may have push messages and come into rooms. What is no page names no origin.
    fn is_own_origin(&self, origin: Option<&str>) -> bool {
        let allowed = &self.settings.http.origins;
        allowed.is_empty() || origin.is_none_or(|origin| allowed.iter().any(|it| it == origin))
    }

    fn refuse(&mut self, refusal: &Refusal, io: &mut Io<'_>) -> Result<(), CloseReason> {
        let (status, headers): (u16, &[_]) = match refusal.reason {
            RefusalReason::NotPublished | RefusalReason::UnknownApp => (404, &[]),
            RefusalReason::Denied | RefusalReason::NameTaken => (403, &[]),
            RefusalReason::Limit | RefusalReason::Unavailable | RefusalReason::Draining => {
                // Who comes back later makes room until then.
                self.reply.keep_alive = false;
                (503, &[RETRY])
            }
        };
        self.answer(status, &refusal.description, headers, io)
            .map_err(|_| CloseReason::Refused(refusal.description.clone()))?;
        self.answer_requests(io)
    }

    fn stream_head(&self, keep_alive: bool, io: &mut Io<'_>) {
        self.head(200, keep_alive, &[("Content-Type", "video/x-flv"), NO_CACHE], io);
    }

    /// A complete short answer.
    fn answer(
        &mut self,
        status: u16,
        text: &str,
        headers: &[(&str, &str)],
        io: &mut Io<'_>,
    ) -> Result<(), CloseReason> {
        let body = if text.is_empty() { String::new() } else { format!("{text}\n") };
        let length = body.len().to_string();
        let mut all = vec![NO_CACHE];
        if !body.is_empty() {
            all.push(("Content-Type", "text/plain; charset=utf-8"));
            all.push(("Content-Length", length.as_str()));
        }
        all.extend_from_slice(headers);
        self.head(status, self.reply.keep_alive, &all, io);
        if !self.reply.is_head {
            io.out.extend_from_slice(body.as_bytes());
        }
        self.answered(io)
    }

    /// The answer is complete: the next request, or the end.
    fn answered(&mut self, io: &Io<'_>) -> Result<(), CloseReason> {
        self.since = io.now;
        if self.reply.keep_alive {
            self.state = State::Reading;
            return Ok(());
        }
        self.state = State::Ended;
        self.unread = Vec::new();
        Err(CloseReason::Done)
    }

    fn head(&self, status: u16, keep_alive: bool, headers: &[(&str, &str)], io: &mut Io<'_>) {
        let mut all = headers.to_vec();
        all.push(("Connection", if keep_alive { "keep-alive" } else { "close" }));
        if let Some(origin) = &self.reply.allow_origin {
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

    /// Browsers hold no rule of their own against WebSockets of other origins. Programs that are no
    /// browsers name no origin, or any.
    fn may_upgrade(&self, origin: Option<&str>) -> bool {
        let listed = &self.settings.http.origins;
        origin.is_none_or(|origin| {
            self.allowed_origin(Some(origin)).is_some()
                && (listed.is_empty() || listed.iter().any(|entry| entry == origin))
        })
    }
}

fn has_body(request: &Request) -> bool {
    let is_empty = matches!(request.content_length(), Ok(None | Some(0)));
    !is_empty || request.header("transfer-encoding").is_some()
}

#[cfg(test)]
mod tests;
