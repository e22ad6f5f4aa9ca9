//! Wire formats as pure functions and state machines: no I/O, no clock, no runtime.
//! Network input never panics here; every parser has a cap on what it keeps.

pub mod amf0;
pub mod amf3;
pub mod codec;
pub mod decoder_config;
pub mod flv;
pub mod http;
pub mod http_response;
pub mod name;
pub mod palava;
pub mod proxy_protocol;
pub mod push_message;
pub mod push_name;
pub mod push_session;
pub mod rtmp;
pub mod websocket;
