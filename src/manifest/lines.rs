//! The line of a manifest that a finding is about.

use crate::documents::node::{Node, Value};
use crate::pss::pod::{APPARMOR_ANNOTATION, Kind, SECCOMP_ANNOTATION, SECCOMP_POD_ANNOTATION};

/// Where a control reads, below a container or below the pod's `spec`.
fn fields(control: &str) -> &'static [&'static str] {
    match control {
        "allowPrivilegeEscalation" => &["securityContext", "allowPrivilegeEscalation"],
        "appArmorProfile" => &["securityContext", "appArmorProfile"],
        "capabilities_baseline" | "capabilities_restricted" => &["securityContext", "capabilities"],
        "hostPorts" => &["ports"],
        "privileged" => &["securityContext", "privileged"],
        "procMount" | "procMount_restricted" => &["securityContext", "procMount"],
        "readOnlyRootFilesystem" => &["securityContext", "readOnlyRootFilesystem"],
        "hostPathVolumes" | "restrictedVolumes" => &["volumes"],
        "runAsNonRoot" => &["securityContext", "runAsNonRoot"],
        "runAsUser" => &["securityContext", "runAsUser"],
        "seLinuxOptions" => &["securityContext", "seLinuxOptions"],
        "seccompProfile_baseline" | "seccompProfile_restricted" => &["securityContext", "seccompProfile"],
        "sysctls" => &["securityContext", "sysctls"],
        "windowsHostProcess" => &["securityContext", "windowsOptions"],
        _ => &[],
    }
}

/// The annotations that a control reads beside its field begin with one of these.
fn annotations(control: &str) -> &'static [&'static str] {
    match control {
        "appArmorProfile" => &[APPARMOR_ANNOTATION],
        "seccompProfile_baseline" | "seccompProfile_restricted" => {
            &[SECCOMP_POD_ANNOTATION, SECCOMP_ANNOTATION]
        }
        _ => &[],
    }
}

/// The line of what a finding is about: the field, else an annotation that the control reads, else as much of the way to
/// the field as is there. `place`: the container, or the pod.
#[must_use]
pub(super) fn of(pod: &Node, control: &str, place: Option<(Kind, usize)>) -> usize {
    let Some(spec) = pod.get("spec") else { return pod.at.line };
    let container = |(kind, index): (Kind, usize)| spec.get(kind.field())?.items()?.get(index);
    let mut node = place.and_then(container).unwrap_or(spec);
    if control == "hostNamespaces" {
        let is_set = |node: &&Node| node.value == Value::Bool(true);
        let host =
            ["hostNetwork", "hostPID", "hostIPC"].iter().filter_map(|field| spec.get(field)).find(is_set);
        return host.unwrap_or(node).at.line;
    }
    for field in fields(control) {
        let Some(next) = node.get(field) else {
            return annotation(pod, annotations(control)).unwrap_or(node).at.line;
        };
        node = next;
    }
    node.at.line
}

/// The first annotation whose key begins with one of these.
fn annotation<'n>(pod: &'n Node, prefixes: &[&str]) -> Option<&'n Node> {
    let Value::Map(entries) = &pod.at_path(&["metadata", "annotations"])?.value else { return None };
    let is_one = |key: &str| prefixes.iter().any(|prefix| key.starts_with(prefix));
    entries.iter().find(|(key, _)| is_one(key)).map(|(_, node)| node)
}
