//! `[cluster]`: several nodes over Redis.

use serde::Deserialize;

use super::value::Time;

/// `[cluster]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// `redis://…`; empty is no cluster.
    pub redis: String,
    /// Name of this node; empty is the host's name.
    pub node: String,
    /// `rtmp://…` that other nodes pull from.
    pub advertise: String,
    /// How long a node owns a stream without renewing.
    pub lease: Time,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            redis: String::new(),
            node: String::new(),
            advertise: String::new(),
            lease: Time::from_secs(6),
        }
    }
}
