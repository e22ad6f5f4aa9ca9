//! Accepted connections by address, for `limits.connections_per_address`. The acceptor counts those that
//! come directly before anything is read; whom a proxy speaks for is known later, and counted here.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::session::ClientId;

/// Who is connected from where.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    clients: HashMap<ClientId, IpAddr>,
    counts: HashMap<IpAddr, usize>,
}

impl Addresses {
    /// Connections of an address.
    pub(super) fn count(&self, peer: SocketAddr) -> usize {
        self.counts.get(&peer.ip().to_canonical()).copied().unwrap_or_default()
    }

    /// A connection was accepted.
    pub(super) fn add(&mut self, client: ClientId, peer: SocketAddr) {
        let address = peer.ip().to_canonical();
        self.remove(client);
        self.clients.insert(client, address);
        *self.counts.entry(address).or_default() += 1;
    }

    /// It is gone.
    pub(super) fn remove(&mut self, client: ClientId) {
        let Some(address) = self.clients.remove(&client) else { return };
        if let Some(count) = self.counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&address);
            }
        }
    }

    /// Whether nobody is counted.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.counts.is_empty()
    }
}
