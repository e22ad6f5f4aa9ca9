//! Messages between two pinned executors: the crossbeam lane with a doorbell (`rt::mesh`) against
//! glommio's `shared_channel`. One boxed message per turn, as a shard sends one per turn and destination.
//!
//! And what a turn pays for lanes that hold nothing: it looks into one from every other shard.
//!
//! `cargo bench --bench mesh`. Columns: nanoseconds of both threads' CPU time per message; *busy*: the
//! receiver is never asleep (a flood, the cost of the lane itself); *paced*: one message every 200 µs, so
//! that each meets a sleeping receiver and pays for a wake-up.

use std::sync::mpsc;
use std::time::Duration;

use glommio::channels::shared_channel;
use shardcast::rt::clock;
use shardcast::rt::executor::{sleep, spawn_pinned, yield_if_needed};
use shardcast::rt::mesh::Mesh;
use shardcast::rt::waiter::Waiter;

type Message = Box<[u64; 8]>;

const PACE: Duration = Duration::from_micros(200);
const CAPACITY: usize = 1024;

fn main() {
    println!("{:32}{:>14}{:>14}", "ns of CPU per message", "busy", "paced");
    row("crossbeam lane + doorbell", lane);
    row("glommio shared_channel", channel);
    println!("\n{:32}{:>14}", "ns of CPU per turn", "nothing there");
    for shards in [2, 8, 64] {
        println!(
            "{:32}{:>14.0}",
            format!("looks of one of {shards} shards"),
            best(|| looks(shards))
        );
    }
}

/// A turn looks into all lanes, and again before it sleeps.
fn looks(shards: usize) -> f64 {
    const TURNS: u32 = 100_000;
    // With the control shard; one of the ends, as the others' sides stay open in it.
    let ends = Mesh::new::<Message>(shards + 1, CAPACITY).unwrap();
    let end = &ends[0];
    let start = clock::thread_cpu();
    for _ in 0..TURNS {
        for node in 0..end.nodes() {
            assert!(std::hint::black_box(end.try_recv(node)).is_none());
        }
        assert!(!std::hint::black_box(end.has_pending()));
    }
    (clock::thread_cpu() - start).as_nanos() as f64 / f64::from(TURNS)
}

fn row(name: &str, run: fn(u32, bool) -> f64) {
    let busy = best(|| run(500_000, false));
    let paced = best(|| run(5_000, true));
    println!("{name:32}{busy:>14.0}{paced:>14.0}");
}

fn best(run: impl Fn() -> f64) -> f64 {
    (0..3).map(|_| run()).fold(f64::INFINITY, f64::min)
}

fn message(n: u32) -> Message {
    Box::new([u64::from(n); 8])
}

fn lane(messages: u32, paced: bool) -> f64 {
    let mut ends = Mesh::new::<Message>(2, CAPACITY).unwrap();
    let (receiver, sender) = (ends.pop().unwrap(), ends.pop().unwrap());
    let receiving = spawn_pinned("receiver", Some(1), move || async move {
        let mut waiter = Waiter::new(receiver.doorbell_fd()).unwrap();
        let start = clock::thread_cpu();
        let mut sum = 0;
        let mut count = 0;
        while count < messages {
            while let Some(message) = receiver.try_recv(0) {
                sum += message[0];
                count += 1;
            }
            if count < messages && receiver.prepare_sleep() {
                waiter.wait(None).await;
                receiver.awake();
                receiver.drain_doorbell();
            }
        }
        (clock::thread_cpu() - start, sum)
    })
    .unwrap();
    let sending = spawn_pinned("sender", Some(0), move || async move {
        let start = clock::thread_cpu();
        let mut asleep = Duration::ZERO;
        for n in 0..messages {
            let mut next = message(n);
            while let Err(back) = sender.try_send(1, next) {
                next = back;
                std::hint::spin_loop();
            }
            if paced {
                let before = clock::thread_cpu();
                sleep(PACE).await;
                asleep += clock::thread_cpu() - before;
            }
        }
        clock::thread_cpu() - start - asleep
    })
    .unwrap();
    per_message(sending.join().unwrap(), receiving.join().unwrap(), messages)
}

fn channel(messages: u32, paced: bool) -> f64 {
    let (sender, receiver) = shared_channel::new_bounded::<Message>(CAPACITY);
    let (ready, is_ready) = mpsc::channel();
    let receiving = spawn_pinned("receiver", Some(1), move || async move {
        let receiver = receiver.connect().await;
        ready.send(()).unwrap();
        let start = clock::thread_cpu();
        let mut sum = 0;
        for _ in 0..messages {
            sum += receiver.recv().await.unwrap()[0];
        }
        (clock::thread_cpu() - start, sum)
    })
    .unwrap();
    let sending = spawn_pinned("sender", Some(0), move || async move {
        let sender = sender.connect().await;
        is_ready.recv().unwrap();
        let start = clock::thread_cpu();
        let mut asleep = Duration::ZERO;
        for n in 0..messages {
            sender.send(message(n)).await.unwrap();
            if paced {
                let before = clock::thread_cpu();
                sleep(PACE).await;
                asleep += clock::thread_cpu() - before;
            } else {
                yield_if_needed().await;
            }
        }
        clock::thread_cpu() - start - asleep
    })
    .unwrap();
    per_message(sending.join().unwrap(), receiving.join().unwrap(), messages)
}

fn per_message(sent: Duration, (received, sum): (Duration, u64), messages: u32) -> f64 {
    assert_eq!(sum, (0..u64::from(messages)).sum::<u64>(), "messages were lost");
    (sent + received).as_nanos() as f64 / f64::from(messages)
}
