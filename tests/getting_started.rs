//! What README.md and docs/ tell a newcomer to type works as it stands.

mod support;

use std::fs;
use std::net::{Ipv6Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use support::process::Process;
use support::scratch::Scratch;
use support::server::{self, Server};
use support::wait::SOON;

const BINARY: &str = env!("CARGO_BIN_EXE_shardcast");
/// The listeners of the default configuration: RTMP, HTTP, API.
const DEFAULT_PORTS: [u16; 3] = [1935, 8080, 1985];

#[test]
fn without_arguments_it_says_where_to_publish_and_play() {
    let free =
        DEFAULT_PORTS.iter().all(|&port| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok());
    let mut command = if free { Command::new(BINARY) } else { server::command(&[]) };
    let mut process = Process::spawn("shardcast", &mut command);
    process.wait_for_line("ready", 2 * SOON, |line| (line == "ready").then_some(()));
    let output = process.stdout();
    for (label, port) in [
        ("publish: rtmp://", 1935),
        ("play (RTMP): rtmp://", 1935),
        ("play (HTTP-FLV): http://", 8080),
        ("API: http://", 1985),
    ] {
        let line = output
            .lines()
            .find(|line| line.starts_with(label))
            .unwrap_or_else(|| panic!("no line '{label}…' in:\n{output}"));
        assert!(!free || line.contains(&format!(":{port}/")), "{line}");
    }
    process.signal(libc::SIGTERM);
    process.expect_success(2 * SOON);
}

#[test]
fn both_usual_signals_end_it_well() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut process = Process::spawn("shardcast", &mut server::command(&[]));
        process.wait_for_line("ready", 2 * SOON, |line| (line == "ready").then_some(()));
        process.signal(signal);
        process.expect_success(2 * SOON);
    }
}

#[test]
fn the_default_configuration_is_complete_and_valid() {
    let printed = Process::run("default-config", Command::new(BINARY).arg("default-config"), SOON);
    for table in ["[server]", "[rtmp]", "[http]", "[api]", "[apps.default.publish]"] {
        assert!(printed.contains(table), "{table} in:\n{printed}");
    }
    let scratch = Scratch::new("default-config");
    let file = scratch.file("shardcast.toml");
    fs::write(&file, &printed).expect("the file can be written");
    Process::run("check", Command::new(BINARY).arg("check").arg(&file), SOON);
    let pipe = format!("{BINARY} default-config | {BINARY} check /dev/stdin");
    Process::run("check", Command::new("bash").args(["-euo", "pipefail", "-c", &pipe]), SOON);
}

#[test]
fn a_wrong_key_is_named_with_its_line() {
    let scratch = Scratch::new("wrong-key");
    let file = scratch.file("shardcast.toml");
    let text = "[rtmp]\nlisten = \"127.0.0.1:0\"\nchunk_sice = 4096\n";
    fs::write(&file, text).expect("the file can be written");
    let mut check = Process::spawn("check", Command::new(BINARY).arg("check").arg(&file));
    let status = check.wait(SOON);
    let said = check.stderr();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("chunk_sice"), "the key: {said}");
    assert!(said.contains("line 3") || said.contains(":3"), "the line: {said}");
}

#[test]
fn a_wrong_override_ends_the_start() {
    for (pair, reason) in [
        (("rtmp.chunk_sice", "1"), "chunk_sice"),
        (("rtmp.chunk_size", "many"), "chunk_size"),
        (("limits.handshake_timeout", "5 parsecs"), "handshake_timeout"),
    ] {
        let mut process = Process::spawn("shardcast", &mut server::command(&[pair]));
        let status = process.wait(SOON);
        let said = process.stderr();
        assert_eq!(status.code(), Some(1), "{pair:?}: {said}");
        assert!(said.contains(reason), "{pair:?}: {said}");
    }
}

#[test]
fn a_port_in_use_ends_the_start_with_its_address() {
    let first = Server::start(&[]);
    let taken = first.rtmp().to_string();
    let overrides = [("rtmp.listen", taken.as_str())];
    let mut second = Process::spawn("shardcast", &mut server::command(&overrides));
    let status = second.wait(Duration::from_secs(20));
    let said = second.stderr();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&taken), "{said}");
    first.stop();
}
