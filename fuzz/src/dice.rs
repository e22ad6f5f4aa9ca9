//! Choices that an input makes by its own bytes: the same input always makes the same ones, and
//! captures need no header to carry them.

/// Random numbers (SplitMix64) seeded by an input.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Seeded by all bytes of `input` (FNV-1a).
    pub(crate) fn of(input: &[u8]) -> Self {
        let hash = input.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
        });
        Self(hash)
    }

    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// The length of the next piece of `left` bytes: often a few, seldom many, never 0.
    pub(crate) fn piece(&mut self, left: usize) -> usize {
        let end = match self.below(4) {
            0 => 3,
            1 => 40,
            2 => 600,
            _ => 5_000,
        };
        (1 + self.below(end)).min(left)
    }

    /// `input` in pieces.
    pub(crate) fn cut<'a>(&mut self, input: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        let mut rest = input;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(self.piece(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces
    }
}
