//! The two protocols of a viewer's connection behind one face, from the first byte on.

use shardcast::proto::rtmp::client::{ClientConfig, ClientEvent, ClientSession, Role};
use shardcast::proto::rtmp::{chunk_writer, message};

use super::flv_body::FlvBody;
use super::watch::{HANDSHAKE_BYTES, RtmpWatch};
use crate::media::Track;
use crate::stream::{Media, Stream};
use crate::wire_form::WireForm;

/// How a viewer receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protocol {
    /// RTMP.
    Rtmp,
    /// FLV in the body of an HTTP answer.
    HttpFlv,
}

/// The dialogue with the server, and what it sends, message by message.
#[derive(Debug)]
pub(crate) enum Connection {
    /// See [`Protocol::Rtmp`].
    Rtmp {
        /// The dialogue.
        session: Box<ClientSession>,
        /// Until the wire form is known.
        watch: Option<Box<RtmpWatch>>,
    },
    /// See [`Protocol::HttpFlv`].
    HttpFlv(Box<FlvBody>),
}

/// Acknowledgements of a connection that is only counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Acknowledgements {
    window_bytes: u64,
    sent_at_bytes: u64,
    sent_at_ns: u64,
}

/// Silent viewers tell their byte count this often, whatever the window is: servers ping those that
/// say nothing, and the ping would not be seen.
const ACKNOWLEDGE_EVERY_NS: u64 = 20 * crate::clock::SECOND_NS;

impl Connection {
    /// Appends the first bytes to `out`. `authority` is the server's `HOST:PORT`.
    pub(crate) fn open(
        protocol: Protocol,
        stream: &Stream,
        authority: &str,
        seed: u64,
        out: &mut Vec<u8>,
    ) -> Self {
        match protocol {
            Protocol::Rtmp => {
                let session = ClientSession::new(ClientConfig {
                    app: stream.app.clone(),
                    tc_url: format!("rtmp://{authority}/{}", stream.app),
                    stream: stream.name.clone(),
                    role: Role::Play,
                    flash_version: "LNX 9,0,124,2 (compatible; loadgen)".to_owned(),
                    digest: false,
                    connect_properties: Vec::new(),
                    connect_args: Vec::new(),
                    chunk_size: 4096,
                    seed,
                });
                session.start(out);
                Self::Rtmp { session: Box::new(session), watch: Some(Box::new(RtmpWatch::new())) }
            }
            Protocol::HttpFlv => {
                let request = format!(
                    "GET /{}/{}.flv HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: loadgen\r\n\
                     Accept: */*\r\nConnection: close\r\n\r\n",
                    stream.app, stream.name
                );
                out.extend_from_slice(request.as_bytes());
                Self::HttpFlv(Box::new(FlvBody::new()))
            }
        }
    }

    /// Takes what was received. `sink` gets the media in it, `out` what is to be sent. True when
    /// the stream has ended.
    pub(crate) fn input(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        sink: &mut impl FnMut(Media<'_>),
    ) -> Result<bool, String> {
        let (session, watch) = match self {
            Self::HttpFlv(body) => return body.input(bytes, sink).map(|()| false),
            Self::Rtmp { session, watch } => (session, watch),
        };
        if let Some(watch) = watch {
            watch.input(bytes, sink)?;
        }
        let mut rest = bytes;
        let mut has_ended = false;
        loop {
            let progress = session.input(rest, out).map_err(|error| error.to_string())?;
            rest = rest.get(progress.consumed..).unwrap_or_default();
            match progress.event {
                None => return Ok(has_ended),
                Some(ClientEvent::Failed { code, description }) => {
                    return Err(format!("the server refused: {description} ({code})"));
                }
                Some(ClientEvent::StreamEof) => has_ended = true,
                Some(ClientEvent::Status { code, .. }) => {
                    has_ended |= code.ends_with("UnpublishNotify") || code.ends_with("Closed");
                }
                Some(ClientEvent::Message(message)) if watch.is_none() => {
                    if let Some(track) = Track::from_type_id(message.type_id) {
                        sink(Media {
                            track,
                            timestamp_ms: message.timestamp_ms,
                            payload: &message.payload,
                            end: None,
                        });
                    }
                }
                Some(_) => {}
            }
        }
    }

    /// The wire form as far as it is known.
    pub(crate) fn form(&self) -> WireForm {
        match self {
            Self::Rtmp { watch: Some(watch), .. } => watch.form(),
            Self::Rtmp { watch: None, .. } => WireForm::Unknown,
            Self::HttpFlv(body) => body.form(),
        }
    }

    /// Stops watching: the form is known. Gives what has to be acknowledged from now on, if the
    /// connection is then only counted.
    pub(crate) fn stop_watching(&mut self) -> Option<Acknowledgements> {
        match self {
            Self::Rtmp { watch, .. } => watch.take().map(|watch| Acknowledgements {
                window_bytes: u64::from(watch.ack_window_bytes()),
                ..Acknowledgements::default()
            }),
            Self::HttpFlv(_) => None,
        }
    }
}

impl Acknowledgements {
    /// Appends an acknowledgement if one is due.
    pub(crate) fn received(&mut self, total_bytes: u64, now_ns: u64, out: &mut Vec<u8>) {
        let half = if self.window_bytes == 0 { u64::MAX } else { self.window_bytes / 2 };
        let bytes = total_bytes.saturating_sub(HANDSHAKE_BYTES);
        if bytes - self.sent_at_bytes < half
            && now_ns.saturating_sub(self.sent_at_ns) < ACKNOWLEDGE_EVERY_NS
        {
            return;
        }
        self.sent_at_bytes = bytes;
        self.sent_at_ns = now_ns;
        let header = chunk_writer::MessageHeader {
            chunk_stream_id: message::CONTROL_CHUNK_STREAM,
            message_stream_id: 0,
            type_id: message::ACKNOWLEDGEMENT,
            timestamp_ms: 0,
        };
        let payload = message::acknowledgement(bytes);
        chunk_writer::write_full(&header, &payload, 128, &mut |piece| {
            out.extend_from_slice(piece);
        });
    }
}
