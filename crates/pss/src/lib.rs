#![doc = include_str!("../README.md")]
// Pure by the compiler: without the standard library there are no files, no clock, no environment.
#![cfg_attr(not(any(test, feature = "testing")), no_std)]

extern crate alloc;

pub mod capabilities;
mod control;
pub mod controls;
pub mod declared;
pub mod facts;
mod finding;
mod level;
#[cfg(test)]
mod monotony;
pub mod pod;
pub mod run;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod version;

use alloc::format;
use alloc::vec::Vec;

pub use control::{Check, Control, Doc, Origin, Scope, Visibility};
pub use declared::{Evaluation, evaluate_pod};
use facts::{Facts, Subject};
pub use finding::{Certainty, Finding};
pub use level::{Level, UnknownLevel};
pub use version::{Minor, NEWEST, UnknownVersion, Version};

/// A finding and the control that made it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The control.
    pub control: &'static Control,
    /// What it found.
    pub finding: Finding,
}

/// The controls in force at a level and version, in upstream's order: baseline's ids sorted, then restricted's.
///
/// A control stands in for those that it overrides, unless it is `lifted`: excepted, only reported, switched off or not
/// asked about. Then they hold beside it, because nobody lifted them. Where nothing is lifted these are upstream's.
pub fn active<'l>(
    level: Level,
    minor: Minor,
    lifted: impl Fn(&Control) -> bool + 'l,
) -> impl Iterator<Item = (&'static Control, Check)> + 'l {
    in_force(level, minor, lifted).filter_map(move |control| Some((control, control.at(minor)?)))
}

/// The same for both readings.
fn in_force(
    level: Level,
    minor: Minor,
    lifted: impl Fn(&Control) -> bool,
) -> impl Iterator<Item = &'static Control> {
    known(level, minor).filter(move |control| !is_overridden(control, level, minor, &lifted))
}

/// The controls of a level and version, overridden or not.
fn known(level: Level, minor: Minor) -> impl Iterator<Item = &'static Control> {
    controls::CONTROLS
        .iter()
        .copied()
        .filter(move |control| control.level <= level && control.since() <= minor)
}

/// Whether another control stands in for this one.
fn is_overridden(control: &Control, level: Level, minor: Minor, lifted: impl Fn(&Control) -> bool) -> bool {
    known(level, minor).any(|other| other.overrides.contains(&control.id) && !lifted(other))
}

/// Everything the standard says of one container at a level and version, with these controls [lifted](active).
///
/// An empty result means that the node can prove compliance with every control; a privileged level finds nothing.
#[must_use]
pub fn evaluate(
    level: Level,
    minor: Minor,
    facts: &Facts<'_>,
    lifted: impl Fn(&Control) -> bool,
) -> Vec<Found> {
    let mut all = Vec::new();
    if level == Level::Privileged {
        return all;
    }
    let mut findings = Vec::new();
    for (control, check) in known(level, minor).filter_map(|control| Some((control, control.at(minor)?))) {
        // The pause container's own user and capabilities are not the pod's.
        if facts.subject == Subject::Sandbox && control.scope == Scope::Container {
            continue;
        }
        check(facts, &mut findings);
        // Asked only now: most containers violate nothing, and what is lifted is a question to every exception of a policy.
        if !findings.is_empty() && is_overridden(control, level, minor, &lifted) {
            findings.clear();
        }
        for mut finding in findings.drain(..) {
            // YAML of a pod is no help to who calls `docker run`.
            if !finding.fix.is_empty()
                && let Some(words) = run::of(control.id).and_then(|row| row.words(facts.engine))
            {
                finding.fix = format!("{} run {words}", facts.engine.name()).into();
            }
            all.push(Found { control, finding });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::{Path, PathBuf};

    use super::capabilities::{CapabilitySet, NAMES};
    use super::controls::CONTROLS;
    use super::facts::{
        Addition, AppArmor, Engine, Facts, HostNamespaces, Known, ProcMasks, SeLinux, Seccomp,
        SeccompDefault, Subject, UserNamespace, Volume,
    };
    use super::testing::{compliant, findings, make_privileged};
    use super::{
        Certainty, Control, Level, Minor, NEWEST, Origin, Scope, UnknownLevel, UnknownVersion, Version,
        Visibility, active, evaluate,
    };

    /// Nothing is lifted: upstream's own semantics.
    fn none(_: &Control) -> bool {
        false
    }

    /// Every known version, and two that are newer than known.
    fn versions() -> impl Iterator<Item = Minor> {
        (0..=NEWEST).chain([NEWEST + 1, Minor::MAX])
    }

    // The table.

    #[test]
    fn no_container_makes_a_finding_long() {
        // What `docs/limits.md` promises, in bytes.
        const DETAIL: usize = 16 << 10;
        const FIX: usize = 64 << 10;
        let long: &str = &"\u{fc}".repeat(100_000);
        let names: Vec<String> = (0..2_000).map(|number| format!("{number}{}", &long[..200])).collect();
        let mut facts = compliant();
        facts.name = long;
        facts.selinux = SeLinux::Label { user: long, role: long, kind: long };
        facts.sysctls = Known::Seen(names.iter().map(|name| name.as_str().into()).collect());
        facts.lifecycle_hosts = names.iter().map(|name| name.as_str().into()).collect();
        facts.host_ports = Known::Seen((0..=u16::MAX).collect());
        for name in names.iter().map(String::as_str).chain([long]) {
            facts.capabilities.insert(name);
            let host = |name| Volume::HostPath { destination: long, source: long.into(), name };
            facts.volumes.extend([host(None), host(Some(name))]);
            facts.volumes.push(Volume::HostPath { destination: name, source: name.into(), name: None });
            facts.volumes.push(Volume::Plugin { name, plugin: "nfs" });
            facts.volumes.push(Volume::Unclear { destination: name, why: "it is gone" });
            facts.volumes.push(Volume::Device { destination: Some(name), source: name.into() });
            facts.additions.push(Addition::Order(name));
        }
        let mut without_host_paths = facts.clone();
        without_host_paths.volumes.retain(|volume| !matches!(volume, Volume::HostPath { .. }));
        for facts in [facts, without_host_paths] {
            for found in [0, NEWEST]
                .into_iter()
                .flat_map(|minor| evaluate(Level::Restricted, minor, &facts, |_| false))
            {
                let (id, finding) = (found.control.id, found.finding);
                assert!(finding.detail.len() <= DETAIL, "{id}: {} bytes", finding.detail.len());
                assert!(finding.fix.len() <= FIX, "{id}: a fix of {} bytes", finding.fix.len());
            }
        }
    }

    #[test]
    fn ids_and_numbers_are_unique_and_the_numbers_are_the_promised_ones() {
        let numbered: BTreeMap<u8, &str> = CONTROLS.iter().map(|c| (c.number, c.id)).collect();
        // Exit codes are 10 + these. A row may be added, none may change.
        let promised = [
            (1, "appArmorProfile"),
            (2, "capabilities_baseline"),
            (3, "hostNamespaces"),
            (4, "hostPathVolumes"),
            (5, "hostPorts"),
            (6, "hostProbesAndHostLifecycle"),
            (7, "privileged"),
            (8, "procMount"),
            (9, "seLinuxOptions"),
            (10, "seccompProfile_baseline"),
            (11, "sysctls"),
            (12, "windowsHostProcess"),
            (13, "allowPrivilegeEscalation"),
            (14, "capabilities_restricted"),
            (15, "procMount_restricted"),
            (16, "restrictedVolumes"),
            (17, "runAsNonRoot"),
            (18, "runAsUser"),
            (19, "seccompProfile_restricted"),
            (20, "readOnlyRootFilesystem"),
            (21, "injectedMounts"),
        ];
        assert_eq!(numbered.into_iter().collect::<Vec<_>>(), promised);
        assert_eq!(CONTROLS.len(), promised.len(), "a number is used twice");
        let ids: BTreeSet<&str> = CONTROLS.iter().map(|c| c.id).collect();
        assert_eq!(ids.len(), CONTROLS.len(), "an id is used twice");
    }

    #[test]
    fn the_order_is_baselines_ids_then_restricteds_then_ours() {
        let key = |c: &super::Control| (c.origin == Origin::PssGuard, c.level, c.id);
        assert!(CONTROLS.is_sorted_by(|a, b| key(a) < key(b)), "{:?}", CONTROLS.iter().map(|c| c.id));
        assert!(CONTROLS.iter().all(|c| c.level != Level::Privileged), "no control applies at privileged");
    }

    #[test]
    fn revisions_ascend_and_the_newest_of_them_is_newest() {
        for control in CONTROLS {
            assert!(!control.observed.is_empty(), "{}", control.id);
            assert!(control.observed.is_sorted_by(|(a, _), (b, _)| a < b), "{}", control.id);
        }
        let newest = CONTROLS.iter().flat_map(|c| c.observed).map(|(since, _)| *since).max();
        assert_eq!(newest, Some(NEWEST));
    }

    #[test]
    fn overrides_name_controls_of_a_looser_level() {
        for control in CONTROLS {
            for id in control.overrides {
                let other = CONTROLS.iter().find(|c| c.id == *id);
                assert!(other.is_some_and(|c| c.level < control.level), "{} overrides {id}", control.id);
            }
        }
    }

    #[test]
    fn every_text_of_a_control_is_there() {
        for c in CONTROLS {
            for text in [c.doc.rule, c.doc.fields, c.doc.allowed, c.doc.evidence, c.doc.blind, c.doc.fix] {
                assert!(!text.trim().is_empty() && text.trim() == text, "{}: {text:?}", c.id);
                assert!(!text.contains("  ") || text == c.doc.fix, "{}: {text:?}", c.id);
            }
            assert!(c.doc.fix.starts_with("spec:\n  "), "{}", c.id);
            assert!(c.doc.rule.ends_with('.') && c.doc.evidence.ends_with('.'), "{}", c.id);
        }
    }

    #[test]
    fn the_controls_in_force_are_upstreams_at_every_version_and_level() {
        let baseline_0 = "appArmorProfile capabilities_baseline hostNamespaces hostPathVolumes hostPorts privileged \
                          procMount seLinuxOptions seccompProfile_baseline sysctls windowsHostProcess";
        let baseline_34 = "appArmorProfile capabilities_baseline hostNamespaces hostPathVolumes hostPorts \
                           hostProbesAndHostLifecycle privileged procMount seLinuxOptions seccompProfile_baseline \
                           sysctls windowsHostProcess";
        // (from, baseline, restricted), written down from upstream's registrations.
        let rows = [
            (
                0,
                baseline_0,
                "appArmorProfile capabilities_baseline hostNamespaces hostPorts privileged procMount seLinuxOptions \
                 seccompProfile_baseline sysctls windowsHostProcess restrictedVolumes runAsNonRoot",
            ),
            (
                8,
                baseline_0,
                "appArmorProfile capabilities_baseline hostNamespaces hostPorts privileged procMount seLinuxOptions \
                 seccompProfile_baseline sysctls windowsHostProcess allowPrivilegeEscalation restrictedVolumes \
                 runAsNonRoot",
            ),
            (
                19,
                baseline_0,
                "appArmorProfile capabilities_baseline hostNamespaces hostPorts privileged procMount seLinuxOptions \
                 sysctls windowsHostProcess allowPrivilegeEscalation restrictedVolumes runAsNonRoot \
                 seccompProfile_restricted",
            ),
            (
                22,
                baseline_0,
                "appArmorProfile hostNamespaces hostPorts privileged procMount seLinuxOptions sysctls \
                 windowsHostProcess allowPrivilegeEscalation capabilities_restricted restrictedVolumes runAsNonRoot \
                 seccompProfile_restricted",
            ),
            (
                23,
                baseline_0,
                "appArmorProfile hostNamespaces hostPorts privileged procMount seLinuxOptions sysctls \
                 windowsHostProcess allowPrivilegeEscalation capabilities_restricted restrictedVolumes runAsNonRoot \
                 runAsUser seccompProfile_restricted",
            ),
            (
                34,
                baseline_34,
                "appArmorProfile hostNamespaces hostPorts hostProbesAndHostLifecycle privileged procMount \
                 seLinuxOptions sysctls windowsHostProcess allowPrivilegeEscalation capabilities_restricted \
                 restrictedVolumes runAsNonRoot runAsUser seccompProfile_restricted",
            ),
            (
                35,
                baseline_34,
                "appArmorProfile hostNamespaces hostPorts hostProbesAndHostLifecycle privileged seLinuxOptions \
                 sysctls windowsHostProcess allowPrivilegeEscalation capabilities_restricted procMount_restricted \
                 restrictedVolumes runAsNonRoot runAsUser seccompProfile_restricted",
            ),
        ];
        for minor in versions() {
            let (_, baseline, restricted) = rows.iter().rfind(|(from, ..)| *from <= minor).unwrap();
            let ids = |level| active(level, minor, none).map(|(c, _)| c.id).collect::<Vec<_>>().join(" ");
            assert_eq!(ids(Level::Privileged), "", "privileged:v1.{minor}");
            let baseline = format!("{baseline} injectedMounts");
            assert_eq!(ids(Level::Baseline), baseline, "baseline:v1.{minor}");
            let restricted = format!("{restricted} injectedMounts readOnlyRootFilesystem");
            assert_eq!(ids(Level::Restricted), restricted, "restricted:v1.{minor}");
        }
    }

    // The controls, over facts of every kind.

    type Tweak = (&'static str, fn(&mut Facts<'static>));

    /// One change each, so that every branch of every control is reached by some pair of them.
    const TWEAKS: &[Tweak] = &[
        ("nothing", |_| {}),
        ("root", |f| f.uid = 0),
        ("own users", |f| f.user_namespace = UserNamespace::Own),
        ("own users, unclear", |f| f.user_namespace = UserNamespace::OwnUnclear),
        ("new privileges", |f| f.no_new_privileges = false),
        ("writable root", |f| f.root_read_only = false),
        ("NET_BIND_SERVICE", |f| f.capabilities = CapabilitySet::of(&["NET_BIND_SERVICE"])),
        ("NET_RAW", |f| f.capabilities = CapabilitySet::of(&["NET_RAW"])),
        ("CHOWN", |f| f.capabilities = CapabilitySet::of(&["CHOWN"])),
        ("SYS_ADMIN", |f| f.capabilities = CapabilitySet::of(&["SYS_ADMIN"])),
        ("unknown capability", |f| f.capabilities = CapabilitySet::of(&["CAP_CAP_CHOWN"])),
        ("every capability", |f| {
            f.capabilities = CapabilitySet::of(&NAMES);
            f.has_all_capabilities = true;
        }),
        ("a runtime with nothing", |f| f.has_all_capabilities = true),
        ("no default capabilities", |f| f.default_capabilities = CapabilitySet::default()),
        ("privileged", make_privileged),
        ("injected", |f| f.injected = vec![(Some("/usr/lib/plugin"), "/opt/plugin".into())]),
        ("writable /sys", |f| f.sys_writable = true),
        ("host network", |f| {
            f.host_namespaces = Known::Seen(HostNamespaces { network: true, ..HostNamespaces::default() });
        }),
        ("namespaces unseen", |f| f.host_namespaces = Known::Unseen("no /proc")),
        ("/proc/kcore open", |f| f.proc_masks.kcore_masked = false),
        ("/proc unmasked", |f| f.proc_masks = ProcMasks::UNMASKED),
        ("old safe sysctl", |f| f.sysctls = Known::Seen(vec!["kernel.shm_rmid_forced".into()])),
        ("new safe sysctl", |f| f.sysctls = Known::Seen(vec!["net.ipv4.tcp_notsent_lowat".into()])),
        ("unsafe sysctl", |f| f.sysctls = Known::Seen(vec!["vm.swappiness".into()])),
        ("sysctls unseen", |f| f.sysctls = Known::Unseen("no sandbox")),
        ("no seccomp", |f| f.seccomp = Seccomp::Absent),
        ("open seccomp", |f| f.seccomp = Seccomp::AllowsAll),
        ("seccompDefault", |f| f.seccomp_default = SeccompDefault::RuntimeDefault),
        ("no AppArmor", |f| f.apparmor = AppArmor::Off("no AppArmor")),
        ("no profile", |f| f.apparmor = AppArmor::NoProfile),
        ("no profile, unclear", |f| f.apparmor = AppArmor::NoProfileUnclear("perhaps off")),
        ("unconfined", |f| f.apparmor = AppArmor::Profile("unconfined")),
        ("no SELinux", |f| f.selinux = SeLinux::Off("no SELinux")),
        ("spc_t", |f| f.selinux = SeLinux::Label { user: "system_u", role: "system_r", kind: "spc_t" }),
        ("engine_t", |f| {
            f.selinux = SeLinux::Label { user: "system_u", role: "system_r", kind: "container_engine_t" };
        }),
        ("bad label", |f| f.selinux = SeLinux::Malformed("a:b")),
        ("host port", |f| f.host_ports = Known::Seen(vec![80, 0])),
        ("ports unseen", |f| f.host_ports = Known::Unseen("no annotation")),
        ("preStop host", |f| f.lifecycle_hosts = vec!["a.com".into()]),
        ("host path", |f| {
            f.volumes.push(Volume::HostPath { destination: "/mnt", source: "/etc".into(), name: None });
        }),
        ("git-repo", |f| f.volumes.push(Volume::Plugin { name: "g", plugin: "git-repo" })),
        ("nfs", |f| f.volumes.push(Volume::Plugin { name: "n", plugin: "nfs" })),
        ("unclear mount", |f| f.volumes.push(Volume::Unclear { destination: "/x", why: "gone" })),
        ("a device", |f| {
            f.volumes.push(Volume::Device { destination: Some("/dev/x"), source: "/dev/block/8:0".into() });
        }),
        ("an annotation", |f| f.additions.push(Addition::Order("run.oci.handler"))),
        ("a hook", |f| f.additions.push(Addition::Hook { stage: "prestart", path: "/x" })),
        ("a skipped specification", |f| f.skipped_cdi.push("/etc/cdi/x.json is not root's".into())),
        ("cri-o", |f| f.engine = Engine::CriO),
        ("docker", |f| f.engine = Engine::Docker),
        ("sandbox", |f| f.subject = Subject::Sandbox),
    ];

    /// The compliant container with every pair of tweaks, in both orders.
    fn pairs() -> impl Iterator<Item = (String, Facts<'static>)> {
        let pairs = TWEAKS.iter().flat_map(|one| TWEAKS.iter().map(move |other| (one, other)));
        pairs.map(|((one, tweak), (other, more))| {
            let mut facts = compliant();
            tweak(&mut facts);
            more(&mut facts);
            (format!("{one} + {other}"), facts)
        })
    }

    /// Everything wrong at once.
    fn worst() -> Facts<'static> {
        let mut facts = compliant();
        for (_, tweak) in TWEAKS.iter().filter(|(name, _)| !matches!(*name, "own users" | "sandbox")) {
            tweak(&mut facts);
        }
        facts
    }

    fn is_against(certainty: Certainty) -> bool {
        matches!(certainty, Certainty::Violates | Certainty::Suspect)
    }

    #[test]
    fn every_control_that_sees_something_passes_some_facts_and_fails_some() {
        for control in CONTROLS {
            let all: Vec<_> = pairs().map(|(_, facts)| findings(control, NEWEST, &facts)).collect();
            let fails = all.iter().any(|found| found.iter().any(|f| is_against(f.certainty)));
            let passes = all.iter().any(|found| !found.iter().any(|f| is_against(f.certainty)));
            let proves = all.iter().any(Vec::is_empty);
            match control.sees {
                Visibility::Nothing => assert!(!fails && !proves, "{}", control.id),
                Visibility::Exact => assert!(fails && proves, "{}", control.id),
                Visibility::OneSided | Visibility::Hardly => assert!(fails && passes, "{}", control.id),
            }
        }
    }

    #[test]
    fn privileged_finds_nothing_even_in_the_worst_container() {
        assert!(
            evaluate(Level::Restricted, NEWEST, &worst(), none).len() > 10,
            "the worst is not bad enough"
        );
        for minor in versions() {
            assert!(evaluate(Level::Privileged, minor, &worst(), none).is_empty(), "v1.{minor}");
        }
    }

    #[test]
    fn whatever_violates_baseline_violates_restricted() {
        let pairs: Vec<_> = pairs().collect();
        for minor in versions() {
            let baseline: Vec<_> = active(Level::Baseline, minor, none).collect();
            let restricted: Vec<_> = active(Level::Restricted, minor, none).collect();
            for (name, facts) in &pairs {
                let proves = |check: super::Check| {
                    let mut found = Vec::new();
                    check(facts, &mut found);
                    found.iter().any(|f| f.certainty == Certainty::Violates)
                };
                for (control, _) in baseline.iter().filter(|(_, check)| proves(*check)) {
                    let same = |other: &super::Control| {
                        other.id == control.id || other.overrides.contains(&control.id)
                    };
                    let still = restricted.iter().any(|(other, check)| same(other) && proves(*check));
                    assert!(still, "{name}: {} at v1.{minor}", control.id);
                }
            }
        }
    }

    #[test]
    fn what_is_lifted_stands_in_for_nothing() {
        for minor in versions() {
            let ids = |level, lifted: &'static str| -> BTreeSet<&str> {
                active(level, minor, move |control| control.id == lifted)
                    .map(|(control, _)| control.id)
                    .collect()
            };
            let restricted = ids(Level::Restricted, "");
            for control in CONTROLS {
                let mut expected = restricted.clone();
                if control.at(minor).is_some() {
                    let of_baseline = ids(Level::Baseline, "");
                    expected.extend(control.overrides.iter().filter(|id| of_baseline.contains(*id)));
                }
                // It is still evaluated itself: that an exception is used must be seen.
                assert_eq!(ids(Level::Restricted, control.id), expected, "{} at v1.{minor}", control.id);
            }
        }
    }

    /// Whatever one control is excused from at restricted, everything else of baseline still holds.
    #[test]
    fn lifting_one_control_opens_no_other() {
        for (name, facts) in pairs() {
            let baseline = evaluate(Level::Baseline, NEWEST, &facts, none);
            let proven = |found: &super::Found| found.finding.certainty == Certainty::Violates;
            for lifted in CONTROLS {
                let found = evaluate(Level::Restricted, NEWEST, &facts, |control| control.id == lifted.id);
                for violated in baseline.iter().filter(|found| proven(found) && found.control.id != lifted.id)
                {
                    let id = violated.control.id;
                    let by = |found: &&super::Found| {
                        let same = found.control.id == id || found.control.overrides.contains(&id);
                        same && found.control.id != lifted.id
                    };
                    assert!(found.iter().filter(by).any(proven), "{name}: {} opened {id}", lifted.id);
                }
            }
        }
    }

    #[test]
    fn a_version_newer_than_known_is_the_newest() {
        for (name, facts) in pairs() {
            let shown = |minor| {
                let found = evaluate(Level::Restricted, minor, &facts, none).into_iter();
                found.map(|f| (f.control.id, f.finding)).collect::<Vec<_>>()
            };
            assert_eq!(shown(Minor::MAX), shown(NEWEST), "{name}");
        }
    }

    #[test]
    fn every_finding_is_one_line_with_upstreams_reason_and_a_whole_fix() {
        let reasons = BTreeMap::from([
            ("allowPrivilegeEscalation", "allowPrivilegeEscalation != false"),
            ("appArmorProfile", "forbidden AppArmor profile"),
            ("capabilities_baseline", "non-default capabilities"),
            ("capabilities_restricted", "unrestricted capabilities"),
            ("hostNamespaces", "host namespaces"),
            ("hostPathVolumes", "hostPath volumes"),
            ("hostPorts", "hostPort"),
            ("hostProbesAndHostLifecycle", "probe or lifecycle host"),
            ("privileged", "privileged"),
            ("procMount", "procMount"),
            ("procMount_restricted", "procMount"),
            ("readOnlyRootFilesystem", "readOnlyRootFilesystem != true"),
            ("injectedMounts", "injected mounts"),
            ("restrictedVolumes", "restricted volume types"),
            ("runAsNonRoot", "runAsNonRoot != true"),
            ("runAsUser", "runAsUser=0"),
            ("seLinuxOptions", "seLinuxOptions"),
            ("seccompProfile_baseline", "seccompProfile"),
            ("seccompProfile_restricted", "seccompProfile"),
            ("sysctls", "forbidden sysctls"),
            ("windowsHostProcess", "hostProcess"),
        ]);
        for (name, facts) in pairs() {
            for (control, minor) in CONTROLS.iter().flat_map(|c| c.observed.iter().map(move |r| (c, r.0))) {
                let found = findings(control, minor, &facts);
                let row = format!("{name}: {} at v1.{minor}", control.id);
                assert!(found.len() <= 1, "{row}: {found:?}");
                for finding in found {
                    assert_eq!(finding.reason, reasons[control.id], "{row}");
                    assert!(!finding.detail.is_empty() && !finding.detail.contains('\n'), "{row}");
                    let whole = ["spec:\n  ", "metadata:\n  annotations:\n", "docker run ", "podman run "];
                    let fixed = whole.iter().any(|head| finding.fix.starts_with(head))
                        && !finding.fix.ends_with('\n');
                    assert_eq!(fixed, is_against(finding.certainty), "{row}: {:?}", finding.fix);
                }
            }
        }
    }

    #[test]
    fn the_sandbox_is_judged_by_the_controls_of_the_pod_only() {
        let mut sandbox = worst();
        sandbox.subject = Subject::Sandbox;
        let pod: Vec<_> = CONTROLS.iter().filter(|c| c.scope == Scope::Pod).map(|c| c.id).collect();
        assert_eq!(pod, ["hostNamespaces", "seLinuxOptions", "sysctls"]);
        for level in [Level::Baseline, Level::Restricted] {
            let found: Vec<_> =
                evaluate(level, NEWEST, &sandbox, none).iter().map(|f| f.control.id).collect();
            assert_eq!(found, pod, "{level}");
        }
    }

    #[test]
    fn the_compliant_container_leaves_only_what_no_node_can_see() {
        let found = evaluate(Level::Restricted, NEWEST, &compliant(), none);
        assert!(found.iter().all(|f| f.finding.certainty == Certainty::Unseen), "{found:?}");
        assert_eq!(
            found.iter().map(|f| f.control.id).collect::<Vec<_>>(),
            [
                "hostProbesAndHostLifecycle",
                "windowsHostProcess",
                "capabilities_restricted",
                "restrictedVolumes",
                "runAsNonRoot",
                "runAsUser",
            ]
        );
    }

    #[test]
    fn a_bare_container_reads_as_upstream_words_it() {
        // What the kubelet and containerd make of a pod that says nothing about security.
        let mut bare = compliant();
        bare.uid = 0;
        bare.no_new_privileges = false;
        bare.capabilities = CapabilitySet::of(&["CHOWN", "KILL", "NET_RAW"]);
        bare.seccomp = Seccomp::Absent;
        let found = evaluate(Level::Restricted, NEWEST, &bare, none);
        let proven = found.iter().map(|f| &f.finding).filter(|f| f.certainty == Certainty::Violates);
        let line: Vec<String> = proven.map(|f| format!("{} ({})", f.reason, f.detail)).collect();
        assert_eq!(
            line.join(", "),
            "allowPrivilegeEscalation != false (container \"app\" must set \
             securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"app\" must set \
             securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"app\" must set \
             securityContext.runAsNonRoot=true), seccompProfile (pod or container \"app\" must set \
             securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
    }

    // Levels and versions.

    #[test]
    fn a_level_is_spelled_exactly() {
        for (text, level) in [
            ("privileged", Ok(Level::Privileged)),
            ("baseline", Ok(Level::Baseline)),
            ("restricted", Ok(Level::Restricted)),
            ("", Err(UnknownLevel)),
            ("Baseline", Err(UnknownLevel)),
            ("baseline ", Err(UnknownLevel)),
            ("\u{feff}restricted", Err(UnknownLevel)),
            ("default", Err(UnknownLevel)),
        ] {
            assert_eq!(text.parse::<Level>(), level, "{text:?}");
        }
        for level in Level::ALL {
            assert_eq!(level.to_string().parse::<Level>(), Ok(level));
        }
        assert!(Level::ALL.is_sorted_by(|a, b| a < b));
        assert_eq!(UnknownLevel.to_string(), "must be one of privileged, baseline, restricted");
    }

    #[test]
    fn a_version_is_latest_or_v1_and_a_plain_number() {
        for (text, version) in [
            ("latest", Ok(Version::Latest)),
            ("v1.0", Ok(Version::Minor(0))),
            ("v1.9", Ok(Version::Minor(9))),
            ("v1.37", Ok(Version::Minor(37))),
            ("v1.65535", Ok(Version::Minor(Minor::MAX))),
            ("v1.65536", Ok(Version::Minor(Minor::MAX))),
            ("v1.99999999999", Ok(Version::Minor(Minor::MAX))),
            ("", Err(UnknownVersion)),
            ("Latest", Err(UnknownVersion)),
            ("latest ", Err(UnknownVersion)),
            ("1.24", Err(UnknownVersion)),
            ("v1", Err(UnknownVersion)),
            ("v1.", Err(UnknownVersion)),
            ("v1.01", Err(UnknownVersion)),
            ("v1.00", Err(UnknownVersion)),
            ("v1.+1", Err(UnknownVersion)),
            ("v1.-1", Err(UnknownVersion)),
            ("v1.1.0", Err(UnknownVersion)),
            ("v1.1\n", Err(UnknownVersion)),
            ("v1.\u{661}", Err(UnknownVersion)),
            ("v2.0", Err(UnknownVersion)),
            ("V1.1", Err(UnknownVersion)),
        ] {
            assert_eq!(text.parse::<Version>(), version, "{text:?}");
        }
        assert_eq!(Version::Latest.minor(31), 31);
        assert_eq!(Version::Minor(99).minor(31), 99);
        assert_eq!(
            (Version::Latest.to_string(), Version::Minor(9).to_string()),
            ("latest".into(), "v1.9".into())
        );
        assert_eq!(UnknownVersion.to_string(), "must be \"latest\" or \"v1.x\"");
    }

    // The sources.

    #[test]
    fn every_control_has_a_file_of_its_name_that_begins_with_the_rule() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/controls");
        let mut files = Vec::new();
        rust_files(&dir, &mut files);
        let expected: BTreeSet<PathBuf> =
            CONTROLS.iter().map(|c| dir.join(snake_case(c.id) + ".rs")).collect();
        files.retain(|file| !file.ends_with("mod.rs"));
        assert_eq!(files.into_iter().collect::<BTreeSet<_>>(), expected);
        for control in CONTROLS {
            let text = std::fs::read_to_string(dir.join(snake_case(control.id) + ".rs")).unwrap();
            let head: Vec<&str> = text.lines().take(3).collect();
            let level = format!("({}", control.level);
            assert!(head[0].starts_with("//! ") && head[0].contains(&level), "{}: {}", control.id, head[0]);
            assert_eq!(head[1], "//!", "{}", control.id);
            assert!(
                head[2].starts_with("//! Upstream: ") && head[2].contains(" Evidence: "),
                "{}",
                control.id
            );
        }
    }

    fn snake_case(id: &str) -> String {
        let mut name = String::new();
        for c in id.chars() {
            if c.is_ascii_uppercase() {
                name.push('_');
            }
            name.push(c.to_ascii_lowercase());
        }
        name
    }

    fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                rust_files(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
}
