//! What a user or a channel is called: a number, as in the contract, or a name that the application gives.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Length of a name, in bytes of UTF-8.
const NAME_BYTES_MAX: usize = 64;

/// A user or a channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PushName {
    /// A number.
    Number(i64),
    /// A name that is not how a number is written; never empty, without slashes and control characters.
    Text(Arc<str>),
}

/// A text that names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name of a user or channel has 1 to {NAME_BYTES_MAX} bytes, no slash and no control character"
)]
pub struct PushNameError;

impl PushName {
    /// From the number of an AMF0 value.
    pub fn of_f64(number: f64) -> Option<Self> {
        // Beyond these a 64-bit float does not tell whole numbers apart.
        let is_exact = number.fract() == 0.0 && number.abs() <= (1_i64 << 53) as f64;
        is_exact.then_some(Self::Number(number as i64))
    }
}

impl FromStr for PushName {
    type Err = PushNameError;

    /// As in paths, where `10` and `"10"` cannot be told apart: a text that is how a number is written is
    /// that number.
    fn from_str(text: &str) -> Result<Self, PushNameError> {
        if let Ok(number) = text.parse::<i64>()
            && number.to_string() == text
        {
            return Ok(Self::Number(number));
        }
        let is_name = (1..=NAME_BYTES_MAX).contains(&text.len())
            && !text.chars().any(|c| c == '/' || c.is_control());
        if is_name { Ok(Self::Text(text.into())) } else { Err(PushNameError) }
    }
}

impl From<i64> for PushName {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl fmt::Display for PushName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl Serialize for PushName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for PushName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = PushName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or a name")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<PushName, E> {
                Ok(PushName::Number(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<PushName, E> {
                i64::try_from(number).map(PushName::Number).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PushName, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_that_is_how_a_number_is_written_is_that_number() {
        let text = |text: &str| PushName::Text(text.into());
        let long = "x".repeat(64);
        for (written, expected) in [
            ("10", Ok(PushName::Number(10))),
            ("-5", Ok(PushName::Number(-5))),
            ("9223372036854775807", Ok(PushName::Number(i64::MAX))),
            ("9223372036854775808", Ok(text("9223372036854775808"))),
            ("010", Ok(text("010"))),
            ("+1", Ok(text("+1"))),
            ("1.5", Ok(text("1.5"))),
            ("room \u{e4}", Ok(text("room \u{e4}"))),
            (&long, Ok(text(&long))),
            (&format!("{long}x"), Err(PushNameError)),
            ("", Err(PushNameError)),
            ("a/b", Err(PushNameError)),
            ("a\nb", Err(PushNameError)),
        ] {
            assert_eq!(written.parse(), expected, "{written:?}");
        }
        for (number, expected) in [(10.0, Some(10)), (-5.0, Some(-5)), (1.5, None), (1e300, None)] {
            assert_eq!(PushName::of_f64(number), expected.map(PushName::Number));
        }
        assert_eq!(PushName::of_f64(f64::NAN), None);
    }

    #[test]
    fn json_tells_numbers_from_names() {
        let read = |json: &str| serde_json::from_str::<PushName>(json).ok();
        assert_eq!(read("10"), Some(PushName::Number(10)));
        assert_eq!(read("\"10\""), Some(PushName::Number(10)));
        assert_eq!(read("\"a\""), Some(PushName::Text("a".into())));
        for wrong in ["1.5", "null", "[1]", "\"\"", "18446744073709551615", "true"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(text in "\\PC{0,70}", number: i64) {
            prop_assert_eq!(number.to_string().parse(), Ok(PushName::Number(number)));
            if let Ok(name) = text.parse::<PushName>() {
                prop_assert_eq!(name.to_string(), text.clone());
                let json = serde_json::to_string(&name).unwrap();
                prop_assert_eq!(serde_json::from_str::<PushName>(&json).unwrap(), name);
            }
        }
    }
}
