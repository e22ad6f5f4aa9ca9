//! `[rtmp]`

use serde::Deserialize;

use super::value::{Address, ByteSize, Net, Time};

/// `[rtmp]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Rtmp {
    /// Addresses; none switches RTMP off.
    pub listen: Vec<Address>,
    /// Chunk size of what the server sends, in bytes.
    pub chunk_size: ByteSize,
    /// Window acknowledgement size and peer bandwidth, in bytes.
    pub ack_window: ByteSize,
    /// Longest message that a client may send.
    pub max_message: ByteSize,
    /// Silence after which a client is pinged; 0 is never.
    pub ping: Time,
    /// Time for the answer to a ping.
    pub ping_timeout: Time,
    /// Networks of proxies that begin connections with the PROXY protocol.
    pub proxy_protocol_from: Vec<Net>,
}

impl Default for Rtmp {
    fn default() -> Self {
        Self {
            listen: vec![Address(([0u16; 8], 1935).into())],
            chunk_size: ByteSize(60_000),
            ack_window: ByteSize(2_500_000),
            max_message: ByteSize(16 << 20),
            ping: Time::from_secs(60),
            ping_timeout: Time::from_secs(30),
            proxy_protocol_from: Vec::new(),
        }
    }
}
