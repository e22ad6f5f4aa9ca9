//! Video messages that say which one they are, when they were sent, and whether they arrived whole.

use std::sync::OnceLock;
use std::time::Instant;

/// Bytes in front of the filling: the tag head, the number, the time, the length.
const HEAD_BYTES: usize = 5 + 8 + 8 + 4;
/// FLV tag head of an AVC keyframe (frame type 1, codec 7, NAL units, composition time 0).
const KEYFRAME: [u8; 5] = [0x17, 1, 0, 0, 0];
/// The same of a frame that needs earlier ones.
const INTER: [u8; 5] = [0x27, 1, 0, 0, 0];

/// What a stamped message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Counts the video messages of a publisher from 0 on.
    pub(crate) number: u64,
    /// When it was sent, on the clock of [`now_nanos`].
    pub(crate) sent_nanos: u64,
    /// Decoding can begin with it.
    pub(crate) is_keyframe: bool,
}

/// Nanoseconds on a clock of this process.
pub(crate) fn now_nanos() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).expect("the run is short")
}

/// Whether a video message is a decoder configuration.
pub(crate) fn is_config(payload: &[u8]) -> bool {
    matches!(payload, [0x17, 0, ..])
}

/// Whether a video message is an AVC keyframe, stamped or not.
pub(crate) fn is_keyframe(payload: &[u8]) -> bool {
    matches!(payload, [0x17, 1, ..])
}

impl Stamp {
    /// A message of `bytes` bytes (at least those of the stamp) in all.
    pub(crate) fn write(&self, bytes: usize) -> Vec<u8> {
        let bytes = bytes.max(HEAD_BYTES);
        let mut payload = Vec::with_capacity(bytes);
        payload.extend_from_slice(if self.is_keyframe { &KEYFRAME } else { &INTER });
        payload.extend_from_slice(&self.number.to_be_bytes());
        payload.extend_from_slice(&self.sent_nanos.to_be_bytes());
        payload.extend_from_slice(&u32::try_from(bytes).expect("a frame is small").to_be_bytes());
        payload.resize(bytes, filling(self.number));
        payload
    }

    /// Reads a message and checks every byte of it.
    pub(crate) fn read(payload: &[u8]) -> Self {
        assert!(payload.len() >= HEAD_BYTES, "a message of {} bytes has no stamp", payload.len());
        let is_keyframe = payload[..5] == KEYFRAME;
        assert!(is_keyframe || payload[..5] == INTER, "not a stamped frame: {:?}", &payload[..5]);
        let number = |from: usize| {
            u64::from_be_bytes(payload[from..from + 8].try_into().expect("eight bytes"))
        };
        let stamp = Self { number: number(5), sent_nanos: number(13), is_keyframe };
        let bytes = u32::from_be_bytes(payload[21..25].try_into().expect("four bytes"));
        assert_eq!(payload.len(), bytes as usize, "frame {} has another length", stamp.number);
        let fill = filling(stamp.number);
        assert!(
            payload[HEAD_BYTES..].iter().all(|&byte| byte == fill),
            "frame {} holds bytes of another one",
            stamp.number
        );
        stamp
    }
}

/// Differs between neighbours.
fn filling(number: u64) -> u8 {
    (number % 251) as u8 + 1
}
