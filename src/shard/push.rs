//! Members of channels on this shard, and what is sent to them: one notice per message, whatever the
//! number of members. Its bytes go into the output of each, between the messages of streams.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Shard;
use super::claim::Member;
use super::messages::{AskToken, ConnKey, Notice, PushMessage};
use crate::media::Moment;
use crate::rt::socket;
use crate::session::{
    ClientInfo, CloseReason, Membership, PushAsk, PushGrant, PushTarget, PushWire,
};

/// Members by channel and user.
#[derive(Debug, Default)]
pub(super) struct Members {
    targets: HashMap<PushTarget, HashSet<ConnKey>>,
    /// Members that cannot take what they get; kept for its memory.
    slow: Vec<ConnKey>,
    /// Counts.
    pub(super) deliveries: PushDeliveries,
}

/// Counts of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PushDeliveries {
    /// Messages that came from the control shard.
    pub messages: u64,
    /// Messages put into the output of a member, each counted for itself.
    pub deliveries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Members closed because too much waited for them.
    pub slow_closed: u64,
}

impl Members {
    fn join(&mut self, key: ConnKey, membership: &Membership) {
        for target in &membership.targets {
            self.targets.entry(*target).or_default().insert(key);
        }
    }

    /// A connection ends.
    pub(super) fn leave(&mut self, key: ConnKey, member: &Member) {
        for target in member.targets() {
            if let Some(members) = self.targets.get_mut(target) {
                members.remove(&key);
                if members.is_empty() {
                    self.targets.remove(target);
                }
            }
        }
    }
}

impl Shard {
    /// Asks for push messages on behalf of a connection.
    pub(super) fn push_ask(
        &mut self,
        key: ConnKey,
        serial: u32,
        wire: PushWire,
        since: Option<String>,
    ) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.open_asks += 1;
        let client = conn.session.client().cloned();
        let client = client.unwrap_or_else(|| Arc::new(ClientInfo::default()));
        let ask = Box::new(PushAsk { peer: conn.peer, client, wire, since });
        let token = AskToken { node: self.index, connection: key, serial };
        self.outbox.notice(self.control, Notice::PushJoin(token, ask));
    }

    /// A connection is a member from now on. One that is gone gives the membership back.
    pub(super) fn push_join(&mut self, key: ConnKey, membership: &Arc<Membership>, wire: PushWire) {
        let member = Member::new(Arc::clone(membership), wire, &self.releases);
        if let Some(conn) = self.conns.get_mut(key)
            && conn.closing.is_none()
        {
            conn.member = Some(member);
            self.members.join(key, membership);
        }
    }

    /// A connection has been told that it gets messages, and gets those that it has missed.
    pub(super) fn push_granted(&mut self, key: ConnKey, grant: &PushGrant, now: Moment) {
        let conn = self.conns.get(key);
        let wire = conn.and_then(|conn| conn.session.push_wire()).unwrap_or(PushWire::WebSocket);
        if let Some(conn) = conn
            && wire == PushWire::Sse
        {
            // Such a client sends nothing: that it is gone is noticed by what it does not acknowledge.
            let _ = socket::set_user_timeout(conn, self.settings.http.ping_timeout);
        }
        self.push_join(key, &grant.membership, wire);
        for message in &grant.missed {
            let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.closing.is_none()) else {
                return;
            };
            if !conn.push_shared(message) {
                self.members.deliveries.slow_closed += 1;
                self.close(key, CloseReason::OutputFull, now);
                return;
            }
        }
        self.list_output(key);
    }

    /// Puts a message into the output of every member; who has too much waiting is closed.
    pub(super) fn push(&mut self, message: &PushMessage, now: Moment) {
        self.members.deliveries.messages += 1;
        let Some(members) = self.members.targets.get(&message.target) else { return };
        let mut slow = std::mem::take(&mut self.members.slow);
        let counts = &mut self.members.deliveries;
        for &key in members {
            let Some(conn) = self.conns.get_mut(key) else { continue };
            let Some(member) = &conn.member else { continue };
            let bytes = match member.wire {
                PushWire::Rtmp => &message.forms.rtmp,
                PushWire::Sse => &message.forms.sse,
                PushWire::WebSocket => &message.forms.websocket,
            };
            debug_assert!(!bytes.is_empty(), "the control shard counts members by their form");
            if !conn.take_shared(bytes, now) {
                slow.push(key);
                continue;
            }
            counts.deliveries += 1;
            counts.bytes += bytes.len() as u64;
            if !conn.is_out_listed {
                conn.is_out_listed = true;
                self.out_list.push(key);
            }
        }
        counts.slow_closed += slow.len() as u64;
        for key in slow.drain(..) {
            self.close(key, CloseReason::OutputFull, now);
        }
        self.members.slow = slow;
    }
}

#[cfg(test)]
mod tests;
