//! Runs the README's installation commands, word for word, on a node with containerd and podman.
//!
//! Stand-ins replace what a machine in namespaces lacks: `dpkg` copies the programs under test to where the package has them,
//! `sudo` runs its arguments, and `systemctl` restarts containerd. `make dist-test` has the package itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::engine::{Engine, Kind};
use crate::support::machine::{Machine, changed};
use crate::support::run::Done;
use crate::support::{documents, needs, podman};

/// The reader's checkout: a place that may go away later, such as a home.
const CHECKOUT: &str = "/run/machine/checkout";

#[test]
fn readme() {
    follow("readme::readme");
}

fn follow(test: &str) {
    if !Kind::Containerd2.can_run(test) || !needs::can_run(test, &["podman", "conmon", "crun"]) {
        return;
    }
    let engine = Engine::up(Kind::Containerd2);
    let machine = &engine.machine;
    podman::lay_out(machine);
    // Its first call creates files of its own.
    machine.run(&["podman", "info"]).expect_success();
    shim(machine, "sudo", "exec \"$@\"");
    shim(machine, "make", "[ \"$*\" = dist ]");
    let package = concat!("target/dist/pss-guard_", env!("CARGO_PKG_VERSION"), "-1_amd64.deb");
    let unpack = "cp /opt/pss-guard /opt/pss-guard-gate /usr/sbin/";
    shim(machine, "dpkg", &format!("[ \"$*\" = '--install {package}' ] && {unpack}"));
    let restart = engine.restart_command();
    shim(machine, "systemctl", &format!("[ \"$*\" = 'restart containerd.service' ] || exit 1\n{restart}"));
    machine.run(&["mkdir", CHECKOUT]).expect_success();
    let before = machine.snapshot();

    let commands = documents::commands_of("Install");
    let [build, package, dry_run, install, status] = &commands[..] else {
        panic!("other commands: {commands:?}")
    };
    follow_line(machine, build).expect_success();
    follow_line(machine, package).expect_success();
    let shown = follow_line(machine, dry_run).expect_success();
    assert!(shown.stdout.contains("+++ /etc/containerd/config.toml"), "{shown}");
    assert_eq!(changed(&before, &machine.snapshot()), [""; 0], "a dry run changes nothing");
    let installed = follow_line(machine, install).expect_success();
    for engine in ["containerd, runtime method", "podman, hook method"] {
        let said = installed.stdout.split(engine).nth(1).unwrap_or_default();
        assert!(said.contains("seen: a harmless probe started"), "{engine}: {installed}");
    }
    assert!(
        installed.stdout.contains("seen: a forbidden probe was evaluated (would-deny) and started"),
        "{installed}"
    );
    let status = follow_line(machine, status).expect_success();
    assert_eq!(status.stdout.matches(" method: the gate is active").count(), 2, "{status}");
    assert!(status.stdout.starts_with("auditing: the gate is active for containerd, podman;"), "{status}");

    // And the way back that docs/install.md describes.
    machine.run(&["pss-guard", "uninstall", "--restart"]).expect_success();
    assert_eq!(changed(&before, &machine.snapshot()), [""; 0], "every byte is as it was");
}

fn follow_line(machine: &Machine, line: &str) -> Done {
    machine.run(&["sh", "-c", &format!("cd {CHECKOUT} && {line}")])
}

fn shim(machine: &Machine, name: &str, script: &str) {
    let path = format!("/usr/local/sbin/{name}");
    machine.write(&path, &format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(machine.path(&path), fs::Permissions::from_mode(0o755)).expect("a mode");
}
