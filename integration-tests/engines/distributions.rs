//! Trees of real distributions, as root directories: what the installer plans there, what a real containerd 2 makes of it,
//! and what is left after it is undone.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use pss_guard::install::engines::containerd::INSTALLER;
use pss_guard::install::{Method, Plan, Request, Stripped, entry_path};
use pss_guard::node::distribution::{Change, Distribution, PLAIN};
use pss_guard::node::host::Live;
use pss_guard::pss::facts::Engine;

use crate::support::needs::{self, skip};
use crate::support::run::run;

/// A distribution's node.
struct Row {
    tree: &'static str,
    distribution: Distribution,
    /// Where containerd is.
    programs: &'static str,
    /// Handlers that the gate is before, and the runtimes behind it.
    gated: &'static [(&'static str, &'static str)],
    /// Handlers that are named as not gated.
    open: &'static [&'static str],
    /// The files that are written.
    written: &'static [&'static str],
}

fn plain(config: &'static str) -> Distribution {
    Distribution { config: config.into(), ..PLAIN.clone() }
}

fn rancher(name: &'static str, config: &'static str, programs: &'static str) -> Distribution {
    Distribution {
        name,
        change: Change::DropIn { restarts: false },
        programs: vec![programs.into()],
        ..plain(config)
    }
}

const ETC: &str = "/etc/containerd/config.toml";
const K3S: &str = "/var/lib/rancher/k3s/data/current/bin";
const RKE2: &str = "/var/lib/rancher/rke2/bin";
const MICROK8S: &str = "/snap/microk8s/current/bin";

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    const RUNC: &[(&str, &str)] = &[("runc", "/usr/bin/runc")];
    const TEMPLATE: &str = "/var/snap/microk8s/current/args/containerd-template.toml";
    let k3s = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";
    let rke2 = "/var/lib/rancher/rke2/agent/etc/containerd/config.toml";
    let row = |tree, distribution, programs, gated, open, written| Row { tree, distribution, programs, gated, open, written };
    vec![
        row("eks-al2023", plain(ETC), "/usr/bin", &[("runc", "/usr/sbin/runc")], &[], &[ETC]),
        row("eks-al2023-nvidia", plain(ETC), "/usr/bin",
            &[("runc", "/usr/bin/runc"), ("nvidia", "/usr/bin/nvidia-container-runtime")], &[], &[ETC]),
        row("aks", plain(ETC), "/usr/bin", &[("runc", "/usr/bin/runc"), ("untrusted", "/usr/bin/runc")], &[], &[ETC]),
        row("aks-crlf-kata", plain(ETC), "/usr/bin",
            &[("runc", "/usr/bin/runc"), ("untrusted", "/usr/bin/runc")], &["kata"], &[ETC]),
        row("aks-both-tables", plain(ETC), "/usr/bin", RUNC, &[], &[ETC]),
        row("k3s", rancher("k3s", k3s, K3S), K3S,
            &[("runc", "/var/lib/rancher/k3s/data/current/bin/runc"), ("crun", "/usr/bin/crun")],
            &["runhcs-wcow-process", "spin"],
            &["/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d/99-pss-guard.toml"]),
        row("k3s-version-2", rancher("k3s", k3s, K3S), K3S,
            &[("runc", "/var/lib/rancher/k3s/data/current/bin/runc")], &[],
            &["/var/lib/rancher/k3s/agent/etc/containerd/config.toml.d/99-pss-guard.toml"]),
        row("rke2", rancher("rke2", rke2, RKE2), RKE2,
            &[("runc", "/var/lib/rancher/rke2/bin/runc"), ("nvidia", "/usr/local/nvidia/toolkit/nvidia-container-runtime")],
            &["runhcs-wcow-process"],
            &["/var/lib/rancher/rke2/agent/etc/containerd/config-v3.toml.d/99-pss-guard.toml"]),
        row("k0s", Distribution {
                name: "k0s", change: Change::DropIn { restarts: true },
                programs: vec!["/var/lib/k0s/bin".into()], ..plain("/etc/k0s/containerd.toml")
            }, "/var/lib/k0s/bin", &[("runc", "/var/lib/k0s/bin/runc")], &[], &["/etc/k0s/containerd.d/99-pss-guard.toml"]),
        row("microk8s", Distribution {
                name: "MicroK8s", change: Change::Template(TEMPLATE.into()), programs: vec![MICROK8S.into()],
                ..plain("/var/snap/microk8s/current/args/containerd.toml")
            }, MICROK8S, &[("runc", "/snap/microk8s/current/bin/runc")], &["nvidia-container-runtime", "kata"], &[TEMPLATE]),
        row("flatcar", Distribution {
                name: "Flatcar", change: Change::Copy(ETC.into()), ..plain("/usr/share/containerd/config.toml")
            }, "/usr/bin", RUNC, &[], &[ETC, "/etc/systemd/system/containerd.service.d/10-pss-guard.conf"]),
        row("kind", plain(ETC), "/usr/bin", &[("runc", "/usr/bin/runc"), ("test-handler", "/usr/bin/runc")], &[], &[ETC]),
        row("minikube", plain(ETC), "/usr/bin", RUNC, &[], &[ETC]),
        row("capi", plain(ETC), "/usr/bin", RUNC, &[], &["/etc/containerd/conf.d/99-pss-guard.toml"]),
    ]
}

/// The folder of the captured trees.
fn trees() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/fixtures/distributions")
}

/// A node of a row, with a real containerd in it.
struct Node {
    root: tempfile::TempDir,
    live: Live,
    row: Row,
}

impl Node {
    fn new(row: Row, containerd: &Path) -> Self {
        let root = tempfile::tempdir().unwrap();
        copy(&trees().join(row.tree), root.path());
        let node = Self { live: Live::under(root.path()), root, row };
        let daemon = node.place(node.row.programs).join("containerd");
        fs::create_dir_all(daemon.parent().unwrap()).unwrap();
        if fs::hard_link(containerd, &daemon).is_err() {
            fs::copy(containerd, &daemon).unwrap();
        }
        program(&daemon.with_file_name("ctr"));
        for (_, runtime) in node.row.gated {
            program(&node.place(runtime));
        }
        node
    }

    /// Where a path of the node is here.
    fn place(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn plan(&self, method: Method) -> Plan {
        let request = Request { method, config: None, distribution: &self.row.distribution };
        (INSTALLER.plan)(&self.live, &request).unwrap_or_else(|error| panic!("{}: {error}", self.row.tree))
    }

    fn apply(&self, plan: &Plan) {
        for change in &plan.changes {
            let path = self.place(change.path.to_str().unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &change.after).unwrap();
        }
        for entry in &plan.entries {
            let link = entry_path(Engine::Containerd, &entry.handler).with_file_name("runtime");
            let link = self.place(link.to_str().unwrap());
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            let _ = fs::remove_file(&link);
            symlink(&entry.runtime, link).unwrap();
        }
    }

    /// The file that containerd is started with.
    fn main(&self) -> PathBuf {
        let unit = self.place("/etc/systemd/system/containerd.service.d/10-pss-guard.conf");
        match &self.row.distribution.change {
            Change::Template(template) => self.place(template),
            Change::Copy(copy) if fs::read_to_string(unit).is_ok_and(|unit| unit.contains(&**copy)) => {
                self.place(copy)
            }
            _ => self.place(&self.row.distribution.config),
        }
    }

    /// What containerd says of itself with the files of the tree, key by key.
    fn dump(&self) -> BTreeMap<String, String> {
        let main = self.main();
        let root = self.root.path().to_str().unwrap();
        let mut text = String::new();
        for line in fs::read_to_string(&main).unwrap().split_inclusive('\n') {
            let is_import = line.trim_start().starts_with("imports");
            text += &if is_import { line.replace("\"/", &format!("\"{root}/")) } else { line.to_owned() };
        }
        for (word, value) in [
            ("${RUNTIME_TYPE}", "io.containerd.runc.v2"),
            ("${RUNTIME}", "runc"),
            ("${SNAPSHOTTER}", "overlayfs"),
            ("${SNAP_DATA}", "/var/snap/microk8s/current"),
        ] {
            text = text.replace(word, value);
        }
        let here = main.with_file_name("read-by-the-test");
        fs::write(&here, text).unwrap();
        let containerd = self.place(self.row.programs).join("containerd");
        let done = run(Command::new(containerd).arg("--config").arg(&here).args(["config", "dump"]))
            .expect_success();
        fs::remove_file(here).unwrap();
        let mut found = BTreeMap::new();
        flatten(&toml::Value::Table(done.stdout.parse().unwrap()), String::new(), &mut found);
        found.retain(|key, value| {
            let is_nothing = ["\"\"", "0", "false", "[]"].contains(&value.as_str());
            !is_nothing && key != ".imports" && !(key.contains(".sandbox") && value == "\"podsandbox\"")
        });
        found
    }
}

/// A program that does nothing.
fn program(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { fs::copy(&path, &target).map(drop).unwrap() }
    }
}

fn flatten(value: &toml::Value, key: String, found: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            table.iter().for_each(|(name, value)| flatten(value, format!("{key}.{name}"), found));
        }
        toml::Value::String(text) => drop(found.insert(key, format!("{text:?}"))),
        toml::Value::Integer(number) => drop(found.insert(key, number.to_string())),
        toml::Value::Boolean(flag) => drop(found.insert(key, flag.to_string())),
        toml::Value::Array(list) => {
            let words: Vec<_> = list
                .iter()
                .map(|value| value.as_str().map_or(format!("{value:?}"), |s| format!("{s:?}")))
                .collect();
            found.insert(key, format!("[{}]", words.join(", ")));
        }
        other => drop(found.insert(key, format!("{other:?}"))),
    }
}

/// What differs between two dumps, `key = value`.
fn only(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> Vec<String> {
    one.iter()
        .filter(|(key, value)| other.get(*key) != Some(value))
        .map(|(k, v)| format!("{k} = {v}"))
        .collect()
}

fn containerd() -> Option<PathBuf> {
    let containerd = needs::part("containerd-2").join("containerd");
    if containerd.is_file() {
        return Some(containerd);
    }
    skip("the trees of distributions", &format!("{} (scripts/node-parts)", containerd.display()));
    None
}

#[test]
fn each_tree_is_gated_whole_and_nothing_else_changes() {
    let Some(containerd) = containerd() else { return };
    let mut seen: Vec<&str> = Vec::new();
    for row in rows() {
        seen.push(row.tree);
        let node = Node::new(row, &containerd);
        let Row { tree, gated, open, written, .. } = &node.row;
        let before = node.dump();
        let plan = node.plan(Method::Runtime);
        assert_eq!(plan.not_compared, None, "{tree}");
        let entries: Vec<_> = plan
            .entries
            .iter()
            .map(|entry| (entry.handler.as_str(), entry.runtime.to_str().unwrap()))
            .collect();
        assert_eq!(entries, *gated, "{tree}");
        let ungated: Vec<_> = plan.ungated.iter().map(|(handler, _)| handler.as_str()).collect();
        assert_eq!(ungated, *open, "{tree}");
        let files: Vec<_> = plan.changes.iter().map(|change| change.path.to_str().unwrap()).collect();
        assert_eq!(files, *written, "{tree}");
        node.apply(&plan);

        let after = node.dump();
        let mut expected = before.clone();
        for (handler, _) in *gated {
            let table = format!(".plugins.io.containerd.cri.v1.runtime.containerd.runtimes.{handler}");
            let entry = entry_path(Engine::Containerd, handler);
            expected.insert(format!("{table}.options.BinaryName"), format!("{:?}", entry.to_str().unwrap()));
            expected
                .insert(format!("{table}.pod_annotations"), "[\"pod-security.kubernetes.io/*\"]".to_owned());
            expected.insert(
                format!("{table}.container_annotations"),
                "[\"io.kubernetes.container.*\"]".to_owned(),
            );
        }
        assert_eq!(
            only(&after, &expected),
            only(&expected, &after),
            "{tree}: left: as it is, right: as it should be"
        );

        let again = node.plan(Method::Runtime);
        assert_eq!(
            (again.changes, again.entries),
            (Vec::new(), plan.entries.clone()),
            "{tree}: planned again"
        );
        for change in &plan.changes {
            let stripped = Stripped {
                path: &change.path,
                original: change.before.as_deref(),
                installed: &change.after,
                now: &change.after,
                entries: &plan.entries,
                held: false,
            };
            assert_eq!((INSTALLER.strip)(&stripped).unwrap(), change.before, "{tree}: undone");
        }
    }
    let mut all: Vec<String> =
        fs::read_dir(trees()).unwrap().map(|tree| tree.unwrap().file_name().into_string().unwrap()).collect();
    all.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, all, "each tree has its row");
}

/// What a distribution adds after the installation is open, and the next plan covers it.
#[test]
fn a_handler_that_comes_later_is_seen() {
    let Some(containerd) = containerd() else { return };
    let more = "\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.late]\nruntime_type = 'io.containerd.runc.v2'\n";
    for row in rows().into_iter().filter(|row| ["k3s", "rke2", "eks-al2023", "aks"].contains(&row.tree)) {
        let node = Node::new(row, &containerd);
        node.apply(&node.plan(Method::Runtime));
        let main = node.main();
        fs::write(&main, fs::read_to_string(&main).unwrap() + more).unwrap();
        let plan = node.plan(Method::Runtime);
        assert_eq!(plan.changes.len(), 1, "{}", node.row.tree);
        assert!(plan.entries.iter().any(|entry| entry.handler == "late"), "{}", node.row.tree);
        node.apply(&plan);
        assert_eq!(node.plan(Method::Runtime).changes, [], "{}", node.row.tree);
    }
}

/// Another machine's containerd is not asked, and that is said.
#[test]
fn a_containerd_that_does_not_run_here_compares_nothing() {
    let Some(containerd) = containerd() else { return };
    for row in rows().into_iter().filter(|row| ["k3s", "aks", "eks-al2023"].contains(&row.tree)) {
        let node = Node::new(row, &containerd);
        let program = node.place(node.row.programs).join("containerd");
        fs::remove_file(&program).unwrap();
        // The header of a program for AArch64.
        fs::write(&program, b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let plan = node.plan(Method::Runtime);
        let why = plan.not_compared.clone().unwrap();
        assert!(why.contains("containerd does not run here"), "{why}");
        let handlers: Vec<_> = plan.entries.iter().map(|entry| entry.handler.as_str()).collect();
        let expected: Vec<_> = node.row.gated.iter().map(|(handler, _)| *handler).collect();
        assert_eq!(handlers, expected, "{}", node.row.tree);
    }
}
