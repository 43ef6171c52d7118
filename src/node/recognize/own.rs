//! The distributions that bring a containerd of their own: k3s, rke2, k0s, MicroK8s.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::{CONFIG, ROOT, SOCKET, STATE, Signs, Unrecognized, is_dockers, no, process, service};
use crate::node::distribution::{Change, Distribution, PLAIN};
use crate::node::host::Node;
use crate::node::procfs::{Process, Processes};
use crate::node::systemd::{self, option};

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
    let settings = Settings::of(signs, node, processes)?;
    if settings.has_other_engine {
        return service(name, node, processes);
    }
    let is_its = |process: &Process| layout(process).is_some_and(|names| names.contains(&name));
    let running = process(processes, is_its);
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
    /// From its files, its unit, and its process, where it has one; the later goes before the earlier.
    fn of(signs: &Signs, node: &dyn Node, processes: &Processes) -> Result<Self, Unrecognized> {
        let running = processes.running(signs.programs);
        let words = |process: &Process| -> Vec<String> {
            process.arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect()
        };
        let unit = unit(signs, node, running.first().map(words).unwrap_or_default().first());
        let mut all = Self { unit, ..Self::default() };
        let (mut commands, mut variables) = (running.iter().map(words).collect::<Vec<_>>(), None);
        // It says more than the process, whose program can have set its own name.
        if let Some(service) =
            unit.filter(|_| commands.is_empty()).and_then(|unit| systemd::service(node, unit).transpose())
        {
            let service = service?;
            commands.push(service.command);
            variables = Some(service.variables);
        }
        let variable = |end: &str| {
            let name = format!("{}_{end}", signs.name.to_uppercase());
            let told = variables.as_ref().and_then(|all| all.get(&name).cloned());
            told.or_else(|| running.iter().find_map(|process| process.variable(&name)))
        };
        let is_k0s = signs.name == "k0s";
        let file =
            commands.iter().find_map(|command| option(command, &["--config", "-c"]).map(str::to_owned));
        let file = file.or_else(|| variable("CONFIG_FILE"));
        let file = PathBuf::from(file.unwrap_or_else(|| format!("/etc/rancher/{}/config.yaml", signs.name)));
        // That of k0s has none of its options.
        for path in files(node, &file).into_iter().filter(|_| !is_k0s) {
            all.file(node, &path)?;
        }
        if let Some(data) = variable("DATA_DIR") {
            all.data = Some(data);
        }
        for command in &commands {
            // `-d` of k0s is another option.
            let names = ["--data-dir", "-d"];
            if let Some(data) = option(command, if is_k0s { &names[..1] } else { &names }) {
                all.data = Some(data.to_owned());
            }
            let is_docker = |word: &String| word == "--docker" || word == "--docker=true";
            let is_told = option(command, &["--container-runtime-endpoint", "--cri-socket"]).is_some();
            all.has_other_engine |= is_told || command.iter().any(is_docker);
        }
        match all.data.as_deref() {
            Some(data) if !data.starts_with('/') => Err(Unrecognized::Setting {
                path: file,
                what: format!("the data directory {data:?} is no whole path"),
            }),
            Some(data) => {
                all.data = Some(data.trim_end_matches('/').to_owned());
                Ok(all)
            }
            None => Ok(all),
        }
    }

    /// One of k3s' configuration files: options as YAML, of which those that matter are plain values.
    fn file(&mut self, node: &dyn Node, path: &Path) -> Result<(), Unrecognized> {
        let Some(bytes) = node.read(path)? else { return Ok(()) };
        let text = String::from_utf8_lossy(&bytes);
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let key = key.trim_matches(['"', '\'']);
            if !["data-dir", "docker", "container-runtime-endpoint"].contains(&key) {
                // In one line with braces there may be anything.
                if text.trim_start().starts_with('{') && text.contains("data-dir") {
                    let what = "it is not one option a line".to_owned();
                    return Err(Unrecognized::Setting { path: path.to_owned(), what });
                }
                continue;
            }
            let value = value.split(" #").next().unwrap_or_default().trim();
            let plain = value.trim_matches(['"', '\'']);
            if plain.starts_with(['|', '>', '&', '*', '{', '[', '!']) {
                let what = format!("the value of {key} cannot be followed");
                return Err(Unrecognized::Setting { path: path.to_owned(), what });
            }
            match key {
                "data-dir" if !plain.is_empty() => self.data = Some(plain.to_owned()),
                "docker" => self.has_other_engine |= plain == "true",
                "container-runtime-endpoint" => self.has_other_engine |= !plain.is_empty(),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A configuration file and those in the folder beside it, in the order in which they count.
fn files(node: &dyn Node, file: &Path) -> Vec<PathBuf> {
    let folder = PathBuf::from(format!("{}.d", file.display()));
    let names = node.list(&folder).into_iter();
    let is_yaml =
        |name: &String| Path::new(name).extension().is_some_and(|end| end == "yaml" || end == "yml");
    [file.to_owned()].into_iter().chain(names.filter(is_yaml).map(|name| folder.join(name))).collect()
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
    let settings = Settings::of(signs, node, processes)?;
    if settings.has_other_engine {
        return service(signs.name, node, processes);
    }
    let is_its = |process: &Process| layout(process).is_some_and(|names| names.contains(&signs.name));
    let running = process(processes, is_its);
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
