//! Everything random comes from one seed.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice of their own for a part, so that what one part does never changes another one's luck.
    pub(super) fn split(&mut self) -> Self {
        Self(self.next())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn within(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + (self.next() % (range.end() - range.start() + 1) as u64) as usize
    }

    pub(super) fn ms(&mut self, range: RangeInclusive<usize>) -> Duration {
        Duration::from_millis(self.within(range) as u64)
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.within(0..=choices.len() - 1)]
    }

    /// True `times` times in 10,000.
    pub(super) fn happens(&mut self, times: usize) -> bool {
        self.within(0..=9_999) < times
    }

    /// The size of a piece of a stream of bytes: often tiny, seldom large.
    pub(super) fn piece(&mut self) -> usize {
        let end = self.one_of(&[3, 50, 1_000, 20_000, 200_000]);
        self.within(1..=end)
    }
}
