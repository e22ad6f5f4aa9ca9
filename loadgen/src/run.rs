//! One run from start to report: publishers, ramp, window, settling, end.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use shardcast::proto::flv;

use crate::cli::{Content, Output, ShapeArgs, Target, Viewers};
use crate::clock::{MILLISECOND_NS, SECOND_NS, now_ns, real_ns};
use crate::control::Control;
use crate::ffmpeg::{FfmpegReport, Fleet, FleetPlan};
use crate::flv_file::FlvFile;
use crate::histogram::Summary;
use crate::hook_sink::Sink;
use crate::limits;
use crate::plan;
use crate::published::Published;
use crate::publisher::{Publisher, PublisherCounters, PublisherTally, PublisherThread};
use crate::report::{
    Demands, Loss, OwnReport, PublishersReport, Report, ServerReport, Verdict, ViewersReport,
};
use crate::source::{Headers, Material, Source};
use crate::stream::{Origin, Stream};
use crate::synthetic::{Shape, Templates};
use crate::target::{HTTP_PORT, RTMP_PORT, Server, StreamUrl};
use crate::usage::{Observed, Usage};
use crate::viewer::{Counters, Tally, ViewerThread};

/// From the last accepted publisher to its first frame.
const PUBLISH_LEAD_NS: u64 = 20 * MILLISECOND_NS;
/// From the look at the server's memory to the first viewer.
const VIEWER_LEAD_NS: u64 = 20 * MILLISECOND_NS;
/// How long after the ramp viewers may still wait for their first frame, before measuring begins.
const FIRST_FRAMES_NS: u64 = 10 * SECOND_NS;
/// Lines of progress at both ends of what is measured, for programs that measure beside.
const WINDOW_OPENS: &str = "measuring begins";
const WINDOW_CLOSES: &str = "measuring ends";
/// How often the state of a run is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Exit code when a second signal does not let a run end by itself.
const EXIT_CODE_INTERRUPTED: i32 = 130;

/// Any reason why a run could not be done, as a sentence.
type Failure = Box<dyn std::error::Error>;

/// What to do, from the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job<'a> {
    /// Its name.
    pub(crate) command: &'static str,
    /// Where and how long.
    pub(crate) target: &'a Target,
    /// What to publish.
    pub(crate) content: Option<&'a Content>,
    /// Who plays.
    pub(crate) viewers: Option<&'a Viewers>,
    /// ffmpegs beside them.
    pub(crate) fleet: Option<&'a FleetPlan>,
    /// What to tell.
    pub(crate) output: &'a Output,
}

/// Threads and shared state of a run under way.
#[derive(Debug)]
struct Running {
    control: Arc<Control>,
    streams: Vec<Arc<Stream>>,
    publisher: Option<JoinHandle<io::Result<PublisherTally>>>,
    publisher_counters: Arc<PublisherCounters>,
    viewers: Vec<JoinHandle<io::Result<Tally>>>,
    viewer_counters: Vec<Arc<Counters>>,
    viewers_planned: u64,
    fleet: Option<Fleet>,
    interrupted: Arc<AtomicBool>,
    server: Option<Observed>,
    rss_at_start_bytes: u64,
    rss_before_bytes: u64,
    rss_max_bytes: u64,
    /// A look a second, in the window.
    rss_in_window: Vec<u64>,
    shows_progress: bool,
    next_progress_ns: u64,
    last_progress: (u64, u64),
}

/// A look at everything that is measured as a difference.
#[derive(Debug)]
struct Look {
    at_ns: u64,
    own: Usage,
    server: Option<Usage>,
    bytes: u64,
    published_bytes: u64,
    published_frames: u64,
}

/// Does the job and reports. Gives whether all went well.
pub(crate) fn execute(job: Job<'_>) -> Result<bool, Failure> {
    let url = StreamUrl::parse(&job.target.url)?;
    let rtmp = Server::resolve(&url.authority, RTMP_PORT)?;
    let http = match job.viewers.and_then(|viewers| viewers.http.as_deref()) {
        Some(authority) => {
            let authority = authority.trim_start_matches("http://").trim_end_matches('/');
            Server::resolve(authority, HTTP_PORT)?
        }
        None => Server::resolve(&format!("{}:{HTTP_PORT}", url.host), HTTP_PORT)?,
    };
    let played = match job.viewers.and_then(|viewers| viewers.rtmp_at.as_deref()) {
        Some(authority) => Server::resolve(authority, RTMP_PORT)?,
        None => rtmp.clone(),
    };
    check_limits(job, &rtmp, &http)?;
    let material = job.content.map(material).transpose()?;
    let origin = match &material {
        None => Origin::Elsewhere,
        Some(material) if material.is_stamped() => Origin::Stamped,
        Some(_) => Origin::File,
    };
    // Without content and viewers of our own there is no stream of our own.
    let is_ours = job.content.is_some() || job.viewers.is_some();
    let count = if is_ours { job.target.publishers } else { 0 };
    let streams: Vec<Arc<Stream>> = (0..count)
        .map(|index| {
            Arc::new(Stream {
                index,
                app: url.app.clone(),
                name: url.stream_name(index, count),
                published: Published::default(),
                origin,
                has_video: material.as_ref().map(Material::has_video),
            })
        })
        .collect();
    let server = job.output.pid.map(Observed::new).transpose()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A second one ends us at once.
        signal_hook::flag::register_conditional_shutdown(
            signal,
            EXIT_CODE_INTERRUPTED,
            Arc::clone(&interrupted),
        )?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let fleet = job.fleet.map(|plan| Fleet::start(plan, &url, &http, &interrupted)).transpose()?;
    let at_start = server.map(Observed::look).transpose()?;
    let mut running = Running {
        control: Arc::new(Control::new()),
        streams,
        publisher: None,
        publisher_counters: Arc::default(),
        viewers: Vec::new(),
        viewer_counters: Vec::new(),
        viewers_planned: 0,
        fleet,
        interrupted,
        server,
        rss_at_start_bytes: at_start.map_or(0, |usage| usage.rss_bytes),
        rss_before_bytes: 0,
        rss_max_bytes: 0,
        rss_in_window: Vec::new(),
        shows_progress: !job.output.quiet,
        next_progress_ns: 0,
        last_progress: (now_ns(), 0),
    };
    let mut window_ns = now_ns();
    if let Some(material) = &material {
        window_ns = running.start_publishers(job, material, &rtmp)?;
        let lead = job.viewers.map_or(Duration::ZERO, |viewers| viewers.viewers_after);
        let viewers_ns = window_ns + lead.as_nanos() as u64;
        running.wait(|_| now_ns() >= viewers_ns);
    }
    running.note_memory_before();
    if let Some(viewers) = job.viewers {
        let first_ns = now_ns() + VIEWER_LEAD_NS;
        window_ns = running.start_viewers(job, viewers, &played, &http, first_ns)?;
    }
    let mut report = running.measure(job, window_ns)?;
    report.judge(Demands {
        allow_skips: job.viewers.is_some_and(|viewers| viewers.allow_skips),
        p99_max_ms: job
            .viewers
            .and_then(|viewers| viewers.p99_max)
            .map(|limit| limit.as_secs_f64() * 1000.0),
        memory_is_flat: job.fleet.is_some(),
    });
    tell(&report, job.output)?;
    Ok(report.verdict.passed)
}

/// Runs a back end for hooks; says whether starts and ends pair.
pub(crate) fn hooks(sink: Sink, json: Option<&Path>) -> Result<bool, Failure> {
    let report = sink.run(|address| println!("hooks: http://{address}/"))?;
    let text = serde_json::to_string_pretty(&report)?;
    match json {
        Some(path) if path != Path::new("-") => fs::write(path, text + "\n")
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))?,
        _ => println!("{text}"),
    }
    Ok(report.is_paired())
}

/// Writes the synthetic stream to a file.
pub(crate) fn synthesize(path: &Path, args: ShapeArgs, length: Duration) -> Result<(), Failure> {
    let material = Material::Synthetic(Arc::new(Templates::new(shape(args))));
    let mut out = flv::header(args.audio_bitrate > 0, true).to_vec();
    let mut sink = |piece: &[u8]| out.extend_from_slice(piece);
    let Headers { metadata, configurations } = material.headers();
    if let Some(body) = metadata {
        flv::write_tag(flv::TAG_SCRIPT, 0, &body, &mut sink)?;
    }
    for (track, payload) in configurations {
        flv::write_tag(track.type_id(), 0, &payload, &mut sink)?;
    }
    let mut source = Source::new(material, 0);
    let mut payload = Vec::new();
    let start_ns = now_ns();
    while u128::from(source.next_due_ns()) < length.as_nanos() {
        let due_real_ns = real_ns(start_ns + source.next_due_ns());
        let frame = source.take(due_real_ns, &mut payload);
        flv::write_tag(frame.track.type_id(), frame.timestamp_ms, &payload, &mut sink)?;
    }
    fs::write(path, out)
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    Ok(())
}

fn shape(args: ShapeArgs) -> Shape {
    Shape {
        video_bits_per_second: args.bitrate,
        frames_per_second: args.fps,
        gop_frames: (args.gop.as_secs_f64() * args.fps).round().clamp(1.0, 1e6) as u32,
        audio_bits_per_second: args.audio_bitrate,
    }
}

fn material(content: &Content) -> Result<Material, Failure> {
    Ok(match &content.file {
        Some(path) => Material::File(Arc::new(FlvFile::open(path)?)),
        None => Material::Synthetic(Arc::new(Templates::new(shape(content.shape)))),
    })
}

fn check_limits(job: Job<'_>, rtmp: &Server, http: &Server) -> Result<(), Failure> {
    let publishers = job.content.map_or(0, |_| u64::from(job.target.publishers));
    let (over_rtmp, over_http) = job.viewers.map_or((0, 0), |viewers| {
        (u64::from(viewers.viewers_rtmp), u64::from(viewers.viewers_flv))
    });
    if job.viewers.is_some() && over_rtmp + over_http == 0 {
        return Err("say how many viewers: --viewers-rtmp N, --viewers-flv N, or both".into());
    }
    let pipes = job.fleet.map_or(0, FleetPlan::descriptors);
    limits::check_descriptors(publishers + over_rtmp + over_http + pipes)?;
    let from = &job.target.connections_from;
    limits::check_ports(publishers + over_rtmp, rtmp.address, from)?;
    limits::check_ports(over_http, http.address, from)?;
    Ok(())
}

fn tell(report: &Report, output: &Output) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(report)?;
    match output.json.as_deref() {
        Some(path) if path == Path::new("-") => {
            println!("{json}");
            eprint!("{report}");
        }
        path => {
            print!("{report}");
            if let Some(path) = path {
                fs::write(path, json + "\n").map_err(|error| {
                    format!("the report cannot be written to {}: {error}", path.display())
                })?;
            }
        }
    }
    Ok(())
}

impl Running {
    /// Connects all publishers, then starts their clock. Gives the moment of the first frame.
    fn start_publishers(
        &mut self,
        job: Job<'_>,
        material: &Material,
        rtmp: &Server,
    ) -> Result<u64, Failure> {
        let from = &job.target.connections_from;
        let mut publishers = Vec::new();
        for (index, stream) in self.streams.iter().enumerate() {
            let from = (!from.is_empty()).then(|| from[index % from.len()]);
            publishers.push(Publisher::open(
                Arc::clone(stream),
                material,
                rtmp.address,
                &rtmp.authority,
                from,
            )?);
        }
        let start_ns = now_ns() + PUBLISH_LEAD_NS;
        let thread = PublisherThread::new(
            publishers,
            material,
            start_ns,
            Arc::clone(&self.control),
            Arc::clone(&self.publisher_counters),
        )?;
        let spawned =
            thread::Builder::new().name("publishers".to_owned()).spawn(move || thread.run())?;
        self.publisher = Some(spawned);
        Ok(start_ns)
    }

    /// Starts the viewers' threads. Gives the moment of the last viewer's start.
    fn start_viewers(
        &mut self,
        job: Job<'_>,
        args: &Viewers,
        rtmp: &Server,
        http: &Server,
        start_ns: u64,
    ) -> Result<u64, Failure> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = args.threads.map_or(cores, |threads| threads as usize);
        let from = &job.target.connections_from;
        let plan = plan::plan(args, &self.streams, rtmp, http, from, threads, start_ns);
        self.viewers_planned = plan.threads.iter().map(|thread| thread.len() as u64).sum();
        for (index, viewers) in plan.threads.into_iter().enumerate() {
            let counters = Arc::new(Counters::default());
            self.viewer_counters.push(Arc::clone(&counters));
            let control = Arc::clone(&self.control);
            let thread = ViewerThread::new(viewers, control, counters, index as u64 + 1)?;
            let name = format!("viewers-{index}");
            self.viewers.push(thread::Builder::new().name(name).spawn(move || thread.run())?);
        }
        Ok(plan.last_start_ns)
    }

    /// Waits for the ramp, measures, lets viewers receive the rest, and makes the report.
    fn measure(mut self, job: Job<'_>, ramp_end_ns: u64) -> Result<Report, Failure> {
        self.wait(|this| {
            now_ns() >= ramp_end_ns
                && (this.everybody_began() || now_ns() > ramp_end_ns + FIRST_FRAMES_NS)
        });
        if let Some(warm_up) = job.target.warm_up {
            let warm_ns = now_ns() + warm_up.as_nanos() as u64;
            self.wait(|this| now_ns() >= warm_ns || this.is_pointless());
        }
        self.say(WINDOW_OPENS);
        self.control.open_window(now_ns());
        let before = self.look()?;
        let window_ns = job.target.duration.as_nanos() as u64;
        self.wait(|this| now_ns() >= before.at_ns + window_ns || this.is_pointless());
        let after = self.look();
        self.control.close_window(now_ns());
        self.say(WINDOW_CLOSES);
        if self.publisher.is_some() {
            while !self.publisher_counters.flushed.load(Ordering::Acquire)
                && self.publisher.as_ref().is_some_and(|thread| !thread.is_finished())
            {
                thread::sleep(LOOK);
            }
            if let Some(viewers) = job.viewers {
                self.settle(viewers.settle);
            }
        }
        self.control.finish_viewers();
        let fleet = self.fleet.take().map(Fleet::stop).transpose()?;
        if self.shows_progress && io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
        // A server that is gone by now has left its reason in the viewers' tallies.
        let after = match after {
            Ok(look) => look,
            Err(_) => Look { server: None, ..self.look_without_server()? },
        };
        self.report(job, &before, &after, fleet)
    }

    fn settle(&self, patience: Duration) {
        self.control.settle();
        let deadline_ns = now_ns() + patience.as_nanos() as u64;
        while now_ns() < deadline_ns {
            thread::sleep(LOOK);
            let complete = self.sum(|counters| counters.complete.load(Ordering::Relaxed));
            if complete >= self.sum(|counters| counters.started.load(Ordering::Relaxed)) {
                break;
            }
        }
    }

    fn wait(&mut self, mut is_over: impl FnMut(&Self) -> bool) {
        while !is_over(self) && !self.interrupted.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
            if now_ns() >= self.next_progress_ns {
                self.progress();
            }
        }
    }

    fn progress(&mut self) {
        let now = now_ns();
        self.next_progress_ns = now + SECOND_NS;
        if let Some(Ok(usage)) = self.server.map(Observed::look) {
            self.rss_max_bytes = self.rss_max_bytes.max(usage.rss_bytes);
            let window = self.control.window();
            if (window.start_ns..window.end_ns).contains(&now) {
                self.rss_in_window.push(usage.rss_bytes);
            }
        }
        if !self.shows_progress {
            return;
        }
        let bytes = self.sum(|counters| counters.bytes.load(Ordering::Relaxed));
        let (last_ns, last_bytes) = std::mem::replace(&mut self.last_progress, (now, bytes));
        let seconds = (now - last_ns).max(1) as f64 / SECOND_NS as f64;
        let mut line = format!(
            "{} frames published, {}/{} viewers play, {} gone, {:.1} Mbit/s received",
            self.publisher_counters.frames.load(Ordering::Relaxed),
            self.sum(|counters| counters.playing.load(Ordering::Relaxed)),
            self.viewers_planned,
            self.sum(|counters| counters.gone.load(Ordering::Relaxed)),
            (bytes - last_bytes) as f64 * 8.0 / 1e6 / seconds
        );
        if let Some(fleet) = &self.fleet {
            let _ = write!(line, ", {} ffmpegs run", fleet.running());
        }
        self.say(&line);
    }

    /// Shows a line of progress: the only one on a terminal, one more elsewhere.
    fn say(&self, line: &str) {
        if !self.shows_progress {
            return;
        }
        let mut err = io::stderr();
        // Progress that cannot be shown is no reason to stop.
        let _ =
            if err.is_terminal() { write!(err, "\r\x1b[K{line}") } else { writeln!(err, "{line}") };
    }

    fn sum(&self, value: impl Fn(&Counters) -> u64) -> u64 {
        self.viewer_counters.iter().map(|counters| value(counters)).sum()
    }

    fn everybody_began(&self) -> bool {
        let begun = self.sum(|counters| {
            counters.playing.load(Ordering::Relaxed) + counters.gone.load(Ordering::Relaxed)
        });
        begun >= self.viewers_planned
    }

    /// Whether nobody is left to publish or to play, or an ffmpeg is missing: then the run has failed.
    fn is_pointless(&self) -> bool {
        let gone = self.sum(|counters| counters.gone.load(Ordering::Relaxed));
        let publishers = self.streams.len() as u64;
        let failed = self.publisher_counters.failed.load(Ordering::Relaxed);
        (self.viewers_planned > 0 && gone >= self.viewers_planned)
            || (publishers > 0 && failed >= publishers)
            || self.fleet.as_ref().is_some_and(Fleet::is_incomplete)
    }

    fn note_memory_before(&mut self) {
        if let Some(Ok(usage)) = self.server.map(Observed::look) {
            self.rss_before_bytes = usage.rss_bytes;
            self.rss_max_bytes = usage.rss_bytes;
        }
    }

    fn look(&self) -> Result<Look, Failure> {
        let server = self.server.map(Observed::look).transpose()?;
        Ok(Look { server, ..self.look_without_server()? })
    }

    fn look_without_server(&self) -> Result<Look, Failure> {
        Ok(Look {
            at_ns: now_ns(),
            own: Observed::own().look()?,
            server: None,
            bytes: self.sum(|counters| counters.bytes.load(Ordering::Relaxed)),
            published_bytes: self
                .streams
                .iter()
                .map(|stream| stream.published.payload_bytes())
                .sum(),
            published_frames: self.publisher_counters.frames.load(Ordering::Relaxed),
        })
    }

    fn report(
        mut self,
        job: Job<'_>,
        before: &Look,
        after: &Look,
        ffmpeg: Option<FfmpegReport>,
    ) -> Result<Report, Failure> {
        let window_s = (after.at_ns - before.at_ns).max(1) as f64 / SECOND_NS as f64;
        let bytes = after.bytes - before.bytes;
        let mut tally = Tally::new();
        for thread in self.viewers.drain(..) {
            tally.merge(&thread.join().map_err(|_| "a thread of viewers panicked")??);
        }
        self.control.finish_publishers();
        let publishers = match self.publisher.take() {
            None => None,
            Some(thread) => {
                let tally = thread.join().map_err(|_| "the thread of publishers panicked")??;
                let published_bytes = (after.published_bytes - before.published_bytes) as f64;
                Some(PublishersReport {
                    frames: tally.frames,
                    frames_per_second: (after.published_frames - before.published_frames) as f64
                        / window_s
                        / f64::from(job.target.publishers),
                    bits_per_second: published_bytes * 8.0
                        / window_s
                        / f64::from(job.target.publishers),
                    lateness: Summary::of(&tally.lateness),
                    queue_bytes_max: tally.queue_bytes_max,
                    failures: tally.failures,
                })
            }
        };
        let (before_published, after_published) = (before.published_bytes, after.published_bytes);
        let (own_ns, busiest_ns) = after.own.cpu_since(&before.own);
        let share = |ns: u64| ns as f64 / SECOND_NS as f64 / window_s;
        let mut loadgen = OwnReport {
            cores: share(own_ns),
            busiest_thread_cores: share(busiest_ns),
            turn: Summary::of(&tally.turn),
            was_bottleneck: false,
            reasons: Vec::new(),
        };
        loadgen.judge(publishers.as_ref().map(|publishers| &publishers.lateness));
        let server = match (&before.server, &after.server, job.output.pid) {
            (Some(before), Some(after), Some(pid)) => {
                let published = after_published - before_published;
                let joins = job.viewers.filter(|viewers| viewers.rejoin).map(|_| tally.joins);
                let work = Work { bytes, published_bytes: published, joins };
                Some(self.server_report(pid, before, after, window_s, work))
            }
            _ => None,
        };
        Ok(Report {
            version: env!("CARGO_PKG_VERSION"),
            command: job.command,
            url: job.target.url.clone(),
            streams: self.streams.len() as u32,
            window_s,
            publishers,
            viewers: job.viewers.map(|viewers| viewers_report(viewers, tally, bytes, window_s)),
            ffmpeg,
            server,
            loadgen,
            verdict: Verdict {
                passed: false,
                loss: Loss::NotKnown,
                faults: Vec::new(),
                notes: Vec::new(),
            },
        })
    }

    fn server_report(
        &self,
        pid: u32,
        before: &Usage,
        after: &Usage,
        window_s: f64,
        work: Work,
    ) -> ServerReport {
        let cpu_s = after.cpu_since(before).0 as f64 / SECOND_NS as f64;
        let grown = after.rss_bytes.saturating_sub(self.rss_before_bytes) as f64;
        let third = self.rss_in_window.len() / 3;
        let (_, last_third) = self.rss_in_window.split_at(self.rss_in_window.len() - third);
        ServerReport {
            pid,
            cpu_s,
            cores: cpu_s / window_s,
            cpu_s_per_gb: per_gb(cpu_s, work.bytes),
            cpu_s_per_published_gb: per_gb(cpu_s, work.published_bytes),
            cpu_ms_per_join: work
                .joins
                .filter(|joins| *joins > 0)
                .map(|joins| cpu_s * 1e3 / joins as f64),
            rss_at_start_bytes: self.rss_at_start_bytes,
            rss_before_bytes: self.rss_before_bytes,
            rss_bytes: after.rss_bytes,
            rss_max_bytes: self.rss_max_bytes.max(after.rss_bytes),
            rss_first_third_bytes: median(&self.rss_in_window[..third]),
            rss_last_third_bytes: median(last_third),
            rss_per_viewer_bytes: (self.viewers_planned > 0)
                .then(|| grown / self.viewers_planned as f64),
        }
    }
}

/// What the server did in the window.
#[derive(Clone, Copy, Debug)]
struct Work {
    /// That viewers received.
    bytes: u64,
    /// Payload of publishers.
    published_bytes: u64,
    /// None unless viewers leave with their first frame.
    joins: Option<u64>,
}

fn per_gb(cpu_s: f64, bytes: u64) -> Option<f64> {
    (bytes > 0).then(|| cpu_s / (bytes as f64 / 1e9))
}

fn median(values: &[u64]) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

fn viewers_report(args: &Viewers, tally: Tally, bytes: u64, window_s: f64) -> ViewersReport {
    ViewersReport {
        rtmp: args.viewers_rtmp,
        http_flv: args.viewers_flv,
        started: tally.started,
        played: tally.played,
        without_media: tally.without_media,
        joins: args.rejoin.then_some(tally.joins),
        ended_early: tally.ended_early,
        bytes,
        bits_per_second: bytes as f64 * 8.0 / window_s,
        sampled: tally.sampled,
        sample: tally.sample,
        others: tally.others,
        unstamped: tally.unstamped,
        byte_check: tally.bytes,
        stalls: tally.stalls,
        stalled_viewers: tally.stalled_viewers,
        longest_silence_s: tally.longest_silence_s(),
        latency_audio: Summary::of(&tally.latency[0]),
        latency_video: Summary::of(&tally.latency[1]),
        first_frame: Summary::of(&tally.first_frame),
        failures: tally.failures,
    }
}
