//! Non-root user (restricted): a container must be started only as a user that is not root.
//!
//! Upstream: `policy/check_runAsNonRoot.go`. Evidence: `process.user.uid`, the user that the process will really have.

use alloc::format;
use alloc::vec::Vec;

use super::{container, security_context_fix, unless_own_users};
use crate::declared::{Setters, Violation};
use crate::facts::{Facts, UserNamespace};
use crate::pod::Pod;
use crate::{Certainty, Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 17,
    id: "runAsNonRoot",
    level: Level::Restricted,
    origin: Origin::Upstream,
    scope: Scope::Container,
    sees: Visibility::OneSided,
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
        rule: "A container must be started only as a user that is not root.",
        fields: "spec.securityContext.runAsNonRoot, spec.containers[*].securityContext.runAsNonRoot, and of \
                 initContainers and ephemeralContainers",
        allowed: "true for every container, by itself or from the pod, and false nowhere; from v1.35 anything in a pod \
                  with hostUsers: false",
        evidence: "`process.user.uid` of config.json. Where runAsNonRoot is true the kubelet starts no container as uid 0, \
                   so uid 0 proves that it is not.",
        blind: "The field itself, which stays in the kubelet: a container that runs as another user may lack it. CRI-O \
                makes user namespaces for an annotation too; there uid 0 is suspect from v1.35.",
        fix: "spec:\n  containers:\n  - name: app\n    securityContext:\n      runAsNonRoot: true\n      \
              runAsUser: 1000   # any but 0; not needed where the image names such a user",
    },
};

const REASON: &str = "runAsNonRoot != true";

fn check(facts: &Facts<'_>, certainty: Certainty, out: &mut Vec<Finding>) {
    if facts.uid != 0 {
        return out.push(Finding::unseen(REASON, KUBELET));
    }
    let detail = format!("pod or {} must set securityContext.runAsNonRoot=true", container(facts));
    let fix = security_context_fix(facts, "runAsNonRoot: true\nrunAsUser: 1000   # any but 0");
    out.push(Finding { certainty, ..Finding::violates(REASON, detail, fix) });
}

const KUBELET: &str = "the user is not root, but whether runAsNonRoot is set stays in the kubelet";

fn declared(pod: &Pod) -> Option<Violation> {
    let explicit = Setters::all(pod, &mut |shared, _| shared.run_as_non_root == Some(false));
    if !explicit.is_empty() {
        return explicit.forbid(REASON, " must not set securityContext.runAsNonRoot=false", DECLARED_FIX);
    }
    if pod.spec.security_context.run_as_non_root == Some(true) {
        return None;
    }
    let unset =
        Setters::containers(pod, &mut |container, _| container.security_context.run_as_non_root.is_none());
    unset.demand(REASON, " must set securityContext.runAsNonRoot=true", DECLARED_FIX)
}

const DECLARED_FIX: &str = "runAsNonRoot: true   # the image's user or runAsUser must not be 0 then";

#[cfg(test)]
mod tests {
    use super::{CONTROL, KUBELET};
    use crate::Certainty::{Suspect, Unseen, Violates};
    use crate::facts::{Facts, UserNamespace};
    use crate::testing::{table, with};

    fn user(uid: u32, user_namespace: UserNamespace) -> Facts<'static> {
        with(|facts| (facts.uid, facts.user_namespace) = (uid, user_namespace))
    }

    #[test]
    fn root_is_excused_only_by_an_own_user_namespace_from_v1_35() {
        use UserNamespace::{Host, Own, OwnUnclear};
        let detail = "pod or container \"app\" must set securityContext.runAsNonRoot=true";
        for minor in [0, 34, 35, 37] {
            table(
                &CONTROL,
                minor,
                &[
                    ("root", user(0, Host), Some((Violates, detail))),
                    ("another user", user(1, Host), Some((Unseen, KUBELET))),
                    ("the last user", user(u32::MAX, Host), Some((Unseen, KUBELET))),
                    ("another user, own users, unclear", user(1, OwnUnclear), Some((Unseen, KUBELET))),
                ],
            );
        }
        for minor in [0, 34] {
            table(
                &CONTROL,
                minor,
                &[
                    ("root, own users", user(0, Own), Some((Violates, detail))),
                    ("root, own users, unclear", user(0, OwnUnclear), Some((Violates, detail))),
                    ("another user, own users", user(1, Own), Some((Unseen, KUBELET))),
                ],
            );
        }
        for minor in [35, 37] {
            table(
                &CONTROL,
                minor,
                &[
                    ("root, own users", user(0, Own), None),
                    ("root, own users, unclear", user(0, OwnUnclear), Some((Suspect, detail))),
                    ("another user, own users", user(1, Own), None),
                ],
            );
        }
    }
}
