//! What a player wants of the stream that it plays.

use crate::media::Tracks;

/// Set by `receiveAudio`, `receiveVideo` and `pause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reception {
    /// Which tracks it is sent.
    pub tracks: Tracks,
    /// It is sent nothing at present.
    pub is_paused: bool,
}

impl Default for Reception {
    fn default() -> Self {
        Self { tracks: Tracks::BOTH, is_paused: false }
    }
}
