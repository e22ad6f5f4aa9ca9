//! `[server]`, `[limits]`, `[log]` and `[demo]`: the process itself.

use std::str::FromStr;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::access_format::AccessFormat;
use super::value::{Time, deserialize_from_text};

/// `[server]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Media shards.
    pub shards: Shards,
    /// Where the control shard runs.
    pub control_core: ControlCore,
    /// How long connections may finish after a signal to stop.
    pub drain: Time,
    /// Which shard gets a new connection.
    pub accept: Accept,
    /// Who asks to play a stream with fewer viewers than this is brought to its publisher's shard.
    pub gather_viewers: usize,
    /// How bytes leave.
    pub egress: Egress,
    /// What an app without a table gets.
    pub unknown_apps: UnknownApps,
}

/// `server.shards`: `"auto"` or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// One per usable core, but for a core of the control shard's own.
    Auto,
    /// This many, at least 1.
    Count(usize),
}

/// `server.control_core`: `"float"` or a CPU number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlCore {
    /// Pinned to this CPU; media shards go elsewhere while there are other cores.
    Core(usize),
    /// Pinned to none.
    Float,
}

/// `server.accept`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Accept {
    /// The shard with the least load.
    LeastLoaded,
    /// One after the other, for tests.
    RoundRobin,
}

/// `server.egress`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Egress {
    /// The ring, unless a measurement at start finds plain sends clearly cheaper.
    Auto,
    /// Batched sends on the shard's private ring.
    Ring,
    /// One `send(2)` per viewer and pass.
    Send,
}

/// `server.unknown_apps`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum UnknownApps {
    /// Answered with Connect.InvalidApp or 404.
    Refuse,
    /// Served by `[apps.default]`.
    Serve,
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections of the process.
    pub connections: usize,
    /// Connections of one address; 0 is no limit.
    pub connections_per_address: usize,
    /// Streams with a publisher or a viewer.
    pub streams: usize,
    /// Logs (wire formats and track choices) of one stream on one shard.
    pub logs_per_stream: usize,
    /// Time for the RTMP handshake or an HTTP request head.
    pub handshake_timeout: Time,
    /// How long a connection that neither publishes nor plays may be silent; 0 is for ever.
    pub idle_connection: Time,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Shape of a line.
    pub format: LogFormat,
    /// Least level, or directives per module.
    pub level: LogLevel,
    /// File to append to; empty is stderr.
    pub file: String,
    /// File with one line per session; empty is none.
    pub access: String,
    /// What such a line holds.
    pub access_format: AccessFormat,
}

/// `log.format`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

/// `log.level`: `error`, `warn`, `info`, `debug`, `trace`, `off`, or directives of
/// `tracing_subscriber::EnvFilter` such as `info,shardcast::control=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel(pub String);

/// `[demo]`
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Demo {
    /// Whether the demo pages exist.
    pub enabled: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            shards: Shards::Auto,
            control_core: ControlCore::Float,
            drain: Time::from_secs(10),
            accept: Accept::LeastLoaded,
            gather_viewers: 16,
            egress: Egress::Auto,
            unknown_apps: UnknownApps::Serve,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            connections_per_address: 0,
            streams: 10_000,
            logs_per_stream: 6,
            handshake_timeout: Time::from_secs(5),
            idle_connection: Time::from_secs(120),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: LogLevel("info".to_owned()),
            file: String::new(),
            access: String::new(),
            access_format: AccessFormat::combined(),
        }
    }
}

impl FromStr for Shards {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match text.parse() {
            Ok(count) if (1..=1024).contains(&count) => Ok(Self::Count(count)),
            _ => Err("the number of shards is \"auto\" or 1 to 1024".to_owned()),
        }
    }
}

impl FromStr for ControlCore {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "float" {
            return Ok(Self::Float);
        }
        text.parse()
            .map(Self::Core)
            .map_err(|_| "the control core is \"float\" or the number of a CPU".to_owned())
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let level = ["error", "warn", "info", "debug", "trace", "off"].contains(&text);
        // A single word that is no level would be taken for the name of a module.
        let directives = text.contains(['=', ',']) && EnvFilter::try_new(text).is_ok();
        if level || directives {
            return Ok(Self(text.to_owned()));
        }
        Err("a level is error, warn, info, debug, trace or off, or directives such as \
             info,shardcast::control=debug"
            .to_owned())
    }
}

deserialize_from_text!(deserialize_any: Shards, ControlCore, LogLevel);
