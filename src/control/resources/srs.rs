//! Resources in the shapes of SRS (contract api): its console and dashboards read them as they are. What
//! SRS does not know of streams and clients stands in one further key, `details`.
//!
//! As with SRS, what is not there is answered with status 200 and a `code`, and lists come in pages:
//! `start` from 0, `count` at least 10; here also at most [`limits::API_PAGE_MAX`].

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::control::answer::Answer;
use crate::control::api::Shared;
use crate::control::census::{Census, Pace, Stream};
use crate::limits;
use crate::proto::http::Request;
use crate::proto::name::{DEFAULT_VHOST, StreamName};
use crate::session::ClientId;
use crate::shard::{ClientReport, Notice};

/// No vhost has this id.
const NO_VHOST: i64 = 2014;
/// No stream has this id.
const NO_STREAM: i64 = 2048;
/// No client has this id.
const NO_CLIENT: i64 = 2049;

/// What SRS calls a connection that neither publishes nor plays.
const IDLE_CLIENT: &str = "Unknown";

/// `GET /api/v1/versions`
pub(super) fn versions(shared: &Shared) -> Answer {
    let version = env!("CARGO_PKG_VERSION");
    let mut parts = version.split('.').map(|part| part.parse::<u64>().unwrap_or_default());
    let mut part = || parts.next().unwrap_or_default();
    let (major, minor, revision) = (part(), part(), part());
    let data = json!({ "major": major, "minor": minor, "revision": revision, "version": version });
    envelope(shared, 0, "data", data)
}

/// `GET /api/v1/vhosts`
pub(super) async fn vhosts(shared: &Shared, request: &Request) -> Answer {
    let page = match Page::of(request) {
        Ok(page) => page,
        Err(answer) => return answer,
    };
    let census = Census::of_streams(&shared.parts.reports).await;
    let names = vhost_names(shared, &census);
    let list = page.of_list(names.iter()).map(|name| vhost_of(shared, &census, name));
    envelope(shared, 0, "vhosts", list.collect())
}

/// `GET /api/v1/vhosts/ID`
pub(super) async fn vhost(shared: &Shared, id: &str) -> Answer {
    let census = Census::of_streams(&shared.parts.reports).await;
    if !vhost_names(shared, &census).iter().any(|name| name == id) {
        return missing(shared, NO_VHOST);
    }
    envelope(shared, 0, "vhost", vhost_of(shared, &census, id))
}

/// `GET /api/v1/streams`
pub(super) async fn streams(shared: &Shared, request: &Request) -> Answer {
    let page = match Page::of(request) {
        Ok(page) => page,
        Err(answer) => return answer,
    };
    let census = Census::of_streams(&shared.parts.reports).await;
    let mut list = Vec::new();
    let mut pace = Pace::default();
    for (number, stream) in page.of_list(census.streams.iter()) {
        list.extend(stream_of(shared, *number, stream));
        pace.step().await;
    }
    envelope(shared, 0, "streams", list.into())
}

/// `GET /api/v1/streams/ID`: the id of a stream is that of the SRS dialect of hooks.
pub(super) async fn stream(shared: &Shared, id: &str) -> Answer {
    let census = Census::of_streams(&shared.parts.reports).await;
    let mut pace = Pace::default();
    for (number, stream) in &census.streams {
        if stream.name.as_ref().is_some_and(|name| stream_id(shared, name) == id) {
            let found = stream_of(shared, *number, stream).unwrap_or_default();
            return envelope(shared, 0, "stream", found);
        }
        pace.step().await;
    }
    missing(shared, NO_STREAM)
}

/// `GET /api/v1/clients`
pub(super) async fn clients(shared: &Shared, request: &Request) -> Answer {
    let page = match Page::of(request) {
        Ok(page) => page,
        Err(answer) => return answer,
    };
    let census = Census::of_clients(&shared.parts.reports).await;
    let mut all: Vec<&ClientReport> = census.clients().collect();
    all.sort_unstable_by_key(|client| client.id);
    // One that went from shard to shard meanwhile is in the accounts of both.
    all.dedup_by_key(|client| client.id);
    let mut list = Vec::new();
    let mut pace = Pace::default();
    for client in page.of_list(all.into_iter()) {
        list.push(client_of(shared, &census, client));
        pace.step().await;
    }
    envelope(shared, 0, "clients", list.into())
}

/// `GET /api/v1/clients/ID`: the id of a client is the one of hooks and logs.
pub(super) async fn client(shared: &Shared, id: &str) -> Answer {
    let census = census_with(shared, id).await;
    match find_client(&census, id) {
        Some(client) => envelope(shared, 0, "client", client_of(shared, &census, client)),
        None => missing(shared, NO_CLIENT),
    }
}

/// `DELETE /api/v1/clients/ID`: the connection is closed.
pub(super) async fn kick(shared: &Shared, id: &str) -> Answer {
    let census = census_with(shared, id).await;
    let Some(client) = find_client(&census, id) else { return missing(shared, NO_CLIENT) };
    let why = "closed by the API".to_owned();
    let connection = client.connection;
    shared.parts.orders.give(client.shard, Notice::Dismiss { connection, why });
    tracing::info!(client = client.id.0, peer = %client.peer, "the API closes a connection");
    missing(shared, 0)
}

/// The clients, asked for again when this one is not among them: it may have gone from shard to shard
/// meanwhile.
async fn census_with(shared: &Shared, id: &str) -> Census {
    let census = Census::of_clients(&shared.parts.reports).await;
    if find_client(&census, id).is_some() {
        return census;
    }
    Census::of_clients(&shared.parts.reports).await
}

fn find_client<'a>(census: &'a Census, id: &str) -> Option<&'a ClientReport> {
    census.client(ClientId(id.parse().ok()?))
}

/// Which part of a list is wanted.
struct Page {
    start: usize,
    count: usize,
}

impl Page {
    fn of(request: &Request) -> Result<Self, Answer> {
        let number = |key: &str| match request.query().value(key) {
            None => Ok(None),
            Some(text) => text.parse::<usize>().map(Some).map_err(|_| {
                Answer::error(400, format!("{key} is a whole number from 0, not {text:?}"))
            }),
        };
        let start = number("start")?.unwrap_or_default();
        let count = number("count")?.unwrap_or_default();
        Ok(Self { start, count: count.clamp(limits::API_PAGE_MIN, limits::API_PAGE_MAX) })
    }

    fn of_list<T>(&self, list: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        list.skip(self.start).take(self.count)
    }
}

/// An answer with what SRS says of itself in each.
pub(super) fn envelope(shared: &Shared, code: i64, key: &str, value: Value) -> Answer {
    let mut body = head(shared, code);
    body.insert(key.to_owned(), value);
    Answer::json(200, &Value::Object(body))
}

fn missing(shared: &Shared, code: i64) -> Answer {
    Answer::json(200, &Value::Object(head(shared, code)))
}

fn head(shared: &Shared, code: i64) -> Map<String, Value> {
    let (server, service) = shared.parts.hooks.identity();
    let mut body = Map::new();
    body.insert("code".to_owned(), code.into());
    body.insert("server".to_owned(), server.into());
    body.insert("service".to_owned(), service.into());
    // SRS writes it as text.
    body.insert("pid".to_owned(), std::process::id().to_string().into());
    body
}

fn vhost_names(shared: &Shared, census: &Census) -> Vec<String> {
    let settings = shared.parts.settings.get();
    let mut names = vec![DEFAULT_VHOST.to_owned()];
    let configured = settings.vhosts().map(str::to_owned);
    let used = census.streams.values().filter_map(|it| it.name.as_ref());
    let mut others: Vec<String> =
        configured.chain(used.map(|name| name.vhost().to_owned())).collect();
    others.sort_unstable();
    others.dedup();
    names.extend(others.into_iter().filter(|name| name != DEFAULT_VHOST));
    names
}

fn vhost_of(shared: &Shared, census: &Census, vhost: &str) -> Value {
    let mut sums = [0_u64; 5];
    for stream in census.streams.values() {
        if stream.name.as_ref().is_some_and(|name| name.vhost() == vhost) {
            let [count, sent, received, sent_rate, received_rate] = &mut sums;
            *count += 1;
            *sent += stream.sent_bytes;
            *received += stream.published.as_ref().map_or(0, |it| it.publication.bytes_in);
            *sent_rate += stream.sent_bits_per_second;
            *received_rate += received_rate_of(stream);
        }
    }
    let [count, sent, received, sent_rate, received_rate] = sums;
    let clients =
        shared.parts.registry.borrow().connected().get(vhost).copied().unwrap_or_default();
    json!({
        "id": vhost,
        "name": vhost,
        "enabled": true,
        "clients": clients,
        "streams": count,
        "send_bytes": sent,
        "recv_bytes": received,
        "kbps": { "recv_30s": received_rate / 1000, "send_30s": sent_rate / 1000 },
        "hls": { "enabled": false },
    })
}

fn stream_of(shared: &Shared, number: u64, stream: &Stream) -> Option<Value> {
    let name = stream.name.as_ref()?;
    let published = stream.published.as_ref();
    let info = stream.publisher_info.as_deref();
    let media = stream.media();
    let video = media.and_then(|media| media.video.as_ref()).map(|video| {
        json!({
            "codec": video.codec,
            "profile": video.profile,
            "level": video.level,
            "width": video.width.unwrap_or_default(),
            "height": video.height.unwrap_or_default(),
        })
    });
    let audio = media.and_then(|media| media.audio.as_ref()).map(|audio| {
        json!({
            "codec": audio.codec,
            "sample_rate": audio.sample_rate.unwrap_or_default(),
            "channel": audio.channels.unwrap_or_default(),
            "profile": audio.profile,
        })
    });
    let mut publish = json!({ "active": published.is_some() });
    if let Some(id) = stream.publisher {
        publish["cid"] = id.to_string().into();
    }
    let counters = published.map(|it| it.publication).unwrap_or_default();
    Some(json!({
        "id": stream_id(shared, name),
        "name": name.stream(),
        "vhost": name.vhost(),
        "app": name.app_text(),
        "tcUrl": info.map_or("", |info| &info.tc_url),
        "url": format!("/{}/{}", name.app_text(), name.stream()),
        "live_ms": unix_ms(),
        "clients": stream.viewers + usize::from(published.is_some()),
        "frames": counters.video_frames,
        "send_bytes": stream.sent_bytes,
        "recv_bytes": counters.bytes_in,
        "kbps": {
            "recv_30s": received_rate_of(stream) / 1000,
            "send_30s": stream.sent_bits_per_second / 1000,
        },
        "publish": publish,
        "video": video,
        "audio": audio,
        "details": {
            "number": number,
            "shard": stream.shard,
            "viewer_shards": stream.viewer_shards,
            "viewers": stream.viewers,
            "waiting": stream.waiting,
            "paused": stream.paused,
            "published_s": published.map(|it| it.published_ms as f64 / 1000.0),
            "frame_rate": media.and_then(|it| it.video.as_ref()).and_then(|it| it.frame_rate),
            "frames_per_second": published.map(|it| it.frames_per_second),
            "video_bits_per_second": published.map(|it| it.video_bits_per_second),
            "audio_bits_per_second": published.map(|it| it.audio_bits_per_second),
            "audio_ahead_ms": published.map(|it| it.audio_ahead_ms),
            "timestamps_repaired": counters.timestamps_repaired,
            "frames_dropped": {
                "before_keyframe": counters.frames_useless,
                "malformed": counters.frames_malformed,
            },
        },
    }))
}

fn client_of(shared: &Shared, census: &Census, client: &ClientReport) -> Value {
    let info = client.info.as_deref();
    let first = client.streams.first();
    let name_of = |number: u64| census.streams.get(&number).and_then(|it| it.name.as_ref());
    let name = first.and_then(|it| name_of(it.stream.0));
    let publishes = first.is_some_and(|it| it.is_publisher);
    let kind = match (first, client.protocol) {
        (None, _) => IDLE_CLIENT,
        (Some(_), "rtmp") if publishes => "fmle-publish",
        (Some(_), "rtmp") => "rtmp-play",
        (Some(_), _) => "flv-play",
    };
    let text = |value: fn(&crate::session::ClientInfo) -> &String| {
        info.map(|info| value(info).clone()).unwrap_or_default()
    };
    let does: Vec<Value> = client
        .streams
        .iter()
        .filter_map(|it| {
            Some(json!({
                "stream": name_of(it.stream.0)?.to_string(),
                "publish": it.is_publisher,
                "seconds": census.at.since(it.since).as_secs_f64(),
            }))
        })
        .collect();
    json!({
        "id": client.id.to_string(),
        "vhost": name.map_or_else(|| text(|info| &info.vhost), |name| name.vhost().to_owned()),
        "stream": name.map(|name| stream_id(shared, name)).unwrap_or_default(),
        "ip": client.peer.ip().to_canonical().to_string(),
        "pageUrl": text(|info| &info.page_url),
        "swfUrl": text(|info| &info.swf_url),
        "tcUrl": text(|info| &info.tc_url),
        "url": name
            .map(|name| format!("/{}/{}", name.app_text(), name.stream()))
            .unwrap_or_default(),
        "name": name.map(|name| name.stream().to_owned()).unwrap_or_default(),
        "type": kind,
        "publish": publishes,
        "alive": census.at.since(client.since).as_secs_f64(),
        "send_bytes": client.bytes_out,
        "recv_bytes": client.bytes_in,
        "kbps": {
            "recv_30s": client.bits_per_second_in / 1000,
            "send_30s": client.bits_per_second_out / 1000,
        },
        "details": {
            "shard": client.shard,
            "port": client.peer.port(),
            "protocol": client.protocol,
            "agent": text(|info| &info.flash_version),
            "skips": client.skips,
            "streams": does,
        },
    })
}

/// The same as `stream_id` of hooks in the SRS dialect.
fn stream_id(shared: &Shared, name: &StreamName) -> String {
    let vhost = Some(name.vhost()).filter(|vhost| *vhost != DEFAULT_VHOST).unwrap_or_default();
    let stream = name.stream();
    let bare = stream.rsplit_once('.').map_or(stream, |(bare, _)| bare);
    shared.parts.hooks.srs_stream_id(&format!("{vhost}/{}/{bare}", name.app_text()))
}

fn received_rate_of(stream: &Stream) -> u64 {
    let published = stream.published.as_ref();
    published.map_or(0, |it| it.video_bits_per_second + it.audio_bits_per_second)
}

/// Milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
