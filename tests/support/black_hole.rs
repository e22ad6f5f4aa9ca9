//! An address that answers nobody: packets to it are dropped, as by a machine that is gone.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// How long a connection is waited for that does not come any more.
const FULL_AFTER: Duration = Duration::from_millis(300);

/// A listener that accepts nothing and whose queue is full: the kernel drops what comes further.
pub(crate) struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    /// On a free port of loopback.
    pub(crate) fn open() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        listener.bind(&any.into()).expect("a port is free");
        listener.listen(0).expect("it can listen");
        let address = listener.local_addr().expect("it is bound").as_socket().expect("of IPv4");
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, FULL_AFTER) {
            queue.push(stream);
        }
        Self { address, _listener: listener, _queue: queue }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}
