//! Media without I/O and without a clock: frames, the timeline that repairs their timestamps,
//! stream logs in wire form, and the cursors of their viewers. Time comes in as an argument.

mod cursor;
mod frame;
mod gop;
mod log;
mod moment;
mod preamble;
mod segment;
mod stream_id;
mod timeline;
mod wire;

pub use cursor::{Cursor, Skipped};
pub use frame::{Frame, FrameKind, Track};
pub use gop::{Gop, Joinable};
pub use log::{JoinPoint, Log};
pub use moment::Moment;
pub use preamble::{Applied, Header, Preamble};
pub use segment::{SEGMENT_BYTES, SegmentPool};
pub use stream_id::{Epoch, StreamId};
pub use timeline::{Resume, Timeline};
pub use wire::{Tracks, Wire};
