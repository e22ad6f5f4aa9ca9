//! Several nodes as one server: a stream is published on any of them and viewed on all.
//!
//! ```text
//!  registry --unleased--> leases --rounds--> store ==== worker ---- Redis ---- other nodes
//!     ^  \--unlooked--> lookups --/            ^          listener --/
//!     |                                        |
//!     +---- granted, fenced, contested --------+---- relays: fetch a stream from its owner
//! ```
//!
//! Redis knows of each stream which node owns it, under which number (epoch), and for how long (lease). A
//! publisher is let in when the node has the lease. A viewer of a stream that nobody publishes here makes
//! the node fetch it from the owner, once for all viewers. Media never passes Redis.
//!
//! What must hold: see [`leases`]; besides, a node gives other nodes only what is published on it and what it
//! owns, never a copy.
//!
//! | file      | subject                                                              |
//! |-----------|----------------------------------------------------------------------|
//! | `service` | the node's part in the cluster: what comes of what                   |
//! | `leases`  | which streams this node owns; no I/O, no clock                       |
//! | `lookups` | which streams are looked for elsewhere; no I/O, no clock             |
//! | `pulls`   | which nodes fetch from this one                                      |
//! | `pushes`  | messages of the push channel, each once; no I/O, no clock            |
//! | `message` | what nodes say to each other, and the names of keys and channels     |
//! | `store`   | the control shard's end of the bridge to Redis                       |
//! | `worker`  | the threads between                                                  |
//! | `scripts` | what happens in Redis, each step as a whole                          |
//! | `view`    | the account of it all for the API                                    |

mod leases;
mod lookups;
mod message;
mod pulls;
mod pushes;
mod scripts;
mod service;
mod store;
mod view;
mod worker;

pub(super) use service::{Cluster, Parts};
