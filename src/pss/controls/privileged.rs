//! Privileged containers (baseline): no container may switch its isolation off.
//!
//! Upstream: `policy/check_privileged.go`. Evidence: every capability, nothing masked in /proc and a writable /sys.

use super::{container, security_context_fix};
use crate::pss::facts::Facts;
use crate::pss::{Control, Doc, Finding, Level, Origin, Scope, Sees};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 7,
    id: "privileged",
    level: Level::Baseline,
    origin: Origin::Upstream,
    scope: Scope::Container,
    sees: Sees::Exact,
    overrides: &[],
    revisions: &[(0, check)],
    doc: Doc {
        rule: "No container may switch its isolation off.",
        fields: "spec.containers[*].securityContext.privileged, and of initContainers and ephemeralContainers",
        allowed: "unset or false",
        evidence: "config.json has no such flag, but what it does: every capability that the runtime itself has, nothing \
                   masked in /proc, and /sys writable. All three together.",
        blind: "Nothing. A container that asks for all three one by one is reported as privileged.",
        fix: "spec:\n  containers:\n  - name: app\n    securityContext:\n      privileged: false",
    },
};

fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    if facts.privileged() {
        let detail = format!("{} must not set securityContext.privileged=true", container(facts));
        let fix = security_context_fix(facts, &["privileged: false"]);
        out.push(Finding::violates("privileged", detail, fix));
    }
}

#[cfg(test)]
mod tests {
    use super::CONTROL;
    use crate::pss::Certainty::Violates;
    use crate::pss::facts::{Facts, ProcMasks};
    use crate::pss::testing::{compliant, table, with};

    fn signs(all_capabilities: bool, unmasked: bool, sys_writable: bool) -> Facts<'static> {
        with(|facts| {
            facts.has_all_capabilities = all_capabilities;
            facts.proc_masks = ProcMasks { kcore_masked: !unmasked, sys_read_only: !unmasked };
            facts.sys_writable = sys_writable;
        })
    }

    #[test]
    fn only_all_three_signs_together_are_proof() {
        let denied = Some((Violates, "container \"app\" must not set securityContext.privileged=true"));
        let rows = &[
            ("none", compliant(), None),
            ("capabilities.add: [ALL]", signs(true, false, false), None),
            ("procMount: Unmasked", signs(false, true, false), None),
            ("a volume over /sys", signs(false, false, true), None),
            ("without the capabilities", signs(false, true, true), None),
            ("with /proc masked", signs(true, false, true), None),
            ("with /sys read-only", signs(true, true, false), None),
            ("all three", signs(true, true, true), denied),
        ];
        table(&CONTROL, 0, rows);
        table(&CONTROL, 37, rows);
    }
}
