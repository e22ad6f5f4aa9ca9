//! Metrics of the rooms: under signaltower's names what it has too, and what else tells how they are.

use super::text::Page;
use crate::control::rooms::{Rooms, Statistics};

/// Writes them.
pub(super) fn write(page: &mut Page, rooms: &Rooms) {
    let statistics = rooms.statistics();
    page.counter("palava_room_created_total", "Rooms that got a first member.")
        .sample(&[], statistics.rooms_created);
    page.counter("palava_room_closed_total", "Rooms that lost their last member.")
        .sample(&[], statistics.rooms_closed);
    page.counter("palava_joined_room_total", "Joins.").sample(&[], statistics.joined);
    page.counter("palava_leave_room_total", "Members that left.").sample(&[], statistics.left);
    let durations = &statistics.room_duration_ms;
    let help = "How long closed rooms were there.";
    page.distribution("palava_duration_room_milliseconds", help).buckets(
        durations
            .counts
            .iter()
            .enumerate()
            .map(|(at, count)| (Statistics::duration_bound_ms(at), *count)),
        durations.above,
        durations.sum,
    );
    let peaks = &statistics.room_peak_members;
    let help = "Most members of closed rooms.";
    page.distribution("palava_room_peak_users_total", help).buckets(
        peaks.counts.iter().enumerate().map(|(at, count)| (Statistics::peak_bound(at), *count)),
        peaks.above,
        peaks.sum,
    );
    page.gauge("shardcast_rooms_connections", "Connections of the rooms, in one or not.")
        .sample(&[], rooms.connections());
    page.gauge("shardcast_rooms_store_up", "1 while the store of the rooms answers.")
        .sample(&[], u8::from(rooms.is_store_up()));
    let counters = rooms.counters();
    page.counter("shardcast_rooms_messages_total", "Messages of clients of the rooms.")
        .sample(&[], counters.messages);
    page.counter("shardcast_rooms_errors_total", "Messages that were answered with an error.")
        .sample(&[], counters.errors);
    page.counter("shardcast_rooms_dropped_total", "Messages that were one too many.")
        .sample(&[], counters.dropped);
    page.counter("shardcast_rooms_resumed_total", "Members that came back under their id.")
        .sample(&[], counters.resumed);
}
