//! Relays and servers of other makes: node-media-server, over TCP and over TLS; and servers that ask for name
//! and password, whom ffmpeg and relays have to give the same answers.

mod support;

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use shardcast::limits::RELAY_TLS_MAX;
use support::certificate::certificate;
use support::ffmpeg::{Pace, Player, publish};
use support::login_server::{LoginServer, Method};
use support::media::{Media, SMALL_VIDEO};
use support::node_media_server::NodeMediaServer;
use support::packets::Source;
use support::process::Process;
use support::relays::{is_state, wait_for_relays};
use support::scratch::Scratch;
use support::server::Server;
use support::wait::{SOON, eventually};

const STREAM: &str = "live/cam";
const LIMIT: Duration = Duration::from_secs(30);

fn five_seconds() -> Media {
    Media { seconds: 5, video: Some(SMALL_VIDEO), audio: true }
}

/// A stream goes to another server by a push relay and comes back to an edge by a pull relay; both ends get
/// what the publisher sent.
fn there_and_back(name: &str, push: &str, pull: &str) {
    let source = Source::of_file(&five_seconds().file());
    let first = Server::start(&[("apps.live.push", push)]);
    let edge = Server::start(&[("apps.live.pull", pull)]);
    let scratch = Scratch::new(name);
    let mut at_edge = Player::start(&edge.rtmp_url(STREAM), scratch.file("list"));
    edge.api().wait_for_viewers(STREAM, 1, SOON);
    let mut publisher = publish(&five_seconds().file(), &first.rtmp_url(STREAM), Pace::RealTime);
    wait_for_relays(&first, "the other server takes it", |relays| {
        relays.iter().any(|relay| is_state(relay, "publishing"))
    });
    edge.api().wait_for_publisher(STREAM, 2 * SOON);
    publisher.expect_success(LIMIT);
    wait_for_relays(&first, "the relay is gone", <[Value]>::is_empty);
    let received = at_edge.finish(LIMIT);
    let (_, left) = source.assert_played_part(name, &received);
    // Its last packets may be behind its notice of the end.
    assert!(left.video + left.audio <= 10, "{left:?} are missing");
    [first, edge].into_iter().for_each(Server::stop);
}

#[test]
fn node_media_server_takes_a_stream_and_gives_it_back() {
    let other = NodeMediaServer::start("nms", None);
    let push = format!("[{{ url = \"{}\" }}]", other.url("live"));
    let pull = format!("[{{ url = \"{}\" }}]", other.url("{app}/{stream}"));
    there_and_back("node-media-server", &push, &pull);
}

#[test]
fn node_media_server_takes_a_stream_and_gives_it_back_over_tls() {
    let certificates = Scratch::new("nms-certificates");
    let (key, cert) = certificate(&certificates, "");
    let other = NodeMediaServer::start("nms-tls", Some((&key, &cert)));
    let ca = cert.display();
    let push = format!("[{{ url = \"{}\", ca = \"{ca}\" }}]", other.tls_url("live"));
    let pull = format!("[{{ url = \"{}\", ca = \"{ca}\" }}]", other.tls_url("{app}/{stream}"));
    there_and_back("node-media-server over TLS", &push, &pull);
}

#[test]
fn certificates_that_are_wrong_are_told_with_what_to_do() {
    let scratch = Scratch::new("wrong-certificates");
    let (key, cert) = certificate(&scratch, "");
    let (_, strange) = certificate(&scratch, "strange-");
    let other = NodeMediaServer::start("nms-wrong", Some((&key, &cert)));
    let url = other.tls_url("live");
    let by_name = url.replace("127.0.0.1", "localhost");
    let missing = scratch.file("missing.pem");
    // Connections wait in its queue: nobody shakes hands.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let silent = format!("rtmps://{}/live", silent.local_addr().expect("it is bound"));
    let cases = [
        (&url, None, "is not trusted"),
        (&url, Some(&strange), "is not trusted"),
        (&by_name, Some(&cert), "is for another name"),
        (&url, Some(&missing), "missing.pem: "),
        (&other.url("live").replace("rtmp:", "rtmps:"), Some(&cert), "127.0.0.1"),
        (&silent, Some(&cert), "has not finished the TLS handshake in time"),
    ];
    let rules: Vec<String> = cases
        .iter()
        .map(|(url, ca, _)| {
            let ca = ca.map(|ca| format!(", ca = \"{}\"", ca.display())).unwrap_or_default();
            format!("{{ url = \"{url}\"{ca} }}")
        })
        .collect();
    let server = Server::start(&[("apps.live.push", &format!("[{}]", rules.join(", ")))]);
    let mut publisher = publish(&five_seconds().file(), &server.rtmp_url(STREAM), Pace::Endless);
    wait_for_relays(&server, "each has failed", |relays| {
        relays.len() == cases.len()
            && relays.iter().all(|relay| relay["last_error"] != "" && relay["bytes_out"] == 0)
    });
    for (relay, (url, _, part)) in support::relays::relays(&server).iter().zip(&cases) {
        let why = relay["last_error"].as_str().expect("text");
        assert!(why.contains(part), "{url}: {why}");
        println!("{why}");
    }
    assert!(publisher.is_running());
    publisher.signal(libc::SIGKILL);
    publisher.wait(SOON);
    server.stop();
}

/// Shakes hands with everybody and says nothing more.
const TLS_SERVER: &str = "
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
kept = []
def keep(connection):
    try:
        kept.append(context.wrap_socket(connection, server_side=True))
    except OSError:
        pass
listener = socket.create_server(('127.0.0.1', 0), backlog=512)
print('port', listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=keep, args=(listener.accept()[0],), daemon=True).start()
";

#[test]
fn connections_over_tls_have_an_end_that_is_told() {
    let scratch = Scratch::new("tls-end");
    let (key, cert) = certificate(&scratch, "");
    let other = Process::spawn(
        "TLS server",
        Command::new("python3").args(["-c", TLS_SERVER]).args([&cert, &key]),
    );
    let port = eventually("it listens", SOON, || {
        other.stdout().trim().strip_prefix("port ").map(str::to_owned)
    });
    let rule = format!("url = \"rtmps://127.0.0.1:{port}/live\", ca = \"{}\"", cert.display());
    let count = RELAY_TLS_MAX + 4;
    let rules: Vec<String> =
        (0..count).map(|number| format!("{{ {rule}, name = \"cam{number}\" }}")).collect();
    let server = Server::start(&[("apps.live.push", &format!("[{}]", rules.join(", ")))]);
    let mut publisher = publish(&five_seconds().file(), &server.rtmp_url(STREAM), Pace::Endless);
    let told = format!("there are {RELAY_TLS_MAX} connections over TLS already");
    wait_for_relays(&server, "the last ones are told why", |relays| {
        let is_told = |it: &&Value| it["last_error"].as_str().is_some_and(|it| it.contains(&told));
        relays.len() == count && relays.iter().filter(is_told).count() >= 4
    });
    assert!(publisher.is_running(), "and the publisher goes on");
    publisher.signal(libc::SIGKILL);
    publisher.wait(SOON);
    server.stop();
}

/// A connect with what is random in it left out.
fn without_chance((app, tc_url): &(String, String), address: &str) -> (String, String) {
    let clean = |text: &str| {
        let pairs = text.split('&').map(|pair| match pair.split_once('=') {
            Some((key @ ("challenge" | "response" | "cnonce"), _)) => format!("{key}=…"),
            _ => pair.to_owned(),
        });
        pairs.collect::<Vec<_>>().join("&").replace(address, "ADDRESS")
    };
    (clean(app), clean(tc_url))
}

#[test]
fn logins_are_answered_as_ffmpeg_answers_them() {
    for method in [Method::Adobe, Method::AdobePlain, Method::Limelight] {
        let behind = Server::start(&[]);
        let login = LoginServer::before(behind.rtmp(), method);
        let address = login.address().to_string();
        let url = |password: &str| format!("rtmp://user:{password}@{address}/live");
        let said = || -> Vec<(String, String)> {
            login.take().iter().map(|connect| without_chance(connect, &address)).collect()
        };
        let file = five_seconds().file();
        let mut theirs = publish(&file, &format!("{}/cam", url("pass")), Pace::Endless);
        behind.api().wait_for_frames(STREAM, 10, 2 * SOON);
        theirs.signal(libc::SIGINT);
        theirs.wait(LIMIT);
        behind.api().wait_for_no_publisher(STREAM, SOON);
        let of_ffmpeg = said();
        assert_eq!(of_ffmpeg.len(), 3, "{of_ffmpeg:?}");

        let server =
            Server::start(&[("apps.live.push", &format!("[{{ url = \"{}\" }}]", url("pass")))]);
        let mut publisher = publish(&file, &server.rtmp_url(STREAM), Pace::Endless);
        behind.api().wait_for_frames(STREAM, 10, 2 * SOON);
        assert_eq!(said(), of_ffmpeg, "{method:?}");
        publisher.signal(libc::SIGINT);
        publisher.wait(LIMIT);
        server.stop();

        // With a wrong password neither is let in, and neither goes on for ever.
        let mut theirs = publish(&file, &format!("{}/cam", url("wrong")), Pace::Endless);
        assert!(!theirs.wait(LIMIT).success());
        let of_ffmpeg = said();
        let rule = format!("[{{ url = \"{}\", retry = \"60s\" }}]", url("wrong"));
        let server = Server::start(&[("apps.live.push", &rule)]);
        let mut publisher = publish(&file, &server.rtmp_url(STREAM), Pace::Endless);
        wait_for_relays(&server, "it is refused", |relays| {
            relays.len() == 1 && is_state(&relays[0], "refused")
        });
        let ours = eventually("one attempt", SOON, || {
            let ours = said();
            (ours.len() >= of_ffmpeg.len()).then_some(ours)
        });
        assert_eq!(ours[..of_ffmpeg.len()], of_ffmpeg, "{method:?}");
        assert!(!behind.api().snapshot().is_published(STREAM));
        publisher.signal(libc::SIGINT);
        publisher.wait(LIMIT);
        [server, behind].into_iter().for_each(Server::stop);
    }
}
