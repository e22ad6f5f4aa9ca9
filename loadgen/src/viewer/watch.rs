//! Watches the first messages of an RTMP connection for their length on the wire.

use shardcast::proto::rtmp::chunk_reader::{ChunkReader, ReaderLimits};
use shardcast::proto::rtmp::{handshake, message};

use crate::media::{Kind, Track};
use crate::stream::Media;
use crate::wire_form::WireForm;

/// What a server sends before the chunks: S0, S1, S2.
pub(crate) const HANDSHAKE_BYTES: u64 = 1 + 2 * handshake::PACKET_BYTES as u64;

/// The first messages of a track may have longer headers than the rest.
const UNEVEN_MESSAGES: u32 = 2;
/// Timestamps from here on are extended.
const EXTENDED: u32 = 0xFF_FFFF;

/// Reads along.
#[derive(Debug)]
pub(crate) struct RtmpWatch {
    handshake_left: u64,
    reader: ChunkReader,
    /// Bytes up to the end of the last message.
    end: u64,
    seen: [u32; 2],
    header_bytes: HeaderBytes,
    ack_window_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeaderBytes {
    Unseen,
    Always(usize),
    Changing,
}

impl RtmpWatch {
    /// From the first byte of the server.
    pub(crate) fn new() -> Self {
        Self {
            handshake_left: HANDSHAKE_BYTES,
            reader: ChunkReader::new(ReaderLimits {
                message_bytes_max: shardcast::limits::RTMP_MESSAGE_BYTES_MAX,
                chunk_streams_max: shardcast::limits::RTMP_CHUNK_STREAMS_MAX,
                partial_bytes_max: 2 * shardcast::limits::RTMP_MESSAGE_BYTES_MAX,
            }),
            end: HANDSHAKE_BYTES,
            seen: [0; 2],
            header_bytes: HeaderBytes::Unseen,
            ack_window_bytes: 0,
        }
    }

    /// Takes what was received; `sink` gets the media in it.
    pub(crate) fn input(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(Media<'_>),
    ) -> Result<(), String> {
        let skipped = self.handshake_left.min(bytes.len() as u64);
        self.handshake_left -= skipped;
        let mut rest = &bytes[skipped as usize..];
        while !rest.is_empty() {
            let read = self.reader.read(rest).map_err(|error| error.to_string())?;
            rest = &rest[read.consumed..];
            let Some(message) = read.message else { break };
            let start = self.end;
            self.end = HANDSHAKE_BYTES + self.reader.bytes_read();
            if message.type_id == message::WINDOW_ACK_SIZE {
                self.ack_window_bytes =
                    message::parse_window_ack_size(&message.payload).unwrap_or(0);
            }
            let Some(track) = Track::from_type_id(message.type_id) else { continue };
            let media = Media {
                track,
                timestamp_ms: message.timestamp_ms,
                payload: &message.payload,
                end: Some(self.end),
            };
            if track.kind(&message.payload) != Kind::Header {
                self.learn(&media, (self.end - start) as usize);
            }
            sink(media);
        }
        Ok(())
    }

    /// What was learnt.
    pub(crate) fn form(&self) -> WireForm {
        match self.header_bytes {
            HeaderBytes::Always(header_bytes) => {
                WireForm::Rtmp { header_bytes, chunk_size: self.reader.chunk_size() }
            }
            _ => WireForm::Unknown,
        }
    }

    /// After so many bytes the server wants to hear of it; 0: never.
    pub(crate) fn ack_window_bytes(&self) -> u32 {
        self.ack_window_bytes
    }

    fn learn(&mut self, media: &Media<'_>, wire_bytes: usize) {
        let seen = &mut self.seen[media.track.index()];
        *seen += 1;
        if *seen <= UNEVEN_MESSAGES {
            return;
        }
        let payload_bytes = media.payload.len();
        let extended = if media.timestamp_ms >= EXTENDED { 4 } else { 0 };
        let further = payload_bytes.div_ceil(self.reader.chunk_size()).saturating_sub(1);
        let bytes = wire_bytes
            .checked_sub(payload_bytes + extended + further * (1 + extended))
            .filter(|bytes| (1..=14).contains(bytes));
        self.header_bytes = match (self.header_bytes, bytes) {
            (HeaderBytes::Unseen, Some(bytes)) => HeaderBytes::Always(bytes),
            (HeaderBytes::Always(known), Some(bytes)) if known == bytes => self.header_bytes,
            _ => HeaderBytes::Changing,
        };
    }
}

#[cfg(test)]
mod tests {
    use shardcast::proto::rtmp::chunk_writer::{ChunkWriter, MessageHeader, write_full};

    use super::*;

    fn watch(messages: impl FnOnce(&mut Vec<u8>)) -> (RtmpWatch, Vec<u64>, usize) {
        let mut bytes = vec![0; HANDSHAKE_BYTES as usize];
        messages(&mut bytes);
        let mut watch = RtmpWatch::new();
        let mut ends = Vec::new();
        for piece in bytes.chunks(700) {
            watch.input(piece, &mut |media| ends.extend(media.end)).expect("these are good chunks");
        }
        (watch, ends, bytes.len())
    }

    fn header(timestamp_ms: u32) -> MessageHeader {
        MessageHeader { chunk_stream_id: 6, message_stream_id: 1, type_id: 9, timestamp_ms }
    }

    fn picture(size: usize) -> Vec<u8> {
        let mut payload = vec![1; size];
        payload[0] = 0x27;
        payload
    }

    #[test]
    fn full_headers_are_learnt() {
        let (watch, ends, length) = watch(|bytes| {
            for index in 0..6 {
                let payload = picture(100 + 90 * index);
                write_full(&header(40 * index as u32), &payload, 128, &mut |piece| {
                    bytes.extend_from_slice(piece);
                });
            }
        });
        assert_eq!(watch.form(), WireForm::Rtmp { header_bytes: 12, chunk_size: 128 });
        assert_eq!(ends.len(), 6);
        assert_eq!(ends.last(), Some(&(length as u64)));
    }

    #[test]
    fn headers_that_change_are_unknown() {
        let (watch, ends, _) = watch(|bytes| {
            let mut writer = ChunkWriter::new();
            for (index, size) in [9, 9, 9, 8, 7, 7, 7].into_iter().enumerate() {
                let payload = picture(size);
                writer.write(&header(40 * index as u32), &payload, bytes);
            }
        });
        assert_eq!(ends.len(), 7);
        assert_eq!(watch.header_bytes, HeaderBytes::Changing);
        assert_eq!(watch.form(), WireForm::Unknown);
    }
}
