//! Every cap that is not an operator's key, in one place, with what happens at the cap.

/// Messages larger than this are refused whatever `rtmp.max_message` says: the field is 24 bits.
pub const RTMP_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A peer that asks for a larger chunk size gets this one (nginx-rtmp #1042: 2 GB allocated).
pub const RTMP_CHUNK_SIZE_MAX: u32 = 16 * 1024 * 1024;
/// Chunk streams that one connection may keep open; one more closes the connection.
pub const RTMP_CHUNK_STREAMS_MAX: usize = 64;
/// Nesting of AMF values; deeper values are refused.
pub const AMF_DEPTH_MAX: usize = 16;
/// AMF values in one message; more are refused.
pub const AMF_VALUES_MAX: usize = 4096;
/// Bytes that the references of one AMF message may stand for; more are refused.
pub const AMF_REFERENCE_BYTES_MAX: usize = 64 * 1024;
/// Size of an HTTP request head; more is answered 431.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header lines of an HTTP request; more are answered 431.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Length of app, instance, stream or vhost after decoding; longer names are refused.
pub const NAME_BYTES_MAX: usize = 512;
