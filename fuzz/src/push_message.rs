//! Messages of the push channel: whatever an application says arrives whole in every form.

use shardcast::proto::amf0::Value;
use shardcast::proto::push_message::{
    PushAddress, PushBody, PushId, server_sent_event, websocket_frame,
};
use shardcast::proto::push_name::PushName;
use shardcast::proto::rtmp::chunk_reader::{ChunkReader, ReaderLimits};
use shardcast::proto::rtmp::command::Command;

use super::dice::Dice;

/// A body as JSON, or as text when it is none; and the place of a message.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut dice = Dice::of(data);
    let id = PushId { epoch: dice.next(), offset: dice.next() };
    assert_eq!(id.to_string().parse(), Ok(id));
    if let Ok(id) = text.parse::<PushId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    name(&text, data);
    one_body(&PushBody::Text(text.clone().into_owned()), id, &mut dice);
    if let Ok(json) = serde_json::from_str(&text) {
        one_body(&PushBody::of_json(json), id, &mut dice);
    }
}

/// A name is read back, from a path and from JSON.
fn name(text: &str, data: &[u8]) {
    match text.parse::<PushName>() {
        Ok(name) => {
            assert_eq!(name.to_string(), text);
            let json = serde_json::to_string(&name).expect("a name is JSON");
            assert_eq!(serde_json::from_str::<PushName>(&json).ok(), Some(name));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match serde_json::from_str::<PushName>(text) {
        Ok(name) => assert_eq!(name.to_string().parse(), Ok(name)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Some(bytes) = data.first_chunk::<8>() {
        let number = f64::from_be_bytes(*bytes);
        let name = PushName::of_f64(number);
        assert!(name.is_none_or(|it| it.to_string().parse() == Ok(number as i64)));
    }
}

fn one_body(body: &PushBody, id: PushId, dice: &mut Dice) {
    let bytes = body.len();
    assert_eq!(body.is_empty(), bytes == 0);
    rtmp(body, 1 + dice.piece(5_000));
    for address in [PushAddress::Channel((-1).into()), PushAddress::User(7.into())] {
        let json = body.json(&address, id);
        assert!(!json.contains(['\n', '\r']), "a line of an event");
        let said: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(said["id"], id.to_string());
        assert!(address.to_string().split(' ').next().is_some_and(|kind| !said[kind].is_null()));
        if let PushBody::Text(text) = body {
            assert_eq!(said["message"], text.as_str());
        }
        assert!(websocket_frame(&json).ends_with(json.as_bytes()));
        let event = String::from_utf8(server_sent_event(Some(id), &json)).expect("text");
        assert!(event.ends_with("\n\n") && event.lines().count() == 3, "{event}");
    }
}

/// A client of RTMP reads one command with three properties.
fn rtmp(body: &PushBody, chunk_size: usize) {
    let bytes = body.rtmp(chunk_size);
    let mut reader = ChunkReader::new(ReaderLimits {
        message_bytes_max: 1 << 24,
        chunk_streams_max: 64,
        partial_bytes_max: 1 << 25,
    });
    reader.set_chunk_size(chunk_size);
    let read = reader.read(&bytes).expect("chunks");
    assert_eq!(read.consumed, bytes.len());
    let message = read.message.expect("a whole message");
    // The cap on values, and on nesting, is the reader's own.
    let Ok(command) = Command::parse(&message.payload) else { return };
    assert_eq!(command.name, "onStatus");
    let properties = command.args.first().and_then(Value::properties).expect("an object");
    let names: Vec<&str> = properties.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["code", "level", "description"]);
    if let PushBody::Text(text) = body {
        assert_eq!(properties[2].1.as_str(), Some(text.as_str()));
    }
}
