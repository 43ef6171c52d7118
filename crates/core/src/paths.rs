//! All paths of the product, under one root, so that a test or an image build can move them.

use std::path::{Path, PathBuf};

/// The gate that engines call. It does not lie where packages put programs: a package that is upgraded or removed must
/// not take it away from running engines.
pub const GATE: &str = "/var/lib/pss-guard/bin/pss-guard-gate";

/// The tool beside it, which the units of systemd call. Before the gate was a program of its own, engines called this.
pub const TOOL: &str = "/var/lib/pss-guard/bin/pss-guard";

/// Whether a hook with this path calls the gate, or the tool from when it was the gate, too.
#[must_use]
pub fn is_gate(path: &str) -> bool {
    [GATE, TOOL].contains(&path)
}

/// Where programs lie, in the order in which they are looked for.
pub const PROGRAM_FOLDERS: [&str; 8] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/libexec/crio",
    "/opt/containerd/bin",
];

/// Where else a program may be that was brought to one of these folders; nowhere for any other.
pub fn namesakes(path: &Path) -> impl Iterator<Item = PathBuf> {
    let was_brought =
        path.parent().is_some_and(|folder| PROGRAM_FOLDERS.iter().any(|own| folder == Path::new(own)));
    let name = path.file_name().filter(|_| was_brought);
    name.into_iter().flat_map(|name| PROGRAM_FOLDERS.iter().map(move |folder| Path::new(folder).join(name)))
}

/// The product's files under a root directory (`/` on a node).
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// The files under `root`.
    #[must_use]
    pub fn under(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The root directory, if these are not the files of the running system.
    #[must_use]
    pub fn other_root(&self) -> Option<&Path> {
        (self.root != Path::new("/")).then_some(&*self.root)
    }

    /// The policy that the admin writes.
    #[must_use]
    pub fn policy(&self) -> PathBuf {
        self.root.join("etc/pss-guard/policy.toml")
    }

    /// The compiled policy.
    #[must_use]
    pub fn policy_cache(&self) -> PathBuf {
        self.root.join("run/pss-guard/policy.cache")
    }

    /// The last good text of the policy, in force while the policy cannot be used.
    #[must_use]
    pub fn kept_policy(&self) -> PathBuf {
        self.root.join("var/lib/pss-guard/policy.toml")
    }

    /// One writer of it at a time.
    #[must_use]
    pub fn kept_policy_lock(&self) -> PathBuf {
        self.root.join("var/lib/pss-guard/policy.lock")
    }

    /// The kubelet's root directory, where it is not the default: see [`crate::level::kubelet_root`].
    #[must_use]
    pub fn kubelet_root(&self) -> PathBuf {
        self.root.join("var/lib/pss-guard/kubelet-root")
    }

    /// A mode that holds for a time in place of the policy's.
    #[must_use]
    pub fn temporary_mode(&self) -> PathBuf {
        self.root.join("run/pss-guard/mode.json")
    }

    /// One change of the mode at a time.
    #[must_use]
    pub fn mode_lock(&self) -> PathBuf {
        self.root.join("run/pss-guard/mode.lock")
    }

    /// One file a namespace: the levels that its labels ask for.
    #[must_use]
    pub fn namespaces(&self) -> PathBuf {
        self.root.join("run/pss-guard/namespaces")
    }

    /// An empty file for each container of which it was already said that it would not start today.
    #[must_use]
    pub fn said_of(&self, container: &str) -> PathBuf {
        self.root.join("run/pss-guard/execs").join(container)
    }

    /// The same as it was last imported, for the next boot: `systemd/pss-guard.tmpfiles` copies it to [`Self::namespaces`].
    #[must_use]
    pub fn kept_namespaces(&self) -> PathBuf {
        self.root.join("var/lib/pss-guard/namespaces")
    }

    /// The folder of what the node is told: beside [`Self::namespaces`], the folders of [`crate::pods`].
    #[must_use]
    pub fn told(&self) -> PathBuf {
        self.root.join("run/pss-guard")
    }

    /// The same for the next boot.
    #[must_use]
    pub fn kept(&self) -> PathBuf {
        self.root.join("var/lib/pss-guard")
    }

    /// The cluster's version.
    #[must_use]
    pub fn cluster(&self) -> PathBuf {
        crate::cluster::path(&self.told())
    }

    /// Which formats the gate of this node reads, published by the gate itself. It lies in a folder of its own: an agent in a
    /// container sees another file by that name only if it mounts the folder.
    #[must_use]
    pub fn formats(&self) -> PathBuf {
        self.root.join("run/pss-guard/gate/formats")
    }

    /// The folder of the spool. Where it exists, the gate appends its events to it for the agent.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.root.join("run/pss-guard/events")
    }

    /// Where journald listens for native messages.
    #[must_use]
    pub fn journal_socket(&self) -> PathBuf {
        self.root.join("run/systemd/journal/socket")
    }

    /// Where events go that journald cannot take.
    #[must_use]
    pub fn decisions(&self) -> PathBuf {
        self.root.join("var/log/pss-guard/decisions.jsonl")
    }

    /// Beside the events, and for as long: when which probes of the installer were there.
    #[must_use]
    pub fn probes(&self) -> PathBuf {
        self.root.join("var/log/pss-guard/probes.jsonl")
    }

    /// What `metrics` has counted, and how far it has read.
    #[must_use]
    pub fn metrics(&self) -> PathBuf {
        self.root.join("var/lib/pss-guard/metrics")
    }

    /// What the last scan at a level came to.
    #[must_use]
    pub fn kept_scan(&self, level: &str) -> PathBuf {
        self.metrics().join(format!("scan-{level}.json"))
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self::under(Path::new("/"))
    }
}
