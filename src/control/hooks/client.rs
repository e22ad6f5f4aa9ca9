//! The HTTP client of the hooks: connections that are kept, a cap on calls under way, one deadline for
//! the whole call, and a breaker per endpoint.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use serde_json::{Value, json};

use super::breaker::{Breaker, Change};
use super::event::HookRequest;
use super::resolver::Resolver;
use super::seats::Seats;
use crate::config::HookTarget;
use crate::limits;
use crate::media::Moment;
use crate::proto::http_response::{Response, ResponseReader};
use crate::rt::clock;
use crate::rt::executor::{before, spawn_blocking};
use crate::rt::net::Stream;
use crate::rt::socket;
use crate::rt::tls::{TlsClient, TlsStream};

/// Bytes of an answer that are read at a time.
const READ_BYTES: usize = 4096;
/// A kept connection that was not used for so long is closed.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Calls hooks.
#[derive(Debug, Default)]
pub(super) struct Client {
    endpoints: RefCell<BTreeMap<EndpointKey, Rc<Endpoint>>>,
    resolver: Resolver,
    /// Whom to trust, by the name of the file; none is the system's list.
    tls: RefCell<HashMap<Option<String>, TlsClient>>,
    /// How often the certificates were read; connections made before are not used again.
    reads: Cell<u64>,
}

/// Who is called: hooks with the same share connections, caps and breaker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct EndpointKey {
    is_tls: bool,
    host: String,
    port: u16,
    ca: Option<String>,
}

#[derive(Debug)]
struct Endpoint {
    key: EndpointKey,
    seats: Seats,
    under_way: Cell<usize>,
    breaker: RefCell<Breaker>,
    /// Oldest first.
    idle: RefCell<Vec<(Moment, Connection)>>,
    opened: Cell<u64>,
    reused: Cell<u64>,
}

/// A connection with its buffer: in the call itself it would make every question's task so much larger.
#[derive(Debug)]
struct Connection {
    transport: Transport,
    buffer: Box<[u8]>,
    /// [`Client::reads`] when it was made.
    reads: u64,
}

#[derive(Debug)]
enum Transport {
    Plain(Stream),
    Tls(Box<TlsStream>),
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The answer is no HTTP, or ended too early, or says that somebody behind could not be reached.
    Answer,
    /// The breaker is open.
    Breaker,
    /// No connection.
    Connect,
    /// No address.
    Dns,
    /// Too many calls wait, or its turn did not come in time.
    Queue,
    /// The certificate does not verify, or the peer speaks no TLS.
    Tls,
    /// Not done in time.
    Timeout,
}

/// A call without an answer.
#[derive(Debug)]
pub(super) struct CallError {
    pub(super) failure: Failure,
    /// For the log.
    text: String,
    /// The request was written, so that the back end may have seen it.
    pub(super) may_be_processed: bool,
    /// Most of its time was over when its turn came.
    is_own_delay: bool,
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A client waits for the verdict.
    Gate,
    /// Somebody is told.
    Tell,
}

impl Client {
    /// Calls a hook and reads its answer, all within the hook's time.
    pub(super) async fn call(
        &self,
        target: &HookTarget,
        request: &HookRequest,
        purpose: Purpose,
    ) -> Result<Response, CallError> {
        let endpoint = self.endpoint(target);
        let now = clock::now();
        let Some(is_probe) = endpoint.admits(now) else {
            let text = "it has failed again and again and is left alone for a while";
            return Err(CallError::new(Failure::Breaker, text));
        };
        let deadline = now + target.timeout;
        let mut call = Call {
            client: self,
            endpoint: &endpoint,
            request,
            dns_cache: target.dns_cache,
            deadline,
            reader: ResponseReader::new(limits::HOOK_ANSWER_BODY_BYTES_MAX),
            seated: None,
            is_written: false,
        };
        let result = match before(deadline, call.run(purpose)).await {
            Some(result) => result,
            None => {
                let late = call.late(target.timeout);
                // As in the original a status that has come counts, although the rest has not.
                call.reader.response().ok_or(late)
            }
        };
        endpoint.report(&result, is_probe);
        result
    }

    /// Reads the certificates again, for connections from now on. Where they cannot be read, those that
    /// were there stay.
    pub(super) async fn reread_certificates(&self) {
        let known: Vec<Option<String>> = self.tls.borrow().keys().cloned().collect();
        for ca in known {
            let file = ca.as_deref().unwrap_or("the system's").to_owned();
            match trust(ca.clone()).await {
                Ok(tls) => {
                    self.tls.borrow_mut().insert(ca, tls);
                    tracing::info!(file, "certificates of https hooks read again");
                }
                Err(why) => {
                    tracing::error!(file, "certificates of https hooks stay as they were: {why}");
                }
            }
        }
        self.reads.set(self.reads.get() + 1);
        for endpoint in self.endpoints.borrow().values().filter(|it| it.key.is_tls) {
            endpoint.idle.borrow_mut().clear();
        }
    }

    /// For the API.
    pub(super) fn to_json(&self) -> Value {
        let endpoints = self.endpoints.borrow();
        endpoints
            .values()
            .map(|endpoint| {
                json!({
                    "endpoint": endpoint.key.to_string(),
                    "under_way": endpoint.under_way.get(),
                    "waiting": endpoint.seats.waiting(),
                    "idle_connections": endpoint.idle.borrow().len(),
                    "connections_opened": endpoint.opened.get(),
                    "connections_reused": endpoint.reused.get(),
                    "breaker_open": endpoint.breaker.borrow().is_open(),
                })
            })
            .collect()
    }

    fn endpoint(&self, target: &HookTarget) -> Rc<Endpoint> {
        let url = &target.url;
        let key = EndpointKey {
            is_tls: url.is_tls,
            host: url.host.clone(),
            port: url.port,
            ca: target.ca.clone(),
        };
        let mut endpoints = self.endpoints.borrow_mut();
        let found = endpoints.entry(key).or_insert_with_key(|key| {
            Rc::new(Endpoint {
                key: key.clone(),
                seats: Seats::new(limits::HOOK_CALLS_UNDER_WAY_MAX, limits::HOOK_CALLS_WAITING_MAX),
                under_way: Cell::new(0),
                breaker: RefCell::new(Breaker::new()),
                idle: RefCell::default(),
                opened: Cell::new(0),
                reused: Cell::new(0),
            })
        });
        Rc::clone(found)
    }

    async fn open(
        &self,
        key: &EndpointKey,
        fresh_for: Duration,
        deadline: Moment,
    ) -> Result<Connection, CallError> {
        let addresses = self.resolver.addresses(&key.host, fresh_for, deadline).await;
        let addresses = addresses.map_err(|error| {
            CallError::new(Failure::Dns, format!("{} cannot be resolved: {error}", key.host))
        })?;
        let mut last = None;
        let count = addresses.len();
        for (at, address) in addresses.into_iter().enumerate() {
            let address = SocketAddr::new(address, key.port);
            // One that swallows packets leaves time for the others.
            let now = clock::now();
            let share = deadline.since(now) / u32::try_from(count - at).unwrap_or(1);
            match Stream::connect(address, now + share).await {
                Ok(stream) if key.is_tls => return self.secure(stream, key).await,
                Ok(stream) => return Ok(self.connection(Transport::Plain(stream))),
                Err(error) => last = Some((address, error)),
            }
        }
        let text = match last {
            Some((address, error)) => format!("no connection to {address}: {error}"),
            None => format!("{} has no address", key.host),
        };
        Err(CallError::new(Failure::Connect, text))
    }

    async fn secure(&self, stream: Stream, key: &EndpointKey) -> Result<Connection, CallError> {
        let failed = |error: &dyn fmt::Display| {
            CallError::new(Failure::Tls, format!("no TLS with {}: {error}", key.host))
        };
        let known = self.tls.borrow().get(&key.ca).cloned();
        let tls = match known {
            Some(tls) => tls,
            None => {
                let made = trust(key.ca.clone()).await.map_err(|error| failed(&error))?;
                self.tls.borrow_mut().insert(key.ca.clone(), made.clone());
                made
            }
        };
        match tls.connect(stream, &key.host).await {
            Ok(stream) => Ok(self.connection(Transport::Tls(Box::new(stream)))),
            Err(error) => Err(failed(&error)),
        }
    }

    fn connection(&self, transport: Transport) -> Connection {
        let buffer = vec![0; READ_BYTES].into_boxed_slice();
        Connection { transport, buffer, reads: self.reads.get() }
    }
}

/// Whom the certificates of a file let trust, or those of the system.
async fn trust(ca: Option<String>) -> io::Result<TlsClient> {
    let read = spawn_blocking(move || TlsClient::new(ca.map(PathBuf::from).as_deref())).await;
    read.unwrap_or_else(|panic| Err(io::Error::other(panic.to_string())))
}

/// One call. What it has read survives the end of its time.
struct Call<'a> {
    client: &'a Client,
    endpoint: &'a Endpoint,
    request: &'a HookRequest,
    dns_cache: Duration,
    deadline: Moment,
    reader: ResponseReader,
    /// When its turn came.
    seated: Option<Moment>,
    is_written: bool,
}

impl Call<'_> {
    async fn run(&mut self, purpose: Purpose) -> Result<Response, CallError> {
        let endpoint = self.endpoint;
        let seat = endpoint.seats.take(purpose == Purpose::Gate).await;
        let _seat = seat.map_err(|_| {
            let max = limits::HOOK_CALLS_WAITING_MAX;
            CallError::new(Failure::Queue, format!("{max} calls wait for it already"))
        })?;
        self.seated = Some(clock::now());
        let _under_way = UnderWay::new(&endpoint.under_way);
        if self.request.keep_alive
            && let Some(mut connection) = endpoint.take_idle()
        {
            endpoint.reused.set(endpoint.reused.get() + 1);
            match self.exchange(&mut connection).await {
                Ok(()) => return self.finish(connection),
                // The peer has closed a connection that it did not need for a while, just now. Who is
                // only told may not be told twice.
                Err(_) if !self.reader.has_begun() && purpose == Purpose::Gate => {
                    self.is_written = false;
                }
                Err(error) => return Err(self.broken(&error)),
            }
        }
        // Boxed: names, addresses and TLS take room that a call over a kept connection does not need.
        let opened = self.client.open(&endpoint.key, self.dns_cache, self.deadline);
        let mut connection = Box::pin(opened).await?;
        endpoint.opened.set(endpoint.opened.get() + 1);
        match self.exchange(&mut connection).await {
            Ok(()) => self.finish(connection),
            Err(error) => Err(self.broken(&error)),
        }
    }

    async fn exchange(&mut self, connection: &mut Connection) -> io::Result<()> {
        connection.write_all(&self.request.bytes).await?;
        self.is_written = true;
        loop {
            let bytes = connection.read().await?;
            if bytes.is_empty() {
                return self.reader.end().map_err(io::Error::other);
            }
            if self.reader.input(bytes).map_err(io::Error::other)? {
                return Ok(());
            }
        }
    }

    fn finish(&mut self, connection: Connection) -> Result<Response, CallError> {
        let reader = std::mem::replace(&mut self.reader, ResponseReader::new(0));
        let Some(response) = reader.response() else {
            return Err(self.broken(&io::ErrorKind::UnexpectedEof.into()));
        };
        let is_current = !self.endpoint.key.is_tls || connection.reads == self.client.reads.get();
        if self.request.keep_alive && response.keep_alive && response.is_whole && is_current {
            self.endpoint.keep(connection);
        }
        Ok(response)
    }

    fn broken(&self, error: &io::Error) -> CallError {
        CallError {
            failure: Failure::Answer,
            text: format!("no answer from {}: {error}", self.endpoint.key),
            may_be_processed: self.is_written,
            is_own_delay: false,
        }
    }

    /// Its time is over.
    fn late(&self, timeout: Duration) -> CallError {
        let ms = timeout.as_millis();
        let Some(seated) = self.seated else {
            let max = limits::HOOK_CALLS_UNDER_WAY_MAX;
            let text = format!("its turn did not come within {ms} ms: {max} calls are under way");
            return CallError::new(Failure::Queue, text);
        };
        CallError {
            failure: Failure::Timeout,
            text: format!("no answer within {ms} ms"),
            may_be_processed: self.is_written,
            is_own_delay: self.deadline.since(seated) < timeout / 2,
        }
    }
}

impl Endpoint {
    /// Whether a call may go through now, and then whether it tries the endpoint for the others.
    fn admits(&self, now: Moment) -> Option<bool> {
        let mut breaker = self.breaker.borrow_mut();
        breaker.admits(now).then(|| breaker.is_open())
    }

    /// A kept connection whose peer has not closed it.
    fn take_idle(&self) -> Option<Connection> {
        let now = clock::now();
        let mut idle = self.idle.borrow_mut();
        idle.retain(|(since, _)| now.since(*since) < IDLE_MAX);
        while let Some((_, connection)) = idle.pop() {
            if socket::is_quiet(connection.stream()) {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() == limits::HOOK_IDLE_CONNECTIONS_MAX {
            idle.remove(0);
        }
        idle.push((clock::now(), connection));
    }

    fn report(&self, result: &Result<Response, CallError>, is_probe: bool) {
        let mut breaker = self.breaker.borrow_mut();
        let change = match result {
            Ok(response) if matches!(response.status, 502..=504) => breaker.failed(clock::now()),
            Ok(_) => breaker.succeeded(),
            // Says nothing of the endpoint. That another call tries it stays true.
            Err(error) if error.failure == Failure::Queue || error.is_own_delay => {
                if is_probe {
                    breaker.abandoned()
                } else {
                    Change::None
                }
            }
            Err(_) => breaker.failed(clock::now()),
        };
        match (change, result) {
            (Change::Opened(pause), Err(error)) => tracing::error!(
                endpoint = %self.key, pause_ms = pause.as_millis() as u64,
                "hooks fail again and again and are not called for a while: {error}"
            ),
            (Change::Opened(pause), Ok(response)) => tracing::error!(
                endpoint = %self.key, pause_ms = pause.as_millis() as u64,
                "hooks fail again and again and are not called for a while: answered {}",
                response.status
            ),
            (Change::Closed, _) => {
                tracing::info!(endpoint = %self.key, "hooks are answered again");
            }
            (Change::None, _) => {}
        }
    }
}

impl Connection {
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.transport {
            Transport::Plain(stream) => stream.write_all(bytes).await,
            Transport::Tls(stream) => stream.write_all(bytes).await,
        }
    }

    /// What comes next; nothing: the peer has finished.
    async fn read(&mut self) -> io::Result<&[u8]> {
        let count = match &mut self.transport {
            Transport::Plain(stream) => stream.read(&mut self.buffer).await?,
            Transport::Tls(stream) => stream.read(&mut self.buffer).await?,
        };
        Ok(&self.buffer[..count])
    }

    fn stream(&self) -> &Stream {
        match &self.transport {
            Transport::Plain(stream) => stream,
            Transport::Tls(stream) => stream.stream(),
        }
    }
}

struct UnderWay<'a>(&'a Cell<usize>);

impl<'a> UnderWay<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl CallError {
    fn new(failure: Failure, text: impl Into<String>) -> Self {
        Self { failure, text: text.into(), may_be_processed: false, is_own_delay: false }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for EndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl Failure {
    /// The word that counters use.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Breaker => "breaker",
            Self::Connect => "connect",
            Self::Dns => "dns",
            Self::Queue => "queue",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use futures_lite::future::zip;

    use super::super::event::tests::target;
    use super::*;
    use crate::config::HookEvent;
    use crate::rt::executor::{sleep, spawn_pinned};

    /// As many as open a breaker, and one more.
    const CALLS: usize = 6;

    fn request() -> HookRequest {
        HookRequest { bytes: b"POST / HTTP/1.0\r\n\r\n".to_vec(), keep_alive: false }
    }

    async fn failure(client: &Client, target: &HookTarget) -> Failure {
        client.call(target, &request(), Purpose::Gate).await.unwrap_err().failure
    }

    /// How calls end at a back end that takes connections and says nothing, when their turn comes after so
    /// long, and whether the endpoint is left alone then.
    fn failures(timeout_ms: u64, turn_after_ms: Option<u64>) -> (Vec<Failure>, bool) {
        spawn_pinned("test", None, move || async move {
            let silent = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = silent.local_addr().unwrap();
            let toml = format!("timeout = \"{timeout_ms}ms\"\non_play = \"http://{address}/\"");
            let target = target(&toml, HookEvent::Play);
            let client = Client::default();
            let endpoint = client.endpoint(&target);
            let mut failures = Vec::new();
            for _ in 0..CALLS {
                let mut seats = Vec::new();
                if turn_after_ms != Some(0) {
                    for _ in 0..limits::HOOK_CALLS_UNDER_WAY_MAX {
                        seats.push(endpoint.seats.take(true).await.unwrap());
                    }
                }
                let others = async {
                    sleep(Duration::from_millis(turn_after_ms.unwrap_or(2 * timeout_ms))).await;
                    drop(seats);
                };
                let (failure, ()) = zip(failure(&client, &target), others).await;
                failures.push(failure);
            }
            let is_open = endpoint.breaker.borrow().is_open();
            (failures, is_open)
        })
        .unwrap()
        .join()
        .unwrap()
    }

    #[test]
    fn calls_whose_turn_does_not_come_say_nothing_of_the_endpoint() {
        assert_eq!(failures(50, None), (vec![Failure::Queue; CALLS], false));
    }

    #[test]
    fn calls_whose_turn_comes_late_say_nothing_of_the_endpoint() {
        let (failures, is_open) = failures(400, Some(300));
        assert!(!failures.contains(&Failure::Breaker) && !is_open, "{failures:?}");
    }

    #[test]
    fn calls_that_had_their_time_open_the_breaker() {
        let (failures, is_open) = failures(50, Some(0));
        assert_eq!(failures[..CALLS - 1], [Failure::Timeout; CALLS - 1]);
        assert_eq!((failures[CALLS - 1], is_open), (Failure::Breaker, true));
    }

    #[test]
    fn only_the_call_that_tries_the_endpoint_lets_another_try_it() {
        let target = target("on_play = \"http://h/\"", HookEvent::Play);
        let endpoint = Client::default().endpoint(&target);
        let at = |ms| Moment::ZERO + Duration::from_millis(ms);
        assert_eq!(endpoint.admits(at(0)), Some(false));
        while !endpoint.breaker.borrow().is_open() {
            endpoint.breaker.borrow_mut().failed(at(0));
        }
        assert_eq!(endpoint.admits(at(999)), None);
        assert_eq!(endpoint.admits(at(1_000)), Some(true));
        let waited = Err(CallError::new(Failure::Queue, "its turn did not come"));
        endpoint.report(&waited, false);
        assert_eq!(endpoint.admits(at(1_000)), None, "it is being tried");
        endpoint.report(&waited, true);
        assert_eq!(endpoint.admits(at(1_000)), Some(true));
    }
}
