//! Whether a call has been here before. A back-to-back user agent gives every leg a Call-ID of its own, so what
//! RFC 3261 16.3 (step 4) finds by Via is found here by a header that we write ourselves on each call out and read
//! again: one token for each passage, a keyed hash of whose number was called.
//!
//! Read by the shard for each call that arrives, written for each leg that it dials. Where others take the header
//! out, Max-Forwards (RFC 7332 4) and the count of diversions are still there.

use cordboard_sip::wire::Message;
use siphasher::sip::SipHasher24;
use std::hash::Hasher;

/// The header.
pub const HEADER: &str = "X-Cordboard-Passages";
/// A call may pass here this often, each time to another number.
pub const MAX_PASSAGES: usize = 16;

/// Makes tokens that nobody else can make or, since numbers are few, find the number of. Nodes that have the same key know
/// each other's tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 16]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// A key from a secret that has other uses, too.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(std::array::from_fn(|i| secret[i] ^ secret[i + 16]))
    }

    /// What stands for a call to `called` of `tenant` that was diverted so often.
    fn token(&self, tenant: &str, called: &str, diversions: u32) -> u64 {
        let mut hash = SipHasher24::new_with_key(&self.0);
        for part in [tenant, called] {
            hash.write_u64(part.len() as u64);
            hash.write(part.as_bytes());
        }
        hash.write_u32(diversions);
        hash.finish()
    }
}

/// What a call's earlier passages mean for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on.
    Passes,
    /// It was here with the same number, so many passages ago: it would go the same way again.
    Loops(usize),
    /// It was here [`MAX_PASSAGES`] times.
    TooMany,
}

/// The passages of a call, this one included, the newest last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passages(Vec<u64>);

impl Passages {
    /// Those of a call that arrives, and what they mean. One that was diverted since comes for another reason,
    /// and may be treated differently: it is a spiral and no loop.
    #[must_use]
    pub fn of(request: &Message, key: &Key, tenant: &str, called: &str, diversions: u32) -> (Self, Verdict) {
        let known = request.other(HEADER).unwrap_or("").split(',').map(str::trim);
        let mut before: Vec<u64> =
            known.filter(|t| t.len() == 16).filter_map(|t| u64::from_str_radix(t, 16).ok()).collect();
        let token = key.token(tenant, called, diversions);
        let verdict = match before.iter().rev().position(|t| *t == token) {
            Some(between) => Verdict::Loops(between + 1),
            None if before.len() >= MAX_PASSAGES => Verdict::TooMany,
            None => Verdict::Passes,
        };
        before.truncate(MAX_PASSAGES);
        before.push(token);
        (Self(before), verdict)
    }

    /// The same for a leg that somebody asked for by hand, which may lead to the same number again: only how often
    /// the call was here counts.
    #[must_use]
    pub fn of_transfer(&self) -> Self {
        Self(vec![0; self.0.len()])
    }

    /// The header's value on the legs that are dialled for the call.
    #[must_use]
    pub fn value(&self) -> String {
        let tokens: Vec<String> = self.0.iter().map(|t| format!("{t:016x}")).collect();
        tokens.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(key: &Key, header: &str, tenant: &str, called: &str) -> (String, Verdict) {
        let text =
            format!("INVITE sip:1@x SIP/2.0\r\n{HEADER}: {header}\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\n\r\n");
        let request = Message::parse(text.into_bytes().into()).unwrap();
        let (passages, verdict) = Passages::of(&request, key, tenant, called, 0);
        (passages.value(), verdict)
    }

    #[test]
    fn the_same_number_again_is_a_loop_and_another_is_none() {
        let key = Key::new(&[7; 32]);
        let (once, verdict) = passes(&key, "", "a", "1");
        assert_eq!(verdict, Verdict::Passes);
        let (twice, verdict) = passes(&key, &once, "a", "2");
        assert_eq!(verdict, Verdict::Passes, "a spiral");
        assert_eq!(passes(&key, &twice, "a", "2").1, Verdict::Loops(1));
        assert_eq!(passes(&key, &twice, "a", "1").1, Verdict::Loops(2));
        assert_eq!(passes(&key, &twice, "b", "1").1, Verdict::Passes, "another tenant's number");
        assert_eq!(passes(&key, &twice, "a1", "").1, Verdict::Passes, "parts do not run together");
        let mut secret = [7; 32];
        secret[0] = 8;
        assert_eq!(
            passes(&Key::new(&secret), &twice, "a", "1").1,
            Verdict::Passes,
            "another centre's tokens"
        );
        assert_eq!(passes(&key, "nonsense, 12,,ffffffffffffffffff", "a", "1").0, once);
    }

    #[test]
    fn a_call_that_was_diverted_or_handed_on_since_may_come_for_the_same_number() {
        let key = Key::new(&[7; 32]);
        let (once, _) = passes(&key, "", "a", "1");
        let text =
            format!("INVITE sip:1@x SIP/2.0\r\n{HEADER}: {once}\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\n\r\n");
        let request = Message::parse(text.into_bytes().into()).unwrap();
        let (passages, verdict) = Passages::of(&request, &key, "a", "1", 1);
        assert_eq!(verdict, Verdict::Passes);
        let handed_on = passages.of_transfer().value();
        assert_eq!(passes(&key, &handed_on, "a", "1").1, Verdict::Passes);
        assert_eq!(handed_on.split(',').count(), 2, "they are counted all the same");
    }

    #[test]
    fn passages_are_bounded() {
        let (key, mut header) = (Key::new(&[1; 32]), String::new());
        for n in 0..MAX_PASSAGES {
            let (next, verdict) = passes(&key, &header, "a", &n.to_string());
            assert_eq!(verdict, Verdict::Passes, "{n}");
            header = next;
        }
        assert_eq!(passes(&key, &header, "a", "x").1, Verdict::TooMany);
        assert_eq!(passes(&key, &header, "a", "3").1, Verdict::Loops(13));
        let long = vec![header.as_str(); 100].join(",");
        assert!(passes(&key, &long, "a", "x").0.len() < 17 * 18);
    }
}
