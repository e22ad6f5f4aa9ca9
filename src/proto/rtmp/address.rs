//! Addresses of streams on other servers: `rtmp[s]://[user:password@]host[:port]/app[/instance][/stream]`.
//!
//! Where the application ends and the stream's name begins, a path does not say: see [`PathForm`].

use std::fmt;

use thiserror::Error;

use crate::proto::name::StreamName;

/// The port of `rtmp://` without one.
pub const RTMP_PORT: u16 = 1935;
/// The port of `rtmps://` without one.
pub const RTMPS_PORT: u16 = 443;

/// A parsed address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RtmpAddress {
    /// Over TLS.
    pub is_tls: bool,
    /// Name and password.
    pub login: Option<(String, String)>,
    /// Host name, or address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Application with its instance, if any, and its query; may hold placeholders.
    pub app: String,
    /// Name of the stream with its query, if the address names one; may hold placeholders.
    pub stream: Option<String>,
}

/// Which part of a path is the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathForm {
    /// In paths of two segments the second is the instance, as encoders take a server's address (contract
    /// multipoint 3.1): `rtmp://host/livestreams/anotherinstance`. A segment that holds `{stream}` begins
    /// the name of the stream wherever it stands.
    Server,
    /// The first segment is the application and the rest the stream, as nginx-rtmp reads a redirect
    /// (contract hooks 1.5).
    FirstIsApp,
    /// The last segment is the stream, if there are two or more, as SRS reads a target.
    LastIsStream,
}

/// Why text is no such address.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    /// Another scheme.
    #[error("the address of a server begins with rtmp:// or rtmps://")]
    Scheme,
    /// Nothing between `//` and `/`, or what is no host.
    #[error("the address names no host")]
    Host,
    /// Not a number, or too large.
    #[error("the port of the address is no number from 1 to 65535")]
    Port,
    /// No path.
    #[error("the address names no application: rtmp://host/app")]
    App,
    /// Two slashes in a row.
    #[error("the application of the address has an empty part")]
    Segment,
    /// Control characters or spaces.
    #[error("the address holds a space or a control character")]
    Character,
}

impl RtmpAddress {
    /// Reads an address as an operator writes it: [`PathForm::Server`].
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        Self::parse_as(text, PathForm::Server)
    }

    /// Reads an address. The scheme may be in any case.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn parse_as(text: &str, form: PathForm) -> Result<Self, AddressError> {
        if text.chars().any(|it| it.is_whitespace() || it.is_control()) {
            return Err(AddressError::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "rtmp" => false,
            "rtmps" => true,
            _ => return Err(AddressError::Scheme),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, server) = match authority.rsplit_once('@') {
            Some((login, server)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (Some((user.to_owned(), password.to_owned())), server)
            }
            None => (None, authority),
        };
        let (host, port) = split_port(server)?;
        if host.is_empty() || host.contains(['[', ']', '?', '#']) {
            return Err(AddressError::Host);
        }
        let (app, stream) = split_path(path, form);
        if app.is_empty() {
            return Err(AddressError::App);
        }
        if app.split('?').next().unwrap_or_default().split('/').any(str::is_empty) {
            return Err(AddressError::Segment);
        }
        let default = if is_tls { RTMPS_PORT } else { RTMP_PORT };
        Ok(Self {
            is_tls,
            login,
            host: host.to_owned(),
            port: port.unwrap_or(default),
            app: app.to_owned(),
            stream: stream.map(str::to_owned),
        })
    }

    /// The same with `{vhost}`, `{app}`, `{instance}` and `{stream}` replaced by those of a stream.
    #[must_use]
    pub fn filled(&self, name: &StreamName) -> Self {
        let fill = |text: &String| {
            text.replace("{vhost}", name.vhost())
                .replace("{app}", name.app())
                .replace("{instance}", name.instance())
                .replace("{stream}", name.stream())
        };
        Self {
            host: fill(&self.host),
            app: fill(&self.app),
            stream: self.stream.as_ref().map(fill),
            login: self.login.clone(),
            ..*self
        }
    }

    /// The server's part of `tcUrl`: scheme, host, the port if it is not the usual one, application.
    pub fn tc_url(&self) -> String {
        format!("{}/{}", self.server(), self.app)
    }

    fn server(&self) -> String {
        let (scheme, usual) = if self.is_tls { ("rtmps", RTMPS_PORT) } else { ("rtmp", RTMP_PORT) };
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == usual {
            format!("{scheme}://{host}")
        } else {
            format!("{scheme}://{host}:{}", self.port)
        }
    }
}

/// Without the password: for logs and the API.
impl fmt::Display for RtmpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tc_url())?;
        match &self.stream {
            Some(stream) => write!(f, "/{stream}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for RtmpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn split_port(server: &str) -> Result<(&str, Option<u16>), AddressError> {
    let (host, port) = if let Some(rest) = server.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(AddressError::Host)?;
        (host, rest.strip_prefix(':'))
    } else {
        match server.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (server, None),
        }
    };
    let Some(port) = port else { return Ok((host, None)) };
    match port.parse() {
        Ok(number) if number > 0 => Ok((host, Some(number))),
        _ => Err(AddressError::Port),
    }
}

/// (application with instance, stream)
fn split_path(path: &str, form: PathForm) -> (&str, Option<&str>) {
    let path = path.trim_end_matches('/');
    let plain = path.split('?').next().unwrap_or_default();
    let last = plain.split('/').count() - 1;
    let mut from = 0;
    for (number, segment) in plain.split('/').enumerate() {
        let begins_stream = match form {
            PathForm::Server => number == 2 || segment.contains("{stream}"),
            PathForm::FirstIsApp => true,
            PathForm::LastIsStream => number == last,
        };
        if number > 0 && begins_stream {
            let (app, stream) = path.split_at(from);
            return (app.strip_suffix('/').unwrap_or(app), Some(stream));
        }
        from += segment.len() + 1;
    }
    (path, None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, u16, String, Option<String>) {
        let address = RtmpAddress::parse(text).unwrap();
        (address.host, address.port, address.app, address.stream)
    }

    #[test]
    fn reads_server_application_and_stream() {
        let expect = |text, host: &str, port, app: &str, stream: Option<&str>| {
            let expected = (host.to_owned(), port, app.to_owned(), stream.map(str::to_owned));
            assert_eq!(parts(text), expected, "{text}");
        };
        expect("rtmp://server2/livestreams", "server2", 1935, "livestreams", None);
        expect("rtmp://server2/livestreams/", "server2", 1935, "livestreams", None);
        expect("rtmp://a:1936/app/instance", "a", 1936, "app/instance", None);
        expect("rtmp://a/app/instance/s", "a", 1935, "app/instance", Some("s"));
        expect("rtmp://a/app/instance/s/t?k=v/w", "a", 1935, "app/instance", Some("s/t?k=v/w"));
        expect("rtmp://a/app?k=v", "a", 1935, "app?k=v", None);
        expect("rtmps://[::1]/app", "::1", 443, "app", None);
        expect("rtmps://[::1]:444/app", "::1", 444, "app", None);
        expect("rtmp://o/{app}/{stream}", "o", 1935, "{app}", Some("{stream}"));
        expect(
            "rtmp://o/{app}/{instance}/{stream}",
            "o",
            1935,
            "{app}/{instance}",
            Some("{stream}"),
        );
    }

    #[test]
    fn paths_of_hooks_are_read_as_their_originals_do() {
        let parts = |text, form| {
            let address = RtmpAddress::parse_as(text, form).unwrap();
            (address.app, address.stream)
        };
        let expect = |text, form, app: &str, stream: Option<&str>| {
            assert_eq!(parts(text, form), (app.to_owned(), stream.map(str::to_owned)), "{text}");
        };
        let nginx = PathForm::FirstIsApp;
        expect("rtmp://h/app", nginx, "app", None);
        expect("RTMP://h/app/s", nginx, "app", Some("s"));
        expect("rtmp://h/app/a/b?k=v", nginx, "app", Some("a/b?k=v"));
        let srs = PathForm::LastIsStream;
        expect("rtmp://h/app", srs, "app", None);
        expect("rtmp://h/app/s", srs, "app", Some("s"));
        expect("rtmp://h/app/a/b?k=v/w", srs, "app/a", Some("b?k=v/w"));
    }

    #[test]
    fn a_login_is_read_and_never_shown() {
        let address = RtmpAddress::parse("rtmp://user:p@ss:word@host/app").unwrap();
        assert_eq!(address.login, Some(("user".to_owned(), "p@ss:word".to_owned())));
        assert_eq!(format!("{address} {address:?}"), "rtmp://host/app rtmp://host/app");
    }

    #[test]
    fn placeholders_are_the_streams_own_parts() {
        let name = StreamName::new("v.test", "live", "", "cam/1").unwrap();
        let address = RtmpAddress::parse("rtmp://{vhost}/{app}/{instance}/{stream}?a=b").unwrap();
        let filled = address.filled(&name);
        assert_eq!(filled.to_string(), "rtmp://v.test/live/_definst_/cam/1?a=b");
        assert_eq!(filled.tc_url(), "rtmp://v.test/live/_definst_");
    }

    #[test]
    fn what_is_no_address_says_why() {
        let error = |text| RtmpAddress::parse(text).unwrap_err();
        assert_eq!(error("http://a/b"), AddressError::Scheme);
        assert_eq!(error("rtmp:///b"), AddressError::Host);
        assert_eq!(error("rtmp://[::1/b"), AddressError::Host);
        assert_eq!(error("rtmp://a]:b:1/c"), AddressError::Host);
        assert_eq!(error("rtmp://a:0/b"), AddressError::Port);
        assert_eq!(error("rtmp://a:b/c"), AddressError::Port);
        assert_eq!(error("rtmp://a"), AddressError::App);
        assert_eq!(error("rtmp://a//"), AddressError::App);
        assert_eq!(error("rtmp://a//b"), AddressError::Segment);
        assert_eq!(error("rtmp://a/b//c"), AddressError::Segment);
        assert_eq!(error("rtmp://a/b//{stream}"), AddressError::Segment);
        assert_eq!(error("rtmp://a/b c"), AddressError::Character);
    }
}
