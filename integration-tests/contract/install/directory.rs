//! What if the programs lie in a directory of the admin's (`install --directory`)?

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::running::{RUNNING, on_running_node};
use super::{Break, CONTAINERD, CONTAINERD_AND_PODMAN, Host, assert_same};
use crate::support::needs;

const USUAL: &str = "/var/lib/pss-guard/bin";

/// A node with containerd, and two directories with a file of somebody's in each.
fn host() -> Host {
    let root = Host::new(CONTAINERD);
    root.program("containerd");
    for directory in ["opt/one", "opt/two"] {
        root.file(&format!("{directory}/somebodys"), "not ours");
    }
    root
}

fn install(directory: &str) -> [&str; 5] {
    ["install", "--engine", "containerd", "--directory", directory]
}

fn in_memory(place: &Path) -> bool {
    statfs(place).expect("a file system").filesystem_type() == TMPFS_MAGIC
}

/// Where the programs lie, by the files themselves.
fn places(root: &Host) -> Vec<&'static str> {
    let all = ["/opt/one", "/opt/two", USUAL];
    let is_there = |directory: &&str| {
        let inside = root.path(&directory[1..]);
        !inside.is_symlink() && ["pss-guard", "pss-guard-gate"].iter().all(|name| inside.join(name).is_file())
    };
    all.into_iter().filter(is_there).collect()
}

#[test]
fn the_programs_move_as_a_whole_and_leave_what_is_not_theirs() {
    let root = host();
    let before = root.tree();
    let unchanged = "already installed; nothing changed";
    // What is asked for, where the programs are then, and what is said.
    let rows: [(Option<&str>, &str, &str); 9] = [
        (Some("/opt/one"), "/opt/one", "wrote /var/lib/pss-guard/bin; the programs are in "),
        (Some("/opt/one/"), "/opt/one", unchanged),
        (None, "/opt/one", unchanged),
        (Some("/opt/two"), "/opt/two", "wrote /var/lib/pss-guard/bin; the programs are in "),
        (Some(USUAL), USUAL, "wrote /var/lib/pss-guard/bin; the programs are in "),
        (Some(USUAL), USUAL, unchanged),
        (None, USUAL, unchanged),
        (Some("/opt/one"), "/opt/one", "wrote /var/lib/pss-guard/bin; the programs are in "),
        (None, "/opt/one", unchanged),
    ];
    for (directory, expected, says) in rows {
        let arguments: Vec<&str> = match directory {
            Some(directory) => install(directory).to_vec(),
            None => vec!["install", "--engine", "containerd"],
        };
        let now = (root.tree(), root.identities());
        let shown = root.call(&[&arguments[..], &["--dry-run"]].concat()).expect_success();
        let link =
            format!("would write /var/lib/pss-guard/bin (a link to {expected}, with both programs there)");
        let moves = says != unchanged;
        assert_eq!(shown.stdout.contains(&link), moves && expected != USUAL, "{directory:?}: {shown}");
        assert_eq!(
            shown.stdout.contains("and move both programs there"),
            moves && expected == USUAL,
            "{shown}"
        );
        assert!((root.tree(), root.identities()) == now, "{directory:?}: a dry run changed something");

        let done = root.call(&arguments).expect_success();
        assert!(done.stdout.contains(says), "{directory:?}: {done}");
        assert!(moves || (root.tree(), root.identities()) == now, "{directory:?}: something changed\n{done}");
        assert_eq!(places(&root), [expected], "{directory:?}: {done}");
        assert!(!root.path("var/lib/pss-guard/bin.other").exists(), "{done}");
        let status = root.call(&["status"]).expect_success();
        let lies = format!(", in {expected}\n");
        assert_eq!(status.stdout.contains(&lies), expected != USUAL, "{directory:?}: {status}");
    }
    let shown = root.call(&["uninstall", "--dry-run"]).expect_success();
    for path in ["/pss-guard-gate", "/pss-guard", ""] {
        assert!(shown.stdout.contains(&format!("would remove /var/lib/pss-guard/bin{path}\n")), "{shown}");
    }
    root.call(&["uninstall"]).expect_success();
    assert_same(&root.tree(), &before, "somebody's files and directories stay");
}

#[test]
fn all_engines_share_the_directory() {
    let root = Host::new(CONTAINERD_AND_PODMAN);
    for program in ["containerd", "podman"] {
        root.program(program);
    }
    fs::create_dir_all(root.path("opt/one")).expect("a folder of ours");
    let before = root.tree();
    root.call(&["install", "--engine", "podman"]).expect_success();
    root.call(&["install", "--engine", "auto", "--directory", "/opt/one"]).expect_success();
    assert_eq!(places(&root), ["/opt/one"]);
    root.call(&["uninstall", "--engine", "podman"]).expect_success();
    assert_eq!(places(&root), ["/opt/one"], "containerd has the gate");
    root.call(&["status", "--engine", "containerd"]).expect_success();
    root.call(&["uninstall"]).expect_success();
    assert_same(&root.tree(), &before, "uninstalled");
}

#[test]
fn a_directory_that_others_can_change_or_that_is_not_there_is_refused() {
    if !needs::can_run("install::directory::a_directory_that_others_can_change", &[]) {
        return;
    }
    let mode = |root: &Host, path: &str, mode| {
        fs::set_permissions(root.path(path), fs::Permissions::from_mode(mode)).expect("a mode");
    };
    let open: Break = |root| {
        fs::set_permissions(root.path("opt/one"), fs::Permissions::from_mode(0o777)).expect("a mode");
    };
    // What is named, what is done to the node, and what is said.
    let rows: [(&str, Break, &str); 16] = [
        ("opt/one", |_| {}, "must be an absolute path"),
        ("/opt/two/../one", |_| {}, "without `..`"),
        ("/opt/one two", |_| {}, "without `..`, blanks"),
        ("/opt/nothing", |_| {}, "opt/nothing: No such file or directory"),
        ("/opt/one/somebodys", |_| {}, "must be a directory, but is a regular file"),
        (
            "/opt/one",
            |root| fs::set_permissions(root.path("opt"), fs::Permissions::from_mode(0o700)).expect("a mode"),
            "must be searchable for all users",
        ),
        ("/opt/one", open, "must be writable by root alone, but its mode is 0777"),
        (
            "/opt/one",
            |root| fs::set_permissions(root.path("opt"), fs::Permissions::from_mode(0o1777)).expect("a mode"),
            "opt must be writable by root alone",
        ),
        (
            "/opt/one",
            |root| chown(root.path("opt/one"), Some(1000), None).expect("an owner"),
            "must be owned by root, but is owned by uid 1000",
        ),
        (
            "/srv/one",
            |root| symlink("opt", root.path("srv")).expect("a link"),
            "leads through a symbolic link to /opt/one; name that one",
        ),
        (
            "/opt/link",
            |root| symlink("/opt/one", root.path("opt/link")).expect("a link"),
            "leads through a symbolic link to /opt/one; name that one",
        ),
        ("/var/lib/pss-guard", |_| {}, "it is removed with what the installer keeps there"),
        ("/var/lib/pss-guard/runtimes", |_| {}, "it is removed with what the installer keeps there"),
        ("/run/gate", |_| {}, "it is empty after a boot"),
        ("/usr/local/sbin", |_| {}, "the command that people call lies there"),
        (
            "/opt/one",
            |root| drop(root.file("opt/one/pss-guard-gate", "somebody's")),
            "/opt/one/pss-guard-gate is there, and no installation has put it there",
        ),
    ];
    for (directory, break_it, says) in rows {
        for first in [None, Some("/opt/two")] {
            let root = host();
            if let Some(first) = first {
                root.call(&install(first)).expect_success();
            }
            break_it(&root);
            let before = (root.tree(), root.identities());
            for more in [&[][..], &["--dry-run"]] {
                let done = root.call(&[&install(directory)[..], more].concat());
                assert_eq!(done.code, Some(2), "{directory}: {done}");
                assert!(done.stderr.contains(says), "{directory}: {says}\n{done}");
                assert!((root.tree(), root.identities()) == before, "{directory}: something changed\n{done}");
            }
        }
    }
    // What was a directory of root's when it was named.
    let root = host();
    root.call(&install("/opt/one")).expect_success();
    mode(&root, "opt", 0o777);
    let status = root.call(&["status"]);
    assert!(
        status.code == Some(1) && status.stdout.contains("opt must be writable by root alone"),
        "{status}"
    );
    let done = root.call(&["install", "--engine", "containerd"]);
    let says = "/var/lib/pss-guard/bin leads to /opt/one, which cannot be used";
    assert!(done.code == Some(2) && done.stderr.contains(says), "{done}");
    mode(&root, "opt", 0o755);
    root.call(&["status"]).expect_success();
    // Gone with its file system: another one does.
    fs::remove_dir_all(root.path("opt/one")).expect("a folder of ours");
    let status = root.call(&["status"]);
    assert!(status.code == Some(1) && status.stdout.contains("pss-guard-gate cannot be found"), "{status}");
    let done = root.call(&["install", "--engine", "containerd"]);
    assert!(done.code == Some(2) && done.stderr.contains(says), "{done}");
    root.call(&install("/opt/two")).expect_success();
    root.call(&["status"]).expect_success();
    assert_eq!(places(&root), ["/opt/two"]);
}

#[test]
fn where_var_cannot_execute_the_gate_runs_in_the_directory_that_was_named() {
    let name = "install::directory::where_var_cannot_execute";
    if !needs::can_run(name, &["unshare", "mount", "chroot"]) {
        return;
    }
    let gated = "C='--engine containerd --config /etc/containerd/config.toml'
         E=/var/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime
         mkdir -p /opt/gate; echo x >/opt/gate/somebodys";
    let plain = "is mounted noexec, so no container would start; name a directory of root's";
    // What is done on a node whose /var/lib is mounted noexec, the exit code, and what is said.
    let rows = [
        (
            "/gate install $C",
            2,
            "the programs cannot lie in /var/lib/pss-guard/bin: /var/lib is mounted noexec",
        ),
        (
            "chmod 755 /var/lib; mkdir /var/lib/else; /gate install $C --directory /var/lib/else; code=$?; rmdir /var/lib/else; (exit $code)",
            2,
            "the programs cannot lie in /var/lib/else: /var/lib is mounted noexec",
        ),
        (
            "mount --bind /opt/gate /opt/gate && mount -o remount,bind,noexec /opt/gate
          /gate install $C --directory /opt/gate",
            2,
            "the programs cannot lie in /opt/gate: /opt/gate is mounted noexec",
        ),
    ];
    for (script, code, says) in rows {
        let root = Host::new(RUNNING);
        let script = format!("{gated}\n{script}; code=$?; ls /var/lib; exit $code");
        let done = on_running_node(&root, "noexec", &script);
        assert_eq!(done.code, Some(code), "{script}\n{done}");
        assert!(done.stderr.contains(says) && done.stderr.contains(plain), "{script}\n{done}");
        assert_eq!(done.stdout, "", "something is left in /var/lib\n{done}");
        assert_eq!(fs::read_dir(root.path("opt/gate")).expect("a folder").count(), 1, "{done}");
    }
    // A file system in memory does where everything else is on one, too.
    for (var, code) in [("true", 0), ("umount /var/lib && mkdir -p /var/lib", 2)] {
        let root = Host::new(RUNNING);
        if var != "true" && in_memory(root.root()) {
            continue;
        }
        let script = format!(
            "{gated}\n{var}; mount -t tmpfs -o mode=755 none /opt/gate; /gate install $C --directory /opt/gate; code=$?
             ls -A /opt/gate; exit $code"
        );
        let done = on_running_node(&root, "exec", &script);
        assert_eq!(done.code, Some(code), "{var}\n{done}");
        let says = "/opt/gate is a file system in memory, which a boot empties";
        assert_eq!(done.stderr.contains(says), code == 2, "{var}\n{done}");
        assert!(code == 0 || done.stdout.is_empty(), "{var}\n{done}");
    }
    // The gate starts the runtime of this node, which is env(1), through the link.
    let root = Host::new(RUNNING);
    let script = format!(
        "{gated}
         /gate install $C --directory /opt/gate || exit 3
         $E --version || exit 4
         /gate install $C --restart --restart-command true --no-probe || exit 5
         /gate install $C --repair || exit 6
         /gate status | grep 'gate .*, in /opt/gate$' || exit 7
         $E --version | grep -q env || exit 8
         /gate install $C --directory /var/lib/pss-guard/bin && exit 9
         $E --version | grep -q env || exit 10
         /gate uninstall || exit 11
         ls -A /opt/gate; ls -d /var/lib/pss-guard/bin*; true"
    );
    let script = script.replace("$C --repair", "--engine containerd --repair");
    let done = on_running_node(&root, "noexec", &script).expect_success();
    assert!(
        done.stderr.contains("/var/lib is mounted noexec"),
        "back into a place that cannot execute\n{done}"
    );
    assert!(done.stdout.ends_with("\nsomebodys\n"), "{done}");
}

#[test]
fn a_container_that_starts_while_the_programs_move_finds_a_gate() {
    let name = "install::directory::a_container_that_starts_while_the_programs_move";
    if !needs::can_run(name, &["unshare", "mount", "chroot", "strace"]) {
        return;
    }
    let root = Host::new(RUNNING);
    // After each change of a name, so that many containers start before the next one.
    let script = "mkdir -p /opt/one /opt/two
         T=rename,renameat,renameat2,symlink,symlinkat,unlink,unlinkat,rmdir
         S=\"strace -f -qq -o /dev/null -e trace=$T -e inject=$T:delay_exit=20000\"
         I=\"$S /gate install --engine containerd --config /etc/containerd/config.toml\"
         E=/var/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime
         $I >/dev/null || exit 3
         while [ ! -e /done ]; do
             if $E --version >/dev/null 2>/said; then echo >>/started; else cat /said >>/failed; fi
         done &
         for to in /opt/one /opt/two /var/lib/pss-guard/bin; do $I --directory $to >/dev/null || exit 4; done
         touch /done; wait
         cat /failed 2>/dev/null
         [ $(wc -l </started) -gt 50 ]";
    let done = on_running_node(&root, "exec", script).expect_success();
    assert_eq!(done.stdout, "", "a start found no gate\n{done}");
}

#[test]
fn an_upgrade_that_fails_goes_back_to_the_directory_of_before() {
    // The first one: there is nothing to go back to.
    let root = host();
    let before = root.tree();
    let fails = ["--restart", "--restart-command", "false"];
    let done = root.call(&[&install("/opt/one")[..], &fails].concat());
    assert!(done.code == Some(2) && done.stderr.contains("was rolled back"), "{done}");
    let mut now = root.tree();
    now.retain(|path, _| before.contains_key(path) || !path.starts_with("run"));
    assert_same(&now, &before, "the first one");

    let rows = [(USUAL, "/opt/one"), ("/opt/one", "/opt/two"), ("/opt/two", USUAL)];
    for (from, to) in rows {
        let root = host();
        root.call(&install(from)).expect_success();
        // Another build, so that its bytes tell what was put back.
        for name in ["pss-guard", "pss-guard-gate"] {
            let place = root.path(&from[1..]).join(name);
            let bytes = [fs::read(&place).expect("a program"), b"old".to_vec()].concat();
            fs::write(&place, bytes).expect("a program of ours");
        }
        let before = root.tree();
        let done = root.call(&[&install(to)[..], &fails].concat());
        assert_eq!(done.code, Some(2), "{from} {to}: {done}");
        assert!(done.stderr.contains("the previous installation was restored"), "{done}");
        let mut now = root.tree();
        // Formats and processes of the run.
        now.retain(|path, _| before.contains_key(path) || !path.starts_with("run"));
        assert_same(&now, &before, &format!("{from} {to}\n{done}"));
        root.call(&["status"]).expect_success();
    }
}

/// The programs, links and the directory outlast a boot there, and containerd's file does not.
#[test]
fn on_container_optimized_os_a_boot_takes_the_gate_and_the_next_installation_brings_it_back() {
    let root = host();
    root.file("etc/os-release", "NAME=\"Container-Optimized OS\"\nID=cos\n");
    let config = fs::read(root.path(CONTAINERD[0].0)).expect("a file of ours");
    let done = root.call(&install("/opt/one")).expect_success();
    let says = "/etc of Container-Optimized OS is made at every boot";
    assert!(done.stdout.contains(&format!("  open: {says}")), "{done}");
    let status = root.call(&["status"]).expect_success();
    assert!(status.stdout.contains("GKE on COS") && status.stdout.contains(says), "{status}");

    fs::remove_dir_all(root.path("etc/systemd")).unwrap_or_default();
    fs::write(root.path(CONTAINERD[0].0), &config).expect("a file of ours");
    let status = root.call(&["status"]);
    assert!(status.code == Some(1) && status.stdout.contains("WRONG"), "{status}");
    root.call(&["install", "--engine", "containerd"]).expect_success();
    root.call(&["status"]).expect_success();
    assert_eq!(places(&root), ["/opt/one"]);
    root.call(&["uninstall"]).expect_success();
    assert_eq!(fs::read(root.path(CONTAINERD[0].0)).expect("a file of ours"), config);
}
