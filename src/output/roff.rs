//! Manual pages in roff, as man(7) has it; and the Markdown of our own documents as such a page.
//!
//! Only what both groff and mandoc take without a warning. Every letter of a text is escaped, so none is an instruction.

use std::fmt::Write as _;

use super::terminal;

/// A page that is being written.
#[derive(Debug)]
pub struct Page(String);

/// Source lines are no longer, as `mandoc -Tlint` wants them.
const WIDTH: usize = 79;

impl Page {
    /// A page with its title and its NAME section. It has no date: two builds of one version are the same bytes.
    #[must_use]
    pub fn new(name: &str, section: u8, about: &str) -> Self {
        let mut page = Self(format!(
            ".TH {} {section} \"\" \"pss\\-guard {}\" \"pss\\-guard\"\n",
            escape(&name.to_uppercase()),
            env!("CARGO_PKG_VERSION")
        ));
        page.section("Name");
        let _ = writeln!(page.0, "{} \\- {}", escape(name), inline(about));
        page
    }

    /// The page, in roff.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }

    /// Begins a section.
    pub fn section(&mut self, title: &str) {
        let _ = writeln!(self.0, ".SH {}", escape(&title.to_uppercase()));
    }

    /// Begins a part of a section.
    pub fn part(&mut self, title: &str) {
        let _ = writeln!(self.0, ".SS {}", escape(title));
    }

    /// A paragraph; `code` and **strong** words are bold, links are their text.
    pub fn text(&mut self, prose: &str) {
        self.paragraph(".PP", prose);
    }

    fn paragraph(&mut self, begin: &str, prose: &str) {
        self.begin(begin);
        self.filled(&inline(prose));
    }

    /// Begins a paragraph, but right behind a title, which has begun one.
    fn begin(&mut self, macro_: &str) {
        let is_first = self.0.lines().last().is_some_and(|line| line.starts_with(".S"));
        if macro_ != ".PP" || !is_first {
            let _ = writeln!(self.0, "{macro_}");
        }
    }

    /// A word, and what it means. Words of it in `code` are bold.
    pub fn entry(&mut self, word: &str, prose: &str) {
        let _ = writeln!(self.0, ".TP\n{}", line_of(&inline(word)));
        self.filled(&inline(prose));
    }

    /// Words that stand as they are, each with what it means.
    pub fn entries(&mut self, entries: &[(&str, &str)]) {
        for (word, about) in entries {
            self.entry(&format!("`{word}`"), about);
        }
    }

    /// One more paragraph of an entry.
    pub fn further(&mut self, prose: &str) {
        self.paragraph(".IP", prose);
    }

    /// Text that stays as it is.
    pub fn code(&mut self, text: &str) {
        self.begin(".PP");
        self.0.push_str(".RS 4\n.nf\n");
        for line in text.lines() {
            // An empty line is a warning.
            let line = escape(line);
            self.0.push_str(if line.is_empty() { "\\&" } else { "" });
            let _ = writeln!(self.0, "{}", line_of(&line));
        }
        self.0.push_str(".fi\n.RE\n");
    }

    /// The end of a command's help: what each example is for, and the command.
    pub fn examples(&mut self, help: &str) {
        for line in help.lines().skip(1) {
            if line.starts_with("    ") { self.code(line.trim()) } else { self.text(line.trim()) }
        }
    }

    /// A document: sections, paragraphs, lists and blocks of code. Its title is skipped.
    pub fn markdown(&mut self, text: &str) {
        let (mut open, mut begin) = (String::new(), ".PP".to_owned());
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let trimmed = line.trim_start();
            let item = item(line);
            let is_code = line.starts_with("    ") && open.is_empty();
            if trimmed.is_empty() || line.starts_with('#') || line.starts_with("```") || item.is_some() {
                self.close(&mut open, &mut begin);
            }
            if line.starts_with("```") {
                let code: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
                self.code(&code.join("\n"));
            } else if is_code {
                let mut code = vec![trimmed];
                while let Some(more) = lines.next_if(|line| line.starts_with("    ")) {
                    code.push(more.trim_start());
                }
                self.code(&code.join("\n"));
            } else if let Some(title) = line.strip_prefix("## ") {
                self.section(title);
            } else if let Some(title) = line.strip_prefix("### ") {
                self.part(title);
            } else if let Some((mark, rest)) = item {
                begin = mark;
                rest.clone_into(&mut open);
            } else if !trimmed.is_empty() && !line.starts_with("# ") {
                open = format!("{open} {trimmed}");
            }
        }
        self.close(&mut open, &mut begin);
    }

    fn close(&mut self, open: &mut String, begin: &mut String) {
        let prose = std::mem::take(open);
        let begin = std::mem::replace(begin, ".PP".to_owned());
        if !prose.is_empty() {
            self.paragraph(&begin, prose.trim());
        }
    }

    fn filled(&mut self, escaped: &str) {
        for line in terminal::wrap(escaped, WIDTH, "", "") {
            let _ = writeln!(self.0, "{}", line_of(&line));
        }
    }
}

/// How an item of a list begins, and its text.
fn item(line: &str) -> Option<(String, &str)> {
    if let Some(rest) = line.strip_prefix("- ") {
        return Some((".IP \\(bu 2".to_owned(), rest));
    }
    let (number, rest) = line.split_once(". ")?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| (format!(".IP {number}. 4"), rest))
}

/// A line that begins with a dot is an instruction; `\&` is nothing.
fn line_of(escaped: &str) -> String {
    if escaped.starts_with('.') { format!("\\&{escaped}") } else { escaped.to_owned() }
}

/// Prose: what is in backticks or between two stars on either side is bold, and a link is its text.
fn inline(prose: &str) -> String {
    let mut roff = String::new();
    for (index, part) in prose.split('`').enumerate() {
        if index % 2 == 1 {
            let _ = write!(roff, "\\fB{}\\fR", escape(part));
            continue;
        }
        for (index, part) in part.split("**").enumerate() {
            let text = escape(&without_links(part));
            if index % 2 == 1 {
                roff.extend(["\\fB", text.as_str(), "\\fR"]);
            } else {
                roff.push_str(&text);
            }
        }
    }
    roff
}

fn without_links(prose: &str) -> String {
    let mut text = String::new();
    let mut rest = prose;
    while let Some((before, words, after)) = next_link(rest) {
        text = text + before + words;
        rest = after;
    }
    text + rest
}

/// The text before a link, that of the link, and what comes after it.
fn next_link(prose: &str) -> Option<(&str, &str, &str)> {
    let (before, after) = prose.split_once("](")?;
    let (before, words) = before.rsplit_once('[')?;
    let (_, after) = after.split_once(')')?;
    Some((before, words, after))
}

/// A text of which every letter is itself.
fn escape(text: &str) -> String {
    let mut roff = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => roff.push_str("\\e"),
            // A hyphen could be broken at, or shown as one that nobody can type.
            '-' => roff.push_str("\\-"),
            '\'' => roff.push_str("\\(aq"),
            '`' => roff.push_str("\\(ga"),
            '^' => roff.push_str("\\(ha"),
            '~' => roff.push_str("\\(ti"),
            '"' => roff.push_str("\\(dq"),
            '·' => roff.push_str("\\(pc"),
            '…' => roff.push_str("..."),
            c if c.is_ascii() => roff.push(c),
            c => {
                let _ = write!(roff, "\\[u{:04X}]", u32::from(c));
            }
        }
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::{Page, inline};

    #[test]
    fn no_letter_of_a_text_is_an_instruction() {
        for (prose, expected) in [
            ("a\\b", "a\\eb"),
            ("--root", "\\-\\-root"),
            ("it's \"x\"", "it\\(aqs \\(dqx\\(dq"),
            ("a `b-c` d", "a \\fBb\\-c\\fR d"),
            ("**Bold**: x", "\\fBBold\\fR: x"),
            ("see [the guide](docs/x.md#y), [two](z)", "see the guide, two"),
            ("[defaults] and [x](y)", "[defaults] and x"),
            ("a · b…", "a \\(pc b..."),
            ("→", "\\[u2192]"),
        ] {
            assert_eq!(inline(prose), expected, "{prose}");
        }
        let mut page = Page::new("x", 8, "y");
        page.text(".SH evil");
        page.code(".so /etc/passwd\n\n'x");
        page.entry(".TP", "'");
        let page = page.finish();
        for line in [".SH evil", ".so /etc/passwd"] {
            assert!(page.contains(&format!("\n\\&{line}\n")), "{page}");
        }
        assert!(page.contains("\n\\&\n\\(aqx\n") && page.contains(".TP\n\\&.TP\n\\(aq\n"), "{page}");
    }

    #[test]
    fn a_document_is_a_page() {
        let mut page = Page::new("x.toml", 5, "policy");
        page.markdown(
            "# Title\n\nIntro `x`\nfor all.\n\n    pss-guard man\n    two\n\n## First part\n\n1. one\n   more\n2. two\n\n- a\n- b:\n  c\n\n\
             ### Below\n\n```toml\n[x]\n\ny = 1\n```\n\nEnd.\n",
        );
        let page = page.finish();
        let (head, body) = page.split_once("x.toml \\- policy\n").unwrap();
        assert!(head.starts_with(".TH X.TOML 5 \"\" \"pss\\-guard "), "{head}");
        assert_eq!(
            body,
            ".PP\nIntro \\fBx\\fR for all.\n.PP\n.RS 4\n.nf\npss\\-guard man\ntwo\n.fi\n.RE\n.SH FIRST PART\n.IP 1. 4\none more\n\
             .IP 2. 4\ntwo\n.IP \\(bu 2\na\n.IP \\(bu 2\nb: c\n.SS Below\n.RS 4\n.nf\n[x]\n\\&\ny = 1\n.fi\n.RE\n.PP\nEnd.\n"
        );
    }
}
