//! WebRTC rooms: browsers meet, and pass each other offers, answers and candidates.
//!
//! | file      | subject                                                     |
//! |-----------|-------------------------------------------------------------|
//! | `request` | what a client asks: the form of its messages                |
//! | `peer`    | who a member is                                             |
//! | `status`  | what a member says of itself                                |
//! | `error`   | what goes wrong, and how the client is told                 |
//! | `events`  | the frames that the server says of itself                   |
//! | `front`   | the node's connections: what each may do and is sent          |
//! | `store`   | what is asked of where memberships are kept                 |
//! | `memory`  | memberships in the memory of the process                    |
//! | `statistics` | what is counted                                          |
//! | `turn`    | credentials for a TURN server                               |

mod error;
mod events;
mod front;
mod memory;
mod peer;
mod request;
mod statistics;
mod status;
mod store;
mod turn;

pub use error::RoomError;
pub use front::{
    CLOSE_SHUTDOWN, CLOSE_SUPERSEDED, Effect, Front, FrontCounters, GateQuestion, RoomRules,
};
pub use memory::{MemoryStore, Now};
pub use peer::PeerId;
pub use request::{Request, RoomKey, forwarded, parse};
pub use status::Status;
pub use store::{Delivery, Join, Joined, Member, Reply, ResumeToken, StoreRequest};
pub use turn::TurnCredentials;
