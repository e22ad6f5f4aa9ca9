//! Asking every shard how it is. Several who ask at the same time share one answer.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::limits;
use crate::media::Moment;
use crate::rt::clock;
use crate::rt::doorbell::Bell;
use crate::rt::executor::sleep;
use crate::shard::{ShardReport, SurveyOrder};

/// How often the asker looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// The meeting place of the API's tasks and the control shard's loop, which live on one thread.
#[derive(Clone, Debug)]
pub(super) struct Reports {
    shared: Rc<RefCell<Shared>>,
    bell: Bell,
}

#[derive(Debug)]
struct Shared {
    /// The order that is to be given next.
    wanted: Option<SurveyOrder>,
    /// Rounds that were sent to the shards.
    asked: u64,
    /// Per shard: its newest answer.
    answers: Vec<Option<Rc<ShardReport>>>,
    /// Per shard: its newest answer with clients.
    answers_with_clients: Vec<Option<Rc<ShardReport>>>,
    /// Who waits for answers.
    waiting: usize,
}

impl Reports {
    pub(super) fn new(shards: usize, bell: Bell) -> Self {
        let shared = Shared {
            wanted: None,
            asked: 0,
            answers: vec![None; shards],
            answers_with_clients: vec![None; shards],
            waiting: 0,
        };
        Self { shared: Rc::new(RefCell::new(shared)), bell }
    }

    /// What the shards have to be asked now; the caller does.
    pub(super) fn take_request(&self) -> Option<SurveyOrder> {
        let mut shared = self.shared.borrow_mut();
        let order = shared.wanted.take()?;
        shared.asked = order.round;
        Some(order)
    }

    /// Whether somebody waits to ask.
    pub(super) fn has_request(&self) -> bool {
        self.shared.borrow().wanted.is_some()
    }

    /// A shard has answered.
    pub(super) fn answer(&self, report: ShardReport) {
        let mut shared = self.shared.borrow_mut();
        let shard = report.shard;
        let report = Rc::new(report);
        if shared.waiting == 0 {
            return;
        }
        if report.has_clients
            && let Some(slot) = shared.answers_with_clients.get_mut(shard)
        {
            *slot = Some(Rc::clone(&report));
        }
        if let Some(slot) = shared.answers.get_mut(shard) {
            *slot = Some(report);
        }
    }

    /// Fresh reports, perhaps without clients, of all shards that answer in time.
    pub(super) async fn gather(&self) -> Vec<Rc<ShardReport>> {
        self.ask(false).await
    }

    /// Fresh reports with clients of all shards that answer in time.
    pub(super) async fn gather_with_clients(&self) -> Vec<Rc<ShardReport>> {
        self.ask(true).await
    }

    async fn ask(&self, with_clients: bool) -> Vec<Rc<ShardReport>> {
        let round = {
            let mut shared = self.shared.borrow_mut();
            shared.waiting += 1;
            // A round that was asked already may have been answered before the caller's time.
            let round = shared.asked + 1;
            let order = shared.wanted.get_or_insert(SurveyOrder { round, with_clients });
            order.with_clients |= with_clients;
            round
        };
        self.bell.ring_if_asleep();
        let deadline = clock::now() + limits::SURVEY_WAIT_MAX;
        let found = loop {
            let fresh = self.fresh(round, with_clients);
            if fresh.len() == self.shared.borrow().answers.len() || is_over(deadline) {
                break fresh;
            }
            sleep(LOOK_INTERVAL).await;
        };
        let mut shared = self.shared.borrow_mut();
        shared.waiting -= 1;
        if shared.waiting == 0 {
            // Streams and clients are many: nothing is kept of them.
            shared.answers.fill(None);
            shared.answers_with_clients.fill(None);
        }
        found
    }

    fn fresh(&self, round: u64, with_clients: bool) -> Vec<Rc<ShardReport>> {
        let shared = self.shared.borrow();
        let answers = if with_clients { &shared.answers_with_clients } else { &shared.answers };
        answers.iter().flatten().filter(|report| report.round >= round).cloned().collect()
    }
}

fn is_over(deadline: Moment) -> bool {
    clock::now() >= deadline
}
