//! What does `install --programs` do, which packages call? It replaces the programs of an installed gate, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use pss_guard::node::host::Live;
use tempfile::TempDir;

use super::running::{RUNNING, on_running_node};
use super::{CONTAINERD, CONTAINERD_AND_PODMAN, Host, Tree, assert_same};
use crate::support::run::{self, Done};
use crate::support::trace::{small_binary, traced, writes};
use crate::support::{files, needs};

const PROGRAMS: [&str; 2] = ["install", "--programs"];
const GATE: &str = "var/lib/pss-guard/bin/pss-guard-gate";
const TOOL: &str = "var/lib/pss-guard/bin/pss-guard";
const POLICY: &str = "etc/pss-guard/policy.toml";

/// The program under test, and the gate beside it, in a size that can be copied often.
fn small() -> &'static Path {
    static SMALL: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let program = small_binary(folder.path());
        (folder, program)
    });
    &SMALL.1
}

fn call(root: &Host, arguments: &[&str]) -> Done {
    run::run(Command::new(small()).arg("--root").arg(root.root()).args(arguments))
}

/// A node with a gate of another build, which does the same.
fn installed(options: &[&str]) -> Host {
    let root = Host::new(CONTAINERD_AND_PODMAN);
    for directory in ["opt/one", "usr/local/sbin"] {
        fs::create_dir_all(root.path(directory)).expect("a folder of ours");
    }
    for engine in ["containerd", "podman"] {
        root.program(engine);
        call(&root, &[&["install", "--engine", engine][..], options].concat()).expect_success();
    }
    for path in [GATE, TOOL, "usr/local/sbin/pss-guard", "usr/local/sbin/pss-guard-gate"] {
        // The directory of the programs may be a link, which is the node's.
        let place = Live::under(root.root()).place(&Path::new("/").join(path));
        let bytes = [fs::read(&place).expect("a program"), b"old".to_vec()].concat();
        fs::write(place, bytes).expect("a program of ours");
    }
    root
}

/// What differs, by its path.
fn changed(before: &Tree, after: &Tree) -> Vec<String> {
    let paths = before.keys().chain(after.keys()).filter(|path| before.get(*path) != after.get(*path));
    let mut paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    paths.sort();
    paths.dedup();
    paths
}

#[test]
fn the_programs_of_an_installed_gate_are_replaced_and_nothing_else() {
    let all = [
        ("", "var/lib/pss-guard/bin/pss-guard", "var/lib/pss-guard/bin/pss-guard-gate"),
        ("/opt/one", "opt/one/pss-guard", "opt/one/pss-guard-gate"),
    ];
    for (directory, tool, gate) in all {
        let options = if directory.is_empty() { vec![] } else { vec!["--directory", directory] };
        let root = installed(&options);
        let before = root.tree();
        let done = call(&root, &[&PROGRAMS[..], &["--dry-run"]].concat()).expect_success();
        assert!(done.stdout.contains("would write /var/lib/pss-guard/bin/pss-guard-gate\n"), "{done}");
        assert_same(&root.tree(), &before, "a dry run");

        let done = call(&root, &PROGRAMS).expect_success();
        assert!(done.stdout.contains("wrote /var/lib/pss-guard/bin/pss-guard-gate\n"), "{done}");
        let mut expected = vec![tool, gate, "usr/local/sbin/pss-guard", "usr/local/sbin/pss-guard-gate"];
        expected.sort_unstable();
        assert_eq!(changed(&before, &root.tree()), expected, "{directory}: {done}");
        for (path, program) in [(tool, small().to_owned()), (gate, small().with_file_name("pss-guard-gate"))]
        {
            assert!(
                fs::read(root.path(path)).unwrap() == fs::read(program).unwrap(),
                "{path} is another program"
            );
        }
        assert_eq!(done.stdout.matches("run `pss-guard install").count(), 0, "{done}");

        let after = root.tree();
        let done = call(&root, &PROGRAMS).expect_success();
        assert!(done.stdout.contains("already installed; nothing changed"), "{done}");
        assert_same(&root.tree(), &after, "twice");
        call(&root, &["status"]).expect_success();
    }
}

#[test]
fn a_node_without_a_gate_gets_none() {
    let root = Host::new(CONTAINERD);
    files::write(&root.path(POLICY), "not even a policy");
    let before = root.tree();
    let done = call(&root, &PROGRAMS).expect_success();
    assert!(done.stdout.contains("`pss-guard install --engine auto --dry-run`"), "{done}");
    assert_same(&root.tree(), &before, "nothing was installed");
    let done = call(&root, &["install", "--programs", "--engine", "containerd"]);
    assert_eq!(done.code, Some(2), "the engines share them: {done}");
}

#[test]
fn what_is_refused_leaves_the_gate_of_before() {
    if !needs::can_run("install::programs::what_is_refused_leaves_the_gate_of_before", &[]) {
        return;
    }
    // What is wrong, and what is said.
    let rows: [(super::Break, &str); 5] = [
        (
            |root| files::write(&root.path(POLICY), "mode = \"audit\"\nmodee = 1\nmodus = 1\n"),
            // Each mistake.
            "unknown key \"modus\"",
        ),
        (
            |root| {
                files::write(&root.path(POLICY), "");
                files::set_mode(&root.path(POLICY), 0o666);
            },
            "must be writable by root alone",
        ),
        (
            |root| {
                let manifest = root.path("var/lib/pss-guard/install/podman/manifest.json");
                let newer = run::read(&manifest).replace("\"version\": 1", "\"version\": 2");
                fs::write(manifest, newer).expect("a file of ours");
            },
            "was written by a newer pss-guard",
        ),
        (
            // Somebody's, which is not a program.
            |root| {
                fs::remove_file(root.path(GATE)).expect("a program of ours");
                files::write(&root.path(GATE).join("somebodys"), "");
            },
            "pss-guard-gate",
        ),
        (
            |root| {
                fs::remove_file(root.path(TOOL)).expect("a program of ours");
                files::write(&root.path(TOOL).join("somebodys"), "");
            },
            "bin/pss-guard",
        ),
    ];
    for (nth, (break_it, says)) in rows.into_iter().enumerate() {
        let root = installed(&[]);
        break_it(&root);
        let before = root.tree();
        let dry = call(&root, &[&PROGRAMS[..], &["--dry-run"]].concat());
        // A dry run does not try to write.
        assert_eq!(dry.code, Some(if nth < 3 { 2 } else { 0 }), "{nth}: {dry}");
        let done = call(&root, &PROGRAMS);
        assert!(done.code == Some(2) && done.stderr.contains(says), "{nth}: {done}");
        let mut now = root.tree();
        now.retain(|path, _| before.contains_key(path) || !path.starts_with("var/lib/pss-guard/install"));
        assert_same(&now, &before, &format!("{nth}: {done}"));
    }
    // A tool without its gate.
    let root = installed(&[]);
    let before = root.tree();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let alone = folder.path().join("pss-guard");
    fs::copy(small(), &alone).expect("a copy of the program");
    let done = run::run(Command::new(&alone).arg("--root").arg(root.root()).args(PROGRAMS));
    assert!(done.code == Some(2) && done.stderr.contains("the installed gate was left as it is"), "{done}");
    assert_same(&root.tree(), &before, "without a gate beside it");
}

#[test]
fn what_else_install_would_do_and_whose_program_a_shell_finds_is_said() {
    let root = installed(&[]);
    let config = root.path(CONTAINERD[0].0);
    let handler = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.other]\n  runtime_type = \"io.containerd.runc.v2\"\n";
    fs::write(&config, run::read(&config) + handler).expect("a file of ours");
    fs::remove_file(root.path("var/lib/pss-guard/install/command")).expect("a mark of ours");
    let somebodys = fs::read(root.path("usr/local/sbin/pss-guard")).expect("a program");
    let done = call(&root, &PROGRAMS).expect_success();
    assert!(done.stdout.contains("run `pss-guard install --engine containerd`"), "{done}");
    assert!(!done.stdout.contains("--engine podman"), "{done}");
    let says = "not done: /usr/local/sbin/pss-guard is another program, which a shell may find first";
    assert!(done.stdout.contains(says), "{done}");
    assert_eq!(fs::read(root.path("usr/local/sbin/pss-guard")).expect("a program"), somebodys);
}

#[test]
fn another_run_is_waited_for() {
    let root = installed(&[]);
    let lock = fs::File::open(root.path("var/lib/pss-guard/install/lock")).expect("the lock");
    lock.lock().expect("to lock a file");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| call(&root, &PROGRAMS));
        std::thread::sleep(Duration::from_secs(1));
        assert!(!waits.is_finished(), "it did not wait");
        lock.unlock().expect("to unlock a file");
        waits.join().expect("a thread of ours").expect_success();
    });
}

/// A gate that does not run where it lies is not left there.
#[test]
fn a_gate_that_does_not_run_gives_way_to_the_one_of_before() {
    let name = "install::programs::a_gate_that_does_not_run_gives_way_to_the_one_of_before";
    if !needs::can_run(name, &["unshare", "mount", "chroot"]) {
        return;
    }
    let root = Host::new(RUNNING);
    let script = "/gate install --engine containerd --config /etc/containerd/config.toml >/dev/null || exit 3
         cd /var/lib/pss-guard/bin; for program in *; do cp $program /$program.old; done
         mkdir /new; cp /gate /new/pss-guard; cp /pss-guard-gate /new; for program in /new/*; do echo new >>$program; done
         mount -o remount,noexec /var/lib
         /new/pss-guard install --programs; code=$?
         for program in *; do cmp $program /$program.old || exit 4; done
         [ ! -e /var/lib/pss-guard/install/before ] || exit 5
         mount -o remount,exec /var/lib
         /new/pss-guard install --programs >/dev/null || exit 6
         cmp pss-guard-gate /new/pss-guard-gate && cmp pss-guard /new/pss-guard || exit 7
         exit $code";
    let done = on_running_node(&root, "exec", script);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.stderr.contains("the previous programs were restored"), "{done}");
}

#[test]
fn a_kill_at_any_write_leaves_one_gate_or_the_other() {
    if !needs::can_run(
        "install::programs::a_kill_at_any_write_leaves_one_gate_or_the_other",
        &["strace", "strip"],
    ) {
        return;
    }
    let start = Host::new(CONTAINERD);
    start.program("containerd");
    let clean = start.tree();
    call(&start, &["install", "--engine", "containerd"]).expect_success();
    let mut old = Vec::new();
    for path in [GATE, TOOL] {
        let bytes = [fs::read(start.path(path)).expect("a program"), b"old".to_vec()].concat();
        fs::write(start.path(path), &bytes).expect("a program of ours");
        old.push(bytes);
    }
    let last = start.copy();
    let mut calls = writes(small(), last.root(), &PROGRAMS, 0);
    // What gives, moves or takes a name: all that the next run can see.
    calls.retain(|(name, _)| ["link", "mkdir", "rename", "rmdir"].iter().any(|call| name.contains(call)));
    assert!(calls.len() > 10, "too few writes to be all: {calls:?}");
    let whole = last.tree();
    for (nth, (name, number)) in calls.into_iter().enumerate() {
        let what = format!("killed at {name} number {number}");
        let root = start.copy();
        let inject = format!("inject={name}:signal=SIGKILL:when={number}");
        let options = ["-o".to_owned(), "/dev/null".to_owned(), "-e".to_owned(), inject];
        let done = traced(small(), root.root(), &PROGRAMS, &options);
        assert_ne!(done.code, Some(0), "{what}: nobody was killed");
        let new = [small().with_file_name("pss-guard-gate"), small().to_owned()];
        for (of, path) in [GATE, TOOL].into_iter().enumerate() {
            let now = fs::read(root.path(path)).unwrap_or_else(|error| panic!("{what}: {path}: {error}"));
            assert!(
                now == old[of] || now == fs::read(&new[of]).unwrap(),
                "{what}: {path} is neither old nor new"
            );
        }
        // What is on the disk decides, and the next run is one or the other.
        if nth % 2 == 0 {
            call(&root, &PROGRAMS).expect_success();
            assert_same(&root.tree(), &whole, &format!("{what}, then again"));
        } else {
            call(&root, &["install", "--engine", "containerd"]).expect_success();
            assert!(!root.path("var/lib/pss-guard/install/before").exists(), "{what}, then installed");
            call(&root, &["uninstall"]).expect_success();
            assert_same(&root.tree(), &clean, &format!("{what}, then installed and uninstalled"));
        }
    }
}

/// What a run of `install` left that was killed, the next one can still go back to.
#[test]
fn what_a_killed_installation_goes_back_to_stays() {
    let root = installed(&[]);
    let snapshot = "var/lib/pss-guard/install/before";
    for name in ["common", "containerd"] {
        let list = r#"{"version":1,"stood":false,"installation":"containerd","pieces":[]}"#;
        files::write(&root.path(snapshot).join(name).join("before.json"), list);
    }
    call(&root, &PROGRAMS).expect_success();
    assert!(root.path(snapshot).join("containerd/before.json").exists());
    assert!(
        fs::read(root.path(GATE)).unwrap() == fs::read(small().with_file_name("pss-guard-gate")).unwrap()
    );
    call(&root, &["install", "--engine", "containerd"]).expect_success();
    assert!(!root.path(snapshot).exists());
}
