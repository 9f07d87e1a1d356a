//! Sources in a table of fixed size: a hash picks a set of four places, and within it the one that was
//! seen longest ago makes room, those that are banned last of all.

use std::fmt;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::str::FromStr;

use cordboard_base::map::HashState;

const WAYS: usize = 4;

/// A network: an address and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// The network of `bits` that `address` lies in; too many bits are all of them. An IPv4 address
    /// written as IPv6 (`::ffff:192.0.2.1`) is IPv4.
    #[must_use]
    pub fn new(address: IpAddr, bits: u8) -> Self {
        let mapped = address.is_ipv6() && address.to_canonical().is_ipv4();
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let bits = if mapped { bits.saturating_sub(96) } else { bits }.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                Self { address: Ipv4Addr::from_bits(v4.to_bits() & mask).into(), bits }
            }
            IpAddr::V6(v6) => {
                let bits = bits.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                Self { address: Ipv6Addr::from_bits(v6.to_bits() & mask).into(), bits }
            }
        }
    }

    /// What counts as one source: an IPv4 address, or the 64 bits of an IPv6 network, in which one sender
    /// has as many addresses as it likes.
    #[must_use]
    pub fn of_source(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self::new(address, if address.is_ipv4() { 32 } else { 64 })
    }

    /// Whether all of `other` lies in it, or, below 64 bits of IPv6, the other way round: sources are not
    /// told apart there.
    #[must_use]
    pub fn holds(&self, other: Self) -> bool {
        let bits = self.bits.min(other.bits);
        (self.bits <= other.bits || (self.address.is_ipv6() && other.bits == 64))
            && Self::new(other.address, bits) == Self::new(self.address, bits)
    }

    /// Its first address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.bits) {
            (IpAddr::V4(v4), 32) => fmt::Display::fmt(&v4, f),
            (address, bits) => write!(f, "{address}/{bits}"),
        }
    }
}

/// The text is neither an address nor `ADDRESS/BITS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotANetwork;

impl fmt::Display for NotANetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a network: expected an address or ADDRESS/BITS, such as 192.0.2.0/24")
    }
}

impl std::error::Error for NotANetwork {}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(all), |b| b.parse().map_err(|_| NotANetwork))?;
        if bits > all { Err(NotANetwork) } else { Ok(Self::new(address, bits)) }
    }
}

/// One source.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    key: u64,
    used: bool,
    v6: bool,
    pub(super) exempt: bool,
    pub(super) bans: u32,
    /// Up to when tokens and points are counted.
    pub(super) seen_ns: u64,
    pub(super) tokens_milli: u32,
    /// What its offences cost, in milliseconds until they are forgotten.
    pub(super) debt_ms: u64,
    pub(super) banned_until_ns: u64,
}

impl Entry {
    pub(super) fn source(&self) -> Network {
        match self.v6 {
            true => Network::of_source(Ipv6Addr::from_bits(u128::from(self.key) << 64).into()),
            false => Network::of_source(Ipv4Addr::from_bits(self.key as u32).into()),
        }
    }
}

#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<Entry>,
    hash: HashState,
}

impl Table {
    pub(super) fn new(sources: usize) -> Self {
        let size = sources.clamp(64, 1 << 24).next_power_of_two();
        Self { entries: vec![Entry::default(); size], hash: HashState::default() }
    }

    fn key(source: IpAddr) -> (u64, bool) {
        match source.to_canonical() {
            IpAddr::V4(v4) => (u64::from(v4.to_bits()), false),
            IpAddr::V6(v6) => ((v6.to_bits() >> 64) as u64, true),
        }
    }

    fn set(&self, key: u64, v6: bool) -> Range<usize> {
        let set = (self.hash.hash_one((key, v6)) as usize) & (self.entries.len() / WAYS - 1);
        set * WAYS..(set + 1) * WAYS
    }

    /// The source's entry, and whether another had to go for it. `fresh` says a new one's burst and whether
    /// it is exempt.
    pub(super) fn entry(
        &mut self,
        now_ns: u64,
        source: IpAddr,
        fresh: impl FnOnce(Network) -> (u32, bool),
    ) -> (&mut Entry, bool) {
        let (key, v6) = Self::key(source);
        let set = self.set(key, v6);
        let set = &mut self.entries[set];
        let found = set.iter().position(|e| e.used && e.key == key && e.v6 == v6);
        if let Some(at) = found {
            return (&mut set[at], false);
        }
        // Free ones, then the longest silent, then of the banned the one that is free soonest.
        let oldest = (0..WAYS)
            .min_by_key(|at| {
                let e = &set[*at];
                let banned = e.banned_until_ns.max(now_ns) - now_ns;
                (e.used, banned, e.seen_ns)
            })
            .unwrap_or(0);
        let forgotten = set[oldest].used;
        let (burst, exempt) = fresh(Network::of_source(source));
        let tokens_milli = burst.saturating_mul(1_000);
        set[oldest] =
            Entry { key, used: true, v6, exempt, seen_ns: now_ns, tokens_milli, ..Entry::default() };
        (&mut set[oldest], forgotten)
    }

    pub(super) fn find(&self, source: IpAddr) -> Option<&Entry> {
        let (key, v6) = Self::key(source);
        self.entries[self.set(key, v6)].iter().find(|e| e.used && e.key == key && e.v6 == v6)
    }

    pub(super) fn find_mut(&mut self, source: IpAddr) -> Option<&mut Entry> {
        let (key, v6) = Self::key(source);
        let set = self.set(key, v6);
        self.entries[set].iter_mut().find(|e| e.used && e.key == key && e.v6 == v6)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|e| e.used)
    }

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().filter(|e| e.used)
    }
}
