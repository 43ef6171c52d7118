//! Volume types (restricted): only types that cannot reach the host or a network file system directly.
//!
//! Upstream: `policy/check_restrictedVolumes.go`. Evidence: mount sources, and the plugin in the kubelet's path.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::host_path_volumes::{Sources, skipped_cdi, unclear};
use super::{listed, plural, quoted};
use crate::declared::{Violation, sort};
use crate::facts::{Facts, Volume as Mounted};
use crate::pod::{Pod, Volume};
use crate::{Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 16,
    id: "restrictedVolumes",
    level: Level::Restricted,
    origin: Origin::Upstream,
    scope: Scope::Container,
    sees: Visibility::OneSided,
    overrides: &["hostPathVolumes"],
    observed: &[(0, check)],
    declared: &[(0, declared)],
    doc: Doc {
        rule: "Only volume types that give no direct way to the host or to a network file system.",
        fields: "spec.volumes[*]",
        allowed: "configMap, csi, downwardAPI, emptyDir, ephemeral, image, persistentVolumeClaim, projected, secret",
        evidence: "A path of the host as for hostPathVolumes; for the others the plugin's name in the kubelet's path \
                   (`volumes/kubernetes.io~nfs/...`). A git-repo volume can only be declared inline, so it is proof.",
        blind: "A volume that this container does not mount. An inline nfs, iscsi, fc or flexVolume looks like a claim \
                bound to such a persistent volume, which is allowed: it is suspect. Types that were moved to CSI \
                drivers look like csi.",
        fix: "spec:\n  volumes:\n  - name: data\n    emptyDir: {}   # or a claim, a ConfigMap, ...; no hostPath",
    },
};

const REASON: &str = "restricted volume types";

fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    let (mut forbidden, mut doubtful) = (Found::default(), Found::default());
    for volume in &facts.volumes {
        match volume {
            Mounted::HostPath { .. } => {
                forbidden.sources.add_host_path(volume);
                forbidden.types.push("hostPath");
            }
            Mounted::Plugin { name, plugin } => match kind(plugin) {
                Kind::Allowed => {}
                Kind::InlineOnly(kind) => forbidden.add(name, kind),
                Kind::InlineOrClaimed(kind) => doubtful.add(name, kind),
            },
            Mounted::Device { .. } | Mounted::Unclear { .. } => {}
        }
    }
    if !forbidden.sources.is_empty() {
        let verb = plural("uses", "use", forbidden.sources.len());
        let detail = format!("{}{}", forbidden.detail(verb), skipped_cdi(facts));
        return out.push(Finding::violates(REASON, detail, forbidden.sources.fix(facts)));
    }
    let mut details = Vec::new();
    if !doubtful.sources.is_empty() {
        let or_claimed = "unless by way of a claim, which is allowed and looks the same";
        details.push(format!("{}, {or_claimed}", doubtful.detail("may use")));
    }
    details.extend(facts.volumes.iter().filter_map(unclear));
    if details.is_empty() {
        out.push(Finding::unseen(REASON, UNMOUNTED));
    } else {
        let detail = format!("{}{}", listed(&details, "; ", Clone::clone), skipped_cdi(facts));
        out.push(Finding::suspect(REASON, detail, CONTROL.doc.fix));
    }
}

const UNMOUNTED: &str = "a volume that is declared but not mounted in this container is not visible";

/// Volumes and their types.
#[derive(Default)]
struct Found<'a> {
    sources: Sources<'a>,
    types: Vec<&'static str>,
}

impl<'a> Found<'a> {
    fn add(&mut self, name: &'a str, kind: &'static str) {
        self.sources.add_name(name);
        self.types.push(kind);
    }

    /// Upstream's sentence: the volumes in order, the types as a sorted set.
    fn detail(&self, verb: &str) -> String {
        let mut types = self.types.clone();
        types.sort_unstable();
        types.dedup();
        let noun = plural("type", "types", types.len());
        format!("{} {verb} restricted volume {noun} {}", self.sources.subject(), quoted(&types))
    }
}

/// What a plugin's directory says of the volume; with the type's name in the API.
enum Kind {
    Allowed,
    InlineOnly(&'static str),
    InlineOrClaimed(&'static str),
}

/// The plugins of the kubelet (`pkg/volume/*`), also those that newer ones have lost.
fn kind(plugin: &str) -> Kind {
    match plugin {
        // A local-volume can only be claimed.
        "configmap" | "csi" | "downward-api" | "empty-dir" | "ephemeral" | "image" | "local-volume"
        | "projected" | "secret" => Kind::Allowed,
        "git-repo" => Kind::InlineOnly("gitRepo"),
        "aws-ebs" => Kind::InlineOrClaimed("awsElasticBlockStore"),
        "azure-disk" => Kind::InlineOrClaimed("azureDisk"),
        "azure-file" => Kind::InlineOrClaimed("azureFile"),
        "cephfs" => Kind::InlineOrClaimed("cephfs"),
        "cinder" => Kind::InlineOrClaimed("cinder"),
        "fc" => Kind::InlineOrClaimed("fc"),
        "flocker" => Kind::InlineOrClaimed("flocker"),
        "gce-pd" => Kind::InlineOrClaimed("gcePersistentDisk"),
        "glusterfs" => Kind::InlineOrClaimed("glusterfs"),
        "iscsi" => Kind::InlineOrClaimed("iscsi"),
        "nfs" => Kind::InlineOrClaimed("nfs"),
        "photon-pd" => Kind::InlineOrClaimed("photonPersistentDisk"),
        "portworx-volume" => Kind::InlineOrClaimed("portworxVolume"),
        "quobyte" => Kind::InlineOrClaimed("quobyte"),
        "rbd" => Kind::InlineOrClaimed("rbd"),
        "scaleio" => Kind::InlineOrClaimed("scaleIO"),
        "storageos" => Kind::InlineOrClaimed("storageos"),
        "vsphere-volume" => Kind::InlineOrClaimed("vsphereVolume"),
        _ if plugin.contains('~') => Kind::InlineOrClaimed("flexVolume"),
        _ => Kind::InlineOrClaimed("unknown"),
    }
}

fn declared(pod: &Pod) -> Option<Violation> {
    let forbidden = |volume: &&Volume| !ALLOWED.iter().any(|source| volume.has(source));
    let volumes: Vec<&Volume> = pod.spec.volumes.iter().filter(forbidden).collect();
    if volumes.is_empty() {
        return None;
    }
    let names: Vec<&str> = volumes.iter().map(|volume| volume.name.as_str()).collect();
    let source = |volume: &&Volume| NAMED.iter().find(|source| volume.has(source)).unwrap_or(&"unknown");
    let mut types: Vec<&str> = volumes.iter().map(|volume| *source(volume)).collect();
    sort(&mut types);
    let violation = Violation::new(REASON).say_quoted("volume", "volumes", &names);
    let violation = violation.say(plural(" uses ", " use ", names.len()));
    let violation = violation.say_quoted("restricted volume type", "restricted volume types", &types);
    Some(violation.fix_volumes(&names))
}

/// A volume is allowed that has one of these, whatever else it has.
const ALLOWED: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// The sources that upstream names, in the order in which it looks for them.
const NAMED: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

#[cfg(test)]
mod tests {
    use super::{CONTROL, UNMOUNTED};
    use crate::Certainty::{Suspect, Unseen, Violates};
    use crate::facts::{Facts, Volume};
    use crate::testing::{findings, table, with};

    fn mounts(volumes: &[Volume<'static>]) -> Facts<'static> {
        with(|facts| facts.volumes = volumes.to_vec())
    }

    const fn plugin(name: &'static str, plugin: &'static str) -> Volume<'static> {
        Volume::Plugin { name, plugin }
    }

    const fn host(destination: &'static str, name: Option<&'static str>) -> Volume<'static> {
        Volume::HostPath { destination, source: std::borrow::Cow::Borrowed("/etc"), name }
    }

    const UNCLEAR: Volume<'static> = Volume::Unclear { destination: "/x", why: "its mountinfo line is gone" };

    #[test]
    fn what_can_only_be_inline_is_proof() {
        let rows = &[
            (
                "a named host path",
                mounts(&[host("/mnt", Some("h"))]),
                Some((Violates, "volume \"h\" uses restricted volume type \"hostPath\"")),
            ),
            (
                "an unnamed host path",
                mounts(&[host("/mnt", None)]),
                Some((
                    Violates,
                    "volume mounted at \"/mnt\" from the host's \"/etc\" uses restricted volume type \"hostPath\"",
                )),
            ),
            (
                "two of one type",
                mounts(&[host("/a", Some("h")), host("/b", Some("g"))]),
                Some((Violates, "volumes \"h\", \"g\" use restricted volume type \"hostPath\"")),
            ),
            (
                "a clone of a repository",
                mounts(&[plugin("g", "git-repo")]),
                Some((Violates, "volume \"g\" uses restricted volume type \"gitRepo\"")),
            ),
            (
                "two types, sorted; what is only doubtful is left out",
                mounts(&[host("/a", Some("h")), plugin("n", "nfs"), plugin("g", "git-repo"), UNCLEAR]),
                Some((
                    Violates,
                    "volumes \"h\", \"g\" use restricted volume types \"gitRepo\", \"hostPath\"",
                )),
            ),
            (
                "named and unnamed",
                mounts(&[host("/a", Some("h")), host("/mnt", None)]),
                Some((
                    Violates,
                    "volume \"h\" and volume mounted at \"/mnt\" from the host's \"/etc\" use restricted volume type \
                     \"hostPath\"",
                )),
            ),
        ];
        table(&CONTROL, 0, rows);
        table(&CONTROL, 37, rows);
    }

    #[test]
    fn what_a_claim_could_have_brought_is_a_suspicion() {
        let rows = &[
            (
                "one",
                mounts(&[plugin("n", "nfs")]),
                Some((
                    Suspect,
                    "volume \"n\" may use restricted volume type \"nfs\", unless by way of a claim, which is allowed \
                     and looks the same",
                )),
            ),
            (
                "several, and an unclear mount",
                mounts(&[plugin("n", "nfs"), UNCLEAR, plugin("v", "acme~disk")]),
                Some((
                    Suspect,
                    "volumes \"n\", \"v\" may use restricted volume types \"flexVolume\", \"nfs\", unless by way of a \
                     claim, which is allowed and looks the same; the mount at \"/x\" may be a hostPath volume: its \
                     mountinfo line is gone",
                )),
            ),
            (
                "an unclear mount",
                mounts(&[UNCLEAR]),
                Some((Suspect, "the mount at \"/x\" may be a hostPath volume: its mountinfo line is gone")),
            ),
        ];
        table(&CONTROL, 0, rows);
        table(&CONTROL, 37, rows);
    }

    #[test]
    fn every_plugin_of_the_kubelet_has_its_type() {
        let allowed = [
            "configmap",
            "csi",
            "downward-api",
            "empty-dir",
            "ephemeral",
            "image",
            "local-volume",
            "projected",
            "secret",
        ];
        for name in allowed {
            table(&CONTROL, 0, &[(name, mounts(&[plugin("v", name)]), Some((Unseen, UNMOUNTED)))]);
        }
        table(&CONTROL, 0, &[("none", mounts(&[]), Some((Unseen, UNMOUNTED)))]);
        for (name, kind) in [
            ("aws-ebs", "awsElasticBlockStore"),
            ("azure-disk", "azureDisk"),
            ("azure-file", "azureFile"),
            ("cephfs", "cephfs"),
            ("cinder", "cinder"),
            ("fc", "fc"),
            ("flocker", "flocker"),
            ("gce-pd", "gcePersistentDisk"),
            ("glusterfs", "glusterfs"),
            ("iscsi", "iscsi"),
            ("nfs", "nfs"),
            ("photon-pd", "photonPersistentDisk"),
            ("portworx-volume", "portworxVolume"),
            ("quobyte", "quobyte"),
            ("rbd", "rbd"),
            ("scaleio", "scaleIO"),
            ("storageos", "storageos"),
            ("vsphere-volume", "vsphereVolume"),
            ("acme~disk", "flexVolume"),
            ("from-the-future", "unknown"),
            ("", "unknown"),
        ] {
            let found = findings(&CONTROL, 0, &mounts(&[plugin("v", name)]));
            let head = format!("volume \"v\" may use restricted volume type \"{kind}\", ");
            assert_eq!(found.len(), 1, "{name}");
            assert_eq!(found[0].certainty, Suspect, "{name}");
            assert!(found[0].detail.starts_with(&head), "{name}: {}", found[0].detail);
        }
    }
}
