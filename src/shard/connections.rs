//! A connection's life on its shard: bytes in, events out, output, and the end.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Shard;
use super::acceptor::{NewConnection, Protocol};
use super::claim::InRooms;
use super::conns::{Closing, Conn, ConnTable, Play, Publishing};
use super::flush::back_off;
use super::messages::{AskToken, ConnKey, Notice};
use super::viewers::ViewerStream;
use crate::config::Net;
use crate::limits;
use crate::logging::{AccessRecord, Asked};
use crate::media::{Joinable, Moment, StreamId, Track};
use crate::proto::proxy_protocol;
use crate::rt::socket;
use crate::session::{
    Ask, ClientInfo, CloseReason, Event, HttpSession, Io, MediaMessage, Reception, RelayWishes,
    RtmpSession, Session, Want,
};

/// How long a connection on its way out may take to send its last words and be closed by its peer.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// Room for so many events is kept between reads.
const EVENTS_KEPT_MAX: usize = 1024;

impl Shard {
    /// Takes a connection from the acceptor.
    pub(super) fn accept(&mut self, new: NewConnection, now: Moment) {
        let NewConnection { id, socket, peer, protocol, seat } = new;
        if self.draining.is_some() {
            return;
        }
        let _ = socket::set_nodelay(&socket, true);
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(now.as_nanos());
        let settings = Arc::clone(&self.settings);
        let session = match protocol {
            Protocol::Rtmp => {
                Session::Rtmp(Box::new(RtmpSession::new(settings, id, peer, self.seed, now)))
            }
            Protocol::Http => Session::Http(Box::new(HttpSession::new(settings, id, peer, now))),
            Protocol::Rooms => {
                let session = HttpSession::new_for_rooms(settings, id, peer, now);
                Session::Http(Box::new(session))
            }
        };
        let mut conn = Conn::new(socket, id, peer, session, seat, now);
        let is_proxy = |net: &Net| net.contains(peer.ip());
        if protocol == Protocol::Rtmp && self.settings.rtmp.proxy_protocol_from.iter().any(is_proxy)
        {
            conn.proxy_header = Some(Vec::new());
        }
        let key = self.conns.insert(conn);
        let Some(conn) = self.conns.get(key) else { return };
        if let Err(error) = self.poller.add(conn, key.token()) {
            tracing::warn!(shard = self.index, %peer, %error, "a connection cannot be watched");
            self.conns.remove(key);
        }
    }

    /// Reads a ready socket, within its share of the turn.
    pub(super) fn read(&mut self, key: ConnKey, now: Moment) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut budget = limits::READ_BYTES_PER_TURN_MAX;
        while budget > 0 {
            let Some(conn) = self.conns.get_mut(key) else { break };
            match socket::recv(&*conn, &mut scratch) {
                Ok(0) => {
                    self.peer_closed(key, now);
                    break;
                }
                Ok(count) => {
                    conn.bytes_in += count as u64;
                    self.counters.reads += 1;
                    self.counters.read_bytes += count as u64;
                    let protocol = conn.session.protocol();
                    self.counters.by_protocol.read(protocol, count as u64);
                    budget = budget.saturating_sub(count);
                    if conn.closing.is_none() {
                        self.take_bytes(key, &scratch[..count], now);
                    }
                    if count < scratch.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.peer_closed(key, now);
                    break;
                }
            }
        }
        self.scratch = scratch;
    }

    /// Gives the session what came, less what a trusted proxy says first.
    fn take_bytes(&mut self, key: ConnKey, bytes: &[u8], now: Moment) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(begun) = &mut conn.proxy_header else {
            return self.drive(key, now, |session, io| session.input(bytes, io));
        };
        begun.extend_from_slice(bytes);
        match proxy_protocol::parse(begun) {
            Ok(None) => {}
            Ok(Some(header)) => {
                let rest = begun.split_off(header.length);
                conn.proxy_header = None;
                if let Some(client) = header.client {
                    conn.peer = client;
                    conn.session.set_peer(client);
                }
                if !rest.is_empty() {
                    self.drive(key, now, |session, io| session.input(&rest, io));
                }
            }
            Err(error) => self.close(key, CloseReason::Protocol(error.to_string()), now),
        }
    }

    /// Calls the session and does what it says. A bug in it costs this connection only.
    pub(super) fn drive<F>(&mut self, key: ConnKey, now: Moment, call: F)
    where
        F: FnOnce(&mut Session, &mut Io<'_>) -> Result<(), CloseReason>,
    {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let mut events = std::mem::take(&mut self.events);
        let before = conn.out.len();
        let mut io = Io { now, out: &mut conn.out, events: &mut events };
        let session = &mut conn.session;
        let result = catch_unwind(AssertUnwindSafe(|| call(session, &mut io)));
        conn.keep_order(before);
        let too_much = conn.has_too_much_out();
        self.list_output(key);
        for event in events.drain(..) {
            self.event(key, event, now);
        }
        // A nested call may have left a list behind; the longer one is kept, but not at the length that
        // many tiny messages give it.
        events.shrink_to(EVENTS_KEPT_MAX);
        if self.events.capacity() < events.capacity() {
            self.events = events;
        }
        self.withdraw_asks(key, |conn, serial| conn.session.message_stream_of(serial).is_none());
        match result {
            Ok(Ok(())) if too_much => self.close(key, CloseReason::OutputFull, now),
            Ok(Ok(())) => {}
            Ok(Err(reason)) => self.close(key, reason, now),
            Err(_) => self.close(key, CloseReason::Internal, now),
        }
    }

    fn event(&mut self, key: ConnKey, event: Event, now: Moment) {
        match event {
            Event::Media(message) => {
                let waited = self.conns.get(key).and_then(|conn| conn.reading.arrival);
                self.publish_media(key, message, waited.unwrap_or(now), now);
            }
            Event::Ask { serial, want } => {
                let Some(conn) = self.conns.get_mut(key) else { return };
                note(&mut conn.asked, &want);
                let client = conn
                    .session
                    .client()
                    .map_or_else(|| Arc::new(ClientInfo::default()), Arc::clone);
                // Of a proxy's connection each request may be another client's.
                conn.peer = conn.session.peer();
                conn.open_asks += 1;
                let Some(conn) = self.conns.get(key) else { return };
                let may_move = matches!(want, Want::Play { .. }) && self.may_go(conn, serial);
                let ask = Box::new(Ask {
                    peer: conn.peer,
                    since: conn.since,
                    client,
                    what: want,
                    wishes: RelayWishes::default(),
                    may_move,
                });
                let token = AskToken { node: self.index, connection: key, serial };
                // What the connection, or another one, has given up is free before this is asked.
                self.collect_releases();
                if matches!(ask.what, Want::Publish { .. })
                    && let Some(conn) = self.conns.get_mut(key)
                {
                    conn.publish_asks.push(serial);
                }
                self.outbox.notice(self.control, Notice::Ask(token, ask));
            }
            Event::RoomOpened(client) => {
                let Some(conn) = self.conns.get_mut(key) else { return };
                conn.in_rooms = Some(InRooms::new(key, &self.releases));
                let (id, peer) = (conn.id, conn.session.peer());
                let notice = Notice::RoomOpened { connection: key, id, peer, client };
                self.outbox.notice(self.control, notice);
            }
            Event::RoomText(text) => {
                self.outbox.notice(self.control, Notice::RoomText { connection: key, text });
            }
            Event::RoomTextDropped => self.counters.room_texts_dropped += 1,
            Event::PushJoin { serial, wire, since } => self.push_ask(key, serial, wire, since),
            Event::PushSend { channel, body } => {
                let Some(conn) = self.conns.get(key) else { return };
                let notice = Notice::PushSend { connection: key, client: conn.id, channel, body };
                self.outbox.notice(self.control, notice);
            }
            Event::EndPublish { message_stream_id } => {
                let Some(conn) = self.conns.get_mut(key) else { return };
                let Some(stream) = conn.published(message_stream_id) else { return };
                let client = conn.id;
                let ended = conn.publishes.extract_if(.., |publishing| publishing.stream == stream);
                for Publishing { serial, .. } in ended {
                    self.outbox.notice(self.control, Notice::StreamEnded { client, serial });
                }
                let publishes = !conn.publishes.is_empty();
                self.end_publication(stream, true, "the publisher ended it", now);
                self.watch_as_publisher(key, publishes);
            }
            Event::EndPlay { message_stream_id } => {
                let Some(conn) = self.conns.get_mut(key) else { return };
                let played = conn
                    .plays
                    .iter()
                    .position(|play| play.message_stream_id == message_stream_id)
                    .map(|at| conn.plays.swap_remove(at));
                let client = conn.id;
                if let Some(play) = played {
                    let serial = play.serial;
                    self.end_play(key, play, "the viewer ended it", now);
                    self.outbox.notice(self.control, Notice::StreamEnded { client, serial });
                }
            }
            Event::LeaveApp => {
                if let Some(conn) = self.conns.get_mut(key) {
                    conn.admission = None;
                }
            }
            Event::Receive { message_stream_id, reception } => {
                self.receive(key, message_stream_id, reception, now);
            }
            Event::Relay(news) => self.relay_news(key, news),
            Event::Mirror => self.begin_mirror(key, now),
            Event::NotRecorded { message_stream_id, kind } => {
                let Some(conn) = self.conns.get(key) else { return };
                let published = conn.published(message_stream_id);
                if let Some(publication) = published.and_then(|it| self.publications.get(&it)) {
                    tracing::warn!(
                        shard = self.index, peer = %conn.peer, stream = %publication.name, kind,
                        "nothing is recorded: the stream is served as live"
                    );
                }
            }
        }
    }

    /// A viewer wants other tracks, pauses, or goes on.
    fn receive(&mut self, key: ConnKey, message_stream_id: u32, reception: Reception, now: Moment) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(play) = conn.plays.iter().find(|play| play.message_stream_id == message_stream_id)
        else {
            return;
        };
        let Some(viewed) = self.viewers.get_mut(&play.stream) else { return };
        let fallbacks = viewed.counters.log_fallbacks;
        let rest = viewed.receive(key, message_stream_id, reception, now, &mut self.pool);
        if fallbacks == 0 && viewed.counters.log_fallbacks > 0 {
            tracing::warn!(
                shard = self.index, peer = %conn.peer, stream = %viewed.name,
                "limits.logs_per_stream is reached: who wants one track alone is sent both"
            );
        }
        if reception.is_paused {
            self.finish_message(key, message_stream_id, rest);
        }
    }

    /// Publishes a message that came at `arrival`.
    pub(super) fn publish_media(
        &mut self,
        key: ConnKey,
        message: MediaMessage,
        arrival: Moment,
        now: Moment,
    ) {
        let Some(conn) = self.conns.get(key) else { return };
        let Some(stream) = conn.published(message.message_stream_id) else { return };
        let Some(publication) = self.publications.get_mut(&stream) else { return };
        let epoch = publication.claim.epoch;
        let accepted = publication.accept(message, arrival, now, &mut self.outbox);
        let Some((frame, joinable)) = accepted else { return };
        let has_mirrors = !publication.mirrors.is_empty();
        if let Some(local) = self.viewers.get_mut(&stream)
            && local.owner().is_some_and(|owner| owner.epoch == epoch)
        {
            // The viewers of this shard begin as those of another one do: with a frame to begin
            // with, and the headers in force there.
            if !local.has_begun() && joinable == Joinable::Yes {
                local.begin(publication.preamble(), &frame, &mut self.pool);
            }
            if local.has_begun() {
                local.push(&frame, now, &mut self.pool, &mut self.joined);
                let has_new_codecs = local.has_new_fourccs();
                self.begin_joined(now);
                if has_new_codecs {
                    self.report_new_codecs(stream);
                }
            }
        }
        if has_mirrors {
            self.mirror(stream, &frame, now);
        }
    }

    /// Viewers that begin with the frame just appended get what goes before it.
    pub(super) fn begin_joined(&mut self, now: Moment) {
        while let Some((key, message_stream_id)) = self.joined.pop() {
            let stream = self.conns.get(key).and_then(|conn| {
                let plays = &conn.plays;
                Some(plays.iter().find(|play| play.message_stream_id == message_stream_id)?.stream)
            });
            if let Some(viewed) = stream.and_then(|stream| self.viewers.get(&stream)) {
                report_codecs(self.index, &mut self.conns, viewed, key);
                let (has_video, has_audio) = viewed.tracks();
                self.drive(key, now, |session, io| {
                    session.media_begins(has_video, has_audio, io);
                    Ok(())
                });
            }
        }
    }

    /// Says of whom who watches that the stream's codecs, if they are others now, were not announced.
    pub(super) fn report_new_codecs(&mut self, stream: StreamId) {
        let Some(viewed) = self.viewers.get_mut(&stream).filter(|it| it.has_new_fourccs()) else {
            return;
        };
        viewed.take_new_fourccs();
        for viewer in viewed.logs.iter().flat_map(|state| &state.viewers) {
            report_codecs(self.index, &mut self.conns, viewed, viewer.connection);
        }
    }

    /// Ends a publication; its claim frees the name.
    pub(super) fn end_publication(
        &mut self,
        stream: StreamId,
        goodbye: bool,
        why: &str,
        now: Moment,
    ) {
        let Some(mut publication) = self.publications.remove(&stream) else { return };
        publication.claim.goodbye = goodbye;
        for key in std::mem::take(&mut publication.mirrors) {
            self.end_mirror(key, goodbye, now);
        }
        let counters = publication.counters;
        self.counters.ended.add(counters);
        let Some(conn) = self.conns.get(publication.connection) else { return };
        tracing::info!(
            shard = self.index,
            client = conn.id.0,
            peer = %conn.peer,
            stream = %publication.name,
            seconds = seconds(now.since(publication.begun)),
            frames = counters.frames_in,
            bytes = counters.bytes_in,
            timestamps_repaired = counters.timestamps_repaired,
            why,
            "publish ended"
        );
    }

    /// Takes a viewer out of its log; what it has begun to be sent goes first into its output.
    fn end_play(&mut self, key: ConnKey, play: Play, why: &str, now: Moment) {
        let Play { message_stream_id, stream, since, .. } = play;
        let Some(viewed) = self.viewers.get_mut(&stream) else { return };
        let rest = viewed.detach(key, message_stream_id, &mut self.pool);
        if let Some(conn) = self.conns.get(key) {
            tracing::info!(
                shard = self.index,
                client = conn.id.0,
                peer = %conn.peer,
                stream = %viewed.name,
                seconds = seconds(now.since(since)),
                why,
                "play ended"
            );
        }
        self.leave_if_unviewed(stream);
        self.finish_message(key, message_stream_id, rest.unwrap_or_default());
    }

    /// The application wants what a message stream publishes or plays to go on under another name. The
    /// headers of a publisher go with it: it sends them only once.
    pub(super) fn redirect(&mut self, key: ConnKey, message_stream_id: u32, to: &str, now: Moment) {
        self.read_publisher(key, now);
        let Some(conn) = self.conns.get(key).filter(|conn| conn.closing.is_none()) else { return };
        let published = conn.published(message_stream_id);
        let publication = published.and_then(|stream| self.publications.get(&stream));
        let headers = publication.map(|it| it.header_messages()).unwrap_or_default();
        tracing::info!(
            shard = self.index, client = conn.id.0, peer = %conn.peer, to,
            "redirected by the API"
        );
        self.drive(key, now, |session, io| session.redirect(message_stream_id, to, headers, io));
    }

    /// A viewer that is in no log any more was in the middle of a message: its rest goes first.
    fn finish_message(&mut self, key: ConnKey, message_stream_id: u32, rest: Vec<u8>) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.mid_message == Some(message_stream_id) {
            conn.mid_message = None;
            conn.out_rest(rest);
            self.list_output(key);
        }
    }

    /// Takes back the questions about publishing that nobody asks any more: a publisher that waits for
    /// a name must not take it from another one when it has gone itself.
    fn withdraw_asks(&mut self, key: ConnKey, is_given_up: impl Fn(&Conn, u32) -> bool) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.publish_asks.is_empty() {
            return;
        }
        let asks = std::mem::take(&mut conn.publish_asks);
        let (given_up, kept) = asks.into_iter().partition(|serial| is_given_up(conn, *serial));
        conn.publish_asks = kept;
        for serial in given_up {
            let token = AskToken { node: self.index, connection: key, serial };
            self.outbox.notice(self.control, Notice::Withdrawn(token));
        }
    }

    /// Puts a connection with output on the list.
    pub(super) fn list_output(&mut self, key: ConnKey) {
        if let Some(conn) = self.conns.get_mut(key)
            && conn.has_output()
            && !conn.is_out_listed
        {
            conn.is_out_listed = true;
            self.out_list.push(key);
        }
    }

    /// Sends the output of every connection that is not in the middle of a message; of the others, the
    /// egress pass sends it at the next boundary. A message to very many connections takes several turns.
    pub(super) fn send_outputs(&mut self, now: Moment) {
        let mut list = std::mem::take(&mut self.out_list);
        let mut sends = 0;
        self.has_outputs_left = false;
        list.retain(|&key| {
            let Some(conn) = self.conns.get_mut(key) else { return false };
            conn.refill();
            if conn.out.is_empty() {
                conn.is_out_listed = false;
                return false;
            }
            if conn.out_next_try > now || conn.mid_message.is_some() {
                return true;
            }
            if sends >= limits::OUTPUT_SENDS_PER_TURN_MAX {
                self.has_outputs_left = true;
                return true;
            }
            let before = conn.bytes_out;
            let result = conn.send_output();
            let sent = conn.bytes_out - before;
            self.counters.by_protocol.sent(conn.session.protocol(), sent);
            let Ok(count) = result else {
                conn.is_out_listed = false;
                conn.drop_output();
                self.pass.dead.push((key, CloseReason::PeerClosed));
                return false;
            };
            sends += count;
            conn.is_out_listed = conn.has_output();
            if conn.is_out_listed {
                conn.out_next_try = now + back_off(conn.out_refusals);
                conn.out_refusals = conn.out_refusals.saturating_add(1);
            } else {
                conn.out_next_try = Moment::ZERO;
            }
            conn.is_out_listed
        });
        // Nothing above adds to the list.
        self.out_list = list;
    }

    fn peer_closed(&mut self, key: ConnKey, now: Moment) {
        if self.conns.get(key).is_some_and(|conn| conn.closing.is_some()) {
            self.bury(key);
        } else {
            self.close(key, CloseReason::PeerClosed, now);
        }
    }

    /// Ends a connection: what it publishes and plays ends at once, its last words are sent, and the
    /// socket is closed when the peer has closed or after a short while.
    pub(super) fn close(&mut self, key: ConnKey, reason: CloseReason, now: Moment) {
        let deadline = self.linger_until(now);
        self.withdraw_asks(key, |_, _| true);
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.closing.is_some() {
            if reason == CloseReason::PeerClosed {
                self.bury(key);
            }
            return;
        }
        let is_gone = reason == CloseReason::PeerClosed;
        let plays = std::mem::take(&mut conn.plays);
        let publishes = std::mem::take(&mut conn.publishes);
        let farewell_after = conn.out.len();
        if !is_gone && reason != CloseReason::Internal {
            let mut events = Vec::new();
            let mut io = Io { now, out: &mut conn.out, events: &mut events };
            let session = &mut conn.session;
            if catch_unwind(AssertUnwindSafe(|| session.farewell(&reason, &mut io))).is_err() {
                conn.out.truncate(farewell_after);
            }
            conn.keep_order(farewell_after);
        }
        conn.admission = None;
        conn.in_rooms = None;
        let member = conn.member.take();
        let is_relay = matches!(conn.session, Session::Relay(_));
        *self.counters.closed.entry(reason.word()).or_default() += 1;
        let departure = Box::new(conn.departure());
        let why = reason.to_string();
        conn.closing =
            Some(Closing { reason: reason.clone(), since: now, deadline, is_shut: false });
        if let Some(member) = member {
            self.members.leave(key, &member);
        }
        for play in plays {
            self.end_play(key, play, &why, now);
        }
        for publishing in publishes {
            self.end_publication(publishing.stream, false, &why, now);
        }
        if is_relay {
            self.relay_closed(key, &reason);
        }
        self.outbox.notice(self.control, Notice::Gone(departure));
        if is_gone {
            self.bury(key);
            return;
        }
        self.list_output(key);
        self.closing.push(key);
    }

    /// Shuts the connections whose last words are sent, and drops those whose time is up.
    pub(super) fn finish_closing(&mut self, now: Moment) {
        let mut list = std::mem::take(&mut self.closing);
        list.retain(|&key| {
            let Some(conn) = self.conns.get_mut(key) else { return false };
            let is_sent = !conn.has_output();
            let Some(closing) = &mut conn.closing else { return false };
            let mut is_over = closing.deadline <= now;
            if is_sent && !is_over && !closing.is_shut {
                closing.is_shut = true;
                is_over = socket::shutdown_write(&*conn).is_err();
            }
            if is_over {
                self.bury(key);
            }
            !is_over
        });
        // Nothing above adds to the list.
        self.closing = list;
    }

    /// Takes a connection out of the table, which closes its socket, and writes down how it went: now
    /// its bytes are counted, last words included.
    fn bury(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.remove(key) else { return };
        let Some(closing) = &conn.closing else { return };
        let open_for = closing.since.since(conn.since);
        let reason = &closing.reason;
        let client = conn.session.client();
        tracing::info!(
            shard = self.index,
            client = conn.id.0,
            peer = %conn.peer,
            protocol = conn.session.protocol(),
            app = client.map(|client| client.app.as_str()),
            bytes_in = conn.bytes_in,
            bytes_out = conn.bytes_out,
            seconds = seconds(open_for),
            reason = reason.word(),
            why = reason.to_string(),
            "closed"
        );
        if let Some(access) = &self.access {
            access.put(Box::new(AccessRecord {
                id: conn.id,
                peer: conn.peer,
                client: client.map(Arc::clone),
                protocol: conn.session.protocol(),
                reason: reason.word(),
                bytes_sent: conn.bytes_out,
                bytes_received: conn.bytes_in,
                ended: SystemTime::now(),
                open_for,
                asked: conn.asked,
            }));
        }
    }
}

/// One line per connection: a viewer is sent codecs that it did not announce. Most players announce
/// nothing and play them all the same.
fn report_codecs(shard: usize, conns: &mut ConnTable, viewed: &ViewerStream, key: ConnKey) {
    if viewed.fourccs().is_empty() {
        return;
    }
    let Some(conn) = conns.get_mut(key).filter(|conn| !conn.has_codec_line) else { return };
    let Some(client) = conn.session.client() else { return };
    let Some(announced) = &client.codecs else { return };
    let is_unannounced = |&&(track, fourcc): &&(Track, [u8; 4])| match track {
        Track::Video => !announced.has_video(fourcc),
        _ => !announced.has_audio(fourcc),
    };
    let missing: Vec<_> = viewed.fourccs().iter().filter(is_unannounced).collect();
    if missing.is_empty() {
        return;
    }
    let names: Vec<_> =
        missing.iter().map(|(_, fourcc)| fourcc.escape_ascii().to_string()).collect();
    tracing::info!(
        shard, peer = %conn.peer, stream = %viewed.name, agent = client.flash_version,
        codecs = names.join(", "),
        "a viewer is sent codecs that it did not announce in connect (fourCcList, \
         videoFourCcInfoMap, audioFourCcInfoMap); if it shows nothing, it needs a newer player"
    );
    conn.has_codec_line = true;
}

/// Remembers what a client has asked for, for its line in the access log.
fn note(asked: &mut Asked, want: &Want) {
    let (name, args) = match want {
        Want::Connect => return,
        Want::Publish { name, args, .. } => {
            asked.publish = true;
            (name, args)
        }
        Want::Play { name, args, .. } => {
            asked.play = true;
            (name, args)
        }
    };
    name.stream().clone_into(&mut asked.name);
    args.clone_into(&mut asked.args);
}

/// A length of time in the log: seconds with milliseconds.
fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1000.0
}
