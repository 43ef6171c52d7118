//! Detects the engines of this node by their programs, processes and files.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::PlanError;
use crate::node::distribution::Distribution;
use crate::node::host::{Live, Node};
use crate::node::procfs::{Process, Processes};
use crate::pss::facts::Engine;

/// An engine's program, and where its configuration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// The names of the program.
    pub programs: &'static [&'static str],
    /// The configuration file that it reads when nobody names one.
    pub config: &'static str,
    /// The options that name another one.
    options: &'static [&'static str],
    /// The variable that does so where no option does.
    variable: Option<&'static str>,
}

/// What is known of an engine's program.
#[must_use]
pub const fn daemon(engine: Engine) -> Daemon {
    match engine {
        Engine::Containerd => Daemon {
            programs: &["containerd"],
            config: "/etc/containerd/config.toml",
            options: &["--config", "-config", "-c"],
            variable: None,
        },
        Engine::CriO => Daemon {
            programs: &["crio"],
            config: "/etc/crio/crio.conf",
            options: &["--config", "-config", "-c"],
            variable: Some("CONTAINER_CONFIG"),
        },
        Engine::Podman => Daemon {
            programs: &["podman"],
            config: "/etc/containers/containers.conf",
            options: &[],
            variable: None,
        },
        Engine::Docker => Daemon {
            programs: &["dockerd"],
            config: "/etc/docker/daemon.json",
            options: &["--config-file"],
            variable: None,
        },
        Engine::None => Daemon { programs: &[], config: "/", options: &[], variable: None },
    }
}

impl Daemon {
    /// The program of the engine: that of containerd's unit, else one in a folder of the distribution's or in one of the
    /// usual ones.
    #[must_use]
    pub fn program(&self, node: &dyn Node, distribution: &Distribution) -> Option<PathBuf> {
        if self.programs.contains(&"containerd") {
            return distribution.containerd(node);
        }
        self.programs.iter().find_map(|name| distribution.find(node, name))
    }

    /// Whether the engine is on the node: a program is enough, because what can be called can start containers.
    #[must_use]
    pub fn is_on(&self, node: &dyn Node, distribution: &Distribution) -> bool {
        self.program(node, distribution).is_some()
            || self.programs.iter().any(|name| distribution.find(node, name).is_some())
    }

    /// What the program says of its version, where it can be run.
    #[must_use]
    pub fn version(&self, node: &dyn Node, distribution: &Distribution) -> Option<String> {
        let said = node.output(&self.program(node, distribution)?, &["--version"])?;
        said.lines().next().map(|first| first.trim().chars().take(200).collect())
    }

    /// The configuration file that a running engine reads.
    #[must_use]
    pub fn config_of(&self, process: &Process) -> PathBuf {
        let named = process.option(self.options).or_else(|| process.variable(self.variable?));
        named.map_or_else(|| PathBuf::from(self.config), |named| process.path(&named))
    }
}

/// The processes of an engine on the node itself; without the containerd that docker has of its own, whose containers are
/// docker's.
#[must_use]
pub fn running(processes: &Processes, engine: Engine) -> Vec<Process> {
    let daemon = daemon(engine);
    let mut running = processes.running(daemon.programs);
    running.retain(|process| {
        let config = daemon.config_of(process);
        !["/run/docker", "/var/run/docker"].iter().any(|folder| config.starts_with(folder))
            && !is_asked(process)
    });
    running
}

/// Whether a process only answers what this program asks engines, and serves nobody.
fn is_asked(process: &Process) -> bool {
    let words: Vec<_> = process.arguments.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    match words[..] {
        ["--version"] => true,
        ["--config", file, "config", "dump"] => !file.starts_with('-'),
        _ => false,
    }
}

/// So long after the first look the second one is.
const MOMENT: Duration = Duration::from_millis(200);

/// The same, looked at twice where one does not go by this file: it may have been about to become another program, which an engine's
/// child is between fork(2) and execve(2), or to end. An engine that was started again meanwhile has another id.
#[must_use]
pub fn settled(processes: &Processes, engine: Engine, here: &Path) -> Vec<Process> {
    let daemon = daemon(engine);
    let first = running(processes, engine);
    if first.iter().all(|process| process.shares(&daemon.config_of(process), here)) {
        return first;
    }
    thread::sleep(MOMENT);
    running(processes, engine)
}

/// What root's engine of this node goes by, if that is not what is written into: another configuration file, and no
/// process goes by this one. Engines in containers, and the containerd that docker has of its own, are somebody else's.
#[must_use]
pub fn elsewhere(live: &Live, processes: &Processes, engine: Engine, config: &Path) -> Option<String> {
    let daemon = daemon(engine);
    let here = live.place(config);
    let running = settled(processes, engine, &here);
    let says = |process: &Process, with: &str, not: &str| {
        format!(
            "{} (process {}) runs with {with} and not with {not}, so the gate is not active for its \
             containers",
            process.program.file_name().unwrap_or_default().display(),
            process.pid
        )
    };
    if running.iter().all(|process| !process.shares(&daemon.config_of(process), &here))
        && let Some(other) = running.first()
    {
        let theirs = daemon.config_of(other).display().to_string();
        let says = says(other, &theirs, &config.display().to_string());
        return Some(format!("{says}; `pss-guard install --engine {} --config {theirs}`", engine.name()));
    }
    running.iter().filter(|_| engine == Engine::CriO).find_map(|process| {
        let shown = overriding(&|names| process.option(names), &|name| process.variable(name))?;
        Some(format!(
            "{} (process {}) was started with {shown}, which overrides its files; write it into {} instead",
            daemon.programs.first().copied().unwrap_or_default(),
            process.pid,
            config.display()
        ))
    })
}

/// What overrides the files of CRI-O, as it is written where CRI-O is started: a flag, or a variable where the flag is not given.
pub(super) fn overriding(
    option: &dyn Fn(&[&str]) -> Option<String>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Option<String> {
    FLAGS.iter().find_map(|flag| {
        let name = flag.names.first().copied().unwrap_or_default();
        let told = option(flag.names).map(|told| (format!("{name} {told}"), told));
        let told =
            told.or_else(|| variable(flag.variable).map(|told| (format!("{}={told}", flag.variable), told)));
        told.filter(|(_, told)| told.trim_end_matches('/') != flag.usual).map(|(shown, _)| shown)
    })
}

/// What is said where the engine that runs is another version than the one whose rules its files were read by, which lies
/// at `found`: then nobody knows which handlers it has.
#[must_use]
pub fn other_rules(live: &Live, found: &Path, process: &Process) -> Option<String> {
    if process.replaced || process.shares(&process.program, &live.place(found)) {
        return None;
    }
    let version = |program: &Path| {
        let said = live.output(program, &["--version"])?;
        let first = said.lines().next()?.trim().chars().take(200).collect::<String>();
        Some((release(&first)?, first))
    };
    // What it sees at that path need not be what lies there for this program.
    let is_here = process.shares(&process.program, &live.place(&process.program));
    let (asked, its) = version(found)?;
    let own = version(&process.program).filter(|_| is_here);
    if own.as_ref().is_some_and(|(own, _)| *own == asked) {
        return None;
    }
    let own = own.map_or_else(|| "whose version is unknown".to_owned(), |(_, said)| said);
    Some(format!(
        "process {} is {} ({own}), and its files are read by the rules of {} ({its}): its handlers are \
         unknown; remove the one that does not run",
        process.pid,
        process.program.display(),
        found.display()
    ))
}

/// The 1 and 7 of `containerd github.com/containerd/containerd 1.7.24 …`, by which its rules go.
fn release(version: &str) -> Option<(u32, u32)> {
    version.split_whitespace().find_map(|word| {
        let mut numbers = word.trim_start_matches('v').split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    })
}

/// A flag that takes what the gate needs away from an engine's files.
struct Flag {
    names: &'static [&'static str],
    /// The variable that counts where the flag is not given.
    variable: &'static str,
    /// What it changes nothing with.
    usual: &'static str,
}

/// Those of CRI-O (`internal/criocli/criocli.go`). `crio config`, which the plan is held against, is not told of them.
const FLAGS: [Flag; 3] = [
    Flag {
        names: &["--config-dir", "-config-dir", "-d", "--d"],
        variable: "CONTAINER_CONFIG_DIR",
        usual: "/etc/crio/crio.conf.d",
    },
    Flag {
        names: &["--hooks-dir", "-hooks-dir"],
        variable: "CONTAINER_HOOKS_DIR",
        usual: "/usr/share/containers/oci/hooks.d",
    },
    Flag { names: &["--runtimes", "-runtimes"], variable: "CONTAINER_RUNTIMES", usual: "" },
];

/// The engines of a node, as far as the gate can be installed for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detected {
    /// The engines, in the order of [`Engine::ALL`].
    pub engines: Vec<Engine>,
    /// Engines that are there and need no gate of their own, a sentence each.
    pub left: Vec<String>,
}

/// The engines of this node. Its containerd is the one of its distribution.
pub fn detect(node: &dyn Node, distribution: &Distribution) -> Result<Detected, PlanError> {
    let mut detected = Detected::default();
    for engine in Engine::ALL {
        let daemon = daemon(engine);
        let config = Path::new(distribution.config.as_ref());
        // k3s and others unpack theirs when they start.
        let is_written =
            engine == Engine::Containerd && distribution.brings_engine() && node.read(config)?.is_some();
        if !daemon.is_on(node, distribution) && !is_written {
            continue;
        }
        if engine == Engine::Containerd && has_no_cri(node, config)? {
            detected.left.push(format!(
                "containerd: its CRI plugin is disabled in {}, so no pod starts there, and what docker starts passes \
                 the gate of docker",
                config.display()
            ));
        } else {
            detected.engines.push(engine);
        }
    }
    Ok(detected)
}

/// Whether containerd serves no kubelet (the configuration that docker's packages bring).
pub fn has_no_cri(node: &dyn Node, config: &Path) -> Result<bool, PlanError> {
    /// All of the file that matters here.
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(default)]
        disabled_plugins: Vec<String>,
    }
    let Some(bytes) = node.read(config)? else { return Ok(false) };
    // What cannot be parsed is the installer's to refuse, with the place of the error.
    let parsed = std::str::from_utf8(&bytes).ok().and_then(|text| toml::from_str::<Config>(text).ok());
    let off = |name: &String| matches!(name.as_str(), "cri" | "io.containerd.grpc.v1.cri");
    Ok(parsed.is_some_and(|config| config.disabled_plugins.iter().any(off)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::{Detected, MOMENT, detect, elsewhere, other_rules, settled};
    use crate::node::distribution::{Distribution, PLAIN};
    use crate::node::host::Live;
    use crate::node::host::fake::Fake;
    use crate::node::procfs::{Processes, fake};
    use crate::pss::facts::Engine;

    #[test]
    fn engines_are_found_by_their_programs() {
        let containerd = || Fake::default().program("/usr/bin/containerd");
        let both = || containerd().program("/usr/bin/dockerd");
        let off = "disabled_plugins = [\"cri\"]\n";
        let config = "/etc/containerd/config.toml";
        let (c, o, p, d) = (Engine::Containerd, Engine::CriO, Engine::Podman, Engine::Docker);
        let rows = [
            (Fake::default(), vec![], 0),
            (containerd(), vec![c], 0),
            (containerd().file(config, "version = 2\n"), vec![c], 0),
            (containerd().file(config, "not [ toml"), vec![c], 0),
            (both().file(config, off), vec![d], 1),
            (both(), vec![c, d], 0),
            (containerd().file(config, off), vec![], 1),
            (Fake::default().program("/usr/bin/crio").program("/usr/bin/podman"), vec![o, p], 0),
            // A client alone starts nothing here.
            (Fake::default().program("/usr/bin/docker"), vec![], 0),
        ];
        for (node, engines, left) in rows {
            let Detected { engines: found, left: reasons } = detect(&node, &PLAIN).unwrap();
            assert_eq!((found, reasons.len()), (engines, left), "{node:?}");
        }
    }

    #[test]
    fn an_engine_that_goes_by_another_file_is_told_from_those_of_others() {
        const OURS: &str = "/etc/containerd/config.toml";
        let other = ["/usr/bin/containerd", "--config", "/usr/share/containerd/config.toml"];
        let dockers = ["/usr/bin/containerd", "--config", "/var/run/docker/containerd/containerd.toml"];
        let usual = ["/usr/bin/containerd"];
        let version = ["/usr/bin/containerd", "--version"];
        let dump = ["/usr/bin/containerd", "--config", other[2], "config", "dump"];
        let serves = ["/usr/bin/containerd", "--config", other[2], "--version"];
        // The processes of the node, whether the last one is in a container, and what is said.
        #[rustfmt::skip]
        let rows: [(&[&[&str]], bool, bool); 11] = [
            (&[], false, false),
            (&[&usual], false, false),
            (&[&other], false, true),
            (&[&other], true, false),
            (&[&dockers], false, false),
            (&[&dockers, &other], false, true),
            (&[&other, &usual], false, false),
            (&[&version], false, false),
            (&[&version, &other], false, true),
            (&[&dump], false, false),
            (&[&serves], false, true),
        ];
        for (commands, contained, expected) in rows {
            let directory = tempfile::tempdir().unwrap();
            let (root, proc) = (directory.path().join("root"), directory.path().join("proc"));
            for file in [OURS, other[2], dockers[2]] {
                let file = root.join(file.strip_prefix('/').unwrap());
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, "").unwrap();
            }
            for (pid, command) in (1..).zip(commands) {
                let inside = if contained { directory.path() } else { &root };
                fake::add(&proc, inside, pid, 5, command);
            }
            let (live, processes) = (Live::under(&root), Processes::in_folder(&proc, &root));
            let said = elsewhere(&live, &processes, Engine::Containerd, Path::new(OURS));
            assert_eq!(said.is_some(), expected, "{commands:?}, {contained}: {said:?}");
            assert!(said.is_none_or(|said| said.ends_with(&format!("--config {}`", other[2]))));
            let users = Processes::of_a_user(&proc, &root);
            assert_eq!(elsewhere(&live, &users, Engine::Containerd, Path::new(OURS)), None);
        }
    }

    #[test]
    fn what_ends_or_becomes_another_program_is_no_second_engine_and_a_new_one_is() {
        const OURS: &str = "/etc/containerd/config.toml";
        let directory = tempfile::tempdir().unwrap();
        let (root, proc) = (directory.path().join("root"), directory.path().join("proc"));
        for file in [OURS, "/other.toml"] {
            let file = root.join(file.strip_prefix('/').unwrap());
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let other = ["/usr/bin/containerd", "--config", "/other.toml"];
        let here = root.join(&OURS[1..]);
        let look = |change: &(dyn Fn() + Sync)| {
            fake::add(&proc, &root, 1, 60, &["/usr/bin/containerd"]);
            fake::add(&proc, &root, 2, 0, &other);
            let processes = Processes::in_folder(&proc, &root);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(MOMENT / 4);
                    change();
                });
                let seen = settled(&processes, Engine::Containerd, &here);
                seen.iter().map(|process| process.pid).collect::<Vec<_>>()
            })
        };
        let ends = || std::fs::remove_dir_all(proc.join("2")).unwrap();
        assert_eq!(look(&|| ()), [1, 2]);
        assert_eq!(look(&ends), [1]);
        assert_eq!(look(&|| fake::add(&proc, &root, 2, 0, &["/usr/bin/containerd-shim-runc-v2"])), [1]);
        let again = || {
            ends();
            fake::add(&proc, &root, 3, 0, &other);
        };
        assert_eq!(look(&again), [1, 3]);
    }

    #[test]
    fn an_engine_of_another_release_than_the_one_that_is_asked_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let program = |folder: &str, version: &str| {
            let path = directory.path().join(folder).join("containerd");
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(
                &path,
                format!("#!/bin/sh\necho containerd github.com/containerd/x/v2 {version} abc\n"),
            )
            .unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let found = program("found", "1.7.24~ds1");
        std::os::unix::fs::symlink("found", directory.path().join("link")).unwrap();
        let rows = [
            (found.clone(), None),
            (directory.path().join("link/containerd"), None),
            (program("same", "v1.7.20"), None),
            (
                program("two", "2.1.9"),
                Some("/two/containerd (containerd github.com/containerd/x/v2 2.1.9 abc), and"),
            ),
            (program("silent", ""), Some("/silent/containerd (whose version is unknown), and")),
        ];
        let (live, proc) = (Live::under(Path::new("/")), directory.path().join("proc"));
        for (running, expected) in rows {
            fake::add(&proc, Path::new("/"), 7, 5, &[running.to_str().unwrap()]);
            let process = Processes::in_folder(&proc, Path::new("/")).running(&["containerd"]).remove(0);
            let said = other_rules(&live, &found, &process);
            let is_it = said.as_deref().map(|said| expected.is_some_and(|part| said.contains(part)));
            assert_eq!(is_it, expected.map(|_| true), "{}: {said:?}", running.display());
        }
    }

    #[test]
    fn what_crio_is_told_when_it_starts_goes_before_its_files() {
        let rows = [
            (vec![], None),
            (vec!["--log-level", "debug", "--config-dir", "/etc/crio/crio.conf.d/"], None),
            (vec!["--hooks-dir=/usr/share/containers/oci/hooks.d"], None),
            (vec!["-d", "/etc/other"], Some("with --config-dir /etc/other, which")),
            (vec!["--hooks-dir", "/opt/hooks"], Some("with --hooks-dir /opt/hooks, which")),
            (vec!["--runtimes=runc:/usr/bin/runc"], Some("with --runtimes runc:/usr/bin/runc, which")),
        ];
        // What systemd has in Environment= and in the files of EnvironmentFile=; a flag goes before it.
        let variables = [
            (vec![], "CONTAINER_LOG_LEVEL=debug\0CONTAINER_RUNTIMES=\0", None),
            (
                vec![],
                "A=b\0CONTAINER_HOOKS_DIR=/opt/hooks\0",
                Some("with CONTAINER_HOOKS_DIR=/opt/hooks, which"),
            ),
            (
                vec![],
                "CONTAINER_RUNTIMES=runc:/usr/bin/runc\0",
                Some("with CONTAINER_RUNTIMES=runc:/usr/bin/runc, "),
            ),
            (
                vec![],
                "CONTAINER_CONFIG_DIR=/etc/other\0",
                Some("with CONTAINER_CONFIG_DIR=/etc/other, which"),
            ),
            (
                vec![],
                "CONTAINER_CONFIG=/etc/hosts\0",
                Some("runs with /etc/hosts and not with /etc/crio/crio.conf"),
            ),
            (vec!["--hooks-dir=/usr/share/containers/oci/hooks.d"], "CONTAINER_HOOKS_DIR=/opt/hooks\0", None),
        ];
        let rows = rows.into_iter().map(|(flags, expected)| (flags, "", expected)).chain(variables);
        for (flags, variables, expected) in rows {
            let directory = tempfile::tempdir().unwrap();
            let command = [&["/usr/bin/crio"], &flags[..]].concat();
            fake::add(directory.path(), Path::new("/"), 7, 5, &command);
            std::fs::write(directory.path().join("7/environ"), variables).unwrap();
            let (live, processes) =
                (Live::under(Path::new("/")), Processes::in_folder(directory.path(), Path::new("/")));
            let said = elsewhere(&live, &processes, Engine::CriO, Path::new("/etc/crio/crio.conf"));
            let is_it = said.as_deref().map(|said| expected.is_some_and(|part| said.contains(part)));
            assert_eq!(is_it, expected.map(|_| true), "{flags:?} {variables:?}: {said:?}");
        }
    }

    #[test]
    fn the_containerd_of_a_distribution_is_an_engine_of_the_node() {
        let dead = Processes::of(Path::new("/mnt"));
        let k3s = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";
        let unit = ("/etc/systemd/system/k3s.service", "[Service]\nExecStart=/usr/local/bin/k3s server\n");
        let (c, d) = (Engine::Containerd, Engine::Docker);
        let node = || Fake::default().file(unit.0, unit.1);
        let docker = |node: Fake| {
            let node = node.program("/usr/bin/containerd").program("/usr/bin/dockerd");
            node.file("/etc/containerd/config.toml", "disabled_plugins = [\"cri\"]\n")
        };
        let rows = [
            (node(), vec![]),
            (node().file(k3s, "version = 3\n"), vec![c]),
            (node().program("/var/lib/rancher/k3s/data/current/bin/containerd"), vec![c]),
            // It is not the one that docker came with.
            (docker(node()).file(k3s, "version = 3\n"), vec![c, d]),
            (docker(Fake::default()), vec![d]),
        ];
        for (node, engines) in rows {
            let distribution = Distribution::of(&node, &dead).unwrap();
            assert_eq!(detect(&node, &distribution).unwrap().engines, engines, "{node:?}");
        }
    }
}
