//! AMF0 values: what is decoded can be encoded and means the same again; what is kept is bounded.

use shardcast::limits::{AMF_REFERENCE_BYTES_MAX, AMF_VALUES_MAX};
use shardcast::proto::amf0::{self, Amf0Error, Value};

/// Bytes of one AMF0 message body.
pub fn run(data: &[u8]) {
    let first = amf0::decode_one(data);
    if let Ok((_, used)) = &first {
        assert!((1..=data.len()).contains(used));
    }
    let values = match amf0::decode_all(data) {
        Ok(values) => values,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    // A value that stands first refers to nothing before it.
    if let Some(value) = values.first() {
        let (alone, _) = first.expect("the first of several values can be read alone");
        assert_eq!(encoded([&alone]), encoded([value]));
    }
    let mut size = Size::default();
    for value in &values {
        size.add(value, 1);
    }
    assert!(size.values <= AMF_VALUES_MAX);
    // A byte that is no UTF-8 becomes a character of three.
    assert!(size.text_bytes <= 3 * (data.len() + AMF_REFERENCE_BYTES_MAX));
    round_trip(&values, &size);
}

/// NaN is not equal to itself: bytes are compared, not values.
fn round_trip(values: &[Value], size: &Size) {
    // Names of properties have 16 bits of length; replacement characters may have made one longer.
    if size.name_bytes_max > usize::from(u16::MAX) {
        return;
    }
    let bytes = encoded(values);
    match amf0::decode_all(&bytes) {
        Ok(again) => assert_eq!(encoded(&again), bytes),
        Err(error) => panic!("what was encoded cannot be decoded: {error}"),
    }
    // Cut anywhere it is truncated, or ends between two values.
    let cut = bytes.len() / 2;
    match amf0::decode_all(&bytes[..cut]) {
        Ok(fewer) => assert_eq!(encoded(&fewer), bytes[..cut]),
        Err(error) => assert_eq!(error, Amf0Error::Truncated),
    }
}

fn encoded<'a>(values: impl IntoIterator<Item = &'a Value>) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        value.encode(&mut out);
    }
    out
}

#[derive(Debug, Default)]
struct Size {
    values: usize,
    text_bytes: usize,
    name_bytes_max: usize,
}

impl Size {
    fn add(&mut self, value: &Value, depth: usize) {
        assert!(depth <= shardcast::limits::AMF_DEPTH_MAX);
        self.values += 1;
        for (name, value) in value.properties().unwrap_or_default() {
            self.name(name);
            self.add(value, depth + 1);
        }
        match value {
            Value::String(text) | Value::Xml(text) => self.text_bytes += text.len(),
            Value::TypedObject { class, .. } => self.name(class),
            Value::StrictArray(values) => {
                for value in values {
                    self.add(value, depth + 1);
                }
            }
            _ => {}
        }
        if let Some((name, _)) = value.properties().and_then(|all| all.first()) {
            assert!(value.property(name).is_some());
        }
        let kinds = [
            value.as_str().is_some(),
            value.as_f64().is_some(),
            value.as_bool().is_some(),
            value.properties().is_some(),
        ];
        assert!(kinds.iter().filter(|is_it| **is_it).count() <= 1);
    }

    fn name(&mut self, name: &str) {
        self.text_bytes += name.len();
        self.name_bytes_max = self.name_bytes_max.max(name.len());
    }
}
