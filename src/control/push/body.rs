//! Messages in the bodies of requests: a form as Erlyvideo takes it, JSON, or plain text.

use std::rc::Rc;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::limits;
use crate::proto::http::{Query, Request};
use crate::proto::push_message::{PushAddress, PushBody};
use crate::proto::push_name::PushName;

/// What is wrong with a request: status and sentence.
pub(super) type Wrong = (u16, String);

/// The message of a request to one channel or user.
pub(super) fn message(request: &Request, body: &[u8], bytes_max: usize) -> Result<PushBody, Wrong> {
    let kind = request.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let found = match kind.as_str() {
        "application/x-www-form-urlencoded" => Query::new(text(body)?)
            .value("message")
            .map(|message| PushBody::Text(message.into_owned()))
            .ok_or_else(|| (400, "the form has no field message".to_owned()))?,
        "application/json" => {
            let mut json: Json = json(body)?;
            let found = json.get_mut("message").map(Json::take);
            PushBody::of_json(found.ok_or_else(|| (400, "the JSON has no message".to_owned()))?)
        }
        "text/plain" => PushBody::Text(text(body)?.to_owned()),
        _ => {
            let sentence = "send application/x-www-form-urlencoded with the field message, \
                            application/json with the key message, or text/plain";
            return Err((400, sentence.to_owned()));
        }
    };
    check_length(&found, bytes_max)?;
    Ok(found)
}

/// `POST /notify`: `{"user_id":5,"message":…}`.
pub(super) fn notification(body: &[u8], bytes_max: usize) -> Result<(PushName, PushBody), Wrong> {
    #[derive(Deserialize)]
    struct Notification {
        user_id: PushName,
        message: Json,
    }
    let Notification { user_id, message } = json(body)?;
    let message = PushBody::of_json(message);
    check_length(&message, bytes_max)?;
    Ok((user_id, message))
}

/// `POST /push/messages`: an array of `{"channel":10,"channels":[…],"user":5,"users":[…],"message":…}`,
/// each with at least one receiver. One message per receiver, in order; those of an entry share it, for
/// there may be thousands of them.
pub(super) fn batch(
    body: &[u8],
    bytes_max: usize,
) -> Result<Vec<(PushAddress, Rc<PushBody>)>, Wrong> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Entry {
        channel: Option<PushName>,
        #[serde(default)]
        channels: Vec<PushName>,
        user: Option<PushName>,
        #[serde(default)]
        users: Vec<PushName>,
        message: Json,
    }
    let mut all = Vec::new();
    for entry in json::<Vec<Entry>>(body)? {
        let message = PushBody::of_json(entry.message);
        check_length(&message, bytes_max)?;
        let channels = usize::from(entry.channel.is_some()) + entry.channels.len();
        let users = usize::from(entry.user.is_some()) + entry.users.len();
        if channels + users == 0 {
            return Err((400, "an entry names no channel and no user".to_owned()));
        }
        if all.len() + channels + users > limits::PUSH_BATCH_TARGETS_MAX {
            let most = limits::PUSH_BATCH_TARGETS_MAX;
            return Err((413, format!("a batch has at most {most} receivers")));
        }
        let message = Rc::new(message);
        let channels = entry.channel.into_iter().chain(entry.channels).map(PushAddress::Channel);
        let users = entry.user.into_iter().chain(entry.users).map(PushAddress::User);
        all.extend(channels.chain(users).map(|address| (address, Rc::clone(&message))));
    }
    Ok(all)
}

fn check_length(message: &PushBody, bytes_max: usize) -> Result<(), Wrong> {
    let len = message.len();
    if len > bytes_max {
        let text = format!("the message has {len} bytes; push.max_message is {bytes_max}");
        return Err((413, text));
    }
    Ok(())
}

fn text(body: &[u8]) -> Result<&str, Wrong> {
    std::str::from_utf8(body).map_err(|_| (400, "the body is not UTF-8".to_owned()))
}

fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Wrong> {
    serde_json::from_slice(body).map_err(|error| (400, format!("the JSON cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::proto::http;

    fn post(kind: &str, body: &[u8]) -> Result<PushBody, u16> {
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Type: {kind}\r\n\r\n");
        let request = http::parse_request(head.as_bytes()).unwrap().unwrap();
        message(&request, body, 10).map_err(|(status, _)| status)
    }

    #[test]
    fn the_forms_of_a_message() {
        let text = |text: &str| Ok(PushBody::Text(text.to_owned()));
        let form = "application/x-www-form-urlencoded";
        let table: [(&str, &[u8], Result<PushBody, u16>); 18] = [
            (form, b"message=hello", text("hello")),
            (form, b"a=b&message=a+%C3%A4%26", text("a \u{e4}&")),
            (form, b"message=", text("")),
            (form, b"text=hello", Err(400)),
            (form, b"message=\xFF", Err(400)),
            (form, b"message=12345678901", Err(413)),
            (form, b"message=%41%41%41%41%41%41%41%41%41%41", text("AAAAAAAAAA")),
            ("Application/X-WWW-Form-URLencoded; charset=UTF-8", b"message=x", text("x")),
            ("application/json", br#"{"message":"x"}"#, text("x")),
            ("application/json", br#"{"message":{"a":1}}"#, Ok(PushBody::Json(json!({"a":1})))),
            ("application/json", br#"{"text":"x"}"#, Err(400)),
            ("application/json", br#""x""#, Err(400)),
            ("application/json", b"{", Err(400)),
            ("text/plain; charset=utf-8", b"a=b&c", text("a=b&c")),
            ("text/plain", b"\xFF", Err(400)),
            ("text/plain", b"12345678901", Err(413)),
            ("multipart/form-data; boundary=x", b"message=x", Err(400)),
            ("", b"message=x", Err(400)),
        ];
        for (kind, body, expected) in table {
            assert_eq!(post(kind, body), expected, "{kind}: {}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_batch_is_read_whole_or_not_at_all() {
        let read =
            |body: Json| batch(body.to_string().as_bytes(), 10).map_err(|(status, _)| status);
        let all = read(json!([
            { "channel": 1, "message": "a" },
            { "users": [2, 3], "channels": ["d"], "message": { "b": 1 } },
        ]));
        let all = all.unwrap();
        let object = Rc::new(PushBody::Json(json!({ "b": 1 })));
        let expected = [
            (PushAddress::Channel(1.into()), Rc::new(PushBody::Text("a".to_owned()))),
            (PushAddress::Channel(PushName::Text("d".into())), Rc::clone(&object)),
            (PushAddress::User(2.into()), Rc::clone(&object)),
            (PushAddress::User(3.into()), object),
        ];
        assert_eq!(all, expected);
        assert_eq!(Rc::strong_count(&all[1].1), 3, "the receivers of an entry share its message");
        assert_eq!(read(json!([])), Ok(Vec::new()));
        for (body, status) in [
            (json!([{ "message": "a" }]), 400),
            (json!([{ "channel": 1 }]), 400),
            (json!([{ "channel": "a/b", "message": "a" }]), 400),
            (json!([{ "chanel": 1, "user": 1, "message": "a" }]), 400),
            (json!({ "channel": 1, "message": "a" }), 400),
            (json!([{ "channel": 1, "message": "12345678901" }]), 413),
            (json!([{ "channels": vec![1; 10_001], "message": "a" }]), 413),
        ] {
            assert_eq!(read(body.clone()), Err(status), "{:.60}", body.to_string());
        }
    }

    #[test]
    fn a_notification_names_a_user() {
        let read = |body: Json| notification(body.to_string().as_bytes(), 10);
        let (user, message) = read(json!({ "user_id": 5, "message": { "a": 1 } })).unwrap();
        assert_eq!((user, message), (5.into(), PushBody::Json(json!({ "a": 1 }))));
        assert_eq!(read(json!({ "message": 1 })).unwrap_err().0, 400);
        assert_eq!(read(json!({ "user_id": 5 })).unwrap_err().0, 400);
    }

    proptest! {
        #[test]
        fn any_body_is_taken_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            for kind in ["application/json", "application/x-www-form-urlencoded", "text/plain"] {
                let _ = post(kind, &body);
            }
            let _ = batch(&body, 10);
            let _ = notification(&body, 10);
        }
    }
}
