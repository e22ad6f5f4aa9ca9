//! Metrics of relays, and of those who listen to events.

use super::text::Page;
use crate::control::events::Events;
use crate::control::relays::{RELAY_STATES, Relays};

/// Writes them.
pub(super) fn write(page: &mut Page, relays: &Relays, events: &Events) {
    let mut family = page.gauge("shardcast_relays", "Relays, by direction and state.");
    for (direction, state) in RELAY_STATES {
        let labels: [(&str, &dyn std::fmt::Display); 2] =
            [("direction", &direction), ("state", &state)];
        family.sample(&labels, relays.count(direction, state));
    }
    let all = relays.totals();
    let mut family = page.counter("shardcast_relay_attempts_total", "Connections of relays tried.");
    for (direction, totals) in &all {
        family.sample(&[("direction", direction)], totals.attempts);
    }
    let help = "Connections of relays that failed or broke.";
    let mut family = page.counter("shardcast_relay_failures_total", help);
    for (direction, totals) in &all {
        family.sample(&[("direction", direction)], totals.failures);
    }
    let help = "Bytes to targets and from sources of streams.";
    let mut family = page.counter("shardcast_relay_bytes_total", help);
    for (direction, totals) in &all {
        family.sample(&[("direction", direction)], totals.bytes);
    }
    let help = "Moves of targets that were too slow to a later keyframe.";
    page.counter("shardcast_relay_drops_total", help)
        .sample(&[], all.iter().map(|(_, totals)| totals.drops).sum::<u64>());
    page.gauge("shardcast_event_listeners", "Listeners of the feed of events.")
        .sample(&[], events.listeners());
    page.counter("shardcast_events_lost_total", "Events that a slow listener was not sent.")
        .sample(&[], events.lost());
}
