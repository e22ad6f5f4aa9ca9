//! A back end for hooks: it writes every request down, byte for byte, and answers as the test says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::wait::{SOON, eventually};

/// What a request looked like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// Which of the server's connections it came on.
    pub(crate) connection: usize,
    /// Request line and headers, without the blank line.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: String,
    /// When it was complete.
    pub(crate) at: Instant,
}

/// What a request is answered with.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These bytes, and then the connection is closed.
    Close(String),
    /// These bytes, and the connection is kept.
    Keep(String),
    /// The same after a while.
    Late(Duration, String),
    /// Nothing, until the caller goes away.
    Hang,
    /// The connection is closed without a byte.
    Drop,
    /// A head that promises a gigabyte, and as much of it as the caller takes.
    Gigabyte,
}

/// A running recorder; it ends with the test.
#[derive(Clone)]
pub(crate) struct HookServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Recorded>>>,
    connections: Arc<AtomicUsize>,
    answer: Arc<Mutex<Answer>>,
}

/// An address on which nobody listens, and nobody else will while this lives.
pub(crate) struct Nobody {
    socket: Socket,
    pub(crate) address: SocketAddr,
}

impl Nobody {
    /// On loopback.
    pub(crate) fn listens() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        let address = socket.local_addr().expect("it is bound").as_socket().expect("of IPv4");
        Self { socket, address }
    }

    /// Listens from now on.
    pub(crate) fn begins(
        self,
        answer: impl FnMut(&Recorded) -> Reply + Send + 'static,
    ) -> HookServer {
        self.socket.listen(128).expect("nobody else has it");
        HookServer::start_with(self.socket.into(), answer)
    }
}

type Answer = Box<dyn FnMut(&Recorded) -> Reply + Send>;

impl Recorded {
    /// `publish`, `on_publish`, …: the word for the event, in either dialect.
    pub(crate) fn call(&self) -> String {
        self.field("call")
            .or_else(|| self.json().get("action").and_then(|it| it.as_str()).map(str::to_owned))
            .unwrap_or_default()
    }

    /// A value of the form, as it is on the wire; the first of its name.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let form = match self.body.is_empty() {
            true => self.head.split(' ').nth(1)?.split_once('?')?.1,
            false => self.body.as_str(),
        };
        form.split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    }

    /// The body as JSON, or null.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Reply {
    /// 200 without a word.
    pub(crate) fn ok() -> Self {
        Self::status("200 OK", "")
    }

    /// SRS's yes.
    pub(crate) fn zero() -> Self {
        Self::Keep("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0".to_owned())
    }

    /// A status with further header lines (each with its line end).
    pub(crate) fn status(status: &str, headers: &str) -> Self {
        Self::Close(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n{headers}\r\n"))
    }

    /// 302 to this place.
    pub(crate) fn redirect(location: &str) -> Self {
        Self::status("302 Found", &format!("Location: {location}\r\n"))
    }
}

impl HookServer {
    /// Starts on a free port of loopback.
    pub(crate) fn start(answer: impl FnMut(&Recorded) -> Reply + Send + 'static) -> Self {
        Self::start_on("127.0.0.1:0".parse().expect("an address"), answer)
    }

    /// Starts on this address.
    pub(crate) fn start_on(
        address: SocketAddr,
        answer: impl FnMut(&Recorded) -> Reply + Send + 'static,
    ) -> Self {
        Self::start_with(TcpListener::bind(address).expect("the recorder's port is free"), answer)
    }

    fn start_with(
        listener: TcpListener,
        answer: impl FnMut(&Recorded) -> Reply + Send + 'static,
    ) -> Self {
        let server = Self {
            address: listener.local_addr().expect("it is bound"),
            requests: Arc::default(),
            connections: Arc::default(),
            answer: Arc::new(Mutex::new(Box::new(answer))),
        };
        let shared = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                thread::spawn(move || shared.serve(stream));
            }
        });
        server
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path on it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers differently from now on.
    pub(crate) fn answer_with(&self, answer: impl FnMut(&Recorded) -> Reply + Send + 'static) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(answer);
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The words for the events so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.requests().iter().map(Recorded::call).collect()
    }

    /// How often an event was told.
    pub(crate) fn count(&self, call: &str) -> usize {
        self.calls().iter().filter(|it| *it == call).count()
    }

    /// Forgets the requests so far, and gives them.
    pub(crate) fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for these events, in this order, and no other.
    pub(crate) fn expect(&self, calls: &[&str]) {
        eventually(&format!("{calls:?} are called"), SOON, || {
            (self.requests().len() >= calls.len()).then_some(())
        });
        assert_eq!(self.calls(), calls);
    }

    /// Waits until an event was told `count` times.
    pub(crate) fn wait_for(&self, call: &str, count: usize) {
        eventually(&format!("{count} times {call}, of {:?}", self.calls()), SOON, || {
            (self.count(call) >= count).then_some(())
        });
    }

    fn serve(&self, mut stream: TcpStream) {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let _ = stream.set_nodelay(true);
        let mut buffer = Vec::new();
        while let Some((head, body)) = read_request(&mut stream, &mut buffer) {
            let recorded = Recorded { connection, head, body, at: Instant::now() };
            let reply = {
                let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
                self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(recorded.clone());
                answer(&recorded)
            };
            let sent = match reply {
                Reply::Keep(text) => stream.write_all(text.as_bytes()),
                Reply::Close(text) => {
                    let _ = stream.write_all(text.as_bytes());
                    return;
                }
                Reply::Late(after, text) => {
                    thread::sleep(after);
                    let _ = stream.write_all(text.as_bytes());
                    return;
                }
                Reply::Hang => {
                    let _ = stream.read_to_end(&mut Vec::new());
                    return;
                }
                Reply::Drop => return,
                Reply::Gigabyte => {
                    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
                    let mut sent = stream.write_all(head.as_bytes());
                    let block = [b'0'; 65_536];
                    while sent.is_ok() {
                        sent = stream.write_all(&block);
                    }
                    return;
                }
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

/// One request from the front of what comes, or nothing when the caller is gone.
fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, String)> {
    let mut block = [0; 4096];
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length: usize = head
                .lines()
                .find_map(|line| {
                    let (key, value) = line.split_once(": ")?;
                    key.eq_ignore_ascii_case("content-length").then(|| value.parse().ok())?
                })
                .unwrap_or(0);
            if buffer.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&buffer[end + 4..end + 4 + length]).into_owned();
                buffer.drain(..end + 4 + length);
                return Some((head, body));
            }
        }
        match stream.read(&mut block) {
            Ok(count) if count > 0 => buffer.extend_from_slice(&block[..count]),
            _ => return None,
        }
    }
}
