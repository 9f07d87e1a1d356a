//! Injected randomness: identifiers come from here, so a run can be repeated from its seed.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A source of random bits for identifiers (tags, branches, Call-IDs, tokens, SSRCs).
///
/// A cryptographic generator, so that a token of a live system cannot be guessed; the shell seeds
/// it from the operating system, a simulation from a number.
#[derive(Debug, Clone)]
pub struct Random(ChaCha12Rng);

impl Random {
    /// A generator that repeats for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(ChaCha12Rng::seed_from_u64(seed))
    }

    /// A generator from 32 bytes of the operating system's randomness.
    #[must_use]
    pub fn from_entropy(bytes: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(bytes))
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A number below `n` (which must not be zero), without a bias that matters at these sizes.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// 16 hexadecimal digits (64 bits), for tags, branches and tokens.
    pub fn token(&mut self) -> String {
        format!("{:016x}", self.next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_sequence() {
        let (mut a, mut b) = (Random::seeded(7), Random::seeded(7));
        assert!((0..100).all(|_| a.next_u64() == b.next_u64()));
        assert_ne!(Random::seeded(7).next_u64(), Random::seeded(8).next_u64());
    }

    #[test]
    fn below_stays_below() {
        let mut r = Random::seeded(1);
        assert!((0..1000).all(|_| r.below(10) < 10));
    }
}
