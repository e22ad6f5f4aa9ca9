//! A shardcast process of the test's own, on ports that the kernel chose.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use super::api::Api;
use super::process::Process;

/// How long a start may take on a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long an end by signal may take: `server.drain` and a little more.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Overrides that put every listener on a free port of loopback.
pub(crate) const FREE_PORTS: [(&str, &str); 3] =
    [("rtmp.listen", "127.0.0.1:0"), ("http.listen", "127.0.0.1:0"), ("api.listen", "127.0.0.1:0")];

/// A running server; dropped, it is killed.
pub(crate) struct Server {
    process: Process,
    rtmp: SocketAddr,
    http: SocketAddr,
    api: Api,
    metrics: Option<SocketAddr>,
}

/// The server's command line with free ports and these overrides (`key`, `value`).
pub(crate) fn command(overrides: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    for (key, value) in FREE_PORTS.iter().chain(overrides) {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    command
}

impl Server {
    /// Starts a server with two shards that take connections in turn, and waits for `ready`.
    pub(crate) fn start(overrides: &[(&str, &str)]) -> Self {
        let mut all = vec![("server.shards", "2"), ("server.accept", "round_robin")];
        all.extend_from_slice(overrides);
        Self::adopt(Process::spawn("shardcast", &mut command(&all)))
    }

    /// Takes a process that was just started, and waits for `ready`.
    pub(crate) fn adopt(mut process: Process) -> Self {
        process.wait_for_line("ready", START_LIMIT, |line| (line == "ready").then_some(()));
        let output = process.stdout();
        let address = |label: &str, scheme: &str| {
            listener(&output, label, scheme)
                .unwrap_or_else(|| panic!("no line '{label} {scheme}…' in:\n{output}"))
        };
        let rtmp = address("publish:", "rtmp://");
        let http = address("play (HTTP-FLV):", "http://");
        let api = Api::new(address("API:", "http://"));
        let metrics = listener(&output, "metrics:", "http://");
        Self { process, rtmp, http, api, metrics }
    }

    /// Where publishers and RTMP players connect.
    pub(crate) fn rtmp(&self) -> SocketAddr {
        self.rtmp
    }

    /// Where HTTP players connect.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// The address in the line of standard output that begins with `label`.
    pub(crate) fn address(&self, label: &str, scheme: &str) -> SocketAddr {
        let output = self.process.stdout();
        listener(&output, label, scheme)
            .unwrap_or_else(|| panic!("no line '{label} {scheme}…' in:\n{output}"))
    }

    /// A client of the API.
    pub(crate) fn api(&self) -> Api {
        self.api
    }

    /// Where metrics alone are served; `api.metrics_listen` has to be set.
    pub(crate) fn metrics(&self) -> SocketAddr {
        self.metrics.expect("a line about metrics")
    }

    /// The RTMP address of `stream` (`app/name`).
    pub(crate) fn rtmp_url(&self, stream: &str) -> String {
        format!("rtmp://{}/{stream}", self.rtmp)
    }

    /// The HTTP-FLV address of `stream`.
    pub(crate) fn flv_url(&self, stream: &str) -> String {
        format!("http://{}/{stream}.flv", self.http)
    }

    /// The process.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// The process alone, to see it end in another way than by [`Server::stop`].
    pub(crate) fn into_process(self) -> Process {
        self.process
    }

    /// Ends the server with SIGTERM and expects exit code 0.
    pub(crate) fn stop(mut self) {
        self.process.signal(libc::SIGTERM);
        self.process.expect_success(STOP_LIMIT);
    }
}

/// The address in a line such as `publish: rtmp://127.0.0.1:1935/live/STREAM`.
fn listener(output: &str, label: &str, scheme: &str) -> Option<SocketAddr> {
    output.lines().find_map(|line| {
        let rest = line.strip_prefix(label)?.trim_start().strip_prefix(scheme)?;
        let authority = rest.split('/').next()?;
        authority.replace("localhost", "127.0.0.1").parse().ok()
    })
}
