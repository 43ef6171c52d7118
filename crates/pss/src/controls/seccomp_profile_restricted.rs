//! Seccomp (restricted): a system call filter must be asked for.
//!
//! Upstream: `policy/check_seccompProfile_restricted.go`. Evidence: `linux.seccomp`, with the kubelet's seccompDefault.

use alloc::format;
use alloc::vec::Vec;

use super::seccomp_profile_baseline::{self, FIX, PRIVILEGED, REASON, allows_all, fix, replaced, unconfined};
use super::{container, unless_windows};
use crate::declared::{Setters, Violation};
use crate::facts::{Facts, Seccomp, SeccompDefault};
use crate::pod::Pod;
use crate::{Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 19,
    id: "seccompProfile_restricted",
    level: Level::Restricted,
    origin: Origin::Upstream,
    scope: Scope::Container,
    sees: Visibility::OneSided,
    overrides: &["seccompProfile_baseline"],
    observed: &[(19, check)],
    declared: &[(19, declared), (25, |pod| unless_windows(pod, declared))],
    doc: Doc {
        rule: "A system call filter must be requested.",
        fields: "spec.securityContext.seccompProfile.type, spec.containers[*].securityContext.seccompProfile.type, and of \
                 initContainers and ephemeralContainers",
        allowed: "RuntimeDefault or Localhost, for every container, by itself or from the pod. From v1.25 upstream exempts \
                  Windows pods, which no Linux node runs.",
        evidence: "`linux.seccomp` of config.json. A filter that is absent proves the violation: with RuntimeDefault or \
                   Localhost there would be one.",
        blind: "Where the kubelet runs with seccompDefault, an unset profile has a filter too. Privileged containers never \
                have one. An Unconfined of the pod that every container overrides. A Localhost profile that \
                filters nothing passes admission: it is suspect.",
        fix: "spec:\n  containers:\n  - name: app\n    securityContext:\n      seccompProfile:\n        \
              type: RuntimeDefault",
    },
};

fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    if facts.privileged() {
        return out.push(Finding::unseen(REASON, PRIVILEGED));
    }
    match (facts.seccomp, facts.seccomp_default) {
        (Seccomp::Filter, SeccompDefault::Unconfined) => {}
        (Seccomp::Filter, SeccompDefault::RuntimeDefault) => out.push(Finding::unseen(REASON, UNSET)),
        (Seccomp::AllowsAll, _) => out.push(allows_all(facts)),
        (Seccomp::Replaced, _) => out.push(replaced(facts)),
        (Seccomp::Absent, SeccompDefault::RuntimeDefault) => out.push(unconfined(facts)),
        (Seccomp::Absent, SeccompDefault::Unconfined) => {
            let detail = format!(
                "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
                container(facts)
            );
            out.push(Finding::violates(REASON, detail, fix(facts)));
        }
    }
}

const UNSET: &str =
    "a filter, which unset and RuntimeDefault both lead to where the kubelet runs with seccompDefault";

fn declared(pod: &Pod) -> Option<Violation> {
    let explicit = seccomp_profile_baseline::declared(pod);
    if explicit.is_some() || pod.spec.security_context.seccomp_profile.is_some() {
        return explicit;
    }
    let unset =
        Setters::containers(pod, &mut |container, _| container.security_context.seccomp_profile.is_none());
    unset.demand(
        REASON,
        " must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        FIX,
    )
}

#[cfg(test)]
mod tests {
    use super::{CONTROL, PRIVILEGED, UNSET};
    use crate::Certainty::{Suspect, Unseen, Violates};
    use crate::facts::{Facts, Seccomp, SeccompDefault};
    use crate::testing::{make_privileged, table, with};

    fn seccomp(seccomp: Seccomp, default: SeccompDefault) -> Facts<'static> {
        with(|facts| (facts.seccomp, facts.seccomp_default) = (seccomp, default))
    }

    #[test]
    fn an_absent_filter_is_always_proof() {
        use SeccompDefault::{RuntimeDefault, Unconfined};
        let must_set = "pod or container \"app\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
                        \"Localhost\"";
        let must_not = "container \"app\" must not set securityContext.seccompProfile.type to \"Unconfined\"";
        let another = "container \"app\" has the annotation run.oci.seccomp_bpf_data, with which crun applies another \
                       filter than its seccomp profile";
        let open = "container \"app\" has a seccomp profile that allows every system call";
        table(&CONTROL, 18, &[("not a control yet", seccomp(Seccomp::Absent, Unconfined), None)]);
        for minor in [19, 25, 37] {
            table(
                &CONTROL,
                minor,
                &[
                    ("a filter", seccomp(Seccomp::Filter, Unconfined), None),
                    (
                        "a filter, seccompDefault",
                        seccomp(Seccomp::Filter, RuntimeDefault),
                        Some((Unseen, UNSET)),
                    ),
                    ("none", seccomp(Seccomp::Absent, Unconfined), Some((Violates, must_set))),
                    (
                        "none, seccompDefault",
                        seccomp(Seccomp::Absent, RuntimeDefault),
                        Some((Violates, must_not)),
                    ),
                    ("open", seccomp(Seccomp::AllowsAll, Unconfined), Some((Suspect, open))),
                    ("another", seccomp(Seccomp::Replaced, Unconfined), Some((Suspect, another))),
                    (
                        "open, seccompDefault",
                        seccomp(Seccomp::AllowsAll, RuntimeDefault),
                        Some((Suspect, open)),
                    ),
                    ("privileged", with(make_privileged), Some((Unseen, PRIVILEGED))),
                ],
            );
        }
    }
}
