//! A name server on port 53 of loopback, which answers late or never.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Bytes of the head of a message.
const HEAD: usize = 12;
/// Question for an IPv4 address.
const TYPE_A: u16 = 1;

/// Answers questions for names with `word` in them after a while with 127.0.0.1, and no others at all. It ends
/// with the test. Needs a network of the test's own.
pub(crate) fn answer_late(word: &'static str, after: Duration) {
    answer_unless(Arc::default(), word, after);
}

/// Like [`answer_late`], but at once, and not at all while the flag is set.
pub(crate) fn answer_unless_silent(word: &'static str) -> Arc<AtomicBool> {
    let is_silent = Arc::new(AtomicBool::new(false));
    answer_unless(Arc::clone(&is_silent), word, Duration::ZERO);
    is_silent
}

fn answer_unless(is_silent: Arc<AtomicBool>, word: &'static str, after: Duration) {
    let socket = UdpSocket::bind("127.0.0.1:53").expect("port 53 is free");
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((count, peer)) = socket.recv_from(&mut buffer) {
            let question = buffer[..count].to_vec();
            let is_meant = !is_silent.load(Ordering::Relaxed)
                && question.windows(word.len()).any(|part| part == word.as_bytes());
            let Some(answer) = is_meant.then(|| answer(&question)).flatten() else { continue };
            let socket = socket.try_clone().expect("a descriptor is left");
            thread::spawn(move || {
                thread::sleep(after);
                let _ = socket.send_to(&answer, peer);
            });
        }
    });
}

/// The answer to a message with one question: an address, or that there is none of that kind.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let name_end = HEAD + question.get(HEAD..)?.iter().position(|byte| *byte == 0)?;
    let end = name_end + 5;
    let kind = u16::from_be_bytes([*question.get(name_end + 1)?, *question.get(name_end + 2)?]);
    let has_address = kind == TYPE_A;
    let mut out = question.get(..2)?.to_vec();
    // A response, recursion available, no error; one question, perhaps one answer.
    out.extend_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
    out.extend_from_slice(question.get(HEAD..end)?);
    if has_address {
        // The name above, A, IN, no time to live, four bytes.
        out.extend_from_slice(&[0xC0, 0x0C, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
    }
    Some(out)
}
