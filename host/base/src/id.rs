//! Identifiers of interactions, tickets and tokens: 128 bits that sort by time and print as 26 letters.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Now, Random};

/// 48 bits of wall-clock milliseconds and 80 random bits, printed in Crockford's base 32 (the ULID layout).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Id(pub u128);

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl Id {
    /// A fresh identifier.
    pub fn new(now: Now, random: &mut Random) -> Self {
        let ms = u128::from(now.wall_ms.max(0) as u64 & 0xffff_ffff_ffff);
        let tail = (u128::from(random.next_u64()) << 16) | u128::from(random.next_u64() & 0xffff);
        Self(ms << 80 | tail)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 26];
        for (i, digit) in text.iter_mut().enumerate() {
            *digit = DIGITS[(self.0 >> (125 - 5 * i)) as usize & 31];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 26 letters of Crockford's base 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an identifier: expected 26 letters and digits of base 32, such as 01JD3QZ6X8M2V7T4K9P5R0W1YB")
    }
}

impl std::error::Error for NotAnId {}

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let bytes = text.as_bytes();
        if bytes.len() != 26 || bytes[0] > b'7' {
            return Err(NotAnId);
        }
        bytes
            .iter()
            .try_fold(0_u128, |id, letter| {
                let digit = DIGITS.iter().position(|d| *d == letter.to_ascii_uppercase()).ok_or(NotAnId)?;
                Ok(id << 5 | digit as u128)
            })
            .map(Self)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            std::borrow::Cow::<'de, str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
        } else {
            u128::deserialize(d).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses_back_and_sorts_by_time() {
        let mut random = Random::seeded(1);
        let a = Id::new(Now { mono_ns: 0, wall_ms: 1_700_000_000_000 }, &mut random);
        let b = Id::new(Now { mono_ns: 0, wall_ms: 1_700_000_000_001 }, &mut random);
        assert_eq!(a.to_string().parse(), Ok(a));
        assert!(a.to_string() < b.to_string());
        assert_eq!("no".parse::<Id>(), Err(NotAnId));
        assert_eq!(Id(u128::MAX).to_string().parse(), Ok(Id(u128::MAX)));
    }
}
