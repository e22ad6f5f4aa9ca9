//! What an audio or video tag body is, told from its first bytes: codec, configuration or data,
//! keyframe or not. Nothing is copied and nothing behind the tag header is read.
//!
//! Sources: Adobe FLV specification 10.1, annex E.4.2 and E.4.3; Enhanced RTMP v1 and v2
//! (ExHeader, FourCC, ModEx, multitrack). The body of an RTMP audio or video message is the body
//! of an FLV tag, so one parser serves both.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use std::fmt;

/// Why a tag body could not be classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The frame type is none of FLV's five.
    #[error("video frame type {0} does not exist")]
    FrameType(u8),
    /// The packet type is not defined for this codec or header.
    #[error("packet type {0} does not exist")]
    PacketType(u8),
    /// The body ends inside its header.
    #[error("the tag ends inside its header")]
    Truncated,
}

/// What a tag is to a viewer that joins or jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// A command frame (start or end of seeking): means something at its moment only.
    Command,
    /// Decoder configuration (sequence header): belongs to the preamble.
    Config,
    /// A header without data behind it; carries nothing to decode.
    Empty,
    /// End of the sequence: the decoder may be flushed.
    EndOfSequence,
    /// A frame that needs the frames before it.
    Inter,
    /// A frame from which decoding can start; every audio frame is one.
    Keyframe,
    /// Side information that holds until the next of its kind: colour (HDR) of the video, channel
    /// layout of the audio. It stands beside the configuration and belongs to the preamble too.
    Metadata,
}

impl PacketKind {
    /// Whether a viewer that comes later needs it before its first frame.
    pub const fn is_header(self) -> bool {
        matches!(self, Self::Config | Self::Metadata)
    }
}

/// Video codecs by FLV codec id or Enhanced RTMP FourCC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// AV1 (`av01`).
    Av1,
    /// H.264 (id 7, `avc1`).
    Avc,
    /// Sorenson H.263 (id 2).
    H263,
    /// H.265 (id 12 by custom, `hvc1`).
    Hevc,
    /// A codec id below 16, or a FourCC in network byte order, that is none of these.
    Other(u32),
    /// Screen video (id 3).
    Screen,
    /// Screen video version 2 (id 6).
    Screen2,
    /// On2 VP6 (id 4).
    Vp6,
    /// On2 VP6 with alpha channel (id 5).
    Vp6Alpha,
    /// VP8 (`vp08`).
    Vp8,
    /// VP9 (`vp09`).
    Vp9,
    /// H.266 (`vvc1`).
    Vvc,
}

/// Audio codecs by FLV sound format or Enhanced RTMP FourCC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AudioCodec {
    /// AAC (format 10, `mp4a`).
    Aac,
    /// AC-3 (`ac-3`).
    Ac3,
    /// ADPCM (format 1).
    Adpcm,
    /// Enhanced AC-3 (`ec-3`).
    Eac3,
    /// FLAC (`fLaC`).
    Flac,
    /// G.711 A-law (format 7).
    G711A,
    /// G.711 µ-law (format 8).
    G711U,
    /// Linear PCM, platform or little endian (formats 0 and 3).
    LinearPcm,
    /// MP3 (formats 2 and 14, `.mp3`).
    Mp3,
    /// Nellymoser, rate from the tag (format 6).
    Nellymoser,
    /// Nellymoser 16 kHz mono (format 4).
    Nellymoser16k,
    /// Nellymoser 8 kHz mono (format 5).
    Nellymoser8k,
    /// Opus (`Opus`; format 13 by custom).
    Opus,
    /// A sound format below 16, or a FourCC in network byte order, that is none of these.
    Other(u32),
    /// Speex (format 11).
    Speex,
}

/// A classified video tag body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoTag {
    /// The codec; of the first track when there are several.
    pub codec: VideoCodec,
    /// What the tag is to a joining viewer.
    pub kind: PacketKind,
    /// Composition time offset in ms (presentation minus decoding time); 0 where there is none.
    pub cts_ms: i32,
    /// Whether the body carries Enhanced RTMP multitrack.
    pub multitrack: bool,
    /// Track of the body, the first one when there are several; 0 without multitrack.
    pub track_id: u8,
}

/// A classified audio tag body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioTag {
    /// The codec; of the first track when there are several.
    pub codec: AudioCodec,
    /// What the tag is to a joining viewer; data is always [`PacketKind::Keyframe`].
    pub kind: PacketKind,
    /// Whether the body carries Enhanced RTMP multitrack.
    pub multitrack: bool,
    /// Track of the body, the first one when there are several; 0 without multitrack.
    pub track_id: u8,
}

/// One of the tracks that a body is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyTrack {
    /// Its number; 0 without multitrack.
    pub id: u8,
    /// Its codec's FourCC; `None` in the legacy form, which has none.
    pub fourcc: Option<[u8; 4]>,
}

/// The tracks of a body, first to last; see [`video_tracks`] and [`audio_tracks`].
#[derive(Clone, Debug)]
pub struct BodyTracks<'a> {
    reader: Reader<'a>,
    next: NextTrack,
}

#[derive(Clone, Copy, Debug)]
enum NextTrack {
    /// A body for one track, already read.
    Only(BodyTrack),
    /// Tracks with a size each; with the FourCC when it is the same for all.
    Sized(Option<[u8; 4]>),
    End,
}

/// The tracks that a video body is for. A body that [`video`] refuses may have none; a command
/// frame has none.
pub fn video_tracks(body: &[u8]) -> BodyTracks<'_> {
    let first = body.first().copied().unwrap_or_default();
    let (is_extended, frame_type) = (first & 0x80 != 0, (first >> 4) & 0x07);
    let may_be_metadata = matches!(first & 0x0f, packet_type::METADATA | packet_type::MOD_EX);
    if is_extended && frame_type == frame_type::COMMAND && !may_be_metadata {
        return BodyTracks::new(&[], None);
    }
    BodyTracks::new(body, is_extended.then_some(packet_type::VIDEO_MULTITRACK))
}

/// The tracks that an audio body is for. A body that [`audio`] refuses may have none.
pub fn audio_tracks(body: &[u8]) -> BodyTracks<'_> {
    let is_extended = body.first().is_some_and(|first| first >> 4 == SOUND_FORMAT_EXTENDED);
    BodyTracks::new(body, is_extended.then_some(packet_type::AUDIO_MULTITRACK))
}

/// Classifies the body of a video tag or message (type 9).
///
/// An empty body is `Empty` with codec `Other(0)`: encoders send such tags as keep-alive.
pub fn video(body: &[u8]) -> Result<VideoTag, CodecError> {
    let mut reader = Reader(body);
    let Some(first) = reader.byte() else {
        return Ok(VideoTag {
            codec: VideoCodec::Other(0),
            kind: PacketKind::Empty,
            cts_ms: 0,
            multitrack: false,
            track_id: 0,
        });
    };
    if first & 0x80 != 0 { extended_video(first, reader) } else { legacy_video(first, reader) }
}

/// Classifies the body of an audio tag or message (type 8).
///
/// An empty body is `Empty` with codec `Other(0)`: encoders send such tags as keep-alive.
pub fn audio(body: &[u8]) -> Result<AudioTag, CodecError> {
    let mut reader = Reader(body);
    let Some(first) = reader.byte() else {
        return Ok(AudioTag {
            codec: AudioCodec::Other(0),
            kind: PacketKind::Empty,
            multitrack: false,
            track_id: 0,
        });
    };
    if first >> 4 == SOUND_FORMAT_EXTENDED {
        return extended_audio(first & 0x0f, reader);
    }
    let codec = AudioCodec::from_sound_format(first >> 4);
    let kind = match codec {
        AudioCodec::Aac => match reader.need_byte()? {
            0 => PacketKind::Config,
            1 => reader.data(PacketKind::Keyframe),
            other => return Err(CodecError::PacketType(other)),
        },
        _ => reader.data(PacketKind::Keyframe),
    };
    Ok(AudioTag { codec, kind, multitrack: false, track_id: 0 })
}

impl VideoCodec {
    /// From the low four bits of a legacy video tag.
    pub fn from_codec_id(id: u8) -> Self {
        match id {
            2 => Self::H263,
            3 => Self::Screen,
            4 => Self::Vp6,
            5 => Self::Vp6Alpha,
            6 => Self::Screen2,
            7 => Self::Avc,
            12 => Self::Hevc,
            other => Self::Other(u32::from(other)),
        }
    }

    /// From an Enhanced RTMP FourCC.
    pub fn from_fourcc(fourcc: [u8; 4]) -> Self {
        match &fourcc {
            b"av01" => Self::Av1,
            b"avc1" => Self::Avc,
            b"hvc1" => Self::Hevc,
            b"vp08" => Self::Vp8,
            b"vp09" => Self::Vp9,
            b"vvc1" => Self::Vvc,
            _ => Self::Other(u32::from_be_bytes(fourcc)),
        }
    }
}

impl fmt::Display for VideoCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Av1 => "AV1",
            Self::Avc => "H264",
            Self::H263 => "H263",
            Self::Hevc => "HEVC",
            Self::Other(id) => return write_unknown(f, *id),
            Self::Screen => "Screen",
            Self::Screen2 => "Screen2",
            Self::Vp6 => "VP6",
            Self::Vp6Alpha => "VP6 alpha",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Vvc => "VVC",
        })
    }
}

impl AudioCodec {
    /// From the high four bits of a legacy audio tag.
    pub fn from_sound_format(format: u8) -> Self {
        match format {
            0 | 3 => Self::LinearPcm,
            1 => Self::Adpcm,
            2 | 14 => Self::Mp3,
            4 => Self::Nellymoser16k,
            5 => Self::Nellymoser8k,
            6 => Self::Nellymoser,
            7 => Self::G711A,
            8 => Self::G711U,
            10 => Self::Aac,
            11 => Self::Speex,
            13 => Self::Opus,
            other => Self::Other(u32::from(other)),
        }
    }

    /// From an Enhanced RTMP FourCC.
    pub fn from_fourcc(fourcc: [u8; 4]) -> Self {
        match &fourcc {
            b"ac-3" => Self::Ac3,
            b"ec-3" => Self::Eac3,
            b"fLaC" => Self::Flac,
            b".mp3" => Self::Mp3,
            b"mp4a" => Self::Aac,
            b"Opus" => Self::Opus,
            _ => Self::Other(u32::from_be_bytes(fourcc)),
        }
    }
}

impl fmt::Display for AudioCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aac => "AAC",
            Self::Ac3 => "AC-3",
            Self::Adpcm => "ADPCM",
            Self::Eac3 => "E-AC-3",
            Self::Flac => "FLAC",
            Self::G711A => "G711A",
            Self::G711U => "G711U",
            Self::LinearPcm => "PCM",
            Self::Mp3 => "MP3",
            Self::Nellymoser => "Nellymoser",
            Self::Nellymoser16k => "Nellymoser 16k",
            Self::Nellymoser8k => "Nellymoser 8k",
            Self::Opus => "Opus",
            Self::Other(id) => return write_unknown(f, *id),
            Self::Speex => "Speex",
        })
    }
}

/// A FourCC is shown as its letters, a legacy id as a number.
fn write_unknown(f: &mut fmt::Formatter<'_>, id: u32) -> fmt::Result {
    let letters = id.to_be_bytes();
    if letters.iter().all(|b| b.is_ascii_graphic() || *b == b' ') {
        return f.write_str(&String::from_utf8_lossy(&letters));
    }
    write!(f, "codec {id}")
}

/// `SoundFormat` value that says an Enhanced RTMP header follows.
const SOUND_FORMAT_EXTENDED: u8 = 9;

mod frame_type {
    pub(super) const KEY: u8 = 1;
    pub(super) const INTER: u8 = 2;
    pub(super) const DISPOSABLE_INTER: u8 = 3;
    pub(super) const GENERATED_KEY: u8 = 4;
    pub(super) const COMMAND: u8 = 5;
}

mod packet_type {
    pub(super) const SEQUENCE_START: u8 = 0;
    pub(super) const CODED_FRAMES: u8 = 1;
    pub(super) const SEQUENCE_END: u8 = 2;
    /// Video only: coded frames whose composition time is 0 and left out.
    pub(super) const CODED_FRAMES_X: u8 = 3;
    /// Video: metadata; audio: multichannel configuration.
    pub(super) const METADATA: u8 = 4;
    /// Video: MPEG-2 TS sequence start; audio: multitrack.
    pub(super) const VIDEO_MPEG2TS_SEQUENCE_START: u8 = 5;
    pub(super) const AUDIO_MULTITRACK: u8 = 5;
    pub(super) const VIDEO_MULTITRACK: u8 = 6;
    pub(super) const MOD_EX: u8 = 7;
}

mod multitrack_type {
    pub(super) const ONE_TRACK: u8 = 0;
    pub(super) const MANY_TRACKS: u8 = 1;
    pub(super) const MANY_TRACKS_MANY_CODECS: u8 = 2;
}

fn frame_kind(frame_type: u8) -> Result<PacketKind, CodecError> {
    match frame_type {
        frame_type::KEY | frame_type::GENERATED_KEY => Ok(PacketKind::Keyframe),
        frame_type::INTER | frame_type::DISPOSABLE_INTER => Ok(PacketKind::Inter),
        frame_type::COMMAND => Ok(PacketKind::Command),
        other => Err(CodecError::FrameType(other)),
    }
}

fn legacy_video(first: u8, mut reader: Reader<'_>) -> Result<VideoTag, CodecError> {
    let codec = VideoCodec::from_codec_id(first & 0x0f);
    let frame = frame_kind(first >> 4)?;
    let mut cts_ms = 0;
    let kind = match codec {
        _ if frame == PacketKind::Command => PacketKind::Command,
        VideoCodec::Avc | VideoCodec::Hevc => match reader.need_byte()? {
            0 => {
                reader.skip(3)?;
                PacketKind::Config
            }
            1 => {
                cts_ms = reader.signed_24()?;
                reader.data(frame)
            }
            2 => PacketKind::EndOfSequence,
            other => return Err(CodecError::PacketType(other)),
        },
        _ => reader.data(frame),
    };
    Ok(VideoTag { codec, kind, cts_ms, multitrack: false, track_id: 0 })
}

fn extended_video(first: u8, mut reader: Reader<'_>) -> Result<VideoTag, CodecError> {
    let frame_type = (first >> 4) & 0x07;
    let packet_type = reader.skip_mod_ex(first & 0x0f)?;
    if frame_type == frame_type::COMMAND && packet_type != packet_type::METADATA {
        // A command frame has one byte of command and no FourCC.
        return Ok(VideoTag {
            codec: VideoCodec::Other(0),
            kind: PacketKind::Command,
            cts_ms: 0,
            multitrack: false,
            track_id: 0,
        });
    }
    let header = reader.track_header(packet_type, packet_type::VIDEO_MULTITRACK)?;
    let codec = VideoCodec::from_fourcc(header.fourcc);
    let mut cts_ms = 0;
    let kind = match header.packet_type {
        packet_type::SEQUENCE_START | packet_type::VIDEO_MPEG2TS_SEQUENCE_START => {
            PacketKind::Config
        }
        packet_type::CODED_FRAMES => {
            let frame = frame_kind(frame_type)?;
            if matches!(codec, VideoCodec::Avc | VideoCodec::Hevc | VideoCodec::Vvc) {
                cts_ms = reader.signed_24()?;
            }
            reader.data(frame)
        }
        packet_type::SEQUENCE_END => PacketKind::EndOfSequence,
        packet_type::CODED_FRAMES_X => reader.data(frame_kind(frame_type)?),
        packet_type::METADATA => PacketKind::Metadata,
        other => return Err(CodecError::PacketType(other)),
    };
    Ok(VideoTag { codec, kind, cts_ms, multitrack: header.multitrack, track_id: header.track_id })
}

fn extended_audio(packet_type: u8, mut reader: Reader<'_>) -> Result<AudioTag, CodecError> {
    let packet_type = reader.skip_mod_ex(packet_type)?;
    let header = reader.track_header(packet_type, packet_type::AUDIO_MULTITRACK)?;
    let kind = match header.packet_type {
        packet_type::SEQUENCE_START => PacketKind::Config,
        packet_type::CODED_FRAMES => reader.data(PacketKind::Keyframe),
        packet_type::SEQUENCE_END => PacketKind::EndOfSequence,
        packet_type::METADATA => PacketKind::Metadata,
        other => return Err(CodecError::PacketType(other)),
    };
    Ok(AudioTag {
        codec: AudioCodec::from_fourcc(header.fourcc),
        kind,
        multitrack: header.multitrack,
        track_id: header.track_id,
    })
}

impl<'a> BodyTracks<'a> {
    /// `multitrack` is the packet type that says so; `None` for the legacy form.
    fn new(body: &'a [u8], multitrack: Option<u8>) -> Self {
        let mut reader = Reader(body);
        let next = reader.first_track(multitrack).unwrap_or(NextTrack::End);
        Self { reader, next }
    }
}

impl Iterator for BodyTracks<'_> {
    type Item = BodyTrack;

    fn next(&mut self) -> Option<BodyTrack> {
        match self.next {
            NextTrack::Only(track) => {
                self.next = NextTrack::End;
                Some(track)
            }
            NextTrack::Sized(common) => {
                let track = self.reader.sized_track(common).ok();
                if track.is_none() {
                    self.next = NextTrack::End;
                }
                track
            }
            NextTrack::End => None,
        }
    }
}

/// What an Enhanced RTMP header says after its ModEx part.
struct TrackHeader {
    packet_type: u8,
    fourcc: [u8; 4],
    multitrack: bool,
    track_id: u8,
}

/// Reads from the front of a body; every step may find the end.
#[derive(Clone, Debug)]
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn need_byte(&mut self) -> Result<u8, CodecError> {
        self.byte().ok_or(CodecError::Truncated)
    }

    fn need<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(CodecError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), CodecError> {
        self.0 = self.0.get(count..).ok_or(CodecError::Truncated)?;
        Ok(())
    }

    fn signed_24(&mut self) -> Result<i32, CodecError> {
        let [a, b, c] = self.need()?;
        Ok(i32::from_be_bytes([a, b, c, 0]) >> 8)
    }

    /// `kind` when there is data left, else `Empty`.
    fn data(&self, kind: PacketKind) -> PacketKind {
        if self.0.is_empty() { PacketKind::Empty } else { kind }
    }

    /// Skips the ModEx blocks (Enhanced RTMP v2) and returns the packet type behind them. Each
    /// block consumes at least three bytes, so the loop ends with the body.
    fn skip_mod_ex(&mut self, mut packet_type: u8) -> Result<u8, CodecError> {
        while packet_type == packet_type::MOD_EX {
            let mut size = usize::from(self.need_byte()?) + 1;
            if size == 256 {
                size = usize::from(u16::from_be_bytes(self.need()?)) + 1;
            }
            self.skip(size)?;
            packet_type = self.need_byte()? & 0x0f;
        }
        Ok(packet_type)
    }

    /// What [`BodyTracks`] begins with.
    fn first_track(&mut self, multitrack: Option<u8>) -> Result<NextTrack, CodecError> {
        let first = self.need_byte()?;
        let Some(multitrack) = multitrack else {
            return Ok(NextTrack::Only(BodyTrack { id: 0, fourcc: None }));
        };
        if self.skip_mod_ex(first & 0x0f)? != multitrack {
            return Ok(NextTrack::Only(BodyTrack { id: 0, fourcc: Some(self.need()?) }));
        }
        Ok(match self.need_byte()? >> 4 {
            multitrack_type::ONE_TRACK => {
                let fourcc = Some(self.need()?);
                NextTrack::Only(BodyTrack { id: self.need_byte()?, fourcc })
            }
            multitrack_type::MANY_TRACKS => NextTrack::Sized(Some(self.need()?)),
            multitrack_type::MANY_TRACKS_MANY_CODECS => NextTrack::Sized(None),
            _ => NextTrack::End,
        })
    }

    /// A track of several, and over its data. Consumes at least four bytes.
    fn sized_track(&mut self, common: Option<[u8; 4]>) -> Result<BodyTrack, CodecError> {
        let fourcc = match common {
            Some(fourcc) => fourcc,
            None => self.need()?,
        };
        let id = self.need_byte()?;
        let [a, b, c] = self.need()?;
        self.skip(u32::from_be_bytes([0, a, b, c]) as usize)?;
        Ok(BodyTrack { id, fourcc: Some(fourcc) })
    }

    /// Reads the FourCC, and of a multitrack body everything up to its first track's data.
    fn track_header(&mut self, packet_type: u8, multitrack: u8) -> Result<TrackHeader, CodecError> {
        if packet_type != multitrack {
            return Ok(TrackHeader {
                packet_type,
                fourcc: self.need()?,
                multitrack: false,
                track_id: 0,
            });
        }
        let types = self.need_byte()?;
        let (track_type, packet_type) = (types >> 4, types & 0x0f);
        if packet_type == multitrack || track_type > multitrack_type::MANY_TRACKS_MANY_CODECS {
            return Err(CodecError::PacketType(types));
        }
        // One FourCC for all tracks, or one before each track: the first is read alike.
        let fourcc = self.need()?;
        let track_id = self.need_byte()?;
        if track_type != multitrack_type::ONE_TRACK {
            self.need::<3>()?;
        }
        Ok(TrackHeader { packet_type, fourcc, multitrack: true, track_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn video_of(body: &[u8]) -> (VideoCodec, PacketKind, i32) {
        let tag = video(body).unwrap();
        assert!(!tag.multitrack);
        (tag.codec, tag.kind, tag.cts_ms)
    }

    #[test]
    fn legacy_video_tags() {
        use PacketKind::*;
        let table: &[(&[u8], VideoCodec, PacketKind, i32)] = &[
            (&[0x17, 0, 0, 0, 0, 1], VideoCodec::Avc, Config, 0),
            // A configuration's composition time means nothing.
            (&[0x17, 0, 0, 0, 9, 1], VideoCodec::Avc, Config, 0),
            (&[0x17, 1, 0, 0, 80, 0], VideoCodec::Avc, Keyframe, 80),
            (&[0x27, 1, 0xff, 0xff, 0xd8, 0], VideoCodec::Avc, Inter, -40),
            (&[0x27, 1, 0x80, 0, 0, 0], VideoCodec::Avc, Inter, -8_388_608),
            (&[0x37, 1, 0, 0, 0, 0], VideoCodec::Avc, Inter, 0),
            (&[0x17, 2, 0, 0, 0], VideoCodec::Avc, EndOfSequence, 0),
            (&[0x17, 2], VideoCodec::Avc, EndOfSequence, 0),
            (&[0x17, 1, 0, 0, 0], VideoCodec::Avc, Empty, 0),
            (&[0x57, 0], VideoCodec::Avc, Command, 0),
            (&[0x1c, 0, 0, 0, 0, 1], VideoCodec::Hevc, Config, 0),
            (&[0x2c, 1, 0, 0, 40, 1], VideoCodec::Hevc, Inter, 40),
            (&[0x12, 9], VideoCodec::H263, Keyframe, 0),
            (&[0x22, 9], VideoCodec::H263, Inter, 0),
            (&[0x32, 9], VideoCodec::H263, Inter, 0),
            (&[0x13, 9], VideoCodec::Screen, Keyframe, 0),
            (&[0x14, 9], VideoCodec::Vp6, Keyframe, 0),
            (&[0x45, 9], VideoCodec::Vp6Alpha, Keyframe, 0),
            (&[0x26, 9], VideoCodec::Screen2, Inter, 0),
            (&[0x1f, 9], VideoCodec::Other(15), Keyframe, 0),
            (&[], VideoCodec::Other(0), Empty, 0),
        ];
        for (body, codec, kind, cts_ms) in table {
            assert_eq!(video_of(body), (*codec, *kind, *cts_ms), "{body:02x?}");
        }
    }

    #[test]
    fn extended_video_tags() {
        use PacketKind::*;
        let table: &[(&[u8], VideoCodec, PacketKind, i32)] = &[
            (b"\x90hvc1\x01", VideoCodec::Hevc, Config, 0),
            (b"\x91hvc1\x00\x00\x28\x01", VideoCodec::Hevc, Keyframe, 40),
            (b"\xa1avc1\xff\xff\xff\x01", VideoCodec::Avc, Inter, -1),
            (b"\xa3hvc1\x01", VideoCodec::Hevc, Inter, 0),
            // No composition time outside AVC and HEVC.
            (b"\x91av01\x00\x00\x28\x01", VideoCodec::Av1, Keyframe, 0),
            (b"\xa1vp09\x01", VideoCodec::Vp9, Inter, 0),
            (b"\x91vp08\x01", VideoCodec::Vp8, Keyframe, 0),
            (b"\x92hvc1", VideoCodec::Hevc, EndOfSequence, 0),
            (b"\x94hvc1\x02", VideoCodec::Hevc, Metadata, 0),
            (b"\xd4hvc1\x02", VideoCodec::Hevc, Metadata, 0),
            (b"\x95av01\x02", VideoCodec::Av1, Config, 0),
            (b"\x93av01", VideoCodec::Av1, Empty, 0),
            (b"\xd0\x01", VideoCodec::Other(0), Command, 0),
            (b"\x91vvc1\x00\x00\x43\x01", VideoCodec::Vvc, Keyframe, 67),
            (b"\x91what\x01", VideoCodec::Other(0x7768_6174), Keyframe, 0),
            // ModEx with three bytes of nanosecond offset, then coded frames.
            (b"\x97\x02\x00\x00\x05\x01hvc1\x00\x00\x07\x01", VideoCodec::Hevc, Keyframe, 7),
            // Two ModEx blocks, the second with the long size.
            (b"\xa7\x00\x09\x07\xff\x00\x01\x05\x05\x03hvc1\x01", VideoCodec::Hevc, Inter, 0),
        ];
        for (body, codec, kind, cts_ms) in table {
            assert_eq!(video_of(body), (*codec, *kind, *cts_ms), "{body:02x?}");
        }
    }

    #[test]
    fn multitrack_reports_its_first_track() {
        let one = video(b"\x96\x01avc1\x03\x00\x00\x10\x01").unwrap();
        assert_eq!(
            one,
            VideoTag {
                codec: VideoCodec::Avc,
                kind: PacketKind::Keyframe,
                cts_ms: 16,
                multitrack: true,
                track_id: 3
            }
        );
        let many = video(b"\x96\x10hvc1\x01\x00\x00\x01\x05\x02\x00\x00\x01\x05").unwrap();
        assert_eq!((many.kind, many.track_id), (PacketKind::Config, 1));
        let codecs = audio(b"\x95\x21Opus\x04\x00\x00\x01\x05mp4a\x05\x00\x00\x01\x05").unwrap();
        assert_eq!(
            codecs,
            AudioTag {
                codec: AudioCodec::Opus,
                kind: PacketKind::Keyframe,
                multitrack: true,
                track_id: 4
            }
        );
        assert_eq!(
            video(b"\x96\x06avc1\x03"),
            Err(CodecError::PacketType(0x06)),
            "multitrack inside multitrack"
        );
    }

    fn listed(tracks: BodyTracks<'_>) -> Vec<(u8, Option<[u8; 4]>)> {
        tracks.map(|track| (track.id, track.fourcc)).collect()
    }

    #[test]
    fn all_tracks_of_a_body_are_listed() {
        assert_eq!(listed(video_tracks(&[0x17, 0, 0, 0, 0, 1])), [(0, None)]);
        assert_eq!(listed(audio_tracks(&[0xaf, 0, 0x12, 0x10])), [(0, None)]);
        assert_eq!(listed(video_tracks(b"\x90hvc1\x01")), [(0, Some(*b"hvc1"))]);
        assert_eq!(
            listed(video_tracks(b"\x96\x01avc1\x03\x00\x00\x10\x01")),
            [(3, Some(*b"avc1"))]
        );
        let many = b"\x96\x10hvc1\x01\x00\x00\x01\x05\x02\x00\x00\x02\x05\x06";
        assert_eq!(listed(video_tracks(many)), [(1, Some(*b"hvc1")), (2, Some(*b"hvc1"))]);
        let codecs = b"\x97\x00\x09\x05\x21Opus\x04\x00\x00\x01\x05mp4a\x05\x00\x00\x01\x05";
        assert_eq!(listed(audio_tracks(codecs)), [(4, Some(*b"Opus")), (5, Some(*b"mp4a"))]);
        // A size beyond the end ends the list; a command has no track.
        assert_eq!(listed(video_tracks(b"\x96\x10hvc1\x01\x00\x00\x09\x05")), []);
        assert_eq!(listed(video_tracks(b"\xd0\x01")), []);
        assert_eq!(listed(video_tracks(b"")), []);
        assert_eq!(listed(audio_tracks(b"\x95\x31Opus\x04")), []);
    }

    #[test]
    fn audio_tags() {
        use PacketKind::*;
        let table: &[(&[u8], AudioCodec, PacketKind)] = &[
            (&[0xaf, 0, 0x12, 0x10], AudioCodec::Aac, Config),
            (&[0xaf, 1, 0x21], AudioCodec::Aac, Keyframe),
            (&[0xaf, 1], AudioCodec::Aac, Empty),
            (&[0x2f, 1], AudioCodec::Mp3, Keyframe),
            (&[0xe2, 1], AudioCodec::Mp3, Keyframe),
            (&[0x02, 1], AudioCodec::LinearPcm, Keyframe),
            (&[0x32, 1], AudioCodec::LinearPcm, Keyframe),
            (&[0x12, 1], AudioCodec::Adpcm, Keyframe),
            (&[0x42, 1], AudioCodec::Nellymoser16k, Keyframe),
            (&[0x52, 1], AudioCodec::Nellymoser8k, Keyframe),
            (&[0x62, 1], AudioCodec::Nellymoser, Keyframe),
            (&[0x72, 1], AudioCodec::G711A, Keyframe),
            (&[0x82, 1], AudioCodec::G711U, Keyframe),
            (&[0xb2, 1], AudioCodec::Speex, Keyframe),
            (&[0xd2, 1], AudioCodec::Opus, Keyframe),
            (&[0xf2, 1], AudioCodec::Other(15), Keyframe),
            (&[0x2f], AudioCodec::Mp3, Empty),
            (&[], AudioCodec::Other(0), Empty),
            (b"\x90Opus\x01", AudioCodec::Opus, Config),
            (b"\x91fLaC\x01", AudioCodec::Flac, Keyframe),
            (b"\x91ac-3\x01", AudioCodec::Ac3, Keyframe),
            (b"\x91ec-3\x01", AudioCodec::Eac3, Keyframe),
            (b"\x91.mp3\x01", AudioCodec::Mp3, Keyframe),
            (b"\x91mp4a\x01", AudioCodec::Aac, Keyframe),
            (b"\x92mp4a", AudioCodec::Aac, EndOfSequence),
            (b"\x94mp4a\x01\x02", AudioCodec::Aac, Metadata),
            (b"\x97\x00\x09\x01Opus\x01", AudioCodec::Opus, Keyframe),
        ];
        for (body, codec, kind) in table {
            let tag = audio(body).unwrap();
            assert_eq!((tag.codec, tag.kind), (*codec, *kind), "{body:02x?}");
        }
    }

    #[test]
    fn broken_headers_are_refused() {
        assert_eq!(video(&[0x17]), Err(CodecError::Truncated));
        assert_eq!(video(&[0x17, 1, 0, 0]), Err(CodecError::Truncated));
        assert_eq!(video(&[0x07, 1, 0, 0, 0]), Err(CodecError::FrameType(0)));
        assert_eq!(video(&[0x67, 1]), Err(CodecError::FrameType(6)));
        assert_eq!(video(&[0x17, 3, 0, 0, 0]), Err(CodecError::PacketType(3)));
        assert_eq!(video(b"\x91hvc"), Err(CodecError::Truncated));
        assert_eq!(video(b"\x97\x05\x00"), Err(CodecError::Truncated));
        assert_eq!(video(b"\x81av01\x01"), Err(CodecError::FrameType(0)));
        assert_eq!(audio(&[0xaf]), Err(CodecError::Truncated));
        assert_eq!(audio(&[0xaf, 2]), Err(CodecError::PacketType(2)));
        assert_eq!(audio(b"\x93Opus"), Err(CodecError::PacketType(3)));
    }

    #[test]
    fn names_are_the_ones_operators_know() {
        let video = [
            (VideoCodec::Avc, "H264"),
            (VideoCodec::Hevc, "HEVC"),
            (VideoCodec::from_fourcc(*b"vvc1"), "VVC"),
            (VideoCodec::from_fourcc(*b"what"), "what"),
            (VideoCodec::Other(13), "codec 13"),
        ];
        for (codec, name) in video {
            assert_eq!(codec.to_string(), name);
        }
        assert_eq!(AudioCodec::Aac.to_string(), "AAC");
    }

    proptest! {
        #[test]
        fn any_bytes_are_classified_or_refused(body in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(tag) = video(&body) {
                prop_assert!((-8_388_608..=8_388_607).contains(&tag.cts_ms));
                prop_assert!(!body.is_empty() || tag.kind == PacketKind::Empty);
            }
            if let Ok(tag) = audio(&body) {
                prop_assert!(tag.kind != PacketKind::Inter);
            }
            prop_assert!(video_tracks(&body).count() <= body.len());
            prop_assert!(audio_tracks(&body).count() <= body.len());
        }

        /// What lies behind the header never changes the verdict, as long as something does.
        #[test]
        fn data_does_not_matter(tail in proptest::collection::vec(any::<u8>(), 1..40)) {
            for head in [&[0x17u8, 1, 0, 0, 5][..], b"\x91hvc1\x00\x00\x05"] {
                let body = [head, &tail].concat();
                let tag = video(&body).unwrap();
                prop_assert_eq!((tag.kind, tag.cts_ms), (PacketKind::Keyframe, 5));
            }
        }
    }
}
