//! hostPath volumes (baseline): nothing of the host's file system may be mounted by its path.
//!
//! Upstream: `policy/check_hostPathVolumes.go`. Evidence: mount sources that are neither the pod's nor the engine's.

use alloc::borrow::ToOwned as _;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{as_many_as_fit, listed, plural, quoted, short, yaml};
use crate::declared::Violation;
use crate::facts::{Facts, Volume};
use crate::pod::Pod;
use crate::{Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 4,
    id: "hostPathVolumes",
    level: Level::Baseline,
    origin: Origin::Upstream,
    scope: Scope::Container,
    sees: Visibility::OneSided,
    overrides: &[],
    observed: &[(0, check)],
    declared: &[(0, declared)],
    doc: Doc {
        rule: "Nothing of the host's file system may be mounted by its path.",
        fields: "spec.volumes[*].hostPath",
        allowed: "unset",
        evidence: "Bind mounts in config.json whose source, after every subPath and `..`, is neither in this pod's \
                   own kubelet directory nor one of the engine's, and no CDI specification of the node makes. Devices \
                   of the host in `linux.devices` and `linux.resources.devices`, by their numbers: of a container of no \
                   pod they are proof.",
        blind: "A hostPath volume that this container does not mount. A claim bound to a hostPath persistent volume \
                and the mounts of device plugins look like a hostPath volume: name their directories in \
                `[node] not-host-paths`. A pod's device may have come by a claim of volumeMode Block, or by a plugin \
                of the node: it is suspect unless a CDI specification or `[node] not-host-paths` has it.",
        fix: "spec:\n  volumes:\n  - name: data\n    emptyDir: {}   # or a claim, a ConfigMap, ...; no hostPath",
    },
};

const REASON: &str = "hostPath volumes";

fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    let mut found = Sources::default();
    facts.volumes.iter().for_each(|volume| found.add_host_path(volume));
    if !found.is_empty() {
        let detail = format!("{}{}", found.subject(), skipped_cdi(facts));
        return out.push(Finding::violates(REASON, detail, found.fix(facts)));
    }
    let unclear: Vec<String> = facts.volumes.iter().filter_map(unclear).collect();
    if unclear.is_empty() {
        out.push(Finding::unseen(REASON, UNMOUNTED));
    } else {
        let detail = format!("{}{}", listed(&unclear, "; ", Clone::clone), skipped_cdi(facts));
        out.push(Finding::suspect(REASON, detail, CONTROL.doc.fix));
    }
}

const UNMOUNTED: &str = "a hostPath volume that is declared but not mounted in this container is not visible";

/// What to say behind a finding that a CDI specification might have explained.
pub(super) fn skipped_cdi(facts: &Facts<'_>) -> String {
    match facts.skipped_cdi.as_slice() {
        [] => String::new(),
        [one] => format!("; a CDI specification of this node does not count: {one}"),
        [one, rest @ ..] => {
            format!("; {} CDI specifications of this node do not count, one of them: {one}", rest.len() + 1)
        }
    }
}

/// What to say of a mount or a device whose origin could not be found.
pub(super) fn unclear(volume: &Volume<'_>) -> Option<String> {
    let of_whom = "a claim of volumeMode Block or a plugin of the node may have brought it (what this node gives out is \
                   listed in [node] not-host-paths)";
    match volume {
        Volume::Device { destination: Some(at), source } => {
            let (at, source) = (short(at), short(source));
            Some(format!("the device at \"{at}\" is the host's \"{source}\": {of_whom}"))
        }
        Volume::Device { destination: None, source } => {
            let source = short(source);
            Some(format!("linux.resources.devices opens the host's \"{source}\": {of_whom}"))
        }
        Volume::Unclear { destination, why } => {
            let destination = short(destination);
            Some(format!("the mount at \"{destination}\" may be a hostPath volume: {why}"))
        }
        Volume::HostPath { .. } | Volume::Plugin { .. } => None,
    }
}

/// Volumes to report, each once: by name where it is known, else by the two ends of the mount.
#[derive(Default)]
pub(super) struct Sources<'a> {
    names: Vec<&'a str>,
    mounts: Vec<(&'a str, &'a str)>,
    known: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Sources<'a> {
    /// Adds a volume by its name.
    pub(super) fn add_name(&mut self, name: &'a str) {
        if self.known.insert(("", name)) {
            self.names.push(name);
        }
    }

    /// Adds a volume if it is a path of the host.
    pub(super) fn add_host_path(&mut self, volume: &'a Volume<'_>) {
        match volume {
            Volume::HostPath { name: Some(name), .. } => self.add_name(name),
            Volume::HostPath { destination, source, name: None } => {
                let mount = (*destination, source.as_ref());
                if self.known.insert(mount) {
                    self.mounts.push(mount);
                }
            }
            Volume::Plugin { .. } | Volume::Device { .. } | Volume::Unclear { .. } => {}
        }
    }

    pub(super) fn len(&self) -> usize {
        self.names.len() + self.mounts.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Upstream's `volume "a"` or `volumes "a", "b"`; `volume mounted at "/mnt" from the host's "/etc"` where only
    /// the mount is known.
    pub(super) fn subject(&self) -> String {
        let mut parts = Vec::new();
        if !self.names.is_empty() {
            let noun = plural("volume", "volumes", self.names.len());
            parts.push(format!("{noun} {}", quoted(&self.names)));
        }
        if !self.mounts.is_empty() {
            let noun = plural("volume", "volumes", self.mounts.len());
            let ends = |(at, from): &(&str, &str)| {
                format!("at \"{}\" from the host's \"{}\"", short(at), short(from))
            };
            parts.push(format!("{noun} mounted {}", listed(&self.mounts, ", ", ends)));
        }
        parts.join(" and ")
    }

    /// The same volumes as something that every level allows; where a name is unknown, a new one for its mount.
    pub(super) fn fix(&self, facts: &Facts<'_>) -> String {
        let new_name = |index: usize| format!("data-{}", index + 1);
        let mut lines = vec!["spec:".to_owned()];
        let mounts_shown = as_many_as_fit(self.mounts.iter().map(|(at, _)| at.len()));
        let names_shown = as_many_as_fit(self.names.iter().map(|name| name.len()));
        if !self.mounts.is_empty() {
            lines.push(format!("  containers:\n  - name: {}\n    volumeMounts:", yaml(facts.name)));
        }
        for (index, (at, _)) in self.mounts.iter().enumerate().take(mounts_shown) {
            lines.push(format!("    - name: {}\n      mountPath: {}", new_name(index), yaml(at)));
        }
        lines.push("  volumes:".to_owned());
        let named = self.names.iter().map(|name| yaml(name));
        for name in named.take(names_shown).chain((0..mounts_shown).map(new_name)) {
            lines.push(format!(
                "  - name: {name}\n    emptyDir: {{}}   # or a claim, a ConfigMap, ...; no hostPath"
            ));
        }
        let shown = mounts_shown + names_shown;
        if shown < self.len() {
            lines.push(format!("  # and {} more", self.len() - shown));
        }
        lines.join("\n")
    }
}

fn declared(pod: &Pod) -> Option<Violation> {
    let volumes = pod.spec.volumes.iter().filter(|volume| volume.has("hostPath"));
    let names: Vec<&str> = volumes.map(|volume| volume.name.as_str()).collect();
    let violation = || Violation::new(REASON).say_quoted("volume", "volumes", &names);
    (!names.is_empty()).then(|| violation().fix_volumes(&names))
}

#[cfg(test)]
mod tests {
    use super::{CONTROL, UNMOUNTED};
    use crate::Certainty::{Suspect, Unseen, Violates};
    use crate::facts::{Facts, Volume};
    use crate::testing::{compliant, declared_table, findings, pod_with, table, with};

    fn mounts(volumes: &[Volume<'static>]) -> Facts<'static> {
        with(|facts| facts.volumes = volumes.to_vec())
    }

    const fn host(
        destination: &'static str,
        source: &'static str,
        name: Option<&'static str>,
    ) -> Volume<'static> {
        Volume::HostPath { destination, source: std::borrow::Cow::Borrowed(source), name }
    }

    const UNCLEAR: Volume<'static> = Volume::Unclear { destination: "/x", why: "its mountinfo line is gone" };

    #[test]
    fn a_path_of_the_host_is_a_violation() {
        let etc = || host("/mnt", "/etc", None);
        let rows = &[
            ("no mounts", mounts(&[]), Some((Unseen, UNMOUNTED))),
            (
                "volumes of plugins",
                mounts(&[Volume::Plugin { name: "n", plugin: "nfs" }]),
                Some((Unseen, UNMOUNTED)),
            ),
            ("named", mounts(&[host("/mnt", "/etc", Some("h"))]), Some((Violates, "volume \"h\""))),
            (
                "two named, one of them mounted twice",
                mounts(&[host("/a", "/", Some("b")), host("/b", "/", Some("b")), host("/c", "/", Some("a"))]),
                Some((Violates, "volumes \"b\", \"a\"")),
            ),
            (
                "unnamed",
                mounts(&[etc()]),
                Some((Violates, "volume mounted at \"/mnt\" from the host's \"/etc\"")),
            ),
            (
                "two unnamed, one of them told twice",
                mounts(&[etc(), etc(), host("/x", "/var", None)]),
                Some((
                    Violates,
                    "volumes mounted at \"/mnt\" from the host's \"/etc\", at \"/x\" from the host's \"/var\"",
                )),
            ),
            (
                "named and unnamed",
                mounts(&[etc(), host("/a", "/", Some("h"))]),
                Some((Violates, "volume \"h\" and volume mounted at \"/mnt\" from the host's \"/etc\"")),
            ),
            (
                "unclear",
                mounts(&[UNCLEAR]),
                Some((Suspect, "the mount at \"/x\" may be a hostPath volume: its mountinfo line is gone")),
            ),
            (
                "proof outweighs what is unclear",
                mounts(&[UNCLEAR, host("/a", "/", Some("h"))]),
                Some((Violates, "volume \"h\"")),
            ),
        ];
        table(&CONTROL, 0, rows);
        table(&CONTROL, 37, rows);
    }

    #[test]
    fn the_fix_declares_a_volume_for_every_mount() {
        let facts = mounts(&[host("/a", "/", Some("h")), host("/m\n", "/etc", None)]);
        assert_eq!(
            findings(&CONTROL, 0, &facts)[0].fix,
            "spec:\n  containers:\n  - name: app\n    volumeMounts:\n    - name: data-1\n      \
             mountPath: \"/m\\U0000000a\"\n  volumes:\n  - name: h\n    emptyDir: {}   # or a claim, a ConfigMap, \
             ...; no hostPath\n  - name: data-1\n    emptyDir: {}   # or a claim, a ConfigMap, ...; no hostPath"
        );
    }

    #[test]
    fn the_fix_declares_as_many_volumes_as_somebody_reads() {
        let names: Vec<String> = (0..70).map(|number| format!("v{number}")).collect();
        let fix_of = |names: &[String]| {
            let mut facts = compliant();
            let host = |name| Volume::HostPath { destination: "/m", source: "/".into(), name: Some(name) };
            facts.volumes.extend(names.iter().map(|name| host(name.as_str())));
            findings(&CONTROL, 0, &facts).remove(0).fix
        };
        let fix = fix_of(&names);
        assert!(fix.contains("name: v63\n") && !fix.contains("name: v64\n"), "{fix}");
        assert!(fix.ends_with("\n  # and 6 more"), "{fix}");
        assert!(fix_of(&names[..64]).ends_with("no hostPath"));
    }

    #[test]
    fn a_finding_that_a_cdi_specification_might_have_explained_names_those_that_do_not_count() {
        let skipped =
            ["/etc/cdi/a.json: not root's", "/etc/cdi/b.json: not JSON", "/run/cdi/c.json: not root's"];
        for (count, said) in [
            (0, ""),
            (1, "; a CDI specification of this node does not count: /etc/cdi/a.json: not root's"),
            (3, "; 3 CDI specifications of this node do not count, one of them: /etc/cdi/a.json: not root's"),
        ] {
            for volume in [host("/mnt", "/etc", Some("h")), UNCLEAR] {
                let facts = with(|facts| {
                    facts.volumes.push(volume.clone());
                    facts.skipped_cdi = skipped[..count].iter().map(|text| (*text).to_owned()).collect();
                });
                let without = findings(&CONTROL, 0, &mounts(&[volume])).remove(0).detail;
                assert_eq!(findings(&CONTROL, 0, &facts)[0].detail, format!("{without}{said}"));
            }
        }
    }

    #[test]
    fn declared_volumes_are_named_in_order_mounted_or_not() {
        let host_path = |volumes: &[usize]| {
            pod_with(|spec| {
                for index in volumes {
                    spec.volumes[*index].sources.push("hostPath".into());
                }
            })
        };
        declared_table(
            &CONTROL,
            &[0, 37],
            &[
                ("none", host_path(&[]), None),
                ("one, whatever else it is", host_path(&[1]), Some("volume \"settings\"")),
                ("two", host_path(&[0, 2]), Some("volumes \"data\", \"tmp\"")),
            ],
        );
    }
}
