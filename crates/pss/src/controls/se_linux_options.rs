//! SELinux options (baseline): only the container types, and neither user nor role, may be asked for.
//!
//! Upstream: `policy/check_seLinuxOptions.go`. Evidence: `process.selinuxLabel` against the node's own default.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{container, security_context_fix, short};
use crate::declared::{Setters, Violation};
use crate::facts::{Facts, SeLinux, Subject};
use crate::pod::Pod;
use crate::{Control, Doc, Finding, Level, Minor, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 9,
    id: "seLinuxOptions",
    level: Level::Baseline,
    origin: Origin::Upstream,
    scope: Scope::Pod,
    sees: Visibility::OneSided,
    overrides: &[],
    observed: &[(0, |facts, out| check(facts, 0, out)), (31, |facts, out| check(facts, 31, out))],
    declared: &[(0, |pod| declared(pod, 0)), (31, |pod| declared(pod, 31))],
    doc: Doc {
        rule: "Only the SELinux types made for containers may be requested, and neither a user nor a role.",
        fields: "spec.securityContext.seLinuxOptions, spec.containers[*].securityContext.seLinuxOptions, and of \
                 initContainers and ephemeralContainers",
        allowed: "type unset, container_t, container_init_t or container_kvm_t, from v1.31 container_engine_t too; user \
                  and role unset; any level",
        evidence: "`process.selinuxLabel` of config.json, part by part against the label that the node's own policy gives \
                   to containers.",
        blind: "Everything, on a node without SELinux or where the engine does not label (privileged; on CRI-O host \
                namespaces). Asking for what is the default anyway (user system_u, role system_r) looks like not \
                asking. Options of the pod that a container overrides show only in the sandbox's label.",
        fix: "spec:\n  securityContext:\n    seLinuxOptions: {}\n  containers:\n  - name: app\n    securityContext:\n      \
              seLinuxOptions: {}",
    },
};

const REASON: &str = "seLinuxOptions";

fn check(facts: &Facts<'_>, minor: Minor, out: &mut Vec<Finding>) {
    let (user, role, kind) = match facts.selinux {
        SeLinux::Off(why) => return out.push(Finding::unseen(REASON, why)),
        SeLinux::Malformed(label) => {
            let detail = format!(
                "the SELinux label \"{}\" of {} is no user:role:type[:level]",
                short(label),
                setter(facts)
            );
            return out.push(Finding::suspect(REASON, detail, fix(facts)));
        }
        SeLinux::Label { user, role, kind } => (user, role, kind),
    };
    let default = &facts.selinux_default;

    let mut wrong = Vec::new();
    if !is_allowed(kind, minor) && kind != default.kind {
        wrong.push(format!("type \"{}\"", short(kind)));
    }
    if user != default.user {
        wrong.push("user may not be set".to_owned());
    }
    if role != default.role {
        wrong.push("role may not be set".to_owned());
    }
    if !wrong.is_empty() {
        let detail =
            format!("{} set forbidden securityContext.seLinuxOptions: {}", setter(facts), wrong.join("; "));
        out.push(Finding::violates(REASON, detail, fix(facts)));
    }
}

fn setter(facts: &Facts<'_>) -> String {
    match facts.subject {
        Subject::Container => container(facts),
        Subject::Sandbox => "pod".to_owned(),
    }
}

/// A container inherits the pod's options, so both must be clean.
fn fix(facts: &Facts<'_>) -> String {
    let pod = "spec:\n  securityContext:\n    seLinuxOptions: {}";
    match facts.subject {
        Subject::Sandbox => pod.to_owned(),
        Subject::Container => security_context_fix(facts, FIX).replacen("spec:", pod, 1),
    }
}

/// Upstream's list, and the minor that brought each type.
const TYPES: &[(Minor, &str)] = &[
    (0, ""),
    (0, "container_t"),
    (0, "container_init_t"),
    (0, "container_kvm_t"),
    (31, "container_engine_t"),
];

const FIX: &str = "seLinuxOptions: {}";

fn declared(pod: &Pod, minor: Minor) -> Option<Violation> {
    let (mut user, mut role) = (false, false);
    let bad = Setters::all(pod, &mut |shared, types| {
        let options = shared.se_linux_options;
        let bad_type = !is_allowed(&options.kind, minor);
        if bad_type {
            types.push(&options.kind);
        }
        user |= !options.user.is_empty();
        role |= !options.role.is_empty();
        bad_type || !options.user.is_empty() || !options.role.is_empty()
    });
    let mut violation = bad.forbid(REASON, " set forbidden securityContext.seLinuxOptions: ", FIX)?;
    let mut separator = "";
    if !bad.values.is_empty() {
        violation = violation.say_quoted("type", "types", &bad.values);
        separator = "; ";
    }
    if user {
        violation = violation.say(separator).say("user may not be set");
        separator = "; ";
    }
    if role {
        violation = violation.say(separator).say("role may not be set");
    }
    Some(violation)
}

fn is_allowed(kind: &str, minor: Minor) -> bool {
    TYPES.iter().any(|(since, name)| *name == kind && *since <= minor)
}

#[cfg(test)]
mod tests {
    use super::CONTROL;
    use crate::Certainty::{Suspect, Unseen, Violates};
    use crate::facts::{Facts, SeLinux, SeLinuxDefault, Subject};
    use crate::testing::{findings, make_privileged, table, with};

    fn label(user: &'static str, role: &'static str, kind: &'static str) -> Facts<'static> {
        with(|facts| facts.selinux = SeLinux::Label { user, role, kind })
    }

    fn kind(kind: &'static str) -> Facts<'static> {
        label("system_u", "system_r", kind)
    }

    fn on_a_site_with_its_own_policy(mut facts: Facts<'static>) -> Facts<'static> {
        facts.selinux_default =
            SeLinuxDefault { user: "site_u".into(), role: "site_r".into(), kind: "site_t".into() };
        facts
    }

    #[test]
    fn each_forbidden_part_of_the_label_is_named() {
        let set = "container \"app\" set forbidden securityContext.seLinuxOptions: ";
        let spc = format!("{set}type \"spc_t\"");
        let user = format!("{set}user may not be set");
        let role = format!("{set}role may not be set");
        let all = format!("{set}type \"spc_t\"; user may not be set; role may not be set");
        // The table wants 'static texts; a test may leak them.
        let violates = |text: String| Some((Violates, &*text.leak()));
        let rows = &[
            ("the default", kind("container_t"), None),
            ("for systemd", kind("container_init_t"), None),
            ("for virtual machines", kind("container_kvm_t"), None),
            ("empty", kind(""), None),
            ("another", kind("spc_t"), violates(spc)),
            ("a user", label("staff_u", "system_r", "container_t"), violates(user)),
            ("a role", label("system_u", "staff_r", "container_t"), violates(role)),
            ("all three", label("staff_u", "staff_r", "spc_t"), violates(all)),
            (
                "the site's own default",
                on_a_site_with_its_own_policy(label("site_u", "site_r", "site_t")),
                None,
            ),
            (
                "a type that every site allows",
                on_a_site_with_its_own_policy(label("site_u", "site_r", "container_t")),
                None,
            ),
            ("another site's default", kind("site_t"), violates(format!("{set}type \"site_t\""))),
        ];
        table(&CONTROL, 0, rows);
        table(&CONTROL, 37, rows);
    }

    #[test]
    fn container_engine_t_is_allowed_from_v1_31() {
        let detail =
            "container \"app\" set forbidden securityContext.seLinuxOptions: type \"container_engine_t\"";
        for minor in [0, 30] {
            table(&CONTROL, minor, &[("not yet", kind("container_engine_t"), Some((Violates, detail)))]);
        }
        for minor in [31, 37] {
            table(&CONTROL, minor, &[("allowed", kind("container_engine_t"), None)]);
        }
    }

    #[test]
    fn a_label_that_is_missing_or_broken_proves_nothing() {
        table(
            &CONTROL,
            0,
            &[
                (
                    "no SELinux",
                    with(|facts| facts.selinux = SeLinux::Off("no SELinux in this kernel")),
                    Some((Unseen, "no SELinux in this kernel")),
                ),
                (
                    "malformed",
                    with(|facts| facts.selinux = SeLinux::Malformed("a:b")),
                    Some((
                        Suspect,
                        "the SELinux label \"a:b\" of container \"app\" is no user:role:type[:level]",
                    )),
                ),
                (
                    "a privileged container that has a label all the same",
                    with(|facts| {
                        make_privileged(facts);
                        facts.selinux = SeLinux::Label { user: "system_u", role: "system_r", kind: "spc_t" };
                    }),
                    Some((
                        Violates,
                        "container \"app\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"",
                    )),
                ),
            ],
        );
    }

    #[test]
    fn the_sandbox_speaks_for_the_pod() {
        let mut sandbox = kind("spc_t");
        sandbox.subject = Subject::Sandbox;
        let found = findings(&CONTROL, 0, &sandbox);
        assert_eq!(found[0].detail, "pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"");
        assert_eq!(found[0].fix, "spec:\n  securityContext:\n    seLinuxOptions: {}");
        let found = findings(&CONTROL, 0, &kind("spc_t"));
        assert_eq!(
            found[0].fix,
            "spec:\n  securityContext:\n    seLinuxOptions: {}\n  containers:\n  - name: app\n    securityContext:\n      \
             seLinuxOptions: {}"
        );
    }
}
