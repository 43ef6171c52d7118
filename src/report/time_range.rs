//! The period that a report covers: it ends now, and is compared with the one of the same length before it.

use std::time::{Duration, SystemTime};

use crate::events::micros;
use crate::level::date::{self, Date};
use crate::time::{self, DAY};

const HOUR: u64 = 60 * 60;

/// Where a period begins, as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// At this time.
    At(SystemTime),
}

/// Why a text says no beginning.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a duration like 7d, 24h or 90m, or a date like 2027-06-30 or 2027-06-30T08:00:00Z")]
pub struct NoSince;

impl std::str::FromStr for Since {
    type Err = NoSince;

    fn from_str(text: &str) -> Result<Self, NoSince> {
        // Longer than any clock is a slip of the finger.
        let ago = time::parse_length(text).filter(|length| length.as_secs() < u64::MAX);
        ago.map(Self::Ago).or_else(|| time::parse_moment(text).map(Self::At)).ok_or(NoSince)
    }
}

/// A period up to a moment, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Where it begins.
    pub since: u64,
    /// Where it ends.
    pub until: u64,
}

impl Period {
    /// The period that ends at `now`; `None` where it would begin later than that.
    #[must_use]
    pub fn until(now: SystemTime, since: Since) -> Option<Self> {
        let until = micros(now);
        let since = match since {
            Since::Ago(time) => until.saturating_sub(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            Since::At(time) => micros(time),
        };
        (since < until).then_some(Self { since, until })
    }

    /// Where the period before it begins.
    #[must_use]
    pub fn before(self) -> u64 {
        self.since.saturating_sub(self.until - self.since)
    }

    /// How long it is, in seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        (self.until - self.since) / 1_000_000
    }

    /// Whether its parts are hours, because days would be too few to see anything.
    #[must_use]
    pub fn is_by_hour(self) -> bool {
        self.seconds() <= 2 * DAY
    }

    /// The length of its parts, in microseconds.
    #[must_use]
    pub fn step(self) -> u64 {
        if self.is_by_hour() { HOUR * 1_000_000 } else { DAY * 1_000_000 }
    }
}

/// A moment in UTC, to the second: `2027-06-30T08:00:00Z`.
#[must_use]
pub fn rfc3339(at: u64) -> String {
    date::rfc3339(time::of_micros(at))
}

/// The day of a moment, in UTC.
#[must_use]
pub fn day(at: u64) -> Date {
    Date::of(time::of_micros(at))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{NoSince, Period, Since, day, rfc3339};

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_beginning_is_a_duration_or_a_date() {
        let ago = |seconds| Ok(Since::Ago(Duration::from_secs(seconds)));
        let moment = |seconds| Ok(Since::At(at(seconds)));
        for (text, expected) in [
            ("7d", ago(604_800)),
            ("1d12h", ago(129_600)),
            ("1970-01-02", moment(86_400)),
            ("1970-01-02T01:02:03Z", moment(90_123)),
            ("", Err(NoSince)),
            ("99999999999999999999d", Err(NoSince)),
            ("999999999999999999w", Err(NoSince)),
            ("yesterday", Err(NoSince)),
        ] {
            assert_eq!(text.parse::<Since>(), expected, "{text:?}");
        }
    }

    #[test]
    fn the_period_before_is_as_long_and_ends_where_this_one_begins() {
        let period = Period::until(at(1_000), Since::Ago(Duration::from_secs(300))).unwrap();
        assert_eq!((period.before(), period.since, period.until), (400_000_000, 700_000_000, 1_000_000_000));
        // Nothing was before 1970.
        let long = Period::until(at(1_000), Since::Ago(Duration::from_secs(5_000))).unwrap();
        assert_eq!((long.before(), long.since), (0, 0));
        assert_eq!(Period::until(at(1_000), Since::At(at(1_000))), None);
        assert_eq!(Period::until(at(1_000), Since::At(at(2_000))), None);
    }

    #[test]
    fn a_moment_has_a_time_and_a_day() {
        assert_eq!(rfc3339(1_795_648_123_456_789), "2026-11-25T23:08:43Z");
        assert_eq!(day(u64::MAX).to_string(), "9999-12-31");
    }
}
