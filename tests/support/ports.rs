//! Ports for servers that have to be told theirs before they start.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// A port of loopback that nobody else gets while this lives. The server that it is for can listen on it,
/// again and again: a bound socket that does not listen only keeps others from being given the port.
pub(crate) struct Port {
    number: u16,
    _bound: Socket,
}

impl Port {
    /// A port that the kernel chose.
    pub(crate) fn reserve() -> Self {
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        bound.set_reuse_address(true).expect("an option");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        bound.bind(&any.into()).expect("a port is free");
        let address = bound.local_addr().expect("it is bound").as_socket();
        Self { number: address.expect("an IP address").port(), _bound: bound }
    }

    /// Its number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// What to listen on.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}
