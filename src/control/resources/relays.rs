//! Relays: the list, targets and sources that an operator adds to streams, their end, and attempts at once.

use serde_json::Value;

use crate::config::{Relay, RelayRule};
use crate::control::answer::Answer;
use crate::control::api::Shared;
use crate::control::relays::NotAdded;
use crate::proto::name::{DEFAULT_VHOST, StreamName};
use crate::rt::clock;
use crate::session::RelayId;

/// What the body of a POST says beside the keys of a rule.
#[derive(Debug, PartialEq)]
struct Wish {
    is_push: bool,
    name: StreamName,
    rule: Relay,
}

/// Which stream, in a POST.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    #[serde(default)]
    vhost: Option<String>,
    app: String,
    #[serde(default)]
    instance: String,
    name: String,
}

/// `GET /api/v1/relays`
pub(super) fn list(shared: &Shared) -> Answer {
    Answer::json(200, &shared.parts.relays.borrow().to_json(clock::now()))
}

/// `GET /api/v1/relays/ID`
pub(super) fn one(shared: &Shared, id: &str) -> Answer {
    let found =
        number(id).and_then(|id| shared.parts.relays.borrow().one_to_json(id, clock::now()));
    found.map_or_else(none, |relay| Answer::json(200, &relay))
}

/// `POST /api/v1/relays`
pub(super) fn add(shared: &Shared, body: &[u8]) -> Answer {
    let wish = match read(body) {
        Ok(wish) => wish,
        Err(why) => return Answer::error(400, why),
    };
    let Wish { is_push, name, rule } = wish;
    let app = shared.parts.settings.get().app(name.vhost(), name.app(), name.instance());
    let rule = match RelayRule::new(&rule, app.log_reach, name.instance()) {
        Ok(rule) => rule,
        Err(why) => return Answer::error(400, why),
    };
    let (now, mut out) = (clock::now(), Vec::new());
    let mut relays = shared.parts.relays.borrow_mut();
    let added = relays.add_by_api(is_push, &name, rule, now, &mut out);
    say(shared, out);
    match added {
        Ok(id) => {
            let relay = relays.one_to_json(id, now).unwrap_or_default();
            Answer::json(201, &relay).with("Location", format!("/api/v1/relays/{}", id.0))
        }
        Err(NotAdded::NotPublished) => Answer::error(404, format!("{name} is not published here")),
        Err(NotAdded::Conflict(why)) => Answer::error(409, why),
        Err(NotAdded::Unable(why)) => Answer::error(503, why),
    }
}

/// `DELETE /api/v1/relays/ID`
pub(super) fn end(shared: &Shared, id: &str) -> Answer {
    let mut out = Vec::new();
    let was_there =
        number(id).is_some_and(|id| shared.parts.relays.borrow_mut().end_by_api(id, &mut out));
    say(shared, out);
    if was_there { Answer::plain(204, "") } else { none() }
}

/// `POST /api/v1/relays/ID/retry`
pub(super) fn retry(shared: &Shared, id: &str) -> Answer {
    let Some(id) = number(id) else { return none() };
    let now = clock::now();
    let mut relays = shared.parts.relays.borrow_mut();
    match relays.retry_by_api(id, now) {
        None => none(),
        Some(false) => Answer::error(409, "the relay does not wait for its next attempt"),
        Some(true) => {
            shared.parts.orders.wake();
            Answer::json(200, &relays.one_to_json(id, now).unwrap_or_default())
        }
    }
}

fn say(shared: &Shared, out: crate::control::Outgoing) {
    for (node, notice) in out {
        shared.parts.orders.give(node, notice);
    }
    shared.parts.orders.wake();
}

fn number(id: &str) -> Option<RelayId> {
    id.parse().ok().map(RelayId)
}

fn none() -> Answer {
    Answer::error(404, "there is no such relay (any more); GET /api/v1/relays lists them")
}

fn read(body: &[u8]) -> Result<Wish, String> {
    let no_object = || "send a JSON object with direction, stream and url or app".to_owned();
    let Ok(Value::Object(mut object)) = serde_json::from_slice(body) else {
        return Err(no_object());
    };
    let is_push = match object.remove("direction").as_ref().map(Value::as_str) {
        Some(Some("push")) => true,
        Some(Some("pull")) => false,
        _ => return Err("direction is \"push\" or \"pull\"".to_owned()),
    };
    let stream = object.remove("stream").ok_or_else(no_object)?;
    let parts: Parts =
        serde_json::from_value(stream).map_err(|error| format!("stream: {error}"))?;
    let vhost = parts.vhost.as_deref().unwrap_or(DEFAULT_VHOST);
    let name = StreamName::new(vhost, &parts.app, &parts.instance, &parts.name)
        .map_err(|error| format!("stream: {error}"))?;
    let rule: Relay =
        serde_json::from_value(Value::Object(object)).map_err(|error| error.to_string())?;
    if rule.relayed || rule.is_static {
        return Err("relayed and static are keys of the configuration only".to_owned());
    }
    if !is_push && rule.app.is_some() {
        return Err("a stream is fetched from a url".to_owned());
    }
    Ok(Wish { is_push, name, rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_names_a_stream_and_has_the_keys_of_a_rule() {
        let body = r#"{"direction":"push","stream":{"app":"live","instance":"i","name":"cam"},
            "url":"rtmp://h/a","fallback":["rtmp://g/a"],"name":"other","buffer":"1s"}"#;
        let wish = read(body.as_bytes()).unwrap();
        assert_eq!((wish.is_push, wish.name.to_string()), (true, "live/i/cam".to_owned()));
        assert_eq!(
            (wish.rule.url.as_str(), wish.rule.name.as_deref()),
            ("rtmp://h/a", Some("other"))
        );
        assert!(wish.rule.buffer.is_some());
    }

    #[test]
    fn other_bodies_are_told_what_is_wrong() {
        for (body, part) in [
            ("", "JSON object"),
            ("[]", "JSON object"),
            (r#"{"stream":{"app":"a","name":"s"}}"#, "direction is"),
            (r#"{"direction":"push"}"#, "stream"),
            (r#"{"direction":"push","stream":"a/s"}"#, "stream: "),
            (r#"{"direction":"push","stream":{"app":"a"}}"#, "missing field `name`"),
            (r#"{"direction":"push","stream":{"app":"a","name":""}}"#, "stream: "),
            (r#"{"direction":"push","stream":{"app":"a","name":"s"},"urls":[]}"#, "urls"),
            (r#"{"direction":"push","stream":{"app":"a","name":"s"},"static":true}"#, "static"),
            (r#"{"direction":"pull","stream":{"app":"a","name":"s"},"app":"b"}"#, "url"),
        ] {
            let why = read(body.as_bytes()).unwrap_err();
            assert!(why.contains(part), "{body}: {why}");
        }
    }
}
