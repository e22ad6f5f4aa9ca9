//! `/metrics` as Prometheus reads it, and the dashboard that is made of it.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::downloads::downloads;
use support::ffmpeg::{Pace, Player, publish};
use support::hook_server::{HookServer, Reply};
use support::http;
use support::media::MINUTE;
use support::process::Process;
use support::scratch::Scratch;
use support::server::Server;
use support::wait::eventually;

const LIMIT: Duration = Duration::from_secs(30);

fn tool(name: &str) -> Command {
    let program = downloads().join("prometheus/usr/bin").join(name);
    assert!(program.exists(), "{} is not there: run scripts/test-deps", program.display());
    Command::new(program)
}

fn text(address: SocketAddr, target: &str) -> String {
    let mut response = http::get(address, target);
    assert_eq!(response.status, 200, "{target}");
    String::from_utf8(response.read_to_end()).expect("text")
}

/// What Prometheus answers; curl understands its chunks.
fn ask(address: SocketAddr, target: &str) -> Value {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--globoff"]);
    command.arg(format!("http://{address}{target}"));
    let text = Process::run("curl", &mut command, LIMIT);
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(answer["status"], "success", "{target}: {answer}");
    answer["data"].clone()
}

/// For a query string.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The expressions of every panel of the dashboard.
fn expressions() -> BTreeSet<String> {
    fn collect(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(text)) = map.get("expr") {
                    found.insert(text.clone());
                }
                map.values().for_each(|value| collect(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/grafana/shardcast.json");
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(file).expect("it is there")).expect("JSON");
    let mut found = BTreeSet::new();
    collect(&dashboard, &mut found);
    found
}

/// Words of an expression, or of a page, that are names of metrics.
fn names(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| {
            ["shardcast_", "process_", "palava_"].iter().any(|start| word.starts_with(start))
        })
        .map(str::to_owned)
        .collect()
}

/// A server that is in use: hooks, a publisher, players over RTMP and HTTP.
struct Scene {
    server: Server,
    _scratch: Scratch,
    _publisher: Process,
    _players: [Player; 2],
}

impl Scene {
    fn start() -> Self {
        let hooks = HookServer::start(|_| Reply::ok());
        let url = hooks.url("/hook");
        let server = Server::start(&[
            ("api.metrics_listen", "127.0.0.1:0"),
            ("api.token", "sesame"),
            ("hooks.on_publish", &url),
        ]);
        let scratch = Scratch::new("metrics");
        let publisher = publish(&MINUTE.file(), &server.rtmp_url("live/cam"), Pace::RealTime);
        hooks.wait_for("publish", 1);
        let players = [
            Player::start(&server.rtmp_url("live/cam"), scratch.file("rtmp")),
            // Over HTTP nobody waits for a publisher.
            eventually("a player over HTTP", LIMIT, || {
                let status = http::request(server.http(), "HEAD", "/live/cam.flv", &[]).status;
                (status == 200)
                    .then(|| Player::start(&server.flv_url("live/cam"), scratch.file("flv")))
            }),
        ];
        eventually("both play", LIMIT, || {
            players.iter().all(|player| player.so_far().is_some()).then_some(())
        });
        Self { server, _scratch: scratch, _publisher: publisher, _players: players }
    }
}

#[test]
fn promtool_finds_nothing_to_say_and_the_numbers_are_right() {
    let scene = Scene::start();
    let page = text(scene.server.metrics(), "/metrics");
    let scratch = Scratch::new("promtool");
    let file = scratch.file("page");
    // Names that end otherwise than promtool likes are signaltower's.
    let is_own = |line: &&str| !line.contains("palava_");
    let own: Vec<&str> = page.lines().filter(is_own).collect();
    fs::write(&file, own.join("\n") + "\n").expect("it can be written");
    let mut check = Command::new("sh");
    let promtool = tool("promtool").get_program().to_owned();
    check.args(["-c", "exec \"$0\" check metrics < \"$1\""]).arg(promtool).arg(&file);
    let mut check = Process::spawn("promtool", &mut check);
    check.expect_success(LIMIT);
    assert_eq!((check.stdout(), check.stderr()), (String::new(), String::new()));

    let value = |name: &str| -> f64 {
        let samples = page.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let mut sum = None;
        for sample in samples {
            let value = sample.rsplit(' ').next().and_then(|it| it.parse::<f64>().ok());
            *sum.get_or_insert(0.0) += value.expect("a number");
        }
        sum.unwrap_or_else(|| panic!("no {name} in {page}"))
    };
    assert_eq!(value("shardcast_publishers"), 1.0);
    assert_eq!(value("shardcast_viewers"), 2.0);
    assert_eq!(value("shardcast_connections"), 3.0);
    assert_eq!(value("shardcast_streams{state=\"published\"}"), 1.0);
    assert_eq!(value("shardcast_shards_reporting"), 2.0);
    assert_eq!(value("shardcast_hook_duration_seconds_count{event=\"on_publish\"}"), 1.0);
    assert!(value("shardcast_received_bytes_total") > 10_000.0);
    let (sent, sends) = (value("shardcast_sent_bytes_total"), value("shardcast_sends_total"));
    assert!(sent > 10_000.0 && sends > 10.0, "{sent} {sends}");
    // Every send has an age, but for those of commands alone.
    let ages = value("shardcast_frame_age_seconds_count");
    assert!(ages > 0.5 * sends && ages <= sends, "{ages} ages of {sends} sends");
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds") > 10.0);
    let lines = page.lines().filter(|line| !line.starts_with('#')).count();
    println!("{lines} samples, {} bytes", page.len());
}

#[test]
fn prometheus_scrapes_it_and_knows_every_metric_of_the_dashboard() {
    let scene = Scene::start();
    let scratch = Scratch::new("prometheus");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let config = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n\
         - job_name: open\n  static_configs: [{{ targets: ['{}'] }}]\n\
         - job_name: token\n  authorization: {{ credentials: sesame }}\n\
         \x20 static_configs: [{{ targets: ['{}'] }}]\n",
        scene.server.metrics(),
        scene.server.api().address()
    );
    fs::write(scratch.file("prometheus.yml"), config).expect("it can be written");
    let mut command = tool("prometheus");
    command
        .arg(format!("--config.file={}", scratch.file("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", scratch.file("data").display()))
        .arg(format!("--web.listen-address={port}"));
    let prometheus = Process::spawn("prometheus", &mut command);
    // Until it listens, and has read what it is to do.
    eventually("Prometheus is ready", LIMIT, || {
        std::net::TcpStream::connect(port).ok()?;
        (http::get(port, "/-/ready").status == 200).then_some(())
    });
    let up = |job: &str| -> bool {
        let query = encoded(&format!("count_over_time(up{{job=\"{job}\"}}[30s])"));
        let found = ask(port, &format!("/api/v1/query?query={query}"));
        let value = found["result"][0]["value"][1].as_str().and_then(|it| it.parse().ok());
        value.is_some_and(|count: f64| count >= 5.0)
    };
    eventually("five scrapes of each", LIMIT, || (up("open") && up("token")).then_some(()));
    let targets = ask(port, "/api/v1/targets");
    for target in targets["activeTargets"].as_array().expect("a list") {
        assert_eq!(
            (&target["health"], &target["lastError"]),
            (&"up".into(), &"".into()),
            "{target}"
        );
    }
    let never_down =
        ask(port, &format!("/api/v1/query?query={}", encoded("min_over_time(up[30s])")));
    for series in never_down["result"].as_array().expect("a list") {
        assert_eq!(series["value"][1], "1", "{series}");
    }
    let known = ask(port, "/api/v1/label/__name__/values");
    let known: BTreeSet<&str> =
        known.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let expressions = expressions();
    assert!(expressions.len() >= 15, "{} expressions", expressions.len());
    let mut with_data = 0;
    for expression in &expressions {
        for name in names(expression) {
            assert!(known.contains(name.as_str()), "{name} of {expression:?} is not scraped");
        }
        let plain = expression.replace("$__rate_interval", "10s").replace("$job", ".*");
        let found = ask(port, &format!("/api/v1/query?query={}", encoded(&plain)));
        with_data += usize::from(found["result"].as_array().is_some_and(|it| !it.is_empty()));
    }
    assert_eq!(with_data, expressions.len(), "every panel shows something");
    let ours = known.iter().filter(|name| name.starts_with("shardcast_")).count();
    println!("{ours} names, {} expressions", expressions.len());
    drop(prometheus);
}

/// docs/metrics.md names what there is, and nothing else.
#[test]
fn the_page_about_metrics_names_them_all() {
    let scene = Scene::start();
    let page = text(scene.server.metrics(), "/metrics");
    let served: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned))
        .collect();
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let document = fs::read_to_string(document).expect("it is there");
    let rows: BTreeSet<String> = document
        .lines()
        .filter(|line| line.starts_with("| `"))
        .flat_map(|line| names(line.split('|').nth(1).unwrap_or_default()))
        .collect();
    assert_eq!(rows, served);
    let further: BTreeSet<String> = names(&document).difference(&served).cloned().collect();
    let suffixes = ["_bucket", "_sum", "_count"];
    let strange: Vec<&String> = further
        .iter()
        .filter(|name| {
            !suffixes.iter().any(|it| name.strip_suffix(it).is_some_and(|it| served.contains(it)))
        })
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
}
