//! `[apps.NAME]` and `[vhosts."NAME"]`

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::hooks::Hooks;
use super::push::Push;
use super::value::{Bitrate, ByteSize, Net, Time};

/// `[vhosts."NAME"]`: the same tables as at the top level, for one virtual host.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Vhost {
    /// Further host names.
    pub aliases: Vec<String>,
    /// Apps of this vhost.
    pub apps: BTreeMap<String, App>,
    /// Hooks of this vhost.
    pub hooks: Hooks,
    /// Push channel of this vhost.
    pub push: Push,
    /// Access rules of the vhost's apps that have none of their own.
    pub access: Vec<AccessRule>,
}

/// `[apps.NAME]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct App {
    /// Preset of holds and turn.
    pub latency: Latency,
    /// Holds in place of the preset's.
    pub hold: Hold,
    /// How far back a log reaches.
    pub log_reach: Time,
    /// Most bytes of a group of pictures that are kept for joining viewers.
    pub gop_bytes: ByteSize,
    /// Most bits per second of a publisher; 0 is no limit.
    pub max_bitrate: Bitrate,
    /// Most connections of the app; 0 is no limit.
    pub max_connections: usize,
    /// Who may do what; the first rule that fits decides, without one all may.
    pub access: Vec<AccessRule>,
    /// Hosts of pages that may play; none is any.
    pub referer: Vec<String>,
    /// Publishers.
    pub publish: Publish,
    /// Players.
    pub play: Play,
    /// What holds for each viewer.
    pub viewer: Viewer,
    /// Hooks in place of the vhost's.
    pub hooks: Hooks,
    /// Whether clients need a push session; unset is as `push.required` says.
    pub push_required: Option<bool>,
    /// Targets that each stream of `NAME/_definst_` is sent to.
    pub push: Vec<Relay>,
    /// Sources that streams of `NAME/_definst_` are fetched from.
    pub pull: Vec<Relay>,
}

/// `apps.NAME.latency`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Latency {
    /// Holds 40/40 ms, turn 5 ms.
    Balanced,
    /// Holds 0/20 ms (video/audio), turn 2 ms.
    Realtime,
    /// Holds 340/340 ms, turn 50 ms.
    Throughput,
}

/// `apps.NAME.hold`
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Hold {
    /// Longest wait of a video message.
    pub video: Option<Time>,
    /// Longest wait of an audio message.
    pub audio: Option<Time>,
}

/// `apps.NAME.publish`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Publish {
    /// What a second publisher of a name gets.
    pub takeover: Takeover,
    /// Silence after which a publisher may be replaced.
    pub silent: Time,
    /// How long a lost publisher's viewers wait for it.
    pub resume: Time,
    /// Whether a publisher that said goodbye is waited for as well.
    pub resume_after_goodbye: bool,
    /// Silence after which a publisher is closed; 0 is never.
    pub idle_timeout: Time,
}

/// `apps.NAME.publish.takeover`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Takeover {
    /// The second publisher is refused.
    Reject,
    /// The first publisher is closed.
    Replace,
    /// The first publisher is closed if it has been silent.
    ReplaceWhenSilent,
}

/// `apps.NAME.play`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Play {
    /// What a player of a name without publisher gets.
    pub missing: Missing,
    /// How long it waits; 0 is for ever.
    pub wait_timeout: Time,
}

/// `apps.NAME.play.missing`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// NetStream.Play.StreamNotFound.
    Refuse,
    /// The player waits.
    Wait,
}

/// `apps.NAME.viewer`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Viewer {
    /// How far a viewer may be behind before it skips; at most half of `log_reach`.
    pub max_lag: Time,
    /// How long a viewer may take nothing; 0 is for ever.
    pub stall_timeout: Time,
    /// Cap of the kernel's send buffer.
    pub socket_buffer: ByteSize,
}

/// One access rule: `{ allow = "publish", from = "10.0.0.0/8" }` or `{ deny = … }`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "AccessRuleTable")]
pub struct AccessRule {
    /// Whether the rule allows.
    pub allow: bool,
    /// What it is about.
    pub action: RuleAction,
    /// Who it is about.
    pub from: Net,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessRuleTable {
    allow: Option<RuleAction>,
    deny: Option<RuleAction>,
    from: Net,
}

/// What an access rule speaks about.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum RuleAction {
    /// Both.
    All,
    /// Viewers.
    Play,
    /// Publishers.
    Publish,
}

/// One of `apps.NAME.push` or `apps.NAME.pull`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    /// `rtmp[s]://[user:password@]host[:port]/app[/instance][/stream]`
    #[serde(default)]
    pub url: String,
    /// Other servers, tried in turn when one fails.
    #[serde(default)]
    pub fallback: Vec<String>,
    /// PEM file of the certificates that `rtmps://` is verified with; none is the system's.
    #[serde(default)]
    pub ca: Option<String>,
    /// In place of `url`: an application, with its instance, of this server.
    #[serde(default)]
    pub app: Option<String>,
    /// Which streams; none is all.
    #[serde(default)]
    pub stream: Option<String>,
    /// Name at the other end in place of the stream's own.
    #[serde(default)]
    pub name: Option<String>,
    /// Query of the name at the other end.
    #[serde(default)]
    pub query: Option<String>,
    /// Publish type.
    #[serde(default, rename = "type")]
    pub publish_type: Option<String>,
    /// How far a target may be behind before it skips.
    #[serde(default)]
    pub buffer: Option<Time>,
    /// tcUrl in place of the one that follows from `url`.
    #[serde(default)]
    pub tcurl: Option<String>,
    /// pageUrl of the connect command.
    #[serde(default)]
    pub pageurl: Option<String>,
    /// swfUrl of the connect command.
    #[serde(default)]
    pub swfurl: Option<String>,
    /// flashVer of the connect command.
    #[serde(default)]
    pub flashver: Option<String>,
    /// Time between attempts.
    #[serde(default)]
    pub retry: Option<Time>,
    /// Whether streams that came from a relay are sent on.
    #[serde(default)]
    pub relayed: bool,
    /// Fetched from the start on, whether there are viewers or not; needs `stream`.
    #[serde(default, rename = "static")]
    pub is_static: bool,
}

impl Latency {
    /// (hold of video, hold of audio, shortest turn)
    pub const fn preset(self) -> (Duration, Duration, Duration) {
        let (video, audio, turn) = match self {
            Self::Balanced => (40, 40, 5),
            Self::Realtime => (0, 20, 2),
            Self::Throughput => (340, 340, 50),
        };
        (Duration::from_millis(video), Duration::from_millis(audio), Duration::from_millis(turn))
    }
}

impl AccessRule {
    /// Whether this rule speaks about `action` from `address`.
    pub fn fits(&self, action: RuleAction, address: IpAddr) -> bool {
        let about = self.action == RuleAction::All || self.action == action;
        about && self.from.contains(address)
    }
}

impl TryFrom<AccessRuleTable> for AccessRule {
    type Error = &'static str;

    fn try_from(table: AccessRuleTable) -> Result<Self, Self::Error> {
        let (allow, action) = match (table.allow, table.deny) {
            (Some(action), None) => (true, action),
            (None, Some(action)) => (false, action),
            _ => return Err("an access rule has either `allow` or `deny`"),
        };
        Ok(Self { allow, action, from: table.from })
    }
}

impl Default for App {
    fn default() -> Self {
        Self {
            latency: Latency::Balanced,
            hold: Hold::default(),
            log_reach: Time::from_secs(20),
            gop_bytes: ByteSize(8 << 20),
            max_bitrate: Bitrate(0),
            max_connections: 0,
            access: Vec::new(),
            referer: Vec::new(),
            publish: Publish::default(),
            play: Play::default(),
            viewer: Viewer::default(),
            hooks: Hooks::default(),
            push_required: None,
            push: Vec::new(),
            pull: Vec::new(),
        }
    }
}

impl Default for Publish {
    fn default() -> Self {
        Self {
            takeover: Takeover::ReplaceWhenSilent,
            silent: Time::from_secs(2),
            resume: Time::from_secs(15),
            resume_after_goodbye: false,
            idle_timeout: Time::from_secs(30),
        }
    }
}

impl Default for Play {
    fn default() -> Self {
        Self { missing: Missing::Wait, wait_timeout: Time::default() }
    }
}

impl Default for Viewer {
    fn default() -> Self {
        Self {
            max_lag: Time::from_secs(10),
            stall_timeout: Time::from_secs(20),
            socket_buffer: ByteSize(512 << 10),
        }
    }
}
