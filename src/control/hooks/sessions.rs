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
        let Departure { id, peer, since, is_http, bytes_in, bytes_out } = *gone;
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
        let Session { caller, app, has_connected, is_admitted, is_http, closed, .. } = session;
        let Some(subject) = closed else { return };
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
