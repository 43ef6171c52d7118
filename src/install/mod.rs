//! Installs the gate for an engine, and uninstalls it.
//!
//! ```text
//!  the node's files ─► engines::<engine>::plan ─► Plan ─► transaction::apply ─► files, backups, manifest
//!   (node::Node)            pure                            │ place: gate binary, entries (first)
//!                                                           │ engine's files, in order (last)
//!  manifest, files ──────► engines::<engine>::strip ─► transaction::undo
//! ```
//!
//! Planning is pure: an engine's installer reads through [`Node`] and answers with the files as they should be,
//! so a table of texts tests it. All writing is in [`transaction`], the same for every engine: a backup of everything
//! first, then a manifest that says what will be done, then the files, each by rename.
//!
//! [`job`] is the order of a whole run: prepare, write, restart, prove. [`before`] keeps what an upgrade replaces, so that a
//! run that fails goes back to it.

pub mod adopt;
pub mod before;
pub mod detect;
pub mod directory;
pub mod engines;
pub mod job;
pub mod labels;
pub mod persist;
pub mod presence;
pub mod programs;
pub mod restart;
pub mod sandboxes;
pub mod standing;
pub mod transaction;
pub mod units;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::FileError;
use crate::node::distribution::Distribution;
use crate::node::host::Node;
use crate::pss::facts::Engine;

/// How the gate is active for an engine's containers.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// As an OCI hook, which the runtime calls.
    Hook,
    /// As the runtime, which hands over to the real one.
    Runtime,
}

impl Method {
    /// The word on the command line and in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::Runtime => "runtime",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is to be installed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// By which method.
    pub method: Method,
    /// The engine's configuration file, where it is not the usual one.
    pub config: Option<&'a Path>,
    /// The distribution of the node.
    pub distribution: &'a Distribution,
}

/// What has to be done. Nothing has been done yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The runtimes that the gate is active in front of, by handler.
    pub entries: Vec<Entry>,
    /// The engine's files, in the order in which they are to be written: after any number of them the engine must
    /// still be able to start, and to start containers. Files that are as they should be are not among them.
    pub changes: Vec<Change>,
    /// Files that this rests on and another engine may rest on as well, whether or not they are among the changes:
    /// they stay as long as the installation of any engine names them.
    pub shared: Vec<PathBuf>,
    /// The engine's files that it rests on, changed or not.
    pub read: Vec<PathBuf>,
    /// What the gate will not cover although somebody could think so, a sentence each: a handler of another kind, a
    /// built-in runtime that cannot be replaced.
    pub open: Vec<String>,
    /// Those of them that are handlers whose containers pass the gate by: the handler, and its sentence.
    pub ungated: Vec<(String, String)>,
    /// Why the engine itself could not be asked what it makes of the planned files, where its installer asks it; `None`
    /// where it was asked and agrees, and where there is nothing to ask.
    pub not_compared: Option<String>,
}

impl Plan {
    /// Notes that containers of a handler pass the gate by.
    pub(crate) fn leave(&mut self, handler: &str, says: String) {
        self.ungated.push((handler.to_owned(), says.clone()));
        self.open.push(says);
    }
}

/// A runtime handler of an engine, and the program that starts its containers.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The engine's name for it; [`is_entry_name`] holds.
    pub handler: String,
    /// The real runtime, or whatever stood in front of it before; absolute.
    pub runtime: PathBuf,
}

/// A file as it is and as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where, as the node sees it.
    pub path: PathBuf,
    /// Its bytes now; `None` where there is no such file.
    pub before: Option<Vec<u8>>,
    /// Its bytes afterwards.
    pub after: Vec<u8>,
}

/// Why an installer does not touch a node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is not what its engine reads.
    #[error("{} cannot be parsed: {cause}; fix it first (the engine would not start with it \
             either)", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, column and what is wrong there.
        cause: String,
    },
    /// It is not known how this could be done safely here.
    #[error("{what}; {instead}")]
    Unsupported {
        /// What was found, and where.
        what: String,
        /// What to do by hand.
        instead: String,
    },
}

/// One engine's installer.
pub struct Installer {
    /// The engine.
    pub engine: Engine,
    /// Its word on the command line, where that differs from the engine's name.
    pub alias: Option<&'static str>,
    /// What it can do; the first is the default.
    pub methods: &'static [Method],
    /// The systemd unit to restart, where a restart is needed at all.
    pub unit: Option<&'static str>,
    /// The files as they should be.
    pub plan: fn(&dyn Node, &Request<'_>) -> Result<Plan, PlanError>,
    /// A changed file without what this program put into it. `original` is what stood there before the installation.
    /// `None` if nothing else would be left of the file and there was none before.
    pub strip: fn(&Stripped<'_>) -> Result<Option<Vec<u8>>, PlanError>,
    /// The containers that could not be started again once the installation is gone, because they remember a name that
    /// it gave. Where there are any, files are stripped and not put back, even if nobody changed them: see
    /// [`Stripped::held`].
    pub holders: fn(&dyn Node, &Request<'_>) -> Vec<String>,
}

impl Installer {
    /// Whether the engine only sees its files after a restart. CRI-O watches its folders of hooks
    /// (`pkg/hooks/monitor.go` in container-libs), and podman is no daemon.
    #[must_use]
    pub fn needs_restart(&self, method: Method) -> bool {
        match self.engine {
            Engine::Podman => false,
            Engine::CriO => method == Method::Runtime,
            Engine::Containerd | Engine::Docker | Engine::None => true,
        }
    }
}

/// A file that somebody changed after the installation.
#[derive(Clone, Copy, Debug)]
pub struct Stripped<'a> {
    /// Where it is, as the node sees it.
    pub path: &'a Path,
    /// Its bytes before the installation; `None` where there was no such file.
    pub original: Option<&'a [u8]>,
    /// Its bytes as this program wrote them.
    pub installed: &'a [u8],
    /// Its bytes now.
    pub now: &'a [u8],
    /// The runtimes that the gate stood in front of.
    pub entries: &'a [Entry],
    /// Whether containers remember names in it ([`Installer::holders`]): then the names stay, for the real runtimes.
    pub held: bool,
}

/// Whether a handler's name can be the name of a directory. Engines take nearly anything as a name.
#[must_use]
pub fn is_entry_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+');
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.bytes().all(plain)
}

/// What the installers write into an engine's configuration as the runtime of a handler.
#[must_use]
pub fn entry_path(engine: Engine, handler: &str) -> PathBuf {
    let folder = Path::new("/var/lib/pss-guard/runtimes").join(engine.name()).join(handler);
    folder.join("pss-guard-runtime")
}

pub use crate::paths::{GATE, TOOL};
