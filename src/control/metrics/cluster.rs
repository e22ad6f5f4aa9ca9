//! Metrics of the cluster; all zero on a server of its own.

use super::text::Page;
use crate::control::cluster::Cluster;
use crate::control::relays::Relays;
use crate::media::Moment;

/// Writes them.
pub(super) fn write(page: &mut Page, cluster: Option<&Cluster>, relays: &Relays, now: Moment) {
    let counters = cluster.map(Cluster::counters).unwrap_or_default();
    let (leased, unleased) = cluster.map(|it| it.stream_counts(now)).unwrap_or_default();
    page.gauge("shardcast_cluster_redis_up", "1 while the Redis of the cluster answers.")
        .sample(&[], u8::from(cluster.is_some_and(Cluster::is_up)));
    page.counter("shardcast_cluster_redis_lost_total", "Times that it stopped answering.")
        .sample(&[], counters.redis_down);
    page.gauge("shardcast_cluster_streams", "Streams published here, by whether with a lease.")
        .sample(&[("state", &"leased")], leased)
        .sample(&[("state", &"unleased")], unleased);
    let help = "Times that a stream here had no lease: published without one, or run out.";
    page.counter("shardcast_cluster_lease_lost_total", help).sample(&[], counters.lease_lost);
    page.gauge("shardcast_cluster_copies", "Streams fetched from the nodes that own them.")
        .sample(&[], relays.copies().count());
    let help = "Publishers, by what the cluster said to them.";
    page.counter("shardcast_cluster_publishers_total", help)
        .sample(&[("verdict", &"leased")], counters.leased)
        .sample(&[("verdict", &"unleased")], counters.unleased)
        .sample(&[("verdict", &"refused")], counters.refused)
        .sample(&[("verdict", &"fenced")], counters.fenced);
    page.counter("shardcast_cluster_yielded_total", "Names given up for a publisher elsewhere.")
        .sample(&[], counters.yielded);
    page.counter("shardcast_cluster_lookups_total", "Streams looked for on other nodes.")
        .sample(&[("result", &"found")], counters.found)
        .sample(&[("result", &"missing")], counters.lookups - counters.found)
        .sample(&[("result", &"failed")], counters.lookups_failed);
    page.counter("shardcast_cluster_pulls_total", "Streams that other nodes asked this one for.")
        .sample(&[("verdict", &"accepted")], counters.pulls)
        .sample(&[("verdict", &"refused")], counters.pulls_refused);
    page.counter("shardcast_cluster_pushes_total", "Push messages between nodes.")
        .sample(&[("way", &"said")], counters.pushes_said)
        .sample(&[("way", &"heard")], counters.pushes_heard)
        .sample(&[("way", &"lost")], counters.pushes_lost);
}
