//! Opening connections to other servers: a thread for each attempt, because the system's resolver blocks for
//! as long as it likes. All addresses of a name are tried, IPv6 and IPv4, in the order of the system. Over TLS
//! the thread stays, and carries the bytes: the shard gets a socket that looks like a plain one.
//!
//! What must hold: a place that does not answer, however many relays lead there, keeps another one waiting
//! for its turn at most; and targets keep no source waiting.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::limits;
use crate::rt::doorbell::Doorbell;
use crate::rt::mesh::{Inbox, InboxSender, inbox};
use crate::rt::socket;
use crate::rt::tls_pump::TlsPump;
use crate::session::RelayId;

/// Stack of a dialling thread: the needs of the resolver, and of those who verify certificates.
const STACK_BYTES: usize = 512 * 1024;
/// An open connection that carries nothing for so long is asked whether it is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(20);
/// Between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Unanswered ones until it is taken for lost.
const KEEPALIVE_COUNT: u32 = 3;

/// What came of an attempt.
#[derive(Debug)]
pub(super) struct Dialled {
    /// For which relay.
    pub(super) relay: RelayId,
    /// Which of its attempts.
    pub(super) attempt: u64,
    /// The socket and where it leads, or a sentence.
    pub(super) result: Result<(OwnedFd, SocketAddr), String>,
}

#[derive(Debug)]
struct Call {
    relay: RelayId,
    attempt: u64,
    purpose: Purpose,
    place: DialPlace,
}

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To fetch a stream, for which viewers wait.
    Source,
    /// To send one.
    Target,
}

/// Which go first when there is room for one more.
const PURPOSES: [Purpose; 2] = [Purpose::Source, Purpose::Target];

/// A host and its port: what is down, or slow, as a whole.
type HostKey = (String, u16);

/// The attempts at one host, and port.
#[derive(Debug, Default)]
struct Host {
    under_way: usize,
    /// By purpose.
    waiting: [VecDeque<Call>; 2],
    /// Whether it has its turn among the hosts with room, by purpose.
    is_listed: [bool; 2],
}

/// An attempt that is over.
#[derive(Debug)]
struct Answered {
    dialled: Dialled,
    key: HostKey,
    purpose: Purpose,
}

/// Where to.
#[derive(Clone, Debug)]
pub(super) struct DialPlace {
    pub(super) host: String,
    pub(super) port: u16,
    /// Over TLS.
    pub(super) tls: Option<Trust>,
}

/// Which certificates are trusted.
#[derive(Clone, Debug)]
pub(super) struct Trust {
    /// Those of a PEM file; `None` is the system's.
    pub(super) ca: Option<String>,
}

/// Attempts under way, and those that wait for their turn: at most one for each relay there is.
#[derive(Debug)]
pub(super) struct Dialler {
    results: InboxSender<Answered>,
    inbox: Inbox<Answered>,
    under_way: usize,
    /// Of these, those at targets.
    to_targets: usize,
    /// Those with attempts that wait or are under way.
    hosts: HashMap<HostKey, Host>,
    /// By purpose: hosts with attempts that wait, in turn. One that has reached its number, or has none any
    /// more, is passed over.
    turns: [VecDeque<HostKey>; 2],
    /// Where the attempts of relays wait.
    waiting: HashMap<RelayId, (HostKey, Purpose)>,
    /// Connections over TLS.
    over_tls: Arc<AtomicUsize>,
}

impl Dialler {
    /// Whoever sleeps at `doorbell` is woken by results.
    pub(super) fn new(doorbell: &Doorbell) -> Self {
        let (results, inbox) = inbox(doorbell, limits::RELAY_DIALS_MAX);
        Self {
            results,
            inbox,
            under_way: 0,
            to_targets: 0,
            hosts: HashMap::new(),
            turns: Default::default(),
            waiting: HashMap::new(),
            over_tls: Arc::default(),
        }
    }

    /// Begins an attempt, or lets it wait.
    pub(super) fn dial(
        &mut self,
        relay: RelayId,
        attempt: u64,
        purpose: Purpose,
        place: DialPlace,
    ) {
        self.forget(relay);
        let key = (place.host.clone(), place.port);
        self.waiting.insert(relay, (key.clone(), purpose));
        let host = self.hosts.entry(key.clone()).or_default();
        host.waiting[purpose as usize].push_back(Call { relay, attempt, purpose, place });
        self.list(&key);
        self.begin();
    }

    /// Forgets an attempt that has not begun; of one that has, the result comes and nobody wants it.
    pub(super) fn forget(&mut self, relay: RelayId) {
        let Some((key, purpose)) = self.waiting.remove(&relay) else { return };
        if let Some(host) = self.hosts.get_mut(&key) {
            host.waiting[purpose as usize].retain(|call| call.relay != relay);
        }
        self.drop_if_unused(&key);
    }

    /// Whether a result is there.
    pub(super) fn has_results(&self) -> bool {
        self.inbox.has_pending()
    }

    /// The next result.
    pub(super) fn take(&mut self) -> Option<Dialled> {
        let Answered { dialled, key, purpose } = self.inbox.try_recv()?;
        self.under_way -= 1;
        self.to_targets -= usize::from(purpose == Purpose::Target);
        if let Some(host) = self.hosts.get_mut(&key) {
            host.under_way -= 1;
        }
        self.list(&key);
        self.drop_if_unused(&key);
        self.begin();
        Some(dialled)
    }

    /// Gives a host its turn, if it has use for one and has none.
    fn list(&mut self, key: &HostKey) {
        let Some(host) = self.hosts.get_mut(key) else { return };
        for purpose in PURPOSES {
            let of = purpose as usize;
            let has_use =
                host.under_way < limits::RELAY_DIALS_PER_HOST_MAX && !host.waiting[of].is_empty();
            if has_use && !host.is_listed[of] {
                host.is_listed[of] = true;
                self.turns[of].push_back(key.clone());
            }
        }
    }

    fn drop_if_unused(&mut self, key: &HostKey) {
        let is_unused = self
            .hosts
            .get(key)
            .is_some_and(|host| host.under_way == 0 && host.waiting.iter().all(VecDeque::is_empty));
        if is_unused && let Some(host) = self.hosts.remove(key) {
            for purpose in PURPOSES {
                if host.is_listed[purpose as usize] {
                    self.turns[purpose as usize].retain(|listed| listed != key);
                }
            }
        }
    }

    fn begin(&mut self) {
        for purpose in PURPOSES {
            while self.has_room(purpose) {
                let Some(key) = self.turns[purpose as usize].pop_front() else { break };
                let Some(host) = self.hosts.get_mut(&key) else { continue };
                host.is_listed[purpose as usize] = false;
                if host.under_way >= limits::RELAY_DIALS_PER_HOST_MAX {
                    continue;
                }
                let Some(call) = host.waiting[purpose as usize].pop_front() else { continue };
                host.under_way += 1;
                self.waiting.remove(&call.relay);
                self.list(&key);
                self.start(call, key);
            }
        }
    }

    fn has_room(&self, purpose: Purpose) -> bool {
        let (of_own, kept_free) = match purpose {
            Purpose::Target => (self.to_targets, limits::RELAY_DIALS_OF_SOURCES),
            Purpose::Source => (self.under_way - self.to_targets, limits::RELAY_DIALS_OF_TARGETS),
        };
        self.under_way < limits::RELAY_DIALS_MAX && of_own < limits::RELAY_DIALS_MAX - kept_free
    }

    fn start(&mut self, call: Call, key: HostKey) {
        let Call { relay, attempt, purpose, place } = call;
        self.under_way += 1;
        self.to_targets += usize::from(purpose == Purpose::Target);
        let of_thread = key.clone();
        let (results, over_tls) = (self.results.clone(), Arc::clone(&self.over_tls));
        let thread = thread::Builder::new().name("relay-dial".to_owned()).stack_size(STACK_BYTES);
        let spawned = thread.spawn(move || {
            let (result, pump) = match connect(&place, &over_tls) {
                Ok(Connected { socket, peer, pump }) => (Ok((socket, peer)), pump),
                Err(why) => (Err(why), None),
            };
            // The inbox has room for as many as there are threads that have not answered.
            let dialled = Dialled { relay, attempt, result };
            let _ = results.try_send(Answered { dialled, key: of_thread, purpose });
            if let Some((pump, _counted)) = pump
                && let Err(error) = pump.run()
            {
                let host = place.host;
                tracing::info!(relay = relay.0, host, %error, "a connection over TLS broke");
            }
        });
        if let Err(error) = spawned {
            let result = Err(format!("no thread can be started: {error}"));
            let dialled = Dialled { relay, attempt, result };
            let _ = self.results.try_send(Answered { dialled, key, purpose });
        }
    }
}

struct Connected {
    socket: OwnedFd,
    peer: SocketAddr,
    /// What has to run for it.
    pump: Option<(TlsPump, Counted)>,
}

/// Counts a connection over TLS.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Result<Self, String> {
        let max = limits::RELAY_TLS_MAX;
        let counted = Self(Arc::clone(count));
        if count.fetch_add(1, Ordering::Relaxed) >= max {
            return Err(format!("there are {max} connections over TLS already"));
        }
        Ok(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn connect(place: &DialPlace, over_tls: &Arc<AtomicUsize>) -> Result<Connected, String> {
    let DialPlace { host, port, tls } = place;
    let Some(Trust { ca }) = tls else {
        let (stream, peer) = connect_tcp(host, *port)?;
        stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        return Ok(Connected { socket: stream.into(), peer, pump: None });
    };
    let counted = Counted::new(over_tls)?;
    let (stream, peer) = connect_tcp(host, *port)?;
    let deadline = Instant::now() + limits::RELAY_TLS_HANDSHAKE_MAX;
    let (pump, socket) = TlsPump::connect(stream, host, ca.as_deref().map(Path::new), deadline)?;
    Ok(Connected { socket, peer, pump: Some((pump, counted)) })
}

fn connect_tcp(host: &str, port: u16) -> Result<(TcpStream, SocketAddr), String> {
    let found = (host, port).to_socket_addrs();
    let addresses: Vec<SocketAddr> =
        found.map_err(|error| format!("{host} has no address: {error}"))?.collect();
    let mut failed = Vec::new();
    for address in addresses.into_iter().take(limits::RELAY_ADDRESSES_MAX) {
        match open(address) {
            Ok(socket) => return Ok((socket, address)),
            Err(error) => failed.push(format!("{address}: {error}")),
        }
    }
    if failed.is_empty() {
        return Err(format!("{host} has no address"));
    }
    Err(failed.join("; "))
}

fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, limits::RELAY_DIAL_MAX)?;
    stream.set_nodelay(true)?;
    socket::set_keepalive(&stream, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT)?;
    socket::set_user_timeout(&stream, limits::RELAY_UNACKNOWLEDGED_MAX)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn at(host: &str, port: u16) -> DialPlace {
        DialPlace { host: host.to_owned(), port, tls: None }
    }

    fn result_of(dialler: &mut Dialler) -> Dialled {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(dialled) = dialler.take() {
                return dialled;
            }
            assert!(Instant::now() < deadline, "no result");
            thread::yield_now();
        }
    }

    #[test]
    fn connects_to_whichever_address_of_a_name_answers() {
        // `localhost` is ::1 first where there is IPv6; only IPv4 listens.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let doorbell = Doorbell::new().unwrap();
        let mut dialler = Dialler::new(&doorbell);
        dialler.dial(RelayId(1), 3, Purpose::Source, at("localhost", port));
        let dialled = result_of(&mut dialler);
        assert_eq!((dialled.relay, dialled.attempt), (RelayId(1), 3));
        assert_eq!(dialled.result.unwrap().1, listener.local_addr().unwrap());
    }

    #[test]
    fn failures_name_the_place() {
        let doorbell = Doorbell::new().unwrap();
        let mut dialler = Dialler::new(&doorbell);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        dialler.dial(RelayId(1), 1, Purpose::Target, at("127.0.0.1", port));
        let refused = result_of(&mut dialler).result.unwrap_err();
        assert!(refused.starts_with(&format!("127.0.0.1:{port}: ")), "{refused}");
        dialler.dial(RelayId(2), 1, Purpose::Target, at("host.invalid", 1935));
        let unknown = result_of(&mut dialler).result.unwrap_err();
        assert!(unknown.starts_with("host.invalid has no address"), "{unknown}");
    }

    #[test]
    fn who_speaks_no_tls_is_told_from_who_does_not_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let plain = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            io::Write::write_all(&mut stream, b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
            stream
        });
        let doorbell = Doorbell::new().unwrap();
        let mut dialler = Dialler::new(&doorbell);
        let place = DialPlace { tls: Some(Trust { ca: None }), ..at("127.0.0.1", port) };
        dialler.dial(RelayId(1), 1, Purpose::Target, place);
        let why = result_of(&mut dialler).result.unwrap_err();
        assert!(why.starts_with("127.0.0.1 speaks no TLS there"), "{why}");
        drop(plain.join());
        assert_eq!(dialler.over_tls.load(Ordering::Relaxed), 0);
    }

    /// A listener that has accepted nothing for so long that it takes no further connection.
    struct Silent {
        _listener: socket2::Socket,
        _held: Vec<TcpStream>,
        port: u16,
    }

    impl Silent {
        fn start() -> Self {
            let listener =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
            listener.bind(&any.into()).unwrap();
            listener.listen(0).unwrap();
            let address = listener.local_addr().unwrap().as_socket().unwrap();
            let mut held = Vec::new();
            while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200))
            {
                held.push(stream);
            }
            Self { _listener: listener, _held: held, port: address.port() }
        }
    }

    #[test]
    fn more_attempts_than_threads_wait_for_their_turn() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let doorbell = Doorbell::new().unwrap();
        let mut dialler = Dialler::new(&doorbell);
        // Fewer than a listener holds that accepts nothing.
        let count = limits::RELAY_DIALS_PER_HOST_MAX as u64 + 40;
        for number in 0..count {
            dialler.dial(RelayId(number), 1, Purpose::Source, at("127.0.0.1", port));
        }
        assert_eq!(dialler.under_way, limits::RELAY_DIALS_PER_HOST_MAX);
        let order: Vec<RelayId> = (0..count)
            .map(|_| {
                let dialled = result_of(&mut dialler);
                assert!(dialled.result.is_ok());
                dialled.relay
            })
            .collect();
        let last = order.iter().position(|relay| *relay == RelayId(count - 1)).unwrap();
        assert!(last + limits::RELAY_DIALS_PER_HOST_MAX >= order.len(), "who came last is late");
        assert_eq!((dialler.under_way, dialler.to_targets), (0, 0));
        assert!(dialler.hosts.is_empty() && dialler.waiting.is_empty());
    }

    #[test]
    fn a_host_that_does_not_answer_keeps_no_other_waiting() {
        let silent = Silent::start();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let doorbell = Doorbell::new().unwrap();
        let mut dialler = Dialler::new(&doorbell);
        for number in 0..1_000 {
            dialler.dial(RelayId(number), 1, Purpose::Target, at("127.0.0.1", silent.port));
        }
        assert_eq!(dialler.under_way, limits::RELAY_DIALS_PER_HOST_MAX);
        dialler.dial(RelayId(5_000), 1, Purpose::Target, at("127.0.0.1", port));
        let dialled = result_of(&mut dialler);
        assert_eq!(dialled.relay, RelayId(5_000));
        assert!(dialled.result.is_ok());
    }

    #[test]
    fn targets_leave_room_for_sources_and_hosts_take_turns() {
        let silent: Vec<Silent> = (0..8).map(|_| Silent::start()).collect();
        let doorbell = Doorbell::new().unwrap();
        let mut dialler = Dialler::new(&doorbell);
        let max = limits::RELAY_DIALS_MAX;
        for number in 0..80 {
            let port = silent[number % 8].port;
            dialler.dial(RelayId(number as u64), 1, Purpose::Target, at("127.0.0.1", port));
        }
        let of_targets = max - limits::RELAY_DIALS_OF_SOURCES;
        assert_eq!((dialler.under_way, dialler.to_targets), (of_targets, of_targets));
        for host in dialler.hosts.values() {
            assert_eq!(host.under_way, of_targets / 8, "each has as many as the others");
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        dialler.dial(RelayId(100), 1, Purpose::Target, at("127.0.0.1", port));
        dialler.dial(RelayId(101), 1, Purpose::Source, at("127.0.0.1", port));
        assert!(dialler.waiting.contains_key(&RelayId(100)));
        assert_eq!(result_of(&mut dialler).relay, RelayId(101), "a source goes first");
    }

    #[test]
    fn attempts_of_relays_that_are_gone_do_not_pile_up() {
        let silent = Silent::start();
        let doorbell = Doorbell::new().unwrap();
        let mut dialler = Dialler::new(&doorbell);
        for number in 0..limits::RELAY_DIALS_PER_HOST_MAX as u64 {
            dialler.dial(RelayId(number), 1, Purpose::Target, at("127.0.0.1", silent.port));
        }
        for number in 1_000..2_000 {
            dialler.dial(RelayId(number), 1, Purpose::Target, at("127.0.0.1", silent.port));
            dialler.forget(RelayId(number));
        }
        assert!(dialler.waiting.is_empty());
        assert!(dialler.turns.iter().all(|turns| turns.len() <= 1), "{:?}", dialler.turns);
    }
}
