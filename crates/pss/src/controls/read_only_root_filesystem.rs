//! Read-only root file system (restricted, our own): a container must not be able to change its own image.
//!
//! Upstream: none, this control is pss-guard's. Evidence: `root.readonly` of the container's spec.

use alloc::format;
use alloc::vec::Vec;

use super::{container, security_context_fix};
use crate::declared::{Setters, Violation};
use crate::facts::Facts;
use crate::pod::Pod;
use crate::{Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 20,
    id: "readOnlyRootFilesystem",
    level: Level::Restricted,
    origin: Origin::PssGuard,
    scope: Scope::Container,
    sees: Visibility::Exact,
    overrides: &[],
    observed: &[(0, check)],
    declared: &[(0, declared)],
    doc: Doc {
        rule: "A container must not be able to change its own image's files.",
        fields: "spec.containers[*].securityContext.readOnlyRootFilesystem, and of initContainers and \
                 ephemeralContainers",
        allowed: "true. The Pod Security Standards do not ask for this; `[controls] readOnlyRootFilesystem` in the \
                  policy makes it audit or off.",
        evidence: "`root.readonly` of config.json.",
        blind: "Nothing.",
        fix: "spec:\n  containers:\n  - name: app\n    securityContext:\n      readOnlyRootFilesystem: true",
    },
};

const REASON: &str = "readOnlyRootFilesystem != true";

fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    if !facts.root_read_only {
        let detail = format!("{} must set securityContext.readOnlyRootFilesystem=true", container(facts));
        let fix = security_context_fix(facts, FIX);
        out.push(Finding::violates(REASON, detail, fix));
    }
}

const FIX: &str = "readOnlyRootFilesystem: true";

fn declared(pod: &Pod) -> Option<Violation> {
    let bad =
        Setters::containers(pod, &mut |container, _| !container.security_context.read_only_root_filesystem);
    bad.forbid(REASON, " must set securityContext.readOnlyRootFilesystem=true", FIX)
}

#[cfg(test)]
mod tests {
    use super::CONTROL;
    use crate::Certainty::Violates;
    use crate::testing::{compliant, table, with};

    #[test]
    fn a_writable_root_is_a_violation_at_every_version() {
        let detail = "container \"app\" must set securityContext.readOnlyRootFilesystem=true";
        for minor in [0, 37] {
            let writable = with(|facts| facts.root_read_only = false);
            table(
                &CONTROL,
                minor,
                &[("read-only", compliant(), None), ("writable", writable, Some((Violates, detail)))],
            );
        }
    }
}
