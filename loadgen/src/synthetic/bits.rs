//! Writes bit fields, as H.264 and AAC have them.

/// Bits, most significant first.
#[derive(Debug, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits used in the last byte; 0 when it is full.
    used: u32,
}

impl BitWriter {
    /// No bits.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The lowest `count` bits of `value`.
    pub(crate) fn bits(&mut self, value: u32, count: u32) {
        for shift in (0..count).rev() {
            if self.used == 0 {
                self.bytes.push(0);
            }
            let bit = ((value >> shift) & 1) as u8;
            if let Some(last) = self.bytes.last_mut() {
                *last |= bit << (7 - self.used);
            }
            self.used = (self.used + 1) % 8;
        }
    }

    /// An unsigned Exp-Golomb code, `ue(v)`.
    pub(crate) fn exp_golomb(&mut self, value: u32) {
        let coded = value + 1;
        let length = 32 - coded.leading_zeros();
        self.bits(0, length - 1);
        self.bits(coded, length);
    }

    /// Zero bits up to the next byte.
    pub(crate) fn align(&mut self) {
        self.used = 0;
    }

    /// A one, then zeros up to the next byte: the end of every H.264 payload.
    pub(crate) fn stop_bit(&mut self) {
        self.bits(1, 1);
        self.align();
    }

    /// Whole bytes; only after [`BitWriter::align`].
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        debug_assert_eq!(self.used, 0);
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes so far, the last one possibly unfinished.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_of_the_specification() {
        let mut writer = BitWriter::new();
        for value in 0..=4 {
            writer.exp_golomb(value);
        }
        // 1, 010, 011, 00100, 00101 (table 9-2 of H.264).
        assert_eq!(writer.into_bytes(), [0b1010_0110, 0b0100_0010, 0b1000_0000]);
    }
}
