//! FLV: the same tags under any split, and the same again after our writer.

use shardcast::proto::flv::{self, FlvError, Tag, TagReader};

use super::dice::Dice;

const PAYLOAD_LEN_MAX: usize = 1 << 20;

/// An FLV stream, or the tags of one without its header.
pub fn run(data: &[u8]) {
    let mut dice = Dice::of(data);
    let with_header = [&flv::header(true, true)[..], data].concat();
    for stream in [data, &with_header] {
        let whole = read(&[stream]);
        assert_eq!(read(&dice.cut(stream)), whole);
        let (tags, _) = whole;
        let mut out = flv::header(true, false).to_vec();
        for tag in &tags {
            let before = out.len();
            let written =
                flv::write_tag(tag.type_id, tag.timestamp_ms, &tag.payload, &mut |bytes| {
                    out.extend_from_slice(bytes);
                });
            assert_eq!(written, Ok(()));
            assert_eq!(out.len() - before, flv::tag_len(tag.payload.len()));
        }
        assert_eq!(read(&dice.cut(&out)), (tags, None));
    }
}

fn read(pieces: &[&[u8]]) -> (Vec<Tag>, Option<FlvError>) {
    let mut reader = TagReader::new(PAYLOAD_LEN_MAX);
    let mut tags = Vec::new();
    for piece in pieces {
        reader.push(piece);
        loop {
            match reader.next_tag() {
                Ok(Some(tag)) => tags.push(tag),
                Ok(None) => break,
                Err(error) => {
                    reader.push(piece);
                    assert_eq!(reader.next_tag(), Err(error), "an error stays");
                    assert_eq!(reader.buffered(), 0);
                    return (tags, Some(error));
                }
            }
        }
        assert!(reader.buffered() <= PAYLOAD_LEN_MAX + 15);
    }
    (tags, None)
}
