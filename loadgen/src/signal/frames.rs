//! WebSocket frames: those that a client sends, and those of its server, found under any split.

/// What a client sends first.
pub(super) fn hello(authority: &str, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

/// A text of a client. The key of its mask is 0.
pub(super) fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes())
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match u16::try_from(payload.len()) {
        Ok(len) if len < 126 => out.push(0x80 | len as u8),
        Ok(len) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        Err(_) => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got<'a> {
    /// The answer to the upgrade.
    Upgraded,
    /// A text.
    Text(&'a [u8]),
    /// Something that wants these bytes in return.
    Ping(Vec<u8>),
    /// Nothing that a server of rooms says.
    Other,
}

/// What a client reads from its connection.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// What is left over of the bytes that came.
    rest: Vec<u8>,
    is_in: bool,
}

impl Reader {
    /// Takes bytes in and gives what they complete to `got`.
    pub(super) fn input(&mut self, bytes: &[u8], mut got: impl FnMut(Got<'_>)) {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let mut at = 0;
        if !self.is_in
            && let Some(end) = all.windows(4).position(|part| part == b"\r\n\r\n")
        {
            self.is_in = true;
            at = end + 4;
            got(if all.starts_with(b"HTTP/1.1 101 ") { Got::Upgraded } else { Got::Other });
        }
        while self.is_in
            && let Some(len) = unit(all.get(at..).unwrap_or_default(), &mut got)
        {
            at += len;
        }
        all.drain(..at);
        // Idle members should cost the load generator little.
        self.rest = if all.is_empty() { Vec::new() } else { all };
    }
}

/// Reads one frame from the front; its length, or `None` when it is not complete.
fn unit(bytes: &[u8], got: &mut impl FnMut(Got<'_>)) -> Option<usize> {
    let (head, len) = match *bytes {
        [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
        [_, 127, ..] => {
            let len = bytes.get(2..10)?.try_into().ok()?;
            (10, usize::try_from(u64::from_be_bytes(len)).ok()?)
        }
        [_, len, ..] if len < 126 => (2, usize::from(len)),
        _ => return None,
    };
    let payload = bytes.get(head..head + len)?;
    match bytes.first() {
        Some(0x81) => got(Got::Text(payload)),
        Some(0x89) => got(Got::Ping(frame(0x8A, payload))),
        _ => got(Got::Other),
    }
    Some(head + len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let mut reader = Reader::default();
        let mut all = Vec::new();
        for piece in pieces {
            reader.input(piece, |got| all.push(format!("{got:?}")));
        }
        all
    }

    #[test]
    fn frames_are_found_under_any_split() {
        let mut bytes = b"HTTP/1.1 101 x\r\n\r\n".to_vec();
        for len in [0_usize, 5, 125, 126, 70_000] {
            let mut sent = frame(0x81, &vec![b'x'; len]);
            // As a server sends it: without a mask.
            sent[1] &= 0x7F;
            let head = sent.len() - len;
            sent.drain(head - 4..head);
            bytes.extend_from_slice(&sent);
        }
        bytes.extend_from_slice(&[0x89, 1, 5]);
        let whole = read(&[&bytes]);
        assert_eq!(whole.len(), 7);
        assert_eq!((whole[0].as_str(), whole[6].starts_with("Ping")), ("Upgraded", true));
        let pieces: Vec<&[u8]> = bytes.chunks(7).collect();
        assert_eq!(read(&pieces), whole);
    }
}
