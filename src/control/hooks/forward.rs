//! Asking where a published stream is to be sent on to: SRS's forward back end. Its answer takes the place
//! of the application's `push`. The same in both dialects: one JSON object out, and one back (contract
//! hooks 2.3, 2.4).

use std::sync::Arc;

use serde_json::Value;

use super::Shared;
use super::consult::consult;
use super::event::{Judgement, Occurrence};
use crate::config::{AppSettings, HookEvent, HookTarget, RelayRule};
use crate::limits;
use crate::proto::http_response::Response;
use crate::proto::rtmp::address::{PathForm, RtmpAddress};

/// Calls one back end.
///
/// # Errors
/// It refuses, or could not say.
pub(super) async fn ask(
    shared: &Shared,
    target: &HookTarget,
    occurrence: &Occurrence,
    app: &AppSettings,
) -> Result<Vec<Arc<RelayRule>>, Judgement> {
    let request = occurrence.request(target, &shared.identity, 1);
    let read = |response: &Response| {
        let answer = read(response);
        let judgement = answer.as_ref().err().cloned().unwrap_or(Judgement::Accept);
        (answer, judgement)
    };
    let answer = consult(shared, HookEvent::Forward, target, &request, read).await;
    let addresses = answer.map_err(Judgement::Fail)??;
    let rules = addresses.into_iter().map(|address| RelayRule::of_hook(address, target, app));
    Ok(rules.map(Arc::new).collect())
}

/// The targets of an answer: `{"code":0,"data":{"urls":["rtmp://host/app/stream"]}}`. Without `data` or
/// `urls` there are none, and empty ones are left out.
fn read(response: &Response) -> Result<Vec<RtmpAddress>, Judgement> {
    match super::srs::judge(response) {
        Judgement::Accept => {}
        other => return Err(other),
    }
    let fail = |text: &str| Err(Judgement::Fail(text.to_owned()));
    let Ok(Value::Object(object)) = serde_json::from_slice(response.body.trim_ascii()) else {
        return fail("answered no JSON object");
    };
    let urls = match object.get("data") {
        None | Some(Value::Null) => None,
        Some(data) => data.get("urls"),
    };
    let urls = match urls {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(urls)) => urls,
        Some(_) => return fail("answered urls that are no list"),
    };
    let mut found = Vec::new();
    for url in urls {
        let Some(url) = url.as_str() else { return fail("answered a URL that is no text") };
        if url.is_empty() {
            continue;
        }
        match RtmpAddress::parse_as(url, PathForm::LastIsStream) {
            Ok(address) => found.push(address),
            Err(error) => return Err(Judgement::Fail(format!("answered {url:?}: {error}"))),
        }
    }
    if found.len() > limits::RELAY_HOOK_TARGETS_MAX {
        let max = limits::RELAY_HOOK_TARGETS_MAX;
        return Err(Judgement::Fail(format!("answered more than {max} targets")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Result<Vec<String>, Judgement> {
        let body = body.as_bytes().to_vec();
        let found = read(&Response { status, body, is_whole: true, ..Response::default() });
        found.map(|list| list.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn urls_are_targets_and_none_is_none() {
        let two = r#"{"code":0,"data":{"urls":["rtmp://a/live/s?k=v","","rtmp://b:1936/x/y/z"]}}"#;
        assert_eq!(answer(200, two).unwrap(), ["rtmp://a/live/s?k=v", "rtmp://b:1936/x/y/z"]);
        for none in [
            r#"{"code":0}"#,
            r#"{"code":0,"data":null}"#,
            r#"{"code":0,"data":{}}"#,
            r#"{"code":0,"data":{"urls":[]}}"#,
        ] {
            assert!(answer(201, none).unwrap().is_empty(), "{none}");
        }
    }

    #[test]
    fn other_answers_are_refusals_or_none() {
        for (status, body) in [(403, ""), (200, ""), (200, r#"{"code":1}"#), (204, "")] {
            assert!(matches!(answer(status, body), Err(Judgement::Refuse(_))), "{status} {body}");
        }
        let many = vec!["rtmp://a/b/c"; limits::RELAY_HOOK_TARGETS_MAX + 1];
        let many = serde_json::json!({ "code": 0, "data": { "urls": many } }).to_string();
        for (status, body) in [
            (503, ""),
            (200, "0"),
            (200, r#"{"code":0,"data":{"urls":"rtmp://a/b/c"}}"#),
            (200, r#"{"code":0,"data":{"urls":[1]}}"#),
            (200, r#"{"code":0,"data":{"urls":["http://a/b"]}}"#),
            (200, &many),
        ] {
            assert!(matches!(answer(status, body), Err(Judgement::Fail(_))), "{status} {body}");
        }
    }
}
