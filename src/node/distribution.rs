//! Recognizes the Kubernetes distribution of a node: where it keeps containerd's configuration, programs and state, and
//! how it lets others change them.
//!
//! A distribution is recognized by its systemd units and files, never by a version string: newer releases of k3s report
//! only containerd's version.

use std::borrow::Cow;

/// A Kubernetes distribution, as far as the gate has to know it.
///
/// All paths are absolute, as the node sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Its name as its vendor spells it: `k3s`, `EKS`, `Flatcar`.
    pub name: &'static str,
    /// The configuration file that its containerd is started with.
    pub config: Cow<'static, str>,
    /// How it lets others change that configuration.
    pub change: Change,
    /// Folders in which its containerd, shims and runtimes lie. They are searched before the usual ones
    /// ([`crate::paths::PROGRAM_FOLDERS`]), and written as they are: `data/current/bin` has to stay `current`, because an
    /// upgrade moves that link.
    pub programs: Vec<Cow<'static, str>>,
    /// The systemd unit that restarts its containerd.
    pub unit: Option<&'static str>,
    /// containerd's state directory.
    pub state: Cow<'static, str>,
    /// containerd's root directory.
    pub root: Cow<'static, str>,
    /// containerd's socket.
    pub socket: Cow<'static, str>,
    /// The root directory of its kubelet.
    pub kubelet: Cow<'static, str>,
}

/// How a distribution lets others change containerd's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The file is the admin's, or is written only when the node is made: edit it.
    Edit,
    /// It writes the file at every start. Only a file in a folder that the written file imports stays.
    DropIn {
        /// Writing the drop-in restarts containerd by itself (k0s watches the folder).
        restarts: bool,
    },
    /// It writes the file at every start from this template, in which placeholders stand in strings (`"${RUNTIME}"`): edit
    /// the template.
    Template(Cow<'static, str>),
    /// The file is read-only: a changed copy goes here, and the unit's drop-in names it.
    Copy(Cow<'static, str>),
    /// There is no way that stays, and why; what to do instead.
    No {
        /// Why not.
        why: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
}

/// A node without a distribution that matters here: kubeadm, or packages of the admin's own.
pub static PLAIN: Distribution = Distribution {
    name: "plain",
    config: Cow::Borrowed("/etc/containerd/config.toml"),
    change: Change::Edit,
    programs: Vec::new(),
    unit: Some("containerd.service"),
    state: Cow::Borrowed("/run/containerd"),
    root: Cow::Borrowed("/var/lib/containerd"),
    socket: Cow::Borrowed("/run/containerd/containerd.sock"),
    kubelet: Cow::Borrowed("/var/lib/kubelet"),
};
