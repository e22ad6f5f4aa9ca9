//! The executor of a shard: turns, and the waits between them.
//!
//! A busy shard sleeps, and its thread with it, until its pace allows the next turn, and looks then; one
//! below its pace waits for its sockets, its doorbell or its next deadline, and starts at once. So the
//! number of wake-ups is bounded, whatever the number of publishers.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::acceptor::NewConnection;
use super::claim::Releases;
use super::conns::ConnTable;
use super::flush::Pass;
use super::handover::Departed;
use super::ingest::{Ingest, PUBLISHERS};
use super::load::ShardLoad;
use super::messages::{Envelope, Subscription};
use super::newcomers::Newcomers;
use super::outbox::Outbox;
use super::pace::{PassBudget, TurnPace};
use super::{Counters, Shard};
use crate::config::Settings;
use crate::logging::AccessLog;
use crate::media::{Moment, SegmentPool};
use crate::rt::clock;
use crate::rt::egress::{Egress, EgressChoice};
use crate::rt::executor::pause_until;
use crate::rt::memory::Crowd;
use crate::rt::mesh::{Inbox, MeshEnd};
use crate::rt::poller::Poller;
use crate::rt::waiter::{Waiter, Wake};

/// Ready sockets taken per turn; more are taken in the next.
pub(super) const EVENTS_MAX: usize = 1024;
/// The scratch buffer that reads go to.
const SCRATCH_BYTES: usize = 64 * 1024;

/// What a shard is made of; sent to its thread.
#[derive(Debug)]
pub struct ShardPlan {
    /// Its number.
    pub index: usize,
    /// The server's settings.
    pub settings: Arc<Settings>,
    /// Its end of the mesh.
    pub mesh: MeshEnd<Box<Envelope>>,
    /// Where the acceptor puts its connections.
    pub inbox: Inbox<NewConnection>,
    /// What it tells the acceptor.
    pub load: Arc<ShardLoad>,
    /// How its sends reach the kernel.
    pub egress: EgressChoice,
    /// Where sessions are put at their end.
    pub access: Option<AccessLog>,
    /// Something that differs between shards and starts.
    pub seed: u64,
}

/// Runs a shard on the executor of the calling thread, until it is drained.
pub async fn run(plan: ShardPlan) -> io::Result<()> {
    let mut shard = Shard::new(plan)?;
    let mut waiter = Waiter::new(&shard.poller)?;
    // Whether the last wait ended before the pace allowed a turn.
    let mut is_busy = false;
    loop {
        let mut looked_at = clock::now();
        let has_work = shard.turn().await;
        let now = clock::now();
        if now.since(looked_at) > shard.turn_min {
            // Its sends took long: what came meanwhile has waited, and is due that much earlier.
            shard.note_publishers_after(looked_at, now);
            looked_at = now;
        }
        if shard.draining.is_some_and(|draining| draining.is_over) && shard.outbox.is_empty() {
            return Ok(());
        }
        let earliest = shard.next_turn();
        if is_busy && has_work {
            shard.unseen_since = Some(looked_at);
            pause_until(earliest);
            continue;
        }
        let inbox = &shard.inbox;
        if !shard.mesh.prepare_sleep_with(|| inbox.has_pending()) {
            is_busy = true;
            shard.unseen_since = Some(looked_at);
            pause_until(earliest);
            continue;
        }
        let until = shard.next_due().map(|due| due.max(earliest));
        let wake = waiter.wait(until).await;
        shard.mesh.awake();
        is_busy = wake == Wake::Ready && clock::now() < earliest;
        if is_busy {
            shard.unseen_since = Some(clock::now());
            pause_until(earliest);
        }
    }
}

impl Shard {
    pub(super) fn new(plan: ShardPlan) -> io::Result<Self> {
        let poller = Poller::new(EVENTS_MAX)?;
        poller.add_doorbell(plan.mesh.doorbell_fd())?;
        let ingest = Ingest::new()?;
        poller.add(ingest.poller(), PUBLISHERS)?;
        let nodes = plan.mesh.nodes();
        let egress = Egress::new(plan.egress);
        tracing::debug!(shard = plan.index, egress = egress.note(), "shard started");
        Ok(Self {
            index: plan.index,
            control: nodes - 1,
            settings: plan.settings,
            mesh: plan.mesh,
            inbox: plan.inbox,
            load: plan.load,
            poller,
            ingest,
            conns: ConnTable::default(),
            publications: HashMap::new(),
            viewers: HashMap::new(),
            members: super::push::Members::default(),
            outbox: Outbox::new(nodes),
            releases: Releases::default(),
            pool: SegmentPool::default(),
            pass: Pass::new(egress),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            ready: Vec::with_capacity(EVENTS_MAX),
            events: Vec::new(),
            newcomers: Newcomers::default(),
            out_list: Vec::new(),
            has_outputs_left: false,
            closing: Vec::new(),
            joined: Vec::new(),
            gaps: Vec::new(),
            turn_min: Duration::from_millis(5),
            turn_pace: TurnPace::default(),
            unseen_since: None,
            pass_budget: PassBudget::default(),
            thread_cpu: clock::thread_cpu,
            next_housekeeping: Moment::ZERO,
            housekeeping_slot: 0,
            crowd: Crowd::default(),
            last_subscription: Subscription::default(),
            departed: Departed::default(),
            seed: plan.seed,
            access: plan.access,
            draining: None,
            survey: None,
            next_survey: None,
            counters: Counters {
                turns: 0,
                reads: 0,
                read_bytes: 0,
                by_protocol: super::ProtocolBytes::default(),
                closed: BTreeMap::new(),
                ended: super::PublicationCounters::default(),
                flush_duration: super::Histogram::default(),
                surveys: 0,
                handovers: 0,
                survey_pieces: 0,
                room_texts_dropped: 0,
                reception: super::ReceptionCounters::default(),
                egress_mark: (0, clock::now()),
                skips_logged: (0, Moment::ZERO),
            },
        })
    }
}
