//! A temporary mode as every output shows it.

use std::time::Duration;

use serde::Serialize;

use super::temporary::Temporary;
use crate::level::Mode;
use crate::level::date::rfc3339;
use crate::time;

/// A temporary mode in the words of every JSON output.
#[derive(Debug, Serialize)]
pub struct View<'a> {
    /// `break-glass` or `trial`.
    pub name: &'static str,
    /// The mode.
    pub mode: Mode,
    /// When it began.
    pub since: String,
    /// When it ends.
    pub until: String,
    /// How long that is from now.
    pub left_seconds: u64,
    /// Who opened it.
    pub who: &'a str,
    /// Why; may be empty.
    pub reason: &'a str,
}

impl<'a> View<'a> {
    /// What is known of this one now.
    #[must_use]
    pub fn of(temporary: &'a Temporary) -> Self {
        Self {
            name: temporary.name(),
            mode: temporary.mode,
            since: rfc3339(temporary.since()),
            until: rfc3339(temporary.until()),
            left_seconds: temporary.left().as_secs(),
            who: &temporary.who,
            reason: &temporary.reason,
        }
    }

    /// One sentence, for the terminal of somebody else. `then` is what holds after it.
    #[must_use]
    pub fn sentence(&self, then: Mode) -> String {
        let Self { name, mode, until, who, reason, .. } = self;
        let left = time::length(Duration::from_secs(self.left_seconds));
        let why = if reason.is_empty() { "no reason given".to_owned() } else { format!("{reason:?}") };
        format!("{name}: {mode} until {until} ({left} left), then {then}; by {who}, {why}")
    }
}
