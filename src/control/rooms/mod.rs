//! WebRTC rooms: browsers meet, and pass each other offers, answers and candidates.
//!
//! | file         | subject                                                     |
//! |--------------|-------------------------------------------------------------|
//! | `service`    | the rooms of this node: front and store, carried out        |
//! | `front`      | the node's connections: what each may do and is sent        |
//! | `events`     | the frames that the server says of itself                   |
//! | `store`      | what is asked of where memberships are kept                 |
//! | `memory`     | memberships in the memory of the process                    |
//! | `shared`     | memberships in Redis                                        |
//! | `statistics` | what is counted                                             |
//! | `turn`       | credentials for a TURN server                               |
//!
//! The form of messages is in [`proto::palava`](crate::proto::palava).

mod events;
mod front;
mod memory;
mod service;
mod shared;
mod statistics;
mod store;
mod turn;

pub use front::{
    CLOSE_SHUTDOWN, CLOSE_SUPERSEDED, Effect, Front, FrontCounters, Present, RoomRules,
};
pub use memory::MemoryStore;
pub use service::{RoomConnection, Rooms};
pub use statistics::{Buckets, Hour, Statistics};
pub use store::{Delivery, Join, Joined, Member, Now, Reply, ResumeToken, StoreRequest};
pub use turn::TurnCredentials;
