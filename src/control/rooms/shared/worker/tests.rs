use super::*;
use crate::rt::doorbell::Doorbell;
use crate::rt::mesh::{Inbox, inbox};
use crate::shard::ConnKey;

/// A worker whose Redis is away, and what it says.
fn worker() -> (Worker, Inbox<SharedEvent>) {
    let plan = SharedPlan {
        url: "redis://127.0.0.1".to_owned(),
        node: "node".to_owned(),
        lease: Duration::from_secs(6),
        resume: Duration::from_secs(30),
    };
    let client = Client::open(plan.url.as_str()).unwrap();
    let (to_work, work) = crossbeam_channel::unbounded();
    let (outbound, events) = inbox(&Doorbell::new().unwrap(), 16);
    (Worker::new(plan, client, work, to_work, outbound), events)
}

fn connection(slot: u32) -> RoomConnection {
    RoomConnection { node: 0, key: ConnKey { slot, generation: 0 } }
}

fn peer(number: u128) -> PeerId {
    PeerId::from_random(number)
}

fn own(connection: RoomConnection) -> Own {
    Own {
        connection,
        room: RoomKey::of("room"),
        token: ResumeToken("token".into()),
        status: Status::default(),
        joined_unix_s: 0,
    }
}

/// A join that resumes this id.
fn joining(connection: RoomConnection, own: PeerId) -> Joining {
    let join = Join {
        peer: peer(u128::from(connection.key.slot) << 80),
        room: RoomKey::of("room"),
        status: None,
        resume: Some(ResumeToken("token".into())),
        next_token: ResumeToken("next".into()),
        max_members: 0,
    };
    Joining { connection, join, own, unix_s: 0 }
}

#[test]
fn an_old_connection_does_not_leave_for_the_one_that_resumed_its_id() {
    let (mut worker, events) = worker();
    let (old, new, id) = (connection(1), connection(2), peer(1));
    let leave = || StoreRequest::Leave { peer: id, keep: Duration::ZERO };
    let is_done = |to: RoomConnection| {
        let event = events.try_recv();
        matches!(event, Some(SharedEvent::Reply(of, Reply::Done(Ok(())))) if of == to)
    };
    worker.own.insert(id, own(new));
    worker.request(old, leave(), 0);
    assert!(is_done(old));
    assert!(worker.own.get(&id).is_some_and(|own| own.connection == new));
    assert!(worker.departed.is_empty());
    worker.request(new, leave(), 0);
    assert!(is_done(new));
    assert!(worker.own.is_empty());
    assert_eq!(worker.departed.len(), 1, "its own leave is one");
}

#[test]
fn who_left_does_not_take_the_channel_from_who_resumes_its_id() {
    let (mut worker, _events) = worker();
    let (gone, resuming, resumed) = (peer(1), peer(2), peer(3));
    worker.joining.insert(resuming, joining(connection(1), resuming));
    worker.own.insert(resumed, own(connection(2)));
    worker.listens.push_back(Listen::Subscribe(resuming));
    worker.listens.extend([gone, resuming, resumed].map(Listen::Unsubscribe));
    worker.keep_resumed_channels();
    let kept: Vec<(bool, PeerId)> = worker
        .listens
        .iter()
        .map(|change| match change {
            Listen::Subscribe(peer) => (true, *peer),
            Listen::Unsubscribe(peer) => (false, *peer),
        })
        .collect();
    assert_eq!(kept, [(true, resuming), (false, gone)]);
}

#[test]
fn of_two_joins_by_one_id_the_second_is_refused() {
    let (mut worker, events) = worker();
    let (first, second, id) = (connection(1), connection(2), peer(1));
    worker.listen_and_join(joining(first, id));
    worker.listen_and_join(joining(second, id));
    let Some(SharedEvent::Reply(to, reply)) = events.try_recv() else { panic!("no answer") };
    assert_eq!((to, reply), (second, Reply::Joined(Err(RoomError::AlreadyJoined))));
    assert_eq!(worker.joining[&id].connection, first);
    assert_eq!(worker.listens.len(), 1);
}
