//! What other nodes say to a shard, and what it does about it.

use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::claim::{Admission, Claim};
use super::conns::{Play, Publishing};
use super::messages::{AskToken, ConnKey, MediaBatch, Node, Notice, Subscription};
use super::publication::Publication;
use super::viewers::{Attached, Viewer, ViewerStream};
use crate::config::AppSettings;
use crate::media::{Epoch, Moment, Resume, StreamId, Wire};
use crate::proto::name::StreamName;
use crate::rt::socket;
use crate::session::{Audience, CloseReason, Grant, Io, Owner, PushWire, Session, Verdict};

/// Viewers who have not been sent the end of an ended stream by then are told nevertheless.
const ENDING_MAX: Duration = Duration::from_secs(5);
/// The kernel may hold at least this much unsent data per viewer.
const NOTSENT_BYTES_MIN: u64 = 64 * 1024;
/// A stream of this rate passes in one send per hold; a faster one takes several.
const NOTSENT_BITS_PER_S: u64 = 16_000_000;
/// When a silent HTTP viewer is probed for the first time, how often then, and after how many probes without an
/// answer it is gone.
const HTTP_KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const HTTP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const HTTP_KEEPALIVE_PROBES: u32 = 4;

impl Shard {
    /// Does what a notice asks for.
    pub(super) fn notice(&mut self, from: Node, notice: Notice, now: Moment) {
        match notice {
            Notice::Verdict(token, verdict) => self.on_verdict(token, &verdict, now),
            Notice::StreamUp { stream, owner } => self.on_stream_up(stream, owner, now),
            Notice::StreamDown { stream } => self.on_stream_down(stream, now),
            Notice::Subscribe { stream, epoch, subscription } => {
                self.read_waiting(stream, now);
                if let Some(publication) = self.publications.get_mut(&stream)
                    && publication.claim.epoch == epoch
                {
                    publication.subscribe(from, subscription, &mut self.outbox);
                }
            }
            Notice::Unsubscribe { stream, epoch } => {
                if let Some(publication) = self.publications.get_mut(&stream)
                    && publication.claim.epoch == epoch
                {
                    publication.unsubscribe(from);
                }
            }
            Notice::Probe { stream, epoch } => {
                self.read_waiting(stream, now);
                if let Some(publication) = self.publications.get(&stream)
                    && publication.claim.epoch == epoch
                {
                    let silent_for = now.since(publication.last_media);
                    let answer = Notice::Silence { stream, epoch, silent_for };
                    self.outbox.notice(self.control, answer);
                }
            }
            Notice::Replace { stream, epoch, by } => {
                // What it has sent before is its viewers'.
                self.read_waiting(stream, now);
                let publisher = self
                    .publications
                    .get(&stream)
                    .filter(|publication| publication.claim.epoch == epoch)
                    .map(|publication| publication.connection);
                if let Some(key) = publisher {
                    self.close(key, CloseReason::Replaced(format!("replaced by {by}")), now);
                }
            }
            Notice::Survey(order) => self.survey(order),
            Notice::Push(message) => self.push(&message, now),
            Notice::PushSent { connection, refusal } => {
                if self.conns.get(connection).is_some_and(|conn| conn.closing.is_none()) {
                    self.drive(connection, now, |session, io| {
                        session.push_sent(refusal, io);
                        Ok(())
                    });
                }
            }
            Notice::Measure(token) => self.measure(token),
            Notice::Dismiss { connection, why } => self.dismiss(connection, why, now),
            Notice::DismissDeparted { client, why } => self.dismiss_departed(client, why, now),
            Notice::AskNearer { token, node, ask, place } => {
                self.go_nearer(token, node, ask, place);
            }
            Notice::Handover(handover) => self.take_over(*handover, now),
            Notice::Relay(new) => self.begin_relay(*new, now),
            Notice::EndRelay(relay) => self.end_relay(relay, now),
            Notice::LeaveIdleSource(relay) => self.leave_idle_source(relay, now),
            Notice::Redirect { connection, message_stream_id, to } => {
                self.redirect(connection, message_stream_id, &to, now);
            }
            Notice::RoomSay { connection, text } => self.room_say(connection, &text, now),
            Notice::RoomClose { connection, code, why } => {
                self.close(connection, CloseReason::Rooms(code, why), now);
            }
            Notice::Settings(settings) => self.settings = settings,
            Notice::Drain { until } => self.drain(until, now),
            // These go to the control shard.
            Notice::Ask(..)
            | Notice::Withdrawn(_)
            | Notice::Disconnected(_)
            | Notice::StreamEnded { .. }
            | Notice::Gone(_)
            | Notice::Measured { .. }
            | Notice::PublishStarted { .. }
            | Notice::PublishEnded { .. }
            | Notice::LeftStream { .. }
            | Notice::Silence { .. }
            | Notice::RelayNews(..)
            | Notice::RoomOpened { .. }
            | Notice::RoomText { .. }
            | Notice::RoomTextsDropped(_)
            | Notice::RoomGone(_)
            | Notice::PushJoin(..)
            | Notice::PushLeft(_)
            | Notice::PushSend { .. }
            | Notice::Report(_)
            | Notice::Drained => debug_assert!(false, "a notice for the control shard"),
        }
    }

    fn on_stream_down(&mut self, stream: StreamId, now: Moment) {
        let Some(viewed) = self.viewers.get_mut(&stream) else { return };
        viewed.ending = Some(now + ENDING_MAX);
        viewed.follow(None, Subscription::default());
        let may_be_fetched = !viewed.settings.pull.is_empty() || self.settings.cluster.is_some();
        for state in &mut viewed.logs {
            state.due = Some(now);
            let wire = state.log.wire();
            let is_http = matches!(wire, Wire::Flv | Wire::WsFlv);
            let waits = !matches!(wire, Wire::Relay { .. })
                && self.settings.waits_for_publisher(&viewed.settings, is_http);
            if !waits && !may_be_fetched {
                // Who came while the publisher was away was let in because it might come back.
                state.viewers.iter_mut().for_each(|viewer| viewer.ended = false);
            }
        }
    }

    /// However long it is: that a room is large, or that many come to it at once, is not its client's doing.
    fn room_say(&mut self, key: ConnKey, text: &str, now: Moment) {
        let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.closing.is_none()) else {
            return;
        };
        let (mut frame, mut events) = (Vec::new(), Vec::new());
        conn.session.room_text(text, &mut Io { now, out: &mut frame, events: &mut events });
        if conn.take_shared(&frame.into(), now) {
            self.list_output(key);
        } else {
            self.close(key, CloseReason::OutputFull, now);
        }
    }

    /// Frames of a stream that this shard subscribes.
    pub(super) fn media(&mut self, batch: MediaBatch, now: Moment) {
        let counters = &mut self.outbox.counters;
        counters.frames_received += batch.frames.len() as u64;
        counters.bytes_received +=
            batch.frames.iter().map(|frame| frame.payload.len() as u64).sum::<u64>();
        let Some(viewed) = self.viewers.get_mut(&batch.stream) else { return };
        if !viewed.follows(batch.subscription) {
            return;
        }
        if let (Some(preamble), Some(first)) = (&batch.start, batch.frames.first()) {
            viewed.begin(preamble, first, &mut self.pool);
        }
        if !viewed.has_begun() {
            return;
        }
        for frame in &batch.frames {
            viewed.push(frame, now, &mut self.pool, &mut self.joined);
        }
        let has_new_codecs = viewed.has_new_fourccs();
        self.begin_joined(now);
        if has_new_codecs {
            self.report_new_codecs(batch.stream);
        }
    }

    fn on_verdict(&mut self, token: AskToken, verdict: &Verdict, now: Moment) {
        let key = token.connection;
        // Counted until the play that it came for is counted, or is refused.
        let _place = self.conns.get_mut(key).and_then(|conn| {
            conn.open_asks = conn.open_asks.saturating_sub(1);
            conn.publish_asks.retain(|serial| *serial != token.serial);
            conn.place.take()
        });
        if let Verdict::Accept(Grant::Play { stream, owner: Some(owner), .. }) = verdict {
            // What has come of its publisher may end it, also when it is this connection.
            self.read_unfollowed(*stream, *owner, now);
        }
        let awaited = self
            .conns
            .get(key)
            .filter(|conn| conn.closing.is_none())
            .and_then(|conn| conn.session.message_stream_of(token.serial));
        match verdict {
            Verdict::Accept(Grant::Connect { client, push, .. }) => {
                let admission = Admission::new(Arc::clone(client), &self.releases);
                if let Some(conn) = self.conns.get_mut(key)
                    && conn.closing.is_none()
                {
                    conn.admission = Some(admission);
                    tracing::info!(
                        shard = self.index, client = conn.id.0, peer = %conn.peer,
                        vhost = client.vhost, app = client.app, instance = client.instance,
                        agent = client.flash_version,
                        "connected"
                    );
                }
                self.tell(token, verdict, now);
                if let Some(membership) = push {
                    self.push_join(key, membership, PushWire::Rtmp);
                }
            }
            Verdict::Accept(Grant::Push(grant)) => {
                self.tell(token, verdict, now);
                self.push_granted(key, grant, now);
            }
            Verdict::Accept(Grant::Publish { stream, epoch, name, resume, settings }) => {
                let claim = Claim::new(*stream, *epoch, *resume, &self.releases);
                if let Some(message_stream_id) = awaited {
                    self.begin_publish(token, message_stream_id, claim, name, settings, now);
                    self.tell(token, verdict, now);
                } else {
                    self.not_begun(token);
                }
            }
            Verdict::Accept(Grant::Play {
                stream,
                name,
                owner,
                connected,
                audience,
                settings,
                ..
            }) => {
                if let Some(client) = connected {
                    let admission = Admission::new(Arc::clone(client), &self.releases);
                    if let Some(conn) = self.conns.get_mut(key)
                        && conn.closing.is_none()
                    {
                        conn.admission = Some(admission);
                    }
                }
                let logs_max = self.settings.limits.logs_per_stream;
                let viewed = self.viewers.entry(*stream).or_insert_with(|| {
                    ViewerStream::new(*stream, name.clone(), Arc::clone(settings), logs_max, now)
                });
                viewed.grants += 1;
                self.turn_min = self.turn_min.min(settings.turn_min);
                self.tell(token, verdict, now);
                if let Some(message_stream_id) = awaited {
                    self.begin_play(token, message_stream_id, *stream, *owner, audience, now);
                    self.begin_joined(now);
                } else {
                    self.not_begun(token);
                }
                self.leave_if_unviewed(*stream);
            }
            Verdict::Refuse(refusal) => {
                if let Some(conn) = self.conns.get(key) {
                    tracing::info!(
                        shard = self.index, client = conn.id.0, peer = %conn.peer,
                        app = conn.session.client().map(|client| client.app.as_str()),
                        reason = refusal.reason.word(), why = refusal.description,
                        "refused"
                    );
                }
                self.tell(token, verdict, now);
            }
        }
    }

    fn tell(&mut self, token: AskToken, verdict: &Verdict, now: Moment) {
        if self.conns.get(token.connection).is_some_and(|conn| conn.closing.is_none()) {
            self.drive(token.connection, now, |session, io| {
                session.verdict(token.serial, verdict, io)
            });
        }
    }

    /// What was accepted is not wanted any more; the end of a connection is said for all it had.
    fn not_begun(&mut self, token: AskToken) {
        let conn = self.conns.get(token.connection).filter(|conn| conn.closing.is_none());
        if let Some(client) = conn.map(|conn| conn.id) {
            let serial = token.serial;
            self.outbox.notice(self.control, Notice::StreamEnded { client, serial });
        }
    }

    /// Says how far a stream of a connection is.
    fn measure(&mut self, token: AskToken) {
        let Some(conn) = self.conns.get(token.connection) else { return };
        let published = conn.publishes.iter().find(|it| it.serial == token.serial);
        let played = conn.plays.iter().find(|it| it.serial == token.serial);
        let last_ms = if let Some(published) = published {
            let publication = self.publications.get(&published.stream);
            publication.and_then(|it| it.claim.resume).map(|resume| resume.last_ms)
        } else if let Some(played) = played {
            self.viewers.get(&played.stream).map(ViewerStream::last_ms)
        } else {
            return;
        };
        let timestamp_ms = last_ms.unwrap_or_default() as u32;
        let answer = Notice::Measured { token, client: conn.id, timestamp_ms };
        self.outbox.notice(self.control, answer);
    }

    fn begin_publish(
        &mut self,
        token: AskToken,
        message_stream_id: u32,
        claim: Claim,
        name: &StreamName,
        settings: &Arc<AppSettings>,
        now: Moment,
    ) {
        let (stream, epoch) = (claim.stream, claim.epoch);
        let resumed: Option<Resume> = claim.resume;
        let AskToken { connection: key, serial, .. } = token;
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.publishes.push(Publishing { message_stream_id, stream, serial });
        tracing::info!(
            shard = self.index, client = conn.id.0, peer = %conn.peer, stream = %name, %epoch,
            resumed = resumed.is_some(),
            "publish started"
        );
        let publication = Publication::new(
            key,
            message_stream_id,
            name.clone(),
            Arc::clone(settings),
            claim,
            now,
        );
        self.publications.insert(stream, publication);
        self.turn_min = self.turn_min.min(settings.turn_min);
        self.watch_as_publisher(key, true);
        self.outbox.notice(self.control, Notice::PublishStarted { stream, epoch });
    }

    fn begin_play(
        &mut self,
        token: AskToken,
        message_stream_id: u32,
        stream: StreamId,
        owner: Option<Owner>,
        audience: &Audience,
        now: Moment,
    ) {
        let AskToken { connection: key, serial, .. } = token;
        if self.conns.get(key).is_none_or(|conn| conn.closing.is_some()) {
            return;
        }
        if let Some(owner) = owner {
            self.follow(stream, owner, now);
        }
        let Some(viewed) = self.viewers.get_mut(&stream) else { return };
        // Who was there before has been told by the notice that went before this verdict.
        viewed.is_up |= owner.is_some();
        let Some(conn) = self.conns.get_mut(key) else { return };
        let settings = Arc::clone(&viewed.settings);
        let reception = conn.session.reception(message_stream_id);
        let wire = match &conn.session {
            Session::Rtmp(_) => Wire::Rtmp {
                message_stream_id,
                chunk_size: self.settings.rtmp.chunk_size,
                tracks: reception.tracks,
            },
            Session::Http(session) => session.wire(),
            Session::Relay(session) => session.wire(),
        };
        // A viewer that has fallen behind should be noticed here, not hidden in the kernel.
        if settings.viewer_socket_buffer > 0 {
            let _ = socket::set_send_buffer(&*conn, settings.viewer_socket_buffer);
        }
        let _ = socket::set_notsent_lowat(&*conn, notsent_bytes(&settings));
        if matches!(conn.session, Session::Http(_)) {
            // Over plain HTTP there is no ping, and who waits for a publisher is sent nothing.
            let (idle, interval) = (HTTP_KEEPALIVE_IDLE, HTTP_KEEPALIVE_INTERVAL);
            let _ = socket::set_keepalive(&*conn, idle, interval, HTTP_KEEPALIVE_PROBES);
        }
        let (id, peer, protocol) = (conn.id, conn.peer, conn.session.protocol());
        let place = audience.join();
        conn.plays.push(Play { message_stream_id, stream, serial, since: now, _place: place });
        let max_lag = match &conn.session {
            Session::Relay(session) => session.buffer(),
            _ => settings.viewer_max_lag,
        };
        let viewer = Viewer::new(key, message_stream_id, max_lag, now);
        let attached = viewed.attach(viewer, wire, owner.is_some(), now, &mut self.pool);
        if reception.is_paused {
            viewed.receive(key, message_stream_id, reception, now, &mut self.pool);
        }
        tracing::info!(
            shard = self.index, client = id.0, %peer, protocol, stream = %viewed.name,
            published = owner.is_some(),
            "play started"
        );
        match attached {
            Attached::Joined => {
                self.joined.push((key, message_stream_id));
            }
            Attached::Waits => {}
            Attached::NoLog => {
                let logs_max = self.settings.limits.logs_per_stream;
                let text = format!("limits.logs_per_stream = {logs_max} is reached");
                self.close(key, CloseReason::Limit(text), now);
            }
        }
    }

    fn on_stream_up(&mut self, stream: StreamId, owner: Owner, now: Moment) {
        let Some(viewed) = self.viewers.get_mut(&stream) else { return };
        if viewed.ending.is_some() {
            viewed.ending = Some(now);
            self.end_streams(now);
        }
        let Some(viewed) = self.viewers.get_mut(&stream) else { return };
        let was_up = std::mem::replace(&mut viewed.is_up, true);
        if !was_up {
            self.for_each_viewer(stream, now, |session, id, io| session.stream_up(id, io));
        }
        self.follow(stream, owner, now);
        self.begin_joined(now);
        self.report_new_codecs(stream);
    }

    /// Subscribes a publication that is newer than the one followed.
    fn follow(&mut self, stream: StreamId, owner: Owner, now: Moment) {
        // Before it is followed: what comes now is in the group of pictures that it begins with.
        self.read_unfollowed(stream, owner, now);
        let Some(viewed) = self.viewers.get_mut(&stream) else { return };
        if viewed.owner().is_some_and(|known| known.epoch >= owner.epoch) {
            return;
        }
        self.last_subscription.0 += 1;
        let subscription = self.last_subscription;
        viewed.follow(Some(owner), subscription);
        if owner.node != self.index {
            let notice = Notice::Subscribe { stream, epoch: owner.epoch, subscription };
            self.outbox.notice(owner.node, notice);
            return;
        }
        let Some(publication) = self.publications.get(&stream) else { return };
        let gop = publication.gop();
        // Without a frame to begin with, the first one that comes begins the publication.
        if let Some(first) = gop.frames().next() {
            viewed.begin(gop.preamble(), first, &mut self.pool);
        }
        for frame in gop.frames() {
            viewed.push(frame, now, &mut self.pool, &mut self.joined);
        }
    }

    /// Reads what has come of a publication of this shard that nobody here follows yet.
    fn read_unfollowed(&mut self, stream: StreamId, owner: Owner, now: Moment) {
        let followed = self.viewers.get(&stream).and_then(ViewerStream::owner);
        if owner.node == self.index && followed.is_none_or(|known| known.epoch < owner.epoch) {
            self.read_waiting(stream, now);
        }
    }

    /// A stream without viewers is not kept.
    pub(super) fn leave_if_unviewed(&mut self, stream: StreamId) {
        let Some(viewed) = self.viewers.get(&stream) else { return };
        if viewed.viewer_count() > 0 {
            return;
        }
        let Some(viewed) = self.viewers.remove(&stream) else { return };
        self.counters.reception.add(viewed.counters);
        if let Some(Owner { node, epoch }) = viewed.owner()
            && node != self.index
        {
            self.outbox.notice(node, Notice::Unsubscribe { stream, epoch });
        }
        let notice = Notice::LeftStream { stream, grants: viewed.grants };
        self.outbox.notice(self.control, notice);
    }

    /// Tells the viewers of ended streams, each when it has been sent everything or when time is up.
    pub(super) fn end_streams(&mut self, now: Moment) {
        let ending: Vec<StreamId> = self
            .viewers
            .values()
            .filter(|viewed| viewed.ending.is_some())
            .map(|viewed| viewed.id)
            .collect();
        for stream in ending {
            let Some(viewed) = self.viewers.get_mut(&stream) else { continue };
            let is_late = viewed.ending.is_some_and(|at| at <= now);
            if !is_late && now < viewed.end_not_before {
                continue;
            }
            // Looked at again when there is progress, or no more time for it.
            viewed.end_not_before = viewed.ending.unwrap_or(now);
            let mut told = Vec::new();
            let mut remaining = 0;
            for state in &mut viewed.logs {
                for viewer in &mut state.viewers {
                    if viewer.ended {
                        continue;
                    }
                    if is_late
                        && !viewer.cursor.is_waiting()
                        && !viewer.cursor.is_caught_up(&state.log)
                    {
                        viewer.cursor.wait(&state.log);
                        state.waiting += 1;
                        if viewer.cursor.is_caught_up(&state.log) {
                            // Nothing is offered to it any more, so it refuses nothing.
                            viewer.blocked_since = None;
                        }
                    }
                    if is_late || viewer.cursor.is_caught_up(&state.log) {
                        viewer.ended = true;
                        viewer.waiting_since = now;
                        told.push((viewer.connection, viewer.message_stream_id));
                    } else {
                        remaining += 1;
                    }
                }
            }
            for viewer in viewed.paused.iter_mut().map(|paused| &mut paused.viewer) {
                if !std::mem::replace(&mut viewer.ended, true) {
                    viewer.waiting_since = now;
                    told.push((viewer.connection, viewer.message_stream_id));
                }
            }
            if remaining == 0 {
                viewed.ending = None;
                viewed.is_up = false;
            }
            for (key, id) in told {
                let mut ends = None;
                self.drive(key, now, |session, io| {
                    ends = session.stream_down(id, io);
                    Ok(())
                });
                if let Some(reason) = self.drained(key).or(ends) {
                    self.close(key, reason, now);
                }
            }
        }
    }

    fn for_each_viewer(
        &mut self,
        stream: StreamId,
        now: Moment,
        call: impl Fn(&mut Session, u32, &mut Io<'_>),
    ) {
        let Some(viewed) = self.viewers.get_mut(&stream) else { return };
        let viewers: Vec<(ConnKey, u32)> = viewed
            .logs
            .iter_mut()
            .flat_map(|state| &mut state.viewers)
            .chain(viewed.paused.iter_mut().map(|paused| &mut paused.viewer))
            .map(|viewer| {
                viewer.ended = false;
                (viewer.connection, viewer.message_stream_id)
            })
            .collect();
        for (key, id) in viewers {
            self.drive(key, now, |session, io| {
                call(session, id, io);
                Ok(())
            });
        }
    }

    /// The epoch that is followed; for the report.
    pub(super) fn epoch_of(viewed: &ViewerStream) -> Option<Epoch> {
        viewed.owner().map(|owner| owner.epoch)
    }
}

/// What the kernel may hold unsent of a viewer: twice what a hold collects, so that one send takes it
/// whole, and little enough that a viewer that falls behind is noticed here.
fn notsent_bytes(settings: &AppSettings) -> u32 {
    let hold = settings.hold_video.max(settings.hold_audio).as_millis() as u64;
    let collected = 2 * hold * NOTSENT_BITS_PER_S / 8 / 1000;
    u32::try_from(collected.max(NOTSENT_BYTES_MIN)).unwrap_or(u32::MAX)
}
