//! Checks before anything is started: descriptors and ports.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use crate::poll;

/// Descriptors besides sockets: epoll sets, standard streams, files of /proc.
const OTHER_DESCRIPTORS: u64 = 64;

/// Why a run of this size cannot be.
#[derive(Debug, Error)]
pub(crate) enum LimitError {
    /// Too many sockets.
    #[error(
        "{connections} connections need more file descriptors than the {most} that one process may \
         have here; start several loadgen processes, or raise the limit (ulimit -Hn)"
    )]
    Descriptors {
        /// Wanted.
        connections: u64,
        /// The hard limit.
        most: u64,
    },
    /// Too many ports.
    #[error(
        "{connections} connections to {address} need more ports than the {ports} of one source \
         address; name {needed} addresses with --connections-from"
    )]
    Ports {
        /// Wanted, to this address.
        connections: u64,
        /// The server.
        address: SocketAddr,
        /// Ports of one source address.
        ports: u64,
        /// Source addresses that would do.
        needed: u64,
    },
    /// The system does not tell or allow.
    #[error("the limit of file descriptors cannot be read or raised: {0}")]
    System(#[from] std::io::Error),
}

/// Makes room for so many sockets.
pub(crate) fn check_descriptors(connections: u64) -> Result<(), LimitError> {
    let needed = connections + OTHER_DESCRIPTORS;
    let (now, most) = poll::descriptor_limit()?;
    if needed > most {
        return Err(LimitError::Descriptors { connections, most });
    }
    if needed > now {
        poll::raise_descriptor_limit()?;
    }
    Ok(())
}

/// Checks that so many connections to one address have ports.
pub(crate) fn check_ports(
    connections: u64,
    address: SocketAddr,
    from: &[IpAddr],
) -> Result<(), LimitError> {
    let ports = ephemeral_ports();
    let sources = (from.len() as u64).max(1);
    if connections > ports * sources {
        let needed = connections.div_ceil(ports);
        return Err(LimitError::Ports { connections, address, ports, needed });
    }
    Ok(())
}

fn ephemeral_ports() -> u64 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let bounds: Vec<u64> = range
        .unwrap_or_default()
        .split_ascii_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    match bounds[..] {
        [first, last] if first <= last => last - first + 1,
        // Linux's default.
        _ => 28_232,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_connections_are_told_in_a_sentence() {
        let error = check_descriptors(1 << 40).expect_err("nobody has so many");
        assert!(error.to_string().contains("need more file descriptors"));
        let address = SocketAddr::from(([127, 0, 0, 1], 1935));
        let error = check_ports(1 << 20, address, &[]).expect_err("nobody has so many");
        assert!(error.to_string().contains("--connections-from"));
        assert!(check_ports(10, address, &[]).is_ok());
    }
}
