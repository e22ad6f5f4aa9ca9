//! Why a run over connections of this program's own could not be done.

use std::io;

use thiserror::Error;

use crate::limits::LimitError;
use crate::target::TargetError;
use crate::usage::UsageError;

/// The reason, as people read it.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// Too large.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The server's process cannot be seen.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// An address cannot be read, or its host is not known.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A connection, the API or a child process failed.
    #[error("{what}: {error}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's reason.
        error: io::Error,
    },
}

/// Names what was being done when the system gave an error.
pub(crate) fn io(what: &'static str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::Io { what, error }
}
