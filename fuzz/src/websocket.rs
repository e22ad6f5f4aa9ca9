//! Frames of a WebSocket viewer: the same messages and answers under any split.

use shardcast::limits::WEBSOCKET_VIEWER_MESSAGE_BYTES_MAX;
use shardcast::proto::websocket::{
    CloseCode, Message, WebSocket, WebSocketError, write_binary_header,
};

use super::dice::Dice;

/// Everything that a client sends behind its upgrade.
pub fn run(data: &[u8]) {
    let whole = read(&[data]);
    assert_eq!(read(&Dice::of(data).cut(data)), whole);
    let bytewise: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(read(&bytewise), whole);
    let (messages, answers, error) = whole;
    let kept: usize = messages.iter().map(Message::len).sum();
    // A close frame whose code means nothing is read as one that says so.
    assert!(kept <= data.len() + 125);
    // Every answer but the last is a pong, with what its ping had.
    assert!(answers.len() <= data.len() + 256);
    if let Some(error) = &error {
        assert!(answers.contains(&0x88), "a close frame says why");
        assert_ne!(error.code(), CloseCode::Normal);
        assert!(!error.to_string().is_empty());
    }
    header_for(data.len());
}

/// Both sides' reader takes the header that is written for viewers.
fn header_for(payload_len: usize) {
    let mut header = Vec::new();
    write_binary_header(payload_len, &mut |bytes| header.extend_from_slice(bytes));
    let (start, length) = header.split_first_chunk::<2>().expect("two bytes");
    assert_eq!(start[0], 0x82);
    let length = match start[1] {
        short @ 0..=125 => usize::from(short),
        _ => length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
    };
    assert_eq!(length, payload_len);
}

fn read(pieces: &[&[u8]]) -> (Vec<Message>, Vec<u8>, Option<WebSocketError>) {
    let mut socket = WebSocket::new(WEBSOCKET_VIEWER_MESSAGE_BYTES_MAX);
    let (mut messages, mut out) = (Vec::new(), Vec::new());
    for mut piece in pieces.iter().copied() {
        loop {
            match socket.read(&mut piece, &mut out) {
                Ok(None) => break,
                Ok(Some(message)) => {
                    assert!(message.len() <= WEBSOCKET_VIEWER_MESSAGE_BYTES_MAX);
                    let is_last = message.is_close();
                    messages.push(message);
                    if is_last {
                        return (messages, out, None);
                    }
                }
                Err(error) => return (messages, out, Some(error)),
            }
        }
        assert!(piece.is_empty());
    }
    socket.ping(&mut out);
    socket.close(CloseCode::Away, &"long ".repeat(40), &mut out);
    (messages, out, None)
}
