//! The server's account of its shards, as the project's own tests and tools read it.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use super::PacedJson;
use crate::control::answer::Answer;
use crate::control::api::Shared;
use crate::rt::clock;

/// `GET /api/v1/shards`
pub(super) async fn shards(shared: &Shared) -> Answer {
    let shards = shared.parts.reports.gather().await;
    let accepted = &shared.parts.accepted;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (counters, streams) = {
        let registry = shared.parts.registry.borrow();
        (registry.counters(), registry.entries())
    };
    let control = json!({
        "registry": counters,
        "push": shared.parts.push.with(|router| router.counters()),
        "cpu_us": clock::thread_cpu().as_micros() as u64,
    });
    let server = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": clock::now().since(shared.started).as_secs(),
        "acceptor": {
            "open": accepted.open.load(Ordering::Relaxed),
            "accepted": count(&accepted.accepted),
            "over_limit": count(&accepted.over_limit),
            "over_address_limit": count(&accepted.over_address_limit),
            "inbox_full": count(&accepted.inbox_full),
            "out_of_descriptors": count(&accepted.out_of_descriptors),
        },
        "log": {
            "lines_lost": shared.parts.log_losses.lines(),
            "access_lines_lost": shared.parts.log_losses.access_lines(),
        },
    });
    let mut text = PacedJson::default();
    text.begin(&server, "control");
    text.object_with(&control, "streams", &streams).await;
    text.raw(",\"shards\":[");
    for (index, report) in shards.into_iter().enumerate() {
        if index > 0 {
            text.raw(",");
        }
        // Whoever asked at the same time has the same report.
        let mut report = Rc::unwrap_or_clone(report);
        let streams = std::mem::take(&mut report.streams);
        let mut report = json!(report);
        if let Some(keys) = report.as_object_mut() {
            keys.remove("streams");
        }
        text.object_with(&report, "streams", &streams).await;
    }
    text.raw("]}");
    text.into_answer()
}

/// `GET /api/v1/cluster`
pub(super) fn cluster(shared: &Shared) -> Answer {
    match &*shared.parts.cluster.borrow() {
        Some(cluster) => {
            Answer::json(200, &cluster.to_json(&shared.parts.relays.borrow(), clock::now()))
        }
        None => {
            let node = shared.parts.settings.get().node;
            let alone = json!({
                "node": node, "advertise": "", "redis": "none", "streams": [], "copies": []
            });
            Answer::json(200, &alone)
        }
    }
}
