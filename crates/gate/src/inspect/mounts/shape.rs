//! Matches the text of a mount source: exactly what the kubelet or this engine writes, or a path of the host.
//!
//! Text alone proves nothing: [`super::ground`] looks at the directories on the way.

use crate::inspect::path::strip_dir;
use pss::facts::Engine;

/// What the kubelet makes below its root directory for one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kubelet<'p> {
    /// `pods/<uid>/volumes/<plugin>/<name>`.
    Volume { plugin: &'p str, name: &'p str },
    /// `pods/<uid>/volume-subpaths/<volume>/<container>/<index>`: a bind mount that hides what is behind it
    /// (`pkg/volume/util/subpath/subpath_linux.go`).
    SubPath { name: &'p str },
    /// The hosts file, and the termination log.
    File,
    /// One of these of a pod that may be this one: its UID is not known.
    OfSomePod,
}

/// Reads what follows the kubelet's root directory. Of everything else in a pod's directory the kubelet mounts nothing,
/// so whoever does wrote a hostPath.
pub(super) fn of_kubelet<'p>(below: &'p str, uid: Option<&str>) -> Option<Kubelet<'p>> {
    let (pod, rest) = below.strip_prefix("pods/")?.split_once('/')?;
    let shape = in_pod_directory(rest)?;
    match uid {
        Some(uid) => (pod == uid).then_some(shape),
        None => Some(Kubelet::OfSomePod),
    }
}

fn in_pod_directory(rest: &str) -> Option<Kubelet<'_>> {
    let parts: Vec<&str> = rest.split('/').collect();
    match *parts.as_slice() {
        ["etc-hosts"] => Some(Kubelet::File),
        // `pkg/kubelet/kuberuntime/kuberuntime_container.go` makeMounts names it by "%08x".
        ["containers", _, log] => is_hexadecimal(log, 8).then_some(Kubelet::File),
        // A pod gets `mount` of a CSI volume; the driver's own data lies beside it (`pkg/volume/csi/csi_mounter.go`).
        ["volumes", "kubernetes.io~csi", name, "mount"] => Some(Kubelet::Volume { plugin: "csi", name }),
        ["volumes", plugin, name] if plugin.contains('~') && plugin != "kubernetes.io~csi" => {
            Some(Kubelet::Volume { plugin: plugin.strip_prefix("kubernetes.io~").unwrap_or(plugin), name })
        }
        ["volume-subpaths", name, _, index] => {
            let is_index = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
            is_index.then_some(Kubelet::SubPath { name })
        }
        _ => None,
    }
}

/// Whose files an engine's may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids<'p> {
    /// The id of the pod's sandbox.
    pub(super) sandbox: Option<&'p str>,
    /// The container's id.
    pub(super) container: Option<&'p str>,
}

impl Ids<'_> {
    /// An id counts only if it is one that an engine makes: long and random.
    fn is_sandbox(self, part: &str) -> bool {
        self.sandbox == Some(part) && is_random(part)
    }

    fn is_container(self, part: &str) -> bool {
        self.container == Some(part) && is_random(part)
    }
}

/// What an engine makes for one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engines<'p> {
    /// A file or directory of this container or its sandbox.
    Own,
    /// An image that is mounted as a volume, or a directory in it: what follows the image's own directory.
    InImage(&'p str),
    /// A part of an OCI artifact.
    Blob,
}

/// The directory of containerd's CRI plugin below its state and its root directory (`plugins/cri/runtime/plugin.go`).
pub(super) const CRI_PLUGIN: &str = "io.containerd.grpc.v1.cri";

/// What follows [`CRI_PLUGIN`] (`internal/cri/server/helpers.go`: getSandboxRootDir, getContainerRootDir,
/// getImageVolumeHostPath).
pub(super) fn of_containerd<'p>(below: &'p str, ids: Ids<'_>) -> Option<Engines<'p>> {
    let parts: Vec<&str> = below.splitn(4, '/').collect();
    match *parts.as_slice() {
        ["sandboxes", of, "shm" | "hostname" | "hosts" | "resolv.conf"] if ids.is_sandbox(of) => {
            Some(Engines::Own)
        }
        ["containers", of, "volumes", name] if ids.is_container(of) && !name.contains('/') => {
            Some(Engines::Own)
        }
        ["image-volumes", of, _] if ids.is_sandbox(of) => Some(Engines::InImage("")),
        ["image-volumes", of, _, inside] if ids.is_sandbox(of) => Some(Engines::InImage(inside)),
        _ => None,
    }
}

/// What follows the directory of containers in containers/storage, `<driver>-containers`.
///
/// CRI-O shares a few files of the sandbox (`server/container_create.go`) and keeps whatever it makes for one container
/// in that container's directory: passwd, group, localtime, image volumes, and what `mounts.conf` names. podman does
/// the same for the containers of a pod.
pub(super) fn of_storage<'p>(below: &'p str, ids: Ids<'_>, engine: Engine) -> Option<Engines<'p>> {
    let (of, rest) = below.split_once('/')?;
    let file = strip_dir(rest, "userdata").filter(|file| !file.is_empty())?;
    let shared =
        engine == Engine::Podman || matches!(file, "resolv.conf" | "hostname" | ".containerenv" | "shm");
    (ids.is_container(of) || (shared && ids.is_sandbox(of))).then_some(Engines::Own)
}

/// What follows CRI-O's store of artifacts, an OCI layout (`internal/ociartifact/store.go`: BlobMountPaths).
pub(super) fn of_artifacts(below: &str) -> Option<Engines<'_>> {
    is_hexadecimal(strip_dir(below, "blobs/sha256")?, 64).then_some(Engines::Blob)
}

/// What follows Docker's directory of containers.
pub(super) fn of_docker<'p>(below: &'p str, ids: Ids<'_>) -> Option<Engines<'p>> {
    let (of, file) = below.split_once('/')?;
    (ids.is_container(of) && !file.is_empty()).then_some(Engines::Own)
}

/// The root file system of a container in containers/storage or Docker's: what follows the directory of the storage.
pub(super) fn is_layer(below: &str) -> bool {
    let parts: Vec<&str> = below.split('/').collect();
    let id = |id: &str| is_random(id.strip_suffix("-init").unwrap_or(id));
    match *parts.as_slice() {
        // overlay2 and fuse-overlayfs are Docker's names for it; `rootfs` is that of its image store of containerd.
        ["overlay" | "overlay2" | "fuse-overlayfs", layer, "merged"]
        | ["vfs", "dir", layer]
        | ["btrfs", "subvolumes", layer]
        | ["zfs", "graph", layer]
        | ["rootfs", _, layer] => id(layer),
        _ => false,
    }
}

/// Whether text is an id of 32 hexadecimal digits or more, as engines make them.
pub(super) fn is_random(id: &str) -> bool {
    id.len() >= 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_hexadecimal(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The directory of a named volume that podman or docker manages, below their directory of volumes, and what follows
/// it.
pub(super) fn of_volumes(below: &str) -> Option<(&str, &str)> {
    let (name, rest) = below.split_once('/')?;
    let inside = strip_dir(rest, "_data").filter(|_| !name.is_empty())?;
    let end = below.len() - if inside.is_empty() { 0 } else { inside.len() + 1 };
    Some((below.get(..end)?, inside))
}

#[cfg(test)]
mod tests {
    use super::{
        Engines, Ids, Kubelet, is_layer, is_random, of_artifacts, of_containerd, of_kubelet, of_storage,
        of_volumes,
    };
    use pss::facts::Engine;

    const A: &str = "3c2c694ac650841e0aa6ee03e962a7ca817cfcd7aee13ef10154ed229386cdb6";
    const B: &str = "acb1e50360630d8c6043f4b1aef582a651aec8263f6ba527a74aa7cbe1d607af";
    const IDS: Ids<'_> = Ids { sandbox: Some(A), container: Some(B) };

    #[test]
    fn the_kubelets_shapes_are_exact() {
        let volume = |plugin, name| Some(Kubelet::Volume { plugin, name });
        let rows = [
            ("etc-hosts", Some(Kubelet::File)),
            ("etc-hosts/x", None),
            ("containers/c/1234abcd", Some(Kubelet::File)),
            ("containers/c/1234abcd/x", None),
            ("containers/c/1234abc", None),
            ("containers/c", None),
            ("volumes/kubernetes.io~empty-dir/m", volume("empty-dir", "m")),
            ("volumes/kubernetes.io~empty-dir/m/x", None),
            ("volumes/kubernetes.io~empty-dir", None),
            ("volumes/acme~nas/v", volume("acme~nas", "v")),
            ("volumes/acme/v", None),
            ("volumes/kubernetes.io~csi/pv/mount", volume("csi", "pv")),
            ("volumes/kubernetes.io~csi/pv/mount/x", None),
            ("volumes/kubernetes.io~csi/pv", None),
            ("volumes/kubernetes.io~csi/pv/vol_data.json", None),
            ("volume-subpaths/h/c/0", Some(Kubelet::SubPath { name: "h" })),
            ("volume-subpaths/h/c/0/b", None),
            ("volume-subpaths/h/c/x", None),
            ("volume-subpaths/h/c", None),
            ("plugins/x", None),
        ];
        for (rest, expected) in rows {
            let below = format!("pods/u-1/{rest}");
            assert_eq!(of_kubelet(&below, Some("u-1")), expected, "{rest}");
            assert_eq!(of_kubelet(&below, Some("u-2")), None, "{rest}");
            assert_eq!(of_kubelet(&below, None), expected.map(|_| Kubelet::OfSomePod), "{rest}");
        }
        for below in ["pods", "pods/u-1", "plugins/u-1/etc-hosts", ""] {
            assert_eq!(of_kubelet(below, None), None, "{below}");
        }
    }

    #[test]
    fn the_engines_shapes_are_exact() {
        let rows = [
            (format!("sandboxes/{A}/shm"), Some(Engines::Own)),
            (format!("sandboxes/{A}/shm/x"), None),
            (format!("sandboxes/{A}"), None),
            (format!("sandboxes/{A}/config"), None),
            (format!("sandboxes/{B}/shm"), None),
            (format!("containers/{B}/volumes/1"), Some(Engines::Own)),
            (format!("containers/{B}/volumes/1/x"), None),
            (format!("containers/{B}/volumes"), None),
            (format!("containers/{A}/volumes/1"), None),
            (format!("image-volumes/{A}/i"), Some(Engines::InImage(""))),
            (format!("image-volumes/{A}/i/sub/path"), Some(Engines::InImage("sub/path"))),
            (format!("image-volumes/{A}"), None),
            (format!("image-volumes/{B}/i"), None),
            (format!("image-volumes/{B}/i/sub/path"), None),
        ];
        for (below, expected) in rows {
            assert_eq!(of_containerd(&below, IDS), expected, "{below}");
        }
        let none = Ids { sandbox: Some("short"), container: None };
        assert_eq!(of_containerd("sandboxes/short/shm", none), None);

        let rows = [
            (format!("{A}/userdata/resolv.conf"), Engine::CriO, true),
            (format!("{A}/userdata/config.json"), Engine::CriO, false),
            (format!("{A}/userdata"), Engine::CriO, false),
            (format!("{A}/userdata/shm/p"), Engine::CriO, false),
            (format!("{B}/userdata/run/secrets"), Engine::CriO, true),
            (format!("{B}/userdata"), Engine::Podman, false),
            (format!("{A}/userdata/shm"), Engine::Podman, true),
            (format!("{A}x/userdata/shm"), Engine::Podman, false),
        ];
        for (below, engine, expected) in rows {
            assert_eq!(of_storage(&below, IDS, engine).is_some(), expected, "{below}");
        }
        assert_eq!(of_artifacts(&format!("blobs/sha256/{A}")), Some(Engines::Blob));
        assert_eq!(of_artifacts(&format!("blobs/sha256/{A}/x")), None);
        for (id, random) in [(&A[..32], true), (A, true), (&A[..31], false), (&"x".repeat(32), false)] {
            assert_eq!(is_random(id), random, "{id}");
        }
        assert_eq!(of_artifacts("index.json"), None);
    }

    #[test]
    fn layers_and_volumes_are_told_from_what_lies_beside_them() {
        for (below, expected) in [
            (format!("overlay/{A}/merged"), true),
            (format!("overlay/{A}"), false),
            (format!("overlay/{A}/diff"), false),
            (format!("vfs/dir/{A}"), true),
            ("overlay/x/merged".to_owned(), false),
            ("overlay".to_owned(), false),
        ] {
            assert_eq!(is_layer(&below), expected, "{below}");
        }
        for (below, expected) in [
            ("v/_data", Some(("v/_data", ""))),
            ("v/_data/below/it", Some(("v/_data", "below/it"))),
            ("v/_database", None),
            ("v", None),
            ("/_data", None),
        ] {
            assert_eq!(of_volumes(below), expected, "{below}");
        }
    }
}
