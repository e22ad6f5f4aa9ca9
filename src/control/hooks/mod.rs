//! HTTP hooks: who may connect, publish and play, and who is told what happened.
//!
//! A question that hooks judge comes from the registry after its rules, and goes back to it before
//! anything is claimed. Everything here runs on the control shard, in tasks of its own; a media shard
//! never waits for it.
//!
//! | file        | subject                                                                    |
//! |-------------|----------------------------------------------------------------------------|
//! | `event`     | one event, in no dialect                                                    |
//! | `nginx`, `srs` | the two dialects: requests out, verdicts in                              |
//! | `sessions`  | which events a connection has had, and still has to have                    |
//! | `judge`     | asking the gating hooks of one question, in order                           |
//! | `forward`   | asking where a published stream is to be sent on to                       |
//! | `message`   | asking about what clients of the push channel say                             |
//! | `update`    | asking from time to time whether a stream may go on                         |
//! | `tidings`   | the same events for those who listen to the API                             |
//! | `consult`   | one call of a hook that has a say, timed and counted                        |
//! | `delivery`  | end events: order, further attempts                                         |
//! | `client`    | the HTTP client: connections, caps, deadline                                |
//! | `seats`, `breaker`, `resolver`, `stats` | its parts                                      |
//! | `complaints` | at most so many log lines                                                  |

mod breaker;
mod client;
mod complaints;
mod consult;
mod delivery;
mod event;
mod forward;
mod judge;
mod message;
mod nginx;
mod resolver;
mod seats;
mod sessions;
mod srs;
mod stats;
mod tidings;
mod update;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Value, json};

use self::client::Client;
use self::complaints::{Complaint, Complaints};
use self::delivery::Deliveries;
use self::event::{Identity, Occurrence};
use self::sessions::Sessions;
pub(super) use self::stats::HookTotals;
use self::stats::Stats;
use super::events::Events;
use super::push::MessageToJudge;
use super::relays::RelayChange;
use super::settings::CurrentSettings;
use crate::config::{HookEvent, HookTarget};
use crate::limits;
use crate::media::Moment;
use crate::proto::push_message::PushBody;
use crate::rt::doorbell::Bell;
use crate::rt::executor::spawn_local;
use crate::session::{Ask, ClientId, Departure, Refusal, SendRefusal};
use crate::shard::{AskToken, ConnKey, Node};

/// The hooks of the server.
#[derive(Clone, Debug)]
pub(super) struct Hooks {
    shared: Rc<Shared>,
}

/// What the tasks share.
#[derive(Debug)]
struct Shared {
    settings: CurrentSettings,
    client: Client,
    sessions: RefCell<Sessions>,
    events: Events,
    deliveries: Deliveries,
    stats: RefCell<Stats>,
    complaints: RefCell<Complaints>,
    identity: Identity,
    results: RefCell<VecDeque<HookResult>>,
    /// Wakes the control shard's loop.
    bell: Bell,
}

/// What the control shard has to do.
#[derive(Debug)]
pub(super) enum HookResult {
    /// Let the registry go on with a question, as the hooks changed it.
    Accepted(AskToken, Box<Ask>),
    /// Refuse it.
    Refused(AskToken, Refusal),
    /// Ask the shard of a stream for its clock.
    Measure(AskToken),
    /// What becomes of a client's push message.
    Message {
        /// Who said it.
        client: ClientId,
        /// Pass it on, with another body if there is one, or not.
        verdict: Result<Option<PushBody>, SendRefusal>,
    },
    /// Close the connection.
    Close {
        /// Its shard.
        node: Node,
        /// Which.
        connection: ConnKey,
        /// For the client and the log.
        why: String,
    },
}

impl Hooks {
    pub(super) fn new(settings: &CurrentSettings, bell: Bell, events: &Events) -> Self {
        let mut random = [0; 16];
        if getrandom::fill(&mut random).is_err() {
            // Only tells starts apart.
            random[..8].copy_from_slice(&crate::rt::clock::now().as_nanos().to_le_bytes());
        }
        Self {
            shared: Rc::new(Shared {
                settings: settings.clone(),
                client: Client::default(),
                sessions: RefCell::default(),
                events: events.clone(),
                deliveries: Deliveries::default(),
                stats: RefCell::default(),
                complaints: RefCell::default(),
                identity: Identity::new(random),
                results: RefCell::default(),
                bell,
            }),
        }
    }

    /// A connection asks something; to be said before the registry is.
    pub(super) fn asked(&self, token: AskToken, ask: &Ask) {
        let settings = self.shared.settings.get();
        self.shared.sessions.borrow_mut().asked(token, ask, &settings);
    }

    /// Lets the hooks judge a question; the result comes from [`Hooks::take_results`].
    pub(super) fn judge(&self, token: AskToken, ask: Ask) {
        spawn_local(judge::run(Rc::clone(&self.shared), token, ask));
    }

    /// Lets the hooks judge a client's push message; the result comes from [`Hooks::take_results`].
    pub(super) fn judge_message(&self, message: MessageToJudge) {
        spawn_local(message::run(Rc::clone(&self.shared), message));
    }

    /// The last word on a question, which the shard is told next.
    pub(super) fn verdict(&self, token: AskToken, refusal: Option<&Refusal>, now: Moment) {
        let settings = self.shared.settings.get();
        let mut due = Vec::new();
        let is_accepted = refusal.is_none();
        tidings::verdict(&self.shared, token, refusal);
        let client = {
            let mut sessions = self.shared.sessions.borrow_mut();
            let client = sessions.client_of(token);
            sessions.verdict(token, is_accepted, now, &settings, &mut due);
            client
        };
        delivery::tell(&self.shared, due);
        if let Some(client) = client.filter(|_| is_accepted) {
            self.watch(token, client);
        }
    }

    /// A publish or play has ended.
    pub(super) fn ended(&self, client: ClientId, serial: u32) {
        let mut due = Vec::new();
        tidings::ended(&self.shared, client, serial);
        self.shared.sessions.borrow_mut().ended(client, serial, &mut due);
        delivery::tell(&self.shared, due);
    }

    /// A connection is gone.
    pub(super) fn closed(&self, gone: &Departure) {
        let mut due = Vec::new();
        let settings = self.shared.settings.get();
        tidings::closed(&self.shared, gone);
        self.shared.sessions.borrow_mut().closed(gone, &settings, &mut due);
        delivery::tell(&self.shared, due);
    }

    /// A relay has another state.
    pub(super) fn relay_changed(&self, change: &RelayChange) {
        tidings::relay(&self.shared, change);
        let name = &change.name;
        let plan = &self.shared.settings.get().app(name.vhost(), name.app(), name.instance()).hooks;
        if !plan.has(HookEvent::Relay) {
            return;
        }
        let (caller, subject) = event::of_relay(change);
        let mut sessions = self.shared.sessions.borrow_mut();
        let due = plan.targets(HookEvent::Relay).map(|target| {
            let (caller, subject) = (Arc::clone(&caller), subject.clone());
            let id = sessions.next_event();
            let event = HookEvent::Relay;
            (Occurrence { id, event, caller, subject }, Arc::clone(target))
        });
        let due: Vec<_> = due.collect();
        drop(sessions);
        // A target that comes and goes must not crowd out the events of clients.
        let waiting = self.shared.deliveries.waiting_for(change.client);
        if waiting >= limits::HOOK_RELAY_EVENTS_MAX && change.state != "stopped" {
            for event in &due {
                let why = "its relay has as many states that wait to be told as it may have";
                delivery::give_up(&self.shared, event, "queue_full", why);
            }
            return;
        }
        delivery::tell(&self.shared, due);
    }

    /// A shard has said how far a stream is.
    pub(super) fn measured(&self, token: AskToken, client: ClientId, timestamp_ms: u32) {
        spawn_local(update::tell(Rc::clone(&self.shared), token, client, timestamp_ms));
    }

    /// What is to be done.
    pub(super) fn take_results(&self) -> VecDeque<HookResult> {
        self.shared.results.take()
    }

    /// Whether something is to be done.
    pub(super) fn has_results(&self) -> bool {
        !self.shared.results.borrow().is_empty()
    }

    /// Reads the certificates of https hooks again.
    pub(super) fn reread_files(&self) {
        let shared = Rc::clone(&self.shared);
        spawn_local(async move { shared.client.reread_certificates().await });
    }

    /// The server ends: what is to be told is told, but not again.
    pub(super) fn end(&self) {
        self.shared.deliveries.end();
    }

    /// Whether everything is told, and nothing is asked that may have to be told of.
    pub(super) fn is_quiet(&self) -> bool {
        self.shared.deliveries.is_quiet() && self.shared.sessions.borrow().awaited() == 0
    }

    /// Names of the server and of this start, as the SRS dialect tells them.
    pub(super) fn identity(&self) -> (String, String) {
        let settings = self.shared.settings.get();
        let identity = &self.shared.identity;
        let given = Some(&settings.config.hooks.server_id).filter(|id| !id.is_empty());
        (given.unwrap_or(&identity.server).clone(), identity.service.clone())
    }

    /// The id of a stream in the SRS dialect, by its URL.
    pub(super) fn srs_stream_id(&self, url: &str) -> String {
        srs::digest(&self.identity().0, url)
    }

    /// Counts for metrics.
    pub(super) fn totals(&self) -> HookTotals {
        self.shared.stats.borrow().totals()
    }

    /// For the API.
    pub(super) fn to_json(&self) -> Value {
        let shared = &self.shared;
        let stats = shared.stats.borrow();
        let sessions = shared.sessions.borrow();
        json!({
            "hooks": stats.to_json(),
            "endpoints": shared.client.to_json(),
            "verdicts_awaited": sessions.awaited(),
            "sessions": sessions.len(),
            "events_waiting": shared.deliveries.waiting(),
            "events_given_up": stats.given_up,
        })
    }

    /// Arms the next update of a stream that was accepted.
    fn watch(&self, token: AskToken, client: ClientId) {
        let started = self.shared.sessions.borrow().started(client, token.serial);
        let Some((_, started)) = started else { return };
        let plan = &started.app.hooks;
        if let Some(interval) = plan.update_interval.filter(|_| plan.has(HookEvent::Update)) {
            spawn_local(update::wait(Rc::clone(&self.shared), token, client, interval));
        }
    }
}

impl Shared {
    /// See [`Complaints::admit`].
    fn complains(
        &self,
        complaint: Complaint,
        event: HookEvent,
        target: &HookTarget,
    ) -> Option<u64> {
        let now = crate::rt::clock::now();
        self.complaints.borrow_mut().admit(complaint, event, target, now)
    }

    fn result(&self, result: HookResult) {
        self.results.borrow_mut().push_back(result);
        self.bell.ring_if_asleep();
    }
}
