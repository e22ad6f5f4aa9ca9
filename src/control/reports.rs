//! Asking every shard how it is. Several who ask at the same time share one answer.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::rt::clock;
use crate::rt::doorbell::Bell;
use crate::rt::executor::sleep;
use crate::shard::ShardReport;

/// A shard that has not answered by then is left out.
const ANSWER_MAX: Duration = Duration::from_secs(2);
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
    /// Rounds of questions that the API's tasks want.
    wanted: u64,
    /// Rounds that were sent to the shards.
    asked: u64,
    /// Per shard: its newest answer and the round it belongs to.
    answers: Vec<Option<(u64, ShardReport)>>,
}

impl Reports {
    pub(super) fn new(shards: usize, bell: Bell) -> Self {
        let shared = Shared { wanted: 0, asked: 0, answers: vec![None; shards] };
        Self { shared: Rc::new(RefCell::new(shared)), bell }
    }

    /// Whether the shards have to be asked now; the caller does.
    pub(super) fn take_request(&self) -> bool {
        let mut shared = self.shared.borrow_mut();
        let has_request = shared.asked < shared.wanted;
        shared.asked = shared.wanted;
        has_request
    }

    /// Whether somebody waits to ask.
    pub(super) fn has_request(&self) -> bool {
        let shared = self.shared.borrow();
        shared.asked < shared.wanted
    }

    /// A shard has answered.
    pub(super) fn answer(&self, report: ShardReport) {
        let mut shared = self.shared.borrow_mut();
        let round = shared.asked;
        let shard = report.shard;
        if let Some(slot) = shared.answers.get_mut(shard) {
            *slot = Some((round, report));
        }
    }

    /// Fresh reports of all shards that answer in time.
    pub(super) async fn gather(&self) -> Vec<ShardReport> {
        let round = {
            let mut shared = self.shared.borrow_mut();
            // A round that was asked already may have been answered before the caller's time.
            shared.wanted = shared.asked + 1;
            shared.wanted
        };
        self.bell.ring_if_asleep();
        let deadline = clock::now() + ANSWER_MAX;
        while !self.is_answered(round) && clock::now() < deadline {
            sleep(LOOK_INTERVAL).await;
        }
        let shared = self.shared.borrow();
        let fresh = shared.answers.iter().flatten().filter(|(at, _)| *at >= round);
        fresh.map(|(_, report)| report.clone()).collect()
    }

    fn is_answered(&self, round: u64) -> bool {
        let shared = self.shared.borrow();
        shared.answers.iter().all(|answer| answer.as_ref().is_some_and(|(at, _)| *at >= round))
    }
}
