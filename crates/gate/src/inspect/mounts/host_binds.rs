//! What engines bind from the host themselves, because of what else a container asks for.
//!
//! CRI-O's own binds have no `rbind`, which every mount of the kubelet's has: the same two ends with it are a hostPath.

use super::{Lookup, Pod};
use crate::inspect::spec::Mount;
use pss::facts::Engine;

/// Where engines mount systemd's cgroups, on cgroup v1, for a container that runs it (CRI-O
/// `server/container_create_linux.go` setupSystemd, podman `libpod/container_internal_linux.go` setupSystemd).
const SYSTEMD_CGROUP: &str = "/sys/fs/cgroup/systemd";

/// Whether a bind mount of the host is the engine's own.
pub(super) fn is_engines(mount: &Mount<'_>, pod: &Pod<'_>, node: &Lookup<'_>) -> bool {
    let unmanaged = matches!(pod.engine, Engine::Podman | Engine::Docker);
    let asked = mount.has("rbind");
    let read_only = mount.has("ro") || mount.has("rro");
    match (mount.source(), mount.destination()) {
        // containerd `container_create.go` and CRI-O `container_create.go`: hostIPC shares the host's /dev/shm.
        ("/dev/shm", "/dev/shm") => pod.joins.ipc && !(asked && pod.engine == Engine::CriO),
        ("/dev/mqueue", "/dev/mqueue") => pod.joins.ipc && unmanaged,
        // hostNetwork in a user namespace: sysfs cannot be mounted there, so both engines bind the host's read-only
        // (containerd `container_create.go`, CRI-O addSysfsMounts).
        ("/sys", "/sys") => pod.joins.network && (unmanaged || (pod.user_namespace && read_only)),
        ("/proc", "/proc") => pod.joins.pid && unmanaged,
        // CRI-O without the kubelet (`crictl`), hostNetwork.
        ("/etc/hosts", "/etc/hosts") => pod.joins.network && pod.engine == Engine::CriO && !asked,
        (SYSTEMD_CGROUP, SYSTEMD_CGROUP) => match pod.engine {
            Engine::CriO => !asked,
            // To what its users ask for podman adds `rw` where they do not say `ro`.
            Engine::Podman => !asked && !mount.has("rw"),
            _ => false,
        },
        // `--init` of podman and docker.
        (init, "/run/podman-init" | "/dev/init") => {
            pod.engine == Engine::Podman && mount.has("ro") && is_init(init, node)
        }
        (init, "/sbin/docker-init") => pod.engine == Engine::Docker && mount.has("ro") && is_init(init, node),
        _ => false,
    }
}

/// One of the programs that `--init` puts first. The destination alone could be anybody's.
fn is_init(path: &str, node: &Lookup<'_>) -> bool {
    let real = node.host.resolve(path).unwrap_or_else(|| path.to_owned());
    let name = real.rsplit('/').next().unwrap_or_default();
    matches!(name, "catatonit" | "podman-init" | "docker-init" | "tini" | "tini-static" | "dumb-init")
}
