//! Host namespaces (baseline): a pod must not share the host's network, processes or IPC.
//!
//! Upstream: `policy/check_hostNamespaces.go`. Evidence: the inodes of the namespaces against the runtime's own.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::declared::{Section, Violation};
use crate::facts::{Facts, Known};
use crate::pod::Pod;
use crate::{Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 3,
    id: "hostNamespaces",
    level: Level::Baseline,
    origin: Origin::Upstream,
    scope: Scope::Pod,
    sees: Visibility::Exact,
    overrides: &[],
    observed: &[(0, check)],
    declared: &[(0, declared)],
    doc: Doc {
        rule: "A pod must not share the host's network, processes or IPC.",
        fields: "spec.hostNetwork, spec.hostPID, spec.hostIPC",
        allowed: "unset or false",
        evidence: "Each namespace that config.json joins, by its inode, against the runtime's own. Whether an entry is \
                   there proves nothing: a container of a hostNetwork pod has a `network` entry like any other.",
        blind: "Nothing, unless a namespace's path cannot be read, which is reported.",
        fix: "spec:\n  hostNetwork: false\n  hostPID: false\n  hostIPC: false",
    },
};

const REASON: &str = "host namespaces";

fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    let shared = match &facts.host_namespaces {
        Known::Seen(shared) => shared,
        Known::Unseen(why) => return out.push(Finding::unseen(REASON, *why)),
    };
    let fields = [("hostNetwork", shared.network), ("hostPID", shared.pid), ("hostIPC", shared.ipc)];
    let on = || fields.into_iter().filter(|(_, on)| *on).map(|(field, _)| field);
    let details: Vec<String> = on().map(|field| format!("{field}=true")).collect();
    if !details.is_empty() {
        let lines: Vec<String> = on().map(|field| format!("\n  {field}: false")).collect();
        out.push(Finding::violates(REASON, details.join(", "), format!("spec:{}", lines.concat())));
    }
}

fn declared(pod: &Pod) -> Option<Violation> {
    let spec = &pod.spec;
    let fields = [
        (spec.host_network, "hostNetwork=true", "hostNetwork: false"),
        (spec.host_pid, "hostPID=true", "hostPID: false"),
        (spec.host_ipc, "hostIPC=true", "hostIPC: false"),
    ];
    if fields.iter().all(|(on, ..)| !on) {
        return None;
    }
    let mut violation = Violation::new(REASON);
    let mut separator = "";
    for (_, detail, fix) in fields.into_iter().filter(|(on, ..)| *on) {
        violation = violation.say(separator).say(detail).fix_pod(Section::Itself, fix);
        separator = ", ";
    }
    Some(violation)
}

#[cfg(test)]
mod tests {
    use super::CONTROL;
    use crate::Certainty::{Unseen, Violates};
    use crate::facts::{Facts, HostNamespaces, Known};
    use crate::testing::{findings, table, with};

    fn shares(network: bool, pid: bool, ipc: bool) -> Facts<'static> {
        with(|facts| facts.host_namespaces = Known::Seen(HostNamespaces { network, pid, ipc }))
    }

    #[test]
    fn every_shared_namespace_is_named_in_upstreams_order() {
        let rows = &[
            ("none", shares(false, false, false), None),
            ("network", shares(true, false, false), Some((Violates, "hostNetwork=true"))),
            ("processes", shares(false, true, false), Some((Violates, "hostPID=true"))),
            ("IPC", shares(false, false, true), Some((Violates, "hostIPC=true"))),
            ("two", shares(true, false, true), Some((Violates, "hostNetwork=true, hostIPC=true"))),
            (
                "all",
                shares(true, true, true),
                Some((Violates, "hostNetwork=true, hostPID=true, hostIPC=true")),
            ),
            (
                "not to be had",
                with(|facts| facts.host_namespaces = Known::Unseen("/proc is not mounted")),
                Some((Unseen, "/proc is not mounted")),
            ),
        ];
        table(&CONTROL, 0, rows);
        table(&CONTROL, 37, rows);
    }

    #[test]
    fn the_fix_has_only_the_fields_that_are_wrong() {
        let fix = findings(&CONTROL, 0, &shares(true, false, true))[0].fix.clone();
        assert_eq!(fix, "spec:\n  hostNetwork: false\n  hostIPC: false");
    }
}
