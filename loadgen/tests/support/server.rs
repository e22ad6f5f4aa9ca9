//! The server of this repository.
//!
//! `SHARDCAST` may name its program; else the one beside loadgen's is taken.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use super::priority::go_first;

/// A running server; dropped, it is killed.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// `HOST:PORT` for RTMP.
    pub rtmp: String,
    /// `HOST:PORT` for HTTP-FLV.
    pub http: String,
    /// `HOST:PORT` of the API.
    pub api: String,
}

impl Server {
    /// Starts it with two shards, and further settings of the form `key=value`.
    pub fn start(settings: &[&str]) -> Self {
        Self::start_as(Command::new(program()), settings)
    }

    /// The same before everything else that the machine does.
    pub fn start_first(settings: &[&str]) -> Self {
        Self::start_as(go_first(&program()), settings)
    }

    fn start_as(mut command: Command, settings: &[&str]) -> Self {
        for setting in settings {
            command.args(["--set", setting]);
        }
        for listener in ["rtmp.listen", "http.listen", "api.listen"] {
            command.arg("--set").arg(format!("{listener}=127.0.0.1:0"));
        }
        let mut child = command
            .args(["--set", "server.shards=2", "--set", "server.accept=round_robin"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
        let (mut rtmp, mut http, mut api) = (String::new(), String::new(), String::new());
        loop {
            let mut line = String::new();
            let count = lines.read_line(&mut line).expect("the server writes text");
            assert!(count > 0, "the server ended before it was ready");
            let address = |scheme| {
                line.split_once(scheme)
                    .and_then(|(_, rest)| rest.split('/').next())
                    .map(str::to_owned)
            };
            if line.starts_with("publish:") {
                rtmp = address("rtmp://").expect("the line has an address");
            } else if line.starts_with("play (HTTP-FLV):") {
                http = address("http://").expect("the line has an address");
            } else if line.starts_with("API:") {
                api = address("http://").expect("the line has an address");
            } else if line.trim() == "ready" {
                break;
            }
        }
        // The pipe must not fill.
        thread::spawn(move || lines.read_to_end(&mut Vec::new()));
        Self { child, rtmp, http, api }
    }

    /// Its resident memory, bytes.
    pub fn resident_bytes(&self) -> f64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.expect("a running process has a VmRSS") * 1024.0
    }

    /// Its process, for `--pid`.
    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then the test has failed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_loadgen")).with_file_name("shardcast");
    let program = std::env::var_os("SHARDCAST").map_or(beside, PathBuf::from);
    assert!(
        program.exists(),
        "{} is not there: run cargo build --workspace --bins first",
        program.display()
    );
    program
}
