//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::ffmpeg::FleetPlan;
use crate::push::PushArgs;
use crate::signal::SignalArgs;

/// Load generator for RTMP and HTTP-FLV servers.
///
/// Publishes streams on an open-loop schedule, plays them with thousands of viewers, and holds
/// what they receive against what was published. Exit code 0: nothing was lost, doubled, damaged
/// or out of order, and nobody was disconnected. 1: something was. 2: the run could not be done.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, args_override_self = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  One publisher, 500 RTMP viewers, with the server's CPU and memory:
    loadgen run rtmp://localhost/live/load --viewers-rtmp 500 --pid $(pidof shardcast)
  Ten streams, half of the viewers over HTTP-FLV, results for a program:
    loadgen run rtmp://localhost/live/load --publishers 10 --viewers-rtmp 500 --viewers-flv 500 \\
      --json result.json
  A storm of joins, 200 under way at a time:
    loadgen run rtmp://localhost/live/load --viewers-rtmp 200 --rejoin --pid $(pidof shardcast)
  A real file instead of the synthetic stream:
    loadgen run rtmp://localhost/live/load --viewers-rtmp 100 --file video.flv
  Publisher and viewers apart:
    loadgen publish rtmp://localhost/live/load --duration 60s
    loadgen play rtmp://localhost/live/load --viewers-rtmp 1000 --duration 30s
  Forty ffmpegs that publish and forty that play a file, beside 2,000 viewers:
    loadgen ffmpeg rtmp://localhost/live/load --publishers 40 --players 40 --file video.flv \\
      --pid $(pidof shardcast)
  Messages to 10,000 members of a push channel:
    loadgen push --secret KEY --members-rtmp 5000 --members-websocket 5000 --pid $(pidof shardcast)
  5,000 members of 1,000 rooms:
    loadgen signal --connections 5000 --rooms 1000 --pid $(pidof shardcast)
  See the synthetic stream:
    loadgen synthesize synthetic.flv && ffplay synthetic.flv";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish and play, and hold what is received against what was published.
    Run {
        /// Where.
        #[command(flatten)]
        target: Target,
        /// The streams.
        #[command(flatten)]
        content: Content,
        /// The viewers.
        #[command(flatten)]
        viewers: Viewers,
        /// The report.
        #[command(flatten)]
        output: Output,
    },
    /// Publish only.
    Publish {
        /// Where.
        #[command(flatten)]
        target: Target,
        /// The streams.
        #[command(flatten)]
        content: Content,
        /// The report.
        #[command(flatten)]
        output: Output,
    },
    /// Play only: streams of `loadgen publish`, or of anything else (then without latency and order).
    Play {
        /// Where.
        #[command(flatten)]
        target: Target,
        /// The viewers.
        #[command(flatten)]
        viewers: Viewers,
        /// The report.
        #[command(flatten)]
        output: Output,
    },
    /// Publish and play a file with real ffmpegs beside loadgen's own viewers, and judge all.
    ///
    /// Each ffmpeg publishes the file in a loop under a name of its own (STREAM-ffmpeg-0 and so on), or
    /// plays one of these. No ffmpeg may write an error, every player must receive its publisher's
    /// packets and none but those, the server's memory must not grow, and the latency of loadgen's own
    /// viewers must stay in its class.
    Ffmpeg(Ffmpeg),
    /// Be the back end of a server's hooks, in either dialect, and count whether every accepted start
    /// has its end. Ends by a signal or after `--duration`.
    Hooks {
        /// Where.
        #[arg(long, default_value = "127.0.0.1:8085")]
        listen: SocketAddr,
        /// Time before each answer [default: none].
        #[arg(long, value_parser = duration)]
        latency: Option<Duration>,
        /// Percent of the events that are answered 500.
        #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
        errors: f64,
        /// How long.
        #[arg(long, value_parser = duration)]
        duration: Option<Duration>,
        /// Write the report as JSON, for programs; `-` is standard output.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Connect members of a push channel, send them messages, and say what that costs.
    Push(PushArgs),
    /// Connect members of rooms, let them talk and leave, and say how long that takes.
    Signal(SignalArgs),
    /// The sender that `push` compares with.
    #[command(hide = true, name = "push-floor")]
    PushFloor {
        /// Connections to wait for.
        connections: u64,
        /// Bytes of a message.
        bytes: usize,
    },
    /// Write the synthetic stream to an FLV file, to look at it.
    Synthesize {
        /// The file.
        file: PathBuf,
        /// The stream.
        #[command(flatten)]
        shape: ShapeArgs,
        /// How much of it.
        #[arg(long, default_value = "10s", value_parser = duration)]
        duration: Duration,
    },
}

/// Real ffmpegs beside loadgen's own viewers.
#[derive(Args, Debug)]
pub(crate) struct Ffmpeg {
    /// Address of loadgen's own stream, from which the others' names are made.
    #[arg(default_value = "rtmp://localhost/live/load")]
    pub(crate) url: String,
    /// ffmpegs that publish.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) publishers: u32,
    /// ffmpegs that play, over RTMP and HTTP-FLV in turn.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(crate) players: u32,
    /// What they publish: an FLV or MP4 file that begins with a keyframe.
    #[arg(long)]
    pub(crate) file: PathBuf,
    /// loadgen's own viewers, over RTMP and HTTP-FLV in turn; they play a synthetic stream, which
    /// loadgen publishes.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) viewers: u32,
    /// Video bits per second of that stream.
    #[arg(long, default_value = "500k", value_parser = bit_rate)]
    pub(crate) bitrate: u64,
    /// How long to measure, when all play.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How long all play before measuring begins: the server's buffers are full by then.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) warm_up: Duration,
    /// The latency class: a larger 99th percentile of a track is a fault. 60ms for `balanced`, 400ms
    /// for `throughput`.
    #[arg(long, default_value = "60ms", value_parser = duration)]
    pub(crate) p99_max: Duration,
    /// HOST:PORT for HTTP-FLV [default: the host of the URL, port 8080].
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) http: Option<String>,
    /// The ffmpeg to start.
    #[arg(long, value_name = "PROGRAM", default_value = "ffmpeg")]
    pub(crate) ffmpeg: PathBuf,
    /// The report.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Where and how long.
#[derive(Args, Debug)]
pub(crate) struct Target {
    /// Address of the stream: `rtmp://HOST[:PORT]/APP/STREAM`.
    pub(crate) url: String,
    /// Number of streams; more than one are called STREAM-0, STREAM-1, and so on.
    #[arg(long, visible_alias = "streams", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) publishers: u32,
    /// How long to measure, from the start of the last viewer on.
    #[arg(long, default_value = "20s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How long all viewers play before measuring begins [default: not at all].
    #[arg(long, value_parser = duration)]
    pub(crate) warm_up: Option<Duration>,
    /// Source addresses, to have more ports: 127.0.0.1,127.0.0.2.
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub(crate) connections_from: Vec<IpAddr>,
}

/// What to publish.
#[derive(Args, Debug)]
pub(crate) struct Content {
    /// The synthetic stream.
    #[command(flatten)]
    pub(crate) shape: ShapeArgs,
    /// An FLV file, looped, instead of the synthetic stream.
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
}

/// The synthetic stream.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ShapeArgs {
    /// Video bits per second: 500k, 2M.
    #[arg(long, default_value = "2M", value_parser = bit_rate)]
    pub(crate) bitrate: u64,
    /// Pictures per second.
    #[arg(long, default_value_t = 30.0, value_parser = frame_rate)]
    pub(crate) fps: f64,
    /// Time from keyframe to keyframe.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub(crate) gop: Duration,
    /// Audio bits per second; 0 for none.
    #[arg(long, default_value = "128k", value_parser = bit_rate)]
    pub(crate) audio_bitrate: u64,
}

/// Who plays.
#[derive(Args, Debug)]
pub(crate) struct Viewers {
    /// Viewers over RTMP.
    #[arg(long, default_value_t = 0)]
    pub(crate) viewers_rtmp: u32,
    /// Viewers over HTTP-FLV.
    #[arg(long, default_value_t = 0)]
    pub(crate) viewers_flv: u32,
    /// HOST:PORT for HTTP-FLV; viewers ask for /APP/STREAM.flv there [default: the host of the
    /// URL, port 8080].
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) http: Option<String>,
    /// HOST:PORT where RTMP viewers play instead: a server that the first one sends the stream on to.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) rtmp_at: Option<String>,
    /// How long publishers run before the first viewer starts; then the server's memory is looked
    /// at, too.
    #[arg(long, default_value = "300ms", value_parser = duration)]
    pub(crate) viewers_after: Duration,
    /// Viewers started per second: 200/s.
    #[arg(long, default_value = "500/s", value_parser = rate)]
    pub(crate) ramp: f64,
    /// Viewers that read and check every message: a number, a percentage, or all [default: the
    /// larger of 20 and 5 %].
    #[arg(long, value_parser = sample)]
    pub(crate) sample: Option<Sample>,
    /// Threads for viewers [default: one per core].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) threads: Option<u32>,
    /// How long viewers may take to receive the rest after the last frame was sent.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) settle: Duration,
    /// Each viewer leaves with its first frame, and another one comes in its place: a storm of
    /// joins, with so many under way at a time.
    #[arg(long)]
    pub(crate) rejoin: bool,
    /// Viewers moved on to a later keyframe by the server are no fault.
    #[arg(long)]
    pub(crate) allow_skips: bool,
    /// A larger latency of a track at the 99th percentile is a fault [default: none is].
    #[arg(long, value_parser = duration)]
    pub(crate) p99_max: Option<Duration>,
}

/// What to tell.
#[derive(Args, Debug)]
pub(crate) struct Output {
    /// Process of the server on this machine: its CPU and memory, and those of its child processes,
    /// are reported.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Write the report as JSON, for programs; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// No progress line.
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// Which viewers check everything.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sample {
    /// So many.
    Viewers(u64),
    /// This part of them.
    Percent(f64),
    /// All.
    All,
}

impl Ffmpeg {
    /// Where loadgen's own part of the run is.
    pub(crate) fn target(&self) -> Target {
        Target {
            url: self.url.clone(),
            publishers: 1,
            duration: self.duration,
            warm_up: Some(self.warm_up),
            connections_from: Vec::new(),
        }
    }

    /// What loadgen itself publishes, unless it has no viewers.
    pub(crate) fn content(&self) -> Option<Content> {
        let shape = ShapeArgs { bitrate: self.bitrate, ..defaults() };
        (self.viewers > 0).then_some(Content { shape, file: None })
    }

    /// loadgen's own viewers, if there are any.
    pub(crate) fn viewers(&self) -> Option<Viewers> {
        (self.viewers > 0).then(|| Viewers {
            viewers_rtmp: self.viewers.div_ceil(2),
            viewers_flv: self.viewers / 2,
            http: self.http.clone(),
            p99_max: Some(self.p99_max),
            ..defaults()
        })
    }

    /// The ffmpegs.
    pub(crate) fn fleet(&self) -> FleetPlan {
        FleetPlan {
            program: self.ffmpeg.clone(),
            file: self.file.clone(),
            publishers: self.publishers,
            players: self.players,
        }
    }
}

impl Sample {
    /// How many of `viewers`.
    pub(crate) fn of(this: Option<Self>, viewers: u64) -> u64 {
        let percent = |percent: f64| (viewers as f64 * percent / 100.0).ceil() as u64;
        let wanted = match this {
            None => percent(5.0).max(20),
            Some(Self::Viewers(count)) => count,
            Some(Self::Percent(part)) => percent(part),
            Some(Self::All) => viewers,
        };
        wanted.min(viewers)
    }
}

/// Options of which none is given.
#[expect(clippy::expect_used, reason = "a test takes the defaults of all that are asked for")]
fn defaults<T: Args>() -> T {
    let command = T::augment_args(clap::Command::new("defaults"));
    T::from_arg_matches(&command.get_matches_from(["defaults"])).expect("each has a default")
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err("write it as 500ms, 20s, 5m or 1h".to_owned()),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * factor).ok())
        .filter(|duration| !duration.is_zero() && duration.as_secs() < 1_000_000)
        .ok_or_else(|| "write it as 500ms, 20s, 5m or 1h".to_owned())
}

fn bit_rate(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    number
        .parse::<f64>()
        .ok()
        .map(|number| number * factor)
        .filter(|bits| (0.0..=1e9).contains(bits))
        .map(|bits| bits as u64)
        .ok_or_else(|| "write it as 500k or 2M, at most 1000M".to_owned())
}

fn frame_rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.1..=1000.0).contains(rate))
        .ok_or_else(|| "a frame rate is between 0.1 and 1000".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    text.strip_suffix("/s")
        .unwrap_or(text)
        .parse()
        .ok()
        .filter(|rate| (0.01..=1e6).contains(rate))
        .ok_or_else(|| "write it as 200/s".to_owned())
}

fn sample(text: &str) -> Result<Sample, String> {
    if text == "all" {
        return Ok(Sample::All);
    }
    let parsed = match text.strip_suffix('%') {
        Some(number) => number
            .trim()
            .parse()
            .ok()
            .filter(|part| (0.0..=100.0).contains(part))
            .map(Sample::Percent),
        None => text.parse().ok().map(Sample::Viewers),
    };
    parsed.ok_or_else(|| "write it as 50, 10% or all".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values_are_read() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("0s").is_err() && duration("2 weeks").is_err());
        assert_eq!(bit_rate("1.5M"), Ok(1_500_000));
        assert_eq!(bit_rate("0"), Ok(0));
        assert!(bit_rate("2G").is_err());
        assert_eq!(rate("200/s"), Ok(200.0));
        assert_eq!(sample("5%"), Ok(Sample::Percent(5.0)));
    }

    #[test]
    fn a_run_with_ffmpegs_has_the_defaults_of_others() {
        let cli = Cli::parse_from(["loadgen", "ffmpeg", "--file", "f.flv", "--viewers", "3"]);
        let Command::Ffmpeg(ffmpeg) = cli.command else { panic!("it is another command") };
        let viewers = ffmpeg.viewers().expect("there are some");
        assert_eq!((viewers.viewers_rtmp, viewers.viewers_flv, viewers.ramp), (2, 1, 500.0));
        let shape = ffmpeg.content().expect("they play something").shape;
        assert_eq!((shape.bitrate, shape.audio_bitrate, shape.fps), (500_000, 128_000, 30.0));
        let cli = Cli::parse_from(["loadgen", "ffmpeg", "--file", "f.flv", "--viewers", "0"]);
        let Command::Ffmpeg(ffmpeg) = cli.command else { panic!("it is another command") };
        assert!(ffmpeg.viewers().is_none() && ffmpeg.content().is_none());
    }

    #[test]
    fn the_default_sample_is_the_larger_of_twenty_and_five_percent() {
        assert_eq!(Sample::of(None, 7), 7);
        assert_eq!(Sample::of(None, 100), 20);
        assert_eq!(Sample::of(None, 5_000), 250);
        assert_eq!(Sample::of(Some(Sample::All), 5_000), 5_000);
        assert_eq!(Sample::of(Some(Sample::Percent(0.0)), 5_000), 0);
    }
}
