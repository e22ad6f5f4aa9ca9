//! An RTMP server that relays one publisher to its viewers, with one thread per connection, and
//! does one thing wrong.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use shardcast::proto::amf0::Value;
use shardcast::proto::rtmp::chunk_reader::{ChunkReader, ReaderLimits};
use shardcast::proto::rtmp::chunk_writer::{MessageHeader, write_full};
use shardcast::proto::rtmp::command::{self, Command, ServerTraits};
use shardcast::proto::rtmp::handshake::ServerHandshake;
use shardcast::proto::rtmp::{Message, message, status};

const CHUNK_SIZE: usize = 4096;
/// The picture to which it is done: late enough for viewers to be past their first frames, and no
/// keyframe nor the one before.
const VICTIM: u32 = 40;

/// What is done wrong, once, to each viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Nothing.
    None,
    /// Nothing; but viewers get sound at once, and pictures from the next keyframe on.
    SoundFirst,
    /// One picture is left out.
    Drop,
    /// One picture is sent twice.
    Double,
    /// Two pictures change places.
    Reorder,
    /// One byte of a picture changes.
    ChangeByte,
    /// One picture has another timestamp.
    ShiftTimestamp,
    /// Everything is left out up to the next keyframe.
    SkipToKeyframe,
    /// The connection ends.
    Close,
    /// Nothing is sent for more than a second.
    Pause,
}

/// A running fake; its threads end with the test.
#[derive(Debug)]
pub struct FakeServer {
    address: SocketAddr,
}

#[derive(Debug)]
struct Room {
    damage: Damage,
    pictures: u32,
    /// Since and with the last keyframe.
    group: Vec<Message>,
    headers: Vec<Message>,
    viewers: Vec<Viewer>,
}

#[derive(Debug)]
struct Viewer {
    socket: TcpStream,
    pictures: u32,
    began: bool,
    kept_back: Option<Message>,
    skips: bool,
}

impl FakeServer {
    /// Listens on a free port.
    pub fn start(damage: Damage) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let room = Arc::new(Mutex::new(Room {
            damage,
            pictures: 0,
            group: Vec::new(),
            headers: Vec::new(),
            viewers: Vec::new(),
        }));
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let room = Arc::clone(&room);
                thread::spawn(move || serve(socket, &room));
            }
        });
        Self { address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn serve(socket: TcpStream, room: &Mutex<Room>) {
    let mut publishes = false;
    // A client that leaves ends the talk with an error, which nobody needs.
    let _ = talk(socket, room, &mut publishes);
    if publishes && let Ok(mut room) = room.lock() {
        room.end();
    }
}

fn talk(mut socket: TcpStream, room: &Mutex<Room>, publishes: &mut bool) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    let mut handshake = ServerHandshake::new(1, 0);
    let mut reader = ChunkReader::new(ReaderLimits {
        message_bytes_max: 1 << 24,
        chunk_streams_max: 16,
        partial_bytes_max: 1 << 25,
    });
    let mut shaken = false;
    let mut buffer = vec![0; 65_536];
    loop {
        let count = socket.read(&mut buffer).ok().filter(|count| *count > 0)?;
        let mut rest = &buffer[..count];
        if !shaken {
            let mut out = Vec::new();
            let progress = handshake.input(rest, &mut out).ok()?;
            socket.write_all(&out).ok()?;
            rest = &rest[progress.consumed..];
            shaken = progress.done;
            if !shaken {
                continue;
            }
        }
        loop {
            let read = reader.read(rest).ok()?;
            rest = &rest[read.consumed..];
            let Some(message) = read.message else { break };
            match message.type_id {
                message::COMMAND_AMF0 => *publishes |= answer(&message, &mut socket, room)?,
                message::AUDIO | message::VIDEO => {
                    room.lock().ok()?.relay(&message);
                }
                _ => {}
            }
        }
    }
}

/// Gives whether it is the command to publish.
fn answer(message: &Message, socket: &mut TcpStream, room: &Mutex<Room>) -> Option<bool> {
    let call = Command::parse(&message.payload).ok()?;
    let payload = match call.name.as_str() {
        "connect" => {
            let size = message::set_chunk_size(CHUNK_SIZE as u32);
            send(socket, 2, 0, message::SET_CHUNK_SIZE, 0, &size, 128).ok()?;
            let traits = ServerTraits {
                fms_version: "FMS/3,0,1,123",
                capabilities: 31.0,
                object_encoding: 0.0,
            };
            command::connect_result(call.transaction, traits, vec![])
        }
        "createStream" => command::result(call.transaction, &Value::Null, Value::from(1.0)),
        "publish" => command::on_status(status::PUBLISH_START, "", vec![]),
        "play" => {
            let started = command::on_status(status::PLAY_START, "", vec![]);
            send(socket, 3, 1, message::COMMAND_AMF0, 0, &started, CHUNK_SIZE).ok()?;
            room.lock().ok()?.join(socket.try_clone().ok()?);
            return Some(false);
        }
        _ => return Some(false),
    };
    send(socket, 3, 0, message::COMMAND_AMF0, 0, &payload, CHUNK_SIZE).ok()?;
    Some(call.name == "publish")
}

impl Room {
    fn join(&mut self, socket: TcpStream) {
        let mut viewer =
            Viewer { socket, pictures: 0, began: false, kept_back: None, skips: false };
        let group = if self.damage == Damage::SoundFirst { &[] } else { &self.group[..] };
        for message in self.headers.iter().chain(group) {
            viewer.take(message, self.damage);
        }
        self.viewers.push(viewer);
    }

    /// The publisher is gone, and everybody goes with it.
    fn end(&mut self) {
        let ended = command::on_status(status::PLAY_UNPUBLISH_NOTIFY, "", vec![]);
        for mut viewer in self.viewers.drain(..) {
            let kind = message::COMMAND_AMF0;
            // It may be closed already.
            let _ = send(&mut viewer.socket, 3, 1, kind, 0, &ended, CHUNK_SIZE);
            let _ = viewer.socket.shutdown(Shutdown::Both);
        }
    }

    fn relay(&mut self, message: &Message) {
        if message.payload.get(1) == Some(&0) {
            self.headers.push(message.clone());
        } else {
            if is_keyframe(message) {
                self.group.clear();
            }
            self.group.push(message.clone());
        }
        self.pictures += u32::from(message.type_id == message::VIDEO);
        if self.damage == Damage::Pause && self.pictures == VICTIM {
            // This is the fault itself: silence for everybody.
            thread::sleep(Duration::from_millis(1_200));
            self.pictures += 1;
        }
        for viewer in &mut self.viewers {
            viewer.take(message, self.damage);
        }
    }
}

impl Viewer {
    fn take(&mut self, message: &Message, damage: Damage) {
        let is_header = message.payload.get(1) == Some(&0);
        self.began |= is_keyframe(message);
        let is_sound_at_once = damage == Damage::SoundFirst && message.type_id == message::AUDIO;
        if !self.began && !is_header && !is_sound_at_once {
            return;
        }
        if message.type_id != message::VIDEO || is_header {
            if !self.skips {
                self.send(message);
            }
            return;
        }
        self.pictures += 1;
        self.skips &= !is_keyframe(message);
        let is_victim = self.pictures == VICTIM;
        match damage {
            _ if self.skips => {}
            Damage::Drop if is_victim => {}
            Damage::Double if is_victim => {
                self.send(message);
                self.send(message);
            }
            Damage::Reorder if is_victim => self.kept_back = Some(message.clone()),
            Damage::ChangeByte if is_victim => {
                let mut changed = message.clone();
                let mut payload = changed.payload.to_vec();
                let last = payload.len() - 2;
                payload[last] ^= 1;
                changed.payload = payload.into();
                self.send(&changed);
            }
            Damage::ShiftTimestamp if is_victim => {
                let mut changed = message.clone();
                changed.timestamp_ms += 7;
                self.send(&changed);
            }
            Damage::SkipToKeyframe if is_victim => self.skips = true,
            Damage::Close if is_victim => {
                // It may be closed already.
                let _ = self.socket.shutdown(Shutdown::Both);
            }
            _ => {
                self.send(message);
                if let Some(kept) = self.kept_back.take() {
                    self.send(&kept);
                }
            }
        }
    }

    fn send(&mut self, message: &Message) {
        let chunk_stream = if message.type_id == message::VIDEO { 6 } else { 4 };
        // A viewer that is gone is noticed by its own thread.
        let _ = send(
            &mut self.socket,
            chunk_stream,
            1,
            message.type_id,
            message.timestamp_ms,
            &message.payload,
            CHUNK_SIZE,
        );
    }
}

fn is_keyframe(message: &Message) -> bool {
    message.type_id == message::VIDEO && message.payload.first_chunk() == Some(&[0x17, 1])
}

fn send(
    socket: &mut TcpStream,
    chunk_stream_id: u32,
    message_stream_id: u32,
    type_id: u8,
    timestamp_ms: u32,
    payload: &[u8],
    chunk_size: usize,
) -> std::io::Result<()> {
    let header = MessageHeader { chunk_stream_id, message_stream_id, type_id, timestamp_ms };
    let mut bytes = Vec::new();
    write_full(&header, payload, chunk_size, &mut |piece| bytes.extend_from_slice(piece));
    socket.write_all(&bytes)
}
