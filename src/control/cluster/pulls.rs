//! Which nodes of the cluster are connected to this one, and what they fetch.

use std::collections::HashMap;

use crate::control::registry::Outgoing;
use crate::proto::name::StreamName;
use crate::session::ClientId;
use crate::shard::{AskToken, Notice};

/// Connections of other nodes.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    /// What each may fetch.
    nodes: HashMap<ClientId, StreamName>,
    pulls: HashMap<ClientId, (AskToken, StreamName)>,
}

impl Pulls {
    /// A connection has shown that it is a node's, and may fetch this stream.
    pub(super) fn connected(&mut self, client: ClientId, name: StreamName) {
        self.nodes.insert(client, name);
    }

    /// Whether it has.
    pub(super) fn is_node(&self, client: ClientId) -> bool {
        self.nodes.contains_key(&client)
    }

    /// Whether it may fetch this stream.
    pub(super) fn may_fetch(&self, client: ClientId, name: &StreamName) -> bool {
        self.nodes.get(&client) == Some(name)
    }

    /// It fetches a stream.
    pub(super) fn begun(&mut self, client: ClientId, token: AskToken, name: &StreamName) {
        self.pulls.insert(client, (token, name.clone()));
    }

    /// A connection is gone. Says whether it was a node's.
    pub(super) fn gone(&mut self, client: ClientId) -> bool {
        self.pulls.remove(&client);
        self.nodes.remove(&client).is_some()
    }

    /// The stream is not this node's any more: whoever fetches it has to look for the owner.
    pub(super) fn end(&mut self, name: &StreamName, out: &mut Outgoing) {
        self.pulls.retain(|_, (token, of)| {
            if of == name {
                let why = format!("{name} is not published on this node any more");
                let connection = token.connection;
                out.push((token.node, Notice::Dismiss { connection, why }));
            }
            of != name
        });
    }

    /// How many streams are fetched from here, each node counted.
    pub(super) fn len(&self) -> usize {
        self.pulls.len()
    }
}
