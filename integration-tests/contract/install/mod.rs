//! Does `install` leave a node that starts, whatever happens to it, and `uninstall` every byte as it was?

// Does a run that is killed, or meets another one, leave a node that starts?
mod crash;
// What is of one distribution only?
mod distributions;
// What if the programs lie in a directory of the admin's?
mod directory;
// What are files labelled on a node with SELinux?
mod labels;
// Which files does an installation write, and what if it cannot?
mod written;
// What has the policy to do with it?
mod policy;
// What does a package do when it is upgraded?
mod programs;
// What becomes of the units of an older version?
mod retired;
// What does it do on a node that runs: with engines to restart, and a gate that must be one?
mod running;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::root::Root;
use crate::support::{files, program, run};

/// The root directory of a node without a running engine: programs, and files of engines.
struct Host {
    root: Root,
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
/// A containerd that says what its files say: `--version` by the main files of the tree it is in, `config dump`.
const CONTAINERD_PROGRAM: &str = r#"#!/bin/sh
if [ "$1" = --version ]; then
    version=1.7.24; tree=${0%/usr/bin/containerd}
    for file in etc/containerd/config.toml etc/k0s/containerd.toml srv/k3s/agent/etc/containerd/config.toml; do
        grep -qs '^version = 3' "$tree/$file" && version=2.1.9
    done
    echo "containerd github.com/containerd/containerd $version x"
elif [ "$1" = --config ]; then
    # Without a file, containerd has the handler runc.
    grep -qs . "$2" || printf 'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'
    # A handler in a drop-in has all that the one of the main file has, which comes last there.
    if grep -qs 'runtimes.runc\]' [1-9].toml; then sed '/runtimes.runc\]/,$d' "$2"; else cat "$2"; fi
    for file in [1-9].toml; do
        [ ! -e "$file" ] || grep -v '^version' "$file" || true
    done
else
    exit 1
fi
"#;
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

/// What happens to a host.
type Break = fn(&Host);

impl Deref for Host {
    type Target = Root;

    fn deref(&self) -> &Root {
        &self.root
    }
}

impl Host {
    fn new(files: Files) -> Self {
        let root = Self { root: Root::new() };
        for folder in ["usr/bin", "usr/sbin", "usr/local/sbin", "etc", "var/lib", "run"] {
            fs::create_dir_all(root.path(folder)).expect("a folder of a fresh node");
        }
        for program in ["runc", "conmon"] {
            root.program(program);
        }
        for (path, text) in files {
            files::write(&root.path(path), text);
            fs::set_permissions(root.path(path), fs::Permissions::from_mode(0o640)).expect("a mode");
        }
        root
    }

    fn program(&self, name: &str) {
        let path = self.path("usr/bin").join(name);
        files::write(&path, if name == "containerd" { CONTAINERD_PROGRAM } else { "#!/bin/sh\nexit 1\n" });
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    fn copy(&self) -> Self {
        let copy = Root::new();
        run::run(Command::new("cp").arg("-a").arg(self.path(".")).arg(copy.root())).expect_success();
        Self { root: copy }
    }

    fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        let mut folders = vec![self.root().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder").flatten() {
                let (path, metadata) = (entry.path(), entry.metadata().expect("metadata"));
                let bytes = if metadata.is_symlink() {
                    fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes()
                } else if metadata.is_dir() {
                    folders.push(path.clone());
                    Vec::new()
                } else if path.ends_with("install/standing.json") {
                    // Inodes and times of day.
                    Vec::new()
                } else {
                    fs::read(&path).expect("a file")
                };
                let name = path.strip_prefix(self.root()).expect("below the root").to_owned();
                tree.insert(name, (metadata.mode(), bytes));
            }
        }
        tree
    }

    /// Which file is which, and when each was last written.
    fn identities(&self) -> BTreeMap<PathBuf, (u64, i64, i64)> {
        let identity = |path: PathBuf| {
            let metadata = fs::symlink_metadata(self.root().join(&path)).expect("metadata");
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
        let root = Host::new(files);
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
        let root = Host::new(files);
        root.program(engine);
        let expected = root.copy();
        root.call(&["install", "--engine", engine, "--method", method]).expect_success();
        for root in [&root, &expected] {
            let text = fs::read_to_string(root.path(path)).expect("a configuration");
            fs::write(root.path(path), text + added).expect("a configuration of ours");
        }
        root.call(&["uninstall", "--engine", engine]).expect_success();
        assert_same(&root.tree(), &expected.tree(), &format!("{engine}, {method}"));
    }
}

#[test]
fn status_names_a_handler_that_came_later_and_not_a_file_that_was_never_there() {
    let root = Host::new(CRIO);
    root.program("crio");
    root.call(&["install", "--engine", "crio", "--method", "runtime"]).expect_success();
    let late = "[crio.runtime.runtimes.evil]\nruntime_path = \"/usr/bin/runc\"\n";
    files::write(&root.path("etc/crio/crio.conf.d/99-zz.conf"), late);
    let done = root.call(&["status", "--engine", "crio"]);
    let says = "the containers of evil start without the gate, until /etc/crio/crio.conf.d/zz-pss-guard.conf is there";
    assert!(done.code == Some(1) && done.stdout.contains(says), "{done}");
    assert!(!done.stdout.contains("no container starts with it"), "{done}");
    // One that was there is missing.
    fs::remove_file(root.path("etc/crio/crio.conf.d/99-zz.conf")).expect("a file of ours");
    fs::remove_file(root.path("etc/crio/crio.conf.d/99-pss-guard.conf")).expect("a file of ours");
    let done = root.call(&["status", "--engine", "crio"]);
    assert!(done.code == Some(1) && done.stdout.contains("99-pss-guard.conf is missing"), "{done}");
}

#[test]
fn a_method_gives_way_to_the_other() {
    for (engine, files) in [("crio", CRIO), ("podman", PODMAN)] {
        let root = Host::new(files);
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
    let root = Host::new(DOCKER);
    root.program("dockerd");
    let before = root.tree();
    let done = root.call(&["install", "--engine", "docker", "--method", "hook"]);
    assert!(done.code == Some(2) && done.stderr.contains("docker supports only --method runtime"), "{done}");
    assert_same(&root.tree(), &before, "a method that docker has not");
}

/// Everything of the installer's is lost, and its links are put back by hand. Then `uninstall` alone is refused, because files
/// still name the gate; `install` finds the way in which it stood, and after that `uninstall` leaves nothing that leads there.
#[test]
fn what_is_left_without_a_record_is_recorded_again() {
    let rows = [
        ("containerd", CONTAINERD, "runtime", "containerd"),
        ("crio", CRIO, "hook", "crio"),
        ("crio", CRIO, "runtime", "crio"),
        ("podman", PODMAN, "hook", "podman"),
        ("podman", PODMAN, "runtime", "podman"),
        ("docker", DOCKER, "runtime", "dockerd"),
    ];
    for (engine, files, method, program) in rows {
        let what = format!("{engine}, {method}");
        let root = Host::new(files);
        root.program(program);
        let names = |tree: &Tree| {
            let has = |bytes: &[u8]| bytes.windows(18).any(|part| part == b"/var/lib/pss-guard");
            let own = tree.iter().filter(|(path, (_, bytes))| path.starts_with("etc") && has(bytes));
            own.map(|(path, _)| path.clone()).collect::<Vec<_>>()
        };
        let mut before = root.tree();
        root.call(&["install", "--engine", engine, "--method", method]).expect_success();
        let links: Vec<(PathBuf, PathBuf)> = root
            .tree()
            .keys()
            .filter(|path| path.starts_with("var/lib/pss-guard/runtimes") && path.ends_with("runtime"))
            .map(|path| (root.root().join(path), fs::read_link(root.root().join(path)).expect("a link")))
            .collect();
        fs::remove_dir_all(root.path("var/lib/pss-guard")).expect("a folder of ours");
        for (link, runtime) in &links {
            fs::create_dir_all(link.parent().expect("a folder")).expect("a folder");
            for name in ["runtime", "pss-guard-runtime"] {
                symlink(runtime, link.with_file_name(name)).expect("a link");
            }
        }
        if method == "runtime" {
            let done = root.call(&["uninstall", "--engine", engine]);
            let says = "the record of its installation is gone";
            assert!(done.code == Some(2) && done.stderr.contains(says), "{what}: {done}");
        }
        let done = root.call(&["install", "--engine", engine]).expect_success();
        assert!(done.stdout.contains(&format!("{method} method")), "{what}: {done}");
        root.call(&["status", "--engine", engine]).expect_success();
        root.call(&["uninstall", "--engine", engine]).expect_success();
        let mut after = root.tree();
        assert_eq!(names(&after), Vec::<PathBuf>::new(), "{what}");
        assert!(!after.keys().any(|path| path.ends_with("hooks.d/pss-guard.json")), "{what}");
        // Files that were the engine's before have more in them than what led to the gate.
        if ["crio", "podman"].contains(&engine) {
            // Who made an empty folder is not known any more.
            for tree in [&mut after, &mut before] {
                tree.retain(|path, _| path.starts_with("etc") && root.root().join(path).is_file());
            }
            assert_same(&after, &before, &what);
        }
    }
}

/// CRI-O reads a hook when its file changes, and drops one whose program is missing then. So a gate that was gone has its file
/// written again, and one that was not leaves it alone.
#[test]
fn a_gate_that_comes_back_has_its_hook_read_again() {
    /// What is wrong, how it comes, the command, and whether it writes the hook.
    type Row<'a> = (&'a str, &'a dyn Fn(), &'a [&'a str], bool);
    let root = Host::new(CRIO);
    root.program("crio");
    let install = ["install", "--engine", "crio"];
    root.call(&install).expect_success();
    let hook = root.path("usr/share/containers/oci/hooks.d/pss-guard.json");
    let inode = || fs::metadata(&hook).expect("a hook").ino();
    let gate = root.path(GATE);
    let lost: &dyn Fn() = &|| fs::remove_file(&gate).expect("a gate");
    let away: &dyn Fn() = &|| {
        fs::rename(&gate, gate.with_extension("away")).expect("a gate");
        fs::rename(gate.with_extension("away"), &gate).expect("a gate");
    };
    let whole: &dyn Fn() = &|| ();
    let rows: [Row<'_>; 7] = [
        ("whole", whole, &["install", "--engine", "crio"], false),
        ("whole", whole, &["install", "--programs"], false),
        ("whole", whole, &["install", "--engine", "crio", "--repair"], false),
        ("lost", lost, &["install", "--engine", "crio"], true),
        ("lost", lost, &["install", "--programs"], true),
        ("away for a while", away, &["install", "--engine", "crio"], true),
        ("away for a while", away, &["install", "--engine", "crio", "--repair"], true),
    ];
    for (what, spoil, way, is_read) in rows {
        let before = inode();
        spoil();
        let would = root.call(&[&install[..], &["--dry-run"]].concat()).expect_success().stdout;
        assert_eq!(
            would.contains("pss-guard.json again, so that cri-o reads it"),
            is_read,
            "{what}: {would}"
        );
        assert_eq!(inode(), before, "{what}: nothing was done");
        let done = root.call(way).expect_success();
        assert_eq!(inode() != before, is_read, "{what}, {way:?}: {done}");
        root.call(&["status", "--engine", "crio"]).expect_success();
    }
}

#[test]
fn what_is_wrong_with_one_engine_keeps_the_gate_for_it_alone() {
    let root = Host::new(CONTAINERD);
    for program in ["containerd", "podman"] {
        root.program(program);
    }
    let before = root.tree();
    let config = root.path("etc/containerd/config.toml");
    let hook = || root.tree().keys().any(|path| path.starts_with("usr/share/containers/oci/hooks.d"));
    let called = || fs::read_link(root.path(ENTRY).join("pss-guard-runtime")).ok();
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
    assert_eq!(called().as_deref(), Some(Path::new("../../../bin/pss-guard-gate")), "{done}");
    assert!(root.path(GATE).exists(), "{done}");
    write(&installed);
    root.call(&["uninstall"]).expect_success();
    assert_same(&root.tree(), &before, "once it was mended");

    // What a run left that was killed before it installed anything: showing what would be done is not doing it.
    files::write(&root.path(GATE), "");
    root.call(&["uninstall", "--dry-run"]).expect_success();
    assert!(root.path(GATE).exists());
    root.call(&["uninstall"]).expect_success();
    assert_same(&root.tree(), &before, "once it was swept");
}

/// Before the gate was a program of its own, engines called the tool, which was both.
#[test]
fn an_installation_of_the_program_that_was_both_is_brought_over_whole() {
    const TOOL: &str = "var/lib/pss-guard/bin/pss-guard";
    let root = Host::new(CONTAINERD_AND_PODMAN);
    for program in ["containerd", "podman"] {
        root.program(program);
    }
    let before = root.tree();
    root.call(&["install", "--engine", "containerd"]).expect_success();
    root.call(&["install", "--engine", "podman", "--method", "runtime"]).expect_success();
    let installed = root.tree();
    let runtimes = root.path("var/lib/pss-guard/runtimes");
    let links: Vec<PathBuf> = installed
        .keys()
        .filter(|path| path.ends_with("pss-guard-runtime"))
        .map(|path| root.path(&path.to_string_lossy()))
        .collect();
    assert!(links.len() >= 2 && links.iter().all(|link| link.starts_with(&runtimes)), "{links:?}");
    for link in &links {
        fs::remove_file(link).unwrap();
        symlink("../../../bin/pss-guard", link).unwrap();
    }
    fs::remove_file(root.path(GATE)).unwrap();
    fs::remove_file(root.path("usr/local/sbin/pss-guard-gate")).unwrap();
    for program in [TOOL, "usr/local/sbin/pss-guard"] {
        fs::write(root.path(program), "the program of before").unwrap();
    }
    // Of one engine: the other's entries would lead to a tool that stands in for no runtime.
    root.call(&["install", "--engine", "containerd"]).expect_success();
    assert_same(&root.tree(), &installed, "as installed today");
    root.call(&["uninstall"]).expect_success();
    assert_same(&root.tree(), &before, "and undone");
}

/// Whatever lies beside the tool: a copy that was cut short must not take the place of a gate that works.
#[test]
fn only_a_gate_that_runs_is_put_before_an_engine() {
    let folder = tempfile::tempdir().unwrap();
    let (tool, beside) = (folder.path().join("pss-guard"), folder.path().join("pss-guard-gate"));
    fs::copy(program::binary(), &tool).unwrap();
    let gate = fs::read(program::gate()).unwrap();
    let script = |says: &str| format!("#!/bin/sh\necho {says}\n").into_bytes();
    #[rustfmt::skip]
    let rows = [
        (None, "is not there: `install` takes the gate from beside the tool"),
        (Some(Vec::new()), "does not run, or is not the gate"),
        (Some(gate.get(..4000).unwrap().to_vec()), "does not run, or is not the gate"),
        (Some(fs::read(&tool).unwrap()), "does not run, or is not the gate"),
        (Some(script("pss-guard-gate 0.0.9")), "is version 0.0.9, and this tool is"),
        (Some(gate), ""),
    ];
    for (bytes, fault) in rows {
        let root = Host::new(CONTAINERD);
        root.program("containerd");
        let before = root.tree();
        let _ = fs::remove_file(&beside);
        if let Some(bytes) = bytes {
            fs::write(&beside, bytes).unwrap();
            fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for more in [&["--dry-run"][..], &[]] {
            let mut install = Command::new(&tool);
            let done = run::run(
                install.arg("--root").arg(root.root()).args(["install", "--engine", "containerd"]).args(more),
            );
            let is_refused = done.code == Some(2) && done.stderr.contains(fault);
            assert!(if fault.is_empty() { done.code == Some(0) } else { is_refused }, "{fault}: {done}");
        }
        if !fault.is_empty() {
            assert_same(&root.tree(), &before, fault);
        }
    }
}

/// It runs where the tool does: on the machine that makes an image, or under the emulation of a container.
#[test]
fn a_gate_is_not_put_on_a_node_of_another_architecture() {
    let header = |machine: u8| [&b"\x7fELF\x02\x01\x01"[..], &[0; 11], &[machine, 0], &[0; 44]].concat();
    let (x86_64, arm64, riscv) = (62, 183, 243);
    let own = if cfg!(target_arch = "aarch64") { arm64 } else { x86_64 };
    for (engine, method, program, files) in [
        ("containerd", "runtime", "runc", CONTAINERD),
        ("crio", "runtime", "runc", CRIO),
        ("podman", "hook", "podman", PODMAN),
    ] {
        for machine in [x86_64, arm64, riscv] {
            let root = Host::new(files);
            root.program(program);
            fs::write(root.path("usr/bin").join(program), header(machine)).expect("a file of ours");
            let before = root.tree();
            let done = root.call(&["install", "--engine", engine, "--method", method]);
            if machine == own {
                done.expect_success();
                continue;
            }
            let theirs = format!("/usr/bin/{program} of this node one for ");
            assert!(done.code == Some(2) && done.stderr.contains(&theirs), "{machine}: {done}");
            assert_same(&root.tree(), &before, program);
        }
    }
}

#[test]
fn what_somebody_else_put_where_people_look_stays() {
    let root = Host::new(CONTAINERD);
    root.program("containerd");
    files::write(&root.path("usr/local/sbin/pss-guard"), "somebody's own");
    root.call(&["install", "--engine", "containerd"]).expect_success();
    assert!(root.path("usr/local/sbin/pss-guard-gate").exists());
    root.call(&["uninstall"]).expect_success();
    assert!(root.path("usr/local/sbin/pss-guard").exists());
    assert!(!root.path("usr/local/sbin/pss-guard-gate").exists());
}

/// It was the gate, too, once: a link to it that no `install` has found must not stop containers.
#[test]
fn an_entry_that_leads_to_the_tool_reaches_the_runtime() {
    let root = Host::new(&[]);
    let entry = program::entry(root.root(), "containerd", "runc", &root.path("usr/bin/fake"));
    files::write(&root.path("usr/bin/fake"), "#!/bin/sh\necho \"ran $*\"\n");
    fs::set_permissions(root.path("usr/bin/fake"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(&entry).unwrap();
    symlink(program::binary(), &entry).unwrap();
    let done = run::run(Command::new(&entry).args(["kill", "x", "9"])).expect_success();
    assert_eq!(done.stdout, "ran kill x 9\n");
}

#[test]
fn engines_share_the_hook_until_the_last_is_gone() {
    for (first, second) in [("crio", "podman"), ("podman", "crio")] {
        for (gone, left) in [("crio", "podman"), ("podman", "crio")] {
            let what = format!("{first}, {second}, without {gone}");
            let root = Host::new(CRIO);
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
    let root = Host::new(CONTAINERD);
    let none = root.call(&["install", "--engine", "auto"]);
    assert!(none.code == Some(2) && none.stderr.contains("no supported container engine"), "{none}");
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
        let root = Host::new(files);
        for program in ["crio", "podman", "dockerd"] {
            root.program(program);
        }
        let install = ["install", "--engine", engine, "--method", method];
        root.call(&install).expect_success();
        fs::rename(root.path("usr/bin/runc"), root.path("usr/sbin/runc")).expect("a program of ours");
        // What CRI-O's own files name is the admin's.
        if engine == "crio" {
            let file = root.path("etc/crio/crio.conf.d/10-runc.conf");
            fs::write(&file, run::read(&file).replace("/usr/bin/runc", "/usr/sbin/runc"))
                .expect("a file of ours");
        }
        root.call(&install).expect_success();
        let engines =
            fs::read_dir(root.path("var/lib/pss-guard/runtimes")).expect("an engine's entries").flatten();
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
    let root = Host::new(CONTAINERD);
    root.program("containerd");
    fs::copy(root.path("etc/containerd/config.toml"), root.path("etc/other.toml")).expect("a file of ours");
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
    let root = Host::new(PODMAN);
    root.program("podman");
    let install = ["install", "--engine", "podman", "--method", "runtime"];
    root.call(&install).expect_success();
    fs::rename(root.path("usr/bin/runc"), root.path("usr/local/sbin/runc")).expect("a file of ours");
    root.call(&install).expect_success();
    let manifest = run::read(&root.path("var/lib/pss-guard/install/podman/manifest.json"));
    assert!(manifest.contains("\"/usr/local/sbin/runc\""), "{manifest}");
}

#[test]
fn what_containers_call_stays_until_they_are_gone() {
    let root = Host::new(CONTAINERD);
    root.program("containerd");
    let before = root.tree();
    root.call(&["install", "--engine", "containerd"]).expect_success();
    // What a shim keeps of the runtime by which its container was started.
    let task = "run/containerd/io.containerd.runtime.v2.task/k8s.io/id/runtime";
    files::write(&root.path(task), &format!("/{ENTRY}/pss-guard-runtime"));
    for _ in 0..2 {
        let done = root.call(&["uninstall"]).expect_success();
        assert!(
            done.stdout.contains("1 running container or sandbox was started through the gate"),
            "{done}"
        );
        let called = fs::read_link(root.path(ENTRY).join("pss-guard-runtime")).expect("a link");
        assert_eq!(called, Path::new("/usr/bin/runc"), "{done}");
        assert!(!root.path(GATE).exists(), "{done}");
    }
    fs::remove_dir_all(root.path("run/containerd")).expect("a folder of ours");
    root.call(&["uninstall"]).expect_success();
    assert_same(&root.tree(), &before, "once nobody calls it");
}

#[test]
fn a_link_in_place_of_a_file_stays_one() {
    for (engine, files, path) in [
        ("containerd", CONTAINERD, "etc/containerd/config.toml"),
        ("docker", DOCKER, "etc/docker/daemon.json"),
    ] {
        let root = Host::new(files);
        root.program(if engine == "docker" { "dockerd" } else { engine });
        let target = root.path("etc/real");
        fs::rename(root.path(path), &target).expect("a file of ours");
        symlink("../real", root.path(path)).expect("a link");
        let before = root.tree();
        root.call(&["install", "--engine", engine]).expect_success();
        assert!(root.path(path).is_symlink(), "{engine}: the link was replaced by a file");
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
        let root = Host::new(files);
        root.program(program);
        let before = root.tree();
        let done = root.call(&["install", "--engine", engine]);
        assert!(done.code == Some(2) && done.stderr.contains(named), "{done}");
        assert!(!files[0].1.contains('[') && named == "version" || done.stderr.contains("line"), "{done}");
        assert_same(&root.tree(), &before, engine);
    }
}

#[test]
fn status_tells_what_is_broken() {
    let rows: [(&str, Break, &str); 3] = [
        ("no gate", |root| fs::remove_file(root.path(GATE)).expect("the gate"), "bin/pss-guard-gate"),
        (
            "no runtime",
            |root| fs::remove_file(root.path(ENTRY).join("runtime")).expect("a link"),
            "runtimes/",
        ),
        (
            "no link",
            |root| fs::remove_file(root.path(ENTRY).join("pss-guard-runtime")).expect("a link"),
            "pss-guard-runtime",
        ),
    ];
    for (what, break_it, named) in rows {
        let root = Host::new(CONTAINERD);
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

const GATE: &str = "var/lib/pss-guard/bin/pss-guard-gate";
const ENTRY: &str = "var/lib/pss-guard/runtimes/containerd/runc";

/// An engine that is not there has no gate, whatever it shares with one that is.
#[test]
fn an_engine_that_is_not_there_gets_no_gate() {
    for (engine, others) in [
        ("crio", &["podman", "containerd"][..]),
        ("podman", &["crio", "containerd"]),
        ("containerd", &["crio", "dockerd", "podman"]),
        ("docker", &["docker", "containerd"]),
    ] {
        let root = Host::new(&[("etc/containers/containers.conf", "")]);
        files::write(&root.path("usr/share/containers/oci/hooks.d/other.json"), "{}");
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

/// What is said when there is nothing, what is said to stay does stay, and no command is recommended that is gone.
#[test]
fn an_uninstallation_says_what_stays() {
    let root = Host::new(CONTAINERD);
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
        files::write(&root.path(path), text);
    }
    let unit = root.path("etc/systemd/system/pss-guard-scan.service");
    let mine = run::read(&unit) + "# mine\n";
    files::write(&unit, &mine);
    // What the admin has edited, no second installation takes from him, and neither does the end of it.
    for arguments in
        [&["install", "--engine", "containerd"][..], &["install", "--engine", "containerd", "--dry-run"]]
    {
        let done = root.call(arguments).expect_success();
        assert!(
            done.stdout.contains("  kept /etc/systemd/system/pss-guard-scan.service, which was changed"),
            "{done}"
        );
        assert_eq!(run::read(&unit), mine);
    }
    // And a shim that still calls the gate's link.
    let task = "run/containerd/io.containerd.runtime.v2.task/k8s.io/id/runtime";
    files::write(&root.path(task), &format!("/{ENTRY}/pss-guard-runtime"));
    let done = root.call(&["uninstall"]).expect_success();
    let place = |path: &str| root.path(path).display().to_string();
    assert!(done.stdout.contains(&format!("  kept /etc/systemd/system/pss-guard-scan.service, which was changed since it was installed: `rm {}` removes it", place("etc/systemd/system/pss-guard-scan.service"))), "{done}");
    assert!(
        done.stdout
            .contains(&format!("`rm -r {}` removes them", place("var/lib/pss-guard/runtimes/containerd"))),
        "{done}"
    );
    assert!(
        !done.stdout.contains("`pss-guard ") && !root.path("usr/local/sbin/pss-guard").exists(),
        "{done}"
    );
    let last = done.stdout.lines().last().unwrap_or_default();
    assert!(last.starts_with("what remains ") && !last.contains("runtimes"), "{done}");
    assert_eq!(run::read(&unit), mine);
    // The commands that were named, as they stand there, leave nothing of ours but what containers call.
    for line in done.stdout.lines() {
        for command in line.split('`').skip(1).step_by(2).filter(|command| !command.contains("/runtimes/")) {
            run::run(Command::new("sh").args(["-c", command])).expect_success();
        }
    }
    let left: Vec<PathBuf> =
        root.tree().into_keys().filter(|path| path.to_string_lossy().contains("pss-guard")).collect();
    let needed = ["var/lib/pss-guard", "run/containerd", "run/pss-guard"];
    assert!(left.iter().all(|path| needed.iter().any(|own| path.starts_with(own))), "{left:?}");
    assert!(root.path(ENTRY).join("pss-guard-runtime").is_symlink(), "what a container calls is gone");
}
