//! How old an event is, from its RFC 3339 time and the clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since this time, 0 for one to come; `None` when it is no RFC 3339 time.
pub(crate) fn of_ms(time: &str) -> Option<u64> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_millis() as i64;
    Some(now_ms.saturating_sub(epoch_ms(time)?).max(0) as u64)
}

/// An RFC 3339 time in milliseconds since the Unix epoch.
pub(crate) fn epoch_ms(time: &str) -> Option<i64> {
    let bytes = time.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = time.get(from..to)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        digits.parse().ok()
    };
    for (at, mark) in [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')] {
        if *bytes.get(at)? != mark {
            return None;
        }
    }
    if !matches!(bytes.get(10)?, b'T' | b't' | b' ') {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = time.get(19..)?;
    let mut fraction_ms = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let padded = format!("{:0<3}", &fraction[..digits]);
        fraction_ms = padded[..3].parse().ok()?;
        rest = &fraction[digits..];
    }
    let offset_s = match rest.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2]
            if [h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()) =>
        {
            let digit = |byte: &u8| i64::from(byte - b'0');
            let minutes = (digit(h1) * 10 + digit(h2)) * 60 + digit(m1) * 10 + digit(m2);
            if *sign == b'+' { minutes * 60 } else { -minutes * 60 }
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset_s;
    Some(seconds * 1_000 + fraction_ms)
}

/// Days since the Unix epoch. Years begin in March here, so that the leap day ends them.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let before = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    before + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_fraction_and_offset() {
        for (time, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2026-03-02T10:00:00.25Z", 1_772_445_600_250),
            ("2026-03-02T11:00:00.250999+01:00", 1_772_445_600_250),
            ("1969-12-31T23:59:59Z", -1_000),
            ("2026-03-02T04:30:00-05:30", 1_772_445_600_000),
        ] {
            assert_eq!(epoch_ms(time), Some(ms), "{time}");
        }
    }

    #[test]
    fn what_is_no_time_has_none() {
        for text in [
            "",
            "yesterday",
            "2026-03-02",
            "2026-13-02T10:00:00Z",
            "2026-03-02T10:00:00",
            "2026-03-02T10:00:00.Z+",
        ] {
            assert_eq!(epoch_ms(text), None, "{text:?}");
        }
        for end in 0..24 {
            let _ = epoch_ms(&"2026-03-02T10:00:00.é5Z".chars().take(end).collect::<String>());
        }
    }
}
