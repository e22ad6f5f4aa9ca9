//! The push channel under load: many members of one channel, a message at a time, and what it costs to
//! reach them all, next to a loop that does nothing but send.
//!
//! | module   | what it knows                                               |
//! |----------|-------------------------------------------------------------|
//! | `member` | one connection: its dialogue, and what it was sent           |
//! | `crowd`  | all connections: opening them, reading them                  |
//! | `floor`  | the bare loop of sends, in a process of its own              |
//! | `api`    | posts, and how many members the server counts                |

mod api;
mod crowd;
mod floor;
mod member;

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use shardcast::proto::push_session::PushSession;

use self::api::Api;
use self::crowd::Crowd;
pub(crate) use self::floor::serve as serve_floor;
use self::member::Kind;
use crate::cli::Output;
use crate::clock::{SECOND_NS, now_ns};
use crate::failure::{Failure, io};
use crate::histogram::{Summary, latency_histogram};
use crate::limits;
use crate::target::{API_PORT, HTTP_PORT, RTMP_PORT, Server};
use crate::usage::{Observed, Usage};

/// The channel that everybody is on.
const CHANNEL: i64 = 1;
/// Longer messages would come in several chunks, which members here do not put together.
const MESSAGE_BYTES_MAX: u32 = 16_000;
/// What everybody gets at most for getting in, or for receiving one message.
const PATIENCE_NS: u64 = 60 * SECOND_NS;

/// Members, messages and where the server is.
#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    /// HOST:PORT of the server's API.
    #[arg(long, default_value = "127.0.0.1:1985")]
    api: String,
    /// HOST:PORT for RTMP.
    #[arg(long, default_value = "127.0.0.1:1935")]
    rtmp: String,
    /// HOST:PORT for WebSockets.
    #[arg(long, default_value = "127.0.0.1:8080")]
    http: String,
    /// The server's push.secret.
    #[arg(long)]
    secret: String,
    /// The server's api.token.
    #[arg(long)]
    token: Option<String>,
    /// Members over RTMP.
    #[arg(long, default_value_t = 0)]
    members_rtmp: u32,
    /// Members over WebSocket.
    #[arg(long, default_value_t = 0)]
    members_websocket: u32,
    /// Messages to the channel, one after the other.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// Bytes of a message.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(16..=i64::from(MESSAGE_BYTES_MAX)))]
    message_bytes: u32,
    /// Pause between the last delivery of a message and the next one.
    #[arg(long, default_value = "100ms", value_parser = crate::cli::duration)]
    pause: Duration,
    /// The report.
    #[command(flatten)]
    output: Output,
}

/// The report.
#[derive(Debug, Serialize)]
struct Report {
    members_rtmp: u32,
    members_websocket: u32,
    messages: u32,
    message_bytes: u32,
    /// Deliveries that were the right message at the right place.
    delivered: u64,
    /// Deliveries that were another message than the next one, or damaged.
    wrong: u64,
    /// Members that were closed.
    closed: u64,
    /// From the post to each delivery.
    delivery: Summary,
    /// From the post to the last delivery, per message.
    last_delivery: Summary,
    server: Option<ServerCost>,
    floor_us_per_send: f64,
    loadgen_cpu_us_per_delivery: f64,
}

#[derive(Debug, Serialize)]
struct ServerCost {
    cpu_us_per_delivery: f64,
    /// Of the bare send's.
    times_floor: f64,
    kib_per_rtmp_member: f64,
    kib_per_websocket_member: f64,
}

/// Runs it; true when everything was delivered once and in order.
pub(crate) fn execute(args: &PushArgs) -> Result<bool, Failure> {
    let members = u64::from(args.members_rtmp) + u64::from(args.members_websocket);
    limits::check_descriptors(members + 8)?;
    let rtmp = Server::resolve(&args.rtmp, RTMP_PORT)?.address;
    let http = Server::resolve(&args.http, HTTP_PORT)?.address;
    limits::check_ports(u64::from(args.members_rtmp), rtmp, &[])?;
    limits::check_ports(u64::from(args.members_websocket), http, &[])?;
    let server = args.output.pid.map(Observed::new).transpose()?;
    let look = || server.map(Observed::look).transpose();
    let mut api = Api::new(Server::resolve(&args.api, API_PORT)?.address, args.token.clone())
        .map_err(io("the API"))?;

    let session =
        PushSession { user: 1.into(), channels: vec![CHANNEL.into()], expires_unix_s: None };
    let token = session.sign(&args.secret);
    let mut crowd = Crowd::new().map_err(io("epoll"))?;
    let empty = look()?;
    enter(&mut crowd, &mut api, Kind::Rtmp, rtmp, args.members_rtmp, &token)?;
    let with_rtmp = look()?;
    enter(&mut crowd, &mut api, Kind::WebSocket, http, args.members_websocket, &token)?;
    let with_all = look()?;

    let own = Observed::own();
    let (mut delivery, mut last_delivery) = (latency_histogram(), latency_histogram());
    let (before, own_before) = (look()?, own.look()?);
    for number in 0..args.messages {
        let text = text_of(number, args.message_bytes as usize);
        crowd.expect(&text);
        let posted_ns = now_ns();
        api.post(CHANNEL, &text).map_err(io("posting"))?;
        let last_ns = crowd
            .receive(posted_ns + PATIENCE_NS, |at_ns| {
                delivery.saturating_record(at_ns - posted_ns);
            })
            .map_err(io("receiving"))?;
        last_delivery.saturating_record(last_ns - posted_ns);
        crowd.idle(args.pause).map_err(io("receiving"))?;
    }
    let (after, own_after) = (look()?, own.look()?);
    let (delivered, wrong, closed) = (crowd.delivered(), crowd.wrong(), crowd.closed());
    drop(crowd);

    let floor_bytes = member::wire_bytes(&text_of(0, args.message_bytes as usize));
    let floor_ns =
        floor::measure(members, floor_bytes, args.messages).map_err(io("the bare sends"))?;
    let floor_us = floor_ns / 1e3;
    let deliveries = (members * u64::from(args.messages)).max(1) as f64;
    let cpu_us =
        |before: &Usage, after: &Usage| after.cpu_since(before).0 as f64 / 1e3 / deliveries;
    let kib = |before: &Usage, after: &Usage, members: u32| {
        after.rss_bytes.saturating_sub(before.rss_bytes) as f64 / 1024.0 / f64::from(members.max(1))
    };
    let cost = match (&empty, &with_rtmp, &with_all, &before, &after) {
        (Some(empty), Some(with_rtmp), Some(with_all), Some(before), Some(after)) => {
            let cpu = cpu_us(before, after);
            Some(ServerCost {
                cpu_us_per_delivery: cpu,
                times_floor: cpu / floor_us,
                kib_per_rtmp_member: kib(empty, with_rtmp, args.members_rtmp),
                kib_per_websocket_member: kib(with_rtmp, with_all, args.members_websocket),
            })
        }
        _ => None,
    };
    let report = Report {
        members_rtmp: args.members_rtmp,
        members_websocket: args.members_websocket,
        messages: args.messages,
        message_bytes: args.message_bytes,
        delivered,
        wrong,
        closed,
        delivery: Summary::of(&delivery),
        last_delivery: Summary::of(&last_delivery),
        server: cost,
        floor_us_per_send: floor_us,
        loadgen_cpu_us_per_delivery: cpu_us(&own_before, &own_after),
    };
    print(&report);
    if let Some(path) = &args.output.json {
        let text = serde_json::to_string_pretty(&report).map_err(io::Error::other);
        let write = |text: String| match path.to_str() {
            Some("-") => io::stdout().write_all(text.as_bytes()),
            _ => std::fs::write(path, text),
        };
        text.and_then(write).map_err(io("writing the report"))?;
    }
    Ok(wrong == 0 && closed == 0 && delivered == members * u64::from(args.messages))
}

/// Connects members and waits until the server counts them.
fn enter(
    crowd: &mut Crowd,
    api: &mut Api,
    kind: Kind,
    address: std::net::SocketAddr,
    count: u32,
    token: &str,
) -> Result<(), Failure> {
    let deadline_ns = now_ns() + PATIENCE_NS;
    crowd.enter(kind, address, count, token, deadline_ns).map_err(io("connecting"))?;
    while api.members(CHANNEL).map_err(io("the API"))? < crowd.len() {
        if now_ns() > deadline_ns {
            let error = io::Error::other("the server does not count all members");
            return Err(Failure::Io { what: "connecting", error });
        }
        crowd.idle(Duration::from_millis(50)).map_err(io("connecting"))?;
    }
    Ok(())
}

/// A message that says which it is.
fn text_of(number: u32, bytes: usize) -> String {
    let mut text = format!("{number} ");
    while text.len() < bytes {
        text.push('x');
    }
    text
}

fn print(report: &Report) {
    let Report { members_rtmp, members_websocket, messages, message_bytes, .. } = report;
    println!("members        {members_rtmp} RTMP, {members_websocket} WebSocket");
    println!("messages       {messages} of {message_bytes} bytes");
    println!(
        "delivered      {} right, {} wrong, {} members closed",
        report.delivered, report.wrong, report.closed
    );
    for (name, summary) in
        [("delivery", &report.delivery), ("last delivery", &report.last_delivery)]
    {
        let Summary { p50_ms, p99_ms, max_ms, .. } = summary;
        println!("{name:<14} p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, max {max_ms:.1} ms");
    }
    println!("bare sends     {:.2} µs each", report.floor_us_per_send);
    if let Some(server) = &report.server {
        println!(
            "server CPU     {:.2} µs per delivery, {:.2} times the bare send",
            server.cpu_us_per_delivery, server.times_floor
        );
        println!(
            "server memory  {:.1} KiB per RTMP member, {:.1} KiB per WebSocket member",
            server.kib_per_rtmp_member, server.kib_per_websocket_member
        );
    }
    println!("loadgen CPU    {:.2} µs per delivery", report.loadgen_cpu_us_per_delivery);
}
