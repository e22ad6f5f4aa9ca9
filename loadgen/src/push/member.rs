//! One member: what it says to get in, and the messages that it gets.

use shardcast::proto::amf0::Value;
use shardcast::proto::push_message::PushBody;
use shardcast::proto::rtmp::chunk_writer::{MessageHeader, write_full};
use shardcast::proto::rtmp::{command, message};

/// How a member is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// RTMP.
    Rtmp,
    /// WebSocket.
    WebSocket,
}

/// Bytes of S0, S1 and S2.
const HANDSHAKE_BYTES: usize = 1 + 2 * 1536;
/// Bytes of the header of a message's first chunk.
const CHUNK_HEADER_BYTES: usize = 12;
/// The chunk size of the server's choice goes with its first answers; before, chunks have this size.
const FIRST_CHUNK_BYTES: usize = 128;

/// What a member reads from its connection.
#[derive(Debug)]
pub(super) struct Reader {
    kind: Kind,
    /// What is left over of the bytes that came.
    rest: Vec<u8>,
    is_in: bool,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got<'a> {
    /// A message to the channel: the RTMP payload, or the JSON.
    Message(&'a [u8]),
    /// Something that wants these bytes in return.
    Ping(Vec<u8>),
}

/// What a member sends first.
pub(super) fn hello(kind: Kind, authority: &str, token: &str) -> Vec<u8> {
    match kind {
        Kind::Rtmp => {
            let mut out = vec![3];
            out.resize(HANDSHAKE_BYTES, 0);
            let object = Value::object([
                ("app", Value::from("push")),
                ("tcUrl", Value::from(format!("rtmp://{authority}/push"))),
            ]);
            let payload = command::encode("connect", 1.0, &object, &[Value::from(token)]);
            write(3, message::COMMAND_AMF0, &payload, &mut out);
            out
        }
        Kind::WebSocket => {
            let token = token.replace('+', "%2B");
            format!(
                "GET /push?session={token} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .into_bytes()
        }
    }
}

/// Bytes of a message with this text on the wire, over RTMP.
pub(super) fn wire_bytes(text: &str) -> usize {
    PushBody::Text(text.to_owned()).rtmp(usize::MAX >> 1).len()
}

/// The ends that messages with this text have: the RTMP payload's, and the JSON's.
pub(super) fn ends(text: &str) -> (Vec<u8>, Vec<u8>) {
    // The text, and the end of the object that it is the last property of.
    let rtmp = [text.as_bytes(), &[0, 0, 9]].concat();
    (rtmp, format!("\"message\":\"{text}\"}}").into_bytes())
}

fn write(chunk_stream_id: u32, type_id: u8, payload: &[u8], out: &mut Vec<u8>) {
    let header = MessageHeader { chunk_stream_id, message_stream_id: 0, type_id, timestamp_ms: 0 };
    write_full(&header, payload, FIRST_CHUNK_BYTES, &mut |bytes| out.extend_from_slice(bytes));
}

impl Reader {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, rest: Vec::new(), is_in: false }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the server has answered.
    pub(super) fn is_in(&self) -> bool {
        self.is_in
    }

    /// Takes bytes in and gives what they complete to `got`.
    pub(super) fn input(&mut self, bytes: &[u8], mut got: impl FnMut(Got<'_>)) {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let mut at = 0;
        if !self.is_in {
            let head = match self.kind {
                Kind::Rtmp => (all.len() >= HANDSHAKE_BYTES).then_some(HANDSHAKE_BYTES),
                Kind::WebSocket => {
                    all.windows(4).position(|part| part == b"\r\n\r\n").map(|end| end + 4)
                }
            };
            self.is_in = head.is_some();
            at = head.unwrap_or_default();
        }
        while self.is_in
            && let Some(len) = self.unit(all.get(at..).unwrap_or_default(), &mut got)
        {
            at += len;
        }
        all.drain(..at);
        // Idle members should cost the load generator little.
        self.rest = if all.is_empty() { Vec::new() } else { all };
    }

    /// Reads one message from the front; its length, or `None` when it is not complete.
    fn unit(&self, bytes: &[u8], got: &mut impl FnMut(Got<'_>)) -> Option<usize> {
        match self.kind {
            Kind::Rtmp => {
                let header = bytes.get(..CHUNK_HEADER_BYTES)?;
                let len =
                    header.get(4..7)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                let end = CHUNK_HEADER_BYTES + len;
                let payload = bytes.get(CHUNK_HEADER_BYTES..end)?;
                match (header.get(7), payload) {
                    (Some(&message::COMMAND_AMF0), _) if is_push(payload) => {
                        got(Got::Message(payload));
                    }
                    (Some(&message::USER_CONTROL), [0, 6, stamp @ ..]) => {
                        let mut out = Vec::new();
                        let answer = [&[0, 7], stamp].concat();
                        write(2, message::USER_CONTROL, &answer, &mut out);
                        got(Got::Ping(out));
                    }
                    _ => {}
                }
                Some(end)
            }
            Kind::WebSocket => {
                let (head, len) = match *bytes {
                    [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
                    [_, len, ..] if len < 126 => (2, usize::from(len)),
                    _ => return None,
                };
                let payload = bytes.get(head..head + len)?;
                match bytes.first() {
                    Some(0x81) if payload.starts_with(b"{\"channel\"") => {
                        got(Got::Message(payload))
                    }
                    Some(0x89) if len < 126 => {
                        // The key of the mask is 0.
                        let answer = [&[0x8A, 0x80 | len as u8, 0, 0, 0, 0], payload].concat();
                        got(Got::Ping(answer));
                    }
                    _ => {}
                }
                Some(head + len)
            }
        }
    }
}

fn is_push(payload: &[u8]) -> bool {
    const CODE: &[u8] = b"NetConnection.Message";
    payload.windows(CODE.len()).any(|part| part == CODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut reader = Reader::new(kind);
        let mut all = Vec::new();
        for piece in pieces {
            reader.input(piece, |got| {
                all.push(match got {
                    Got::Message(bytes) => bytes.to_vec(),
                    Got::Ping(bytes) => [b"ping ".to_vec(), bytes].concat(),
                });
            });
        }
        all
    }

    #[test]
    fn messages_are_found_under_any_split() {
        let (rtmp_end, json_end) = ends("7 xx");
        let mut rtmp = vec![0; HANDSHAKE_BYTES];
        rtmp.extend(PushBody::Text("7 xx".to_owned()).rtmp(60_000));
        write(2, message::USER_CONTROL, &[0, 6, 1, 2, 3, 4], &mut rtmp);
        let json = br#"{"channel":1,"id":"1-1","message":"7 xx"}"#;
        let mut frames = b"HTTP/1.1 101 x\r\n\r\n\x81".to_vec();
        frames.push(json.len() as u8);
        frames.extend_from_slice(json);
        frames.extend_from_slice(&[0x89, 1, 5]);
        for (kind, bytes, end) in
            [(Kind::Rtmp, &rtmp, rtmp_end), (Kind::WebSocket, &frames, json_end)]
        {
            let whole = read(kind, &[bytes]);
            assert_eq!(whole.len(), 2);
            assert!(whole[0].ends_with(&end) && whole[1].starts_with(b"ping "));
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(read(kind, &single), whole);
        }
    }
}
