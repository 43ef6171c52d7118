//! What does it do on a node that runs: with engines to restart, and a gate that must be one?

use std::fs;
use std::process::Command;

use super::{CONTAINERD, Files, Host, assert_same};
use crate::support::run::{self, Done};
use crate::support::{files, needs, program};

/// Runs a script with a node's root directory as its own, so that this is a running node: with this machine's programs,
/// and processes and folders of its own. `options` are those of the mount of its `/var/lib`.
pub(super) fn on_running_node(root: &Host, options: &str, script: &str) -> Done {
    for (program, place) in [(program::binary(), "gate"), (program::gate(), "pss-guard-gate")] {
        fs::copy(program, root.path(place)).expect("a copy of the program");
    }
    let mounts = format!(
        "mount --bind \"$R\" \"$R\" || exit 9
         for folder in usr lib lib64 bin sbin dev; do
             if [ -L /$folder ]; then cp -P /$folder \"$R/$folder\";
             elif [ -d /$folder ]; then mkdir -p \"$R/$folder\" && mount --rbind /$folder \"$R/$folder\"; fi || exit 9
         done
         mkdir \"$R/proc\" && mount -t proc proc \"$R/proc\" || exit 9
         mount --bind -o ro \"$R/usr\" \"$R/usr\" && mount -t tmpfs -o {options} none \"$R/var/lib\" || exit 9
         exec chroot \"$R\" /bin/sh -c \"$0\""
    );
    let mut command = Command::new("unshare");
    run::run(command.args(["--mount", "--pid", "--fork", "sh", "-c", &mounts, script]).env("R", root.root()))
}

/// containerd with a runtime that is on this machine.
pub(super) const RUNNING: Files = &[(
    "etc/containerd/config.toml",
    "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]\nBinaryName = '/usr/bin/env'\n",
)];

#[test]
fn a_gate_that_cannot_be_executed_is_not_put_before_an_engine() {
    let name = "install::a_gate_that_cannot_be_executed_is_not_put_before_an_engine";
    if !needs::can_run(name, &["unshare", "mount", "chroot"]) {
        return;
    }
    for (options, code) in [("noexec", 2), ("exec", 0)] {
        let root = Host::new(RUNNING);
        let script = "/gate install --engine containerd --config /etc/containerd/config.toml; code=$?
                      ls /var/lib; exit $code";
        let done = on_running_node(&root, options, script);
        assert_eq!(done.code, Some(code), "{options}\n{done}");
        let now = run::read(&root.path(RUNNING[0].0));
        if code == 0 {
            assert!(now.contains("/pss-guard-runtime") && done.stdout.contains("\npss-guard\n"), "{done}");
        } else {
            let says = "the programs cannot lie in /var/lib/pss-guard/bin: /var/lib is mounted noexec";
            assert!(done.stderr.contains(says) && done.stderr.contains("--directory DIR"), "{done}");
            assert_eq!(now, RUNNING[0].1, "the engine's file is as it was");
            assert_eq!(done.stdout, "", "something is left in /var/lib\n{done}");
        }
    }
}

#[test]
fn only_what_a_run_has_installed_is_taken_back() {
    let name = "install::only_what_a_run_has_installed_is_taken_back";
    if !needs::can_run(name, &["unshare", "mount", "chroot"]) {
        return;
    }
    let plain = "/gate install --engine containerd --config /etc/containerd/config.toml";
    // An engine that does not come up with the gate.
    let failing = format!(
        "{plain} --restart --restart-command '! grep -q pss-guard-runtime /etc/containerd/config.toml'"
    );
    for (before, code, stays) in [("true", 2, false), (plain, 1, true)] {
        let root = Host::new(RUNNING);
        let done = on_running_node(&root, "exec", &format!("{before} >/dev/null && {failing}"));
        assert!(
            done.code == Some(code) && done.stderr.contains("config.toml` failed with exit status 1"),
            "{done}"
        );
        let gated = run::read(&root.path(RUNNING[0].0)).contains("/pss-guard-runtime");
        assert_eq!(gated, stays, "{before}\n{done}");
        // What the gate has published goes with it.
        let formats = run::read(&root.path("run/pss-guard/gate/formats"));
        let published = include_str!("../../fixtures/formats/formats-1.json");
        assert_eq!(formats, if stays { published } else { "" }, "{before}\n{done}");
        assert!(
            done.stderr.contains(if stays { "and stays installed" } else { "was rolled back" }),
            "{done}"
        );
    }
}

/// An upgrade that fails, and what the node is then: the programs, links and files of before, bytes and times, and the
/// same status. Where nothing stood before, nothing stands.
#[test]
fn an_upgrade_that_fails_goes_back_to_the_installation_that_worked() {
    let name = "install::an_upgrade_that_fails_goes_back_to_the_installation_that_worked";
    if !needs::can_run(name, &["unshare", "mount", "chroot"]) {
        return;
    }
    // The two builds differ by a line that no program reads. The engine, and its client, fail with the second.
    let prelude = format!(
        "{ENGINE}
         C='--engine containerd --config /etc/containerd/config.toml'; G=/var/lib/pss-guard/bin/pss-guard-gate
         mkdir /old /tmp; cp /gate /old/pss-guard; cp /pss-guard-gate /old/
         for program in /old/*; do echo old >>$program; done
         mount -t tmpfs none /usr/local/sbin || exit 9
         looks() {{
             find /etc /var/lib/pss-guard /usr/local/sbin -type f ! -name crictl ! -name lock ! -name standing.json -printf '%p %m ' -exec sha256sum {{}} \\; | sort
             find /var/lib/pss-guard -type l -printf '%p %l\n' | sort
             find /var/lib/pss-guard/install -name manifest.json -printf '%p %t\n'
             /gate status | sed -E 's/[0-9]+ seconds? ago//; s/process [0-9]+//'
         }}
         restart() {{ down; up; }}
         printf '#!/bin/sh\nkill $(cat /engine); /containerd 300 >/dev/null 2>&1 & echo $! >/engine; sleep 0.3' >/again
         printf '#!/bin/sh\n/again; ! cmp -s /pss-guard-gate %s' $G >/only-old
         cat >/usr/local/sbin/crictl <<'END'
#!/bin/sh
while [ $# -gt 0 ]; do case $1 in --*) shift 2 ;; *) break ;; esac; done
case $1 in
info) echo '{{\"status\":{{\"conditions\":[{{\"type\":\"RuntimeReady\",\"status\":true}},{{\"type\":\"NetworkReady\",\"status\":true}}]}}}}' ;;
images) echo '{{\"images\":[{{\"repoTags\":[\"registry.k8s.io/pause:3.9\"]}}]}}' ;;
runp) echo 'rpc error: the new gate fails' >&2; exit 1 ;;
esac
END
         cat >/other <<'END'
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.other]
runtime_type = 'io.containerd.runc.v2'
options = {{ BinaryName = '/usr/bin/sleep' }}
END
         chmod +x /again /only-old /usr/local/sbin/crictl
         try() {{ /gate install $C --restart --restart-command \"$1\" $2; }}
         dies() {{ try 'kill -9 $PPID' 2>/dev/null >&2; }}
         /old/pss-guard install $C >/dev/null || exit 9; restart; looks >/before
        "
    );
    let restored = "\n  the previous installation was restored; containerd was restarted with the previous configuration\n";
    // What happens, and what is said.
    let rows = [
        // A probe fails.
        ("try /again", "rpc error: the new gate fails", restored),
        // The engine does not come up.
        ("try /only-old --no-probe", "`/only-old` failed with exit status 1", restored),
        // Nothing comes up any more: the files are those of before all the same.
        (
            "try /bin/false",
            "`/bin/false` failed",
            "\n  the previous installation was restored; containerd was not restarted, and runs with",
        ),
        // The admin has added a handler: the file stays as the admin left it, and so does the new entry, which containers
        // may call by now.
        (
            "cat /other >>/etc/containerd/config.toml; looks >/before; try /only-old --no-probe; code=$?
             rm -r /var/lib/pss-guard/runtimes/containerd/other || exit 8; (exit $code)",
            "`/only-old` failed with exit status 1",
            restored,
        ),
        // A run that is killed leaves what the next one goes back to.
        ("dies; try /only-old --no-probe", "`/only-old` failed with exit status 1", restored),
        ("dies; dies; try /again", "the new gate fails", restored),
    ];
    for (script, why, then) in rows {
        let root = Host::new(RUNNING);
        let script = format!(
            "{prelude}
             {script}; code=$?; looks >/after; kill $(cat /engine)
             cmp $G /old/pss-guard-gate && diff /before /after && exit $code; exit 9"
        );
        let done = on_running_node(&root, "exec", &script);
        assert_eq!(done.code, Some(2), "{script}\n{done}");
        assert!(done.stderr.contains(why) && done.stderr.contains(then), "{script}\n{done}");
    }
    // What a killed run has left is nobody's business once another has succeeded, or all is gone.
    let root = Host::new(RUNNING);
    let script = format!(
        "{prelude}
         left() {{ ls -d /var/lib/pss-guard/install/before 2>/dev/null; }}
         dies; left || exit 8; try /again --no-probe && cmp $G /pss-guard-gate || exit 7; left && exit 6
         try /bin/false; cmp $G /pss-guard-gate || exit 5
         /old/pss-guard install $C >/dev/null; dies; left || exit 4
         /gate uninstall && kill $(cat /engine); ls /var/lib"
    );
    let done = on_running_node(&root, "exec", &script).expect_success();
    assert!(done.stderr.contains("and stays installed"), "{done}");
    assert!(!root.path("var/lib/pss-guard").exists() && !done.stdout.ends_with("pss-guard\n"), "{done}");
    assert_eq!(run::read(&root.path(RUNNING[0].0)), RUNNING[0].1);
}

/// All engines share the programs: what fails for one is put before none, and what another had stays.
#[test]
fn an_upgrade_that_fails_for_one_engine_leaves_all_with_the_programs_that_worked() {
    const BOTH: Files = &[CONTAINERD[0], super::DOCKER[0]];
    let old = tempfile::tempdir().expect("a temporary directory");
    for (program, name) in [(program::binary(), "pss-guard"), (program::gate(), "pss-guard-gate")] {
        let place = old.path().join(name);
        fs::copy(program, &place).expect("a copy of a program");
        let bytes = [fs::read(&place).expect("a program of ours"), b"old".to_vec()].concat();
        fs::write(place, bytes).expect("a program of ours");
    }
    // The engines that had the gate, the one whose restart fails, and what is said of the other.
    let rows = [
        (&["containerd", "docker"][..], "docker.service", "containerd: has the previous programs again"),
        (&["containerd", "docker"], "containerd.service", "docker: left alone"),
        // A new one that fails is undone.
        (&["docker"], "containerd.service", "docker: left alone"),
        (&["containerd"], "docker.service", "containerd: has the previous programs again"),
    ];
    for (had, fails, said) in rows {
        let root = Host::new(BOTH);
        for program in ["containerd", "dockerd"] {
            root.program(program);
        }
        for engine in had {
            let mut command = Command::new(old.path().join("pss-guard"));
            run::run(command.arg("--root").arg(root.root()).args(["install", "--engine", engine]))
                .expect_success();
        }
        let before = root.tree();
        // containerd is the first to be restarted.
        let counter =
            root.path("../").join(format!("{}-{fails}", root.root().file_name().unwrap().display()));
        let nth = if fails == "containerd.service" { 1 } else { 2 };
        let command = format!("echo >>{0}; [ $(wc -l <{0}) -ne {nth} ]", counter.display());
        let done = root.call(&[
            "install",
            "--engine",
            "auto",
            "--restart",
            "--no-probe",
            "--restart-command",
            &command,
        ]);
        fs::remove_file(counter).expect("a file of ours");
        assert_eq!(done.code, Some(2), "{done}");
        assert!(done.stderr.contains(said), "{said}\n{done}");
        let mut now = root.tree();
        now.retain(|path, _| before.contains_key(path));
        assert_same(&now, &before, &format!("{had:?}, {fails}\n{done}"));
        let engines: Vec<String> = fs::read_dir(root.path("var/lib/pss-guard/install"))
            .expect("the installer's folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .filter(|name| ["containerd", "docker", "before"].contains(&name.as_str()))
            .collect();
        assert_eq!(engines.len(), had.len(), "{engines:?}, {fails}\n{done}");
    }
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
    if !needs::can_run(name, &["unshare", "mount", "chroot"]) {
        return;
    }
    let root = Host::new(RUNNING);
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

/// What pss-guard-install.service calls: the file is written without the gate, status says so, the gate comes back and the
/// engine is restarted, and the log has since when. What writes its file at every restart is restarted once.
#[test]
fn a_file_that_is_written_again_gets_the_gate_back_and_the_time_between_is_logged() {
    let name = "install::a_file_that_is_written_again_gets_the_gate_back_and_the_time_between_is_logged";
    if !needs::can_run(name, &["unshare", "mount", "chroot"]) {
        return;
    }
    let root = Host::new(RUNNING);
    let script = format!(
        "{ENGINE}
         mkdir /fake; PATH=/fake:$PATH; F=/etc/containerd/config.toml; cp $F /without
         mkdir -p /run/systemd/system; echo systemd >/proc/$$/comm
         cat >/fake/systemctl <<'END'
#!/bin/sh
[ \"$1\" = stop ] && echo \"$*\" >>/restarts
[ \"$1\" = restart ] || exit 0
echo \"$*\" >>/restarts; [ ! -e /again ] || cp /without $F
kill $(cat /engine); sleep 0.1
/containerd 300 >/dev/null 2>&1 & echo $! >/engine
END
         chmod +x /fake/systemctl; export F
         repair() {{ /gate install --engine auto --repair; echo \"code $?\"; }}
         says() {{ /gate status | grep -oE '^  (ok|WRONG) +(configuration|process)' | tr -s ' '; }}
         repair
         /gate install --engine containerd >/dev/null; down; up; cp $F /with
         repair; says
         sleep 1; cp /without $F; date -ud @$(stat -c %Y $F) +%FT%TZ >/lost; says
         repair; says; cmp $F /with && echo same
         touch /again; cp /without $F; repair; says; cat /restarts
         /gate uninstall >/dev/null; rm /again; cp /without $F; repair; cmp $F /without && echo same"
    );
    let done = on_running_node(&root, "exec", &script).expect_success();
    let lines: Vec<&str> = done.stdout.lines().collect();
    let (ok, wrong) = ([" ok configuration", " ok process"], " WRONG configuration");
    let intact = "containerd: the gate is where it was installed";
    let lost =
        "containerd: the gate is not where it was installed; written without it: /etc/containerd/config.toml";
    let none = "the gate is not installed, so nothing was put back";
    let begins = "  containerd may have started containers without the gate from ";
    let wrote = "  wrote /etc/containerd/config.toml";
    let expected = [
        // Nothing is installed; then nothing is lost.
        none,
        "code 0",
        intact,
        "code 0",
        ok[0],
        ok[1],
        // It is lost; the engine runs with what it read before.
        wrong,
        ok[1],
        lost,
        wrote,
        begins,
        "code 0",
        ok[0],
        ok[1],
        "same",
        lost,
        wrote,
        begins,
        "code 2",
        wrong,
        ok[1],
        "restart containerd.service",
        // Watching it any longer would restart it for ever.
        "restart containerd.service",
        "stop pss-guard-install.path",
        none,
        "code 0",
        "same",
    ];
    assert_eq!(lines.len(), expected.len(), "{done}");
    for (line, expected) in lines.iter().zip(expected) {
        let is_it = if expected == begins { line.starts_with(begins) } else { *line == expected };
        assert!(is_it, "{line:?}, {expected:?}\n{done}");
    }
    assert!(
        lines[10].contains("Z until ") && lines[10].ends_with("when containerd was restarted with it"),
        "{done}"
    );
    assert!(
        lines[17].contains("and is still open") && done.stderr.contains("was not restarted once more"),
        "{done}"
    );
    let events =
        fs::read_to_string(root.path("var/log/pss-guard/decisions.jsonl")).expect("no journal takes them");
    let restored: Vec<&str> =
        events.lines().filter(|event| event.contains("\"PSS_DECISION\":\"restored\"")).collect();
    assert_eq!(restored.len(), 2, "{events}");
    // From the change of the file to the restart.
    let since = run::read(&root.path("lost"));
    let from = format!("may have started containers without the gate from {} until ", since.trim());
    assert!(
        restored[0].contains(&from) && restored[0].contains("when containerd was restarted"),
        "{from}\n{events}"
    );
    assert!(restored[1].contains("and is still open"), "{events}");
}

/// What ran, how it ended, what it said, what the node is now, and the way out.
#[test]
fn a_restart_that_fails_says_what_the_node_is_now() {
    let name = "install::a_restart_that_fails_says_what_the_node_is_now";
    if !needs::can_run(name, &["unshare", "mount", "chroot"]) {
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
        let root = Host::new(RUNNING);
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
            run::read(&root.path(RUNNING[0].0)),
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
    if !needs::can_run(name, &["unshare", "mount", "chroot", "setpriv"]) {
        return;
    }
    let root = Host::new(RUNNING);
    let user = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let script = format!(
        "chmod 755 / /gate
         for command in 'install --engine containerd' 'install --engine auto --dry-run' uninstall 'uninstall --dry-run'; do
             {user} /gate $command; echo $?
         done
         mkdir /opt; cp /gate /opt/pss-guard-1; cp /pss-guard-gate /opt/; C='--config /etc/containerd/config.toml'
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

/// A boot takes lost programs from the folder of the tool that has installed the gate. The same tool in another folder has nothing to
/// say of that; where it is another one there, it has.
#[test]
fn an_upgrade_by_the_same_programs_from_elsewhere_has_nothing_to_add() {
    let name = "install::an_upgrade_by_the_same_programs_from_elsewhere_has_nothing_to_add";
    if !needs::can_run(name, &["unshare", "mount", "chroot"]) {
        return;
    }
    let root = Host::new(RUNNING);
    // systemd is here, and does not run; it has a catalog and pages in /usr/local.
    let script = "chmod 755 /; mount -t tmpfs none /usr/local && mkdir /usr/local/sbin || exit 9
         printf '#!/bin/sh\n' >/usr/local/sbin/systemctl; chmod +x /usr/local/sbin/systemctl
         for folder in /opt/a/sbin /opt/b/sbin /root; do
             mkdir -p $folder; cp /gate $folder/pss-guard; cp /pss-guard-gate $folder/
         done
         /opt/a/sbin/pss-guard install --engine containerd --config /etc/containerd/config.toml >/dev/null || exit 9
         grep -q ' /opt/a/sbin/pss-guard-gate$' /etc/tmpfiles.d/pss-guard.conf || exit 8
         for folder in /opt/a/sbin /opt/b/sbin /root; do $folder/pss-guard install --programs; done
         echo older >>/opt/a/sbin/pss-guard-gate; echo ---; /opt/b/sbin/pss-guard install --programs";
    let done = on_running_node(&root, "exec", script).expect_success();
    let (same, other) = done.stdout.split_once("---\n").unwrap_or_else(|| panic!("{done}"));
    assert_eq!(same.matches("the programs of the gate\n").count(), 3, "{done}");
    assert!(!same.contains("in another way"), "{done}");
    assert!(other.contains("containerd: this version would install it in another way"), "{done}");
}

/// A pod that is older than the gate passes it by for as long as it lives: what recreates each is said, but of those that
/// nobody judges.
#[test]
fn pods_that_are_older_than_the_gate_are_named_with_what_recreates_them() {
    let name = "install::pods_that_are_older_than_the_gate_are_named_with_what_recreates_them";
    if !needs::can_run(name, &["unshare", "mount", "chroot"]) {
        return;
    }
    let root = Host::new(RUNNING);
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
        files::write(&root.path(&bundle).join("config.json"), &config.to_string());
        files::write(&root.path(&bundle).join("runtime"), "/usr/bin/runc");
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

#[test]
fn an_engine_of_another_root_is_restarted_by_the_command_that_reaches_it_or_not_at_all() {
    let root = Host::new(CONTAINERD);
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
    let mark = root.path("restarted");
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

/// From a pod that has the node's root in a folder everything is as on the node itself, whether or not it has the node's
/// process ids. Where the process file system is missing there, it is another root, and that is said.
#[test]
fn the_root_of_the_running_node_is_known_in_a_container() {
    let name = "install::the_root_of_the_running_node_is_known_in_a_container";
    if !needs::can_run(name, &["unshare", "mount", "chroot"]) {
        return;
    }
    let root = Host::new(RUNNING);
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "annotations": {
            "io.kubernetes.cri.container-type": "sandbox",
            "io.kubernetes.cri.sandbox-namespace": "shop",
            "io.kubernetes.cri.sandbox-name": "web-1",
            "io.kubernetes.cri.sandbox-uid": "1",
        },
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sleep"], "cwd": "/"},
        "mounts": [{"destination": "/data", "source": "/srv/link/data", "options": ["bind"]}],
        "linux": {},
    });
    let bundle = "run/containerd/io.containerd.runtime.v2.task/k8s.io/1";
    files::write(&root.path(bundle).join("config.json"), &config.to_string());
    files::write(&root.path(bundle).join("runtime"), "/usr/bin/runc");
    fs::create_dir_all(root.path("srv/data")).expect("a folder of ours");
    let script = format!(
        "{ENGINE}
         cat >/box <<'END'
mount --$MOUNT / /c/host || exit 8
for folder in usr lib lib64 bin sbin dev; do
    if [ -L /$folder ]; then ln -sfn \"$(readlink /$folder)\" /c/$folder;
    elif [ -d /$folder ]; then mkdir -p /c/$folder && mount --rbind /$folder /c/$folder; fi || exit 8
done
mkdir -p /c/proc && mount -t proc proc /c/proc && exec chroot /c /pss-guard --root /host \"$@\"
END
         # More mounts than the kernel tells in one piece.
         for nth in $(seq 100); do mkdir -p /srv/many/$nth; mount -t tmpfs none /srv/many/$nth || exit 9; done
         ln -s / /srv/link; mkdir -p /c/host /tmp; cp /gate /c/pss-guard; cp /pss-guard-gate /c/
         boxed() {{ MOUNT=$1 OWN=$2; shift 2; export MOUNT; unshare --mount $OWN sh /box \"$@\"; }}
         sleep 300 >/dev/null 2>&1 & echo $! >/{bundle}/init.pid
         plain() {{ sed -E 's/[0-9]+ seconds? ago//; s/[0-9]+ minutes? ago//; s/\"at\":\"[^\"]*\"//'; }}
         C='--engine containerd --config /etc/containerd/config.toml'
         echo install; boxed rbind '--pid --fork' install $C >/dev/null || exit 7
         cmp /var/lib/pss-guard/bin/pss-guard-gate /pss-guard-gate && cmp /var/lib/pss-guard/bin/pss-guard /gate || exit 6
         for command in 'status --verbose' 'scan --format json' 'scan --level restricted --format json'; do
             /gate $command 2>/dev/null | plain >/node; [ -s /node ] || exit 5
             for own in '--pid --fork' ''; do
                 boxed rbind \"$own\" $command 2>/said | plain >/boxed
                 diff /node /boxed && grep -q '^pss-guard: --root: the running node, with its processes$' /said || exit 4
             done
         done
         /gate status | grep -c 'containerd (process'
         boxed rbind '--pid --fork' status --format json 2>/dev/null | grep -o '\"root\":{{[^}}]*}}'
         /gate status --format json | grep -o '\"root\":{{[^}}]*}}'
         boxed bind '' status --format json 2>/said | grep -o '\"root\":{{[^}}]*}}'; cat /said
         unshare --mount sh -c 'mkdir /srv/seen; mount --rbind / /srv/seen; exec /gate --root /srv/seen status --format json' \
             2>/dev/null | grep -o '\"root\":{{[^}}]*}}'
         boxed rbind '' uninstall >/dev/null; exit 0"
    );
    let done = on_running_node(&root, "exec", &script).expect_success();
    let said: Vec<&str> = done.stdout.lines().collect();
    let expected = [
        "install",
        "1",
        r#""root":{"is":"mounted","path":"/host"}"#,
        r#""root":{"is":"own"}"#,
        r#""root":{"is":"other","path":"/host"}"#,
        "pss-guard: --root: another file system, without processes",
        r#""root":{"is":"mounted","path":"/srv/seen"}"#,
    ];
    assert_eq!(said, expected, "{done}");
    assert_eq!(run::read(&root.path(RUNNING[0].0)), RUNNING[0].1, "{done}");
}
