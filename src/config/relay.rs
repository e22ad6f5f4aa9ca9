//! One of `apps.NAME.push` or `apps.NAME.pull`, as a relay works with it.

use std::time::Duration;

use super::app::Relay;
use super::hook_plan::HookTarget;
use super::settings::AppSettings;
use crate::proto::name::{ConnectName, DEFAULT_VHOST, StreamName};
use crate::proto::rtmp::address::{AddressError, RtmpAddress};

/// Time between the first attempts grows up to this.
const RETRY_DEFAULT: Duration = Duration::from_secs(3);
/// The same between nodes of a cluster, which look up the owner each time.
const RETRY_IN_CLUSTER: Duration = Duration::from_secs(1);
/// A target that is further behind skips to the newest keyframe.
const BUFFER_DEFAULT: Duration = Duration::from_secs(2);

/// The least of that.
const BUFFER_MIN: Duration = Duration::from_millis(500);

/// A target or a source of streams.
#[derive(Clone, Debug, PartialEq)]
pub struct RelayRule {
    /// Where.
    pub place: Place,
    /// Other servers, tried in turn when one fails.
    pub fallback: Vec<Place>,
    /// PEM file of the certificates that TLS is verified with; `None` is the system's.
    pub ca: Option<String>,
    /// The instance whose streams it speaks of: an application's rules are those of its default one, so
    /// that what is sent to another instance is not sent on by the same rule.
    pub instance: String,
    /// Which streams; `None` is all.
    pub stream: Option<String>,
    /// Name at the other end in place of the stream's own.
    pub name: Option<String>,
    /// Query of the name at the other end.
    pub query: Option<String>,
    /// The word of the publish command.
    pub publish_type: String,
    /// How far a target may be behind.
    pub buffer: Duration,
    /// tcUrl in place of the address's.
    pub tc_url: Option<String>,
    /// pageUrl of the connect command.
    pub page_url: Option<String>,
    /// swfUrl of the connect command.
    pub swf_url: Option<String>,
    /// flashVer of the connect command.
    pub flash_version: Option<String>,
    /// The longest time between two attempts.
    pub retry: Duration,
    /// Streams that came from a relay are sent on as well.
    pub relayed: bool,
    /// Fetched from the start on, whether there are viewers or not.
    pub is_static: bool,
    /// The stream of the cluster that is fetched from its owner, as nodes name it to each other. The connection
    /// shows by it whose it is, see [`cluster_link`](crate::proto::rtmp::cluster_link).
    pub link: Option<String>,
}

/// The other end of a relay.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// Another server.
    Server(RtmpAddress),
    /// An application, with its instance, of this one.
    App {
        /// The application.
        app: String,
        /// The instance; `_definst_` when none was named.
        instance: String,
    },
}

impl RelayRule {
    /// Reads a rule of an app.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn new(rule: &Relay, log_reach: Duration, instance: &str) -> Result<Self, String> {
        let place = match (rule.url.as_str(), rule.app.as_deref()) {
            ("", None) => return Err("a relay has a `url` or an `app`".to_owned()),
            ("", Some(target)) => {
                let name = ConnectName::parse(target, "").map_err(|error| error.to_string())?;
                if name.app.is_empty() || !name.stream_prefix.is_empty() {
                    return Err(format!("`{target}` is no application with an instance"));
                }
                Place::App { app: name.app, instance: name.instance }
            }
            (_, Some(_)) => return Err("a relay has a `url` or an `app`, not both".to_owned()),
            (url, None) => server(url)?,
        };
        let buffer = rule.buffer.map_or(BUFFER_DEFAULT, |buffer| buffer.0);
        if buffer < BUFFER_MIN || buffer * 2 > log_reach {
            return Err(format!(
                "the buffer of a relay lies between 500ms and half of log_reach ({} ms)",
                log_reach.as_millis() / 2
            ));
        }
        if !rule.fallback.is_empty() && rule.app.is_some() {
            return Err("`fallback` is for a relay with a `url`".to_owned());
        }
        let fallback = rule.fallback.iter().map(|url| server(url)).collect::<Result<_, _>>()?;
        let retry = rule.retry.map_or(RETRY_DEFAULT, |retry| retry.0);
        if retry < Duration::from_millis(100) {
            return Err("a relay tries again after 100ms or more".to_owned());
        }
        if rule.is_static && rule.stream.is_none() {
            return Err("a relay with `static = true` names its `stream`".to_owned());
        }
        Ok(Self {
            place,
            fallback,
            ca: rule.ca.clone(),
            instance: instance.to_owned(),
            stream: rule.stream.clone(),
            name: rule.name.clone(),
            query: rule.query.clone(),
            publish_type: rule.publish_type.clone().unwrap_or_else(|| "live".to_owned()),
            buffer,
            tc_url: rule.tcurl.clone(),
            page_url: rule.pageurl.clone(),
            swf_url: rule.swfurl.clone(),
            flash_version: rule.flashver.clone(),
            retry,
            relayed: rule.relayed,
            is_static: rule.is_static,
            link: None,
        })
    }

    /// What fetches a stream of the cluster from its owner, a server whose address has no path.
    ///
    /// # Errors
    /// The address cannot be read.
    pub fn of_cluster(server: &str, name: &StreamName, link: String) -> Result<Self, AddressError> {
        let mut app = name.app_text();
        if name.vhost() != DEFAULT_VHOST {
            app = format!("{app}?vhost={}", name.vhost());
        }
        let mut address = RtmpAddress::parse(&format!("{server}/cluster"))?;
        address.app = app;
        address.stream = Some(name.stream().to_owned());
        Ok(Self {
            place: Place::Server(address),
            fallback: Vec::new(),
            ca: None,
            instance: name.instance().to_owned(),
            stream: Some(name.stream().to_owned()),
            name: None,
            query: None,
            publish_type: "live".to_owned(),
            buffer: BUFFER_DEFAULT,
            tc_url: None,
            page_url: None,
            swf_url: None,
            flash_version: None,
            retry: RETRY_IN_CLUSTER,
            relayed: false,
            is_static: false,
            link: Some(link),
        })
    }

    /// The rule of an address that a hook has named: it is verified like the hook, and all else is as in
    /// a rule without further keys.
    pub fn of_hook(address: RtmpAddress, hook: &HookTarget, app: &AppSettings) -> Self {
        Self {
            place: Place::Server(address),
            fallback: Vec::new(),
            ca: hook.ca.clone(),
            instance: String::new(),
            stream: None,
            name: None,
            query: None,
            publish_type: "live".to_owned(),
            buffer: BUFFER_DEFAULT.min(app.log_reach / 2),
            tc_url: None,
            page_url: None,
            swf_url: None,
            flash_version: None,
            retry: RETRY_DEFAULT,
            relayed: false,
            is_static: false,
            link: None,
        }
    }

    /// How many places it names.
    pub fn places(&self) -> usize {
        1 + self.fallback.len()
    }

    /// One of its places, counted from 0; one that is not there is the first.
    pub fn place_at(&self, at: usize) -> &Place {
        at.checked_sub(1).and_then(|at| self.fallback.get(at)).unwrap_or(&self.place)
    }

    /// Whether another rule leads to the same place, under the same name.
    pub fn leads_where(&self, other: &Self) -> bool {
        (&self.place, &self.name, &self.query) == (&other.place, &other.name, &other.query)
    }

    /// Whether the rule speaks of a stream.
    pub fn fits(&self, name: &StreamName) -> bool {
        self.instance == name.instance()
            && self.stream.as_deref().is_none_or(|stream| stream == name.stream())
    }

    /// The stream's name at the other end, without its query.
    pub fn name_there(&self, name: &StreamName) -> String {
        self.name.clone().unwrap_or_else(|| name.stream().to_owned())
    }
}

fn server(url: &str) -> Result<Place, String> {
    RtmpAddress::parse(url).map(Place::Server).map_err(|error| format!("{url}: {error}"))
}
