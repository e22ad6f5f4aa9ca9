//! What a publisher sends, for the API and in words for the log: codecs as its messages name them, sizes
//! and rates as its metadata claims them, profiles as its decoder configurations have them.

use crate::media::{FrameKind, Preamble, Track};
use crate::proto::amf0::{self, Value};
use crate::proto::codec::{AudioCodec, VideoCodec};
use crate::proto::decoder_config;

/// Codecs that were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Codecs {
    pub(super) video: Option<VideoCodec>,
    pub(super) audio: Option<AudioCodec>,
}

/// What the headers of a publication say of its video.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct VideoInfo {
    /// As `H264`.
    pub codec: String,
    /// Pixels, as the metadata claims.
    pub width: Option<u32>,
    /// Pixels, as the metadata claims.
    pub height: Option<u32>,
    /// Frames per second, as the metadata claims, to two decimals, which tell 29.97 from 30.
    pub frame_rate: Option<f64>,
    /// As `High`; empty when the configuration does not say, or has not come.
    pub profile: &'static str,
    /// Constraints, as AVC has them.
    pub compatibility: u8,
    /// As `3.1`; empty when it is not known.
    pub level: String,
}

/// What the headers of a publication say of its audio.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AudioInfo {
    /// As `AAC`.
    pub codec: String,
    /// Samples per second, by the configuration or the metadata.
    pub sample_rate: Option<u32>,
    /// By the configuration or the metadata.
    pub channels: Option<u8>,
    /// As `LC`; empty when it is not known.
    pub profile: &'static str,
}

/// What a publication sends.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct MediaInfo {
    /// Of the first track of video that there is.
    pub video: Option<VideoInfo>,
    /// Of the first track of audio that there is.
    pub audio: Option<AudioInfo>,
}

impl MediaInfo {
    pub(super) fn new(codecs: Codecs, preamble: &Preamble) -> Self {
        let header = |track, kind| {
            let mut headers = preamble.headers().iter();
            headers.find(|header| header.track == track && header.kind == kind)
        };
        let metadata = header(Track::Data, FrameKind::Metadata)
            .and_then(|header| amf0::decode_all(&header.payload).ok())
            .unwrap_or_default();
        let value = |key| metadata.iter().find_map(|value| value.property(key));
        let number =
            |key| value(key).and_then(Value::as_f64).filter(|it| it.is_finite() && *it > 0.0);
        let whole = |key| number(key).map(|it| it.round() as u32);
        let video = codecs.video.map(|codec| {
            let config = header(Track::Video, FrameKind::Config)
                .and_then(|header| decoder_config::video(codec, &header.payload));
            let (width, height) = whole("width").zip(whole("height")).unzip();
            let frame_rate = number("framerate").or_else(|| number("fps"));
            VideoInfo {
                codec: codec.to_string(),
                width,
                height,
                frame_rate: frame_rate.map(|rate| (rate * 100.0).round() / 100.0),
                profile: config.as_ref().map_or("", |config| config.profile),
                compatibility: config.as_ref().map_or(0, |config| config.compatibility),
                level: config.map(|config| config.level).unwrap_or_default(),
            }
        });
        let audio = codecs.audio.map(|codec| {
            let config = header(Track::Audio, FrameKind::Config)
                .and_then(|header| decoder_config::audio(codec, &header.payload));
            let claimed = value("stereo").and_then(Value::as_bool);
            let channels = config.map(|it| it.channels).filter(|count| *count > 0);
            AudioInfo {
                codec: codec.to_string(),
                sample_rate: config.map(|it| it.sample_rate).or_else(|| whole("audiosamplerate")),
                channels: channels.or_else(|| claimed.map(|stereo| 1 + u8::from(stereo))),
                profile: config.map_or("", |it| it.profile),
            }
        });
        Self { video, audio }
    }

    /// As `H264 1280x720 25 fps`; empty when there is none.
    pub(super) fn video_words(&self) -> String {
        let Some(video) = &self.video else { return String::new() };
        let mut words = video.codec.clone();
        if let (Some(width), Some(height)) = (video.width, video.height) {
            words += &format!(" {width}x{height}");
        }
        if let Some(rate) = video.frame_rate {
            words += &format!(" {rate} fps");
        }
        words
    }

    /// As `AAC 48000 Hz stereo`; empty when there is none.
    pub(super) fn audio_words(&self) -> String {
        let Some(audio) = &self.audio else { return String::new() };
        let mut words = audio.codec.clone();
        if let Some(rate) = audio.sample_rate {
            words += &format!(" {rate} Hz");
        }
        match audio.channels {
            Some(1) => words += " mono",
            Some(2) => words += " stereo",
            Some(count) => words += &format!(" {count} channels"),
            None => {}
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::{Frame, Moment};

    fn preamble(properties: Vec<(&str, Value)>) -> Preamble {
        let mut payload = Vec::new();
        Value::from("onMetaData").encode(&mut payload);
        Value::ecma_array(properties).encode(&mut payload);
        let mut preamble = Preamble::default();
        preamble.apply(&Frame {
            track: Track::Data,
            kind: FrameKind::Metadata,
            slot: 0,
            dts_ms: 0,
            arrival: Moment::ZERO,
            payload: Bytes::from(payload),
        });
        preamble
    }

    fn words(codecs: Codecs, preamble: &Preamble) -> [String; 2] {
        let media = MediaInfo::new(codecs, preamble);
        [media.video_words(), media.audio_words()]
    }

    #[test]
    fn what_is_known_is_said() {
        let both = Codecs { video: Some(VideoCodec::Avc), audio: Some(AudioCodec::Aac) };
        let full = preamble(vec![
            ("width", 1280.0.into()),
            ("height", 720.0.into()),
            ("framerate", 29.970_029.into()),
            ("audiosamplerate", 48_000.0.into()),
            ("stereo", true.into()),
        ]);
        assert_eq!(words(both, &full), ["H264 1280x720 29.97 fps", "AAC 48000 Hz stereo"]);
        let audio_only = Codecs { video: None, audio: Some(AudioCodec::Opus) };
        assert_eq!(words(audio_only, &full), ["", "Opus 48000 Hz stereo"]);
        assert_eq!(words(both, &Preamble::default()), ["H264", "AAC"]);
        let odd = preamble(vec![
            ("width", f64::NAN.into()),
            ("height", "720".into()),
            ("framerate", 25.0.into()),
            ("stereo", 0.0.into()),
        ]);
        assert_eq!(words(both, &odd), ["H264 25 fps", "AAC"]);
    }
}
