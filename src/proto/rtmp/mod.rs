//! The wire layer of RTMP (Adobe "RTMP Specification 1.0", 2012), bytes in and bytes out.
//!
//! | module           | what it knows                                                     |
//! |------------------|-------------------------------------------------------------------|
//! | [`handshake`]    | both sides of the handshake, simple and with digests               |
//! | [`chunk_reader`] | chunks → [`Message`]                                               |
//! | [`chunk_writer`] | messages → chunks, same for every viewer or compressed for one peer |
//! | [`message`]      | type ids and protocol control messages                             |
//! | [`command`]      | AMF0 commands and data messages                                    |
//! | [`status`]       | NetStatus codes                                                    |
//! | [`client`]       | a client session, for relays, the load generator and tests         |

#![deny(clippy::unwrap_used, clippy::indexing_slicing)]


