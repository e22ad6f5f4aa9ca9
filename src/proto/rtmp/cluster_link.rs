//! What the nodes of a cluster add to RTMP when one fetches a stream from another: the fetching node says in
//! its `connect` object that it is one of them, and the owner says in `NetStream.Play.Start` which number
//! its ownership has.
//!
//! The word is `SECONDS.MAC.STREAM`: when it was made (since 1970), HMAC-SHA256 of that, of the node's name (the
//! last of [`NODES_PROPERTY`](super::node_path)) and of the stream by a secret that only nodes with access to
//! the cluster's Redis know, and the stream. Who overhears it can fetch that stream, for a minute.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::limits;

/// The key of the word in the `connect` object.
pub const LINK_PROPERTY: &str = "shardcastLink";
/// The key of the number of the ownership in `NetStream.Play.Start`.
pub const EPOCH_PROPERTY: &str = "shardcastEpoch";
/// A longer word is not looked at.
pub const LINK_BYTES_MAX: usize = 128 + 4 * limits::NAME_BYTES_MAX;
/// A word holds for so long after it was made, and before, should the clock of the other node be ahead.
pub const LINK_SECONDS_MAX: u64 = 60;

const MAC_DIGITS: usize = 64;

/// The word of a node that fetches a stream.
pub fn word(secret: &str, node: &str, stream: &str, unix_s: i64) -> String {
    let bytes = mac(secret, &what(node, stream, unix_s)).finalize().into_bytes();
    let mut text = format!("{unix_s}.");
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text + "." + stream
}

/// The stream that this word of the node lets it fetch. The time that takes does not depend on what is wrong
/// with the MAC.
pub fn stream_of<'a>(word: &'a str, secret: &str, node: &str, now_unix_s: i64) -> Option<&'a str> {
    let mut parts = word.splitn(3, '.');
    let (seconds, digits, stream) = (parts.next()?, parts.next()?, parts.next()?);
    let unix_s: i64 = seconds.parse().ok()?;
    if unix_s.abs_diff(now_unix_s) > LINK_SECONDS_MAX || digits.len() != MAC_DIGITS {
        return None;
    }
    let mut bytes = [0; MAC_DIGITS / 2];
    for (to, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *to = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    mac(secret, &what(node, stream, unix_s)).verify_slice(&bytes).ok()?;
    Some(stream)
}

/// What is authenticated. Names of nodes have no line ends.
fn what(node: &str, stream: &str, unix_s: i64) -> String {
    format!("{unix_s}\n{node}\n{stream}")
}

fn mac(secret: &str, text: &str) -> Hmac<Sha256> {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        unreachable!("HMAC takes keys of any length");
    };
    mac.update(text.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_286_400;
    const STREAM: &str = "v.test/live/_definst_/cam.1";

    /// Test case 2.
    #[test]
    fn the_mac_is_that_of_rfc_4231() {
        let bytes = mac("Jefe", "what do ya want for nothing?").finalize().into_bytes();
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(digits, expected);
    }

    #[test]
    fn a_word_is_that_of_one_node_one_stream_and_one_secret() {
        let it = word("secret", "node.1", STREAM, NOW);
        assert!(it.len() <= LINK_BYTES_MAX);
        assert_eq!(stream_of(&it, "secret", "node.1", NOW), Some(STREAM));
        assert_eq!(stream_of(&it, "secret", "node.2", NOW), None);
        assert_eq!(stream_of(&it, "another", "node.1", NOW), None);
        let other_stream = it.replace("cam.1", "cam.2");
        let other_time = it.replace(&NOW.to_string(), &(NOW + 1).to_string());
        let long = "x".repeat(64);
        let signs = format!("{NOW}.{}.{STREAM}", "+1".repeat(32));
        let letters = format!("{NOW}.{}.{STREAM}", "é".repeat(32));
        for other in
            ["", ".", "..", "1..", &it[1..], &long, &other_stream, &other_time, &signs, &letters]
        {
            assert_eq!(stream_of(other, "secret", "node.1", NOW), None, "{other}");
        }
    }

    #[test]
    fn a_word_holds_for_a_minute() {
        let it = word("secret", "node.1", STREAM, NOW);
        for (later, holds) in [(60, true), (61, false), (-60, true), (-61, false)] {
            let found = stream_of(&it, "secret", "node.1", NOW + later);
            assert_eq!(found.is_some(), holds, "{later} s");
        }
        let ends = word("secret", "node.1", STREAM, i64::MIN);
        assert_eq!(stream_of(&ends, "secret", "node.1", i64::MAX), None);
    }
}
