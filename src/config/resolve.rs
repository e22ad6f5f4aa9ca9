//! From the tree to [`Settings`]: reads the types, looks up what each app inherits, validates.
//!
//! An app's tables are laid over each other before they are read, least specific first: top-level
//! hooks, `apps.default`, `apps.NAME`, `apps."NAME/INSTANCE"`, then the same of the vhost. So
//! inheritance goes key by key, and an error names the place that its value really came from.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::app::{App, Relay};
use super::cluster::ClusterSettings;
use super::de::read;
use super::error::{ConfigError, dotted};
use super::hook_plan::{HookEvent, HookPlan};
use super::hooks::Hooks;
use super::node;
use super::push::{ClientSend, Push, PushSettings};
use super::relay::RelayRule;
use super::settings::{
    ApiSettings, AppSettings, HttpSettings, LimitSettings, LogSettings, RtmpSettings,
    ServerSettings, Settings, SignallingSettings, VhostApps,
};
use super::tree::Node;
use super::value::Address;
use super::{Config, validate};
use crate::limits;
use crate::proto::name::{DEFAULT_INSTANCE, DEFAULT_VHOST, host_key};

/// The table of what no other table speaks for.
pub(super) const DEFAULT_APP: &str = "default";

/// Reads and validates everything.
pub(super) fn settings(tree: &Node) -> Result<Settings, Vec<ConfigError>> {
    let config: Config = read(&[], tree).map_err(|error| vec![error])?;
    let mut errors = validate::sections(&config, tree);
    let mut vhosts = HashMap::new();
    let mut hosts = HashMap::new();
    for vhost in std::iter::once(DEFAULT_VHOST).chain(config.vhosts.keys().map(String::as_str)) {
        match vhost_apps(tree, vhost, &mut errors) {
            Ok(apps) => vhosts.insert(vhost.to_owned(), apps),
            Err(error) => {
                errors.push(error);
                None
            }
        };
    }
    for (vhost, table) in &config.vhosts {
        for host in std::iter::once(vhost).chain(&table.aliases) {
            hosts.insert(host_key(host), vhost.clone());
        }
    }
    // What apps.default gets wrong, all that inherit it get wrong: once is enough.
    let mut seen = Vec::new();
    errors.retain(|error| {
        let this = (error.origin.clone(), error.reason.clone());
        let new = !seen.contains(&this);
        seen.push(this);
        new
    });
    if !errors.is_empty() {
        return Err(errors);
    }
    let waits = |wait: fn(&VhostApps) -> Duration| vhosts.values().map(wait).max();
    let of_connections = waits(|apps| apps.connections.verdict_wait());
    let of_apps = waits(|apps| {
        let all = std::iter::once(&apps.default).chain(apps.named.values());
        all.map(|app| app.hooks.verdict_wait()).max().unwrap_or_default()
    });
    Ok(Settings {
        verdict_wait: of_connections.unwrap_or_default()
            + of_apps.unwrap_or_default()
            + limits::VERDICT_WAIT_MAX,
        server: server(&config),
        limits: limits(&config),
        rtmp: rtmp(&config),
        http: HttpSettings {
            listen: addresses(&config.http.listen),
            trusted_proxies: config.http.trusted_proxies.clone(),
            cors: config.http.cors.clone(),
            origins: config.http.origins.clone(),
            flv_missing: config.http.flv_missing,
            ping: config.http.ping.limit(),
            ping_timeout: config.http.ping_timeout.0,
        },
        signalling: signalling(&config),
        cluster: ClusterSettings::of(&config.cluster),
        api: ApiSettings {
            listen: addresses(&config.api.listen),
            token: Some(config.api.token.clone()).filter(|token| !token.is_empty()),
            metrics_listen: addresses(&config.api.metrics_listen),
        },
        log: LogSettings {
            format: config.log.format,
            level: config.log.level.0.clone(),
            file: Some(config.log.file.clone()).filter(|file| !file.is_empty()),
            access: Some(config.log.access.clone()).filter(|file| !file.is_empty()),
            access_format: config.log.access_format.clone(),
        },
        vhosts,
        hosts,
        node: node::name(&config.cluster.node),
        tree: tree.clone(),
        config,
    })
}

/// The apps of one vhost, those that only the top level names included.
fn vhost_apps(
    tree: &Node,
    vhost: &str,
    errors: &mut Vec<ConfigError>,
) -> Result<VhostApps, ConfigError> {
    let top = tree.child("apps");
    let own_table = tree.child("vhosts").and_then(|all| all.child(vhost));
    let own = own_table.and_then(|table| table.child("apps"));
    let keys: BTreeSet<&str> = [top, own]
        .into_iter()
        .flatten()
        .flat_map(Node::keys)
        .filter(|key| *key != DEFAULT_APP)
        .collect();

    // Connections are judged before their app is known: what the apps say does not count.
    let mut layers = Node::default();
    for table in [Some(tree), own_table].into_iter().flatten() {
        if let Some(hooks) = table.child("hooks") {
            layers.overlay(&Node::wrap("hooks", hooks.clone()));
        }
    }
    let of_vhost: Hooks = match layers.child("hooks") {
        Some(node) => read(&["hooks"], node)?,
        None => Hooks::default(),
    };
    let connections = plan(HookPlan::of_connections(&of_vhost), &layers)?;

    // Key by key, as everywhere: the vhost's over the top level's.
    let mut layers = Node::default();
    for table in [Some(tree), own_table].into_iter().flatten() {
        if let Some(push) = table.child("push") {
            layers.overlay(push);
        }
    }
    let push: Push = read(&["push"], &layers)?;
    let push = Arc::new(PushSettings::of(&push));
    if push.client_send == ClientSend::Hook && !connections.has(HookEvent::Message) {
        let place = layers.origin_of(&["client_send"]);
        let reason = "\"hook\" needs hooks.on_message, which says who is asked";
        errors.push(ConfigError::new(place, "push.client_send", reason));
    }

    let mut resolve = |app: Option<&str>| -> Result<Arc<AppSettings>, ConfigError> {
        let mut layers = Node::default();
        if let Some(hooks) = tree.child("hooks") {
            layers.overlay(&Node::wrap("hooks", hooks.clone()));
        }
        let mut in_apps = Vec::new();
        lay_apps(&mut layers, top, app, &mut in_apps);
        for key in ["hooks", "access"] {
            if let Some(node) = own_table.and_then(|table| table.child(key)) {
                layers.overlay(&Node::wrap(key, node.clone()));
                if key == "hooks" {
                    // What the vhost says is no word of the top level's apps.
                    in_apps.retain(|name| node.child(name).is_none());
                }
            }
        }
        lay_apps(&mut layers, own, app, &mut in_apps);

        let mut path = Vec::new();
        if own_table.is_some() {
            path.extend(["vhosts", vhost]);
        }
        path.extend(["apps", app.unwrap_or(DEFAULT_APP)]);
        let table: App = read(&path, &layers)?;
        errors.extend(validate::app(&table, &layers, &dotted(path.iter().copied()), &in_apps));
        let hooks = plan(HookPlan::of_app(&table.hooks, &of_vhost, &in_apps), &layers)?;
        let instance = app.and_then(|app| app.split_once('/')).map_or(DEFAULT_INSTANCE, |it| it.1);
        if table.push_required == Some(true) && push.secrets.is_empty() {
            let place = layers.origin_of(&["push_required"]);
            let key = dotted([path.as_slice(), &["push_required"]].concat());
            let reason = "a session is required, but push.secret is empty";
            errors.push(ConfigError::new(place, &key, reason));
        }
        Ok(Arc::new(app_settings(&table, instance, hooks, &push)))
    };
    let default = resolve(None)?;
    let mut named = HashMap::new();
    for key in keys {
        named.insert(key.to_owned(), resolve(Some(key))?);
    }
    Ok(VhostApps { connections, default, named, push })
}

/// A plan whose URLs can be read.
fn plan(plan: Result<HookPlan, String>, layers: &Node) -> Result<Arc<HookPlan>, ConfigError> {
    plan.map(Arc::new)
        .map_err(|reason| ConfigError::new(layers.origin_of(&["hooks"]), "hooks", reason))
}

/// Lays `default`, `NAME` and `NAME/INSTANCE` of one `apps` table over `layers`, and notes which
/// hooks of connections they hold.
fn lay_apps(
    layers: &mut Node,
    apps: Option<&Node>,
    app: Option<&str>,
    in_apps: &mut Vec<&'static str>,
) {
    let whole_app = app.and_then(|app| app.split_once('/')).map(|(app, _)| app);
    for key in [Some(DEFAULT_APP), whole_app, app].into_iter().flatten() {
        let Some(table) = apps.and_then(|apps| apps.child(key)) else {
            continue;
        };
        if table.child("latency").is_some() {
            // A preset that is nearer than a hold wins over it.
            layers.remove("hold");
        }
        let hooks = table.child("hooks");
        in_apps.extend(
            ["on_connect", "on_disconnect", "on_close", "on_message"]
                .into_iter()
                .filter(|name| hooks.and_then(|hooks| hooks.child(name)).is_some()),
        );
        layers.overlay(table);
        if app.is_some_and(|app| app != key && app.contains('/')) {
            // An application's relays are those of its default instance.
            layers.remove("push");
            layers.remove("pull");
        }
    }
}

fn app_settings(
    app: &App,
    instance: &str,
    hooks: Arc<HookPlan>,
    push: &PushSettings,
) -> AppSettings {
    // Those that cannot be read are errors of the validation.
    let relays = |rules: &[Relay]| {
        let log_reach = app.log_reach.0;
        let read = rules.iter().filter_map(|rule| RelayRule::new(rule, log_reach, instance).ok());
        read.map(Arc::new).collect()
    };
    let (video, audio, turn_min) = app.latency.preset();
    AppSettings {
        latency: app.latency,
        hold_video: app.hold.video.map_or(video, |time| time.0),
        hold_audio: app.hold.audio.map_or(audio, |time| time.0),
        turn_min,
        log_reach: app.log_reach.0,
        gop_bytes: bytes(app.gop_bytes.0),
        max_bitrate: Some(app.max_bitrate.0).filter(|rate| *rate > 0),
        max_connections: Some(app.max_connections).filter(|count| *count > 0),
        takeover: app.publish.takeover,
        publish_silent: app.publish.silent.0,
        publish_resume: app.publish.resume.0,
        resume_after_goodbye: app.publish.resume_after_goodbye,
        publish_idle_timeout: app.publish.idle_timeout.limit(),
        missing: app.play.missing,
        wait_timeout: app.play.wait_timeout.limit(),
        viewer_max_lag: app.viewer.max_lag.0,
        viewer_stall_timeout: app.viewer.stall_timeout.limit(),
        viewer_socket_buffer: bytes(app.viewer.socket_buffer.0),
        push: relays(&app.push),
        pull: relays(&app.pull),
        access: app.access.clone(),
        referer: app.referer.clone(),
        hooks,
        session_required: app.push_required.unwrap_or(push.required),
    }
}

fn signalling(config: &Config) -> SignallingSettings {
    let table = &config.signalling;
    SignallingSettings {
        path: table.path.clone(),
        listen: addresses(&table.listen),
        redis: match table.store.as_str() {
            "memory" => None,
            "auto" => Some(config.cluster.redis.clone()).filter(|url| !url.is_empty()),
            url => Some(url.to_owned()),
        },
        lease: config.cluster.lease.0,
        max_members: table.max_members,
        shutdown: table.shutdown.0,
        resume: table.resume.0,
        turn: Some((table.turn.secret.clone(), table.turn.ttl.0))
            .filter(|(secret, _)| !secret.is_empty()),
    }
}

fn server(config: &Config) -> ServerSettings {
    ServerSettings {
        shards: config.server.shards,
        control_core: config.server.control_core,
        drain: config.server.drain.0,
        accept: config.server.accept,
        gather_viewers: config.server.gather_viewers,
        egress: config.server.egress,
        unknown_apps: config.server.unknown_apps,
    }
}

fn limits(config: &Config) -> LimitSettings {
    let limits = &config.limits;
    LimitSettings {
        connections: limits.connections,
        connections_per_address: Some(limits.connections_per_address).filter(|n| *n > 0),
        streams: limits.streams,
        logs_per_stream: limits.logs_per_stream,
        handshake_timeout: limits.handshake_timeout.0,
        idle_connection: limits.idle_connection.limit(),
    }
}

fn rtmp(config: &Config) -> RtmpSettings {
    let rtmp = &config.rtmp;
    // The ranges were validated; saturation is for the type only.
    let small = |size: u64| u32::try_from(size).unwrap_or(u32::MAX);
    RtmpSettings {
        listen: addresses(&rtmp.listen),
        chunk_size: small(rtmp.chunk_size.0),
        ack_window: small(rtmp.ack_window.0),
        max_message: bytes(rtmp.max_message.0),
        ping: rtmp.ping.limit(),
        ping_timeout: rtmp.ping_timeout.0,
        proxy_protocol_from: rtmp.proxy_protocol_from.clone(),
    }
}

fn addresses(listen: &[Address]) -> Vec<SocketAddr> {
    listen.iter().map(|address| address.0).collect()
}

fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
