//! The rules of leases in virtual time: single stories, and three nodes with a model of Redis under random
//! delays, losses and restarts.

use proptest::prelude::*;

use super::*;

const LEASE: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_secs(5);

fn name(number: usize) -> StreamName {
    StreamName::new("__defaultVhost__", "live", "", &format!("s{number}")).unwrap()
}

fn peer() -> SocketAddr {
    "192.0.2.1:1000".parse().unwrap()
}

fn at(ms: u64) -> Moment {
    Moment::ZERO + Duration::from_secs(1_000) + Duration::from_millis(ms)
}

fn other(epoch: u64) -> Owner {
    Owner { node: "b".to_owned(), address: "rtmp://b".to_owned(), epoch }
}

fn up() -> Leases<u32> {
    let mut leases = Leases::new(LEASE);
    leases.up(at(0));
    leases
}

/// A publisher of `s0` that has the lease of number 7, asked for at 0 ms.
fn owning() -> Leases<u32> {
    let mut leases = up();
    leases.want(&name(0), 1, peer(), PATIENCE, at(0));
    assert_eq!(leases.take_round(at(0)).1.len(), 1);
    leases.answered(&name(0), Answer::Held(7), at(0), at(100));
    assert_eq!(leases.take_effects(), [Effect::Grant { asker: 1, is_takeover: false }]);
    leases.settled(1, |_| true);
    leases
}

#[test]
fn a_lease_ends_by_the_clock_of_its_holder_and_is_renewed_before() {
    let mut leases = owning();
    assert_eq!(leases.epoch(&name(0), at(5_939)), Some(7));
    assert_eq!(leases.epoch(&name(0), at(5_940)), None, "counted from when the question was sent");
    assert!(!leases.is_due(at(1_999)) && leases.is_due(at(2_000)));
    let (_, claims) = leases.take_round(at(2_000));
    assert_eq!(claims, [Claim { name: name(0), epoch: 7, is_valid: true }]);
    leases.answered(&name(0), Answer::Held(7), at(2_000), at(2_001));
    assert_eq!(leases.epoch(&name(0), at(7_939)), Some(7));
    assert_eq!(leases.take_effects(), []);
}

#[test]
fn without_redis_a_stream_goes_on_without_a_lease_and_takes_it_again() {
    let mut leases = owning();
    leases.down();
    leases.want(&name(1), 2, peer(), PATIENCE, at(1_000));
    let grant = Effect::Grant { asker: 2, is_takeover: false };
    assert_eq!(leases.take_effects(), [grant, Effect::Unleased(name(1))]);
    assert!(!leases.is_due(at(5_000)));
    assert!(leases.next_deadline().unwrap() <= at(5_940));
    leases.tick(at(5_940));
    assert_eq!(leases.take_effects(), [Effect::Unleased(name(0))]);
    leases.up(at(30_000));
    let (_, claims) = leases.take_round(at(30_000));
    let expected = [(0, 7), (1, 0)].map(|(number, epoch)| Claim {
        name: name(number),
        epoch,
        is_valid: false,
    });
    assert_eq!(claims, expected);
    leases.answered(&name(0), Answer::Held(20), at(30_000), at(30_001));
    leases.answered(&name(1), Answer::Other(other(19), LEASE), at(30_000), at(30_001));
    let fenced = Effect::Fenced { name: name(1), owner: other(19) };
    assert_eq!(leases.take_effects(), [Effect::Leased(name(0)), fenced]);
    assert_eq!(leases.epoch(&name(0), at(30_001)), Some(20));
}

#[test]
fn the_owner_is_asked_once_and_its_word_holds() {
    for (word, expected) in [
        (Ok(()), Effect::Grant { asker: 1, is_takeover: true }),
        (Err("it is live".to_owned()), Effect::Refuse { asker: 1, why: "it is live".to_owned() }),
    ] {
        let mut leases = up();
        leases.want(&name(0), 1, peer(), PATIENCE, at(0));
        leases.take_round(at(0));
        leases.answered(&name(0), Answer::Other(other(5), LEASE), at(0), at(1));
        let contest = Effect::Contest { id: 1, name: name(0), owner: other(5), peer: peer() };
        assert_eq!(leases.take_effects(), [contest]);
        assert!(!leases.is_due(at(1)));
        leases.contest_answered(1, word);
        if leases.is_due(at(2)) {
            leases.take_round(at(2));
            leases.answered(&name(0), Answer::Held(6), at(2), at(3));
        }
        assert_eq!(leases.take_effects(), [expected]);
    }
}

#[test]
fn the_name_of_a_dead_node_is_free_when_its_lease_ends() {
    for is_heard in [false, true] {
        let mut leases = up();
        leases.want(&name(0), 1, peer(), PATIENCE, at(0));
        leases.take_round(at(0));
        let left = Duration::from_millis(4_500);
        leases.answered(&name(0), Answer::Other(other(5), left), at(0), at(10));
        leases.take_effects();
        // A host that lost its power still counts as a listener for a while.
        if !is_heard {
            leases.contest_unheard(1);
        }
        let mut now = at(10);
        while !leases.is_due(now) {
            let next = leases.next_deadline().unwrap();
            // Renewals are due, and there is nothing to renew.
            now = next.max(now + Duration::from_millis(1));
            leases.tick(now);
            if leases.take_round(now).1.is_empty() { continue } else { break }
        }
        let waited = now.since(at(0));
        let expected = if is_heard { 5_010..5_100 } else { 4_530..4_600 };
        assert!(expected.contains(&(waited.as_millis() as u64)), "{waited:?}");
        leases.answered(&name(0), Answer::Held(6), now, now);
        assert_eq!(leases.take_effects(), [Effect::Grant { asker: 1, is_takeover: false }]);
    }
}

#[test]
fn an_owner_that_renews_and_says_nothing_keeps_the_name() {
    let mut leases = up();
    leases.want(&name(0), 1, peer(), PATIENCE, at(0));
    leases.take_round(at(0));
    leases.answered(&name(0), Answer::Other(other(5), LEASE), at(0), at(0));
    leases.take_effects();
    leases.tick(at(5_000));
    leases.tick(at(6_020));
    assert_eq!(leases.take_round(at(6_020)).1.len(), 1);
    leases.answered(&name(0), Answer::Other(other(5), LEASE), at(6_020), at(6_021));
    let [Effect::Refuse { asker: 1, why }] = &leases.take_effects()[..] else { panic!("refused") };
    assert!(why.contains("node b"), "{why}");
    assert_eq!(leases.next_deadline(), None);
}

#[test]
fn nobody_waits_for_ever() {
    let mut leases = up();
    leases.want(&name(0), 1, peer(), PATIENCE, at(0));
    leases.want(&name(0), 2, peer(), PATIENCE, at(0));
    let effects = leases.take_effects();
    assert!(matches!(effects[..], [Effect::Refuse { asker: 2, .. }]), "one at a time");
    leases.take_round(at(0));
    leases.tick(at(16_999));
    assert_eq!(leases.take_effects(), []);
    leases.tick(at(17_000));
    assert!(matches!(leases.take_effects()[..], [Effect::Refuse { asker: 1, .. }]));
    // The answer that comes after all is followed by a release.
    leases.answered(&name(0), Answer::Held(9), at(0), at(17_001));
    assert_eq!(leases.take_round(at(17_001)), (vec![(name(0), 9)], vec![]));
}

#[test]
fn a_name_is_given_back_when_nobody_publishes_it() {
    let mut leases = owning();
    leases.freed(&name(0));
    assert_eq!(leases.epoch(&name(0), at(200)), None, "before Redis knows");
    leases.want(&name(0), 2, peer(), PATIENCE, at(200));
    let (releases, claims) = leases.take_round(at(200));
    assert_eq!(releases, [(name(0), 7)]);
    assert_eq!(claims, [Claim { name: name(0), epoch: 0, is_valid: false }]);
    leases.withdrawn(2, |_| false);
    leases.answered(&name(0), Answer::Held(8), at(200), at(201));
    assert_eq!(leases.take_round(at(201)).0, [(name(0), 8)]);
    assert_eq!(leases.take_effects(), []);
}

#[test]
fn one_publisher_of_a_node_follows_another_under_the_same_lease() {
    let mut leases = owning();
    leases.want(&name(0), 2, peer(), PATIENCE, at(300));
    assert_eq!(leases.take_effects(), [Effect::Grant { asker: 2, is_takeover: false }]);
    assert_eq!(leases.epoch(&name(0), at(300)), Some(7));
    // Another node's word about an older ownership changes nothing.
    leases.announced(&name(0), &other(6));
    assert_eq!(leases.epoch(&name(0), at(300)), Some(7));
    leases.announced(&name(0), &other(8));
    assert_eq!(leases.epoch(&name(0), at(300)), None);
    let fenced = Effect::Fenced { name: name(0), owner: other(8) };
    assert_eq!(leases.take_effects(), [fenced]);
}

#[test]
fn a_refused_rival_takes_nothing_from_the_publisher() {
    let mut leases = Leases::new(LEASE);
    for asker in [1, 2] {
        leases.want(&name(0), asker, peer(), PATIENCE, at(0));
    }
    let grant = |asker| Effect::Grant { asker, is_takeover: false };
    assert_eq!(leases.take_effects(), [grant(1), Effect::Unleased(name(0)), grant(2)]);
    // Before it is known who of them publishes, the name is not given away.
    leases.disowned(&name(0), 5);
    assert!(leases.is_awaited(&name(0)));
    leases.settled(1, |_| true);
    leases.settled(2, |_| true);
    assert!(!leases.is_awaited(&name(0)));
    leases.up(at(100));
    let claim = Claim { name: name(0), epoch: 0, is_valid: false };
    assert_eq!(leases.take_round(at(100)), (vec![], vec![claim]));
    leases.answered(&name(0), Answer::Held(7), at(100), at(101));
    assert_eq!(leases.take_effects(), [Effect::Leased(name(0))]);
    // One who goes away before it has begun, either.
    leases.want(&name(0), 3, peer(), PATIENCE, at(200));
    leases.withdrawn(3, |_| true);
    assert_eq!(leases.epoch(&name(0), at(200)), Some(7));
    leases.want(&name(0), 4, peer(), PATIENCE, at(300));
    leases.freed(&name(0));
    assert_eq!(leases.take_round(at(300)).0, [], "somebody is about to publish it");
    leases.withdrawn(4, |_| false);
    assert_eq!(leases.take_round(at(300)).0, [(name(0), 7)]);
}

#[test]
fn who_begins_when_another_node_has_taken_the_name_is_fenced() {
    let mut leases = up();
    leases.want(&name(0), 1, peer(), PATIENCE, at(0));
    leases.take_round(at(0));
    leases.answered(&name(0), Answer::Held(7), at(0), at(1));
    leases.announced(&name(0), &other(8));
    let fenced = |epoch| Effect::Fenced { name: name(0), owner: other(epoch) };
    assert_eq!(leases.take_effects(), [Effect::Grant { asker: 1, is_takeover: false }, fenced(8)]);
    leases.want(&name(0), 2, peer(), PATIENCE, at(2));
    leases.settled(1, |_| true);
    let effects = leases.take_effects();
    assert!(matches!(effects[0], Effect::Refuse { asker: 2, .. }), "{effects:?}");
    assert_eq!(effects[1..], [Effect::Unleased(name(0))]);
    assert!(leases.is_due(at(2)));
    assert_eq!(leases.take_round(at(2)).1.len(), 1);
    leases.answered(&name(0), Answer::Other(other(8), LEASE), at(2), at(3));
    assert_eq!(leases.take_effects(), [fenced(8)]);
}

/// What the scripts do.
struct Redis {
    run: u64,
    keys: BTreeMap<StreamName, (usize, u64, Moment)>,
    epoch: u64,
    quarantine: Moment,
}

impl Redis {
    fn execute(&mut self, node: usize, round: &Round, now: Moment) -> Vec<Answer> {
        self.keys.retain(|_, (_, _, until)| *until > now);
        for (name, epoch) in &round.releases {
            if self.keys.get(name).is_some_and(|it| (it.0, it.1) == (node, *epoch)) {
                self.keys.remove(name);
            }
        }
        let mut answers = Vec::new();
        for Claim { name, epoch, is_valid } in &round.claims {
            let answer = match self.keys.get_mut(name) {
                Some((owner, its, until)) if *owner == node && its == epoch => {
                    *until = now + LEASE;
                    Answer::Held(*its)
                }
                Some((owner, its, until)) if *owner != node && !(*is_valid && *epoch > *its) => {
                    let (node, address) = (owner.to_string(), String::new());
                    Answer::Other(Owner { node, address, epoch: *its }, until.since(now))
                }
                None if !is_valid && self.quarantine > now => {
                    Answer::Quarantine(self.quarantine.since(now))
                }
                _ => {
                    self.epoch += 1;
                    self.keys.insert(name.clone(), (node, self.epoch, now + LEASE));
                    Answer::Held(self.epoch)
                }
            };
            answers.push(answer);
        }
        answers
    }

    /// It starts anew, with what it had `kept` on disk or without. The first node to come begins the
    /// quarantine.
    fn restart(&mut self, kept: Option<BTreeMap<StreamName, (usize, u64, Moment)>>, now: Moment) {
        self.run += 1;
        self.keys = kept.unwrap_or_default();
        self.epoch += 1_000;
        self.quarantine = now + LEASE;
    }
}

#[derive(Clone, Debug)]
struct Round {
    run: u64,
    sent: Moment,
    releases: Vec<(StreamName, u64)>,
    claims: Vec<Claim>,
    says: Vec<Said>,
    answers: Option<Vec<Answer>>,
}

#[derive(Clone, Debug)]
enum Said {
    Contest { to: usize, from: usize, id: u64, name: StreamName, epoch: u64 },
    Answer { to: usize, id: u64, word: Result<(), String> },
}

struct Node {
    /// Unlike any before: a node that starts anew is another one.
    id: usize,
    leases: Leases<u64>,
    run: Option<u64>,
    round: Option<Round>,
    publishers: Vec<bool>,
    /// Who was granted a name, and has not heard so.
    granted: Vec<u64>,
    says: Vec<Said>,
    /// Its clock runs so many thousandths slower or faster.
    rate: i64,
}

struct World {
    now_us: u64,
    redis: Redis,
    nodes: Vec<Node>,
    next_id: usize,
    next_asker: u64,
    /// Rounds of connections that were given up, and may be executed yet.
    late: Vec<(usize, Round)>,
    said: Vec<Said>,
    /// What Redis has on its disk.
    disk: BTreeMap<StreamName, (usize, u64, Moment)>,
    owners: BTreeMap<u64, usize>,
}

const NAMES: usize = 2;

impl World {
    fn new(rates: &[i64]) -> Self {
        let redis = Redis { run: 1, keys: BTreeMap::new(), epoch: 0, quarantine: Moment::ZERO };
        let mut world = Self {
            now_us: 1_000_000_000,
            redis,
            nodes: Vec::new(),
            next_id: 0,
            next_asker: 0,
            late: Vec::new(),
            said: Vec::new(),
            disk: BTreeMap::new(),
            owners: BTreeMap::new(),
        };
        for rate in rates {
            let node = world.fresh(*rate);
            world.nodes.push(node);
        }
        world
    }

    fn fresh(&mut self, rate: i64) -> Node {
        self.next_id += 1;
        let leases = Leases::new(LEASE);
        let (publishers, granted) = (vec![false; NAMES], Vec::new());
        let id = self.next_id;
        Node { id, leases, run: None, round: None, publishers, granted, says: vec![], rate }
    }

    fn redis_now(&self) -> Moment {
        Moment::from_nanos(self.now_us * 1_000)
    }

    fn now_of(&self, node: usize) -> Moment {
        let us = self.now_us as i64;
        Moment::from_nanos((us + us * self.nodes[node].rate / 1_000) as u64 * 1_000)
    }

    fn step(&mut self, (op, node, arg): (u8, usize, u64)) {
        let number = arg as usize % NAMES;
        let now = self.now_of(node);
        let redis_now = self.redis_now();
        match op {
            0 => {
                self.now_us += arg * 1_000;
                for node in 0..self.nodes.len() {
                    let now = self.now_of(node);
                    self.nodes[node].leases.tick(now);
                }
            }
            1 => {
                // Often two at once. While one publishes, the registry asks for nobody.
                for _ in 0..1 + arg % 2 {
                    if !self.nodes[node].publishers[number] {
                        self.next_asker += 1;
                        let asker = self.next_asker * NAMES as u64 + number as u64;
                        self.nodes[node].leases.want(&name(number), asker, peer(), PATIENCE, now);
                    }
                }
            }
            2 => {
                if std::mem::take(&mut self.nodes[node].publishers[number]) {
                    self.nodes[node].leases.freed(&name(number));
                }
            }
            3 | 4 => {
                let it = &mut self.nodes[node];
                if let (Some(run), None) = (it.run, &it.round) {
                    let (releases, claims) = it.leases.take_round(now);
                    let says = std::mem::take(&mut it.says);
                    let answers = None;
                    it.round = Some(Round { run, sent: now, releases, claims, says, answers });
                }
            }
            5 | 6 => {
                let id = self.nodes[node].id;
                let Some(round) = &mut self.nodes[node].round else { return };
                if round.answers.is_none() && round.run == self.redis.run {
                    round.answers = Some(self.redis.execute(id, round, redis_now));
                    let says = std::mem::take(&mut round.says);
                    self.say(says);
                }
            }
            7 | 8 => {
                let it = &mut self.nodes[node];
                if let Some(round) = it.round.take_if(|round| round.answers.is_some()) {
                    for (claim, answer) in round.claims.iter().zip(round.answers.unwrap()) {
                        it.leases.answered(&claim.name, answer, round.sent, now);
                    }
                }
            }
            9 => {
                let it = &mut self.nodes[node];
                if it.run.take().is_some() {
                    it.leases.down();
                    it.says.clear();
                    if let Some(round) = it.round.take() {
                        self.late.push((it.id, round));
                    }
                }
            }
            10 | 11 => {
                let it = &mut self.nodes[node];
                if it.run.is_none() {
                    it.run = Some(self.redis.run);
                    it.leases.up(now);
                }
            }
            12 => {
                if !self.late.is_empty() {
                    let (id, round) = self.late.remove(arg as usize % self.late.len());
                    if round.answers.is_none() && round.run == self.redis.run {
                        self.redis.execute(id, &round, redis_now);
                    }
                }
            }
            13 => {
                let kept = arg.is_multiple_of(2).then(|| self.disk.clone());
                self.redis.restart(kept, redis_now);
            }
            14 => {
                let rate = self.nodes[node].rate;
                if let Some(round) = self.nodes[node].round.take() {
                    self.late.push((self.nodes[node].id, round));
                }
                self.nodes[node] = self.fresh(rate);
            }
            15 | 16 => {
                if !self.said.is_empty() {
                    let said = self.said.remove(0);
                    self.hear(said, arg);
                }
            }
            17 => self.disk = self.redis.keys.clone(),
            _ => {
                let it = &mut self.nodes[node];
                if !it.granted.is_empty() {
                    let asker = it.granted.remove(arg as usize / 4 % it.granted.len());
                    // It begins, if nobody was faster, or is refused, or goes away.
                    it.publishers[asker as usize % NAMES] |= arg % 4 < 2;
                    let is_published = it.publishers[asker as usize % NAMES];
                    if arg % 4 == 2 {
                        it.leases.withdrawn(asker, |_| is_published);
                    } else {
                        it.leases.settled(asker, |_| is_published);
                    }
                }
            }
        }
        self.carry_out();
    }

    fn say(&mut self, says: Vec<Said>) {
        for said in says {
            let is_heard = |id: usize| {
                self.nodes.iter().any(|it| it.id == id && it.run == Some(self.redis.run))
            };
            match &said {
                Said::Contest { to, from, id, .. } if !is_heard(*to) => {
                    let (from, id) = (*from, *id);
                    if let Some(it) = self.nodes.iter_mut().find(|it| it.id == from) {
                        it.leases.contest_unheard(id);
                    }
                }
                Said::Contest { .. } => self.said.push(said),
                Said::Answer { .. } => self.said.push(said),
            }
        }
    }

    fn hear(&mut self, said: Said, arg: u64) {
        match said {
            // Lost on the way.
            _ if arg.is_multiple_of(7) => {}
            Said::Contest { to, from, id, name: of, epoch } => {
                let Some(it) = self.nodes.iter_mut().find(|it| it.id == to) else { return };
                let number = usize::from(of != name(0));
                let is_live = it.publishers[number] && arg.is_multiple_of(2);
                let is_awaited = !it.publishers[number] && it.leases.is_awaited(&of);
                let word = if is_live || is_awaited {
                    Err("it is live".to_owned())
                } else {
                    if std::mem::take(&mut it.publishers[number]) {
                        it.leases.freed(&of);
                    } else {
                        it.leases.disowned(&of, epoch);
                    }
                    Ok(())
                };
                it.says.push(Said::Answer { to: from, id, word });
            }
            Said::Answer { to, id, word } => {
                if let Some(it) = self.nodes.iter_mut().find(|it| it.id == to) {
                    it.leases.contest_answered(id, word);
                }
            }
        }
    }

    fn carry_out(&mut self) {
        for it in &mut self.nodes {
            for effect in it.leases.take_effects() {
                match effect {
                    Effect::Grant { asker, .. } => it.granted.push(asker),
                    Effect::Contest { id, name, owner, .. } => it.says.push(Said::Contest {
                        to: owner.node.parse().unwrap(),
                        from: it.id,
                        id,
                        name,
                        epoch: owner.epoch,
                    }),
                    Effect::Fenced { name: of, .. } => {
                        it.publishers[usize::from(of != name(0))] = false;
                    }
                    Effect::Refuse { .. } | Effect::Unleased(_) | Effect::Leased(_) => {}
                }
            }
        }
    }

    /// What counts: nobody owns what another node owns, and what is published is accounted for.
    fn check(&mut self) -> Result<(), TestCaseError> {
        for number in 0..NAMES {
            let mut owners = Vec::new();
            for node in 0..self.nodes.len() {
                let it = &self.nodes[node];
                if let Some(epoch) = it.leases.epoch(&name(number), self.now_of(node)) {
                    owners.push((it.id, epoch));
                    let before = self.owners.insert(epoch, it.id);
                    prop_assert!(
                        before.is_none_or(|before| before == it.id),
                        "number {epoch} twice"
                    );
                }
            }
            prop_assert!(owners.len() <= 1, "s{number} has owners {owners:?}");
            for (node, it) in self.nodes.iter().enumerate() {
                let mut owned = it.leases.owned(self.now_of(node));
                let is_known = owned.any(|(of, _)| *of == name(number));
                prop_assert!(is_known || !it.publishers[number], "s{number} is in no account");
            }
        }
        Ok(())
    }

    /// Everything works again: whoever publishes has a lease in the end.
    fn settle(&mut self) {
        for _ in 0..400 {
            for node in 0..self.nodes.len() {
                if self.nodes[node].run.is_some_and(|run| run != self.redis.run) {
                    self.step((9, node, 0));
                }
                for op in [10, 3, 5, 7, 15, 18] {
                    self.step((op, node, 1));
                }
            }
            self.step((0, 0, 50));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_name_never_has_two_owners(
        rates in prop::collection::vec(-4_i64..=4, 3),
        steps in prop::collection::vec((0_u8..20, 0_usize..3, 0_u64..1_500), 1..400),
    ) {
        let mut world = World::new(&rates);
        for node in 0..3 {
            world.step((10, node, 0));
        }
        for step in steps {
            world.step(step);
            world.check()?;
        }
        world.settle();
        world.check()?;
        for number in 0..NAMES {
            let publishes = world.nodes.iter().filter(|it| it.publishers[number]).count();
            let leased = (0..3).filter(|node| {
                let epoch = world.nodes[*node].leases.epoch(&name(number), world.now_of(*node));
                epoch.is_some()
            });
            prop_assert!(publishes <= 1, "s{number} is published on {publishes} nodes");
            prop_assert_eq!(leased.count(), publishes);
        }
    }
}
