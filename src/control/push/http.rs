//! The push channel's resources of the API (contract push-channel 1.6, and docs/push.md).

use serde_json::json;

use super::Push;
use super::body::{self, Wrong};
use crate::control::answer::Answer;
use crate::media::Moment;
use crate::proto::http::{Method, Request};
use crate::proto::push_message::{PushAddress, PushBody};
use crate::proto::push_name::PushName;

/// Says how many connections a message was sent to.
const REACHED: &str = "Push-Reached";
/// Says how many connections there are, when fewer are listed.
const TOTAL: &str = "Push-Total";
/// Connections of one answer, unless the query says fewer.
const COUNT_MAX: usize = 10_000;

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
        return Some(look(push, request, resource, &vhost));
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
    for (done, (address, message)) in all.iter().enumerate() {
        let Ok(count) = post(push, vhost, address, message, deadline).await else {
            let value = json!({ "error": "busy", "messages": done, "reached": reached });
            return Ok(Answer::json(503, &value).with("Retry-After", 1));
        };
        reached += count;
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

/// Who is there.
fn look(push: &Push, request: &Request, resource: Resource, vhost: &str) -> Answer {
    let number = |key| request.query().value(key).and_then(|text| text.parse::<usize>().ok());
    let start = number("start").unwrap_or_default();
    let count = number("count").unwrap_or(COUNT_MAX).min(COUNT_MAX);
    let (total, value) = push.with(|router| match resource {
        Resource::Presence(address) => {
            let (total, members) = router.presence(vhost, Some(&address), start, count);
            let (kind, name) = match &address {
                PushAddress::Channel(name) => ("channel", name),
                PushAddress::User(name) => ("user_id", name),
            };
            (total, json!({ kind: name, "connections": total, "members": members }))
        }
        Resource::Channels => {
            let all = router.channels(vhost);
            let lines = all.iter().skip(start).take(count);
            let lines: Vec<_> =
                lines.map(|(id, count)| json!({ "channel": id, "connections": count })).collect();
            (all.len(), json!({ "channels": lines }))
        }
        _ => {
            let (total, all) = router.presence(vhost, None, start, count);
            let lines =
                all.iter().map(|it| json!({ "user_id": it.user_id, "channels": it.channels }));
            (total, lines.collect())
        }
    });
    Answer::json(200, &value).with(TOTAL, total)
}

#[cfg(test)]
mod tests {
    use super::*;

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
