//! What does each command print? Bodies of commands: text to a writer, an exit code back.

pub mod check;
pub mod namespaces;
pub mod policy;

use std::error::Error;
use std::iter::successors;

/// Exit code of a command that did what it should.
pub const OK: u8 = 0;

/// Exit code of wrong usage and of everything that could not be done.
pub const FAILED: u8 = 2;

/// An error and every cause of it on one line.
#[must_use]
pub fn line(error: &(dyn Error + 'static)) -> String {
    let causes = successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
