//! A connection that this server has opened to another one, to publish a stream there or to fetch one
//! from there. It behaves as a viewer of the stream that it sends on, and as the publisher of the stream
//! that it fetches; the control shard decides which connections there are (`control::relays`).
//!
//! What must hold: a stream is sent only after the other server has accepted it; a stream that is fetched
//! claims its name only when media has come, and nothing is shown of it before the verdict.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::ask::{ClientInfo, Fetched, Grant, PlayRange, Verdict, Want};
use super::client_id::ClientId;
use super::close::CloseReason;
use super::{Event, Io, MediaMessage};
use crate::config::AppSettings;
use crate::limits::{self, RTMP_CHUNK_SIZE_MAX};
use crate::media::{Moment, Track, Wire};
use crate::proto::name::StreamName;
use crate::proto::rtmp::Message;
use crate::proto::rtmp::aggregate;
use crate::proto::rtmp::client::{ClientConfig, ClientEvent, ClientSession, Role};
use crate::proto::rtmp::command::is_said_to_players;
use crate::proto::rtmp::{message, status};

/// Numbers the relays of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct RelayId(pub u64);

/// What a relay connection is for.
#[derive(Clone, Debug)]
pub struct RelayOrder {
    /// The relay that it belongs to.
    pub relay: RelayId,
    /// The stream on this server.
    pub name: StreamName,
    /// The address of the other end, without a password: for logs, hooks and the API.
    pub url: String,
    /// What it has to do with the stream.
    pub task: Task,
    /// The name of this node.
    pub node: &'static str,
    /// From where it is fetched; `No` for what is sent.
    pub fetched: Fetched,
}

/// What a relay does with its stream.
#[derive(Clone, Debug)]
pub enum Task {
    /// Sends it to another server, or fetches it from there.
    Remote(Box<Remote>),
    /// Publishes it on this server under another name. There is no socket, and nothing is written: frames go
    /// from one publication to the other.
    Mirror {
        /// The other name.
        to: StreamName,
    },
}

/// What to tell another server.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The session.
    pub client: ClientConfig,
    /// The word of the publish command.
    pub publish_type: String,
    /// A target that is further behind skips to the newest keyframe.
    pub buffer: Duration,
}

/// What has become of a relay connection.
#[derive(Clone, Debug, PartialEq)]
pub enum RelayNews {
    /// The other server accepts the stream, or sends it.
    Started,
    /// The other server will send the stream, and has sent nothing: perhaps nobody publishes it there.
    Waiting,
    /// It said something that changes nothing.
    Status {
        /// Such as `NetStream.Publish.Start`.
        code: String,
        /// Text for people; may be empty.
        description: String,
    },
    /// How far it is.
    Progress {
        /// Bytes from the other server.
        bytes_in: u64,
        /// Bytes to it.
        bytes_out: u64,
        /// How often it was too slow and skipped to a keyframe.
        skips: u64,
        /// How far a target is behind.
        lag: Duration,
        /// A target takes nothing.
        is_stalled: bool,
    },
    /// The connection is gone.
    Closed {
        /// What the other server said last of the kind of an error, as code and description.
        status: Option<(String, String)>,
        /// A sentence.
        why: String,
        /// What has to follow.
        end: RelayEnd,
    },
}

/// What the end of a relay connection means for its relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayEnd {
    /// The stream, or the server, has ended: nobody should try again.
    Over,
    /// The source's publisher is gone. Nothing has failed; another one may come.
    SourceGone,
    /// The source has sent nothing; another one may have the stream.
    Idle,
    /// It has failed.
    Failed,
}

/// The only question of a relay.
const SERIAL: u32 = 1;
/// As nginx-rtmp calls itself where a relay runs hooks (contract hooks 1.2).
pub const RELAY_FLASH_VERSION: &str = "ngx-local-relay";

/// One relay connection.
#[derive(Debug)]
pub struct RelaySession {
    order: Arc<RelayOrder>,
    /// `None` for a mirror.
    client: Option<ClientSession>,
    info: Arc<ClientInfo>,
    peer: SocketAddr,
    verdict_wait: Duration,
    stage: Stage,
    /// Since when it is in this stage.
    since: Moment,
    last_media: Moment,
    /// What came before the verdict.
    held: Vec<MediaMessage>,
    held_bytes: usize,
    /// Since when the other server has taken nothing.
    stalled_since: Option<Moment>,
    /// The last error status of the other server.
    failed: Option<(String, String)>,
    is_over: bool,
}

#[derive(Debug)]
enum Stage {
    /// The other server has not accepted yet.
    Opening,
    /// It has accepted to send; no media has come.
    Waiting,
    /// The control shard has been asked.
    Asked,
    /// Media goes.
    Running(Arc<AppSettings>),
}

impl RelaySession {
    /// A session over a new connection.
    pub fn new(
        order: Arc<RelayOrder>,
        id: ClientId,
        peer: SocketAddr,
        verdict_wait: Duration,
        now: Moment,
    ) -> Self {
        let name = match &order.task {
            Task::Remote(_) => &order.name,
            Task::Mirror { to } => to,
        };
        let info = Arc::new(ClientInfo {
            id,
            vhost: name.vhost().to_owned(),
            app: name.app().to_owned(),
            instance: name.instance().to_owned(),
            app_text: name.app_text(),
            tc_url: order.url.clone(),
            flash_version: RELAY_FLASH_VERSION.to_owned(),
            is_relay: true,
            fetched: order.fetched,
            ..ClientInfo::default()
        });
        let client = match &order.task {
            Task::Remote(remote) => {
                let mut client = ClientSession::new(remote.client.clone());
                client.publish_as(&remote.publish_type);
                Some(client)
            }
            Task::Mirror { .. } => None,
        };
        Self {
            client,
            order,
            info,
            peer,
            verdict_wait,
            stage: Stage::Opening,
            since: now,
            last_media: now,
            held: Vec::new(),
            held_bytes: 0,
            stalled_since: None,
            failed: None,
            is_over: false,
        }
    }

    /// Says the first words; to be called once, first.
    pub fn start(&mut self, io: &mut Io<'_>) {
        match &self.client {
            Some(client) => client.start(io.out),
            None => self.ask(io),
        }
    }

    /// What it is for.
    pub fn order(&self) -> &Arc<RelayOrder> {
        &self.order
    }

    /// The stream is sent to the other server, not fetched.
    pub fn is_push(&self) -> bool {
        match &self.order.task {
            Task::Remote(remote) => remote.client.role == Role::Publish,
            Task::Mirror { .. } => false,
        }
    }

    /// A target that is further behind skips to the newest keyframe.
    pub fn buffer(&self) -> Duration {
        match &self.order.task {
            Task::Remote(remote) => remote.buffer,
            Task::Mirror { .. } => Duration::ZERO,
        }
    }

    /// The form in which the stream is sent.
    pub fn wire(&self) -> Wire {
        let chunk_size = match &self.order.task {
            Task::Remote(remote) => remote.client.chunk_size,
            Task::Mirror { .. } => RTMP_CHUNK_SIZE_MAX,
        };
        Wire::Relay {
            message_stream_id: self.message_stream_id(),
            chunk_size,
            node: self.order.node,
        }
    }

    /// What the other server said last of the kind of an error, and what follows from this end.
    pub fn outcome(&self, reason: &CloseReason) -> (Option<(String, String)>, RelayEnd) {
        let end = match reason {
            _ if self.is_over => RelayEnd::Over,
            CloseReason::SourceEnded => RelayEnd::SourceGone,
            CloseReason::NotPublished(_) if !self.is_push() => RelayEnd::Idle,
            _ => RelayEnd::Failed,
        };
        (self.failed.clone(), end)
    }

    /// Bytes came from the other server.
    pub fn input(&mut self, mut bytes: &[u8], io: &mut Io<'_>) -> Result<(), CloseReason> {
        while !bytes.is_empty() {
            let Some(client) = &mut self.client else { return Ok(()) };
            let progress = client
                .input(bytes, io.out)
                .map_err(|error| CloseReason::Protocol(error.to_string()))?;
            bytes = bytes.get(progress.consumed..).unwrap_or_default();
            if let Some(event) = progress.event {
                self.event(event, io)?;
            }
        }
        Ok(())
    }

    fn event(&mut self, event: ClientEvent, io: &mut Io<'_>) -> Result<(), CloseReason> {
        match event {
            ClientEvent::Connected => Ok(()),
            ClientEvent::PublishStarted => {
                if matches!(self.stage, Stage::Opening) {
                    io.events.push(Event::Relay(RelayNews::Started));
                    self.ask(io);
                }
                Ok(())
            }
            ClientEvent::PlayStarted => {
                if matches!(self.stage, Stage::Opening) {
                    self.enter(Stage::Waiting, io.now);
                    io.events.push(Event::Relay(RelayNews::Waiting));
                }
                Ok(())
            }
            ClientEvent::Status { code, description, .. } => {
                let ends = [status::PLAY_UNPUBLISH_NOTIFY.code, status::PLAY_STOP.code];
                let has_ended = !self.is_push() && ends.contains(&code.as_str());
                io.events.push(Event::Relay(RelayNews::Status { code, description }));
                if has_ended { self.source_ended(io) } else { Ok(()) }
            }
            ClientEvent::StreamEof if self.is_push() => Ok(()),
            ClientEvent::StreamEof => self.source_ended(io),
            ClientEvent::Message(message) => self.message(message, io),
            ClientEvent::Failed { code, description } => {
                let why = format!("{} refused: {description}", self.order.url);
                self.failed = Some((code, description));
                Err(CloseReason::Refused(why))
            }
        }
    }

    /// The other server's publisher has gone: what was fetched ends. While somebody waits for it, it is
    /// asked for again.
    fn source_ended(&mut self, io: &mut Io<'_>) -> Result<(), CloseReason> {
        if let Stage::Running(_) = self.stage {
            io.events.push(Event::EndPublish { message_stream_id: self.message_stream_id() });
            return Err(CloseReason::SourceEnded);
        }
        Ok(())
    }

    /// Another source is to be tried, unless this one has sent something.
    pub fn leave_idle(&self) -> Result<(), CloseReason> {
        match self.stage {
            Stage::Waiting => {
                let text = format!("{} sends nothing: is it published there?", self.order.url);
                Err(CloseReason::NotPublished(text))
            }
            _ => Ok(()),
        }
    }

    fn message(&mut self, message: Message, io: &mut Io<'_>) -> Result<(), CloseReason> {
        let track = match message.type_id {
            message::AGGREGATE => {
                let parts = aggregate::split(&message)
                    .map_err(|error| CloseReason::Protocol(error.to_string()))?;
                return parts.into_iter().try_for_each(|part| self.message(part, io));
            }
            message::AUDIO => Track::Audio,
            message::VIDEO => Track::Video,
            _ => Track::Data,
        };
        if self.is_push() {
            return Ok(());
        }
        let mut media = MediaMessage {
            message_stream_id: self.message_stream_id(),
            track,
            is_metadata: false,
            timestamp_ms: message.timestamp_ms,
            payload: message.payload,
        };
        if track == Track::Data && !media.unwrap_data(message.type_id) {
            return Ok(());
        }
        // Such words are no sign that somebody publishes: they must not claim the name here.
        if track == Track::Data && is_said_to_players(&media.payload) {
            return Ok(());
        }
        self.last_media = io.now;
        if media.is_loop(self.order.node) {
            self.is_over = true;
            let text = format!("{} has been here before: a loop of relays", self.order.name);
            return Err(CloseReason::Refused(text));
        }
        match self.stage {
            Stage::Running(_) => io.events.push(Event::Media(media)),
            Stage::Opening | Stage::Waiting | Stage::Asked => {
                self.held_bytes += media.payload.len() + size_of::<MediaMessage>();
                if self.held_bytes > limits::RELAY_HELD_BYTES_MAX {
                    let text = "more media came than is kept while the verdict is awaited";
                    return Err(CloseReason::Limit(text.to_owned()));
                }
                self.held.push(media);
                if !matches!(self.stage, Stage::Asked) {
                    io.events.push(Event::Relay(RelayNews::Started));
                    self.ask(io);
                }
            }
        }
        Ok(())
    }

    fn ask(&mut self, io: &mut Io<'_>) {
        self.enter(Stage::Asked, io.now);
        let name = match &self.order.task {
            Task::Remote(_) => self.order.name.clone(),
            Task::Mirror { to } => to.clone(),
        };
        let sent = name.stream().to_owned();
        let want = if self.is_push() {
            let range = PlayRange { start: 0.0, duration: 0.0, reset: false };
            Want::Play { name, sent, range, args: String::new(), http: false }
        } else {
            Want::Publish { name, sent, kind: "live".to_owned(), args: String::new() }
        };
        io.events.push(Event::Ask { serial: SERIAL, want });
    }

    fn enter(&mut self, stage: Stage, now: Moment) {
        self.stage = stage;
        self.since = now;
    }

    fn message_stream_id(&self) -> u32 {
        // A mirror has one stream only.
        self.client.as_ref().map_or(1, ClientSession::message_stream_id)
    }

    /// The answer to the question.
    pub fn verdict(&mut self, verdict: &Verdict, io: &mut Io<'_>) -> Result<(), CloseReason> {
        match verdict {
            Verdict::Accept(Grant::Play { settings, .. } | Grant::Publish { settings, .. }) => {
                self.enter(Stage::Running(Arc::clone(settings)), io.now);
                self.held_bytes = 0;
                if self.client.is_none() {
                    io.events.push(Event::Relay(RelayNews::Started));
                    io.events.push(Event::Mirror);
                }
                io.events.extend(std::mem::take(&mut self.held).into_iter().map(Event::Media));
                Ok(())
            }
            Verdict::Accept(Grant::Connect { .. } | Grant::Push(_)) => Ok(()),
            Verdict::Refuse(refusal) => Err(CloseReason::Refused(refusal.description.clone())),
        }
    }

    /// On which message stream the question was asked.
    pub fn message_stream_of(&self, serial: u32) -> Option<u32> {
        let is_awaited = matches!(self.stage, Stage::Asked) && serial == SERIAL;
        is_awaited.then(|| self.message_stream_id())
    }

    /// The stream that is sent has ended.
    pub fn stream_down(&mut self, io: &mut Io<'_>) -> CloseReason {
        self.is_over = true;
        self.say_goodbye(io);
        CloseReason::Done
    }

    /// The stream of which this is a mirror has ended with a goodbye.
    pub fn source_said_goodbye(&mut self, io: &mut Io<'_>) {
        self.is_over = true;
        io.events.push(Event::EndPublish { message_stream_id: self.message_stream_id() });
    }

    fn say_goodbye(&mut self, io: &mut Io<'_>) {
        if let Some(client) = &mut self.client {
            client.close(io.out);
        }
    }

    /// Checks the time-outs.
    pub fn tick(&self, io: &Io<'_>) -> Result<(), CloseReason> {
        let passed = io.now.since(self.since);
        match &self.stage {
            Stage::Opening if passed > limits::RELAY_OPENING_MAX => Err(CloseReason::Protocol(
                format!("{} has not accepted the stream in time", self.order.url),
            )),
            Stage::Asked if passed > self.verdict_wait => {
                Err(CloseReason::Refused("the control shard has not answered".to_owned()))
            }
            Stage::Running(settings) if self.client.is_some() && !self.is_push() => {
                let silent_for = io.now.since(self.last_media);
                let is_idle = settings.publish_idle_timeout.is_some_and(|max| silent_for > max);
                if is_idle { Err(CloseReason::PublisherIdle) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// Whether the other server takes nothing now; says for how long it has not.
    pub fn stalls(&mut self, is_stalled: bool, now: Moment) -> Duration {
        self.stalled_since = is_stalled.then(|| self.stalled_since.unwrap_or(now));
        self.stalled_since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// The connection is about to be closed.
    pub fn farewell(&mut self, reason: &CloseReason, io: &mut Io<'_>) {
        self.is_over |= *reason == CloseReason::Draining;
        self.say_goodbye(io);
    }

    /// What this end says of itself.
    pub fn info(&self) -> &Arc<ClientInfo> {
        &self.info
    }

    /// The address of the other server.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_counted_from_its_begin() {
        let order = RelayOrder {
            relay: RelayId(1),
            name: StreamName::new("v", "live", "", "cam").unwrap(),
            url: "rtmp://h/live/cam".to_owned(),
            task: Task::Mirror { to: StreamName::new("v", "other", "", "cam").unwrap() },
            node: "here",
            fetched: Fetched::No,
        };
        let at = |seconds| Moment::ZERO + Duration::from_secs(seconds);
        let peer = "192.0.2.1:1935".parse().unwrap();
        let wait = Duration::from_secs(1);
        let mut session = RelaySession::new(Arc::new(order), ClientId(1), peer, wait, at(0));
        let mut stalls = |is_stalled, seconds| session.stalls(is_stalled, at(seconds)).as_secs();
        assert_eq!((stalls(false, 1), stalls(true, 2), stalls(true, 5)), (0, 0, 3));
        assert_eq!((stalls(false, 6), stalls(true, 7)), (0, 0));
    }
}
