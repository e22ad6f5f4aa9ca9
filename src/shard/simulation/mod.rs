//! Whole runs in virtual time: publishers, shards, the control shard and viewers on one thread, with
//! stalls, splits, losses, take-overs, slow viewers, busy cores and full lanes, all from one seed.
//!
//! | file        | subject                                                                |
//! |-------------|------------------------------------------------------------------------|
//! | `dice`      | everything random, from the seed                                       |
//! | `link`      | the way between a client and its shard                                 |
//! | `publisher` | what is sent, lost and begun again                                     |
//! | `viewer`    | who plays, fast or slowly                                              |
//! | `book`      | what was published, and what a viewer may therefore be sent            |
//!
//! A run holds every message that a viewer is sent against the book: whole messages with every byte,
//! in order, holes only before a keyframe and only when they were counted, the headers in force before
//! each frame, a clock that never goes back. It looks into the shards after every turn (`check`), at
//! names, memory and closed connections meanwhile, and at what is left in the end.
//!
//! A seed that fails is run again alone by `SIMULATION_SEED=N cargo test --lib simulation`; more of
//! them by `SIMULATION_SEEDS=N`.

mod book;
mod dice;
mod link;
mod publisher;
mod viewer;

use std::cell::Cell;
use std::env;
use std::time::Duration;

use book::{Book, Number, Seen, Sight};
use dice::Dice;
use publisher::Publisher;
use viewer::Viewer;

use super::testing::{Rig, check};
use crate::limits;
use crate::media::{Moment, SEGMENT_BYTES};
use crate::rt::executor::spawn_pinned;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 100;
const NAMES: [&str; 2] = ["a", "b"];
/// Faults happen for so long.
const TROUBLE: Duration = Duration::from_secs(12);
/// Then everything works again; by the end of this everybody has caught up.
const PEACE: Duration = Duration::from_secs(6);
/// How much younger than its newest frame a viewer who has caught up may be.
const BEHIND_MAX: Duration = Duration::from_millis(1_500);
/// A log holds what came within its reach, and what stalls of links and cores hold up meanwhile.
const LOG_REACH: Duration = Duration::from_secs(4);
const HELD_UP_MAX: Duration = Duration::from_secs(5);
const GOP_BYTES: u64 = 512 * 1024;

thread_local! {
    /// The CPU time of the thread, as the shards of a run see it.
    static CPU: Cell<Cpu> = const { Cell::new(Cpu { state: 0, nanos: 0, has_peaks: false }) };
}

#[derive(Clone, Copy, Debug)]
struct Cpu {
    state: u64,
    nanos: u64,
    /// Now and then so much is used that holds have to stretch.
    has_peaks: bool,
}

fn cpu() -> Duration {
    CPU.with(|cell| {
        let mut cpu = cell.get();
        let mut dice = Dice::new(cpu.state);
        let is_peak = cpu.has_peaks && dice.happens(5);
        cpu.nanos += if is_peak { 150_000_000 } else { dice.within(0..=200_000) as u64 };
        cpu.state = dice.next();
        cell.set(cpu);
        Duration::from_nanos(cpu.nanos)
    })
}

/// What became of a run; equal for equal seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Outcome {
    published: u64,
    frames: u64,
    gaps: u64,
    skips: u64,
    frames_dropped: u64,
    takeovers: u64,
    resumed: u64,
    handovers: u64,
    /// A sum over all that viewers saw.
    story: u64,
}

struct World {
    rig: Rig,
    book: Book,
    publishers: Vec<Publisher>,
    viewers: Vec<Viewer>,
    /// Until when a node takes no turns: the shards, then the control shard.
    busy_until: Vec<Moment>,
    dice: Dice,
}

#[test]
fn every_viewer_sees_what_was_published() {
    let number = |key| env::var(key).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    let mut total = Outcome::default();
    for seed in seeds.clone() {
        total.add(simulate(seed));
    }
    println!("{} runs: {total:?}", seeds.end - seeds.start);
    // Else the runs would show nothing.
    if seeds.end - seeds.start >= SEEDS {
        assert!(total.frames > 100_000, "{total:?}");
        let Outcome { gaps, frames_dropped, takeovers, resumed, handovers, .. } = total;
        let rare = [gaps, frames_dropped, takeovers, resumed, handovers];
        assert!(rare.iter().all(|count| *count > 20), "{total:?}");
    }
}

#[test]
fn a_seed_always_tells_the_same_story() {
    for seed in [3, 4, 5] {
        assert_eq!(simulate(seed), simulate(seed), "seed {seed}");
    }
}

/// One run on an executor of its own.
fn simulate(seed: u64) -> Outcome {
    let (said, outcome) = std::sync::mpsc::channel();
    let thread = spawn_pinned("simulation", None, move || async move {
        let outcome = World::new(seed).run().await;
        said.send(outcome).expect("the test waits");
    });
    let ended = thread.expect("an executor can be started").join();
    match outcome.try_recv() {
        Ok(outcome) if ended.is_ok() => outcome,
        _ => panic!(
            "seed {seed} failed; run it again with: SIMULATION_SEED={seed} cargo test --lib simulation"
        ),
    }
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.published += other.published;
        self.frames += other.frames;
        self.gaps += other.gaps;
        self.skips += other.skips;
        self.frames_dropped += other.frames_dropped;
        self.takeovers += other.takeovers;
        self.resumed += other.resumed;
        self.handovers += other.handovers;
        self.story = self.story.wrapping_add(other.story);
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        CPU.set(Cpu { state: dice.next(), nanos: 0, has_peaks: true });
        let toml = format!(
            "http.flv_missing = \"wait\"\n[apps.default]\nlatency = \"{}\"\n\
             log_reach = \"4s\"\ngop_bytes = \"{}KiB\"\npublish.resume = \"{}ms\"\n\
             publish.takeover = \"{}\"\npublish.silent = \"400ms\"\n\
             viewer.max_lag = \"2s\"\nviewer.socket_buffer = \"{}KiB\"\n",
            dice.one_of(&["realtime", "balanced", "throughput"]),
            // The smaller one is less than a group of many publishers.
            dice.one_of(&[128, 512]),
            dice.within(300..=3_000),
            dice.one_of(&["reject", "replace", "replace_when_silent"]),
            dice.one_of(&[16, 64]),
        );
        let shards = dice.within(1..=3);
        let lane = dice.one_of(&[2, 4, 64]);
        let mut rig = Rig::with_lanes(&toml, shards, lane);
        rig.gathers = dice.one_of(&[true, false]);
        for shard in &mut rig.shards {
            shard.thread_cpu = cpu;
        }
        let names = dice.within(1..=NAMES.len());
        let publishers = (0..dice.within(names..=names + 1)).map(|index| {
            let name = index % names;
            Publisher::new(name, NAMES[name], rig.now + dice.ms(0..=2_000), dice.split())
        });
        let publishers = publishers.collect();
        let viewers = (0..dice.within(2..=8)).map(|_| {
            let name = dice.within(0..=names - 1);
            Viewer::new(name, NAMES[name], rig.now + dice.ms(0..=4_000), dice.split())
        });
        let viewers = viewers.collect();
        let busy_until = vec![Moment::ZERO; shards + 1];
        Self { rig, book: Book::default(), publishers, viewers, busy_until, dice }
    }

    async fn run(mut self) -> Outcome {
        let peace = self.rig.now + TROUBLE;
        while self.rig.now < peace {
            self.trouble();
            self.step().await;
        }
        for publisher in &mut self.publishers {
            publisher.heal();
        }
        for viewer in &mut self.viewers {
            viewer.heal();
        }
        self.busy_until.fill(Moment::ZERO);
        CPU.set(Cpu { has_peaks: false, ..CPU.get() });
        self.walk(PEACE).await;
        self.check_caught_up();
        let live: Vec<_> = self.publishers.iter().filter_map(Publisher::number).collect();
        for publisher in &mut self.publishers {
            publisher.retire();
        }
        for viewer in &mut self.viewers {
            viewer.will_not_return();
        }
        self.walk(Duration::from_secs(8)).await;
        self.check_ended(&live);
        self.check_counts();
        let outcome = self.outcome();
        for publisher in &mut self.publishers {
            publisher.vanish(&mut self.book);
        }
        for viewer in &mut self.viewers {
            viewer.retire();
        }
        self.walk(Duration::from_secs(6)).await;
        self.check_nothing_is_left();
        outcome
    }

    /// What goes wrong in a step.
    fn trouble(&mut self) {
        let now = self.rig.now;
        for publisher in &mut self.publishers {
            if self.dice.happens(25) {
                publisher.suffer(&mut self.book, now);
            }
        }
        for viewer in &mut self.viewers {
            if self.dice.happens(40) {
                viewer.suffer(now);
            }
        }
        for busy_until in &mut self.busy_until {
            if *busy_until <= now && self.dice.happens(20) {
                *busy_until = now + self.dice.ms(20..=500);
            }
        }
    }

    async fn walk(&mut self, time: Duration) {
        let end = self.rig.now + time;
        while self.rig.now < end {
            self.step().await;
        }
    }

    async fn step(&mut self) {
        self.rig.now = self.rig.now + self.dice.ms(1..=10);
        for publisher in &mut self.publishers {
            publisher.turn(&mut self.rig, &mut self.book);
        }
        for viewer in &mut self.viewers {
            viewer.turn(&mut self.rig, &mut self.book);
        }
        let now = self.rig.now;
        for index in 0..self.rig.shards.len() {
            if self.busy_until[index] <= now {
                self.rig.shards[index].turn_at(now).await;
                check(&self.rig.shards[index]);
            }
        }
        if self.busy_until[self.rig.shards.len()] <= now {
            self.rig.control_turn();
        }
        self.check_names();
        self.check_memory();
    }

    /// A name has one publication; what is published was claimed.
    fn check_names(&self) {
        let shards = &self.rig.shards;
        let mut published: Vec<_> =
            shards.iter().flat_map(|shard| shard.publications.keys()).collect();
        let count = published.len();
        published.sort();
        published.dedup();
        assert_eq!(published.len(), count, "a name with two publications");
    }

    fn check_memory(&self) {
        let now = self.rig.now;
        for shard in &self.rig.shards {
            for viewed in shard.viewers.values() {
                let name = NAMES.iter().position(|name| *name == viewed.name.stream());
                let recent = self.book.recent_bytes(
                    name.expect("a name of ours"),
                    now,
                    LOG_REACH + HELD_UP_MAX,
                );
                let bound = recent + GOP_BYTES + 3 * SEGMENT_BYTES as u64;
                for state in &viewed.logs {
                    let held = state.log.held_bytes();
                    assert!(held <= bound, "a log of {held} bytes, more than {bound}");
                }
            }
            for slot in 0..shard.conns.slots() {
                let Some(conn) = shard.conns.key_at(slot).and_then(|key| shard.conns.get(key))
                else {
                    continue;
                };
                // The rest of a message that was cut short by the end of a play may be longer.
                let bound = limits::OUTPUT_BYTES_MAX + 250_000;
                assert!(conn.out.len() <= bound, "{} bytes of output", conn.out.len());
            }
        }
    }

    /// Everybody who plays a stream that is published has its newest frames.
    fn check_caught_up(&self) {
        for viewer in &self.viewers {
            // Of two, the older one does not know yet that it was replaced.
            let of_name = self.publishers.iter().filter(|it| it.name == viewer.name());
            let Some(number) = of_name.filter_map(Publisher::number).max() else { continue };
            let Some(due) = self.book.last_due(number, self.rig.now - BEHIND_MAX) else { continue };
            let sight = viewer.sight().expect("a viewer of a published stream is connected");
            let last = sight.last();
            let has_it = last.is_some_and(|(of, index)| of == number && index >= due);
            assert!(
                has_it,
                "a viewer is at {last:?}, the publisher of {number} beyond {due}\n{}",
                self.state()
            );
        }
    }

    /// What the shards hold, for a report.
    fn state(&self) -> String {
        let mut lines = vec![format!("registry: {:?}", self.rig.registry.entries())];
        for shard in &self.rig.shards {
            let publications = shard.publications.values();
            lines.extend(publications.map(|it| {
                format!("shard {} publishes {}: {:?}", shard.index, it.name, it.counters)
            }));
            for state in shard.viewers.values().flat_map(|viewed| &viewed.logs) {
                lines.extend(state.viewers.iter().map(|viewer| {
                    let (lag, end) = (viewer.cursor.lag_bytes(&state.log), state.log.end());
                    format!("shard {} {} of {end}: {viewer:?}", shard.index, lag)
                }));
            }
        }
        lines.join("\n")
    }

    /// Everybody has seen the end of what was said goodbye to, and was told.
    fn check_ended(&self, live: &[Number]) {
        for viewer in &self.viewers {
            // Who has seen nothing waits for the next publisher.
            let Some((number, index)) = viewer.sight().and_then(Sight::last) else {
                continue;
            };
            assert!(viewer.has_ended(), "a viewer of {number} was not told of the end");
            // With two of them the goodbye of one may come too late.
            let publishers = self.publishers.iter().filter(|it| it.name == viewer.name()).count();
            if live.contains(&number) && publishers == 1 {
                let due = self.book.last_due(number, self.rig.now);
                assert!(
                    due.is_none_or(|due| index >= due),
                    "{number} ends at {due:?}, not {index}\n{}\n{viewer:?}",
                    self.state()
                );
            }
        }
    }

    /// Each hole that a viewer saw was counted by the server, and who kept up saw none.
    fn check_counts(&self) {
        let outcome = self.outcome();
        let (skips, dropped) = (outcome.skips, outcome.frames_dropped);
        let of_drops = if dropped == 0 { 0 } else { u64::MAX };
        assert!(outcome.gaps <= skips.saturating_add(of_drops), "{outcome:?}");
        for viewer in &self.viewers {
            if let Some(sight) = viewer.undisturbed() {
                let gaps = sight.seen().gaps;
                assert!(gaps == 0 || dropped > 0, "{gaps} holes of who kept up");
            }
        }
        for shard in &self.rig.shards {
            for reason in ["internal", "protocol", "output_full"] {
                assert_eq!(shard.counters.closed.get(reason), None, "closed: {reason}");
            }
        }
    }

    fn check_nothing_is_left(&self) {
        let entries = self.rig.registry.entries();
        assert!(entries.is_empty(), "{entries:?}");
        for shard in &self.rig.shards {
            assert_eq!(shard.conns.len(), 0);
            assert!(shard.viewers.is_empty() && shard.publications.is_empty());
            assert!(shard.outbox.is_empty() && shard.releases.is_empty());
        }
    }

    fn outcome(&self) -> Outcome {
        let shards = &self.rig.shards;
        let registry = self.rig.registry.counters();
        let sights = self.viewers.iter().filter_map(Viewer::sight);
        let seen = self.viewers.iter().map(|viewer| viewer.seen).chain(sights.map(Sight::seen));
        let mut all = Seen::default();
        for seen in seen {
            all.add(seen);
        }
        Outcome {
            published: self.book.len() as u64,
            frames: all.frames,
            gaps: all.gaps,
            story: all.story,
            skips: shards.iter().map(|shard| shard.pass.counters.skips).sum(),
            frames_dropped: shards.iter().map(|it| it.outbox.counters.frames_dropped).sum(),
            takeovers: registry.takeovers,
            resumed: registry.resumed,
            handovers: self.rig.shards.iter().map(|shard| shard.counters.handovers).sum(),
        }
    }
}
