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

const PROGRAM: &str = "/opt/pss-guard";

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
