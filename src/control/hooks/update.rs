//! on_update: from time to time a hook is asked whether a stream may go on. The next time is counted
//! from the answer, as in nginx-rtmp.

use std::rc::Rc;
use std::time::Duration;

use super::complaints::Complaint;
use super::event::{Judgement, Occurrence, Subject};
use super::judge::call;
use super::{HookResult, Shared, tidings};
use crate::config::{HookEvent, OnFailure};
use crate::rt::clock;
use crate::rt::executor::{sleep, spawn_local};
use crate::session::ClientId;
use crate::shard::AskToken;

/// Waits for the next update, and asks the stream's shard how far the stream is.
pub(super) async fn wait(
    shared: Rc<Shared>,
    token: AskToken,
    client: ClientId,
    interval: Duration,
) {
    sleep(interval).await;
    if shared.sessions.borrow().started(client, token.serial).is_some() {
        shared.result(HookResult::Measure(token));
    }
}

/// Asks the hooks, and closes the connection when they say so.
pub(super) async fn tell(shared: Rc<Shared>, token: AskToken, client: ClientId, timestamp_ms: u32) {
    let started = shared.sessions.borrow().started(client, token.serial);
    let Some((caller, started)) = started else { return };
    let plan = &started.app.hooks;
    let seconds = clock::now().since(started.since).as_secs();
    tidings::update(&shared, &caller, &started.stream, seconds, timestamp_ms);
    for target in plan.targets(HookEvent::Update) {
        let subject = Subject::Update {
            stream: started.stream.clone(),
            seconds: clock::now().since(started.since).as_secs(),
            timestamp_ms,
        };
        let id = shared.sessions.borrow_mut().next_event();
        let event = HookEvent::Update;
        let occurrence = Occurrence { id, event, caller: caller.clone(), subject };
        let why = match call(&shared, target, &occurrence).await {
            Judgement::Accept | Judgement::Rename(_) | Judgement::Relay(_) => continue,
            Judgement::Fail(_) if target.on_failure == OnFailure::Accept => continue,
            Judgement::Refuse(why) | Judgement::Fail(why) => why,
        };
        if let Some(left_out) = shared.complains(Complaint::Refused, event, target) {
            tracing::info!(
                url = target.url.text, %client, stream = started.stream.name, left_out,
                "closed by on_update: {why}"
            );
        }
        let why = "ended by the application".to_owned();
        let AskToken { node, connection, .. } = token;
        return shared.result(HookResult::Close { node, connection, why });
    }
    if let Some(interval) = plan.update_interval {
        spawn_local(wait(Rc::clone(&shared), token, client, interval));
    }
}
