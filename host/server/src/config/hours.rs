//! Business-hours calendars and the tenant's local time.
//!
//! Asked by the plugin host on behalf of routers and scripts. The time comes in as an argument.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;

/// A calendar: when it is open in the week, and the days on which it is closed all the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Calendar {
    open: Vec<Span>,
    closed: Vec<Day>,
}

/// A span of the week. Beyond midnight when `to` is not after `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    /// Bit 0 is Monday.
    days: u8,
    from_min: u16,
    to_min: u16,
}

/// A day of one year, or of every year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Day {
    Once(Date),
    Yearly { month: i8, day: i8 },
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Calendar {
    /// Adds an open span: `mon-fri 08:00-18:00`, `sat 22:00-04:00`, `daily 00:00-24:00`, `mon,wed 9:00-12:00`.
    ///
    /// # Errors
    /// What was expected.
    pub fn add_open(&mut self, text: &str) -> Result<(), String> {
        let expected = || format!("expected days and hours such as `mon-fri 08:00-18:00`, found {text:?}");
        let (days, hours) = text.trim().split_once(char::is_whitespace).ok_or_else(expected)?;
        let (from, to) = hours.trim().split_once('-').ok_or_else(expected)?;
        let days = parse_days(days).ok_or_else(expected)?;
        let (from_min, to_min) =
            (parse_minutes(from).ok_or_else(expected)?, parse_minutes(to).ok_or_else(expected)?);
        if from_min == 1_440 {
            return Err(expected());
        }
        self.open.push(Span { days, from_min, to_min });
        Ok(())
    }

    /// Adds a closed day: `2026-12-24`, or `12-25` for every year.
    ///
    /// # Errors
    /// What was expected.
    pub fn add_closed(&mut self, text: &str) -> Result<(), String> {
        let day = if let Ok(date) = text.parse::<Date>() {
            Some(Day::Once(date))
        } else {
            text.split_once('-')
                .and_then(|(m, d)| Some((m.parse().ok()?, d.parse().ok()?)))
                .filter(|(month, day)| Date::new(2024, *month, *day).is_ok())
                .map(|(month, day)| Day::Yearly { month, day })
        };
        self.closed.push(day.ok_or_else(|| {
            format!("expected a day such as `2026-12-24`, or `12-25` for every year, found {text:?}")
        })?);
        Ok(())
    }

    /// Whether it is open at a local time.
    #[must_use]
    pub fn is_open(&self, at: DateTime) -> bool {
        let minute = at.hour() as u16 * 60 + at.minute() as u16;
        let today = |span: &Span| self.works(span, at.date());
        let yesterday = |span: &Span| at.date().yesterday().is_ok_and(|date| self.works(span, date));
        self.open.iter().any(|span| {
            if span.to_min > span.from_min {
                today(span) && (span.from_min..span.to_min).contains(&minute)
            } else {
                (today(span) && minute >= span.from_min) || (yesterday(span) && minute < span.to_min)
            }
        })
    }

    /// Whether a span begins on that day.
    fn works(&self, span: &Span, date: Date) -> bool {
        let closed = self.closed.iter().any(|day| match *day {
            Day::Once(closed) => closed == date,
            Day::Yearly { month, day } => (month, day) == (date.month(), date.day()),
        });
        !closed && span.days & (1 << weekday(date.weekday())) != 0
    }
}

/// The local time of a time zone.
#[must_use]
pub fn local(zone: &TimeZone, wall_ms: i64) -> (DateTime, i32) {
    let timestamp = Timestamp::from_millisecond(wall_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let zoned = timestamp.to_zoned(zone.clone());
    (zoned.datetime(), zoned.offset().seconds() / 60)
}

fn weekday(day: Weekday) -> u8 {
    day.to_monday_zero_offset() as u8
}

fn parse_days(text: &str) -> Option<u8> {
    if text.eq_ignore_ascii_case("daily") {
        return Some(0x7f);
    }
    let number = |name: &str| DAYS.iter().position(|d| d.eq_ignore_ascii_case(name));
    let mut days = 0;
    for part in text.split(',') {
        match part.split_once('-') {
            None => days |= 1 << number(part)?,
            Some((from, to)) => {
                let (mut day, to) = (number(from)?, number(to)?);
                loop {
                    days |= 1 << day;
                    if day == to {
                        break;
                    }
                    day = (day + 1) % 7;
                }
            }
        }
    }
    Some(days)
}

fn parse_minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    (minutes < 60 && (hours < 24 || (hours == 24 && minutes == 0))).then_some(hours * 60 + minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime {
        text.parse().unwrap()
    }

    #[test]
    fn office_hours_nights_and_holidays() {
        let mut c = Calendar::default();
        c.add_open("mon-fri 08:00-18:00").unwrap();
        c.add_open("sat 22:00-04:00").unwrap();
        c.add_closed("12-25").unwrap();
        c.add_closed("2026-11-24").unwrap();
        // 2026-11-23 is a Monday.
        for (time, open) in [
            ("2026-11-23T07:59", false),
            ("2026-11-23T08:00", true),
            ("2026-11-23T17:59", true),
            ("2026-11-23T18:00", false),
            ("2026-11-24T12:00", false),
            ("2026-11-28T21:59", false),
            ("2026-11-28T22:00", true),
            ("2026-11-29T03:59", true),
            ("2026-11-29T04:00", false),
            ("2026-12-25T12:00", false),
            ("2028-12-25T12:00", false),
        ] {
            assert_eq!(c.is_open(at(time)), open, "{time}");
        }
    }

    #[test]
    fn daily_means_always_and_days_wrap() {
        let mut c = Calendar::default();
        c.add_open("daily 00:00-24:00").unwrap();
        assert!(c.is_open(at("2026-11-29T23:59")));
        assert_eq!(parse_days("sat-mon"), Some(0b110_0001));
        assert_eq!(parse_days("mon,wed"), Some(0b000_0101));
    }

    #[test]
    fn mistakes_say_what_was_expected() {
        for wrong in ["mon-fri", "mo 8:00-9:00", "mon 8-9", "mon 25:00-26:00", "mon 24:00-01:00", ""] {
            assert!(
                Calendar::default().add_open(wrong).unwrap_err().contains("mon-fri 08:00-18:00"),
                "{wrong}"
            );
        }
        assert!(Calendar::default().add_closed("13-40").is_err());
    }

    #[test]
    fn local_time_knows_summer_time() {
        let paris = TimeZone::get("Europe/Paris").unwrap();
        let (winter, offset) = local(&paris, 1_768_471_200_000); // 2026-01-15T10:00Z
        assert_eq!((winter.hour(), offset), (11, 60));
        let (summer, offset) = local(&paris, 1_784_109_600_000); // 2026-07-15T10:00Z
        assert_eq!((summer.hour(), offset), (12, 120));
    }
}
