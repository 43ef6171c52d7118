//! Privileged containers (baseline): no container may switch its isolation off.
//!
//! Upstream: `policy/check_privileged.go`. Evidence: every capability, nothing masked in /proc and a writable /sys.
//! What else a spec has that only a privileged pod, or no pod at all, could ask for, is suspect.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::host_path_volumes::skipped_cdi;
use super::{container, container_fix, listed, security_context_fix, short, yaml};
use crate::declared::{Setters, Violation};
use crate::facts::{Addition, Facts};
use crate::pod::Pod;
use crate::{Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 7,
    id: "privileged",
    level: Level::Baseline,
    origin: Origin::Upstream,
    scope: Scope::Container,
    sees: Visibility::Exact,
    overrides: &[],
    observed: &[(0, check)],
    declared: &[(0, declared)],
    doc: Doc {
        rule: "No container may switch its isolation off.",
        fields: "spec.containers[*].securityContext.privileged, and of initContainers and ephemeralContainers",
        allowed: "unset or false",
        evidence: "config.json has no such flag, but what it does: every capability that the runtime itself has, nothing \
                   masked in /proc, and /sys writable. All three together. Suspect is what no field of a pod that is not \
                   privileged asks for: annotations on which the runtime acts (`org.systemd.property.*`, `run.oci.*`, \
                   `org.criu.*`, `module.wasm.*`), hooks that neither hooks.d nor a CDI specification of the node has, \
                   a shared `rootfsPropagation`, a writable cgroup or sysfs, network devices of the host, sections for \
                   other systems.",
        blind: "Nothing. A container that asks for all three one by one is reported as privileged. Whether \
                the node's admin or someone else put the rest into the spec is not visible, so it is \
                suspect.",
        fix: "spec:\n  containers:\n  - name: app\n    securityContext:\n      privileged: false",
    },
};

fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    if facts.privileged() {
        let detail = format!("{} must not set securityContext.privileged=true", container(facts));
        let fix = security_context_fix(facts, FIX);
        return out.push(Finding::violates("privileged", detail, fix));
    }
    if !facts.additions.is_empty() {
        out.push(Finding::suspect("privileged", detail(facts), fix(facts)));
    }
}

/// The fix names no more.
const MOST: usize = 8;

fn detail(facts: &Facts<'_>) -> String {
    let parts = listed(&facts.additions, "; ", name);
    format!("{} has what no field of a pod gives it: {parts}{}", container(facts), skipped_cdi(facts))
}

fn name(addition: &Addition<'_>) -> String {
    match addition {
        Addition::Order(key) => format!("annotation \"{}\", on which the runtime acts", short(key)),
        Addition::Hook { stage, path } => {
            let path = short(path);
            format!("{stage} hook \"{path}\", which neither hooks.d nor a CDI specification of this node has")
        }
        Addition::Propagation(way) => {
            let way = short(way);
            format!("linux.rootfsPropagation \"{way}\", by which its mounts appear on the host")
        }
        Addition::Writable { kind, destination } => {
            format!("a writable {kind} at \"{}\"", short(destination))
        }
        Addition::NetworkDevice(name) => format!("the host's network device \"{}\"", short(name)),
        Addition::Section(name) => format!("section \"{name}\", which is for other systems"),
    }
}

/// Annotations can be taken out of the pod; for the rest there is nothing to change in it.
fn fix(facts: &Facts<'_>) -> String {
    let orders = facts.additions.iter().filter_map(|addition| match addition {
        Addition::Order(key) => Some(format!("\n    {}: null   # take it out", yaml(key))),
        _ => None,
    });
    let orders: Vec<String> = orders.take(MOST).collect();
    if orders.is_empty() {
        return container_fix(
            facts,
            "# nothing to change here: look at the node's plugins (NRI, CDI) and hooks.d",
        );
    }
    format!("metadata:\n  annotations:{}", orders.concat())
}

const FIX: &str = "privileged: false";

fn declared(pod: &Pod) -> Option<Violation> {
    let bad = Setters::containers(pod, &mut |container, _| container.security_context.privileged);
    bad.forbid("privileged", " must not set securityContext.privileged=true", FIX)
}

#[cfg(test)]
mod tests {
    use super::CONTROL;
    use crate::Certainty::{Suspect, Violates};
    use crate::facts::{Addition, Facts, ProcMasks};
    use crate::testing::{compliant, declared_table, findings, make_privileged, pod_with, table, with};

    fn signs(all_capabilities: bool, unmasked: bool, sys_writable: bool) -> Facts<'static> {
        with(|facts| {
            facts.has_all_capabilities = all_capabilities;
            facts.proc_masks = if unmasked { ProcMasks::UNMASKED } else { ProcMasks::DEFAULT };
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

    #[test]
    fn what_no_pod_can_ask_for_is_suspect_and_a_privileged_container_is_no_more_than_privileged() {
        let added = |additions: &[Addition<'static>]| with(|facts| facts.additions = additions.to_vec());
        let order = Addition::Order("run.oci.handler");
        let rows = &[
            (
                "an annotation",
                added(std::slice::from_ref(&order)),
                Some((
                    Suspect,
                    "container \"app\" has what no field of a pod gives it: annotation \"run.oci.handler\", on which \
                     the runtime acts",
                )),
            ),
            (
                "a hook and the rest",
                added(&[
                    Addition::Hook { stage: "prestart", path: "/x" },
                    Addition::Propagation("rshared"),
                    Addition::Writable { kind: "cgroup", destination: "/c" },
                    Addition::NetworkDevice("eth1"),
                    Addition::Section("vm"),
                ]),
                Some((
                    Suspect,
                    "container \"app\" has what no field of a pod gives it: prestart hook \"/x\", which neither hooks.d \
                     nor a CDI specification of this node has; linux.rootfsPropagation \"rshared\", by which its mounts \
                     appear on the host; a writable cgroup at \"/c\"; the host's network device \"eth1\"; section \
                     \"vm\", which is for other systems",
                )),
            ),
            (
                "privileged as well",
                with(|facts| {
                    make_privileged(facts);
                    facts.additions.push(order.clone());
                }),
                Some((Violates, "container \"app\" must not set securityContext.privileged=true")),
            ),
        ];
        table(&CONTROL, 0, rows);
        table(&CONTROL, 37, rows);

        let fix = |facts: &Facts<'_>| findings(&CONTROL, 0, facts).remove(0).fix.into_owned();
        assert_eq!(
            fix(&added(&[order.clone(), Addition::Section("vm")])),
            "metadata:\n  annotations:\n    \"run.oci.handler\": null   # take it out"
        );
        assert!(fix(&added(&[Addition::Section("vm")])).contains("NRI, CDI"));
        let many = findings(&CONTROL, 0, &added(&vec![order; 100])).remove(0);
        assert!(many.detail.ends_with(" and 36 more") && many.fix.lines().count() == 10, "{}", many.detail);
    }

    #[test]
    fn declared_containers_are_named_in_upstreams_order() {
        declared_table(
            &CONTROL,
            &[0, 37],
            &[
                ("none", pod_with(|_| {}), None),
                (
                    "of every kind",
                    pod_with(|spec| {
                        spec.containers[1].security_context.privileged = true;
                        spec.ephemeral_containers.push(spec.containers[1].clone());
                        spec.ephemeral_containers[0].name = "debugger".into();
                        spec.init_containers[0].security_context.privileged = true;
                    }),
                    Some(
                        "containers \"init\", \"sidecar\", \"debugger\" must not set \
                         securityContext.privileged=true",
                    ),
                ),
            ],
        );
    }
}
