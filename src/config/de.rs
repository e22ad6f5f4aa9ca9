//! Serde over [`Node`]: types from the tree, with errors that know their place.
//!
//! Two rules differ from plain TOML. A value from outside the file is taken as it stands where
//! the key is a string, and is TOML or a bare word elsewhere. One value may stand for a list.

use std::fmt;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::error::{ConfigError, dotted, suggestion};
use super::tree::{Entry, Node, Origin, Value};

/// Reads a value from `node`; `path` is where the node stands, for the error.
pub(super) fn read<'de, T: Deserialize<'de>>(path: &[&str], node: &Node) -> Result<T, ConfigError> {
    T::deserialize(node).map_err(|error| {
        let inner = error.path.iter().rev().map(String::as_str);
        ConfigError {
            origin: error.origin.unwrap_or_else(|| node.origin.clone()),
            key: dotted(path.iter().copied().chain(inner)),
            reason: error.reason,
        }
    })
}

/// The keys that a struct knows: what it says when it is given one that it does not.
#[cfg(test)]
pub(super) fn known_keys<'de, T: Deserialize<'de>>() -> Vec<&'static str> {
    let mut node = Node::default();
    node.set(&["\0".to_owned()], "", &Origin::Default).expect("an empty table takes any key");
    match T::deserialize(&node) {
        Err(error) => error.known.to_vec(),
        Ok(_) => Vec::new(),
    }
}

/// An error on its way up, collecting where it happened.
#[derive(Debug)]
pub(super) struct DeError {
    reason: String,
    origin: Option<Origin>,
    /// Innermost first.
    path: Vec<String>,
    #[cfg(test)]
    known: &'static [&'static str],
}

impl DeError {
    fn inside(mut self, key: &str, origin: &Origin) -> Self {
        self.path.push(key.to_owned());
        self.origin.get_or_insert_with(|| origin.clone());
        self
    }

    fn reason(reason: String) -> Self {
        Self {
            reason,
            origin: None,
            path: Vec::new(),
            #[cfg(test)]
            known: &[],
        }
    }
}

impl serde::de::Error for DeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::reason(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::reason(format!("this is {}, not {}", found_name(found), expected_name(expected)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        match found {
            Unexpected::Signed(_) | Unexpected::Unsigned(_) => {
                Self::reason("this number is outside the range of the key".to_owned())
            }
            _ => Self::invalid_type(found, expected),
        }
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        let error = Self::reason(format!("there is no such key{}", suggestion(field, known)));
        #[cfg(test)]
        let error = Self { known, ..error };
        error
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        Self::reason(format!(
            "{variant:?} is not one of {}{}",
            known.join(", "),
            match suggestion(variant, known) {
                near if near.contains("did you mean") => near,
                _ => String::new(),
            }
        ))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::reason(format!("the key `{field}` is missing"))
    }
}

impl fmt::Display for DeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for DeError {}

/// Values are not repeated: they may be secrets.
fn found_name(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "true or false",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a number",
        Unexpected::Float(_) => "a number with a fraction, or one that is too large",
        Unexpected::Str(_) | Unexpected::Char(_) => "a string",
        Unexpected::Seq => "a list",
        Unexpected::Map | Unexpected::StructVariant => "a table",
        _ => "something else",
    }
}

/// Serde's words for its own shapes, in the operator's.
fn expected_name(expected: &dyn serde::de::Expected) -> String {
    let name = expected.to_string();
    match name.as_str() {
        "a boolean" => "true or false".to_owned(),
        "a map" => "a table".to_owned(),
        "a sequence" => "a list".to_owned(),
        "u8" | "u64" | "usize" => "a number from 0".to_owned(),
        shape if shape.starts_with("struct ") => "a table".to_owned(),
        _ => name,
    }
}

impl<'de> Deserializer<'de> for &Node {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.value {
            Value::Array(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::String(value) => visitor.visit_str(value),
            Value::Table(table) | Value::Text(_, Some(table)) => {
                visitor.visit_map(Entries { rest: table.iter(), current: None })
            }
            Value::Text(text, _) => Node::interpret(text, &self.origin).deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.value {
            Value::Text(text, _) => visitor.visit_str(text),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.value {
            Value::Array(_) => self.deserialize_any(visitor),
            Value::Text(text, _) => {
                let node = Node::interpret(text, &self.origin);
                match node.value {
                    Value::Array(_) => node.deserialize_any(visitor),
                    _ => visitor.visit_seq(Single(Some(self))),
                }
            }
            _ => visitor.visit_seq(Single(Some(self))),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        match &self.value {
            Value::String(text) => visitor.visit_enum(Word(text)),
            Value::Text(text, _) => {
                // Quotes are no part of a word that has to be one of a few.
                match Node::interpret(text, &self.origin).value {
                    Value::String(word) => visitor.visit_enum(Word(&word)),
                    _ => visitor.visit_enum(Word(text)),
                }
            }
            Value::Integer(number) => visitor.visit_enum(Word(&number.to_string())),
            _ => Err(DeError::custom("this is not a string")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Items<'a>(std::iter::Enumerate<std::slice::Iter<'a, Node>>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DeError> {
        let Some((index, node)) = self.0.next() else {
            return Ok(None);
        };
        seed.deserialize(node)
            .map(Some)
            .map_err(|error| error.inside(&format!("[{index}]"), &node.origin))
    }
}

/// A value that stands for a list of one.
struct Single<'a>(Option<&'a Node>);

impl<'de> SeqAccess<'de> for Single<'_> {
    type Error = DeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DeError> {
        self.0.take().map(|node| seed.deserialize(node)).transpose()
    }
}

struct Entries<'a> {
    rest: std::collections::btree_map::Iter<'a, String, Entry>,
    current: Option<(&'a str, &'a Entry)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DeError> {
        let Some((key, entry)) = self.rest.next() else {
            return Ok(None);
        };
        self.current = Some((key, entry));
        let deserializer: StrDeserializer<'_, DeError> = key.as_str().into_deserializer();
        seed.deserialize(deserializer)
            .map(Some)
            .map_err(|error| error.inside(key, &entry.key_origin))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DeError> {
        let (key, entry) = self
            .current
            .take()
            .ok_or_else(|| DeError::custom("a value was read before its key"))?;
        seed.deserialize(&entry.node).map_err(|error| error.inside(key, &entry.node.origin))
    }
}

/// A word for an enum of unit variants.
struct Word<'a>(&'a str);

impl<'de> EnumAccess<'de> for Word<'_> {
    type Error = DeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), DeError> {
        let deserializer: StrDeserializer<'_, DeError> = self.0.into_deserializer();
        Ok((seed.deserialize(deserializer)?, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'_> {
    type Error = DeError;

    fn unit_variant(self) -> Result<(), DeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, DeError> {
        Err(DeError::custom("this is only a word"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, DeError> {
        Err(DeError::custom("this is only a word"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, DeError> {
        Err(DeError::custom("this is only a word"))
    }
}
