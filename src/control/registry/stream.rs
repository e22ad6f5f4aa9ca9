//! What the registry knows of one stream: its publisher, its viewers, and who wants to publish it instead.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::Outgoing;
use crate::config::AppSettings;
use crate::media::{Epoch, Moment, Resume, StreamId};
use crate::proto::name::StreamName;
use crate::session::{Ask, Audience, ClientInfo, Fetched, RelayWishes};
use crate::shard::{AskToken, Node, Notice};

/// Two take-overs of a name within this time by two addresses are a fight.
const FIGHT_WINDOW: Duration = Duration::from_secs(10);
/// For so long further take-overs of the name are refused.
pub(super) const FIGHT_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: StreamName,
    pub(super) settings: Arc<AppSettings>,
    pub(super) publisher: Option<Publisher>,
    /// Accepted plays per node, less those it has said good-bye for.
    pub(super) viewers: BTreeMap<Node, u64>,
    /// Viewers on all shards.
    pub(super) audience: Audience,
    pub(super) resume: Option<Resume>,
    /// Viewers were told of a publication and not yet of its end.
    pub(super) announced: bool,
    pub(super) gap_until: Option<Moment>,
    /// The last publication that ended was of a relay that fetched it.
    pub(super) was_fetched: bool,
    pub(super) contender: Option<Contender>,
    pub(super) takeovers: Vec<(Moment, IpAddr)>,
    pub(super) fight_until: Moment,
}

#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) node: Node,
    pub(super) epoch: Epoch,
    pub(super) client: Arc<ClientInfo>,
    pub(super) peer: SocketAddr,
    pub(super) wishes: Arc<RelayWishes>,
    pub(super) started: bool,
}

/// A second publisher that waits for the first to end or to prove alive.
#[derive(Debug)]
pub(super) struct Contender {
    pub(super) asker: Asker,
    /// Hooks have let it publish, or none is asked.
    pub(super) is_judged: bool,
    pub(super) phase: Phase,
    pub(super) deadline: Moment,
    /// It went when the first one had been told to end already.
    pub(super) is_gone: bool,
}

/// Who contends for a name.
#[derive(Debug)]
pub(super) enum Asker {
    /// A publisher of this node.
    Local(AskToken, Box<Ask>),
    /// One of another node of the cluster: it is told whether the name is given up.
    Remote(u64, SocketAddr),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The owner was asked how long its publisher has been silent; `last` is the final question.
    Probing { last: bool },
    /// The rest of the silence passes.
    Waiting { until: Moment },
    /// The owner was told to close its publisher.
    Replacing,
    /// A copy of what another node publishes makes room for a newer one, or for the publisher.
    Succeeding,
}

impl Asker {
    pub(super) fn peer(&self) -> SocketAddr {
        match self {
            Self::Local(_, ask) => ask.peer,
            Self::Remote(_, peer) => *peer,
        }
    }

    pub(super) fn is(&self, token: AskToken) -> bool {
        matches!(self, Self::Local(of, _) if *of == token)
    }
}

impl Publisher {
    /// What another node publishes is published here as a copy.
    pub(super) fn is_copy(&self) -> bool {
        self.client.fetched == Fetched::InCluster
    }
}

impl Stream {
    pub(super) fn new(name: StreamName, settings: Arc<AppSettings>) -> Self {
        Self {
            name,
            settings,
            publisher: None,
            viewers: BTreeMap::new(),
            audience: Audience::default(),
            resume: None,
            announced: false,
            gap_until: None,
            was_fetched: false,
            contender: None,
            takeovers: Vec::new(),
            fight_until: Moment::ZERO,
        }
    }

    /// Whether somebody views it that no client publishes here, and none is waited for.
    pub(super) fn is_for_others_to_publish(&self) -> bool {
        let is_free = match &self.publisher {
            Some(publisher) => publisher.client.fetched != Fetched::No,
            None => self.gap_until.is_none() || self.was_fetched,
        };
        is_free && !self.viewers.is_empty()
    }

    /// The stream is over for those who watch. Says whether they had been told of it.
    pub(super) fn tell_end(&mut self, id: StreamId, out: &mut Outgoing) -> bool {
        self.gap_until = None;
        self.resume = None;
        let was_announced = std::mem::take(&mut self.announced);
        if was_announced {
            let notices = self.viewers.keys();
            out.extend(notices.map(|&node| (node, Notice::StreamDown { stream: id })));
        }
        was_announced
    }

    /// A publisher has taken the name from another one.
    pub(super) fn taken_over(&mut self, by: IpAddr, now: Moment) {
        self.forget_old_takeovers(now);
        self.takeovers.push((now, by));
    }

    fn forget_old_takeovers(&mut self, now: Moment) {
        self.takeovers.retain(|(at, _)| now.since(*at) <= FIGHT_WINDOW);
    }

    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let contender = self.contender.as_ref().map(|contender| match contender.phase {
            Phase::Waiting { until } => until.min(contender.deadline),
            _ => contender.deadline,
        });
        [self.gap_until, contender].into_iter().flatten().min()
    }

    /// Whether the last two take-overs were a fight, or one is going on.
    pub(super) fn is_fight(&mut self, now: Moment) -> bool {
        if now < self.fight_until {
            return true;
        }
        self.forget_old_takeovers(now);
        let addresses: HashSet<IpAddr> = self.takeovers.iter().map(|(_, by)| *by).collect();
        let fight = self.takeovers.len() >= 2 && addresses.len() >= 2;
        if fight {
            self.fight_until = now + FIGHT_PAUSE;
        }
        fight
    }
}
