//! The wire layer of RTMP (Adobe "RTMP Specification 1.0", 2012), bytes in and bytes out.
//!
//! | module           | what it knows                                                       |
//! |------------------|---------------------------------------------------------------------|
//! | [`handshake`]    | both sides of the handshake, simple and signed                      |
//! | [`chunk_reader`] | chunks → [`Message`]                                                |
//! | [`chunk_writer`] | messages → chunks: the same for every viewer, or short for one peer |
//! | [`message`]      | type ids and protocol control messages                              |
//! | [`aggregate`]    | several messages in one                                             |
//! | [`command`]      | commands and data messages, AMF0 or in AMF3 clothing                |
//! | [`enhanced`]     | what both sides say of Enhanced RTMP in connect                     |
//! | [`status`]       | NetStatus codes                                                     |
//! | [`address`]      | `rtmp://` addresses of other servers                                |
//! | [`login`]        | name and password of a publisher, asked for in refusals             |
//! | [`node_path`]    | which nodes a relayed stream has passed                             |
//! | [`cluster_link`] | how the nodes of a cluster know each other                          |
//! | [`client`]       | a client session, for relays, the load generator and tests          |

#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

pub mod address;
pub mod aggregate;
pub mod chunk_reader;
pub mod chunk_writer;
pub mod client;
pub mod cluster_link;
pub mod command;
pub mod enhanced;
pub mod handshake;
pub mod login;
pub mod message;
pub mod node_path;
pub mod status;

pub use chunk_reader::Message;
