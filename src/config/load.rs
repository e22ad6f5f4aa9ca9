//! Brings together file, environment and `--set`: defaults < file < environment < `--set`.

use std::path::Path;
use std::sync::Arc;

use super::error::ConfigError;
use super::tree::{Node, Origin};

/// Everything a configuration is made of, as text.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Name and text of the file.
    pub file: Option<(String, String)>,
    /// Environment variables; those that do not begin with `SHARDCAST_` are ignored.
    pub environment: Vec<(String, String)>,
    /// `KEY=VALUE` of each `--set`, in order.
    pub set: Vec<String>,
}

impl Sources {
    /// Reads the file and this process's environment.
    ///
    /// # Errors
    /// The file cannot be read or is no UTF-8; a variable of ours is no UTF-8.
    pub fn read(file: Option<&Path>, set: &[String]) -> Result<Self, ConfigError> {
        let complain = |name: &str, reason: String| {
            ConfigError::new(Origin::Default, "", format!("{name}: {reason}"))
        };
        let file = match file {
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path)
                    .map_err(|error| complain(&name, error.to_string()))?;
                Some((name, text))
            }
            None => None,
        };
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
                continue;
            };
            let value = value
                .into_string()
                .map_err(|_| complain(name, "the value is no UTF-8 text".to_owned()))?;
            environment.push((name.to_owned(), value));
        }
        environment.sort();
        Ok(Self { file, environment, set: set.to_vec() })
    }

    /// The merged tree.
    pub(super) fn tree(&self) -> Result<Node, ConfigError> {
        let mut tree = match &self.file {
            Some((name, text)) => Node::parse_file(name, text)?,
            None => Node::default(),
        };
        for (variable, value) in &self.environment {
            let origin = Origin::Environment { variable: variable.as_str().into() };
            let path = environment_path(variable)
                .map_err(|reason| ConfigError::new(origin.clone(), "", reason))?;
            if let Some(path) = path {
                tree.set(&path, value, &origin)?;
            }
        }
        for option in &self.set {
            let (path, key, value) = set_parts(option)
                .map_err(|reason| ConfigError::new(Origin::Default, "", reason))?;
            tree.set(&path, value, &Origin::Set { key })?;
        }
        Ok(tree)
    }
}

const PREFIX: &str = "SHARDCAST_";

/// The key that an environment variable sets; `None` for variables that are not ours.
fn environment_path(variable: &str) -> Result<Option<Vec<String>>, String> {
    let Some(rest) = variable.strip_prefix(PREFIX) else {
        return Ok(None);
    };
    if let Some(levels) = rest.strip_prefix('_') {
        let mut path: Vec<String> = levels.split("__").map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err("the variable names an empty level".to_owned());
        }
        let last = path.len() - 1;
        path[0].make_ascii_lowercase();
        path[last].make_ascii_lowercase();
        return Ok(Some(path));
    }
    // Kubernetes describes a service named shardcast with such variables.
    if rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_") {
        return Ok(None);
    }
    let lower = rest.to_ascii_lowercase();
    let (section, key) = lower.split_once('_').unwrap_or((&lower, ""));
    if matches!(section, "apps" | "vhosts") {
        return Err(format!(
            "keys of {section} need two underscores between levels, as in \
             SHARDCAST__APPS__live__LATENCY"
        ));
    }
    let path = [section, key].into_iter().filter(|part| !part.is_empty());
    Ok(Some(path.map(str::to_owned).collect()))
}

/// Path, key text and value of `a."b.c".d=value`.
fn set_parts(option: &str) -> Result<(Vec<String>, Arc<str>, &str), String> {
    let mut path = vec![String::new()];
    let mut quoted = false;
    for (at, c) in option.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '=' if !quoted => {
                if path.iter().any(String::is_empty) {
                    return Err(format!("--set {option:?}: a part of the key is empty"));
                }
                return Ok((path, option[..at].into(), &option[at + 1..]));
            }
            '.' if !quoted => path.push(String::new()),
            _ => {
                if let Some(part) = path.last_mut() {
                    part.push(c);
                }
            }
        }
    }
    Err(format!("--set {option}: it has to be KEY=VALUE, as in rtmp.chunk_size=4096"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_name_keys() {
        let table: &[(&str, &[&str])] = &[
            ("SHARDCAST_RTMP_LISTEN", &["rtmp", "listen"]),
            ("SHARDCAST_SERVER_UNKNOWN_APPS", &["server", "unknown_apps"]),
            ("SHARDCAST__RTMP__LISTEN", &["rtmp", "listen"]),
            ("SHARDCAST__APPS__live__LATENCY", &["apps", "live", "latency"]),
            ("SHARDCAST__APPS__Live__viewer__MAX_LAG", &["apps", "Live", "viewer", "max_lag"]),
            ("SHARDCAST_RTMP", &["rtmp"]),
        ];
        for (variable, path) in table {
            let found = environment_path(variable).unwrap().unwrap();
            assert_eq!(found, *path, "{variable}");
        }
        for variable in ["PATH", "SHARDCAST_PORT_1935_TCP", "SHARDCAST_SERVICE_HOST"] {
            assert_eq!(environment_path(variable), Ok(None), "{variable}");
        }
        for variable in ["SHARDCAST_APPS_LIVE_LATENCY", "SHARDCAST__RTMP__", "SHARDCAST__"] {
            assert!(environment_path(variable).is_err(), "{variable}");
        }
    }

    #[test]
    fn options_name_keys() {
        let parts = |option| set_parts(option).map(|(path, _, value)| (path.join("|"), value));
        assert_eq!(parts("a.b=c=d"), Ok(("a|b".into(), "c=d")));
        assert_eq!(parts("a.\"b.=c\".d="), Ok(("a|b.=c|d".into(), "")));
        assert_eq!(parts("apps.live/x.y=1"), Ok(("apps|live/x|y".into(), "1")));
        for option in ["a.b", "=c", "a..b=c", ".a=b", ""] {
            assert!(parts(option).is_err(), "{option}");
        }
    }
}
