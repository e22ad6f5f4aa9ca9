//! Child processes: output captured, ended by id, never left behind.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::wait::eventually;

/// Lines kept of each output in a failure report.
const REPORT_LINES_MAX: usize = 60;

/// A running program in a process group of its own, with both outputs captured.
pub(crate) struct Process {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
    stdout: Capture,
    stderr: Capture,
}

impl Process {
    /// Starts `command` with no standard input.
    ///
    /// Start it from the thread that runs the test: the kernel kills it when that thread ends, so
    /// that an aborted test run leaves nothing behind.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        // SAFETY: prctl with these arguments is async-signal-safe and touches no memory of ours.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {:?}: {error}", command.get_program()));
        let stdout = Capture::start(child.stdout.take().expect("stdout is piped"));
        let stderr = Capture::start(child.stderr.take().expect("stderr is piped"));
        Self { name: name.to_owned(), child, status: None, stdout, stderr }
    }

    /// Runs `command` to its end and expects exit code 0; gives its standard output.
    pub(crate) fn run(name: &str, command: &mut Command, limit: Duration) -> String {
        let mut process = Self::spawn(name, command);
        process.expect_success(limit);
        process.stdout()
    }

    /// The name given at start.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal` to the process itself.
    pub(crate) fn signal(&self, signal: libc::c_int) {
        let id = libc::pid_t::try_from(self.child.id()).expect("a process id fits");
        // SAFETY: kill takes plain integers; the id is our unreaped child's, so it is not reused.
        let result = unsafe { libc::kill(id, signal) };
        assert_eq!(result, 0, "{}: signal {signal}", self.name);
    }

    /// The exit status, if the process has ended.
    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child can be waited for");
        }
        self.status
    }

    /// Whether the process still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.try_wait().is_none()
    }

    /// Waits for the end of the process and of both its outputs.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.try_wait() {
                self.stdout.finish(deadline);
                self.stderr.finish(deadline);
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} did not end within {limit:?}\n{}",
                self.name,
                self.report()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the end and panics unless the exit code is 0.
    pub(crate) fn expect_success(&mut self, limit: Duration) {
        let status = self.wait(limit);
        assert!(
            status.success(),
            "{} ended with {}\n{}",
            self.name,
            describe(status),
            self.report()
        );
    }

    /// Standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until a line of standard output makes `pick` give a value.
    ///
    /// Panics at once, with both outputs, when the process ends before that.
    pub(crate) fn wait_for_line<T>(
        &mut self,
        what: &str,
        limit: Duration,
        pick: impl Fn(&str) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + limit;
        loop {
            // Asked before reading, so that what was printed just before the end is still seen.
            let ended = self.try_wait();
            if ended.is_some() {
                self.stdout.finish(deadline);
                self.stderr.finish(deadline);
            }
            if let Some(value) = self.stdout.text().lines().find_map(&pick) {
                return value;
            }
            if let Some(status) = ended {
                panic!(
                    "{} ended with {} before it printed {what}\n{}",
                    self.name,
                    describe(status),
                    self.report()
                );
            }
            assert!(
                Instant::now() < deadline,
                "{} did not print {what} within {limit:?}\n{}",
                self.name,
                self.report()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until standard error contains `text`.
    pub(crate) fn wait_for_stderr(&self, text: &str, limit: Duration) {
        eventually(&format!("{} says '{text}' on standard error", self.name), limit, || {
            self.stderr().contains(text).then_some(())
        });
    }

    /// Resident memory, bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("a running process has a status file");
        let kibibytes: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .expect("the status file has a VmRSS line");
        kibibytes * 1024
    }

    /// Open descriptors.
    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id()))
            .expect("a running process has a descriptor directory")
            .count()
    }

    /// The ends of both outputs, for a failure report.
    pub(crate) fn report(&self) -> String {
        let mut report = String::new();
        for (kind, capture) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let text = capture.text();
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(REPORT_LINES_MAX);
            for line in lines.iter().skip(from) {
                let _ = writeln!(report, "  {} {kind}: {line}", self.name);
            }
        }
        report
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprint!("{}", self.report());
        }
        if self.try_wait().is_none() {
            let group = libc::pid_t::try_from(self.child.id()).expect("a process id fits");
            // SAFETY: kill takes plain integers; the group is led by our unreaped child.
            unsafe { libc::kill(-group, libc::SIGKILL) };
            // It was killed; what remains is to take its exit status from the kernel.
            let _ = self.child.wait();
        }
    }
}

/// An exit status in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// One output of a process, read by a thread until its end.
struct Capture {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Capture {
    fn start(source: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while matches!(source.read_until(b'\n', &mut line), Ok(count) if count > 0) {
                sink.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the end of the output; a grandchild that holds it open does not hold the test.
    fn finish(&mut self, deadline: Instant) {
        while let Some(reader) = &self.reader {
            if reader.is_finished() {
                self.reader = None;
            } else if Instant::now() >= deadline {
                return;
            } else {
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}
