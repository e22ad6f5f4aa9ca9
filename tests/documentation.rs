//! Every `sh` block of README.md, tuning.md and docs/ is run here, or says why not.
//!
//! The words behind `sh` say how:
//!
//! - `test: server` starts a server, prints `ready` and ends well by SIGTERM;
//! - `test: publish` publishes `live/cam` and ends well by itself;
//! - `test: play` plays `live/cam`, while it is published, and ends well with it;
//! - `test: run` ends well by itself while a server runs;
//! - `no-test: REASON` is not run.
//!
//! Blocks run with the addresses of a test's own server, in a directory with a `video.mp4`; `cargo
//! run --release` stands for the server under test, and `ffplay` for an ffmpeg that needs no display.

mod support;

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::ffmpeg::{Pace, publish};
use support::media::SHORT;
use support::process::Process;
use support::scratch::Scratch;
use support::server::{FREE_PORTS, Server};
use support::wait::SOON;

const STREAM: &str = "live/cam";
/// The longest media in a block is ten seconds; encoding it on a loaded machine takes longer.
const BLOCK_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn readme() {
    run_document("README.md");
}

#[test]
fn publish_page() {
    run_document("docs/publish.md");
}

#[test]
fn play_page() {
    run_document("docs/play.md");
}

#[test]
fn operate_page() {
    run_document("docs/operate.md");
}

#[test]
fn push_page() {
    run_document("docs/push.md");
}

#[test]
fn api_page() {
    run_document("docs/api.md");
}

#[test]
fn every_page_is_run_and_every_block_is_marked() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("tuning.md")];
    for entry in fs::read_dir(root.join("docs")).expect("docs/ can be read") {
        let path = entry.expect("docs/ can be read").path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    let tested = [
        "README.md",
        "docs/api.md",
        "docs/operate.md",
        "docs/play.md",
        "docs/publish.md",
        "docs/push.md",
    ];
    for page in pages {
        let name = page.strip_prefix(root).expect("a page of ours");
        let to_run =
            blocks(&page).iter().filter(|block| !matches!(block.role, Role::NoTest)).count();
        assert!(
            to_run == 0 || tested.iter().any(|known| name == Path::new(known)),
            "{} has {to_run} blocks to run and no test here",
            name.display()
        );
    }
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Server,
    Publish,
    Play,
    Run,
    NoTest,
}

#[derive(Debug)]
struct Block {
    /// Page and line, for reports.
    place: String,
    role: Role,
    text: String,
}

fn run_document(page: &str) {
    let workshop = Workshop::new();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let mut count = 0;
    for block in blocks(&page) {
        match block.role {
            Role::NoTest => continue,
            Role::Server => Server::adopt(workshop.start(&block)).stop(),
            Role::Publish => workshop.publishes(&block),
            Role::Play => workshop.plays(&block),
            Role::Run => workshop.start(&block).expect_success(BLOCK_LIMIT),
        }
        count += 1;
    }
    assert!(count > 0, "{} has no block to run", page.display());
    workshop.server.stop();
}

/// Where the blocks of one page run.
struct Workshop {
    server: Server,
    scratch: Scratch,
}

impl Workshop {
    fn new() -> Self {
        let scratch = Scratch::new("documentation");
        let programs = scratch.file("bin");
        fs::create_dir(&programs).expect("a directory can be made");
        let overrides: Vec<String> =
            FREE_PORTS.iter().map(|(key, value)| format!("--set {key}={value}")).collect();
        write_program(
            &programs.join("cargo"),
            &format!(
                "[ \"$1 $2\" = 'run --release' ] || exit 64\n\
                 shift 2\n\
                 [ \"${{1:-}}\" != -- ] || shift\n\
                 case \"${{1:-}}\" in check|default-config) exec {0} \"$@\";; esac\n\
                 exec {0} \"$@\" {1}",
                env!("CARGO_BIN_EXE_shardcast"),
                overrides.join(" ")
            ),
        );
        write_program(
            &programs.join("ffplay"),
            "options=()\n\
             while [ $# -gt 1 ]; do options+=(\"$1\"); shift; done\n\
             exec ffmpeg -nostdin -v error \"${options[@]}\" -i \"$1\" -c copy -f null -",
        );
        let workshop = Self { server: Server::start(&[]), scratch };
        let mut remux = Command::new("ffmpeg");
        remux
            .args(["-nostdin", "-v", "error", "-i"])
            .arg(SHORT.file())
            .args(["-c", "copy"])
            .arg(workshop.scratch.file("video.mp4"));
        Process::run("ffmpeg makes video.mp4", &mut remux, BLOCK_LIMIT);
        workshop
    }

    fn start(&self, block: &Block) -> Process {
        let text = block
            .text
            .replace("rtmp://localhost/", &format!("rtmp://{}/", self.server.rtmp()))
            .replace("localhost:8080", &self.server.http().to_string())
            .replace("localhost:1985", &self.server.api().address().to_string());
        let path = format!(
            "{}:{}",
            self.scratch.file("bin").display(),
            env::var("PATH").expect("PATH is set")
        );
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", &text])
            .current_dir(self.scratch.path())
            .env("PATH", path);
        Process::spawn(&block.place, &mut command)
    }

    fn publishes(&self, block: &Block) {
        let api = self.server.api();
        let mut publisher = self.start(block);
        api.wait_for_frames(STREAM, 30, SOON);
        publisher.expect_success(BLOCK_LIMIT);
        api.wait_for_no_publisher(STREAM, SOON);
    }

    fn plays(&self, block: &Block) {
        for kept in ["kept.flv", "kept.mkv"] {
            // Most pages keep nothing under these names.
            let _ = fs::remove_file(self.scratch.file(kept));
        }
        let api = self.server.api();
        let url = self.server.rtmp_url(STREAM);
        let mut publisher = publish(&SHORT.file(), &url, Pace::RealTime);
        api.wait_for_frames(STREAM, 30, SOON);
        let mut player = self.start(block);
        api.wait_for_viewers(STREAM, 1, SOON);
        publisher.expect_success(BLOCK_LIMIT);
        player.expect_success(SOON);
        api.wait_for_no_publisher(STREAM, SOON);
    }
}

fn write_program(path: &PathBuf, body: &str) {
    fs::write(path, format!("#!/usr/bin/env bash\nset -euo pipefail\n{body}\n"))
        .expect("a program can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .expect("a program can be made executable");
}

/// The `sh` blocks of a page; a block without a known mark fails.
fn blocks(page: &Path) -> Vec<Block> {
    let text =
        fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let place = format!("{}:{}", page.display(), number + 1);
        let body: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| line.trim_start() != "```")
            .collect();
        let (language, mark) = info.split_once(' ').unwrap_or((info, ""));
        if !matches!(language, "sh" | "bash" | "shell" | "console") {
            continue;
        }
        let role = match mark.split_once(": ") {
            Some(("test", "server")) => Role::Server,
            Some(("test", "publish")) => Role::Publish,
            Some(("test", "play")) => Role::Play,
            Some(("test", "run")) => Role::Run,
            Some(("no-test", reason)) if !reason.trim().is_empty() => Role::NoTest,
            _ => panic!("{place}: say 'test: …' or 'no-test: REASON', not {mark:?}"),
        };
        blocks.push(Block { place, role, text: body.join("\n") });
    }
    blocks
}
