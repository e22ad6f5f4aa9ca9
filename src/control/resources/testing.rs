//! How work of the control shard lets other work go on.

use std::future::poll_fn;
use std::pin::pin;

use crate::rt::executor::spawn_pinned;

/// Runs work on an executor of its own: how often it paused, and its output. A pause that was over before it
/// began is not counted: a busy machine has some.
pub(in crate::control) fn count_pauses<F>(
    work: impl FnOnce() -> F + Send + 'static,
) -> (usize, F::Output)
where
    F: Future + 'static,
    F::Output: Send + 'static,
{
    let counted = move || async move {
        let mut work = pin!(work());
        let mut pauses = 0;
        let output = poll_fn(|cx| {
            let polled = work.as_mut().poll(cx);
            pauses += usize::from(polled.is_pending());
            polled
        })
        .await;
        (pauses, output)
    };
    spawn_pinned("test", None, counted).unwrap().join().unwrap()
}
