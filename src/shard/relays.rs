//! Connections to other servers: opened by the control shard, at home on a media shard like all others.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use std::net::SocketAddr;

use super::Shard;
use super::conns::Conn;
use super::load::Seat;
use super::messages::{ConnKey, Notice};
use crate::media::{Frame, FrameKind, Moment, StreamId, Track};
use crate::proto::name::StreamName;
use crate::rt::event_fd::EventFd;
use crate::rt::socket;
use crate::session::{
    ClientId, CloseReason, MediaMessage, RelayEnd, RelayId, RelayNews, RelayOrder, RelaySession,
    Session,
};

/// A connection to another server on its way to its shard.
#[derive(Debug)]
pub struct NewRelay {
    /// Its number.
    pub id: ClientId,
    /// The connected socket, and the other server; `None` for a mirror.
    pub socket: Option<(OwnedFd, SocketAddr)>,
    /// What it is for.
    pub order: Arc<RelayOrder>,
    /// Counts open connections.
    pub open: Arc<AtomicUsize>,
}

impl Shard {
    /// Takes a connection from the control shard.
    pub(super) fn begin_relay(&mut self, new: NewRelay, now: Moment) {
        let NewRelay { id, socket, order, open } = new;
        let relay = order.relay;
        if self.draining.is_some() {
            let why = "the server is shutting down".to_owned();
            return self.relay_failed(relay, why, RelayEnd::Over);
        }
        let (socket, peer) = match socket {
            Some((socket, peer)) => {
                let _ = socket::set_nodelay(&socket, true);
                (socket, peer)
            }
            None => match self.mirror_place(&order) {
                Ok(place) => place,
                Err((why, end)) => return self.relay_failed(relay, why, end),
            },
        };
        let wait = self.settings.verdict_wait;
        let session = Session::Relay(Box::new(RelaySession::new(order, id, peer, wait, now)));
        let seat = Seat::new(&self.load, &open, None);
        let key = self.conns.insert(Conn::new(socket, id, peer, session, seat, now));
        let Some(conn) = self.conns.get(key) else { return };
        if let Err(error) = self.poller.add(conn, key.token()) {
            self.conns.remove(key);
            let why = format!("the connection cannot be watched: {error}");
            return self.relay_failed(relay, why, RelayEnd::Failed);
        }
        self.drive(key, now, |session, io| {
            if let Session::Relay(relay) = session {
                relay.start(io);
            }
            Ok(())
        });
    }

    fn relay_failed(&mut self, relay: RelayId, why: String, end: RelayEnd) {
        let news = RelayNews::Closed { status: None, why, end };
        self.outbox.notice(self.control, Notice::RelayNews(relay, Box::new(news)));
    }

    /// What stands for the socket of a mirror: a descriptor that is never ready. Its address is that of
    /// the stream's publisher.
    fn mirror_place(
        &self,
        order: &RelayOrder,
    ) -> Result<(OwnedFd, SocketAddr), (String, RelayEnd)> {
        let source = self.published_as(&order.name).and_then(|id| self.publications.get(&id));
        let conn = source.and_then(|source| self.conns.get(source.connection));
        let gone = || {
            let why = "the stream is not published on this shard any more";
            (why.to_owned(), RelayEnd::SourceGone)
        };
        let conn = conn.ok_or_else(gone)?;
        let nothing = EventFd::new().map_err(|error| (error.to_string(), RelayEnd::Failed))?;
        Ok((nothing.into_fd(), conn.session.peer()))
    }

    fn published_as(&self, name: &StreamName) -> Option<StreamId> {
        let found = self.publications.iter().find(|(_, publication)| publication.name == *name);
        found.map(|(id, _)| *id)
    }

    /// A mirror may publish: it begins with the group of pictures of its source.
    pub(super) fn begin_mirror(&mut self, key: ConnKey, now: Moment) {
        let Some(conn) = self.conns.get(key) else { return };
        let Session::Relay(session) = &conn.session else { return };
        let source = self.published_as(&session.order().name);
        let Some(source) = source.and_then(|id| self.publications.get_mut(&id)) else {
            return self.close(key, CloseReason::SourceEnded, now);
        };
        source.mirrors.push(key);
        let headers = source.gop().preamble().headers().iter().map(|header| MediaMessage {
            message_stream_id: MIRROR_STREAM,
            track: header.track,
            is_metadata: header.track == Track::Data,
            timestamp_ms: 0,
            payload: header.payload.clone(),
        });
        let frames = source.gop().frames().map(mirrored);
        let messages: Vec<MediaMessage> = headers.chain(frames).collect();
        for message in messages {
            self.publish_media(key, message, now, now);
        }
    }

    /// Passes a frame of a publication on to those that are the same under another name.
    pub(super) fn mirror(&mut self, stream: StreamId, frame: &Frame, now: Moment) {
        let Some(source) = self.publications.get_mut(&stream) else { return };
        let mut mirrors = std::mem::take(&mut source.mirrors);
        mirrors.retain(|key| self.conns.get(*key).is_some_and(|conn| conn.closing.is_none()));
        for key in &mirrors {
            self.publish_media(*key, mirrored(frame), frame.arrival, now);
        }
        if let Some(source) = self.publications.get_mut(&stream) {
            source.mirrors = mirrors;
        }
    }

    /// The source of a mirror has ended.
    pub(super) fn end_mirror(&mut self, key: ConnKey, goodbye: bool, now: Moment) {
        if goodbye {
            self.drive(key, now, |session, io| {
                if let Session::Relay(relay) = session {
                    relay.source_said_goodbye(io);
                }
                Ok(())
            });
        }
        self.close(key, CloseReason::SourceEnded, now);
    }

    /// Ends a connection to another server.
    pub(super) fn end_relay(&mut self, relay: RelayId, now: Moment) {
        for key in self.connections_of(relay) {
            let why = "the relay is not wanted any more".to_owned();
            self.close(key, CloseReason::Dismissed(why), now);
        }
    }

    /// Ends a connection to a source that has sent nothing yet, because there is another source.
    pub(super) fn leave_idle_source(&mut self, relay: RelayId, now: Moment) {
        for key in self.connections_of(relay) {
            self.drive(key, now, |session, _| match session {
                Session::Relay(relay) => relay.leave_idle(),
                _ => Ok(()),
            });
        }
    }

    fn connections_of(&self, relay: RelayId) -> Vec<ConnKey> {
        let found = (0..self.conns.slots()).filter_map(|slot| self.conns.key_at(slot));
        found.filter(|key| self.relay_of(*key) == Some(relay)).collect()
    }

    /// Passes on what a relay connection says.
    pub(super) fn relay_news(&mut self, key: ConnKey, news: RelayNews) {
        if let Some(relay) = self.relay_of(key) {
            self.outbox.notice(self.control, Notice::RelayNews(relay, Box::new(news)));
        }
    }

    /// Says how far a relay connection is.
    pub(super) fn report_relay(&mut self, key: ConnKey, now: Moment) {
        let Some(conn) = self.conns.get(key) else { return };
        let Session::Relay(_) = &conn.session else { return };
        let (bytes_in, bytes_out) = (conn.bytes_in, conn.bytes_out);
        let mut skips = u64::from(conn.skips);
        let (mut lag, mut is_stalled, mut stalled_max) = (Duration::ZERO, false, None);
        for viewed in conn.plays.iter().filter_map(|play| self.viewers.get(&play.stream)) {
            let Some((viewer, log)) = viewed.viewer(key) else { continue };
            stalled_max = viewed.settings.viewer_stall_timeout;
            // Of what it was moved over, it has been sent nothing since.
            skips += u64::from(viewer.skips_untold);
            let is_blocked =
                viewer.blocked_since.is_some_and(|since| now.since(since) >= STALLED_AFTER);
            // While nobody publishes there is nothing to take.
            is_stalled |= viewed.owner().is_some() && (is_blocked || viewer.skips_untold > 0);
            if !viewer.cursor.is_caught_up(log) {
                let next = viewer.cursor.needs().and_then(|position| log.arrival_at(position));
                lag = lag.max(next.map_or(Duration::ZERO, |arrival| now.since(arrival)));
            }
        }
        let news = RelayNews::Progress { bytes_in, bytes_out, skips, lag, is_stalled };
        self.relay_news(key, news);
        // A viewer that waits for a keyframe refuses nothing; a target that takes nothing at all of several
        // groups of pictures has to give way to another one.
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Session::Relay(session) = &mut conn.session else { return };
        let stalled_for = session.stalls(is_stalled, now);
        if stalled_max.is_some_and(|max| stalled_for > max) {
            self.close(key, CloseReason::Stalled, now);
        }
    }

    /// Says how a relay connection ended.
    pub(super) fn relay_closed(&mut self, key: ConnKey, reason: &CloseReason) {
        let Some(conn) = self.conns.get(key) else { return };
        let Session::Relay(session) = &conn.session else { return };
        let (status, end) = session.outcome(reason);
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
        self.relay_news(key, RelayNews::Closed { status, why, end });
    }

    fn relay_of(&self, key: ConnKey) -> Option<RelayId> {
        match &self.conns.get(key)?.session {
            Session::Relay(session) => Some(session.order().relay),
            _ => None,
        }
    }
}

/// A target whose socket has taken nothing for so long is called stalled.
const STALLED_AFTER: Duration = Duration::from_secs(1);

/// The message stream of a mirror.
const MIRROR_STREAM: u32 = 1;

/// A frame as its publisher would send it: the time is the stream's own, which needs no repair.
fn mirrored(frame: &Frame) -> MediaMessage {
    MediaMessage {
        message_stream_id: MIRROR_STREAM,
        track: frame.track,
        is_metadata: frame.track == Track::Data && frame.kind == FrameKind::Metadata,
        timestamp_ms: frame.dts_ms as u32,
        payload: frame.payload.clone(),
    }
}
