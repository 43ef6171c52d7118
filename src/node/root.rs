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

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use serde::Serialize;

use super::live_root;

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

    use super::{Root, live_root};

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
