//! Addresses on the command line, made into sockets' addresses and stream names.

use std::net::SocketAddr;

use thiserror::Error;

use crate::socket;

/// The server's port for RTMP when an address names none.
pub(crate) const RTMP_PORT: u16 = 1935;
/// The same for HTTP.
pub(crate) const HTTP_PORT: u16 = 8080;
/// The same for the API.
pub(crate) const API_PORT: u16 = 1985;

/// Why an address is of no use.
#[derive(Debug, Error)]
pub(crate) enum TargetError {
    /// It has another form.
    #[error("{0} is no address of a stream; write it as rtmp://HOST[:PORT]/APP/STREAM")]
    Form(String),
    /// It names no server.
    #[error("{0} is not HOST[:PORT]")]
    Server(String),
    /// The host is not known.
    #[error("the host of {address} is not known: {error}")]
    Host {
        /// As given.
        address: String,
        /// The system's reason.
        error: std::io::Error,
    },
}

/// A server with a name for it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// `HOST:PORT` as given.
    pub(crate) authority: String,
}

/// A parsed `rtmp://HOST[:PORT]/APP/STREAM`.
#[derive(Clone, Debug)]
pub(crate) struct StreamUrl {
    /// `HOST`.
    pub(crate) host: String,
    /// `HOST[:PORT]`.
    pub(crate) authority: String,
    /// `APP`, with an instance if there is one.
    pub(crate) app: String,
    /// `STREAM`.
    pub(crate) stream: String,
}

impl StreamUrl {
    /// Takes it apart.
    pub(crate) fn parse(url: &str) -> Result<Self, TargetError> {
        let form = || TargetError::Form(url.to_owned());
        let rest = url.strip_prefix("rtmp://").ok_or_else(form)?;
        let (authority, path) = rest.split_once('/').ok_or_else(form)?;
        let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
        let (app, stream) = path.rsplit_once('/').ok_or_else(form)?;
        if authority.is_empty() || app.is_empty() || stream.is_empty() {
            return Err(form());
        }
        Ok(Self {
            host: host_of(authority).to_owned(),
            authority: authority.to_owned(),
            app: app.to_owned(),
            stream: format!("{stream}{query}"),
        })
    }

    /// The name of one of `count` streams.
    pub(crate) fn stream_name(&self, index: u32, count: u32) -> String {
        if count == 1 {
            return self.stream.clone();
        }
        let (name, query) =
            self.stream.split_at(self.stream.find('?').unwrap_or(self.stream.len()));
        format!("{name}-{index}{query}")
    }
}

impl Server {
    /// Resolves `HOST[:PORT]`.
    pub(crate) fn resolve(authority: &str, default_port: u16) -> Result<Self, TargetError> {
        let host = host_of(authority);
        let port = match authority[host.len()..].strip_prefix(':') {
            None => default_port,
            Some(port) => port.parse().map_err(|_| TargetError::Server(authority.to_owned()))?,
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address = socket::resolve(bare, port)
            .map_err(|error| TargetError::Host { address: authority.to_owned(), error })?;
        Ok(Self { address, authority: authority.to_owned() })
    }
}

/// The host in `HOST[:PORT]`, with the brackets of an IPv6 address.
fn host_of(authority: &str) -> &str {
    match authority.rfind(']') {
        Some(at) => &authority[..=at],
        None => authority.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = StreamUrl::parse("rtmp://h:1/app/instance/name?key=1").expect("it is good");
        assert_eq!((url.app.as_str(), url.authority.as_str()), ("app/instance", "h:1"));
        assert_eq!(url.stream_name(0, 1), "name?key=1");
        assert_eq!(url.stream_name(3, 4), "name-3?key=1");
        for bad in ["http://h/a/b", "rtmp://h/a", "rtmp:///a/b", "rtmp://h//"] {
            assert!(StreamUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_and_ports() {
        let server = Server::resolve("127.0.0.1", 1935).expect("it is an address");
        assert_eq!(server.address, SocketAddr::from(([127, 0, 0, 1], 1935)));
        let server = Server::resolve("[::1]:80", 1935).expect("it is an address");
        assert_eq!(server.address.to_string(), "[::1]:80");
        assert!(Server::resolve("127.0.0.1:x", 1).is_err());
    }
}
