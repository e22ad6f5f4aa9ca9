//! A real FLV file as a stream without end: its frames, looped with timestamps that go on.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use shardcast::proto::flv::{self, TagReader};
use thiserror::Error;

use crate::media::{Kind, Track};

/// Why a file cannot be published.
#[derive(Debug, Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error("{path} cannot be read: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// It is no FLV.
    #[error("{path} cannot be published: {error}; try: ffmpeg -i FILE -c copy out.flv")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: flv::FlvError,
    },
    /// It has no keyframe to begin with.
    #[error("{0} cannot be published: it has no frame at which a viewer could begin")]
    NoKeyframe(PathBuf),
    /// Its configuration changes.
    #[error("{0} cannot be looped: its decoder configuration changes inside the file")]
    Changes(PathBuf),
}

/// A frame of the file.
#[derive(Clone, Debug)]
pub(crate) struct FileFrame {
    /// Its track.
    pub(crate) track: Track,
    /// Decoding can begin here.
    pub(crate) is_key: bool,
    /// From the first frame on.
    pub(crate) timestamp_ms: u64,
    /// The FLV body.
    pub(crate) payload: Bytes,
    /// CRC-32 of the payload.
    pub(crate) crc: u32,
}

/// A whole file in memory.
#[derive(Debug)]
pub(crate) struct FlvFile {
    /// The body of onMetaData.
    pub(crate) metadata: Option<Bytes>,
    /// Decoder configurations.
    pub(crate) configurations: Vec<(Track, Vec<u8>)>,
    /// In the order of the file.
    pub(crate) frames: Vec<FileFrame>,
    /// What one turn adds to the timestamps.
    pub(crate) duration_ms: u64,
}

impl FlvFile {
    /// Reads and checks a file.
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let bytes = std::fs::read(path)
            .map_err(|error| FileError::Read { path: path.to_owned(), error })?;
        let mut reader = TagReader::new(flv::PAYLOAD_LEN_MAX);
        reader.push(&bytes);
        let mut file =
            Self { metadata: None, configurations: Vec::new(), frames: Vec::new(), duration_ms: 0 };
        let mut first_ms = None;
        while let Some(tag) =
            reader.next_tag().map_err(|error| FileError::Format { path: path.to_owned(), error })?
        {
            let Some(track) = Track::from_type_id(tag.type_id) else {
                file.metadata.get_or_insert(tag.payload);
                continue;
            };
            let kind = track.kind(&tag.payload);
            if kind == Kind::Header {
                file.keep_configuration(track, &tag.payload, path)?;
                continue;
            }
            let first_ms = *first_ms.get_or_insert(tag.timestamp_ms);
            file.frames.push(FileFrame {
                track,
                is_key: kind == Kind::Key,
                timestamp_ms: u64::from(tag.timestamp_ms.saturating_sub(first_ms)),
                crc: crc32fast::hash(&tag.payload),
                payload: tag.payload,
            });
        }
        file.start_at_keyframe(path)?;
        Ok(file)
    }

    fn keep_configuration(
        &mut self,
        track: Track,
        payload: &[u8],
        path: &Path,
    ) -> Result<(), FileError> {
        // The other headers (an end of sequence, an empty tag) would end or confuse a loop.
        if payload.get(1) != Some(&0) && payload.first().is_none_or(|first| first & 0x80 == 0) {
            return Ok(());
        }
        match self.configurations.iter().find(|(known, _)| *known == track) {
            Some((_, known)) if known != payload => Err(FileError::Changes(path.to_owned())),
            Some(_) => Ok(()),
            None => {
                self.configurations.push((track, payload.to_vec()));
                Ok(())
            }
        }
    }

    fn start_at_keyframe(&mut self, path: &Path) -> Result<(), FileError> {
        let has_video = self.frames.iter().any(|frame| frame.track == Track::Video);
        let first = self
            .frames
            .iter()
            .position(|frame| frame.is_key && (!has_video || frame.track == Track::Video));
        let Some(first) = first else { return Err(FileError::NoKeyframe(path.to_owned())) };
        self.frames.drain(..first);
        let base_ms = self.frames.iter().map(|frame| frame.timestamp_ms).min().unwrap_or(0);
        for frame in &mut self.frames {
            frame.timestamp_ms -= base_ms;
        }
        let tracks = Track::ALL.iter().filter_map(|track| {
            let times: Vec<u64> = self
                .frames
                .iter()
                .filter(|frame| frame.track == *track)
                .map(|frame| frame.timestamp_ms)
                .collect();
            let last = *times.last()?;
            let steps = times.len().saturating_sub(1).max(1) as u64;
            // The last frame lasts as long as frames do on average.
            Some(last + ((last - times[0]) / steps).max(1))
        });
        self.duration_ms = tracks.max().unwrap_or(1);
        Ok(())
    }
}
