//! A connection over TLS that looks like a plain one: whoever holds the other end of a pair of sockets
//! reads and writes plain bytes, and a thread carries them to the peer and back, encrypted.
//!
//! What must hold: the thread keeps no more than `PLAIN_BYTES_MAX` in each direction, so that who reads
//! slowly slows the other side down; each side's end reaches the other behind all that was sent before it;
//! no wait of the handshake, and none after the end of the plain side, is without a deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConnection};

use super::socket;
use super::syscall::uninterrupted;
use super::tls::TlsClient;

/// Plain bytes under way in each direction.
const PLAIN_BYTES_MAX: usize = 64 * 1024;
/// Encrypted bytes that the kernel keeps for the peer, about.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// How long the peer may take to end its side after the plain side has ended.
const LINGER: Duration = Duration::from_secs(5);

/// The thread's part of such a connection.
#[derive(Debug)]
pub struct TlsPump {
    tcp: TcpStream,
    tls: ClientConnection,
    plain: UnixStream,
    /// Decrypted, on its way to the plain side.
    inward: Vec<u8>,
    /// How many bytes of it are written.
    written: usize,
    /// Nothing comes from the peer any more, and the plain side has been told so.
    peer_ended: bool,
    is_plain_told: bool,
    /// The plain side has ended, by then the peer has to.
    plain_ended: Option<Instant>,
    is_tcp_shut: bool,
}

impl TlsPump {
    /// Shakes hands over a connected socket with `host`, whose name or address the certificate must carry, by
    /// `deadline`. Trusts the certificates in a PEM file, or those of the system. Gives the plain end
    /// as well, which does not block. Blocks, and reads files.
    ///
    /// # Errors
    /// In a sentence: the certificate does not verify, the peer speaks no TLS or is too slow, or the file
    /// cannot be read.
    pub fn connect(
        tcp: TcpStream,
        host: &str,
        ca: Option<&Path>,
        deadline: Instant,
    ) -> Result<(Self, OwnedFd), String> {
        let client = TlsClient::new(ca).map_err(|error| error.to_string())?;
        let name =
            ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
        let mut tls = ClientConnection::new(Arc::clone(client.config()), name)
            .map_err(|error| format!("{host}: {error}"))?;
        shake_hands(&tcp, &mut tls, deadline).map_err(|error| explain(&error, host))?;
        let sockets = || -> io::Result<(UnixStream, UnixStream)> {
            tcp.set_nonblocking(true)?;
            socket::set_send_buffer(&tcp, SEND_BUFFER_BYTES)?;
            let (plain, other) = UnixStream::pair()?;
            plain.set_nonblocking(true)?;
            other.set_nonblocking(true)?;
            Ok((plain, other))
        };
        let (plain, other) = sockets().map_err(|error| error.to_string())?;
        tls.set_buffer_limit(Some(PLAIN_BYTES_MAX));
        let pump = Self {
            tcp,
            tls,
            plain,
            inward: Vec::with_capacity(PLAIN_BYTES_MAX),
            written: 0,
            peer_ended: false,
            is_plain_told: false,
            plain_ended: None,
            is_tcp_shut: false,
        };
        Ok((pump, other.into()))
    }

    /// Carries bytes until both sides have ended. Blocks.
    ///
    /// # Errors
    /// The connection broke, or the peer broke the protocol. Both sides are closed with it.
    pub fn run(mut self) -> io::Result<()> {
        loop {
            self.read_plain()?;
            self.write_tcp()?;
            self.read_tcp()?;
            self.write_plain()?;
            let is_sent = !self.tls.wants_write();
            if let Some(until) = self.plain_ended {
                if is_sent && !self.is_tcp_shut {
                    self.is_tcp_shut = true;
                    self.tcp.shutdown(Shutdown::Write)?;
                }
                if (is_sent && self.peer_ended) || until <= Instant::now() {
                    return Ok(());
                }
            }
            self.wait()?;
        }
    }

    /// Takes what the plain side has written, once the last of it is on its way.
    fn read_plain(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        while self.plain_ended.is_none() && !self.tls.wants_write() {
            match self.plain.read(&mut buffer) {
                Ok(0) => {
                    self.plain_ended = Some(Instant::now() + LINGER);
                    self.tls.send_close_notify();
                }
                Ok(count) => self.tls.writer().write_all(&buffer[..count])?,
                Err(error) if is_later(&error) => return Ok(()),
                // It went without reading everything.
                Err(_) => self.plain_ended = Some(Instant::now()),
            }
            self.write_tcp()?;
        }
        Ok(())
    }

    fn write_tcp(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.tcp) {
                Ok(_) => {}
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Decrypts what has come, while the plain side has taken everything before it.
    fn read_tcp(&mut self) -> io::Result<()> {
        while self.inward.is_empty() && !self.peer_ended {
            self.decrypted()?;
            if !self.inward.is_empty() || self.peer_ended {
                return Ok(());
            }
            match self.tls.read_tls(&mut self.tcp) {
                // Whoever reads knows whether all is there, also without a goodbye.
                Ok(0) => self.peer_ended = true,
                Ok(_) => {
                    if let Err(error) = self.tls.process_new_packets() {
                        // The peer is told why, if it still listens.
                        let _ = self.write_tcp();
                        return Err(io::Error::new(ErrorKind::InvalidData, error));
                    }
                }
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn decrypted(&mut self) -> io::Result<()> {
        self.inward.resize(PLAIN_BYTES_MAX, 0);
        let read = self.tls.reader().read(&mut self.inward);
        let count = match &read {
            Ok(count) => *count,
            Err(_) => 0,
        };
        self.inward.truncate(count);
        match read {
            Ok(0) => self.peer_ended = true,
            Ok(_) => {}
            Err(error) if is_later(&error) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.peer_ended = true,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn write_plain(&mut self) -> io::Result<()> {
        while self.written < self.inward.len() {
            match self.plain.write(&self.inward[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if is_later(&error) => return Ok(()),
                // It is gone, and wants nothing more.
                Err(_) => self.written = self.inward.len(),
            }
        }
        self.inward.clear();
        self.written = 0;
        if self.peer_ended && !self.is_plain_told {
            self.is_plain_told = true;
            // It may be gone already.
            let _ = self.plain.shutdown(Shutdown::Write);
        }
        Ok(())
    }

    /// Waits until something can be done.
    fn wait(&self) -> io::Result<()> {
        let wants_write = self.tls.wants_write();
        let interest = |wanted: bool, event: libc::c_short| if wanted { event } else { 0 };
        let has_inward = !self.inward.is_empty();
        let tcp = interest(!has_inward && !self.peer_ended, libc::POLLIN)
            | interest(wants_write, libc::POLLOUT);
        let plain = interest(self.plain_ended.is_none() && !wants_write, libc::POLLIN)
            | interest(has_inward, libc::POLLOUT);
        // Of a socket that nothing is wanted of, the end would be reported again and again.
        let entry = |fd: i32, events| libc::pollfd {
            fd: if events == 0 { -1 } else { fd },
            events,
            revents: 0,
        };
        let mut fds = [entry(self.tcp.as_raw_fd(), tcp), entry(self.plain.as_raw_fd(), plain)];
        let timeout_ms = match self.plain_ended {
            None => -1,
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                i32::try_from(left.as_millis()).unwrap_or(i32::MAX).saturating_add(1)
            }
        };
        uninterrupted(|| {
            // SAFETY: the array is writable and as long as said.
            let count = unsafe { libc::poll(fds.as_mut_ptr(), 2, timeout_ms) };
            if count < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        })
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn shake_hands(
    mut tcp: &TcpStream,
    tls: &mut ClientConnection,
    deadline: Instant,
) -> io::Result<()> {
    while tls.is_handshaking() || tls.wants_write() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        tcp.set_read_timeout(Some(left))?;
        tcp.set_write_timeout(Some(left))?;
        if tls.wants_write() {
            tls.write_tls(&mut tcp)?;
            continue;
        }
        if tls.read_tls(&mut tcp)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if let Err(error) = tls.process_new_packets() {
            // The peer is told why, if it still listens.
            let _ = tls.write_tls(&mut tcp);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
    }
    Ok(())
}

/// What an operator can do about a handshake that has failed.
fn explain(error: &io::Error, host: &str) -> String {
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match of_tls {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => format!(
            "the certificate of {host} is for another name: put the name that it is for into the url"
        ),
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => format!("the certificate of {host} has expired: it is renewed there"),
        Some(rustls::Error::InvalidCertificate(why)) => format!(
            "the certificate of {host} is not trusted ({why}): name the file with its CA as `ca` of \
             the relay, or add it to the certificates of this system"
        ),
        Some(rustls::Error::InvalidMessage(why)) => {
            format!("{host} speaks no TLS there ({why:?}): is it rtmp:// or another port?")
        }
        _ if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
            format!("{host} has not finished the TLS handshake in time")
        }
        _ => format!("no TLS with {host}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::PathBuf;
    use std::thread;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;

    type Peer = StreamOwned<ServerConnection, TcpStream>;

    /// A key and a certificate for 127.0.0.1 that nobody else trusts: `openssl req -x509 -newkey ec …`.
    fn pem() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rt/test-data/loopback.pem")
    }

    /// A pump, its plain end, and the peer.
    fn connected() -> (TlsPump, UnixStream, Peer) {
        let certificate = CertificateDer::from_pem_file(pem()).unwrap();
        let key = PrivateKeyDer::from_pem_file(pem()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = thread::spawn(move || {
            let (mut tcp, _) = listener.accept().unwrap();
            let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
            while tls.is_handshaking() {
                tls.complete_io(&mut tcp).unwrap();
            }
            StreamOwned::new(tls, tcp)
        });
        let deadline = Instant::now() + Duration::from_secs(10);
        let tcp = TcpStream::connect(address).unwrap();
        let (pump, plain) = TlsPump::connect(tcp, "127.0.0.1", Some(&pem()), deadline).unwrap();
        let plain = UnixStream::from(plain);
        plain.set_nonblocking(false).unwrap();
        (pump, plain, peer.join().unwrap())
    }

    #[test]
    fn bytes_and_ends_pass_in_both_directions() {
        let (pump, mut plain, mut peer) = connected();
        let pump = thread::spawn(move || pump.run());
        let sent: Vec<u8> = (0..500_000_u32).map(|number| number as u8).collect();
        let (to_peer, to_plain) = (sent.clone(), sent.clone());
        let mut writer = plain.try_clone().unwrap();
        let writing = thread::spawn(move || {
            writer.write_all(&to_peer).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        assert_eq!(got, sent, "all of it came before the end");
        // The peer may still speak.
        let answering = thread::spawn(move || {
            peer.write_all(&to_plain).unwrap();
            peer.conn.send_close_notify();
            peer.flush().unwrap();
        });
        got.clear();
        plain.read_to_end(&mut got).unwrap();
        assert_eq!(got, sent);
        writing.join().unwrap();
        answering.join().unwrap();
        pump.join().unwrap().unwrap();
    }

    #[test]
    fn who_reads_nothing_holds_the_other_side_back() {
        let (pump, mut plain, peer) = connected();
        let pump = thread::spawn(move || pump.run());
        plain.set_nonblocking(true).unwrap();
        let block = [7; 16 * 1024];
        let (mut written, mut refused) = (0, 0);
        while refused < 20 {
            match plain.write(&block) {
                Ok(count) => (written, refused) = (written + count, 0),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    refused += 1;
                    thread::sleep(Duration::from_millis(10));
                }
            }
            assert!(written < 32 * 1024 * 1024, "the kernel's buffers are smaller");
        }
        // Whoever goes away ends it.
        drop((plain, peer));
        assert!(pump.join().unwrap().is_err(), "what was written never arrived");
    }

    #[test]
    fn a_certificate_for_another_name_or_of_a_stranger_is_explained() {
        let invalid =
            |why| io::Error::new(ErrorKind::InvalidData, rustls::Error::InvalidCertificate(why));
        let stranger = explain(&invalid(CertificateError::UnknownIssuer), "h");
        assert!(stranger.starts_with("the certificate of h is not trusted (UnknownIssuer): name "));
        let other = explain(&invalid(CertificateError::NotValidForName), "h");
        assert!(other.contains("is for another name"), "{other}");
        let late = explain(&ErrorKind::WouldBlock.into(), "h");
        assert!(late.contains("in time"), "{late}");
    }
}
