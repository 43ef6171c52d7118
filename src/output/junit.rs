//! Writes the results of `check` as JUnit's XML, which CI systems show as tests: a test case for each container or
//! workload, a failure where it would be refused, an error where it cannot be evaluated.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::json::Result as Object;
use crate::decision::Verdict;
use crate::message::mark;
use crate::pss::Certainty;

/// A test suite, being collected.
#[derive(Debug, Default)]
pub struct Suite {
    cases: String,
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
}

impl Suite {
    /// Adds one container or workload.
    pub fn add(&mut self, object: &Object<'_>) {
        self.tests += 1;
        let line = object.line.map_or_else(String::new, |line| format!(" line=\"{line}\""));
        let (path, name) = (Attribute(&object.path), object.name());
        let _ = writeln!(
            self.cases,
            "    <testcase classname=\"{path}\" name=\"{}\" file=\"{path}\"{line}>",
            Attribute(&name)
        );
        if object.verdict == Verdict::Deny.name() {
            self.failures += 1;
            let level = format!("{}:{}", object.level, object.version);
            let message = format!("violates PodSecurity \"{level}\"");
            self.child("failure", &message, Some(&level), &text(object));
        } else if object.verdict == Verdict::CannotJudge.name() {
            self.errors += 1;
            self.child("error", &object.because, None, &note(object));
        } else if object.verdict == Verdict::Exempt.name() {
            self.skipped += 1;
            self.child("skipped", &object.because, None, &note(object));
        } else if object.note.is_some() {
            let _ = writeln!(self.cases, "      <system-out>{}</system-out>", Attribute(&note(object)));
        }
        self.cases.push_str("    </testcase>\n");
    }

    fn child(&mut self, element: &str, message: &str, kind: Option<&str>, text: &str) {
        let kind = kind.map_or_else(String::new, |kind| format!(" type=\"{}\"", Attribute(kind)));
        let message = Attribute(message);
        let _ = writeln!(
            self.cases,
            "      <{element} message=\"{message}\"{kind}>{}</{element}>",
            Attribute(text)
        );
    }

    /// Writes the suite.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { cases, tests, failures, errors, skipped } = self;
        let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\"");
        writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
        writeln!(out, "<testsuites name=\"pss-guard\" {counts}>")?;
        writeln!(out, "  <testsuite name=\"pss-guard\" {counts} skipped=\"{skipped}\">")?;
        write!(out, "{cases}  </testsuite>\n</testsuites>\n")
    }
}

/// What is wrong, a finding a line, and how to fix it.
fn text(object: &Object<'_>) -> String {
    let mut text = String::from("\n");
    let told = object.findings.iter().filter(|finding| finding.certainty != Certainty::Unseen.name());
    for finding in told {
        let line = finding.line.map_or_else(String::new, |line| format!("line {line}: "));
        let detail = if finding.detail.is_empty() { String::new() } else { format!(" ({})", finding.detail) };
        let _ =
            writeln!(text, "{line}{}: {}{detail}{}", finding.control, finding.reason, mark(finding.origin));
        if object.fixes.is_empty() {
            text.extend(finding.fix.lines().map(|line| format!("  {line}\n")));
        }
    }
    text += &note(object);
    for fix in &object.fixes {
        let _ = writeln!(text, "fix of {}:", fix.of());
        text.extend(fix.yaml.lines().map(|line| format!("  {line}\n")));
    }
    text
}

/// What the verdict leaves open, in a line.
fn note(object: &Object<'_>) -> String {
    object.note.as_ref().map_or_else(String::new, |note| format!("note: {note}\n"))
}

/// Text for an attribute or an element. XML 1.0 has no control characters, not even escaped.
struct Attribute<'t>(&'t str);

impl std::fmt::Display for Attribute<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\n' | '\t' => f.write_char(c)?,
                '\0'..' ' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}')?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
