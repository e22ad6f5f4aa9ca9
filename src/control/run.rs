//! The control shard's executor: notices in, notices out, deadlines, signals.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::api::{Api, ApiListener, ApiParts};
use super::cluster::{Cluster, Parts};
use super::events::Events;
use super::hooks::{HookResult, Hooks};
use super::orders::Orders;
use super::push::{MessageToJudge, Push, Router, unix_s};
use super::registry::Registry;
use super::relays::Relays;
use super::reports::Reports;
use super::rooms::Rooms;
use super::settings::CurrentSettings;
use crate::config::Settings;
use crate::logging::LogLosses;
use crate::media::Moment;
use crate::rt::clock;
use crate::rt::event_fd::EventFd;
use crate::rt::executor::sleep;
use crate::rt::memory::Crowd;
use crate::rt::mesh::{Inbox, MeshEnd};
use crate::rt::waiter::Waiter;
use crate::session::{Ask, Refusal, RefusalReason, Verdict};
use crate::shard::{AcceptCounters, AskToken, Envelope, Node, Notice, Outbox, ShardLoad};

/// Work without a pause for so long is interrupted, so that the API's tasks and the timers get their
/// turn: the executor looks at its rings when nothing is ready.
const SLICE: Duration = Duration::from_millis(1);
/// The pause.
const PAUSE: Duration = Duration::from_micros(100);
/// How soon a full lane is tried again.
const LANE_RETRY: Duration = Duration::from_millis(1);

/// Between two lines about how far the draining is.
const DRAIN_LINE_INTERVAL: Duration = Duration::from_secs(1);
/// The shards have this much less time to drain than the server.
const SHARDS_EARLIER: Duration = Duration::from_millis(200);

/// What other threads tell the control shard.
#[derive(Clone, Debug)]
pub enum ControlEvent {
    /// Stop taking connections, tell the clients, close.
    Drain,
    /// These settings hold from now on.
    Reload(Arc<Settings>),
    /// Files that the settings name may have changed.
    RereadFiles,
}

/// What the control shard is made of; sent to its thread.
#[derive(Debug)]
pub struct ControlPlan {
    /// The server's settings.
    pub settings: Arc<Settings>,
    /// Its end of the mesh: the last node.
    pub mesh: MeshEnd<Box<Envelope>>,
    /// Events of other threads.
    pub events: Inbox<ControlEvent>,
    /// Stops the acceptor.
    pub stop_accepting: Arc<EventFd>,
    /// How busy the shards are.
    pub loads: Vec<Arc<ShardLoad>>,
    /// The acceptor's counts.
    pub accepted: Arc<AcceptCounters>,
    /// Counts of the logs.
    pub log_losses: LogLosses,
    /// Open listening sockets of the API.
    pub api: Vec<ApiListener>,
}

struct Control {
    settings: CurrentSettings,
    registry: Rc<RefCell<Registry>>,
    rooms: Rc<RefCell<Rooms>>,
    push: Push,
    mesh: MeshEnd<Box<Envelope>>,
    outbox: Outbox,
    hooks: Hooks,
    happenings: Events,
    relays: Rc<RefCell<Relays>>,
    cluster: Rc<RefCell<Option<Cluster>>>,
    reports: Reports,
    orders: Orders,
    shards: usize,
    loads: Vec<Arc<ShardLoad>>,
    open: Arc<AtomicUsize>,
    draining: Option<Draining>,
    drained: usize,
}

/// How the server ends.
#[derive(Clone, Copy, Debug)]
struct Draining {
    /// Nobody is waited for any longer.
    until: Moment,
    next_line: Moment,
    /// The rooms are closed, unless that is done.
    rooms_end: Option<Moment>,
}

impl Draining {
    fn next(self) -> Moment {
        let next = self.next_line.min(self.until);
        self.rooms_end.map_or(next, |end| end.min(next))
    }
}

/// Runs the control shard on the executor of the calling thread, until the shards are drained or the
/// time for that is up.
pub async fn run(plan: ControlPlan) -> io::Result<()> {
    let nodes = plan.mesh.nodes();
    let shards = nodes - 1;
    let registry = Rc::new(RefCell::new(Registry::new(Arc::clone(&plan.settings))));
    let reports = Reports::new(shards, plan.mesh.doorbell().bell());
    let settings = CurrentSettings::new(Arc::clone(&plan.settings));
    let happenings = Events::new();
    let hooks = Hooks::new(&settings, plan.mesh.doorbell().bell(), &happenings);
    let doorbell = plan.mesh.doorbell();
    let relays = Relays::new(&settings, doorbell, &plan.accepted.open, shards);
    let relays = Rc::new(RefCell::new(relays));
    let mut first = Vec::new();
    relays.borrow_mut().fetch_static(clock::now(), &mut first);
    let cluster = Cluster::new(&settings, doorbell, clock::now()).map_err(io::Error::other)?;
    let cluster = Rc::new(RefCell::new(cluster));
    let rooms =
        Rooms::new(&plan.settings.signalling, plan.mesh.doorbell()).map_err(io::Error::other)?;
    let rooms = Rc::new(RefCell::new(rooms));
    let push = Push::new(&plan.settings, plan.mesh.doorbell().bell());
    let orders = Orders::new(plan.mesh.doorbell().bell());
    let api = Api::new(ApiParts {
        settings: settings.clone(),
        registry: Rc::clone(&registry),
        rooms: Rc::clone(&rooms),
        push: push.clone(),
        reports: reports.clone(),
        orders: orders.clone(),
        hooks: hooks.clone(),
        events: happenings.clone(),
        relays: Rc::clone(&relays),
        cluster: Rc::clone(&cluster),
        accepted: Arc::clone(&plan.accepted),
        log_losses: plan.log_losses,
    });
    for listener in plan.api {
        api.serve(listener);
    }
    let mut waiter = Waiter::new(plan.mesh.doorbell())?;
    let mut control = Control {
        settings,
        registry,
        rooms,
        push,
        mesh: plan.mesh,
        outbox: Outbox::new(nodes),
        hooks,
        happenings,
        relays,
        cluster,
        reports,
        orders,
        shards,
        loads: plan.loads,
        open: Arc::clone(&plan.accepted.open),
        draining: None,
        drained: 0,
    };
    control.say(first, clock::now());
    let mut working_since = clock::now();
    let mut crowd = Crowd::default();
    loop {
        let now = clock::now();
        while let Some(event) = plan.events.try_recv() {
            match event {
                ControlEvent::Drain => {
                    plan.stop_accepting.write();
                    api.drain();
                    control.drain(now);
                }
                ControlEvent::Reload(settings) => control.reload(settings, now),
                ControlEvent::RereadFiles => control.hooks.reread_files(),
            }
        }
        control.turn(now);
        // Of a client the shards allocate some, this thread some, and the other side frees it.
        crowd.is_now(control.open.load(Ordering::Relaxed), now);
        if control.is_at_end(now) {
            return Ok(());
        }
        let has_more = || {
            plan.events.has_pending()
                || control.reports.has_request()
                || !control.orders.is_empty()
                || control.hooks.has_results()
                || control.relays.borrow().has_results()
                || control.rooms.borrow().has_events()
                || control.push.with(|router| router.has_outgoing())
                || control.cluster_has_work()
        };
        if !control.outbox.is_empty() {
            sleep(LANE_RETRY).await;
            working_since = clock::now();
        } else if control.mesh.prepare_sleep_with(has_more) {
            let deadline = control.registry.borrow().next_deadline();
            let lines = control.draining.map(Draining::next);
            let rooms = control.rooms.borrow().next_deadline();
            let relays = control.relays.borrow().next_deadline();
            let cluster = control.cluster_deadline();
            let dues = [deadline, rooms, relays, cluster, lines, crowd.next()];
            let until = dues.into_iter().flatten().min();
            waiter.wait(until).await;
            control.mesh.awake();
            control.mesh.drain_doorbell();
            working_since = clock::now();
        } else if clock::now().since(working_since) >= SLICE {
            sleep(PAUSE).await;
            working_since = clock::now();
        }
    }
}

impl Control {
    fn turn(&mut self, now: Moment) {
        for node in 0..self.shards {
            while let Some(envelope) = self.mesh.try_recv(node) {
                for notice in envelope.notices {
                    self.notice(node, notice, now);
                }
            }
        }
        let mut out = Vec::new();
        self.registry.borrow_mut().tick(now, &mut out);
        self.relay(now, &mut out);
        self.say(out, now);
        for result in self.hooks.take_results() {
            self.hook_result(result, now);
        }
        self.cluster(now);
        self.judge();
        self.rooms(now);
        for (node, notice) in self.push.with(Router::take_outgoing) {
            self.outbox.notice(node, notice);
        }
        for (node, notice) in self.orders.take() {
            self.outbox.notice(node, notice);
        }
        if let Some(order) = self.reports.take_request() {
            for shard in 0..self.shards {
                self.outbox.notice(shard, Notice::Survey(order));
            }
        }
        // The control shard sends no media, so there are no gaps.
        self.outbox.hand_over(&self.mesh, &mut Vec::new());
    }

    /// A connection asks for something.
    fn ask(
        &self,
        token: AskToken,
        mut ask: Box<Ask>,
        registry: &mut Registry,
        now: Moment,
        out: &mut Vec<(Node, Notice)>,
    ) {
        // Before anybody else hears of it: it is asked again from there.
        if let Some((node, place)) = registry.nearer(token, &ask)
            && self.loads[node].has_room_beside(&self.loads[token.node])
        {
            out.push((token.node, Notice::AskNearer { token, node, ask, place }));
            return;
        }
        let mut cluster = self.cluster.borrow_mut();
        let admitted = match cluster.as_mut() {
            Some(cluster) => cluster.admit(&mut ask, registry, now),
            None => Ok(None),
        };
        let is_client = ask.is_of_client();
        if is_client {
            self.hooks.asked(token, &ask);
        }
        let check = |router: &mut Router| router.check(token, &ask, unix_s());
        let checked = admitted.and_then(|epoch| {
            let refusal = if is_client { self.push.with(check) } else { None };
            refusal.map_or(Ok(epoch), Err)
        });
        match checked {
            Err(refusal) => {
                let verdict = Box::new(Verdict::Refuse(refusal));
                out.push((token.node, Notice::Verdict(token, verdict)));
            }
            Ok(epoch) => {
                registry.ask(token, &ask, now, out);
                if let (Some(cluster), Some(epoch)) = (cluster.as_mut(), epoch) {
                    cluster.admitted(token, &ask, epoch, out);
                }
            }
        }
    }

    fn notice(&mut self, from: Node, notice: Notice, now: Moment) {
        let mut out = Vec::new();
        {
            let mut registry = self.registry.borrow_mut();
            match notice {
                Notice::PushJoin(token, _) if self.draining.is_some() => {
                    let refusal =
                        Refusal::new(RefusalReason::Draining, "the server is shutting down");
                    out.push((from, Notice::Verdict(token, Box::new(Verdict::Refuse(refusal)))));
                }
                Notice::Ask(token, ask) => self.ask(token, ask, &mut registry, now, &mut out),
                Notice::PushJoin(token, ask) => {
                    let verdict =
                        self.push.with(|router| router.subscribe(token, &ask, now, unix_s()));
                    out.push((from, Notice::Verdict(token, Box::new(verdict))));
                }
                Notice::PushLeft(client) => self.push.with(|router| router.left(client)),
                Notice::PushSend { connection, client, channel, body } => {
                    let to_judge = self.push.with(|router| {
                        router.client_send(from, connection, client, channel, body, now)
                    });
                    self.judge_message(to_judge);
                }
                Notice::StreamEnded { client, serial } => self.hooks.ended(client, serial),
                Notice::Gone(mut gone) => {
                    if let Some(cluster) = self.cluster.borrow_mut().as_mut() {
                        cluster.gone(&mut gone);
                    }
                    self.push.with(|router| router.gone(gone.id));
                    self.hooks.closed(&gone);
                }
                Notice::Measured { token, client, timestamp_ms } => {
                    self.hooks.measured(token, client, timestamp_ms);
                }
                Notice::Withdrawn(token) => {
                    let mut is_last_word = registry.withdrawn(token);
                    if let Some(cluster) = self.cluster.borrow_mut().as_mut() {
                        is_last_word |= cluster.withdrawn(token, &registry);
                    }
                    if is_last_word {
                        let why = "the client has given it up";
                        let refusal = Refusal::new(RefusalReason::Unavailable, why);
                        self.hooks.verdict(token, Some(&refusal), now);
                    }
                }
                Notice::Disconnected(client) => registry.disconnected(&client),
                Notice::PublishStarted { stream, epoch } => {
                    registry.publish_started(stream, epoch, &mut out);
                }
                Notice::PublishEnded { stream, epoch, goodbye, resume } => {
                    registry.publish_ended(stream, epoch, goodbye, resume, now, &mut out);
                }
                Notice::LeftStream { stream, grants } => {
                    registry.left_stream(from, stream, grants);
                }
                Notice::Silence { stream, epoch, silent_for } => {
                    registry.silence(stream, epoch, silent_for, now, &mut out);
                }
                Notice::RelayNews(relay, news) => {
                    let mut relays = self.relays.borrow_mut();
                    relays.news(relay, *news, &registry, now, &mut out);
                }
                Notice::Report(report) => self.reports.answer(*report),
                notice @ (Notice::RoomOpened { .. }
                | Notice::RoomText { .. }
                | Notice::RoomTextsDropped(_)
                | Notice::RoomGone(_)) => self.rooms.borrow_mut().notice(from, notice, now),
                Notice::Drained => self.drained += 1,
                _ => debug_assert!(false, "a notice for a media shard"),
            }
        }
        self.say(out, now);
    }

    /// Relays hear of what has become of streams, and do what is due.
    fn relay(&self, now: Moment, out: &mut Vec<(Node, Notice)>) {
        let mut registry = self.registry.borrow_mut();
        let mut relays = self.relays.borrow_mut();
        let mut cluster = self.cluster.borrow_mut();
        for event in registry.take_events() {
            relays.stream_event(&event, now, out);
            if let Some(cluster) = cluster.as_mut() {
                cluster.stream_event(&event, &registry, &mut relays, out);
            }
        }
        relays.tick(&registry, now, out);
        for change in relays.take_changes() {
            self.hooks.relay_changed(&change);
        }
    }

    fn say(&mut self, out: Vec<(Node, Notice)>, now: Moment) {
        if out.is_empty() {
            return;
        }
        self.push.with(|router| {
            for (node, mut notice) in out {
                if let Notice::Verdict(token, verdict) = &notice {
                    let refusal = match &**verdict {
                        Verdict::Accept(_) => None,
                        Verdict::Refuse(refusal) => Some(refusal),
                    };
                    self.hooks.verdict(*token, refusal, now);
                    if let Some(cluster) = self.cluster.borrow_mut().as_mut() {
                        cluster.answered(*token, &self.registry.borrow());
                    }
                }
                if let (Notice::Relay(new), Some(cluster)) =
                    (&mut notice, self.cluster.borrow().as_ref())
                {
                    cluster.sign(&mut new.order);
                }
                // Whatever was posted before a verdict is said before it.
                for (node, notice) in router.take_outgoing() {
                    self.outbox.notice(node, notice);
                }
                if let Notice::Verdict(token, verdict) = &mut notice {
                    router.attach(*token, verdict);
                }
                self.outbox.notice(node, notice);
            }
        });
    }

    /// Lets the node do its part in the cluster.
    fn cluster(&mut self, now: Moment) {
        let mut out = Vec::new();
        if let Some(cluster) = self.cluster.borrow_mut().as_mut() {
            let mut parts = Parts {
                registry: &mut self.registry.borrow_mut(),
                relays: &mut self.relays.borrow_mut(),
                push: &self.push,
                events: &self.happenings,
            };
            cluster.turn(&mut parts, now, &mut out);
        }
        self.say(out, now);
    }

    fn cluster_deadline(&self) -> Option<Moment> {
        self.cluster.borrow().as_ref().and_then(|cluster| cluster.next_deadline(clock::now()))
    }

    fn cluster_has_work(&self) -> bool {
        self.cluster.borrow().as_ref().is_some_and(|cluster| {
            let may_forward = cluster.takes_forwards();
            cluster.has_events() || (may_forward && self.push.with(|router| router.has_forwards()))
        })
    }

    /// Lets the rooms do what is due, and says what they have to say.
    fn rooms(&mut self, now: Moment) {
        let mut rooms = self.rooms.borrow_mut();
        rooms.tick(now);
        if let Some(draining) = &mut self.draining
            && draining.rooms_end.is_some_and(|end| end <= now)
        {
            draining.rooms_end = None;
            rooms.end(now);
        }
        for (node, notice) in rooms.take_outgoing() {
            self.outbox.notice(node, notice);
        }
    }

    /// Gives the hooks what they have to judge.
    fn judge(&self) {
        for (token, ask) in self.registry.borrow_mut().take_unjudged() {
            self.hooks.judge(token, ask);
        }
    }

    /// Asks the hook about a message of a client.
    fn judge_message(&self, message: Option<MessageToJudge>) {
        if let Some(message) = message {
            self.hooks.judge_message(message);
        }
    }

    fn hook_result(&mut self, result: HookResult, now: Moment) {
        let mut out = Vec::new();
        match result {
            HookResult::Accepted(token, ask) => {
                self.registry.borrow_mut().judged(token, &ask, now, &mut out);
            }
            HookResult::Refused(token, refusal) => {
                self.registry.borrow_mut().refused(token, refusal, &mut out);
            }
            HookResult::Measure(token) => out.push((token.node, Notice::Measure(token))),
            HookResult::Message { client, verdict } => {
                let next = self.push.with(|router| router.judged(client, verdict, now));
                self.judge_message(next);
            }
            HookResult::Close { node, connection, why } => {
                out.push((node, Notice::Dismiss { connection, why }));
            }
        }
        self.say(out, now);
    }

    /// The one place where new settings come in. What lives on this shard asks `self.settings`;
    /// the media shards take them for connections that come from now on.
    fn reload(&mut self, settings: Arc<Settings>, now: Moment) {
        self.registry.borrow_mut().reload(Arc::clone(&settings));
        self.rooms.borrow_mut().reload(&settings.signalling);
        self.push.with(|router| router.reload(Arc::clone(&settings)));
        for shard in 0..self.shards {
            self.outbox.notice(shard, Notice::Settings(Arc::clone(&settings)));
        }
        self.settings.replace(settings);
        let mut out = Vec::new();
        self.relays.borrow_mut().reload(now, &mut out);
        self.say(out, now);
    }

    fn drain(&mut self, now: Moment) {
        if self.draining.is_some() {
            return;
        }
        let wait = self.settings.get().server.drain;
        tracing::info!(
            connections = self.open.load(Ordering::Relaxed),
            wait_s = wait.as_secs_f64(),
            "draining: no new connections; clients are told and closed"
        );
        // The shards are a little earlier, so that what they have to say of the last ones is said.
        let shards_until = now + wait.saturating_sub(SHARDS_EARLIER.min(wait / 4));
        let mut out = Vec::new();
        for shard in 0..self.shards {
            out.push((shard, Notice::Drain { until: shards_until }));
        }
        self.relays.borrow_mut().drain(&mut out);
        self.registry.borrow_mut().drain(&mut out);
        self.hooks.end();
        self.say(out, now);
        // At once, and served until then.
        let notice = self.settings.get().signalling.shutdown;
        self.rooms.borrow_mut().announce_end(notice.as_secs_f64().ceil() as u64, now);
        self.draining = Some(Draining {
            until: now + wait,
            next_line: now + DRAIN_LINE_INTERVAL,
            rooms_end: Some(now + notice.min(shards_until.since(now))),
        });
    }

    /// Whether the server has ended, or has no more time for it. Says once a second how far it is.
    fn is_at_end(&mut self, now: Moment) -> bool {
        let Some(draining) = &mut self.draining else { return false };
        let is_drained = self.drained == self.shards && self.hooks.is_quiet();
        let has_left = self.cluster.borrow().as_ref().is_none_or(Cluster::is_over);
        if is_drained && has_left && self.rooms.borrow_mut().is_over() {
            return true;
        }
        let connections = self.open.load(Ordering::Relaxed);
        if draining.until <= now {
            tracing::warn!(connections, "server.drain is over: the last connections are cut");
            return true;
        }
        if draining.next_line <= now {
            draining.next_line = now + DRAIN_LINE_INTERVAL;
            let left_s = draining.until.since(now).as_secs();
            tracing::info!(connections, left_s, "draining");
        }
        false
    }
}
