//! Finds out which distribution a node is, by its units, files and processes, and where that one keeps what the gate needs.
//!
//! A wrong guess would be written into a file that nobody reads, and be taken for a gate. So whatever contradicts itself is
//! an error that names both sides, and the admin decides (`--distribution`).

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::distribution::{Change, Distribution, PLAIN};
use super::host::Node;
use super::procfs::{Process, Processes};
use super::service::not_itself;
use super::systemd::{self, Service, UnitError};
use crate::files::FileError;
use crate::message::line;

mod options;
mod own;

/// Why it is not known what a node is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unrecognized {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not known how the engine is started.
    #[error("{}; name its configuration file with --config", line(.0))]
    Unit(UnitError),
    /// Two distributions.
    #[error(
        "this node looks like {first} ({first_by}) and like {second} ({second_by}); remove what is left of the one that it is \
         not, or say which one it is with --distribution"
    )]
    Two {
        /// One of them.
        first: &'static str,
        /// By what.
        first_by: String,
        /// The other one.
        second: &'static str,
        /// By what.
        second_by: String,
    },
    /// What was said is not what was found.
    #[error("--distribution {said}, and this node is {found} ({by})")]
    Other {
        /// What was said.
        said: &'static str,
        /// What was found.
        found: &'static str,
        /// By what.
        by: String,
    },
    /// Options of the distribution contradict each other, or cannot be followed.
    #[error("{0}, or name containerd's configuration file with --config")]
    Options(String),
    /// A setting of the distribution cannot be followed.
    #[error("{}: {what}; name containerd's configuration file with --config", .path.display())]
    Setting {
        /// Where it is set.
        path: PathBuf,
        /// What cannot be followed.
        what: String,
    },
}

// Its text has the cause, which is thus not its source as well.
impl From<UnitError> for Unrecognized {
    fn from(error: UnitError) -> Self {
        Self::Unit(error)
    }
}

/// What a distribution brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    /// A containerd of its own.
    Engine,
    /// The whole node; containerd is an ordinary service of it.
    Node,
    /// An operating system on which there may be any of the others.
    System,
}

/// How a distribution is recognized. One sign is enough.
struct Signs {
    name: &'static str,
    tier: Tier,
    /// systemd's units, or OpenRC's without `.service`.
    units: &'static [&'static str],
    /// Programs of root's that run on the node itself. In a container there may be any: vcluster has a k3s in each pod.
    programs: &'static [&'static str],
    /// Files, and folders with something in them.
    files: &'static [&'static str],
    /// `ID=` in os-release(5).
    system: &'static [&'static str],
}

const NONE: Signs = Signs { name: "", tier: Tier::Node, units: &[], programs: &[], files: &[], system: &[] };

/// All that are recognized, those with the most to say first.
const ALL: [Signs; 15] = [
    Signs {
        name: "k3s",
        tier: Tier::Engine,
        units: &["k3s.service", "k3s-agent.service"],
        programs: &["k3s", "k3s-server", "k3s-agent"],
        files: &["/var/lib/rancher/k3s/agent/etc/containerd/config.toml"],
        ..NONE
    },
    Signs {
        name: "rke2",
        tier: Tier::Engine,
        units: &["rke2-server.service", "rke2-agent.service"],
        programs: &["rke2"],
        files: &["/var/lib/rancher/rke2/agent/etc/containerd/config.toml"],
        ..NONE
    },
    Signs {
        name: "k0s",
        tier: Tier::Engine,
        units: &["k0sworker.service", "k0scontroller.service"],
        programs: &["k0s"],
        files: &["/etc/k0s/containerd.toml"],
        ..NONE
    },
    Signs {
        name: "MicroK8s",
        tier: Tier::Engine,
        units: &["snap.microk8s.daemon-containerd.service"],
        programs: &["kubelite"],
        files: &["/var/snap/microk8s/current/args"],
        ..NONE
    },
    Signs {
        name: "Canonical Kubernetes",
        tier: Tier::Engine,
        units: &["snap.k8s.containerd.service"],
        files: &["/var/snap/k8s/common"],
        ..NONE
    },
    Signs { name: "Talos", system: &["talos"], ..NONE },
    Signs { name: "Bottlerocket", system: &["bottlerocket"], ..NONE },
    Signs { name: "GKE on COS", system: &["cos"], ..NONE },
    Signs { name: "EKS", units: &["nodeadm-run.service", "nodeadm-config.service"], ..NONE },
    Signs { name: "AKS", files: &["/opt/azure/containers"], ..NONE },
    Signs {
        name: "OpenShift",
        units: &["machine-config-daemon-pull.service", "machine-config-daemon-firstboot.service"],
        files: &["/etc/machine-config-daemon/currentconfig"],
        ..NONE
    },
    Signs { name: "kind", files: &["/kind/version", "/kind/product_name"], ..NONE },
    Signs { name: "minikube", files: &["/var/lib/minikube/certs", "/var/lib/minikube/binaries"], ..NONE },
    Signs { name: "Flatcar", tier: Tier::System, system: &["flatcar"], ..NONE },
    Signs { name: "Cluster API", tier: Tier::System, files: &["/run/cluster-api"], ..NONE },
];

/// The names of all distributions, as `--distribution` takes them in any case.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|signs| signs.name).chain([PLAIN.name])
}

/// The units by which distributions restart their containerd.
pub(super) fn units() -> impl Iterator<Item = &'static str> {
    ALL.iter().flat_map(|signs| signs.units).copied().chain(PLAIN.unit)
}

/// A distribution, and by what it was recognized.
struct Found {
    signs: &'static Signs,
    by: String,
    /// Whether it runs.
    runs: bool,
}

impl Signs {
    /// By what it is recognized on a node, and whether it runs there.
    fn on(&'static self, node: &dyn Node, processes: &Processes, system: &str) -> Option<Found> {
        let found = |by, runs| Some(Found { signs: self, by, runs });
        if let Some(process) = processes.running(self.programs).first() {
            return found(format!("process {}, {}", process.pid, process.program.display()), true);
        }
        let unit = self.units.iter().find(|unit| systemd::is_there(node, unit));
        if let Some(unit) = unit {
            return found((*unit).to_owned(), false);
        }
        let openrc = |unit: &&str| {
            let script = format!("/etc/init.d/{}", unit.trim_end_matches(".service"));
            node.is_program(Path::new(&script)).then_some(script)
        };
        if let Some(script) = self.units.iter().find_map(openrc) {
            return found(script, false);
        }
        if let Some(renamed) = own::renamed(self, node).into_iter().next() {
            return found(renamed, false);
        }
        let is_there = |path: &&&str| {
            let path = Path::new(path);
            node.is_folder(path) || node.read(path).is_ok_and(|bytes| bytes.is_some())
        };
        if let Some(path) = self.files.iter().find(is_there) {
            return found((*path).to_owned(), false);
        }
        self.system
            .contains(&system)
            .then_some(())
            .and_then(|()| found(format!("ID={system} in os-release"), false))
    }
}

impl Distribution {
    /// The distribution of a node. On one that runs, `processes` count as well.
    pub fn of(node: &dyn Node, processes: &Processes) -> Result<Self, Unrecognized> {
        Self::declared(node, processes, None)
    }

    /// The same, where somebody may have said which one it is: one of [`names`]. Only what was found can be said; of two
    /// that were found, the one that is said counts.
    pub fn declared(
        node: &dyn Node,
        processes: &Processes,
        said: Option<&'static str>,
    ) -> Result<Self, Unrecognized> {
        let system = system(node)?;
        let mut all: Vec<Found> = ALL.iter().filter_map(|signs| signs.on(node, processes, &system)).collect();
        // On an operating system there may be any of the others.
        let lowest = all.iter().map(|found| found.signs.tier).min().unwrap_or(Tier::System);
        if lowest < Tier::System {
            all.retain(|found| found.signs.tier < Tier::System || said == Some(found.signs.name));
        } else if said.is_none() {
            all.truncate(1);
        }
        // One that does not run, beside a containerd that serves pods and is not its own.
        let stranger = match &all[..] {
            [one] if one.signs.tier == Tier::Engine && !one.runs => {
                own::stranger(node, processes, one.signs.name)
            }
            _ => None,
        };
        let plain = stranger.map(|process| format!("process {}, {}", process.pid, process.program.display()));
        if let Some(said) = said {
            return match all.iter().find(|found| found.signs.name == said) {
                Some(found) => found.signs.places(node, processes),
                None if said == PLAIN.name && (all.is_empty() || plain.is_some()) => {
                    service(PLAIN.name, node, processes)
                }
                None => {
                    let first = all.into_iter().next();
                    let (found, by) = first.map_or_else(
                        || (PLAIN.name, "no sign of another one".to_owned()),
                        |found| (found.signs.name, found.by),
                    );
                    Err(Unrecognized::Other { said, found, by })
                }
            };
        }
        let mut all = all.into_iter();
        match (all.next(), all.next()) {
            (None, _) => service(PLAIN.name, node, processes),
            (Some(one), None) => match plain {
                Some(second_by) => Err(two(one, PLAIN.name, second_by)),
                None => one.signs.places(node, processes),
            },
            (Some(one), Some(other)) => Err(two(one, other.signs.name, other.by)),
        }
    }

    /// Where a program of its containerd lies: in a folder of the distribution's, or in one of the usual ones. The path is
    /// as the distribution has it, with links such as `current` in it.
    #[must_use]
    pub fn find(&self, node: &dyn Node, name: &str) -> Option<PathBuf> {
        let own = self.programs.iter().map(|folder| Path::new(folder.as_ref()).join(name));
        own.into_iter().find(|path| node.is_program(path)).or_else(|| node.find(name))
    }

    /// Where its containerd lies: the one that its unit starts, whatever else there is.
    #[must_use]
    pub fn containerd(&self, node: &dyn Node) -> Option<PathBuf> {
        match &self.containerd {
            Some(program) => Some(PathBuf::from(program.as_ref())).filter(|program| node.is_program(program)),
            None => self.find(node, "containerd"),
        }
    }

    /// The names of its services, as OpenRC has them.
    pub fn scripts(&self) -> impl Iterator<Item = &'static str> {
        let units = ALL.iter().find(|signs| signs.name == self.name).map_or(&[] as &[_], |signs| signs.units);
        units.iter().map(|unit| unit.trim_end_matches(".service"))
    }

    /// Whether it brings a containerd of its own, and writes its configuration.
    #[must_use]
    pub fn brings_engine(&self) -> bool {
        !self.programs.is_empty()
    }

    /// The file that its containerd reads once the gate is installed: where the usual one is read-only, the copy.
    #[must_use]
    pub fn read_with_gate(&self) -> &Path {
        match &self.change {
            Change::Copy(copy) => Path::new(copy.as_ref()),
            _ => Path::new(self.config.as_ref()),
        }
    }
}

fn two(one: Found, second: &'static str, second_by: String) -> Unrecognized {
    Unrecognized::Two { first: one.signs.name, first_by: one.by, second, second_by }
}

impl Signs {
    /// Where it keeps everything.
    fn places(&self, node: &dyn Node, processes: &Processes) -> Result<Distribution, Unrecognized> {
        match self.name {
            "k3s" | "rke2" => own::rancher(self, node, processes),
            "k0s" => own::k0s(self, node, processes),
            "MicroK8s" => own::microk8s(node),
            "Canonical Kubernetes" => Ok(no(
                self.name,
                "it brings a containerd of its own, and where it keeps its files has not been tried",
                "use the microk8s snap, k3s, rke2, k0s or kubeadm on nodes that need the gate",
            )),
            "Talos" => Ok(no(
                self.name,
                "its containerd is configured by the machine configuration alone, and its root file system is read-only",
                "see docs/distributions.md: a system extension brings the gate, and CRICustomizationConfig names it",
            )),
            "Bottlerocket" => Ok(no(
                self.name,
                "its containerd is configured by the API settings alone, which have no runtimes, and /etc is not kept",
                "use Pod Security admission there, or build a variant of your own with the gate in it",
            )),
            name => service(name, node, processes),
        }
    }
}

/// A distribution that the gate cannot be installed on.
fn no(name: &'static str, why: &'static str, instead: &'static str) -> Distribution {
    Distribution { name, change: Change::No { why, instead }, unit: None, ..PLAIN.clone() }
}

/// `ID=` of os-release(5).
fn system(node: &dyn Node) -> Result<String, FileError> {
    for path in ["/etc/os-release", "/usr/lib/os-release"] {
        if let Some(bytes) = node.read(Path::new(path))? {
            let text = String::from_utf8_lossy(&bytes);
            let id = text.lines().find_map(|line| line.strip_prefix("ID="));
            return Ok(id.unwrap_or_default().trim_matches(['"', '\'', ' ']).to_owned());
        }
    }
    Ok(String::new())
}

const CONFIG: &[&str] = &["--config", "-config", "-c"];
const STATE: &[&str] = &["--state", "-state"];
const ROOT: &[&str] = &["--root", "-root"];
const SOCKET: &[&str] = &["--address", "-address", "-a"];

/// The containerd that docker has of its own starts no pods.
fn is_dockers(process: &Process) -> bool {
    let config = process.option(CONFIG).unwrap_or_default();
    ["/run/docker/", "/var/run/docker/"].iter().any(|folder| config.starts_with(folder))
}

/// The one containerd of the node whose configuration one can name: `None` if there is none, or several that differ.
fn process(processes: &Processes, is_its: impl Fn(&Process) -> bool) -> Option<Process> {
    let mut all = processes.running(&["containerd"]);
    all.retain(|process| !is_dockers(process) && is_its(process));
    let first = all.first()?.option(CONFIG);
    all.iter().all(|process| process.option(CONFIG) == first).then(|| all.remove(0))
}

/// A containerd that is an ordinary service of the node.
fn service(name: &'static str, node: &dyn Node, processes: &Processes) -> Result<Distribution, Unrecognized> {
    let unit = PLAIN.unit.unwrap_or_default();
    let is_others = |process: &Process| own::layout(process).is_some();
    let running = process(processes, |process| !is_others(process));
    // What runs has been started as it was; the unit tells of the next start, and may be what cannot be followed.
    let started = match systemd::service(node, unit) {
        Err(error) if running.is_none() => return Err(error.into()),
        started => started.ok().flatten(),
    };
    let mut distribution = Distribution { name, ..PLAIN.clone() };
    // `--config` of a unit that says it with a variable can be said otherwise by a drop-in.
    let mut by_unit = None;
    if let Some(service) = &started {
        by_unit = service.variable_of(CONFIG);
        let is_containerd = service.starts("containerd");
        if !is_containerd && running.is_none() {
            return Err(not_itself(service, "containerd").into());
        }
        let program = service.command.first().filter(|program| is_containerd && program.starts_with('/'));
        // One that runs although its program is not there was started by something else.
        let program = program.filter(|program| running.is_none() || node.is_program(Path::new(program)));
        distribution.containerd = program.map(|program| Cow::Owned(program.clone()));
    }
    let option = |names| match (&running, &started) {
        (Some(process), _) => {
            let named = process.option(names).filter(|path| !path.is_empty());
            Ok(named.map(|path| process.path(&path)))
        }
        (None, Some(service)) => service.path(names),
        (None, None) => Ok(None),
    };
    if let Some(file) = option(CONFIG)? {
        distribution.config = Cow::Owned(file.to_string_lossy().into_owned());
    }
    if distribution.config.starts_with("/usr/") {
        distribution.change = match by_unit {
            Some("CONTAINERD_CONFIG") => Change::Copy(PLAIN.config.clone()),
            _ => Change::No {
                why: "its containerd reads a file below /usr, which belongs to the system, and the unit names it without a variable",
                instead: "copy the file to /etc/containerd/config.toml, have a drop-in of containerd.service start containerd \
                          with it, and install again",
            },
        };
    }
    settings(node, &mut distribution)?;
    for (names, place) in
        [(STATE, &mut distribution.state), (ROOT, &mut distribution.root), (SOCKET, &mut distribution.socket)]
    {
        if let Some(path) = option(names)? {
            *place = Cow::Owned(path.to_string_lossy().into_owned());
        }
    }
    Ok(distribution)
}

/// Which configuration a unit starts containerd with, in a sentence, if that is not this one. What cannot be followed is left
/// to [`Distribution::of`].
#[must_use]
pub fn starts_with_another(service: &Service, unit: &str, config: &Path) -> Option<String> {
    let named = service.path(CONFIG).ok()?.unwrap_or_else(|| PathBuf::from(PLAIN.config.as_ref()));
    (service.starts("containerd") && named != config).then(|| {
        format!("{unit} starts containerd with {}, and the gate is for {}", named.display(), config.display())
    })
}

/// What containerd's configuration says of its folders; its options go before that.
fn settings(node: &dyn Node, distribution: &mut Distribution) -> Result<(), FileError> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Config {
        state: String,
        root: String,
        grpc: Grpc,
    }
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Grpc {
        address: String,
    }
    let Some(bytes) = node.read(Path::new(distribution.config.as_ref()))? else { return Ok(()) };
    // What cannot be parsed is the installer's to refuse, with the place of the error.
    let parsed = std::str::from_utf8(&bytes).ok().and_then(|text| toml::from_str::<Config>(text).ok());
    let Config { state, root, grpc } = parsed.unwrap_or_default();
    for (path, place) in [
        (state, &mut distribution.state),
        (root, &mut distribution.root),
        (grpc.address, &mut distribution.socket),
    ] {
        if path.starts_with('/') {
            *place = Cow::Owned(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
