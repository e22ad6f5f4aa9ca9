//! HTTP request heads: the verdict depends on the bytes alone; nothing that a client sends can
//! begin a line of our answer.

use shardcast::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX};
use shardcast::proto::http::{self, HttpError, Method, Request, Version};

use super::dice::Dice;

/// The first bytes of a connection.
pub fn run(data: &[u8]) {
    let whole = http::parse_request(data);
    let mut grown = Ok(None);
    let mut end = 0;
    for piece in Dice::of(data).cut(data) {
        end += piece.len();
        grown = http::parse_request(&data[..end]);
        if grown != Ok(None) {
            break;
        }
    }
    assert_eq!(grown, whole, "what came first decides");
    match whole {
        Ok(Some(request)) => one_request(data, &request),
        Ok(None) => assert!(data.len() < HTTP_HEAD_BYTES_MAX),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!((400..600).contains(&error.status()));
            assert_ne!(http::reason(error.status()), "Unknown");
        }
    }
}

fn one_request(data: &[u8], request: &Request) {
    assert!(request.head_len <= data.len().min(HTTP_HEAD_BYTES_MAX));
    assert_eq!(http::parse_request(&data[..request.head_len]), Ok(Some(request.clone())));
    let is_star = request.path == "*" && request.method == Method::Options;
    assert!(is_star || request.path.starts_with('/'));
    assert!(!request.path.chars().any(char::is_control));
    assert!(!request.path.split('/').any(|segment| matches!(segment, "." | "..")));
    let hosts = request.headers("HOST").count();
    assert!(hosts == 1 || (hosts == 0 && request.version == Version::Http10));
    assert!(request.headers("host").count() <= HTTP_HEADERS_MAX);
    assert!(!(request.is_chunked() && request.content_length() != Ok(None)));
    assert_ne!(request.content_length(), Err(HttpError::BodyLength), "it was checked");
    let pairs: Vec<_> = request.query().collect();
    assert!(pairs.len() <= request.query.len());
    for (key, _) in &pairs {
        assert!(request.query().value(key).is_some());
    }
    let keeps = request.keep_alive();
    assert!(!(keeps && request.header_has("connection", "close")));
    assert!(!request.method.to_string().is_empty());
    quoted(request, pairs.iter().map(|(_, value)| value.as_ref()));
}

/// An answer whose headers hold what the client sent.
fn quoted<'a>(request: &'a Request, values: impl Iterator<Item = &'a str>) {
    let host = request.header("host").unwrap_or_default();
    let mut headers = vec![("Location", request.path.as_str()), ("X-Host", host)];
    headers.extend(values.map(|value| ("X-Query", value)));
    let mut out = Vec::new();
    http::write_head(200, &headers, &mut out);
    let lines = out.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, headers.len() + 2);
    assert!(out.ends_with(b"\r\n\r\n"));
}
