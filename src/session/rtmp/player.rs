//! What players ask for: play and play2, pause, receiveAudio and receiveVideo, seek. Statuses are
//! those of contract multipoint 3.4 and of the RTMP specification, 7.2.2.

use super::{RtmpSession, StreamState, sent_name};
use crate::media::Tracks;
use crate::proto::amf0::Value;
use crate::proto::name::StreamName;
use crate::proto::rtmp::command::Command;
use crate::proto::rtmp::message::UserControl;
use crate::proto::rtmp::status;
use crate::session::{CloseReason, Event, Io, PlayRange, Reception, Want};

impl RtmpSession {
    /// What the play of a message stream wants of its stream.
    pub fn reception(&self, message_stream_id: u32) -> Reception {
        let stream = self.streams.iter().find(|stream| stream.id == message_stream_id);
        stream.map(|stream| stream.reception).unwrap_or_default()
    }

    pub(super) fn on_play(
        &mut self,
        stream_id: u32,
        call: &Command,
        io: &mut Io<'_>,
    ) -> Result<(), CloseReason> {
        self.end_stream(stream_id, io)?;
        match call.str_arg(0) {
            Some(text) => {
                let range = PlayRange {
                    start: call.f64_arg(1).unwrap_or_default(),
                    duration: call.f64_arg(2).unwrap_or_default(),
                    reset: call.args.get(3).and_then(Value::as_bool).unwrap_or_default(),
                };
                self.ask_to_play(stream_id, text, range, None, io)
            }
            // play(false) stops playing.
            None => Ok(()),
        }
    }

    /// Changes to another stream, which is played until then. The other one has a clock of its own:
    /// the bytes of a stream are the same for all its viewers.
    pub(super) fn on_play2(
        &mut self,
        stream_id: u32,
        call: &Command,
        io: &mut Io<'_>,
    ) -> Result<(), CloseReason> {
        let option = |name: &str| call.args.first()?.property(name)?.as_str();
        let transition = option("transition").unwrap_or_default();
        if transition.eq_ignore_ascii_case("stop") {
            return self.end_stream(stream_id, io);
        }
        let Some(text) = option("streamName") else {
            let text = "play2 names no stream.";
            self.replies(io).status(stream_id, status::INVALID_ARG, text, "");
            return Ok(());
        };
        let played = self.played(stream_id).cloned();
        let is_append =
            ["append", "appendAndWait"].iter().any(|word| transition.eq_ignore_ascii_case(word));
        match played {
            Some(_) if is_append => {
                let text = "A live stream has no end that another one could follow.";
                self.replies(io).status(stream_id, status::PLAY_FAILED, text, "");
                Ok(())
            }
            Some(old) if !transition.eq_ignore_ascii_case("reset") => {
                self.ask_to_play(stream_id, text, PlayRange::default(), Some(old), io)
            }
            _ => {
                self.end_stream(stream_id, io)?;
                self.ask_to_play(stream_id, text, PlayRange::default(), None, io)
            }
        }
    }

    pub(super) fn ask_to_play(
        &mut self,
        stream_id: u32,
        text: &str,
        range: PlayRange,
        playing: Option<StreamName>,
        io: &mut Io<'_>,
    ) -> Result<(), CloseReason> {
        let at = self.stream_at(stream_id)?;
        let (name, args) = self.resolve(text)?;
        let sent = sent_name(text);
        let want = Want::Play { name: name.clone(), sent, range, args, http: false };
        let serial = self.ask(want, io);
        self.streams[at].state = StreamState::PlayAsked { serial, name, playing };
        Ok(())
    }

    /// A play is granted: says so, and ends what it replaces.
    pub(super) fn play_granted(
        &mut self,
        at: usize,
        name: &StreamName,
        lease: Option<u64>,
        replaces: Option<&StreamName>,
        io: &mut Io<'_>,
    ) {
        let stream = &mut self.streams[at];
        let id = stream.id;
        stream.state = StreamState::Playing { name: name.clone() };
        // The shard asks for it when it begins to serve.
        stream.told = stream.reception;
        match replaces {
            Some(old) => {
                io.events.push(Event::EndPlay { message_stream_id: id });
                self.replies(io).transition(id, old.stream(), name.stream());
            }
            None => self.replies(io).play_start(id, name.stream(), lease),
        }
    }

    /// `pause` and `pauseRaw`: the first argument says which way.
    pub(super) fn on_pause(&mut self, stream_id: u32, call: &Command, io: &mut Io<'_>) {
        let Some((at, name)) = self.player(stream_id) else {
            return self.nothing_is_played(call, io);
        };
        let stream = &mut self.streams[at];
        let id = stream.id;
        let is_paused = call.args.first().and_then(Value::as_bool);
        let is_paused = is_paused.unwrap_or(!stream.reception.is_paused);
        stream.reception.is_paused = is_paused;
        let mut replies = self.replies(io);
        if is_paused {
            replies.status(id, status::PAUSE_NOTIFY, &format!("Pausing {name}."), &name);
            replies.user_control(UserControl::StreamEof(id));
        } else {
            replies.user_control(UserControl::StreamBegin(id));
            replies.status(id, status::UNPAUSE_NOTIFY, &format!("Unpausing {name}."), &name);
        }
    }

    /// `receiveAudio` and `receiveVideo`; also before play. Switching off is not answered.
    pub(super) fn on_receive(&mut self, stream_id: u32, call: &Command, io: &mut Io<'_>) {
        let player = self.player(stream_id);
        let at = match player {
            Some((at, _)) => Some(at),
            None => self.streams.iter().position(|stream| stream.id == stream_id),
        };
        let Some(at) = at else { return self.nothing_is_played(call, io) };
        let is_wanted = call.args.first().and_then(Value::as_bool).unwrap_or(true);
        let stream = &mut self.streams[at];
        let id = stream.id;
        let Tracks { audio, video } = &mut stream.reception.tracks;
        *(if call.name == "receiveAudio" { audio } else { video }) = is_wanted;
        if let Some((_, name)) = player
            && is_wanted
        {
            let mut replies = self.replies(io);
            replies.status(id, status::SEEK_NOTIFY, &format!("Playing {name} live."), &name);
            replies.status(id, status::PLAY_START, &format!("Started playing {name}."), &name);
        }
    }

    pub(super) fn on_seek(&mut self, stream_id: u32, call: &Command, io: &mut Io<'_>) {
        let Some((at, name)) = self.player(stream_id) else {
            return self.nothing_is_played(call, io);
        };
        let id = self.streams[at].id;
        let text = format!("{name} is live: nobody can seek in it.");
        self.replies(io).status(id, status::SEEK_FAILED, &text, &name);
    }

    /// Tells the shard what players want, once for all that they said in one input.
    pub(super) fn tell_receptions(&mut self, io: &mut Io<'_>) {
        for stream in &mut self.streams {
            if stream.state.played().is_some() && stream.told != stream.reception {
                stream.told = stream.reception;
                let (message_stream_id, reception) = (stream.id, stream.reception);
                io.events.push(Event::Receive { message_stream_id, reception });
            }
        }
    }

    pub(super) fn played(&self, id: u32) -> Option<&StreamName> {
        self.streams.iter().find(|stream| stream.id == id)?.state.played()
    }

    /// Which message stream plays, and what. librtmp sends pause and seek on message stream 0: that
    /// means the only one.
    fn player(&self, id: u32) -> Option<(usize, String)> {
        let mut players = self.streams.iter().enumerate().filter_map(|(at, stream)| {
            let name = stream.state.played()?;
            (id == 0 || stream.id == id).then(|| (at, name.stream().to_owned()))
        });
        let first = players.next();
        first.filter(|_| players.next().is_none())
    }

    fn nothing_is_played(&mut self, call: &Command, io: &mut Io<'_>) {
        if call.transaction != 0.0 {
            let text = format!("{}: this message stream plays nothing.", call.name);
            self.replies(io).call_failed(call.transaction, &text);
        }
    }
}
