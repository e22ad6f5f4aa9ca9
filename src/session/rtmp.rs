//! An RTMP connection, server side: handshake, connect, and up to eight message streams that publish
//! or play. See the RTMP specification, section 7, and contract multipoint 3.3 to 3.5 for what clients
//! really send.
//!
//! What must hold: nothing is answered with success before the control shard has accepted; a refusal
//! is said and then closes; a message costs no more memory than `rtmp.max_message`, and little before
//! connect is accepted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::ask::{ClientInfo, Fetched, Grant, PlayRange, Refusal, RefusalReason, Verdict, Want};
use super::client_id::ClientId;
use super::close::CloseReason;
use super::push_ask::session_of;
use super::rtmp_replies::Replies;
use super::{Event, Io, MediaMessage, Reception};
use crate::config::{AppSettings, Settings};
use crate::limits;
use crate::media::{Moment, Track};
use crate::proto::amf0::Value;
use crate::proto::name::{ConnectName, PlayPath, StreamName};
use crate::proto::push_message::PushBody;
use crate::proto::push_name::PushName;
use crate::proto::rtmp::Message;
use crate::proto::rtmp::aggregate;
use crate::proto::rtmp::chunk_reader::{ChunkReader, ReaderLimits};
use crate::proto::rtmp::cluster_link::{LINK_BYTES_MAX, LINK_PROPERTY};
use crate::proto::rtmp::command::Command;
use crate::proto::rtmp::enhanced::AnnouncedCodecs;
use crate::proto::rtmp::handshake::ServerHandshake;
use crate::proto::rtmp::message::{self, UserControl};
use crate::proto::rtmp::node_path::NodePath;
use crate::proto::rtmp::status;

/// One RTMP connection.
#[derive(Debug)]
pub struct RtmpSession {
    settings: Arc<Settings>,
    id: ClientId,
    peer: SocketAddr,
    handshake: Option<Box<ServerHandshake>>,
    reader: ChunkReader,
    connect: Connect,
    /// The client's last command came in the clothing of AMF3, so it understands answers in it.
    speaks_amf3: bool,
    /// Commands that came while the verdict on connect was awaited.
    deferred: Vec<Message>,
    streams: Vec<MessageStream>,
    next_serial: u32,
    /// When the newest question was asked.
    asked_at: Moment,
    since: Moment,
    /// Since when it neither publishes nor plays.
    idle_since: Moment,
    ack_window: u64,
    acknowledged: u64,
    last_input: Moment,
    ping_sent: Option<Moment>,
    /// It gets push messages, and so may be silent for as long as it answers pings.
    is_member: bool,
    /// Its messages to channels that are not judged yet.
    sends: u32,
    /// It connects again when asked to (Enhanced RTMP v2).
    can_reconnect: bool,
}

#[derive(Debug)]
enum Connect {
    Awaited,
    Asked {
        serial: u32,
        transaction: f64,
        name: Box<ConnectName>,
        client: Arc<ClientInfo>,
        object_encoding: f64,
    },
    Accepted {
        name: Box<ConnectName>,
        client: Arc<ClientInfo>,
    },
    Refused,
}

#[derive(Debug)]
struct MessageStream {
    id: u32,
    state: StreamState,
    /// What a player wants of what it plays; the tracks may be chosen before.
    reception: Reception,
    /// What the shard knows of that.
    told: Reception,
}

#[derive(Debug)]
enum StreamState {
    Idle,
    PublishAsked {
        serial: u32,
        name: StreamName,
        /// The word of a client that wants to be recorded.
        recorded: Option<&'static str>,
        early: Vec<MediaMessage>,
        early_bytes: usize,
    },
    Publishing {
        name: StreamName,
        settings: Arc<AppSettings>,
        last_media: Moment,
        rate: Rate,
    },
    PlayAsked {
        serial: u32,
        name: StreamName,
        /// Played until the verdict is there.
        playing: Option<StreamName>,
    },
    Playing {
        name: StreamName,
    },
}

impl StreamState {
    /// What is played now.
    fn played(&self) -> Option<&StreamName> {
        match self {
            Self::Playing { name } => Some(name),
            Self::PlayAsked { playing, .. } => playing.as_ref(),
            _ => None,
        }
    }
}

/// Bytes of a publisher in the current window, for `max_bitrate`.
#[derive(Debug)]
struct Rate {
    since: Moment,
    bytes: u64,
}

/// Object encoding of clients that may send AMF3.
const OBJECT_ENCODING_AMF3: f64 = 3.0;
/// Publish types of clients that want their stream to be kept.
const RECORDED: [&str; 3] = ["record", "append", "appendWithGap"];
/// A publisher may exceed `max_bitrate` within this time (a keyframe, a burst after a stall).
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// What a message takes on the wire besides its payload: a chunk's basic header and a full message header.
const MESSAGE_HEADER_BYTES: usize = 12;

/// `CapsExMask.Reconnect` of Enhanced RTMP v2.
const CAPS_EX_RECONNECT: u32 = 1;

impl RtmpSession {
    /// A connection that was just accepted. `seed` fills the random part of the handshake.
    pub fn new(
        settings: Arc<Settings>,
        id: ClientId,
        peer: SocketAddr,
        seed: u64,
        now: Moment,
    ) -> Self {
        let max_message = settings.rtmp.max_message.min(limits::RTMP_UNACCEPTED_MESSAGE_BYTES_MAX);
        Self {
            handshake: Some(Box::new(ServerHandshake::new(seed, 0))),
            reader: ChunkReader::new(reader_limits(max_message)),
            connect: Connect::Awaited,
            speaks_amf3: false,
            deferred: Vec::new(),
            streams: Vec::new(),
            next_serial: 0,
            asked_at: now,
            since: now,
            idle_since: now,
            ack_window: u64::from(settings.rtmp.ack_window),
            acknowledged: 0,
            last_input: now,
            ping_sent: None,
            is_member: false,
            sends: 0,
            can_reconnect: false,
            settings,
            id,
            peer,
        }
    }

    /// What the client said of itself, once connect was read.
    pub fn client(&self) -> Option<&Arc<ClientInfo>> {
        match &self.connect {
            Connect::Asked { client, .. } | Connect::Accepted { client, .. } => Some(client),
            Connect::Awaited | Connect::Refused => None,
        }
    }

    /// Bytes came from the client.
    pub fn input(&mut self, mut bytes: &[u8], io: &mut Io<'_>) -> Result<(), CloseReason> {
        self.last_input = io.now;
        self.ping_sent = None;
        if let Some(handshake) = &mut self.handshake {
            let progress = handshake.input(bytes, io.out).map_err(protocol)?;
            bytes = bytes.get(progress.consumed..).unwrap_or(&[]);
            if !progress.done {
                return Ok(());
            }
            self.handshake = None;
        }
        loop {
            let read = self.reader.read(bytes).map_err(protocol)?;
            bytes = bytes.get(read.consumed..).unwrap_or(&[]);
            match read.message {
                Some(message) => self.message(message, io)?,
                None if bytes.is_empty() => break,
                None => {}
            }
        }
        self.tell_receptions(io);
        self.acknowledge(io);
        Ok(())
    }

    /// The control shard has answered.
    pub fn verdict(
        &mut self,
        serial: u32,
        verdict: &Verdict,
        io: &mut Io<'_>,
    ) -> Result<(), CloseReason> {
        if matches!(self.connect, Connect::Asked { serial: asked, .. } if asked == serial) {
            return self.connect_verdict(verdict, io);
        }
        let found = self.streams.iter().position(|stream| match stream.state {
            StreamState::PublishAsked { serial: asked, .. }
            | StreamState::PlayAsked { serial: asked, .. } => asked == serial,
            _ => false,
        });
        let Some(at) = found else {
            // The client has changed its mind; what was granted is given back by the shard.
            return Ok(());
        };
        match verdict {
            Verdict::Accept(grant) => {
                self.granted(at, grant, io);
                Ok(())
            }
            Verdict::Refuse(refusal) => Err(self.refused(at, refusal, io)),
        }
    }

    /// The message stream that asked with this serial.
    pub fn message_stream_of(&self, serial: u32) -> Option<u32> {
        self.streams.iter().find_map(|stream| match stream.state {
            StreamState::PublishAsked { serial: asked, .. }
            | StreamState::PlayAsked { serial: asked, .. } => {
                (asked == serial).then_some(stream.id)
            }
            _ => None,
        })
    }

    /// Whether it asks for one stream, and neither publishes nor plays nor asks for another.
    pub fn awaits_only(&self, serial: u32) -> bool {
        let mut busy =
            self.streams.iter().filter(|stream| !matches!(stream.state, StreamState::Idle));
        let is_it = |state: &StreamState| matches!(state, StreamState::PlayAsked { serial: asked, playing: None, .. } if *asked == serial);
        matches!(self.connect, Connect::Accepted { .. })
            && busy.next().is_some_and(|stream| is_it(&stream.state))
            && busy.next().is_none()
    }

    /// A stream that is played has a publisher (again).
    pub fn stream_up(&mut self, message_stream_id: u32, io: &mut Io<'_>) {
        if let Some(name) = self.played(message_stream_id) {
            let stream = name.stream().to_owned();
            self.replies(io).publish_notify(message_stream_id, &stream);
        }
    }

    /// A stream that is played has ended.
    pub fn stream_down(&mut self, message_stream_id: u32, io: &mut Io<'_>) {
        if let Some(name) = self.played(message_stream_id) {
            let stream = name.stream().to_owned();
            self.replies(io).unpublish_notify(message_stream_id, &stream);
        }
    }

    /// Checks the time-outs.
    pub fn tick(&mut self, io: &mut Io<'_>) -> Result<(), CloseReason> {
        let limits = &self.settings.limits;
        let now = io.now;
        if !matches!(self.connect, Connect::Accepted { .. } | Connect::Asked { .. })
            && now.since(self.since) > limits.handshake_timeout
        {
            return Err(CloseReason::HandshakeTimeout);
        }
        if self.handshake.is_some() {
            return Ok(());
        }
        if now.since(self.asked_at) > self.settings.verdict_wait {
            self.refuse_unanswered(io)?;
        }
        let limits = &self.settings.limits;
        let mut is_busy = self.is_member;
        for stream in &self.streams {
            match &stream.state {
                StreamState::Publishing { settings, last_media, .. } => {
                    is_busy = true;
                    let silent_for = now.since(*last_media);
                    if settings.publish_idle_timeout.is_some_and(|max| silent_for > max) {
                        return Err(CloseReason::PublisherIdle);
                    }
                }
                StreamState::Idle => {}
                _ => is_busy = true,
            }
        }
        if is_busy {
            self.idle_since = now;
        } else if limits.idle_connection.is_some_and(|max| now.since(self.idle_since) > max) {
            return Err(CloseReason::Idle);
        }
        let rtmp = &self.settings.rtmp;
        match self.ping_sent {
            Some(sent) if now.since(sent) > rtmp.ping_timeout => Err(CloseReason::PingTimeout),
            None if rtmp.ping.is_some_and(|ping| now.since(self.last_input) > ping)
                && matches!(self.connect, Connect::Accepted { .. }) =>
            {
                self.ping_sent = Some(now);
                let stamp = (now.as_nanos() / 1_000_000) as u32;
                self.replies(io).user_control(UserControl::PingRequest(stamp));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The shard is about to close: the client is told why, in the terms of contract hooks, 6.
    pub fn farewell(&mut self, reason: &CloseReason, io: &mut Io<'_>) {
        let text = reason.to_string();
        match &self.connect {
            Connect::Accepted { .. } => {}
            Connect::Asked { .. } if *reason == CloseReason::Draining => {
                let refusal = Refusal::new(RefusalReason::Draining, text);
                let _ = self.connect_verdict(&Verdict::Refuse(refusal), io);
                return;
            }
            _ => return,
        }
        let ids = |wanted: fn(&StreamState) -> bool| -> Vec<u32> {
            let found = self.streams.iter().filter(|stream| wanted(&stream.state));
            found.map(|stream| stream.id).collect()
        };
        let publishing = ids(|state| matches!(state, StreamState::Publishing { .. }));
        let playing = ids(|state| state.played().is_some());
        let can_reconnect = self.can_reconnect;
        let mut replies = self.replies(io);
        match reason {
            CloseReason::Replaced(_) => {
                for id in publishing {
                    replies.status(id, status::PUBLISH_BAD_NAME, &text, "");
                }
            }
            CloseReason::PublisherIdle => {
                for id in publishing {
                    replies.status(id, status::PUBLISH_IDLE, &text, "");
                }
            }
            CloseReason::Bitrate => {
                for id in publishing {
                    replies.status(id, status::PUBLISH_DENIED, &text, "");
                }
            }
            CloseReason::NotPublished(_) => {
                for id in playing {
                    replies.status(id, status::PLAY_STREAM_NOT_FOUND, &text, "");
                }
            }
            CloseReason::Limit(_) => {
                for id in playing {
                    replies.status(id, status::PLAY_FAILED, &text, "");
                }
            }
            CloseReason::Stalled | CloseReason::Internal | CloseReason::Dismissed(_) => {
                replies.status(0, status::CONNECT_CLOSED, &text, "");
            }
            CloseReason::Idle => replies.status(0, status::CONNECT_IDLE_TIMEOUT, &text, ""),
            CloseReason::Draining => {
                if can_reconnect {
                    replies.status(0, status::CONNECT_RECONNECT_REQUEST, &text, "");
                }
                replies.status(0, status::CONNECT_APP_SHUTDOWN, &text, "");
            }
            _ => {}
        }
    }

    fn message(&mut self, message: Message, io: &mut Io<'_>) -> Result<(), CloseReason> {
        match message.type_id {
            message::AUDIO => self.media(Track::Audio, message, io),
            message::VIDEO => self.media(Track::Video, message, io),
            message::DATA_AMF0 | message::DATA_AMF3 => self.media(Track::Data, message, io),
            message::COMMAND_AMF0 | message::COMMAND_AMF3 => self.command(message, io),
            message::AGGREGATE => {
                for part in aggregate::split(&message).map_err(protocol)? {
                    self.message(part, io)?;
                }
                Ok(())
            }
            message::WINDOW_ACK_SIZE => {
                if let Ok(window) = message::parse_window_ack_size(&message.payload)
                    && window > 0
                {
                    self.ack_window = u64::from(window);
                }
                Ok(())
            }
            message::USER_CONTROL => {
                if let Ok(UserControl::PingRequest(stamp)) = UserControl::parse(&message.payload) {
                    self.replies(io).user_control(UserControl::PingResponse(stamp));
                }
                Ok(())
            }
            // The chunk reader has applied Set Chunk Size and Abort; nobody waits for the rest.
            _ => Ok(()),
        }
    }

    fn media(
        &mut self,
        track: Track,
        message: Message,
        io: &mut Io<'_>,
    ) -> Result<(), CloseReason> {
        let Some(stream) =
            self.streams.iter_mut().find(|stream| stream.id == message.message_stream_id)
        else {
            return Ok(());
        };
        let mut media = MediaMessage {
            message_stream_id: message.message_stream_id,
            track,
            is_metadata: false,
            timestamp_ms: message.timestamp_ms,
            payload: message.payload,
        };
        match &mut stream.state {
            StreamState::Publishing { settings, last_media, rate, .. } => {
                *last_media = io.now;
                // With their headers: else empty messages would be free.
                let size = media.payload.len() + MESSAGE_HEADER_BYTES;
                if rate.exceeds(size, settings.max_bitrate, io.now) {
                    return Err(CloseReason::Bitrate);
                }
                if track != Track::Data || media.unwrap_data(message.type_id) {
                    if media.is_loop(self.settings.node) {
                        let text = "the stream has been here before: a loop of relays";
                        return Err(CloseReason::Refused(text.to_owned()));
                    }
                    io.events.push(Event::Media(media));
                }
                Ok(())
            }
            StreamState::PublishAsked { early, early_bytes, .. } => {
                // Before the verdict nothing is forwarded; headers are kept, they come only once.
                let size = media.payload.len() + size_of::<MediaMessage>();
                let is_kept = *early_bytes + size <= limits::EARLY_HEADER_BYTES_MAX
                    && (track != Track::Data || media.unwrap_data(message.type_id))
                    && media.is_header();
                if is_kept {
                    *early_bytes += size;
                    early.push(media);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn command(&mut self, message: Message, io: &mut Io<'_>) -> Result<(), CloseReason> {
        if matches!(self.connect, Connect::Asked { .. }) {
            let bytes: usize = self.deferred.iter().map(|message| message.payload.len()).sum();
            if self.deferred.len() == limits::DEFERRED_MESSAGES_MAX
                || bytes + message.payload.len() > limits::DEFERRED_BYTES_MAX
            {
                let text = "too many commands before connect was answered";
                return Err(CloseReason::Protocol(text.to_owned()));
            }
            self.deferred.push(message);
            return Ok(());
        }
        self.speaks_amf3 = message.type_id == message::COMMAND_AMF3;
        let body = message::amf0_body(message.type_id, &message.payload);
        let call = Command::parse(&body).map_err(protocol)?;
        let stream_id = message.message_stream_id;
        if call.name == "connect" {
            return self.on_connect(&call, io);
        }
        if !matches!(self.connect, Connect::Accepted { .. }) {
            return Err(CloseReason::Protocol(format!("{} before connect", call.name)));
        }
        match call.name.as_str() {
            "createStream" => self.on_create_stream(&call, io),
            "publish" => self.on_publish(stream_id, &call, io),
            "play" => self.on_play(stream_id, &call, io),
            "play2" => self.on_play2(stream_id, &call, io),
            "pause" | "pauseRaw" => {
                self.on_pause(stream_id, &call, io);
                Ok(())
            }
            "receiveAudio" | "receiveVideo" => {
                self.on_receive(stream_id, &call, io);
                Ok(())
            }
            "seek" => {
                self.on_seek(stream_id, &call, io);
                Ok(())
            }
            "deleteStream" => self.on_delete_stream(stream_id, &call, io),
            "closeStream" => self.end_stream(stream_id, io),
            "FCUnpublish" => self.on_fc_unpublish(&call, io),
            "releaseStream" | "FCPublish" | "_checkbw" | "FCUnsubscribe" => {
                self.replies(io).result(call.transaction, Value::Undefined);
                Ok(())
            }
            "FCSubscribe" => {
                let name = call.str_arg(0).unwrap_or_default().to_owned();
                let mut replies = self.replies(io);
                replies.result(call.transaction, Value::Undefined);
                replies.fc_subscribe(&name);
                Ok(())
            }
            // Erlyvideo's clients call it one or the other, and await no answer.
            "sendMessage" | "send_message" => {
                self.push_send(&call, io);
                Ok(())
            }
            // A live stream has no length.
            "getStreamLength" => {
                self.replies(io).result(call.transaction, Value::Number(0.0));
                Ok(())
            }
            // Answers of the client to calls of ours, and what needs no answer.
            "_result" | "_error" | "onStatus" => Ok(()),
            _ => {
                self.replies(io).unknown(&call);
                Ok(())
            }
        }
    }

    fn on_connect(&mut self, call: &Command, io: &mut Io<'_>) -> Result<(), CloseReason> {
        if !matches!(self.connect, Connect::Awaited) {
            return Err(CloseReason::Protocol("a second connect".to_owned()));
        }
        let text = |key: &str| {
            call.object.property(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let caps = call.object.property("capsEx").and_then(Value::as_f64).unwrap_or_default();
        self.can_reconnect = caps as u32 & CAPS_EX_RECONNECT != 0;
        let (app, tc_url) = (text("app"), text("tcUrl"));
        let name = ConnectName::parse(&app, &tc_url).map_err(protocol)?;
        let settings = Arc::clone(&self.settings);
        let client = Arc::new(ClientInfo {
            id: self.id,
            vhost: name.vhost(|host| settings.vhost_named(host).map(str::to_owned)),
            app: name.app.clone(),
            instance: name.instance.clone(),
            app_text: name.app_text.clone(),
            connect_args: name.args.clone(),
            tc_url,
            flash_version: text("flashVer"),
            swf_url: text("swfUrl"),
            page_url: text("pageUrl"),
            codecs: Some(AnnouncedCodecs::of_connect(&call.object)),
            session: call.str_arg(0).and_then(session_of),
            is_relay: false,
            nodes: NodePath::of_properties(&call.object),
            link: Some(text(LINK_PROPERTY)).filter(|it| (1..=LINK_BYTES_MAX).contains(&it.len())),
            fetched: Fetched::No,
        });
        let serial = self.ask(Want::Connect, io);
        let object_encoding = call.object.property("objectEncoding").and_then(Value::as_f64);
        self.connect = Connect::Asked {
            serial,
            transaction: call.transaction,
            name: Box::new(name),
            client,
            // As Flash Media Server: what the client asked for, when there is such an encoding.
            object_encoding: object_encoding
                .filter(|it| *it == OBJECT_ENCODING_AMF3)
                .unwrap_or(0.0),
        };
        Ok(())
    }

    fn connect_verdict(&mut self, verdict: &Verdict, io: &mut Io<'_>) -> Result<(), CloseReason> {
        let asked = std::mem::replace(&mut self.connect, Connect::Refused);
        let Connect::Asked { transaction, mut name, client: asked, object_encoding, .. } = asked
        else {
            return Ok(());
        };
        match verdict {
            Verdict::Accept(grant) => {
                let client = match grant {
                    // A hook has put it into another app.
                    Grant::Connect { client, .. }
                        if !client.app_text.is_empty() && client.app_text != asked.app_text =>
                    {
                        name.rename_app(&client.app_text).map_err(protocol)?;
                        Arc::clone(client)
                    }
                    _ => asked,
                };
                self.connect = Connect::Accepted { name, client };
                self.is_member = matches!(grant, Grant::Connect { push: Some(_), .. });
                self.idle_since = io.now;
                let max_message = self.settings.rtmp.max_message;
                let max_message = max_message.min(limits::RTMP_MESSAGE_BYTES_MAX);
                self.reader.set_limits(reader_limits(max_message));
                let ack_window = self.settings.rtmp.ack_window;
                let mut replies = self.replies(io);
                replies.announce(ack_window);
                replies.connect_success(transaction, object_encoding);
                for message in std::mem::take(&mut self.deferred) {
                    self.command(message, io)?;
                }
                Ok(())
            }
            Verdict::Refuse(refusal) => {
                let status = match refusal.reason {
                    RefusalReason::UnknownApp => status::CONNECT_INVALID_APP,
                    RefusalReason::Draining => status::CONNECT_APP_SHUTDOWN,
                    _ => status::CONNECT_REJECTED,
                };
                if !refusal.is_silent {
                    let ack_window = self.settings.rtmp.ack_window;
                    let mut replies = self.replies(io);
                    replies.announce(ack_window);
                    replies.connect_error(transaction, status, &refusal.description);
                }
                Err(CloseReason::Refused(refusal.description.clone()))
            }
        }
    }

    /// A message to a channel; one that cannot be passed on is dropped, and counted by who judges it.
    fn push_send(&mut self, call: &Command, io: &mut Io<'_>) {
        let channel = match call.args.first() {
            Some(Value::Number(number)) => PushName::of_f64(*number),
            name => name.and_then(Value::as_str).and_then(|name| name.parse().ok()),
        };
        let (Some(channel), Some(text)) = (channel, call.str_arg(1)) else { return };
        if self.is_member && self.sends < limits::PUSH_CLIENT_SENDS_MAX {
            self.sends += 1;
            let body = PushBody::Text(text.to_owned());
            io.events.push(Event::PushSend { channel, body });
        }
    }

    /// A message of the client to a channel was judged.
    pub fn push_sent(&mut self) {
        self.sends = self.sends.saturating_sub(1);
    }

    fn on_create_stream(&mut self, call: &Command, io: &mut Io<'_>) -> Result<(), CloseReason> {
        let free = (1..=limits::MESSAGE_STREAMS_MAX as u32)
            .find(|id| self.streams.iter().all(|stream| stream.id != *id));
        let mut replies = self.replies(io);
        match free {
            None => replies.call_failed(call.transaction, "No more message streams."),
            Some(id) => {
                replies.result(call.transaction, Value::Number(f64::from(id)));
                self.streams.push(MessageStream {
                    id,
                    state: StreamState::Idle,
                    reception: Reception::default(),
                    told: Reception::default(),
                });
            }
        }
        Ok(())
    }

    fn on_publish(
        &mut self,
        stream_id: u32,
        call: &Command,
        io: &mut Io<'_>,
    ) -> Result<(), CloseReason> {
        self.end_stream(stream_id, io)?;
        let text = match call.args.first() {
            Some(Value::String(text)) if text != "null" => text.clone(),
            // publish(false) and publish(null) stop publishing.
            _ => return Ok(()),
        };
        let at = self.stream_at(stream_id)?;
        let (name, args) = self.resolve(&text)?;
        let kind = call.str_arg(1).unwrap_or_default().to_owned();
        let recorded = RECORDED.into_iter().find(|word| word.eq_ignore_ascii_case(&kind));
        let want = Want::Publish { name: name.clone(), sent: sent_name(&text), kind, args };
        let serial = self.ask(want, io);
        self.streams[at].state =
            StreamState::PublishAsked { serial, name, recorded, early: Vec::new(), early_bytes: 0 };
        Ok(())
    }

    /// The application wants a message stream to publish or play something else. Like nginx-rtmp's
    /// control/redirect: what there is ends, and the same is asked for under the new name.
    pub fn redirect(
        &mut self,
        id: u32,
        to: &str,
        headers: Vec<MediaMessage>,
        io: &mut Io<'_>,
    ) -> Result<(), CloseReason> {
        let Some(stream) = self.streams.iter().find(|stream| stream.id == id) else {
            return Ok(());
        };
        let is_publisher = matches!(stream.state, StreamState::Publishing { .. });
        let is_player = stream.state.played().is_some();
        if !is_publisher && !is_player {
            return Ok(());
        }
        // A name that no stream can have is refused before anything ends.
        if let Err(reason) = self.resolve(to) {
            tracing::warn!(client = self.id.0, to, %reason, "a redirect to a name that cannot be");
            return Ok(());
        }
        self.end_stream(id, io)?;
        if is_player {
            return self.ask_to_play(id, to, PlayRange::default(), None, io);
        }
        let at = self.stream_at(id)?;
        let (name, args) = self.resolve(to)?;
        let kind = "live".to_owned();
        let want = Want::Publish { name: name.clone(), sent: sent_name(to), kind, args };
        let serial = self.ask(want, io);
        let early_bytes =
            headers.iter().map(|it| it.payload.len() + size_of::<MediaMessage>()).sum();
        self.streams[at].state =
            StreamState::PublishAsked { serial, name, recorded: None, early: headers, early_bytes };
        Ok(())
    }

    fn on_delete_stream(
        &mut self,
        stream_id: u32,
        call: &Command,
        io: &mut Io<'_>,
    ) -> Result<(), CloseReason> {
        // GStreamer sends the stream's name instead of the id.
        let id = match call.args.first() {
            Some(Value::Number(id)) => *id as u32,
            Some(Value::String(name)) => {
                let name = name.clone();
                self.published_as(&name).unwrap_or(stream_id)
            }
            _ => stream_id,
        };
        self.end_stream(id, io)?;
        self.streams.retain(|stream| stream.id != id);
        Ok(())
    }

    /// FCUnpublish names the stream, not the message stream.
    fn on_fc_unpublish(&mut self, call: &Command, io: &mut Io<'_>) -> Result<(), CloseReason> {
        let text = call.str_arg(0).unwrap_or_default().to_owned();
        let published = self.published_as(&text);
        self.replies(io).fc_unpublish(call.transaction, &text);
        match published {
            Some(id) => self.end_stream(id, io),
            None => Ok(()),
        }
    }

    /// The message stream that publishes, or asked to publish, what a client calls `text`.
    fn published_as(&self, text: &str) -> Option<u32> {
        let (name, _) = self.resolve(text).ok()?;
        self.streams.iter().find_map(|stream| match &stream.state {
            StreamState::Publishing { name: found, .. }
            | StreamState::PublishAsked { name: found, .. } => {
                (*found == name).then_some(stream.id)
            }
            _ => None,
        })
    }

    /// Ends what a message stream does; the message stream stays.
    fn end_stream(&mut self, id: u32, io: &mut Io<'_>) -> Result<(), CloseReason> {
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) else {
            return Ok(());
        };
        let ended = std::mem::replace(&mut stream.state, StreamState::Idle);
        stream.reception.is_paused = false;
        self.idle_since = io.now;
        match ended {
            StreamState::Publishing { name, .. } => {
                io.events.push(Event::EndPublish { message_stream_id: id });
                let text = format!("{} is now unpublished.", name.stream());
                self.replies(io).status(id, status::UNPUBLISH_SUCCESS, &text, name.stream());
            }
            StreamState::Playing { .. } | StreamState::PlayAsked { playing: Some(_), .. } => {
                io.events.push(Event::EndPlay { message_stream_id: id });
            }
            // An answer on its way finds nobody who awaits it; the shard gives the grant back.
            StreamState::PublishAsked { .. } | StreamState::PlayAsked { .. } => {}
            StreamState::Idle => {}
        }
        Ok(())
    }

    fn granted(&mut self, at: usize, grant: &Grant, io: &mut Io<'_>) {
        let id = self.streams[at].id;
        let state = std::mem::replace(&mut self.streams[at].state, StreamState::Idle);
        match (state, grant) {
            (
                StreamState::PublishAsked { recorded, early, .. },
                Grant::Publish { name, settings, .. },
            ) => {
                self.streams[at].state = StreamState::Publishing {
                    name: name.clone(),
                    settings: Arc::clone(settings),
                    last_media: io.now,
                    rate: Rate { since: io.now, bytes: 0 },
                };
                self.replies(io).publish_start(id, name.stream(), true);
                if let Some(kind) = recorded {
                    io.events.push(Event::NotRecorded { message_stream_id: id, kind });
                }
                io.events.extend(early.into_iter().map(Event::Media));
            }
            (StreamState::PlayAsked { playing, .. }, Grant::Play { name, lease, .. }) => {
                self.play_granted(at, name, *lease, playing.as_ref(), io);
            }
            // The control shard answers the question that was asked.
            _ => debug_assert!(false, "a grant for another question"),
        }
    }

    fn refused(&mut self, at: usize, refusal: &Refusal, io: &mut Io<'_>) -> CloseReason {
        let stream = &mut self.streams[at];
        let id = stream.id;
        let (name, is_publish) = match std::mem::replace(&mut stream.state, StreamState::Idle) {
            StreamState::PublishAsked { name, .. } => (name, true),
            StreamState::PlayAsked { name, .. } => (name, false),
            _ => return CloseReason::Refused(refusal.description.clone()),
        };
        let status = match (is_publish, refusal.reason) {
            (_, RefusalReason::Draining) => status::CONNECT_APP_SHUTDOWN,
            (true, RefusalReason::NameTaken) => status::PUBLISH_BAD_NAME,
            (true, _) => status::PUBLISH_DENIED,
            (false, RefusalReason::NotPublished) => status::PLAY_STREAM_NOT_FOUND,
            (false, _) => status::PLAY_FAILED,
        };
        if !refusal.is_silent {
            self.replies(io).status(id, status, &refusal.description, name.stream());
        }
        CloseReason::Refused(refusal.description.clone())
    }

    fn resolve(&self, text: &str) -> Result<(StreamName, String), CloseReason> {
        let Connect::Accepted { name, .. } = &self.connect else {
            return Err(CloseReason::Protocol("a stream before connect".to_owned()));
        };
        let path = PlayPath::parse(text).map_err(protocol)?;
        let stream = name
            .stream(&path, |host| self.settings.vhost_named(host).map(str::to_owned))
            .map_err(protocol)?;
        Ok((stream, path.args))
    }

    fn stream_at(&self, id: u32) -> Result<usize, CloseReason> {
        self.streams
            .iter()
            .position(|stream| stream.id == id)
            .ok_or_else(|| CloseReason::Protocol(format!("message stream {id} was not created")))
    }

    /// Nobody has judged what this connection asks for.
    fn refuse_unanswered(&mut self, io: &mut Io<'_>) -> Result<(), CloseReason> {
        let refusal = Refusal::new(RefusalReason::Unavailable, "authorisation is not available");
        if matches!(self.connect, Connect::Asked { .. }) {
            return self.connect_verdict(&Verdict::Refuse(refusal), io);
        }
        let asked = self.streams.iter().position(|stream| {
            let state = &stream.state;
            matches!(state, StreamState::PublishAsked { .. } | StreamState::PlayAsked { .. })
        });
        asked.map_or(Ok(()), |at| Err(self.refused(at, &refusal, io)))
    }

    fn ask(&mut self, want: Want, io: &mut Io<'_>) -> u32 {
        let serial = self.next_serial;
        self.asked_at = io.now;
        self.next_serial = self.next_serial.wrapping_add(1);
        io.events.push(Event::Ask { serial, want });
        serial
    }

    fn acknowledge(&mut self, io: &mut Io<'_>) {
        let received = self.reader.bytes_read();
        if received - self.acknowledged >= self.ack_window {
            self.acknowledged = received;
            self.replies(io).acknowledgement(received);
        }
    }

    fn replies<'a>(&self, io: &'a mut Io<'_>) -> Replies<'a> {
        Replies {
            out: io.out,
            chunk_size: self.settings.rtmp.chunk_size as usize,
            speaks_amf3: self.speaks_amf3,
        }
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// A trusted proxy has said for whom it connects.
    pub fn set_peer(&mut self, peer: SocketAddr) {
        self.peer = peer;
    }
}

impl Rate {
    /// Counts, and says whether more than `max_bits` per second have come in the current window.
    fn exceeds(&mut self, bytes: usize, max_bits: Option<u64>, now: Moment) -> bool {
        let Some(max_bits) = max_bits else { return false };
        if now.since(self.since) >= RATE_WINDOW {
            *self = Self { since: now, bytes: 0 };
        }
        self.bytes += bytes as u64;
        self.bytes > (max_bits / 8).saturating_mul(RATE_WINDOW.as_secs())
    }
}

/// The name in a publish or play command, without its query.
fn sent_name(text: &str) -> String {
    text.split('?').next().unwrap_or_default().to_owned()
}

fn reader_limits(max_message: usize) -> ReaderLimits {
    ReaderLimits {
        message_bytes_max: max_message,
        chunk_streams_max: limits::RTMP_CHUNK_STREAMS_MAX,
        partial_bytes_max: max_message.saturating_mul(2),
    }
}

fn protocol(error: impl std::fmt::Display) -> CloseReason {
    CloseReason::Protocol(error.to_string())
}

mod player;
#[cfg(test)]
mod tests;
