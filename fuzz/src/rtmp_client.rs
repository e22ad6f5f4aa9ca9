//! An RTMP connection from the client's side: any bytes of a server, under any split.

use shardcast::proto::amf0::Value;
use shardcast::proto::rtmp::Message;
use shardcast::proto::rtmp::chunk_reader::{ChunkReader, ReaderLimits};
use shardcast::proto::rtmp::client::{ClientConfig, ClientError, ClientEvent, ClientSession, Role};
use shardcast::proto::rtmp::handshake::PACKET_BYTES;
use shardcast::proto::rtmp::message;

use super::dice::Dice;

/// Everything that a server sends.
pub fn run(data: &[u8]) {
    let pieces = Dice::of(data).cut(data);
    for (role, digest) in [(Role::Publish, true), (Role::Play, false)] {
        let whole = Heard::of(role, digest, &[data]);
        let split = Heard::of(role, digest, &pieces);
        // Events are compared as text: a timestamp or number that is NaN is not equal to itself.
        assert_eq!(format!("{:?}", split.events), format!("{:?}", whole.events));
        assert_eq!(split.error, whole.error);
        assert_eq!(split.said, whole.said);
    }
}

/// What came of the server's bytes.
struct Heard {
    events: Vec<ClientEvent>,
    error: Option<ClientError>,
    /// What the client said, without acknowledgements: when they go depends on when bytes come.
    said: Vec<Message>,
}

impl Heard {
    fn of(role: Role, digest: bool, pieces: &[&[u8]]) -> Self {
        let mut session = ClientSession::new(ClientConfig {
            app: "live".to_owned(),
            tc_url: "rtmp://localhost/live".to_owned(),
            stream: "s?key=1".to_owned(),
            role,
            flash_version: "FMLE/3.0 (compatible; test)".to_owned(),
            digest,
            connect_properties: vec![("pageUrl".to_owned(), Value::from("http://p/"))],
            connect_args: vec![Value::from("session")],
            chunk_size: 4_096,
            seed: 7,
        });
        let mut out = Vec::new();
        session.start(&mut out);
        let (mut events, mut error) = (Vec::new(), None);
        'pieces: for piece in pieces {
            let mut rest = *piece;
            loop {
                match session.input(rest, &mut out) {
                    Ok(progress) => {
                        rest = &rest[progress.consumed..];
                        match progress.event {
                            Some(event) => events.push(event),
                            None => break,
                        }
                    }
                    Err(why) => {
                        assert!(!why.to_string().is_empty());
                        error = Some(why);
                        break 'pieces;
                    }
                }
            }
            assert!(rest.is_empty(), "bytes are left although nothing happened");
        }
        if events.contains(&ClientEvent::PublishStarted) {
            session.publish_media(message::VIDEO, 40, &[0x17; 5_000], &mut out);
            session.publish_media(message::AUDIO, 43, &[0xaf; 10], &mut out);
        }
        let has_stream = session.message_stream_id() != 0;
        let before = out.len();
        session.close(&mut out);
        assert_eq!(out.len() > before, has_stream, "a goodbye is for a stream that there is");
        assert_eq!(session.message_stream_id(), 0);
        let _ = session.server_proof();
        Self { events, error, said: messages(&out) }
    }
}

/// The whole messages behind the client's handshake.
fn messages(out: &[u8]) -> Vec<Message> {
    // C2 is there when a message is.
    let mut rest = out.get(1 + 2 * PACKET_BYTES..).unwrap_or_default();
    let mut reader = ChunkReader::new(ReaderLimits {
        message_bytes_max: 1 << 24,
        chunk_streams_max: 64,
        partial_bytes_max: 1 << 25,
    });
    let mut found = Vec::new();
    while !rest.is_empty() {
        let read = reader.read(rest).expect("a client's words are well-formed");
        rest = &rest[read.consumed..];
        found.extend(read.message);
    }
    found.retain(|message| message.type_id != message::ACKNOWLEDGEMENT);
    found
}
