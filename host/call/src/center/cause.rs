//! Q.850 causes and SIP statuses, both ways (RFC 3398 7.2.4.1 and 8.2.6.1), and the Reason header (RFC 3326).
//!
//! Called by the shard whenever a leg or a call ends.

use cordboard_sip::wire::Params;

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
    let mut value = format!("Q.850;cause={cause}");
    if !text.is_empty() {
        value.push_str(";text=\"");
        value.extend(text.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).take(128));
        value.push('"');
    }
    value
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
}
