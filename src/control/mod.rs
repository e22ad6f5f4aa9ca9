//! The control shard: one writer for names, verdicts and the API. It never touches media.
//!
//! | file       | subject                                                            |
//! |------------|--------------------------------------------------------------------|
//! | `registry` | who publishes which name and who may view it; no I/O, no clock      |
//! | `hooks`    | the application's HTTP hooks: gates and events                     |
//! | `rooms`    | WebRTC rooms: who is in which, and what members say to each other   |
//! | `run`      | the executor: notices in, notices out, deadlines, signals           |
//! | `api`      | the HTTP API                                                       |
//! | `reports`  | asking every shard how it is                                       |
//! | `push`     | the push channel: members, channels, messages                      |
//! | `settings` | the settings in force; everything here asks for them at each use   |

mod answer;
mod api;
mod hooks;
mod push;
mod registry;
mod reports;
pub mod rooms;
mod run;
mod settings;

pub use api::ApiListener;
pub use push::{PushCounters, Router};
pub use registry::{Outgoing, Registry, RegistryCounters, StreamEntry};
pub use run::{ControlEvent, ControlPlan, run};
pub use settings::CurrentSettings;
