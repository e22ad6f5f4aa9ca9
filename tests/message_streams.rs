//! Several message streams on one connection, clients that speak AMF3, and aggregate messages.

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use shardcast::proto::amf0::{self, Value};
use shardcast::proto::flv::{self, Tag, TagReader};
use shardcast::proto::rtmp::Message;
use shardcast::proto::rtmp::message;

use support::ffmpeg::{Pace, Player, publish};
use support::media::{Media, SHORT, SMALL_VIDEO, Video};
use support::packets::{Packets, Source};
use support::publisher::{Publisher, Script};
use support::rtmp_client::{Encoding, RtmpClient};
use support::scratch::Scratch;
use support::server::Server;
use support::stamp::{Stamp, is_config};
use support::wait::{SOON, eventually};

/// Ten seconds of media and what a loaded machine adds.
const PLAY_LIMIT: Duration = Duration::from_secs(40);
const END_LIMIT: Duration = Duration::from_secs(10);
/// Different from [`SHORT`].
const OTHER: Media =
    Media { seconds: 10, video: Some(Video { gop_frames: 30, ..SMALL_VIDEO }), audio: true };

#[test]
fn a_connection_has_eight_message_streams_and_gets_them_back() {
    let server = Server::start(&[]);
    let mut client = RtmpClient::connected(server.rtmp(), Encoding::Amf0);
    let ids: Vec<u32> = (0..8).map(|_| client.create_stream()).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7, 8]);
    let answer = client.ask("createStream", &[]).command;
    assert_eq!(answer.name, "_error", "{answer:?}");
    let code = answer.args[0].property("code").and_then(Value::as_str);
    assert_eq!(code, Some("NetConnection.Call.Failed"));
    client.tell(0, "deleteStream", &[5.0.into()]);
    assert_eq!(client.create_stream(), 5);
    server.stop();
}

#[test]
fn one_connection_plays_two_streams_bit_exact() {
    let files = [SHORT.file(), OTHER.file()];
    let server = Server::start(&[]);
    let scratch = Scratch::new("two-plays");
    let mut client = RtmpClient::connected(server.rtmp(), Encoding::Amf0);
    let names = ["first", "second"];
    let ids = names.map(|name| {
        let id = client.create_stream();
        client.play(id, name);
        id
    });
    let mut publishers: Vec<_> = (0..2)
        .map(|index| {
            let url = server.rtmp_url(&format!("live/{}", names[index]));
            publish(&files[index], &url, Pace::RealTime)
        })
        .collect();
    let mut received = Vec::new();
    eventually("both publishers end", PLAY_LIMIT, || {
        received.extend(client.take_media());
        publishers.iter_mut().all(|publisher| !publisher.is_running()).then_some(())
    });
    let expected: usize = files.iter().map(|file| media_count(file)).sum();
    eventually("everything is received", END_LIMIT, || {
        received.extend(client.take_media());
        let is_media = |message: &&Message| message.type_id != message::DATA_AMF0;
        (received.iter().filter(is_media).count() >= expected).then_some(())
    });
    for (file, id) in files.iter().zip(ids) {
        let written = scratch.file(&format!("{id}.flv"));
        write_flv(&written, received.iter().filter(|message| message.message_stream_id == id));
        let joined = Source::of_file(file)
            .assert_played(&format!("message stream {id}"), &Packets::of_file(&written));
        assert_eq!((joined.video_skipped, joined.audio_skipped), (0, 0));
    }
    server.stop();
}

#[test]
fn one_connection_plays_a_stream_twice_and_reads_slowly() {
    let server = Server::start(&[]);
    let script = Script {
        frame_interval: Duration::from_millis(40),
        gop_frames: 5,
        keyframe_bytes: 300_000,
        inter_bytes: 100_000,
        audio: false,
    };
    let publisher = Publisher::start(server.rtmp(), "live/twice", script);
    let mut client = RtmpClient::connected(server.rtmp(), Encoding::Amf0);
    let ids = [(); 2].map(|()| {
        let id = client.create_stream();
        client.play(id, "twice");
        id
    });
    let is_frame = |it: &Message| it.type_id == message::VIDEO && !is_config(&it.payload);
    let mut received = ids.map(|_| Vec::new());
    eventually("both have many frames", PLAY_LIMIT, || {
        // Its socket is full by then, in the middle of a message.
        std::thread::sleep(Duration::from_millis(300));
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(200) {
            for message in client.take_media().into_iter().filter(|it| is_frame(it)) {
                let at = ids.iter().position(|id| *id == message.message_stream_id);
                let received: &mut Vec<u64> = &mut received[at.expect("one of ours")];
                let stamp = Stamp::read(&message.payload);
                assert!(received.last().is_none_or(|last| *last < stamp.number), "in order");
                received.push(stamp.number);
            }
        }
        received.iter().all(|it| it.len() > 60).then_some(())
    });
    // Nor is it tried all the time: twenty-five frames a second, and what was refused now and then.
    std::thread::sleep(Duration::from_secs(1));
    let before = server.api().snapshot().sum("passes");
    std::thread::sleep(Duration::from_secs(1));
    let passes = server.api().snapshot().sum("passes") - before;
    assert!(passes < 150, "{passes} passes in a second");
    let refused = server.api().snapshot().sum("sends_refused");
    assert!(refused > 0, "the client is too slow for its socket");
    publisher.say_goodbye();
    server.stop();
}

#[test]
fn one_connection_publishes_two_streams_bit_exact() {
    let files = [SHORT.file(), OTHER.file()];
    let server = Server::start(&[]);
    let scratch = Scratch::new("two-publishers");
    let names = ["live/first", "live/second"];
    let mut players: Vec<Player> = names
        .iter()
        .map(|name| {
            Player::start(&server.rtmp_url(name), scratch.file(&format!("{}.md5", &name[5..])))
        })
        .collect();
    for name in names {
        server.api().wait_for_viewers(name, 1, SOON);
    }
    let mut client = RtmpClient::connected(server.rtmp(), Encoding::Amf0);
    let ids = names.map(|name| {
        let id = client.create_stream();
        client.publish(id, &name[5..], if id == 1 { "live" } else { "record" });
        id
    });
    // In turn, as an encoder of two streams does.
    let mut both = files.iter().map(|file| tags(file).into_iter()).collect::<Vec<_>>();
    let begin = Instant::now();
    let mut is_left = true;
    while is_left {
        is_left = false;
        for (tags, id) in both.iter_mut().zip(ids) {
            if let Some(tag) = tags.next() {
                pace(begin, tag.timestamp_ms);
                client.send(id, tag.type_id, tag.timestamp_ms, &tag.payload);
                is_left = true;
            }
        }
    }
    for id in ids {
        client.tell(0, "deleteStream", &[f64::from(id).into()]);
    }
    for (player, file) in players.iter_mut().zip(&files) {
        let received = player.finish(END_LIMIT);
        let joined = Source::of_file(file).assert_played(player.process().name(), &received);
        assert_eq!((joined.video_skipped, joined.audio_skipped), (0, 0));
    }
    let log = server.process().stderr();
    let said = log.lines().filter(|line| line.contains("nothing is recorded")).count();
    assert_eq!(said, 1, "{log}");
    server.stop();
}

#[test]
fn a_publisher_of_object_encoding_3_that_sends_aggregates_is_played_bit_exact() {
    let file = SHORT.file();
    let source = Source::of_file(&file);
    let server = Server::start(&[("http.flv_missing", "wait")]);
    let scratch = Scratch::new("amf3-aggregates");
    let mut players = [
        Player::start(&server.rtmp_url("live/cam"), scratch.file("rtmp.md5")),
        Player::start(&server.flv_url("live/cam"), scratch.file("flv.md5")),
    ];
    server.api().wait_for_viewers("live/cam", 2, SOON);
    let mut client = RtmpClient::connected(server.rtmp(), Encoding::Amf3);
    let answer = client.ask("releaseStream", &["cam".into()]);
    assert_eq!((answer.command.name.as_str(), answer.type_id), ("_result", message::COMMAND_AMF3));
    let id = client.create_stream();
    client.publish(id, "cam", "live");
    // @setDataFrame, onMetaData, and behind the marker 0x11 {width: 640}.
    let mut metadata = vec![0];
    amf0::write_string(&mut metadata, "@setDataFrame");
    amf0::write_string(&mut metadata, "onMetaData");
    metadata.extend(b"\x11\x0A\x0B\x01\x0Bwidth\x04\x85\x00\x01");
    client.send(id, message::DATA_AMF3, 0, &metadata);
    let tags: Vec<Tag> =
        tags(&file).into_iter().filter(|tag| tag.type_id != flv::TAG_SCRIPT).collect();
    let begin = Instant::now();
    for group in tags.chunks(7) {
        // The tags inside count from somewhere else than the aggregate.
        let shift = 123_456;
        let mut payload = Vec::new();
        for tag in group {
            let time_ms = tag.timestamp_ms.wrapping_add(shift);
            flv::write_tag(tag.type_id, time_ms, &tag.payload, &mut |part| payload.extend(part))
                .expect("a tag of a file fits into a tag");
        }
        pace(begin, group[0].timestamp_ms);
        client.send(id, message::AGGREGATE, group[0].timestamp_ms, &payload);
    }
    let mut player = RtmpClient::connected(server.rtmp(), Encoding::Amf0);
    let play = player.create_stream();
    player.play(play, "cam");
    let headers = eventually("a late viewer gets the metadata", SOON, || {
        player.take_media().into_iter().find(|it| it.type_id == message::DATA_AMF0)
    });
    let values = amf0::decode_all(&headers.payload).expect("plain AMF0");
    assert_eq!(values[0], Value::from("onMetaData"));
    assert_eq!(values[1].property("width"), Some(&Value::from(640.0)));
    client.tell(0, "deleteStream", &[f64::from(id).into()]);
    for player in &mut players {
        let received = player.finish(END_LIMIT);
        let joined = source.assert_played(player.process().name(), &received);
        assert_eq!((joined.video_skipped, joined.audio_skipped), (0, 0));
    }
    server.stop();
}

/// Sends no faster than twice the real time: players are to take part.
fn pace(begin: Instant, timestamp_ms: u32) {
    let due = begin + Duration::from_millis(u64::from(timestamp_ms)) / 2;
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}

fn tags(file: &Path) -> Vec<Tag> {
    let mut reader = TagReader::new(flv::PAYLOAD_LEN_MAX);
    reader.push(&fs::read(file).expect("the file is there"));
    std::iter::from_fn(|| reader.next_tag().expect("ffmpeg wrote FLV")).collect()
}

fn media_count(file: &Path) -> usize {
    tags(file).iter().filter(|tag| tag.type_id != flv::TAG_SCRIPT).count()
}

fn write_flv<'a>(path: &Path, messages: impl Iterator<Item = &'a Message>) {
    let mut bytes = flv::header(true, true).to_vec();
    for message in messages {
        flv::write_tag(message.type_id, message.timestamp_ms, &message.payload, &mut |part| {
            bytes.extend_from_slice(part);
        })
        .expect("a message fits into a tag");
    }
    fs::write(path, bytes).expect("the file can be written");
}
