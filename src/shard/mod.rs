//! A media shard: one core, its connections, what they publish and view, and the turns it works in.
//!
//! A turn: take what other nodes sent, read every ready socket, hand at most one envelope to each other
//! node, send what is due. The shard's state belongs to one task, so nothing here is shared or locked.
//!
//! | file            | subject                                                              |
//! |-----------------|----------------------------------------------------------------------|
//! | `acceptor`      | the thread that hands connections to shards                           |
//! | `load`          | what the acceptor knows of the shards                                 |
//! | `run`           | the executor of a shard: turns and the waits between them             |
//! | `turn`          | one turn                                                             |
//! | `connections`   | a connection's life on the shard: bytes in, events, output, the end   |
//! | `newcomers`     | what those may cost who neither publish nor play                      |
//! | `ingest`        | how many publishers are read in a turn                                |
//! | `conns`         | the connection table                                                  |
//! | `handover`      | a viewer goes to the shard of its stream                              |
//! | `notices`       | what other nodes say, and what the shard does about it                |
//! | `publication`   | the owner's side of a stream                                          |
//! | `description`   | what a publisher sends, in words                                      |
//! | `viewers`       | the viewers' side of a stream                                         |
//! | `reception`     | what viewers want of it: tracks, pauses                                |
//! | `flush`         | the egress pass                                                       |
//! | `housekeeping`  | time-outs, looked at by and by                                        |
//! | `drain`         | the end of the shard                                                  |
//! | `messages`, `outbox`, `claim` | between nodes                                           |
//! | `survey`        | the shard's account of itself, drawn up over several turns            |
//! | `report`        | what such an account says                                             |
//! | `meter`, `histogram` | rates, and lengths of time, of what is counted                   |

mod acceptor;
mod claim;
mod connections;
mod conns;
mod description;
mod drain;
mod flush;
mod handover;
mod histogram;
mod housekeeping;
mod ingest;
mod load;
mod messages;
mod meter;
mod newcomers;
mod notices;
mod outbox;
mod pace;
mod publication;
mod push;
mod reception;
mod relays;
mod report;
mod run;
#[cfg(test)]
mod simulation;
mod survey;
#[cfg(test)]
mod testing;
mod turn;
mod viewers;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

pub use acceptor::{AcceptCounters, Acceptor, NewConnection, Protocol, ShardDoor};
pub use claim::{Claim, InRooms, Releases};
pub use conns::{Conn, ConnTable};
pub use description::{AudioInfo, MediaInfo, VideoInfo};
pub use flush::{DueLog, EgressCounters, Pass, Scope};
pub use handover::Handover;
pub use histogram::{BOUNDS_US, Histogram};
pub use load::{Seat, ShardLoad};
pub use messages::{
    AskToken, ConnKey, Envelope, InFlight, MediaBatch, Node, Notice, PushForms, PushMessage,
    Subscription,
};
pub use outbox::{Gap, MeshCounters, Outbox};
pub use publication::{Publication, PublicationCounters};
pub use push::PushDeliveries;
pub use reception::{Paused, Target};
pub use relays::NewRelay;
pub use report::{ClientReport, ClientStream, ProtocolBytes, ShardReport, StreamReport};
pub use run::{ShardPlan, run};
pub use survey::SurveyOrder;
pub use viewers::{Attached, LogState, ReceptionCounters, Viewer, ViewerStream};

use self::drain::Draining;
use crate::config::Settings;
use crate::logging::AccessLog;
use crate::media::{Moment, SegmentPool, StreamId};
use crate::rt::memory::Crowd;
use crate::rt::mesh::{Inbox, MeshEnd};
use crate::rt::poller::{Poller, Ready};
use crate::session::Event;
use handover::Departed;
use ingest::Ingest;
use newcomers::Newcomers;
use pace::{PassBudget, TurnPace};
use survey::Survey;

/// One media shard's state.
#[derive(Debug)]
pub struct Shard {
    index: usize,
    control: Node,
    settings: Arc<Settings>,
    mesh: MeshEnd<Box<Envelope>>,
    inbox: Inbox<NewConnection>,
    load: Arc<ShardLoad>,
    poller: Poller,
    ingest: Ingest,
    conns: ConnTable,
    publications: HashMap<StreamId, Publication>,
    viewers: HashMap<StreamId, ViewerStream>,
    members: push::Members,
    outbox: Outbox,
    releases: Releases,
    pool: SegmentPool,
    pass: Pass,
    /// Where reads go before the session takes the bytes.
    scratch: Box<[u8]>,
    ready: Vec<Ready>,
    events: Vec<Event>,
    newcomers: Newcomers,
    /// Connections with output to send.
    out_list: Vec<ConnKey>,
    /// Some of them have not had their turn yet, so that the next one begins at once.
    has_outputs_left: bool,
    /// Connections on their way out.
    closing: Vec<ConnKey>,
    /// Viewers that begin with the frame just appended.
    joined: Vec<(ConnKey, u32)>,
    gaps: Vec<Gap>,
    turn_min: Duration,
    turn_pace: TurnPace,
    /// The shard has paused since it last looked at its sockets: what has come may be as old as this.
    unseen_since: Option<Moment>,
    /// Holds stretch so that the CPU time of passes is at most three quarters of the time.
    pass_budget: PassBudget,
    /// The CPU time of this shard's thread.
    thread_cpu: fn() -> Duration,
    next_housekeeping: Moment,
    housekeeping_slot: usize,
    /// Of connections, whose memory is given back when most of them have gone.
    crowd: Crowd,
    last_subscription: Subscription,
    departed: Departed,
    seed: u64,
    access: Option<AccessLog>,
    /// Set when the shard comes to its end.
    draining: Option<Draining>,
    /// The account that is being drawn up, and the one that is to follow.
    survey: Option<Survey>,
    next_survey: Option<SurveyOrder>,
    counters: Counters,
}

/// Counts of a shard that no part of it keeps for itself.
#[derive(Debug)]
struct Counters {
    turns: u64,
    reads: u64,
    read_bytes: u64,
    by_protocol: ProtocolBytes,
    closed: BTreeMap<&'static str, u64>,
    /// Of publications that have ended.
    ended: PublicationCounters,
    /// How long the passes of a turn took, by the clock on the wall.
    flush_duration: Histogram,
    surveys: u64,
    /// Connections that came from other shards.
    handovers: u64,
    survey_pieces: u64,
    /// Messages of rooms' clients that came too fast, since the control shard was told.
    room_texts_dropped: u64,
    /// Of streams that nobody views here any more.
    reception: ReceptionCounters,
    /// Egress bytes at the last look, and when that was: for the load.
    egress_mark: (u64, Moment),
    /// Skips at the last line about them, and when that was.
    skips_logged: (u64, Moment),
}
