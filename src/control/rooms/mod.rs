//! WebRTC rooms: browsers meet, and pass each other offers, answers and candidates.
//!
//! | file      | subject                                                     |
//! |-----------|-------------------------------------------------------------|
//! | `request` | what a client asks: the form of its messages                |
//! | `status`  | what a member says of itself                                |
//! | `error`   | what goes wrong, and how the client is told                 |
//! | `turn`    | credentials for a TURN server                               |

mod error;
mod request;
mod status;
mod turn;

pub use error::RoomError;
pub use request::{Request, RoomKey, forwarded, parse};
pub use status::Status;
pub use turn::TurnCredentials;
