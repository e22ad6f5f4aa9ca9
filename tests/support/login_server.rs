//! A server that asks for name and password as Adobe's and Limelight's do (contract multipoint 3.5), before
//! a server that does not: it looks at `connect`, answers it itself or passes all on.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use shardcast::proto::amf0::Value;
use shardcast::proto::rtmp::chunk_reader::{ChunkReader, ReaderLimits};
use shardcast::proto::rtmp::chunk_writer::{MessageHeader, write_full};
use shardcast::proto::rtmp::command::{self, Command};
use shardcast::proto::rtmp::message;

/// How it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Adobe,
    /// The same without `opaque`.
    AdobePlain,
    Limelight,
}

const USER: &str = "user";
const PASSWORD: &str = "pass";
const SALT: &str = "c2FsdA==";
const CHALLENGE: &str = "Y2hhbGxlbmdl";
const OPAQUE: &str = "b3BhcXVl";
/// Bytes of version and first packet of the handshake, and of each further packet.
const FIRST: usize = 1 + 1536;
const PACKET: usize = 1536;

/// A running one; it ends with the test.
pub(crate) struct LoginServer {
    address: SocketAddr,
    /// Application and tcUrl of each connect.
    heard: Arc<Mutex<Vec<(String, String)>>>,
}

impl LoginServer {
    /// In front of a server.
    pub(crate) fn before(server: SocketAddr, method: Method) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let heard: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let kept = Arc::clone(&heard);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                // A client that breaks off is seen by the test.
                thread::spawn(move || drop(serve(client, server, method, &kept)));
            }
        });
        Self { address, heard }
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients said so far: application and tcUrl of each connect.
    pub(crate) fn take(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn serve(
    mut client: TcpStream,
    server: SocketAddr,
    method: Method,
    heard: &Mutex<Vec<(String, String)>>,
) -> io::Result<()> {
    let mut server = TcpStream::connect(server)?;
    pass_exactly(&mut client, &mut server, FIRST)?;
    pass_exactly(&mut server, &mut client, FIRST + PACKET)?;
    pass_exactly(&mut client, &mut server, PACKET)?;
    let (held, connect) = read_connect(&mut client)?;
    let text = |key: &str| {
        connect.object.property(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (app, tc_url) = (text("app"), text("tcUrl"));
    heard.lock().unwrap_or_else(PoisonError::into_inner).push((app.clone(), tc_url));
    if let Some(description) = demand(&app, method) {
        let info = Value::object([
            ("level", Value::from("error")),
            ("code", Value::from("NetConnection.Connect.Rejected")),
            ("description", Value::from(description.as_str())),
        ]);
        let body = command::error(connect.transaction, &Value::Null, info);
        let header = MessageHeader {
            chunk_stream_id: 3,
            message_stream_id: 0,
            type_id: message::COMMAND_AMF0,
            timestamp_ms: 0,
        };
        let mut bytes = Vec::new();
        write_full(&header, &body, 128, &mut |part: &[u8]| bytes.extend_from_slice(part));
        client.write_all(&bytes)?;
        client.shutdown(Shutdown::Write)?;
        io::copy(&mut client, &mut io::sink())?;
        return Ok(());
    }
    server.write_all(&held)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let back = thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    io::copy(&mut server, &mut client)?;
    let _ = client.shutdown(Shutdown::Write);
    let _ = back.join();
    Ok(())
}

fn pass_exactly(from: &mut TcpStream, to: &mut TcpStream, count: usize) -> io::Result<()> {
    let mut bytes = vec![0; count];
    from.read_exact(&mut bytes)?;
    to.write_all(&bytes)
}

/// What came up to the end of `connect`, and the command.
fn read_connect(client: &mut TcpStream) -> io::Result<(Vec<u8>, Command)> {
    let limits = ReaderLimits {
        message_bytes_max: 64 * 1024,
        chunk_streams_max: 64,
        partial_bytes_max: 128 * 1024,
    };
    let mut reader = ChunkReader::new(limits);
    let mut held = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = client.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        held.extend_from_slice(&buffer[..count]);
        let mut unread = &buffer[..count];
        while !unread.is_empty() {
            let read = reader.read(unread).map_err(io::Error::other)?;
            unread = &unread[read.consumed..];
            let Some(message) = read.message else { continue };
            match message.type_id {
                message::SET_CHUNK_SIZE => {
                    let size = message.payload[..4].try_into().map(u32::from_be_bytes);
                    reader.set_chunk_size(size.map_err(io::Error::other)? as usize);
                }
                message::COMMAND_AMF0 => {
                    let command = Command::parse(&message.payload).map_err(io::Error::other)?;
                    if command.name == "connect" {
                        return Ok((held, command));
                    }
                }
                _ => {}
            }
        }
    }
}

/// What is still asked for; nothing when the answer is right.
fn demand(app: &str, method: Method) -> Option<String> {
    let query = app.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let value =
        |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    let word = if method == Method::Limelight { "llnw" } else { "adobe" };
    let front = "[ AccessManager.Reject ] :";
    let Some(user) = value("user").filter(|_| value("authmod") == Some(word)) else {
        return Some(format!("{front} [ code=403 need auth; authmod={word} ] : "));
    };
    let Some(response) = value("response") else {
        let challenge = match method {
            Method::Adobe => format!("salt={SALT}&challenge={CHALLENGE}&opaque={OPAQUE}"),
            Method::AdobePlain => format!("salt={SALT}&challenge={CHALLENGE}"),
            Method::Limelight => format!("nonce={CHALLENGE}"),
        };
        return Some(format!(
            "{front} [ authmod={word} ] : ?reason=needauth&user={user}&{challenge}"
        ));
    };
    if user != USER {
        return Some(format!("{front} [ authmod={word} ] : ?reason=nosuchuser&opaque={OPAQUE}"));
    }
    let expected = match method {
        Method::Adobe | Method::AdobePlain => {
            let salted = base64(format!("{USER}{SALT}{PASSWORD}"));
            let ours = if method == Method::Adobe { OPAQUE } else { CHALLENGE };
            base64(format!("{salted}{ours}{}", value("challenge").unwrap_or_default()))
        }
        Method::Limelight => {
            let who = hex(format!("{USER}:live:{PASSWORD}"));
            let name = app.split('?').next().unwrap_or_default();
            let instance = if name.contains('/') { "" } else { "/_definst_" };
            let what = hex(format!("publish:/{name}{instance}"));
            let own = value("cnonce").unwrap_or_default();
            hex(format!("{who}:{CHALLENGE}:{}:{own}:auth:{what}", value("nc").unwrap_or_default()))
        }
    };
    (response != expected)
        .then(|| format!("{front} [ authmod={word} ] : ?reason=authfailed&opaque={OPAQUE}"))
}

fn base64(text: String) -> String {
    STANDARD.encode(Md5::digest(text))
}

fn hex(text: String) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
