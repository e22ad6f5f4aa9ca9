//! The control API with live clients: SRS's shapes, nginx-rtmp's statistics beside the real ones, closing
//! and redirecting connections, and the description that programs read.

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::downloads::downloads;
use support::ffmpeg::{Pace, Player, publish};
use support::hook_server::{HookServer, Reply};
use support::http;
use support::media::{MINUTE, SHORT};
use support::namespace::with_own_network;
use support::process::Process;
use support::scratch::Scratch;
use support::server::{Server, command};
use support::wait::{SOON, eventually};

const LIMIT: Duration = Duration::from_secs(30);

/// What every answer of SRS begins with (contract api).
const ENVELOPE: &str = "code i, server s, service s, pid s";
const KBPS: &str = "kbps{recv_30s i, send_30s i}";
const VERSIONS: &str = "data{major i, minor i, revision i, version s}";
const SUMMARIES: &str = "data{ok b, now_ms i, self{version s, pid i, ppid i, argv s, cwd s, mem_kbyte i, \
    mem_percent f, cpu_percent f, srs_uptime i}, system{cpu_percent f, disk_read_KBps i, \
    disk_write_KBps i, disk_busy_percent f, mem_ram_kbyte i, mem_ram_percent f, mem_swap_kbyte i, \
    mem_swap_percent f, cpus i, cpus_online i, uptime f, ilde_time f, load_1m f, load_5m f, load_15m f, \
    net_sample_time i, net_recv_bytes i, net_send_bytes i, net_recvi_bytes i, net_sendi_bytes i, \
    srs_sample_time i, srs_recv_bytes i, srs_send_bytes i, conn_sys i, conn_sys_et i, conn_sys_tw i, \
    conn_sys_udp i, conn_srs i}}";
const VHOST: &str = "id s, name s, enabled b, clients i, streams i, send_bytes i, recv_bytes i, KBPS, \
    hls{enabled b}";
const STREAM: &str = "id s, name s, vhost s, app s, tcUrl s, url s, live_ms i, clients i, frames i, \
    send_bytes i, recv_bytes i, KBPS, publish{active b, cid s}, \
    video{codec s, profile s, level s, width i, height i}, \
    audio{codec s, sample_rate i, channel i, profile s}";
const CLIENT: &str = "id s, vhost s, stream s, ip s, pageUrl s, swfUrl s, tcUrl s, url s, name s, type s, \
    publish b, alive f, send_bytes i, recv_bytes i, KBPS";

/// Holds an object against a shape: `key type` and `key{…}`, in any order, no other keys.
fn assert_shape(value: &Value, shape: &str) {
    let shape = shape.replace("KBPS", KBPS);
    let mut rest = shape.as_str();
    check_object(value, &mut rest, &shape);
    assert!(rest.is_empty(), "the shape is read whole: {rest}");
}

fn check_object(value: &Value, shape: &mut &str, whole: &str) {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}; {whole}"));
    let mut keys: Vec<&str> = Vec::new();
    loop {
        *shape = shape.trim_start_matches([' ', ',']);
        if shape.is_empty() || shape.starts_with('}') {
            break;
        }
        let end = shape.find([' ', '{']).expect("a key");
        let key = &shape[..end];
        keys.push(key);
        let found = object.get(key).unwrap_or_else(|| panic!("{key} is missing in {value}"));
        if shape[end..].starts_with('{') {
            *shape = &shape[end + 1..];
            check_object(found, shape, whole);
            *shape = shape.strip_prefix('}').expect("an end");
        } else {
            let is_right = match &shape[end + 1..=end + 1] {
                "s" => found.is_string(),
                "i" => found.is_i64() || found.is_u64(),
                "f" => found.is_number(),
                _ => found.is_boolean(),
            };
            assert!(is_right, "{key} in {value} is not of the type in {whole}");
            *shape = &shape[end + 2..];
        }
    }
    let further: Vec<&String> =
        object.keys().filter(|key| !keys.contains(&key.as_str()) && *key != "details").collect();
    assert!(further.is_empty(), "{further:?} stand in {value} and not in {whole}");
}

fn ask(server: &Server, method: &str, target: &str) -> (u16, Vec<u8>) {
    let mut response = http::request(server.api().address(), method, target, &[]);
    (response.status, response.read_to_end())
}

fn json(server: &Server, target: &str) -> Value {
    let (status, body) = ask(server, "GET", target);
    assert_eq!(status, 200, "{target}");
    serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{target}: {error}"))
}

fn text(server: &Server, target: &str) -> (u16, String) {
    let (status, body) = ask(server, "GET", target);
    (status, String::from_utf8(body).expect("text"))
}

/// The payload of an answer of SRS, whose envelope is as it should be.
fn payload(server: &Server, target: &str, key: &str) -> Value {
    let mut answer = json(server, target);
    let payload = answer.as_object_mut().expect("an object").remove(key);
    assert_shape(&answer, ENVELOPE);
    assert_eq!(answer["code"], 0, "{target}");
    assert!(answer["pid"].as_str().is_some_and(|pid| pid.parse::<u32>().is_ok()), "{answer}");
    payload.unwrap_or_else(|| panic!("{target} has no {key}"))
}

/// A publisher and players over RTMP and HTTP, as soon as everybody is there.
struct Audience {
    server: Server,
    scratch: Scratch,
    _publisher: Process,
    _players: Vec<Player>,
}

impl Audience {
    fn start(overrides: &[(&str, &str)]) -> Self {
        let server = Server::start(overrides);
        let scratch = Scratch::new("audience");
        let publisher = publish(&MINUTE.file(), &server.rtmp_url("live/cam"), Pace::RealTime);
        server.api().wait_for_frames("live/cam", 30, SOON);
        // One after the other: their numbers are in this order.
        let play = |url: String, list: &str| {
            let player = Player::start(&url, scratch.file(list));
            eventually("it plays", LIMIT, || player.so_far().map(drop));
            player
        };
        let players = vec![
            play(server.rtmp_url("live/cam"), "rtmp"),
            play(server.flv_url("live/cam"), "flv"),
        ];
        Self { server, scratch, _publisher: publisher, _players: players }
    }
}

#[test]
fn the_shapes_are_those_of_srs() {
    let audience = Audience::start(&[("vhosts.video_test.aliases", "['video.test']")]);
    let server = &audience.server;
    let mut versions = json(server, "/api/v1/versions");
    let data = versions.as_object_mut().expect("an object").remove("data").expect("data");
    assert_shape(&serde_json::json!({ "data": data }), VERSIONS);
    assert_eq!(data["version"], env!("CARGO_PKG_VERSION"));
    let data = payload(server, "/api/v1/summaries", "data");
    assert_shape(&serde_json::json!({ "data": data }), SUMMARIES);
    assert_eq!(data["self"]["pid"], server.process().id());
    assert!(data["self"]["mem_kbyte"].as_u64() > Some(1_000), "{data}");
    assert!(data["system"]["srs_send_bytes"].as_u64() > Some(10_000), "{data}");
    assert!(!data["self"]["argv"].as_str().expect("text").contains("127.0.0.1:0"), "{data}");

    let vhosts = payload(server, "/api/v1/vhosts", "vhosts");
    assert_eq!(vhosts.as_array().map(Vec::len), Some(2), "{vhosts}");
    assert_shape(&vhosts[0], VHOST);
    assert_eq!((&vhosts[0]["clients"], &vhosts[0]["streams"]), (&3.into(), &1.into()), "{vhosts}");
    let id = vhosts[0]["id"].as_str().expect("text").to_owned();
    assert_shape(&payload(server, &format!("/api/v1/vhosts/{id}"), "vhost"), VHOST);

    let streams = payload(server, "/api/v1/streams", "streams");
    assert_eq!(streams.as_array().map(Vec::len), Some(1), "{streams}");
    let stream = &streams[0];
    assert_shape(stream, STREAM);
    assert_eq!(stream["vhost"], id.as_str());
    assert_eq!((&stream["app"], &stream["name"]), (&"live".into(), &"cam".into()));
    assert_eq!((&stream["url"], &stream["clients"]), (&"/live/cam".into(), &3.into()));
    assert_eq!(stream["tcUrl"], format!("rtmp://{}/live", server.rtmp()));
    let video = &stream["video"];
    assert_eq!((&video["codec"], &video["profile"]), (&"H264".into(), &"Main".into()));
    assert_eq!((&video["width"], &video["height"]), (&640.into(), &360.into()));
    let audio = &stream["audio"];
    assert_eq!((&audio["codec"], &audio["profile"]), (&"AAC".into(), &"LC".into()));
    assert_eq!((&audio["sample_rate"], &audio["channel"]), (&44_100.into(), &1.into()));
    let details = &stream["details"];
    assert_eq!((&details["viewers"], &details["frame_rate"]), (&2.into(), &30.0.into()));
    assert_eq!(details["timestamps_repaired"], 0, "{details}");
    // Of so few viewers each is on the shard of the stream, wherever it was accepted.
    assert_eq!(details["viewer_shards"], serde_json::json!([details["shard"]]));
    let stream_id = stream["id"].as_str().expect("text");
    let one = payload(server, &format!("/api/v1/streams/{stream_id}"), "stream");
    assert_eq!(one["name"], "cam");

    let clients = payload(server, "/api/v1/clients", "clients");
    let clients = clients.as_array().expect("a list");
    let kinds: Vec<&str> = clients.iter().filter_map(|client| client["type"].as_str()).collect();
    assert_eq!(kinds, ["fmle-publish", "rtmp-play", "flv-play"]);
    for client in clients {
        assert_shape(client, CLIENT);
        assert_eq!(client["stream"], stream_id);
        assert_eq!(client["ip"], "127.0.0.1");
    }
    assert_eq!(clients[0]["id"], stream["publish"]["cid"]);
    assert!(clients[1]["send_bytes"].as_u64() > Some(10_000), "{}", clients[1]);
    let id = clients[1]["id"].as_str().expect("text");
    assert_eq!(payload(server, &format!("/api/v1/clients/{id}"), "client")["type"], "rtmp-play");
    // Rates are those of the last while: some hundred kilobits.
    let kilobits = |value: &Value, key: &str| value["kbps"][key].as_u64().expect("a number");
    assert!((200..20_000).contains(&kilobits(stream, "recv_30s")), "{stream}");
    assert!(kilobits(&clients[1], "send_30s") > 200, "{}", clients[1]);

    for (target, code) in [
        ("/api/v1/vhosts/none", 2014),
        ("/api/v1/streams/vid-0000000", 2048),
        ("/api/v1/clients/999999", 2049),
        ("/api/v1/clients/none", 2049),
    ] {
        let answer = json(server, target);
        assert_shape(&answer, ENVELOPE);
        assert_eq!(answer["code"], code, "{target}");
    }
    audience.server.stop();
    drop(audience.scratch);
}

#[test]
fn lists_come_in_pages() {
    let server = Server::start(&[]);
    let open: Vec<_> = (0..25).map(|_| http::connect(server.rtmp())).collect();
    eventually("all are there", SOON, || {
        let sum: u64 = server.api().snapshot().connections().iter().sum();
        (sum == 25).then_some(())
    });
    let ids = |query: &str| -> Vec<u64> {
        let list = payload(&server, &format!("/api/v1/clients{query}"), "clients");
        let list = list.as_array().expect("a list");
        for client in list {
            assert_shape(client, CLIENT);
            assert_eq!(client["type"], "Unknown");
        }
        list.iter()
            .map(|it| it["id"].as_str().unwrap_or_default().parse().expect("a number"))
            .collect()
    };
    let all = ids("?count=100");
    assert_eq!(all.len(), 25);
    assert!(all.is_sorted());
    assert_eq!(ids(""), all[..10]);
    assert_eq!(ids("?start=10&count=3"), all[10..20], "at least ten");
    assert_eq!(ids("?start=20&count=10"), all[20..]);
    assert!(ids("?start=99").is_empty());
    for wrong in ["?start=-1", "?count=x", "?start=1.5"] {
        let (status, body) = text(&server, &format!("/api/v1/clients{wrong}"));
        assert_eq!(status, 400, "{wrong}");
        assert!(body.contains("whole number"), "{body}");
    }
    drop(open);
    server.stop();
}

#[test]
fn a_kick_ends_an_encoder_and_its_hooks_are_told() {
    let hooks = HookServer::start(|_| Reply::zero());
    let url = hooks.url("/hook");
    let server = Server::start(&[
        ("hooks.dialect", "srs"),
        ("hooks.on_publish", &url),
        ("hooks.on_unpublish", &url),
    ]);
    let mut encoder = publish(&SHORT.file(), &server.rtmp_url("live/cam"), Pace::Endless);
    server.api().wait_for_frames("live/cam", 30, SOON);
    let stream = payload(&server, "/api/v1/streams", "streams")[0].clone();
    let id = stream["publish"]["cid"].as_str().expect("text").to_owned();
    let target = format!("/api/v1/clients/{id}");
    let (status, body) = ask(&server, "DELETE", &target);
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((status, &answer["code"]), (200, &0.into()), "{answer}");
    assert!(!encoder.wait(LIMIT).success(), "the encoder is told that it is cut off");
    server.api().wait_for_no_publisher("live/cam", Duration::from_secs(30));
    let told = eventually("both hooks are called", SOON, || {
        let requests = hooks.requests();
        (requests.len() >= 2).then_some(requests)
    });
    let calls: Vec<String> = told.iter().map(|it| it.call()).collect();
    assert_eq!(calls, ["on_publish", "on_unpublish"]);
    for call in &told {
        assert_eq!(call.json()["client_id"], id.as_str());
        assert_eq!(call.json()["stream_id"], stream["id"], "one id in hooks and in the API");
    }
    assert_eq!(server.api().snapshot().closed("dismissed"), 1);
    let (_, body) = ask(&server, "DELETE", &target);
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(answer["code"], 2049);
    server.stop();
}

#[test]
fn encoders_and_players_are_dropped_and_redirected() {
    let server = Server::start(&[("apps.default.publish.resume", "0s")]);
    let scratch = Scratch::new("control");
    let mut encoder = publish(&SHORT.file(), &server.rtmp_url("live/a"), Pace::Endless);
    server.api().wait_for_frames("live/a", 30, SOON);
    // Both wait for streams that nobody publishes.
    let mut of_b = Player::start(&server.rtmp_url("live/b"), scratch.file("b"));
    let mut of_c = Player::start(&server.rtmp_url("live/c"), scratch.file("c"));
    server.api().wait_for_viewers("live/b", 1, SOON);
    server.api().wait_for_viewers("live/c", 1, SOON);
    let count = |target: &str| text(&server, target);
    let to_b = "app=live&name=a&newname=b";
    assert_eq!(count(&format!("/control/redirect/subscriber?{to_b}")), (200, "0".to_owned()));
    assert_eq!(count(&format!("/control/redirect/publisher?{to_b}")), (200, "1".to_owned()));
    eventually("the player of b sees the encoder of a", LIMIT, || of_b.so_far().map(drop));
    assert!(server.api().snapshot().is_published("live/b"));
    assert!(encoder.is_running());
    let from_c = "/control/redirect/subscriber?app=live&name=c&newname=b";
    assert_eq!(count(from_c), (200, "1".to_owned()));
    eventually("the player of c sees it, too", LIMIT, || of_c.so_far().map(drop));
    server.api().wait_for_viewers("live/b", 2, SOON);

    for (wrong, status) in [
        ("/control/drop/everybody?name=b", 400),
        ("/control/drop/client?srv=1", 400),
        ("/control/drop/client?addr=localhost", 400),
        ("/control/drop/client?clientid=x", 400),
        ("/control/redirect/client?name=b", 400),
        ("/control/record/begin", 400),
        ("/control/other/client", 404),
        ("/control/drop", 404),
    ] {
        let (found, body) = count(wrong);
        assert_eq!(found, status, "{wrong}");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert!(body["error"].as_str().is_some_and(|it| it.len() > 20), "{wrong}: {body}");
    }
    assert_eq!(count("/control/record/start?app=live&name=b&rec=all"), (204, String::new()));
    // Filters that fit nobody.
    for none in ["app=other", "name=a", "addr=192.0.2.1", "clientid=999999"] {
        assert_eq!(count(&format!("/control/drop/client?{none}")), (200, "0".to_owned()), "{none}");
    }
    let drop = "/control/drop/subscriber?app=live&name=b&addr=127.0.0.1";
    assert_eq!(count(drop), (200, "2".to_owned()));
    of_b.process().wait(LIMIT);
    of_c.process().wait(LIMIT);
    assert!(encoder.is_running(), "only subscribers");
    let (status, body) = ask(&server, "POST", "/control/drop/publisher?srv=0&name=b");
    assert_eq!((status, body), (200, b"1".to_vec()));
    encoder.wait(LIMIT);
    server.stop();
}

#[test]
fn what_is_wrong_is_said_in_json_and_secrets_are_not_said() {
    let server = Server::start(&[("api.token", "sesame"), ("api.metrics_listen", "127.0.0.1:0")]);
    let address = server.api().address();
    let token = "Authorization: Bearer sesame";
    let error = |method: &str, target: &str, headers: &[&str]| -> (u16, String) {
        let mut response = http::request(address, method, target, headers);
        assert_eq!(response.header("Content-Type"), Some("application/json"), "{target}");
        let body: Value = serde_json::from_slice(&response.read_to_end()).expect("JSON");
        (response.status, body["error"].as_str().expect("a sentence").to_owned())
    };
    let openapi = fs::read_to_string(openapi_file()).expect("the file is there");
    let openapi: Value = serde_json::from_str(&openapi).expect("JSON");
    for path in openapi["paths"].as_object().expect("paths").keys() {
        let target = path.replace(['{', '}'], "");
        if target == "/health/live" {
            assert_eq!(http::get(address, &target).status, 200);
            continue;
        }
        let (status, text) = error("GET", &target, &[]);
        assert_eq!((status, text.contains("Bearer")), (401, true), "{target}");
        let wrong = error("GET", &target, &["Authorization: Bearer sesamf"]);
        assert_eq!(wrong.0, 401, "{target}");
        // What is described is there, for some method.
        let method = if openapi["paths"][path].get("get").is_some() { "GET" } else { "POST" };
        let mut response = http::request(address, method, &target, &[token]);
        let found = response.status;
        assert!(found != 405 && found < 500, "{method} {target}: {found}");
        if found == 404 {
            // Of some resources there is none with this id.
            let text = String::from_utf8(response.read_to_end()).expect("text");
            assert!(!text.contains("no such resource"), "{target}: {text}");
        }
        let mut refused = http::request(address, "PUT", &target, &[token]);
        assert_eq!(refused.status, 405, "{target}");
        assert!(refused.header("Allow").is_some(), "{target}");
        refused.read_to_end();
    }
    assert_eq!(error("GET", "/api/v1/nothing", &[token]).0, 404);
    let long = format!("Content-Length: {}", 1024 * 1024 + 1);
    assert_eq!(error("POST", "/notify", &[token, &long]).0, 413);
    for coded in ["Transfer-Encoding: chunked", "Transfer-Encoding: gzip"] {
        assert_eq!(error("POST", "/notify", &[token, coded]).0, 411, "{coded}");
    }

    let mut served = http::request(address, "GET", "/api/v1/openapi.json", &[token]);
    let served: Value = serde_json::from_slice(&served.read_to_end()).expect("JSON");
    assert_eq!(served, openapi);
    let mut shown = http::request(address, "GET", "/api/v1/config", &[token]);
    let shown = String::from_utf8(shown.read_to_end()).expect("text");
    assert!(shown.contains(r#""token":"***""#) && !shown.contains("sesame"), "{shown}");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["rtmp"]["chunk_size"], 60_000);
    assert_eq!(shown["server"]["shards"], 2);

    // The listener for metrics has them alone.
    let metrics = server.metrics();
    let mut page = http::get(metrics, "/metrics");
    assert_eq!(page.status, 200);
    let page = String::from_utf8(page.read_to_end()).expect("text");
    assert!(page.contains("shardcast_connections{shard=\"1\"} 0"), "{page}");
    assert_eq!(http::get(metrics, "/health/live").status, 200);
    for other in ["/api/v1/config", "/api/v1/clients", "/health/ready", "/notify/list"] {
        assert_eq!(http::get(metrics, other).status, 404, "{other}");
    }
    server.stop();
}

fn openapi_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/control/resources/openapi.json")
}

/// Elements of an XML document in order, each with the path to it and its text, as Python reads it.
fn elements(xml: &str, scratch: &Scratch) -> Vec<(String, String)> {
    const PROGRAM: &str = "import sys, xml.etree.ElementTree as tree\n\
        def show(element, path):\n\
        \x20   path = path + '/' + element.tag\n\
        \x20   print(path + '\\t' + (element.text or '').strip())\n\
        \x20   for child in element: show(child, path)\n\
        show(tree.parse(sys.argv[1]).getroot(), '')\n";
    let file = scratch.file("stat.xml");
    fs::write(&file, xml).expect("it can be written");
    let mut command = Command::new("python3");
    command.args(["-c", PROGRAM]).arg(&file);
    let lines = Process::run("python3 reads XML", &mut command, LIMIT);
    let split = |line: &str| {
        let (path, text) = line.split_once('\t').expect("a tab");
        (path.to_owned(), text.to_owned())
    };
    lines.lines().map(split).collect()
}

/// The statistics while a publisher and a player are there, and after the player is gone.
fn stat_of(is_nginx: bool) -> [Vec<(String, String)>; 2] {
    with_own_network(|| {
        let scratch = Scratch::new("stat");
        let _server = if is_nginx {
            let configuration = "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
                daemon off; master_process off; pid nginx.pid; error_log stderr warn;\n\
                events {}\n\
                rtmp { server { listen 1935; application myapp { live on; } \
                application other { live on; } } }\n\
                http { access_log off; server { listen 1985; location /stat { rtmp_stat all; } } }\n";
            fs::write(scratch.file("nginx.conf"), configuration).expect("it can be written");
            let mut command = Command::new("/usr/sbin/nginx");
            command.arg("-p").arg(scratch.path()).arg("-c").arg(scratch.file("nginx.conf"));
            Process::spawn("nginx", &mut command)
        } else {
            Process::spawn(
                "shardcast",
                &mut command(&[
                    ("rtmp.listen", "127.0.0.1:1935"),
                    ("api.listen", "127.0.0.1:1985"),
                    ("apps.myapp.publish.resume", "0s"),
                    ("apps.other.publish.resume", "0s"),
                ]),
            )
        };
        let address: SocketAddr = "127.0.0.1:1985".parse().expect("an address");
        eventually("the server listens", SOON, || {
            std::net::TcpStream::connect_timeout(&address, SOON).ok().map(drop)
        });
        let url = "rtmp://127.0.0.1:1935/myapp/my%20stream";
        let _publisher = publish(&MINUTE.file(), url, Pace::RealTime);
        let until = |clients: &str| {
            eventually(&format!("{clients} clients"), LIMIT, || {
                let mut response = http::get(address, "/stat");
                assert_eq!(response.header("Content-Type"), Some("text/xml"));
                let xml = String::from_utf8(response.read_to_end()).expect("text");
                let found = elements(&xml, &scratch);
                let has = |key: &str, value: &str| {
                    found.iter().any(|(path, text)| path.ends_with(key) && text == value)
                };
                // The metadata, and both configurations, have come.
                let is_complete = has("/audio/profile", "LC") && has("/video/profile", "Main");
                (has("/stream/nclients", clients) && is_complete).then_some(found)
            })
        };
        until("1");
        let mut player = Player::start(url, scratch.file("list"));
        eventually("it plays", LIMIT, || player.so_far().map(drop));
        let both = until("2");
        player.process().signal(libc::SIGKILL);
        player.process().wait(LIMIT);
        [both, until("1")]
    })
}

#[test]
fn statistics_are_those_of_nginx_rtmp() {
    // Whether a number is the same is left out where it is a time, a rate or a count of bytes.
    const EQUAL: [&str; 12] = [
        "name",
        "width",
        "height",
        "frame_rate",
        "codec",
        "profile",
        "compat",
        "level",
        "channels",
        "sample_rate",
        "nclients",
        "address",
    ];
    let (theirs, ours) = (stat_of(true), stat_of(false));
    for (theirs, ours) in theirs.iter().zip(&ours) {
        let even = |found: &[(String, String)]| -> Vec<String> {
            let line = |(path, text): &(String, String)| {
                let key = path.rsplit('/').next().unwrap_or_default();
                if EQUAL.contains(&key) { format!("{path} = {text}") } else { path.clone() }
            };
            found.iter().map(line).collect()
        };
        assert_eq!(even(theirs), even(ours));
    }
    assert!(ours[0].len() > 50, "{} elements", ours[0].len());
    println!("{} and {} elements, alike", ours[0].len(), ours[1].len());
}

#[test]
fn requests_made_up_from_the_description_are_answered_as_described() {
    let audience = Audience::start(&[("push.secret", "key")]);
    let server = &audience.server;
    // What closes everybody comes last.
    let drops = "^/control/drop";
    // The feed of events has no end.
    let others = "^/(control/drop|api/v1/events)";
    for (option, paths) in [("--exclude-path-regex", others), ("--include-path-regex", drops)] {
        let output = schemathesis(&audience, &[option, paths]);
        let tail: Vec<&str> = output.lines().rev().take(20).collect();
        println!("{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    // Still the same server, which has closed nobody for a reason of its own.
    assert_eq!(server.api().snapshot().closed("internal"), 0);
    assert_eq!(json(server, "/api/v1/versions")["code"], 0);
}

/// Runs requests that a generator makes up from the description; gives what it says.
fn schemathesis(audience: &Audience, options: &[&str]) -> String {
    let program = downloads().join("schemathesis-4.32.5/bin/schemathesis");
    assert!(program.exists(), "{} is not there: run scripts/test-deps", program.display());
    let mut command = Command::new(program);
    command
        .current_dir(audience.scratch.path())
        .env("HOME", audience.scratch.path())
        .arg("run")
        .arg(openapi_file())
        .arg(format!("--url=http://{}", audience.server.api().address()))
        .args(["--checks", "not_a_server_error,status_code_conformance"])
        .args(["--checks", "content_type_conformance,response_schema_conformance"])
        .args(["--phases=coverage,fuzzing", "--max-examples=4", "--workers=1"])
        .args(["--seed=1", "--no-color", "--request-timeout=10"])
        .args(options);
    let mut process = Process::spawn("schemathesis", &mut command);
    let status = process.wait(Duration::from_secs(90));
    let output = process.stdout();
    assert!(status.success(), "{output}");
    output
}
