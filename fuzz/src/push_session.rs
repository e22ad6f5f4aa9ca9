//! Sessions of the push channel: nothing is believed without a signature, and whatever is signed is
//! either refused or means the same when it is signed again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use shardcast::limits::PUSH_CHANNELS_MAX;
use shardcast::proto::push_session::{PushSession, PushSessionError};

const SECRET: &str = "k";
const NOW_UNIX_S: i64 = 1_000;

/// A token, and the same bytes as what a token says.
pub fn run(data: &[u8]) {
    let secrets = ["another".to_owned(), SECRET.to_owned()];
    let token = String::from_utf8_lossy(data);
    judge(&token, PushSession::verify(&token, &secrets, NOW_UNIX_S));
    for text in [STANDARD.encode(data), token.clone().into_owned()] {
        let token = format!("{text}--{}", mac_hex(&text));
        judge(&token, PushSession::verify(&token, &secrets, NOW_UNIX_S));
        let stranger = PushSession::verify(&token, &secrets[..1], NOW_UNIX_S);
        assert!(stranger.is_err(), "the secret is another one");
    }
}

fn judge(token: &str, verdict: Result<PushSession, PushSessionError>) {
    match verdict {
        Ok(session) => {
            assert!(session.channels.len() <= PUSH_CHANNELS_MAX);
            assert!(session.channels.is_sorted());
            assert!(session.expires_unix_s.is_none_or(|at| at > NOW_UNIX_S));
            assert!(token.contains("--"));
            let again = session.sign(SECRET);
            let verdict = PushSession::verify(&again, &[SECRET.to_owned()], NOW_UNIX_S);
            // Numbers may be longer than they came, white space is gone.
            assert!(verdict == Ok(session) || verdict == Err(PushSessionError::TooLong));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn mac_hex(text: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).expect("a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
