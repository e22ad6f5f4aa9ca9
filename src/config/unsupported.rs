//! Keys whose feature this version does not have yet. Each feature takes its lines from here when
//! it is built.

use super::Config;
use super::cluster::Cluster;
use super::error::dotted;

/// One sentence per key that asks for what is not there.
pub(super) fn list(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    cluster(&config.cluster, &mut found);
    found
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
