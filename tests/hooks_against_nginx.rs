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
                more.push((key, self.text(if key == "flashVer" { 5 } else { 12 })));
            }
        }
        let mut name = self.name();
        match self.roll(4) {
            0 => {}
            1 => name.push('?'),
            2 => name.push_str(&format!("?{}", self.text(10))),
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
        Scenario { app, tc_url, more, what, answer, waits_for_update: false }
    }
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
            if self.waits_for_update {
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
                 notify_update_timeout 300ms;\n{directives}\n\
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
            set("hooks.notify_update_timeout", "300ms");
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
    let ours = run(Kind::Shardcast, method, scenarios);
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
    }
}

#[test]
fn two_hundred_generated_sessions_are_told_alike() {
    let mut dice = Dice(SEED);
    let scenarios: Vec<Scenario> = (0..200).map(|_| dice.scenario()).collect();
    let (post, get) = scenarios.split_at(120);
    compare("post", post);
    // A space in the arguments ends the original's request line.
    let get: Vec<Scenario> = get
        .iter()
        .map(|scenario| {
            let mut scenario = scenario.clone();
            scenario.app = scenario.app.replace(' ', "_");
            if let What::Publish { name, .. } | What::Play { name, .. } = &mut scenario.what {
                *name = name.replace(' ', "_");
            }
            scenario
        })
        .collect();
    compare("get", &get);
}

#[test]
fn updates_are_told_alike() {
    let play = What::Play { name: "s?k=v".to_owned(), rest: vec![Value::from(-2000.0)] };
    let publish = What::Publish { name: "s?k=v".to_owned(), rest: vec![Value::from("live")] };
    let scenarios: Vec<Scenario> = [play, publish]
        .into_iter()
        .map(|what| Scenario {
            app: "updated".to_owned(),
            waits_for_update: true,
            ..scenario(what)
        })
        .collect();
    compare("post", &scenarios);
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
