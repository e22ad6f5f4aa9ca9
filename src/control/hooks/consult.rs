//! One call of a hook that has a say, timed and counted.

use super::Shared;
use super::client::Purpose;
use super::event::{HookRequest, Judgement};
use crate::config::{HookEvent, HookTarget};
use crate::proto::http_response::Response;
use crate::rt::clock;

/// Calls it. `read` says what the answer means to the caller, and what it counts as.
///
/// # Errors
/// There is no answer, in a sentence.
pub(super) async fn consult<T>(
    shared: &Shared,
    event: HookEvent,
    target: &HookTarget,
    request: &HookRequest,
    read: impl FnOnce(&Response) -> (T, Judgement),
) -> Result<T, String> {
    let started = clock::now();
    let result = shared.client.call(target, request, Purpose::Gate).await;
    let took = clock::now().since(started);
    let mut stats = shared.stats.borrow_mut();
    match result {
        Ok(response) => {
            let (answer, judgement) = read(&response);
            stats.count(event, target, took, Ok(Some(&judgement)));
            Ok(answer)
        }
        Err(error) => {
            stats.count(event, target, took, Err(&error));
            Err(error.to_string())
        }
    }
}
