//! What the nodes of a cluster add to RTMP when one fetches a stream from another: the fetching node says in
//! its `connect` object that it is one of them, and the owner says in `NetStream.Play.Start` which number
//! its ownership has.
//!
//! The word is HMAC-SHA256 of the node's name (the last of [`NODES_PROPERTY`](super::node_path)) by a secret
//! that only nodes with access to the cluster's Redis know.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The key of the word in the `connect` object.
pub const LINK_PROPERTY: &str = "shardcastLink";
/// The key of the number of the ownership in `NetStream.Play.Start`.
pub const EPOCH_PROPERTY: &str = "shardcastEpoch";
/// A longer word is not looked at.
pub const LINK_BYTES_MAX: usize = 64;

/// The word of a node.
pub fn word(secret: &str, node: &str) -> String {
    let bytes = mac(secret, node).finalize().into_bytes();
    bytes.iter().fold(String::with_capacity(LINK_BYTES_MAX), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether this is the word of the node; the time that takes does not depend on the answer.
pub fn is_word_of(word: &str, secret: &str, node: &str) -> bool {
    let mut bytes = [0; LINK_BYTES_MAX / 2];
    if word.len() != LINK_BYTES_MAX {
        return false;
    }
    for (to, pair) in bytes.iter_mut().zip(word.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(pair).ok();
        let Some(byte) = digits.and_then(|it| u8::from_str_radix(it, 16).ok()) else {
            return false;
        };
        *to = byte;
    }
    mac(secret, node).verify_slice(&bytes).is_ok()
}

fn mac(secret: &str, node: &str) -> Hmac<Sha256> {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        unreachable!("HMAC takes keys of any length");
    };
    mac.update(node.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 2.
    #[test]
    fn the_word_is_that_of_rfc_4231() {
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(word("Jefe", "what do ya want for nothing?"), expected);
    }

    #[test]
    fn a_word_is_that_of_one_node_and_one_secret() {
        let it = word("secret", "node.1");
        assert!(is_word_of(&it, "secret", "node.1"));
        assert!(!is_word_of(&it, "secret", "node.2"));
        assert!(!is_word_of(&it, "another", "node.1"));
        for other in ["", "00", &it[1..], &format!("{it}00"), &"x".repeat(64), &"é".repeat(32)] {
            assert!(!is_word_of(other, "secret", "node.1"), "{other}");
        }
    }
}
