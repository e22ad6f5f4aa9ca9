//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::push::PushArgs;

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
  A real file instead of the synthetic stream:
    loadgen run rtmp://localhost/live/load --viewers-rtmp 100 --file video.flv
  Publisher and viewers apart:
    loadgen publish rtmp://localhost/live/load --duration 60s
    loadgen play rtmp://localhost/live/load --viewers-rtmp 1000 --duration 30s
  Messages to 10,000 members of a push channel:
    loadgen push --secret KEY --members-rtmp 5000 --members-websocket 5000 --pid $(pidof shardcast)
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
    /// Connect members of a push channel, send them messages, and say what that costs.
    Push(PushArgs),
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
    /// Viewers moved on to a later keyframe by the server are no fault.
    #[arg(long)]
    pub(crate) allow_skips: bool,
}

/// What to tell.
#[derive(Args, Debug)]
pub(crate) struct Output {
    /// Process of the server on this machine: its CPU and memory are reported.
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
    fn the_default_sample_is_the_larger_of_twenty_and_five_percent() {
        assert_eq!(Sample::of(None, 7), 7);
        assert_eq!(Sample::of(None, 100), 20);
        assert_eq!(Sample::of(None, 5_000), 250);
        assert_eq!(Sample::of(Some(Sample::All), 5_000), 5_000);
        assert_eq!(Sample::of(Some(Sample::Percent(0.0)), 5_000), 0);
    }
}
