//! The RTMP handshake, both sides, for any split of the byte stream.
//!
//! * The simple handshake is section 5.2 of the RTMP specification: each side echoes the other's
//!   1,536 bytes.
//! * Flash Player 9 and later (and ffmpeg, and librtmp with SWF verification) hide an
//!   HMAC-SHA256 digest in their 1,536 bytes and expect the server's answer to prove that it
//!   knows the server's key. The keys and places are public since 2009; the specification does
//!   not mention them. A server finds out by checking the digest in both places.
//! * The 1,536-byte buffer is on the heap and only while a packet is collected; before and
//!   after, a handshake is a few dozen bytes.
//!
//! ```text
//! client → C0 (1: version)  C1 (1536: time, version or 0, random)    C2 (1536: answer to S1)
//! server →                  S0 (1)  S1 (1536)  S2 (1536: answer to C1)
//! ```

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

/// Length of C1, S1, C2 and S2.
pub const PACKET_BYTES: usize = 1536;

/// The version of plain RTMP, sent in C0 and S0.
pub const VERSION: u8 = 3;

const DIGEST_BYTES: usize = 32;

/// The version of encrypted RTMP (RTMPE).
const VERSION_ENCRYPTED: u8 = 6;

/// Sent as version in a signed S1. Clients check digests only from major version 3 on.
const SERVER_VERSION: [u8; 4] = [3, 5, 1, 1];

/// Sent as version in a signed C1: the first Flash Player with digests was 9.0.124.
const CLIENT_VERSION: [u8; 4] = [9, 0, 124, 2];

/// Signs S2. Its first [`SERVER_DIGEST_KEY_BYTES`] are text and sign S1.
const SERVER_KEY: &[u8; 68] = b"Genuine Adobe Flash Media Server 001\
    \xF0\xEE\xC2\x4A\x80\x68\xBE\xE8\x2E\x00\xD0\xD1\x02\x9E\x7E\x57\
    \x6E\xEC\x5D\x2D\x29\x80\x6F\xAB\x93\xB8\xE6\x36\xCF\xEB\x31\xAE";
const SERVER_DIGEST_KEY_BYTES: usize = 36;

/// Signs C2. Its first [`CLIENT_DIGEST_KEY_BYTES`] are text and sign C1.
const CLIENT_KEY: &[u8; 62] = b"Genuine Adobe Flash Player 001\
    \xF0\xEE\xC2\x4A\x80\x68\xBE\xE8\x2E\x00\xD0\xD1\x02\x9E\x7E\x57\
    \x6E\xEC\x5D\x2D\x29\x80\x6F\xAB\x93\xB8\xE6\x36\xCF\xEB\x31\xAE";
const CLIENT_DIGEST_KEY_BYTES: usize = 30;

type Packet = [u8; PACKET_BYTES];
type Digest = [u8; DIGEST_BYTES];

/// Where the digest stands in C1 and S1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestLayout {
    /// In the first block (bytes 8 to 771): plain RTMP clients.
    DigestFirst,
    /// In the second block (bytes 772 to 1535), after the key block: Flash Player 10 with RTMPE.
    KeyFirst,
}

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeMode {
    /// Echoes only.
    Simple,
    /// A digest in C1; falls back to echoes when the server's S1 has none.
    Digest(DigestLayout),
}

/// What a call took from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes taken; when `done`, the rest belongs to the chunk stream.
    pub consumed: usize,
    /// The handshake is complete.
    pub done: bool,
}

/// Why a handshake cannot go on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HandshakeError {
    /// C0 asks for RTMPE.
    #[error("the client asks for encrypted RTMP (RTMPE), which is not offered")]
    Encrypted,
    /// C0 or S0 is no RTMP version: probably another protocol.
    #[error("the peer does not speak RTMP: its first byte is {0:#04x}")]
    UnknownVersion(u8),
}

/// How far a server has proved to a client that it knows the server's key. Servers without
/// digests are common, so this informs and never fails a handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerProof {
    /// S1 holds a valid digest.
    pub s1_digest: bool,
    /// S2 is signed with the digest of our C1.
    pub s2_signature: bool,
}

/// The server's side.
#[derive(Debug)]
pub struct ServerHandshake {
    seed: u64,
    epoch_ms: u32,
    layout: Option<DigestLayout>,
    state: ServerState,
}

#[derive(Debug)]
enum ServerState {
    Version,
    C1(Box<Collector>),
    C2 { missing: usize },
    Done,
}

impl ServerHandshake {
    /// `seed` fills the random parts (they protect nothing, but should differ between
    /// connections); `epoch_ms` is the time sent in S1, of any epoch.
    pub fn new(seed: u64, epoch_ms: u32) -> Self {
        Self { seed, epoch_ms, layout: None, state: ServerState::Version }
    }

    /// Where the client's digest stood; None for a simple handshake or before C1.
    pub fn digest_layout(&self) -> Option<DigestLayout> {
        self.layout
    }

    /// Takes bytes of the client and appends the answer to `out`: S0, S1 and S2 at once when C1
    /// is complete. C2 is awaited but not checked: several encoders send it wrong.
    ///
    /// # Errors
    /// See [`HandshakeError`]; the connection is to be closed.
    pub fn input(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Progress, HandshakeError> {
        let mut rest = bytes;
        loop {
            match &mut self.state {
                ServerState::Version => {
                    let Some((&version, after)) = rest.split_first() else {
                        break;
                    };
                    if version == VERSION_ENCRYPTED {
                        return Err(HandshakeError::Encrypted);
                    }
                    check_version(version)?;
                    rest = after;
                    self.state = ServerState::C1(Collector::new());
                }
                ServerState::C1(collector) => {
                    rest = collector.take(rest);
                    if !collector.is_full() {
                        break;
                    }
                    self.layout = answer(&collector.packet, self.seed, self.epoch_ms, out);
                    self.state = ServerState::C2 { missing: PACKET_BYTES };
                }
                ServerState::C2 { missing } => {
                    let taken = rest.len().min(*missing);
                    rest = rest.get(taken..).unwrap_or_default();
                    *missing -= taken;
                    if *missing > 0 {
                        break;
                    }
                    self.state = ServerState::Done;
                }
                ServerState::Done => break,
            }
        }
        Ok(Progress {
            consumed: bytes.len() - rest.len(),
            done: matches!(self.state, ServerState::Done),
        })
    }
}

/// The client's side.
#[derive(Debug)]
pub struct ClientHandshake {
    seed: u64,
    epoch_ms: u32,
    mode: HandshakeMode,
    proof: ServerProof,
    state: ClientState,
}

#[derive(Debug)]
enum ClientState {
    Version,
    S1(Box<Collector>),
    S2(Box<Collector>),
    Done,
}

impl ClientHandshake {
    /// See [`ServerHandshake::new`] for `seed` and `epoch_ms`.
    pub fn new(mode: HandshakeMode, seed: u64, epoch_ms: u32) -> Self {
        Self { seed, epoch_ms, mode, proof: ServerProof::default(), state: ClientState::Version }
    }

    /// Appends C0 and C1; to be called once, first.
    pub fn start(&self, out: &mut Vec<u8>) {
        let (packet, _) = c1_of(self.mode, self.seed, self.epoch_ms);
        out.push(VERSION);
        out.extend_from_slice(&packet);
    }

    /// What the server has proved so far; always nothing in simple mode.
    pub fn server_proof(&self) -> ServerProof {
        self.proof
    }

    /// Takes bytes of the server and appends C2 to `out` when S1 is complete. S2 is awaited.
    ///
    /// # Errors
    /// [`HandshakeError::UnknownVersion`]; the connection is to be closed.
    pub fn input(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Progress, HandshakeError> {
        let mut rest = bytes;
        loop {
            match &mut self.state {
                ClientState::Version => {
                    let Some((&version, after)) = rest.split_first() else {
                        break;
                    };
                    check_version(version)?;
                    rest = after;
                    self.state = ClientState::S1(Collector::new());
                }
                ClientState::S1(collector) => {
                    rest = collector.take(rest);
                    if !collector.is_full() {
                        break;
                    }
                    let s1 = &collector.packet;
                    let found = match self.mode {
                        HandshakeMode::Simple => None,
                        HandshakeMode::Digest(_) => find_digest(s1, server_digest_key()),
                    };
                    if let Some((_, digest)) = found {
                        self.proof.s1_digest = true;
                        // Another stream of random bytes than C1's.
                        let mut c2 = random_packet(!self.seed);
                        sign_answer(&mut c2, CLIENT_KEY, &digest);
                        out.extend_from_slice(&c2);
                    } else {
                        out.extend_from_slice(s1);
                    }
                    self.state = ClientState::S2(Collector::new());
                }
                ClientState::S2(collector) => {
                    rest = collector.take(rest);
                    if !collector.is_full() {
                        break;
                    }
                    let signed = Self::is_signed_for(
                        &collector.packet,
                        c1_of(self.mode, self.seed, self.epoch_ms).1,
                    );
                    self.proof.s2_signature = signed;
                    self.state = ClientState::Done;
                }
                ClientState::Done => break,
            }
        }
        Ok(Progress {
            consumed: bytes.len() - rest.len(),
            done: matches!(self.state, ClientState::Done),
        })
    }

    fn is_signed_for(s2: &Packet, c1_digest: Option<Digest>) -> bool {
        c1_digest.is_some_and(|digest| {
            let mut expected = *s2;
            sign_answer(&mut expected, SERVER_KEY, &digest);
            expected == *s2
        })
    }
}

/// Collects one packet.
#[derive(Debug)]
struct Collector {
    packet: Packet,
    filled: usize,
}

impl Collector {
    fn new() -> Box<Self> {
        Box::new(Self { packet: [0; PACKET_BYTES], filled: 0 })
    }

    /// Copies what is missing; returns the rest of `bytes`.
    fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let missing = self.packet.get_mut(self.filled..).unwrap_or_default();
        let length = missing.len().min(bytes.len());
        let (taken, rest) = bytes.split_at(length);
        for (to, from) in missing.iter_mut().zip(taken) {
            *to = *from;
        }
        self.filled += length;
        rest
    }

    fn is_full(&self) -> bool {
        self.filled == PACKET_BYTES
    }
}

/// Section 5.2.2: 0 to 2 are obsolete, 32 and above are text of other protocols; a server
/// answers 3 to the rest and leaves the choice to the client.
fn check_version(version: u8) -> Result<(), HandshakeError> {
    match version {
        3..32 => Ok(()),
        _ => Err(HandshakeError::UnknownVersion(version)),
    }
}

/// Appends S0, S1 and S2; returns where C1's digest stood.
fn answer(c1: &Packet, seed: u64, epoch_ms: u32, out: &mut Vec<u8>) -> Option<DigestLayout> {
    let mut s1 = random_packet(seed);
    out.push(VERSION);
    if let Some((layout, c1_digest)) = find_digest(c1, client_digest_key()) {
        set_head(&mut s1, epoch_ms, SERVER_VERSION);
        insert_digest(&mut s1, server_digest_key(), layout);
        let mut s2 = random_packet(!seed);
        sign_answer(&mut s2, SERVER_KEY, &c1_digest);
        out.extend_from_slice(&s1);
        out.extend_from_slice(&s2);
        Some(layout)
    } else {
        set_head(&mut s1, epoch_ms, [0; 4]);
        out.extend_from_slice(&s1);
        // librtmp compares S2 with its C1, so not even the second time field may be set.
        out.extend_from_slice(c1);
        None
    }
}

/// C1 and its digest: made again from the seed when needed instead of kept.
fn c1_of(mode: HandshakeMode, seed: u64, epoch_ms: u32) -> (Packet, Option<Digest>) {
    let mut packet = random_packet(seed);
    match mode {
        HandshakeMode::Simple => {
            set_head(&mut packet, epoch_ms, [0; 4]);
            (packet, None)
        }
        HandshakeMode::Digest(layout) => {
            set_head(&mut packet, epoch_ms, CLIENT_VERSION);
            let digest = insert_digest(&mut packet, client_digest_key(), layout);
            (packet, Some(digest))
        }
    }
}

fn server_digest_key() -> &'static [u8] {
    SERVER_KEY.split_at(SERVER_DIGEST_KEY_BYTES).0
}

fn client_digest_key() -> &'static [u8] {
    CLIENT_KEY.split_at(CLIENT_DIGEST_KEY_BYTES).0
}

fn set_head(packet: &mut Packet, epoch_ms: u32, version: [u8; 4]) {
    let head = epoch_ms.to_be_bytes().into_iter().chain(version);
    for (to, from) in packet.iter_mut().zip(head) {
        *to = from;
    }
}

/// The digest of `packet` that `key` confirms, and its place.
fn find_digest(packet: &Packet, key: &[u8]) -> Option<(DigestLayout, Digest)> {
    [DigestLayout::DigestFirst, DigestLayout::KeyFirst].into_iter().find_map(|layout| {
        let (before, digest, after) = around_digest(packet, layout);
        let expected = hmac_sha256(key, &[before, after]);
        (expected == *digest).then_some((layout, expected))
    })
}

fn insert_digest(packet: &mut Packet, key: &[u8], layout: DigestLayout) -> Digest {
    let (before, _, after) = around_digest(packet, layout);
    let digest = hmac_sha256(key, &[before, after]);
    let start = before_digest(packet, layout);
    for (to, from) in packet.iter_mut().skip(start).zip(digest) {
        *to = from;
    }
    digest
}

/// The number of bytes before the digest: the sum of the first four bytes of its block decides,
/// so that the digest (32 bytes) stays inside the block (764 bytes).
fn before_digest(packet: &Packet, layout: DigestLayout) -> usize {
    let block = match layout {
        DigestLayout::DigestFirst => 8,
        DigestLayout::KeyFirst => 772,
    };
    let offset = packet.iter().skip(block).take(4);
    let offset: usize = offset.map(|&byte| usize::from(byte)).sum();
    block + 4 + offset % 728
}

fn around_digest(packet: &Packet, layout: DigestLayout) -> (&[u8], &[u8], &[u8]) {
    let (before, rest) = packet.split_at(before_digest(packet, layout));
    let (digest, after) = rest.split_at(DIGEST_BYTES);
    (before, digest, after)
}

/// Fills the last 32 bytes of C2 or S2: signed with a key made from the peer's digest.
fn sign_answer(packet: &mut Packet, key: &[u8], peer_digest: &Digest) {
    let (random, signature) = packet.split_at_mut(PACKET_BYTES - DIGEST_BYTES);
    let key = hmac_sha256(key, &[peer_digest]);
    signature.copy_from_slice(&hmac_sha256(&key, &[random]));
}

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Digest {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Bytes that look random, from SplitMix64.
fn random_packet(seed: u64) -> Packet {
    let mut packet = [0; PACKET_BYTES];
    let mut state = seed;
    for eight in packet.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        eight.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    packet
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Captured C1 packets: rtmpdump 2.4 with SWF verification, rtmpdump 2.4 with RTMPE (its C1
    /// is signed before encryption starts), ffmpeg 5.1. The sum for the RTMPE one exceeds 728.
    const RTMPDUMP_DIGEST_FIRST: &str =
        include_str!("../../../tests/fixtures/rtmp_c1_rtmpdump_digest_first.hex");
    const RTMPDUMP_KEY_FIRST: &str =
        include_str!("../../../tests/fixtures/rtmp_c1_rtmpdump_key_first.hex");
    const FFMPEG_DIGEST_FIRST: &str =
        include_str!("../../../tests/fixtures/rtmp_c1_ffmpeg_digest_first.hex");

    fn packet_from_hex(text: &str) -> Packet {
        let digits: Vec<u8> =
            text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        let bytes: Vec<u8> = digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect();
        bytes.try_into().unwrap()
    }

    fn server_answer(c1: &Packet) -> (ServerHandshake, Vec<u8>) {
        let mut server = ServerHandshake::new(7, 1000);
        let mut out = Vec::new();
        let progress = server.input(&[VERSION], &mut out).unwrap();
        assert_eq!((progress.consumed, progress.done), (1, false));
        let progress = server.input(c1, &mut out).unwrap();
        assert_eq!((progress.consumed, progress.done), (PACKET_BYTES, false));
        assert_eq!(out.len(), 1 + 2 * PACKET_BYTES);
        (server, out)
    }

    #[test]
    fn digests_of_real_clients_are_found() {
        for (text, layout) in [
            (RTMPDUMP_DIGEST_FIRST, DigestLayout::DigestFirst),
            (RTMPDUMP_KEY_FIRST, DigestLayout::KeyFirst),
            (FFMPEG_DIGEST_FIRST, DigestLayout::DigestFirst),
        ] {
            let c1 = packet_from_hex(text);
            let (server, out) = server_answer(&c1);
            assert_eq!(server.digest_layout(), Some(layout));
            let s1: &Packet = out[1..=PACKET_BYTES].try_into().unwrap();
            let s2: &Packet = out[1 + PACKET_BYTES..].try_into().unwrap();
            let (s1_layout, _) = find_digest(s1, server_digest_key()).unwrap();
            assert_eq!(s1_layout, layout);
            let (_, c1_digest) = find_digest(&c1, client_digest_key()).unwrap();
            assert!(ClientHandshake::is_signed_for(s2, Some(c1_digest)));
            assert!(!ClientHandshake::is_signed_for(s2, Some([0; 32])));
        }
    }

    #[test]
    fn one_changed_bit_makes_the_handshake_simple() {
        let mut c1 = packet_from_hex(RTMPDUMP_DIGEST_FIRST);
        c1[1500] ^= 1;
        let (server, out) = server_answer(&c1);
        assert_eq!(server.digest_layout(), None);
        assert_eq!(out[1..9], [0, 0, 3, 232, 0, 0, 0, 0]);
        assert_eq!(out[1 + PACKET_BYTES..], c1);
    }

    #[test]
    fn versions() {
        let first_byte = |byte: u8| ServerHandshake::new(1, 0).input(&[byte], &mut Vec::new());
        assert_eq!(first_byte(6), Err(HandshakeError::Encrypted));
        assert_eq!(first_byte(2), Err(HandshakeError::UnknownVersion(2)));
        assert_eq!(first_byte(b'G'), Err(HandshakeError::UnknownVersion(b'G')));
        assert!(first_byte(3).is_ok());
        assert!(first_byte(31).is_ok());
        assert!(first_byte(32).is_err());
    }

    #[test]
    fn a_client_falls_back_to_echoes() {
        let mode = HandshakeMode::Digest(DigestLayout::DigestFirst);
        let mut client = ClientHandshake::new(mode, 5, 0);
        let mut hello = Vec::new();
        client.start(&mut hello);
        let s1 = random_packet(99);
        let mut c2 = Vec::new();
        let input = [&[VERSION][..], &s1, &hello[1..]].concat();
        let progress = client.input(&input, &mut c2).unwrap();
        assert!(progress.done);
        assert_eq!(c2, s1);
        assert_eq!(client.server_proof(), ServerProof::default());
    }

    #[test]
    fn a_handshake_is_small_but_for_its_buffer() {
        assert!(size_of::<ServerHandshake>() <= 40);
        assert!(size_of::<ClientHandshake>() <= 48);
    }

    /// Passes bytes in pieces whose lengths cycle through `cuts`; returns what was not consumed.
    fn feed(
        bytes: &[u8],
        cuts: &[usize],
        mut input: impl FnMut(&[u8]) -> Progress,
    ) -> (Vec<u8>, bool) {
        let mut rest = bytes;
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let piece = rest.len().min(*cuts.next().unwrap());
            let progress = input(&rest[..piece]);
            rest = &rest[progress.consumed..];
            if progress.done {
                return (rest.to_vec(), true);
            }
            assert_eq!(progress.consumed, piece);
        }
        (Vec::new(), false)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn both_sides_agree_under_any_split(
            mode in prop_oneof![
                Just(HandshakeMode::Simple),
                Just(HandshakeMode::Digest(DigestLayout::DigestFirst)),
                Just(HandshakeMode::Digest(DigestLayout::KeyFirst)),
            ],
            seeds in any::<(u64, u64)>(),
            cuts in prop::collection::vec(1_usize..2000, 1..6),
            follow in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let mut client = ClientHandshake::new(mode, seeds.0, 1);
            let mut server = ServerHandshake::new(seeds.1, 2);
            let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
            client.start(&mut to_server);
            let (_, done) = feed(&to_server, &cuts, |bytes| {
                server.input(bytes, &mut to_client).unwrap()
            });
            prop_assert!(!done);
            prop_assert_eq!(to_client.len(), 1 + 2 * PACKET_BYTES);
            to_client.extend_from_slice(&follow);
            let mut c2 = Vec::new();
            let (rest, done) = feed(&to_client, &cuts, |bytes| {
                client.input(bytes, &mut c2).unwrap()
            });
            prop_assert!(done);
            prop_assert!(follow.ends_with(&rest));
            prop_assert_eq!(c2.len(), PACKET_BYTES);
            c2.extend_from_slice(&follow);
            let (rest, done) = feed(&c2, &cuts, |bytes| {
                server.input(bytes, &mut Vec::new()).unwrap()
            });
            prop_assert!(done);
            prop_assert_eq!(rest, follow);
            let signed = mode != HandshakeMode::Simple;
            prop_assert_eq!(server.digest_layout().is_some(), signed);
            let expected = ServerProof { s1_digest: signed, s2_signature: signed };
            prop_assert_eq!(client.server_proof(), expected);
        }
    }
}
