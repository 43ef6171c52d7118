//! Seccomp (baseline): the system call filter must not be switched off.
//!
//! Upstream: `policy/check_seccompProfile_baseline.go`. Evidence: `linux.seccomp`, with the kubelet's seccompDefault.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::app_armor_profile::forbidden_profile;
use super::{container, plural, security_context_fix};
use crate::declared::{Setters, Violation, go_quoted, sort};
use crate::facts::{Facts, Seccomp, SeccompDefault};
use crate::pod::{Pod, SECCOMP_ANNOTATION, SECCOMP_POD_ANNOTATION};
use crate::{Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 10,
    id: "seccompProfile_baseline",
    level: Level::Baseline,
    origin: Origin::Upstream,
    scope: Scope::Container,
    sees: Visibility::Hardly,
    overrides: &[],
    observed: &[(0, |_, out| out.push(Finding::unseen(REASON, ANNOTATIONS))), (19, check)],
    declared: &[(0, declared_by_annotations), (19, declared)],
    doc: Doc {
        rule: "The system call filter must not be switched off.",
        fields: "spec.securityContext.seccompProfile.type, spec.containers[*].securityContext.seccompProfile.type, and of \
                 initContainers and ephemeralContainers; before v1.19 the annotations \
                 seccomp.security.alpha.kubernetes.io/pod and container.seccomp.security.alpha.kubernetes.io/*",
        allowed: "unset, RuntimeDefault or Localhost; in annotations runtime/default, docker/default or localhost/*",
        evidence: "`linux.seccomp` of config.json. Where the kubelet runs with seccompDefault (`[node] seccomp-default = \
                   true`) a filter that is absent proves Unconfined.",
        blind: "Without seccompDefault the kubelet turns unset into Unconfined, so both look the same. Annotations. \
                Privileged containers never have a filter. An Unconfined of the pod that every container overrides. A \
                Localhost profile that filters nothing passes admission: it is suspect.",
        fix: "spec:\n  containers:\n  - name: app\n    securityContext:\n      seccompProfile:\n        \
              type: RuntimeDefault",
    },
};

pub(super) const REASON: &str = "seccompProfile";
pub(super) const FIX: &str = "seccompProfile:\n  type: RuntimeDefault";

fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    if facts.privileged() {
        return out.push(Finding::unseen(REASON, PRIVILEGED));
    }
    match (facts.seccomp, facts.seccomp_default) {
        (Seccomp::Filter, _) => {}
        (Seccomp::AllowsAll, _) => out.push(allows_all(facts)),
        (Seccomp::Replaced, _) => out.push(replaced(facts)),
        (Seccomp::Absent, SeccompDefault::RuntimeDefault) => out.push(unconfined(facts)),
        (Seccomp::Absent, SeccompDefault::Unconfined) => out.push(Finding::unseen(REASON, UNSET)),
    }
}

/// No filter, though an unset profile would have brought one.
pub(super) fn unconfined(facts: &Facts<'_>) -> Finding {
    let detail =
        format!("{} must not set securityContext.seccompProfile.type to \"Unconfined\"", container(facts));
    Finding::violates(REASON, detail, fix(facts))
}

/// A filter in name only. Admission accepts any Localhost profile, so it is no violation.
pub(super) fn allows_all(facts: &Facts<'_>) -> Finding {
    let detail = format!("{} has a seccomp profile that allows every system call", container(facts));
    Finding::suspect(REASON, detail, fix(facts))
}

/// Under runc the annotation does nothing, and admission knows nothing of it.
pub(super) fn replaced(facts: &Facts<'_>) -> Finding {
    let detail = format!(
        "{} has the annotation run.oci.seccomp_bpf_data, with which crun applies another filter than its seccomp profile",
        container(facts)
    );
    Finding::suspect(REASON, detail, fix(facts))
}

pub(super) fn fix(facts: &Facts<'_>) -> String {
    security_context_fix(facts, FIX)
}

/// Why nothing can be said of a privileged container.
pub(super) const PRIVILEGED: &str = "engines apply no seccomp profile to a privileged container";
const ANNOTATIONS: &str = "before v1.19 the standard reads annotations, which do not reach the node's spec";
const UNSET: &str =
    "no filter, which unset and Unconfined both lead to where the kubelet runs without seccompDefault";

/// Where a profile is asked for that is none: the same at both levels.
pub(super) fn declared(pod: &Pod) -> Option<Violation> {
    let bad = Setters::all(pod, &mut |shared, values| {
        forbidden_profile(shared.seccomp_profile).map(|kind| values.push(kind)).is_some()
    });
    let violation = bad.forbid(REASON, " must not set securityContext.seccompProfile.type to ", FIX)?;
    Some(violation.say_list(&bad.values, "\""))
}

/// Before the field there were annotations.
fn declared_by_annotations(pod: &Pod) -> Option<Violation> {
    if pod.annotations.is_empty() {
        return None;
    }
    let mut keys = vec![SECCOMP_POD_ANNOTATION.to_owned()];
    Setters::containers(pod, &mut |container, _| {
        keys.push(format!("{SECCOMP_ANNOTATION}{}", container.name));
        false
    });
    sort(&mut keys);
    keys.retain(|key| {
        let allowed = |value: &str| {
            value == "runtime/default" || value == "docker/default" || value.starts_with("localhost/")
        };
        pod.annotations.get(key).is_some_and(|value| !allowed(value))
    });
    if keys.is_empty() {
        return None;
    }
    let setting =
        |key: &String| format!("{key}={}", go_quoted(pod.annotations.get(key).map_or("", String::as_str)));
    let mut settings: Vec<String> = keys.iter().map(setting).collect();
    settings.sort_unstable();
    let violation = Violation::new(REASON).say("forbidden ");
    let violation =
        violation.say(plural("annotation ", "annotations ", settings.len())).say_list(&settings, "");
    Some(violation.fix_annotations(keys.iter()))
}

#[cfg(test)]
mod tests {
    use super::{ANNOTATIONS, CONTROL, PRIVILEGED, UNSET};
    use crate::Certainty::{Suspect, Unseen, Violates};
    use crate::facts::{Facts, Seccomp, SeccompDefault};
    use crate::testing::{make_privileged, table, with};

    fn seccomp(seccomp: Seccomp, default: SeccompDefault) -> Facts<'static> {
        with(|facts| (facts.seccomp, facts.seccomp_default) = (seccomp, default))
    }

    #[test]
    fn an_absent_filter_is_proof_only_with_the_kubelets_seccomp_default() {
        use SeccompDefault::{RuntimeDefault, Unconfined};
        let detail = "container \"app\" must not set securityContext.seccompProfile.type to \"Unconfined\"";
        let another = "container \"app\" has the annotation run.oci.seccomp_bpf_data, with which crun applies another \
                       filter than its seccomp profile";
        let open = "container \"app\" has a seccomp profile that allows every system call";
        for minor in [0, 18] {
            table(
                &CONTROL,
                minor,
                &[
                    ("a filter", seccomp(Seccomp::Filter, RuntimeDefault), Some((Unseen, ANNOTATIONS))),
                    ("none", seccomp(Seccomp::Absent, RuntimeDefault), Some((Unseen, ANNOTATIONS))),
                ],
            );
        }
        for minor in [19, 37] {
            table(
                &CONTROL,
                minor,
                &[
                    ("a filter", seccomp(Seccomp::Filter, Unconfined), None),
                    ("a filter, seccompDefault", seccomp(Seccomp::Filter, RuntimeDefault), None),
                    ("none", seccomp(Seccomp::Absent, Unconfined), Some((Unseen, UNSET))),
                    (
                        "none, seccompDefault",
                        seccomp(Seccomp::Absent, RuntimeDefault),
                        Some((Violates, detail)),
                    ),
                    ("open", seccomp(Seccomp::AllowsAll, Unconfined), Some((Suspect, open))),
                    ("another", seccomp(Seccomp::Replaced, Unconfined), Some((Suspect, another))),
                    (
                        "open, seccompDefault",
                        seccomp(Seccomp::AllowsAll, RuntimeDefault),
                        Some((Suspect, open)),
                    ),
                    (
                        "privileged",
                        with(|facts| {
                            make_privileged(facts);
                            facts.seccomp_default = RuntimeDefault;
                        }),
                        Some((Unseen, PRIVILEGED)),
                    ),
                ],
            );
        }
    }
}
