//! Log lines: one per event of a connection or stream, for people or as JSON, and one per session in
//! the access log. Each log is written by a thread of its own, so that no shard waits for a terminal or
//! a disk.
//!
//! The message of a line is the same for all events of its kind (`closed`, `publish started`); what
//! differs stands in fields with names that stay. `client` is the number of the connection.

mod access;
mod sink;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

pub use access::{AccessRecord, Asked};
pub use sink::{Losses, Sink, Target};

use crate::config::{LogFormat, LogSettings};

/// Lines that wait for a writer; more are lost and counted.
const LINES_MAX: usize = 8192;
/// How long the writers may take for what is asked of them at a signal or at the end.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where shards put their sessions.
pub type AccessLog = Sink<Box<AccessRecord>>;

/// The running logs.
pub struct Logging {
    lines: Sink<Vec<u8>>,
    access: Option<AccessLog>,
    level: reload::Handle<EnvFilter, Registry>,
}

/// Lines that the logs have lost.
#[derive(Clone, Debug)]
pub struct LogLosses {
    lines: Arc<Losses>,
    access: Option<Arc<Losses>>,
}

/// Opens the logs and starts their writers.
///
/// # Errors
/// A file cannot be opened.
pub fn start(settings: &LogSettings) -> io::Result<Logging> {
    let target = match &settings.file {
        Some(path) => Target::File(PathBuf::from(path)),
        None => Target::Stderr,
    };
    let is_terminal = target == Target::Stderr && io::stderr().is_terminal();
    let lines = Sink::start("log", target, LINES_MAX, |line: &Vec<u8>, out: &mut Vec<u8>| {
        out.extend_from_slice(line);
    })?;
    let access = match &settings.access {
        Some(path) => {
            let format = settings.access_format.clone();
            let target = Target::File(PathBuf::from(path));
            let write = move |record: &Box<AccessRecord>, out: &mut Vec<u8>| {
                record.write(&format, out);
            };
            Some(Sink::start("access-log", target, LINES_MAX, write)?)
        }
        None => None,
    };
    let filter = EnvFilter::try_new(&settings.level).map_err(io::Error::other)?;
    let (filter, level) = reload::Layer::new(filter);
    let registry = Registry::default().with(filter);
    let layer = fmt::layer()
        .with_writer(LineWriter(lines.clone()))
        .with_ansi(is_terminal)
        .with_target(false);
    match settings.format {
        LogFormat::Text => registry.with(layer).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    }
    .map_err(io::Error::other)?;
    Ok(Logging { lines, access, level })
}

impl Logging {
    /// The access log, when there is one.
    pub fn access(&self) -> Option<&AccessLog> {
        self.access.as_ref()
    }

    /// Counts of lost lines, for the API.
    pub fn losses(&self) -> LogLosses {
        LogLosses {
            lines: Arc::clone(self.lines.losses()),
            access: self.access.as_ref().map(|access| Arc::clone(access.losses())),
        }
    }

    /// Sets the level, or directives (`log.level`).
    ///
    /// # Errors
    /// They cannot be understood, which the configuration has made sure of.
    pub fn set_level(&self, directives: &str) -> Result<(), String> {
        let filter = EnvFilter::try_new(directives).map_err(|error| error.to_string())?;
        self.level.reload(filter).map_err(|error| error.to_string())
    }

    /// Opens the files anew: after they were renamed, lines go to new ones.
    ///
    /// # Errors
    /// A file cannot be opened; its log goes on with the old one.
    pub fn reopen(&self) -> Result<(), String> {
        let mut result = self.lines.reopen(PATIENCE).map_err(|error| format!("log.file: {error}"));
        if let Some(access) = &self.access {
            let reopened = access.reopen(PATIENCE).map_err(|error| format!("log.access: {error}"));
            result = result.and(reopened);
        }
        result
    }

    /// Waits a little for what is still to be written.
    pub fn flush(&self) {
        self.lines.flush(PATIENCE);
        if let Some(access) = &self.access {
            access.flush(PATIENCE);
        }
    }
}

impl std::fmt::Debug for Logging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logging").field("access", &self.access.is_some()).finish_non_exhaustive()
    }
}

impl LogLosses {
    /// Lines of the main log.
    pub fn lines(&self) -> u64 {
        self.lines.count()
    }

    /// Lines of the access log.
    pub fn access_lines(&self) -> u64 {
        self.access.as_ref().map_or(0, |access| access.count())
    }
}

/// Gives each line to the queue; the formatter writes a line as a whole.
struct LineWriter(Sink<Vec<u8>>);

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
