//! Captured containers of containerd as other distributions lay them out: where containerd and the kubelet keep things
//! changes no verdict.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::program;

/// Where a distribution has what lies at the default places.
struct Layout {
    name: &'static str,
    state: &'static str,
    root: &'static str,
    kubelet: &'static str,
}

const DEFAULT: Layout = Layout {
    name: "plain",
    state: "/run/containerd",
    root: "/var/lib/containerd",
    kubelet: "/var/lib/kubelet",
};

const LAYOUTS: [Layout; 4] = [
    Layout {
        name: "k3s",
        state: "/run/k3s/containerd",
        root: "/var/lib/rancher/k3s/agent/containerd",
        kubelet: "/var/lib/kubelet",
    },
    Layout {
        name: "rke2 with --data-dir",
        state: "/run/k3s/containerd",
        root: "/data/rke2/agent/containerd",
        kubelet: "/var/lib/kubelet",
    },
    Layout {
        name: "k0s",
        state: "/run/k0s/containerd",
        root: "/var/lib/k0s/containerd",
        kubelet: "/var/lib/k0s/kubelet",
    },
    Layout {
        name: "MicroK8s",
        state: "/var/snap/microk8s/common/run/containerd",
        root: "/var/snap/microk8s/common/var/lib/containerd",
        kubelet: "/var/snap/microk8s/common/var/lib/kubelet",
    },
];

const LEVELS: [&str; 3] = ["baseline:latest", "restricted:latest", "restricted:v1.24"];

impl Layout {
    /// A text with the default places in the words of this layout.
    fn moved(&self, text: &str) -> String {
        let places =
            [(DEFAULT.state, self.state), (DEFAULT.root, self.root), (DEFAULT.kubelet, self.kubelet)];
        places.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/corpus")
}

/// The cases of containerd, as `<engine>/<case>`.
fn cases() -> Vec<String> {
    let names = |folder: &Path| {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let engines = names(&corpus()).into_iter().filter(|engine| engine.starts_with("containerd-"));
    let cases = engines.flat_map(|engine| {
        let cases = names(&corpus().join(&engine));
        cases.into_iter().map(move |case| format!("{engine}/{case}"))
    });
    let mut cases: Vec<String> = cases.collect();
    cases.sort();
    cases
}

/// Copies a case with each of its texts changed.
fn copy(from: &Path, to: &Path, change: &impl Fn(&str) -> String) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target, change);
        } else {
            fs::write(target, change(&fs::read_to_string(&path).unwrap())).unwrap();
        }
    }
}

/// What `check` prints of all cases, which lie below this folder.
fn check(folder: &Path, level: &str, cases: &[String]) -> String {
    let policy = tempfile::NamedTempFile::new().unwrap();
    fs::write(policy.path(), "mode = \"enforce\"\n").unwrap();
    let output = Command::new(program::binary())
        .args(["check", "--format", "json", "--level", level, "--policy"])
        .arg(policy.path())
        .args(cases)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The first line in which two texts differ.
fn difference(one: &str, other: &str) -> Option<String> {
    let mut lines = one.lines().zip(other.lines());
    let first = lines.find(|(one, other)| one != other);
    first
        .map(|(one, other)| format!("{one}\ninstead of\n{other}"))
        .or_else(|| (one != other).then(|| "another number of lines".to_owned()))
}

#[test]
fn a_distributions_layout_changes_no_verdict() {
    let cases = cases();
    assert!(cases.len() >= 144, "only {} cases: the corpus is not whole", cases.len());
    let mut counted = 0;
    for level in LEVELS {
        let original = check(&corpus(), level, &cases);
        assert!(original.contains("\"deny\"") && original.contains("\"allow\""), "{level}");
        counted += original.lines().count();
        for layout in &LAYOUTS {
            let node = tempfile::tempdir().unwrap();
            for case in &cases {
                copy(&corpus().join(case), &node.path().join(case), &|text| layout.moved(text));
            }
            let moved = check(node.path(), level, &cases);
            // A host path is named in the layout's words.
            let wrong = difference(&moved, &layout.moved(&original));
            assert!(wrong.is_none(), "{} at {level}: {}", layout.name, wrong.unwrap_or_default());
        }
    }
    println!("{counted} verdicts in {} layouts", LAYOUTS.len());
}

/// The other side of it: with the kubelet's root of another distribution the volumes of a pod are paths of the host. One
/// root counts, and not each that is known.
#[test]
fn with_another_distributions_kubelet_root_volumes_are_paths_of_the_host() {
    const CASE: &str = "containerd-2.1/x-emptydir-subpath";
    let cases = [CASE.to_owned()];
    for layout in LAYOUTS.iter().filter(|layout| layout.kubelet != DEFAULT.kubelet) {
        let node = tempfile::tempdir().unwrap();
        copy(&corpus().join(CASE), &node.path().join(CASE), &|text| {
            let key = format!("\"kubelet_root\":\"{}\"", DEFAULT.kubelet);
            let moved = format!("\"kubelet_root\":\"{}\"", layout.kubelet);
            layout.moved(text).replace(&moved, &key)
        });
        let said = check(node.path(), "baseline:latest", &cases);
        assert!(said.contains("hostPathVolumes") && said.contains("\"deny\""), "{}: {said}", layout.name);
        assert!(!check(&corpus(), "baseline:latest", &cases).contains("\"deny\""));
    }
}
