//! A row of the table of controls: what a control is called, where it is in force, and its two readings, a check of each version:
//! `observed`, of what a node shows, and `declared`, of what a pod asks for.

use alloc::vec::Vec;

use crate::declared::DeclaredCheck;
use crate::facts::Facts;
use crate::{Finding, Level, Minor};

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
pub enum Visibility {
    /// A finding and its absence are both proof.
    Exact,
    /// A violation is proof; silence is not.
    OneSided,
    /// Only a small part, under conditions that `evidence` names.
    Hardly,
    /// Nothing on a Linux node.
    Nothing,
}

impl Visibility {
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
    /// Fields of the pod: the sandbox's own spec is evaluated, too.
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

/// One revision of a control's first reading: reads the facts, adds at most a few findings.
pub type Check = fn(&Facts<'_>, &mut Vec<Finding>);

/// One row of the table.
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
    /// Whether it evaluates the sandbox's own spec, too.
    pub scope: Scope,
    /// How much of it a node can know.
    pub sees: Visibility,
    /// Ids of the controls that this one replaces while it is active.
    pub overrides: &'static [&'static str],
    /// The first reading, of what a node shows: revisions and the first minor each applies to, ascending.
    pub observed: &'static [(Minor, Check)],
    /// The second reading, of what a pod declares: upstream's own revisions. Empty where the control compares a node with a pod.
    pub declared: &'static [(Minor, DeclaredCheck)],
    /// The text of it.
    pub doc: Doc,
}

impl Control {
    /// How much is known of any control where the pod's declaration is at hand: all, because upstream's check reads it.
    pub const SEES_DECLARED: Visibility = Visibility::Exact;

    /// The revision in force at a policy version, if the control exists there.
    ///
    /// A version newer than any known finds the last revision: upstream's clamping (`policy/registry.go`).
    #[must_use]
    pub fn at(&self, minor: Minor) -> Option<Check> {
        in_force(self.observed, minor)
    }

    /// The same of the second reading.
    #[must_use]
    pub fn declared_at(&self, minor: Minor) -> Option<DeclaredCheck> {
        in_force(self.declared, minor)
    }

    /// The first minor that has it.
    #[must_use]
    pub fn since(&self) -> Minor {
        self.observed.first().map_or(0, |(since, _)| *since)
    }
}

fn in_force<T: Copy>(revisions: &[(Minor, T)], minor: Minor) -> Option<T> {
    revisions.iter().rev().find(|(since, _)| *since <= minor).map(|(_, check)| *check)
}

#[cfg(test)]
mod tests {
    use super::Origin;
    use crate::controls::CONTROLS;

    #[test]
    fn what_a_node_sees_and_whose_the_rule_is_are_the_words_of_the_documentation() {
        let ours = |origin: Origin| CONTROLS.iter().filter(move |control| control.origin == origin);
        assert!(
            ours(Origin::PssGuard).map(|control| control.id).eq(["injectedMounts", "readOnlyRootFilesystem"])
        );
        assert_eq!((Origin::Upstream.name(), Origin::PssGuard.name()), ("upstream", "pss-guard"));
        for (id, sees) in [
            ("hostNamespaces", "exact"),
            ("hostPathVolumes", "one-sided"),
            ("hostProbesAndHostLifecycle", "hardly"),
            ("windowsHostProcess", "nothing"),
        ] {
            let control = CONTROLS.iter().find(|control| control.id == id);
            assert_eq!(control.map(|control| control.sees.name()), Some(sees), "{id}");
        }
    }
}
