//! The packets of a file, as ffmpeg writes them when it copies the file to FLV.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use shardcast::proto::flv::{self, TagReader};
use thiserror::Error;

use super::process::COMMON_OPTIONS;
use crate::media::{Kind, Track};

/// Why a file cannot be published in a loop and followed.
#[derive(Debug, Error)]
pub(crate) enum TableError {
    /// There is no such program.
    #[error("{program} cannot be started: {error}; install ffmpeg, or name it with --ffmpeg")]
    NoFfmpeg {
        /// As given.
        program: String,
        /// The system's reason.
        error: std::io::Error,
    },
    /// ffmpeg does not read it.
    #[error("ffmpeg cannot copy {file} to FLV: {reason}")]
    Refused {
        /// The file.
        file: String,
        /// What ffmpeg said last.
        reason: String,
    },
    /// What ffmpeg wrote cannot be read.
    #[error("{file}, copied by ffmpeg, is no FLV: {error}")]
    Format {
        /// The file.
        file: String,
        /// What is wrong.
        error: flv::FlvError,
    },
    /// Nobody could begin to play it.
    #[error("{0} cannot be followed: it has no pictures that begin with a keyframe")]
    NoKeyframe(String),
}

/// A packet of a track.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// CRC-32 of the FLV body.
    pub(crate) crc: u32,
    /// Timestamp.
    pub(crate) timestamp_ms: u32,
}

/// One track from the start of the file to its end.
#[derive(Debug, Default)]
pub(crate) struct TrackTable {
    /// In order.
    pub(crate) entries: Vec<Entry>,
    places: HashMap<u32, Vec<u32>>,
}

/// A whole file.
#[derive(Debug)]
pub(crate) struct FileTable {
    /// By [`Track::index`].
    pub(crate) tracks: [TrackTable; 2],
    /// Packets of both tracks in the longest group of pictures.
    pub(crate) gop_packets: u64,
}

impl TrackTable {
    /// Appends a packet.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.places.entry(entry.crc).or_default().push(self.entries.len() as u32);
        self.entries.push(entry);
    }

    /// Where this payload stands; often once, for silence everywhere.
    pub(crate) fn places(&self, crc: u32) -> &[u32] {
        self.places.get(&crc).map_or(&[], Vec::as_slice)
    }
}

impl FileTable {
    /// Lets ffmpeg copy the file.
    pub(crate) fn read(program: &Path, file: &Path) -> Result<Self, TableError> {
        let output = Command::new(program)
            .args(COMMON_OPTIONS)
            .arg("-i")
            .arg(file)
            .args(["-c", "copy", "-f", "flv", "-flvflags", "no_duration_filesize", "pipe:1"])
            .output()
            .map_err(|error| TableError::NoFfmpeg {
                program: program.display().to_string(),
                error,
            })?;
        let name = file.display().to_string();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let reason = said.lines().last().unwrap_or("it said nothing").to_owned();
            return Err(TableError::Refused { file: name, reason });
        }
        Self::of_flv(&output.stdout, &name)
    }

    fn of_flv(bytes: &[u8], name: &str) -> Result<Self, TableError> {
        let mut reader = TagReader::new(flv::PAYLOAD_LEN_MAX);
        reader.push(bytes);
        let mut tracks = <[TrackTable; 2]>::default();
        let mut keys = Vec::new();
        while let Some(tag) = reader
            .next_tag()
            .map_err(|error| TableError::Format { file: name.to_owned(), error })?
        {
            let Some(track) = Track::from_type_id(tag.type_id) else { continue };
            let kind = track.kind(&tag.payload);
            if kind == Kind::Header {
                continue;
            }
            let entry =
                Entry { crc: crc32fast::hash(&tag.payload), timestamp_ms: tag.timestamp_ms };
            let pictures = tracks[Track::Video.index()].entries.len();
            if track == Track::Video && kind == Kind::Key {
                keys.push(pictures);
            } else if track == Track::Video && pictures == 0 {
                break;
            }
            tracks[track.index()].push(entry);
        }
        if keys.is_empty() {
            return Err(TableError::NoKeyframe(name.to_owned()));
        }
        let gop_packets = gop_packets(&tracks, &keys);
        Ok(Self { tracks, gop_packets })
    }
}

/// The most packets from one keyframe to the next, the end of the file being followed by its start.
fn gop_packets(tracks: &[TrackTable; 2], keys: &[usize]) -> u64 {
    let [audio, video] = tracks.each_ref().map(|track| &track.entries);
    let ends = keys[1..].iter().copied().chain([video.len()]);
    let groups = keys.iter().copied().zip(ends).map(|(begin, end)| {
        let from_ms = video[begin].timestamp_ms;
        let to_ms = video.get(end).map_or(u32::MAX, |entry| entry.timestamp_ms);
        let with = |entry: &&Entry| (from_ms..to_ms).contains(&entry.timestamp_ms);
        (end - begin + audio.iter().filter(with).count()) as u64
    });
    groups.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(packets: &[(u8, u32, [u8; 6])]) -> Vec<u8> {
        let mut bytes = flv::header(true, true).to_vec();
        for (type_id, timestamp_ms, payload) in packets {
            flv::write_tag(*type_id, *timestamp_ms, payload, &mut |piece| {
                bytes.extend_from_slice(piece);
            })
            .expect("it is short");
        }
        bytes
    }

    const KEY: [u8; 6] = [0x17, 1, 0, 0, 0, 1];
    const INTER: [u8; 6] = [0x27, 1, 0, 0, 0, 2];
    const SOUND: [u8; 6] = [0xaf, 1, 0, 0, 0, 3];

    #[test]
    fn packets_and_groups_are_counted() {
        let header = [0x17, 0, 0, 0, 0, 9];
        let bytes = file(&[
            (9, 0, header),
            (8, 0, SOUND),
            (9, 0, KEY),
            (9, 40, INTER),
            (8, 50, SOUND),
            (9, 80, KEY),
            (8, 90, SOUND),
            (9, 120, INTER),
            (9, 160, INTER),
            (8, 170, SOUND),
        ]);
        let table = FileTable::of_flv(&bytes, "file").expect("it is good");
        let [audio, video] = &table.tracks;
        assert_eq!((audio.entries.len(), video.entries.len()), (4, 5));
        assert_eq!(audio.places(crc32fast::hash(&SOUND)), [0, 1, 2, 3]);
        assert_eq!(video.places(crc32fast::hash(&KEY)), [0, 2]);
        assert_eq!(table.gop_packets, 5);
    }

    #[test]
    fn a_file_begins_with_a_keyframe() {
        let bytes = file(&[(8, 0, SOUND), (9, 0, INTER), (9, 40, KEY)]);
        let error = FileTable::of_flv(&bytes, "file").expect_err("nobody could begin");
        assert!(error.to_string().contains("no pictures that begin with a keyframe"));
        assert!(FileTable::of_flv(b"not FLV at all", "file").is_err());
    }
}
