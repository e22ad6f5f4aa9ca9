//! The two connections to Redis: one for commands, and one for messages to members, which a thread reads.

use std::collections::BTreeMap;
use std::io;
use std::thread;

use crossbeam_channel::{Receiver, Sender};
use redis::{Client, Connection, Pipeline, RedisResult, Value};

use super::scripts::Scripts;
use super::worker::Work;
use crate::control::redis_link::{connect, connect_to_listen, kind, subscribe, text};
use crate::proto::palava::PeerId;

/// What waits for the listener; more waits with the worker.
const CHANNELS_WAITING_MAX: usize = 1024;
/// Channels in one command.
const CHANNELS_AT_ONCE: usize = 500;

/// Channels of members begin with it; the rest is the id.
const CHANNEL: &str = "ps:connection:";
/// What a node is told begins with it; the rest is its name.
const NODE_CHANNEL: &str = "shardcast:rooms:node:";
/// Says that the listener has new channels, or only that it is still heard.
pub(super) const WAKE: &str = "wake";

/// A change of what the listener hears.
#[derive(Clone, Copy, Debug)]
pub(super) enum Listen {
    Subscribe(PeerId),
    Unsubscribe(PeerId),
}

/// Both connections.
pub(super) struct Link {
    commands: Connection,
    pub(super) scripts: Scripts,
    pub(super) listens: Sender<Listen>,
}

/// What the listener reads.
pub(super) enum Heard {
    /// A text for a member.
    Text(PeerId, String),
    /// A text for this node.
    Node(String),
    /// From now on messages of this member come.
    Subscribed(PeerId),
}

/// The channel of a node.
pub(super) fn node_channel(node: &str) -> String {
    format!("{NODE_CHANNEL}{node}")
}

impl Link {
    /// Connects and listens to these members; `generation` tells what is heard here from what is heard by
    /// an earlier link.
    pub(super) fn open(
        client: &Client,
        node: &str,
        members: &[PeerId],
        generation: u64,
        work: Sender<Work>,
    ) -> RedisResult<Self> {
        let mut commands = connect(client)?;
        let scripts = Scripts::load(&mut commands)?;
        let mut ears = connect_to_listen(client)?;
        subscribe(&mut ears, "SUBSCRIBE", &[node_channel(node)])?;
        let channels: Vec<String> = members.iter().map(|peer| channel(*peer)).collect();
        for channels in channels.chunks(CHANNELS_AT_ONCE) {
            subscribe(&mut ears, "SUBSCRIBE", channels)?;
        }
        // Nobody may be restored whose messages would be missed.
        let mut early = Vec::new();
        let mut confirmed = 0;
        while confirmed < 1 + members.len() {
            let value = ears.recv_response()?;
            confirmed += usize::from(kind(&value) == Some("subscribe"));
            early.extend(heard(value).filter(|it| !matches!(it, Heard::Subscribed(_))));
        }
        let (listens, changes) = crossbeam_channel::bounded(CHANNELS_WAITING_MAX);
        thread::Builder::new()
            .name("rooms-listen".to_owned())
            .spawn(move || {
                let error = listen(&mut ears, early, &changes, generation, &work);
                let _ = work.send(Work::Lost(generation, error.to_string()));
            })
            .map_err(|error| redis::RedisError::from(io::Error::other(error)))?;
        Ok(Self { commands, scripts, listens })
    }

    /// Runs commands, in order; each has one answer.
    pub(super) fn run(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        commands.query(&mut self.commands)
    }
}

/// Reads until the connection breaks.
fn listen(
    ears: &mut Connection,
    early: Vec<Heard>,
    changes: &Receiver<Listen>,
    generation: u64,
    work: &Sender<Work>,
) -> redis::RedisError {
    let broken = || redis::RedisError::from(io::Error::other("the worker has ended"));
    for heard in early {
        if work.send(Work::Heard(generation, heard)).is_err() {
            return broken();
        }
    }
    loop {
        let value = match ears.recv_response() {
            Ok(value) => value,
            Err(error) => return error,
        };
        let Some(heard) = heard(value) else { continue };
        if matches!(&heard, Heard::Node(text) if text == WAKE) {
            // Of several changes for one member the last one holds.
            let wanted: BTreeMap<PeerId, bool> = changes
                .try_iter()
                .map(|change| match change {
                    Listen::Subscribe(peer) => (peer, true),
                    Listen::Unsubscribe(peer) => (peer, false),
                })
                .collect();
            let channels = |wants: bool| -> Vec<String> {
                let some = wanted.iter().filter(|(_, wanted)| **wanted == wants);
                some.map(|(peer, _)| channel(*peer)).collect()
            };
            let (begin, end) = (channels(true), channels(false));
            let changed = subscribe(ears, "UNSUBSCRIBE", &end)
                .and_then(|()| subscribe(ears, "SUBSCRIBE", &begin));
            if let Err(error) = changed {
                return error;
            }
        } else if work.send(Work::Heard(generation, heard)).is_err() {
            return broken();
        }
    }
}

fn channel(peer: PeerId) -> String {
    format!("{CHANNEL}{peer}")
}

fn heard(value: Value) -> Option<Heard> {
    let Value::Array(parts) = &value else { return None };
    let [_, channel, payload] = parts.as_slice() else { return None };
    let channel = text(channel)?;
    let peer = channel.strip_prefix(CHANNEL).and_then(PeerId::parse);
    match (kind(&value)?, peer) {
        ("message", Some(peer)) => Some(Heard::Text(peer, text(payload)?.to_owned())),
        ("message", None) => Some(Heard::Node(text(payload)?.to_owned())),
        ("subscribe", Some(peer)) => Some(Heard::Subscribed(peer)),
        _ => None,
    }
}
