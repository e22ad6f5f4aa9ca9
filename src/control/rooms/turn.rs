//! Credentials for a TURN server that shares a secret with this one (coturn's `use-auth-secret`; contract
//! signalling, 2.6).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// What `joined_room` carries when `signalling.turn.secret` is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnCredentials {
    /// `<unix time of expiry>:<peer id>`
    pub user: String,
    /// base64(HMAC-SHA1(secret, user))
    pub password: String,
}

impl TurnCredentials {
    /// For a peer, good for `ttl` from `unix_s` on.
    pub fn issue(secret: &str, peer_id: &str, unix_s: u64, ttl: Duration) -> Self {
        let user = format!("{}:{peer_id}", unix_s.saturating_add(ttl.as_secs()));
        let password = password(secret, &user);
        Self { user, password }
    }
}

fn password(secret: &str, user: &str) -> String {
    let mut mac =
        Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(user.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_vector() {
        let issued = TurnCredentials::issue(
            "verysecretpassphrase1234",
            "abc",
            1_700_000_000 - 10_800,
            Duration::from_secs(10_800),
        );
        assert_eq!(issued.user, "1700000000:abc");
        assert_eq!(issued.password, "UKOVi27mk/txxDRyfoxSVwEQn/Y=");
    }
}
