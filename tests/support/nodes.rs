//! Several servers that are one cluster, each on ports of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use shardcast::proto::amf0::Value as Amf;
use shardcast::proto::name::{DEFAULT_INSTANCE, DEFAULT_VHOST};
use shardcast::proto::rtmp::cluster_link::{EPOCH_PROPERTY, LINK_PROPERTY, word};
use shardcast::proto::rtmp::node_path::NODES_PROPERTY;

use super::gate::Gate;
use super::ports::Port;
use super::process::Process;
use super::push::look;
use super::redis::Redis;
use super::rtmp_client::{RtmpClient, code_of};
use super::server::{Server, command};
use super::wait::{SOON, eventually};

/// A node of a cluster.
pub(crate) struct NodeProcess {
    pub(crate) server: Server,
    /// Its way to Redis.
    pub(crate) gate: Gate,
    _port: Port,
}

/// A cluster with a Redis of its own.
pub(crate) struct Nodes {
    pub(crate) redis: Redis,
    pub(crate) nodes: Vec<NodeProcess>,
}

impl Nodes {
    /// So many nodes, each with these settings; all of them have found Redis.
    pub(crate) fn start(count: usize, overrides: &[(&str, &str)]) -> Self {
        Self::start_with(Redis::start(), &vec![None; count], overrides)
    }

    /// One node for each of these configuration files, if it is to have one, over this Redis.
    pub(crate) fn start_with(
        redis: Redis,
        files: &[Option<PathBuf>],
        overrides: &[(&str, &str)],
    ) -> Self {
        let count = files.len();
        let start = |file: &Option<PathBuf>| NodeProcess::start(&redis, file.as_deref(), overrides);
        let nodes = files.iter().map(start).collect();
        let nodes = Self { redis, nodes };
        for number in 0..count {
            nodes.wait_for_redis(number, true);
        }
        nodes
    }

    pub(crate) fn server(&self, number: usize) -> &Server {
        &self.nodes[number].server
    }

    pub(crate) fn rtmp(&self, number: usize) -> SocketAddr {
        self.server(number).rtmp()
    }

    /// `GET /api/v1/cluster`
    pub(crate) fn account(&self, number: usize) -> Value {
        account(self.server(number))
    }

    pub(crate) fn wait_for_redis(&self, number: usize, is_up: bool) {
        let word = if is_up { "up" } else { "down" };
        eventually(&format!("Redis is {word} for node {number}"), SOON, || {
            (self.account(number)["redis"] == word).then_some(())
        });
    }

    /// Waits until this node publishes the stream with a lease.
    pub(crate) fn wait_for_lease(&self, number: usize, stream: &str) -> u64 {
        eventually(&format!("node {number} owns {stream}"), SOON, || {
            let found = standing(&self.account(number), stream)?;
            (found["state"] == "leased").then(|| found["epoch"].as_u64().expect("a number"))
        })
    }

    /// The secret of the cluster.
    pub(crate) fn secret(&self) -> String {
        self.redis.cli(&["GET", "shardcast:cluster:secret"])
    }
}

impl NodeProcess {
    fn start(redis: &Redis, file: Option<&Path>, overrides: &[(&str, &str)]) -> Self {
        let (port, gate) = (Port::reserve(), Gate::to(redis.port()));
        let (listen, url) = (port.address(), format!("redis://{}", gate.address()));
        let advertise = format!("rtmp://{listen}");
        let mut all = vec![
            ("rtmp.listen", listen.as_str()),
            ("cluster.redis", url.as_str()),
            ("cluster.advertise", advertise.as_str()),
            ("server.shards", "2"),
            ("server.accept", "round_robin"),
        ];
        all.extend_from_slice(overrides);
        let mut command = command(&all);
        if let Some(file) = file {
            command.arg("--config").arg(file);
        }
        let server = Server::adopt(Process::spawn("shardcast", &mut command));
        Self { server, gate, _port: port }
    }
}

/// `GET /api/v1/cluster`
pub(crate) fn account(server: &Server) -> Value {
    look(server.api().address(), "/api/v1/cluster")
}

/// What an account says of a stream that the node publishes.
pub(crate) fn standing(account: &Value, stream: &str) -> Option<Value> {
    let streams = account["streams"].as_array().expect("a list");
    streams.iter().find(|it| it["stream"] == stream).cloned()
}

/// The word by which a node named `probe` fetches `app/name`, made so many seconds from now.
pub(crate) fn link_word(secret: &str, stream: &str, later_s: i64) -> String {
    let (app, name) = stream.split_once('/').expect("app/name");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let now = i64::try_from(now.as_secs()).expect("it fits");
    word(
        secret,
        "probe",
        &format!("{DEFAULT_VHOST}/{app}/{DEFAULT_INSTANCE}/{name}"),
        now + later_s,
    )
}

/// Connects with such a word: the code of the refusal, should there be one.
pub(crate) fn connect_as_node(
    address: SocketAddr,
    app: &str,
    word: &str,
) -> Result<RtmpClient, String> {
    let mut client = RtmpClient::open(address);
    let more = [(NODES_PROPERTY, "probe"), (LINK_PROPERTY, word)];
    client.connect(app, &format!("rtmp://{address}/{app}"), &more);
    let answer = client.wait_until(SOON, |it| matches!(it.name.as_str(), "_result" | "_error"));
    let answer = answer.ok_or("closed")?;
    if answer.name == "_error" { Err(code_of(&answer)) } else { Ok(client) }
}

/// Asks a node for `app/name` as another node of its cluster does: the number of the ownership, or the
/// code of the refusal.
pub(crate) fn pull(address: SocketAddr, secret: &str, stream: &str) -> Result<u64, String> {
    pull_with(address, &link_word(secret, stream, 0), stream)
}

/// The same with this word.
pub(crate) fn pull_with(address: SocketAddr, word: &str, stream: &str) -> Result<u64, String> {
    let (app, name) = stream.split_once('/').expect("app/name");
    let mut client = connect_as_node(address, app, word)?;
    let message_stream = client.create_stream();
    client.tell(message_stream, "play", &[name.into()]);
    let is_word = |code: &str| !code.ends_with("Play.Reset");
    let status = client
        .wait_until(SOON, |it| it.name == "onStatus" && is_word(&code_of(it)))
        .ok_or("closed")?;
    let code = code_of(&status);
    let epoch = status.args[0].property(EPOCH_PROPERTY).and_then(Amf::as_f64);
    match epoch {
        Some(epoch) if code == "NetStream.Play.Start" => Ok(epoch as u64),
        _ => Err(code),
    }
}
