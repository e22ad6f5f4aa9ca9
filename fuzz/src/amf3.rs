//! AMF3 values: what holds for AMF0 holds for what they become; the shape of clients' data messages.

use bytes::Bytes;
use shardcast::proto::amf0;
use shardcast::proto::rtmp::message;

/// Marker of AMF0 behind which a value of AMF3 follows.
const AVM_PLUS: u8 = 0x11;

/// One AMF3 value, and whatever follows it as a client of AMF3 sends it.
pub fn run(data: &[u8]) {
    let marked = [&[AVM_PLUS], data].concat();
    super::amf0::run(&marked);
    // The same value is the same behind another, and in a message that says it is AMF3.
    let behind = [&[5], &marked[..]].concat();
    let (alone, second) = (amf0::decode_one(&marked), amf0::decode_all(&behind));
    if let (Ok((value, used)), Ok(values)) = (&alone, &second)
        && *used == marked.len()
    {
        assert_eq!(bytes_of(&values[1]), bytes_of(value));
    }
    let payload = Bytes::from([&[0], &marked[..]].concat());
    assert_eq!(message::amf0_body(message::DATA_AMF3, &payload), marked);
}

/// NaN is not equal to itself: bytes are compared.
fn bytes_of(value: &amf0::Value) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out);
    out
}
