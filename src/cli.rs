//! The command line: what to do, with which configuration.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::session::SessionCommand;
use crate::config::{DEFAULT_TOML, Settings, Source};

mod session;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "shardcast",
    version,
    about = "A live media server: publish with RTMP, play with RTMP and HTTP-FLV",
    after_help = EXAMPLES,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(flatten)]
    options: RunOptions,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Options before a command count as much as those behind it.
#[derive(Args, Debug)]
struct RunOptions {
    /// Configuration file; without one the defaults hold
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
}

#[derive(Args, Debug)]
struct Overrides {
    /// Set one key over file and environment; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (also without a command)
    Run(RunOptions),
    /// Check a configuration file, together with the environment and --set, and exit
    Check {
        /// The file to check
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Print the commented default configuration
    DefaultConfig,
    /// Sign and check sessions of the push channel, with push.secret of the configuration
    Session {
        #[command(subcommand)]
        command: SessionCommand,
    },
}

/// What is left to do after the command line.
#[derive(Debug)]
pub enum Action {
    /// Everything is done: leave with this code.
    Exit(ExitCode),
    /// Run the server with these settings, which can be read again.
    Run(Box<Settings>, Source),
}

const EXAMPLES: &str = "\
Examples:
  shardcast                                        run with the defaults
  shardcast --config /etc/shardcast.toml           run with a file
  shardcast --set rtmp.listen=127.0.0.1:1936       set a key
  shardcast --set apps.live.latency=realtime --set apps.live.viewer.max_lag=4s
  SHARDCAST_HTTP_LISTEN=127.0.0.1:8081 shardcast   set a key by environment
  shardcast check /etc/shardcast.toml              say what is wrong with a file
  shardcast default-config > shardcast.toml        begin a file of your own
  shardcast --set push.secret=KEY session sign --user 5 --channels 10,12

Publish and play:
  ffmpeg -re -i FILE -c copy -f flv rtmp://127.0.0.1/live/cam
  ffplay rtmp://127.0.0.1/live/cam
  ffplay http://127.0.0.1:8080/live/cam.flv";

impl Cli {
    /// Reads this process's arguments; wrong ones, `--help` and `--version` end the process.
    pub fn from_arguments() -> Self {
        Self::parse()
    }

    /// Does what needs no server, and loads the settings for the rest. Complaints go to stderr.
    pub fn action(self) -> Action {
        let mut config = self.options.config;
        let mut set = self.options.overrides.set;
        match self.command {
            Some(Command::DefaultConfig) => return Action::Exit(print(DEFAULT_TOML)),
            Some(Command::Check { file, overrides }) => {
                set.extend(overrides.set);
                return Action::Exit(check(config.as_deref(), &file, &set));
            }
            Some(Command::Session { command }) => {
                return Action::Exit(match Source::new(config, set).load() {
                    Ok(settings) => say(command.run(&settings)),
                    Err(lines) => complain(&lines),
                });
            }
            Some(Command::Run(options)) => {
                config = options.config.or(config);
                set.extend(options.overrides.set);
            }
            None => {}
        }
        let source = Source::new(config, set);
        match source.load() {
            Ok(settings) => Action::Run(Box::new(settings), source),
            Err(lines) => Action::Exit(complain(&lines)),
        }
    }
}

fn check(config: Option<&Path>, file: &Path, set: &[String]) -> ExitCode {
    if config.is_some() {
        return complain(&["check takes the file as its argument, without --config".to_owned()]);
    }
    match Source::new(Some(file.to_owned()), set.to_vec()).load() {
        Ok(_) => print(&format!("{} is valid\n", file.display())),
        Err(lines) => complain(&lines),
    }
}

fn say(result: Result<String, String>) -> ExitCode {
    match result {
        Ok(text) => print(&text),
        Err(line) => complain(&[line]),
    }
}

fn complain(lines: &[String]) -> ExitCode {
    for line in lines {
        eprintln!("{line}");
    }
    ExitCode::FAILURE
}

/// Prints to stdout; a reader that went away is no reason to panic.
fn print(text: &str) -> ExitCode {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("shardcast").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn command_lines() {
        let cli = parse("--config f.toml --set a=1 --set b=2").unwrap();
        assert_eq!(cli.options.config.as_deref(), Some(Path::new("f.toml")));
        assert_eq!(cli.options.overrides.set, ["a=1", "b=2"]);
        assert!(cli.command.is_none());
        assert!(matches!(
            parse("check f.toml --set a=1").unwrap().command,
            Some(Command::Check { overrides, .. }) if overrides.set == ["a=1"]
        ));
        assert!(matches!(parse("default-config").unwrap().command, Some(Command::DefaultConfig)));
        for line in ["check", "serve", "f.toml", "--set"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn options_on_both_sides_of_a_command_count() {
        let line = "--set limits.streams=1 --set rtmp.chunk_size=200 run --set limits.streams=2";
        let Action::Run(settings, _) = parse(line).unwrap().action() else {
            panic!("these settings are valid")
        };
        assert_eq!((settings.limits.streams, settings.rtmp.chunk_size), (2, 200));
    }

    #[test]
    fn a_file_that_is_missing_stops_the_start() {
        let missing = Source::new(Some("/does/not/exist.toml".into()), Vec::new());
        let lines = missing.load().unwrap_err();
        assert!(lines[0].starts_with("/does/not/exist.toml: "), "{lines:?}");
    }
}
