//! Sysctls (baseline): only kernel parameters that are namespaced and considered safe may be set.
//!
//! Upstream: `policy/check_sysctls.go`. Evidence: the keys of `linux.sysctl` in the sandbox's spec.

use alloc::format;
use alloc::vec::Vec;

use super::{listed, short, yaml_list};
use crate::declared::{Section, Violation};
use crate::facts::{Facts, Known};
use crate::pod::Pod;
use crate::{Control, Doc, Finding, Level, Minor, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 11,
    id: "sysctls",
    level: Level::Baseline,
    origin: Origin::Upstream,
    scope: Scope::Pod,
    sees: Visibility::Exact,
    overrides: &[],
    observed: &[
        (0, |facts, out| check(facts, 0, out)),
        (27, |facts, out| check(facts, 27, out)),
        (29, |facts, out| check(facts, 29, out)),
        (32, |facts, out| check(facts, 32, out)),
        (37, |facts, out| check(facts, 37, out)),
    ],
    declared: &[
        (0, |pod| declared(pod, 0)),
        (27, |pod| declared(pod, 27)),
        (29, |pod| declared(pod, 29)),
        (32, |pod| declared(pod, 32)),
        (37, |pod| declared(pod, 37)),
    ],
    doc: Doc {
        rule: "Only sysctls that are namespaced and considered safe may be set.",
        fields: "spec.securityContext.sysctls[*].name",
        allowed: "unset, kernel.shm_rmid_forced, or of net.ipv4: ip_local_port_range, tcp_syncookies, ping_group_range, \
                  ip_unprivileged_port_start; from v1.27 ip_local_reserved_ports; from v1.29 tcp_keepalive_time, \
                  tcp_fin_timeout, tcp_keepalive_intvl, tcp_keepalive_probes; from v1.32 tcp_rmem, tcp_wmem; from v1.37 \
                  tcp_slow_start_after_idle, tcp_notsent_lowat",
        evidence: "`linux.sysctl` of the sandbox's config.json, where both engines put a pod's sysctls.",
        blind: "Sysctls that the engine's own configuration adds look like the pod's: name them in \
                `[node] default-sysctls`. Without the sandbox's config.json nothing is known.",
        fix: "spec:\n  securityContext:\n    sysctls: []   # or only names of the safe list",
    },
};

const REASON: &str = "forbidden sysctls";

fn check(facts: &Facts<'_>, minor: Minor, out: &mut Vec<Finding>) {
    let sysctls = match &facts.sysctls {
        Known::Seen(sysctls) => sysctls,
        Known::Unseen(why) => return out.push(Finding::unseen(REASON, *why)),
    };
    let forbidden: Vec<&str> =
        sysctls.iter().map(AsRef::as_ref).filter(|name| !is_safe(name, minor)).collect();
    if !forbidden.is_empty() {
        let fix = format!("spec:\n  securityContext:\n    sysctls: []   # without {}", yaml_list(&forbidden));
        out.push(Finding::violates(REASON, listed(&forbidden, ", ", |name| short(name).into_owned()), fix));
    }
}

fn declared(pod: &Pod, minor: Minor) -> Option<Violation> {
    let names = pod.spec.security_context.sysctls.iter().map(|sysctl| sysctl.name.as_str());
    let forbidden: Vec<&str> = names.filter(|name| !is_safe(name, minor)).collect();
    let violation = Violation::new(REASON).say_list(&forbidden, "");
    let fix = "sysctls: []   # or only names of the safe list";
    (!forbidden.is_empty()).then(|| violation.fix_pod(Section::SecurityContext, fix))
}

fn is_safe(name: &str, minor: Minor) -> bool {
    SAFE.iter().any(|(since, safe)| *safe == name && *since <= minor)
}

/// Upstream's list, and the minor that brought each name.
const SAFE: &[(Minor, &str)] = &[
    (0, "kernel.shm_rmid_forced"),
    (0, "net.ipv4.ip_local_port_range"),
    (0, "net.ipv4.tcp_syncookies"),
    (0, "net.ipv4.ping_group_range"),
    (0, "net.ipv4.ip_unprivileged_port_start"),
    (27, "net.ipv4.ip_local_reserved_ports"),
    (29, "net.ipv4.tcp_keepalive_time"),
    (29, "net.ipv4.tcp_fin_timeout"),
    (29, "net.ipv4.tcp_keepalive_intvl"),
    (29, "net.ipv4.tcp_keepalive_probes"),
    (32, "net.ipv4.tcp_rmem"),
    (32, "net.ipv4.tcp_wmem"),
    (37, "net.ipv4.tcp_slow_start_after_idle"),
    (37, "net.ipv4.tcp_notsent_lowat"),
];

#[cfg(test)]
mod tests {
    use super::CONTROL;
    use crate::Certainty::{Unseen, Violates};
    use crate::facts::{Facts, Known};
    use crate::testing::{findings, table, with};

    fn sysctls(names: &'static [&'static str]) -> Facts<'static> {
        with(|facts| facts.sysctls = Known::Seen(names.iter().map(|name| (*name).into()).collect()))
    }

    #[test]
    fn a_name_is_safe_only_from_the_version_that_allowed_it() {
        let reserved = &["net.ipv4.ip_local_reserved_ports"];
        for minor in [0, 9, 26] {
            table(
                &CONTROL,
                minor,
                &[
                    ("none set", sysctls(&[]), None),
                    ("safe since v1.0", sysctls(&["kernel.shm_rmid_forced"]), None),
                    ("not yet safe", sysctls(reserved), Some((Violates, reserved[0]))),
                    ("in the order of the spec", sysctls(&["vm.b", "vm.a"]), Some((Violates, "vm.b, vm.a"))),
                    (
                        "the slash form is forbidden even of a safe name",
                        sysctls(&["kernel/shm_rmid_forced"]),
                        Some((Violates, "kernel/shm_rmid_forced")),
                    ),
                    (
                        "no sandbox",
                        with(|facts| facts.sysctls = Known::Unseen("no sandbox")),
                        Some((Unseen, "no sandbox")),
                    ),
                ],
            );
        }
        table(&CONTROL, 27, &[("now safe", sysctls(reserved), None)]);
        table(&CONTROL, 99, &[("a version newer than known is the newest", sysctls(reserved), None)]);
        let at_37 = &["net.ipv4.tcp_notsent_lowat"];
        table(&CONTROL, 36, &[("not before v1.37", sysctls(at_37), Some((Violates, at_37[0])))]);
        table(&CONTROL, 37, &[("from v1.37", sysctls(at_37), None)]);
    }
    #[test]
    fn a_hostile_name_cannot_break_out_of_the_fix() {
        let found = findings(&CONTROL, 0, &sysctls(&["vm.a", "x\n  hostPID: true"]));
        assert_eq!(
            found[0].fix,
            "spec:\n  securityContext:\n    sysctls: []   # without \"vm.a\", \"x\\U0000000a  hostPID: true\""
        );
    }
    #[test]
    fn the_documentation_names_the_whole_list() {
        for (since, name) in super::SAFE {
            let name = name.strip_prefix("net.ipv4.").unwrap_or(name);
            assert!(CONTROL.doc.allowed.contains(name), "{name}");
            assert!(*since == 0 || CONTROL.doc.allowed.contains(&format!("from v1.{since} ")), "v1.{since}");
        }
    }
}
