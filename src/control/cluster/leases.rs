//! Which streams this node owns. No I/O and no clock; what Redis said goes in, what to ask it comes out.
//!
//! What must hold, whatever is delayed, lost or restarted:
//! - Of all nodes at most one has a lease of a name that has not run out by its own clock. So the end of a
//!   lease is counted from before the question was sent, less a margin for clocks that run unequally.
//! - Whoever gives a name away stops being its owner before Redis hears of it.
//! - A name that this node does not publish is not left leased: an answer that nobody awaits any more is
//!   followed by a release.
//! - Whatever this node publishes has its entry here, so that it is renewed, told to be unleased, and fenced:
//!   of two publishers who were granted one name, the one who loses takes nothing from the other.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::SocketAddr;
use std::time::Duration;

use crate::media::Moment;
use crate::proto::name::StreamName;

/// Clocks of two machines may run this much faster or slower than each other: 1/100.
const DRIFT: u32 = 100;
/// After the end of another's lease Redis is asked this much later.
const AFTER_LEASE: Duration = Duration::from_millis(20);

/// Who owns a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// The node's name.
    pub(super) node: String,
    /// Where other nodes fetch its streams: `rtmp://HOST:PORT`.
    pub(super) address: String,
    /// Number of the ownership: every one has a higher number than all before it.
    pub(super) epoch: u64,
}

/// A name that Redis is asked for: to take it, or to renew it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The name.
    pub(super) name: StreamName,
    /// The number of the lease that the node has, or had; 0 is none.
    pub(super) epoch: u64,
    /// That lease has not run out.
    pub(super) is_valid: bool,
}

/// What Redis says to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The node has the lease of this number.
    Held(u64),
    /// Another node has it, for so long if it does not renew it.
    Other(Owner, Duration),
    /// Redis may have forgotten leases: only those that are still valid are given, for so long.
    Quarantine(Duration),
}

/// What the rest of the node has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect<T> {
    /// The publisher may begin.
    Grant {
        /// Who asked.
        asker: T,
        /// The stream was given up by its owner for this one.
        is_takeover: bool,
    },
    /// It may not.
    Refuse {
        /// Who asked.
        asker: T,
        /// A sentence.
        why: String,
    },
    /// The owner is to be asked whether its publisher has to go.
    Contest {
        /// Number of the question.
        id: u64,
        /// The stream.
        name: StreamName,
        /// Whom to ask.
        owner: Owner,
        /// Address of the publisher that wants the name.
        peer: SocketAddr,
    },
    /// Another node owns the stream by now: the publisher here has to go.
    Fenced {
        /// The stream.
        name: StreamName,
        /// The owner.
        owner: Owner,
    },
    /// The node publishes the stream without owning it.
    Unleased(StreamName),
    /// Not any more: it owns it.
    Leased(StreamName),
}

/// A line of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Number of the newest lease; 0 when there has been none.
    pub(super) epoch: u64,
    /// How long it lasts; zero when the stream is unleased.
    pub(super) left: Duration,
}

/// The names of this node.
#[derive(Debug)]
pub(super) struct Leases<T> {
    lease: Duration,
    names: BTreeMap<StreamName, Entry<T>>,
    /// Who may begin, and has not heard so yet. There may be several for one name: the registry chooses.
    granted: HashMap<T, StreamName>,
    /// Leases to give back, by number: what was sent long ago and comes late does no harm.
    releases: BTreeMap<StreamName, u64>,
    is_up: bool,
    /// Some name waits to be asked for.
    has_asks: bool,
    next_renewal: Moment,
    /// No name has anything to do before; perhaps later.
    next_tick: Moment,
    next_contest: u64,
    effects: Vec<Effect<T>>,
}

#[derive(Debug)]
enum Entry<T> {
    Waiting(Waiting<T>),
    Owned(Owned),
}

/// A publisher that waits for the name.
#[derive(Debug)]
struct Waiting<T> {
    asker: T,
    peer: SocketAddr,
    /// How long the owner may take for its answer.
    patience: Duration,
    deadline: Moment,
    step: Step,
    contest: Option<Contest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Redis is to be asked with the next round.
    Ask,
    /// It has been.
    Asked,
    /// The owner has been.
    Contesting { until: Moment },
    /// It is to be asked then.
    Later(Moment),
}

#[derive(Debug)]
struct Contest {
    id: u64,
    owner: Owner,
    /// When the owner's lease ends if it is not renewed.
    lease_ends: Moment,
    has_yielded: bool,
}

/// A name with a publisher of this node.
#[derive(Debug)]
struct Owned {
    /// 0 is none yet.
    epoch: u64,
    /// By this node's clock.
    until: Moment,
    is_told_unleased: bool,
}

impl<T> Entry<T> {
    fn next_deadline(&self) -> Option<Moment> {
        match self {
            Self::Waiting(waiting) => Some(match waiting.step {
                Step::Contesting { until } => until.min(waiting.deadline),
                Step::Later(at) => at.min(waiting.deadline),
                Step::Ask | Step::Asked => waiting.deadline,
            }),
            Self::Owned(owned) if owned.is_told_unleased => None,
            Self::Owned(owned) => Some(owned.until),
        }
    }
}

impl<T: Copy + Eq + Hash> Leases<T> {
    /// None yet, and Redis is not there.
    pub(super) fn new(lease: Duration) -> Self {
        Self {
            lease,
            names: BTreeMap::new(),
            granted: HashMap::new(),
            releases: BTreeMap::new(),
            is_up: false,
            has_asks: false,
            next_renewal: Moment::MAX,
            next_tick: Moment::MAX,
            next_contest: 1,
            effects: Vec::new(),
        }
    }

    /// What there is to do, in order.
    pub(super) fn take_effects(&mut self) -> Vec<Effect<T>> {
        std::mem::take(&mut self.effects)
    }

    /// A publisher wants the name, which nobody else publishes here. The answer is an effect; the owner,
    /// should there be another, may take `patience` for its word.
    pub(super) fn want(
        &mut self,
        name: &StreamName,
        asker: T,
        peer: SocketAddr,
        patience: Duration,
        now: Moment,
    ) {
        match self.names.get(name) {
            // One publisher of this node follows another.
            Some(Entry::Owned(_)) => self.grant(name, asker, false),
            Some(Entry::Waiting(_)) => {
                self.effects.push(Effect::Refuse { asker, why: about_to_be_published(name) });
            }
            None if !self.is_up => self.own_without_lease(name.clone(), asker),
            None => {
                let waiting = Waiting {
                    asker,
                    peer,
                    patience,
                    // Redis may be in quarantine first, and the owner gone then.
                    deadline: now + self.lease * 2 + patience,
                    step: Step::Ask,
                    contest: None,
                };
                self.has_asks = true;
                self.next_tick = self.next_tick.min(waiting.deadline);
                self.names.insert(name.clone(), Entry::Waiting(waiting));
            }
        }
    }

    fn grant(&mut self, name: &StreamName, asker: T, is_takeover: bool) {
        self.granted.insert(asker, name.clone());
        self.effects.push(Effect::Grant { asker, is_takeover });
    }

    fn own_without_lease(&mut self, name: StreamName, asker: T) {
        self.grant(&name, asker, false);
        self.adopt(name);
    }

    /// The name is published here without a lease, which is asked for with the next renewal.
    fn adopt(&mut self, name: StreamName) {
        self.effects.push(Effect::Unleased(name.clone()));
        let owned = Owned { epoch: 0, until: Moment::ZERO, is_told_unleased: true };
        self.names.insert(name, Entry::Owned(owned));
    }

    /// Whoever asked awaits no answer any more. `is_published` is whether this node publishes a name now.
    pub(super) fn withdrawn(&mut self, asker: T, is_published: impl FnOnce(&StreamName) -> bool) {
        // A lease that comes all the same finds nobody, and is given back.
        self.names.retain(|_, entry| !matches!(entry, Entry::Waiting(it) if it.asker == asker));
        self.settled(asker, is_published);
    }

    /// Whoever asked was answered, one way or the other. Of those who were granted the name one may publish
    /// it now: then it stays this node's, whatever the others were told.
    pub(super) fn settled(&mut self, asker: T, is_published: impl FnOnce(&StreamName) -> bool) {
        let Some(name) = self.granted.remove(&asker) else { return };
        if !is_published(&name) {
            return self.freed(&name);
        }
        // Another node has taken the name between the grant and the beginning: Redis is asked anew, and
        // fences this publisher if that is so still.
        match self.names.get(&name) {
            Some(Entry::Owned(_)) => return,
            Some(Entry::Waiting(_)) => self.refuse(&name, about_to_be_published(&name)),
            None => {}
        }
        self.adopt(name);
        self.next_renewal = Moment::ZERO;
    }

    /// Somebody was granted the name, and may begin any moment.
    pub(super) fn is_awaited(&self, name: &StreamName) -> bool {
        self.granted.values().any(|it| it == name)
    }

    /// This node publishes the name no longer. It stays its own for whoever was granted it.
    pub(super) fn freed(&mut self, name: &StreamName) {
        if self.is_awaited(name) {
            return;
        }
        if let Some(Entry::Owned(owned)) = self.names.get(name) {
            let epoch = owned.epoch;
            self.names.remove(name);
            // While Redis is away the lease ends by itself.
            if self.is_up {
                self.releases.insert(name.clone(), epoch);
            }
        }
    }

    /// Another node has found this lease of a name that this node does not publish.
    pub(super) fn disowned(&mut self, name: &StreamName, epoch: u64) {
        if let Some(Entry::Owned(_)) = self.names.get(name) {
            self.freed(name);
        } else {
            self.releases.insert(name.clone(), epoch);
        }
    }

    /// The number of a lease of this name that is valid now.
    pub(super) fn epoch(&self, name: &StreamName, now: Moment) -> Option<u64> {
        match self.names.get(name) {
            Some(Entry::Owned(owned)) if owned.until > now => Some(owned.epoch),
            _ => None,
        }
    }

    /// Redis answers from now on.
    pub(super) fn up(&mut self, now: Moment) {
        self.is_up = true;
        self.next_renewal = now;
    }

    /// Redis is away; what it was asked last may have been done or not.
    pub(super) fn down(&mut self) {
        self.is_up = false;
        let waiting = |(name, entry): (&StreamName, &Entry<T>)| match entry {
            Entry::Waiting(waiting) => {
                Some((name.clone(), waiting.asker, waiting.contest.is_some()))
            }
            Entry::Owned(_) => None,
        };
        for (name, asker, is_contested) in self.names.iter().filter_map(waiting).collect::<Vec<_>>()
        {
            if is_contested {
                // It is known to be published elsewhere.
                self.refuse(&name, format!("{name} is published on another node"));
            } else {
                self.own_without_lease(name, asker);
            }
        }
    }

    /// Whether Redis has to be asked something now.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        let renews = self.next_renewal <= now && !self.names.is_empty();
        self.is_up && (self.has_asks || renews || !self.releases.is_empty())
    }

    /// What Redis has to be asked now, releases first. The answers go to [`Leases::answered`].
    pub(super) fn take_round(&mut self, now: Moment) -> (Vec<(StreamName, u64)>, Vec<Claim>) {
        if !self.is_up {
            return (Vec::new(), Vec::new());
        }
        let renews = self.next_renewal <= now;
        if renews {
            self.next_renewal = now + self.lease / 3;
        }
        self.has_asks = false;
        let mut claims = Vec::new();
        for (name, entry) in &mut self.names {
            let (epoch, is_valid) = match entry {
                Entry::Waiting(waiting) if waiting.step == Step::Ask => {
                    waiting.step = Step::Asked;
                    (0, false)
                }
                Entry::Owned(owned) if renews => (owned.epoch, owned.until > now),
                _ => continue,
            };
            claims.push(Claim { name: name.clone(), epoch, is_valid });
        }
        (std::mem::take(&mut self.releases).into_iter().collect(), claims)
    }

    /// Redis has answered a claim of a round that was taken at `sent`.
    pub(super) fn answered(
        &mut self,
        name: &StreamName,
        answer: Answer,
        sent: Moment,
        now: Moment,
    ) {
        match (self.names.get_mut(name), answer) {
            (None, Answer::Held(epoch)) => {
                self.releases.insert(name.clone(), epoch);
            }
            (None, _) => {}
            (Some(Entry::Owned(owned)), Answer::Held(epoch)) => {
                owned.epoch = epoch;
                owned.until = sent + self.lease - self.lease / DRIFT;
                self.next_tick = self.next_tick.min(owned.until);
                if std::mem::take(&mut owned.is_told_unleased) {
                    self.effects.push(Effect::Leased(name.clone()));
                }
            }
            (Some(Entry::Owned(_)), Answer::Other(owner, _)) => {
                self.names.remove(name);
                self.effects.push(Effect::Fenced { name: name.clone(), owner });
            }
            (Some(Entry::Owned(_)), Answer::Quarantine(left)) => {
                self.next_renewal = self.next_renewal.min(now + left + AFTER_LEASE);
            }
            (Some(Entry::Waiting(waiting)), answer) if waiting.step == Step::Asked => {
                match answer {
                    Answer::Held(epoch) => {
                        let asker = waiting.asker;
                        let is_takeover = waiting.contest.as_ref().is_some_and(|it| it.has_yielded);
                        let until = sent + self.lease - self.lease / DRIFT;
                        let owned = Owned { epoch, until, is_told_unleased: false };
                        self.next_tick = self.next_tick.min(until);
                        self.names.insert(name.clone(), Entry::Owned(owned));
                        self.grant(name, asker, is_takeover);
                    }
                    Answer::Other(owner, left) => self.contest(name, owner, now + left, now),
                    Answer::Quarantine(left) => {
                        let at = now + left + AFTER_LEASE;
                        waiting.step = Step::Later(at);
                        self.next_tick = self.next_tick.min(at);
                    }
                }
            }
            // An earlier asker's question.
            (Some(Entry::Waiting(_)), Answer::Held(epoch)) => {
                self.releases.insert(name.clone(), epoch);
            }
            (Some(Entry::Waiting(_)), _) => {}
        }
    }

    /// The name is another's: its owner decides, once.
    fn contest(&mut self, name: &StreamName, owner: Owner, lease_ends: Moment, now: Moment) {
        let Some(Entry::Waiting(waiting)) = self.names.get_mut(name) else { return };
        if waiting.contest.is_some() {
            let why = format!("{name} is already published on node {}", owner.node);
            return self.refuse(name, why);
        }
        let id = self.next_contest;
        self.next_contest += 1;
        let until = now + waiting.patience;
        waiting.step = Step::Contesting { until };
        self.next_tick = self.next_tick.min(until);
        let peer = waiting.peer;
        waiting.contest =
            Some(Contest { id, owner: owner.clone(), lease_ends, has_yielded: false });
        self.effects.push(Effect::Contest { id, name: name.clone(), owner, peer });
    }

    /// Nobody has heard the question: the owner is gone, or cut off, and its lease ends by itself.
    pub(super) fn contest_unheard(&mut self, id: u64) {
        if let Some((_, waiting)) = self.contested(id)
            && let Some(contest) = &waiting.contest
        {
            let at = contest.lease_ends + AFTER_LEASE;
            waiting.step = Step::Later(at);
            self.next_tick = self.next_tick.min(at);
        }
    }

    /// The owner has answered: it has given the name up, or says why not.
    pub(super) fn contest_answered(&mut self, id: u64, word: Result<(), String>) {
        let Some((name, waiting)) = self.contested(id) else { return };
        match word {
            Ok(()) => {
                waiting.step = Step::Ask;
                if let Some(contest) = &mut waiting.contest {
                    contest.has_yielded = true;
                }
                self.has_asks = true;
            }
            Err(why) => self.refuse(&name, why),
        }
    }

    fn contested(&mut self, id: u64) -> Option<(StreamName, &mut Waiting<T>)> {
        self.names.iter_mut().find_map(|(name, entry)| match entry {
            Entry::Waiting(waiting)
                if matches!(waiting.step, Step::Contesting { .. })
                    && waiting.contest.as_ref().is_some_and(|contest| contest.id == id) =>
            {
                Some((name.clone(), waiting))
            }
            _ => None,
        })
    }

    fn refuse(&mut self, name: &StreamName, why: String) {
        if let Some(Entry::Waiting(waiting)) = self.names.remove(name) {
            self.effects.push(Effect::Refuse { asker: waiting.asker, why });
        }
    }

    /// Another node says that it owns the name.
    pub(super) fn announced(&mut self, name: &StreamName, owner: &Owner) {
        if let Some(Entry::Owned(owned)) = self.names.get(name)
            && owned.epoch < owner.epoch
        {
            self.names.remove(name);
            self.effects.push(Effect::Fenced { name: name.clone(), owner: owner.clone() });
        }
    }

    /// When [`Leases::tick`] has something to do, or a round is due.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        if self.names.is_empty() {
            return None;
        }
        let renewal = if self.is_up { self.next_renewal } else { Moment::MAX };
        Some(self.next_tick.min(renewal))
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Moment) {
        if self.next_tick > now {
            return;
        }
        let mut late = Vec::new();
        for (name, entry) in &mut self.names {
            match entry {
                Entry::Owned(owned) => {
                    if owned.until <= now && !owned.is_told_unleased {
                        owned.is_told_unleased = true;
                        self.effects.push(Effect::Unleased(name.clone()));
                    }
                }
                Entry::Waiting(waiting) if waiting.deadline <= now => late.push(name.clone()),
                Entry::Waiting(waiting) => match (waiting.step, &waiting.contest) {
                    // No answer; should it be dead, the lease ends.
                    (Step::Contesting { until }, Some(contest)) if until <= now => {
                        waiting.step = Step::Later(contest.lease_ends + AFTER_LEASE);
                    }
                    (Step::Later(at), _) if at <= now => {
                        waiting.step = Step::Ask;
                        self.has_asks = true;
                    }
                    _ => {}
                },
            }
        }
        for name in late {
            let why = match self.names.get(&name) {
                Some(Entry::Waiting(Waiting { contest: Some(contest), .. })) => {
                    format!("{name} is already published on node {}", contest.owner.node)
                }
                _ => format!("nobody could say in time whether {name} is published elsewhere"),
            };
            self.refuse(&name, why);
        }
        let deadlines = self.names.values().filter_map(Entry::next_deadline);
        self.next_tick = deadlines.min().unwrap_or(Moment::MAX);
    }

    /// Whether something is to be given back yet.
    pub(super) fn has_releases(&self) -> bool {
        !self.releases.is_empty()
    }

    /// The names that this node publishes, each with its lease.
    pub(super) fn owned(&self, now: Moment) -> impl Iterator<Item = (&StreamName, Standing)> {
        self.names.iter().filter_map(move |(name, entry)| match entry {
            Entry::Owned(owned) => {
                Some((name, Standing { epoch: owned.epoch, left: owned.until.since(now) }))
            }
            Entry::Waiting(_) => None,
        })
    }
}

fn about_to_be_published(name: &StreamName) -> String {
    format!("{name} is about to be published by another client")
}

#[cfg(test)]
mod tests;
