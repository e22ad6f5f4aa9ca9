//! Opening connections.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};

use crate::poll;

/// Resolves `HOST:PORT`; IPv4 first, as servers on `localhost` often listen there only.
pub(crate) fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let mut all: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    all.sort_by_key(SocketAddr::is_ipv6);
    all.first().copied().ok_or_else(|| io::Error::other("the name has no address"))
}

/// Begins to connect; the socket becomes writable when the connection is there or has failed.
pub(crate) fn connect(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(from) = from {
        poll::bind_address_no_port(socket.as_raw_fd())?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}
