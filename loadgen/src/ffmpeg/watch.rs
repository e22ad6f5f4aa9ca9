//! The thread that reads what all ffmpegs write: packets, and lines about errors.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};

use shardcast::proto::flv::{self, TagReader};

use super::follow::Follower;
use super::process::Pipes;
use super::table::FileTable;
use crate::clock::MILLISECOND_NS;
use crate::media::{Kind, Track};
use crate::poll::{Poll, Ready};

/// Bytes taken from a pipe at a time: what it holds at most.
const BUFFER_BYTES: usize = 64 * 1024;
/// The longest wait for events.
const WAIT_NS: u64 = 20 * MILLISECOND_NS;
/// The rest of a longer line is left out.
const LINE_BYTES_MAX: usize = 1_000;
/// Lines kept of one ffmpeg; all are counted.
const LINES_MAX: usize = 4;
/// How ffmpeg marks lines that are no errors.
const WARNING: &str = "[warning]";
/// ffmpeg takes the end of every HTTP body without a length for an error, whoever sends it: it then
/// expected 2⁶⁴ − 1 bytes.
const END_OF_BODY: [(&str, &str); 2] = [
    ("Stream ends prematurely at ", ", should be 18446744073709551615"),
    ("[error] http://", ".flv: Input/output error"),
];

/// What is known of an ffmpeg while it runs.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Packets so far.
    pub(crate) packets: AtomicU64,
    /// It writes no more.
    pub(crate) has_ended: AtomicBool,
    last_line: Mutex<String>,
}

/// An ffmpeg to be watched.
#[derive(Debug)]
pub(crate) struct Watched {
    /// For a player: the number of its publisher among all that are watched.
    pub(crate) publisher: Option<usize>,
    stdout: Option<std::process::ChildStdout>,
    stderr: Option<std::process::ChildStderr>,
    progress: Arc<Progress>,
    tags: TagReader,
    line: Vec<u8>,
    /// Its packets.
    pub(crate) follower: Follower,
    /// What its publisher had published when its first packet came.
    pub(crate) published_before: u64,
    /// Lines about errors, or without a level.
    pub(crate) error_lines: u64,
    /// Lines about anything less.
    pub(crate) warning_lines: u64,
    /// Lines that say that an HTTP body has ended.
    pub(crate) end_lines: u64,
    /// The first errors and warnings.
    pub(crate) lines: Vec<String>,
}

/// The thread's state.
#[derive(Debug)]
pub(crate) struct Watcher {
    file: Arc<FileTable>,
    incoming: Receiver<Watched>,
    watched: Vec<Watched>,
    poll: Poll,
}

impl Progress {
    /// What it said last.
    pub(crate) fn last_line(&self) -> String {
        self.last_line.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Watched {
    /// Nothing is read yet.
    pub(crate) fn new(pipes: Pipes, publisher: Option<usize>, progress: Arc<Progress>) -> Self {
        Self {
            publisher,
            stdout: Some(pipes.stdout),
            stderr: Some(pipes.stderr),
            progress,
            tags: TagReader::new(flv::PAYLOAD_LEN_MAX),
            line: Vec::new(),
            follower: Follower::default(),
            published_before: 0,
            error_lines: 0,
            warning_lines: 0,
            end_lines: 0,
            lines: Vec::new(),
        }
    }

    fn take_packets(&mut self, bytes: &[u8], file: &FileTable) {
        self.tags.push(bytes);
        loop {
            match self.tags.next_tag() {
                Ok(Some(tag)) => {
                    if let Some(track) = Track::from_type_id(tag.type_id)
                        && track.kind(&tag.payload) != Kind::Header
                    {
                        let crc = crc32fast::hash(&tag.payload);
                        self.follower.packet(file, track, crc, tag.timestamp_ms);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.end_line(&format!("[error] what it wrote is no FLV: {error}"));
                    self.stdout = None;
                    break;
                }
            }
        }
        self.progress.packets.store(self.follower.packets(), Ordering::Release);
    }

    fn take_text(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if matches!(byte, b'\n' | b'\r') {
                self.flush_line();
            } else if self.line.len() < LINE_BYTES_MAX {
                self.line.push(*byte);
            }
        }
    }

    fn flush_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if !line.is_empty() {
            self.end_line(&line);
        }
    }

    fn end_line(&mut self, line: &str) {
        if is_end_of_body(line) {
            self.end_lines += 1;
            return;
        }
        if line.contains(WARNING) {
            self.warning_lines += 1;
        } else {
            self.error_lines += 1;
        }
        if self.lines.len() < LINES_MAX {
            self.lines.push(line.to_owned());
        }
        line.clone_into(
            &mut self.progress.last_line.lock().unwrap_or_else(PoisonError::into_inner),
        );
    }

    fn is_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }
}

fn is_end_of_body(line: &str) -> bool {
    END_OF_BODY.iter().any(|(what, end)| line.contains(what) && line.ends_with(end))
}

impl Watcher {
    /// Watches what comes through `incoming`.
    pub(crate) fn new(file: Arc<FileTable>, incoming: Receiver<Watched>) -> io::Result<Self> {
        Ok(Self { file, incoming, watched: Vec::new(), poll: Poll::new()? })
    }

    /// Runs until nothing more can come, and every ffmpeg has ended.
    pub(crate) fn run(mut self) -> io::Result<Vec<Watched>> {
        let mut ready = Vec::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let is_over = match self.incoming.try_recv() {
                Ok(new) => {
                    self.add(new)?;
                    continue;
                }
                Err(TryRecvError::Empty) => false,
                Err(TryRecvError::Disconnected) => true,
            };
            if is_over && !self.watched.iter().any(Watched::is_open) {
                return Ok(self.watched);
            }
            self.poll.wait(WAIT_NS, &mut ready)?;
            for event in ready.drain(..) {
                self.read(event, &mut buffer)?;
            }
        }
    }

    fn add(&mut self, new: Watched) -> io::Result<()> {
        let token = self.watched.len() as u64 * 2;
        let pipes = [
            (token, new.stdout.as_ref().map(AsRawFd::as_raw_fd)),
            (token + 1, new.stderr.as_ref().map(AsRawFd::as_raw_fd)),
        ];
        self.watched.push(new);
        for (token, fd) in pipes {
            fd.map_or(Ok(()), |fd: RawFd| self.poll.add(fd, token, false))?;
        }
        Ok(())
    }

    /// Reads once; something is there, so it does not block.
    fn read(&mut self, event: Ready, buffer: &mut [u8]) -> io::Result<()> {
        let index = (event.token / 2) as usize;
        let is_text = event.token % 2 == 1;
        let published = self.watched.get(index).and_then(|watched| watched.publisher);
        let published = published.and_then(|publisher| self.watched.get(publisher));
        let published = published.map_or(0, |publisher| publisher.follower.packets());
        let Some(watched) = self.watched.get_mut(index) else { return Ok(()) };
        let read = match (is_text, &mut watched.stdout, &mut watched.stderr) {
            (false, Some(stdout), _) => stdout.read(buffer),
            (true, _, Some(stderr)) => stderr.read(buffer),
            _ => return Ok(()),
        };
        match read {
            Ok(count) if count > 0 && is_text => watched.take_text(&buffer[..count]),
            Ok(count) if count > 0 => {
                let is_first = watched.follower.packets() == 0;
                watched.take_packets(&buffer[..count], &self.file);
                if is_first && watched.follower.packets() > 0 {
                    watched.published_before = published;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The end. Closed, a pipe leaves the set.
            _ if is_text => {
                watched.flush_line();
                watched.stderr = None;
            }
            _ => {
                watched.stdout = None;
                watched.progress.has_ended.store(true, Ordering::Release);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::super::table::TrackTable;
    use super::*;

    #[test]
    fn lines_are_sorted_by_their_level() {
        let (sender, incoming) = std::sync::mpsc::channel();
        let script = "echo '[flv @ 0x1] [warning] odd' >&2; echo '[error] bad' >&2; \
                      echo '[http @ 0x1] [error] Stream ends prematurely at 5, should be 7' >&2; \
                      echo '[http @ 0x1] [error] Stream ends prematurely at 5, should be \
                      18446744073709551615' >&2; \
                      echo '[error] http://h/live/x.flv: Input/output error' >&2; \
                      printf 'no level, no end' >&2; echo 'this is no FLV'";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let pipes = child.stdout.take().zip(child.stderr.take());
        let (stdout, stderr) = pipes.expect("both are piped");
        let progress = Arc::<Progress>::default();
        let watched = Watched::new(Pipes { stdout, stderr }, None, Arc::clone(&progress));
        sender.send(watched).expect("it waits");
        drop(sender);
        let file = FileTable { tracks: <[TrackTable; 2]>::default(), gop_packets: 1 };
        let watcher = Watcher::new(Arc::new(file), incoming).expect("epoll works");
        let watched = watcher.run().expect("pipes can be read");
        child.wait().expect("it is ours");
        let watched = &watched[0];
        // The fourth is that its output is no FLV.
        assert_eq!((watched.error_lines, watched.warning_lines, watched.end_lines), (4, 1, 2));
        assert_eq!(watched.lines.len(), LINES_MAX);
        assert!(!progress.last_line().is_empty());
    }
}
