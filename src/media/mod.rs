//! Media without I/O and without a clock: frames, the timeline that repairs their timestamps,
//! stream logs in wire form, and the cursors of their viewers. Time comes in as an argument.

mod moment;

pub use moment::Moment;
