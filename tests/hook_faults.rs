//! A hook's back end that fails in every way: each fault with each kind of question has its outcome, and
//! afterwards nothing is left: no busy name, no verdict that is awaited, no descriptor.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use shardcast::proto::amf0::Value;
use support::certificate::certificate;
use support::hook_server::{HookServer, Nobody, Recorded, Reply};
use support::http;
use support::name_server::answer_unless_silent;
use support::namespace::{replace_file, with_own_network};
use support::noise::go_first;
use support::process::Process;
use support::rtmp_client::{RtmpClient, code_of, description_of};
use support::scratch::Scratch;
use support::server::Server;
use support::wait::{SOON, eventually};

/// The hooks' time in these tests.
const TIMEOUT: &str = "1s";
/// A tenth of a second before it is over, and after.
const LATE: Duration = Duration::from_millis(900);
const TOO_LATE: Duration = Duration::from_millis(1_100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Down,
    Hang,
    Late,
    TooLate,
    Status500,
    Status503,
    Gigabyte,
    HalfHead,
    HalfBody,
    Drop,
    NotHttp,
    Certificate,
}

const FAULTS: [Fault; 12] = [
    Fault::Down,
    Fault::Hang,
    Fault::Late,
    Fault::TooLate,
    Fault::Status500,
    Fault::Status503,
    Fault::Gigabyte,
    Fault::HalfHead,
    Fault::HalfBody,
    Fault::Drop,
    Fault::NotHttp,
    Fault::Certificate,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Connect,
    Publish,
    Play,
    PlayHttp,
}

const QUESTIONS: [Question; 4] =
    [Question::Connect, Question::Publish, Question::Play, Question::PlayHttp];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Accepted,
    Refused,
    /// "authorisation is not available"
    Failed,
}

impl Fault {
    fn reply(self) -> Reply {
        match self {
            Self::Down | Self::Certificate => unreachable!("never reached"),
            Self::Hang => Reply::Hang,
            Self::Late => Reply::Late(LATE, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0".into()),
            Self::TooLate => {
                Reply::Late(TOO_LATE, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0".into())
            }
            Self::Status500 => Reply::status("500 Oops", ""),
            Self::Status503 => Reply::status("503 Later", ""),
            Self::Gigabyte => Reply::Gigabyte,
            Self::HalfHead => Reply::Close("HTTP/1.1 200 OK\r\nContent-Le".into()),
            Self::HalfBody => Reply::Close("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n0".into()),
            Self::Drop => Reply::Drop,
            Self::NotHttp => Reply::Close("SSH-2.0-OpenSSH_9.2\r\n".into()),
        }
    }

    /// By the status alone, as nginx-rtmp judges, or by the whole answer, as SRS does.
    fn outcome(self, dialect: &str, on_failure: &str) -> Outcome {
        match (self, dialect) {
            (Self::Late, _) | (Self::Gigabyte | Self::HalfBody, "nginx") => Outcome::Accepted,
            (Self::Status500, _) => Outcome::Refused,
            _ if on_failure == "accept" => Outcome::Accepted,
            _ => Outcome::Failed,
        }
    }
}

/// A URL on which nobody listens, or somebody without a valid certificate, or the recorder.
struct BackEnd {
    url: String,
    recorder: Option<HookServer>,
    _guard: Guard,
}

/// What has to live as long as the back end.
#[expect(dead_code, reason = "only dropped")]
enum Guard {
    None,
    Down(Nobody),
    Tls(Process),
}

impl BackEnd {
    fn start(fault: Fault, scratch: &Scratch) -> Self {
        match fault {
            Fault::Down => {
                let nobody = Nobody::listens();
                let url = format!("http://{}", nobody.address);
                Self { url, recorder: None, _guard: Guard::Down(nobody) }
            }
            Fault::Certificate => {
                let (process, address) = tls_back_end(scratch);
                let url = format!("https://{address}");
                Self { url, recorder: None, _guard: Guard::Tls(process) }
            }
            fault => {
                let recorder = HookServer::start(move |_| fault.reply());
                Self { url: recorder.url(""), recorder: Some(recorder), _guard: Guard::None }
            }
        }
    }
}

/// An https server that answers everything with 200, and its certificate in `cert.pem`.
fn tls_back_end(scratch: &Scratch) -> (Process, String) {
    let (key, cert) = certificate(scratch, "");
    let script = "import http.server, ssl, sys\n\
        class H(http.server.BaseHTTPRequestHandler):\n\
        \x20   def do_POST(self):\n\
        \x20       self.rfile.read(int(self.headers['Content-Length']))\n\
        \x20       self.send_response(200)\n\
        \x20       self.end_headers()\n\
        \x20       self.wfile.write(b'0')\n\
        s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H)\n\
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
        c.load_cert_chain(sys.argv[1], sys.argv[2])\n\
        s.socket = c.wrap_socket(s.socket, server_side=True)\n\
        print('ready 127.0.0.1:%d' % s.server_address[1], flush=True)\n\
        s.serve_forever()\n";
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(&cert).arg(&key);
    let mut process = Process::spawn("https", &mut command);
    let address = process
        .wait_for_line("its address", SOON, |line| line.strip_prefix("ready ").map(str::to_owned));
    (process, address)
}

/// What becomes of a question.
fn ask(server: &Server, question: Question) -> Outcome {
    let of_text = |text: &str| match text {
        "authorisation is not available" => Outcome::Failed,
        "refused by the application" => Outcome::Refused,
        other => panic!("{question:?}: {other}"),
    };
    if question == Question::PlayHttp {
        let response = http::get(server.http(), "/live/none.flv");
        return match response.status {
            // Let in, and then there is no such stream.
            404 => Outcome::Accepted,
            403 => Outcome::Refused,
            503 => Outcome::Failed,
            status => panic!("{status}"),
        };
    }
    let mut client = RtmpClient::open(server.rtmp());
    client.connect("live", &format!("rtmp://{}/live", server.rtmp()), &[]);
    let answer = client
        .wait_until(SOON, |it| it.name == "_result" || it.name == "_error")
        .expect("connect is answered");
    if answer.name == "_error" {
        assert_eq!(question, Question::Connect);
        assert_eq!(code_of(&answer), "NetConnection.Connect.Rejected");
        assert!(client.wait_for_close());
        return of_text(&description_of(&answer));
    }
    let (command, started) = match question {
        Question::Publish => ("publish", "NetStream.Publish.Start"),
        _ => ("play", "NetStream.Play.Reset"),
    };
    client.call(0, "createStream", &Value::Null, &[]);
    client.wait_for("_result").expect("a message stream");
    client.call(1, command, &Value::Null, &[Value::from("s")]);
    let status = client.wait_for("onStatus").expect("it is answered");
    if code_of(&status) == started {
        return Outcome::Accepted;
    }
    assert!(client.wait_for_close());
    of_text(&description_of(&status))
}

/// Descriptors of a server that does nothing: each shard has answered, so that it has opened what it
/// keeps, and what it opens for a moment counts.
fn files_at_rest(server: &Server) -> usize {
    let count = |_| {
        server.api().snapshot();
        server.process().open_files()
    };
    (0..4).map(count).max().unwrap_or_default()
}

/// Nothing of what was asked is left.
fn assert_clean(server: &Server, files: usize, what: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let report = server.api().hooks();
        let snapshot = server.api().snapshot();
        let connections = snapshot.connections().iter().sum::<u64>();
        let is_busy = snapshot.is_published("live/s");
        // Kept connections to the back end are no leak.
        let kept: u64 = report["endpoints"]
            .as_array()
            .map(|all| all.iter().filter_map(|it| it["idle_connections"].as_u64()).sum())
            .unwrap_or_default();
        let open = server.process().open_files();
        let is_clean = report["verdicts_awaited"] == 0
            && report["sessions"] == 0
            && !is_busy
            && connections == 0
            && open <= files + kept as usize + 2;
        if is_clean {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{what}: something is left: busy name: {is_busy}, {connections} connections, {open} \
             descriptors ({files} before, {kept} kept), {report}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn matrix(dialect: &str, on_failure: &str) {
    // A tenth of a second is a time that other programs must not take away.
    go_first();
    let scratch = Scratch::new("faults");
    for fault in FAULTS {
        for question in QUESTIONS {
            if dialect == "srs" && question == Question::Connect {
                // SRS asks on_connect at publish and play.
                continue;
            }
            let back_end = BackEnd::start(fault, &scratch);
            let event = match question {
                Question::Connect => "hooks.on_connect",
                Question::Publish => "hooks.on_publish",
                Question::Play | Question::PlayHttp => "hooks.on_play",
            };
            let server = Server::start(&[
                ("hooks.dialect", dialect),
                ("hooks.timeout", TIMEOUT),
                ("hooks.on_failure", on_failure),
                (event, &format!("{}/hook", back_end.url)),
            ]);
            let files = files_at_rest(&server);
            let started = Instant::now();
            let what = format!("{fault:?} × {question:?} ({dialect}, {on_failure})");
            assert_eq!(ask(&server, question), fault.outcome(dialect, on_failure), "{what}");
            assert!(started.elapsed() < SOON, "{what} took {:?}", started.elapsed());
            assert_clean(&server, files, &what);
            if let Some(recorder) = &back_end.recorder {
                assert_eq!(recorder.requests().len(), 1, "{what}: asked once");
            }
            server.stop();
        }
    }
}

#[test]
fn each_fault_has_its_outcome_in_the_nginx_dialect() {
    matrix("nginx", "refuse");
}

#[test]
fn each_fault_has_its_outcome_in_the_srs_dialect() {
    matrix("srs", "refuse");
}

#[test]
fn each_fault_lets_in_when_that_is_wanted() {
    matrix("nginx", "accept");
}

/// End events: told again when they were surely not heard, never twice else; the server ends in time.
#[test]
fn each_fault_of_an_end_event_is_survived() {
    let scratch = Scratch::new("end-faults");
    for fault in FAULTS {
        let back_end = BackEnd::start(fault, &scratch);
        let server = Server::start(&[
            ("hooks.timeout", TIMEOUT),
            ("hooks.on_publish_done", &format!("{}/hook", back_end.url)),
        ]);
        let files = files_at_rest(&server);
        assert_eq!(ask(&server, Question::Publish), Outcome::Accepted);
        let is_retried = matches!(fault, Fault::Down | Fault::Status503 | Fault::Certificate);
        eventually(&format!("{fault:?}: the event is told, given up or waits"), SOON, || {
            let report = server.api().hooks();
            let hook = &report["hooks"][0];
            let is_over = report["events_waiting"] == 0 && hook["calls"] == 1;
            let is_waiting = report["events_waiting"] == 1 && hook["calls"].as_u64() >= Some(1);
            (if is_retried { is_waiting } else { is_over }).then_some(())
        });
        assert_clean(&server, files, &format!("{fault:?} × end event"));
        let stopping = Instant::now();
        server.stop();
        assert!(stopping.elapsed() < Duration::from_secs(5), "{fault:?}: it does not wait for it");
        if let Some(recorder) = back_end.recorder.filter(|_| !is_retried) {
            assert_eq!(recorder.requests().len(), 1, "{fault:?}: told once");
        }
    }
}

#[test]
fn an_end_event_reaches_a_back_end_that_comes_back() {
    let nobody = Nobody::listens();
    let address = nobody.address;
    let server = Server::start(&[("hooks.on_publish_done", &format!("http://{address}/hook"))]);
    assert_eq!(ask(&server, Question::Publish), Outcome::Accepted);
    eventually("the first attempt has failed", SOON, || {
        (server.api().hooks()["hooks"][0]["failed"]["connect"].as_u64() >= Some(1)).then_some(())
    });
    let recorder = nobody.begins(|_| Reply::ok());
    recorder.wait_for("publish_done", 1);
    eventually("nothing waits", SOON, || {
        (server.api().hooks()["events_waiting"] == 0).then_some(())
    });
    assert_eq!(recorder.count("publish_done"), 1);
    server.stop();
}

#[test]
fn https_is_verified_with_the_given_certificates() {
    let scratch = Scratch::new("https");
    let (_tls, address) = tls_back_end(&scratch);
    let url = format!("https://{address}/hook");
    let ca = scratch.file("cert.pem");
    let server = Server::start(&[
        ("hooks.on_publish", &url),
        ("hooks.ca", ca.to_str().expect("a plain path")),
    ]);
    assert_eq!(ask(&server, Question::Publish), Outcome::Accepted);
    server.stop();
    let server = Server::start(&[("hooks.on_publish", &url)]);
    assert_eq!(ask(&server, Question::Publish), Outcome::Failed);
    server.process().wait_for_stderr("no TLS with 127.0.0.1", SOON);
    server.stop();
}

/// The file with the certificates changes and the configuration does not: SIGHUP reads it again.
#[test]
fn certificates_are_read_again_at_sighup() {
    let scratch = Scratch::new("ca-reload");
    let (_tls, address) = tls_back_end(&scratch);
    let (_, other) = certificate(&scratch, "other-");
    let (right, ca) = (scratch.file("cert.pem"), scratch.file("ca.pem"));
    fs::copy(&right, &ca).expect("it can be copied");
    let server = Server::start(&[
        ("hooks.on_publish", &format!("https://{address}/hook")),
        ("hooks.ca", ca.to_str().expect("a plain path")),
    ]);
    assert_eq!(ask(&server, Question::Publish), Outcome::Accepted);
    let becomes = |what: &str, outcome: Outcome| {
        server.process().signal(libc::SIGHUP);
        eventually(what, SOON, || (ask(&server, Question::Publish) == outcome).then_some(()));
    };
    fs::copy(&other, &ca).expect("it can be copied");
    becomes("the old certificate is not trusted any more", Outcome::Failed);
    fs::copy(&right, &ca).expect("it can be copied");
    becomes("it is trusted again", Outcome::Accepted);
    // Half a file, as a script leaves it for a moment.
    fs::write(&ca, "-----BEGIN CERTIFICATE-----\n").expect("it can be written");
    server.process().signal(libc::SIGHUP);
    server.process().wait_for_stderr("certificates of https hooks stay as they were", SOON);
    assert_eq!(ask(&server, Question::Publish), Outcome::Accepted);
    server.stop();
}

/// A back end that closes its kept connections as it likes: no question fails for that.
#[test]
fn kept_connections_that_close_at_random_fail_no_question() {
    let mut count = 0;
    let recorder = HookServer::start(move |_| {
        count += 1;
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0".to_owned();
        // It has promised to keep the connection, and closes it.
        if count % 3 == 0 { Reply::Close(text) } else { Reply::Keep(text) }
    });
    let server =
        Server::start(&[("hooks.dialect", "srs"), ("hooks.on_publish", &recorder.url("/"))]);
    for _ in 0..30 {
        assert_eq!(ask(&server, Question::Publish), Outcome::Accepted);
    }
    let connections: std::collections::BTreeSet<usize> =
        recorder.requests().iter().map(|it: &Recorded| it.connection).collect();
    assert!(connections.len() <= 16, "connections are kept: {connections:?}");
    server.stop();
}

/// Runs `work` in a network of its own, where names are asked for on loopback and answers waited for long.
fn with_own_names(work: impl FnOnce() + Send) {
    let scratch = Scratch::new("names");
    let resolver = scratch.file("resolv.conf");
    fs::write(&resolver, "nameserver 127.0.0.1\noptions timeout:8 attempts:1\n")
        .expect("it can be written");
    with_own_network(|| {
        replace_file(Path::new("/etc/resolv.conf"), &resolver);
        work();
    });
}

/// A name server that falls silent: the address that was known goes on.
#[test]
fn a_silent_name_server_stops_no_hook() {
    with_own_names(|| {
        let is_silent = answer_unless_silent("hooks");
        let recorder = HookServer::start(|_| Reply::ok());
        let url = format!("http://hooks.test:{}/hook", recorder.address().port());
        for (dns_cache, asks) in [("1s", 5), ("0s", 2)] {
            is_silent.store(false, Ordering::Relaxed);
            let server = Server::start(&[
                ("hooks.timeout", "3s"),
                ("hooks.dns_cache", dns_cache),
                ("hooks.on_play", &url),
            ]);
            assert_eq!(ask(&server, Question::PlayHttp), Outcome::Accepted);
            is_silent.store(true, Ordering::Relaxed);
            // What was learnt a moment ago needs no question.
            std::thread::sleep(Duration::from_millis(1_100));
            for _ in 0..asks {
                let started = Instant::now();
                assert_eq!(ask(&server, Question::PlayHttp), Outcome::Accepted, "{dns_cache}");
                let took = started.elapsed();
                assert!(took < Duration::from_millis(2_500), "{dns_cache}: {took:?}");
            }
            let started = Instant::now();
            assert_eq!(http::get(server.api().address(), "/metrics").status, 200);
            assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
            server.stop();
        }
    });
}

/// More names that nobody answers for than there are threads: nobody else waits for one.
#[test]
fn names_without_an_answer_leave_a_thread_to_others() {
    with_own_names(|| {
        let is_silent = answer_unless_silent("test");
        is_silent.store(true, Ordering::Relaxed);
        let urls: Vec<String> =
            (0..6).map(|number| format!("\"http://h{number}.test/hook\"")).collect();
        let server = Server::start(&[
            ("hooks.timeout", "1s"),
            ("hooks.on_failure", "accept"),
            ("hooks.on_play", &format!("[{}]", urls.join(", "))),
        ]);
        // One look-up of each name is under way then, or waits.
        assert_eq!(ask(&server, Question::PlayHttp), Outcome::Accepted);
        let started = Instant::now();
        assert_eq!(http::get(server.api().address(), "/metrics").status, 200);
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        server.stop();
    });
}
