//! The push channel's resources of the API (contract push-channel 1.6, and docs/push.md).

use serde_json::json;

use super::Push;
use super::body::{self, Wrong};
use super::router::Presence;
use crate::control::answer::Answer;
use crate::control::census::Pace;
use crate::control::resources::PacedJson;
use crate::media::Moment;
use crate::proto::http::{Method, Request};
use crate::proto::push_message::{PushAddress, PushBody};
use crate::proto::push_name::PushName;
use crate::session::ClientId;

/// Says how many connections a message was sent to.
const REACHED: &str = "Push-Reached";
/// Says how many connections there are, when fewer are listed.
const TOTAL: &str = "Push-Total";
/// Connections of one answer, unless the query says fewer.
const COUNT_MAX: usize = 10_000;
/// In the pace of a batch, a message that is longer counts for several.
const STEP_BYTES: usize = 4 * 1024;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Resource {
    Batch,
    Channels,
    Message(PushAddress),
    Notify,
    NotifyList,
    Presence(PushAddress),
}

/// Answers a request for a resource of the push channel; `None` when the path names none.
pub(in crate::control) async fn serve(
    push: &Push,
    request: &Request,
    body: &[u8],
    deadline: Moment,
) -> Option<Answer> {
    let resource = match resource(&request.path)? {
        Ok(resource) => resource,
        Err((status, text)) => return Some(Answer::text(status, text)),
    };
    let is_post = matches!(resource, Resource::Batch | Resource::Message(_) | Resource::Notify);
    let allowed = if is_post { "POST" } else { "GET, HEAD" };
    let is_allowed = match request.method {
        Method::Post => is_post,
        Method::Get | Method::Head => !is_post,
        _ => false,
    };
    if !is_allowed {
        return Some(Answer::text(405, format!("use {allowed}")).with("Allow", allowed));
    }
    let named = request.query().value("vhost");
    let host = named.as_deref().or_else(|| request.header("host")).unwrap_or_default();
    let vhost = push.with(|router| router.vhost_of(host));
    if !is_post {
        return Some(look(push, request, resource, &vhost).await);
    }
    let answer = match resource {
        Resource::Batch => batch(push, body, &vhost, deadline).await,
        Resource::Message(address) => message(push, request, body, &vhost, address, deadline).await,
        _ => notify(push, body, &vhost, deadline).await,
    };
    Some(answer.unwrap_or_else(|(status, text)| Answer::text(status, text)))
}

fn resource(path: &str) -> Option<Result<Resource, Wrong>> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (address, rest): (fn(PushName) -> PushAddress, _) = match parts.as_slice() {
        ["push", "messages"] => return Some(Ok(Resource::Batch)),
        ["notify"] => return Some(Ok(Resource::Notify)),
        ["notify", "list"] => return Some(Ok(Resource::NotifyList)),
        ["channels"] => return Some(Ok(Resource::Channels)),
        ["channels", rest @ ..] => (PushAddress::Channel, rest),
        ["users", rest @ ..] if !rest.is_empty() => (PushAddress::User, rest),
        _ => return None,
    };
    let name = rest.first().copied().unwrap_or_default();
    let resource: fn(PushAddress) -> Resource = match rest {
        [_] => Resource::Presence,
        [_, "message"] => Resource::Message,
        _ => return None,
    };
    Some(match name.parse::<PushName>() {
        Ok(name) => Ok(resource(address(name))),
        Err(error) => Err((400, format!("{name:?}: {error}"))),
    })
}

async fn message(
    push: &Push,
    request: &Request,
    body: &[u8],
    vhost: &str,
    address: PushAddress,
    deadline: Moment,
) -> Result<Answer, Wrong> {
    let bytes_max = push.with(|router| router.message_bytes_max(vhost));
    let message = body::message(request, body, bytes_max)?;
    let reached = post(push, vhost, &address, &message, deadline).await?;
    // The contract's answer, whoever listens.
    Ok(Answer::plain(200, "200 OK\n").with(REACHED, reached))
}

async fn notify(push: &Push, body: &[u8], vhost: &str, deadline: Moment) -> Result<Answer, Wrong> {
    let bytes_max = push.with(|router| router.message_bytes_max(vhost));
    let (user, message) = body::notification(body, bytes_max)?;
    let reached = post(push, vhost, &PushAddress::User(user), &message, deadline).await?;
    Ok(Answer::plain(200, "notified\n").with(REACHED, reached))
}

async fn batch(push: &Push, body: &[u8], vhost: &str, deadline: Moment) -> Result<Answer, Wrong> {
    let bytes_max = push.with(|router| router.message_bytes_max(vhost));
    let all = body::batch(body, bytes_max)?;
    let mut reached = 0;
    let mut pace = Pace::default();
    for (done, (address, message)) in all.iter().enumerate() {
        let Ok(count) = post(push, vhost, address, message, deadline).await else {
            let value = json!({ "error": "busy", "messages": done, "reached": reached });
            return Ok(Answer::json(503, &value).with("Retry-After", 1));
        };
        reached += count;
        for _ in 0..=message.len() / STEP_BYTES {
            pace.step().await;
        }
    }
    let value = json!({ "messages": all.len(), "reached": reached });
    Ok(Answer::json(200, &value).with(REACHED, reached))
}

async fn post(
    push: &Push,
    vhost: &str,
    address: &PushAddress,
    message: &PushBody,
    deadline: Moment,
) -> Result<usize, Wrong> {
    let busy = || (503, "too many messages are on their way; post again later".to_owned());
    push.post(vhost, address, message, deadline).await.ok_or_else(busy)
}

/// Who is there. Lines are written one by one: who has gone by then has none.
async fn look(push: &Push, request: &Request, resource: Resource, vhost: &str) -> Answer {
    let number = |key| request.query().value(key).and_then(|text| text.parse::<usize>().ok());
    let start = number("start").unwrap_or_default();
    let count = number("count").unwrap_or(COUNT_MAX).min(COUNT_MAX);
    let members_of = |address: Option<&PushAddress>| {
        push.with(|router| router.members_of(vhost, address, start, count))
    };
    let presence = |client: ClientId| push.with(|router| router.presence(client));
    let mut text = PacedJson::default();
    let total = match resource {
        Resource::Presence(address) => {
            let (total, members) = members_of(Some(&address));
            let (kind, name) = match &address {
                PushAddress::Channel(name) => ("channel", name),
                PushAddress::User(name) => ("user_id", name),
            };
            let head = json!({ kind: name, "connections": total });
            text.object_with(&head, "members", members.into_iter().filter_map(presence)).await;
            total
        }
        Resource::Channels => {
            let all = push.with(|router| router.channels(vhost));
            let lines = all.iter().skip(start).take(count);
            let lines = lines.map(|(id, count)| json!({ "channel": id, "connections": count }));
            text.raw("{\"channels\":");
            text.list(lines).await;
            text.raw("}");
            all.len()
        }
        _ => {
            let (total, members) = members_of(None);
            let lines = members.into_iter().filter_map(presence);
            let line = |it: Presence| json!({ "user_id": it.user_id, "channels": it.channels });
            text.list(lines.map(line)).await;
            total
        }
    };
    text.into_answer().with(TOTAL, total)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::Value;

    use super::*;
    use crate::config::{Settings, Sources};
    use crate::control::resources::testing::count_pauses;
    use crate::limits;
    use crate::proto::http::parse_request;
    use crate::proto::name::DEFAULT_VHOST;
    use crate::proto::push_session::PushSession;
    use crate::rt::clock;
    use crate::rt::doorbell::Doorbell;
    use crate::session::{ClientInfo, PushAsk, PushWire};
    use crate::shard::{AskToken, ConnKey};

    fn push() -> Push {
        let toml = "[push]\nsecret = \"s\"\nhistory = { messages = 10, age = \"1m\" }\n";
        let file = Some(("test.toml".to_owned(), toml.to_owned()));
        let sources = Sources { file, environment: Vec::new(), set: Vec::new() };
        let settings = Arc::new(Settings::load(&sources).unwrap());
        Push::new(&settings, Doorbell::new().unwrap().bell())
    }

    #[test]
    fn other_work_goes_on_while_a_batch_is_posted() {
        let posted = |count: usize, bytes: usize| {
            count_pauses(move || async move {
                let push = push();
                let users: Vec<usize> = (0..count).collect();
                let body = json!([{ "users": users, "message": "x".repeat(bytes) }]).to_string();
                let deadline = clock::now() + Duration::from_secs(10);
                let answer = batch(&push, body.as_bytes(), DEFAULT_VHOST, deadline).await;
                answer.unwrap().status
            })
        };
        assert_eq!(posted(255, 1), (0, 200));
        let (pauses, status) = posted(limits::PUSH_BATCH_TARGETS_MAX, 1);
        assert!(pauses >= 20, "{pauses}");
        assert_eq!(status, 200);
        let (pauses, status) = posted(200, 20 * STEP_BYTES);
        assert!(pauses >= 8, "{pauses}: a long message counts for several");
        assert_eq!(status, 200);
    }

    #[test]
    fn other_work_goes_on_while_members_are_listed() {
        let (pauses, answer) = count_pauses(|| async {
            let push = push();
            for number in 0..2_000_u32 {
                let user = i64::from(number).into();
                let session = PushSession { user, channels: vec![10.into()], expires_unix_s: None };
                let client = ClientInfo {
                    id: ClientId(number.into()),
                    vhost: DEFAULT_VHOST.to_owned(),
                    session: Some(session.sign("s")),
                    ..ClientInfo::default()
                };
                let ask = PushAsk {
                    peer: "192.0.2.1:1000".parse().unwrap(),
                    client: Arc::new(client),
                    wire: PushWire::Sse,
                    since: None,
                };
                let connection = ConnKey { slot: number, generation: 0 };
                let token = AskToken { node: 0, connection, serial: 0 };
                push.with(|router| router.subscribe(token, &ask, clock::now(), 0));
            }
            let head = b"GET /notify/list?start=100 HTTP/1.0\r\n\r\n";
            let request = parse_request(head).unwrap().unwrap();
            let answer = look(&push, &request, Resource::NotifyList, DEFAULT_VHOST).await;
            String::from_utf8(answer.encode(false, false)).unwrap()
        });
        assert!(pauses >= 4, "{pauses}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Push-Total: 2000"), "{head}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body.as_array().map(Vec::len), Some(1_900));
        assert_eq!(body[0], json!({ "user_id": 100, "channels": [10] }));
    }

    #[test]
    fn paths() {
        use PushAddress::{Channel, User};
        let table = [
            ("/channels/10/message", Some(Some(Resource::Message(Channel(10.into()))))),
            ("/users/-5/message", Some(Some(Resource::Message(User((-5).into()))))),
            ("/channels/10", Some(Some(Resource::Presence(Channel(10.into()))))),
            ("/users/5", Some(Some(Resource::Presence(User(5.into()))))),
            ("/users/alice", Some(Some(Resource::Presence(User("alice".parse().unwrap()))))),
            ("/channels", Some(Some(Resource::Channels))),
            ("/notify", Some(Some(Resource::Notify))),
            ("/notify/list", Some(Some(Resource::NotifyList))),
            ("/push/messages", Some(Some(Resource::Batch))),
            ("/channels//message", Some(None)),
            ("/users/a\u{7f}", Some(None)),
            ("/channels/10/messages", None),
            ("/users", None),
            ("/", None),
            ("/api/v1/shards", None),
        ];
        for (path, expected) in table {
            assert_eq!(resource(path).map(Result::ok), expected, "{path}");
        }
    }
}
