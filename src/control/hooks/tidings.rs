//! What the hooks hear of, told to those who listen to the API as well, whether there are hooks or not.
//! Queries are left out: they hold keys.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Shared;
use super::event::{Caller, StreamFacts, StreamKind};
use crate::control::events::Happening;
use crate::control::relays::RelayChange;
use crate::session::{ClientId, Departure, Refusal};
use crate::shard::AskToken;

/// A question has its answer.
pub(super) fn verdict(shared: &Shared, token: AskToken, refusal: Option<&Refusal>) {
    if !shared.events.is_wanted() {
        return;
    }
    let Some((caller, stream)) = shared.sessions.borrow().question(token) else { return };
    let word = match stream.as_deref().map(|stream| &stream.kind) {
        None => "connect",
        Some(StreamKind::Publish { .. }) => "publish",
        Some(StreamKind::Play { .. }) => "play",
    };
    match refusal {
        None => say(shared, word, &caller, stream.as_deref(), json!({})),
        Some(refusal) => {
            let more = json!({
                "what": word, "reason": refusal.reason.word(), "description": refusal.description,
            });
            say(shared, "refused", &caller, stream.as_deref(), more);
        }
    }
}

/// A publish or play has ended.
pub(super) fn ended(shared: &Shared, client: ClientId, serial: u32) {
    if !shared.events.is_wanted() {
        return;
    }
    let started = shared.sessions.borrow().started(client, serial);
    if let Some((caller, started)) = started {
        say(shared, done(&started.stream), &caller, Some(&started.stream), json!({}));
    }
}

/// A connection is gone, and with it what it published and played.
pub(super) fn closed(shared: &Shared, gone: &Departure) {
    if !shared.events.is_wanted() {
        return;
    }
    let Some((caller, streams)) = shared.sessions.borrow().running(gone.id) else { return };
    for stream in streams {
        say(shared, done(&stream), &caller, Some(&stream), json!({}));
    }
    if !gone.is_relay {
        let more = json!({ "bytes_in": gone.bytes_in, "bytes_out": gone.bytes_out });
        say(shared, "disconnect", &caller, None, more);
    }
}

/// A stream goes on.
pub(super) fn update(
    shared: &Shared,
    caller: &Caller,
    stream: &StreamFacts,
    seconds: u64,
    timestamp_ms: u32,
) {
    let more = json!({ "seconds": seconds, "timestamp_ms": timestamp_ms });
    say(shared, "update", caller, Some(stream), more);
}

/// A relay has another state.
pub(super) fn relay(shared: &Shared, change: &RelayChange) {
    if !shared.events.is_wanted() {
        return;
    }
    let name = &change.name;
    shared.events.say(Happening {
        event: "relay",
        vhost: name.vhost(),
        app: &name.app_text(),
        stream: name.stream(),
        more: json!({
            "relay": change.relay.0,
            "direction": change.direction,
            "state": change.state,
            "url": change.url.split('?').next(),
            "peer": change.peer.map(|peer| peer.to_string()),
            "code": change.code,
            "description": change.description,
            "error": change.error,
            "bytes_in": change.bytes_in,
            "bytes_out": change.bytes_out,
            "drops": change.drops,
        }),
    });
}

fn done(stream: &Arc<StreamFacts>) -> &'static str {
    match stream.kind {
        StreamKind::Publish { .. } => "publish_done",
        StreamKind::Play { .. } => "play_done",
    }
}

fn say(
    shared: &Shared,
    event: &'static str,
    caller: &Caller,
    stream: Option<&StreamFacts>,
    mut more: Value,
) {
    let info = &caller.info;
    more["client"] = Value::from(info.id.to_string());
    more["address"] = Value::from(caller.address.to_string());
    more["agent"] = Value::from(info.flash_version.as_str());
    shared.events.say(Happening {
        event,
        vhost: &info.vhost,
        app: &info.app_text,
        stream: stream.map(|stream| stream.name.as_str()).unwrap_or_default(),
        more,
    });
}
