//! User 0 (restricted): a pod must not ask for root by number.
//!
//! Upstream: `policy/check_runAsUser.go`. Evidence: `process.user.uid`, which the image can have set as well.

use alloc::format;
use alloc::vec::Vec;

use super::{container, security_context_fix, unless_own_users};
use crate::declared::{Setters, Violation};
use crate::facts::{Facts, UserNamespace};
use crate::pod::Pod;
use crate::{Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 18,
    id: "runAsUser",
    level: Level::Restricted,
    origin: Origin::Upstream,
    scope: Scope::Container,
    sees: Visibility::Hardly,
    overrides: &[],
    observed: &[
        (23, check),
        (35, |facts, out| {
            if facts.user_namespace != UserNamespace::Own {
                check(facts, out);
            }
        }),
    ],
    declared: &[(23, declared), (35, |pod| unless_own_users(pod, declared))],
    doc: Doc {
        rule: "A pod must not ask for user 0.",
        fields: "spec.securityContext.runAsUser, spec.containers[*].securityContext.runAsUser, and of initContainers \
                 and ephemeralContainers",
        allowed: "unset or any number but 0; from v1.35 anything in a pod with hostUsers: false",
        evidence: "`process.user.uid` of config.json. uid 0 is suspect: it comes from runAsUser: 0 or from \
                   the image. \
                   Either way runAsNonRoot, at the same level, proves a violation.",
        blind: "Which of the two it was, and a runAsUser: 0 of the pod that every container overrides.",
        fix: "spec:\n  containers:\n  - name: app\n    securityContext:\n      runAsUser: 1000   # any but 0",
    },
};

const REASON: &str = "runAsUser=0";

fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    if facts.uid != 0 {
        return out.push(Finding::unseen(REASON, OVERRIDDEN));
    }
    let detail = format!(
        "pod or {} may set runAsUser=0: it runs as uid 0, which the image can ask for as well",
        container(facts)
    );
    out.push(Finding::suspect(REASON, detail, security_context_fix(facts, FIX)));
}

const OVERRIDDEN: &str =
    "the user is not 0, but a runAsUser of the pod that the container overrides is not visible";

const FIX: &str = "runAsUser: 1000   # any but 0";

fn declared(pod: &Pod) -> Option<Violation> {
    let bad = Setters::all(pod, &mut |shared, _| shared.run_as_user == Some(0));
    bad.forbid(REASON, " must not set runAsUser=0", FIX)
}

#[cfg(test)]
mod tests {
    use super::{CONTROL, OVERRIDDEN};
    use crate::Certainty::{Suspect, Unseen};
    use crate::facts::{Facts, UserNamespace};
    use crate::testing::{table, with};

    fn user(uid: u32, user_namespace: UserNamespace) -> Facts<'static> {
        with(|facts| (facts.uid, facts.user_namespace) = (uid, user_namespace))
    }

    #[test]
    fn user_0_is_a_suspicion_because_the_image_can_ask_for_it() {
        use UserNamespace::{Host, Own, OwnUnclear};
        let detail = "pod or container \"app\" may set runAsUser=0: it runs as uid 0, which the image can ask for as \
                      well";
        table(&CONTROL, 22, &[("not a control yet", user(0, Host), None)]);
        for minor in [23, 34, 35, 37] {
            table(
                &CONTROL,
                minor,
                &[
                    ("root", user(0, Host), Some((Suspect, detail))),
                    ("root, own users, unclear", user(0, OwnUnclear), Some((Suspect, detail))),
                    ("another user", user(1000, Host), Some((Unseen, OVERRIDDEN))),
                    ("another user, own users, unclear", user(1000, OwnUnclear), Some((Unseen, OVERRIDDEN))),
                ],
            );
        }
        for minor in [23, 34] {
            table(
                &CONTROL,
                minor,
                &[
                    ("root, own users", user(0, Own), Some((Suspect, detail))),
                    ("another user, own users", user(1000, Own), Some((Unseen, OVERRIDDEN))),
                ],
            );
        }
        for minor in [35, 37] {
            table(
                &CONTROL,
                minor,
                &[
                    ("root, own users", user(0, Own), None),
                    ("another user, own users", user(1000, Own), None),
                ],
            );
        }
    }
}
