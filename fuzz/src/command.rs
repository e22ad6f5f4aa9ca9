//! Commands and data messages: what is read can be written and read again; answers that quote a
//! client are well-formed whatever it sent.

use bytes::Bytes;
use shardcast::proto::amf0::Value;
use shardcast::proto::rtmp::command::{
    self, Command, CommandError, DataAction, DataMessage, ServerTraits,
};
use shardcast::proto::rtmp::enhanced::AnnouncedCodecs;
use shardcast::proto::rtmp::{message, status};

/// The payload of a command or data message, of AMF0 or in the clothing of AMF3.
pub fn run(data: &[u8]) {
    let payload = Bytes::copy_from_slice(data);
    for type_id in [message::COMMAND_AMF0, message::COMMAND_AMF3] {
        let body = message::amf0_body(type_id, &payload);
        assert!(data.ends_with(&body) && body.len() + 1 >= data.len());
        one_command(&body);
        one_data_message(&body);
    }
}

fn one_command(body: &[u8]) {
    let call = match Command::parse(body) {
        Ok(call) => call,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    // A name of a property may grow beyond what can be written when it is no UTF-8.
    if body.len() > 20_000 {
        return;
    }
    // NaN is not equal to itself: bytes are compared.
    let encoded = call.encode();
    let again = Command::parse(&encoded).expect("what was written can be read");
    assert_eq!(again.encode(), encoded);
    assert_eq!((&again.name, again.args.len()), (&call.name, call.args.len()));
    for index in 0..=call.args.len() {
        assert!(call.str_arg(index).is_none() || call.f64_arg(index).is_none());
    }
    announced(&call.object);
    answers(&call);
}

/// Nobody has announced what stands nowhere.
fn announced(object: &Value) {
    let said = AnnouncedCodecs::of_connect(object);
    let mut bytes = Vec::new();
    object.encode(&mut bytes);
    let stands = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(!said.has_video(*b"hvc1") || stands(b"hvc1") || stands(b"*"));
    assert!(!said.has_audio(*b"Opus") || stands(b"Opus") || stands(b"*"));
}

fn answers(call: &Command) {
    let text = call.str_arg(0).unwrap_or(&call.name);
    let extra = || vec![("details".to_owned(), Value::from(text))];
    let server = ServerTraits { fms_version: text, capabilities: 31.0, object_encoding: 0.0 };
    let table = [
        ("_result", command::result(call.transaction, &call.object, Value::Null)),
        ("_error", command::error(call.transaction, &call.object, Value::Null)),
        ("_result", command::connect_result(call.transaction, server, extra())),
        (
            "_error",
            command::connect_error(call.transaction, status::CONNECT_REJECTED, text, extra()),
        ),
        ("onStatus", command::on_status(status::PLAY_START, text, extra())),
        ("onStatus", command::on_status(status::PLAY_INSUFFICIENT_BW, text, extra())),
        ("onFCPublish", command::on_fc_publish(text)),
        ("onFCUnpublish", command::on_fc_unpublish(text)),
        ("onFCSubscribe", command::on_fc_subscribe(text)),
        ("onBWDone", command::on_bw_done()),
    ];
    for (name, payload) in table {
        let answer = Command::parse(&payload).expect("answers are well-formed");
        assert_eq!(answer.name, name);
    }
    for payload in [
        command::data_status(status::DATA_START),
        command::rtmp_sample_access(call.args.is_empty(), true),
    ] {
        let data = DataMessage::parse(&payload.into()).expect("data messages are well-formed");
        assert_eq!(data.action, DataAction::Send);
        assert!(data.values().is_ok());
    }
}

fn one_data_message(body: &Bytes) {
    match DataMessage::parse(body) {
        Ok(data) => {
            assert!(body.ends_with(&data.payload));
            assert_eq!(data.payload.is_empty(), data.action == DataAction::Clear);
            assert!(!data.is_metadata() || data.name == "onMetaData");
            if let Ok(values) = data.values() {
                assert!(values.len() < body.len());
            }
        }
        Err(CommandError::Amf(_) | CommandError::NoName) => {}
    }
}
