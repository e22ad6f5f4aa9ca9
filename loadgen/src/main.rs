//! Load generator for live media servers: publishes and plays RTMP and HTTP-FLV, and holds what
//! viewers receive against what was published.
//!
//! | module        | what it knows                                                    |
//! |---------------|------------------------------------------------------------------|
//! | `cli`         | the command line                                                 |
//! | `run`         | one run from start to report                                     |
//! | `plan`        | which viewer plays what, when, and who is in the sample          |
//! | `publisher`   | the thread that sends frames on an absolute schedule             |
//! | `source`      | where frames come from: `synthetic` or `flv_file`                |
//! | `stamp`       | what a synthetic frame says about itself                         |
//! | `published`   | what was published, for those who judge what was received        |
//! | `viewer`      | the threads that play, count and check                           |
//! | `check`       | order, loss, doubles, damage                                     |
//! | `wire_form`   | how many bytes a server spends on a message                      |
//! | `ffmpeg`      | ffmpegs that publish and play, followed packet by packet         |
//! | `hook_sink`   | a back end for hooks that counts pairs                           |
//! | `push`        | members of a push channel, and what messages to them cost        |
//! | `signal`      | members of rooms: what they are told, and when                   |
//! | `usage`       | CPU and memory of a process                                      |
//! | `report`      | the report and its verdict                                       |

mod check;
mod cli;
mod clock;
mod control;
mod failure;
mod ffmpeg;
mod flv_file;
mod histogram;
mod hook_sink;
mod limits;
mod media;
mod plan;
mod poll;
mod published;
mod publisher;
mod push;
mod report;
mod run;
mod signal;
mod socket;
mod source;
mod stamp;
mod stream;
mod synthetic;
mod target;
mod usage;
mod viewer;
mod wire_form;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::hook_sink::Sink;
use crate::run::Job;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Run { target, content, viewers, output } => run::execute(Job {
            command: "run",
            target,
            content: Some(content),
            viewers: Some(viewers),
            fleet: None,
            output,
        }),
        Command::Publish { target, content, output } => run::execute(Job {
            command: "publish",
            target,
            content: Some(content),
            viewers: None,
            fleet: None,
            output,
        }),
        Command::Play { target, viewers, output } => run::execute(Job {
            command: "play",
            target,
            content: None,
            viewers: Some(viewers),
            fleet: None,
            output,
        }),
        Command::Ffmpeg(ffmpeg) => run::execute(Job {
            command: "ffmpeg",
            target: &ffmpeg.target(),
            content: ffmpeg.content().as_ref(),
            viewers: ffmpeg.viewers().as_ref(),
            fleet: Some(&ffmpeg.fleet()),
            output: &ffmpeg.output,
        }),
        Command::Hooks { listen, latency, errors, duration, json } => {
            let sink = Sink {
                listen: *listen,
                latency: latency.unwrap_or_default(),
                errors_percent: *errors,
                duration: *duration,
            };
            run::hooks(sink, json.as_deref())
        }
        Command::Push(args) => {
            return leave(push::execute(args).map_err(|error| error.to_string()));
        }
        Command::Signal(args) => {
            return leave(signal::execute(args).map_err(|error| error.to_string()));
        }
        Command::PushFloor { connections, bytes } => {
            let served = push::serve_floor(*connections, *bytes);
            return leave(served.map(|()| true).map_err(|error| error.to_string()));
        }
        Command::Synthesize { file, shape, duration } => {
            run::synthesize(file, *shape, *duration).map(|()| true)
        }
    };
    leave(result.map_err(|error| error.to_string()))
}

fn leave(result: Result<bool, String>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::from(2)
        }
    }
}
