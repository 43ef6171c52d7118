//! The line of a manifest that a finding is about.

use super::node::Node;
use crate::pss::pod::Kind;

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

/// The line of what a finding is about: the field, or as much of the way to it as is there. `place`: the container, or
/// the pod.
#[must_use]
pub(super) fn of(pod: &Node, control: &str, place: Option<(Kind, usize)>) -> usize {
    let Some(spec) = pod.get("spec") else { return pod.at.line };
    let mut node = match place {
        None => spec,
        Some((kind, index)) => {
            let list = spec.get(kind.field()).and_then(Node::items).unwrap_or_default();
            list.get(index).unwrap_or(spec)
        }
    };
    let host = ["hostNetwork", "hostPID", "hostIPC"].iter().find_map(|field| spec.get(field));
    if let (None, "hostNamespaces", Some(field)) = (place, control, host) {
        node = field;
    }
    for field in fields(control) {
        let Some(next) = node.get(field) else { break };
        node = next;
    }
    node.at.line
}
