//! The distributions that bring a containerd of their own: k3s, rke2, k0s, MicroK8s.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::{CONFIG, ROOT, SOCKET, STATE, Signs, Unrecognized, is_dockers, no, options, process};
use crate::node::distribution::{Change, Distribution, PLAIN};
use crate::node::host::Node;
use crate::node::procfs::{Process, Processes};
use crate::node::systemd::{self, Service, UnitError, option};
use crate::node::{openrc, service};

/// The distributions whose containerd is started with such a configuration. k3s and rke2 have it in the same place.
pub(super) fn layout(process: &Process) -> Option<&'static [&'static str]> {
    let config = process.option(CONFIG)?;
    if config.ends_with(RANCHER) {
        return Some(&["k3s", "rke2"]);
    }
    let below = |folder: &str| config.starts_with(folder);
    [
        ("/etc/k0s/", &["k0s"] as &[_]),
        ("/var/snap/microk8s/", &["MicroK8s"]),
        ("/var/snap/k8s/", &["Canonical Kubernetes"]),
    ]
    .into_iter()
    .find_map(|(folder, names)| below(folder).then_some(names))
}

/// A containerd of the node that runs, may serve pods, and is not the one of this distribution.
pub(super) fn stranger(node: &dyn Node, processes: &Processes, name: &str) -> Option<Process> {
    let mut all = processes.running(&["containerd"]);
    if all.iter().any(|process| layout(process).is_some_and(|names| names.contains(&name))) {
        return None;
    }
    all.retain(|process| !is_dockers(process) && !has_no_cri(node, process));
    (!all.is_empty()).then(|| all.remove(0))
}

/// Whether the configuration of a containerd turns the plugin off that serves pods.
fn has_no_cri(node: &dyn Node, process: &Process) -> bool {
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(default)]
        disabled_plugins: Vec<String>,
    }
    let path = process.option(CONFIG).unwrap_or_else(|| PLAIN.config.clone().into_owned());
    let bytes = node.read(Path::new(&path)).ok().flatten().unwrap_or_default();
    let config = std::str::from_utf8(&bytes).ok().and_then(|text| toml::from_str::<Config>(text).ok());
    let off = |name: &String| matches!(name.as_str(), "cri" | "io.containerd.grpc.v1.cri");
    config.is_some_and(|config| config.disabled_plugins.iter().any(off))
}

/// Where k3s and rke2 write containerd's configuration, below their data directory.
const RANCHER: &str = "/agent/etc/containerd/config.toml";

/// k3s and rke2. `containerd -c CONFIG -a SOCKET --state … --root …` (`pkg/agent/containerd` in k3s).
pub(super) fn rancher(
    signs: &Signs,
    node: &dyn Node,
    processes: &Processes,
) -> Result<Distribution, Unrecognized> {
    let name = signs.name;
    let is_its = |process: &Process| layout(process).is_some_and(|names| names.contains(&name));
    let running = process(processes, is_its);
    let settings = Settings::of(signs, node, processes, running.as_ref())?;
    if settings.has_other_engine {
        return super::service(name, node, processes);
    }
    let data = running
        .as_ref()
        .and_then(|process| process.option(CONFIG)?.strip_suffix(RANCHER).map(str::to_owned))
        .or(settings.data)
        .unwrap_or_else(|| format!("/var/lib/rancher/{name}"));
    let told = |names, usual: String| {
        running.as_ref().and_then(|process| process.option(names)).map_or(Cow::Owned(usual), Cow::Owned)
    };
    // An upgrade of k3s moves the link `current`, and removes the folders before.
    let programs = if name == "k3s" { format!("{data}/data/current/bin") } else { format!("{data}/bin") };
    Ok(Distribution {
        name,
        config: Cow::Owned(format!("{data}{RANCHER}")),
        change: Change::DropIn { restarts: false },
        programs: vec![Cow::Owned(programs)],
        containerd: None,
        unit: settings.unit,
        state: told(STATE, "/run/k3s/containerd".to_owned()),
        root: told(ROOT, format!("{data}/agent/containerd")),
        socket: told(SOCKET, "/run/k3s/containerd/containerd.sock".to_owned()),
        kubelet: PLAIN.kubelet.clone(),
    })
}

/// What such a distribution was told when it was started.
#[derive(Default)]
struct Settings {
    data: Option<String>,
    /// docker, or a CRI that somebody else started.
    has_other_engine: bool,
    unit: Option<&'static str>,
}

impl Settings {
    /// From the process, where it has one that shows its options, else from what starts it. `running` is its own containerd,
    /// which tells more than either.
    fn of(
        signs: &Signs,
        node: &dyn Node,
        processes: &Processes,
        running: Option<&Process>,
    ) -> Result<Self, Unrecognized> {
        let name = signs.name;
        let its = processes.running(signs.programs);
        let words = |process: &Process| -> Vec<String> {
            process.arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect()
        };
        let commands: Vec<Vec<String>> = its.iter().map(words).collect();
        let unit = unit(signs, node, commands.first().and_then(|words| words.first()));
        // Its command line tells the data directory, and whatever the next start would be, this one is its own engine.
        if running.is_some() && name != "k0s" {
            return Ok(Self { unit, ..Self::default() });
        }
        let of_process = |end: &str| {
            let variable = variable(name, end);
            its.iter().find_map(|process| process.variable(&variable))
        };
        // k3s replaces its command line by `k3s server`, which hides the options.
        if let Some(command) = commands.iter().find(|command| command.len() > 1) {
            return Self { unit, ..Self::default() }.with(name, node, command, of_process);
        }
        let mut all: Option<(PathBuf, Self)> = None;
        for service in services(signs, node, unit)? {
            let of_service = |end: &str| service.variables.get(&variable(name, end)).cloned();
            let told = Self { unit, ..Self::default() }.with(name, node, &service.command, of_service)?;
            match &all {
                Some((file, one))
                    if (&one.data, one.has_other_engine) != (&told.data, told.has_other_engine) =>
                {
                    let what = format!("it starts {name} with other options than {}", file.display());
                    return Err(Unrecognized::Setting { path: service.file, what });
                }
                Some(_) => {}
                None => all = Some((service.file, told)),
            }
        }
        match all {
            Some((_, told)) => Ok(told),
            None => Self { unit, ..Self::default() }.with(name, node, &[], of_process),
        }
    }

    /// With the options of a command and of the file that it reads, and with variables by the end of their names.
    fn with(
        mut self,
        name: &str,
        node: &dyn Node,
        command: &[String],
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Unrecognized> {
        // The file of k0s has none of its options, and its `-d` is another one.
        let is_k0s = name == "k0s";
        let words = if is_k0s {
            command.to_vec()
        } else {
            options::with_file(node, name, command, variable("CONFIG_FILE").as_deref())?
        };
        let names = ["--data-dir", "-data-dir", "-d", "--d"];
        let option = option(&words, if is_k0s { &names[..2] } else { &names }).map(trimmed);
        let variable = variable("DATA_DIR").as_deref().map(trimmed).filter(|data| !data.is_empty());
        // k3s keeps its programs where the variable says, and everything else where the option does (`findDataDir` in
        // `cmd/k3s/main.go`).
        if let (Some(option), Some(variable)) = (&option, &variable)
            && option != variable
        {
            return Err(Unrecognized::Options(format!(
                "{name} is started with the data directory {option:?} and with {}={variable}; let both name the same one",
                self::variable(name, "DATA_DIR")
            )));
        }
        // An empty one is the usual one.
        self.data = option.or(variable).filter(|data| !data.is_empty());
        if let Some(data) = self.data.as_deref().filter(|data| !data.starts_with('/')) {
            return Err(Unrecognized::Options(format!(
                "the data directory {data:?} is no whole path; write it as one"
            )));
        }
        let endpoint = ["--container-runtime-endpoint", "-container-runtime-endpoint", "--cri-socket"];
        self.has_other_engine = systemd::option(&words, &endpoint).is_some_and(|socket| !socket.is_empty())
            || is_on(&words, &["--docker", "-docker"]);
        Ok(self)
    }
}

/// `K3S_DATA_DIR` and the like.
fn variable(name: &str, end: &str) -> String {
    format!("{}_{end}", name.to_uppercase())
}

fn trimmed(path: &str) -> String {
    path.trim_end_matches('/').to_owned()
}

/// Whether a switch is on: `--docker`, `--docker=true`. The last one counts, and is read as Go's `strconv.ParseBool` has it.
fn is_on(words: &[String], names: &[&str]) -> bool {
    let value = |word: &String| match word.split_once('=') {
        Some((name, value)) if names.contains(&name) => Some(value.to_owned()),
        None if names.contains(&word.as_str()) => Some("true".to_owned()),
        _ => None,
    };
    let last = words.iter().filter_map(value).next_back();
    last.is_some_and(|value| !matches!(value.as_str(), "0" | "f" | "F" | "false" | "FALSE" | "False"))
}

/// The services that may start it: the one of its usual names that counts, else all of them, and those of other names.
fn services(signs: &Signs, node: &dyn Node, unit: Option<&'static str>) -> Result<Vec<Service>, UnitError> {
    let usual = signs.units.iter().copied().filter(|usual| unit.is_none_or(|unit| unit == *usual));
    let others = renamed(signs, node);
    let mut found = Vec::new();
    for name in usual.map(str::to_owned).chain(others) {
        found.extend(service::of_any_init(node, &name, signs.name)?);
    }
    Ok(found)
}

/// Units and scripts of other names that start it, such as `INSTALL_K3S_NAME` makes: `k3s-NAME`. One that cannot be followed
/// is among them.
pub(super) fn renamed(signs: &Signs, node: &dyn Node) -> Vec<String> {
    if !["k3s", "rke2"].contains(&signs.name) {
        return Vec::new();
    }
    let prefix = format!("{}-", signs.name);
    let roles = ["server", "agent"].map(|role| format!("{} {role}", signs.name));
    let starts_it = |service: Result<Option<Service>, UnitError>| match service {
        Ok(Some(service)) => roles.iter().any(|role| service.command.join(" ").contains(role)),
        Ok(None) => false,
        Err(_) => true,
    };
    let units =
        systemd::beginning(node, &prefix).into_iter().filter(|unit| starts_it(systemd::service(node, unit)));
    let scripts =
        openrc::beginning(node, &prefix).into_iter().filter(|name| starts_it(openrc::service(node, name)));
    let mut names: Vec<String> = units.chain(scripts.map(|name| format!("{name}.service"))).collect();
    names.retain(|name| !signs.units.contains(&name.as_str()));
    names.sort_unstable();
    names.dedup();
    names
}

/// The unit that restarts it. A package may bring the units of both roles; then the role that runs counts, and else the one
/// that is enabled.
fn unit(signs: &Signs, node: &dyn Node, role: Option<&String>) -> Option<&'static str> {
    let there: Vec<&'static str> =
        signs.units.iter().copied().filter(|unit| systemd::is_there(node, unit)).collect();
    if let [one] = there[..] {
        return Some(one);
    }
    // `k3s.service` is the server's.
    let is_of = |unit: &&'static str| match role.map(String::as_str) {
        Some("agent" | "worker") => unit.contains("agent") || unit.contains("worker"),
        Some("server" | "controller") => !unit.contains("agent") && !unit.contains("worker"),
        _ => systemd::is_enabled(node, unit),
    };
    let mut its = there.into_iter().filter(is_of);
    its.next().filter(|_| its.next().is_none())
}

/// k0s. It writes the file at every start, as long as its first line says so (`pkg/component/worker/containerd`).
pub(super) fn k0s(
    signs: &Signs,
    node: &dyn Node,
    processes: &Processes,
) -> Result<Distribution, Unrecognized> {
    const FILE: &str = "/etc/k0s/containerd.toml";
    let is_its = |process: &Process| layout(process).is_some_and(|names| names.contains(&signs.name));
    let running = process(processes, is_its);
    let settings = Settings::of(signs, node, processes, running.as_ref())?;
    if settings.has_other_engine {
        return super::service(signs.name, node, processes);
    }
    let data = settings.data.unwrap_or_else(|| "/var/lib/k0s".to_owned());
    let told = |names, usual: String| {
        running.as_ref().and_then(|process| process.option(names)).map_or(Cow::Owned(usual), Cow::Owned)
    };
    let bytes = node.read(Path::new(FILE))?;
    let text = bytes.as_deref().map(String::from_utf8_lossy);
    let is_managed =
        |text: &str| text.lines().find(|line| !line.trim().is_empty()) == Some("# k0s_managed=true");
    let change = match text.as_deref() {
        None => Change::No {
            why: "k0s has not written /etc/k0s/containerd.toml yet, so it is unknown whether it imports drop-ins",
            instead: "start k0s once, and install then",
        },
        Some(text) if !is_managed(text) => Change::Edit,
        Some(text) if imports_folder(text) => Change::DropIn { restarts: true },
        Some(_) => Change::No {
            why: "this k0s merges drop-ins by rules of its own (before 1.36)",
            instead: "upgrade k0s, or remove the first line of /etc/k0s/containerd.toml and write the whole file yourself",
        },
    };
    Ok(Distribution {
        name: signs.name,
        config: Cow::Borrowed(FILE),
        change,
        programs: vec![Cow::Owned(format!("{data}/bin"))],
        containerd: None,
        unit: settings.unit,
        state: told(STATE, "/run/k0s/containerd".to_owned()),
        root: told(ROOT, format!("{data}/containerd")),
        socket: told(SOCKET, "/run/k0s/containerd.sock".to_owned()),
        kubelet: Cow::Owned(format!("{data}/kubelet")),
    })
}

/// Whether a file of k0s imports the folder itself. Before 1.36 k0s named what it had merged.
fn imports_folder(text: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(default)]
        imports: Vec<String>,
    }
    let config: Option<Config> = toml::from_str(text).ok();
    config.is_some_and(|config| config.imports.iter().any(|import| import == "/etc/k0s/containerd.d/*.toml"))
}

/// MicroK8s. `current` is a link to the revision of the snap; a refresh moves it, and copies the folder.
pub(super) fn microk8s(node: &dyn Node) -> Result<Distribution, Unrecognized> {
    const NAME: &str = "MicroK8s";
    let snap = node.read(Path::new("/snap/microk8s/current/meta/snap.yaml"))?.unwrap_or_default();
    let snap = String::from_utf8_lossy(&snap);
    let is_strict =
        snap.lines().filter_map(|line| line.strip_prefix("confinement:")).any(|how| how.trim() == "strict");
    if is_strict {
        return Ok(no(
            NAME,
            "this is the strict snap, whose containerd may execute nothing outside of the snap",
            "use the classic snap",
        ));
    }
    let common = "/var/snap/microk8s/common";
    Ok(Distribution {
        name: NAME,
        config: Cow::Borrowed("/var/snap/microk8s/current/args/containerd.toml"),
        change: Change::Template(Cow::Borrowed("/var/snap/microk8s/current/args/containerd-template.toml")),
        programs: ["bin", "usr/bin", "sbin", "usr/sbin"]
            .map(|folder| Cow::Owned(format!("/snap/microk8s/current/{folder}")))
            .into(),
        containerd: None,
        unit: Some("snap.microk8s.daemon-containerd.service"),
        state: Cow::Owned(format!("{common}/run/containerd")),
        root: Cow::Owned(format!("{common}/var/lib/containerd")),
        socket: Cow::Owned(format!("{common}/run/containerd.sock")),
        kubelet: Cow::Owned(format!("{common}/var/lib/kubelet")),
    })
}
