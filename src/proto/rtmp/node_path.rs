//! Which nodes a stream has passed on its way here, as nodes of this server tell each other: in the object
//! of `connect` and in `onMetaData`, under one key. A node that finds itself there refuses the stream: it
//! would send it round for ever.
//!
//! Servers of other makes keep the metadata at best; what they drop cannot be seen.

use crate::proto::amf0::{self, Value};

/// The key. Its value is text: the names of the nodes in order, each behind a comma but the first.
pub const NODES_PROPERTY: &str = "shardcastNodes";
/// A stream that has passed so many nodes goes no further.
pub const NODES_MAX: usize = 16;
/// How metadata begins: the AMF0 string `onMetaData`.
const METADATA_START: &[u8] = b"\x02\0\x0aonMetaData";
/// Longer names are not believed.
const NODE_BYTES_MAX: usize = 128;

/// The nodes, first the one that the publisher is connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePath(Vec<String>);

impl NodePath {
    /// Reads the text form. Names that no node would give itself are left out.
    pub fn parse(text: &str) -> Self {
        let is_name = |name: &&str| {
            (1..=NODE_BYTES_MAX).contains(&name.len())
                && name.bytes().all(|it| it.is_ascii_graphic())
        };
        Self(text.split(',').filter(is_name).take(NODES_MAX).map(str::to_owned).collect())
    }

    /// What a `connect` object or metadata says.
    pub fn of_properties(value: &Value) -> Self {
        value.property(NODES_PROPERTY).and_then(Value::as_str).map(Self::parse).unwrap_or_default()
    }

    /// What the body of a data message says, if it is `onMetaData`.
    pub fn of_metadata(payload: &[u8]) -> Self {
        match amf0::decode_all(payload) {
            Ok(values) if is_metadata(&values) => {
                values.get(1).map(Self::of_properties).unwrap_or_default()
            }
            _ => Self::default(),
        }
    }

    /// The node that it came from, or that asks for it.
    pub fn last(&self) -> Option<&str> {
        self.0.last().map(String::as_str)
    }

    /// Whether the stream came from no node.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the stream has passed this node, or as many as it may.
    pub fn ends_at(&self, node: &str) -> bool {
        self.0.len() >= NODES_MAX || self.0.iter().any(|passed| passed == node)
    }

    /// The same with one more node.
    #[must_use]
    pub fn with(&self, node: &str) -> Self {
        let mut nodes = self.0.clone();
        nodes.push(node.to_owned());
        Self(nodes)
    }

    /// The text form.
    pub fn to_text(&self) -> String {
        self.0.join(",")
    }
}

/// `onMetaData` as it is published to another server: behind `@setDataFrame`, with `node` added to the
/// nodes that the stream has passed. `None` for any other body.
pub fn metadata_to_publish(payload: &[u8], node: &str) -> Option<Vec<u8>> {
    // Data messages may come with every picture; only this one is worth a closer look.
    if !payload.starts_with(METADATA_START) {
        return None;
    }
    let mut values = amf0::decode_all(payload).ok().filter(|values| is_metadata(values))?;
    let nodes = values.get(1).map(NodePath::of_properties).unwrap_or_default().with(node);
    match values.get_mut(1) {
        Some(Value::Object(properties) | Value::EcmaArray(properties)) => {
            properties.retain(|(name, _)| name != NODES_PROPERTY);
            properties.push((NODES_PROPERTY.to_owned(), Value::from(nodes.to_text().as_str())));
        }
        _ => return None,
    }
    let mut out = Vec::with_capacity(payload.len() + 64);
    amf0::write_string(&mut out, "@setDataFrame");
    for value in &values {
        value.encode(&mut out);
    }
    Some(out)
}

fn is_metadata(values: &[Value]) -> bool {
    values.first().and_then(Value::as_str) == Some("onMetaData")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn metadata(properties: Value) -> Vec<u8> {
        let mut payload = Vec::new();
        amf0::write_string(&mut payload, "onMetaData");
        properties.encode(&mut payload);
        payload
    }

    #[test]
    fn metadata_says_where_it_has_been_and_keeps_all_else() {
        let sent = metadata(Value::ecma_array([("width", Value::from(640.0))]));
        let first = metadata_to_publish(&sent, "a").unwrap();
        let values = amf0::decode_all(&first).unwrap();
        assert_eq!(values[0], Value::from("@setDataFrame"));
        assert_eq!(
            values[2],
            Value::ecma_array([("width", Value::from(640.0)), (NODES_PROPERTY, Value::from("a"))])
        );
        let received = metadata(values[2].clone());
        assert!(NodePath::of_metadata(&received).ends_at("a"));
        assert!(!NodePath::of_metadata(&received).ends_at("b"));
        let second = metadata_to_publish(&received, "b").unwrap();
        let path = NodePath::of_properties(&amf0::decode_all(&second).unwrap()[2]);
        assert_eq!(path.to_text(), "a,b");
    }

    #[test]
    fn other_data_messages_are_no_metadata() {
        let mut cue = Vec::new();
        amf0::write_string(&mut cue, "onCuePoint");
        Value::object([(NODES_PROPERTY, Value::from("a"))]).encode(&mut cue);
        assert_eq!(metadata_to_publish(&cue, "a"), None);
        assert!(NodePath::of_metadata(&cue).is_empty());
        for junk in [&b""[..], b"\x02", &metadata(Value::Null)] {
            assert_eq!(metadata_to_publish(junk, "a"), None);
        }
    }

    #[test]
    fn a_path_of_the_longest_length_goes_no_further() {
        let text = (0..40).map(|number| format!("n{number}")).collect::<Vec<_>>().join(",");
        let path = NodePath::parse(&text);
        assert!(path.ends_at("somewhere else"));
        assert!(!NodePath::parse("n1,n2").ends_at("n3"));
        assert!(NodePath::parse(",,\u{7}x,").is_empty());
    }
}
