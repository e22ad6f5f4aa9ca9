//! One ffmpeg as a child process. However loadgen ends, it ends too.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

use crate::poll;
use crate::viewer::Protocol;

/// No keyboard, and no words but warnings and errors, each with its level.
pub(crate) const COMMON_OPTIONS: [&str; 5] =
    ["-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+warning"];
/// What it publishes or receives comes to us as FLV, packet by packet.
const TO_US: [&str; 9] = [
    "-c",
    "copy",
    "-f",
    "flv",
    "-flvflags",
    "no_duration_filesize",
    "-flush_packets",
    "1",
    "pipe:1",
];

/// Its outputs.
#[derive(Debug)]
pub(crate) struct Pipes {
    /// FLV.
    pub(crate) stdout: ChildStdout,
    /// Lines.
    pub(crate) stderr: ChildStderr,
}

/// A running or ended ffmpeg. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Whether we asked it to end.
    interrupted: bool,
}

impl Process {
    /// Publishes a file in a loop, in real time; what it publishes it also writes to us.
    pub(crate) fn publish(
        program: &Path,
        file: &Path,
        url: &str,
    ) -> std::io::Result<(Self, Pipes)> {
        let mut command = Command::new(program);
        command
            .args(COMMON_OPTIONS)
            .args(["-re", "-stream_loop", "-1", "-i"])
            .arg(file)
            .args(["-c", "copy", "-f", "flv", "-flvflags", "no_duration_filesize", url])
            .args(TO_US);
        Self::spawn(command)
    }

    /// Plays, and writes what it receives to us.
    pub(crate) fn play(program: &Path, url: &str) -> std::io::Result<(Self, Pipes)> {
        let mut command = Command::new(program);
        command.args(COMMON_OPTIONS).args(["-i", url]).args(TO_US);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> std::io::Result<(Self, Pipes)> {
        // A group of its own: Ctrl-C is for us, who end players after their publishers.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        poll::end_with_parent(&mut command);
        let mut child = command.spawn()?;
        let pipes = child.stdout.take().zip(child.stderr.take());
        let process = Self { child, interrupted: false };
        let (stdout, stderr) = pipes.ok_or_else(|| std::io::Error::other("it has no pipes"))?;
        Ok((process, Pipes { stdout, stderr }))
    }

    /// Asks it to end: it says goodbye to the server.
    pub(crate) fn interrupt(&mut self) {
        self.interrupted = true;
        poll::interrupt(&mut self.child);
    }

    /// Whether it was asked to end.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        // It is our child, so the system knows.
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended, and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a stream is published and played.
pub(crate) fn url(protocol: Protocol, authority: &str, app: &str, stream: &str) -> String {
    match protocol {
        Protocol::Rtmp => format!("rtmp://{authority}/{app}/{stream}"),
        Protocol::HttpFlv => {
            let (name, query) = stream.split_at(stream.find('?').unwrap_or(stream.len()));
            format!("http://{authority}/{app}/{name}.flv{query}")
        }
    }
}
