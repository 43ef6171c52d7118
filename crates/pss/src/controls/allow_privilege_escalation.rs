//! Privilege escalation (restricted): no process may gain more privileges than its parent.
//!
//! Upstream: `policy/check_allowPrivilegeEscalation.go`. Evidence: `process.noNewPrivileges` of the container's spec.

use alloc::format;
use alloc::vec::Vec;

use super::{container, security_context_fix, unless_windows};
use crate::declared::{Setters, Violation};
use crate::facts::Facts;
use crate::pod::Pod;
use crate::{Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 13,
    id: "allowPrivilegeEscalation",
    level: Level::Restricted,
    origin: Origin::Upstream,
    scope: Scope::Container,
    sees: Visibility::Exact,
    overrides: &[],
    observed: &[(8, check)],
    declared: &[(8, declared), (25, |pod| unless_windows(pod, declared))],
    doc: Doc {
        rule: "No process may gain more privileges than its parent has.",
        fields: "spec.containers[*].securityContext.allowPrivilegeEscalation, and of initContainers and \
                 ephemeralContainers",
        allowed: "false, written out; unset is forbidden. From v1.25 upstream exempts Windows pods, which no \
                  Linux node runs.",
        evidence: "`process.noNewPrivileges` of config.json: the kubelet asks for it exactly where the field is \
                   false, and both engines pass it on.",
        blind: "Nothing.",
        fix: "spec:\n  containers:\n  - name: app\n    securityContext:\n      allowPrivilegeEscalation: false",
    },
};

const REASON: &str = "allowPrivilegeEscalation != false";

fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    if !facts.no_new_privileges {
        let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", container(facts));
        let fix = security_context_fix(facts, FIX);
        out.push(Finding::violates(REASON, detail, fix));
    }
}

const FIX: &str = "allowPrivilegeEscalation: false";

fn declared(pod: &Pod) -> Option<Violation> {
    let bad = Setters::containers(pod, &mut |container, _| {
        container.security_context.allow_privilege_escalation != Some(false)
    });
    bad.forbid(REASON, " must set securityContext.allowPrivilegeEscalation=false", FIX)
}

#[cfg(test)]
mod tests {
    use super::CONTROL;
    use crate::Certainty::Violates;
    use crate::testing::{compliant, table, with};

    #[test]
    fn new_privileges_are_forbidden_from_v1_8() {
        let may_escalate = || with(|facts| facts.no_new_privileges = false);
        let detail = "container \"app\" must set securityContext.allowPrivilegeEscalation=false";
        table(&CONTROL, 7, &[("not a control yet", may_escalate(), None)]);
        for minor in [8, 25, 37] {
            table(
                &CONTROL,
                minor,
                &[
                    ("no_new_privs is set", compliant(), None),
                    ("it is not", may_escalate(), Some((Violates, detail))),
                ],
            );
        }
    }
}
