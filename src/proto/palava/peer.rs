//! Who a member of a room is: a random UUID, one per connection, kept over leaving and joining again.

use std::fmt;

/// A UUID of version 4, shown as 8-4-4-4-12 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(u128);

impl PeerId {
    /// Of 128 random bits.
    pub fn from_random(bits: u128) -> Self {
        const VERSION: u128 = 0xf << 76;
        const VARIANT: u128 = 0x3 << 62;
        Self(bits & !VERSION & !VARIANT | (0x4 << 76) | (0x2 << 62))
    }

    /// Reads what [`fmt::Display`] writes; nothing else is the id of a peer.
    pub fn parse(text: &str) -> Option<Self> {
        let mut digits = String::with_capacity(32);
        for (index, part) in text.split('-').enumerate() {
            if Some(&part.len()) != [8, 4, 4, 4, 12].get(index) {
                return None;
            }
            digits.push_str(part);
        }
        let is_lower_hex = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
        if digits.len() != 32 || !digits.bytes().all(is_lower_hex) {
            return None;
        }
        u128::from_str_radix(&digits, 16).ok().map(Self)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            bits >> 96,
            bits >> 80 & 0xffff,
            bits >> 64 & 0xffff,
            bits >> 48 & 0xffff,
            bits & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_is_a_version_4_uuid_and_reads_back(bits in any::<u128>()) {
            let id = PeerId::from_random(bits);
            let text = id.to_string();
            prop_assert_eq!(text.len(), 36);
            prop_assert_eq!(&text[14..15], "4");
            prop_assert!("89ab".contains(&text[19..20]));
            prop_assert_eq!(PeerId::parse(&text), Some(id));
        }

        #[test]
        fn nothing_else_is_read_as_one(text in "[0-9a-fA-F-]{0,40}") {
            if let Some(id) = PeerId::parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
