//! Demo pages on the HTTP port, with `demo.enabled = true` only: they let anybody in, because they sign
//! their own sessions.

use crate::config::PushSettings;
use crate::proto::http::Request;
use crate::proto::push_session::PushSession;

/// Where the pages are.
const ROOT: &str = "/demo/";
const CHAT: &str = include_str!("../../examples/push/chat.html");
const ROOM: &str = include_str!("../../examples/rooms/room.html");
const ROOM_CLIENT: &str = include_str!("../../examples/rooms/shardcast-room.js");
const PUSH_CLIENT: &str = include_str!("../../examples/push/shardcast-push.js");

/// What a request for a demo page gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Demo {
    /// A file: content type and text.
    File(&'static str, &'static str),
    /// The same page with a session in its URL.
    Redirect(String),
    /// What is missing.
    Missing(&'static str),
}

/// The answer to a request for a demo page; `None` for any other path.
pub(super) fn page(request: &Request, push: &PushSettings) -> Option<Demo> {
    Some(match request.path.strip_prefix(ROOT)? {
        "chat.html" if request.query().value("session").is_some() => {
            Demo::File("text/html; charset=utf-8", CHAT)
        }
        "chat.html" => match push.secrets.first() {
            Some(secret) => {
                // The session of Erlyvideo's demo.
                let session = PushSession {
                    user: 5.into(),
                    channels: vec![10.into(), 12.into()],
                    expires_unix_s: None,
                };
                let token = session.sign(secret).replace('+', "%2B");
                Demo::Redirect(format!("{ROOT}chat.html?session={token}"))
            }
            None => Demo::Missing("set push.secret: the chat page needs a session"),
        },
        "shardcast-push.js" => Demo::File("text/javascript; charset=utf-8", PUSH_CLIENT),
        "room.html" => Demo::File("text/html; charset=utf-8", ROOM),
        "shardcast-room.js" => Demo::File("text/javascript; charset=utf-8", ROOM_CLIENT),
        _ => Demo::Missing("the demo pages are /demo/chat.html and /demo/room.html"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_stays_small_as_it_is_served() {
        assert!(PUSH_CLIENT.len() <= 2048, "{} bytes", PUSH_CLIENT.len());
    }
}
