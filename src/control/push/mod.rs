//! The push channel on the control shard: who is a member of what, and which way a message takes.
//!
//! | file      | subject                                                              |
//! |-----------|----------------------------------------------------------------------|
//! | `router`  | members, channels, messages; no I/O, no clock                        |
//! | `target`  | one channel or user: its members, and what it keeps                  |
//! | `history` | what is kept for clients that come back, and what is known to be lost |
//! | `http`    | the resources of the API                                             |
//! | `body`    | messages in requests                                                 |
//! | `forward` | what waits to be said to the other nodes of a cluster                |

mod body;
mod forward;
mod history;
mod http;
mod router;
mod target;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) use forward::Forward;
pub(super) use http::serve;
pub use router::{MessageToJudge, PushCounters, Router};

use crate::config::Settings;
use crate::media::Moment;
use crate::proto::push_message::{PushAddress, PushBody};
use crate::rt::clock;
use crate::rt::doorbell::Bell;
use crate::rt::executor::sleep;

/// How often a post that found no room looks again.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// The meeting place of the API's tasks and the control shard's loop, which live on one thread.
#[derive(Clone, Debug)]
pub(super) struct Push {
    router: Rc<RefCell<Router>>,
    bell: Bell,
}

impl Push {
    pub(super) fn new(settings: &Arc<Settings>, bell: Bell) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        let router = Router::new(Arc::clone(settings), epoch);
        Self { router: Rc::new(RefCell::new(router)), bell }
    }

    /// Looks at, or changes, the router.
    pub(super) fn with<T>(&self, call: impl FnOnce(&mut Router) -> T) -> T {
        call(&mut self.router.borrow_mut())
    }

    /// Sends a message to all members of a channel or user; says how many connections they have.
    /// Waits while too much is on its way, not beyond `deadline`: then `None`.
    pub(super) async fn post(
        &self,
        vhost: &str,
        address: &PushAddress,
        body: &PushBody,
        deadline: Moment,
    ) -> Option<usize> {
        loop {
            let now = clock::now();
            let posted = self.with(|router| router.post(vhost, address, body, now));
            if posted.is_some() {
                self.bell.ring_if_asleep();
                return posted;
            }
            if now >= deadline {
                self.with(Router::count_posts_refused);
                return None;
            }
            sleep(LOOK_INTERVAL).await;
        }
    }
}

/// Seconds since 1970, for the expiry of sessions.
pub(super) fn unix_s() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX)
}
