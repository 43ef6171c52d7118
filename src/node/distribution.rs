//! Recognizes the Kubernetes distribution of a node: where it keeps containerd's configuration, programs and state, and
//! how it lets others change them.
//!
//! A distribution is recognized by its systemd units and files, never by a version string: newer releases of k3s report
//! only containerd's version.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};

use super::recognize;

/// A Kubernetes distribution, as far as the gate has to know it.
///
/// All paths are absolute, as the node sees them. The manifest of an installation keeps it, so that uninstall and status
/// find the same files even if the node looks like another one by then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// The containerd that its unit starts; `None` where no unit tells, and it is the first that is found.
    pub containerd: Option<Cow<'static, str>>,
    /// The systemd unit that restarts its containerd; `None` where it is not known.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
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
    /// There is no way that stays, and why; what to do instead. Nothing is ever installed there.
    #[serde(skip)]
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
    containerd: None,
    unit: Some("containerd.service"),
    state: Cow::Borrowed("/run/containerd"),
    root: Cow::Borrowed("/var/lib/containerd"),
    socket: Cow::Borrowed("/run/containerd/containerd.sock"),
    kubelet: Cow::Borrowed("/var/lib/kubelet"),
};

impl Distribution {
    /// When the file is written again without the gate whatever anyone does, in a sentence with what helps; `None` where
    /// nothing is known of that.
    #[must_use]
    pub fn loses_gate(&self) -> Option<&'static str> {
        (self.name == "GKE on COS").then_some(
            "/etc of Container-Optimized OS is made at every boot: from then until `pss-guard install --engine containerd --restart` \
             has run again, containers start without the gate, and their pods bypass it until they are recreated; have a \
             DaemonSet run it (docs/distributions.md)",
        )
    }
}

/// A distribution as a manifest has it.
#[derive(Deserialize)]
struct Recorded {
    name: String,
    config: String,
    change: RecordedChange,
    programs: Vec<String>,
    // Manifests of older programs lack it.
    containerd: Option<String>,
    unit: Option<String>,
    state: String,
    root: String,
    socket: String,
    kubelet: String,
}

/// [`Change`] as a manifest has it: nothing is installed where there is no way.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RecordedChange {
    Edit,
    DropIn { restarts: bool },
    Template(String),
    Copy(String),
}

// Not derived: that would ask for a text that lives forever, because of the names.
impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Recorded::deserialize(from)?.try_into().map_err(serde::de::Error::custom)
    }
}

impl TryFrom<Recorded> for Distribution {
    type Error = String;

    fn try_from(from: Recorded) -> Result<Self, String> {
        let name = recognize::names()
            .find(|known| *known == from.name)
            .ok_or_else(|| format!("unknown distribution {:?}", from.name))?;
        Ok(Self {
            name,
            config: from.config.into(),
            change: match from.change {
                RecordedChange::Edit => Change::Edit,
                RecordedChange::DropIn { restarts } => Change::DropIn { restarts },
                RecordedChange::Template(path) => Change::Template(path.into()),
                RecordedChange::Copy(path) => Change::Copy(path.into()),
            },
            programs: from.programs.into_iter().map(Cow::Owned).collect(),
            containerd: from.containerd.map(Cow::Owned),
            // One of a later program is not restarted, and everything else is done.
            unit: from.unit.and_then(|unit| recognize::units().find(|known| *known == unit)),
            state: from.state.into(),
            root: from.root.into(),
            socket: from.socket.into(),
            kubelet: from.kubelet.into(),
        })
    }
}
