//! `[cluster]`: several nodes over Redis.

use std::time::Duration;

use serde::Deserialize;

use super::value::Time;
use crate::proto::rtmp::address::{AddressError, RtmpAddress};

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

/// `[cluster]` of a node that is in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// URL of the Redis.
    pub redis: String,
    /// `rtmp://HOST[:PORT]` that other nodes fetch streams from.
    pub advertise: String,
    /// How long a node owns a stream without renewing.
    pub lease: Duration,
}

impl ClusterSettings {
    /// What a configuration says; `None` when the node is in no cluster.
    pub(super) fn of(table: &Cluster) -> Option<Self> {
        (!table.redis.is_empty()).then(|| Self {
            redis: table.redis.clone(),
            advertise: table.advertise.trim_end_matches('/').to_owned(),
            lease: table.lease.0,
        })
    }
}

/// What is wrong with the address that other nodes are to fetch streams from.
pub(super) fn wrong_address(advertise: &str) -> Option<String> {
    if advertise.is_empty() {
        return Some(
            "a node of a cluster says where the others fetch its streams: rtmp://HOST:PORT, an \
             address of this node that they reach; it cannot be guessed"
                .to_owned(),
        );
    }
    let server = advertise.trim_end_matches('/');
    let parsed = RtmpAddress::parse(&format!("{server}/app"));
    match parsed {
        Ok(address) if address.is_tls => Some("nodes speak rtmp:// with each other".to_owned()),
        Ok(address) if address.app == "app" && address.login.is_none() => None,
        Ok(_) => Some("the address is rtmp://HOST:PORT, without a path or a login".to_owned()),
        Err(AddressError::Scheme) => Some("the address begins with rtmp://".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_one_that_other_nodes_can_dial() {
        for right in ["rtmp://10.0.0.1", "rtmp://node1:1936", "rtmp://[fd00::1]:1935/"] {
            assert_eq!(wrong_address(right), None, "{right}");
        }
        let table = [
            ("", "cannot be guessed"),
            ("10.0.0.1:1935", "begins with rtmp://"),
            ("rtmps://node", "nodes speak rtmp://"),
            ("rtmp://node/live", "without a path"),
            ("rtmp://user:word@node", "without a path or a login"),
            ("rtmp://node:0", "port"),
            ("rtmp://a b", "space"),
        ];
        for (wrong, why) in table {
            assert!(wrong_address(wrong).is_some_and(|it| it.contains(why)), "{wrong}");
        }
    }
}
