//! What the terminal can show: its width, colours and letters; and a progress bar.

use std::borrow::Cow;
use std::cell::Cell;
use std::ffi::OsStr;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::decision::Verdict;

/// The look of a text for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Letters in a line; without bound where nobody looks at it.
    pub width: usize,
    /// Whether it may have colours.
    pub colour: bool,
    /// Whether it may have letters beyond ASCII.
    pub unicode: bool,
}

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// What everything below is about.
    Title,
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Something to look at.
    Odd,
    /// Beside the point.
    Faint,
}

impl Tone {
    /// That of a verdict.
    #[must_use]
    pub const fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Exempt => Self::Faint,
            Verdict::Allow => Self::Good,
            Verdict::Deny => Self::Bad,
            Verdict::CannotJudge => Self::Odd,
        }
    }
}

/// Narrower terminals are written to as if they were this wide.
const NARROWEST: usize = 40;

impl Style {
    /// No terminal at all.
    pub const PLAIN: Self = Self { width: usize::MAX, colour: false, unicode: true };

    /// The look for standard output as it is now.
    #[must_use]
    pub fn of_stdout() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let size = terminal_size::terminal_size_of(std::io::stdout());
        let width = size.map(|(width, _)| usize::from(width.0)).filter(|_| is_terminal);
        Self::of(is_terminal, width, |name| std::env::var_os(name))
    }

    /// The same where that is a terminal. Elsewhere there is no look, so that what programs read depends on no variable.
    #[must_use]
    pub fn of_terminal() -> Self {
        if std::io::stdout().is_terminal() { Self::of_stdout() } else { Self::PLAIN }
    }

    fn of(
        is_terminal: bool,
        width: Option<usize>,
        variable: impl Fn(&str) -> Option<std::ffi::OsString>,
    ) -> Self {
        let told =
            variable("COLUMNS").and_then(|text| text.to_str()?.parse().ok()).filter(|width| *width > 0);
        let dumb = is_dumb(variable("TERM").as_deref());
        // https://no-color.org: present and not empty.
        let no_colour = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
        let width = if is_terminal { told.or(width).unwrap_or(80) } else { told.unwrap_or(usize::MAX) };
        Self {
            width: width.max(NARROWEST),
            colour: is_terminal && !no_colour && !dumb,
            unicode: !(is_terminal && dumb) && is_utf8(&variable),
        }
    }

    /// A text in a colour, where there are some.
    #[must_use]
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Title => "1",
            Tone::Good => "32",
            Tone::Bad => "1;31",
            Tone::Odd => "33",
            Tone::Faint => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// A text with the letters that there are; it must be escaped already.
    #[must_use]
    pub fn plain(&self, text: &str) -> String {
        if self.unicode || text.is_ascii() {
            return text.to_owned();
        }
        let mut plain = String::with_capacity(text.len());
        for c in text.chars() {
            if c.is_ascii() { plain.push(c) } else { plain.extend(c.escape_unicode()) }
        }
        plain
    }

    /// A text, or as much of it as fits, with a sign that it goes on.
    #[must_use]
    pub fn cut(&self, text: &str, length: usize) -> String {
        if text.chars().count() <= length {
            return text.to_owned();
        }
        let sign = if self.unicode { "…" } else { "..." };
        let kept = length.saturating_sub(sign.chars().count());
        text.chars().take(kept).chain(sign.chars()).take(length).collect()
    }

    /// A bar of so many cells for the largest value. What is more than nothing is never drawn as nothing.
    #[must_use]
    pub fn bar(&self, value: u64, largest: u64, cells: usize) -> String {
        let steps = if self.unicode { 8 } else { 1 };
        let all = (cells * steps) as u64;
        let length = u128::from(value) * u128::from(all) / u128::from(largest.max(1));
        let least = u128::from(value > 0);
        let length = usize::try_from(length.clamp(least, u128::from(all).max(least))).unwrap_or_default();
        if !self.unicode {
            return "#".repeat(length);
        }
        let end = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"].get(length % 8).copied().unwrap_or_default();
        "█".repeat(length / 8) + end
    }

    /// Words on lines that are no wider than the terminal: the first behind what is there already, the others behind so
    /// much room. The text must be escaped already.
    #[must_use]
    pub fn wrapped(&self, first: &str, indent: usize, text: &str) -> String {
        if self.width == usize::MAX {
            return format!("{first}{}", self.plain(text));
        }
        wrap(&self.plain(text), self.width, first, &" ".repeat(indent)).join("\n")
    }
}

/// The lines of a text, no wider than `width`: the first behind `first`, the others behind `rest`. Only a word that is
/// wider than that is broken.
#[must_use]
pub fn wrap<'t>(text: &'t str, width: usize, first: &'t str, rest: &'t str) -> Vec<Cow<'t, str>> {
    let options = textwrap::Options::new(width).initial_indent(first).subsequent_indent(rest);
    // A name with dashes is one word, which somebody may want to copy.
    textwrap::wrap(text, options.word_splitter(textwrap::WordSplitter::NoHyphenation))
}

fn is_dumb(terminal: Option<&OsStr>) -> bool {
    terminal.is_some_and(|name| name == "dumb")
}

/// Whether the locale says so (`locale(7)`: the first of the three that is set counts).
fn is_utf8(variable: &impl Fn(&str) -> Option<std::ffi::OsString>) -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    let locale = set.unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// A bar on standard error, for those who wait there; nothing where nobody does.
#[derive(Debug)]
pub struct Bar {
    began: Instant,
    shown: Cell<Option<usize>>,
    is_on: bool,
}

/// Nobody waits for less.
const PATIENCE: Duration = Duration::from_millis(200);

impl Bar {
    /// A bar that shows itself if it takes long.
    #[must_use]
    pub fn on_stderr() -> Self {
        let is_on = std::io::stderr().is_terminal() && !is_dumb(std::env::var_os("TERM").as_deref());
        Self { began: Instant::now(), shown: Cell::new(None), is_on }
    }

    /// So much is done.
    pub fn show(&self, done: usize, all: usize) {
        const CELLS: usize = 30;
        let cells = done.saturating_mul(CELLS).checked_div(all).unwrap_or(CELLS);
        if !self.is_on || self.shown.get() == Some(cells) || self.began.elapsed() < PATIENCE {
            return;
        }
        self.shown.set(Some(cells));
        let bar = format!("\r[{:<CELLS$}] {done}/{all}", "#".repeat(cells));
        let _ = std::io::stderr().write_all(bar.as_bytes());
    }

    /// Takes it away.
    pub fn clear(&self) {
        if self.shown.take().is_some() {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Style, wrap};

    #[test]
    fn the_look_follows_the_terminal_and_what_people_set() {
        type Row<'a> = (bool, Option<usize>, &'a [(&'a str, &'a str)], (usize, bool, bool));
        let utf8 = ("LANG", "de_DE.UTF-8");
        let rows: &[Row<'_>] = &[
            (true, Some(200), &[utf8], (200, true, true)),
            (true, None, &[utf8], (80, true, true)),
            (true, Some(200), &[utf8, ("COLUMNS", "90")], (90, true, true)),
            (true, Some(200), &[utf8, ("COLUMNS", "x")], (200, true, true)),
            (true, Some(7), &[utf8], (40, true, true)),
            (true, Some(80), &[utf8, ("NO_COLOR", "1")], (80, false, true)),
            (true, Some(80), &[utf8, ("NO_COLOR", "")], (80, true, true)),
            (true, Some(80), &[utf8, ("TERM", "dumb")], (80, false, false)),
            (true, Some(80), &[("LANG", "C")], (80, true, false)),
            (true, Some(80), &[utf8, ("LC_ALL", "C")], (80, true, false)),
            (true, Some(80), &[("LC_CTYPE", "C.utf8")], (80, true, true)),
            (false, None, &[utf8], (usize::MAX, false, true)),
            (false, None, &[utf8, ("COLUMNS", "100")], (100, false, true)),
        ];
        for (is_terminal, width, variables, expected) in rows {
            let variable =
                |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).into());
            let style = Style::of(*is_terminal, *width, variable);
            assert_eq!((style.width, style.colour, style.unicode), *expected, "{is_terminal} {variables:?}");
        }
    }

    #[test]
    fn letters_that_a_terminal_lacks_are_spelled_out() {
        let ascii = Style { unicode: false, ..Style::PLAIN };
        assert_eq!(ascii.plain("aü"), "a\\u{fc}");
        assert_eq!(Style::PLAIN.plain("aü"), "aü");
        assert_eq!(Style::PLAIN.cut("abcdef", 4), "abc…");
        assert_eq!(ascii.cut("abcdef", 4), "a...");
        assert_eq!(ascii.cut("abcd", 4), "abcd");
        assert_eq!(ascii.cut("abcd", 2), "..");
    }

    #[test]
    fn a_bar_is_as_long_as_its_value_and_never_longer_than_its_place() {
        let ascii = Style { unicode: false, ..Style::PLAIN };
        for (value, largest, in_ascii, in_unicode) in [
            (0, 0, "", ""),
            (0, 8, "", ""),
            (1, 1_000_000, "#", "▏"),
            (4, 8, "##", "██"),
            (5, 8, "##", "██▌"),
            (8, 8, "####", "████"),
            (u64::MAX, u64::MAX, "####", "████"),
            (9, 8, "####", "████"),
        ] {
            assert_eq!(ascii.bar(value, largest, 4), in_ascii, "{value} of {largest}");
            assert_eq!(Style::PLAIN.bar(value, largest, 4), in_unicode, "{value} of {largest}");
        }
    }

    #[test]
    fn words_go_on_where_the_first_line_began() {
        let narrow = Style { width: 20, ..Style::PLAIN };
        assert_eq!(
            narrow.wrapped("- ", 2, "one two three four five six"),
            "- one two three four\n  five six"
        );
        assert_eq!(Style::PLAIN.wrapped("- ", 2, "one two"), "- one two");
    }

    #[test]
    fn a_text_is_broken_at_blanks_or_where_it_must_be() {
        let rows: [(&str, usize, &str, &[&str]); 9] = [
            ("", 5, "", &[""]),
            ("one two", 20, "", &["one two"]),
            ("one two", 7, "", &["one two"]),
            ("one two three", 7, "", &["one two", "three"]),
            ("ä ö ü", 3, "", &["ä ö", "ü"]),
            ("one-two three", 7, "", &["one-two", "three"]),
            ("abcdefgh ij", 3, "", &["abc", "def", "gh", "ij"]),
            ("a bcdefg h", 6, "- ", &["- a", "  bcde", "  fg h"]),
            ("one two", usize::MAX, "- ", &["- one two"]),
        ];
        for (text, width, first, expected) in rows {
            assert_eq!(wrap(text, width, first, &" ".repeat(first.len())), expected, "{text} {width}");
        }
    }
}
