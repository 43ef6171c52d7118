//! Which files does an installation write, and what if it cannot?

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Break, CONTAINERD, CRIO, Host, ROWS, assert_same, difference};
use crate::support::{files, needs, program, run};

#[test]
fn modes_are_not_left_to_the_umask() {
    let usual = Host::new(CRIO);
    for program in ["crio", "systemctl"] {
        usual.program(program);
    }
    let (shut, before) = (usual.copy(), usual.tree());
    let install = ["install", "--engine", "crio", "--method", "runtime"];
    usual.call(&install).expect_success();
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077 && exec \"$0\" --root \"$@\""]).arg(program::binary());
    run::run(command.arg(shut.root()).args(install)).expect_success();
    assert_same(&shut.tree(), &usual.tree(), "umask 077");
    let mut tree = usual.tree();
    tree.retain(|path, (mode, _)| *mode & 0o170_000 == 0o100_000 && !before.contains_key(path));
    assert!(tree.len() > 10, "{:?}", tree.keys());
    for (path, (mode, _)) in tree {
        let expected = match path.to_string_lossy() {
            // Copies of files that can hold secrets; and who can open a lock can hold it.
            name if name.starts_with("var/lib/pss-guard/install/") => 0o600,
            name if name.ends_with("bin/pss-guard") || name.ends_with("bin/pss-guard-gate") => 0o755,
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
    if !needs::can_run("install::a_folder_may_be_a_mount_of_its_own", &["unshare", "mount"]) {
        return;
    }
    for mount in ["-t tmpfs none", "--bind \"$F\""] {
        let root = Host::new(CRIO);
        root.program("crio");
        let before = root.tree();
        let script = format!(
            "F=\"$1/etc/crio/crio.conf.d\" && exec 5<\"$F/10-runc.conf\" && mount {mount} \"$F\" && \
             {{ [ -e \"$F/10-runc.conf\" ] || cat <&5 >\"$F/10-runc.conf\"; }} && \
             \"$0\" --root \"$1\" install --engine crio --method runtime && ls -A \"$F\" && \
             \"$0\" --root \"$1\" uninstall && ls -A \"$F\""
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]).arg(program::binary()).arg(root.root());
        let done = run::run(&mut command).expect_success();
        assert_eq!(done.stdout.lines().filter(|line| *line == "99-pss-guard.conf").count(), 1, "{done}");
        assert_same(&root.tree(), &before, mount);
    }
}

/// A file system that takes nothing more: what is said names the file and the cause, no engine's file is half
/// written, and what was done can be taken back once there is room.
#[test]
fn a_file_system_that_cannot_be_written_is_said_and_leaves_a_node_that_starts() {
    if !needs::can_run(
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
        ("var full", full, 2, "var/lib/pss-guard/bin/pss-guard-gate", "No space left on device"),
        ("usr read-only", read_only("usr"), 0, "usr/local/sbin/pss-guard", "Read-only file system"),
    ];
    for (name, mount, code, thing, cause) in rows {
        let root = Host::new(CONTAINERD);
        // With it the node has systemd, and files for that.
        root.program("systemctl");
        let before = root.tree();
        let mut install = Command::new("unshare");
        install.args(["--mount", "sh", "-c", &format!("{mount} && exec \"$0\" --root \"$R\" \"$@\"")]);
        install.arg(program::binary()).args(["install", "--engine", "containerd"]).env("R", root.root());
        let done = run::run(&mut install);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert_eq!(done.code, Some(code), "{name}\n{done}");
        assert!(said.contains(thing) && said.contains(cause), "{name}: {thing}, {cause}\n{done}");
        if code == 0 {
            assert!(root.path("etc/systemd/system/pss-guard-status.service").exists(), "{name}\n{done}");
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
    if !needs::can_run(name, &["unshare", "mount"]) {
        return;
    }
    let root = Host::new(CRIO);
    let before = root.tree();
    // Of the same device, as a folder of another place that is bound there.
    let script = "mount --bind \"$R/etc/crio/crio.conf.d\" \"$R/etc/crio/crio.conf.d\" && exec \"$0\" --root \"$R\" \"$@\"";
    let mut install = Command::new("unshare");
    install.args(["--mount", "sh", "-c", script]).arg(program::binary()).env("R", root.root());
    run::run(install.args(["install", "--engine", "crio", "--method", "runtime"])).expect_success();
    assert!(root.path("etc/crio/crio.conf.d/99-pss-guard.conf").is_file());
    root.call(&["uninstall"]).expect_success();
    assert_same(&root.tree(), &before, "uninstalled");
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
        let root = Host::new(files);
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

#[test]
fn a_dry_run_refuses_what_an_installation_would() {
    if !needs::can_run("install::a_dry_run_refuses_what_an_installation_would", &["unshare", "mount"]) {
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
        ("a configuration that is none", |root| files::write(&root.path("etc/crio/crio.conf"), "[crio\n"), "", &["--engine", "crio"], "crio.conf"),
        ("a policy that is none", |root| files::write(&root.path("etc/pss-guard/policy.toml"), "modee = 1\n"), "", &["--engine", "crio"], "unknown key"),
        ("an engine elsewhere", nothing, "", &["--engine", "crio", "--restart"], "--restart does not reach the cri-o of another root directory"),
        ("etc read-only", nothing, &etc, &["--engine", "crio", "--method", "runtime"], "Read-only file system"),
        ("var read-only", nothing, &var, &["--engine", "crio"], "Read-only file system"),
        ("another run", lock, "exec 9<\"$R/var/lib/pss-guard/install/lock\" && flock 9", &["--engine", "crio", "--method", "runtime"], "is locked"),
        ("no runtime", |root| fs::remove_file(root.path("usr/bin/runc")).expect("a program"), "", &["--engine", "crio", "--method", "runtime"], "runc"),
        ("nothing is wrong", nothing, "", &["--engine", "crio"], ""),
    ];
    for (what, break_it, mount, arguments, words) in rows {
        let root = Host::new(CRIO);
        break_it(&root);
        let before = root.tree();
        let run = |more: &[&str]| {
            let mount = if mount.is_empty() { "true" } else { mount };
            let script = format!("{mount} && exec \"$0\" --root \"$R\" install \"$@\"");
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", &script]).arg(program::binary()).args(arguments).args(more);
            run::run(command.env("R", root.root()))
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
