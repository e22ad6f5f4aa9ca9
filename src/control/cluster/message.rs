//! The texts that nodes send each other over Redis, and the names of its keys and channels.
//!
//! | channel | what is said there |
//! |---|---|
//! | `shardcast:cluster:streams` | `EPOCH NODE ADDRESS STREAM`, by whoever has taken a stream |
//! | `shardcast:cluster:node:NODE` | JSON: a question of another node about a name, or its answer |
//! | `shardcast:cluster:push` | JSON: a message of the push channel |

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::leases::Owner;
use crate::proto::name::StreamName;
use crate::proto::push_message::{PushAddress, PushBody};
use crate::proto::push_name::PushName;

/// Where it is said who has taken which stream.
pub(super) const STREAMS_CHANNEL: &str = "shardcast:cluster:streams";
/// Where messages of the push channel go.
pub(super) const PUSH_CHANNEL: &str = "shardcast:cluster:push";
/// The channel of a node begins with it.
const NODE_CHANNEL: &str = "shardcast:cluster:node:";
/// The key of a stream begins with it.
const STREAM_KEY: &str = "shardcast:stream:";

/// The channel of a node.
pub(super) fn node_channel(node: &str) -> String {
    format!("{NODE_CHANNEL}{node}")
}

/// The key of a stream.
pub(super) fn stream_key(stream: &str) -> String {
    format!("{STREAM_KEY}{stream}")
}

/// A stream as nodes name it to each other: vhost, application, instance, stream.
pub(super) fn stream_text(name: &StreamName) -> String {
    format!("{}/{}/{}/{}", name.vhost(), name.app(), name.instance(), name.stream())
}

/// The stream of such a text.
pub(super) fn stream_of(text: &str) -> Option<StreamName> {
    let mut parts = text.splitn(4, '/');
    let mut next = || parts.next();
    let (vhost, app, instance, stream) = (next()?, next()?, next()?, next()?);
    StreamName::new(vhost, app, instance, stream).ok()
}

/// The owner of a stream as Redis keeps it: `EPOCH NODE ADDRESS`.
pub(super) fn owner_of(text: &str) -> Option<Owner> {
    let mut words = text.split(' ');
    let epoch = words.next()?.parse().ok()?;
    let (node, address) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some(Owner { node, address, epoch })
}

/// Who has taken which stream.
pub(super) fn announcement(text: &str) -> Option<(Owner, StreamName)> {
    let at = text.match_indices(' ').nth(2)?.0;
    Some((owner_of(text.get(..at)?)?, stream_of(text.get(at + 1..)?)?))
}

/// What one node says to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum NodeText {
    /// A publisher has come here for a stream that is yours: does yours have to go?
    Contest {
        /// Number of the question, of the asking node.
        id: u64,
        /// The asking node.
        from: String,
        /// The stream.
        stream: String,
        /// Number of the lease that stands in the way.
        epoch: u64,
        /// Address of the publisher.
        peer: SocketAddr,
    },
    /// The answer.
    Answer {
        /// Number of the question.
        id: u64,
        /// Why not, unless the stream is given up.
        refusal: Option<String>,
    },
}

impl NodeText {
    /// As it is sent.
    pub(super) fn to_text(&self) -> String {
        // A value without maps and floats is always JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `None` for what no node says.
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// A message of the push channel on its way to the members on other nodes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PushText {
    /// The node that was given it.
    pub(super) from: String,
    /// Its number among those of that node; 0 from nodes of earlier versions.
    pub(super) number: u64,
    /// Of which vhost.
    pub(super) vhost: String,
    /// For whom.
    pub(super) address: PushAddress,
    /// What.
    pub(super) body: PushBody,
}

#[derive(Serialize, Deserialize)]
struct PushJson {
    from: String,
    #[serde(default)]
    number: u64,
    vhost: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channel: Option<PushName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<PushName>,
    message: serde_json::Value,
}

impl PushText {
    /// As it is sent.
    pub(super) fn to_text(&self) -> String {
        let (channel, user) = match self.address.clone() {
            PushAddress::Channel(name) => (Some(name), None),
            PushAddress::User(name) => (None, Some(name)),
        };
        let message = match &self.body {
            PushBody::Text(text) => serde_json::Value::from(text.as_str()),
            PushBody::Json(value) => value.clone(),
        };
        let (from, vhost) = (self.from.clone(), self.vhost.clone());
        let json = PushJson { from, number: self.number, vhost, channel, user, message };
        serde_json::to_string(&json).unwrap_or_default()
    }

    /// `None` for what no node says.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let json: PushJson = serde_json::from_str(text).ok()?;
        let address = match (json.channel, json.user) {
            (Some(name), None) => PushAddress::Channel(name),
            (None, Some(name)) => PushAddress::User(name),
            _ => return None,
        };
        let body = PushBody::of_json(json.message);
        Some(Self { from: json.from, number: json.number, vhost: json.vhost, address, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_keep_their_names() {
        let table = [("__defaultVhost__", "live", "", "cam"), ("v.test", "a", "b", "x y/z:1")];
        for (vhost, app, instance, stream) in table {
            let name = StreamName::new(vhost, app, instance, stream).unwrap();
            assert_eq!(stream_of(&stream_text(&name)), Some(name.clone()));
            let text = format!("17 node.1 rtmp://h:1935 {}", stream_text(&name));
            let (owner, of) = announcement(&text).unwrap();
            assert_eq!((owner.epoch, owner.node.as_str(), of), (17, "node.1", name));
            assert_eq!(owner.address, "rtmp://h:1935");
        }
        for junk in ["", "1", "1 n", "1 n a", "x n a v/a/i/s", "1 n a v/a/i", "1 n a v//i/s"] {
            assert_eq!(announcement(junk), None, "{junk}");
        }
    }

    #[test]
    fn what_nodes_say_is_read_as_it_was_meant() {
        let contest = NodeText::Contest {
            id: 3,
            from: "a.1".to_owned(),
            stream: "v/a/i/s".to_owned(),
            epoch: 1_700_000_000_000_000,
            peer: "[::1]:5".parse().unwrap(),
        };
        let answers = [None, Some("it is live".to_owned())];
        let answers = answers.map(|refusal| NodeText::Answer { id: 3, refusal });
        for said in answers.into_iter().chain([contest]) {
            assert_eq!(NodeText::parse(&said.to_text()), Some(said));
        }
        assert_eq!(NodeText::parse("wake"), None);
        let bodies =
            [PushBody::Text("é\n".to_owned()), PushBody::Json(serde_json::json!([1, null]))];
        for (body, address) in bodies
            .into_iter()
            .zip([PushAddress::Channel(10.into()), PushAddress::User("ada".parse().unwrap())])
        {
            let (from, vhost) = ("a.1".to_owned(), "v".to_owned());
            let said = PushText { from, number: 7, vhost, address, body };
            assert_eq!(PushText::parse(&said.to_text()), Some(said));
        }
        assert_eq!(PushText::parse("{\"from\":\"a\",\"vhost\":\"v\",\"message\":1}"), None);
        let unnumbered = r#"{"from":"a","vhost":"v","user":"ada","message":1}"#;
        assert_eq!(PushText::parse(unnumbered).map(|it| it.number), Some(0));
    }
}
