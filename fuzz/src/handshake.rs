//! Both sides of the handshake: the same under any split, nothing taken beyond their bytes.

use shardcast::proto::rtmp::handshake::{
    ClientHandshake, DigestLayout, HandshakeError, HandshakeMode, PACKET_BYTES, Progress,
    ServerHandshake, ServerProof,
};

use super::dice::Dice;

/// What a side took and said.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    consumed: usize,
    done: bool,
    error: Option<HandshakeError>,
    out: Vec<u8>,
}

/// Bytes of a client, then taken for those of a server.
pub fn run(data: &[u8]) {
    let pieces = Dice::of(data).cut(data);
    let (outcome, layout) = server(&[data]);
    assert_eq!(server(&pieces), (outcome, layout));
    let layouts = [DigestLayout::DigestFirst, DigestLayout::KeyFirst];
    let modes = layouts.map(HandshakeMode::Digest).into_iter().chain([HandshakeMode::Simple]);
    for mode in modes {
        let (outcome, proof) = client(mode, &[data]);
        assert_eq!(client(mode, &pieces), (outcome, proof));
        assert!(mode != HandshakeMode::Simple || proof == ServerProof::default());
        if mode == HandshakeMode::Simple {
            continue;
        }
        // What this client says is answered with a signature that it believes.
        let mut hello = Vec::new();
        ClientHandshake::new(mode, 7, 1).start(&mut hello);
        let (answer, found) = server(&[&hello]);
        assert_eq!(HandshakeMode::Digest(found.expect("the digest is found")), mode);
        let (_, proof) = client(mode, &[&answer.out]);
        assert_eq!(proof, ServerProof { s1_digest: true, s2_signature: true });
    }
}

fn server(pieces: &[&[u8]]) -> (Outcome, Option<DigestLayout>) {
    let mut side = ServerHandshake::new(5, 1_000);
    let outcome = feed(pieces, |bytes, out| side.input(bytes, out));
    let answered = !outcome.out.is_empty();
    assert!(!answered || outcome.out.len() == 1 + 2 * PACKET_BYTES);
    assert!(!outcome.done || answered);
    (outcome, side.digest_layout())
}

fn client(mode: HandshakeMode, pieces: &[&[u8]]) -> (Outcome, ServerProof) {
    let mut side = ClientHandshake::new(mode, 7, 1);
    let outcome = feed(pieces, |bytes, out| side.input(bytes, out));
    assert!(outcome.out.is_empty() || outcome.out.len() == PACKET_BYTES);
    (outcome, side.server_proof())
}

fn feed(
    pieces: &[&[u8]],
    mut input: impl FnMut(&[u8], &mut Vec<u8>) -> Result<Progress, HandshakeError>,
) -> Outcome {
    let mut outcome = Outcome { consumed: 0, done: false, error: None, out: Vec::new() };
    for piece in pieces {
        match input(piece, &mut outcome.out) {
            Ok(progress) => {
                assert!(progress.done || progress.consumed == piece.len());
                outcome.consumed += progress.consumed;
                outcome.done = progress.done;
            }
            Err(error) => outcome.error = Some(error),
        }
        if outcome.done || outcome.error.is_some() {
            break;
        }
    }
    assert!(outcome.consumed <= 1 + 2 * PACKET_BYTES);
    assert!(!outcome.done || outcome.consumed == 1 + 2 * PACKET_BYTES);
    outcome
}
