//! What decoder configurations say of a stream: profile, level, sampling rate, channels. The bodies are
//! those of FLV tags and RTMP messages that carry a configuration.
//!
//! Sources: ISO/IEC 14496-15 (`avcC`, `hvcC`), AV1 codec ISO media file format binding (`av1C`), ISO/IEC
//! 14496-3 1.6.2.1 (AudioSpecificConfig). Names of profiles are those that nginx-rtmp and ffprobe show.

use super::codec::{AudioCodec, VideoCodec};

/// Both the legacy tag of AVC and HEVC and the one with a FourCC have five bytes before the
/// configuration.
const VIDEO_CONFIG_AT: usize = 5;

/// Of a video configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoConfig {
    /// As `High`; empty when it has no name here.
    pub profile: &'static str,
    /// The byte between profile and level of AVC, where constraints are; 0 of other codecs.
    pub compatibility: u8,
    /// As `3.1`.
    pub level: String,
}

/// Of an audio configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioConfig {
    /// As `LC`; empty when it has no name here.
    pub profile: &'static str,
    /// Samples per second of the output.
    pub sample_rate: u32,
    /// Channels; 0 when the configuration does not say.
    pub channels: u8,
}

/// Reads the body of a video configuration; `None` when it is not of a codec that is known here, or too
/// short, or carries several tracks.
pub fn video(codec: VideoCodec, body: &[u8]) -> Option<VideoConfig> {
    let config = body.get(VIDEO_CONFIG_AT..)?;
    match codec {
        VideoCodec::Avc => {
            let &[profile, compatibility, level] = config.get(1..4)?.first_chunk()?;
            let profile = match profile {
                66 => "Baseline",
                77 => "Main",
                88 => "Extended",
                100 => "High",
                110 => "High 10",
                122 => "High 4:2:2",
                244 => "High 4:4:4",
                _ => "",
            };
            let level = format!("{}.{}", level / 10, level % 10);
            Some(VideoConfig { profile, compatibility, level })
        }
        VideoCodec::Hevc => {
            let profile = match config.get(1)? & 0x1F {
                1 => "Main",
                2 => "Main 10",
                3 => "Main Still Picture",
                4 => "Range Extensions",
                _ => "",
            };
            let level = config.get(12)?;
            let level = format!("{}.{}", level / 30, level % 30 / 3);
            Some(VideoConfig { profile, compatibility: 0, level })
        }
        VideoCodec::Av1 => {
            let byte = config.get(1)?;
            let profile = match byte >> 5 {
                0 => "Main",
                1 => "High",
                2 => "Professional",
                _ => "",
            };
            let index = byte & 0x1F;
            let level = format!("{}.{}", 2 + (index >> 2), index & 3);
            Some(VideoConfig { profile, compatibility: 0, level })
        }
        _ => None,
    }
}

/// Reads the body of an audio configuration; `None` when it is not AAC, or too short.
pub fn audio(codec: AudioCodec, body: &[u8]) -> Option<AudioConfig> {
    if codec != AudioCodec::Aac {
        return None;
    }
    // Sound format 9 is the tag with a FourCC.
    let config = if body.first()? >> 4 == 9 { body.get(5..)? } else { body.get(2..)? };
    let mut bits = Bits { bytes: config, at: 0 };
    let mut kind = bits.object_type()?;
    let mut sample_rate = bits.sample_rate()?;
    let channels = bits.take(4)? as u8;
    let mut profile = match kind {
        1 => "Main",
        2 => "LC",
        3 => "SSR",
        4 => "LTP",
        _ => "",
    };
    if kind == 5 || kind == 29 {
        profile = if kind == 29 { "HEv2" } else { "HE" };
        sample_rate = bits.sample_rate()?;
        kind = bits.object_type()?;
        if kind != 2 {
            profile = "";
        }
    }
    // Number 7 is 7.1; numbers above have another meaning.
    let channels = match channels {
        7 => 8,
        1..=6 => channels,
        _ => 0,
    };
    Some(AudioConfig { profile, sample_rate, channels })
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    fn object_type(&mut self) -> Option<u32> {
        match self.take(5)? {
            31 => Some(32 + self.take(6)?),
            kind => Some(kind),
        }
    }

    fn sample_rate(&mut self) -> Option<u32> {
        const RATES: [u32; 13] = [
            96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025,
            8_000, 7_350,
        ];
        match self.take(4)? as usize {
            15 => self.take(24),
            index => RATES.get(index).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn configurations_of_video() {
        let avc = [0x17, 0, 0, 0, 0, 1, 100, 0, 31, 0xFF];
        let told = video(VideoCodec::Avc, &avc).unwrap();
        assert_eq!((told.profile, told.compatibility, &*told.level), ("High", 0, "3.1"));
        let main = [0x90, b'a', b'v', b'c', b'1', 1, 77, 0x40, 13];
        let told = video(VideoCodec::Avc, &main).unwrap();
        assert_eq!((told.profile, told.compatibility, &*told.level), ("Main", 0x40, "1.3"));
        let mut hevc = vec![0x90, b'h', b'v', b'c', b'1', 1, 0x21];
        hevc.extend([0; 10]);
        hevc.push(123);
        let told = video(VideoCodec::Hevc, &hevc).unwrap();
        assert_eq!((told.profile, &*told.level), ("Main", "4.1"));
        let av1 = [0x90, b'a', b'v', b'0', b'1', 0x81, 0x08, 0, 0];
        let told = video(VideoCodec::Av1, &av1).unwrap();
        assert_eq!((told.profile, &*told.level), ("Main", "4.0"));
        assert_eq!(video(VideoCodec::Avc, &avc[..8]), None);
        assert_eq!(video(VideoCodec::Vp9, &av1), None);
    }

    #[test]
    fn configurations_of_audio() {
        let told = |body: &[u8]| {
            audio(AudioCodec::Aac, body).map(|it| (it.profile, it.sample_rate, it.channels))
        };
        assert_eq!(told(&[0xAF, 0, 0x12, 0x10]), Some(("LC", 44_100, 2)));
        assert_eq!(told(&[0xAF, 0, 0x11, 0x88]), Some(("LC", 48_000, 1)));
        assert_eq!(told(&[0x90, b'm', b'p', b'4', b'a', 0x11, 0xB8]), Some(("LC", 48_000, 8)));
        // HE-AAC said outright: 22,050 samples in, 44,100 out.
        assert_eq!(told(&[0xAF, 0, 0x2B, 0x92, 0x08]), Some(("HE", 44_100, 2)));
        assert_eq!(told(&[0xAF, 0, 0x12]), None);
        assert_eq!(audio(AudioCodec::Opus, &[0xAF, 0, 0x12, 0x10]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..40)) {
            for codec in [VideoCodec::Avc, VideoCodec::Hevc, VideoCodec::Av1] {
                let _ = video(codec, &body);
            }
            let _ = audio(AudioCodec::Aac, &body);
        }
    }
}
