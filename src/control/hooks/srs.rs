//! SRS's dialect: one JSON object per event, its fields in SRS's order and types; accepted is `0` or
//! `{"code":0}` with status 200 or 201 (contract hooks, section 2).
//!
//! `srs_version = 1` sends the objects of 2014, with a number for `client_id`. Softer than the
//! original: white space around `0` is no refusal.

use std::fmt::Write;

use super::event::{HookRequest, Identity, Judgement, Occurrence, StreamFacts, Subject};
use crate::config::{HookEvent, HookHttp, HookTarget};
use crate::proto::http_response::Response;
use crate::proto::name::DEFAULT_VHOST;

/// The request that tells `target` of an event.
pub(super) fn request(
    occurrence: &Occurrence,
    target: &HookTarget,
    identity: &Identity,
    attempt: u32,
) -> HookRequest {
    let body = match target.srs_version {
        1 if !matches!(occurrence.event, HookEvent::Forward | HookEvent::Relay) => {
            body_of_2014(occurrence)
        }
        _ => body(occurrence, target, identity),
    };
    let url = &target.url;
    let keep_alive = target.http == HookHttp::Http11;
    let (version, connection) = match target.http {
        HookHttp::Http10 => ("1.0", "Close"),
        HookHttp::Http11 => ("1.1", "Keep-Alive"),
    };
    let length = body.len();
    let agent = &target.user_agent;
    let mut host = url.host_text();
    let headers = if target.srs_version == 1 {
        format!(
            "Host: {host}\r\nConnection: {connection}\r\nContent-Length: {length}\r\n\
             User-Agent: {agent}\r\nContent-Type: application/json\r\n"
        )
    } else {
        if url.port != 80 {
            let _ = write!(host, ":{}", url.port);
        }
        format!(
            "Connection: {connection}\r\nContent-Length: {length}\r\n\
             Content-Type: application/json\r\nHost: {host}\r\nUser-Agent: {agent}\r\n"
        )
    };
    let extra = occurrence.extra_headers(target, identity, attempt, &body);
    let text = format!("POST {} HTTP/{version}\r\n{headers}{extra}\r\n{body}", url.target);
    HookRequest { bytes: text.into_bytes(), keep_alive }
}

/// What an answer to a gating hook means.
pub(super) fn judge(answer: &Response) -> Judgement {
    match answer.status {
        200 | 201 => {}
        502..=504 => return Judgement::Fail(format!("answered {}", answer.status)),
        status => return Judgement::Refuse(format!("answered {status}")),
    }
    if !answer.is_whole {
        return Judgement::Fail("sent half an answer".to_owned());
    }
    let body = answer.body.trim_ascii();
    if body == b"0" {
        return Judgement::Accept;
    }
    let code = match serde_json::from_slice(body) {
        Ok(serde_json::Value::Object(object)) => {
            object.get("code").and_then(serde_json::Value::as_i64)
        }
        _ => None,
    };
    match code {
        Some(0) => Judgement::Accept,
        Some(code) => Judgement::Refuse(format!("answered code {code}")),
        None => {
            let text: String = String::from_utf8_lossy(body).chars().take(60).collect();
            Judgement::Refuse(format!("answered neither 0 nor {{\"code\":0}} but {text:?}"))
        }
    }
}

/// One JSON object, fields in the order of calls.
struct Object(String);

impl Object {
    fn text(mut self, key: &str, value: &str) -> Self {
        // Text always has a JSON form.
        let value = serde_json::to_string(value).unwrap_or_default();
        self.field(key, &value);
        self
    }

    fn number(mut self, key: &str, value: u64) -> Self {
        self.field(key, &value.to_string());
        self
    }

    fn field(&mut self, key: &str, value: &str) {
        let comma = if self.0.is_empty() { '{' } else { ',' };
        // Writing to a String does not fail.
        let _ = write!(self.0, "{comma}\"{key}\":{value}");
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn body(occurrence: &Occurrence, target: &HookTarget, identity: &Identity) -> String {
    let info = &*occurrence.caller.info;
    let server_id = target.server_id.as_deref().unwrap_or(&identity.server);
    let head = Object(String::new())
        .text("server_id", server_id)
        .text("service_id", &identity.service)
        .text("action", action(occurrence.event))
        .text("client_id", &info.id.to_string())
        .text("ip", &occurrence.caller.address.to_string())
        .text("vhost", &info.vhost)
        .text("app", &info.app_text);
    let stream = occurrence.subject.stream();
    let name = stream.map(|stream| stream.name.as_str()).unwrap_or_default();
    let param = param(occurrence, stream);
    match occurrence.event {
        // Its action comes first.
        HookEvent::Forward => Object(String::new())
            .text("action", action(occurrence.event))
            .text("server_id", server_id)
            .text("service_id", &identity.service)
            .text("client_id", &info.id.to_string())
            .text("ip", &occurrence.caller.address.to_string())
            .text("vhost", &info.vhost)
            .text("app", &info.app_text)
            .text("tcUrl", &info.tc_url)
            .text("stream", name)
            .text("param", &param)
            .end(),
        HookEvent::Connect => head
            .text("stream", name)
            .text("param", &param)
            .text("tcUrl", &info.tc_url)
            .text("pageUrl", &info.page_url)
            .end(),
        HookEvent::Close | HookEvent::Disconnect => {
            let (bytes_in, bytes_out) = match occurrence.subject {
                Subject::Connection { bytes_in, bytes_out } => (bytes_in, bytes_out),
                _ => (0, 0),
            };
            head.number("send_bytes", bytes_out).number("recv_bytes", bytes_in).end()
        }
        HookEvent::Play => head
            .text("stream", name)
            .text("tcUrl", &info.tc_url)
            .text("param", &param)
            .text("pageUrl", &info.page_url)
            .text("stream_url", &stream_url(occurrence, name))
            .text("stream_id", &stream_id(occurrence, name, server_id))
            .end(),
        _ => {
            let mut object =
                head.text("tcUrl", &info.tc_url).text("stream", name).text("param", &param);
            match &occurrence.subject {
                Subject::Update { seconds, timestamp_ms, .. } => {
                    object = object
                        .number("time", *seconds)
                        .number("timestamp", u64::from(*timestamp_ms));
                }
                Subject::Recording { path, .. } => {
                    let cwd = std::env::current_dir().unwrap_or_default();
                    object = object.text("cwd", &cwd.to_string_lossy()).text("file", path);
                }
                Subject::Relay { change, .. } => {
                    object = object
                        .number("relay", change.relay.0)
                        .text("direction", change.direction)
                        .text("state", change.state)
                        .text("target", &change.url)
                        .text("code", &change.code)
                        .text("description", &change.description)
                        .text("error", &change.error)
                        .number("send_bytes", change.bytes_out)
                        .number("recv_bytes", change.bytes_in)
                        .number("drops", change.drops);
                }
                Subject::Connection { .. } | Subject::Stream(_) => {}
            }
            object
                .text("stream_url", &stream_url(occurrence, name))
                .text("stream_id", &stream_id(occurrence, name, server_id))
                .end()
        }
    }
}

/// The objects of the documentation of 2014: no field more.
fn body_of_2014(occurrence: &Occurrence) -> String {
    let info = &*occurrence.caller.info;
    let head = Object(String::new())
        .text("action", action(occurrence.event))
        .number("client_id", info.id.0)
        .text("ip", &occurrence.caller.address.to_string())
        .text("vhost", &info.vhost)
        .text("app", &info.app_text);
    match (occurrence.event, occurrence.subject.stream()) {
        (HookEvent::Connect, _) => head.text("pageUrl", &info.page_url).end(),
        (_, Some(stream)) => head.text("stream", &stream.name).end(),
        (_, None) => head.end(),
    }
}

/// SRS's word for an event, also where nginx-rtmp has a key of its own for it.
fn action(event: HookEvent) -> &'static str {
    match event {
        HookEvent::Connect => "on_connect",
        HookEvent::Disconnect | HookEvent::Close => "on_close",
        HookEvent::Publish => "on_publish",
        HookEvent::Unpublish | HookEvent::PublishDone => "on_unpublish",
        HookEvent::Play => "on_play",
        HookEvent::Stop | HookEvent::PlayDone => "on_stop",
        HookEvent::Done => "on_done",
        HookEvent::Update => "on_update",
        HookEvent::RecordDone => "on_dvr",
        // Told in no dialect, see `message`.
        HookEvent::Message => "on_message",
        HookEvent::Forward => "on_forward",
        HookEvent::Relay => "on_relay",
    }
}

/// The stream's query and then tcUrl's, with a `?` in front.
fn param(occurrence: &Occurrence, stream: Option<&StreamFacts>) -> String {
    let of_stream = stream.map(|stream| stream.args.as_str()).unwrap_or_default();
    let info = &*occurrence.caller.info;
    let of_url = info.tc_url.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let mut param = String::new();
    for query in [of_stream, of_url] {
        if !query.is_empty() {
            param.push(if param.is_empty() { '?' } else { '&' });
            param.push_str(query);
        }
    }
    param
}

fn stream_url(occurrence: &Occurrence, name: &str) -> String {
    let info = &*occurrence.caller.info;
    let vhost = Some(info.vhost.as_str()).filter(|vhost| *vhost != DEFAULT_VHOST);
    let bare = name.rsplit_once('.').map_or(name, |(bare, _)| bare);
    format!("{}/{}/{bare}", vhost.unwrap_or_default(), info.app_text)
}

/// The same for all events about one name: a digest of it, in SRS's form.
fn stream_id(occurrence: &Occurrence, name: &str, server_id: &str) -> String {
    digest(server_id, &stream_url(occurrence, name))
}

/// The id of the stream with this URL (`/APP/STREAM`, behind a vhost that is not the default one).
pub(super) fn digest(server_id: &str, url: &str) -> String {
    use sha2::{Digest, Sha256};
    const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let digest = Sha256::digest(format!("{server_id} {url}"));
    let letters = digest.iter().take(7).map(|byte| LETTERS[usize::from(*byte) % 36]);
    format!("vid-{}", letters.map(char::from).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::event::tests::{identity, target};
    use super::super::event::{Caller, StreamKind};
    use super::*;
    use crate::session::{ClientId, ClientInfo};

    fn occurrence(event: HookEvent, subject: Subject) -> Occurrence {
        let info = ClientInfo {
            id: ClientId(1985),
            vhost: "video.test.com".to_owned(),
            app: "live".to_owned(),
            app_text: "live".to_owned(),
            tc_url: "rtmp://video.test.com/live?key=1".to_owned(),
            page_url: "http://www.test.com/live.html".to_owned(),
            ..ClientInfo::default()
        };
        let address = "192.168.1.10".parse().unwrap();
        let caller = Arc::new(Caller { info: Arc::new(info), address, epoch_ms: 0 });
        Occurrence { id: 1, event, caller, subject }
    }

    fn stream() -> Subject {
        let kind = StreamKind::Publish { publish_type: "live".to_owned() };
        let (name, args) = ("livestream".to_owned(), "a=1".to_owned());
        Subject::Stream(Arc::new(StreamFacts { name, args, kind }))
    }

    const CONNECTION: Subject = Subject::Connection { bytes_in: 7, bytes_out: 9 };

    /// The objects that the documentation of 2014 shows.
    #[test]
    fn the_documents_examples_are_reproduced() {
        let common =
            r#""client_id":1985,"ip":"192.168.1.10","vhost":"video.test.com","app":"live""#;
        let table = [
            (
                HookEvent::Connect,
                CONNECTION,
                format!(
                    r#"{{"action":"on_connect",{common},"pageUrl":"http://www.test.com/live.html"}}"#
                ),
            ),
            (HookEvent::Close, CONNECTION, format!(r#"{{"action":"on_close",{common}}}"#)),
            (
                HookEvent::Publish,
                stream(),
                format!(r#"{{"action":"on_publish",{common},"stream":"livestream"}}"#),
            ),
            (
                HookEvent::Unpublish,
                stream(),
                format!(r#"{{"action":"on_unpublish",{common},"stream":"livestream"}}"#),
            ),
            (
                HookEvent::Play,
                stream(),
                format!(r#"{{"action":"on_play",{common},"stream":"livestream"}}"#),
            ),
            (
                HookEvent::Stop,
                stream(),
                format!(r#"{{"action":"on_stop",{common},"stream":"livestream"}}"#),
            ),
        ];
        for (event, subject, expected) in table {
            assert_eq!(body_of_2014(&occurrence(event, subject)), expected);
        }
        let mut logged = occurrence(HookEvent::Connect, CONNECTION);
        logged.caller = Arc::new(Caller {
            info: Arc::new(ClientInfo {
                id: ClientId(4),
                vhost: "__defaultVhost__".to_owned(),
                app_text: "live".to_owned(),
                ..ClientInfo::default()
            }),
            address: "192.168.1.179".parse().unwrap(),
            epoch_ms: 0,
        });
        assert_eq!(
            body_of_2014(&logged),
            r#"{"action":"on_connect","client_id":4,"ip":"192.168.1.179","vhost":"__defaultVhost__","app":"live","pageUrl":""}"#
        );
    }

    fn keys(body: &str) -> Vec<String> {
        let mut keys = Vec::new();
        for part in body.trim_matches(['{', '}']).split(",\"") {
            keys.push(part.trim_start_matches('"').split('"').next().unwrap().to_owned());
        }
        keys
    }

    #[test]
    fn fields_of_version_7_are_in_its_order() {
        const HEAD: [&str; 7] =
            ["server_id", "service_id", "action", "client_id", "ip", "vhost", "app"];
        let table: [(HookEvent, Subject, &[&str]); 6] = [
            (HookEvent::Connect, stream(), &["stream", "param", "tcUrl", "pageUrl"]),
            (HookEvent::Close, CONNECTION, &["send_bytes", "recv_bytes"]),
            (
                HookEvent::Publish,
                stream(),
                &["tcUrl", "stream", "param", "stream_url", "stream_id"],
            ),
            (
                HookEvent::Unpublish,
                stream(),
                &["tcUrl", "stream", "param", "stream_url", "stream_id"],
            ),
            (
                HookEvent::Play,
                stream(),
                &["stream", "tcUrl", "param", "pageUrl", "stream_url", "stream_id"],
            ),
            (HookEvent::Stop, stream(), &["tcUrl", "stream", "param", "stream_url", "stream_id"]),
        ];
        let target = target("dialect = \"srs\"\non_play = \"http://h/\"", HookEvent::Play);
        for (event, subject, rest) in table {
            let body = body(&occurrence(event, subject), &target, &identity());
            assert_eq!(keys(&body), [&HEAD[..], rest].concat(), "{body}");
            let value: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(value["client_id"], "1985", "a string");
            assert_eq!(value["action"], action(event));
            assert_eq!(value["server_id"], "vid-1234567");
            if rest.contains(&"param") {
                assert_eq!(value["param"], "?a=1&key=1");
            }
            if rest.contains(&"stream_url") {
                assert_eq!(value["stream_url"], "video.test.com/live/livestream");
                assert_eq!(value["stream_id"].as_str().unwrap().len(), 11);
            }
            if event == HookEvent::Close {
                assert_eq!((&value["send_bytes"], &value["recv_bytes"]), (&9.into(), &7.into()));
            }
        }
    }

    #[test]
    fn the_question_for_targets_begins_with_its_action() {
        let target = target("on_forward = \"http://h/\"", HookEvent::Forward);
        let made = occurrence(HookEvent::Forward, stream()).request(&target, &identity(), 1);
        let text = String::from_utf8(made.bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nContent-Type: application/json\r\n"), "{head}");
        assert_eq!(
            body,
            "{\"action\":\"on_forward\",\"server_id\":\"vid-1234567\",\"service_id\":\"abcdefgh\",\
             \"client_id\":\"1985\",\"ip\":\"192.168.1.10\",\"vhost\":\"video.test.com\",\"app\":\"live\",\
             \"tcUrl\":\"rtmp://video.test.com/live?key=1\",\"stream\":\"livestream\",\
             \"param\":\"?a=1&key=1\"}"
        );
    }

    #[test]
    fn a_recording_and_an_update_have_their_fields() {
        let target = target("dialect = \"srs\"\non_play = \"http://h/\"", HookEvent::Play);
        let Subject::Stream(facts) = stream() else { unreachable!() };
        let update =
            Subject::Update { stream: Arc::clone(&facts), seconds: 30, timestamp_ms: 1_000 };
        let text = body(&occurrence(HookEvent::Update, update), &target, &identity());
        assert!(text.contains(r#""param":"?a=1&key=1","time":30,"timestamp":1000,"#), "{text}");
        let recording =
            Subject::Recording { stream: facts, recorder: String::new(), path: "a.flv".to_owned() };
        let text = body(&occurrence(HookEvent::RecordDone, recording), &target, &identity());
        assert!(text.contains(r#""action":"on_dvr""#), "{text}");
        assert!(text.contains(r#","file":"a.flv","stream_url":"#), "{text}");
    }

    #[test]
    fn heads_are_sorted_and_those_of_2014_are_not() {
        let text = |toml: &str| {
            let target = target(&format!("dialect = \"srs\"\n{toml}"), HookEvent::Close);
            let made = request(&occurrence(HookEvent::Close, CONNECTION), &target, &identity(), 1);
            assert!(made.keep_alive);
            String::from_utf8(made.bytes).unwrap()
        };
        let version = env!("CARGO_PKG_VERSION");
        let new = text("on_close = \"http://h:8085/a?b=c\"");
        let (head, body) = new.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            head,
            format!(
                "POST /a?b=c HTTP/1.1\r\nConnection: Keep-Alive\r\nContent-Length: {}\r\n\
                 Content-Type: application/json\r\nHost: h:8085\r\n\
                 User-Agent: shardcast/{version}",
                body.len()
            )
        );
        let old = text("srs_version = 1\nuser_agent = \"x/1\"\non_close = \"http://h:8085/a\"");
        let (head, body) = old.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            head,
            format!(
                "POST /a HTTP/1.1\r\nHost: h\r\nConnection: Keep-Alive\r\nContent-Length: {}\r\n\
                 User-Agent: x/1\r\nContent-Type: application/json",
                body.len()
            )
        );
    }

    #[test]
    fn text_is_escaped() {
        let mut odd = occurrence(HookEvent::Connect, CONNECTION);
        odd.caller = Arc::new(Caller {
            info: Arc::new(ClientInfo {
                page_url: "a\"b\\\u{1}ü".to_owned(),
                ..ClientInfo::default()
            }),
            ..(*odd.caller).clone()
        });
        let body = body_of_2014(&odd);
        assert!(body.ends_with(r#""pageUrl":"a\"b\\\u0001ü"}"#), "{body}");
    }

    #[test]
    fn only_zero_accepts() {
        let judged = |status, body: &str| {
            judge(&Response {
                status,
                body: body.as_bytes().to_vec(),
                is_whole: true,
                ..Response::default()
            })
        };
        for body in ["0", " 0\r\n", "{\"code\":0}", "{ \"code\" : 0, \"data\": null }\n"] {
            assert_eq!(judged(200, body), Judgement::Accept, "{body}");
            assert_eq!(judged(201, body), Judgement::Accept, "{body}");
            for status in [202, 204, 302, 400, 500] {
                assert!(matches!(judged(status, body), Judgement::Refuse(_)), "{status}");
            }
            assert!(matches!(judged(503, body), Judgement::Fail(_)));
        }
        for body in ["", "1", "ok", "\"0\"", "[0]", "{}", "{\"code\":\"0\"}", "{\"code\":1}", "00"]
        {
            assert!(matches!(judged(200, body), Judgement::Refuse(_)), "{body}");
        }
        let half = Response { status: 200, body: b"0".to_vec(), ..Response::default() };
        assert!(matches!(judge(&half), Judgement::Fail(_)));
    }
}
