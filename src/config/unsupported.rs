//! Keys whose feature this version does not have yet. Each feature takes its lines from here when
//! it is built.

use super::Config;
use super::cluster::Cluster;
use super::error::dotted;
use super::hooks::Hooks;
use super::tree::Node;

/// One sentence per key that asks for what is not there.
pub(super) fn list(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    cluster(&config.cluster, &mut found);
    found
}

/// One sentence per hook of a feature that is not there, after inheritance: a table may switch on again
/// what another one switched off.
pub(super) fn hooks(hooks: &Hooks, layers: &Node, found: &mut Vec<String>) {
    for (name, entries) in [("on_relay", &hooks.on_relay)] {
        let origin = layers.origin_of(&["hooks", name]);
        let sentence =
            format!("hooks.{name} is set ({origin}), but nothing calls it in this version.");
        if hooks.enabled && !entries.is_empty() && !found.contains(&sentence) {
            found.push(sentence);
        }
    }
}

fn say(path: &[&str], what: &str, found: &mut Vec<String>) {
    let key = dotted(path.iter().copied());
    found.push(format!("{key} is set, but {what} in this version."));
}

fn cluster(cluster: &Cluster, found: &mut Vec<String>) {
    let default = Cluster::default();
    for (key, changed) in [
        ("redis", cluster.redis != default.redis),
        ("advertise", cluster.advertise != default.advertise),
    ] {
        if changed {
            say(&["cluster", key], "there are no clusters", found);
        }
    }
}
