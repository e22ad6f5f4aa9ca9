//! What the API serves, by method and path. The paths are written down in [`ROUTES`]; `openapi.json`
//! describes each of them, and a test holds the two against each other.
//!
//! | file       | subject                                                        |
//! |------------|----------------------------------------------------------------|
//! | `own`      | health, shards, hooks, the configuration in force              |
//! | `srs`      | versions, vhosts, streams and clients in the shapes of SRS     |
//! | `summary`  | SRS's summaries of process and machine                         |
//! | `stat`     | nginx-rtmp's statistics in XML                                 |
//! | `control`  | nginx-rtmp's control: drop, redirect                           |
//! | `relays`   | relays: list, add, end, retry                                  |
//! | `paced_json` | long lists, written in pieces                                |

mod control;
mod own;
mod paced_json;
mod relays;
mod srs;
mod stat;
mod summary;
#[cfg(test)]
pub(super) mod testing;

pub(super) use paced_json::PacedJson;
pub(super) use summary::Look;

use super::answer::Answer;
use super::api::{Serves, Shared};
use super::events::Filter;
use super::metrics;
use crate::control::push;
use crate::media::Moment;
use crate::proto::http::{Method, Request};

/// The description of this API, for programs.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Live,
    Ready,
    Metrics,
    OpenApi,
    Shards,
    Hooks,
    Rooms,
    Relays,
    Relay,
    RelayRetry,
    Events,
    Cluster,
    Config,
    Versions,
    Summaries,
    Vhosts,
    Vhost,
    Streams,
    Stream,
    Clients,
    Client,
    Stat,
    Control,
    /// The push channel's own room knows which.
    Push,
}

/// Paths with the methods that they take; `{}` stands for any one segment. `GET` is `HEAD`, too.
const ROUTES: [(&str, &[Method], Resource); 33] = [
    ("/health/live", READ, Resource::Live),
    ("/health/ready", READ, Resource::Ready),
    ("/metrics", READ, Resource::Metrics),
    ("/api/v1/openapi.json", READ, Resource::OpenApi),
    ("/api/v1/shards", READ, Resource::Shards),
    ("/api/v1/hooks", READ, Resource::Hooks),
    ("/api/v1/rooms", READ, Resource::Rooms),
    ("/api/v1/relays", &[Method::Get, Method::Head, Method::Post], Resource::Relays),
    ("/api/v1/relays/{}", DELETE_TOO, Resource::Relay),
    ("/api/v1/relays/{}/retry", POST, Resource::RelayRetry),
    ("/api/v1/events", READ, Resource::Events),
    ("/api/v1/cluster", READ, Resource::Cluster),
    ("/api/v1/config", READ, Resource::Config),
    ("/api/v1/versions", READ, Resource::Versions),
    ("/api/v1/summaries", READ, Resource::Summaries),
    ("/api/v1/vhosts", READ, Resource::Vhosts),
    ("/api/v1/vhosts/{}", READ, Resource::Vhost),
    ("/api/v1/streams", READ, Resource::Streams),
    ("/api/v1/streams/{}", READ, Resource::Stream),
    ("/api/v1/clients", READ, Resource::Clients),
    ("/api/v1/clients/{}", DELETE_TOO, Resource::Client),
    ("/stat", READ, Resource::Stat),
    // nginx-rtmp looks at no method.
    ("/control/drop/{}", ASK, Resource::Control),
    ("/control/redirect/{}", ASK, Resource::Control),
    ("/control/record/{}", ASK, Resource::Control),
    ("/channels", READ, Resource::Push),
    ("/channels/{}", READ, Resource::Push),
    ("/channels/{}/message", POST, Resource::Push),
    ("/users/{}", READ, Resource::Push),
    ("/users/{}/message", POST, Resource::Push),
    ("/notify", POST, Resource::Push),
    ("/notify/list", READ, Resource::Push),
    ("/push/messages", POST, Resource::Push),
];

const READ: &[Method] = &[Method::Get, Method::Head];
const POST: &[Method] = &[Method::Post];
const DELETE_TOO: &[Method] = &[Method::Get, Method::Head, Method::Delete];
const ASK: &[Method] = &[Method::Get, Method::Head, Method::Post];

/// Whether the request has to carry the token when there is one: all but the look whether the server
/// lives.
pub(super) fn needs_token(request: &Request) -> bool {
    request.path != "/health/live"
}

/// Answers a request whose token is right.
pub(super) async fn serve(
    shared: &Shared,
    request: &Request,
    serves: Serves,
    body: &[u8],
    deadline: Moment,
) -> Answer {
    let Some((methods, resource, segment)) = find(&request.path) else {
        return Answer::error(404, "no such resource; see /api/v1/openapi.json");
    };
    if serves == Serves::Metrics && !matches!(resource, Resource::Metrics | Resource::Live) {
        return Answer::error(404, "only /metrics and /health/live are served here");
    }
    if !methods.contains(&request.method) {
        let names: Vec<&str> = methods.iter().map(|method| name(*method)).collect();
        let names = names.join(", ");
        return Answer::error(405, format!("use {names}")).with("Allow", names);
    }
    match resource {
        Resource::Live => Answer::text(200, "ok"),
        Resource::Ready if shared.is_draining.get() => Answer::text(503, "shutting down"),
        Resource::Ready => Answer::text(200, "ready"),
        Resource::Metrics => metrics::answer(shared).await,
        Resource::OpenApi => Answer::plain(200, OPENAPI).of_kind("application/json"),
        Resource::Shards => own::shards(shared).await,
        Resource::Hooks => Answer::json(200, &shared.parts.hooks.to_json()),
        Resource::Rooms => Answer::json(200, &shared.parts.rooms.borrow().to_json()),
        Resource::Relays if request.method == Method::Post => relays::add(shared, body),
        Resource::Relays => relays::list(shared),
        Resource::Relay if request.method == Method::Delete => relays::end(shared, segment),
        Resource::Relay => relays::one(shared, segment),
        Resource::RelayRetry => relays::retry(shared, segment),
        Resource::Events => events(shared, request),
        Resource::Cluster => own::cluster(shared),
        Resource::Config => Answer::json(200, &shared.parts.settings.get().in_force()),
        Resource::Versions => srs::versions(shared),
        Resource::Summaries => summary::summaries(shared).await,
        Resource::Vhosts => srs::vhosts(shared, request).await,
        Resource::Vhost => srs::vhost(shared, segment).await,
        Resource::Streams => srs::streams(shared, request).await,
        Resource::Stream => srs::stream(shared, segment).await,
        Resource::Clients => srs::clients(shared, request).await,
        Resource::Client if request.method == Method::Delete => srs::kick(shared, segment).await,
        Resource::Client => srs::client(shared, segment).await,
        Resource::Stat => stat::answer(shared).await,
        Resource::Control => control::answer(shared, request).await,
        Resource::Push => match push::serve(&shared.parts.push, request, body, deadline).await {
            Some(answer) => answer,
            None => Answer::error(404, "no such resource; see /api/v1/openapi.json"),
        },
    }
}

/// `GET /api/v1/events`
fn events(shared: &Shared, request: &Request) -> Answer {
    // What a browser says when its connection has broken and it comes back.
    let last_heard = request.header("Last-Event-ID").and_then(|id| id.trim().parse().ok());
    match Filter::of(request).map(|filter| shared.parts.events.listen(filter, last_heard)) {
        Ok(Some(listener)) => Answer::events(listener),
        Ok(None) => Answer::error(503, "as many listen as may: limits are in docs/events.md"),
        Err(why) => Answer::error(400, why),
    }
}

/// The route of a path, and the segment that stands for `{}`.
fn find(path: &str) -> Option<(&'static [Method], Resource, &str)> {
    ROUTES.iter().find_map(|(template, methods, resource)| {
        let segment = match template.split_once("{}") {
            None => (path == *template).then_some("")?,
            Some((front, back)) => {
                let segment = path.strip_prefix(front)?.strip_suffix(back)?;
                (!segment.is_empty() && !segment.contains('/')).then_some(segment)?
            }
        };
        Some((*methods, *resource, segment))
    })
}

fn name(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Delete => "DELETE",
        _ => "another method",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn paths_are_found_whole() {
        let found =
            |path: &str| find(path).map(|(_, resource, segment)| (resource, segment.to_owned()));
        assert_eq!(found("/api/v1/clients"), Some((Resource::Clients, String::new())));
        assert_eq!(found("/api/v1/clients/12"), Some((Resource::Client, "12".to_owned())));
        assert_eq!(found("/control/drop/client"), Some((Resource::Control, "client".to_owned())));
        for path in ["/", "/api/v1/clients/", "/api/v1/clients/1/2", "/metrics/", "/control/drop"] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn every_route_is_described_and_nothing_else_is() {
        let openapi: Value = serde_json::from_str(OPENAPI).unwrap();
        assert_eq!(openapi["openapi"], "3.1.0");
        let mut described = BTreeSet::new();
        for (path, item) in openapi["paths"].as_object().unwrap() {
            let mut template = String::new();
            for segment in path.split('/').skip(1) {
                let is_variable = segment.starts_with('{');
                template += &format!("/{}", if is_variable { "{}" } else { segment });
            }
            for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
                described.insert((template.clone(), method.to_ascii_uppercase()));
            }
        }
        let mut served = BTreeSet::new();
        for (template, methods, _) in ROUTES {
            for method in methods.iter().filter(|method| **method != Method::Head) {
                served.insert((template.to_owned(), name(*method).to_owned()));
            }
        }
        assert_eq!(described, served);
    }
}
