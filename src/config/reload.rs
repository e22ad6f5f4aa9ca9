//! Reading the configuration again while the server runs.
//!
//! Who may do what, whom to tell and whom to relay to can change without touching a connection, and so
//! can the log's level. What listeners, shards and caps were made of cannot: a change there keeps its
//! running value until the next start, and is named. A configuration with a fault changes nothing.

use std::path::{Path, PathBuf};

use super::error::{ConfigError, dotted};
use super::resolve;
use super::settings::Settings;
use super::tree::{Node, Value};
use super::{DEFAULT_TOML, Sources};

/// What takes effect without a restart; everything below a table counts as the table.
const LIVE: [&[&str]; 11] = [
    &["api", "token"],
    &["apps"],
    &["hooks"],
    &["http", "cors"],
    &["http", "origins"],
    &["log", "level"],
    &["push"],
    &["signalling", "max_members"],
    &["signalling", "resume"],
    &["signalling", "turn"],
    &["vhosts"],
];

/// Where the configuration comes from: the file, and the command line's `--set`. The environment is
/// the process's own.
#[derive(Clone, Debug, Default)]
pub struct Source {
    file: Option<PathBuf>,
    set: Vec<String>,
}

/// What a changed configuration comes to.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// What holds from now on.
    pub settings: Settings,
    /// Keys that changed and take effect. Names only: a value may be a secret.
    pub changed: Vec<String>,
    /// Keys that changed and keep their running value until the next start.
    pub need_restart: Vec<String>,
}

impl Source {
    /// A file, if there is one, and `KEY=VALUE` of each `--set`.
    pub fn new(file: Option<PathBuf>, set: Vec<String>) -> Self {
        Self { file, set }
    }

    /// The file.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads everything.
    ///
    /// # Errors
    /// What is wrong, one line each.
    pub fn load(&self) -> Result<Settings, Vec<String>> {
        let sources = Sources::read(self.file(), &self.set).map_err(|error| lines(&[error]))?;
        Settings::load(&sources).map_err(|errors| lines(&errors))
    }

    /// Reads everything again; `current` is what holds now.
    ///
    /// # Errors
    /// As [`Source::load`]; also when what changed does not fit what only a restart would change.
    pub fn reload(&self, current: &Settings) -> Result<Reloaded, Vec<String>> {
        replace(current, &self.load()?)
    }
}

fn replace(current: &Settings, new: &Settings) -> Result<Reloaded, Vec<String>> {
    let mut next = new.tree.clone();
    let (mut changed, mut need_restart) = (Vec::new(), Vec::new());
    for path in differences(&current.tree, &new.tree) {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let name = dotted(path.iter().copied());
        if LIVE.iter().any(|live| path.starts_with(live)) {
            changed.push(name);
        } else {
            next.put(&path, current.tree.entry(&path).cloned());
            need_restart.push(name);
        }
    }
    let settings = resolve::settings(&next).map_err(|errors| {
        let mut lines = lines(&errors);
        let kept = need_restart.join(", ");
        lines.push(format!("which keeps its running value until the next start: {kept}"));
        lines
    })?;
    Ok(Reloaded { settings, changed, need_restart })
}

fn lines(errors: &[ConfigError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// Paths of the keys with different values, defaults included: a key that is written out with its
/// default is no change.
fn differences(old: &Node, new: &Node) -> Vec<Vec<String>> {
    // The text is the program's own, and a test reads it.
    let defaults = Node::parse_file("defaults", DEFAULT_TOML).unwrap_or_default();
    let complete = |tree: &Node| {
        let mut all = defaults.clone();
        all.overlay(tree);
        all
    };
    let mut found = Vec::new();
    compare(Some(&complete(old)), Some(&complete(new)), &mut Vec::new(), &mut found);
    found
}

fn compare(
    old: Option<&Node>,
    new: Option<&Node>,
    path: &mut Vec<String>,
    found: &mut Vec<Vec<String>>,
) {
    let is_table = |node: Option<&Node>| node.is_none_or(|node| node.table().is_some());
    let keys = |node: Option<&Node>| -> Vec<String> {
        node.into_iter().flat_map(Node::keys).map(str::to_owned).collect()
    };
    let mut all = keys(old);
    all.extend(keys(new));
    all.sort();
    all.dedup();
    // A table that comes or goes counts by its keys; without any, it counts itself.
    if is_table(old) && is_table(new) && (!all.is_empty() || (old.is_some() && new.is_some())) {
        for key in all {
            let child = |node: Option<&Node>| node.and_then(|node| node.child(&key)).cloned();
            let (old, new) = (child(old), child(new));
            path.push(key);
            compare(old.as_ref(), new.as_ref(), path, found);
            path.pop();
        }
        return;
    }
    if !old.zip(new).is_some_and(|(old, new)| is_equal(old, new)) {
        found.push(path.clone());
    }
}

/// Whether two nodes hold the same, wherever they come from.
fn is_equal(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b))
        }
        (Value::Boolean(a), Value::Boolean(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Integer(a), Value::Integer(b)) => a == b,
        (Value::String(a), Value::String(b)) | (Value::Text(a, _), Value::Text(b, _)) => a == b,
        (Value::Table(a), Value::Table(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|((key_a, a), (key_b, b))| key_a == key_b && is_equal(&a.node, &b.node))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RuleAction;

    fn settings(text: &str, set: &[&str]) -> Settings {
        let sources = Sources {
            file: Some(("f.toml".to_owned(), text.to_owned())),
            environment: Vec::new(),
            set: set.iter().map(|option| (*option).to_owned()).collect(),
        };
        Settings::load(&sources).unwrap()
    }

    const BEFORE: &str = "[api]\ntoken = \"old\"\n[rtmp]\nchunk_size = 4096\n\
                          [apps.live]\nlatency = \"realtime\"\n";

    #[test]
    fn what_is_live_takes_effect_and_the_rest_keeps_its_value() {
        let current = settings(BEFORE, &[]);
        let after = settings(
            "[server]\ndrain = \"3s\"\n[api]\ntoken = \"new\"\n[rtmp]\nchunk_size = 8192\n\
             [log]\nlevel = \"debug\"\nformat = \"json\"\n\
             [apps.live]\naccess = [{ deny = \"publish\", from = \"all\" }]\n[apps.other]\n\
             [vhosts.\"a.test\".apps.live]\nmax_connections = 3\n",
            &[],
        );
        let reloaded = replace(&current, &after).unwrap();
        let changed = "api.token apps.live.access apps.live.latency apps.other log.level \
                       vhosts.\"a.test\".apps.live.max_connections";
        assert_eq!(reloaded.changed.join(" "), changed);
        assert_eq!(reloaded.need_restart.join(" "), "log.format rtmp.chunk_size server.drain");
        let next = &reloaded.settings;
        assert_eq!(next.api.token.as_deref(), Some("new"));
        assert_eq!((&next.rtmp, &next.server), (&current.rtmp, &current.server));
        assert_eq!(next.log.format, current.log.format);
        assert_eq!(next.log.level, "debug");
        let app = next.app("__defaultVhost__", "live", "_definst_");
        assert!(!app.permits(RuleAction::Publish, "192.0.2.1".parse().unwrap()));
        assert_eq!(next.vhost_of("a.test"), "a.test");

        // What waits for a restart is named each time; what took effect is not.
        let again = replace(next, &after).unwrap();
        assert_eq!(again.changed, [] as [&str; 0]);
        assert_eq!(again.need_restart, reloaded.need_restart);
        let back = replace(&again.settings, &current).unwrap();
        assert_eq!((back.changed.join(" "), back.need_restart.len()), (changed.to_owned(), 0));
        assert_eq!(back.settings.api.token.as_deref(), Some("old"));
    }

    #[test]
    fn order_comments_and_written_out_defaults_are_no_change() {
        let after = settings(
            "# a comment\n[apps.live]\nlatency = \"realtime\"\n[hooks]\nenabled = true\n\
             [rtmp]\nping = \"60s\"\nchunk_size = 4_096\n[api]\ntoken = 'old'\n",
            &[],
        );
        let reloaded = replace(&settings(BEFORE, &[]), &after).unwrap();
        assert_eq!((reloaded.changed.len(), reloaded.need_restart.len()), (0, 0));
    }

    #[test]
    fn options_stay_over_the_file() {
        let set = ["log.level=warn", "apps.live.latency=realtime", "rtmp={chunk_size=300}"];
        let after = "[log]\nlevel = \"debug\"\n[rtmp]\nping = \"9s\"\n[apps.live.play]\n\
                     missing = \"refuse\"\n[server]\nshards = 1\n";
        let reloaded = replace(&settings("", &set), &settings(after, &set)).unwrap();
        assert_eq!(reloaded.changed, ["apps.live.play.missing"]);
        assert_eq!(reloaded.need_restart, ["server.shards"]);
        assert_eq!(reloaded.settings.log.level, "warn");
        assert_eq!(reloaded.settings.rtmp.chunk_size, 300);
    }

    #[test]
    fn what_only_fits_after_a_restart_is_refused_with_the_reason() {
        let before = settings("[api]\nlisten = \"0.0.0.0:0\"\ntoken = \"old\"\n", &[]);
        let lines = replace(&before, &settings("", &[])).unwrap_err();
        assert!(lines[0].contains("is not loopback: the API needs api.token"), "{lines:?}");
        assert!(lines[1].ends_with("until the next start: api.listen"), "{lines:?}");
    }

    #[test]
    fn every_live_key_exists() {
        let defaults = Node::parse_file("defaults", DEFAULT_TOML).unwrap();
        for path in LIVE {
            assert!(defaults.entry(path).is_some(), "{path:?}");
        }
    }
}
