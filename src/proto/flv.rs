//! FLV as a stream: file header, tags, and an incremental reader.
//!
//! Source: Adobe FLV specification 10.1, annex E. The writer allocates nothing: pieces go to a
//! sink in order. The reader keeps at most one tag (capped) and what one `push` brought.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use bytes::{Buf, Bytes, BytesMut};

/// Tag type of audio.
pub const TAG_AUDIO: u8 = 8;
/// Tag type of video.
pub const TAG_VIDEO: u8 = 9;
/// Tag type of script data (onMetaData) in AMF0.
pub const TAG_SCRIPT: u8 = 18;

/// Length of the file header with PreviousTagSize0.
pub const HEADER_LEN: usize = 13;
/// Length of a tag's header, before its payload.
pub const TAG_HEADER_LEN: usize = 11;
/// Largest payload of a tag: the field has 24 bits.
pub const PAYLOAD_LEN_MAX: usize = 0xff_ffff;

/// Length of the PreviousTagSize field behind each tag.
const TRAILER_LEN: usize = 4;
/// `DataOffset` beyond this is no header but junk.
const DATA_OFFSET_MAX: u32 = 1024;

/// Why FLV could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlvError {
    /// The stream does not begin with an FLV header.
    #[error("this is not FLV: the header is missing")]
    Header,
    /// A tag whose type is none of audio, video and script data, or that is encrypted.
    #[error("FLV tag type {0} is not known")]
    TagType(u8),
    /// A tag longer than the reader's cap or than the format allows.
    #[error("an FLV tag of {len} bytes is longer than the limit of {max}")]
    TooLong {
        /// Payload length in bytes.
        len: usize,
        /// The cap in bytes.
        max: usize,
    },
}

/// One tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// [`TAG_AUDIO`], [`TAG_VIDEO`] or [`TAG_SCRIPT`].
    pub type_id: u8,
    /// Decoding time in ms, with the extended byte.
    pub timestamp_ms: u32,
    /// The tag's body.
    pub payload: Bytes,
}

/// The file header and PreviousTagSize0.
pub const fn header(audio: bool, video: bool) -> [u8; HEADER_LEN] {
    let flags = ((audio as u8) << 2) | video as u8;
    [b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]
}

/// Bytes that [`write_tag`] hands to its sink for a payload of this length.
pub const fn tag_len(payload_len: usize) -> usize {
    TAG_HEADER_LEN + payload_len + TRAILER_LEN
}

/// Writes one tag with its trailing PreviousTagSize as three slices.
///
/// # Errors
/// [`FlvError::TooLong`] for a payload over [`PAYLOAD_LEN_MAX`]; the sink got nothing then.
pub fn write_tag(
    type_id: u8,
    timestamp_ms: u32,
    payload: &[u8],
    sink: &mut impl FnMut(&[u8]),
) -> Result<(), FlvError> {
    let len = match u32::try_from(payload.len()) {
        Ok(len) if payload.len() <= PAYLOAD_LEN_MAX => len,
        _ => {
            return Err(FlvError::TooLong { len: payload.len(), max: PAYLOAD_LEN_MAX });
        }
    };
    let [_, l2, l1, l0] = len.to_be_bytes();
    let [extended, t2, t1, t0] = timestamp_ms.to_be_bytes();
    sink(&[type_id, l2, l1, l0, t2, t1, t0, extended, 0, 0, 0]);
    sink(payload);
    sink(&(len + TAG_HEADER_LEN as u32).to_be_bytes());
    Ok(())
}

/// Reads FLV from pieces of any size.
///
/// Call [`TagReader::next_tag`] until it answers `None` after each [`TagReader::push`]; then the
/// reader keeps at most one incomplete tag. The first error stays: the stream has lost its shape.
#[derive(Debug)]
pub struct TagReader {
    buffer: BytesMut,
    payload_len_max: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    FileHeader,
    /// The rest of the file header beyond its nine bytes.
    HeaderRest(usize),
    /// PreviousTagSize of the tag before, then a tag header.
    TagHeader,
    Payload {
        type_id: u8,
        timestamp_ms: u32,
        len: usize,
    },
    Failed(FlvError),
}

impl TagReader {
    /// A reader that refuses payloads of more than `payload_len_max` bytes.
    pub fn new(payload_len_max: usize) -> Self {
        Self { buffer: BytesMut::new(), payload_len_max, state: State::FileHeader }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Failed(_)) {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next complete tag, or `None` when more bytes are needed.
    ///
    /// A tag is handed out as soon as its payload is there, without waiting for the
    /// PreviousTagSize behind it. That field's value is not checked: writers in the wild leave
    /// it 0.
    pub fn next_tag(&mut self) -> Result<Option<Tag>, FlvError> {
        let result = self.advance();
        if let Err(error) = result {
            self.state = State::Failed(error);
            self.buffer = BytesMut::new();
        }
        result
    }

    /// Bytes that wait for the rest of their tag.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    fn advance(&mut self) -> Result<Option<Tag>, FlvError> {
        loop {
            match self.state {
                State::FileHeader => {
                    let Some(&[f, l, v, version, _flags, o3, o2, o1, o0]) =
                        self.buffer.first_chunk::<9>()
                    else {
                        return Ok(None);
                    };
                    let offset = u32::from_be_bytes([o3, o2, o1, o0]);
                    if [f, l, v, version] != *b"FLV\x01" || !(9..=DATA_OFFSET_MAX).contains(&offset)
                    {
                        return Err(FlvError::Header);
                    }
                    self.buffer.advance(9);
                    self.state = State::HeaderRest(offset as usize - 9);
                }
                State::HeaderRest(len) => {
                    if self.buffer.len() < len {
                        return Ok(None);
                    }
                    self.buffer.advance(len);
                    self.state = State::TagHeader;
                }
                State::TagHeader => {
                    let Some(&[_, _, _, _, kind, l2, l1, l0, t2, t1, t0, extended, _, _, _]) =
                        self.buffer.first_chunk::<{ TRAILER_LEN + TAG_HEADER_LEN }>()
                    else {
                        return Ok(None);
                    };
                    if !matches!(kind, TAG_AUDIO | TAG_VIDEO | TAG_SCRIPT) {
                        return Err(FlvError::TagType(kind));
                    }
                    let len = u32::from_be_bytes([0, l2, l1, l0]) as usize;
                    if len > self.payload_len_max {
                        return Err(FlvError::TooLong { len, max: self.payload_len_max });
                    }
                    self.buffer.advance(TRAILER_LEN + TAG_HEADER_LEN);
                    self.state = State::Payload {
                        type_id: kind,
                        timestamp_ms: u32::from_be_bytes([extended, t2, t1, t0]),
                        len,
                    };
                }
                State::Payload { type_id, timestamp_ms, len } => {
                    if self.buffer.len() < len {
                        return Ok(None);
                    }
                    self.state = State::TagHeader;
                    return Ok(Some(Tag {
                        type_id,
                        timestamp_ms,
                        payload: self.buffer.split_to(len).freeze(),
                    }));
                }
                State::Failed(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(tags: &[Tag]) -> Vec<u8> {
        let mut out = header(true, true).to_vec();
        for tag in tags {
            let before = out.len();
            write_tag(tag.type_id, tag.timestamp_ms, &tag.payload, &mut |piece| {
                out.extend_from_slice(piece);
            })
            .unwrap();
            assert_eq!(out.len() - before, tag_len(tag.payload.len()));
        }
        out
    }

    fn read(pieces: &[&[u8]], max: usize) -> Result<Vec<Tag>, FlvError> {
        let mut reader = TagReader::new(max);
        let mut tags = Vec::new();
        for piece in pieces {
            reader.push(piece);
            while let Some(tag) = reader.next_tag()? {
                tags.push(tag);
            }
            assert!(reader.buffered() < max + 15);
        }
        Ok(tags)
    }

    #[test]
    fn a_tag_on_the_wire() {
        let tag = Tag {
            type_id: TAG_VIDEO,
            timestamp_ms: 0xa1b2_c3d4,
            payload: Bytes::from_static(&[0x17, 1]),
        };
        let expected = [
            &b"FLV\x01\x05\0\0\0\x09\0\0\0\0"[..],
            &[9, 0, 0, 2, 0xb2, 0xc3, 0xd4, 0xa1, 0, 0, 0],
            &[0x17, 1],
            &[0, 0, 0, 13],
        ]
        .concat();
        assert_eq!(written(std::slice::from_ref(&tag)), expected);
        // The last tag needs no trailer.
        assert_eq!(read(&[&expected[..expected.len() - 4]], 100), Ok(vec![tag]));
    }

    #[test]
    fn header_flags() {
        assert_eq!(header(true, false)[4], 4);
        assert_eq!(header(false, true)[4], 1);
    }

    #[test]
    fn a_longer_file_header_is_skipped() {
        let mut bytes = b"FLV\x01\x05\0\0\0\x0bxx".to_vec();
        bytes.extend_from_slice(&[0, 0, 0, 0, 8, 0, 0, 1, 0, 0, 7, 0, 0, 0, 0, 0xaf]);
        let tags = read(&[&bytes], 100).unwrap();
        assert_eq!((tags[0].timestamp_ms, tags.len()), (7, 1));
    }

    #[test]
    fn bad_input_is_refused_and_stays_refused() {
        assert_eq!(read(&[b"GIF89a   "], 100), Err(FlvError::Header));
        assert_eq!(read(&[b"FLV\x01\x05\xff\0\0\x09"], 100), Err(FlvError::Header));
        let mut reader = TagReader::new(10);
        reader.push(&header(true, true));
        reader.push(&[9, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0]);
        let error = FlvError::TooLong { len: 11, max: 10 };
        assert_eq!(reader.next_tag(), Err(error));
        reader.push(&[0; 100]);
        assert_eq!((reader.next_tag(), reader.buffered()), (Err(error), 0));
        let encrypted = [&header(true, true)[..], &[0x29, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(read(&[&encrypted], 10), Err(FlvError::TagType(0x29)));
    }

    #[test]
    fn a_payload_over_24_bits_is_not_written() {
        let payload = vec![0; PAYLOAD_LEN_MAX + 1];
        let mut calls = 0;
        let result = write_tag(TAG_VIDEO, 0, &payload, &mut |_| calls += 1);
        assert!(matches!(result, Err(FlvError::TooLong { .. })));
        assert_eq!(calls, 0);
    }

    fn any_tag() -> impl Strategy<Value = Tag> {
        (
            prop_oneof![Just(TAG_AUDIO), Just(TAG_VIDEO), Just(TAG_SCRIPT)],
            any::<u32>(),
            proptest::collection::vec(any::<u8>(), 0..60),
        )
            .prop_map(|(type_id, timestamp_ms, payload)| Tag {
                type_id,
                timestamp_ms,
                payload: payload.into(),
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_under_any_split(
            tags in proptest::collection::vec(any_tag(), 0..8),
            sizes in proptest::collection::vec(1usize..40, 1..20),
        ) {
            let bytes = written(&tags);
            let mut pieces = Vec::new();
            let mut rest = &bytes[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, tail) = rest.split_at((*size).min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            prop_assert_eq!(read(&pieces, 60).unwrap(), tags);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let stream = [&header(true, true)[..], &bytes].concat();
            let whole = read(&[&stream], 1000);
            let single: Vec<_> = stream.chunks(1).collect();
            prop_assert_eq!(read(&single, 1000), whole);
        }
    }
}
