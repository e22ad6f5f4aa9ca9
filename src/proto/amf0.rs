//! AMF0 values (Adobe "AMF 0 Specification", 2007): the encoding of RTMP commands and data.
//!
//! * Decoding is bounded: nesting by [`AMF_DEPTH_MAX`], values by [`AMF_VALUES_MAX`], and what
//!   references may repeat by [`AMF_REFERENCE_BYTES_MAX`]. A count on the wire reserves nothing.
//! * References (0x07) are resolved, so a [`Value`] is always a tree.
//! * The marker 0x11 stands before one value in AMF3, see [`amf3`].
//! * Text that is not UTF-8 is kept with replacement characters, not refused: encoders send
//!   titles in local code pages.

#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use thiserror::Error;

use super::amf3::{self, Amf3Error, Spent};
use crate::limits::{AMF_DEPTH_MAX, AMF_REFERENCE_BYTES_MAX, AMF_VALUES_MAX};

/// One AMF0 value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Marker 0x00: an IEEE 754 double.
    Number(f64),
    /// Marker 0x01.
    Boolean(bool),
    /// Markers 0x02 and 0x0C (long string).
    String(String),
    /// Marker 0x03: an anonymous object, properties in wire order.
    Object(Vec<(String, Self)>),
    /// Marker 0x05.
    Null,
    /// Marker 0x06.
    Undefined,
    /// Marker 0x08: an associative array. The count on the wire is not trusted.
    EcmaArray(Vec<(String, Self)>),
    /// Marker 0x0A.
    StrictArray(Vec<Self>),
    /// Marker 0x0B.
    Date {
        /// Milliseconds since the Unix epoch, UTC.
        unix_ms: f64,
        /// Reserved by the specification; normally 0.
        timezone: i16,
    },
    /// Marker 0x0F: an XML document as text.
    Xml(String),
    /// Marker 0x10: an object with a class name.
    TypedObject {
        /// The class name as registered by the sender.
        class: String,
        /// Properties in wire order.
        properties: Vec<(String, Self)>,
    },
    /// Marker 0x0D: the sender could not express the value.
    Unsupported,
}

/// Why bytes are not AMF0 that we take.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Amf0Error {
    /// The message ends inside a value.
    #[error("the AMF0 data ends inside a value")]
    Truncated,
    /// Nesting above [`AMF_DEPTH_MAX`].
    #[error("AMF0 values are nested deeper than {AMF_DEPTH_MAX} levels")]
    TooDeep,
    /// More than [`AMF_VALUES_MAX`] values.
    #[error("one AMF0 message holds more than {AMF_VALUES_MAX} values")]
    TooManyValues,
    /// A marker without a meaning in AMF0, or an object end outside an object.
    #[error("AMF0 marker {0:#04x} is not known here")]
    UnknownMarker(u8),
    /// MovieClip (0x04) or RecordSet (0x0E), which the specification reserves.
    #[error("AMF0 marker {0:#04x} is reserved and cannot be read")]
    ReservedMarker(u8),
    /// A value in AMF3, behind marker 0x11, cannot be read.
    #[error(transparent)]
    Amf3(#[from] Amf3Error),
    /// A reference to a value that does not exist or is not complete yet.
    #[error("AMF0 reference {0} points to no complete value")]
    BadReference(u16),
    /// References stand for more than [`AMF_REFERENCE_BYTES_MAX`] bytes.
    #[error("AMF0 references repeat more than {AMF_REFERENCE_BYTES_MAX} bytes")]
    ReferencesTooLarge,
}

/// Decodes values until the end of `bytes`. No bytes are no values.
///
/// # Errors
/// The first [`Amf0Error`]; values before it are dropped.
pub fn decode_all(bytes: &[u8]) -> Result<Vec<Value>, Amf0Error> {
    Decoder::new(bytes).all()
}

/// The same values without AMF3, for those who may not understand it; `None` when there is no AMF3 in
/// them.
///
/// # Errors
/// See [`Amf0Error`].
pub fn without_amf3(bytes: &[u8]) -> Result<Option<Vec<u8>>, Amf0Error> {
    let mut decoder = Decoder::new(bytes);
    let values = decoder.all()?;
    Ok(decoder.amf3.map(|_| {
        let mut out = Vec::with_capacity(2 * bytes.len());
        for value in values {
            value.encode(&mut out);
        }
        out
    }))
}

/// Decodes the first value of `bytes`; returns it and the number of bytes it took.
///
/// # Errors
/// See [`Amf0Error`].
pub fn decode_one(bytes: &[u8]) -> Result<(Value, usize), Amf0Error> {
    let mut decoder = Decoder::new(bytes);
    let value = decoder.value(1)?;
    Ok((value, decoder.position))
}

/// Appends a number.
pub fn write_number(out: &mut Vec<u8>, number: f64) {
    out.push(marker::NUMBER);
    out.extend_from_slice(&number.to_be_bytes());
}

/// Appends a boolean.
pub fn write_boolean(out: &mut Vec<u8>, boolean: bool) {
    out.extend_from_slice(&[marker::BOOLEAN, u8::from(boolean)]);
}

/// Appends a string, as a long string when it has more than 65,535 bytes.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    if let Ok(length) = u16::try_from(text.len()) {
        out.push(marker::STRING);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    } else {
        out.push(marker::LONG_STRING);
        write_long_text(out, text);
    }
}

/// Appends a null.
pub fn write_null(out: &mut Vec<u8>) {
    out.push(marker::NULL);
}

impl Value {
    /// An anonymous object from names and values.
    pub fn object<'a>(properties: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        Self::Object(owned(properties))
    }

    /// An associative array from names and values.
    pub fn ecma_array<'a>(properties: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        Self::EcmaArray(owned(properties))
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number of a number.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The truth of a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(boolean) => Some(*boolean),
            _ => None,
        }
    }

    /// The properties of an object, a typed object or an associative array.
    pub fn properties(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Object(properties)
            | Self::EcmaArray(properties)
            | Self::TypedObject { properties, .. } => Some(properties),
            _ => None,
        }
    }

    /// The property called `name`. Of several, the last: it is the one an assignment leaves.
    pub fn property(&self, name: &str) -> Option<&Self> {
        let properties = self.properties()?;
        properties.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Appends the value in wire form. Names of properties and classes have 16-bit lengths:
    /// longer ones are cut. References are never written.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(number) => write_number(out, *number),
            Self::Boolean(boolean) => write_boolean(out, *boolean),
            Self::String(text) => write_string(out, text),
            Self::Object(properties) => {
                out.push(marker::OBJECT);
                write_properties(out, properties);
            }
            Self::Null => write_null(out),
            Self::Undefined => out.push(marker::UNDEFINED),
            Self::EcmaArray(properties) => {
                out.push(marker::ECMA_ARRAY);
                out.extend_from_slice(&wire_count(properties.len()));
                write_properties(out, properties);
            }
            Self::StrictArray(values) => {
                out.push(marker::STRICT_ARRAY);
                out.extend_from_slice(&wire_count(values.len()));
                for value in values {
                    value.encode(out);
                }
            }
            Self::Date { unix_ms, timezone } => {
                out.push(marker::DATE);
                out.extend_from_slice(&unix_ms.to_be_bytes());
                out.extend_from_slice(&timezone.to_be_bytes());
            }
            Self::Xml(text) => {
                out.push(marker::XML);
                write_long_text(out, text);
            }
            Self::TypedObject { class, properties } => {
                out.push(marker::TYPED_OBJECT);
                write_name(out, class);
                write_properties(out, properties);
            }
            Self::Unsupported => out.push(marker::UNSUPPORTED),
        }
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

/// Type markers, section 2.1 of the specification.
mod marker {
    pub(super) const NUMBER: u8 = 0x00;
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const STRING: u8 = 0x02;
    pub(super) const OBJECT: u8 = 0x03;
    pub(super) const MOVIE_CLIP: u8 = 0x04;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const UNDEFINED: u8 = 0x06;
    pub(super) const REFERENCE: u8 = 0x07;
    pub(super) const ECMA_ARRAY: u8 = 0x08;
    pub(super) const OBJECT_END: u8 = 0x09;
    pub(super) const STRICT_ARRAY: u8 = 0x0A;
    pub(super) const DATE: u8 = 0x0B;
    pub(super) const LONG_STRING: u8 = 0x0C;
    pub(super) const UNSUPPORTED: u8 = 0x0D;
    pub(super) const RECORD_SET: u8 = 0x0E;
    pub(super) const XML: u8 = 0x0F;
    pub(super) const TYPED_OBJECT: u8 = 0x10;
    pub(super) const AVM_PLUS: u8 = 0x11;
}

/// Where an object or array stands in the message; references count these from 0.
struct Referable {
    start: usize,
    /// None while the value is being read: a reference to it would be a cycle.
    end: Option<usize>,
}

struct Decoder<'a> {
    bytes: &'a [u8],
    position: usize,
    spent: Spent,
    referables: Vec<Referable>,
    /// Reading a value again for a reference: it is in `referables` already.
    replaying: bool,
    /// There from the first value in AMF3 on.
    amf3: Option<amf3::Decoder<'a>>,
}

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            position: 0,
            spent: Spent::default(),
            referables: Vec::new(),
            replaying: false,
            amf3: None,
        }
    }

    fn all(&mut self) -> Result<Vec<Value>, Amf0Error> {
        let mut values = Vec::new();
        while !self.at_end() {
            values.push(self.value(1)?);
        }
        Ok(values)
    }

    fn at_end(&self) -> bool {
        self.position >= self.bytes.len()
    }

    fn value(&mut self, depth: usize) -> Result<Value, Amf0Error> {
        if depth > AMF_DEPTH_MAX {
            return Err(Amf0Error::TooDeep);
        }
        if self.spent.values >= AMF_VALUES_MAX {
            return Err(Amf0Error::TooManyValues);
        }
        self.spent.values += 1;
        let start = self.position;
        let kind = self.byte()?;
        Ok(match kind {
            marker::NUMBER => Value::Number(self.double()?),
            marker::BOOLEAN => Value::Boolean(self.byte()? != 0),
            marker::STRING => Value::String(self.short_text()?),
            marker::LONG_STRING => Value::String(self.long_text()?),
            marker::XML => Value::Xml(self.long_text()?),
            marker::NULL => Value::Null,
            marker::UNDEFINED => Value::Undefined,
            marker::UNSUPPORTED => Value::Unsupported,
            marker::DATE => {
                Value::Date { unix_ms: self.double()?, timezone: i16::from_be_bytes(self.array()?) }
            }
            marker::OBJECT | marker::ECMA_ARRAY | marker::STRICT_ARRAY | marker::TYPED_OBJECT => {
                self.referable(start, kind, depth)?
            }
            marker::REFERENCE => self.reference(depth)?,
            marker::MOVIE_CLIP | marker::RECORD_SET => return Err(Amf0Error::ReservedMarker(kind)),
            marker::AVM_PLUS => self.avm_plus(depth)?,
            _ => return Err(Amf0Error::UnknownMarker(kind)),
        })
    }

    /// One value in AMF3. Its references reach all AMF3 values of the message.
    fn avm_plus(&mut self, depth: usize) -> Result<Value, Amf0Error> {
        // It is counted there.
        self.spent.values -= 1;
        let amf3 = self.amf3.get_or_insert_with(|| amf3::Decoder::new(self.bytes));
        let (value, position) =
            amf3.value_at(self.position, depth, &mut self.spent, self.replaying)?;
        self.position = position;
        Ok(value)
    }

    fn referable(&mut self, start: usize, kind: u8, depth: usize) -> Result<Value, Amf0Error> {
        let index = self.referables.len();
        if !self.replaying {
            self.referables.push(Referable { start, end: None });
        }
        let value = match kind {
            marker::OBJECT => Value::Object(self.properties(depth)?),
            marker::ECMA_ARRAY => {
                let _count: [u8; 4] = self.array()?;
                Value::EcmaArray(self.properties(depth)?)
            }
            marker::STRICT_ARRAY => {
                let count = u32::from_be_bytes(self.array()?);
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(depth + 1)?);
                }
                Value::StrictArray(values)
            }
            _ => Value::TypedObject {
                class: self.short_text()?,
                properties: self.properties(depth)?,
            },
        };
        if !self.replaying
            && let Some(referable) = self.referables.get_mut(index)
        {
            referable.end = Some(self.position);
        }
        Ok(value)
    }

    fn reference(&mut self, depth: usize) -> Result<Value, Amf0Error> {
        let index = u16::from_be_bytes(self.array()?);
        let bad = Amf0Error::BadReference(index);
        let referable = self.referables.get(usize::from(index)).ok_or(bad)?;
        let start = referable.start;
        let end = referable.end.ok_or(bad)?;
        self.spent.replayed_bytes = self.spent.replayed_bytes.saturating_add(end - start);
        if self.spent.replayed_bytes > AMF_REFERENCE_BYTES_MAX {
            return Err(Amf0Error::ReferencesTooLarge);
        }
        let position = std::mem::replace(&mut self.position, start);
        let replaying = std::mem::replace(&mut self.replaying, true);
        let value = self.value(depth)?;
        self.replaying = replaying;
        self.position = position;
        Ok(value)
    }

    fn properties(&mut self, depth: usize) -> Result<Vec<(String, Value)>, Amf0Error> {
        let mut properties = Vec::new();
        loop {
            let name = self.short_text()?;
            if name.is_empty() && self.bytes.get(self.position) == Some(&marker::OBJECT_END) {
                self.position += 1;
                return Ok(properties);
            }
            properties.push((name, self.value(depth + 1)?));
        }
    }

    fn short_text(&mut self) -> Result<String, Amf0Error> {
        let length = u16::from_be_bytes(self.array()?);
        self.text(usize::from(length))
    }

    fn long_text(&mut self) -> Result<String, Amf0Error> {
        let length = u32::from_be_bytes(self.array()?);
        self.text(length as usize)
    }

    fn text(&mut self, length: usize) -> Result<String, Amf0Error> {
        let bytes = self.take(length)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn double(&mut self) -> Result<f64, Amf0Error> {
        Ok(f64::from_be_bytes(self.array()?))
    }

    fn byte(&mut self) -> Result<u8, Amf0Error> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Amf0Error> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| Amf0Error::Truncated)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Amf0Error> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let bytes = rest.get(..length).ok_or(Amf0Error::Truncated)?;
        self.position += length;
        Ok(bytes)
    }
}

fn owned<'a>(properties: impl IntoIterator<Item = (&'a str, Value)>) -> Vec<(String, Value)> {
    properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn wire_count(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

fn write_properties(out: &mut Vec<u8>, properties: &[(String, Value)]) {
    for (name, value) in properties {
        write_name(out, name);
        value.encode(out);
    }
    out.extend_from_slice(&[0, 0, marker::OBJECT_END]);
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    let mut cut = name.len().min(usize::from(u16::MAX));
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    let name = name.get(..cut).unwrap_or_default();
    let length = u16::try_from(name.len()).unwrap_or_default();
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(name.as_bytes());
}

fn write_long_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&wire_count(text.len()));
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        value.encode(&mut out);
        out
    }

    #[test]
    fn known_bytes_decode() {
        let bytes = [
            &[0x02, 0, 7][..],
            b"connect",
            &[0x00, 0x3F, 0xF0, 0, 0, 0, 0, 0, 0],
            &[0x03, 0, 3],
            b"app",
            &[0x02, 0, 4],
            b"live",
            &[0, 0, 9],
            &[0x05, 0x06, 0x01, 1],
        ]
        .concat();
        let values = decode_all(&bytes).unwrap();
        assert_eq!(
            values,
            [
                Value::from("connect"),
                Value::from(1.0),
                Value::object([("app", Value::from("live"))]),
                Value::Null,
                Value::Undefined,
                Value::from(true),
            ]
        );
        let again: Vec<u8> = values.iter().flat_map(encoded).collect();
        assert_eq!(again, bytes);
    }

    #[test]
    fn the_count_of_an_ecma_array_is_not_trusted() {
        let mut bytes = encoded(&Value::ecma_array([("width", Value::from(640.0))]));
        bytes[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
        let (value, used) = decode_one(&bytes).unwrap();
        assert_eq!(value.property("width").and_then(Value::as_f64), Some(640.0));
        assert_eq!(used, bytes.len());
    }

    #[test]
    fn a_huge_strict_array_count_ends_as_truncated() {
        let bytes = [0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x05];
        assert_eq!(decode_all(&bytes), Err(Amf0Error::Truncated));
    }

    #[test]
    fn an_object_without_its_end_is_an_error() {
        let bytes = encoded(&Value::object([("a", Value::Null)]));
        for length in 1..bytes.len() {
            assert_eq!(decode_all(&bytes[..length]), Err(Amf0Error::Truncated), "{length} bytes");
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_kept_with_replacements() {
        let (value, _) = decode_one(&[0x02, 0, 3, b'a', 0xFF, b'b']).unwrap();
        assert_eq!(value, Value::from("a\u{FFFD}b"));
    }

    #[test]
    fn long_strings_have_their_own_marker() {
        let short = Value::String("x".repeat(65_535));
        let long = Value::String("x".repeat(65_536));
        assert_eq!(encoded(&short)[0], 0x02);
        assert_eq!(encoded(&long)[0], 0x0C);
        assert_eq!(decode_all(&encoded(&long)).unwrap(), [long]);
    }

    #[test]
    fn names_that_are_too_long_are_cut_between_characters() {
        let value = Value::Object(vec![("é".repeat(40_000), Value::Null)]);
        let cut = Value::Object(vec![("é".repeat(32_767), Value::Null)]);
        assert_eq!(decode_all(&encoded(&value)).unwrap(), [cut]);
    }

    #[test]
    fn the_last_of_equal_names_counts() {
        let value = Value::object([("a", Value::from(1.0)), ("a", Value::from(2.0))]);
        assert_eq!(value.property("a"), Some(&Value::from(2.0)));
        assert_eq!(Value::Null.property("a"), None);
    }

    #[test]
    fn references_are_resolved() {
        let inner = Value::object([("x", Value::from(1.0))]);
        let mut bytes = vec![0x0A, 0, 0, 0, 2];
        inner.encode(&mut bytes);
        bytes.extend_from_slice(&[0x07, 0, 1]);
        // A second top-level value may refer to the first one.
        bytes.extend_from_slice(&[0x07, 0, 0]);
        let array = Value::StrictArray(vec![inner.clone(), inner]);
        assert_eq!(decode_all(&bytes).unwrap(), [array.clone(), array]);
    }

    #[test]
    fn cyclic_and_unknown_references_are_refused() {
        let cycle = [0x0A, 0, 0, 0, 1, 0x07, 0, 0];
        assert_eq!(decode_all(&cycle), Err(Amf0Error::BadReference(0)));
        assert_eq!(decode_all(&[0x07, 0, 9]), Err(Amf0Error::BadReference(9)));
    }

    #[test]
    fn references_cannot_multiply_memory() {
        let big = Value::object([("x", Value::String("y".repeat(40_000)))]);
        let mut bytes = encoded(&big);
        bytes.extend_from_slice(&[0x07, 0, 0, 0x07, 0, 0]);
        assert_eq!(decode_all(&bytes), Err(Amf0Error::ReferencesTooLarge));
        // Arrays of references to arrays of references: stopped by the number of values.
        let mut bomb = encoded(&Value::StrictArray(Vec::new()));
        for level in 0_u8..12 {
            bomb.extend_from_slice(&[0x0A, 0, 0, 0, 10]);
            for _ in 0..10 {
                bomb.extend_from_slice(&[0x07, 0, level]);
            }
        }
        assert!(decode_all(&bomb).is_err());
    }

    #[test]
    fn depth_and_number_of_values_are_capped() {
        let nested = |depth: usize| {
            let mut value = Value::Null;
            for _ in 1..depth {
                value = Value::StrictArray(vec![value]);
            }
            encoded(&value)
        };
        assert!(decode_all(&nested(AMF_DEPTH_MAX)).is_ok());
        assert_eq!(decode_all(&nested(AMF_DEPTH_MAX + 1)), Err(Amf0Error::TooDeep));
        assert!(decode_all(&[0x05; AMF_VALUES_MAX]).is_ok());
        assert_eq!(decode_all(&[0x05; AMF_VALUES_MAX + 1]), Err(Amf0Error::TooManyValues));
    }

    #[test]
    fn reserved_and_amf3_markers_have_their_own_errors() {
        assert_eq!(decode_all(&[0x04]), Err(Amf0Error::ReservedMarker(0x04)));
        assert_eq!(decode_all(&[0x0E]), Err(Amf0Error::ReservedMarker(0x0E)));
        assert_eq!(decode_all(&[0x11, 0x42]), Err(Amf0Error::Amf3(Amf3Error::UnknownMarker(0x42))));
        assert_eq!(decode_all(&[0x09]), Err(Amf0Error::UnknownMarker(0x09)));
        assert_eq!(decode_all(&[0x42]), Err(Amf0Error::UnknownMarker(0x42)));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let number = any::<f64>().prop_filter("NaN is not equal to itself", |n| !n.is_nan());
        let leaf = prop_oneof![
            number.clone().prop_map(Value::Number),
            any::<bool>().prop_map(Value::Boolean),
            ".{0,40}".prop_map(Value::String),
            ".{0,40}".prop_map(Value::Xml),
            Just(Value::Null),
            Just(Value::Undefined),
            Just(Value::Unsupported),
            (number, any::<i16>())
                .prop_map(|(unix_ms, timezone)| Value::Date { unix_ms, timezone }),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            let properties = prop::collection::vec((".{0,10}", inner.clone()), 0..6);
            prop_oneof![
                properties.clone().prop_map(Value::Object),
                properties.clone().prop_map(Value::EcmaArray),
                prop::collection::vec(inner, 0..6).prop_map(Value::StrictArray),
                (".{0,10}", properties)
                    .prop_map(|(class, properties)| Value::TypedObject { class, properties }),
            ]
        })
    }

    proptest! {
        #[test]
        fn encoding_and_decoding_are_inverse(values in prop::collection::vec(any_value(), 0..5)) {
            let bytes: Vec<u8> = values.iter().flat_map(encoded).collect();
            prop_assert_eq!(decode_all(&bytes).unwrap(), values.clone());
            if let Some(first) = values.first() {
                let (value, used) = decode_one(&bytes).unwrap();
                prop_assert_eq!(&value, first);
                prop_assert_eq!(used, encoded(first).len());
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(0_u8..0x14, 0..300)) {
            let _ = decode_all(&bytes);
        }

        #[test]
        fn damaged_values_never_panic(
            value in any_value(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = encoded(&value);
            let index = at.index(bytes.len());
            bytes[index] = byte;
            let _ = decode_all(&bytes);
        }
    }
}
