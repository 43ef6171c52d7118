//! Parses and prints times and durations, in one form for all outputs.
//!
//! Written by hand: humantime reads no offset, and jiff would add much more to the gate than these four functions.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::level::date::Date;
use crate::words::plural;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
/// The seconds of a day.
pub const DAY: u64 = 24 * HOUR;

const UNITS: [(char, u64); 5] = [('w', 7 * DAY), ('d', DAY), ('h', HOUR), ('m', MINUTE), ('s', 1)];

/// Reads a length of time in the words of systemd.time(7) that a person under pressure uses: `2h30m`, `7d`. Each unit
/// stands once at most, the larger first. What no clock can count is as long as can be.
#[must_use]
pub fn parse_length(text: &str) -> Option<Duration> {
    let (mut rest, mut units, mut seconds) = (text, UNITS.iter(), 0_u64);
    while !rest.is_empty() {
        let (digits, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let mut after = after.chars();
        let unit = after.next();
        let (_, length) = units.find(|(name, _)| Some(*name) == unit)?;
        if digits.is_empty() {
            return None;
        }
        // More digits than a number has are a long time.
        let count: u64 = digits.parse().unwrap_or(u64::MAX);
        seconds = seconds.saturating_add(count.saturating_mul(*length));
        rest = after.as_str();
    }
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// A length of time in the same words: its two largest units, without those that are zero.
#[must_use]
pub fn length(time: Duration) -> String {
    let mut seconds = time.as_secs();
    let mut parts = Vec::new();
    // Weeks are read, and told in days.
    for (name, length) in UNITS.into_iter().skip(1) {
        if seconds >= length {
            parts.push(format!("{}{name}", seconds / length));
            seconds %= length;
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0s".to_owned() } else { parts.concat() }
}

/// A length of time in a sentence: in its largest even unit, `7 days`.
#[must_use]
pub fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let (count, unit) = match seconds {
        _ if seconds >= DAY && seconds.is_multiple_of(DAY) => (seconds / DAY, "day"),
        _ if seconds >= 2 * DAY => (seconds.div_ceil(DAY), "day"),
        _ if seconds >= HOUR && seconds.is_multiple_of(HOUR) => (seconds / HOUR, "hour"),
        _ if seconds >= 2 * HOUR => (seconds.div_ceil(HOUR), "hour"),
        _ if seconds >= MINUTE => (seconds / MINUTE, "minute"),
        _ => (seconds, "second"),
    };
    plural(count, unit)
}

/// Reads RFC 3339: a full date, which begins at midnight UTC, or a date and a time with its offset. Fractions are dropped.
#[must_use]
pub fn parse_moment(text: &str) -> Option<SystemTime> {
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

/// A moment of the journal, in microseconds since 1970. Far beyond any clock, it is the last of the years with four digits.
#[must_use]
pub fn of_micros(at: u64) -> SystemTime {
    const LAST: u64 = 253_402_300_799_999_999;
    UNIX_EPOCH + Duration::from_micros(at.min(LAST))
}

/// A moment for people, of what [`rfc3339`](crate::level::date::rfc3339) says: `2027-06-30 08:00`.
#[must_use]
pub fn minute(rfc3339: &str) -> String {
    rfc3339.get(..16).unwrap_or(rfc3339).replace('T', " ")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{in_words, length, minute, of_micros, parse_length, parse_moment};
    use crate::level::date::rfc3339;

    #[test]
    fn a_length_is_what_people_write() {
        let rows = [
            ("90s", Some(90)),
            ("30m", Some(1_800)),
            ("1h", Some(3_600)),
            ("2h30m", Some(9_000)),
            ("1h1m1s", Some(3_661)),
            ("1d", Some(86_400)),
            ("1w2d", Some(777_600)),
            ("0h5m", Some(300)),
            ("007m", Some(420)),
            ("99999999999999999999999h", Some(u64::MAX)),
            ("18446744073709551615d", Some(u64::MAX)),
            ("", None),
            ("0", None),
            ("0s", None),
            ("60", None),
            ("h", None),
            ("-1h", None),
            ("+1h", None),
            ("1.5h", None),
            ("1 h", None),
            ("1H", None),
            ("7y", None),
            ("30m1h", None),
            ("1h1h", None),
            ("1h30", None),
            ("1ü", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse_length(text), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_length_is_shown_in_the_words_that_are_read() {
        for (seconds, short, long) in [
            (0, "0s", "0 seconds"),
            (59, "59s", "59 seconds"),
            (60, "1m", "1 minute"),
            (3_600, "1h", "1 hour"),
            (3_601, "1h1s", "60 minutes"),
            (3_661, "1h1m", "61 minutes"),
            (5_400, "1h30m", "90 minutes"),
            (9_000, "2h30m", "3 hours"),
            (86_400, "1d", "1 day"),
            (90_000, "1d1h", "25 hours"),
            (604_800, "7d", "7 days"),
            (604_801, "7d1s", "8 days"),
        ] {
            let time = Duration::from_secs(seconds);
            assert_eq!((length(time).as_str(), in_words(time).as_str()), (short, long), "{seconds}");
        }
    }

    #[test]
    fn a_moment_is_a_date_or_a_time_with_its_offset() {
        for (text, expected) in [
            ("1970-01-02", Some(86_400)),
            ("1970-01-02T01:02:03Z", Some(90_123)),
            ("1970-01-02t01:02:03.999z", Some(90_123)),
            ("1970-01-02 01:02:03+01:00", Some(86_523)),
            ("1970-01-02T01:02:03-00:30", Some(91_923)),
            ("1970-01-01T23:59:60Z", Some(86_400)),
            ("", None),
            ("yesterday", None),
            ("1970-02-30", None),
            ("1970-01-02T", None),
            ("1970-01-02T1:02:03Z", None),
            ("1970-01-02T01:02:03", None),
            ("1970-01-02T24:00:00Z", None),
            ("1970-01-02T01:02:03+1:00", None),
            ("1970-01-02T01:02:03+25:00", None),
            ("1970-01-0ä01:02:03", None),
        ] {
            let expected = expected.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(parse_moment(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_moment_is_said_for_people() {
        let moment = rfc3339(of_micros(1_795_648_123_456_789));
        assert_eq!((moment.as_str(), minute(&moment).as_str()), ("2026-11-25T23:08:43Z", "2026-11-25 23:08"));
        assert_eq!(rfc3339(of_micros(u64::MAX)), "9999-12-31T23:59:59Z");
    }
}
