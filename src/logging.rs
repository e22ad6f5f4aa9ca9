//! Log lines: one per event of a connection or stream, for people or as JSON, written by a thread of
//! their own so that no shard waits for a terminal or a disk.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{LogFormat, LogSettings};

/// Lines that wait for the writer; more are dropped and counted by it.
const LINES_MAX: usize = 8192;

/// Starts the writer. Lines still waiting are written when the guard is dropped.
pub fn start(settings: &LogSettings) -> io::Result<WorkerGuard> {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX);
    let (writer, guard, is_terminal) = match &settings.file {
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            let (writer, guard) = builder.finish(file);
            (writer, guard, false)
        }
        None => {
            let (writer, guard) = builder.finish(io::stderr());
            (writer, guard, io::stderr().is_terminal())
        }
    };
    let filter = EnvFilter::try_new(&settings.level).map_err(io::Error::other)?;
    let subscriber =
        fmt().with_env_filter(filter).with_writer(writer).with_ansi(is_terminal).with_target(false);
    match settings.format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    }
    .map_err(io::Error::other)?;
    Ok(guard)
}
