//! Asking the application about what clients of the push channel say (`push.client_send = "hook"`). The
//! same in both dialects: one JSON object out, and one back.

use std::rc::Rc;

use serde_json::{Value, json};

use super::complaints::Complaint;
use super::consult::consult;
use super::event::{HookRequest, Identity, Judgement, extra_headers};
use super::{HookResult, Shared};
use crate::config::{HookEvent, HookHttp, HookTarget, OnFailure};
use crate::control::push::MessageToJudge;
use crate::proto::http_response::Response;
use crate::proto::push_message::PushBody;
use crate::session::SendRefusal;

/// What an answer means.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Accept,
    /// Pass this on in its place.
    Replace(PushBody),
    Refuse(String),
    Fail(String),
}

/// Judges a message and puts the result where the control shard finds it.
pub(super) async fn run(shared: Rc<Shared>, mut message: MessageToJudge) {
    let client = message.client;
    let verdict = judge(&shared, &mut message).await;
    shared.result(HookResult::Message { client, verdict });
}

/// Asks one hook after the other, each about what the one before it has left.
async fn judge(
    shared: &Shared,
    message: &mut MessageToJudge,
) -> Result<Option<PushBody>, SendRefusal> {
    let plan = shared.settings.get().connection_hooks(&message.vhost);
    let mut is_replaced = false;
    for target in plan.targets(HookEvent::Message) {
        match call(shared, target, message).await {
            Answer::Accept => {}
            Answer::Replace(body) => {
                message.body = body;
                is_replaced = true;
            }
            Answer::Refuse(why) => {
                tracing::debug!(
                    url = target.url.text, client = %message.client, channel = %message.channel,
                    "a client's message is refused by a hook: {why}"
                );
                return Err(SendRefusal::Refused);
            }
            Answer::Fail(why) => {
                let accepts = target.on_failure == OnFailure::Accept;
                let event = HookEvent::Message;
                if let Some(left_out) = shared.complains(Complaint::Failed, event, target) {
                    tracing::warn!(
                        url = target.url.text, client = %message.client, channel = %message.channel,
                        left_out, "a hook failed, and a client's message is {}: {why}",
                        if accepts { "passed on (on_failure)" } else { "refused" }
                    );
                }
                if !accepts {
                    return Err(SendRefusal::Unavailable);
                }
            }
        }
    }
    // Hooks that a reload took away leave nobody to ask: then nothing may pass.
    if !plan.has(HookEvent::Message) {
        return Err(SendRefusal::Unavailable);
    }
    Ok(is_replaced.then(|| message.body.clone()))
}

/// Calls one hook.
async fn call(shared: &Shared, target: &HookTarget, message: &MessageToJudge) -> Answer {
    let event = shared.sessions.borrow_mut().next_event();
    let request = request(message, target, &shared.identity, event);
    let read = |response: &Response| {
        let answer = read(response);
        let judgement = match &answer {
            Answer::Accept | Answer::Replace(_) => Judgement::Accept,
            Answer::Refuse(why) => Judgement::Refuse(why.clone()),
            Answer::Fail(why) => Judgement::Fail(why.clone()),
        };
        (answer, judgement)
    };
    let answer = consult(shared, HookEvent::Message, target, &request, read).await;
    answer.unwrap_or_else(Answer::Fail)
}

fn request(
    message: &MessageToJudge,
    target: &HookTarget,
    identity: &Identity,
    event: u64,
) -> HookRequest {
    let said = match &message.body {
        PushBody::Text(text) => Value::from(text.as_str()),
        PushBody::Json(value) => value.clone(),
    };
    let body = json!({
        "action": HookEvent::Message.key(),
        "client_id": message.client.to_string(),
        "ip": message.peer.ip().to_canonical().to_string(),
        "vhost": message.vhost,
        "user_id": message.user,
        "channel": message.channel,
        "message": said,
    })
    .to_string();
    let url = &target.url;
    let keep_alive = target.http == HookHttp::Http11;
    let (version, connection) = if keep_alive { ("1.1", "Keep-Alive") } else { ("1.0", "Close") };
    let mut host = url.host_text();
    if url.port != if url.is_tls { 443 } else { 80 } {
        host = format!("{host}:{}", url.port);
    }
    let extra = extra_headers(target, identity, (event, message.client), 1, &body);
    let text = format!(
        "POST {} HTTP/{version}\r\nHost: {host}\r\nConnection: {connection}\r\nUser-Agent: {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n{extra}\r\n{body}",
        url.target,
        target.user_agent,
        body.len()
    );
    HookRequest { bytes: text.into_bytes(), keep_alive }
}

/// A status of 2xx with an empty body, `0`, or an object without a `code` other than 0 accepts; the
/// object's `message` takes the place of the client's. Other codes and 4xx refuse. All else is no word.
fn read(response: &Response) -> Answer {
    match response.status {
        200..=299 => {}
        400..=499 => return Answer::Refuse(format!("answered {}", response.status)),
        status => return Answer::Fail(format!("answered {status}")),
    }
    if !response.is_whole {
        return Answer::Fail("sent half an answer, or a long one".to_owned());
    }
    let body = response.body.trim_ascii();
    if matches!(body, b"" | b"0") {
        return Answer::Accept;
    }
    let Ok(Value::Object(mut object)) = serde_json::from_slice(body) else {
        let text: String = String::from_utf8_lossy(body).chars().take(60).collect();
        return Answer::Fail(format!("answered neither 0 nor a JSON object but {text:?}"));
    };
    match object.get("code").map(Value::as_i64) {
        None | Some(Some(0)) => {}
        Some(Some(code)) => return Answer::Refuse(format!("answered code {code}")),
        Some(None) => return Answer::Fail("answered a code that is no integer".to_owned()),
    }
    match object.remove("message") {
        None | Some(Value::Null) => Answer::Accept,
        Some(message) => Answer::Replace(PushBody::of_json(message)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use super::super::Hooks;
    use super::super::event::tests::{identity, target};
    use super::*;
    use crate::config::{Settings, Sources};
    use crate::control::events::Events;
    use crate::control::settings::CurrentSettings;
    use crate::rt::doorbell::Doorbell;
    use crate::rt::executor::spawn_pinned;
    use crate::session::ClientId;

    fn message() -> MessageToJudge {
        MessageToJudge {
            client: ClientId(7),
            peer: "[::ffff:192.0.2.1]:1000".parse().unwrap(),
            vhost: "v.test".to_owned(),
            user: "alice".parse().unwrap(),
            channel: 10.into(),
            body: PushBody::Text("a \"b\"".to_owned()),
        }
    }

    #[test]
    fn failures_are_complained_of_once_a_second() {
        let left_out = spawn_pinned("test", None, || async {
            // Nobody listens there any more.
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let toml = format!("[hooks]\non_message = \"http://{address}/\"\n");
            let file = Some(("test.toml".to_owned(), toml));
            let sources = Sources { file, environment: Vec::new(), set: Vec::new() };
            let settings = Arc::new(Settings::load(&sources).unwrap());
            let doorbell = Doorbell::new().unwrap();
            let events = Events::default();
            let hooks = Hooks::new(&CurrentSettings::new(settings), doorbell.bell(), &events);
            let shared = &hooks.shared;
            let verdict = judge(shared, &mut message()).await;
            assert_eq!(verdict, Err(SendRefusal::Unavailable));
            let plan = shared.settings.get().connection_hooks("v.test");
            let hook = plan.targets(HookEvent::Message).next().unwrap();
            shared.complains(Complaint::Failed, HookEvent::Message, hook)
        });
        assert_eq!(left_out.unwrap().join().unwrap(), None, "the line was written just now");
    }

    #[test]
    fn one_object_says_who_says_what_and_where() {
        let message = message();
        let toml = "secret = \"key\"\non_message = \"http://h:81/say?x=1\"";
        let hook = target(toml, HookEvent::Message);
        let text = String::from_utf8(request(&message, &hook, &identity(), 3).bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /say?x=1 HTTP/1.0\r\nHost: h:81\r\n"), "{head}");
        assert!(head.contains("\r\nX-Shardcast-Signature: sha256="), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
        let found: Value = serde_json::from_str(body).unwrap();
        let expected = json!({
            "action": "on_message", "client_id": "7", "ip": "192.0.2.1", "vhost": "v.test",
            "user_id": "alice", "channel": 10, "message": "a \"b\"",
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn answers_accept_replace_refuse_or_are_none() {
        let answer = |status, body: &str| {
            read(&Response {
                status,
                body: body.as_bytes().to_vec(),
                is_whole: true,
                ..Response::default()
            })
        };
        for body in ["", "0", " 0\n", "{}", "{\"code\":0}", "{\"code\":0,\"message\":null}"] {
            assert_eq!(answer(200, body), Answer::Accept, "{body}");
        }
        assert_eq!(answer(204, ""), Answer::Accept);
        let other = Answer::Replace(PushBody::Text("b".to_owned()));
        assert_eq!(answer(200, r#"{"code":0,"message":"b"}"#), other);
        let object = Answer::Replace(PushBody::Json(json!({ "a": 1 })));
        assert_eq!(answer(201, r#"{"message":{"a":1}}"#), object);
        for (status, body) in [(403, ""), (400, "0"), (200, "{\"code\":1,\"message\":\"b\"}")] {
            assert!(matches!(answer(status, body), Answer::Refuse(_)), "{status} {body}");
        }
        for (status, body) in
            [(500, ""), (302, ""), (200, "<html>"), (200, "1"), (200, "{\"code\":\"0\"}")]
        {
            assert!(matches!(answer(status, body), Answer::Fail(_)), "{status} {body}");
        }
    }
}
