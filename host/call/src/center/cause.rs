//! Q.850 causes and SIP statuses, both ways (RFC 3398 7.2.4.1 and 8.2.6.1), and the Reason header (RFC 3326).
//!
//! Called by the shard whenever a leg or a call ends.

use cordboard_sip::wire::{Message, Name, Params};

/// The status that refuses an unanswered call with `cause`.
#[must_use]
pub const fn status_of(cause: u8) -> u16 {
    match cause {
        1..=3 => 404,
        17 => 486,
        18 | 19 | 20 | 16 | 31 => 480,
        21 => 603,
        22 => 410,
        27 => 502,
        28 => 484,
        29 | 79 => 501,
        34 | 38 | 41 | 42 | 47 => 503,
        55 | 57 | 87 => 403,
        58 | 65 | 70 | 88 => 488,
        102 => 504,
        _ => 500,
    }
}

/// The cause of a call that was refused with `status`.
#[must_use]
pub const fn of_status(status: u16) -> u8 {
    match status {
        200..=299 | 487 => 16,
        401 | 402 | 403 | 407 | 603 => 21,
        404 | 604 => 1,
        405 => 63,
        406 | 415 | 488 | 606 => 65,
        408 => 102,
        410 => 22,
        480 => 18,
        482 | 483 => 25,
        484 => 28,
        486 | 600 => 17,
        500 | 503 => 41,
        502 => 38,
        504 => 102,
        _ => 127,
    }
}

/// The cause that a Reason header's value has for a protocol, `Q.850` or `SIP` (RFC 3326 2).
#[must_use]
pub fn of_protocol(value: &str, protocol: &str) -> Option<u16> {
    let (of, params) = value.split_once(';')?;
    of.trim().eq_ignore_ascii_case(protocol).then_some(())?;
    Params::new(params).get("cause")?.trim().parse().ok()
}

/// The value of a Reason header.
#[must_use]
pub fn reason(cause: u8, text: &str) -> String {
    one_reason("Q.850", u16::from(cause), text)
}

fn one_reason(protocol: &str, cause: u16, text: &str) -> String {
    let mut value = format!("{protocol};cause={cause}");
    if !text.is_empty() {
        value.push_str(";text=\"");
        value.extend(text.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).take(128));
        value.push('"');
    }
    value
}

/// Why a leg ended, in the words of its other side: the Reason headers of a BYE, a CANCEL or a final response
/// (RFC 3326 2, RFC 6432 for responses), to be passed on to the leg that it was joined with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    q850: Option<(u8, String)>,
    sip: Option<(u16, String)>,
}

impl Said {
    /// What a message says. The first value of each protocol counts (RFC 3326 2: there is one of each).
    #[must_use]
    pub fn of(message: &Message) -> Self {
        let mut said = Self::default();
        for value in message.headers(Name::Reason) {
            let text = || {
                let params = value.split_once(';').map_or("", |(_, params)| params);
                Params::new(params).get("text").unwrap_or("").to_owned()
            };
            let q850 = of_protocol(value, "Q.850").and_then(|c| u8::try_from(c).ok());
            let sip = of_protocol(value, "SIP").filter(|c| (100..700).contains(c));
            said.q850 = said.q850.or_else(|| Some((q850.filter(|c| (1..=127).contains(c))?, text())));
            said.sip = said.sip.or_else(|| Some((sip?, text())));
        }
        said
    }

    /// What a refusal says: its Reason headers, and else that it was this status.
    #[must_use]
    pub fn of_refusal(response: &Message) -> Self {
        let said = Self::of(response);
        let status = || (response.status(), response.reason().to_owned());
        Self { sip: said.sip.or_else(|| Some(status())), ..said }
    }

    /// Its Q.850 cause.
    #[must_use]
    pub fn cause(&self) -> Option<u8> {
        self.q850.as_ref().map(|(cause, _)| *cause)
    }

    /// The Reason of a BYE or CANCEL; a Q.850 cause of ours stands in where none was said.
    #[must_use]
    pub fn in_request(&self, cause: u8, text: &str) -> String {
        let mut value = self.in_response(cause, text);
        if let Some((cause, text)) = &self.sip {
            value.push_str(", ");
            value.push_str(&one_reason("SIP", *cause, text));
        }
        value
    }

    /// The Reason of a final response: Q.850 alone, since the status says the rest (RFC 6432 2).
    #[must_use]
    pub fn in_response(&self, cause: u8, text: &str) -> String {
        match &self.q850 {
            Some((cause, text)) => reason(*cause, text),
            None => reason(cause, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_causes_survive_a_round_trip() {
        for cause in [1, 17, 18, 21, 22, 28, 38, 41, 102] {
            let status = status_of(cause);
            let back = of_status(status);
            assert!(back == cause || (cause, back) == (38, 41), "{cause} {status} {back}");
        }
        assert!((1..=127).all(|c| (400..700).contains(&status_of(c))));
    }

    #[test]
    fn a_text_cannot_break_out_of_the_reason() {
        assert_eq!(reason(16, ""), "Q.850;cause=16");
        assert_eq!(reason(1, "a\"b\r\nc\\"), "Q.850;cause=1;text=\"abc\"");
    }

    #[test]
    fn what_was_said_is_passed_on_and_nothing_else() {
        let bye = |reasons: &str| {
            let text = format!("BYE sip:1@x SIP/2.0\r\n{reasons}Call-ID: a\r\nCSeq: 1 BYE\r\n\r\n");
            Said::of(&Message::parse(text.into_bytes().into()).unwrap())
        };
        let both =
            bye("Reason: SIP ;cause=600 ;text=\"Busy, everywhere\", Q.850;cause=34;text=\"no circuit\"\r\n");
        assert_eq!(both.cause(), Some(34));
        let expected = "Q.850;cause=34;text=\"no circuit\", SIP;cause=600;text=\"Busy, everywhere\"";
        assert_eq!(both.in_request(16, "x"), expected);
        assert_eq!(both.in_response(16, "x"), "Q.850;cause=34;text=\"no circuit\"");
        let lines = bye("Reason: q.850;cause=31\r\nReason: Q.850;cause=1\r\nReason: X.25;cause=9\r\n");
        assert_eq!(lines.in_request(16, ""), "Q.850;cause=31", "the first of each that is known");
        for none in ["", "Reason: Q.850\r\n", "Reason: Q.850;cause=999\r\n", "Reason: SIP;cause=7\r\n"] {
            assert_eq!(bye(none).in_request(16, "hung up"), "Q.850;cause=16;text=\"hung up\"", "{none}");
        }
        let evil = bye("Reason: SIP;cause=200;text=\"a\\\"b\"\r\n");
        assert_eq!(evil.in_request(16, ""), "Q.850;cause=16, SIP;cause=200;text=\"ab\"");
    }
}
