//! nginx-rtmp's dialect: forms over HTTP/1.0, keys and escapes in its order and set, verdicts by the
//! first digit of the status (contract hooks, section 1).
//!
//! Like the original, flashVer is cut at 31 bytes and the publish type at 15. Where the original goes wrong, this does not: a URL without a path is asked for `/`, GET appends to
//! a URL that has a query with `&`, and values are not cut at 255 bytes.

use std::fmt::Write;

use super::event::{HookRequest, Identity, Judgement, Occurrence, StreamKind, Subject};
use crate::config::{HookEvent, HookHttp, HookTarget, NotifyMethod};
use crate::control::relays::RelayChange;
use crate::proto::http_response::Response;

/// The request that tells `target` of an event.
pub(super) fn request(
    occurrence: &Occurrence,
    target: &HookTarget,
    identity: &Identity,
    attempt: u32,
) -> HookRequest {
    let form = form(occurrence, target.repeat_connect_args);
    // As it is sent, and so as it is signed.
    let form = match target.method {
        NotifyMethod::Post => form,
        NotifyMethod::Get => form.chars().map(one_line).collect(),
    };
    let keep_alive = target.http == HookHttp::Http11;
    let (version, connection) = match target.http {
        HookHttp::Http10 => ("1.0", "Close"),
        HookHttp::Http11 => ("1.1", "Keep-Alive"),
    };
    let url = &target.url;
    // The original leaves the port out, which HTTP/1.1 does not allow.
    let host = match (target.http, url.is_tls, url.port) {
        (HookHttp::Http10, ..) | (_, false, 80) | (_, true, 443) => url.host_text(),
        (_, _, port) => format!("{}:{port}", url.host_text()),
    };
    let path = &url.target;
    let (method, path, body) = match target.method {
        NotifyMethod::Post => ("POST", path.clone(), form.as_str()),
        NotifyMethod::Get => {
            let mark = if path.contains('?') { '&' } else { '?' };
            ("GET", format!("{path}{mark}{form}"), "")
        }
    };
    let extra = occurrence.extra_headers(target, identity, attempt, &form);
    let text = format!(
        "{method} {path} HTTP/{version}\r\n\
         Host: {host}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\
         Connection: {connection}\r\n\
         Content-Length: {}\r\n{extra}\r\n{body}",
        body.len()
    );
    HookRequest { bytes: text.into_bytes(), keep_alive }
}

/// What an answer to a gating hook, or to an update, means.
pub(super) fn judge(event: HookEvent, target: &HookTarget, answer: &Response) -> Judgement {
    let said = format!("answered {}", answer.status);
    match (answer.status / 100, answer.status) {
        (2, _) => Judgement::Accept,
        (_, 502..=504) => Judgement::Fail(said),
        (3, _) if event == HookEvent::Update => {
            if target.update_strict {
                Judgement::Refuse(said)
            } else {
                Judgement::Accept
            }
        }
        (3, _) if !target.redirect => {
            Judgement::Refuse(format!("{said}, and notify_redirect is off"))
        }
        (3, _) => match &answer.location {
            None => Judgement::Accept,
            Some(to) if is_address(to) && event == HookEvent::Connect => {
                Judgement::Refuse(format!("{said} to {to}, but a connection cannot be relayed"))
            }
            Some(to) if is_address(to) => Judgement::Relay(to.clone()),
            Some(to) => Judgement::Rename(to.clone()),
        },
        _ => Judgement::Refuse(said),
    }
}

/// Whether a Location is that of a stream on another server.
fn is_address(location: &str) -> bool {
    ["rtmp://", "rtmps://"].iter().any(|scheme| {
        location.get(..scheme.len()).is_some_and(|it| it.eq_ignore_ascii_case(scheme))
    })
}

/// The original's buffer for flashVer, less its end.
const FLASH_VERSION_BYTES_MAX: usize = 31;
/// The original's buffer for the publish type, less its end.
const PUBLISH_TYPE_BYTES_MAX: usize = 15;

/// The form of an event.
fn form(occurrence: &Occurrence, repeat_connect_args: bool) -> String {
    let info = &*occurrence.caller.info;
    let mut form = String::with_capacity(256);
    for (key, value) in [
        ("app=", info.app_text.as_bytes()),
        ("&flashver=", cut(&info.flash_version, FLASH_VERSION_BYTES_MAX)),
        ("&swfurl=", info.swf_url.as_bytes()),
        ("&tcurl=", info.tc_url.as_bytes()),
        ("&pageurl=", info.page_url.as_bytes()),
    ] {
        form.push_str(key);
        escape(value, &mut form);
    }
    // Writing to a String does not fail.
    let _ = write!(form, "&addr={}", occurrence.caller.address);
    if occurrence.event == HookEvent::Connect {
        let _ = write!(form, "&epoch={}", occurrence.caller.epoch_ms);
    } else {
        let _ = write!(form, "&clientid={}", info.id);
    }
    let _ = write!(form, "&call={}", call(occurrence));
    match &occurrence.subject {
        Subject::Connection { .. } => {
            if matches!(occurrence.event, HookEvent::Disconnect | HookEvent::Close) {
                form.push_str("&app=");
                escape(info.app_text.as_bytes(), &mut form);
            }
        }
        Subject::Recording { recorder, .. } => {
            form.push_str("&recorder=");
            escape(recorder.as_bytes(), &mut form);
        }
        Subject::Update { seconds, timestamp_ms, .. } => {
            // The original prints a signed number.
            let timestamp = timestamp_ms.cast_signed();
            let _ = write!(form, "&time={seconds}&timestamp={timestamp}");
        }
        Subject::Stream(_) | Subject::Relay { .. } => {}
    }
    let stream = occurrence.subject.stream();
    if let Some(stream) = stream {
        let is_start = matches!(occurrence.event, HookEvent::Publish | HookEvent::Play);
        if is_start || !stream.name.is_empty() {
            form.push_str("&name=");
            escape(stream.name.as_bytes(), &mut form);
        }
        match &stream.kind {
            StreamKind::Publish { publish_type } if is_start => {
                form.push_str("&type=");
                escape(cut(publish_type, PUBLISH_TYPE_BYTES_MAX), &mut form);
            }
            StreamKind::Play { start, duration, reset } if is_start => {
                let _ = write!(
                    form,
                    "&start={}&duration={}&reset={}",
                    as_u32(*start),
                    as_u32(*duration),
                    u8::from(*reset)
                );
            }
            _ => {}
        }
    }
    if let Subject::Relay { change, .. } = &occurrence.subject {
        relay(change, &mut form);
    }
    if let Subject::Recording { path, .. } = &occurrence.subject {
        form.push_str("&path=");
        escape(path.as_bytes(), &mut form);
    }
    let args = stream.map_or(info.connect_args.as_str(), |stream| stream.args.as_str());
    let repeated = if stream.is_some() && repeat_connect_args { &*info.connect_args } else { "" };
    // As sent, without escapes.
    for args in [args, repeated] {
        if !args.is_empty() {
            form.push('&');
            form.push_str(args);
        }
    }
    form
}

/// What is said of a relay.
fn relay(change: &RelayChange, form: &mut String) {
    // Writing to a String does not fail.
    let _ = write!(form, "&relay={}", change.relay.0);
    for (key, value) in [
        ("&direction=", change.direction),
        ("&state=", change.state),
        ("&target=", &change.url),
        ("&code=", &change.code),
        ("&description=", &change.description),
        ("&error=", &change.error),
    ] {
        form.push_str(key);
        escape(value.as_bytes(), form);
    }
    for (key, number) in
        [("bytes_in", change.bytes_in), ("bytes_out", change.bytes_out), ("drops", change.drops)]
    {
        let _ = write!(form, "&{key}={number}");
    }
}

/// The word that the original has for an event, also where SRS has a key of its own for it.
fn call(occurrence: &Occurrence) -> &'static str {
    match occurrence.event {
        HookEvent::Connect => "connect",
        HookEvent::Disconnect | HookEvent::Close => "disconnect",
        HookEvent::Publish => "publish",
        HookEvent::PublishDone | HookEvent::Unpublish => "publish_done",
        HookEvent::Play => "play",
        HookEvent::PlayDone | HookEvent::Stop => "play_done",
        HookEvent::Done => "done",
        HookEvent::RecordDone => "record_done",
        // Told in no dialect, see `message`.
        HookEvent::Message => "message",
        // Asked in SRS's shape only, see `forward`.
        HookEvent::Forward => "forward",
        HookEvent::Relay => "relay",
        HookEvent::Update => match occurrence.subject.stream().map(|stream| &stream.kind) {
            Some(StreamKind::Publish { .. }) => "update_publish",
            Some(StreamKind::Play { .. }) => "update_play",
            None => "update",
        },
    }
}

/// A number of the play command as the original prints it: cut to 32 bits, negative ones from the top.
fn as_u32(number: f64) -> u32 {
    (number as i64) as u32
}

/// What would end the request line cannot go into it: the original puts it there.
fn one_line(c: char) -> char {
    if c.is_control() || c == ' ' { '+' } else { c }
}

/// The first bytes of a text, perhaps half a character at the end.
fn cut(text: &str, bytes_max: usize) -> &[u8] {
    text.as_bytes().get(..bytes_max).unwrap_or(text.as_bytes())
}

/// Percent-encodes with nginx's set for arguments.
fn escape(value: &[u8], out: &mut String) {
    for &byte in value {
        let is_escaped = byte <= b' ' || byte >= 0x7F || b"\"#%&+;<>?\\^`{|}".contains(&byte);
        if is_escaped {
            let _ = write!(out, "%{byte:02X}");
        } else {
            out.push(char::from(byte));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::event::tests::{identity, target};
    use super::super::event::{Caller, StreamFacts};
    use super::*;
    use crate::session::ClientInfo;

    /// The client of contract hooks, section 7.
    fn caller() -> Arc<Caller> {
        let info = ClientInfo {
            app: "myapp".to_owned(),
            app_text: "myapp".to_owned(),
            connect_args: "arg1=v1&arg2=v2".to_owned(),
            flash_version: "LNX 9,0,124,2".to_owned(),
            tc_url: "rtmp://127.0.0.1:19561/myapp?arg1=v1&arg2=v2".to_owned(),
            ..ClientInfo::default()
        };
        let address = "127.0.0.1".parse().unwrap();
        Arc::new(Caller { info: Arc::new(info), address, epoch_ms: 7_935_811 })
    }

    fn occurrence(event: HookEvent, subject: Subject) -> Occurrence {
        Occurrence { id: 1, event, caller: caller(), subject }
    }

    fn stream(kind: StreamKind) -> Subject {
        let name = "mystream".to_owned();
        Subject::Stream(Arc::new(StreamFacts { name, args: String::new(), kind }))
    }

    fn play() -> StreamKind {
        StreamKind::Play { start: -2000.0, duration: 0.0, reset: false }
    }

    const CONNECTION: Subject = Subject::Connection { bytes_in: 0, bytes_out: 0 };
    const PREFIX: &str = "app=myapp&flashver=LNX%209,0,124,2&swfurl=\
        &tcurl=rtmp://127.0.0.1:19561/myapp%3Farg1=v1%26arg2=v2&pageurl=&addr=127.0.0.1";

    #[test]
    fn the_recorded_requests_are_reproduced() {
        let id = caller().info.id;
        let connect = form(&occurrence(HookEvent::Connect, CONNECTION), false);
        assert_eq!(connect, format!("{PREFIX}&epoch=7935811&call=connect&arg1=v1&arg2=v2"));
        let played = form(&occurrence(HookEvent::Play, stream(play())), false);
        let expected = "call=play&name=mystream&start=4294965296&duration=0&reset=0";
        assert_eq!(played, format!("{PREFIX}&clientid={id}&{expected}"));
        let left = form(&occurrence(HookEvent::Disconnect, CONNECTION), false);
        let expected = "call=disconnect&app=myapp&arg1=v1&arg2=v2";
        assert_eq!(left, format!("{PREFIX}&clientid={id}&{expected}"));
        let mut bare = occurrence(HookEvent::Disconnect, CONNECTION);
        bare.caller = Arc::new(Caller { info: Arc::default(), ..(*caller()).clone() });
        assert_eq!(
            form(&bare, false),
            format!(
                "app=&flashver=&swfurl=&tcurl=&pageurl=&addr=127.0.0.1&clientid={id}\
                 &call=disconnect&app="
            )
        );
    }

    #[test]
    fn each_event_has_its_arguments() {
        let publish = || StreamKind::Publish { publish_type: "live".to_owned() };
        let facts = |kind| {
            let (name, args) = ("a b".to_owned(), "k=v w".to_owned());
            Arc::new(StreamFacts { name, args, kind })
        };
        let update =
            |kind| Subject::Update { stream: facts(kind), seconds: 30, timestamp_ms: u32::MAX };
        let recording = Subject::Recording {
            stream: facts(publish()),
            recorder: "r".to_owned(),
            path: "/rec/a b.flv".to_owned(),
        };
        let of = |kind| Subject::Stream(facts(kind));
        let table = [
            (HookEvent::Publish, of(publish()), "publish&name=a%20b&type=live"),
            (HookEvent::PublishDone, of(publish()), "publish_done&name=a%20b"),
            (HookEvent::Unpublish, of(publish()), "publish_done&name=a%20b"),
            (HookEvent::PlayDone, of(play()), "play_done&name=a%20b"),
            (HookEvent::Done, of(play()), "done&name=a%20b"),
            (
                HookEvent::Update,
                update(publish()),
                "update_publish&time=30&timestamp=-1&name=a%20b",
            ),
            (HookEvent::Update, update(play()), "update_play&time=30&timestamp=-1&name=a%20b"),
            (
                HookEvent::RecordDone,
                recording,
                "record_done&recorder=r&name=a%20b&path=/rec/a%20b.flv",
            ),
        ];
        for (event, subject, expected) in table {
            let form = form(&occurrence(event, subject), false);
            assert!(form.ends_with(&format!("&call={expected}&k=v w")), "{event:?}: {form}");
        }
    }

    #[test]
    fn connect_arguments_are_repeated_when_wanted() {
        let form = form(&occurrence(HookEvent::Play, stream(play())), true);
        assert!(form.ends_with("&reset=0&arg1=v1&arg2=v2"), "{form}");
    }

    #[test]
    fn every_byte_is_escaped_as_nginx_does() {
        let ascii: String = (0..=0x7F_u8).map(char::from).collect();
        let mut out = String::new();
        escape(ascii.as_bytes(), &mut out);
        let plain: String =
            (0x21..0x7F_u8).map(char::from).filter(|c| !"\"#%&+;<>?\\^`{|}".contains(*c)).collect();
        let kept: String = {
            let mut rest = out.as_str();
            let mut kept = String::new();
            while let Some(c) = rest.chars().next() {
                let skip = if c == '%' { 3 } else { 1 };
                if c != '%' {
                    kept.push(c);
                }
                rest = &rest[skip..];
            }
            kept
        };
        assert_eq!(kept, plain);
        let mut out = String::new();
        escape("ü/:=@,".as_bytes(), &mut out);
        assert_eq!(out, "%C3%BC/:=@,");
    }

    #[test]
    fn numbers_of_play_are_cut_to_32_bits() {
        for (number, expected) in [
            (-1000.0, 4_294_966_296),
            (-2.0, 4_294_967_294),
            (0.0, 0),
            (1.9, 1),
            (5e9, 705_032_704),
        ] {
            assert_eq!(as_u32(number), expected, "{number}");
        }
    }

    fn request_text(toml: &str) -> String {
        let target = target(toml, HookEvent::Play);
        let request =
            request(&occurrence(HookEvent::Play, stream(play())), &target, &identity(), 2);
        String::from_utf8(request.bytes).unwrap()
    }

    #[test]
    fn heads_are_those_of_the_original() {
        let body = form(&occurrence(HookEvent::Play, stream(play())), false);
        let length = body.len();
        let common = "Host: h\r\nContent-Type: application/x-www-form-urlencoded\r\n";
        assert_eq!(
            request_text("on_play = \"http://h:81/cb?x=1\""),
            format!(
                "POST /cb?x=1 HTTP/1.0\r\n{common}Connection: Close\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            )
        );
        assert_eq!(
            request_text("notify_method = \"get\"\non_play = \"http://h\""),
            format!(
                "GET /?{body} HTTP/1.0\r\n{common}Connection: Close\r\nContent-Length: 0\r\n\r\n"
            )
        );
        let second = request_text("notify_method = \"get\"\non_play = \"http://h/cb?x=1\"");
        assert!(second.starts_with("GET /cb?x=1&app=myapp&"), "{second}");
        let newer = request_text("on_play = { url = \"http://h:81/cb\", http = \"1.1\" }");
        assert!(newer.starts_with("POST /cb HTTP/1.1\r\nHost: h:81\r\n"), "{newer}");
        assert!(newer.contains("Connection: Keep-Alive\r\n"), "{newer}");
    }

    #[test]
    fn arguments_cannot_end_the_request_line() {
        let target = target("notify_method = \"get\"\non_play = \"http://h/\"", HookEvent::Play);
        let args = "a=1 HTTP/1.0\r\nX: y".to_owned();
        let facts = StreamFacts { name: "s".to_owned(), args, kind: play() };
        let subject = Subject::Stream(Arc::new(facts));
        let made = request(&occurrence(HookEvent::Play, subject), &target, &identity(), 1);
        let text = String::from_utf8(made.bytes).unwrap();
        let line = text.lines().next().unwrap();
        assert!(line.ends_with("&reset=0&a=1+HTTP/1.0++X:+y HTTP/1.0"), "{line}");
    }

    #[test]
    fn what_is_sent_is_signed() {
        let facts = StreamFacts { name: "s".to_owned(), args: "t=a b".to_owned(), kind: play() };
        let occurrence = occurrence(HookEvent::Play, Subject::Stream(Arc::new(facts)));
        for method in ["get", "post"] {
            let toml =
                format!("notify_method = \"{method}\"\nsecret = \"s\"\non_play = \"http://h/\"");
            let target = target(&toml, HookEvent::Play);
            let made = request(&occurrence, &target, &identity(), 1);
            let text = String::from_utf8(made.bytes).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let sent = match method {
                "get" => head.split(' ').nth(1).unwrap().split_once('?').unwrap().1,
                _ => body,
            };
            assert!(sent.contains("&t=a"), "{sent}");
            let signature = occurrence.extra_headers(&target, &identity(), 1, sent);
            assert!(signature.starts_with("X-Shardcast-Signature: "), "{signature}");
            assert!(head.contains(signature.trim_end()), "{method}: {head}");
        }
    }

    #[test]
    fn further_headers_come_only_when_asked_for() {
        let id = caller().info.id;
        let text = request_text("event_headers = true\nsecret = \"s\"\non_play = \"http://h/\"");
        let expected = format!(
            "X-Shardcast-Event: abcdefgh-1\r\nX-Shardcast-Session: {id}\r\n\
             X-Shardcast-Attempt: 2\r\nX-Shardcast-Signature: sha256="
        );
        assert!(text.contains(&expected), "{text}");
    }

    #[test]
    fn answers_are_judged_by_the_first_digit() {
        let on = target("on_play = \"http://h/\"", HookEvent::Play);
        let off = target("notify_redirect = false\non_play = \"http://h/\"", HookEvent::Play);
        let answer = |status, location: Option<&str>| Response {
            status,
            location: location.map(str::to_owned),
            ..Response::default()
        };
        let judged = |status, location| judge(HookEvent::Play, &on, &answer(status, location));
        assert_eq!(judged(200, None), Judgement::Accept);
        assert_eq!(judged(299, Some("x")), Judgement::Accept);
        assert_eq!(judged(302, None), Judgement::Accept);
        assert_eq!(judged(302, Some("other")), Judgement::Rename("other".to_owned()));
        for address in ["RTMP://h/a", "rtmps://h/a"] {
            assert_eq!(judged(302, Some(address)), Judgement::Relay(address.to_owned()));
            let connect = judge(HookEvent::Connect, &on, &answer(302, Some(address)));
            assert!(matches!(connect, Judgement::Refuse(_)));
        }
        for status in [100, 404, 500, 600] {
            assert!(matches!(judged(status, None), Judgement::Refuse(_)), "{status}");
        }
        for status in [502, 503, 504] {
            assert!(matches!(judged(status, None), Judgement::Fail(_)), "{status}");
        }
        let refused = judge(HookEvent::Play, &off, &answer(302, Some("other")));
        assert!(matches!(refused, Judgement::Refuse(_)));
        let strict =
            target("notify_update_strict = true\non_update = \"http://h/\"", HookEvent::Update);
        let loose = target("on_update = \"http://h/\"", HookEvent::Update);
        let redirect = answer(302, Some("other"));
        assert_eq!(judge(HookEvent::Update, &loose, &redirect), Judgement::Accept);
        assert!(matches!(judge(HookEvent::Update, &strict, &redirect), Judgement::Refuse(_)));
    }
}
