//! A Redis of the test's own.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use super::process::Process;
use super::scratch::Scratch;
use super::wait::{SOON, eventually};

/// A running redis-server on a port of its own; dropped, it is killed.
pub(crate) struct Redis {
    port: u16,
    address: &'static str,
    process: Option<Process>,
    _directory: Scratch,
}

impl Redis {
    /// Starts one that keeps nothing on disk.
    pub(crate) fn start() -> Self {
        Self::start_on("127.0.0.1")
    }

    /// Starts one that listens on this address.
    pub(crate) fn start_on(address: &'static str) -> Self {
        let port = {
            let reserved = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
            reserved.local_addr().expect("it is bound").port()
        };
        let mut redis = Self { port, address, process: None, _directory: Scratch::new("redis") };
        redis.start_again();
        redis
    }

    /// Starts it again on the same port: empty.
    pub(crate) fn start_again(&mut self) {
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &self.port.to_string(), "--bind", self.address])
            .args(["--protected-mode", "no"])
            .args(["--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(self._directory.path());
        self.process = Some(Process::spawn("redis-server", &mut command));
        eventually("Redis answers", SOON, || {
            let output = self.cli(&["PING"]);
            (output == "PONG").then_some(())
        });
    }

    /// Ends it; what it had is gone.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(libc::SIGTERM);
            process.wait(Duration::from_secs(10));
        }
    }

    /// Stops it where it is: it answers nobody, and keeps its connections.
    pub(crate) fn freeze(&self) {
        self.process.as_ref().expect("it runs").signal(libc::SIGSTOP);
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(libc::SIGKILL);
            process.wait(Duration::from_secs(10));
        }
    }

    /// Its port on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its address for `signalling.store`.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What a command prints.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(arguments)
            .output()
            .expect("redis-cli is there: run scripts/test-deps");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Keys that match.
    pub(crate) fn keys(&self, pattern: &str) -> Vec<String> {
        self.cli(&["KEYS", pattern]).lines().map(str::to_owned).collect()
    }

    /// The sum of all hashes of numbers whose keys match.
    pub(crate) fn histogram(&self, pattern: &str) -> BTreeMap<u64, u64> {
        let mut sums = BTreeMap::new();
        for key in self.keys(pattern) {
            let lines = self.cli(&["HGETALL", &key]);
            let numbers: Vec<u64> =
                lines.lines().map(|line| line.parse().expect("a number")).collect();
            for pair in numbers.chunks(2) {
                *sums.entry(pair[0]).or_default() += pair[1];
            }
        }
        sums
    }
}
