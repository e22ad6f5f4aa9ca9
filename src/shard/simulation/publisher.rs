//! A publisher: connects, sends a stream in real time, is lost or says goodbye, and comes back.

use std::time::Duration;

use super::book::{Book, End, Kind, Number};
use super::dice::Dice;
use super::link::Link;
use crate::media::Moment;
use crate::proto::rtmp::client::{ClientEvent, ClientSession, Role};
use crate::shard::Protocol;
use crate::shard::testing::{Rig, client_config};

/// What a publisher sends, for the whole run.
#[derive(Clone, Debug)]
struct Script {
    has_video: bool,
    has_audio: bool,
    frame_interval: Duration,
    gop_frames: u64,
    keyframe_bytes: usize,
    inter_bytes: usize,
    first_timestamp_ms: u32,
    /// Timestamps jump now and then.
    jumps: bool,
    /// The configuration changes now and then.
    reconfigures: bool,
    /// Headers are sent again before each keyframe, as they were.
    repeats_headers: bool,
}

/// One publisher of one name.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) name: usize,
    stream: String,
    script: Script,
    connection: Option<Connection>,
    connect_at: Moment,
    /// Stays away for good.
    has_retired: bool,
    dice: Dice,
}

#[derive(Debug)]
struct Connection {
    link: Link,
    session: ClientSession,
    sending: Option<Sending>,
    says_goodbye: bool,
}

#[derive(Debug)]
struct Sending {
    number: Number,
    since: Moment,
    next_video: Duration,
    next_audio: Duration,
    frames: u64,
    pictures: u64,
    /// Added to timestamps by jumps.
    jumped_ms: u32,
    /// The newest headers, with their message types.
    headers: Vec<(u8, Vec<u8>)>,
}

impl Publisher {
    pub(super) fn new(name: usize, stream: &str, connect_at: Moment, mut dice: Dice) -> Self {
        let has_video = !dice.happens(1_500);
        let keyframe_bytes = dice.one_of(&[60, 5_000, 30_000, 200_000]);
        // No more than some megabytes per second: small socket buffers let no more through.
        let gop_frames_min = if keyframe_bytes > 30_000 { 10 } else { 2 };
        let script = Script {
            has_video,
            has_audio: !has_video || dice.happens(7_000),
            frame_interval: dice.ms(20..=60),
            gop_frames: dice.within(gop_frames_min..=40) as u64,
            keyframe_bytes,
            inter_bytes: dice.one_of(&[30, 800, 4_000]),
            first_timestamp_ms: dice.one_of(&[0, 7_000, u32::MAX - 5_000]),
            jumps: dice.happens(2_000),
            reconfigures: dice.happens(3_000),
            repeats_headers: dice.happens(3_000),
        };
        Self {
            name,
            stream: stream.to_owned(),
            script,
            connection: None,
            connect_at,
            has_retired: false,
            dice,
        }
    }

    /// The publication that goes on now.
    pub(super) fn number(&self) -> Option<Number> {
        self.connection.as_ref()?.sending.as_ref().map(|sending| sending.number)
    }

    /// Something goes wrong, or it ends for now.
    pub(super) fn suffer(&mut self, book: &mut Book, now: Moment) {
        let back_at = now + self.dice.ms(0..=3_000);
        let Some(connection) = &mut self.connection else { return };
        match self.dice.within(0..=9) {
            0..=5 => connection.link.stall(now, self.dice.ms(50..=2_500)),
            6 => connection.say_goodbye(),
            _ => {
                connection.lose(book);
                self.connection = None;
                self.connect_at = back_at;
            }
        }
    }

    /// From now on everything goes well.
    pub(super) fn heal(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.link.heal();
        }
    }

    /// Ends for good.
    pub(super) fn retire(&mut self) {
        self.has_retired = true;
        if let Some(connection) = &mut self.connection {
            connection.say_goodbye();
        }
    }

    /// Gone for good, without a word.
    pub(super) fn vanish(&mut self, book: &mut Book) {
        self.has_retired = true;
        if let Some(mut connection) = self.connection.take() {
            connection.lose(book);
        }
    }

    /// Connects, sends what is due, hears what comes.
    pub(super) fn turn(&mut self, rig: &mut Rig, book: &mut Book) {
        let now = rig.now;
        let Some(connection) = &mut self.connection else {
            if now >= self.connect_at && !self.has_retired {
                self.connect(rig);
            }
            return;
        };
        let Connection { link, session, sending, .. } = connection;
        let (mut has_failed, mut out) = (false, Vec::new());
        let script = &self.script;
        let name = self.name;
        link.carry(now, |mut bytes| {
            while !bytes.is_empty() {
                let progress = session.input(bytes, &mut out).expect("the server speaks RTMP");
                bytes = &bytes[progress.consumed..];
                match progress.event {
                    Some(ClientEvent::PublishStarted) if sending.is_none() => {
                        let number = book.begin(name, script.has_video, !script.jumps);
                        *sending = Some(Sending::new(number, now));
                    }
                    Some(ClientEvent::Failed { .. }) => has_failed = true,
                    _ => {}
                }
            }
        });
        link.say(&out);
        if has_failed || !link.is_open() || (connection.says_goodbye && link.is_flushed()) {
            if let Some(sending) = sending {
                let is_goodbye = connection.says_goodbye && !has_failed && link.is_open();
                book.end(sending.number, if is_goodbye { End::Goodbye } else { End::Closed });
            }
            self.connection = None;
            self.connect_at = now + self.dice.ms(100..=2_000);
            return;
        }
        if !connection.says_goodbye {
            connection.send_due(&self.script, book, now, &mut self.dice);
        }
    }

    fn connect(&mut self, rig: &mut Rig) {
        let shard = self.dice.within(0..=rig.shards.len() - 1);
        let session = ClientSession::new(client_config(Role::Publish, &self.stream));
        let socket = rig.connect(shard, Protocol::Rtmp);
        let mut link = Link::new(socket, rig.now, self.dice.split());
        let mut out = Vec::new();
        session.start(&mut out);
        link.say(&out);
        self.connection = Some(Connection { link, session, sending: None, says_goodbye: false });
    }
}

impl Connection {
    fn say_goodbye(&mut self) {
        if self.says_goodbye {
            return;
        }
        self.says_goodbye = true;
        let mut out = Vec::new();
        self.session.close(&mut out);
        self.link.say(&out);
    }

    fn lose(&mut self, book: &mut Book) {
        if let Some(sending) = &self.sending {
            // Who was about to say goodbye may be heard or not.
            let end = if self.says_goodbye { End::Closed } else { End::Lost(self.link.sent()) };
            book.end(sending.number, end);
        }
        self.link.cut();
    }

    fn send_due(&mut self, script: &Script, book: &mut Book, now: Moment, dice: &mut Dice) {
        let Some(mut sending) = self.sending.take() else { return };
        if sending.frames == 0 {
            self.headers(&mut sending, script, book, now);
        }
        let elapsed = now.since(sending.since);
        loop {
            let video = script.has_video.then_some(sending.next_video);
            let audio = script.has_audio.then_some(sending.next_audio);
            // A keyframe first: what begins with sound is another subject.
            let is_audio = match (video, audio) {
                (Some(video), Some(audio)) => audio < video && sending.frames > 0,
                (video, _) => video.is_none(),
            };
            let at = if is_audio { sending.next_audio } else { sending.next_video };
            if at > elapsed {
                break;
            }
            if is_audio {
                sending.next_audio += Duration::from_millis(23);
                self.write(&sending, script, book, now, (Kind::Audio, at, 100));
            } else {
                let is_key = sending.pictures.is_multiple_of(script.gop_frames);
                if is_key && sending.pictures > 0 {
                    if script.jumps && dice.happens(2_000) {
                        sending.jumped_ms = sending.jumped_ms.wrapping_add(dice.next() as u32);
                    }
                    if script.reconfigures && dice.happens(5_000) {
                        self.headers(&mut sending, script, book, now);
                    }
                    if script.repeats_headers {
                        self.repeat_headers(&sending);
                    }
                }
                let (kind, len) = if is_key {
                    (Kind::Keyframe, script.keyframe_bytes)
                } else {
                    (Kind::Inter, script.inter_bytes)
                };
                sending.next_video += script.frame_interval;
                sending.pictures += 1;
                self.write(&sending, script, book, now, (kind, at, len));
            }
            sending.frames += 1;
        }
        self.sending = Some(sending);
    }

    fn headers(&mut self, sending: &mut Sending, script: &Script, book: &mut Book, now: Moment) {
        let at = sending.next_video.max(sending.next_audio);
        let mut kinds = vec![(Kind::Metadata, 0)];
        kinds.extend(script.has_video.then_some((Kind::VideoConfig, 60)));
        kinds.extend(script.has_audio.then_some((Kind::AudioConfig, 20)));
        sending.headers.clear();
        for (kind, len) in kinds {
            let payload = self.write(sending, script, book, now, (kind, at, len));
            sending.headers.push((kind.type_id(), payload));
        }
    }

    fn repeat_headers(&mut self, sending: &Sending) {
        let mut out = Vec::new();
        for (type_id, payload) in &sending.headers {
            self.session.publish_media(*type_id, 0, payload, &mut out);
        }
        self.link.say(&out);
    }

    fn write(
        &mut self,
        sending: &Sending,
        script: &Script,
        book: &mut Book,
        now: Moment,
        (kind, at, len): (Kind, Duration, usize),
    ) -> Vec<u8> {
        let timestamp_ms = script
            .first_timestamp_ms
            .wrapping_add(at.as_millis() as u32)
            .wrapping_add(sending.jumped_ms);
        let payload = book.write(sending.number, kind, timestamp_ms, len, now);
        let mut out = Vec::new();
        self.session.publish_media(kind.type_id(), timestamp_ms, &payload, &mut out);
        let end = self.link.say(&out);
        book.newest_ends_at(sending.number, end);
        payload
    }
}

impl Sending {
    fn new(number: Number, now: Moment) -> Self {
        Self {
            number,
            since: now,
            next_video: Duration::ZERO,
            next_audio: Duration::ZERO,
            frames: 0,
            pictures: 0,
            jumped_ms: 0,
            headers: Vec::new(),
        }
    }
}
