//! The least that a server can do: one thread that sends the stream's bytes to every socket at the
//! moments of a preset, from one buffer, with no protocol, no bookkeeping and no reading.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use shardcast::media::{Track, Tracks, Wire};
use shardcast::rt::clock;

use super::sample;
use super::server::Pace;

const AUDIO_HOLD_MS: u64 = 20;
const BALANCED_MS: u64 = 40;

/// `PORT VIEWERS BITRATE PACE`: waits for so many connections, then sends for ever.
pub(crate) fn main(plan: &str) {
    let mut words = plan.splitn(4, ' ');
    let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).expect("a number");
    let (port, viewers, bitrate) = (number(), number(), number());
    let pace = Pace::named(words.next().expect("a pace"));
    let listener = TcpListener::bind(("127.0.0.1", port as u16)).expect("the port is free");
    // The driver's look whether anybody is there.
    drop(listener.accept().expect("a connection"));
    let sockets: Vec<TcpStream> = (0..viewers)
        .map(|_| {
            let (socket, _) = listener.accept().expect("a viewer");
            socket.set_nodelay(true).expect("a TCP socket");
            socket
        })
        .collect();
    let batches = batches(bitrate, pace);
    let start = clock::now();
    for round in 0.. {
        for (due_ms, bytes) in &batches {
            let due = start + Duration::from_millis(round * sample::GOP_MS + due_ms);
            std::thread::sleep(due.since(clock::now()));
            for socket in &sockets {
                // SAFETY: the buffer is valid; what a full socket does not take is left out.
                let sent = unsafe {
                    libc::send(
                        socket.as_raw_fd(),
                        bytes.as_ptr().cast(),
                        bytes.len(),
                        libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                    )
                };
                // The load has ended.
                if sent < 0
                    && std::io::Error::last_os_error().kind() != std::io::ErrorKind::WouldBlock
                {
                    return;
                }
            }
        }
    }
}

/// Of a group of pictures: when to send, and what.
fn batches(bitrate: usize, pace: Pace) -> Vec<(u64, Vec<u8>)> {
    let wire = Wire::Rtmp { message_stream_id: 1, chunk_size: 60_000, tracks: Tracks::BOTH };
    let mut batches: Vec<(u64, Vec<u8>)> = Vec::new();
    // What waits: since when it may not wait longer.
    let mut waiting: Option<(u64, Vec<u8>)> = None;
    for frame in sample::gop(bitrate) {
        if let Some(due) = waiting.take_if(|(due_ms, _)| *due_ms < frame.dts_ms) {
            batches.push(due);
        }
        let hold_ms = match (pace, frame.track) {
            (Pace::Realtime, Track::Audio) => AUDIO_HOLD_MS,
            (Pace::Message | Pace::Realtime, _) => 0,
            (Pace::Balanced, _) => BALANCED_MS,
        };
        let due_ms = frame.dts_ms + hold_ms;
        let (earliest, bytes) = waiting.get_or_insert_with(|| (due_ms, Vec::new()));
        *earliest = due_ms.min(*earliest);
        wire.write_frame(&frame, &mut |piece| bytes.extend_from_slice(piece));
        if hold_ms == 0 {
            batches.extend(waiting.take());
        }
    }
    batches.extend(waiting);
    batches
}
