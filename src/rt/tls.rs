//! TLS for outgoing connections: rustls' state machine between a [`Stream`] and its caller.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::net::Stream;

/// Bytes taken from the socket at a time: one record.
const READ_BYTES: usize = 16 * 1024 + 512;

/// Whom to trust.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
}

/// A connection that is encrypted. Dropping it ends both directions.
pub struct TlsStream {
    stream: Stream,
    tls: ClientConnection,
    buffer: Box<[u8]>,
}

impl TlsClient {
    /// Trusts the certificates in a PEM file, or those that the system trusts. Reads files.
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate, or the system has none.
    pub fn new(ca: Option<&Path>) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        match ca {
            Some(path) => {
                let named = |error: &dyn fmt::Display| {
                    io::Error::other(format!("{}: {error}", path.display()))
                };
                for certificate in
                    CertificateDer::pem_file_iter(path).map_err(|error| named(&error))?
                {
                    let certificate = certificate.map_err(|error| named(&error))?;
                    roots.add(certificate).map_err(|error| named(&error))?;
                }
                if roots.is_empty() {
                    return Err(named(&"holds no certificate"));
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    return Err(io::Error::other(
                        "this system has no list of trusted certificates: install ca-certificates, \
                         or name a file",
                    ));
                }
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config) })
    }

    /// For connections that are driven elsewhere.
    pub(super) fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// Shakes hands as a client of `host`, whose name or address the certificate must carry.
    ///
    /// # Errors
    /// The certificate does not verify, the peer speaks no TLS, or the connection breaks.
    pub async fn connect(&self, stream: Stream, host: &str) -> io::Result<TlsStream> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let tls =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        let buffer = vec![0; READ_BYTES].into_boxed_slice();
        let mut secure = TlsStream { stream, tls, buffer };
        while secure.tls.is_handshaking() {
            secure.flush().await?;
            if secure.tls.is_handshaking() && !secure.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        secure.flush().await?;
        Ok(secure)
    }
}

impl TlsStream {
    /// Sends all of `bytes`.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.tls.writer().write(bytes)?;
            bytes = &bytes[count..];
            self.flush().await?;
        }
        Ok(())
    }

    /// Reads what comes first; 0: the peer has finished.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(buffer) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // An end without a goodbye: whoever reads knows whether all is there.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) => return Err(error),
            }
            self.fill().await?;
            self.flush().await?;
        }
    }

    /// The connection under it.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Sends what the state machine wants to send.
    async fn flush(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out)?;
        }
        if out.is_empty() { Ok(()) } else { self.stream.write_all(&out).await }
    }

    /// Gives the state machine what comes next; false: the peer has finished.
    async fn fill(&mut self) -> io::Result<bool> {
        let count = self.stream.read(&mut self.buffer).await?;
        let mut bytes = &self.buffer[..count];
        loop {
            self.tls.read_tls(&mut bytes)?;
            if let Err(error) = self.tls.process_new_packets() {
                // The peer is told why, if it still listens.
                let _ = self.flush().await;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            if bytes.is_empty() {
                return Ok(count > 0);
            }
        }
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("stream", &self.stream).finish_non_exhaustive()
    }
}
