use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

struct Bench {
    store: MemoryStore,
    now: Now,
    tokens: u64,
}

fn peer(number: u128) -> PeerId {
    PeerId::from_random(number << 80 | number)
}

impl Bench {
    fn new() -> Self {
        let now = Now { moment: Moment::ZERO + Duration::from_secs(10), unix_s: 1_700_000_000 };
        Self { store: MemoryStore::default(), now, tokens: 0 }
    }

    fn pass(&mut self, time: Duration) {
        self.now.moment = self.now.moment + time;
        self.now.unix_s += time.as_secs();
    }

    fn join_with(
        &mut self,
        who: PeerId,
        room: &str,
        resume: Option<&ResumeToken>,
        max_members: usize,
    ) -> (Result<Joined, RoomError>, ResumeToken, Vec<Delivery>) {
        self.tokens += 1;
        let token = ResumeToken(format!("token {}", self.tokens).into());
        let join = Join {
            peer: who,
            room: RoomKey::of(room),
            status: None,
            resume: resume.cloned(),
            next_token: token.clone(),
            max_members,
        };
        let mut out = Vec::new();
        match self.store.request(StoreRequest::Join(join), self.now, &mut out) {
            Reply::Joined(result) => (result, token, out),
            Reply::Done(_) => panic!("another request's answer"),
        }
    }

    fn join(&mut self, who: PeerId, room: &str) -> (Joined, Vec<Delivery>) {
        let (result, _, out) = self.join_with(who, room, None, 0);
        (result.unwrap(), out)
    }

    fn other(&mut self, request: StoreRequest) -> (Result<(), RoomError>, Vec<Delivery>) {
        let mut out = Vec::new();
        match self.store.request(request, self.now, &mut out) {
            Reply::Done(result) => (result, out),
            Reply::Joined(_) => panic!("another request's answer"),
        }
    }

    fn leave(&mut self, peer: PeerId, keep_s: u64) -> Vec<Delivery> {
        self.other(StoreRequest::Leave { peer, keep: Duration::from_secs(keep_s) }).1
    }
}

fn event(delivery: &Delivery) -> (PeerId, Value) {
    match delivery {
        Delivery::Text(to, text) => (*to, serde_json::from_str(text).unwrap()),
        Delivery::Superseded(to) => (*to, Value::Null),
    }
}

#[test]
fn members_hear_of_a_newcomer_and_the_newcomer_of_the_members() {
    let mut bench = Bench::new();
    assert_eq!(bench.join(peer(1), "r"), (Joined { own: peer(1), others: Vec::new() }, Vec::new()));
    let (joined, out) = bench.join(peer(2), "r");
    assert_eq!(joined.others, [Member { peer: peer(1), status: Status::default() }]);
    let expected = json!({"event": "new_peer", "peer_id": peer(2).to_string()});
    assert_eq!(out.iter().map(event).collect::<Vec<_>>(), [(peer(1), expected)]);
    let (result, _, out) = bench.join_with(peer(2), "r", None, 0);
    assert_eq!((result, out), (Err(RoomError::AlreadyJoined), Vec::new()));
}

#[test]
fn a_full_room_takes_nobody_but_who_comes_back() {
    let mut bench = Bench::new();
    let (_, token, _) = bench.join_with(peer(1), "r", None, 2);
    bench.join_with(peer(2), "r", None, 2).0.unwrap();
    assert_eq!(bench.join_with(peer(3), "r", None, 2).0, Err(RoomError::RoomFull));
    let (result, _, out) = bench.join_with(peer(4), "r", Some(&token), 2);
    assert_eq!(result.unwrap().own, peer(1), "by its old id");
    assert!(out.contains(&Delivery::Superseded(peer(1))));
}

#[test]
fn an_id_can_be_resumed_for_a_while_and_only_in_its_room() {
    let mut bench = Bench::new();
    bench.join(peer(9), "r");
    let (_, token, _) = bench.join_with(peer(1), "r", None, 0);
    assert_eq!(bench.leave(peer(1), 30).len(), 1, "the other is told at once");
    bench.pass(Duration::from_secs(29));
    assert_eq!(bench.join_with(peer(2), "another", Some(&token), 0).0.unwrap().own, peer(2));
    bench.leave(peer(2), 0);
    let (result, token, _) = bench.join_with(peer(3), "r", Some(&token), 0);
    assert_eq!(result.unwrap().own, peer(1));
    bench.leave(peer(1), 30);
    bench.pass(Duration::from_secs(31));
    assert_eq!(bench.join_with(peer(4), "r", Some(&token), 0).0.unwrap().own, peer(4));
}

#[test]
fn who_says_that_it_leaves_cannot_resume() {
    let mut bench = Bench::new();
    let (_, token, _) = bench.join_with(peer(1), "r", None, 0);
    bench.leave(peer(1), 0);
    assert_eq!(bench.join_with(peer(2), "r", Some(&token), 0).0.unwrap().own, peer(2));
    bench.leave(peer(2), 0);
    assert!(bench.store.tokens.is_empty() && bench.store.rooms.is_empty());
}

#[test]
fn texts_stay_in_the_room() {
    let mut bench = Bench::new();
    bench.join(peer(1), "r");
    bench.join(peer(2), "r");
    bench.join(peer(3), "another");
    let send = |from, to| StoreRequest::Send { from, to, text: "{}".to_owned() };
    let (result, out) = bench.other(send(peer(1), peer(2)));
    assert_eq!((result, out), (Ok(()), vec![Delivery::Text(peer(2), "{}".to_owned())]));
    assert_eq!(bench.other(send(peer(1), peer(1))).0, Ok(()), "to oneself is allowed");
    assert_eq!(bench.other(send(peer(1), peer(3))), (Err(RoomError::UnknownPeer), Vec::new()));
    assert_eq!(bench.other(send(peer(4), peer(1))), (Err(RoomError::NotInRoom), Vec::new()));
}

#[test]
fn a_status_reaches_all_and_who_comes_later_sees_all_of_it() {
    let mut bench = Bench::new();
    bench.join(peer(1), "r");
    bench.join(peer(2), "r");
    let named = Status { name: Some("Ada".to_owned()), user_agent: None };
    let (_, out) = bench.other(StoreRequest::UpdateStatus { peer: peer(1), status: named });
    let frame = json!({"event": "peer_updated_status", "status": {"name": "Ada"}, "sender_id": peer(1).to_string()});
    let told: HashSet<_> = out.iter().map(|delivery| event(delivery).0).collect();
    assert_eq!(told, HashSet::from([peer(1), peer(2)]));
    assert!(out.iter().all(|delivery| event(delivery).1 == frame));
    let agent = Status { name: None, user_agent: Some("chrome".to_owned()) };
    let (result, _) = bench.other(StoreRequest::UpdateStatus { peer: peer(1), status: agent });
    assert_eq!(result, Ok(()));
    let (joined, _) = bench.join(peer(3), "r");
    let status = &joined.others.iter().find(|member| member.peer == peer(1)).unwrap().status;
    assert_eq!(
        (status.name.as_deref(), status.user_agent.as_deref()),
        (Some("Ada"), Some("chrome"))
    );
}

/// The reference's cases: peaks {1:1}, {2:1}, {1:2,2:1}; minutes {0:1}, {0:2}.
#[test]
fn peaks_and_minutes_are_counted_by_the_hour() {
    let mut bench = Bench::new();
    let hour = bench.now.unix_s - bench.now.unix_s % 3_600;
    let counted = |bench: &Bench| bench.store.statistics().hours[&hour].clone();
    bench.join(peer(1), "a");
    bench.leave(peer(1), 0);
    assert_eq!(counted(&bench).room_peaks, BTreeMap::from([(1, 1)]));
    assert_eq!(counted(&bench).connection_time, BTreeMap::from([(0, 1)]));
    bench.join(peer(1), "b");
    bench.join(peer(2), "b");
    bench.pass(Duration::from_secs(61));
    bench.leave(peer(1), 0);
    bench.leave(peer(2), 0);
    bench.join(peer(1), "c");
    bench.leave(peer(1), 0);
    assert_eq!(counted(&bench).room_peaks, BTreeMap::from([(1, 2), (2, 1)]));
    assert_eq!(counted(&bench).connection_time, BTreeMap::from([(0, 2), (1, 2)]));
    let statistics = bench.store.statistics();
    assert_eq!((statistics.rooms_created, statistics.rooms_closed), (3, 3));
    assert_eq!((statistics.joined, statistics.left), (4, 4));
    assert_eq!(statistics.room_peak_members.counts[..2], [2, 1]);
    assert_eq!(statistics.room_duration_ms.sum, 61_000);
}

proptest! {
    /// Whatever peers do, everybody's picture of its room, drawn from what it was sent, is the room.
    #[test]
    fn what_members_were_told_is_what_is(
        steps in prop::collection::vec((0_u128..6, 0_u8..3, 0_u8..3, 0_u64..40), 1..200),
    ) {
        let mut bench = Bench::new();
        let mut seen: HashMap<PeerId, HashSet<PeerId>> = HashMap::new();
        let mut last: HashMap<u128, (ResumeToken, PeerId)> = HashMap::new();
        let mut ids: HashMap<u128, PeerId> = HashMap::new();
        for (who, what, room, wait) in steps {
            bench.pass(Duration::from_secs(wait));
            let id = *ids.entry(who).or_insert_with(|| peer(who));
            let out = match what {
                0 => {
                    let resume = last.get(&who).map(|(token, _)| token.clone());
                    let name = ["a", "b", "c"][usize::from(room)];
                    let (result, token, out) = bench.join_with(id, name, resume.as_ref(), 4);
                    if let Ok(joined) = result {
                        seen.insert(joined.own, joined.others.iter().map(|m| m.peer).collect());
                        ids.insert(who, joined.own);
                        last.insert(who, (token, joined.own));
                    }
                    out
                }
                _ => {
                    seen.remove(&id);
                    bench.leave(id, if what == 1 { 0 } else { 30 })
                }
            };
            for delivery in &out {
                let (to, frame) = event(delivery);
                let picture = seen.get_mut(&to).expect("only members are told");
                let of = |key: &str| PeerId::parse(frame[key].as_str().unwrap()).unwrap();
                match frame["event"].as_str() {
                    Some("new_peer") => prop_assert!(picture.insert(of("peer_id"))),
                    Some("peer_left") => prop_assert!(picture.remove(&of("sender_id"))),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            for (key, room) in &bench.store.rooms {
                prop_assert!(!room.members.is_empty() && room.members.len() <= 4);
                for member in room.members.keys() {
                    let mut picture = seen[member].clone();
                    picture.insert(*member);
                    let real: HashSet<_> = room.members.keys().copied().collect();
                    prop_assert_eq!(&picture, &real);
                    prop_assert_eq!(&bench.store.members[member].room, key);
                }
            }
            prop_assert!(bench.store.tokens.len() <= bench.store.members.len() + bench.store.kept.len());
        }
    }
}
