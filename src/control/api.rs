//! The HTTP API on `api.listen`: connections, tokens and bodies. Requests are short and served one after
//! the other per connection; slow clients are cut off. What is served is in `resources`.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::answer::Answer;
use super::cluster::Cluster;
use super::events::Events;
use super::hooks::Hooks;
use super::orders::Orders;
use super::push::Push;
use super::registry::Registry;
use super::relays::Relays;
use super::reports::Reports;
use super::resources;
use super::rooms::Rooms;
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
    /// What it is for.
    pub serves: Serves,
}

/// What a socket of the API is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Everything, to those who have the token.
    All,
    /// `/metrics` and `/health/live`, to everybody.
    Metrics,
}

/// What the API's tasks share.
#[derive(Clone)]
pub(super) struct Api {
    shared: Rc<Shared>,
}

/// What the API tells of.
pub(super) struct ApiParts {
    pub(super) settings: CurrentSettings,
    pub(super) registry: Rc<RefCell<Registry>>,
    pub(super) rooms: Rc<RefCell<Rooms>>,
    pub(super) push: Push,
    pub(super) reports: Reports,
    pub(super) orders: Orders,
    pub(super) hooks: Hooks,
    pub(super) events: Events,
    pub(super) relays: Rc<RefCell<Relays>>,
    pub(super) cluster: Rc<RefCell<Option<Cluster>>>,
    pub(super) accepted: Arc<AcceptCounters>,
    pub(super) log_losses: LogLosses,
}

/// What the API's tasks, and the resources, look at.
pub(super) struct Shared {
    pub(super) parts: ApiParts,
    pub(super) started: Moment,
    open: Cell<usize>,
    pub(super) is_draining: Cell<bool>,
    /// Answers by status: one of the few that are given.
    pub(super) answers: RefCell<std::collections::BTreeMap<u16, u64>>,
    /// What the machine was like at the last look, for rates.
    pub(super) last_look: Cell<Option<resources::Look>>,
}

impl Api {
    pub(super) fn new(parts: ApiParts) -> Self {
        Self {
            shared: Rc::new(Shared {
                parts,
                started: clock::now(),
                open: Cell::new(0),
                is_draining: Cell::new(false),
                answers: RefCell::default(),
                last_look: Cell::new(None),
            }),
        }
    }

    /// From now on the server is not ready for new clients.
    pub(super) fn drain(&self) {
        self.shared.is_draining.set(true);
    }

    /// Serves a listener for as long as the control shard runs.
    pub(super) fn serve(&self, listener: ApiListener) {
        let serves = listener.serves;
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
                            let _ = api.connection(stream, serves).await;
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

    async fn connection(&self, mut stream: Stream, serves: Serves) -> io::Result<()> {
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
            let (mut answer, keep_alive, is_head) = match &request {
                Ok(request) => {
                    let used = request.head_len.min(head.len());
                    head.drain(..used);
                    let (answer, is_read) =
                        self.request(request, serves, &mut head, &mut stream).await?;
                    // A body that was not read would be taken for the next request.
                    let keep_alive = request.keep_alive() && is_read;
                    (answer, keep_alive, request.method == Method::Head)
                }
                Err(error) => (Answer::error(error.status(), error.to_string()), false, false),
            };
            *self.shared.answers.borrow_mut().entry(answer.status).or_default() += 1;
            if let Some(listener) = answer.feed.take().filter(|_| !is_head) {
                return listener.serve(stream).await;
            }
            let bytes = answer.encode(keep_alive, is_head);
            stream.write_all_before(&bytes, clock::now() + REQUEST_MAX).await?;
            if !keep_alive {
                return Ok(());
            }
        }
    }

    /// Answers a request; says whether its body was read. `rest` is what has come behind the head.
    async fn request(
        &self,
        request: &Request,
        serves: Serves,
        rest: &mut Vec<u8>,
        stream: &mut Stream,
    ) -> io::Result<(Answer, bool)> {
        let length = request.content_length().ok().flatten();
        let has_body = is_coded(request) || length.is_some_and(|length| length > 0);
        let settings = self.shared.parts.settings.get();
        if let Some(token) = settings.api.token.as_deref().filter(|_| serves == Serves::All)
            && resources::needs_token(request)
            && !is_authorised(request, token)
        {
            let text = "send the header Authorization: Bearer with api.token";
            return Ok((Answer::error(401, text), !has_body));
        }
        let deadline = clock::now() + REQUEST_MAX;
        let body = match self.body(request, rest, stream, deadline).await? {
            Ok(body) => body,
            Err(answer) => return Ok((answer, false)),
        };
        Ok((resources::serve(&self.shared, request, serves, &body, deadline).await, true))
    }

    /// Reads the body of a request, or says why not.
    async fn body(
        &self,
        request: &Request,
        rest: &mut Vec<u8>,
        stream: &mut Stream,
        deadline: Moment,
    ) -> io::Result<Result<Vec<u8>, Answer>> {
        if is_coded(request) {
            let text = "send the body with Content-Length, without Transfer-Encoding";
            return Ok(Err(Answer::error(411, text)));
        }
        let length = request.content_length().ok().flatten().unwrap_or_default();
        let most = limits::API_BODY_BYTES_MAX;
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= most) else {
            return Ok(Err(Answer::error(413, format!("a body has at most {most} bytes"))));
        };
        if request.header_has("expect", "100-continue") && rest.len() < length {
            stream.write_all_before(b"HTTP/1.1 100 Continue\r\n\r\n", deadline).await?;
        }
        let mut buffer = vec![0; if rest.len() < length { 16 * 1024 } else { 0 }];
        while rest.len() < length {
            let count = stream.read_before(&mut buffer, deadline).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            rest.extend_from_slice(&buffer[..count]);
        }
        let behind = rest.split_off(length);
        Ok(Ok(std::mem::replace(rest, behind)))
    }
}

/// Whether there is a body whose end only its coding tells, chunked or any other.
fn is_coded(request: &Request) -> bool {
    request.header("transfer-encoding").is_some()
}

fn is_authorised(request: &Request, token: &str) -> bool {
    let sent = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    sent.is_some_and(|sent| is_equal(sent.trim().as_bytes(), token.as_bytes()))
}

/// Takes the same time wherever the difference is.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}
