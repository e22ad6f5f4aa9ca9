//! `shardcast session`: tokens of the push channel, for trying things out and for finding out why one is
//! refused.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use serde_json::json;

use crate::config::{Settings, Time};
use crate::proto::push_name::PushName;
use crate::proto::push_session::PushSession;

#[derive(Debug, Subcommand)]
pub(super) enum SessionCommand {
    /// Print a token that names a user and channels, signed with the first of push.secret
    Sign {
        /// The user: a number or a name
        #[arg(long, value_name = "USER", allow_negative_numbers = true)]
        user: PushName,
        /// Channels, separated by commas
        #[arg(long, value_name = "CHANNELS", value_delimiter = ',', allow_negative_numbers = true)]
        channels: Vec<PushName>,
        /// Time after which the token is refused, such as 1h; without it never
        #[arg(long, value_name = "TIME")]
        expires_in: Option<Time>,
        /// The virtual host whose secret signs
        #[arg(long, value_name = "HOST")]
        vhost: Option<String>,
    },
    /// Say what a token holds, or why it is refused
    Verify {
        /// The token
        token: String,
        /// The virtual host whose secrets count
        #[arg(long, value_name = "HOST")]
        vhost: Option<String>,
    },
}

impl SessionCommand {
    /// What to print, or what is wrong.
    pub(super) fn run(self, settings: &Settings) -> Result<String, String> {
        let vhost = match &self {
            Self::Sign { vhost, .. } | Self::Verify { vhost, .. } => vhost.as_deref(),
        };
        let push = settings.push(settings.vhost_of(vhost.unwrap_or_default()));
        let Some(secret) = push.secrets.first() else {
            return Err("push.secret is not set: there is nothing to sign with".to_owned());
        };
        match self {
            Self::Sign { user, mut channels, expires_in, .. } => {
                channels.sort();
                channels.dedup();
                let now = since_1970();
                let expires = expires_in.map(|time| seconds(now + time.0));
                let session = PushSession { user, channels, expires_unix_s: expires };
                Ok(format!("{}\n", session.sign(secret)))
            }
            Self::Verify { token, .. } => {
                let now = seconds(since_1970());
                let session = PushSession::verify(&token, &push.secrets, now);
                let session = session.map_err(|error| error.to_string())?;
                let mut shown = json!({ "user_id": session.user, "channels": session.channels });
                if let Some(at) = session.expires_unix_s {
                    shown["exp"] = at.into();
                    shown["expires_in_s"] = (at - now).into();
                }
                Ok(format!("{shown}\n"))
            }
        }
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn settings(toml: &str) -> Settings {
        let file = Some(("f.toml".to_owned(), toml.to_owned()));
        Settings::load(&Sources { file, environment: Vec::new(), set: Vec::new() }).unwrap()
    }

    const SECRETS: &str =
        "[push]\nsecret = [\"123\", \"old\"]\n[vhosts.\"v.test\".push]\nsecret = \"v\"";

    fn sign(settings: &Settings, expires_in: Option<&str>, vhost: Option<&str>) -> String {
        let command = SessionCommand::Sign {
            user: 5.into(),
            channels: [12, 10, 12].map(PushName::from).to_vec(),
            expires_in: expires_in.map(|time| time.parse().unwrap()),
            vhost: vhost.map(str::to_owned),
        };
        command.run(settings).unwrap().trim_end().to_owned()
    }

    fn verify(settings: &Settings, token: &str, vhost: Option<&str>) -> Result<String, String> {
        let vhost = vhost.map(str::to_owned);
        SessionCommand::Verify { token: token.to_owned(), vhost }.run(settings)
    }

    #[test]
    fn a_token_is_signed_and_read_back() {
        let settings = settings(SECRETS);
        let token = sign(&settings, None, None);
        let vector = "eyJjaGFubmVscyI6WzEwLDEyXSwidXNlcl9pZCI6NX0=--\
                      05649bc2938d0773f1828c612f063381c85e4fe7";
        assert_eq!(token, vector);
        let shown = verify(&settings, &token, None).unwrap();
        assert_eq!(shown, "{\"channels\":[10,12],\"user_id\":5}\n");
        assert!(verify(&settings, &token[1..], None).unwrap_err().contains("signature"));
        assert!(verify(&settings, &token, Some("v.test")).is_err());
        let own = sign(&settings, None, Some("v.test:1935"));
        assert!(verify(&settings, &own, Some("v.test")).is_ok());
    }

    #[test]
    fn a_token_may_end() {
        let settings = settings(SECRETS);
        let token = sign(&settings, Some("1h"), None);
        let shown = verify(&settings, &token, None).unwrap();
        assert!(shown.contains("\"expires_in_s\":3600") || shown.contains("\"expires_in_s\":3599"));
        let over = sign(&settings, Some("0"), None);
        assert_eq!(verify(&settings, &over, None).unwrap_err(), "the session has expired");
    }

    #[test]
    fn without_a_secret_there_is_nothing_to_sign_with() {
        assert!(verify(&settings(""), "a--b", None).unwrap_err().contains("push.secret"));
    }
}
