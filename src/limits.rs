//! Every cap that is not an operator's key, in one place, with what happens at the cap.

use std::time::Duration;

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
/// Envelopes that a lane of the mesh holds; at the cap media is dropped up to the next join point and
/// notices wait with the sender.
pub const MESH_LANE_ENVELOPES_MAX: usize = 256;
/// Payload bytes of one envelope; further frames of the turn are dropped up to the next join point.
pub const MESH_ENVELOPE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Notices of one envelope; more wait for the next turn.
pub const MESH_ENVELOPE_NOTICES_MAX: usize = 4096;
/// Connections that wait for a shard to take them; one more is closed and counted.
pub const INBOX_CONNECTIONS_MAX: usize = 1024;
/// Bytes read from one connection per turn; the rest waits for the next turn.
pub const READ_BYTES_PER_TURN_MAX: usize = 256 * 1024;
/// Bytes sent to one viewer per pass; the rest waits for the next one.
pub const SEND_BYTES_PER_PASS_MAX: usize = 256 * 1024;
/// Sends between two looks at other work.
pub const SENDS_PER_SLICE_MAX: usize = 256;
/// Control bytes (statuses, pings, short answers) that wait for a client; more close the connection.
pub const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Commands that may arrive while the verdict on connect is awaited; one more closes the connection.
pub const DEFERRED_MESSAGES_MAX: usize = 32;
/// Bytes of those commands; more close the connection.
pub const DEFERRED_BYTES_MAX: usize = 256 * 1024;
/// Header bytes (configuration, metadata) kept of a publisher whose verdict is awaited; other media is
/// dropped.
pub const EARLY_HEADER_BYTES_MAX: usize = 256 * 1024;
/// A connection that has no verdict of the control shard by then is refused. Longer than any wait that
/// the operator can ask for (hooks, a take-over), which the control shard ends itself.
pub const VERDICT_WAIT_MAX: Duration = Duration::from_secs(90);
/// Message streams per RTMP connection; a further createStream is answered `_error`.
pub const MESSAGE_STREAMS_MAX: usize = 8;
/// Connections of the API at a time; one more is closed.
pub const API_CONNECTIONS_MAX: usize = 256;

/// Messages of a signalling client that are carried out at once; more are dropped and answered with an error.
pub const ROOM_MESSAGES_AT_ONCE: u32 = 200;
/// Messages of a signalling client per second over time.
pub const ROOM_MESSAGES_PER_S: u32 = 50;
/// Messages of a signalling client that wait for the store or the application.
pub const ROOM_MESSAGES_WAITING: usize = 256;
