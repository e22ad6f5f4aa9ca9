//! A raw HTTP client: what goes out is exactly what the test wrote.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a read or a write may stand still.
const IO_TIMEOUT: Duration = Duration::from_secs(10);
/// A response head that is longer than this is a bug of the server.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The head of a response, and the connection to read its body from.
pub(crate) struct Response {
    /// The status line without its line end.
    pub(crate) status_line: String,
    /// The status code.
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    early_body: Vec<u8>,
    stream: TcpStream,
}

/// Sends `request` as it stands and reads the head of the answer.
///
/// A server that refuses early may reset the connection while the request is still being written;
/// the answer that it sent before counts.
pub(crate) fn send_raw(address: SocketAddr, request: &[u8]) -> Response {
    let mut stream = connect(address);
    if let Err(error) = stream.write_all(request) {
        assert!(
            matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
            "the request could not be sent: {error}"
        );
    }
    read_response(stream)
}

/// Sends a request without a body; `headers` are whole lines without line ends.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[&str],
) -> Response {
    let mut text =
        format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    send_raw(address, text.as_bytes())
}

/// A GET request without further headers.
pub(crate) fn get(address: SocketAddr, target: &str) -> Response {
    request(address, "GET", target, &[])
}

/// Opens a connection with time-outs.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, IO_TIMEOUT)
        .unwrap_or_else(|error| panic!("connect to {address}: {error}"));
    stream.set_read_timeout(Some(IO_TIMEOUT)).expect("a read time-out can be set");
    stream.set_write_timeout(Some(IO_TIMEOUT)).expect("a write time-out can be set");
    stream
}

impl Response {
    /// The first header of this name, in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The next `count` bytes of the body, without transfer coding.
    pub(crate) fn read_body(&mut self, count: usize) -> Vec<u8> {
        assert!(self.header("Transfer-Encoding").is_none(), "this client reads plain bodies only");
        let mut body = std::mem::take(&mut self.early_body);
        let mut buffer = [0; 4096];
        while body.len() < count {
            let read = self
                .stream
                .read(&mut buffer)
                .unwrap_or_else(|error| panic!("after {} bytes of body: {error}", body.len()));
            assert!(read > 0, "the body ended after {} bytes", body.len());
            body.extend_from_slice(&buffer[..read]);
        }
        self.early_body = body.split_off(count);
        body
    }

    /// The rest of the body, up to Content-Length or the end of the connection.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        if let Some(length) = self.header("Content-Length") {
            let length = length.parse().expect("Content-Length is a number");
            return self.read_body(length);
        }
        let mut body = std::mem::take(&mut self.early_body);
        self.stream.read_to_end(&mut body).expect("the body ends with the connection");
        body
    }

    /// The connection, and what has come of the body.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.early_body)
    }

    /// The answer to the next request of the connection, behind the body of this one, if it has one.
    pub(crate) fn next(mut self, has_no_body: bool) -> Self {
        if !has_no_body {
            self.read_to_end();
        }
        read_behind(self.early_body, self.stream)
    }

    /// Whether the server closes the connection without another byte.
    pub(crate) fn is_closed_by_server(&mut self) -> bool {
        let mut byte = [0; 1];
        self.early_body.is_empty()
            && match self.stream.read(&mut byte) {
                Ok(count) => count == 0,
                Err(error) => error.kind() == ErrorKind::ConnectionReset,
            }
    }
}

/// Reads the head of the answer on a connection that the request went out on.
pub(crate) fn read_response(stream: TcpStream) -> Response {
    read_behind(Vec::new(), stream)
}

/// Reads a head of which `received` has come already.
fn read_behind(mut received: Vec<u8>, mut stream: TcpStream) -> Response {
    let mut buffer = [0; 4096];
    let head_end = loop {
        if let Some(position) = received.windows(4).position(|part| part == b"\r\n\r\n") {
            break position;
        }
        assert!(received.len() < HEAD_BYTES_MAX, "the head has no end");
        match stream.read(&mut buffer) {
            Ok(0) => panic!(
                "the connection ended inside the head: {:?}",
                String::from_utf8_lossy(&received)
            ),
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) => {
                panic!("no head: {error}; so far {:?}", String::from_utf8_lossy(&received))
            }
        }
    };
    let early_body = received.split_off(head_end + 4);
    let head = String::from_utf8_lossy(&received).into_owned();
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default().to_owned();
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or_else(|| panic!("no status code in {status_line:?}"));
    let headers = lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, value) =
                line.split_once(':').unwrap_or_else(|| panic!("not a header: {line:?}"));
            (name.to_owned(), value.trim().to_owned())
        })
        .collect();
    Response { status_line, status, headers, early_body, stream }
}
