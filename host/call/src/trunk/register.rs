//! A registration with a trunk's registrar, kept up (RFC 3261 10.2, RFC 6140).
//!
//! ```text
//!            due            200, expiry            due before the expiry
//!   Waiting ----> Asking --------------> Registered ------> Asking ...
//!      ^            |  423: at once with Min-Expires
//!      +------------+  anything else: back off, doubling, with jitter
//!
//!   any of them -- remove --> Removed: what is bound, or comes to be by a request under way, is taken back once
//! ```
//! The shard sends what [`Registration::request`] says when the time that the last call returned has
//! passed, and hands the outcome in. Never sends anything itself.

use cordboard_base::{Now, Random, ms, secs};
use cordboard_sip::wire::{Message, Name as Header, Uri};

/// The first wait after a failure.
const BACK_OFF_MS: u64 = 2_000;
/// The longest.
const MAX_BACK_OFF_MS: u64 = 300_000;
/// The first wait after a refusal that trying again will hardly change: wrong credentials, unknown user.
const REFUSED_BACK_OFF_MS: u64 = 30_000;
/// How often in a row a 423 may ask for more.
const MAX_TOO_BRIEF: u8 = 2;
/// An expiry that a registrar may ask for by 423, at most.
const MAX_EXPIRES_S: u32 = 604_800;

/// What a registration is doing, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The first REGISTER is out or about to be.
    Asking,
    /// Bound.
    Registered {
        /// When the binding ends if it is not refreshed, monotonic.
        until_ns: u64,
    },
    /// Not bound; it is tried again.
    Failed {
        /// The final status; 0 for none.
        status: u16,
        /// Why.
        reason: String,
    },
    /// Taken back.
    Removed,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Registration {
    state: State,
    call_id: String,
    cseq: u32,
    /// As configured, or more after a 423.
    expires_s: u32,
    failures: u32,
    too_brief: u8,
    removing: bool,
    /// The registrar may hold a binding of ours.
    bound: bool,
    /// What the request under way asks for.
    pending: Option<Ask>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Bind,
    TakeBack,
}

/// What is left to do for a registration that was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// A request is under way: its outcome tells.
    Wait,
    /// The next [`Registration::request`] takes the binding back.
    TakeBack,
    /// No more.
    Nothing,
}

/// What the REGISTER says beside its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The same for the life of the registration (10.2.4).
    pub call_id: String,
    /// Grows.
    pub cseq: u32,
    /// 0 takes the binding back.
    pub expires_s: u32,
}

impl Registration {
    /// One that was never sent.
    #[must_use]
    pub fn new(expires_s: u32, random: &mut Random) -> Self {
        Self {
            state: State::Asking,
            call_id: format!("{}{}", random.token(), random.token()),
            cseq: 0,
            expires_s,
            failures: 0,
            too_brief: 0,
            removing: false,
            bound: false,
            pending: None,
        }
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The REGISTER to send now.
    pub fn request(&mut self) -> Request {
        self.cseq += 1;
        self.pending = Some(if self.removing { Ask::TakeBack } else { Ask::Bind });
        let expires_s = if self.removing { 0 } else { self.expires_s };
        Request { call_id: self.call_id.clone(), cseq: self.cseq, expires_s }
    }

    /// From now on nothing is asked for but an end; see [`Self::rest`].
    pub fn remove(&mut self) {
        self.removing = true;
        self.state = State::Removed;
    }

    /// What is left to do for one that was removed.
    #[must_use]
    pub fn rest(&self) -> Rest {
        match (self.pending, self.bound) {
            (Some(_), _) => Rest::Wait,
            (None, true) => Rest::TakeBack,
            (None, false) => Rest::Nothing,
        }
    }

    /// The outcome of the last request: a final response, or why there was none. `is_ours` finds the
    /// binding among those of the answer. Returns after how many milliseconds to send the next one.
    pub fn outcome(
        &mut self,
        now: Now,
        random: &mut Random,
        result: Result<&Message, &str>,
        is_ours: impl Fn(&Uri<'_>) -> bool,
    ) -> Option<u64> {
        let pending = self.pending.take();
        if self.removing {
            if pending == Some(Ask::Bind) {
                let status = result.map_or(0, Message::status);
                self.cseq = self.cseq.max(result.ok().and_then(Message::cseq).map_or(0, |(n, _)| n));
                self.bound |= (200..300).contains(&status);
            } else {
                // It was told once, or the registrar cannot be found; what is left there runs out by itself.
                self.bound = false;
            }
            return None;
        }
        let response = match result {
            Ok(response) => response,
            Err(why) => return Some(self.fail(random, 0, why, None)),
        };
        // The retry with credentials took a number of its own.
        self.cseq = self.cseq.max(response.cseq().map_or(0, |(n, _)| n));
        let status = response.status();
        if (200..300).contains(&status) {
            let granted = response
                .contacts()
                .find(|c| c.parsed_uri().is_ok_and(|u| is_ours(&u)))
                .and_then(|c| c.expires_s())
                .or(response.expires())
                .unwrap_or(self.expires_s);
            if granted == 0 {
                return Some(self.fail(random, status, "the registrar granted no time", None));
            }
            (self.failures, self.too_brief, self.bound) = (0, 0, true);
            self.state = State::Registered { until_ns: now.after_ns(secs(granted.into())) };
            return Some(refresh_ms(granted, random));
        }
        if status == 423 && self.too_brief < MAX_TOO_BRIEF {
            let least = response.header(Header::MinExpires).and_then(|v| v.trim().parse::<u32>().ok());
            if let Some(least) = least.filter(|s| *s > self.expires_s && *s <= MAX_EXPIRES_S) {
                self.too_brief += 1;
                self.expires_s = least;
                return Some(0);
            }
        }
        let retry_after = response.header(Header::RetryAfter).and_then(leading_number);
        Some(self.fail(random, status, response.reason(), retry_after))
    }

    fn fail(&mut self, random: &mut Random, status: u16, why: &str, retry_after_s: Option<u32>) -> u64 {
        let reason = if status == 0 { why.to_owned() } else { format!("{status} {why}") };
        self.state = State::Failed { status, reason };
        let first = if (400..500).contains(&status) && status != 408 && status != 480 {
            REFUSED_BACK_OFF_MS
        } else {
            BACK_OFF_MS
        };
        let wait = (first << self.failures.min(16)).min(MAX_BACK_OFF_MS);
        self.failures = self.failures.saturating_add(1);
        // RFC 5626 4.5: between half and the whole, so that all who lost a registrar do not return at once.
        let wait = wait / 2 + random.below(wait / 2 + 1);
        wait.max(u64::from(retry_after_s.unwrap_or(0)).min(3_600) * 1_000)
    }
}

/// A while before the expiry: time for the request and two tries, in a spread so that many do not meet.
fn refresh_ms(granted_s: u32, random: &mut Random) -> u64 {
    let whole = u64::from(granted_s) * 1_000;
    if granted_s < 30 {
        return whole / 2;
    }
    // 75 to 85 %.
    whole / 100 * 75 + random.below(whole / 10)
}

fn leading_number(text: &str) -> Option<u32> {
    let digits = text.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// The wait before a trunk's very first REGISTER: spread, so that many trunks do not start as one.
#[must_use]
pub fn first_wait_ns(random: &mut Random) -> u64 {
    ms(random.below(200))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn response(status: u16, more: &str, cseq: u32) -> Message {
        let text = format!(
            "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa\r\nFrom: <sip:u@r>;tag=1\r\n\
             To: <sip:u@r>;tag=2\r\nCall-ID: c\r\nCSeq: {cseq} REGISTER\r\n{more}Content-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    fn ours(uri: &Uri<'_>) -> bool {
        uri.user == Some("u") && uri.param("line").is_some()
    }

    #[test]
    fn it_is_refreshed_before_the_time_that_its_own_contact_was_given() {
        let (mut random, now) = (Random::seeded(1), Now::default());
        let mut r = Registration::new(3_600, &mut random);
        let first = r.request();
        assert_eq!((first.cseq, first.expires_s), (1, 3_600));
        let ok = response(
            200,
            "Contact: <sip:u@10.0.0.9>;expires=3000, <sip:u@10.0.0.1;line=x>;expires=100\r\nExpires: 7\r\n",
            2,
        );
        let wait = r.outcome(now, &mut random, Ok(&ok), ours).unwrap();
        assert!((75_000..85_000).contains(&wait), "{wait}");
        assert_eq!(*r.state(), State::Registered { until_ns: now.after_ns(secs(100)) });
        let next = r.request();
        assert_eq!((next.cseq, &next.call_id), (3, &first.call_id), "beyond the one with credentials");
    }

    #[test]
    fn an_interval_too_brief_is_asked_for_again_at_once_but_not_for_ever() {
        let (mut random, now) = (Random::seeded(1), Now::default());
        let mut r = Registration::new(60, &mut random);
        r.request();
        for least in [120, 240] {
            let brief = response(423, &format!("Min-Expires: {least}\r\n"), 1);
            assert_eq!(r.outcome(now, &mut random, Ok(&brief), ours), Some(0));
            assert_eq!(r.request().expires_s, least);
        }
        let brief = response(423, "Min-Expires: 480\r\n", 1);
        assert!(r.outcome(now, &mut random, Ok(&brief), ours).unwrap() >= REFUSED_BACK_OFF_MS / 2);
    }

    #[test]
    fn failures_back_off_and_a_success_forgets_them() {
        let (mut random, now) = (Random::seeded(1), Now::default());
        let mut r = Registration::new(60, &mut random);
        let mut waits = Vec::new();
        for _ in 0..12 {
            r.request();
            waits.push(r.outcome(now, &mut random, Err("silence"), ours).unwrap());
        }
        assert!(waits[0] <= BACK_OFF_MS && waits[11] <= MAX_BACK_OFF_MS && waits[11] >= MAX_BACK_OFF_MS / 2);
        assert_eq!(*r.state(), State::Failed { status: 0, reason: "silence".into() });
        r.request();
        let ok = response(200, "Contact: <sip:u@10.0.0.1;line=x>;expires=60\r\n", 13);
        r.outcome(now, &mut random, Ok(&ok), ours);
        assert_eq!(r.failures(), 0);
        r.request();
        let wrong = response(403, "Retry-After: 120 (soon)\r\n", 14);
        assert!(r.outcome(now, &mut random, Ok(&wrong), ours).unwrap() >= 120_000);
        assert_eq!(*r.state(), State::Failed { status: 403, reason: "403 X".into() });
    }

    #[test]
    fn a_binding_is_taken_back_only_when_there_is_one() {
        let (mut random, now) = (Random::seeded(1), Now::default());
        let rest = |r: &Registration| {
            let mut removed = r.clone();
            removed.remove();
            removed.rest()
        };
        let mut r = Registration::new(60, &mut random);
        assert_eq!(rest(&r), Rest::Nothing);
        r.request();
        let ok = response(200, "Contact: <sip:u@10.0.0.1;line=x>;expires=60\r\n", 1);
        r.outcome(now, &mut random, Ok(&ok), ours);
        assert_eq!(rest(&r), Rest::TakeBack);
        // A refresh that fails has not ended what there was before.
        r.request();
        assert!(r.outcome(now, &mut random, Err("silence"), ours).is_some());
        assert_eq!(rest(&r), Rest::TakeBack);
        r.remove();
        assert_eq!((r.request().expires_s, r.rest()), (0, Rest::Wait));
        assert_eq!(r.outcome(now, &mut random, Err("silence"), ours), None);
        assert_eq!(r.rest(), Rest::Nothing, "it is told once");
    }

    #[test]
    fn a_binding_that_a_request_under_way_brings_is_taken_back_and_one_that_it_does_not_is_not() {
        for (status, rest) in [(200, Rest::TakeBack), (403, Rest::Nothing)] {
            let (mut random, now) = (Random::seeded(1), Now::default());
            let mut r = Registration::new(60, &mut random);
            r.request();
            r.remove();
            assert_eq!(r.rest(), Rest::Wait);
            // It had to be sent again with credentials.
            assert_eq!(r.outcome(now, &mut random, Ok(&response(status, "", 2)), ours), None);
            assert_eq!(r.rest(), rest);
            assert_eq!(r.request().cseq, 3);
        }
    }
}
