//! Fixed-size blocks of memory that stream logs are made of, and the shard's pool of them.

/// Bytes of one segment.
pub const SEGMENT_BYTES: usize = 128 * 1024;
/// Free segments a pool keeps; more are given back to the system.
const FREE_MAX: usize = 32;

/// A block of up to [`SEGMENT_BYTES`] bytes, filled from the front and never moved.
#[derive(Debug)]
pub struct Segment {
    bytes: Vec<u8>,
}

impl Segment {
    /// The bytes written so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends as much of `bytes` as fits and returns how much that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(SEGMENT_BYTES - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.bytes.len() == SEGMENT_BYTES
    }
}

/// Segments that are in use by no log.
#[derive(Debug, Default)]
pub struct SegmentPool {
    free: Vec<Segment>,
}

impl SegmentPool {
    /// An empty segment, a used one when there is one.
    pub fn take(&mut self) -> Segment {
        self.free.pop().unwrap_or_else(|| Segment { bytes: Vec::with_capacity(SEGMENT_BYTES) })
    }

    /// Bytes of the segments that wait for use.
    pub fn free_bytes(&self) -> u64 {
        (self.free.len() * SEGMENT_BYTES) as u64
    }

    /// Takes a segment back.
    pub fn give_back(&mut self, mut segment: Segment) {
        if self.free.len() < FREE_MAX {
            segment.bytes.clear();
            self.free.push(segment);
        }
    }
}
