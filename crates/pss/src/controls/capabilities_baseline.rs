//! Capabilities (baseline): none may be added beyond thirteen that containers commonly have.
//!
//! Upstream: `policy/check_capabilities_baseline.go`. Evidence: the union of all sets in `process.capabilities`.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{container, quoted, security_context_fix, yaml_list};
use crate::capabilities::CapabilitySet;
use crate::declared::{Setters, Violation};
use crate::facts::{Engine, Facts};
use crate::pod::Pod;
use crate::{Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 2,
    id: "capabilities_baseline",
    level: Level::Baseline,
    origin: Origin::Upstream,
    scope: Scope::Container,
    sees: Visibility::OneSided,
    overrides: &[],
    observed: &[(0, check)],
    declared: &[(0, declared)],
    doc: Doc {
        rule: "No capability may be added beyond thirteen that containers commonly have.",
        fields: "spec.containers[*].securityContext.capabilities.add, and of initContainers and \
                 ephemeralContainers",
        allowed: "AUDIT_WRITE, CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, MKNOD, NET_BIND_SERVICE, SETFCAP, SETGID, \
                  SETPCAP, SETUID, SYS_CHROOT; exactly in this spelling. NET_RAW is not among them.",
        evidence: "`process.capabilities` of config.json: a capability that is neither allowed nor a default of the \
                   engine (`[node] default-capabilities` adds to those) was asked for.",
        blind: "NET_RAW, where the engine grants it by default (containerd, docker): added or not, it looks the \
                same. What a privileged container adds. A capability that is added and dropped at once, and one \
                spelled in a way that only the engine accepts (`chown`; on CRI-O `CAP_CHOWN`).",
        fix: "spec:\n  containers:\n  - name: app\n    securityContext:\n      capabilities:\n        \
              add: []   # or only allowed ones",
    },
};

const REASON: &str = "non-default capabilities";

/// What a container may add at baseline.
pub const ADDABLE: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    if facts.privileged() {
        return out.push(Finding::unseen(REASON, PRIVILEGED));
    }
    let beyond = facts.capabilities.without(&CapabilitySet::of(&ADDABLE));
    let added = beyond.without(&facts.default_capabilities);
    if !added.is_empty() {
        let names = added_names(facts, &added);
        let fix = format!("capabilities:\n  add: []   # without {}", yaml_list(&names));
        let fix = security_context_fix(facts, &fix);
        return out.push(Finding::violates(REASON, must_not_include(facts, &names), fix));
    }
    if beyond.is_empty() {
        return out.push(Finding::unseen(REASON, ALLOWED));
    }
    // Only defaults of the engine are left to explain: NET_RAW, and what the node's configuration grants.
    let names = quoted(&beyond.names());
    let mut defaults = CapabilitySet::of(default_of_the_thirteen(facts.engine));
    defaults.extend(&facts.default_capabilities);
    if defaults.without(&facts.capabilities).is_empty() {
        let why = format!(
            "the engine grants {names} by default: whether capabilities.add names it too is not visible"
        );
        return out.push(Finding::unseen(REASON, why));
    }
    let detail = format!(
        "{} may include {names} in securityContext.capabilities.add: it has that, but not all other defaults",
        container(facts)
    );
    let fix = security_context_fix(facts, "capabilities:\n  drop: [\"ALL\"]");
    out.push(Finding::suspect(REASON, detail, fix));
}

/// What upstream says of the names in `capabilities.add`.
pub(super) fn must_not_include(facts: &Facts<'_>, names: &[&str]) -> String {
    format!("{} must not include {} in securityContext.capabilities.add", container(facts), quoted(names))
}

/// What the pod wrote to get these: `ALL` where it has everything that the runtime could give.
pub(super) fn added_names<'a>(facts: &Facts<'_>, added: &CapabilitySet<'a>) -> Vec<&'a str> {
    if facts.has_all_capabilities { vec!["ALL"] } else { added.names() }
}

/// Why nothing can be said of a privileged container.
pub(super) const PRIVILEGED: &str =
    "a privileged container has every capability: what its capabilities field asks for is not visible";

/// Why a container with allowed capabilities alone is not proven compliant.
const ALLOWED: &str = "it has allowed capabilities only; whether capabilities.add names one in a spelling that \
                       admission forbids and engines accept (`chown`, `CAP_CHOWN`) is not visible";

/// Which of the thirteen the engine grants to a container that asks for nothing: all of them, but on CRI-O
/// (`internal/config/capabilities`) the nine that podman grants too.
const fn default_of_the_thirteen(engine: Engine) -> &'static [&'static str] {
    match engine {
        Engine::Containerd | Engine::Docker | Engine::None => &ADDABLE,
        Engine::CriO | Engine::Podman => &[
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "NET_BIND_SERVICE",
            "SETGID",
            "SETPCAP",
            "SETUID",
        ],
    }
}

fn declared(pod: &Pod) -> Option<Violation> {
    adding(pod, &ADDABLE).map(|bad| must_not_add(&bad, Violation::new(REASON)).fix(&bad, DECLARED_FIX))
}

const DECLARED_FIX: &str = "capabilities:\n  add: []   # or only allowed ones";

/// Who adds a capability that is not among these.
pub(super) fn adding<'p>(pod: &'p Pod, addable: &[&str]) -> Option<Setters<'p>> {
    let bad = Setters::containers(pod, &mut |container, values| {
        let before = values.len();
        let add = container.security_context.capabilities.add.iter().map(String::as_str);
        values.extend(add.filter(|name| !addable.contains(name)));
        values.len() > before
    });
    (!bad.is_empty()).then_some(bad)
}

/// Upstream's sentence for both levels.
pub(super) fn must_not_add(bad: &Setters<'_>, violation: Violation) -> Violation {
    let violation = bad.say(violation).say(" must not include ").say_list(&bad.values, "\"");
    violation.say(" in securityContext.capabilities.add")
}

#[cfg(test)]
mod tests {
    use super::{ADDABLE, ALLOWED, CONTROL, PRIVILEGED};
    use crate::Certainty::{Suspect, Unseen, Violates};
    use crate::capabilities::{CapabilitySet, NAMES};
    use crate::facts::{Engine, Facts};
    use crate::testing::{findings, make_privileged, table, with};

    fn has(names: &[&'static str]) -> Facts<'static> {
        with(|facts| facts.capabilities = CapabilitySet::of(names))
    }

    fn defaults_and(more: &[&'static str]) -> Facts<'static> {
        has(&[ADDABLE.as_slice(), &["NET_RAW"], more].concat())
    }

    #[test]
    fn what_is_neither_allowed_nor_a_default_was_added() {
        let rows = &[
            ("none", has(&[]), Some((Unseen, ALLOWED))),
            ("all thirteen", has(&ADDABLE), Some((Unseen, ALLOWED))),
            (
                "one more than the defaults",
                defaults_and(&["SYS_ADMIN"]),
                Some((
                    Violates,
                    "container \"app\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add",
                )),
            ),
            (
                "several, sorted",
                has(&["SYS_PTRACE", "CHOWN", "NET_ADMIN"]),
                Some((
                    Violates,
                    "container \"app\" must not include \"NET_ADMIN\", \"SYS_PTRACE\" in \
                     securityContext.capabilities.add",
                )),
            ),
            (
                "containerd's spelling of an asked-for CAP_CHOWN",
                has(&["CAP_CAP_CHOWN"]),
                Some((
                    Violates,
                    "container \"app\" must not include \"CAP_CHOWN\" in securityContext.capabilities.add",
                )),
            ),
            (
                "a capability of a newer kernel",
                has(&["CAP_FROM_THE_FUTURE"]),
                Some((
                    Violates,
                    "container \"app\" must not include \"FROM_THE_FUTURE\" in securityContext.capabilities.add",
                )),
            ),
            (
                "everything the runtime has",
                with(|facts| {
                    facts.capabilities = CapabilitySet::of(&NAMES);
                    facts.has_all_capabilities = true;
                }),
                Some((
                    Violates,
                    "container \"app\" must not include \"ALL\" in securityContext.capabilities.add",
                )),
            ),
            ("privileged", with(make_privileged), Some((Unseen, PRIVILEGED))),
        ];
        table(&CONTROL, 0, rows);
        table(&CONTROL, 37, rows);
    }

    #[test]
    fn a_default_of_the_engine_may_or_may_not_have_been_added() {
        let unseen =
            "the engine grants \"NET_RAW\" by default: whether capabilities.add names it too is not visible";
        let suspect = "container \"app\" may include \"NET_RAW\" in securityContext.capabilities.add: it has that, \
                       but not all other defaults";
        let nine =
            ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETPCAP"];
        let cri_o = |names: &[&'static str], defaults: &[&'static str]| {
            with(|facts| {
                facts.engine = Engine::CriO;
                facts.capabilities = CapabilitySet::of(names);
                facts.default_capabilities = CapabilitySet::of(defaults);
            })
        };
        let nine_and = |more: &[&'static str]| [nine.as_slice(), &["SETUID"], more].concat();
        table(
            &CONTROL,
            0,
            &[
                ("the whole default set", defaults_and(&[]), Some((Unseen, unseen))),
                (
                    "a runtime that has no more than the defaults itself",
                    with(|facts| {
                        facts.capabilities = CapabilitySet::of(&[ADDABLE.as_slice(), &["NET_RAW"]].concat());
                        facts.has_all_capabilities = true;
                    }),
                    Some((Unseen, unseen)),
                ),
                ("it alone", has(&["NET_RAW"]), Some((Suspect, suspect))),
                (
                    "some other defaults are gone",
                    has(&["NET_RAW", "CHOWN", "KILL"]),
                    Some((Suspect, suspect)),
                ),
                (
                    "no default of CRI-O",
                    cri_o(&nine_and(&["NET_RAW"]), &[]),
                    Some((
                        Violates,
                        "container \"app\" must not include \"NET_RAW\" in securityContext.capabilities.add",
                    )),
                ),
                (
                    "configured as a default of CRI-O",
                    cri_o(&nine_and(&["NET_RAW"]), &["NET_RAW"]),
                    Some((Unseen, unseen)),
                ),
                (
                    "the same, with SETUID dropped",
                    cri_o(&["NET_RAW"], &["NET_RAW"]),
                    Some((Suspect, suspect)),
                ),
            ],
        );
    }

    #[test]
    fn a_configured_default_counts_like_a_built_in_one() {
        let node = |more: &[&'static str]| {
            let mut facts = defaults_and(more);
            facts.default_capabilities = CapabilitySet::of(&["NET_RAW", "SYS_PTRACE"]);
            facts
        };
        let both = "the engine grants \"NET_RAW\", \"SYS_PTRACE\" by default: whether capabilities.add names it too \
                    is not visible";
        let one = "container \"app\" may include \"NET_RAW\" in securityContext.capabilities.add: it has that, but \
                   not all other defaults";
        let added = "container \"app\" must not include \"SYS_TIME\" in securityContext.capabilities.add";
        table(
            &CONTROL,
            0,
            &[
                ("all defaults", node(&["SYS_PTRACE"]), Some((Unseen, both))),
                ("the configured one dropped", node(&[]), Some((Suspect, one))),
                ("one more", node(&["SYS_PTRACE", "SYS_TIME"]), Some((Violates, added))),
            ],
        );
    }

    #[test]
    fn the_fix_names_what_to_take_out_and_cannot_be_broken_out_of() {
        let fix = |names| findings(&CONTROL, 0, &has(names))[0].fix.clone();
        let head =
            "spec:\n  containers:\n  - name: app\n    securityContext:\n      capabilities:\n        add: []";
        assert_eq!(fix(&["SYS_ADMIN"]), format!("{head}   # without \"SYS_ADMIN\""));
        assert_eq!(fix(&["X\nhostPID: true"]), format!("{head}   # without \"X\\U0000000ahostPID: true\""));
    }
}
