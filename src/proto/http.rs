//! HTTP/1.0 and 1.1 requests in, response heads out, on `httparse`.
//!
//! A request head is parsed whole: [`parse_request`] is called again with more bytes until it
//! answers something. The caps are in [`limits`]. Bodies and chunks are the caller's.
//! Source: RFC 9110, RFC 9112.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use std::borrow::Cow;
use std::fmt;

use crate::limits;

/// Why a request is refused; [`HttpError::status`] is what to answer before closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// Content-Length is no number, or there are several that differ, or it comes with
    /// Transfer-Encoding.
    #[error("the length of the request's body is not clear")]
    BodyLength,
    /// The request head is longer than [`limits::HTTP_HEAD_BYTES_MAX`].
    #[error("the request head is longer than {} bytes", limits::HTTP_HEAD_BYTES_MAX)]
    HeadTooLong,
    /// More header lines than [`limits::HTTP_HEADERS_MAX`].
    #[error("the request has more than {} header lines", limits::HTTP_HEADERS_MAX)]
    HeadersTooMany,
    /// HTTP/1.1 without Host, or with several.
    #[error("the request names no host, or more than one")]
    Host,
    /// This is no HTTP request.
    #[error("this is not an HTTP request")]
    Malformed,
    /// The path is not absolute, has a bad percent escape, control characters or dot segments.
    #[error("the request's path is not valid")]
    Path,
    /// Not HTTP/1.0 or 1.1.
    #[error("this HTTP version is not spoken")]
    Version,
}

impl HttpError {
    /// The status code to answer with.
    pub fn status(self) -> u16 {
        match self {
            Self::HeadTooLong | Self::HeadersTooMany => 431,
            Self::Version => 505,
            Self::BodyLength | Self::Host | Self::Malformed | Self::Path => 400,
        }
    }
}

/// Request methods that somebody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// DELETE
    Delete,
    /// GET
    Get,
    /// HEAD
    Head,
    /// OPTIONS
    Options,
    /// Any other: 405 or 501.
    Other,
    /// POST
    Post,
    /// PUT
    Put,
}

/// Protocol versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: no chunks, closes unless asked to keep alive.
    Http10,
    /// HTTP/1.1: keeps alive unless asked to close.
    Http11,
}

/// A parsed request head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Percent-decoded path, begins with `/`, without dot segments; `*` for `OPTIONS *`.
    pub path: String,
    /// Text after the `?` as sent, empty when there is none.
    pub query: String,
    /// The protocol version.
    pub version: Version,
    /// Bytes of the head; the body begins there.
    pub head_len: usize,
    headers: Vec<(String, String)>,
}

/// Parses a request head from the front of `bytes`; `None` when more bytes are needed.
///
/// The verdict depends on the bytes only, not on how they were split.
pub fn parse_request(bytes: &[u8]) -> Result<Option<Request>, HttpError> {
    let (head, cut) = match bytes.get(..limits::HTTP_HEAD_BYTES_MAX) {
        Some(head) => (head, true),
        None => (bytes, false),
    };
    let mut slots = [httparse::EMPTY_HEADER; limits::HTTP_HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut slots);
    let head_len = match parsed.parse(head) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if cut => return Err(HttpError::HeadTooLong),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HttpError::HeadersTooMany),
        Err(httparse::Error::Version) => return Err(HttpError::Version),
        Err(_) => return Err(HttpError::Malformed),
    };
    let version = match parsed.version {
        Some(0) => Version::Http10,
        Some(1) => Version::Http11,
        _ => return Err(HttpError::Version),
    };
    let method = match parsed.method {
        Some("DELETE") => Method::Delete,
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        Some("OPTIONS") => Method::Options,
        Some("POST") => Method::Post,
        Some("PUT") => Method::Put,
        _ => Method::Other,
    };
    let (path, query) = split_target(parsed.path.unwrap_or_default(), method)?;
    let headers = parsed
        .headers
        .iter()
        .map(|h| (h.name.to_owned(), String::from_utf8_lossy(h.value).into_owned()))
        .collect();
    let request = Request { method, path, query, version, head_len, headers };
    let hosts = request.headers("host").count();
    if hosts > 1 || (hosts == 0 && version == Version::Http11) {
        return Err(HttpError::Host);
    }
    request.content_length()?;
    Ok(Some(request))
}

impl Request {
    /// The first header of this name, whatever its case; bytes that are no UTF-8 are replaced.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    /// All headers of this name in order.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether a comma-separated header (Connection, Upgrade) holds this token.
    pub fn header_has(&self, name: &str, token: &str) -> bool {
        self.headers(name)
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(token))
    }

    /// Whether the connection may carry another request.
    pub fn keep_alive(&self) -> bool {
        match self.version {
            Version::Http10 => {
                self.header_has("connection", "keep-alive")
                    && !self.header_has("connection", "close")
            }
            Version::Http11 => !self.header_has("connection", "close"),
        }
    }

    /// The body's length in bytes; `None` without the header. Chunked bodies: see
    /// [`Request::is_chunked`].
    pub fn content_length(&self) -> Result<Option<u64>, HttpError> {
        let mut length = None;
        for value in self.headers("content-length") {
            if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
                return Err(HttpError::BodyLength);
            }
            let this = value.parse().map_err(|_| HttpError::BodyLength)?;
            if length.is_some_and(|before: u64| before != this) {
                return Err(HttpError::BodyLength);
            }
            length = Some(this);
        }
        if length.is_some() && self.header("transfer-encoding").is_some() {
            return Err(HttpError::BodyLength);
        }
        Ok(length)
    }

    /// Whether the body is sent in chunks.
    pub fn is_chunked(&self) -> bool {
        self.header_has("transfer-encoding", "chunked")
    }

    /// The query's pairs.
    pub fn query(&self) -> Query<'_> {
        Query::new(&self.query)
    }
}

/// The pairs of a query string or form body, percent-decoded, in order.
///
/// A bad escape stands for itself, `+` is a space, a key without `=` has an empty value, bytes
/// that are no UTF-8 are replaced.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// Over the text after the `?`; a leading `?` is skipped.
    pub fn new(raw: &'a str) -> Self {
        Self(raw.strip_prefix('?').unwrap_or(raw))
    }

    /// The first value of this key.
    pub fn value(self, key: &str) -> Option<Cow<'a, str>> {
        self.into_iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Query<'a> {
    type Item = (Cow<'a, str>, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            let (pair, rest) = self.0.split_once('&').unwrap_or((self.0, ""));
            self.0 = rest;
            if !pair.is_empty() {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                return Some((decode_form(key), decode_form(value)));
            }
        }
        None
    }
}

/// Appends a response head with the blank line. Control characters in names and values become
/// spaces, so that no value can begin another line.
pub fn write_head(status: u16, headers: &[(&str, &str)], out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        out.extend(name.bytes().map(printable));
        out.extend_from_slice(b": ");
        out.extend(value.bytes().map(printable));
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// The reason phrase of a status code.
pub fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Other => "another method",
            Self::Post => "POST",
            Self::Put => "PUT",
        })
    }
}

/// Splits the request target; an absolute form (`http://host/path`) loses its authority.
fn split_target(target: &str, method: Method) -> Result<(String, String), HttpError> {
    if target == "*" && method == Method::Options {
        return Ok((target.to_owned(), String::new()));
    }
    let target = match target.find("://") {
        Some(scheme) if !target.starts_with('/') => {
            let authority = target.get(scheme + 3..).unwrap_or_default();
            let end = authority.find(['/', '?']).unwrap_or(authority.len());
            authority.get(end..).unwrap_or_default()
        }
        _ => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = decode_path(path).ok_or(HttpError::Path)?;
    let dots = path.split('/').any(|segment| matches!(segment, "." | ".."));
    if !path.starts_with('/') || dots || path.chars().any(char::is_control) {
        return Err(HttpError::Path);
    }
    Ok((path, query.to_owned()))
}

/// Percent-decodes strictly: a bad escape or text that is no UTF-8 is `None`.
fn decode_path(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            bytes.push(hex(rest.next()?)? << 4 | hex(rest.next()?)?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Percent-decodes leniently, as forms are: a bad escape stands for itself.
fn decode_form(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let escaped = match (byte, tail) {
            (b'%', [high, low, after @ ..]) => {
                hex(*high).zip(hex(*low)).map(|(high, low)| (high << 4 | low, after))
            }
            _ => None,
        };
        match escaped {
            Some((value, after)) => {
                bytes.push(value);
                rest = after;
            }
            None if byte == b'+' => bytes.push(b' '),
            None => bytes.push(byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn printable(byte: u8) -> u8 {
    if byte.is_ascii_control() { b' ' } else { byte }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Request, HttpError> {
        parse_request(text.as_bytes()).map(|r| r.expect("the head is complete"))
    }

    #[test]
    fn a_players_request() {
        let text = "GET /live/my%20cam.flv?token=a%2Bb&x HTTP/1.1\r\nHost: h:8080\r\n\
                    User-Agent: mpv\r\n\r\nBODY";
        let request = parse(text).unwrap();
        assert_eq!(request.method, Method::Get);
        assert_eq!(request.path, "/live/my cam.flv");
        assert_eq!(request.query, "token=a%2Bb&x");
        assert_eq!(request.query().value("token").as_deref(), Some("a+b"));
        assert_eq!(request.header("user-AGENT"), Some("mpv"));
        assert_eq!(request.header("referer"), None);
        assert_eq!(text.len() - request.head_len, 4);
        assert!(request.keep_alive());
    }

    #[test]
    fn keep_alive_follows_the_version() {
        let table = [
            ("1.1", "Accept: x", true),
            ("1.1", "Connection: Close", false),
            ("1.1", "Connection: upgrade, close", false),
            ("1.0", "Accept: x", false),
            ("1.0", "connection: Keep-Alive", true),
        ];
        for (version, header, expected) in table {
            let request = parse(&format!("GET / HTTP/{version}\r\nHost: h\r\n{header}\r\n\r\n"));
            assert_eq!(request.unwrap().keep_alive(), expected, "{version} {header}");
        }
    }

    #[test]
    fn targets() {
        let ok = [
            ("GET", "http://h:80/a?b", "/a", "b"),
            ("GET", "/a/%E4%BD%A0", "/a/你", ""),
            ("GET", "/a?u=http://x/", "/a", "u=http://x/"),
            ("GET", "/http://x", "/http://x", ""),
            ("OPTIONS", "*", "*", ""),
            ("GET", "/a..b/...", "/a..b/...", ""),
        ];
        for (method, target, path, query) in ok {
            let request = parse(&format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n")).unwrap();
            assert_eq!((&*request.path, &*request.query), (path, query), "{target}");
        }
        let bad = [
            "*",
            "a",
            "http://h",
            "/../x",
            "/a/..",
            "/a/%2e%2E/b",
            "/./a",
            "/%",
            "/%4",
            "/%zz",
            "/a%00b",
            "/a%0d%0ab",
            "/%ff",
        ];
        for target in bad {
            let result = parse(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert_eq!(result, Err(HttpError::Path), "{target}");
        }
    }

    #[test]
    fn caps_answer_431() {
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(limits::HTTP_HEAD_BYTES_MAX));
        assert_eq!(parse_request(long.as_bytes()), Err(HttpError::HeadTooLong));
        assert_eq!(HttpError::HeadTooLong.status(), 431);
        let many = |count: usize| {
            let lines = "a: b\r\n".repeat(count - 1);
            format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
        };
        assert!(parse(&many(limits::HTTP_HEADERS_MAX)).is_ok());
        let result = parse_request(many(limits::HTTP_HEADERS_MAX + 1).as_bytes());
        assert_eq!(result, Err(HttpError::HeadersTooMany));
    }

    #[test]
    fn refusals() {
        let table = [
            ("GET / HTTP/2.0\r\n\r\n", HttpError::Version, 505),
            ("\x03\x00\x00\x00\x00", HttpError::Malformed, 400),
            ("GET / HTTP/1.1\r\n\r\n", HttpError::Host, 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", HttpError::Host, 400),
            ("POST / HTTP/1.0\r\nContent-Length: +5\r\n\r\n", HttpError::BodyLength, 400),
            (
                "POST / HTTP/1.0\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                HttpError::BodyLength,
                400,
            ),
            (
                "POST / HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                HttpError::BodyLength,
                400,
            ),
        ];
        for (text, error, status) in table {
            assert_eq!(parse_request(text.as_bytes()), Err(error), "{text:?}");
            assert_eq!(error.status(), status);
        }
        assert!(parse("GET / HTTP/1.0\r\n\r\n").is_ok(), "1.0 needs no Host");
    }

    #[test]
    fn body_length() {
        let request = parse("POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!(request.content_length(), Ok(Some(5)));
        let request = parse("POST / HTTP/1.0\r\nTransfer-Encoding: Chunked\r\n\r\n").unwrap();
        assert!(request.is_chunked());
    }

    #[test]
    fn query_pairs() {
        let pairs: Vec<_> = Query::new("?a=1&&b&c=%zz%4&d=x+y%20z&=e&a=2").collect();
        let expected =
            [("a", "1"), ("b", ""), ("c", "%zz%4"), ("d", "x y z"), ("", "e"), ("a", "2")];
        let expected: Vec<_> = expected.map(|(k, v)| (Cow::from(k), Cow::from(v))).into();
        assert_eq!(pairs, expected);
        assert_eq!(Query::new("a=1&a=2").value("a").as_deref(), Some("1"));
    }

    #[test]
    fn a_head_cannot_be_split_by_a_value() {
        let mut out = Vec::new();
        write_head(404, &[("X", "a\r\nSet-Cookie: b"), ("Y", "ü")], &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 404 Not Found\r\nX: a  Set-Cookie: b\r\nY: ü\r\n\r\n"
        );
    }

    fn request_like() -> impl Strategy<Value = Vec<u8>> {
        let line =
            prop_oneof![Just("Host: a".to_owned()), "[a-zA-Z-]{1,10}: [ -~]{0,20}", "[ -~]{0,20}"];
        ("(GET|POST|FOO) [!-~]{1,30} HTTP/1.[01]", proptest::collection::vec(line, 0..6)).prop_map(
            |(first, lines)| format!("{first}\r\n{}\r\n\r\n", lines.join("\r\n")).into_bytes(),
        )
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Some(request)) = parse_request(&bytes) {
                prop_assert!(request.head_len <= bytes.len());
            }
        }

        /// However the bytes come in, the first verdict is the verdict over all of them.
        #[test]
        fn splits_do_not_matter(bytes in request_like()) {
            let whole = parse_request(&bytes);
            let first = (0..=bytes.len())
                .map(|len| parse_request(&bytes[..len]))
                .find(|verdict| *verdict != Ok(None))
                .unwrap_or(Ok(None));
            prop_assert_eq!(first, whole);
        }

        #[test]
        fn forms_round_trip(value in "\\PC{0,20}") {
            let encoded: String = value.bytes().map(|b| format!("%{b:02X}")).collect();
            let form = format!("k={encoded}");
            prop_assert_eq!(Query::new(&form).value("k"), Some(Cow::from(value)));
        }
    }
}
