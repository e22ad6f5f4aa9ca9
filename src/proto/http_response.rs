//! HTTP/1.0 and 1.1 answers, for the server's own requests: bytes in, one answer out, on `httparse`.
//!
//! An answer is complete when its Content-Length or its last chunk says so; only an answer that says
//! nothing of its length ends with the connection. A body over the reader's cap is cut, and the
//! connection is of no further use. Source: RFC 9110, RFC 9112.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use super::http::Version;
use crate::limits;

/// Why bytes are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// Content-Length is no number or contradicts itself, or a chunk has no valid size.
    #[error("the length of the answer's body is not clear")]
    BodyLength,
    /// The connection ended inside the answer's head, or before it.
    #[error("the connection ended before the answer")]
    Ended,
    /// The head is longer than [`limits::HTTP_HEAD_BYTES_MAX`] or has too many header lines.
    #[error("the head of the answer is too long")]
    HeadTooLong,
    /// This is no HTTP answer.
    #[error("the answer is not HTTP")]
    Malformed,
}

/// An answer, as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The `Location` header, when there is one that is not empty.
    pub location: Option<String>,
    /// The body without chunk sizes.
    pub body: Vec<u8>,
    /// All of the body is there.
    pub is_whole: bool,
    /// The connection may carry another request.
    pub keep_alive: bool,
}

/// Reads one answer. Interim answers (1xx) are skipped.
#[derive(Debug)]
pub struct ResponseReader {
    body_bytes_max: usize,
    /// A byte has come, be it of an interim answer.
    has_begun: bool,
    /// Bytes not understood yet: the head, or a chunk's size.
    pending: Vec<u8>,
    state: State,
    response: Response,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Head,
    /// Bytes of the body to come.
    Sized(u64),
    ChunkSize,
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    Trailers,
    UntilEnd,
    Done,
}

/// Longest line of a chunk's size with its extensions, or of all trailers.
const CHUNK_LINE_BYTES_MAX: usize = 1024;

impl ResponseReader {
    /// Keeps at most `body_bytes_max` bytes of a body.
    pub fn new(body_bytes_max: usize) -> Self {
        Self {
            body_bytes_max,
            has_begun: false,
            pending: Vec::new(),
            state: State::Head,
            response: Response::default(),
        }
    }

    /// Takes bytes from the connection; true when the answer is complete or cut.
    ///
    /// # Errors
    /// The bytes are no answer; the connection is of no further use.
    pub fn input(&mut self, mut bytes: &[u8]) -> Result<bool, ResponseError> {
        self.has_begun |= !bytes.is_empty();
        while !bytes.is_empty() && self.state != State::Done {
            bytes = match self.state {
                State::Head => self.head(bytes)?,
                State::Sized(left) | State::Chunk(left) => self.body(bytes, left),
                State::ChunkSize | State::ChunkEnd | State::Trailers => self.line(bytes)?,
                State::UntilEnd => {
                    self.keep(bytes);
                    &[]
                }
                State::Done => &[],
            };
        }
        if !bytes.is_empty() {
            // More than was asked for: whatever it is, it answers no request.
            self.response.keep_alive = false;
        }
        Ok(self.state == State::Done)
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// The head was not complete.
    pub fn end(&mut self) -> Result<(), ResponseError> {
        match self.state {
            State::Head => return Err(ResponseError::Ended),
            State::UntilEnd => self.response.is_whole = true,
            _ => {}
        }
        self.response.keep_alive = false;
        self.state = State::Done;
        Ok(())
    }

    /// Whether a byte of the answer, or of an interim one, has come: the request was read.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// The answer once its head is there.
    pub fn response(self) -> Option<Response> {
        if self.state == State::Head { None } else { Some(self.response) }
    }

    fn head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], ResponseError> {
        let before = self.pending.len();
        let room = limits::HTTP_HEAD_BYTES_MAX.saturating_sub(before).min(bytes.len());
        self.pending.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        let mut slots = [httparse::EMPTY_HEADER; limits::HTTP_HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut slots);
        let head_len = match parsed.parse(&self.pending) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if self.pending.len() >= limits::HTTP_HEAD_BYTES_MAX => {
                return Err(ResponseError::HeadTooLong);
            }
            Ok(httparse::Status::Partial) => return Ok(&[]),
            Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::HeadTooLong),
            Err(_) => return Err(ResponseError::Malformed),
        };
        let status = parsed.code.unwrap_or_default();
        let version = if parsed.version == Some(1) { Version::Http11 } else { Version::Http10 };
        let head = Head::new(parsed.headers)?;
        self.pending = Vec::new();
        let rest = bytes.get(head_len.saturating_sub(before)..).unwrap_or_default();
        if status / 100 == 1 {
            return Ok(rest);
        }
        self.response.status = status;
        self.response.location = head.location;
        self.response.keep_alive = match version {
            Version::Http11 => !head.closes,
            Version::Http10 => head.keeps && !head.closes,
        };
        self.state = match head.length {
            _ if matches!(status, 204 | 304) => State::Done,
            _ if head.is_chunked => State::ChunkSize,
            Some(0) => State::Done,
            Some(length) => State::Sized(length),
            None => State::UntilEnd,
        };
        if self.state == State::UntilEnd {
            self.response.keep_alive = false;
        }
        self.response.is_whole = self.state == State::Done;
        Ok(rest)
    }

    fn body<'a>(&mut self, bytes: &'a [u8], left: u64) -> &'a [u8] {
        let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (body, rest) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
        if !self.keep(body) {
            return &[];
        }
        let left = left - count as u64;
        self.state = match self.state {
            State::Chunk(_) if left == 0 => State::ChunkEnd,
            State::Chunk(_) => State::Chunk(left),
            _ if left == 0 => self.whole(),
            _ => State::Sized(left),
        };
        rest
    }

    /// Reads up to the end of a line.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], ResponseError> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        let (line, rest) = bytes.split_at_checked(taken).unwrap_or((bytes, &[]));
        if self.pending.len() + line.len() > CHUNK_LINE_BYTES_MAX {
            return Err(ResponseError::BodyLength);
        }
        self.pending.extend_from_slice(line);
        if end.is_none() {
            return Ok(rest);
        }
        let line = std::mem::take(&mut self.pending);
        let text = line.trim_ascii();
        self.state = match self.state {
            State::ChunkEnd if text.is_empty() => State::ChunkSize,
            State::ChunkEnd => return Err(ResponseError::BodyLength),
            State::ChunkSize => match chunk_size(text)? {
                0 => State::Trailers,
                size => State::Chunk(size),
            },
            _ if text.is_empty() => self.whole(),
            _ => State::Trailers,
        };
        Ok(rest)
    }

    /// Adds to the body; false when it is full, and then the rest is not read.
    fn keep(&mut self, bytes: &[u8]) -> bool {
        let room = self.body_bytes_max.saturating_sub(self.response.body.len());
        let is_all = bytes.len() <= room;
        self.response.body.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if !is_all {
            self.response.keep_alive = false;
            self.state = State::Done;
        }
        is_all
    }

    fn whole(&mut self) -> State {
        self.response.is_whole = true;
        State::Done
    }
}

/// What the headers say of the body and the connection.
#[derive(Default)]
struct Head {
    location: Option<String>,
    length: Option<u64>,
    is_chunked: bool,
    keeps: bool,
    closes: bool,
}

impl Head {
    fn new(headers: &[httparse::Header<'_>]) -> Result<Self, ResponseError> {
        let mut head = Self::default();
        for header in headers {
            let value = String::from_utf8_lossy(header.value);
            let value = value.trim();
            let has =
                |token: &str| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token));
            match header.name.to_ascii_lowercase().as_str() {
                "location" if !value.is_empty() && head.location.is_none() => {
                    head.location = Some(value.to_owned());
                }
                "content-length" => {
                    let length = value.parse().map_err(|_| ResponseError::BodyLength)?;
                    if head.length.is_some_and(|before| before != length) {
                        return Err(ResponseError::BodyLength);
                    }
                    head.length = Some(length);
                }
                "transfer-encoding" => head.is_chunked |= has("chunked"),
                "connection" => {
                    head.keeps |= has("keep-alive");
                    head.closes |= has("close");
                }
                _ => {}
            }
        }
        Ok(head)
    }
}

fn chunk_size(line: &[u8]) -> Result<u64, ResponseError> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let text = std::str::from_utf8(digits).map_err(|_| ResponseError::BodyLength)?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(ResponseError::BodyLength);
    }
    u64::from_str_radix(text, 16).map_err(|_| ResponseError::BodyLength)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What becomes of an answer whose connection ends after it.
    fn read(bytes: &[u8], max: usize) -> Result<Response, ResponseError> {
        let mut reader = ResponseReader::new(max);
        if !reader.input(bytes)? {
            reader.end()?;
        }
        Ok(reader.response().unwrap())
    }

    #[test]
    fn answers_and_how_they_end() {
        // (answer, status, body, whole, keep alive)
        let table: &[(&str, u16, &str, bool, bool)] = &[
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0", 200, "0", true, true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0more", 200, "0", true, false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n0", 200, "0", false, false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n0", 200, "0", true, false),
            (
                "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\n0",
                200,
                "0",
                true,
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\n0",
                200,
                "0",
                true,
                false,
            ),
            ("HTTP/1.0 403 no\r\n\r\nall of it", 403, "all of it", true, false),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true, true),
            ("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", 302, "", true, true),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\n",
                200,
                "abc0123456789",
                true,
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
                200,
                "ab",
                false,
                false,
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
                201,
                "",
                true,
                true,
            ),
            ("HTTP/1.1 200 OK\n\nlines", 200, "lines", true, false),
        ];
        for (text, status, body, is_whole, keep_alive) in table {
            let found = read(text.as_bytes(), 100).unwrap();
            assert_eq!(
                (found.status, std::str::from_utf8(&found.body).unwrap()),
                (*status, *body),
                "{text:?}"
            );
            assert_eq!((found.is_whole, found.keep_alive), (*is_whole, *keep_alive), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_answer() {
        let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(20_000));
        let table = [
            ("", ResponseError::Ended),
            ("HTTP/1.1 200 OK\r\nContent-Le", ResponseError::Ended),
            ("SSH-2.0-OpenSSH\r\n", ResponseError::Malformed),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", ResponseError::BodyLength),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                ResponseError::BodyLength,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
                ResponseError::BodyLength,
            ),
            (&long, ResponseError::HeadTooLong),
        ];
        for (text, error) in table {
            assert_eq!(read(text.as_bytes(), 100), Err(error), "{text:.60?}");
        }
    }

    #[test]
    fn a_body_over_the_cap_is_cut_and_ends_the_connection() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n0123456789";
        let mut reader = ResponseReader::new(4);
        assert_eq!(reader.input(text.as_bytes()), Ok(true));
        let found = reader.response().unwrap();
        assert_eq!((found.body.as_slice(), found.is_whole), (&b"0123"[..], false));
        assert!(!found.keep_alive);
    }

    #[test]
    fn a_location_is_taken_whatever_its_case() {
        let text = "HTTP/1.1 302 Found\r\nLOCATION:  other \r\nContent-Length: 0\r\n\r\n";
        assert_eq!(read(text.as_bytes(), 1).unwrap().location.as_deref(), Some("other"));
        let empty = "HTTP/1.1 302 Found\r\nLocation: \r\nContent-Length: 0\r\n\r\n";
        assert_eq!(read(empty.as_bytes(), 1).unwrap().location, None);
    }

    fn answer_like() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            "Content-Length: [0-9]{1,3}",
            Just("Transfer-Encoding: chunked".to_owned()),
            "[a-zA-Z-]{1,10}: [ -~]{0,20}",
        ];
        let body = prop_oneof!["[0-9a-f]{1,2}\r\n[ -~]{0,20}\r\n0\r\n\r\n", "[ -~]{0,40}"];
        ("HTTP/1.[01] [0-9]{3} OK", proptest::collection::vec(line, 0..4), body).prop_map(
            |(first, lines, body)| {
                format!("{first}\r\n{}\r\n\r\n{body}", lines.join("\r\n")).into_bytes()
            },
        )
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes, 16);
        }

        /// However the bytes come in, the answer is the same.
        #[test]
        fn splits_do_not_matter(bytes in answer_like(), cut in 0..100_usize) {
            let whole = read(&bytes, 30);
            let mut reader = ResponseReader::new(30);
            let cut = cut.min(bytes.len());
            let mut split = reader.input(&bytes[..cut]);
            if split == Ok(false) || split == Ok(true) {
                split = reader.input(&bytes[cut..]);
            }
            let split = match split {
                Ok(true) => Ok(()),
                Ok(false) => reader.end(),
                Err(error) => Err(error),
            };
            prop_assert_eq!(split.map(|()| reader.response().unwrap()), whole);
        }
    }
}
