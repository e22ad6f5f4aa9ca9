//! AMF3 values (Adobe "AMF 3 Specification", 2013): what Flash clients of object encoding 3 put after
//! the marker 0x11 into AMF0 messages. Only read: every such client understands answers in AMF0.
//!
//! * Values become [`Value`], the tree of AMF0. Integers are numbers, vectors are strict arrays,
//!   dictionaries and arrays with names are associative arrays; AMF0 has nothing for a byte array.
//! * Decoding is bounded like that of AMF0: nesting, values and names, and the bytes that references
//!   may repeat. A count on the wire reserves nothing.
//! * References to strings, objects and traits reach back to the beginning of the message, as in
//!   Adobe's own reader. A reference to a value that is not complete (a cycle) is refused.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use std::rc::Rc;

use thiserror::Error;

use super::amf0::Value;
use crate::limits::{AMF_DEPTH_MAX, AMF_REFERENCE_BYTES_MAX, AMF_VALUES_MAX};

/// Classes that write themselves, but only wrap one value.
const WRAPPERS: [&[u8]; 3] = [
    b"flex.messaging.io.ArrayCollection",
    b"flex.messaging.io.ArrayList",
    b"flex.messaging.io.ObjectProxy",
];

/// Why bytes are not AMF3 that we take.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Amf3Error {
    /// The message ends inside a value.
    #[error("the AMF3 data ends inside a value")]
    Truncated,
    /// Nesting above [`AMF_DEPTH_MAX`].
    #[error("AMF3 values are nested deeper than {AMF_DEPTH_MAX} levels")]
    TooDeep,
    /// More than [`AMF_VALUES_MAX`] values and names of traits.
    #[error("one AMF3 message holds more than {AMF_VALUES_MAX} values")]
    TooManyValues,
    /// A marker without a meaning.
    #[error("AMF3 marker {0:#04x} is not known")]
    UnknownMarker(u8),
    /// A reference to something that does not exist or is not complete yet.
    #[error("AMF3 reference {0} points to nothing complete")]
    BadReference(u32),
    /// References stand for more than [`AMF_REFERENCE_BYTES_MAX`] bytes.
    #[error("AMF3 references repeat more than {AMF_REFERENCE_BYTES_MAX} bytes")]
    ReferencesTooLarge,
    /// An object in a form that only its class knows.
    #[error("an AMF3 object has a form of its own class, which cannot be read")]
    Externalizable,
}

/// What one message may still hold; AMF0 and AMF3 values of a message share it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    /// Values read.
    pub(super) values: usize,
    /// Bytes that references have repeated.
    pub(super) replayed_bytes: usize,
}

/// Reads the AMF3 values of one message.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    bytes: &'a [u8],
    position: usize,
    spent: Spent,
    /// Reading a value again for a reference: what it defines is in the tables already.
    replaying: bool,
    strings: Vec<&'a [u8]>,
    objects: Vec<Referable>,
    traits: Vec<Rc<Traits<'a>>>,
}

/// Where a value stands that references may name.
#[derive(Clone, Copy, Debug)]
struct Referable {
    /// Its marker.
    start: usize,
    /// None while the value is being read.
    end: Option<usize>,
}

/// What objects of a class have in common.
#[derive(Debug)]
struct Traits<'a> {
    class: &'a [u8],
    names: Vec<&'a [u8]>,
    is_dynamic: bool,
    is_externalizable: bool,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            position: 0,
            spent: Spent::default(),
            replaying: false,
            strings: Vec::new(),
            objects: Vec::new(),
            traits: Vec::new(),
        }
    }

    /// Reads the value at `position`; returns it and the position behind it. `replaying` says that it
    /// has been read before.
    ///
    /// # Errors
    /// See [`Amf3Error`].
    pub(super) fn value_at(
        &mut self,
        position: usize,
        depth: usize,
        spent: &mut Spent,
        replaying: bool,
    ) -> Result<(Value, usize), Amf3Error> {
        self.position = position;
        self.spent = *spent;
        self.replaying = replaying;
        let value = self.value(depth)?;
        *spent = self.spent;
        Ok((value, self.position))
    }

    fn value(&mut self, depth: usize) -> Result<Value, Amf3Error> {
        if depth > AMF_DEPTH_MAX {
            return Err(Amf3Error::TooDeep);
        }
        self.count()?;
        let start = self.position;
        let kind = self.byte()?;
        Ok(match kind {
            marker::UNDEFINED => Value::Undefined,
            marker::NULL => Value::Null,
            marker::FALSE => Value::Boolean(false),
            marker::TRUE => Value::Boolean(true),
            marker::INTEGER => Value::Number(f64::from(signed(self.u29()?))),
            marker::DOUBLE => Value::Number(self.double()?),
            marker::STRING => Value::String(self.text()?),
            marker::XML_DOCUMENT
            | marker::DATE
            | marker::ARRAY
            | marker::OBJECT
            | marker::XML
            | marker::BYTE_ARRAY
            | marker::VECTOR_INT..=marker::VECTOR_OBJECT
            | marker::DICTIONARY => self.referable(start, kind, depth)?,
            _ => return Err(Amf3Error::UnknownMarker(kind)),
        })
    }

    /// A value that is either written out or a reference to an earlier one.
    fn referable(&mut self, start: usize, kind: u8, depth: usize) -> Result<Value, Amf3Error> {
        let head = self.u29()?;
        let (is_inline, rest) = (head & 1 == 1, head >> 1);
        if !is_inline {
            return self.reference(rest, depth);
        }
        let index = self.objects.len();
        if !self.replaying {
            self.objects.push(Referable { start, end: None });
        }
        let length = rest as usize;
        let value = match kind {
            marker::XML | marker::XML_DOCUMENT => Value::Xml(lossy(self.take(length)?)),
            marker::DATE => Value::Date { unix_ms: self.double()?, timezone: 0 },
            marker::BYTE_ARRAY => {
                self.take(length)?;
                Value::Unsupported
            }
            marker::ARRAY => self.array(length, depth)?,
            marker::OBJECT => self.object(rest, depth)?,
            marker::DICTIONARY => self.dictionary(length, depth)?,
            _ => self.vector(kind, length, depth)?,
        };
        if !self.replaying
            && let Some(referable) = self.objects.get_mut(index)
        {
            referable.end = Some(self.position);
        }
        Ok(value)
    }

    fn reference(&mut self, index: u32, depth: usize) -> Result<Value, Amf3Error> {
        let bad = Amf3Error::BadReference(index);
        let Referable { start, end } = *self.objects.get(index as usize).ok_or(bad)?;
        self.repeat(end.ok_or(bad)? - start)?;
        let position = std::mem::replace(&mut self.position, start);
        let replaying = std::mem::replace(&mut self.replaying, true);
        let value = self.value(depth)?;
        self.replaying = replaying;
        self.position = position;
        Ok(value)
    }

    fn array(&mut self, length: usize, depth: usize) -> Result<Value, Amf3Error> {
        let mut named = self.named_values(depth)?;
        if named.is_empty() {
            return Ok(Value::StrictArray(self.values(length, depth)?));
        }
        for (index, value) in self.values(length, depth)?.into_iter().enumerate() {
            named.push((index.to_string(), value));
        }
        Ok(Value::EcmaArray(named))
    }

    fn object(&mut self, head: u32, depth: usize) -> Result<Value, Amf3Error> {
        let is_inline = head & 1 == 1;
        let traits = if is_inline {
            self.traits(head >> 1)?
        } else {
            let bad = Amf3Error::BadReference(head >> 1);
            Rc::clone(self.traits.get((head >> 1) as usize).ok_or(bad)?)
        };
        if traits.is_externalizable {
            let is_wrapper = WRAPPERS.contains(&traits.class);
            return if is_wrapper { self.value(depth + 1) } else { Err(Amf3Error::Externalizable) };
        }
        let mut properties = Vec::new();
        for name in &traits.names {
            if !is_inline {
                self.repeat(name.len())?;
            }
            properties.push((lossy(name), self.value(depth + 1)?));
        }
        if traits.is_dynamic {
            properties.append(&mut self.named_values(depth)?);
        }
        if !is_inline {
            self.repeat(traits.class.len())?;
        }
        Ok(if traits.class.is_empty() {
            Value::Object(properties)
        } else {
            Value::TypedObject { class: lossy(traits.class), properties }
        })
    }

    fn traits(&mut self, head: u32) -> Result<Rc<Traits<'a>>, Amf3Error> {
        let (is_externalizable, is_dynamic) = (head & 1 == 1, head & 2 == 2);
        let class = self.raw_text()?.0;
        let mut names = Vec::new();
        if !is_externalizable {
            for _ in 0..head >> 2 {
                self.count()?;
                names.push(self.raw_text()?.0);
            }
        }
        let traits = Rc::new(Traits { class, names, is_dynamic, is_externalizable });
        if !self.replaying {
            self.traits.push(Rc::clone(&traits));
        }
        Ok(traits)
    }

    fn vector(&mut self, kind: u8, length: usize, depth: usize) -> Result<Value, Amf3Error> {
        let _is_fixed = self.byte()?;
        if kind == marker::VECTOR_OBJECT {
            let _class = self.raw_text()?;
            return Ok(Value::StrictArray(self.values(length, depth)?));
        }
        let mut numbers = Vec::new();
        for _ in 0..length {
            self.count()?;
            numbers.push(Value::Number(match kind {
                marker::VECTOR_INT => f64::from(i32::from_be_bytes(self.chunk()?)),
                marker::VECTOR_UINT => f64::from(u32::from_be_bytes(self.chunk()?)),
                _ => self.double()?,
            }));
        }
        Ok(Value::StrictArray(numbers))
    }

    /// Keys may be anything; those that are neither text nor numbers have no name in AMF0.
    fn dictionary(&mut self, length: usize, depth: usize) -> Result<Value, Amf3Error> {
        let _has_weak_keys = self.byte()?;
        let mut entries = Vec::new();
        for _ in 0..length {
            let key = self.value(depth + 1)?;
            let value = self.value(depth + 1)?;
            match key {
                Value::String(name) => entries.push((name, value)),
                Value::Number(number) => entries.push((number.to_string(), value)),
                _ => {}
            }
        }
        Ok(Value::EcmaArray(entries))
    }

    fn values(&mut self, count: usize, depth: usize) -> Result<Vec<Value>, Amf3Error> {
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value(depth + 1)?);
        }
        Ok(values)
    }

    /// Names and values up to an empty name.
    fn named_values(&mut self, depth: usize) -> Result<Vec<(String, Value)>, Amf3Error> {
        let mut properties = Vec::new();
        loop {
            let name = self.text()?;
            if name.is_empty() {
                return Ok(properties);
            }
            properties.push((name, self.value(depth + 1)?));
        }
    }

    fn text(&mut self) -> Result<String, Amf3Error> {
        let (bytes, is_repeated) = self.raw_text()?;
        if is_repeated {
            self.repeat(bytes.len())?;
        }
        Ok(lossy(bytes))
    }

    /// The bytes of a string, and whether they stand elsewhere.
    fn raw_text(&mut self) -> Result<(&'a [u8], bool), Amf3Error> {
        let head = self.u29()?;
        if head & 1 == 0 {
            let bad = Amf3Error::BadReference(head >> 1);
            return Ok((self.strings.get((head >> 1) as usize).ok_or(bad)?, true));
        }
        let bytes = self.take((head >> 1) as usize)?;
        // The empty string is never referred to.
        if !bytes.is_empty() && !self.replaying {
            self.strings.push(bytes);
        }
        Ok((bytes, false))
    }

    /// Counts a value or a name.
    fn count(&mut self) -> Result<(), Amf3Error> {
        if self.spent.values >= AMF_VALUES_MAX {
            return Err(Amf3Error::TooManyValues);
        }
        self.spent.values += 1;
        Ok(())
    }

    /// Counts bytes that a reference repeats.
    fn repeat(&mut self, bytes: usize) -> Result<(), Amf3Error> {
        self.spent.replayed_bytes = self.spent.replayed_bytes.saturating_add(bytes);
        if self.spent.replayed_bytes > AMF_REFERENCE_BYTES_MAX {
            return Err(Amf3Error::ReferencesTooLarge);
        }
        Ok(())
    }

    /// One to four bytes: seven bits each, and all eight of the fourth.
    fn u29(&mut self) -> Result<u32, Amf3Error> {
        let mut value = 0;
        for _ in 0..3 {
            let byte = self.byte()?;
            value = value << 7 | u32::from(byte & 0x7F);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Ok(value << 8 | u32::from(self.byte()?))
    }

    fn double(&mut self) -> Result<f64, Amf3Error> {
        Ok(f64::from_be_bytes(self.chunk()?))
    }

    fn byte(&mut self) -> Result<u8, Amf3Error> {
        let [byte] = self.chunk()?;
        Ok(byte)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Amf3Error> {
        self.take(N)?.try_into().map_err(|_| Amf3Error::Truncated)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Amf3Error> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let bytes = rest.get(..length).ok_or(Amf3Error::Truncated)?;
        self.position += length;
        Ok(bytes)
    }
}

/// The upper half of the 29 bits are negative numbers.
fn signed(value: u32) -> i32 {
    ((value << 3) as i32) >> 3
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Type markers, section 3.1 of the specification.
mod marker {
    pub(super) const UNDEFINED: u8 = 0x00;
    pub(super) const NULL: u8 = 0x01;
    pub(super) const FALSE: u8 = 0x02;
    pub(super) const TRUE: u8 = 0x03;
    pub(super) const INTEGER: u8 = 0x04;
    pub(super) const DOUBLE: u8 = 0x05;
    pub(super) const STRING: u8 = 0x06;
    pub(super) const XML_DOCUMENT: u8 = 0x07;
    pub(super) const DATE: u8 = 0x08;
    pub(super) const ARRAY: u8 = 0x09;
    pub(super) const OBJECT: u8 = 0x0A;
    pub(super) const XML: u8 = 0x0B;
    pub(super) const BYTE_ARRAY: u8 = 0x0C;
    pub(super) const VECTOR_INT: u8 = 0x0D;
    pub(super) const VECTOR_UINT: u8 = 0x0E;
    pub(super) const VECTOR_OBJECT: u8 = 0x10;
    pub(super) const DICTIONARY: u8 = 0x11;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::proto::amf0::{Amf0Error, decode_all, decode_one, without_amf3};

    /// Made by `tests/vectors/make_amf3.py` with py3amf 0.9.1.
    const PY3AMF: &str = include_str!("../../tests/vectors/amf3.json");

    fn decode(bytes: &[u8]) -> Result<Vec<Value>, Amf0Error> {
        decode_all(bytes)
    }

    fn bytes_of(case: &Json) -> Vec<u8> {
        let hex = case["bytes"].as_str().unwrap();
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    fn cases() -> Vec<Json> {
        serde_json::from_str(PY3AMF).unwrap()
    }

    /// In the terms of the vectors' own description.
    fn as_json(value: &Value) -> Json {
        let object = |properties: &[(String, Value)]| {
            properties.iter().map(|(name, value)| (name.clone(), as_json(value))).collect::<Json>()
        };
        match value {
            Value::Number(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
                json!(*number as i64)
            }
            Value::Number(number) => json!(number),
            Value::Boolean(boolean) => json!(boolean),
            Value::String(text) => json!(text),
            Value::Null => Json::Null,
            Value::Undefined => json!("undefined"),
            Value::Unsupported => json!("unsupported"),
            Value::Object(properties) | Value::EcmaArray(properties) => object(properties),
            Value::StrictArray(values) => values.iter().map(as_json).collect(),
            Value::Date { unix_ms, .. } => json!({ "date": *unix_ms as i64 }),
            Value::Xml(text) => json!({ "xml": text }),
            Value::TypedObject { class, properties } => {
                json!({ "class": class, "properties": object(properties) })
            }
        }
    }

    #[test]
    fn what_py3amf_writes_is_read() {
        let cases = cases();
        assert!(cases.len() >= 15);
        for case in cases {
            let values = decode(&bytes_of(&case)).unwrap();
            let values: Vec<Json> = values.iter().map(as_json).collect();
            assert_eq!(Json::Array(values), case["values"], "{}", case["name"]);
        }
    }

    #[test]
    fn what_py3amf_writes_can_be_passed_on_in_amf0() {
        for case in cases() {
            let bytes = bytes_of(&case);
            let plain = without_amf3(&bytes).unwrap().expect("there is AMF3 in it");
            assert!(!plain.contains(&0x11) || case["name"] != "metadata");
            assert_eq!(without_amf3(&plain), Ok(None));
            assert_eq!(decode(&plain), decode(&bytes), "{}", case["name"]);
        }
    }

    /// Vectors and dictionaries, which py3amf does not write: from the specification, 3.14 and 3.15.
    #[test]
    fn vectors_and_dictionaries() {
        let numbers = |values: &[f64]| {
            Value::StrictArray(values.iter().copied().map(Value::Number).collect())
        };
        let ints = [0x11, 0x0D, 5, 0, 0xFF, 0xFF, 0xFF, 0xFE, 0, 0, 0, 7];
        assert_eq!(decode(&ints).unwrap(), [numbers(&[-2.0, 7.0])]);
        let uints = [0x11, 0x0E, 3, 1, 0xFF, 0xFF, 0xFF, 0xFE];
        assert_eq!(decode(&uints).unwrap(), [numbers(&[4_294_967_294.0])]);
        let doubles = [&[0x11, 0x0F, 3, 0][..], &1.5_f64.to_be_bytes()].concat();
        assert_eq!(decode(&doubles).unwrap(), [numbers(&[1.5])]);
        // Of class "x", holding 1 and, by reference, the string of that name.
        let objects = [0x11, 0x10, 5, 0, 3, b'x', 4, 1, 6, 0];
        let expected = Value::StrictArray(vec![Value::from(1.0), Value::from("x")]);
        assert_eq!(decode(&objects).unwrap(), [expected]);
        // {"a": 1, 2: true, null: false}: the last has no name in AMF0.
        let dictionary = [0x11, 0x11, 7, 0, 6, 3, b'a', 4, 1, 4, 2, 3, 1, 2];
        let expected = Value::ecma_array([("a", Value::from(1.0)), ("2", Value::from(true))]);
        assert_eq!(decode(&dictionary).unwrap(), [expected]);
        let xml = [0x11, 0x0B, 9, b'<', b'a', b'/', b'>', 0x11, 0x07, 0];
        assert_eq!(decode(&xml).unwrap(), [Value::Xml("<a/>".into()), Value::Xml("<a/>".into())]);
    }

    #[test]
    fn amf3_may_stand_anywhere_in_amf0() {
        // An AMF0 object with an AMF3 property, and a reference to the whole.
        let object = [&[3, 0, 1, b'p', 0x11, 0x06, 5][..], b"ab", &[0, 0, 9, 7, 0, 0]].concat();
        let expected = Value::object([("p", Value::from("ab"))]);
        assert_eq!(decode(&object).unwrap(), [expected.clone(), expected]);
        let (value, used) = decode_one(&[0x11, 0x04, 0x05, 0x05]).unwrap();
        assert_eq!((value, used), (Value::from(5.0), 3));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let table: [(&[u8], Amf3Error); 10] = [
            (&[0x11], Amf3Error::Truncated),
            (&[0x11, 0x42], Amf3Error::UnknownMarker(0x42)),
            (&[0x11, 0x06, 0x09, b'a'], Amf3Error::Truncated),
            (&[0x11, 0x04, 0xFF, 0xFF, 0xFF], Amf3Error::Truncated),
            (&[0x11, 0x06, 0x02], Amf3Error::BadReference(1)),
            (&[0x11, 0x0A, 0x04], Amf3Error::BadReference(2)),
            (&[0x11, 0x0A, 0x05], Amf3Error::BadReference(1)),
            // An array that holds itself.
            (&[0x11, 0x09, 0x03, 0x01, 0x09, 0x00], Amf3Error::BadReference(0)),
            // Externalizable, of class "x".
            (&[0x11, 0x0A, 0x07, 0x03, b'x', 0x01], Amf3Error::Externalizable),
            // More elements than there are bytes, and than anybody reserves.
            (&[0x11, 0x09, 0xFF, 0xFF, 0xFF, 0xFF, 0x01, 0x01], Amf3Error::Truncated),
        ];
        for (bytes, error) in table {
            assert_eq!(decode(bytes), Err(Amf0Error::Amf3(error)), "{bytes:x?}");
        }
    }

    #[test]
    fn depth_values_and_names_are_capped_together_with_those_of_amf0() {
        let nested = |amf0: usize, amf3: usize| {
            let mut bytes = [0x0A, 0, 0, 0, 1].repeat(amf0);
            bytes.push(0x11);
            bytes.extend([0x09, 0x03, 0x01].repeat(amf3));
            bytes.push(0x01);
            bytes
        };
        assert!(decode(&nested(3, AMF_DEPTH_MAX - 4)).is_ok());
        assert_eq!(decode(&nested(3, AMF_DEPTH_MAX - 3)), Err(Amf3Error::TooDeep.into()));
        let mut many = vec![0x05; AMF_VALUES_MAX - 2];
        many.extend([0x11, 0x01, 0x11, 0x01]);
        assert!(decode(&many).is_ok());
        many.extend([0x11, 0x01]);
        assert_eq!(decode(&many), Err(Amf0Error::TooManyValues));
        let mut array = vec![0x11, 0x09, 0xC0, 0x01, 0x01];
        array.extend([0x01; AMF_VALUES_MAX]);
        assert_eq!(decode(&array), Err(Amf3Error::TooManyValues.into()));
        // Traits of many names: (5000 << 4 | 3) as U29, an empty class, empty names.
        let mut traits = vec![0x11, 0x0A, 0x84, 0xF1, 0x03, 0x01];
        traits.extend([0x01; 10_000]);
        assert_eq!(decode(&traits), Err(Amf3Error::TooManyValues.into()));
    }

    #[test]
    fn references_cannot_multiply_memory() {
        // A string of 40,000 bytes, named again.
        let mut text = vec![0x11, 0x06, 0x84, 0xF1, 0x01];
        text.extend([b'x'; 40_000]);
        let once = [&text[..], &[0x11, 0x06, 0x00]].concat();
        assert!(decode(&once).is_ok());
        let twice = [&once[..], &[0x11, 0x06, 0x00]].concat();
        assert_eq!(decode(&twice), Err(Amf3Error::ReferencesTooLarge.into()));
        // Objects whose class has a name of 40,000 bytes.
        let mut class = vec![0x11, 0x0A, 0x03, 0x84, 0xF1, 0x01];
        class.extend([b'x'; 40_000]);
        let twice = [&class[..], &[0x11, 0x0A, 0x01, 0x11, 0x0A, 0x01]].concat();
        assert_eq!(decode(&twice), Err(Amf3Error::ReferencesTooLarge.into()));
        // Arrays of references to arrays of references.
        let mut bomb = vec![0x11, 0x09, 0x01, 0x01];
        for level in 0_u8..12 {
            bomb.extend([0x11, 0x09, 21, 0x01]);
            bomb.extend([0x09, level << 1].repeat(10));
        }
        assert!(decode(&bomb).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&[&[0x11], &bytes[..]].concat());
            let few: Vec<u8> = bytes.iter().map(|byte| byte % 0x14).collect();
            let _ = decode(&[&[0x11], &few[..]].concat());
        }

        #[test]
        fn damaged_values_never_panic(
            case in any::<prop::sample::Index>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let cases = cases();
            let mut bytes = bytes_of(case.get(&cases));
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = decode(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            let _ = decode(&bytes);
        }
    }
}
