//! Finds where this node's containerd and kubelet keep things: by what runs, else by the distribution.

use std::path::{Path, PathBuf};

use crate::node::distribution::{Distribution, PLAIN};
use crate::node::procfs::{Process, Processes};

/// The kubelet of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubelet {
    /// Its root directory, an absolute path without a slash at its end.
    pub root: String,
    /// The process that said so; none where it is the distribution's.
    pub process: Option<i32>,
}

/// The kubelet's root directory; `None` where nothing runs that says it, and the distribution is no special one.
///
/// It is on the command line only, `--root-dir`: the kubelet's configuration file has no such key. k3s runs the kubelet in
/// its own process and hands `--kubelet-arg` on (`pkg/daemons/agent/agent.go`); rke2 and k0s start a program.
#[must_use]
pub fn kubelet(processes: &Processes, distribution: &Distribution) -> Option<Kubelet> {
    let found = |process: &Process, root: String| {
        let root = root.trim_end_matches('/').to_owned();
        root.starts_with('/').then_some(Kubelet { root, process: Some(process.pid) })
    };
    if let Some(process) = processes.running(&["kubelet"]).first() {
        let root = process.option(&["--root-dir", "-root-dir"]);
        return found(process, root.unwrap_or_else(|| PLAIN.kubelet.clone().into_owned()));
    }
    let of_k3s = processes.running(&["k3s"]).into_iter().find_map(|process| {
        let arguments = process.arguments.iter().map(|argument| argument.to_string_lossy());
        let mut told = arguments.filter_map(|argument| {
            let argument = argument.strip_prefix("--kubelet-arg=").unwrap_or(&argument);
            Some(argument.strip_prefix("root-dir=")?.to_owned())
        });
        let root = told.next_back()?;
        found(&process, root)
    });
    let of_distribution = || {
        let root = distribution.kubelet.clone().into_owned();
        (*distribution != PLAIN).then_some(Kubelet { root, process: None })
    };
    of_k3s.or_else(of_distribution)
}

/// The state and root directories of containerd: those of the distribution, and what root's containerds on the node itself
/// were started with.
#[must_use]
pub fn of_containerd(processes: &Processes, distribution: &Distribution) -> Vec<PathBuf> {
    let named = processes.running(&["containerd"]);
    let named = named
        .iter()
        .flat_map(|process| [["--state", "-state"], ["--root", "-root"]].map(|names| process.option(&names)));
    let own = [&distribution.state, &distribution.root].map(|path| path.clone().into_owned());
    let mut all: Vec<PathBuf> =
        own.into_iter().chain(named.flatten()).map(PathBuf::from).filter(|path| path.is_absolute()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The distribution's own client of the CRI, if it brings one: k3s and rke2 have `crictl` beside containerd.
#[must_use]
pub fn crictl(is_program: impl Fn(&Path) -> bool, distribution: &Distribution) -> Option<PathBuf> {
    let folders = distribution.programs.iter().map(|folder| Path::new(folder.as_ref()).join("crictl"));
    folders.into_iter().find(|path| is_program(path))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::path::Path;

    use super::{Kubelet, crictl, kubelet, of_containerd};
    use crate::node::distribution::{Distribution, PLAIN};
    use crate::node::procfs::{Processes, fake};

    fn k0s() -> Distribution {
        Distribution {
            name: "k0s",
            programs: vec!["/var/lib/k0s/bin".into()],
            state: Cow::Borrowed("/run/k0s/containerd"),
            root: Cow::Borrowed("/var/lib/k0s/containerd"),
            kubelet: Cow::Borrowed("/var/lib/k0s/kubelet"),
            ..PLAIN.clone()
        }
    }

    #[test]
    fn what_runs_tells_the_kubelets_root_before_the_distribution() {
        type Row<'a> = (&'a [&'a [&'a str]], Option<(&'a str, bool)>, Option<(&'a str, bool)>);
        let (of_k0s, default) = (Some(("/var/lib/k0s/kubelet", false)), Some(("/var/lib/kubelet", true)));
        let rows: &[Row<'_>] = &[
            // (what runs, on a plain node, on k0s)
            (&[], None, of_k0s),
            (&[&["/usr/bin/kubelet"]], default, default),
            (
                &[&["/usr/bin/kubelet", "--root-dir=/data/k/"]],
                Some(("/data/k", true)),
                Some(("/data/k", true)),
            ),
            (&[&["/usr/bin/kubelet", "--root-dir", "k"]], None, None),
            (&[&["/data/bin/k3s", "agent"]], None, of_k0s),
            (
                &[&["/data/bin/k3s", "server", "--kubelet-arg=v=4", "--kubelet-arg=root-dir=/k"]],
                Some(("/k", true)),
                Some(("/k", true)),
            ),
            (
                &[&["/data/bin/k3s", "server", "--kubelet-arg", "root-dir=/k", "--kubelet-arg", "v=4"]],
                Some(("/k", true)),
                Some(("/k", true)),
            ),
        ];
        for (lines, plain, of_distribution) in rows {
            let directory = tempfile::tempdir().unwrap();
            for (pid, line) in (7..).zip(*lines) {
                fake::add(directory.path(), Path::new("/"), pid, 5, line);
            }
            let all = Processes::in_folder(directory.path(), Path::new("/"));
            for (distribution, expected) in [(&PLAIN, plain), (&k0s(), of_distribution)] {
                let expected = expected
                    .map(|(root, runs)| Kubelet { root: root.to_owned(), process: runs.then_some(7) });
                assert_eq!(kubelet(&all, distribution), expected, "{lines:?} on {}", distribution.name);
            }
        }
        // A kubelet in a container, vcluster's for one, is not the node's.
        let directory = tempfile::tempdir().unwrap();
        fake::add(directory.path(), Path::new("/image"), 7, 5, &["/usr/bin/kubelet", "--root-dir=/x"]);
        assert_eq!(kubelet(&Processes::in_folder(directory.path(), Path::new("/")), &PLAIN), None);
    }

    #[test]
    fn containerds_directories_are_the_distributions_and_those_of_its_command_line() {
        let directory = tempfile::tempdir().unwrap();
        let line = ["/x/containerd", "-c", "/c", "--state", "/data/state", "--root", "/data/root"];
        fake::add(directory.path(), Path::new("/"), 7, 5, &line);
        fake::add(directory.path(), Path::new("/image"), 8, 5, &["/x/containerd", "--state", "/forged"]);
        let all = Processes::in_folder(directory.path(), Path::new("/"));
        let expected = ["/data/root", "/data/state", "/run/k0s/containerd", "/var/lib/k0s/containerd"];
        assert_eq!(of_containerd(&all, &k0s()), expected.map(Path::new));
    }

    #[test]
    fn the_distributions_client_is_the_one_in_its_folder() {
        let there = |path: &Path| path == Path::new("/var/lib/k0s/bin/crictl");
        assert_eq!(crictl(there, &k0s()).as_deref(), Some(Path::new("/var/lib/k0s/bin/crictl")));
        assert_eq!(crictl(there, &PLAIN), None);
        assert_eq!(crictl(|_| false, &k0s()), None);
    }
}
