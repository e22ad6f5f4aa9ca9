//! Which nodes a stream has passed: the body of a data message, from another server or a publisher.

use shardcast::proto::amf0;
use shardcast::proto::rtmp::node_path::{NODES_MAX, NodePath, metadata_to_publish};

/// The body of a data message.
pub fn run(data: &[u8]) {
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
