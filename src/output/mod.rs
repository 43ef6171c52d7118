//! Who is told, and how?

pub mod json;
pub mod page;
pub mod sarif;
pub mod terminal;
pub mod text;

/// Writes one line to stderr: what a runtime shows of a hook that fails.
///
/// A stderr that is gone is no reason to change a verdict.
pub fn stderr_line(line: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
