//! Hooks per second through the control shard, beside what a plain HTTP load tool (wrk) gets out of the
//! same back end (`loadgen hooks`) over kept connections, and the control thread's CPU time per hook.
//!
//! `make bench-hooks`, or `cargo bench --bench hooks -- [--quick]` after
//! `cargo build --release --workspace`. It ends with 1 when a threshold is missed.
//!
//! Each round runs every row once, with a back end and a server of its own, so that what else the machine
//! does hits all alike. The back end has CPU 1; who asks it has CPU 0: wrk alone, or the server together
//! with the wrk that makes it ask. That wrk gets a stream that does not exist over HTTP-FLV: a question
//! with its on_play, and a short answer.
//!
//! In the rows with a list of hooks the questions themselves cost next to nothing, so they show what the
//! dispatcher does. In the row with one hook per question, the question (a media shard's turn, the mesh,
//! the registry, the session's events, the answer) is most of what CPU 0 does.

#[path = "peers/pin.rs"]
mod pin;
#[expect(dead_code, reason = "the peers' bench also compares")]
#[path = "peers/statistics.rs"]
mod statistics;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use statistics::Quartiles;

/// CPU of who asks, and of the back end.
const ASKER_CPU: usize = 0;
const SINK_CPU: usize = 1;
/// What wrk posts: the fields and the size of an on_play.
const EVENT: &str = r#"{"server_id":"vid-1234567","service_id":"abcdefgh","action":"on_play","client_id":"1985","ip":"127.0.0.1","vhost":"__defaultVhost__","app":"live","stream":"none","tcUrl":"http://127.0.0.1:18080/live","param":"","pageUrl":"","stream_url":"live/none","stream_id":"vid-a1b2c3d"}"#;
/// At least this part of wrk's rate, over kept connections.
const RATE_SHARE_MIN: f64 = 0.5;
/// At most so much of the control thread per hook.
const HOOK_CPU_US_MAX: f64 = 60.0;
const START_TIME_MAX: Duration = Duration::from_secs(10);

/// A way to ask the back end.
#[derive(Clone, Copy)]
struct Row {
    title: &'static str,
    /// Hooks of one question; none: wrk asks the back end itself.
    hooks: Option<usize>,
    /// wrk's connections.
    connections: usize,
    /// Whether the thresholds hold for it.
    is_judged: bool,
}

/// As many connections as the server has calls under way at most. Questions that wait for a media
/// shard's next turn need more of them.
const ROWS: [Row; 3] = [
    Row { title: "wrk", hooks: None, connections: 128, is_judged: false },
    Row { title: "16 hooks per question", hooks: Some(16), connections: 128, is_judged: true },
    Row { title: "1 hook per question", hooks: Some(1), connections: 1024, is_judged: false },
];

/// One run of a row.
struct Run {
    hooks_per_s: f64,
    /// Of the control thread and of the media shard's.
    cpu_us: [f64; 2],
}

fn main() -> ExitCode {
    let mut timing = (9, Duration::from_secs(5));
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--bench" => {}
            "--quick" => timing = (3, Duration::from_secs(3)),
            other => panic!("unknown option {other}"),
        }
    }
    let (rounds, window) = timing;
    let mut runs: [Vec<Run>; ROWS.len()] = Default::default();
    for _ in 0..rounds {
        for (row, runs) in ROWS.iter().zip(&mut runs) {
            runs.push(row.run(window));
        }
    }
    let of = |runs: &[Run], pick: &dyn Fn(&Run) -> f64| Quartiles::of(runs.iter().map(pick));
    println!("\n{rounds} rounds of {} s, medians [quartiles]\n", window.as_secs());
    println!("| | hooks per s | of wrk's | µs of the control thread | µs of the media shard |");
    println!("|---|---|---|---|---|");
    let mut holds = true;
    for (row, own) in ROWS.iter().zip(&runs) {
        let rate = of(own, &|run| run.hooks_per_s).text(0, 1.0);
        if row.hooks.is_none() {
            println!("| {} | {rate} | 1 | | |", row.title);
            continue;
        }
        let shares = own.iter().zip(&runs[0]).map(|(own, wrk)| own.hooks_per_s / wrk.hooks_per_s);
        let share = Quartiles::of(shares);
        let [control, shard] = [0, 1].map(|thread| of(own, &|run| run.cpu_us[thread]));
        println!(
            "| {} | {rate} | {} | {} | {} |",
            row.title,
            share.text(2, 1.0),
            control.text(1, 1.0),
            shard.text(1, 1.0)
        );
        holds &= control.median <= HOOK_CPU_US_MAX;
        holds &= !row.is_judged || share.median >= RATE_SHARE_MIN;
    }
    let verdict = if holds { "holds" } else { "is missed" };
    println!(
        "\nAt least {RATE_SHARE_MIN} of wrk's rate (16 hooks per question), and at most \
         {HOOK_CPU_US_MAX} µs of the control thread per hook: {verdict}."
    );
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Row {
    fn run(self, window: Duration) -> Run {
        let (_sink, sink_url) = sink();
        let Some(hooks) = self.hooks else {
            let script = scratch("event.lua");
            let text = format!(
                "wrk.method=\"POST\"\nwrk.headers[\"Content-Type\"]=\"application/json\"\n\
                 wrk.body='{EVENT}'\n"
            );
            fs::write(&script, text).expect("the script can be written");
            let hooks_per_s = wrk(&sink_url, self.connections, window, Some(&script));
            return Run { hooks_per_s, cpu_us: [0.0; 2] };
        };
        let server = Server::start(&sink_url, hooks);
        let [http, _] = server.ports;
        let before = server.cpu_us();
        let begin = Instant::now();
        let url = format!("http://127.0.0.1:{http}/live/none.flv");
        wrk(&url, self.connections, window, None);
        let seconds = begin.elapsed().as_secs_f64();
        let after = server.cpu_us();
        let calls = server.calls() as f64;
        Run {
            hooks_per_s: calls / seconds,
            cpu_us: [0, 1].map(|thread| (after[thread] - before[thread]) / calls),
        }
    }
}

/// A child process that ends with its owner.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // Without a goodbye: nothing of it is needed any more.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Server {
    process: Program,
    /// HTTP and API.
    ports: [u16; 2],
}

impl Server {
    fn start(sink_url: &str, hooks: usize) -> Self {
        let ports = free_ports();
        let [http, api] = ports;
        let list = vec![format!("\"{sink_url}\""); hooks].join(", ");
        let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
        for setting in [
            "rtmp.listen=[]".to_owned(),
            format!("http.listen=127.0.0.1:{http}"),
            format!("api.listen=127.0.0.1:{api}"),
            "server.shards=1".to_owned(),
            "log.level=warn".to_owned(),
            "hooks.dialect=srs".to_owned(),
            format!("hooks.on_play=[{list}]"),
        ] {
            command.arg("--set").arg(setting);
        }
        let process = start(command.stdout(Stdio::null()), ASKER_CPU);
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", http)).is_err() {
            assert!(begin.elapsed() < START_TIME_MAX, "the server does not accept connections");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, ports }
    }

    /// CPU time so far of the threads `control` and `shard-0`, in microseconds.
    fn cpu_us(&self) -> [f64; 2] {
        let mut total = [0.0; 2];
        let tasks = format!("/proc/{}/task", self.process.0.id());
        for task in fs::read_dir(tasks).expect("it runs").flatten() {
            let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
            let thread = match read("comm").trim_end() {
                "control" => 0,
                "shard-0" => 1,
                _ => continue,
            };
            let nanos = read("schedstat").split(' ').next().and_then(|text| text.parse().ok());
            total[thread] += nanos.unwrap_or(0.0) / 1_000.0;
        }
        total
    }

    /// Hooks that were called so far; all must have been answered.
    fn calls(&self) -> u64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports[1])).expect("the API listens");
        let request = b"GET /api/v1/hooks HTTP/1.0\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).expect("the API reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the API answers");
        let (_, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let report: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let hook = &report["hooks"][0];
        assert_eq!(hook["calls"], hook["accepted"], "hooks have failed: {hook}");
        hook["calls"].as_u64().expect("a number")
    }
}

/// The back end, and its URL.
fn sink() -> (Program, String) {
    let mut command = Command::new(loadgen());
    command.args(["hooks", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
    let mut sink = start(&mut command, SINK_CPU);
    let said = sink.0.stdout.take().expect("it is piped");
    let mut line = String::new();
    BufReader::new(said).read_line(&mut line).expect("loadgen says where it listens");
    let at = line.find("http://").unwrap_or_else(|| panic!("loadgen hooks said {line:?}"));
    (sink, line[at..].trim_end().to_owned())
}

/// Requests per second.
fn wrk(url: &str, connections: usize, window: Duration, script: Option<&Path>) -> f64 {
    let mut command = Command::new("wrk");
    command.args(["-t1", &format!("-c{connections}"), &format!("-d{}s", window.as_secs())]);
    if let Some(script) = script {
        command.arg("-s").arg(script);
    }
    pin::pin(command.arg(url), ASKER_CPU);
    let output = command.output().expect("wrk is installed: scripts/test-deps wrk");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    rate.and_then(|rate| rate.trim().parse().ok()).unwrap_or_else(|| panic!("wrk said {text}"))
}

fn start(command: &mut Command, cpu: usize) -> Program {
    pin::pin(command.stdin(Stdio::null()), cpu);
    let program = command.get_program().to_string_lossy().into_owned();
    Program(command.spawn().unwrap_or_else(|error| panic!("{program} does not start: {error}")))
}

/// Built by `cargo build --release --workspace`, next to the server.
fn loadgen() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_shardcast")).with_file_name("loadgen");
    assert!(path.exists(), "{} is not there: cargo build --release --workspace", path.display());
    path
}

fn scratch(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hooks");
    fs::create_dir_all(&directory).expect("the directory can be made");
    directory.join(name)
}

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}
