//! Days of the week and hours of the day, as a rule's conditions.

const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A set of weekdays; bit 0 is Monday.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Days(u8);

impl Days {
    pub(crate) const ALL: Days = Days(0b111_1111);

    /// `mon-fri`, `sat,sun`, `fri-mon,wed`.
    pub(crate) fn read(word: &str) -> Result<Self, String> {
        let day = |name: &str| {
            NAMES.iter().position(|known| name.eq_ignore_ascii_case(known)).ok_or_else(|| {
                format!("{word:?} is neither days such as mon-fri, nor hours such as 08:00-18:00, nor from")
            })
        };
        let mut days = 0;
        for part in word.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (day(first)?, day(last)?);
            let count = (last + 7 - first) % 7;
            for step in 0..=count {
                days |= 1 << ((first + step) % 7);
            }
        }
        Ok(Days(days))
    }

    /// 1 is Monday, 7 is Sunday.
    pub(crate) fn contains(self, weekday: u8) -> bool {
        (1..=7).contains(&weekday) && self.0 & (1 << (weekday - 1)) != 0
    }
}

/// A span of the day, in minutes since midnight; the end does not belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hours {
    from: u16,
    to: u16,
}

impl Hours {
    /// `08:00-18:00`; `22:00-06:00` goes over midnight.
    pub(crate) fn read(word: &str) -> Result<Self, String> {
        let wrong = || format!("{word:?} is not a span of hours such as 08:00-18:00");
        let minute = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour < 24 && minute < 60 || hour == 24 && minute == 0).then(|| hour * 60 + minute)
        };
        let (from, to) = word.split_once('-').ok_or_else(wrong)?;
        match (minute(from), minute(to)) {
            (Some(from), Some(to)) if from != to => Ok(Hours { from, to }),
            _ => Err(wrong()),
        }
    }

    /// Whether a minute of a weekday is inside. A span over midnight belongs to the day on which
    /// it begins: `fri 22:00-06:00` holds on Saturday at 05:00.
    pub(crate) fn contains(self, days: Days, weekday: u8, minute: u16) -> bool {
        if self.from < self.to {
            return days.contains(weekday) && (self.from..self.to).contains(&minute);
        }
        let yesterday = if weekday == 1 { 7 } else { weekday.saturating_sub(1) };
        (days.contains(weekday) && minute >= self.from) || (days.contains(yesterday) && minute < self.to)
    }
}
