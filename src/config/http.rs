//! `[http]` and `[api]`

use serde::Deserialize;

use super::value::{Address, Net, Time};

/// `[http]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Addresses; none switches HTTP off.
    pub listen: Vec<Address>,
    /// Networks of proxies whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<Net>,
    /// Origins that browsers may play from; `*` is all.
    pub cors: Vec<String>,
    /// Origins whose pages may open WebSockets; none is any.
    pub origins: Vec<String>,
    /// What a request for a stream that nobody publishes gets.
    pub flv_missing: FlvMissing,
    /// Silence after which the client of a WebSocket is pinged; 0 is never.
    pub ping: Time,
    /// Time for the answer to a ping.
    pub ping_timeout: Time,
}

/// `http.flv_missing`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum FlvMissing {
    /// Status 404.
    #[serde(rename = "404")]
    NotFound,
    /// The head of the answer, and the media when it comes.
    Wait,
}

/// `[api]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Addresses; none switches the API off.
    pub listen: Vec<Address>,
    /// Bearer token; empty is none, on loopback only.
    pub token: String,
    /// Addresses that serve the metrics alone, without a token; none by default.
    pub metrics_listen: Vec<Address>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: vec![Address(([0u16; 8], 8080).into())],
            trusted_proxies: Vec::new(),
            cors: vec!["*".to_owned()],
            origins: Vec::new(),
            flv_missing: FlvMissing::NotFound,
            ping: Time::from_secs(30),
            ping_timeout: Time::from_secs(30),
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: vec![Address(([127, 0, 0, 1], 1985).into())],
            token: String::new(),
            metrics_listen: Vec::new(),
        }
    }
}
