//! `/metrics` for Prometheus: what the shards, the control shard and the acceptor have counted, put
//! together when somebody asks. Labels have few values: shards, protocols, reasons, events. Nothing is
//! labelled by stream or client, of which there may be many; those are in `/api/v1/streams`.

mod cluster;
mod relays;
mod rooms;
mod text;

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::text::Page;
use super::answer::Answer;
use super::api::Shared;
use super::process::ProcessFacts;
use crate::rt::clock;
use crate::shard::ShardReport;

/// Which things a reason for a drop is about, and what the metric says of it.
const DROP_CLASSES: [(&str, &str); 5] = [
    ("mesh_full", "frame"),
    ("before_keyframe", "frame"),
    ("malformed", "frame"),
    ("viewer_lag", "skip"),
    ("stalled", "viewer"),
];

/// `GET /metrics`
pub(super) async fn answer(shared: &Shared) -> Answer {
    let shards = shared.parts.reports.gather().await;
    let process = ProcessFacts::read().await;
    let mut page = Page::default();
    of_server(&mut page, shared, &shards);
    of_shards(&mut page, &shards);
    of_egress(&mut page, &shards);
    of_mesh(&mut page, &shards);
    of_registry(&mut page, shared);
    of_hooks(&mut page, shared);
    of_push(&mut page, shared, &shards);
    rooms::write(&mut page, &shared.parts.rooms.borrow());
    let parts = &shared.parts;
    cluster::write(
        &mut page,
        parts.cluster.borrow().as_ref(),
        &parts.relays.borrow(),
        clock::now(),
    );
    relays::write(&mut page, &parts.relays.borrow(), &parts.events);
    of_process(&mut page, &process);
    Answer::plain(200, page.into_text()).of_kind(text::CONTENT_TYPE)
}

fn of_server(page: &mut Page, shared: &Shared, shards: &[Rc<ShardReport>]) {
    let version = env!("CARGO_PKG_VERSION");
    page.gauge("shardcast_build_info", "Always 1; the label says which version runs.")
        .sample(&[("version", &version)], 1);
    page.gauge("shardcast_uptime_seconds", "Since the server is ready.")
        .sample(&[], clock::now().since(shared.started).as_secs_f64());
    page.gauge("shardcast_ready", "1, and 0 while the server shuts down.")
        .sample(&[], u8::from(!shared.is_draining.get()));
    page.gauge("shardcast_shards_reporting", "Media shards that answered this scrape in time.")
        .sample(&[], shards.len());
    let accepted = &shared.parts.accepted;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    page.counter("shardcast_accepted_total", "Connections handed to a shard.")
        .sample(&[], count(&accepted.accepted));
    page.counter("shardcast_not_accepted_total", "Connections closed unheard, by reason.")
        .sample(&[("reason", &"limit")], count(&accepted.over_limit))
        .sample(&[("reason", &"address_limit")], count(&accepted.over_address_limit))
        .sample(&[("reason", &"inbox_full")], count(&accepted.inbox_full));
    page.counter("shardcast_descriptors_out_total", "Pauses of accepting for want of descriptors.")
        .sample(&[], count(&accepted.out_of_descriptors));
    page.counter("shardcast_log_lines_lost_total", "Lines that the logs had no room for.")
        .sample(&[("log", &"server")], shared.parts.log_losses.lines())
        .sample(&[("log", &"access")], shared.parts.log_losses.access_lines());
    let mut family =
        page.counter("shardcast_api_answers_total", "Answers of the API before this, by status.");
    for (status, count) in &*shared.answers.borrow() {
        family.sample(&[("status", status)], count);
    }
    page.counter("shardcast_control_cpu_seconds_total", "CPU time of the control shard.")
        .sample(&[], clock::thread_cpu().as_secs_f64());
}

fn of_shards(page: &mut Page, shards: &[Rc<ShardReport>]) {
    gauge(page, "shardcast_connections", "Open connections.", shards, |it| it.connections as u64);
    gauge(page, "shardcast_publishers", "Publications.", shards, |it| it.publishers as u64);
    gauge(page, "shardcast_viewers", "Plays of connections.", shards, |it| it.viewers as u64);
    counter(page, "shardcast_turns_total", "Turns.", shards, |it| it.turns);
    let mut family =
        page.counter("shardcast_shard_cpu_seconds_total", "CPU time of a media shard.");
    for shard in shards {
        family.sample(&[("shard", &shard.shard)], shard.cpu_us as f64 / 1e6);
    }
    counter(page, "shardcast_reads_total", "Reads that brought bytes.", shards, |it| it.reads);
    let mut family = page.counter("shardcast_received_bytes_total", "Bytes read, by protocol.");
    for shard in shards {
        let bytes = &shard.bytes_by_protocol;
        for (protocol, count) in
            [("rtmp", bytes.rtmp_in), ("http", bytes.http_in), ("websocket", bytes.websocket_in)]
        {
            family.sample(&[("shard", &shard.shard), ("protocol", &protocol)], count);
        }
    }
    let mut family = page.counter("shardcast_sent_bytes_total", "Bytes sent, by protocol.");
    for shard in shards {
        let (bytes, egress) = (&shard.bytes_by_protocol, &shard.egress);
        let http = egress.send_bytes - egress.rtmp_bytes - egress.websocket_bytes;
        for (protocol, count) in [
            ("rtmp", bytes.rtmp_out + egress.rtmp_bytes),
            ("http", bytes.http_out + http),
            ("websocket", bytes.websocket_out + egress.websocket_bytes),
        ] {
            family.sample(&[("shard", &shard.shard), ("protocol", &protocol)], count);
        }
    }
    let help = "Messages of publishers.";
    counter(page, "shardcast_frames_received_total", help, shards, |it| it.frames_in);
    let help = "Timestamps of publishers that had to be repaired.";
    counter(page, "shardcast_timestamps_repaired_total", help, shards, |it| it.timestamps_repaired);
    let help =
        "What was dropped: frames, skips of viewers to a later keyframe, viewers; by reason.";
    let mut family = page.counter("shardcast_dropped_total", help);
    for shard in shards {
        for (reason, class) in DROP_CLASSES {
            let count = shard.drops.get(reason).copied().unwrap_or_default();
            let labels: text::Labels<'_> =
                &[("shard", &shard.shard), ("class", &class), ("reason", &reason)];
            family.sample(labels, count);
        }
    }
    let mut family = page.counter("shardcast_closed_total", "Connections closed, by reason.");
    for shard in shards {
        for (reason, count) in &shard.closed {
            family.sample(&[("shard", &shard.shard), ("reason", reason)], count);
        }
    }
    gauge(page, "shardcast_log_bytes", "Bytes of stream logs in use.", shards, |it| it.log_bytes);
    let help = "Bytes of log segments kept for the next log.";
    gauge(page, "shardcast_free_segment_bytes", help, shards, |it| it.free_segment_bytes);
    let help = "Viewers that came from another shard to the one of their stream.";
    counter(page, "shardcast_handovers_total", help, shards, |it| it.handovers);
    let help = "Accounts drawn up for the API and for scrapes.";
    counter(page, "shardcast_surveys_total", help, shards, |it| it.surveys);
    let help = "Turns that took part in drawing up accounts.";
    counter(page, "shardcast_survey_pieces_total", help, shards, |it| it.survey_pieces);
}

fn of_egress(page: &mut Page, shards: &[Rc<ShardReport>]) {
    let help = "Always 1; the label says how sends reach the kernel.";
    let mut family = page.gauge("shardcast_egress_info", help);
    for shard in shards {
        let backend = shard.egress_backend.to_ascii_lowercase();
        family.sample(&[("shard", &shard.shard), ("backend", &backend)], 1);
    }
    let help = "Passes over a stream log.";
    counter(page, "shardcast_passes_total", help, shards, |it| it.egress.passes);
    let help = "Sends handed to the kernel.";
    counter(page, "shardcast_sends_total", help, shards, |it| it.egress.sends);
    let help = "Sends that the kernel took only partly or not at all.";
    counter(page, "shardcast_sends_refused_total", help, shards, |it| it.egress.sends_refused);
    let help = "Turns whose passes were put off because the shard had no CPU time left.";
    counter(page, "shardcast_flush_late_total", help, shards, |it| it.egress.flush_late);
    let help = "How long the passes of one turn took.";
    let mut family = page.histogram("shardcast_flush_duration_seconds", help);
    for shard in shards {
        family.times(&[("shard", &shard.shard)], &shard.flush_duration);
    }
    let help = "Age of the first frame of a send, from its arrival at the publisher's shard.";
    let mut family = page.histogram("shardcast_frame_age_seconds", help);
    for shard in shards {
        family.times(&[("shard", &shard.shard)], &shard.frame_age);
    }
}

fn of_mesh(page: &mut Page, shards: &[Rc<ShardReport>]) {
    let help = "Envelopes to other nodes, at most one per node and turn.";
    counter(page, "shardcast_mesh_envelopes_sent_total", help, shards, |it| it.mesh.envelopes_sent);
    let help = "Frames to other shards, counted per destination.";
    counter(page, "shardcast_mesh_frames_sent_total", help, shards, |it| it.mesh.frames_sent);
    let help = "Payload bytes of frames to other shards.";
    counter(page, "shardcast_mesh_sent_bytes_total", help, shards, |it| it.mesh.bytes_sent);
    let help = "Notices that had to wait for room on their way to a node.";
    counter(page, "shardcast_mesh_notices_delayed_total", help, shards, |it| {
        it.mesh.notices_delayed
    });
}

fn of_registry(page: &mut Page, shared: &Shared) {
    let registry = shared.parts.registry.borrow();
    let (streams, published) = registry.stream_count();
    page.gauge("shardcast_streams", "Streams, by whether somebody publishes them.")
        .sample(&[("state", &"published")], published)
        .sample(&[("state", &"awaited")], streams - published);
    let counters = registry.counters();
    page.counter("shardcast_verdicts_total", "Answers to connect, publish and play.")
        .sample(&[("verdict", &"accept")], counters.accepted)
        .sample(&[("verdict", &"refuse")], counters.refused);
    page.counter("shardcast_takeovers_total", "Publishers replaced by another.")
        .sample(&[], counters.takeovers);
    page.counter("shardcast_takeover_fights_total", "Take-overs refused: two encoders, one name.")
        .sample(&[], counters.fights);
    page.counter("shardcast_gaps_total", "Publications that were interrupted, by how that ended.")
        .sample(&[("end", &"resumed")], counters.resumed)
        .sample(&[("end", &"expired")], counters.gaps_expired);
}

fn of_hooks(page: &mut Page, shared: &Shared) {
    let totals = shared.parts.hooks.totals();
    let help = "Calls of hooks, by event and by how they ended.";
    let mut family = page.counter("shardcast_hook_calls_total", help);
    for (event, of_event) in &totals.events {
        for (result, count) in &of_event.results {
            family.sample(&[("event", event), ("result", result)], count);
        }
    }
    let mut family = page.counter("shardcast_hook_retries_total", "Calls of hooks made again.");
    for (event, of_event) in &totals.events {
        family.sample(&[("event", event)], of_event.retried);
    }
    let help = "End events that were given up, by reason.";
    let mut family = page.counter("shardcast_hook_events_given_up_total", help);
    for (reason, count) in &totals.given_up {
        family.sample(&[("reason", reason)], count);
    }
    let help = "How long calls of hooks took that were answered.";
    let mut family = page.histogram("shardcast_hook_duration_seconds", help);
    for (event, of_event) in &totals.events {
        family.times(&[("event", event)], &of_event.duration);
    }
}

fn of_push(page: &mut Page, shared: &Shared, shards: &[Rc<ShardReport>]) {
    let push = shared.parts.push.with(|router| router.counters());
    page.gauge("shardcast_push_members", "Connections that get pushed messages.")
        .sample(&[], push.members);
    page.counter("shardcast_push_posts_total", "Messages posted, by whether they were taken.")
        .sample(&[("result", &"taken")], push.posts)
        .sample(&[("result", &"refused")], push.posts_refused);
    page.counter("shardcast_push_sessions_refused_total", "Connections refused for their session.")
        .sample(&[], push.sessions_refused);
    page.counter(
        "shardcast_push_client_sends_total",
        "Messages of clients, by what became of them.",
    )
    .sample(&[("result", &"passed")], push.client_sends)
    .sample(&[("result", &"refused")], push.client_sends_refused);
    page.counter(
        "shardcast_push_returns_total",
        "Members that came back, by what they had missed.",
    )
    .sample(&[("missed", &"nothing")], push.recovered)
    .sample(&[("missed", &"something")], push.gaps);
    page.gauge("shardcast_push_history_bytes", "Bytes of messages kept for who comes back.")
        .sample(&[], push.history_bytes);
    page.gauge("shardcast_push_in_flight_bytes", "Bytes of messages on their way to shards.")
        .sample(&[], push.in_flight_bytes);
    let help = "Messages put into the output of a member.";
    counter(page, "shardcast_push_deliveries_total", help, shards, |it| it.push.deliveries);
    let help = "Members closed because too much waited for them.";
    counter(page, "shardcast_push_slow_closed_total", help, shards, |it| it.push.slow_closed);
}

fn of_process(page: &mut Page, process: &ProcessFacts) {
    page.counter("process_cpu_seconds_total", "CPU time of the process, user and system.")
        .sample(&[], process.cpu_seconds);
    page.gauge("process_resident_memory_bytes", "Memory in RAM.")
        .sample(&[], process.resident_bytes);
    page.gauge("process_virtual_memory_bytes", "Address space.").sample(&[], process.virtual_bytes);
    page.gauge("process_open_fds", "Open descriptors.").sample(&[], process.open_fds);
    page.gauge("process_max_fds", "How many descriptors it may open.").sample(&[], process.max_fds);
    page.gauge("process_threads", "Threads.").sample(&[], process.threads);
    page.gauge("process_start_time_seconds", "When it started, since 1970.")
        .sample(&[], process.start_seconds);
}

fn gauge(
    page: &mut Page,
    name: &'static str,
    help: &str,
    shards: &[Rc<ShardReport>],
    value: impl Fn(&ShardReport) -> u64,
) {
    let mut family = page.gauge(name, help);
    for shard in shards {
        family.sample(&[("shard", &shard.shard)], value(shard));
    }
}

fn counter(
    page: &mut Page,
    name: &'static str,
    help: &str,
    shards: &[Rc<ShardReport>],
    value: impl Fn(&ShardReport) -> u64,
) {
    let mut family = page.counter(name, help);
    for shard in shards {
        family.sample(&[("shard", &shard.shard)], value(shard));
    }
}
