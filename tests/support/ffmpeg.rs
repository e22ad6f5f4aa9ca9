//! ffmpeg as a publisher and as a player.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::downloads::downloads;
use super::packets::{self, Packets};
use super::process::Process;

/// Which ffmpeg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ffmpeg {
    /// The system's. Debian's 5.1 knows nothing of Enhanced RTMP.
    System,
    /// ffmpeg 9, which `scripts/test-deps` puts into the user's cache directory.
    Nine,
}

impl Ffmpeg {
    /// The program, quiet and without standard input.
    pub(crate) fn command(self) -> Command {
        let mut command = match self {
            Self::System => Command::new("ffmpeg"),
            Self::Nine => {
                let program = downloads().join("ffmpeg-9.0.2");
                assert!(
                    program.exists(),
                    "{} is not there: run scripts/test-deps",
                    program.display()
                );
                Command::new(program)
            }
        };
        command.args(["-nostdin", "-v", "error"]);
        command
    }
}

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
    publish_with(Ffmpeg::System, file, url, pace)
}

/// [`publish`] with that ffmpeg.
pub(crate) fn publish_with(ffmpeg: Ffmpeg, file: &Path, url: &str, pace: Pace) -> Process {
    let mut command = ffmpeg.command();
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
        Self::start_with(Ffmpeg::System, &[], url, list)
    }

    /// [`Player::start`] with that ffmpeg and options for the input.
    pub(crate) fn start_with(ffmpeg: Ffmpeg, options: &[&str], url: &str, list: PathBuf) -> Self {
        let mut command = ffmpeg.command();
        command.arg("-copyts").args(options).args(["-i", url]);
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

    /// How many lines were written so far: packets, and about a dozen of the head.
    pub(crate) fn lines_so_far(&self) -> usize {
        let list = fs::read(&self.list).unwrap_or_default();
        list.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Waits for the player to end by itself, with exit code 0, and gives what it received.
    pub(crate) fn finish(&mut self, limit: Duration) -> Packets {
        self.process.expect_success(limit);
        Packets::read_list(&self.list).expect("a player that ended well wrote its list")
    }
}
