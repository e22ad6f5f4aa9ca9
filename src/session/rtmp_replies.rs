//! What the server says over RTMP besides media: one function per answer, written into the
//! connection's output as complete chunks, so that they may stand between any two messages.

use crate::proto::amf0::Value;
use crate::proto::rtmp::chunk_writer::{MessageHeader, write_full};
use crate::proto::rtmp::cluster_link::EPOCH_PROPERTY;
use crate::proto::rtmp::command::{self, Command, ServerTraits};
use crate::proto::rtmp::enhanced;
use crate::proto::rtmp::message::{self, LimitType, SetPeerBandwidth, UserControl};
use crate::proto::rtmp::status::{self, Status};

/// Where commands go; statuses of streams use another one than media (see `media::Wire`).
const COMMAND_CHUNK_STREAM: u32 = 3;
/// What clients that look for a Flash Media Server want to see.
const FMS_VERSION: &str = "FMS/3,5,7,7009";
/// Flash Media Server's capability bits.
const CAPABILITIES: f64 = 31.0;

/// Writes answers with one chunk size.
#[derive(Debug)]
pub(super) struct Replies<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) chunk_size: usize,
    /// Commands go out as messages of type 17: one byte 0, then AMF0.
    pub(super) speaks_amf3: bool,
}

impl Replies<'_> {
    /// What goes before the answer to connect: windows and chunk size.
    pub(super) fn announce(&mut self, ack_window: u32) {
        self.control(message::WINDOW_ACK_SIZE, &message::window_ack_size(ack_window));
        let bandwidth = SetPeerBandwidth { size: ack_window, limit_type: LimitType::Dynamic };
        self.control(message::SET_PEER_BANDWIDTH, &bandwidth.encode());
        let chunk_size = u32::try_from(self.chunk_size).unwrap_or(u32::MAX);
        self.control(message::SET_CHUNK_SIZE, &message::set_chunk_size(chunk_size));
    }

    pub(super) fn connect_success(&mut self, transaction: f64, object_encoding: f64) {
        let server =
            ServerTraits { fms_version: FMS_VERSION, capabilities: CAPABILITIES, object_encoding };
        let payload = command::connect_result(transaction, server, enhanced::server_properties());
        self.command(0, &payload);
        self.command(0, &command::on_bw_done());
    }

    pub(super) fn connect_error(&mut self, transaction: f64, status: Status, description: &str) {
        let payload = command::connect_error(transaction, status, description, Vec::new());
        self.command(0, &payload);
    }

    pub(super) fn result(&mut self, transaction: f64, info: Value) {
        self.command(0, &command::result(transaction, &Value::Null, info));
    }

    pub(super) fn call_failed(&mut self, transaction: f64, description: &str) {
        let info = Value::object([
            ("level", Value::from("error")),
            ("code", Value::from(status::CALL_FAILED.code)),
            ("description", Value::from(description)),
        ]);
        self.command(0, &command::error(transaction, &Value::Null, info));
    }

    pub(super) fn status(&mut self, stream: u32, status: Status, description: &str, name: &str) {
        let mut extra = Vec::new();
        if !name.is_empty() {
            extra.push(("details".to_owned(), Value::from(name)));
        }
        self.command(stream, &command::on_status(status, description, extra));
    }

    pub(super) fn publish_start(&mut self, stream: u32, name: &str, with_fc: bool) {
        let description = format!("{name} is now published.");
        if with_fc {
            self.command(0, &command::on_fc_publish(&description));
        }
        self.status(stream, status::PUBLISH_START, &description, name);
    }

    pub(super) fn fc_unpublish(&mut self, transaction: f64, name: &str) {
        self.command(0, &command::on_fc_unpublish(&format!("{name} is now unpublished.")));
        self.result(transaction, Value::Undefined);
    }

    pub(super) fn fc_subscribe(&mut self, name: &str) {
        self.command(0, &command::on_fc_subscribe(&format!("Started playing {name}.")));
    }

    /// No `|RtmpSampleAccess` and no Data.Start: Flash alone knew them, and ffmpeg takes each for a
    /// further track of the stream.
    ///
    /// `lease` is the number of this node's ownership: only for another node of the cluster.
    pub(super) fn play_start(&mut self, stream: u32, name: &str, lease: Option<u64>) {
        self.user_control(UserControl::StreamBegin(stream));
        let reset = format!("Playing and resetting {name}.");
        self.status(stream, status::PLAY_RESET, &reset, name);
        let mut extra = vec![("details".to_owned(), Value::from(name))];
        // AMF0 has no whole numbers; these stay below 2^53 until the year 2255.
        extra.extend(lease.map(|epoch| (EPOCH_PROPERTY.to_owned(), Value::Number(epoch as f64))));
        let text = format!("Started playing {name}.");
        self.command(stream, &command::on_status(status::PLAY_START, &text, extra));
    }

    /// A play2 has changed to another stream. OSMF's players change no further until they are told
    /// that this change is complete.
    pub(super) fn transition(&mut self, stream: u32, old: &str, name: &str) {
        self.user_control(UserControl::StreamBegin(stream));
        let text = format!("Transitioned from {old} to {name}.");
        self.status(stream, status::PLAY_TRANSITION, &text, name);
        let payload = command::on_play_status(status::PLAY_TRANSITION_COMPLETE, &text, name);
        self.message(COMMAND_CHUNK_STREAM, stream, message::DATA_AMF0, &payload);
    }

    pub(super) fn publish_notify(&mut self, stream: u32, name: &str) {
        self.user_control(UserControl::StreamBegin(stream));
        let text = format!("{name} is now published.");
        self.status(stream, status::PLAY_PUBLISH_NOTIFY, &text, name);
    }

    pub(super) fn unpublish_notify(&mut self, stream: u32, name: &str) {
        let text = format!("{name} is now unpublished.");
        self.status(stream, status::PLAY_UNPUBLISH_NOTIFY, &text, name);
        self.user_control(UserControl::StreamEof(stream));
    }

    pub(super) fn user_control(&mut self, event: UserControl) {
        self.control(message::USER_CONTROL, &event.encode());
    }

    pub(super) fn acknowledgement(&mut self, bytes_received: u64) {
        self.control(message::ACKNOWLEDGEMENT, &message::acknowledgement(bytes_received));
    }

    /// A command of a client that nobody answers otherwise.
    pub(super) fn unknown(&mut self, call: &Command) {
        if call.transaction != 0.0 {
            self.call_failed(call.transaction, &format!("Method not found ({}).", call.name));
        }
    }

    fn control(&mut self, type_id: u8, payload: &[u8]) {
        self.message(message::CONTROL_CHUNK_STREAM, 0, type_id, payload);
    }

    fn command(&mut self, stream: u32, payload: &[u8]) {
        if self.speaks_amf3 {
            let dressed = [&[0], payload].concat();
            self.message(COMMAND_CHUNK_STREAM, stream, message::COMMAND_AMF3, &dressed);
        } else {
            self.message(COMMAND_CHUNK_STREAM, stream, message::COMMAND_AMF0, payload);
        }
    }

    fn message(&mut self, chunk_stream: u32, stream: u32, type_id: u8, payload: &[u8]) {
        let header = MessageHeader {
            chunk_stream_id: chunk_stream,
            message_stream_id: stream,
            type_id,
            timestamp_ms: 0,
        };
        let out = &mut *self.out;
        write_full(&header, payload, self.chunk_size, &mut |bytes| out.extend_from_slice(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::rtmp::chunk_reader::{ChunkReader, ReaderLimits};

    #[test]
    fn the_answer_to_connect_says_in_either_object_what_is_forwarded() {
        let mut out = Vec::new();
        Replies { out: &mut out, chunk_size: 128, speaks_amf3: false }.connect_success(1.0, 0.0);
        let mut reader = ChunkReader::new(ReaderLimits {
            message_bytes_max: 1 << 16,
            chunk_streams_max: 4,
            partial_bytes_max: 1 << 16,
        });
        let message = reader.read(&out).unwrap().message.expect("the answer is whole");
        let answer = Command::parse(&message.payload).unwrap();
        assert_eq!(answer.name, "_result");
        for object in [&answer.object, &answer.args[0]] {
            assert_eq!(object.property("capsEx").and_then(Value::as_f64), Some(15.0));
            for (map, codec) in [("videoFourCcInfoMap", "hvc1"), ("audioFourCcInfoMap", "Opus")] {
                let flags = object.property(map).and_then(|map| map.property(codec));
                assert_eq!(flags.and_then(Value::as_f64), Some(4.0), "{codec}");
            }
            assert!(matches!(object.property("fourCcList"), Some(Value::StrictArray(_))));
        }
    }
}
