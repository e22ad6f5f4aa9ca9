//! Where frames come from: synthesised, or a file in a loop. Both give frames in sending order,
//! each with the moment at which it is due.

use std::sync::Arc;

use crate::flv_file::FlvFile;
use crate::media::Track;
use crate::stamp::Stamp;
use crate::synthetic::Templates;

/// What publishers of a run send.
#[derive(Clone, Debug)]
pub(crate) enum Material {
    /// Made here.
    Synthetic(Arc<Templates>),
    /// A file.
    File(Arc<FlvFile>),
}

/// What goes before the first frame.
#[derive(Debug)]
pub(crate) struct Headers {
    /// The body of onMetaData, as in a file.
    pub(crate) metadata: Option<Vec<u8>>,
    /// Decoder configurations.
    pub(crate) configurations: Vec<(Track, Vec<u8>)>,
}

/// One stream's frames.
#[derive(Debug)]
pub(crate) struct Source {
    material: Material,
    stream: u32,
    number: u64,
    track_numbers: [u64; 2],
}

/// A frame about to be sent; its payload is in the caller's buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceFrame {
    /// Its track.
    pub(crate) track: Track,
    /// The timestamp to publish it with.
    pub(crate) timestamp_ms: u32,
    /// See [`Stamp::crc`]; of the whole payload for a file.
    pub(crate) crc: u32,
    /// Number in its track.
    pub(crate) track_number: u64,
}

impl Material {
    /// What goes before the first frame.
    pub(crate) fn headers(&self) -> Headers {
        match self {
            Self::Synthetic(templates) => Headers {
                metadata: Some(templates.metadata()),
                configurations: templates.configurations(),
            },
            Self::File(file) => Headers {
                metadata: file.metadata.as_ref().map(|body| body.to_vec()),
                configurations: file.configurations.clone(),
            },
        }
    }

    /// Whether frames carry stamps.
    pub(crate) fn is_stamped(&self) -> bool {
        matches!(self, Self::Synthetic(_))
    }

    /// Whether there are pictures.
    pub(crate) fn has_video(&self) -> bool {
        match self {
            Self::Synthetic(_) => true,
            Self::File(file) => file.frames.iter().any(|frame| frame.track == Track::Video),
        }
    }

    /// Nanoseconds between pictures, roughly: over this time publishers are spread.
    pub(crate) fn frame_interval_ns(&self) -> u64 {
        match self {
            Self::Synthetic(templates) => templates.video_due_ns(1),
            Self::File(file) => file.duration_ms * 1_000_000 / (file.frames.len() as u64).max(1),
        }
    }
}

impl Source {
    /// A stream from its first frame on.
    pub(crate) fn new(material: Material, stream: u32) -> Self {
        Self { material, stream, number: 0, track_numbers: [0; 2] }
    }

    /// When the next frame is due, nanoseconds from the start of the stream.
    pub(crate) fn next_due_ns(&self) -> u64 {
        match &self.material {
            Material::Synthetic(templates) => self.next_synthetic(templates).1,
            Material::File(file) => self.file_time_ms(file) * 1_000_000,
        }
    }

    /// Puts the next frame's payload into `payload`. `due_real_ns` goes into its stamp.
    pub(crate) fn take(&mut self, due_real_ns: u64, payload: &mut Vec<u8>) -> SourceFrame {
        payload.clear();
        let material = self.material.clone();
        let frame = match &material {
            Material::Synthetic(templates) => self.take_synthetic(templates, due_real_ns, payload),
            Material::File(file) => {
                let frame = &file.frames[self.number as usize % file.frames.len()];
                payload.extend_from_slice(&frame.payload);
                SourceFrame {
                    track: frame.track,
                    timestamp_ms: self.file_time_ms(file) as u32,
                    crc: frame.crc,
                    track_number: self.track_numbers[frame.track.index()],
                }
            }
        };
        self.number += 1;
        self.track_numbers[frame.track.index()] += 1;
        frame
    }

    fn next_synthetic(&self, templates: &Templates) -> (Track, u64) {
        let video = templates.video_due_ns(self.track_numbers[Track::Video.index()]);
        match templates.audio_due_ns(self.track_numbers[Track::Audio.index()]) {
            Some(audio) if audio < video => (Track::Audio, audio),
            _ => (Track::Video, video),
        }
    }

    fn take_synthetic(
        &self,
        templates: &Templates,
        due_real_ns: u64,
        payload: &mut Vec<u8>,
    ) -> SourceFrame {
        let (track, due_ns) = self.next_synthetic(templates);
        let track_number = self.track_numbers[track.index()];
        let template = match track {
            Track::Video => templates.video(track_number),
            Track::Audio => templates.audio(),
        };
        let stamp = Stamp {
            stream: self.stream,
            number: self.number as u32,
            track_number: track_number as u32,
            due_real_ns,
            timestamp_ms: (due_ns / 1_000_000) as u32,
            crc: template.crc,
        };
        payload.extend_from_slice(&template.payload);
        let at = track.stamp_offset();
        let coded = stamp.encode();
        payload[at..at + coded.len()].copy_from_slice(&coded);
        SourceFrame { track, timestamp_ms: stamp.timestamp_ms, crc: template.crc, track_number }
    }

    fn file_time_ms(&self, file: &FlvFile) -> u64 {
        let count = file.frames.len() as u64;
        let frame = &file.frames[(self.number % count) as usize];
        self.number / count * file.duration_ms + frame.timestamp_ms
    }
}
