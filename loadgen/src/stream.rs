//! A stream under test, shared by its publisher and its viewers, and the naming of its frames.

use bytes::Bytes;

use crate::check::Arrived;
use crate::clock;
use crate::media::{Kind, Track};
use crate::published::{Published, Record};
use crate::stamp::{Stamp, crc_around};

/// One stream.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Number among the streams of the run.
    pub(crate) index: u32,
    /// Application, instance included.
    pub(crate) app: String,
    /// Name.
    pub(crate) name: String,
    /// What was published; empty if another process publishes.
    pub(crate) published: Published,
    /// Who publishes it.
    pub(crate) origin: Origin,
    /// Whether it has pictures, which a viewer then begins with; `None` if another process knows.
    pub(crate) has_video: Option<bool>,
}

/// Who publishes a stream, and what its frames say about themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This process; frames carry stamps.
    Stamped,
    /// This process; frames of a file, known by the table.
    File,
    /// Another process.
    Elsewhere,
}

/// What came from a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Media<'a> {
    /// Its track.
    pub(crate) track: Track,
    /// Its timestamp.
    pub(crate) timestamp_ms: u32,
    /// The FLV body.
    pub(crate) payload: &'a Bytes,
    /// Where it ends on its connection, in bytes from the first, if that is still watched.
    pub(crate) end: Option<u64>,
}

/// Which frame it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Identity {
    /// One that was published, whole.
    Frame(Identified),
    /// One that was published, but not so.
    Damaged(Option<Arrived>),
    /// One that nobody published on this stream.
    Unknown,
    /// One of another process, without a stamp: nothing can be said.
    Unstamped,
}

/// A frame with its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identified {
    /// For the judge of order.
    pub(crate) arrived: Arrived,
    /// Number in the stream, both tracks counted.
    pub(crate) number: u64,
    /// Intended send time, monotonic.
    pub(crate) due_ns: u64,
}

impl Stream {
    /// Whether what was published is known here.
    pub(crate) fn is_known(&self) -> bool {
        self.origin != Origin::Elsewhere
    }

    /// Names a frame; `expected` is the number that its track waits for.
    pub(crate) fn identify(
        &self,
        media: &Media<'_>,
        kind: Kind,
        expected: Option<u64>,
    ) -> Identity {
        let is_key = kind == Kind::Key;
        if self.origin == Origin::File {
            return self.identify_by_table(media, is_key, expected);
        }
        let Some(stamp) = Stamp::find(media.track, media.payload) else {
            return match self.origin {
                Origin::Stamped => Identity::Damaged(None),
                _ => Identity::Unstamped,
            };
        };
        if self.is_known() && stamp.stream != self.index {
            return Identity::Unknown;
        }
        let arrived = Arrived {
            track: media.track,
            is_key,
            track_number: u64::from(stamp.track_number),
            shift_ms: media.timestamp_ms.wrapping_sub(stamp.timestamp_ms),
        };
        if crc_around(media.track, media.payload) != stamp.crc {
            return Identity::Damaged(Some(arrived));
        }
        Identity::Frame(Identified {
            arrived,
            number: u64::from(stamp.number),
            due_ns: clock::monotonic_ns(stamp.due_real_ns),
        })
    }

    fn identify_by_table(
        &self,
        media: &Media<'_>,
        is_key: bool,
        expected: Option<u64>,
    ) -> Identity {
        let crc = crc32fast::hash(media.payload);
        let arrived = |record: &Record| Arrived {
            track: media.track,
            is_key,
            track_number: record.track_number,
            shift_ms: media.timestamp_ms.wrapping_sub(record.timestamp_ms),
        };
        // The expected frame first: a server may have its own clock, and a file the same payload
        // many times.
        let expected = expected.and_then(|number| self.published.record(media.track, number));
        let found = expected
            .filter(|record| record.crc == crc)
            .or_else(|| self.published.by_timestamp(media.track, media.timestamp_ms, crc));
        match found {
            Some(record) if record.crc == crc => Identity::Frame(Identified {
                arrived: arrived(&record),
                number: record.number,
                due_ns: record.due_ns,
            }),
            Some(record) => Identity::Damaged(Some(arrived(&record))),
            None => Identity::Unknown,
        }
    }
}
