//! The control shard: one writer for names, verdicts and the API. It never touches media.
//!
//! | file       | subject                                                            |
//! |------------|--------------------------------------------------------------------|
//! | `registry` | who publishes which name and who may view it; no I/O, no clock      |
//! | `relays`   | streams that are sent to other servers, or fetched from them        |
//! | `hooks`    | the application's HTTP hooks: gates and events                     |
//! | `cluster`  | several nodes as one server: who owns a stream, and where it is     |
//! | `redis_link` | what all that speaks to Redis has in common                       |
//! | `events`   | everything that happens, for those who listen                      |
//! | `rooms`    | WebRTC rooms: who is in which, and what members say to each other   |
//! | `run`      | the executor: notices in, notices out, deadlines, signals           |
//! | `api`      | the HTTP API: its connections                                       |
//! | `resources` | what it serves: SRS's and nginx-rtmp's shapes, and its own          |
//! | `metrics`  | the counters for Prometheus                                        |
//! | `answer`   | an HTTP answer                                                     |
//! | `reports`  | asking every shard how it is                                       |
//! | `census`   | their answers put together                                         |
//! | `process`  | what the kernel says of the process and the machine                |
//! | `orders`   | what the API wants shards to do                                    |
//! | `push`     | the push channel: members, channels, messages                      |
//! | `settings` | the settings in force; everything here asks for them at each use   |

mod answer;
mod api;
mod census;
mod cluster;
mod events;
mod hooks;
mod metrics;
mod orders;
mod process;
mod push;
mod redis_link;
mod registry;
mod relays;
mod reports;
mod resources;
pub mod rooms;
mod run;
mod settings;

pub use api::{ApiListener, Serves};
pub use push::{MessageToJudge, PushCounters, Router};
pub use registry::{Outgoing, Registry, RegistryCounters, StreamEntry};
pub use run::{ControlEvent, ControlPlan, run};
pub use settings::CurrentSettings;
