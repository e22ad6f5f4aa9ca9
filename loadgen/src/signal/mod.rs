//! Rooms under load: many members join, tell each other something and leave. Every answer and every
//! message is held against what has to come.
//!
//! | module   | what it knows                                             |
//! |----------|-----------------------------------------------------------|
//! | `frames` | WebSocket frames of a client, and of its server           |
//! | `crowd`  | all connections: what each has to be sent, and was sent   |

mod crowd;
mod frames;

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use self::crowd::{Crowd, Shape};
use crate::clock::{SECOND_NS, now_ns};
use crate::failure::{Failure, io};
use crate::histogram::Summary;
use crate::limits;
use crate::target::{HTTP_PORT, Server};
use crate::usage::{Observed, Usage};

/// How long answers may take after the last request.
const PATIENCE_NS: u64 = 30 * SECOND_NS;

/// Members, rooms and where the server is.
#[derive(Args, Debug)]
pub(crate) struct SignalArgs {
    /// HOST:PORT for WebSockets.
    #[arg(long, default_value = "127.0.0.1:8080")]
    http: String,
    /// The server's signalling.path.
    #[arg(long, default_value = "/signal")]
    path: String,
    /// Connections.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Rooms that they share evenly.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    rooms: u32,
    /// Joins and leaves per second.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    joins_per_second: u32,
    /// Messages of each member to each other one of its room.
    #[arg(long, default_value_t = 3)]
    messages: u32,
    /// Messages per second, of all members together.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    messages_per_second: u32,
    /// Bytes of a message.
    #[arg(long, default_value_t = 1_000)]
    message_bytes: u32,
    /// Process of the server on this machine: its CPU and memory are reported.
    #[arg(long)]
    pid: Option<u32>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// The report.
#[derive(Debug, Serialize)]
struct Report {
    connections: u32,
    rooms: u32,
    /// From the join to its answer.
    join: Summary,
    /// From the join to the news of it at each other member.
    new_peer: Summary,
    /// From a message to its delivery.
    message: Summary,
    /// From a leave to the news of it at each other member.
    peer_left: Summary,
    messages_sent: u64,
    /// Once, to the addressed peer, in the order in which its sender said them.
    messages_delivered: u64,
    /// What came and should not have, or came twice, or in the wrong order.
    wrong: u64,
    /// What had to come and did not.
    missing: u64,
    /// Connections that the server closed.
    closed: u64,
    server: Option<ServerCost>,
}

#[derive(Debug, Serialize)]
struct ServerCost {
    cpu_us_per_join: f64,
    cpu_us_per_message: f64,
    kib_per_connection: f64,
}

/// Runs it; true when everything came once to whom it was for.
pub(crate) fn execute(args: &SignalArgs) -> Result<bool, Failure> {
    limits::check_descriptors(u64::from(args.connections) + 8)?;
    let address = Server::resolve(&args.http, HTTP_PORT)?.address;
    limits::check_ports(u64::from(args.connections), address, &[])?;
    let server = args.pid.map(Observed::new).transpose()?;
    let look = || server.map(Observed::look).transpose();
    let shape = Shape {
        connections: args.connections as usize,
        rooms: args.rooms.min(args.connections) as usize,
        message_bytes: args.message_bytes as usize,
    };
    let mut crowd = Crowd::new(shape).map_err(io("epoll"))?;
    let empty = look()?;
    crowd.connect(address, &args.path, now_ns() + PATIENCE_NS).map_err(io("connecting"))?;
    let connected = look()?;
    crowd.join(args.joins_per_second, PATIENCE_NS).map_err(io("joining"))?;
    let joined = look()?;
    let messages = crowd
        .talk(args.messages, args.messages_per_second, PATIENCE_NS)
        .map_err(io("sending messages"))?;
    let talked = look()?;
    crowd.leave(args.joins_per_second, PATIENCE_NS).map_err(io("leaving"))?;
    // Whatever comes now is too much.
    crowd.idle(Duration::from_millis(300)).map_err(io("waiting"))?;

    let cpu_us = |before: &Usage, after: &Usage, count: u64| {
        after.cpu_since(before).0 as f64 / 1e3 / count.max(1) as f64
    };
    let cost = match (&empty, &connected, &joined, &talked) {
        (Some(empty), Some(connected), Some(joined), Some(talked)) => Some(ServerCost {
            cpu_us_per_join: cpu_us(connected, joined, args.connections.into()),
            cpu_us_per_message: cpu_us(joined, talked, messages),
            kib_per_connection: joined.rss_bytes.saturating_sub(empty.rss_bytes) as f64
                / 1024.0
                / f64::from(args.connections),
        }),
        _ => None,
    };
    let found = crowd.found();
    let report = Report {
        connections: args.connections,
        rooms: args.rooms,
        join: Summary::of(&found.join),
        new_peer: Summary::of(&found.new_peer),
        message: Summary::of(&found.message),
        peer_left: Summary::of(&found.peer_left),
        messages_sent: messages,
        messages_delivered: found.delivered,
        wrong: found.wrong,
        missing: found.missing,
        closed: found.closed,
        server: cost,
    };
    print(&report, args.json);
    Ok(report.wrong == 0
        && report.missing == 0
        && report.closed == 0
        && report.messages_delivered == messages)
}

fn print(report: &Report, json: bool) {
    if json {
        println!("{}", serde_json::to_string_pretty(report).unwrap_or_default());
        return;
    }
    println!("connections    {} in {} rooms", report.connections, report.rooms);
    for (name, summary) in [
        ("join", &report.join),
        ("new_peer", &report.new_peer),
        ("message", &report.message),
        ("peer_left", &report.peer_left),
    ] {
        let Summary { p50_ms, p99_ms, max_ms, .. } = summary;
        println!("{name:<14} p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, max {max_ms:.1} ms");
    }
    println!(
        "messages       {} sent, {} delivered once to their peer",
        report.messages_sent, report.messages_delivered
    );
    println!(
        "faults         {} wrong, {} missing, {} connections closed",
        report.wrong, report.missing, report.closed
    );
    if let Some(server) = &report.server {
        println!(
            "server CPU     {:.1} µs per join, {:.1} µs per message",
            server.cpu_us_per_join, server.cpu_us_per_message
        );
        println!("server memory  {:.1} KiB per connection in a room", server.kib_per_connection);
    }
}
