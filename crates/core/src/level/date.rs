//! A calendar date, for exceptions that end.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// A day of the Gregorian calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

/// Why a text is no date.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a date like 2027-06-30")]
pub struct NoDate;

impl Date {
    /// A day that exists.
    pub fn new(year: u16, month: u8, day: u8) -> Result<Self, NoDate> {
        let date = Self { year, month, day };
        // What does not exist (30 February, a thirteenth month) comes back as another day.
        let exists = Self::of_days(date.days()) == date;
        if (1..=9999).contains(&year) && exists { Ok(date) } else { Err(NoDate) }
    }

    /// Year, month and day.
    #[must_use]
    pub const fn parts(self) -> (u16, u8, u8) {
        (self.year, self.month, self.day)
    }

    /// The day that a moment lies in.
    #[must_use]
    pub fn of(moment: SystemTime) -> Self {
        let seconds = moment.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self::of_days(i64::try_from(seconds / 86_400).unwrap_or(0))
    }

    /// Days since 1970-01-01.
    #[must_use]
    pub fn days(self) -> i64 {
        // The year begins in March here, so that the leap day is its last one.
        let (month, day) = (i64::from(self.month), i64::from(self.day));
        let year = i64::from(self.year) - i64::from(month <= 2);
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - EPOCH
    }

    fn of_days(days: i64) -> Self {
        let days = days + EPOCH;
        let century = (4 * days + 3).div_euclid(146_097);
        let of_century = days - 146_097 * century / 4;
        let year = (4 * of_century + 3) / 1461;
        let of_year = of_century - 1461 * year / 4;
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let narrow = |number: i64| u8::try_from(number).unwrap_or(u8::MAX);
        Self {
            year: u16::try_from(100 * century + year + i64::from(month >= 10)).unwrap_or(u16::MAX),
            month: narrow((month + 2) % 12 + 1),
            day: narrow(day),
        }
    }
}

/// A moment in UTC, to the second, as logs have it.
#[must_use]
pub fn rfc3339(moment: SystemTime) -> String {
    let seconds = moment.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) % 86_400;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{}T{hour:02}:{minute:02}:{second:02}Z", Date::of(moment))
}

/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl FromStr for Date {
    type Err = NoDate;

    fn from_str(text: &str) -> Result<Self, NoDate> {
        let digits = |part: &str, count: usize| {
            let plain = part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
            if plain { part.parse::<u16>().map_err(|_| NoDate) } else { Err(NoDate) }
        };
        let (year, rest) = text.split_once('-').ok_or(NoDate)?;
        let (month, day) = rest.split_once('-').ok_or(NoDate)?;
        let narrow = |number: u16| u8::try_from(number).map_err(|_| NoDate);
        Self::new(digits(year, 4)?, narrow(digits(month, 2)?)?, narrow(digits(day, 2)?)?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Date, NoDate, rfc3339};

    #[test]
    fn a_moment_is_written_as_go_writes_it() {
        let moment = UNIX_EPOCH + Duration::from_secs(1_709_210_096);
        assert_eq!(rfc3339(moment), "2024-02-29T12:34:56Z");
    }

    #[test]
    fn only_days_that_exist_are_dates() {
        for text in ["1970-01-01", "2000-02-29", "2024-02-29", "2027-06-30", "2100-12-31", "9999-12-31"] {
            assert_eq!(text.parse::<Date>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "2027",
            "2027-06",
            "2027-6-30",
            "2027-06-31",
            "2027-02-29",
            "2100-02-29",
            "2027-00-01",
            "2027-13-01",
            "0000-01-01",
            "2027-06-30T00:00:00Z",
            "+027-06-30",
            "27-06-30",
        ] {
            assert_eq!(text.parse::<Date>(), Err(NoDate), "{text}");
        }
        for month in 0..=u8::MAX {
            for day in 0..=u8::MAX {
                let is_date = match month {
                    1 | 3 | 5 | 7 | 8 | 10 | 12 => (1..=31).contains(&day),
                    4 | 6 | 9 | 11 => (1..=30).contains(&day),
                    2 => (1..=28).contains(&day),
                    _ => false,
                };
                assert_eq!(Date::new(2027, month, day).is_ok(), is_date, "{month} {day}");
            }
        }
        assert_eq!(Date::new(10_000, 1, 1), Err(NoDate));
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_day_before() {
        assert_eq!(Date::new(1970, 1, 1).unwrap().days(), 0);
        let mut last = Date::of(UNIX_EPOCH);
        for day in 1..146_097_u64 {
            let next = Date::of(UNIX_EPOCH + Duration::from_secs(day * 86_400));
            assert_eq!(next.days(), last.days() + 1, "{next}");
            assert!(next > last && Date::new(next.year, next.month, next.day) == Ok(next), "{last} {next}");
            last = next;
        }
        assert_eq!(last.to_string(), "2369-12-31");
    }
}
