//! /proc mount (restricted): the parts of /proc that engines mask must stay masked, user namespace or not.
//!
//! Upstream: `policy/check_procMount_restricted.go`. Evidence: `linux.maskedPaths` and `linux.readonlyPaths`.

use super::proc_mount::{check, declared};
use crate::{Certainty, Control, Doc, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 15,
    id: "procMount_restricted",
    level: Level::Restricted,
    origin: Origin::Upstream,
    scope: Scope::Container,
    sees: Visibility::Exact,
    overrides: &["procMount"],
    observed: &[(35, |facts, out| check(facts, Certainty::Violates, out))],
    declared: &[(35, declared)],
    doc: Doc {
        rule: "The parts of /proc that engines mask by default must stay masked, also in a user namespace.",
        fields: "spec.containers[*].securityContext.procMount, and of initContainers and ephemeralContainers",
        allowed: "unset or Default",
        evidence: "/proc/kcore in `linux.maskedPaths` and /proc/sys in `linux.readonlyPaths` of config.json.",
        blind: "Of a privileged container, which loses the masks with or without procMount, only `privileged` is \
                reported.",
        fix: "spec:\n  containers:\n  - name: app\n    securityContext:\n      procMount: Default",
    },
};

#[cfg(test)]
mod tests {
    use super::CONTROL;
    use crate::Certainty::Violates;
    use crate::facts::{Facts, ProcMasks, UserNamespace};
    use crate::testing::{compliant, declared_table, make_privileged, pod_with, table, with};

    fn open(user_namespace: UserNamespace) -> Facts<'static> {
        with(|facts| {
            facts.user_namespace = user_namespace;
            facts.proc_masks = ProcMasks::UNMASKED;
        })
    }

    #[test]
    fn no_user_namespace_excuses_an_open_proc() {
        use UserNamespace::{Host, Own, OwnUnclear};
        let denied =
            Some((Violates, "container \"app\" must not set securityContext.procMount to \"Unmasked\""));
        table(&CONTROL, 34, &[("not a control yet", open(Host), None)]);
        for minor in [35, 37] {
            table(
                &CONTROL,
                minor,
                &[
                    ("masked", compliant(), None),
                    ("open", open(Host), denied),
                    ("open, own users", open(Own), denied),
                    ("open, own users, unclear", open(OwnUnclear), denied),
                    ("reported as privileged", with(make_privileged), None),
                ],
            );
        }
    }

    #[test]
    fn declared_no_user_namespace_excuses_it() {
        let unmasked = || {
            pod_with(|spec| {
                spec.host_users = Some(false);
                spec.containers[0].security_context.proc_mount = Some("Unmasked".into());
            })
        };
        let detail = Some("container \"app\" must not set securityContext.procMount to \"Unmasked\"");
        declared_table(&CONTROL, &[34], &[("not a control yet", unmasked(), None)]);
        declared_table(&CONTROL, &[35, 37], &[("own users", unmasked(), detail)]);
    }
}
