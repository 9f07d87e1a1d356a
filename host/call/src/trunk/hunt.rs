//! Which way a call out takes, and which one next.
//!
//! A router, or a script that transfers, names a SIP URI or `trunk:NAME[,NAME…][/NUMBER]`. Each trunk
//! is tried in that order, each of its destinations by priority and weight, and the first that can
//! serve has the call. Asked by the shard; sends nothing.

use std::collections::VecDeque;

use cordboard_base::Random;
use cordboard_sip::endpoint::Flow;
use cordboard_sip::wire::Uri;

use super::terms::Destination;
use crate::Name;
use crate::center::cause::Said;

/// The most trunks that one address may name.
pub const MAX_TRUNKS: usize = 16;
/// The most destinations that one call is sent to.
const MAX_ATTEMPTS: u32 = 32;

/// Where a call out is to go, as a router or a script has said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To this SIP URI.
    Uri(String),
    /// Through one of these trunks.
    Trunks {
        /// In this order.
        trunks: Vec<Name>,
        /// The number; none: the one that the caller has dialled.
        number: Option<String>,
    },
}

impl Target {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(address: &str) -> Result<Self, String> {
        let Some(rest) = address.strip_prefix("trunk:") else {
            return if Uri::parse(address).is_ok_and(|u| u.is_sip()) {
                Ok(Self::Uri(address.to_owned()))
            } else {
                Err(format!("`{address}` is no SIP URI, and no `trunk:NAME/NUMBER`"))
            };
        };
        let (names, number) = rest.split_once('/').map_or((rest, None), |(names, n)| (names, Some(n)));
        let trunks: Vec<Name> = names.split(',').map(str::trim).map(Name::from).collect();
        if trunks.iter().any(|t| t.is_empty()) || trunks.len() > MAX_TRUNKS {
            return Err(format!("`{address}` names no trunk, or more than {MAX_TRUNKS}"));
        }
        let fits = |n: &str| !n.is_empty() && n.len() <= 128 && n.bytes().all(|b| b.is_ascii_graphic());
        match number {
            Some(number) if !fits(number) => Err(format!("`{address}` has no number after the `/`")),
            number => Ok(Self::Trunks { trunks, number: number.map(str::to_owned) }),
        }
    }
}

/// The ways that one call may still take.
#[derive(Debug, Default)]
pub struct Hunt {
    /// Not entered yet.
    pub trunks: VecDeque<Name>,
    /// The number that is dialled there.
    pub number: String,
    /// The trunk that counts the call now.
    pub at: Option<Name>,
    /// Destinations of that trunk that were not tried, the next one first.
    pub left: VecDeque<String>,
    /// The one that is being tried.
    pub tried: Option<String>,
    /// The ways to it that were not tried.
    pub addresses: VecDeque<Flow>,
    /// The number of the question for them.
    pub waiting: Option<u64>,
    attempts: u32,
    /// What the last attempt ended with, for the caller when there is no other.
    pub failure: Option<(u16, String)>,
    /// What it said of why.
    pub said: Option<Said>,
}

impl Hunt {
    /// One that has tried nothing.
    #[must_use]
    pub fn new(target: Target, dialled: &str) -> Self {
        let (trunks, left, number) = match target {
            Target::Uri(uri) => (VecDeque::new(), VecDeque::from([uri]), None),
            Target::Trunks { trunks, number } => (trunks.into(), VecDeque::new(), number),
        };
        Self { trunks, number: number.unwrap_or_else(|| dialled.to_owned()), left, ..Self::default() }
    }

    /// The next destination of the trunk that it is at.
    pub fn next_destination(&mut self) -> Option<String> {
        self.tried = self.left.pop_front();
        self.tried.clone()
    }

    /// The next address of that destination; none, ever, when too many were tried.
    pub fn next_address(&mut self) -> Option<Flow> {
        if self.attempts >= MAX_ATTEMPTS {
            self.trunks.clear();
            self.left.clear();
            self.addresses.clear();
        }
        let next = self.addresses.pop_front()?;
        self.attempts += 1;
        Some(next)
    }

    /// It has found one: only the trunk that counts the call matters from here on.
    pub fn found(&mut self) {
        let at = self.at.take();
        *self = Self { at, ..Self::default() };
    }

    /// Whether there is anything left to try.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        !(self.trunks.is_empty() && self.left.is_empty() && self.addresses.is_empty())
    }
}

/// Whether a call that ended like this is tried at the next destination: this one could not serve. A
/// refusal of somebody who could have (busy, declined, no such number) is the answer.
#[must_use]
pub const fn goes_on(status: u16) -> bool {
    // 401 and 407 come through only when our credentials were refused: another trunk has others.
    matches!(status, 401 | 407 | 408 | 500..=599)
}

/// The order in which destinations are tried: those that serve before those that do not, the lowest
/// priority first, and among equals at random by weight (as RFC 2782 does).
pub fn order(
    destinations: &[Destination],
    mut serves: impl FnMut(usize) -> bool,
    random: &mut Random,
) -> VecDeque<String> {
    let mut groups: Vec<(bool, u16, usize)> =
        destinations.iter().enumerate().map(|(i, d)| (!serves(i), d.priority, i)).collect();
    groups.sort_unstable();
    let mut order = VecDeque::with_capacity(groups.len());
    while let Some(&(down, priority, _)) = groups.first() {
        let equals = groups.iter().take_while(|g| (g.0, g.1) == (down, priority)).count();
        let weight = |i: usize| u64::from(destinations[i].weight.max(1));
        let sum = groups[..equals].iter().map(|g| weight(g.2)).sum();
        let mut ticket = random.below(sum);
        let mut picked = 0;
        for (at, group) in groups[..equals].iter().enumerate() {
            picked = at;
            let share = weight(group.2);
            if ticket < share {
                break;
            }
            ticket -= share;
        }
        order.push_back(destinations[groups.remove(picked).2].uri.clone());
    }
    order
}

/// The URI of a number at a destination: the destination's own with the number as its user.
#[must_use]
pub fn uri_of(number: &str, destination: &str) -> String {
    let (scheme, host) = destination.split_once(':').unwrap_or(("sip", destination));
    let mut uri = format!("{scheme}:");
    escape_user(&mut uri, number);
    uri.push('@');
    uri.push_str(host);
    uri
}

/// Writes a user part: what may not stand in one is escaped (RFC 3261 19.1.2).
pub fn escape_user(into: &mut String, user: &str) {
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push('%');
            for digit in [byte >> 4, byte & 15] {
                into.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_trunks_and_a_number() {
        let trunks = |names: &[&str], number: Option<&str>| Target::Trunks {
            trunks: names.iter().map(|n| Name::from(*n)).collect(),
            number: number.map(str::to_owned),
        };
        assert_eq!(Target::parse("trunk:a/+4930"), Ok(trunks(&["a"], Some("+4930"))));
        assert_eq!(Target::parse("trunk:a,b"), Ok(trunks(&["a", "b"], None)));
        assert_eq!(Target::parse("sip:1@x"), Ok(Target::Uri("sip:1@x".into())));
        for wrong in ["trunk:", "trunk:a,", "trunk:a/", "trunk:/1", "trunk:a/1 2", "mailto:a@b", "x"] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            uri_of("#31#7", "sip:192.0.2.1:5070;transport=tcp"),
            "sip:%2331%237@192.0.2.1:5070;transport=tcp"
        );
    }

    fn destination(uri: &str, priority: u16, weight: u16) -> Destination {
        Destination { uri: uri.into(), priority, weight }
    }

    #[test]
    fn priority_goes_before_weight_and_service_before_both() {
        let list = [destination("c", 2, 9), destination("a", 1, 1), destination("b", 1, 1)];
        let mut random = Random::seeded(1);
        let up = order(&list, |_| true, &mut random);
        assert_eq!(up[2], "c");
        let down = order(&list, |i| i != 1, &mut random);
        assert_eq!(down, ["b", "c", "a"], "the one that does not serve is still there, last");
    }

    #[test]
    fn weights_are_shares() {
        let list = [destination("a", 1, 1), destination("b", 1, 3)];
        let mut random = Random::seeded(3);
        let firsts = (0..4_000).filter(|_| order(&list, |_| true, &mut random)[0] == "b").count();
        assert!((2_880..3_120).contains(&firsts), "{firsts} of 4,000, 3,000 expected");
    }

    #[test]
    fn only_who_cannot_serve_is_passed_over() {
        assert!([401, 407, 408, 500, 502, 503, 504, 580].iter().all(|s| goes_on(*s)));
        assert!([300, 403, 404, 480, 484, 486, 487, 488, 600, 603, 604].iter().all(|s| !goes_on(*s)));
    }
}
