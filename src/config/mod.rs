//! What an operator can set.
//!
//! [`DEFAULT_TOML`] is the reference: every key with its default, commented. The types of a
//! section stand in the file of its name and say the same; a test holds both against each other.
//! [`Settings`] is what the server reads: merged from file, environment and `--set`, validated,
//! with plain values. A wrong key or value is one line that names its place and reason.

use std::collections::BTreeMap;

use serde::Deserialize;

mod access_format;
mod app;
mod cluster;
mod de;
mod error;
mod hook_plan;
mod hooks;
mod http;
mod in_force;
mod load;
mod node;
mod push;
mod relay;
mod reload;
mod resolve;
mod rtmp;
mod server;
mod settings;
mod signalling;
#[cfg(test)]
mod tests;
mod tree;
mod validate;
mod value;

pub use access_format::{AccessField, AccessFormat, AccessPart};
pub use app::{
    AccessRule, App, Hold, Latency, Missing, Play, Publish, Relay, RuleAction, Takeover, Vhost,
    Viewer,
};
pub use cluster::{Cluster, ClusterSettings};
pub use error::ConfigError;
pub use hook_plan::{HookEvent, HookPlan, HookTarget, HookUrl};
pub use hooks::{Dialect, HookEntry, HookHttp, Hooks, NotifyMethod, OnFailure, Retry};
pub use http::{Api, FlvMissing, Http};
pub use load::Sources;
pub use push::{ClientSend, History, Push, PushSettings};
pub use relay::{Place, RelayRule};
pub use reload::{Reloaded, Source};
pub use rtmp::Rtmp;
pub use server::{
    Accept, ControlCore, Demo, Egress, Limits, Log, LogFormat, LogLevel, Server, Shards,
    UnknownApps,
};
pub use settings::{
    ApiSettings, AppSettings, HttpSettings, LimitSettings, LogSettings, RtmpSettings,
    ServerSettings, Settings, SignallingSettings,
};
pub use signalling::{Signalling, Turn};
pub use tree::Origin;
pub use value::{Address, Bitrate, ByteSize, Net, OptionalTime, Time};

/// The commented default configuration.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// The shape of a configuration file.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The process.
    pub server: Server,
    /// Caps.
    pub limits: Limits,
    /// RTMP.
    pub rtmp: Rtmp,
    /// HTTP-FLV and WebSockets.
    pub http: Http,
    /// The API.
    pub api: Api,
    /// Logs.
    pub log: Log,
    /// Virtual hosts by name.
    pub vhosts: BTreeMap<String, Vhost>,
    /// Apps by `NAME`, `NAME/INSTANCE` or `default`, without what they inherit.
    pub apps: BTreeMap<String, App>,
    /// Hooks.
    pub hooks: Hooks,
    /// The push channel.
    pub push: Push,
    /// WebRTC rooms.
    pub signalling: Signalling,
    /// Several nodes.
    pub cluster: Cluster,
    /// Demo pages.
    pub demo: Demo,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: Server::default(),
            limits: Limits::default(),
            rtmp: Rtmp::default(),
            http: Http::default(),
            api: Api::default(),
            log: Log::default(),
            vhosts: BTreeMap::new(),
            apps: BTreeMap::from([(resolve::DEFAULT_APP.to_owned(), App::default())]),
            hooks: Hooks::default(),
            push: Push::default(),
            signalling: Signalling::default(),
            cluster: Cluster::default(),
            demo: Demo::default(),
        }
    }
}
