//! SRS's summaries of the process and the machine (contract api). Shares are those since the last look,
//! from 0 to 1, as SRS has them.

use std::fs;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::srs::{envelope, unix_ms};
use crate::control::answer::Answer;
use crate::control::api::Shared;
use crate::control::process::{MachineFacts, ProcessFacts};
use crate::media::Moment;
use crate::rt::clock;

/// Sectors of `/proc/diskstats` have 512 bytes.
const SECTORS_PER_KIB: f64 = 2.0;

/// What rates are counted from.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::control) struct Look {
    at: Moment,
    process_cpu: f64,
    cpu_ticks: (u64, u64),
    disk: [u64; 3],
}

/// `GET /api/v1/summaries`
pub(super) async fn summaries(shared: &Shared) -> Answer {
    let shards = shared.parts.reports.gather().await;
    let process = ProcessFacts::read().await;
    let machine = MachineFacts::read().await;
    let look = Look {
        at: clock::now(),
        process_cpu: process.cpu_seconds,
        cpu_ticks: machine.cpu_ticks,
        disk: machine.disk,
    };
    // The first look counts from the start of the server.
    let last = shared.last_look.replace(Some(look));
    let last = last.unwrap_or_else(|| Look { at: shared.started, ..Look::default() });
    let elapsed = look.at.since(last.at).as_secs_f64().max(0.001);
    let ticks = look.cpu_ticks.1.saturating_sub(last.cpu_ticks.1).max(1) as f64;
    let used = look.cpu_ticks.0.saturating_sub(last.cpu_ticks.0) as f64;
    let disk = |at: usize| look.disk[at].saturating_sub(last.disk[at]) as f64 / elapsed;
    let (memory, free) = machine.memory;
    let (swap, swap_free) = machine.swap;
    let share = |part: u64, all: u64| if all == 0 { 0.0 } else { part as f64 / all as f64 };
    let argv = fs::read("/proc/self/cmdline").unwrap_or_default();
    let argv = String::from_utf8_lossy(&argv).trim_end_matches('\0').replace('\0', " ");
    let cwd = std::env::current_dir().unwrap_or_default();
    let now_ms = unix_ms();
    let received: u64 = shards.iter().map(|shard| shard.read_bytes).sum();
    let sent: u64 = shards.iter().map(|shard| shard.sent_bytes()).sum();
    let [sockets, established, time_wait, udp] = machine.sockets;
    let (outer, loopback) = machine.network;
    let data = json!({
        "ok": true,
        "now_ms": now_ms,
        "self": {
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "ppid": std::os::unix::process::parent_id(),
            "argv": without_secrets(&argv),
            "cwd": cwd.to_string_lossy(),
            "mem_kbyte": process.resident_bytes / 1024,
            "mem_percent": share(process.resident_bytes, memory),
            "cpu_percent": (look.process_cpu - last.process_cpu).max(0.0) / elapsed,
            "srs_uptime": clock::now().since(shared.started).as_secs(),
        },
        "system": {
            "cpu_percent": used / ticks,
            "disk_read_KBps": (disk(0) / SECTORS_PER_KIB) as u64,
            "disk_write_KBps": (disk(1) / SECTORS_PER_KIB) as u64,
            "disk_busy_percent": (disk(2) / 1000.0).min(1.0),
            "mem_ram_kbyte": memory / 1024,
            "mem_ram_percent": share(memory.saturating_sub(free), memory),
            "mem_swap_kbyte": swap / 1024,
            "mem_swap_percent": share(swap.saturating_sub(swap_free), swap),
            "cpus": machine.cpus,
            "cpus_online": machine.cpus,
            "uptime": machine.uptime.0,
            // Sic.
            "ilde_time": machine.uptime.1,
            "load_1m": machine.load[0],
            "load_5m": machine.load[1],
            "load_15m": machine.load[2],
            "net_sample_time": now_ms,
            "net_recv_bytes": outer[0],
            "net_send_bytes": outer[1],
            "net_recvi_bytes": loopback[0],
            "net_sendi_bytes": loopback[1],
            "srs_sample_time": now_ms,
            "srs_recv_bytes": received,
            "srs_send_bytes": sent,
            "conn_sys": sockets,
            "conn_sys_et": established,
            "conn_sys_tw": time_wait,
            "conn_sys_udp": udp,
            "conn_srs": shared.parts.accepted.open.load(Ordering::Relaxed),
        },
    });
    envelope(shared, 0, "data", data)
}

/// The command line without the values of `--set`, which may be secrets.
fn without_secrets(argv: &str) -> String {
    let mut words = Vec::new();
    let mut is_value = false;
    for word in argv.split(' ') {
        match word.split_once('=') {
            Some((key, _)) if is_value => words.push(format!("{key}=***")),
            Some(("--set", rest)) => {
                let key = rest.split('=').next().unwrap_or_default();
                words.push(format!("--set={key}=***"));
            }
            _ => words.push(word.to_owned()),
        }
        is_value = word == "--set";
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_shown_without_values() {
        let shown =
            without_secrets("shardcast serve --set api.token=x --set=push.secret=y=z f.toml");
        assert_eq!(shown, "shardcast serve --set api.token=*** --set=push.secret=*** f.toml");
    }
}
