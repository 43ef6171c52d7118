//! One finding in JSON: a field of the gate's events, and a part of every JSON output of the tool.

use std::borrow::Cow;

use pss::Origin;
use pss_guard_core::decision::{ControlResult, Effect};
use serde::Serialize;

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding<'a> {
    /// The control's id.
    pub control: &'static str,
    /// Who made the rule.
    pub origin: &'static str,
    /// How sure it is.
    pub certainty: &'static str,
    /// The reason.
    pub reason: Cow<'static, str>,
    /// The detail.
    pub detail: Cow<'static, str>,
    /// The YAML.
    pub fix: Cow<'static, str>,
    /// The reason of the exception that covers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exception: Option<Cow<'a, str>>,
    /// Present and true if the policy has it reported only (`[controls] … = "audit"`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reported: bool,
    /// The line of a manifest that causes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

impl<'a> Finding<'a> {
    /// One finding as it is shown.
    #[must_use]
    pub fn of(result: &'a ControlResult<'a>) -> Self {
        Self {
            control: result.control.id,
            origin: result.control.origin.name(),
            certainty: result.finding.certainty.name(),
            reason: result.finding.reason.clone(),
            detail: result.finding.detail.clone(),
            fix: result.finding.fix.clone(),
            exception: match result.effect {
                Effect::Excepted(exception) => Some(Cow::Borrowed(&exception.reason)),
                Effect::Counts | Effect::Reported => None,
            },
            reported: result.effect == Effect::Reported,
            line: None,
        }
    }

    /// Whether it is of a control of our own, which no level of upstream's asks for.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.origin == Origin::PssGuard.name()
    }

    /// Whether the policy lets its control fail here: such a control stands in for no other.
    #[must_use]
    pub fn is_lifted(&self) -> bool {
        self.exception.is_some() || self.reported
    }

    /// The same, on its own.
    #[must_use]
    pub fn into_owned(self) -> Finding<'static> {
        Finding {
            control: self.control,
            origin: self.origin,
            certainty: self.certainty,
            reason: self.reason,
            detail: self.detail,
            fix: self.fix,
            exception: self.exception.map(|reason| Cow::Owned(reason.into_owned())),
            reported: self.reported,
            line: self.line,
        }
    }
}
