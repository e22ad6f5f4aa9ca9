//! The start as an ordinary user under ordinary limits, and what is said where it cannot work.

mod support;

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use support::process::Process;
use support::publisher::{Publisher, Script};
use support::server::{FREE_PORTS, Server};
use support::stamp::{Stamp, is_config};
use support::viewer::{Received, Viewer};
use support::wait::SOON;

const STREAM: &str = "live/cam";
/// `nobody`.
const USER: &str = "65534";
/// RLIMIT_MEMLOCK of systemd and of most distributions, bytes.
const LOCKED_BYTES: u64 = 8 * 1024 * 1024;
/// RLIMIT_NOFILE of a login shell.
const FILES: u64 = 1024;

const SCRIPT: Script = Script {
    frame_interval: Duration::from_millis(40),
    gop_frames: 25,
    keyframe_bytes: 10_000,
    inter_bytes: 2_000,
    audio: true,
};

/// The server's program where every user can run it.
struct Program {
    path: PathBuf,
}

#[test]
fn an_ordinary_user_can_publish_and_play() {
    let program = Program::install("play");
    let mut command = program.command(LOCKED_BYTES, FILES);
    let server = Server::adopt(Process::spawn("shardcast as nobody", &mut command));
    assert!(
        !is_root() || user_of(server.process()) == USER,
        "the server gave its privileges up before it began"
    );
    let publisher = Publisher::start(server.rtmp(), STREAM, SCRIPT);
    server.api().wait_for_frames(STREAM, 10, SOON);
    for mut viewer in [Viewer::rtmp(server.rtmp(), STREAM), Viewer::flv(server.http(), STREAM)] {
        let deadline = Instant::now() + SOON;
        let mut frames = 0;
        while frames < 30 {
            let received = viewer.next(deadline).expect("the server keeps the connection");
            let Received::Message { type_id: 9, payload, .. } = received else { continue };
            if !is_config(&payload) {
                assert!(frames > 0 || Stamp::read(&payload).is_keyframe);
                frames += 1;
            }
        }
    }
    publisher.say_goodbye();
    server.stop();
}

#[test]
fn too_few_descriptors_are_named_with_the_remedy() {
    let program = Program::install("descriptors");
    let said = program.refusal(&mut program.command(LOCKED_BYTES, 128));
    assert!(said.contains("only 128 files may be open"), "{said}");
    assert!(said.contains("ulimit -n"), "{said}");
    assert!(said.contains("LimitNOFILE"), "{said}");
}

#[test]
fn too_little_locked_memory_is_named_with_the_remedy() {
    let program = Program::install("memlock");
    let said = program.refusal(&mut program.command(64 * 1024, FILES));
    assert!(said.contains("only 64 KiB of memory may be locked"), "{said}");
    assert!(said.contains("ulimit -l"), "{said}");
    assert!(said.contains("LimitMEMLOCK"), "{said}");
}

#[test]
fn a_forbidden_io_uring_is_named_with_the_remedy() {
    let program = Program::install("seccomp");
    for (error, expected) in
        [(libc::EPERM, "io_uring is forbidden"), (libc::ENOSYS, "this kernel has no io_uring")]
    {
        let mut command = program.command(LOCKED_BYTES, FILES);
        forbid_io_uring(&mut command, error);
        let said = program.refusal(&mut command);
        assert!(said.contains(expected), "{said}");
        if error == libc::EPERM {
            assert!(said.contains("io_uring_setup"), "the remedy: {said}");
        }
    }
}

impl Program {
    fn install(name: &str) -> Self {
        let path = env::temp_dir().join(format!("shardcast-{name}-{}", std::process::id()));
        let program = env!("CARGO_BIN_EXE_shardcast");
        // A link is never open for writing, so no child of another test keeps it from being run.
        fs::hard_link(program, &path)
            .or_else(|_| fs::copy(program, &path).map(drop))
            .expect("the program can be put where everybody may run it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self { path }
    }

    /// Runs the program as `nobody` (as root would start it; else as who we are) under these limits.
    fn command(&self, locked_bytes: u64, files: u64) -> Command {
        let mut command = Command::new("prlimit");
        command.arg(format!("--memlock={locked_bytes}")).arg(format!("--nofile={files}"));
        if is_root() {
            command.args(["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"]);
            command.arg("--no-new-privs");
        }
        command.arg(&self.path);
        for (key, value) in FREE_PORTS.iter().chain(&[("server.shards", "2")]) {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.current_dir("/");
        command
    }

    /// Expects an end with exit code 1 and a single sentence; gives the sentence.
    fn refusal(&self, command: &mut Command) -> String {
        let mut process = Process::spawn("shardcast", command);
        let status = process.wait(SOON);
        let said = process.stderr();
        assert_eq!(status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "one sentence: {said}");
        assert!(said.starts_with("shardcast cannot run: "), "{said}");
        assert_eq!(process.stdout(), "", "nothing is announced");
        println!("{}", said.trim_end());
        said
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // What is left in the directory for temporary files disturbs no later run.
        let _ = fs::remove_file(&self.path);
    }
}

fn is_root() -> bool {
    // SAFETY: geteuid only gives a number.
    unsafe { libc::geteuid() == 0 }
}

/// The user that a process runs as.
fn user_of(process: &Process) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("it has a user");
    line.split_whitespace().nth(1).expect("the effective user").to_owned()
}

/// Makes `io_uring_setup` fail with `error` in the program that `command` starts, as the seccomp
/// profiles of container engines do.
fn forbid_io_uring(command: &mut Command, error: libc::c_int) {
    const fn statement(code: u32, value: u32, jumps: (u8, u8)) -> libc::sock_filter {
        libc::sock_filter { code: code as u16, jt: jumps.0, jf: jumps.1, k: value }
    }
    let setup = u32::try_from(libc::SYS_io_uring_setup).expect("a system call's number is small");
    let error = u32::try_from(error).expect("an error's number is positive");
    let filter = [
        // The number is the first field of seccomp_data.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, (0, 0)),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, setup, (0, 1)),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | error, (0, 0)),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, (0, 0)),
    ];
    // SAFETY: only prctl is called between fork and exec; the program that it gets is on the stack of
    // the closure and copied by the kernel.
    unsafe {
        command.pre_exec(move || {
            let mut filter = filter;
            let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
            let allowed = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0;
            if allowed { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
}
