//! Puts the parts together: probe, listeners, threads, and the end.

use std::fmt::Write;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;

use crate::config::{self, ControlCore, Settings, Shards, Source};
use crate::control::{self, ApiListener, ControlPlan, Serves};
use crate::limits;
use crate::logging::{self, Logging};
use crate::rt::egress::{self, EgressChoice};
use crate::rt::event_fd::EventFd;
use crate::rt::executor::{ExecutorThread, spawn_pinned, spawn_with_pool};
use crate::rt::mesh::{Mesh, inbox};
use crate::rt::probe;
use crate::rt::socket;
use crate::shard::{self, AcceptCounters, Acceptor, Envelope, Protocol, ShardDoor, ShardPlan};
use crate::signals::{self, Caught, Operator};

/// Events of other threads that wait for the control shard.
const CONTROL_EVENTS_MAX: usize = 64;

/// Runs the server until it is told to stop; 0 after an orderly end, 1 when it cannot start. `source`
/// is where the settings come from, and can be read again.
pub fn run(settings: Settings, source: Source) -> ExitCode {
    // First of all, so that a signal during the start waits for its end.
    let caught = match signals::catch() {
        Ok(caught) => caught,
        Err(error) => {
            eprintln!("shardcast cannot catch signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let logging = match logging::start(&settings.log) {
        Ok(logging) => Arc::new(logging),
        Err(error) => {
            eprintln!("shardcast cannot write its log: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = serve(Arc::new(settings), source, caught, &logging);
    // What is still in the log's queue belongs before the last word.
    logging.flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shardcast cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Open sockets of one kind with their real addresses.
type Listeners = Vec<(OwnedFd, SocketAddr)>;

fn serve(
    settings: Arc<Settings>,
    source: Source,
    caught: Caught,
    logging: &Arc<Logging>,
) -> Result<(), String> {
    let report = probe::check(probe::Needs::default()).map_err(|error| error.to_string())?;
    for note in &report.notes {
        tracing::warn!("{note}");
    }
    if settings.limits.connections as u64 + 64 > report.descriptors_max {
        tracing::info!(
            "the process may open {} descriptors: fewer connections fit than limits.connections = {}",
            report.descriptors_max,
            settings.limits.connections
        );
    }
    let rtmp = listen("rtmp.listen", &settings.rtmp.listen)?;
    let http = listen("http.listen", &settings.http.listen)?;
    let rooms = listen("signalling.listen", &settings.signalling.listen)?;
    let api = listen("api.listen", &settings.api.listen)?;
    let metrics = listen("api.metrics_listen", &settings.api.metrics_listen)?;
    let banner = banner(&rtmp, &http, &rooms, &api, &metrics, &settings.signalling.path);

    let control_cpu = match settings.server.control_core {
        ControlCore::Float => None,
        ControlCore::Core(cpu) => Some(cpu),
    };
    let cpus = shard_cpus(report.usable_cpus, control_cpu, settings.server.shards);
    let shards = match settings.server.shards {
        Shards::Auto => cpus.len().max(1),
        Shards::Count(count) => count,
    };
    let egress = choose_egress(&settings, report.private_ring);
    let failed = |what: &str, error: io::Error| format!("{what}: {error}");
    let mut ends = Mesh::new::<Box<Envelope>>(shards + 1, limits::MESH_LANE_ENVELOPES_MAX)
        .map_err(|error| failed("the channels between shards", error))?;
    let control_end = ends.pop().ok_or("a mesh has nodes")?;

    let mut doors = Vec::new();
    let mut threads: Vec<ExecutorThread<io::Result<()>>> = Vec::new();
    for (index, mesh) in ends.into_iter().enumerate() {
        let (sender, inbox) = inbox(mesh.doorbell(), limits::INBOX_CONNECTIONS_MAX);
        let load = Arc::default();
        doors.push(ShardDoor { inbox: sender, load: Arc::clone(&load) });
        let plan = ShardPlan {
            index,
            settings: Arc::clone(&settings),
            mesh,
            inbox,
            load,
            egress,
            access: logging.access().cloned(),
            seed: random_seed(),
        };
        // More shards than processors only in tests: they share.
        let cpu = cpus.get(index % cpus.len().max(1)).copied();
        let cpu = cpu.filter(|_| shards <= cpus.len());
        let thread = spawn_pinned(&format!("shard-{index}"), cpu, move || shard::run(plan));
        threads.push(thread.map_err(|error| failed("starting a shard", error))?);
    }

    let loads = doors.iter().map(|door| Arc::clone(&door.load)).collect();
    let stop_accepting =
        Arc::new(EventFd::new().map_err(|error| failed("the stop signal", error))?);
    let accepted = Arc::new(AcceptCounters::default());
    let (events, event_inbox) = inbox(control_end.doorbell(), CONTROL_EVENTS_MAX);
    let plan = ControlPlan {
        settings: Arc::clone(&settings),
        mesh: control_end,
        events: event_inbox,
        stop_accepting: Arc::clone(&stop_accepting),
        loads,
        accepted: Arc::clone(&accepted),
        log_losses: logging.losses(),
        api: api_listeners(api, Serves::All)
            .chain(api_listeners(metrics, Serves::Metrics))
            .collect(),
    };
    let control = spawn_with_pool("control", control_cpu, limits::BLOCKING_THREADS, move || {
        control::run(plan)
    })
    .map_err(|error| failed("starting the control shard", error))?;

    caught
        .listen(Operator {
            events,
            source,
            logging: Arc::clone(logging),
            settings: Arc::clone(&settings),
        })
        .map_err(|error| failed("listening to signals", error))?;
    let listeners = [(rtmp, Protocol::Rtmp), (http, Protocol::Http), (rooms, Protocol::Rooms)]
        .into_iter()
        .flat_map(|(sockets, protocol)| {
            sockets.into_iter().map(move |(socket, _)| (socket, protocol))
        })
        .collect();
    let acceptor = Acceptor::new(listeners, doors, settings, accepted)
        .start(stop_accepting)
        .map_err(|error| failed("starting the acceptor", error))?;
    tracing::info!(shards, ?egress, kernel = report.kernel, "shardcast is ready");
    print_banner(&banner);

    control
        .join()
        .map_err(|panic| format!("the control shard ended: {panic}"))?
        .map_err(|error| failed("the control shard", error))?;
    for thread in threads {
        // A shard that is not drained in time is left to the end of the process.
        if thread.is_finished() {
            thread
                .join()
                .map_err(|panic| format!("a shard ended: {panic}"))?
                .map_err(|error| failed("a shard", error))?;
        }
    }
    let _ = acceptor.join();
    tracing::info!("shardcast has ended");
    Ok(())
}

/// Where shards run: not on the control shard's own core, unless there are too many of them.
fn shard_cpus(usable: Vec<usize>, control: Option<usize>, shards: Shards) -> Vec<usize> {
    let others: Vec<usize> = usable.iter().copied().filter(|cpu| Some(*cpu) != control).collect();
    let wanted = match shards {
        Shards::Auto => 1,
        Shards::Count(count) => count,
    };
    if others.len() < wanted { usable } else { others }
}

fn listen(key: &str, addresses: &[SocketAddr]) -> Result<Listeners, String> {
    let mut listeners = Vec::new();
    for &address in addresses {
        let socket = socket::listen(address, false).map_err(|error| {
            let advice = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    format!("another program uses it; stop it or set {key} to another address")
                }
                io::ErrorKind::PermissionDenied => {
                    "ports under 1024 need root or CAP_NET_BIND_SERVICE".to_owned()
                }
                io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
                _ => error.to_string(),
            };
            format!("{key} = {address} cannot be opened: {advice}")
        })?;
        let local = socket::local_addr(&socket)
            .map_err(|error| format!("{key} = {address} cannot be read back: {error}"))?;
        listeners.push((socket, local));
    }
    Ok(listeners)
}

/// All shards take the same way, so that they can be compared.
fn choose_egress(settings: &Settings, has_private_ring: bool) -> EgressChoice {
    match settings.server.egress {
        config::Egress::Send => EgressChoice::Send,
        config::Egress::Ring => EgressChoice::Ring,
        config::Egress::Auto if !has_private_ring => EgressChoice::Send,
        config::Egress::Auto => match egress::measure() {
            Ok(measured) => {
                let choice = measured.choice();
                tracing::info!(
                    send_ns = measured.send_ns as u64,
                    ring_ns = measured.ring_ns as u64,
                    ?choice,
                    "egress measured: CPU time per send"
                );
                choice
            }
            Err(error) => {
                tracing::warn!(%error, "egress could not be measured: plain sends");
                EgressChoice::Send
            }
        },
    }
}

fn random_seed() -> u64 {
    // Without randomness the handshakes are merely predictable, which protects nothing anyway.
    getrandom::u64().unwrap_or(0x5368_6172_6443_6173)
}

fn api_listeners(sockets: Listeners, serves: Serves) -> impl Iterator<Item = ApiListener> {
    sockets.into_iter().map(move |(socket, address)| ApiListener { socket, address, serves })
}

fn banner(
    rtmp: &Listeners,
    http: &Listeners,
    rooms: &Listeners,
    api: &Listeners,
    metrics: &Listeners,
    path: &str,
) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    for (_, address) in rtmp {
        let _ = writeln!(text, "publish: rtmp://{}/live/STREAM", reachable(*address));
        let _ = writeln!(text, "play (RTMP): rtmp://{}/live/STREAM", reachable(*address));
    }
    for (_, address) in http {
        let url = format!("{}/live/STREAM.flv", reachable(*address));
        let _ = writeln!(text, "play (HTTP-FLV): http://{url}");
        let _ = writeln!(text, "play (WebSocket-FLV): ws://{url}");
        let _ = writeln!(text, "rooms: ws://{}{path}", reachable(*address));
    }
    for (_, address) in rooms {
        let _ = writeln!(text, "rooms (palava): ws://{}", reachable(*address));
    }
    for (_, address) in api {
        let _ = writeln!(text, "API: http://{}/api/v1/shards", reachable(*address));
    }
    for (_, address) in metrics {
        let _ = writeln!(text, "metrics: http://{}/metrics", reachable(*address));
    }
    text.push_str("ready\n");
    text
}

/// An address that a program on this machine can use.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        // Dual-stack: the older address works in every client.
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip == Ipv6Addr::LOCALHOST => IpAddr::V6(ip),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn print_banner(text: &str) {
    use std::io::Write as _;
    let mut out = io::stdout().lock();
    // A closed stdout is no reason to end.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_leave_the_control_shard_its_core_while_there_are_others() {
        let cpus = |control, shards| shard_cpus(vec![0, 1, 2], control, shards);
        assert_eq!(cpus(None, Shards::Auto), [0, 1, 2]);
        assert_eq!(cpus(Some(2), Shards::Auto), [0, 1]);
        assert_eq!(cpus(Some(0), Shards::Count(2)), [1, 2]);
        assert_eq!(cpus(Some(0), Shards::Count(3)), [0, 1, 2]);
        assert_eq!(shard_cpus(vec![5], Some(5), Shards::Auto), [5]);
    }
}
