//! How does the gate come to stand before an engine, and how does it go? By the commands that people use.

use crate::support::engine::Kind;
use crate::support::machine::Machine;

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

/// Who restarts the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart<'a> {
    /// The program itself, by this command; after an installation it looks whether the gate is active.
    Command(&'a str),
    /// Somebody else, later.
    Later,
}

impl<'a> Restart<'a> {
    fn options(self) -> Vec<&'a str> {
        match self {
            Self::Command(command) => vec!["--restart", "--restart-command", command],
            Self::Later => Vec::new(),
        }
    }
}

pub(crate) const PROGRAM: &str = "/opt/pss-guard";

/// Installs it; what it said.
pub(crate) fn install(machine: &Machine, engine: &str, method: Method, restart: Restart<'_>) -> String {
    let line = [PROGRAM, "install", "--engine", engine, "--method", method.name()];
    machine.run(&[&line[..], &restart.options()].concat()).expect_success().stdout
}

/// And takes it away.
pub(crate) fn uninstall(machine: &Machine, engine: &str, restart: Restart<'_>) {
    let line = [PROGRAM, "uninstall", "--engine", engine];
    machine.run(&[&line[..], &restart.options()].concat()).expect_success();
}

/// The program finds nothing wrong.
pub(crate) fn stands(machine: &Machine, engine: &str) {
    machine.run(&[PROGRAM, "status", "--engine", engine]).expect_success();
}

/// In the place of the gate: lets everything pass, as a wrapper and as a hook, and says that it is one.
const FAKE: &str = "#!/bin/sh\n[ \"$1\" = --version ] && echo pss-guard-gate 9.9.9 && exit\n\
                    [ -x \"${0%/*}/runtime\" ] && exec \"${0%/*}/runtime\" \"$@\"\nexit 0\n";

/// `verify` proves a gate that refuses and no other. What is wrong with that, if anything.
pub(crate) fn is_verified(machine: &Machine, engine: &str) -> Option<String> {
    const GATE: &str = "/var/lib/pss-guard/bin/pss-guard-gate";
    let verify = |format: &str| machine.run(&[PROGRAM, "verify", "--engine", engine, "--format", format]);
    let sum = |path: &str| {
        let done = machine.run(&["sha256sum", path]).expect_success().stdout;
        done.split(' ').next().unwrap_or_default().to_owned()
    };
    let proved = verify("text");
    // Options have the names of programs, and what people read those of projects.
    let project = if engine == "crio" { "cri-o" } else { engine };
    let says = [
        &*format!(" {project} ("),
        " proved: gate ",
        &*format!(
            "sha256 {}, policy sha256 {}, enforce mode: ",
            sum(GATE),
            sum("/etc/pss-guard/policy.toml")
        ),
        "a harmless probe started",
        "a forbidden probe was refused: ",
    ];
    if proved.code != Some(0) || proved.stdout.lines().count() != 1 {
        return Some(format!("the gate should have been proved\n{proved}"));
    }
    if let Some(lacks) = says.iter().find(|says| !proved.stdout.contains(**says)) {
        return Some(format!("the line lacks {lacks:?}\n{proved}"));
    }
    machine.run(&["mv", GATE, "/run/machine/gate"]).expect_success();
    machine.write(GATE, FAKE);
    machine.run(&["chmod", "755", GATE]).expect_success();
    let fake = verify("text");
    machine.run(&["rm", GATE]).expect_success();
    machine.run(&["mv", "/run/machine/gate", GATE]).expect_success();
    let again = verify("json");
    if fake.code != Some(1)
        || !fake.stdout.contains(" NOT PROVED: gate 9.9.9 ")
        || fake.stdout.contains(" proved: ")
    {
        return Some(format!("a gate that lets everything pass should not have been proved\n{fake}"));
    }
    let is_proved = again.stdout.contains("\"proved\":true") && again.stdout.contains("\"missing\":[]");
    (again.code != Some(0) || !is_proved).then(|| format!("should have been proved again\n{again}"))
}

/// The engine's usual method, and the other one.
pub(crate) fn methods(kind: Kind) -> (Method, Method) {
    if kind.is_crio() { (Method::Hook, Method::Runtime) } else { (Method::Runtime, Method::Hook) }
}

/// The policy under which the gate is tried: one level for all that it does not exempt.
pub(crate) fn policy(mode: &str) -> String {
    format!(
        "mode = \"{mode}\"\n[defaults]\nenforce = \"restricted\"\naudit = \"privileged\"\nwarn = \"privileged\"\n"
    )
}
