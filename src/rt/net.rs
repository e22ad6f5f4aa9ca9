//! Asynchronous TCP for the control shard: few connections, small messages, each wait with a deadline.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::executor::before;
use super::socket;
use crate::media::Moment;

/// A listening socket on the executor of the calling thread.
#[derive(Debug)]
pub struct Listener {
    inner: glommio::net::TcpListener,
    local: SocketAddr,
}

/// A connection on the executor of the calling thread. Dropping it ends both directions; what was
/// written is still sent.
#[derive(Debug)]
pub struct Stream {
    inner: glommio::net::TcpStream,
}

impl Listener {
    /// Listens as [`socket::listen`] does.
    pub fn bind(address: SocketAddr, v6only: bool) -> io::Result<Self> {
        let fd = socket::listen(address, v6only)?;
        let local = socket::local_addr(&fd)?;
        Ok(Self::from_socket(fd, local))
    }

    /// Takes over a socket that listens already (opened before the executor, so that a busy port is
    /// found at start).
    pub fn from_socket(fd: OwnedFd, local: SocketAddr) -> Self {
        // SAFETY: the descriptor is a listening TCP socket and its ownership moves.
        let inner = unsafe { glommio::net::TcpListener::from_raw_fd(fd.into_raw_fd()) };
        Self { inner, local }
    }

    /// The address it listens on, with the port that the kernel chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The next connection, without delay for small pieces, and its peer's address. After an error
    /// (out of descriptors) wait a little before the next call.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let stream = Stream { inner: self.inner.accept().await.map_err(io::Error::from)? };
        let peer = socket::peer_addr(&stream)?;
        socket::set_nodelay(&stream, true)?;
        Ok((stream, peer))
    }
}

impl Stream {
    /// Connects to `address`; `TimedOut` when that is not done by `deadline`.
    pub async fn connect(address: SocketAddr, deadline: Moment) -> io::Result<Self> {
        let connect = async {
            let inner = glommio::net::TcpStream::connect(address).await.map_err(io::Error::from)?;
            let stream = Self { inner };
            socket::set_nodelay(&stream, true)?;
            Ok(stream)
        };
        in_time(deadline, connect).await
    }

    /// Reads what comes first, at least one byte; 0: the peer has finished. `TimedOut` when nothing
    /// came by `deadline`.
    pub async fn read_before(&mut self, buffer: &mut [u8], deadline: Moment) -> io::Result<usize> {
        in_time(deadline, self.read(buffer)).await
    }

    /// Fills the whole buffer; `TimedOut` when that is not done by `deadline`, `UnexpectedEof` when the
    /// peer finished before.
    pub async fn read_exact_before(
        &mut self,
        buffer: &mut [u8],
        deadline: Moment,
    ) -> io::Result<()> {
        in_time(deadline, self.read_exact(buffer)).await
    }

    /// Writes everything; `TimedOut` when the kernel has not taken all of it by `deadline`.
    pub async fn write_all_before(&mut self, bytes: &[u8], deadline: Moment) -> io::Result<()> {
        in_time(deadline, self.write_all(bytes)).await
    }
}

async fn in_time<T>(
    deadline: Moment,
    operation: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    before(deadline, operation).await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A poll that is still pending in the ring keeps the socket open after the descriptor is
        // closed, and the peer would wait for the end of the stream.
        let _ = socket::shutdown_both(&*self);
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream owns the descriptor and outlives the borrow.
        unsafe { BorrowedFd::borrow_raw(self.inner.as_raw_fd()) }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rt::clock::now;
    use crate::rt::executor::{spawn_local, spawn_pinned};

    fn soon() -> Moment {
        now() + Duration::from_secs(10)
    }

    fn run<F>(make: impl FnOnce() -> F + Send + 'static) -> F::Output
    where
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        spawn_pinned("test", None, make).unwrap().join().unwrap()
    }

    #[test]
    fn echoes_and_ends() {
        let (back, end) = run(|| async {
            let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
            let address = listener.local_addr();
            spawn_local(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 64];
                let count = stream.read_before(&mut buffer, soon()).await.unwrap();
                stream.write_all_before(&buffer[..count], soon()).await.unwrap();
            });
            let mut client = Stream::connect(address, soon()).await.unwrap();
            client.write_all_before(b"ping", soon()).await.unwrap();
            let mut buffer = [0; 4];
            client.read_exact_before(&mut buffer, soon()).await.unwrap();
            let end = client.read_before(&mut [0; 4], soon()).await.unwrap();
            (buffer, end)
        });
        assert_eq!((&back, end), (b"ping", 0));
    }

    #[test]
    fn a_silent_peer_times_out_and_a_refused_connection_is_an_error() {
        let (silent, refused) = run(|| async {
            let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
            let address = listener.local_addr();
            let mut client = Stream::connect(address, soon()).await.unwrap();
            let deadline = now() + Duration::from_millis(10);
            let silent = client.read_before(&mut [0; 4], deadline).await.unwrap_err().kind();
            let (server, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, socket::local_addr(&client).unwrap());
            drop((server, listener));
            let free = socket::listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
            let closed = socket::local_addr(&free).unwrap();
            drop(free);
            let refused = Stream::connect(closed, soon()).await.unwrap_err().kind();
            (silent, refused)
        });
        assert_eq!(silent, io::ErrorKind::TimedOut);
        assert_eq!(refused, io::ErrorKind::ConnectionRefused);
    }
}
