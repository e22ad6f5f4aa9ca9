//! A log's queue and the thread that writes it, so that nobody else waits for a terminal or a disk.
//!
//! What must hold: whoever has a line never waits. A line that finds the queue full is lost, and so is
//! one that cannot be written (a full disk); both are counted, and said as soon as the log takes lines
//! again. No error ends the writer.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Bytes that are written at once, or a little more.
const BATCH_BYTES: usize = 64 * 1024;
/// At most one line per this time about lines that were lost.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);
/// How soon a terminal or pipe that takes nothing is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file, appended to.
    File(PathBuf),
    /// Standard error.
    Stderr,
}

/// The front of a log: takes entries and never waits. Cheap to clone.
#[derive(Debug)]
pub struct Sink<T> {
    queue: Sender<Entry<T>>,
    losses: Arc<Losses>,
}

/// Lines that a log has lost since the start.
#[derive(Debug, Default)]
pub struct Losses {
    /// The queue was full: the writer was too slow.
    full: AtomicU64,
    /// The file could not be written.
    failed: AtomicU64,
}

#[derive(Debug)]
enum Entry<T> {
    Line(T),
    /// Open the file anew; the answer when it is done.
    Reopen(Sender<io::Result<()>>),
    /// Answer when everything before this is written.
    Flush(Sender<()>),
}

/// The writer's side.
struct Writer<T, F> {
    name: &'static str,
    queue: Receiver<Entry<T>>,
    losses: Arc<Losses>,
    target: Target,
    output: Output,
    /// Writes one entry as a line with its end.
    render: F,
    batch: Vec<u8>,
    /// The last write ended inside a line.
    is_torn: bool,
    is_failing: bool,
    /// Lost lines that were said, and when that was.
    said: (u64, Option<Instant>),
}

enum Output {
    File(File),
    Stderr(io::Stderr),
}

impl Losses {
    /// All lines that were lost.
    pub fn count(&self) -> u64 {
        self.full.load(Ordering::Relaxed) + self.failed.load(Ordering::Relaxed)
    }
}

impl<T> Clone for Sink<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), losses: Arc::clone(&self.losses) }
    }
}

impl<T: Send + 'static> Sink<T> {
    /// Opens the target and starts the thread `name`, which renders and writes up to `capacity`
    /// waiting entries.
    pub fn start(
        name: &'static str,
        target: Target,
        capacity: usize,
        render: impl FnMut(&T, &mut Vec<u8>) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = bounded(capacity);
        let losses = Arc::new(Losses::default());
        let mut writer = Writer {
            name,
            queue: receiver,
            losses: Arc::clone(&losses),
            output: target.open()?,
            target,
            render,
            batch: Vec::new(),
            is_torn: false,
            is_failing: false,
            said: (0, None),
        };
        thread::Builder::new().name(name.to_owned()).spawn(move || writer.run())?;
        Ok(Self { queue: sender, losses })
    }

    /// Puts an entry into the queue; without room it is lost and counted.
    pub fn put(&self, entry: T) {
        if self.queue.try_send(Entry::Line(entry)).is_err() {
            self.losses.full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The count of lost lines.
    pub fn losses(&self) -> &Arc<Losses> {
        &self.losses
    }

    /// Opens the file anew, after what is in the queue. Waits, so it is not for a shard.
    ///
    /// # Errors
    /// The file cannot be opened (the old one stays in use), or the writer is stuck.
    pub fn reopen(&self, patience: Duration) -> io::Result<()> {
        self.ask(patience, Entry::Reopen).unwrap_or_else(|| Err(ErrorKind::TimedOut.into()))
    }

    /// Waits until everything that was put before is written; false when that takes too long.
    pub fn flush(&self, patience: Duration) -> bool {
        self.ask(patience, Entry::Flush).is_some()
    }

    fn ask<A>(&self, patience: Duration, entry: impl FnOnce(Sender<A>) -> Entry<T>) -> Option<A> {
        let deadline = Instant::now() + patience;
        let (answer, is_done) = bounded(1);
        self.queue.send_deadline(entry(answer), deadline).ok()?;
        is_done.recv_deadline(deadline).ok()
    }
}

impl Target {
    fn open(&self) -> io::Result<Output> {
        match self {
            Self::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                file.map(Output::File).map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                })
            }
            Self::Stderr => Ok(Output::Stderr(io::stderr())),
        }
    }
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stderr(stderr) => stderr.write(bytes),
        }
    }
}

impl<T, F: FnMut(&T, &mut Vec<u8>)> Writer<T, F> {
    /// Ends when nobody can put anything any more.
    fn run(&mut self) {
        while let Ok(first) = self.queue.recv() {
            let mut next = Some(first);
            while let Some(entry) = next {
                match entry {
                    Entry::Line(line) => (self.render)(&line, &mut self.batch),
                    Entry::Reopen(answer) => {
                        self.write_batch();
                        let result = self.reopen();
                        // Who has asked may have gone.
                        let _ = answer.send(result);
                    }
                    Entry::Flush(answer) => {
                        self.write_batch();
                        let _ = answer.send(());
                    }
                }
                if self.batch.len() >= BATCH_BYTES {
                    break;
                }
                next = self.queue.try_recv().ok();
            }
            self.write_batch();
            self.say_losses();
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.output = self.target.open()?;
        self.is_torn = false;
        Ok(())
    }

    fn write_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let was_torn = self.is_torn;
        if was_torn {
            // What comes now begins a line of its own.
            self.batch.insert(0, b'\n');
        }
        let mut written = 0;
        let mut failure = None;
        while written < self.batch.len() {
            match self.output.write(&self.batch[written..]) {
                Ok(0) => {
                    failure = Some(ErrorKind::WriteZero.into());
                    break;
                }
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        if written > 0 {
            self.is_torn = self.batch[written - 1] != b'\n';
        }
        if let Some(error) = &failure {
            let rest = &self.batch[written.max(usize::from(was_torn))..];
            let lost = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.losses.failed.fetch_add(lost, Ordering::Relaxed);
            self.say_failure(error);
        }
        self.is_failing = failure.is_some();
        self.batch.clear();
        self.batch.shrink_to(2 * BATCH_BYTES);
    }

    /// A log that cannot be written cannot say so itself.
    fn say_failure(&self, error: &io::Error) {
        if let Target::File(path) = &self.target
            && !self.is_failing
        {
            let path = path.display();
            let _ = writeln!(
                io::stderr(),
                "shardcast: {path} cannot be written: {error}; lines are lost until it can"
            );
        }
    }

    /// The line goes the usual way, into this log's own queue when it is the main one.
    fn say_losses(&mut self) {
        let lost = self.losses.count();
        let (said, at) = self.said;
        let is_time = at.is_none_or(|at| at.elapsed() >= LOSS_INTERVAL);
        if lost == said || self.is_failing || !is_time {
            return;
        }
        tracing::warn!(log = self.name, lines = lost - said, "log lines were lost");
        // Said again when this line was lost as well.
        let said = if self.losses.count() == lost { lost } else { said };
        self.said = (said, Some(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("shardcast-sink-{name}-{}", std::process::id()))
    }

    fn sink(target: &std::path::Path, capacity: usize) -> Sink<String> {
        Sink::start("test", Target::File(target.to_owned()), capacity, |line: &String, out| {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        })
        .unwrap()
    }

    #[test]
    fn lines_keep_their_order_and_a_renamed_file_gets_no_more() {
        let (current, old) = (path("order"), path("order-old"));
        let sink = sink(&current, 1024);
        (0..500).for_each(|number| sink.put(format!("line {number}")));
        assert!(sink.flush(SOON));
        fs::rename(&current, &old).unwrap();
        sink.put("after the rename".to_owned());
        sink.reopen(SOON).unwrap();
        sink.put("after the reopening".to_owned());
        assert!(sink.flush(SOON));
        let lines: Vec<String> = (0..500).map(|number| format!("line {number}")).collect();
        let expected = format!("{}\nafter the rename\n", lines.join("\n"));
        assert_eq!(fs::read_to_string(&old).unwrap(), expected);
        assert_eq!(fs::read_to_string(&current).unwrap(), "after the reopening\n");
        assert_eq!(sink.losses().count(), 0);
        fs::remove_file(current).unwrap();
        fs::remove_file(old).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_opened_again_leaves_the_old_one() {
        let directory = path("gone");
        fs::create_dir(&directory).unwrap();
        let file = directory.join("log");
        let sink = sink(&file, 16);
        let moved = path("gone-moved");
        fs::rename(&directory, &moved).unwrap();
        assert!(sink.reopen(SOON).is_err());
        sink.put("still there".to_owned());
        assert!(sink.flush(SOON));
        assert_eq!(fs::read_to_string(moved.join("log")).unwrap(), "still there\n");
        fs::remove_dir_all(moved).unwrap();
    }

    #[test]
    fn a_full_disk_loses_lines_and_counts_them() {
        let sink = sink(std::path::Path::new("/dev/full"), 1024);
        (0..100).for_each(|number| sink.put(format!("line {number}")));
        assert!(sink.flush(SOON), "the writer goes on");
        assert_eq!(sink.losses().count(), 100);
    }

    #[test]
    fn a_full_queue_loses_lines_at_once_and_counts_them() {
        let (entered, is_entered) = bounded(1);
        let (release, is_released) = bounded::<()>(0);
        let file = path("full");
        let sink = Sink::start("test", Target::File(file.clone()), 4, move |line: &u32, out| {
            let _ = entered.try_send(());
            let _ = is_released.recv();
            out.extend_from_slice(format!("{line}\n").as_bytes());
        })
        .unwrap();
        sink.put(0);
        is_entered.recv().unwrap();
        (1..=10).for_each(|number| sink.put(number));
        assert_eq!(sink.losses().count(), 6);
        assert!(!sink.flush(Duration::from_millis(10)), "the writer is stuck");
        drop(release);
        assert!(sink.flush(SOON));
        assert_eq!(fs::read_to_string(&file).unwrap(), "0\n1\n2\n3\n4\n");
        fs::remove_file(file).unwrap();
    }
}
