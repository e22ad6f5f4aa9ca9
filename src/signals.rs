//! What an operator says by signal: stop, read the configuration again, open the log again.
//!
//! | signal            | effect                                                              |
//! |-------------------|---------------------------------------------------------------------|
//! | SIGTERM, SIGINT   | drain, then end with exit code 0; a second one ends at once with 1  |
//! | SIGQUIT           | drain; a further one changes nothing                                |
//! | SIGHUP            | read the configuration again                                        |
//! | SIGUSR1           | open the log files anew                                             |

use std::io;
use std::sync::Arc;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use crate::config::{Settings, Source};
use crate::control::ControlEvent;
use crate::logging::Logging;
use crate::rt::mesh::InboxSender;

/// Key names in one log line; more are counted.
const NAMES_MAX: usize = 50;

/// Signals that are caught and wait for somebody to act on them.
#[derive(Debug)]
pub struct Caught(Signals);

/// Who acts on signals, on a thread of its own: reading files may take its time there.
#[derive(Debug)]
pub struct Operator {
    /// The control shard.
    pub events: InboxSender<ControlEvent>,
    /// The logs.
    pub logging: Arc<Logging>,
    /// Where the configuration comes from.
    pub source: Source,
    /// What holds now.
    pub settings: Arc<Settings>,
}

/// Catches the signals: from now on none of them ends the process by itself.
pub fn catch() -> io::Result<Caught> {
    Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1]).map(Caught)
}

impl Caught {
    /// Acts on what was caught already, and on all that comes.
    pub fn listen(mut self, mut operator: Operator) -> io::Result<()> {
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut is_draining = false;
            for signal in self.0.forever() {
                match signal {
                    SIGHUP if is_draining => {
                        tracing::warn!("SIGHUP changes nothing: the server is shutting down");
                    }
                    SIGHUP => operator.reload(),
                    SIGUSR1 => operator.reopen_logs(),
                    SIGQUIT if is_draining => tracing::warn!("SIGQUIT: already shutting down"),
                    _ if is_draining => operator.end_at_once(signal),
                    _ => {
                        is_draining = true;
                        let name = signal_name(signal).unwrap_or("signal");
                        tracing::info!("{name}: shutting down");
                        if operator.events.try_send(ControlEvent::Drain).is_err() {
                            operator.end_at_once(signal);
                        }
                    }
                }
            }
        })?;
        Ok(())
    }
}

impl Operator {
    fn end_at_once(&self, signal: i32) -> ! {
        let name = signal_name(signal).unwrap_or("signal");
        tracing::error!("{name}: ended at once; connections were cut");
        self.logging.flush();
        std::process::exit(1)
    }

    fn reopen_logs(&self) {
        match self.logging.reopen() {
            Ok(()) => tracing::info!("SIGUSR1: the log files are opened anew"),
            Err(why) => tracing::error!(%why, "SIGUSR1: a log file stays as it was"),
        }
    }

    /// Reads the configuration again, and the files that it names.
    fn reload(&mut self) {
        self.reload_settings();
        if self.events.try_send(ControlEvent::RereadFiles).is_err() {
            tracing::error!("certificates stay as they were: the control shard does not answer");
        }
    }

    fn reload_settings(&mut self) {
        let Some(file) = self.source.file().map(|file| file.display().to_string()) else {
            tracing::warn!(
                "SIGHUP: there is nothing to read again: the server runs without a file (--config)"
            );
            return;
        };
        let reloaded = match self.source.reload(&self.settings) {
            Ok(reloaded) => reloaded,
            Err(lines) => {
                for why in lines {
                    tracing::error!("the configuration stays as it was: {why}");
                }
                return;
            }
        };
        if !reloaded.need_restart.is_empty() {
            let keys = list(&reloaded.need_restart);
            tracing::warn!(%keys, "these keys keep their running values until the next start");
        }
        if reloaded.changed.is_empty() {
            tracing::info!(%file, "configuration read again: nothing else has changed");
            return;
        }
        let settings = Arc::new(reloaded.settings);
        if self.events.try_send(ControlEvent::Reload(Arc::clone(&settings))).is_err() {
            tracing::error!("the configuration stays as it was: the control shard does not answer");
            return;
        }
        if settings.log.level != self.settings.log.level
            && let Err(why) = self.logging.set_level(&settings.log.level)
        {
            tracing::error!(%why, "log.level stays as it was");
        }
        self.settings = settings;
        let changed = list(&reloaded.changed);
        tracing::info!(%file, %changed, "configuration read again");
    }
}

/// Names in one line.
fn list(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMES_MAX) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}
