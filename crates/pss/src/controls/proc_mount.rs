//! /proc mount (baseline): the parts of /proc that engines mask must stay masked.
//!
//! Upstream: `policy/check_procMount_baseline.go`. Evidence: `linux.maskedPaths` and `linux.readonlyPaths`.

use alloc::format;
use alloc::vec::Vec;

use super::{container, security_context_fix, unless_own_users};
use crate::declared::{Setters, Violation};
use crate::facts::{Facts, ProcMasks, UserNamespace};
use crate::pod::Pod;
use crate::{Certainty, Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 8,
    id: "procMount",
    level: Level::Baseline,
    origin: Origin::Upstream,
    scope: Scope::Container,
    sees: Visibility::Exact,
    overrides: &[],
    observed: &[
        (0, |facts, out| check(facts, Certainty::Violates, out)),
        (35, |facts, out| match facts.user_namespace {
            UserNamespace::Own => {}
            UserNamespace::OwnUnclear => check(facts, Certainty::Suspect, out),
            UserNamespace::Host => check(facts, Certainty::Violates, out),
        }),
    ],
    declared: &[(0, declared), (35, |pod| unless_own_users(pod, declared))],
    doc: Doc {
        rule: "The parts of /proc that engines mask by default must stay masked.",
        fields: "spec.containers[*].securityContext.procMount, and of initContainers and ephemeralContainers",
        allowed: "unset or Default; from v1.35 anything in a pod with hostUsers: false",
        evidence: "/proc/kcore in `linux.maskedPaths` and /proc/sys in `linux.readonlyPaths` of config.json. Where they \
                   are there, and another path is not that every engine protects, podman was told so \
                   (`--security-opt unmask=PATH`); in a pod a plugin did it, and the finding is suspect. From v1.35 also \
                   whether the container has a user namespace of its own.",
        blind: "Of a privileged container, which loses the masks with or without procMount, only `privileged` is \
                reported. CRI-O makes user namespaces for an annotation too; there the finding is suspect.",
        fix: "spec:\n  containers:\n  - name: app\n    securityContext:\n      procMount: Default",
    },
};

/// The same for both levels; how sure it is depends on the user namespace.
pub(super) fn check(facts: &Facts<'_>, certainty: Certainty, out: &mut Vec<Finding>) {
    // A privileged container has nothing masked either; admission would not call that procMount.
    if facts.privileged() || facts.proc_masks == ProcMasks::DEFAULT {
        return;
    }
    // podman unmasks single paths (`--security-opt unmask=/proc/irq`). A pod cannot ask for that: a plugin did it.
    let certainty =
        if facts.proc_unmasked() || !facts.engine.speaks_cri() { certainty } else { Certainty::Suspect };
    let detail = format!("{} must not set securityContext.procMount to \"Unmasked\"", container(facts));
    let fix = security_context_fix(facts, FIX);
    out.push(Finding { certainty, ..Finding::violates("procMount", detail, fix) });
}

const FIX: &str = "procMount: Default";

/// The same for both levels.
pub(super) fn declared(pod: &Pod) -> Option<Violation> {
    let bad = Setters::containers(pod, &mut |container, values| {
        let kind = container.security_context.proc_mount.as_deref().filter(|kind| *kind != "Default");
        kind.map(|kind| values.push(kind)).is_some()
    });
    let violation = bad.forbid("procMount", " must not set securityContext.procMount to ", FIX)?;
    Some(violation.say_list(&bad.values, "\""))
}

#[cfg(test)]
mod tests {
    use super::CONTROL;
    use crate::Certainty::{Suspect, Violates};
    use crate::facts::{Engine, Facts, ProcMasks, UserNamespace};
    use crate::testing::{compliant, declared_table, make_privileged, pod_with, table, with};

    fn open(user_namespace: UserNamespace, kcore_masked: bool, sys_read_only: bool) -> Facts<'static> {
        with(|facts| {
            facts.user_namespace = user_namespace;
            facts.proc_masks = ProcMasks { kcore_masked, sys_read_only, ..ProcMasks::DEFAULT };
        })
    }

    fn one_path(engine: Engine) -> Facts<'static> {
        with(|facts| {
            facts.engine = engine;
            facts.proc_masks.rest_protected = false;
        })
    }

    const DETAIL: &str = "container \"app\" must not set securityContext.procMount to \"Unmasked\"";

    #[test]
    fn an_open_proc_is_excused_only_by_an_own_user_namespace_from_v1_35() {
        use UserNamespace::{Host, Own, OwnUnclear};
        for minor in [0, 34, 35, 37] {
            table(
                &CONTROL,
                minor,
                &[
                    ("masked", compliant(), None),
                    ("nothing masked", open(Host, false, false), Some((Violates, DETAIL))),
                    ("/proc/kcore open", open(Host, false, true), Some((Violates, DETAIL))),
                    ("/proc/sys writable", open(Host, true, false), Some((Violates, DETAIL))),
                    ("reported as privileged", with(make_privileged), None),
                    ("one path of a pod's", one_path(Engine::Containerd), Some((Suspect, DETAIL))),
                    ("one path of podman's", one_path(Engine::Podman), Some((Violates, DETAIL))),
                ],
            );
        }
        for minor in [0, 34] {
            table(
                &CONTROL,
                minor,
                &[
                    ("own", open(Own, false, false), Some((Violates, DETAIL))),
                    ("own, unclear", open(OwnUnclear, false, false), Some((Violates, DETAIL))),
                ],
            );
        }
        for minor in [35, 37] {
            table(
                &CONTROL,
                minor,
                &[
                    ("own", open(Own, false, false), None),
                    ("own, unclear", open(OwnUnclear, false, false), Some((Suspect, DETAIL))),
                    ("own, unclear, but masked", open(OwnUnclear, true, true), None),
                ],
            );
        }
    }

    #[test]
    fn declared_it_is_excused_by_own_users_from_v1_35() {
        let unmasked = |host_users: Option<bool>| {
            pod_with(|spec| {
                spec.host_users = host_users;
                spec.containers[0].security_context.proc_mount = Some("Unmasked".into());
                spec.containers[1].security_context.proc_mount = Some("Default".into());
            })
        };
        let empty = || pod_with(|spec| spec.containers[0].security_context.proc_mount = Some(String::new()));
        let none = Some("container \"app\" must not set securityContext.procMount to \"\"");
        declared_table(
            &CONTROL,
            &[0, 34],
            &[("own users", unmasked(Some(false)), Some(DETAIL)), ("empty", empty(), none)],
        );
        declared_table(
            &CONTROL,
            &[35, 37],
            &[
                ("own users", unmasked(Some(false)), None),
                ("the host's", unmasked(Some(true)), Some(DETAIL)),
                ("unset", unmasked(None), Some(DETAIL)),
            ],
        );
    }
}
