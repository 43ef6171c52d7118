//! What does the standard say? Pure: no I/O, no clock, no globals.
//!
//! The semantics (levels, versions, overriding, clamping, order) follow
//! `k8s.io/pod-security-admission/policy`; the evidence is what a node knows, see [`facts::Facts`].

pub mod capabilities;
pub mod controls;
pub mod facts;
#[cfg(test)]
pub(crate) mod testing;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use facts::{Facts, Subject};

/// A Pod Security level, ordered from loosest to strictest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// No control applies.
    Privileged,
    /// Known privilege escalations are forbidden.
    Baseline,
    /// Baseline, and hardening practice is demanded.
    Restricted,
}

impl Level {
    /// All levels, loosest first.
    pub const ALL: [Self; 3] = [Self::Privileged, Self::Baseline, Self::Restricted];

    /// The name as PSA's labels spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Upstream's words for a level it does not know (`api/helpers.go`).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of privileged, baseline, restricted")]
pub struct UnknownLevel;

impl FromStr for Level {
    type Err = UnknownLevel;

    /// Exact and case-sensitive, as upstream's `ParseLevel`.
    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        Self::ALL.into_iter().find(|level| level.name() == text).ok_or(UnknownLevel)
    }
}

/// The minor of a policy version `v1.N`.
pub type Minor = u16;

/// The newest policy version this program knows: the newest revision of any control.
pub const NEWEST: Minor = 37;

/// A policy version as somebody asked for it; messages print it back unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// The newest known, or the cluster's own version where the policy names it.
    Latest,
    /// `v1.N`.
    Minor(Minor),
}

impl Version {
    /// The minor to evaluate. A version newer than known is clamped by [`Control::at`] as upstream does.
    #[must_use]
    pub fn minor(self, latest: Minor) -> Minor {
        match self {
            Self::Latest => latest,
            Self::Minor(minor) => minor,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Minor(minor) => write!(f, "v1.{minor}"),
        }
    }
}

/// Upstream's words for a version it does not know (`api/helpers.go`).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be \"latest\" or \"v1.x\"")]
pub struct UnknownVersion;

impl FromStr for Version {
    type Err = UnknownVersion;

    /// `latest` or `^v1\.([0-9]|[1-9][0-9]*)$`, as upstream's `ParseVersion`. A number beyond any version
    /// that will ever be is the same as the newest one.
    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let digits = text.strip_prefix("v1.").ok_or(UnknownVersion)?;
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !plain || (digits.len() > 1 && digits.starts_with('0')) {
            return Err(UnknownVersion);
        }
        Ok(Self::Minor(digits.parse().unwrap_or(Minor::MAX)))
    }
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// The node cannot tell.
    Unseen,
    /// It looks like a violation, but a compliant pod can look the same.
    Suspect,
    /// Proven: no pod that the API server's admission allows looks like this.
    Violates,
}

impl Certainty {
    /// The word used in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unseen => "unseen",
            Self::Suspect => "suspect",
            Self::Violates => "violates",
        }
    }
}

/// What one control says of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How sure it is.
    pub certainty: Certainty,
    /// Upstream's reason, word for word where there is one.
    pub reason: Cow<'static, str>,
    /// Which container, which field, which value; or why it cannot be seen.
    pub detail: Cow<'static, str>,
    /// Lines of YAML that put it right; empty where nothing is wrong.
    pub fix: Cow<'static, str>,
}

impl Finding {
    /// A proven violation.
    pub fn violates(
        reason: &'static str,
        detail: impl Into<Cow<'static, str>>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { certainty: Certainty::Violates, reason: reason.into(), detail: detail.into(), fix: fix.into() }
    }

    /// Something that a compliant pod could show as well.
    pub fn suspect(
        reason: &'static str,
        detail: impl Into<Cow<'static, str>>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { certainty: Certainty::Suspect, reason: reason.into(), detail: detail.into(), fix: fix.into() }
    }

    /// Something this node cannot know; `why` says what hides it.
    pub fn unseen(reason: &'static str, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            certainty: Certainty::Unseen,
            reason: reason.into(),
            detail: why.into(),
            fix: Cow::Borrowed(""),
        }
    }
}

/// Who made the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `k8s.io/pod-security-admission`.
    Upstream,
    /// This project.
    PssGuard,
}

impl Origin {
    /// The word used in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::PssGuard => "pss-guard",
        }
    }
}

/// How much of a control a node can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// A finding and its absence are both proof.
    Exact,
    /// A violation is proof; silence is not.
    OneSided,
    /// Only a small part, under conditions that `evidence` names.
    Hardly,
    /// Nothing on a Linux node.
    Nothing,
}

impl Sees {
    /// The word used in `explain` and the documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::OneSided => "one-sided",
            Self::Hardly => "hardly",
            Self::Nothing => "nothing",
        }
    }
}

/// What a control looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Fields of the pod: the sandbox's own spec is judged by it too.
    Pod,
    /// Fields of one container.
    Container,
}

/// The text of a control, for `explain` and `docs/controls.md`.
#[derive(Debug)]
pub struct Doc {
    /// The rule in one sentence.
    pub rule: &'static str,
    /// The pod fields that upstream reads.
    pub fields: &'static str,
    /// What upstream allows there.
    pub allowed: &'static str,
    /// What a node looks at instead, and why that is proof.
    pub evidence: &'static str,
    /// What a node cannot see of it.
    pub blind: &'static str,
    /// The YAML that satisfies it.
    pub fix: &'static str,
}

/// One revision of a control: reads the facts, adds at most a few findings.
pub type Check = fn(&Facts<'_>, &mut Vec<Finding>);

/// One row of the standard.
#[derive(Debug)]
pub struct Control {
    /// A stable number: the hook's exit code is 10 + this. Never reused, never renumbered.
    pub number: u8,
    /// Upstream's check id, letter for letter.
    pub id: &'static str,
    /// The level that brings it in.
    pub level: Level,
    /// Who made the rule.
    pub origin: Origin,
    /// Whether the sandbox's own spec is judged by it.
    pub scope: Scope,
    /// How much of it a node can know.
    pub sees: Sees,
    /// Ids of the controls that this one replaces while it is active.
    pub overrides: &'static [&'static str],
    /// The revisions and the first minor each applies to, ascending.
    pub revisions: &'static [(Minor, Check)],
    /// The text of it.
    pub doc: Doc,
}

impl Control {
    /// The revision in force at a policy version, if the control exists there.
    ///
    /// A version newer than any known finds the last revision: upstream's clamping (`policy/registry.go`).
    #[must_use]
    pub fn at(&self, minor: Minor) -> Option<Check> {
        self.revisions.iter().rev().find(|(since, _)| *since <= minor).map(|(_, check)| *check)
    }
}

/// A finding and the control that made it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The control.
    pub control: &'static Control,
    /// What it found.
    pub finding: Finding,
}

/// The controls in force at a level and version, in upstream's order: baseline's ids sorted, then
/// restricted's, without those that another active control overrides.
pub fn active(level: Level, minor: Minor) -> impl Iterator<Item = (&'static Control, Check)> {
    let known = move || {
        let of_level = controls::CONTROLS.iter().copied().filter(move |control| control.level <= level);
        of_level.filter_map(move |control| Some((control, control.at(minor)?)))
    };
    known().filter(move |(control, _)| !known().any(|(other, _)| other.overrides.contains(&control.id)))
}

/// Everything the standard says of one container at a level and version.
///
/// An empty result means that the node can prove compliance with every control; a privileged level finds nothing.
#[must_use]
pub fn evaluate(level: Level, minor: Minor, facts: &Facts<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    if level == Level::Privileged {
        return all;
    }
    let mut findings = Vec::new();
    for (control, check) in active(level, minor) {
        // The pause container's own user and capabilities are not the pod's.
        if facts.subject == Subject::Sandbox && control.scope == Scope::Container {
            continue;
        }
        check(facts, &mut findings);
        all.extend(findings.drain(..).map(|finding| Found { control, finding }));
    }
    all
}
