//! Opening connections to other servers: a thread for each attempt, because the system's resolver blocks for
//! as long as it likes. All addresses of a name are tried, IPv6 and IPv4, in the order of the system.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use crate::limits;
use crate::rt::doorbell::Doorbell;
use crate::rt::mesh::{Inbox, InboxSender, inbox};
use crate::rt::socket;
use crate::session::RelayId;

/// Stack of a dialling thread: the resolver's needs.
const STACK_BYTES: usize = 256 * 1024;
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
    host: String,
    port: u16,
}

/// Attempts under way, and those that wait for their turn: at most one for each relay there is.
#[derive(Debug)]
pub(super) struct Dialler {
    results: InboxSender<Dialled>,
    inbox: Inbox<Dialled>,
    under_way: usize,
    waiting: VecDeque<Call>,
}

impl Dialler {
    /// Whoever sleeps at `doorbell` is woken by results.
    pub(super) fn new(doorbell: &Doorbell) -> Self {
        let (results, inbox) = inbox(doorbell, limits::RELAY_DIALS_MAX);
        Self { results, inbox, under_way: 0, waiting: VecDeque::new() }
    }

    /// Begins an attempt, or lets it wait.
    pub(super) fn dial(&mut self, relay: RelayId, attempt: u64, host: &str, port: u16) {
        self.waiting.push_back(Call { relay, attempt, host: host.to_owned(), port });
        self.begin();
    }

    /// Forgets an attempt that has not begun; of one that has, the result comes and nobody wants it.
    pub(super) fn forget(&mut self, relay: RelayId) {
        self.waiting.retain(|call| call.relay != relay);
    }

    /// Whether a result is there.
    pub(super) fn has_results(&self) -> bool {
        self.inbox.has_pending()
    }

    /// The next result.
    pub(super) fn take(&mut self) -> Option<Dialled> {
        let dialled = self.inbox.try_recv()?;
        self.under_way -= 1;
        self.begin();
        Some(dialled)
    }

    fn begin(&mut self) {
        while self.under_way < limits::RELAY_DIALS_MAX {
            let Some(Call { relay, attempt, host, port }) = self.waiting.pop_front() else {
                return;
            };
            self.under_way += 1;
            let results = self.results.clone();
            let thread =
                thread::Builder::new().name("relay-dial".to_owned()).stack_size(STACK_BYTES);
            let spawned = thread.spawn(move || {
                let result = connect(&host, port);
                // The inbox has room for as many as there are threads.
                let _ = results.try_send(Dialled { relay, attempt, result });
            });
            if let Err(error) = spawned {
                let result = Err(format!("no thread can be started: {error}"));
                let _ = self.results.try_send(Dialled { relay, attempt, result });
            }
        }
    }
}

fn connect(host: &str, port: u16) -> Result<(OwnedFd, SocketAddr), String> {
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

fn open(address: SocketAddr) -> io::Result<OwnedFd> {
    let stream = TcpStream::connect_timeout(&address, limits::RELAY_DIAL_MAX)?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    socket::set_keepalive(&stream, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT)?;
    Ok(stream.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

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
        dialler.dial(RelayId(1), 3, "localhost", port);
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
        dialler.dial(RelayId(1), 1, "127.0.0.1", port);
        let refused = result_of(&mut dialler).result.unwrap_err();
        assert!(refused.starts_with(&format!("127.0.0.1:{port}: ")), "{refused}");
        dialler.dial(RelayId(2), 1, "host.invalid", 1935);
        let unknown = result_of(&mut dialler).result.unwrap_err();
        assert!(unknown.starts_with("host.invalid has no address"), "{unknown}");
    }

    #[test]
    fn more_attempts_than_threads_wait_for_their_turn() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let doorbell = Doorbell::new().unwrap();
        let mut dialler = Dialler::new(&doorbell);
        // Fewer than a listener holds that accepts nothing.
        let count = limits::RELAY_DIALS_MAX as u64 + 40;
        for number in 0..count {
            dialler.dial(RelayId(number), 1, "127.0.0.1", port);
        }
        assert_eq!(dialler.under_way, limits::RELAY_DIALS_MAX);
        for _ in 0..count {
            assert!(result_of(&mut dialler).result.is_ok());
        }
        assert_eq!((dialler.under_way, dialler.waiting.len()), (0, 0));
    }

    #[test]
    fn attempts_of_relays_that_are_gone_do_not_pile_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let doorbell = Doorbell::new().unwrap();
        let mut dialler = Dialler::new(&doorbell);
        for number in 0..limits::RELAY_DIALS_MAX as u64 {
            dialler.dial(RelayId(number), 1, "127.0.0.1", port);
        }
        for number in 1_000..2_000 {
            dialler.dial(RelayId(number), 1, "127.0.0.1", port);
            dialler.forget(RelayId(number));
        }
        assert_eq!(dialler.waiting.len(), 0);
    }
}
