//! Capabilities (restricted): all must be dropped, and only NET_BIND_SERVICE may be added back.
//!
//! Upstream: `policy/check_capabilities_restricted.go`. Evidence: the union of all sets in `process.capabilities`.

use alloc::format;
use alloc::vec::Vec;

use super::capabilities_baseline::{
    ADDABLE, PRIVILEGED, added_names, adding, must_not_add, must_not_include,
};
use super::{container, security_context_fix, unless_windows};
use crate::capabilities::CapabilitySet;
use crate::declared::{Setters, Violation};
use crate::facts::Facts;
use crate::pod::Pod;
use crate::{Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 14,
    id: "capabilities_restricted",
    level: Level::Restricted,
    origin: Origin::Upstream,
    scope: Scope::Container,
    sees: Visibility::OneSided,
    overrides: &["capabilities_baseline"],
    observed: &[(22, check)],
    declared: &[(22, declared), (25, |pod| unless_windows(pod, declared))],
    doc: Doc {
        rule: "All capabilities must be dropped; only NET_BIND_SERVICE may be added back.",
        fields: "spec.containers[*].securityContext.capabilities.drop and .add, and of initContainers and \
                 ephemeralContainers",
        allowed: "drop: a list with \"ALL\"; add: unset or NET_BIND_SERVICE. From v1.25 upstream exempts Windows \
                  pods, which no Linux node runs.",
        evidence: "`process.capabilities` of config.json: dropping ALL empties every set on both engines, so anything \
                   but NET_BIND_SERVICE that is left proves the violation.",
        blind: "Whether an empty set comes from \"ALL\", from \"all\" (engines accept it, upstream does not) \
                or from \
                dropping name by name, which upstream does not accept either. What a privileged container drops.",
        fix: "spec:\n  containers:\n  - name: app\n    securityContext:\n      capabilities:\n        drop: [\"ALL\"]",
    },
};

const REASON: &str = "unrestricted capabilities";

fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    if facts.privileged() {
        return out.push(Finding::unseen(REASON, PRIVILEGED));
    }
    let left = facts.capabilities.without(&CapabilitySet::of(&["NET_BIND_SERVICE"]));
    if left.is_empty() {
        return out.push(Finding::unseen(REASON, EMPTY));
    }
    let mut defaults = CapabilitySet::of(&ADDABLE);
    defaults.extend(&facts.default_capabilities);
    let added = left.without(&defaults);
    let kept = left.without(&added);

    let mut details = Vec::new();
    if !kept.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", container(facts)));
    }
    if !added.is_empty() {
        details.push(must_not_include(facts, &added_names(facts, &added)));
    }
    let fix = security_context_fix(facts, FIX);
    out.push(Finding::violates(REASON, details.join("; "), fix));
}

const EMPTY: &str = "no capability but NET_BIND_SERVICE is left: whether by drop: [\"ALL\"] or name by name is not \
                     visible";

const FIX: &str = "capabilities:\n  drop: [\"ALL\"]";

fn declared(pod: &Pod) -> Option<Violation> {
    let keeping = Setters::containers(pod, &mut |container, _| {
        !container.security_context.capabilities.drop.iter().any(|name| name == "ALL")
    });
    let adding = adding(pod, &["NET_BIND_SERVICE"]);
    if keeping.is_empty() && adding.is_none() {
        return None;
    }
    let mut violation = keeping.violate(REASON).fix(&keeping, FIX);
    if !keeping.is_empty() {
        violation = violation.say(" must set securityContext.capabilities.drop=[\"ALL\"]");
    }
    if let Some(adding) = adding {
        violation = must_not_add(&adding, violation.say(if keeping.is_empty() { "" } else { "; " }));
        violation = violation.fix(&adding, ADDING_FIX);
    }
    Some(violation)
}

const ADDING_FIX: &str = "capabilities:\n  add: []   # or only NET_BIND_SERVICE\n  drop: [\"ALL\"]";

#[cfg(test)]
mod tests {
    use super::{ADDABLE, CONTROL, EMPTY};
    use crate::Certainty::{Unseen, Violates};
    use crate::capabilities::{CapabilitySet, NAMES};
    use crate::controls::capabilities_baseline::PRIVILEGED;
    use crate::facts::Facts;
    use crate::testing::{make_privileged, table, with};

    fn has(names: &[&'static str]) -> Facts<'static> {
        with(|facts| facts.capabilities = CapabilitySet::of(names))
    }

    #[test]
    fn whatever_is_left_but_net_bind_service_is_a_violation() {
        let drop_all = "container \"app\" must set securityContext.capabilities.drop=[\"ALL\"]";
        let sys_admin =
            "container \"app\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add";
        let both = "container \"app\" must set securityContext.capabilities.drop=[\"ALL\"]; container \"app\" must \
                    not include \"SYS_ADMIN\" in securityContext.capabilities.add";
        let all = "container \"app\" must set securityContext.capabilities.drop=[\"ALL\"]; container \"app\" must not \
                   include \"ALL\" in securityContext.capabilities.add";
        table(&CONTROL, 21, &[("not a control yet", has(&["SYS_ADMIN"]), None)]);
        for minor in [22, 25, 37] {
            table(
                &CONTROL,
                minor,
                &[
                    ("nothing", has(&[]), Some((Unseen, EMPTY))),
                    ("the one that may be added", has(&["NET_BIND_SERVICE"]), Some((Unseen, EMPTY))),
                    (
                        "the defaults",
                        has(&[ADDABLE.as_slice(), &["NET_RAW"]].concat()),
                        Some((Violates, drop_all)),
                    ),
                    ("one of them", has(&["CHOWN", "NET_BIND_SERVICE"]), Some((Violates, drop_all))),
                    ("a default beyond the thirteen", has(&["NET_RAW"]), Some((Violates, drop_all))),
                    ("one that is no default", has(&["SYS_ADMIN"]), Some((Violates, sys_admin))),
                    ("both kinds", has(&["CHOWN", "SYS_ADMIN"]), Some((Violates, both))),
                    (
                        "everything the runtime has",
                        with(|facts| {
                            facts.capabilities = CapabilitySet::of(&NAMES);
                            facts.has_all_capabilities = true;
                        }),
                        Some((Violates, all)),
                    ),
                    (
                        "a runtime that has no more than a default itself",
                        with(|facts| {
                            facts.capabilities = CapabilitySet::of(&["CHOWN"]);
                            facts.has_all_capabilities = true;
                        }),
                        Some((Violates, drop_all)),
                    ),
                    ("privileged", with(make_privileged), Some((Unseen, PRIVILEGED))),
                ],
            );
        }
    }
}
