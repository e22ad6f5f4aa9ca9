//! What every parser must do with any bytes: one function per target, which panics when it finds a
//! fault. libFuzzer calls them with inputs that it makes up (`fuzz_targets/`); `cargo test` calls
//! them with the committed corpus and the inputs that once failed (`tests/fuzz_corpus.rs`).
//!
//! Inputs are plain bytes as they stand on the wire. Where a target needs choices (where to cut the
//! bytes, when the verdict comes), [`dice`] takes them from the input itself.

pub mod addresses;
pub mod aggregate;
pub mod amf0;
pub mod amf3;
pub mod chunks;
pub mod codec;
pub mod command;
mod dice;
pub mod flv;
pub mod handshake;
pub mod http_request;
pub mod http_response;
pub mod http_session;
pub mod names;
pub mod node_path;
pub mod proxy_protocol;
pub mod push_message;
pub mod push_session;
pub mod room_texts;
pub mod rooms;
pub mod rtmp_client;
pub mod rtmp_server;
pub mod websocket;

/// A target's function.
pub type Run = fn(&[u8]);

/// All targets, by the names of their corpora.
pub const TARGETS: &[(&str, Run)] = &[
    ("addresses", addresses::run),
    ("aggregate", aggregate::run),
    ("amf0", amf0::run),
    ("amf3", amf3::run),
    ("chunks", chunks::run),
    ("codec", codec::run),
    ("command", command::run),
    ("flv", flv::run),
    ("handshake", handshake::run),
    ("http_request", http_request::run),
    ("http_response", http_response::run),
    ("http_session", http_session::run),
    ("names", names::run),
    ("node_path", node_path::run),
    ("proxy_protocol", proxy_protocol::run),
    ("push_message", push_message::run),
    ("push_session", push_session::run),
    ("room_texts", room_texts::run),
    ("rooms", rooms::run),
    ("rtmp_client", rtmp_client::run),
    ("rtmp_server", rtmp_server::run),
    ("websocket", websocket::run),
];
