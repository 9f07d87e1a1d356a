//! Hash maps whose iteration order is a function of their history, and whose hash an attacker
//! cannot predict: the seed is set once, from the system's randomness in production and to a
//! constant in simulations.

use std::hash::BuildHasher;
use std::sync::OnceLock;

static SEED: OnceLock<u64> = OnceLock::new();

/// Sets the process's hash seed. The first call wins; call it before any map is made.
pub fn seed_hashes(seed: u64) {
    let _ = SEED.set(seed);
}

/// The hasher of [`Map`] and [`Set`].
#[derive(Debug, Clone)]
pub struct HashState(foldhash::fast::FixedState);

impl Default for HashState {
    fn default() -> Self {
        Self(foldhash::fast::FixedState::with_seed(*SEED.get_or_init(|| 0x5eed_c0d0_b0a2_d001)))
    }
}

impl BuildHasher for HashState {
    type Hasher = foldhash::fast::FoldHasher<'static>;

    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

/// A hash map with the process's seed.
#[allow(clippy::disallowed_types, reason = "this is the one place that gives the map its hasher")]
pub type Map<K, V> = std::collections::HashMap<K, V, HashState>;
/// A hash set with the process's seed.
#[allow(clippy::disallowed_types, reason = "this is the one place that gives the set its hasher")]
pub type Set<K> = std::collections::HashSet<K, HashState>;
