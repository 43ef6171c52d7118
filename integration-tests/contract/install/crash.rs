//! Does a run that is killed, or meets another one, leave a node that starts?

use std::fs;
use std::path::Path;
use std::process::Command;

use pss_guard::node::host::Live;

use super::{CONTAINERD, CONTAINERD_2, CONTAINERD_AND_PODMAN, CRIO, Files, Host, V2, assert_same};
use crate::support::run::{self, Done};
use crate::support::trace::{small_binary, traced, writes};
use crate::support::{needs, program, random};

#[test]
fn two_runs_do_not_meet() {
    let root = Host::new(CRIO);
    root.program("crio");
    root.call(&["install", "--engine", "crio"]).expect_success();
    let lock = fs::File::open(root.path("var/lib/pss-guard/install/lock")).expect("the lock");
    lock.lock().expect("to lock a file");
    // What the other run goes back to if it fails.
    root.file("var/lib/pss-guard/install/before/common/0", "kept");
    let before = root.tree();
    for arguments in [&["install", "--engine", "crio", "--method", "runtime"][..], &["uninstall"]] {
        let done = root.call(arguments);
        assert!(done.code == Some(2) && done.stderr.contains("is locked"), "{done}");
        assert_same(&root.tree(), &before, "locked");
    }
}

/// Runs a command that is held up for seconds at its nth call of a system call, and another one meanwhile, once `is_held`.
fn meanwhile(
    root: &Host,
    slow: &[&str],
    (call, number): (&str, usize),
    is_held: impl Fn() -> bool,
    quick: &[&str],
) -> (Done, Done) {
    let inject = format!("inject={call}:delay_enter=6000000:when={number}");
    let options = ["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject].map(str::to_owned);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| traced(&program::binary(), root.root(), slow, &options));
        assert!(run::eventually(is_held), "it was never held up");
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
    if !needs::can_run("what_another_run_installs_meanwhile_loses_nothing_to_an_uninstall", &["strace"]) {
        return;
    }
    // Before it looks what is left, and when it removes the first program.
    for held in [("flock", 2), ("unlink", 3)] {
        let root = Host::new(CONTAINERD_AND_PODMAN);
        root.program("podman");
        root.call(&["install", "--engine", "podman"]).expect_success();
        let manifest = root.path("var/lib/pss-guard/install/podman/manifest.json");
        let install = ["install", "--engine", "containerd"];
        let (removed, installed) =
            meanwhile(&root, &["uninstall", "--engine", "podman"], held, || !manifest.exists(), &install);
        let config = run::read(&root.path("etc/containerd/config.toml"));
        if config.contains("/pss-guard-runtime") {
            for needed in [
                "var/lib/pss-guard/bin/pss-guard",
                "var/lib/pss-guard/bin/pss-guard-gate",
                "var/lib/pss-guard/runtimes/containerd/runc/runtime",
                "var/lib/pss-guard/install/containerd/0.before",
            ] {
                assert!(root.path(needed).exists(), "{held:?}: {needed} is gone\n{removed}\n{installed}");
            }
        } else {
            assert!(installed.stderr.contains("is locked"), "{held:?}: {installed}");
        }
        root.call(&["uninstall"]).expect_success();
        assert!(!root.path("var/lib/pss-guard").exists() && config.contains("# ours"));
        assert_eq!(run::read(&root.path("etc/containerd/config.toml")), V2);
    }
}

#[test]
fn a_plan_for_a_node_that_another_run_has_changed_is_not_carried_out() {
    if !needs::can_run("a_plan_for_a_node_that_another_run_has_changed_is_not_carried_out", &["strace"]) {
        return;
    }
    let hook = ["install", "--engine", "crio", "--method", "hook"];
    let runtime = ["install", "--engine", "crio", "--method", "runtime"];
    // What is there before, who is held up with his plan, and who comes meanwhile.
    let rows = [(None, hook, &runtime[..]), (None, runtime, &hook), (Some(runtime), runtime, &["uninstall"])];
    for (before, slow, quick) in rows {
        let root = Host::new(CRIO);
        if let Some(before) = before {
            root.call(&before).expect_success();
        }
        let lock = root.path("var/lib/pss-guard/install/lock");
        let (planned, done) = meanwhile(&root, &slow, ("flock", 1), || is_open(&lock), quick);
        assert_eq!(done.code, Some(0), "{done}");
        assert!(planned.code == Some(2) && planned.stderr.contains("try again"), "{quick:?}\n{planned}");
        root.call(&slow).expect_success();
        root.call(&["uninstall"]).expect_success();
        assert!(!root.path("var/lib/pss-guard").exists());
    }
}

#[test]
fn a_kill_at_any_write_leaves_a_node_that_starts() {
    if !needs::can_run("a_kill_at_any_write_leaves_a_node_that_starts", &["strace", "strip"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    let program = &small_binary(folder.path());
    let rows: [(&str, Files); 2] = [("containerd", CONTAINERD_2), ("crio", CRIO)];
    std::thread::scope(|scope| {
        for (engine, files) in rows {
            scope.spawn(move || {
                let root = Host::new(files);
                root.program(engine);
                let install = ["install", "--engine", engine, "--method", "runtime"];
                kill_everywhere(program, &root, &install, &install);
                run::run(Command::new(program).arg("--root").arg(root.root()).args(install)).expect_success();
                kill_everywhere(program, &root, &["uninstall"], &install);
            });
        }
    });
}

/// A move of the programs to another directory: from the usual one, from one to the next, and back.
#[test]
fn a_kill_at_any_write_of_a_move_leaves_a_node_that_starts() {
    if !needs::can_run("a_kill_at_any_write_of_a_move_leaves_a_node_that_starts", &["strace", "strip"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    let program = &small_binary(folder.path());
    let rows = [
        (None, "/opt/one"),
        (Some("/var/lib/pss-guard/bin"), "/opt/one"),
        (Some("/opt/one"), "/opt/two"),
        (Some("/opt/one"), "/var/lib/pss-guard/bin"),
    ];
    std::thread::scope(|scope| {
        for rows in rows.chunks(2) {
            scope.spawn(move || {
                for (from, to) in rows {
                    let root = Host::new(CONTAINERD);
                    root.program("containerd");
                    for directory in ["opt/one", "opt/two"] {
                        root.file(&format!("{directory}/somebodys"), "");
                    }
                    let install = |to| ["install", "--engine", "containerd", "--directory", to];
                    if let Some(from) = from {
                        run::run(Command::new(program).arg("--root").arg(root.root()).args(install(from)))
                            .expect_success();
                    }
                    kill_everywhere(program, &root, &install(to), &install(to));
                }
            });
        }
    });
}

/// Kills a run at each of its writes, on a copy of the node.
fn kill_everywhere(program: &Path, start: &Host, arguments: &[&str], install: &[&str]) {
    let call = |root: &Host, arguments: &[&str]| {
        run::run(Command::new(program).arg("--root").arg(root.root()).args(arguments)).expect_success()
    };
    let engine_files = |root: &Host| {
        let mut tree = root.tree();
        tree.retain(|path, _| path.starts_with("etc"));
        tree
    };
    let (first, last) = (start.copy(), start.copy());
    let calls = writes(program, last.root(), arguments, 0);
    assert!(calls.len() > 20, "too few writes to be all: {calls:?}");
    let (old, new) = (engine_files(&first), engine_files(&last));
    call(&first, &["uninstall"]);
    let clean = first.tree();
    for (name, number) in calls {
        let what = format!("{arguments:?}, killed at {name} number {number}");
        let root = start.copy();
        let inject = format!("inject={name}:signal=SIGKILL:when={number}");
        let options = ["-o".to_owned(), "/dev/null".to_owned(), "-e".to_owned(), inject];
        let done = traced(program, root.root(), arguments, &options);
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
            let entry = root.path("var/lib/pss-guard/runtimes").join(engine).join("runc");
            let runtime = fs::read_link(entry.join("runtime")).expect(&what);
            let called = fs::read_link(entry.join("pss-guard-runtime")).expect(&what);
            let inside = Path::new("/var/lib/pss-guard/runtimes").join(engine).join("runc");
            // The directory of the programs may be a link, which is the node's.
            let place = Live::under(root.root()).place(&inside.join("pss-guard-runtime"));
            let found = if called.is_absolute() { called == runtime } else { place.is_file() };
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

/// Whatever was done of an upgrade when it was killed: the next one knows what worked before, and uninstall everything.
#[test]
fn a_kill_at_any_write_of_an_upgrade_that_fails_leaves_the_way_back() {
    let test = "a_kill_at_any_write_of_an_upgrade_that_fails_leaves_the_way_back";
    if !needs::can_run(test, &["strace", "strip"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    let [old, new] = ["old", "new"].map(|name| {
        fs::create_dir(folder.path().join(name)).expect("a folder of ours");
        small_binary(&folder.path().join(name))
    });
    for program in [old.clone(), old.with_file_name("pss-guard-gate")] {
        // Another build that does the same.
        let bytes = [fs::read(&program).expect("a program of ours"), b"old".to_vec()].concat();
        fs::write(&program, bytes).expect("a program of ours");
    }
    let call = |program: &Path, root: &Host, arguments: &[&str]| {
        run::run(Command::new(program).arg("--root").arg(root.root()).args(arguments))
    };
    let start = Host::new(CONTAINERD);
    start.program("containerd");
    let clean = start.copy();
    call(&old, &start, &["install", "--engine", "containerd"]).expect_success();
    // A handler that has come since, so that there is a file to change.
    let handler = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.other]\n  runtime_type = \"io.containerd.runc.v2\"\n";
    for root in [&start, &clean] {
        let config = root.path("etc/containerd/config.toml");
        fs::write(&config, run::read(&config) + handler).expect("a file of ours");
    }
    let upgrade = ["install", "--engine", "containerd", "--restart", "--restart-command", "exit 3"];
    let last = start.copy();
    let mut calls = writes(&new, last.root(), &upgrade, 2);
    // What gives, moves or takes a name: all that the next run can see.
    calls.retain(|(name, _)| ["link", "mkdir", "rename", "rmdir"].iter().any(|call| name.contains(call)));
    assert!(calls.len() > 30, "too few writes to be all: {calls:?}");
    let mut before = start.tree();
    let mut now = last.tree();
    let added = "var/lib/pss-guard/runtimes/containerd/other";
    now.retain(|path, _| !path.starts_with(added));
    // Times of day of the process that restarts; nothing else is new.
    before.retain(|path, _| now.contains_key(path) || !path.starts_with("run"));
    assert_same(&now, &before, "an upgrade that failed");
    let whole = last.tree();
    std::thread::scope(|scope| {
        for calls in calls.chunks(calls.len().div_ceil(2)) {
            let (start, clean, whole, new) = (&start, &clean, &whole, &new);
            scope.spawn(move || {
                for (name, number) in calls {
                    let what = format!("killed at {name} number {number}");
                    let root = start.copy();
                    let inject = format!("inject={name}:signal=SIGKILL:when={number}");
                    let options = ["-o".to_owned(), "/dev/null".to_owned(), "-e".to_owned(), inject];
                    let done = traced(new, root.root(), &upgrade, &options);
                    assert!(![Some(0), Some(2)].contains(&done.code), "{what}: nobody was killed\n{done}");
                    let other = root.copy();
                    call(new, &other, &["uninstall"]).expect_success();
                    assert_same(&other.tree(), &clean.tree(), &format!("{what}, then uninstalled"));
                    let done = call(new, &root, &upgrade);
                    assert_eq!(done.code, Some(2), "{what}: {done}");
                    assert!(done.stderr.contains("the previous installation was restored"), "{what}: {done}");
                    assert_same(&root.tree(), whole, &format!("{what}, then failed again"));
                }
            });
        }
    });
}

/// A power cut can only be told from a kill by what was on the disk: a file's bytes before it gets its name, and the
/// name before anything that rests on it. A name in use is never without a file. And what has its owner already is
/// not given to him, which a unit may be forbidden.
#[test]
fn a_file_is_on_the_disk_before_its_name_is_and_that_before_the_next() {
    if !needs::can_run(
        "install::a_file_is_on_the_disk_before_its_name_is_and_that_before_the_next",
        &["strace"],
    ) {
        return;
    }
    let root = Host::new(CONTAINERD);
    root.program("containerd");
    let log = root.root().join("..").join(format!("{}.log", random::id()));
    let calls = "trace=fsync,symlink,symlinkat,rename,renameat,renameat2,unlink,unlinkat,fchown".to_owned();
    let options = ["-y".to_owned(), "-o".to_owned(), log.display().to_string(), "-e".to_owned(), calls];
    let place = fs::canonicalize(root.root()).expect("a folder of ours");
    for arguments in [&["install", "--engine", "containerd"][..], &["uninstall"]] {
        traced(&program::binary(), &place, arguments, &options).expect_success();
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
