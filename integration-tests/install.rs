//! Does `install` leave a node that starts, whatever happens to it, and `uninstall` every byte as it was?

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::util::Done;
use crate::{node, util};

/// The root directory of a node without a running engine: programs, and files of engines.
struct Root {
    dir: TempDir,
}

/// Files by path, without the first slash.
type Files = &'static [(&'static str, &'static str)];

const V2: &str = "version = 2 # ours\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n  \
                  runtime_type = \"io.containerd.runc.v2\"\n";
const V3: &str = "version = 3\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n\
                  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n\
                  runtime_type = 'io.containerd.runc.v2'\n";

const CONTAINERD: Files = &[("etc/containerd/config.toml", V2)];
const CONTAINERD_2: Files =
    &[("etc/containerd/config.toml", V3), ("etc/containerd/conf.d/10-mirror.toml", "version = 3\n")];
const CRIO: Files = &[
    ("etc/crio/crio.conf", "[crio.runtime]\ndefault_runtime = \"runc\"\n"),
    ("etc/crio/crio.conf.d/10-runc.conf", "[crio.runtime.runtimes.runc]\nruntime_path = \"/usr/bin/runc\"\n"),
];
const PODMAN: Files = &[("etc/containers/containers.conf", "[engine]\n# nothing yet\n")];
const CONTAINERD_AND_PODMAN: Files = &[CONTAINERD[0], PODMAN[0]];
const DOCKER: Files = &[("etc/docker/daemon.json", "{\n    \"debug\": true\n}\n")];

/// Engine, method and files: everything that can be installed below another root directory, where no program is asked.
const ROWS: [(&str, &str, Files); 8] = [
    ("containerd", "runtime", CONTAINERD),
    ("containerd", "runtime", CONTAINERD_2),
    ("crio", "hook", CRIO),
    ("crio", "runtime", CRIO),
    ("podman", "hook", PODMAN),
    ("podman", "runtime", PODMAN),
    ("docker", "runtime", DOCKER),
    ("docker", "runtime", &[]),
];

/// What a tree holds: each path with its mode and its bytes or its target.
type Tree = BTreeMap<PathBuf, (u32, Vec<u8>)>;

impl Root {
    fn new(files: Files) -> Self {
        let root = Self { dir: tempfile::tempdir().expect("a temporary directory") };
        for folder in ["usr/bin", "usr/sbin", "usr/local/sbin", "etc", "var/lib", "run"] {
            fs::create_dir_all(root.at(folder)).expect("a folder of a fresh node");
        }
        for program in ["runc", "conmon"] {
            root.program(program);
        }
        for (path, text) in files {
            node::write(&root.at(path), text);
            fs::set_permissions(root.at(path), fs::Permissions::from_mode(0o640)).expect("a mode");
        }
        root
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn program(&self, name: &str) {
        let path = self.at("usr/bin").join(name);
        node::write(&path, "#!/bin/sh\nexit 1\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    fn copy(&self) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let from = self.dir.path().join(".");
        util::run(Command::new("cp").arg("-a").arg(from).arg(dir.path())).expect_success();
        Self { dir }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(node::binary());
        command.arg("--root").arg(self.dir.path()).args(arguments);
        command
    }

    fn call(&self, arguments: &[&str]) -> Done {
        util::run(&mut self.command(arguments))
    }

    fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder").flatten() {
                let (path, metadata) = (entry.path(), entry.metadata().expect("metadata"));
                let bytes = if metadata.is_symlink() {
                    fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes()
                } else if metadata.is_dir() {
                    folders.push(path.clone());
                    Vec::new()
                } else {
                    fs::read(&path).expect("a file")
                };
                let name = path.strip_prefix(self.dir.path()).expect("below the root").to_owned();
                tree.insert(name, (metadata.mode(), bytes));
            }
        }
        tree
    }

    /// Which file is which, and when each was last written.
    fn identities(&self) -> BTreeMap<PathBuf, (u64, i64, i64)> {
        let identity = |path: PathBuf| {
            let metadata = fs::symlink_metadata(self.dir.path().join(&path)).expect("metadata");
            (path, (metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
        };
        self.tree().into_keys().map(identity).collect()
    }
}

/// In words, because whole binaries are among the bytes.
fn difference(now: &Tree, expected: &Tree) -> String {
    let mut words = String::new();
    for path in now.keys().chain(expected.keys()) {
        match (now.get(path), expected.get(path)) {
            (Some(one), Some(other)) if one == other => {}
            (Some((mode, bytes)), Some((other_mode, other_bytes))) => {
                let text =
                    |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(600).collect::<String>();
                let _ = writeln!(
                    words,
                    "{} {mode:o} {other_mode:o}\n{}\n-- expected --\n{}",
                    path.display(),
                    text(bytes),
                    text(other_bytes)
                );
            }
            (now, _) => {
                let what = if now.is_some() { "too much" } else { "missing" };
                let _ = writeln!(words, "{what}: {}", path.display());
            }
        }
    }
    words
}

fn assert_same(now: &Tree, expected: &Tree, what: &str) {
    let words = difference(now, expected);
    assert!(words.is_empty(), "{what}\n{words}");
}

#[test]
fn uninstalling_leaves_every_byte_as_it_was() {
    for (engine, method, files) in ROWS {
        let what = format!("{engine}, {method}, {files:?}");
        let root = Root::new(files);
        root.program(match engine {
            "docker" => "dockerd",
            name => name,
        });
        let before = root.tree();
        let install = ["install", "--engine", engine, "--method", method];

        let shown = root.call(&[&install[..], &["--dry-run"]].concat()).expect_success();
        assert!(shown.stdout.contains("\n+++ /"), "{what}: {shown}");
        assert_same(&root.tree(), &before, &what);

        root.call(&install).expect_success();
        root.call(&["status", "--engine", engine]).expect_success();
        let installed = (root.tree(), root.identities());
        let again = root.call(&install).expect_success();
        assert!(again.stdout.contains("already installed; nothing changed"), "{what}: {again}");
        assert!((root.tree(), root.identities()) == installed, "{what}: the second time changed something");

        let shown = root.call(&["uninstall", "--engine", engine, "--dry-run"]).expect_success();
        assert!(shown.stdout.contains("\n--- /"), "{what}: {shown}");
        assert!((root.tree(), root.identities()) == installed, "{what}: a dry run changed something");

        root.call(&["uninstall", "--engine", engine]).expect_success();
        assert_same(&root.tree(), &before, &what);
    }
}

#[test]
fn what_the_admin_changed_since_stays() {
    let rows: [(&str, &str, Files, &str, &str); 3] = [
        ("containerd", "runtime", CONTAINERD, "etc/containerd/config.toml", "[debug]\n  level = \"warn\"\n"),
        ("crio", "runtime", CRIO, "etc/crio/crio.conf", "[crio.image]\npause_image = \"x\"\n"),
        ("podman", "runtime", PODMAN, "etc/containers/containers.conf", "[network]\ndns_bind_port = 53\n"),
    ];
    for (engine, method, files, path, added) in rows {
        let root = Root::new(files);
        root.program(engine);
        let expected = root.copy();
        root.call(&["install", "--engine", engine, "--method", method]).expect_success();
        for root in [&root, &expected] {
            let text = fs::read_to_string(root.at(path)).expect("a configuration");
            fs::write(root.at(path), text + added).expect("a configuration of ours");
        }
        root.call(&["uninstall", "--engine", engine]).expect_success();
        assert_same(&root.tree(), &expected.tree(), &format!("{engine}, {method}"));
    }
}

#[test]
fn a_method_gives_way_to_the_other() {
    for (engine, files) in [("crio", CRIO), ("podman", PODMAN)] {
        let root = Root::new(files);
        root.program(engine);
        let before = root.tree();
        let mut trees: BTreeMap<&str, Tree> = BTreeMap::new();
        for method in ["hook", "runtime", "hook", "runtime"] {
            root.call(&["install", "--engine", engine, "--method", method]).expect_success();
            root.call(&["status", "--engine", engine]).expect_success();
            let mut tree = root.tree();
            tree.retain(|path, _| path.starts_with("etc") || path.starts_with("usr/share"));
            let first = trees.entry(method).or_insert_with(|| tree.clone());
            assert_same(&tree, first, &format!("{engine}, {method}, again"));
        }
        assert_ne!(trees["hook"], trees["runtime"], "{engine}");
        root.call(&["uninstall"]).expect_success();
        assert_same(&root.tree(), &before, engine);
    }
    let root = Root::new(DOCKER);
    root.program("dockerd");
    let before = root.tree();
    let done = root.call(&["install", "--engine", "docker", "--method", "hook"]);
    assert!(done.code == Some(2) && done.stderr.contains("docker supports only --method runtime"), "{done}");
    assert_same(&root.tree(), &before, "a method that docker has not");
}

#[test]
fn what_is_wrong_with_one_engine_keeps_the_gate_for_it_alone() {
    let root = Root::new(CONTAINERD);
    for program in ["containerd", "podman"] {
        root.program(program);
    }
    let before = root.tree();
    let config = root.at("etc/containerd/config.toml");
    let hook = || root.tree().keys().any(|path| path.starts_with("usr/share/containers/oci/hooks.d"));
    let called = || fs::read_link(root.at(ENTRY).join("pss-guard-runtime")).ok();
    let good = fs::read(&config).expect("a file of ours");
    let write = |bytes: &[u8]| fs::write(&config, bytes).expect("a file of ours");

    write(b"[");
    let done = root.call(&["install", "--engine", "auto"]);
    assert!(done.code == Some(2) && done.stderr.contains("config.toml") && hook(), "{done}");
    write(&good);
    root.call(&["install", "--engine", "auto"]).expect_success();
    let installed = fs::read(&config).expect("a file of ours");
    write(b"[");
    let done = root.call(&["uninstall"]);
    assert!(done.code == Some(2) && done.stderr.contains("config.toml") && !hook(), "{done}");
    // What containerd last read names the gate.
    assert_eq!(called().as_deref(), Some(Path::new("../../../bin/pss-guard")), "{done}");
    assert!(root.at(GATE).exists(), "{done}");
    write(&installed);
    root.call(&["uninstall"]).expect_success();
    assert_same(&root.tree(), &before, "once it was mended");

    // What a run left that was killed before it installed anything: showing what would be done is not doing it.
    node::write(&root.at(GATE), "");
    root.call(&["uninstall", "--dry-run"]).expect_success();
    assert!(root.at(GATE).exists());
    root.call(&["uninstall"]).expect_success();
    assert_same(&root.tree(), &before, "once it was swept");
}

#[test]
fn engines_share_the_hook_until_the_last_is_gone() {
    for (first, second) in [("crio", "podman"), ("podman", "crio")] {
        for (gone, left) in [("crio", "podman"), ("podman", "crio")] {
            let what = format!("{first}, {second}, without {gone}");
            let root = Root::new(CRIO);
            for program in ["crio", "podman"] {
                root.program(program);
            }
            let before = root.tree();
            for engine in [first, second] {
                root.call(&["install", "--engine", engine]).expect_success();
            }
            root.call(&["uninstall", "--engine", gone]).expect_success();
            root.call(&["status", "--engine", left]).expect_success();
            root.call(&["uninstall", "--engine", left]).expect_success();
            assert_same(&root.tree(), &before, &what);
        }
    }
}

#[test]
fn auto_means_all_engines_that_are_there() {
    let root = Root::new(CONTAINERD);
    let none = root.call(&["install", "--engine", "auto"]);
    assert!(none.code == Some(2) && none.stderr.contains("no engine"), "{none}");
    for program in ["containerd", "podman"] {
        root.program(program);
    }
    let before = root.tree();
    let done = root.call(&["install", "--engine", "auto"]).expect_success();
    let named =
        ["containerd, runtime method", "podman, hook method"].map(|words| done.stdout.contains(words));
    assert_eq!(named, [true, true], "{done}");
    assert!(!done.stdout.contains("docker"), "{done}");
    root.call(&["uninstall"]).expect_success();
    assert_same(&root.tree(), &before, "auto");
}

#[test]
fn a_runtime_that_a_package_has_moved_is_found_again() {
    for (engine, method, files) in ROWS.into_iter().filter(|(_, method, _)| *method == "runtime") {
        let root = Root::new(files);
        for program in ["crio", "podman", "dockerd"] {
            root.program(program);
        }
        let install = ["install", "--engine", engine, "--method", method];
        root.call(&install).expect_success();
        fs::rename(root.at("usr/bin/runc"), root.at("usr/sbin/runc")).expect("a program of ours");
        // What CRI-O's own files name is the admin's.
        if engine == "crio" {
            let file = root.at("etc/crio/crio.conf.d/10-runc.conf");
            fs::write(&file, util::read(&file).replace("/usr/bin/runc", "/usr/sbin/runc"))
                .expect("a file of ours");
        }
        root.call(&install).expect_success();
        let engines =
            fs::read_dir(root.at("var/lib/pss-guard/runtimes")).expect("an engine's entries").flatten();
        let entries = engines.flat_map(|engine| fs::read_dir(engine.path()).expect("entries")).flatten();
        let found: Vec<_> =
            entries.map(|entry| fs::read_link(entry.path().join("runtime")).expect("a link")).collect();
        assert!(
            !found.is_empty() && found.iter().all(|path| path == Path::new("/usr/sbin/runc")),
            "{engine}: {found:?}"
        );
    }
}

#[test]
fn the_file_that_was_named_once_is_remembered() {
    let root = Root::new(CONTAINERD);
    root.program("containerd");
    fs::copy(root.at("etc/containerd/config.toml"), root.at("etc/other.toml")).expect("a file of ours");
    let before = root.tree();
    root.call(&["install", "--engine", "containerd", "--config", "/etc/other.toml"]).expect_success();
    let again = root.call(&["install", "--engine", "containerd"]).expect_success();
    assert!(again.stdout.contains("already installed; nothing changed"), "{again}");
    let usual = Path::new("etc/containerd/config.toml");
    assert_eq!(root.tree()[usual], before[usual]);
    root.call(&["uninstall"]).expect_success();
    assert_same(&root.tree(), &before, "another file");
}

#[test]
fn a_runtime_that_moved_is_the_one_that_undoing_knows() {
    let root = Root::new(PODMAN);
    root.program("podman");
    let install = ["install", "--engine", "podman", "--method", "runtime"];
    root.call(&install).expect_success();
    fs::rename(root.at("usr/bin/runc"), root.at("usr/local/sbin/runc")).expect("a file of ours");
    root.call(&install).expect_success();
    let manifest = util::read(&root.at("var/lib/pss-guard/install/podman/manifest.json"));
    assert!(manifest.contains("\"/usr/local/sbin/runc\""), "{manifest}");
}

#[test]
fn what_containers_call_stays_until_they_are_gone() {
    let root = Root::new(CONTAINERD);
    root.program("containerd");
    let before = root.tree();
    root.call(&["install", "--engine", "containerd"]).expect_success();
    // What a shim keeps of the runtime by which its container was started.
    let task = "run/containerd/io.containerd.runtime.v2.task/k8s.io/id/runtime";
    node::write(&root.at(task), &format!("/{ENTRY}/pss-guard-runtime"));
    for _ in 0..2 {
        let done = root.call(&["uninstall"]).expect_success();
        assert!(done.stdout.contains("1 running container was started through the gate"), "{done}");
        let called = fs::read_link(root.at(ENTRY).join("pss-guard-runtime")).expect("a link");
        assert_eq!(called, Path::new("/usr/bin/runc"), "{done}");
        assert!(!root.at(GATE).exists(), "{done}");
    }
    fs::remove_dir_all(root.at("run/containerd")).expect("a folder of ours");
    root.call(&["uninstall"]).expect_success();
    assert_same(&root.tree(), &before, "once nobody calls it");
}

#[test]
fn a_link_in_place_of_a_file_stays_one() {
    for (engine, files, path) in [
        ("containerd", CONTAINERD, "etc/containerd/config.toml"),
        ("docker", DOCKER, "etc/docker/daemon.json"),
    ] {
        let root = Root::new(files);
        root.program(if engine == "docker" { "dockerd" } else { engine });
        let target = root.at("etc/real");
        fs::rename(root.at(path), &target).expect("a file of ours");
        symlink("../real", root.at(path)).expect("a link");
        let before = root.tree();
        root.call(&["install", "--engine", engine]).expect_success();
        assert!(root.at(path).is_symlink(), "{engine}: the link was replaced by a file");
        assert_ne!(root.tree()[Path::new("etc/real")], before[Path::new("etc/real")], "{engine}");
        root.call(&["uninstall"]).expect_success();
        assert_same(&root.tree(), &before, engine);
    }
}

#[test]
fn what_is_not_understood_is_left_alone() {
    let rows: [(&str, &str, &str, Files); 4] = [
        (
            "containerd",
            "containerd",
            "config.toml",
            &[("etc/containerd/config.toml", "version = 2\n[plugins\n")],
        ),
        ("containerd", "containerd", "version", &[("etc/containerd/config.toml", "version = 9\n")]),
        ("crio", "crio", "crio.conf", &[("etc/crio/crio.conf", "[crio\n")]),
        ("docker", "dockerd", "daemon.json", &[("etc/docker/daemon.json", "{\n  \"runtimes\": \n")]),
    ];
    for (engine, program, named, files) in rows {
        let root = Root::new(files);
        root.program(program);
        let before = root.tree();
        let done = root.call(&["install", "--engine", engine]);
        assert!(done.code == Some(2) && done.stderr.contains(named), "{done}");
        assert!(!files[0].1.contains('[') && named == "version" || done.stderr.contains("line"), "{done}");
        assert_same(&root.tree(), &before, engine);
    }
}

#[test]
fn two_runs_do_not_meet() {
    let root = Root::new(CRIO);
    root.program("crio");
    root.call(&["install", "--engine", "crio"]).expect_success();
    let before = root.tree();
    let lock = fs::File::open(root.at("var/lib/pss-guard/install/lock")).expect("the lock");
    lock.lock().expect("to lock a file");
    for arguments in [&["install", "--engine", "crio", "--method", "runtime"][..], &["uninstall"]] {
        let done = root.call(arguments);
        assert!(done.code == Some(2) && done.stderr.contains("is locked"), "{done}");
        assert_same(&root.tree(), &before, "locked");
    }
}

/// Runs a command that is held up for seconds at its nth call of a system call, and another one meanwhile, once `is_held`.
fn meanwhile(
    root: &Root,
    slow: &[&str],
    (call, number): (&str, usize),
    is_held: impl Fn() -> bool,
    quick: &[&str],
) -> (Done, Done) {
    let inject = format!("inject={call}:delay_enter=6000000:when={number}");
    let options = ["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject].map(str::to_owned);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| traced(&node::binary(), root.dir.path(), slow, &options));
        assert!(util::eventually(is_held), "it was never held up");
        // From what is seen to the call itself.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let quick = root.call(quick);
        assert!(!slow.is_finished(), "the other one was not held up long enough");
        (slow.join().expect("a thread of ours"), quick)
    })
}

/// Whether some process has a file open.
fn is_open(path: &Path) -> bool {
    let list = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = list(Path::new("/proc")).flat_map(|process| list(&process.join("fd")).collect::<Vec<_>>());
    files.into_iter().any(|file| fs::read_link(file).is_ok_and(|target| target == path))
}

#[test]
fn what_another_run_installs_meanwhile_loses_nothing_to_an_uninstall() {
    if !util::can_run("what_another_run_installs_meanwhile_loses_nothing_to_an_uninstall", &["strace"]) {
        return;
    }
    // Before it looks what is left, and when it removes the first program.
    for held in [("flock", 2), ("unlink", 3)] {
        let root = Root::new(CONTAINERD_AND_PODMAN);
        root.program("podman");
        root.call(&["install", "--engine", "podman"]).expect_success();
        let manifest = root.at("var/lib/pss-guard/install/podman/manifest.json");
        let install = ["install", "--engine", "containerd"];
        let (removed, installed) =
            meanwhile(&root, &["uninstall", "--engine", "podman"], held, || !manifest.exists(), &install);
        let config = util::read(&root.at("etc/containerd/config.toml"));
        if config.contains("/pss-guard-runtime") {
            for needed in [
                "var/lib/pss-guard/bin/pss-guard",
                "var/lib/pss-guard/runtimes/containerd/runc/runtime",
                "var/lib/pss-guard/install/containerd/0.before",
            ] {
                assert!(root.at(needed).exists(), "{held:?}: {needed} is gone\n{removed}\n{installed}");
            }
        } else {
            assert!(installed.stderr.contains("is locked"), "{held:?}: {installed}");
        }
        root.call(&["uninstall"]).expect_success();
        assert!(!root.at("var/lib/pss-guard").exists() && config.contains("# ours"));
        assert_eq!(util::read(&root.at("etc/containerd/config.toml")), V2);
    }
}

#[test]
fn a_plan_for_a_node_that_another_run_has_changed_is_not_carried_out() {
    if !util::can_run("a_plan_for_a_node_that_another_run_has_changed_is_not_carried_out", &["strace"]) {
        return;
    }
    let hook = ["install", "--engine", "crio", "--method", "hook"];
    let runtime = ["install", "--engine", "crio", "--method", "runtime"];
    // What is there before, who is held up with his plan, and who comes meanwhile.
    let rows = [(None, hook, &runtime[..]), (None, runtime, &hook), (Some(runtime), runtime, &["uninstall"])];
    for (before, slow, quick) in rows {
        let root = Root::new(CRIO);
        if let Some(before) = before {
            root.call(&before).expect_success();
        }
        let lock = root.at("var/lib/pss-guard/install/lock");
        let (planned, done) = meanwhile(&root, &slow, ("flock", 1), || is_open(&lock), quick);
        assert_eq!(done.code, Some(0), "{done}");
        assert!(planned.code == Some(2) && planned.stderr.contains("try again"), "{quick:?}\n{planned}");
        root.call(&slow).expect_success();
        root.call(&["uninstall"]).expect_success();
        assert!(!root.at("var/lib/pss-guard").exists());
    }
}

#[test]
fn status_tells_what_is_broken() {
    let rows: [(&str, Break, &str); 3] = [
        ("no gate", |root| fs::remove_file(root.at(GATE)).expect("the gate"), "bin/pss-guard"),
        ("no runtime", |root| fs::remove_file(root.at(ENTRY).join("runtime")).expect("a link"), "runtimes/"),
        (
            "no link",
            |root| fs::remove_file(root.at(ENTRY).join("pss-guard-runtime")).expect("a link"),
            "pss-guard-runtime",
        ),
    ];
    for (what, break_it, named) in rows {
        let root = Root::new(CONTAINERD);
        root.program("containerd");
        root.call(&["install", "--engine", "containerd"]).expect_success();
        break_it(&root);
        let done = root.call(&["status"]);
        let wrong = done.stdout.lines().any(|line| line.contains("WRONG") && line.contains(named));
        assert!(done.code == Some(1) && wrong, "{what}: {done}");
        // And another install mends it, or says how: only the link knows the real runtime.
        let done = root.call(&["install", "--engine", "containerd"]);
        if what == "no runtime" {
            assert!(done.code == Some(2) && done.stderr.contains("make it with `ln -s "), "{done}");
        } else {
            done.expect_success();
            root.call(&["status"]).expect_success();
        }
    }
}

const GATE: &str = "var/lib/pss-guard/bin/pss-guard";
const ENTRY: &str = "var/lib/pss-guard/runtimes/containerd/runc";

/// What changes something on the disk.
const WRITES: &str = "openat,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,symlink,symlinkat,write,\
                      fchmod,chmod,fchmodat,chown,fsync,copy_file_range,sendfile";

/// The same program without its debugging symbols: a hundred copies of it are made.
fn small_binary(folder: &Path) -> PathBuf {
    let path = folder.join("pss-guard");
    util::run(Command::new("strip").arg("-o").arg(&path).arg(node::binary())).expect_success();
    path
}

pub(crate) fn traced(program: &Path, root: &Path, arguments: &[&str], options: &[String]) -> Done {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq"]).args(options).arg(program).arg("--root").arg(root);
    util::run(command.args(arguments))
}

/// Every call that writes, as its name and its number among the calls of that name.
pub(crate) fn writes(program: &Path, root: &Path, arguments: &[&str]) -> Vec<(String, usize)> {
    let log = root.join("..").join(format!("{}.log", util::random_id()));
    let options = ["-o".to_owned(), log.display().to_string(), "-e".to_owned(), format!("trace={WRITES}")];
    traced(program, root, arguments, &options).expect_success();
    let text = fs::read_to_string(&log).expect("the log of strace");
    fs::remove_file(&log).expect("a file of ours");
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut writes = Vec::new();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(' ').and_then(|(_, call)| call.trim().split_once('('))
        else {
            continue;
        };
        let number = numbers.entry(name.to_owned()).or_default();
        *number += 1;
        let said = name == "write" && rest.starts_with("1,");
        if !said && (name != "openat" || rest.contains("O_CREAT")) {
            writes.push((name.to_owned(), *number));
        }
    }
    writes
}

#[test]
fn a_kill_at_any_write_leaves_a_node_that_starts() {
    if !util::can_run("a_kill_at_any_write_leaves_a_node_that_starts", &["strace", "strip"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    let program = &small_binary(folder.path());
    let rows: [(&str, Files); 2] = [("containerd", CONTAINERD_2), ("crio", CRIO)];
    std::thread::scope(|scope| {
        for (engine, files) in rows {
            scope.spawn(move || {
                let root = Root::new(files);
                root.program(engine);
                let install = ["install", "--engine", engine, "--method", "runtime"];
                kill_everywhere(program, &root, &install, &install);
                util::run(Command::new(program).arg("--root").arg(root.dir.path()).args(install))
                    .expect_success();
                kill_everywhere(program, &root, &["uninstall"], &install);
            });
        }
    });
}

/// Kills a run at each of its writes, on a copy of the node.
fn kill_everywhere(program: &Path, start: &Root, arguments: &[&str], install: &[&str]) {
    let call = |root: &Root, arguments: &[&str]| {
        util::run(Command::new(program).arg("--root").arg(root.dir.path()).args(arguments)).expect_success()
    };
    let engine_files = |root: &Root| {
        let mut tree = root.tree();
        tree.retain(|path, _| path.starts_with("etc"));
        tree
    };
    let (first, last) = (start.copy(), start.copy());
    let calls = writes(program, last.dir.path(), arguments);
    assert!(calls.len() > 20, "too few writes to be all: {calls:?}");
    let (old, new) = (engine_files(&first), engine_files(&last));
    call(&first, &["uninstall"]);
    let clean = first.tree();
    for (name, number) in calls {
        let what = format!("{arguments:?}, killed at {name} number {number}");
        let root = start.copy();
        let inject = format!("inject={name}:signal=SIGKILL:when={number}");
        let options = ["-o".to_owned(), "/dev/null".to_owned(), "-e".to_owned(), inject];
        let done = traced(program, root.dir.path(), arguments, &options);
        assert_ne!(done.code, Some(0), "{what}: nobody was killed");

        let mut gated = false;
        for (path, now) in engine_files(&root) {
            let whole = [&old, &new].iter().any(|tree| tree.get(&path) == Some(&now));
            let stray = path.to_string_lossy().ends_with(".pss-guard-new");
            let drop_in = path.parent().is_some_and(|folder| folder.to_string_lossy().ends_with(".d"));
            assert!(whole || (stray && !drop_in), "{what}: {} is neither old nor new", path.display());
            gated |= !stray && String::from_utf8_lossy(&now.1).contains("/pss-guard-runtime");
        }
        if gated {
            let engine = if install.contains(&"crio") { "cri-o" } else { "containerd" };
            let entry = root.at("var/lib/pss-guard/runtimes").join(engine).join("runc");
            let runtime = fs::read_link(entry.join("runtime")).expect(&what);
            let called = fs::read_link(entry.join("pss-guard-runtime")).expect(&what);
            let found = if called.is_absolute() { called == runtime } else { entry.join(called).is_file() };
            assert!(found, "{what}: the engine calls what is not there");
        }
        let other = root.copy();
        call(&other, &["uninstall"]);
        assert_same(&other.tree(), &clean, &format!("{what}, then uninstalled"));
        call(&root, install);
        call(&root, &["status"]);
        call(&root, &["uninstall"]);
        assert_same(&root.tree(), &clean, &format!("{what}, then installed and uninstalled"));
    }
}

/// A power cut can only be told from a kill by what was on the disk: a file's bytes before it gets its name, and the
/// name before anything that rests on it. A name in use is never without a file. And what has its owner already is
/// not given to him, which a unit may be forbidden.
#[test]
fn a_file_is_on_the_disk_before_its_name_is_and_that_before_the_next() {
    if !util::can_run(
        "install::a_file_is_on_the_disk_before_its_name_is_and_that_before_the_next",
        &["strace"],
    ) {
        return;
    }
    let root = Root::new(CONTAINERD);
    root.program("containerd");
    let log = root.dir.path().join("..").join(format!("{}.log", util::random_id()));
    let calls = "trace=fsync,symlink,symlinkat,rename,renameat,renameat2,unlink,unlinkat,fchown".to_owned();
    let options = ["-y".to_owned(), "-o".to_owned(), log.display().to_string(), "-e".to_owned(), calls];
    let place = fs::canonicalize(root.dir.path()).expect("a folder of ours");
    for arguments in [&["install", "--engine", "containerd"][..], &["uninstall"]] {
        traced(&node::binary(), &place, arguments, &options).expect_success();
        let text = fs::read_to_string(&log).expect("the log of strace");
        fs::remove_file(&log).expect("a file of ours");
        // Links have no bytes, so making one is all there is to wait for.
        let (mut whole, mut gone, mut folder, mut renames) = (Vec::new(), Vec::new(), None, 0);
        for line in text.lines() {
            let Some((name, rest)) = line.split_once(' ').and_then(|(_, call)| call.trim().split_once('('))
            else {
                continue;
            };
            let mut paths = rest.split('"').skip(1).step_by(2);
            match (name, paths.next(), paths.next()) {
                ("fsync", ..) => {
                    let path = rest.split(['<', '>']).nth(1).expect("a path");
                    folder = folder.filter(|folder| *folder != Path::new(path));
                    whole.push(path);
                }
                (_, Some(from), Some(to)) if name.starts_with("rename") => {
                    assert!(whole.contains(&from), "not on the disk: {line}\n{text}");
                    assert!(!gone.contains(&to), "for a moment there was none: {line}\n{text}");
                    assert_eq!(folder, None, "not on the disk before the next: {line}\n{text}");
                    folder = Path::new(to).parent();
                    renames += 1;
                }
                (_, _, Some(link)) if name.starts_with("symlink") => whole.push(link),
                (_, Some(path), _) if name.starts_with("unlink") => gone.push(path),
                _ => panic!("{line}"),
            }
        }
        // First of all that is removed of an installation: without it the copies are nobody's.
        let undone = gone.iter().any(|path| path.ends_with("/containerd/manifest.json"));
        assert_eq!(undone, arguments[0] == "uninstall", "{text}");
        assert!(folder.is_none() && renames > 0, "{arguments:?}: {text}");
    }
}

#[test]
fn modes_are_not_left_to_the_umask() {
    let usual = Root::new(CRIO);
    for program in ["crio", "systemctl"] {
        usual.program(program);
    }
    let (shut, before) = (usual.copy(), usual.tree());
    let install = ["install", "--engine", "crio", "--method", "runtime"];
    usual.call(&install).expect_success();
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077 && exec \"$0\" --root \"$@\""]).arg(node::binary());
    util::run(command.arg(shut.dir.path()).args(install)).expect_success();
    assert_same(&shut.tree(), &usual.tree(), "umask 077");
    let mut tree = usual.tree();
    tree.retain(|path, (mode, _)| *mode & 0o170_000 == 0o100_000 && !before.contains_key(path));
    assert!(tree.len() > 10, "{:?}", tree.keys());
    for (path, (mode, _)) in tree {
        let expected = match path.to_string_lossy() {
            // Copies of files that can hold secrets; and who can open a lock can hold it.
            name if name.starts_with("var/lib/pss-guard/install/") => 0o600,
            name if name.ends_with("bin/pss-guard") => 0o755,
            _ => 0o644,
        };
        assert_eq!(mode & 0o7777, expected, "{}", path.display());
    }
    usual.call(&["uninstall"]).expect_success();
    assert_same(&usual.tree(), &before, "with systemd's files");
}

/// A name can only be given within one mount, and a folder of drop-ins may be one of its own.
#[test]
fn a_folder_may_be_a_mount_of_its_own() {
    if !util::can_run("install::a_folder_may_be_a_mount_of_its_own", &["unshare", "mount"]) {
        return;
    }
    for mount in ["-t tmpfs none", "--bind \"$F\""] {
        let root = Root::new(CRIO);
        root.program("crio");
        let before = root.tree();
        let script = format!(
            "F=\"$1/etc/crio/crio.conf.d\" && exec 5<\"$F/10-runc.conf\" && mount {mount} \"$F\" && \
             {{ [ -e \"$F/10-runc.conf\" ] || cat <&5 >\"$F/10-runc.conf\"; }} && \
             \"$0\" --root \"$1\" install --engine crio --method runtime && ls -A \"$F\" && \
             \"$0\" --root \"$1\" uninstall && ls -A \"$F\""
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]).arg(node::binary()).arg(root.dir.path());
        let done = util::run(&mut command).expect_success();
        assert_eq!(done.stdout.lines().filter(|line| *line == "99-pss-guard.conf").count(), 1, "{done}");
        assert_same(&root.tree(), &before, mount);
    }
}

/// A file system that takes nothing more: what is said names the file and the cause, no engine's file is half
/// written, and what was done can be taken back once there is room.
#[test]
fn a_file_system_that_cannot_be_written_is_said_and_leaves_a_node_that_starts() {
    if !util::can_run(
        "install::a_file_system_that_cannot_be_written_is_said_and_leaves_a_node_that_starts",
        &["unshare", "mount"],
    ) {
        return;
    }
    let read_only = |folder: &str| {
        format!("mount --bind \"$R/{folder}\" \"$R/{folder}\" && mount -o remount,bind,ro \"$R/{folder}\"")
    };
    // The gate needs megabytes, so this is full after the first page of it.
    let full = "mount -t tmpfs -o size=64k none \"$R/var/lib\"".to_owned();
    let rows = [
        ("etc read-only", read_only("etc"), 2, "etc/containerd/config.toml", "Read-only file system"),
        ("var read-only", read_only("var"), 2, "var/lib/pss-guard", "Read-only file system"),
        ("var full", full, 2, "var/lib/pss-guard/bin/pss-guard", "No space left on device"),
        ("usr read-only", read_only("usr"), 0, "usr/local/sbin/pss-guard", "Read-only file system"),
    ];
    for (name, mount, code, thing, cause) in rows {
        let root = Root::new(CONTAINERD);
        // With it the node has systemd, and files for that.
        root.program("systemctl");
        let before = root.tree();
        let mut install = Command::new("unshare");
        install.args(["--mount", "sh", "-c", &format!("{mount} && exec \"$0\" --root \"$R\" \"$@\"")]);
        install.arg(node::binary()).args(["install", "--engine", "containerd"]).env("R", root.dir.path());
        let done = util::run(&mut install);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert_eq!(done.code, Some(code), "{name}\n{done}");
        assert!(said.contains(thing) && said.contains(cause), "{name}: {thing}, {cause}\n{done}");
        if code == 0 {
            assert!(root.at("etc/systemd/system/pss-guard-status.service").exists(), "{name}\n{done}");
        } else {
            let config = Path::new("etc/containerd/config.toml");
            assert_eq!(root.tree().get(config), before.get(config), "{name}: the engine's file is as it was");
        }
        root.call(&["uninstall"]).expect_success();
        assert_eq!(root.tree(), before, "{name}\n{}", difference(&root.tree(), &before));
    }
}

#[test]
fn a_folder_of_drop_ins_can_be_a_mount_of_its_own() {
    let name = "install::a_folder_of_drop_ins_can_be_a_mount_of_its_own";
    if !util::can_run(name, &["unshare", "mount"]) {
        return;
    }
    let root = Root::new(CRIO);
    let before = root.tree();
    // Of the same device, as a folder of another place that is bound there.
    let script = "mount --bind \"$R/etc/crio/crio.conf.d\" \"$R/etc/crio/crio.conf.d\" && exec \"$0\" --root \"$R\" \"$@\"";
    let mut install = Command::new("unshare");
    install.args(["--mount", "sh", "-c", script]).arg(node::binary()).env("R", root.dir.path());
    util::run(install.args(["install", "--engine", "crio", "--method", "runtime"])).expect_success();
    assert!(root.at("etc/crio/crio.conf.d/99-pss-guard.conf").is_file());
    root.call(&["uninstall"]).expect_success();
    assert_same(&root.tree(), &before, "uninstalled");
}

/// Runs a script with a node's root directory as its own, so that this is a running node: with this machine's programs,
/// processes of its own, and folders of its own. `options` are those of the mount of its `/var/lib`.
fn on_running_node(root: &Root, options: &str, script: &str) -> Done {
    fs::copy(node::binary(), root.at("gate")).expect("a copy of the program");
    let mounts = format!(
        "mount --bind \"$R\" \"$R\" || exit 9
         for folder in usr lib lib64 bin sbin proc dev; do
             if [ -L /$folder ]; then cp -P /$folder \"$R/$folder\";
             elif [ -d /$folder ]; then mkdir -p \"$R/$folder\" && mount --rbind /$folder \"$R/$folder\"; fi || exit 9
         done
         mount --bind -o ro \"$R/usr\" \"$R/usr\" && mount -t tmpfs -o {options} none \"$R/var/lib\" || exit 9
         exec chroot \"$R\" /bin/sh -c \"$0\""
    );
    let mut command = Command::new("unshare");
    util::run(command.args(["--mount", "sh", "-c", &mounts, script]).env("R", root.dir.path()))
}

/// containerd with a runtime that is on this machine.
const RUNNING: Files = &[(
    "etc/containerd/config.toml",
    "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]\nBinaryName = '/usr/bin/env'\n",
)];

#[test]
fn a_gate_that_cannot_be_executed_is_not_put_before_an_engine() {
    let name = "install::a_gate_that_cannot_be_executed_is_not_put_before_an_engine";
    if !util::can_run(name, &["unshare", "mount", "chroot"]) {
        return;
    }
    for (options, code) in [("noexec", 2), ("exec", 0)] {
        let root = Root::new(RUNNING);
        let script = "/gate install --engine containerd --config /etc/containerd/config.toml; code=$?
                      ls /var/lib; exit $code";
        let done = on_running_node(&root, options, script);
        assert_eq!(done.code, Some(code), "{options}\n{done}");
        let now = util::read(&root.at(RUNNING[0].0));
        if code == 0 {
            assert!(now.contains("/pss-guard-runtime") && done.stdout.contains("\npss-guard\n"), "{done}");
        } else {
            assert!(done.stderr.contains("does not run") && done.stderr.contains("noexec"), "{done}");
            assert_eq!(now, RUNNING[0].1, "the engine's file is as it was");
            assert_eq!(done.stdout, "", "something is left in /var/lib\n{done}");
        }
    }
}

#[test]
fn only_what_a_run_has_installed_is_taken_back() {
    let name = "install::only_what_a_run_has_installed_is_taken_back";
    if !util::can_run(name, &["unshare", "mount", "chroot"]) {
        return;
    }
    let plain = "/gate install --engine containerd --config /etc/containerd/config.toml";
    // An engine that does not come up with the gate.
    let failing = format!(
        "{plain} --restart --restart-command '! grep -q pss-guard-runtime /etc/containerd/config.toml'"
    );
    for (before, code, stays) in [("true", 2, false), (plain, 1, true)] {
        let root = Root::new(RUNNING);
        let done = on_running_node(&root, "exec", &format!("{before} >/dev/null && {failing}"));
        assert!(
            done.code == Some(code) && done.stderr.contains("config.toml` failed with exit status 1"),
            "{done}"
        );
        let gated = util::read(&root.at(RUNNING[0].0)).contains("/pss-guard-runtime");
        assert_eq!(gated, stays, "{before}\n{done}");
        assert!(
            done.stderr.contains(if stays { "and stays installed" } else { "was rolled back" }),
            "{done}"
        );
    }
}

/// `on-unknown-namespace = "deny"` needs a method that sees sandboxes, and everybody who could notice says so.
#[test]
fn what_the_method_cannot_keep_is_refused_by_all_who_look_at_the_policy() {
    if !util::can_run("what_the_method_cannot_keep_is_refused_by_all_who_look_at_the_policy", &[]) {
        return;
    }
    let policy = |root: &Root, text: &str| {
        node::write(&root.at("etc/pss-guard/policy.toml"), text);
        fs::set_permissions(root.at("etc/pss-guard/policy.toml"), fs::Permissions::from_mode(0o644))
            .expect("a mode");
    };
    let deny = "on-unknown-namespace = \"deny\"\n";
    for method in ["hook", "runtime"] {
        let root = Root::new(CRIO);
        root.program("crio");
        let reason = format!("on-unknown-namespace = \"deny\" does not work on cri-o by the {method} method");
        let install = ["install", "--engine", "crio", "--method", method];
        policy(&root, deny);
        let before = root.tree();
        for arguments in [&install[..], &[&install[..], &["--dry-run"]].concat()] {
            let done = root.call(arguments);
            assert!(done.code == Some(2) && done.stderr.contains(&reason), "{done}");
            assert_eq!(root.tree(), before, "{done}");
        }
        root.call(&["policy", "check"]).expect_success();
        policy(&root, "");
        root.call(&install).expect_success();
        policy(&root, deny);
        for arguments in
            [&["policy", "check"][..], &["mode", "enforce", "--yes"], &["mode", "enforce", "--for", "1h"]]
        {
            let done = root.call(arguments);
            assert!(done.code == Some(2) && done.stderr.contains(&reason), "{done}");
        }
        let done = root.call(&["status"]);
        // Wrapped as a terminal has it.
        let said = done.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(done.code == Some(1) && said.contains(&reason), "{done}");
    }
    let root = Root::new(CONTAINERD);
    policy(&root, deny);
    root.call(&["install", "--engine", "containerd", "--method", "runtime"]).expect_success();
    root.call(&["policy", "check"]).expect_success();
}

/// With a policy that cannot be used, enforce mode refuses nearly everything; the gate does not come before that is
/// mended.
#[test]
fn a_policy_that_cannot_be_used_is_mended_before_the_gate_comes() {
    if !util::can_run("a_policy_that_cannot_be_used_is_mended_before_the_gate_comes", &[]) {
        return;
    }
    let root = Root::new(CRIO);
    node::write(&root.at("etc/pss-guard/policy.toml"), "mode = \"enforce\"\n");
    let install = ["install", "--engine", "crio"];
    let folder = root.at("etc/pss-guard");
    for (text, mode, expected) in [
        ("modee = 1\n", 0o755, "unknown key \"modee\""),
        ("mode = \"enforce\"\n", 0o777, "etc/pss-guard must be writable by root alone"),
    ] {
        node::write(&root.at("etc/pss-guard/policy.toml"), text);
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).expect("a mode");
        let before = root.tree();
        let done = root.call(&install);
        assert!(done.code == Some(2) && done.stderr.contains(expected), "{done}");
        assert_eq!(root.tree(), before, "{done}");
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("a mode");
    root.call(&install).expect_success();
}

/// An engine that is not there has no gate, whatever it shares with one that is.
#[test]
fn an_engine_that_is_not_there_gets_no_gate() {
    for (engine, others) in [
        ("crio", &["podman", "containerd"][..]),
        ("podman", &["crio", "containerd"]),
        ("containerd", &["crio", "dockerd", "podman"]),
        ("docker", &["docker", "containerd"]),
    ] {
        let root = Root::new(&[("etc/containers/containers.conf", "")]);
        node::write(&root.at("usr/share/containers/oci/hooks.d/other.json"), "{}");
        for program in others {
            root.program(program);
        }
        let before = root.tree();
        for more in [&[][..], &["--dry-run"]] {
            let done = root.call(&[&["install", "--engine", engine], more].concat());
            let name = engine.replace("crio", "cri-o");
            assert!(
                done.code == Some(2)
                    && done.stderr.contains(&format!("{name} is not on this node: no program ")),
                "{done}"
            );
            assert_same(&root.tree(), &before, engine);
        }
        // The control: it comes, and is found.
        root.program(if engine == "docker" { "dockerd" } else { engine });
        root.call(&["install", "--engine", engine]).expect_success();
    }
}

/// The paths that lines of an output name after a word.
fn named<'a>(output: &'a str, word: &str) -> Vec<&'a str> {
    let lines = output.lines().filter_map(|line| line.trim_start().strip_prefix(word));
    let mut paths: Vec<&str> = lines.filter_map(|path| path.split(' ').next()).collect();
    paths.sort_unstable();
    paths
}

#[test]
fn a_dry_run_lists_all_that_is_written_and_nothing_else() {
    for (engine, method, files) in ROWS {
        let what = format!("{engine}, {method}, {files:?}");
        let root = Root::new(files);
        for program in ["containerd", "crio", "podman", "dockerd", "systemctl"] {
            root.program(program);
        }
        let before = root.tree();
        let install = ["install", "--engine", engine, "--method", method];
        let shown = root.call(&[&install[..], &["--dry-run"]].concat()).expect_success();
        assert_same(&root.tree(), &before, &what);
        let done = root.call(&install).expect_success();
        let (would, wrote) = (named(&shown.stdout, "would write "), named(&done.stdout, "wrote "));
        assert_eq!(would, wrote, "{what}\n{shown}\n{done}");
        // A folder has no bytes of its own, and what undoing needs is named as one.
        let is_file = |mode: u32| mode & 0o170_000 != 0o040_000;
        let after = root.tree();
        let changed = after.iter().filter(|(path, now)| is_file(now.0) && before.get(*path) != Some(now));
        let changed = changed.map(|(path, _)| format!("/{}", path.display()));
        let (kept, mut changed): (Vec<_>, Vec<_>) =
            changed.partition(|path| path.starts_with("/var/lib/pss-guard/install/"));
        // What systemctl does by itself.
        changed.retain(|path| !path.ends_with(".wants/pss-guard-status.service"));
        assert_eq!(would, changed, "{what}\n{shown}");
        assert!(
            !kept.is_empty() && shown.stdout.contains("would keep in /var/lib/pss-guard/install "),
            "{shown}"
        );
        assert!(would.len() > 11 && shown.stdout.contains("would run systemctl --root="), "{shown}");
        let again = root.call(&[&install[..], &["--dry-run"]].concat()).expect_success();
        assert!(
            again.stdout.contains("no file would change") && named(&again.stdout, "would write ").is_empty(),
            "{again}"
        );
    }
}

type Break = fn(&Root);

#[test]
fn a_dry_run_refuses_what_an_installation_would() {
    if !util::can_run("install::a_dry_run_refuses_what_an_installation_would", &["unshare", "mount"]) {
        return;
    }
    let nothing: Break = |_| ();
    let lock: Break = |root| {
        root.call(&["install", "--engine", "crio"]).expect_success();
    };
    let read_only = |folder: &str| {
        format!("mount --bind \"$R/{folder}\" \"$R/{folder}\" && mount -o remount,bind,ro \"$R/{folder}\"")
    };
    let etc = read_only("etc");
    let var = read_only("var");
    #[rustfmt::skip]
    let rows: [(&str, Break, &str, &[&str], &str); 10] = [
        ("an engine that is not there", nothing, "", &["--engine", "docker"], "docker is not on this node"),
        ("a method that it has not", nothing, "", &["--engine", "containerd", "--config", "/etc/none", "--method", "hook"], "is not on this node"),
        ("a configuration that is none", |root| node::write(&root.at("etc/crio/crio.conf"), "[crio\n"), "", &["--engine", "crio"], "crio.conf"),
        ("a policy that is none", |root| node::write(&root.at("etc/pss-guard/policy.toml"), "modee = 1\n"), "", &["--engine", "crio"], "unknown key"),
        ("an engine elsewhere", nothing, "", &["--engine", "crio", "--restart"], "--restart does not reach the cri-o of another root directory"),
        ("etc read-only", nothing, &etc, &["--engine", "crio", "--method", "runtime"], "Read-only file system"),
        ("var read-only", nothing, &var, &["--engine", "crio"], "Read-only file system"),
        ("another run", lock, "exec 9<\"$R/var/lib/pss-guard/install/lock\" && flock 9", &["--engine", "crio", "--method", "runtime"], "is locked"),
        ("no runtime", |root| fs::remove_file(root.at("usr/bin/runc")).expect("a program"), "", &["--engine", "crio", "--method", "runtime"], "runc"),
        ("nothing is wrong", nothing, "", &["--engine", "crio"], ""),
    ];
    for (what, break_it, mount, arguments, words) in rows {
        let root = Root::new(CRIO);
        break_it(&root);
        let before = root.tree();
        let run = |more: &[&str]| {
            let mount = if mount.is_empty() { "true" } else { mount };
            let script = format!("{mount} && exec \"$0\" --root \"$R\" install \"$@\"");
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", &script]).arg(node::binary()).args(arguments).args(more);
            util::run(command.env("R", root.dir.path()))
        };
        let shown = run(&["--dry-run"]);
        assert_same(&root.tree(), &before, what);
        let done = run(&[]);
        assert_eq!((shown.code, &shown.stderr), (done.code, &done.stderr), "{what}\n{shown}\n{done}");
        assert_eq!(done.code, Some(if words.is_empty() { 0 } else { 2 }), "{what}\n{done}");
        assert!(done.stderr.contains(words), "{what}\n{done}");
        if !words.is_empty() {
            assert_same(&root.tree(), &before, what);
        }
    }
}

#[test]
fn an_engine_of_another_root_is_restarted_by_the_command_that_reaches_it_or_not_at_all() {
    let root = Root::new(CONTAINERD);
    root.program("containerd");
    let before = root.tree();
    let install = ["install", "--engine", "containerd", "--restart"];
    let done = root.call(&install);
    assert!(
        done.code == Some(2)
            && done.stderr.contains("nsenter -t 1 -m -- systemctl restart containerd.service"),
        "{done}"
    );
    assert_same(&root.tree(), &before, "refused");
    let mark = root.at("restarted");
    let command = format!("touch {}", mark.display());
    let done = root.call(&[&install[..], &["--restart-command", &command]].concat());
    assert!(done.code == Some(1) && mark.exists(), "{done}");
    assert!(done.stdout.contains("not shown: that it evaluates containers"), "{done}");
    fs::remove_file(&mark).expect("a file of ours");
    root.call(&[&install[..], &["--restart-command", &command, "--no-probe"]].concat()).expect_success();
    assert!(mark.exists());
    let uninstall = ["uninstall", "--restart"];
    let done = root.call(&uninstall);
    assert!(
        done.code == Some(2) && done.stderr.contains("--restart does not reach the containerd"),
        "{done}"
    );
    fs::remove_file(&mark).expect("a file of ours");
    root.call(&[&uninstall[..], &["--restart-command", &command]].concat()).expect_success();
    assert!(mark.exists());
    fs::remove_file(&mark).expect("a file of ours");
    assert_same(&root.tree(), &before, "uninstalled");
    // One that fails has the installation taken back.
    let done = root.call(&[&install[..], &["--restart-command", "exit 3"]].concat());
    assert!(done.code == Some(2) && done.stderr.contains("`exit 3` failed with exit status 3\n"), "{done}");
    assert_same(&root.tree(), &before, "taken back");
}

/// What is said when there is nothing, what is said to stay does stay, and no command is recommended that is gone.
#[test]
fn an_uninstallation_says_what_stays() {
    let root = Root::new(CONTAINERD);
    for program in ["containerd", "systemctl"] {
        root.program(program);
    }
    let nothing = root.call(&["uninstall"]).expect_success();
    assert_eq!(nothing.stdout, "pss-guard is not installed on this node; nothing was changed\n");
    let nothing = root.call(&["uninstall", "--engine", "crio"]).expect_success();
    assert!(nothing.stdout.starts_with("cri-o: the gate is not installed\n"), "{nothing}");

    root.call(&["install", "--engine", "containerd"]).expect_success();
    let clean = root.copy();
    let done = clean.call(&["uninstall"]).expect_success();
    assert!(!done.stdout.contains("what remains"), "{done}");

    for (path, text) in [
        ("etc/pss-guard/policy.toml", "mode = \"audit\"\n"),
        ("var/lib/pss-guard/metrics/counters", "x"),
        ("run/pss-guard/policy.cache", "x"),
        ("var/log/pss-guard/decisions.jsonl", ""),
        ("etc/systemd/system/pss-guard-scan.timer.d/override.conf", "[Timer]\n"),
    ] {
        node::write(&root.at(path), text);
    }
    let unit = root.at("etc/systemd/system/pss-guard-scan.service");
    let mine = util::read(&unit) + "# mine\n";
    node::write(&unit, &mine);
    // What the admin has edited, no second installation takes from him, and neither does the end of it.
    for arguments in
        [&["install", "--engine", "containerd"][..], &["install", "--engine", "containerd", "--dry-run"]]
    {
        let done = root.call(arguments).expect_success();
        assert!(
            done.stdout.contains("  kept /etc/systemd/system/pss-guard-scan.service, which was changed"),
            "{done}"
        );
        assert_eq!(util::read(&unit), mine);
    }
    // And a shim that still calls the gate's link.
    let task = "run/containerd/io.containerd.runtime.v2.task/k8s.io/id/runtime";
    node::write(&root.at(task), &format!("/{ENTRY}/pss-guard-runtime"));
    let done = root.call(&["uninstall"]).expect_success();
    let place = |path: &str| root.at(path).display().to_string();
    assert!(done.stdout.contains(&format!("  kept /etc/systemd/system/pss-guard-scan.service, which was changed since it was installed: `rm {}` removes it", place("etc/systemd/system/pss-guard-scan.service"))), "{done}");
    assert!(
        done.stdout
            .contains(&format!("`rm -r {}` removes them", place("var/lib/pss-guard/runtimes/containerd"))),
        "{done}"
    );
    assert!(!done.stdout.contains("`pss-guard ") && !root.at("usr/local/sbin/pss-guard").exists(), "{done}");
    let last = done.stdout.lines().last().unwrap_or_default();
    assert!(last.starts_with("what remains ") && !last.contains("runtimes"), "{done}");
    assert_eq!(util::read(&unit), mine);
    // The commands that were named, as they stand there, leave nothing of ours but what containers call.
    for line in done.stdout.lines() {
        for command in line.split('`').skip(1).step_by(2).filter(|command| !command.contains("/runtimes/")) {
            util::run(Command::new("sh").args(["-c", command])).expect_success();
        }
    }
    let left: Vec<PathBuf> =
        root.tree().into_keys().filter(|path| path.to_string_lossy().contains("pss-guard")).collect();
    let needed = ["var/lib/pss-guard", "run/containerd", "run/pss-guard"];
    assert!(left.iter().all(|path| needed.iter().any(|own| path.starts_with(own))), "{left:?}");
    assert!(root.at(ENTRY).join("pss-guard-runtime").is_symlink(), "what a container calls is gone");
}

/// A process that is called like the engine and does nothing; `up` starts it, `down` ends it.
const ENGINE: &str = "cp /usr/bin/sleep /containerd
    up() { /containerd 300 >/dev/null 2>&1 & echo $! >/engine; }
    down() { kill $(cat /engine); wait $(cat /engine) 2>/dev/null; }
    up
";

#[test]
fn a_restart_is_asked_for_until_there_was_one() {
    let name = "install::a_restart_is_asked_for_until_there_was_one";
    if !util::can_run(name, &["unshare", "mount", "chroot"]) {
        return;
    }
    let root = Root::new(RUNNING);
    let script = format!(
        "{ENGINE}
         try() {{ /gate install --engine containerd | grep -o 'it is active once containerd is restarted' || echo nothing; }}
         try; try; down; up; try
         echo 'version = 2' >/etc/containerd/config.toml; /gate uninstall >/dev/null; try; down; try"
    );
    let done = on_running_node(&root, "exec", &script).expect_success();
    let asks = "it is active once containerd is restarted";
    assert_eq!(done.stdout.lines().collect::<Vec<_>>(), [asks, asks, "nothing", asks, "nothing"], "{done}");
}

/// What ran, how it ended, what it said, what the node is now, and the way out.
#[test]
fn a_restart_that_fails_says_what_the_node_is_now() {
    let name = "install::a_restart_that_fails_says_what_the_node_is_now";
    if !util::can_run(name, &["unshare", "mount", "chroot"]) {
        return;
    }
    let again = "kill $(cat /engine); /containerd 300 & echo $! >/engine";
    let rows = [
        (
            "'echo one >&2; echo two >&2; exit 3'".to_owned(),
            "`echo one >&2; echo two >&2; exit 3` failed with exit status 3; it said:\n    one\n    two\n  the installation was rolled back; containerd was not restarted, and runs with its own configuration\n",
        ),
        (
            "false".to_owned(),
            "pss-guard: containerd: `false` failed with exit status 1\n  the installation was rolled back; containerd was not restarted, ",
        ),
        (
            format!("'{again}; ! grep -q pss-guard-runtime /etc/containerd/config.toml'"),
            "the installation was rolled back; containerd was restarted with its own configuration\n",
        ),
        (
            "'kill $(cat /engine); sleep 0.2; exit 4'".to_owned(),
            "the installation was rolled back; restarting containerd with its own configuration failed as well (`kill $(cat /engine); \
             sleep 0.2; exit 4` failed with exit status",
        ),
        (
            format!("'{again}; exit 5'"),
            "failed with exit status 5): until it is restarted, what it starts uses the configuration that was rolled back, and bypasses the gate\n",
        ),
        // systemd's own words, and the other way.
        (
            String::new(),
            "`systemctl restart containerd.service` failed with exit status 1; it said:\n    System has not been booted.\n    Host is \
             down.\n  use --restart-command to name another command that restarts containerd\n  the installation was rolled back; ",
        ),
    ];
    for (command, expected) in rows {
        let root = Root::new(RUNNING);
        let option = if command.is_empty() { "" } else { "--restart-command" };
        let script = format!(
            "{ENGINE} mkdir /fake; printf '#!/bin/sh\\n[ $1 != restart ] || {{ echo System has not been booted. >&2; echo Host is down. >&2; exit 1; }}' >/fake/systemctl
             chmod +x /fake/systemctl
             PATH=/fake:$PATH /gate install --engine containerd --restart {option} {command}; code=$?
             find /var/lib /etc/systemd /etc/tmpfiles.d -name '*pss-guard*' -type f 2>/dev/null; kill $(cat /engine) 2>/dev/null
             exit $code"
        );
        let done = on_running_node(&root, "exec", &script);
        assert!(
            done.code == Some(2) && done.stderr.contains(expected),
            "{command}\n{done}\ninstead of {expected}"
        );
        assert!(!done.stderr.contains("\\n"), "{done}");
        assert_eq!(
            util::read(&root.at(RUNNING[0].0)),
            RUNNING[0].1,
            "{command}: the engine's file is as it was"
        );
        let left = done.stdout.lines().filter(|line| line.starts_with('/')).collect::<Vec<_>>();
        assert!(left.is_empty(), "{command}: it is not installed, and yet there is {left:?}\n{done}");
    }
}

#[test]
fn who_is_not_root_is_told_so_and_who_keeps_the_program_elsewhere_where_it_is() {
    let name = "install::who_is_not_root_is_told_so_and_who_keeps_the_program_elsewhere_where_it_is";
    if !util::can_run(name, &["unshare", "mount", "chroot", "setpriv"]) {
        return;
    }
    let root = Root::new(RUNNING);
    let user = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let script = format!(
        "chmod 755 / /gate
         for command in 'install --engine containerd' 'install --engine auto --dry-run' uninstall 'uninstall --dry-run'; do
             {user} /gate $command; echo $?
         done
         mkdir /opt; cp /gate /opt/pss-guard-1; C='--config /etc/containerd/config.toml'
         /opt/pss-guard-1 install --engine containerd $C --dry-run; /opt/pss-guard-1 install --engine containerd $C"
    );
    let done = on_running_node(&root, "exec", &script).expect_success();
    let said: Vec<&str> = done.stderr.lines().collect();
    let as_root = |what| {
        format!("pss-guard: {what} as root: only root can change engines' files, and this is uid 65534")
    };
    let (install, uninstall) = (as_root("install"), as_root("uninstall"));
    assert_eq!(said, [&install, &install, &uninstall, &uninstall], "{done}");
    assert!(done.stdout.starts_with("2\n2\n2\n2\n"), "nothing is said before that\n{done}");
    let stays = "/opt/pss-guard-1 stays where it is, and /opt is not on the usual PATH: call it by its path, or `ln -s \
                 /opt/pss-guard-1 /usr/local/sbin/pss-guard`";
    assert_eq!(done.stdout.matches(stays).count(), 2, "{done}");
}

/// What came of the installer's own probes is in no report, no metric and no question; what calls itself a probe is.
#[test]
fn the_probes_of_an_installation_count_nowhere_and_nothing_else_can_pass_for_one() {
    let root = Root::new(CONTAINERD);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let at = u64::try_from(now.as_micros()).expect("a time") - 60_000_000;
    let event = |pod: &str, uid: &str, at: u64| {
        format!(
            "{{\"__REALTIME_TIMESTAMP\":\"{at}\",\"MESSAGE_ID\":\"59f78bbb8c304038b9583a3e361c18d7\",\"MESSAGE\":\"would \
             violate\",\"PSS_DECISION\":\"would-deny\",\"PSS_MODE\":\"audit\",\"PSS_LEVEL\":\"baseline\",\"PSS_ENGINE\":\
             \"containerd\",\"PSS_CONTROLS\":\"privileged\",\"PSS_NAMESPACE\":\"pss-guard-probe\",\"PSS_POD\":\"{pod}\",\
             \"PSS_POD_UID\":\"{uid}\",\"PSS_CONTAINER\":\"probe\",\"PSS_CONTAINER_ID\":\"{pod}-{uid}-{at}\"}}\n"
        )
    };
    let line = |at: u64, ended: bool| {
        format!(
            "{{\"at\":{at},\"ended\":{ended},\"engine\":\"containerd\",\"namespace\":\"pss-guard-probe\",\"pod\":\"of-ours\",\
             \"pod_uid\":\"1234\"}}\n"
        )
    };
    let second = 1_000_000;
    // The probe itself; then a pod of the same name, one of the same UID, and the name and UID of a probe that is long gone.
    let events = [
        event("of-ours", "1234", at + second),
        event("of-ours", "5678", at + second),
        event("of-others", "1234", at + second),
        event("of-ours", "1234", at + 40 * second),
    ];
    node::write(&root.at("var/log/pss-guard/decisions.jsonl"), &events.concat());
    let counted = |root: &Root| {
        let metrics = root.call(&["metrics"]).expect_success().stdout;
        let series = "violations_total{namespace=\"pss-guard-probe\"";
        let line = metrics.lines().find(|line| line.contains(series)).unwrap_or_default();
        line.rsplit(' ').next().unwrap_or_default().to_owned()
    };
    let starts = |root: &Root| {
        let report = root.call(&["report", "--no-scan", "--format", "json"]).expect_success().stdout;
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        report["starts"].as_u64().unwrap_or_default()
    };
    let without = root.copy();
    assert_eq!((counted(&without).as_str(), starts(&without)), ("4", 4), "nobody wrote a probe down");
    let probes = root.at("var/log/pss-guard/probes.jsonl");
    node::write(&probes, &(line(at, false) + &line(at + 2 * second, true)));
    let open = root.copy();
    fs::set_permissions(open.at("var/log/pss-guard/probes.jsonl"), fs::Permissions::from_mode(0o666))
        .expect("a mode");
    assert_eq!((counted(&open).as_str(), starts(&open)), ("4", 4), "everybody could have written it down");
    assert_eq!((counted(&root).as_str(), starts(&root)), ("3", 3));
    let question = root.call(&["mode", "enforce"]);
    let asked = format!("{}{}", question.stdout, question.stderr);
    assert!(asked.contains("3 starts"), "{question}");
    fs::write(root.at("var/log/pss-guard/decisions.jsonl"), &events[0]).expect("a file of ours");
    let question = root.call(&["mode", "enforce"]);
    assert!(!format!("{}{}", question.stdout, question.stderr).contains("of-ours"), "{question}");
}

/// A pod that is older than the gate passes it by for as long as it lives: what recreates each is said, but of those that
/// nobody judges.
#[test]
fn pods_that_are_older_than_the_gate_are_named_with_what_recreates_them() {
    let name = "install::pods_that_are_older_than_the_gate_are_named_with_what_recreates_them";
    if !util::can_run(name, &["unshare", "mount", "chroot"]) {
        return;
    }
    let root = Root::new(RUNNING);
    let hash = "0123456789abcdef0123456789abcdef";
    for (index, (namespace, pod, uid)) in [
        ("shop", "web-1", "1"),
        ("shop", "db-0", "2"),
        ("kube-system", "kube-proxy-x", "3"),
        ("ops", "static-node", hash),
        ("ops", "x;reboot", "5"),
    ]
    .into_iter()
    .enumerate()
    {
        let config = serde_json::json!({
            "ociVersion": "1.0.2",
            "annotations": {
                "io.kubernetes.cri.container-type": "sandbox",
                "io.kubernetes.cri.sandbox-namespace": namespace,
                "io.kubernetes.cri.sandbox-name": pod,
                "io.kubernetes.cri.sandbox-uid": uid,
            },
            "linux": {},
        });
        let bundle = format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{index}");
        node::write(&root.at(&bundle).join("config.json"), &config.to_string());
        node::write(&root.at(&bundle).join("runtime"), "/usr/bin/runc");
    }
    let script =
        "sleep 300 >/dev/null 2>&1 & for pod in /run/containerd/*/k8s.io/*; do echo $! >$pod/init.pid; done
                  /gate install --engine containerd --config /etc/containerd/config.toml
                  /gate install --engine containerd; kill $!";
    let done = on_running_node(&root, "exec", script).expect_success();
    let named: Vec<&str> = done.stdout.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let expected = [
        "(ops/x;reboot)",
        "(static pod ops/static-node: move its file out of the kubelet's folder and back)",
        "kubectl -n shop delete pod db-0",
        "kubectl -n shop delete pod web-1",
    ];
    assert_eq!(named, expected, "sorted, and once\n{done}");
}
