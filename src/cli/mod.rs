//! The commands' bodies: each writes text to a writer and returns an exit code.

mod answers;
pub mod arguments;
mod ask;
pub mod check;
pub mod cluster;
pub mod complete;
mod examples;
pub mod explain;
pub mod install;
pub mod manual;
pub mod metrics;
pub mod mode;
pub mod namespaces;
pub mod pods;
pub mod policy;
pub mod report;
pub mod scan;
pub mod status;
pub mod uninstall;
pub mod verbose;
pub mod verify;

use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::files::FileError;
use crate::inspect::anchors;
use crate::level::Policy;
use crate::level::cache::{self, LoadError, Usable};
use crate::level::kubelet_root;
use crate::message::escape;
pub use crate::message::line;
use crate::node::distribution::Distribution;
use crate::node::places;
use crate::node::procfs::Processes;
use crate::paths::Paths;
use crate::pss::{Level, NEWEST, Version};

/// Exit code of a command that did what it should.
pub const OK: u8 = 0;

/// Exit code of wrong usage and of everything that could not be done.
pub const FAILED: u8 = 2;

/// Whether a root directory is one. Under one that is not there everything would be as it should be.
pub fn is_root(root: &Path) -> Result<(), String> {
    match root.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(format!("{}: not a directory", escape(&root.display().to_string()))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(format!("{}: no such directory", escape(&root.display().to_string())))
        }
        Err(source) => Err(line(&FileError::Open { path: root.to_owned(), source })),
    }
}

/// Says so if a version is asked about that nobody knew when this program was made.
pub fn tell_of_newer(level: Option<(Level, Version)>, err: &mut dyn Write) {
    if let Some((_, Version::Minor(minor))) = level
        && minor > NEWEST
    {
        let _ = writeln!(
            err,
            "pss-guard: v1.{minor} is newer than v1.{NEWEST}, the newest version known, which is used instead"
        );
    }
}

/// What a command adds that only looks, where the policy cannot be used.
const LAST_GOOD: &str = "the last good policy is used";

/// The policy of a command that only looks, and says so if that is the last good one.
fn policy_to_look(paths: &Paths, err: &mut dyn Write) -> Result<Policy, LoadError> {
    let Usable { policy, fault } = cache::load_usable(paths)?;
    if let Some(fault) = fault {
        let _ = writeln!(err, "pss-guard: {}; {LAST_GOOD}", line(&fault));
    }
    Ok(policy)
}

/// What is wrong with the directories of this node that every pod's mounts rest on; nothing of another root's.
fn faults_of_anchors(paths: &Paths, processes: &Processes, distribution: &Distribution) -> Vec<FileError> {
    if paths.other_root().is_some() {
        return Vec::new();
    }
    let policy = cache::load_usable(paths).map_or_else(|_| cache::built_in(paths), |usable| usable.policy);
    // What `install` is about to record is not there yet.
    let found = || places::kubelet(processes, distribution).map(|kubelet| kubelet.root);
    let kubelet = policy.node.kubelet_root.or_else(found);
    let kubelet = kubelet.as_deref().unwrap_or(kubelet_root::DEFAULT);
    anchors::faults(Path::new(kubelet), &places::of_containerd(processes, distribution))
}

/// As many names as somebody reads.
fn some(names: &[String]) -> String {
    const MOST: usize = 30;
    let shown = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(MOST) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}
