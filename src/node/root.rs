//! Says what the root directory of a command (`--root`) is: the one that this machine runs with, the same seen from a
//! container (`--root /host`), or another file system, such as an image or a captured node.
//!
//! Names decide nothing. A directory is the root of the running node if the first process of the process file system in it
//! has it as its root: one device, one directory on it. A pod with a hostPath volume of `/` sees that (the kubelet mounts it
//! with everything below it), with `hostPID` and without. An image has no process file system, and a tree that somebody
//! made ready for chroot(8) has one whose first process lives elsewhere.
//!
//! Whoever is in a container then enters the node's root by chroot(2). From there the node's files, links, processes,
//! sockets and programs are where they are for the node itself, and nothing else has to know of the container.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use serde::Serialize;

use super::live_root::{self, Place};
use crate::message::escape;

/// What a root directory is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "is", content = "path", rename_all = "lowercase")]
pub enum Root {
    /// This process' own, `/`.
    Own,
    /// The running node's, seen from a container.
    Mounted(PathBuf),
    /// Another file system. Of processes nothing is known.
    Other(PathBuf),
}

impl Root {
    /// Looks what a directory is.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        if directory == Path::new("/") {
            Self::Own
        } else if is_the_nodes(directory) {
            Self::Mounted(directory.to_owned())
        } else {
            Self::Other(directory.to_owned())
        }
    }

    /// What it is, for a line that any terminal has room for; none for this process' own.
    #[must_use]
    pub fn describe(&self) -> Option<&'static str> {
        match self {
            Self::Own => None,
            Self::Mounted(_) => Some("the running node, with its processes"),
            Self::Other(_) => Some("another file system, without processes"),
        }
    }

    /// Enters the running node's root, so that it is this process' own; nothing is entered of another. Gives the root to
    /// go on with.
    ///
    /// # Errors
    ///
    /// Only root can enter.
    pub fn enter(&self) -> io::Result<PathBuf> {
        match self {
            Self::Own => Ok("/".into()),
            Self::Other(path) => Ok(path.clone()),
            Self::Mounted(path) => {
                nix::unistd::chroot(path.as_path())?;
                std::env::set_current_dir("/")?;
                Ok("/".into())
            }
        }
    }
}

/// Everything below these belongs to an answer: the node's configuration and programs, and what is ours.
const WHOLE: [&str; 5] = ["/etc", "/usr", "/var/lib/pss-guard", "/run/pss-guard", "/var/log/pss-guard"];

/// What engines and the kernel say. Mounts below come and go with containers.
const TOPS: [&str; 14] = [
    "/proc",
    "/sys",
    "/run/systemd",
    "/run/containerd",
    "/run/crio",
    "/run/containers",
    "/run/docker",
    "/run/k3s",
    "/run/k0s",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/lib/rancher",
];

/// Where this process, which has entered the running node's root, sees another file tree than the node: a volume can hold a
/// copy of a folder, mounts that the node has no longer, or not those that it has since. `None` where all is as on the node.
#[must_use]
pub fn another_tree() -> Option<String> {
    let table = |process: &str| live_root::table(&Path::new("/proc").join(process));
    let (Ok(nodes), Ok(own)) = (table("1"), table("self")) else {
        return Some("the mounts of the node cannot be read (/proc/1/mountinfo)".to_owned());
    };
    let (nodes, own) = (live_root::mounts(&nodes), live_root::mounts(&own));
    let point = first_difference(&nodes, &own)?;
    Some(format!(
        "the volume is not the node's file tree as it is now: {} is another mount there; take the node's / with all mounts below it \
         (bind it recursively; mountPropagation: HostToContainer), and nothing in their place",
        escape(&point.to_string_lossy())
    ))
}

/// The first place, in order, that is mounted otherwise and matters.
fn first_difference<'m>(
    nodes: &'m HashMap<PathBuf, Place>,
    own: &'m HashMap<PathBuf, Place>,
) -> Option<&'m Path> {
    let differs = |point: &&PathBuf| {
        let is_whole = WHOLE.iter().any(|folder| point.starts_with(folder));
        let is_above = WHOLE.iter().chain(&TOPS).any(|folder| Path::new(folder).starts_with(point));
        // Files of processes can be hidden; what an automount of the node brought later hides none.
        let is_over_proc = point.starts_with("/proc") && !nodes.contains_key(*point);
        (is_whole || is_above || is_over_proc) && nodes.get(*point) != own.get(*point)
    };
    nodes.keys().chain(own.keys()).filter(differs).min().map(PathBuf::as_path)
}

/// Whether the first process that is seen in a root directory has it as its root.
fn is_the_nodes(directory: &Path) -> bool {
    let proc = directory.join("proc");
    // A file system of somebody's could have any files in that place.
    let is_proc = File::open(&proc)
        .is_ok_and(|folder| fstatfs(&folder).is_ok_and(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC));
    is_proc && live_root::is_root_of(directory, &proc.join("1"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{Root, first_difference, live_root};

    #[test]
    fn another_mount_where_it_matters_is_another_tree() {
        const NODE: &str = "\
1 0 8:1 / / rw - ext4 a rw
2 1 0:5 / /proc rw - proc proc rw
3 1 0:6 / /run rw - tmpfs tmpfs rw
4 3 0:7 / /run/containerd/io.containerd.runtime.v2.task/k8s.io/1/rootfs rw - overlay o rw
5 1 8:2 / /var rw - ext4 b rw
";
        let rows = [
            ("", None),
            ("9 1 8:9 / /mnt rw - ext4 x rw\n", None),
            (
                "9 1 0:7 / /run/containerd/io.containerd.runtime.v2.task/k8s.io/2/rootfs rw - overlay o rw\n",
                None,
            ),
            ("9 1 8:1 /old/etc /etc rw - ext4 a rw\n", Some("/etc")),
            (
                "9 1 8:1 /old /etc/containerd/config.toml rw - ext4 a rw\n",
                Some("/etc/containerd/config.toml"),
            ),
            (
                "9 1 8:1 /old /var/lib/pss-guard/bin/pss-guard-gate rw - ext4 a rw\n",
                Some("/var/lib/pss-guard/bin/pss-guard-gate"),
            ),
            ("9 1 8:9 / /var/lib rw - ext4 x rw\n", Some("/var/lib")),
            ("9 1 8:9 / /run/containerd rw - ext4 x rw\n", Some("/run/containerd")),
            ("9 1 0:99 / /proc rw - proc proc rw\n", Some("/proc")),
            ("9 1 0:99 / /proc/60 rw - tmpfs x rw\n", Some("/proc/60")),
        ];
        for (more, expected) in rows {
            let (nodes, own) = (live_root::mounts(NODE.as_bytes()), format!("{NODE}{more}"));
            let own = live_root::mounts(own.as_bytes());
            assert_eq!(first_difference(&nodes, &own), expected.map(Path::new), "{more}");
        }
        // And what the node has and the volume has not; but for what an automount brings.
        let (nodes, own) = (
            live_root::mounts(NODE.as_bytes()),
            live_root::mounts(NODE.split("5 1").next().unwrap().as_bytes()),
        );
        assert_eq!(first_difference(&nodes, &own), Some(Path::new("/var")));
        let nodes = format!("{NODE}9 2 0:30 / /proc/sys/fs/binfmt_misc rw - binfmt_misc b rw\n");
        let own = live_root::mounts(NODE.as_bytes());
        assert_eq!(first_difference(&live_root::mounts(nodes.as_bytes()), &own), None);
    }

    #[test]
    fn what_only_looks_like_a_node_is_another_root() {
        let dir = tempfile::tempdir().unwrap();
        let other = Root::Other(dir.path().to_owned());
        assert_eq!(Root::of(dir.path()), other);
        // Files in the place of a process file system, which say what they should.
        let place = live_root::place_of(dir.path()).unwrap();
        let (device, path) = (String::from_utf8(place.device).unwrap(), place.path.display().to_string());
        fs::create_dir_all(dir.path().join("proc/1")).unwrap();
        fs::write(dir.path().join("proc/1/mountinfo"), format!("1 0 {device} {path} / rw - x x rw\n"))
            .unwrap();
        assert!(live_root::is_root_of(dir.path(), &dir.path().join("proc/1")), "{path}");
        assert_eq!(Root::of(dir.path()), other);
        // The process file system itself, in a tree that is no process' root.
        fs::remove_dir_all(dir.path().join("proc")).unwrap();
        std::os::unix::fs::symlink("/proc", dir.path().join("proc")).unwrap();
        assert_eq!(Root::of(dir.path()), other);
        assert_eq!(Root::of(Path::new("/")), Root::Own);
        assert_eq!(other.enter().unwrap(), dir.path());
    }
}
