//! `[hooks]`, `[vhosts."NAME".hooks]` and `[apps.NAME.hooks]`

use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::value::{OptionalTime, Time};

/// `[hooks]`
#[derive(Clone, Debug, serde::Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Hooks {
    /// Whether hooks are called at all.
    pub enabled: bool,
    /// Dialect of entries that name none.
    pub dialect: Dialect,
    /// Shape of the srs dialect: 7, or 1 for the requests of 2014.
    pub srs_version: u8,
    /// Time for the whole call; empty is 10 s (nginx) or 30 s (srs).
    pub timeout: OptionalTime,
    /// What happens to a client when a gating hook fails.
    pub on_failure: OnFailure,
    /// Whether refused clients are closed without a message.
    pub close_silently: bool,
    /// Whether event id, session id and attempt are sent as headers.
    pub event_headers: bool,
    /// Whether publish and play repeat the connect arguments.
    pub repeat_connect_args: bool,
    /// Key of the signature header; empty is no header.
    pub secret: String,
    /// Method of the nginx dialect.
    pub notify_method: NotifyMethod,
    /// Time between updates; 0 is none.
    pub notify_update_timeout: Time,
    /// Whether only 2xx keeps a session at an update.
    pub notify_update_strict: bool,
    /// Whether 3xx renames or relays.
    pub notify_redirect: bool,
    /// Whether a redirect to rtmp:// renames the local stream.
    pub notify_relay_redirect: bool,
    /// Which end events are sent again.
    pub retry: Retry,
    /// PEM file of the certificates that https hooks are verified with; empty is the system's.
    pub ca: String,
    /// For so long an address is used before its name is looked up again; 0 looks up at each connection.
    pub dns_cache: Time,
    /// User-Agent of the srs dialect; empty is `shardcast/VERSION`.
    pub user_agent: String,
    /// `server_id` of the srs dialect; empty is a new one at each start.
    pub server_id: String,
    /// Called at connect.
    pub on_connect: Vec<HookEntry>,
    /// Called at the end of a connection (nginx).
    pub on_disconnect: Vec<HookEntry>,
    /// Called at the end of a connection (srs).
    pub on_close: Vec<HookEntry>,
    /// Called at publish.
    pub on_publish: Vec<HookEntry>,
    /// Called at the end of publishing (srs).
    pub on_unpublish: Vec<HookEntry>,
    /// Called at the end of publishing (nginx).
    pub on_publish_done: Vec<HookEntry>,
    /// Called at play.
    pub on_play: Vec<HookEntry>,
    /// Called at the end of playing (srs).
    pub on_stop: Vec<HookEntry>,
    /// Called at the end of playing (nginx).
    pub on_play_done: Vec<HookEntry>,
    /// Called at the end of publishing or playing (nginx).
    pub on_done: Vec<HookEntry>,
    /// Called from time to time while publishing or playing (nginx).
    pub on_update: Vec<HookEntry>,
    /// Called when a recording is closed (nginx).
    pub on_record_done: Vec<HookEntry>,
    /// Asked for targets of a stream (srs).
    pub on_forward: Vec<HookEntry>,
    /// Told about relays.
    pub on_relay: Vec<HookEntry>,
    /// Asked about messages of push clients.
    pub on_message: Vec<HookEntry>,
}

/// Whose requests a hook makes.
#[derive(Clone, Copy, Debug, serde::Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// nginx-rtmp's forms.
    Nginx,
    /// SRS's JSON.
    Srs,
}

/// `hooks.on_failure`
#[derive(Clone, Copy, Debug, serde::Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The client is let in.
    Accept,
    /// The client is refused.
    Refuse,
}

/// `hooks.notify_method`
#[derive(Clone, Copy, Debug, serde::Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum NotifyMethod {
    /// The form in the query.
    Get,
    /// The form in the body.
    Post,
}

/// `hooks.retry`
#[derive(Clone, Copy, Debug, serde::Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Those that were surely not processed, and those that a gateway could not pass on.
    Unprocessed,
    /// Also those that may have been processed: the back end may see an event twice.
    AtLeastOnce,
}

/// HTTP version of a hook.
#[derive(Clone, Copy, Debug, serde::Deserialize, PartialEq, Eq)]
pub enum HookHttp {
    /// One connection per call, as nginx-rtmp does.
    #[serde(rename = "1.0")]
    Http10,
    /// Connections are kept.
    #[serde(rename = "1.1")]
    Http11,
}

/// One hook: a URL, or a table with a URL and what differs from `[hooks]`.
#[derive(Clone, Debug, PartialEq)]
pub struct HookEntry {
    /// `http://…` or `https://…`
    pub url: String,
    /// Dialect of this entry.
    pub dialect: Option<Dialect>,
    /// Time for the whole call.
    pub timeout: Option<Time>,
    /// HTTP version.
    pub http: Option<HookHttp>,
    /// What happens to a client when this hook fails.
    pub on_failure: Option<OnFailure>,
    /// Which end events are sent again.
    pub retry: Option<Retry>,
    /// PEM file of the certificates to verify with.
    pub ca: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct HookEntryTable {
    url: HookUrl,
    dialect: Option<Dialect>,
    timeout: Option<Time>,
    http: Option<HookHttp>,
    on_failure: Option<OnFailure>,
    retry: Option<Retry>,
    ca: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(try_from = "String")]
struct HookUrl(String);

impl Hooks {
    /// The hooks by name, also the empty ones.
    pub fn entries(&self) -> [(&'static str, &[HookEntry]); 15] {
        [
            ("on_connect", &self.on_connect),
            ("on_disconnect", &self.on_disconnect),
            ("on_close", &self.on_close),
            ("on_publish", &self.on_publish),
            ("on_unpublish", &self.on_unpublish),
            ("on_publish_done", &self.on_publish_done),
            ("on_play", &self.on_play),
            ("on_stop", &self.on_stop),
            ("on_play_done", &self.on_play_done),
            ("on_done", &self.on_done),
            ("on_update", &self.on_update),
            ("on_record_done", &self.on_record_done),
            ("on_forward", &self.on_forward),
            ("on_relay", &self.on_relay),
            ("on_message", &self.on_message),
        ]
    }
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            enabled: true,
            dialect: Dialect::Nginx,
            srs_version: 7,
            timeout: OptionalTime(None),
            on_failure: OnFailure::Refuse,
            close_silently: false,
            event_headers: false,
            repeat_connect_args: false,
            secret: String::new(),
            notify_method: NotifyMethod::Post,
            notify_update_timeout: Time::from_secs(30),
            notify_update_strict: false,
            notify_redirect: true,
            notify_relay_redirect: false,
            retry: Retry::Unprocessed,
            ca: String::new(),
            dns_cache: Time(Duration::from_secs(30)),
            user_agent: String::new(),
            server_id: String::new(),
            on_connect: Vec::new(),
            on_disconnect: Vec::new(),
            on_close: Vec::new(),
            on_publish: Vec::new(),
            on_unpublish: Vec::new(),
            on_publish_done: Vec::new(),
            on_play: Vec::new(),
            on_stop: Vec::new(),
            on_play_done: Vec::new(),
            on_done: Vec::new(),
            on_update: Vec::new(),
            on_record_done: Vec::new(),
            on_forward: Vec::new(),
            on_relay: Vec::new(),
            on_message: Vec::new(),
        }
    }
}

impl TryFrom<String> for HookUrl {
    type Error = &'static str;

    fn try_from(url: String) -> Result<Self, Self::Error> {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        match rest {
            Some(rest) if !rest.is_empty() && !rest.starts_with(['/', '?', ':']) => Ok(Self(url)),
            _ => Err("the URL of a hook begins with http:// or https:// and names a host"),
        }
    }
}

impl<'de> Deserialize<'de> for HookEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HookEntryVisitor)
    }
}

struct HookEntryVisitor;

impl<'de> Visitor<'de> for HookEntryVisitor {
    type Value = HookEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL or a table with `url`")
    }

    fn visit_str<E: Error>(self, url: &str) -> Result<HookEntry, E> {
        let HookUrl(url) = HookUrl::try_from(url.to_owned()).map_err(E::custom)?;
        Ok(HookEntry {
            url,
            dialect: None,
            timeout: None,
            http: None,
            on_failure: None,
            retry: None,
            ca: None,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HookEntry, A::Error> {
        let table = HookEntryTable::deserialize(MapAccessDeserializer::new(map))?;
        Ok(HookEntry {
            url: table.url.0,
            dialect: table.dialect,
            timeout: table.timeout,
            http: table.http,
            on_failure: table.on_failure,
            retry: table.retry,
            ca: table.ca,
        })
    }
}
