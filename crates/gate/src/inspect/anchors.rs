//! Checks that only root can write to the directories in which kubelet and engines create what pods mount.
//!
//! A mount source is believed only below directories that root alone can write to (see `inspect::mounts`). Where one of
//! them is open to others, every pod that mounts something from there cannot be judged: the node's fault, and better
//! found before a pod meets it.

use std::path::{Path, PathBuf};

use pss_guard_core::files::{self, FileError, Links, Owners};

/// The directories of engines where they usually are: containerd's, also that of k3s and RKE2, and those of CRI-O.
const OF_ENGINES: [&str; 6] = [
    "/run/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/run/k3s/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/var/lib/rancher/k3s/agent/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/run/containers/storage/overlay-containers",
    "/var/lib/containers/storage/overlay-containers",
];

/// What is wrong with the directories of this node: each that someone other than root can write to or exchange, once.
/// What is not there is no fault.
#[must_use]
pub fn faults(kubelet_root: &Path) -> Vec<FileError> {
    let pods = kubelet_root.join("pods");
    let all = OF_ENGINES.iter().map(PathBuf::from).chain([pods]);
    let mut faults: Vec<FileError> = Vec::new();
    for err in all.filter_map(|anchor| look(&anchor).err()) {
        if !err.is_missing() && !faults.iter().any(|known| known.to_string() == err.to_string()) {
            faults.push(err);
        }
    }
    faults
}

/// Looks at every directory on the way to one, and at it.
fn look(anchor: &Path) -> Result<(), FileError> {
    let owners = Owners { root: 0, also: None };
    files::check_closed(&files::walk(anchor)?, Links::Refuse, owners)
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
        assert!(look(&kubelet.join("pods")).is_ok());
        assert!(look(&kubelet.join("nothing")).unwrap_err().is_missing());
        for open in ["open", "open/data", "open/data/kubelet/pods", "var"] {
            fs::set_permissions(at(open), Permissions::from_mode(0o777)).unwrap();
            let said: Vec<String> = faults(&kubelet).iter().map(ToString::to_string).collect();
            assert!(
                said.iter().any(|said| said.contains(&format!("{open} must be writable by root alone"))),
                "{said:?}"
            );
            fs::set_permissions(at(open), Permissions::from_mode(0o755)).unwrap();
        }
        assert!(faults(&kubelet).is_empty(), "{:?}", faults(&kubelet));
        std::os::unix::fs::chown(at("open/data/kubelet"), Some(1000), None).unwrap();
        assert!(faults(&kubelet)[0].to_string().contains("must be owned by root"));
        symlink("loop", at("loop")).unwrap();
        assert!(look(&at("loop/x")).is_err());
    }
}
