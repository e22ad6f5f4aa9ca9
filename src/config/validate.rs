//! Rules that no single value can break: ranges that depend on others, and what may stand where.

use std::collections::HashMap;
use std::time::Duration;

use super::Config;
use super::app::App;
use super::cluster::wrong_address;
use super::error::ConfigError;
use super::hooks::{Dialect, Hooks};
use super::relay::RelayRule;
use super::tree::Node;
use super::value::Address;
use crate::limits;
use crate::proto::name::{DEFAULT_INSTANCE, DEFAULT_VHOST, host_key};

/// Rules of all sections but the apps.
pub(super) fn sections(config: &Config, tree: &Node) -> Vec<ConfigError> {
    let mut check = Check::new(tree, "");
    server_and_limits(config, &mut check);
    listeners(config, &mut check);
    rtmp(config, &mut check);
    if config.http.ping_timeout.0.is_zero() && !config.http.ping.0.is_zero() {
        check.at(&["http", "ping_timeout"], "0 would close each pinged client");
    }
    vhosts(config, &mut check);
    for (name, apps) in app_tables(config) {
        for app in apps.keys() {
            let path: Vec<&str> = name.iter().copied().chain(["apps", app]).collect();
            let parts = app.split('/').count();
            if app.split('/').any(str::is_empty) || parts > 2 {
                check.at(&path, "an app's table is named NAME or \"NAME/INSTANCE\"");
            } else if parts == 2 && app.starts_with("default/") {
                check.at(&path, "apps.default speaks for all apps and has no instances");
            }
        }
    }
    hooks(&config.hooks, &["hooks"], &mut check);
    let mut pushes = vec![(vec!["push"], &config.push)];
    for (vhost, table) in &config.vhosts {
        pushes.push((vec!["vhosts", vhost, "push"], &table.push));
    }
    for (path, push) in pushes {
        let at = |key| path.iter().copied().chain([key]).collect::<Vec<_>>();
        if push.required && push.secret.is_empty() && config.push.secret.is_empty() {
            check.at(&at("required"), "a session is required, but push.secret is empty");
        }
        if push.secret.iter().any(String::is_empty) {
            check.at(&at("secret"), "an empty secret protects nothing");
        }
        if push.max_message.0 > 1 << 20 || push.max_message.0 == 0 {
            check.at(&at("max_message"), "the limit lies between 1 byte and 1 MiB");
        }
        if push.history.messages > limits::PUSH_HISTORY_MESSAGES_MAX {
            let most = limits::PUSH_HISTORY_MESSAGES_MAX;
            check.at(&at("history"), format!("at most {most} messages are kept per channel"));
        }
    }
    signalling_and_cluster(config, &mut check);
    check.errors
}

/// Rules of one app, after inheritance; `name` is its table's key, `in_apps` the connection hooks
/// that an app's table holds.
pub(super) fn app(app: &App, layers: &Node, name: &str, in_apps: &[&str]) -> Vec<ConfigError> {
    let mut check = Check::new(layers, name);
    let reach = app.log_reach.0;
    if reach < Duration::from_secs(1) || reach > Duration::from_secs(600) {
        check.at(&["log_reach"], "a log reaches back between 1s and 10m");
    }
    let lag = app.viewer.max_lag.0;
    if lag * 2 > reach {
        let lag_is_set = layers.child("viewer").and_then(|v| v.child("max_lag"));
        let path: &[&str] = match lag_is_set {
            Some(_) => &["viewer", "max_lag"],
            None => &["log_reach"],
        };
        check.at(
            path,
            format!(
                "viewer.max_lag ({} ms) may be at most half of log_reach ({} ms): a viewer that is \
                 further behind would read what is no longer there",
                lag.as_millis(),
                reach.as_millis()
            ),
        );
    }
    let holds = [("video", app.hold.video), ("audio", app.hold.audio)];
    for (track, hold) in holds {
        let Some(hold) = hold else { continue };
        if hold.0 > limits::HOLD_MAX {
            check.at(&["hold", track], "a hold is at most 1s");
        }
    }
    if lag < Duration::from_secs(1) {
        check.at(
            &["viewer", "max_lag"],
            "less than 1s would skip viewers that only wait for the next flush",
        );
    }
    if !(64 << 10..=1 << 30).contains(&app.gop_bytes.0) {
        check.at(&["gop_bytes"], "the cap lies between 64KiB and 1GiB");
    }
    if !(16 << 10..=64 << 20).contains(&app.viewer.socket_buffer.0) {
        check.at(&["viewer", "socket_buffer"], "the cap lies between 16KiB and 64MiB");
    }
    for (kind, relays) in [("push", &app.push), ("pull", &app.pull)] {
        for relay in relays {
            if let Err(reason) = RelayRule::new(relay, app.log_reach.0, DEFAULT_INSTANCE) {
                check.at(&[kind], reason);
            }
        }
    }
    hooks(&app.hooks, &["hooks"], &mut check);
    app_hooks(app, in_apps, &mut check);
    check.errors
}

/// In the nginx dialect a connection is judged before its app is known.
fn app_hooks(app: &App, in_apps: &[&str], check: &mut Check<'_>) {
    for (name, entries) in app.hooks.entries() {
        let nginx = entries
            .iter()
            .any(|entry| entry.dialect.unwrap_or(app.hooks.dialect) == Dialect::Nginx);
        if name == "on_message" && in_apps.contains(&name) {
            check.at(
                &["hooks", name],
                "clients of the push channel may have no app: on_message belongs in [hooks] or \
                 [vhosts.\"NAME\".hooks]",
            );
        } else if nginx && in_apps.contains(&name) {
            check.at(
                &["hooks", name],
                format!(
                    "the nginx dialect calls {name} before it knows the app: it belongs in [hooks] \
                     or [vhosts.\"NAME\".hooks]"
                ),
            );
        }
    }
}

fn server_and_limits(config: &Config, check: &mut Check<'_>) {
    let limits = &config.limits;
    for (key, value) in [("connections", limits.connections), ("streams", limits.streams)] {
        if value == 0 {
            check.at(&["limits", key], "0 would admit nobody");
        }
    }
    if !(1..=64).contains(&limits.logs_per_stream) {
        check.at(&["limits", "logs_per_stream"], "a stream has 1 to 64 logs");
    }
    if limits.handshake_timeout.0.is_zero() {
        check.at(&["limits", "handshake_timeout"], "0 would let silent connections stay for ever");
    }
}

fn listeners(config: &Config, check: &mut Check<'_>) {
    let sections: [(&[&str], &[Address]); 5] = [
        (&["rtmp", "listen"], &config.rtmp.listen),
        (&["http", "listen"], &config.http.listen),
        (&["api", "listen"], &config.api.listen),
        (&["api", "metrics_listen"], &config.api.metrics_listen),
        (&["signalling", "listen"], &config.signalling.listen),
    ];
    let mut taken = HashMap::new();
    for (path, addresses) in sections {
        for address in addresses {
            let before = taken.insert(address.0, path.join("."));
            if let Some(before) = before.filter(|_| address.0.port() != 0) {
                check.at(path, format!("{} is also in {before}", address.0));
            }
        }
    }
    let open =
        config.api.listen.iter().find(|address| !address.0.ip().to_canonical().is_loopback());
    if let Some(address) = open.filter(|_| config.api.token.is_empty()) {
        check.at(
            &["api", "listen"],
            format!("{} is not loopback: the API needs api.token there", address.0),
        );
    }
}

fn rtmp(config: &Config, check: &mut Check<'_>) {
    let rtmp = &config.rtmp;
    if !(128..=u64::from(limits::RTMP_CHUNK_SIZE_MAX)).contains(&rtmp.chunk_size.0) {
        check.at(&["rtmp", "chunk_size"], "a chunk has 128 bytes to 16MiB");
    }
    if !(1024..=limits::RTMP_MESSAGE_BYTES_MAX as u64).contains(&rtmp.max_message.0) {
        check.at(&["rtmp", "max_message"], "the limit lies between 1KiB and 16MiB");
    }
    if !(4096..=u64::from(u32::MAX >> 1)).contains(&rtmp.ack_window.0) {
        check.at(&["rtmp", "ack_window"], "the window lies between 4KiB and 2 GiB");
    }
    if rtmp.ping_timeout.0.is_zero() && !rtmp.ping.0.is_zero() {
        check.at(&["rtmp", "ping_timeout"], "0 would close each pinged client");
    }
}

fn vhosts(config: &Config, check: &mut Check<'_>) {
    let mut taken: HashMap<String, &str> = HashMap::new();
    for (vhost, table) in &config.vhosts {
        if vhost.is_empty() || vhost == DEFAULT_VHOST {
            check.at(
                &["vhosts", vhost],
                "the top-level tables are the default vhost; this table needs a host name",
            );
        }
        for host in std::iter::once(vhost).chain(&table.aliases) {
            if let Some(before) = taken.insert(host_key(host), vhost) {
                let path: &[&str] = match host == vhost {
                    true => &["vhosts", vhost],
                    false => &["vhosts", vhost, "aliases"],
                };
                check.at(path, format!("{host:?} already belongs to {before:?}"));
            }
        }
        hooks(&table.hooks, &["vhosts", vhost, "hooks"], check);
    }
}

fn hooks(hooks: &Hooks, path: &[&str], check: &mut Check<'_>) {
    let at = |key| path.iter().copied().chain([key]).collect::<Vec<_>>();
    if !matches!(hooks.srs_version, 1 | 7) {
        check.at(&at("srs_version"), "the version is 7 or 1");
    }
    if hooks.timeout.0.is_some_and(|timeout| timeout.is_zero()) {
        check.at(&at("timeout"), "0 would fail each call; leave it empty for the default");
    }
    for (name, entries) in hooks.entries() {
        let zero = |entry: &super::hooks::HookEntry| entry.timeout.is_some_and(|t| t.0.is_zero());
        if entries.iter().any(zero) {
            check.at(&at(name), "a timeout of 0 would fail each call");
        }
    }
}

fn signalling_and_cluster(config: &Config, check: &mut Check<'_>) {
    let redis = |url: &str| url.strip_prefix("redis://").is_some_and(|rest| !rest.is_empty());
    let is_tls = |url: &str| url.starts_with("rediss://");
    let no_tls =
        "TLS to Redis is not built in: use redis:// on a private network or through a tunnel";
    let signalling = &config.signalling;
    if !signalling.path.starts_with('/') {
        check.at(&["signalling", "path"], "a path begins with /");
    }
    if is_tls(&signalling.store) {
        check.at(&["signalling", "store"], no_tls);
    } else if !["auto", "memory"].contains(&signalling.store.as_str()) && !redis(&signalling.store)
    {
        let text = "the store is \"auto\", \"memory\" or redis://HOST:PORT";
        check.at(&["signalling", "store"], text);
    }
    if signalling.shutdown > config.server.drain {
        check.at(&["signalling", "shutdown"], "the notice has to fit into server.drain");
    }
    let cluster = &config.cluster;
    if !cluster.redis.is_empty() {
        if is_tls(&cluster.redis) {
            check.at(&["cluster", "redis"], no_tls);
        } else if !redis(&cluster.redis) {
            check.at(&["cluster", "redis"], "the address is redis://HOST:PORT");
        }
        if let Some(wrong) = wrong_address(&cluster.advertise) {
            check.at(&["cluster", "advertise"], wrong);
        }
        if !(Duration::from_secs(3)..=Duration::from_secs(60)).contains(&cluster.lease.0) {
            check.at(&["cluster", "lease"], "a lease lasts between 3s and 60s");
        }
    }
}

type Apps = std::collections::BTreeMap<String, App>;

/// All `apps` tables with the path of what holds them.
fn app_tables(config: &Config) -> Vec<(Vec<&str>, &Apps)> {
    let own =
        config.vhosts.iter().map(|(vhost, table)| (vec!["vhosts", vhost.as_str()], &table.apps));
    std::iter::once((Vec::new(), &config.apps)).chain(own).collect()
}

/// Collects complaints, each with the place of the value it is about.
struct Check<'a> {
    tree: &'a Node,
    /// Key of the table that `tree` is, empty for the whole.
    prefix: &'a str,
    errors: Vec<ConfigError>,
}

impl<'a> Check<'a> {
    fn new(tree: &'a Node, prefix: &'a str) -> Self {
        Self { tree, prefix, errors: Vec::new() }
    }

    fn at(&mut self, path: &[&str], reason: impl Into<String>) {
        let mut key = self.prefix.to_owned();
        if !key.is_empty() && !path.is_empty() {
            key.push('.');
        }
        key.push_str(&super::error::dotted(path.iter().copied()));
        self.errors.push(ConfigError::new(self.tree.origin_of(path), &key, reason));
    }
}
