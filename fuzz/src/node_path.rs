//! Which nodes a stream has passed: the body of a data message, from another server or a publisher. And the
//! word by which nodes of a cluster know each other.

use shardcast::proto::amf0;
use shardcast::proto::rtmp::cluster_link::{stream_of, word};
use shardcast::proto::rtmp::node_path::{NODES_MAX, NodePath, metadata_to_publish};

/// The body of a data message.
pub fn run(data: &[u8]) {
    link(&String::from_utf8_lossy(data));
    let before = NodePath::of_metadata(data);
    assert!(before.to_text().split(',').count() <= NODES_MAX);
    assert_eq!(NodePath::parse(&before.to_text()), before);
    let Some(published) = metadata_to_publish(data, "here") else { return };
    let mut command = Vec::new();
    amf0::write_string(&mut command, "@setDataFrame");
    let body = published.strip_prefix(command.as_slice()).expect("it is published as metadata");
    let after = NodePath::of_metadata(body);
    assert!(after.ends_at("here") && !after.is_empty());
    if before.to_text().split(',').count() < NODES_MAX {
        assert_eq!(after, before.with("here"));
    }
    // All else stays as it was.
    let (sent, got) = (amf0::decode_all(data), amf0::decode_all(body));
    let (sent, got) = (sent.expect("it was read"), got.expect("it was written"));
    assert_eq!(sent.len(), got.len());
}

/// A stream that a word is for, and a word that somebody says.
fn link(text: &str) {
    let right = word("secret", "node", text, 1_000);
    assert_eq!(stream_of(&right, "secret", "node", 1_030), Some(text));
    assert_eq!(stream_of(&right, "another", "node", 1_030), None);
    assert_eq!(stream_of(&right, "secret", "node", 1_100), None);
    assert_eq!(stream_of(text, "secret", "node", 1_000), None);
    // With a time, and as many digits as a word has.
    let padding = std::iter::repeat('0');
    let digits: String = text.chars().filter(char::is_ascii).chain(padding).take(64).collect();
    assert_eq!(stream_of(&format!("1000.{digits}.{text}"), "secret", "node", 1_000), None);
}
