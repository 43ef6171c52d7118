//! The root directory of a node: every file that the gate reads or writes lies below it, and it goes away with the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::run::{self, Done};
use crate::support::{files, program};

/// What `--root` names. The fixtures that know of containers are built on it.
pub(crate) struct Root {
    dir: tempfile::TempDir,
}

impl Root {
    /// An empty one, without a policy.
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root().join(inside)
    }

    /// Writes a file that everybody can read and root alone can write.
    pub(crate) fn file(&self, inside: &str, text: &str) -> PathBuf {
        let path = self.path(inside);
        files::write(&path, text);
        path
    }

    pub(crate) fn policy(&self, text: &str) -> PathBuf {
        self.file("etc/pss-guard/policy.toml", text)
    }

    /// Where events go that no journald takes.
    pub(crate) fn decisions(&self) -> PathBuf {
        decisions(self.root())
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        events(self.root())
    }

    /// The program's command line about this node.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program::binary());
        command.arg("--root").arg(self.root()).args(arguments);
        command
    }

    pub(crate) fn call(&self, arguments: &[&str]) -> Done {
        run::run(&mut self.command(arguments))
    }
}

/// Where events go that no journald takes.
pub(crate) fn decisions(root: &Path) -> PathBuf {
    root.join("var/log/pss-guard/decisions.jsonl")
}

/// The events below a root, oldest first.
pub(crate) fn events(root: &Path) -> Vec<Value> {
    let text = fs::read_to_string(decisions(root)).unwrap_or_default();
    // A gate may still be writing the last one.
    let text = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    // A gate that sees a line of another which is not whole yet begins with a line end of its own.
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}
