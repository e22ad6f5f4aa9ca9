//! ffmpegs that publish a file in a loop, and ffmpegs that play it: started, watched and judged
//! packet by packet.
//!
//! Each publisher writes what it publishes to us as well, and each player what it receives, both as
//! FLV. So the packets of a player can be held against those of the file and of its publisher without
//! trusting what either says about itself.

mod follow;
mod process;
mod report;
mod table;
mod watch;

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use self::process::{Pipes, Process, url};
pub(crate) use self::report::FfmpegReport;
use self::report::{PlayerReport, PublisherReport};
use self::table::FileTable;
use self::watch::{Progress, Watched, Watcher};
use crate::target::{Server, StreamUrl};
use crate::viewer::Protocol;

/// How long all of a kind may take to start on a loaded machine.
const START_TIME_MAX: Duration = Duration::from_secs(90);
/// How long publishers may take to say goodbye, and players to end with their streams.
const END_TIME_MAX: Duration = Duration::from_secs(20);
/// How long one may take that was asked to end a second time.
const INTERRUPT_TIME_MAX: Duration = Duration::from_secs(5);
/// How often the state of the processes is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// What ffmpeg exits with when it was asked to end.
const EXIT_CODE_INTERRUPTED: i32 = 255;

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct FleetPlan {
    /// ffmpeg.
    pub(crate) program: PathBuf,
    /// What to publish.
    pub(crate) file: PathBuf,
    /// How many publish.
    pub(crate) publishers: u32,
    /// How many play: RTMP and HTTP-FLV in turn, the publishers' streams in turn.
    pub(crate) players: u32,
}

/// Running ffmpegs. Dropped, all are killed.
#[derive(Debug)]
pub(crate) struct Fleet {
    file: Arc<FileTable>,
    publishers: Vec<Member>,
    players: Vec<Member>,
    watcher: JoinHandle<std::io::Result<Vec<Watched>>>,
    sender: Sender<Watched>,
}

#[derive(Debug)]
struct Member {
    stream: String,
    protocol: Protocol,
    process: Process,
    progress: Arc<Progress>,
    /// What is wrong with its end.
    fault: Option<String>,
}

impl FleetPlan {
    /// Descriptors that a fleet needs here: two pipes each.
    pub(crate) fn descriptors(&self) -> u64 {
        2 * (u64::from(self.publishers) + u64::from(self.players))
    }

    fn stream(&self, url: &StreamUrl, index: u32) -> String {
        let (name, query) = url.stream.split_at(url.stream.find('?').unwrap_or(url.stream.len()));
        format!("{name}-ffmpeg-{}{query}", index % self.publishers)
    }
}

impl Fleet {
    /// Starts the publishers, and when all publish, the players. Returns when all play.
    ///
    /// # Errors
    /// A sentence: one did not come so far, or `interrupted` was set.
    pub(crate) fn start(
        plan: &FleetPlan,
        to: &StreamUrl,
        http: &Server,
        interrupted: &AtomicBool,
    ) -> Result<Self, String> {
        let file = FileTable::read(&plan.program, &plan.file).map_err(|error| error.to_string())?;
        let file = Arc::new(file);
        let (sender, incoming) = channel();
        let watcher = Watcher::new(Arc::clone(&file), incoming)
            .and_then(|watcher| {
                thread::Builder::new().name("ffmpegs".to_owned()).spawn(move || watcher.run())
            })
            .map_err(|error| format!("ffmpegs cannot be watched: {error}"))?;
        let mut fleet = Self { file, publishers: Vec::new(), players: Vec::new(), watcher, sender };
        for index in 0..plan.publishers {
            let stream = plan.stream(to, index);
            let url = url(Protocol::Rtmp, &to.authority, &to.app, &stream);
            let started = Process::publish(&plan.program, &plan.file, &url);
            let member = fleet.watch(started, None, stream, Protocol::Rtmp)?;
            fleet.publishers.push(member);
        }
        wait_for_packets(&mut fleet.publishers, "publisher", interrupted)?;
        for index in 0..plan.players {
            let protocol = if index % 2 == 0 { Protocol::Rtmp } else { Protocol::HttpFlv };
            let authority =
                if protocol == Protocol::Rtmp { &to.authority } else { &http.authority };
            let stream = plan.stream(to, index);
            let url = url(protocol, authority, &to.app, &stream);
            let publisher = (index % plan.publishers) as usize;
            let started = Process::play(&plan.program, &url);
            let member = fleet.watch(started, Some(publisher), stream, protocol)?;
            fleet.players.push(member);
        }
        wait_for_packets(&mut fleet.players, "player", interrupted)?;
        Ok(fleet)
    }

    fn watch(
        &self,
        started: std::io::Result<(Process, Pipes)>,
        publisher: Option<usize>,
        stream: String,
        protocol: Protocol,
    ) -> Result<Member, String> {
        let (process, pipes) =
            started.map_err(|error| format!("ffmpeg for {stream} cannot be started: {error}"))?;
        let progress = Arc::<Progress>::default();
        let watched = Watched::new(pipes, publisher, Arc::clone(&progress));
        self.sender
            .send(watched)
            .map_err(|_| "the thread that watches ffmpegs ended".to_owned())?;
        Ok(Member { stream, protocol, process, progress, fault: None })
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        self.members().filter(|member| !member.progress.has_ended.load(Ordering::Acquire)).count()
    }

    /// Whether one has ended before it was asked to.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.members().any(|member| member.progress.has_ended.load(Ordering::Acquire))
    }

    fn members(&self) -> impl Iterator<Item = &Member> {
        self.publishers.iter().chain(&self.players)
    }

    /// Lets publishers say goodbye, waits until the players have ended with their streams, and judges.
    ///
    /// # Errors
    /// A sentence: what was watched is lost.
    pub(crate) fn stop(mut self) -> Result<FfmpegReport, String> {
        for member in self.publishers.iter_mut().chain(&mut self.players) {
            member.fault = member.process.ended().map(|status| {
                format!("ended by itself with {status}: {}", member.progress.last_line())
            });
        }
        self.publishers.iter_mut().for_each(|publisher| publisher.process.interrupt());
        end(&mut self.publishers, "did not say goodbye when it was asked to end");
        end(&mut self.players, "did not end with its stream");
        let Self { file, publishers, players, watcher, sender } = self;
        drop(sender);
        let [publishers, players] = [publishers, players].map(|members| {
            // The processes end here at the latest, and with them their pipes.
            members
                .into_iter()
                .map(|member| (member.stream, member.protocol, member.fault))
                .collect::<Vec<_>>()
        });
        let watched = watcher
            .join()
            .map_err(|_| "the thread that watches ffmpegs panicked".to_owned())?
            .map_err(|error| format!("ffmpegs could not be watched: {error}"))?;
        let (watched_publishers, watched_players) = watched.split_at(publishers.len());
        let publishers = publishers
            .into_iter()
            .zip(watched_publishers)
            .map(|((stream, _, fault), watched)| PublisherReport::new(stream, watched, fault));
        let players =
            players.into_iter().zip(watched_players).map(|((stream, protocol, fault), watched)| {
                let publisher = watched.publisher.and_then(|index| watched_publishers.get(index));
                PlayerReport::new(stream, protocol, watched, publisher, &file, fault)
            });
        Ok(FfmpegReport::new(publishers.collect(), players.collect(), file.gop_packets))
    }
}

/// Waits until each has written a packet.
fn wait_for_packets(
    members: &mut [Member],
    kind: &str,
    interrupted: &AtomicBool,
) -> Result<(), String> {
    let deadline = Instant::now() + START_TIME_MAX;
    for member in members {
        while member.progress.packets.load(Ordering::Acquire) == 0 {
            if interrupted.load(Ordering::Relaxed) {
                return Err(format!("interrupted while ffmpeg {kind}s were started"));
            }
            let what = if member.process.ended().is_some() {
                "ended before its first packet"
            } else if Instant::now() > deadline {
                "had no packet in time"
            } else {
                thread::sleep(LOOK);
                continue;
            };
            // Its last words may still be on their way.
            thread::sleep(LOOK);
            let said = member.progress.last_line();
            return Err(format!("ffmpeg {kind} of {} {what}: {said}", member.stream));
        }
    }
    Ok(())
}

/// Waits for the end of all; who does not end by itself is asked to, and at last killed.
fn end(members: &mut [Member], late: &str) {
    let mut deadline = Instant::now() + END_TIME_MAX;
    for again in [false, true] {
        while members.iter_mut().any(|member| member.process.ended().is_none())
            && Instant::now() < deadline
        {
            thread::sleep(LOOK);
        }
        for member in &mut *members {
            match member.process.ended() {
                None if again => {}
                None => {
                    member.fault.get_or_insert_with(|| late.to_owned());
                    member.process.interrupt();
                }
                Some(status) if is_good(status, member.process.is_interrupted()) => {}
                Some(status) => {
                    let said = member.progress.last_line();
                    member.fault.get_or_insert_with(|| format!("ended with {status}: {said}"));
                }
            }
        }
        deadline = Instant::now() + INTERRUPT_TIME_MAX;
    }
}

fn is_good(status: ExitStatus, was_interrupted: bool) -> bool {
    status.success() || was_interrupted && status.code() == Some(EXIT_CODE_INTERRUPTED)
}
