//! Signed sessions of the push channel: who a client is and which channels it gets, said by the
//! application and carried by the client. Source: contract push-channel 1.1.
//!
//! A token is `BASE64--MAC`: the base64 of a JSON object, two hyphens, and the lower-case hex
//! HMAC-SHA1 of the base64 text. The MAC is over the text as it came, line breaks included: Ruby's
//! helpers put some in. No clock: the time comes in.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha1::Sha1;

use super::push_name::PushName;
use crate::limits;

/// Between the text and its signature.
const SEPARATOR: &str = "--";
/// Bytes of an HMAC-SHA1.
const MAC_BYTES: usize = 20;
/// Who strips the padding signs the stripped text, so that it can be read without.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushSession {
    /// `user_id`
    pub user: PushName,
    /// `channels`, ascending, each once.
    pub channels: Vec<PushName>,
    /// `exp`: seconds since 1970 (UTC) from which on the token is refused.
    pub expires_unix_s: Option<i64>,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushSessionError {
    /// Longer than [`limits::PUSH_TOKEN_BYTES_MAX`].
    #[error("the session is longer than {} bytes", limits::PUSH_TOKEN_BYTES_MAX)]
    TooLong,
    /// No `--`.
    #[error("the session is not signed")]
    Unsigned,
    /// None of the secrets has signed it.
    #[error("the session's signature does not fit any of push.secret")]
    Signature,
    /// What was signed is no base64, no JSON object, or a key has the wrong type.
    #[error("the session is signed, but {0}")]
    Malformed(&'static str),
    /// More than [`limits::PUSH_CHANNELS_MAX`].
    #[error("the session names more than {} channels", limits::PUSH_CHANNELS_MAX)]
    TooManyChannels,
    /// The time of `exp` is over.
    #[error("the session has expired")]
    Expired,
}

impl PushSession {
    /// The token, signed with `secret`: the JSON is compact, its keys in alphabetical order, as in
    /// the reference example.
    pub fn sign(&self, secret: &str) -> String {
        let mut json = json!({ "channels": self.channels, "user_id": self.user });
        if let (Some(at), Some(object)) = (self.expires_unix_s, json.as_object_mut()) {
            object.insert("exp".to_owned(), at.into());
        }
        let text = STANDARD.encode(json.to_string());
        let mut token = text.clone();
        token.push_str(SEPARATOR);
        for byte in mac(&text, secret).finalize().into_bytes() {
            token.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or_default());
            token.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or_default());
        }
        token
    }

    /// Reads a token that one of `secrets` has signed, at `now_unix_s` seconds since 1970. A space may
    /// stand for a `+`: pages that put a token into a URL as it is turn one into the other.
    ///
    /// # Errors
    /// The first [`PushSessionError`]; nothing of a token is read before its signature is known to
    /// be right.
    pub fn verify(
        token: &str,
        secrets: &[String],
        now_unix_s: i64,
    ) -> Result<Self, PushSessionError> {
        let object = verified(token, secrets)?;
        let session = Self::read(&object)?;
        if session.expires_unix_s.is_some_and(|at| now_unix_s >= at) {
            return Err(PushSessionError::Expired);
        }
        Ok(session)
    }

    fn read(object: &Map<String, Value>) -> Result<Self, PushSessionError> {
        use PushSessionError::Malformed;
        let name = |value: &Value, what| PushName::deserialize(value).map_err(|_| Malformed(what));
        let user = match object.get("user_id") {
            None | Some(Value::Null) => return Err(Malformed("it names no user_id")),
            Some(value) => name(value, "user_id is neither an integer nor a short text")?,
        };
        let expires_unix_s = match object.get("exp") {
            None | Some(Value::Null) => None,
            Some(value) => {
                let what = "exp is not a whole number of seconds since 1970";
                Some(value.as_i64().ok_or(Malformed(what))?)
            }
        };
        let mut channels = Vec::new();
        match object.get("channels") {
            None | Some(Value::Null) => {}
            Some(Value::Array(list)) if list.len() > limits::PUSH_CHANNELS_MAX => {
                return Err(PushSessionError::TooManyChannels);
            }
            Some(Value::Array(list)) => {
                for value in list {
                    channels.push(name(value, "a channel is neither an integer nor a short text")?);
                }
            }
            Some(_) => return Err(Malformed("channels is not an array")),
        }
        channels.sort_unstable();
        channels.dedup();
        Ok(Self { user, channels, expires_unix_s })
    }
}

/// The JSON object of a token, once its signature is known to be right.
fn verified(token: &str, secrets: &[String]) -> Result<Map<String, Value>, PushSessionError> {
    if token.len() > limits::PUSH_TOKEN_BYTES_MAX {
        return Err(PushSessionError::TooLong);
    }
    let (text, mac_hex) = token.trim().split_once(SEPARATOR).ok_or(PushSessionError::Unsigned)?;
    let sent = decode_hex(mac_hex).ok_or(PushSessionError::Signature)?;
    // Every secret is tried with the same work, and each comparison takes the same time wherever
    // the difference is.
    let is_signed = |text: &str| {
        secrets.iter().fold(false, |any, key| any | mac(text, key).verify_slice(&sent).is_ok())
    };
    let repaired;
    let text = if is_signed(text) {
        text
    } else {
        repaired = text.replace(' ', "+");
        if repaired == text || !is_signed(&repaired) {
            return Err(PushSessionError::Signature);
        }
        &repaired
    };
    let base64: String = text.chars().filter(|c| !matches!(c, '\r' | '\n' | ' ')).collect();
    let json =
        LENIENT.decode(base64).map_err(|_| PushSessionError::Malformed("it is no base64"))?;
    serde_json::from_slice(&json).map_err(|_| PushSessionError::Malformed("it is no JSON object"))
}

fn mac(text: &str, secret: &str) -> Hmac<Sha1> {
    // HMAC takes keys of any length: a longer one is hashed, a shorter one filled up.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret.as_bytes()) else {
        unreachable!("HMAC refuses no key")
    };
    mac.update(text.as_bytes());
    mac
}

fn decode_hex(hex: &str) -> Option<[u8; MAC_BYTES]> {
    if hex.len() != 2 * MAC_BYTES {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; MAC_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = digit(*pair.first()?)? << 4 | digit(*pair.last()?)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The secret of Erlyvideo's production vhost, as text.
    const PRODUCTION: &str = "fddbb018f51cb867a2e6d10b9eea7bd5eaec2d9ee1b814856251776f08e8acdef49154\
                              b0317b432ff6dfbd7c7e0e74d5db53287cc991e8cf46da8d6a27fc5ae8";
    const TEXT: &str = "eyJjaGFubmVscyI6WzEwLDEyXSwidXNlcl9pZCI6NX0=";
    const UNIT_TEST: &str = "eyJ1c2VyX2lkIjo1LCJzZXNzaW9uX2lkIjoxMzQyfQ==";

    fn keys(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    fn verify(token: &str, secret: &str) -> Result<PushSession, PushSessionError> {
        PushSession::verify(token, &keys(&[secret]), 1_000)
    }

    fn session(user: i64, channels: &[i64]) -> PushSession {
        let channels = channels.iter().map(|number| PushName::Number(*number)).collect();
        PushSession { user: user.into(), channels, expires_unix_s: None }
    }

    /// A token with any text, well signed.
    fn signed(text: &str) -> String {
        let bytes = mac(text, "k").finalize().into_bytes();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{text}--{hex}")
    }

    #[test]
    fn the_vectors_of_the_contract() {
        let table = [
            (TEXT, PRODUCTION, "53a54957765ca65ee52ce727fdf70b95e6972f45", session(5, &[10, 12])),
            (TEXT, "123", "05649bc2938d0773f1828c612f063381c85e4fe7", session(5, &[10, 12])),
            (UNIT_TEST, "TopSecrEt", "22c6af490138b3a3a10046d431801f079271e7fa", session(5, &[])),
        ];
        for (text, secret, mac, expected) in table {
            let token = format!("{text}--{mac}");
            assert_eq!(verify(&token, secret), Ok(expected.clone()), "{token}");
            for wrong in ["TopSecrEt!", "change_me", "secret", ""] {
                assert_eq!(verify(&token, wrong), Err(PushSessionError::Signature), "{wrong}");
            }
            let rotated = PushSession::verify(&token, &keys(&["new", secret]), 0);
            assert_eq!(rotated, Ok(expected), "an older secret still verifies");
        }
        let refused = format!("{UNIT_TEST}--22c6af490138b3a3a10046d431801f079271e555");
        assert_eq!(verify(&refused, "TopSecrEt"), Err(PushSessionError::Signature));
        assert_eq!(verify(TEXT, "123"), Err(PushSessionError::Unsigned));
    }

    #[test]
    fn signing_gives_the_reference_token() {
        let token = session(5, &[10, 12]).sign(PRODUCTION);
        assert_eq!(token, format!("{TEXT}--53a54957765ca65ee52ce727fdf70b95e6972f45"));
    }

    #[test]
    fn no_secret_verifies_nothing() {
        let token = session(5, &[]).sign("");
        assert_eq!(PushSession::verify(&token, &[], 0), Err(PushSessionError::Signature));
    }

    #[test]
    fn line_breaks_are_part_of_what_is_signed() {
        // Ruby's Base64.encode64 breaks lines after 60 characters and ends with a line break.
        let text = STANDARD.encode(json!({ "user_id": 7, "channels": [1, 2, 3] }).to_string());
        let (front, back) = text.split_at(30);
        for text in [format!("{front}\n{back}"), format!("{front}\r\n{back}")] {
            assert_eq!(verify(&signed(&text), "k"), Ok(session(7, &[1, 2, 3])), "{text:?}");
            let unsigned = signed(&text).replace(['\r', '\n'], "");
            assert_eq!(verify(&unsigned, "k"), Err(PushSessionError::Signature));
        }
        let around = format!(" {}\n", signed(&text));
        assert_eq!(verify(&around, "k"), Ok(session(7, &[1, 2, 3])));
    }

    #[test]
    fn a_space_stands_for_a_plus() {
        // The 14th character of this text is a plus.
        let token = signed(&STANDARD.encode(r#"{"a":"~~>>>","user_id":9}"#));
        assert!(token.contains('+'), "{token}");
        assert_eq!(verify(&token.replace('+', " "), "k"), Ok(session(9, &[])));
    }

    const NO_USER: &str = "user_id is neither an integer nor a short text";

    #[test]
    fn times_and_shapes_are_checked_behind_a_right_signature() {
        use PushSessionError::*;
        let many: Vec<usize> = (0..=limits::PUSH_CHANNELS_MAX).collect();
        let table = [
            (json!({ "user_id": 5, "exp": 1_001 }), None),
            (json!({ "user_id": 5, "exp": 1_000 }), Some(Expired)),
            (json!({ "user_id": 5, "channels": [] }), None),
            (json!({ "user_id": -5, "channels": null, "name": { "other": 1 } }), None),
            (json!({ "channels": [1] }), Some(Malformed("it names no user_id"))),
            (json!({ "user_id": "alice", "channels": ["lobby", 7] }), None),
            (json!({ "user_id": 5.5 }), Some(Malformed(NO_USER))),
            (json!({ "user_id": "a/b" }), Some(Malformed(NO_USER))),
            (json!({ "user_id": 5, "channels": 1 }), Some(Malformed("channels is not an array"))),
            (
                json!({ "user_id": 5, "channels": [[1]] }),
                Some(Malformed("a channel is neither an integer nor a short text")),
            ),
            (json!({ "user_id": 5, "channels": many }), Some(TooManyChannels)),
            (json!([5]), Some(Malformed("it is no JSON object"))),
        ];
        for (json, expected) in table {
            let token = signed(&STANDARD.encode(json.to_string()));
            assert_eq!(verify(&token, "k").err(), expected, "{json}");
        }
        let exp = json!({ "user_id": 5, "exp": "soon" });
        let token = signed(&STANDARD.encode(exp.to_string()));
        assert!(matches!(verify(&token, "k"), Err(Malformed(what)) if what.starts_with("exp")));
        assert_eq!(verify(&signed("%%%"), "k"), Err(Malformed("it is no base64")));
        assert_eq!(verify(&signed(""), "k"), Err(Malformed("it is no JSON object")));
        let long = "A".repeat(limits::PUSH_TOKEN_BYTES_MAX);
        assert_eq!(verify(&signed(&long), "k"), Err(TooLong));
    }

    #[test]
    fn users_and_channels_may_have_names() {
        let json = r#"{"user_id":"alice","channels":["lobby",7,"7","lobby"]}"#;
        let found = verify(&signed(&STANDARD.encode(json)), "k").unwrap();
        let names: Vec<String> = found.channels.iter().map(ToString::to_string).collect();
        assert_eq!(
            (found.user.to_string().as_str(), names),
            ("alice", vec!["7".into(), "lobby".into()])
        );
        assert_eq!(verify(&found.sign("k"), "k"), Ok(found));
    }

    #[test]
    fn channels_count_once() {
        let token = signed(&STANDARD.encode(r#"{"user_id":1,"channels":[3,1,3]}"#));
        assert_eq!(verify(&token, "k"), Ok(session(1, &[1, 3])));
    }

    proptest! {
        #[test]
        fn what_is_signed_verifies_and_nothing_that_differs(
            user: i64,
            channels in proptest::collection::btree_set(any::<i64>(), 0..20),
            expires_unix_s in proptest::option::of(1_001_i64..),
            secret in ".{0,80}",
            at: prop::sample::Index,
            change in 1_u8..128,
        ) {
            let channels = channels.into_iter().map(PushName::Number).collect();
            let session = PushSession { user: user.into(), channels, expires_unix_s };
            let token = session.sign(&secret);
            prop_assert_eq!(verify(&token, &secret), Ok(session));
            let mut other = token.clone().into_bytes();
            let at = at.index(other.len());
            other[at] ^= change;
            let other = String::from_utf8(other).unwrap();
            // White space around a token does not count, nor does a space for a plus.
            if other.trim() == other && !(token.as_bytes()[at] == b'+' && other.contains(' ')) {
                prop_assert!(verify(&other, &secret).is_err(), "{}", other);
            }
        }

        #[test]
        fn any_text_is_taken_or_refused(token in "\\PC*(--)?\\PC*", secret in "\\PC*") {
            let _ = verify(&token, &secret);
        }
    }
}
