//! Checks that only root can write to the directories in which kubelet and engines create what pods mount.
//!
//! A mount source is believed only below directories that root alone can write to (see `inspect::mounts`). Where one of
//! them is open to others, every pod that mounts something from there cannot be judged: the node's fault, and better
//! found before a pod meets it.

use std::path::{Path, PathBuf};

use pss_guard_core::files::{self, FileError, Links, Owners};

/// Where state and root directory of containerd usually are: its defaults, and those of k3s and rke2, k0s and MicroK8s.
const OF_CONTAINERD: [&str; 9] = [
    "/run/containerd",
    "/var/lib/containerd",
    "/run/k3s/containerd",
    "/var/lib/rancher/k3s/agent/containerd",
    "/var/lib/rancher/rke2/agent/containerd",
    "/run/k0s/containerd",
    "/var/lib/k0s/containerd",
    "/var/snap/microk8s/common/run/containerd",
    "/var/snap/microk8s/common/var/lib/containerd",
];

/// Where CRI-O's are.
const OF_CRI_O: [&str; 2] =
    ["/run/containers/storage/overlay-containers", "/var/lib/containers/storage/overlay-containers"];

/// What is wrong with the directories of this node: each that someone other than root can write to or exchange, once.
/// What is not there is no fault. `of_containerd` are further state and root directories of containerd's.
#[must_use]
pub fn faults(kubelet_root: &Path, of_containerd: &[PathBuf]) -> Vec<FileError> {
    let plugin = |directory: &Path| (directory.join("io.containerd.grpc.v1.cri"), "sandboxes");
    let usual = OF_CONTAINERD.iter().map(Path::new);
    let of_containerd = usual.chain(of_containerd.iter().map(PathBuf::as_path)).map(plugin);
    let others = OF_CRI_O.iter().map(|containers| (PathBuf::from(containers), ""));
    let all = of_containerd.chain(others).chain([(kubelet_root.to_owned(), "pods")]);
    let mut faults: Vec<FileError> = Vec::new();
    for err in all.filter_map(|(anchor, below)| look(&anchor, below).err()) {
        if !err.is_missing() && !faults.iter().any(|known| known.to_string() == err.to_string()) {
            faults.push(err);
        }
    }
    faults
}

/// Looks at every directory on the way to an anchor, at it, and at the one below it. The anchor may be a link, and what is below
/// may not: as `inspect::mounts` has it.
fn look(anchor: &Path, below: &str) -> Result<(), FileError> {
    let owners = Owners { root: 0, also: None };
    files::check_closed(&files::walk(anchor)?, Links::Refuse, owners)?;
    if below.is_empty() { Ok(()) } else { files::check_closed(&anchor.join(below), Links::Refuse, owners) }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::{faults, look};

    #[test]
    fn every_directory_on_the_way_counts_also_behind_links() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("open/data/kubelet/pods")).unwrap();
        fs::create_dir_all(at("var")).unwrap();
        symlink("../open/data", at("var/lib")).unwrap();
        let kubelet = at("var/lib/kubelet");
        // The temporary directory is sticky, which counts as closed.
        assert!(look(&kubelet, "pods").is_ok());
        assert!(look(&kubelet, "nothing").unwrap_err().is_missing());
        for open in ["open", "open/data", "open/data/kubelet", "var"] {
            fs::set_permissions(at(open), Permissions::from_mode(0o777)).unwrap();
            let said: Vec<String> = faults(&kubelet, &[]).iter().map(ToString::to_string).collect();
            assert!(
                said.iter().any(|said| said.contains(&format!("{open} must be writable by root alone"))),
                "{said:?}"
            );
            fs::set_permissions(at(open), Permissions::from_mode(0o755)).unwrap();
        }
        assert!(faults(&kubelet, &[]).is_empty(), "{:?}", faults(&kubelet, &[]));
        fs::set_permissions(kubelet.join("pods"), Permissions::from_mode(0o777)).unwrap();
        let said = look(&kubelet, "pods").unwrap_err().to_string();
        assert!(said.contains("kubelet/pods must be writable by root alone"), "{said}");
        fs::set_permissions(kubelet.join("pods"), Permissions::from_mode(0o755)).unwrap();
        // No pod's mounts would be believed behind this link.
        fs::create_dir(at("elsewhere")).unwrap();
        symlink(at("elsewhere"), kubelet.join("linked")).unwrap();
        let said = look(&kubelet, "linked").unwrap_err().to_string();
        assert!(said.contains("kubelet/linked must be a directory"), "{said}");
        // A containerd that keeps its own elsewhere.
        let moved = at("moved");
        fs::create_dir_all(moved.join("io.containerd.grpc.v1.cri/sandboxes")).unwrap();
        assert!(faults(&kubelet, std::slice::from_ref(&moved)).is_empty());
        fs::set_permissions(&moved, Permissions::from_mode(0o777)).unwrap();
        assert!(faults(&kubelet, &[moved])[0].to_string().contains("moved must be writable by root alone"));
        std::os::unix::fs::chown(at("open/data/kubelet"), Some(1000), None).unwrap();
        assert!(faults(&kubelet, &[])[0].to_string().contains("must be owned by root"));
        symlink("loop", at("loop")).unwrap();
        assert!(look(&at("loop/x"), "").is_err());
    }
}
