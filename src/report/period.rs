//! The period that a report covers: it ends now, and is compared with the one of the same length before it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::events::micros;
use crate::level::date::{self, Date};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

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
        duration(text).map(Self::Ago).or_else(|| point(text).map(Self::At)).ok_or(NoSince)
    }
}

/// `7d`: a number and one unit.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let number = text.strip_suffix(unit)?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = match unit {
        's' => 1,
        'm' => MINUTE,
        'h' => HOUR,
        'd' => DAY,
        'w' => 7 * DAY,
        _ => return None,
    };
    let seconds = number.parse::<u64>().ok()?.checked_mul(seconds)?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// RFC 3339: a full date, which begins at midnight UTC, or a date and a time with its offset. Fractions are dropped.
fn point(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_at_checked(10)?;
    let days = u64::try_from(date.parse::<Date>().ok()?.days()).ok()?;
    let start = UNIX_EPOCH + Duration::from_secs(days * DAY);
    if rest.is_empty() {
        return Some(start);
    }
    let time = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = time.split_at_checked(8)?;
    let [hour, minute, second] = numbers(clock)?;
    let rest =
        rest.strip_prefix('.').map_or(rest, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    // A leap second is the first of the next minute.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let local = start + Duration::from_secs(hour * HOUR + minute * MINUTE + second);
    if matches!(rest, "Z" | "z") {
        return Some(local);
    }
    let (sign, offset) = rest.split_at_checked(1)?;
    let [hour, minute] = numbers(offset)?;
    let offset = (hour < 24 && minute < 60).then(|| Duration::from_secs(hour * HOUR + minute * MINUTE))?;
    match sign {
        "+" => local.checked_sub(offset),
        "-" => local.checked_add(offset),
        _ => None,
    }
}

/// `08:30` as numbers of two digits.
fn numbers<const N: usize>(text: &str) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(':');
    for number in &mut numbers {
        let part = parts.next()?;
        let plain = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = plain.then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(numbers)
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

/// The length of a period in its largest even unit.
#[must_use]
pub fn length(seconds: u64) -> String {
    let (count, unit) = match seconds {
        _ if seconds >= DAY && seconds.is_multiple_of(DAY) => (seconds / DAY, "day"),
        _ if seconds >= 2 * DAY => (seconds.div_ceil(DAY), "day"),
        _ if seconds >= HOUR && seconds.is_multiple_of(HOUR) => (seconds / HOUR, "hour"),
        _ if seconds >= 2 * HOUR => (seconds.div_ceil(HOUR), "hour"),
        _ if seconds >= MINUTE => (seconds / MINUTE, "minute"),
        _ => (seconds, "second"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// A moment in UTC, to the second: `2027-06-30T08:00:00Z`.
#[must_use]
pub fn rfc3339(at: u64) -> String {
    date::rfc3339(moment(at))
}

/// The same for people, of what [`rfc3339`] says: `2027-06-30 08:00`.
#[must_use]
pub fn minute(rfc3339: &str) -> String {
    rfc3339.get(..16).unwrap_or(rfc3339).replace('T', " ")
}

/// The day of a moment, in UTC.
#[must_use]
pub fn day(at: u64) -> Date {
    Date::of(moment(at))
}

/// A moment in microseconds. Far beyond any clock, it is the last of the years with four digits.
fn moment(at: u64) -> SystemTime {
    const LAST: u64 = 253_402_300_799;
    UNIX_EPOCH + Duration::from_secs((at / 1_000_000).min(LAST))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{NoSince, Period, Since, day, length, minute, rfc3339};

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_beginning_is_a_duration_or_a_date() {
        let ago = |seconds| Ok(Since::Ago(Duration::from_secs(seconds)));
        let moment = |seconds| Ok(Since::At(at(seconds)));
        for (text, expected) in [
            ("7d", ago(604_800)),
            ("2w", ago(1_209_600)),
            ("24h", ago(86_400)),
            ("90m", ago(5_400)),
            ("30s", ago(30)),
            ("1970-01-02", moment(86_400)),
            ("1970-01-02T01:02:03Z", moment(90_123)),
            ("1970-01-02t01:02:03.999z", moment(90_123)),
            ("1970-01-02 01:02:03+01:00", moment(86_523)),
            ("1970-01-02T01:02:03-00:30", moment(91_923)),
            ("1970-01-01T23:59:60Z", moment(86_400)),
            ("", Err(NoSince)),
            ("d", Err(NoSince)),
            ("0d", Err(NoSince)),
            ("-7d", Err(NoSince)),
            ("7", Err(NoSince)),
            ("7y", Err(NoSince)),
            ("1.5h", Err(NoSince)),
            ("7ä", Err(NoSince)),
            ("99999999999999999999d", Err(NoSince)),
            ("999999999999999999w", Err(NoSince)),
            ("yesterday", Err(NoSince)),
            ("1970-02-30", Err(NoSince)),
            ("1970-01-02T", Err(NoSince)),
            ("1970-01-02T1:02:03Z", Err(NoSince)),
            ("1970-01-02T01:02:03", Err(NoSince)),
            ("1970-01-02T24:00:00Z", Err(NoSince)),
            ("1970-01-02T01:02:03+1:00", Err(NoSince)),
            ("1970-01-02T01:02:03+25:00", Err(NoSince)),
            ("1970-01-0ä01:02:03", Err(NoSince)),
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
    fn times_are_said_for_programs_and_for_people() {
        let moment = 1_795_648_123_456_789;
        assert_eq!(rfc3339(moment), "2026-11-25T23:08:43Z");
        assert_eq!(minute(&rfc3339(moment)), "2026-11-25 23:08");
        assert_eq!(day(u64::MAX).to_string(), "9999-12-31");
        for (seconds, said) in [
            (59, "59 seconds"),
            (60, "1 minute"),
            (5_400, "90 minutes"),
            (3_600, "1 hour"),
            (86_400, "1 day"),
            (90_000, "25 hours"),
            (604_800, "7 days"),
            (604_801, "8 days"),
        ] {
            assert_eq!(length(seconds), said);
        }
    }
}
