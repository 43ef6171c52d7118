//! Checks that an engine is on this node at all; otherwise `install` would claim a gate for an engine that does not
//! exist.
//!
//! A program, a process, or a configuration file of its own. None that engines share: CRI-O and podman read one folder of
//! hooks, and `containers.conf` comes with buildah and skopeo, too. So podman, which is no daemon, is its program.

use std::path::Path;

use super::detect::daemon;
use crate::node::distribution::{Distribution, PLAIN};
use crate::node::host::Node;
use crate::node::procfs::Processes;
use crate::paths::PROGRAM_FOLDERS;
use crate::pss::facts::Engine;

/// The configuration that is an engine's alone: files, and folders with something in them.
const fn configuration(engine: Engine) -> &'static [&'static str] {
    match engine {
        Engine::Containerd => &["/etc/containerd/config.toml"],
        Engine::CriO => &["/etc/crio/crio.conf", "/etc/crio/crio.conf.d"],
        Engine::Docker => &["/etc/docker/daemon.json"],
        Engine::Podman | Engine::None => &[],
    }
}

/// What was looked for, in a sentence, if the engine is not there. `config` is a file that somebody named.
pub fn missing(
    node: &dyn Node,
    processes: &Processes,
    engine: Engine,
    distribution: &Distribution,
    config: Option<&Path>,
) -> Option<String> {
    let daemon = daemon(engine);
    let name = daemon.programs.first().copied().unwrap_or_default();
    let is_configured =
        |path: &Path| node.is_folder(path) || node.read(path).map_or(true, |bytes| bytes.is_some());
    let own = configuration(engine).iter().map(Path::new);
    let of_distribution = (engine == Engine::Containerd && distribution.config != PLAIN.config)
        .then(|| Path::new(distribution.config.as_ref()));
    if daemon.is_on(node, distribution)
        || own.chain(of_distribution).chain(config).any(is_configured)
        || !processes.running(daemon.programs).is_empty()
    {
        return None;
    }
    let folders: Vec<&str> = distribution.programs.iter().map(AsRef::as_ref).chain(PROGRAM_FOLDERS).collect();
    let mut looked = vec![format!("no program {name} in {}", folders.join(", "))];
    looked.extend(configuration(engine).iter().map(|path| format!("no {path}")));
    looked.extend(of_distribution.into_iter().chain(config).map(|path| format!("no {}", path.display())));
    if processes.are_seen() {
        looked.push(format!("no process {name} of root on the node itself"));
    }
    Some(format!("{} is not on this node: {}", engine.name(), looked.join("; ")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::missing;
    use crate::node::distribution::{Distribution, PLAIN};
    use crate::node::host::fake::Fake;
    use crate::node::procfs::{Processes, fake};
    use crate::pss::facts::Engine;

    #[test]
    fn what_engines_share_is_no_proof_of_one() {
        let shared = || {
            let hook = "/usr/share/containers/oci/hooks.d/pss-guard.json";
            Fake::default()
                .file(hook, "{}")
                .file("/etc/containers/containers.conf", "")
                .program("/usr/bin/crictl")
        };
        let program = |name: &str| shared().program(&format!("/usr/bin/{name}"));
        let (c, o, p, d) = (Engine::Containerd, Engine::CriO, Engine::Podman, Engine::Docker);
        let rows = [
            (shared(), vec![]),
            (program("containerd"), vec![c]),
            (program("crio"), vec![o]),
            (program("podman"), vec![p]),
            (program("dockerd"), vec![d]),
            (program("docker"), vec![]),
            (shared().file("/etc/containerd/config.toml", ""), vec![c]),
            (shared().file("/etc/crio/crio.conf.d/10-x.conf", ""), vec![o]),
            (shared().file("/etc/crio/crio.conf", ""), vec![o]),
            (shared().file("/etc/docker/daemon.json", "{}"), vec![d]),
        ];
        let dead = Processes::of(Path::new("/mnt"));
        for (node, there) in rows {
            let found: Vec<Engine> = [c, o, p, d]
                .into_iter()
                .filter(|engine| missing(&node, &dead, *engine, &PLAIN, None).is_none())
                .collect();
            assert_eq!(found, there, "{node:?}");
        }
        // A process is proof wherever its program lies; and what was looked for is said.
        let directory = tempfile::tempdir().unwrap();
        let alive = || Processes::in_folder(directory.path(), Path::new("/"));
        let said = missing(&shared(), &alive(), o, &PLAIN, Some(Path::new("/etc/my.conf"))).unwrap();
        for part in [
            "cri-o is not on this node: no program crio in /usr/local/sbin, ",
            "no /etc/crio/crio.conf; ",
            "no /etc/my.conf; ",
            "no process crio",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        fake::add(directory.path(), Path::new("/"), 7, 5, &["/snap/bin/crio"]);
        assert_eq!(missing(&shared(), &alive(), o, &PLAIN, None), None);
        assert_eq!(
            missing(&shared().file("/etc/my.toml", ""), &dead, c, &PLAIN, Some(Path::new("/etc/my.toml"))),
            None
        );
        // One that a distribution brings: by its file, or by its program.
        let unit = ("/etc/systemd/system/k3s.service", "[Service]\nExecStart=/usr/local/bin/k3s server\n");
        let node = || shared().file(unit.0, unit.1);
        let k3s = Distribution::of(&node(), &dead).unwrap();
        let said = missing(&node(), &dead, c, &k3s, None).unwrap();
        for part in [
            "no program containerd in /var/lib/rancher/k3s/data/current/bin, /usr/local/sbin",
            k3s.config.as_ref(),
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let program = "/var/lib/rancher/k3s/data/current/bin/containerd";
        for node in [node().file(&k3s.config, ""), node().program(program)] {
            assert_eq!(missing(&node, &dead, c, &k3s, None), None);
        }
    }
}
