//! Is the gate before every handler in each distribution's files, as that distribution's containerd reads them?
//!
//! Each row is the root directory of a node as the distribution leaves it, with a real containerd in the place of its
//! own, and the program's own commands. What containerd reads is asked independently of the installer: `config dump` in a
//! root that has the tree laid over this machine's, so that absolute imports mean the tree's files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::containerd::settings;
use crate::support::files;
use crate::support::needs::{self, skip};
use crate::support::root::Root;
use crate::support::run::{Done, run};

/// A distribution's node.
#[derive(Clone, Copy)]
struct Row {
    /// The tree, in `fixtures/distributions`.
    tree: &'static str,
    /// What it is recognized as.
    name: &'static str,
    /// The file that containerd is started with once the gate is installed.
    config: &'static str,
    /// The same before, where that is another.
    before: Option<&'static str>,
    /// Where containerd lies.
    programs: &'static str,
    /// The handlers that the gate is before, and the runtimes behind it.
    gated: &'static [(&'static str, &'static str)],
    /// The handlers that are not gated, and said to be open.
    open: &'static [&'static str],
    /// What `install` writes outside of the product's own folders.
    writes: &'static [&'static str],
    /// More arguments of `install`.
    arguments: &'static [&'static str],
}

const ETC: &str = "/etc/containerd/config.toml";
const K3S: &str = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";
const RKE2: &str = "/var/lib/rancher/rke2/agent/etc/containerd/config.toml";
const MICROK8S: &str = "/var/snap/microk8s/current/args/containerd-template.toml";

/// containerd as a service of its own.
const SERVICE: Row = Row {
    tree: "",
    name: "plain",
    config: ETC,
    before: None,
    programs: "/usr/bin",
    gated: &[("runc", "/usr/bin/runc")],
    open: &[],
    writes: &[ETC],
    arguments: &[],
};

const IN_K3S: Row = Row {
    tree: "k3s",
    name: "k3s",
    config: K3S,
    programs: "/var/lib/rancher/k3s/data/current/bin",
    gated: &[("crun", "/usr/bin/crun"), ("runc", "/var/lib/rancher/k3s/data/current/bin/runc")],
    open: &["runhcs-wcow-process", "spin"],
    writes: &["/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d/99-pss-guard.toml"],
    ..SERVICE
};

const ROWS: [Row; 14] = [
    Row { tree: "eks-al2023", name: "EKS", gated: &[("runc", "/usr/sbin/runc")], ..SERVICE },
    Row {
        tree: "eks-al2023-nvidia",
        name: "EKS",
        gated: &[("nvidia", "/usr/bin/nvidia-container-runtime"), ("runc", "/usr/bin/runc")],
        ..SERVICE
    },
    Row {
        tree: "aks",
        name: "AKS",
        gated: &[("runc", "/usr/bin/runc"), ("untrusted", "/usr/bin/runc")],
        ..SERVICE
    },
    Row {
        tree: "aks-crlf-kata",
        name: "AKS",
        gated: &[("runc", "/usr/bin/runc"), ("untrusted", "/usr/bin/runc")],
        open: &["kata"],
        ..SERVICE
    },
    Row { tree: "aks-both-tables", name: "AKS", ..SERVICE },
    IN_K3S,
    Row {
        tree: "k3s-version-2",
        gated: &[("runc", "/var/lib/rancher/k3s/data/current/bin/runc")],
        open: &[],
        writes: &["/var/lib/rancher/k3s/agent/etc/containerd/config.toml.d/99-pss-guard.toml"],
        ..IN_K3S
    },
    Row {
        tree: "rke2",
        name: "rke2",
        config: RKE2,
        programs: "/var/lib/rancher/rke2/bin",
        gated: &[
            ("nvidia", "/usr/local/nvidia/toolkit/nvidia-container-runtime"),
            ("runc", "/var/lib/rancher/rke2/bin/runc"),
        ],
        open: &["runhcs-wcow-process"],
        writes: &["/var/lib/rancher/rke2/agent/etc/containerd/config-v3.toml.d/99-pss-guard.toml"],
        ..SERVICE
    },
    Row {
        tree: "k0s",
        name: "k0s",
        config: "/etc/k0s/containerd.toml",
        programs: "/var/lib/k0s/bin",
        gated: &[("runc", "/var/lib/k0s/bin/runc")],
        writes: &["/etc/k0s/containerd.d/99-pss-guard.toml"],
        ..SERVICE
    },
    Row {
        tree: "microk8s",
        name: "MicroK8s",
        config: MICROK8S,
        programs: "/snap/microk8s/current/bin",
        gated: &[("runc", "/snap/microk8s/current/bin/runc")],
        open: &["kata", "nvidia-container-runtime"],
        writes: &[MICROK8S],
        ..SERVICE
    },
    Row {
        tree: "flatcar",
        name: "Flatcar",
        before: Some("/usr/share/containerd/config.toml"),
        writes: &[ETC, "/etc/systemd/system/containerd.service.d/10-pss-guard.conf"],
        ..SERVICE
    },
    Row {
        tree: "kind",
        name: "kind",
        gated: &[("runc", "/usr/bin/runc"), ("test-handler", "/usr/bin/runc")],
        ..SERVICE
    },
    Row { tree: "minikube", name: "minikube", ..SERVICE },
    Row { tree: "capi", writes: &["/etc/containerd/conf.d/99-pss-guard.toml"], ..SERVICE },
];

/// The words that only MicroK8s fills in, when it starts containerd.
const PLACEHOLDERS: [(&str, &str); 4] = [
    ("${RUNTIME_TYPE}", "io.containerd.runc.v2"),
    ("${RUNTIME}", "runc"),
    ("${SNAPSHOTTER}", "overlayfs"),
    ("${SNAP_DATA}", "/var/snap/microk8s/current"),
];

/// A node of a row.
struct Node {
    row: Row,
    name: String,
    root: Root,
}

/// What a containerd is told, key by key.
type Settings = BTreeMap<String, String>;

impl Node {
    fn new(row: Row, version: &str, containerd: &Path) -> Self {
        let root = Root::new();
        run(Command::new("cp").arg("-a").arg(trees().join(row.tree).join(".")).arg(root.root()))
            .expect_success();
        let node = Self { row, name: format!("{} with {version}", row.tree), root };
        let own = node.place(row.programs).join("containerd");
        fs::create_dir_all(own.parent().unwrap()).unwrap();
        if fs::hard_link(containerd, &own).is_err() {
            fs::copy(containerd, &own).unwrap();
        }
        for (_, runtime) in row.gated {
            program(&node.place(runtime));
        }
        // Where containerd can be asked for its own spec.
        program(&own.with_file_name("ctr"));
        node
    }

    /// Where a path of the node is here.
    fn place(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.root().join(path.as_ref().strip_prefix("/").unwrap())
    }

    /// What containerd reads by itself.
    fn dump(&self, config: &str) -> Settings {
        let text = fs::read_to_string(self.place(config)).unwrap();
        let text = PLACEHOLDERS.iter().fold(text, |text, (word, value)| text.replace(word, value));
        let over = tempfile::tempdir().unwrap();
        // On a file system of its own: no layer of an overlay may lie in another.
        let script = r#"mount -t tmpfs tmpfs "$1"; mkdir "$1/tree" "$1/merged"; cp -a "$2/." "$1/tree"; printf %s "$5" >"$1/tree$4"
            mount -t overlay -o "lowerdir=$1/tree:/" overlay "$1/merged"; exec chroot "$1/merged" "$3" --config "$4" config dump"#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", script, "sh"]).arg(over.path()).arg(self.root.root());
        command.arg(Path::new(self.row.programs).join("containerd")).args([config, &text]);
        settings(&run(&mut command).expect_success().stdout)
    }

    /// Every file that is not the product's own: its bytes, or where a link leads.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.root.root().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap().flatten() {
                let path = entry.path();
                let inside = Path::new("/").join(path.strip_prefix(self.root.root()).unwrap());
                let kind = entry.file_type().unwrap();
                if is_ours(&inside) {
                } else if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_symlink() {
                    found.insert(inside, fs::read_link(path).unwrap().into_os_string().into_encoded_bytes());
                } else {
                    found.insert(inside, fs::read(path).unwrap());
                }
            }
        }
        found
    }

    /// Which file is which, and when each was last written.
    fn identities(&self) -> BTreeMap<PathBuf, (u64, i64, i64)> {
        let identity = |path: PathBuf| {
            let file = fs::symlink_metadata(self.place(&path)).unwrap();
            (path, (file.ino(), file.mtime(), file.mtime_nsec()))
        };
        self.files().into_keys().map(identity).collect()
    }

    fn call(&self, command: &str, more: &[&str]) -> Done {
        self.root.call(&[&[command, "--engine", "containerd"], more].concat())
    }

    fn install(&self) -> Done {
        self.call("install", self.row.arguments).expect_success()
    }

    /// The status, and the states of the checks that are not good.
    fn status(&self) -> (Option<i32>, Value) {
        let done = self.call("status", &["--format", "json"]);
        (
            done.code,
            serde_json::from_str(&done.stdout)
                .unwrap_or_else(|error| panic!("{}: {error}: {done}", self.name)),
        )
    }

    /// Nothing stands, or not all of it.
    fn is_wrong(&self, when: &str) {
        let (code, status) = self.status();
        assert_eq!((code, &status["state"]), (Some(1), &"wrong".into()), "{}, {when}: {status:#}", self.name);
    }
}

/// Where the trees are.
fn trees() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/fixtures/distributions")
}

/// A program that does nothing.
fn program(path: &Path) {
    files::write(path, "#!/bin/sh\nexit 1\n");
    files::set_mode(path, 0o755);
}

/// What is the product's on every node.
fn is_ours(path: &Path) -> bool {
    let folders = ["/var/lib/pss-guard", "/var/log/pss-guard", "/run", "/usr/local"];
    folders.iter().any(|own| path.starts_with(own))
}

/// Calls a test with each containerd 2 that is there.
fn with_each_containerd(test: &str, body: impl Fn(&str, &Path)) {
    if !needs::can_run(test, &["unshare", "chroot"]) {
        return;
    }
    for version in ["containerd-2", "containerd-2.3", "containerd-2.4"] {
        let containerd = needs::part(version).join("containerd");
        if containerd.is_file() || skip(test, &format!("{version} (scripts/node-parts)")) {
            body(version, &containerd);
        }
    }
}

/// What the gate adds to what a containerd is told.
fn gated(row: &Row, before: &Settings) -> Settings {
    let mut expected = before.clone();
    for (handler, _) in row.gated {
        let table = format!(".plugins.io.containerd.cri.v1.runtime.containerd.runtimes.{handler}");
        assert!(before.contains_key(&format!("{table}.runtime_type")), "{}: {handler}", row.tree);
        let entry = format!("\"/var/lib/pss-guard/runtimes/containerd/{handler}/pss-guard-runtime\"");
        expected.insert(format!("{table}.options.BinaryName"), entry);
        for (list, word) in [
            ("pod_annotations", "pod-security.kubernetes.io/*"),
            ("container_annotations", "io.kubernetes.container.*"),
        ] {
            expected.insert(format!("{table}.{list}"), format!("[{word:?}]"));
        }
    }
    expected
}

/// What differs, `key = value`.
fn only(one: &Settings, other: &Settings) -> Vec<String> {
    let differs = one.iter().filter(|(key, value)| other.get(*key) != Some(value));
    differs.map(|(key, value)| format!("{key} = {value}")).collect()
}

/// Installed, installed again, lost, installed once more, uninstalled.
#[test]
fn every_handler_of_each_distribution_is_gated_and_the_bytes_come_back() {
    let mut all: Vec<String> =
        fs::read_dir(trees()).unwrap().map(|tree| tree.unwrap().file_name().into_string().unwrap()).collect();
    let mut seen: Vec<&str> = ROWS.iter().map(|row| row.tree).collect();
    all.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, all, "each tree has its row");
    with_each_containerd("distributions::every_handler", |version, containerd| {
        for row in ROWS {
            round_trip(&Node::new(row, version, containerd));
        }
    });
}

fn round_trip(node: &Node) {
    let Node { row, name, .. } = node;
    let (before, told) = (node.files(), node.dump(row.before.unwrap_or(row.config)));
    node.is_wrong("before");

    let installed = node.install();
    assert!(!installed.to_string().contains("not compared"), "{name}: {installed}");
    let (expected, now) = (gated(row, &told), node.dump(row.config));
    assert_eq!(
        only(&now, &expected),
        only(&expected, &now),
        "{name}: left: as it is, right: as it should be"
    );
    for (handler, runtime) in row.gated {
        let link = node.place(format!("/var/lib/pss-guard/runtimes/containerd/{handler}/runtime"));
        assert_eq!(fs::read_link(link).unwrap(), Path::new(runtime), "{name}: {handler}");
    }
    let now = node.files();
    let is_new = |path: &&PathBuf| {
        before.get(*path) != now.get(*path) && !path.to_string_lossy().contains("/pss-guard")
    };
    let written: Vec<_> = now.keys().filter(is_new).collect();
    assert_eq!(written, row.writes.iter().map(Path::new).collect::<Vec<_>>(), "{name}");
    assert!(before.keys().all(|path| now.contains_key(path)), "{name}: a file is gone");

    let identities = node.identities();
    node.install();
    assert_eq!(node.identities(), identities, "{name}: a second installation has nothing to do");
    let (code, status) = node.status();
    assert_eq!(code, Some(i32::from(!row.open.is_empty())), "{name}: {status:#}");
    assert_eq!(status["distribution"], row.name, "{name}");
    let mut open: Vec<_> = status["engines"][0]["ungated_handlers"].as_array().unwrap().iter().collect();
    open.sort_by_key(|handler| handler.as_str());
    assert_eq!(open, row.open.iter().collect::<Vec<_>>(), "{name}");

    // Half of it: each file that containerd reads or calls is gone, or is what it was, by itself.
    let links = row.gated.iter().flat_map(|(handler, _)| {
        ["runtime", "pss-guard-runtime"]
            .map(|link| PathBuf::from(format!("/var/lib/pss-guard/runtimes/containerd/{handler}/{link}")))
    });
    let gate = PathBuf::from("/var/lib/pss-guard/bin/pss-guard-gate");
    for path in links.chain([gate]).chain(row.writes.iter().map(PathBuf::from)) {
        let (place, aside) = (node.place(&path), node.place("/aside"));
        fs::rename(&place, &aside).unwrap();
        if let Some(bytes) = before.get(&path) {
            fs::write(&place, bytes).unwrap();
        }
        node.is_wrong(&format!("without {}", path.display()));
        fs::rename(&aside, &place).unwrap();
    }

    // The distribution writes its files again, or an upgrade takes the drop-in away.
    for path in row.writes {
        match before.get(Path::new(path)) {
            Some(bytes) => fs::write(node.place(path), bytes).unwrap(),
            None => fs::remove_file(node.place(path)).unwrap(),
        }
    }
    node.is_wrong("written again");
    node.install();
    assert_eq!(only(&node.dump(row.config), &expected), [""; 0], "{name}: installed once more");

    node.call("uninstall", &[]).expect_success();
    let left = node.files();
    let differ: Vec<_> =
        left.keys().chain(before.keys()).filter(|path| left.get(*path) != before.get(*path)).collect();
    assert_eq!(differ, [""; 0].iter().map(Path::new).collect::<Vec<_>>(), "{name}: uninstalled");
    node.is_wrong("uninstalled");
}

/// What a distribution adds after the installation is open until the next one.
#[test]
fn a_handler_that_comes_later_is_open() {
    const LATE: &str = "\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.late]\n\
                        runtime_type = 'io.containerd.runc.v2'\n";
    with_each_containerd("distributions::a_handler_that_comes_later", |version, containerd| {
        for row in ROWS.into_iter().filter(|row| ["k3s", "rke2", "eks-al2023", "aks"].contains(&row.tree)) {
            let node = Node::new(row, version, containerd);
            program(&node.place("/usr/bin/runc"));
            node.install();
            let config = node.place(row.config);
            fs::write(&config, fs::read_to_string(&config).unwrap() + LATE).unwrap();
            let (code, status) = node.status();
            assert_eq!(code, Some(1), "{}: {status:#}", node.name);
            assert!(
                status.to_string().contains("the containers of late without"),
                "{}: {status:#}",
                node.name
            );
            node.install();
            let (code, status) = node.status();
            assert_eq!(code, Some(i32::from(!row.open.is_empty())), "{}: {status:#}", node.name);
        }
    });
}

/// Another machine's containerd is not asked: that is printed, and no status is good.
#[test]
fn a_containerd_that_does_not_run_here_compares_nothing() {
    with_each_containerd("distributions::a_containerd_that_does_not_run", |version, containerd| {
        for row in ROWS.into_iter().filter(|row| ["k3s", "aks", "eks-al2023"].contains(&row.tree)) {
            let node = Node::new(row, version, containerd);
            let own = node.place(row.programs).join("containerd");
            fs::remove_file(&own).unwrap();
            // The header of a program for this machine, and nothing else.
            let machine = if cfg!(target_arch = "aarch64") { 0xb7 } else { 0x3e };
            let header = [b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0", &[machine, 0][..]].concat();
            fs::write(&own, header).unwrap();
            files::set_mode(&own, 0o755);
            let installed = node.install();
            assert!(installed.to_string().contains("not compared"), "{}: {installed}", node.name);
            let (code, status) = node.status();
            assert_ne!(code, Some(0), "{}: {status:#}", node.name);
            assert!(status.to_string().contains("containerd does not run here"), "{}: {status:#}", node.name);
        }
    });
}
