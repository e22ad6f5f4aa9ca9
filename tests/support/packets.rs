//! Lists of media packets, and the test that a player's list is the end of its source's list.
//!
//! A list is what `ffmpeg -copyts -i X -map 0 -c copy -f framemd5` prints of X: nothing is decoded, and
//! each packet has its dts, pts, size and MD5. Tracks are told apart by their kind, since their
//! order in the list follows which packet came first; further tracks of a kind by their codec.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::ffmpeg::Ffmpeg;
use super::process::Process;

/// What turns an input of ffmpeg into a list.
pub(crate) const COPY_TO_LIST: [&str; 6] = ["-map", "0", "-c", "copy", "-f", "framemd5"];

/// The bitstream filter that leaves only keyframes.
const ONLY_KEYFRAMES: &str = "noise=amount=0:drop=not(key)";

/// How long ffmpeg may take to read a file.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// One packet, times in ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Decoding time.
    pub(crate) dts: i64,
    /// Presentation time.
    pub(crate) pts: i64,
    /// Payload, bytes.
    pub(crate) size: u64,
    /// MD5 of the payload.
    pub(crate) md5: String,
}

/// One track of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Track {
    /// Size and MD5 of the codec configuration.
    pub(crate) configuration: Option<String>,
    /// The packets in order.
    pub(crate) packets: Vec<Packet>,
}

/// The packets of one file or one player.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packets {
    /// The video track; empty when there is none.
    pub(crate) video: Track,
    /// The audio track; empty when there is none.
    pub(crate) audio: Track,
    /// Further tracks by kind and codec, such as `video hevc`; and others, such as `subtitle`.
    pub(crate) further: BTreeMap<String, Track>,
}

/// A media file's packets, and which of them a player may start with.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    packets: Packets,
    keyframes: Packets,
}

/// Where in the source a player started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    /// Video packets before the first one received.
    pub(crate) video_skipped: usize,
    /// Audio packets before the first one received.
    pub(crate) audio_skipped: usize,
    /// The first audio packet's time minus the first video packet's, if there are both, ms.
    pub(crate) audio_after_video_ms: Option<i64>,
}

/// Packets of the source after the last one that a player received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Of the video track.
    pub(crate) video: usize,
    /// Of the audio track.
    pub(crate) audio: usize,
    /// Of all further tracks.
    pub(crate) further: usize,
}

impl Packets {
    /// Reads a media file with ffmpeg.
    pub(crate) fn of_file(path: &Path) -> Self {
        Self::of_file_with(Ffmpeg::System, path, &[])
    }

    /// [`Packets::of_file`] with that ffmpeg and further options for its output.
    fn of_file_with(ffmpeg: Ffmpeg, path: &Path, options: &[&str]) -> Self {
        let mut command = ffmpeg.command();
        command.args(["-copyts", "-i"]).arg(path).args(COPY_TO_LIST).args(options).arg("-");
        let list = Process::run("ffmpeg lists packets", &mut command, READ_LIMIT);
        Self::parse(&list)
    }

    /// Reads a list from a file; `None` when the file is not there yet.
    pub(crate) fn read_list(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        // A player may be in the middle of its last line.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        Some(Self::parse(whole))
    }

    /// Number of packets of both tracks.
    pub(crate) fn len(&self) -> usize {
        self.video.packets.len() + self.audio.packets.len()
    }

    /// The number of packets of all tracks.
    pub(crate) fn count(&self) -> u64 {
        let tracks = self.further.values().chain([&self.video, &self.audio]);
        tracks.map(|track| track.packets.len() as u64).sum()
    }

    /// Whether there is no packet.
    pub(crate) fn is_empty(&self) -> bool {
        self.video.packets.is_empty() && self.audio.packets.is_empty()
    }

    fn parse(list: &str) -> Self {
        let mut kinds: Vec<ListedTrack> = Vec::new();
        let mut configurations: Vec<(usize, String)> = Vec::new();
        let mut parsed = Self::default();
        for line in list.lines() {
            if let Some(rest) = line.strip_prefix("#media_type ") {
                let (number, kind) = rest.split_once(':').expect("media_type has a number");
                let number = number.parse().expect("a stream number");
                let kind = kind.trim().to_owned();
                let is_further = kinds.iter().any(|track| track.kind == kind);
                kinds.push(ListedTrack { number, kind, is_further });
            } else if let Some(rest) = line.strip_prefix("#codec_id ") {
                let (_, codec) = rest.split_once(':').expect("codec_id has a number");
                let track = kinds.last_mut().expect("the media type goes before the codec");
                if track.is_further {
                    track.kind = format!("{} {}", track.kind, codec.trim());
                }
            } else if let Some(rest) = line.strip_prefix("#extradata ") {
                let (number, digest) = rest.split_once(',').expect("extradata has a number");
                let number = number.parse().expect("a stream number");
                let digest = digest.split_whitespace().collect::<String>();
                configurations.push((number, digest));
            } else if !line.starts_with('#') && !line.trim().is_empty() {
                let (number, packet) = parse_packet(line);
                if let Some(track) = parsed.track_mut(&kinds, number) {
                    track.packets.push(packet);
                }
            }
        }
        for (number, digest) in configurations {
            if let Some(track) = parsed.track_mut(&kinds, number) {
                track.configuration = Some(digest);
            }
        }
        parsed
    }

    fn track_mut(&mut self, listed: &[ListedTrack], number: usize) -> Option<&mut Track> {
        let track = listed.iter().find(|track| track.number == number)?;
        match track.kind.as_str() {
            "video" => Some(&mut self.video),
            "audio" => Some(&mut self.audio),
            kind => Some(self.further.entry(kind.to_owned()).or_default()),
        }
    }
}

/// What the head of a list says of a track.
struct ListedTrack {
    number: usize,
    /// `video`, `audio` or another; of further tracks of a kind, with the codec.
    kind: String,
    is_further: bool,
}

impl Source {
    /// Reads a media file.
    pub(crate) fn of_file(path: &Path) -> Self {
        Self::of_file_with(Ffmpeg::System, path)
    }

    /// [`Source::of_file`] with that ffmpeg.
    pub(crate) fn of_file_with(ffmpeg: Ffmpeg, path: &Path) -> Self {
        let mut packets = Packets::of_file_with(ffmpeg, path, &[]);
        // What ffmpeg makes of metadata that is not at the start of a file.
        packets.further.retain(|name, _| name.starts_with("video") || name.starts_with("audio"));
        let source = Self {
            packets,
            // A filter that changes nothing but drops what is no keyframe.
            keyframes: Packets::of_file_with(ffmpeg, path, &["-bsf:v", ONLY_KEYFRAMES]),
        };
        assert!(!source.packets.is_empty(), "{} is empty", path.display());
        let (all, keyframes) = (&source.packets.video.packets, &source.keyframes.video.packets);
        assert_eq!(
            keyframes.is_empty(),
            all.is_empty(),
            "{}: a video track has keyframes",
            path.display()
        );
        assert!(
            all.is_empty() || keyframes.len() < all.len(),
            "{}: not every frame is a keyframe",
            path.display()
        );
        source
    }

    /// All packets.
    pub(crate) fn packets(&self) -> &Packets {
        &self.packets
    }

    /// Checks that `received` is the source from some keyframe on, to the last packet, bit by bit,
    /// with the source's own timestamps, and without a track that the source does not have.
    ///
    /// Without video a player may start at any audio packet.
    pub(crate) fn assert_played(&self, who: &str, received: &Packets) -> Joined {
        let (joined, left) = self.assert_played_part(who, received);
        assert_eq!(left, Left::default(), "{who}: the last packets are missing");
        joined
    }

    /// [`Source::assert_played`] for a stream that was cut off: says how much is missing at the end.
    pub(crate) fn assert_played_part(&self, who: &str, received: &Packets) -> (Joined, Left) {
        let video = assert_part(&format!("{who}, video"), &self.packets.video, &received.video);
        let audio = assert_part(&format!("{who}, audio"), &self.packets.audio, &received.audio);
        let joined = Joined {
            video_skipped: video.0,
            audio_skipped: audio.0,
            audio_after_video_ms: received
                .audio
                .packets
                .first()
                .zip(received.video.packets.first())
                .map(|(audio, video)| audio.dts - video.dts),
        };
        if let Some(first) = received.video.packets.first() {
            assert!(
                self.keyframes.video.packets.contains(first),
                "{who} starts at dts {}, which is no keyframe",
                first.dts
            );
        }
        let names = |packets: &Packets| packets.further.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&self.packets), names(received), "{who}: further tracks");
        let mut further = 0;
        for (name, track) in &received.further {
            further += assert_part(&format!("{who}, {name}"), &self.packets.further[name], track).1;
            if let (Some(keyframes), true) =
                (self.keyframes.further.get(name), name.starts_with("video"))
            {
                assert!(
                    keyframes.packets.contains(&track.packets[0]),
                    "{who}, {name} starts at dts {}, which is no keyframe",
                    track.packets[0].dts
                );
            }
        }
        (joined, Left { video: video.1, audio: audio.1, further })
    }
}

/// Checks that `received` is a part of `source`; gives the number of packets before and after it.
fn assert_part(who: &str, source: &Track, received: &Track) -> (usize, usize) {
    let Some(first) = received.packets.first() else {
        assert!(source.packets.is_empty(), "{who}: nothing was received");
        return (0, 0);
    };
    assert_eq!(source.configuration, received.configuration, "{who}: codec configuration");
    let skipped = source
        .packets
        .iter()
        .position(|packet| packet == first)
        .unwrap_or_else(|| panic!("{who}: the first packet, {first:?}, is not in the source"));
    let expected = &source.packets[skipped..];
    if !expected.starts_with(&received.packets) {
        panic!("{who}: {}", first_difference(expected, &received.packets));
    }
    (skipped, expected.len() - received.packets.len())
}

/// Where two lists part, with a few packets of each.
fn first_difference(expected: &[Packet], received: &[Packet]) -> String {
    let at = expected.iter().zip(received).take_while(|(left, right)| left == right).count();
    let mut text = format!(
        "{} packets expected, {} received, the first difference is at {at}",
        expected.len(),
        received.len()
    );
    for number in at..at + 4 {
        let _ = write!(
            text,
            "\n  expected {:?}\n  received {:?}",
            expected.get(number),
            received.get(number)
        );
    }
    text
}

/// Parses `stream, dts, pts, duration, size, md5`.
fn parse_packet(line: &str) -> (usize, Packet) {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [number, dts, pts, _duration, size, md5, ..] = fields[..] else {
        panic!("not a packet: {line:?}");
    };
    let packet = Packet {
        dts: dts.parse().expect("a dts"),
        pts: pts.parse().expect("a pts"),
        size: size.parse().expect("a size"),
        md5: md5.to_owned(),
    };
    (number.parse().expect("a stream number"), packet)
}
