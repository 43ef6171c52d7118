//! Parses and prints durations like `2h30m`, in the words of systemd.time(7).

use std::time::Duration;

pub use super::temporary::LONGEST;

/// Why a text is no time that a mode can hold for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// It is no length of time.
    #[error("must be a time like 90s, 30m, 1h, 2h30m or 1d")]
    Form,
    /// It is too long.
    #[error("must be at most 24h; without --for the mode is changed permanently")]
    Long,
}

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Reads a length of time: each unit once at most, the larger first.
pub fn parse(text: &str) -> Result<Duration, SpanError> {
    let (mut rest, mut units, mut seconds) = (text, UNITS.iter(), 0_u64);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or(SpanError::Form)?;
        let (digits, after) = rest.split_at(end);
        let mut after = after.chars();
        let unit = after.next();
        let (_, length) = units.find(|(name, _)| Some(*name) == unit).ok_or(SpanError::Form)?;
        if digits.is_empty() {
            return Err(SpanError::Form);
        }
        // More digits than a number has are a long time.
        let count: u64 = digits.parse().unwrap_or(u64::MAX);
        seconds = seconds.saturating_add(count.saturating_mul(*length));
        rest = after.as_str();
    }
    let time = Duration::from_secs(seconds);
    match time {
        Duration::ZERO => Err(SpanError::Form),
        time if time > LONGEST => Err(SpanError::Long),
        time => Ok(time),
    }
}

/// A length of time in the same words: its two largest units, without those that are zero.
#[must_use]
pub fn show(time: Duration) -> String {
    let mut seconds = time.as_secs();
    let mut parts = Vec::new();
    for (name, length) in UNITS {
        if seconds >= length {
            parts.push(format!("{}{name}", seconds / length));
            seconds %= length;
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0s".to_owned() } else { parts.concat() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{SpanError, parse, show};

    #[test]
    fn times_are_what_people_write() {
        let rows = [
            ("90s", Ok(90)),
            ("30m", Ok(1_800)),
            ("1h", Ok(3_600)),
            ("2h30m", Ok(9_000)),
            ("1h1m1s", Ok(3_661)),
            ("1d", Ok(86_400)),
            ("24h", Ok(86_400)),
            ("0h5m", Ok(300)),
            ("007m", Ok(420)),
            ("1d1s", Err(SpanError::Long)),
            ("25h", Err(SpanError::Long)),
            ("99999999999999999999999h", Err(SpanError::Long)),
            ("18446744073709551615d", Err(SpanError::Long)),
            ("", Err(SpanError::Form)),
            ("0", Err(SpanError::Form)),
            ("0s", Err(SpanError::Form)),
            ("60", Err(SpanError::Form)),
            ("h", Err(SpanError::Form)),
            ("-1h", Err(SpanError::Form)),
            ("+1h", Err(SpanError::Form)),
            ("1.5h", Err(SpanError::Form)),
            ("1 h", Err(SpanError::Form)),
            ("1H", Err(SpanError::Form)),
            ("1w", Err(SpanError::Form)),
            ("30m1h", Err(SpanError::Form)),
            ("1h1h", Err(SpanError::Form)),
            ("1h30", Err(SpanError::Form)),
            ("1ü", Err(SpanError::Form)),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn times_are_shown_in_the_words_that_are_read() {
        let rows = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_661, "1h1m"),
            (9_000, "2h30m"),
            (86_400, "1d"),
            (3_601, "1h1s"),
        ];
        for (seconds, expected) in rows {
            assert_eq!(show(Duration::from_secs(seconds)), expected);
        }
    }
}
