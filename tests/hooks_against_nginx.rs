//! The same sessions against Debian's nginx-rtmp and against this server: both call the same recorder,
//! and the requests must be equal byte for byte, but for numbers of connections and times.
//!
//! Both servers run on the same port, each in a network namespace of its own, so that nothing in tcurl
//! has to be evened out.

mod support;

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use shardcast::proto::amf0::Value;
use support::ffmpeg::{Pace, publish};
use support::hook_server::{HookServer, Recorded, Reply};
use support::media::SHORT;
use support::namespace::with_own_network;
use support::process::Process;
use support::rtmp_client::RtmpClient;
use support::scratch::Scratch;
use support::wait::{SOON, eventually};

const RTMP: &str = "127.0.0.1:1935";
const HOOKS: &str = "127.0.0.1:8080";
const EVENTS: [&str; 7] =
    ["connect", "disconnect", "publish", "play", "publish_done", "play_done", "done"];
/// Sessions per method.
const SESSIONS: usize = 100;
/// The original's buffers for strings, less their end.
const NGINX_BYTES_MAX: usize = 255;
const LONG_BYTES: usize = 300;
/// Control characters, without NUL, which ends a string of the original.
const CONTROL: &str = "\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8}\t\n\u{b}\u{c}\r\u{e}\u{f}\u{10}\u{11}\u{12}\
    \u{13}\u{14}\u{15}\u{16}\u{17}\u{18}\u{19}\u{1a}\u{1b}\u{1c}\u{1d}\u{1e}\u{1f}\u{7f}";
const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
const FFMPEG_LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nginx,
    Shardcast,
}

/// One session of a client.
#[derive(Clone, Debug)]
struct Scenario {
    app: String,
    tc_url: String,
    more: Vec<(&'static str, String)>,
    what: What,
    /// What the recorder answers to an event that is not simply accepted.
    answer: Option<Special>,
    /// Stays until an update was told.
    waits_for_update: bool,
    /// A value that nginx-rtmp cuts.
    long: Option<String>,
}

#[derive(Clone, Debug)]
enum What {
    ConnectOnly,
    Publish { name: String, rest: Vec<Value> },
    Play { name: String, rest: Vec<Value> },
}

/// An event, and its answer.
type Special = (&'static str, Answer);

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Refuse,
    Redirect(String),
    RedirectNowhere,
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.roll(from.len())]
    }

    /// [`Dice::text`], also with control characters, also empty.
    fn value(&mut self, parts_max: usize) -> String {
        let mut value = self.text(parts_max);
        if self.roll(4) == 0 {
            let control = CONTROL.chars().nth(self.roll(CONTROL.len())).expect("one of them");
            value.push(control);
        }
        value
    }

    /// Text of all the kinds of bytes that a value may hold.
    fn text(&mut self, parts_max: usize) -> String {
        let mut text = String::new();
        for _ in 0..self.roll(parts_max + 1) {
            match self.roll(6) {
                0 | 1 => text.push(char::from(b'!' + self.roll(94) as u8)),
                2 => text.push(char::from(b'a' + self.roll(26) as u8)),
                3 => text.push_str(self.pick(&["ü", "日本", "🎥", "é"])),
                4 => text.push_str(self.pick(&["%41", "%", "a=b", "&", "=", ";", "+", "a b"])),
                _ => text.push(char::from(b'0' + self.roll(10) as u8)),
            }
        }
        text
    }

    fn name(&mut self) -> String {
        let mut name = format!("s{}", self.text(8).replace('?', "!"));
        match self.roll(8) {
            0 => name.push_str("_definst_"),
            1 => name.push_str("//x"),
            2 => name.push_str("/x"),
            3 => name = name.repeat(12).chars().take(60).collect(),
            _ => {}
        }
        name
    }

    fn scenario(&mut self) -> Scenario {
        let mut app = (*self.pick(&["myapp", "myapp", "myapp/", "myapp/_definst_"])).to_owned();
        let mut tc_url = format!("rtmp://{RTMP}/myapp");
        if self.roll(2) == 0 {
            let query = self.text(6);
            if !app.ends_with('/') {
                app = format!("myapp?{query}");
            }
            tc_url.push_str(&format!("?{query}"));
        }
        let mut more = Vec::new();
        for key in ["flashVer", "swfUrl", "pageUrl"] {
            if self.roll(2) == 0 {
                more.push((key, self.value(if key == "flashVer" { 5 } else { 12 })));
            }
        }
        let mut name = self.name();
        match self.roll(4) {
            0 => {}
            1 => name.push('?'),
            2 => name.push_str(&format!("?{}", self.value(10))),
            _ => name.push_str("?call=play&clientid=1"),
        }
        let what = match self.roll(9) {
            0 => What::ConnectOnly,
            1..=4 => {
                let rest = match self.roll(4) {
                    0 => vec![],
                    _ => vec![Value::from(self.pick(&["live", "record", "append", "x y", ""]))],
                };
                What::Publish { name, rest }
            }
            _ => {
                let numbers = [-2000.0, -2.0, -1.0, 0.0, 1.5, 1000.0, 5e9];
                let mut rest = Vec::new();
                let count = self.roll(4);
                for _ in 0..count.min(2) {
                    rest.push(Value::from(numbers[self.roll(numbers.len())]));
                }
                if count == 3 {
                    rest.push(Value::from(self.roll(2) == 0));
                }
                What::Play { name, rest }
            }
        };
        let event = match (&what, self.roll(2)) {
            (What::ConnectOnly, _) | (_, 0) => "connect",
            (What::Publish { .. }, _) => "publish",
            (What::Play { .. }, _) => "play",
        };
        let answer = match self.roll(6) {
            0 => Some((event, Answer::Refuse)),
            1 if event == "connect" => Some((event, Answer::Redirect("other".to_owned()))),
            1 => Some((event, Answer::Redirect(format!("n{}", self.roll(1000))))),
            2 => Some((event, Answer::RedirectNowhere)),
            _ => None,
        };
        Scenario { app, tc_url, more, what, answer, waits_for_update: false, long: None }
    }
}

/// What the fixed sessions have in common: publish or play `s?k=v` in an app.
fn session(command: &str, app: &str) -> Scenario {
    let name = "s?k=v".to_owned();
    let what = match command {
        "publish" => What::Publish { name, rest: vec![Value::from("live")] },
        _ => What::Play { name, rest: vec![Value::from(-2000.0)] },
    };
    let tc_url = format!("rtmp://{RTMP}/{app}");
    Scenario { app: app.to_owned(), tc_url, ..scenario(what) }
}

/// The sessions that must be among those that are compared, whatever the dice say.
fn fixed_sessions() -> Vec<Scenario> {
    let mut all = Vec::new();
    // Each callback refused, also those whose answer means nothing.
    for (call, command) in [
        ("connect", "publish"),
        ("disconnect", "publish"),
        ("publish", "publish"),
        ("publish_done", "publish"),
        ("done", "publish"),
        ("play", "play"),
        ("play_done", "play"),
        ("done", "play"),
    ] {
        all.push(Scenario { answer: Some((call, Answer::Refuse)), ..session(command, "myapp") });
    }
    // Each gate answered with 3xx, with and without Location.
    for (call, command) in [("connect", "play"), ("publish", "publish"), ("play", "play")] {
        for answer in [Answer::Redirect("other".to_owned()), Answer::RedirectNowhere] {
            all.push(Scenario { answer: Some((call, answer)), ..session(command, "myapp") });
        }
    }
    // Updates, and their answers.
    for (call, command) in [("update_publish", "publish"), ("update_play", "play")] {
        let redirect = Answer::Redirect("other".to_owned());
        for answer in [None, Some(Answer::Refuse), Some(redirect), Some(Answer::RedirectNowhere)] {
            let answer = answer.map(|answer| (call, answer));
            all.push(Scenario { answer, waits_for_update: true, ..session(command, "updated") });
        }
    }
    // Values: empty, of every class, of 300 bytes.
    let printable: String = (b' '..=b'~').map(char::from).collect();
    let long = |letter: &str| letter.repeat(LONG_BYTES);
    let empty = ["flashVer", "swfUrl", "pageUrl"].map(|key| (key, String::new()));
    let untyped = What::Publish { name: "s".to_owned(), rest: vec![Value::from("")] };
    all.push(Scenario { more: empty.to_vec(), tc_url: String::new(), ..scenario(untyped) });
    for (at, key) in ["flashVer", "swfUrl", "pageUrl"].into_iter().enumerate() {
        for value in [CONTROL.to_owned(), printable.clone(), "ü日本🎥é".to_owned()] {
            all.push(Scenario { more: vec![(key, value)], ..session("play", "myapp") });
        }
        // flashVer is cut at 31 bytes by both.
        let value = long(["f", "w", "p"][at]);
        let long = (at > 0).then(|| value.clone());
        all.push(Scenario { more: vec![(key, value)], long, ..session("publish", "myapp") });
    }
    for value in [CONTROL.to_owned(), printable.clone(), long("t")] {
        let session = session("publish", "myapp");
        let tc_url = format!("{}?{value}", session.tc_url);
        let long = Some(value).filter(|value| value.len() == LONG_BYTES);
        all.push(Scenario { tc_url, long, ..session });
    }
    for args in ["".to_owned(), printable, CONTROL.to_owned(), long("a")] {
        let long = Some(args.clone()).filter(|args| args.len() == LONG_BYTES);
        let app = format!("myapp?{args}");
        all.push(Scenario { app, long: long.clone(), ..session("play", "myapp") });
        let what = What::Publish { name: format!("s?{args}"), rest: vec![] };
        all.push(Scenario { long, ..scenario(what) });
    }
    let what = What::Play { name: long("n"), rest: vec![] };
    all.push(Scenario { long: Some(long("n")), ..scenario(what) });
    all
}

impl Scenario {
    fn reply(&self, request: &Recorded) -> Reply {
        match &self.answer {
            Some((event, answer)) if request.call() == *event => match answer {
                Answer::Refuse => Reply::status("403 Forbidden", ""),
                Answer::Redirect(to) => Reply::redirect(to),
                Answer::RedirectNowhere => Reply::status("302 Found", ""),
            },
            _ => Reply::ok(),
        }
    }

    /// The same session as far as nginx-rtmp's buffers hold it.
    fn cut(&self) -> Self {
        let cut = |text: &str| text.get(..NGINX_BYTES_MAX).unwrap_or(text).to_owned();
        let mut short = self.clone();
        short.app = cut(&self.app);
        short.tc_url = cut(&self.tc_url);
        for (_, value) in &mut short.more {
            *value = cut(value);
        }
        let (What::Publish { name, .. } | What::Play { name, .. }) = &mut short.what else {
            return short;
        };
        *name = cut(name);
        short
    }

    /// The same session with arguments that do not end a request line.
    fn on_one_line(&self) -> Self {
        let on_one_line = |text: &str| -> String {
            text.chars().map(|c| if c.is_control() || c == ' ' { '_' } else { c }).collect()
        };
        let mut session = self.clone();
        session.app = on_one_line(&self.app);
        if let What::Publish { name, .. } | What::Play { name, .. } = &mut session.what {
            *name = on_one_line(name);
        }
        session
    }

    fn is_refused(&self, event: &str) -> bool {
        self.answer.as_ref().is_some_and(|(of, it)| *of == event && *it == Answer::Refuse)
    }

    /// How many requests there are in all, when nothing is told twice.
    fn requests(&self) -> usize {
        let start = match self.what {
            What::ConnectOnly => return 2,
            What::Publish { .. } => "publish",
            What::Play { .. } => "play",
        };
        if self.is_refused("connect") {
            2
        } else if self.is_refused(start) {
            3
        } else {
            5
        }
    }

    fn run(&self, hooks: &HookServer) {
        let mut client = RtmpClient::open(RTMP.parse().expect("an address"));
        let more: Vec<_> = self.more.iter().map(|(key, value)| (*key, value.as_str())).collect();
        client.connect(&self.app, &self.tc_url, &more);
        if self.is_refused("connect") {
            assert!(client.wait_for_close(), "{self:?}");
            return;
        }
        client.wait_for("_result").unwrap_or_else(|| panic!("connect is refused: {self:?}"));
        let (command, name, rest) = match &self.what {
            What::ConnectOnly => return,
            What::Publish { name, rest } => ("publish", name, rest),
            What::Play { name, rest } => ("play", name, rest),
        };
        client.call(0, "createStream", &Value::Null, &[]);
        client.wait_for("_result").expect("a message stream");
        let mut args = vec![Value::from(name.as_str())];
        args.extend(rest.iter().cloned());
        client.call(1, command, &Value::Null, &args);
        if self.is_refused(command) {
            assert!(client.wait_for_close(), "{self:?}");
        } else {
            client.wait_for("onStatus").unwrap_or_else(|| panic!("not accepted: {self:?}"));
            if self.is_refused(&format!("update_{command}")) {
                assert!(client.wait_for_close(), "{self:?}");
            } else if self.waits_for_update {
                hooks.wait_for(&format!("update_{command}"), 1);
            }
        }
    }
}

/// Runs the sessions against one server; the requests of each, in an order of their own.
fn run(kind: Kind, method: &str, scenarios: &[Scenario]) -> Vec<Vec<String>> {
    with_own_network(|| {
        let hooks = HookServer::start_on(HOOKS.parse().expect("an address"), |_| Reply::ok());
        let scratch = Scratch::new("nginx-hooks");
        let _server = start(kind, method, &scratch);
        // The look whether the server listens has one of its own.
        hooks.wait_for("disconnect", 1);
        hooks.take();
        scenarios
            .iter()
            .map(|scenario| {
                let current = scenario.clone();
                hooks.answer_with(move |request| current.reply(request));
                scenario.run(&hooks);
                settle(kind, &hooks, scenario.requests(), scenario)
            })
            .collect()
    })
}

/// Waits for the requests of one session.
fn settle(kind: Kind, hooks: &HookServer, count: usize, what: &dyn std::fmt::Debug) -> Vec<String> {
    let is_update = |request: &Recorded| request.call().starts_with("update");
    eventually(&format!("{kind:?}: {count} requests of {what:?}"), SOON, || {
        (hooks.requests().iter().filter(|it| !is_update(it)).count() >= count).then_some(())
    });
    let (updates, others): (Vec<Recorded>, Vec<Recorded>) =
        hooks.take().into_iter().partition(is_update);
    let calls: Vec<String> = others.iter().map(Recorded::call).collect();
    assert_eq!(calls.len(), count, "{kind:?}: {calls:?} of {what:?}");
    // The end events of nginx-rtmp come over connections of their own, in any order; and there may be
    // one update more or less.
    let mut requests: Vec<String> = others.iter().map(evened).collect();
    requests.extend(updates.first().map(evened));
    requests.sort();
    requests
}

/// A request without what differs from run to run.
fn evened(request: &Recorded) -> String {
    let mut text = format!("{}\n\n{}", request.head, request.body);
    for key in ["&clientid=", "&epoch=", "&time=", "&timestamp="] {
        // The first one is the server's own, a later one the client's.
        let Some(at) = text.find(key) else { continue };
        let from = at + key.len();
        let to = text[from..]
            .find(|c: char| !c.is_ascii_digit() && c != '-')
            .map_or(text.len(), |length| from + length);
        text.replace_range(from..to, "#");
    }
    // Its length differs with those.
    let mut lines: Vec<&str> = text.split('\n').collect();
    lines.retain(|line| {
        !line.starts_with("Content-Length: ") || line.starts_with("Content-Length: 0")
    });
    lines.join("\n")
}

fn start(kind: Kind, method: &str, scratch: &Scratch) -> Process {
    let mut command = match kind {
        Kind::Nginx => {
            let directives: String = EVENTS
                .iter()
                .map(|event| format!("on_{event} http://{HOOKS}/on_{event}?from=test;\n"))
                .collect();
            let configuration = format!(
                "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
                 daemon off; master_process off; pid nginx.pid; error_log stderr warn;\n\
                 events {{}}\nrtmp {{ server {{ listen 1935; notify_method {method};\n\
                 notify_update_timeout 100ms;\n{directives}\n\
                 application myapp {{ live on; }} application other {{ live on; }}\n\
                 application updated {{ live on; on_update http://{HOOKS}/on_update?from=test; }}\n\
                 }} }}\n"
            );
            fs::write(scratch.file("nginx.conf"), configuration).expect("it can be written");
            let mut command = Command::new("/usr/sbin/nginx");
            command.arg("-p").arg(scratch.path()).arg("-c").arg(scratch.file("nginx.conf"));
            command
        }
        Kind::Shardcast => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
            let mut set = |key: &str, value: &str| {
                command.arg("--set").arg(format!("{key}={value}"));
            };
            set("rtmp.listen", RTMP);
            set("http.listen", "[]");
            set("api.listen", "[]");
            set("server.unknown_apps", "refuse");
            set("server.shards", "1");
            set("hooks.notify_method", method);
            set("hooks.notify_update_timeout", "100ms");
            for app in ["myapp", "other", "updated"] {
                set(&format!("apps.{app}.latency"), "realtime");
            }
            for event in EVENTS {
                set(&format!("hooks.on_{event}"), &format!("http://{HOOKS}/on_{event}?from=test"));
            }
            set("apps.updated.hooks.on_update", &format!("http://{HOOKS}/on_update?from=test"));
            command
        }
    };
    let process = Process::spawn(&format!("{kind:?}"), &mut command);
    let address: SocketAddr = RTMP.parse().expect("an address");
    let probe = eventually("the server listens", SOON, || {
        std::net::TcpStream::connect_timeout(&address, SOON).ok()
    });
    drop(probe);
    process
}

/// Both servers' requests, session by session.
fn compare(method: &str, scenarios: &[Scenario]) {
    let nginx = run(Kind::Nginx, method, scenarios);
    let short: Vec<Scenario> = scenarios.iter().map(Scenario::cut).collect();
    let ours = run(Kind::Shardcast, method, &short);
    let mut different = Vec::new();
    for ((scenario, theirs), ours) in scenarios.iter().zip(nginx).zip(ours) {
        if method == "get" {
            // The second `?` of the original, and characters that end its request line.
            let theirs: Vec<String> =
                theirs.iter().map(|it| it.replacen("?from=test?", "?from=test&", 1)).collect();
            if theirs != ours {
                different.push((scenario.clone(), theirs, ours));
            }
        } else if theirs != ours {
            different.push((scenario.clone(), theirs, ours));
        }
    }
    for (scenario, theirs, ours) in different.iter().take(8) {
        let only = |these: &[String], those: &[String]| -> Vec<String> {
            these.iter().filter(|it| !those.contains(it)).cloned().collect()
        };
        let (only_theirs, only_ours) = (only(theirs, ours), only(ours, theirs));
        eprintln!("{scenario:?}\n  nginx: {only_theirs:#?}\n  ours:  {only_ours:#?}");
    }
    assert!(different.is_empty(), "{} of {} sessions differ", different.len(), scenarios.len());
}

fn scenario(what: What) -> Scenario {
    Scenario {
        app: "myapp?arg1=v1&arg2=v2".to_owned(),
        tc_url: format!("rtmp://{RTMP}/myapp?arg1=v1&arg2=v2"),
        more: vec![("flashVer", "LNX 9,0,124,2".to_owned())],
        what,
        answer: None,
        waits_for_update: false,
        long: None,
    }
}

/// The fixed ones, and as many of the dice as make [`SESSIONS`].
fn sessions(seed: u64) -> Vec<Scenario> {
    let mut dice = Dice(seed);
    let mut sessions = fixed_sessions();
    while sessions.len() < SESSIONS {
        sessions.push(dice.scenario());
    }
    assert_eq!(sessions.len(), SESSIONS);
    sessions
}

#[test]
fn a_hundred_sessions_are_told_alike_by_post() {
    compare("post", &sessions(SEED));
}

/// The original puts a space or a control character of the arguments into its request line, and breaks it.
#[test]
fn a_hundred_sessions_are_told_alike_by_get() {
    let sessions: Vec<Scenario> =
        sessions(SEED.rotate_left(7)).iter().map(Scenario::on_one_line).collect();
    compare("get", &sessions);
}

/// Where nginx-rtmp cuts, the whole value is told.
#[test]
fn values_of_300_bytes_are_told_whole() {
    let long: Vec<Scenario> =
        fixed_sessions().into_iter().filter(|session| session.long.is_some()).collect();
    assert_eq!(long.len(), 6, "swfUrl, pageUrl, tcUrl, both arguments, name");
    for (session, requests) in long.iter().zip(run(Kind::Shardcast, "post", &long)) {
        let value = session.long.as_deref().expect("it has one");
        assert!(requests.iter().any(|it| it.contains(value)), "{session:?}: {requests:?}");
    }
}

/// The original's strings are those of C.
#[test]
fn a_nul_character_ends_values_of_the_original_only() {
    let more = vec![("pageUrl", "a\0b".to_owned())];
    let sessions = [Scenario { more, ..session("publish", "myapp") }];
    for (kind, expected) in [(Kind::Nginx, "&pageurl=a&"), (Kind::Shardcast, "&pageurl=a%00b&")] {
        let requests = run(kind, "post", &sessions).remove(0);
        assert!(requests.iter().all(|it| it.contains(expected)), "{kind:?}: {requests:?}");
    }
}

/// What the original asks about and this server does not: what can be no name.
#[test]
fn what_can_be_no_name_is_closed_before_it_is_asked_about() {
    with_own_network(|| {
        let hooks = HookServer::start_on(HOOKS.parse().expect("an address"), |_| Reply::ok());
        let scratch = Scratch::new("no-names");
        let _server = start(Kind::Shardcast, "post", &scratch);
        hooks.wait_for("disconnect", 1);
        for name in ["", "?k=v", "a\u{7}b", "a/../b", "."] {
            hooks.take();
            let mut client = RtmpClient::open(RTMP.parse().expect("an address"));
            client.connect("myapp", &format!("rtmp://{RTMP}/myapp"), &[]);
            client.wait_for("_result").expect("connect is accepted");
            client.call(0, "createStream", &Value::Null, &[]);
            client.wait_for("_result").expect("a message stream");
            client.call(1, "publish", &Value::Null, &[Value::from(name)]);
            assert!(client.wait_for_close(), "{name:?}");
            hooks.expect(&["connect", "disconnect"]);
        }
    });
}

/// The sessions of the documentation: publish, play, a refused publish, a redirect to another name,
/// arguments in app and stream.
#[test]
fn ffmpeg_is_told_of_alike() {
    let media = SHORT.file();
    let sessions: [(&str, Option<Special>, usize); 4] = [
        ("myapp/mystream", None, 5),
        ("myapp?arg1=v1&arg2=v2/mystream?k=v", None, 5),
        ("myapp/refused", Some(("publish", Answer::Refuse)), 3),
        ("myapp/renamed", Some(("publish", Answer::Redirect("other".to_owned()))), 5),
    ];
    let told = |kind: Kind| -> Vec<Vec<String>> {
        with_own_network(|| {
            let hooks = HookServer::start_on(HOOKS.parse().expect("an address"), |_| Reply::ok());
            let scratch = Scratch::new("nginx-ffmpeg");
            let _server = start(kind, "post", &scratch);
            hooks.wait_for("disconnect", 1);
            hooks.take();
            let mut told = Vec::new();
            for (path, answer, count) in &sessions {
                let mut scenario = scenario(What::ConnectOnly);
                scenario.answer.clone_from(answer);
                hooks.answer_with(move |request| scenario.reply(request));
                let url = format!("rtmp://{RTMP}/{path}");
                let mut ffmpeg = publish(&media, &url, Pace::Unpaced);
                ffmpeg.wait(FFMPEG_LIMIT);
                told.push(settle(kind, &hooks, *count, path));
            }
            // A player, which ffmpeg ends when it has seen enough.
            hooks.answer_with(|_| Reply::ok());
            let _live = publish(&media, &format!("rtmp://{RTMP}/myapp/live"), Pace::Endless);
            hooks.wait_for("publish", 1);
            hooks.take();
            let url = format!("rtmp://{RTMP}/myapp/live");
            let mut command = Command::new("ffmpeg");
            command.args(["-nostdin", "-v", "error", "-i", &url, "-t", "1", "-f", "null", "-"]);
            Process::spawn("ffmpeg plays", &mut command).wait(FFMPEG_LIMIT);
            told.push(settle(kind, &hooks, 5, &"a player"));
            told
        })
    };
    let (theirs, ours) = (told(Kind::Nginx), told(Kind::Shardcast));
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(theirs, ours);
    }
    assert_eq!(theirs.len(), ours.len());
}
