//! CRC-32C, whole or of bytes that come in parts.

use crc_fast::{CrcAlgorithm, Digest};

/// The Castagnoli polynomial, the lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The CRC-32C (Castagnoli) of `bytes`, with the CPU's carry-less multiplication where it has one.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// A CRC-32C of bytes that come in parts, some of them with a CRC of their own that is known.
pub struct Crc32c {
    crc: u32,
    /// The last size that a known part had, and what the CRC of what stands before so many bytes is multiplied by.
    shift: (usize, u32),
}

impl Default for Crc32c {
    fn default() -> Crc32c {
        Crc32c { crc: 0, shift: (0, power_of_x(0)) }
    }
}

impl Crc32c {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!self.crc));
        digest.update(bytes);
        self.crc = digest.finalize() as u32;
    }

    /// Takes in the next `size` bytes, whose CRC this is.
    pub fn update_known(&mut self, crc: u32, size: usize) {
        if self.shift.0 != size {
            self.shift = (size, power_of_x(size as u64 * 8));
        }
        self.crc = multiply(self.shift.1, self.crc) ^ crc;
    }

    /// The CRC of all of them.
    #[must_use]
    pub fn value(&self) -> u32 {
        self.crc
    }
}

/// Multiplies two polynomials modulo that of the CRC.
const fn multiply(mut left: u32, mut right: u32) -> u32 {
    let mut product = 0;
    while left != 0 {
        if left >> 31 == 1 {
            product ^= right;
        }
        left <<= 1;
        right = right >> 1 ^ if right & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    product
}

/// `x` to the powers 1, 2, 4, 8, ...
const POWERS: [u32; 64] = {
    let mut powers = [1 << 30; 64];
    let mut index = 1;
    while index < powers.len() {
        powers[index] = multiply(powers[index - 1], powers[index - 1]);
        index += 1;
    }
    powers
};

fn power_of_x(exponent: u64) -> u32 {
    let set = (0..64).filter(|bit| exponent >> bit & 1 == 1);
    set.fold(1 << 31, |product, bit| multiply(product, POWERS[bit]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_sum_up_to_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..5000),
            parts in prop::collection::vec((0..2000_usize, any::<bool>()), 0..8),
        ) {
            let mut crc = Crc32c::default();
            let mut rest = &bytes[..];
            for (size, is_known) in parts {
                let (part, others) = rest.split_at(size.min(rest.len()));
                rest = others;
                if is_known {
                    crc.update_known(crc32c(part), part.len());
                } else {
                    crc.update(part);
                }
            }
            prop_assert_eq!(crc.value(), crc32c(&bytes[..bytes.len() - rest.len()]));
        }
    }
}
