//! Shards, the registry and clients on one thread, in virtual time: turns are taken by hand.

use std::collections::{HashSet, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::run::ShardPlan;
use super::{Envelope, NewConnection, Notice, Outbox, Protocol, Seat, Shard};
use crate::config::{Settings, Sources};
use crate::control::{MessageToJudge, Registry, Router};
use crate::media::{Moment, Wire};
use crate::proto::amf0::Value;
use crate::proto::rtmp::Message;
use crate::proto::rtmp::chunk_writer::{MessageHeader, write_full};
use crate::proto::rtmp::client::{ClientConfig, ClientEvent, ClientSession, Role};
use crate::proto::rtmp::{command, message};
use crate::rt::egress::EgressChoice;
use crate::rt::executor::spawn_pinned;
use crate::rt::mesh::{Mesh, MeshEnd, inbox};
use crate::session::ClientId;
use crate::session::Verdict;

/// Of what clients send.
const CHUNK_SIZE: u32 = 60_000;

/// Runs a test on an executor of its own.
pub(super) fn run<F>(test: impl FnOnce() -> F + Send + 'static)
where
    F: Future<Output = ()> + 'static,
{
    spawn_pinned("test", None, test).unwrap().join().unwrap();
}

pub(super) fn settings(toml: &str) -> Arc<Settings> {
    let file = Some(("test.toml".to_owned(), toml.to_owned()));
    let sources = Sources { file, environment: Vec::new(), set: Vec::new() };
    Arc::new(Settings::load(&sources).unwrap())
}

pub(super) struct Rig {
    pub(super) shards: Vec<Shard>,
    pub(super) registry: Registry,
    pub(super) router: Router,
    /// What a hook would be asked.
    pub(super) unjudged: Vec<MessageToJudge>,
    pub(super) now: Moment,
    /// Notices of shards that the registry does not take.
    pub(super) heard: Vec<Notice>,
    control: MeshEnd<Box<Envelope>>,
    outbox: Outbox,
    /// The viewers of small streams go to their publisher's shard; else they stay where a test puts them.
    pub(super) gathers: bool,
}

impl Rig {
    pub(super) fn new(toml: &str, shards: usize) -> Self {
        Self::with_lanes(toml, shards, 64)
    }

    /// With lanes between the nodes that hold so many envelopes.
    pub(super) fn with_lanes(toml: &str, shards: usize, lane: usize) -> Self {
        let settings = settings(toml);
        let mut ends = Mesh::new(shards + 1, lane).unwrap();
        let control = ends.pop().unwrap();
        let shards = ends.into_iter().enumerate().map(|(index, mesh)| {
            let (_, inbox) = inbox(mesh.doorbell(), 1);
            Shard::new(ShardPlan {
                index,
                settings: Arc::clone(&settings),
                mesh,
                inbox,
                load: Arc::default(),
                egress: EgressChoice::Send,
                access: None,
                seed: 1,
            })
            .unwrap()
        });
        let mut shards: Vec<Shard> = shards.collect();
        for shard in &mut shards {
            // Else holds would depend on how busy the machine is.
            shard.pass.cpu = || Duration::ZERO;
        }
        Self {
            outbox: Outbox::new(shards.len() + 1),
            shards,
            registry: Registry::new(Arc::clone(&settings)),
            router: Router::new(settings, 7),
            unjudged: Vec::new(),
            now: Moment::ZERO + Duration::from_secs(1_000),
            heard: Vec::new(),
            control,
            gathers: false,
        }
    }

    pub(super) fn connect(&mut self, shard: usize, protocol: Protocol) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let seat = Seat::new(&Arc::default(), &Arc::default(), None);
        let peer = "192.0.2.1:1000".parse().unwrap();
        let id = ClientId::next();
        let new = NewConnection { id, socket: ours.into(), peer, protocol, seat };
        self.shards[shard].accept(new, self.now);
        theirs
    }

    pub(super) fn client(&mut self, shard: usize, role: Role, stream: &str) -> Client {
        Client::new(self.connect(shard, Protocol::Rtmp), role, stream)
    }

    /// One turn of every shard and of the control shard.
    pub(super) async fn turn(&mut self) {
        for shard in &mut self.shards {
            shard.turn_at(self.now).await;
            check(shard);
        }
        self.control_turn();
    }

    pub(super) fn control_turn(&mut self) {
        let mut out = Vec::new();
        for node in 0..self.shards.len() {
            while let Some(envelope) = self.control.try_recv(node) {
                for notice in envelope.notices {
                    let (registry, now) = (&mut self.registry, self.now);
                    let router = &mut self.router;
                    match notice {
                        Notice::Ask(token, ask)
                            if self.gathers && registry.nearer(token, &ask).is_some() =>
                        {
                            let (node, place) = registry.nearer(token, &ask).unwrap();
                            out.push((token.node, Notice::AskNearer { token, node, ask, place }));
                        }
                        Notice::Ask(token, ask) => match router.check(token, &ask, 0) {
                            Some(refusal) => {
                                let verdict = Box::new(Verdict::Refuse(refusal));
                                out.push((node, Notice::Verdict(token, verdict)));
                            }
                            None => registry.ask(token, &ask, now, &mut out),
                        },
                        Notice::PushJoin(token, ask) => {
                            let verdict = Box::new(router.subscribe(token, &ask, now, 0));
                            out.push((node, Notice::Verdict(token, verdict)));
                        }
                        Notice::PushLeft(client) => router.left(client),
                        Notice::PushSend { connection, client, channel, body } => {
                            let to_judge =
                                router.client_send(node, connection, client, channel, body, now);
                            self.unjudged.extend(to_judge);
                        }
                        Notice::Gone(gone) => router.gone(gone.id),
                        Notice::Withdrawn(token) => _ = registry.withdrawn(token),
                        Notice::Disconnected(client) => registry.disconnected(&client),
                        Notice::PublishStarted { stream, epoch } => {
                            registry.publish_started(stream, epoch, &mut out);
                        }
                        Notice::PublishEnded { stream, epoch, goodbye, resume } => {
                            registry.publish_ended(stream, epoch, goodbye, resume, now, &mut out);
                        }
                        Notice::LeftStream { stream, grants } => {
                            registry.left_stream(node, stream, grants);
                        }
                        Notice::Silence { stream, epoch, silent_for } => {
                            registry.silence(stream, epoch, silent_for, now, &mut out);
                        }
                        other => self.heard.push(other),
                    }
                    self.speak(&mut out);
                }
            }
        }
        self.registry.tick(self.now, &mut out);
        self.speak(&mut out);
        self.outbox.hand_over(&self.control, &mut Vec::new());
    }

    /// As the control shard's loop does it.
    fn speak(&mut self, out: &mut Vec<(usize, Notice)>) {
        for (node, mut notice) in out.drain(..) {
            for (node, notice) in self.router.take_outgoing() {
                self.outbox.notice(node, notice);
            }
            if let Notice::Verdict(token, verdict) = &mut notice {
                self.router.attach(*token, verdict);
            }
            self.outbox.notice(node, notice);
        }
        for (node, notice) in self.router.take_outgoing() {
            self.outbox.notice(node, notice);
        }
    }

    pub(super) fn say(&mut self, shard: usize, notice: Notice) {
        self.outbox.notice(shard, notice);
        self.outbox.hand_over(&self.control, &mut Vec::new());
    }

    /// Lets a publisher begin, and sends its header before the viewers' shards know of it.
    pub(super) async fn begin_with_header(
        &mut self,
        shard: usize,
        client: &mut Client,
        version: u8,
    ) {
        for _ in 0..20 {
            client.pump();
            self.shards[shard].turn_at(self.now).await;
            if !self.shards[shard].publications.is_empty() {
                break;
            }
            self.control_turn();
        }
        client.pump();
        client.video_header(version);
        self.shards[shard].turn_at(self.now).await;
    }

    /// Turns, a millisecond apart, in which the clients take part.
    pub(super) async fn run(&mut self, turns: usize, clients: &mut [&mut Client]) {
        for _ in 0..turns {
            for client in clients.iter_mut() {
                client.pump();
            }
            self.turn().await;
            self.now = self.now + Duration::from_millis(1);
        }
        for client in clients.iter_mut() {
            client.pump();
        }
    }

    pub(super) async fn wait(&mut self, ms: u64, clients: &mut [&mut Client]) {
        self.now = self.now + Duration::from_millis(ms);
        self.run(1, clients).await;
    }
}

/// What must hold between turns: counts are in step, and whatever can be sent has a time at which it
/// will be.
pub(super) fn check(shard: &Shard) {
    for viewed in shard.viewers.values() {
        assert!(viewed.viewer_count() > 0, "a stream without viewers is not kept");
        assert!(viewed.paused.iter().all(|paused| paused.viewer.cursor.is_waiting()));
        let wires: HashSet<Wire> = viewed.logs.iter().map(|state| state.log.wire()).collect();
        assert_eq!(wires.len(), viewed.logs.len(), "one log per wire");
        let logs_max = shard.settings.limits.logs_per_stream;
        assert!(wires.len() <= logs_max, "{wires:?}");
        for state in &viewed.logs {
            let is_used = !state.viewers.is_empty() || viewed.is_awaited(state.log.wire());
            assert!(is_used, "a log that nobody is in or on the way to");
            let changing = state.viewers.iter().filter(|it| it.target.is_some()).count();
            assert_eq!(state.changing, changing, "the count of viewers with a target");
            let waiting = state.viewers.iter().filter(|it| it.cursor.is_waiting()).count();
            assert_eq!(state.waiting, waiting, "the count of waiting viewers");
            for viewer in &state.viewers {
                let conn = shard.conns.get(viewer.connection).expect("a viewer has a connection");
                let id = viewer.message_stream_id;
                assert_eq!(
                    conn.mid_message == Some(id),
                    !viewer.cursor.at_boundary(&state.log),
                    "who is inside a message"
                );
                if !viewer.cursor.is_caught_up(&state.log) {
                    assert!(
                        state.next_due().is_some(),
                        "a viewer is behind and nothing is planned"
                    );
                }
            }
        }
    }
    for slot in 0..shard.conns.slots() {
        let Some(key) = shard.conns.key_at(slot) else { continue };
        let conn = shard.conns.get(key).unwrap();
        assert!(!conn.has_output() || conn.is_out_listed, "output that nobody sends");
        assert!(
            conn.closing.is_some() || conn.reading.is_publisher != conn.publishes.is_empty(),
            "a publisher is watched among the publishers"
        );
    }
}

pub(super) fn client_config(role: Role, stream: &str) -> ClientConfig {
    ClientConfig {
        app: "live".to_owned(),
        tc_url: "rtmp://localhost/live".to_owned(),
        stream: stream.to_owned(),
        role,
        flash_version: "test".to_owned(),
        digest: false,
        connect_properties: Vec::new(),
        connect_args: Vec::new(),
        chunk_size: 60_000,
        seed: 1,
    }
}

pub(super) struct Client {
    pub(super) socket: UnixStream,
    pub(super) session: ClientSession,
    pub(super) events: Vec<ClientEvent>,
    pub(super) is_closed: bool,
    /// Does not read.
    pub(super) is_stuck: bool,
    /// Where media goes that is not for the message stream of the session.
    stream: Option<u32>,
    out: VecDeque<u8>,
}

impl Client {
    fn new(socket: UnixStream, role: Role, stream: &str) -> Self {
        let session = ClientSession::new(client_config(role, stream));
        let mut out = Vec::new();
        session.start(&mut out);
        Self {
            socket,
            session,
            events: Vec::new(),
            is_closed: false,
            is_stuck: false,
            stream: None,
            out: out.into(),
        }
    }

    pub(super) fn pump(&mut self) {
        let mut buffer = vec![0; 1 << 16];
        while !self.is_stuck && !self.is_closed {
            let count = match self.socket.read(&mut buffer) {
                Ok(0) => {
                    self.is_closed = true;
                    break;
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.is_closed = true;
                    break;
                }
            };
            let mut bytes = &buffer[..count];
            loop {
                let mut out = Vec::new();
                let progress = self.session.input(bytes, &mut out).expect("well-formed RTMP");
                self.out.extend(out);
                bytes = &bytes[progress.consumed..];
                match progress.event {
                    Some(event) => self.events.push(event),
                    None => break,
                }
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        while !self.out.is_empty() {
            match self.socket.write(self.out.make_contiguous()) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(_) => return,
            }
        }
    }

    pub(super) fn publish(&mut self, type_id: u8, timestamp_ms: u32, payload: &[u8]) {
        let mut out = Vec::new();
        match self.stream {
            None => self.session.publish_media(type_id, timestamp_ms, payload, &mut out),
            Some(message_stream_id) => {
                let header =
                    MessageHeader { chunk_stream_id: 10, message_stream_id, type_id, timestamp_ms };
                let chunk_size = CHUNK_SIZE as usize;
                write_full(&header, payload, chunk_size, &mut |bytes| out.extend_from_slice(bytes));
            }
        }
        self.out.extend(out);
        self.flush();
    }

    /// Publishes on another message stream of the connection meanwhile.
    pub(super) fn on_stream(&mut self, id: u32, publish: impl FnOnce(&mut Self)) {
        self.stream = Some(id);
        publish(self);
        self.stream = None;
    }

    /// A video keyframe (or another video frame) with a number.
    pub(super) fn video(&mut self, is_key: bool, number: u32, len: usize) {
        let mut payload = vec![if is_key { 0x17 } else { 0x27 }, 1, 0, 0, 0];
        payload.extend(number.to_be_bytes());
        payload.resize(len.max(9), number as u8);
        self.publish(message::VIDEO, number * 40, &payload);
    }

    pub(super) fn video_header(&mut self, version: u8) {
        self.publish(message::VIDEO, 0, &[0x17, 0, 0, 0, 0, version]);
    }

    pub(super) fn close(&mut self) {
        let mut out = Vec::new();
        self.session.close(&mut out);
        self.out.extend(out);
        self.flush();
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.out.extend(bytes);
        self.flush();
    }

    /// A sound with a number.
    pub(super) fn audio(&mut self, number: u32) {
        let mut payload = vec![0xAF, 1];
        payload.extend(number.to_be_bytes());
        self.publish(message::AUDIO, number * 20, &payload);
    }

    pub(super) fn audio_header(&mut self, version: u8) {
        self.publish(message::AUDIO, 0, &[0xAF, 0, version]);
    }

    /// A command without a command object.
    pub(super) fn call(&mut self, stream: u32, name: &str, args: &[Value]) {
        // Not a chunk stream of the session's, whose headers lean on earlier ones.
        let header = MessageHeader {
            chunk_stream_id: 9,
            message_stream_id: stream,
            type_id: message::COMMAND_AMF0,
            timestamp_ms: 0,
        };
        let payload = command::encode(name, 0.0, &Value::Null, args);
        let mut out = Vec::new();
        let chunk_size = CHUNK_SIZE as usize;
        write_full(&header, &payload, chunk_size, &mut |bytes| out.extend_from_slice(bytes));
        self.send(&out);
    }

    /// A command with one boolean.
    pub(super) fn flag(&mut self, name: &str, value: bool) {
        self.call(1, name, &[Value::Boolean(value)]);
    }

    /// What came of the stream: `h` and the version for a header, the number of a frame; of sound `ah`
    /// and `a`.
    pub(super) fn media(&self) -> Vec<String> {
        self.messages().map(label).collect()
    }

    /// The same of one message stream.
    pub(super) fn media_of(&self, id: u32) -> Vec<String> {
        self.messages().filter(|message| message.message_stream_id == id).map(label).collect()
    }

    /// The audio, video and data messages that came.
    pub(super) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.events.iter().filter_map(|event| match event {
            ClientEvent::Message(message) => Some(message),
            _ => None,
        })
    }

    pub(super) fn has(&self, wanted: &str) -> bool {
        self.codes().iter().any(|code| code == wanted)
    }

    pub(super) fn codes(&self) -> Vec<String> {
        let codes = self.events.iter().filter_map(|event| match event {
            ClientEvent::Status { code, .. } | ClientEvent::Failed { code, .. } => {
                Some(code.clone())
            }
            ClientEvent::PublishStarted => Some("NetStream.Publish.Start".to_owned()),
            ClientEvent::PlayStarted => Some("NetStream.Play.Start".to_owned()),
            ClientEvent::StreamEof => Some("EOF".to_owned()),
            _ => None,
        });
        codes.collect()
    }
}

fn label(message: &Message) -> String {
    let body = &message.payload;
    match (message.type_id, body.get(1)) {
        (message::VIDEO, Some(0)) => format!("h{}", body[5]),
        (message::VIDEO, _) => {
            let number = u32::from_be_bytes(body[5..9].try_into().unwrap());
            assert!(body[9..].iter().all(|byte| *byte == number as u8), "a damaged frame");
            number.to_string()
        }
        (message::AUDIO, Some(0)) => format!("ah{}", body[2]),
        (message::AUDIO, _) => format!("a{}", u32::from_be_bytes(body[2..6].try_into().unwrap())),
        (kind, _) => format!("type {kind}"),
    }
}
