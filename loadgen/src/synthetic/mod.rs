//! The synthetic stream: real H.264 and AAC of any bitrate, made once; a frame costs one copy and
//! one stamp.

pub(crate) mod aac;
mod bits;
pub(crate) mod h264;

use shardcast::proto::amf0::Value;

use crate::media::Track;
use crate::stamp::{STAMP_BYTES, crc_around};

/// A keyframe has the bytes of so many other pictures.
const KEYFRAME_RATIO: f64 = 6.0;
/// FLV headers of audio (AAC, 44 kHz bits set as the specification says for AAC, stereo).
const AUDIO_FLAGS: u8 = 0xAF;
const VIDEO_KEY_FLAGS: u8 = 0x17;
const VIDEO_INTER_FLAGS: u8 = 0x27;

/// What to synthesise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Video payload bits per second.
    pub(crate) video_bits_per_second: u64,
    /// Pictures per second.
    pub(crate) frames_per_second: f64,
    /// Pictures from keyframe to keyframe.
    pub(crate) gop_frames: u32,
    /// Audio payload bits per second; 0 for no audio.
    pub(crate) audio_bits_per_second: u64,
}

/// One payload with a place for a stamp.
#[derive(Debug)]
pub(crate) struct Template {
    /// The whole payload.
    pub(crate) payload: Vec<u8>,
    /// Its CRC without the stamp.
    pub(crate) crc: u32,
}

/// All payloads of a shape.
#[derive(Debug)]
pub(crate) struct Templates {
    /// The shape.
    pub(crate) shape: Shape,
    keyframes: [Template; 2],
    inter: Vec<Template>,
    audio: Template,
}

impl Templates {
    /// Makes every payload.
    pub(crate) fn new(shape: Shape) -> Self {
        let gop = f64::from(shape.gop_frames);
        let frame_bytes = shape.video_bits_per_second as f64 / 8.0 / shape.frames_per_second;
        let inter_bytes = frame_bytes * gop / (gop - 1.0 + KEYFRAME_RATIO);
        let key_bytes =
            if shape.gop_frames == 1 { frame_bytes } else { inter_bytes * KEYFRAME_RATIO };
        let place = [0x80; STAMP_BYTES];
        let video = |idr: Option<u32>, number: u32, bytes: f64| {
            let flags = if idr.is_none() { VIDEO_INTER_FLAGS } else { VIDEO_KEY_FLAGS };
            let mut payload = vec![flags, 1, 0, 0, 0];
            let size = (bytes as usize).saturating_sub(payload.len());
            payload.extend(h264::access_unit(idr, number, &place, size));
            Template::new(Track::Video, payload)
        };
        let audio_bytes = shape.audio_bits_per_second as f64 / 8.0 * f64::from(aac::FRAME_SAMPLES)
            / f64::from(aac::SAMPLE_RATE_HZ);
        let mut audio = vec![AUDIO_FLAGS, 1];
        audio.extend(aac::frame(&place, audio_bytes as usize));
        Self {
            shape,
            keyframes: [0, 1].map(|idr| video(Some(idr), 0, key_bytes)),
            // Sizes vary by a quarter, so that a lost or doubled picture is seen in byte counts.
            inter: (0..h264::FRAME_NUMBERS)
                .map(|number| {
                    let part = f64::from(number * 37 % 64) / 63.0 - 0.5;
                    video(None, number, inter_bytes * (1.0 + part / 4.0))
                })
                .collect(),
            audio: Template::new(Track::Audio, audio),
        }
    }

    /// The picture with this number.
    pub(crate) fn video(&self, number: u64) -> &Template {
        let gop = u64::from(self.shape.gop_frames);
        let in_gop = number % gop;
        if in_gop == 0 {
            &self.keyframes[(number / gop % 2) as usize]
        } else {
            &self.inter[(in_gop % u64::from(h264::FRAME_NUMBERS)) as usize]
        }
    }

    /// Every frame of sound.
    pub(crate) fn audio(&self) -> &Template {
        &self.audio
    }

    /// When the picture with this number is due, nanoseconds from the start.
    pub(crate) fn video_due_ns(&self, number: u64) -> u64 {
        (number as f64 * 1e9 / self.shape.frames_per_second) as u64
    }

    /// When the frame of sound with this number is due; `None` without audio.
    pub(crate) fn audio_due_ns(&self, number: u64) -> Option<u64> {
        let samples = number * u64::from(aac::FRAME_SAMPLES);
        (self.shape.audio_bits_per_second > 0)
            .then(|| samples * 1_000_000_000 / u64::from(aac::SAMPLE_RATE_HZ))
    }

    /// The decoder configurations, to be sent first.
    pub(crate) fn configurations(&self) -> Vec<(Track, Vec<u8>)> {
        let mut video = vec![VIDEO_KEY_FLAGS, 0, 0, 0, 0];
        video.extend(h264::decoder_configuration());
        let mut all = vec![(Track::Video, video)];
        if self.shape.audio_bits_per_second > 0 {
            let mut audio = vec![AUDIO_FLAGS, 0];
            audio.extend(aac::specific_configuration());
            all.push((Track::Audio, audio));
        }
        all
    }

    /// The body of onMetaData, as in an FLV file.
    pub(crate) fn metadata(&self) -> Vec<u8> {
        let mut fields = vec![
            ("width", f64::from(h264::WIDTH)),
            ("height", f64::from(h264::HEIGHT)),
            ("framerate", self.shape.frames_per_second),
            ("videocodecid", 7.0),
            ("videodatarate", self.shape.video_bits_per_second as f64 / 1000.0),
        ];
        if self.shape.audio_bits_per_second > 0 {
            fields.extend([
                ("audiocodecid", 10.0),
                ("audiodatarate", self.shape.audio_bits_per_second as f64 / 1000.0),
                ("audiosamplerate", f64::from(aac::SAMPLE_RATE_HZ)),
            ]);
        }
        let fields = fields.into_iter().map(|(name, value)| (name, Value::from(value)));
        let mut body = Vec::new();
        Value::from("onMetaData").encode(&mut body);
        Value::ecma_array(fields).encode(&mut body);
        body
    }
}

impl Template {
    fn new(track: Track, payload: Vec<u8>) -> Self {
        let crc = crc_around(track, &payload);
        Self { payload, crc }
    }
}
