//! What can be shown where the output goes? Width, colours and letters of a terminal, or of whatever reads instead.

use std::io::IsTerminal as _;

use super::text::escape;

/// What the output can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Columns.
    pub width: usize,
    /// Whether colours are wanted.
    pub color: bool,
    /// Whether letters beyond ASCII can be shown.
    pub unicode: bool,
}

/// A colour or weight, in the codes that every terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// What matters most.
    Bold,
    /// What matters less.
    Dim,
    /// Refused.
    Red,
    /// To be looked at.
    Yellow,
    /// As it should be.
    Green,
}

impl Terminal {
    /// Too narrow for any table.
    const LEAST: usize = 40;
    /// What is piped is most often read in something of this width.
    const USUAL: usize = 80;

    /// Standard output, by what the environment says of it: `COLUMNS`, `NO_COLOR` (no-color.org), `TERM`, and the locale
    /// in POSIX' order.
    #[must_use]
    pub fn of_stdout() -> Self {
        let out = std::io::stdout();
        let is_terminal = out.is_terminal();
        let size = terminal_size::terminal_size_of(&out).map(|(width, _)| usize::from(width.0));
        Self::told(is_terminal, size, |name| std::env::var(name).ok())
    }

    fn told(is_terminal: bool, size: Option<usize>, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let columns = set("COLUMNS").and_then(|columns| columns.parse().ok());
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        let dumb = set("TERM").is_none_or(|name| name == "dumb");
        Self {
            width: size.filter(|_| is_terminal).or(columns).unwrap_or(Self::USUAL).clamp(Self::LEAST, 400),
            color: is_terminal && !dumb && set("NO_COLOR").is_none(),
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    /// The text in a style.
    #[must_use]
    pub fn styled(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => "",
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Red => "31",
            Style::Yellow => "33",
            Style::Green => "32",
        };
        if self.color && !code.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// A text from outside, on one line and no wider than this; what is left out shows.
    #[must_use]
    pub fn fit(&self, text: &str, width: usize) -> String {
        let text = self.letters(text);
        let count = text.chars().count();
        if count <= width {
            return text;
        }
        let goes_on = if self.unicode { "…" } else { ".." };
        let kept = width.saturating_sub(goes_on.chars().count());
        text.chars().take(kept).chain(goes_on.chars()).take(width).collect()
    }

    /// A text from outside in letters that can be shown.
    #[must_use]
    pub fn letters(&self, text: &str) -> String {
        let text = escape(text);
        if self.unicode || text.is_ascii() {
            return text;
        }
        let mut plain = String::with_capacity(text.len());
        for letter in text.chars() {
            match letter {
                '…' => plain.push_str(".."),
                '·' => plain.push('-'),
                _ if letter.is_ascii() => plain.push(letter),
                _ => plain.extend(letter.escape_unicode()),
            }
        }
        plain
    }

    /// A bar of `width` columns for the largest value. What is more than nothing is never drawn as nothing.
    #[must_use]
    pub fn bar(&self, value: u64, largest: u64, width: usize) -> String {
        let steps = if self.unicode { 8 } else { 1 };
        let all = (width * steps) as u64;
        let length = value.saturating_mul(all).checked_div(largest).unwrap_or_default();
        let length = usize::try_from(length.clamp(u64::from(value > 0), all)).unwrap_or_default();
        if !self.unicode {
            return "#".repeat(length);
        }
        let last = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"].get(length % 8).copied().unwrap_or_default();
        "█".repeat(length / 8) + last
    }

    /// Words on lines that are no wider than the terminal, each after the first behind an indent.
    #[must_use]
    pub fn wrapped(&self, first: &str, indent: usize, text: &str) -> String {
        let mut lines = first.to_owned();
        let mut column = first.chars().count();
        for (index, word) in self.letters(text).split(' ').enumerate() {
            let length = word.chars().count();
            if index > 0 && column + 1 + length > self.width {
                lines.push('\n');
                lines.push_str(&" ".repeat(indent));
                column = indent;
            } else if index > 0 {
                lines.push(' ');
                column += 1;
            }
            lines.push_str(word);
            column += length;
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::{Style, Terminal};

    fn told(is_terminal: bool, size: Option<usize>, variables: &[(&str, &str)]) -> (usize, bool, bool) {
        let variable = |name: &str| {
            let found = variables.iter().find(|(own, _)| *own == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let terminal = Terminal::told(is_terminal, size, variable);
        (terminal.width, terminal.color, terminal.unicode)
    }

    #[test]
    fn the_environment_says_what_can_be_shown() {
        let xterm = ("TERM", "xterm");
        for (is_terminal, size, variables, expected) in [
            (true, Some(200), vec![xterm, ("LANG", "C.UTF-8")], (200, true, true)),
            (true, Some(200), vec![xterm, ("COLUMNS", "90")], (200, true, false)),
            (true, Some(5), vec![xterm], (40, true, false)),
            (true, Some(100), vec![xterm, ("NO_COLOR", "1")], (100, false, false)),
            (true, Some(100), vec![xterm, ("NO_COLOR", "")], (100, true, false)),
            (true, Some(100), vec![("TERM", "dumb")], (100, false, false)),
            (true, None, vec![], (80, false, false)),
            (false, Some(200), vec![xterm, ("LANG", "de_DE.utf8")], (80, false, true)),
            (
                false,
                None,
                vec![("COLUMNS", "120"), ("LC_ALL", "C"), ("LANG", "C.UTF-8")],
                (120, false, false),
            ),
            (false, None, vec![("COLUMNS", "all"), ("LC_CTYPE", "en_US.UTF-8")], (80, false, true)),
        ] {
            assert_eq!(told(is_terminal, size, &variables), expected, "{is_terminal} {size:?} {variables:?}");
        }
    }

    #[test]
    fn a_bar_is_as_long_as_its_value_and_never_longer_than_its_place() {
        let ascii = Terminal { width: 80, color: false, unicode: false };
        let unicode = Terminal { unicode: true, ..ascii };
        for (value, largest, in_ascii, in_unicode) in [
            (0, 0, "", ""),
            (0, 8, "", ""),
            (1, 1_000_000, "#", "▏"),
            (4, 8, "##", "██"),
            (5, 8, "##", "██▌"),
            (8, 8, "####", "████"),
            (u64::MAX, u64::MAX, "#", "▏"),
            (9, 8, "####", "████"),
        ] {
            assert_eq!(ascii.bar(value, largest, 4), in_ascii, "{value} of {largest}");
            assert_eq!(unicode.bar(value, largest, 4), in_unicode, "{value} of {largest}");
        }
    }

    #[test]
    fn nothing_is_wider_than_its_place_and_nothing_moves_the_cursor() {
        let ascii = Terminal { width: 20, color: false, unicode: false };
        let unicode = Terminal { unicode: true, ..ascii };
        assert_eq!(ascii.fit("a-long-name", 6), "a-lo..");
        assert_eq!(unicode.fit("a-long-name", 6), "a-lon…");
        assert_eq!(ascii.fit("name", 1), ".");
        assert_eq!(unicode.fit("ü\u{1b}[2J", 20), "ü\\u{1b}[2J");
        assert_eq!(ascii.fit("ü", 20), "\\u{fc}");
        assert_eq!(ascii.wrapped("- ", 2, "one two three four five six"), "- one two three four\n  five six");
        assert_eq!(ascii.styled(Style::Red, "x"), "x");
        assert_eq!(Terminal { color: true, ..ascii }.styled(Style::Red, "x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
