//! Is the gate before every handler in each distribution's files, as that distribution's containerd reads them?
//!
//! Each row is the root directory of a node as the distribution leaves it, with a real containerd in the place of its
//! own. What containerd reads is asked independently of the installer: `config dump` in a root that has the tree laid
//! over this machine's, so that absolute imports mean the tree's files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::containerd::settings;
use crate::support::needs::{self, skip};
use crate::support::root::Root;
use crate::support::run::run;
use crate::support::{files, program};

/// A node of a distribution.
struct Row {
    /// The tree, in `fixtures/distributions`.
    tree: &'static str,
    /// The file that containerd is started with once the gate is installed, and before where that is another.
    config: (&'static str, Option<&'static str>),
    /// Where its programs lie.
    programs: &'static str,
    /// What `install` writes outside of the product's own folders.
    writes: &'static [&'static str],
    /// What only a distribution's own tools fill in, and with what.
    placeholders: &'static [(&'static str, &'static str)],
    /// More arguments of `install`.
    arguments: &'static [&'static str],
}

const USUAL: Row = Row {
    tree: "",
    config: ("/etc/containerd/config.toml", None),
    programs: "usr/bin",
    writes: &["etc/containerd/config.toml"],
    placeholders: &[],
    arguments: &[],
};

const K3S: &str = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";
const RKE2: &str = "/var/lib/rancher/rke2/agent/etc/containerd/config.toml";
const MICROK8S: &str = "/var/snap/microk8s/current/args/containerd-template.toml";

const ROWS: [Row; 10] = [
    Row { tree: "eks", programs: "usr/bin", ..USUAL },
    Row { tree: "aks", ..USUAL },
    Row { tree: "kind", programs: "usr/local/bin", ..USUAL },
    Row { tree: "minikube", ..USUAL },
    Row {
        tree: "capi",
        programs: "usr/local/bin",
        writes: &["etc/containerd/conf.d/99-pss-guard.toml"],
        ..USUAL
    },
    Row {
        tree: "flatcar",
        config: ("/etc/containerd/config.toml", Some("/usr/share/containerd/config.toml")),
        writes: &["etc/containerd/config.toml", "etc/systemd/system/containerd.service.d/10-pss-guard.conf"],
        ..USUAL
    },
    Row {
        tree: "k3s",
        config: (K3S, None),
        programs: "var/lib/rancher/k3s/data/current/bin",
        writes: &["var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d/99-pss-guard.toml"],
        ..USUAL
    },
    Row {
        tree: "rke2",
        config: (RKE2, None),
        programs: "var/lib/rancher/rke2/bin",
        writes: &["var/lib/rancher/rke2/agent/etc/containerd/config-v3.toml.d/99-pss-guard.toml"],
        ..USUAL
    },
    Row {
        tree: "k0s",
        config: ("/etc/k0s/containerd.toml", None),
        programs: "var/lib/k0s/bin",
        writes: &["etc/k0s/containerd.d/99-pss-guard.toml"],
        ..USUAL
    },
    Row {
        tree: "microk8s",
        config: (MICROK8S, None),
        programs: "snap/microk8s/current/bin",
        writes: &["var/snap/microk8s/current/args/containerd-template.toml"],
        placeholders: &[
            ("${RUNTIME_TYPE}", "io.containerd.runc.v2"),
            ("${RUNTIME}", "runc"),
            ("${SNAPSHOTTER}", "overlayfs"),
        ],
        ..USUAL
    },
];

/// A node of a row.
struct Tree {
    row: &'static Row,
    root: Root,
}

/// Every file outside of the product's folders: its bytes, or where a link leads.
type Files = BTreeMap<PathBuf, Vec<u8>>;

impl Tree {
    fn new(row: &'static Row, containerd: &Path) -> Self {
        let root = Root::new();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("integration-tests/fixtures/distributions")
            .join(row.tree);
        run(Command::new("cp").arg("-a").arg(fixture.join(".")).arg(root.root())).expect_success();
        let programs = root.path(row.programs);
        fs::create_dir_all(&programs).unwrap();
        if fs::hard_link(containerd, programs.join("containerd")).is_err() {
            fs::copy(containerd, programs.join("containerd")).unwrap();
        }
        let runc = programs.join("runc");
        if !runc.exists() {
            files::write(&runc, "#!/bin/sh\nexit 1\n");
            files::set_mode(&runc, 0o755);
        }
        Self { row, root }
    }

    /// All that containerd is told, as it reads the file by itself.
    fn dump(&self, config: &str) -> BTreeMap<String, String> {
        let over = tempfile::tempdir().unwrap();
        let (merged, filled) = (over.path().join("merged"), over.path().join("filled"));
        for folder in [&merged, &filled] {
            fs::create_dir(folder).unwrap();
        }
        let text = fs::read_to_string(self.root.path(config.trim_start_matches('/'))).unwrap();
        let text = self.row.placeholders.iter().fold(text, |text, (name, value)| text.replace(name, value));
        files::write(&filled.join(config.trim_start_matches('/')), &text);
        let lower = format!("lowerdir={}:{}:/", filled.display(), self.root.root().display());
        let containerd = Path::new("/").join(self.row.programs).join("containerd");
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "sh",
            "-ec",
            r#"mount -t overlay -o "$1" overlay "$2"; exec chroot "$2" "$3" --config "$4" config dump"#,
            "sh",
        ]);
        command.args([lower.as_str()]).arg(&merged).arg(containerd).arg(config);
        settings(&run(&mut command).expect_success().stdout)
    }

    fn files(&self) -> Files {
        let mut found = Files::new();
        let mut folders = vec![self.root.root().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap().flatten() {
                let path = entry.path();
                let inside = path.strip_prefix(self.root.root()).unwrap().to_owned();
                if is_ours(&inside) {
                    continue;
                }
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
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

    /// When each file was last changed, and which file it is.
    fn identities(&self) -> BTreeMap<PathBuf, (u64, i64, i64)> {
        let identity = |path: PathBuf| {
            let file = fs::symlink_metadata(self.root.root().join(&path)).unwrap();
            (path, (file.ino(), file.mtime(), file.mtime_nsec()))
        };
        self.files().into_keys().map(identity).collect()
    }

    fn call(&self, arguments: &[&str]) -> crate::support::run::Done {
        self.root.call(&[arguments, &["--engine", "containerd"]].concat())
    }
}

/// What belongs to the product on every node.
fn is_ours(inside: &Path) -> bool {
    ["var/lib/pss-guard", "run", "usr/local", "etc/tmpfiles.d", "var/log"]
        .iter()
        .any(|own| inside.starts_with(own))
        || inside.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pss-guard"))
}

/// What the gate adds to what a containerd is told: its entry as the program of each handler that is runc's kind.
fn gated(before: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut expected = before.clone();
    let kinds = before
        .iter()
        .filter(|(key, kind)| key.ends_with(".runtime_type") && kind.starts_with("\"io.containerd.runc."));
    for (key, _) in kinds {
        let table = key.trim_end_matches(".runtime_type");
        let handler = table.rsplit('.').next().unwrap();
        let entry = format!("\"/var/lib/pss-guard/runtimes/containerd/{handler}/pss-guard-runtime\"");
        expected.insert(format!("{table}.options.BinaryName"), entry);
        for (list, word) in [
            ("pod_annotations", "pod-security.kubernetes.io/*"),
            ("container_annotations", "io.kubernetes.container.*"),
        ] {
            let has = expected.entry(format!("{table}.{list}")).or_insert_with(|| "[]".to_owned());
            let words = has.trim_matches(['[', ']']);
            *has = if words.is_empty() { format!("[{word:?}]") } else { format!("[{words}, {word:?}]") };
        }
    }
    assert_ne!(expected, *before, "a node has a handler of runc's kind");
    expected
}

#[test]
fn every_handler_of_each_distribution_is_behind_the_gate_and_the_bytes_come_back() {
    const NAME: &str = "engines::distributions";
    if !needs::can_run(NAME, &["unshare", "chroot"]) {
        return;
    }
    for version in ["containerd-2", "containerd-2.3", "containerd-2.4"] {
        let containerd = needs::part(version).join("containerd");
        if containerd.is_file() || skip(NAME, version) {
            for row in &ROWS {
                round_trip(row, version, &containerd);
            }
        }
    }
}

/// Installs, installs again, loses what was written, gets it back, and uninstalls.
fn round_trip(row: &'static Row, version: &str, containerd: &Path) {
    let name = format!("{} with {version}", row.tree);
    let tree = Tree::new(row, containerd);
    let (config, before) = row.config;
    let (files, told) = (tree.files(), tree.dump(before.unwrap_or(config)));

    let install = [&["install"], row.arguments].concat();
    let done = tree.call(&install).expect_success();
    assert!(!done.to_string().contains("not compared"), "{name}: {done}");
    assert_eq!(tree.dump(config), gated(&told), "{name}");
    let now = tree.files();
    let mut written: Vec<&PathBuf> =
        now.iter().filter(|(path, bytes)| files.get(*path) != Some(*bytes)).map(|(path, _)| path).collect();
    written.sort();
    let mut expected: Vec<PathBuf> = row.writes.iter().map(PathBuf::from).collect();
    expected.sort();
    assert_eq!(written, expected.iter().collect::<Vec<_>>(), "{name}");
    assert!(files.keys().all(|path| now.contains_key(path)), "{name}: something is gone");

    let identities = tree.identities();
    tree.call(&install).expect_success();
    assert_eq!(tree.identities(), identities, "{name}: a second installation has nothing to do");
    let status = tree.call(&["status"]);
    assert_eq!(status.code, Some(0), "{name}: {status}");

    // The distribution writes its files again, or somebody takes the drop-in away.
    for path in row.writes {
        match files.get(Path::new(path)) {
            Some(bytes) => fs::write(tree.root.path(path), bytes).unwrap(),
            None => fs::remove_file(tree.root.path(path)).unwrap(),
        }
    }
    let status = tree.call(&["status"]);
    assert_eq!(status.code, Some(1), "{name}: the gate is not before its containers: {status}");
    tree.call(&install).expect_success();
    assert_eq!(tree.dump(config), gated(&told), "{name}");

    tree.call(&["uninstall"]).expect_success();
    let left = tree.files();
    assert!(left == files, "{name}: {:?}", left.keys().collect::<Vec<_>>());
}
