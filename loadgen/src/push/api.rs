//! The server's API, as an application's server uses it: one connection that stays open.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to the API.
#[derive(Debug)]
pub(super) struct Api {
    stream: TcpStream,
    address: SocketAddr,
    authorization: String,
}

impl Api {
    pub(super) fn new(address: SocketAddr, token: Option<String>) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        Ok(Self { stream, address, authorization: authorization.unwrap_or_default() })
    }

    /// Sends a text to a channel.
    pub(super) fn post(&mut self, channel: i64, text: &str) -> io::Result<()> {
        let body = self.request("POST", &format!("/channels/{channel}/message"), text)?;
        if body == "200 OK\n" { Ok(()) } else { Err(io::Error::other(body)) }
    }

    /// Connections on a channel.
    pub(super) fn members(&mut self, channel: i64) -> io::Result<u64> {
        let body = self.request("GET", &format!("/channels/{channel}?count=0"), "")?;
        let value: serde_json::Value = serde_json::from_str(&body)?;
        value["connections"].as_u64().ok_or_else(|| io::Error::other(body))
    }

    fn request(&mut self, method: &str, target: &str, body: &str) -> io::Result<String> {
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\n{}Content-Type: text/plain\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.address,
            self.authorization,
            body.len()
        );
        self.stream.write_all(request.as_bytes())?;
        let mut received = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&received);
            if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
                let length: usize = length.and_then(|it| it.parse().ok()).unwrap_or_default();
                if rest.len() >= length {
                    return Ok(rest.to_owned());
                }
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => received.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            }
        }
    }
}
