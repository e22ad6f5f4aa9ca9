//! What a publisher sends, in a line for the log: codecs as its messages name them, sizes and rates as
//! its metadata claims them.

use crate::media::{FrameKind, Preamble, Track};
use crate::proto::amf0::{self, Value};
use crate::proto::codec::{AudioCodec, VideoCodec};

/// Codecs that were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Codecs {
    pub(super) video: Option<VideoCodec>,
    pub(super) audio: Option<AudioCodec>,
}

/// A publication in words; empty where nothing is known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Description {
    /// As `H264 1280x720 25 fps`.
    pub(super) video: String,
    /// As `AAC 48000 Hz stereo`.
    pub(super) audio: String,
}

impl Description {
    pub(super) fn new(codecs: Codecs, preamble: &Preamble) -> Self {
        let metadata = preamble
            .headers()
            .iter()
            .find(|header| header.track == Track::Data && header.kind == FrameKind::Metadata)
            .and_then(|header| amf0::decode_all(&header.payload).ok())
            .unwrap_or_default();
        let value = |key| metadata.iter().find_map(|value| value.property(key));
        let number =
            |key| value(key).and_then(Value::as_f64).filter(|it| it.is_finite() && *it > 0.0);
        let mut described = Self::default();
        if let Some(codec) = codecs.video {
            described.video = codec.to_string();
            if let (Some(width), Some(height)) = (number("width"), number("height")) {
                described.video += &format!(" {width:.0}x{height:.0}");
            }
            if let Some(rate) = number("framerate").or_else(|| number("fps")) {
                // Two decimals tell 29.97 from 30.
                described.video += &format!(" {} fps", (rate * 100.0).round() / 100.0);
            }
        }
        if let Some(codec) = codecs.audio {
            described.audio = codec.to_string();
            if let Some(rate) = number("audiosamplerate") {
                described.audio += &format!(" {rate:.0} Hz");
            }
            match value("stereo").and_then(Value::as_bool) {
                Some(true) => described.audio += " stereo",
                Some(false) => described.audio += " mono",
                None => {}
            }
        }
        described
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
        let Description { video, audio } = Description::new(codecs, preamble);
        [video, audio]
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
