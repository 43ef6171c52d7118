//! Decides whether a process belongs to the node or to a container. This comes before its name, its arguments or
//! its paths are used: anyone who runs a container can call a program `containerd`, write its command line and lay
//! out its files.
//!
//! A process is the node's own if all of this holds:
//!
//! | witness                                                     | read from             | who fails it                |
//! |-------------------------------------------------------------|-----------------------|-----------------------------|
//! | its root is this program's: one device, one directory on it | `mountinfo`, line `/` | a container with an image   |
//! | it has one id: its pid namespace is that of `/proc`         | `status`, `NSpid`     | a pod in a hostPath `/`     |
//! | no shim and no monitor is above it                          | `stat`, `exe`         | the same with `hostPID`     |
//! | its control group is no pod's                               | `cgroup`              | the same without its shim   |
//!
//! Its mount namespace may be another one: systemd gives engines a private `/tmp`. A snap under strict confinement has a
//! root of its own, and is a container here. The last two rows are for pods that have the host's root and its processes.
//! These can do to the node what they like anyway; the spelling of a control group only keeps them from being taken for an
//! engine by mistake.
//!
//! All of it comes from the process file system, which waits for nobody. Neither `/proc/PID/root` nor any path of the
//! process is followed: below it may be a file system that never answers (FUSE, NFS), and an absolute link that is met
//! there leads to the host's own file.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use super::{Processes, program};
use crate::node::containers::is_monitor;

/// A directory that is somebody's root: the device of its file system, and its path on it (`proc_pid_mountinfo(5)`, the
/// third and the fourth field).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    device: String,
    path: String,
}

/// As much is read of a table of mounts. The root is the first mount of a namespace, or nearly so.
const TABLE: u64 = 1 << 20;

/// As much is read of the rest, which is a page at most.
const PAGE: u64 = 64 << 10;

/// An engine has a service manager above it, or a shell and a login. Whoever has more is nobody's engine.
const ANCESTORS: usize = 64;

/// The kubelet's control group for all pods (`pkg/kubelet/cm/node_container_manager_linux.go`,
/// `defaultNodeAllocatableCgroupName`): `kubepods`, `kubepods.slice`, and with a root of its own `root-kubepods.slice`.
const PODS: &str = "kubepods";

impl Root {
    /// The root of a process whose folder this is. `None` where its root is no mount: then it is no node's, and no container's.
    pub(super) fn of(process: &Path) -> Option<Self> {
        // What is mounted on top of a root comes later, and whoever has the lower one as his root still has it.
        let table = File::open(process.join("mountinfo")).ok()?;
        let mut lines = BufReader::new(table.take(TABLE));
        let mut line = Vec::new();
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line).ok()? == 0 {
                return None;
            }
            let text = String::from_utf8_lossy(&line);
            let mut fields = text.split(' ').skip(2);
            if let (Some(device), Some(path), Some("/")) = (fields.next(), fields.next(), fields.next()) {
                return Some(Self { device: device.to_owned(), path: path.to_owned() });
            }
        }
    }

    #[cfg(test)]
    pub(super) fn fake(path: &Path) -> Self {
        Self { device: "0:1".to_owned(), path: path.display().to_string() }
    }
}

impl Processes {
    /// Whether a process belongs to the node, and not to a container.
    #[must_use]
    pub fn is_the_nodes(&self, pid: i32) -> bool {
        let Some(process) = self.folder(pid) else { return false };
        let own = self.own_root();
        own.is_some()
            && Root::of(&process).as_ref() == own
            && has_one_id(&read(&process.join("status")))
            && !self.is_below_a_monitor(pid)
            && !is_of_a_pod(&read(&process.join("cgroup")), self.first_group())
    }

    /// What this program has as its root.
    pub(super) fn own_root(&self) -> Option<&Root> {
        self.node.get_or_init(|| Root::of(&self.proc.as_ref()?.join("self"))).as_ref()
    }

    /// The control groups of the first process. What is above them is above everything that is seen from here: a node can
    /// itself be a container of a pod (kind in a CI system).
    fn first_group(&self) -> &str {
        let first = || self.folder(1).map(|first| read(&first.join("cgroup"))).unwrap_or_default();
        self.group.get_or_init(first)
    }

    /// Whether a process came from a container: what keeps those is an ancestor of all of their processes, and also of
    /// those whose parents have ended, because it takes them in (`PR_SET_CHILD_SUBREAPER`: containerd
    /// `pkg/shim/shim_linux.go`, conmon `src/conmon.c`).
    fn is_below_a_monitor(&self, pid: i32) -> bool {
        let mut above = pid;
        for _ in 0..ANCESTORS {
            // One that has ended in this moment was no monitor: its children are somebody else's by now.
            let Some(birth) = self.birth(above) else { return false };
            above = birth.parent;
            if above <= 1 {
                return false;
            }
            let is_monitor = self
                .folder(above)
                .and_then(|above| program(&above))
                .is_some_and(|(program, _)| is_monitor(&program));
            // Anybody can call a program of his own conmon, and from there become root as he may.
            if is_monitor && self.is_roots(above) {
                return true;
            }
        }
        true
    }
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    let _ = File::open(path).and_then(|file| file.take(PAGE).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a process has one id as seen from `/proc`: in deeper pid namespaces it has more (`fs/proc/array.c`, `task_state`). Before Linux 4.1 nobody says.
fn has_one_id(status: &str) -> bool {
    // The name of a process comes before it, in which the kernel escapes the ends of lines.
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    ids.is_none_or(|ids| ids.split_ascii_whitespace().count() == 1)
}

/// Whether a control group is a pod's, of any hierarchy: below what it shares with the first process.
fn is_of_a_pod(groups: &str, first: &str) -> bool {
    groups.lines().filter_map(hierarchy).any(|(kind, path)| {
        let first = first.lines().filter_map(hierarchy).find(|(other, _)| *other == kind);
        let above = first.map(|(_, path)| path).unwrap_or_default();
        let mut above = above.split('/');
        let own = path.split('/').skip_while(|part| above.next() == Some(*part));
        own.flat_map(|part| part.split(['-', '.'])).any(|word| word == PODS)
    })
}

/// A line of `cgroup` (`cgroups(7)`): the hierarchy, and the path in it.
fn hierarchy(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(':')?;
    rest.split_once(':')
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{Processes, Root, has_one_id, is_of_a_pod};
    use crate::node::procfs::fake;

    #[test]
    fn every_witness_tells_a_container_from_the_node() {
        type Change = fn(&Path);
        let write = |proc: &Path, file: &str, text: &str| fs::write(proc.join(file), text).unwrap();
        let of_two_parents: Change = |proc| {
            fake::add(proc, Path::new("/"), 6, 5, &["/usr/bin/containerd-shim-runsc-v1"]);
            fs::write(proc.join("7/stat"), format!("7 (x) S 6 {}9 0", "0 ".repeat(17))).unwrap();
        };
        let rows: &[(&str, Change, bool)] = &[
            ("the node's", |_| {}, true),
            ("another root", |proc| fake::add(proc, Path::new("/image"), 7, 5, &["/x"]), false),
            (
                "no root",
                |proc| fs::write(proc.join("7/mountinfo"), "2 1 0:1 / /proc rw - x x rw\n").unwrap(),
                false,
            ),
            ("nobody", |proc| fs::remove_dir_all(proc.join("7")).unwrap(), false),
            (
                "a pid namespace",
                |proc| fs::write(proc.join("7/status"), "Name:\tx\nNSpid:\t7\t1\n").unwrap(),
                false,
            ),
            ("its own", |proc| fs::write(proc.join("7/status"), "Name:\tx\nNSpid:\t7\n").unwrap(), true),
            ("below a shim", of_two_parents, false),
            (
                "in a pod's group",
                |proc| fs::write(proc.join("7/cgroup"), "0::/kubepods.slice/x\n").unwrap(),
                false,
            ),
        ];
        for (what, change, expected) in rows {
            let dir = tempfile::tempdir().unwrap();
            fake::add(dir.path(), Path::new("/"), 7, 5, &["/x"]);
            write(dir.path(), "7/cgroup", "0::/system.slice/containerd.service\n");
            change(dir.path());
            assert_eq!(Processes::in_folder(dir.path(), Path::new("/")).is_the_nodes(7), *expected, "{what}");
        }
    }

    #[test]
    fn this_program_is_the_nodes_where_it_runs() {
        let own = i32::try_from(std::process::id()).unwrap();
        let processes = Processes::of(Path::new("/"));
        // Not in a container job of a CI system that is seen from its host.
        assert!(processes.is_the_nodes(own) && Root::of(Path::new("/proc/self")).is_some());
    }

    #[test]
    fn a_pods_group_is_one_below_what_is_above_all() {
        for (groups, first, expected) in [
            ("0::/system.slice/containerd.service", "0::/init.scope", false),
            ("0::/kubepods.slice/kubepods-burstable.slice/x.scope", "0::/init.scope", true),
            ("0::/kubepods/burstable/podx/y", "0::/", true),
            ("0::/k8s.slice/k8s-kubepods.slice/x", "0::/init.scope", true),
            ("4:memory:/\n3:cpu,cpuacct:/kubepods/x\n0::/", "4:memory:/\n3:cpu,cpuacct:/\n0::/", true),
            // kind, on a machine that is a pod itself.
            (
                "0::/kubepods/podx/docker/y/system.slice/containerd.service",
                "0::/kubepods/podx/docker/y/init.scope",
                false,
            ),
            (
                "0::/kubepods/podx/docker/y/kubelet.slice/kubelet-kubepods.slice/z",
                "0::/kubepods/podx/docker/y/init.scope",
                true,
            ),
            ("0::/kubepodsish.slice/x", "0::/", false),
            ("", "", false),
        ] {
            assert_eq!(is_of_a_pod(groups, first), expected, "{groups} beside {first}");
        }
    }

    #[test]
    fn a_name_cannot_hide_a_second_id() {
        assert!(has_one_id("Name:\tNSpid:\\n\nNSpid:\t7\n") && has_one_id("Name:\tx\n"));
        assert!(!has_one_id("Name:\tx\nNSpid:\t7\t1\nNSsid:\t7\n"));
    }
}
