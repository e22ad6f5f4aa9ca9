//! Every cap that is not an operator's key, in one place, with what happens at the cap.

use std::time::Duration;

/// Threads of the control shard for what blocks (look-ups of names, /proc); further work waits for one.
pub const BLOCKING_THREADS: usize = 4;
/// Look-ups of names for hooks under way; further ones wait. A name server that is silent leaves a thread to
/// others.
pub const HOOK_LOOK_UPS_MAX: usize = BLOCKING_THREADS - 1;
/// Messages larger than this are refused whatever `rtmp.max_message` says: the field is 24 bits.
pub const RTMP_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Messages of a client whose connect is not accepted yet; a longer one closes the connection. Connect
/// commands have hundreds of bytes, and without this everybody could make the server keep 32 MiB.
pub const RTMP_UNACCEPTED_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// A peer that asks for a larger chunk size gets this one (nginx-rtmp #1042: 2 GB allocated).
pub const RTMP_CHUNK_SIZE_MAX: u32 = 16 * 1024 * 1024;
/// Chunk streams that one connection may keep open; one more closes the connection.
pub const RTMP_CHUNK_STREAMS_MAX: usize = 64;
/// Messages in one aggregate message; one more closes the connection.
pub const AGGREGATE_MESSAGES_MAX: usize = 1024;
/// Nesting of AMF values; deeper values are refused.
pub const AMF_DEPTH_MAX: usize = 16;
/// AMF values in one message; more are refused.
pub const AMF_VALUES_MAX: usize = 4096;
/// Bytes that the references of one AMF message may stand for; more are refused.
pub const AMF_REFERENCE_BYTES_MAX: usize = 64 * 1024;
/// Size of an HTTP request head; more is answered 431. Also of the requests that wait while one before
/// them is answered; with more, the connection is closed behind that answer.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header lines of an HTTP request; more are answered 431.
pub const HTTP_HEADERS_MAX: usize = 64;
/// A message of a WebSocket viewer, who has nothing to say; a longer one closes the connection.
pub const WEBSOCKET_VIEWER_MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// A message of a signalling client: an offer with many candidates has some 20 KiB. A longer one closes the
/// connection with code 1009.
pub const ROOM_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Messages of a signalling client that are carried out at once; more are dropped and answered with an
/// error, once a second.
pub const ROOM_MESSAGES_AT_ONCE: u32 = 200;
/// Messages of a signalling client per second over time.
pub const ROOM_MESSAGES_PER_S: u32 = 50;
/// Bytes of those messages at once; more are dropped likewise.
pub const ROOM_BYTES_AT_ONCE: u32 = 512 * 1024;
/// Bytes of those messages per second over time.
pub const ROOM_BYTES_PER_S: u32 = 128 * 1024;
/// Messages of a signalling client that wait for the store; one more is dropped and
/// answered with an error.
pub const ROOM_MESSAGES_WAITING: usize = 256;
/// Length of app, instance, stream or vhost after decoding; longer names are refused.
pub const NAME_BYTES_MAX: usize = 512;
/// Envelopes that a lane of the mesh holds; at the cap media is dropped up to the next join point and
/// notices wait with the sender.
pub const MESH_LANE_ENVELOPES_MAX: usize = 256;
/// Bytes of the frames of one envelope; further frames of the turn are dropped up to the next join point.
pub const MESH_ENVELOPE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Notices of one envelope; more wait for the next turn.
pub const MESH_ENVELOPE_NOTICES_MAX: usize = 4096;
/// Connections that wait for a shard to take them; one more is closed and counted.
pub const INBOX_CONNECTIONS_MAX: usize = 1024;
/// What a stream may be held at most; a longer hold is refused in the configuration.
pub const HOLD_MAX: Duration = Duration::from_secs(1);
/// Connections that have gone to another shard and that orders to end them are still sent after; of the
/// oldest one more it is not known any more.
pub const DEPARTED_CONNECTIONS_MAX: usize = 1024;
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
/// A connection that has no verdict of the control shard by then, on top of what all hooks of a question
/// may take together, is refused. Longer than a take-over, which the control shard ends itself.
pub const VERDICT_WAIT_MAX: Duration = Duration::from_secs(90);
/// Bytes of a fetched stream that are kept while the verdict on its name is awaited; more end the attempt.
pub const RELAY_HELD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Another server must accept a stream within this time after the connection stands; else the attempt ends.
pub const RELAY_OPENING_MAX: Duration = Duration::from_secs(10);
/// A source that has accepted to send a stream, and sends nothing for so long, gives way to another one.
pub const RELAY_SOURCE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Connections to other servers that are being opened at a time; more wait.
pub const RELAY_DIALS_MAX: usize = 64;
/// Of these, those to one host and port; more wait, and keep no other host waiting.
pub const RELAY_DIALS_PER_HOST_MAX: usize = 8;
/// Of the same, those that only sources may have, the owners of copies included: viewers wait for them.
pub const RELAY_DIALS_OF_SOURCES: usize = 16;
/// Of the same, those that only targets may have.
pub const RELAY_DIALS_OF_TARGETS: usize = 16;
/// Addresses of one host that are tried in one attempt, each for [`RELAY_DIAL_MAX`]; further ones are not.
pub const RELAY_ADDRESSES_MAX: usize = 4;
/// Another server's address must accept a connection within this time.
pub const RELAY_DIAL_MAX: Duration = Duration::from_secs(3);
/// Connections to other servers over TLS, each with a thread; one more fails and is tried again.
pub const RELAY_TLS_MAX: usize = 256;
/// Steps of a login with another server that follow each other at once: two in a login that succeeds. With
/// more, the attempt has failed.
pub const RELAY_LOGIN_STEPS_MAX: u32 = 3;
/// The TLS handshake with another server must be done within this time.
pub const RELAY_TLS_HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Bytes that another server does not acknowledge for so long end the connection: its link is down.
pub const RELAY_UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
/// Targets that a hook may name for one stream; with more, the answer is no answer.
pub const RELAY_HOOK_TARGETS_MAX: usize = 64;
/// Relays of the process; one more is refused with a line in the log. What is to be sent on is tried again
/// when there is room.
pub const RELAYS_MAX: usize = 10_000;
/// Message streams per RTMP connection; a further createStream is answered `_error`.
pub const MESSAGE_STREAMS_MAX: usize = 8;
/// Streams and connections that a shard looks at in one turn while it draws up its account for the API;
/// the rest waits for the next turn: 10,000 clients take 20 turns of less than a millisecond.
pub const SURVEY_ITEMS_PER_TURN_MAX: usize = 512;
/// A shard whose account has not come by then is left out of an answer of the API.
pub const SURVEY_WAIT_MAX: Duration = Duration::from_secs(5);
/// The least and the most entries of one page of a list of the API; other wishes are taken for these.
pub const API_PAGE_MIN: usize = 10;
/// See [`API_PAGE_MIN`].
pub const API_PAGE_MAX: usize = 1000;
/// Connections of the API at a time; one more is closed.
pub const API_CONNECTIONS_MAX: usize = 256;
/// Listeners of `/api/v1/events`; one more is answered 503.
pub const EVENT_LISTENERS_MAX: usize = 32;
/// Events that wait for one listener; further ones are lost, and it is told how many.
pub const EVENTS_WAITING_MAX: usize = 1024;
/// Bytes of these events; likewise.
pub const EVENT_BYTES_WAITING_MAX: usize = 1024 * 1024;
/// Events kept for listeners that come back; of older ones they are told how many there were.
pub const EVENTS_KEPT_MAX: usize = 1000;
/// Bytes of these events; likewise.
pub const EVENT_BYTES_KEPT_MAX: usize = 512 * 1024;
/// Calls of hooks under way at one endpoint (scheme, host, port); more wait.
pub const HOOK_CALLS_UNDER_WAY_MAX: usize = 128;
/// Calls that wait for their turn at one endpoint; one more fails, and `on_failure` decides.
pub const HOOK_CALLS_WAITING_MAX: usize = 20_000;
/// Connections to one endpoint that are kept open without a call; one more closes the oldest.
pub const HOOK_IDLE_CONNECTIONS_MAX: usize = HOOK_CALLS_UNDER_WAY_MAX;
/// Bytes of a hook's answer behind its head; the rest is not read and the connection is closed.
pub const HOOK_ANSWER_BODY_BYTES_MAX: usize = 64 * 1024;
/// End events that wait to be told; one more is given up and counted.
pub const HOOK_END_EVENTS_MAX: usize = 100_000;
/// States of one relay that wait to be told; with more, further ones are given up but for the end.
pub const HOOK_RELAY_EVENTS_MAX: usize = 16;
/// Length of a push session's token; a longer one is refused.
pub const PUSH_TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Channels that one push session may name; a session with more is refused.
pub const PUSH_CHANNELS_MAX: usize = 256;
/// What `push.history.messages` may be at most.
pub const PUSH_HISTORY_MESSAGES_MAX: usize = 10_000;
/// Bytes of messages kept for clients that come back, of all channels; at the cap the oldest go.
pub const PUSH_HISTORY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of push messages on their way to the shards; at the cap a post waits, then gets 503.
pub const PUSH_IN_FLIGHT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Push messages on their way to the shards; at the cap a post waits, then gets 503.
pub const PUSH_IN_FLIGHT_MESSAGES_MAX: usize = 8 * 1024;
/// Bytes of push messages that wait for one client; more close its connection.
pub const PUSH_QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// Push messages that wait for one client; more close its connection.
pub const PUSH_QUEUE_MESSAGES_MAX: usize = 4 * 1024;
/// Messages of one client to its channels that wait to be judged; more are refused.
pub const PUSH_CLIENT_SENDS_MAX: u32 = 16;
/// Bytes of clients' messages that a hook is asked about; more are refused.
pub const PUSH_UNJUDGED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Targets of one batch of posts; more are answered 413.
pub const PUSH_BATCH_TARGETS_MAX: usize = 10_000;
/// Body of a request to the API; more is answered 413.
pub const API_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Sends of waiting output per turn of a shard; the rest waits for the next turn, which follows at once.
pub const OUTPUT_SENDS_PER_TURN_MAX: usize = 1024;
/// Streams that are looked for on other nodes of the cluster and not found or missed yet; of one more it is
/// taken for granted that nobody has it.
pub const CLUSTER_LOOKUPS_MAX: usize = 4096;
/// Streams that Redis is asked for at once; the rest waits for its answer.
pub const CLUSTER_LOOKUPS_AT_ONCE: usize = 500;
/// Push messages that wait to be said to other nodes; at the cap a post waits, then gets 503.
pub const CLUSTER_PUSHES_MAX: usize = 4096;
/// Bytes of those messages; at the cap likewise.
pub const CLUSTER_PUSH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of push messages that are said to other nodes at once; the rest waits for Redis to answer.
pub const CLUSTER_PUSH_BYTES_AT_ONCE: usize = 1024 * 1024;
/// Push messages of other nodes that wait for room on the way to this one's members; one more is dropped and
/// counted.
pub const CLUSTER_HEARD_PUSHES_MAX: usize = 1024;
/// Nodes of which the number of the last push message is known; of one more the longest silent is forgotten,
/// and a message that it says twice would be taken twice.
pub const CLUSTER_SPEAKERS_MAX: usize = 1024;
