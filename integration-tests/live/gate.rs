//! How does the gate come to stand before an engine, and how does it go? By the commands that the README names.

use std::process::Stdio;

use crate::live::engine::{Engine, Kind};
use crate::live::machine::Machine;
use crate::util::{self, Done};

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Hook,
    Runtime,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::Runtime => "runtime",
        }
    }
}

/// The program under test, as it lies on every machine.
const PROGRAM: &str = "/opt/pss-guard";

/// Where a restart is asked for: the engine is this test's child, and systemd is not there to ask.
const RESTART: &str = "/run/restart-the-engine";

/// Puts it there, has the engine restarted, and asks whether it stands. What went wrong, if anything did.
pub(crate) fn install(engine: &mut Engine, method: Method) -> Option<String> {
    let name = engine_name(engine.kind);
    let before = engine.machine.snapshot();
    let arguments = ["install", "--engine", name, "--method", method.name()];
    let shown = engine.machine.run(&[&[PROGRAM], &arguments[..], &["--dry-run"]].concat());
    if shown.code != Some(0) || engine.machine.snapshot() != before {
        return Some(format!("a dry run should only show\n{shown}"));
    }
    let done = with_restarts(engine, &arguments);
    if done.code != Some(0) || !done.stdout.contains("seen: ") || done.stdout.contains("not shown: ") {
        return Some(format!("the installation should have been seen to judge\n{done}\n{}", engine.said()));
    }
    let again = engine.machine.run(&[&[PROGRAM], &arguments[..]].concat());
    if !again.stdout.contains("nothing changed") {
        return Some(format!("a second installation should change nothing\n{again}"));
    }
    let status = engine.machine.run(&[PROGRAM, "status", "--engine", name]);
    (status.code != Some(0)).then(|| format!("the gate should stand\n{status}"))
}

/// And takes it away.
pub(crate) fn uninstall(engine: &mut Engine) -> Option<String> {
    let name = engine_name(engine.kind);
    let done = with_restarts(engine, &["uninstall", "--engine", name]);
    (done.code != Some(0)).then(|| format!("the gate should be gone\n{done}"))
}

/// Runs a command of the product that restarts the engine, and restarts it when asked to.
fn with_restarts(engine: &mut Engine, arguments: &[&str]) -> Done {
    let ask = format!("touch {RESTART}; while test -e {RESTART}; do sleep 0.1; done");
    let mut command = engine.machine.command(PROGRAM);
    command.args(arguments).args(["--restart", "--restart-command", &ask]).stdin(Stdio::null());
    let asked = engine.machine.path(RESTART);
    util::run_while(&mut command, || {
        if asked.exists() {
            engine.restart();
            let _ = std::fs::remove_file(&asked);
        }
    })
}

fn engine_name(kind: Kind) -> &'static str {
    match kind {
        Kind::CriO => "crio",
        Kind::Containerd16 | Kind::Containerd17 | Kind::Containerd2 => "containerd",
    }
}

pub(crate) fn install_for_podman(machine: &Machine, method: Method) {
    machine.run(&[PROGRAM, "install", "--engine", "podman", "--method", method.name()]).expect_success();
    machine.run(&[PROGRAM, "status", "--engine", "podman"]).expect_success();
}

pub(crate) fn uninstall_for_podman(machine: &Machine) {
    machine.run(&[PROGRAM, "uninstall"]).expect_success();
}
