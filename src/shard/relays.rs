//! Connections to other servers: opened by the control shard, at home on a media shard like all others.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use std::net::SocketAddr;

use super::Shard;
use super::conns::Conn;
use super::load::Seat;
use super::messages::{ConnKey, Notice};
use crate::media::Moment;
use crate::rt::socket;
use crate::session::{
    ClientId, CloseReason, RelayId, RelayNews, RelayOrder, RelaySession, Session,
};

/// A connection to another server on its way to its shard.
#[derive(Debug)]
pub struct NewRelay {
    /// Its number.
    pub id: ClientId,
    /// The connected socket.
    pub socket: OwnedFd,
    /// The other server.
    pub peer: SocketAddr,
    /// What it is for.
    pub order: Arc<RelayOrder>,
    /// Counts open connections.
    pub open: Arc<AtomicUsize>,
}

impl Shard {
    /// Takes a connection from the control shard.
    pub(super) fn begin_relay(&mut self, new: NewRelay, now: Moment) {
        let NewRelay { id, socket, peer, order, open } = new;
        let relay = order.relay;
        if self.draining.is_some() {
            let why = "the server is shutting down".to_owned();
            let news = RelayNews::Closed { status: None, why, is_over: true };
            self.outbox.notice(self.control, Notice::RelayNews(relay, Box::new(news)));
            return;
        }
        let _ = socket::set_nodelay(&socket, true);
        let wait = self.settings.verdict_wait;
        let session = Session::Relay(Box::new(RelaySession::new(order, id, peer, wait, now)));
        let seat = Seat::new(&self.load, &open, None);
        let key = self.conns.insert(Conn::new(socket, id, peer, session, seat, now));
        let Some(conn) = self.conns.get(key) else { return };
        if let Err(error) = self.poller.add(conn, key.token()) {
            let why = format!("the connection cannot be watched: {error}");
            let news = RelayNews::Closed { status: None, why, is_over: false };
            self.outbox.notice(self.control, Notice::RelayNews(relay, Box::new(news)));
            self.conns.remove(key);
            return;
        }
        self.drive(key, now, |session, io| {
            if let Session::Relay(relay) = session {
                relay.start(io);
            }
            Ok(())
        });
    }

    /// Ends a connection to another server.
    pub(super) fn end_relay(&mut self, relay: RelayId, now: Moment) {
        let found = (0..self.conns.slots()).filter_map(|slot| self.conns.key_at(slot));
        let keys: Vec<ConnKey> = found.filter(|key| self.relay_of(*key) == Some(relay)).collect();
        for key in keys {
            let why = "the relay is not wanted any more".to_owned();
            self.close(key, CloseReason::Dismissed(why), now);
        }
    }

    /// Passes on what a relay connection says.
    pub(super) fn relay_news(&mut self, key: ConnKey, news: RelayNews) {
        if let Some(relay) = self.relay_of(key) {
            self.outbox.notice(self.control, Notice::RelayNews(relay, Box::new(news)));
        }
    }

    /// Says how far a relay connection is.
    pub(super) fn report_relay(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get(key) else { return };
        let Session::Relay(_) = &conn.session else { return };
        let (bytes_in, bytes_out) = (conn.bytes_in, conn.bytes_out);
        let viewers = conn.plays.iter().filter_map(|play| self.viewers.get(&play.stream));
        let skips = viewers.filter_map(|viewed| viewed.viewer(key)).map(|it| it.skips).sum();
        self.relay_news(key, RelayNews::Progress { bytes_in, bytes_out, skips });
    }

    /// Says how a relay connection ended.
    pub(super) fn relay_closed(&mut self, key: ConnKey, reason: &CloseReason) {
        let Some(conn) = self.conns.get(key) else { return };
        let Session::Relay(session) = &conn.session else { return };
        let (status, is_over) = session.outcome();
        let why = match reason {
            CloseReason::PeerClosed => "the other server closed the connection".to_owned(),
            CloseReason::Stalled => {
                "the other server took no data for viewer.stall_timeout".to_owned()
            }
            CloseReason::PublisherIdle => {
                "the other server sent no media within publish.idle_timeout".to_owned()
            }
            reason => reason.to_string(),
        };
        self.relay_news(key, RelayNews::Closed { status, why, is_over });
    }

    fn relay_of(&self, key: ConnKey) -> Option<RelayId> {
        match &self.conns.get(key)?.session {
            Session::Relay(session) => Some(session.order().relay),
            _ => None,
        }
    }
}
