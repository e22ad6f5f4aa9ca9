//! Name and password of a publisher, as Adobe's and Limelight's servers ask for them in the description of a
//! refused `connect` (contract multipoint 3.5). Each step is a connection of its own, whose application and
//! `tcUrl` carry the answer as a query:
//!
//! 1. refused with `authmod=adobe` (or `llnw`): connect with `authmod` and `user`;
//! 2. refused with `reason=needauth` and a challenge: connect with the answer to it;
//! 3. accepted, or refused with another reason: wrong name or password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

/// Limelight's realm and quality of protection are always these.
const LLNW_REALM: &str = "live";
const LLNW_QOP: &str = "auth";
const LLNW_COUNT: &str = "00000001";

/// What a refusal asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing about a login.
    None,
    /// The query of the next connect.
    Answer(String),
    /// The server knows no such name, or the password is wrong.
    Wrong,
}

/// Reads the description of a refused connect and answers it. `sent` is the query that the refused connect
/// carried, `app` the application without it; `nonce` is random.
pub fn answer(
    description: &str,
    sent: &str,
    app: &str,
    (user, password): (&str, &str),
    nonce: u32,
) -> Demand {
    let method = if description.contains("authmod=adobe") || value(sent, "authmod") == Some("adobe")
    {
        "adobe"
    } else if description.contains("authmod=llnw") || value(sent, "authmod") == Some("llnw") {
        "llnw"
    } else {
        return Demand::None;
    };
    let challenge = description.split_once('?').map_or("", |(_, query)| query.trim());
    match value(challenge, "reason") {
        Some("needauth") if method == "adobe" => {
            Demand::Answer(adobe(challenge, user, password, nonce))
        }
        Some("needauth") => Demand::Answer(limelight(challenge, app, user, password, nonce)),
        Some(_) => Demand::Wrong,
        None if description.contains("code=403 need auth") && sent.is_empty() => {
            Demand::Answer(format!("authmod={method}&user={user}"))
        }
        None => Demand::Wrong,
    }
}

fn adobe(challenge: &str, user: &str, password: &str, nonce: u32) -> String {
    let field = |name| value(challenge, name).unwrap_or_default();
    let (salt, opaque) = (field("salt"), field("opaque"));
    let own = format!("{nonce:08x}");
    let salted = STANDARD.encode(Md5::digest(format!("{user}{salt}{password}")));
    let server = if opaque.is_empty() { field("challenge") } else { opaque };
    let response = STANDARD.encode(Md5::digest(format!("{salted}{server}{own}")));
    let mut query = format!("authmod=adobe&user={user}&challenge={own}&response={response}");
    if !opaque.is_empty() {
        query.push_str("&opaque=");
        query.push_str(opaque);
    }
    query
}

fn limelight(challenge: &str, app: &str, user: &str, password: &str, nonce: u32) -> String {
    let server = value(challenge, "nonce").unwrap_or_default();
    let own = format!("{nonce:08x}");
    let app = app.split('?').next().unwrap_or_default();
    let instance = if app.contains('/') { "" } else { "/_definst_" };
    let who = hex(format!("{user}:{LLNW_REALM}:{password}"));
    let what = hex(format!("publish:/{app}{instance}"));
    let response = hex(format!("{who}:{server}:{LLNW_COUNT}:{own}:{LLNW_QOP}:{what}"));
    format!(
        "authmod=llnw&user={user}&nonce={server}&cnonce={own}&nc={LLNW_COUNT}&response={response}"
    )
}

fn hex(text: String) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The value of a key in `a=b&c=d`.
fn value<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key))
        .map(|it| it.1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    const LOGIN: (&str, &str) = ("user", "pass");

    #[test]
    fn adobes_challenge_is_answered_in_two_steps() {
        let first = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ";
        let expected = Demand::Answer("authmod=adobe&user=user".to_owned());
        assert_eq!(answer(first, "", "live", LOGIN, 1), expected);
        let second = "[ AccessManager.Reject ] : [ authmod=adobe ] : \
                      ?reason=needauth&user=user&salt=SALT&challenge=CHAL&opaque=OPAQ";
        // md5 and base64 by python's hashlib and base64.
        let expected = "authmod=adobe&user=user&challenge=0000002a\
                        &response=cDwHepOuZqMq+GkuHp5BAA==&opaque=OPAQ";
        assert_eq!(
            answer(second, "authmod=adobe&user=user", "live", LOGIN, 42),
            Demand::Answer(expected.to_owned())
        );
        let plain = second.replace("&opaque=OPAQ", "");
        let expected =
            "authmod=adobe&user=user&challenge=0000002a&response=E4jlr67FA0X/xqyOAfojEg==";
        assert_eq!(
            answer(&plain, "authmod=adobe&user=user", "live", LOGIN, 42),
            Demand::Answer(expected.to_owned())
        );
    }

    #[test]
    fn limelights_digest_names_the_default_instance() {
        let challenge =
            "[ AccessManager.Reject ] : [ authmod=llnw ] : ?reason=needauth&user=user&nonce=N";
        let sent = "authmod=llnw&user=user";
        let expected = |response: &str| {
            Demand::Answer(format!(
                "authmod=llnw&user=user&nonce=N&cnonce=0000002a&nc=00000001&response={response}"
            ))
        };
        assert_eq!(
            answer(challenge, sent, "live", LOGIN, 42),
            expected("04865b3107ecb78420ed71a5d49d41d9")
        );
        assert_eq!(
            answer(challenge, sent, "live/one?a=b", LOGIN, 42),
            expected("193845f0c33a0d62ecebf0373b7df81f")
        );
    }

    #[test]
    fn a_refusal_for_another_reason_is_final() {
        assert_eq!(answer("the stream is taken", "", "live", LOGIN, 1), Demand::None);
        for reason in ["authfailed", "nosuchuser"] {
            let text = format!("[ authmod=adobe ] : ?reason={reason}&opaque=vgoAAA==");
            assert_eq!(answer(&text, "authmod=adobe&user=user", "live", LOGIN, 1), Demand::Wrong);
        }
        // It asks again for what it has been told.
        let again = "[ code=403 need auth; authmod=adobe ]";
        assert_eq!(answer(again, "authmod=adobe&user=user", "live", LOGIN, 1), Demand::Wrong);
    }
}
