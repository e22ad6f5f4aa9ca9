//! One listener: server-sent events over its connection, until it goes away.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::AsyncReadExt;

use super::{Filter, Shared, WORDS};
use crate::proto::http::{self, Request};
use crate::rt::clock;
use crate::rt::executor::before;
use crate::rt::net::Stream;

/// Silence after which a comment is sent, so that proxies and listeners see that the feed lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A listener that takes nothing for so long is closed.
const WRITE_MAX: Duration = Duration::from_secs(60);

/// A place among the listeners; dropped, it is given back.
pub(in crate::control) struct Listener {
    shared: Rc<Shared>,
    number: u64,
}

impl Filter {
    /// What a request asks for: `event`, `app` and `stream`, each one value or several with commas.
    ///
    /// # Errors
    /// There is no such event.
    pub(in crate::control) fn of(request: &Request) -> Result<Self, String> {
        let list = |key: &str| -> Vec<String> {
            let value = request.query().value(key).unwrap_or_default();
            value.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect()
        };
        let events = list("event");
        match events.iter().find(|event| !WORDS.contains(&event.as_str())) {
            Some(unknown) => {
                Err(format!("there is no event {unknown:?}, but {}", WORDS.join(", ")))
            }
            None => Ok(Self { events, apps: list("app"), streams: list("stream") }),
        }
    }
}

impl Listener {
    pub(super) fn new(shared: Rc<Shared>, number: u64) -> Self {
        Self { shared, number }
    }

    /// Sends the feed until the listener goes away.
    pub(in crate::control) async fn serve(self, mut stream: Stream) -> io::Result<()> {
        let headers = [
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
            ("Content-Type", "text/event-stream"),
            // nginx as a proxy would collect events.
            ("X-Accel-Buffering", "no"),
        ];
        let mut head = Vec::new();
        http::write_head(200, &headers, &mut head);
        head.extend_from_slice(b": listening\n\n");
        stream.write_all_before(&head, clock::now() + WRITE_MAX).await?;
        let mut buffer = [0; 256];
        loop {
            let news = async { Ok(Some(self.wait().await)) };
            let gone =
                async { stream.read(&mut buffer).await.map(|count| (count > 0).then(String::new)) };
            let either = futures_lite::future::or(news, gone);
            let text = match before(clock::now() + HEARTBEAT, either).await {
                None => ": still listening\n\n".to_owned(),
                Some(result) => match result? {
                    None => return Ok(()),
                    Some(text) => text,
                },
            };
            stream.write_all_before(text.as_bytes(), clock::now() + WRITE_MAX).await?;
        }
    }

    /// What is to be sent, as soon as there is something.
    async fn wait(&self) -> String {
        std::future::poll_fn(|context| {
            let mut queues = self.shared.queues.borrow_mut();
            let Some(queue) = queues.get_mut(&self.number) else { return Poll::Pending };
            if queue.events.is_empty() && queue.lost == 0 {
                queue.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(queue.take())
        })
        .await
    }

    #[cfg(test)]
    pub(super) fn take(&self) -> String {
        let mut queues = self.shared.queues.borrow_mut();
        queues.get_mut(&self.number).map(super::Queue::take).unwrap_or_default()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.queues.borrow_mut().remove(&self.number);
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("number", &self.number).finish_non_exhaustive()
    }
}
