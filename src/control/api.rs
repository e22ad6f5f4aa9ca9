//! The HTTP API on `api.listen`: how the server is. Requests are short and served one after the other
//! per connection; slow clients are cut off.
//!
//! `GET /api/v1/shards`: counters per shard and stream. `GET /health/live`: 200 while the control shard
//! runs; needs no token. `GET /health/ready`: 200, and 503 while the server shuts down.
//! `GET /api/v1/hooks`: calls of hooks, how they ended and how long they took.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::hooks::Hooks;
use super::registry::Registry;
use super::reports::Reports;
use super::settings::CurrentSettings;
use crate::limits;
use crate::logging::LogLosses;
use crate::media::Moment;
use crate::proto::http::{self, Method, Request};
use crate::rt::clock;
use crate::rt::executor::spawn_local;
use crate::rt::net::{Listener, Stream};
use crate::shard::AcceptCounters;

/// A request must be read, and its answer taken, within this time.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// A listening socket of the API.
#[derive(Debug)]
pub struct ApiListener {
    /// The open socket.
    pub socket: OwnedFd,
    /// Its address.
    pub address: SocketAddr,
}

/// What the API's tasks share.
#[derive(Clone)]
pub(super) struct Api {
    shared: Rc<Shared>,
}

struct Shared {
    settings: CurrentSettings,
    registry: Rc<RefCell<Registry>>,
    reports: Reports,
    hooks: Hooks,
    accepted: Arc<AcceptCounters>,
    log_losses: LogLosses,
    started: Moment,
    open: Cell<usize>,
    is_draining: Cell<bool>,
}

/// Status, content type and body.
struct Answer {
    status: u16,
    kind: &'static str,
    body: String,
}

impl Api {
    pub(super) fn new(
        settings: &CurrentSettings,
        registry: &Rc<RefCell<Registry>>,
        reports: &Reports,
        hooks: &Hooks,
        accepted: &Arc<AcceptCounters>,
        log_losses: LogLosses,
    ) -> Self {
        Self {
            shared: Rc::new(Shared {
                settings: settings.clone(),
                registry: Rc::clone(registry),
                reports: reports.clone(),
                hooks: hooks.clone(),
                accepted: Arc::clone(accepted),
                log_losses,
                started: clock::now(),
                open: Cell::new(0),
                is_draining: Cell::new(false),
            }),
        }
    }

    /// From now on the server is not ready for new clients.
    pub(super) fn drain(&self) {
        self.shared.is_draining.set(true);
    }

    /// Serves a listener for as long as the control shard runs.
    pub(super) fn serve(&self, listener: ApiListener) {
        let listener = Listener::from_socket(listener.socket, listener.address);
        let api = self.clone();
        spawn_local(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) if api.shared.open.get() < limits::API_CONNECTIONS_MAX => {
                        api.shared.open.set(api.shared.open.get() + 1);
                        let api = api.clone();
                        spawn_local(async move {
                            // A client that breaks off concerns nobody else.
                            let _ = api.connection(stream).await;
                            api.shared.open.set(api.shared.open.get() - 1);
                        });
                    }
                    Ok(_) => tracing::warn!("the API has too many connections: one was closed"),
                    Err(error) => {
                        tracing::warn!(%error, "accepting an API connection failed");
                        crate::rt::executor::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
    }

    async fn connection(&self, mut stream: Stream) -> io::Result<()> {
        let mut head = Vec::new();
        loop {
            let deadline = clock::now() + REQUEST_MAX;
            let request = loop {
                match http::parse_request(&head) {
                    Ok(Some(request)) => break Ok(request),
                    Ok(None) => {}
                    Err(error) => break Err(error),
                }
                let mut buffer = [0; 2048];
                let count = stream.read_before(&mut buffer, deadline).await?;
                if count == 0 {
                    return Ok(());
                }
                head.extend_from_slice(&buffer[..count]);
            };
            let (answer, keep_alive, is_head) = match &request {
                Ok(request) => {
                    let used = request.head_len.min(head.len());
                    head.drain(..used);
                    // A body would be taken for the next request.
                    let has_body = request.is_chunked()
                        || request.content_length().map_or(true, |length| length.is_some());
                    let keep_alive = request.keep_alive() && !has_body;
                    (self.answer(request).await, keep_alive, request.method == Method::Head)
                }
                Err(error) => (Answer::text(error.status(), error.to_string()), false, false),
            };
            let bytes = answer.encode(keep_alive, is_head);
            stream.write_all_before(&bytes, deadline).await?;
            if !keep_alive {
                return Ok(());
            }
        }
    }

    async fn answer(&self, request: &Request) -> Answer {
        if !matches!(request.method, Method::Get | Method::Head) {
            return Answer::text(405, "use GET");
        }
        if request.path == "/health/live" {
            return Answer::text(200, "ok");
        }
        let settings = self.shared.settings.get();
        if let Some(token) = &settings.api.token
            && !is_authorised(request, token)
        {
            return Answer::text(401, "send the header Authorization: Bearer with api.token");
        }
        match request.path.as_str() {
            "/api/v1/shards" => self.shards().await,
            "/api/v1/hooks" => Answer {
                status: 200,
                kind: "application/json",
                body: format!("{}\n", self.shared.hooks.to_json()),
            },
            "/health/ready" if self.shared.is_draining.get() => Answer::text(503, "shutting down"),
            "/health/ready" => Answer::text(200, "ready"),
            _ => Answer::text(404, "no such resource; try /api/v1/shards"),
        }
    }

    async fn shards(&self) -> Answer {
        let shards = self.shared.reports.gather().await;
        let accepted = &self.shared.accepted;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let registry = self.shared.registry.borrow();
        let body = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": clock::now().since(self.shared.started).as_secs(),
            "shards": shards.iter().map(|it| &**it).collect::<Vec<_>>(),
            "control": {
                "registry": registry.counters(),
                "streams": registry.entries(),
                "cpu_us": clock::thread_cpu().as_micros() as u64,
            },
            "acceptor": {
                "open": accepted.open.load(Ordering::Relaxed),
                "accepted": count(&accepted.accepted),
                "over_limit": count(&accepted.over_limit),
                "over_address_limit": count(&accepted.over_address_limit),
                "inbox_full": count(&accepted.inbox_full),
                "out_of_descriptors": count(&accepted.out_of_descriptors),
            },
            "log": {
                "lines_lost": self.shared.log_losses.lines(),
                "access_lines_lost": self.shared.log_losses.access_lines(),
            },
        });
        Answer { status: 200, kind: "application/json", body: format!("{body}\n") }
    }
}

impl Answer {
    fn text(status: u16, text: impl Into<String>) -> Self {
        let body = format!("{}\n", text.into());
        Self { status, kind: "text/plain; charset=utf-8", body }
    }

    fn encode(&self, keep_alive: bool, is_head: bool) -> Vec<u8> {
        let length = self.body.len().to_string();
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let mut headers = vec![
            ("Content-Type", self.kind),
            ("Content-Length", length.as_str()),
            ("Cache-Control", "no-store"),
            ("Connection", connection),
        ];
        if self.status == 401 {
            headers.push(("WWW-Authenticate", "Bearer"));
        }
        let mut out = Vec::with_capacity(256 + self.body.len());
        http::write_head(self.status, &headers, &mut out);
        if !is_head {
            out.extend_from_slice(self.body.as_bytes());
        }
        out
    }
}

fn is_authorised(request: &Request, token: &str) -> bool {
    let sent = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    sent.is_some_and(|sent| is_equal(sent.trim().as_bytes(), token.as_bytes()))
}

/// Takes the same time wherever the difference is.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}
