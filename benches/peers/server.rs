//! The programs under measurement, each as a process of its own on CPU 0.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::loadgen::scratch;
use super::pin::pin;

/// CPU of the server, and of loadgen.
pub(crate) const SERVER_CPU: usize = 0;
pub(crate) const LOAD_CPU: usize = 1;

const START_TIME_MAX: Duration = Duration::from_secs(10);

/// A build of this server.
#[derive(Clone)]
pub(crate) struct Build {
    pub(crate) label: String,
    pub(crate) path: PathBuf,
}

/// What to measure.
#[derive(Clone)]
pub(crate) enum Variant {
    /// So many workers, chunk size 60,000.
    Nginx { workers: usize },
    /// So many shards.
    Shardcast { build: Build, preset: Preset, shards: usize },
    /// One worker thread per CPU that it may use.
    Xiu(PathBuf),
    /// The bare sender.
    Floor(Pace),
}

/// How long our server holds media back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preset {
    Realtime,
    Balanced,
    /// 100 ms for both tracks.
    Held,
    Throughput,
}

/// When the bare sender sends.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// Every message at once.
    Message,
    /// Video at once, audio with it or after 20 ms.
    Realtime,
    /// Every 40 ms.
    Balanced,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nginx { workers: 1 } => write!(f, "nginx-rtmp"),
            Self::Nginx { workers } => write!(f, "nginx-rtmp, {workers} workers"),
            Self::Shardcast { build, preset, shards: 1 } => {
                write!(f, "{} {}", build.label, preset.name())
            }
            Self::Shardcast { build, preset, shards } => {
                write!(f, "{} {}, {shards} shards", build.label, preset.name())
            }
            Self::Xiu(_) => write!(f, "xiu"),
            Self::Floor(pace) => write!(f, "floor: {}", pace.name()),
        }
    }
}

impl Variant {
    /// Threads that carry media. With one, the server has a CPU and loadgen the other.
    pub(crate) fn threads(&self) -> usize {
        match self {
            Self::Nginx { workers: threads } | Self::Shardcast { shards: threads, .. } => *threads,
            Self::Xiu(_) | Self::Floor(_) => 1,
        }
    }
}

impl Preset {
    const fn name(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Balanced => "balanced",
            Self::Held => "held 100 ms",
            Self::Throughput => "throughput",
        }
    }

    /// The server's setting for it.
    const fn setting(self) -> &'static str {
        match self {
            Self::Realtime => "apps.default.latency=realtime",
            Self::Balanced => "apps.default.latency=balanced",
            Self::Held => "apps.default.hold={ video = \"100ms\", audio = \"100ms\" }",
            Self::Throughput => "apps.default.latency=throughput",
        }
    }
}

impl Pace {
    /// How long video waits before it is sent.
    pub(crate) const fn video_hold(self) -> Duration {
        match self {
            Self::Message | Self::Realtime => Duration::ZERO,
            Self::Balanced => Duration::from_millis(40),
        }
    }

    /// How long audio waits, if no video takes it along.
    pub(crate) const fn audio_hold(self) -> Duration {
        match self {
            Self::Message => Duration::ZERO,
            Self::Realtime => Duration::from_millis(20),
            Self::Balanced => Duration::from_millis(40),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Message => "each message",
            Self::Realtime => "realtime",
            Self::Balanced => "40 ms",
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        [Self::Message, Self::Realtime, Self::Balanced]
            .into_iter()
            .find(|pace| pace.name() == name)
            .expect("a pace")
    }
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    pub(crate) rtmp_port: u16,
    pub(crate) http_port: u16,
    api_port: u16,
    has_api: bool,
}

/// Sends and bytes that the server itself counted.
#[derive(Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Sends {
    pub(crate) sends: u64,
    pub(crate) bytes: u64,
}

impl Sends {
    pub(crate) fn since(self, before: Self) -> Self {
        Self { sends: self.sends - before.sends, bytes: self.bytes - before.bytes }
    }
}

impl Server {
    /// Starts it and waits until it accepts connections. It sends every stream on to the target.
    pub(crate) fn start(variant: &Variant, target: Option<&Self>) -> Self {
        let cpu = (variant.threads() == 1).then_some(SERVER_CPU);
        Self::start_on(variant, target.map(|target| target.rtmp_port), cpu)
    }

    /// Starts one that others send streams on to, beside the load.
    pub(crate) fn start_target(variant: &Variant) -> Self {
        Self::start_on(variant, None, Some(LOAD_CPU))
    }

    fn start_on(variant: &Variant, push_to: Option<u16>, cpu: Option<usize>) -> Self {
        let [rtmp_port, http_port, api_port] = free_ports();
        let mut command = match variant {
            Variant::Nginx { workers } => nginx(rtmp_port, *workers, push_to),
            Variant::Shardcast { build, preset, shards } => {
                let mut command = Command::new(&build.path);
                for setting in [
                    format!("rtmp.listen=127.0.0.1:{rtmp_port}"),
                    format!("http.listen=127.0.0.1:{http_port}"),
                    format!("api.listen=127.0.0.1:{api_port}"),
                    preset.setting().to_owned(),
                    format!("server.shards={shards}"),
                    "server.egress=ring".to_owned(),
                    "log.level=warn".to_owned(),
                ] {
                    command.arg("--set").arg(setting);
                }
                if let Some(port) = push_to {
                    let rule = format!("[{{ url = \"rtmp://127.0.0.1:{port}/live\" }}]");
                    command.arg("--set").arg(format!("apps.live.push={rule}"));
                }
                command
            }
            Variant::Xiu(path) => xiu(path, rtmp_port),
            Variant::Floor(pace) => {
                let mut command = Command::new(std::env::current_exe().expect("a path"));
                command.arg("floor").arg(format!("{rtmp_port} {api_port} {}", pace.name()));
                command
            }
        };
        if let Some(cpu) = cpu {
            pin(&mut command, cpu);
        }
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the server starts");
        let has_api = matches!(variant, Variant::Shardcast { .. } | Variant::Floor(_));
        let mut server = Self { child, rtmp_port, http_port, api_port, has_api };
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", rtmp_port)).is_err() {
            assert!(begin.elapsed() < START_TIME_MAX, "{variant} does not accept connections");
            assert!(server.child.try_wait().expect("a child").is_none(), "{variant} has ended");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What this server counted; nothing of others.
    pub(crate) fn sends(&self) -> Option<Sends> {
        if !self.has_api {
            return None;
        }
        let mut stream = TcpStream::connect(("127.0.0.1", self.api_port)).ok()?;
        stream.write_all(b"GET /api/v1/shards HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let report: serde_json::Value =
            serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        let mut total = Sends::default();
        sum(&report, &mut total);
        Some(total)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // nginx's master ends its worker on SIGTERM.
        // SAFETY: a signal to our own child, which has not been waited for.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let begin = Instant::now();
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            if begin.elapsed() > Duration::from_millis(1500) {
                _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn nginx(rtmp_port: u16, workers: usize, push_to: Option<u16>) -> Command {
    let prefix = scratch(&format!("nginx-{rtmp_port}"));
    let push = push_to.map_or(String::new(), |port| format!("push rtmp://127.0.0.1:{port}/live;"));
    fs::create_dir_all(prefix.join("logs")).expect("the prefix can be made");
    // Else the viewers of one worker see nothing of a stream that another one has.
    let auto_push = if workers > 1 { "rtmp_auto_push on;" } else { "" };
    let configuration = format!(
        "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
daemon off;
worker_processes {workers};
{auto_push}
worker_rlimit_nofile 20000;
pid nginx.pid;
error_log logs/error.log error;
events {{ worker_connections 19000; }}
rtmp {{
    access_log off;
    server {{
        listen 127.0.0.1:{rtmp_port};
        chunk_size 60000;
        application live {{ live on; {push} }}
    }}
}}
"
    );
    fs::write(prefix.join("nginx.conf"), configuration).expect("the configuration can be written");
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(&prefix).arg("-c").arg(prefix.join("nginx.conf"));
    command.arg("-e").arg(prefix.join("logs/error.log"));
    command
}

/// With a group of pictures for whoever comes, as nobody would be without.
fn xiu(path: &Path, rtmp_port: u16) -> Command {
    let file = scratch(&format!("xiu-{rtmp_port}.toml"));
    let configuration = format!(
        "[rtmp]
enabled = true
port = {rtmp_port}
gop_num = 1
[authsecret]
key = \"\"
password = \"\"
[log]
level = \"error\"
"
    );
    fs::write(&file, configuration).expect("the configuration can be written");
    let mut command = Command::new(path);
    command.arg("--config").arg(file);
    command
}

fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}

/// Adds up the egress counters wherever shards stand in the report.
fn sum(value: &serde_json::Value, total: &mut Sends) {
    match value {
        serde_json::Value::Object(map) => {
            let number = |key: &str| map.get(key).and_then(serde_json::Value::as_u64);
            if let (Some(sends), Some(bytes)) = (number("sends"), number("send_bytes")) {
                total.sends += sends;
                total.bytes += bytes;
            }
            map.values().for_each(|value| sum(value, total));
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| sum(value, total)),
        _ => {}
    }
}
