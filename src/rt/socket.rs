//! Single calls on TCP sockets. None of them blocks, whatever the mode of the descriptor.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::syscall::{check, check_len, uninterrupted};

/// Connections that wait for `accept`; more are dropped by the kernel, and their clients try again. The
/// kernel's own cap (`net.core.somaxconn`, 4096 by default) may be lower.
const LISTEN_BACKLOG: libc::c_int = 4096;

/// Reads what is there. 0: the peer has finished. `WouldBlock`: nothing there.
pub fn recv(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let fd = fd.as_fd();
    uninterrupted(|| {
        // SAFETY: `buffer` is writable for its whole length.
        check_len(unsafe {
            libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
        })
    })
}

/// Whether a connection on which nothing is awaited is still open: its peer has neither finished nor
/// sent anything.
pub fn is_quiet(fd: impl AsFd) -> bool {
    let fd = fd.as_fd();
    let mut byte = 0_u8;
    let peeked = uninterrupted(|| {
        // SAFETY: `byte` is writable.
        check_len(unsafe {
            libc::recv(
                fd.as_raw_fd(),
                (&raw mut byte).cast(),
                1,
                libc::MSG_DONTWAIT | libc::MSG_PEEK,
            )
        })
    });
    matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Reads and throws away up to `count` bytes that are there. TCP only.
pub fn discard(fd: impl AsFd, count: usize) -> io::Result<usize> {
    let fd = fd.as_fd();
    uninterrupted(|| {
        // SAFETY: with MSG_TRUNC TCP drops the bytes and writes none to the buffer.
        check_len(unsafe {
            libc::recv(
                fd.as_raw_fd(),
                std::ptr::null_mut(),
                count,
                libc::MSG_DONTWAIT | libc::MSG_TRUNC,
            )
        })
    })
}

/// Hands over as many bytes as the send buffer takes. `WouldBlock`: none.
pub fn send_now(fd: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let fd = fd.as_fd();
    uninterrupted(|| {
        // SAFETY: `bytes` is readable for its whole length.
        check_len(unsafe {
            libc::send(
                fd.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        })
    })
}

/// The same for bytes that lie in two places.
pub fn send_parts_now(fd: impl AsFd, parts: [&[u8]; 2]) -> io::Result<usize> {
    let socket = SockRef::from(&fd);
    let parts = parts.map(IoSlice::new);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    uninterrupted(|| socket.send_vectored_with_flags(&parts, flags))
}

/// Ends the sending direction: what was handed over is still sent, then the peer sees the end of the
/// stream. What the peer sends can still be read.
pub fn shutdown_write(fd: impl AsFd) -> io::Result<()> {
    SockRef::from(&fd.as_fd()).shutdown(std::net::Shutdown::Write)
}

/// Ends both directions: what was handed over is still sent, then the peer sees the end of the stream,
/// even if another descriptor or a pending poll keeps the socket open.
pub fn shutdown_both(fd: impl AsFd) -> io::Result<()> {
    SockRef::from(&fd.as_fd()).shutdown(std::net::Shutdown::Both)
}

/// Sends small pieces at once instead of collecting them (Nagle's algorithm).
pub fn set_nodelay(fd: impl AsFd, nodelay: bool) -> io::Result<()> {
    SockRef::from(&fd.as_fd()).set_tcp_nodelay(nodelay)
}

/// Fixes the kernel's send buffer at about `bytes` (the kernel doubles the number for its own
/// book-keeping and caps it at `net.core.wmem_max`). Without it the buffer grows to megabytes.
pub fn set_send_buffer(fd: impl AsFd, bytes: usize) -> io::Result<()> {
    SockRef::from(&fd.as_fd()).set_send_buffer_size(bytes)
}

/// Accepts new bytes only while fewer than `bytes` are unsent (`TCP_NOTSENT_LOWAT`).
pub fn set_notsent_lowat(fd: impl AsFd, bytes: u32) -> io::Result<()> {
    SockRef::from(&fd.as_fd()).set_tcp_notsent_lowat(bytes)
}

/// Probes a silent peer after `idle`, then every `interval`, and gives the connection up after
/// `probes` without an answer.
pub fn set_keepalive(
    fd: impl AsFd,
    idle: Duration,
    interval: Duration,
    probes: u32,
) -> io::Result<()> {
    let keepalive =
        TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
    SockRef::from(&fd.as_fd()).set_tcp_keepalive(&keepalive)
}

/// Gives the connection up when sent bytes stay unacknowledged for so long (`TCP_USER_TIMEOUT`).
pub fn set_user_timeout(fd: impl AsFd, timeout: Duration) -> io::Result<()> {
    SockRef::from(&fd.as_fd()).set_tcp_user_timeout(Some(timeout))
}

/// Bytes in the kernel's send queue that were not sent yet (`SIOCOUTQNSD`). TCP only.
pub fn unsent_bytes(fd: impl AsFd) -> io::Result<usize> {
    queue_len(fd.as_fd(), 0x894B)
}

/// Bytes in the kernel's send queue that were not acknowledged yet, sent or not (`SIOCOUTQ`).
pub fn unacknowledged_bytes(fd: impl AsFd) -> io::Result<usize> {
    queue_len(fd.as_fd(), libc::TIOCOUTQ)
}

/// Bytes that have come and are not read.
pub fn unread_bytes(fd: impl AsFd) -> io::Result<usize> {
    queue_len(fd.as_fd(), libc::FIONREAD)
}

fn queue_len(fd: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: both requests write one int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, &mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// A listening TCP socket, non-blocking, with `SO_REUSEADDR`. An IPv6 address also takes IPv4 unless
/// `v6only`; on a machine without IPv6, `[::]` without `v6only` becomes `0.0.0.0`.
pub fn listen(address: SocketAddr, v6only: bool) -> io::Result<OwnedFd> {
    match bind_and_listen(address, v6only) {
        Err(error)
            if !v6only
                && address.ip() == IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)
                && is_without_ipv6(&error) =>
        {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            bind_and_listen(address, false)
        }
        other => other,
    }
    .map(OwnedFd::from)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn bind_and_listen(address: SocketAddr, v6only: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(v6only)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket)
}

/// Takes one waiting connection, non-blocking and close-on-exec, with its peer's address; an IPv4 peer
/// of an IPv6 socket is shown as IPv4. `WouldBlock`: none waits.
pub fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, SocketAddr)> {
    let listener = listener.as_fd();
    let listener = SockRef::from(&listener);
    let (socket, peer) =
        uninterrupted(|| listener.accept4(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK))?;
    Ok((OwnedFd::from(socket), internet_address(&peer)?))
}

/// The address on this side, IPv4 in IPv6 shown as IPv4.
pub fn local_addr(fd: impl AsFd) -> io::Result<SocketAddr> {
    internet_address(&SockRef::from(&fd.as_fd()).local_addr()?)
}

/// The address on the other side, IPv4 in IPv6 shown as IPv4.
pub fn peer_addr(fd: impl AsFd) -> io::Result<SocketAddr> {
    internet_address(&SockRef::from(&fd.as_fd()).peer_addr()?)
}

fn internet_address(address: &SockAddr) -> io::Result<SocketAddr> {
    let address = address.as_socket().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "the socket is not an internet socket")
    })?;
    Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv6Addr, TcpStream};

    use super::*;

    fn pair() -> (OwnedFd, TcpStream) {
        let listener = listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let client = TcpStream::connect(local_addr(&listener).unwrap()).unwrap();
        let (server, peer) = accept(&listener).unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        (server, client)
    }

    /// Waits until bytes sent on loopback have arrived.
    fn wait_readable(fd: &OwnedFd) {
        let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        assert_eq!(unsafe { libc::poll(&mut poll, 1, 10_000) }, 1);
    }

    #[test]
    fn a_connection_is_quiet_until_its_peer_sends_or_ends() {
        let (server, mut client) = pair();
        assert!(is_quiet(&server));
        client.write_all(b"x").unwrap();
        wait_readable(&server);
        assert!(!is_quiet(&server));
        assert_eq!(recv(&server, &mut [0; 16]).unwrap(), 1, "nothing was taken");
        assert!(is_quiet(&server));
        drop(client);
        wait_readable(&server);
        assert!(!is_quiet(&server));
    }

    #[test]
    fn reads_and_writes_without_blocking() {
        let (server, mut client) = pair();
        let mut buffer = [0; 16];
        let error = recv(&server, &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        client.write_all(b"hello").unwrap();
        wait_readable(&server);
        assert_eq!(recv(&server, &mut buffer).unwrap(), 5);
        assert_eq!(send_now(&server, b"world").unwrap(), 5);
        client.read_exact(&mut buffer[..5]).unwrap();
        assert_eq!(&buffer[..5], b"world");
        drop(client);
        wait_readable(&server);
        assert_eq!(recv(&server, &mut buffer).unwrap(), 0);
    }

    #[test]
    fn a_full_socket_says_would_block_and_shows_what_is_unsent() {
        let (server, _client) = pair();
        let chunk = [0; 64 * 1024];
        // The peer reads nothing, so that its buffer fills, too, and bytes stay unsent here.
        let unsent = loop {
            match send_now(&server, &chunk) {
                Ok(taken) => assert!(taken > 0),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    let unsent = unsent_bytes(&server).unwrap();
                    if unsent > 0 {
                        break unsent;
                    }
                }
            }
        };
        assert!(unacknowledged_bytes(&server).unwrap() >= unsent);
    }

    #[test]
    fn a_gone_peer_is_an_error_and_no_signal() {
        let (server, client) = pair();
        drop(client);
        shutdown_both(&server).unwrap();
        let error = send_now(&server, b"a").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn shutdown_ends_the_stream_although_a_copy_is_open() {
        let (server, mut client) = pair();
        let copy = server.try_clone().unwrap();
        send_now(&server, b"last").unwrap();
        shutdown_both(&server).unwrap();
        drop(server);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"last");
        drop(copy);
    }

    #[test]
    fn options_are_taken() {
        let (server, _client) = pair();
        set_nodelay(&server, true).unwrap();
        set_notsent_lowat(&server, 65_536).unwrap();
        set_keepalive(&server, Duration::from_secs(30), Duration::from_secs(5), 3).unwrap();
        set_user_timeout(&server, Duration::from_secs(20)).unwrap();
        let fd = server.as_fd();
        let socket = SockRef::from(&fd);
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), 65_536);
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(20)));
    }

    #[test]
    fn a_dual_stack_listener_shows_ipv4_peers_as_ipv4() {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let listener = listen(any, false).unwrap();
        let port = local_addr(&listener).unwrap().port();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (server, peer) = accept(&listener).unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(peer_addr(&server).unwrap(), peer);
        assert_eq!(local_addr(&server).unwrap(), client.peer_addr().unwrap());
        let error = accept(&listener).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_port_in_use_is_an_error() {
        let first = listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let error = listen(local_addr(&first).unwrap(), false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
