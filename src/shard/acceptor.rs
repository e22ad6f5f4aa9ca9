//! The acceptor: one plain thread that hands each connection to a shard, where it stays: only a viewer of
//! a small stream goes to the shard of that stream when it asks to play.
//!
//! At a cap the connection is closed at once and counted: `limits.connections`,
//! `limits.connections_per_address`, a full inbox of the shard. Out of descriptors, it pauses.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::load::{Seat, ShardLoad};
use crate::config::{Accept, Settings};
use crate::rt::event_fd::EventFd;
use crate::rt::listeners::{Polled, poll_listeners};
use crate::rt::mesh::InboxSender;
use crate::rt::socket;
use crate::session::ClientId;

/// How long to wait when the process or the system is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// At most one line per this time about refused connections.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// What a listener's connections speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RTMP.
    Rtmp,
    /// HTTP.
    Http,
    /// HTTP of which every path is the WebSocket of the rooms.
    Rooms,
}

/// A connection on its way to its shard.
#[derive(Debug)]
pub struct NewConnection {
    /// Its number.
    pub id: ClientId,
    /// The socket; closing it is dropping it.
    pub socket: OwnedFd,
    /// The client's address.
    pub peer: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its place in the counts.
    pub seat: Seat,
}

/// Where the acceptor puts the connections of one shard.
#[derive(Debug)]
pub struct ShardDoor {
    /// The inbox.
    pub inbox: InboxSender<NewConnection>,
    /// The load.
    pub load: Arc<ShardLoad>,
}

/// Counts of the acceptor.
#[derive(Debug, Default)]
pub struct AcceptCounters {
    /// Connections that are open now.
    pub open: Arc<AtomicUsize>,
    /// Handed to a shard.
    pub accepted: AtomicU64,
    /// Closed at `limits.connections`.
    pub over_limit: AtomicU64,
    /// Closed at `limits.connections_per_address`.
    pub over_address_limit: AtomicU64,
    /// Closed because the shard's inbox was full.
    pub inbox_full: AtomicU64,
    /// Pauses because descriptors had run out.
    pub out_of_descriptors: AtomicU64,
}

/// The acceptor before its thread starts.
#[derive(Debug)]
pub struct Acceptor {
    listeners: Vec<(OwnedFd, Protocol)>,
    doors: Vec<ShardDoor>,
    settings: Arc<Settings>,
    counters: Arc<AcceptCounters>,
    open: Arc<AtomicUsize>,
    next: usize,
    by_address: HashMap<IpAddr, usize>,
    freed: (Sender<IpAddr>, Receiver<IpAddr>),
    last_complaint: Option<Instant>,
}

impl Acceptor {
    /// Over open listeners.
    pub fn new(
        listeners: Vec<(OwnedFd, Protocol)>,
        doors: Vec<ShardDoor>,
        settings: Arc<Settings>,
        counters: Arc<AcceptCounters>,
    ) -> Self {
        let room = settings.limits.connections.max(1);
        Self {
            listeners,
            doors,
            open: Arc::clone(&counters.open),
            counters,
            next: 0,
            by_address: HashMap::new(),
            freed: crossbeam_channel::bounded(room),
            last_complaint: None,
            settings,
        }
    }

    /// Starts the thread; it ends when `stop` is written, and closes its listeners.
    pub fn start(mut self, stop: Arc<EventFd>) -> io::Result<thread::JoinHandle<()>> {
        thread::Builder::new().name("acceptor".to_owned()).spawn(move || self.run(&stop))
    }

    fn run(&mut self, stop: &EventFd) {
        let mut ready = Vec::new();
        loop {
            let fds: Vec<_> = self.listeners.iter().map(|(fd, _)| fd.as_fd()).collect();
            let polled = poll_listeners(&fds, stop, None, &mut ready);
            drop(fds);
            match polled {
                Ok(Polled::Stop) => return,
                Ok(Polled::Nothing) => continue,
                Ok(Polled::Ready) => {}
                Err(error) => {
                    tracing::error!(%error, "waiting for connections failed; trying again");
                    thread::sleep(PAUSE);
                    continue;
                }
            }
            for &index in &ready {
                self.accept_all(index);
            }
        }
    }

    fn accept_all(&mut self, index: usize) {
        loop {
            let (listener, protocol) = &self.listeners[index];
            let protocol = *protocol;
            match socket::accept(listener) {
                Ok((socket, peer)) => self.hand_over(socket, peer, protocol),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_exhausted(&error) => {
                    self.counters.out_of_descriptors.fetch_add(1, Ordering::Relaxed);
                    self.complain(
                        "out of descriptors: raise `ulimit -n` or lower limits.connections",
                    );
                    thread::sleep(PAUSE);
                    return;
                }
                // The client has given up meanwhile.
                Err(_) => continue,
            }
        }
    }

    fn hand_over(&mut self, socket: OwnedFd, peer: SocketAddr, protocol: Protocol) {
        let limits = &self.settings.limits;
        if self.open.load(Ordering::Relaxed) >= limits.connections {
            self.counters.over_limit.fetch_add(1, Ordering::Relaxed);
            self.complain("limits.connections is reached: a connection was closed");
            return;
        }
        let mut freed = None;
        let per_address = limits.connections_per_address;
        if let Some(per_address) = per_address.filter(|_| !self.is_proxy(peer, protocol)) {
            self.forget_freed();
            let count = self.by_address.entry(peer.ip()).or_default();
            if *count >= per_address {
                self.counters.over_address_limit.fetch_add(1, Ordering::Relaxed);
                self.complain("limits.connections_per_address is reached: a connection was closed");
                return;
            }
            *count += 1;
            freed = Some((self.freed.0.clone(), peer.ip()));
        }
        let shard = self.choose();
        let door = &self.doors[shard];
        let seat = Seat::new(&door.load, &self.open, freed);
        let new = NewConnection { id: ClientId::next(), socket, peer, protocol, seat };
        if door.inbox.try_send(new).is_err() {
            self.counters.inbox_full.fetch_add(1, Ordering::Relaxed);
            self.complain("a shard takes no more connections: one was closed");
            return;
        }
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the peer speaks for others, whose connections the control shard counts.
    fn is_proxy(&self, peer: SocketAddr, protocol: Protocol) -> bool {
        let proxies = match protocol {
            Protocol::Rtmp => &self.settings.rtmp.proxy_protocol_from,
            Protocol::Http | Protocol::Rooms => &self.settings.http.trusted_proxies,
        };
        proxies.iter().any(|net| net.contains(peer.ip()))
    }

    fn choose(&mut self) -> usize {
        let count = self.doors.len();
        self.next = (self.next + 1) % count;
        match self.settings.server.accept {
            Accept::RoundRobin => (self.next + count - 1) % count,
            // Begins at another shard each time, so that equals take turns.
            Accept::LeastLoaded => (0..count)
                .map(|step| (self.next + step) % count)
                .min_by_key(|&shard| self.doors[shard].load.weight())
                .unwrap_or(0),
        }
    }

    fn forget_freed(&mut self) {
        while let Ok(address) = self.freed.1.try_recv() {
            if let Some(count) = self.by_address.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    self.by_address.remove(&address);
                }
            }
        }
    }

    fn complain(&mut self, what: &str) {
        let now = Instant::now();
        if self.last_complaint.is_none_or(|last| now - last >= COMPLAINT_INTERVAL) {
            self.last_complaint = Some(now);
            tracing::warn!("{what}");
        }
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    const OUT: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| OUT.contains(&code))
}
