//! The wire layer of RTMP (Adobe "RTMP Specification 1.0", 2012), bytes in and bytes out.

#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

pub mod chunk_reader;
pub mod chunk_writer;
pub mod handshake;
pub mod message;

pub use chunk_reader::Message;
