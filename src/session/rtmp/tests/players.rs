//! What players say besides play, clients that speak AMF3, aggregates, and publishers that want to be
//! recorded.

use super::*;
use crate::proto::amf0;

/// The same command in the clothing of AMF3.
fn call_amf3(stream: u32, name: &str, transaction: f64, args: &[u8]) -> Vec<u8> {
    let mut payload = vec![0];
    payload.extend(command::encode(name, transaction, &Value::Null, &[]));
    payload.extend(args);
    message_bytes(stream, message::COMMAND_AMF3, &payload, 128)
}

/// A string behind the marker 0x11.
fn amf3_text(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x11, 0x06, (text.len() << 1 | 1) as u8];
    bytes.extend(text.as_bytes());
    bytes
}

fn player(names: &[&str]) -> Server {
    let mut server = server("");
    server.connect();
    for (index, name) in names.iter().enumerate() {
        server.input(&call(0, "createStream", 2.0, &[]));
        server.input(&call(index as u32 + 1, "play", 0.0, &[(*name).into()]));
    }
    server.said();
    server.words();
    server
}

fn flag(stream: u32, name: &str, value: bool) -> Vec<u8> {
    call(stream, name, 0.0, &[Value::Boolean(value)])
}

#[test]
fn pause_is_answered_and_told_once() {
    for name in ["pause", "pauseRaw"] {
        let mut server = player(&["a"]);
        server.input(&call(1, name, 0.0, &[Value::Boolean(true), 12_345.0.into()]));
        assert_eq!(server.said(), ["onStatus status NetStream.Pause.Notify", "StreamEof(1)"]);
        assert_eq!(server.words(), ["receive 1: true true true"]);
        server.input(&flag(1, name, true));
        assert_eq!(server.words(), [] as [&str; 0], "it has paused already");
        server.said();
        server.input(&flag(1, name, false));
        assert_eq!(server.said(), ["StreamBegin(1)", "onStatus status NetStream.Unpause.Notify"]);
        assert_eq!(server.words(), ["receive 1: true true false"]);
        // What comes together is told as one.
        let both = [flag(1, name, true), flag(1, name, false)].concat();
        server.input(&both);
        assert_eq!(server.said().len(), 4);
        assert_eq!(server.words(), [] as [&str; 0]);
    }
}

#[test]
fn librtmp_pauses_and_seeks_on_message_stream_0() {
    let mut server = player(&["a"]);
    server.input(&flag(0, "pause", true));
    assert_eq!(server.said(), ["onStatus status NetStream.Pause.Notify", "StreamEof(1)"]);
    server.input(&call(0, "seek", 0.0, &[5_000.0.into()]));
    assert_eq!(server.said(), ["onStatus error NetStream.Seek.Failed"]);
    // With two players nobody knows which one is meant.
    let mut server = player(&["a", "b"]);
    server.input(&call(0, "pause", 3.0, &[Value::Boolean(true)]));
    assert_eq!(server.said(), ["_error error NetConnection.Call.Failed"]);
    assert_eq!(server.words(), [] as [&str; 0]);
}

#[test]
fn tracks_are_chosen_while_playing_and_before() {
    let mut server = player(&["a"]);
    server.input(&flag(1, "receiveVideo", false));
    assert_eq!(server.said(), [] as [&str; 0], "switching off is not answered");
    assert_eq!(server.words(), ["receive 1: true false false"]);
    server.input(&[flag(1, "receiveAudio", false), flag(1, "receiveVideo", true)].concat());
    let answer = ["onStatus status NetStream.Seek.Notify", "onStatus status NetStream.Play.Start"];
    assert_eq!(server.said(), answer);
    assert_eq!(server.words(), ["receive 1: false true false"]);

    server.input(&call(0, "createStream", 2.0, &[]));
    server.input(&flag(2, "receiveAudio", false));
    assert_eq!(server.session.reception(2).tracks, Tracks { audio: false, video: true });
    server.input(&call(2, "play", 0.0, &["b".into()]));
    assert_eq!(server.words(), [] as [&str; 0], "the play begins with what was chosen");
    assert_eq!(server.session.reception(2).tracks, Tracks { audio: false, video: true });
}

#[test]
fn a_pause_ends_with_its_play_and_a_choice_of_tracks_does_not() {
    let mut server = player(&["a"]);
    server.input(&flag(1, "receiveAudio", false));
    server.input(&flag(1, "pause", true));
    server.input(&call(1, "play", 0.0, &["b".into()]));
    let expected = Reception { tracks: Tracks { audio: false, video: true }, is_paused: false };
    assert_eq!(server.session.reception(1), expected);
}

#[test]
fn a_pause_before_the_verdict_holds_from_the_beginning() {
    let mut server = server("");
    server.connect();
    server.input(&call(0, "createStream", 2.0, &[]));
    server.is_slow = true;
    server.input(&call(1, "play", 0.0, &["a".into()]));
    server.input(&call(1, "pause", 5.0, &[Value::Boolean(true)]));
    assert!(server.said().contains(&"_error error NetConnection.Call.Failed".to_owned()));
    server.input(&flag(1, "receiveVideo", false));
    server.answer();
    assert_eq!(server.session.reception(1).tracks, Tracks { audio: true, video: false });
    assert_eq!(server.words(), [] as [&str; 0]);
}

#[test]
fn a_live_stream_cannot_be_sought_in_but_goes_on() {
    let mut server = player(&["a"]);
    server.input(&call(1, "seek", 0.0, &[0.0.into()]));
    assert_eq!(server.said(), ["onStatus error NetStream.Seek.Failed"]);
    assert_eq!((server.words(), server.closed), (vec![], None));
}

#[test]
fn who_plays_nothing_is_told_so_when_it_asks() {
    let mut server = server("");
    server.connect();
    server.input(&call(0, "createStream", 2.0, &[]));
    server.said();
    for name in ["pause", "pauseRaw", "seek"] {
        server.input(&call(1, name, 3.0, &[]));
        assert_eq!(server.said(), ["_error error NetConnection.Call.Failed"], "{name}");
        server.input(&call(1, name, 0.0, &[]));
        assert_eq!(server.said(), [] as [&str; 0], "{name}");
    }
    server.input(&call(7, "receiveAudio", 3.0, &[]));
    assert_eq!(server.said(), ["_error error NetConnection.Call.Failed"]);
    assert_eq!(server.closed, None);
}

fn play2(transition: &str, name: &str) -> Vec<u8> {
    let options =
        Value::object([("streamName", Value::from(name)), ("transition", Value::from(transition))]);
    call(1, "play2", 0.0, &[options])
}

#[test]
fn play2_plays_the_old_stream_until_the_new_one_is_granted() {
    let mut server = player(&["a"]);
    server.is_slow = true;
    server.input(&play2("switch", "b"));
    server.input(&flag(1, "receiveAudio", false));
    assert_eq!(server.words_but_asks(), ["receive 1: false true false"], "of the old one");
    assert_eq!(server.said(), [] as [&str; 0]);
    server.drive(|session, io| {
        session.stream_down(1, io);
        Ok(())
    });
    let down = ["onStatus status NetStream.Play.UnpublishNotify", "StreamEof(1)"];
    assert_eq!(server.said(), down, "the old one");
    server.answer();
    assert_eq!(server.words(), ["end play 1"]);
    assert_eq!(server.said(), ["StreamBegin(1)", "onStatus status NetStream.Play.Transition"]);
    assert_eq!(server.session.played(1).map(|name| name.stream()), Some("b"));
}

#[test]
fn play2_says_that_its_transition_is_complete() {
    let mut server = player(&["a"]);
    server.input(&play2("swap", "b"));
    let text = String::from_utf8_lossy(&server.out).into_owned();
    assert!(text.contains("onPlayStatus"), "{text}");
    assert!(text.contains("NetStream.Play.TransitionComplete"), "{text}");
}

#[test]
fn play2_without_something_played_is_play_and_stop_stops() {
    let mut server = player(&[]);
    server.input(&call(0, "createStream", 2.0, &[]));
    server.said();
    server.input(&play2("switch", "a"));
    let started = [
        "StreamBegin(1)",
        "onStatus status NetStream.Play.Reset",
        "onStatus status NetStream.Play.Start",
    ];
    assert_eq!(server.said(), started);
    server.input(&play2("append", "b"));
    assert_eq!(server.said(), ["onStatus error NetStream.Play.Failed"]);
    server.words();
    server.input(&play2("reset", "b"));
    assert_eq!(
        (server.words(), server.said()),
        (vec!["end play 1".to_owned()], started.map(str::to_owned).to_vec())
    );
    server.input(&call(1, "play2", 0.0, &[Value::Null]));
    assert_eq!(server.said(), ["onStatus error NetStream.InvalidArg"]);
    server.input(&play2("stop", ""));
    assert_eq!(server.words(), ["end play 1"]);
    assert_eq!(server.closed, None);
}

#[test]
fn a_refused_play2_closes_as_a_refused_play_does() {
    let mut server = player(&["a"]);
    server.refuse = Some(("play", RefusalReason::Denied));
    server.input(&play2("switch", "b"));
    assert_eq!(server.said(), ["onStatus error NetStream.Play.Failed"]);
    assert!(matches!(server.closed, Some(CloseReason::Refused(_))));
}

#[test]
fn fc_subscribe_and_unsubscribe_are_answered() {
    let mut server = player(&[]);
    server.input(&call(0, "FCSubscribe", 3.0, &["a".into()]));
    assert_eq!(server.said(), ["_result", "onFCSubscribe status NetStream.Play.Start"]);
    // librtmp closes the connection at onFCUnsubscribe.
    server.input(&call(0, "FCUnsubscribe", 4.0, &["a".into()]));
    assert_eq!(server.said(), ["_result"]);
}

#[test]
fn a_stream_that_is_deleted_frees_its_id() {
    let mut server = player(&["a", "b"]);
    server.input(&flag(1, "receiveAudio", false));
    server.input(&call(0, "deleteStream", 0.0, &[1.0.into()]));
    assert_eq!(server.words(), ["receive 1: false true false", "end play 1"]);
    server.input(&call(0, "createStream", 5.0, &[]));
    let id = server.session.streams.iter().map(|stream| stream.id).collect::<Vec<_>>();
    assert_eq!(id, [2, 1]);
    assert_eq!(server.session.reception(1), Reception::default(), "nothing of the old one is left");
}

#[test]
fn publishers_that_want_to_be_recorded_are_live() {
    for (kind, said) in [
        ("record", Some("record")),
        ("APPEND", Some("append")),
        ("appendWithGap", Some("appendWithGap")),
        ("live", None),
    ] {
        let mut server = server("");
        server.connect();
        server.input(&call(0, "createStream", 4.0, &[]));
        server.input(&call(1, "publish", 5.0, &["s".into(), kind.into()]));
        let said_to_it = server.said();
        let start = "onStatus status NetStream.Publish.Start".to_owned();
        assert_eq!(said_to_it.last(), Some(&start), "{kind}");
        assert!(!said_to_it.iter().any(|it| it.contains("Record")), "{said_to_it:?}");
        let expected: Vec<String> =
            said.into_iter().map(|word| format!("not recorded 1 {word}")).collect();
        assert_eq!(server.words(), expected);
    }
}

#[test]
fn connect_repeats_the_object_encoding_that_there_is() {
    for (asked, answered) in [(3.0, 3.0), (0.0, 0.0), (1.0, 0.0), (f64::NAN, 0.0)] {
        let mut server = server("");
        server.handshake();
        let object = Value::object([
            ("app", Value::from("live")),
            ("tcUrl", Value::from("rtmp://localhost/live")),
            ("objectEncoding", Value::from(asked)),
        ]);
        let payload = command::encode("connect", 1.0, &object, &[]);
        server.input(&message_bytes(0, message::COMMAND_AMF0, &payload, 128));
        let key = [&b"objectEncoding"[..], &[0]].concat();
        let at = server.out.windows(key.len()).position(|part| part == key).unwrap() + key.len();
        let value = f64::from_be_bytes(server.out[at..at + 8].try_into().unwrap());
        assert_eq!(value, answered, "{asked}");
        assert!(
            server.said().contains(&"_result status NetConnection.Connect.Success".to_owned()),
            "in AMF0, like the question"
        );
    }
}

#[test]
fn a_client_that_speaks_amf3_is_answered_in_its_clothing() {
    let mut server = server("");
    server.connect();
    server.input(&call_amf3(0, "createStream", 2.0, &[]));
    assert_eq!(server.said(), ["amf3 _result"]);
    server.input(&call_amf3(1, "play", 0.0, &amf3_text("cam")));
    let started = [
        "StreamBegin(1)",
        "amf3 onStatus status NetStream.Play.Reset",
        "amf3 onStatus status NetStream.Play.Start",
    ];
    assert_eq!(server.said(), started);
    assert_eq!(server.session.played(1).map(|name| name.stream()), Some("cam"));
    server.input(&call_amf3(1, "pause", 0.0, &[0x11, 0x03]));
    assert_eq!(server.said(), ["amf3 onStatus status NetStream.Pause.Notify", "StreamEof(1)"]);
    // NetStreamPlayOptions, a typed object with references, as Flash sends it.
    let options = [
        &[0x11, 0x0A, 0x23, 0x01][..],
        &[21],
        b"streamName",
        &[21],
        b"transition",
        &[0x06, 0x07],
        b"new",
        &[0x06, 0x0D],
        b"switch",
    ]
    .concat();
    server.input(&call_amf3(1, "play2", 0.0, &options));
    assert_eq!(server.session.played(1).map(|name| name.stream()), Some("new"));
    // Who falls back to AMF0 is answered in AMF0.
    server.said();
    server.input(&call(0, "createStream", 9.0, &[]));
    assert_eq!(server.said(), ["_result"]);
}

#[test]
fn amf3_that_cannot_be_read_closes() {
    for args in [&[0x11, 0x42][..], &[0x11], &[0x11, 0x0A, 0x07, 0x03, b'x']] {
        let mut server = server("");
        server.connect();
        server.input(&call_amf3(0, "createStream", 2.0, args));
        assert!(matches!(server.closed, Some(CloseReason::Protocol(_))), "{args:x?}");
    }
}

#[test]
fn data_messages_of_amf3_reach_viewers_as_amf0() {
    let mut server = server("");
    server.connect();
    server.input(&call(0, "createStream", 4.0, &[]));
    server.input(&publish("s"));
    server.words();
    // @setDataFrame, onMetaData in AMF0, then an AMF3 object {width: 640}.
    let mut payload = vec![0];
    for name in ["@setDataFrame", "onMetaData"] {
        amf0::write_string(&mut payload, name);
    }
    payload.extend([0x11, 0x0A, 0x0B, 0x01, 0x0B]);
    payload.extend(b"width");
    payload.extend([0x04, 0x85, 0x00, 0x01]);
    server.input(&media(message::DATA_AMF3, &payload));
    // A value that cannot be read is not passed on, and is no reason to close.
    server.input(&media(message::DATA_AMF3, &[0, 2, 0, 1, b'x', 0x11, 0x42]));
    let mut expected = Vec::new();
    amf0::write_string(&mut expected, "onMetaData");
    Value::object([("width", Value::from(640.0))]).encode(&mut expected);
    let [Event::Media(media)] = &server.events[..] else { panic!("{:?}", server.events) };
    assert!(media.is_metadata);
    assert_eq!(media.payload, expected);
    assert_eq!(server.closed, None);
}

#[test]
fn aggregates_are_taken_apart() {
    let mut server = server("");
    server.connect();
    server.input(&call(0, "createStream", 4.0, &[]));
    server.input(&publish("s"));
    server.words();
    let mut payload = Vec::new();
    for (kind, time_ms, body) in [
        (message::VIDEO, 1_000, KEYFRAME),
        (message::AUDIO, 1_010, &[0xAF, 1, 5]),
        (message::COMMAND_AMF0, 1_020, b"command"),
        (message::AGGREGATE, 1_030, b"nested"),
        (message::VIDEO, 1_040, KEYFRAME),
    ] {
        crate::proto::flv::write_tag(kind, time_ms, body, &mut |part| payload.extend(part))
            .unwrap();
    }
    server.input(&media(message::AGGREGATE, &payload));
    let times: Vec<u32> = server
        .events
        .iter()
        .map(|event| match event {
            Event::Media(media) => media.timestamp_ms,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(times, [0, 10, 40]);
    assert_eq!(server.words(), ["media 1 9", "media 1 8", "media 1 9"]);
    server.input(&media(message::AGGREGATE, &payload[..payload.len() - 6]));
    assert!(matches!(server.closed, Some(CloseReason::Protocol(_))));
}
