//! What the behaviour tests share: a server process, real clients, and exact comparison of media.
//!
//! - Every process started here is killed by id, with its group, when its guard is dropped.
//! - Every wait has a deadline and a condition; nothing sleeps to let something else happen.
//! - Every failure carries the standard error of the processes that took part.
#![allow(dead_code, reason = "each test file uses its own part of this module")]

pub(crate) mod api;
pub(crate) mod audience;
pub(crate) mod black_hole;
pub(crate) mod browser;
pub(crate) mod certificate;
pub(crate) mod downloads;
pub(crate) mod ffmpeg;
pub(crate) mod gate;
pub(crate) mod hook_server;
pub(crate) mod hostile;
pub(crate) mod http;
pub(crate) mod latency;
pub(crate) mod link;
pub(crate) mod login_server;
pub(crate) mod media;
pub(crate) mod name_server;
pub(crate) mod namespace;
pub(crate) mod nginx;
pub(crate) mod node_media_server;
pub(crate) mod nodes;
pub(crate) mod noise;
pub(crate) mod packets;
pub(crate) mod palava;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod publisher;
pub(crate) mod push;
pub(crate) mod redis;
pub(crate) mod relays;
pub(crate) mod rtmp_client;
pub(crate) mod scratch;
pub(crate) mod server;
pub(crate) mod stamp;
pub(crate) mod tap;
pub(crate) mod viewer;
pub(crate) mod wait;
pub(crate) mod watcher;
pub(crate) mod websocket;
