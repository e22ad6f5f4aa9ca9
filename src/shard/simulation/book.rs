//! What was published, message by message, and what a viewer may therefore be sent.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::media::Moment;
use crate::proto::amf0::{self, Value};
use crate::proto::rtmp::message;

/// A publication's number.
pub(super) type Number = usize;

/// Sorts of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Metadata,
    VideoConfig,
    AudioConfig,
    Keyframe,
    Inter,
    Audio,
}

impl Kind {
    pub(super) fn type_id(self) -> u8 {
        match self {
            Self::Metadata => message::DATA_AMF0,
            Self::VideoConfig | Self::Keyframe | Self::Inter => message::VIDEO,
            Self::AudioConfig | Self::Audio => message::AUDIO,
        }
    }

    fn is_header(self) -> bool {
        matches!(self, Self::Metadata | Self::VideoConfig | Self::AudioConfig)
    }

    /// The headers that a frame needs.
    fn needs(self) -> &'static [Self] {
        match self {
            Self::Keyframe | Self::Inter => &[Self::Metadata, Self::VideoConfig],
            _ => &[Self::Metadata, Self::AudioConfig],
        }
    }

    fn head(self) -> &'static [u8] {
        match self {
            Self::Metadata => &[],
            Self::VideoConfig => &[0x17, 0, 0, 0, 0],
            Self::AudioConfig => &[0xAF, 0],
            Self::Keyframe => &[0x17, 1, 0, 0, 0],
            Self::Inter => &[0x27, 1, 0, 0, 0],
            Self::Audio => &[0xAF, 1],
        }
    }
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    timestamp_ms: u32,
    len: usize,
    at: Moment,
    /// Of the link's bytes, where it ends.
    ends_at: u64,
}

/// How a publication ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It goes on.
    None,
    /// The publisher was lost, with so many bytes sent.
    Lost(u64),
    /// It was said goodbye to.
    Goodbye,
    /// The server closed the publisher.
    Closed,
}

#[derive(Debug)]
struct Publication {
    name: usize,
    has_video: bool,
    /// Its timestamps have no faults, so that viewers get them with one offset.
    has_steady_clock: bool,
    entries: Vec<Entry>,
    end: End,
    offset_ms: Option<u32>,
}

/// All publications of a run.
#[derive(Debug, Default)]
pub(super) struct Book {
    publications: Vec<Publication>,
}

impl Book {
    pub(super) fn begin(&mut self, name: usize, has_video: bool, steady: bool) -> Number {
        self.publications.push(Publication {
            name,
            has_video,
            has_steady_clock: steady,
            entries: Vec::new(),
            end: End::None,
            offset_ms: None,
        });
        self.publications.len() - 1
    }

    /// Enters the next message of a publication and gives its payload, as it is published.
    pub(super) fn write(
        &mut self,
        number: Number,
        kind: Kind,
        timestamp_ms: u32,
        len: usize,
        at: Moment,
    ) -> Vec<u8> {
        let entries = &mut self.publications[number].entries;
        entries.push(Entry { kind, timestamp_ms, len, at, ends_at: u64::MAX });
        let payload = payload(kind, number, entries.len() - 1, len);
        if kind != Kind::Metadata {
            return payload;
        }
        let mut wrapped = Vec::new();
        amf0::write_string(&mut wrapped, "@setDataFrame");
        wrapped.extend(payload);
        wrapped
    }

    /// The newest message lies in the link's bytes up to here.
    pub(super) fn newest_ends_at(&mut self, number: Number, bytes: u64) {
        if let Some(entry) = self.publications[number].entries.last_mut() {
            entry.ends_at = bytes;
        }
    }

    pub(super) fn end(&mut self, number: Number, end: End) {
        self.publications[number].end = end;
    }

    /// Bytes of a name that were published in the last `time`.
    pub(super) fn recent_bytes(&self, name: usize, now: Moment, time: Duration) -> u64 {
        let of_name = self.publications.iter().filter(|it| it.name == name);
        let recent = of_name
            .flat_map(|it| it.entries.iter().rev().take_while(|entry| now.since(entry.at) <= time));
        recent.map(|entry| entry.len as u64 + 40).sum()
    }

    /// The last frame of a publication that a viewer who keeps up must have: of those older than
    /// `before`, when it goes on; all, when it said goodbye; what was sent, when it was lost.
    pub(super) fn last_due(&self, number: Number, before: Moment) -> Option<usize> {
        let publication = &self.publications[number];
        let is_due = |entry: &Entry| match publication.end {
            End::None => entry.at <= before,
            End::Lost(sent) => entry.ends_at <= sent,
            End::Goodbye => true,
            End::Closed => false,
        };
        let frames = publication.entries.iter().enumerate().filter(|(_, it)| !it.kind.is_header());
        frames.filter(|(_, it)| is_due(it)).map(|(index, _)| index).next_back()
    }

    /// The number of messages so far.
    pub(super) fn len(&self) -> usize {
        self.publications.iter().map(|it| it.entries.len()).sum()
    }
}

/// The payload as viewers get it: every byte follows from the place.
fn payload(kind: Kind, number: Number, index: usize, len: usize) -> Vec<u8> {
    if kind == Kind::Metadata {
        let mut out = Vec::new();
        amf0::write_string(&mut out, "onMetaData");
        Value::ecma_array([
            ("publication", Value::from(number as f64)),
            ("index", Value::from(index as f64)),
        ])
        .encode(&mut out);
        return out;
    }
    let mut out = kind.head().to_vec();
    out.extend((number as u32).to_be_bytes());
    out.extend((index as u32).to_be_bytes());
    let mut filling = (number as u8).wrapping_mul(31).wrapping_add(index as u8);
    while out.len() < len {
        filling = filling.wrapping_mul(5).wrapping_add(3);
        out.push(filling);
    }
    out
}

/// Which message a viewer was sent.
fn place(type_id: u8, payload: &[u8]) -> (Number, usize) {
    if type_id == message::DATA_AMF0 {
        let values = amf0::decode_all(payload).expect("metadata is AMF0");
        let number = |key| values[1].property(key).and_then(Value::as_f64).expect("a number");
        return (number("publication") as usize, number("index") as usize);
    }
    let head = if type_id == message::VIDEO { 5 } else { 2 };
    let number = |from: usize| {
        u32::from_be_bytes(payload[from..from + 4].try_into().expect("four bytes")) as usize
    };
    (number(head), number(head + 4))
}

/// What one viewer has been sent of a name.
#[derive(Debug)]
pub(super) struct Sight {
    name: usize,
    last: Option<(Number, usize)>,
    headers: BTreeMap<Kind, (Number, usize)>,
    left: HashSet<Number>,
    last_ms: [Option<u32>; 2],
    seen: Seen,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// How often frames of a publication were missing.
    pub(super) gaps: u64,
    /// Frames.
    pub(super) frames: u64,
    /// Which ones, in which order, at which times: a hash.
    pub(super) story: u64,
}

impl Seen {
    pub(super) fn add(&mut self, other: Self) {
        self.gaps += other.gaps;
        self.frames += other.frames;
        self.story = self.story.wrapping_add(other.story);
    }
}

impl Sight {
    pub(super) fn new(name: usize) -> Self {
        Self {
            name,
            last: None,
            headers: BTreeMap::new(),
            left: HashSet::new(),
            last_ms: [None; 2],
            seen: Seen::default(),
        }
    }

    /// What came of it so far.
    pub(super) fn seen(&self) -> Seen {
        self.seen
    }

    /// The stream has ended: what follows under its name has a clock of its own.
    pub(super) fn end(&mut self) {
        self.last_ms = [None; 2];
    }

    /// The newest frame.
    pub(super) fn last(&self) -> Option<(Number, usize)> {
        self.last
    }

    /// Holds a message against the book.
    pub(super) fn see(&mut self, book: &mut Book, type_id: u8, timestamp_ms: u32, bytes: &[u8]) {
        let (number, index) = place(type_id, bytes);
        let publication = &mut book.publications[number];
        assert_eq!(publication.name, self.name, "a message of another stream");
        let entry = &publication.entries[index];
        let kind = entry.kind;
        assert_eq!(kind.type_id(), type_id);
        assert!(payload(kind, number, index, entry.len) == bytes, "a damaged {kind:?}");
        if kind.is_header() {
            self.headers.insert(kind, (number, index));
            return;
        }
        self.seen.frames += 1;
        for part in [number as u64, index as u64, u64::from(timestamp_ms)] {
            self.seen.story = (self.seen.story ^ part).wrapping_mul(0x100_0000_01B3);
        }
        self.check_order(publication, number, index);
        self.check_headers(publication, number, index);
        self.check_clock(publication, index, timestamp_ms);
        self.last = Some((number, index));
    }

    /// One frame follows the other; what is missing ends with one that decoding can begin with.
    fn check_order(&mut self, publication: &Publication, number: Number, index: usize) {
        let kind = publication.entries[index].kind;
        let is_beginning = kind == Kind::Keyframe || !publication.has_video;
        match self.last {
            Some((same, last)) if same == number => {
                assert!(index > last, "frame {index} of {number} after frame {last}");
                let between = &publication.entries[last + 1..index];
                if between.iter().any(|entry| !entry.kind.is_header()) {
                    assert!(is_beginning, "{kind:?} {index} of {number} follows frame {last}");
                    self.seen.gaps += 1;
                }
            }
            before => {
                assert!(is_beginning, "publication {number} begins with {kind:?} {index}");
                if let Some((left, _)) = before {
                    self.left.insert(left);
                }
                assert!(!self.left.contains(&number), "publication {number} is shown again");
            }
        }
    }

    /// The headers that were in force when the frame was published are the last that were sent.
    fn check_headers(&self, publication: &Publication, number: Number, index: usize) {
        let frame = publication.entries[index].kind;
        for wanted in frame.needs() {
            let before = &publication.entries[..index];
            let in_force = before.iter().rposition(|entry| entry.kind == *wanted);
            if let Some(in_force) = in_force {
                let sent = self.headers.get(wanted);
                assert_eq!(
                    sent,
                    Some(&(number, in_force)),
                    "{wanted:?} before {frame:?} {index} of publication {number}"
                );
            }
        }
    }

    /// Time never goes back, and a source without faults keeps its distances.
    fn check_clock(&mut self, publication: &mut Publication, index: usize, timestamp_ms: u32) {
        let entry = &publication.entries[index];
        let last = &mut self.last_ms[usize::from(entry.kind == Kind::Audio)];
        if let Some(last_ms) = *last {
            let step = timestamp_ms.wrapping_sub(last_ms) as i32;
            assert!(step >= 0, "time goes back from {last_ms} to {timestamp_ms}");
        }
        *last = Some(timestamp_ms);
        if publication.has_steady_clock {
            let offset_ms = timestamp_ms.wrapping_sub(entry.timestamp_ms);
            let first = *publication.offset_ms.get_or_insert(offset_ms);
            assert_eq!(offset_ms, first, "frame {index} was moved in time");
        }
    }
}
