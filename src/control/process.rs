//! What the kernel says of this process and this machine: `/proc`, read on a thread for blocking work.

use std::collections::HashMap;
use std::fs;

use crate::rt::clock;
use crate::rt::executor::spawn_blocking;

/// Ticks per second in `/proc`: the same on every Linux that this runs on.
const USER_HZ: f64 = 100.0;

/// One look. Files that cannot be read leave zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct ProcessFacts {
    /// CPU time of the process, in seconds.
    pub(super) cpu_seconds: f64,
    /// When it started, in seconds since 1970.
    pub(super) start_seconds: f64,
    /// Memory in RAM, in bytes.
    pub(super) resident_bytes: u64,
    /// Address space, in bytes.
    pub(super) virtual_bytes: u64,
    /// Threads.
    pub(super) threads: u64,
    /// Open descriptors.
    pub(super) open_fds: u64,
    /// How many it may have.
    pub(super) max_fds: u64,
}

/// One look at the machine. Files that cannot be read leave zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct MachineFacts {
    /// CPU time of all processors that was used, and all of it, in ticks.
    pub(super) cpu_ticks: (u64, u64),
    /// Processors.
    pub(super) cpus: u64,
    /// Bytes of RAM: all, available.
    pub(super) memory: (u64, u64),
    /// Bytes of swap: all, free.
    pub(super) swap: (u64, u64),
    /// Since the machine started, and idle time of all processors, in seconds.
    pub(super) uptime: (f64, f64),
    /// Load over 1, 5 and 15 minutes.
    pub(super) load: [f64; 3],
    /// Bytes received and sent: by interfaces that lead out of the machine, by loopback.
    pub(super) network: ([u64; 2], [u64; 2]),
    /// Sectors of 512 bytes read and written, and milliseconds with work, of whole disks.
    pub(super) disk: [u64; 3],
    /// TCP connections: in use, established, in TIME_WAIT; and UDP sockets.
    pub(super) sockets: [u64; 4],
}

impl ProcessFacts {
    /// Looks now. With many descriptors that takes milliseconds, and so is done elsewhere.
    pub(super) async fn read() -> Self {
        spawn_blocking(Self::read_here).await.unwrap_or_default()
    }

    fn read_here() -> Self {
        let mut facts = Self::default();
        let stat = text("/proc/self/stat");
        // The name in brackets may hold anything.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_ascii_whitespace().collect())
            .unwrap_or_default();
        let field = |number: usize| -> u64 {
            fields.get(number - 3).and_then(|it| it.parse().ok()).unwrap_or_default()
        };
        facts.cpu_seconds = clock::process_cpu().as_secs_f64();
        facts.threads = field(20);
        facts.virtual_bytes = field(23);
        let status = text("/proc/self/status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        facts.resident_bytes =
            resident.map_or(0, |it| numbers(it).first().map_or(0, |kb| kb * 1024));
        let boot = text("/proc/stat").lines().find_map(|line| {
            line.strip_prefix("btime ").and_then(|it| it.trim().parse::<f64>().ok())
        });
        facts.start_seconds = boot.unwrap_or_default() + field(22) as f64 / USER_HZ;
        facts.open_fds = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
        let limits = text("/proc/self/limits");
        let max = limits.lines().find_map(|line| {
            line.strip_prefix("Max open files")?.split_ascii_whitespace().next()?.parse().ok()
        });
        facts.max_fds = max.unwrap_or_default();
        facts
    }
}

impl MachineFacts {
    /// Looks now.
    pub(super) async fn read() -> Self {
        spawn_blocking(Self::read_here).await.unwrap_or_default()
    }

    fn read_here() -> Self {
        let stat = text("/proc/stat");
        let cpu: Vec<u64> = stat.lines().next().map(numbers).unwrap_or_default();
        let all: u64 = cpu.iter().take(8).sum();
        let idle: u64 = cpu.iter().skip(3).take(2).sum();
        let is_cpu = |line: &&str| {
            line.strip_prefix("cpu").is_some_and(|it| it.starts_with(|c: char| c.is_ascii_digit()))
        };
        let memory: HashMap<String, u64> = text("/proc/meminfo")
            .lines()
            .filter_map(|line| {
                let (key, value) = line.split_once(':')?;
                let value: u64 = value.split_ascii_whitespace().next()?.parse().ok()?;
                Some((key.to_owned(), value * 1024))
            })
            .collect();
        let bytes = |key: &str| memory.get(key).copied().unwrap_or_default();
        let floats = |file: &str| -> Vec<f64> {
            let text = text(file);
            text.split_ascii_whitespace().map_while(|it| it.parse().ok()).collect()
        };
        let (uptime, load) = (floats("/proc/uptime"), floats("/proc/loadavg"));
        let float = |list: &[f64], at: usize| list.get(at).copied().unwrap_or_default();
        let mut network = ([0; 2], [0; 2]);
        for line in text("/proc/net/dev").lines() {
            let Some((name, rest)) = line.split_once(':') else { continue };
            let counts = numbers(rest);
            let sum = if name.trim() == "lo" { &mut network.1 } else { &mut network.0 };
            for (sum, at) in sum.iter_mut().zip([0, 8]) {
                *sum += counts.get(at).copied().unwrap_or_default();
            }
        }
        let mut disk = [0; 3];
        for line in text("/proc/diskstats").lines() {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let Some(name) = fields.get(2) else { continue };
            if fs::exists(format!("/sys/block/{name}")).unwrap_or(false) {
                for (sum, at) in disk.iter_mut().zip([5, 9, 12]) {
                    *sum += fields.get(at).and_then(|it| it.parse().ok()).unwrap_or(0);
                }
            }
        }
        let sockstat = text("/proc/net/sockstat");
        let socket = |kind: &str, key: &str| -> u64 {
            let line = sockstat.lines().find_map(|line| line.strip_prefix(kind));
            let mut words = line.unwrap_or_default().split_ascii_whitespace();
            words.find(|word| *word == key);
            words.next().and_then(|it| it.parse().ok()).unwrap_or_default()
        };
        Self {
            cpu_ticks: (all - idle.min(all), all),
            cpus: stat.lines().filter(is_cpu).count() as u64,
            memory: (bytes("MemTotal"), bytes("MemAvailable")),
            swap: (bytes("SwapTotal"), bytes("SwapFree")),
            uptime: (float(&uptime, 0), float(&uptime, 1)),
            load: [float(&load, 0), float(&load, 1), float(&load, 2)],
            network,
            disk,
            sockets: [
                socket("TCP:", "inuse"),
                established(&text("/proc/net/snmp")),
                socket("TCP:", "tw"),
                socket("UDP:", "inuse"),
            ],
        }
    }
}

/// CurrEstab of the two lines about TCP, names and values.
fn established(snmp: &str) -> u64 {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let mut pairs = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
    let found = pairs.find(|(name, _)| *name == "CurrEstab");
    found.and_then(|(_, value)| value.parse().ok()).unwrap_or_default()
}

fn numbers(line: &str) -> Vec<u64> {
    line.split_ascii_whitespace().filter_map(|it| it.parse().ok()).collect()
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_and_machine_are_seen() {
        let facts = ProcessFacts::read_here();
        assert!(facts.cpu_seconds >= 0.0 && facts.start_seconds > 1.6e9, "{facts:?}");
        assert!(facts.resident_bytes > 1_000_000, "{facts:?}");
        assert!(facts.virtual_bytes > facts.resident_bytes, "{facts:?}");
        assert!(facts.open_fds >= 3 && facts.max_fds > facts.open_fds, "{facts:?}");
        assert!(facts.threads >= 1, "{facts:?}");
        let machine = MachineFacts::read_here();
        let (used, all) = machine.cpu_ticks;
        assert!(used > 0 && all > used && machine.cpus > 0, "{machine:?}");
        assert!(machine.memory.0 > machine.memory.1 && machine.memory.1 > 0, "{machine:?}");
        assert!(machine.uptime.0 > 0.0, "{machine:?}");
    }

    #[test]
    fn established_connections_are_found_by_name() {
        let text = "Ip: A\nIp: 1\nTcp: RtoAlgorithm CurrEstab InSegs\nTcp: 1 42 7\nUdp: X\n";
        assert_eq!(established(text), 42);
        assert_eq!(established(""), 0);
    }
}
