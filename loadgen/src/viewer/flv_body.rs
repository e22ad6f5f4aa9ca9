//! The answer to a request for HTTP-FLV: head, transfer coding, tags.

use shardcast::proto::flv::{self, TagReader};
use shardcast::proto::http;

use crate::media::Track;
use crate::stream::Media;
use crate::wire_form::WireForm;

/// A longer response head is refused.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A longer line between chunks is refused.
const CHUNK_LINE_BYTES_MAX: usize = 256;

/// Reads one answer.
#[derive(Debug)]
pub(crate) struct FlvBody {
    head: Option<Vec<u8>>,
    chunks: Option<Dechunker>,
    tags: TagReader,
    /// Bytes up to the end of the last tag.
    end: u64,
}

/// Takes the chunked transfer coding off (RFC 9112, section 7.1).
#[derive(Debug, Default)]
struct Dechunker {
    line: Vec<u8>,
    /// Bytes of data, then of CR LF, that are still to come.
    data_left: usize,
    trailer_left: usize,
}

impl FlvBody {
    /// Before the first byte of the answer.
    pub(crate) fn new() -> Self {
        Self {
            head: Some(Vec::new()),
            chunks: None,
            tags: TagReader::new(flv::PAYLOAD_LEN_MAX),
            end: 0,
        }
    }

    /// Takes what was received; `sink` gets the media in it.
    pub(crate) fn input(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(Media<'_>),
    ) -> Result<(), String> {
        match &mut self.head {
            None => self.body(bytes, sink),
            Some(head) => {
                head.extend_from_slice(bytes);
                let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
                    return if head.len() > HEAD_BYTES_MAX {
                        Err("the server's answer has no end of its head".to_owned())
                    } else {
                        Ok(())
                    };
                };
                let head = self.head.take().unwrap_or_default();
                let (head, body) = head.split_at(at + 4);
                self.check_head(&String::from_utf8_lossy(head))?;
                self.end = (head.len() + flv::HEADER_LEN) as u64;
                self.body(body, sink)
            }
        }
    }

    /// How tags are written.
    pub(crate) fn form(&self) -> WireForm {
        if self.chunks.is_some() { WireForm::Unknown } else { WireForm::Flv }
    }

    fn check_head(&mut self, head: &str) -> Result<(), String> {
        let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
        if status != "200" {
            let reason = status.parse().map_or("", http::reason);
            return Err(format!("the server answered {status} {reason}"));
        }
        let is_chunked = head.lines().any(|line| {
            let line = line.to_ascii_lowercase();
            line.starts_with("transfer-encoding:") && line.contains("chunked")
        });
        self.chunks = is_chunked.then(Dechunker::default);
        Ok(())
    }

    fn body(&mut self, bytes: &[u8], sink: &mut impl FnMut(Media<'_>)) -> Result<(), String> {
        match &mut self.chunks {
            None => self.tags.push(bytes),
            Some(chunks) => chunks.input(bytes, &mut self.tags)?,
        }
        while let Some(tag) = self.tags.next_tag().map_err(|error| error.to_string())? {
            self.end += flv::tag_len(tag.payload.len()) as u64;
            if let Some(track) = Track::from_type_id(tag.type_id) {
                sink(Media {
                    track,
                    timestamp_ms: tag.timestamp_ms,
                    payload: &tag.payload,
                    end: Some(self.end),
                });
            }
        }
        Ok(())
    }
}

impl Dechunker {
    fn input(&mut self, mut bytes: &[u8], tags: &mut TagReader) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.data_left > 0 {
                let (data, rest) = bytes.split_at(self.data_left.min(bytes.len()));
                tags.push(data);
                self.data_left -= data.len();
                bytes = rest;
            } else if self.trailer_left > 0 {
                self.trailer_left -= 1;
                bytes = &bytes[1..];
            } else {
                self.line.push(bytes[0]);
                bytes = &bytes[1..];
                if self.line.ends_with(b"\n") {
                    self.begin_chunk()?;
                } else if self.line.len() > CHUNK_LINE_BYTES_MAX {
                    return Err("the server's chunked transfer coding is broken".to_owned());
                }
            }
        }
        Ok(())
    }

    fn begin_chunk(&mut self) -> Result<(), String> {
        let line = String::from_utf8_lossy(&self.line);
        let size = line.split([';', '\r', '\n']).next().unwrap_or_default().trim();
        self.data_left = usize::from_str_radix(size, 16)
            .map_err(|_| "the server's chunked transfer coding is broken".to_owned())?;
        self.trailer_left = 2;
        self.line.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut bytes = flv::header(true, true).to_vec();
        for (type_id, size) in [(9, 300), (8, 20), (18, 40), (9, 5)] {
            flv::write_tag(type_id, 40, &vec![0x27; size], &mut |piece| {
                bytes.extend_from_slice(piece);
            })
            .expect("it is short");
        }
        bytes
    }

    fn read(answer: &[u8], piece: usize) -> Result<(Vec<usize>, Option<u64>, WireForm), String> {
        let mut body = FlvBody::new();
        let (mut sizes, mut end) = (Vec::new(), None);
        for bytes in answer.chunks(piece) {
            body.input(bytes, &mut |media| {
                sizes.push(media.payload.len());
                end = media.end;
            })?;
        }
        Ok((sizes, end, body.form()))
    }

    #[test]
    fn plain_bodies_end_where_their_last_tag_ends() {
        let mut answer = b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n\r\n".to_vec();
        answer.extend(file());
        for piece in [1, 7, 10_000] {
            let (sizes, end, form) = read(&answer, piece).expect("it is FLV");
            assert_eq!(sizes, [300, 20, 5]);
            assert_eq!(end, Some(answer.len() as u64));
            assert_eq!(form, WireForm::Flv);
        }
    }

    #[test]
    fn chunked_bodies_are_read() {
        let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for part in file().chunks(50) {
            answer.extend(format!("{:x}\r\n", part.len()).bytes());
            answer.extend_from_slice(part);
            answer.extend_from_slice(b"\r\n");
        }
        for piece in [1, 7, 10_000] {
            let (sizes, _, form) = read(&answer, piece).expect("it is FLV");
            assert_eq!(sizes, [300, 20, 5]);
            assert_eq!(form, WireForm::Unknown);
        }
    }

    #[test]
    fn refusals_say_the_status() {
        let refused = read(b"HTTP/1.1 404 Not Found\r\n\r\n", 5);
        assert_eq!(refused.err().as_deref(), Some("the server answered 404 Not Found"));
    }
}
