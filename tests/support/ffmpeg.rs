//! ffmpeg as a publisher and as a player.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::packets::{self, Packets};
use super::process::Process;

/// How fast a file is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As its timestamps say.
    RealTime,
    /// As its timestamps say, again and again until killed.
    Endless,
    /// As fast as the server takes it.
    Unpaced,
}

/// Publishes `file` to `url` without touching a packet.
pub(crate) fn publish(file: &Path, url: &str, pace: Pace) -> Process {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error"]);
    match pace {
        Pace::RealTime => command.arg("-re"),
        Pace::Endless => command.args(["-re", "-stream_loop", "-1"]),
        Pace::Unpaced => &mut command,
    };
    // Without -copyts ffmpeg moves the first timestamp to 0.
    command.args(["-copyts", "-i"]).arg(file).args(["-map", "0", "-c", "copy", "-f", "flv", url]);
    Process::spawn(&format!("ffmpeg publishes {url}"), &mut command)
}

/// A player that writes down every packet.
pub(crate) struct Player {
    process: Process,
    list: PathBuf,
}

impl Player {
    /// Plays `url` to the end of the stream; `list` is the file that gets the packets.
    pub(crate) fn start(url: &str, list: PathBuf) -> Self {
        Self::start_with(&[], url, list)
    }

    /// [`Player::start`] with options for the input.
    pub(crate) fn start_with(options: &[&str], url: &str, list: PathBuf) -> Self {
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-copyts"]).args(options).args(["-i", url]);
        // Written at once, so that progress can be seen in the file.
        command.args(packets::COPY_TO_LIST).args(["-flush_packets", "1", "-y"]).arg(&list);
        let process = Process::spawn(&format!("ffmpeg plays {url}"), &mut command);
        Self { process, list }
    }

    /// The process.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What was written so far; `None` before the first packet.
    pub(crate) fn so_far(&self) -> Option<Packets> {
        let packets = Packets::read_list(&self.list)?;
        (!packets.is_empty()).then_some(packets)
    }

    /// Waits for the player to end by itself, with exit code 0, and gives what it received.
    pub(crate) fn finish(&mut self, limit: Duration) -> Packets {
        self.process.expect_success(limit);
        Packets::read_list(&self.list).expect("a player that ended well wrote its list")
    }
}
