//! The control shard: one writer for names, verdicts and the API. It never touches media.
//!
//! | file       | subject                                                            |
//! |------------|--------------------------------------------------------------------|
//! | `registry` | who publishes which name and who may view it; no I/O, no clock      |
//! | `run`      | the executor: notices in, notices out, deadlines, signals           |
//! | `api`      | the HTTP API                                                       |
//! | `reports`  | asking every shard how it is                                       |

mod api;
mod registry;
mod reports;
mod rooms;
mod run;

pub use api::ApiListener;
pub use registry::{Outgoing, Registry, RegistryCounters, StreamEntry};
pub use run::{ControlEvent, ControlPlan, run};
