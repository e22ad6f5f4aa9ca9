//! The owner's side of a stream: what a publisher sends becomes frames with one clock, and goes once
//! to each shard that has viewers.

use std::sync::Arc;
use std::time::Duration;

use super::claim::Claim;
use super::description::{Codecs, MediaInfo};
use super::messages::{ConnKey, Node, Subscription};
use super::meter::Meter;
use super::outbox::Outbox;
use super::report::StreamReport;
use crate::config::AppSettings;
use crate::media::{Applied, Frame, FrameKind, Gop, Joinable, Moment, Preamble, Timeline, Track};
use crate::proto::codec::{self, PacketKind};
use crate::proto::name::StreamName;
use crate::session::MediaMessage;

/// A publisher is described when it has sent both tracks, or one for so long; and not more often.
const DESCRIPTION_INTERVAL: Duration = Duration::from_secs(1);

/// Counts of one publication.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct PublicationCounters {
    /// Audio, video and data messages read.
    pub frames_in: u64,
    /// Their payload bytes.
    pub bytes_in: u64,
    /// Of these, video.
    pub video_bytes: u64,
    /// Audio.
    pub audio_bytes: u64,
    /// Frames of video.
    pub video_frames: u64,
    /// Timestamps that had to be repaired.
    pub timestamps_repaired: u64,
    /// Headers that repeated what was known.
    pub headers_repeated: u64,
    /// Frames before the first keyframe.
    pub frames_useless: u64,
    /// Frames that could not be understood.
    pub frames_malformed: u64,
}

impl PublicationCounters {
    /// Counts what others have counted.
    pub fn add(&mut self, other: Self) {
        self.frames_in += other.frames_in;
        self.bytes_in += other.bytes_in;
        self.video_bytes += other.video_bytes;
        self.audio_bytes += other.audio_bytes;
        self.video_frames += other.video_frames;
        self.timestamps_repaired += other.timestamps_repaired;
        self.headers_repeated += other.headers_repeated;
        self.frames_useless += other.frames_useless;
        self.frames_malformed += other.frames_malformed;
    }
}

/// A stream that a connection of this shard publishes.
#[derive(Debug)]
pub struct Publication {
    /// The publisher's connection.
    pub connection: ConnKey,
    /// The message stream it publishes on.
    pub message_stream_id: u32,
    /// Its name.
    pub name: StreamName,
    /// Settings of its application.
    pub settings: Arc<AppSettings>,
    /// Publications of this shard that are the same stream under another name: their connections.
    pub mirrors: Vec<ConnKey>,
    /// Holds the name; dropped with the publication.
    pub claim: Claim,
    /// Since when.
    pub begun: Moment,
    /// When the last media message came.
    pub last_media: Moment,
    /// Counts.
    pub counters: PublicationCounters,
    timeline: Timeline,
    preamble: Arc<Preamble>,
    gop: Gop,
    subscribers: Vec<Subscriber>,
    codecs: Codecs,
    /// Rates of video bytes, audio bytes and frames of video.
    meter: Meter<3>,
    /// Timestamps of the newest frames of video and audio, in milliseconds.
    newest_ms: [u64; 2],
    /// What the headers say, and which they are.
    media: Option<(Arc<Preamble>, Codecs, Arc<MediaInfo>)>,
    /// What was last described, and when.
    described: Option<(Codecs, Moment)>,
}

#[derive(Debug)]
struct Subscriber {
    node: Node,
    subscription: Subscription,
    /// Missed frames: goes on at the next join point.
    in_gap: bool,
}

impl Publication {
    /// A publication that begins now.
    pub fn new(
        connection: ConnKey,
        message_stream_id: u32,
        name: StreamName,
        settings: Arc<AppSettings>,
        claim: Claim,
        now: Moment,
    ) -> Self {
        Self {
            connection,
            message_stream_id,
            name,
            timeline: Timeline::new(claim.resume),
            preamble: Arc::default(),
            gop: Gop::new(settings.gop_bytes),
            subscribers: Vec::new(),
            codecs: Codecs::default(),
            meter: Meter::new(now),
            newest_ms: [0; 2],
            media: None,
            described: None,
            mirrors: Vec::new(),
            begun: now,
            last_media: now,
            counters: PublicationCounters::default(),
            settings,
            claim,
        }
    }

    /// Takes a publisher's message, sends it to the subscribed nodes and returns it for the viewers of
    /// this shard, and whether they can begin with it. `None` when there is nothing to pass on. The
    /// message came to this machine at `arrival` or later; what a hold means counts from then.
    pub fn accept(
        &mut self,
        message: MediaMessage,
        arrival: Moment,
        now: Moment,
        outbox: &mut Outbox,
    ) -> Option<(Frame, Joinable)> {
        self.last_media = now;
        self.counters.frames_in += 1;
        self.counters.bytes_in += message.payload.len() as u64;
        match message.track {
            Track::Video => self.counters.video_bytes += message.payload.len() as u64,
            Track::Audio => self.counters.audio_bytes += message.payload.len() as u64,
            Track::Data => {}
        }
        let (kind, slot) = self.classify(&message)?;
        let dts_ms = match kind {
            FrameKind::Keyframe | FrameKind::Inter | FrameKind::Audio => {
                self.timeline.media(message.track, slot, message.timestamp_ms, now)
            }
            _ => self.timeline.header(message.timestamp_ms),
        };
        match kind {
            FrameKind::Keyframe | FrameKind::Inter => {
                self.counters.video_frames += 1;
                self.newest_ms[0] = dts_ms;
            }
            FrameKind::Audio => self.newest_ms[1] = dts_ms,
            _ => {}
        }
        self.counters.timestamps_repaired = self.timeline.repaired();
        self.claim.resume = self.timeline.resume();
        let frame =
            Frame { track: message.track, kind, slot, dts_ms, arrival, payload: message.payload };
        if kind.is_preamble() {
            match Arc::make_mut(&mut self.preamble).apply(&frame) {
                Applied::Unchanged => {
                    self.counters.headers_repeated += 1;
                    return None;
                }
                Applied::Changed | Applied::NotKept => {}
            }
        }
        let joinable = self.gop.push(&frame, &self.preamble);
        if joinable == Joinable::Useless {
            self.counters.frames_useless += 1;
            return None;
        }
        for subscriber in &mut self.subscribers {
            let start = match (subscriber.in_gap, joinable) {
                (true, Joinable::Yes) => Some(Arc::clone(&self.preamble)),
                (true, _) => continue,
                (false, _) => None,
            };
            let Subscriber { node, subscription, .. } = *subscriber;
            let stream = self.claim.stream;
            subscriber.in_gap = !outbox.frame(node, stream, subscription, start, &frame);
        }
        Some((frame, joinable))
    }

    /// A node wants the stream: it gets the current group of pictures at once.
    pub fn subscribe(&mut self, node: Node, subscription: Subscription, outbox: &mut Outbox) {
        self.unsubscribe(node);
        let stream = self.claim.stream;
        let mut start = Some(Arc::clone(self.gop.preamble()));
        let mut in_gap = self.gop.is_empty();
        for frame in self.gop.frames() {
            if !outbox.frame(node, stream, subscription, start.take(), frame) {
                in_gap = true;
                break;
            }
        }
        self.subscribers.push(Subscriber { node, subscription, in_gap });
    }

    /// A node has no viewer left.
    pub fn unsubscribe(&mut self, node: Node) {
        self.subscribers.retain(|subscriber| subscriber.node != node);
    }

    /// Whether some node, or a stream under another name, is given what it sends.
    pub(super) fn is_received(&self) -> bool {
        !self.subscribers.is_empty() || !self.mirrors.is_empty()
    }

    /// Frames for the node were dropped.
    pub fn gap(&mut self, node: Node) {
        for subscriber in &mut self.subscribers {
            subscriber.in_gap |= subscriber.node == node;
        }
    }

    /// The frames that a viewer of this shard begins with.
    pub fn gop(&self) -> &Gop {
        &self.gop
    }

    /// The headers in force.
    pub fn preamble(&self) -> &Arc<Preamble> {
        &self.preamble
    }

    /// The headers in force as the publisher's messages.
    pub(super) fn header_messages(&self) -> Vec<MediaMessage> {
        let headers = self.preamble.headers().iter();
        let messages = headers.map(|header| MediaMessage {
            message_stream_id: self.message_stream_id,
            track: header.track,
            is_metadata: header.track == Track::Data,
            timestamp_ms: 0,
            payload: header.payload.clone(),
        });
        messages.collect()
    }

    /// What is published, when that is known and not yet said.
    pub(super) fn news(&mut self, now: Moment) -> Option<Arc<MediaInfo>> {
        let codecs = self.codecs;
        let is_news = codecs != self.described.map_or_else(Codecs::default, |(codecs, _)| codecs);
        let since = self.described.map_or(self.begun, |(_, at)| at);
        let is_complete =
            self.described.is_none() && codecs.video.is_some() && codecs.audio.is_some();
        if !is_news || (!is_complete && now.since(since) < DESCRIPTION_INTERVAL) {
            return None;
        }
        self.described = Some((codecs, now));
        self.look_at_headers();
        self.media.as_ref().map(|(_, _, media)| Arc::clone(media))
    }

    /// Remembers how much has come by now, and what the headers say.
    pub(super) fn roll_meter(&mut self, now: Moment) {
        self.meter.roll(now, self.metered());
        self.look_at_headers();
    }

    fn metered(&self) -> [u64; 3] {
        let counters = &self.counters;
        [counters.video_bytes, counters.audio_bytes, counters.video_frames]
    }

    fn look_at_headers(&mut self) {
        let is_known = self.media.as_ref().is_some_and(|(preamble, codecs, _)| {
            Arc::ptr_eq(preamble, &self.preamble) && *codecs == self.codecs
        });
        if !is_known {
            let media = Arc::new(MediaInfo::new(self.codecs, &self.preamble));
            self.media = Some((Arc::clone(&self.preamble), self.codecs, media));
        }
    }

    /// Adds what is known here of the stream.
    pub(super) fn report(&self, entry: &mut StreamReport, now: Moment) {
        let [video, audio, frames] = self.meter.per_second(now, self.metered());
        entry.name = self.name.to_string();
        entry.full_name = Some(self.name.clone());
        entry.epoch = Some(self.claim.epoch.0);
        entry.publisher = true;
        entry.published_ms = now.since(self.begun).as_millis() as u64;
        entry.gop_bytes = self.gop.bytes();
        entry.media = self.media.as_ref().map(|(_, _, media)| Arc::clone(media));
        entry.video_bits_per_second = (video * 8.0) as u64;
        entry.audio_bits_per_second = (audio * 8.0) as u64;
        entry.frames_per_second = (frames * 100.0).round() / 100.0;
        let [video_ms, audio_ms] = self.newest_ms;
        entry.last_ms = video_ms.max(audio_ms);
        entry.audio_ahead_ms = audio_ms as i64 - video_ms as i64;
        entry.publication = self.counters;
    }

    fn classify(&mut self, message: &MediaMessage) -> Option<(FrameKind, u8)> {
        let found = match message.track {
            Track::Video => codec::video(&message.payload).map(|tag| {
                if tag.kind != PacketKind::Empty {
                    self.codecs.video = Some(tag.codec);
                }
                let kind = match tag.kind {
                    PacketKind::Config => FrameKind::Config,
                    PacketKind::Metadata => FrameKind::Metadata,
                    PacketKind::Keyframe => FrameKind::Keyframe,
                    PacketKind::Inter => FrameKind::Inter,
                    _ => FrameKind::Other,
                };
                (kind, tag.track_id)
            }),
            Track::Audio => codec::audio(&message.payload).map(|tag| {
                if tag.kind != PacketKind::Empty {
                    self.codecs.audio = Some(tag.codec);
                }
                let kind = match tag.kind {
                    PacketKind::Config => FrameKind::Config,
                    PacketKind::Metadata => FrameKind::Metadata,
                    PacketKind::Keyframe | PacketKind::Inter => FrameKind::Audio,
                    _ => FrameKind::Other,
                };
                (kind, tag.track_id)
            }),
            Track::Data if message.is_metadata => Ok((FrameKind::Metadata, 0)),
            Track::Data => Ok((FrameKind::Other, 0)),
        };
        if found.is_err() {
            self.counters.frames_malformed += 1;
        }
        found.ok()
    }
}
