//! palava's room protocol (contract signalling): one JSON object per WebSocket text.
//!
//! | file      | subject                                         |
//! |-----------|-------------------------------------------------|
//! | `request` | what a client asks: the form of its messages    |
//! | `peer`    | who a member is                                 |
//! | `status`  | what a member says of itself                    |
//! | `error`   | what goes wrong, and how the client is told     |

mod error;
mod peer;
mod request;
mod status;

pub use error::RoomError;
pub use peer::PeerId;
pub use request::{Request, RoomKey, forwarded, parse};
pub use status::Status;

/// The name of the protocol in `Sec-WebSocket-Protocol`; clients need not offer it.
pub const SUBPROTOCOL: &str = "palava.1.0";
