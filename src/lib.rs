//! shardcast: a live media server for Linux, one shard per core on io_uring.
//!
//! 1. The acceptor thread hands each connection to one media shard, where it stays; only a viewer of
//!    a small stream goes to the shard of that stream when it asks to play.
//! 2. A media shard works in paced *turns*: read every ready socket, append to stream logs,
//!    flush what is due, hand at most one message to each other shard.
//! 3. A publisher's bytes become frames once ([`proto`]), are given one clock
//!    ([`media`]'s timeline) and cross cores once per shard that has viewers.
//! 4. A shard with viewers of a stream keeps one append-only log of it per wire format; a viewer
//!    is a cursor into that log.
//! 5. The control shard has one writer for names: it judges every connect, publish and play.
//!
//! | room        | what lives there                                                        |
//! |-------------|-------------------------------------------------------------------------|
//! | [`cli`]     | the command line                                                         |
//! | [`config`]  | what an operator can set: default file, types, validation                |
//! | [`proto`]   | wire formats without I/O and without a clock                             |
//! | [`media`]   | frame, timeline, stream log, cursor, drop policy: no I/O                 |
//! | [`rt`]      | the only room that names glommio or io-uring                             |
//! | [`shard`]   | one core: accept hand-over, connection table, streams, flush loop        |
//! | [`session`] | one connection each: RTMP, HTTP, WebSocket; drives `proto`               |
//! | [`control`] | the control shard: registry, hooks, API                                  |
//! | [`server`]  | puts the parts together: probe, listeners, threads                       |
//! | [`signals`] | what an operator says by signal: stop, reload                            |
//! | [`logging`] | log lines, written by a thread of their own                              |
//! | [`limits`]  | every cap that is not an operator's key                                  |
//!
//! Dependencies point one way: `proto`, `media` ← `rt` ← `session` ← `shard`, `control` ← `main`.

pub mod cli;
pub mod config;
pub mod control;
pub mod limits;
pub mod logging;
pub mod media;
pub mod proto;
pub mod rt;
pub mod server;
pub mod session;
pub mod shard;
pub mod signals;
