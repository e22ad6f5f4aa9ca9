//! What hooks an app, or a vhost's connections, really have: every entry with all that holds for it,
//! so that whoever calls it looks nothing up.

use std::sync::Arc;
use std::time::Duration;

use super::hooks::{Dialect, HookEntry, HookHttp, Hooks, NotifyMethod, OnFailure, Retry};

/// nginx-rtmp's `netcall_timeout`.
const NGINX_TIMEOUT: Duration = Duration::from_secs(10);
/// SRS's fixed time.
const SRS_TIMEOUT: Duration = Duration::from_secs(30);

/// What can be told to a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HookEvent {
    /// A client wants to connect (srs 7: wants to publish or play).
    Connect,
    /// A connection has ended; nginx's name for it.
    Disconnect,
    /// A connection has ended; SRS's name for it.
    Close,
    /// A client wants to publish.
    Publish,
    /// A publication has ended; SRS's name for it.
    Unpublish,
    /// A publication has ended; nginx's name for it.
    PublishDone,
    /// A client wants to play.
    Play,
    /// A play has ended; SRS's name for it.
    Stop,
    /// A play has ended; nginx's name for it.
    PlayDone,
    /// A publication or a play has ended.
    Done,
    /// A publication or a play goes on.
    Update,
    /// A recording is complete.
    RecordDone,
    /// A client of the push channel says something.
    Message,
    /// Where is a stream to be sent on to?
    Forward,
    /// The state of a relay has changed.
    Relay,
}

/// The hooks of an app, or of the connections of a vhost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HookPlan {
    targets: Vec<(HookEvent, Arc<HookTarget>)>,
    /// Time between updates; `None` is no updates.
    pub update_interval: Option<Duration>,
    /// Refused clients are closed without a message.
    pub close_silently: bool,
}

/// One hook.
#[derive(Clone, Debug, PartialEq)]
pub struct HookTarget {
    /// Where it is.
    pub url: HookUrl,
    /// Whose requests are made.
    pub dialect: Dialect,
    /// 7 or 1.
    pub srs_version: u8,
    /// For the whole call.
    pub timeout: Duration,
    /// What a gating hook that fails means.
    pub on_failure: OnFailure,
    /// The HTTP version.
    pub http: HookHttp,
    /// Method of the nginx dialect.
    pub method: NotifyMethod,
    /// Event id, session id and attempt as headers.
    pub event_headers: bool,
    /// Publish and play repeat the connect arguments.
    pub repeat_connect_args: bool,
    /// Key of the signature header.
    pub secret: Option<String>,
    /// 3xx renames or relays; else it refuses.
    pub redirect: bool,
    /// A stream that is relayed by 3xx is called by a digest of the address here.
    pub relay_redirect: bool,
    /// Only 2xx keeps a session at an update.
    pub update_strict: bool,
    /// Which end events are sent again.
    pub retry: Retry,
    /// PEM file of the certificates to verify with.
    pub ca: Option<String>,
    /// For so long an address of the host is used before the name is looked up again.
    pub dns_cache: Duration,
    /// User-Agent of the srs dialect.
    pub user_agent: String,
    /// `server_id` of the srs dialect, when the operator gave one.
    pub server_id: Option<String>,
}

/// A hook's URL in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookUrl {
    /// https.
    pub is_tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub target: String,
    /// As the operator wrote it.
    pub text: String,
}

impl HookPlan {
    /// The hooks of connections, which are judged before their app is known: `hooks` are those of a
    /// vhost. In the nginx dialect nothing else speaks for connections.
    pub(super) fn of_connections(hooks: &Hooks) -> Result<Self, String> {
        let mut plan = Self::new(hooks, &all_events(hooks))?;
        plan.targets.retain(|(event, target)| match event {
            // Clients of the push channel may have no app.
            HookEvent::Message => true,
            event => event.is_of_connection() && target.dialect == Dialect::Nginx,
        });
        Ok(plan)
    }

    /// The hooks of an app. `vhost` are those that hold for its vhost, `named` the connection hooks
    /// that the app's own tables name: what they do not name is taken in the dialect of the vhost.
    pub(super) fn of_app(app: &Hooks, vhost: &Hooks, named: &[&str]) -> Result<Self, String> {
        let mut plan = Self::new(app, &stream_events(app))?;
        for (event, name, of_app, of_vhost) in [
            (HookEvent::Connect, "on_connect", &app.on_connect, &vhost.on_connect),
            (HookEvent::Disconnect, "on_disconnect", &app.on_disconnect, &vhost.on_disconnect),
            (HookEvent::Close, "on_close", &app.on_close, &vhost.on_close),
        ] {
            let (hooks, entries) =
                if named.contains(&name) { (app, of_app) } else { (vhost, of_vhost) };
            let found = Self::new(hooks, &[(event, entries.as_slice())])?.targets;
            plan.targets
                .extend(found.into_iter().filter(|(_, target)| target.dialect == Dialect::Srs));
        }
        if !app.enabled {
            plan.targets.clear();
        }
        Ok(plan)
    }

    fn new(hooks: &Hooks, events: &[(HookEvent, &[HookEntry])]) -> Result<Self, String> {
        let mut targets = Vec::new();
        if hooks.enabled {
            for (event, entries) in events {
                for entry in *entries {
                    targets.push((*event, Arc::new(HookTarget::new(hooks, entry)?)));
                }
            }
        }
        Ok(Self {
            targets,
            update_interval: hooks.notify_update_timeout.limit(),
            close_silently: hooks.close_silently,
        })
    }

    /// The hooks of an event, in order.
    pub fn targets(&self, event: HookEvent) -> impl Iterator<Item = &Arc<HookTarget>> {
        self.targets.iter().filter(move |(of, _)| *of == event).map(|(_, target)| target)
    }

    /// Whether an event has a hook.
    pub fn has(&self, event: HookEvent) -> bool {
        self.targets(event).next().is_some()
    }

    /// Whether there is any hook.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// All hooks, with their events.
    pub fn all(&self) -> impl Iterator<Item = (HookEvent, &Arc<HookTarget>)> {
        self.targets.iter().map(|(event, target)| (*event, target))
    }

    /// How long the gating hooks of one question may take together.
    pub fn verdict_wait(&self) -> Duration {
        let of = |event| self.targets(event).map(|target| target.timeout).sum::<Duration>();
        let publish = of(HookEvent::Publish) + of(HookEvent::Forward);
        of(HookEvent::Connect) + publish.max(of(HookEvent::Play))
    }
}

impl HookEvent {
    /// The key in the configuration.
    pub fn key(self) -> &'static str {
        match self {
            Self::Connect => "on_connect",
            Self::Disconnect => "on_disconnect",
            Self::Close => "on_close",
            Self::Publish => "on_publish",
            Self::Unpublish => "on_unpublish",
            Self::PublishDone => "on_publish_done",
            Self::Play => "on_play",
            Self::Stop => "on_stop",
            Self::PlayDone => "on_play_done",
            Self::Done => "on_done",
            Self::Update => "on_update",
            Self::RecordDone => "on_record_done",
            Self::Message => "on_message",
            Self::Forward => "on_forward",
            Self::Relay => "on_relay",
        }
    }

    fn is_of_connection(self) -> bool {
        matches!(self, Self::Connect | Self::Disconnect | Self::Close)
    }
}

impl HookTarget {
    fn new(hooks: &Hooks, entry: &HookEntry) -> Result<Self, String> {
        let dialect = entry.dialect.unwrap_or(hooks.dialect);
        let default = match dialect {
            Dialect::Nginx => (NGINX_TIMEOUT, HookHttp::Http10),
            Dialect::Srs => (SRS_TIMEOUT, HookHttp::Http11),
        };
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let user_agent = text(&hooks.user_agent)
            .unwrap_or_else(|| format!("shardcast/{}", env!("CARGO_PKG_VERSION")));
        Ok(Self {
            url: HookUrl::parse(&entry.url)?,
            dialect,
            srs_version: hooks.srs_version,
            timeout: entry.timeout.map(|time| time.0).or(hooks.timeout.0).unwrap_or(default.0),
            on_failure: entry.on_failure.unwrap_or(hooks.on_failure),
            http: entry.http.unwrap_or(default.1),
            method: hooks.notify_method,
            event_headers: hooks.event_headers,
            repeat_connect_args: hooks.repeat_connect_args,
            secret: text(&hooks.secret),
            redirect: hooks.notify_redirect,
            relay_redirect: hooks.notify_relay_redirect,
            update_strict: hooks.notify_update_strict,
            retry: entry.retry.unwrap_or(hooks.retry),
            ca: text(entry.ca.as_deref().unwrap_or(&hooks.ca)),
            dns_cache: hooks.dns_cache.0,
            user_agent,
            server_id: text(&hooks.server_id),
        })
    }
}

impl HookUrl {
    /// From `http[s]://host[:port][/path][?query]`.
    ///
    /// # Errors
    /// A sentence about what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (is_tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err(format!("{text}: a hook's URL begins with http:// or https://")),
        };
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(format!("{text:?}: a URL holds no spaces or control characters"));
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(format!("{text}: names and passwords in URLs are not sent"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) =
                    rest.split_once(']').ok_or_else(|| format!("{text}: `[` without `]`"))?;
                (
                    host,
                    port.strip_prefix(':').or_else(|| Some(port).filter(|port| !port.is_empty())),
                )
            }
            None => authority.split_once(':').map_or((authority, None), |(h, p)| (h, Some(p))),
        };
        let port = match port {
            None => {
                if is_tls {
                    443
                } else {
                    80
                }
            }
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| format!("{text}: {port:?} is no port"))?,
        };
        if host.is_empty() {
            return Err(format!("{text}: the URL names no host"));
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self {
            is_tls,
            host: host.to_owned(),
            port,
            target: format!("{slash}{target}"),
            text: text.to_owned(),
        })
    }

    /// The host as a Host header writes it, without the port.
    pub fn host_text(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

fn all_events(hooks: &Hooks) -> Vec<(HookEvent, &[HookEntry])> {
    let mut events = stream_events(hooks);
    events.push((HookEvent::Connect, &hooks.on_connect));
    events.push((HookEvent::Disconnect, &hooks.on_disconnect));
    events.push((HookEvent::Close, &hooks.on_close));
    events.push((HookEvent::Message, &hooks.on_message));
    events
}

fn stream_events(hooks: &Hooks) -> Vec<(HookEvent, &[HookEntry])> {
    vec![
        (HookEvent::Publish, &hooks.on_publish),
        (HookEvent::Unpublish, &hooks.on_unpublish),
        (HookEvent::PublishDone, &hooks.on_publish_done),
        (HookEvent::Play, &hooks.on_play),
        (HookEvent::Stop, &hooks.on_stop),
        (HookEvent::PlayDone, &hooks.on_play_done),
        (HookEvent::Done, &hooks.on_done),
        (HookEvent::Update, &hooks.on_update),
        (HookEvent::RecordDone, &hooks.on_record_done),
        (HookEvent::Forward, &hooks.on_forward),
        (HookEvent::Relay, &hooks.on_relay),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, Sources};

    fn settings(toml: &str) -> Settings {
        let file = Some(("test.toml".to_owned(), toml.to_owned()));
        let sources = Sources { file, environment: Vec::new(), set: Vec::new() };
        Settings::load(&sources).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn urls(plan: &HookPlan, event: HookEvent) -> Vec<&str> {
        plan.targets(event).map(|target| target.url.text.as_str()).collect()
    }

    #[test]
    fn urls_are_taken_apart() {
        let table = [
            ("http://h", false, "h", 80, "/"),
            ("http://h?x=1", false, "h", 80, "/?x=1"),
            ("http://h:8080/a/b?x=1", false, "h", 8080, "/a/b?x=1"),
            ("https://h.example/cb", true, "h.example", 443, "/cb"),
            ("http://[::1]:81/cb", false, "::1", 81, "/cb"),
            ("http://[::1]/cb", false, "::1", 80, "/cb"),
        ];
        for (text, is_tls, host, port, target) in table {
            let url = HookUrl::parse(text).unwrap();
            let found = (url.is_tls, url.host.as_str(), url.port, url.target.as_str());
            assert_eq!(found, (is_tls, host, port, target), "{text}");
        }
        for wrong in
            ["ftp://h/", "http:///x", "http://h:x/", "http://h:0/", "http://u:p@h/", "http://h/a b"]
        {
            assert!(HookUrl::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn dialects_have_their_times_and_an_entry_may_differ() {
        let settings = settings(
            "[hooks]\non_publish = [\"http://a/\", { url = \"http://b/\", dialect = \"srs\" }, \
             { url = \"http://c/\", timeout = \"1s\", http = \"1.1\", on_failure = \"accept\" }]\n",
        );
        let app = settings.app("__defaultVhost__", "live", "_definst_");
        let targets: Vec<_> = app.hooks.targets(HookEvent::Publish).collect();
        assert_eq!(targets.len(), 3);
        assert_eq!((targets[0].timeout, targets[0].http), (NGINX_TIMEOUT, HookHttp::Http10));
        assert_eq!((targets[1].timeout, targets[1].http), (SRS_TIMEOUT, HookHttp::Http11));
        assert_eq!(targets[2].timeout, Duration::from_secs(1));
        assert_eq!(targets[2].on_failure, OnFailure::Accept);
        assert_eq!(app.hooks.verdict_wait(), Duration::from_secs(41));
    }

    #[test]
    fn connections_are_judged_by_the_vhost_in_nginx_and_by_the_app_in_srs() {
        let settings = settings(
            "[hooks]\non_connect = [\"http://n/\", { url = \"http://s/\", dialect = \"srs\" }]\n\
             [apps.live.hooks]\ndialect = \"srs\"\non_publish = [\"http://p/\"]\n\
             [apps.own.hooks]\non_connect = [{ url = \"http://o/\", dialect = \"srs\" }]\n\
             [vhosts.\"v\".hooks]\non_connect = [\"http://v/\"]\n",
        );
        let vhost = settings.connection_hooks("__defaultVhost__");
        assert_eq!(urls(&vhost, HookEvent::Connect), ["http://n/"]);
        assert_eq!(urls(&settings.connection_hooks("v"), HookEvent::Connect), ["http://v/"]);
        let app = |name| settings.app("__defaultVhost__", name, "_definst_");
        assert_eq!(urls(&app("live").hooks, HookEvent::Connect), ["http://s/"]);
        assert_eq!(urls(&app("own").hooks, HookEvent::Connect), ["http://o/"]);
    }

    #[test]
    fn hooks_that_are_switched_off_are_not_there() {
        let settings = settings("[hooks]\nenabled = false\non_publish = [\"http://a/\"]\n");
        assert!(settings.app("__defaultVhost__", "live", "_definst_").hooks.is_empty());
        assert!(settings.connection_hooks("__defaultVhost__").is_empty());
    }
}
