//! Which events a connection has had, and so which it still has to have. No I/O and no clock.
//!
//! What must hold: a start event that was accepted has its end events exactly once, whatever becomes of
//! the connection, also when the client is gone before the verdict and when the name was lost after it;
//! a start event that was refused has none. The end of a connection comes last, once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::event::{Caller, Occurrence, StreamFacts, StreamKind, Subject};
use crate::config::{AppSettings, Dialect, HookEvent, HookTarget, Settings};
use crate::media::Moment;
use crate::proto::name::{DEFAULT_VHOST, StreamName};
use crate::rt::memory;
use crate::session::{Ask, ClientId, ClientInfo, Departure, Want};
use crate::shard::AskToken;

/// All connections that have something to be told of.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: HashMap<ClientId, Session>,
    /// Questions without a verdict.
    awaited: HashMap<AskToken, Awaited>,
    last_event: u64,
}

#[derive(Debug)]
struct Session {
    caller: Arc<Caller>,
    /// The app's settings, once the connection is in one.
    app: Option<Arc<AppSettings>>,
    /// Its connect command was read (HTTP: its request).
    has_connected: bool,
    /// Its connect was accepted.
    is_admitted: bool,
    is_http: bool,
    /// Questions without a verdict.
    awaited: usize,
    /// By the serial of the question.
    started: BTreeMap<u32, Started>,
    /// The connection is gone.
    closed: Option<Subject>,
}

/// A publish or play that goes on.
#[derive(Clone, Debug)]
pub(super) struct Started {
    pub(super) stream: Arc<StreamFacts>,
    pub(super) app: Arc<AppSettings>,
    pub(super) since: Moment,
}

#[derive(Debug)]
struct Awaited {
    client: ClientId,
    start: Option<(Arc<StreamFacts>, Arc<AppSettings>)>,
    /// Hooks were asked, and accepted.
    is_accepted: bool,
}

/// An event and the hook that is to be told of it.
pub(super) type Due = (Occurrence, Arc<HookTarget>);

impl Sessions {
    /// A number for the next event.
    pub(super) fn next_event(&mut self) -> u64 {
        self.last_event += 1;
        self.last_event
    }

    /// A connection asks something.
    pub(super) fn asked(&mut self, token: AskToken, ask: &Ask, settings: &Settings) {
        let id = ask.client.id;
        let start = facts(ask).map(|(facts, name)| {
            let app = settings.app(name.vhost(), name.app(), name.instance());
            (Arc::new(facts), app)
        });
        let is_http = matches!(ask.what, Want::Play { http: true, .. });
        let session = self.open.entry(id).or_insert_with(|| Session {
            caller: caller(ask),
            app: None,
            has_connected: true,
            is_admitted: false,
            is_http,
            awaited: 0,
            started: BTreeMap::new(),
            closed: None,
        });
        session.awaited += 1;
        if session.app.is_none() {
            let client = &ask.client;
            session.app = Some(settings.app(&client.vhost, &client.app, &client.instance));
        }
        self.awaited.insert(token, Awaited { client: id, start, is_accepted: false });
    }

    /// The hooks let the client be one of its application.
    pub(super) fn admitted(&mut self, id: ClientId) {
        if let Some(session) = self.open.get_mut(&id) {
            session.is_admitted = true;
        }
    }

    /// The hooks have accepted what was asked, perhaps under other names. Says whether the client is
    /// still there; when not, no claim may follow, and `due` has what is to be told.
    pub(super) fn accepted(
        &mut self,
        token: AskToken,
        ask: &Ask,
        settings: &Settings,
        due: &mut Vec<Due>,
    ) -> bool {
        let Some(awaited) = self.awaited.get_mut(&token) else { return false };
        awaited.is_accepted = true;
        if let Some((facts, name)) = facts(ask) {
            let app = settings.app(name.vhost(), name.app(), name.instance());
            awaited.start = Some((Arc::new(facts), app));
        }
        let Some(session) = self.open.get_mut(&awaited.client) else { return false };
        session.caller = caller(ask);
        let client = &ask.client;
        session.app = Some(settings.app(&client.vhost, &client.app, &client.instance));
        if session.closed.is_none() {
            return true;
        }
        self.verdict(token, false, ask.since, settings, due);
        false
    }

    /// The last word on a question.
    pub(super) fn verdict(
        &mut self,
        token: AskToken,
        is_accepted: bool,
        now: Moment,
        settings: &Settings,
        due: &mut Vec<Due>,
    ) {
        let Some(awaited) = self.awaited.remove(&token) else { return };
        let Some(session) = self.open.get_mut(&awaited.client) else { return };
        session.awaited -= 1;
        // Without hooks nobody else has said so.
        session.is_admitted |= is_accepted;
        if let Some((stream, app)) = awaited.start {
            if is_accepted {
                let started = Started { stream, app, since: now };
                session.started.insert(token.serial, started);
            } else if awaited.is_accepted {
                end(&session.caller, &stream, &app, due);
            }
        }
        if session.closed.is_some() {
            self.finish(awaited.client, settings, due);
        }
        self.number(due);
    }

    /// A publish or play has ended, and the connection goes on.
    pub(super) fn ended(&mut self, id: ClientId, serial: u32, due: &mut Vec<Due>) {
        let Some(session) = self.open.get_mut(&id) else { return };
        if let Some(Started { stream, app, .. }) = session.started.remove(&serial) {
            end(&session.caller, &stream, &app, due);
        }
        self.number(due);
    }

    /// A connection is gone.
    pub(super) fn closed(&mut self, gone: &Departure, settings: &Settings, due: &mut Vec<Due>) {
        let Departure { id, peer, since, is_http, is_relay, bytes_in, bytes_out } = *gone;
        // A relay is no client that connects; of what it fetched, the end is told as of any publisher.
        if is_relay && !self.open.contains_key(&id) {
            return;
        }
        let session = self.open.entry(id).or_insert_with(|| {
            // It has never said what it wants.
            let vhost = DEFAULT_VHOST.to_owned();
            let info = Arc::new(ClientInfo { id, vhost, ..ClientInfo::default() });
            let address = peer.ip().to_canonical();
            Session {
                caller: Arc::new(Caller { info, address, epoch_ms: epoch_ms(since) }),
                app: None,
                has_connected: false,
                is_admitted: false,
                is_http,
                awaited: 0,
                started: BTreeMap::new(),
                closed: None,
            }
        });
        session.closed = Some(Subject::Connection { bytes_in, bytes_out });
        self.finish(id, settings, due);
        self.number(due);
    }

    /// A publish or play, while it goes on.
    pub(super) fn started(&self, id: ClientId, serial: u32) -> Option<(Arc<Caller>, Started)> {
        let session = self.open.get(&id)?;
        let started = session.started.get(&serial)?;
        Some((Arc::clone(&session.caller), started.clone()))
    }

    /// Whose question this is, and about which stream, while the client is there.
    pub(super) fn question(
        &self,
        token: AskToken,
    ) -> Option<(Arc<Caller>, Option<Arc<StreamFacts>>)> {
        let awaited = self.awaited.get(&token)?;
        let session = self.open.get(&awaited.client).filter(|session| session.closed.is_none())?;
        let stream = awaited.start.as_ref().map(|(stream, _)| Arc::clone(stream));
        Some((Arc::clone(&session.caller), stream))
    }

    /// A connection, and what it publishes and plays.
    pub(super) fn running(&self, id: ClientId) -> Option<(Arc<Caller>, Vec<Arc<StreamFacts>>)> {
        let session = self.open.get(&id)?;
        let streams = session.started.values().map(|started| Arc::clone(&started.stream));
        Some((Arc::clone(&session.caller), streams.collect()))
    }

    /// Whose question this is.
    pub(super) fn client_of(&self, token: AskToken) -> Option<ClientId> {
        self.awaited.get(&token).map(|awaited| awaited.client)
    }

    /// Connections that are known.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Questions without a verdict.
    pub(super) fn awaited(&self) -> usize {
        self.awaited.len()
    }

    /// The connection is gone: what it had started ends; when no verdict is awaited any more, so does
    /// the connection.
    fn finish(&mut self, id: ClientId, settings: &Settings, due: &mut Vec<Due>) {
        let Some(session) = self.open.get_mut(&id) else { return };
        for (_, Started { stream, app, .. }) in std::mem::take(&mut session.started) {
            end(&session.caller, &stream, &app, due);
        }
        if session.awaited > 0 {
            return;
        }
        let Some(session) = self.open.remove(&id) else { return };
        memory::shrink_left(&mut self.open);
        let Session { caller, app, has_connected, is_admitted, is_http, closed, .. } = session;
        let Some(subject) = closed else { return };
        // A relay has not connected as a client does.
        if caller.info.is_relay {
            return;
        }
        // nginx-rtmp knows nothing of a client whose connect was refused.
        let unknown = Arc::new(Caller {
            info: Arc::new(ClientInfo { id, ..ClientInfo::default() }),
            ..(*caller).clone()
        });
        let connections = settings.connection_hooks(&caller.info.vhost);
        for event in [HookEvent::Close, HookEvent::Disconnect] {
            let of_app = app.iter().flat_map(|app| app.hooks.targets(event));
            for target in connections.targets(event).chain(of_app) {
                // SRS tells the end of RTMP connections whose connect it has read, nginx-rtmp of all;
                // over HTTP there is a connection for nginx's dialect only.
                let is_told = match target.dialect {
                    Dialect::Srs => has_connected && !is_http,
                    Dialect::Nginx => has_connected || !is_http,
                };
                if is_told {
                    let is_known = is_admitted || target.dialect == Dialect::Srs;
                    let caller = Arc::clone(if is_known { &caller } else { &unknown });
                    let subject = subject.clone();
                    let occurrence = Occurrence { id: 0, event, caller, subject };
                    due.push((occurrence, Arc::clone(target)));
                }
            }
        }
    }

    /// Numbers the new ones among the events.
    fn number(&mut self, due: &mut [Due]) {
        for (occurrence, _) in due.iter_mut().filter(|(occurrence, _)| occurrence.id == 0) {
            self.last_event += 1;
            occurrence.id = self.last_event;
        }
    }
}

/// The end events of a stream.
fn end(caller: &Arc<Caller>, stream: &Arc<StreamFacts>, app: &AppSettings, due: &mut Vec<Due>) {
    let events = match stream.kind {
        StreamKind::Publish { .. } => {
            [HookEvent::Unpublish, HookEvent::PublishDone, HookEvent::Done]
        }
        StreamKind::Play { .. } => [HookEvent::Stop, HookEvent::PlayDone, HookEvent::Done],
    };
    for event in events {
        for target in app.hooks.targets(event) {
            due.push((
                Occurrence {
                    id: 0,
                    event,
                    caller: Arc::clone(caller),
                    subject: Subject::Stream(Arc::clone(stream)),
                },
                Arc::clone(target),
            ));
        }
    }
}

/// The connection of a question.
pub(super) fn caller(ask: &Ask) -> Arc<Caller> {
    Arc::new(Caller {
        info: Arc::clone(&ask.client),
        address: ask.peer.ip().to_canonical(),
        epoch_ms: epoch_ms(ask.since),
    })
}

/// The stream that a question is about.
pub(super) fn facts(ask: &Ask) -> Option<(StreamFacts, &StreamName)> {
    match &ask.what {
        Want::Connect => None,
        Want::Publish { name, sent, kind, args } => {
            let kind = StreamKind::Publish { publish_type: kind.clone() };
            Some((StreamFacts { name: sent.clone(), args: args.clone(), kind }, name))
        }
        Want::Play { name, sent, range, args, .. } => {
            let kind = StreamKind::Play {
                start: range.start,
                duration: range.duration,
                reset: range.reset,
            };
            Some((StreamFacts { name: sent.clone(), args: args.clone(), kind }, name))
        }
    }
}

fn epoch_ms(at: Moment) -> u32 {
    (at.as_nanos() / 1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Sources;
    use crate::session::{PlayRange, RelayWishes};
    use crate::shard::ConnKey;

    const ALL: &str = "[hooks]\non_disconnect = \"http://h/\"\non_publish = \"http://h/\"\n\
        on_publish_done = \"http://h/\"\non_play_done = \"http://h/\"\non_done = \"http://h/\"\n";

    struct World {
        sessions: Sessions,
        settings: Settings,
        due: Vec<Due>,
    }

    fn world(toml: &str) -> World {
        let file = Some(("test.toml".to_owned(), toml.to_owned()));
        let sources = Sources { file, environment: Vec::new(), set: Vec::new() };
        let settings = Settings::load(&sources).unwrap_or_else(|errors| panic!("{errors:?}"));
        World { sessions: Sessions::default(), settings, due: Vec::new() }
    }

    fn token(client: u32, serial: u32) -> AskToken {
        AskToken { node: 0, connection: ConnKey { slot: client, generation: 0 }, serial }
    }

    fn ask(client: u32, publishes: bool) -> Ask {
        let info = ClientInfo {
            id: ClientId(u64::from(client)),
            vhost: DEFAULT_VHOST.to_owned(),
            app: "live".to_owned(),
            app_text: "live".to_owned(),
            ..ClientInfo::default()
        };
        let name = StreamName::new(DEFAULT_VHOST, "live", "", "s").unwrap();
        let (sent, args) = ("s".to_owned(), String::new());
        let what = if publishes {
            Want::Publish { name, sent, kind: "live".to_owned(), args }
        } else {
            Want::Play { name, sent, range: PlayRange::default(), args, http: false }
        };
        let peer = "192.0.2.1:1".parse().unwrap();
        let wishes = RelayWishes::default();
        Ask { peer, since: Moment::ZERO, client: Arc::new(info), what, wishes, may_move: false }
    }

    impl World {
        fn asked(&mut self, client: u32, serial: u32, publishes: bool) {
            let (token, ask) = (token(client, serial), ask(client, publishes));
            self.sessions.asked(token, &ask, &self.settings);
        }

        fn accepted(&mut self, client: u32, serial: u32, publishes: bool) -> bool {
            let (token, ask) = (token(client, serial), ask(client, publishes));
            self.sessions.accepted(token, &ask, &self.settings, &mut self.due)
        }

        fn verdict(&mut self, client: u32, serial: u32, is_accepted: bool) {
            let token = token(client, serial);
            let (settings, due) = (&self.settings, &mut self.due);
            self.sessions.verdict(token, is_accepted, Moment::ZERO, settings, due);
        }

        fn closed(&mut self, client: u32) {
            let departure = Departure {
                id: ClientId(u64::from(client)),
                peer: "192.0.2.1:1".parse().unwrap(),
                since: Moment::ZERO,
                is_http: false,
                is_relay: false,
                bytes_in: 0,
                bytes_out: 0,
            };
            self.sessions.closed(&departure, &self.settings, &mut self.due);
        }

        fn told(&mut self) -> Vec<&'static str> {
            self.due.drain(..).map(|(occurrence, _)| occurrence.event.key()).collect()
        }
    }

    #[test]
    fn what_was_accepted_ends_once_and_before_its_connection() {
        let mut world = world(ALL);
        world.asked(1, 0, true);
        assert!(world.accepted(1, 0, true));
        world.verdict(1, 0, true);
        assert_eq!(world.told(), [] as [&str; 0]);
        world.closed(1);
        assert_eq!(world.told(), ["on_publish_done", "on_done", "on_disconnect"]);
        world.sessions.ended(ClientId(1), 0, &mut world.due);
        assert_eq!(world.told(), [] as [&str; 0]);
        assert_eq!((world.sessions.len(), world.sessions.awaited()), (0, 0));
    }

    #[test]
    fn a_client_that_goes_before_the_verdict_has_its_end_after_it() {
        for accepts in [true, false] {
            let mut world = world(ALL);
            world.asked(1, 0, true);
            world.closed(1);
            assert_eq!(world.told(), [] as [&str; 0], "a verdict is awaited");
            if accepts {
                assert!(!world.accepted(1, 0, true), "no claim may follow");
                assert_eq!(world.told(), ["on_publish_done", "on_done", "on_disconnect"]);
            } else {
                world.verdict(1, 0, false);
                assert_eq!(world.told(), ["on_disconnect"]);
            }
            assert_eq!((world.sessions.len(), world.sessions.awaited()), (0, 0));
        }
    }

    #[test]
    fn a_name_that_is_lost_after_the_verdict_ends_what_was_accepted() {
        let mut world = world(ALL);
        world.asked(1, 0, true);
        assert!(world.accepted(1, 0, true));
        world.verdict(1, 0, false);
        assert_eq!(world.told(), ["on_publish_done", "on_done"]);
        world.closed(1);
        assert_eq!(world.told(), ["on_disconnect"]);
    }

    #[test]
    fn a_relay_has_ends_of_streams_and_none_of_a_connection() {
        let mut world = world(ALL);
        let mut asked = ask(1, true);
        Arc::make_mut(&mut asked.client).is_relay = true;
        let token = token(1, 0);
        world.sessions.asked(token, &asked, &world.settings);
        assert!(world.sessions.accepted(token, &asked, &world.settings, &mut world.due));
        world.verdict(1, 0, true);
        world.closed(1);
        assert_eq!(world.told(), ["on_publish_done", "on_done"]);
        assert_eq!(world.sessions.len(), 0);
    }

    /// What may happen to one of two connections.
    #[derive(Clone, Debug)]
    enum Step {
        Ask { client: u32, publishes: bool },
        Judge { at: usize, accepts: bool },
        Answer { at: usize, accepts: bool },
        End { client: u32 },
        Close { client: u32 },
    }

    fn step() -> impl Strategy<Value = Step> {
        let client = 1..3_u32;
        prop_oneof![
            (client.clone(), any::<bool>())
                .prop_map(|(client, publishes)| Step::Ask { client, publishes }),
            (0..8_usize, any::<bool>()).prop_map(|(at, accepts)| Step::Judge { at, accepts }),
            (0..8_usize, any::<bool>()).prop_map(|(at, accepts)| Step::Answer { at, accepts }),
            client.clone().prop_map(|client| Step::End { client }),
            client.prop_map(|client| Step::Close { client }),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: accepted starts and ends pair, one to one.
        #[test]
        fn starts_and_ends_pair(steps in proptest::collection::vec(step(), 0..60)) {
            let mut world = world(ALL);
            let mut open = [true; 3];
            // Questions by their state: to be judged, to be answered, running.
            let (mut asked, mut judged, mut running) = (Vec::new(), Vec::new(), Vec::new());
            let (mut starts, mut serial) = (0, 0);
            for step in steps {
                match step {
                    Step::Ask { client, publishes } if open[client as usize] => {
                        serial += 1;
                        world.asked(client, serial, publishes);
                        asked.push((client, serial, publishes));
                    }
                    Step::Judge { at, accepts } if at < asked.len() => {
                        let (client, serial, publishes) = asked.remove(at);
                        if !accepts {
                            world.verdict(client, serial, false);
                            continue;
                        }
                        starts += 1;
                        let is_there = world.accepted(client, serial, publishes);
                        prop_assert_eq!(is_there, open[client as usize]);
                        if is_there {
                            judged.push((client, serial));
                        }
                    }
                    Step::Answer { at, accepts } if at < judged.len() => {
                        let (client, serial) = judged.remove(at);
                        world.verdict(client, serial, accepts);
                        if accepts && open[client as usize] {
                            running.push((client, serial));
                        }
                    }
                    Step::End { client } => {
                        if let Some(at) = running.iter().position(|(of, _)| *of == client) {
                            let (_, serial) = running.remove(at);
                            world.sessions.ended(ClientId(client.into()), serial, &mut world.due);
                        }
                    }
                    Step::Close { client } if open[client as usize] => {
                        open[client as usize] = false;
                        running.retain(|(of, _)| *of != client);
                        world.closed(client);
                    }
                    _ => {}
                }
            }
            for client in [1, 2] {
                if open[client as usize] {
                    world.closed(client);
                }
            }
            for (client, serial, _) in asked {
                world.verdict(client, serial, false);
            }
            for (client, serial) in judged {
                world.verdict(client, serial, true);
            }
            prop_assert_eq!((world.sessions.len(), world.sessions.awaited()), (0, 0));
            let ids: std::collections::HashSet<u64> =
                world.due.iter().map(|(occurrence, _)| occurrence.id).collect();
            prop_assert_eq!(ids.len(), world.due.len(), "each event has a number of its own");
            let told = world.told();
            let count = |key: &str| told.iter().filter(|it| **it == key).count();
            prop_assert_eq!(count("on_publish_done") + count("on_play_done"), starts);
            prop_assert_eq!(count("on_done"), starts);
            prop_assert_eq!(count("on_disconnect"), 2);
        }
    }
}
