//! A hundred streams on three nodes while a node is killed, another one is cut off from Redis for half a
//! minute, and Redis starts anew: each stream goes on within the lease and 2 s, and from outside never two
//! owners are seen.

mod support;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use support::audience::{Audience, Encoder, FRAME_INTERVAL};
use support::nodes::{Nodes, account, pull, standing};
use support::push::look;
use support::wait::{SOON, eventually};

const STREAMS: usize = 100;
const LEASE: Duration = Duration::from_secs(6);
/// What a stream may be away for.
const RECOVERY_MAX: Duration = Duration::from_secs(8);
/// How long the third node is without Redis.
const CUT: Duration = Duration::from_secs(30);
/// Between two looks from outside at every node.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// Streams that every node is asked for at each look, by as many threads as [`PULLERS`]: some always, the others
/// in turn.
const PULLS_AT_ONCE: usize = 24;
const PULLERS: usize = 8;
/// Numbers of frames of encoders that take a name while its owner is cut off.
const SECOND: u64 = 1_000_000;

fn name(number: usize) -> String {
    format!("live/s{number}")
}

/// The node on which a stream begins.
fn home(number: usize) -> usize {
    number % 3
}

/// One answer to a node that asked for a stream.
#[derive(Clone, Debug)]
struct Seen {
    stream: String,
    node: usize,
    asked: Instant,
    answered: Instant,
    epoch: u64,
}

/// Asks every node for streams, over and over, as another node would, some at each look and all others in
/// turn; and which streams it says that it owns.
struct Prober {
    seen: Arc<Mutex<Vec<Seen>>>,
    looks: Arc<Looks>,
    /// By node.
    threads: BTreeMap<usize, (Arc<AtomicBool>, Vec<JoinHandle<()>>)>,
}

/// How often all of them have looked, by pulling.
#[derive(Debug, Default)]
struct Looks {
    count: AtomicU64,
    late: AtomicU64,
    pulls: AtomicU64,
}

impl Prober {
    fn start(nodes: &Nodes, always: &[String]) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let looks: Arc<Looks> = Arc::default();
        let threads = nodes.nodes.iter().enumerate().map(|(node, process)| {
            let (rtmp, api) = (process.server.rtmp(), process.server.api().address());
            let is_over = Arc::new(AtomicBool::new(false));
            let mut threads: Vec<JoinHandle<()>> = (0..PULLERS)
                .map(|puller| {
                    let of_it = |number: &usize| number % PULLERS == puller;
                    let (own, others): (Vec<String>, Vec<String>) =
                        (0..STREAMS).filter(of_it).map(name).partition(|it| always.contains(it));
                    let mut in_turn = others.into_iter().cycle();
                    let (secret, looks) = (nodes.secret(), Arc::clone(&looks));
                    repeat(&is_over, &seen, move |seen| {
                        let begun = Instant::now();
                        let others = in_turn.by_ref().take(PULLS_AT_ONCE / PULLERS - own.len());
                        for stream in own.iter().cloned().chain(others) {
                            let asked = Instant::now();
                            looks.pulls.fetch_add(1, Ordering::Relaxed);
                            if let Ok(epoch) = pull(rtmp, &secret, &stream) {
                                let answered = Instant::now();
                                seen(Seen { stream, node, asked, answered, epoch });
                            }
                        }
                        looks.count.fetch_add(1, Ordering::Relaxed);
                        let is_late = begun.elapsed() > PROBE_INTERVAL;
                        looks.late.fetch_add(u64::from(is_late), Ordering::Relaxed);
                    })
                })
                .collect();
            let accounts = repeat(&is_over, &seen, move |seen| {
                let asked = Instant::now();
                let account = look(api, "/api/v1/cluster");
                let answered = Instant::now();
                let streams = account["streams"].as_array().expect("a list");
                for owned in streams.iter().filter(|it| it["state"] == "leased") {
                    let stream = owned["stream"].as_str().expect("a name").to_owned();
                    let epoch = owned["epoch"].as_u64().expect("a number");
                    seen(Seen { stream, node, asked, answered, epoch });
                }
            });
            threads.push(accounts);
            (node, (is_over, threads))
        });
        let threads = threads.collect();
        Self { seen, looks, threads }
    }

    /// Asks a node no more.
    fn leave(&mut self, node: usize) {
        let (is_over, threads) = self.threads.remove(&node).expect("it is asked");
        is_over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().expect("a prober fails");
        }
    }

    /// Ends, and gives what was seen of each stream.
    fn end(mut self) -> BTreeMap<String, Vec<Seen>> {
        for node in self.threads.keys().copied().collect::<Vec<_>>() {
            self.leave(node);
        }
        println!("looks from outside: {:?}", self.looks);
        let pulls = self.looks.pulls.load(Ordering::Relaxed);
        assert!(pulls > 20 * STREAMS as u64, "all were pulled again and again");
        let mut by_stream: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
        for seen in self.seen.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            by_stream.entry(seen.stream.clone()).or_default().push(seen);
        }
        by_stream
    }
}

/// Looks every 100 ms, on a thread of its own, until it is over.
fn repeat(
    is_over: &Arc<AtomicBool>,
    seen: &Arc<Mutex<Vec<Seen>>>,
    mut look: impl FnMut(&mut dyn FnMut(Seen)) + Send + 'static,
) -> JoinHandle<()> {
    let (is_over, seen) = (Arc::clone(is_over), Arc::clone(seen));
    thread::spawn(move || {
        while !is_over.load(Ordering::Relaxed) {
            let next = Instant::now() + PROBE_INTERVAL;
            look(&mut |it| seen.lock().unwrap_or_else(PoisonError::into_inner).push(it));
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    })
}

/// A number belongs to one node, and once a node has answered with it, no later question is answered with
/// a lower one.
fn assert_one_owner(stream: &str, seen: &[Seen]) {
    let mut nodes: BTreeMap<u64, usize> = BTreeMap::new();
    for it in seen {
        let node = *nodes.entry(it.epoch).or_insert(it.node);
        assert_eq!(node, it.node, "{stream}: two nodes answer with {}", it.epoch);
    }
    let mut by_epoch: Vec<&Seen> = seen.iter().collect();
    by_epoch.sort_by_key(|it| (Reverse(it.epoch), it.answered));
    // Of all higher numbers, the first answer.
    let mut higher: Option<&Seen> = None;
    for same in by_epoch.chunk_by(|a, b| a.epoch == b.epoch) {
        let last = same.iter().max_by_key(|it| it.asked).expect("a chunk is not empty");
        let is_in_order = higher.is_none_or(|higher| last.asked <= higher.answered);
        assert!(is_in_order, "{stream}: two owners: {last:?} after {higher:?}");
        let first = same[0];
        higher =
            Some(higher.map_or(first, |it| if it.answered < first.answered { it } else { first }));
    }
}

fn assert_gaps(audience: &Audience, what: &str, max: Duration) {
    let gaps = audience.take_gaps();
    let longest = gaps.iter().max_by_key(|(_, gap)| **gap).expect("there are streams");
    println!("{what}: the longest wait for a frame was {:?} ({})", longest.1, longest.0);
    assert!(*longest.1 <= max + FRAME_INTERVAL, "{what}: {longest:?}");
    audience.assert_no_faults();
}

fn wait_for_leases(nodes: &Nodes, node: usize, count: usize, limit: Duration) {
    eventually(&format!("node {node} has {count} leases"), limit, || {
        let account = nodes.account(node);
        let streams = account["streams"].as_array().expect("a list");
        let leased = streams.iter().filter(|it| it["state"] == "leased").count();
        (leased == count && streams.len() == count).then_some(())
    });
}

#[test]
fn streams_outlive_a_killed_node_a_node_without_redis_and_a_redis_that_starts_anew() {
    let mut nodes = Nodes::start(3, &[("server.shards", "1")]);
    let addresses: Vec<SocketAddr> = (0..3).map(|number| nodes.rtmp(number)).collect();
    let mut encoders: Vec<Encoder> = (0..STREAMS)
        .map(|number| Encoder::start(addresses[home(number)], &name(number), 1, 200))
        .collect();
    let count_of = |node: usize| (0..STREAMS).filter(|number| home(*number) == node).count();
    // A Redis that is new keeps names back for one lease.
    (0..3).for_each(|node| wait_for_leases(&nodes, node, count_of(node), 2 * SOON));
    let audience = Audience::start();
    for number in 0..STREAMS {
        (0..3).for_each(|node| audience.join(node, addresses[node], &name(number)));
    }
    eventually("everybody sees every stream", 3 * SOON, || {
        (audience.have_seen(|_| 1) == 3 * STREAMS).then_some(())
    });
    for node in 0..3 {
        // Each of the two others fetches each stream once, for a hundred viewers.
        let account = nodes.account(node);
        assert_eq!(account["pulled"], 2 * count_of(node), "{account}");
        let copies = account["copies"].as_array().expect("a list").len();
        assert_eq!(copies, STREAMS - count_of(node));
    }
    audience.take_gaps();
    // Of the node that will be killed, of another, and of the one that will be cut off: those that will be
    // taken from it, and another one. The others are pulled in turn, and of all streams the nodes are asked
    // which they own.
    let probed: Vec<String> = [0, 3, 1, 2, 8, 11, 5].map(name).into();
    let mut prober = Prober::start(&nodes, &probed);
    thread::sleep(Duration::from_secs(1));

    // A node is killed; its encoders go to the second one.
    for (_, encoder) in encoders.iter().enumerate().filter(|it| home(it.0) == 0) {
        encoder.goes_to(addresses[1]);
    }
    audience.leave(0);
    prober.leave(0);
    let killed = Instant::now();
    nodes.server(0).process().signal(libc::SIGKILL);
    eventually("its streams are published elsewhere", 2 * SOON, || {
        let mut moved = encoders.iter().enumerate().filter(|it| home(it.0) == 0);
        moved.all(|(_, encoder)| encoder.accepted() == 2).then_some(())
    });
    println!("published elsewhere after {:?}", killed.elapsed());
    assert!(killed.elapsed() < RECOVERY_MAX);
    eventually("everybody sees them again", SOON, || {
        let gaps = audience.take_gaps();
        gaps.values().all(|gap| *gap < Duration::from_secs(2)).then_some(())
    });
    assert!(killed.elapsed() < RECOVERY_MAX + Duration::from_secs(2), "{:?}", killed.elapsed());
    wait_for_leases(&nodes, 1, count_of(0) + count_of(1), SOON);

    // The third node loses Redis. Three of its names are taken meanwhile.
    audience.take_gaps();
    nodes.nodes[2].gate.shut();
    let cut = Instant::now();
    let mut seconds: Vec<Encoder> =
        [2, 8, 11].map(|number| Encoder::start(addresses[1], &name(number), SECOND, 200)).into();
    eventually("it knows that it owns nothing any more", 2 * SOON, || {
        let account = nodes.account(2);
        let streams = account["streams"].as_array().expect("a list");
        let unleased = streams.iter().filter(|it| it["state"] == "unleased").count();
        (account["redis"] == "down" && unleased == count_of(2)).then_some(())
    });
    println!("unleased after {:?}", cut.elapsed());
    assert!(cut.elapsed() < LEASE + Duration::from_secs(1), "{:?}", cut.elapsed());
    eventually("the names are taken", SOON, || {
        seconds.iter().all(|encoder| encoder.accepted() == 1).then_some(())
    });
    println!("taken after {:?}", cut.elapsed());
    assert!(cut.elapsed() < RECOVERY_MAX, "{:?}", cut.elapsed());
    let extra = Encoder::start(addresses[2], "live/extra", 1, 200);
    eventually("new streams are published there all the same", SOON, || {
        let found = standing(&nodes.account(2), "live/extra")?;
        (extra.accepted() == 1 && found["state"] == "unleased").then_some(())
    });
    thread::sleep(CUT.saturating_sub(cut.elapsed()));
    // Its own publishers and viewers have gone on, and so have the copies that were there.
    assert_gaps(&audience, "a node without Redis", Duration::from_secs(2));
    assert!(encoders[2].end().is_none(), "two publish one name, each to its own");
    nodes.nodes[2].gate.open();
    let back = Instant::now();
    wait_for_leases(&nodes, 2, count_of(2) - 3 + 1, RECOVERY_MAX);
    for number in [2, 8, 11] {
        eventually("the first publisher has to go", SOON, || {
            let why = encoders[number].end()?;
            let is_told = why.starts_with("NetStream.Publish.BadName replaced by a publisher on");
            is_told.then_some(())
        });
    }
    eventually("its viewers follow the new owner", SOON, || {
        let wanted = |stream: &str| match stream {
            "live/s2" | "live/s8" | "live/s11" => SECOND,
            _ => 1,
        };
        (audience.have_seen(wanted) == audience.len()).then_some(())
    });
    println!("back in the cluster after {:?}", back.elapsed());
    assert!(back.elapsed() < RECOVERY_MAX, "{:?}", back.elapsed());
    drop(extra);

    // Redis starts anew, with nothing.
    audience.take_gaps();
    nodes.redis.stop();
    (1..3).for_each(|node| nodes.wait_for_redis(node, false));
    nodes.redis.start_again();
    let anew = Instant::now();
    eventually("Redis knows all owners again", RECOVERY_MAX, || {
        (nodes.redis.keys("shardcast:stream:*").len() == STREAMS).then_some(())
    });
    let owned = [count_of(0) + count_of(1) + 3, count_of(2) - 3];
    (1..3).for_each(|node| wait_for_leases(&nodes, node, owned[node - 1], RECOVERY_MAX));
    println!("all leases are back after {:?}", anew.elapsed());
    thread::sleep(LEASE.saturating_sub(anew.elapsed()));
    assert_gaps(&audience, "a Redis that starts anew", Duration::from_secs(2));

    let seen = prober.end();
    assert_eq!(
        seen.len(),
        STREAMS + 1,
        "every stream, and the one that came when there was no Redis"
    );
    for (stream, seen) in seen {
        let owners: Vec<(usize, u64)> = seen.iter().map(|it| (it.node, it.epoch)).collect();
        let mut changes = owners.clone();
        changes.dedup();
        println!("{stream}: {} answers, owners {changes:?}", seen.len());
        assert_one_owner(&stream, &seen);
        assert!(stream == "live/extra" || seen.len() > 100, "{stream} was not seen");
    }
    encoders.clear();
    seconds.clear();
    drop(audience);
    for node in nodes.nodes.drain(1..) {
        let own = account(&node.server);
        assert_eq!(own["counters"]["pushes_lost"], 0);
        node.server.stop();
    }
}
