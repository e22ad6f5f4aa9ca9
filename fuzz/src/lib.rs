//! What every parser must do with any bytes: one function per target, which panics when it finds a
//! fault. libFuzzer calls them with inputs that it makes up (`fuzz_targets/`); `cargo test` calls
//! them with the committed corpus and the inputs that once failed (a test that replays them is to come).
//!
//! Inputs are plain bytes as they stand on the wire. Where a target needs choices (where to cut the
//! bytes, when the verdict comes), [`dice`] takes them from the input itself.

pub mod amf0;
pub mod chunks;
pub mod codec;
pub mod command;
mod dice;
pub mod flv;
pub mod handshake;
pub mod http_request;
pub mod http_session;
pub mod names;
pub mod rooms;
pub mod rtmp_client;
pub mod rtmp_server;

/// A target's function.
pub type Run = fn(&[u8]);

/// All targets, by the names of their corpora.
pub const TARGETS: &[(&str, Run)] = &[
    ("amf0", amf0::run),
    ("chunks", chunks::run),
    ("codec", codec::run),
    ("command", command::run),
    ("flv", flv::run),
    ("handshake", handshake::run),
    ("http_request", http_request::run),
    ("http_session", http_session::run),
    ("names", names::run),
    ("rooms", rooms::run),
    ("rtmp_client", rtmp_client::run),
    ("rtmp_server", rtmp_server::run),
];
