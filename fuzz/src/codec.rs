//! Headers of audio and video packets: only the header decides, and every codec has a name.

use shardcast::proto::codec::{self, BodyTrack, PacketKind};
use shardcast::proto::decoder_config;

/// The body of an audio or video message.
pub fn run(data: &[u8]) {
    let longer = [data, b"x"].concat();
    match codec::video(data) {
        Ok(tag) => {
            assert!((-0x80_0000..0x80_0000).contains(&tag.cts_ms));
            assert!(!tag.codec.to_string().is_empty());
            let config = decoder_config::video(tag.codec, data);
            assert!(config.as_ref().is_none_or(|config| !config.level.is_empty()));
            assert!(config.is_none() || decoder_config::video(tag.codec, &longer) == config);
            assert!(!data.is_empty() || tag.kind == PacketKind::Empty);
            // A packet without data is empty; more data never changes what is known.
            if tag.kind != PacketKind::Empty {
                assert_eq!(codec::video(&longer), Ok(tag));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match codec::audio(data) {
        Ok(tag) => {
            assert!(!tag.codec.to_string().is_empty());
            let config = decoder_config::audio(tag.codec, data);
            assert!(config.is_none_or(|config| config.channels <= 8));
            assert!(config.is_none() || decoder_config::audio(tag.codec, &longer) == config);
            assert_ne!(tag.kind, PacketKind::Inter, "every audio frame stands for itself");
            if tag.kind != PacketKind::Empty {
                assert_eq!(codec::audio(&longer), Ok(tag));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    tracks(data, codec::video_tracks(data), codec::video_tracks(&longer));
    tracks(data, codec::audio_tracks(data), codec::audio_tracks(&longer));
}

/// Tracks end, are named in the body, and stay the same when there is more of it.
fn tracks(
    data: &[u8],
    found: impl Iterator<Item = BodyTrack>,
    of_longer: impl Iterator<Item = BodyTrack>,
) {
    let tracks: Vec<BodyTrack> = found.take(data.len() + 1).collect();
    assert!(tracks.len() <= data.len(), "more tracks than bytes");
    let of_longer: Vec<BodyTrack> = of_longer.take(tracks.len()).collect();
    assert_eq!(of_longer, tracks);
    for fourcc in tracks.iter().filter_map(|track| track.fourcc) {
        assert!(data.windows(4).any(|window| window == fourcc));
    }
}
