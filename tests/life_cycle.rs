//! What an operator does to a running server by signal, and what its logs say: with real publishers and
//! players attached.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::ffmpeg::{Pace, Player, publish};
use support::http;
use support::media::{MINUTE, SHORT};
use support::packets::Source;
use support::process::{Process, describe};
use support::publisher::{Publisher, Script};
use support::scratch::Scratch;
use support::server::{Server, command};
use support::viewer::{Received, Viewer};
use support::wait::{SOON, eventually};

const STREAM: &str = "live/cam";
const SHUTDOWN: &str = "NetConnection.Connect.AppShutdown";
/// Messages that ffmpeg sends before the first packet: metadata and two configurations.
const HEADERS: usize = 3;
/// Half of `server.drain`: more than the second that a client has to close its end.
const DRAINED_MAX: Duration = Duration::from_secs(5);

/// "At once", on a loaded machine.
const AT_ONCE: Duration = Duration::from_secs(1);

const SCRIPT: Script = Script {
    frame_interval: Duration::from_millis(40),
    gop_frames: 25,
    keyframe_bytes: 10_000,
    inter_bytes: 2_000,
    audio: true,
};

/// A server with a configuration file and a log file of its own.
struct Configured {
    server: Server,
    scratch: Scratch,
}

impl Configured {
    fn start(name: &str, text: &str, overrides: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new(name);
        let log = scratch.file("log").display().to_string();
        let mut all = vec![("server.shards", "2"), ("server.accept", "round_robin")];
        all.push(("log.file", &log));
        all.extend_from_slice(overrides);
        let file = scratch.file("server.toml");
        fs::write(&file, text).expect("the file can be written");
        let mut command = command(&all);
        command.arg("--config").arg(file);
        let server = Server::adopt(Process::spawn("shardcast", &mut command));
        Self { server, scratch }
    }

    fn write(&self, text: &str) {
        fs::write(self.scratch.file("server.toml"), text).expect("the file can be written");
    }

    fn log(&self) -> PathBuf {
        self.scratch.file("log")
    }

    /// Sends SIGHUP and waits for what the log says about it.
    fn reload(&self, text: &str, expected: &str) -> String {
        let before = lines(&self.log()).len();
        self.write(text);
        self.server.process().signal(libc::SIGHUP);
        wait_for_line(&self.log(), before, &[expected])
    }
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The first line from `skip` on with all of these words.
fn wait_for_line(file: &Path, skip: usize, words: &[&str]) -> String {
    eventually(&format!("a line with {words:?} in {}", file.display()), SOON, || {
        let fits = |line: &String| words.iter().all(|word| line.contains(word));
        lines(file).into_iter().skip(skip).find(fits)
    })
}

/// The value of `key=` in a line of text.
fn field(line: &str, key: &str) -> u64 {
    let text = line.split_whitespace().find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
    text.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {key} in {line}"))
}

#[test]
fn each_signal_to_stop_ends_publishers_then_players_and_loses_nothing() {
    for (signal, name) in
        [(libc::SIGTERM, "SIGTERM"), (libc::SIGINT, "SIGINT"), (libc::SIGQUIT, "SIGQUIT")]
    {
        let source = Source::of_file(&MINUTE.file());
        // On both shards, or on the publisher's.
        let is_gathered = signal == libc::SIGINT;
        let gathered = if is_gathered { "16" } else { "0" };
        let server = Server::start(&[("server.gather_viewers", gathered)]);
        let scratch = Scratch::new(&format!("drain-{name}"));
        let mut publisher = publish(&MINUTE.file(), &server.rtmp_url(STREAM), Pace::RealTime);
        server.api().wait_for_frames(STREAM, 30, SOON);
        let mut players: Vec<Player> = ["rtmp0", "rtmp1", "flv0", "flv1"]
            .iter()
            .map(|kind| {
                let is_rtmp = kind.starts_with("rtmp");
                let url = if is_rtmp { server.rtmp_url(STREAM) } else { server.flv_url(STREAM) };
                Player::start(&url, scratch.file(kind))
            })
            .collect();
        let snapshot = server.api().wait_for_viewers(STREAM, 4, SOON);
        let viewers = snapshot.viewers(STREAM);
        assert_eq!(viewers.contains(&0), is_gathered, "{viewers:?}");
        let frames = snapshot.frames_in(STREAM);
        server.api().wait_for_frames(STREAM, frames + 200, SOON);

        let told = Instant::now();
        server.process().signal(signal);
        let mut process = server.into_process();
        process.expect_success(DRAINED_MAX);
        println!("{name}: ended after {:?}", told.elapsed());
        let said = process.stderr();
        assert!(said.contains(&format!("{name}: shutting down")), "{said}");
        let ended = said.lines().find(|line| line.contains("publish ended")).expect("it ended");
        let taken = usize::try_from(field(ended, "frames")).expect("few");

        assert!(!publisher.wait(SOON).success(), "a publisher that is cut off does not end well");
        let told = publisher.stderr();
        assert!(told.contains("the server is shutting down"), "{told}");
        for player in &mut players {
            let received = player.finish(SOON);
            let who = player.process().name().to_owned();
            let (_, left) = source.assert_played_part(&who, &received);
            let published = source.packets().len() - left.video - left.audio + HEADERS;
            assert_eq!(published, taken, "{who} has all that the server had taken");
        }
    }
}

#[test]
fn a_drain_says_how_far_it_is_and_a_slow_client_does_not_outlast_it() {
    const DRAIN: Duration = Duration::from_secs(4);
    let server = Server::start(&[("server.drain", "4s")]);
    let api = server.api().address();
    let status = |path: &str| http::get(api, path).status;
    let _publisher = publish(&SHORT.file(), &server.rtmp_url(STREAM), Pace::Endless);
    let (_stuck, mut viewer) = (stuck_viewer(&server), Viewer::rtmp(server.rtmp(), STREAM));
    wait_for_message(&mut viewer);
    assert_eq!((status("/health/live"), status("/health/ready")), (200, 200));

    let told = Instant::now();
    server.process().signal(libc::SIGTERM);
    eventually("not ready", SOON, || (status("/health/ready") == 503).then_some(()));
    assert_eq!(status("/health/live"), 200);
    eventually("nobody listens any more", AT_ONCE, || TcpStream::connect(server.rtmp()).err());
    // Who takes what is sent does not wait for the one who does not.
    let deadline = told + DRAIN / 2;
    let mut codes = Vec::new();
    while let Some(received) = viewer.next(deadline) {
        match received {
            Received::Status(code) | Received::Failed(code) => codes.push(code),
            Received::StreamEof => codes.push("EOF".to_owned()),
            _ => {}
        }
    }
    let end = ["NetStream.Play.UnpublishNotify", "EOF", SHUTDOWN];
    assert!(codes.ends_with(&end.map(str::to_owned)), "{codes:?}");
    server.process().wait_for_stderr("draining connections=1 left_s=", SOON);

    let mut process = server.into_process();
    process.expect_success(DRAIN + SOON);
    let took = told.elapsed();
    let said = process.stderr();
    println!("ended after {took:?}");
    assert!(took > DRAIN / 2, "the slow client had no time: {took:?}");
    let begun = said.find("draining: no new connections").expect("the begin is said");
    let closed: Vec<&str> =
        said[begun..].lines().filter(|line| line.contains("reason=\"draining\"")).collect();
    assert_eq!(closed.len(), 3, "each connection has its last line: {closed:#?}");
    assert!(said.trim_end().ends_with("shardcast has ended"), "{said}");
}

#[test]
fn a_second_signal_ends_at_once_and_says_so() {
    let server = Server::start(&[("server.drain", "60s")]);
    let _stuck = stuck_viewer(&server);
    server.process().signal(libc::SIGQUIT);
    server.process().wait_for_stderr("draining connections=", SOON);
    // Another SIGQUIT, and what an operator may try meanwhile, change nothing.
    for (signal, words) in [
        (libc::SIGQUIT, "SIGQUIT: already shutting down"),
        (libc::SIGHUP, "SIGHUP changes nothing"),
        (libc::SIGUSR1, "SIGUSR1: the log files are opened anew"),
    ] {
        server.process().signal(signal);
        server.process().wait_for_stderr(words, SOON);
    }
    let mut process = server.into_process();
    assert!(process.is_running());
    let told = Instant::now();
    process.signal(libc::SIGINT);
    let status = process.wait(SOON);
    println!("ended after {:?}", told.elapsed());
    assert_eq!(status.code(), Some(1), "{}", describe(status));
    assert!(told.elapsed() < Duration::from_secs(3));
    let said = process.stderr();
    assert!(said.contains("SIGINT: ended at once; connections were cut"), "{said}");
}

/// Access rules, the token and the log's level take effect for what comes next; what runs goes on, bit
/// by bit.
#[test]
fn a_new_configuration_holds_for_what_comes_and_leaves_what_runs() {
    const BEFORE: &str = "[api]\ntoken = \"first-secret\"\n";
    const AFTER: &str = "[api]\ntoken = \"second-secret\"\n[log]\nlevel = \"debug\"\n\
                         [rtmp]\nping = \"30s\"\n[push]\n\
                         [apps.live]\naccess = [{ deny = \"all\", from = \"all\" }]\n";
    let source = Source::of_file(&SHORT.file());
    let running = Configured::start("reload", BEFORE, &[]);
    let Configured { server, scratch } = &running;
    let log = running.log();
    let mut publisher = publish(&SHORT.file(), &server.rtmp_url(STREAM), Pace::RealTime);
    wait_for_line(&log, 0, &["publish started", "stream=live/cam"]);
    let mut players = [
        Player::start(&server.rtmp_url(STREAM), scratch.file("rtmp")),
        Player::start(&server.flv_url(STREAM), scratch.file("flv")),
    ];
    for player in &players {
        eventually("the player plays", SOON, || player.so_far());
    }
    let status = |token: &str| {
        let header = format!("Authorization: Bearer {token}");
        http::request(server.api().address(), "GET", "/health/ready", &[&header]).status
    };
    assert_eq!((status("first-secret"), status("second-secret")), (200, 401));
    let live = http::get(server.api().address(), "/health/live").status;
    assert_eq!(live, 200, "needs no token");

    let said = running.reload(AFTER, "configuration read again");
    assert!(said.contains("changed=api.token, apps.live.access, log.level"), "{said}");
    wait_for_line(&log, 0, &["keep their running values until the next start", "keys=rtmp.ping"]);
    eventually("the new token holds", SOON, || (status("second-secret") == 200).then_some(()));
    assert_eq!(status("first-secret"), 401);
    let mut refused = Player::start(&server.rtmp_url(STREAM), scratch.file("refused"));
    assert!(!refused.process().wait(SOON).success());
    let told = refused.process().stderr();
    assert!(told.contains("live/cam may not be played from 127.0.0.1"), "{told}");
    assert_eq!(http::get(server.http(), "/live/cam.flv").status, 403);

    // A file with a fault changes nothing, and its place is named.
    let fault =
        "[api]\ntoken = \"third-secret\"\n\n[apps.live]\naccess = []\nlatncy = \"realtime\"\n";
    let said = running.reload(fault, "the configuration stays as it was");
    assert!(said.contains("server.toml:6:1: apps.live.latncy: there is no such key"), "{said}");
    assert!(said.contains("did you mean `latency`?"), "{said}");
    assert_eq!((status("second-secret"), status("third-secret")), (200, 401));
    assert_eq!(http::get(server.http(), "/live/cam.flv").status, 403);
    fs::remove_file(scratch.file("server.toml")).expect("it is there");
    let before = lines(&log).len();
    server.process().signal(libc::SIGHUP);
    wait_for_line(&log, before, &["the configuration stays as it was", "server.toml"]);
    running.reload(AFTER, "nothing else has changed");

    // Back again: the next one may play.
    running.reload(BEFORE, "configuration read again");
    let mut viewer = Viewer::flv(server.http(), STREAM);
    wait_for_message(&mut viewer);
    drop(viewer);
    publisher.expect_success(Duration::from_secs(30));
    for player in &mut players {
        let received = player.finish(SOON);
        let joined = source.assert_played(player.process().name(), &received);
        println!("{}: {joined:?}", player.process().name());
    }
    let all = lines(&log);
    let closed =
        |line: &&String| line.contains(" closed ") && line.contains("reason=\"peer_closed\"");
    assert!(all.iter().filter(closed).count() >= 2, "nobody was closed by the server: {all:#?}");
    for secret in ["first-secret", "second-secret", "third-secret"] {
        assert!(!all.iter().any(|line| line.contains(secret)), "a secret is in the log");
    }
    running.server.stop();
}

#[test]
fn a_server_without_a_file_says_that_there_is_nothing_to_read_again() {
    let server = Server::start(&[]);
    server.process().signal(libc::SIGHUP);
    server.process().wait_for_stderr("the server runs without a file", SOON);
    // As often as somebody likes: no signal ends the process by accident.
    for _ in 0..50 {
        server.process().signal(libc::SIGUSR1);
        server.process().signal(libc::SIGHUP);
    }
    server.stop();
}

#[test]
fn renamed_logs_get_no_more_lines_after_the_signal() {
    let scratch = Scratch::new("reopen");
    let access = scratch.file("access").display().to_string();
    let running = Configured::start("reopen-main", "", &[("log.access", &access)]);
    let (log, old_log) = (running.log(), running.scratch.file("log.1"));
    let (access, old_access) = (scratch.file("access"), scratch.file("access.1"));
    let server = &running.server;
    let session = |number: usize| {
        let status = http::get(server.http(), &format!("/live/nobody.flv?number={number}")).status;
        assert_eq!(status, 404);
    };
    (0..20).for_each(session);
    fs::rename(&log, &old_log).expect("it can be renamed");
    fs::rename(&access, &old_access).expect("it can be renamed");
    (20..40).for_each(session);
    let closed = |file: &Path| lines(file).iter().filter(|line| line.contains(" closed ")).count();
    // A line is written when the server has noticed the end of the connection.
    eventually("every session so far is written down under the new names", SOON, || {
        (lines(&old_access).len() == 40 && closed(&old_log) == 40).then_some(())
    });
    server.process().signal(libc::SIGUSR1);
    wait_for_line(&log, 0, &["SIGUSR1: the log files are opened anew"]);
    (40..60).for_each(session);
    eventually("every session is written down", SOON, || {
        (lines(&old_access).len() + lines(&access).len() == 60).then_some(())
    });
    // Written down by two shards, so not in the order of the requests.
    let numbers = |file: &Path| -> Vec<u64> {
        let mut numbers: Vec<u64> = lines(file)
            .iter()
            .map(|line| line.split_once("number=").expect("its query").1)
            .map(|rest| rest.split('"').next().unwrap_or_default().parse().expect("a number"))
            .collect();
        numbers.sort_unstable();
        numbers
    };
    let (first, second) = (numbers(&old_access), numbers(&access));
    assert_eq!((first, second), ((0..40).collect(), (40..60).collect()));
    eventually("every end is in the log", SOON, || {
        (closed(&old_log) + closed(&log) == 60).then_some(())
    });
    assert_eq!((closed(&old_log), closed(&log)), (40, 20));
    running.server.stop();
}

#[test]
fn json_lines_have_stable_keys_and_the_number_that_the_api_shows() {
    let running = Configured::start("json", "", &[("log.format", "json")]);
    let server = &running.server;
    let mut publisher = publish(&SHORT.file(), &server.rtmp_url("live/ä?key=1"), Pace::RealTime);
    server.api().wait_for_frames("live/ä", 20, SOON);
    let published_by = server.api().snapshot().publisher_id("live/ä");
    let mut player = Viewer::rtmp(server.rtmp(), "live/ä");
    wait_for_message(&mut player);
    drop(player);
    assert_eq!(http::get(server.http(), "/live/nobody.flv").status, 404);
    publisher.expect_success(Duration::from_secs(30));
    let log = running.log();
    wait_for_line(&log, 0, &["\"message\":\"closed\"", &format!("\"client\":{published_by},")]);
    running.server.stop();
    let events: Vec<Value> = lines(&running.scratch.file("log"))
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let all = |message: &str| -> Vec<&Value> {
        events.iter().filter(|event| event["message"] == message).collect()
    };
    let keys: [(&str, usize, &[&str]); 8] = [
        ("connected", 2, &["client", "peer", "vhost", "app", "instance", "agent"]),
        ("publish started", 1, &["client", "peer", "stream", "epoch", "resumed"]),
        ("publishing", 1, &["client", "peer", "stream", "video", "audio"]),
        ("publish ended", 1, &["client", "peer", "stream", "seconds", "frames", "bytes", "why"]),
        ("play started", 1, &["client", "peer", "stream", "protocol", "published"]),
        ("play ended", 1, &["client", "peer", "stream", "seconds", "why"]),
        ("refused", 1, &["client", "peer", "app", "reason", "why"]),
        (
            "closed",
            3,
            &["client", "peer", "protocol", "bytes_in", "bytes_out", "seconds", "reason"],
        ),
    ];
    for (message, count, keys) in keys {
        let found = all(message);
        assert_eq!(found.len(), count, "{message}: {found:#?}");
        for event in found {
            for key in ["timestamp", "level", "shard"].iter().chain(keys) {
                assert!(!event[key].is_null(), "{message} has no {key}: {event}");
            }
        }
    }
    let publishing = all("publishing")[0];
    assert_eq!(publishing["client"], published_by);
    assert_eq!(publishing["stream"], "live/ä");
    assert_eq!(publishing["video"], "H264 640x360 30 fps");
    assert_eq!(publishing["audio"], "AAC 44100 Hz mono");
    assert!(all("closed").iter().all(|event| event["bytes_in"].as_u64().is_some()));
}

/// The access log is what people account by: it holds what the clients themselves have counted.
#[test]
fn the_access_log_has_the_bytes_that_went_over_the_wire() {
    let scratch = Scratch::new("access");
    let access = scratch.file("access").display().to_string();
    let options = [("log.access", access.as_str()), ("log.access_format", "json")];
    let server = Server::start(&options);
    let publisher = Publisher::start(server.rtmp(), STREAM, SCRIPT);
    let mut rtmp = Viewer::rtmp(server.rtmp(), "live/cam?who=rtmp");
    wait_for_message(&mut rtmp);
    let request = format!("GET /live/cam.flv?who=flv HTTP/1.1\r\nHost: {}\r\n\r\n", server.http());
    let mut flv = TcpStream::connect(server.http()).expect("it listens");
    flv.write_all(request.as_bytes()).expect("a request fits");
    server.api().wait_for_viewers(STREAM, 2, SOON);
    server.api().wait_for_frames(STREAM, 200, SOON);
    publisher.say_goodbye();
    let mut received = Vec::new();
    flv.read_to_end(&mut received).expect("the body ends with the stream");
    let deadline = Instant::now() + SOON;
    while rtmp.next(deadline).expect("it stays open") != Received::StreamEof {}
    server.process().signal(libc::SIGTERM);
    while rtmp.next(deadline).is_some() {}
    let mut process = server.into_process();
    process.expect_success(DRAINED_MAX);

    let sessions: Vec<Value> = lines(&scratch.file("access"))
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let session = |args: &str, command: &str| -> &Value {
        let found: Vec<&Value> = sessions
            .iter()
            .filter(|line| line["args"] == args && line["command"] == command)
            .collect();
        assert_eq!(found.len(), 1, "{sessions:#?}");
        found[0]
    };
    assert_eq!(sessions.len(), 3, "{sessions:#?}");
    let flv_line = session("who=flv", "PLAY");
    assert_eq!(flv_line["bytes_sent"].as_u64(), Some(received.len() as u64));
    assert_eq!(flv_line["bytes_received"].as_u64(), Some(request.len() as u64));
    assert_eq!((&flv_line["protocol"], &flv_line["name"]), (&"http".into(), &"cam".into()));
    let rtmp_line = session("who=rtmp", "PLAY");
    assert_eq!(rtmp_line["bytes_sent"].as_u64(), Some(rtmp.bytes()));
    assert_eq!(rtmp_line["reason"], "draining");
    let publisher_line = session("", "PUBLISH");
    let media = 8 * (SCRIPT.keyframe_bytes + 24 * SCRIPT.inter_bytes) as u64 / 10;
    assert!(publisher_line["bytes_received"].as_u64() > Some(media), "{publisher_line}");
    println!("{} bytes over RTMP, {} over HTTP", rtmp.bytes(), received.len());
}

/// nginx-rtmp and this server write the same line about the same client, numbers and times aside.
#[test]
fn the_default_access_line_is_that_of_nginx() {
    let scratch = Scratch::new("access-nginx");
    let nginx = Nginx::start(&scratch);
    let access = scratch.file("ours").display().to_string();
    let server = Server::start(&[("log.access", &access), ("rtmp.chunk_size", "4096")]);
    let mut written = Vec::new();
    for (address, file) in [(nginx.address, "nginx"), (server.rtmp(), "ours")] {
        let url = format!("rtmp://{address}/live/cam?key=1&user=a%20b");
        let mut publisher = publish(&SHORT.file(), &url, Pace::RealTime);
        // Waits for the stream, and goes when it has some of it.
        let mut player = Command::new("ffmpeg");
        player.args([
            "-nostdin",
            "-v",
            "error",
            "-i",
            &format!("rtmp://{address}/live/cam?who=me"),
        ]);
        player.args(["-t", "2", "-c", "copy", "-f", "null", "-"]);
        Process::run("ffmpeg plays for two seconds", &mut player, 2 * SOON);
        publisher.expect_success(3 * SOON);
        let mut lines = eventually("both sessions are written down", SOON, || {
            let found = lines(&scratch.file(file));
            (found.len() == 2).then_some(found)
        });
        lines.sort();
        written.push(lines);
    }
    for line in &written[1] {
        println!("{line}");
    }
    let [theirs, ours] = &written[..] else { panic!("two servers") };
    for (theirs, ours) in theirs.iter().zip(ours) {
        assert_eq!(without_numbers(theirs), without_numbers(ours));
    }
    server.stop();
}

/// A line with its time and every number between spaces replaced, and flashVer cut as nginx cuts it.
fn without_numbers(line: &str) -> String {
    let (head, rest) = line.split_once(" [").expect("a time");
    let (time, rest) = rest.split_once("] ").expect("the end of the time");
    let shape: String =
        time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).skip(6).collect();
    let parts: Vec<String> = rest
        .split('"')
        .enumerate()
        .map(|(at, part)| match at {
            // Bytes, and the length of the session.
            6 | 10 => part.chars().filter(|c| !c.is_ascii_digit()).collect(),
            9 => part.chars().take(31).collect(),
            _ => part.to_owned(),
        })
        .collect();
    format!("{head} [{shape}] {}", parts.join("\""))
}

/// A disk without room loses lines; nothing else. Once there is room the loss is said.
#[test]
fn a_full_disk_costs_log_lines_only() {
    let scratch = Scratch::new("disk");
    let (log, access) = (scratch.file("log"), scratch.file("access"));
    for link in [&log, &access] {
        symlink("/dev/full", link).expect("a link can be made");
    }
    let server = Server::start(&[
        ("log.file", &log.display().to_string()),
        ("log.access", &access.display().to_string()),
    ]);
    let publisher = Publisher::start(server.rtmp(), STREAM, SCRIPT);
    for _ in 0..3 {
        let mut viewer = Viewer::rtmp(server.rtmp(), STREAM);
        wait_for_message(&mut viewer);
    }
    let lost = |key: &str| server.api().snapshot().log(key);
    eventually("lost lines are counted", SOON, || {
        (lost("lines_lost") >= 10 && lost("access_lines_lost") == 3).then_some(())
    });
    let complaints = |stderr: String| stderr.matches("No space left on device").count();
    assert_eq!(complaints(server.process().stderr()), 2, "said once per file");
    for link in [&log, &access] {
        fs::remove_file(link).expect("it is there");
    }
    server.process().signal(libc::SIGUSR1);
    for name in ["log=\"log\"", "log=\"access-log\""] {
        let mut viewer = Viewer::rtmp(server.rtmp(), STREAM);
        wait_for_message(&mut viewer);
        drop(viewer);
        println!("{}", wait_for_line(&log, 0, &["log lines were lost", name]));
    }
    publisher.say_goodbye();
    server.stop();
}

/// A terminal, or a collector behind a pipe, that stops reading does not stop the server.
#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    /// Two lines each; the queue has 8,192 places, and the pipe 64 KiB.
    const REQUESTS: usize = 5_000;
    const THREADS: usize = 8;
    let scratch = Scratch::new("unread");
    let pipe = scratch.file("pipe");
    Process::run("mkfifo", Command::new("mkfifo").arg(&pipe), SOON);
    // Open on both sides, so that neither waits; never read.
    let _unread =
        fs::OpenOptions::new().read(true).write(true).open(&pipe).expect("the pipe can be opened");
    let mut shell = Command::new("sh");
    let inner = command(&[("server.shards", "2")]);
    shell.args(["-c", "exec \"$@\" 2>\"$UNREAD\"", "sh"]).env("UNREAD", &pipe);
    shell.arg(inner.get_program()).args(inner.get_args());
    let server = Server::adopt(Process::spawn("shardcast", &mut shell));
    let publisher = Publisher::start(server.rtmp(), STREAM, SCRIPT);
    let mut viewer = Viewer::rtmp(server.rtmp(), STREAM);
    wait_for_message(&mut viewer);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..REQUESTS / THREADS {
                    assert_eq!(http::get(server.http(), "/live/nobody.flv").status, 404);
                }
            });
        }
    });
    let snapshot = server
        .api()
        .wait_until("lines are lost", 3 * SOON, |snapshot| snapshot.log("lines_lost") > 0);
    println!("{} lines lost", snapshot.log("lines_lost"));
    let frames = server.api().snapshot().frames_in(STREAM);
    server.api().wait_for_frames(STREAM, frames + 50, SOON);
    wait_for_message(&mut viewer);
    publisher.say_goodbye();
    server.process().signal(libc::SIGTERM);
    let mut process = server.into_process();
    process.expect_success(DRAINED_MAX + SOON);
}

/// A viewer that never reads, with more than the kernel's buffers on its way.
fn stuck_viewer(server: &Server) -> Viewer {
    const BIG: Script = Script {
        frame_interval: Duration::from_millis(20),
        gop_frames: 50,
        keyframe_bytes: 400_000,
        inter_bytes: 100_000,
        audio: false,
    };
    let publisher = Publisher::start(server.rtmp(), "live/big", BIG);
    let mut viewer = Viewer::rtmp_with_buffer(server.rtmp(), "live/big", Some(16 * 1024));
    let deadline = Instant::now() + SOON;
    while !matches!(viewer.next(deadline), Some(Received::Message { type_id: 9, .. })) {}
    server
        .api()
        .wait_until("a socket takes no more", SOON, |snapshot| snapshot.sum("sends_refused") > 0);
    // Its stream ends now; its connection stays until the viewer has what is left, or time is up.
    publisher.say_goodbye();
    viewer
}

fn wait_for_message(viewer: &mut Viewer) {
    let deadline = Instant::now() + SOON;
    loop {
        match viewer.next(deadline) {
            Some(Received::Message { type_id: 9, .. }) => return,
            Some(_) => {}
            None => panic!("the server has closed the viewer's connection"),
        }
    }
}

/// nginx with its RTMP module, in the foreground, on a port of its own.
struct Nginx {
    _process: Process,
    address: SocketAddr,
}

impl Nginx {
    fn start(scratch: &Scratch) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let address = free.local_addr().expect("it is bound");
        drop(free);
        let directory = scratch.path().display();
        let text = format!(
            "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
             daemon off; master_process off; pid {directory}/pid; error_log stderr;\n\
             events {{ worker_connections 64; }}\n\
             rtmp {{ access_log {directory}/nginx;\n\
             server {{ listen {address}; application live {{ live on; }} }} }}\n"
        );
        let file = scratch.file("nginx.conf");
        fs::write(&file, text).expect("the file can be written");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(scratch.path()).arg("-c").arg(&file);
        let mut process = Process::spawn("nginx", &mut command);
        eventually("nginx listens", SOON, || {
            assert!(process.is_running(), "{}", process.report());
            TcpStream::connect(address).ok()
        });
        Self { _process: process, address }
    }
}
