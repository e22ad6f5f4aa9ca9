//! What the running server reads: plain values, no text left to interpret.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::access_format::AccessFormat;
use super::app::{AccessRule, Latency, Missing, RuleAction, Takeover};
use super::cluster::ClusterSettings;
use super::error::ConfigError;
use super::hook_plan::HookPlan;
use super::http::FlvMissing;
use super::load::Sources;
use super::push::PushSettings;
use super::relay::RelayRule;
use super::server::{Accept, ControlCore, Egress, LogFormat, Shards, UnknownApps};
use super::tree::Node;
use super::value::Net;
use super::{Config, resolve};
use crate::proto::name::{self, StreamName};

/// The whole configuration, validated.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The process.
    pub server: ServerSettings,
    /// Caps that the operator sets.
    pub limits: LimitSettings,
    /// RTMP.
    pub rtmp: RtmpSettings,
    /// HTTP-FLV.
    pub http: HttpSettings,
    /// Rooms.
    pub signalling: SignallingSettings,
    /// The cluster that this node is in.
    pub cluster: Option<ClusterSettings>,
    /// The API.
    pub api: ApiSettings,
    /// Logs.
    pub log: LogSettings,
    /// How long a connection may wait for a verdict: longer than all hooks of any question together,
    /// and than a take-over, which the control shard ends itself.
    pub verdict_wait: Duration,
    /// The name of this node; no other process has it.
    pub node: &'static str,
    /// The tables as they were written, for parts that have no settings of their own.
    pub config: Config,
    /// Apps by vhost; the default vhost is always there.
    pub(super) vhosts: HashMap<String, VhostApps>,
    /// Vhost by host name, both names and aliases.
    pub(super) hosts: HashMap<String, String>,
    /// What it was read from, for the comparison with a later reading.
    pub(super) tree: Node,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSettings {
    /// Number of media shards.
    pub shards: Shards,
    /// Where the control shard runs.
    pub control_core: ControlCore,
    /// How long connections may finish after a signal to stop.
    pub drain: Duration,
    /// Which shard gets a new connection.
    pub accept: Accept,
    /// Who asks to play a stream with fewer viewers than this is brought to its publisher's shard.
    pub gather_viewers: usize,
    /// How bytes leave.
    pub egress: Egress,
    /// What an app without a table gets; see [`Settings::serves_app`].
    pub unknown_apps: UnknownApps,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq)]
pub struct LimitSettings {
    /// Connections of the process.
    pub connections: usize,
    /// Connections of one address.
    pub connections_per_address: Option<usize>,
    /// Streams of the process.
    pub streams: usize,
    /// Logs of one stream on one shard.
    pub logs_per_stream: usize,
    /// Time for the RTMP handshake or an HTTP request head.
    pub handshake_timeout: Duration,
    /// Silence of a connection that neither publishes nor plays.
    pub idle_connection: Option<Duration>,
}

/// `[rtmp]`
#[derive(Clone, Debug, PartialEq)]
pub struct RtmpSettings {
    /// Addresses, perhaps none.
    pub listen: Vec<SocketAddr>,
    /// Chunk size of what the server sends, in bytes.
    pub chunk_size: u32,
    /// Window acknowledgement size, in bytes.
    pub ack_window: u32,
    /// Longest message of a client, in bytes.
    pub max_message: usize,
    /// Silence after which a client is pinged.
    pub ping: Option<Duration>,
    /// Time for the answer.
    pub ping_timeout: Duration,
    /// Networks of proxies that speak the PROXY protocol.
    pub proxy_protocol_from: Vec<Net>,
}

/// `[http]`
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSettings {
    /// Addresses, perhaps none.
    pub listen: Vec<SocketAddr>,
    /// Networks of proxies whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<Net>,
    /// Origins that may play, `*` is all.
    pub cors: Vec<String>,
    /// Origins whose pages may open WebSockets; empty is any.
    pub origins: Vec<String>,
    /// What a request for a stream without publisher gets.
    pub flv_missing: FlvMissing,
    /// Silence after which the client of a WebSocket is pinged.
    pub ping: Option<Duration>,
    /// Time for the answer.
    pub ping_timeout: Duration,
}

/// `[signalling]`
#[derive(Clone, Debug, PartialEq)]
pub struct SignallingSettings {
    /// Path of the rooms on `http.listen`.
    pub path: String,
    /// Addresses where every path is that of the rooms, perhaps none.
    pub listen: Vec<SocketAddr>,
    /// Where memberships are kept: the URL of a Redis; `None` is the memory of the process.
    pub redis: Option<String>,
    /// How long a node may be silent before its members leave the rooms, when Redis keeps them.
    pub lease: Duration,
    /// Most members of a room; 0 is no limit.
    pub max_members: usize,
    /// Between the announcement of the end and the end.
    pub shutdown: Duration,
    /// How long a lost member may come back.
    pub resume: Duration,
    /// Secret and lifetime of TURN credentials.
    pub turn: Option<(String, Duration)>,
}

/// `[api]`
#[derive(Clone, Debug, PartialEq)]
pub struct ApiSettings {
    /// Addresses, perhaps none.
    pub listen: Vec<SocketAddr>,
    /// Bearer token.
    pub token: Option<String>,
    /// Addresses that serve the metrics alone, perhaps none.
    pub metrics_listen: Vec<SocketAddr>,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct LogSettings {
    /// Shape of a line.
    pub format: LogFormat,
    /// Directives for `tracing_subscriber::EnvFilter`.
    pub level: String,
    /// File to append to; `None` is stderr.
    pub file: Option<String>,
    /// File with one line per session.
    pub access: Option<String>,
    /// What such a line holds.
    pub access_format: AccessFormat,
}

/// What holds for one app, or one instance of it, on one vhost.
#[derive(Clone, Debug, PartialEq)]
pub struct AppSettings {
    /// The preset, for display; its effects are in the three fields that follow.
    pub latency: Latency,
    /// Longest wait of a video message.
    pub hold_video: Duration,
    /// Longest wait of an audio message.
    pub hold_audio: Duration,
    /// Shortest turn of a shard with a stream of this app.
    pub turn_min: Duration,
    /// How far back a log reaches.
    pub log_reach: Duration,
    /// Most bytes of a group of pictures that are kept.
    pub gop_bytes: usize,
    /// Most bits per second of a publisher.
    pub max_bitrate: Option<u64>,
    /// Most connections of the app.
    pub max_connections: Option<usize>,
    /// What a second publisher of a name gets.
    pub takeover: Takeover,
    /// Silence after which a publisher may be replaced.
    pub publish_silent: Duration,
    /// How long viewers wait for a lost publisher; zero is not at all.
    pub publish_resume: Duration,
    /// Whether they also wait for one that said goodbye.
    pub resume_after_goodbye: bool,
    /// Silence after which a publisher is closed.
    pub publish_idle_timeout: Option<Duration>,
    /// What a player of a name without publisher gets.
    pub missing: Missing,
    /// How long it waits; `None` is for ever.
    pub wait_timeout: Option<Duration>,
    /// How far behind a viewer may be.
    pub viewer_max_lag: Duration,
    /// How long a viewer may take nothing.
    pub viewer_stall_timeout: Option<Duration>,
    /// Cap of a viewer's kernel send buffer, in bytes.
    pub viewer_socket_buffer: usize,
    /// Where each stream is sent on to.
    pub push: Vec<Arc<RelayRule>>,
    /// Where streams that nobody publishes here are fetched from, in order of preference.
    pub pull: Vec<Arc<RelayRule>>,
    /// Access rules in order; see [`AppSettings::permits`].
    pub access: Vec<AccessRule>,
    /// Hosts whose pages may play; see [`AppSettings::permits_referer`].
    pub referer: Vec<String>,
    /// Who is asked and told. Those of connections in the nginx dialect are elsewhere: see
    /// [`Settings::connection_hooks`].
    pub hooks: Arc<HookPlan>,
    /// Whether clients need a push session.
    pub session_required: bool,
}

#[derive(Clone, Debug)]
pub(super) struct VhostApps {
    /// See [`Settings::connection_hooks`].
    pub(super) connections: Arc<HookPlan>,
    pub(super) default: Arc<AppSettings>,
    /// By `app` or `app/instance`.
    pub(super) named: HashMap<String, Arc<AppSettings>>,
    pub(super) push: Arc<PushSettings>,
}

impl Settings {
    /// Merges, reads and validates.
    ///
    /// # Errors
    /// What is wrong, each with its place; several at once where the text can be read at all.
    pub fn load(sources: &Sources) -> Result<Self, Vec<ConfigError>> {
        let tree = sources.tree().map_err(|error| vec![error])?;
        resolve::settings(&tree)
    }

    /// Whether a viewer of an app's stream that nobody publishes waits for it.
    pub fn waits_for_publisher(&self, app: &AppSettings, http: bool) -> bool {
        if http { self.http.flv_missing == FlvMissing::Wait } else { app.missing == Missing::Wait }
    }

    /// What holds for an app: the vhost's or the top level's table of `app/instance`, of `app`, or
    /// `apps.default`. A vhost that is not configured is the default one.
    pub fn app(&self, vhost: &str, app: &str, instance: &str) -> Arc<AppSettings> {
        let apps = self.apps_of(vhost);
        let found = apps
            .named
            .get(&format!("{app}/{instance}"))
            .or_else(|| apps.named.get(app))
            .unwrap_or(&apps.default);
        Arc::clone(found)
    }

    /// The hooks of connections in the nginx dialect, which is asked before the app is known: those of
    /// the vhost, or of the top level.
    pub fn connection_hooks(&self, vhost: &str) -> Arc<HookPlan> {
        Arc::clone(&self.apps_of(vhost).connections)
    }

    /// Every hook there is, for a look at what all of them need.
    pub fn hook_plans(&self) -> impl Iterator<Item = &HookPlan> {
        self.vhosts.values().flat_map(|apps| {
            let of_apps = std::iter::once(&apps.default).chain(apps.named.values());
            of_apps.map(|app| &*app.hooks).chain(std::iter::once(&*apps.connections))
        })
    }

    /// What is fetched from the start on: the stream and where it is.
    pub fn static_pulls(&self) -> Vec<(StreamName, Arc<RelayRule>)> {
        let mut found = Vec::new();
        for (vhost, apps) in &self.vhosts {
            for (key, app) in &apps.named {
                let app_name = key.split('/').next().unwrap_or_default();
                for rule in app.pull.iter().filter(|rule| rule.is_static) {
                    let stream = rule.stream.as_deref().unwrap_or_default();
                    let name = StreamName::new(vhost, app_name, &rule.instance, stream);
                    found.extend(name.ok().map(|name| (name, Arc::clone(rule))));
                }
            }
        }
        found
    }

    /// The push channel of a vhost; one that is not configured is the default one.
    pub fn push(&self, vhost: &str) -> &Arc<PushSettings> {
        &self.apps_of(vhost).push
    }

    fn apps_of(&self, vhost: &str) -> &VhostApps {
        let apps = self.vhosts.get(vhost).or_else(|| self.vhosts.get(name::DEFAULT_VHOST));
        // The default vhost is there by construction.
        let Some(apps) = apps else { unreachable!("resolve builds the default vhost") };
        apps
    }

    /// Whether an app is served: always, unless `server.unknown_apps = "refuse"` and no table
    /// names the app or this instance of it.
    pub fn serves_app(&self, vhost: &str, app: &str, instance: &str) -> bool {
        let named = |apps: &VhostApps| {
            apps.named.contains_key(app) || apps.named.contains_key(&format!("{app}/{instance}"))
        };
        self.server.unknown_apps == UnknownApps::Serve
            || self
                .vhosts
                .get(vhost)
                .or_else(|| self.vhosts.get(name::DEFAULT_VHOST))
                .is_some_and(named)
    }

    /// The vhost that has this host (port and brackets are ignored) as name or alias, else
    /// [`name::DEFAULT_VHOST`].
    pub fn vhost_of(&self, host: &str) -> &str {
        self.vhost_named(&name::host_key(host)).unwrap_or(name::DEFAULT_VHOST)
    }

    /// The look-up for [`name::resolve_vhost`]: `host` is in lower case and bare.
    pub fn vhost_named(&self, host: &str) -> Option<&str> {
        self.hosts.get(host).map(String::as_str)
    }

    /// The configured vhosts beside the default one.
    pub fn vhosts(&self) -> impl Iterator<Item = &str> {
        self.config.vhosts.keys().map(String::as_str)
    }
}

impl AppSettings {
    /// Whether the access rules let `address` publish or play: the first rule that fits decides,
    /// without one all may.
    pub fn permits(&self, action: RuleAction, address: IpAddr) -> bool {
        self.access.iter().find(|rule| rule.fits(action, address)).is_none_or(|rule| rule.allow)
    }

    /// Whether a page with this URL may play: any when no host is listed, else one of the listed
    /// hosts and the hosts below them. A player that names no page is refused when hosts are listed.
    pub fn permits_referer(&self, page_url: &str) -> bool {
        if self.referer.is_empty() {
            return true;
        }
        let page = page_url.split_once("://").map_or(page_url, |(_, rest)| rest);
        let authority = page.split(['/', '?', '#']).next().unwrap_or_default();
        let host = name::host_key(authority.rsplit('@').next().unwrap_or_default());
        self.referer.iter().any(|listed| {
            let listed = name::host_key(listed);
            host.strip_suffix(&listed).is_some_and(|front| front.is_empty() || front.ends_with('.'))
        })
    }
}
