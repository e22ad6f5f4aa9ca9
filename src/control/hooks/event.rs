//! What is told to hooks: one event of one connection, in no dialect yet.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::config::{Dialect, HookEvent, HookTarget};
use crate::control::relays::RelayChange;
use crate::session::{ClientId, ClientInfo, RELAY_FLASH_VERSION};

/// A connection as hooks know it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Caller {
    /// What the client said of itself; its id is the session's. Empty before connect.
    pub info: Arc<ClientInfo>,
    /// The client's address.
    pub address: IpAddr,
    /// Milliseconds of the server's clock when the connection was accepted, cut to 32 bits.
    pub epoch_ms: u32,
}

/// A publish or play as the client asked for it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StreamFacts {
    /// The name as sent, without the query, or as a hook renamed it.
    pub name: String,
    /// The query as sent, without `?`.
    pub args: String,
    /// Which of the two.
    pub kind: StreamKind,
}

/// Publish or play, with the command's further arguments.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum StreamKind {
    /// Publish.
    Publish {
        /// `live`, `record`, `append` or what else was sent; empty when nothing was.
        publish_type: String,
    },
    /// Play, in milliseconds or with the special values of the command.
    Play {
        /// As sent.
        start: f64,
        /// As sent.
        duration: f64,
        /// As sent.
        reset: bool,
    },
}

/// What an event is about beside its connection.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Subject {
    /// The connection alone; SRS counts its bytes at the end.
    Connection {
        /// Bytes from the client.
        bytes_in: u64,
        /// Bytes to the client.
        bytes_out: u64,
    },
    /// A stream that is asked for, or has ended.
    Stream(Arc<StreamFacts>),
    /// A stream that goes on.
    Update {
        /// The stream.
        stream: Arc<StreamFacts>,
        /// Seconds since it began.
        seconds: u64,
        /// Last timestamp of its media, in milliseconds.
        timestamp_ms: u32,
    },
    /// A relay whose state has changed.
    Relay {
        /// The stream.
        stream: Arc<StreamFacts>,
        /// All that is known.
        change: Arc<RelayChange>,
    },
    /// A recording that is complete.
    #[cfg_attr(not(test), expect(dead_code, reason = "told when there are recordings"))]
    Recording {
        /// The stream.
        stream: Arc<StreamFacts>,
        /// Which recorder; empty for the only one.
        recorder: String,
        /// The file.
        path: String,
    },
}

/// One event.
#[derive(Clone, Debug)]
pub(super) struct Occurrence {
    /// Different for all events of the process, the same for all attempts to tell it.
    pub id: u64,
    /// What has happened.
    pub event: HookEvent,
    /// Of which connection.
    pub caller: Arc<Caller>,
    /// About what.
    pub subject: Subject,
}

/// A request on its way to a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HookRequest {
    /// Head and body.
    pub bytes: Vec<u8>,
    /// The connection may be used again.
    pub keep_alive: bool,
}

/// What a gating hook's answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Let the client do it.
    Accept,
    /// Let it do so under another name.
    Rename(String),
    /// Let it do so, and relay the stream: send what is published there, fetch what is played from there.
    Relay(String),
    /// Do not, and why, for the log.
    Refuse(String),
    /// The back end could not judge, and why.
    Fail(String),
}

/// Identity of the process, for what tells servers and starts apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// SRS's `server_id` when the operator gave none.
    pub server: String,
    /// SRS's `service_id`.
    pub service: String,
}

/// What hooks are told of a relay: it speaks as a connection of its own, under the name that nginx-rtmp's
/// relays have.
pub(super) fn of_relay(change: &RelayChange) -> (Arc<Caller>, Subject) {
    let name = &change.name;
    let info = ClientInfo {
        id: change.client,
        vhost: name.vhost().to_owned(),
        app: name.app().to_owned(),
        instance: name.instance().to_owned(),
        app_text: name.app_text(),
        tc_url: change.url.clone(),
        flash_version: RELAY_FLASH_VERSION.to_owned(),
        is_relay: true,
        ..ClientInfo::default()
    };
    let address =
        change.peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |it| it.ip().to_canonical());
    let caller = Caller { info: Arc::new(info), address, epoch_ms: 0 };
    let kind = StreamKind::Publish { publish_type: String::new() };
    let (name, args) = (name.stream().to_owned(), String::new());
    let stream = Arc::new(StreamFacts { name, args, kind });
    let change = Arc::new(change.clone());
    (Arc::new(caller), Subject::Relay { stream, change })
}

impl Subject {
    /// The stream that it is about.
    pub(super) fn stream(&self) -> Option<&StreamFacts> {
        match self {
            Self::Connection { .. } => None,
            Self::Stream(stream)
            | Self::Update { stream, .. }
            | Self::Relay { stream, .. }
            | Self::Recording { stream, .. } => Some(stream),
        }
    }
}

impl Occurrence {
    /// The request that tells a hook of this event for the `attempt`-th time.
    pub(super) fn request(
        &self,
        target: &HookTarget,
        identity: &Identity,
        attempt: u32,
    ) -> HookRequest {
        match (target.dialect, self.event) {
            // nginx-rtmp has no such question.
            (_, HookEvent::Forward) | (Dialect::Srs, _) => {
                super::srs::request(self, target, identity, attempt)
            }
            (Dialect::Nginx, _) => super::nginx::request(self, target, identity, attempt),
        }
    }

    /// The header lines that neither original sends: `body` is what is signed.
    pub(super) fn extra_headers(
        &self,
        target: &HookTarget,
        identity: &Identity,
        attempt: u32,
        body: &str,
    ) -> String {
        extra_headers(target, identity, (self.id, self.caller.info.id), attempt, body)
    }
}

/// The header lines of an event, which has a number and belongs to a session: `body` is what is signed.
pub(super) fn extra_headers(
    target: &HookTarget,
    identity: &Identity,
    (event, session): (u64, ClientId),
    attempt: u32,
    body: &str,
) -> String {
    use std::fmt::Write;
    let mut lines = String::new();
    // Writing to a String does not fail.
    if target.event_headers {
        let _ = write!(
            lines,
            "X-Shardcast-Event: {}-{event}\r\nX-Shardcast-Session: {session}\r\nX-Shardcast-Attempt: {attempt}\r\n",
            identity.service
        );
    }
    if let Some(secret) = &target.secret {
        let _ = write!(lines, "X-Shardcast-Signature: sha256={}\r\n", sign(secret, body));
    }
    lines
}

impl Identity {
    /// A new identity, from random bytes.
    pub(super) fn new(random: [u8; 16]) -> Self {
        let text = |bytes: &[u8]| -> String {
            const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
            bytes.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % 36])).collect()
        };
        Self { server: format!("vid-{}", text(&random[..7])), service: text(&random[7..15]) }
    }
}

/// HMAC-SHA256 of `body`, as hexadecimal digits.
fn sign(secret: &str, body: &str) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    // A key of any length is valid.
    let Ok(mut mac) = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(body.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{HookPlan, Settings, Sources};

    /// The only hook of `event` in a `[hooks]` table.
    pub(in crate::control::hooks) fn target(toml: &str, event: HookEvent) -> Arc<HookTarget> {
        let file = Some(("test.toml".to_owned(), format!("[hooks]\n{toml}\n")));
        let sources = Sources { file, environment: Vec::new(), set: Vec::new() };
        let settings = Settings::load(&sources).unwrap_or_else(|errors| panic!("{errors:?}"));
        let app = settings.app("__defaultVhost__", "live", "_definst_");
        let connections = settings.connection_hooks("__defaultVhost__");
        let plans: [&HookPlan; 2] = [&app.hooks, &connections];
        let found = plans.iter().find_map(|plan| plan.targets(event).next());
        Arc::clone(found.expect("a hook of this event"))
    }

    pub(in crate::control::hooks) fn identity() -> Identity {
        Identity { server: "vid-1234567".to_owned(), service: "abcdefgh".to_owned() }
    }

    #[test]
    fn signatures_are_those_of_rfc_4231() {
        // Test case 2.
        assert_eq!(
            sign("Jefe", "what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn an_identity_is_made_of_letters_and_digits() {
        let identity = Identity::new(*b"0123456789abcdef");
        assert_eq!((identity.server.len(), identity.service.len()), (11, 8));
        assert!(identity.service.chars().all(|c| c.is_ascii_alphanumeric()));
    }
}
