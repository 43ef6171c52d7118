//! Finds annotations, hooks and rules in the spec that no field of a pod asks for. An engine's configuration, a plugin (NRI, CDI), `ctr` or root put
//! it there, or an annotation told the runtime to do it. The CRI has no field for any of it.

use super::Sources;
use super::cdi::Cdi;
use super::hooks;
use super::spec::{Annotations, Linux, Mount, Spec, Text};
use pss::facts::Addition;

/// Everything of this kind.
pub(super) fn of<'a>(sources: &Sources<'a>, linux: &'a Linux<'a>, cdi: &Cdi) -> Vec<Addition<'a>> {
    let Sources { spec, sandbox, identity, host, .. } = *sources;
    let mut found: Vec<Addition<'a>> = Vec::new();
    // Engines give the annotations of a pod to its sandbox as well, and the runtime has acted on them there.
    let mut orders: Vec<&str> = [Some(spec), sandbox]
        .into_iter()
        .flatten()
        .filter_map(|spec| spec.annotations.as_ref())
        .flat_map(Annotations::orders)
        .collect();
    orders.sort_unstable();
    orders.dedup();
    found.extend(orders.into_iter().map(Addition::Order));
    let strange = hooks::unexplained(spec.hooks.as_ref(), identity.engine, host, cdi);
    found.extend(strange.into_iter().map(|(stage, path)| Addition::Hook { stage, path }));
    // For `mountPropagation: Bidirectional`, which the API allows to privileged containers alone (Kubernetes
    // `pkg/apis/core/validation` validateMountPropagation; containerd `internal/cri/opts/spec_linux_opts.go`, CRI-O
    // `server/container_create_linux.go`).
    let propagation = linux.rootfs_propagation.as_ref().map(Text::as_str);
    found.extend(propagation.filter(|way| matches!(*way, "shared" | "rshared")).map(Addition::Propagation));
    found.extend(spec.mounts.as_deref().unwrap_or_default().iter().filter_map(kernel_interface));
    let moved = linux.net_devices.iter().flat_map(|devices| &devices.0).map(Text::as_str);
    found.extend(moved.filter(|name| !cdi.has_net_device(name)).map(Addition::NetworkDevice));
    found.extend(foreign(spec));
    found
}

/// Control groups or devices of the kernel that can be written. Engines mount both read-only, but for a privileged
/// container; and cgroups also where the entry point is systemd (CRI-O, podman) or `cgroup_writable` says so (containerd
/// since 2.1).
fn kernel_interface<'a>(mount: &'a Mount<'_>) -> Option<Addition<'a>> {
    let kind = mount.kind();
    let found = matches!(kind, "cgroup" | "cgroup2" | "sysfs") && !mount.is_bind() && !mount.is_read_only();
    found.then(|| Addition::Writable { kind, destination: mount.destination() })
}

/// Sections of a spec that say nothing of a Linux container.
fn foreign<'a>(spec: &Spec<'_>) -> impl Iterator<Item = Addition<'a>> {
    let sections = [
        ("vm", spec.vm.is_some()),
        ("windows", spec.windows.is_some()),
        ("solaris", spec.solaris.is_some()),
        ("zos", spec.zos.is_some()),
        ("freebsd", spec.freebsd.is_some()),
    ];
    sections.into_iter().filter(|(_, there)| *there).map(|(name, _)| Addition::Section(name))
}
